"""The store gives back what was put in, computes once, and evicts only what can be recomputed."""

import errno
import os
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.store import ARRAYS, BYTES, FRAME, JSON, Key, Store, StoreError
from core.store.connections import MOST
from core.store.disk import SafeCache, SafeDisk
from core.store.leftovers import sweep, use
from core.store.process_lock import file_lock
from core.store.unkept import Unkept
from tests.waiting import wait_until

REPOSITORY = Path(__file__).resolve().parent.parent
MIB = 1 << 20
PATIENCE = 60.0


def key(**parameters):
    return Key("test", version=1, parameters=parameters)


def run_python(script: str, *arguments: object) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )


def test_keys_are_canonical_and_separate():
    assert key(a=1, b=[1, 2]).digest == key(b=(1, 2), a=1).digest
    assert hash(key(a=1)) == hash(key(a=1))
    different = [
        key(a=1),
        key(a=1.0),
        key(a=True),
        key(a="1"),
        key(a=None),
        Key("test", version=2, parameters={"a": 1}),
        Key("other", version=1, parameters={"a": 1}),
    ]
    assert len({each.digest for each in different}) == len(different)


def test_a_key_does_not_follow_the_dict_it_came_from():
    layers = [1]
    made = key(layers=layers)
    layers.append(2)
    assert made == key(layers=[1])


@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (np.float32(1), "float32"),
        (np.arange(2), "ndarray"),
        ({1: "a"}, "key 1"),
        ({"x"}, "set"),
        (b"x", "bytes"),
        ("\ud83d", "Unicode"),
        ({"deep": [0, object()]}, r"\['deep'\]\[1\]"),
    ],
)
def test_keys_refuse_what_is_not_json(value, complaint):
    with pytest.raises(ValueError, match=complaint):
        key(a=value)


@pytest.mark.parametrize(
    "bad", [{"kind": "Upper"}, {"kind": ""}, {"version": 0}, {"version": True}]
)
def test_keys_refuse_odd_kinds_and_versions(bad):
    with pytest.raises(ValueError, match=repr(next(iter(bad.values())))):
        Key(**{"kind": "test", "version": 1, "parameters": {}, **bad})


@pytest.mark.parametrize("paid", [False, True])
@pytest.mark.parametrize("size", [0, 1, 100, (1 << 15) - 200, 1 << 15, 3 * MIB])
def test_bytes_come_back_and_survive_reopening(tmp_path, size, paid):
    value = np.random.default_rng(size).bytes(size)
    store = Store(tmp_path)
    assert store.get(key(size=size), BYTES, paid=paid) is None
    store.put(key(size=size), value, BYTES, paid=paid)
    assert store.get(key(size=size), BYTES, paid=paid) == value
    assert store.get(key(size=size), BYTES, paid=not paid) is None
    store.close()
    assert Store(tmp_path).get(key(size=size), BYTES, paid=paid) == value


def test_json_arrays_and_frames_come_back(tmp_path):
    store = Store(tmp_path)
    record = {"text": "naïve 😀", "list": [1, 2.5, None, True], "empty": {}}
    store.put(key(), record, JSON)
    arrays = {
        "file": np.arange(6, dtype=np.float16).reshape(2, 3),
        "names": np.array(["a", "bc"]),
        "scalar": np.array(3),
        "empty": np.zeros((0, 4), dtype=np.int8),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
    }
    store.put(key(), arrays, ARRAYS)
    frame = pd.DataFrame({"token": ["a", None], "value": [1.5, float("nan")], "n": [1, 2]})
    store.put(key(), frame, FRAME)

    assert store.get(key(), JSON) == record
    assert list(store.get(key(), JSON)) == list(record), "a dict keeps its order"
    back = store.get(key(), ARRAYS)
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)
        assert back[name].dtype == array.dtype
    pd.testing.assert_frame_equal(store.get(key(), FRAME), frame)


