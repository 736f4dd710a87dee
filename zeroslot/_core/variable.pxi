# Part of binding.pyx: fields of variable size: what their data means, and how a loan of them is laid out.
#
# In the fixed part of a sample stands an extent, which says where behind that part the field's data is. Extents are
# shared memory: each access loads the extent once, checks the copy, and uses the copy.

from sys import intern

from numpy import integer as NumpyInteger

cdef enum:
    MAX_NDIM = 8
    DATA_ALIGNMENT = 8      # of text, bytes and lists
    ARRAY_ALIGNMENT = 64
    EXTENT_SIZE = sizeof(zs_extent)
    ARRAY_EXTENT_SIZE = sizeof(zs_array_extent)

# No sample is larger, whatever its slots are; sums of so many bytes do not overflow.
cdef uint64_t LARGEST_SAMPLE = <uint64_t>1 << 48


# The kinds of dtypes whose items are bytes that mean the same in each process.
cdef str DTYPE_KINDS = "biufcSUVMm"

# What stands in the extents of dtypes that were checked: to spell one takes numpy longer than all else of a loan.
cdef dict CODES = {}
cdef enum:
    CODES_LIMIT = 1024      # of those that are not structured


cdef inline uint64_t checked_product(uint64_t one, uint64_t other) noexcept nogil:
    """The product; LARGEST_SAMPLE + 1 where it is larger than that."""
    if other != 0 and one > LARGEST_SAMPLE // other:
        return LARGEST_SAMPLE + 1
    return one * other


cdef object corrupt_extent(str problem, object found):
    return errors.CorruptSegmentError(f"the extent of a variable field {problem}", found=found)


cdef class VariableCodec(Codec):
    """Reads and writes a field through its extent. What the data means is the subclass's part."""

    cdef uint64_t alignment
    cdef bint is_wiped      # a loan zeroes the data however large it is, since not all bytes are values

    def __cinit__(self, *arguments, **named):
        self.variable = True
        self.size = EXTENT_SIZE
        self.alignment = DATA_ALIGNMENT

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
        cdef Rooms rooms = rooms_of(hold)
        cdef zs_array_extent extent
        memset(&extent, 0, sizeof(extent))
        value = rooms.prepared_value(value)
        value = self.measure(value, &extent)
        if extent.size > place.room:
            raise ValueError(f"{extent.size} bytes, and the loan has room for {place.room}: give the size to loan()")
        extent.offset = place.extent.offset
        self.write(hold, &extent, value)
        rooms.put(hold, place, &extent, self.size)
        return 0

    cdef int resize(self, Hold hold, char *data, object wanted) except -1:
        """Give the data another size, within the room of the loan; what both sizes cover stays."""
        cdef zs_place *place = place_of(hold, data)
        cdef zs_array_extent extent
        memcpy(&extent, &place.extent, sizeof(extent))
        self.size_up(wanted, &extent)
        if extent.size > place.room:
            raise ValueError(f"{extent.size} bytes, and the loan has room for {place.room}: a size can only shrink")
        rooms_of(hold).put(hold, place, &extent, self.size)
        return 0

    cdef object value_of(self, Hold hold, zs_array_extent *extent):
        """What the data of a checked extent is: a view of it, or a str or bytes."""
        raise NotImplementedError

    cdef object measure(self, object value, zs_array_extent *extent):
        """Fill in the extent that `value` needs, except for the offset; the value in the form that `write` takes."""
        raise NotImplementedError

    cdef int size_up(self, object wanted, zs_array_extent *extent) except -1:
        """Fill in the extent of the size that a program asks for, except for the offset."""
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
        PyObject_GetBuffer(value, &content, PyBUF_SIMPLE)
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
        PyObject_GetBuffer(value, &content, PyBUF_SIMPLE)
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
    if type(wanted) is not int and isinstance(wanted, (bool, float, str, tuple, list)):
        raise TypeError(f"a size is a whole number, not {wanted!r}")
    return checked_product(<uint64_t>whole_size(wanted), each)


