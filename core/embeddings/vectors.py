"""Texts to vectors: what is stored is read, the rest is asked for in batches and kept."""

import hashlib
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from core.embeddings.endpoint import EmbeddingEndpoint, EmbeddingError, explain
from core.embeddings.search import unit_rows
from core.jobs.progress import JobCancelled, Progress
from core.llm.prices import count_text
from core.store import ARRAYS, Key, Store

if TYPE_CHECKING:
    import openai

    from core.llm.budget import Payer

BATCH_TEXTS = 256

_VERSION = 1
_SHELVES = 16
_MAX_BATCH_CHARS = 200_000
_MAX_TEXT_CHARS = 20_000
_THREADS = 4
_POLL_SECONDS = 0.1


def embed(
    texts: Sequence[str],
    *,
    endpoint: EmbeddingEndpoint,
    store: Store | None = None,
    progress: Progress | None = None,
    payer: "Payer | None" = None,
) -> Float[np.ndarray, "n d"]:
    """A unit vector (float32) for each text; a blank text gets zeros, which are similar to nothing.

    With a store, no text is paid for twice under the same service, model and dimensions: batches
    are kept as they come, also those that come after a cancellation.

    Args:
        texts: cut at 20,000 characters each; equal texts are sent once.
        endpoint: the service.
        store: keeps the vectors among the paid answers.
        progress: texts done; cancelling takes effect within a tenth of a second.
        payer: asked before each batch, and told what it cost.

    Raises:
        EmbeddingError: the service refuses, fails, or answers something else than vectors.
        JobCancelled: through `progress`.
    """
    cleaned = [_clean(text) for text in texts]
    shelves: dict[int, dict[bytes, str]] = {}
    for text in cleaned:
        if text:
            digest = _digest(text)
            shelves.setdefault(digest[0] % _SHELVES, {})[digest] = text
    vectors = _Run(endpoint, store, progress, payer).vectors(shelves)
    sizes = {len(vector) for vector in vectors.values()}
    if len(sizes) > 1:
        raise EmbeddingError(
            f"{endpoint.model} gave vectors of the lengths {sorted(sizes)}; set `dimensions`, or"
            " use another model name."
        )
    matrix = np.zeros((len(texts), sizes.pop() if sizes else 0), dtype=np.float32)
    for row, text in enumerate(cleaned):
        if text:
            matrix[row] = vectors[_digest(text)]
    return matrix


