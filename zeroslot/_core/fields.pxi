# Part of binding.pyx: how each kind of field is read and written in place.
#
# A codec knows one kind of node (zeroslot.types.nodes) and nothing of where it lies; a FieldDescriptor adds the offset
# and the name. The bytes are shared with another process: a codec checks every count and flag that it reads, each time.

from numpy import bool_ as NumpyBool


cdef extern from *:
    """
    enum zs_kind { K_U8, K_U16, K_U32, K_U64, K_I8, K_I16, K_I32, K_I64, K_F16, K_F32, K_F64, K_BOOL };

    /* An exact int that fits the machine's word. False: any other object. */
    static inline int zs_exact_int(PyObject *value, long long *number)
    {
        int overflow = 0;
        if (!PyLong_CheckExact(value))
            return 0;
    #if PY_VERSION_HEX >= 0x030C0000 && !defined(Py_LIMITED_API)
        if (PyUnstable_Long_IsCompact((PyLongObject *)value)) {
            *number = PyUnstable_Long_CompactValue((PyLongObject *)value);
            return 1;
        }
    #else
        if (Py_SIZE(value) >= -1 && Py_SIZE(value) <= 1) { /* then the sign and the only digit */
            *number = Py_SIZE(value) == 0 ? 0 : Py_SIZE(value) * (long long)((PyLongObject *)value)->ob_digit[0];
            return 1;
        }
    #endif
        *number = PyLong_AsLongLongAndOverflow(value, &overflow);
        return overflow == 0;
    }

    #define ZS_STORE_IN_RANGE(type, low, high)                       \
        if (!zs_exact_int(value, &number) || number < (low) || number > (high)) \
            return 0;                                                \
        *(type *)(void *)data = (type)number;                        \
        return 1

    /* Store what needs no conversion: an exact float, an exact int in the range of the kind, True or False. It sets no
     * exception, and runs no code of the program's. False: anything else, which is not stored. */
    static inline int zs_set_exact(int kind, char *data, PyObject *value)
    {
        long long number;
        double real;
        switch (kind) {
        case K_F64:
            if (PyFloat_CheckExact(value))
                *(double *)(void *)data = PyFloat_AS_DOUBLE(value);
            else if (zs_exact_int(value, &number) && number >= -(1LL << 53) && number <= 1LL << 53)
                *(double *)(void *)data = (double)number;
            else
                return 0;
            return 1;
        case K_F32:
            if (!PyFloat_CheckExact(value))
                return 0;
            real = PyFloat_AS_DOUBLE(value);
            if (isfinite(real) && !isfinite((float)real))
                return 0;
            *(float *)(void *)data = (float)real;
            return 1;
        case K_BOOL:
            if (value != Py_True && value != Py_False)
                return 0;
            *data = value == Py_True;
            return 1;
        case K_U64: ZS_STORE_IN_RANGE(uint64_t, 0, INT64_MAX);
        case K_I64: ZS_STORE_IN_RANGE(int64_t, INT64_MIN, INT64_MAX);
        case K_U32: ZS_STORE_IN_RANGE(uint32_t, 0, UINT32_MAX);
        case K_I32: ZS_STORE_IN_RANGE(int32_t, INT32_MIN, INT32_MAX);
        case K_U16: ZS_STORE_IN_RANGE(uint16_t, 0, UINT16_MAX);
        case K_I16: ZS_STORE_IN_RANGE(int16_t, INT16_MIN, INT16_MAX);
        case K_U8: ZS_STORE_IN_RANGE(uint8_t, 0, UINT8_MAX);
        case K_I8: ZS_STORE_IN_RANGE(int8_t, INT8_MIN, INT8_MAX);
        default:
            return 0; /* of a codec that is not of one number, too */
        }
    }

    static inline PyObject *zs_get_number(int kind, const char *data)
    {
        const void *at = data;
        switch (kind) {
        case K_F64: return PyFloat_FromDouble(*(const double *)at);
        case K_U64: return zs_number_of(*(const uint64_t *)at);
        case K_F32: return PyFloat_FromDouble(*(const float *)at);
        case K_I64: return PyLong_FromLong(*(const int64_t *)at);
        case K_U32: return PyLong_FromLong(*(const uint32_t *)at);
        case K_I32: return PyLong_FromLong(*(const int32_t *)at);
        case K_U8: return PyLong_FromLong(*(const uint8_t *)at);
        case K_BOOL: return PyBool_FromLong(*data != 0);
        case K_U16: return PyLong_FromLong(*(const uint16_t *)at);
        case K_I16: return PyLong_FromLong(*(const int16_t *)at);
        case K_I8: return PyLong_FromLong(*(const int8_t *)at);
        default: return PyFloat_FromDouble(PyFloat_Unpack2(data, 1)); /* K_F16: it fails for no two bytes */
        }
    }
    _Static_assert(sizeof(long) == 8, "PyLong_FromLong is faster than what takes a long long");
    """
    enum Kind "zs_kind":
        K_U8, K_U16, K_U32, K_U64, K_I8, K_I16, K_I32, K_I64, K_F16, K_F32, K_F64, K_BOOL
    bint zs_exact_int(object value, long long *number) noexcept
    bint set_exact "zs_set_exact"(int kind, char *data, PyObject *value) noexcept
    object get_number "zs_get_number"(int kind, const char *data)

