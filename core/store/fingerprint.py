"""A name for weights that depends on nothing but the weights.

Results are keyed by it, so that a retrained SAE under an old file name never meets the results of
its predecessor.
"""

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch
    from sae_lens import SAE

    from core.models.hooks import Model

_CHUNK_BYTES = 64 << 20


def fingerprint(tensors: "Mapping[str, torch.Tensor | np.ndarray]") -> str:
    """sha256, in hex, over every name, dtype, shape and byte, in the order of the names.

    Takes dense tensors of any device and dtype (bfloat16 and float8 too) and NumPy arrays of
    numbers; the same numbers in a tensor and in an array give the same fingerprint, whatever their
    memory layout. Large tensors are read in pieces of about 64 MiB. Raises `ValueError` for
    anything else.
    """
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = tensors[name]
        if isinstance(array, np.ndarray):
            dtype, chunks = _numpy_parts(name, array)
        elif _is_tensor(array):
            dtype, chunks = _torch_parts(name, array)
        else:
            raise ValueError(
                f"{name!r} is a {type(array).__name__}; give a torch tensor or a NumPy array."
            )
        # One line of JSON ends where the bytes begin, so no two inputs run into the same stream.
        digest.update(json.dumps([name, dtype, list(array.shape)]).encode() + b"\n")
        for chunk in chunks:
            digest.update(chunk)
    return digest.hexdigest()


def fingerprint_of_sae(sae: "SAE") -> str:
    """sha256 over the SAE's weights and what its config says of computing with them."""
    config = json.loads(json.dumps(sae.cfg.to_dict(), sort_keys=True, default=str))
    config.pop("device", None)
    kept = {"weights": fingerprint(dict(sae.state_dict())), "config": config}
    return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()


def fingerprint_of_model(model: "Model") -> str:
    """sha256 over the model's weights as they are processed (about a second a gigabyte)."""
    tensors: dict[str, Any] = {
        name: tensor for name, tensor in model.state_dict().items() if _is_dense(tensor)
    }
    return fingerprint(tensors)


def _is_dense(value: Any) -> bool:
    # A bridge's state also lists objects that are no tensors.
    torch = sys.modules["torch"]
    return isinstance(value, torch.Tensor) and value.layout == torch.strided


def _is_tensor(value: Any) -> bool:
    torch = sys.modules.get("torch")  # a tensor cannot exist before torch is imported
    return torch is not None and isinstance(value, torch.Tensor)


def _numpy_parts(name: str, array: np.ndarray) -> tuple[str, Iterator[memoryview]]:
    if array.dtype.hasobject or array.dtype.kind == "V":
        raise ValueError(f"{name!r} has dtype {array.dtype}; convert it to a number dtype.")

    def chunks() -> Iterator[memoryview]:
        for rows in _row_ranges(array.shape, array.nbytes):
            part = np.atleast_1d(array)[rows]
            little = part.astype(part.dtype.newbyteorder("<"), order="C", copy=False)
            yield np.ascontiguousarray(little).reshape(-1).view(np.uint8).data

    return array.dtype.name, chunks()


def _torch_parts(name: str, tensor: "torch.Tensor") -> tuple[str, Iterator[memoryview]]:
    import torch

    if tensor.is_meta or tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError(f"{name!r} is a meta, sparse or quantized tensor; give a dense one.")
    plain = tensor.detach()

    def chunks() -> Iterator[memoryview]:
        for rows in _row_ranges(tuple(plain.shape), plain.numel() * plain.element_size()):
            part = torch.atleast_1d(plain)[rows].cpu().resolve_conj().resolve_neg()
            flat = part.contiguous().reshape(-1)
            yield flat.view(torch.uint8).numpy().data

    return str(plain.dtype).removeprefix("torch."), chunks()


def _row_ranges(shape: tuple[int, ...], size_bytes: int) -> Iterator[slice]:
    """Slices of the first axis of about `_CHUNK_BYTES` each; none for an empty array."""
    rows = shape[0] if shape else 1
    if size_bytes == 0:
        return
    step = max(1, _CHUNK_BYTES * rows // size_bytes)
    for start in range(0, rows, step):
        yield slice(start, start + step)
