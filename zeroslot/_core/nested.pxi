# Part of binding.pyx: fields that are made of others, as samples, optionals and lists, and whole samples.

from collections.abc import Mapping


@cython.final
cdef class StructCodec(Codec):
    """A nested sample: a view of the part."""

    cdef object view_class
    cdef object sample_type     # of the models that are made of its views
    cdef tuple members          # its FieldDescriptors, in order
    cdef list padding           # that of a record; None: not asked for yet
    cdef dict absent            # fields of the sample type that the memory lacks: name -> what makes its value

    def __cinit__(self, view_class not None, size_t size, tuple members not None, dict absent=None):
        cdef FieldDescriptor member
        self.view_class, self.size, self.members = view_class, size, members
        self.sample_type = getattr(view_class, "__zs_sample__", None)
        self.absent = absent
        for member in members:
            self.checked = self.checked or member.codec.checked
            self.variable = self.variable or member.codec.variable

    cdef int check(self, char *data) except -1:
        cdef FieldDescriptor member
        for member in self.members:
            if member.codec.checked:
                member.codec.check(data + member.offset)
        return 0

    cdef object get(self, Hold hold, char *data):
        return make_view(self.view_class, hold, data, self.size)

    cdef int set(self, Hold hold, char *data, object value) except -1:
        """Write a view, a model, a dict or a numpy record of the same fields. A model is copied field by field as it
        is: kinds, ranges and bounds are checked, its validators do not run again.
        """
        cdef FieldDescriptor member
        cdef dict values
        cdef View view
        if type(value) is self.view_class and not self.variable:
            view = value
            if view.size == self.size:
                return copy_bytes(hold, data, view.data, self.size)
        if isinstance(value, View):
            for member in self.members:
                if not hasattr(value, member.name):
                    raise ValueError(f"a value for {member.name} is missing")
                member.put(hold, data + member.offset, getattr(value, member.name))
            return 0
        if isinstance(value, (NumpyRecord, cnp.ndarray)) and self.sample_type is not None and not self.variable:
            dtype = self.sample_type.__zs_layout__().dtype
            if self.padding is None:
                self.padding = padding_of(dtype)
            write_records(hold, data, self, records_of(value, dtype), dtype, (), self.padding)
            return 0
        if isinstance(value, dict):
            values = value
            if len(values) > len(self.members):
                raise ValueError(f"unknown fields: {', '.join(sorted(set(values) - {m.name for m in self.members}))}")
        elif type(value) is self.sample_type or isinstance(type(value), type(self.sample_type)):
            values = value.__dict__
        elif isinstance(value, Mapping):
            return self.set(hold, data, dict(value))
        else:
            raise TypeError(f"a {self.view_class.__name__}, not {type(value).__name__}")
        for member in self.members:
            if member.name not in values:
                raise ValueError(f"a value for {member.name} is missing")
            member.put(hold, data + member.offset, values[member.name])
        return 0

    cdef dict values(self, object view, bint as_models):
        cdef FieldDescriptor member
        cdef dict found = {}
        for member in self.members:
            found[member.name] = copied(member.__get__(view, None), as_models)
        if self.absent:
            found |= {name: default() for name, default in self.absent.items()}
            found = {name: found[name] for name in self.sample_type.__pydantic_fields__ if name in found}
        return found

    cdef object model(self, object view):
        """A model with these values under the names of its fields: without aliases, and not validated again."""
        if self.sample_type is None:
            raise TypeError("this view has no sample type")
        cdef dict values = self.values(view, True)
        sample_type = self.sample_type
        made = sample_type.__new__(sample_type)
        set_attribute(made, "__dict__", dict(values) if sample_type.__pydantic_post_init__ else values)
        set_attribute(made, "__pydantic_extra__", {} if sample_type.model_config.get("extra") == "allow" else None)
        set_attribute(made, "__pydantic_fields_set__", set())
        if sample_type.__pydantic_post_init__:
            # It fills the private attributes. The fields stay what was published.
            made.model_post_init(None)
            made.__dict__.update(values)
        else:
            set_attribute(made, "__pydantic_private__", None)
        set_attribute(made, "__pydantic_fields_set__", {member.name for member in self.members})
        return made


cdef object set_attribute = object.__setattr__  # of frozen models, too


