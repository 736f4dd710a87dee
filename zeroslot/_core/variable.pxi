# Part of binding.pyx: fields of variable size, and what their data means.
#
# In the fixed part of a sample stands an extent, which says where behind that part the field's data is.

from numpy import integer as NumpyInteger


cdef class VariableCodec(Codec):
    """Reads and writes a field through its extent. What the data means is the subclass's part."""

    cdef uint64_t alignment
    cdef bint is_wiped      # bytes that are not written are zeros however many they are: not all bytes are values

    def __cinit__(self, *arguments, **named):
        self.variable = True
        self.size = EXTENT_SIZE
        self.alignment = DATA_ALIGNMENT

    @cython.final
    cdef inline uint64_t start_after(self, uint64_t end) noexcept:
        """Where data may begin that lies behind `end` bytes."""
        return (end + self.alignment - 1) // self.alignment * self.alignment

    cdef object get(self, Hold hold, char *data):
        cdef zs_array_extent extent
        self.load(hold, data, &extent)
        return self.value_of(hold, &extent)

    cdef int load(self, Hold hold, char *data, zs_array_extent *extent) except -1:
        """Load an extent, and check that its data lies in the sample, behind the fixed part."""
        zs_load_once(extent, data, self.size)
        if extent.size != 0:
            if extent.offset < hold.head or extent.offset > hold.size or extent.size > hold.size - extent.offset:
                raise corrupt_extent(
                    f"claims {extent.size} bytes at {extent.offset} in a sample of {hold.size}", extent.offset
                )
            if extent.offset % self.alignment != 0:
                raise corrupt_extent(f"has the offset {extent.offset}, no multiple of {self.alignment}", extent.offset)
        else:
            extent.offset = hold.head   # a pointer into the sample, through which no byte is read
        return 0

    cdef object buffer(self, Hold hold, char *data):
        cdef zs_array_extent extent
        self.load(hold, data, &extent)
        return self.exported(hold, &extent)

    cdef object exported(self, Hold hold, zs_array_extent *extent):
        """A memoryview of the data of a checked extent."""
        raise NotImplementedError

    cdef int set(self, Hold hold, char *data, object value) except -1:
        cdef zs_place *place = place_of(hold, data)
        cdef Extents extents = extents_of(hold)
        cdef zs_array_extent extent
        memset(&extent, 0, sizeof(extent))
        value = extents.prepared_value(value)
        value = self.measure(value, &extent)
        if extent.size > place.room:
            raise ValueError(f"{extent.size} bytes, and the loan has room for {place.room}: give the size to loan()")
        extent.offset = place.extent.offset
        self.write(hold, &extent, value)
        extents.put(hold, place, &extent, self.size, self.is_wiped)
        return 0

    cdef int resize(self, Hold hold, char *data, object wanted) except -1:
        """Give the data another size, within the room of the loan; what both sizes cover stays."""
        cdef zs_place *place = place_of(hold, data)
        cdef zs_array_extent extent
        memset(&extent, 0, sizeof(extent))
        extent.offset = place.extent.offset
        memcpy(extent.dtype, place.extent.dtype, sizeof(extent.dtype))
        self.size_up(wanted, &extent)
        if extent.size > place.room:
            raise ValueError(f"{extent.size} bytes, and the loan has room for {place.room}: a size can only shrink")
        extents_of(hold).put(hold, place, &extent, self.size, self.is_wiped)
        return 0

    cdef object value_of(self, Hold hold, zs_array_extent *extent):
        """What the data of a checked extent is: a view of it, or a str or bytes."""
        raise NotImplementedError

    cdef object measure(self, object value, zs_array_extent *extent):
        """Fill in the extent, which is zeros, that `value` needs, except for the offset; the value in the form that
        `write` takes.
        """
        raise NotImplementedError

    cdef int size_up(self, object wanted, zs_array_extent *extent) except -1:
        """Fill in the extent of the size that a program asks for, except for the offset. It is zeros but for the offset
        and the dtype.
        """
        raise NotImplementedError

    cdef int write(self, Hold hold, zs_array_extent *extent, object value) except -1:
        """Write what was measured to where the extent says."""
        raise NotImplementedError

    cdef void describe(self, Hold hold, zs_array_extent *extent) noexcept:
        """Write what the data begins with, before the values."""


