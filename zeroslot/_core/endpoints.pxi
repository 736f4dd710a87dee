# Part of binding.pyx: what all handles share, and the bases of SlotAllocator, SlotReader and Publisher.

from types import MethodDescriptorType


cdef class Handle:
    """What a program opens and closes: an allocator, a reader, a publisher or a subscriber. A context manager.

    A handle whose last reference goes is closed, unless its constructor was interrupted before there was anything to
    close. The subclass's `close` works at any time after that: before the constructor has ended, after another call
    that was interrupted, and in a forked child, where it does nothing.

    Why the finalizer is here and not in Python: it runs once, and a signal handler may raise in any Python function.

    Why a subclass may not compare in its own way: the handles of a process are kept in sets, to be closed at exit and
    to be woken. Of two that are equal a set has one.
    """

    cdef uint64_t fork  # the fork generation in which it was made

    def __cinit__(self):
        kind = type(self)
        if kind.__hash__ is not object.__hash__ or kind.__eq__ is not object.__eq__:
            raise TypeError(
                f"{kind.__name__} has an __eq__ or a __hash__ of its own: a handle is equal to itself alone. Leave "
                "them out; for a dataclass, say eq=False"
            )
        self.fork = zs_fork_generation

    def __del__(self):
        if self.has_opened():
            finalize(self)

    cdef bint has_opened(self):
        """Whether there may be something to close. Runs no Python code, which a signal handler could interrupt."""
        return True

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        self.close()

    def __reduce__(self):
        raise unpicklable(self)

    def close(self):
        """Give back all that the handle owns: the subclass's part."""

    @property
    def _inherited(self):
        """Whether this is a forked child's copy."""
        return self.fork != zs_fork_generation


cdef class AllocatorEnd(Handle):
    """The part of SlotAllocator that is called for every sample."""

    cdef Owner owner

    def __init__(self, Owner owner not None, str topic=None):
        self.owner = owner
        owner.topic = topic

    cdef bint has_opened(self):
        return hasattr(self, "_owned")

    @property
    def native(self):
        return self.owner

    def _reclaim_slots(self):
        """Make free what can be: no slot is left. The subclass provides it."""
        raise NotImplementedError

    def _meet_announced(self):
        """Forget announced subscriptions that have joined. The subclass provides it."""

    def _add_pool_for(self, size):
        """Add a pool with slots for `size` bytes, which fit no slot, or raise. The subclass provides it."""
        raise NotImplementedError

    def _beyond_max_bytes(self, size, max_bytes):
        """The error for a sample of `size` bytes where a publisher allows `max_bytes`. The subclass provides it."""
        raise NotImplementedError

    def _no_slot_error(self, size, count=1):
        """Why there is still no slot of at least `size` bytes. The subclass provides it."""
        raise NotImplementedError

    def reserve(self, size=None, timeout=0):
        """Borrow a free slot to write `size` bytes into, which are zeros at first: of the smallest slots that have so
        many bytes, the next larger ones where none of those is free. Default: a whole slot of the largest ones.

        The zeros are written when the slot is first looked into: `commit(slot, data)` costs no more than the copy.
        As a context manager the slot is committed at the end, all that was reserved, and discarded by an exception.

        Waits up to `timeout` seconds (None: for ever) while readers hold every slot or other threads all loans, then
        raises NoFreeSlotError, which names them; at once where this thread has borrowed all loans itself. Raises
        SampleTooLargeError for a size that no slot has.
        """
        cdef Slot slot = self.borrow(size, timeout)
        slot.hold.blank = True
        return slot

    def reserve_uninit(self, size=None, timeout=0):
        """Borrow a free slot as `reserve` does, and leave in it what an older sample left: for programs that write each
        byte that they commit.
        """
        return self.borrow(size, timeout)

    @cython.final
    cdef Slot borrow(self, object size, object timeout):
        cdef Hold hold
        cdef Slot slot
        cdef uint64_t count = self.owner.largest() if size is None else whole_size(size)
        hold = self.owner.reserve(count)
        if hold is None:
            hold = reserve_slowly(self.owner, self, count, deadline_of(timeout))
        slot = <Slot>zs_new_slot()
        slot.hold = hold
        slot.owner = self.owner
        return slot

    def commit(self, Slot slot not None, size=None):
        """Publish a slot; the sample's sequence.

        `size` is the number of bytes written in place, or a bytes-like object to copy first (default: all that was
        reserved). Raises SampleTooLargeError before anything is copied, ClosedError for a slot that was given back or
        is another allocator's.
        """
        cdef Hold hold
        cdef size_t count
        if slot.owner is not self.owner or isinstance(slot, Loan):
            raise errors.ClosedError(
                "this slot belongs to another allocator, or is a publisher's loan. Commit it there"
            )
        if size is None or isinstance(size, int):
            return slot.finish(size)
        hold = slot.live()
        count = copy_into(hold, size)
        hold.blank = False  # the bytes after these are not published
        return slot.finish(count)

    def discard(self, Slot slot not None):
        """Give a slot back unpublished. Raises ClosedError for one that was given back or is another allocator's."""
        if slot.owner is not self.owner:
            raise errors.ClosedError("this slot belongs to another allocator. Discard it there")
        slot.live()
        slot.discard()

    @property
    def generation(self):
        """The word that every commit, seal and owner event moves (32 bits, wraps)."""
        self.owner.check_fork()
        return self.owner.segment.generation

    @property
    def sequence(self):
        """The newest committed sequence; first_sequence - 1 before any."""
        self.owner.check_fork()
        return self.owner.c.published

    def _wait_for_space(self, condition not None, timeout):
        """Sleep until `condition()` is true, which joins and leaves may change: True; False after `timeout` seconds."""
        return wait_for_condition(condition, self.owner.segment, self.owner.segment.c.space, NULL, timeout)

    def _wait_until_taken(self, timeout):
        """Sleep until reliable subscribers have taken all: True; False after `timeout` seconds (None: for ever)."""
        return wait_until_taken(self.owner, self, timeout)

