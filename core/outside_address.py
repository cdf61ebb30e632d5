"""May this address, which a reader typed, be asked from this machine?

A server that asks whatever address a visitor types reaches what only the server can reach: its own
ports, its neighbours, the metadata of its cloud. So the name is resolved first, all that it stands
for must be public, and the connection goes to the very address that was looked at: a name that
points elsewhere a moment later gains nothing. Whatever is refused is refused in the same words and
before anything is connected, so that nobody learns which ports are open.
"""

import asyncio
import ipaddress
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import httpx2

_METADATA = ipaddress.ip_address("168.63.129.16")
"""Azure's, which is public by its number."""
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


@dataclass(frozen=True)
class Reach:
    """Which addresses typed by readers are asked."""

    internal: bool = True
    """Whether this machine and its private network are among them."""
    hosts: tuple[str, ...] | None = None
    """The only hosts that are asked, internal ones too, as `api.example.com` or `*.example.com`;
    None for all that `internal` leaves."""


ANYWHERE = Reach()
"""Of an explorer on one's own machine."""
PUBLIC = Reach(internal=False)
"""Of a server for several people."""


class AddressRefused(ValueError):
    """The address is not asked; the message is one sentence for all reasons alike."""


def check_address(url: str, reach: Reach) -> str | None:
    """The number (IP) to connect to; None where `reach` leaves the choice to the client.

    Resolves the name, which may take seconds; nothing is connected.

    Raises:
        AddressRefused: `reach` does not hold it.
    """
    host = (urlsplit(url).hostname or "").rstrip(".").lower()
    if reach.hosts is not None:
        if not any(_named(host, pattern.lower()) for pattern in reach.hosts):
            raise AddressRefused(
                f"{host!r:.80} is not among the services that this server may ask: "
                f"{', '.join(reach.hosts) or 'none'}; its administrator can add it."
            )
        return None
    if reach.internal:
        return None
    try:
        found = {str(entry[4][0]) for entry in socket.getaddrinfo(host, None)}
        numbers = sorted(found, key=lambda number: ":" in number)  # IPv4 first
    except (OSError, UnicodeError):
        numbers = []
    if not numbers or not all(map(_is_public, numbers)):
        raise AddressRefused(
            f"{host!r:.80} cannot be asked from this server, which asks public addresses only; "
            "give the address of a service on the internet."
        )
    return numbers[0]


def guarded_transport(reach: Reach) -> "httpx2.AsyncBaseTransport | None":
    """A transport of the OpenAI client that checks each connection; None where none is needed."""
    if reach.internal and reach.hosts is None:
        return None
    import httpx2

    class Guarded(httpx2.AsyncHTTPTransport):
        async def handle_async_request(self, request: Any) -> Any:
            try:
                number = await asyncio.to_thread(check_address, str(request.url), reach)
            except AddressRefused as refused:
                raise httpx2.ConnectError(str(refused)) from refused
            if number is not None:
                host = request.url.host
                # The certificate and the Host header stay those of the name.
                request.extensions = {**request.extensions, "sni_hostname": host}
                request.url = request.url.copy_with(host=number)
            return await super().handle_async_request(request)

    return Guarded()


def _named(host: str, pattern: str) -> bool:
    if pattern.startswith("*."):
        return host.endswith(pattern[1:]) and len(host) > len(pattern) - 1
    return host == pattern


def _is_public(number: str) -> bool:
    address = ipaddress.ip_address(number.partition("%")[0])
    if isinstance(address, ipaddress.IPv6Address):
        # Forms of IPv6 that stand for an address of IPv4.
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo or (None, None))[1]
        if address in _NAT64 or int(address) >> 32 == 0:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return _is_public(str(inner))
    return address.is_global and not address.is_multicast and address != _METADATA
