# Part of binding.pyx: numbers as arrays of one dtype and shape, without change of value.
#
# No bytecode runs here for plain arrays and lists, for the reason that validators.pxi gives.

from numpy import absolute, array_equal, asarray, greater, greater_equal, isfinite, logical_and, logical_or, maximum
from numpy import minimum, zeros
from numpy import void as NumpyRecord


@cython.final
@cython.no_gc
cdef class ArrayOf:
    """Makes arrays of one dtype and shape; see `array_of`."""

    cdef cnp.dtype dtype
    cdef tuple shape

    def __cinit__(self, cnp.dtype dtype not None, tuple shape not None):
        self.dtype, self.shape = dtype, shape

    def __call__(self, value):
        try:
            return array_of(value, self.dtype, self.shape)
        except TypeError as error:
            raise ValueError(str(error)) from None  # pydantic collects no TypeErrors

    def __reduce__(self):
        return ArrayOf, (self.dtype, self.shape)


cdef str kind_of(object dtype):
    """What the kinds of fields call an element of this dtype."""
    if dtype.kind in "mMV":
        return str(dtype)
    return "bool" if dtype.kind == "b" else f"{dtype.kind}{8 * dtype.itemsize}"


cdef cnp.ndarray array_of(object value, cnp.dtype wanted, tuple shape):
    """`value` as an array of exactly this dtype and shape (None: of any); the same object when it is one already.

    ValueError when elements would change: floats or bools to integers, integers out of range, finite floats that become
    infinite, times that fall between two units. Rounding to fewer digits is not a change.
    """
    cdef cnp.ndarray given = elements_of(value, wanted, -1 if shape is None else len(shape))
    if shape is not None and (<object>given).shape != shape:
        raise ValueError(f"shape {(<object>given).shape} is not {shape}")
    return given


cdef cnp.ndarray elements_of(object value, cnp.dtype wanted, Py_ssize_t ndim):
    """`array_of` of any shape. With `ndim` dims, or -1, lists may be nested as JSON has them."""
    cdef cnp.ndarray given
    if (<object>wanted).names is not None and not isinstance(value, (cnp.ndarray, NumpyRecord)) and ndim >= 0:
        return records_from_python(value, wanted, ndim)
    if isinstance(value, cnp.ndarray):
        given = value
    else:
        given = cnp.PyArray_FROM_O(value)
        if given.dtype != wanted:
            given = from_python(given, value, wanted, ndim)
    return as_records(given, wanted)


@cython.final
@cython.no_gc
cdef class BoundedArrayOf:
    """Makes arrays of one dtype, and of dims that may have bounds; see `bounded_array_of`."""

    cdef cnp.dtype dtype
    cdef tuple dims

    def __cinit__(self, cnp.dtype dtype not None, tuple dims not None):
        self.dtype, self.dims = dtype, dims

    def __call__(self, value):
        try:
            return bounded_array_of(value, self.dtype, self.dims)
        except TypeError as error:
            raise ValueError(str(error)) from None  # as above

    def __reduce__(self):
        return BoundedArrayOf, (self.dtype, self.dims)


cdef cnp.ndarray bounded_array_of(object value, cnp.dtype wanted, tuple dims):
    """As `array_of`. A negative dim is a bound: the array may be shorter.

    An empty list says nothing of the dims behind it, as in JSON: they are the declared ones.
    """
    cdef cnp.ndarray given = elements_of(value, wanted, len(dims))
    cdef tuple shape = (<object>given).shape
    if isinstance(value, list) and 0 in shape and len(shape) < len(dims):
        shape += tuple([max(dim, 0) for dim in dims[len(shape):]])
        given = (<object>given).reshape(shape)
    check_within(shape, dims)
    return given


cdef int check_within(tuple shape, tuple dims) except -1:
    if len(shape) == len(dims) and all([length == dim or length <= -dim for length, dim in zip(shape, dims)]):
        return 0
    allowed = ", ".join([str(dim) if dim > 0 else f"UpTo({-dim})" for dim in dims])
    raise ValueError(f"shape {shape} is not within ({allowed})")


cdef object as_buffer(object array):
    """An array that the buffer protocol can describe: times and durations as the integers that they are, in records
    too.
    """
    dtype = without_times(array.dtype)
    return array if dtype is array.dtype else array.view(dtype)


cdef object without_times(object dtype):
    """The dtype with i8 for times and durations; the same one where it has none."""
    if dtype.kind in "mM":
        return numpy_dtype("i8").newbyteorder(dtype.byteorder)
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return dtype if without_times(base) is base else numpy_dtype((without_times(base), shape))
    if dtype.names is None:
        return dtype
    fields = [dtype.fields[name][:2] for name in dtype.names]
    formats = [without_times(field) for field, _ in fields]
    if all([field is form for (field, _), form in zip(fields, formats)]):
        return dtype
    offsets = [offset for _, offset in fields]
    return numpy_dtype({"names": dtype.names, "formats": formats, "offsets": offsets, "itemsize": dtype.itemsize})


