# Part of binding.pyx: the variable fields of a sample type, how large they are in a loan, and where their data lies.
#
# Why the names of sizes are remembered: a call site gives the same names each time, and names in source code are
# interned, so comparing pointers takes the place of a dict of the sizes and of looking up each name.

from sys import intern


@cython.final
cdef class VariableField:
    """One variable field of a sample type, those of nested samples included."""

    cdef readonly tuple path    # its name, after those of the samples around it
    cdef VariableCodec codec
    cdef size_t at              # of its extent, from the start of the sample
    cdef tuple presences        # of the optionals around it: where their presence bytes are

    def __cinit__(self, tuple path not None, VariableCodec codec not None, size_t at, tuple presences not None):
        # As the names in a call are: a dict finds them then without a comparison of their characters.
        self.path = tuple([intern(name) for name in path])
        self.codec, self.at, self.presences = codec, at, presences


cdef enum:
    ORDERS = 8      # call sites that are remembered, for each sample type
    MAX_SIZES = 8   # names of one


# Of `loan`, which are sizes of fields with these names only in `sizes`.
cdef frozenset OTHER_ARGUMENTS = frozenset({"timeout", "sizes", "validate"})


cdef inline bint are_names(PyObject *names, tuple known) noexcept:
    """Whether a call was made with these names; NULL: it was made without any."""
    cdef Py_ssize_t i, count = tuple_size(known)
    if names == NULL:
        return count == 0
    if tuple_size(<object>names) != count:
        return False
    for i in range(count):
        if tuple_item(<object>names, i) != tuple_item(known, i):
            return False
    return True


@cython.final
cdef class Sizes:
    """The fields to which one call of `loan` gives sizes by name, in its order."""

    cdef tuple names
    cdef Py_ssize_t fields[MAX_SIZES]   # as indices
    cdef bint alone         # it gives nothing else: no timeout, and no field of a nested sample
    cdef bint complete      # all other fields start empty: they have no default


cdef object field_error(VariableField field, object error):
    """The ValueError or TypeError of a field, with its name; the same one if it is the package's."""
    if isinstance(error, errors.ZeroslotError):
        return error
    kind = ValueError if isinstance(error, ValueError) else TypeError
    return kind(f"{': '.join(field.path)}: {error}")


cdef object NOT_GIVEN = object()


cdef object step_into(object value, object name):
    """The field `name` of a model, a view or a dict."""
    if value is NOT_GIVEN or value is None:
        return value
    if isinstance(value, dict):
        return (<dict>value).get(name, NOT_GIVEN)
    if isinstance(value, View):
        return getattr(value, name, NOT_GIVEN)
    return getattr(value, "__dict__", {}).get(name, NOT_GIVEN)


cdef int check_names(dict sizes, dict tree, str where) except -1:
    """Raise TypeError for a size of what is no variable field. `tree`: name -> None, or the tree of a nested sample."""
    for name, wanted in sizes.items():
        branch = tree.get(name, NOT_GIVEN)
        if branch is NOT_GIVEN:
            raise TypeError(
                f"{where}{name} is no variable field, and has no size. Variable are: {', '.join(tree) or 'none'}"
            )
        if branch is not None and wanted is not None:
            if not isinstance(wanted, dict):
                raise TypeError(f"{where}{name}: a dict of the sizes of its fields, not {wanted!r}")
            check_names(wanted, branch, f"{where}{name}.")
    return 0


