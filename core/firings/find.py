"""What is looked for over all SAEs, and what was found: the work of one job of the page."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from core.activations.firings import collect_firings
from core.activations.text_index import IndexRequest
from core.corpus.load import default_packing, load_token_set
from core.firings.kept import Kept
from core.firings.places import Places, places_of_regex, places_of_tokens, tokens_named
from core.firings.search import firing_at, places_of_latent
from core.firings.shard import bytes_a_firing
from core.firings.typed_text import firing_in_text
from core.lease import Lease, SaeName
from core.store import Store
from core.tokens import TokenTexts, vocabulary_texts

_BEFORE, _AFTER = 4, 8
_SAMPLE = 4096


@dataclass(frozen=True)
class FindRequest:
    """One search."""

    way: str
    """One of `core.latent.view.FIND_WAYS`."""
    typed: str = ""
    """The text, tokens or pattern; nothing for a latent."""
    ignore_case: bool = False
    """Whether a pattern takes capitals for small letters."""
    sae: SaeName = ("", "")
    """SAE of the latent."""
    latent: int = 0
    """The latent."""
    silent: bool = False
    """Whether, of tokens and patterns, only places count at which the latent does not fire: what
    fires instead of it may have absorbed a part of what it stands for (Chanin et al., 2024)."""

    def key(self, names: Sequence[str]) -> str:
        """Key of the job, over what these names stand for."""
        asked = self if self.way != "text" else replace(self, sae=("", ""), latent=0, silent=False)
        text = json.dumps([list(names), *vars(asked).values()])
        return "find:" + hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Own:
    """How often the latent fires at the places that were meant."""

    fired: int
    """Places at which it fires."""
    places: int
    """Places that were meant."""
    rate: float
    """Share of all positions of the text at which it fires: what chance would give."""

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval (Wilson, 1927) of the share of places at which it fires."""
        found = binomtest(self.fired, self.places).proportion_ci(method="wilson")
        return float(found.low), float(found.high)


@dataclass(frozen=True, eq=False)
class Found:
    """What fires there."""

    table: pd.DataFrame
    """As `core.firings.search.firing_at`."""
    n_places: int
    """Positions that were meant, in the text that most SAEs read."""
    examples: tuple[str, ...] = ()
    """Some of the places that were meant, with what stands around them."""
    own: Own | None = None
    """Of tokens and patterns, the latent's own part; None where its firings were not kept."""
    omitted: int = 0
    """Tokens of a typed text for which there was no room."""
    _sources: dict[SaeName, Kept] = field(default_factory=dict)
    _texts: TokenTexts | None = None
    _tokens: tuple[str, ...] = ()

    def around(self, rows: pd.DataFrame) -> list[str]:
        """The strongest place of each row, its token between ⟦ ⟧, within what stands around it."""
        if self._texts is None:
            return [_marked(self._tokens, int(place)) for place in rows["place"]]
        found = []
        for release, sae, place in zip(rows["release"], rows["sae"], rows["place"], strict=True):
            found.append(_at(self._sources[release, sae], self._texts, int(place)))
        return found


def find(lease: Lease, kept: Sequence[Kept], request: FindRequest) -> Found:
    """Search the firings in `kept`, whose model the lease has.

    Raises ValueError for what cannot be looked for, and files that cannot be read.
    """
    with lease.turn() as (model, _):
        texts = vocabulary_texts(model)
    masks: dict[str, Places] = {}
    whose = next((one for one in kept if one.sae == request.sae), None)
    own: Own | None = None
    if request.way == "latent" or request.silent:
        if whose is None:
            raise ValueError("The firings of this latent's SAE were not kept on this text.")
        # Of SAEs that lay the text out otherwise, nothing can be said position by position.
        kept = [one for one in kept if one.about.tokens_digest == whose.about.tokens_digest]
        there = places_of_latent(whose, request.latent, progress=lease.progress)
        if request.way == "latent":
            masks[whose.about.tokens_digest] = there
        else:
            meant = _places(lease, whose, texts, request)
            own = _own(whose, request.latent, int((meant & there).sum()), int(meant.sum()))
            masks[whose.about.tokens_digest] = meant & ~there
    for one in kept:
        if one.about.tokens_digest not in masks:
            masks[one.about.tokens_digest] = _places(lease, one, texts, request)
    every = [masks[one.about.tokens_digest] for one in kept]
    table = firing_at(kept, every, progress=lease.progress)
    if whose is not None and request.way != "latent" and own is None:
        places = int(masks[whose.about.tokens_digest].sum())
        its = table[(table["release"] == whose.sae[0]) & (table["sae"] == whose.sae[1])]
        fired = its.loc[its["latent"] == request.latent, "fired"]
        own = _own(whose, request.latent, int(fired.sum()), places)
    first = kept[0]
    some = np.flatnonzero(every[0].ravel())[:3]
    return Found(
        table,
        int(every[0].sum()),
        tuple(_at(first, texts, int(place)) for place in some),
        own,
        _sources={one.sae: one for one in kept},
        _texts=texts,
    )


def find_in_text(lease: Lease, names: Sequence[SaeName], text: str, kept: Sequence[Kept]) -> Found:
    """What fires in a typed text, of the lease's SAEs, called `names`; `kept` tells what is known
    of their latents on a longer text. Raises ValueError for an empty text."""
    known = {one.sae: one.totals for one in kept}
    found = firing_in_text(lease, names, text, known)
    return Found(found.table, len(found.tokens), omitted=found.omitted, _tokens=found.tokens)


def bytes_of(lease: Lease, store: Store, request: IndexRequest) -> float:
    """About how many bytes every firing of the request's SAEs takes, measured on 4,096 tokens.

    Raises ValueError for a text that cannot be read.
    """
    with lease.turn() as (model, saes):
        packings = [default_packing(model, sae, max_tokens=_SAMPLE) for sae in saes]
    needed = 0.0
    for packing in dict.fromkeys(packings):
        alike = [number for number, other in enumerate(packings) if other == packing]
        tokens = load_token_set(
            request.corpus, lease.tokenizer, packing, store=store, progress=lease.progress
        )
        for one in collect_firings(lease.with_saes(alike), tokens):
            a_token = one.latents.nnz / max(1, one.n_positions)
            needed += request.tokens * a_token * bytes_a_firing(one.d_sae)
    return needed


def _own(kept: Kept, latent: int, fired: int, places: int) -> Own | None:
    if not places or latent >= kept.about.d_sae:
        return None
    return Own(fired, places, float(kept.rates()[latent]))


def _places(lease: Lease, kept: Kept, texts: TokenTexts, request: FindRequest) -> Places:
    if request.way == "tokens":
        return places_of_tokens(kept.token_set, tokens_named(texts, request.typed))
    return places_of_regex(
        kept.token_set,
        texts,
        request.typed,
        ignore_case=request.ignore_case,
        progress=lease.progress,
    )


def _at(kept: Kept, texts: TokenTexts, place: int) -> str:
    window = kept.token_set.windows(np.array(place), _BEFORE, _AFTER)
    parts = ["" if token < 0 else texts.within(token) for token in window.tolist()]
    return _marked(parts, _BEFORE)


def _marked(parts: Sequence[str], at: int) -> str:
    before = "".join(parts[max(0, at - _BEFORE) : at])
    after = "".join(parts[at + 1 : at + 1 + _AFTER])
    return f"{before}⟦{parts[at]}⟧{after}".replace("\n", "↵").strip()
