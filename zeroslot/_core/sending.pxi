# Part of binding.pyx: `send` and `publish` of a Publisher, which write a whole sample and publish it in one call.
#
# Why neither makes a Loan: when the call returns the sample is published, so the program has nothing to refer to it
# with. The slot has no Hold either, until a value comes that is not stored at once: text, an array, or an object whose
# conversion may run code of the program's.
#
# Why `send` remembers in which order it was given fields: as for the sizes of a loan, see placement.pxi.

cdef extern from *:
    """
    /* The value of `name` in the values of a model, which has its fields in the order of declaration: `*at` is where
     * the one before ended. A new reference; NULL: there is none, or, with an exception set, it cannot be had. */
    static inline PyObject *zs_value_of(PyObject *values, Py_ssize_t *at, PyObject *name)
    {
        PyObject *value;
    #ifdef Py_GIL_DISABLED
        (void)at;
        return PyDict_GetItemRef(values, name, &value) < 0 ? NULL : value;
    #else
        PyObject *key;
        if (!PyDict_Next(values, at, &key, &value) || key != name)
            value = PyDict_GetItemWithError(values, name);
        Py_XINCREF(value);
        return value;
    #endif
    }
    """
    PyObject *zs_value_of(object values, Py_ssize_t *at, object name) noexcept

cdef extern from "Python.h":
    PyObject *PyErr_Occurred()
    object PyObject_GenericGetDict(object instance, void *context)


@cython.final
cdef class Order:
    """The fields that one call of `send` gives, in its order, and what has to be written besides them."""

    cdef tuple names
    cdef tuple fields       # FieldDescriptors, one for each name
    cdef tuple made         # (FieldDescriptor, factory) of the fields that are not given and have a factory
    cdef bint complete      # all fields are given


cdef inline Order order_of(Plan plan, PyObject *names):
    """The Order of a call with these names, of which NULL is none. TypeError for names that make no sample."""
    cdef tuple recent
    cdef Py_ssize_t i
    with cython.critical_section(plan):
        recent = plan.recent
    for i in range(tuple_size(recent)):
        if are_names(names, (<Order>tuple_item(recent, i)).names):
            return <Order>tuple_item(recent, i)
    return new_order(plan, () if names == NULL else <tuple>names)


cdef Order new_order(Plan plan, tuple names):
    """Make an Order, and remember it in place of the oldest one."""
    cdef Order order = Order.__new__(Order)
    cdef dict members = {(<FieldDescriptor>field).name: field for field in plan.codec.members}
    cdef tuple recent
    check_given(plan, names)
    order.names = names
    order.fields = tuple([members[name] for name in names])
    order.made = tuple([(members[name], made) for name, made in plan.factories.items() if name not in names])
    order.complete = len(names) == len(members)
    with cython.critical_section(plan):
        recent = plan.recent
        plan.recent = (order, *recent[:ORDERS - 1])
    return order


cdef int check_given(Plan plan, object names) except -1:
    """Raise TypeError for names that are no fields, and for fields that are missing."""
    cdef list known = [(<FieldDescriptor>field).name for field in plan.codec.members]
    cdef list unknown = [name for name in names if name not in known]
    cdef list missing = [name for name in known if name in plan.required and name not in names]
    cdef str kind = plan.view_class.__name__
    if unknown:
        raise TypeError(f"send() got {', '.join(unknown)}, and the fields of {kind} are {', '.join(known) or 'none'}")
    if missing:
        raise TypeError(f"send() is missing {', '.join(missing)}: fields of {kind} without a default")
    return 0


cdef object call_send(object self, PyObject **arguments, Py_ssize_t count, PyObject *names):
    cdef Plan plan = (<PublisherEnd>self).plan
    (<PublisherEnd>self).owner.check()
    if count != 0:
        raise TypeError(f"send() takes fields by name, and {count} arguments were given without one. To publish a "
                        "whole sample use publish(sample)")
    if plan.variable is None:
        return send_fixed(<PublisherEnd>self, order_of(plan, names), arguments)
    if plan.whole is not None:
        raise TypeError(f"samples of {plan.view_class.__name__} have no fields: use publish(sample)")
    return send_sized(<PublisherEnd>self, order_of(plan, names), arguments)


