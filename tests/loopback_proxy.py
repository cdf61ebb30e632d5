"""A proxy on loopback that says who somebody is, as one that logs people in does.

    with identity_proxy(server_address, {"X-Forwarded-Email": "ann@x.org"}) as address:
        page.goto(address)

Knows as much of HTTP as is needed: one request a connection, web sockets passed through.
"""

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

ADDRESS = "127.0.0.2"
"""Where its connections come from, so that a server can tell it from a browser."""
_HEAD_END = b"\r\n\r\n"


@contextmanager
def identity_proxy(server: str, headers: Mapping[str, str]) -> Iterator[str]:
    """Address of a proxy in front of `server`, which sets `headers` on every request."""
    target = urlsplit(server)
    listener = socket.create_server(("127.0.0.1", 0))
    own = {name.lower(): value for name, value in headers.items()}

    def accept() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:  # closed: the block has ended
                return
            threading.Thread(target=serve, args=(client,), daemon=True).start()

    def serve(client: socket.socket) -> None:
        with client, suppress(OSError):
            head, rest = _read_head(client)
            if not head:
                return
            place = (target.hostname or "", target.port or 0)
            with socket.create_connection(place, source_address=(ADDRESS, 0)) as upstream:
                upstream.sendall(_with_headers(head, own) + rest)
                back = threading.Thread(target=_pump, args=(upstream, client), daemon=True)
                back.start()
                _pump(client, upstream)
                back.join()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()


def _read_head(client: socket.socket) -> tuple[bytes, bytes]:
    data = b""
    while _HEAD_END not in data:
        more = client.recv(65536)
        if not more:
            return b"", b""
        data += more
    head, _, rest = data.partition(_HEAD_END)
    return head, rest


def _with_headers(head: bytes, own: Mapping[str, str]) -> bytes:
    first, *lines = head.decode("latin-1").split("\r\n")
    given = [line for line in lines if line.partition(":")[0].lower() not in own]
    upgrades = any(line.lower().startswith("upgrade:") for line in given)
    if not upgrades:
        given = [line for line in given if not line.lower().startswith("connection:")]
        given.append("Connection: close")
    added = [f"{name}: {value}" for name, value in own.items() if value]
    whole = "\r\n".join([first, *given, *added, "X-Forwarded-For: 203.0.113.9"])
    return whole.encode("latin-1") + _HEAD_END


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
