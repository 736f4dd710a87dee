# Part of binding.pyx: loans and leases, the handles of which there is one for each sample.

from types import GenericAlias

# Parts of a sample that a loan writes one by one.
cdef enum:
    MAX_SPANS = 64
SPAN_LIMIT = <int>MAX_SPANS


@cython.final
cdef class Plan:
    """What a loan and a lease of one sample type need: the view class, and what a new sample starts with."""

    cdef readonly object view_class
    cdef readonly size_t size
    cdef readonly dict factories    # name -> what makes the first value of a new sample
    cdef readonly frozenset required    # of a publisher: the fields without a default and without a factory
    cdef StructCodec codec  # of the view class; None: it has none
    cdef object model       # the class of models
    cdef tuple recent       # orders in which `send` was given fields: see sending.pxi
    cdef readonly object dtype  # of arrays of samples
    cdef list padding       # of such an array, as slices of a sample; None: not asked for yet
    cdef Arrangement variable   # of a publisher whose type has variable fields
    cdef readonly Plan exact    # of samples that are read by name, where each field has a value: that of the own layout
    cdef VariableCodec whole    # of a type whose samples are what its only field, at 0, holds
    cdef list contents      # keeps what span_from points to
    cdef size_t span_at[MAX_SPANS]
    cdef size_t span_size[MAX_SPANS]
    cdef const char *span_from[MAX_SPANS]
    cdef int span_count

    def __cinit__(self, view_class not None, size_t size, list spans not None, dict factories=None,
                  cnp.dtype dtype=None, Arrangement variable=None, Plan exact=None, VariableCodec whole=None,
                  frozenset required=frozenset()):
        """A loan starts with the `spans` [(at, bytes)], and then with what the `factories` give. `size`: of the fixed
        part.
        """
        cdef bytes content
        cdef FieldDescriptor field
        if len(spans) > MAX_SPANS:
            raise ValueError("too many spans")
        if dtype is not None and <size_t>(<object>dtype).itemsize != size:
            raise ValueError("the dtype has another size")
        if whole is not None and whole.size > size:
            raise ValueError("the field leaves the sample")
        self.view_class, self.size, self.dtype = view_class, size, dtype
        self.factories, self.required, self.recent = factories or {}, required, ()
        self.variable, self.exact, self.whole = variable, exact, whole
        self.contents = [content for _, content in spans]
        for at, content in spans:
            if at < 0 or at + len(content) > size:
                raise ValueError("a span leaves the sample")
            self.span_at[self.span_count], self.span_size[self.span_count] = at, len(content)
            self.span_from[self.span_count] = <const char *>content
            self.span_count += 1
        self.codec = <StructCodec?>getattr(view_class, "__zs_codec__", None)
        if self.codec is not None:
            self.model = self.codec.sample_type
            for field in self.codec.members:
                if field.offset + field.codec.size > size:
                    raise ValueError("a field leaves the sample")

    cdef int call_factories(self, object view) except -1:
        """Write what the factories give."""
        for name, factory in self.factories.items():
            setattr(view, name, factory())
        return 0

    cdef inline object sample_in(self, Hold hold):
        """What a program gets as the sample of a loan or a lease."""
        if self.whole is None:
            return make_view(self.view_class, hold, hold.data, self.size)
        return self.whole.get(hold, hold.data)


@cython.final
cdef class Source:
    """What a subscriber has of one publisher."""

    cdef readonly Reader reader
    cdef readonly Plan plan
    cdef readonly object publisher_id

    def __cinit__(self, Reader reader not None, Plan plan not None, publisher_id):
        self.reader, self.plan, self.publisher_id = reader, plan, publisher_id


def sample_image(view_class not None, size_t size, dict values not None):
    """The bytes of a sample with these values and zeros elsewhere."""
    cdef bytearray image = bytearray(size)
    cdef Hold hold = Hold.__new__(Hold)     # of no segment: it gives nothing back
    cdef View view
    hold.data = <char *>image
    hold.size = size
    hold.writable_in = zs_fork_generation
    view = make_view(view_class, hold, hold.data, size)
    try:
        for name, value in values.items():
            setattr(view, name, value)
    finally:
        hold.freeze()
        view.data = NULL
    return bytes(image)


