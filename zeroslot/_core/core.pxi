# Part of binding.pyx: what it uses of the C headers. Their comments are the contract.

cdef extern from "zeroslot/zeroslot.h" nogil:
    uint32_t ZS_FORMAT, ZS_MAX_SLOTS, ZS_MAX_SUBSCRIBERS, ZS_MAX_POOLS, ZS_SLOT_ALIGN, ZS_NO_SLOT, ZS_HEADER_SIZE
    uint64_t ZS_MAX_POOL, ZS_INCOMPAT_KNOWN, ZS_COMPAT_CRC, ZS_COMPAT_REFERENCES
    uint32_t ZS_SLOT_CRC, ZS_SLOT_METADATA, ZS_METADATA_SIZE
    uint32_t ZS_CONTROL_SIZE_AT, ZS_OWNER_BYTE, ZS_CLEANER_BYTES, ZS_FIRST_PEER_BYTE, ZS_BYTES, ZS_TYPED
    uint32_t ZS_LOANED, ZS_OPEN, ZS_SEALED, ZS_DEAD, ZS_PEER_RELIABLE, ZS_PEER_TICKETS, ZS_EVICT, ZS_BLOCK, ZS_RAISE
    int ZS_RELAXED, ZS_ACQUIRE
    int ZS_READY_LOAD, ZS_GENERATION_LOAD, ZS_ACTIVE_LOAD, ZS_WAITING_LOAD, ZS_SPACE_LOAD

    ctypedef struct zs_header:
        uint8_t magic[8]
        uint32_t format, header_size, depth, ring_capacity, slot_limit, pool_limit, max_subscribers, reader_words
        uint32_t spare_slots, max_loans, reserve_slots, peer_size, slot_size, owner_pid, payload_kind, policy, state
        uint64_t control_size, segment_id, first_sequence, schema_size, incompat, compat, owner_start_time
        uint64_t created_realtime_ns, created_monotonic_ns, time_namespace, max_period_ns
        uint8_t type_hash[16]
        uint8_t owner_name[32]

    ctypedef struct zs_counters:
        uint64_t published, bytes, discarded, no_free_slot, wakes, reaped, evicted, blocked, blocked_ns

    ctypedef struct zs_peer:
        uint32_t epoch, pid, flags, max_leases
        uint64_t start_time, attached_ns, announcement, time_namespace
        uint64_t cursor, taken, lost, skipped, leases, latency_max_ns
        uint8_t name[32]
        uint32_t latency[128]

    ctypedef struct zs_slot:
        uint64_t sequence, published_ns, size
        uint32_t flags, crc

    ctypedef struct zs_pool:
        uint64_t slot_capacity, inode, committed, discarded, passed_on, no_free_slot
        uint32_t first_slot, slot_count, state

    ctypedef struct zs_metadata:
        uint16_t content_type_size, producer_size, user_size, user_is_text
        uint8_t content_type[32]
        uint8_t producer[32]
        uint8_t user[512]

    ctypedef struct zs_segment:
        zs_header *header
        uint64_t *published
        uint32_t *generation
        uint64_t *parked
        uint32_t *space
        uint32_t *waiting
        uint64_t *active
        uint64_t *reliable
        uint32_t *evicted
        zs_counters *counters
        uint64_t *ring
        uint32_t *pool_generation
        zs_pool *pools
        uint8_t *schema
        uint64_t first_sequence, schema_size, time_namespace
        uint32_t depth, ring_capacity, slot_limit, pool_limit, max_subscribers, reader_words, max_loans, policy

    ctypedef struct zs_owner_pool:
        zs_pool *entry
        uint8_t *payload
        uint64_t slot_capacity
        uint32_t first_slot, slot_count, free_count, retired_count, withheld

    ctypedef struct zs_owner:
        uint64_t published
        uint32_t slot_count, loans_out, awaited, pool_count
        zs_owner_pool pools[16]
        zs_owner_pool *by_capacity[16]
        uint32_t *held
        uint8_t *state
        uint8_t *pool_of

    ctypedef struct zs_reader:
        zs_segment *segment
        zs_peer *peer
        uint64_t cursor, taken, lost, skipped
        uint32_t index, epoch, max_leases, reliable, announced, slot_count
        uint64_t released
        uint32_t *held
        uint64_t *redeemed
        const uint8_t *payload
        uint64_t payload_stride

    ctypedef struct zs_identity:
        uint32_t pid
        uint64_t start_time, time_namespace, announcement
        uint8_t name[32]

    enum zs_check:
        ZS_CHECK_OK, ZS_CHECK_NOT_A_SEGMENT, ZS_CHECK_OTHER_FORMAT, ZS_CHECK_INCOMPATIBLE, ZS_CHECK_CORRUPT

    enum zs_take:
        ZS_TAKE_NONE, ZS_TAKE_LEASED, ZS_TAKE_COPIED
        ZS_TAKE_TOO_MANY, ZS_TAKE_EVICTED, ZS_TAKE_UNMAPPED, ZS_TAKE_CORRUPT

    const uint8_t zs_magic[8]

    uint32_t zs_load32 "zs_load"(const uint32_t *word, int order)
    uint64_t zs_load64 "zs_load"(const uint64_t *word, int order)
    uint8_t zs_load8 "zs_load"(const uint8_t *byte, int order)
    uint8_t zs_fetch_or8 "zs_fetch_or"(uint8_t *byte, uint8_t value, int order)
    void zs_store32 "zs_store"(uint32_t *word, uint32_t value, int order)
    void zs_count(uint64_t *counter, uint64_t more)
    void zs_pause()

    zs_slot *zs_slot_at(const zs_segment *s, uint32_t slot)
    uint64_t *zs_slot_readers(const zs_segment *s, uint32_t slot)
    uint64_t zs_reader_bits(const zs_segment *s, uint32_t w)
    zs_peer *zs_peer_at(const zs_segment *s, uint32_t index)
    int zs_counts_valid(const zs_header *h)
    void zs_layout_compute(zs_header *h)
    zs_check zs_header_check(const zs_header *h, uint64_t object_size)
    void zs_segment_bind(zs_segment *s, void *control, const zs_header *h)
    void zs_segment_create(zs_segment *s, void *control, const zs_header *h)
    void zs_segment_add_pool(zs_segment *s, uint32_t k, uint32_t first_slot, uint32_t slot_count,
                             uint64_t slot_capacity, uint64_t inode)
    uint64_t zs_tag(uint64_t sequence, uint32_t slot)
    void zs_segment_open(zs_segment *s)
    uint32_t zs_segment_state(const zs_segment *s)
    void zs_segment_end(zs_segment *s, uint32_t state)

    size_t zs_owner_memory(uint32_t slot_limit, uint32_t ring_capacity)
    void zs_owner_init(zs_owner *o, zs_segment *s, void *memory)
    void zs_owner_add_pool(zs_owner *o, uint32_t slot_count, uint64_t slot_capacity, void *payload)
    void *zs_owner_payload(const zs_owner *o, uint32_t slot)
    zs_owner_pool *zs_owner_smallest_fit(const zs_owner *o, uint64_t size)
    uint32_t zs_owner_reserve_bytes(zs_owner *o, uint64_t size)
    void zs_owner_unreserve(zs_owner *o, uint32_t slot)
    void zs_owner_discard(zs_owner *o, uint32_t slot)
    int zs_peer_is_evicted(const zs_segment *s, uint32_t index)
    void zs_owner_evict(zs_owner *o, uint32_t index)
    int zs_owner_withhold(zs_owner *o, uint32_t k)
    void zs_owner_let_go(zs_owner *o, uint32_t slot)
    uint64_t zs_owner_place_flagged(zs_owner *o, uint32_t slot, uint64_t size, uint64_t published_ns, uint32_t flags,
                                    uint32_t crc)
    void zs_owner_announce(zs_owner *o)
    void zs_owner_retire_oldest(zs_owner *o)
    uint64_t ZS_METADATA_AT(uint64_t size)
    uint32_t zs_crc32c(const void *data, size_t size)
    void zs_copy(void *to, const void *source, size_t size)

    ctypedef struct zs_strided:
        const uint8_t *data "from"
        size_t item
        int ndim
        ptrdiff_t shape[64]
        ptrdiff_t strides[64]

    bint zs_strided_overlaps(const zs_strided *array, const void *to, size_t size)
    void zs_copy_strided(void *to, const zs_strided *array)
    int zs_owner_window_full(const zs_owner *o, uint32_t *index)
    uint64_t zs_owner_room(const zs_owner *o)
    uint64_t zs_owner_floor(const zs_owner *o, uint32_t *index)
    void zs_owner_await(zs_owner *o, uint32_t count)
    uint32_t ZS_NO_READER
    uint32_t zs_owner_block_begin(zs_segment *s)
    void zs_owner_block_end(zs_segment *s)
    void zs_bump_space(zs_segment *s)

    long zs_peer_byte "ZS_PEER_BYTE"(uint32_t index)
    uint32_t zs_peer_clear(zs_segment *s, uint32_t index)
    uint64_t ZS_AFTER_HISTORY
    int zs_reader_join(zs_reader *r, const zs_identity *identity, uint32_t history, uint64_t after)
    uint64_t zs_reader_leases(const zs_reader *r)
    void zs_reader_leave(zs_reader *r)
    void zs_slot_refer(const zs_segment *s, uint32_t slot, uint64_t n)
    void zs_reader_join_for_tickets(zs_reader *r, const zs_identity *who)
    zs_take zs_reader_redeem(zs_reader *r, uint32_t slot, uint64_t n)
    void zs_reader_release_redeemed(zs_reader *r, uint32_t slot)
    zs_take zs_reader_take(zs_reader *r, uint32_t *slot)
    zs_take zs_reader_latest(zs_reader *r, uint32_t *slot)
    uint64_t zs_reader_peek(const zs_reader *r, uint64_t *published_ns)
    void zs_reader_skip(zs_reader *r, uint64_t sequence)
    void zs_reader_lose(zs_reader *r, uint64_t n)
    void zs_reader_count_latency(zs_reader *r, uint64_t waited_ns)
    int zs_reader_ready(const zs_reader *r)
    zs_take zs_reader_finish(zs_reader *r)
    int zs_reader_is_evicted(const zs_reader *r)
    void zs_reader_release(zs_reader *r, uint32_t slot)
    uint32_t zs_reader_park(zs_reader *r)
    void zs_reader_unpark(zs_reader *r)

    uint32_t ZS_BATCH, ZS_SAMPLED, ZS_LATENCY_BUCKETS
    ctypedef struct zs_payloads:
        char **data
        const uint64_t *capacity
        const uint32_t *first_slot
        uint32_t count, slot_count
    ctypedef struct zs_samples:
        const uint8_t *data
        Py_ssize_t stride
        uint64_t size, capacity, published_ns
        int crc
    ctypedef struct zs_copier:
        zs_reader *reader
        uint64_t sampled_ns
    uint32_t zs_owner_publish_copies(zs_owner *o, const zs_samples *samples, uint32_t count, uint32_t max_loans)
    void zs_copier_begin(zs_copier *c, zs_reader *r, const zs_payloads *p, uint64_t size, int verify)
    uint64_t zs_copier_left(const zs_copier *c)
    zs_take zs_copier_next(zs_copier *c, uint8_t *to, uint64_t *published_ns)
    void zs_copier_settle(zs_copier *c)

    uint64_t zs_now_ns()
    uint64_t zs_coarse_ns()
    void zs_futex_wait(uint32_t *word, uint32_t value, uint64_t deadline_ns)
    void zs_futex_wait_any(uint32_t **words, const uint32_t *values, int count, uint64_t deadline_ns)
    void zs_futex_wake_all(uint32_t *word)

