# Part of binding.pyx: the name of a sample, which one process gives to another.


@cython.final
cdef class Ticket:
    """Names a sample that was leased, so that `redeem` leases it in another process, in place. Small; it can be
    pickled, compared and hashed.

    It is good while its sample is among the newest `depth`, and while the lease that made it is held; it keeps nothing
    itself. `publisher_id`, `slot` and `sequence` find the sample. `uid` and `gid` own the publisher's memory: another
    user's memory under the same name is refused. `topic` is for texts.
    """

    cdef readonly str publisher_id
    cdef readonly uint32_t slot
    cdef readonly uint64_t sequence
    cdef readonly uint32_t uid
    cdef readonly uint32_t gid
    cdef readonly str topic

    def __cinit__(self, str publisher_id not None, slot, sequence, uid, gid, str topic=None):
        if len(publisher_id) != 16 or not set(publisher_id) <= set("0123456789abcdef"):
            raise ValueError(f"a ticket's publisher_id is 16 hexadecimal digits, not {publisher_id[:40]!r}")
        self.publisher_id = publisher_id
        self.slot = ticket_number("slot", slot, 0, ZS_MAX_SLOTS - 1)
        self.sequence = ticket_number("sequence", sequence, 1, INT64_MAX)
        self.uid = ticket_number("uid", uid, 0, 0xFFFFFFFF)
        self.gid = ticket_number("gid", gid, 0, 0xFFFFFFFF)
        self.topic = topic

    cdef tuple facts(self):
        return self.publisher_id, self.slot, self.sequence, self.uid, self.gid, self.topic

    def __eq__(self, other):
        return self.facts() == (<Ticket>other).facts() if isinstance(other, Ticket) else NotImplemented

    def __hash__(self):
        return hash(self.facts())

    def __reduce__(self):
        return Ticket, self.facts()

    def __repr__(self):
        return f"<Ticket{of_topic(self.topic)}, sample {self.sequence} of {self.publisher_id}>"


cdef object ticket_number(str name, object value, uint64_t least, uint64_t most):
    """A whole number within these bounds. Raises TypeError and ValueError."""
    if not isinstance(value, int):
        raise TypeError(f"a ticket's {name} is an int, not {type(value).__name__}")
    if not least <= value <= most:
        raise ValueError(f"a ticket's {name} is {least} to {most}, not {value}")
    return value
