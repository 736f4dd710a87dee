# Part of binding.pyx: what all handles share, and the bases of SlotAllocator, SlotReader and Publisher.


cdef class Handle:
    """What a program opens and closes: an allocator, a reader, a publisher or a subscriber. A context manager.

    A handle whose last reference goes is closed, unless its constructor was interrupted before there was anything to
    close. The subclass's `close` works at any time after that: before the constructor has ended, after another call
    that was interrupted, and in a forked child, where it does nothing.

    Why the finalizer is here and not in Python: it runs once, and a signal handler may raise in any Python function.
    """

    cdef uint64_t fork  # the fork generation in which it was made

    def __cinit__(self):
        self.fork = zs_fork_generation

    def __del__(self):
        if self.has_opened():
            finalize(self)

    cdef bint has_opened(self):
        """Whether there may be something to close. Runs no Python code, which a signal handler could interrupt."""
        return True

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __reduce__(self):
        raise unpicklable(self)

    def close(self):
        """Give back all that the handle owns: the subclass's part."""

    @property
    def _inherited(self):
        """Whether this is a forked child's copy."""
        return self.fork != zs_fork_generation


cdef class AllocatorEnd(Handle):
    """The part of SlotAllocator that is called for every sample."""

    cdef Owner owner

    def __init__(self, Owner owner not None, str topic=None):
        self.owner = owner
        owner.topic = topic

    cdef bint has_opened(self):
        return hasattr(self, "_owned")

    @property
    def native(self):
        return self.owner

    def _reclaim_slots(self):
        """Make free what can be: no slot is left. The subclass provides it."""
        raise NotImplementedError

    def _no_slot_error(self, size):
        """Why there is still no slot of at least `size` bytes. The subclass provides it."""
        raise NotImplementedError

    def reserve(self, size=None, timeout=0):
        """Borrow a free slot to write `size` bytes into, which are zeros at first: of the smallest slots that have so
        many bytes, the next larger ones where none of those is free. Default: a whole slot of the largest ones.

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
        cdef uint64_t capacity = self.owner.largest()
        cdef uint64_t count = capacity
        if size is not None:
            count = whole_size(size)
            if count > capacity:
                raise self.owner.too_large(count)
        hold = self.owner.reserve(count)
        if hold is None:
            hold = reserve_slowly(self.owner, self, count, deadline_of(timeout))
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
        self.owner.check_fork()
        return self.owner.segment.generation

    @property
    def sequence(self):
        """The newest committed sequence; first_sequence - 1 before any."""
        self.owner.check_fork()
        return self.owner.c.published

    def _wait_for_space(self, condition not None, timeout):
        """Sleep until `condition()` is true, which joins and leaves may change: True; False after `timeout` seconds."""
        return wait_for_condition(condition, self.owner.segment, self.owner.segment.c.space, NULL, timeout)

    def _wait_until_taken(self, timeout):
        """Sleep until reliable subscribers have taken all: True; False after `timeout` seconds (None: for ever)."""
        return wait_until_taken(self.owner, self, timeout)

cdef class ReaderEnd(Handle):
    """The part of SlotReader that is called for every sample."""

    cdef Reader reader
    cdef uint64_t probed_ns

    def __init__(self, Reader reader not None, str topic=None):
        self.reader = reader
        reader.topic = topic
        self.probed_ns = zs_coarse_ns()

    def close(self):
        """Leave the segment. Leases stay valid. A second call does nothing, nor does a call in a forked child."""
        if self.reader is not None:  # or the constructor was interrupted
            self.reader.close()

    @property
    def native(self):
        return self.reader

    def _probe(self):
        """Mark the segment if its owner has died. The subclass provides it."""
        raise NotImplementedError

    def take(self):
        """The next sample in order, or None. What is no longer there is counted in `lost` and jumped over.

        Raises TooManyLeasesError while max_leases samples are held, EvictedError from when the owner has ended this
        reader's registration until `rejoin`, CorruptSegmentError.
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

        Every lease has to be released before: the owner counts what an evicted reader holds. Raises
        TooManyLeasesError, and CorruptSegmentError. Without an EvictedError before it this does nothing.
        """
        self.reader.check()
        self.reader.rejoin()

    @property
    def generation(self):
        """The word to capture before looking for samples; give it to wait_for_change."""
        self.reader.check_fork()
        return self.reader.segment.generation

    def wait_for_change(self, uint32_t last, timeout=None):
        """Sleep until the generation is no longer `last`: True; False after `timeout` seconds (None: for ever).

        Capture the generation, look for what is wanted, then wait on what was captured: no change in between is missed.
        """
        cdef GenerationWait what = GenerationWait.__new__(GenerationWait)
        what.end, what.last = self, last
        return wait_for(what, deadline_of(timeout))


@cython.final
cdef class GenerationWait(Waitable):
    """That the generation of a reader's segment is no longer `last`."""

    cdef ReaderEnd end
    cdef uint32_t last

    cdef int prepare(self, Watched *watched) except -1:
        return self.end.reader.check()

    cdef bint is_ready(self) except -1:
        return zs_load32(self.end.reader.segment.c.generation, ZS_GENERATION_LOAD) != self.last

    cdef void park(self, Watched *watched) noexcept:
        self.end.reader.park()
        watch(watched, self.end.reader.segment.c.generation, self.last)

    cdef int probe(self) except -1:
        self.end._probe()
        return 0

    cdef void unpark(self) noexcept:
        self.end.reader.unpark()


