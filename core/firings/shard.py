"""One file of firings: whole rows of a text, sorted by row, position and latent, as Parquet.

A file is written beside its place and moved there, so that it is whole or not there at all.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Bool, Float, Int

from core.activations.encoding import Piece
from core.store.leftovers import own_name

GROUP = 1 << 18
"""Firings of a row group: what is read at least."""
_COLUMNS = ("row", "position", "latent", "value")
_FEW_LATENTS = 1 << 17

Firing = tuple[Int[np.ndarray, " n"], Int[np.ndarray, " n"], Float[np.ndarray, " n"]]
"""`(place, latent, value)`, int64, int32 and float32, ascending by place and then latent."""


def shard_name(first: int, last: int) -> str:
    """The file of the rows `first` to `last` (exclusive)."""
    return f"rows-{first:010d}-{last:010d}.parquet"


def write_shard(file: Path, pieces: Sequence[Piece], *, context: int, d_sae: int) -> int:
    """Write firings, `(place, latent, value)` in any order; the bytes that the file has.

    Raises ValueError for activations that are not finite, and OSError where the disk refuses.
    """
    place = np.concatenate([np.empty(0, np.int32), *(piece[0] for piece in pieces)])
    latent = np.concatenate([np.empty(0, np.int32), *(piece[1] for piece in pieces)])
    value = np.concatenate([np.empty(0, np.float32), *(piece[2] for piece in pieces)])
    if not np.isfinite(value).all():
        raise ValueError(
            "Some activations are infinite; load the model and the SAE in float32 instead."
        )
    order = np.argsort(place.astype(np.int64) * d_sae + latent, kind="stable")
    place, latent, value = place[order], latent[order], value[order]
    row, position = np.divmod(place, np.int32(context))
    table = pa.table(dict(zip(_COLUMNS, (row, position, latent, value), strict=True)))
    # Dictionaries pack a latent into as many bits as its number needs; of very many it is as large.
    packed = ["row", "position", *(["latent"] if d_sae <= _FEW_LATENTS else [])]
    plain = {name: "PLAIN" for name in _COLUMNS if name not in packed}
    beside = file.with_suffix(f".{own_name()}.part")
    try:
        with beside.open("wb") as target:
            pq.write_table(
                table,
                target,
                row_group_size=GROUP,
                compression="none",
                use_dictionary=packed,
                column_encoding=plain,
                dictionary_pagesize_limit=8 << 20,
            )
            target.flush()
            os.fsync(target.fileno())
        os.replace(beside, file)
    except BaseException:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise
    return file.stat().st_size


def bytes_a_firing(d_sae: int) -> float:
    """About how many bytes a firing takes on the disk: its value, its latent, and little else."""
    latent = max(1, int(d_sae - 1).bit_length()) / 8 if d_sae <= _FEW_LATENTS else 4.0
    dictionary = 4 * min(d_sae, GROUP) / GROUP if d_sae <= _FEW_LATENTS else 0.0
    return 4.0 + latent + dictionary + 0.3


def read_shard(
    file: Path, *, context: int, wanted: Bool[np.ndarray, " n_rows"] | None = None
) -> Iterator[Firing]:
    """The firings of a file, a row group at a time; of the rows of `wanted` alone, if given.

    Raises ValueError for a file that is not there or is damaged.
    """
    try:
        with pq.ParquetFile(file, memory_map=True) as opened:
            for number in range(opened.num_row_groups):
                if wanted is not None and not _has(opened, number, wanted):
                    continue
                table = opened.read_row_group(number, columns=list(_COLUMNS))
                row, position, latent, value = (
                    table[name].combine_chunks().to_numpy(zero_copy_only=False) for name in _COLUMNS
                )
                yield row.astype(np.int64) * context + position, latent, value
    except (pa.ArrowException, OSError, KeyError) as error:
        raise ValueError(
            f"The firings in {file.name} cannot be read ({error}); delete them and have them made "
            "again."
        ) from error


def _has(opened: pq.ParquetFile, number: int, wanted: Bool[np.ndarray, " n_rows"]) -> bool:
    statistics = opened.metadata.row_group(number).column(0).statistics
    if statistics is None or not statistics.has_min_max:
        return True
    return bool(wanted[statistics.min : statistics.max + 1].any())
