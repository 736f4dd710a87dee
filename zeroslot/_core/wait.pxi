# Part of binding.pyx: the one wait. `take`, `latest`, `wait`, `loan`, `flush`, `wait_for_change` and the waits for
# publishers and subscribers are all `wait_for` something Waitable.
#
# A change between the look and the sleep must not be missed. So a turn of a wait captures the words that announce
# changes, looks, and then sleeps while the words have the captured values. Before it sleeps it follows the topics of
# all subscribers of the process (meeting.pxi); what that changes moves a captured word.
#
# Why a sleep is cut into slices: signal handlers run between two of them, and a process that dies moves no word, so the
# locks of the other side are probed when a slice is over. A spin is cut for the same reason.

cdef enum:
    FIRST_SLICE_NS = 50_000_000
    LAST_SLICE_NS = 500_000_000
    SPIN_SLICE_NS = 200_000
    # Of a sleep that cannot watch all of its words.
    SHORT_SLICE_NS = 1_000_000
    # The coarse clock is this far behind at most, with ticks of 250 Hz. Where it is more, a sleep ends a little early.
    COARSE_TICK_NS = 4_000_000
    # Looks of a spin that is too short for a clock: about two microseconds, in which the GIL is kept. The answer to a
    # sample that was just published takes one.
    BRIEF_TURNS = 64
    # Of an adaptive subscriber: that all of the waits that it remembers were short.
    ALL_SOON = 0xff
    # As many as FUTEX_WAITV takes.
    MAX_WORDS = 128


cdef struct Watched:
    # What one turn of a wait looks at while it spins and sleeps.
    uint32_t *words[MAX_WORDS]
    uint32_t values[MAX_WORDS]      # as captured
    int count
    zs_reader *readers[MAX_WORDS]   # looked at by a spin
    int reader_count
    bint incomplete                 # a word found no room
    uint64_t until                  # the sleep ends then at the latest


cdef inline void watch(Watched *watched, uint32_t *word, uint32_t value) noexcept:
    if watched.count < MAX_WORDS:
        watched.words[watched.count], watched.values[watched.count] = word, value
        watched.count += 1
    else:
        watched.incomplete = True


cdef inline void watch_once(Watched *watched, uint32_t *word, uint32_t value) noexcept:
    """The same for a word that may be watched already; such words stand at the front."""
    for i in range(watched.count):
        if watched.words[i] == word and watched.values[i] == value:
            return
    watch(watched, word, value)


cdef int meet(Watched *watched, uint64_t now) except -1:
    """Follow the topics of all subscribers of the process, and watch their bells. May run Python code."""
    cdef MetBell bell
    cdef tuple bells = meeting.now()
    cdef uint64_t due_ns
    cdef uint32_t value
    cdef bint is_due = meeting.is_due()
    if is_due:
        meeting.due_ns = 0      # each of them notes its own again
    for bell in bells:
        value = zs_load32(bell.word.word, ZS_ACQUIRE)
        if (value != bell.followed or is_due) and not meeting.follow(bell):
            watched.until = now + BUSY_NS
        watch_once(watched, bell.word.word, value)
    due_ns = meeting.due_ns
    if due_ns != 0:
        watched.until = min(watched.until, due_ns + COARSE_TICK_NS)
    return 0


cdef class Waitable:
    """What a thread waits for, made for one wait. `wait_for` calls the methods in the order in which they stand."""

    cdef uint64_t spin_ns           # how long to spin before the first sleep
    cdef uint64_t slice_ns          # of the first slice; each one is twice as long as the one before it ...
    cdef uint64_t last_slice_ns     # ... up to this

    def __cinit__(self):
        self.slice_ns, self.last_slice_ns = FIRST_SLICE_NS, LAST_SLICE_NS

    cdef int prepare(self, Watched *watched) except -1:
        """Do what is due, and watch the words that move when it has to be done again. May run Python code."""
        raise NotImplementedError

    cdef bint is_ready(self) except -1:
        """Whether the wait is over."""
        raise NotImplementedError

    cdef bint is_due(self) noexcept:
        """Whether `prepare` has something to do although no word has moved. Called from time to time during a spin."""
        return False

    cdef void park(self, Watched *watched) noexcept:
        """Announce a sleep, and watch the words that move only for an announced one."""

    cdef bint is_ready_parked(self) noexcept:
        """The look after `park`, and after the sleep."""
        return False

    cdef int probe(self) except -1:
        """A slice is over: look whether the processes of the other side are alive."""
        return 0

    cdef void unpark(self) noexcept:
        """The sleep is over."""


