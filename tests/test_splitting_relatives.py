"""Relatives of a latent: planted families, second implementations, identities of the counts."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from torch import Tensor

from core.jobs.progress import JobCancelled, Progress
from core.splitting import decoders as decoders_module
from core.splitting.cofiring import cofiring, pairs_in_text, peak_positions
from core.splitting.decoders import Decoder, chance_cosine, decoders, matched_chance_cosine
from core.splitting.firing_children import firing_children, firing_parents
from core.splitting.new_latents import new_latents
from core.splitting.relatives import (
    best_matches_table,
    children,
    cosine_relatives,
    nearest_latents,
    parent,
)
from core.splitting.similar_descriptions import similar_descriptions
from core.splitting.tree import cosine_tree, firing_tree
from core.wilson import wilson_low

D_IN = 64
WIDTHS = (12, 40, 120)


@dataclass(frozen=True)
class Planted:
    """A family in which every latent's parent is known."""

    weights: dict[str, Tensor]
    """`W_dec` by label."""
    parents: dict[str, np.ndarray]
    """Parent in the next narrower SAE, by label; -1 for new latents."""


@pytest.fixture(scope="module")
def planted() -> Planted:
    """Children lie close to their parent; every tenth latent is new."""
    generator = torch.Generator().manual_seed(3)
    rows = torch.linalg.qr(torch.randn(D_IN, WIDTHS[0], generator=generator))[0].T
    weights, parents = {str(WIDTHS[0]): rows}, {}
    for width in WIDTHS[1:]:
        above = torch.randint(0, len(rows), (width,), generator=generator)
        new = torch.arange(width) % 10 == 9
        noise = torch.randn(width, D_IN, generator=generator)
        direction = rows[above] + 0.02 * noise
        direction[new] = noise[new]
        # A new latent is nobody's relative: nothing of the narrowest directions is in it.
        first = weights[str(WIDTHS[0])]
        direction[new] -= direction[new] @ first.T @ first
        rows = direction / direction.norm(dim=1, keepdim=True)
        weights[str(width)] = rows
        parents[str(width)] = torch.where(new, -1, above).numpy()
    # Length must not matter.
    lengths = {
        label: 0.5 + torch.rand(len(it), 1, generator=generator) for label, it in weights.items()
    }
    return Planted({label: it * lengths[label] for label, it in weights.items()}, parents)


@pytest.fixture(scope="module")
def family(planted: Planted) -> dict[str, Decoder]:
    return decoders(planted.weights)


def brute_cosines(of: Tensor, among: Tensor) -> np.ndarray:
    ours, theirs = of.double().numpy(), among.double().numpy()
    ours = ours / np.linalg.norm(ours, axis=1, keepdims=True)
    theirs = theirs / np.linalg.norm(theirs, axis=1, keepdims=True)
    return ours @ theirs.T


