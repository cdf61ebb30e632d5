"""What single latents read and write, against whole encoders and decoders; sparse tensors."""

from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sae_lens import SAE
from sae_lens.registry import get_sae_class
from sae_lens.saes.sae import SAEMetadata
from sae_lens.saes.topk_sae import TopKSAEConfig
from torch import Tensor

from core.gradients.rows import active_latent_values, encoder_rows
from core.gradients.sparse import SparseTensor
from core.saes import decode, encode
from core.saes.writes import writes_at
from tests.builders import SAE_ARCHITECTURES, make_sae

D_IN, D_SAE = 24, 60
NORMS = ("none", "layer_norm", "constant_norm_rescale", "expected_average_only_in")
SITES = ("blocks.1.hook_resid_pre", "blocks.1.attn.hook_z")


def sae_of(architecture: str, site: str = SITES[0], **options: Any) -> SAE:
    return make_sae(
        architecture, d_in=D_IN, d_sae=D_SAE, hook_name=site, dtype="float64", **options
    )


def rescaling_topk(kind: str = "topk") -> SAE:
    """Whose decoder rows have norms other than 1, which encoding and decoding undo."""
    config: Any = get_sae_class(kind)[1]
    assert issubclass(config, TopKSAEConfig)
    sae = get_sae_class(kind)[0](
        config(
            d_in=D_IN,
            d_sae=D_SAE,
            k=9,
            dtype="float64",
            rescale_acts_by_decoder_norm=True,
            metadata=SAEMetadata(hook_name=SITES[0]),
        )
    )
    generator = torch.Generator().manual_seed(0)
    for parameter in sae.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return sae.requires_grad_(False)


class OwnSAE(type(make_sae("standard", d_in=2, d_sae=2, hook_name=SITES[0]))):  # type: ignore[misc]
    """An SAE of a class that nothing is known of."""

    def encode(self, x: Tensor) -> Tensor:
        return torch.nn.functional.softplus(super().encode(x)) - 0.6931

    def decode(self, feature_acts: Tensor) -> Tensor:
        return 3 * super().decode(feature_acts)


def own_sae() -> SAE:
    sae = sae_of("standard")
    sae.__class__ = OwnSAE
    return sae


def activations_for(sae: SAE) -> Tensor:
    shape = (7, 4, D_IN // 4) if sae.cfg.reshape_activations == "hook_z" else (7, D_IN)
    return torch.randn(shape, generator=torch.Generator().manual_seed(5), dtype=torch.float64)


def cases() -> list[Any]:
    found = [
        pytest.param(sae_of(it, site, normalize_activations=norm), id=f"{it}-{norm}-{site[9:]}")
        for it in (*SAE_ARCHITECTURES, "transcoder")
        for norm in NORMS
        for site in SITES
        if it != "transcoder" or (norm == "none" and site == SITES[0])
    ]
    found.append(pytest.param(sae_of("standard", apply_b_dec_to_input=False), id="no b_dec"))
    found.append(pytest.param(rescaling_topk(), id="topk-rescaled"))
    found.append(pytest.param(rescaling_topk("abstopk"), id="abstopk"))
    return [*found, pytest.param(own_sae(), id="unknown class")]


@pytest.mark.parametrize("sae", cases())
def test_rows_are_derivatives(sae: SAE) -> None:
    activations = activations_for(sae)
    latents = encode(sae, activations)
    places = (latents > 0).argwhere()
    assert len(places) > 10
    rows, columns = places.unbind(-1)
    values = active_latent_values(sae, activations[rows], columns)
    torch.testing.assert_close(values, latents[rows, columns])
    jacobian = torch.func.jacrev(lambda x: encode(sae, x))(activations).flatten(3)
    read = encoder_rows(sae, activations[rows], columns)
    reference = jacobian[rows, columns, rows].reshape(len(rows), -1)
    torch.testing.assert_close(read, reference)
    written = writes_at(sae, columns, activations[rows])
    push = torch.func.jacrev(lambda it: decode(sae, it, like=activations))(latents)
    push = push.flatten(1, -3)
    for number, (row, column) in enumerate(places.tolist()):
        torch.testing.assert_close(written[number], push[row, :, row, column])


def test_rows_leave_the_sae_as_it_was() -> None:
    sae = sae_of("standard", normalize_activations="layer_norm")
    before = set(vars(sae))
    activations = activations_for(sae)
    latents = torch.arange(7)
    encoder_rows(sae, activations, latents)
    writes_at(sae, latents, activations)
    assert set(vars(sae)) == before


shapes = st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple)


@settings(max_examples=50)
@given(shapes, st.integers(0, 2**31), st.floats(0, 1))
def test_sparse_round_trip(shape: tuple[int, ...], seed: int, density: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    dense = torch.rand(shape, generator=generator) + 0.1
    dense = dense * (torch.rand(shape, generator=generator) < density)
    sparse = SparseTensor.from_dense(dense)
    assert sparse.shape == shape
    assert len(sparse) == int((dense > 0).sum())
    assert sparse.sparse[1].tolist() == sorted(sparse.sparse[1].tolist())
    again = SparseTensor.from_sparse(sparse.sparse)
    assert torch.equal(again.dense, dense)
    kept = torch.arange(0, len(sparse), 2)
    half = sparse.keep(kept)
    assert torch.equal(half.sparse[1], sparse.sparse[1][kept])
    assert torch.equal(SparseTensor.from_dense(half.dense).sparse[0], sparse.sparse[0][kept])


def test_sparse_as_documented() -> None:
    dense = torch.tensor([0.0, 2.0, -1.0, 3.0])
    sparse = SparseTensor.from_dense(dense)
    assert sparse.values.tolist() == [2, 3]
    assert sparse.indices.tolist() == [1, 3]
    assert sparse.sparse[1].shape == (2, 1)
    assert sparse.dense is dense


@pytest.mark.parametrize("indices", [[[0, 1]], [[5]], [[-1]], [[0], [1]]])
def test_sparse_that_does_not_fit(indices: list[list[int]]) -> None:
    with pytest.raises(ValueError, match=r"do not place|outside"):
        SparseTensor.from_sparse((torch.ones(1), torch.tensor(indices), (4,)))