@cython.final
cdef class VariableBytesCodec(VariableCodec):
    """A str in UTF-8, or a bytes. `in_place`: the bytes are read as a memoryview, and can be written as one."""

    cdef bint text
    cdef bint in_place

    def __cinit__(self, bint text, bint in_place=False):
        self.text = self.is_wiped = text
        self.in_place = in_place

    cdef object value_of(self, Hold hold, zs_array_extent *extent):
        cdef char *start = hold.data + extent.offset
        if extent.size > LARGEST_SAMPLE:
            raise corrupt_extent(f"claims {extent.size} bytes", extent.size)
        if self.in_place:
            return bytes_in_place(hold, start, extent.size)
        if not self.text:
            return start[:<Py_ssize_t>extent.size]
        try:
            return PyUnicode_DecodeUTF8(start, <Py_ssize_t>extent.size, NULL)
        except UnicodeDecodeError as error:
            raise errors.CorruptSegmentError(f"a text that is not UTF-8: {error}", found=error.object[:64]) from None

    cdef object exported(self, Hold hold, zs_array_extent *extent):
        return exported_bytes(hold, hold.data + extent.offset, <size_t>extent.size)

    cdef object measure(self, object value, zs_array_extent *extent):
        cdef Py_ssize_t length = 0
        cdef Py_buffer content
        if self.text:
            if not isinstance(value, str):
                raise TypeError(f"a str, not {type(value).__name__}")
            PyUnicode_AsUTF8AndSize(value, &length)
            extent.size = <uint64_t>length
            return value
        if isinstance(value, str) or not PyObject_CheckBuffer(value):
            raise TypeError(f"bytes, not {type(value).__name__}")
        get_bytes(value, &content)
        extent.size = <uint64_t>content.len
        PyBuffer_Release(&content)
        return value

    cdef int size_up(self, object wanted, zs_array_extent *extent) except -1:
        extent.size = byte_count(wanted, 1)
        return 0

    cdef int write(self, Hold hold, zs_array_extent *extent, object value) except -1:
        cdef Py_ssize_t length = 0
        cdef const char *source
        cdef Py_buffer content
        if self.text:
            source = PyUnicode_AsUTF8AndSize(value, &length)
            return copy_bytes(hold, hold.data + extent.offset, source, <size_t>length)
        get_bytes(value, &content)
        try:
            if <uint64_t>content.len != extent.size:
                raise ValueError("the bytes changed their length while they were published")
            return copy_bytes(hold, hold.data + extent.offset, <const char *>content.buf, extent.size)
        finally:
            PyBuffer_Release(&content)


@cython.final
cdef class VariableListCodec(VariableCodec):
    """Items in a row."""

    cdef Codec item
    cdef object dtype       # of the items, as in ListCodec

    def __cinit__(self, Codec item not None, bint is_wiped, cnp.dtype dtype=None):
        if item.size == 0 or item.variable:
            raise ValueError("a list is of items with bytes of one size")
        self.item, self.dtype = item, dtype
        self.is_wiped = is_wiped

    cdef object value_of(self, Hold hold, zs_array_extent *extent):
        return self.items(extent).get(hold, hold.data + extent.offset)

    cdef object exported(self, Hold hold, zs_array_extent *extent):
        return self.items(extent).buffer(hold, hold.data + extent.offset)

    cdef ListCodec items(self, zs_array_extent *extent):
        """The items of a checked extent, as a list of a fixed length."""
        cdef uint64_t count = extent.size // self.item.size
        if extent.size % self.item.size != 0:
            raise corrupt_extent(f"has {extent.size} bytes, which are no items of {self.item.size}", extent.size)
        if count > 0xFFFFFFFF:
            raise corrupt_extent(f"claims {count} items", count)
        return ListCodec(self.item, 0, self.item.size, <uint32_t>count, False, <size_t>extent.size, self.dtype)

    cdef object measure(self, object value, zs_array_extent *extent):
        if isinstance(value, (str, bytes, dict)):
            raise TypeError(f"a list, not {type(value).__name__}")
        if not hasattr(value, "__len__"):
            value = list(value)
        extent.size = byte_count(len(value), self.item.size)
        return value

    cdef int size_up(self, object wanted, zs_array_extent *extent) except -1:
        extent.size = byte_count(wanted, self.item.size)
        return 0

    cdef int write(self, Hold hold, zs_array_extent *extent, object value) except -1:
        return self.items(extent).set(hold, hold.data + extent.offset, value)


cdef object bytes_in_place(Hold hold, char *data, uint64_t size):
    """A memoryview of a part of a sample. It keeps the sample; one of a loan can be written."""
    cdef View part = View.__new__(View)
    part.hold, part.data, part.size = hold, data, size
    return PyMemoryView_FromObject(part)


