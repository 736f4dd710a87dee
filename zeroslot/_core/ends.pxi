# Part of binding.pyx: the untyped handles, and the bases of SlotAllocator and SlotReader.


@cython.no_gc
@cython.freelist(16)
cdef class Slot:
    """A loaned slot: memory to write the next sample into.

    A bytes-like object of the slot's capacity, zeros at first. No reader can see what is written before `commit`. As a
    context manager it commits at the end, or discards when an exception leaves it; one that is dropped is discarded.
    """

    cdef Hold hold
    cdef Owner owner
    cdef object view    # Loan's; it stands here because only types of one size share a free list

    def __init__(self):
        raise TypeError("slots come from SlotAllocator.reserve()")

    @cython.final
    cdef Hold live(self):
        cdef Hold hold
        with cython.critical_section(self):
            hold = self.hold
        if hold is None:
            raise errors.ClosedError("this slot was committed or discarded already. Reserve another one")
        return hold

    @cython.final
    cdef uint64_t finish(self, object size) except 0:
        """Commit `size` bytes and let go of the slot."""
        cdef Hold hold = self.live()
        cdef uint64_t n, count
        if size is None:
            count = hold.size
        else:
            count = whole_size(size)
            if count > hold.size:
                raise errors.SampleTooLargeError(
                    f"{count} bytes do not fit a slot of {hold.size}", size=count, capacity=hold.size
                )
        hold.fill(count)
        n = self.owner.commit(hold, count)
        self.drop()
        return n

    @cython.final
    cdef void drop(self) noexcept:
        with cython.critical_section(self):
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


cdef void slot_ends(PyObject *slot) noexcept:
    if (<Slot>slot).hold is not None:
        (<Slot>slot).give_up()


zs_slot_last_words(Slot, slot_ends)


cdef int64_t whole_size(object size) except -1:
    """A size in bytes; the largest number there is for larger ones. Compared as a C number: an object may compare
    itself as it likes.
    """
    cdef int overflow = 0
    cdef int64_t number = PyLong_AsLongLongAndOverflow(PyNumber_Index(size), &overflow)
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


cdef inline object make_array(Hold hold, char *data, cnp.dtype descr, int ndim, cnp.npy_intp *dims):
    """What the Hold lists is written through this array only; every base of it is the Hold."""
    cdef int flags = cnp.NPY_ARRAY_C_CONTIGUOUS | cnp.NPY_ARRAY_ALIGNED
    cdef object array
    if hold.is_writable():
        flags |= cnp.NPY_ARRAY_WRITEABLE
    Py_INCREF(descr)
    array = PyArray_NewFromDescr(<PyTypeObject *>cnp.ndarray, <void *>descr, ndim, dims, NULL, data, flags, NULL)
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


cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(PyTypeObject *subtype, void *descr, int ndim, cnp.npy_intp *dims,
                                cnp.npy_intp *strides, void *data, int flags, PyObject *obj)
    int PyArray_SetBaseObject(void *array, PyObject *base) except -1


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
        memmove(to, source, count)
    hold.unpin()
    return 0


cdef object read_only(Hold hold):
    if hold.reader is not None:
        return TypeError(
            "a received sample is read-only: the publisher's memory is mapped without the right to write. "
            "Use lease.copy()"
        )
    if hold.writable_in != 0:
        return forked("loan")
    return errors.ClosedError("this sample was committed or discarded: it can be read, and no longer written")


@cython.no_gc
@cython.freelist(16)
cdef class SlotLease:
    """A sample that nobody changes while this object, or anything taken from it, is alive. Read-only bytes."""

    cdef Hold hold
    cdef uint64_t number
    cdef Source source  # these two are Lease's, as in Slot
    cdef object view

    def __init__(self):
        raise TypeError("leases come from take()")

    cdef Hold live(self):
        cdef Hold hold
        with cython.critical_section(self):
            hold = self.hold
        if hold is None:
            raise errors.ClosedError("this lease was released. What was taken from it before stays good")
        return hold

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

    def __len__(self):
        return self.live().size

    def array(self, dtype="u1", shape=None):
        """A read-only numpy array over the sample, from its start. It keeps the sample. `shape`: default, what fits."""
        return array_over(self.live(), dtype, shape)

    def release(self):
        """Give up this handle's claim. The slot goes back with the last view or array of it. A second call does
        nothing.
        """
        with cython.critical_section(self):
            self.hold = None

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.release()

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


