"""Vectors of texts: each paid for once, errors in one sentence, the key nowhere; and the search."""

import logging
import threading
import time
import traceback
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from core.embeddings import (
    EmbeddingEndpoint,
    EmbeddingError,
    embed,
    semantic_search,
    unit_rows,
)
from core.jobs.progress import JobCancelled, Progress
from core.store import Store
from tests.loopback_openai import GOOD_KEY, Fault, LoopbackOpenAI, loopback_openai, vector_of

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _no_ambient_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def service() -> Iterator[LoopbackOpenAI]:
    with loopback_openai() as running:
        yield running


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "store")
    yield opened
    opened.close()


def endpoint(service: LoopbackOpenAI, **fields: object) -> EmbeddingEndpoint:
    defaults = {"base_url": service.url, "api_key": GOOD_KEY, "max_retries": 1}
    return EmbeddingEndpoint(**{**defaults, **fields})  # type: ignore[arg-type]


def test_vectors_are_the_services_scaled_to_one(service: LoopbackOpenAI) -> None:
    texts = [f"text number {n}" for n in range(40)] + ["", " text number 3 ", "half \ud800 pair"]
    matrix = embed(texts, endpoint=endpoint(service))
    assert matrix.dtype == np.float32
    expected = [vector_of(text) / 2 for text in texts[:40]]
    np.testing.assert_allclose(matrix[:40], expected, atol=1e-6)
    assert not matrix[40].any()
    np.testing.assert_array_equal(matrix[41], matrix[3])
    np.testing.assert_allclose(np.linalg.norm(matrix[42]), 1, rtol=1e-5)
    assert len(service.inputs()) == len(set(service.inputs())) == 41


def test_nothing_to_embed(service: LoopbackOpenAI) -> None:
    assert embed([], endpoint=endpoint(service)).shape == (0, 0)
    assert embed(["", " "], endpoint=endpoint(service)).shape == (2, 0)
    assert service.requests == []


def test_no_text_is_paid_for_twice(service: LoopbackOpenAI, store: Store) -> None:
    first = [f"latent {n}" for n in range(300)]
    second = [f"latent {n}" for n in range(250, 400)]
    a = embed(first, endpoint=endpoint(service), store=store)
    b = embed(second, endpoint=endpoint(service), store=store)
    np.testing.assert_array_equal(a[250:], b[:50])
    service.needs_key = True
    c = embed(["latent 399", "latent 0"], endpoint=endpoint(service, api_key="wrong"), store=store)
    np.testing.assert_array_equal(c, np.stack([b[-1], a[0]]))
    assert sorted(service.inputs()) == sorted({*first, *second})
    assert store.usage().paid.entries > 0
    assert store.usage().recomputable.entries == 0


def test_other_models_dimensions_and_services_are_other_vectors(
    service: LoopbackOpenAI, store: Store
) -> None:
    assert embed(["a"], endpoint=endpoint(service), store=store).shape == (1, 16)
    assert embed(["a"], endpoint=endpoint(service, dimensions=4), store=store).shape == (1, 4)
    embed(["a"], endpoint=endpoint(service, model="other"), store=store)
    assert len(service.requests) == 3
    assert service.requests[1][1]["dimensions"] == 4


def test_large_batches_are_divided(
    service: LoopbackOpenAI, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.embeddings.vectors.BATCH_TEXTS", 8)
    monkeypatch.setattr("core.embeddings.vectors._MAX_BATCH_CHARS", 60)
    texts = [f"{n} {'x' * (n % 50)}" for n in range(120)]
    matrix = embed(texts, endpoint=endpoint(service), store=store)
    np.testing.assert_allclose(matrix, [vector_of(text) / 2 for text in texts], atol=1e-6)
    assert all(len(body["input"]) <= 8 for _, body in service.requests)
    sent = [body["input"] for _, body in service.requests]
    assert all(len(batch) == 1 or sum(map(len, batch)) <= 60 for batch in sent)


def test_several_who_ask_at_once_pay_once(service: LoopbackOpenAI, store: Store) -> None:
    service.delay_seconds = 0.05
    results: list[np.ndarray] = []

    def ask() -> None:
        results.append(embed(["x", "y", "z"], endpoint=endpoint(service), store=store))

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert sorted(service.inputs()) == ["x", "y", "z"]


def test_cancelling_returns_at_once_and_keeps_what_was_paid(
    service: LoopbackOpenAI, store: Store
) -> None:
    texts = [f"latent {n}" for n in range(200)]
    service.delay_seconds = 0.5
    progress = Progress()
    threading.Timer(0.3, progress.cancel).start()
    with pytest.raises(JobCancelled):
        embed(texts, endpoint=endpoint(service), store=store, progress=progress)
    time.sleep(1.0)
    paid = set(service.inputs())
    assert 0 < len(paid) < 200
    service.delay_seconds = 0.0
    embed(texts, endpoint=endpoint(service), store=store)
    assert len(service.inputs()) == 200


def test_progress_counts_texts(service: LoopbackOpenAI) -> None:
    progress = Progress()
    embed([f"{n}" for n in range(50)], endpoint=endpoint(service), progress=progress)
    assert progress.view().total == 50
    assert progress.view().unit == "texts"


@pytest.mark.parametrize(
    "fault", [Fault(status=500), Fault(status=429, retry_after="0"), Fault(cut=True)]
)
def test_a_passing_fault_costs_a_retry(service: LoopbackOpenAI, fault: Fault) -> None:
    service.faults = [fault]
    assert embed(["a"], endpoint=endpoint(service)).shape == (1, 16)
    assert len(service.requests) == 2


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        (Fault(status=500), r"failed; try again later \(status 500\)"),
        (Fault(status=429, retry_after="0"), r"credit is used up; try again later \(status 429\)"),
        (Fault(status=404), r"check the model's name \(status 404\)"),
        (Fault(status=400), r"is an embedding model \(status 400\)"),
        (Fault(cut=True), "cannot be reached"),
        (Fault(body=b"<html>"), "is not 1 vectors|cannot be used"),
        (Fault(body=b'{"data": []}'), "is not 1 vectors"),
        (Fault(body=b'{"data": null}'), "is not 1 vectors"),
        (Fault(body=b'{"data": [{"index": 0, "embedding": [0, 0]}]}'), "is not 1 vectors"),
        (Fault(body=b'{"data": [{"index": 1, "embedding": [1, 0]}]}'), "is not 1 vectors"),
        (Fault(body=b'{"data": [{"index": 0, "embedding": ["a"]}]}'), "is not 1 vectors"),
    ],
)
def test_a_lasting_fault_costs_one_sentence(
    service: LoopbackOpenAI, store: Store, fault: Fault, sentence: str
) -> None:
    service.faults = [fault] * 2
    with pytest.raises(EmbeddingError, match=sentence) as caught:
        embed(["a"], endpoint=endpoint(service), store=store)
    assert "\n" not in str(caught.value)
    service.faults = []
    assert embed(["a"], endpoint=endpoint(service), store=store).shape == (1, 16)


