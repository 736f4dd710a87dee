# Part of binding.pyx: how each kind of field is read and written in place.
#
# A codec knows one kind of node (zeroslot.types.fields) and nothing of where it lies; a FieldDescriptor adds the offset and
# the name. The bytes are shared with another process: a codec checks every count and flag that it reads, each time.

from numpy import bool_ as NumpyBool


cdef enum Kind:
    K_U8, K_U16, K_U32, K_U64, K_I8, K_I16, K_I32, K_I64, K_F16, K_F32, K_F64, K_BOOL

cdef dict KINDS = {
    "u8": K_U8, "u16": K_U16, "u32": K_U32, "u64": K_U64, "i8": K_I8, "i16": K_I16, "i32": K_I32, "i64": K_I64,
    "f16": K_F16, "f32": K_F32, "f64": K_F64, "bool": K_BOOL,
}

cdef extern from "<math.h>" nogil:
    bint isfinite_double "isfinite"(double value)

cdef extern from "Python.h":
    double PyFloat_Unpack2(const char *p, int little_endian) except? -1
    int PyFloat_Pack2(double x, char *p, int little_endian) except -1
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    object PyUnicode_DecodeUTF8(const char *data, Py_ssize_t size, const char *how)
    object PyLong_FromUnsignedLongLong(unsigned long long value)
    object PyLong_FromLongLong(long long value)
    long long PyLong_AsLongLongAndOverflow(object value, int *overflow) except? -1
    unsigned long long PyLong_AsUnsignedLongLong(object value) except? -1
    object PyFloat_FromDouble(double value)
    double PyFloat_AsDouble(object value) except? -1
    object PyNumber_Index(object value)
    Py_ssize_t PyNumber_AsSsize_t(object value, object overflow) except? -1

# Below this, what a field held before is wiped when it becomes shorter or absent.
cdef size_t SMALL = 4096


cdef class Codec:
    """Reads and writes one kind of value."""

    cdef readonly size_t size

    cdef object get(self, Hold hold, char *data):
        raise NotImplementedError

    cdef int set(self, Hold hold, char *data, object value) except -1:
        raise NotImplementedError

    def __reduce__(self):
        raise unpicklable(self)


cdef object out_of_range(object value, str kind, object low, object high):
    return ValueError(f"{value} is out of range for {kind} ({low} to {high})")


cdef int64_t signed_value(object value, str kind, int64_t low, int64_t high) except? -1:
    cdef int overflow = 0
    cdef int64_t number = PyLong_AsLongLongAndOverflow(PyNumber_Index(value), &overflow)
    if overflow != 0 or number < low or number > high:
        raise out_of_range(value, kind, low, high)
    return number


cdef uint64_t unsigned_value(object value) except? 0:
    number = PyNumber_Index(value)
    if number < 0 or number > 0xFFFFFFFFFFFFFFFF:
        raise out_of_range(value, "u64", 0, 0xFFFFFFFFFFFFFFFF)
    return PyLong_AsUnsignedLongLong(number)


