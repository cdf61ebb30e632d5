"""What the page of gradients shows, without the page: menus, links, leases, words."""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp

import numpy as np
import pandas as pd
import pytest

from core import lease as lease_module
from core.catalog import Catalog
from core.catalog.entries import SaeEntry
from core.engine import Engine
from core.gradients import gradient_request as compute_module
from core.gradients import sae_choices
from core.gradients.display import (
    cell_of,
    colour_limit,
    counts_sentence,
    list_strongest_cells,
    matrix_to_show,
    nothing_sentence,
    place_of,
)
from core.gradients.gradient_request import GradientRequest, GradientResult, compute
from core.gradients.heads import concerned_heads, suggested_pair
from core.gradients.induction import BoxShare
from core.gradients.page_view import LINK, GradientView
from core.gradients.verify_request import check, check_figure
from core.lease import Lease
from core.settings import Settings
from core.store import Store
from core.view.choices import Choices, read_choices
from tests.demo_bundle import write_demo


def entry(site: str, release: str = "res", layer: int | None = None) -> SaeEntry:
    number = int(site.split(".")[1]) if layer is None else layer
    return SaeEntry(release, site, "m", "demo", hook_name=site, layer=number, width=8)


FOLDERS = TemporaryDirectory()
RESIDUAL = [entry(f"blocks.{layer}.hook_resid_pre") for layer in range(12)]
HEADS = [entry(f"blocks.{layer}.attn.hook_z", "heads") for layer in range(12)]


def test_sites_are_in_the_order_of_the_model() -> None:
    names = ["hook_resid_pre", "attn.hook_z", "hook_attn_out", "hook_resid_mid", "hook_mlp_out"]
    names.append("hook_resid_post")
    found = [sae_choices.depth(entry(f"blocks.2.{name}")) for name in names]
    assert found == sorted(found)
    assert sae_choices.depth(RESIDUAL[3]) > found[-1]


def test_default_pair_and_chain() -> None:
    everything = sorted([*RESIDUAL, *HEADS], key=sae_choices.depth)
    assert sae_choices.default_pair(everything, RESIDUAL[8]) == (RESIDUAL[5], RESIDUAL[8])
    assert sae_choices.default_pair(everything, RESIDUAL[1]) == (RESIDUAL[0], RESIDUAL[1])
    assert sae_choices.default_pair(everything, RESIDUAL[0]) == (RESIDUAL[0], RESIDUAL[1])
    assert sae_choices.default_pair([RESIDUAL[4]], RESIDUAL[4]) == (RESIDUAL[4], RESIDUAL[4])
    chain = sae_choices.default_chain(everything, HEADS[3])
    assert len(chain) == 5
    assert (chain[0], chain[-1]) == (RESIDUAL[0], RESIDUAL[11])
    assert sae_choices.default_chain(HEADS, HEADS[3]) == (HEADS[3],)


def test_an_sae_of_another_model_is_named() -> None:
    other = replace(RESIDUAL[0], model="other-model")
    choices = Choices((), (), {"res": (other,)}, ())
    name = sae_choices.name_of(other)
    with pytest.raises(ValueError, match="trained on other-model, not on docs-small"):
        sae_choices.check_name(choices, "docs-small", name)
    with pytest.raises(ValueError, match="there is no SAE"):
        sae_choices.check_name(choices, "docs-small", "res/two")


def test_suggested_pair_follows_the_heads() -> None:
    scores = pd.DataFrame(
        [
            {"layer": layer, "head": head, "previous_token": 0.1, "induction": 0.05}
            for layer in range(12)
            for head in range(2)
        ]
    )
    scores.loc[(scores["layer"] == 4) & (scores["head"] == 1), "previous_token"] = 0.9
    scores.loc[(scores["layer"] == 7) & (scores["head"] == 0), "previous_token"] = 0.95
    scores.loc[(scores["layer"] == 5) & (scores["head"] == 0), "induction"] = 0.8
    assert suggested_pair(scores, [*RESIDUAL, *HEADS]) == (HEADS[4], HEADS[5])
    assert suggested_pair(scores, RESIDUAL) is None
    assert suggested_pair(scores, HEADS[:1]) is None
    without_bos = [replace(HEADS[4], prepend_bos=False), HEADS[5]]
    assert suggested_pair(scores, without_bos) is None, "one text does not suit both"
    assert list(concerned_heads(scores))[:3] == [(7, 0), (4, 1), (5, 0)]