cdef class ReaderEnd(Handle):
    """The part of SlotReader that is called for every sample."""

    cdef Reader reader
    cdef uint64_t probed_ns

    def __init__(self, Reader reader not None, str topic=None):
        self.reader = reader
        reader.topic = topic
        self.probed_ns = zs_coarse_ns()

    def close(self):
        """Leave the segment. Leases stay valid. A second call does nothing, nor does a call in a forked child."""
        if self.reader is not None:  # or the constructor was interrupted
            self.reader.close()

    @property
    def native(self):
        return self.reader

    def _probe(self):
        """Mark the segment if its owner has died. The subclass provides it."""
        raise NotImplementedError

    def take(self):
        """The next sample in order, or None. What is no longer there is counted in `lost` and jumped over.

        Raises TooManyLeasesError while max_leases samples are held, EvictedError from when the owner has ended this
        reader's registration until `rejoin`, CorruptSegmentError.
        """
        return self._lease(False)

    def latest(self):
        """The newest sample, or None. What it jumps over counts in `skipped`."""
        return self._lease(True)

    cdef object _lease(self, bint newest):
        cdef Hold hold
        self.reader.check()
        hold = self.reader.take(newest)
        if hold is None:
            if self.reader.has_new_pools():
                self.reader.map_new_pools()
            self._look_for_owner()
            return None
        return slot_lease_of(hold)

    def _look_for_owner(self):
        """Probe the owner, if that was 50 ms ago or longer."""
        cdef uint64_t now = zs_coarse_ns()
        if now > self.probed_ns + FIRST_SLICE_NS:
            self.probed_ns = now
            self._probe()

    def rejoin(self):
        """Continue after the sample that was taken last, after an EvictedError. What was overwritten meanwhile is lost.

        Every lease has to be released before: the owner counts what an evicted reader holds. Raises
        TooManyLeasesError, and CorruptSegmentError. Without an EvictedError before it this does nothing.
        """
        self.reader.check()
        self.reader.rejoin()

    @property
    def generation(self):
        """The word to capture before looking for samples; give it to wait_for_change."""
        self.reader.check_fork()
        return self.reader.segment.generation

    def wait_for_change(self, last, timeout=None):
        """Sleep until the generation is no longer `last`: True; False after `timeout` seconds (None: for ever).

        Capture the generation, look, then wait on what was captured: no change in between is missed.
        """
        cdef GenerationWait what = GenerationWait.__new__(GenerationWait)
        if not isinstance(last, int) or not 0 <= last <= 0xFFFFFFFF:
            raise ValueError(f"last is a generation, which has 32 bits, not {shown_number(last)}")
        what.end, what.last = self, last
        return wait_for(what, deadline_of(timeout))


