# Part of binding.pyx: what keeps a slot, and the memory that is read and written through it.

from numpy import dtype as numpy_dtype
from numpy import empty, frombuffer

cdef char *BYTE_FORMAT = b"B"
cdef object OCTET = numpy_dtype("u1")
cdef tuple DLPACK_HOST = (1, 0)     # kDLCPU

cdef extern from *:
    """
    #define ZS_ANY_CONTIGUOUS (PyBUF_ANY_CONTIGUOUS & ~PyBUF_STRIDES) /* the flag without those that it brings along */

    /* Take the items out of a list that nothing but the list refers to. */
    static int drop_unshared(PyObject *list)
    {
        Py_ssize_t i, kept = 0, count = PyList_GET_SIZE(list);
        for (i = 0; i < count; i++) {
            PyObject *item = PyList_GET_ITEM(list, i);
            if (Py_REFCNT(item) > 1) {
                PyList_SET_ITEM(list, i, PyList_GET_ITEM(list, kept));
                PyList_SET_ITEM(list, kept, item);
                kept++;
            }
        }
        return PyList_SetSlice(list, kept, count, NULL);
    }
    """
    int ANY_CONTIGUOUS "ZS_ANY_CONTIGUOUS"
    int drop_unshared(list items) except -1


@cython.no_gc
cdef class Side:
    """One side of a segment in this process: base of Owner and Reader. Holds refer to it."""

    cdef readonly Segment segment
    cdef Descriptor lock
    cdef zs_mutex mutex
    cdef uint64_t fork          # the fork generation in which it was made
    cdef readonly bint closed
    cdef str topic              # for errors; None: not known

    def __init__(self, *arguments, **named):
        if type(self) is Side:
            raise TypeError("a side is an Owner or a Reader")

    @property
    def inherited(self):
        """Whether this is a forked child's copy."""
        return self.fork != zs_fork_generation

    def check_process(self):
        """Raise ForkedHandleError in a forked child."""
        self.check_fork()

    def check_open(self):
        """Raise ForkedHandleError in a forked child, ClosedError after the close."""
        self.check()

    @cython.final
    cdef int check_fork(self) except -1:
        if self.fork != zs_fork_generation:
            raise forked(self.noun(), self.topic)
        return 0

    @cython.final
    cdef inline int check(self) except -1:
        if self.closed or self.fork != zs_fork_generation:
            self.reject_use()
        return 0

    @cython.final
    cdef int reject_use(self) except -1:
        """Raise what `check` raises; apart from it, so that its callers need not call it."""
        self.check_fork()
        raise closed_error(f"this {self.noun()}{of_topic(self.topic)} is closed", self.topic)

    cdef str noun(self):
        raise NotImplementedError

    cdef void take_back(self, Hold hold) noexcept:
        """Called when the last reference to a Hold of this side ends, in the process that made it."""

    cdef object read_only_error(self, Hold hold):
        """What to raise for a write into a slot that cannot be written any more."""
        raise NotImplementedError

    def __reduce__(self):
        raise unpicklable(self)