@cython.final
cdef class VariableArrayCodec(VariableCodec):
    """A numpy array of any shape. `letters`: each sample has a dtype of its own, whose kind is one of these; `dtype` is
    then that of an array without items.
    """

    cdef object dtype   # None: each sample has its own
    cdef object default
    cdef str letters
    cdef bint takes_all
    cdef char code[16]

    def __cinit__(self, cnp.dtype dtype not None, str letters=None):
        self.dtype, self.default, self.letters = dtype if letters is None else None, dtype, letters
        self.takes_all = letters == DTYPE_KINDS
        self.size = ARRAY_EXTENT_SIZE
        self.alignment = ARRAY_ALIGNMENT
        put_dtype(self.code, dtype)

    cdef object dtype_in(self, Hold hold, zs_array_extent *extent):
        """The dtype that an extent has, which may be any bytes."""
        if self.dtype is not None:
            if memcmp(extent.dtype, self.code, sizeof(extent.dtype)) != 0 and extent.dtype[0] != 0:
                raise corrupt_extent(f"has the dtype {extent.dtype[:16]!r}, not {self.dtype}", extent.dtype[:16])
            return self.dtype
        if extent.dtype[0] == DESCRIBED:
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
        if total > size or extent.size > LARGEST_SAMPLE:
            raise corrupt_extent(f"has {extent.size} bytes, and its shape is larger", extent.size)
        step = itemsize
        for i in reversed(range(ndim)):
            if extent.shape[i] > LARGEST_SAMPLE:
                raise corrupt_extent(f"has the dimension {extent.shape[i]}", extent.shape[i])
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
            put_dtype(extent.dtype, given.dtype)
        extent.ndim = <uint32_t>cnp.PyArray_NDIM(given)
        for i in range(cnp.PyArray_NDIM(given)):
            extent.shape[i] = <uint64_t>cnp.PyArray_DIM(given, i)
        self.close(extent, <uint64_t>given.dtype.itemsize)
        return given

    cdef int size_up(self, object wanted, zs_array_extent *extent) except -1:
        """A shape, with the dtype beside it where the declaration leaves it open: `((480, 640), np.uint8)`."""
        cdef cnp.dtype dtype = self.dtype
        cdef uint32_t ndim = 0
        if dtype is None:
            if type(wanted) is tuple and len(wanted) == 2 and not is_whole(wanted[1]):
                wanted, kind = wanted
                dtype = checked_dtype(kind if isinstance(kind, cnp.dtype) else cnp.dtype(kind), self.letters)
                put_dtype(extent.dtype, dtype)
            elif extent.dtype[0] != 0:      # of a loan, whose extents are in private memory
                dtype = written_dtype(extent.dtype[:16])
            else:
                raise TypeError("a shape and a dtype, as in ((480, 640), np.uint8): the declaration leaves it open")
        else:
            memcpy(extent.dtype, self.code, sizeof(extent.dtype))
        shape = tuple(wanted) if isinstance(wanted, (tuple, list)) else (wanted,)
        if len(shape) > MAX_NDIM:
            raise ValueError(f"{len(shape)} dimensions, and {MAX_NDIM} are the most")
        for length in shape:
            extent.shape[ndim] = byte_count(length, 1)
            ndim += 1
        extent.ndim = ndim
        self.close(extent, <uint64_t>dtype.itemsize)
        return 0

    cdef void close(self, zs_array_extent *extent, uint64_t itemsize) noexcept:
        """Size and strides of the shape, in C order."""
        cdef uint32_t i
        cdef uint64_t step = itemsize
        for i in range(extent.ndim, <uint32_t>MAX_NDIM):
            extent.shape[i] = 0
            extent.strides[i] = 0
        for i in reversed(range(extent.ndim)):
            extent.strides[i] = <int64_t>min(step, LARGEST_SAMPLE)
            step = checked_product(step, extent.shape[i])
        extent.size = checked_sum(description_room(extent), step)

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
    return isinstance(value, (int, NumpyInteger))