@cython.final
cdef class GenerationWait(Waitable):
    """That the generation of a reader's segment is no longer `last`."""

    cdef ReaderEnd end
    cdef uint32_t last

    cdef int prepare(self, Watched *watched) except -1:
        self.end.reader.check()
        if self.end.reader.has_new_pools():
            self.end.reader.map_new_pools()
        return 0

    cdef bint is_ready(self) except -1:
        return zs_load32(self.end.reader.segment.c.generation, ZS_GENERATION_LOAD) != self.last

    cdef void park(self, Watched *watched) noexcept:
        self.end.reader.park()
        watch(watched, self.end.reader.segment.c.generation, self.last)

    cdef int probe(self) except -1:
        self.end._probe()
        return 0

    cdef void unpark(self) noexcept:
        self.end.reader.unpark()


cdef class PublisherEnd(Handle):
    """The part of Publisher that is called for every sample."""

    cdef readonly object allocator
    cdef Owner owner
    cdef Plan plan
    cdef uint64_t sample_size
    cdef uint64_t max_bytes     # as the publisher was given it
    cdef uint64_t largest       # bytes of a sample that needs no closer look
    cdef object default_timeout

    def __init__(self, AllocatorEnd allocator not None, Plan plan not None, default_timeout, max_bytes=None):
        if plan.size > allocator.owner.largest():
            raise ValueError("the sample does not fit its slots")
        self.allocator, self.owner, self.plan, self.default_timeout = allocator, allocator.owner, plan, default_timeout
        self.sample_size = plan.size
        self.max_bytes = LARGEST_SAMPLE if max_bytes is None else max_bytes
        self.largest = self.max_bytes
        if plan.whole is not None and max_bytes is not None:
            self.largest += plan.whole.start_after(plan.size)

    cdef bint has_opened(self):
        return hasattr(self, "_bell")

    @cython.final
    cdef Loan borrow(self, object timeout):
        cdef Hold hold = self.hold_for(self.owner.reserve_slot(self.sample_size), timeout)
        cdef Loan loan = <Loan>zs_new_loan()
        loan.hold = hold
        loan.owner = self.owner
        loan.view = make_view(self.plan.view_class, hold, hold.data, hold.size)
        return loan

    @cython.final
    cdef inline Hold hold_for(self, uint32_t slot, object timeout):
        """The Hold of a slot for a sample of a fixed size; of another one, if need be after a wait, for ZS_NO_SLOT."""
        if slot != ZS_NO_SLOT:
            return self.owner.hold_of(slot, self.sample_size)
        return reserve_slowly(
            self.owner, self.allocator, self.sample_size,
            deadline_of(self.default_timeout if timeout is ... else timeout),
        )

    @cython.final
    cdef inline Loan borrow_sized(self, object timeout, Extents extents, bint wipe):
        """A loan as `hold_sized` says."""
        return self.loaned(self.hold_sized(timeout, extents, wipe))

    @cython.final
    cdef Hold hold_sized(self, object timeout, Extents extents, bint wipe):
        """The Hold of a slot with these extents, whose fixed part starts as `loan` says where `wipe` is set."""
        cdef Hold hold
        cdef Plan plan = self.plan
        cdef uint64_t total = plan.variable.lay_out(extents, plan.size)
        if total > self.largest:
            self.check_max_bytes(total, extents)
        hold = self.owner.reserve(total)
        if hold is None:
            hold = reserve_slowly(
                self.owner, self.allocator, total, deadline_of(self.default_timeout if timeout is ... else timeout)
            )
        extents.whole = plan.whole
        hold.head = plan.size
        hold.keep_extents(extents)
        if wipe:
            write_spans(plan, hold.data)
        plan.variable.place(hold, wipe)
        return hold

    @cython.final
    cdef int check_max_bytes(self, uint64_t total, Extents extents) except -1:
        """Raise SampleTooLargeError for a sample of more than `max_bytes`: of a whole type, of so many bytes of data,
        without what describes its dtype.
        """
        cdef zs_array_extent *data
        if self.plan.whole is not None:
            data = &extents.places[0].extent
            total = data.size - description_room(data)
        if total > self.max_bytes:
            raise self.allocator._beyond_max_bytes(total, self.max_bytes)
        return 0

    @cython.final
    cdef Loan start_with(self, object timeout, Extents extents, bint wipe):
        """What `loan` gives, or `loan_uninit`, of a type with variable fields that all have their extents."""
        cdef Loan loan = self.borrow_sized(timeout, extents, wipe)
        if wipe and self.plan.factories:
            fill_loan(self.plan, loan)
        return loan

    @cython.final
    cdef Loan loaned(self, Hold hold):
        """The Loan of a slot that was reserved. `borrow` does the same without a call."""
        cdef Loan loan = <Loan>zs_new_loan()
        loan.hold = hold
        loan.owner = self.owner
        loan.view = self.plan.sample_in(hold)
        return loan

    @cython.final
    cdef inline Loan start(self, object timeout, dict sizes):
        """What `loan` gives."""
        cdef Plan plan = self.plan
        cdef Loan loan
        if plan.variable is not None:
            loan = self.start_sized(timeout, sizes)
        else:
            if sizes:
                check_names(sizes, {}, "")
            loan = self.borrow(timeout)
            write_spans(plan, loan.hold.data)
        if plan.factories:
            fill_loan(plan, loan)
        return loan

    @cython.final
    cdef Loan start_sized(self, object timeout, dict sizes):
        """What `loan` gives, except for what factories make, of a type with variable fields."""
        cdef Arrangement variable = self.plan.variable
        cdef dict values = variable.starting_values(sizes) if variable.defaults else None
        cdef Loan loan = self.borrow_sized(timeout, variable.measured(sizes, values, True), True)
        if values:
            write_values(loan, values)
        extents_of(loan.hold).prepared = None
        return loan

    @cython.final
    cdef inline Loan start_uninit(self, object timeout, dict sizes):
        """What `loan_uninit` gives."""
        if self.plan.variable is not None:
            return self.borrow_sized(timeout, self.plan.variable.measured(sizes, None, False), False)
        if sizes:
            check_names(sizes, {}, "")
        return self.borrow(timeout)

    def _loan_for(self, sample, timeout):
        """A loan to write `sample` into, with room for what each of its variable fields has now."""
        cdef Plan plan = self.plan
        cdef Loan loan
        if plan.variable is None:
            loan = self.borrow(timeout)
        else:
            loan = self.borrow_sized(timeout, plan.variable.measured(None, sample, True), False)
        loan.hold.accounted = True  # the program does not get it
        return loan

    def loan_many(self, count, timeout=..., *, validate=False):
        """Borrow as many free slots at once and write the next samples into them, in place.

        Each starts as `loan` says. Entering the Loans gives a tuple of the samples, leaving commits all of them in this
        order and wakes subscribers once, an exception discards all. No subscriber can see any of them before that.
        `validate`: as `loan` has it, for each; a failure discards all.

        Raises what `loan` raises, while not all of them can be had, and ValueError for more than max_loans.
        """
        cdef Loans loans = Loans.__new__(Loans)
        cdef Plan plan = self.plan
        cdef int64_t wanted = whole_size(count)
        cdef bint validated = flag_of(validate)
        cdef list holds
        cdef Hold hold
        cdef Loan loan
        if wanted < 1 or wanted > self.owner.max_loans:
            raise ValueError(
                f"{shown_number(count)} samples at once, and max_loans allows 1 to {self.owner.max_loans}. "
                "Create the publisher with a larger max_loans, or use publish_many"
            )
        if plan.variable is not None:
            raise TypeError("samples with fields of variable size are borrowed one by one: use loan")
        holds = self.owner.reserve_all(<uint32_t>wanted, self.sample_size)
        if holds is None:
            holds = reserve_all_slowly(
                self.owner, self.allocator, <uint32_t>wanted, self.sample_size,
                deadline_of(self.default_timeout if timeout is ... else timeout),
            )
        loans.owner, loans.validated, loans.accounted = self.owner, validated, True
        loans.loans = [self.loaned(hold) for hold in holds]    # from here on each discards its slot if it is dropped
        for loan in loans.loans:
            write_spans(plan, loan.hold.data)
            if plan.factories:
                fill_loan(plan, loan)
        loans.accounted = False
        return loans

    def _written(self, sample, timeout, metadata):
        """A loan with all of `sample`, which is anything but a model of the publisher's type, for `publish` to commit.
        The subclass provides it.
        """
        raise NotImplementedError

    def _write(self, Loan loan not None, sample):
        """Write what a loan was made for."""
        cdef Hold hold = loan.live()
        if self.plan.whole is None:
            write_sample(loan.viewed(), sample)
        else:
            write_sample(make_view(self.plan.view_class, hold, hold.data, self.plan.size), sample)

    @property
    def sequence(self):
        """The newest published sequence; before any, one less than that of the first sample, which is usually 1."""
        self.owner.check_fork()
        return self.owner.c.published

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)


