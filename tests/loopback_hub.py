"""A small imitation of the model hub on 127.0.0.1, with the faults of the real one on demand.

Answers what huggingface_hub, transformers and sae_lens ask while loading: model metadata, trees,
and files (HEAD, GET, ranges). Uses nothing but the standard library, so that it can be started,
and HF_ENDPOINT pointed at it, before huggingface_hub is imported.
"""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from urllib.parse import unquote, urlsplit

from tests.loopback import serving

COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"


class LoopbackHub:
    """Repositories by id, each a dict of file contents by path; faults can be set at any time."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, bytes]] = {}
        self.requests: list[str] = []
        """Every request as `METHOD /path -> status`, in order."""
        self.gated: set[str] = set()
        """Repositories that want a token: 401 without one, 403 with another than `good-token`."""
        self.cuts: dict[str, list[int]] = {}
        """For a file path, after how many bytes each of the next GETs is cut off."""
        self.garbled: dict[str, bytes] = {}
        """Files served with other contents than their checksum promises."""
        self.stated_params: dict[str, int] = {}
        """Numbers of parameters that the metadata of a repository states."""
        self.sizes: dict[str, int] = {}
        """Files announced (by HEAD and metadata) as larger than they are."""
        self.url = ""

    def take_requests(self) -> list[str]:
        """The requests since the last call."""
        taken, self.requests = self.requests, []
        return taken


@contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    """A hub that answers at `hub.url` while the block runs."""
    hub = LoopbackHub()
    with serving(_Handler, hub=hub) as address:
        hub.url = address
        yield hub


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def log_message(self, *_: object) -> None:
        """The hub keeps its own log."""

    def _respond(self) -> None:
        path = unquote(urlsplit(self.path).path)
        if "/resolve/" in path:
            repo_id, _, rest = path.lstrip("/").partition("/resolve/")
            self._file(repo_id, rest.partition("/")[2])
        elif path.startswith("/api/models/"):
            self._metadata(path.removeprefix("/api/models/"))
        elif path.startswith("/api/datasets/"):
            self._metadata(path.removeprefix("/api/"))
        else:
            self._error(404, "", "Not found")

    def _refuses(self, repo_id: str) -> bool:
        """Whether an error was sent because of who asks, or because there is no such repository."""
        if repo_id not in self.hub.repos:
            # The real hub does not tell strangers whether a repository exists.
            self._error(401, "RepoNotFound", "Repository not found")
            return True
        token = self.headers.get("Authorization")
        if repo_id in self.hub.gated and token != "Bearer good-token":
            status = 401 if token is None else 403
            self._error(status, "GatedRepo", f"Access to model {repo_id} is restricted.")
            return True
        return False

    def _file(self, repo_id: str, filename: str) -> None:
        if self._refuses(repo_id):
            return
        promised = self.hub.repos[repo_id].get(filename)
        if promised is None:
            self._error(404, "EntryNotFound", "Entry not found")
            return
        body = self.hub.garbled.get(filename, promised)
        first = 0
        requested = self.headers.get("Range")
        if requested:
            start, _, end = requested.removeprefix("bytes=").partition("-")
            first = int(start)
            body = body[first : int(end) + 1 if end else None]
        self._log(206 if requested else 200)
        self.send_response(206 if requested else 200)
        self.send_header("X-Repo-Commit", COMMIT)
        # The hub names large files by their SHA-256, and so does its ETag.
        self.send_header("ETag", f'"{hashlib.sha256(promised).hexdigest()}"')
        length = len(body)
        if self.command == "HEAD":
            length = self.hub.sizes.get(filename, length)
        self.send_header("Content-Length", str(length))
        self.send_header("Accept-Ranges", "bytes")
        if requested:
            whole = first + len(body)
            self.send_header("Content-Range", f"bytes {first}-{whole - 1}/{whole}")
        self.end_headers()
        if self.command == "HEAD":
            return
        cuts = self.hub.cuts.get(filename)
        if cuts:
            self.wfile.write(body[: cuts.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            return
        self.wfile.write(body)

    def _metadata(self, path: str) -> None:
        repo_id = next(
            (name for name in self.hub.repos if path == name or path.startswith(f"{name}/")),
            path.partition("/tree/")[0],
        )
        if self._refuses(repo_id):
            return
        files = self.hub.repos[repo_id]
        rest = path.removeprefix(repo_id).strip("/")
        if rest.startswith("tree/"):
            folder = rest.split("/", 2)[2] if rest.count("/") > 1 else ""
            recursive = "recursive=false" not in self.path.lower()
            self._json(_tree(files, folder, recursive=recursive))
            return
        info: dict[str, object] = {
            "id": repo_id.removeprefix("datasets/"),
            "modelId": repo_id,
            "sha": COMMIT,
            "private": False,
            "tags": [],
            "siblings": [
                {"rfilename": name, "size": self.hub.sizes.get(name, len(content))}
                for name, content in files.items()
            ],
        }
        if repo_id in self.hub.stated_params:
            total = self.hub.stated_params[repo_id]
            info["safetensors"] = {"parameters": {"F32": total}, "total": total}
        self._json(info)

    def _json(self, content: object) -> None:
        body = json.dumps(content).encode()
        self._log(200)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str, message: str) -> None:
        self._log(status)
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        if code == "EntryNotFound":
            self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _log(self, status: int) -> None:
        self.hub.requests.append(f"{self.command} {unquote(self.path)} -> {status}")


def _tree(files: dict[str, bytes], folder: str, *, recursive: bool) -> list[dict[str, object]]:
    """Entries below a folder, as the hub lists them: files, and folders unless recursive."""
    start = f"{folder}/" if folder else ""
    listed: dict[str, dict[str, object]] = {}
    for name, content in files.items():
        if not name.startswith(start):
            continue
        inner, _, deeper = name.removeprefix(start).partition("/")
        if deeper and not recursive:
            entry = {"type": "directory", "path": f"{start}{inner}", "size": 0, "oid": "0" * 40}
        else:
            oid = hashlib.sha1(content, usedforsecurity=False).hexdigest()
            entry = {"type": "file", "path": name, "size": len(content), "oid": oid}
        listed[str(entry["path"])] = entry
    return list(listed.values())
