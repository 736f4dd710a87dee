# Part of binding.pyx: the variable fields of a sample type, how large they are in a loan, and where their data lies.

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

    def __cinit__(self, tuple fields not None, dict defaults not None, set factories not None):
        cdef VariableField field
        self.fields, self.defaults, self.factories = fields, defaults, factories
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

    cdef Extents measured(self, object sizes, object values, bint keep):
        """Measure `sizes`, and where they give none, `values`: two things with the names of fields.

        `keep`: the values are written soon, so forms of them that had to be made are kept.
        """
        cdef Extents extents = Extents.__new__(Extents)
        cdef VariableField field
        cdef zs_place *place
        cdef Py_ssize_t i = 0
        if sizes is not None and len(sizes) > 0:
            check_names(sizes, self.tree, "")
        extents.begin(len(self.fields))
        for field in self.fields:
            place = &extents.places[i]
            i += 1
            place.at = field.at
            wanted, value = NOT_GIVEN if sizes is None else sizes, values
            for name in field.path:
                wanted, value = step_into(wanted, name), step_into(value, name)
            try:
                if wanted is not NOT_GIVEN and wanted is not None:
                    field.codec.size_up(wanted, &place.extent)
                elif value is not NOT_GIVEN and value is not None and wanted is NOT_GIVEN:
                    ready = field.codec.measure(value, &place.extent)
                    if keep and ready is not value:
                        if extents.prepared is None:
                            extents.prepared = {}
                        extents.prepared[id(value)] = (value, ready)
                else:
                    continue
            except (ValueError, TypeError) as error:
                if isinstance(error, errors.ZeroslotError):
                    raise
                kind = ValueError if isinstance(error, ValueError) else TypeError
                raise kind(f"{': '.join(field.path)}: {error}") from None
            place.room = place.extent.size
        return extents

    cdef uint64_t lay_out(self, Extents extents, uint64_t head) noexcept:
        """Give each field its offset, in order; the bytes of the whole, or more than LARGEST_SAMPLE."""
        cdef VariableField field
        cdef Py_ssize_t i
        cdef uint64_t end = head
        cdef zs_place *place
        for i in range(extents.count):
            field = <VariableField>self.fields[i]
            place = &extents.places[i]
            if place.room > LARGEST_SAMPLE:
                return place.room
            if place.room != 0:
                place.extent.offset = (end + field.codec.alignment - 1) // field.codec.alignment * field.codec.alignment
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
            field = <VariableField>self.fields[i]
            place = &extents.places[i]
            memcpy(hold.data + place.at, &place.extent, field.codec.size)
            if place.room == 0:
                continue
            for at in field.presences:
                hold.data[<size_t>at] = 1
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
            data += (<OptionalCodec>inner).item_at
            inner = (<OptionalCodec>inner).item
        sample.hold.pin()
        try:
            inner.resize(sample.hold, data, wanted)
        except (ValueError, TypeError) as error:
            if isinstance(error, errors.ZeroslotError):
                raise
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"{name}: {error}") from None
        finally:
            sample.hold.unpin()
