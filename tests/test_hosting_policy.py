"""The policy file: what it says is what holds, and each fault is a sentence with file and key."""

from pathlib import Path

import pytest

from core.hosting.headers import MARK, MARK_HEADER, BelievedHeaders
from core.hosting.people import LOCAL, Role, email_of_claims, groups_of
from core.hosting.policy import Identity, Policy
from core.outside_address import ANYWHERE, PUBLIC, Reach

REPOSITORY = Path(__file__).resolve().parent.parent
LEAST = '[identity]\nsource = "oidc"\n[access]\nadmins = ["ada@x.org"]\n'


def read(tmp_path: Path, text: str) -> Policy:
    file = tmp_path / "hosting.toml"
    file.write_text(text, encoding="utf-8")
    return Policy.from_file(file)


def test_without_a_policy_everybody_is_the_owner_of_the_laptop():
    policy = Policy.from_environment({})
    assert not policy.hosted
    assert policy.person("", (), session="s") == LOCAL
    assert (LOCAL.role, LOCAL.author) == (Role.ADMIN, "")


def test_the_example_of_the_documentation_is_read_and_explained():
    policy = Policy.from_environment(
        {"SAE_EXPLORER_HOSTING": str(REPOSITORY / "docs" / "hosting.toml")}
    )
    assert policy.hosted
    assert policy.access.admins == ("ada@example.org",)
    assert policy.server_key.prices["gpt-4o-mini"] == (0.15, 0.60)
    # What the file says of defaults is what they are.
    assert policy.identity == Identity(source="proxy")
    assert policy.quotas == Policy().quotas
    assert policy.drain_seconds == Policy().drain_seconds
    explained = (REPOSITORY / "docs" / "hosting.md").read_text(encoding="utf-8")
    for part in (policy.identity, policy.access, policy.quotas, policy.server_key):
        for name in vars(part):
            assert f"`{name}`" in explained, name


@pytest.mark.parametrize(
    ("email", "groups", "role"),
    [
        ("ada@x.org", (), Role.ADMIN),
        ("ann@lab.org", (), Role.RUNNER),
        ("ann@sub.lab.org", (), Role.NOBODY),
        ("ann@notlab.org", (), Role.NOBODY),
        ("lab.org", (), Role.NOBODY),
        ("kim@z.org", ("interp",), Role.RUNNER),
        ("kim@z.org", ("interp2", "Interp"), Role.NOBODY),
        ("rita@y.org", ("other",), Role.READER),
        ("", (), Role.NOBODY),
        ("", ("interp",), Role.RUNNER),
    ],
)
def test_the_list_gives_the_highest_role(tmp_path, email, groups, role):
    policy = read(
        tmp_path,
        '[identity]\nsource = "proxy"\n[access]\nadmins = ["Ada@X.org"]\n'
        'runners = ["@Lab.org", "group:interp"]\nreaders = ["rita@y.org", "ada@x.org"]\n',
    )
    assert policy.role_of(email, groups) is role


