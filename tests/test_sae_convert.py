"""An AbsTopK SAE, written as the TopK SAE that it equals."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from core.activations import collect_latent_examples
from core.models import Model
from core.saes import check_fits, encode, load_sae_from_disk, reconstruct
from core.saes.convert import main, two_sided_as_topk
from tests.builders import write_sae
from tests.gradient_references import run_hooked
from tests.sae_kinds import HEADS, RESID, of_kind


@pytest.mark.slow
@pytest.mark.parametrize("hook_name", [RESID, HEADS])
@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize("norm", ["none", "layer_norm"])
@pytest.mark.parametrize("k", [1, 6, 64])
def test_converted_abstopk(
    hook_name: str,
    rescale: bool,
    norm: str,
    k: int,
    tiny_hooked: Model,
    tiny_tokens: Tensor,
    tmp_path: Path,
) -> None:
    options = {"rescale_acts_by_decoder_norm": rescale, "normalize_activations": norm, "k": k}
    metadata = {"dataset_path": "some/text", "neuronpedia_id": "tiny/1", "context_size": 77}
    made = of_kind("abstopk", hook_name, **options, metadata=metadata)
    write_sae(made, tmp_path / "signed")
    assert main([str(tmp_path / "signed"), str(tmp_path / "new" / "topk")]) == 0
    sae = load_sae_from_disk(tmp_path / "new" / "topk", device="cpu")
    assert (sae.cfg.architecture(), sae.cfg.d_sae, sae.cfg.k) == ("topk", 128, k)
    assert sae.cfg.metadata.dataset_path == "some/text"
    assert sae.cfg.metadata.context_size == 77
    assert sae.cfg.metadata.neuronpedia_id is None
    assert "latent 64 + i where latent i was below 0" in sae.cfg.metadata.two_sided
    check_fits(sae, tiny_hooked)
    with torch.no_grad():
        site = run_hooked(tiny_hooked, tiny_tokens, {}, [hook_name])[0][hook_name]
        shape = (5, 7, *site.shape[2:])
        drawn = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        for x in (drawn, site):
            signed, output = made.encode(x), made(x)
            assert (signed < 0).any()
            both = encode(sae, x)
            torch.testing.assert_close(both, torch.cat([signed.relu(), (-signed).relu()], -1))
            torch.testing.assert_close(both[..., :64] - both[..., 64:], signed)
            torch.testing.assert_close(reconstruct(sae, x), output, atol=1e-5, rtol=1e-5)
        index = collect_latent_examples(tiny_hooked, sae, tiny_tokens)
        counted = made.encode(site)[:, 1:]
    expected = torch.cat([(counted > 0).sum((0, 1)), (counted < 0).sum((0, 1))])
    np.testing.assert_array_equal(index.count, expected)


def test_converting_ties_and_half_precision(tmp_path: Path) -> None:
    made = of_kind("abstopk", k=2)
    made.W_enc.data[:, 1] = -made.W_enc.data[:, 0]
    made.b_enc.data[1] = -made.b_enc.data[0]
    x = torch.randn(9, 32, generator=torch.Generator().manual_seed(0))
    made.b_enc.data[2:] = 0
    made.W_enc.data[:, 2:] *= 1e-3  # so that the two equal sizes are always the two largest
    made = made.to(torch.bfloat16)
    topk = two_sided_as_topk(made)
    assert topk.W_enc.dtype == torch.bfloat16
    signed, both = made.encode(x), topk.encode(x)
    torch.testing.assert_close(both, torch.cat([signed.relu(), (-signed).relu()], -1))
    torch.testing.assert_close(topk(x), made(x))


@pytest.mark.slow
def test_the_refusal_names_a_command_that_works(tmp_path: Path) -> None:
    folder = write_sae(of_kind("abstopk"), tmp_path / "signed")
    with pytest.raises(ValueError, match="twice as many latents") as refused:
        load_sae_from_disk(folder, device="cpu")
    assert "python -m core.saes.convert FOLDER NEW_FOLDER" in str(refused.value)
    command = [sys.executable, "-m", "core.saes.convert", str(folder), str(tmp_path / "topk")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "a TopK SAE of 128 latents" in done.stdout
    load_sae_from_disk(tmp_path / "topk", device="cpu")
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.returncode == 1
    assert again.stderr == f"{tmp_path / 'topk'} is there already; give the name of a new folder.\n"


def test_what_is_not_converted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = write_sae(of_kind("topk"), tmp_path / "plain")
    too_many = write_sae(of_kind("abstopk", k=65), tmp_path / "many")
    cases = [
        (plain, "architecture 'topk'; only 'abstopk'"),
        (too_many, "k as 65"),
        (tmp_path / "none", "no folder"),
    ]
    for folder, message in cases:
        assert main([str(folder), str(tmp_path / "new")]) == 1
        assert message in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    with pytest.raises(ValueError, match="only 'abstopk' is written"):
        two_sided_as_topk(of_kind("standard"))
    with pytest.raises(ValueError, match="k 65 and 64 latents"):
        two_sided_as_topk(of_kind("abstopk", k=65))