cdef int fill_loan(Plan plan, Loan loan) except -1:
    """Write what default factories give. What they raise discards the loan."""
    try:
        plan.call_factories(loan.viewed())
    except BaseException:
        loan.give_up()
        raise
    return 0


cdef int write_values(Loan loan, dict values) except -1:
    """Write the starting values of variable fields. What they raise discards the loan."""
    try:
        for name, value in values.items():
            setattr(loan.viewed(), name, value)
    except BaseException:
        loan.give_up()
        raise
    return 0


cdef inline void write_spans(Plan plan, char *data) noexcept:
    """What a loan starts with."""
    cdef int i
    for i in range(plan.span_count):
        memcpy(data + plan.span_at[i], plan.span_from[i], plan.span_size[i])


# Why the calls that begin or publish a sample are written against CPython's calling convention: a function with
# **named gets a new dict at each call. That costs a loan of a fixed sample, where there are no names, a twentieth of
# its time, and a `send` of two numbers as much as all the rest: 110 ns above an empty method call, not 55.
cdef extern from *:
    """
    typedef PyObject *(*zs_fast_call)(PyObject *, PyObject **, Py_ssize_t, PyObject *);

    static int zs_add_method(PyObject *type, PyMethodDef *method, const char *name, zs_fast_call call, const char *doc)
    {
        PyObject *descriptor;
        method->ml_name = name;
        method->ml_meth = (PyCFunction)(void *)call;
        method->ml_flags = METH_FASTCALL | METH_KEYWORDS;
        method->ml_doc = doc;
        descriptor = PyDescr_NewMethod((PyTypeObject *)type, method);
        if (descriptor == NULL || PyDict_SetItemString(((PyTypeObject *)type)->tp_dict, name, descriptor))
            return -1;
        Py_DECREF(descriptor);
        PyType_Modified((PyTypeObject *)type);
        return 0;
    }
    """
    ctypedef struct PyMethodDef:
        pass
    ctypedef struct PyMethodDescrObject:
        PyMethodDef *d_method
    object PyDescr_NewMethod(PyTypeObject *kind, PyMethodDef *method)
    int zs_add_method(object kind, PyMethodDef *method, const char *name,
                      object (*call)(object, PyObject **, Py_ssize_t, PyObject *), const char *doc) except -1

