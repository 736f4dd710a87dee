# Part of binding.pyx: what pydantic calls while it validates a sample.
#
# Why compiled: pydantic-core calls these from native frames. Python ends a daemon thread at the interpreter's exit
# where it next runs bytecode, and a thread that ends with a native frame of Rust on its stack takes the process along
# (SIGABRT). So nothing here runs bytecode for the values that samples are made of; for objects with methods of their
# own, such as `__array__`, those run.

from numpy import absolute, greater, greater_equal, isfinite, logical_and, logical_or, maximum, minimum
from numpy import integer as NumpyInteger

cdef extern from "Python.h":
    bint PyType_IsSubtype(PyTypeObject *kind, PyTypeObject *base)


@cython.binding(True)   # a method of that metaclass
def is_sample_instance(cls, instance):
    """`isinstance` for the metaclass of samples: models, and views in shared memory."""
    kind = type(instance)
    if issubclass_exactly(kind, cls):
        return True
    if not isinstance(instance, View):
        return False
    viewed = getattr(kind, "__zs_sample__", None)
    return viewed is not None and issubclass_exactly(viewed, cls)


cdef inline bint issubclass_exactly(object kind, object base):
    """Whether `base` is among the bases, and not what `__subclasscheck__` says."""
    return PyType_IsSubtype(<PyTypeObject *>kind, <PyTypeObject *>base)


def view_as_model(value):
    """A view becomes a model of its class; anything else stays as it is. A model that is kept then holds no slot."""
    return copied(value, True) if isinstance(value, View) else value


def exact_integer(value):
    """numpy integers as ints: pydantic reads them as floats, which are not exact from 2**53 on."""
    return value.item() if isinstance(value, NumpyInteger) else value


def rounded_f32(double value):
    """The nearest f32. ValueError beyond its range."""
    cdef float rounded = <float>value
    if isfinite_double(value) and not isfinite_double(rounded):
        raise ValueError(f"{value!r} is beyond the range of f32")
    return rounded


def rounded_f16(double value):
    """The nearest f16. ValueError beyond its range."""
    cdef char data[2]
    try:
        PyFloat_Pack2(value, data, 1)
    except OverflowError:
        raise ValueError(f"{value!r} is beyond the range of f16") from None
    return PyFloat_Unpack2(data, 1)


def no_text(value):
    """Bytes-like objects as bytes. A str stays out: what its bytes are is not said."""
    if isinstance(value, str):
        raise ValueError("a str is not bytes: encode it")
    if isinstance(value, bytes) or not PyObject_CheckBuffer(value):
        return value
    return bytes(memoryview(value))


def as_list(value):
    """numpy arrays and lists in place as lists; anything else stays as it is."""
    if isinstance(value, cnp.ndarray):
        return value.tolist()
    return copied(value, True) if isinstance(value, ListView) else value


@cython.final
@cython.no_gc
cdef class SizeCheck:
    """Lets a str or bytes of at most `limit` bytes through; text is counted in UTF-8."""

    cdef Py_ssize_t limit

    def __cinit__(self, Py_ssize_t limit):
        self.limit = limit

    def __call__(self, value):
        cdef Py_ssize_t size = 0
        if isinstance(value, str):
            PyUnicode_AsUTF8AndSize(value, &size)   # raises UnicodeEncodeError for a lone surrogate
            if size > self.limit:
                raise ValueError(f"{size} bytes of UTF-8 do not fit into MaxBytes({self.limit})")
        elif len(value) > self.limit:
            raise ValueError(f"{len(value)} bytes do not fit into MaxBytes({self.limit})")
        return value

    def __reduce__(self):
        return SizeCheck, (self.limit,)


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
    """`value` as an array of exactly this dtype and shape; the same object when it is one already.

    ValueError when numbers would change: floats or bools to integers, integers out of range, finite floats that become
    infinite. Rounding to fewer digits is not a change.
    """
    cdef cnp.ndarray given = cnp.PyArray_FROM_O(value)
    if given.dtype != wanted:
        if not isinstance(value, cnp.ndarray):
            given = from_python(given, value, wanted)
        given = converted(given, wanted)
    if (<object>given).shape != shape:
        raise ValueError(f"shape {(<object>given).shape} is not {shape}")
    return given


cdef cnp.ndarray from_python(object given, object value, object wanted):
    """Undo what numpy guesses about lists: big integers as floats, and the strings that stand for NaN in JSON."""
    kind = given.dtype.kind
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
    if numbers.dtype.kind not in CONVERTIBLE[wanted.kind]:
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


def as_array(value, cnp.dtype wanted not None, tuple shape not None):
    """`value` as an array of exactly this dtype and shape; the same object when it is one already.

    Raises ValueError when numbers would change: floats or bools to integers, integers out of range, finite floats that
    become infinite. Rounding to fewer digits is not a change.
    """
    return array_of(value, wanted, shape)


cdef dict NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


def nested_lists(value):
    """An array as nested lists. What JSON has no number for becomes the strings that pydantic uses for them."""
    if value.dtype.kind != "f" or logical_and.reduce(isfinite(value), None):
        return value.tolist()
    return named(value.tolist())


cdef object named(object item):
    if isinstance(item, list):
        return [named(each) for each in item]
    return NOT_FINITE.get(str(item), item)
