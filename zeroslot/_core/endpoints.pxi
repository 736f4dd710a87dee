# Part of binding.pyx: the bases of SlotAllocator, SlotReader, Publisher and Subscriber.


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
        self.owner.check_fork()
        return self.owner.segment.generation

    @property
    def sequence(self):
        """The newest committed sequence; first_sequence - 1 before any."""
        self.owner.check_fork()
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
        self.reader.check_fork()
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


cdef class PublisherEnd:
    """The part of Publisher that is called for every sample."""

    cdef readonly object allocator
    cdef Owner owner
    cdef Plan plan
    cdef object patience    # the timeout where none is given

    def __init__(self, AllocatorEnd allocator not None, Plan plan not None, patience):
        if plan.size > allocator.owner.segment.pool_capacity[0]:
            raise ValueError("the sample does not fit its slots")
        self.allocator, self.owner, self.plan, self.patience = allocator, allocator.owner, plan, patience

    def __del__(self):
        if hasattr(self, "_bell"):      # or the constructor came to nothing
            finalize(self)

    @property
    def _inherited(self):
        return self.owner is not None and self.owner.fork != zs_fork_generation

    @cython.final
    cdef Loan borrow(self, object timeout):
        cdef Hold hold = self.owner.reserve()
        cdef Loan loan
        if hold is None:
            hold = self.owner.reserve_slowly(self.allocator, deadline_of(self.patience if timeout is ... else timeout))
        hold.size = self.plan.size
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

        Raises NoFreeSlotError when every slot is still loaned or leased after `timeout` seconds; its text names who
        holds them.
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
        """Borrow a free slot as `loan` does, and leave in it what an older sample left: for those who write every
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

    def __reduce__(self):
        raise unpicklable(self)


cdef enum Slept:
    READY, SLICE_OVER, CHANGED


cdef class SubscriberEnd:
    """The part of Subscriber that is called for every sample.

    What is slow or rare is the subclass's: `_follow` (publishers came or went), `_probe` (is each still alive).

    What it knows of publishers is one `table` that is never changed in place: whatever is decided by a look at it,
    signal handlers, other threads and the collector may decide as well before it is done. `_exchange` puts a new table
    in place of the one that was looked at, with all that follows from it, or finds that another one is there.
    """

    cdef readonly object table
    cdef list sources           # the publishers that are read from, as in the table
    cdef list awaited           # segments in which a place may get free for this subscriber, as in the table
    cdef uint64_t due_ns        # when _follow is called although the bell is silent; 0: it is not
    cdef uint64_t followed_ns
    cdef Word bell
    cdef uint32_t bell_seen
    cdef uint32_t nudge         # bumped by close, to wake this subscriber's own threads
    cdef Py_ssize_t turn
    cdef uint64_t probed_ns
    cdef uint64_t spin_ns
    cdef uint64_t fork
    cdef bint is_closed

    def __init__(self, Word bell not None, spin_us, table):
        self.table = table
        self.bell = bell
        self.bell_seen = zs_load32(bell.word, ZS_ACQUIRE)
        self.sources = []
        self.awaited = []
        self.fork = zs_fork_generation
        self.spin_ns = <uint64_t>min(<double>spin_us * 1e3, 1e18)
        self.probed_ns = zs_now_ns()

    def __del__(self):
        if hasattr(self, "_bell"):      # or the constructor came to nothing
            finalize(self)

    @cython.final
    cdef int check(self) except -1:
        if self.fork != zs_fork_generation:
            raise forked("subscriber")
        if self.is_closed:
            raise closed_error("this subscriber is closed")
        return 0

    @cython.final
    cdef list current(self):
        """The sources as they are now; followed first if the bell has rung, or a publisher is to be tried again."""
        cdef list sources
        self.check()
        if zs_load32(self.bell.word, ZS_ACQUIRE) != self.bell_seen or (self.due_ns != 0 and self.is_due()):
            self.catch_up()
        with cython.critical_section(self):
            sources = self.sources
        return sources

    @cython.final
    cdef bint is_due(self) noexcept:
        """Whether it is time to try again, or a place may have got free."""
        cdef Segment segment
        cdef uint64_t now = zs_coarse_ns()
        if now >= self.due_ns:
            return True
        if now != self.followed_ns:  # a busy owner's `space` moves all the time
            for segment in self.awaited:
                if segment.space_has_moved():
                    return True
        return False

    @cython.final
    cdef int catch_up(self) except -1:
        # Noted afterwards: one who is interrupted in between, or another thread meanwhile, follows again.
        cdef uint32_t seen = zs_load32(self.bell.word, ZS_ACQUIRE)
        self.followed_ns = zs_coarse_ns()
        self._follow()
        self.bell_seen = seen
        return 0

    @cython.final
    cdef Lease leased(self, Source source, Hold hold):
        cdef Lease lease
        if hold.size < source.plan.size:
            raise errors.CorruptSegmentError(
                f"sample {hold.sequence} has {hold.size} bytes, and its type has {source.plan.size}",
                found=hold.size, expected=source.plan.size,
            )
        lease = Lease.__new__(Lease)
        lease.hold = hold
        lease.source = source
        lease.number = hold.sequence
        lease.view = make_view(source.plan.view_class, hold, hold.data, source.plan.size)
        return lease

    @cython.final
    cdef Lease next(self):
        """The next sample of the publisher whose turn it is, or of the one after it, and so on."""
        cdef list sources = self.current()
        cdef Py_ssize_t count = len(sources)
        cdef Py_ssize_t i, at
        cdef Source source
        cdef Hold hold
        for i in range(count):
            at = (self.turn + i) % count if count > 1 else 0
            source = <Source>sources[at]
            if source.reader.broken:
                self._follow()  # which lets go of it, and joins again where its claim was ended
                return self.next()
            hold = source.reader.take(False)
            if hold is not None:
                self.turn = at + 1
                return self.leased(source, hold)
        self.found_nothing(sources)
        return None

    @cython.final
    cdef Lease newest(self):
        """The newest sample of all publishers; what the others have that is older is skipped with it."""
        cdef list sources = self.current()
        cdef Source source
        cdef Source best = None
        cdef Hold hold
        cdef uint64_t sequence
        cdef uint64_t when = 0
        cdef uint64_t best_when = 0
        for source in sources:
            sequence = zs_reader_peek(&source.reader.c, &when)
            if sequence != 0 and (best is None or when > best_when):
                best, best_when = source, when
        if best is None:
            # A ring ahead of `published`: at the next moment it is not, or the take says that the segment is corrupt.
            for source in sources:
                if source.reader.has_news():
                    best = source
                    break
        if best is None:
            self.found_nothing(sources)
            return None
        if best.reader.broken:
            self._follow()
            return self.newest()
        hold = best.reader.take(True)
        if hold is None:
            return None
        if len(sources) > 1:
            for source in sources:
                if source is not best:
                    sequence = zs_reader_peek(&source.reader.c, &when)
                    if sequence != 0 and when <= hold.published_ns:
                        zs_lock(&source.reader.mutex)
                        if sequence > source.reader.c.cursor and not source.reader.closed:
                            zs_reader_skip(&source.reader.c, sequence)
                        zs_unlock(&source.reader.mutex)
        return self.leased(best, hold)

    @cython.final
    cdef int found_nothing(self, list sources) except -1:
        """A poll came back empty: has a publisher ended, or died?"""
        cdef Source source
        cdef uint64_t now
        for source in sources:
            if zs_segment_state(&source.reader.segment.c) != ZS_OPEN:
                self._follow()
                return 0
        now = zs_coarse_ns()
        if now > self.probed_ns + FIRST_SLICE_NS:
            self.probed_ns = now
            self._probe()
        return 0

    @cython.final
    cdef Lease wait_for(self, object timeout, bint newest):
        cdef uint64_t deadline = deadline_of(timeout)
        cdef Lease lease
        while True:
            if not self.wait_until(deadline):
                return None
            lease = self.newest() if newest else self.next()
            if lease is not None:
                return lease
            if zs_now_ns() >= deadline:
                return None     # however ready the ring says that it is

    @cython.final
    cdef bint wait_until(self, uint64_t deadline) except -1:
        """Sleep until there is something to take (True) or the deadline (False)."""
        cdef list sources
        cdef uint64_t began
        cdef uint64_t spin_end = 0
        cdef uint64_t slice_ns = FIRST_SLICE_NS
        cdef uint32_t bell, nudge
        cdef Slept slept
        while True:
            # Handlers run here, and what they or other threads do from here on moves one of the words that are slept
            # on.
            look_up()
            nudge = zs_load32(&self.nudge, ZS_ACQUIRE)
            self.current()
            bell = self.bell_seen
            with cython.critical_section(self):
                sources = self.sources
            if self.any_broken(sources):
                self._follow()
                continue
            if self.any_ready(sources):
                return True
            began = zs_now_ns()
            if began >= deadline:
                return False
            if spin_end == 0:
                spin_end = began + self.spin_ns
            slept = self.sleep(sources, bell, nudge, began, deadline, slice_ns, spin_end)
            if slept == READY:
                return True
            if slept == SLICE_OVER:
                slice_ns = min(2 * slice_ns, LAST_SLICE_NS)
                self.probed_ns = zs_now_ns()
                self._probe()
            self.found_nothing(sources)

    @cython.final
    cdef bint any_ready(self, list sources) noexcept:
        cdef Source source
        for source in sources:
            if source.reader.has_news():
                return True
        return False

    @cython.final
    cdef bint any_broken(self, list sources) noexcept:
        cdef Source source
        for source in sources:
            if source.reader.broken:
                return True
        return False

    @cython.final
    cdef Slept sleep(self, list sources, uint32_t bell, uint32_t nudge, uint64_t began, uint64_t deadline,
                     uint64_t slice_ns, uint64_t spin_end) except *:
        """Spin until `spin_end`, then park on every publisher, the bell and the nudge at once.

        A spin is cut as sleeps are: into short slices between which signals are looked at, and after `slice_ns` it
        returns, so that the owners are probed.
        """
        cdef zs_reader *readers[126]
        cdef uint32_t *words[128]
        cdef uint32_t values[128]
        cdef int count = 0
        cdef int i
        cdef Source source
        cdef Segment segment
        cdef list awaited
        cdef int publishers
        cdef uint64_t until = min(deadline, min(spin_end, began + slice_ns))
        cdef uint64_t now = began
        cdef bint ready = False
        cdef uint32_t *bell_word = self.bell.word
        for source in sources:
            if count < 126:
                readers[count] = &source.reader.c
                count += 1
        while now < until:
            with nogil:
                ready = spin_until(readers, count, bell_word, bell, &self.nudge, nudge, min(until, now + SPIN_SLICE_NS))
            if ready:
                return READY
            look_up()
            self.check()
            if zs_load32(bell_word, ZS_ACQUIRE) != bell or zs_load32(&self.nudge, ZS_ACQUIRE) != nudge:
                return CHANGED
            if self.due_ns != 0 and self.is_due():
                return CHANGED
            now = zs_now_ns()
        if now >= deadline:
            return CHANGED
        if now < spin_end:
            return SLICE_OVER
        for i in range(count):
            source = <Source>sources[i]
            words[i] = source.reader.segment.c.generation
            values[i] = source.reader.park()
        words[count], values[count] = bell_word, bell
        words[count + 1], values[count + 1] = &self.nudge, nudge
        publishers = count
        count += 2
        until = began + slice_ns
        with cython.critical_section(self):
            awaited = self.awaited
            if self.due_ns != 0:
                until = min(until, self.due_ns + COARSE_TICK_NS)
        for segment in awaited:
            if segment.space_has_moved():
                until = min(until, began + COARSE_TICK_NS)
            elif count < <int>ZS_WAITV_MAX:
                words[count], values[count] = segment.c.space, segment.space_noted
                count += 1
        # SYNC park: the look that comes after the bit and the generation.
        ready = self.any_ready(sources)
        if not ready:
            if len(sources) > 126:
                slice_ns = 1_000_000  # the ones that have no word here are looked at soon
                until = min(until, began + slice_ns)
            with nogil:
                zs_futex_wait_any(words, values, count, min(deadline, until))
            ready = self.any_ready(sources)
        for i in range(publishers):
            (<Source>sources[i]).reader.unpark()
        if ready:
            return READY
        return SLICE_OVER if zs_now_ns() - began >= slice_ns else CHANGED

    def take(self, timeout=0):
        """The next sample in order, or None; waits up to `timeout` seconds (None: for ever) while there is nothing.

        Several publishers take turns; within each the order is that of publishing. What is no longer there is counted
        in `lost`. Raises TooManyLeasesError while max_leases samples of one publisher are held.
        """
        cdef Lease lease = self.next()
        if lease is None and is_wait(timeout):
            lease = self.wait_for(timeout, False)
        return lease

    def latest(self, timeout=0):
        """The newest sample by `published_ns`, or None; waits as `take` does. What it jumps over counts in `skipped`.
        """
        cdef Lease lease = self.newest()
        if lease is None and is_wait(timeout):
            lease = self.wait_for(timeout, True)
        return lease

    def wait(self, timeout=None):
        """Sleep until `take` would return something: True; False after `timeout` seconds (None: for ever)."""
        return self.wait_until(deadline_of(timeout))

    def __iter__(self):
        return self

    def __next__(self):
        cdef Lease lease
        if self.is_closed:
            raise StopIteration
        try:
            lease = self.next()
            return lease if lease is not None else self.wait_for(None, False)
        except errors.ClosedError:
            if self.is_closed or is_worker is not None:
                raise StopIteration from None
            raise

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)

    def __reduce__(self):
        raise unpicklable(self)

    # What the subclass uses.

    def _exchange(self, seen, table, list sources not None, list awaited not None, uint64_t due_ns):
        """Put `table` in place of the table that was seen, with what follows from it: False where that is no longer it.

        `due_ns` is a time of CLOCK_MONOTONIC_COARSE. One step: no signal handler and no other thread sees half of it.
        """
        cdef tuple before = ()  # let go of at the end: what is freed with it may run any code
        with cython.critical_section(self):
            if self.table is seen:
                before = (self.table, self.sources, self.awaited)
                self.table, self.sources, self.awaited, self.due_ns = table, sources, awaited, due_ns
        return len(before) > 0

    def _end(self):
        """Refuse from now on, and wake this subscriber's threads."""
        self.is_closed = True
        self._nudge()

    def _nudge(self):
        bump(&self.nudge)

    def _catch_up(self):
        """Follow the topic, if the bell has rung."""
        self.current()

    def _capture_bell(self):
        return zs_load32(self.bell.word, ZS_ACQUIRE)

    def _sleep_on_bell(self, uint32_t seen, uint64_t deadline_ns):
        cdef uint32_t *words[2]
        cdef uint32_t values[2]
        words[0], values[0] = self.bell.word, seen
        words[1], values[1] = &self.nudge, zs_load32(&self.nudge, ZS_ACQUIRE)
        self.check()
        look_up()
        with nogil:
            zs_futex_wait_any(words, values, 2, deadline_ns)

    @property
    def _inherited(self):
        return self.fork != zs_fork_generation

    @property
    def closed(self):
        return self.is_closed


cdef extern from *:
    """
    static inline int spin_until(zs_reader **readers, int count, const uint32_t *bell, uint32_t bell_seen,
                                 const uint32_t *nudge, uint32_t nudge_seen, uint64_t until)
    {
        for (unsigned turns = 1;; turns++) {
            for (int i = 0; i < count; i++)
                if (zs_reader_ready(readers[i]))
                    return 1;
            if (zs_load(bell, ZS_ACQUIRE) != bell_seen || zs_load(nudge, ZS_ACQUIRE) != nudge_seen)
                return 0;
            zs_pause();
            if (turns % 16 == 0 && zs_now_ns() >= until)
                return 0;
        }
    }
    """
    bint spin_until(zs_reader **readers, int count, const uint32_t *bell, uint32_t bell_seen, const uint32_t *nudge,
                    uint32_t nudge_seen, uint64_t until) nogil