def test_link_carries_every_field() -> None:
    view = GradientView(
        tab="circuit",
        prompt="a & b",
        source="r/a",
        target="r/b",
        k=3,
        kind="attribution",
        freeze_attention=True,
        freeze_layer_norm=True,
        keep_error="everywhere",
        most=50,
        from_positions=(1, 2),
        to_positions=(3,),
        min_size=0.25,
        top_from=7,
        top_to=8,
        first_token=True,
        pairs="same token",
        pattern="x",
        only=True,
        order="strength",
        cell=(1, 2, 3, 4),
        seed=5,
        length=6,
        early="r/c",
        late="r/d",
        chain=("r/a,b", "r/c"),
        end=(4, 5),
        hold_attention=False,
        hold_norms=False,
        node_share=0.5,
        edge_share=0.25,
        most_nodes=9,
        node=(1, 2, -1),
        pinned=((1, 2, 3),),
        groups=(("dates", ((1, 2, 3), (0, 1, 4))),),
        only_pinned=True,
    )
    default = GradientView()
    names = list(GradientView.__dataclass_fields__)
    assert all(getattr(view, name) != getattr(default, name) for name in names)
    assert {field.name for field in LINK.fields} == set(names)
    assert LINK.parse(LINK.to_parameters(view)) == (view, ())
    _, problems = LINK.parse({"chain": "{", "cell": "1,2,3,4,5", "nodes": "2"})
    assert len(problems) == 3


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    demo: Path = write_demo(tmp_path_factory.mktemp("gradients-view"))
    return Engine(Catalog(replace(Settings(), demo_dir=demo)), device="cpu")


def request_of(engine: Engine, tab: str = "latents", **options: object) -> GradientRequest:
    entries = sae_choices.usable(read_choices(engine.catalog, hub=False), "docs-small")
    source, target = (
        sae_choices.find(entries, f"docs-small-res/blocks.{layer}.hook_resid_pre")
        for layer in (0, 2)
    )
    assert source is not None
    assert target is not None
    request = GradientRequest(
        tab,
        "docs-small",
        "The river runs",
        None if tab == "tokens" else source,
        None if tab == "logits" else target,
    )
    return replace(request, **options)  # type: ignore[arg-type]


def lease(engine: Engine, request: GradientRequest) -> Lease:
    return engine.lease(request.model, [it.key for it in request.entries])


def computed(engine: Engine, store: Store, request: GradientRequest) -> GradientResult:
    return compute(lease(engine, request), store, request)


def store() -> Store:
    """An empty one."""
    return Store(Path(mkdtemp(dir=FOLDERS.name)))


