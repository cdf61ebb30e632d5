"""What names say of hooks and widths, and which SAEs differ only in width."""

import pytest

from core.catalog import Catalog, pretrained
from core.catalog.families import guess_hook, width_from_names
from core.settings import Settings
from tests.sae_folders import write_bundle


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    return Catalog(Settings(demo_dir=write_bundle(tmp_path_factory.mktemp("demo"))))


@pytest.mark.parametrize(
    ("release", "sae_id", "hook_name", "width", "kind"),
    [
        ("gemma-scope-2b-pt-res", "embedding/width_4k/average_l0_6", "hook_embed", 4096, "sae"),
        (
            "gemma-scope-2b-pt-att-canonical",
            "layer_3/width_65k/canonical",
            "blocks.3.attn.hook_z",
            65536,
            "sae",
        ),
        (
            "gemma-scope-2b-pt-mlp-canonical",
            "layer_3/width_16k/canonical",
            "blocks.3.hook_mlp_out",
            16384,
            "sae",
        ),
        (
            "gemma-scope-9b-pt-res",
            "layer_9/width_1m/average_l0_9",
            "blocks.9.hook_resid_post",
            1048576,
            "sae",
        ),
        (
            "gemma-scope-2-1b-pt-att",
            "layer_7_width_65k_l0_small",
            "blocks.7.attn.hook_z",
            65536,
            "sae",
        ),
        (
            "gemma-scope-2-4b-pt-transcoders",
            "transcoder/layer_9_width_65k_l0_small_affine",
            "blocks.9.mlp.hook_in",
            65536,
            "transcoder",
        ),
        (
            "gemma-scope-2b-pt-transcoders",
            "layer_25/width_16k/average_l0_41",
            "blocks.25.ln2.hook_normalized",
            16384,
            "transcoder",
        ),
        ("mwhanna-qwen3-4b-transcoders", "layer_35", "blocks.35.mlp.hook_in", None, "transcoder"),
        ("llama_scope_lxm_8x", "l31m_8x", "blocks.31.hook_mlp_out", 32768, "sae"),
        ("llama_scope_lxa_32x", "l4a_32x", "blocks.4.hook_attn_out", 131072, "sae"),
        ("goodfire-llama-3.3-70b-instruct", "layer_50", "blocks.50.hook_resid_post", 65536, "sae"),
        ("qwen-scope-3-1.7b-base-w32k-l50", "layer27", "blocks.27.hook_resid_post", 32768, "sae"),
        (
            "gpt2-small-resid-mid-v5-128k",
            "blocks.11.hook_resid_mid",
            "blocks.11.hook_resid_mid",
            131072,
            "sae",
        ),
        (
            "pythia-70m-deduped-res-sm",
            "blocks.5.hook_resid_post",
            "blocks.5.hook_resid_post",
            None,
            "sae",
        ),
        (
            "sae_bench_pythia70m_sweep_topk_ctx128_0730",
            "blocks.3.hook_resid_post__trainer_0",
            "blocks.3.hook_resid_post",
            4096,
            "sae",
        ),
        ("gpt2-small-mlp-tm", "blocks.0.hook_mlp_out", "blocks.0.hook_mlp_out", 24576, "sae"),
        (
            "gemma-2-2b-res-matryoshka-dc",
            "blocks.24.hook_resid_post",
            "blocks.24.hook_resid_post",
            32768,
            "sae",
        ),
    ],
)
def test_names_tell_hook_and_width(
    catalog: Catalog, release: str, sae_id: str, hook_name: str, width: int | None, kind: str
) -> None:
    entry = catalog.entry(release, sae_id)
    assert (entry.hook_name, entry.width, entry.kind) == (hook_name, width, kind)


def test_guesses_agree_with_the_loaders_of_sae_lens() -> None:
    """Where sae_lens derives the config from names alone, the guesses must be its own."""
    from sae_lens.loading import pretrained_sae_loaders as loaders

    getters = {
        "gemma_2": loaders.get_gemma_2_config_from_hf,
        "gemma_2_transcoder": loaders.get_gemma_2_transcoder_config_from_hf,
        "goodfire": loaders.get_goodfire_config_from_hf,
        "deepseek_r1": loaders.get_deepseek_r1_config_from_hf,
        "qwen_scope": loaders.get_qwen_scope_config_from_hf,
    }
    checked = 0
    for entries in pretrained.read_pretrained().entries.values():
        for entry in entries:
            if entry.conversion not in getters:
                continue
            config = getters[entry.conversion](entry.repo_id, entry.repo_path, "cpu")
            assert entry.hook_name == config["hook_name"], entry.key
            assert entry.width == config["d_sae"], entry.key
            checked += 1
    assert checked > 2000


def test_families_of_widths(catalog: Catalog) -> None:
    def widths(release: str, sae_id: str) -> tuple[int, ...]:
        return catalog.family_of(catalog.entry(release, sae_id)).widths

    fs = "gpt2-small-res-jb-feature-splitting"
    assert widths(fs, "blocks.8.hook_resid_pre_768") == tuple(768 * 2**n for n in range(8))
    canonical = "gemma-scope-2b-pt-res-canonical"
    assert widths(canonical, "layer_20/width_16k/canonical") == (16384, 65536)
    assert widths("llama_scope_lxr_8x", "l5r_8x") == (32768, 131072)
    assert widths("gpt2-small-resid-post-v5-32k", "blocks.3.hook_resid_post") == (32768, 131072)
    assert widths("docs-small-res-splitting", "blocks.2.hook_resid_pre_64") == (32, 64, 128)
    assert widths("docs-small-res", "blocks.0.hook_resid_pre") == (32,)
    assert widths("pythia-70m-deduped-res-sm", "blocks.5.hook_resid_post") == ()


def test_family_keeps_the_entry_and_takes_the_nearest_sparsity(catalog: Catalog) -> None:
    entry = catalog.entry("gemma-scope-2b-pt-res", "layer_20/width_16k/average_l0_71")
    members = catalog.family_of(entry).entries
    assert entry in members
    (wide,) = [member for member in members if member.width == 65536]
    others = [
        it for it in catalog.saes("gemma-scope-2b-pt-res") if it.layer == 20 and it.width == 65536
    ]
    assert abs((wide.l0 or 0) - 71) == min(abs((it.l0 or 0) - 71) for it in others)


def test_families_of_a_model_have_at_least_two_widths(catalog: Catalog) -> None:
    (family,) = catalog.families("docs-small", hub=False)
    assert family.widths == (32, 64, 128)
    assert family.hook_name == "blocks.2.hook_resid_pre"
    found = catalog.families("gpt2-small")
    assert all(len(set(family.widths)) == len(family.entries) > 1 for family in found)
    assert any(len(family.widths) == 8 for family in found)


def test_what_looks_like_a_width_and_is_none() -> None:
    assert width_from_names("pythia-70m-deduped-res-sm") is None
    assert width_from_names("800M-Slimpajama") is None
    assert width_from_names("gemma-2-2b", None, "") is None
    assert guess_hook("what", "a/b", "c", None) is None
