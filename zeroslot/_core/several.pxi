# Part of binding.pyx: one wait for several subscribers, and for a flag that the program raises.
#
# Each subscriber takes one word for each of its publishers; the bell, and what wakes all waits of this kind, are
# shared. So one futex call covers about 125 publishers. With more of them a sleep is cut into slices of a millisecond.


@cython.final
cdef class Flag:
    """A word of this process, which ends the waits that watch it."""

    cdef uint32_t word

    @property
    def value(self):
        return zs_load32(&self.word, ZS_ACQUIRE)

    def bump(self):
        """Add one, and wake the threads that wait for it. Any thread and any signal handler may call it."""
        bump(&self.word)

    def sleep(self, uint32_t seen, uint64_t deadline_ns):
        """Sleep while it has the value `seen`, until the deadline. Follows no topic and looks at no signals."""
        cdef uint32_t *word = &self.word
        with nogil:
            zs_futex_wait(word, seen, deadline_ns)


@cython.final
cdef class Several(Waitable):
    """That one of several subscribers has something, or that a flag has moved."""

    cdef list ends
    cdef list parts     # a SampleWait for each
    cdef bint failed    # following raised for one of them in this turn
    cdef Flag flag
    cdef uint32_t seen
    cdef bint spins
    cdef bint in_use    # by a wait
    cdef bint has_slept     # since a look at all that found nothing

    def __init__(self, list ends not None, Flag flag not None, *, bint spin=True):
        cdef SubscriberEnd end
        self.ends, self.parts, self.flag, self.spins = ends, [], flag, spin
        for end in ends:
            self.parts.append(end.sample_wait())
            if spin:
                self.spin_ns = max(self.spin_ns, end.spin_ns)

    def wait(self, uint32_t seen, uint64_t deadline_ns):
        """The subscribers that have something: `take` would give a sample or raise. Sleeps until the deadline while
        none has and the flag has the value `seen`. Threads, and signal handlers, may call it while it runs.
        """
        cdef SubscriberEnd end
        cdef bint in_use
        for end in self.ends:
            end.check_fork()
        with cython.critical_section(self):
            in_use, self.in_use = self.in_use, True
        if in_use:
            return Several(self.ends, self.flag, spin=self.spins).wait(seen, deadline_ns)
        self.seen = seen
        try:
            wait_for(self, deadline_ns)
        finally:
            self.in_use = False
        return [
            end for part, end in zip(self.parts, self.ends, strict=True)
            if (not self.has_slept or (<SampleWait>part).may_have_news()) and (<SubscriberEnd>end).has_something()
        ]

    cdef int prepare(self, Watched *watched) except -1:
        cdef SampleWait part
        self.failed = self.has_slept = False
        watch(watched, &self.flag.word, self.seen)
        watch(watched, &meeting.nudge, zs_load32(&meeting.nudge, ZS_ACQUIRE))
        for part in self.parts:
            part.end.check_fork()   # a signal handler may have forked
            if part.end.is_closed or part.end.postponed is not None:
                self.failed = True
                continue
            try:
                if part.sources is not None:
                    part.end.found_nothing(part.sources)
                part.look_for_sources(watched)
            except Exception as error:
                # The subscriber counts as ready, and its next call raises this.
                if is_of_signal_handler(error):
                    raise
                if not part.end.is_closed:
                    part.end.postpone(error.with_traceback(None))
                self.failed = True
        return 0

    cdef bint is_ready(self) except -1:
        return self.failed or self.is_ready_parked()

    cdef bint is_due(self) noexcept:
        cdef SampleWait part
        for part in self.parts:
            if part.is_due():
                return True
        return False

    cdef void park(self, Watched *watched) noexcept:
        cdef SampleWait part
        self.has_slept = False
        for part in self.parts:
            part.park(watched)

    cdef bint is_ready_parked(self) noexcept:
        cdef SampleWait part
        cdef bint has_slept = self.has_slept
        self.has_slept = False
        if zs_load32(&self.flag.word, ZS_ACQUIRE) != self.seen:
            return True
        for part in self.parts:
            if (not has_slept or part.may_have_news()) and part.is_ready_parked():
                self.has_slept = has_slept
                return True
        self.has_slept = True
        return False

    cdef int probe(self) except -1:
        cdef SampleWait part
        for part in self.parts:
            if not part.end.is_closed:
                part.probe()
        return 0

    cdef void unpark(self) noexcept:
        cdef SampleWait part
        for part in self.parts:
            part.unpark()


def wait_for_any(list ends not None, Flag flag not None, uint32_t seen, uint64_t deadline_ns, *, bint spin=True):
    """`Several.wait` for one wait."""
    return Several(ends, flag, spin=spin).wait(seen, deadline_ns)