@pytest.mark.parametrize(
    ("value", "codec", "complaint"),
    [
        ("text", BYTES, "str"),
        ({"a": float("nan")}, JSON, "nan"),
        ({"a": np.array([object()])}, ARRAYS, "object"),
        ({"a": np.zeros(1, dtype=[("x", "f4")])}, ARRAYS, "dtype"),
        ({"a": [1]}, ARRAYS, "list"),
        ({"": np.zeros(1)}, ARRAYS, "name"),
        (pd.DataFrame({1: [1]}), FRAME, "1"),
        (pd.DataFrame({"a": [object()]}), FRAME, "Parquet"),
        ([1], FRAME, "list"),
    ],
)
def test_what_cannot_be_stored_is_refused(tmp_path, value, codec, complaint):
    store = Store(tmp_path)
    with pytest.raises(ValueError, match=complaint):
        store.put(key(), value, codec)
    assert store.usage().recomputable.entries == 0


def test_a_value_is_computed_once_and_none_is_a_value(tmp_path):
    store = Store(tmp_path)
    calls = []
    for _ in range(2):
        assert store.get_or_compute(key(), lambda: calls.append(1), JSON) is None
        assert store.get_or_compute(key(t=1), lambda: (calls.append(1), 2)[1:], JSON) == [2]
    assert len(calls) == 2