cdef class PublisherEnd(Handle):
    """The part of Publisher that is called for every sample."""

    cdef readonly object allocator
    cdef Owner owner
    cdef Plan plan
    cdef uint64_t sample_size
    cdef object default_timeout

    def __init__(self, AllocatorEnd allocator not None, Plan plan not None, default_timeout):
        if plan.size > allocator.owner.largest():
            raise ValueError("the sample does not fit its slots")
        self.allocator, self.owner, self.plan, self.default_timeout = allocator, allocator.owner, plan, default_timeout
        self.sample_size = plan.size

    cdef bint has_opened(self):
        return hasattr(self, "_bell")

    @cython.final
    cdef Loan borrow(self, object timeout):
        cdef Hold hold = self.owner.reserve(self.sample_size)
        cdef Loan loan
        if hold is None:
            hold = reserve_slowly(
                self.owner, self.allocator, self.sample_size,
                deadline_of(self.default_timeout if timeout is ... else timeout),
            )
        loan = Loan.__new__(Loan)
        loan.hold = hold
        loan.owner = self.owner
        loan.view = make_view(self.plan.view_class, hold, hold.data, hold.size)
        return loan

    def loan(self, timeout=...):
        """Borrow a free slot and write the next sample into it, in place.

        Fields start with their declared defaults, the others with zeros; arrays over 4 KiB without a default keep what
        was there. Entering the loan gives the sample, leaving commits it, an exception discards it. Nobody can see it
        before that.

        Raises NoFreeSlotError when every slot is still loaned or leased after `timeout` seconds; its text names
        the holders.
        """
        cdef Loan loan = self.borrow(timeout)
        cdef Plan plan = self.plan
        cdef int i
        for i in range(plan.span_count):
            memcpy(loan.hold.data + plan.span_at[i], plan.span_from[i], plan.span_size[i])
        if plan.fill is not None:
            plan.fill(loan.viewed())
        return loan

    def loan_uninit(self, timeout=...):
        """Borrow a free slot as `loan` does, and leave in it what an older sample left: for programs that write every
        field.
        """
        return self.borrow(timeout)

    @property
    def sequence(self):
        """The newest published sequence; 0 before any."""
        self.owner.check_fork()
        return self.owner.c.published

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)
