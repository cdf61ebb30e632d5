"""Two latents of any SAEs and models on the same texts: where do both fire, and where does one?

The texts are held-out ones in which the first or the second fires. Where both models read the same
tokens, each text is what they made of it where it stands; else both read it alone, from its
beginning, so tokenizers may differ.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from core.dossier.controls import nearest_by_rate
from core.dossier.measure import Measure, share
from core.dossier.request import DossierRequest
from core.dossier.shared import LeaseOf, Shared
from core.dossier.texts import ACTIVE
from core.dossier.trial_examples import activations_of
from core.latent.examples import ExampleRow
from core.lease import Lease
from core.prompt_latents.active import PromptRead, read_prompt
from core.store import Key, Store
from core.store.dataclass_codec import dataclass_codec
from core.tokens import texts_of_row

N_TEXTS = 24
"""Texts of each of the two."""
_STRONGEST = 8
_AROUND = 14
_SHOWN, _SHOWN_BOTH = 6, 4
_N_NULL = 19
_VERSION = 2


@dataclass(frozen=True)
class Pair:
    """One text as both read it."""

    one: ExampleRow
    """With the first one's activations."""
    other: ExampleRow
    """With the second one's."""
    one_share: float
    """Strongest activation of the first, as a share of its largest."""
    other_share: float
    """The same of the second."""


@dataclass(frozen=True, eq=False)
class Comparison:
    """Two latents beside one another."""

    measures: tuple[Measure, ...]
    """How far they fire together, with intervals and what random latents of the second SAE (or of
    the first, the other way round) reach."""
    only_one: tuple[Pair, ...]
    """Texts in which the first fires and the second does least."""
    only_other: tuple[Pair, ...]
    """The other way round."""
    both: tuple[Pair, ...]
    """Texts in which both fire, the strongest first."""
    n_texts: int
    """Texts that both read."""
    in_place: bool
    """Whether they were read where they stand, and not each alone."""
    peaks: tuple[float, float]
    """Largest activations on the texts that were read: the full shades."""


_CODEC = dataclass_codec(Comparison)


def stored_comparison(
    store: Store, one: DossierRequest, other: DossierRequest
) -> Comparison | None:
    """What `compare` gave before; None where it was not asked."""
    return store.get(_key(one, other), _CODEC)


def compare(
    lease_of: LeaseOf, store: Store, one: DossierRequest, other: DossierRequest
) -> Comparison:
    """The comparison, kept in the store.

    Raises ValueError for the same latent twice, and for one that never fires.
    """
    if (one.model, one.sae, one.latent) == (other.model, other.sae, other.latent):
        raise ValueError("These are the same latent; choose another one to compare with.")
    sides = [_Side(Shared(lease_of, store, it), it.latent) for it in (one, other)]
    spans = [side.spans() for side in sides]
    texts = [[side.text(it) for it in some] for side, some in zip(sides, spans, strict=True)]
    where = {
        text: span
        for some, at in zip(texts, spans, strict=True)
        for text, span in zip(some, at, strict=True)
    }
    different = list(where)
    in_place = _same_tokens(*sides)
    for side in sides:
        if in_place:
            side.look(list(where.values()))
        else:
            side.read(different)
    found = _compared(sides, different, texts, in_place=in_place)
    store.keep(_key(one, other), found, _CODEC)
    return found