# Why a handle that has ended is of another class: the interpreter reads a slot of an object at its place, in a tenth of
# the time that a property takes, which has to be called. A slot that is empty raises AttributeError, though, and
# `sample` raises ClosedError after the end. So in the classes of open handles `sample` is a slot, which is always
# filled, and in the classes of ended handles a property. Both classes have one name, and `isinstance` shows no
# difference. Without a GIL another thread may be reading the class of the object: `sample` is a property there.
cdef extern from *:
    """
    #include "structmember.h"

    static PyTypeObject *zs_live_types[2], *zs_ended_types[2];
    static newfunc zs_new_handles[2];
    static PyMemberDef zs_sample_members[2];

    /* Switch a handle to the class of ended ones. */
    static inline void end_handle(PyObject *handle)
    {
    #ifndef Py_GIL_DISABLED
        for (int i = 0; i < 2; i++)
            if (Py_TYPE(handle) == zs_live_types[i])
                Py_SET_TYPE(handle, zs_ended_types[i]);
    #endif
    }

    static PyObject *zs_new_ended(PyTypeObject *type, PyObject *arguments, PyObject *named)
    {
        int i = PyType_IsSubtype(type, zs_live_types[0]) ? 0 : 1;
        PyObject *made = zs_new_handles[i](type, arguments, named);
        if (made != NULL)
            end_handle(made);
        return made;
    }

    /* `filled` has `content` in the slot that shall be called `sample`. */
    static int zs_add_sample(int i, PyObject *live, PyObject *ended, PyObject *filled, PyObject *content,
                             const char *doc)
    {
    #ifndef Py_GIL_DISABLED
        PyTypeObject *type = (PyTypeObject *)live;
        PyObject *descriptor;
        Py_ssize_t at = sizeof(PyObject);
        while (*(PyObject **)((char *)filled + at) != content)
            at += sizeof(PyObject *);
        zs_sample_members[i] = (PyMemberDef){"sample", T_OBJECT_EX, at, READONLY, doc};
        descriptor = PyDescr_NewMember(type, &zs_sample_members[i]);
        if (descriptor == NULL || PyDict_SetItemString(type->tp_dict, "sample", descriptor) < 0)
            return -1;
        Py_DECREF(descriptor);
        zs_live_types[i] = type;
        zs_ended_types[i] = (PyTypeObject *)ended;
        zs_ended_types[i]->tp_dealloc = type->tp_dealloc;
        zs_ended_types[i]->tp_name = type->tp_name;
        zs_new_handles[i] = type->tp_new;
        type->tp_new = zs_new_ended;
    #endif
        ((PyTypeObject *)live)->tp_flags &= ~Py_TPFLAGS_BASETYPE;
        PyType_Modified((PyTypeObject *)live);
        return 0;
    }
    """
    void end_handle(object handle) noexcept
    int zs_add_sample(int i, object live, object ended, object filled, object content, const char *doc) except -1


