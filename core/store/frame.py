"""The frame around every stored value: what it is, whose it is, and whether it is whole.

    magic (8) | name length (2) | payload length (8) | sha256 of the rest (32) | name | payload

The name is inside the checksum, so a value file swapped with another entry's is caught, and a
database that was lost can be rebuilt from the value files alone.
"""

import hashlib
import struct

MAGIC = b"SAEXSTR1"
_HEAD = struct.Struct(">8sHQ32s")


class DamagedEntry(Exception):
    """A stored value is truncated, altered, missing, or was not written by this store."""


def pack(name: str, payload: bytes) -> bytes:
    """Frame `payload` as the value of the entry `name`."""
    encoded = name.encode("ascii")
    head = _HEAD.pack(MAGIC, len(encoded), len(payload), _digest(encoded, payload))
    return b"".join((head, encoded, payload))


def unpack(framed: object) -> tuple[str, bytes]:
    """Name and payload of a frame; raises `DamagedEntry` when anything about it is wrong."""
    if not isinstance(framed, bytes):
        raise DamagedEntry(f"a value of type {type(framed).__name__}, not bytes")
    if len(framed) < _HEAD.size:
        raise DamagedEntry(f"{len(framed)} bytes, shorter than a frame")
    magic, name_length, payload_length, digest = _HEAD.unpack_from(framed)
    if magic != MAGIC:
        raise DamagedEntry("a value that this store did not write")
    body = memoryview(framed)[_HEAD.size :]
    if len(body) != name_length + payload_length:
        raise DamagedEntry(f"{len(body)} bytes where {name_length + payload_length} were written")
    name, payload = bytes(body[:name_length]), body[name_length:]
    if digest != _digest(name, payload):
        raise DamagedEntry("a value whose checksum does not match")
    return name.decode("ascii", "replace"), bytes(payload)


def unpack_as(name: str, framed: object) -> bytes:
    """Payload of a frame that must belong to `name`; raises `DamagedEntry` otherwise."""
    written_as, payload = unpack(framed)
    if written_as != name:
        raise DamagedEntry(f"the value of another entry, {written_as}")
    return payload


def _digest(name: bytes, payload: bytes | memoryview) -> bytes:
    digest = hashlib.sha256(name)
    digest.update(payload)
    return digest.digest()
