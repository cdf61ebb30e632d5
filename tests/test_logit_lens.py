"""Top tokens, against the plain product of the two matrices."""

import pytest
import torch
from torch import Tensor

from core.logit_lens import top_tokens
from core.models.hooks import Model, run_with_replacements
from core.saes.writes import residual_directions
from tests.builders import make_sae


def _matrices(n: int = 37, d: int = 8, vocab: int = 101) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    W_dec = torch.randn(n, d, generator=generator)
    return W_dec, torch.randn(d, vocab, generator=generator)


@pytest.mark.parametrize("largest", [True, False])
@pytest.mark.parametrize("chunk_size", [1, 10, 37, 5000])
def test_same_as_the_dense_product(largest: bool, chunk_size: int) -> None:
    W_dec, W_U = _matrices()
    ids, values = top_tokens(W_dec, W_U, 7, largest=largest, chunk_size=chunk_size)
    order = (W_dec @ W_U).argsort(dim=-1, descending=largest)[:, :7]
    assert ids.tolist() == order.tolist()
    torch.testing.assert_close(values, (W_dec @ W_U).gather(1, order))


def test_one_row_and_no_rows() -> None:
    W_dec, W_U = _matrices()
    ids, values = top_tokens(W_dec[3:4], W_U, 101)
    assert sorted(ids[0].tolist()) == list(range(101))
    assert (values[0].diff() <= 0).all()
    assert top_tokens(W_dec[:0], W_U, 4)[0].shape == (0, 4)


def test_ties_give_distinct_tokens_of_the_same_value() -> None:
    W_U = torch.tensor([[1.0, 3.0, 3.0, 3.0, 0.0]])
    ids, values = top_tokens(torch.ones(2, 1), W_U, 3)
    assert values.tolist() == [[3.0] * 3] * 2
    assert [sorted(row) for row in ids.tolist()] == [[1, 2, 3]] * 2


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_multiplied_in_float32(dtype: torch.dtype) -> None:
    W_dec, W_U = _matrices()
    ids, values = top_tokens(W_dec, W_U.to(dtype), 5)
    assert values.dtype == torch.float32
    expected = (W_dec @ W_U.to(dtype).float()).topk(5)
    assert ids.tolist() == expected.indices.tolist()
    torch.testing.assert_close(values, expected.values)
    assert top_tokens(W_dec.double(), W_U, 5)[1].dtype == torch.float64


def test_never_holds_the_whole_product_nor_a_graph() -> None:
    W_dec, W_U = _matrices(n=64)
    W_dec.requires_grad_()
    sizes: list[int] = []

    class Recorder(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            result = function(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                sizes.append(result.numel())
            return result

    with Recorder():
        _, values = top_tokens(W_dec, W_U, 3, chunk_size=8)
    assert max(sizes) <= max(8 * 101, W_U.numel())
    assert not values.requires_grad


@pytest.mark.parametrize(
    ("k", "chunk_size", "match"),
    [(102, 8, "k is 102; the vocabulary has 101"), (0, 8, "1 to 101"), (3, 0, "chunk_size is 0")],
)
def test_impossible_sizes_are_named(k: int, chunk_size: int, match: str) -> None:
    W_dec, W_U = _matrices()
    with pytest.raises(ValueError, match=match):
        top_tokens(W_dec, W_U, k, chunk_size=chunk_size)


def test_shapes_that_do_not_multiply_are_named() -> None:
    W_dec, W_U = _matrices()
    for wrong in (W_dec[0], W_dec[:, :5]):
        with pytest.raises(ValueError, match=r"do not multiply.*direction\[None\]"):
            top_tokens(wrong, W_U)


@pytest.mark.parametrize("hook", ["blocks.1.hook_resid_pre", "blocks.1.attn.hook_z"])
def test_direction_is_what_the_latent_adds_to_the_stream(
    any_model: Model, tiny_tokens: Tensor, hook: str
) -> None:
    """By intervention: add the decoder row at the site, see what arrives after that sublayer."""
    sae = make_sae("standard", d_in=32, d_sae=16, hook_name=hook)
    row = sae.W_dec[5]
    after = "blocks.1.hook_resid_pre" if hook.endswith("pre") else "blocks.1.hook_attn_out"
    seen: list[Tensor] = []

    def look(activations: Tensor) -> Tensor:
        seen.append(activations.clone())
        return activations

    def add(activations: Tensor) -> Tensor:
        return activations + row.reshape(activations.shape[2:])

    run_with_replacements(any_model, tiny_tokens, {after: look})
    both = {hook: lambda acts: look(add(acts))} if hook == after else {hook: add, after: look}
    run_with_replacements(any_model, tiny_tokens, both)
    found = residual_directions(any_model, sae, [5])
    torch.testing.assert_close(found[0], (seen[1] - seen[0])[0, 3], atol=1e-4, rtol=1e-4)


def test_latents_and_sites_without_direction_are_named(tiny_model: Model) -> None:
    sae = make_sae("standard", d_in=32, d_sae=16, hook_name="blocks.1.hook_resid_pre")
    with pytest.raises(ValueError, match="no latent 16; this SAE has 16, so choose 0 to 15"):
        residual_directions(tiny_model, sae, [0, 16])
    narrow = make_sae("standard", d_in=8, d_sae=16, hook_name="blocks.1.attn.hook_q")
    with pytest.raises(ValueError, match=r"hook_q holds 8 numbers"):
        residual_directions(tiny_model, narrow, [0])
