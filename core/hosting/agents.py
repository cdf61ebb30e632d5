"""Programs that use the pages (`/_stcore/agent`): those of known people, before a session begins.

Works on the connection itself (ASGI), behind `BelievedHeaders`. Streamlit makes a session for
whoever asks, and holds a limited number of them: somebody without a name could take them all.
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from core.hosting.people import Role, email_of, groups_of
from core.hosting.policy import Policy

PATHS = ("/_stcore/agent/interact", "/_stcore/agent/mcp")
"""Ends of the paths at which programs use the pages."""

_UNKNOWN = (
    "This server does not know who sent this program; call through the proxy that logs people in, "
    "with the token that it takes from programs."
)
_NOT_LISTED = "{} is not on the list of this server; ask its administrator."

_Scope = MutableMapping[str, Any]
_App = Callable[[_Scope, Any, Any], Awaitable[None]]


def trusted_headers(policy: Policy) -> dict[str, str]:
    """Streamlit's `server.trustedUserHeaders`: a program's session is of one person alone."""
    return {policy.identity.user_header: "email"} if policy.agents else {}


class KnownAgents:
    """Refuses what programs ask for nobody, or for somebody who may see no page."""

    def __init__(self, app: _App, policy: Policy) -> None:
        self._app, self._policy = app, policy

    async def __call__(self, scope: _Scope, receive: Any, send: Any) -> None:
        """Pass the connection on; where programs are not served at all, Streamlit says so."""
        asks = scope["type"] == "http" and scope["path"].endswith(PATHS)
        refusal = self._refusal(scope) if asks and self._policy.agents else None
        if refusal is None:
            await self._app(scope, receive, send)
            return
        status, sentence = refusal
        body = json.dumps(_error(scope["path"], sentence)).encode()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    def _refusal(self, scope: _Scope) -> tuple[int, str] | None:
        identity = self._policy.identity
        email = email_of(_header(scope, identity.user_header))
        if not email:
            return 401, _UNKNOWN
        groups = groups_of(_header(scope, identity.groups_header))
        if self._policy.role_of(email, groups) is Role.NOBODY:
            return 403, _NOT_LISTED.format(email)
        return None


def _header(scope: _Scope, name: str) -> str:
    """The value of a header that stands there once, as a page reads it; "" otherwise."""
    wanted = name.lower().encode()
    values = [value for given, value in scope["headers"] if given.lower() == wanted]
    return values[0].decode("latin-1") if len(values) == 1 else ""


def _error(path: str, sentence: str) -> dict[str, Any]:
    """The sentence in the form of errors of that path: JSON-RPC, or the interface's own."""
    if path.endswith("/mcp"):
        return {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": sentence}}
    return {"error": {"code": "not_allowed", "message": sentence}}
