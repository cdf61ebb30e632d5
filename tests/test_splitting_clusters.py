"""What clusters and latents are called, and the table for notebooks against a plain version."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch

from core import logit_lens as tokens_module
from core import splitting
from core.logit_lens import all_directions, join_tokens, top_token_ids, top_tokens
from core.splitting import compute_sae_umap_data
from core.splitting.clusters import (
    TokenIds,
    cluster_composition,
    cluster_labels,
    cluster_table,
    noise_share,
)
from core.splitting.map import SplittingMap
from core.splitting.map_config import MapConfig
from core.splitting.map_work import cluster_geometry
from core.splitting.neighbors import Neighbors, exact_neighbors
from core.splitting.rows import LabelledSae, decoder_rows
from core.store import Store
from core.tokens import vocabulary_texts
from tests.builders import make_sae
from tests.splitting_sets import HOOK, Counted, directions, sae_of
from tests.tokenizer_kinds import byte_level_text

pytestmark = pytest.mark.slow


def map_of(labels, xy=None, *, rows=None):
    """A map with these clusters; the first half of its points are of SAE "4", the rest of "8"."""
    n = len(labels)
    xy = np.zeros((n, 2)) if xy is None else np.asarray(xy, dtype=float)
    points = pd.DataFrame(
        {
            "sae": pd.Categorical.from_codes(np.arange(n) * 2 // max(n, 1), ["4", "8"]),
            "sae_width": 4,
            "latent_idx": np.arange(n),
            "umap_x": xy[:, 0].astype(np.float32),
            "umap_y": xy[:, 1].astype(np.float32),
            "cluster": np.asarray(labels, dtype=np.int32),
        }
    )
    neighbors = Neighbors(np.zeros((n, 1), np.int32), np.zeros((n, 1), np.float32))
    rows = directions(n, 4) if rows is None else rows
    geometry = cluster_geometry(rows, points["cluster"].to_numpy())
    return SplittingMap(points, points.head(0), neighbors, MapConfig(clusters=True), geometry)


LABELS = [0, 1, 1, -1, 0, 1, 1, 2]
DESCRIPTIONS = [
    "the word torch.nn in code",
    "names of the rivers",
    "rivers and lakes",
    "noise of rivers",
    "torch.nn modules",
    "the Rivers",
    "",
    "of the and",
]
TOKENS = [["nn", " nn"], [" Rhine"], [" rhine", "Po"], [" nn"], ["nn", "."], [" Po"], ["Rhine"], []]


def test_table_of_clusters():
    table = cluster_table(map_of(LABELS), DESCRIPTIONS, TOKENS)
    assert table["cluster"].tolist() == [1, 0, 2]
    assert table["size"].tolist() == [4, 2, 1]
    assert table["composition"].tolist() == ["4: 2, 8: 2", "4: 1, 8: 1", "8: 1"]
    assert table["terms"][0].startswith("rivers, ")
    assert table["terms"][1].startswith("torch.nn, ")
    assert table["tokens"].tolist() == ["rhine po", "nn .", ""]
    assert table["label"][0] == "rivers"  # the one word that two of its latents share
    assert table["label"][1] == "torch.nn"
    assert table["label"][2] == "cluster 2"  # nothing to say of it
    assert table["medoid_latent"].tolist() == table["medoid"].tolist()


def test_words_count_for_more_where_other_clusters_lack_them():
    # "token" is thrice in the first cluster and in the other as well, "river" twice and only there.
    texts = ["token river token", "river token", "token bird", "token bird"]
    table = cluster_table(map_of([0, 0, 1, 1]), texts)
    assert table["terms"].tolist() == ["river, token", "bird, token"]
    assert table["tokens"].tolist() == ["", ""]


def test_a_cluster_is_named_after_what_its_latents_share():
    said = [["rare"], ["the"], ["the"], ["odd"], ["new"], ["far"], ["the"], ["a"], ["b"]]
    pushed = [["x"], ["x"], ["y"], [" Up"], ["up"], ["z"], ["q"], ["r"], ["s"]]
    table = cluster_table(map_of([0, 0, 0, 1, 1, 1, 2, 2, 2]), said, pushed)
    assert table["label"].tolist() == ["the", "boosts up", "a, b, the"]
    # By weight alone "rare", which one latent has, would come before "the".
    assert table["terms"][0] == "the, rare"


def test_terms_against_counts_by_hand():
    generator = np.random.default_rng(0)
    words = [f"w{number}" for number in range(12)]
    labels = generator.integers(-1, 4, size=60)
    labels[:4] = range(4)
    texts = [" ".join(generator.choice(words, size=5)) for _ in labels]
    table = cluster_table(map_of(labels), texts).set_index("cluster")
    counts = np.zeros((4, 12))
    for label, text in zip(labels, texts, strict=True):
        for word in text.split():
            if label >= 0:
                counts[label, words.index(word)] += 1
    weights = counts * np.log(1 + counts.sum() / 4 / counts.sum(axis=0))
    order = np.array(sorted(range(12), key=lambda number: words[number]))
    for label in range(4):
        best = order[np.argsort(-weights[label][order], kind="stable")][:8]
        assert table.loc[label, "terms"] == ", ".join(words[number] for number in best)


@pytest.mark.parametrize("labels", [[], [-1, -1, -1], [0, 0, 0]])
@pytest.mark.parametrize("with_texts", [True, False])
def test_no_cluster_one_cluster_no_texts(labels, with_texts):
    found = map_of(labels)
    texts = (["a word"] * len(labels), [["t"]] * len(labels)) if with_texts else (None, None)
    table = cluster_table(found, *texts)
    n_clusters = 1 if 0 in labels else 0
    assert len(table) == len(cluster_labels(found, table)) == n_clusters
    assert cluster_composition(found).shape == (n_clusters, 2)
    if labels:
        assert noise_share(found) == (0 if n_clusters else 1)
    if n_clusters:
        assert table["label"].tolist() == (["word"] if with_texts else ["cluster 0"])


def test_tightness_and_medoid_by_hand():
    rows = directions(40, 6)
    labels = np.random.default_rng(0).integers(-1, 3, size=40)
    found = cluster_geometry(rows, labels)
    for number in range(3):
        members = np.flatnonzero(labels == number)
        mean = rows[members].mean(dim=0)
        cosines = torch.cosine_similarity(rows[members], mean[None]).numpy()
        assert found.compactness[number] == pytest.approx(cosines.mean(), abs=1e-6)
        assert found.medoids[number] == members[cosines.argmax()]
    with pytest.raises(ValueError, match="Cluster 1 is empty"):
        cluster_geometry(rows[:2], np.array([0, 2]))


def test_labels_stand_on_a_latent_of_their_cluster():
    # Cluster 0 lies in two places: its median is in neither.
    xy = [[0, 0], [0, 1], [10, 0], [50, 50], [0, 2], [10, 1], [51, 50], [52, 50]]
    found = map_of([0, 0, 0, 1, 0, 0, 1, 1], xy)
    written = cluster_labels(found, cluster_table(found), n_largest=2)
    assert list(written) == ["x", "y", "text", "cluster", "size"]
    assert written["cluster"].tolist() == [0, 1]
    assert written["size"].tolist() == [5, 3]
    assert (written["x"][0], written["y"][0]) in {(0, 0), (0, 1), (10, 0), (0, 2), (10, 1)}
    assert written.loc[1, ["x", "y", "text"]].tolist() == [51.0, 50.0, "cluster 1"]
    assert len(cluster_labels(found, cluster_table(found), n_largest=1)) == 1


def test_tokens_by_their_ids_give_what_their_texts_give():
    rng = np.random.default_rng(3)
    words = ["a", " a", " A", "", "  ", "b", "zeta", " Zeta", "é", "and", "x1", " x1 "]
    ids = rng.integers(0, len(words), (200, 5))
    found = map_of(rng.integers(-1, 12, 200).tolist())
    texts = [[words[it] for it in row] for row in ids]
    by_text = cluster_table(found, None, texts)
    pd.testing.assert_frame_equal(cluster_table(found, None, TokenIds(ids, words)), by_text)
    assert by_text["tokens"].str.contains("zeta").any()
    nothing = map_of([-1] * 200)
    assert cluster_table(nothing, None, TokenIds(ids, words)).empty


def test_texts_that_are_not_one_a_point():
    with pytest.raises(ValueError, match="3 descriptions are given for 8 points"):
        cluster_table(map_of(LABELS), ["a"] * 3)
    without = map_of(LABELS)
    without.points.drop(columns="cluster", inplace=True)
    with pytest.raises(ValueError, match="compute it with MapConfig"):
        noise_share(without)


# --- Tokens ---


def test_tokens_of_both_ends(tiny_model):
    sae = make_sae("standard", d_in=32, d_sae=50, hook_name=HOOK)
    rows = all_directions(tiny_model, sae)
    found = top_token_ids(rows, tiny_model.W_U, 7)
    for ids, values, largest in (
        (found.boosted, found.boosted_values, True),
        (found.suppressed, found.suppressed_values, False),
    ):
        plain_ids, plain_values = top_tokens(sae.W_dec, tiny_model.W_U, 7, largest=largest)
        np.testing.assert_array_equal(ids, plain_ids)
        np.testing.assert_allclose(values, plain_values, rtol=1e-3, atol=1e-3)
    assert found.boosted.dtype == np.int32
    assert found.boosted_values.dtype == np.float16
    assert join_tokens([found, found]).suppressed.shape == (100, 7)
    with pytest.raises(ValueError, match="do not multiply"):
        top_token_ids(rows[:, :5], tiny_model.W_U)


def test_tokens_are_kept(tiny_model, tmp_path, monkeypatch):
    store = Store(tmp_path)
    rows = directions(30, 32)
    first = top_token_ids(rows, tiny_model.W_U, store=store)
    monkeypatch.setattr(tokens_module, "_both_ends", None)  # computing again would fail
    again = top_token_ids(rows, tiny_model.W_U, store=store)
    np.testing.assert_array_equal(again.boosted, first.boosted)
    np.testing.assert_array_equal(again.suppressed_values, first.suppressed_values)


def named(model, ids):
    """Texts of tokens; those that are no whole character by their bytes."""
    return [byte_level_text(model.tokenizer, [it]) for it in ids]


def test_texts_of_tokens(any_model):
    vocabulary = vocabulary_texts(any_model)
    ids = np.random.default_rng(0).integers(0, any_model.W_U.shape[1], size=(30, 6))
    for row, texts, quoted in zip(ids, vocabulary.lists(ids), vocabulary.quoted(ids), strict=True):
        plain = named(any_model, row)
        assert texts == plain
        assert quoted == ", ".join(map(repr, plain))


# --- The table for notebooks ---

WIDTHS = [40, 120]


@pytest.fixture(scope="module")
def saes():
    parents = directions(40, 32, seed=1)
    children = parents.repeat(3, 1) + 0.4 * directions(120, 32, seed=2)
    children[17] = 0
    return {40: sae_of(parents), 120: sae_of(children), 999: None}


def straightforward(saes, model, descriptions, knn):
    """The pipeline as one would write it down, given the neighbours."""
    from hdbscan import HDBSCAN
    from umap import UMAP

    W_dec = torch.cat([saes[width].W_dec for width in WIDTHS])
    frame = pd.DataFrame(
        {
            "sae_width": np.repeat(WIDTHS, WIDTHS),
            "latent_idx": [*range(40), *range(120)],
            "description": [descriptions(width, i) for width in WIDTHS for i in range(width)],
        }
    )
    top = (W_dec @ model.W_U).topk(10).indices
    frame["top_token_strs"] = [", ".join(map(repr, named(model, ids))) for ids in top]
    alive = (W_dec.norm(dim=1) > 0).numpy()
    frame = frame[alive].reset_index(drop=True)
    settings = {"metric": "cosine", "random_state": 5, "precomputed_knn": knn}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = W_dec[torch.as_tensor(alive)].numpy()
        steps = {"n_epochs": 300, "learning_rate": 0.25}
        xy = UMAP(n_components=2, n_neighbors=12, min_dist=0.2, **steps, **settings).fit_transform(
            values
        )
        ten = UMAP(n_components=10, n_neighbors=12, min_dist=0.1, **settings).fit_transform(values)
    frame["umap_x"], frame["umap_y"] = xy[:, 0], xy[:, 1]
    frame["cluster"] = HDBSCAN(min_cluster_size=4).fit(ten).labels_
    return frame


def test_table_is_that_of_the_straightforward_pipeline(any_model, saes):
    tables = {
        # Unsorted, incomplete, with a latent twice and one that has no text.
        120: pd.DataFrame(
            {"index": [7, 3, 7, 60], "description": ["seven", "three", "other", None]}
        )
    }
    texts = {(120, 7): "seven", (120, 3): "three"}
    fit = Counted()
    table = compute_sae_umap_data(
        saes,
        autointerp_dfs=tables,
        sae_widths=WIDTHS,
        model=any_model,
        n_neighbors_visual=12,
        min_dist_visual=0.2,
        find_clusters=True,
        n_neighbors_cluster=12,
        min_dist_cluster=0.1,
        min_cluster_size=4,
        batch_size=33,
        seed=5,
        fit=fit,
    )
    columns = ["sae_width", "latent_idx", "umap_x", "umap_y", "description", "top_token_strs"]
    assert list(table) == [*columns, "cluster"]
    assert table.attrs["left_out"] == {"all zero": 1}
    rows = decoder_rows([LabelledSae(str(width), saes[width]) for width in WIDTHS])
    knn = exact_neighbors(rows.directions, 12)
    plain = straightforward(
        saes, any_model, lambda *latent: texts.get(latent, ""), (knn.ids, knn.distances)
    )
    assert table["cluster"].map(type).eq(str).all()
    assert table["cluster"].astype(int).is_monotonic_increasing
    ours = table.assign(cluster=table["cluster"].astype(int)).sort_index()
    pd.testing.assert_frame_equal(
        ours, plain[list(table)], check_dtype=False, check_column_type=False
    )


def test_without_descriptions_or_clusters(tiny_model, saes):
    def still(function, *args, **kwargs):
        return np.zeros((len(args[0]), 2), dtype=np.float32)

    def table(descriptions, **options):
        return compute_sae_umap_data(saes, descriptions, [40], tiny_model, fit=still, **options)

    nothing = table(None)
    assert nothing["description"].tolist() == [""] * 40
    assert "cluster" not in nothing
    by_position = table({40: pd.DataFrame({"description": ["first", "second"]})})
    assert by_position["description"].tolist()[:3] == ["first", "second", ""]
    hidden = torch.arange(40) < 5
    assert table({}, hidden={40: hidden})["latent_idx"].tolist() == [*range(5, 40)]
    with pytest.raises(ValueError, match="no SAE of width 41; choose from 40, 120, 999"):
        compute_sae_umap_data(saes, None, [41], tiny_model)
    with pytest.raises(ValueError, match="has the columns text; it needs description"):
        table({40: pd.DataFrame({"text": ["a"]})})


def test_latents_of_attention_heads_are_read_through_their_output_weights(tiny_model):
    sae = make_sae("standard", d_in=32, d_sae=40, hook_name="blocks.1.attn.hook_z")

    def still(function, *args, **kwargs):
        return np.zeros((len(args[0]), 2), dtype=np.float32)

    table = compute_sae_umap_data({40: sae}, None, [40], tiny_model, fit=still)
    W_O = tiny_model.blocks[1].attn.W_O.flatten(0, 1)
    top = (sae.W_dec @ W_O @ tiny_model.W_U).topk(10).indices
    plain = [", ".join(map(repr, named(tiny_model, ids))) for ids in top]
    assert table["top_token_strs"].tolist() == plain


def test_every_public_name_is_there():
    assert sorted(splitting.__all__) == splitting.__all__
    assert all(getattr(splitting, name) for name in splitting.__all__)
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = splitting.no_such_name