@cython.final
cdef class ScalarCodec(Codec):
    """Numbers and booleans, as C has them. Floats are rounded to the field's precision."""

    cdef int kind

    def __cinit__(self, str kind not None):
        self.kind = KINDS[kind]
        self.size = (1, 2, 4, 8, 1, 2, 4, 8, 2, 4, 8, 1)[self.kind]

    cdef object get(self, Hold hold, char *data):
        cdef int kind = self.kind
        if kind == K_F64:
            return PyFloat_FromDouble((<double *>data)[0])
        if kind == K_U64:
            return PyLong_FromUnsignedLongLong((<uint64_t *>data)[0])
        if kind == K_F32:
            return PyFloat_FromDouble((<float *>data)[0])
        if kind == K_I64:
            return PyLong_FromLongLong((<int64_t *>data)[0])
        if kind == K_U32:
            return PyLong_FromLongLong((<uint32_t *>data)[0])
        if kind == K_I32:
            return PyLong_FromLongLong((<int *>data)[0])
        if kind == K_U8:
            return PyLong_FromLongLong((<uint8_t *>data)[0])
        if kind == K_BOOL:
            return data[0] != 0
        if kind == K_U16:
            return PyLong_FromLongLong((<uint16_t *>data)[0])
        if kind == K_I16:
            return PyLong_FromLongLong((<short *>data)[0])
        if kind == K_I8:
            return PyLong_FromLongLong((<signed char *>data)[0])
        return PyFloat_FromDouble(PyFloat_Unpack2(data, 1))

    cdef int set(self, Hold hold, char *data, object value) except -1:
        cdef int kind = self.kind
        cdef double real
        if kind == K_F64:
            (<double *>data)[0] = PyFloat_AsDouble(value)
        elif kind == K_U64:
            (<uint64_t *>data)[0] = unsigned_value(value)
        elif kind == K_F32:
            real = PyFloat_AsDouble(value)
            if isfinite_double(real) and not isfinite_double(<float>real):
                raise ValueError(f"{value} is beyond the range of f32")
            (<float *>data)[0] = <float>real
        elif kind == K_I64:
            (<int64_t *>data)[0] = signed_value(value, "i64", INT64_MIN, INT64_MAX)
        elif kind == K_U32:
            (<uint32_t *>data)[0] = <uint32_t>signed_value(value, "u32", 0, 0xFFFFFFFF)
        elif kind == K_I32:
            (<int *>data)[0] = <int>signed_value(value, "i32", -0x80000000, 0x7FFFFFFF)
        elif kind == K_U8:
            (<uint8_t *>data)[0] = <uint8_t>signed_value(value, "u8", 0, 0xFF)
        elif kind == K_BOOL:
            if value is True or value is False:
                data[0] = value is True
            elif isinstance(value, NumpyBool) or (isinstance(value, int) and 0 <= value <= 1):
                data[0] = <bint>value
            else:
                raise TypeError(f"a bool, not {type(value).__name__}")
        elif kind == K_U16:
            (<uint16_t *>data)[0] = <uint16_t>signed_value(value, "u16", 0, 0xFFFF)
        elif kind == K_I16:
            (<short *>data)[0] = <short>signed_value(value, "i16", -0x8000, 0x7FFF)
        elif kind == K_I8:
            (<signed char *>data)[0] = <signed char>signed_value(value, "i8", -0x80, 0x7F)
        else:
            real = PyFloat_AsDouble(value)
            try:
                PyFloat_Pack2(real, data, 1)
            except OverflowError:
                raise ValueError(f"{value} is beyond the range of f16") from None
        return 0


@cython.final
cdef class EnumCodec(Codec):
    """An integer of which only the named values are allowed, in either direction."""

    cdef ScalarCodec number
    cdef dict values    # number -> what Python sees
    cdef str name

    def __cinit__(self, str kind not None, str name not None, dict values not None):
        self.number = ScalarCodec(kind)
        self.size = self.number.size
        self.values = values
        self.name = name

    cdef object get(self, Hold hold, char *data):
        number = self.number.get(hold, data)
        value = self.values.get(number)
        if value is None:
            raise errors.CorruptSegmentError(f"{number} is no value of {self.name}", found=number)
        return value

    cdef int set(self, Hold hold, char *data, object value) except -1:
        number = PyNumber_Index(value)
        if number not in self.values:
            raise ValueError(f"{value!r} is no value of {self.name}")
        return self.number.set(hold, data, number)


@cython.final
cdef class BytesCodec(Codec):
    """A u32 length and that many bytes, at most `max_bytes`; `text` is UTF-8."""

    cdef uint32_t max_bytes
    cdef bint text

    def __cinit__(self, uint32_t max_bytes, bint text):
        self.max_bytes = max_bytes
        self.text = text
        self.size = (4 + <size_t>max_bytes + 3) // 4 * 4

    cdef object get(self, Hold hold, char *data):
        cdef uint32_t length = (<uint32_t *>data)[0]
        if length > self.max_bytes:
            raise errors.CorruptSegmentError(
                f"a length of {length} bytes in a field of {self.max_bytes}", found=length, expected=self.max_bytes
            )
        if not self.text:
            return (data + 4)[:length]
        try:
            return PyUnicode_DecodeUTF8(data + 4, length, NULL)
        except UnicodeDecodeError as error:
            raise errors.CorruptSegmentError(f"a text that is not UTF-8: {error}", found=error.object) from None

    cdef int set(self, Hold hold, char *data, object value) except -1:
        cdef Py_ssize_t length = 0
        cdef const char *source
        cdef Py_buffer content
        if self.text:
            if not isinstance(value, str):
                raise TypeError(f"a str, not {type(value).__name__}")
            source = PyUnicode_AsUTF8AndSize(value, &length)
            return self.put(data, source, length)
        if not PyObject_CheckBuffer(value):
            raise TypeError(f"bytes, not {type(value).__name__}")
        PyObject_GetBuffer(value, &content, PyBUF_SIMPLE)
        try:
            return self.put(data, <const char *>content.buf, content.len)
        finally:
            PyBuffer_Release(&content)

    cdef int put(self, char *data, const char *source, Py_ssize_t length) except -1:
        """Write the bytes, and wipe what was there behind them."""
        cdef uint32_t before = (<uint32_t *>data)[0]
        if length > self.max_bytes:
            raise ValueError(f"{length} bytes, and the field holds {self.max_bytes}")
        if length > 0:
            memmove(data + 4, source, length)
        (<uint32_t *>data)[0] = <uint32_t>length
        if length < before <= self.max_bytes:
            memset(data + 4 + length, 0, before - length)
        return 0