cdef bint wait_for(Waitable what, uint64_t deadline_ns) except -1:
    """Whether `what` was ready before the deadline, in nanoseconds of CLOCK_MONOTONIC."""
    cdef Watched watched
    cdef uint64_t slice_ns = what.slice_ns
    cdef uint64_t slice_end = 0
    cdef uint64_t spin_end = 0
    cdef uint64_t now
    cdef bint ready, parked
    while True:
        # Signal handlers run here. What they, or other threads, do from here on moves one of the words.
        look_up()
        watched.count = watched.reader_count = watched.incomplete = 0
        watched.until = ZS_NEVER
        what.prepare(&watched)
        if what.is_ready():
            return True
        now = zs_now_ns()
        if now >= deadline_ns:
            return False
        meet(&watched, now)
        if slice_end == 0:
            slice_end, spin_end = now + slice_ns, now + what.spin_ns
        parked = now >= spin_end
        if parked:
            watched.until = min(watched.until, min(deadline_ns, slice_end))
            what.park(&watched)
        try:
            if parked:
                ready = sleep(what, &watched, now)
            else:
                ready = spin(what, &watched, now, min(deadline_ns, min(spin_end, slice_end)))
            if not ready and zs_now_ns() >= slice_end:
                what.probe()
                slice_ns = min(2 * slice_ns, what.last_slice_ns)
                slice_end = zs_now_ns() + slice_ns
        finally:
            if parked:
                what.unpark()   # after the probe: closes what was probed, where another thread has closed the handle
        if ready:
            return True


cdef bint sleep(Waitable what, Watched *watched, uint64_t now) noexcept:
    """Sleep until a watched word moves, or until the end of the slice. Whether `what` is ready."""
    if what.is_ready_parked():
        return True
    if watched.incomplete:
        watched.until = min(watched.until, now + SHORT_SLICE_NS)
    with nogil:
        zs_futex_wait_any(watched.words, watched.values, watched.count, watched.until)
    return what.is_ready_parked()


cdef bint spin(Waitable what, Watched *watched, uint64_t now, uint64_t until_ns) except -1:
    """Whether a reader had something before `until_ns`. Ends early where a word moves, or something is due."""
    cdef bint ready
    while now < until_ns:
        with nogil:
            ready = spin_until(watched.readers, watched.reader_count, watched.words, watched.values, watched.count,
                               min(until_ns, now + SPIN_SLICE_NS))
        if ready:
            return True
        look_up()
        if have_moved(watched.words, watched.values, watched.count) or what.is_due() or meeting.is_due():
            return False
        now = zs_now_ns()
    return False


cdef extern from *:
    """
    _Static_assert(ZS_WAITV_MAX == 128, "MAX_WORDS is as many as one futex call takes");

    static inline int have_moved(uint32_t *const *words, const uint32_t *values, int count)
    {
        for (int i = 0; i < count; i++)
            if (zs_load(words[i], ZS_ACQUIRE) != values[i])
                return 1;
        return 0;
    }

    static inline int spin_until(zs_reader *const *readers, int reader_count, uint32_t *const *words,
                                 const uint32_t *values, int word_count, uint64_t until_ns)
    {
        for (unsigned turns = 1;; turns++) {
            for (int i = 0; i < reader_count; i++)
                if (zs_reader_ready(readers[i]))
                    return 1;
            if (have_moved(words, values, word_count))
                return 0;
            zs_pause();
            if (turns % 16 == 0 && zs_now_ns() >= until_ns)
                return 0;
        }
    }

    /* The same for one reader, without a look at the clock. */
    static inline int spin_briefly(const zs_reader *reader, int turns)
    {
        while (turns-- > 0) {
            zs_pause();
            if (zs_reader_ready(reader))
                return 1;
        }
        return 0;
    }
    """
    bint have_moved(uint32_t **words, const uint32_t *values, int count) nogil
    bint spin_until(zs_reader **readers, int reader_count, uint32_t **words, const uint32_t *values, int word_count,
                    uint64_t until_ns) nogil
    bint spin_briefly(const zs_reader *reader, int turns) nogil


@cython.final
cdef class Condition(Waitable):
    """A condition in Python that a word announces. The look may be slow: it runs after each move and each slice."""

    cdef object condition
    cdef object keeps       # the words
    cdef uint32_t *words[2]     # or NULL

    cdef int prepare(self, Watched *watched) except -1:
        for word in self.words[:2]:
            if word != NULL:
                watch(watched, word, zs_load32(word, ZS_ACQUIRE))
        return 0

    cdef bint is_ready(self) except -1:
        return bool(self.condition())