@cython.final
@cython.no_gc
cdef class Hold:
    """One leased or loaned slot. It goes back when this object goes.

    It exports no buffer of its own accord: numpy asks the base of an array for one when a program wants to make it
    writable.
    """

    cdef Side side          # the Owner of a loan, the Reader of a lease
    cdef char *data
    cdef uint64_t size      # bytes of payload; of a loan, what can be written
    cdef uint64_t capacity  # bytes of the slot
    cdef uint64_t head      # of a typed sample with variable fields: bytes of its fixed part
    cdef uint64_t sequence
    cdef uint64_t published_ns
    cdef uint64_t fork
    cdef uint32_t slot
    cdef uint32_t exports   # live writable buffers
    cdef uint64_t writable_in   # of a loan that is neither committed nor discarded: the fork generation that may write
    cdef PyObject *extents      # of a loan with variable fields: its Extents, which this owns
    cdef list arrays        # writable arrays that were handed out
    cdef bint blank         # its bytes count as zeros, and are an older sample's until `fill`
    cdef bint validated     # pydantic validates the sample before its commit
    cdef bint accounted     # the program knows what becomes of the loan: no warning where it is dropped
    cdef Py_ssize_t most_arrays

    cdef void keep_extents(self, object extents) noexcept:
        """Own what says where the data of variable fields lies; once, at the start of a loan."""
        Py_INCREF(extents)
        self.extents = <PyObject *>extents

    cdef inline bint is_writable(self) noexcept:
        """Whether it is a loan that can still be written, in the process that borrowed it."""
        return self.writable_in == zs_fork_generation

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        raise BufferError("this object only keeps a slot; take the memoryview of the sample")

    def __releasebuffer__(self, Py_buffer *buffer):
        if buffer.internal != NULL:
            self.unpin()

    def __reduce__(self):
        raise unpicklable(self)

    cdef int export(self, Py_buffer *buffer, int flags, char *data, size_t size, bint lasting) except -1:
        """Fill a buffer that keeps this Hold.

        `lasting`: the object that is asked for the buffer keeps the Hold as well, for as long as it lives.
        np.ndarray(buffer=...) gives the buffer back at once and keeps only the object that it asked. So it gets no
        memory from an object that can be released, and no right to write, which ends with the commit. numpy alone asks
        for any order of a contiguous buffer.
        """
        if flags & ANY_CONTIGUOUS and not (lasting and not self.is_writable()):
            raise BufferError("np.ndarray(buffer=...) does not keep what it is given: use np.asarray or np.frombuffer")
        if flags & PyBUF_WRITABLE and not self.is_writable():
            raise BufferError("this sample is read-only")
        buffer.buf = data
        buffer.obj = self
        buffer.len = <Py_ssize_t>size
        buffer.readonly = not self.is_writable()
        buffer.itemsize = 1
        buffer.format = BYTE_FORMAT if flags & PyBUF_FORMAT else NULL
        buffer.ndim = 1
        buffer.shape = &buffer.len if flags & PyBUF_ND else NULL
        buffer.strides = &buffer.itemsize if flags & PyBUF_STRIDES == PyBUF_STRIDES else NULL
        buffer.suboffsets = NULL
        buffer.internal = NULL
        if not buffer.readonly:
            self.pin()
            buffer.internal = <void *>1
        return 0

    cdef int note(self, object array) except -1:
        """Remember a writable array, to make it read-only when the loan ends. Arrays without another reference are
        forgotten now and then.
        """
        if self.arrays is None:
            self.arrays = [array]
            self.most_arrays = 64
        else:
            if len(self.arrays) >= self.most_arrays:
                drop_unshared(self.arrays)
                self.most_arrays = max(64, 2 * len(self.arrays))
            self.arrays.append(array)
        return 0

    cdef inline void fill(self, uint64_t count) noexcept:
        """Write the first `count` zeros of a blank loan, if that has not been done."""
        if self.blank:
            with cython.critical_section(self):
                if self.blank and self.is_writable():
                    memset(self.data, 0, count)
                self.blank = False

    cdef void pin(self) noexcept:
        """Hold off a commit while other code, such as a value's `__float__`, computes what to write."""
        with cython.critical_section(self):
            self.exports += 1

    cdef void unpin(self) noexcept:
        with cython.critical_section(self):
            self.exports -= 1

    cdef inline void freeze(self) noexcept:
        """End the right to write: no array handed out stays writable, and no export will be."""
        self.writable_in = 0
        if self.arrays is not None:
            self.freeze_arrays()

    cdef void freeze_arrays(self) noexcept:
        cdef list arrays = self.arrays
        cdef object array
        self.arrays = None
        for array in arrays:
            cnp.PyArray_CLEARFLAGS(<cnp.ndarray>array, cnp.NPY_ARRAY_WRITEABLE)


