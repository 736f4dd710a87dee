# Part of binding.pyx: descriptors, mappings, and a segment that is mapped.


@cython.final
@cython.no_gc
cdef class Descriptor:
    """An open file description, which may hold locks. Forked children and started programs never have it."""

    cdef zs_descriptor c

    def __cinit__(self):
        self.c.fd = -1

    def __init__(self, *arguments):
        raise TypeError("descriptors come from Descriptor.open()")

    @staticmethod
    def open(str path not None, int flags, unsigned mode=0o600):
        """Open a file as os.open does. Raises OSError."""
        cdef Descriptor self = Descriptor.__new__(Descriptor)
        cdef bytes encoded = os.fsencode(path)
        cdef char *name = NULL
        cdef int opened
        cdef int why = 0
        PyBytes_AsStringAndSize(encoded, &name, NULL)   # refuses a NUL in the middle
        while True:
            with nogil:
                opened = zs_descriptor_open(&self.c, name, flags, mode)
                why = errno
            if opened:
                return self
            if why != EINTR:
                raise OSError(why, os.strerror(why), path)
            PyErr_CheckSignals()

    def __dealloc__(self):
        zs_descriptor_close(&self.c)

    def fileno(self):
        """The descriptor, or -1 when it is closed."""
        return self.c.fd

    def close(self):
        """Close it, and free its locks. A second call does nothing."""
        zs_descriptor_close(&self.c)

    def try_lock(self, long byte, bint shared=False, long count=1):
        """Lock `count` bytes from `byte` on for this description, all or none. False: another description holds one."""
        return self.fcntl_lock(F_OFD_SETLK, F_RDLCK if shared else F_WRLCK, byte, count) == 0

    def unlock(self, long byte):
        """Drop this description's lock on one byte."""
        self.fcntl_lock(F_OFD_SETLK, F_UNLCK, byte)

    def is_locked(self, long byte):
        """Whether another description holds the byte. A description does not see locks of its own."""
        return self.fcntl_lock(F_OFD_GETLK, F_WRLCK, byte) != 0

    def lock_length(self, long byte):
        """How many bytes the lock has that another description holds over this byte; 0: there is none."""
        return self.fcntl_lock(F_OFD_GETLK, F_WRLCK, byte)

    cdef long fcntl_lock(self, int command, short kind, long byte, long count=1) except -1:
        """The length of the lock that a query found, 0 for none. For the others 0: done, 1: another one is held."""
        cdef zs_flock range
        memset(&range, 0, sizeof(range))
        range.l_type, range.l_whence, range.l_start, range.l_len = kind, 0, byte, count
        if fcntl(self.c.fd, command, &range) == 0:
            if command != F_OFD_GETLK or range.l_type == F_UNLCK:
                return 0
            return range.l_len if range.l_len > 0 else ZS_ENDLESS
        if errno == EAGAIN or errno == EACCES:
            return 1
        raise OSError(errno, "fcntl")

    def __reduce__(self):
        raise unpicklable(self)


