"""A provider of logins on loopback: OpenID Connect, as far as `st.login` needs it.

Whoever comes is logged in as `provider.claims` say, without a question.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from joserfc import jwk, jwt

from tests.loopback import serving

CLIENT, SECRET = "explorer", "loopback-client-secret"


class Provider:
    """Answers at `url`."""

    def __init__(self) -> None:
        self.url = ""
        """Address, without a slash at its end."""
        self.claims: dict[str, Any] = {}
        """What the next login says of whoever comes."""
        self.key = jwk.RSAKey.generate_key(2048, {"kid": "loopback", "use": "sig"}, private=True)
        self.codes: dict[str, dict[str, Any]] = {}

    def token(self, code: str) -> dict[str, Any]:
        """The answer to a code that was handed out; each counts once."""
        now = int(time.time())
        claims = self.codes.pop(code)
        claims |= {"iss": self.url, "aud": CLIENT, "iat": now, "exp": now + 600}
        signed = jwt.encode({"alg": "RS256", "kid": "loopback"}, claims, self.key)
        return {"access_token": "a", "token_type": "Bearer", "id_token": signed, "expires_in": 600}


@contextmanager
def oidc_provider() -> Iterator[Provider]:
    """A provider while the block runs."""
    provider = Provider()
    with serving(_Handler, provider=provider) as address:
        provider.url = address
        yield provider


class _Handler(BaseHTTPRequestHandler):
    provider: Provider

    def do_GET(self) -> None:
        """Metadata, keys, and the page of logging in."""
        url, provider = urlsplit(self.path), self.provider
        if url.path == "/.well-known/openid-configuration":
            self._send(
                {
                    "issuer": provider.url,
                    "authorization_endpoint": f"{provider.url}/authorize",
                    "token_endpoint": f"{provider.url}/token",
                    "jwks_uri": f"{provider.url}/jwks",
                    "response_types_supported": ["code"],
                    "subject_types_supported": ["public"],
                    "id_token_signing_alg_values_supported": ["RS256"],
                }
            )
        elif url.path == "/jwks":
            self._send({"keys": [provider.key.as_dict(private=False)]})
        elif url.path == "/authorize":
            asked = {name: values[0] for name, values in parse_qs(url.query).items()}
            code = f"code-{len(provider.codes)}-{time.time_ns()}"
            provider.codes[code] = {"nonce": asked.get("nonce", ""), **provider.claims}
            back = urlencode({"code": code, "state": asked["state"]})
            self.send_response(302)
            self.send_header("Location", f"{asked['redirect_uri']}?{back}")
            self.end_headers()
        else:
            self.send_error(404)

    def do_POST(self) -> None:
        """The token of a code."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self._send(self.provider.token(parse_qs(body)["code"][0]))

    def log_message(self, *_: object) -> None:
        """Nothing is printed."""

    def _send(self, content: dict[str, Any]) -> None:
        data = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)