@cython.final
cdef class ArrayCodec(Codec):
    """A fixed array of scalars: a numpy array over the memory."""

    cdef cnp.dtype dtype
    cdef int ndim
    cdef cnp.npy_intp dims[32]
    cdef tuple shape

    def __cinit__(self, cnp.dtype dtype not None, tuple shape not None):
        cdef int i
        if len(shape) > 32:
            raise ValueError("at most 32 dimensions")
        self.dtype, self.shape, self.ndim = dtype, shape, len(shape)
        self.size = dtype.itemsize
        for i in range(self.ndim):
            self.dims[i] = shape[i]
            self.size *= <size_t>self.dims[i]

    cdef object get(self, Hold hold, char *data):
        return make_array(hold, data, self.dtype, self.ndim, self.dims)

    cdef int set(self, Hold hold, char *data, object value) except -1:
        if not self.fits(value):
            value = cnp.PyArray_GETCONTIGUOUS(array_of(value, self.dtype, self.shape))
        return copy_bytes(hold, data, <const char *>cnp.PyArray_DATA(<cnp.ndarray>value), self.size)

    cdef bint fits(self, object value):
        """Whether a value can be copied as bytes."""
        cdef int i
        if not isinstance(value, cnp.ndarray):
            return False
        if cnp.PyArray_NDIM(<cnp.ndarray>value) != self.ndim or not cnp.PyArray_IS_C_CONTIGUOUS(<cnp.ndarray>value):
            return False
        for i in range(self.ndim):
            if cnp.PyArray_DIM(<cnp.ndarray>value, i) != self.dims[i]:
                return False
        return (<cnp.ndarray>value).dtype == self.dtype


@cython.final
cdef class StructCodec(Codec):
    """A nested sample: a view of the part."""

    cdef object view_class
    cdef object sample_type     # of the models that are made of its views
    cdef tuple members          # its FieldDescriptors, in order
    cdef dict absent            # fields of the sample type that the memory lacks: name -> what makes its value

    def __cinit__(self, view_class not None, size_t size, tuple members not None, dict absent=None):
        self.view_class, self.size, self.members = view_class, size, members
        self.sample_type = getattr(view_class, "__zs_sample__", None)
        self.absent = absent

    cdef object get(self, Hold hold, char *data):
        return make_view(self.view_class, hold, data, self.size)

    cdef int set(self, Hold hold, char *data, object value) except -1:
        """Write a view, a model or a dict of the same fields. A model is copied field by field as it is: kinds, ranges
        and bounds are checked, its validators do not run again.
        """
        cdef FieldDescriptor member
        cdef dict values
        cdef View view
        if type(value) is self.view_class:
            view = value
            if view.size == self.size:
                return copy_bytes(hold, data, view.data, self.size)
        if isinstance(value, View):
            for member in self.members:
                if not hasattr(value, member.name):
                    raise ValueError(f"a value for {member.name} is missing")
                member.put(hold, data + member.offset, getattr(value, member.name))
            return 0
        if isinstance(value, dict):
            values = value
            if len(values) > len(self.members):
                raise ValueError(f"unknown fields: {', '.join(sorted(set(values) - {m.name for m in self.members}))}")
        elif type(value) is self.sample_type or isinstance(type(value), type(self.sample_type)):
            values = value.__dict__
        else:
            raise TypeError(f"a {self.view_class.__name__}, not {type(value).__name__}")
        for member in self.members:
            if member.name not in values:
                raise ValueError(f"a value for {member.name} is missing")
            member.put(hold, data + member.offset, values[member.name])
        return 0

    cdef dict values(self, View view, bint as_models):
        """Copies of all fields: nested samples as models, or as dicts."""
        cdef FieldDescriptor member
        cdef dict found = {}
        for member in self.members:
            found[member.name] = copied(member.__get__(view, None), as_models)
        if self.absent:
            found |= {name: default() for name, default in self.absent.items()}
            found = {name: found[name] for name in self.sample_type.__pydantic_fields__}
        return found

    cdef object model(self, View view):
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
        return codec.model(<View>value) if as_models else codec.values(<View>value, False)
    if isinstance(value, ListView):
        return [copied(item, as_models) for item in value]
    if isinstance(value, cnp.ndarray):
        return cnp.PyArray_NewCopy(<cnp.ndarray>value, cnp.NPY_CORDER)
    return value