def test_whoever_has_no_address_has_no_role_but_the_public_one(tmp_path):
    text = LEAST + 'runners = ["group:interp"]\npublic = {}\n'
    for public, role in (("false", Role.NOBODY), ("true", Role.VISITOR)):
        policy = read(tmp_path, text.format(public))
        person = policy.person("", ("interp",), session="a1")
        assert (person.role, person.account, person.id) == (role, "visitors", "visitor a1")
        assert policy.person("eve@z.org", (), session="a1").role is role


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("x = [", "is not TOML"),
        ("", "identity.source is ''; use oidc or proxy"),
        ('[identity]\nsource = "oauth"', "identity.source is 'oauth'; use oidc or proxy"),
        ('identity = "oidc"', "identity is 'oidc'; write it as a table, [identity]"),
        ("[quota]\na = 1", "quota is not known; use one of identity, access, quotas"),
        (LEAST + "reader = []", "access.reader is not known; use one of admins, runners, readers"),
        ('[identity]\nsource = "oidc"', "access.admins is empty; name at least one"),
        (LEAST + 'readers = "all"', "access.readers is 'all'; write a list of texts"),
        (LEAST + 'readers = ["*"]', "access.readers holds '*'; use an e-mail address, @domain"),
        (LEAST + 'readers = ["@"]', "access.readers holds '@'; use an e-mail"),
        (LEAST + 'readers = ["group:"]', "access.readers holds 'group:'; use an e-mail"),
        (LEAST + "public = 1", "access.public is 1; use true or false"),
        (LEAST + "[quotas]\njobs_at_once = 0", "quotas.jobs_at_once is 0; use a whole number"),
        (LEAST + "[quotas]\njobs_at_once = 1.5", "quotas.jobs_at_once is 1.5; use a whole"),
        (LEAST + "[quotas]\ncompute_seconds_a_day = nan", "compute_seconds_a_day is nan; use a"),
        (LEAST + "[quotas]\ncompute_seconds_a_day = true", "is True; use a number above 0"),
        (LEAST + "[quotas]\nstore_bytes_a_day = -1", "store_bytes_a_day is -1; use a whole"),
        (LEAST + '[server_key]\nroles = ["reader"]', "server_key.roles holds 'reader'; use runner"),
        (LEAST + '[server_key]\nroles = ["admin"]', "server_key.prices is empty; give each model"),
        (
            LEAST
            + '[server_key]\nroles = ["admin"]\ndollars_a_day = 1\n[server_key.prices]\nm=[1]',
            "server_key.prices.m is [1]; write a list of 2 numbers",
        ),
        (
            LEAST + '[server_key]\nroles = ["admin"]\n[server_key.prices]\nm = [1, 2]',
            "server_key.dollars_a_day or tokens_a_day is 0; give both, or no roles",
        ),
        (LEAST + "[server]\ndrain_seconds = -1", "server.drain_seconds is -1; use a number from 0"),
        (
            '[identity]\nsource = "proxy"\nproxies = ["here"]\n[access]\nadmins = ["a@b.c"]',
            "identity.proxies holds 'here'; use an IP address",
        ),
        (
            '[identity]\nsource = "proxy"\nproxies = []\n[access]\nadmins = ["a@b.c"]',
            "identity.proxies is empty; name the addresses",
        ),
        (
            '[identity]\nsource = "proxy"\nuser_header = "A B"\n[access]\nadmins = ["a@b.c"]',
            "identity.user_header is 'A B'; use letters",
        ),
    ],
)
def test_each_fault_is_a_sentence_with_file_key_and_remedy(tmp_path, text, sentence):
    with pytest.raises(ValueError) as fault:
        read(tmp_path, text)
    assert sentence in str(fault.value)
    assert str(tmp_path / "hosting.toml") in str(fault.value)
    assert str(fault.value).endswith(".")


def test_a_file_that_is_not_there_lets_nobody_in(tmp_path):
    with pytest.raises(ValueError, match=r"cannot be read \(FileNotFoundError\)"):
        Policy.from_environment({"SAE_EXPLORER_HOSTING": str(tmp_path / "none.toml")})


@pytest.mark.parametrize(
    ("claims", "email"),
    [
        ({"is_logged_in": True, "email": "Ann@X.org "}, "ann@x.org"),
        ({"is_logged_in": True, "email": "ann@x.org", "email_verified": True}, "ann@x.org"),
        ({"is_logged_in": True, "email": "ann@x.org", "email_verified": False}, ""),
        ({"is_logged_in": True, "email": "ann@x.org", "email_verified": "false"}, ""),
        ({"is_logged_in": False, "email": "ann@x.org"}, ""),
        ({"email": "ann@x.org"}, ""),
        ({"is_logged_in": True, "email": ["ann@x.org"]}, ""),
        ({"is_logged_in": True, "email": "ann@x.org,ada@x.org"}, ""),
        ({"is_logged_in": True, "email": "ann@x.org\nada@x.org"}, ""),
        ({"is_logged_in": True}, ""),
    ],
)
def test_an_address_counts_only_where_a_login_vouches_for_it(claims, email):
    assert email_of_claims(claims) == email


