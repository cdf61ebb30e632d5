"""The part of a model between two sites, as a function of what stands at the first."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from transformer_lens import HookedTransformer

from core.models.hooks import (
    HookFunction,
    Model,
    context_length,
    has_hook,
    hooks_at,
    layer_of_hook,
    resolve_hook_name,
    run_with_replacements,
)

LOGIT_SITE = "unembed.hook_in"
"""What the unembedding reads; logits are a function of one position of it."""


class _Reached(Exception):
    """Ends a run once the target site was read."""


@dataclass(frozen=True)
class Segment:
    """A model from `source_site` to `target_site`, all else being as on the clean prompt.

    The residual stream that enters the source's layer is that of the clean run, and so is
    whatever is frozen.
    """

    model: Model
    """Model to run."""
    tokens: Int[Tensor, "batch pos"]
    """The prompts."""
    source_site: str
    """Site whose activations are given."""
    target_site: str
    """Site whose activations are wanted; the same site, or one that fires later."""
    start_layer: int | None
    """Layer to start from; None starts from the tokens."""
    residual: Float[Tensor, "batch pos d_model"] | None
    """Clean residual stream before that layer; None where `source_site` is that stream."""
    frozen: dict[str, Tensor] = field(default_factory=dict)
    """Sites held at these clean values, each [batch, ...]."""
    is_causal: bool = True
    """Whether a position depends only on those before it: then prompts may be cut short."""

    def run(
        self, source: Float[Tensor, "copies cut ..."], items: Int[Tensor, " copies"]
    ) -> Float[Tensor, "copies cut ..."]:
        """Activations at the target for `source`, the first `cut` positions of prompts `items`.

        Gradients flow if they are enabled. The answer has the target site's own shape.
        """
        return self.read(source, items, ())[self.target_site]

    def read(
        self,
        source: Float[Tensor, "copies cut ..."],
        items: Int[Tensor, " copies"],
        names: Sequence[str],
    ) -> dict[str, Tensor]:
        """The same, with what stands at other sites on the way as well; each by its name."""
        if self.source_site == self.target_site:
            return {self.target_site: source.clone()}
        cut = source.shape[1]
        tokens = self.tokens[items, :cut]
        hooks = [(name, _put(_cut(name, value[items], cut))) for name, value in self.frozen.items()]
        entry = source
        if self.residual is not None or self.start_layer is None:
            hooks.append((self.source_site, _put(source)))
        if self.residual is not None:
            entry = self.residual[items, :cut]
        starts_inside = isinstance(self.model, HookedTransformer) and self.start_layer is not None
        if self.start_layer is not None and not starts_inside:
            # A bridge cannot start in the middle: the layers before run for nothing.
            hooks.append((f"blocks.{self.start_layer}.hook_resid_pre", _put(entry)))
        with _reading(self.model, self.target_site, hooks, names) as seen:
            if starts_inside:
                entry = entry.to(self.model.cfg.dtype)
                self.model(entry, start_at_layer=self.start_layer, return_type="logits")
            else:
                self.model(tokens, return_type="logits")
        return seen

    @property
    def layers(self) -> range:
        """Layers that a run of the segment goes through, for estimates of its cost."""
        first, last = _layer_span(self.model, self.source_site, self.target_site)
        return range(first, last)


def open_segment(
    model: Model,
    tokens: Int[Tensor, "batch pos"],
    source_site: str,
    target_site: str,
    *,
    freeze_attention: bool = False,
    freeze_layer_norm: bool = False,
    hold: Sequence[str] = (),
    also_cache: Sequence[str] = (),
) -> tuple[Segment, dict[str, Tensor]]:
    """The segment, and the clean activations at both of its sites and at `also_cache`.

    Attention patterns or the scales of LayerNorms (RMSNorms) between the sites are held at their
    clean values if asked for, and so are the sites of `hold`, which must lie between them too.

    Raises:
        ValueError: the target fires before the source, or the model does not let go of what is
            to be frozen.
    """
    # Under the names that were given: those of SAEs, which users know.
    check_order(model, source_site, target_site)
    source_site = resolve_hook_name(model, source_site)
    target_site = resolve_hook_name(model, target_site)
    first, last = _layer_span(model, source_site, target_site)
    frozen: list[str] = []
    if freeze_attention:
        frozen += _pattern_sites(model, first, last)
    if freeze_layer_norm:
        frozen += _scale_sites(model, first, last, target_site)
    frozen += [resolve_hook_name(model, site) for site in hold]
    start_layer, starts_at_source = _start(model, source_site)
    names = [source_site, target_site, *frozen, *also_cache]
    residual_site = f"blocks.{start_layer}.hook_resid_pre"
    needs_residual = start_layer is not None and not starts_at_source
    cache = _read_sites(model, tokens, names + [residual_site] * needs_residual)
    segment = Segment(
        model=model,
        tokens=tokens,
        source_site=source_site,
        target_site=target_site,
        start_layer=start_layer,
        residual=cache[residual_site] if needs_residual else None,
        frozen={name: cache[name] for name in frozen},
        is_causal=getattr(model.cfg, "attention_dir", "causal") == "causal",
    )
    clean = {"source": cache[source_site], "target": cache[target_site]}
    return segment, clean | {name: cache[name] for name in also_cache}


def check_order(model: Model, source_site: str, target_site: str) -> None:
    """Raise ValueError unless `source_site` fires before `target_site`, or is the same site."""
    if resolve_hook_name(model, source_site) == resolve_hook_name(model, target_site):
        return
    probe = torch.zeros(1, 1, dtype=torch.long, device=device_of(model))
    fired = list(_read_sites(model, probe, [source_site, target_site]))
    if fired != [source_site, target_site]:
        raise ValueError(
            f"{target_site} comes before {source_site} in the model, so nothing flows from the "
            "second to the first: choose the earlier site as the source."
        )


def device_of(model: Model) -> torch.device:
    """Where the model is."""
    return next(model.parameters()).device


def _read_sites(model: Model, tokens: Tensor, names: Sequence[str]) -> dict[str, Tensor]:
    """Activations at each site, in the order in which the sites fire.

    As `cache_sites`, which does not keep that order and stops short of the unembedding.
    """
    wanted = set(names)
    cache: dict[str, Tensor] = {}

    def keep(name: str) -> HookFunction:
        def hook_function(activations: Tensor, hook: Any) -> None:
            cache[name] = activations.detach().clone()
            if len(cache) == len(wanted):
                raise _Reached

        return hook_function

    hooks = [(name, keep(name)) for name in wanted]
    with torch.no_grad(), hooks_at(model, hooks), suppress(_Reached):
        model(tokens, return_type="logits")
    missing = wanted - set(cache)
    if missing:
        raise ValueError(f"The model ran without reaching {', '.join(sorted(missing))}.")
    return cache


@contextmanager
def _reading(
    model: Model,
    target_site: str,
    hooks: list[tuple[str, HookFunction]],
    names: Sequence[str] = (),
) -> Iterator[dict[str, Tensor]]:
    """Run the block's model until the target fired; what it and `names` hold ends up in the dict.

    A bridge runs its first layers on other activations, so what fires last counts.
    """
    seen: dict[str, Tensor] = {}

    def keep(name: str) -> HookFunction:
        def hook_function(activations: Tensor, hook: Any) -> None:
            seen[name] = activations
            if name == target_site:
                raise _Reached

        return hook_function

    readers = [(name, keep(name)) for name in dict.fromkeys([*names, target_site])]
    with warnings.catch_warnings(), suppress(_Reached):
        # A bridge announces that a norm with a frozen scale is computed from that scale.
        warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")
        with hooks_at(model, [*hooks, *readers]):
            yield seen


def _put(new: Tensor) -> HookFunction:
    def hook_function(activations: Tensor, hook: Any) -> Tensor:
        return new.reshape(activations.shape).to(activations)

    return hook_function


def _cut(name: str, clean: Tensor, cut: int) -> Tensor:
    # Patterns are [batch, head, query, key], scales [batch, pos, ...].
    return clean[..., :cut, :cut] if name.endswith("hook_pattern") else clean[:, :cut]


def _start(model: Model, source_site: str) -> tuple[int | None, bool]:
    """Layer to start from, and whether the stream that enters it is the source itself."""
    layer = layer_of_hook(source_site)
    if layer is None:
        return None, False
    here, after = f"blocks.{layer}.hook_resid_pre", f"blocks.{layer + 1}.hook_resid_pre"
    if source_site == resolve_hook_name(model, here):
        return layer, True
    is_output = source_site == resolve_hook_name(model, f"blocks.{layer}.hook_resid_post")
    if is_output and has_hook(model, after):
        return layer + 1, True
    return layer, False


def _layer_span(model: Model, source_site: str, target_site: str) -> tuple[int, int]:
    """First layer on the way, and one past the last."""
    last = layer_of_hook(target_site)
    end = int(model.cfg.n_layers) if last is None else last + 1
    if last is not None and has_hook(model, f"blocks.{last}.hook_resid_pre"):
        end -= target_site == resolve_hook_name(model, f"blocks.{last}.hook_resid_pre")
    return layer_of_hook(source_site) or 0, end


def _pattern_sites(model: Model, first: int, last: int) -> list[str]:
    """Attention patterns of these layers. Raises ValueError where they cannot be held."""
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(first, last)]
    _check_freezable(model, names, "attention patterns", lambda pattern: pattern * 0.5)
    return names


def _scale_sites(model: Model, first: int, last: int, target_site: str) -> list[str]:
    """Scales of every normalisation on the residual stream in these layers.

    Raises ValueError where they cannot be held.
    """
    names = []
    for layer in range(first, last):
        found = [f"blocks.{layer}.{norm}.hook_scale" for norm in ("ln1", "ln2")]
        found += [f"blocks.{layer}.{norm}_post.hook_scale" for norm in ("ln1", "ln2")]
        names += [name for name in found if has_hook(model, name)]
    if layer_of_hook(target_site) is None:
        names += ["ln_final.hook_scale"]
    if last > first or layer_of_hook(target_site) is None:
        _check_freezable(model, names, "LayerNorm scales", lambda scale: scale * 2)
    return names


def _check_freezable(
    model: Model, names: list[str], what: str, change: Callable[[Tensor], Tensor]
) -> None:
    """Raise ValueError unless writing to these sites changes what the model says."""
    advice = f"The {what} of this model cannot be frozen: use them live."
    if any(not has_hook(model, name) for name in names):
        raise ValueError(f"{advice} (It has no {next(n for n in names if not has_hook(model, n))})")
    if not names:
        return
    probe = torch.arange(min(3, context_length(model)), device=device_of(model))[None]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="A forward hook edited hook_scale")
        plain = run_with_replacements(model, probe, {})
        changed = run_with_replacements(model, probe, {names[-1]: change})
    if torch.allclose(plain, changed, atol=1e-6):
        raise ValueError(f"{advice} (It only reports {names[-1]}, and ignores what is put there.)")