cdef extern from "zeroslot/zs_fork.h" nogil:
    size_t ZS_HUGE_PAGE
    ctypedef struct zs_descriptor:
        int fd
    ctypedef struct zs_mapping:
        void *address
    uint64_t zs_fork_generation
    int zs_fork_watch()
    int zs_descriptor_open(zs_descriptor *d, const char *path, int flags, unsigned mode)
    int zs_descriptor_open_event(zs_descriptor *d)
    void zs_descriptor_close(zs_descriptor *d)
    int zs_mapping_map(zs_mapping *m, const zs_descriptor *through, size_t size, int writable)
    void zs_mapping_unmap(zs_mapping *m)

cdef extern from *:
    """
    /* The mutex of a handle. The GIL is it, where there is one. */
    #ifdef Py_GIL_DISABLED
    typedef PyMutex zs_mutex;
    #define zs_lock(mutex) PyMutex_Lock(mutex)
    #define zs_unlock(mutex) PyMutex_Unlock(mutex)
    #else
    typedef char zs_mutex;
    #define zs_lock(mutex) ((void)(mutex))
    #define zs_unlock(mutex) ((void)(mutex))
    #endif
    """
    ctypedef int zs_mutex
    void zs_lock(zs_mutex *mutex) nogil
    void zs_unlock(zs_mutex *mutex) nogil

