"""What the server says around its pages: headers, names, requests in the log, numbers."""

import asyncio
import io
import json
import logging

import pytest
from streamlit.runtime.stats import CounterStat, GaugeStat

from core.hosting.audit import Audit
from core.hosting.desk import Desk
from core.hosting.health import metrics
from core.hosting.log_lines import Origin, coming_from, facts, log_as_json
from core.hosting.people import Person, Role
from core.hosting.policy import Access, Identity, Policy
from core.hosting.safe_answers import HEADERS, SafeAnswers
from core.hosting.spending import Ledger
from core.jobs import JobManager
from core.store import Store


def asked(names, path="/", *hosts, own_headers=()):
    """Status, headers and body of an answer to a request with these Host headers."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": list(own_headers)})
        await send({"type": "http.response.body", "body": b"a page"})

    sent = []

    async def send(message):
        sent.append(message)

    headers = [(b"Host", host.encode()) for host in hosts]
    scope = {"type": "http", "path": path, "headers": headers}
    asyncio.run(SafeAnswers(app, names)(scope, None, send))
    return sent[0]["status"], dict(sent[0]["headers"]), sent[1]["body"].decode()


NAMES = ("explorer.example.org", "*.lab.org", "127.0.0.1", "::1")


@pytest.mark.parametrize(
    "host",
    [
        *("explorer.example.org", "EXPLORER.example.org:443", "explorer.example.org."),
        *("a.lab.org", "a.b.lab.org:8501", "127.0.0.1:8501", "[::1]:8501"),
    ],
)
def test_pages_are_had_under_the_servers_names_with_all_headers(host):
    status, headers, body = asked(NAMES, "/latent", host)
    assert (status, body) == (200, "a page")
    assert {name.decode(): value.decode() for name, value in headers.items()} == HEADERS
    assert "frame-ancestors 'none'" in HEADERS["content-security-policy"]
    for outside in ("http:", "https:", "*"):
        assert outside not in HEADERS["content-security-policy"]


@pytest.mark.parametrize(
    "hosts",
    [
        *[(), ("",), ("evil.org",), ("lab.org",), ("evillab.org",), ("example.org",)],
        *[("explorer.example.org.evil.org",), ("explorer.example.org", "evil.org"), ("[::1",)],
        *[("evil.org@explorer.example.org.evil.org",), ("10.0.0.1:8501",)],
        *[("evil.org@explorer.example.org",), ("explorer.example.org/evil",)],
    ],
)
def test_other_names_are_refused_in_a_sentence(hosts):
    status, headers, body = asked(NAMES, "/", *hosts)
    assert status == 421
    assert "administrator add this one to names" in body
    assert set(HEADERS) <= {name.decode() for name in headers}


def test_programs_ask_under_any_name_and_a_star_means_all():
    assert asked(NAMES, "/healthz", "10.0.0.1")[0] == 200
    assert asked(NAMES, "/base/_stcore/health", "evil.org")[0] == 200
    assert asked(("*",), "/", "whatever.org")[0] == 200


def test_a_header_that_is_there_is_kept():
    own = [(b"X-Frame-Options", b"SAMEORIGIN")]
    headers = asked(NAMES, "/", "127.0.0.1", own_headers=own)[1]
    assert headers[b"X-Frame-Options"] == b"SAMEORIGIN"
    assert b"x-frame-options" not in headers


def lines_of(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.fixture
def stream():
    found = io.StringIO()
    handler = log_as_json(found)
    yield found
    logging.getLogger().removeHandler(handler)


SECRET = "sk-live-0123456789abcdef"
TEXT = "my grandmother's diary"


def test_the_log_names_request_and_person_and_holds_no_text_and_no_key(stream):
    log, other = logging.getLogger("core.somewhere"), logging.getLogger("library")
    with coming_from(Origin("4f3a", "ann@x.org")):
        log.warning("Reading %s took %.2f s, %d tokens, %5.1f %%", TEXT, 1.234, 7, 2.0)
        log.error("Reference %s", "0a1b2c3d")
        log.info("A job ended", extra=facts(kind="map", outcome="done", seconds=1.5))
        try:
            try:
                raise KeyError(TEXT)
            except KeyError as error:
                raise ValueError(f"{TEXT!r} with {SECRET}") from error
        except ValueError:
            log.exception("It failed for %r", SECRET)
    other.error(f"sent {SECRET}")
    other.error("sent %s and %s", SECRET, ["a list", TEXT])
    other.error(ValueError(TEXT))
    written = stream.getvalue()
    assert SECRET not in written
    assert "grandmother" not in written
    first, second, third, fourth, *rest = lines_of(stream)
    assert first["message"] == "Reading … took 1.23 s, 7 tokens,   2.0 %"
    assert (first["request"], first["who"], first["level"]) == ("4f3a", "ann@x.org", "warning")
    assert second["message"] == "Reference 0a1b2c3d"
    assert (third["kind"], third["outcome"], third["seconds"]) == ("map", "done", 1.5)
    assert fourth["error"] == "ValueError from KeyError"
    assert "test_hosting_answers.py" in fourth["where"][-1]
    assert [line["message"] for line in rest] == ["…", "sent … and …", "ValueError"]
    assert all("who" not in line for line in rest)


def test_a_job_is_logged_with_the_request_that_started_it(stream, tmp_path):
    store, jobs = Store(tmp_path), JobManager()
    policy = Policy(identity=Identity(source="proxy"), access=Access(admins=("a@x.org",)))
    desk = Desk(policy, ledger=Ledger(store), audit=Audit(None), managers=(jobs,))
    ann = Person("ann@x.org", Role.RUNNER, "ann@x.org")

    def fail(progress):
        raise ValueError(TEXT)

    with coming_from(Origin("77aa", ann.id)):
        done = desk.submit(ann, jobs, "map:1", "Map", lambda progress: 1)
        failed = desk.submit(ann, jobs, "sweep:1", "Sweep", fail)
    assert done.wait(60)
    assert failed.wait(60)
    jobs.shutdown(timeout=60)
    ended = [line for line in lines_of(stream) if line["message"] == "A job ended"]
    assert {(it["kind"], it["outcome"], it["request"], it["who"]) for it in ended} == {
        ("map", "done", "77aa", "ann@x.org"),
        ("sweep", "ValueError", "77aa", "ann@x.org"),
    }
    assert "grandmother" not in stream.getvalue()


def test_streamlits_figures_stand_in_prometheus_format(tmp_path):
    counters = [
        CounterStat("session_events", 3, {"type": "connect"}, help="Events."),
        CounterStat("session_events", 1, {"type": "disconnect"}, help="Events."),
    ]
    others = {"session_events": counters, "active_sessions": [GaugeStat("active_sessions", 2)]}
    text = metrics(Store(tmp_path), {}, (), {**others, "none": []})
    lines = text.splitlines()
    assert 'session_events_total{type="connect"} 3' in lines
    assert "active_sessions 2" in lines
    assert lines.count("# TYPE session_events_total counter") == 1
    assert lines.count("# TYPE active_sessions gauge") == 1
    assert any(line.startswith("sae_explorer_store_bytes{") for line in lines)
    assert text.endswith("\n")
