"""From chosen SAEs and settings to everything that the map shows: the work of one job."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int
from sae_lens import SAE
from torch import Tensor

from core.corpus.bos import trained_with_bos
from core.corpus.documents import Corpus
from core.descriptions.sources import DescribedSae
from core.descriptions.wording import terms_of
from core.hub.plan import published_file
from core.lease import Lease
from core.logit_lens import (
    TopTokens,
    all_directions,
    join_tokens,
    top_token_ids,
)
from core.saes.firing_rates import FILE_NAME, read_firing_rates
from core.saes.writes import input_scale, unit_writes
from core.splitting.clusters import TokenIds, cluster_labels, cluster_table
from core.splitting.decoders import Decoder, decoders
from core.splitting.fits import Fit
from core.splitting.large_time import POINT_BYTES
from core.splitting.map import SplittingMap, compute_map
from core.splitting.map_config import MapConfig
from core.splitting.members import Member
from core.splitting.rows import DEAD, LabelledSae, decoder_rows
from core.splitting.sample_words import N_TOKENS
from core.splitting.text_evidence import read_sample
from core.store import Store
from core.tokens import TokenTexts, vocabulary_texts


@dataclass(frozen=True)
class MapRequest:
    """Which map is wanted."""

    model: str
    """Name of the model, whose unembedding gives the boosted tokens."""
    members: tuple[Member, ...]
    """SAEs on the map."""
    config: MapConfig
    """Settings of the layout."""
    corpus: Corpus
    """Text on which a latent is found to be dead where nothing was published about it."""
    hide_dead: bool = False
    """Whether latents that never fire are left out."""

    @property
    def key(self) -> str:
        """Key of the job: two users who want the same map share it."""
        saes = [[*member.entry.key, member.entry.version] for member in self.members]
        dead = self.corpus.digest if self.hide_dead else None
        text = json.dumps([self.model, saes, asdict(self.config), dead])
        return "map:" + hashlib.sha256(text.encode()).hexdigest()[:24]


@dataclass(frozen=True, eq=False)
class MapData:
    """A finished map with what belongs to its points."""

    map: SplittingMap
    """Points, neighbours, clusters."""
    tokens: TopTokens
    """Boosted and suppressed tokens of each point."""
    vocabulary: TokenTexts
    """Texts of tokens."""
    family: Mapping[str, Decoder]
    """What a unit of each latent writes at the SAEs' site, by label, narrowest first; copies on the
    CPU. Times the input's scale for the SAEs of `per_input`."""
    members: Mapping[str, Member]
    """The SAEs by label, narrowest first."""
    fingerprints: Mapping[str, str]
    """Of each SAE's weights: descriptions of the user are kept under it."""
    published_rates: Mapping[str, Float[np.ndarray, " d_sae"]] = field(default_factory=dict)
    """How often each latent fires by what was published with its SAE, by label, if it was."""
    per_input: frozenset[str] = frozenset()
    """Labels of the SAEs that normalise each input."""
    model_fingerprint: str = ""
    """Of the model."""
    _tables: dict[int, tuple[pd.DataFrame, pd.DataFrame]] = field(default_factory=dict)
    """The last tables of clusters, by what they were made from."""

    @property
    def described(self) -> dict[str, DescribedSae]:
        """The SAEs as descriptions know them, by label."""
        return {
            label: DescribedSae(self.fingerprints[label], decoder.width)
            for label, decoder in self.family.items()
        }

    @cached_property
    def boosted(self) -> list[str]:
        """The boosted tokens of each point as one text."""
        return self.vocabulary.quoted(self.tokens.boosted)

    @cached_property
    def boosted_by_label(self) -> dict[str, list[str]]:
        """The boosted tokens of each latent of each SAE; "" for those that have no point."""
        found = {label: [""] * decoder.width for label, decoder in self.family.items()}
        points = self.map.points
        for sae, latent, text in zip(
            points["sae"], points["latent_idx"], self.boosted, strict=True
        ):
            found[sae][latent] = text
        return found

    @cached_property
    def _rows_of(self) -> dict[str, Int[np.ndarray, " d_sae"]]:
        """Row of each latent of each SAE; -1 for those that have no point."""
        found = {label: np.full(one.width, -1, np.int64) for label, one in self.family.items()}
        for label in found:
            rows = np.flatnonzero((self.map.points["sae"] == label).to_numpy())
            found[label][self.map.points["latent_idx"].to_numpy()[rows]] = rows
        return found

    def row(self, label: str, latent: int) -> int | None:
        """The point of a latent; None where it is not on the map."""
        rows = self._rows_of.get(label)
        if rows is None or not 0 <= latent < len(rows) or rows[latent] < 0:
            return None
        return int(rows[latent])

    def latent(self, row: int) -> tuple[str, int]:
        """Label and index of a point."""
        point = self.map.points.iloc[row]
        return str(point["sae"]), int(point["latent_idx"])

    def latents(self, rows: Sequence[int] | np.ndarray) -> dict[str, list[int]]:
        """The latents of some points, by label, in the order of the points."""
        chosen = self.map.points[["sae", "latent_idx"]].iloc[np.asarray(rows, dtype=np.int64)]
        labels, numbers = chosen["sae"].astype("str").to_numpy(), chosen["latent_idx"].to_numpy()
        return {str(one): numbers[labels == one].tolist() for one in dict.fromkeys(labels)}

    def per_point(self, by_label: Mapping[str, Sequence[object] | np.ndarray]) -> list[object]:
        """Values given for each latent of each SAE, in the order of the points."""
        points = self.map.points
        found = np.full(len(points), None, dtype=object)
        for label, values in by_label.items():
            rows = np.flatnonzero((points["sae"] == label).to_numpy())
            found[rows] = np.asarray(values, dtype=object)[points["latent_idx"].to_numpy()[rows]]
        plain: list[object] = found.tolist()
        return plain

    def cluster_tables(self, texts: Sequence[str]) -> tuple[pd.DataFrame, pd.DataFrame] | None:
        """The clusters with their names, and where names stand on the map; None without clusters.

        `texts` are the descriptions of the points.
        """
        if "cluster" not in self.map.points:
            return None
        key = hash(tuple(texts))
        if key not in self._tables:
            # What a latent boosts has a column of its own; here it would crowd out what it is.
            spoken = [text if (terms := terms_of(text)) is None else terms for text in texts]
            tokens = TokenIds(self.tokens.boosted, self.vocabulary.texts)
            table = cluster_table(self.map, spoken, tokens)
            self._tables.clear()
            n_named = 40 if len(spoken) <= 100_000 else 2000  # a large map shows them by zoom
            self._tables[key] = table, cluster_labels(self.map, table, n_largest=n_named)
        return self._tables[key]

    def left_out_note(self) -> str | None:
        """What has no place on the map and why, as a sentence; None where everything has."""
        left_out = self.map.left_out
        if left_out.empty:
            return None
        counts = left_out["reason"].value_counts()
        parts = [
            f"{n:,} never fire" if reason == DEAD else f"{n:,} are {reason}"
            for reason, n in counts.items()
        ]
        return f"{len(left_out):,} latents are left out: {', '.join(parts)}."