@cython.no_gc
cdef class Slot:
    """A loaned slot: memory to write the next sample into.

    A bytes-like object of the slot's capacity, zeros at first. No reader can see what is written before `commit`. As a
    context manager it commits at the end, or discards when an exception leaves it; one that is dropped is discarded,
    with a ResourceWarning.
    """

    cdef Hold hold
    cdef Owner owner
    cdef object view    # Loan's; it stands here because only types of one size share a free list

    def __init__(self):
        raise TypeError("slots come from SlotAllocator.reserve()")

    @cython.final
    cdef inline Hold live(self):
        cdef Hold hold
        with cython.critical_section(self):
            hold = self.hold
        if hold is None:
            self.reject_use()
        return hold

    @cython.final
    cdef int reject_use(self) except -1:
        """Raise what `live` raises; apart from it, so that its callers need not call it."""
        raise errors.ClosedError("this slot was committed or discarded already. Reserve another one")

    @cython.final
    cdef uint64_t finish(self, object size) except 0:
        """Commit `size` bytes and give the slot up."""
        cdef Hold hold = self.live()
        cdef uint64_t n, count
        hold.accounted = True   # from here on an exception tells that nothing was published
        if hold.validated:
            self.validate()
        count = hold.size if size is None else self.checked_size(hold, size)
        hold.fill(count)
        n = self.commit_bytes(hold, count) if PyMemoryView_Check(self.view) else self.owner.commit(hold, count)
        self.drop()
        return n

    @cython.final
    cdef uint64_t checked_size(self, Hold hold, object size) except? 0:
        """How many bytes to commit."""
        cdef uint64_t count = whole_size(size)
        if count > hold.size:
            raise errors.SampleTooLargeError(
                f"{count} bytes do not fit a slot of {hold.size}", size=count, capacity=hold.size
            )
        return count

    cdef int validate(self) except -1:
        """Let pydantic validate the sample as it validates a model of its class. A failure discards it."""
        try:
            type(self.view).__zs_sample__.model_validate(self.view.__zs_values__(), by_alias=False, by_name=True)
        except BaseException:
            self.give_up()
            raise
        return 0

    cdef uint64_t commit_bytes(self, Hold hold, uint64_t count) except 0:
        """Commit a loan of bytes, whose memoryview ends with it. Where a buffer was taken from it, the commit raises,
        and the loan has another one.
        """
        cdef Extents extents = extents_of(hold)
        try:
            self.view.release()
            return self.owner.commit(hold, count)
        except BufferError:
            self.view = (<VariableCodec>extents.whole).get(hold, hold.data)
            raise

    @cython.final
    cdef inline void drop(self) noexcept:
        with cython.critical_section(self):
            end_handle(self)
            self.hold = None
            self.view = None

    @property
    def capacity(self):
        """Bytes that can be written."""
        return self.live().size

    @property
    def live_hold(self):
        """Whether the slot is neither committed nor discarded."""
        return self.hold is not None

    def __len__(self):
        return self.live().size

    def array(self, dtype="u1", shape=None):
        """A numpy array over the slot, from its start. It turns read-only at the commit.

        `shape` defaults to as many items as fit.
        """
        cdef Hold hold = self.live()
        hold.fill(hold.size)
        return array_over(hold, dtype, shape)

    def write(self, data):
        """Copy a bytes-like object to the start of the slot; the number of bytes copied."""
        cdef Hold hold = self.live()
        hold.fill(hold.size)
        return copy_into(hold, data)

    def commit(self, size=None):
        """Publish the first `size` bytes (default: all that was reserved). Returns the sample's sequence.

        Raises BufferError while a writable memoryview of the slot is alive, ClosedError when it was given back already.
        """
        return self.finish(size)

    def discard(self):
        """Give the slot back unpublished. A second call does nothing."""
        self.give_up()

    @cython.final
    cdef void give_up(self) noexcept:
        cdef Hold hold
        with cython.critical_section(self):
            end_handle(self)
            hold, self.hold, self.view = self.hold, None, None
        if hold is not None:
            self.owner.discard(hold)

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if self.hold is None:
            return
        if kind is None:
            self.finish(None)
        else:
            self.give_up()

    def __dlpack__(self, **options):
        """The bytes as a DLPack capsule, as numpy makes it. A commit raises BufferError while it is in use."""
        cdef Hold hold = self.live()
        hold.fill(hold.size)
        return dlpack_of(exported_array(hold, hold.data, OCTET, (hold.size,)), options)

    def __dlpack_device__(self):
        """The memory of the host."""
        return DLPACK_HOST

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef Hold hold = self.live()
        hold.fill(hold.size)
        hold.export(buffer, flags, hold.data, hold.size, False)

    def __releasebuffer__(self, Py_buffer *buffer):
        pass    # the Hold does it; numpy keeps a memoryview of those that have one, and nothing of the others

    def __reduce__(self):
        raise unpicklable(self)

    def __repr__(self):
        if self.hold is None:
            return f"<{type(self).__name__} given back>"
        return f"<{type(self).__name__} of {self.hold.size} bytes>"


