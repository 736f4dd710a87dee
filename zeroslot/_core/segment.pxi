# Part of binding.pyx: a mapped segment, and the two parties to it.


cdef object OURS = object()    # only this module can make a Segment, which is nothing without a mapping


@cython.final
@cython.no_gc
cdef class Segment:
    """A mapped segment: the control object, and its pools once they are added.

    What it knows of counts and offsets was copied and checked once; afterwards nothing that is loaded from shared
    memory is trusted.
    """

    cdef zs_segment c
    cdef zs_header header
    cdef readonly Region control
    cdef list pools
    cdef char *pool_data[16]
    cdef uint64_t pool_capacity[16]
    cdef uint32_t pool_first[16]
    cdef uint32_t pool_slots[16]
    cdef readonly uint32_t pool_count
    cdef readonly uint32_t slot_count
    cdef uint32_t space_noted

    def __cinit__(self, ours):
        if ours is not OURS:
            raise TypeError("segments come from Segment.create() and Segment.attach()")

    @staticmethod
    def control_size(*, uint32_t depth, uint32_t slot_limit, uint32_t max_subscribers, uint64_t schema_size,
                     uint32_t pool_limit=1):
        """The bytes that a control object of these counts needs."""
        cdef zs_header h
        memset(&h, 0, sizeof(h))
        h.depth, h.slot_limit, h.max_subscribers, h.schema_size = depth, slot_limit, max_subscribers, schema_size
        h.pool_limit = pool_limit
        if depth < 1 or depth > ZS_MAX_SLOTS or max_subscribers < 1 or max_subscribers > ZS_MAX_SUBSCRIBERS:
            raise ValueError("depth or max_subscribers is out of range")
        zs_layout_compute(&h)
        return h.control_size

    @staticmethod
    def create(Region control not None, *, uint64_t segment_id, bytes type_hash not None, uint32_t depth,
               uint32_t slot_limit, uint32_t max_subscribers, uint32_t spare_slots, uint32_t max_loans,
               uint64_t first_sequence, bytes schema not None, uint32_t owner_pid, uint64_t owner_start_time,
               uint64_t created_realtime_ns, uint32_t policy, uint32_t payload_kind, str owner_name not None,
               uint64_t max_period_ns=0, uint64_t time_namespace=0, uint32_t reserve_slots=0,
               uint32_t pool_limit=1):
        """Write a segment into a new, zeroed control object. Nobody can attach before `open`."""
        cdef Segment self = Segment.__new__(Segment, OURS)
        cdef zs_header *h = &self.header
        memcpy(h.magic, zs_magic, 8)
        h.format = ZS_FORMAT
        h.segment_id = segment_id
        if len(type_hash) != 16:
            raise ValueError("a type hash is 16 bytes")
        memcpy(h.type_hash, <const char *>type_hash, 16)
        h.depth, h.slot_limit, h.pool_limit, h.max_subscribers = depth, slot_limit, pool_limit, max_subscribers
        h.spare_slots, h.max_loans, h.reserve_slots = spare_slots, max_loans, reserve_slots
        h.first_sequence = first_sequence
        h.schema_size = len(schema)
        h.owner_pid, h.owner_start_time = owner_pid, owner_start_time
        h.created_realtime_ns, h.created_monotonic_ns = created_realtime_ns, zs_now_ns()
        h.policy, h.payload_kind = policy, payload_kind
        h.max_period_ns, h.time_namespace = max_period_ns, time_namespace
        put_text(h.owner_name, sizeof(h.owner_name), owner_name)
        zs_layout_compute(h)
        if not zs_counts_valid(h) or not control.writable or control.size < h.control_size:
            raise ValueError("these counts make no segment")
        self.control = control
        zs_segment_create(&self.c, control.data, h)
        memcpy(self.c.schema, <const char *>schema, len(schema))
        return self

    @staticmethod
    def attach(Region control not None, str where not None):
        """Map an existing segment. None while its creator has not finished.

        Raises FormatError for another magic or format, or a feature that this version cannot read; CorruptSegmentError
        for counts, offsets or sizes that cannot be.
        """
        cdef Segment self = Segment.__new__(Segment, OURS)
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
        return self

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
    def slot_capacity(self):
        """Bytes of one slot of the first pool that is mapped; 0 without one."""
        return self.pool_capacity[0]

    def pool_facts(self, uint32_t k):
        """(slot_capacity, first_slot, slot_count, state, inode) as the pool table says now."""
        if k >= self.c.pool_limit:
            raise IndexError(k)
        cdef zs_pool pool
        cdef uint32_t state = zs_load32(&self.c.pools[k].state, ZS_ACQUIRE)     # what it says is complete before it
        memcpy(&pool, self.c.pools + k, sizeof(pool))
        return pool.slot_capacity, pool.first_slot, pool.slot_count, state, pool.inode

    def open(self):
        """The segment is complete: let others attach."""
        zs_segment_open(&self.c)

    def end(self, uint32_t state):
        """Tell readers that no more samples come: 2 sealed, 3 the owner is dead."""
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

    def wait_for_space(self, uint32_t seen, uint64_t deadline_ns):
        """Sleep while `space` is `seen`, at most until the deadline."""
        look_up()
        with nogil:
            zs_futex_wait(self.c.space, seen, deadline_ns)

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
        cdef uint64_t n = zs_load64(self.c.published, ZS_ACQUIRE)
        cdef uint32_t slot = <uint32_t>(zs_load64(self.c.ring + n % self.c.ring_capacity, ZS_ACQUIRE) & 0xffff)
        if n < self.c.first_sequence or slot >= self.c.slot_limit:
            return 0
        return zs_load64(&zs_slot_at(&self.c, slot).published_ns, ZS_RELAXED)

    @property
    def generation(self):
        """The word that every commit, seal and owner event moves."""
        return zs_load32(self.c.generation, ZS_GENERATION_LOAD)

    def facts(self):
        """What the header said when it was copied."""
        cdef zs_header *h = &self.header
        return {
            "format": h.format, "control_size": h.control_size, "segment_id": h.segment_id,
            "type_hash": (<const char *>h.type_hash)[:16],
            "depth": h.depth, "ring_capacity": h.ring_capacity, "slot_limit": h.slot_limit, "pool_limit": h.pool_limit,
            "max_subscribers": h.max_subscribers, "spare_slots": h.spare_slots, "max_loans": h.max_loans,
            "reserve_slots": h.reserve_slots, "time_namespace": h.time_namespace,
            "first_sequence": h.first_sequence, "owner_pid": h.owner_pid, "owner_start_time": h.owner_start_time,
            "created_realtime_ns": h.created_realtime_ns, "created_monotonic_ns": h.created_monotonic_ns,
            "policy": h.policy, "payload_kind": h.payload_kind, "max_period_ns": h.max_period_ns,
            "owner_name": text_of(h.owner_name, sizeof(h.owner_name)),
        }

    def schema(self):
        """The bytes of the schema section."""
        return (<const char *>self.c.schema)[:self.c.schema_size]

    def counters(self):
        """The owner's counters, each at least as new as the call."""
        cdef zs_counters *n = self.c.counters
        return {
            "published": zs_load64(&n.published, ZS_RELAXED), "bytes": zs_load64(&n.bytes, ZS_RELAXED),
            "discarded": zs_load64(&n.discarded, ZS_RELAXED), "no_free_slot": zs_load64(&n.no_free_slot, ZS_RELAXED),
            "wakes": zs_load64(&n.wakes, ZS_RELAXED), "reaped": zs_load64(&n.reaped, ZS_RELAXED),
            "evicted": zs_load64(&n.evicted, ZS_RELAXED), "blocked": zs_load64(&n.blocked, ZS_RELAXED),
            "blocked_ns": zs_load64(&n.blocked_ns, ZS_RELAXED),
        }

    def active_indexes(self):
        """The indexes whose active bit is set, dead or alive."""
        cdef uint32_t r
        cdef list found = []
        for r in range(self.c.max_subscribers):
            if zs_load64(&self.c.active[r // 64], ZS_ACTIVE_LOAD) >> (r % 64) & 1:  # SYNC join
                found.append(r)
        return found

    def peer(self, uint32_t index):
        """What peer entry `index` says of its subscriber, dead or alive."""
        if index >= self.c.max_subscribers:
            raise IndexError(index)
        cdef zs_peer p
        memcpy(&p, zs_peer_at(&self.c, index), sizeof(p))
        return {
            "index": index, "epoch": p.epoch, "pid": p.pid, "start_time": p.start_time,
            "name": text_of(p.name, sizeof(p.name)), "attached_ns": p.attached_ns,
            "reliable": bool(p.flags & ZS_PEER_RELIABLE), "max_leases": p.max_leases, "cursor": p.cursor,
            "taken": p.taken, "lost": p.lost, "skipped": p.skipped, "leases": p.leases,
            "time_namespace": p.time_namespace, "announcement": p.announcement,
            "latency": [p.latency[i] for i in range(ZS_LATENCY_BUCKETS)], "latency_max_ns": p.latency_max_ns,
        }

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

    cdef char *slot_data(self, uint32_t slot, uint64_t *capacity) noexcept nogil:
        """Where slot `slot` lies; `slot` is below slot_count."""
        cdef uint32_t k = 0
        while k + 1 < self.pool_count and slot >= self.pool_first[k + 1]:
            k += 1
        capacity[0] = self.pool_capacity[k]
        return self.pool_data[k] + <size_t>(slot - self.pool_first[k]) * self.pool_capacity[k]


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


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Hold:
    """One leased or loaned slot. It goes back when this object goes.

    It exports no buffer of its own accord: numpy asks the base of an array for one when somebody wants to make it
    writable.
    """

    cdef Owner owner        # of a loan
    cdef Reader reader      # of a lease
    cdef char *data
    cdef uint64_t size      # bytes of payload; of a loan, what can be written
    cdef uint64_t sequence
    cdef uint64_t published_ns
    cdef uint64_t fork
    cdef uint32_t slot
    cdef uint32_t exports   # live writable buffers
    cdef uint64_t writable_in   # of a loan that is neither committed nor discarded: the fork generation that may write
    cdef list arrays        # writable arrays that were handed out
    cdef bint blank         # its bytes count as zeros, and are an older sample's until `fill`
    cdef Py_ssize_t most_arrays

    def __cinit__(self):
        self.fork = 0

    cdef void give_back(self) noexcept:
        """The last reference is gone."""
        if self.fork != zs_fork_generation:
            return
        if self.reader is not None:
            zs_reader_release(&self.reader.c, self.slot)
            if self.reader.closed:
                self.reader.free_index()
        else:
            zs_owner_let_go(&self.owner.c, self.slot)
            if zs_load32(self.owner.segment.c.waiting, ZS_WAITING_LOAD) != 0:  # SYNC space
                zs_bump_space(&self.owner.segment.c)

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
        """Fill a buffer that keeps this Hold. `lasting`: who is asked for it keeps the Hold as well, for as long as it
        lives.

        np.ndarray(buffer=...) gives the buffer back at once and keeps only whom it asked: no memory that lasts where
        that can be released, and no right to write that ends with the commit. numpy alone asks for any order of a
        contiguous one.
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
        """Remember a writable array, to make it read-only when the loan ends. Those that nobody else has are forgotten
        now and then.
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
        """Hold off a commit while code that is not ours computes what to write."""
        with cython.critical_section(self):
            self.exports += 1

    cdef void unpin(self) noexcept:
        with cython.critical_section(self):
            self.exports -= 1

    cdef void freeze(self) noexcept:
        """End the right to write: no array handed out stays writable, and no export will be."""
        cdef list arrays = self.arrays
        cdef object array
        self.writable_in = 0
        if arrays is not None:
            self.arrays = None
            for array in arrays:
                cnp.PyArray_CLEARFLAGS(<cnp.ndarray>array, cnp.NPY_ARRAY_WRITEABLE)


# What __dealloc__ would do for the classes of which there is one for each sample. Cython saves and restores the
# exception state around __dealloc__, and that costs a tenth of a loan. The functions here set no exception and call
# nothing that may.
cdef extern from *:
    """
    #define ZS_LAST_WORDS(name)                                                          \
        static destructor zs_##name##_dealloc;                                           \
        static void (*zs_##name##_last)(PyObject *);                                     \
        static void zs_##name##_end(PyObject *self)                                      \
        {                                                                                \
            Py_SET_REFCNT(self, 1); /* what follows counts references to it */           \
            zs_##name##_last(self);                                                      \
            Py_SET_REFCNT(self, 0);                                                      \
            zs_##name##_dealloc(self);                                                   \
        }                                                                                \
        static void zs_##name##_last_words(PyObject *type, void (*last)(PyObject *))     \
        {                                                                                \
            zs_##name##_dealloc = ((PyTypeObject *)type)->tp_dealloc;                    \
            zs_##name##_last = last;                                                     \
            ((PyTypeObject *)type)->tp_dealloc = zs_##name##_end;                        \
        }
    ZS_LAST_WORDS(hold)
    ZS_LAST_WORDS(slot)
    ZS_LAST_WORDS(loan)
    """
    void zs_hold_last_words(object type, void (*last)(PyObject *) noexcept)
    void zs_slot_last_words(object type, void (*last)(PyObject *) noexcept)
    void zs_loan_last_words(object type, void (*last)(PyObject *) noexcept)


cdef void hold_ends(PyObject *hold) noexcept:
    (<Hold>hold).give_back()


zs_hold_last_words(Hold, hold_ends)


@cython.final
@cython.no_gc
cdef class Owner:
    """The owner's side of a segment. Everything that decides is in private memory."""

    cdef zs_owner c
    cdef void *memory
    cdef readonly Segment segment
    cdef Descriptor lock
    cdef zs_mutex mutex
    cdef uint64_t *borrowers    # the thread that reserved each slot; counts while the slot is loaned
    cdef uint64_t fork
    cdef readonly uint32_t max_loans
    cdef uint32_t reserve_slots
    cdef readonly bint closed

    def __cinit__(self, Segment segment not None, Descriptor lock, uint32_t max_loans, uint32_t reserve_slots=0):
        """`reserve_slots` are given out only in place of slots that evicted subscribers still hold."""
        self.memory = PyMem_RawCalloc(1, zs_owner_memory(segment.slot_count, segment.c.ring_capacity))
        if self.memory == NULL:
            raise MemoryError
        self.borrowers = <uint64_t *>PyMem_RawCalloc(segment.slot_count, sizeof(uint64_t))
        if self.borrowers == NULL:
            raise MemoryError
        self.segment = segment
        self.lock = lock
        self.max_loans = max_loans
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
    def inherited(self):
        """Whether this is a forked child's copy."""
        return self.fork != zs_fork_generation

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

    def wait_until_taken(self, uint64_t deadline_ns):
        """Sleep until every reliable subscriber has taken every sample (True), for 50 ms, or until the deadline."""
        cdef zs_segment *s = &self.segment.c
        cdef uint32_t index, seen
        cdef bint done
        look_up()
        seen = zs_owner_block_begin(s)
        done = zs_owner_reliable_floor(s, &index) >= self.c.published
        if not done:
            with nogil:
                zs_futex_wait(s.space, seen, min(deadline_ns, zs_now_ns() + FIRST_SLICE_NS))
            done = zs_owner_reliable_floor(s, &index) >= self.c.published
        zs_owner_block_end(s)
        return done

    def in_the_way(self):
        """The index of the reliable subscriber whose full window forbids another loan, or None."""
        cdef uint32_t index = 0
        return index if zs_owner_window_full(&self.c, &index) else None

    def evict(self, uint32_t index):
        """End the claim of the subscriber at `index`: it may take no more, and nobody waits for it.

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
        """Whether the claim of the subscriber that is at `index` now has been ended."""
        if index >= self.segment.c.max_subscribers:
            raise IndexError(index)
        return bool(zs_peer_is_evicted(&self.segment.c, index))

    def count_no_free_slot(self):
        zs_count(&self.segment.c.counters.no_free_slot, 1)

    def __reduce__(self):
        raise unpicklable(self)

    cpdef int check_process(self) except -1:
        """Raise ForkedHandleError in a forked child."""
        if self.fork != zs_fork_generation:
            raise forked("publisher")
        return 0

    cdef int check(self) except -1:
        self.check_process()
        if self.closed:
            raise closed_error("this publisher is closed")
        return 0

    cdef Hold reserve_slowly(self, object allocator, uint64_t deadline_ns):
        """Reserve under pressure: reap the dead, wait for readers, raise what `allocator` says when the deadline
        passes.

        SYNC space: `waiting` is raised before the slots are looked at again, and `space` read before that.
        """
        cdef Hold hold
        cdef uint32_t seen
        cdef uint64_t now, began
        cdef uint64_t pause = 1_000_000
        allocator._relieve()
        # Once more for each reader: the late bit of a lease that came to nothing is no holder, and each has one at
        # most.
        for _ in range(1 + len(self.segment.active_indexes())):
            hold = self.reserve()
            if hold is not None:
                return hold
        began = zs_now_ns()
        if began >= deadline_ns or self.waits_in_vain():
            zs_count(&self.segment.c.counters.no_free_slot, 1)
            raise allocator._refusal()
        seen = zs_owner_block_begin(&self.segment.c)
        zs_count(&self.segment.c.counters.blocked, 1)
        try:
            while True:
                hold = self.reserve()
                if hold is not None:
                    return hold
                now = zs_now_ns()
                if now >= deadline_ns:
                    zs_count(&self.segment.c.counters.no_free_slot, 1)
                    raise allocator._refusal()
                look_up()
                with nogil:
                    zs_futex_wait(self.segment.c.space, seen, min(deadline_ns, now + pause))
                pause = min(2 * pause, <uint64_t>20_000_000)
                seen = zs_load32(self.segment.c.space, ZS_SPACE_LOAD)  # SYNC space
                allocator._relieve()
        finally:
            zs_owner_block_end(&self.segment.c)
            zs_count(&self.segment.c.counters.blocked_ns, zs_now_ns() - began)

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
        hold.owner = self
        hold.slot = slot
        hold.data = self.segment.slot_data(slot, &hold.size)
        hold.fork = hold.writable_in = zs_fork_generation
        return hold

    cdef uint64_t commit(self, Hold hold, uint64_t size) except 0:
        """Publish a loan. Afterwards nothing of this process can write to it but slices taken of its arrays."""
        cdef uint64_t n
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
        hold.published_ns = zs_now_ns()
        zs_lock(&self.mutex)
        n = zs_owner_commit(&self.c, hold.slot, size, hold.published_ns)
        zs_unlock(&self.mutex)
        hold.sequence = n
        self.loan_ended()
        return n

    cdef inline void loan_ended(self) noexcept:
        """Another thread may wait for max_loans to allow one more."""
        if zs_load32(self.segment.c.waiting, ZS_WAITING_LOAD) != 0:  # SYNC space
            zs_bump_space(&self.segment.c)

    cdef void discard(self, Hold hold) noexcept:
        """Give a loan back, unless it has been given back. Harmless in a forked child and after close."""
        cdef bint ours
        with cython.critical_section(hold):
            ours = hold.is_writable()
            hold.freeze()
        if ours:
            zs_lock(&self.mutex)
            zs_owner_discard(&self.c, hold.slot)
            zs_unlock(&self.mutex)
            self.loan_ended()


@cython.final
@cython.no_gc
cdef class Reader:
    """One subscriber's side of one segment. It keeps its lock until it is closed and its last lease is gone."""

    cdef zs_reader c
    cdef zs_identity who
    cdef readonly Segment segment
    cdef Descriptor lock
    cdef zs_mutex mutex
    cdef uint32_t sleepers
    cdef uint64_t fork
    cdef readonly bint closed
    cdef object map_pools       # maps what the pool table says; False where a pool is gone
    cdef bint one_clock         # the owner's times are of this process's clock domain
    cdef readonly bint broken   # evicted, or the segment is corrupt
    cdef readonly bint evicted

    def __cinit__(self, Segment segment not None, Descriptor lock, *, uint32_t index, uint32_t max_leases,
                  bint reliable, uint32_t pid, uint64_t start_time, str name not None, uint32_t history, after=None,
                  uint64_t time_namespace=0, map_pools=None):
        """Join as `index`, whose lock `lock` holds and whose predecessor has been cleared.

        The first sample is the one after the sequence `after`; None: `history` samples before the next one. What of it
        can no longer be taken is lost.

        `map_pools` is called, without arguments, for a sample in a pool that is not mapped yet; it returns False where
        the pool is gone.
        """
        if index >= segment.c.max_subscribers:
            raise IndexError(index)
        if segment.slot_count == 0:
            raise ValueError("no pool is mapped")
        self.c.held = <uint32_t *>PyMem_RawCalloc(segment.c.slot_limit, sizeof(uint32_t))
        if self.c.held == NULL:
            raise MemoryError
        self.c.segment = &segment.c
        self.c.index, self.c.max_leases, self.c.reliable = index, max_leases, reliable
        self.segment = segment
        self.use_pools()
        self.map_pools = map_pools
        self.one_clock = time_namespace == segment.c.time_namespace
        self.lock = lock
        self.fork = zs_fork_generation
        self.who.pid, self.who.start_time, self.who.time_namespace = pid, start_time, time_namespace
        put_text(self.who.name, sizeof(self.who.name), name)
        segment.check_whole()
        if not zs_reader_join(&self.c, &self.who, history, ZS_AFTER_HISTORY if after is None else after):
            self.close()
            raise self.refused(ZS_TAKE_CORRUPT)

    def __dealloc__(self):
        self.close()
        PyMem_RawFree(self.c.held)

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
        """Begin another claim at the same index, behind the sample that was taken last, where the owner has ended it.

        Raises TooManyLeasesError while anything of the ended claim is held.
        """
        cdef uint64_t taken = self.c.taken
        cdef uint64_t lost = self.c.lost
        cdef uint64_t skipped = self.c.skipped
        cdef bint whole
        if not self.evicted:
            return
        if zs_reader_leases(&self.c) != 0:
            raise errors.TooManyLeasesError(
                f"{zs_reader_leases(&self.c)} samples of the claim that the owner has ended are still held. Release "
                "them, and let go of views and arrays, before rejoin()",
                held=zs_reader_leases(&self.c), max_leases=self.c.max_leases,
            )
        zs_lock(&self.mutex)
        zs_reader_leave(&self.c)
        whole = zs_reader_join(&self.c, &self.who, 0, self.c.cursor)
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
        """Once closed, the lock falls with the last lease and the last sleeper, whoever still has the handle.

        After the close nobody takes and nobody parks, so nothing here touches what a successor at this index writes.
        """
        if zs_reader_leases(&self.c) == 0 and self.sleepers == 0 and self.lock is not None:
            self.lock.close()

    @property
    def inherited(self):
        """Whether this is a forked child's copy."""
        return self.fork != zs_fork_generation

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
        """Whether nothing more can be taken through this reader: it was closed, was told that its claim has ended or
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

    def __reduce__(self):
        raise unpicklable(self)

    cpdef int check_process(self) except -1:
        """Raise ForkedHandleError in a forked child."""
        if self.fork != zs_fork_generation:
            raise forked("subscriber")
        return 0

    cdef int check(self) except -1:
        self.check_process()
        if self.closed:
            raise closed_error("this subscriber is closed")
        return 0

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

    cdef int map_more(self, bint newest) except -1:
        """Map the pools that the owner has added. A sample whose pool is gone counts as lost.

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
        cdef zs_slot *entry
        cdef Hold hold
        cdef uint64_t capacity = 0
        cdef uint64_t sequence, now
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
        hold = Hold.__new__(Hold)
        hold.reader = self
        hold.slot = slot
        hold.fork = zs_fork_generation
        entry = zs_slot_at(&self.segment.c, slot)
        hold.data = self.segment.slot_data(slot, &capacity)
        hold.size = zs_load64(&entry.size, ZS_RELAXED)
        hold.published_ns = zs_load64(&entry.published_ns, ZS_RELAXED)
        hold.sequence = sequence
        if hold.size > capacity:
            raise errors.CorruptSegmentError(
                f"sample {hold.sequence} claims {hold.size} bytes in a slot of {capacity}",
                found=hold.size, expected=capacity,
            )
        if self.c.taken % SAMPLED == 0 and self.one_clock:
            now = zs_now_ns()
            zs_reader_count_latency(&self.c, now - hold.published_ns if now > hold.published_ns else 0)
        return hold

    cdef object refused(self, zs_take result):
        """What to raise. After this nothing more can be taken through this reader, unless it holds too many."""
        self.broken = result != ZS_TAKE_TOO_MANY
        self.evicted = result == ZS_TAKE_EVICTED
        if result == ZS_TAKE_TOO_MANY:
            return errors.TooManyLeasesError(
                f"max_leases is {self.c.max_leases}, and as many samples are held. Release leases and let go of views "
                "and arrays of old samples (a `for lease in ...` still holds the last one), or subscribe "
                "with a larger max_leases",
                held=self.c.max_leases, max_leases=self.c.max_leases,
            )
        if result == ZS_TAKE_EVICTED:
            return errors.EvictedError(
                "the publisher has ended this subscriber's claim: it was behind, or held samples, for longer than "
                "evict_after. What it holds stays good. A Subscriber joins again with its next call, a SlotReader with "
                "rejoin()"
            )
        return errors.CorruptSegmentError(
            "the control object holds what no publisher writes. Start the publisher again", where="the control object"
        )
