"""The map as one table, from SAEs and descriptions by width: for notebooks."""

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from sae_lens import SAE

from core.jobs.progress import Progress
from core.logit_lens import top_tokens
from core.models.hooks import Model
from core.saes.writes import residual_directions
from core.splitting.fits import Fit
from core.splitting.map import compute_map
from core.splitting.map_config import MapConfig
from core.splitting.rows import LabelledSae, decoder_rows
from core.store import Store
from core.tokens import vocabulary_texts

N_TOKENS = 10


def compute_sae_umap_data(
    saes: Mapping[int, SAE],
    autointerp_dfs: Mapping[int, pd.DataFrame] | None,
    sae_widths: Sequence[int],
    model: Model,
    n_neighbors_visual: int = 15,
    min_dist_visual: float = 0.05,
    find_clusters: bool = False,
    n_neighbors_cluster: int = 15,
    min_dist_cluster: float = 0.1,
    min_cluster_size: int = 3,
    batch_size: int = 1000,
    *,
    seed: int = 0,
    hidden: Mapping[int, "torch.Tensor"] | None = None,
    store: Store | None = None,
    fit: Fit | None = None,
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> pd.DataFrame:
    """One joint UMAP of the decoder rows of several SAEs, with what their latents mean.

    Args:
        saes: SAEs of one site, by width; only those in `sae_widths` are used.
        autointerp_dfs: by width, a table with `description` and `index` (without `index`, row i is
            latent i). May be None, lack widths or latents, repeat latents (the first counts) and be
            in any order.
        sae_widths: which SAEs to place, in this order.
        model: the model they belong to; read for its unembedding and tokenizer.
        n_neighbors_visual: neighbours that shape the map.
        min_dist_visual: least distance between its points.
        find_clusters: whether to look for clusters, by HDBSCAN in a layout of 10 dimensions.
        n_neighbors_cluster: neighbours that shape that layout.
        min_dist_cluster: least distance between its points.
        min_cluster_size: fewest latents that make a cluster.
        batch_size: latents whose logits are held at once.
        seed: the same seed gives the same map, to the bit.
        hidden: by width, which latents to leave out (`[width]` bool).
        store, fit, device, progress: as of `compute_map`.

    Returns:
        One row a latent: `sae_width`, `latent_idx`, `umap_x`, `umap_y`, `description` ("" where
        there is none), `top_token_strs` (the 10 tokens it boosts most, as Python strings), and with
        clusters `cluster`, as text ("-1": noise), by which the rows are sorted. Latents with
        decoder rows of zeros, NaN or infinity have no row; `attrs["left_out"]` counts them by
        reason.

    Raises:
        ValueError: a width without SAE, settings or SAEs that do not go together, or too few
            latents.
    """
    missing = [width for width in sae_widths if width not in saes]
    if missing:
        raise ValueError(
            f"There is no SAE of width {missing[0]}; choose from {', '.join(map(str, saes))}."
        )
    labelled = [LabelledSae(str(width), saes[width]) for width in sae_widths]
    config = MapConfig(
        n_neighbors=n_neighbors_visual,
        min_dist=min_dist_visual,
        clusters=find_clusters,
        n_neighbors_cluster=n_neighbors_cluster,
        min_dist_cluster=min_dist_cluster,
        min_cluster_size=min_cluster_size,
        seed=seed,
    )
    rows = decoder_rows(
        labelled,
        hidden={str(width): mask for width, mask in (hidden or {}).items()},
        device=device,
    )
    found = compute_map(rows, config, store=store, fit=fit, progress=progress)
    vocabulary = vocabulary_texts(model)
    descriptions: list[str] = []
    token_strs: list[str] = []
    for number, width in enumerate(sae_widths):
        latents = rows.latents[rows.sae_index == number].tolist()
        by_latent = _descriptions((autointerp_dfs or {}).get(width))
        descriptions += [by_latent.get(latent, "") for latent in latents]
        directions = residual_directions(model, saes[width], latents)
        k = min(N_TOKENS, model.W_U.shape[1])
        ids, _ = top_tokens(directions, model.W_U, k, chunk_size=batch_size)
        token_strs += vocabulary.quoted(ids.cpu().numpy())
    frame = found.points[["sae_width", "latent_idx", "umap_x", "umap_y"]].copy()
    frame["description"] = descriptions
    frame["top_token_strs"] = token_strs
    if find_clusters:
        order = found.points["cluster"].sort_values(kind="stable")
        frame = frame.loc[order.index]
        frame["cluster"] = order.astype("str")
    frame.attrs["left_out"] = found.left_out["reason"].value_counts().to_dict()
    return frame


def _descriptions(table: pd.DataFrame | None) -> dict[int, str]:
    """Description by latent; the first of each counts, and those that are missing are left out."""
    if table is None:
        return {}
    if "description" not in table:
        raise ValueError(
            f"A table of descriptions has the columns {', '.join(map(str, table.columns))}; it "
            "needs description, and index for the latent."
        )
    latents = table["index"] if "index" in table else pd.Series(range(len(table)), table.index)
    first = pd.DataFrame({"latent": latents.astype(int), "text": table["description"]})
    first = first.dropna(subset="text").drop_duplicates("latent")
    return dict(zip(first["latent"].tolist(), first["text"].astype(str).tolist(), strict=True))
