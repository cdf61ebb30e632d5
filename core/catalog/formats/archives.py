"""Weights in torch archives (.pt) and NumPy archives (.npz), looked at without loading them.

Nothing here unpickles. A .pt file is a pickle beside raw numbers: its opcodes are listed, not
followed, and a file that asks for anything but tensors is refused before torch sees it; torch
itself is then asked with `weights_only=True`, which executes nothing either.
"""

import pickletools
import zipfile
import zlib
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from core.catalog.formats.reading import Shapes, quote
from core.syntax_trees import parse_alone

MAX_PICKLE_BYTES = 4_000_000
"""The pickle of an SAE is a few names and sizes; the numbers lie beside it."""
_REMEMBERED = 65_536
_HARMLESS_MODULES = ("torch", "torch._utils", "torch.serialization", "torch.storage", "collections")
_HARMLESS_NAMES = (
    *("_rebuild_tensor_v2", "_rebuild_tensor", "_rebuild_parameter", "OrderedDict", "Size"),
    *("device", "dtype", "UntypedStorage", "_rebuild_parameter_with_state", "_get_layout"),
    *("float16", "float32", "float64", "bfloat16", "int32", "int64", "bool"),
)
_LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


def torch_file_problem(path: Path) -> str | None:
    """Why the weights in a .pt file cannot be read safely, or None. Executes nothing."""
    try:
        stat = path.stat()
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}."
    return _torch_file_problem(path, stat.st_mtime_ns, stat.st_size)


def array_shapes(path: Path) -> tuple[Shapes, str | None]:
    """Shapes of the arrays in an .npz file by name, or `{}` and what is wrong with it."""
    try:
        stat = path.stat()
    except OSError as error:
        return {}, f"{path} cannot be read: {error.strerror}."
    return _array_shapes(path, stat.st_mtime_ns, stat.st_size)


def load_torch_file(path: Path) -> dict[str, Any]:
    """The tensors of a .pt file by name, on the CPU; nothing in the file is executed.

    Raises:
        ValueError: it holds something else, or was refused; with the remedy.
    """
    from pickle import UnpicklingError  # noqa: TID251 — the name of an error, no more

    import torch

    problem = torch_file_problem(path)
    if problem is not None:
        raise ValueError(problem)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(_refusal(path, "more than tensors")) from error
    except (RuntimeError, EOFError, OSError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(f"{path} is cut short or corrupted; copy it again.") from error
    if isinstance(content, dict) and all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        return {str(name): tensor for name, tensor in content.items()}
    raise ValueError(
        f"{path} holds a {type(content).__name__} and not a state dict of tensors; save it with"
        " torch.save(ae.state_dict(), path)."
    )


@lru_cache(maxsize=_REMEMBERED)
def _torch_file_problem(path: Path, mtime_ns: int, size: int) -> str | None:
    if path.is_dir():
        return f"{path} is a folder and should be a file; copy the weights there again."
    try:
        if zipfile.is_zipfile(path):
            return _zip_problem(path, size)
        with path.open("rb") as file:
            begin = file.read(len(_LEGACY_MAGIC))
            if begin[:2] == b"PK" or size == 0:
                return f"{path} is cut short ({size} bytes); copy it again."
            if begin != _LEGACY_MAGIC:
                named = "a plain pickle" if begin[:1] == b"\x80" else "no torch file"
                return (
                    f"{path} is {named} and was not executed; if you trust its author, load it"
                    " yourself and save its state dict with torch.save, or as safetensors."
                )
            # Before torch 1.6: version, system, and only then the object itself.
            for _ in range(3):
                asked = _asked_for(file)
                if asked:
                    return _refusal(path, asked)
    except OSError as error:
        return f"{path} cannot be read: {error.strerror}."
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, KeyError):
        return f"{path} is cut short or corrupted; copy it again."
    return None


def _zip_problem(path: Path, size: int) -> str | None:
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        unpacked = sum(member.file_size for member in members)
        if unpacked > 2 * size + 1_000_000:
            return (
                f"{path} would unpack to {unpacked:,} bytes from {size:,}, which no torch file"
                " does; copy it again."
            )
        pickles = [member for member in members if member.filename.split("/")[-1] == "data.pkl"]
        if len(pickles) != 1:
            return f"{path} is an archive but not one of torch; save it with torch.save."
        if pickles[0].file_size > MAX_PICKLE_BYTES:
            return (
                f"{path} holds a pickle of {pickles[0].file_size:,} bytes beside its numbers, and"
                " was not executed; save only the state dict, with torch.save(ae.state_dict(),"
                " path)."
            )
        with archive.open(pickles[0]) as file:
            asked = _asked_for(file)
    return _refusal(path, asked) if asked else None


def _asked_for(file: Any) -> str | None:
    """The first function or class beyond those of tensors that a pickle asks for, or None."""
    strings: list[str] = []
    for opcode, argument, _ in pickletools.genops(file):
        if isinstance(argument, str) and opcode.name not in ("GLOBAL", "INST"):
            strings = [*strings[-1:], argument]
        if opcode.name in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
        elif opcode.name == "STACK_GLOBAL":
            module, name = strings if len(strings) == 2 else ("?", "?")
        else:
            continue
        harmless = name in _HARMLESS_NAMES or (module == "torch" and name.endswith("Storage"))
        if module not in _HARMLESS_MODULES or not harmless:
            return f"{module}.{name}"
    return None


def _refusal(path: Path, asked: str) -> str:
    return (
        f"{path} is a pickle that asks for {quote(asked)}, more than tensors, and was not executed;"
        " if you trust its author, load it yourself and save it with torch.save(ae.state_dict(),"
        " path) or as safetensors."
    )


@lru_cache(maxsize=_REMEMBERED)
def _array_shapes(path: Path, mtime_ns: int, size: int) -> tuple[Shapes, str | None]:
    from numpy.lib import format as npy

    if path.is_dir():
        return {}, f"{path} is a folder and should be a file; copy the weights there again."

    def header(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> tuple[Any, bool, Any]:
        with archive.open(member) as file:
            version = npy.read_magic(file)
            return (
                npy.read_array_header_1_0(file)
                if version == (1, 0)
                else npy.read_array_header_2_0(file)
            )

    shapes: Shapes = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                shape, _, dtype = parse_alone(partial(header, archive, member))
                if dtype.hasobject:
                    return {}, (
                        f"{path} holds Python objects ({quote(name)}), which can run code, and was"
                        " not opened; save plain arrays with numpy.savez."
                    )
                if dtype.kind not in "fiu":
                    return {}, f"{path} holds {quote(name)} as {dtype}; save numbers."
                shapes[name] = tuple(int(length) for length in shape)
    except OSError as error:
        return {}, f"{path} cannot be read: {error.strerror or error}."
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError, KeyError):
        return {}, f"{path} is cut short or no NumPy archive; copy it again."
    return shapes, None


def load_arrays(path: Path) -> dict[str, Any]:
    """The arrays of an .npz file as float32 tensors by name; nothing is unpickled.

    Raises:
        ValueError: it is damaged or holds Python objects; with the remedy.
    """
    import numpy as np
    import torch

    _, problem = array_shapes(path)
    if problem is not None:
        raise ValueError(problem)
    try:
        with np.load(path, allow_pickle=False) as data:
            # The header of an array is a Python literal.
            arrays = {name: parse_alone(partial(data.__getitem__, name)) for name in data.files}
        return {name: torch.from_numpy(array.astype(np.float32)) for name, array in arrays.items()}
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error, OSError, KeyError) as error:
        raise ValueError(f"{path} is cut short or corrupted; copy it again.") from error
