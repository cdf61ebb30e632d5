"""A small OpenAI-compatible service on 127.0.0.1, with the faults of real ones on demand.

Routes are methods of `LoopbackOpenAI` by path; a new one (chat completions, …) is a method and a
line in `routes`. Delays and faults apply to every route.
"""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from typing import Any

import numpy as np

from tests.loopback import serving

GOOD_KEY = "sk-loopback-0123456789abcdefghijklmnop"


@dataclass(frozen=True)
class Fault:
    """What one request gets instead of an answer."""

    status: int = 0
    """This status with an error as OpenAI words it, if not 0."""
    retry_after: str | None = None
    """The Retry-After header of that answer."""
    error: dict[str, Any] | None = None
    """Fields of its body's `error`, such as `code` and `param`."""
    cut: bool = False
    """The connection is closed without an answer."""
    location: str = ""
    """The address that the answer, of status 301 to 308, sends on to."""
    body: bytes | None = None
    """This body with status 200, or with `status`."""
    content_type: str = "application/json"
    """What that body is said to be."""
    delay_seconds: float = 0.0
    """Further time before the answer, to outlast a time-out."""


class LoopbackOpenAI:
    """Answers at `url`; every request is kept in `requests`."""

    def __init__(self) -> None:
        self.url = ""
        """Base address, ending in /v1."""
        self.requests: list[tuple[str, dict[str, Any]]] = []
        """Path after /v1 and body of every request, in order."""
        self.keys: list[str] = []
        """The key that each request carried."""
        self.queries: list[str] = []
        """What stood behind the address of each request."""
        self.faults: list[Fault] = []
        """What happens to each of the next requests."""
        self.delay_seconds = 0.0
        self.held: threading.Event | None = None  # no answer is given before it is set
        """Before each answer."""
        self.needs_key = True
        """Whether requests without `GOOD_KEY` get 401."""
        self.dimensions = 16
        """Length of vectors when the request does not say."""
        self.closing = threading.Event()
        self.routes: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "/embeddings": self._embeddings,
            "/chat/completions": self._chat,
        }
        self.reply: Callable[[dict[str, Any]], str | dict[str, Any]] = lambda body: "None"
        """The answer to a chat request: its text, or fields of the `message` and `choice`."""
        self.refuse: Callable[[dict[str, Any]], Fault | None] = lambda body: None
        """The fault that a chat request meets for what it asks for; None for none."""
        self.running = 0
        """Requests that are being answered."""
        self.most_at_once = 0
        """Most there ever were."""
        self.lock = threading.Lock()

    def inputs(self) -> list[str]:
        """All texts that were sent to be embedded, in order."""
        return [
            text for path, body in self.requests if path == "/embeddings" for text in body["input"]
        ]

    def questions(self) -> list[dict[str, Any]]:
        """Bodies of all chat requests, in order."""
        return [body for path, body in self.requests if path == "/chat/completions"]

    def next_fault(self) -> "Fault":
        """What happens to the request at hand."""
        with self.lock:
            return self.faults.pop(0) if self.faults else Fault()

    def _chat(self, body: dict[str, Any]) -> dict[str, Any]:
        reply = self.reply(body)
        given: dict[str, Any] = {"content": reply} if isinstance(reply, str) else dict(reply)
        choice = {"finish_reason": given.pop("finish_reason", "stop")}
        choice["logprobs"] = given.pop("logprobs", None)
        usage = given.pop("usage", {"prompt_tokens": 100, "completion_tokens": 10})
        message = {"role": "assistant", "content": None, **given}
        return {
            "id": "chatcmpl-loopback",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "message": message, **choice}],
            "usage": usage and {**usage, "total_tokens": sum(usage.values())},
        }

    def _embeddings(self, body: dict[str, Any]) -> dict[str, Any]:
        texts = [body["input"]] if isinstance(body["input"], str) else body["input"]
        size = body.get("dimensions", self.dimensions)
        data = [
            {"object": "embedding", "index": i, "embedding": vector_of(text, size).tolist()}
            for i, text in enumerate(texts)
        ]
        # Clients have to order by index: the standard promises nothing.
        return {
            "object": "list",
            "model": body["model"],
            "data": data[::-1],
            "usage": {"prompt_tokens": len(texts), "total_tokens": len(texts)},
        }


def vector_of(text: str, size: int = 16) -> np.ndarray:
    """The vector the service gives for `text`, of length 2: the sum of one for each word."""
    total = np.zeros(size)
    for word in text.lower().split():
        seed = int.from_bytes(hashlib.sha256(word.encode()).digest()[:4], "big")
        total += np.random.default_rng(seed).standard_normal(size)
    return 2 * total / np.linalg.norm(total)


@contextmanager
def loopback_openai() -> Iterator[LoopbackOpenAI]:
    """A service that answers at `service.url` while the block runs."""
    service = LoopbackOpenAI()
    with serving(_Handler, service=service) as address:
        service.url = f"{address}/v1"
        try:
            yield service
        finally:
            service.closing.set()


class _Handler(BaseHTTPRequestHandler):
    service: LoopbackOpenAI
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        service = self.service
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        address, _, query = self.path.partition("?")
        path = address.removeprefix("/v1")
        key = self.headers.get("Authorization", "").removeprefix("Bearer ")
        if "api-version" in query:  # Azure
            path = path.removeprefix(f"/deployments/{body['model']}")
            key = "" if key else self.headers.get("api-key", "")
        with service.lock:
            service.requests.append((path, body))
            service.keys.append(key)
            service.queries.append(query)
            service.running += 1
            service.most_at_once = max(service.most_at_once, service.running)
        if service.held is not None:
            service.held.wait(60)
        if service.delay_seconds:
            service.closing.wait(service.delay_seconds)
        fault = service.next_fault()
        if path == "/chat/completions" and fault == Fault():
            fault = service.refuse(body) or fault
        if fault.delay_seconds:
            service.closing.wait(fault.delay_seconds)
        with service.lock:
            service.running -= 1
        self._respond(service, fault, path, key, body)

    def do_GET(self) -> None:
        self._error(405, "Ask with POST.")

    def _respond(
        self,
        service: LoopbackOpenAI,
        fault: Fault,
        path: str,
        key: str,
        body: dict[str, Any],
    ) -> None:
        if fault.cut:
            self.close_connection = True
        elif fault.location:
            self._send(fault.status, b"", {"Location": fault.location})
        elif fault.body is not None:
            self._send(fault.status or 200, fault.body, content_type=fault.content_type)
        elif fault.status:
            self._error(fault.status, "Something is wrong.", fault.retry_after, fault.error)
        elif service.needs_key and key != GOOD_KEY:
            # The real one quotes the key, too.
            self._error(401, f"Incorrect API key provided: {key}.")
        elif path not in service.routes:
            self._error(404, f"Unknown request URL: POST {path}.")
        else:
            self._send(200, json.dumps(service.routes[path](body)).encode())

    def log_message(self, *_: object) -> None:
        """The service keeps its own log."""

    def _error(
        self,
        status: int,
        message: str,
        retry_after: str | None = None,
        fields: dict[str, Any] | None = None,
    ) -> None:
        headers = {} if retry_after is None else {"Retry-After": retry_after}
        error = {"message": message, "type": "error", "param": None, "code": None}
        self._send(status, json.dumps({"error": {**error, **(fields or {})}}).encode(), headers)

    def _send(
        self,
        status: int,
        body: bytes,
        headers: dict[str, str] | None = None,
        *,
        content_type: str = "application/json",
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
