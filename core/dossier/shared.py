"""What the sections of a dossier read, and what all latents of an SAE have in common.

Everything here is made when it is first asked for, from the store where that has it; a batch of
latents shares one `Shared`, so what is common is made once.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd

from core.activations.firings import Firings, collect_firings
from core.activations.stored_index import open_index
from core.activations.text_index import IndexRequest, OpenIndex, make_index
from core.autointerp.controls import control_sae
from core.corpus.docs import docs_sample
from core.corpus.load import default_packing, load_token_set
from core.corpus.token_set import TokenSet
from core.dossier.controls import StandInLease, drawn_latents, nearest_by_rate
from core.dossier.measure import Controls
from core.dossier.request import DossierRequest
from core.dossier.texts import Words, words_of_sample
from core.lease import Lease, SaeName
from core.saes.writes import WRITES_VERSION
from core.steering.run import HELD_OUT_PACKAGES
from core.store import ARRAYS, FRAME, Key, Store

if TYPE_CHECKING:
    from core.activations.index import LatentIndex

T = TypeVar("T")
LeaseOf = Callable[[str, Sequence[SaeName]], Lease]
"""A lease of a model by name, with SAEs; all report to one progress."""
HELD_OUT_TOKENS = 60_000
"""Text on which explanations are tried that nothing was read on before."""
SAMPLE_TOKENS = 30_000
"""Text whose firings are kept one by one."""
_VERSION = 1


@dataclass(frozen=True, eq=False)
class Sample:
    """Where units fire on a text, position by position."""

    firings: Firings
    """Every firing."""
    tokens: TokenSet
    """The text."""


class Units:
    """The latents of one SAE, or the random directions that stand in for them, on the text."""

    def __init__(
        self,
        lease: Lease,
        store: Store,
        request: DossierRequest,
        *,
        stand_in: "Callable[[], StandInLease | None]" = lambda: None,
    ) -> None:
        """`stand_in` gives the random directions that are read in the same run of the model."""
        self.lease, self.store, self.request = lease, store, request
        self._stand_in = stand_in

    @cached_property
    def index(self) -> OpenIndex:
        """The index of all units on the request's text."""
        request = self.request
        wanted = IndexRequest(request.model, (request.sae,), request.corpus, request.tokens)
        if isinstance(self.lease, StandInLease):
            # Under a name of its own: what an index is of is remembered by names, too.
            named = (*request.sae[:2], f"{request.sae[2]}:random:{request.seed}")
            wanted = replace(wanted, saes=(named,))
        return make_index(self.lease, self.store, wanted)[0]

    @cached_property
    def whole(self) -> "LatentIndex":
        """All of the index."""
        found = open_index(self.store, self.index.key)
        if found is None:
            raise ValueError("The index was removed from the disk meanwhile; try again.")
        return found

    @cached_property
    def rates(self) -> np.ndarray:
        """Share of the positions at which each unit fires."""
        return self.index.summary["frequency"].to_numpy()

    @cached_property
    def sample(self) -> Sample:
        """Firings on a part of the text that the index is of."""
        return self._firings(self.index.token_set, SAMPLE_TOKENS)

    @cached_property
    def held_out(self) -> Sample:
        """Firings on documentation that no part of the dossier is made from."""
        with self.lease.turn() as (model, (sae, *_)):
            packing = default_packing(model, sae, max_tokens=HELD_OUT_TOKENS)
        tokens = load_token_set(
            docs_sample(HELD_OUT_PACKAGES),
            self.lease.tokenizer,
            packing,
            store=self.store,
            progress=self.lease.progress,
        )
        return self._firings(tokens, HELD_OUT_TOKENS)

    @cached_property
    def words(self) -> Words:
        """The words of the held-out text."""
        return words_of_sample(self.held_out, self.index.vocabulary)

    def _firings(self, tokens: TokenSet, most: int) -> Sample:
        # Not from every firing that may be kept (`core.firings`): there the rows went through the
        # model in other batches, after which some activations differ in their last bits; and the
        # random directions need the run all the same.
        def collect() -> dict[str, np.ndarray]:
            other = self._stand_in()
            if other is None:
                lease = self.lease.with_saes([0])
                return collect_firings(lease, tokens, max_tokens=most)[0].to_arrays()
            found, of_random = collect_firings(other.beside_own(), tokens, max_tokens=most)
            self.store.keep(_firings_key(other, tokens, most), of_random.to_arrays(), ARRAYS)
            return found.to_arrays()

        key = _firings_key(self.lease, tokens, most)
        arrays = self.store.get_or_compute(key, collect, ARRAYS, waiting=self.lease.progress.check)
        return Sample(Firings.from_arrays(arrays), tokens)


def _firings_key(lease: Lease, tokens: TokenSet, most: int) -> Key:
    parameters = {
        "model": lease.model_fingerprint,
        "sae": lease.sae_fingerprints[0],
        "tokens": tokens.digest,
        "most": most,
    }
    return Key("dossier-firings", _VERSION, parameters)


