"""Leave a shared model as it was found, whatever a user's function did to it."""

import functools
import logging
from collections.abc import Iterable
from typing import Any

from torch import nn

logger = logging.getLogger(__name__)

_HOOK_TABLES = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
_LIBRARIES = ("transformer_lens", "transformers", "torch", "accelerate", "sae_lens")
_NONE: frozenset[int] = frozenset()
_SHOWN = 5
"""Leftovers that the log names one by one."""


class ModelGuard:
    """Remembers hooks, gradients and modes of some modules, and puts them back.

    Everything counts as a leftover that was not there when the guard was made: hooks of torch and
    of transformer_lens (permanent ones too), attached SAEs, `.grad`, `requires_grad`, train mode.
    Exempt are the hooks that the libraries install for themselves on their own modules, some of
    them only during the first run: without them, sites like `hook_mlp_in` would stay silent.
    """

    def __init__(self, roots: Iterable[nn.Module]) -> None:
        self._roots = list(roots)
        self._modules = self._walk()
        self._hooks = {id(module): _hook_ids(module) for module in self._modules}
        self._modes = [(root, root.training) for root in self._roots]
        self._parameters = [
            (parameter, parameter.requires_grad, parameter.grad is not None)
            for module in self._modules
            for parameter in module._parameters.values()
            if parameter is not None
        ]

    def restore(self) -> list[str]:
        """Remove leftovers; returns what they were, for the log (empty when there were none)."""
        found = self._detach_saes()
        for module in self._modules:
            if _remove_hooks(module, self._hooks.get(id(module), _NONE)):
                found.append(f"hooks at {getattr(module, 'name', None) or type(module).__name__}")
        for parameter, required_grad, had_grad in self._parameters:
            if parameter.requires_grad != required_grad:
                found.append("a parameter's requires_grad")
                parameter.requires_grad_(required_grad)
            if not had_grad:
                parameter.grad = None
        for root, training in self._modes:
            if root.training != training:
                found.append("train mode")
                root.train(training)
            if root.__dict__.get("is_caching"):
                root.is_caching = False  # type: ignore[assignment]
        if found:
            shown = "; ".join(found[:_SHOWN]) + ("; …" if len(found) > _SHOWN else "")
            logger.warning("Removed what a task left on a shared model: %s", shown)
        return found

    def _detach_saes(self) -> list[str]:
        found = []
        for root in self._roots:
            attached = getattr(root, "acts_to_saes", None)
            if attached:
                found.append(f"SAEs attached at {', '.join(attached)}")
                reset_saes: Any = root.reset_saes
                reset_saes()
        if found:
            # Detaching puts new modules where the SAEs were.
            self._modules = self._walk()
        return found

    def _walk(self) -> list[nn.Module]:
        return list(
            {id(module): module for root in self._roots for module in root.modules()}.values()
        )


def _hook_ids(module: nn.Module) -> frozenset[int]:
    # Ids of torch's handles are unique in the process, so one set serves all tables.
    if not (
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
    ):
        return _NONE
    return frozenset(hook_id for table in _HOOK_TABLES for hook_id in getattr(module, table))


def _remove_hooks(module: nn.Module, keep: frozenset[int]) -> bool:
    """Remove the hooks of one module whose ids are not in `keep`; whether there were any."""
    if module.__dict__.get("ctx") and hasattr(module, "clear_context"):
        module.clear_context()  # type: ignore[operator]
    extra = _hook_ids(module) - keep
    if not extra:
        return False
    # At a HookPoint the function is transformer_lens' wrapper, and the hook is a user's.
    is_hook_point = "fwd_hooks" in module.__dict__
    removed = set()
    for table in _HOOK_TABLES:
        entries = getattr(module, table)
        for hook_id in extra & set(entries):
            if is_hook_point or not _is_library_hook(entries[hook_id]):
                del entries[hook_id]
                removed.add(hook_id)
    for name in ("fwd_hooks", "bwd_hooks") if is_hook_point else ():
        # transformer_lens keeps a list of its own beside torch's table.
        handles = getattr(module, name)
        setattr(module, name, [handle for handle in handles if handle.hook.id not in removed])
    return bool(removed)


def _is_library_hook(function: Any) -> bool:
    while isinstance(function, functools.partial):
        function = function.func
    origin = getattr(function, "__module__", None) or type(function).__module__
    return origin.partition(".")[0] in _LIBRARIES


def size_in_bytes(module: object) -> int:
    """Bytes of all parameters and buffers, shared storage counted once; 0 for other objects."""
    if not isinstance(module, nn.Module):
        return 0
    storages = {}
    for tensor in (*module.parameters(), *module.buffers()):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