cdef extern from "<fcntl.h>" nogil:
    ctypedef struct zs_flock "struct flock":
        short l_type, l_whence
        long l_start, l_len
    int F_OFD_SETLK, F_OFD_GETLK, F_RDLCK, F_WRLCK, F_UNLCK
    int fcntl(int fd, int command, ...)

cdef extern from "Python.h":
    """
    /* Unlike the ident, a number that no later thread gets. */
    #define this_thread() PyThreadState_GetID(PyThreadState_Get())
    """
    uint64_t this_thread()

cdef extern from *:
    """
    /* PyLong_FromLong has a short way for numbers of one digit, and PyLong_FromUnsignedLong has none. */
    static inline PyObject *zs_number_of(uint64_t number)
    {
        return number <= LONG_MAX ? PyLong_FromLong((long)number) : PyLong_FromUnsignedLongLong(number);
    }
    """
    object number_of "zs_number_of"(uint64_t number)

cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *address, size_t length, int advice)

cdef extern from *:
    """
    #define ZS_POPULATE_READ 22   /* MADV_POPULATE_READ and _WRITE, Linux 5.14; older headers lack the names */
    #define ZS_POPULATE_WRITE 23
    #define ZS_COLLAPSE 25        /* MADV_COLLAPSE, Linux 6.1 */
    #ifndef MADV_HUGEPAGE
    #define MADV_HUGEPAGE 14
    #endif
    #define ZS_PAGE 4096
    #define ZS_NEVER UINT64_MAX
    #define ZS_ENDLESS LONG_MAX   /* of a lock up to the end of the file, however long that gets */
    """
    int ZS_POPULATE_READ, ZS_POPULATE_WRITE, ZS_COLLAPSE, MADV_HUGEPAGE, ZS_PAGE
    long ZS_ENDLESS
    uint64_t ZS_NEVER

