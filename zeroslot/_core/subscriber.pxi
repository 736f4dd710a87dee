# Part of binding.pyx: the base of Subscriber, and its wait for samples.


cdef enum:
    LOOKS = 64  # at a sample that the owner withdraws meanwhile
    FEW_SOURCES = 4


cdef class SubscriberEnd(Handle):
    """The part of Subscriber that is called for every sample.

    Its state of the publishers is one table that is never changed in place: a decision that is made from the table may
    be made by a signal handler, another thread or the collector as well, before it is carried out. `_exchange` replaces
    the table that was seen, with all that follows from it, unless another one is there by now.
    """

    cdef readonly object _table
    cdef list sources           # the publishers that are read from, as in the table
    cdef list awaited           # segments in which a place may get free for this subscriber, as in the table
    cdef uint64_t due_ns        # when _follow is called although the bell is silent; 0: it is not
    cdef uint64_t followed_ns
    cdef uint64_t left_ns       # when the newest sample was published of those that were read from before
    cdef Word bell
    cdef uint32_t bell_seen     # its value when this subscriber's own calls followed; another one where they have to
    cdef uint32_t bell_followed     # its value when anything followed
    cdef bint for_others        # a wait of another subscriber is following
    cdef object postponed       # an error of that, for the next call of this subscriber
    cdef list unsaid            # warnings of that, as calls
    cdef uint32_t nudge         # bumped by close, to wake this subscriber's own threads
    cdef Py_ssize_t turn
    cdef uint64_t probed_ns
    cdef uint64_t spin_ns
    cdef bint adaptive          # whether it spins only where samples come soon enough
    cdef uint32_t soon          # a bit for each of the last waits, the newest lowest: whether it was a short one
    cdef object where
    cdef bint is_closed
    cdef bint verify            # compare each sample with its CRC
    cdef uint64_t corrupt       # samples that failed it
    cdef object deferred        # what ended a batch that had samples; the next batch raises it
    cdef object emptied         # called when a take has found nothing, or None

    def __init__(self, str where not None, Word bell not None, spin_us, table, bint verify=False,
                 bint adaptive=False):
        """`adaptive`: spin only while samples come within the time of a spin."""
        self.where = where
        self.adaptive, self.soon = adaptive, ALL_SOON
        self.verify = verify
        self._table = table
        self.bell = bell
        self.bell_seen = self.bell_followed = zs_load32(bell.word, ZS_ACQUIRE)
        self.sources = []
        self.awaited = []
        self.spin_ns = <uint64_t>min(<double>spin_us * 1e3, 1e18)
        self.probed_ns = zs_now_ns()

    cdef bint has_opened(self):
        return hasattr(self, "_bell")

    @cython.final
    cdef inline int check(self) except -1:
        if self.is_closed or self.fork != zs_fork_generation:
            self.reject_use()
        return 0

    @cython.final
    cdef int reject_use(self) except -1:
        """Raise what `check` raises; apart from it, so that its callers need not call it."""
        self.check_fork()
        raise closed_error(f"this subscriber of {self.where} is closed", self.where)

    @cython.final
    cdef inline int check_fork(self) except -1:
        if self.fork != zs_fork_generation:
            raise forked("subscriber", self.where)
        return 0

    @cython.final
    cdef inline list current(self):
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
        # Stored afterwards: if this is interrupted in between, the next call follows again.
        cdef uint32_t seen = zs_load32(self.bell.word, ZS_ACQUIRE)
        if self.postponed is not None or self.unsaid is not None:
            self.surface()
        self.followed_ns = zs_coarse_ns()
        self._follow()
        self.bell_seen = self.bell_followed = seen
        return 0

    @cython.final
    cdef int surface(self) except -1:
        """Log and raise what went wrong while a wait of another subscriber followed for this one."""
        cdef list unsaid
        with cython.critical_section(self):
            unsaid, self.unsaid = self.unsaid, None
            error, self.postponed = self.postponed, None
        for how, arguments in unsaid or ():
            how(*arguments)
        if error is not None:
            raise error
        return 0

    @cython.final
    cdef void postpone(self, object error) noexcept:
        """Let the next call of this subscriber raise an error."""
        self.postponed = error
        self.bell_seen = zs_load32(self.bell.word, ZS_ACQUIRE) - 1

    def _follow_for_others(self):
        """Follow in a wait of another subscriber, if the bell has rung or it is time to try again. False: another
        thread is following.
        """
        cdef uint32_t seen = zs_load32(self.bell.word, ZS_ACQUIRE)
        if self.fork != zs_fork_generation or self.is_closed or self.postponed is not None:
            return True
        if seen == self.bell_followed and not (self.due_ns != 0 and self.is_due()):
            meeting.note_due(self.due_ns)
            return True
        lock = self._following
        if self.for_others or not lock.acquire(False):
            return False
        # No signal handler runs between here and the `try`.
        self.for_others = True
        try:
            self.followed_ns = zs_coarse_ns()
            self._follow()
        except Exception as error:
            if is_of_signal_handler(error):
                raise
            self.postponed = error.with_traceback(None)     # whose frames would keep the subscriber
        finally:
            self.for_others = False
            lock.release()
        self.bell_followed = seen
        self.bell_seen = seen if self.postponed is None and self.unsaid is None else seen - 1
        meeting.note_due(self.due_ns)
        self._nudge()   # a thread that waits for this subscriber captured what has changed
        return True

    def _say(self, how not None, *arguments):
        """Call a function that logs or warns; the next call of this subscriber does it where this is not one."""
        if not self.for_others:
            how(*arguments)
            return
        with cython.critical_section(self):
            if self.unsaid is None:
                self.unsaid = []
            self.unsaid.append((how, arguments))

    def _begin_meeting(self):
        """From now on each wait of this process follows for this subscriber, until `_end_meeting`."""
        meeting.join(self, self.bell)

    def _end_meeting(self):
        meeting.leave(self)

    @cython.final
    cdef inline Lease leased(self, Source source, Hold hold):
        if self.verify:
            self.check_crc(source, hold)
        return lease_of(source, hold)

    # Not final: a call that the compiler cannot inline keeps what it needs for errors out of each take.
    cdef int check_crc(self, Source source, Hold hold) except -1:
        try:
            if source.reader.verify(hold):
                return 0
            raise errors.CorruptSegmentError(
                f"{self.where}: sample {hold.sequence} has no CRC, and its publisher gives each sample one. "
                "Start the publisher again",
                where=self.where, topic=self.where,
            )
        except errors.CorruptSegmentError:
            with cython.critical_section(self):
                self.corrupt += 1
            raise

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
                self._follow()  # which leaves it, and joins again after an eviction
                return self.next()
            hold = source.reader.take(False)
            if hold is not None:
                self.turn = at + 1
                return self.leased(source, hold)
        self.is_empty(sources)
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
            self.is_empty(sources)
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
    cdef int is_empty(self, list sources) except -1:
        """A take has found nothing."""
        self.found_nothing(sources)
        if self.emptied is not None:
            self.emptied()
        return 0

    @cython.final
    cdef int found_nothing(self, list sources) except -1:
        """A poll came back empty: has a publisher added a pool, ended, or died?"""
        cdef Source source
        cdef uint64_t now
        for source in sources:
            if source.reader.has_new_pools():
                source.reader.map_new_pools()
            if zs_segment_state(&source.reader.segment.c) != ZS_OPEN:
                self._follow()
                return 0
        now = zs_coarse_ns()
        if now > self.probed_ns + FIRST_SLICE_NS:
            self.probed_ns = now
            self._probe()
        return 0

    @cython.final
    cdef Lease next_soon(self):
        """The next sample of a single publisher, if it comes within about two microseconds.

        Cheaper than what a wait begins with: no clock is read, nothing is followed, and the GIL is kept.
        """
        cdef list sources
        cdef Source source
        cdef Hold hold
        with cython.critical_section(self):
            sources = self.sources
        if len(sources) != 1 or self.spin_ns == 0 or self.soon == 0:
            return None
        source = <Source>sources[0]
        if not spin_briefly(&source.reader.c, BRIEF_TURNS):
            return None
        self.soon |= 1
        hold = source.reader.take(False)
        return self.leased(source, hold) if hold is not None else None

    @cython.final
    cdef Lease next_within(self, object timeout):
        cdef Lease lease = self.next_soon()
        return lease if lease is not None else self.wait_for_sample(timeout, False)

    @cython.final
    cdef Lease wait_for_sample(self, object timeout, bint newest):
        cdef uint64_t deadline = deadline_of(timeout)
        cdef SampleWait what = self.sample_wait()
        cdef Lease lease
        while self.wait_adaptively(what, deadline):
            lease = self.newest() if newest else self.next()
            if lease is not None:
                return lease
            if zs_now_ns() >= deadline:
                break   # the deadline has passed, even if the ring reports data
        return None

    @cython.final
    cdef SampleWait sample_wait(self):
        cdef SampleWait what = SampleWait.__new__(SampleWait)
        what.end = self
        what.spin_ns = self.spin_ns
        return what

    def latest(self, timeout=0):
        """The newest sample by `published_ns`, or None; waits as `take` does. What it jumps over counts in `skipped`.
        """
        cdef Lease lease = self.newest()
        if lease is None and is_wait(timeout):
            lease = self.wait_for_sample(timeout, True)
        return lease

    def wait(self, timeout=None):
        """Sleep until `take` would return something: True; False after `timeout` seconds (None: for ever)."""
        return self.wait_adaptively(self.sample_wait(), deadline_of(timeout))

    @cython.final
    cdef bint wait_adaptively(self, SampleWait what, uint64_t deadline) except -1:
        """`wait_for`, without a spin where none of the last eight waits was short.

        A wait counts as short if it ended within twice the time of a spin: a wake-up takes about as long as a spin, so
        a spin would have met the sample. Where samples come seldom, a spin before each sleep only burns a processor.
        """
        cdef uint64_t began
        cdef bint ready
        if not self.adaptive:
            return wait_for(what, deadline)
        if self.soon == 0:
            what.spin_ns = 0
        began = zs_now_ns()
        ready = wait_for(what, deadline)
        if ready or zs_now_ns() - began > 2 * self.spin_ns:
            self.soon = (self.soon << 1 | (ready and zs_now_ns() - began <= 2 * self.spin_ns)) & ALL_SOON
        return ready

    def __iter__(self):
        return self

    def __next__(self):
        cdef Lease lease
        if self.is_closed:
            raise StopIteration
        try:
            lease = self.next()
            return lease if lease is not None else self.next_within(None)
        except errors.ClosedError:
            if self.is_closed or is_worker is not None:
                raise StopIteration from None
            raise

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)

    # What the subclass provides.

    def _follow(self):
        """Attach to publishers that are new, leave those that have ended."""
        raise NotImplementedError

    def _probe(self):
        """Mark publishers that have died."""
        raise NotImplementedError

    def _dtype(self):
        """The dtype of arrays of samples, as far as it is known."""
        raise NotImplementedError

    # What the subclass uses.

    def _check(self):
        """Raise ForkedHandleError in a forked child, ClosedError after the close."""
        self.check()

    def _check_process(self):
        """Raise ForkedHandleError in a forked child."""
        self.check_fork()

    def _exchange(self, seen, table, list sources not None, list awaited not None, uint64_t due_ns):
        """Put `table` in place of the table that was seen, with what follows from it: False where that is no longer it.

        `due_ns` is a time of CLOCK_MONOTONIC_COARSE. One step: no signal handler and no other thread runs within it.
        """
        cdef tuple before = ()  # freed at the end, since freeing it may run any code
        cdef Source source
        with cython.critical_section(self):
            if self._table is seen:
                for source in self.sources:
                    self.left_ns = max(self.left_ns, published_ns_of(source))
                before = (self._table, self.sources, self.awaited)
                self._table, self.sources, self.awaited, self.due_ns = table, sources, awaited, due_ns
        meeting.note_due(due_ns)
        return len(before) > 0

    def _call_when_empty(self, function not None):
        """From now on call a function each time that a take has found nothing."""
        self.emptied = function

    def _has_something(self):
        """Whether `take` would not wait."""
        return self.has_something()

    def _next_facts(self):
        """(sequence, published_ns, size) of the sample that `take` would give, or None. Nothing changes."""
        cdef list sources = self.current()
        cdef Py_ssize_t count = len(sources)
        cdef Py_ssize_t i
        cdef Source source
        cdef Reader reader
        cdef uint64_t published, n
        for i in range(count):
            source = <Source>sources[(self.turn + i) % count]
            reader = source.reader
            for _ in range(LOOKS):
                if reader.broken or reader.closed or not zs_reader_ready(&reader.c):
                    break
                published = zs_load64(reader.segment.c.published, ZS_ACQUIRE)
                n = max(reader.c.cursor + 1, published - min(published, <uint64_t>reader.segment.c.depth) + 1)
                found = reader.segment.sample(n)
                if found is not None:   # otherwise it is gone by now
                    return found
        return None

    def _activity(self):
        """When the newest sample of the publishers that are read from was published (CLOCK_MONOTONIC), how many samples
        they have published, and the time of the newest one of those that were read from before. 0 is the time where
        there is none, or none by the clock of this process.
        """
        cdef list sources
        cdef Source source
        cdef uint64_t newest_ns = 0
        cdef uint64_t count = 0
        with cython.critical_section(self):
            sources = self.sources
        for source in sources:
            count += zs_load64(source.reader.segment.c.published, ZS_ACQUIRE)
            newest_ns = max(newest_ns, published_ns_of(source))
        return newest_ns, count, self.left_ns

    def _end(self):
        """Mark as closed, and wake this subscriber's threads."""
        self.is_closed = True
        self._nudge()

    def _nudge(self):
        bump(&self.nudge)
        bump(&meeting.nudge)

    def _catch_up(self):
        """Follow the topic, if the bell has rung."""
        self.current()

    def _wait_for_bell(self, condition not None, timeout):
        """Sleep until `condition()` is true, which publishers that come or go may change: True; False after `timeout`
        seconds. Raises ClosedError once the subscriber is closed.
        """
        return wait_for_condition(condition, self, self.bell.word, &self.nudge, timeout)

    @property
    def _spins(self):
        """Whether the next wait spins before it sleeps."""
        return self.spin_ns != 0 and (not self.adaptive or self.soon != 0)

    @property
    def _corrupt_count(self):
        """Samples that were taken, and whose CRC was wrong."""
        return self.corrupt

    @cython.final
    cdef inline bint is_quiet(self) noexcept:
        """Whether `take` has nothing to raise that no publisher has done."""
        return not self.is_closed and self.postponed is None

    @cython.final
    cdef bint has_something(self) noexcept:
        """Whether `take` would not wait: it would give a sample, or raise."""
        cdef list sources
        cdef Source source
        if not self.is_quiet():
            return True
        with cython.critical_section(self):
            sources = self.sources
        for source in sources:
            if source.reader.has_news():
                return True
        return False

    @property
    def closed(self):
        """Whether `close` was called."""
        return self.is_closed


