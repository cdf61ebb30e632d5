"""A disk that is full, read-only or gone: a sentence each, and the explorer goes on."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from core.hosting.audit import Audit
from core.hosting.desk import Desk
from core.hosting.health import health
from core.hosting.journal import Journal
from core.hosting.people import Person, Role
from core.hosting.policy import Access, Identity, Policy
from core.hosting.spending import Ledger
from core.jobs import JobManager, JobState
from core.jobs.under_way import UnderWay
from core.settings import REPOSITORY
from core.store import BYTES, JSON, Key, Store, StoreError
from core.store.disk import SafeDisk
from tests.test_jobs import finished

ANN = Person("ann@x.org", Role.RUNNER, "ann@x.org")
POLICY = Policy(identity=Identity(source="proxy"), access=Access(admins=("ada@x.org",)))
NOBODY = 65534


def sentence(act):
    """What somebody reads whose click does this; "" where it works."""
    try:
        act()
    except StoreError as error:  # any other error would be a fault of ours
        return str(error)
    return ""


class Explorer:
    """What a server does with its disk, each with what it says of it."""

    def __init__(self, folder):
        self.store = Store(folder)
        self.jobs = JobManager()
        self.ledger = Ledger(self.store)
        audit = Audit(self.store.directory / "audit.jsonl")
        self.desk = Desk(POLICY, ledger=self.ledger, audit=audit, managers=(self.jobs,))
        self.under_way = UnderWay(self.store, self.jobs)
        self.number = 0
        self.store.put(Key("old", 1, {}), bytes(100_000), BYTES)

    def said(self):
        self.number += 1
        key, names = Key("x", 1, {"n": self.number}), {}
        found = self.store.get_or_compute(key, lambda: bytes(100_000), BYTES)
        names["shown"] = found == bytes(100_000)
        names["old"] = self.store.get(Key("old", 1, {}), BYTES) == bytes(100_000)
        names["trouble"] = self.store.trouble or ""
        names["local job"] = finished(
            self.jobs.submit(f"map:{self.number}", "Map", lambda progress: 1)
        ).state.value
        names["list"] = sentence(lambda: self.store.put(key, [1], JSON, paid=True))
        names["undo"] = sentence(lambda: Journal(self.store, "lists").add(ANN, {"a": 1}))
        names["quota"] = sentence(lambda: self.desk.upload(ANN, 10))
        names["under way"] = sentence(lambda: self.under_way.forget("none"))
        job = self.desk.submit(ANN, self.jobs, f"map:{self.number}x", "Map", lambda progress: 1)
        names["hosted job"] = finished(job).state.value
        names["health"] = health(self.store, [self.jobs]).status
        return names


WELL = {
    "shown": True,
    "old": True,
    "trouble": "",
    "local job": "done",
    "list": "",
    "undo": "",
    "quota": "",
    "under way": "",
    "hosted job": "done",
    "health": "ok",
}


def is_told(said, name):
    assert said[name].count(". ") <= 1, said[name]
    assert said[name].endswith(".")
    assert "Traceback" not in said[name]


def test_a_full_disk(tmp_path, monkeypatch):
    explorer = Explorer(tmp_path)
    assert explorer.said() == WELL
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, "No space left on device")

        def refuse(disk, path, value):
            raise full

        patch.setattr(SafeDisk, "_write_file", refuse)
        said = explorer.said()
    assert (said["shown"], said["local job"]) == (True, "done")
    for name in ("trouble", "list", "undo", "quota"):
        assert "No space left on device" in said[name]
        is_told(said, name)
    monkeypatch.setattr(explorer.store, "_retry_at", 0.0)
    explorer.said()
    assert explorer.store.trouble is None
    assert health(explorer.store, [explorer.jobs]).status == "ok"


def test_a_vanished_folder(tmp_path):
    explorer = Explorer(tmp_path / "cache")
    assert explorer.said() == WELL
    shutil.rmtree(tmp_path / "cache")
    said = explorer.said()
    # What was there is gone, and all works as on a new one, at once.
    assert said == WELL | {"old": False}
    shutil.rmtree(tmp_path / "cache")
    assert Ledger(explorer.store).reserve("ann", {}, tokens=1.0).account == "ann"


_READ_ONLY = """
import json, os, sys
from pathlib import Path
from tests.test_disk_faults import Explorer
Explorer(Path(sys.argv[2])).said()  # all is imported now
if os.geteuid() == 0:
    os.setgid({nobody}); os.setuid({nobody})  # root may write anywhere
folder = Path(sys.argv[1])
explorer = Explorer(folder)
lines = [explorer.said()]
for mode in (0o500, 0o700):
    for path in [folder, *folder.rglob("*")]:
        path.chmod(mode if path.is_dir() else mode & 0o600)
    explorer.store.close()  # what was opened before could still be written
    lines.append(explorer.said())
print(json.dumps(lines))
"""


def test_a_folder_that_becomes_read_only(tmp_path):
    folder = tmp_path / "cache"
    folder.mkdir()
    if os.geteuid() == 0:
        for path in (folder, *folder.parents):
            if path.is_relative_to(Path(tmp_path.anchor) / "tmp"):
                path.chmod(0o755)
        os.chown(folder, NOBODY, NOBODY)
    done = subprocess.run(
        [sys.executable, "-c", _READ_ONLY.format(nobody=NOBODY), str(folder), str(tmp_path)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    before, during, after = json.loads(done.stdout.splitlines()[-1])
    assert before == WELL
    assert (during["shown"], during["local job"]) == (True, "done")
    assert during["health"] == "failing"
    for name in ("trouble", "list", "undo", "quota", "under way"):
        assert any(it in during[name] for it in ("cannot be written", "readonly", "Permission"))
        is_told(during, name)
    assert {name: after[name] for name in WELL if name != "trouble"} == {
        name: it for name, it in WELL.items() if name != "trouble"
    }


def test_a_job_whose_use_cannot_be_written_down_is_stopped_with_a_sentence(tmp_path, monkeypatch):
    explorer = Explorer(tmp_path)

    def refuse(*_, **__):
        raise StoreError("full")

    monkeypatch.setattr(explorer.store, "put", refuse)
    explorer.desk._meter._tick = 0.01

    def work(progress):
        while True:
            progress.check()

    job = finished(explorer.desk.submit(ANN, explorer.jobs, "map:a", "Map", work))
    assert job.state is JobState.FAILED
    assert "cannot write down what computations use" in job.view().error
