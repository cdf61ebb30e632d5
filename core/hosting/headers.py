"""Which headers are believed: those that the proxy of the policy sent, and nobody else's.

Works on the connection itself (ASGI), before Streamlit sees it. A page believes a header only where
this has looked at it, which it tells by a mark that no visitor can know.
"""

import ipaddress
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from core.hosting.policy import Identity

MARK_HEADER = "x-sae-explorer-checked"
"""Set on every request that was looked at, to `MARK`."""
MARK = secrets.token_hex(16)
"""Another one in each process."""

PRIVATE = ("/metrics",)
"""Ends of paths that only programs of this machine may ask for, without a proxy between."""
_FORWARDED = {b"forwarded", b"via", b"x-forwarded-for", b"x-forwarded-host", b"x-real-ip"}

_Scope = MutableMapping[str, Any]
_App = Callable[[_Scope, Any, Any], Awaitable[None]]


class BelievedHeaders:
    """Strikes out the headers of `identity` unless a proxy sent them, once each."""

    def __init__(self, app: _App, identity: Identity) -> None:
        self._app = app
        self._networks = [ipaddress.ip_network(it, strict=False) for it in identity.proxies]
        names = (identity.user_header, identity.groups_header)
        self._names = {name.lower().encode() for name in names}
        self._own = MARK_HEADER.encode()
        self._believes = identity.source == "proxy"

    async def __call__(self, scope: _Scope, receive: Any, send: Any) -> None:
        """Pass the connection on with the headers that are believed.

        What is for the machine alone is not there for anybody else.
        """
        if scope["type"] == "http" and scope["path"].endswith(PRIVATE) and not _is_local(scope):
            await send({"type": "http.response.start", "status": 404, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        if scope["type"] in ("http", "websocket"):
            scope = {**scope, "headers": self._headers(scope)}
        await self._app(scope, receive, send)

    def _headers(self, scope: _Scope) -> list[tuple[bytes, bytes]]:
        given = [(name.lower(), value) for name, value in scope["headers"]]
        believed = self._believes and self._is_proxy(scope)
        kept = []
        for name, value in given:
            once = sum(other == name for other, _ in given) == 1
            if name == self._own or (name in self._names and not (believed and once)):
                continue
            kept.append((name, value))
        return [*kept, (self._own, MARK.encode())]

    def _is_proxy(self, scope: _Scope) -> bool:
        address = _address(scope)
        return address is not None and any(address in network for network in self._networks)


def _address(scope: _Scope) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Who is at the other end of the connection."""
    client = scope.get("client")
    try:
        address = ipaddress.ip_address(client[0] if client else "")
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _is_local(scope: _Scope) -> bool:
    """Whether a program of this machine asks for itself."""
    address = _address(scope)
    forwarded = any(name.lower() in _FORWARDED for name, _ in scope["headers"])
    return address is not None and address.is_loopback and not forwarded