cdef PyMethodDef FAST_METHODS[5]

cdef char *LOAN = b"""loan($self, /, timeout=..., *, sizes=None, validate=False, **named)
--

Borrow a free slot and write the next sample into it, in place.

Fields start with their declared defaults, the others with zeros; arrays over 4 KiB without a default keep what
was there. Entering the loan gives the sample, leaving commits it, an exception discards it. No subscriber can see it
before that.

Variable fields get their sizes by name, or in `sizes`: `loan(image=(1080, 1920, 3), name=16)`. A size is the shape of
an array, the bytes of a str or bytes, the items of a list. An array whose dtype the declaration leaves open gets both,
as in `image=((480, 640), np.uint8)`; a nested sample gets a dict. A field that is given a size starts with zeros, and
one without a size and without a default is empty. A size can shrink before the commit: see `zeroslot.resize`.

Without a timeout a publisher with on_full="block" waits for ever, and the others not at all.

In place only kinds, ranges and bounds of memory are checked. With `validate=True` the commit lets pydantic validate
the sample, as a constructor of its class does: constraints such as Field(ge=0) and validators. What a validator
returns is not written. A failure discards the sample and raises pydantic's ValidationError, which names the field.

Raises NoFreeSlotError when every slot is still loaned or leased after `timeout` seconds; its text names
the holders. Raises SampleTooLargeError for a sample that no slot has room for, TypeError for a size of what is no
variable field.
"""
cdef char *LOAN_UNINIT = b"""loan_uninit($self, /, timeout=..., *, sizes=None, validate=False, **named)
--

Borrow a free slot as `loan` does, and leave in it what an older sample left: for programs that write every
field. Variable fields without a size are empty.
"""


