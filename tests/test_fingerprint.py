"""The fingerprint changes with every bit of the weights and with nothing else."""

import numpy as np
import pytest
import torch

from core.store import fingerprint as module
from core.store.fingerprint import fingerprint

WEIGHTS = torch.arange(24, dtype=torch.float32).reshape(4, 6) / 7


def test_the_same_numbers_give_the_same_fingerprint_however_they_lie():
    expected = fingerprint({"a": WEIGHTS, "b": WEIGHTS[0]})
    transposed = WEIGHTS.T.contiguous().T
    assert not transposed.is_contiguous()
    same = [
        {"b": WEIGHTS[0], "a": WEIGHTS},
        {"a": transposed, "b": WEIGHTS[0].clone()},
        {"a": torch.nn.Parameter(WEIGHTS), "b": WEIGHTS[0]},
        {"a": WEIGHTS.numpy(), "b": WEIGHTS[0].numpy()},
        {"a": np.asfortranarray(WEIGHTS.numpy()), "b": WEIGHTS[0].numpy().astype(">f4")},
    ]
    assert {fingerprint(each) for each in same} == {expected}


def test_any_difference_gives_another_fingerprint():
    one_bit = WEIGHTS.clone()
    one_bit.view(torch.int32)[3, 5] ^= 1
    different = [
        {"a": WEIGHTS},
        {"b": WEIGHTS},
        {"a": one_bit},
        {"a": WEIGHTS.reshape(6, 4)},
        {"a": WEIGHTS.view(torch.int32)},
        {"a": WEIGHTS.half()},
        {"a": WEIGHTS.bfloat16()},
        {"a": WEIGHTS.bfloat16().view(torch.float16)},
        {"a": WEIGHTS[:2], "b": WEIGHTS[2:]},
        {"a": WEIGHTS[:3], "b": WEIGHTS[3:]},
        {"a": WEIGHTS, "b": torch.zeros(0)},
        {"a": WEIGHTS, "b": torch.zeros(0, 3)},
        {"a": WEIGHTS, "b": torch.zeros(())},
        {},
    ]
    assert len({fingerprint(each) for each in different}) == len(different)


@pytest.mark.parametrize("dtype", [torch.bool, torch.float8_e4m3fn, torch.complex64, torch.int64])
def test_other_dtypes(dtype):
    tensor = torch.tensor([1, 0, 1]).to(dtype)
    assert fingerprint({"a": tensor}) == fingerprint({"a": tensor.clone()})
    assert fingerprint({"a": tensor}) != fingerprint({"a": tensor[[0, 0, 2]]})


def test_a_conjugated_view_counts_as_its_numbers():
    tensor = torch.tensor([1 + 2j, 3 - 1j])
    assert fingerprint({"a": tensor.conj()}) == fingerprint({"a": tensor.conj().clone()})
    assert fingerprint({"a": tensor.conj()}) != fingerprint({"a": tensor})


@pytest.mark.parametrize("chunk", [1, 7, 24, 50, 10_000])
def test_reading_in_pieces_changes_nothing(monkeypatch, chunk):
    whole = fingerprint({"a": WEIGHTS, "b": WEIGHTS.numpy()})
    monkeypatch.setattr(module, "_CHUNK_BYTES", chunk)
    assert fingerprint({"a": WEIGHTS, "b": WEIGHTS.numpy()}) == whole


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        ([1.0], "list"),
        (np.array([object()]), "object"),
        (np.zeros(1, dtype=[("x", "f4")]), "dtype"),
        (torch.zeros(2, device="meta"), "meta"),
        (torch.eye(2).to_sparse(), "sparse"),
    ],
)
def test_what_has_no_bytes_is_refused(value, complaint):
    with pytest.raises(ValueError, match=f"'weights'.*{complaint}"):
        fingerprint({"weights": value})