cdef bint wait_for_condition(object condition, object keeps, uint32_t *word, uint32_t *other_word,
                             object timeout) except -1:
    """Whether `condition()` came true within `timeout` seconds. One of the words, which `keeps` maps, moves when it may
    have.
    """
    cdef Condition what = Condition.__new__(Condition)
    what.condition, what.keeps = condition, keeps
    what.words[0], what.words[1] = word, other_word
    what.last_slice_ns = FIRST_SLICE_NS     # a process that dies moves no word
    return wait_for(what, deadline_of(timeout))


@cython.final
cdef class Room(Waitable):
    """Room for more loans.

    SYNC space: `waiting` is raised while the wait lasts; then `space` is captured, then the slots are looked at.
    """

    cdef Owner owner
    cdef object allocator
    cdef uint32_t count     # of loans
    cdef uint64_t size      # bytes that each slot has to have
    cdef list holds         # what was reserved
    cdef bint has_looked

    cdef int prepare(self, Watched *watched) except -1:
        watch(watched, self.owner.segment.c.space, zs_load32(self.owner.segment.c.space, ZS_SPACE_LOAD))  # SYNC space
        if self.has_looked:
            self.allocator._reclaim_slots()
        self.has_looked = True
        return 0

    cdef bint is_ready(self) except -1:
        self.holds = self.owner.reserve_all(self.count, self.size)
        return self.holds is not None


cdef Hold reserve_slowly(Owner owner, object allocator, uint64_t size, uint64_t deadline_ns):
    """Reserve a slot of at least `size` bytes where none was free."""
    return <Hold>reserve_all_slowly(owner, allocator, 1, size, deadline_ns)[0]


cdef list reserve_all_slowly(Owner owner, object allocator, uint32_t count, uint64_t size, uint64_t deadline_ns):
    """Reserve slots of at least `size` bytes where there were not enough: clear what dead subscribers left, wait for
    the others until the deadline, and then raise the error for no slot. `allocator` is the SlotAllocator, which
    provides both.
    """
    cdef zs_segment *s = &owner.segment.c
    cdef list holds
    cdef Room room
    cdef uint64_t began
    if size > owner.largest():
        allocator._add_pool_for(size)
        if size > owner.largest():
            raise owner.too_large(size)
    allocator._reclaim_slots()
    # A failed lease may leave its reader bit set for a moment: look once more for each reader.
    for _ in range(1 + len(owner.segment.indexes_in_use())):
        holds = owner.reserve_all(count, size)
        if holds is not None:
            return holds
    began = zs_now_ns()
    if began < deadline_ns and not owner.waits_in_vain(count):
        room = Room.__new__(Room)
        room.owner, room.allocator, room.count, room.size = owner, allocator, count, size
        room.slice_ns, room.last_slice_ns = 1_000_000, 20_000_000   # a subscriber that has died must not block for long
        zs_owner_block_begin(s)
        zs_count(&s.counters.blocked, 1)
        try:
            if wait_for(room, deadline_ns):
                return room.holds
        finally:
            zs_owner_block_end(s)
            zs_count(&s.counters.blocked_ns, zs_now_ns() - began)
    error = allocator._no_slot_error(size, count)
    holds = owner.reserve_all(count, size)  # what was in the way may have gone by now, so the error would name another
    if holds is not None:
        return holds
    owner.count_no_slot(size)
    raise error


@cython.final
cdef class Taken(Waitable):
    """That every reliable subscriber has taken every sample."""

    cdef Owner owner
    cdef object allocator

    cdef int prepare(self, Watched *watched) except -1:
        watch(watched, self.owner.segment.c.space, zs_load32(self.owner.segment.c.space, ZS_SPACE_LOAD))  # SYNC space
        self.allocator.reap()
        self.allocator._meet_announced()
        return 0

    cdef bint is_ready(self) except -1:
        cdef uint32_t index
        return zs_owner_floor(&self.owner.c, &index) >= self.owner.c.published


cdef bint wait_until_taken(Owner owner, object allocator, object timeout) except -1:
    cdef Taken what = Taken.__new__(Taken)
    what.owner, what.allocator = owner, allocator
    what.last_slice_ns = FIRST_SLICE_NS
    owner.check_process()   # before `waiting` is written, which a forked child must not do
    zs_owner_block_begin(&owner.segment.c)
    try:
        return wait_for(what, deadline_of(timeout))
    finally:
        zs_owner_block_end(&owner.segment.c)