cdef object copied(object value, bint as_models):
    cdef StructCodec codec
    if isinstance(value, View):
        codec = (<object>type(value)).__zs_codec__
        return codec.model(value) if as_models else codec.values(value, False)
    if isinstance(value, ListView):
        if type((<ListView>value).codec.item) is ScalarCodec:
            return asarray(value).tolist()
        return [copied(item, as_models) for item in value]
    if isinstance(value, cnp.ndarray):
        return cnp.PyArray_NewCopy(<cnp.ndarray>value, cnp.NPY_CORDER)
    return value


def record_of(value, cnp.dtype dtype not None):
    """A numpy record as an array of no dims with this dtype. ValueError and TypeError name the field."""
    return records_of(value, dtype)


cdef cnp.ndarray records_of(object value, object dtype):
    """An array, or one record, as an array of the dtype, without its subclass."""
    return as_records(cnp.PyArray_FROM_OF(value, cnp.NPY_ARRAY_ENSUREARRAY), dtype.base)


cdef int write_records(Hold hold, char *to, Codec item, cnp.ndarray records, object dtype, tuple shape,
                       list padding) except -1:
    """Copy what `records_of` gave, which must have this shape and then that of the dtype. `item` checks each record.

    What is checked is what is given, and not what was written: a value that is refused changes nothing. Padding is
    cleared, because that of an array may be what was in memory before it.
    """
    cdef cnp.npy_intp image_dims[2]
    cdef Py_ssize_t i, count = shape[0] if shape else 1
    cdef char *source
    if (<object>records).shape != shape + dtype.shape:
        raise ValueError(f"shape {(<object>records).shape} is not {shape + dtype.shape}")
    records = cnp.PyArray_GETCONTIGUOUS(records)
    source = <char *>cnp.PyArray_DATA(records)
    if item.checked:
        for i in range(count):
            try:
                item.check(source + i * <Py_ssize_t>item.size)
            except errors.CorruptSegmentError as error:
                raise ValueError(f"item {i}: {error}" if shape else f"a record with {error}") from None
    copy_bytes(hold, to, source, count * item.size)
    if padding and count > 0:
        image_dims[0], image_dims[1] = count, <cnp.npy_intp>item.size
        image = cnp.PyArray_SimpleNewFromData(2, image_dims, cnp.NPY_UINT8, to)
        for part in padding:
            image[:, part] = 0
    return 0


@cython.final
cdef class OptionalCodec(Codec):
    """A presence byte, and the item behind it."""

    cdef Codec item
    cdef size_t item_at

    def __cinit__(self, Codec item not None, size_t item_at, size_t size):
        self.item, self.item_at, self.size = item, item_at, size
        self.checked, self.variable = item.checked, item.variable

    cdef int check(self, char *data) except -1:
        if data[0] != 0:
            self.item.check(data + self.item_at)
        return 0

    cdef object get(self, Hold hold, char *data):
        if data[0] == 0:
            return None
        return self.item.get(hold, data + self.item_at)

    cdef object buffer(self, Hold hold, char *data):
        if data[0] == 0:
            raise ValueError("it is None")
        return self.item.buffer(hold, data + self.item_at)

    cdef int set(self, Hold hold, char *data, object value) except -1:
        if value is None:
            data[0] = 0
            if self.item.size <= SMALL:
                memset(data + self.item_at, 0, self.item.size)
            if self.variable and hold.extents != NULL:
                extents_of(hold).clear(hold, data + self.item_at, self.item.size)
        else:
            self.item.set(hold, data + self.item_at, value)
            data[0] = 1
        return 0