# What __dealloc__ would do for the classes of which there is one for each sample. Cython saves and restores the
# exception state around __dealloc__, and that costs a tenth of a loan. The functions here set no exception and call
# nothing that may.
#
# Why these classes keep spare objects: to clear a new object and to set its parts to None takes longer than the rest of
# a loan. A spare is of its class, refers to nothing, and has what `last` leaves in it. Where there is no GIL, and where
# Python counts all references, there are no spares.
cdef extern from *:
    """
    #if defined(Py_GIL_DISABLED) || defined(Py_REF_DEBUG)
    #define ZS_SPARES 0
    #else
    #define ZS_SPARES 32
    #endif

    static PyObject *zs_no_arguments;

    #define ZS_DEALLOC_HOOK(name)                                                                                 \
        static PyObject *zs_spare_##name##s[ZS_SPARES + 1];                                                       \
        static int zs_spare_##name##_count;                                                                       \
        static PyTypeObject *zs_##name##_type;                                                                    \
        static destructor zs_##name##_dealloc;                                                                    \
        static newfunc zs_##name##_new;                                                                           \
        static void (*zs_##name##_last)(PyObject *);                                                              \
        static void zs_##name##_end(PyObject *self)                                                               \
        {                                                                                                         \
            Py_SET_REFCNT(self, 1); /* what follows counts references to it */                                    \
            zs_##name##_last(self);                                                                               \
            Py_SET_REFCNT(self, 0);                                                                               \
            if (zs_spare_##name##_count < ZS_SPARES) {                                                            \
                Py_SET_TYPE(self, zs_##name##_type); /* and no longer that of ended ones: handles.pxi */          \
                zs_spare_##name##s[zs_spare_##name##_count++] = self;                                             \
            } else {                                                                                              \
                zs_##name##_dealloc(self);                                                                        \
            }                                                                                                     \
        }                                                                                                         \
        static int zs_##name##_install_dealloc_hook(PyObject *type, void (*last)(PyObject *))                     \
        {                                                                                                         \
            zs_##name##_type = (PyTypeObject *)type;                                                              \
            zs_##name##_new = zs_##name##_type->tp_new;                                                           \
            zs_##name##_dealloc = zs_##name##_type->tp_dealloc;                                                   \
            zs_##name##_last = last;                                                                              \
            zs_##name##_type->tp_dealloc = zs_##name##_end;                                                       \
            return zs_no_arguments == NULL && (zs_no_arguments = PyTuple_New(0)) == NULL ? -1 : 0;                \
        }                                                                                                         \
        static inline PyObject *zs_new_##name(void)                                                               \
        {                                                                                                         \
            PyObject *spare;                                                                                      \
            if (ZS_SPARES == 0 || zs_spare_##name##_count == 0)                                                   \
                return zs_##name##_new(zs_##name##_type, zs_no_arguments, NULL);                                  \
            spare = zs_spare_##name##s[--zs_spare_##name##_count];                                                \
            Py_SET_REFCNT(spare, 1);                                                                              \
            return spare;                                                                                         \
        }
    ZS_DEALLOC_HOOK(hold)
    ZS_DEALLOC_HOOK(slot)
    ZS_DEALLOC_HOOK(loan)
    ZS_DEALLOC_HOOK(lease)
    """
    int zs_hold_install_dealloc_hook(object type, void (*last)(PyObject *) noexcept) except -1
    int zs_slot_install_dealloc_hook(object type, void (*last)(PyObject *) noexcept) except -1
    int zs_loan_install_dealloc_hook(object type, void (*last)(PyObject *) noexcept) except -1
    int zs_lease_install_dealloc_hook(object type, void (*last)(PyObject *) noexcept) except -1
    object zs_new_hold()
    object zs_new_slot()
    object zs_new_loan()
    object zs_new_lease()


@cython.nonecheck(False)    # a Hold of this process has a side
cdef void hold_ends(PyObject *ended) noexcept:
    if (<Hold>ended).fork == zs_fork_generation:
        (<Hold>ended).side.take_back(<Hold>ended)
    if (<Hold>ended).extents != NULL:
        Py_XDECREF((<Hold>ended).extents)
        (<Hold>ended).extents = NULL
    (<Hold>ended).side = None
    (<Hold>ended).arrays = None
    (<Hold>ended).head = (<Hold>ended).sequence = (<Hold>ended).published_ns = (<Hold>ended).writable_in = 0
    (<Hold>ended).exports = 0
    (<Hold>ended).blank = (<Hold>ended).validated = (<Hold>ended).accounted = False


zs_hold_install_dealloc_hook(Hold, hold_ends)


cdef object index_of(object size):
    try:
        return PyNumber_Index(size)
    except TypeError:
        raise TypeError(f"a size is a whole number, not {size!r}") from None


cdef int64_t whole_size(object size) except -1:
    """A size in bytes; the largest number there is for larger ones. Compared as a C number: an object may compare
    itself as it likes.
    """
    cdef int overflow = 0
    cdef int64_t number = PyLong_AsLongLongAndOverflow(
        size if isinstance(size, int) else index_of(size), &overflow
    )
    if overflow > 0:
        return INT64_MAX
    if overflow < 0 or number < 0:
        raise ValueError("a size is not negative")
    return number


cdef object array_over(Hold hold, object dtype, object shape):
    """A numpy array over a slot, from its start; `shape` defaults to as many items as fit."""
    cdef cnp.npy_intp dims[8]
    cdef int ndim = 0
    cdef cnp.dtype descr = cnp.dtype(dtype)
    cdef object total = 1
    if descr.hasobject:
        raise TypeError("shared memory cannot hold Python objects")
    if descr.itemsize == 0:
        raise TypeError(f"{descr} does not say how large its items are")
    if shape is None:
        shape = hold.size // descr.itemsize
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)  # its own length, whatever a subclass says
    if len(shape) > 8:
        raise ValueError("at most 8 dimensions")
    for extent in shape:
        dims[ndim] = whole_size(extent)
        total *= dims[ndim]
        ndim += 1
    if total * descr.itemsize > hold.size:
        raise ValueError(f"{total} items of {descr.itemsize} bytes do not fit {hold.size} bytes")
    return make_array(hold, hold.data, descr, ndim, dims)