cdef uint64_t byte_count(object wanted, uint64_t each) except? 0:
    """`wanted` items of `each` bytes."""
    cdef long long number
    if zs_exact_int(wanted, &number) and number >> 32 == 0 and each >> 16 == 0:
        return <uint64_t>number * each      # what nearly all sizes are
    if type(wanted) is not int and isinstance(wanted, (bool, float, str, tuple, list)):
        raise TypeError(f"a size is a whole number, not {wanted!r}")
    return checked_product(<uint64_t>whole_size(wanted), each)


@cython.final
cdef class VariableArrayCodec(VariableCodec):
    """A numpy array of any shape. `letters`: each sample has a dtype of its own, whose kind is one of these; `dtype` is
    then that of an array without items.
    """

    cdef cnp.dtype dtype    # None: each sample has its own
    cdef cnp.dtype default
    cdef str letters
    cdef bint takes_all
    cdef char code[16]

    def __cinit__(self, cnp.dtype dtype not None, str letters=None):
        self.dtype, self.default, self.letters = dtype if letters is None else None, dtype, letters
        self.takes_all = letters == DTYPE_KINDS
        self.size = ARRAY_EXTENT_SIZE
        self.alignment = ARRAY_ALIGNMENT
        put_dtype(self.code, dtype)

    cdef cnp.dtype dtype_in(self, Hold hold, zs_array_extent *extent):
        """The dtype that an extent has, which may be any bytes."""
        cdef PyObject *plain
        if self.dtype is not None:
            if memcmp(extent.dtype, self.code, sizeof(extent.dtype)) != 0 and extent.dtype[0] != 0:
                raise corrupt_extent(f"has the dtype {extent.dtype[:16]!r}, not {self.dtype}", extent.dtype[:16])
            return self.dtype
        plain = zs_plain_dtype_of(extent.dtype)
        if plain != NULL:
            if self.takes_all:
                return <cnp.dtype>plain
            dtype = <object>plain
        elif extent.dtype[0] == DESCRIBED:
            dtype = described_dtype(extent.dtype[:16], hold.data + extent.offset, extent.size)
        elif extent.dtype[0] == 0:
            return self.default
        else:
            dtype = dtype_of(extent.dtype[:16])
        if not self.takes_all and dtype.kind not in self.letters:
            raise corrupt_extent(f"has the dtype {dtype}, whose kind is none of {self.letters}", extent.dtype[:16])
        return dtype

    cdef object value_of(self, Hold hold, zs_array_extent *extent):
        cdef cnp.dtype dtype = self.dtype_in(hold, extent)
        cdef uint64_t before = description_room(extent)     # bytes of the data that are no items
        cdef uint64_t size = extent.size - before
        cdef char *items = hold.data + extent.offset + before
        cdef cnp.npy_intp dims[MAX_NDIM]
        cdef cnp.npy_intp strides[MAX_NDIM]
        cdef uint64_t itemsize = <uint64_t>dtype.itemsize
        cdef uint64_t total = itemsize      # bytes of all items
        cdef uint64_t reach = itemsize      # the same with 1 in place of each 0, which numpy limits too
        cdef uint64_t last = itemsize       # bytes up to the end of the item that lies last
        cdef uint64_t step
        cdef bint in_order = True
        cdef uint32_t ndim = extent.ndim
        cdef uint32_t i
        if ndim == 0 and extent.size == 0:
            dims[0] = 0
            return make_array(hold, items, dtype, 1, dims)
        if ndim > MAX_NDIM:
            raise corrupt_extent(f"has {ndim} dimensions, and {MAX_NDIM} are the most", ndim)
        for i in range(ndim):
            total = checked_product(total, extent.shape[i])
            reach = checked_product(reach, max(extent.shape[i], 1))
        if reach > LARGEST_SAMPLE:
            raise corrupt_extent("has a shape that is larger than any sample", reach)
        if total > size or extent.size > LARGEST_SAMPLE:
            raise corrupt_extent(f"has {extent.size} bytes, and its shape is larger", extent.size)
        step = itemsize
        for i in reversed(range(ndim)):
            dims[i] = <cnp.npy_intp>extent.shape[i]
            strides[i] = extent.strides[i]
            if total != 0 and extent.shape[i] > 1:
                if extent.strides[i] < 0 or extent.strides[i] > <int64_t>LARGEST_SAMPLE:
                    raise corrupt_extent(f"has the stride {extent.strides[i]}", extent.strides[i])
                in_order = in_order and <uint64_t>extent.strides[i] == step
                last += checked_product(extent.shape[i] - 1, <uint64_t>extent.strides[i])
            step = checked_product(step, extent.shape[i])
        if total != 0 and last > size:
            raise corrupt_extent(f"has {extent.size} bytes, and its strides go further", extent.size)
        if total == 0 or in_order:
            return make_array(hold, items, dtype, <int>ndim, dims)
        return make_array(hold, items, dtype, <int>ndim, dims, strides)

    cdef object exported(self, Hold hold, zs_array_extent *extent):
        cdef cnp.ndarray array = self.value_of(hold, extent)
        if cnp.PyArray_IS_C_CONTIGUOUS(array):      # one of a lease may have another order, and one of a loan has not
            array = exported_array(hold, <char *>cnp.PyArray_DATA(array), array.dtype, (<object>array).shape)
        return memoryview(as_buffer(array))

    cdef object measure(self, object value, zs_array_extent *extent):
        cdef cnp.ndarray given = open_array(value, self.default, self.letters)
        cdef int i
        if self.dtype is not None:
            memcpy(extent.dtype, self.code, sizeof(extent.dtype))
        else:
            put_dtype(extent.dtype, given.descr)
        extent.ndim = <uint32_t>cnp.PyArray_NDIM(given)
        for i in range(cnp.PyArray_NDIM(given)):
            extent.shape[i] = <uint64_t>cnp.PyArray_DIM(given, i)
        self.close(extent, <uint64_t>cnp.PyArray_ITEMSIZE(given))
        return given

    cdef int size_up(self, object wanted, zs_array_extent *extent) except -1:
        """A shape, with the dtype beside it where the declaration leaves it open: `((480, 640), np.uint8)`."""
        cdef cnp.dtype dtype = self.dtype
        cdef tuple shape
        cdef Py_ssize_t i
        if dtype is None:
            if type(wanted) is tuple and tuple_size(wanted) == 2 and not is_whole((<tuple>wanted)[1]):
                wanted, kind = wanted
                dtype = checked_dtype(as_dtype(kind), self.letters)
                put_dtype(extent.dtype, dtype)
            elif extent.dtype[0] != 0:      # of a loan, whose extents are in private memory
                dtype = written_dtype(extent.dtype[:16])
            else:
                raise TypeError("a shape and a dtype, as in ((480, 640), np.uint8): the declaration leaves it open")
        else:
            memcpy(extent.dtype, self.code, sizeof(extent.dtype))
        shape = tuple(wanted) if isinstance(wanted, (tuple, list)) else (wanted,)
        if tuple_size(shape) > MAX_NDIM:
            raise ValueError(f"{len(shape)} dimensions, and {MAX_NDIM} are the most")
        for i in range(tuple_size(shape)):
            extent.shape[i] = byte_count(<object>tuple_item(shape, i), 1)
        extent.ndim = <uint32_t>tuple_size(shape)
        self.close(extent, <uint64_t>dtype.itemsize)
        return 0

    cdef void close(self, zs_array_extent *extent, uint64_t itemsize) noexcept:
        """Size and strides of the shape, in C order. Of a shape that is refused because of `reach`, the size is too
        large for any sample.
        """
        cdef uint32_t i
        cdef uint64_t step = itemsize
        cdef uint64_t reach = itemsize      # as in `value_of`
        for i in reversed(range(extent.ndim)):
            extent.strides[i] = <int64_t>step
            step = checked_product(step, extent.shape[i])
            reach = checked_product(reach, max(extent.shape[i], 1))
        extent.size = reach if reach > LARGEST_SAMPLE else checked_sum(description_room(extent), step)

    cdef void describe(self, Hold hold, zs_array_extent *extent) noexcept:
        cdef bytes text
        if extent.dtype[0] == DESCRIBED:
            text = DESCRIPTIONS[extent.dtype[:16]]
            memcpy(hold.data + extent.offset, <const char *>text, len(text))

    cdef int write(self, Hold hold, zs_array_extent *extent, object value) except -1:
        cdef cnp.ndarray given = value
        cdef uint64_t before = description_room(extent)
        if not hold.is_writable():
            raise read_only(hold)
        if <uint64_t>cnp.PyArray_NBYTES(given) != extent.size - before:
            raise ValueError("the array changed its size while it was published")
        self.describe(hold, extent)
        return copy_array(hold, hold.data + extent.offset + before, given)


cdef bint is_whole(object value):
    """Whether it is a whole number, and not the dtype in `(shape, dtype)`."""
    return not isinstance(value, (type, cnp.dtype)) and isinstance(value, (int, NumpyInteger))
