# Part of binding.pyx: the dtypes of variable arrays: which of them shared memory can hold, and how an extent says which
# one its array has.

# The kinds of dtypes whose items are bytes that mean the same in each process.
cdef str DTYPE_KINDS = "biufcSUVMm"

cdef extern from *:
    """
    static struct { char code[16]; PyObject *dtype; } zs_plain_dtypes[16];

    static void zs_add_plain_dtype(int i, const char *code, size_t size, PyObject *dtype)
    {
        memcpy(zs_plain_dtypes[i].code, code, size);
        zs_plain_dtypes[i].dtype = Py_NewRef(dtype); /* kept for ever */
    }

    /* A borrowed reference, or NULL. */
    static PyObject *zs_plain_dtype_of(const char *code)
    {
        for (int i = 0; zs_plain_dtypes[i].dtype != NULL; i++)
            if (memcmp(zs_plain_dtypes[i].code, code, 16) == 0)
                return zs_plain_dtypes[i].dtype;
        return NULL;
    }

    static const char *zs_plain_code_of(PyObject *dtype)
    {
        for (int i = 0; zs_plain_dtypes[i].dtype != NULL; i++)
            if (zs_plain_dtypes[i].dtype == dtype)
                return zs_plain_dtypes[i].code;
        return NULL;
    }
    """
    void zs_add_plain_dtype(int i, const char *code, size_t size, object dtype) noexcept
    PyObject *zs_plain_dtype_of(const char *code) noexcept
    const char *zs_plain_code_of(object dtype) noexcept

# The dtypes of numbers, which numpy has one object of each of: they are found in a table of C, which does not change.
# What else may be asked for by a type is in TYPES.
cdef dict TYPES = {}


cdef int add_plain_dtypes() except -1:
    cdef int i = 0
    cdef bytes code
    for code in (b"|u1", b"<f4", b"<f8", b"<u2", b"|b1", b"|i1", b"<i2", b"<i4", b"<u4", b"<i8", b"<u8", b"<f2", b"<c8",
                 b"<c16"):
        dtype = numpy_dtype(code.decode())
        zs_add_plain_dtype(i, code, len(code), dtype)
        TYPES[dtype.type] = dtype
        i += 1
    return 0


add_plain_dtypes()


cdef cnp.dtype as_dtype(object kind):
    """What numpy takes for a dtype."""
    if isinstance(kind, cnp.dtype):
        return kind
    found = TYPES.get(kind) if isinstance(kind, type) else None
    return cnp.dtype(kind) if found is None else found


# What stands in the extents of other dtypes that were checked: to spell one takes numpy longer than all else of a loan.
cdef dict CODES = {}
cdef enum:
    CODES_LIMIT = 1024      # of those that are not structured


cdef object checked_dtype(object dtype, str letters=DTYPE_KINDS):
    """A dtype that shared memory can hold, of one of these kinds; TypeError for any other."""
    if letters == DTYPE_KINDS and (zs_plain_code_of(dtype) != NULL or dtype in CODES):
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
    cdef const char *plain = zs_plain_code_of(dtype)
    cdef bytes text
    if plain != NULL:
        memcpy(code, plain, 16)
        return 0
    text = CODES.get(dtype)
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


cdef bytes description_of(object dtype):
    """What stands in the extents of a structured dtype: `{`, the bytes of its description and their CRC-32C, as four
    and eight hexadecimal digits. TypeError for one that has Python objects.
    """
    code = CODES.get(dtype)
    if code is None:
        if dtype.hasobject:
            raise TypeError("shared memory cannot hold Python objects")
        structure = structure_of(dtype)
        text = json.dumps(structure, separators=(",", ":")).encode()
        if len(text) > DESCRIPTION_LIMIT:
            raise TypeError(f"the dtype has a description of {len(text)} bytes, and {DESCRIPTION_LIMIT} are the most")
        try:
            structured_dtype(structure, 0)
        except (TypeError, ValueError, LookupError, errors.CorruptSegmentError):
            raise TypeError(f"{dtype}: subscribers cannot read a structure without fields or bytes, or nested deeper "
                            "than 16") from None
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
            and len(head) <= 12)


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
