# Part of binding.pyx: a reader's side of a segment.


@cython.final
@cython.no_gc
cdef class Reader(Side):
    """One subscriber's side of one segment, or what redeems the tickets of this process for one segment. It keeps its
    lock until it is closed and its last lease has ended.
    """

    cdef zs_reader c
    cdef zs_identity identity
    cdef uint32_t sleepers
    cdef object map_pools       # maps what the pool table says; False where a pool was removed
    cdef uint32_t pools_seen    # pool_generation when the pools were mapped last
    cdef bint one_clock         # the owner's times are of this process's clock domain
    cdef readonly bint broken   # evicted, or the segment is corrupt
    cdef readonly bint evicted
    cdef tuple owned_by         # (uid, gid) of the control object; None: it has no name

    def __cinit__(self, Segment segment not None, Descriptor lock, *, uint32_t index, uint32_t max_leases,
                  bint reliable, uint32_t pid, uint64_t start_time, str name not None, uint32_t history, after=None,
                  uint64_t time_namespace=0, map_pools=None, tuple owned_by=None, bint tickets=False,
                  str topic=None, uint64_t announcement=0, bint announced=False):
        """Join as `index`, whose lock `lock` holds and whose predecessor has been cleared.

        The first sample is the one after the sequence `after`; None: `history` samples before the next one. What of it
        can no longer be taken is lost.

        `map_pools` is called, without arguments, for a sample in a pool that is not mapped yet; it returns False where
        the pool is gone. `tickets`: it redeems tickets, and does not become a subscriber.

        `announcement`: the id of the one that this subscription answers. `announced`: it was made before the segment
        could be found, so the owner waits for it.
        """
        if index >= segment.c.max_subscribers:
            raise IndexError(index)
        if segment.slot_count == 0:
            raise ValueError("no pool is mapped")
        self.c.held = <uint32_t *>PyMem_RawCalloc(segment.c.slot_limit, sizeof(uint32_t))
        if self.c.held == NULL:
            raise MemoryError
        if tickets:
            self.c.redeemed = <uint64_t *>PyMem_RawCalloc(segment.c.slot_limit, sizeof(uint64_t))
            if self.c.redeemed == NULL:
                raise MemoryError
        self.owned_by, self.topic = owned_by, topic
        self.c.segment = &segment.c
        self.c.index, self.c.max_leases, self.c.reliable = index, max_leases, reliable
        self.c.announced, self.identity.announcement = announced, announcement
        self.segment = segment
        self.use_pools()
        self.map_pools = map_pools
        self.pools_seen = segment.pool_count
        self.one_clock = time_namespace == segment.c.time_namespace
        self.lock = lock
        self.fork = zs_fork_generation
        self.identity.pid, self.identity.start_time, self.identity.time_namespace = pid, start_time, time_namespace
        put_text(self.identity.name, sizeof(self.identity.name), name)
        segment.check_whole()
        if tickets:
            zs_reader_join_for_tickets(&self.c, &self.identity)
        elif not zs_reader_join(&self.c, &self.identity, history, ZS_AFTER_HISTORY if after is None else after):
            self.close()
            raise self.refused(ZS_TAKE_CORRUPT)

    def __dealloc__(self):
        self.close()
        PyMem_RawFree(self.c.held)
        PyMem_RawFree(self.c.redeemed)

    cpdef void close(self) noexcept:
        """Leave. Leases stay good; the lock falls with the last of them."""
        cdef bint first
        if self.fork != zs_fork_generation:
            self.closed = True
            return      # without the mutex, which a thread of the parent may hold
        zs_lock(&self.mutex)
        first, self.closed = not self.closed, True
        zs_unlock(&self.mutex)
        if first and self.c.segment != NULL and self.c.peer != NULL:
            zs_reader_unpark(&self.c)
            zs_reader_leave(&self.c)
            self.free_index()

    def rejoin(self):
        """Register again after an eviction, at the same index, behind the sample that was taken last.

        Raises TooManyLeasesError while any sample from before the eviction is held.
        """
        cdef uint64_t taken = self.c.taken
        cdef uint64_t lost = self.c.lost
        cdef uint64_t skipped = self.c.skipped
        cdef bint whole
        if not self.evicted:
            return
        if zs_reader_leases(&self.c) != 0:
            raise errors.TooManyLeasesError(
                f"{zs_reader_leases(&self.c)} samples that were taken before the eviction are still held. Release "
                "them, and delete their views and arrays, before rejoin()",
                held=zs_reader_leases(&self.c), max_leases=self.c.max_leases,
            )
        zs_lock(&self.mutex)
        zs_reader_leave(&self.c)
        whole = zs_reader_join(&self.c, &self.identity, 0, self.c.cursor)
        self.c.released = taken
        self.c.taken, self.c.lost, self.c.skipped = taken, lost + self.c.lost, skipped
        zs_count(&self.c.peer.taken, taken)
        zs_count(&self.c.peer.lost, lost)
        zs_count(&self.c.peer.skipped, skipped)
        self.broken = self.evicted = False
        zs_unlock(&self.mutex)
        if not whole:
            raise self.refused(ZS_TAKE_CORRUPT)

    cdef void free_index(self) noexcept:
        """Once closed, the lock falls with the last lease and the last sleeper, also while the handle is kept.

        After the close no thread takes or parks, so nothing here touches what a successor at this index writes. No
        Python method is called: the last lease may end while an exception is raised.
        """
        if zs_reader_leases(&self.c) == 0 and self.sleepers == 0 and self.lock is not None:
            zs_descriptor_close(&self.lock.c)

    @property
    def index(self):
        return self.c.index

    @property
    def cursor(self):
        """The sequence that was taken last."""
        return self.c.cursor

    @property
    def counts(self):
        """(taken, lost, skipped, leases)"""
        return self.c.taken, self.c.lost, self.c.skipped, zs_reader_leases(&self.c)

    @property
    def ready(self):
        """Whether take would find something."""
        return bool(zs_reader_ready(&self.c))

    @property
    def over(self):
        """Whether nothing more can be taken through this reader: it was closed, has raised EvictedError or
        that the segment is corrupt, or has taken or counted all that an ended segment published.
        """
        # The state first: what the ring shows after that is all that it will ever have.
        return self.closed or self.broken or (zs_segment_state(&self.segment.c) != ZS_OPEN and not self.has_news())

    cdef bint has_news(self) noexcept:
        """Whether take would give a sample or raise."""
        cdef zs_take result = ZS_TAKE_NONE
        if zs_reader_ready(&self.c) or (zs_reader_is_evicted(&self.c) and not self.broken):
            return True
        if zs_segment_state(&self.segment.c) != ZS_OPEN:
            zs_lock(&self.mutex)
            if not self.closed and not self.broken:
                result = zs_reader_finish(&self.c)
            zs_unlock(&self.mutex)
        return result == ZS_TAKE_CORRUPT or zs_reader_ready(&self.c)

    cdef str noun(self):
        return "subscriber" if self.c.redeemed == NULL else "reader of tickets"

    cdef void take_back(self, Hold hold) noexcept:
        if self.c.redeemed == NULL:
            zs_reader_release(&self.c, hold.slot)
        else:
            zs_lock(&self.mutex)    # several leases may share a bit, and another thread may redeem in this slot
            zs_reader_release_redeemed(&self.c, hold.slot)
            zs_unlock(&self.mutex)
        if self.closed:
            self.free_index()

    cdef object read_only_error(self, Hold hold):
        return TypeError(
            "a received sample is read-only: the publisher's memory is mapped without the right to write. "
            "Use lease.copy()"
        )

    cdef uint32_t park(self) noexcept:
        """One more thread may fall asleep; the generation to sleep on."""
        cdef uint32_t generation
        zs_lock(&self.mutex)
        self.sleepers += 1
        if self.closed:
            generation = zs_load32(self.segment.c.generation, ZS_GENERATION_LOAD)
        else:
            generation = zs_reader_park(&self.c)
        zs_unlock(&self.mutex)
        return generation

    cdef void unpark(self) noexcept:
        """One thread is awake again. Only the last clears the bit: it speaks for all of them."""
        cdef bint closed
        zs_lock(&self.mutex)
        self.sleepers -= 1
        closed = self.closed
        if self.sleepers == 0 and not closed:
            zs_reader_unpark(&self.c)
        zs_unlock(&self.mutex)
        if closed:
            self.free_index()

    cdef void use_pools(self) noexcept:
        """Take samples from the pools that are mapped now. Under the mutex once others know the reader."""
        cdef Segment segment = self.segment
        self.c.slot_count = segment.slot_count
        self.c.payload, self.c.payload_stride = <const uint8_t *>segment.pool_data[0], segment.pool_capacity[0]
        if segment.pool_count > 1:
            self.c.payload = NULL

    cdef inline bint has_new_pools(self) noexcept:
        """Whether the owner has added a pool since the pools were mapped last."""
        return zs_load32(self.segment.c.pool_generation, ZS_ACQUIRE) != self.pools_seen

    cdef int map_new_pools(self) except -1:
        """Map the pools that the owner has added, before a sample is in them: an owner that closes removes their names,
        and what is mapped then can still be read.

        What can succeed later, such as a mapping while there is no free descriptor, is tried again by the next look. An
        error about the pool table is raised once here, and again by the sample that needs the pool.
        """
        cdef uint32_t seen = zs_load32(self.segment.c.pool_generation, ZS_ACQUIRE)
        if self.map_pools is not None:
            try:
                self.map_pools()
            except OSError:
                return 0
            except errors.CorruptSegmentError:
                self.pools_seen = seen
                raise
            zs_lock(&self.mutex)
            if self.segment.slot_count > self.c.slot_count:
                self.use_pools()
            zs_unlock(&self.mutex)
        self.pools_seen = seen
        return 0

    cdef int map_more(self, bint newest) except -1:
        """Map the pools that the owner has added. A sample whose pool was removed counts as lost.

        What mapping raises, no free descriptor for example, leaves everything as it was: the next call tries again.
        """
        cdef uint32_t known = self.c.slot_count
        cdef bint there = self.map_pools is not None and self.map_pools()
        cdef uint64_t sequence
        zs_lock(&self.mutex)
        try:
            if self.closed or self.segment.slot_count > known or self.c.slot_count > known:
                self.use_pools()
            elif self.map_pools is None or there:
                raise self.refused(ZS_TAKE_CORRUPT)
            else:
                sequence = zs_load64(self.segment.c.published, ZS_ACQUIRE) if newest else self.c.cursor + 1
                zs_reader_lose(&self.c, sequence)
        finally:
            zs_unlock(&self.mutex)
        return 0

    cdef Hold take(self, bint newest):
        """A leased slot, or None: nothing new."""
        cdef uint32_t slot = 0
        cdef zs_take result
        cdef Hold hold
        cdef uint64_t sequence
        while True:
            zs_lock(&self.mutex)
            if self.closed:
                result = ZS_TAKE_NONE   # its index may be another's already
            else:
                result = zs_reader_latest(&self.c, &slot) if newest else zs_reader_take(&self.c, &slot)
                if result == ZS_TAKE_NONE and zs_segment_state(&self.segment.c) != ZS_OPEN:
                    result = zs_reader_finish(&self.c)
                    if result == ZS_TAKE_NONE and zs_reader_ready(&self.c):
                        result = zs_reader_take(&self.c, &slot)
            sequence = self.c.cursor
            zs_unlock(&self.mutex)
            if result == ZS_TAKE_NONE:
                return None
            if result == ZS_TAKE_LEASED:
                break
            if result != ZS_TAKE_UNMAPPED:
                raise self.refused(result)
            self.map_more(newest)
        hold = self.hold_of(slot, sequence)
        if self.c.taken % ZS_SAMPLED == 0:
            self.count_latency(hold.published_ns)
        return hold

    cdef inline Hold hold_of(self, uint32_t slot, uint64_t sequence):
        """The Hold of a lease that was just made."""
        cdef zs_slot *entry
        cdef Hold hold = <Hold>zs_new_hold()
        hold.side = self
        hold.slot = slot
        hold.fork = zs_fork_generation
        entry = zs_slot_at(&self.segment.c, slot)
        hold.data = self.segment.slot_data(slot, &hold.capacity)
        hold.size = zs_load64(&entry.size, ZS_RELAXED)
        hold.published_ns = zs_load64(&entry.published_ns, ZS_RELAXED)
        hold.sequence = sequence
        if hold.size > hold.capacity:
            raise errors.CorruptSegmentError(
                f"sample {hold.sequence} has a size of {hold.size} bytes in a slot of {hold.capacity}",
                found=hold.size, expected=hold.capacity,
            )
        return hold

    cdef inline void count_latency(self, uint64_t published_ns) noexcept:
        """Count the age of a sample that is being taken, where the publisher's clock is the clock of this process."""
        cdef uint64_t now
        if self.one_clock:
            now = sample_ns()
            zs_reader_count_latency(&self.c, now - published_ns if now > published_ns else 0)

    cdef Ticket ticket_of(self, Hold hold):
        """A ticket of a leased sample."""
        self.check_fork()
        if self.owned_by is None:
            raise ValueError(
                "a segment in memory has no name by which another process could find it. Create one with a flink"
            )
        zs_slot_refer(&self.segment.c, hold.slot, hold.sequence)
        uid, gid = self.owned_by
        return Ticket(f"{self.segment.header.segment_id:016x}", hold.slot, hold.sequence, uid, gid, self.topic)

    cdef Hold lease_by(self, Ticket ticket, uint32_t max_leases):
        """Lease the sample of a ticket of this segment; None: it is gone. At most `max_leases` are held then."""
        cdef zs_take result
        cdef uint32_t mapped
        cdef bint there
        while True:
            self.check()
            zs_lock(&self.mutex)
            self.c.max_leases = max_leases
            if max_leases > zs_load32(&self.c.peer.max_leases, ZS_RELAXED):
                zs_store32(&self.c.peer.max_leases, max_leases, ZS_RELAXED)
            result = zs_reader_redeem(&self.c, ticket.slot, ticket.sequence) if not self.closed else ZS_TAKE_NONE
            if result == ZS_TAKE_EVICTED and zs_reader_leases(&self.c) == 0:
                zs_reader_join_for_tickets(&self.c, &self.identity)
                result = zs_reader_redeem(&self.c, ticket.slot, ticket.sequence)
            mapped = self.c.slot_count
            zs_unlock(&self.mutex)
            if result == ZS_TAKE_LEASED:
                return self.hold_of(ticket.slot, ticket.sequence)
            if result == ZS_TAKE_NONE:
                return None
            if result != ZS_TAKE_UNMAPPED:
                raise self.not_redeemed(result)
            there = self.map_pools()
            zs_lock(&self.mutex)
            self.use_pools()
            there = there and self.c.slot_count > mapped
            zs_unlock(&self.mutex)
            if not there:
                return None

    cdef object not_redeemed(self, zs_take result):
        if result == ZS_TAKE_TOO_MANY:
            return errors.TooManyLeasesError(
                f"this process holds {zs_reader_leases(&self.c)} samples{of_topic(self.topic)} by tickets, and "
                f"max_leases is {self.c.max_leases}. Release leases, and let go of views and arrays, or redeem with a "
                "larger max_leases",
                topic=self.topic, held=zs_reader_leases(&self.c), max_leases=self.c.max_leases,
            )
        return errors.EvictedError(
            f"the publisher{of_topic(self.topic)} has ended the registration by which this process redeems tickets: it "
            "held samples for longer than evict_after. What it holds stays good. Release it all, and redeem again",
            topic=self.topic,
        )

    cdef object metadata_of(self, Hold hold):
        """What the publisher says of a leased sample; None: nothing."""
        cdef uint64_t at = ZS_METADATA_AT(hold.size)
        if not zs_load32(&zs_slot_at(&self.segment.c, hold.slot).flags, ZS_RELAXED) & ZS_SLOT_METADATA:
            return None
        where = self.topic or "this segment"
        if at + ZS_METADATA_SIZE > hold.capacity:
            raise errors.CorruptSegmentError(
                f"{where}: sample {hold.sequence} of {hold.size} bytes leaves no room for metadata in its slot of "
                f"{hold.capacity}. Start its publisher again",
                where=where, topic=self.topic, field="metadata", found=hold.size, expected=hold.capacity,
            )
        return unpack_metadata(hold.data + at, where)

    cdef bint verify(self, Hold hold) except -1:
        """Whether a leased sample carries a CRC. Raises CorruptSegmentError when it is not that of the payload."""
        cdef zs_slot *entry = zs_slot_at(&self.segment.c, hold.slot)
        cdef uint32_t crc = zs_load32(&entry.crc, ZS_RELAXED)
        cdef uint32_t found
        if not zs_load32(&entry.flags, ZS_RELAXED) & ZS_SLOT_CRC:
            return False
        found = crc_of(hold)
        if found != crc:
            where = self.topic or "this segment"
            raise errors.CorruptSegmentError(
                f"{where}: sample {hold.sequence} has CRC {found:08x}, and its publisher computed {crc:08x}: the "
                f"{hold.size} bytes were changed after the commit. Start its publisher again",
                where=where, topic=self.topic, found=found, expected=crc,
            )
        return True

    cdef object refused(self, zs_take result):
        """What to raise. After this nothing more can be taken through this reader, unless it holds too many."""
        self.broken = result != ZS_TAKE_TOO_MANY
        self.evicted = result == ZS_TAKE_EVICTED
        if result == ZS_TAKE_TOO_MANY:
            return errors.TooManyLeasesError(
                f"max_leases is {self.c.max_leases}, and as many samples are held. Release leases, and delete views "
                "and arrays of old samples (a `for lease in ...` still holds the last one), or subscribe "
                "with a larger max_leases",
                held=self.c.max_leases, max_leases=self.c.max_leases,
            )
        if result == ZS_TAKE_EVICTED:
            return errors.EvictedError(
                "the publisher has evicted this subscriber: it was behind, or held samples, longer than evict_after. "
                "Its leases stay valid. A Subscriber joins again with its next call, a SlotReader with rejoin()"
            )
        return errors.CorruptSegmentError(
            "the control object holds what no publisher writes. Start the publisher again", where="the control object"
        )