class _Run:
    """One call of `embed`.

    Texts stand on shelves, by hash; a shelf is a row of stored batches, and new texts are added
    behind the last one. A whole shelf is read at once: an entry for each text would cost a flush
    of the disk each.
    """

    def __init__(
        self,
        endpoint: EmbeddingEndpoint,
        store: Store | None,
        progress: Progress | None,
        payer: "Payer | None",
    ) -> None:
        self._endpoint, self._payer = endpoint, payer
        self._store = store
        self._progress = progress
        self._stopped = False
        self._done = 0

    def vectors(self, shelves: Mapping[int, Mapping[bytes, str]]) -> dict[bytes, np.ndarray]:
        """The vector of each text, by digest."""
        total = sum(map(len, shelves.values()))
        found: dict[bytes, np.ndarray] = {}
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="embeddings")
        try:
            waiting = {pool.submit(self._shelf, number, texts) for number, texts in shelves.items()}
            while waiting:
                if self._progress is not None:
                    self._progress.update(
                        min(self._done, total), total, unit="texts", message="embedding texts"
                    )
                finished, waiting = wait(waiting, _POLL_SECONDS, return_when=FIRST_COMPLETED)
                for future in finished:
                    found.update(future.result())
        finally:
            # Requests on their way are paid for: their threads end by themselves and keep them.
            self._stopped = True
            pool.shutdown(wait=False, cancel_futures=True)
        return found

    def _shelf(self, number: int, texts: Mapping[bytes, str]) -> dict[bytes, np.ndarray]:
        found: dict[bytes, np.ndarray] = {}
        place = 0
        while missing := {digest: text for digest, text in texts.items() if digest not in found}:
            batch = self._batch(number, place, _first_batch(missing))
            new = {digest: vector for digest, vector in batch.items() if digest in missing}
            found.update(new)
            self._done += len(new)
            place += 1
        return found

    def _batch(
        self, shelf: int, place: int, missing: Mapping[bytes, str]
    ) -> dict[bytes, np.ndarray]:
        """What lies at this place of the shelf; when nothing does, `missing`, put there."""

        def ask() -> dict[str, np.ndarray]:
            if self._stopped:
                raise JobCancelled
            vectors = self._paid(list(missing.values()))
            digests = np.frombuffer(b"".join(missing), dtype=np.uint8).reshape(len(missing), -1)
            return {"digests": digests, "vectors": vectors}

        if self._store is None:
            arrays = ask()
        else:
            key = Key("embeddings", _VERSION, {**self._identity(), "shelf": shelf, "place": place})
            arrays = self._store.get_or_compute(
                key, ask, ARRAYS, paid=True, waiting=self._raise_if_stopped
            )
        rows = zip(arrays["digests"], arrays["vectors"], strict=True)
        return {digest.tobytes(): vector for digest, vector in rows}

    @cached_property
    def _client(self) -> "openai.OpenAI":
        # Made when first needed: what is stored can be read without a key.
        return self._endpoint.client()

    def _raise_if_stopped(self) -> None:
        if self._stopped:
            raise JobCancelled

    def _identity(self) -> dict[str, Any]:
        endpoint = self._endpoint
        return {"url": endpoint.url, "model": endpoint.model, "dimensions": endpoint.dimensions}

    def _paid(self, texts: list[str]) -> Float[np.ndarray, "n d"]:
        """The vectors of some texts, which the payer answers for whether or not they come."""
        if self._payer is None:
            return self._ask(texts)
        n_tokens = sum(map(count_text, texts))
        reserved = self._payer.reserve(n_tokens, 0)
        try:
            return self._ask(texts)
        finally:
            self._payer.settle(reserved, n_tokens, 0)

    def _ask(self, texts: list[str]) -> Float[np.ndarray, "n d"]:
        import openai

        options: dict[str, Any] = (
            {} if self._endpoint.dimensions is None else {"dimensions": self._endpoint.dimensions}
        )
        client = self._client
        try:
            answer = client.embeddings.create(
                model=self._endpoint.model, input=texts, encoding_format="float", **options
            )
            return _unit_vectors(answer, len(texts))
        except openai.OpenAIError as error:
            message = explain(error, self._endpoint)
        except (ValueError, TypeError, AttributeError):
            message = (
                f"{self._endpoint.url} answered something that is not {len(texts)} vectors; check"
                f" that {self._endpoint.model!r} is an embedding model."
            )
        # Raised out here, so that the client's error, which may quote the request, is not attached.
        raise EmbeddingError(message)


def _first_batch(texts: Mapping[bytes, str]) -> dict[bytes, str]:
    batch: dict[bytes, str] = {}
    chars = 0
    for digest, text in texts.items():
        chars += len(text)
        if batch and (len(batch) == BATCH_TEXTS or chars > _MAX_BATCH_CHARS):
            break
        batch[digest] = text
    return batch


def _unit_vectors(answer: Any, n: int) -> Float[np.ndarray, "n d"]:
    items = sorted(answer.data, key=lambda item: item.index)
    if [item.index for item in items] != list(range(n)):
        raise ValueError("wrong indices")
    matrix = np.array([item.embedding for item in items], dtype=np.float32)
    if matrix.ndim != 2 or not np.isfinite(matrix).all() or not matrix.any(axis=1).all():
        raise ValueError("not vectors")
    return unit_rows(matrix)


def _clean(text: str) -> str:
    return text.strip()[:_MAX_TEXT_CHARS].encode("utf-8", "replace").decode()


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()