# Each kind's name, with its bytes.
cdef dict KINDS = {
    "u8": (K_U8, 1), "u16": (K_U16, 2), "u32": (K_U32, 4), "u64": (K_U64, 8),
    "i8": (K_I8, 1), "i16": (K_I16, 2), "i32": (K_I32, 4), "i64": (K_I64, 8),
    "f16": (K_F16, 2), "f32": (K_F32, 4), "f64": (K_F64, 8), "bool": (K_BOOL, 1),
}

# Below this, what a field held before is wiped when it becomes shorter or absent.
cdef size_t SMALL = 4096


cdef class Codec:
    """Reads and writes one kind of value."""

    cdef readonly size_t size
    cdef bint checked   # whether some bytes are no value
    cdef bint variable      # it has, or holds, an extent: its bytes alone are not its value

    cdef int check(self, char *data) except -1:
        """CorruptSegmentError unless the bytes are a value."""
        return 0

    cdef object get(self, Hold hold, char *data):
        raise NotImplementedError

    cdef int set(self, Hold hold, char *data, object value) except -1:
        raise NotImplementedError

    cdef int resize(self, Hold hold, char *data, object wanted) except -1:
        """Let the value have another size, within the room that there is. What is new in it is not said."""
        raise TypeError("it keeps its size")

    cdef object buffer(self, Hold hold, char *data):
        """A memoryview of the value."""
        raise TypeError("it is no text, bytes, array, or list of numbers, arrays or samples")

    cdef dict values(self, object view, bint as_models):
        """Of a codec that a view refers to: copies of all fields, nested samples as models or as dicts."""
        raise NotImplementedError

    cdef object model(self, object view):
        """Of a codec that a view refers to: an instance of its sample type with copies of all fields."""
        raise NotImplementedError

    def __reduce__(self):
        raise unpicklable(self)


cdef object out_of_range(object value, str kind, object low, object high):
    return ValueError(f"{shown_number(value)} is out of range for {kind} ({low} to {high})")


cdef object shown_number(object value):
    """A number in an error: Python refuses to show those with thousands of digits."""
    try:
        return str(value)
    except ValueError:
        return f"a number of {value.bit_length()} bits"


cdef double real_value(object value, str kind) except? -1:
    try:
        return PyFloat_AsDouble(value)
    except OverflowError:   # beyond all floats
        raise ValueError(f"{shown_number(value)} is beyond the range of {kind}") from None


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
        self.kind, self.size = KINDS[kind]

    cdef object get(self, Hold hold, char *data):
        return get_number(self.kind, data)

    cdef int set(self, Hold hold, char *data, object value) except -1:
        cdef int kind = self.kind
        cdef double real
        if kind == K_F64:
            (<double *>data)[0] = real_value(value, "f64")
        elif kind == K_U64:
            (<uint64_t *>data)[0] = unsigned_value(value)
        elif kind == K_F32:
            real = real_value(value, "f32")
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
            real = real_value(value, "f16")
            try:
                PyFloat_Pack2(real, data, 1)
            except OverflowError:
                raise ValueError(f"{value} is beyond the range of f16") from None
        return 0