cdef class AllocatorEnd:
    """The part of SlotAllocator that is called for every sample."""

    cdef readonly Owner owner

    def __init__(self, Owner owner not None):
        self.owner = owner

    def __del__(self):
        if hasattr(self, "_owned"):     # or the constructor was interrupted before there was anything to close
            finalize(self)

    def reserve(self, size=None, timeout=0):
        """Borrow a free slot to write `size` bytes into (default: its whole capacity), which are zeros at first.

        The zeros are written when the slot is first looked into: `commit(slot, data)` costs no more than the copy.
        As a context manager the slot is committed at the end, all that was reserved, and discarded by an exception.

        Waits up to `timeout` seconds (None: for ever) while readers hold every slot or other threads all loans, then
        raises NoFreeSlotError, which names them; at once where this thread has borrowed all loans itself. Raises
        SampleTooLargeError for a size that no slot has.
        """
        cdef Slot slot = self.borrow(size, timeout)
        slot.hold.blank = True
        return slot

    def reserve_uninit(self, size=None, timeout=0):
        """Borrow a free slot as `reserve` does, and leave in it what an older sample left: for programs that write each
        byte that they commit.
        """
        return self.borrow(size, timeout)

    @cython.final
    cdef Slot borrow(self, object size, object timeout):
        cdef Hold hold
        cdef Slot slot
        cdef uint64_t capacity = self.owner.segment.pool_capacity[0]
        cdef uint64_t count = 0
        if size is not None:
            count = whole_size(size)
            if count > capacity:
                raise errors.SampleTooLargeError(
                    f"{count} bytes do not fit a slot of {capacity}. Create the segment with larger slots",
                    size=count, capacity=capacity,
                )
        hold = self.owner.reserve()
        if hold is None:
            hold = self.owner.reserve_slowly(self, deadline_of(timeout))
        if size is not None:
            hold.size = count
        slot = Slot.__new__(Slot)
        slot.hold = hold
        slot.owner = self.owner
        return slot

    def commit(self, Slot slot not None, size=None):
        """Publish a slot; the sample's sequence.

        `size` is the number of bytes written in place, or a bytes-like object to copy first (default: all that was
        reserved). Raises SampleTooLargeError before anything is copied, ClosedError for a slot that was given back or
        is another allocator's.
        """
        cdef Hold hold
        cdef size_t count
        if slot.owner is not self.owner or isinstance(slot, Loan):
            raise errors.ClosedError(
                "this slot belongs to another allocator, or is a publisher's loan. Commit it there"
            )
        if size is None or isinstance(size, int):
            return slot.finish(size)
        hold = slot.live()
        count = copy_into(hold, size)
        hold.blank = False  # the bytes after these are not published
        return slot.finish(count)

    def discard(self, Slot slot not None):
        """Give a slot back unpublished. Raises ClosedError for one that was given back or is another allocator's."""
        if slot.owner is not self.owner:
            raise errors.ClosedError("this slot belongs to another allocator. Discard it there")
        slot.live()
        slot.discard()

    @property
    def generation(self):
        """The word that every commit, seal and owner event moves (32 bits, wraps)."""
        self.owner.check_process()
        return self.owner.segment.generation

    @property
    def sequence(self):
        """The newest committed sequence; first_sequence - 1 before any."""
        self.owner.check_process()
        return self.owner.c.published

    def __reduce__(self):
        raise unpicklable(self)


cdef class ReaderEnd:
    """The part of SlotReader that is called for every sample."""

    cdef readonly Reader reader
    cdef uint64_t probed_ns

    def __init__(self, Reader reader not None):
        self.reader = reader
        self.probed_ns = zs_coarse_ns()

    def take(self):
        """The next sample in order, or None. What is no longer there is counted in `lost` and jumped over.

        Raises TooManyLeasesError while max_leases samples are held, EvictedError from when the owner has ended this
        reader's claim until `rejoin`, CorruptSegmentError.
        """
        return self._lease(False)

    def latest(self):
        """The newest sample, or None. What it jumps over counts in `skipped`."""
        return self._lease(True)

    cdef object _lease(self, bint newest):
        cdef Hold hold
        cdef SlotLease lease
        self.reader.check()
        hold = self.reader.take(newest)
        if hold is None:
            self._look_for_owner()
            return None
        lease = SlotLease.__new__(SlotLease)
        lease.hold = hold
        lease.number = hold.sequence
        return lease

    def _look_for_owner(self):
        """Probe the owner, if that was 50 ms ago or longer."""
        cdef uint64_t now = zs_coarse_ns()
        if now > self.probed_ns + FIRST_SLICE_NS:
            self.probed_ns = now
            self._probe()

    def rejoin(self):
        """Go on behind the sample that was taken last, after an EvictedError. What is gone by now is lost.

        Every lease has to be released before: what an ended claim holds is the owner's to count. Raises
        TooManyLeasesError, and CorruptSegmentError. Without an EvictedError before it this does nothing.
        """
        self.reader.check()
        self.reader.rejoin()

    @property
    def generation(self):
        """The word to capture before looking for samples; give it to wait_for_change."""
        self.reader.check_process()
        return self.reader.segment.generation

    def wait_for_change(self, uint32_t last, timeout=None):
        """Sleep until the generation is no longer `last`: True; False after `timeout` seconds (None: for ever).

        Capture the generation, look for what is wanted, then wait on what was captured: no change in between is missed.
        """
        cdef Reader reader = self.reader
        cdef uint64_t deadline = deadline_of(timeout)
        cdef uint64_t slice_ns = FIRST_SLICE_NS
        cdef uint64_t now
        cdef uint32_t seen
        while True:
            reader.check()
            if zs_load32(reader.segment.c.generation, ZS_GENERATION_LOAD) != last:
                return True
            now = zs_now_ns()
            if now >= deadline:
                return False
            look_up()
            seen = reader.park()
            try:
                if seen == last:
                    with nogil:
                        zs_futex_wait(reader.segment.c.generation, last, min(deadline, now + slice_ns))
                slice_ns = min(2 * slice_ns, LAST_SLICE_NS)
                if zs_now_ns() >= now + slice_ns // 2:
                    self._probe()
            finally:
                reader.unpark()     # only now: where another thread has closed the reader, this closes what was probed

    def __reduce__(self):
        raise unpicklable(self)
