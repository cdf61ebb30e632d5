"""Programs that use the pages: who they are, what they may do, what they find in a few calls."""

import asyncio
import json
import time
from collections.abc import Iterator
from pathlib import Path

import plotly.graph_objects as go
import pytest

from core.figure_table import figure_table
from core.hosting.agents import KnownAgents, trusted_headers
from core.hosting.headers import BelievedHeaders
from core.hosting.policy import Policy
from core.latent.example_table import examples_table, tokens_table
from core.latent.examples import ExampleRow
from tests.browsing import demo_server
from tests.loopback_proxy import ADDRESS, identity_proxy
from tests.planted_latent import DECOY, LETTER, PLANTED, PROMPT, SAE_ID, write_planted
from tests.program_client import INTERACT, MCP, Client, post

POLICY = f"""[identity]
source = "proxy"
proxies = ["{ADDRESS}"]
[access]
admins = ["ada@x.org"]
runners = ["@lab.org"]
readers = ["group:readers"]
"""
SERVED = f"{POLICY}[server]\nagents = true\n"
MOST_CALLS = 20
LARGEST = 150_000
"""Characters of a page; Streamlit's own word for a heatmap was 760,000."""


def policy_of(folder: Path, text: str) -> Policy:
    file = folder / "hosting.toml"
    file.write_text(text)
    return Policy.from_file(file)


def test_no_policy_serves_programs_unless_it_says_so(tmp_path):
    assert not Policy().agents
    off, on = policy_of(tmp_path, POLICY), policy_of(tmp_path, SERVED)
    assert (off.agents, on.agents) == (False, True)
    # What Streamlit is told: whose session it is, so that nobody else goes on with it.
    assert (trusted_headers(off), trusted_headers(on)) == ({}, {"X-Forwarded-Email": "email"})
    with pytest.raises(ValueError, match=r"server\.agents is true with oidc, where nobody knows"):
        policy_of(tmp_path, SERVED.replace('"proxy"', '"oidc"'))
    with pytest.raises(ValueError, match=r'server\.agents is "?.*; use true or false'):
        policy_of(tmp_path, SERVED.replace("agents = true", 'agents = "yes"'))


ANN, EVE = (b"x-forwarded-email", b"ann@lab.org"), (b"X-Forwarded-Email", b"eve@z.org")
RITA, READERS = (b"x-forwarded-email", b"rita@y.org"), (b"x-forwarded-groups", b"a, readers")


@pytest.mark.parametrize(
    ("path", "client", "headers", "status"),
    [
        (INTERACT, ADDRESS, [], 401),
        (MCP, ADDRESS, [], 401),
        ("/below" + MCP, ADDRESS, [], 401),
        (MCP, ADDRESS, [ANN], 200),
        (MCP, ADDRESS, [RITA, READERS], 200),
        (MCP, ADDRESS, [RITA], 403),
        (INTERACT, ADDRESS, [EVE], 403),
        (INTERACT, ADDRESS, [ANN, ANN], 401),
        (INTERACT, "127.0.0.1", [ANN], 401),
        ("/_stcore/agent/openapi.json", ADDRESS, [], 200),
        ("/latent", ADDRESS, [], 200),
    ],
)
def test_programs_of_nobody_get_no_session(tmp_path, path, client, headers, status):
    policy = policy_of(tmp_path, SERVED)
    assert asked(policy, path, client, headers)[0] == status
    # Anybody may look at a public server, and programs need a name there too.
    public = policy_of(tmp_path, SERVED.replace("[server]", "public = true\n[server]"))
    assert asked(public, path, client, headers)[0] == (200 if status == 403 else status)
    # Where they are not served, Streamlit itself says so.
    assert asked(policy_of(tmp_path, POLICY), path, client, headers)[0] == 200


def test_a_refusal_is_a_sentence_in_the_form_that_the_program_reads(tmp_path):
    policy = policy_of(tmp_path, SERVED)
    plain = json.loads(asked(policy, INTERACT, ADDRESS, [])[1])
    wrapped = json.loads(asked(policy, MCP, ADDRESS, [EVE])[1])
    assert plain["error"]["code"] == "not_allowed"
    assert "does not know who sent this program" in plain["error"]["message"]
    assert wrapped["jsonrpc"] == "2.0"
    assert "eve@z.org is not on the list of this server" in wrapped["error"]["message"]


def asked(policy: Policy, path: str, client: str, headers: list) -> tuple[int, bytes]:
    """Status and body of an answer; 200 of the application behind."""
    sent: list[dict] = []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "path": path, "client": (client, 1), "headers": headers}
    door = BelievedHeaders(KnownAgents(app, policy), policy.identity)
    asyncio.run(door(scope, None, send))
    return sent[0]["status"], sent[1]["body"]


