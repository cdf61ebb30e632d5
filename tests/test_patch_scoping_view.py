"""What the page reads from links and text fields, and how it shows texts."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.catalog import Catalog
from core.patch_scoping.question import Question, published_tuned, speakers, template_of
from core.patch_scoping.tables import (
    best_text,
    diff_markdown,
    remarks,
    side_by_side,
    text_table,
)
from core.patch_scoping.view import LINK, ScopeView, parse_latents, parse_scales
from core.settings import Settings
from core.view.choices import read_choices
from tests.demo_bundle import write_demo, write_user_sae


@pytest.mark.parametrize(
    ("text", "scales"),
    [
        ("0.5, 1;2", (0.5, 1, 2)),
        ("0 to 50 in 6", (0, 10, 20, 30, 40, 50)),
        ("1 1 2", (1, 2)),
        ("-1 to 1 in 3", (-1, 0, 1)),
        ("7", (7,)),
    ],
)
def test_scales(text: str, scales: tuple[float, ...]) -> None:
    assert parse_scales(text) == scales


@pytest.mark.parametrize("text", ["", "a", "1 2 x", "0 to 1 in 65", "0 to 1 in 1", "nan", "1e9"])
def test_scales_that_are_none(text: str) -> None:
    with pytest.raises(ValueError, match=r"scale"):
        parse_scales(text)


def test_latents() -> None:
    assert parse_latents("3, 10-12 11", width=20) == (3, 10, 11, 12)
    drawn = parse_latents("5 random", width=20, seed=1)
    assert len(set(drawn)) == 5
    assert drawn == parse_latents("5 random", width=20, seed=1) == tuple(sorted(drawn))
    assert drawn != parse_latents("5 random", width=20, seed=2)
    assert parse_latents("50 random", width=20) == tuple(range(20))
    for text in ("", "20", "5-", "x", "3 4 random", "0-2000"):
        with pytest.raises(ValueError, match="latents"):
            parse_latents(text, width=20 if text != "0-2000" else 5000)


def test_links_carry_every_field() -> None:
    view = ScopeView(
        speaker="docs-small",
        template="own",
        prompt="What is {X}?",
        prefill='"{X}" is "',
        layers=(0, 2),
        scales="0 to 3 in 7",
        unit="absolute",
        temperature=0.5,
        top_p=0.9,
        penalty=2.0,
        samples=3,
        seed=4,
        new_tokens=20,
        choose="agreed",
        other=9,
        batch="3, 10-20",
        panel="batch",
    )
    parameters = LINK.to_parameters(view)
    assert len(parameters) == len(LINK.parameters)
    assert LINK.parse(parameters) == (view, ())
    bad, problems = LINK.parse({"scales": "many", "layers": "x", "temperature": "-1"})
    assert bad == ScopeView()
    assert len(problems) == 3


def test_own_questions_say_where_the_latent_stands() -> None:
    own = template_of(Question("m", "own", "Is {X} good?", 'Yes, "{X}" is "'))
    assert own.stop == '"'
    assert template_of(Question("m", "own", "Is {X} good?", "")).stop is None
    with pytest.raises(ValueError, match=r"\{X\}"):
        template_of(Question("m", "own", "Is it good?", ""))


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "latent": 1,
            "prompt": "p",
            "layer": [0, 0, 2, 2],
            "scale": [0.0, 20.0, 0.0, 22.0],
            "multiple": [0.0, 10.0, 0.0, 10.0],
            "sample": 0,
            "answer": ["nothing", "a cat", "", "a dog"],
            "ended_by": ["stop", "length", "eos", "stop"],
            "n_tokens": [1, 3, 1, 3],
            "mean_log_prob": [-2.0, -0.5, -3.0, -0.1],
            "self_similarity": 0.1,
            "entropy": 1.0,
            "cross_entropy": 2.0,
            "score": [0.1, 0.2, 0.3, 0.4],
            "rank": [1, 2, 1, 2],
        }
    )


def test_tables_for_readers() -> None:
    shown = text_table(table())
    assert shown["best"].tolist() == ["①", "②", "①", "②"]
    assert shown["layer"].tolist() == [0, 0, 2, 2]
    np.testing.assert_allclose(shown["probability"], np.exp([-2.0, -0.5, -3.0, -0.1]))
    best = best_text(table(), "likeliest")
    assert (best.text, best.layer, best.scale) == ("a dog", 2, 22.0)
    said = " ".join(remarks(table()))
    for word in ("scale 0", "drowns", "1 of 4", "empty"):
        assert word in said
    joined = side_by_side({"a": table(), "b": table()})
    assert list(joined.columns) == ["layer", "scale", "a", "b"]
    assert len(joined) == 4


def test_differences_are_coloured_and_escaped() -> None:
    left, right = diff_markdown("a red *cat*", "a grey *cat*")
    assert left == "a :orange[red] \\*cat\\*"
    assert right == "a :blue[grey] \\*cat\\*"
    assert diff_markdown("", "x") == ("", ":blue[x]")


def test_who_can_explain(tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    write_user_sae(folder, model_name="gemma-2b")
    demo = write_demo(tmp_path / "demo")
    catalog = Catalog(Settings(demo_dir=demo, user_sae_dirs=(folder,)))
    choices = read_choices(catalog)

    def names(release: str, sae_id: str) -> list[str]:
        return [it.name for it in speakers(choices, catalog.entry(release, sae_id), catalog)]

    assert names("docs-small-res", "blocks.1.hook_resid_pre") == ["docs-small-it", "docs-small"]
    # The pair of ARENA; the base model comes first, for the other is another download.
    assert names("gemma-2b-res-jb", "blocks.6.hook_resid_post") == ["gemma-2b", "gemma-2b-it"]
    [tuned] = published_tuned("gemma-2-2b", catalog)
    assert (tuned.repo_id, tuned.base_model) == ("google/gemma-2-2b-it", "gemma-2-2b")
    assert names("gpt2-small-res-jb", "blocks.8.hook_resid_pre") == ["gpt2-small"]
    assert published_tuned("docs-small", catalog) == []