cdef extern from *:
    """
    /* Warn that something of this class was dropped, whatever exception is set now. */
    static void zs_warn_dropped(PyObject *type, const char *what, PyObject *topic)
    {
        PyObject *kind, *value, *traceback, *of;
        PyErr_Fetch(&kind, &value, &traceback);
        of = topic == Py_None ? PyUnicode_FromString("") : PyUnicode_FromFormat(" of %U", topic);
        if (of == NULL || PyErr_WarnFormat(PyExc_ResourceWarning, 1,
                "%s%U was dropped without a commit and is not published: use it as a context manager, or call "
                "commit() or discard()", what, of) < 0)
            PyErr_WriteUnraisable(type);
        Py_XDECREF(of);
        PyErr_Restore(kind, value, traceback);
    }
    """
    void zs_warn_dropped(object type, const char *what, object topic) noexcept


cdef void slot_ends(PyObject *slot) noexcept:
    if (<Slot>slot).hold is not None:
        end_dropped(<Slot>slot)
    (<Slot>slot).owner = None
    (<Slot>slot).view = None


cdef void end_dropped(Slot slot) noexcept:
    """Discard a loan that was dropped. It warns where the loan could still have been committed: not in a forked child,
    after the close of its publisher, at the end of the interpreter, or after a commit that raised.
    """
    cdef bint is_forgotten = is_open(slot.owner) and slot.hold.is_writable() and not slot.hold.accounted
    slot.give_up()
    if is_forgotten and isinstance(slot, Loan):
        zs_warn_dropped(Loan, b"a loan", slot.owner.topic)
    elif is_forgotten:
        zs_warn_dropped(Slot, b"a slot", slot.owner.topic)


cdef inline bint is_open(Owner owner) noexcept:
    return not owner.closed and not ending and owner.fork == zs_fork_generation


zs_slot_install_dealloc_hook(Slot, slot_ends)