cdef extern from "<unistd.h>" nogil:
    int pause()
    Py_ssize_t read(int fd, void *data, size_t size)
    Py_ssize_t write(int fd, const void *data, size_t size)

cdef extern from "<time.h>" nogil:
    ctypedef struct zs_timespec_c "struct timespec":
        pass
    zs_timespec_c zs_timespec(uint64_t ns)

cdef extern from "<poll.h>" nogil:
    ctypedef struct zs_pollfd "struct pollfd":
        int fd
        short events, revents
    int ppoll(zs_pollfd *descriptors, unsigned long count, const zs_timespec_c *timeout, const void *mask)

cdef extern from "<math.h>" nogil:
    bint isfinite_double "isfinite"(double value)

cdef extern from "Python.h":
    double PyFloat_Unpack2(const char *p, int little_endian) except? -1
    int PyFloat_Pack2(double x, char *p, int little_endian) except -1
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *how)
    object PyLong_FromUnsignedLongLong(unsigned long long value)
    object PyLong_FromLongLong(long long value)
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    unsigned long long PyLong_AsUnsignedLongLong(object value) except? -1
    object PyFloat_FromDouble(double value)
    double PyFloat_AsDouble(object value) except? -1
    object PyNumber_Index(object value)
    Py_ssize_t tuple_size "PyTuple_GET_SIZE"(object items) noexcept
    PyObject *tuple_item "PyTuple_GET_ITEM"(object items, Py_ssize_t i) noexcept
    Py_ssize_t PyNumber_AsSsize_t(object value, object overflow) except? -1

cdef extern from "numpy/arrayobject.h":
    object PyArray_NewFromDescr(PyTypeObject *subtype, void *descr, int ndim, cnp.npy_intp *dims,
                                cnp.npy_intp *strides, void *data, int flags, PyObject *obj)
    int PyArray_SetBaseObject(void *array, PyObject *base) except -1