class TestByDirection:
    def test_planted_children_are_found_exactly(
        self, planted: Planted, family: dict[str, Decoder]
    ) -> None:
        for narrow, wide in (("12", "40"), ("40", "120")):
            for latent in range(family[narrow].width):
                found, _ = children(family[narrow], family[wide], latent)
                expected = np.flatnonzero(planted.parents[wide] == latent)
                assert sorted(found.tolist()) == expected.tolist()

    def test_relatives_equal_all_pairs(self, planted: Planted, family: dict[str, Decoder]) -> None:
        threshold = 0.1  # low, so that chance relatives are in it, too
        for label, latent in (("12", 3), ("40", 9), ("40", 17), ("120", 50)):
            table = cosine_relatives(family, label, latent, threshold=threshold)
            expected = []
            for other, W_dec in planted.weights.items():
                both = brute_cosines(planted.weights[label], W_dec)
                if len(W_dec) < int(label):
                    match = both[latent].argmax()
                    if both[latent, match] >= threshold:
                        expected.append(("parent", other, match, both[latent, match]))
                elif len(W_dec) > int(label):
                    expected += [
                        ("child", other, i, both[latent, i])
                        for i in range(len(W_dec))
                        if both[:, i].argmax() == latent and both[latent, i] >= threshold
                    ]
            found = table[["relation", "sae", "latent_idx"]].apply(tuple, axis=1).tolist()
            assert sorted(found) == sorted(it[:3] for it in expected)
            by_key = {it[:3]: it[3] for it in expected}
            assert table["cosine"].tolist() == pytest.approx(
                [by_key[key] for key in found], abs=1e-5
            )
            in_each = table.groupby(["relation", "sae"])["cosine"]
            assert in_each.apply(lambda it: it.is_monotonic_decreasing).all()

    def test_children_and_parents_are_one_relation(self, family: dict[str, Decoder]) -> None:
        for latent in range(40):
            for child, cosine in zip(*children(family["40"], family["120"], latent), strict=True):
                back, back_cosine = parent(family["120"], family["40"], int(child))
                assert back == latent
                assert back_cosine == pytest.approx(float(cosine), abs=1e-5)

    def test_chunks_change_nothing(
        self, family: dict[str, Decoder], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        whole = best_matches_table(family["120"], family["40"])
        monkeypatch.setattr(decoders_module, "CHUNK", 1)
        # 1-row strips, 8-column blocks: every place where a block could be lost.
        pieces = best_matches_table(family["120"], family["40"])
        assert whole["match"].tolist() == pieces["match"].tolist()
        np.testing.assert_allclose(whole["cosine"], pieces["cosine"], atol=1e-6)

    def test_nearest_latents(self, planted: Planted, family: dict[str, Decoder]) -> None:
        table = nearest_latents(family, "40", 5, k=4)
        for label, W_dec in planted.weights.items():
            cosines = brute_cosines(planted.weights["40"][[5]], W_dec)[0]
            if label == "40":
                cosines[5] = -2
            rows = table[table["sae"] == label]
            assert rows["latent_idx"].tolist() == np.argsort(-cosines)[:4].tolist()
            assert set(rows["relation"]) == {"same SAE" if label == "40" else "other SAE"}

    def test_rows_without_direction_are_nobodys_relative(self) -> None:
        weights = {"2": torch.eye(4)[:2].clone(), "5": torch.eye(4)[[0, 0, 0, 1, 2]].clone()}
        weights["5"][0] = 0
        weights["5"][1] = float("nan")
        family = decoders(weights, hidden={"5": np.array([0, 0, 0, 1, 0], dtype=bool)})
        assert cosine_relatives(family, "2", 0)["latent_idx"].tolist() == [2]
        assert cosine_relatives(family, "2", 1).empty
        assert best_matches_table(family["5"], family["2"])["latent_idx"].tolist() == [2, 4]
        assert nearest_latents(family, "2", 0, k=10)["latent_idx"].tolist() == [1, 2, 4]
        for latent in (0, 1, 3):
            with pytest.raises(ValueError, match="no direction"):
                cosine_relatives(family, "5", latent)

    def test_errors_name_the_remedy(self, family: dict[str, Decoder]) -> None:
        with pytest.raises(ValueError, match="choose 0 to 11"):
            cosine_relatives(family, "12", 12)
        with pytest.raises(ValueError, match="no SAE '13'"):
            cosine_relatives(family, "13", 0)
        with pytest.raises(ValueError, match="threshold is 2"):
            cosine_relatives(family, "12", 0, threshold=2)
        with pytest.raises(ValueError, match="one site"):
            decoders({"a": torch.ones(2, 3), "b": torch.ones(2, 4)})
        with pytest.raises(ValueError, match="at least one"):
            nearest_latents(family, "12", 0, k=0)

    def test_cancel(self, family: dict[str, Decoder]) -> None:
        progress = Progress()
        progress.cancel()
        with pytest.raises(JobCancelled):
            best_matches_table(family["120"], family["40"], progress=progress)


class TestChance:
    @pytest.mark.slow
    @pytest.mark.parametrize(("d_in", "n"), [(16, 50), (64, 200)])
    def test_level_is_that_of_random_directions(self, d_in: int, n: int) -> None:
        rng = np.random.default_rng(0)
        directions = rng.normal(size=(1500, n, d_in))
        # The cosine with a fixed direction, here the first axis.
        best = (directions[..., 0] / np.linalg.norm(directions, axis=-1)).max(axis=1)
        for level in (0.5, 0.9):
            assert np.mean(best <= chance_cosine(d_in, n, level=level)) == pytest.approx(
                level, abs=0.04
            )

    def test_matched_level_sees_that_directions_are_not_spread_evenly(self) -> None:
        generator = torch.Generator().manual_seed(0)
        even = torch.randn(400, D_IN, generator=generator)
        squeezed = even * torch.linspace(3, 0.05, D_IN) ** 2
        levels = []
        for weights in (even, squeezed):
            family = decoders({"a": weights[:100], "b": weights[100:]})
            levels.append(matched_chance_cosine(family["b"], family["a"]))
        assert levels[0] == pytest.approx(chance_cosine(D_IN, 100), abs=0.05)
        assert levels[1] > levels[0] + 0.1

    def test_bad_arguments(self) -> None:
        with pytest.raises(ValueError, match="at least 2 dimensions"):
            chance_cosine(1, 10)


def sparse(dense: np.ndarray) -> csr_array:
    return csr_array(dense.astype(np.float32))


@st.composite
def firings_pair(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Dense activations of two small SAEs, whole numbers so that sums are exact."""
    n, narrow, wide = draw(st.integers(1, 12)), draw(st.integers(1, 4)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    density = draw(st.sampled_from([0.1, 0.4, 0.8]))

    def activations(d: int) -> np.ndarray:
        return rng.integers(1, 5, (n, d)) * (rng.random((n, d)) < density)

    return activations(narrow), activations(wide)


class TestByFiring:
    @given(pair=firings_pair(), data=st.data())
    @settings(max_examples=60)
    def test_equals_plain_counting(
        self, pair: tuple[np.ndarray, np.ndarray], data: st.DataObject
    ) -> None:
        narrow, wide = pair
        latent = data.draw(st.integers(0, narrow.shape[1] - 1))
        positions = data.draw(st.none() | st.lists(st.integers(0, len(narrow) - 1), unique=True))
        along = np.linspace(-1, 1, wide.shape[1])
        chosen = None if positions is None else np.array(positions, dtype=np.int64)
        table = cofiring(
            *(sparse(narrow), sparse(wide), latent),
            positions=chosen,
            projections=along,
            min_firings=1,
        )
        if chosen is not None:
            narrow, wide = narrow[chosen], wide[chosen]
        own = narrow[:, latent] > 0
        written = (wide * np.maximum(along, 0))[own].sum(axis=0)
        rows = {row.latent_idx: row for row in table.itertuples()}
        assert set(rows) == {i for i in range(wide.shape[1]) if (own & (wide[:, i] > 0)).any()}
        for i, row in rows.items():
            fires = wide[:, i] > 0
            joint = int((own & fires).sum())
            assert (row.n_parent, row.n_child, row.n_joint) == (own.sum(), fires.sum(), joint)
            assert row.jaccard == joint / (own | fires).sum()
            assert row.p_child_given_parent == joint / own.sum()
            assert row.p_parent_given_child == joint / fires.sum()
            assert row.share_of_mass == pytest.approx(
                narrow[own & fires, latent].sum() / narrow[:, latent].sum()
            )
            assert row.share_explained == pytest.approx(written[i] / max(written.sum(), 1e-300))
            if not own.all():
                assert row.lift == pytest.approx(joint / own.sum() / fires.mean())
        assert table["jaccard"].is_monotonic_decreasing

    @given(pair=firings_pair(), data=st.data())
    @settings(max_examples=40)
    def test_symmetry(self, pair: tuple[np.ndarray, np.ndarray], data: st.DataObject) -> None:
        a, b = (sparse(it) for it in pair)
        i = data.draw(st.integers(0, a.shape[1] - 1))
        j = data.draw(st.integers(0, b.shape[1] - 1))
        there = cofiring(a, b, i, min_firings=1).set_index("latent_idx")
        back = cofiring(b, a, j, min_firings=1).set_index("latent_idx")
        assert (j in there.index) == (i in back.index)
        if j in there.index:
            assert there.loc[j, "jaccard"] == back.loc[i, "jaccard"]
            assert there.loc[j, "p_child_given_parent"] == back.loc[i, "p_parent_given_child"]

    def test_few_firings_are_not_shown_as_strong(self) -> None:
        narrow, wide = np.zeros((20, 1)), np.zeros((20, 2))
        narrow[:10, 0], wide[:1, 0], wide[:8, 1] = 1, 1, 1
        table = cofiring(sparse(narrow), sparse(wide), 0, min_firings=5)
        assert table["latent_idx"].tolist() == [1]
        both = cofiring(sparse(narrow), sparse(wide), 0, min_firings=1).set_index("latent_idx")
        assert both.loc[0, "p_parent_given_child"] == both.loc[1, "p_parent_given_child"] == 1
        low = both["p_parent_given_child_low"]
        assert low[0] < 0.25 < 0.6 < low[1]

    def test_stored_zeros_do_not_fire(self) -> None:
        wide = csr_array((np.array([0.0, 2.0]), np.array([0, 1]), np.array([0, 2])), shape=(1, 2))
        table = cofiring(sparse(np.ones((1, 1))), wide, 0, min_firings=1)
        assert table["latent_idx"].tolist() == [1]

    def test_wilson_interval_equals_scipy(self) -> None:
        from scipy.stats import binomtest

        for hits, of in ((0, 5), (3, 7), (50, 60), (9, 9)):
            expected = binomtest(hits, of).proportion_ci(method="wilson").low
            assert wilson_low(np.array([hits]), np.array([of]))[0] == pytest.approx(
                expected, abs=1e-6
            )

    def test_peaks(self) -> None:
        own = np.array([[0, 5, 1, 9, 0, 7]]).T
        assert peak_positions(sparse(own), 0, n_top=3).tolist() == [3, 5, 1]
        assert peak_positions(sparse(own), 0).tolist() == [3, 5, 1, 2]
        documents = np.array([0, 0, 0, 1, 1, 1])
        assert peak_positions(sparse(own), 0, documents=documents).tolist() == [3, 1]
        with pytest.raises(ValueError, match="at least one"):
            peak_positions(sparse(own), 0, n_top=0)

    @given(pair=firings_pair())
    @settings(max_examples=40)
    def test_pairs_in_a_text(self, pair: tuple[np.ndarray, np.ndarray]) -> None:
        narrow, wide = pair
        table = pairs_in_text(sparse(narrow), sparse(wide), min_joint=1, limit=1000)
        expected = {}
        for i in range(narrow.shape[1]):
            for j in range(wide.shape[1]):
                a, b = narrow[:, i], wide[:, j]
                if ((a > 0) & (b > 0)).any():
                    jaccard = ((a > 0) & (b > 0)).sum() / ((a > 0) | (b > 0)).sum()
                    expected[i, j] = (jaccard, a @ b / np.linalg.norm(a) / np.linalg.norm(b))
        found = {(row.narrow_idx, row.wide_idx): row for row in table.itertuples()}
        assert set(found) == set(expected)
        for key, row in found.items():
            assert (row.jaccard, row.overlap) == pytest.approx(expected[key])
        assert table["overlap"].is_monotonic_decreasing

    def test_errors(self) -> None:
        with pytest.raises(ValueError, match="same texts"):
            cofiring(sparse(np.ones((2, 1))), sparse(np.ones((3, 1))), 0)
        with pytest.raises(ValueError, match="choose 0 to 0"):
            cofiring(sparse(np.ones((2, 1))), sparse(np.ones((2, 1))), 1)


def planted_firings(planted: Planted, *, n: int = 4000) -> dict[str, csr_array]:
    """Parents fire where one of their children does; each position has a few widest latents."""
    rng = np.random.default_rng(5)
    dense = {"120": (rng.random((n, 120)) < 0.02) * rng.uniform(1, 2, (n, 120))}
    for label, above in (("120", "40"), ("40", "12")):
        parents = planted.parents[label]
        acts = np.zeros((n, int(above)))
        for child, of in enumerate(parents):
            if of >= 0:
                acts[:, of] = np.maximum(acts[:, of], dense[label][:, child])
        dense[above] = acts
    # A latent that fires everywhere is in every real SAE.
    dense["12"][:, 0] = 1
    return {label: sparse(it) for label, it in dense.items()}


class TestPlantedFirings:
    def test_children_are_found_exactly(self, planted: Planted) -> None:
        firings = planted_firings(planted)
        for latent in range(40):
            found = firing_children(firings["40"], firings["120"], latent, max_frequency=0.5)
            expected = np.flatnonzero(planted.parents["120"] == latent)
            assert sorted(found["latent_idx"]) == expected.tolist()
            assert (found["p_parent_given_child"] == 1).all()
            assert found["share_of_mass"].is_monotonic_decreasing

    def test_parents_against_plain_counting(self, planted: Planted) -> None:
        firings = planted_firings(planted, n=600)
        narrow, wide = firings["12"].toarray() > 0, firings["40"].toarray() > 0
        latents = np.array([30, 2, 9, 17])
        table = firing_parents(firings["12"], firings["40"], latents, max_frequency=0.6)
        assert table["latent_idx"].tolist() == latents.tolist()
        considered = narrow.mean(axis=0) <= 0.6
        for row in table.itertuples():
            joint = (narrow & wide[:, [row.latent_idx]]).sum(axis=0) * considered
            assert row.n_firings == wide[:, row.latent_idx].sum()
            assert joint[row.parent_idx] == joint.max()
            assert row.p_parent_given_child == pytest.approx(joint.max() / row.n_firings)
            best = np.flatnonzero(joint == joint.max())
            assert narrow[:, row.parent_idx].sum() == narrow[:, best].sum(axis=0).min()

    def test_latents_that_fire_everywhere_are_no_parents(self, planted: Planted) -> None:
        firings = planted_firings(planted)
        assert firing_children(firings["12"], firings["40"], 0).empty

    def test_silent_latents_have_no_parent(self) -> None:
        silent = firing_parents(
            sparse(np.eye(3)), sparse(np.zeros((3, 2))), np.array([1]), max_frequency=1
        )
        assert silent["parent_idx"].tolist() == [-1]
        assert silent["p_parent_given_child"].isna().all()


class TestNewLatents:
    def test_by_direction(self, planted: Planted, family: dict[str, Decoder]) -> None:
        table = new_latents(family["12"], family["40"], threshold=0.6)
        assert sorted(table["latent_idx"]) == np.flatnonzero(planted.parents["40"] < 0).tolist()
        assert table["cosine"].is_monotonic_increasing

    def test_with_firings(self, planted: Planted, family: dict[str, Decoder]) -> None:
        firings = planted_firings(planted)
        wide = firings["120"].toarray()
        new = np.flatnonzero(planted.parents["120"] < 0)
        wide[:, new[0]] = 0  # dead
        wide[:, new[1]] = firings["40"].toarray()[:, 3]  # fires as a narrow latent does
        wide[2000:, new[2]] = 0  # rarer than the others
        table = new_latents(
            *(family["40"], family["120"]),
            threshold=0.6,
            narrow_firings=firings["40"],
            wide_firings=sparse(wide),
            max_frequency=0.5,
        )
        assert sorted(table["latent_idx"]) == sorted(new[2:])
        assert table["frequency"].is_monotonic_decreasing
        assert table["latent_idx"].iloc[-1] == new[2]
        counts = (wide > 0).sum(axis=0)
        assert table["n_firings"].tolist() == counts[table["latent_idx"]].tolist()

    def test_firings_must_fit(self, planted: Planted, family: dict[str, Decoder]) -> None:
        firings = planted_firings(planted, n=10)
        with pytest.raises(ValueError, match="both, or of neither"):
            new_latents(family["40"], family["120"], narrow_firings=firings["40"])
        with pytest.raises(ValueError, match="same positions"):
            new_latents(
                *(family["40"], family["120"]),
                narrow_firings=firings["40"],
                wide_firings=firings["40"],
            )


class TestDescriptions:
    TEXTS: Mapping[str, list[str | None]] = {
        "wide": [
            "opening bracket of np.array(",
            "the word cat",
            "",
            None,
            "bracket after np.array",
        ],
        "wider": ["dogs", "np.array call, opening bracket"],
    }

    def test_shared_words_rank_first(self) -> None:
        table = similar_descriptions("opening bracket of an np.array call", self.TEXTS)
        assert table[table["sae"] == "wide"]["latent_idx"].tolist()[0] == 0
        assert table[table["sae"] == "wider"]["latent_idx"].tolist() == [1]
        assert not set(table["latent_idx"][table["sae"] == "wide"]) & {2, 3}
        assert table["similarity"].between(0, 1).all()
        assert set(table["n_described"][table["sae"] == "wide"]) == {3}

    def test_signs_only(self) -> None:
        table = similar_descriptions(">>>", {"a": [">>>", "text", "->"]})
        assert table["latent_idx"].tolist() == [0]

    def test_embeddings_are_used_where_given(self) -> None:
        rng = np.random.default_rng(0)
        embeddings = {label: rng.normal(size=(len(it), 8)) for label, it in self.TEXTS.items()}
        table = similar_descriptions(
            "anything",
            self.TEXTS,
            query_embedding=embeddings["wide"][1] * 3,
            embeddings=embeddings,
            min_similarity=-1,
        )
        assert table["latent_idx"].iloc[0] == 1
        assert table["similarity"].iloc[0] == pytest.approx(1)
        assert set(table["measure"]) == {"embedding"}
        with pytest.raises(ValueError, match="a row for each latent"):
            similar_descriptions("x", self.TEXTS, query_embedding=np.ones(4), embeddings=embeddings)

    def test_nothing_to_compare(self) -> None:
        assert similar_descriptions("cat", {"a": ["", None]}).empty  # type: ignore[list-item]
        assert similar_descriptions("_", {"a": ["_"]}).empty
        with pytest.raises(ValueError, match="no description"):
            similar_descriptions(" ", self.TEXTS)


class TestTree:
    def test_planted_tree(self, planted: Planted, family: dict[str, Decoder]) -> None:
        latent = int(np.flatnonzero(planted.parents["40"] >= 0)[0])
        tree = cosine_tree(family, "40", latent, max_children=100, max_nodes=100)
        above = int(planted.parents["40"][latent])
        below = np.flatnonzero(planted.parents["120"] == latent)
        found = tree.nodes[["sae", "latent_idx"]].apply(tuple, axis=1).tolist()
        assert found[:2] == [("12", above), ("40", latent)]
        assert sorted(found[2:]) == sorted(("120", int(i)) for i in below)
        assert tree.nodes["chosen"].tolist() == [False, True] + [False] * len(below)
        _check_links(tree.nodes, tree.edges)

    def test_by_firing(self, planted: Planted) -> None:
        firings = planted_firings(planted)
        counts = pd.Series(planted.parents["120"][planted.parents["120"] >= 0]).value_counts()
        latent = int(counts[planted.parents["40"][counts.index] > 0].index[0])
        tree = firing_tree(
            firings, "40", latent, max_frequency=0.6, max_children=100, max_nodes=100
        )
        assert tree.nodes["latent_idx"].tolist()[:2] == [planted.parents["40"][latent], latent]
        below = tree.nodes[tree.nodes["sae"] == "120"]["latent_idx"]
        assert sorted(below) == np.flatnonzero(planted.parents["120"] == latent).tolist()
        _check_links(tree.nodes, tree.edges)

    def test_limits_keep_the_strongest_and_count_the_rest(self, family: dict[str, Decoder]) -> None:
        full = cosine_tree(family, "12", 2, max_children=100, max_nodes=1000)
        for max_children, max_nodes in ((2, 1000), (100, 3), (2, 3)):
            tree = cosine_tree(family, "12", 2, max_children=max_children, max_nodes=max_nodes)
            per_level = tree.nodes.groupby("level").size()
            assert per_level.max() <= max_nodes
            shown = tree.edges.groupby("parent").size()
            assert shown.max() <= max_children
            for row, node in tree.nodes[tree.nodes["level"] < 2].iterrows():
                same = full.nodes[
                    (full.nodes["sae"] == node["sae"])
                    & (full.nodes["latent_idx"] == node["latent_idx"])
                ].index[0]
                kids = full.nodes[full.nodes["parent"] == same]["weight"]
                mine = tree.nodes[tree.nodes["parent"] == row]["weight"]
                assert len(mine) + node["n_more"] == len(kids)
                assert sorted(mine) == pytest.approx(sorted(kids)[len(kids) - len(mine) :])

    def test_errors(self, family: dict[str, Decoder], planted: Planted) -> None:
        with pytest.raises(ValueError, match="choose 0 to 11"):
            cosine_tree(family, "12", 99)
        with pytest.raises(ValueError, match="at least one"):
            cosine_tree(family, "12", 0, max_children=0)
        with pytest.raises(ValueError, match="no firings of 'x'"):
            firing_tree(planted_firings(planted, n=10), "x", 0)


def _check_links(nodes: pd.DataFrame, edges: pd.DataFrame) -> None:
    assert len(edges) == len(nodes) - 1
    for edge in edges.itertuples():
        assert nodes["level"][edge.child] == nodes["level"][edge.parent] + 1
        assert edge.weight == nodes["weight"][edge.child] > 0
    assert nodes["weight"].isna().sum() == 1
