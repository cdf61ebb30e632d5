"""One SAE's decoder rows decomposed, trained once and kept; what was stopped goes on."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING

from core.asking import check_may_compute
from core.meta_sae.config import MetaConfig
from core.store import JSON, Key, Store

if TYPE_CHECKING:  # they bring torch
    import numpy as np

    from core.lease import Lease
    from core.meta_sae.found import MetaFound
    from core.meta_sae.meta import MetaSae

_VERSION = 1
_TOKENS = 8


@dataclass(frozen=True)
class MetaRequest:
    """Which SAE is decomposed, and how."""

    model: str
    """Name of the model."""
    sae: tuple[str, str, str]
    """`(release, sae_id, version)` of the SAE."""
    narrower: tuple[str, str, str] | None = None
    """The same of a narrower SAE of its site, for matching pursuit."""
    config: MetaConfig = field(default_factory=MetaConfig)
    """Settings of the training."""

    @property
    def key(self) -> str:
        """Key of the job: all who ask for the same share it."""
        text = json.dumps([self.model, self.sae, self.narrower, asdict(self.config)])
        return "meta-sae:" + hashlib.sha256(text.encode()).hexdigest()[:24]

    @property
    def names(self) -> list[tuple[str, str]]:
        """`(release, sae_id)` of the SAE and of the narrower one, for a lease."""
        return [it[:2] for it in (self.sae, self.narrower) if it is not None]


def run_meta_sae(lease: "Lease", store: Store, request: MetaRequest) -> "MetaFound":
    """The decompositions of a request whose SAEs the lease has; from the store or made.

    Each training is kept when it is done, and a checkpoint of the one that is stopped, so a
    cancelled run goes on where it was. Raises ValueError as `decompositions`, and for SAEs of
    different sites.
    """
    from core.meta_sae.found import MetaFound
    from core.meta_sae.measure import decompositions
    from core.saes.writes import WRITES_VERSION
    from core.store.dataclass_codec import dataclass_codec

    parameters = {
        "model": lease.model_fingerprint,
        "saes": list(lease.sae_fingerprints),
        "config": asdict(request.config),
        "writes": WRITES_VERSION,
    }
    key, codec = Key("meta-sae", _VERSION, parameters), dataclass_codec(MetaFound)
    found = store.get(key, codec)
    if found is None:
        check_may_compute()
        rows, narrower = _rows(lease)
        with lease.room(
            # Rows thrice (as they are, of length 1, centred or drawn anew), and of the meta-latents
            # the encoder, the decoder, two moments of each, and a checkpoint.
            4 * rows.shape[1] * (3 * len(rows) + 10 * request.config.width(len(rows))),
            f"A meta-SAE of {len(rows):,} latents",
            remedy="choose a narrower SAE, or fewer meta-latents",
        ):
            made = decompositions(
                rows,
                narrower,
                config=request.config,
                progress=lease.progress,
                train=lambda *given: _trained(store, *given),
            )
        lease.progress.update(0, None, message="Reading the tokens of meta-latents")
        tokens, note = _tokens(lease, made.meta.W_dec)
        of_latents, _ = _tokens(lease, rows)
        found = MetaFound(made, tokens, of_latents, lease.sae_fingerprints[0], note)
        store.keep(key, found, codec)
    return found


def _rows(lease: "Lease") -> "tuple[np.ndarray, np.ndarray | None]":
    """What a unit of each latent writes, of the SAE and of the narrower one."""
    from core.saes import head_of
    from core.saes.writes import unit_writes, written_site

    with lease.turn() as (_, saes):
        sites = [(written_site(it), head_of(it), int(it.W_dec.shape[1])) for it in saes]
        if len(set(sites)) > 1:
            raise ValueError(
                f"One SAE writes {sites[0][0]} and the other {sites[1][0]}; choose a narrower SAE "
                "of the same site."
            )
        rows = [unit_writes(it, range(it.cfg.d_sae)).float().cpu().numpy() for it in saes]
    return rows[0], rows[1] if len(rows) > 1 else None


def _trained(
    store: Store, rows: "np.ndarray", config: MetaConfig, tell: Callable[[int], None]
) -> "MetaSae":
    """A meta-SAE from the store, or trained on from its checkpoint."""
    from core.meta_sae.meta import MetaSae
    from core.meta_sae.train import Checkpoint, train_meta_sae
    from core.store.dataclass_codec import dataclass_codec

    digest = hashlib.sha256(rows.tobytes()).hexdigest()
    parameters = {"rows": digest, "shape": list(rows.shape), "config": asdict(config)}
    done, codec = Key("meta-sae-trained", _VERSION, parameters), dataclass_codec(MetaSae)
    part, of_part = Key("meta-sae-part", _VERSION, parameters), dataclass_codec(Checkpoint)
    found = store.get(done, codec)
    if found is None:
        found = train_meta_sae(
            rows,
            config,
            check=tell,
            keep=lambda reached: store.keep(part, reached, of_part),
            start=store.get(part, of_part),
        )
        store.keep(done, found, codec)
        store.remove(part, of_part)
    return found


def _tokens(lease: "Lease", directions: "np.ndarray") -> "tuple[tuple[str, ...], str]":
    """The tokens that each direction boosts most, as one text, or why they are not known."""
    import torch

    from core.logit_lens import top_token_ids
    from core.models.hooks import site_shape
    from core.saes.site import head_of, rows_at_site
    from core.saes.writes import stream_path, written_site
    from core.tokens import vocabulary_texts

    with lease.turn() as (model, (sae, *_)):
        vocabulary = vocabulary_texts(model)
        W_U = model.W_U.detach().clone()
        rows = torch.from_numpy(directions).to(W_U.device)
        try:
            if head_of(sae) is not None:
                rows = rows_at_site(sae, rows, site_shape(model, written_site(sae)))
            rows = stream_path(model, sae).directions(rows).float().clone()
        except ValueError as error:
            return ("",) * len(directions), str(error)
    found = top_token_ids(rows, W_U, _TOKENS, progress=lease.progress)
    return tuple(vocabulary.quoted(found.boosted)), ""


def was_decomposed(store: Store, request: MetaRequest) -> bool:
    """Whether the request was answered before, judged by names alone."""
    return store.get(_mark(request), JSON) is not None


def mark_decomposed(store: Store, request: MetaRequest) -> None:
    """Note that the request was answered."""
    store.keep(_mark(request), {"sae": list(request.sae)}, JSON)


def _mark(request: MetaRequest) -> Key:
    return Key("meta-sae-made", _VERSION, {"request": request.key})
