# Part of binding.pyx: samples in place, and their fields as attributes.

from sys import intern


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
# They are spares as those of hold.pxi are.
#
# Why view classes look up attributes themselves: the interpreter has no short way to a descriptor that is not its own,
# and its long one is most of what reading a number costs. So the fields that were used last are remembered by the
# version of the class, which changes with each of its attributes and is never given to another class, and by the
# address of the name, which the field keeps. All other attributes go the interpreter's way.
cdef extern from *:
    """
    static PyObject *zs_spare_views[ZS_SPARES + 1];
    static int zs_spare_count;
    static destructor zs_view_base_dealloc;
    static void (*zs_view_reset)(PyObject *);

    static void zs_view_dealloc(PyObject *self)
    {
        PyTypeObject *type = Py_TYPE(self);
        Py_SET_REFCNT(self, 1); /* the reset counts references, and must not come here again */
        zs_view_reset(self);
        if (zs_spare_count < ZS_SPARES) {
            Py_SET_REFCNT(self, 0);
            zs_spare_views[zs_spare_count++] = self;
        } else {
            Py_SET_REFCNT(self, 0);
            zs_view_base_dealloc(self);
        }
        Py_DECREF(type); /* an instance of a heap type owns a reference to it */
    }

    static inline PyObject *zs_new_view(PyTypeObject *type)
    {
        PyObject *spare;
        if (ZS_SPARES == 0 || zs_spare_count == 0)
            return type->tp_new(type, zs_no_arguments, NULL);
        spare = zs_spare_views[--zs_spare_count];
        Py_INCREF(type);
        Py_SET_TYPE(spare, type);
        Py_SET_REFCNT(spare, 1);
        return spare;
    }

    #define ZS_REMEMBERED 64
    static struct { unsigned version; PyObject *name, *field; } zs_remembered[ZS_REMEMBERED];

    #define ZS_REMEMBERED_AT(version, name) (((version) * 7 + ((uintptr_t)(name) >> 4)) % ZS_REMEMBERED)

    /* The FieldDescriptor of this name in the view's class, if it is remembered, or NULL. */
    static inline PyObject *zs_remembered_field(PyObject *view, PyObject *name)
    {
    #ifndef Py_GIL_DISABLED
        unsigned version = Py_TYPE(view)->tp_version_tag; /* 0: it has none now */
        size_t at = ZS_REMEMBERED_AT(version, name);
        if (zs_remembered[at].version == version && zs_remembered[at].name == name)
            return zs_remembered[at].field;
    #endif
        return NULL;
    }

    /* The attribute of this name of the view's class itself; NULL: it has none, or has no version. */
    static inline PyObject *zs_own_attribute(PyObject *view, PyObject *name)
    {
    #ifndef Py_GIL_DISABLED
        if (Py_TYPE(view)->tp_version_tag != 0)
            return PyDict_GetItemWithError(Py_TYPE(view)->tp_dict, name);
    #endif
        return NULL;
    }

    static inline void zs_remember_field(PyObject *view, PyObject *name, PyObject *field)
    {
        unsigned version = Py_TYPE(view)->tp_version_tag;
        size_t at = ZS_REMEMBERED_AT(version, name);
        zs_remembered[at].version = version;
        zs_remembered[at].name = name;
        zs_remembered[at].field = field;
    }

    static PyObject *zs_view_class(const char *name, PyObject *base, void (*reset)(PyObject *),
                                   getattrofunc get, setattrofunc set)
    {
        PyType_Slot slots[] = {{Py_tp_dealloc, (void *)zs_view_dealloc}, {Py_tp_getattro, (void *)get},
                               {Py_tp_setattro, (void *)set}, {0, NULL}};
        PyType_Spec spec = {name, 0, 0, Py_TPFLAGS_DEFAULT, slots};
        zs_view_base_dealloc = ((PyTypeObject *)base)->tp_dealloc;
        zs_view_reset = reset;
        return PyType_FromSpecWithBases(&spec, base);
    }
    """
    object zs_new_view(PyTypeObject *kind)
    PyObject *zs_remembered_field(object view, object name) noexcept
    PyObject *zs_own_attribute(object view, object name) noexcept
    void zs_remember_field(object view, object name, object field) noexcept
    object zs_view_class(const char *name, object base, void (*reset)(PyObject *) noexcept,
                         object (*get)(object, object), int (*set)(object, object, PyObject *) except -1)
    void PyUnicode_InternInPlace(PyObject **text) noexcept
    object PyObject_GenericGetAttr(object instance, object name)
    int PyObject_GenericSetAttr(object instance, object name, PyObject *value) except -1
    void Py_DECREF_pointer "Py_DECREF"(PyObject *o)

