"""Is this weight file whole? Answered from its header, without loading it."""

import hashlib
import json
import math
import re
from pathlib import Path

_HEADER_LIMIT = 100_000_000
"""safetensors refuses longer headers."""


def safetensors_problem(path: Path) -> str | None:
    """What is wrong with a safetensors file (garbled header, wrong length), or None.

    Garbled numbers inside the tensors are not noticed; see `checksum_problem`.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            header_size = int.from_bytes(file.read(8), "little")
            not_weights = _other_content(path)
            if not_weights is not None:
                return not_weights
            if size < 8 or header_size > min(size - 8, _HEADER_LIMIT):
                return f"{path} is cut short or not a safetensors file ({size} bytes)."
            header = json.loads(file.read(header_size))
        tensors = [value for name, value in header.items() if name != "__metadata__"]
        offsets = [[int(place) for place in tensor["data_offsets"]] for tensor in tensors]
        sizes = [int(size) for tensor in tensors for size in tensor["shape"]]
        end = max((end for _, end in offsets), default=0)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}."
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return f"{path} is corrupted: its safetensors header cannot be read."
    if any(not 0 <= start <= stop for start, stop in offsets) or any(size < 0 for size in sizes):
        return (
            f"{path} is corrupted: its header places a tensor outside the file, or gives one a "
            "negative size; copy it again."
        )
    expected = 8 + header_size + end
    if size != expected:
        return f"{path} is corrupted: it has {size} bytes and should have {expected}."
    return None


def _other_content(path: Path) -> str | None:
    """A sentence where a file of weights holds what is left when they were not fetched, or None."""
    with path.open("rb") as file:
        start = file.read(200).lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        return f"{path} is a pointer of Git LFS, not the weights; run git lfs pull there."
    if start.startswith((b"<!doctype html", b"<html")):
        return f"{path} is a web page, not the weights; download the file again."
    return None


def count_numbers(path: Path) -> int:
    """Numbers in a weight file: from the header of a whole safetensors file, else at most.

    Other formats do not tell; 16 bits a number are assumed, which overestimates most.
    """
    if path.suffix != ".safetensors" or safetensors_problem(path) is not None:
        return path.stat().st_size // 2
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    shapes = [tensor["shape"] for name, tensor in header.items() if name != "__metadata__"]
    return sum(math.prod(shape) for shape in shapes)


def checksum_problem(path: Path) -> str | None:
    """What is wrong with a file of the hub cache whose name there is its SHA-256, or None.

    Files that are not stored by SHA-256 (small text files) are not checked.
    """
    blob = path.resolve()
    if not re.fullmatch(r"[0-9a-f]{64}", blob.name):
        return None
    with blob.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest == blob.name:
        return None
    return f"{path} is corrupted: its contents do not have the checksum that the hub lists."
