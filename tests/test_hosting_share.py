"""What somebody downloads and what their results take: bounded over restarts, and to be removed."""

from dataclasses import replace

import numpy as np
import pytest

from core.asking import Asking, asking, fetching
from core.engine.loaders import _fetch
from core.hosting.audit import Audit
from core.hosting.desk import Desk
from core.hosting.people import Person, Role
from core.hosting.policy import Access, Identity, Policy, Quotas
from core.hosting.rights import NotAllowed
from core.hosting.spending import Ledger, QuotaSpent
from core.hub.plan import DownloadPlan, PlannedFile
from core.jobs import JobManager, JobState
from core.store import ARRAYS, JSON, Key, Store
from tests.test_jobs import finished

ANN, BOB = (Person(f"{it}@x.org", Role.RUNNER, f"{it}@x.org") for it in ("ann", "bob"))
ADA = Person("ada@x.org", Role.ADMIN, "ada@x.org")
POLICY = Policy(
    identity=Identity(source="proxy"),
    access=Access(admins=("ada@x.org",)),
    quotas=Quotas(store_bytes=200_000, download_bytes_a_day=1000),
)


def desk_on(store):
    jobs = JobManager()
    audit = Audit(store.directory / "audit.jsonl")
    return Desk(POLICY, ledger=Ledger(store), audit=audit, managers=(jobs,)), jobs


def makes(desk, jobs, person, name, n_bytes, kind="index"):
    """A job of this person that keeps a result of so many bytes."""
    store = desk.ledger.store

    def work(progress):
        array = np.random.default_rng(0).integers(0, 255, n_bytes).astype(np.uint8)
        store.keep(Key(kind, 1, {"name": name}), {"a": array}, ARRAYS)
        store.put(Key("answer", 1, {"name": name}), "paid", JSON, paid=True)

    assert finished(desk.submit(person, jobs, f"map:{name}", "Map", work)).state is JobState.DONE


def has(store, name, kind="index"):
    return store.is_kept(Key(kind, 1, {"name": name}), ARRAYS)


def test_results_count_for_who_had_them_computed_until_they_are_removed(tmp_path):
    store = Store(tmp_path)
    desk, jobs = desk_on(store)
    makes(desk, jobs, ANN, "a", 150_000)
    makes(desk, jobs, BOB, "b", 20_000)
    makes(desk, jobs, ANN, "c", 100_000, kind="layout")
    (layout,) = [it for it in desk.results(ANN.account) if it.kind == "layout"]
    assert (layout.entries, layout.bytes) == (1, pytest.approx(100_000, rel=0.02))
    with pytest.raises(QuotaSpent, match=r"Your results take 25\d kB .* may take 200 kB; remove"):
        desk.submit(ANN, jobs, "map:d", "Map", pytest.fail)
    makes(desk, jobs, BOB, "d", 10)
    store.close()
    store = Store(tmp_path)  # a restart forgets nothing
    desk, jobs = desk_on(store)
    with pytest.raises(QuotaSpent):
        desk.submit(ANN, jobs, "map:d", "Map", pytest.fail)
    with pytest.raises(NotAllowed, match="Only administrators of this server may change or remove"):
        desk.remove_results(BOB, layout)
    assert desk.remove_results(ANN, layout) == layout.bytes
    assert not has(store, "c", "layout")
    assert has(store, "a")
    assert has(store, "b")
    makes(desk, jobs, ANN, "e", 10)
    (mine,) = desk.results(ANN.account)
    desk.remove_results(ADA, mine)
    assert [it.account for it in desk.results()] == [BOB.account]
    # What was paid for stays.
    assert store.get(Key("answer", 1, {"name": "a"}), JSON, paid=True) == "paid"
    told = (tmp_path / "audit.jsonl").read_text()
    assert told.count('"action": "remove"') == 2
    assert '"of": "ann@x.org"' in told


def test_a_name_cannot_take_what_belongs_to_another(tmp_path):
    store = Store(tmp_path)
    desk, jobs = desk_on(store)
    odd = Person("ann@x.org%", Role.RUNNER, "ann@x.org%")
    makes(desk, jobs, ANN, "a", 1000)
    makes(desk, jobs, odd, "b", 1000)
    (theirs,) = desk.results(odd.account)
    desk.remove_results(odd, theirs)
    assert has(store, "a")
    with pytest.raises(NotAllowed):
        desk.remove_results(odd, replace(theirs, account=ANN.account))


def test_a_laptop_owns_nothing_in_particular(tmp_path):
    store = Store(tmp_path)
    store.put(Key("index", 1, {"name": "a"}), {"a": np.zeros(5)}, ARRAYS)
    assert store.owned() == []


def downloads(n_bytes, came):
    def work(progress):
        with fetching(n_bytes) as told:
            for so_far in came:
                told(so_far)

    return work


def test_downloads_of_a_day_are_counted_before_they_begin_and_set_right_after(tmp_path):
    desk, jobs = desk_on(Store(tmp_path))

    def load(number, n_bytes, came):
        key = f"load:{number}"
        return finished(desk.submit(ADA, jobs, key, "Loading", downloads(n_bytes, came)))

    used = lambda: Ledger(Store(tmp_path)).used(ADA.account)["download_bytes"]  # noqa: E731
    load(1, 700, [100, 650])
    assert used() == 650
    job = load(2, 400, [])
    assert "Your share of today is 1,000 bytes of downloads, of which 650" in job.view().error
    load(3, 300, [])  # never told: all of it
    assert used() == 950
    load(4, 0, [])
    # A restart grants nothing.
    desk, jobs = desk_on(Store(tmp_path))
    assert load(5, 51, [51]).state is JobState.FAILED
    assert load(6, 50, [50]).state is JobState.DONE


def test_a_download_that_is_stopped_counts_what_came(monkeypatch):
    plan = DownloadPlan(
        name="model m",
        files=(PlannedFile("a/b", "model.safetensors", 1000),),
        disk_free=10**12,
        memory_needed=1,
        memory_free=10,
    )
    monkeypatch.setattr("core.engine.loaders.plan_download", lambda *_, **__: plan)

    def download(plan, progress):
        progress(400, 1000, "model.safetensors")
        raise OSError("cut")

    monkeypatch.setattr("core.engine.loaders.download", download)
    counted, entry = [], Access()

    def begin(n_bytes):
        counted.append(n_bytes)
        return counted.append

    with pytest.raises(OSError, match="cut"), asking(Asking(fetches=begin)):
        _fetch(entry, device="cpu", dtype="float32", progress=None)  # type: ignore[arg-type]
    assert counted == [1000, 400]