@cython.final
cdef class FloatCodec(Codec):
    """An integer of the publisher's that the subscriber declares as a float. It is only read."""

    cdef ScalarCodec number

    def __cinit__(self, ScalarCodec number not None):
        self.number = number
        self.size = number.size

    cdef object get(self, Hold hold, char *data):
        return float(self.number.get(hold, data))


@cython.final
cdef class EnumCodec(Codec):
    """An integer of which only the named values are allowed, in either direction."""

    cdef ScalarCodec number
    cdef dict values    # number -> what Python sees
    cdef str name

    def __cinit__(self, str kind not None, str name not None, dict values not None):
        self.number = ScalarCodec(kind)
        self.size = self.number.size
        self.checked = True
        self.values = values
        self.name = name

    cdef int check(self, char *data) except -1:
        self.get(None, data)
        return 0

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


cdef int get_bytes(object value, Py_buffer *content) except -1:
    """The bytes of an object with a buffer: of a copy in C order where they do not lie in a row."""
    try:
        return PyObject_GetBuffer(value, content, PyBUF_SIMPLE)
    except (BufferError, ValueError):
        return PyObject_GetBuffer(memoryview(value).tobytes(), content, PyBUF_SIMPLE)


@cython.final
cdef class BytesCodec(Codec):
    """A u32 length and that many bytes, at most `max_bytes`; `text` is UTF-8."""

    cdef uint32_t max_bytes
    cdef bint text

    def __cinit__(self, uint32_t max_bytes, bint text):
        self.max_bytes = max_bytes
        self.text = text
        self.size = (4 + <size_t>max_bytes + 3) // 4 * 4
        self.checked = True

    cdef int check(self, char *data) except -1:
        self.get(None, data)
        return 0

    cdef Py_ssize_t length(self, char *data) except -1:
        cdef uint32_t length = (<uint32_t *>data)[0]
        if length > self.max_bytes:
            raise errors.CorruptSegmentError(
                f"a length of {length} bytes in a field of {self.max_bytes}", found=length, expected=self.max_bytes
            )
        return length

    cdef object buffer(self, Hold hold, char *data):
        return exported_bytes(hold, data + 4, self.length(data))

    cdef object get(self, Hold hold, char *data):
        cdef Py_ssize_t length = self.length(data)
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
        get_bytes(value, &content)
        try:
            return self.put(data, <const char *>content.buf, content.len)
        finally:
            PyBuffer_Release(&content)

    cdef int resize(self, Hold hold, char *data, object wanted) except -1:
        return self.put(data, NULL, whole_size(wanted))

    cdef int put(self, char *data, const char *source, Py_ssize_t length) except -1:
        """Write the bytes, and wipe what was there behind them. Without a source the first ones stay."""
        cdef uint32_t before = (<uint32_t *>data)[0]
        if length > self.max_bytes:
            raise ValueError(f"{length} bytes, and the field holds {self.max_bytes}")
        if length > 0 and source != NULL:
            memmove(data + 4, source, length)
        (<uint32_t *>data)[0] = <uint32_t>length
        if length < before <= self.max_bytes:
            memset(data + 4 + length, 0, before - length)
        return 0


