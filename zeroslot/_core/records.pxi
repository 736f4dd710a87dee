# Part of binding.pyx: the structures of the control object as records, and the numbers of the format.
#
# Names and places come from the field tables of zs_layout.h, so a new field of a structure is a line there and one in
# FORMAT.md; the records of binding.pyi are generated. Reserved fields have no names here.

from collections import namedtuple

cdef extern from *:
    """
    typedef struct {
        const char *name;
        size_t at, size, item; /* bytes; an item is smaller than the whole where the field is an array */
    } zs_field;

    /* Octets, or numbers of 32 or 64 bits: what values_of and put_config know. */
    #define ZS_KNOWN(type, name, dims, at, bytes) \
        _Static_assert(sizeof(type) == 1 || sizeof(type) == 4 || sizeof(type) == 8, #name);
    ZS_HEADER_FIELDS(ZS_KNOWN) ZS_PEER_FIELDS(ZS_KNOWN) ZS_POOL_FIELDS(ZS_KNOWN) ZS_COUNTERS_FIELDS(ZS_KNOWN)

    #define ZS_FIELD(type, name, dims, at, bytes) {#name, at, bytes, sizeof(type)},
    static const zs_field zs_header_fields[] = {ZS_HEADER_FIELDS(ZS_FIELD) {NULL, 0, 0, 0}};
    static const zs_field zs_peer_fields[] = {ZS_PEER_FIELDS(ZS_FIELD) {NULL, 0, 0, 0}};
    static const zs_field zs_pool_fields[] = {ZS_POOL_FIELDS(ZS_FIELD) {NULL, 0, 0, 0}};
    static const zs_field zs_counters_fields[] = {ZS_COUNTERS_FIELDS(ZS_FIELD) {NULL, 0, 0, 0}};
    """
    ctypedef struct zs_field:
        const char *name
        size_t at, size, item
    const zs_field *zs_header_fields
    const zs_field *zs_peer_fields
    const zs_field *zs_pool_fields
    const zs_field *zs_counters_fields

SLOT_LIMIT = <int>ZS_MAX_SLOTS
SUBSCRIBER_LIMIT = <int>ZS_MAX_SUBSCRIBERS
MAX_POOLS = <int>ZS_MAX_POOLS
LATENCY_BUCKETS = <int>ZS_LATENCY_BUCKETS
LATENCY_EVERY = <int>ZS_SAMPLED
SLOT_ALIGN = <int>ZS_SLOT_ALIGN
HUGE_PAGE = <int>ZS_HUGE_PAGE
HEADER_SIZE = <int>ZS_HEADER_SIZE
CONTROL_SIZE_AT = <int>ZS_CONTROL_SIZE_AT
OWNER_BYTE, CLEANER_BYTES, FIRST_PEER_BYTE = <int>ZS_OWNER_BYTE, <int>ZS_CLEANER_BYTES, <int>ZS_FIRST_PEER_BYTE
OPEN, SEALED, DEAD = <int>ZS_OPEN, <int>ZS_SEALED, <int>ZS_DEAD
# The name of each policy is at its number.
POLICIES = tuple(name for _, name in sorted([(ZS_EVICT, "evict"), (ZS_BLOCK, "block"), (ZS_RAISE, "raise")]))
BYTES, TYPED = <int>ZS_BYTES, <int>ZS_TYPED
COMPAT_CRC = <int>ZS_COMPAT_CRC
NO_READER = <uint32_t>ZS_NO_READER


cdef bint is_text(const zs_field *field):
    return field.item == 1 and field.name.endswith(b"name")


cdef list names_of(const zs_field *field):
    """The names of all fields that are not reserved."""
    cdef list names = []
    while field.name != NULL:
        if not field.name.startswith(b"reserved"):
            names.append(field.name.decode())
        field += 1
    return names


cdef list values_of(const zs_field *field, const char *data):
    """The values of these fields: numbers, text up to the first NUL, bytes, and tuples of numbers."""
    cdef list values = []
    cdef const char *at
    while field.name != NULL:
        at = data + field.at
        if field.name.startswith(b"reserved"):
            pass
        elif is_text(field):
            values.append(text_of(<const uint8_t *>at, field.size))
        elif field.item == 1:
            values.append(at[:field.size])
        elif field.item == field.size:
            values.append(number_at(at, field.item))
        else:
            values.append(tuple([number_at(at + i * field.item, field.item) for i in range(field.size // field.item)]))
        field += 1
    return values


cdef object number_at(const char *data, size_t size):
    return zs_load32(<const uint32_t *>data, ZS_RELAXED) if size == 4 else zs_load64(<const uint64_t *>data, ZS_RELAXED)


cdef str text_of(const uint8_t *data, size_t size):
    return data[:size].split(b"\0", 1)[0].decode("utf-8", "replace")


cdef int put_text(uint8_t *data, size_t size, str text) except -1:
    cdef bytes encoded = text.encode()[:size]
    memset(data, 0, size)
    memcpy(data, <const char *>encoded, len(encoded))
    return 0


PoolInfo = namedtuple("PoolInfo", names_of(zs_pool_fields))
Counters = namedtuple("Counters", names_of(zs_counters_fields))


class PeerInfo(namedtuple("PeerInfo", names_of(zs_peer_fields))):
    """A peer entry, as it was at one moment."""

    __slots__ = ()

    @property
    def reliable(self):
        return bool(self.flags & ZS_PEER_RELIABLE)

    @property
    def by_ticket(self):
        """Whether it redeems tickets, and is no subscriber."""
        return bool(self.flags & ZS_PEER_TICKETS)


cdef zs_header BLANK
memset(&BLANK, 0, sizeof(BLANK))
BLANK.pool_limit = BLANK.first_sequence = 1

# A header. A creator gives the fields that it chooses (a SegmentConfig); `Segment.create` computes sizes and places.
SegmentInfo = namedtuple(
    "SegmentInfo", names_of(zs_header_fields), defaults=values_of(zs_header_fields, <const char *>&BLANK)
)
SegmentConfig = SegmentInfo


cdef int put_config(zs_header *header, object config) except -1:
    """Write all fields but arrays of numbers. Raises OverflowError, or ValueError for bytes of another length."""
    cdef const zs_field *field = zs_header_fields
    cdef char *data
    cdef bytes content
    cdef object values = iter(config)
    while field.name != NULL:
        data = <char *>header + field.at
        if field.name.startswith(b"reserved"):
            field += 1
            continue
        value = next(values)
        if is_text(field):
            put_text(<uint8_t *>data, field.size, value)
        elif field.item == 1:
            content = value
            if <size_t>len(content) != field.size:
                raise ValueError(f"{field.name.decode()} has {field.size} bytes")
            memcpy(data, <const char *>content, field.size)
        elif field.size == 4:
            (<uint32_t *>data)[0] = value
        elif field.size == 8:
            (<uint64_t *>data)[0] = value
        field += 1
    return 0
