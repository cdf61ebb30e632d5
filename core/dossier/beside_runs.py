"""Making the longer runs about a whole SAE, or reading them where another page made them."""

from contextlib import suppress

import numpy as np
import pandas as pd

from core.absorption.run import AbsorptionRequest, mark_found, run_absorption, was_found
from core.dossier.beside import RUNS, keep_run, open_beside
from core.dossier.hides import SITE_TOKENS
from core.dossier.request import DossierRequest, SaeVersion
from core.dossier.shared import LeaseOf
from core.lease import Lease
from core.logit_lens import all_directions, join_tokens, top_token_ids
from core.meta_sae.run import MetaRequest, mark_decomposed, run_meta_sae, was_decomposed
from core.sae_quality.view import DEFAULT_TOKENS
from core.splitting.clusters import cluster_table
from core.splitting.fits import Fit
from core.splitting.map import compute_map
from core.splitting.map_config import MapConfig
from core.splitting.members import FIRST_WIDTHS
from core.splitting.rows import LabelledSae, decoder_rows
from core.store import Store
from core.tokens import vocabulary_texts

_N_TOKENS = 10
_LEAST_FOR_CLUSTERS = 40


def make_run(
    name: str, lease_of: LeaseOf, store: Store, request: DossierRequest, *, fit: Fit | None = None
) -> None:
    """Make one of `core.dossier.beside.RUNS`, or read what another page made, and keep it.

    `fit` runs UMAP, by default in this process. Raises ValueError for an unknown run, and with the
    reason where it cannot be made.
    """
    if name not in RUNS:
        raise ValueError(f"There is no run {name!r}; choose of {', '.join(RUNS)}.")
    if name == "map":
        table, about = _map(lease_of, store, request, fit)
    elif name == "meta":
        table, about = _meta(lease_of, store, request)
    else:
        table, about = _absorption(lease_of, store, request)
    keep_run(store, request, name, table, about)


def read_made_elsewhere(lease_of: LeaseOf, store: Store, request: DossierRequest) -> None:
    """Take in what the page of the whole SAE made before, which costs nothing."""
    known = open_beside(store, request)
    made = {
        "meta": any(was_decomposed(store, it) for it in _meta_requests(request)),
        "absorption": any(was_found(store, it) for it in _absorption_requests(request)),
    }
    for name, there in made.items():
        if there and not known.has(name):
            with suppress(ValueError):  # what cannot be read again can be run again at a click
                make_run(name, lease_of, store, request)


def _map(
    lease_of: LeaseOf, store: Store, request: DossierRequest, fit: Fit | None
) -> tuple[pd.DataFrame, str]:
    own = request.sae[1]
    names = request.family_names
    lease = lease_of(request.model, names)
    lease.progress.update(0, None, message="Reading the decoder directions")
    with lease.turn() as (model, saes):
        widths = {sae_id: int(sae.cfg.d_sae) for (_, sae_id), sae in zip(names, saes, strict=True)}
        shown = _first(widths, own)
        chosen = sorted(
            (it for it in zip(names, saes, strict=True) if it[0][1] in shown),
            key=lambda it: widths[it[0][1]],
        )
        rows = decoder_rows([LabelledSae(name[1], sae) for name, sae in chosen])
        directions = [all_directions(model, sae) for _, sae in chosen]
        W_U = model.W_U.detach().clone()
        vocabulary = vocabulary_texts(model)
    n = len(rows)
    config = MapConfig(clusters=n >= _LEAST_FOR_CLUSTERS)
    if n <= config.k:
        small = max(2, n - 1)
        config = MapConfig(n_neighbors=small, n_neighbors_cluster=small)
    found = compute_map(rows, config, store=store, fit=fit, progress=lease.progress)
    table = found.points.rename(
        columns={
            "sae": "sae_id",
            "sae_width": "width",
            "latent_idx": "latent",
            "umap_x": "x",
            "umap_y": "y",
        }
    )
    table = table.assign(sae_id=table["sae_id"].astype(str))
    if "cluster" not in table:
        return table.assign(cluster=-1, label=""), ""
    tokens = join_tokens(
        [
            top_token_ids(it, W_U, _N_TOKENS, store=store, progress=lease.progress)
            for it in directions
        ]
    )
    starts = np.concatenate([[0], np.cumsum(rows.widths)[:-1]])
    boosted = tokens.boosted[starts[rows.sae_index] + rows.latents]
    clusters = cluster_table(found, None, vocabulary.lists(boosted)).set_index("cluster")["label"]
    names_of = [str(clusters.get(number, "")) for number in table["cluster"]]
    return table.assign(cluster=table["cluster"].astype(int), label=names_of), ""


