"""The C core for Python: converts arguments, exports buffers, owns lifetimes and raises.

Why a Hold: views, arrays and memoryviews of a slot must keep it, and nothing else may. So all of them refer to one
small object a leased or loaned slot, the Hold; the slot is given back when the Hold goes. Handles (Slot, Loan, Lease)
refer to it as well, and drop only their own reference when they are released, committed or discarded.

Why most classes here take no part in garbage collection: a Hold refers to its Owner or Reader, and those to mappings.
Nothing in that line refers back to Python objects of the user's, so no cycle can pass through it. The one exception is
undone by hand: a loan's Hold lists the writable arrays that it handed out, until the loan ends.

Why it imports the errors, and nothing else of the package: what goes wrong here has the package's types, in a process
that has imported any one module of it. The errors stand above everything and import nothing themselves.
"""

cimport cython
from cpython.buffer cimport PyBuffer_Release, PyBUF_SIMPLE, PyObject_CheckBuffer, PyObject_GetBuffer
from cpython.buffer cimport PyBUF_FORMAT, PyBUF_ND, PyBUF_STRIDES, PyBUF_WRITABLE
from cpython.bytes cimport PyBytes_AsStringAndSize
from cpython.exc cimport PyErr_CheckSignals
from cpython.mem cimport PyMem_RawCalloc, PyMem_RawFree
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF
from libc.errno cimport EACCES, EAGAIN, EFAULT, EINTR, EINVAL, errno
from libc.stdint cimport INT64_MAX, INT64_MIN, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove, memset

cimport numpy as cnp

import os
import threading

from zeroslot import errors

include "core.pxi"

cnp.import_array()

if zs_fork_watch() != 0:
    raise ImportError("pthread_atfork has no memory left")

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

cdef extern from "<sys/mman.h>" nogil:
    int madvise(void *address, size_t length, int advice)

cdef extern from *:
    """
    #define ZS_POPULATE_READ 22   /* MADV_POPULATE_READ and _WRITE, Linux 5.14; older headers lack the names */
    #define ZS_POPULATE_WRITE 23
    #define ZS_PAGE 4096
    #define ZS_NEVER UINT64_MAX
    #define ZS_ENDLESS LONG_MAX   /* of a lock up to the end of the file, however long that gets */
    """
    int ZS_POPULATE_READ, ZS_POPULATE_WRITE, ZS_PAGE
    long ZS_ENDLESS
    uint64_t ZS_NEVER

cdef enum:
    # Waits are cut into slices: after each, signals are looked at and owners probed.
    FIRST_SLICE_NS = 50_000_000
    LAST_SLICE_NS = 500_000_000
    # So are spins: after each, signals are looked at.
    SPIN_SLICE_NS = 200_000
    # The coarse clock is this far behind at most, with ticks of 250 Hz. Where it is more, a sleep ends a little early.
    COARSE_TICK_NS = 4_000_000
    # Copies from here on release the GIL.
    LARGE_COPY = 65536
    # One take in this many enters the latency histogram.
    SAMPLED = 64

cdef char *BYTE_FORMAT = b"B"


cdef object forked(str what):
    return errors.ForkedHandleError(
        f"this {what} belongs to the parent process: a forked child owns nothing of it. Create a new one in the child"
    )


cdef extern from "<unistd.h>" nogil:
    int pause()

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


cdef int finalize(object handle) except -1:
    """Close a handle whose last reference is gone.

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
        return self.ask(F_OFD_SETLK, F_RDLCK if shared else F_WRLCK, byte, count) == 0

    def unlock(self, long byte):
        """Drop this description's lock on one byte."""
        self.ask(F_OFD_SETLK, F_UNLCK, byte)

    def is_locked(self, long byte):
        """Whether somebody else holds the byte. A description does not see locks of its own."""
        return self.ask(F_OFD_GETLK, F_WRLCK, byte) != 0

    def lock_length(self, long byte):
        """How many bytes the lock has that another description holds over this byte; 0: there is none."""
        return self.ask(F_OFD_GETLK, F_WRLCK, byte)

    cdef long ask(self, int command, short kind, long byte, long count=1) except -1:
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
    """One mapping of a shared-memory object, gone with the last reference. Offsets and sizes are bytes.

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
                        zs_fetch_or8(page, 0, ZS_RELAXED)  # somebody else may write there
                    else:
                        zs_load8(page, ZS_RELAXED)
                    i += ZS_PAGE
                result = 0
        if result != 0:
            raise OSError(errno, "madvise")

    cdef bint is_cut(self) noexcept nogil:
        """Whether the object has become shorter than this mapping, as far as the kernel tells (5.14 and newer)."""
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
        """Add one and wake whoever sleeps on the word."""
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


def now_ns():
    """CLOCK_MONOTONIC, in nanoseconds."""
    return zs_now_ns()


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
    except OverflowError:
        seconds = 1e10 if timeout > 0 else -1   # beyond all floats
    if seconds != seconds:
        raise ValueError("a timeout cannot be NaN")
    return seconds


cdef object NO_TIME = 0     # the default of a poll; small ints exist once


cdef inline bint is_wait(object timeout) except -1:
    """Whether a call with this timeout may sleep."""
    return timeout is not NO_TIME and (timeout is None or seconds_of(timeout) > 0)


cdef str text_of(const uint8_t *data, size_t size):
    return data[:size].split(b"\0", 1)[0].decode("utf-8", "replace")


cdef int put_text(uint8_t *data, size_t size, str text) except -1:
    cdef bytes encoded = text.encode()[:size]
    memset(data, 0, size)
    memcpy(data, <const char *>encoded, len(encoded))
    return 0


include "segment.pxi"
include "ends.pxi"
include "codecs.pxi"
include "validators.pxi"
include "typed.pxi"
