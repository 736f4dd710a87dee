# Part of binding.pyx: every wait of a process follows the topics of all its subscribers.
#
# Why: a subscriber finds publishers inside calls of its process. A program that waits on one topic, or for room or for
# subscribers, and has a subscriber of another topic at hand, would otherwise never attach to the publishers of that
# one, and a publisher that waits for it would wait for ever.
#
# A wait only tries the lock of another subscriber: a thread that holds it follows already. What goes wrong is kept, and
# raised or logged by the next call of the subscriber that it concerns.

from weakref import ref

cdef enum:
    BUSY_NS = 10_000_000    # the time to the next try, where another thread follows for a subscriber


@cython.final
cdef class Members:
    """Objects that are known as long as they live, as in a WeakSet. Other threads and signal handlers may change it
    while it is read: one that is read has the members that it had at one moment.
    """

    cdef dict references

    def __cinit__(self):
        self.references = {}

    def add(self, member not None):
        self.references[ref(member, self._forget)] = None

    def discard(self, member not None):
        self.references.pop(ref(member), None)

    def _forget(self, reference):
        self.references.pop(reference, None)

    cdef list living(self):
        # `list` is one step of the interpreter.
        return [member for member in [reference() for reference in list(self.references)] if member is not None]

    def __iter__(self):
        return iter(self.living())

    def __len__(self):
        return len(self.living())

    def __reduce__(self):
        raise unpicklable(self)


@cython.final
cdef class MetBell:
    """A bell, and the subscribers of this process that follow it."""

    cdef Word word
    cdef uint32_t followed  # the value at which all of them had followed
    cdef Members followers


@cython.final
cdef class Meeting:
    """The subscribers of this process, by their bells. There is one, `meeting`."""

    cdef tuple bells        # never changed in place
    cdef uint64_t due_ns    # when one of them has something to do although its bell is silent; 0: never
    cdef uint32_t nudge     # bumped when a subscriber is closed, or was followed for by another's wait
    cdef uint64_t fork
    cdef object lock        # of changes of `bells` and of their sets

    cdef tuple now(self):
        """The bells of this process; a forked child begins with none."""
        cdef tuple bells
        if self.fork != zs_fork_generation:
            self.begin(threading.RLock())
        with cython.critical_section(self):
            bells = self.bells
        return bells

    cdef void begin(self, object lock) noexcept:
        with cython.critical_section(self):
            if self.fork != zs_fork_generation:
                self.fork, self.bells, self.due_ns, self.lock = zs_fork_generation, (), 0, lock

    cdef void note_due(self, uint64_t due_ns) noexcept:
        with cython.critical_section(self):
            if due_ns != 0 and (self.due_ns == 0 or due_ns < self.due_ns):
                self.due_ns = due_ns

    cdef bint is_due(self) noexcept:
        return self.due_ns != 0 and zs_coarse_ns() >= self.due_ns

    cdef int join(self, object follower, Word word) except -1:
        """From now on waits of this process follow for it."""
        cdef MetBell bell
        self.now()
        with self.lock:
            for bell in self.bells:
                if bell.word is word:
                    break
            else:
                bell = MetBell.__new__(MetBell)
                bell.word, bell.followers = word, Members()
                self.bells = (*self.bells, bell)
            bell.followers.add(follower)
            bell.followed = zs_load32(word.word, ZS_ACQUIRE) - 1    # it may have rung since its first look
        return 0

    cdef int leave(self, object follower) except -1:
        cdef MetBell bell
        self.now()
        with self.lock:
            for bell in self.bells:
                bell.followers.discard(follower)
            self.bells = tuple([bell for bell in self.bells if len(bell.followers) > 0])
        return 0

    cdef bint follow(self, MetBell bell) except -1:
        """Follow for the subscribers of a bell that have not. False: another thread holds the lock of one."""
        cdef uint32_t value = zs_load32(bell.word.word, ZS_ACQUIRE)
        cdef bint all_done = True
        for follower in list(bell.followers):
            if not follower._follow_for_others():
                all_done = False
        if all_done:
            bell.followed = value
        return all_done


cdef Meeting meeting = Meeting.__new__(Meeting)


def follow_all():
    """Follow for every subscriber of this process whose bell has rung. For waits that are not `wait_for`."""
    cdef MetBell bell
    for bell in meeting.now():
        if zs_load32(bell.word.word, ZS_ACQUIRE) != bell.followed:
            meeting.follow(bell)