cdef object checked_dtype(object dtype, str letters=DTYPE_KINDS):
    """A dtype that shared memory can hold, of one of these kinds; TypeError for any other."""
    if letters == DTYPE_KINDS and dtype in CODES:
        return dtype
    if dtype.hasobject or dtype.kind == "O":
        raise TypeError("shared memory cannot hold Python objects")
    if dtype.kind in DTYPE_KINDS and dtype.kind not in letters:
        raise TypeError(f"an array of {dtype}, whose kind {dtype.kind} is none of {letters}, which the field takes")
    if dtype.fields is not None:
        description_of(dtype)
        return dtype
    if dtype.subdtype is not None or dtype.kind not in DTYPE_KINDS:
        raise TypeError(f"an array of {dtype}; a field has numbers, bools, times, and text or bytes of one length")
    if dtype.itemsize == 0:
        raise TypeError(f"{dtype} does not say how large its items are")
    if len(dtype.str) > 16:
        raise TypeError(f"the dtype {dtype} is spelled with more than 16 characters")
    return dtype


cdef int put_dtype(char *code, object dtype) except -1:
    """Write the dtype as numpy spells it, such as `<f4`, or of a structure what stands for its description."""
    cdef bytes text = CODES.get(dtype)
    if text is None:
        text = dtype.str.encode("ascii") if dtype.fields is None else description_of(dtype)
        if len(text) > 16:
            raise TypeError(f"the dtype {dtype} is spelled with more than 16 characters")
        if len(CODES) < CODES_LIMIT:
            CODES[dtype] = text
    memset(code, 0, 16)
    memcpy(code, <const char *>text, len(text))
    return 0


cdef dict DTYPES = {}   # what was read lately: the 16 bytes -> dtype


cdef object dtype_of(bytes code):
    """The dtype that 16 bytes of shared memory spell; u8 for zeros. CorruptSegmentError for anything else."""
    dtype = DTYPES.get(code)
    if dtype is None:
        text = code.rstrip(b"\0")
        if not is_dtype_text(text):
            raise corrupt_extent(f"has the dtype {code!r}", code)
        try:
            dtype = checked_dtype(cnp.dtype(text.decode("ascii") or "u1"))
        except (TypeError, ValueError):
            raise corrupt_extent(f"has the dtype {code!r}", code) from None
        if len(DTYPES) >= 64:
            DTYPES.clear()
        DTYPES[code] = dtype
    return dtype


# --- structured dtypes: their text is longer than an extent has room for, and lies before the items ---

cdef enum:
    DESCRIBED = 123         # `{`
    DESCRIPTION_LIMIT = 0xffff

cdef dict DESCRIPTIONS = {}     # what stands in an extent -> the description


cdef inline uint64_t checked_sum(uint64_t one, uint64_t other) noexcept nogil:
    return min(one + other, LARGEST_SAMPLE + 1)     # neither is larger than that


cdef bytes description_of(object dtype):
    """What stands in the extents of a structured dtype: `{`, the bytes of its description and their CRC-32C, as four
    and eight hexadecimal digits. TypeError for one that has Python objects.
    """
    code = CODES.get(dtype)
    if code is None:
        if dtype.hasobject:
            raise TypeError("shared memory cannot hold Python objects")
        text = json.dumps(structure_of(dtype), separators=(",", ":")).encode()
        if len(text) > DESCRIPTION_LIMIT:
            raise TypeError(f"the dtype has a description of {len(text)} bytes, and {DESCRIPTION_LIMIT} are the most")
        code = b"{%04x%08x" % (len(text), zs_crc32c(<const char *><bytes>text, len(text)))
        DESCRIPTIONS[code.ljust(16, b"\0")] = text
        CODES[dtype] = code
    return code