@cython.no_gc
@cython.freelist(16)
cdef class SlotLease:
    """A sample that does not change while this object, or anything taken from it, is alive. Read-only bytes."""

    cdef Hold hold
    cdef uint64_t number
    cdef Source source  # these two are Lease's, as in Slot
    cdef object view

    def __init__(self):
        raise TypeError("leases come from take()")

    @cython.final
    cdef inline Hold live(self):
        cdef Hold hold
        with cython.critical_section(self):
            hold = self.hold
        if hold is None:
            self.reject_use()
        return hold

    @cython.final
    cdef int reject_use(self) except -1:
        raise errors.ClosedError("this lease was released. What was taken from it before stays good")

    @cython.final
    cdef inline void end(self) noexcept:
        with cython.critical_section(self):
            end_handle(self)
            self.view = None
            self.hold = None

    @property
    def sequence(self):
        """The sample's number; the first of a segment is usually 1. It can be read after the release too."""
        return self.number

    @property
    def published_ns(self):
        """When it was committed: nanoseconds of CLOCK_MONOTONIC."""
        return self.live().published_ns

    @property
    def size(self):
        """Bytes of payload."""
        return self.live().size

    @property
    def metadata(self):
        """What the publisher says of this sample, as a Metadata; None: nothing. Raises CorruptSegmentError."""
        cdef Hold hold = self.live()
        return (<Reader>hold.side).metadata_of(hold)

    def verify(self):
        """Compare the payload with its CRC: True. False: the publisher adds none (`crc=True` does).

        Raises CorruptSegmentError where they differ. Reads the whole payload; other threads run meanwhile.
        """
        cdef Hold hold = self.live()
        return (<Reader>hold.side).verify(hold)

    def ticket(self):
        """A Ticket, by which `redeem` leases this sample in another process: send it through a queue, as an argument
        of a worker, or as pickled bytes.

        Hold this lease until the other process has redeemed the ticket, or rely on `depth`. Raises ClosedError after
        the release, ForkedHandleError in a forked child, ValueError where the segment is in memory.
        """
        cdef Hold hold = self.live()
        return (<Reader>hold.side).ticket_of(hold)

    def __len__(self):
        return self.live().size

    def array(self, dtype="u1", shape=None):
        """A read-only numpy array over the sample, from its start. It keeps the sample. `shape`: default, what fits."""
        return array_over(self.live(), dtype, shape)

    @cython.always_allow_keywords(False)
    def release(self):
        """Drop this handle's reference. The slot goes back with the last view or array of it. A second call does
        nothing.
        """
        self.end()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.end()

    def __dlpack__(self, **options):
        """The bytes as a read-only DLPack capsule, as numpy makes it: consumers that do not say max_version=(1, 0) get
        BufferError. It keeps the sample.
        """
        cdef Hold hold = self.live()
        return dlpack_of(exported_array(hold, hold.data, OCTET, (hold.size,)), options)

    def __dlpack_device__(self):
        """The memory of the host."""
        return DLPACK_HOST

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        cdef Hold hold = self.live()
        hold.export(buffer, flags, hold.data, hold.size, False)

    def __releasebuffer__(self, Py_buffer *buffer):
        pass    # the Hold does it; numpy keeps a memoryview of those that have one, and nothing of the others

    def __reduce__(self):
        raise unpicklable(self)

    def __repr__(self):
        state = "released" if self.hold is None else f"{self.hold.size} bytes"
        return f"<{type(self).__name__} {self.number}, {state}>"


@cython.no_gc
cdef class Loan(Slot):
    """A sample being written, in place. Entering gives it, leaving commits it, an exception discards it. A loan that is
    dropped before is discarded, with a ResourceWarning.
    """

    @cython.final
    cdef object viewed(self):
        """The view of the sample, until the end of the loan."""
        cdef object view
        with cython.critical_section(self):
            view = self.view
        if view is None:
            self.live()
        return view

    @property
    def sample(self):
        """The sample's memory as its type: set fields, fill arrays."""
        return self.viewed()

    def __dlpack__(self, **options):
        """The bytes of the sample, or what it is where it is a whole array or bytes, as a DLPack capsule. A commit
        raises BufferError while it is in use.
        """
        cdef Hold hold = self.live()
        cdef Extents extents = extents_of(hold)
        if extents is None or extents.whole is None:
            return Slot.__dlpack__(self, **options)
        return dlpack_of(asarray((<VariableCodec>extents.whole).buffer(hold, hold.data)), options)

    def resize(self, size):
        """Shrink the sample before the commit, where it is a whole array or bytes: to a shape, or a number of bytes.

        The first bytes stay, and `sample` is another one from then on. Raises ValueError for more than the loan has
        room for. For fields of a sample there is `zeroslot.resize`.
        """
        cdef Hold hold = self.live()
        cdef Extents extents = extents_of(hold)
        cdef VariableCodec whole = None if extents is None else extents.whole
        if whole is None:
            raise TypeError("this loan is of no whole array or bytes: use zeroslot.resize(loan.sample, field=size)")
        hold.pin()
        try:
            whole.resize(hold, hold.data, size)
        finally:
            hold.unpin()
        self.view = whole.get(hold, hold.data)

    @property
    def metadata(self):
        """What subscribers get as `lease.metadata`, or None: a Metadata, or a mapping with any of `content_type` and
        `producer` (text, at most 32 bytes of UTF-8) and `user` (text or bytes, at most 512).

        It can be set until the commit, for publishers with `metadata=True`.
        """
        cdef Hold hold = self.live()
        cdef bytes block = None if self.owner.metadata is None else self.owner.metadata[hold.slot]
        return None if block is None else unpack_metadata(block, "this loan")

    @metadata.setter
    def metadata(self, value):
        cdef bytes block = None if value is None else pack_metadata(value)
        cdef Hold hold = self.live()
        if self.owner.metadata is None:
            raise ValueError("this publisher has no room for metadata. Create it with metadata=True")
        self.owner.metadata[hold.slot] = block

    @cython.always_allow_keywords(False)
    def commit(self):
        """Publish the sample; its sequence.

        From here on its views and arrays can be read and no longer written. Raises BufferError while a writable
        memoryview of it is alive, ClosedError when it was committed or discarded already; for `loan(validate=True)`
        pydantic's ValidationError, which names the field, and the loan is discarded.
        """
        return number_of(self.finish(None))

    @cython.always_allow_keywords(False)
    def discard(self):
        """Give the slot back unpublished. A second call does nothing."""
        self.give_up()

    def __enter__(self):
        return self.viewed()

    def __exit__(self, kind, value, traceback):
        if self.hold is None:
            return
        if kind is None:
            self.finish(None)
        else:
            self.give_up()

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)


