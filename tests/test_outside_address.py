"""A reader's address reaches what it may, and nothing behind the server."""

import asyncio
import socket
from typing import Any

import pytest

from core import outside_address
from core.autointerp.service import Typed, endpoint_of
from core.embeddings import EmbeddingEndpoint, EmbeddingError, embed
from core.llm import ChatEndpoint, ChatError, ChatRequest, ChatSession
from core.outside_address import ANYWHERE, PUBLIC, AddressRefused, Reach, check_address
from tests.loopback_openai import GOOD_KEY, Fault, LoopbackOpenAI, loopback_openai

INTERNAL = (
    *("127.0.0.1", "127.1", "0x7f.1", "2130706433", "0177.0.0.1", "0.0.0.0", "localhost"),
    *("10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "168.63.129.16"),
    *("[::1]", "[::]", "[::ffff:127.0.0.1]", "[::127.0.0.1]", "[fe80::1]", "[fd00:ec2::254]"),
    *("[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[ff02::1]", "224.0.0.1", "255.255.255.255"),
)
PUBLIC_ONES = ("8.8.8.8", "[2606:4700:4700::1111]", "[64:ff9b::808:808]")


@pytest.mark.parametrize("host", INTERNAL)
def test_what_only_the_server_reaches_is_refused(host: str) -> None:
    url = f"http://{host}:8501/v1"
    with pytest.raises(AddressRefused, match="public addresses only; give the address of a"):
        check_address(url, PUBLIC)
    assert check_address(url, ANYWHERE) is None


@pytest.mark.parametrize("host", PUBLIC_ONES)
def test_public_addresses_are_asked(host: str) -> None:
    assert check_address(f"https://{host}/v1", PUBLIC) == host.strip("[]")


def test_one_internal_number_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, "8.8.8.8", "10.0.0.1")
    with pytest.raises(AddressRefused):
        check_address("https://two.test/v1", PUBLIC)
    resolving(monkeypatch, "8.8.8.8", "1.1.1.1")
    assert check_address("https://two.test/v1", PUBLIC) in ("8.8.8.8", "1.1.1.1")


def test_names_that_do_not_resolve_are_refused_in_the_same_words(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = []
    for numbers in ((), ("10.0.0.1",)):
        resolving(monkeypatch, *numbers)
        with pytest.raises(AddressRefused) as refused:
            check_address("http://name.test/v1", PUBLIC)
        said.append(str(refused.value))
    assert said[0] == said[1]


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("api.example.com", True),
        ("API.example.com.", True),
        ("a.inside.test", True),
        ("inside.test", False),
        ("notinside.test", False),
        ("api.example.com.evil.test", False),
        ("127.0.0.1", False),
    ],
)
def test_an_allow_list_names_hosts(host: str, allowed: bool) -> None:
    reach = Reach(internal=False, hosts=("api.example.com", "*.inside.test"))
    if allowed:
        assert check_address(f"https://{host}/v1", reach) is None
        return
    with pytest.raises(AddressRefused, match="not among the services that this server may ask"):
        check_address(f"https://{host}/v1", reach)


def ask(endpoint: ChatEndpoint) -> str:
    """The answer, or the sentence that came instead."""
    session = ChatSession(endpoint)
    request = ChatRequest([{"role": "user", "content": "Hello"}], max_tokens=5)

    async def question() -> str:
        try:
            return str(await session.ask(request))
        finally:
            await session.close()

    try:
        return asyncio.run(question())
    except ChatError as error:
        return str(error)


def test_open_ports_are_not_told_from_closed_ones() -> None:
    """Nothing is connected, and the sentences differ in nothing."""
    with loopback_openai() as service:
        typed = Typed(url=service.url, key=GOOD_KEY)
        open_port = endpoint_of(typed, "m", environment={}, secrets={}, reach=PUBLIC)
        assert open_port is not None
        said = ask(open_port)
        assert not service.requests
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    nowhere = endpoint_of(Typed(url=closed), "m", environment={}, secrets={}, reach=PUBLIC)
    assert nowhere is not None
    assert ask(nowhere) == said
    assert "public addresses only" in said


def test_the_server_s_own_service_may_be_internal() -> None:
    found = endpoint_of(
        Typed(),
        "m",
        environment={"OPENAI_BASE_URL": "http://127.0.0.1:1/v1"},
        secrets={},
        reach=PUBLIC,
    )
    assert found is not None
    assert found.reach == ANYWHERE


def test_the_connection_goes_to_the_number_that_was_looked_at(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name that points elsewhere a moment later (DNS rebinding) gains nothing."""
    resolved: list[Any] = []
    usual = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **options: Any) -> Any:
        resolved.append(host)
        return usual("127.0.0.1" if host == "service.test" else host, *rest, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(outside_address, "_is_public", lambda number: number == "127.0.0.1")
    with loopback_openai() as service:
        url = service.url.replace("127.0.0.1", "service.test")
        said = ask(ChatEndpoint("m", url, GOOD_KEY, reach=PUBLIC, max_retries=0))
        assert "cannot" not in said
        assert len(service.requests) == 1
    # Asked for before connecting; the connection itself is made to the number.
    assert resolved.count("service.test") == 2
    assert set(resolved) <= {"service.test", "127.0.0.1"}


def test_a_name_that_turns_inwards_between_look_and_connection_is_not_asked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looks = iter([True, False])
    monkeypatch.setattr(outside_address, "_is_public", lambda number: next(looks))
    with loopback_openai() as service:
        said = ask(ChatEndpoint("m", service.url, GOOD_KEY, reach=PUBLIC, max_retries=0))
        assert "cannot be reached" in said
        assert not service.requests


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_embeddings_follow_no_redirects_either(
    status: int, service_pair: tuple[LoopbackOpenAI, LoopbackOpenAI]
) -> None:
    service, other = service_pair
    service.faults = [Fault(status=status, location=f"{other.url}/embeddings")] * 9
    endpoint = EmbeddingEndpoint("m", service.url, GOOD_KEY, max_retries=0)
    with pytest.raises(EmbeddingError, match="sends questions on to another address"):
        embed(["a"], endpoint=endpoint)
    assert not other.requests


@pytest.fixture
def service_pair() -> Any:
    with loopback_openai() as service, loopback_openai() as other:
        yield service, other


def resolving(monkeypatch: pytest.MonkeyPatch, *numbers: str) -> None:
    """Names resolve to these numbers, or not at all."""

    def resolve(host: Any, *_: Any, **__: Any) -> Any:
        if not numbers:
            raise socket.gaierror(-2, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (number, 0)) for number in numbers]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
