"""The attribution tab: which source tokens and heads feed a latent of an attention SAE."""

from dataclasses import dataclass

import numpy as np
import plotly.graph_objects as go
import torch
from jaxtyping import Float
from plotly.subplots import make_subplots

from core.attribution import attribute_to_sources, why_no_sources
from core.corpus.prompt import prompt_for, reading_notes
from core.engine import Engine
from core.link import Link, LinkField, short_text, whole
from core.plotly_text import escaped
from core.prompt_latents import active_latents
from core.saes import sae_hook_name
from core.tokens import row_texts
from core.view.markup import visible_token
from core.view.selection import Selection

MOST_CHARACTERS = 2000
PROPOSED = (
    "Return the mean of the array elements along the given axis. If the input contains integers, "
    "the mean of the array elements is computed in float64."
)
MOST_EXAMPLES = 20
_MOST_LABEL = 14
_DRAWN = 60


@dataclass(frozen=True)
class AttributionView:
    """Settings of this tab."""

    text: str = ""
    """The typed text; empty for the one proposed."""
    example: int = 1
    """Which of the latent's strongest examples is used, from 1, where there are any; 0 for the
    typed text."""
    destination: int = 0
    """Number of the text's token, from 1, at which the latent is taken apart; 0 for where it is
    strongest."""


LINK = Link(
    AttributionView(),
    (
        LinkField("text", "source", short_text(MOST_CHARACTERS)),
        LinkField("example", "example", whole(0, MOST_EXAMPLES)),
        LinkField("destination", "to", whole(0, 1_000_000)),
    ),
)
"""How a view is written to the link and read from it."""


@dataclass(frozen=True, eq=False)
class Sources:
    """One latent at one position of one text, and what brought it there."""

    tokens: tuple[str, ...]
    """Texts of all tokens, each in a cell of its own, of one in front of the text too."""
    parts: tuple[str, ...]
    """What each adds to the text, as `RowTexts.parts`."""
    n_leading: int
    """Positions in front of the text: 1 for a beginning-of-text token, or 0."""
    activations: Float[np.ndarray, " n_positions"]
    """The latent's activation at each."""
    omitted: int
    """Tokens at the end of the text for which there is no room."""
    destination: int
    """Position that is looked at."""
    terms: Float[np.ndarray, "n_heads n_sources"]
    """What each head brings from each position up to the destination."""
    pattern: Float[np.ndarray, "n_heads n_sources"]
    """Share of its attention that each head pays to each."""
    bias: float
    """What is there without attention."""
    pre_activation: float
    """Sum of all terms and the bias."""
    rescaled_by: float = 1.0
    """What the SAE multiplies that by before its activation function."""
    holds_norm: bool = False
    """Whether a norm lies behind the layer, whose scale at the destination is held."""

    @property
    def number(self) -> int:
        """The destination as a number of the text's tokens, from 1."""
        return self.destination - self.n_leading + 1


@dataclass(frozen=True)
class SourceText:
    """A text at which a latent can be taken apart."""

    token_ids: tuple[int, ...]
    """All tokens."""
    n_leading: int
    """Positions in front of the text: 1 for a beginning-of-text token, or 0."""
    omitted: int = 0
    """Tokens at the end of the text for which there is no room."""
    notes: tuple[str, ...] = ()
    """What a reader should know about how the text was read, in sentences."""


def reason_against(engine: Engine, selection: Selection) -> str | None:
    """Why the selected SAE's latents do not come apart by sources; None if they do."""
    with engine.use(selection.model, [selection.sae]) as (_, (sae,)):
        return why_no_sources(
            sae_hook_name(sae),
            architecture=sae.cfg.architecture(),
            normalize=sae.cfg.normalize_activations,
        )


def typed_text(engine: Engine, selection: Selection, text: str) -> SourceText:
    """A typed text as the selected SAE should be shown it. Raises ValueError for an empty one."""
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        prompt = prompt_for(model, [sae], text)
        notes = reading_notes(model, sae)
        return SourceText(prompt.ids, prompt.n_leading, prompt.omitted, notes)


