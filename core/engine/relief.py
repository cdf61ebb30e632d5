"""What happens when memory runs out all the same: what is idle goes, and that task alone fails."""

import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from core import device as devices
from core.engine.residents import Residents, free_caches
from core.room import EngineMemoryError


class Relief:
    """Gives memory back, and turns running out of it into a sentence."""

    def __init__(self, residents: Residents, device: Callable[[], str]) -> None:
        self._residents, self._device = residents, device

    def relieve(self) -> int:
        """Unload what is idle and empty the device's caches; bytes of what was unloaded."""
        freed = self._residents.evict()
        free_caches()
        return freed

    def build(self, build: Callable[[], Any]) -> Any:
        """Build an object; when memory runs out, once more after unloading what is idle."""
        try:
            return build()
        except (MemoryError, RuntimeError) as error:
            if not devices.is_out_of_memory(error):
                raise
            traceback.clear_frames(error.__traceback__)
        self.relieve()
        try:
            return build()
        except (MemoryError, RuntimeError) as error:
            if not devices.is_out_of_memory(error):
                raise
            raise self._error("while loading") from error

    @contextmanager
    def task(self) -> Iterator[None]:
        """A block in which running out of memory ends with what to do about it."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if isinstance(error, EngineMemoryError) or not devices.is_out_of_memory(error):
                raise
            # The frames of the failed computation hold the tensors that filled the memory.
            traceback.clear_frames(error.__traceback__)
            self.relieve()
            raise self._error("in this task") from error

    def _error(self, when: str) -> EngineMemoryError:
        device = self._device()
        free = devices.format_bytes(devices.memory_free(device))
        return EngineMemoryError(
            f"Memory on {device} ran out {when}. Everything idle was unloaded and {free} is "
            "free now: try again with a smaller batch, fewer or narrower SAEs, or a smaller model."
        )