@cython.final
@cython.no_gc
cdef class _EndedLoan(Loan):

    @property
    def sample(self):
        return self.viewed()


@cython.final
cdef class Loans:
    """Samples being written, in place. Entering gives them, leaving commits all, an exception discards all."""

    cdef Owner owner
    cdef list loans     # empty: committed or discarded
    cdef bint validated     # as in Hold, of all
    cdef bint accounted

    def __init__(self, *arguments, **named):
        raise TypeError("loans come from Publisher.loan_many()")

    @property
    def samples(self):
        """A tuple of the samples, in the order in which they will be published."""
        cdef Loan loan
        self.check()
        return tuple([loan.viewed() for loan in self.loans])

    def commit(self):
        """Publish the samples in order. Returns the sequence of the last one.

        Raises BufferError while a writable memoryview of one is alive, and commits none of them; ClosedError when they
        were committed or discarded already.
        """
        cdef list loans
        cdef Loan loan
        cdef uint64_t newest
        self.check()
        self.accounted = True
        loans = self.loans
        if self.validated:
            self.validate()
        newest = self.owner.commit_all([loan.live() for loan in loans])
        self.loans = []
        for loan in loans:
            loan.drop()
        return newest

    cdef int validate(self) except -1:
        """Let pydantic validate each sample. A failure discards all."""
        cdef Loan loan
        try:
            for loan in self.loans:
                loan.validate()
        except BaseException:
            self.discard()
            raise
        return 0

    def __del__(self):
        cdef Loan loan
        cdef bint is_forgotten = False
        for loan in self.loans or ():   # of which none warns for itself
            is_forgotten = is_open(self.owner) and not self.accounted
            if loan.hold is not None:
                loan.hold.accounted = True
        if is_forgotten:
            self.discard()
            zs_warn_dropped(Loans, b"a batch of loans", self.owner.topic)

    def discard(self):
        """Give the slots back unpublished. A second call does nothing."""
        cdef Loan loan
        loans, self.loans = self.loans, []
        for loan in loans:
            loan.give_up()

    cdef int check(self) except -1:
        if not self.loans:
            raise errors.ClosedError("these loans were committed or discarded already. Borrow others")
        return 0

    def __len__(self):
        return len(self.loans)

    def __enter__(self):
        return self.samples

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            self.discard()
        elif self.loans:
            self.commit()

    def __reduce__(self):
        raise unpicklable(self)

    def __repr__(self):
        return f"<Loans of {len(self.loans)} samples>" if self.loans else "<Loans given back>"

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)


