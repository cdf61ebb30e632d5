"""How much memory the container, or the service, that we run in may use.

In a container the machine's free memory says nothing: the kernel ends a process that takes more
than its control group (cgroup) may have, however much the machine has left. Linux, both versions.
"""

from dataclasses import dataclass
from pathlib import Path

_NO_LIMIT = 1 << 60
"""Version 1 writes "no limit" as some 2^63; nobody has that much."""
_MEMBERSHIP, _MOUNT = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class MemoryLimit:
    """The tightest limit that holds for this process."""

    total: int
    """Bytes that the group may use."""
    used: int
    """Bytes that it uses, without what the kernel gives back when asked (cached files)."""

    @property
    def free(self) -> int:
        """Bytes that are left."""
        return max(0, self.total - self.used)


def memory_limit(membership: Path = _MEMBERSHIP, mount: Path = _MOUNT) -> MemoryLimit | None:
    """The limit of this process's group, or of one that it lies in; None where there is none.

    The paths are where Linux says it; tests give others.
    """
    limits = [found for group in _groups(membership, mount) if (found := _limit_of(group))]
    return min(limits, key=lambda it: it.free, default=None)


def _groups(membership: Path, mount: Path) -> list[Path]:
    """Folders of the group and of all that it lies in."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    found = []
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        root = mount / "memory" if controllers else mount
        # A container sees its own group as the root, whatever path it is told.
        group = root / path.lstrip("/")
        found += [root, *(it for it in (group, *group.parents) if root in it.parents)]
    return list(dict.fromkeys(found))


def _limit_of(group: Path) -> MemoryLimit | None:
    for most, used in (
        ("memory.max", "memory.current"),
        ("memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        total, taken = _number(group / most), _number(group / used)
        if total is not None and taken is not None and total < _NO_LIMIT:
            return MemoryLimit(total, max(0, taken - _cached(group)))
    return None


def _number(file: Path) -> int | None:
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isascii() and text.isdigit() else None


def _cached(group: Path) -> int:
    """Bytes of files that were read and not used since: the first to be given back."""
    try:
        lines = (group / "memory.stat").read_text().splitlines()
    except OSError:
        return 0
    words = dict(line.split(maxsplit=1) for line in lines if " " in line)
    text = words.get("total_inactive_file", words.get("inactive_file", "0"))
    return int(text) if text.isascii() and text.isdigit() else 0
