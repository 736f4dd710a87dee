# Part of binding.pyx: what a publisher says of one sample besides its payload.


class Metadata(namedtuple("Metadata", ["content_type", "producer", "user"])):
    """What a publisher says of one sample: texts of at most 32 bytes, and a text or bytes of at most 512."""

    __slots__ = ()


METADATA_ROOM = <int>(ZS_METADATA_SIZE + 7)     # what a slot needs for it, wherever the payload ends


cdef bytes pack_metadata(object given):
    """A zs_metadata with these values. Raises TypeError and ValueError, which name the value."""
    cdef zs_metadata block
    cdef dict values
    if not isinstance(given, (Metadata, Mapping)):
        raise TypeError(f"metadata is a Metadata or a dict, not {type(given).__name__}")
    values = given._asdict() if isinstance(given, Metadata) else dict(given)
    unknown = sorted([repr(name) for name in values if name not in Metadata._fields])
    if unknown:
        raise ValueError(f"metadata has content_type, producer and user, and not {', '.join(unknown)}")
    memset(&block, 0, sizeof(block))
    user = values.get("user", b"")
    block.user_is_text = isinstance(user, str)
    block.content_type_size = put_limited("content_type", block.content_type, 32, values.get("content_type", ""), True)
    block.producer_size = put_limited("producer", block.producer, 32, values.get("producer", ""), True)
    block.user_size = put_limited("user", block.user, 512, user, block.user_is_text)
    return (<const char *>&block)[:sizeof(block)]


cdef uint16_t put_limited(str name, uint8_t *to, size_t limit, object value, bint text) except? 0:
    cdef bytes content
    if text and not isinstance(value, str):
        raise TypeError(f"metadata: {name} is a str, not {type(value).__name__}")
    if not text and not PyObject_CheckBuffer(value):
        raise TypeError(f"metadata: {name} is a str or bytes, not {type(value).__name__}")
    try:
        content = value.encode() if text else bytes(value)
    except UnicodeEncodeError as error:
        raise ValueError(f"metadata: {name} is no text that UTF-8 can hold: {error}") from None
    if <size_t>len(content) > limit:
        raise ValueError(f"metadata: {name} has {len(content)} bytes, and at most {limit} are allowed")
    memcpy(to, <const char *>content, len(content))
    return <uint16_t>len(content)


cdef object unpack_metadata(const char *data, str where):
    """The Metadata at `data`, where another process can write: it is copied, then checked, then used."""
    cdef zs_metadata block
    memcpy(&block, data, sizeof(block))
    if block.content_type_size > 32 or block.producer_size > 32 or block.user_size > 512 or block.user_is_text > 1:
        raise errors.CorruptSegmentError(
            f"{where}: the metadata of a sample has sizes that cannot be. Start its publisher again",
            where=where, field="metadata",
            found=(block.content_type_size, block.producer_size, block.user_size, block.user_is_text),
        )
    try:
        content_type = (<const char *>block.content_type)[:block.content_type_size].decode()
        producer = (<const char *>block.producer)[:block.producer_size].decode()
        user = (<const char *>block.user)[:block.user_size]
        return Metadata(content_type, producer, user.decode() if block.user_is_text else user)
    except UnicodeDecodeError as error:
        raise errors.CorruptSegmentError(
            f"{where}: the metadata of a sample has a text that is not UTF-8: {error}",
            where=where, field="metadata", found=error.object,
        ) from None