def test_an_error_is_raised_and_not_stored(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(ZeroDivisionError):
        store.get_or_compute(key(), lambda: 1 / 0, JSON)
    assert store.get_or_compute(key(), lambda: 5, JSON) == 5


def test_asking_for_itself_is_refused_and_nesting_others_is_not(tmp_path):
    store = Store(tmp_path)
    nested = store.get_or_compute(
        key(a=1), lambda: store.get_or_compute(key(a=2), lambda: 7, JSON), JSON
    )
    assert nested == 7
    with pytest.raises(RuntimeError, match="its own result"):
        store.get_or_compute(
            key(a=3), lambda: store.get_or_compute(key(a=3), lambda: 1, JSON), JSON
        )


def test_eight_threads_compute_once(tmp_path):
    store = Store(tmp_path)
    waiting, calls, values = set(), [], []

    def compute():
        calls.append(1)
        wait_until(lambda: len(waiting) == 7, patience=PATIENCE)
        return 42

    def ask():
        values.append(
            store.get_or_compute(
                key(), compute, JSON, waiting=lambda: waiting.add(threading.get_ident())
            )
        )

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert len(calls) == 1
    assert values == [42] * 8


def test_a_lock_whose_file_is_removed_on_release_still_excludes(tmp_path, monkeypatch):
    monkeypatch.setattr("core.store.process_lock._POLL_SECONDS", 0.0)
    path, inside, overlaps = tmp_path / "lock", [], []

    def work():
        for _ in range(100):
            with file_lock(path):
                inside.append(1)
                time.sleep(0)  # invite another thread in
                overlaps.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert overlaps == [1] * 800


def test_waiting_can_be_given_up(tmp_path):
    store = Store(tmp_path)

    class GiveUp(Exception):
        pass

    def give_up():
        raise GiveUp

    def compute():
        outcome = []

        def ask():
            try:
                store.get_or_compute(key(), lambda: 2, JSON, waiting=give_up)
            except GiveUp:
                outcome.append("gave up")

        other = threading.Thread(target=ask)
        other.start()
        other.join(PATIENCE)
        return outcome

    assert store.get_or_compute(key(), compute, JSON) == ["gave up"]


COMPUTE = """
import os, sys, time
from core.store import BYTES, Key, Store
folder, finish = sys.argv[1:]
store = Store(folder + "/store")
def compute():
    with open(folder + "/calls", "a") as calls:
        calls.write(f"{os.getpid()}\\n")
    print("computing", flush=True)
    while not os.path.exists(folder + "/" + finish):
        time.sleep(0.01)
    return b"%d" % os.getpid()
print("asking", flush=True)
print(store.get_or_compute(Key("test", 1, {}), compute, BYTES).decode(), flush=True)
for module in ("torch", "pandas", "numpy", "pyarrow"):
    assert module not in sys.modules, module
"""


def test_four_processes_compute_once(tmp_path):
    processes = [run_python(COMPUTE, tmp_path, "finish") for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "asking\n"
    wait_until((tmp_path / "calls").exists, patience=PATIENCE)
    (tmp_path / "finish").touch()
    answers = [process.communicate(timeout=PATIENCE)[0].split()[-1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 4
    assert (tmp_path / "calls").read_text().split() == [answers[0]]
    assert set(answers) == {answers[0]}


def test_another_takes_over_from_a_killed_process(tmp_path):
    process = run_python(COMPUTE, tmp_path, "never")
    assert process.stdout.readline() == "asking\n"
    assert process.stdout.readline() == "computing\n"
    waited = []

    def kill_once():
        if not waited:
            process.kill()
        waited.append(1)

    store = Store(tmp_path / "store")
    value = store.get_or_compute(Key("test", 1, {}), lambda: b"ours", BYTES, waiting=kill_once)
    process.communicate()
    assert waited
    assert value == b"ours"


def test_the_least_recently_used_go_and_paid_answers_stay(tmp_path):
    store = Store(tmp_path, size_limit_bytes=2 * MIB)
    block = b"x" * (300 << 10)
    for number in range(20):
        store.put(key(n=number), block, BYTES, paid=True)
    for number in range(20):
        store.put(key(n=number), block, BYTES)
        assert store.get(key(n=0), BYTES) == block, "used at every step, so never the oldest"
    kept = [number for number in range(20) if store.get(key(n=number), BYTES) is not None]
    usage = store.usage()
    assert kept == [0, 15, 16, 17, 18, 19]
    assert usage.recomputable.bytes <= 2 * MIB == usage.recomputable.limit_bytes
    assert (usage.paid.entries, usage.paid.limit_bytes) == (20, None)
    assert usage.paid.bytes > 20 * len(block)
    assert store.clear_recomputable() == len(kept)
    assert store.usage().recomputable.entries == 0
    assert all(store.get(key(n=number), BYTES, paid=True) == block for number in range(20))


def test_small_entries_are_evicted_too(tmp_path):
    store = Store(tmp_path, size_limit_bytes=MIB)
    for number in range(150):
        store.put(key(n=number), b"y" * 10_000, BYTES)
    assert store.usage().recomputable.bytes <= MIB
    assert store.get(key(n=149), BYTES) is not None
    assert store.get(key(n=0), BYTES) is None


def test_a_result_larger_than_the_limit_is_returned_but_not_kept(tmp_path):
    store = Store(tmp_path, size_limit_bytes=MIB)
    store.put(key(n=0), b"small", BYTES)
    huge = bytes(2 * MIB)
    with pytest.raises(StoreError, match="size_limit_bytes"):
        store.put(key(n=1), huge, BYTES)
    assert store.get_or_compute(key(n=1), lambda: huge, BYTES) == huge
    assert store.get(key(n=1), BYTES) is None
    assert store.get(key(n=0), BYTES) == b"small"


@pytest.mark.parametrize("paid", [False, True])
def test_a_full_disk_costs_the_storing_not_the_result(tmp_path, monkeypatch, caplog, paid):
    def fill_up(disk, path, value):
        Path(path).write_bytes(value[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    store = Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(SafeDisk, "_write_file", fill_up)
        with pytest.raises(StoreError, match="No space left"):
            store.put(key(), bytes(100_000), BYTES, paid=paid)
        value = store.get_or_compute(key(), lambda: bytes(100_000), BYTES, paid=paid)
    assert value == bytes(100_000)
    assert "could not be kept" in caplog.text
    assert list(tmp_path.rglob("*.val")) == []
    store.put(key(), b"room again", BYTES, paid=paid)
    assert store.get(key(), BYTES, paid=paid) == b"room again"


@pytest.mark.parametrize("paid", [False, True])
def test_on_a_full_disk_old_results_make_room(tmp_path, monkeypatch, paid):
    """A disk of 300 kB more than the database: the least recently used goes, and nothing paid."""
    write = SafeDisk._write_file

    def with_little_room(disk, path, value):
        taken = sum(it.stat().st_size for it in tmp_path.rglob("*.val"))
        if taken + len(value) > 300_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        write(disk, path, value)

    monkeypatch.setattr(SafeDisk, "_write_file", with_little_room)
    store = Store(tmp_path)
    store.put(key(n="paid"), bytes(50_000), BYTES, paid=True)
    store.put(key(n="old"), bytes(100_000), BYTES)
    assert store.keep(key(n="new"), bytes(200_000), BYTES, paid=paid)
    assert store.get(key(n="new"), BYTES, paid=paid) == bytes(200_000)
    assert store.get(key(n="old"), BYTES) is None
    assert store.get(key(n="paid"), BYTES, paid=True) == bytes(50_000)
    assert store.trouble is None
    assert not store.keep(key(n="huge"), bytes(400_000), BYTES, paid=paid)
    assert "shown but could not be kept" in (store.trouble or "")
    assert "No space left" in (store.trouble or "")
    assert store.keep(key(n="small"), bytes(40_000), BYTES)
    assert store.trouble is not None, "one is still in memory alone"
    monkeypatch.setattr(SafeDisk, "_write_file", write)
    monkeypatch.setattr(store, "_retry_at", 0.0)
    assert store.keep(key(n="small"), bytes(40_000), BYTES)
    assert store.trouble is None
    assert Store(tmp_path).get(key(n="huge"), BYTES, paid=paid) == bytes(400_000)


def test_nobody_else_can_read_the_files(tmp_path):
    store = Store(tmp_path / "made")
    for paid in (False, True):
        store.put(key(), bytes(100_000), BYTES, paid=paid)
    assert stat.S_IMODE((tmp_path / "made").stat().st_mode) == 0o700
    for folder in ("results", "paid", "locks"):
        assert stat.S_IMODE((tmp_path / "made" / folder).stat().st_mode) == 0o700
    files = [path for path in (tmp_path / "made").rglob("*") if path.is_file()]
    assert any(path.suffix == ".val" for path in files)
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_lock_files_do_not_pile_up(tmp_path):
    store = Store(tmp_path)
    for number in range(5):
        store.get_or_compute(key(n=number), lambda: b"", BYTES)
    assert list((tmp_path / "locks").iterdir()) == []


def test_an_unusable_folder_is_a_clear_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"file.*SAE_EXPLORER_CACHE"):
        Store(tmp_path / "file")
    with pytest.raises(ValueError, match=r"below.*SAE_EXPLORER_CACHE"):
        Store(tmp_path / "file" / "below")
    (tmp_path / "odd" / "results" / "cache.db").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"odd.*SAE_EXPLORER_CACHE"):
        Store(tmp_path / "odd")
    with pytest.raises(ValueError, match="100"):
        Store(tmp_path / "tiny", size_limit_bytes=100)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_is_a_clear_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(ValueError, match="SAE_EXPLORER_CACHE"):
        Store(tmp_path / "closed" / "store")


def test_what_a_full_disk_refuses_is_had_from_memory(tmp_path, monkeypatch):
    def full(disk, path, value):
        raise OSError(errno.ENOSPC, "No space left on device")

    store, other = Store(tmp_path), Store(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(SafeDisk, "_write_file", full)
        assert not store.keep(key(n=1), bytes(100_000), BYTES)
        assert store.get_or_compute(key(n=2), lambda: bytes(90_000), BYTES) == bytes(90_000)
        with pytest.raises(StoreError):
            store.put(key(n=3), bytes(80_000), BYTES, paid=True)
    assert store.get(key(n=1), BYTES) == bytes(100_000)
    assert store.get_or_compute(key(n=2), lambda: b"again", BYTES) == bytes(90_000)
    assert store.get(key(n=3), BYTES, paid=True) is None, "what must be kept is not half kept"
    assert other.get(key(n=1), BYTES) is None
    assert store.keep(key(n=1), b"there is room", BYTES)
    assert store.get(key(n=1), BYTES) == other.get(key(n=1), BYTES) == b"there is room"
    store.remove(key(n=2), BYTES)
    assert store.get(key(n=2), BYTES) is None


def test_memory_for_what_the_disk_refused_is_bounded():
    held = Unkept(most_bytes=1000)
    for number in range(5):
        held.hold(str(number), bytes(300))
        assert held.get("0" if number < 3 else str(number)) == bytes(300)
    assert [number for number in range(5) if held.get(str(number))] == [0, 3, 4]
    held.hold("huge", bytes(1001))
    assert held.get("huge") is None
    assert held.get("4") == bytes(300)


def test_a_lock_that_cannot_be_made_stops_nobody(tmp_path, monkeypatch):
    store = Store(tmp_path)

    def refused(*args, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("core.store.file_lock", refused)
    assert store.get_or_compute(key(), lambda: [1], JSON) == [1]


def test_old_texts_and_passes_are_swept_and_used_ones_left(tmp_path):
    ages = {  # days since the last use, and whether it stays
        "texts/new.txt": (0, True),
        "texts/read.txt": (29, True),
        "texts/old.txt": (31, False),
        "texts/torn.part": (1, False),
        "passes/resumed.pass": (6, True),
        "passes/cancelled.pass": (8, False),
        "passes/now.12.part": (0, True),
        "results/cache.db-like": (99, True),
    }
    for name, (days, _) in ages.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(b"1234")
        moment = time.time() - days * 86_400
        os.utime(file, (moment, moment))
    assert sweep(tmp_path) == 12
    assert {name for name in ages if (tmp_path / name).exists()} == {
        name for name, (_, stays) in ages.items() if stays
    }
    use(tmp_path / "texts/read.txt")
    assert time.time() - (tmp_path / "texts/read.txt").stat().st_mtime < 86_400
    assert sweep(tmp_path, full=True) == 4
    assert not (tmp_path / "passes/resumed.pass").exists(), "nobody can be writing it"
    assert (tmp_path / "passes/now.12.part").exists()
    assert sweep(tmp_path / "nowhere") == 0


def files_in(directory):
    folder = Path("/proc/self/fd")
    names = [os.readlink(it) for it in folder.iterdir() if it.exists()]
    return [name for name in names if name.startswith(str(directory))]


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_as_many_connections_as_places_also_where_all_are_used_at_once(tmp_path):
    cache = SafeCache(str(tmp_path), timeout=60, disk=SafeDisk)
    all_at_once = threading.Barrier(MOST)

    def use_one(_):
        with cache.borrowed():
            cache.set("a", b"1")
            all_at_once.wait(PATIENCE)

    with ThreadPoolExecutor(MOST) as threads:
        list(threads.map(use_one, range(MOST)))
    with cache.borrowed():
        assert cache.get("a") == b"1", "the thread that opened it uses one of them too"
    databases = [it for it in files_in(tmp_path) if it.endswith(".db")]
    assert len(databases) == MOST
    cache.close()
    assert files_in(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_many_threads_share_few_connections(tmp_path):
    store, done, go_on = Store(tmp_path), threading.Semaphore(0), threading.Event()
    found = []

    def session(number):
        for step in range(5):
            made = key(n=number, step=step)
            found.append(store.get_or_compute(made, lambda: number, JSON, paid=step % 2) == number)
            found.append(store.get(made, JSON, paid=step % 2) == number)
        done.release()
        go_on.wait(PATIENCE)  # the thread lives on, as those of sessions do

    threads = [threading.Thread(target=session, args=(n,)) for n in range(60)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert done.acquire(timeout=PATIENCE)
    held = files_in(store.directory)
    go_on.set()
    for thread in threads:
        thread.join()
    assert len(found) == 60 * 5 * 2
    assert all(found)
    assert len(held) <= 2 * (2 * MOST + 1), held
    store.close()
    assert files_in(store.directory) == []
    assert store.get(key(n=0, step=0), JSON) == 0
