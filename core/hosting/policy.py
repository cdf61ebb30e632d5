"""What an administrator has decided, from the one file that `SAE_EXPLORER_HOSTING` names."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

from core.hosting.people import LOCAL, Person, Role, email_of, matches, visitor
from core.hosting.toml_table import Table, plain_name
from core.outside_address import ANYWHERE, PUBLIC, Reach

SOURCES = ("oidc", "proxy")
_HOURS = 3600.0


@dataclass(frozen=True)
class Identity:
    """How people are known (`[identity]`)."""

    source: str = "local"
    """`oidc`: they log in here, by `st.login`. `proxy`: a proxy in front has done that. `local`:
    nobody logs in, which is what an explorer without a policy does."""
    provider: str = ""
    """With `oidc`: NAME of `[auth.NAME]` in Streamlit's secrets; "" for `[auth]` itself."""
    groups_claim: str = "groups"
    """With `oidc`: the claim that lists a person's groups."""
    user_header: str = "X-Forwarded-Email"
    """With `proxy`: the header that holds the address of the person."""
    groups_header: str = "X-Forwarded-Groups"
    """With `proxy`: the header that holds their groups, commas between them."""
    proxies: tuple[str, ...] = ("127.0.0.1", "::1")
    """With `proxy`: addresses from which these headers are believed; from others they are struck
    out."""


@dataclass(frozen=True)
class Access:
    """Who has which role (`[access]`): e-mail addresses, `@domain`, `group:name`."""

    admins: tuple[str, ...] = ()
    """Role `admin`."""
    runners: tuple[str, ...] = ()
    """Role `runner`."""
    readers: tuple[str, ...] = ()
    """Role `reader`."""
    public: bool = False
    """Whether those who are not on the list, logged in or not, see what was computed before."""


@dataclass(frozen=True)
class Quotas:
    """Most that one person may use (`[quotas]`); visitors share one person's. Admins have none."""

    jobs_at_once: int = 3
    """Computations queued and running at a time."""
    compute_seconds_a_day: float = 4 * _HOURS
    """Seconds of computations in a day (UTC)."""
    cached_seconds: float = 60.0
    """Longest that reading a stored result, or a text that a reader typed, may take."""
    upload_bytes_a_day: int = 200 << 20
    """Bytes of files and pasted texts brought in a day."""
    store_bytes_a_day: int = 4 << 30
    """Bytes that a person's computations add to the store in a day."""
    store_bytes: int = 4 << 30
    """Bytes of the store that a person's results may take in all."""
    download_bytes_a_day: int = 100 << 30
    """Bytes of models, SAEs, datasets and descriptions fetched in a day; of administrators too."""


@dataclass(frozen=True)
class ServerKey:
    """Who may spend the server's own key for chat and embedding models (`[server_key]`)."""

    roles: tuple[str, ...] = ()
    """`runner` and `admin`, or one of them; nobody by default."""
    dollars_a_day: float = 0.0
    """US dollars a person and a day (UTC)."""
    tokens_a_day: int = 0
    """Tokens sent and received, a person and a day."""
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Models that may be asked, each with the dollars for a million tokens sent and received."""


@dataclass(frozen=True)
class Policy:
    """Everything of the file."""

    identity: Identity = Identity()
    """How people are known."""
    access: Access = Access()
    """Who has which role."""
    quotas: Quotas = Quotas()
    """Most that a person may use."""
    server_key: ServerKey = ServerKey()
    """Who may spend the server's key."""
    drain_seconds: float = 30.0
    """How long a server that is stopped waits for running computations (`[server]`)."""
    names: tuple[str, ...] = ("localhost", "127.0.0.1")
    """Names under which browsers call the server, `*.example.org` for all below (`[server]`)."""
    services: tuple[str, ...] | None = None
    """Hosts of chat and embedding services that may be asked, internal ones too; None for every
    public one (`[server]`)."""
    agents: bool = False
    """Whether programs may use the pages too, as the person whom the proxy names (`[server]`)."""

    @property
    def hosted(self) -> bool:
        """Whether people are told apart at all."""
        return self.identity.source != "local"

    @property
    def reach(self) -> Reach:
        """Which addresses that people type are asked."""
        return replace(PUBLIC, hosts=self.services) if self.hosted else ANYWHERE

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "Policy":
        """The policy that `SAE_EXPLORER_HOSTING` names; the local one where it is unset."""
        name = environment.get("SAE_EXPLORER_HOSTING", "").strip()
        return cls.from_file(Path(name).expanduser()) if name else cls()

    @classmethod
    def from_file(cls, file: Path) -> "Policy":
        """Read a policy. Raises ValueError: one sentence with the file, the key and the remedy."""
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(
                f"The policy {file} (SAE_EXPLORER_HOSTING) cannot be read "
                f"({type(error).__name__}); give a readable UTF-8 file, or unset the variable."
            ) from error
        try:
            content = tomllib.loads(text)
        except (tomllib.TOMLDecodeError, RecursionError) as error:
            raise ValueError(f"The policy {file} is not TOML: {error}; mend that line.") from error
        return _policy(Table(str(file), "", content))

    def role_of(self, email: str, groups: Sequence[str]) -> Role:
        """The highest role that a line of the list gives; else what `public` says."""
        access = self.access
        listed = (
            (Role.ADMIN, access.admins),
            (Role.RUNNER, access.runners),
            (Role.READER, access.readers),
        )
        for role, rules in listed:
            if any(matches(rule, email, groups) for rule in rules):
                return role
        return Role.VISITOR if access.public else Role.NOBODY

    def person(self, email: str, groups: Sequence[str], *, session: str) -> Person:
        """Who that is. `email` is "" for somebody who is not logged in."""
        if not self.hosted:
            return LOCAL
        if not email:
            return visitor(session, self.role_of("", ()))
        return Person(email, self.role_of(email, groups), account=email)


