# Part of binding.pyx: the owner's side of a segment.


@cython.final
@cython.no_gc
cdef class Owner(Side):
    """The owner's side of a segment. Everything that decides is in private memory."""

    cdef zs_owner c
    cdef void *memory
    cdef uint64_t *borrowers    # the thread that reserved each slot; counts while the slot is loaned
    cdef readonly uint32_t max_loans
    cdef uint32_t reserve_slots
    cdef bint crc               # each sample gets its CRC
    cdef list metadata          # [slot] the packed metadata of a loan, or None. None: samples have no metadata
    cdef bint flagged           # whether a commit has anything to do for these two

    def __cinit__(self, Segment segment not None, Descriptor lock, uint32_t max_loans, uint32_t reserve_slots=0,
                  bint crc=False, bint metadata=False):
        """`reserve_slots` are given out only in place of slots that evicted subscribers still hold. With `metadata`
        each slot has METADATA_ROOM bytes behind the largest payload.
        """
        self.memory = PyMem_RawCalloc(1, zs_owner_memory(segment.slot_count, segment.c.ring_capacity))
        if self.memory == NULL:
            raise MemoryError
        self.borrowers = <uint64_t *>PyMem_RawCalloc(segment.slot_count, sizeof(uint64_t))
        if self.borrowers == NULL:
            raise MemoryError
        self.segment = segment
        self.lock = lock
        self.max_loans = max_loans
        self.crc, self.flagged = crc, crc or metadata
        if metadata:
            self.metadata = [None] * segment.slot_count
        self.fork = zs_fork_generation
        zs_owner_init(&self.c, &segment.c, segment.slot_count, self.memory)
        self.reserve_slots = self.c.withheld = min(reserve_slots, segment.slot_count)

    def __dealloc__(self):
        PyMem_RawFree(self.memory)
        PyMem_RawFree(self.borrowers)

    def refuse(self):
        """Refuse from now on. The lock stays, so that no cleaner meets an owner that removes its names."""
        self.closed = True

    def close(self):
        """Refuse from now on, and free the lock."""
        self.closed = True
        if self.lock is not None:
            self.lock.close()

    @property
    def unlocked(self):
        """Whether it was closed, and not only refuses."""
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
        return self.c.withheld

    @property
    def free_count(self):
        """Slots that a reserve could get at once."""
        cdef uint32_t slot
        cdef uint32_t count = self.c.free_count - self.c.withheld
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

    def blocking_subscriber(self):
        """The index of the reliable subscriber whose full window forbids another loan, or None."""
        cdef uint32_t index = 0
        return index if zs_owner_window_full(&self.c, &index) else None

    def evict(self, uint32_t index):
        """Evict the subscriber at `index`: it may take no more, and no loan waits for it.

        What it holds is replaced from the reserve, as far as that goes.
        """
        if index >= self.segment.c.max_subscribers:
            raise IndexError(index)
        zs_owner_evict(&self.c, index)
        zs_lock(&self.mutex)
        self.c.withheld -= min(self.c.withheld, self.slots_of(index))
        zs_unlock(&self.mutex)
        zs_bump_space(&self.segment.c)

    cdef uint32_t slots_of(self, uint32_t index) noexcept nogil:
        """How many slots carry the reader bit `index`."""
        cdef uint64_t word
        cdef uint32_t slot
        cdef uint32_t count = 0
        for slot in range(self.c.slot_count):
            word = zs_load64(zs_slot_readers(&self.segment.c, slot) + index // 64, ZS_RELAXED)
            count += word >> (index % 64) & 1
        return count

    cdef void refill(self) noexcept nogil:
        """Keep back again what was given out for subscribers that have let go meanwhile. Under the mutex."""
        cdef uint32_t index
        cdef uint32_t quarantined = 0
        for index in range(self.segment.c.max_subscribers):
            if zs_peer_is_evicted(&self.segment.c, index):
                quarantined += self.slots_of(index)
        while self.c.withheld + quarantined < self.reserve_slots and zs_owner_withhold(&self.c):
            pass

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

    cdef bint waits_in_vain(self) noexcept:
        """Whether this thread has borrowed every loan itself, or on_full="raise" does not wait for a subscriber."""
        cdef uint32_t index
        if self.c.loans_out >= self.max_loans and self.has_borrowed_all(this_thread()):
            return True
        return self.segment.c.policy == ZS_RAISE and zs_owner_window_full(&self.c, &index)

    cdef bint has_borrowed_all(self, uint64_t thread) noexcept:
        cdef uint32_t slot
        for slot in range(self.c.slot_count):
            if self.c.state[slot] == ZS_LOANED and self.borrowers[slot] != thread:
                return False
        return True

    cdef Hold reserve(self):
        """A loaned slot, or None: no slot is free, max_loans are out, or a reliable subscriber is behind."""
        cdef uint32_t slot = ZS_NO_SLOT
        cdef uint32_t index
        cdef Hold hold
        self.check()
        zs_lock(&self.mutex)
        if self.c.withheld < self.reserve_slots:
            self.refill()
        if self.c.loans_out < self.max_loans and not zs_owner_window_full(&self.c, &index):
            slot = zs_owner_reserve(&self.c)
            if slot != ZS_NO_SLOT:
                self.borrowers[slot] = this_thread()
        zs_unlock(&self.mutex)
        if slot == ZS_NO_SLOT:
            return None
        hold = Hold.__new__(Hold)
        hold.side = self
        hold.slot = slot
        hold.data = self.segment.slot_data(slot, &hold.size)
        if self.metadata is not None:
            self.metadata[slot] = None
            hold.size -= METADATA_ROOM
        hold.fork = hold.writable_in = zs_fork_generation
        return hold

    cdef uint64_t commit(self, Hold hold, uint64_t size) except 0:
        """Publish a loan. Afterwards nothing of this process can write to it but slices taken of its arrays."""
        cdef uint64_t n
        cdef uint32_t flags = 0
        cdef uint32_t crc = 0
        self.check()
        with cython.critical_section(hold):
            if not hold.is_writable():
                raise errors.ClosedError("this loan was committed or discarded already")
            if hold.exports > 0:
                raise BufferError(
                    "a writable memoryview of this loan is still alive, or a field is being written: release it "
                    "(`del`, or `with memoryview(...)`) before the commit"
                )
            hold.freeze()
        hold.size = size
        if self.flagged:
            flags = self.describe(hold, &crc)
        hold.published_ns = zs_now_ns()
        zs_lock(&self.mutex)
        n = zs_owner_place_flagged(&self.c, hold.slot, size, hold.published_ns, flags, crc)
        zs_owner_announce(&self.c)
        zs_owner_retire_oldest(&self.c)
        zs_unlock(&self.mutex)
        hold.sequence = n
        self.loan_ended()
        return n

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

    cdef inline void loan_ended(self) noexcept:
        """Another thread may wait for max_loans to allow one more."""
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