def test_a_service_that_does_not_answer(service: LoopbackOpenAI) -> None:
    service.delay_seconds = 5
    slow = endpoint(service, timeout_seconds=0.2, max_retries=0)
    with pytest.raises(EmbeddingError, match="does not answer in time"):
        embed(["a"], endpoint=slow)


def test_the_key_is_nowhere(
    service: LoopbackOpenAI,
    store: Store,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "sk-secret-abcdefgh12345678"
    with_secret = endpoint(service, api_key=secret, max_retries=0)
    assert secret not in repr(with_secret)
    assert secret not in str(with_secret)
    with pytest.raises(EmbeddingError) as caught:
        embed(["a"], endpoint=with_secret, store=store)
    error: BaseException | None = caught.value
    assert "refused the key" in str(error)
    text = "".join(traceback.format_exception(caught.value))
    while error is not None:
        text += repr(error) + str(error.args)
        error = error.__cause__ or error.__context__
    assert secret not in text
    service.needs_key = False
    embed(["a"], endpoint=with_secret, store=store)
    assert service.keys[-1] == secret
    store.close()
    kept = b"".join(path.read_bytes() for path in store.directory.rglob("*") if path.is_file())
    assert secret.encode() not in kept
    assert secret not in caplog.text
    out, err = capfd.readouterr()
    assert secret not in out + err


def test_where_the_service_comes_from(
    service: LoopbackOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert EmbeddingEndpoint.from_environment() is None
    with pytest.raises(EmbeddingError, match="set OPENAI_API_KEY"):
        embed(["a"], endpoint=EmbeddingEndpoint())
    monkeypatch.setenv("OPENAI_BASE_URL", service.url)
    service.needs_key = False
    found = EmbeddingEndpoint.from_environment(model="local")
    assert found is not None
    assert embed(["a"], endpoint=found).shape == (1, 16)
    monkeypatch.setenv("OPENAI_API_KEY", GOOD_KEY)
    service.needs_key = True
    assert embed(["a"], endpoint=EmbeddingEndpoint()).shape == (1, 16)
    assert service.keys[-1] == GOOD_KEY
    hidden = EmbeddingEndpoint(base_url="http://name:password@host:1/v1/")
    assert hidden.url == "http://host:1/v1"
    assert EmbeddingEndpoint(base_url="http://host/v1?api_key=secret").url == "http://host/v1"


def test_search_by_meaning_agrees_with_all_cosines() -> None:
    rng = np.random.default_rng(0)
    matrix = unit_rows(rng.standard_normal((500, 12)))
    matrix[7] = 0
    query = matrix[3]
    ids, similarities = semantic_search(query, matrix, 20)
    cosines = [
        float(np.dot(query, row) / np.linalg.norm(row)) if row.any() else -9.0 for row in matrix
    ]
    assert ids.tolist() == sorted(range(500), key=lambda i: -cosines[i])[:20]
    np.testing.assert_allclose(similarities, sorted(cosines, reverse=True)[:20], atol=1e-6)
    ids, _ = semantic_search(query, matrix, 10_000)
    assert len(ids) == 499
    assert 7 not in ids
    with pytest.raises(ValueError, match="embed both with the same model"):
        semantic_search(query[:3], matrix)
    with pytest.raises(ValueError, match="k is 0"):
        semantic_search(query, matrix, 0)


def test_search_finds_texts_that_share_words(service: LoopbackOpenAI, store: Store) -> None:
    service.dimensions = 512
    texts = ["names of cities", "dates and years", "opening brackets", ""]
    matrix = embed(texts, endpoint=endpoint(service), store=store)
    query = embed(["years"], endpoint=endpoint(service), store=store)[0]
    ids, _ = semantic_search(query, matrix, 10)
    assert ids[0] == 1
    assert len(ids) == 3
