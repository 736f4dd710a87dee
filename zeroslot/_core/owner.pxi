# Part of binding.pyx: the owner's side of a segment.

# No sample is larger, whatever its slots are; sums of so many bytes do not overflow.
cdef uint64_t LARGEST_SAMPLE = <uint64_t>1 << 48


@cython.final
@cython.no_gc
cdef class Owner(Side):
    """The owner's side of a segment. Everything that decides is in private memory."""

    cdef zs_owner c
    cdef void *memory
    cdef uint64_t *borrowers    # the thread that reserved each slot; counts while the slot is loaned
    cdef readonly uint32_t max_loans
    cdef uint32_t reserve_slots     # of each class, that is, of all pools with slots of one capacity
    cdef uint32_t set_apart[16]     # the reserve slots of each pool
    cdef uint32_t missing           # reserve slots that are not withheld
    cdef bint crc               # each sample gets its CRC
    cdef list metadata          # [slot] the packed metadata of a loan, or None. None: samples have no metadata
    cdef uint64_t room          # bytes of each slot that are kept for its metadata
    cdef bint flagged           # whether a commit has anything to do for these two

    def __cinit__(self, Segment segment not None, Descriptor lock, uint32_t max_loans, uint32_t reserve_slots=0,
                  bint crc=False, bint metadata=False):
        """`reserve_slots` of each class are given out only in place of slots that evicted subscribers still hold. With
        `metadata` each slot has METADATA_ROOM bytes behind the largest payload.
        """
        cdef uint32_t k
        self.memory = PyMem_RawCalloc(1, zs_owner_memory(segment.c.slot_limit, segment.c.ring_capacity))
        if self.memory == NULL:
            raise MemoryError
        self.borrowers = <uint64_t *>PyMem_RawCalloc(segment.c.slot_limit, sizeof(uint64_t))
        if self.borrowers == NULL:
            raise MemoryError
        self.segment = segment
        self.lock = lock
        self.max_loans = max_loans
        self.crc, self.flagged = crc, crc or metadata
        if metadata:
            self.metadata = [None] * segment.c.slot_limit
            self.room = METADATA_ROOM
        self.fork = zs_fork_generation
        zs_owner_init(&self.c, &segment.c, self.memory)
        self.reserve_slots = reserve_slots
        for k in range(segment.pool_count):
            self.use_pool(k)

    def __dealloc__(self):
        PyMem_RawFree(self.memory)
        PyMem_RawFree(self.borrowers)

    cdef void use_pool(self, uint32_t k) noexcept nogil:
        """Loan the slots of the segment's pool `k` too. The first pool of a class has its reserve."""
        cdef uint64_t capacity = self.segment.pool_capacity[k]
        cdef uint32_t slots = self.segment.pool_slots[k]
        cdef bint is_first = True
        cdef uint32_t i
        for i in range(k):
            if self.segment.pool_capacity[i] == capacity:
                is_first = False
        zs_owner_add_pool(&self.c, slots, capacity, self.segment.pool_data[k])
        if is_first:
            self.set_apart[k] = self.c.pools[k].withheld = min(self.reserve_slots, slots)

    def use_pools(self):
        """Loan the slots of the pools that were added to the segment."""
        self.check()
        zs_lock(&self.mutex)
        while self.c.pool_count < self.segment.pool_count:
            self.use_pool(self.c.pool_count)
        zs_unlock(&self.mutex)
        self.loan_ended()

    def mark_closed(self):
        """From now on every operation raises ClosedError. The lock stays, so that no cleaner works while this owner
        removes its names.
        """
        self.closed = True

    def close(self):
        """Mark as closed, and free the lock."""
        self.closed = True
        if self.lock is not None:
            self.lock.close()

    @property
    def unlocked(self):
        """Whether `close` was called, and not only `mark_closed`."""
        return self.closed and (self.lock is None or self.lock.c.fd < 0)

    @property
    def published(self):
        """The newest sequence; first_sequence - 1 before any."""
        return self.c.published

    @property
    def loans_out(self):
        return self.c.loans_out

    @property
    def withheld(self):
        """Slots of the reserve that are not given out."""
        cdef uint32_t k
        cdef uint32_t count = 0
        for k in range(self.c.pool_count):
            count += self.c.pools[k].withheld
        return count

    @property
    def capacities(self):
        """Bytes of payload that a slot of each class takes, from the smallest to the largest."""
        cdef uint32_t k
        return sorted({self.c.pools[k].slot_capacity - self.room for k in range(self.c.pool_count)})

    def slots_for(self, uint64_t size):
        """The slots that take at least `size` bytes, one range for each pool."""
        cdef uint32_t k
        return [
            range(self.c.pools[k].first_slot, self.c.pools[k].first_slot + self.c.pools[k].slot_count)
            for k in range(self.c.pool_count) if self.c.pools[k].slot_capacity >= size + self.room
        ]

    cdef inline uint64_t largest(self) noexcept nogil:
        """Bytes of payload of the largest slots."""
        return self.c.by_capacity[self.c.pool_count - 1].slot_capacity - self.room

    @property
    def free_count(self):
        """Slots that a reserve could get at once."""
        cdef uint32_t slot, k
        cdef uint32_t count = 0
        for k in range(self.c.pool_count):
            count += self.c.pools[k].free_count - self.c.pools[k].withheld
        for slot in range(self.c.slot_count):
            if self.c.state[slot] == 3 and zs_load32(&self.c.held[slot], ZS_ACQUIRE) == 0 and not self.is_read(slot):
                count += 1
        return count

    cdef bint is_read(self, uint32_t slot) noexcept nogil:
        cdef uint64_t *readers = zs_slot_readers(&self.segment.c, slot)
        cdef uint32_t w
        for w in range(self.segment.c.reader_words):
            if zs_load64(readers + w, ZS_ACQUIRE) & zs_reader_bits(&self.segment.c, w) != 0:
                return True
        return False

    def blocking_subscriber(self, uint32_t count=1):
        """The index of the reliable subscriber whose full window forbids `count` more loans; NO_READER for one that is
        announced and has not joined. None: none does.
        """
        cdef uint32_t index = 0
        if zs_owner_room(&self.c) >= count:
            return None
        zs_owner_floor(&self.c, &index)
        return index

    def wait_for_announced(self, uint32_t count):
        """From now on no loan pushes out what this many announced subscribers, which have not joined, have to take."""
        cdef bint changes
        zs_lock(&self.mutex)
        changes = self.c.awaited != count
        zs_owner_await(&self.c, count)
        zs_unlock(&self.mutex)
        if changes:     # a bump for nothing would wake the caller's own wait
            self.loan_ended()

    def evict(self, uint32_t index):
        """Evict the subscriber at `index`: it may take no more, and no loan waits for it.

        What it holds is replaced from the reserve, as far as that goes.
        """
        if index >= self.segment.c.max_subscribers:
            raise IndexError(index)
        cdef uint32_t k, replaced
        zs_owner_evict(&self.c, index)
        zs_lock(&self.mutex)
        for k in range(self.c.pool_count):
            replaced = min(self.c.pools[k].withheld, self.slots_of(index, k))
            self.c.pools[k].withheld -= replaced
            self.missing += replaced
        zs_unlock(&self.mutex)
        zs_bump_space(&self.segment.c)

    cdef uint32_t slots_of(self, uint32_t index, uint32_t k) noexcept nogil:
        """How many slots of the class of pool `k` carry the reader bit `index`."""
        cdef uint64_t word
        cdef uint32_t slot
        cdef uint32_t count = 0
        for slot in range(self.c.slot_count):
            if self.c.pools[self.c.pool_of[slot]].slot_capacity != self.c.pools[k].slot_capacity:
                continue
            word = zs_load64(zs_slot_readers(&self.segment.c, slot) + index // 64, ZS_RELAXED)
            count += word >> (index % 64) & 1
        return count

    cdef void refill(self) noexcept nogil:
        """Withhold again the slots whose evicted subscribers have released their own meanwhile. Under the mutex."""
        cdef uint32_t index, k, quarantined
        for k in range(self.c.pool_count):
            if self.c.pools[k].withheld == self.set_apart[k]:
                continue
            quarantined = 0
            for index in range(self.segment.c.max_subscribers):
                if zs_peer_is_evicted(&self.segment.c, index):
                    quarantined += self.slots_of(index, k)
            while self.c.pools[k].withheld + quarantined < self.set_apart[k] and zs_owner_withhold(&self.c, k):
                self.missing = self.missing - 1

    def is_evicted(self, uint32_t index):
        """Whether the subscriber that is at `index` now has been evicted."""
        if index >= self.segment.c.max_subscribers:
            raise IndexError(index)
        return bool(zs_peer_is_evicted(&self.segment.c, index))

    cdef str noun(self):
        return "publisher"

    cdef void take_back(self, Hold hold) noexcept:
        zs_owner_let_go(&self.c, hold.slot)
        self.loan_ended()

    cdef object read_only_error(self, Hold hold):
        if hold.writable_in != 0:
            return forked("loan")
        return errors.ClosedError("this sample was committed or discarded: it can be read, and no longer written")

    cdef bint waits_in_vain(self, uint32_t count) noexcept:
        """Whether this thread has borrowed every loan itself and needs `count` more than max_loans allows, or
        on_full="raise" does not wait for a subscriber.
        """
        if self.c.loans_out + count > self.max_loans and self.has_borrowed_all(this_thread()):
            return True
        return self.segment.c.policy == ZS_RAISE and zs_owner_room(&self.c) < count

    cdef bint has_borrowed_all(self, uint64_t thread) noexcept:
        cdef uint32_t slot
        for slot in range(self.c.slot_count):
            if self.c.state[slot] == ZS_LOANED and self.borrowers[slot] != thread:
                return False
        return True

    cdef Hold reserve(self, uint64_t size):
        """A loaned slot for `size` bytes. None: there is none, as `reserve_slot` says."""
        cdef uint32_t slot = self.reserve_slot(size)
        return None if slot == ZS_NO_SLOT else self.hold_of(slot, size)

    cdef inline uint32_t reserve_slot(self, uint64_t size) except? 0xFFFFFFFF:
        """A loaned slot for `size` bytes, of the smallest class that has one free. ZS_NO_SLOT: none has, max_loans
        are out, or a reliable subscriber is behind.
        """
        cdef uint32_t slot = ZS_NO_SLOT
        cdef uint32_t index
        self.check()
        zs_lock(&self.mutex)
        if self.missing != 0:
            self.refill()
        if self.c.loans_out < self.max_loans and not zs_owner_window_full(&self.c, &index):
            slot = zs_owner_reserve_bytes(&self.c, size + self.room)
            if slot != ZS_NO_SLOT:
                self.borrowers[slot] = this_thread()
        zs_unlock(&self.mutex)
        return slot

    cdef inline Hold hold_of(self, uint32_t slot, uint64_t size):
        """The Hold of a slot that was reserved for `size` bytes."""
        cdef Hold hold = <Hold>zs_new_hold()
        hold.side = self
        hold.slot = slot
        hold.data = <char *>zs_owner_payload(&self.c, slot)
        hold.size = size
        hold.capacity = self.c.pools[self.c.pool_of[slot]].slot_capacity - self.room
        if self.metadata is not None:
            self.metadata[slot] = None
        hold.fork = hold.writable_in = zs_fork_generation
        return hold

    cdef list reserve_all(self, uint32_t count, uint64_t size):
        """As many loaned slots, or None: as `reserve` says, for all of them at once."""
        cdef list slots = [ZS_NO_SLOT] * count
        cdef uint32_t slot
        cdef uint32_t got = 0
        self.check()
        zs_lock(&self.mutex)
        if self.missing != 0:
            self.refill()
        if self.c.loans_out + count <= self.max_loans and zs_owner_room(&self.c) >= count:
            while got < count:
                slot = zs_owner_reserve_bytes(&self.c, size + self.room)
                if slot == ZS_NO_SLOT:
                    break
                self.borrowers[slot] = this_thread()
                slots[got] = slot
                got += 1
            if got < count:
                while got > 0:
                    got -= 1
                    slot = slots[got]
                    zs_owner_unreserve(&self.c, slot)
                    zs_owner_let_go(&self.c, slot)
        zs_unlock(&self.mutex)
        return [self.hold_of(slot, size) for slot in slots] if got == count else None

    def too_large(
        self, uint64_t size, str advice="Create the segment with larger slots", total_bytes=None, max_bytes=None
    ):
        """The error for a sample that fits no slot; with `max_bytes`, for one that has more."""
        cdef list capacities = self.capacities
        cdef uint64_t largest = self.largest()
        cdef str slots = f"a slot of {largest}"
        if len(capacities) > 1:
            slots = f"any slot; this segment has slots of {', '.join(map(str, capacities))} bytes"
        if max_bytes is not None:
            slots, largest = f"max_bytes={max_bytes}", max_bytes
        where = "" if self.topic is None else f"{self.topic}: "
        total = "" if total_bytes is None else f" ({total_bytes} bytes in total)"
        bytes_text = f"{size} bytes" if size <= LARGEST_SAMPLE else f"more than {LARGEST_SAMPLE} bytes"
        return errors.SampleTooLargeError(
            f"{where}{bytes_text} do not fit {slots}{total}. {advice}",
            topic=self.topic, size=size, capacity=largest, capacities=tuple(capacities), total_bytes=total_bytes,
        )

    cdef void count_no_slot(self, uint64_t size) noexcept:
        """Count a loan of `size` bytes that found no slot."""
        cdef zs_owner_pool *pool
        zs_count(&self.segment.c.counters.no_free_slot, 1)
        pool = zs_owner_smallest_fit(&self.c, size + self.room)
        if pool != NULL:
            zs_count(&pool.entry.no_free_slot, 1)

    cdef uint64_t commit(self, Hold hold, uint64_t size) except 0:
        """Publish a loan. Afterwards nothing of this process can write to it but slices taken of its arrays."""
        cdef uint64_t n
        cdef uint32_t flags = 0
        cdef uint32_t crc = 0
        self.check()
        with cython.critical_section(hold):
            self.check_complete(hold)
            hold.freeze()
        hold.size = size
        if self.flagged:
            flags = self.describe(hold, &crc)
        hold.published_ns = sample_ns()
        zs_lock(&self.mutex)
        n = zs_owner_place_flagged(&self.c, hold.slot, size, hold.published_ns, flags, crc)
        zs_owner_announce(&self.c)
        zs_owner_retire_oldest(&self.c)
        zs_unlock(&self.mutex)
        hold.sequence = n
        self.loan_ended()
        return n

    cdef uint64_t commit_slot(self, uint32_t slot, uint64_t size) except 0:
        """Publish a slot of `reserve_slot` that has no Hold, of an owner that is not `flagged`."""
        cdef uint64_t n, now
        if self.closed or self.fork != zs_fork_generation:
            self.discard_slot(slot)
            self.reject_use()
        now = sample_ns()
        zs_lock(&self.mutex)
        n = zs_owner_place_flagged(&self.c, slot, size, now, 0, 0)
        zs_owner_announce(&self.c)
        zs_owner_retire_oldest(&self.c)
        zs_unlock(&self.mutex)
        zs_owner_let_go(&self.c, slot)
        self.loan_ended()
        return n

    cdef void discard_slot(self, uint32_t slot) noexcept:
        """Give back a slot of `reserve_slot` that has no Hold."""
        if self.fork == zs_fork_generation:
            zs_lock(&self.mutex)
            zs_owner_discard(&self.c, slot)
            zs_unlock(&self.mutex)
            zs_owner_let_go(&self.c, slot)
            self.loan_ended()

    cdef inline int check_complete(self, Hold hold) except -1:
        """Raise unless a loan can be committed."""
        if not hold.is_writable():
            raise errors.ClosedError("this loan was committed or discarded already")
        if hold.exports > 0:
            raise BufferError(
                "a writable memoryview of this loan is still alive, or a field is being written: release it "
                "(`del`, or `with memoryview(...)`) before the commit"
            )
        return 0

    cdef uint64_t commit_all(self, list holds) except 0:
        """Publish loans in this order, each with its size; the sequence of the last one. All or, if it raises, none."""
        cdef uint64_t now
        cdef uint32_t flags, crc
        cdef uint32_t placed = 0
        cdef Hold hold
        self.check()
        for hold in holds:
            self.check_complete(hold)
        for hold in holds:
            with cython.critical_section(hold):
                hold.freeze()
        now = sample_ns()
        for hold in holds:
            flags = crc = 0
            if self.flagged:
                flags = self.describe(hold, &crc)
            hold.published_ns = now
            zs_lock(&self.mutex)
            hold.sequence = zs_owner_place_flagged(&self.c, hold.slot, hold.size, now, flags, crc)
            zs_owner_retire_oldest(&self.c)
            placed += 1
            if placed % ZS_BATCH == 0 or placed == <uint32_t>len(holds):
                zs_owner_announce(&self.c)
            zs_unlock(&self.mutex)
        self.loan_ended()
        return hold.sequence

    cdef uint32_t describe(self, Hold hold, uint32_t *crc) noexcept:
        """Write what the options add to a payload that is complete; the slot's flags."""
        cdef uint32_t flags = 0
        cdef bytes block
        if self.metadata is not None:
            block = self.metadata[hold.slot]
            if block is not None:
                memcpy(hold.data + ZS_METADATA_AT(hold.size), <const char *>block, ZS_METADATA_SIZE)
                flags |= ZS_SLOT_METADATA
        if self.crc:
            crc[0] = crc_of(hold)
            flags |= ZS_SLOT_CRC
        return flags

    cdef int64_t publish_copies(self, const zs_samples *samples, uint32_t count, uint64_t *newest) except -1:
        """Publish copies of up to `count` samples of private memory, at most ZS_BATCH: how many. Fewer: as `reserve`
        says. `newest` gets the sequence of the last one.
        """
        cdef uint32_t published
        self.check()
        zs_lock(&self.mutex)
        if self.missing != 0:
            self.refill()
        published = zs_owner_publish_copies(&self.c, samples, count, self.max_loans)
        newest[0] = self.c.published
        zs_unlock(&self.mutex)
        return published

    cdef inline void loan_ended(self) noexcept:
        """Another thread may wait for a slot, or for max_loans to allow one more."""
        if zs_load32(self.segment.c.waiting, ZS_WAITING_LOAD) != 0:  # SYNC space
            zs_bump_space(&self.segment.c)

    cdef void discard(self, Hold hold) noexcept:
        """Give a loan back, unless it has been given back. Harmless in a forked child and after close."""
        cdef bint is_loaned
        with cython.critical_section(hold):
            is_loaned = hold.is_writable()
            hold.freeze()
        if is_loaned:
            zs_lock(&self.mutex)
            zs_owner_discard(&self.c, hold.slot)
            zs_unlock(&self.mutex)
            self.loan_ended()