@pytest.fixture(scope="module")
def result(engine: Engine) -> GradientResult:
    return computed(engine, store(), request_of(engine))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("tab", "budget"), [("latents", 1_000_000), ("tokens", 200_000), ("logits", 200_000)]
)
def test_short_leases_give_the_same(
    tab: str, budget: int, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = computed(engine, store(), request_of(engine, tab)).matrix.values
    leases: list[object] = []
    use = Engine.use

    def counted(self: Engine, *names: object, **options: object) -> object:
        if self.locks.held is None:
            leases.append(names)
        return use(self, *names, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(lease_module, "TURN_SECONDS", 1e-9)
    monkeypatch.setattr(compute_module, "DEFAULT_MEMORY_BUDGET", budget)
    monkeypatch.setattr(Engine, "use", counted)
    parts = computed(engine, store(), request_of(engine, tab)).matrix.values
    # The first is for the key under which the store is asked.
    assert len(leases) > 3 or min(parts.shape) < 8
    np.testing.assert_allclose(parts, whole, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize("tab", ["latents", "tokens", "logits"])
def test_a_kept_matrix_is_the_one_computed(
    tab: str, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, request = store(), request_of(engine, tab)
    first = computed(engine, kept, request)
    monkeypatch.setattr(compute_module, "open_route", None)
    again = computed(engine, kept, request)
    for name in ("tokens", "report", "fit", "n_sources", "n_targets", "saes", "parts", "n_leading"):
        assert getattr(again, name) == getattr(first, name)
    np.testing.assert_array_equal(again.matrix.values, first.matrix.values)
    for end in ("sources", "targets"):
        ours, theirs = getattr(again.matrix, end), getattr(first.matrix, end)
        pd.testing.assert_frame_equal(ours[theirs.columns], theirs)
    assert counts_sentence(again) == counts_sentence(first)
    with pytest.raises(TypeError):
        computed(engine, kept, replace(request, most=3))


def test_the_strongest_are_computed_alone(engine: Engine, result: GradientResult) -> None:
    part = computed(engine, store(), request_of(engine, most=10))
    assert part.matrix.values.shape == (10, 10)
    assert (part.n_sources, part.n_targets) == (result.n_sources, result.n_targets)
    for row in range(10):
        for column in range(10):
            place = place_of(result.matrix, cell_of(part.matrix, row, column))
            assert place is not None
            assert part.matrix.values[row, column] == pytest.approx(
                result.matrix.values[place], abs=1e-5 * float(np.abs(result.matrix.values).max())
            )


def test_what_is_shown(result: GradientResult) -> None:
    view = GradientView(top_from=6, top_to=5)
    matrix = matrix_to_show(result, view, {})
    assert matrix.values.shape[0] <= 5
    assert (matrix.sources["position"] > 0).all()
    wide = replace(view, first_token=True, top_from=150, top_to=150)
    assert (matrix_to_show(result, wide, {}).sources["position"] == 0).any()
    cells = list_strongest_cells(matrix, 3)
    sizes = []
    for cell in cells:
        place = place_of(matrix, cell)
        assert place is not None
        sizes.append(abs(matrix.values[place]))
    assert sizes == sorted(np.abs(matrix.values).ravel(), reverse=True)[:3]
    times = matrix_to_show(result, replace(view, kind="attribution"), {})
    for row, column in np.ndindex(*times.values.shape):
        place = place_of(result.matrix, cell_of(times, row, column))
        assert place is not None
        expected = result.matrix.values[place] * result.matrix.sources["value"].iloc[place[1]]
        assert times.values[row, column] in (0, pytest.approx(expected))
    assert place_of(matrix, (1, 2, 3)) is None
    assert place_of(matrix, (99, 2, 3, 4)) is None


def test_sentences(result: GradientResult) -> None:
    assert result.report is not None
    assert f"{result.report.n_mismatched:,} in only one" in counts_sentence(result)
    empty = matrix_to_show(result, GradientView(min_size=1e9), {})
    assert "passes the filters" in str(nothing_sentence(result, empty))
    assert nothing_sentence(result, result.matrix) is None
    assert "earlier SAE is active" in str(nothing_sentence(replace(result, n_sources=0), empty))
    assert "later SAE is active" in str(nothing_sentence(replace(result, n_targets=0), empty))


def test_colours_end_before_outliers(result: GradientResult) -> None:
    values = np.ones((30, 30), dtype=np.float32)
    values[0, 0] = 100
    assert colour_limit(replace(result.matrix, values=values)) == 1
    values[0, 0] = 1.2
    assert colour_limit(replace(result.matrix, values=values)) == pytest.approx(1.2)
    assert colour_limit(replace(result.matrix, values=0 * values)) == 1


def test_check_and_its_figure(engine: Engine, result: GradientResult) -> None:
    cells = list_strongest_cells(matrix_to_show(result, GradientView(), {}), 5)
    found = check(lease(engine, result.request), store(), result, cells)
    table = found.verification.cells
    places = table[["from_position", "from_index", "to_position", "to_index"]]
    assert [tuple(it) for it in places.to_numpy().tolist()] == list(found.cells) == cells
    figure = check_figure(found)
    assert list(figure.data[1].x) == pytest.approx(table["predicted_step"].tolist())
    assert list(figure.data[3].y) == pytest.approx(table["actual_ablation"].tolist())
    with pytest.raises(ValueError, match="not in this matrix"):
        check(lease(engine, result.request), store(), result, [(99, 0, 0, 0)])
    with pytest.raises(ValueError, match="no cells"):
        check(lease(engine, result.request), store(), result, [])


def test_a_box_share_over_chance() -> None:
    assert BoxShare(0.3, 0.1).ratio == pytest.approx(3)


def test_logits_are_likeliest_first(engine: Engine) -> None:
    found = computed(engine, store(), request_of(engine, "logits"))
    shown = matrix_to_show(found, GradientView(tab="logits"), {})
    assert found.next_tokens is not None
    places = found.next_tokens["token_id"].tolist()
    order = [places.index(it) for it in shown.targets["index"]]
    assert order == sorted(order)
    assert len(order) > 3


def test_saes_of_one_site_have_names_of_their_own_in_menus() -> None:
    site, other = "blocks.2.hook_resid_pre", "blocks.1.hook_resid_pre"
    twins = [replace(entry(site), sae_id=name) for name in ("with_bos", "without_bos", "l0/68")]
    menu = sae_choices.menu([entry(other), *twins])
    assert len(set(menu.values())) == len(menu) == 4
    for twin in twins:
        assert menu[sae_choices.name_of(twin)].startswith(f"{twin.sae_id} · Layer 2: ")
    assert menu["res/blocks.1.hook_resid_pre"] == sae_choices.title_of(entry(other))


def test_defaults_are_saes_that_one_model_and_one_text_suit() -> None:
    raw = (("center_writing_weights", False),)
    same_in_other_words = (("center_writing_weights", True), ("fold_ln", True))
    chosen = RESIDUAL[4]
    alike = replace(RESIDUAL[2], processing=same_in_other_words)
    others = [
        replace(RESIDUAL[1], processing=raw),
        replace(RESIDUAL[3], prepend_bos=False),
        replace(RESIDUAL[3], processing=(("no_processing", True),)),
    ]
    everything = sorted([*others, alike, chosen], key=sae_choices.depth)
    assert sae_choices.default_pair(everything, chosen) == (alike, chosen)
    assert sae_choices.default_chain(everything, chosen) == (alike, chosen)
    assert sae_choices.default_pair([*others, chosen], chosen) == (chosen, chosen)
    for other in others:
        assert sae_choices.default_pair([alike, other], other) == (other, other)
