"""Headers that tell browsers what a page of this server may do, and names that it answers to.

Works on the connection itself (ASGI). A page elsewhere can neither put this one into a frame nor,
by pointing a name of its own at this machine (DNS rebinding), talk to it as if it were that page;
and links to other sites do not tell them the text that stands in the address here.
"""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any
from urllib.parse import urlsplit

_POLICY = {
    "default-src": "'self'",
    # Streamlit's page has a script within it; Plotly and the tables compile theirs (WebAssembly).
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval' 'wasm-unsafe-eval' blob:",
    "style-src": "'self' 'unsafe-inline'",
    "img-src": "'self' data: blob:",
    "media-src": "'self' data: blob:",
    "font-src": "'self' data:",
    "connect-src": "'self' data: blob:",
    "worker-src": "'self' blob:",
    "object-src": "'none'",
    "base-uri": "'self'",
    "frame-ancestors": "'none'",
}
HEADERS = {
    "content-security-policy": "; ".join(f"{name} {value}" for name, value in _POLICY.items()),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
"""Of every answer; those of Streamlit's own that stand there already are kept."""
FOR_PROGRAMS = ("/healthz", "/metrics", "/_stcore/health")
"""Ends of paths that programs of this machine ask for under any name."""

_Scope = MutableMapping[str, Any]
_App = Callable[[_Scope, Any, Any], Awaitable[None]]


class SafeAnswers:
    """Adds `HEADERS`, and refuses what is asked of other names than `names`."""

    def __init__(self, app: _App, names: Sequence[str]) -> None:
        self._app, self._names = app, tuple(name.strip().lower().rstrip(".") for name in names)
        self._headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]

    async def __call__(self, scope: _Scope, receive: Any, send: Any) -> None:
        """Pass the connection on, and its answer with the headers."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_safely(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = list(message.get("headers", ()))
                there = {name.lower() for name, _ in given}
                more = [pair for pair in self._headers if pair[0] not in there]
                message = {**message, "headers": [*given, *more]}
            await send(message)

        host = _host(scope)
        if not scope["path"].endswith(FOR_PROGRAMS) and not self._answers_to(host):
            await _refuse(host, send_safely)
            return
        await self._app(scope, receive, send_safely)

    def _answers_to(self, host: str) -> bool:
        for name in self._names:
            below = name.startswith("*.") and host.endswith(name[1:])
            if name == "*" or host == name or below:
                return True
        return False


def _host(scope: _Scope) -> str:
    """The name that the browser asked for, without a port; "" where there is none, or two."""
    named = [value for name, value in scope["headers"] if name.lower() == b"host"]
    if len(named) != 1:
        return ""
    try:
        asked = urlsplit(f"//{named[0].decode('latin-1')}")
    except ValueError:
        return ""
    plain = asked.username is None and not (asked.path or asked.query or asked.fragment)
    return (asked.hostname or "").lower().rstrip(".") if plain else ""


async def _refuse(host: str, send: Any) -> None:
    text = (
        f"This server is not called {host[:100]!r}. Open it under its own name, or have its "
        "administrator add this one to names, under [server] in the policy.\n"
    )
    start = {"type": "http.response.start", "status": 421}
    await send({**start, "headers": [(b"content-type", b"text/plain; charset=utf-8")]})
    await send({"type": "http.response.body", "body": text.encode()})