cdef char *TAKE = b"""take($self, /, timeout=0)
--

The next sample in order, or None; waits up to `timeout` seconds (None: for ever) while there is nothing.

Several publishers take turns; within each the order is that of publishing. What is no longer there is counted
in `lost`. Raises TooManyLeasesError while max_leases samples of one publisher are held.
"""


cdef object call_take(object self, PyObject **arguments, Py_ssize_t count, PyObject *names):
    cdef PyObject *timeout = NULL
    cdef object lease
    if count == 1 and names == NULL:
        timeout = arguments[0]
    elif count != 0 or names != NULL:
        timeout = timeout_of(arguments, count, names)
    lease = (<SubscriberEnd>self).next()
    if lease is None and timeout != NULL and is_wait(<object>timeout):
        return (<SubscriberEnd>self).next_within(<object>timeout)
    return lease


cdef PyObject *timeout_of(PyObject **arguments, Py_ssize_t count, PyObject *names) except NULL:
    """The timeout of a call that has something else, or has it by name."""
    cdef Py_ssize_t named = 0 if names == NULL else len(<tuple>names)
    if count + named != 1:
        raise TypeError(f"take() takes a timeout, and {count + named} arguments were given")
    if (<tuple>names)[0] != "timeout":
        raise TypeError(f"take() got an unexpected argument {(<tuple>names)[0]!r}")
    return arguments[0]