cdef cnp.ndarray from_python(object given, object value, object wanted, Py_ssize_t ndim):
    """Undo what numpy guesses about lists: nothing as floats, big integers as floats, the strings that stand for NaN in
    JSON, and the pairs that stand there for complex numbers.
    """
    kind = given.dtype.kind
    if given.size == 0:
        return given.astype(wanted)
    if wanted.kind == "u" and kind in "fO":
        numbers = cnp.PyArray_FROM_OT(value, cnp.NPY_OBJECT)
        for number in numbers.ravel().tolist():
            if type(number) is not int or number < 0 or number > 0xFFFFFFFFFFFFFFFF:
                return given
        return numbers.astype("u8")
    if wanted.kind in "fc" and kind == "U":
        given = given.astype("f8")
    if wanted.kind == "c" and given.dtype.kind in "fiu" and given.ndim == ndim + 1 and given.shape[ndim] == 2:
        return given.astype("f8").view("c16").reshape(given.shape[:ndim])
    if wanted.kind in "mM" and kind in "OU":
        try:
            return asarray(value, wanted)
        except OverflowError as error:
            raise ValueError(str(error)) from None
    if kind == "O" and given.ndim == 0 and not isinstance(value, int):
        raise ValueError(f"an array, not {type(value).__name__}")
    return given


cdef cnp.ndarray records_from_python(object value, object wanted, Py_ssize_t ndim):
    """Nested lists of mappings, of tuples, of records, or of samples, as an array of records."""
    cdef list items = [value], shape = [], columns
    cdef Py_ssize_t i
    for i in range(ndim):
        for item in items:
            if isinstance(item, (str, bytes)) or not hasattr(item, "__len__"):
                raise no_records(wanted.names, item)
        lengths = {len(item) for item in items}
        if len(lengths) > 1:
            raise ValueError("the lists are not of one length")
        shape += lengths or {0}
        items = [inner for item in items for inner in item]
    items = [as_mapping(item, wanted.names) for item in items]
    made = zeros(len(items), wanted)
    for i, name in enumerate(wanted.names):
        for item in items:
            if len(item) != len(wanted.names) or (isinstance(item, dict) and name not in item):
                raise ValueError(f"a record has the fields {', '.join(wanted.names)}")
        columns = [item[name if isinstance(item, (dict, NumpyRecord)) else i] for item in items]
        part = made[name]
        try:
            part[...] = elements_of(columns, part.dtype, part.ndim).reshape(part.shape)
        except (ValueError, TypeError) as error:
            raise (ValueError if isinstance(error, ValueError) else TypeError)(f"{name}: {error}") from None
    return made.reshape(shape)


cdef object as_mapping(object item, tuple names):
    """One record in the forms that Python has; of a model or a view its fields."""
    if isinstance(item, (dict, tuple, list, NumpyRecord)):
        return item
    if isinstance(item, Mapping):
        return dict(item)
    if hasattr(type(item), "__zs_sample__") or hasattr(type(item), "__pydantic_fields__"):
        return {name: getattr(item, name) for name in names if hasattr(item, name)}
    raise no_records(names, item)


cdef object no_records(tuple names, object value):
    return TypeError(f"records with the fields {', '.join(names)}, not {type(value).__name__}")


cdef dict CONVERTIBLE = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "c": "cfiu", "M": "Miu", "m": "miu"}
# From here on, rounding to the nearest float of so many bytes gives infinity.
cdef dict INFINITE_FROM = {2: 65520.0, 4: 3.4028235677973366e38}


