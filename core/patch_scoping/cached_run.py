"""Texts of equal length that are read token by token, with what was read so far in a cache."""

from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformer
from transformer_lens.cache.key_value_cache import TransformerLensKeyValueCache

from core.models import Model


class CachedRun:
    """One batch of texts of equal length, and the keys and values of what was read so far.

    In the same words for both model classes.
    """

    def __init__(self, model: Model) -> None:
        self._model = model
        self._cache: Any = None
        self._length = 0

    def step(self, tokens: Int[Tensor, "batch pos"]) -> Float[Tensor, "batch pos vocab"]:
        """Logits of these tokens, which follow the ones given so far."""
        model = self._model
        self._length += tokens.shape[1]
        if isinstance(model, HookedTransformer):
            if self._cache is None:
                self._cache = TransformerLensKeyValueCache.init_cache(
                    model.cfg, tokens.device, len(tokens)
                )
            return model(tokens, return_type="logits", past_kv_cache=self._cache)
        options: dict[str, Any] = {}
        if self._cache is not None:
            options["past_key_values"] = self._cache
            options["attention_mask"] = torch.ones(
                (len(tokens), self._length), dtype=torch.long, device=tokens.device
            )
        logits, cache = model(tokens, return_type="logits_and_cache", use_cache=True, **options)
        self._cache = cache if cache is not None else self._cache
        return logits

    @property
    def can_drop_rows(self) -> bool:
        """Whether rows can be taken out of the cache."""
        return isinstance(self._model, HookedTransformer) or hasattr(
            self._cache, "batch_select_indices"
        )

    def keep_rows(self, rows: Int[Tensor, " kept"]) -> None:
        """Go on with these rows of the batch only."""
        if not isinstance(self._model, HookedTransformer):
            self._cache.batch_select_indices(rows)
            return
        for entry in self._cache.entries:
            entry.past_keys, entry.past_values = entry.past_keys[rows], entry.past_values[rows]
        self._cache.previous_attention_mask = self._cache.previous_attention_mask[rows]

    def fork(self, n: int) -> "CachedRun":
        """What was read so far, of one text, in `n` rows that go on apart from this run."""
        other = CachedRun(self._model)
        other._length = self._length
        if self._cache is None:
            return other
        if not isinstance(self._model, HookedTransformer):
            other._cache = deepcopy(self._cache)
            other._cache.batch_repeat_interleave(n)
            return other
        other._cache = TransformerLensKeyValueCache.init_cache(
            self._model.cfg, self._cache.previous_attention_mask.device, n
        )
        mask = self._cache.previous_attention_mask
        other._cache.previous_attention_mask = mask.expand(n, -1)
        for entry, own in zip(other._cache.entries, self._cache.entries, strict=True):
            entry.past_keys = own.past_keys.expand(n, -1, -1, -1)
            entry.past_values = own.past_values.expand(n, -1, -1, -1)
        return other