Figures = Callable[["Shared", Units, Sequence[int]], pd.DataFrame]
"""Figures of some units: a row for each, in their order, a column a figure."""


class Shared:
    """Everything that the dossiers of one SAE's latents share."""

    def __init__(self, lease_of: LeaseOf, store: Store, request: DossierRequest) -> None:
        self.lease_of, self.store, self.request = lease_of, store, request
        self.lease = lease_of(request.model, [request.sae_name])
        self.own = Units(self.lease, store, request, stand_in=self._stand_in)
        self._controls: dict[str, pd.DataFrame] = {}
        self._once: dict[str, Any] = {}
        self.batch: tuple[int, ...] = ()
        """Latents that are looked at together: their examples are looked for in one pass."""

    @cached_property
    def peers(self) -> np.ndarray:
        """Random latents of all rates."""
        return drawn_latents(self.own.index.summary, seed=self.request.seed)

    @cached_property
    def random(self) -> Units:
        """Random directions, which fire as often as `peers` do."""
        if not len(self.peers):
            raise ValueError(
                "No latent of this SAE fires on the text, so there is nothing to hold this one "
                "against; read a longer text."
            )
        with self.lease.turn() as (model, (sae, *_)):
            stand_in, _ = control_sae(
                "random directions",
                model,
                sae,
                self.peers.tolist(),
                self.own.index.token_set,
                seed=self.request.seed,
            )
        return Units(StandInLease(self.lease, stand_in), self.store, self.request)

    def _stand_in(self) -> StandInLease | None:
        if not len(self.peers):
            return None
        lease = self.random.lease
        return lease if isinstance(lease, StandInLease) else None

    def fingerprint(self, model: str) -> str:
        """Of another model, which is loaded for it; of a model that cannot be, the reason."""

        def make() -> str:
            try:
                return self.lease_of(model, [self.request.sae_name]).model_fingerprint
            except ValueError as error:
                return f"not loaded: {error}"

        return self.once(f"fingerprint of {model}", make)

    @property
    def content(self) -> dict[str, Any]:
        """What every section depends on, by content."""
        return {
            "model": self.lease.model_fingerprint,
            "sae": self.lease.sae_fingerprints[0],
            "text": [self.request.corpus.digest, self.request.tokens],
            "seed": self.request.seed,
            "writes": WRITES_VERSION,
        }

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` gives, made once for all latents."""
        if name not in self._once:
            self._once[name] = make()
        found: T = self._once[name]
        return found

    def controls(self, name: str, figures: Figures, version: int) -> pd.DataFrame:
        """`figures` of all controls: columns `kind` (latents, directions), `unit`, `rate`, and the
        figures."""
        if name not in self._controls:
            key = Key("dossier-controls", version, {**self.content, "section": name})
            found = self.store.get(key, FRAME)
            if found is None:
                self.lease.progress.update(0, None, message="Random latents and directions")
                found = self._of_controls(figures)
                self.store.keep(key, found, FRAME)
            self._controls[name] = found
        return self._controls[name]

    def _of_controls(self, figures: Figures) -> pd.DataFrame:
        parts = []
        numbers = list(range(len(self.peers)))
        for kind, units, some in (
            ("latents", self.own, self.peers.tolist()),
            ("directions", self.random, numbers),
        ):
            table = figures(self, units, some).reset_index(drop=True)
            about = {"kind": kind, "unit": some, "rate": units.rates[some]}
            parts.append(pd.concat([pd.DataFrame(about), table], axis=1))
        return pd.concat(parts, ignore_index=True)

    def near(self, table: pd.DataFrame, latent: int) -> dict[str, pd.DataFrame]:
        """Of a table of controls, those that fire about as often as a latent; by kind."""
        rate, found = float(self.own.rates[latent]), {}
        for kind in ("latents", "directions"):
            part = table[table["kind"] == kind].reset_index(drop=True)
            same = part.index[(part["unit"] == latent) & (kind == "latents")].tolist()
            chosen = nearest_by_rate(rate, part["rate"].to_numpy(), leave=same)
            found[kind] = part.iloc[chosen]
        return found

    def beside(self, name: str, figures: Figures, version: int, latent: int) -> dict[str, Controls]:
        """Of each figure, by name: the controls' as keywords of a `Measure`."""
        near = self.near(self.controls(name, figures, version), latent)
        columns = [it for it in near["latents"] if it not in ("kind", "unit", "rate")]
        return {
            column: Controls(
                latents=tuple(near["latents"][column].astype(float)),
                directions=tuple(near["directions"][column].astype(float)),
            )
            for column in columns
        }


def plain(parameters: Any) -> Any:
    """As JSON has it: lists for tuples."""
    return json.loads(json.dumps(parameters))
