"""A small imitation of Neuronpedia on 127.0.0.1: its bucket of exports and its removed endpoint.

The bucket lists keys as S3 does (ListObjectsV2, in pages) and serves them; faults are set by path
and used up one request at a time.
"""

import gzip
import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import md5
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.loopback import serving

LISTING = "/"
"""The path under which faults of the listing are set."""
EXPORT = "/api/explanation/export"


@dataclass(frozen=True)
class Fault:
    """What happens to one request instead of an answer."""

    status: int = 0
    """This status with an empty body, if not 0."""
    retry_after: str | None = None
    """The Retry-After header of that answer."""
    cut_after: int | None = None
    """The connection is closed after this many bytes of the body."""
    hang: bool = False
    """No answer until the server is closed."""
    trickle_seconds: float = 0.0
    """The body comes byte by byte, with this pause before each."""


class LoopbackNeuronpedia:
    """Objects of the bucket by key; faults can be set at any time."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.page_size = 1000
        """Keys a page of the listing."""
        self.requests: list[str] = []
        """Every request's path and query, in order."""
        self.faults: dict[str, list[Fault]] = {}
        """By path, what happens to each of the next requests."""
        self.listing: bytes | None = None
        """Sent instead of the true listing."""
        self.old_export: list[dict[str, Any]] | bytes | None = None
        """What the old endpoint answers; None as the public instance does now: 400 and a newUrl."""
        self.url = ""
        self.hung_up = False
        """Whether a request that hung was given up by this server."""
        self.closing = threading.Event()

    def put_batch(
        self, source: str, number: int, rows: Sequence[object], *, folder: str = "explanations"
    ) -> str:
        """Store `rows` (objects, or bytes for a line as it is) as a batch; its path."""
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        key = f"v1/{source}/{folder}/batch-{number}.jsonl.gz"
        self.objects[key] = gzip.compress(b"\n".join(lines) + b"\n", mtime=0)
        return f"/{key}"

    def take_requests(self) -> list[str]:
        """Paths of the requests since the last call; `/` for the listing."""
        taken, self.requests = self.requests, []
        return [urlsplit(request).path for request in taken]


@contextmanager
def loopback_neuronpedia() -> Iterator[LoopbackNeuronpedia]:
    """A server that answers at `server.url` while the block runs."""
    site = LoopbackNeuronpedia()
    with serving(_Handler, site=site) as address:
        site.url = address
        try:
            yield site
        finally:
            site.closing.set()


class _Handler(BaseHTTPRequestHandler):
    site: LoopbackNeuronpedia
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.site.requests.append(self.path)
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        faults = self.site.faults.get(path)
        fault = faults.pop(0) if faults else Fault()
        if fault.hang:
            self.site.closing.wait(30)
            self.site.hung_up = True
            self.close_connection = True
        elif fault.status:
            headers = {"Retry-After": fault.retry_after} if fault.retry_after else {}
            self._send(fault.status, b"", fault, headers)
        elif path == LISTING:
            body = self.site.listing
            self._send(200, self._listing(query) if body is None else body, fault)
        elif path == EXPORT:
            self._old_export(fault)
        elif path.removeprefix("/") in self.site.objects:
            self._send(200, self.site.objects[path.removeprefix("/")], fault)
        else:
            self._send(404, b"<Error><Code>NoSuchKey</Code></Error>", fault)

    def log_message(self, *_: object) -> None:
        """The server keeps its own log."""

    def _listing(self, query: dict[str, str]) -> bytes:
        # S3 sorts keys as text: batch-10 comes before batch-2.
        prefix = query.get("prefix", "")
        keys = sorted(key for key in self.site.objects if key.startswith(prefix))
        start = int(query.get("continuation-token", "token-0").removeprefix("token-"))
        page, rest = keys[start : start + self.site.page_size], keys[start + self.site.page_size :]
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><LastModified>2026-04-15T00:00:00.000Z"
            f"</LastModified><ETag>&quot;{md5(self.site.objects[key]).hexdigest()}&quot;</ETag>"
            f"<Size>{len(self.site.objects[key])}</Size></Contents>"
            for key in page
        )
        token = f"token-{start + self.site.page_size}"
        more = f"<NextContinuationToken>{token}</NextContinuationToken>" if rest else ""
        return (
            '<?xml version="1.0" encoding="UTF-8"?>\n'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>neuronpedia-datasets</Name><Prefix>{escape(prefix)}</Prefix>"
            f"<IsTruncated>{str(bool(rest)).lower()}</IsTruncated>{more}{contents}"
            "</ListBucketResult>"
        ).encode()

    def _old_export(self, fault: Fault) -> None:
        content = self.site.old_export
        if content is None:
            gone = {"newUrl": f"{self.site.url}/", "message": "This endpoint has been removed."}
            self._send(400, json.dumps(gone).encode(), fault)
        else:
            body = content if isinstance(content, bytes) else json.dumps(content).encode()
            self._send(200, body, fault)

    def _send(
        self, status: int, body: bytes, fault: Fault, headers: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if fault.trickle_seconds:
            for start in range(len(body)):
                if self.site.closing.wait(fault.trickle_seconds):
                    return
                self.wfile.write(body[start : start + 1])
                self.wfile.flush()
        else:
            self.wfile.write(body[: fault.cut_after])
        if fault.cut_after is not None:
            self.close_connection = True
