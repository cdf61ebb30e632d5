"""What the latent page says of SAEs whose decoder rows alone do not say what a unit writes."""

from collections.abc import Iterator

import pytest
import torch
from sae_lens import SAE

from core import resources
from core.enrichment import run as enrichment
from core.settings import Settings
from tests.builders import write_sae
from tests.demo_bundle import D_MODEL, write_demo
from tests.page_sessions import Open, page_server, texts
from tests.sae_kinds import of_kind

LATENT = 7


def long_rows(hook_name: str, **options: str) -> SAE:
    """Rescaled by decoder norms, which are 3."""
    metadata = {"model_name": "docs-small"}
    sae = of_kind(
        "topk",
        hook_name,
        d_in=D_MODEL,
        rescale_acts_by_decoder_norm=True,
        metadata=metadata,
        **options,
    )
    sae.W_dec.data = 3 * torch.nn.functional.normalize(sae.W_dec.data, dim=1)
    return sae


SAES = {
    "residual": long_rows("blocks.2.hook_resid_pre"),
    "normed": long_rows("blocks.2.hook_resid_pre", normalize_activations="layer_norm"),
    "heads": long_rows("blocks.1.attn.hook_z"),
    "norms": long_rows("blocks.1.ln1.hook_normalized"),
}


@pytest.fixture(scope="module")
def open_tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Open]:
    """Opens links to the page in sessions of one server."""
    folder = tmp_path_factory.mktemp("writes-page")
    for name, sae in SAES.items():
        write_sae(sae, folder / "mine" / name)
    settings = Settings(
        cache_dir=folder / "cache",
        demo_dir=write_demo(folder / "demo"),
        device="cpu",
        user_sae_dirs=(folder / "mine",),
    )
    link = {"release": "mine", "latent": str(LATENT), "tokens": "3000"}
    replaced = {(enrichment, "N_CONTROLS"): 60}
    with page_server(settings, "pages/latent.py", link=link, replaced=replaced) as open_link:
        yield lambda tab, sae: open_link(tab=tab, sae=sae)


def test_scores_are_those_of_what_a_unit_writes(open_tab: Open) -> None:
    for name in ("residual", "normed"):
        app = open_tab("lens", name)
        assert not app.exception
        assert not app.error
        with resources.engine().use("docs-small") as (model, _):
            logits = (SAES[name].W_dec[LATENT] / 3) @ model.W_U
        shown = {it.label: float(it.value) for it in app.metric}
        assert shown["Standard deviation"] == pytest.approx(float(logits.std()), rel=0.02)
        noted = "times the input's scale (its standard deviation)" in texts(app)
        assert noted == (name == "normed")


def test_attribution_says_what_the_sae_does_to_the_sum(open_tab: Open) -> None:
    app = open_tab("sources", "heads")
    assert not app.exception
    assert not app.error
    assert "multiplies that by the length of the latent's decoder row (3.000)" in texts(app)


def test_enrichment_takes_the_sites_that_write(open_tab: Open) -> None:
    app = open_tab("enrichment", "heads")
    assert not app.exception
    assert not app.error
    assert "All 64 latents" in texts(app)


@pytest.mark.parametrize("tab", ["lens", "enrichment"])
def test_a_site_that_is_only_read_is_refused_in_words(open_tab: Open, tab: str) -> None:
    app = open_tab(tab, "norms")
    assert not app.exception
    (error,) = app.error
    assert "a norm gives them to what reads the stream" in error.value
