# Part of binding.pyx: extents, which say where in a sample the data of a variable field is.
#
# Extents are shared memory: each access loads the extent once, checks the copy, and uses the copy. Where a loan may
# write is decided in private memory: its Extents have the place of each field, and no write looks at the sample's.

cdef extern from *:
    """
    typedef struct zs_extent {
        uint64_t offset; /* of the data, from the start of the sample */
        uint64_t size;   /* bytes; 0: empty, and the offset has no meaning */
    } zs_extent;

    typedef struct zs_array_extent {
        uint64_t offset, size;
        uint32_t ndim, reserved;
        char dtype[16]; /* as numpy spells it, with zeros behind it */
        uint64_t shape[8];
        int64_t strides[8]; /* bytes */
    } zs_array_extent;

    typedef struct zs_place {
        size_t at;              /* of the extent, from the start of the sample */
        uint64_t room;          /* bytes from extent.offset on that belong to the field */
        uint64_t given;         /* whether the loan was asked for a size, which may be 0 */
        zs_array_extent extent; /* as it was written last */
    } zs_place;

    _Static_assert(sizeof(zs_extent) == 16 && sizeof(zs_array_extent) == 168, "extents");

    /* The copy is made here, and not where it is used: the compiler must assume that the source has changed since. */
    static inline void zs_load_once(void *to, const void *from, size_t size)
    {
        memcpy(to, from, size);
        __asm__ __volatile__("" ::: "memory");
    }
    """
    ctypedef struct zs_extent:
        uint64_t offset, size
    ctypedef struct zs_array_extent:
        uint64_t offset, size
        uint32_t ndim, reserved
        char dtype[16]
        uint64_t shape[8]
        int64_t strides[8]
    ctypedef struct zs_place:
        size_t at
        uint64_t room, given
        zs_array_extent extent
    void zs_load_once(void *to, const void *frm, size_t size) nogil

cdef enum:
    MAX_NDIM = 8
    DATA_ALIGNMENT = 8      # of text, bytes and lists
    ARRAY_ALIGNMENT = 64
    EXTENT_SIZE = sizeof(zs_extent)
    ARRAY_EXTENT_SIZE = sizeof(zs_array_extent)


cdef inline uint64_t checked_product(uint64_t one, uint64_t other) noexcept nogil:
    """The product; LARGEST_SAMPLE + 1 where it is larger than that."""
    if other != 0 and one > LARGEST_SAMPLE // other:
        return LARGEST_SAMPLE + 1
    return one * other


cdef inline uint64_t checked_sum(uint64_t one, uint64_t other) noexcept nogil:
    return min(one + other, LARGEST_SAMPLE + 1)     # neither is larger than that


cdef object corrupt_extent(str problem, object found):
    return errors.CorruptSegmentError(f"the extent of a variable field {problem}", found=found)


@cython.final
@cython.freelist(8)
@cython.no_gc
cdef class Extents:
    """The extents of one loan, each with its place. It refers to the Hold nowhere: the Hold refers to it."""

    cdef zs_place *places
    cdef zs_place first[2]  # of a type with so few variable fields, which needs no other memory
    cdef Py_ssize_t count
    cdef bytearray more     # the places of any other type. An object, so that a deallocation runs nothing of this class
    cdef object whole       # of a whole type: its VariableCodec
    cdef dict prepared      # of a publish: id of a value -> the value, and the form of it that is written

    cdef int begin(self, Py_ssize_t count) except -1:
        if count <= 2:
            self.places = self.first
        else:
            self.more = bytearray(count * sizeof(zs_place))
            self.places = <zs_place *><char *>self.more
        self.count = count
        return 0

    cdef object prepared_value(self, object value):
        if self.prepared is None:
            return value
        found = self.prepared.get(id(value))
        return value if found is None else found[1]

    cdef int put(self, Hold hold, zs_place *place, zs_array_extent *extent, size_t size, bint is_wiped) except -1:
        """Write an extent into the sample, and wipe the bytes that it gives up: those of large data if `is_wiped`."""
        cdef uint64_t before = place.extent.size
        if not hold.is_writable():
            raise read_only(hold)
        if before > extent.size and (is_wiped or before - extent.size <= SMALL):
            memset(hold.data + place.extent.offset + extent.size, 0, before - extent.size)
        place.extent = extent[0]
        memcpy(hold.data + place.at, extent, size)
        hold.size = self.used(hold.head)
        return 0

    cdef void clear(self, Hold hold, char *data, size_t size) noexcept:
        """The fields whose extents lie in these bytes are absent."""
        cdef Py_ssize_t i
        for i in range(self.count):
            if hold.data + self.places[i].at >= data and hold.data + self.places[i].at < data + size:
                self.places[i].extent.size = 0
        hold.size = self.used(hold.head)

    cdef uint64_t used(self, uint64_t head) noexcept:
        """Bytes of the sample up to the end of the data that lies last."""
        cdef Py_ssize_t i
        cdef uint64_t end = head
        for i in range(self.count):
            if self.places[i].extent.size != 0:
                end = max(end, self.places[i].extent.offset + self.places[i].extent.size)
        return end


cdef inline Extents extents_of(Hold hold):
    """None: no loan, or one of a type without variable fields."""
    return None if hold.extents == NULL else <Extents>hold.extents


cdef zs_place *place_of(Hold hold, char *data) except NULL:
    """The place of the field whose extent is at `data`."""
    cdef Extents extents = extents_of(hold)
    cdef size_t at = <size_t>(data - hold.data)
    cdef Py_ssize_t i
    if extents is not None:
        for i in range(extents.count):
            if extents.places[i].at == at:
                return &extents.places[i]
    raise ValueError("this sample has no room for fields of variable size")
