# Part of binding.pyx: what pydantic calls while it validates a sample.
#
# Why compiled: pydantic-core calls these from native frames. Python ends a daemon thread at the interpreter's exit
# where it next runs bytecode, and a thread that ends with a native frame of Rust on its stack takes the process along
# (SIGABRT). So nothing here runs bytecode for the values that samples are made of; for objects with methods of their
# own, such as `__array__`, those run.

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
cdef class RecordsOf:
    """Validates lists of samples. A structured array with the fields of the sample stays an array."""

    cdef object sample_type
    cdef Py_ssize_t shortest, longest

    def __cinit__(self, sample_type not None, Py_ssize_t shortest, Py_ssize_t longest):
        self.sample_type, self.shortest, self.longest = sample_type, shortest, longest

    def __call__(self, value, handler):
        cdef Py_ssize_t count
        if not isinstance(value, cnp.ndarray) or value.dtype.names is None:
            return handler(as_list(value))
        records = records_of(value, self.sample_type.__zs_layout__().dtype)
        if records.ndim != 1:
            raise ValueError(f"an array of {records.ndim} dims is no list")
        count = len(records)
        if not self.shortest <= count <= self.longest:
            limit = self.longest if self.shortest else f"at most {self.longest}"
            raise ValueError(f"{count} items, and the field holds {limit}")
        return records

    def listed(self, value, handler):
        """Serialize either form as a list of samples."""
        if isinstance(value, cnp.ndarray):
            value = samples_of(self.sample_type.__zs_view_class__(), value)
        return handler(value)

    def __reduce__(self):
        return RecordsOf, (self.sample_type, self.shortest, self.longest)


def samples_of(view_class not None, records not None):
    """The models that the records of an array say. ValueError for one that is no sample."""
    cdef StructCodec codec = view_class.__zs_codec__
    cdef cnp.ndarray array = cnp.PyArray_GETCONTIGUOUS(records_of(records, codec.sample_type.__zs_layout__().dtype))
    cdef Hold hold = Hold.__new__(Hold)     # of no segment, as in sample_image
    cdef View view
    cdef Py_ssize_t i
    cdef list found = []
    for i in range(cnp.PyArray_SIZE(array)):
        view = make_view(view_class, hold, <char *>cnp.PyArray_DATA(array) + i * <Py_ssize_t>codec.size, codec.size)
        try:
            found.append(codec.model(view))
        except errors.CorruptSegmentError as error:
            raise ValueError(f"item {i}: {error}") from None
        finally:
            view.data = NULL
    return found


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