cdef tuple ARRAY_ARGUMENTS = ("shape", "dtype", "timeout")
cdef tuple BYTES_ARGUMENTS = ("size", "timeout")


cdef object timeout_and_size(Plan plan, PyObject **arguments, Py_ssize_t count, PyObject *names, dict sizes):
    """The timeout of a call of loan for a whole array or bytes, `loan(shape, dtype)` or `loan(size)`; the size is added
    to `sizes`.
    """
    cdef tuple expected = ARRAY_ARGUMENTS if isinstance(plan.whole, VariableArrayCodec) else BYTES_ARGUMENTS
    cdef dict given = {}
    cdef Py_ssize_t i
    cdef Py_ssize_t named = 0 if names == NULL else len(<tuple>names)
    cdef Py_ssize_t least = len(expected) - 1
    form = f"loan({', '.join(expected[:len(expected) - 1])})"
    if count > len(expected):
        raise TypeError(f"{form} takes {len(expected)} arguments with the timeout, and {count} were given")
    for i in range(count + named):
        name = expected[i] if i < count else (<tuple>names)[i - count]
        if name not in expected or name in given:
            raise TypeError(f"{form} got an unexpected argument {name!r}")
        given[name] = <object>arguments[i]
    timeout = given.pop("timeout", ...)
    if len(given) < len(expected) - 1:
        raise TypeError(f"{form} needs to know how large the sample is")
    sizes[(<VariableField>plan.variable.fields[0]).path[0]] = (
        (given["shape"], given["dtype"]) if len(expected) == 3 else given["size"]
    )
    return timeout


cdef object timeout_and_sizes(Plan plan, PyObject **arguments, Py_ssize_t count, PyObject *names, dict sizes,
                              bint *validate):
    """The timeout of a call of loan, and whether to validate; what else is given by name is added to `sizes`."""
    cdef Py_ssize_t i
    cdef object timeout = ...
    cdef object more = None
    if plan.whole is not None:
        return timeout_and_size(plan, arguments, count, names, sizes)
    if count > 1:
        raise TypeError(f"loan() takes a timeout, and sizes by name: {count} arguments were given without a name")
    if count == 1:
        timeout = <object>arguments[0]
    if names != NULL:
        for i in range(len(<tuple>names)):
            name = (<tuple>names)[i]
            if name == "timeout":
                if count == 1:
                    raise TypeError("loan() got the timeout twice")
                timeout = <object>arguments[count + i]
            elif name == "sizes":
                more = <object>arguments[count + i]
            elif name == "validate":
                validate[0] = flag_of(<object>arguments[count + i])
            else:
                sizes[name] = <object>arguments[count + i]
    if more is not None:
        if not isinstance(more, Mapping):
            raise TypeError(f"sizes is a dict with the size of each field, not {type(more).__name__}")
        for name, wanted in dict(more).items():
            if name in sizes:
                raise TypeError(f"loan() got the size of {name} twice")
            sizes[name] = wanted
    return timeout