def test_rows_of_tokens_are_tables():
    row = ExampleRow(
        [" a", "z", "\n"], [0.0, 2.5, float("nan")], peak=1, value="2.5", starts_inside=True
    )
    assert tokens_table(row) == [
        {"token": "␣a", "activation": 0.0},
        {"token": "z", "activation": 2.5},
        {"token": "↵", "activation": None},
    ]
    (line,) = examples_table([row])
    assert (line["activation"], line["at token"], line["text"]) == (2.5, "z", "… az\n")
    assert line["active tokens"] == "z 2.500"


def test_a_large_figure_is_a_table_of_its_values():
    heat = go.Heatmap(x=["a", "b"], y=["p", "q"], z=[[0.5, None], [-2.0, 1.0]])
    table = figure_table(go.Figure(heat))
    assert table[["x", "y", "value"]].to_numpy().tolist() == [
        ["a", "q", -2.0],
        ["b", "q", 1.0],
        ["a", "p", 0.5],
    ]
    points = go.Scattergl(x=[1, 2], y=[3, 4], name="<b>wide</b>", hovertext=["one<br>1", "two"])
    table = figure_table(go.Figure([points, go.Scatter()]))
    assert table.to_dict("list") == {
        "series": ["wide"] * 2,
        "x": [1, 2],
        "y": [3, 4],
        "text": ["one 1", "two"],
    }
    assert figure_table(go.Figure()).empty


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server for several people that serves programs."""
    folder = tmp_path_factory.mktemp("server")
    (folder / "hosting.toml").write_text(SERVED)
    policy = str(folder / "hosting.toml")
    demo = write_planted(folder / "demo")
    module = "tests.serve_hosted"
    with demo_server(demo, folder, module=module, SAE_EXPLORER_HOSTING=policy) as address:
        yield address


@pytest.mark.slow
def test_a_program_finds_a_planted_latent(server):
    with identity_proxy(server, {"X-Forwarded-Email": "ann@lab.org"}) as address:
        client = Client(address)
        assert set(client.tools) == {"interact", "get_data"}
        client.go("latent", sae=SAE_ID, tokens="3000")
        assert "ann@lab.org, a runner of this server" in client.words()
        client.set("Part of the page", "Prompt")
        client.set("Text", PROMPT)
        lines = client.table("latent", "activation", "token")
        found = None
        for line in sorted(lines, key=lambda it: -it["activation"]):
            client.set("Latent (0 to 63)", line["latent"])
            if found is None:
                client.set("Part of the page", "Dashboard")
            while client.is_busy() and client.n_calls < MOST_CALLS:  # the text is being read
                time.sleep(2)
                client.look()
            examples = client.table("at token", "active tokens")
            found = line["latent"]
            if all(it["at token"] == LETTER for it in examples):
                break
        assert lines[0]["latent"] == DECOY, "what is strongest is not yet what was looked for"
        assert found == PLANTED
        assert client.n_calls <= MOST_CALLS


@pytest.mark.slow
def test_a_program_reads_labels_and_tables(server):
    with identity_proxy(server, {"X-Forwarded-Email": "ann@lab.org"}) as address:
        client = Client(address)
        for page in ("", "gradients", "autointerp"):
            client.go(page, sae=SAE_ID, tokens="3000")
            assert client.page["status"] == "ready", page
            for it in client.page["actions"]:
                assert it.get("label"), (page, it)
            bodies = [it["props"]["body"] for it in client.nodes("html")]
            assert not any("<table" in body or "lx-row" in body for body in bodies), page
            assert not any(it.get("support") == "browser_required" for it in client.nodes()), page
            if page == "gradients":  # a heatmap of thousands of values, the largest first
                values = [abs(it["value"]) for it in client.table("x", "y", "value")]
                assert len(values) == 100
                assert values == sorted(values, reverse=True)
            assert len(client.words()) < LARGEST, page


@pytest.mark.slow
def test_programs_are_who_the_proxy_says_and_may_what_they_may(server):
    status, answer = post(server + INTERACT, {}, {"X-Forwarded-Email": "ada@x.org"})
    assert status == 401, "past the proxy"
    assert "does not know who sent this program" in answer["error"]["message"]
    with identity_proxy(server, {"X-Forwarded-Email": "eve@z.org"}) as address:
        assert post(address + INTERACT, {})[0] == 403
    with identity_proxy(server, {"X-Forwarded-Email": "ann@lab.org"}) as address:
        hers = Client(address)
        hers.go("")
        elsewhere = {"Origin": "http://z.org"}  # a web page of somebody else
        assert post(address + INTERACT, {}, elsewhere)[0] == 403
    rita = {"X-Forwarded-Email": "rita@y.org", "X-Forwarded-Groups": "readers"}
    with identity_proxy(server, rita) as address:
        status, answer = post(address + INTERACT, {"session_id": hers.page["session_id"]})
        assert (status, answer["error"]["code"]) == (404, "unknown_session")
        reader = Client(address)
        reader.go("latent", tab="lens", sae="blocks.2.hook_resid_pre")
        assert "This has not been computed on this server yet" in reader.words()
        reader.go("admin")
        assert "Only administrators of this server may see who uses" in reader.words()