def build_map(lease: Lease, store: Store, fit: Fit, request: MapRequest) -> MapData:
    """The map of `request`, whose SAEs the lease has, from the store where it was made before.

    Raises:
        ValueError: SAEs that do not go together, too few latents, or weights that cannot be had.
    """
    hidden = _dead(lease, store, request) if request.hide_dead else None
    with lease.turn() as (model, saes):
        labels = [member.label for member in request.members]
        labelled = [LabelledSae(label, sae) for label, sae in zip(labels, saes, strict=True)]
        rows = decoder_rows(labelled, hidden=hidden)
        weights = {one.label: _written(one.sae) for one in labelled}
        per_input = frozenset(
            named.label for named in labelled if input_scale(named.sae) is not None
        )
        directions = [all_directions(model, sae) for sae in saes]
        W_U = model.W_U.detach().clone()
        vocabulary = vocabulary_texts(model)
    progress = lease.progress
    tokens = join_tokens(
        [
            top_token_ids(direction, W_U, N_TOKENS, store=store, progress=progress)
            for direction in directions
        ]
    )

    def fit_with_room(function: str, *args: Any, progress: Any = None, **settings: Any) -> Any:
        with lease.room(
            # What is sent is there twice, and the worker makes a graph of neighbours.
            _bytes_needed(args, len(rows)),
            f"A map of {len(rows):,} latents",
            remedy="choose narrower SAEs, or fewer of them",
        ):
            return fit(function, *args, progress=progress, **settings)

    found = compute_map(rows, request.config, store=store, fit=fit_with_room, progress=progress)
    family = decoders(weights, hidden=hidden)
    by_label = {member.label: member for member in request.members}
    return MapData(
        map=found,
        tokens=_of_points(tokens, _placed(rows.sae_index, rows.latents, rows.widths)),
        vocabulary=vocabulary,
        family=family,
        members={label: by_label[label] for label in family},
        fingerprints=dict(zip(labels, lease.sae_fingerprints, strict=True)),
        per_input=per_input,
        published_rates=_published_rates(request.members, rows.widths),
        model_fingerprint=lease.model_fingerprint,
    )