@cython.final
cdef class OptionalCodec(Codec):
    """A presence byte, and the item behind it."""

    cdef Codec item
    cdef size_t item_at

    def __cinit__(self, Codec item not None, size_t item_at, size_t size):
        self.item, self.item_at, self.size = item, item_at, size

    cdef object get(self, Hold hold, char *data):
        if data[0] == 0:
            return None
        return self.item.get(hold, data + self.item_at)

    cdef int set(self, Hold hold, char *data, object value) except -1:
        if value is None:
            data[0] = 0
            if self.item.size <= SMALL:
                memset(data + self.item_at, 0, self.item.size)
        else:
            self.item.set(hold, data + self.item_at, value)
            data[0] = 1
        return 0


@cython.final
cdef class ListCodec(Codec):
    """`capacity` items in a row; with `bounded`, behind a u32 count of those that are there."""

    cdef Codec item
    cdef size_t items_at
    cdef size_t stride
    cdef uint32_t capacity
    cdef bint bounded

    def __cinit__(self, Codec item not None, size_t items_at, size_t stride, uint32_t capacity, bint bounded,
                  size_t size):
        if stride == 0 or items_at + stride * capacity > size:
            raise ValueError("the items leave the field")
        self.item, self.items_at, self.stride = item, items_at, stride
        self.capacity, self.bounded, self.size = capacity, bounded, size

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
        if isinstance(value, (str, bytes, dict)):
            raise TypeError(f"a list, not {type(value).__name__}")
        # Items that are views of this very slot are read before anything is written.
        items = [
            item.__zs_values__() if isinstance(item, View) and (<View>item).hold is hold else item for item in value
        ]
        if len(items) > self.capacity or (not self.bounded and len(items) != self.capacity):
            limit = f"at most {self.capacity}" if self.bounded else self.capacity
            raise ValueError(f"{len(items)} items, and the field holds {limit}")
        for i in range(len(items)):
            self.item.set(hold, data + self.items_at + i * self.stride, items[i])
        return self.resize(data, len(items))

    cdef int resize(self, char *data, Py_ssize_t count) except -1:
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
    """A list in place. Items are read and written in the sample's memory; a list with MaxLen can grow up to it."""

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

    def append(self, value):
        """Add an item. Raises ValueError when MaxLen is reached, TypeError for a list of fixed length."""
        cdef Py_ssize_t count
        self.alive(True)
        if not self.codec.bounded:
            raise TypeError(f"a list of Shape({self.codec.capacity}) has a fixed length")
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
            raise TypeError(f"a list of Shape({self.codec.capacity}) has a fixed length")
        self.codec.resize(self.data, 0)

    def __eq__(self, other):
        if not isinstance(other, (list, tuple, ListView)):
            return NotImplemented
        return list(self) == list(other)

    def __repr__(self):
        return repr(list(self)) if self.data != NULL else "<empty list view>"

    def __reduce__(self):
        raise TypeError("a list in place cannot be pickled: use list(...) or a copy of the sample")