@cython.final
@cython.no_gc
cdef class Region:
    """One mapping of a shared-memory object, unmapped with the last reference. Offsets and sizes are bytes.

    In a forked child a writable one is private memory, or read-only where the descriptor that it was mapped through is
    closed.
    """

    cdef zs_mapping mapping
    cdef Descriptor through     # of a writable one
    cdef char *data
    cdef readonly size_t size
    cdef readonly bint writable

    def __cinit__(self, Descriptor through not None, size_t size, bint writable):
        """A description keeps its locks for as long as something is mapped through it: map through one without."""
        if size == 0:
            raise ValueError("an empty object cannot be mapped")
        if not zs_mapping_map(&self.mapping, &through.c, size, writable):
            raise OSError(errno, "mmap")
        self.through = through if writable else None
        self.data = <char *>self.mapping.address
        self.size = size
        self.writable = writable

    def __dealloc__(self):
        zs_mapping_unmap(&self.mapping)

    cdef int check(self, size_t at, size_t count) except -1:
        if at > self.size or count > self.size - at:
            raise IndexError(f"{count} bytes at {at} leave a region of {self.size}")
        return 0

    def read(self, size_t at, size_t count):
        """A copy of `count` bytes."""
        self.check(at, count)
        return self.data[at:at + count]

    def write(self, size_t at, const unsigned char[::1] content not None):
        """Write bytes; for what is not shared yet."""
        self.check(at, <size_t>content.shape[0])
        if not self.writable:
            raise ValueError("this region is mapped read-only")
        if content.shape[0] > 0:
            memcpy(self.data + at, &content[0], <size_t>content.shape[0])

    def populate(self, size_t at, size_t count):
        """Map the pages of a range now, without changing a byte. `at` is a multiple of the page size.

        Writable regions get pages that can be written without a fault. Kernels before 5.14 get every page touched.
        """
        cdef int result
        cdef size_t i
        cdef uint8_t *page
        self.check(at, count)
        with nogil:
            result = madvise(self.data + at, count, ZS_POPULATE_WRITE if self.writable else ZS_POPULATE_READ)
            if result != 0 and errno == EINVAL:
                i = 0
                while i < count:
                    page = <uint8_t *>self.data + at + i
                    if self.writable:
                        zs_fetch_or8(page, 0, ZS_RELAXED)  # another process may write there
                    else:
                        zs_load8(page, ZS_RELAXED)
                    i += ZS_PAGE
                result = 0
        if result != 0:
            raise OSError(errno, "madvise")

    def allocate_huge(self, size_t at, size_t count):
        """Give a range of a writable region huge pages, as far as it has no pages yet and the system has huge ones.

        Where it fails, in a full /dev/shm too, pages stay missing. `at` is a multiple of HUGE_PAGE.
        """
        self.check(at, count)
        with nogil:
            madvise(self.data + at, count, MADV_HUGEPAGE)
            madvise(self.data + at, count, ZS_POPULATE_WRITE)

    def collapse(self, size_t at, size_t count):
        """Replace the small pages of a range by huge ones, as far as the system does it (Linux 6.1 and newer).

        The bytes stay. `at` is a multiple of HUGE_PAGE.
        """
        self.check(at, count)
        with nogil:
            madvise(self.data + at, count, MADV_HUGEPAGE)
            madvise(self.data + at, count, ZS_COLLAPSE)

    @property
    def address(self):
        """Where it is mapped, to find it in /proc/self/smaps."""
        return <size_t>self.data

    cdef bint is_cut(self) noexcept nogil:
        """Whether the object has become shorter than this mapping, where the kernel can tell (5.14 and newer)."""
        return madvise(self.data, self.size, ZS_POPULATE_WRITE if self.writable else ZS_POPULATE_READ) != 0 and \
            errno == EFAULT

    def __reduce__(self):
        raise unpicklable(self)


@cython.final
@cython.no_gc
cdef class Word:
    """A 32-bit word in a region that processes wake each other by."""

    cdef Region region
    cdef uint32_t *word

    def __cinit__(self, Region region not None, size_t at):
        region.check(at, 4)
        if at % 4 != 0:
            raise ValueError("a futex word is aligned")
        self.region = region
        self.word = <uint32_t *>(region.data + at)

    @property
    def value(self):
        return zs_load32(self.word, ZS_ACQUIRE)

    def bump(self):
        """Add one, and wake the threads that sleep on the word."""
        bump(self.word)


cdef extern from *:
    """
    static inline void bump(uint32_t *word)
    {
        zs_fetch_add(word, 1, ZS_GENERATION_RMW); /* SYNC park */
        zs_futex_wake_all(word);
    }
    """
    void bump(uint32_t *word) nogil


cdef object INTERNAL = object()    # only this module can make a Segment, which is nothing without a mapping