@cython.final
cdef class ListCodec(Codec):
    """`capacity` items in a row; with `bounded`, behind a u32 count of those that are there.

    `dtype`: that of an item, where items are numbers, arrays or samples. Such a list is an array in place.
    """

    cdef Codec item
    cdef size_t items_at
    cdef size_t stride
    cdef uint32_t capacity
    cdef bint bounded
    cdef object dtype
    cdef int ndim
    cdef cnp.npy_intp dims[33]  # the first one is the count
    cdef list padding           # as in StructCodec

    def __cinit__(self, Codec item not None, size_t items_at, size_t stride, uint32_t capacity, bint bounded,
                  size_t size, cnp.dtype dtype=None):
        cdef int i
        if stride == 0 or items_at + stride * capacity > size:
            raise ValueError("the items leave the field")
        self.item, self.items_at, self.stride = item, items_at, stride
        self.capacity, self.bounded, self.size = capacity, bounded, size
        self.checked = bounded or item.checked
        self.dtype = dtype
        if dtype is not None:
            shape = (<object>dtype).shape
            if len(shape) > 32 or (<object>dtype).itemsize != stride or item.size != stride:
                raise ValueError("the dtype is not that of an item")
            self.ndim = 1 + len(shape)
            for i in range(len(shape)):
                self.dims[1 + i] = shape[i]

    cdef int check(self, char *data) except -1:
        cdef Py_ssize_t i
        for i in range(self.count(data)):
            if not self.item.checked:
                break
            self.item.check(data + self.items_at + i * self.stride)
        return 0

    cdef object array(self, Hold hold, char *data):
        """The items as an array in place."""
        cdef cnp.npy_intp dims[33]
        memcpy(dims, self.dims, sizeof(dims))
        dims[0] = self.count(data)
        return make_array(hold, data + self.items_at, self.dtype.base, self.ndim, dims)

    cdef object exported(self, Hold hold, char *data):
        """The items as an array that may be given away."""
        if self.dtype is None:
            raise TypeError("its items are not numbers, arrays or samples")
        return exported_array(hold, data + self.items_at, self.dtype.base, (self.count(data), *self.dtype.shape))

    cdef object buffer(self, Hold hold, char *data):
        return memoryview(self.exported(hold, data))

    cdef Py_ssize_t count(self, char *data) except -1:
        cdef uint32_t count
        if not self.bounded:
            return self.capacity
        count = (<uint32_t *>data)[0]
        if count > self.capacity:
            raise errors.CorruptSegmentError(
                f"a count of {count} items in a field of {self.capacity}", found=count, expected=self.capacity
            )
        return count

    cdef object get(self, Hold hold, char *data):
        cdef ListView view
        self.count(data)
        view = ListView.__new__(ListView)
        view.hold, view.data, view.codec = hold, data, self
        return view

    cdef int set(self, Hold hold, char *data, object value) except -1:
        cdef Py_ssize_t i = 0
        cdef list items
        if self.dtype is not None:
            # Items of another dtype, as those that are read by name, are written one by one.
            if isinstance(value, ListView) and (<ListView>value).codec.dtype == self.dtype:
                (<ListView>value).alive()
                value = (<ListView>value).codec.array((<ListView>value).hold, (<ListView>value).data)
            if isinstance(value, cnp.ndarray) and not value.dtype.hasobject:
                return self.set_array(hold, data, value)
        if isinstance(value, (str, bytes, dict)):
            raise TypeError(f"a list, not {type(value).__name__}")
        # Items that are views of this very slot are read before anything is written.
        items = [
            item.__zs_values__() if isinstance(item, View) and (<View>item).hold is hold else item for item in value
        ]
        self.check_length(len(items))
        for i in range(len(items)):
            self.item.set(hold, data + self.items_at + i * self.stride, items[i])
        return self.put_count(data, len(items))

    cdef int set_array(self, Hold hold, char *data, object value) except -1:
        cdef cnp.ndarray records = records_of(value, self.dtype)
        cdef Py_ssize_t count = cnp.PyArray_DIM(records, 0) if cnp.PyArray_NDIM(records) > 0 else 1
        self.check_length(count)
        if self.padding is None:
            self.padding = padding_of(self.dtype)
        write_records(hold, data + self.items_at, self.item, records, self.dtype, (count,), self.padding)
        return self.put_count(data, count)

    cdef int check_length(self, Py_ssize_t count) except -1:
        if count > self.capacity or (not self.bounded and count != self.capacity):
            limit = f"at most {self.capacity}" if self.bounded else self.capacity
            raise ValueError(f"{count} items, and the field holds {limit}")
        return 0

    cdef int resize(self, Hold hold, char *data, object wanted) except -1:
        cdef Py_ssize_t count = whole_size(wanted)
        if not self.bounded:
            raise TypeError("it keeps its size")
        self.check_length(count)
        return self.put_count(data, count)

    cdef int put_count(self, char *data, Py_ssize_t count) except -1:
        """Set the count, and wipe what is no longer counted."""
        cdef uint32_t before
        if self.bounded:
            before = min((<uint32_t *>data)[0], self.capacity)
            (<uint32_t *>data)[0] = <uint32_t>count
            if count < before:
                memset(data + self.items_at + count * self.stride, 0, (before - count) * self.stride)
        return 0


