# Part of binding.pyx: numbers as arrays of one dtype and shape, without change of value.
#
# No bytecode runs here for plain arrays and lists, for the reason that validators.pxi gives.

from numpy import absolute, greater, greater_equal, isfinite, logical_and, logical_or, maximum, minimum, zeros


@cython.final
@cython.no_gc
cdef class ArrayOf:
    """Makes arrays of one dtype and shape; see `array_of`."""

    cdef cnp.dtype dtype
    cdef tuple shape

    def __cinit__(self, cnp.dtype dtype not None, tuple shape not None):
        self.dtype, self.shape = dtype, shape

    def __call__(self, value):
        return array_of(value, self.dtype, self.shape)

    def __reduce__(self):
        return ArrayOf, (self.dtype, self.shape)


cdef str kind_of(object dtype):
    """What the kinds of fields call a number of this dtype."""
    return "bool" if dtype.kind == "b" else f"{dtype.kind}{8 * dtype.itemsize}"


cdef cnp.ndarray array_of(object value, cnp.dtype wanted, tuple shape):
    """`value` as an array of exactly this dtype and shape (None: of any); the same object when it is one already.

    ValueError when numbers would change: floats or bools to integers, integers out of range, finite floats that become
    infinite. Rounding to fewer digits is not a change.
    """
    cdef cnp.ndarray given = cnp.PyArray_FROM_O(value)
    if given.dtype != wanted:
        if not isinstance(value, cnp.ndarray):
            given = from_python(given, value, wanted)
        if given.dtype != wanted:
            given = converted(given, wanted)
    if shape is not None and (<object>given).shape != shape:
        raise ValueError(f"shape {(<object>given).shape} is not {shape}")
    return given


cdef cnp.ndarray from_python(object given, object value, object wanted):
    """Undo what numpy guesses about lists: nothing and big integers as floats, strings that stand for NaN in JSON."""
    kind = given.dtype.kind
    if given.size == 0:
        return given.astype(wanted)
    if wanted.kind == "u" and kind in "fO":
        numbers = cnp.PyArray_FROM_OT(value, cnp.NPY_OBJECT)
        for number in numbers.ravel().tolist():
            if type(number) is not int or number < 0 or number > 0xFFFFFFFFFFFFFFFF:
                return given
        return numbers.astype("u8")
    if wanted.kind == "f" and kind == "U":
        return given.astype("f8")
    return given


cdef dict CONVERTIBLE = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
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
    if given.dtype is wanted or given.dtype == wanted:  # to compare records takes a microsecond
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
    for start in range(at, at + dtype.itemsize, base.itemsize):
        for name in base.names:
            inner, offset = base.fields[name][:2]
            mark_used(used, inner, start + offset)
    return 0


cdef dict NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def nested_lists(value):
    """An array as nested lists. What JSON has no number for becomes the strings that pydantic uses for them."""
    if value.dtype.kind != "f" or logical_and.reduce(isfinite(value), None):
        return value.tolist()
    return with_named_infinities(value.tolist())


cdef object with_named_infinities(object item):
    if isinstance(item, list):
        return [with_named_infinities(each) for each in item]
    return NOT_FINITE.get(str(item), item)