class _Side:
    """One of the two, and what it reads."""

    def __init__(self, shared: Shared, latent: int) -> None:
        units = shared.own
        if not 0 <= latent < units.index.d_sae:
            raise ValueError(
                f"There is no latent {latent} in {shared.request.sae[1]}; choose 0 to "
                f"{units.index.d_sae - 1:,}."
            )
        self.peak = float(units.whole.peak[latent])
        if not self.peak > 0:
            raise ValueError(
                f"Latent {latent} of {shared.request.sae[1]} never fires on this text, so there is "
                "nothing to compare; read a longer text."
            )
        self.shared, self.latent, self.lease = shared, latent, shared.lease
        rates, peers = units.rates, shared.peers
        leave = np.flatnonzero(peers == latent).tolist()
        near = nearest_by_rate(float(rates[latent]), rates[peers], n=_N_NULL, leave=leave)
        self.null = peers[near]
        self.null_peaks = units.whole.peak[self.null]
        self.shares: Float[np.ndarray, " n"] = np.zeros(0)
        self.null_shares: Float[np.ndarray, "n m"] = np.zeros((0, len(near)))
        self.rows: list[ExampleRow] = []

    def spans(self) -> list[tuple[int, int]]:
        """Stretches of the held-out sample in which it fires: the strongest, and random ones."""
        firings = self.shared.own.held_out.firings
        acts = activations_of(self.shared.own.held_out, self.latent)
        fires = np.flatnonzero(acts > ACTIVE * self.peak)
        rng = np.random.default_rng([self.shared.request.seed, self.latent, 9])
        strongest = fires[np.argsort(-acts[fires], kind="stable")]
        order = [*strongest[:_STRONGEST], *rng.permutation(strongest[_STRONGEST:])]
        rows = firings.places // firings.context
        found: dict[str, tuple[int, int]] = {}
        for at in order:
            inside = rows == rows[at]
            low = max(int(inside.argmax()), int(at) - _AROUND)
            high = min(int(inside.argmax() + inside.sum()), int(at) + _AROUND // 2)
            text = self.text((low, high))
            if text.strip():
                found.setdefault(text, (low, high))
            if len(found) == N_TEXTS:
                break
        return list(found.values())

    def text(self, span: tuple[int, int]) -> str:
        """What stands there."""
        units = self.shared.own
        ids = units.held_out.firings.tokens[slice(*span)].tolist()
        return texts_of_row(units.index.vocabulary, ids).text

    def look(self, spans: Sequence[tuple[int, int]]) -> None:
        """Its activations, and those of its random latents, where the texts stand."""
        units = self.shared.own
        sample = units.held_out
        acts = activations_of(sample, self.latent)
        null = sample.firings.latents.tocsc()[:, self.null].toarray()
        peaks = np.maximum(self.null_peaks, 1e-9)
        for low, high in spans:
            ids = sample.firings.tokens[low:high].tolist()
            self._add(texts_of_row(units.index.vocabulary, ids).parts, acts[low:high])
        self.null_shares = np.array([null[low:high].max(0) / peaks for low, high in spans])

    def read(self, texts: Sequence[str]) -> None:
        """Its activations, and those of its random latents, on each text."""
        nulls = []
        for number, text in enumerate(texts):
            self.lease.progress.update(number, len(texts), unit="texts", message="Reading texts")
            found = read_prompt(_first(self.lease), text)
            own = found.active.of(self.latent)[found.n_leading :]
            nulls.append(_strongest(found, self.null) / np.maximum(self.null_peaks, 1e-9))
            self._add(found.parts[found.n_leading :], own)
        self.null_shares = np.array(nulls)

    def _add(self, parts: Sequence[str], own: np.ndarray) -> None:
        strongest = float(own.max(initial=0))
        self.shares = np.append(self.shares, strongest / self.peak)
        self.rows.append(
            ExampleRow.from_parts(
                parts,
                own.astype(float).tolist(),
                peak=int(own.argmax()) if strongest > 0 else None,
                value=f"{strongest:.3g}",
            )
        )


def _same_tokens(one: _Side, other: _Side) -> bool:
    """Whether positions of both held-out samples are the same tokens of the same text."""
    a, b = (it.shared.own.held_out for it in (one, other))
    same = one.shared.request.model == other.shared.request.model
    return same and a.tokens.digest == b.tokens.digest


def _first(lease: Lease) -> Lease:
    return lease.with_saes([0])


def _strongest(found: PromptRead, latents: np.ndarray) -> Float[np.ndarray, " n"]:
    table = np.zeros(found.d_sae, dtype=np.float32)
    np.maximum.at(table, found.active.latent, found.active.value)
    return table[latents]


def _compared(
    sides: Sequence[_Side],
    different: Sequence[str],
    texts: Sequence[Sequence[str]],
    *,
    in_place: bool,
) -> Comparison:
    one, other = sides
    number = {text: i for i, text in enumerate(different)}
    of_one, of_other = (np.array([number[it] for it in some], dtype=int) for some in texts)
    difference = one.shares - other.shares
    order = np.argsort(-difference, kind="stable")
    both = np.minimum(one.shares, other.shares)

    def pair(i: int) -> Pair:
        a, b = float(one.shares[i]), float(other.shares[i])
        return Pair(one.rows[i], other.rows[i], a, b)

    alike = np.argsort(-both, kind="stable")[:_SHOWN_BOTH]
    return Comparison(
        measures=(
            _together("second", "first", one, other, of_one),
            _together("first", "second", other, one, of_other),
            *_cosine(one, other),
        ),
        only_one=tuple(pair(i) for i in order[:_SHOWN] if difference[i] > ACTIVE),
        only_other=tuple(pair(i) for i in order[::-1][:_SHOWN] if difference[i] < -ACTIVE),
        both=tuple(pair(i) for i in alike if both[i] > ACTIVE),
        n_texts=len(different),
        in_place=in_place,
        peaks=(one.peak, other.peak),
    )


def _together(name: str, whose: str, side: _Side, other: _Side, texts: np.ndarray) -> Measure:
    """Of the texts of one in which it fires, those in which the other does."""
    fires = texts[side.shares[texts] > ACTIVE] if len(texts) else texts
    null = (other.null_shares[fires] > ACTIVE).mean(0) if len(fires) else np.zeros(0)
    return share(
        f"{name}_too",
        f"Of the texts in which the {whose} latent fires, those in which the {name} does, too",
        int((other.shares[fires] > ACTIVE).sum()),
        len(fires),
        "texts",
        latents=tuple(map(float, null)),
    )


def _cosine(one: _Side, other: _Side) -> tuple[Measure, ...]:
    """Cosine of what they write, where that is the same space."""
    from core.saes import head_of
    from core.saes.writes import unit_writes, written_site

    if one.shared.request.model != other.shared.request.model:
        return ()
    found = []
    for side, latents in ((one, [one.latent]), (other, [other.latent, *other.null.tolist()])):
        with side.lease.turn() as (_, (sae, *_)):
            site = (written_site(sae), head_of(sae), int(sae.W_dec.shape[1]))
            rows = unit_writes(sae, latents).detach().float().cpu().numpy()
        found.append((site, rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)))
    (site, mine), (other_site, others) = found
    if site != other_site:
        return ()
    cosines = (others @ mine[0]).astype(float)
    return (
        Measure(
            "cosine",
            "Cosine of their decoder directions",
            float(cosines[0]),
            n=len(cosines) - 1,
            of="random latents of the second SAE",
            latents=tuple(cosines[1:].tolist()),
        ),
    )


def _key(one: DossierRequest, other: DossierRequest) -> Key:
    return Key(
        "dossier-compare", _VERSION, {"one": one.digest("reads"), "other": other.digest("reads")}
    )
