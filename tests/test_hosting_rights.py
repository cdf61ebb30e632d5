"""Every action of every role, at the door where it is done: allowed, or refused in a sentence."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from core.asking import NotFetched, NotStored, check_may_compute, check_may_fetch
from core.descriptions import Descriptions, save_user_descriptions
from core.descriptions.saved import (
    authors_of,
    forget_user_descriptions,
    load_user_descriptions,
    undo_descriptions,
)
from core.descriptions.table import YOURS
from core.hosting.audit import Audit
from core.hosting.desk import Desk
from core.hosting.kinds import is_short, right_to
from core.hosting.people import LOCAL, VISITORS, Person, Role
from core.hosting.policy import Access, Identity, Policy, Quotas, ServerKey
from core.hosting.rights import Action, NotAllowed, allowed, require, table
from core.hosting.spending import Ledger, QuotaSpent
from core.jobs import JobManager, JobState
from core.latent.lists import (
    Noted,
    export_list,
    last_change,
    put_on_list,
    read_list,
    remove_list,
    take_off_list,
    undo_change,
)
from core.store import JSON, Key, Store
from tests.test_jobs import PATIENCE, Gate, finished

NOBODY = Person("eve@x.org", Role.NOBODY, "eve@x.org")
VISITOR = Person("visitor a1", Role.VISITOR, VISITORS)
READER = Person("rita@x.org", Role.READER, "rita@x.org")
RUNNER = Person("ann@x.org", Role.RUNNER, "ann@x.org")
OTHER = Person("bob@x.org", Role.RUNNER, "bob@x.org")
ADMIN = Person("ada@x.org", Role.ADMIN, "ada@x.org")
PEOPLE = (NOBODY, VISITOR, READER, RUNNER, ADMIN, LOCAL)

# Written out by hand, so that the table of the code is compared with something.
MAY = {
    Action.VIEW: "visitor reader runner admin",
    Action.LOAD: "visitor reader runner admin",
    Action.CANCEL_OWN: "visitor reader runner admin",
    Action.TYPE_TEXT: "reader runner admin",
    Action.RUN: "runner admin",
    Action.UPLOAD: "runner admin",
    Action.FETCH_DESCRIPTIONS: "runner admin",
    Action.WRITE: "runner admin",
    Action.CHANGE_OWN: "runner admin",
    Action.OWN_KEY: "runner admin",
    Action.SERVER_KEY: "runner admin",
    Action.DOWNLOAD: "admin",
    Action.NAME_ENDPOINT: "admin",
    Action.NAME_DATASET: "admin",
    Action.CHANGE_OTHERS: "admin",
    Action.CANCEL_OTHERS: "admin",
    Action.SEE_PEOPLE: "admin",
    Action.ADMINISTER: "admin",
}


@dataclass
class Server:
    """A small server, with what others have left on it."""

    store: Store
    desk: Desk
    jobs: JobManager
    loads: JobManager


POLICY = Policy(
    identity=Identity(source="proxy"),
    access=Access(admins=("ada@x.org",)),
    quotas=Quotas(jobs_at_once=2, compute_seconds_a_day=100, upload_bytes_a_day=1000),
    server_key=ServerKey(("runner", "admin"), 1.0, 1000, {"m": (1.0, 1.0)}),
)


def make_server(folder: Path) -> Server:
    store = Store(folder)
    jobs, loads = JobManager(max_workers=2, quick_workers=1), JobManager(max_workers=2)
    audit = Audit(folder / "audit.jsonl")
    return Server(
        store,
        Desk(POLICY, ledger=Ledger(store), audit=audit, managers=(jobs, loads)),
        jobs,
        loads,
    )


@pytest.fixture
def server(tmp_path):
    made = make_server(tmp_path)
    yield made
    assert made.jobs.shutdown(timeout=PATIENCE)
    assert made.loads.shutdown(timeout=PATIENCE)


def noted(latent: int, note: str = "") -> Noted:
    return Noted("m", "r", "s", latent, note)


def described(latent: int, text: str) -> Descriptions:
    texts = [""] * 4
    texts[latent] = text
    return Descriptions.from_texts(texts, source=YOURS)


def computes(server: Server, person: Person, key: str, work: Callable | None = None) -> None:
    """A job of this key, whose work computes; raises what its owner would read."""

    def compute(progress):
        return server.store.get_or_compute(Key("x", 1, {"key": key}), lambda: 1, JSON)

    job = finished(server.desk.submit(person, server.jobs, key, "Title", work or compute))
    if job.state is JobState.FAILED:
        raise NotAllowed(job.view().error)
    job.result()


def fetches(server: Server, person: Person, what: str) -> None:
    computes(server, person, f"load:{what}", lambda progress: check_may_fetch(what))


def cancels(server: Server, person: Person, owner: Person) -> None:
    gate = Gate()
    job = server.jobs.submit("map:1", "Map", gate, owner=owner.id, account=owner.account)
    assert gate.started.wait(PATIENCE)
    try:
        server.desk.cancel(person, server.jobs, job.view())
        assert finished(job).state is JobState.CANCELLED
    finally:
        gate.go.set()
        finished(job)


def changes(server: Server, person: Person, owner: Person) -> None:
    """Four ways to change what `owner` wrote, each refused alone or all done."""
    put_on_list(server.store, "list", [noted(1, "mine")], by=owner)
    save_user_descriptions(server.store, "sae", described(1, "mine"), by=owner)
    tries = [
        lambda: put_on_list(server.store, "list", [noted(1, "other")], by=person),
        lambda: take_off_list(server.store, "list", [noted(1)], by=person),
        lambda: save_user_descriptions(server.store, "sae", described(1, "other"), by=person),
    ]
    put_on_list(server.store, "whole", [noted(1, "mine")], by=owner)
    tries.append(lambda: remove_list(server.store, "whole", by=person))
    refused = []
    for attempt in tries:
        try:
            attempt()
        except NotAllowed as sentence:
            refused.append(sentence)
    assert len(refused) in (0, len(tries))
    if refused:
        assert [it.note for it in read_list(server.store, "list")] == ["mine"]
        assert len(read_list(server.store, "whole")) == 1
        assert load_user_descriptions(server.store, "sae", 4).texts[1] == "mine"
        raise refused[0]


DOORS: dict[Action, Callable[[Server, Person], object]] = {
    Action.VIEW: lambda server, person: computes(server, person, "map:0", lambda progress: 1),
    Action.LOAD: lambda server, person: computes(server, person, "load:m", lambda progress: 1),
    Action.TYPE_TEXT: lambda server, person: computes(server, person, "gradients:1"),
    Action.RUN: lambda server, person: computes(server, person, "map:1"),
    Action.UPLOAD: lambda server, person: server.desk.upload(person, 10),
    Action.FETCH_DESCRIPTIONS: lambda server, person: computes(server, person, "neuronpedia:1"),
    Action.WRITE: lambda server, person: put_on_list(server.store, "n", [noted(1)], by=person),
    Action.CHANGE_OWN: lambda server, person: changes(server, person, owner=_as_runner(person)),
    Action.CANCEL_OWN: lambda server, person: cancels(server, person, owner=person),
    Action.OWN_KEY: lambda server, person: require(person, Action.OWN_KEY),
    Action.SERVER_KEY: lambda server, person: server.desk.purse(person, "m"),
    Action.DOWNLOAD: lambda server, person: fetches(server, person, "The model gpt2"),
    Action.NAME_ENDPOINT: lambda server, person: require(person, Action.NAME_ENDPOINT),
    Action.NAME_DATASET: lambda server, person: fetches(server, person, "The dataset a/b"),
    Action.CHANGE_OTHERS: lambda server, person: changes(server, person, owner=OTHER),
    Action.CANCEL_OTHERS: lambda server, person: cancels(server, person, owner=OTHER),
    Action.SEE_PEOPLE: lambda server, person: require(person, Action.SEE_PEOPLE),
    Action.ADMINISTER: lambda server, person: require(person, Action.ADMINISTER),
}


def _as_runner(person: Person) -> Person:
    """The same person when they still were a runner, and wrote something."""
    return person if person.local else Person(person.id, Role.RUNNER, person.account)


def test_the_table_is_the_one_that_was_decided():
    assert set(MAY) == set(Action) == set(table()) == set(DOORS)
    for action, roles in MAY.items():
        assert " ".join(role.name.lower() for role in table()[action]) == roles, action


@pytest.mark.parametrize("person", PEOPLE, ids=lambda it: it.role.name + "-local" * it.local)
@pytest.mark.parametrize("action", Action, ids=lambda it: it.name)
def test_every_action_of_every_role_at_its_door(server, action, person):
    may = person.role.name.lower() in MAY[action].split()
    assert allowed(person, action) is may
    if action is Action.SERVER_KEY and person.local:
        return  # on a laptop nobody asks for a purse
    if may:
        DOORS[action](server, person)
        return
    with pytest.raises((NotAllowed, NotStored, NotFetched)) as refused:
        DOORS[action](server, person)
    sentence = str(refused.value)
    assert sentence[0].isupper()
    assert sentence.endswith(".")
    assert "ask" in sentence  # whom to turn to


@pytest.mark.parametrize("person", [VISITOR, READER], ids=lambda it: it.role.name)
def test_what_was_computed_is_seen_by_those_who_may_not_compute(server, person):
    with pytest.raises(NotAllowed, match="has not been computed on this server yet"):
        computes(server, person, "map:1")
    computes(server, RUNNER, "map:1")
    server.jobs.forget("map:1")
    again = server.desk.found(person, server.jobs, "map:1")
    assert again is not None  # the earlier refusal, until it is asked for again
    server.desk.forget(person, server.jobs, again.key)
    computes(server, person, "map:1")
    assert server.jobs.get("map:1") is None


def test_a_result_in_memory_is_not_thrown_away_by_those_who_may_not_make_it(server):
    computes(server, RUNNER, "map:1")
    server.desk.forget(READER, server.jobs, "map:1")
    assert server.jobs.get("map:1").state is JobState.DONE
    server.desk.forget(OTHER, server.jobs, "map:1")
    assert server.jobs.get("map:1") is None


def test_whoever_may_not_ask_a_service_does_not_get_its_job_run(server):
    for key in ("autointerp:1", "meaning:1", "neuronpedia:1"):
        with pytest.raises(NotAllowed, match=r"Only runners of this server may .*, and you are"):
            server.desk.submit(READER, server.jobs, key, "Title", pytest.fail)


def test_unknown_kinds_of_jobs_are_long_computations():
    assert (right_to("something-new:1"), is_short("something-new:1")) == (Action.RUN, False)


def test_a_job_runs_for_those_who_joined_it(server):
    gate = Gate("result")
    job = server.desk.submit(RUNNER, server.jobs, "map:1", "Map", gate)
    assert gate.started.wait(PATIENCE)
    assert server.desk.submit(OTHER, server.jobs, "map:1", "Map", pytest.fail) is job
    assert server.desk.submit(VISITOR, server.jobs, "map:1", "Map", pytest.fail) is job
    server.desk.cancel(RUNNER, server.jobs, job.view())
    server.desk.cancel(VISITOR, server.jobs, job.view())
    assert not job.view().cancelling
    with pytest.raises(NotAllowed, match="Only administrators of this server may stop comp"):
        server.desk.cancel(RUNNER, server.jobs, job.view())
    gate.go.set()
    assert finished(job).result() == "result"


def test_shares_of_a_runner_hold_over_restarts(server, tmp_path):
    desk, gates = server.desk, [Gate() for _ in range(3)]
    for n in range(2):
        desk.submit(RUNNER, server.jobs, f"map:{n}", "Map", gates[n])
    with pytest.raises(QuotaSpent, match="You have 2 computations queued or running, and may"):
        desk.submit(RUNNER, server.jobs, "map:2", "Map", gates[2])
    computes(server, RUNNER, "gradients:1")  # somebody waits for that in front of a page
    third = desk.submit(OTHER, server.jobs, "map:2", "Map", gates[2])
    for gate in gates:
        gate.go.set()
    finished(third)
    desk.ledger.reserve(RUNNER.account, {}, compute_seconds=99.9)
    restarted = make_server(tmp_path)
    restarted.desk.ledger.reserve(RUNNER.account, {}, compute_seconds=1.0)
    with pytest.raises(QuotaSpent, match="Your share of today is 100 seconds of computations"):
        restarted.desk.submit(RUNNER, restarted.jobs, "map:9", "Map", pytest.fail)
    with pytest.raises(QuotaSpent, match="1,000 bytes of files and texts"):
        restarted.desk.upload(RUNNER, 1001)
    computes(restarted, ADMIN, "map:9")
    assert restarted.jobs.shutdown(timeout=PATIENCE)


def test_visitors_share_one_account(server):
    other = Person("visitor b2", Role.VISITOR, VISITORS)
    server.desk.ledger.reserve(VISITORS, {}, compute_seconds=200)
    for person in (VISITOR, other):
        with pytest.raises(QuotaSpent, match="Your share of today is 100 seconds"):
            server.desk.submit(person, server.jobs, "map:1", "Map", pytest.fail)


def test_a_draining_server_says_so(server):
    server.jobs.drain("this server is about to be restarted.")
    with pytest.raises(ValueError, match="Map cannot start: this server is about to be restarted"):
        server.desk.submit(RUNNER, server.jobs, "map:1", "Map", pytest.fail)


def test_on_a_laptop_nothing_is_asked_and_nothing_is_written_down(tmp_path):
    store, jobs = Store(tmp_path), JobManager()
    audit = Audit(None)
    desk = Desk(Policy(), ledger=Ledger(store), audit=audit, managers=(jobs,))
    job = finished(desk.submit(LOCAL, jobs, "map:1", "Map", lambda progress: check_may_compute()))
    assert (job.view().owners, job.view().account) == ((), "")
    desk.upload(LOCAL, 1 << 40)
    put_on_list(store, "list", [noted(1, "a")])
    remove_list(store, "list")
    save_user_descriptions(store, "sae", described(1, "a"))
    forget_user_descriptions(store, "sae")
    assert last_change(store, LOCAL) == ""
    assert Ledger(store).accounts() == []
    assert b"author" not in export_list([noted(1, "a")], "csv")
    assert not (tmp_path / "audit.jsonl").exists()


def test_notes_carry_their_author_and_come_back(server):
    store = server.store
    put_on_list(store, "list", [noted(1, "a"), noted(2, "b")], by=RUNNER)
    put_on_list(store, "list", [noted(3, "c"), noted(2, "b")], by=OTHER)
    assert [(it.latent, it.author) for it in read_list(store, "list")] == [
        (1, RUNNER.id),
        (2, RUNNER.id),
        (3, OTHER.id),
    ]
    with pytest.raises(NotAllowed, match="Only administrators of this server may change or"):
        remove_list(store, "list", by=RUNNER)
    take_off_list(store, "list", [noted(1)], by=RUNNER)
    put_on_list(store, "list", [noted(2, "changed")], by=RUNNER)
    assert last_change(store, RUNNER) == "You changed notes on “list”"
    assert undo_change(Store(server.store.directory), RUNNER) == "list"
    assert undo_change(store, RUNNER) == "list"
    assert {it.latent: it.note for it in read_list(store, "list")} == {1: "a", 2: "b", 3: "c"}
    with pytest.raises(ValueError, match="nothing of yours to undo"):
        undo_change(store, RUNNER)
    remove_list(store, "list", by=ADMIN)
    assert read_list(store, "list") == []
    undo_change(store, ADMIN)
    assert {it.latent: it.author for it in read_list(store, "list")} == {
        1: RUNNER.id,
        2: RUNNER.id,
        3: OTHER.id,
    }
    assert b"author" in export_list(read_list(store, "list"), "csv")


def test_undoing_leaves_what_others_wrote_since(server):
    store = server.store
    put_on_list(store, "list", [noted(1, "first")], by=RUNNER)
    take_off_list(store, "list", [noted(1)], by=RUNNER)
    put_on_list(store, "list", [noted(1, "theirs")], by=OTHER)
    undo_change(store, RUNNER)
    assert [(it.note, it.author) for it in read_list(store, "list")] == [("theirs", OTHER.id)]


def test_a_file_cannot_put_words_into_somebodys_mouth(server):
    forged = Noted("m", "r", "s", 1, "words", author=OTHER.id)
    put_on_list(server.store, "list", [forged], by=RUNNER)
    assert read_list(server.store, "list")[0].author == RUNNER.id


def test_descriptions_carry_their_author_and_come_back(server):
    store = server.store
    save_user_descriptions(store, "sae", described(0, "ann's"), by=RUNNER)
    save_user_descriptions(store, "sae", described(1, "bob's"), by=OTHER)
    assert authors_of(store, "sae") == {0: RUNNER.id, 1: OTHER.id}
    both = Descriptions.from_texts(["new", "new", "", ""], source=YOURS)
    with pytest.raises(NotAllowed):
        save_user_descriptions(store, "sae", both, by=RUNNER)
    assert load_user_descriptions(store, "sae", 4).texts.tolist() == ["ann's", "bob's", "", ""]
    forget_user_descriptions(store, "sae", by=RUNNER, d_sae=4)
    assert load_user_descriptions(store, "sae", 4).texts.tolist() == ["", "bob's", "", ""]
    assert undo_descriptions(store, RUNNER, "sae", 4) == 1
    assert load_user_descriptions(store, "sae", 4).texts.tolist() == ["ann's", "bob's", "", ""]
    save_user_descriptions(store, "sae", both, by=ADMIN)
    assert authors_of(store, "sae") == {0: ADMIN.id, 1: ADMIN.id}
    assert undo_descriptions(store, ADMIN, "sae", 4) == 2
    assert authors_of(store, "sae") == {0: RUNNER.id, 1: OTHER.id}


def test_what_nobody_is_known_to_have_written_is_an_administrators(server):
    save_user_descriptions(server.store, "sae", described(0, "old"))
    put_on_list(server.store, "old", [noted(1, "old")])
    with pytest.raises(NotAllowed):
        save_user_descriptions(server.store, "sae", described(0, "new"), by=RUNNER)
    with pytest.raises(NotAllowed):
        remove_list(server.store, "old", by=RUNNER)
    save_user_descriptions(server.store, "sae", described(0, "new"), by=ADMIN)
    remove_list(server.store, "old", by=ADMIN)


def test_pages_have_no_door_but_those_that_ask_who_is_there():
    """Jobs are started and stopped at the desk, and files are brought through `uploads`."""
    pages = Path(__file__).resolve().parent.parent / "pages"
    doors = {
        r"(jobs|loads)\(\)\.(submit|cancel)\(|\bjobs\.(submit|cancel)\(": "tasks.py",
        r"resources\.jobs\(\)\.get\(": "tasks.py",
        r"st\.file_uploader\(": "uploads.py",
    }
    for file in pages.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        for pattern, door in doors.items():
            assert file.name == door or not re.search(pattern, text), f"{file.name}: {pattern}"