cdef int copy_array(Hold hold, char *to, cnp.ndarray value) except -1:
    """Copy the items of an array to where they lie in C order, whatever their order is in the array."""
    cdef zs_strided source
    cdef size_t size = <size_t>cnp.PyArray_NBYTES(value)
    cdef int i
    if not cnp.PyArray_IS_C_CONTIGUOUS(value):
        if not hold.is_writable():
            raise read_only(hold)
        source.data = <const uint8_t *>cnp.PyArray_DATA(value)
        source.item = <size_t>cnp.PyArray_ITEMSIZE(value)
        source.ndim = cnp.PyArray_NDIM(value)
        for i in range(source.ndim):
            source.shape[i], source.strides[i] = cnp.PyArray_DIM(value, i), cnp.PyArray_STRIDE(value, i)
        if not zs_strided_overlaps(&source, to, size):
            hold.pin()
            with nogil:
                zs_copy_strided(to, &source)
            hold.unpin()
            return 0
        value = cnp.PyArray_NewCopy(value, cnp.NPY_CORDER)
    return copy_bytes(hold, to, <const char *>cnp.PyArray_DATA(value), size)


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

    cdef object buffer(self, Hold hold, char *data):
        return memoryview(as_buffer(exported_array(hold, data, self.dtype, self.shape)))

    cdef int set(self, Hold hold, char *data, object value) except -1:
        if self.fits(value):
            return copy_bytes(hold, data, <const char *>cnp.PyArray_DATA(<cnp.ndarray>value), self.size)
        return copy_array(hold, data, array_of(value, self.dtype, self.shape))

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
cdef class BoundedArrayCodec(Codec):
    """An array of which some dims have a bound: the length of each of those as u32, and behind all of them the
    elements, in C order of the lengths. `dims`: a bound is negative.

    Why the elements are in the order of what is there, and not of the bounds: so the array is contiguous, and its first
    bytes are all that a short one touches.
    """

    cdef cnp.dtype dtype
    cdef tuple dims
    cdef int ndim
    cdef size_t elements_at

    def __cinit__(self, cnp.dtype dtype not None, tuple dims not None, size_t elements_at, size_t size):
        cdef size_t room = (<object>dtype).itemsize
        if not 0 < len(dims) <= 32 or (<object>dtype).hasobject:
            raise ValueError("1 to 32 dimensions of numbers or records")
        for dim in dims:
            room *= <size_t>abs(dim)
        if elements_at + room > size or elements_at < 4 * <size_t>sum(dim < 0 for dim in dims):
            raise ValueError("the elements leave the field")
        self.dtype, self.dims, self.ndim = dtype, dims, len(dims)
        self.elements_at, self.size = elements_at, size
        self.checked = True

    cdef size_t load(self, char *data, cnp.npy_intp *dims) except? 0:
        """The dims that the array has now; their product. Each length is loaded once, then checked."""
        cdef uint32_t length
        cdef int i, k = 0
        cdef size_t count = 1
        cdef Py_ssize_t dim
        for i in range(self.ndim):
            dim = self.dims[i]
            if dim < 0:
                length = zs_load32(<const uint32_t *>data + k, ZS_RELAXED)
                k += 1
                if length > <size_t>-dim:
                    raise errors.CorruptSegmentError(
                        f"a length of {length} in a dimension of at most {-dim}", found=length, expected=-dim
                    )
                dim = length
            dims[i] = dim
            count *= <size_t>dim
        return count

    cdef int check(self, char *data) except -1:
        cdef cnp.npy_intp dims[32]
        self.load(data, dims)
        return 0

    cdef object get(self, Hold hold, char *data):
        cdef cnp.npy_intp dims[32]
        self.load(data, dims)
        return make_array(hold, data + self.elements_at, self.dtype, self.ndim, dims)

    cdef object buffer(self, Hold hold, char *data):
        cdef cnp.npy_intp dims[32]
        cdef int i
        self.load(data, dims)
        shape = tuple([dims[i] for i in range(self.ndim)])
        return memoryview(as_buffer(exported_array(hold, data + self.elements_at, self.dtype, shape)))

    cdef int set(self, Hold hold, char *data, object value) except -1:
        cdef cnp.ndarray array = bounded_array_of(value, self.dtype, self.dims)
        copy_array(hold, data + self.elements_at, array)
        return self.put_lengths(data, (<object>array).shape)

    cdef int resize(self, Hold hold, char *data, object wanted) except -1:
        shape = tuple(wanted) if isinstance(wanted, (tuple, list)) else (wanted,)
        check_within(shape := tuple([whole_size(length) for length in shape]), self.dims)
        return self.put_lengths(data, shape)

    cdef int put_lengths(self, char *data, tuple shape) except -1:
        """Set the lengths, and wipe what is no longer in use."""
        cdef cnp.npy_intp dims[32]
        cdef size_t before = 0, after = 1, itemsize = (<object>self.dtype).itemsize
        cdef int i, k = 0
        cdef Py_ssize_t dim, length
        try:
            before = self.load(data, dims)
        except errors.CorruptSegmentError:  # what loan_uninit left
            pass
        for i in range(self.ndim):
            dim, length = self.dims[i], shape[i]
            after *= <size_t>length
            if dim < 0:
                zs_store32(<uint32_t *>data + k, <uint32_t>length, ZS_RELAXED)
                k += 1
        if after < before:
            memset(data + self.elements_at + after * itemsize, 0, (before - after) * itemsize)
        return 0
