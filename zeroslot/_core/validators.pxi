# Part of binding.pyx: what pydantic calls while it validates a sample.
#
# Why compiled: pydantic-core calls these from native frames. Python ends a daemon thread at the interpreter's exit
# where it next runs bytecode, and a thread that ends with a native frame of Rust on its stack takes the process along
# (SIGABRT). So nothing here runs bytecode for the values that samples are made of; for objects with methods of their
# own, such as `__array__`, those run.

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


@cython.final
@cython.no_gc
cdef class Stored:
    """Makes of a number what is read back after it was written as one of `kind`. ValueError beyond its range."""

    cdef ScalarCodec codec
    cdef str kind

    def __cinit__(self, str kind not None):
        self.codec, self.kind = ScalarCodec(kind), kind

    def __call__(self, value):
        cdef uint64_t data = 0
        self.codec.set(None, <char *>&data, value)
        return self.codec.get(None, <char *>&data)

    def __reduce__(self):
        return Stored, (self.kind,)


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