cdef inline object send_fixed(PublisherEnd end, Order order, PyObject **arguments):
    """`send` of a type whose samples all have one size."""
    cdef Owner owner = end.owner
    cdef FieldDescriptor field
    cdef Hold hold = None
    cdef char *data
    cdef Py_ssize_t i
    cdef uint32_t slot = owner.reserve_slot(end.sample_size)
    if slot == ZS_NO_SLOT or owner.flagged:
        hold = end.hold_for(slot, ...)
        slot = hold.slot
    data = <char *>zs_owner_payload(&owner.c, slot)
    if not order.complete:
        write_spans(end.plan, data)
    for i in range(tuple_size(order.fields)):
        field = <FieldDescriptor>tuple_item(order.fields, i)
        if not set_exact(field.scalar, data + field.offset, arguments[i]):
            break
    else:
        if hold is None and not order.made:
            return number_of(owner.commit_slot(slot, end.sample_size))
        i = tuple_size(order.fields)
    return send_rest(owner, hold if hold is not None else owner.hold_of(slot, end.sample_size), order, arguments, i)


cdef object send_rest(Owner owner, Hold hold, Order order, PyObject **arguments, Py_ssize_t start):
    """Write the fields from `start` on, and what is not given; then publish."""
    cdef FieldDescriptor field
    cdef Py_ssize_t i
    try:
        for i in range(start, tuple_size(order.fields)):
            field = <FieldDescriptor>tuple_item(order.fields, i)
            if not set_exact(field.scalar, hold.data + field.offset, arguments[i]):
                field.put(hold, hold.data + field.offset, <object>arguments[i])
        for field, made in order.made:
            value = made()
            field.put(hold, hold.data + field.offset, value)
        return number_of(owner.commit(hold, hold.size))
    except BaseException:
        owner.discard(hold)
        raise


cdef object send_sized(PublisherEnd end, Order order, PyObject **arguments):
    """`send` of a type with variable fields, which get their sizes from the values."""
    cdef Plan plan = end.plan
    cdef FieldDescriptor field
    cdef Hold hold
    cdef Py_ssize_t i
    cdef dict values = {}
    for i in range(tuple_size(order.names)):
        values[<object>tuple_item(order.names, i)] = <object>arguments[i]
    if plan.variable.defaults:
        values = {**plan.variable.starting_values(values), **values}
    for field, made in order.made:
        values[field.name] = made()
    hold = end.hold_sized(..., plan.variable.measured(None, values, True), True)
    try:
        for i in range(tuple_size(plan.codec.members)):
            field = <FieldDescriptor>tuple_item(plan.codec.members, i)
            value = values.get(field.name, NOT_GIVEN)
            if value is not NOT_GIVEN and not set_exact(field.scalar, hold.data + field.offset, <PyObject *>value):
                field.put(hold, hold.data + field.offset, value)
        return number_of(end.owner.commit(hold, hold.size))
    except BaseException:
        end.owner.discard(hold)
        raise


cdef object call_publish(object self, PyObject **arguments, Py_ssize_t count, PyObject *names):
    cdef PublisherEnd end = <PublisherEnd>self
    cdef object sample, timeout, metadata
    if count == 1 and names == NULL:
        sample, timeout, metadata = <object>arguments[0], ..., None
    else:
        sample, timeout, metadata = publish_arguments(arguments, count, names)
    if metadata is None and end.plan is not None:
        if end.plan.whole is not None:
            if type(sample) is (cnp.ndarray if isinstance(end.plan.whole, VariableArrayCodec) else bytes):
                return publish_whole(end, sample, timeout)
        elif type(sample) is end.plan.model:
            return publish_model(end, PyObject_GenericGetDict(sample, NULL), timeout)
    # The commit is outside of Python code, where a signal handler could raise after it: an error means that nothing
    # was published.
    return number_of((<Loan?>end._written(sample, timeout, metadata)).finish(None))


cdef tuple PUBLISH_ARGUMENTS = ("sample", "timeout", "metadata")


cdef tuple publish_arguments(PyObject **arguments, Py_ssize_t count, PyObject *names):
    """The sample, the timeout and the metadata of a call of `publish`."""
    cdef dict given = {}
    cdef Py_ssize_t i
    cdef tuple named = () if names == NULL else <tuple>names
    if count > 2:
        raise TypeError(f"publish() takes a sample and a timeout, and {count} arguments were given without a name")
    for i in range(count + len(named)):
        name = PUBLISH_ARGUMENTS[i] if i < count else named[i - count]
        if name not in PUBLISH_ARGUMENTS or name in given:
            raise TypeError(f"publish() got an unexpected argument {name!r}")
        given[name] = <object>arguments[i]
    if "sample" not in given:
        raise TypeError("publish() needs a sample")
    return given["sample"], given.get("timeout", ...), given.get("metadata")