@cython.final
cdef class Arrangement:
    """The variable fields of a sample type, and what a loan of it starts with."""

    cdef readonly tuple fields
    cdef dict tree
    cdef dict defaults      # name -> value, or the factory of one
    cdef set factories      # the names of those that have one
    cdef tuple recent       # Sizes of calls

    def __cinit__(self, tuple fields not None, dict defaults not None, set factories not None):
        cdef VariableField field
        self.fields, self.defaults, self.factories = fields, defaults, factories
        self.recent = ()
        self.tree = {}
        for field in fields:
            branch = self.tree
            for name in field.path[: len(field.path) - 1]:
                branch = branch.setdefault(name, {})
            branch[field.path[len(field.path) - 1]] = None

    cdef dict starting_values(self, object sizes):
        """The defaults of the fields that are given no size."""
        cdef dict found = {}
        for name, value in self.defaults.items():
            if sizes is None or name not in sizes:
                found[name] = value() if name in self.factories else value
        return found

    cdef Extents begun(self):
        """The extents of a new loan, of which none has a size."""
        cdef Extents extents = Extents.__new__(Extents)
        cdef Py_ssize_t i
        extents.begin(tuple_size(self.fields))
        for i in range(extents.count):
            extents.places[i].at = (<VariableField>tuple_item(self.fields, i)).at
        return extents

    cdef int size(self, zs_place *place, Py_ssize_t i, object wanted) except -1:
        """Give field `i` a size; None: no size."""
        if wanted is not None:
            try:
                (<VariableField>tuple_item(self.fields, i)).codec.size_up(wanted, &place.extent)
            except (ValueError, TypeError) as error:
                raise field_error(<VariableField>tuple_item(self.fields, i), error) from None
            place.room, place.given = place.extent.size, True
        return 0

    cdef Extents sized(self, PyObject **arguments, PyObject *names, bint with_defaults):
        """The extents of a call of `loan` that gives sizes by these names and nothing else. None: the call gives more,
        or is `with_defaults` and there are defaults of other fields.
        """
        cdef Sizes sizes = None
        cdef Extents extents
        cdef tuple recent
        cdef Py_ssize_t i
        with cython.critical_section(self):
            recent = self.recent
        for i in range(tuple_size(recent)):
            if are_names(names, (<Sizes>tuple_item(recent, i)).names):
                sizes = <Sizes>tuple_item(recent, i)
                break
        else:
            sizes = self.remembered(<tuple>names)
        if not sizes.alone or (with_defaults and not sizes.complete):
            return None
        extents = self.begun()
        for i in range(tuple_size(sizes.names)):
            self.size(&extents.places[sizes.fields[i]], sizes.fields[i], <object>arguments[i])
        return extents

    cdef Sizes remembered(self, tuple names):
        """Remember the names of a call in place of the oldest ones."""
        cdef Sizes sizes = Sizes.__new__(Sizes)
        cdef list paths = [(<VariableField>field).path for field in self.fields]
        cdef Py_ssize_t i
        sizes.names, sizes.complete = names, self.defaults.keys() <= set(names)
        sizes.alone = len(names) <= MAX_SIZES and not OTHER_ARGUMENTS & set(names)
        for i in range(len(names)):
            if (names[i],) not in paths:
                sizes.alone = False
            elif sizes.alone:
                sizes.fields[i] = paths.index((names[i],))
        with cython.critical_section(self):
            self.recent = (sizes, *self.recent[: ORDERS - 1])
        return sizes

    cdef Extents sized_alone(self, object wanted):
        """The extents of a loan of a type with one variable field, of this size."""
        cdef Extents extents = self.begun()
        self.size(extents.places, 0, wanted)
        return extents

    cdef Extents measured(self, object sizes, object values, bint keep):
        """Measure `sizes`, and where they give none, `values`: two things with the names of fields.

        `keep`: the values are written soon, so forms of them that had to be made are kept.
        """
        cdef Extents extents
        cdef VariableField field
        cdef zs_place *place
        cdef Py_ssize_t i
        if sizes is not None and len(sizes) > 0:
            check_names(sizes, self.tree, "")
        extents = self.begun()
        for i in range(extents.count):
            field = <VariableField>tuple_item(self.fields, i)
            place = &extents.places[i]
            wanted, value = NOT_GIVEN if sizes is None else sizes, values
            for name in field.path:
                wanted, value = step_into(wanted, name), step_into(value, name)
            if wanted is not NOT_GIVEN:
                self.size(place, i, wanted)
            elif value is not NOT_GIVEN and value is not None:
                try:
                    ready = field.codec.measure(value, &place.extent)
                except (ValueError, TypeError) as error:
                    raise field_error(field, error) from None
                if keep and ready is not value:
                    if extents.prepared is None:
                        extents.prepared = {}
                    extents.prepared[id(value)] = (value, ready)
                place.room, place.given = place.extent.size, True
        return extents

    cdef uint64_t lay_out(self, Extents extents, uint64_t head) noexcept:
        """Give each field its offset, in order; the bytes of the whole, or more than LARGEST_SAMPLE."""
        cdef VariableField field
        cdef Py_ssize_t i
        cdef uint64_t end = head
        cdef zs_place *place
        for i in range(extents.count):
            field = <VariableField>tuple_item(self.fields, i)
            place = &extents.places[i]
            if place.room > LARGEST_SAMPLE:
                return place.room
            if place.room != 0:
                place.extent.offset = field.codec.start_after(end)
                end = place.extent.offset + place.room
        return end

    cdef void place(self, Hold hold, bint wipe) noexcept:
        """Write the extents into a new loan, and zeros between the data; `wipe`: also where data is small."""
        cdef VariableField field
        cdef Extents extents = extents_of(hold)
        cdef Py_ssize_t i
        cdef uint64_t end = hold.head
        cdef zs_place *place
        for i in range(extents.count):
            field = <VariableField>tuple_item(self.fields, i)
            place = &extents.places[i]
            memcpy(hold.data + place.at, &place.extent, field.codec.size)
            if place.given:
                for at in field.presences:
                    hold.data[<size_t>at] = 1
            if place.room == 0:
                continue
            memset(hold.data + end, 0, place.extent.offset - end)
            if wipe and (place.room <= SMALL or field.codec.is_wiped):
                memset(hold.data + place.extent.offset, 0, place.room)
            field.codec.describe(hold, &place.extent)
            end = place.extent.offset + place.room


def resize_fields(View sample not None, dict sizes not None):
    """Give fields of a loan other sizes, within the room that they have; see `zeroslot.resize`."""
    cdef StructCodec codec = (<object>type(sample)).__zs_codec__
    cdef FieldDescriptor member
    cdef Codec inner
    cdef char *data
    cdef dict members = {(<FieldDescriptor>each).name: each for each in codec.members}
    sample.alive()
    if not sample.hold.is_writable():
        raise read_only(sample.hold)
    for name, wanted in sizes.items():
        member = members.get(name)
        if member is None:
            raise TypeError(f"{name} is no field of {type(sample).__name__}")
        inner = member.codec
        data = sample.data + member.offset
        if isinstance(inner, OptionalCodec):
            if data[0] == 0:
                raise ValueError(f"{name}: it is None, and has no size: set it, or give loan() its size")
            data += (<OptionalCodec>inner).item_at
            inner = (<OptionalCodec>inner).item
        sample.hold.pin()
        try:
            if isinstance(inner, StructCodec) and isinstance(wanted, Mapping):
                resize_fields(inner.get(sample.hold, data), dict(wanted))
            else:
                inner.resize(sample.hold, data, wanted)
        except (ValueError, TypeError) as error:
            if isinstance(error, errors.ZeroslotError):
                raise
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"{name}: {error}") from None
        finally:
            sample.hold.unpin()