@cython.final
@cython.no_gc
cdef class ListView:
    """A list in place. Items are read and written in the sample's memory; a list with MaxLen can grow up to it.

    Numbers, arrays and samples lie there as an array: `np.asarray(view.points)` has their dtype and copies nothing.
    """

    cdef Hold hold
    cdef char *data
    cdef ListCodec codec

    def __init__(self):
        raise TypeError("lists in place come from samples")

    cdef int alive(self, bint to_write=False) except -1:
        if self.data == NULL:
            raise TypeError("this list view is empty: it was not made by a sample")
        if to_write and not self.hold.is_writable():
            raise read_only(self.hold)
        return 0

    cdef char *item_at(self, object index) except NULL:
        cdef Py_ssize_t count
        cdef Py_ssize_t i = PyNumber_AsSsize_t(index, IndexError)
        self.alive()
        count = self.codec.count(self.data)
        if i < 0:
            i += count
        if i < 0 or i >= count:
            raise IndexError(f"index {index} in a list of {count}")
        return self.data + self.codec.items_at + i * self.codec.stride

    def __len__(self):
        self.alive()
        return self.codec.count(self.data)

    def __array__(self, dtype=None, copy=None):
        """The items that the list has now, in place: read-only where the sample is. Texts, bytes, optionals and lists
        with MaxLen have no array in place, and are copied.
        """
        self.alive()
        if self.codec.dtype is not None:
            array = self.codec.array(self.hold, self.data)
            if dtype is None or array.dtype == dtype:
                return array.copy() if copy else array
        if copy is not None and not copy:
            raise ValueError("the items cannot be had as such an array without a copy")
        return asarray(list(self) if self.codec.dtype is None else array, dtype)

    def __dlpack__(self, **options):
        """The items as a DLPack capsule, as numpy makes it: read-only where the sample is, which gives consumers that
        do not say max_version=(1, 0) BufferError. That of a loan holds off the commit while it is in use.
        """
        self.alive()
        return dlpack_of(self.codec.exported(self.hold, self.data), options)

    def __dlpack_device__(self):
        """The memory of the host."""
        return DLPACK_HOST

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self.codec.item.get(self.hold, self.item_at(index))

    def __setitem__(self, index, value):
        self.alive(True)
        if isinstance(index, slice):
            places = range(*index.indices(len(self)))
            values = list(value)
            if len(values) != len(places):
                raise ValueError(
                    f"{len(values)} values for {len(places)} places: a list in place does not move its items"
                )
            for place, item in zip(places, values):
                self[place] = item
            return
        self.put(self.item_at(index), value)

    def __delitem__(self, index):
        raise TypeError("a list in place does not move its items: assign a whole list")

    cdef int put(self, char *to, object value) except -1:
        self.alive(True)    # an index that is an object of the user's may have committed the loan
        self.hold.pin()     # as in FieldDescriptor
        try:
            self.codec.item.set(self.hold, to, value)
        finally:
            self.hold.unpin()
        return 0

    def __iter__(self):
        return iter([self[i] for i in range(len(self))])

    def __contains__(self, value):
        return value in list(self)

    cdef object of_fixed_length(self):
        return TypeError(
            f"this list has a fixed length, {self.codec.capacity} items: assign to them, or assign a whole list. "
            "resize() sets the size of a list without a bound"
        )

    def append(self, value):
        """Add an item. Raises ValueError when MaxLen is reached, TypeError for a list of fixed length."""
        cdef Py_ssize_t count
        self.alive(True)
        if not self.codec.bounded:
            raise self.of_fixed_length()
        count = self.codec.count(self.data)
        if count >= self.codec.capacity:
            raise ValueError(f"the list is full: it holds {self.codec.capacity} items")
        self.put(self.data + self.codec.items_at + count * self.codec.stride, value)
        (<uint32_t *>self.data)[0] = <uint32_t>(count + 1)

    def extend(self, values):
        """Add items, as append does, one by one."""
        for value in list(values):
            self.append(value)

    def clear(self):
        """Leave no item. Raises TypeError for a list of fixed length."""
        self.alive(True)
        if not self.codec.bounded:
            raise self.of_fixed_length()
        self.codec.put_count(self.data, 0)

    def __eq__(self, other):
        if not isinstance(other, (list, tuple, ListView)):
            return NotImplemented
        return list(self) == list(other)

    def __repr__(self):
        return repr(list(self)) if self.data != NULL else "<empty list view>"

    def __reduce__(self):
        raise TypeError("a list in place cannot be pickled: use list(...) or a copy of the sample")


def write_sample(View view not None, value):
    """Write a model, view or mapping of the same fields into a sample; ValueError and TypeError name the field."""
    cdef StructCodec codec = (<object>type(view)).__zs_codec__
    view.alive()
    if not view.hold.is_writable():
        raise read_only(view.hold)
    view.hold.pin()
    try:
        codec.set(view.hold, view.data, value)
    finally:
        view.hold.unpin()