cdef object publish_model(PublisherEnd end, dict values, object timeout):
    """Publish a model of the type. Its values are copied field by field, and not validated again."""
    cdef Owner owner = end.owner
    cdef tuple members = end.plan.codec.members
    cdef FieldDescriptor field
    cdef Hold hold
    cdef PyObject *found
    cdef object value
    cdef Py_ssize_t i, at = 0
    if end.plan.variable is None:
        hold = end.hold_for(owner.reserve_slot(end.sample_size), timeout)
    else:
        hold = end.hold_sized(timeout, end.plan.variable.measured(None, values, True), False)
    try:
        for i in range(tuple_size(members)):
            field = <FieldDescriptor>tuple_item(members, i)
            found = zs_value_of(values, &at, field.name)
            if found == NULL:
                raise_missing(field)
            value = <object>found
            Py_DECREF_pointer(found)    # the cast has counted a second reference
            if not set_exact(field.scalar, hold.data + field.offset, found):
                field.put(hold, hold.data + field.offset, value)
        return number_of(owner.commit(hold, hold.size))
    except BaseException:
        owner.discard(hold)
        raise


cdef object publish_whole(PublisherEnd end, object sample, object timeout):
    """Publish an array or bytes as the whole sample."""
    cdef VariableField field = <VariableField>tuple_item(end.plan.variable.fields, 0)
    cdef Extents extents = end.plan.variable.begun()
    cdef zs_place *place = extents.places
    cdef Hold hold = None
    try:
        ready = field.codec.measure(sample, &place.extent)
        place.room, place.given = place.extent.size, True
        hold = end.hold_sized(timeout, extents, False)
        field.codec.write(hold, &place.extent, ready)
        return number_of(end.owner.commit(hold, hold.size))
    except BaseException as error:
        if hold is not None:
            end.owner.discard(hold)
        if isinstance(error, (ValueError, TypeError)):
            raise field_error(field, error) from None
        raise


cdef int raise_missing(FieldDescriptor field) except -1:
    if PyErr_Occurred() == NULL:
        raise ValueError(f"a value for {field.name} is missing")
    return -1


cdef char *SEND = b"""send($self, /, **fields)
--

Write a sample's fields in place and publish it, in one call: `pub.send(stamp_ns=7, accel=values)`. Returns its
sequence.

Fields that are not given start as in `loan`; one without a default has to be given. Kinds, ranges and the bounds of
text, lists and arrays are checked, and pydantic's constraints and validators are not, as for every field that is set
in place. A nested sample is a model, a view, or a mapping of all its fields. Variable fields are as large as their
values. It waits for a free slot as long as the publisher does.

Raises what `loan` raises. Raises TypeError for a name that is no field and for a field that is missing; ValueError or
TypeError, which names the field, for a value that the sample's memory cannot hold; TypeError for np.ndarray and
bytes, whose samples have no fields. After an error nothing is published, and the slot is given back.
"""
cdef char *PUBLISH = b"""publish($self, /, sample, timeout=..., *, metadata=None)
--

Copy a sample into a slot and publish it, with `metadata` as in `loan.metadata`. Returns its sequence.

For np.ndarray the sample is an array, in any order of memory; for bytes, any bytes-like object.

A model of the type (or of a class derived from it), or a view, is copied field by field. It is not validated
again: no validator of its class runs, and aliases are ignored. Kinds, ranges, and the bounds of text, lists and
arrays are still checked. A mapping is validated by pydantic as `sample_type(**mapping)` is, aliases included. A
numpy record has the fields of `layout_of(sample_type).dtype`; one with exactly that dtype is copied at once.

Raises what `loan` raises; ValueError or TypeError, which names the field, for a value that the sample's memory
cannot hold (nothing is published, the slot is given back); for a mapping pydantic's ValidationError, before a
slot is borrowed.
"""

zs_add_method(PublisherEnd, &FAST_METHODS[2], b"send", call_send, SEND)
zs_add_method(PublisherEnd, &FAST_METHODS[3], b"publish", call_publish, PUBLISH)