def _first(widths: dict[str, int], own: str) -> set[str]:
    """SAEs that the page of feature splitting begins with: narrow, four and sixteen times wider."""
    narrowest = min(widths.values())
    wanted = {multiple * narrowest for multiple in FIRST_WIDTHS}
    chosen = {sae_id for sae_id, width in widths.items() if width in wanted or sae_id == own}
    return chosen if len(chosen) > 1 else {*sorted(widths, key=widths.__getitem__)[:3], own}


def _meta_requests(request: DossierRequest) -> list[MetaRequest]:
    """Decompositions with and without a narrower SAE, whose meta-SAE is the same."""
    narrower: list[SaeVersion | None] = [None]
    for it in request.family:
        if it == request.sae:
            break
        narrower.append(it)
    return [MetaRequest(request.model, request.sae, it) for it in reversed(narrower)]


def _meta(lease_of: LeaseOf, store: Store, request: DossierRequest) -> tuple[pd.DataFrame, str]:
    wanted = _meta_requests(request)
    chosen = next((it for it in wanted if was_decomposed(store, it)), wanted[-1])
    found = run_meta_sae(lease_of(request.model, chosen.names), store, chosen)
    mark_decomposed(store, chosen)
    made = found.made
    acts = made.acts.tocoo()
    place, meta = acts.coords
    often = np.bincount(meta, minlength=acts.shape[1])
    table = pd.DataFrame(
        {
            "latent": made.latents[place],
            "meta": meta,
            "activation": acts.data,
            "matched": made.matched[meta],
            "latents": often[meta],
            "tokens": [found.tokens[it] for it in meta],
        }
    )
    order = ["latent", "activation"]
    table = table.sort_values(order, ascending=[True, False], kind="stable", ignore_index=True)
    about = (
        f"Meta-latents explain {made.explained.value:.1%} of the variance of all latents' "
        f"directions; of Gaussian rows of the same covariance {made.gaussian:.1%}. A second seed "
        f"finds {made.recurring:.0%} of them again (by chance {made.recurring_null:.0%})."
    )
    return table, about


def _absorption_requests(request: DossierRequest) -> list[AbsorptionRequest]:
    """As the page of the whole SAE asks, and as a dossier's exceptions do."""
    saes = (request.sae,)
    return [
        AbsorptionRequest(request.model, saes, request.corpus, tokens)
        for tokens in dict.fromkeys((DEFAULT_TOKENS, min(SITE_TOKENS, request.tokens)))
    ]


def _absorption(
    lease_of: LeaseOf, store: Store, request: DossierRequest
) -> tuple[pd.DataFrame, str]:
    wanted = _absorption_requests(request)
    chosen = next((it for it in wanted if was_found(store, it)), wanted[-1])
    lease: Lease = lease_of(request.model, chosen.names)
    (found,) = run_absorption(lease, store, chosen)
    mark_found(store, chosen)
    rows = []
    for it in found.represented:
        common = {
            "concept": it.name,
            "absorbed": it.full.value,
            "low": it.full.low,
            "high": it.full.high,
            "chance": it.shuffled.full,
            "hedging": it.hedging,
            "n": it.n_hits,
        }
        rows += [
            {"latent": int(main), "role": "its own", "share": float("nan"), **common}
            for main in it.mains
        ]
        rows += [
            {
                "latent": int(row["latent"]),
                "role": "absorbs",
                **common,
                "share": float(row["share"]),
                "n": int(row["positions"]),
            }
            for row in it.absorbers.to_dict("records")
        ]
    columns = ["latent", "role", "concept", "absorbed", "low", "high", "chance", "hedging"]
    table = pd.DataFrame(rows, columns=[*columns, "share", "n"])
    about = (
        f"{len(found.represented)} of {len(found.results)} kinds of tokens that the model has, at "
        f"{found.n_sites:,} positions of {found.text}."
    )
    return table.astype({"latent": np.int64, "n": np.int64}), about