cdef void reset_view(PyObject *view) noexcept:
    (<View>view).hold = None
    (<View>view).data = NULL


cdef inline View make_view(object view_class, Hold hold, char *data, size_t size):
    cdef View view = <View>zs_new_view(<PyTypeObject *>view_class)
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
        self.name, self.codec, self.offset = intern(name), codec, offset
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
        if instance is None:
            return self
        if type(instance) is not self.owner:
            self.check(instance)
        return self.read(<View>instance)

    def __set__(self, instance, value):
        if type(instance) is not self.owner:
            self.check(instance)
        self.write(<View>instance, value)

    def __delete__(self, instance):
        raise AttributeError(f"{self.name}: a field of a sample in place cannot be deleted")

    @cython.nonecheck(False)    # a view with data has a Hold
    cdef inline object read(self, View view):
        """The value in a view of the owner's."""
        if view.data == NULL or self.offset + self.codec.size > view.size:
            self.check(view)
        if self.scalar >= 0:
            return get_number(self.scalar, view.data + self.offset)
        return self.codec.get(view.hold, view.data + self.offset)

    @cython.nonecheck(False)
    cdef inline int write(self, View view, object value) except -1:
        if view.data == NULL or self.offset + self.codec.size > view.size:
            self.check(view)
        if not view.hold.is_writable():
            raise read_only(view.hold)
        if set_exact(self.scalar, view.data + self.offset, <PyObject *>value):
            return 0
        return self.convert(view.hold, view.data + self.offset, value)

    cdef int convert(self, Hold hold, char *data, object value) except -1:
        """Write a value that has to be converted."""
        hold.pin()      # reading a value may run any code, which must not commit what is half written
        try:
            self.put(hold, data, value)
        finally:
            hold.unpin()
        return 0

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


cdef object view_attribute(object view, object name):
    """An attribute of a view."""
    cdef PyObject *field = zs_remembered_field(view, name)
    if field != NULL:
        return (<FieldDescriptor>field).read(<View>view)
    value = PyObject_GenericGetAttr(view, name)
    remember(view, name)
    return value


cdef int set_view_attribute(object view, object name, PyObject *value) except -1:
    """Set an attribute of a view; NULL: delete it."""
    cdef PyObject *field = zs_remembered_field(view, name)
    if field != NULL and value != NULL:
        return (<FieldDescriptor>field).write(<View>view, <object>value)
    PyObject_GenericSetAttr(view, name, value)
    remember(view, name)
    return 0


cdef int remember(object view, object name) except -1:
    """Remember a field whose name this is, after the interpreter has found it: a class gets its version then."""
    cdef PyObject *found = zs_own_attribute(view, name)
    cdef FieldDescriptor field
    if found != NULL and type(<object>found) is FieldDescriptor:
        field = <FieldDescriptor>found
        if field.name is name and field.owner is type(view):
            zs_remember_field(view, name, field)
    return 0


def make_view_class(str name not None, dict namespace not None):
    """A class of views with these attributes: FieldDescriptors and whatever else."""
    made = zs_view_class(name.encode(), View, reset_view, view_attribute, set_view_attribute)
    for key, value in namespace.items():
        setattr(made, key, value)
        if isinstance(value, FieldDescriptor):
            value.__set_name__(made, key)
    return made
