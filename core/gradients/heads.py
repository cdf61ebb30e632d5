"""Random tokens that repeat: what attention heads do on them, and which SAEs that points to."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from jaxtyping import Float, Int
from plotly.subplots import make_subplots
from torch import Tensor

from core.catalog.entries import SaeEntry
from core.gradients.matrix import token_texts
from core.gradients.repeated_tokens import n_leading, repeated_tokens
from core.gradients.sae_choices import attention, read_alike
from core.lease import Lease
from core.models.hooks import Model, cache_sites
from core.plotly_text import escaped
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec

N_PROMPTS = 4
"""Random prompts that are looked at together."""
_VERSION = 3
_SCORES = (
    ("previous_token", "Looks at the token before"),
    ("induction", "Looks behind the earlier occurrence"),
)
_DARK = [[0.0, "#161a22"], [1.0, "#4aa3ff"]]


@dataclass(frozen=True)
class HeadsRequest:
    """Scores of all heads on random repeated tokens."""

    model: str
    """Name of the model."""
    length: int
    """Tokens that are repeated."""
    seed: int
    """Which tokens."""

    @property
    def key(self) -> str:
        """Key of the job."""
        return "heads:" + json.dumps([_VERSION, asdict(self)])


@dataclass(frozen=True, eq=False)
class HeadsResult:
    """What the heads do."""

    scores: pd.DataFrame
    """As `head_scores`."""
    tokens: tuple[str, ...]
    """Texts of the first prompt."""
    patterns: Mapping[tuple[int, int], Float[np.ndarray, "pos pos"]]
    """On the first prompt, of the heads concerned: by layer and head, the strongest first."""

    @property
    def titles(self) -> dict[tuple[int, int], str]:
        """What these heads do."""
        return concerned_heads(self.scores)


_CODEC = dataclass_codec(HeadsResult)


def find_heads(lease: Lease, store: Store, request: HeadsRequest) -> HeadsResult:
    """Scores of all heads, and the patterns of those that matter most; from the store if there.

    Raises:
        ValueError: a length that the model cannot repeat.
    """
    lease.progress.update(0, 1, unit="models", message="Looking where heads look")
    with lease.turn() as (model, _):
        tokens = repeated_tokens(model, request.length, n_prompts=N_PROMPTS, seed=request.seed)
        parameters = {"model": lease.model_fingerprint, "tokens": tokens.tolist()}

    def compute() -> HeadsResult:
        with lease.turn() as (model, _):
            scores = head_scores(model, tokens)
            concerned = concerned_heads(scores)
            names = {layer: f"blocks.{layer}.attn.hook_pattern" for layer, _ in sorted(concerned)}
            found = cache_sites(model, tokens[:1], list(names.values()))
            return HeadsResult(
                scores=scores,
                tokens=tuple(token_texts(model, tokens[:1])[0]),
                patterns={
                    (layer, head): found[names[layer]][0, head].float().cpu().numpy()
                    for layer, head in concerned
                },
            )

    key = Key("heads", _VERSION, parameters)
    return store.get_or_compute(key, compute, _CODEC, waiting=lease.progress.check)


@torch.no_grad()
def head_scores(model: Model, tokens: Int[Tensor, "prompts pos"]) -> pd.DataFrame:
    """How far each attention head looks at the previous token, and how far it does induction.

    `tokens` are repeated, as `repeated_tokens` makes them. A row a head: layer, head,
    previous_token (mean attention from a position to the one before), induction (mean attention
    from each token of the second half to the one after its first occurrence).
    """
    tokens = tokens[None] if tokens.dim() == 1 else tokens
    length, front = tokens.shape[1] // 2, n_leading(tokens)
    names = [f"blocks.{layer}.attn.hook_pattern" for layer in range(model.cfg.n_layers)]
    rows = []
    for layer, pattern in enumerate(cache_sites(model, tokens, names).values()):
        previous = pattern.diagonal(-1, dim1=-2, dim2=-1).mean((0, -1))
        # The k-th entry of this diagonal is attention from position k + length - 1 to k.
        induction = pattern.diagonal(1 - length, dim1=-2, dim2=-1)[..., front + 1 :].mean((0, -1))
        rows += [
            {"layer": layer, "head": head, "previous_token": float(p), "induction": float(i)}
            for head, (p, i) in enumerate(zip(previous, induction, strict=True))
        ]
    return pd.DataFrame(rows)


def induction_layers(scores: pd.DataFrame, layers: Iterable[int]) -> tuple[int, int] | None:
    """Of these layers the one with the strongest previous-token head, and a later one.

    The later one has the strongest induction head of all but the first of them. `scores` is what
    `head_scores` gives; None for fewer than two layers.
    """
    among = sorted(set(layers))
    if len(among) < 2:
        return None
    by_layer = scores.groupby("layer")[["previous_token", "induction"]].max()
    late = max(among[1:], key=lambda layer: float(by_layer["induction"].get(layer, 0.0)))
    earlier = [layer for layer in among if layer < late]
    return max(earlier, key=lambda layer: float(by_layer["previous_token"].get(layer, 0.0))), late


def concerned_heads(scores: pd.DataFrame) -> dict[tuple[int, int], str]:
    """The heads that look most at the token before, and those that do most induction."""
    found: dict[tuple[int, int], str] = {}
    for column, n, words in (
        ("previous_token", 2, "looks at the token before"),
        ("induction", 3, "looks behind the earlier occurrence"),
    ):
        best = scores.sort_values(column, ascending=False, kind="stable").head(n)
        for row in best.itertuples():
            share = float(getattr(row, column))
            found.setdefault(
                (int(row.layer), int(row.head)),
                f"Layer {row.layer}, head {row.head}: {words} ({share:.0%})",
            )
    return found


def suggested_pair(
    scores: pd.DataFrame, entries: Sequence[SaeEntry]
) -> tuple[SaeEntry, SaeEntry] | None:
    """SAEs at the strongest induction head and at the strongest previous-token head before it.

    Of one release if possible, and only SAEs that are read alike; None where there are no two.
    """
    saes = [entry for entry in attention(entries) if entry.layer is not None]
    pair = induction_layers(scores, [entry.layer for entry in saes if entry.layer is not None])
    if pair is None:
        return None
    early, late = pair
    for release in dict.fromkeys(entry.release for entry in saes):
        of_release = {entry.layer: entry for entry in saes if entry.release == release}
        first, second = of_release.get(early), of_release.get(late)
        if first is not None and second is not None and read_alike(first, second):
            return first, second
    earlier, later = ([sae for sae in saes if sae.layer == layer] for layer in (early, late))
    pairs = product(earlier, later)
    return next(((one, other) for one, other in pairs if read_alike(one, other)), None)


def head_score_figure(scores: pd.DataFrame, *, dark: bool = False) -> go.Figure:
    """Layers down, heads across: how much of their attention goes where these heads look."""
    figure = make_subplots(
        cols=2, subplot_titles=[title for _, title in _SCORES], horizontal_spacing=0.1
    )
    for column, (name, _) in enumerate(_SCORES, start=1):
        table = scores.pivot(index="layer", columns="head", values=name)
        figure.add_trace(
            go.Heatmap(
                z=table.to_numpy(),
                x=[str(head) for head in table.columns],
                y=[str(layer) for layer in table.index],
                zmin=0,
                zmax=1,
                colorscale=_DARK if dark else "Blues",
                showscale=column == len(_SCORES),
                colorbar={"tickformat": ".0%", "thickness": 12},
                texttemplate="%{z:.0%}" if table.size <= 80 else None,
                hovertemplate="layer %{y}, head %{x}: %{z:.0%}<extra></extra>",
            ),
            1,
            column,
        )
        figure.update_xaxes(title_text="Head", row=1, col=column)
        figure.update_yaxes(autorange="reversed", title_text="Layer", row=1, col=column)
    n_layers = scores["layer"].nunique()
    figure.update_layout(
        height=200 + 26 * n_layers,
        template="plotly_dark" if dark else "plotly_white",
        margin={"l": 20, "r": 20, "t": 70, "b": 20},
    )
    return figure


def pattern_figure(
    patterns: Mapping[tuple[int, int], np.ndarray],
    titles: Mapping[tuple[int, int], str],
    tokens: Sequence[str],
    *,
    dark: bool = False,
) -> go.Figure:
    """Where each head looks: from a token (down) to the tokens it attends to (across)."""
    columns = min(3, len(patterns))
    rows = -(-len(patterns) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        subplot_titles=[titles[head].replace(": ", "<br>", 1) for head in patterns],
        horizontal_spacing=0.06,
        vertical_spacing=0.32 / rows,
    )
    names = [f"{escaped(repr(token))} ({n})" for n, token in enumerate(tokens)]
    for number, pattern in enumerate(patterns.values()):
        row, column = divmod(number, columns)
        figure.add_trace(
            go.Heatmap(
                z=pattern,
                customdata=[[(a, b) for b in names] for a in names],
                zmin=0,
                zmax=1,
                colorscale=_DARK if dark else "Blues",
                showscale=False,
                hovertemplate="%{customdata[0]} looks at %{customdata[1]}: %{z:.0%}<extra></extra>",
            ),
            row + 1,
            column + 1,
        )
    figure.update_yaxes(autorange="reversed", title_text="from", title_standoff=2)
    figure.update_xaxes(title_text="to", title_standoff=2)
    figure.update_annotations(font_size=12)
    figure.update_layout(
        height=60 + 330 * rows,
        template="plotly_dark" if dark else "plotly_white",
        margin={"l": 20, "r": 20, "t": 80, "b": 20},
    )
    return figure