cdef bint flag_of(object value) except -1:
    if not isinstance(value, bool):
        raise TypeError(f"validate is True or False, not {value!r}")
    return value


cdef inline Loan loan_sized(PublisherEnd end, PyObject **arguments, Py_ssize_t count, PyObject *names, bint wipe):
    """A loan by a call that gives sizes, perhaps with a timeout before or behind them, and nothing else. None: another
    call.
    """
    cdef Plan plan = end.plan
    cdef Extents extents
    cdef Py_ssize_t sized
    if plan.whole is None:
        if names == NULL or count > 1:
            return None
        extents = plan.variable.sized(arguments + count, names, wipe)
        if extents is None:
            return None
        return end.start_with(<object>arguments[0] if count == 1 else ..., extents, wipe)
    sized = 2 if isinstance(plan.whole, VariableArrayCodec) else 1
    if names != NULL or not sized <= count <= sized + 1:
        return None
    extents = plan.variable.sized_alone(
        (<object>arguments[0], <object>arguments[1]) if sized == 2 else <object>arguments[0]
    )
    return end.start_with(<object>arguments[sized] if count > sized else ..., extents, wipe)


cdef object call_loan(object self, PyObject **arguments, Py_ssize_t count, PyObject *names):
    cdef dict sizes
    cdef Loan loan
    cdef bint validate = False
    if count == 0 and names == NULL and (<PublisherEnd>self).plan.whole is None:
        return (<PublisherEnd>self).start(..., None)
    if (<PublisherEnd>self).plan.variable is not None:
        loan = loan_sized(<PublisherEnd>self, arguments, count, names, True)
        if loan is not None:
            return loan
    sizes = {}
    timeout = timeout_and_sizes((<PublisherEnd>self).plan, arguments, count, names, sizes, &validate)
    loan = (<PublisherEnd>self).start(timeout, sizes)
    loan.hold.validated = validate
    return loan


cdef object call_loan_uninit(object self, PyObject **arguments, Py_ssize_t count, PyObject *names):
    cdef dict sizes
    cdef Loan loan
    cdef bint validate = False
    if count == 0 and names == NULL and (<PublisherEnd>self).plan.whole is None:
        return (<PublisherEnd>self).start_uninit(..., None)
    if (<PublisherEnd>self).plan.variable is not None:
        loan = loan_sized(<PublisherEnd>self, arguments, count, names, False)
        if loan is not None:
            return loan
    sizes = {}
    timeout = timeout_and_sizes((<PublisherEnd>self).plan, arguments, count, names, sizes, &validate)
    loan = (<PublisherEnd>self).start_uninit(timeout, sizes)
    loan.hold.validated = validate
    return loan


zs_add_method(PublisherEnd, &FAST_METHODS[0], b"loan", call_loan, LOAN)
zs_add_method(PublisherEnd, &FAST_METHODS[1], b"loan_uninit", call_loan_uninit, LOAN_UNINIT)


def direct_methods(cls not None):
    """Class decorator: native methods that the class inherits become its own.

    The interpreter calls a native method without a detour only where the object is of the class, and not of a derived
    one, in which it found the method. The detour is a tenth of a loan.
    """
    for base in cls.__mro__[1:]:
        for name, method in list(vars(base).items()):
            if type(method) is MethodDescriptorType and not name.startswith("_") and getattr(cls, name) is method:
                setattr(cls, name, PyDescr_NewMethod(<PyTypeObject *>cls, (<PyMethodDescrObject *>method).d_method))
    return cls
