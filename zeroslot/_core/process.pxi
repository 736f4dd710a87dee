# Part of binding.pyx: what holds for the whole process: forks, the end of the interpreter, signals and time.

cdef enum:
    # Copies from here on release the GIL: they take 5 us or more, and another thread may read sensors meanwhile. It may
    # also change the source, as with every copy of numpy's; what arrives then is what the program mixed itself. The
    # source cannot go away: its buffer is exported, or its array referred to, which numpy's resize refuses to cut.
    LARGE_COPY = 65536


cdef object forked(str what, str topic=None):
    advice = "Redeem the ticket again" if what == "reader of tickets" else "Create a new one"
    return errors.ForkedHandleError(
        f"this {what}{of_topic(topic)} belongs to the parent process. {advice} in the child", topic=topic
    )


cdef str of_topic(str topic):
    return "" if topic is None else f" of {topic}"


cdef bint ending = False


def begin_exit():
    """The interpreter ends: from now on handles are closed under daemon threads that still use them."""
    global ending
    ending = True


def closed_error(str text not None, str topic=None):
    """ClosedError. A daemon thread whose handle the interpreter's exit has closed gets nothing, and sleeps until the
    process is gone.

    Python does the same to it a moment later; an exception now would only print a traceback of a program that ended
    well.
    """
    if ending and threading.current_thread().daemon:
        with nogil:
            while True:
                pause()
    return errors.ClosedError(text, topic=topic)


cdef object is_worker = None    # whether the calling thread belongs to an executor; set when the interpreter ends


def end_waits_of_workers(object test not None):
    """From now on waits of threads for which `test()` is true raise ClosedError: the interpreter waits for them."""
    global is_worker
    is_worker = test


def notice() -> None:
    """Run signal handlers, and end a wait that would keep the interpreter from ending. Between two sleeps of a wait."""
    look_up()


cdef inline int look_up() except -1:
    PyErr_CheckSignals()
    if is_worker is not None and is_worker():
        raise errors.ClosedError("the interpreter ends, and waits for the workers of its executors")
    return 0


cdef bint is_of_signal_handler(object error) except -1:
    """Whether a signal handler raised an exception, and not the code that the signal interrupted."""
    cdef set codes = set()
    if threading.current_thread() is not threading.main_thread():
        return False
    for number in signal.valid_signals():
        handler = signal.getsignal(number)
        while isinstance(handler, functools.partial):
            handler = handler.func
        if callable(handler):
            handler = handler if hasattr(handler, "__code__") else getattr(handler, "__call__", None)
            codes.add(getattr(handler, "__code__", None))
    codes.discard(None)
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False


cdef int finalize(object handle) except -1:
    """Close a handle whose last reference has ended.

    A finalizer runs once and no exception leaves it, so an interruption must not end the closing. In here none comes
    before `close` is called: signal handlers run in Python code only.
    """
    try:
        handle.close()
    except BaseException:
        handle.close()
        raise
    return 0


cdef object unpicklable(object self):
    return TypeError(
        f"{type(self).__name__} cannot be pickled: it stands for memory of this process. "
        "Send the topic's name and open it there, or send a copy of the sample"
    )


def now_ns():
    """CLOCK_MONOTONIC, in nanoseconds."""
    return zs_now_ns()


cdef uint64_t stopped_ns = 0    # the time at which a test has stopped the clock of samples; 0: it runs


cdef inline uint64_t sample_ns() noexcept:
    """The clock of samples: when they are published, and how old they are. CLOCK_MONOTONIC, unless it is stopped."""
    return stopped_ns if stopped_ns != 0 else zs_now_ns()


def sample_now_ns():
    """The clock of samples of this process, in nanoseconds."""
    return sample_ns()


def stop_sample_clock(uint64_t ns):
    """Let the clock of samples of this process stand at `ns`, for tests; 0: it is CLOCK_MONOTONIC again."""
    global stopped_ns
    stopped_ns = ns


def deadline_after(timeout):
    """The point in time (nanoseconds of CLOCK_MONOTONIC) `timeout` seconds from now; None and huge ones: never."""
    return deadline_of(timeout)


cdef uint64_t deadline_of(object timeout) except? 0:
    cdef double seconds
    if timeout is None:
        return ZS_NEVER
    seconds = seconds_of(timeout)
    if seconds > 1e9:
        return ZS_NEVER
    if seconds < 0:
        seconds = 0
    return zs_now_ns() + <uint64_t>(seconds * 1e9)


cdef double seconds_of(object timeout) except? -1:
    """Any number that has a float: int, float, Fraction, Decimal, numpy's. ValueError for NaN."""
    cdef double seconds
    try:
        seconds = timeout
    except TypeError:
        raise TypeError(
            f"a timeout is a number of seconds, such as 0.5, or None to wait without a limit; not {timeout!r}"
        ) from None
    except OverflowError:
        seconds = 1e10 if timeout > 0 else -1   # beyond all floats
    if seconds != seconds:
        raise ValueError("a timeout cannot be NaN")
    return seconds


cdef object NO_TIME = 0     # the default of a poll; small ints exist once


cdef inline bint is_wait(object timeout) except -1:
    """Whether a call with this timeout may sleep."""
    return timeout is not NO_TIME and (timeout is None or seconds_of(timeout) > 0)