zs_add_method(SubscriberEnd, &FAST_METHODS[4], b"take", call_take, TAKE)


@cython.final
cdef class SampleWait(Waitable):
    """A sample for a subscriber, or something that `take` would raise."""

    cdef SubscriberEnd end
    cdef list sources           # of this turn
    cdef Py_ssize_t parked      # how many of them are parked
    cdef uint32_t generations[FEW_SOURCES]  # on which it sleeps, of the first ones
    cdef Py_ssize_t captured    # how many; -1: none in this turn

    cdef int prepare(self, Watched *watched) except -1:
        if self.sources is not None:
            self.end.found_nothing(self.sources)
        watch(watched, &self.end.nudge, zs_load32(&self.end.nudge, ZS_ACQUIRE))
        self.look_for_sources(watched)
        return 0

    cdef int look_for_sources(self, Watched *watched) except -1:
        cdef SubscriberEnd end = self.end
        cdef Source source
        self.captured = -1
        self.sources = end.current()
        while any_broken(self.sources):
            end._follow()
            self.sources = end.current()
        watch_once(watched, end.bell.word, end.bell_followed)
        for source in self.sources:
            if source.reader.has_new_pools():
                source.reader.map_new_pools()
            if watched.reader_count < MAX_WORDS:
                watched.readers[watched.reader_count] = &source.reader.c
                watched.reader_count += 1
        return 0

    cdef bint is_ready(self) except -1:
        return self.is_ready_parked()

    cdef bint is_due(self) noexcept:
        return self.end.due_ns != 0 and self.end.is_due()

    cdef void park(self, Watched *watched) noexcept:
        cdef Source source
        cdef Segment segment
        cdef list awaited
        cdef uint32_t generation
        for source in self.sources:
            if watched.count == MAX_WORDS:
                watched.incomplete = True
                break
            generation = source.reader.park()
            watch(watched, source.reader.segment.c.generation, generation)
            if self.parked < FEW_SOURCES:
                self.generations[self.parked] = generation
            self.parked += 1
            self.captured = self.parked
            if source.reader.has_new_pools():   # since `prepare`: no word that is watched moves for them again
                watched.until = min(watched.until, zs_now_ns() + COARSE_TICK_NS)
        with cython.critical_section(self.end):
            awaited = self.end.awaited
            if self.end.due_ns != 0:
                watched.until = min(watched.until, self.end.due_ns + COARSE_TICK_NS)
        for segment in awaited:
            if segment.space_has_moved():
                watched.until = min(watched.until, zs_now_ns() + COARSE_TICK_NS)
            elif watched.count < MAX_WORDS:     # without its word, `due_ns` ends the sleep
                watch(watched, segment.c.space, segment.space_noted)

    cdef bint is_ready_parked(self) noexcept:
        # SYNC park: the look that comes after the bit and the generation.
        cdef Source source
        for source in self.sources:
            if source.reader.has_news():
                return True
        return False

    cdef bint may_have_news(self) noexcept:
        """False: nothing has come since the look after `park`, which had found nothing. Cheaper than that look: it
        loads one word for each publisher.
        """
        cdef Py_ssize_t i
        if self.captured != len(self.sources) or self.captured > FEW_SOURCES or not self.end.is_quiet():
            return True
        for i in range(self.captured):
            if zs_load32((<Source>self.sources[i]).reader.segment.c.generation, ZS_ACQUIRE) != self.generations[i]:
                return True
        return False

    cdef int probe(self) except -1:
        self.end.probed_ns = zs_now_ns()
        self.end._probe()
        return 0

    cdef void unpark(self) noexcept:
        while self.parked > 0:
            self.parked -= 1
            (<Source>self.sources[self.parked]).reader.unpark()


cdef uint64_t published_ns_of(Source source) noexcept:
    """When the newest sample of a publisher was published; 0 where it has another clock."""
    return source.reader.segment.newest_published_ns() if source.reader.one_clock else 0


cdef bint any_broken(list sources) noexcept:
    cdef Source source
    for source in sources:
        if source.reader.broken:
            return True
    return False