cdef inline object make_array(Hold hold, char *data, cnp.dtype descr, int ndim, cnp.npy_intp *dims,
                              cnp.npy_intp *strides=NULL):
    """What the Hold lists is written through this array only; every base of it is the Hold. Without strides in C order.
    """
    cdef int flags = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
    cdef object array
    if hold.is_writable():
        flags |= cnp.NPY_ARRAY_WRITEABLE
    Py_INCREF(descr)
    array = PyArray_NewFromDescr(<PyTypeObject *>cnp.ndarray, <void *>descr, ndim, dims, strides, data, flags, NULL)
    Py_INCREF(hold)
    if PyArray_SetBaseObject(<void *>array, <PyObject *>hold) < 0:
        raise MemoryError
    if flags & cnp.NPY_ARRAY_WRITEABLE:
        with cython.critical_section(hold):
            if hold.is_writable():
                hold.note(array)
            else:
                cnp.PyArray_CLEARFLAGS(<cnp.ndarray>array, cnp.NPY_ARRAY_WRITEABLE)
    return array


@cython.final
@cython.no_gc
cdef class Export:
    """Part of a slot, as bytes. What is made of a writable one holds off the commit."""

    cdef Hold hold
    cdef char *data
    cdef size_t size

    def __init__(self):
        raise TypeError("exports come from samples")

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        if self.hold is None:
            raise TypeError("this export is empty: it was not made by a sample")
        self.hold.export(buffer, flags, self.data, self.size, True)

    def __releasebuffer__(self, Py_buffer *buffer):
        pass    # as for handles

    def __reduce__(self):
        raise unpicklable(self)


cdef object exported_bytes(Hold hold, char *data, size_t size):
    """A memoryview of a part of a slot. While a writable one lives, a commit raises BufferError."""
    cdef Export export = Export.__new__(Export)
    export.hold, export.data, export.size = hold, data, size
    return memoryview(export)


cdef object exported_array(Hold hold, char *data, object dtype, tuple shape):
    """An array over a part of a slot, which may be given away: while a writable one lives, a commit raises BufferError.
    What `make_array` gives turns read-only at the commit instead, which what was made of it does not notice.
    """
    cdef Py_ssize_t extent, count = 1
    for extent in shape:
        count *= extent
    if count == 0:
        return empty(shape, dtype)
    return frombuffer(exported_bytes(hold, data, count * <Py_ssize_t>dtype.itemsize), dtype).reshape(shape)


cdef object dlpack_of(object array, dict options):
    """What the `__dlpack__` of an array says; the oldest numpy knows the option `stream` alone."""
    try:
        return array.__dlpack__(**options)
    except TypeError:
        return array.__dlpack__()


cdef size_t copy_into(Hold hold, object data) except? 0:
    """Copy a contiguous bytes-like object to the start of a loan.

    Large copies let other threads run, and hold off a commit.
    """
    cdef Py_buffer source
    cdef size_t count
    PyObject_GetBuffer(data, &source, PyBUF_SIMPLE)
    try:
        count = <size_t>source.len
        if count > hold.size:
            raise errors.SampleTooLargeError(
                f"{count} bytes do not fit a slot of {hold.size}", size=count, capacity=hold.size
            )
        if count > 0:
            copy_bytes(hold, hold.data, <const char *>source.buf, count)
    finally:
        PyBuffer_Release(&source)
    return count


cdef int copy_bytes(Hold hold, char *to, const char *source, size_t count) except -1:
    if not hold.is_writable():
        raise read_only(hold)
    if count < LARGE_COPY:
        memmove(to, source, count)
        return 0
    hold.pin()
    with nogil:
        zs_copy(to, source, count)
    hold.unpin()
    return 0


cdef uint32_t crc_of(Hold hold) noexcept:
    """The CRC-32C of a payload that does not change. Other threads run meanwhile if it is large."""
    cdef uint32_t crc
    if hold.size < LARGE_COPY:
        return zs_crc32c(hold.data, hold.size)
    with nogil:
        crc = zs_crc32c(hold.data, hold.size)
    return crc


cdef object read_only(Hold hold):
    return hold.side.read_only_error(hold)
