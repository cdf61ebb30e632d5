"""One prompt, with something added at its last position: what is predicted next, row by row.

Everything before the last position is read once and stays in the KV cache.
"""

from typing import Any

import torch
from jaxtyping import Float
from sae_lens import SAE
from torch import Tensor
from transformer_lens import HookedTransformer

from core.corpus.prompt import prompt_for
from core.models import Model, cache_sites, hooks_at
from core.patch_scoping.cached_run import CachedRun
from core.saes import encode, put_at_site, read_at_site, sae_hook_name
from core.saes.writes import input_scale, normalised, written_site

_BYTES = 128 << 20


class LastPosition:
    """A prompt ready to be steered at its last position; nothing of the model is changed."""

    def __init__(self, model: Model, sae: SAE, text: str) -> None:
        """Raises ValueError as `prompt_for`."""
        self.model, self.sae = model, sae
        self._site = written_site(sae)
        self._tokens = prompt_for(model, [sae], text).tokens
        read = sae_hook_name(sae)
        sites = cache_sites(model, self._tokens, list(dict.fromkeys([read, self._site])))
        last = read_at_site(sae, sites[read])[:, -1:]
        self.largest = float(encode(sae, last).to_dense().max())
        """Largest activation of any latent at the last position."""
        there = sites[self._site][:, -1:] if self._site != read else last
        self.length = float(there.float().norm())
        """Length of what stands at the site there."""
        self._scale = 1.0
        if input_scale(sae) is not None:
            scale = normalised(sae, last.flatten(2)[0].float())[1]
            self._scale = 1.0 if scale is None else float(scale)
        self._before = self._read_before()
        self.unsteered = self._run(1, None)[0]
        """Log-probabilities of the next token, unsteered."""
        self.rows_at_once = max(1, min(4096, _BYTES // (4 * 4 * int(model.cfg.d_vocab))))
        """Rows whose predictions fit in memory together."""

    def log_probs(
        self, writes: Float[Tensor, "n d"], strengths: Float[Tensor, " n"]
    ) -> Float[Tensor, "n vocab"]:
        """Next-token log-probabilities with `strengths[i] · writes[i]` added at the last position.

        `writes` are rows of the SAE's output, what a unit of activation adds to it.
        """
        change = writes * (strengths.to(writes) * self._scale)[:, None]
        return self._run(len(writes), change)

    def _run(self, n: int, change: Tensor | None) -> Float[Tensor, "n vocab"]:
        def add(activations: Tensor, hook: Any) -> Tensor:
            if change is None:
                return activations
            whole = self._site != sae_hook_name(self.sae)
            part = activations if whole else read_at_site(self.sae, activations)
            new = part.clone()
            wide = torch.promote_types(part.dtype, torch.float32)
            shape = part[:, -1].shape
            new[:, -1] = (part[:, -1].to(wide) + change.to(part.device, wide).view(shape)).to(part)
            return new if whole else put_at_site(self.sae, activations, new)

        with torch.no_grad(), hooks_at(self.model, [(self._site, add)]):
            if self._before is None:
                logits = self.model(self._tokens.expand(n, -1), return_type="logits")
            else:
                logits = self._before.fork(n).step(self._tokens[:, -1:].expand(n, -1))
        return logits[:, -1].float().log_softmax(-1)

    def _read_before(self) -> CachedRun | None:
        cached = isinstance(self.model, HookedTransformer) or bool(
            getattr(self.model.adapter, "supports_kv_cache", True)
        )
        if not cached or self._tokens.shape[1] < 2:
            return None
        run = CachedRun(self.model)
        with torch.no_grad():
            run.step(self._tokens[:, :-1])
        return run
