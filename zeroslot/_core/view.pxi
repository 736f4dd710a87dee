# Part of binding.pyx: samples in place, and their fields as attributes.


@cython.no_gc
cdef class View:
    """A sample in a slot: base of the classes that zeroslot.types.view makes.

    Bytes-like; keeps its slot; read-only after commit.
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

    def __dlpack__(self, **options):
        """The bytes of the sample as a DLPack capsule, as for lists in place."""
        self.alive()
        return dlpack_of(exported_array(self.hold, self.data, OCTET, (self.size,)), options)

    def __dlpack_device__(self):
        """The memory of the host."""
        return DLPACK_HOST

    def __reduce__(self):
        raise unpicklable(self)

    def __zs_values__(self):
        """Copies of all fields, nested samples as dicts."""
        cdef Codec codec = (<object>type(self)).__zs_codec__
        return codec.values(self, False)

    def __zs_model__(self):
        """An instance of the sample's class with copies of all fields. It is not validated again."""
        cdef Codec codec = (<object>type(self)).__zs_codec__
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

    cdef int check(self, object instance) except -1:
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
            self.check(instance)
        return self.codec.get(view.hold, view.data + self.offset)

    def __set__(self, instance, value):
        cdef View view = <View>instance
        if type(instance) is not self.owner or view.data == NULL or self.offset + self.codec.size > view.size:
            self.check(instance)
        if not view.hold.is_writable():
            raise read_only(view.hold)
        if set_exact(self.scalar, view.data + self.offset, <PyObject *>value):
            return
        view.hold.pin()     # reading a value may run any code, which must not commit what is half written
        try:
            self.put(view.hold, view.data + self.offset, value)
        finally:
            view.hold.unpin()

    def buffer(self, instance):
        """A memoryview of the value in place."""
        cdef View view = <View?>instance
        self.check(view)
        try:
            return self.codec.buffer(view.hold, view.data + self.offset)
        except (ValueError, TypeError) as error:
            if isinstance(error, errors.ZeroslotError):
                raise
            raise type(error)(f"{self.name} has no buffer: {error}") from None

    cdef int put(self, Hold hold, char *data, object value) except -1:
        try:
            self.codec.set(hold, data, value)
        except (ValueError, TypeError) as error:
            if isinstance(error, errors.ZeroslotError):
                raise
            kind = ValueError if isinstance(error, ValueError) else TypeError
            raise kind(f"{self.name}: {error}") from None
        return 0
