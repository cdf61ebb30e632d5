"""Belongs: which latents lie near it, fire with it, and are its kin in other widths?"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import torch

from core.dossier.measure import Measure
from core.dossier.reads import described
from core.dossier.shared import Shared, Units
from core.latent.dashboard import read_dashboard
from core.splitting.decoders import decoders
from core.splitting.relatives import THRESHOLD, cosine_relatives, nearest_latents

VERSION = 1
_N_NEAREST = 10


@dataclass(frozen=True, eq=False)
class Belongs:
    """The kin of one latent."""

    measures: tuple[Measure, ...]
    """Its numbers."""
    nearest: pd.DataFrame
    """Latents of the same SAE by cosine: `latent`, `cosine`, `description`."""
    partners: pd.DataFrame
    """Latents that fire with it: `latent`, `share` (of its firings), `frequency` (what chance
    gives), `description`."""
    relatives: pd.DataFrame
    """Parents in narrower and children in wider SAEs: `relation`, `sae_id`, `width`, `latent`,
    `cosine`, from narrow to wide."""
    widths: tuple[int, ...]
    """Widths of the family that was looked at; empty where there is none."""


def figures(shared: Shared, units: Units, numbers: Sequence[int]) -> pd.DataFrame:
    """Cosine of each unit with the nearest latent of the SAE."""
    with shared.lease.turn() as (_, (sae, *_)), torch.no_grad():
        latents = torch.nn.functional.normalize(sae.W_dec.detach().float(), dim=1)
    with units.lease.turn() as (_, (sae, *_)), torch.no_grad():
        chosen = torch.tensor(list(numbers), device=sae.W_dec.device)
        some = torch.nn.functional.normalize(sae.W_dec[chosen].detach().float(), dim=1)
    cosines = some @ latents.T.to(some.device)
    if units is shared.own:
        cosines[torch.arange(len(chosen)), chosen] = -2
    return pd.DataFrame({"nearest": cosines.max(1).values.cpu().numpy().astype(float)})


def belongs_section(shared: Shared, latent: int) -> Belongs:
    """The section of a latent. Raises ValueError for one without a direction."""
    with shared.lease.turn() as (_, (sae, *_)):
        own = decoders({"own": sae.W_dec})
        close = nearest_latents(own, "own", latent, k=_N_NEAREST)
    board = read_dashboard(shared.store, shared.own.index, latent)
    partners = board.partners if board is not None else ()
    named = [*close["latent_idx"].tolist(), *(it.latent for it in partners)]
    text_of = dict(zip(named, described(shared, shared.own, named)["text"], strict=True))
    relatives, widths = _relatives(shared, latent)
    beside = shared.beside("belongs", figures, VERSION, latent)
    measures = [
        Measure(
            "nearest",
            "Cosine with the nearest latent of the same SAE",
            float(close["cosine"].iloc[0]),
            n=int(own["own"].width) - 1,
            of="other latents",
            **beside["nearest"],
        )
    ]
    for relation in ("parent", "child"):
        part = relatives[relatives["relation"] == relation]
        if widths:
            words = {"parent": "Parents in narrower SAEs", "child": "Children in wider SAEs"}
            measures.append(
                Measure(
                    relation,
                    f"{words[relation]} (cosine {THRESHOLD:g} or more)",
                    float(len(part)),
                    n=len(widths) - 1,
                    of="other widths",
                )
            )
    return Belongs(
        measures=tuple(measures),
        nearest=pd.DataFrame(
            {
                "latent": close["latent_idx"].to_numpy(),
                "cosine": close["cosine"].to_numpy(float),
                "description": [text_of[it] for it in close["latent_idx"]],
            }
        ),
        partners=pd.DataFrame(
            {
                "latent": [it.latent for it in partners],
                "share": [it.share for it in partners],
                "frequency": [it.frequency for it in partners],
                "description": [text_of[it.latent] for it in partners],
            }
        ),
        relatives=relatives,
        widths=widths,
    )


def _relatives(shared: Shared, latent: int) -> tuple[pd.DataFrame, tuple[int, ...]]:
    request = shared.request
    columns = ["relation", "sae_id", "width", "latent", "cosine"]
    if len(request.family) < 2:
        return pd.DataFrame(columns=columns), ()
    names = request.family_names
    lease = shared.lease_of(request.model, names)
    lease.progress.update(0, None, message="Looking for parents and children")
    with lease.turn() as (_, saes):
        weights = {sae_id: sae.W_dec for (_, sae_id), sae in zip(names, saes, strict=True)}
        family = decoders(weights)
        found = cosine_relatives(family, request.sae[1], latent)
        widths = tuple(it.width for it in family.values())
    renamed = {"sae": "sae_id", "sae_width": "width", "latent_idx": "latent"}
    return found.rename(columns=renamed)[columns], widths