cdef dict structure_of(object dtype):
    """A structured dtype as JSON has it."""
    cdef list fields = []
    for name in dtype.names:
        field, offset = dtype.fields[name][:2]
        base, shape = field.subdtype or (field, ())
        form = structure_of(base) if base.fields is not None else checked_dtype(base).str
        fields.append([name, form, offset, list(shape)] if shape else [name, form, offset])
    return {"itemsize": dtype.itemsize, "fields": fields}


cdef uint64_t description_room(zs_array_extent *extent) noexcept:
    """Bytes that a description takes before the items, a multiple of ARRAY_ALIGNMENT; what is none takes 0."""
    cdef uint64_t length = 0
    cdef int i, digit
    if extent.dtype[0] != DESCRIBED:
        return 0
    for i in range(1, 5):
        digit = extent.dtype[i]
        digit = digit - 48 if 48 <= digit <= 57 else digit - 87 if 97 <= digit <= 102 else 0
        length = 16 * length + <uint64_t>digit
    return (length + ARRAY_ALIGNMENT - 1) // ARRAY_ALIGNMENT * ARRAY_ALIGNMENT


cdef object described_dtype(bytes code, const char *data, uint64_t size):
    """The dtype whose description is at `data`, of which `size` bytes may be read. CorruptSegmentError for anything
    else.
    """
    dtype = DTYPES.get(code)
    digits = code[1:13]
    if code[13:] != b"\0\0\0" or digits.strip(b"0123456789abcdef"):
        raise corrupt_extent(f"has the dtype {code!r}", code)
    length = int(digits[:4], 16)
    if (length + ARRAY_ALIGNMENT - 1) // ARRAY_ALIGNMENT * ARRAY_ALIGNMENT > size:
        raise corrupt_extent(f"has {size} bytes, and its dtype a description of {length}", size)
    if dtype is None:
        text = data[:<Py_ssize_t>length]
        if zs_crc32c(<const char *><bytes>text, length) != int(digits[4:], 16):
            raise corrupt_extent("has a dtype whose description was changed", code)
        try:
            dtype = structured_dtype(json.loads(text), 0)
        except (TypeError, ValueError, LookupError, RecursionError, errors.CorruptSegmentError):
            raise corrupt_extent(f"has a dtype with the description {text[:80]!r}", code) from None
        if len(DTYPES) >= 64:
            DTYPES.clear()
        DTYPES[code] = dtype
    return dtype


cdef object structured_dtype(object structure, int depth):
    """The dtype that `structure_of` described. Raises one of many errors for anything else."""
    cdef list names = []
    cdef list formats = []
    cdef list offsets = []
    if type(structure) is not dict or depth > 16:
        raise ValueError("no structure")
    for name, form, offset, *shape in structure["fields"]:
        if type(form) is str:
            base = dtype_of(form.encode("ascii").ljust(16, b"\0"))
        else:
            base = structured_dtype(form, depth + 1)
        names.append(name)
        formats.append((base, tuple([whole_size(length) for length in shape[0]])) if shape else base)
        offsets.append(whole_size(offset))
    itemsize = whole_size(structure["itemsize"])
    if not names or not all([type(name) is str for name in names]) or itemsize == 0:
        raise ValueError("no structure")
    dtype = cnp.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": itemsize})
    if dtype.hasobject or dtype.itemsize != itemsize:
        raise ValueError("no structure")
    return dtype


cdef object written_dtype(bytes code):
    """The dtype that `put_dtype` wrote."""
    return structured_dtype(json.loads(DESCRIPTIONS[code]), 0) if code[0] == DESCRIBED else dtype_of(code)


cdef bint is_dtype_text(bytes text):
    """Whether it looks like `<f4` or `<M8[ns]`. numpy also reads other texts, which mean records and objects."""
    if text == b"":
        return True
    head, bracket, unit = text.partition(b"[")
    if bracket and not (unit.endswith(b"]") and unit[: len(unit) - 1].isalnum() and head[1:2] in b"Mm"):
        return False
    return (len(head) >= 3 and head[:1] in b"<>|" and head[1:2] in DTYPE_KINDS.encode() and head[2:].isdigit()
            and len(head) <= 11)