def _policy(table: Table) -> Policy:
    table.only("identity", "access", "quotas", "server_key", "server")
    identity, access = table.part("identity"), table.part("access")
    quotas, key = table.part("quotas"), table.part("server_key")
    server = table.part("server")
    for part, kind in ((identity, Identity), (access, Access), (quotas, Quotas), (key, ServerKey)):
        part.only(*(it.name for it in fields(kind)))
    server.only("drain_seconds", "names", "services", "agents")
    found = Policy(
        identity=_identity(identity),
        access=Access(
            **{name: access.texts(name, _rule) for name in ("admins", "runners", "readers")},
            public=access.flag("public", default=False),
        ),
        quotas=Quotas(
            **{
                it.name: quotas.number(
                    it.name, default=getattr(Quotas, it.name), whole=it.type is int, positive=True
                )
                for it in fields(Quotas)
            }
        ),
        server_key=_server_key(key),
        drain_seconds=server.number("drain_seconds", default=Policy.drain_seconds),
        names=server.texts("names", _host, default=Policy.names),
        services=server.texts("services", _host) if "services" in server.content else None,
        agents=server.flag("agents", default=False),
    )
    if found.agents and found.identity.source != "proxy":
        raise server.wrong(
            "agents",
            f"is true with {found.identity.source}, where nobody knows who sent a program",
            'use source = "proxy" and a proxy that knows programs by a token, or write false',
        )
    if not found.access.admins:
        raise access.wrong("admins", "is empty", "name at least one administrator's address")
    return found


def _identity(table: Table) -> Identity:
    source = table.text("source", default="")
    if source not in SOURCES:
        raise table.wrong("source", f"is {source!r}", "use oidc or proxy")
    found = Identity(
        source=source,
        provider=table.text("provider", default=""),
        groups_claim=table.text("groups_claim", default=Identity.groups_claim),
        user_header=table.text("user_header", Identity.user_header, check=plain_name),
        groups_header=table.text("groups_header", Identity.groups_header, check=plain_name),
        proxies=table.texts("proxies", _address, default=Identity.proxies),
    )
    if source == "proxy" and not found.proxies:
        raise table.wrong("proxies", "is empty", "name the addresses that your proxy calls from")
    return found


def _server_key(table: Table) -> ServerKey:
    prices: dict[str, tuple[float, float]] = {}
    models = table.part("prices")
    for name in models.content:
        pair = models.numbers(name, length=2)
        prices[name] = (pair[0], pair[1])
    found = ServerKey(
        roles=table.texts("roles", _role),
        dollars_a_day=table.number("dollars_a_day", default=0.0),
        tokens_a_day=table.number("tokens_a_day", default=0, whole=True),
        prices=prices,
    )
    if found.roles and not found.prices:
        raise table.wrong("prices", "is empty", "give each model that may be asked its two prices")
    if found.roles and not (found.dollars_a_day and found.tokens_a_day):
        raise table.wrong("dollars_a_day", "or tokens_a_day is 0", "give both, or no roles")
    return found


def _role(text: str) -> str:
    return "" if text in ("runner", "admin") else "use runner or admin"


def _rule(text: str) -> str:
    named = text.startswith("group:") and text.removeprefix("group:").strip()
    domain = text.startswith("@") and email_of(f"a{text}")
    if named or domain or email_of(text):
        return ""
    return "use an e-mail address, @domain or group:name"


def _host(text: str) -> str:
    name = text.removeprefix("*.")
    plain = re.fullmatch(r"[A-Za-z0-9._-]{1,253}|\[?[0-9A-Fa-f:]{2,45}\]?", name)
    return "" if plain else "use a name such as explorer.example.org, without https:// or a port"


def _address(text: str) -> str:
    import ipaddress

    try:
        ipaddress.ip_network(text)
    except ValueError:
        return "use an IP address such as 127.0.0.1, or a network such as 10.0.0.0/24"
    return ""