@cython.no_gc
cdef class View:
    """A sample in a slot: base of the classes that zeroslot.types.view makes. Bytes-like; keeps its slot; read-only after
    commit.
    """

    cdef Hold hold
    cdef char *data
    cdef size_t size

    def __init__(self, *arguments, **named):
        raise TypeError("views come from loans and leases; make a sample with its own class")

    cdef int alive(self) except -1:
        if self.data == NULL:
            raise TypeError("this view is empty: it was not made by a loan or a lease")
        return 0

    def __getbuffer__(self, Py_buffer *buffer, int flags):
        self.alive()
        self.hold.export(buffer, flags, self.data, self.size, True)

    def __releasebuffer__(self, Py_buffer *buffer):
        pass    # as for handles

    def __reduce__(self):
        raise unpicklable(self)

    def __zs_values__(self):
        """Copies of all fields, nested samples as dicts."""
        cdef StructCodec codec = (<object>type(self)).__zs_codec__
        return codec.values(self, False)

    def __zs_model__(self):
        """An instance of the sample's class with copies of all fields. It is not validated again."""
        cdef StructCodec codec = (<object>type(self)).__zs_codec__
        return codec.model(self)

    @property
    def __class__(self):
        """The sample's class, as for a model: `super()` in methods of that class works on views, too."""
        return getattr(type(self), "__zs_sample__", None) or type(self)

    @__class__.setter
    def __class__(self, value):
        raise TypeError("a view keeps its class")

    @property
    def __zs_writable__(self):
        """Whether fields can be set."""
        return self.data != NULL and self.hold.is_writable()


# A class statement would make view classes that the garbage collector tracks. Views are leaves, there is one for each
# sample, and tracking them costs as much as the rest of a loan; so the classes are made from a spec. No further classes
# derive from them.
#
# All views have one size, so all view classes share a few spare objects. A spare has no type, no Hold and no data.
# Where there is no GIL there are no spares.
cdef extern from *:
    """
    #define new_object(type, arguments) ((type)->tp_new((type), (arguments), NULL))

    #ifdef Py_GIL_DISABLED
    #define ZS_SPARE_VIEWS 0
    #else
    #define ZS_SPARE_VIEWS 16
    #endif
    static PyObject *zs_spare_views[ZS_SPARE_VIEWS + 1];
    static int zs_spare_count;
    static destructor zs_view_base_dealloc;
    static void (*zs_view_reset)(PyObject *);

    static void zs_view_dealloc(PyObject *self)
    {
        PyTypeObject *type = Py_TYPE(self);
        Py_SET_REFCNT(self, 1); /* the reset counts references, and must not come here again */
        zs_view_reset(self);
        if (zs_spare_count < ZS_SPARE_VIEWS) {
            Py_SET_REFCNT(self, 0);
            zs_spare_views[zs_spare_count++] = self;
        } else {
            Py_SET_REFCNT(self, 0);
            zs_view_base_dealloc(self);
        }
        Py_DECREF(type); /* an instance of a heap type owns a reference to it */
    }

    static inline PyObject *zs_spare_view(PyTypeObject *type)
    {
        if (zs_spare_count == 0)
            return NULL;
        return PyObject_Init(zs_spare_views[--zs_spare_count], type);
    }

    static PyObject *zs_view_class(const char *name, PyObject *base, void (*reset)(PyObject *))
    {
        PyType_Slot slots[] = {{Py_tp_dealloc, (void *)zs_view_dealloc}, {0, NULL}};
        PyType_Spec spec = {name, 0, 0, Py_TPFLAGS_DEFAULT, slots};
        zs_view_base_dealloc = ((PyTypeObject *)base)->tp_dealloc;
        zs_view_reset = reset;
        return PyType_FromSpecWithBases(&spec, base);
    }
    """
    object new_object(PyTypeObject *kind, PyObject *arguments)
    PyObject *zs_spare_view(PyTypeObject *kind)
    object zs_view_class(const char *name, object base, void (*reset)(PyObject *) noexcept)
    void Py_DECREF_pointer "Py_DECREF"(PyObject *o)

cdef tuple NO_ARGUMENTS = ()


cdef void reset_view(PyObject *view) noexcept:
    (<View>view).hold = None
    (<View>view).data = NULL


def make_view_class(str name not None, dict namespace not None):
    """A class of views with these attributes: FieldDescriptors and whatever else."""
    made = zs_view_class(name.encode(), View, reset_view)
    for key, value in namespace.items():
        setattr(made, key, value)
        if isinstance(value, FieldDescriptor):
            value.__set_name__(made, key)
    return made


cdef inline View make_view(object view_class, Hold hold, char *data, size_t size):
    cdef PyObject *spare = zs_spare_view(<PyTypeObject *>view_class)
    cdef View view
    if spare != NULL:
        view = <View>spare
        Py_DECREF_pointer(spare)    # the cast has counted a second reference
    else:
        view = <View>new_object(<PyTypeObject *>view_class, <PyObject *>NO_ARGUMENTS)
    view.hold = hold
    view.data = data
    view.size = size
    return view


