"""A hosted server in a browser: people with roles, behind a proxy and by logging in."""

import json
import os
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from core.asking import Asking, asking
from core.jobs import JobManager, Progress
from core.jobs.under_way import UnderWay
from core.store import BYTES, Key, Store
from tests.browsing import MARKS, PATIENCE_MS, demo_server, free_port, settled
from tests.demo_bundle import write_demo
from tests.loopback_proxy import ADDRESS, identity_proxy
from tests.program_client import INTERACT, MCP, post

pytest_plugins = ["tests.browser_fixtures"]
pytestmark = [*MARKS, pytest.mark.slow]
PROXY = f'source = "proxy"\nproxies = ["{ADDRESS}"]'
LIST = """[access]
admins = ["ada@x.org"]
runners = ["@lab.org"]
readers = ["group:readers"]
"""


def write_policy(folder: Path, identity: str, more: str = "") -> str:
    file = folder / "hosting.toml"
    file.write_text(f"[identity]\n{identity}\n{LIST}{more}", encoding="utf-8")
    return str(file)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_demo(tmp_path_factory.mktemp("demo"))


@pytest.fixture(scope="module")
def server(demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    folder = tmp_path_factory.mktemp("server")
    policy = write_policy(folder, PROXY)
    options = {"SAE_EXPLORER_HOSTING": policy, "STREAMLIT_SERVER_ENABLE_AGENT_API": "true"}
    with demo_server(demo, folder, module="tests.serve_hosted", **options) as address:
        yield address, folder


@contextmanager
def seen_by(page, server: str, email: str, path: str = "/", groups: str = "") -> Iterator[None]:
    """The page as somebody sees it whom the proxy names."""
    headers = {"X-Forwarded-Email": email, "X-Forwarded-Groups": groups}
    page.set_default_timeout(PATIENCE_MS)
    with identity_proxy(server, headers) as address:
        page.goto(address + path)
        page.get_by_role("heading", level=1).wait_for()
        settled(page)
        yield


def says(page, text: str) -> None:
    page.get_by_text(text).first.wait_for()


def test_who_is_not_on_the_list_sees_nothing(page, server):
    with seen_by(page, server[0], "eve@z.org", "/latent"):
        says(page, "eve@z.org is not on the list of this server")
        assert page.get_by_text("Logit lens").count() == 0
        assert page.get_by_text("docs-small").count() == 0


def test_who_comes_past_the_proxy_is_nobody_whatever_they_send(page, server):
    page.set_extra_http_headers({"X-Forwarded-Email": "ada@x.org"})
    page.goto(server[0])
    says(page, "This explorer is for people on its list")


def test_a_reader_has_texts_read_and_starts_nothing(page, server):
    with seen_by(page, server[0], "rita@y.org", "/latent?tab=prompt", groups="a, readers"):
        says(page, "rita@y.org, a reader of this server")
        page.get_by_label("Text", exact=True).wait_for()
        page.get_by_role("radio", name="Lists").click()
        settled(page)
        page.get_by_role("button", name="Add to a list").click()
        page.get_by_role("button", name="Add", exact=True).click()
        says(page, "Only runners of this server may write notes, lists and descriptions")
    with seen_by(page, server[0], "rita@y.org", "/latent?tab=lens", groups="readers"):
        says(page, "This has not been computed on this server yet")


def test_a_runner_computes_writes_and_is_named(page, server):
    with seen_by(page, server[0], "ann@lab.org", "/latent?tab=lists"):
        says(page, "ann@lab.org, a runner of this server")
        settled(page)
        page.get_by_role("button", name="Add to a list").click()
        page.get_by_role("button", name="Add", exact=True).click()
        says(page, "is on the list, which holds 1 now")
    with seen_by(page, server[0], "bob@lab.org", "/latent?tab=lists"):
        settled(page)
        page.get_by_role("button", name="Remove this list").click()
        page.get_by_role("button", name="Remove", exact=True).click()
        says(page, "Only administrators of this server may change or remove what others wrote")
    with seen_by(page, server[0], "ann@lab.org", "/latent?tab=lists"):
        settled(page)
        page.get_by_role("button", name="Remove this list").click()
        page.get_by_role("button", name="Remove", exact=True).click()
        says(page, "There are no lists yet")
        page.get_by_role("button", name="Undo").click()
        says(page, "is as it was")
    with seen_by(page, server[0], "ann@lab.org", "/admin"):
        says(page, "Only administrators of this server may see who uses this server")


def test_an_administrator_sees_who_and_drains(page, server):
    with seen_by(page, server[0], "ada@x.org", "/admin"):
        says(page, "Used today (UTC)")
        page.get_by_role("button", name="Drain").click()
        says(page, "Nothing new is started from now on")
    with seen_by(page, server[0], "ann@lab.org"):
        says(page, "This server is about to be restarted")
    with urllib.request.urlopen(f"{server[0]}/healthz", timeout=30) as answer:
        assert json.load(answer)["status"] == "draining"
    with seen_by(page, server[0], "ada@x.org", "/admin"):
        page.get_by_role("button", name="Take jobs again").click()
        says(page, "New jobs are taken again")
    lines = (server[1] / "cache" / "audit.jsonl").read_text().splitlines()
    told = [json.loads(line) for line in lines]
    assert [(it["who"], it["action"]) for it in told] == [
        ("ada@x.org", "drain"),
        ("ada@x.org", "take jobs again"),
    ]


def test_metrics_are_there_for_this_machine_and_for_nobody_behind_the_proxy(server):
    with urllib.request.urlopen(f"{server[0]}/metrics", timeout=30) as answer:
        text = answer.read().decode()
    assert 'sae_explorer_draining{pool="compute"} 0' in text
    assert "\nactive_sessions " in text
    samples = [line for line in text.splitlines() if not line.startswith("#")]
    assert len(samples) == len(set(samples)), "each figure once"
    assert text.endswith("\n")
    assert "# EOF" not in text, "nothing of OpenMetrics' in Prometheus' format"
    assert "@" not in text
    with identity_proxy(server[0], {"X-Forwarded-Email": "ada@x.org"}) as address:
        for path in ("/metrics", "/_stcore/metrics"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(address + path, timeout=30)


def test_programs_use_the_pages_only_where_the_policy_says_so(server):
    headers = {"X-Forwarded-Email": "ada@x.org"}
    with identity_proxy(server[0], headers) as address:  # whatever options and variables say
        for path, status in ((INTERACT, 403), (MCP, 400)):
            told, answer = post(address + path, {})
            assert told == status
            assert "does not serve the agent API" in answer["error"]["message"]


def test_people_log_in_with_a_provider(page, demo, tmp_path):
    pytest.importorskip("authlib", reason="Authlib is not installed: requirements-hosted.txt")
    from tests.loopback_oidc import CLIENT, SECRET, oidc_provider

    port = free_port()
    with oidc_provider() as provider:
        secrets = tmp_path / "secrets.toml"
        secrets.write_text(
            f'[auth]\nredirect_uri = "http://127.0.0.1:{port}/oauth2callback"\n'
            f'cookie_secret = "{"0123456789abcdef" * 4}"\nclient_id = "{CLIENT}"\n'
            f'client_secret = "{SECRET}"\n'
            f'server_metadata_url = "{provider.url}/.well-known/openid-configuration"\n'
        )
        policy = write_policy(tmp_path, 'source = "oidc"')
        options = {"SAE_EXPLORER_HOSTING": policy, "STREAMLIT_SECRETS_FILES": str(secrets)}
        with demo_server(
            demo, tmp_path, module="tests.serve_hosted", port=port, **options
        ) as address:
            for email, verified, shown in (
                ("ada@x.org", True, "ada@x.org, an administrator of this server"),
                ("ann@lab.org", True, "ann@lab.org, a runner of this server"),
                ("ada@x.org", False, "This explorer is for people on its list"),
                ("eve@z.org", True, "eve@z.org is not on the list of this server"),
            ):
                provider.claims = {"sub": email, "email": email, "email_verified": verified}
                page.set_default_timeout(PATIENCE_MS)
                page.context.clear_cookies()
                # With logins, no header says who somebody is.
                page.set_extra_http_headers({"X-Forwarded-Email": "ada@x.org"})
                page.goto(address)
                page.get_by_role("button", name="Log in").click()
                while not any(it["name"] == "_streamlit_user" for it in page.context.cookies()):
                    page.wait_for_timeout(200)
                page.wait_for_load_state()
                page.wait_for_timeout(1000)
                page.goto(address)
                says(page, shown)


def test_what_a_restart_cut_off_is_offered_and_results_are_given_back(page, server):
    store, jobs = Store(server[1] / "cache"), JobManager()
    ended = UnderWay(store, jobs)  # of another server on the same store

    def goes_on(progress: Progress) -> None:
        while True:
            progress.check()

    jobs.submit("map:a", "A map", goes_on, owner="ann@lab.org", link="/feature-splitting")
    ended.freeze()
    jobs.shutdown(timeout=60)
    ended.close()
    with asking(Asking(account="ann@lab.org")):
        store.put(Key("layout", 1, {}), bytes(50_000), BYTES)
    store.close()
    with seen_by(page, server[0], "bob@lab.org"):
        says(page, "Running tasks")
        assert page.get_by_text("Interrupted by a restart").count() == 0
    with seen_by(page, server[0], "ada@x.org"):
        says(page, "A map (ann@lab.org)")
    with seen_by(page, server[0], "ann@lab.org"):
        says(page, "Interrupted by a restart")
        # Going on makes a map, which would add to these.
        page.get_by_text("Your share of this server").click()
        says(page, "Your results take 50 kB of the store, and may take 4.3 GB.")
        remove = page.get_by_role("button", name="Remove layout")
        remove.click()
        remove.wait_for(state="detached")  # what is said of it goes with the next run of the page
        page.get_by_role("button", name="Open and go on").click()
        page.wait_for_url("**/feature-splitting**")
        page.get_by_role("heading", name="Feature splitting").wait_for()
        page.get_by_role("link", name="Home", exact=True).first.click()
        page.wait_for_url(lambda address: "/feature-splitting" not in address)
        says(page, "Interrupted by a restart")
        page.get_by_role("button", name="Dismiss").click()
        page.get_by_text("Interrupted by a restart").wait_for(state="detached")


def test_a_server_that_is_stopped_ends_without_a_fault(demo, tmp_path):
    policy = write_policy(tmp_path, PROXY, "[server]\ndrain_seconds = 5\n")
    module = "tests.serve_hosted"
    with (
        demo_server(demo, tmp_path, module=module, SAE_EXPLORER_HOSTING=policy) as address,
        urllib.request.urlopen(f"{address}/healthz", timeout=30) as answer,
    ):
        assert json.load(answer) == {"status": "ok", "store": "ok", "running": 0, "queued": 0}
    assert "Traceback" not in (tmp_path / "server.log").read_text()


def test_a_server_without_a_policy_says_what_it_needs(tmp_path):
    import subprocess
    import sys

    from tests.browsing import REPOSITORY

    faulty = tmp_path / "faulty.toml"
    faulty.write_text("[identity]\nsource = 'ldap'\n")
    told = (
        ("", "set SAE_EXPLORER_HOSTING"),
        (str(faulty), "use oidc or proxy"),
        # Without Authlib, and without secrets, nobody could log in.
        (write_policy(tmp_path, 'source = "oidc"'), "People cannot log in: "),
    )
    for value, sentence in told:
        done = subprocess.run(
            [sys.executable, "hosted.py"],
            cwd=REPOSITORY,
            env={
                **os.environ,
                "SAE_EXPLORER_HOSTING": value,
                "STREAMLIT_SECRETS_FILES": str(tmp_path / "secrets.toml"),
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 1
        assert sentence in done.stderr
        assert "Traceback" not in done.stderr