def _bytes_needed(args: Sequence[Any], n: int) -> int:
    arrays = [given for given in args if isinstance(given, np.ndarray)]
    placed = max((len(given) for given in arrays), default=n)
    return sum(2 * given.nbytes for given in arrays) + placed * POINT_BYTES


def _written(sae: SAE) -> Float[Tensor, "d_sae d_out"]:
    return unit_writes(sae, range(sae.cfg.d_sae)).detach().float().cpu()


def _published_rates(
    members: Sequence[Member], widths: Sequence[int]
) -> dict[str, Float[np.ndarray, " d_sae"]]:
    found = {}
    for member, width in zip(members, widths, strict=True):
        path = published_file(member.entry, FILE_NAME)
        rates = None if path is None else read_firing_rates(path, width)
        if rates is not None:
            found[member.label] = rates
    return found


def _dead(lease: Lease, store: Store, request: MapRequest) -> dict[str, Bool[np.ndarray, " d_sae"]]:
    """Latents that never fire, by label: as published, else as the sample says."""
    # What was published comes with the weights.
    with lease.turn() as (_, saes):
        widths = [int(sae.cfg.d_sae) for sae in saes]
        with_bos = [trained_with_bos(sae) for sae in saes]
    rates = _published_rates(request.members, widths)
    dead = {label: found == 0 for label, found in rates.items()}
    labels = [member.label for member in request.members]
    others = [number for number, label in enumerate(labels) if label not in rates]
    if others:
        # Each on the text as it was trained to read it, with BOS or without.
        for kind in sorted({with_bos[number] for number in others}):
            alike = [number for number in others if with_bos[number] == kind]
            some = [labels[number] for number in alike]
            measured = read_sample(lease.with_saes(alike), store, some, request.corpus)
            dead |= {label: found.dead for label, found in measured.items()}
    return dead


def _placed(
    sae_index: Int[np.ndarray, " n"], latents: Int[np.ndarray, " n"], widths: Sequence[int]
) -> Int[np.ndarray, " n"]:
    """Row of each point among all latents of all SAEs."""
    starts = np.concatenate([[0], np.cumsum(widths)[:-1]])
    return starts[sae_index] + latents


def _of_points(tokens: TopTokens, rows: Int[np.ndarray, " n"]) -> TopTokens:
    return TopTokens(
        tokens.boosted[rows],
        tokens.boosted_values[rows],
        tokens.suppressed[rows],
        tokens.suppressed_values[rows],
    )
