# Part of binding.pyx: descriptors that programs wait on with select, poll, epoll and event loops.


@cython.final
@cython.no_gc
cdef class Doorbell:
    """A descriptor that is readable from a ring to the next `silence`. Forked children and started programs never have
    it.

    It is closed with the last reference, so a thread that rings never writes to a descriptor that has another file.
    """

    cdef zs_descriptor c

    def __cinit__(self):
        if not zs_descriptor_open_event(&self.c):
            raise OSError(errno, os.strerror(errno), "eventfd")

    def __dealloc__(self):
        zs_descriptor_close(&self.c)

    def fileno(self):
        """The descriptor; -1 in a forked child."""
        return self.c.fd

    def ring(self):
        """Make it readable. Any thread and any signal handler may call it."""
        cdef uint64_t one = 1
        write(self.c.fd, &one, sizeof(one))

    def silence(self):
        """Make it unreadable."""
        cdef uint64_t count
        read(self.c.fd, &count, sizeof(count))

    def __reduce__(self):
        raise unpicklable(self)


def poll_until(list watched not None, uint64_t deadline_ns):
    """For each (descriptor, events) of a list the events that poll reports, as soon as there are any; zeros after the
    deadline. A descriptor that is not open has POLLNVAL. Raises OSError.
    """
    cdef Py_ssize_t count = len(watched)
    cdef zs_pollfd *polled = <zs_pollfd *>PyMem_RawCalloc(count + 1, sizeof(zs_pollfd))
    cdef zs_timespec_c slice
    cdef uint64_t now, left
    cdef int found, why
    if polled == NULL:
        raise MemoryError
    try:
        for i in range(count):
            polled[i].fd, polled[i].events = watched[i]
        while True:
            look_up()   # a signal that arrives from here to the sleep is noticed at the end of the slice
            now = zs_now_ns()
            left = deadline_ns - now if deadline_ns > now else 0
            slice = zs_timespec(min(left, <uint64_t>LAST_SLICE_NS))
            with nogil:
                found = ppoll(polled, count, &slice, NULL)
                why = errno
            if found > 0 or (found == 0 and left <= LAST_SLICE_NS):
                return [polled[i].revents for i in range(count)]
            if found < 0 and why != EINTR:
                raise OSError(why, os.strerror(why))
    finally:
        PyMem_RawFree(polled)