cdef cnp.ndarray open_array(object value, cnp.dtype dtype, str letters):
    """`value` as an array of this dtype, or with `letters` of its own, whose kind is one of these. What is no array
    gets `dtype` if it can. TypeError for other dtypes, and for Python objects.
    """
    cdef cnp.ndarray given
    if letters is None:
        given = array_of(value, dtype, None)
    else:
        given = cnp.PyArray_FROM_O(value)
        if letters != DTYPE_KINDS and given.dtype.kind not in letters and not isinstance(value, cnp.ndarray):
            if (<object>dtype).kind in "mM":
                given = asarray(value, dtype)   # with the unit that the items have
            elif (<object>dtype).kind in "fc":
                given = converted(given, dtype)
        checked_dtype(given.dtype, letters)
    if cnp.PyArray_NDIM(given) > MAX_NDIM:
        raise ValueError(f"{cnp.PyArray_NDIM(given)} dimensions, and {MAX_NDIM} are the most")
    return given


@cython.final
cdef class OpenArray:
    """Makes arrays of any shape, and of one dtype or of those of a family: what pydantic calls for an array without a
    bound.
    """

    cdef cnp.dtype dtype
    cdef str letters

    def __cinit__(self, cnp.dtype dtype not None, str letters=None):
        self.dtype, self.letters = dtype, letters

    def __call__(self, value):
        try:
            return open_array(value, self.dtype, self.letters)
        except TypeError as error:
            raise ValueError(str(error)) from None

    def __reduce__(self):
        return OpenArray, (self.dtype, self.letters)


# --- where the data of a loan lies ---


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

    cdef Rooms rooms(self, object sizes, object values, bint keep):
        """Measure `sizes`, and where they give none, `values`: two things with the names of fields.

        `keep`: the values are written soon, so forms of them that had to be made are kept.
        """
        cdef Rooms rooms = Rooms.__new__(Rooms)
        cdef VariableField field
        cdef zs_place *place
        cdef Py_ssize_t i = 0
        if sizes is not None and len(sizes) > 0:
            check_names(sizes, self.tree, "")
        rooms.begin(len(self.fields))
        for field in self.fields:
            place = &rooms.places[i]
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
                        if rooms.prepared is None:
                            rooms.prepared = {}
                        rooms.prepared[id(value)] = (value, ready)
                else:
                    continue
            except (ValueError, TypeError) as error:
                if isinstance(error, errors.ZeroslotError):
                    raise
                kind = ValueError if isinstance(error, ValueError) else TypeError
                raise kind(f"{': '.join(field.path)}: {error}") from None
            place.room = place.extent.size
        return rooms

    cdef uint64_t lay_out(self, Rooms rooms, uint64_t head) noexcept:
        """Give each field its offset, in order; the bytes of the whole, or more than LARGEST_SAMPLE."""
        cdef VariableField field
        cdef Py_ssize_t i
        cdef uint64_t end = head
        cdef zs_place *place
        for i in range(rooms.count):
            field = <VariableField>self.fields[i]
            place = &rooms.places[i]
            if place.room > LARGEST_SAMPLE:
                return place.room
            if place.room != 0:
                place.extent.offset = (end + field.codec.alignment - 1) // field.codec.alignment * field.codec.alignment
                end = place.extent.offset + place.room
        return end

    cdef void place(self, Hold hold, bint wipe) noexcept:
        """Write the extents into a new loan, and zeros between the data; `wipe`: also where data is small."""
        cdef VariableField field
        cdef Rooms rooms = rooms_of(hold)
        cdef Py_ssize_t i
        cdef uint64_t end = hold.head
        cdef zs_place *place
        for i in range(rooms.count):
            field = <VariableField>self.fields[i]
            place = &rooms.places[i]
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