def find_sources(
    engine: Engine, selection: Selection, text: SourceText, number: int = 0
) -> Sources:
    """Take the selected latent apart at the text's token of that number, from 1, or (0) where it
    is strongest.

    A number beyond the text is read as 0. Raises ValueError as `attribute_to_sources`.
    """
    with engine.use(selection.model, [selection.sae]) as (model, (sae,)):
        tokens = torch.tensor([text.token_ids], device=sae.W_dec.device)
        active = active_latents(model, sae, tokens, n_leading=text.n_leading)
        activations = active.of(selection.latent)
        destination = number - 1 + text.n_leading
        if not text.n_leading <= destination < len(activations):
            # Where it is active nowhere, at the end, which everything before it can reach.
            fires = activations.any()
            destination = int(activations.argmax()) if fires else len(activations) - 1
        found = attribute_to_sources(model, sae, tokens, selection.latent, destination)
        texts = row_texts(model.tokenizer, text.token_ids)
        return Sources(
            tokens=texts.cells,
            parts=texts.parts,
            n_leading=text.n_leading,
            activations=activations,
            omitted=text.omitted,
            destination=destination,
            terms=found.terms.numpy(),
            pattern=found.pattern.numpy(),
            bias=found.bias,
            pre_activation=found.pre_activation,
            rescaled_by=found.rescaled_by,
            holds_norm=found.holds_norm,
        )


def sources_figure(sources: Sources) -> go.Figure:
    """What each head brings from each token, and below it the sum over heads.

    Of long texts, only the last tokens and those that matter most before them are drawn, `_DRAWN`
    in all.
    """
    shown, labels = _shown(sources)
    terms, pattern = sources.terms[:, shown], sources.pattern[:, shown]
    values, places = terms.sum(axis=0), np.arange(len(shown))
    limit = float(np.abs(terms).max()) or 1.0
    upper = 40 + 26 * len(terms)
    lower = 150
    figure = make_subplots(
        rows=2,
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.03,
        row_heights=[upper / (upper + lower), lower / (upper + lower)],
    )
    figure.add_heatmap(
        row=1,
        col=1,
        z=terms,
        x=places,
        y=[f"head {head}" for head in range(len(terms))],
        zmin=-limit,
        zmax=limit,
        colorscale="RdBu_r",
        customdata=np.stack([pattern, np.broadcast_to(shown, pattern.shape)], axis=-1),
        text=np.broadcast_to(np.array(labels, dtype=object), terms.shape),
        hovertemplate=(
            "%{y}, from token %{customdata[1]} “%{text}”<br>brings %{z:+.4f}<br>pays it "
            "%{customdata[0]:.1%} of its attention<extra></extra>"
        ),
        showscale=False,
    )
    figure.add_bar(
        row=2,
        col=1,
        x=places,
        y=values,
        marker_color=np.where(values >= 0, "#b2182b", "#2166ac").tolist(),
        customdata=shown,
        text=labels,
        textposition="none",
        hovertemplate="token %{customdata} “%{text}”: %{y:+.4f}<extra></extra>",
    )
    figure.update_layout(
        height=upper + lower + 110,
        margin={"l": 76, "r": 16, "t": 8, "b": 96},
        bargap=0.15,
        dragmode=False,
        showlegend=False,
    )
    figure.update_xaxes(fixedrange=True, range=[-0.5, len(labels) - 0.5])
    figure.update_xaxes(
        row=2,
        col=1,
        tickvals=list(range(len(labels))),
        ticktext=labels,
        tickangle=-60,
        tickfont={"family": "monospace", "size": 11},
    )
    figure.update_yaxes(fixedrange=True)
    figure.update_yaxes(row=1, col=1, autorange="reversed")
    figure.update_yaxes(row=2, col=1, title_text="all heads")
    return figure


def _shown(sources: Sources) -> tuple[np.ndarray, list[str]]:
    """Positions that are drawn, in order, and their labels."""
    n = sources.terms.shape[1]
    if n <= _DRAWN:
        shown = np.arange(n)
    else:
        size = np.abs(sources.terms).max(axis=0)
        size[-_DRAWN // 2 :] = np.inf
        shown = np.sort(np.argsort(-size, kind="stable")[:_DRAWN])
    return shown, [_label(sources.tokens[it]) for it in shown]


def _label(token: str) -> str:
    shown = visible_token(token)
    short = shown if len(shown) <= _MOST_LABEL else shown[: _MOST_LABEL - 1] + "…"
    return escaped(short)