cdef cnp.ndarray converted(object numbers, object wanted):
    if numbers.dtype.kind not in CONVERTIBLE.get(wanted.kind, ""):
        raise ValueError(f"an array of {numbers.dtype} cannot become {kind_of(wanted)} without loss")
    if wanted.kind in "iu" and numbers.size:
        bits = 8 * wanted.itemsize
        low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if wanted.kind == "i" else (0, (1 << bits) - 1)
        smallest, largest = int(minimum.reduce(numbers, None)), int(maximum.reduce(numbers, None))
        if smallest < low or largest > high:
            raise ValueError(f"values from {smallest} to {largest} do not fit into {kind_of(wanted)}, {low} to {high}")
    if wanted.kind == "c":
        if numbers.dtype.kind != "c":
            numbers = numbers.astype("c16")
        for part in (numbers.real, numbers.imag):
            converted(part, numpy_dtype(f"f{wanted.itemsize // 2}"))
        return numbers.astype(wanted)
    if wanted.kind in "mM":
        if numbers.dtype.kind in "iu":  # a count of units, as JSON has it
            return converted(numbers, numpy_dtype("i8")).view(wanted)
        made = numbers.astype(wanted)
        if not array_equal(made.astype(numbers.dtype).view("i8"), numbers.view("i8")):
            raise ValueError(f"an array of {numbers.dtype} cannot become {wanted} without loss")
        return made
    if wanted.kind == "f":
        if numbers.dtype.kind != "f":
            numbers = numbers.astype("f8")
        # Looked for beforehand, because numpy warns of an overflow, and a warning runs Python code.
        if wanted.itemsize in INFINITE_FROM:
            beyond = greater_equal(absolute(numbers), INFINITE_FROM[wanted.itemsize])
        else:
            beyond = greater(absolute(numbers), 1.7976931348623157e308)
        if logical_or.reduce(logical_and(beyond, isfinite(numbers)), None):
            raise ValueError(f"a value is beyond the range of {kind_of(wanted)}")
    return numbers.astype(wanted)


cdef cnp.ndarray as_records(cnp.ndarray given, object wanted):
    """`given` with the dtype `wanted`: fields by their names, numbers without change of value. The same object when it
    has that dtype already; otherwise its padding is zeros.

    ValueError and TypeError name the field.
    """
    if <object>given.descr is wanted or given.dtype == wanted:  # to compare records takes a microsecond
        return given
    if wanted.names is None:
        return converted(given, wanted)
    if given.dtype.names is None:
        raise TypeError(f"records with the fields {', '.join(wanted.names)}, not an array of {given.dtype}")
    if set(given.dtype.names) != set(wanted.names):
        raise ValueError(f"records with the fields {', '.join(given.dtype.names)}, not {', '.join(wanted.names)}")
    made = zeros((<object>given).shape, wanted)
    for name in wanted.names:
        part, source = made[name], given[name]
        try:
            filled = as_records(source, part.dtype)
            if (<object>filled).shape != part.shape:
                raise ValueError(f"shape {(<object>filled).shape} is not {part.shape}")
        except (ValueError, TypeError) as error:
            raise (ValueError if isinstance(error, ValueError) else TypeError)(f"{name}: {error}") from None
        part[...] = filled
    return made


cdef list padding_of(object dtype):
    """The bytes of an item that belong to no field, as slices."""
    cdef bytearray used = bytearray(dtype.itemsize)
    cdef list found = []
    cdef Py_ssize_t start, end = 0
    mark_used(used, dtype, 0)
    while True:
        start = used.find(b"\0", end)
        if start < 0:
            return found
        end = used.find(b"\1", start)
        end = len(used) if end < 0 else end
        found.append(slice(start, end))


cdef int mark_used(bytearray used, object dtype, Py_ssize_t at) except -1:
    base = dtype.base
    if base.names is None:
        used[at : at + dtype.itemsize] = b"\1" * dtype.itemsize
        return 0
    for start in range(at, at + dtype.itemsize, max(base.itemsize, 1)):
        for name in base.names:
            inner, offset = base.fields[name][:2]
            mark_used(used, inner, start + offset)
    return 0


cdef dict NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def nested_lists(value):
    """An array as nested lists, as JSON has it: complex numbers as pairs, times and durations as counts of units,
    records as mappings. What JSON has no number for becomes the strings that pydantic uses for them.
    """
    kind = value.dtype.kind
    if value.dtype.char in "gG":  # JSON has no wider numbers than f64
        value = value.astype("f8" if kind == "f" else "c16")
    if kind == "c":
        value = asarray(value, order="C")
        value = value.view(f"f{value.itemsize // 2}").reshape(*value.shape, 2)
    elif kind in "mM":
        value = asarray(value).view("i8")
    elif value.dtype.names is not None:
        columns = {name: nested_lists(value[name]) for name in value.dtype.names}
        return records_of_columns(columns, value.ndim, value.shape)
    if value.dtype.kind != "f" or logical_and.reduce(isfinite(value), None):
        return value.tolist()
    return with_named_infinities(value.tolist())


cdef object records_of_columns(dict columns, Py_ssize_t ndim, tuple shape):
    if ndim == 0:
        return columns
    return [
        records_of_columns({name: column[i] for name, column in columns.items()}, ndim - 1, shape[1:])
        for i in range(shape[0])
    ]


cdef object with_named_infinities(object item):
    if isinstance(item, list):
        return [with_named_infinities(each) for each in item]
    return NOT_FINITE.get(str(item), item)