@cython.no_gc
cdef class Lease(SlotLease):
    """A sample that was taken. It and everything read from it stays as it is, for as long as anything refers to it."""

    @cython.final
    cdef object viewed(self):
        """The view of the sample, until the end of the lease."""
        cdef object view
        with cython.critical_section(self):
            view = self.view
        if view is None:
            self.live()
        return view

    @property
    def sample(self):
        """The publisher's memory as the sample type, read-only. It may be kept."""
        return self.viewed()

    @property
    def publisher_id(self):
        """Which publisher sent it: 16 hexadecimal digits, the name of its flink."""
        return self.source.publisher_id

    def __dlpack__(self, **options):
        """The bytes of the sample, or what it is where it is a whole array or bytes, as a read-only DLPack capsule:
        consumers that do not say max_version=(1, 0) get BufferError. It keeps the sample.
        """
        cdef Hold hold = self.live()
        cdef VariableCodec whole = self.source.plan.whole
        if whole is None:
            return SlotLease.__dlpack__(self, **options)
        return dlpack_of(asarray(whole.buffer(hold, hold.data)), options)

    def copy(self):
        """The sample as an instance of its class, in memory of its own."""
        cdef object view = self.viewed()
        if self.source.plan.whole is None:
            return view.__zs_model__()
        if isinstance(view, cnp.ndarray):
            return cnp.PyArray_NewCopy(<cnp.ndarray>view, cnp.NPY_CORDER)
        return bytes(view)

    @cython.always_allow_keywords(False)
    def release(self):
        """Drop this handle's reference. The slot goes back with the last view or array of it. A second call does
        nothing.
        """
        self.end()  # a method of this class itself: see `direct_methods`

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)


@cython.final
@cython.no_gc
cdef class _EndedLease(Lease):

    @property
    def sample(self):
        return self.viewed()


zs_loan_install_dealloc_hook(Loan, slot_ends)
zs_lease_install_dealloc_hook(Lease, lease_ends)


cdef void lease_ends(PyObject *lease) noexcept:
    (<Lease>lease).hold = None
    (<Lease>lease).source = None
    (<Lease>lease).view = None


cdef char *LOANED_SAMPLE = b"The sample's memory as its type: set fields, fill arrays."
cdef char *LEASED_SAMPLE = b"The publisher's memory as the sample type, read-only. It may be kept."


cdef int add_samples() except -1:
    """Make `sample` a slot of the two classes."""
    cdef Loan loan = <Loan>zs_new_loan()
    cdef Lease lease = <Lease>zs_new_lease()
    loan.view = lease.view = object()
    zs_add_sample(0, Loan, _EndedLoan, loan, loan.view, LOANED_SAMPLE)
    zs_add_sample(1, Lease, _EndedLease, lease, lease.view, LEASED_SAMPLE)
    return 0


add_samples()


cdef inline Lease lease_of(Source source, Hold hold):
    """The lease of a sample of this publisher."""
    cdef Lease lease
    if hold.size < source.plan.size:
        raise errors.CorruptSegmentError(
            f"sample {hold.sequence} has {hold.size} bytes, and its type has {source.plan.size}",
            found=hold.size, expected=source.plan.size,
        )
    lease = <Lease>zs_new_lease()
    lease.hold = hold
    lease.source = source
    lease.number = hold.sequence
    hold.head = source.plan.size
    lease.view = source.plan.sample_in(hold)
    return lease


cdef inline SlotLease slot_lease_of(Hold hold):
    cdef SlotLease lease = SlotLease.__new__(SlotLease)
    lease.hold = hold
    lease.number = hold.sequence
    return lease


def redeem(Source source not None, Ticket ticket not None, uint32_t max_leases):
    """A Lease of the ticket's sample, by a reader of tickets of its segment; None: it is gone."""
    cdef Hold hold = source.reader.lease_by(ticket, max_leases)
    return lease_of(source, hold) if hold is not None else None


def redeem_slot(Reader reader not None, Ticket ticket not None, uint32_t max_leases):
    """The same for a SlotLease."""
    cdef Hold hold = reader.lease_by(ticket, max_leases)
    return slot_lease_of(hold) if hold is not None else None