def test_groups_come_as_a_list_or_with_commas():
    assert groups_of(["a", " b ", 3, ""]) == ("a", "b")
    assert groups_of("a, b,,c") == ("a", "b", "c")
    assert groups_of(None) == groups_of(7) == ()


PROXY = Identity(source="proxy", proxies=("10.0.0.0/24", "::1"))
FORGED = [(b"X-Forwarded-Email", b"ada@x.org"), (b"x-forwarded-groups", b"g")]
MARKED = (MARK_HEADER.encode(), MARK.encode())


def seen(identity: Identity, client, headers, *, path="/", kind="http"):
    """The headers that the app behind gets, or the status that it never heard of."""
    import asyncio

    got: list = []

    async def app(scope, receive, send):
        got.append(scope["headers"])

    async def send(message):
        got.append(message.get("status"))

    scope = {"type": kind, "client": client, "headers": headers, "path": path}
    asyncio.run(BelievedHeaders(app, identity)(scope, None, send))
    return got[0]


@pytest.mark.parametrize("kind", ["http", "websocket"])
@pytest.mark.parametrize(
    ("client", "believed"),
    [
        (("10.0.0.7", 1), True),
        (("::1", 1), True),
        (("::ffff:10.0.0.7", 1), True),
        (("10.0.1.7", 1), False),
        (("127.0.0.1", 1), False),
        (("", 0), False),
        (("name", 0), False),
        (None, False),
    ],
)
def test_headers_are_believed_from_the_proxy_alone(client, believed, kind):
    names = dict(seen(PROXY, client, FORGED, kind=kind))
    assert (names.get(b"x-forwarded-email") == b"ada@x.org") is believed
    assert (b"x-forwarded-groups" in names) is believed
    assert names[MARK_HEADER.encode()] == MARK.encode()


def test_a_header_that_came_twice_is_believed_in_neither_form():
    twice = [*FORGED, (b"x-forwarded-email", b"eve@x.org")]
    assert b"x-forwarded-email" not in dict(seen(PROXY, ("::1", 1), twice))


def test_with_logins_no_header_says_who_somebody_is():
    assert seen(Identity(source="oidc"), ("127.0.0.1", 1), FORGED) == [MARKED]


def test_the_mark_cannot_be_brought_along():
    given = [(MARK_HEADER.encode(), b"guess")]
    assert seen(PROXY, ("9.9.9.9", 1), given) == [MARKED]


def test_metrics_are_for_programs_of_this_machine():
    for path in ("/metrics", "/_stcore/metrics"):
        assert seen(PROXY, ("9.9.9.9", 1), [], path=path) == 404
        forwarded = [(b"X-Forwarded-For", b"1.2.3.4")]
        assert seen(PROXY, ("127.0.0.1", 1), forwarded, path=path) == 404
        assert seen(PROXY, ("127.0.0.1", 1), [], path=path) == [MARKED]


def test_names_and_services_of_the_server(tmp_path):
    plain = read(tmp_path, LEAST)
    assert plain.names == ("localhost", "127.0.0.1")
    assert plain.reach == PUBLIC
    assert Policy().reach == ANYWHERE
    more = '[server]\nnames = ["explorer.x.org", "*.lab.org", "::1"]\nservices = ["api.x.org"]\n'
    found = read(tmp_path, LEAST + more)
    assert found.names == ("explorer.x.org", "*.lab.org", "::1")
    assert found.reach == Reach(internal=False, hosts=("api.x.org",))
    assert read(tmp_path, LEAST + "[server]\nservices = []\n").reach.hosts == ()
    for value in ("https://x.org", "x.org:443", "x.org/path", "", "*"):
        with pytest.raises(ValueError, match="without https:// or a port"):
            read(tmp_path, LEAST + f'[server]\nnames = ["{value}"]\n')