@cython.final
@cython.no_gc
cdef class Segment:
    """A mapped segment: the control object, and its pools once they are added.

    What it knows of counts and offsets was copied and checked once; afterwards nothing that is loaded from shared
    memory is trusted.
    """

    cdef zs_segment c
    cdef zs_header header
    cdef readonly object info   # the header as SegmentInfo, as it was when it was copied
    cdef readonly Region control
    cdef list pools
    cdef char *pool_data[16]
    cdef uint64_t pool_capacity[16]
    cdef uint32_t pool_first[16]
    cdef uint32_t pool_slots[16]
    cdef readonly uint32_t pool_count
    cdef readonly uint32_t slot_count
    cdef uint32_t space_noted

    def __cinit__(self, internal):
        if internal is not INTERNAL:
            raise TypeError("segments come from Segment.create() and Segment.attach()")
        memset(self.pool_first, 0xff, sizeof(self.pool_first))  # slot_data finds no slot in a pool that is being added

    @staticmethod
    def control_size(config not None, uint64_t schema_size):
        """The bytes that a control object of these counts needs."""
        cdef zs_header h
        memset(&h, 0, sizeof(h))
        put_config(&h, config)
        h.schema_size = schema_size
        if h.depth < 1 or h.depth > ZS_MAX_SLOTS or h.max_subscribers < 1 or h.max_subscribers > ZS_MAX_SUBSCRIBERS:
            raise ValueError("depth or max_subscribers is out of range")
        zs_layout_compute(&h)
        return h.control_size

    @staticmethod
    def create(Region control not None, config not None, bytes schema not None):
        """Write a segment into a new, zeroed control object. No process can attach before `open`."""
        cdef Segment self = Segment.__new__(Segment, INTERNAL)
        cdef zs_header *h = &self.header
        put_config(h, config)
        memcpy(h.magic, zs_magic, 8)
        h.format = ZS_FORMAT
        h.compat |= ZS_COMPAT_REFERENCES
        h.schema_size = len(schema)
        h.created_monotonic_ns = sample_ns()
        zs_layout_compute(h)
        if not zs_counts_valid(h) or not control.writable or control.size < h.control_size:
            raise ValueError("these counts make no segment")
        self.control = control
        zs_segment_create(&self.c, control.data, h)
        memcpy(self.c.schema, <const char *>schema, len(schema))
        self.copy_info()
        return self

    @staticmethod
    def attach(Region control not None, str where not None):
        """Map an existing segment. None while its creator has not finished.

        Raises FormatError for another magic or format, or a feature that this version cannot read; CorruptSegmentError
        for counts, offsets or sizes that cannot be.
        """
        cdef Segment self = Segment.__new__(Segment, INTERNAL)
        cdef zs_check check
        if control.size < ZS_HEADER_SIZE:
            return None
        if zs_load32(&(<zs_header *>control.data).state, ZS_READY_LOAD) == 0:  # SYNC ready
            return None
        memcpy(&self.header, control.data, sizeof(self.header))
        check = zs_header_check(&self.header, control.size)
        if check == ZS_CHECK_NOT_A_SEGMENT:
            raise errors.FormatError(
                f"{where} is not a zeroslot segment: its first bytes are another magic number",
                where=where, found=control.data[:8], expected=bytes(zs_magic[:8]),
            )
        if check == ZS_CHECK_OTHER_FORMAT:
            raise errors.FormatError(
                f"{where} has format {self.header.format}, this zeroslot reads format {ZS_FORMAT}. "
                "Install the same version on both sides",
                where=where, found=self.header.format, expected=ZS_FORMAT,
            )
        if check == ZS_CHECK_INCOMPATIBLE:
            unknown = self.header.incompat & ~ZS_INCOMPAT_KNOWN
            raise errors.FormatError(
                f"{where} uses features of format {ZS_FORMAT} that this zeroslot does not read: incompatible bits "
                f"{', '.join(str(bit) for bit in range(64) if unknown >> bit & 1)}. "
                "Install the same version on both sides",
                where=where, found=self.header.incompat, expected=ZS_INCOMPAT_KNOWN,
            )
        if check == ZS_CHECK_CORRUPT:
            raise errors.CorruptSegmentError(
                f"{where} has a header whose sizes or offsets cannot be. Remove it and start its publisher again",
                where=where,
            )
        self.control = control
        zs_segment_bind(&self.c, control.data, &self.header)
        self.copy_info()
        return self

    cdef int copy_info(self) except -1:
        self.info = SegmentInfo._make(values_of(zs_header_fields, <const char *>&self.header))
        return 0

    def add_pool(self, Region region not None, *, uint32_t first_slot, uint64_t slot_capacity, uint32_t slot_count,
                 uint64_t inode=0):
        """Add the pool whose slots begin at `first_slot`. A writable region is the owner's: the pool table gets it.

        A pool that is there already is left as it is: another thread, or a signal handler, was faster.
        """
        cdef uint32_t k = self.pool_count
        if first_slot < self.slot_count:
            return
        if first_slot > self.slot_count:
            raise ValueError("pools follow each other without gaps")
        if k >= self.c.pool_limit or slot_count < 1 or slot_count > self.c.slot_limit - self.slot_count:
            raise ValueError("no room for another pool of this many slots")
        if (slot_capacity < 1 or slot_capacity % ZS_SLOT_ALIGN != 0 or slot_capacity > ZS_MAX_POOL // slot_count
                or slot_capacity * slot_count > region.size):
            raise ValueError("slots of this capacity do not fit the pool")
        if self.pools is None:
            self.pools = []
        self.pools.append(region)
        self.pool_data[k] = region.data
        self.pool_capacity[k] = slot_capacity
        self.pool_first[k] = self.slot_count
        self.pool_slots[k] = slot_count
        if region.writable:
            zs_segment_add_pool(&self.c, k, self.slot_count, slot_count, slot_capacity, inode)
        self.slot_count += slot_count
        self.pool_count = k + 1

    @property
    def pool_regions(self):
        """The mappings of its pools."""
        return [] if self.pools is None else list(self.pools)

    @property
    def slot_capacity(self):
        """Bytes of one slot of the pool with the largest slots that is mapped; 0 without one."""
        cdef uint32_t k
        cdef uint64_t largest = 0
        for k in range(self.pool_count):
            largest = max(largest, self.pool_capacity[k])
        return largest

    def pool(self, uint32_t k):
        """What the pool table says now of pool `k`. Its state is 0 where there is none yet."""
        if k >= self.c.pool_limit:
            raise IndexError(k)
        zs_load32(&self.c.pools[k].state, ZS_ACQUIRE)   # what belongs to the state is complete before it
        return PoolInfo._make(values_of(zs_pool_fields, <const char *>(self.c.pools + k)))

    def open(self):
        """The segment is complete: let others attach."""
        zs_segment_open(&self.c)

    def end(self, uint32_t state):
        """End the segment, and wake its readers: 2 sealed, 3 the owner is dead."""
        zs_segment_end(&self.c, state)

    def bump_space(self):
        """Make owners that wait for space look again."""
        zs_bump_space(&self.c)

    @property
    def space(self):
        """The word that joins, leaves and, while an owner waits, releases move."""
        return zs_load32(self.c.space, ZS_SPACE_LOAD)  # SYNC space

    def note_space(self):
        """From here on `space` has moved when it is no longer what it is now."""
        self.space_noted = zs_load32(self.c.space, ZS_SPACE_LOAD)  # SYNC space

    cdef bint space_has_moved(self) noexcept:
        return zs_load32(self.c.space, ZS_SPACE_LOAD) != self.space_noted  # SYNC space

    @property
    def state(self):
        """0 creating, 1 open, 2 sealed, 3 dead."""
        return zs_segment_state(&self.c)

    @property
    def published(self):
        """The newest sequence, as the owner says."""
        return zs_load64(self.c.published, ZS_ACQUIRE)

    @property
    def newest_ns(self):
        """When the newest sample was committed (CLOCK_MONOTONIC); 0 before any."""
        return self.newest_published_ns()

    cdef uint64_t newest_published_ns(self) noexcept nogil:
        cdef uint64_t n = zs_load64(self.c.published, ZS_ACQUIRE)
        cdef uint32_t slot = <uint32_t>(zs_load64(self.c.ring + n % self.c.ring_capacity, ZS_ACQUIRE) & 0xffff)
        if n < self.c.first_sequence or slot >= self.c.slot_limit:
            return 0
        return zs_load64(&zs_slot_at(&self.c, slot).published_ns, ZS_RELAXED)

    def sample(self, uint64_t n):
        """(sequence, published_ns, size) of sample `n`, without a lease. None: it is not there any more, or not yet."""
        cdef uint64_t published_ns = 0
        cdef uint64_t size = 0
        return (n, published_ns, size) if self.sample_facts(n, &published_ns, &size) else None

    def samples_after(self, uint64_t n, uint32_t limit):
        """The same of the newest samples after `n`, at most `limit`, the oldest first. Those that the owner withdraws
        meanwhile are left out.
        """
        cdef uint64_t newest = zs_load64(self.c.published, ZS_ACQUIRE)
        cdef uint64_t published_ns = 0
        cdef uint64_t size = 0
        cdef uint64_t count, each
        cdef list found = []
        if newest < self.c.first_sequence or newest <= n:
            return found
        count = min(min(newest - n, newest - self.c.first_sequence + 1), min(limit, self.c.depth))
        for each in range(newest - count + 1, newest + 1):
            if self.sample_facts(each, &published_ns, &size):
                found.append((each, published_ns, size))
        return found

    cdef bint sample_facts(self, uint64_t n, uint64_t *published_ns, uint64_t *size) noexcept nogil:
        """What the slot of sample `n` says. False: it has another sample, or none.

        The slot's sequence is loaded before and after: an owner that uses the slot again has stored 0 there first.
        """
        cdef uint64_t tag = zs_load64(self.c.ring + n % self.c.ring_capacity, ZS_ACQUIRE)
        cdef uint32_t slot = <uint32_t>(tag & 0xffff)
        cdef zs_slot *entry
        if tag != zs_tag(n, slot) or slot >= self.c.slot_limit:
            return False
        entry = zs_slot_at(&self.c, slot)
        if zs_load64(&entry.sequence, ZS_ACQUIRE) != n:
            return False
        published_ns[0] = zs_load64(&entry.published_ns, ZS_ACQUIRE)
        size[0] = zs_load64(&entry.size, ZS_ACQUIRE)
        return zs_load64(&entry.sequence, ZS_RELAXED) == n

    @property
    def generation(self):
        """The word that every commit, seal and owner event moves."""
        return zs_load32(self.c.generation, ZS_GENERATION_LOAD)

    def schema(self):
        """The bytes of the schema section."""
        return (<const char *>self.c.schema)[:self.c.schema_size]

    def counters(self):
        """The owner's counters, each at least as new as the call."""
        return Counters._make(values_of(zs_counters_fields, <const char *>self.c.counters))

    def active_indexes(self):
        """The indexes whose active bit is set, dead or alive."""
        cdef uint32_t r
        cdef list found = []
        for r in range(self.c.max_subscribers):
            if zs_load64(&self.c.active[r // 64], ZS_ACTIVE_LOAD) >> (r % 64) & 1:  # SYNC join
                found.append(r)
        return found

    def parked_indexes(self):
        """The indexes whose parked bit is set: subscribers that may be asleep."""
        cdef uint64_t *words = self.c.parked
        cdef uint32_t r
        return [r for r in range(self.c.max_subscribers) if zs_load64(&words[r // 64], ZS_RELAXED) >> (r % 64) & 1]

    def peer(self, uint32_t index):
        """What peer entry `index` says of its subscriber, dead or alive."""
        if index >= self.c.max_subscribers:
            raise IndexError(index)
        return PeerInfo._make(values_of(zs_peer_fields, <const char *>zs_peer_at(&self.c, index)))

    def indexes_in_use(self):
        """The indexes that are active or have a bit in a slot, dead or alive."""
        cdef set found = set(self.active_indexes())
        cdef uint32_t slot, w
        cdef uint64_t word
        for slot in range(self.c.slot_limit):
            for w in range(self.c.reader_words):
                word = zs_load64(zs_slot_readers(&self.c, slot) + w, ZS_RELAXED)
                if word != 0:
                    found.update([
                        w * 64 + b for b in range(64) if word >> b & 1 and w * 64 + b < self.c.max_subscribers
                    ])
        return sorted(found)

    def held_by(self, uint32_t index):
        """(slot, published_ns) of every slot that carries the reader bit `index`."""
        cdef uint32_t slot
        cdef zs_slot *entry
        cdef list found = []
        if index >= self.c.max_subscribers:
            raise IndexError(index)
        for slot in range(self.c.slot_limit):
            entry = zs_slot_at(&self.c, slot)
            if zs_load64(zs_slot_readers(&self.c, slot) + index // 64, ZS_RELAXED) >> (index % 64) & 1:
                found.append((slot, zs_load64(&entry.published_ns, ZS_RELAXED)))
        return found

    def clear_peer(self, uint32_t index):
        """Clear what a dead subscriber left. Only the holder of its lock may call this. Returns the slots it held."""
        if index >= self.c.max_subscribers:
            raise IndexError(index)
        self.check_whole()
        return zs_peer_clear(&self.c, index)

    def reap_peer(self, Descriptor lock not None, uint32_t index):
        """Clear what a dead subscriber left. False: it lives.

        Its byte is locked meanwhile through `lock`, a description that holds none of the bytes of subscribers that are
        asked for. One call, in which no signal handler runs that may reap through the same description.
        """
        if not lock.try_lock(zs_peer_byte(index)):
            return False
        try:
            self.clear_peer(index)
        finally:
            lock.unlock(zs_peer_byte(index))
        return True

    def count_reaped(self, uint64_t more):
        """Owner only."""
        zs_count(&self.c.counters.reaped, more)

    def count_evicted(self, uint64_t more):
        """Owner only: announced subscriptions that it waits for no longer."""
        zs_count(&self.c.counters.evicted, more)

    def __reduce__(self):
        raise unpicklable(self)

    cdef int check_whole(self) except -1:
        """Raise rather than touch what is no longer there: the control object may have been cut short since it was
        mapped. Before the first words of a join, after the system calls for its lock.
        """
        if self.control.is_cut():
            raise errors.CorruptSegmentError(
                "the control object was cut short while it was attached. Start its publisher again",
                where="the control object",
            )
        return 0

    cdef inline char *slot_data(self, uint32_t slot, uint64_t *capacity) noexcept nogil:
        """Where slot `slot` lies; `slot` is below slot_count."""
        cdef uint32_t k = 0
        while k + 1 < self.pool_count and slot >= self.pool_first[k + 1]:
            k += 1
        capacity[0] = self.pool_capacity[k]
        return self.pool_data[k] + <size_t>(slot - self.pool_first[k]) * self.pool_capacity[k]

    cdef inline zs_payloads payloads(self) noexcept nogil:
        """Where the payloads lie of the pools that are mapped now."""
        cdef zs_payloads payloads
        payloads.data, payloads.capacity, payloads.first_slot = self.pool_data, self.pool_capacity, self.pool_first
        payloads.count, payloads.slot_count = self.pool_count, self.slot_count
        return payloads