cdef extern from *:
    """
    /* Store what needs no conversion: an exact float, or an exact int in the range of the commonest kinds. False:
     * anything else. */
    static inline int zs_set_exact(int kind, char *data, PyObject *value,
                                   int f64, int u64, int i64, int u32, int i32, int u8)
    {
        int overflow = 0;
        long long number;
        if (PyFloat_CheckExact(value)) {
            if (kind == f64)
                *(double *)(void *)data = PyFloat_AS_DOUBLE(value);
            else
                return 0;
            return 1;
        }
        if (!PyLong_CheckExact(value) || kind < 0)
            return 0;
        number = PyLong_AsLongLongAndOverflow(value, &overflow);
        if (overflow != 0)
            return 0;
        if (kind == i64)
            *(long long *)(void *)data = number;
        else if (kind == u64 && number >= 0)
            *(unsigned long long *)(void *)data = (unsigned long long)number;
        else if (kind == u32 && number >= 0 && number <= UINT32_MAX)
            *(uint32_t *)(void *)data = (uint32_t)number;
        else if (kind == i32 && number >= INT32_MIN && number <= INT32_MAX)
            *(int32_t *)(void *)data = (int32_t)number;
        else if (kind == u8 && number >= 0 && number <= UINT8_MAX)
            *(uint8_t *)data = (uint8_t)number;
        else
            return 0;
        return 1;
    }
    """
    bint zs_set_exact(int kind, char *data, object value, int f64, int u64, int i64, int u32, int i32, int u8)


cdef inline bint set_exact(int kind, char *data, object value):
    return zs_set_exact(kind, data, value, K_F64, K_U64, K_I64, K_U32, K_I32, K_U8)


@cython.final
cdef class FieldDescriptor:
    """One field of a view class."""

    cdef Codec codec
    cdef readonly size_t offset
    cdef readonly str name
    cdef type owner
    cdef int scalar     # its Kind, or -1

    def __cinit__(self, str name not None, Codec codec not None, size_t offset):
        self.name, self.codec, self.offset = name, codec, offset
        self.scalar = (<ScalarCodec>codec).kind if isinstance(codec, ScalarCodec) else -1

    def __set_name__(self, owner, name):
        if not issubclass(owner, View):
            raise TypeError("fields are for view classes")
        self.owner = owner

    cdef int refuse(self, object instance) except -1:
        if self.owner is None or not isinstance(instance, self.owner):
            raise TypeError(f"{self.name} is a field of {self.owner.__name__ if self.owner else 'no class'}")
        (<View>instance).alive()
        if self.offset + self.codec.size > (<View>instance).size:
            raise errors.CorruptSegmentError(f"{self.name} lies outside its sample", field=self.name)
        return 0

    def __get__(self, instance, owner):
        cdef View view
        if instance is None:
            return self
        view = <View>instance
        if type(instance) is not self.owner or view.data == NULL or self.offset + self.codec.size > view.size:
            self.refuse(instance)
        return self.codec.get(view.hold, view.data + self.offset)

    def __set__(self, instance, value):
        cdef View view = <View>instance
        if type(instance) is not self.owner or view.data == NULL or self.offset + self.codec.size > view.size:
            self.refuse(instance)
        if not view.hold.is_writable():
            raise read_only(view.hold)
        if set_exact(self.scalar, view.data + self.offset, value):
            return
        view.hold.pin()     # reading a value may run any code, which must not commit what is half written
        try:
            self.put(view.hold, view.data + self.offset, value)
        finally:
            view.hold.unpin()

    cdef int put(self, Hold hold, char *data, object value) except -1:
        try:
            self.codec.set(hold, data, value)
        except (ValueError, TypeError) as error:
            if isinstance(error, errors.ZeroslotError):
                raise
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"{self.name}: {error}") from None
        return 0


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


def write_image(View view not None, const unsigned char[::1] image not None):
    """Copy the bytes of a whole sample. They are what the sample's layout says, to the byte."""
    view.alive()
    if <size_t>image.shape[0] != view.size:
        raise ValueError(f"{image.shape[0]} bytes for a sample of {view.size}")
    copy_bytes(view.hold, view.data, <const char *>&image[0], view.size)
