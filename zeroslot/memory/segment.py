"""Numbers of the segment's format that Python needs."""

from __future__ import annotations

SLOT_ALIGN = 128
HEADER_SIZE = 384
CONTROL_SIZE_AT = 16  # in the header
MAX_POOLS = 16
BYTES, TYPED = 0, 1
OPEN, SEALED, DEAD = 1, 2, 3
OWNER_BYTE = 0
FIRST_PEER_BYTE = 64
