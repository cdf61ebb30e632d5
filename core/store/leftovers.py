"""Files beside the store that nobody uses any more: texts that users brought, passes cut off,
notes of questions that a killed process had asked.

All are of use for a while (a link to a text, a pass that goes on where it was), so they go by age:
at the start, whenever another such file is written, and earlier where the disk is full.
"""

import logging
import os
import platform
import time
from contextlib import suppress
from pathlib import Path

log = logging.getLogger(__name__)

_DAY = 86_400.0
AGES = {"texts": 30 * _DAY, "passes": 7 * _DAY, "asked": 30 * _DAY}
"""Seconds after which a file of each folder goes, since it was last written or read."""
_UNFINISHED = 3600.0
"""Seconds after which a file that was never finished goes; a pass is written every 20 s."""
_TOUCHED = 3600.0


def sweep(directory: Path, *, full: bool = False) -> int:
    """Remove what is too old from the folders in `directory`; the bytes that are free again.

    With `full`, passes go as soon as nobody can be writing them.
    """
    now, freed = time.time(), 0
    for folder, age in AGES.items():
        for file in _files(directory / folder):
            with suppress(OSError):
                found = file.stat()
                is_rest = file.suffix == ".part" or (full and folder == "passes")
                if now - found.st_mtime > (_UNFINISHED if is_rest else age):
                    file.unlink()
                    freed += found.st_size
    if freed:
        log.info("Removed %s bytes of old texts and passes in %s", f"{freed:,}", directory)
    return freed


def own_name() -> str:
    """Told apart from every other process that may write beside us, on this machine or another."""
    return f"{platform.node()}.{os.getpid()}"


def write_whole(file: Path, data: bytes) -> None:
    """Write a file, whole or not at all, and make its folder. Raises OSError."""
    beside = file.with_name(f"{file.name}.{own_name()}.part")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with beside.open("wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        os.replace(beside, file)
    except OSError:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise


def use(file: Path) -> None:
    """Note that a file is still used."""
    with suppress(OSError):
        if time.time() - file.stat().st_mtime > _TOUCHED:
            os.utime(file)


def _files(folder: Path) -> list[Path]:
    try:
        return [file for file in folder.iterdir() if file.is_file()]
    except OSError:
        return []
