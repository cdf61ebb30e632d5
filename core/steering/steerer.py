"""Hooks that steer each row of a batch in its own way, also token by token under a KV cache.

The change is made where the SAE's output belongs (`written_site`): at its site, the error that the
SAE makes there being kept; a transcoder reads its latents before the layer and changes what the
layer gives out, the rest of which is kept as well. Sums are made in float32 at least and put back
in the site's own type.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from torch import Tensor

from core.models.hooks import HookFunction, Model, hooks_at, layer_of_hook
from core.models.stream import path_to_stream
from core.saes import encode, put_at_site, read_at_site, sae_hook_name
from core.saes.writes import (
    input_scale,
    normalised,
    residual_directions,
    stream_path,
    unit_writes,
    written_site,
)
from core.steering.changes import check_intervention, moved, random_like
from core.steering.intervention import READS_LATENT, Intervention

_ENCODE_BYTES = 64 << 20
_ON_THE_STREAM = ("hook_resid_pre", "hook_resid_mid", "hook_resid_post", "hook_embed")


@dataclass(frozen=True, eq=False)
class _Rows:
    """What the rows of a batch need, as tensors on the device of the site; k slots for latents."""

    latents: Int[Tensor, "rows k"]
    strengths: Float[Tensor, "rows k"]
    used: Bool[Tensor, "rows k"]
    writes: Float[Tensor, "rows k d"]
    gate: Int[Tensor, " rows"]
    """Latent that must be active; -1 for none."""
    first: Int[Tensor, " rows"]
    """First position that may be changed."""
    only: Bool[Tensor, "rows n"]
    """Positions that may be changed, where the row chooses some; empty rows for those that do
    not."""
    stream_length: Float[Tensor, "rows k"]
    """Length of what one unit adds to the stream, where strengths are multiples; else 0."""
    modes: dict[str, Bool[Tensor, " rows"]]
    """Rows of each mode that occurs."""

    def of(self, index: Tensor) -> "_Rows":
        """Some rows, in another order."""
        chosen = {
            name: getattr(self, name)[index]
            for name in self.__dataclass_fields__
            if name != "modes"
        }
        modes = {name: rows[index] for name, rows in self.modes.items()}
        return _Rows(**chosen, modes={name: rows for name, rows in modes.items() if rows.any()})


class Steerer:
    """Interventions by row number, ready to be put on a model; nothing of the model is changed."""

    def __init__(
        self,
        model: Model,
        sae: SAE,
        interventions: Sequence[Intervention],
        *,
        n_prompt: int,
        n_leading: int = 0,
    ) -> None:
        """All rows begin with prompts of `n_prompt` tokens, `n_leading` of them BOS.

        Raises:
            ValueError: a latent that the SAE lacks, a chosen token that the prompt lacks, an SAE
                whose output does not stand at one site of this model, or strengths in lengths of
                the stream where a norm follows the site.
        """
        self.model, self.sae = model, sae
        self._read_site, self._site = sae_hook_name(sae), written_site(sae)
        for it in interventions:
            check_intervention(sae, it, n_prompt)
        path_width = unit_writes(sae, [0]).shape[1]
        self._check_site(path_width)
        self._rows = self._prepared(interventions, n_prompt, n_leading)
        self._last: tuple[tuple[int, ...], _Rows] | None = None

    @contextmanager
    def around(self, numbers: Sequence[int], start: int = 0) -> Iterator[None]:
        """While the block runs, row i of the batch is steered as intervention `numbers[i]` says.

        `start` is the position of the first token that the model reads in this run.
        """
        chosen = tuple(numbers)
        if self._last is None or self._last[0] != chosen:
            device = next(self.model.parameters()).device
            self._last = chosen, self._rows.of(torch.tensor(chosen, device=device))
        rows = self._last[1]
        if not rows.used.any():
            yield
            return
        with hooks_at(self.model, self._hooks(rows, start)):
            yield

    def _check_site(self, width: int) -> None:
        # Which site it is, is all that matters here: the path's refusals are about logits.
        if self._site == self._read_site:
            return
        path_to_stream(self.model, self._site, width)
        before, after = layer_of_hook(self._read_site), layer_of_hook(self._site)
        if before is None or after is None or before > after:
            raise ValueError(
                f"This transcoder reads {self._read_site} after {self._site}, which it writes; "
                "only transcoders that read before they write can be steered."
            )

    def _hooks(self, rows: _Rows, start: int) -> list[tuple[str, HookFunction]]:
        hooks: list[tuple[str, HookFunction]] = []
        kept: dict[str, Tensor] = {}
        reads = bool({*READS_LATENT} & {*rows.modes}) or bool((rows.gate >= 0).any())
        by_stream = bool((rows.stream_length > 0).any())
        elsewhere = self._stream_site()

        def keep_length(activations: Tensor, hook: Any) -> None:
            kept["length"] = activations.float().norm(dim=-1)

        def keep_latents(activations: Tensor, hook: Any) -> None:
            kept["latents"] = self._latents(rows, read_at_site(self.sae, activations))

        def put(activations: Tensor, hook: Any) -> Tensor:
            part = activations
            if self._site == self._read_site:
                part = read_at_site(self.sae, activations)
                if reads:
                    kept["latents"] = self._latents(rows, part)
            wide = torch.promote_types(part.dtype, torch.float32)
            flat = part.flatten(2).to(wide)
            if by_stream and elsewhere is None:
                kept["length"] = flat.norm(dim=-1)
            new = self._changed(rows, flat, kept, start).reshape(part.shape)
            if self._site == self._read_site:
                return put_at_site(self.sae, activations, new)
            return new.to(activations)

        if by_stream and elsewhere is not None:
            hooks.append((elsewhere, keep_length))
        if reads and self._site != self._read_site:
            hooks.append((self._read_site, keep_latents))
        return [*hooks, (self._site, put)]

    def _changed(
        self, rows: _Rows, flat: Float[Tensor, "rows pos d"], kept: dict[str, Tensor], start: int
    ) -> Float[Tensor, "rows pos d"]:
        writes = rows.writes.to(flat)
        unit = writes.norm(dim=-1)[:, None]  # rows 1 k
        if input_scale(self.sae) is not None:
            scale = normalised(self.sae, flat.flatten(0, 1))[1]
            if scale is not None:
                unit = unit * scale.view(*flat.shape[:2], 1)
        unit = unit.expand(*flat.shape[:2], -1)
        strength = rows.strengths.to(flat)[:, None].expand_as(unit)
        if "length" in kept:
            length = rows.stream_length.to(flat)[:, None]
            by_length = strength * kept["length"].to(flat)[..., None] / length.clamp_min(1e-30)
            strength = torch.where(length > 0, by_length, strength)
        directions = writes / writes.norm(dim=-1, keepdim=True).clamp_min(1e-30)
        latents = kept.get("latents")
        now = None if latents is None else latents[..., :-1].to(flat)
        # Every change is so much along a direction of length 1.
        change = torch.zeros_like(unit)
        for mode, in_mode in rows.modes.items():
            change = torch.where(
                in_mode[:, None, None],
                moved(mode, flat, directions, unit, strength, now),
                change,
            )
        where = self._where(rows, flat.shape[1], start, latents)
        change = change * (rows.used[:, None] & where[..., None])
        new = flat + torch.einsum("rpk,rkd->rpd", change, directions)
        if "renormalise" in rows.modes:
            ratio = flat.norm(dim=-1, keepdim=True) / new.norm(dim=-1, keepdim=True)
            new = torch.where(rows.modes["renormalise"][:, None, None], new * ratio, new)
        return torch.where((where & rows.used.any(1)[:, None])[..., None], new, flat)

    def _where(
        self, rows: _Rows, n: int, start: int, latents: Tensor | None
    ) -> Bool[Tensor, "rows pos"]:
        positions = torch.arange(start, start + n, device=rows.first.device)
        where = positions >= rows.first[:, None]
        chosen = torch.zeros_like(where)
        inside = positions < rows.only.shape[1]
        chosen[:, inside] = rows.only[:, positions[inside]]
        where = torch.where(rows.only.any(1, keepdim=True), chosen, where)
        if latents is not None:
            where = where & ((rows.gate < 0)[:, None] | (latents[..., -1] > 0))
        return where

    def _latents(self, rows: _Rows, part: Tensor) -> Float[Tensor, "rows pos k_plus_1"]:
        """Activations of each row's latents, and of its gate, a few rows at a time."""
        wanted = torch.cat([rows.latents, rows.gate.clamp_min(0)[:, None]], 1)
        found = []
        step = max(1, _ENCODE_BYTES // (4 * part.shape[1] * self.sae.cfg.d_sae))
        for first in range(0, len(part), step):
            some = slice(first, first + step)
            latents = encode(self.sae, part[some]).to_dense()
            index = wanted[some, None].expand(-1, part.shape[1], -1).to(latents.device)
            found.append(latents.gather(2, index).to(part.device))
        return torch.cat(found)

    def _stream_site(self) -> str | None:
        """Where the stream's length is read; None for the very site that is changed."""
        if self._site.endswith(_ON_THE_STREAM):
            return None
        return f"blocks.{layer_of_hook(self._site)}.hook_resid_pre"

    def _prepared(
        self, interventions: Sequence[Intervention], n_prompt: int, n_leading: int
    ) -> _Rows:
        device = next(self.model.parameters()).device
        k = max([1, *(len(it.latents) for it in interventions)])
        n = len(interventions)
        latents = torch.zeros(n, k, dtype=torch.long)
        strengths = torch.zeros(n, k, dtype=torch.float64)
        used = torch.zeros(n, k, dtype=torch.bool)
        for row, it in enumerate(interventions):
            m = len(it.latents)
            latents[row, :m] = torch.tensor(it.latents, dtype=torch.long)
            strengths[row, :m] = torch.tensor(it.strengths, dtype=torch.float64)
            used[row, :m] = True
        distinct, inverse = latents.unique(return_inverse=True)
        own = unit_writes(self.sae, distinct).to(device)
        own = own.to(torch.promote_types(own.dtype, torch.float32))
        writes = own[inverse.to(device)].clone()
        for row, it in enumerate(interventions):
            if it.random is not None:
                writes[row] = random_like(writes[row], it.random)
        lengths = torch.zeros(n, k, device=device)
        of_stream = torch.tensor([it.of_stream for it in interventions])
        if of_stream.any():
            lengths[of_stream] = self._stream_lengths(distinct)[inverse.to(device)][of_stream]
        only = torch.zeros(n, n_prompt, dtype=torch.bool)
        for row, it in enumerate(interventions):
            if it.place.kind == "tokens":
                only[row, list(it.place.positions)] = True
        firsts = [n_prompt - 1 if it.place.kind == "after" else n_leading for it in interventions]
        gates = [
            it.place.latent if it.place.kind == "where" and it.place.latent is not None else -1
            for it in interventions
        ]
        modes = {it.mode for it in interventions if it.latents}
        return _Rows(
            latents=latents.to(device),
            strengths=strengths.to(device, torch.float32),
            used=used.to(device),
            writes=writes,
            gate=torch.tensor(gates, device=device),
            first=torch.tensor(firsts, device=device),
            only=only.to(device),
            stream_length=lengths,
            modes={
                mode: torch.tensor([it.mode == mode for it in interventions], device=device)
                for mode in sorted(modes)
            },
        )

    def _stream_lengths(self, latents: Tensor) -> Float[Tensor, " n"]:
        if stream_path(self.model, self.sae).norm is not None:
            raise ValueError(
                "The model normalises what this layer adds to the stream, so strengths in lengths "
                "of the stream are not known here; choose another unit."
            )
        if input_scale(self.sae) is not None:
            raise ValueError(
                "This SAE normalises each input, so what a unit writes differs by position; give "
                "strengths in another unit than lengths of the stream."
            )
        lengths = residual_directions(self.model, self.sae, latents).norm(dim=-1)
        silent = latents[(lengths == 0).cpu()]
        if len(silent):
            raise ValueError(
                f"Latent {int(silent[0])} has a decoder direction of zeros; choose another."
            )
        return lengths.to(next(self.model.parameters()).device, torch.float32)
