"""Works: what feeds the latent and what it feeds, on its strongest examples, checked."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch

from core.attribution.on_text import reason_against
from core.attribution.sources import attribute_to_sources
from core.circuits.graph import LATENT
from core.circuits.steps import LatentEnd, LogitEnd, Nodes, end_node, step_route
from core.dossier.measure import Measure
from core.dossier.shared import Shared
from core.gradients.verify import Verification, changes, strongest_cells
from core.saes import encode, sae_inputs
from core.steering.measures import mean_interval
from core.tokens import TokenTexts

if TYPE_CHECKING:
    from sae_lens import SAE

    from core.gradients.route import Route
    from core.models import Model

VERSION = 1
N_PROMPTS = 5
"""Strongest examples that are taken apart."""
_N_CELLS = 8
_N_TARGETS = 8
_N_SHOWN = 10


@dataclass(frozen=True, eq=False)
class Works:
    """The ways into one latent and out of it."""

    measures: tuple[Measure, ...]
    """Its numbers."""
    tokens: pd.DataFrame
    """Tokens that feed it: `token`, `back` (tokens before the peak; 0 for itself), `share` (of
    all that tokens bring, mean over the examples), `prompts`."""
    feeds: pd.DataFrame
    """Latents of the SAE before that feed it: `latent`, `share` (signed, of all that it brings),
    `prompts` (in how many of the examples it is among the ten strongest)."""
    fed: pd.DataFrame
    """Latents of the SAE behind that it feeds: `latent`, `effect` (part of that latent's
    activation, mean), `prompts`."""
    heads: pd.DataFrame
    """Heads that feed it, for an SAE of attention: `head`, `share`, `back` (mean distance)."""
    next_tokens: pd.DataFrame
    """The likeliest next tokens at the peaks: `token`, `effect` (of the latent on the logit,
    first-order), `prompts`."""
    prompts: int
    """Examples that were taken apart."""
    before: str
    """SAE before; empty where there is none."""
    after: str
    """SAE behind; empty where there is none."""
    into: str
    """How far interventions agree with what is said of what feeds it, in sentences."""
    out: str
    """The same of what it feeds."""


@dataclass
class _Found:
    """What the examples gave so far."""

    tokens: list[pd.DataFrame] = field(default_factory=list)
    feeds: list[pd.DataFrame] = field(default_factory=list)
    fed: list[pd.DataFrame] = field(default_factory=list)
    heads: list[pd.DataFrame] = field(default_factory=list)
    logits: list[tuple[int, float]] = field(default_factory=list)
    into: list[pd.DataFrame] = field(default_factory=list)
    out: list[pd.DataFrame] = field(default_factory=list)
    rest: list[float] = field(default_factory=list)


def works_section(shared: Shared, latent: int) -> Works:
    """The section of a latent. Raises ValueError for one that never fires on the text."""
    request, units = shared.request, shared.own
    places = units.whole.top_places[latent]
    places = places[places >= 0][:N_PROMPTS]
    if not len(places):
        raise ValueError(
            f"Latent {latent} never fires on this text, so there is nothing to take apart; read a "
            "longer text."
        )
    others = [it for it in (request.before, request.after) if it is not None]
    lease = shared.lease_of(request.model, [request.sae_name, *(it[:2] for it in others)])
    number = {it: i for i, it in enumerate(others, start=1)}
    token_set, found = units.index.token_set, _Found()
    has_heads = reason_against(lease) is None

    def work(model: "Model", saes: "list[SAE]", first: int, last: int) -> None:
        own = saes[0]
        before = None if request.before is None else saes[number[request.before]]
        after = None if request.after is None else saes[number[request.after]]
        for place in places[first:last].tolist():
            row, position = divmod(place, token_set.context)
            ids = token_set.tokens[row, : position + 1].astype(np.int64)
            tokens = torch.from_numpy(ids)[None].to(next(model.parameters()).device)
            end = end_node(model, tokens, own, LatentEnd(position, latent))
            _into(found, model, tokens, before, own, end)
            _out(found, model, tokens, own, after, end)
            if has_heads:
                _heads(found, model, own, tokens, latent, position)

    lease.in_turns(len(places), work, unit="examples", message="Taking examples apart")
    return _section(shared, found, len(places))


def _into(
    found: _Found,
    model: "Model",
    tokens: torch.Tensor,
    before: "SAE | None",
    own: "SAE",
    end: Nodes,
) -> None:
    """What tokens and the SAE before bring to the latent at the last position."""
    last = tokens.shape[1] - 1
    route = step_route(model, tokens, None, own, end)
    brought = _attributions(route)[0]
    places = route.source_indices[:, 1].cpu().numpy()
    found.tokens.append(
        pd.DataFrame(
            {
                "id": route.source_indices[:, 2].cpu().numpy(),
                "back": last - places,
                "share": brought / _size(brought),
            }
        )
    )
    if before is None:
        return
    route = step_route(model, tokens, before, own, end)
    gradients = route.gradients()
    values = route.source_values.double().cpu().numpy()
    brought = gradients.double().cpu().numpy()[0] * values
    latents = route.source_indices[:, 2].cpu().numpy()
    size = _size(brought)
    found.rest.append(float(np.abs(brought[latents < 0]).sum() / size))
    table = pd.DataFrame({"latent": latents, "share": brought / size})
    summed = table[table["latent"] >= 0].groupby("latent", as_index=False)["share"].sum()
    order = summed["share"].abs().sort_values(ascending=False).index[:_N_SHOWN]
    found.feeds.append(summed.loc[order])
    # The rest is no latent that could be taken away.
    known = np.where(latents >= 0, brought, 0.0)[None]
    cells = strongest_cells(known, _N_CELLS)
    if cells:
        found.into.append(changes(route, gradients, cells))


def _out(
    found: _Found, model: "Model", tokens: torch.Tensor, own: "SAE", after: "SAE | None", end: Nodes
) -> None:
    """What the latent at the last position brings to the SAE behind, and to the next token."""
    position, latent = int(end.positions[0]), int(end.indices[0])
    logit = end_node(model, tokens, own, LogitEnd())
    route = step_route(model, tokens, own, None, logit)
    mine = _column(route, position, latent)
    effect = float(_attributions(route)[0, mine])
    found.logits.append((int(logit.indices[0]), effect))
    if after is None:
        return
    with torch.no_grad():
        active = encode(after, sae_inputs(model, after, tokens)[:, position])[0].to_dense()
    values, indices = active.topk(min(_N_TARGETS, len(active)))
    kept = (values > 0).cpu().numpy()
    if not kept.any():
        return
    n = int(kept.sum())
    targets = Nodes(
        np.full(n, LATENT, dtype=object),
        np.full(n, position),
        indices.cpu().numpy()[kept],
        values.double().cpu().numpy()[kept],
        np.ones(n),
        np.ones(n),
    )
    route = step_route(model, tokens, own, after, targets)
    mine = _column(route, position, latent)
    gradients = route.gradients()
    effects = gradients[:, mine].double().cpu().numpy() * float(route.source_values[mine])
    found.fed.append(pd.DataFrame({"latent": targets.indices, "effect": effects / targets.values}))
    found.out.append(changes(route, gradients, [(row, mine) for row in range(n)]))


def _heads(
    found: _Found, model: "Model", own: "SAE", tokens: torch.Tensor, latent: int, position: int
) -> None:
    terms = attribute_to_sources(model, own, tokens, latent, position).terms.numpy()
    size = _size(terms)
    back = position - np.arange(terms.shape[1])
    weights = np.abs(terms)
    distance = (weights * back).sum(1) / np.maximum(weights.sum(1), 1e-12)
    heads = {"head": np.arange(len(terms)), "share": terms.sum(1) / size, "back": distance}
    found.heads.append(pd.DataFrame(heads))


def _section(shared: Shared, found: _Found, n: int) -> Works:
    request, vocabulary = shared.request, shared.own.index.vocabulary
    feeds = _averaged(found.feeds, "latent", "share", n)
    into = Verification.of(pd.concat(found.into)) if found.into else None
    out = Verification.of(pd.concat(found.out)) if found.out else None
    measures = [
        Measure(
            "repeated",
            "Examples in which the strongest feeding latent is among the ten strongest",
            float(feeds["prompts"].iloc[0]) / n if len(feeds) else float("nan"),
            n=n,
            of="examples",
            is_share=True,
        ),
        Measure(
            "rest",
            "Share of what feeds it that the SAE before leaves unexplained",
            *mean_interval(found.rest),
            n=len(found.rest),
            of="examples",
            is_share=True,
        ),
    ]
    for name, words, check in (("into", "what feeds it", into), ("out", "what it feeds", out)):
        measures.append(
            Measure(
                f"check_{name}",
                f"Ablation against the gradients, {words} (correlation)",
                float("nan") if check is None else check.ablation.correlation,
                n=0 if check is None else len(check.cells),
                of="interventions",
            )
        )
    return Works(
        measures=tuple(measures),
        tokens=_by_token(found.tokens, vocabulary, n),
        feeds=feeds,
        fed=_averaged(found.fed, "latent", "effect", n),
        heads=_averaged(found.heads, "head", "share", n, also="back"),
        next_tokens=_next(found.logits, vocabulary),
        prompts=n,
        before="" if request.before is None else request.before[1],
        after="" if request.after is None else request.after[1],
        into="" if into is None else into.verdict,
        out="" if out is None else out.verdict,
    )


def _averaged(
    parts: list[pd.DataFrame], by: str, value: str, n: int, *, also: str = ""
) -> pd.DataFrame:
    """Mean over the examples, 0 in those where it is missing; the strongest first."""
    columns = [by, value, "prompts", *([also] if also else [])]
    if not parts:
        return pd.DataFrame(columns=columns)
    whole = pd.concat(parts).groupby(by)
    table = pd.DataFrame({value: whole[value].sum() / n, "prompts": whole.size()})
    if also:
        table[also] = whole[also].mean()
    order = table[value].abs().sort_values(ascending=False, kind="stable").index[:_N_SHOWN]
    return table.loc[order].reset_index()[columns]


def _by_token(parts: list[pd.DataFrame], vocabulary: TokenTexts, n: int) -> pd.DataFrame:
    whole = pd.concat(parts).groupby(["id", "back"])
    table = pd.DataFrame({"share": whole["share"].sum() / n, "prompts": whole.size()})
    order = table["share"].abs().sort_values(ascending=False, kind="stable").index[:_N_SHOWN]
    table = table.loc[order].reset_index()
    table.insert(0, "token", [vocabulary.text(int(it)) for it in table["id"]])
    return table[["token", "back", "share", "prompts"]]


def _next(logits: list[tuple[int, float]], vocabulary: TokenTexts) -> pd.DataFrame:
    table = pd.DataFrame(logits, columns=["id", "effect"]).groupby("id")["effect"]
    found = pd.DataFrame({"effect": table.mean(), "prompts": table.size()}).reset_index()
    found = found.sort_values(["prompts", "effect"], ascending=False, kind="stable")
    found.insert(0, "token", [vocabulary.text(int(it)) for it in found["id"]])
    return found[["token", "effect", "prompts"]].reset_index(drop=True)


def _attributions(route: "Route") -> np.ndarray:
    return route.gradients(kind="attribution").double().cpu().numpy()


def _column(route: "Route", position: int, latent: int) -> int:
    """Number of a source. It is there: the latent is active at its peak."""
    indices = route.source_indices
    same = (indices[:, 1] == position) & (indices[:, 2] == latent)
    return int(torch.nonzero(same)[0, 0])


def _size(values: np.ndarray) -> float:
    return float(np.abs(values).sum()) or 1.0
