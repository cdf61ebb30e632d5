"""Whatever happens to its files, the store gives the right value or none, and runs nothing."""

import os
import pickle
import random
import sqlite3
import threading
import time
from pathlib import Path

import diskcache
import pytest

from core.store import BYTES, JSON, Key, Store
from core.store.disk import SafeCache, SafeDisk
from core.store.frame import DamagedEntry, pack
from tests.test_store import key, run_python

pytestmark = pytest.mark.slow

BLOCK = bytes(range(256)) * 400  # above the threshold: kept in a file in either tier


@pytest.fixture(params=[False, True], ids=["results", "paid"])
def paid(request):
    return request.param


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store")


def tier_of(store, paid):
    return store._paid if paid else store._results


def sql(store, paid, statement, *values):
    connection = sqlite3.connect(tier_of(store, paid).folder / "cache.db")
    connection.text_factory = bytes
    with connection:
        rows = connection.execute(statement, values).fetchall()
    connection.close()
    return rows


def name_of(made):
    return f"{made.digest}.bytes"


def value_file(store, paid, made) -> Path:
    ((filename,),) = sql(store, paid, "SELECT filename FROM Cache WHERE key = ?", name_of(made))
    return tier_of(store, paid).folder / filename.decode()


def flip_byte(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.write_bytes(data)


FILE_DAMAGE = {
    "flipped payload": lambda path: flip_byte(path, -100),
    "flipped name": lambda path: flip_byte(path, 60),
    "flipped length": lambda path: flip_byte(path, 12),
    "flipped magic": lambda path: flip_byte(path, 0),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "lengthened": lambda path: path.write_bytes(path.read_bytes() + b"x"),
    "empty": lambda path: path.write_bytes(b""),
    "foreign": lambda path: path.write_bytes(b"hello"),
    "missing": lambda path: path.unlink(),
    "a folder": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", FILE_DAMAGE.values(), ids=FILE_DAMAGE.keys())
def test_a_damaged_value_file_is_a_miss(store, paid, damage):
    for n in range(2):
        store.put(key(n=n), BLOCK, BYTES, paid=paid)
    damage(value_file(store, paid, key(n=0)))
    assert store.get(key(n=0), BYTES, paid=paid) is None
    assert store.get(key(n=1), BYTES, paid=paid) == BLOCK
    assert tier_of(store, paid).usage().entries == 1, "the damaged entry is removed"
    store.put(key(n=0), BLOCK, BYTES, paid=paid)
    assert store.get(key(n=0), BYTES, paid=paid) == BLOCK


def test_a_damaged_paid_answer_is_kept_beside(store):
    store.put(key(), BLOCK, BYTES, paid=True)
    flip_byte(value_file(store, True, key()), -1)
    assert store.get(key(), BYTES, paid=True) is None
    (kept,) = (tier_of(store, True).folder / "damaged").iterdir()
    assert BLOCK[:-1] in kept.read_bytes()


ROW_DAMAGE = {
    "flipped": ("value = ?", pack("other", b"value")),
    "text": ("value = ?", "hello"),
    "number": ("value = ?", 7),
    "nothing": ("value = NULL", None),
    "odd mode": ("mode = 99", None),
    "text mode": ("mode = 'x'", None),
    "odd file": ("mode = 2, filename = 'ab'", None),
    "file not text": ("mode = 2, filename = CAST(x'ff00' AS TEXT)", None),
    "file a number": ("mode = 2, filename = 3", None),
    "odd times": ("access_time = 'x', store_time = 'y', size = 'z'", None),
}


@pytest.mark.parametrize("damage", ROW_DAMAGE.values(), ids=ROW_DAMAGE.keys())
def test_garbage_in_a_row_is_a_miss(store, damage):
    change, value = damage
    for n in range(2):
        store.put(key(n=n), b"small", BYTES)
    values = [value] if "?" in change else []
    sql(store, False, f"UPDATE Cache SET {change} WHERE key = ?", *values, name_of(key(n=0)))
    assert store.get(key(n=0), BYTES) in (None, b"small")
    if "time" not in change:
        assert store.get(key(n=0), BYTES) is None
        assert store.usage().recomputable.entries == 1
    store.put(key(n=0), b"again", BYTES)
    assert store.get(key(n=0), BYTES) == b"again"
    assert store.get(key(n=1), BYTES) == b"small"
    assert store.clear_recomputable() == 2


def test_values_swapped_between_entries_are_misses(store, paid):
    for n in range(2):
        store.put(key(n=n), BLOCK + bytes([n]), BYTES, paid=paid)
    first, second = (value_file(store, paid, key(n=n)) for n in range(2))
    first.write_bytes(second.read_bytes())
    assert store.get(key(n=0), BYTES, paid=paid) is None
    assert store.get(key(n=1), BYTES, paid=paid) == BLOCK + b"\x01"


def test_whole_bytes_that_the_codec_cannot_read_are_a_miss(store):
    store._results.put(f"{key().digest}.json", b"{not json")
    assert store.get(key(), JSON) is None
    assert store.get_or_compute(key(), lambda: 3, JSON) == 3
    assert store.get(key(), JSON) == 3


@pytest.mark.parametrize("escape", ["../../victim", "{tmp}/victim", "ab/../../../victim"])
def test_a_row_cannot_reach_files_outside(store, tmp_path, escape):
    victim = tmp_path / "victim"
    victim.write_bytes(pack(name_of(key()), b"planted"))
    store.put(key(), b"small", BYTES)
    filename = escape.format(tmp=tmp_path)
    sql(store, False, "UPDATE Cache SET mode = 2, value = NULL, filename = ?", filename)
    assert store.get(key(), BYTES) is None
    assert victim.exists()


class Planted:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return open, (str(self.marker), "w")


def test_a_planted_pickle_is_never_run(store, paid, tmp_path):
    marker = tmp_path / "executed"
    bomb = pickle.dumps(Planted(marker))
    for n in range(3):
        store.put(key(n=n), BLOCK, BYTES, paid=paid)
    folder = tier_of(store, paid).folder
    in_row, in_file = key(n=0), value_file(store, paid, key(n=1))
    change = "UPDATE Cache SET mode = 4, expire_time = ?, value = ?, filename = ? WHERE key = ?"
    later = time.time() + 1e6
    sql(store, paid, change, later, bomb, None, name_of(in_row))
    in_file.write_bytes(bomb)
    inside = in_file.relative_to(folder).as_posix()
    sql(store, paid, change, later, None, inside, name_of(key(n=1)))
    planted_key = "INSERT INTO Cache (key, raw, mode, value, access_time) VALUES (?, 0, 4, ?, 0)"
    sql(store, paid, planted_key, bomb, bomb)

    cache = tier_of(store, paid)._cache
    for planted in (in_row, key(n=1)):
        with pytest.raises(DamagedEntry):
            cache.get(name_of(planted))
    for walk in (list, lambda cache: list(reversed(cache)), SafeCache.peekitem):
        with pytest.raises(DamagedEntry):
            walk(cache)
    for n in (0, 1):
        assert store.get(key(n=n), BYTES, paid=paid) is None
    assert store.get(key(n=2), BYTES, paid=paid) == BLOCK
    store.close()
    store = Store(store.directory)
    sql(store, paid, "UPDATE Cache SET expire_time = 1, mode = 4 WHERE raw = 1")
    tier_of(store, paid)._cache.expire()
    tier_of(store, paid)._cache.evict_oldest(limit=0, keep="none")
    assert len(tier_of(store, paid)._cache) == 0
    assert not marker.exists()


def test_the_planted_pickle_would_run_in_stock_diskcache(tmp_path):
    marker = tmp_path / "executed"
    diskcache.Cache(str(tmp_path / "stock"))["key"] = Planted(marker)
    assert not marker.exists()
    diskcache.Cache(str(tmp_path / "stock"))["key"].close()
    assert marker.exists()


def test_nothing_but_text_and_bytes_goes_in(tmp_path):
    cache = SafeCache(str(tmp_path), disk=SafeDisk)
    for odd_key in (1, b"x", ("a",), None):
        with pytest.raises(TypeError):
            cache.set(odd_key, b"")
    for odd_value in (1, "x", None, ["a"], bytearray(b"x")):
        with pytest.raises(TypeError):
            cache.set("key", odd_value)
    assert len(cache) == 0


def garble(path):
    path.write_bytes(random.Random(0).randbytes(path.stat().st_size))


def garble_middle(path):
    data = bytearray(path.read_bytes())
    data[4096:-4096] = random.Random(0).randbytes(len(data) - 8192)
    path.write_bytes(data)


def plant_setting(path):
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO Settings VALUES ('disk_evil', 1), ('_disk', 'x')")
        connection.execute("UPDATE Settings SET value = 'many' WHERE key = 'size'")
    connection.close()


def other_schema(path):
    path.unlink()
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE Cache (something)")
    connection.close()


DATABASE_DAMAGE = {
    "garbage": garble,
    "garbage inside": garble_middle,
    "zero length": lambda path: os.truncate(path, 0),
    "cut in half": lambda path: os.truncate(path, path.stat().st_size // 2),
    "deleted": lambda path: path.unlink(),
    "settings": plant_setting,
    "other schema": other_schema,
}


@pytest.mark.parametrize("while_open", [False, True], ids=["closed", "open"])
@pytest.mark.parametrize("damage", DATABASE_DAMAGE.values(), ids=DATABASE_DAMAGE.keys())
def test_a_damaged_database_is_survived_and_paid_answers_return(store, paid, damage, while_open):
    keys = [key(n=n) for n in range(12)]
    for n, made in enumerate(keys):
        store.put(made, b"%d" % n, BYTES, paid=paid)
    folder = tier_of(store, paid).folder
    store.close()  # what the log still holds goes into the database, so the damage counts
    if while_open:
        assert store.get(keys[0], BYTES, paid=paid) == b"0"
    damage(folder / "cache.db")
    if not while_open:
        store = Store(store.directory)
    for n, made in enumerate(keys):
        answer = store.get(made, BYTES, paid=paid)
        assert answer in (None, b"%d" % n)
        if paid and not while_open:
            assert answer == b"%d" % n
        store.put(made, b"new %d" % n, BYTES, paid=paid)
        assert store.get(made, BYTES, paid=paid) == b"new %d" % n
    store.close()
    reopened = Store(store.directory)
    found = [reopened.get(made, BYTES, paid=paid) for made in keys]
    expected = [b"new %d" % n for n in range(12)]
    # A planted setting goes unnoticed until the database is opened, and then costs the results.
    assert found == expected or (damage is plant_setting and not paid and found == [None] * 12)


def test_a_damaged_paid_database_is_kept_under_another_name(store):
    store.put(key(), b"answer", BYTES, paid=True)
    store.close()
    database = store.directory / "paid" / "cache.db"
    garble(database)
    garbage = database.read_bytes()
    assert Store(store.directory).get(key(), BYTES, paid=True) == b"answer"
    assert database.with_name("cache.db.damaged-1").read_bytes() == garbage


def test_deleting_the_folder_under_a_running_store_loses_only_its_contents(store, tmp_path):
    store.put(key(), b"old", BYTES)
    store.directory.rename(tmp_path / "gone")
    assert store.get(key(), BYTES) is None
    assert store.get_or_compute(key(), lambda: b"new", BYTES) == b"new"
    store.put(key(), b"paid", BYTES, paid=True)
    other = Store(store.directory)
    assert other.get(key(), BYTES) == b"new"
    assert other.get(key(), BYTES, paid=True) == b"paid"


def test_of_two_files_of_a_paid_answer_the_later_wins(store):
    store.put(key(), b"first", BYTES, paid=True)
    old = value_file(store, True, key())
    copy = old.read_bytes()
    store.put(key(), b"second", BYTES, paid=True)
    old.parent.mkdir(parents=True, exist_ok=True)
    old.write_bytes(copy)
    os.utime(old, (1, 1))
    store.close()
    (store.directory / "paid" / "cache.db").unlink()
    assert Store(store.directory).get(key(), BYTES, paid=True) == b"second"


def test_abandoned_files_are_swept_and_young_ones_left(store):
    folder = store.directory / "results" / "ab" / "cd"
    folder.mkdir(parents=True)
    old, young = folder / ("0" * 28 + ".val"), folder / ("1" * 28 + ".val")
    for path in (old, young):
        path.write_bytes(b"half a val")
    os.utime(old, (1, 1))
    store.put(key(), BLOCK, BYTES)
    os.utime(value_file(store, False, key()), (1, 1))
    reopened = Store(store.directory)
    assert (old.exists(), young.exists()) == (False, True)
    assert reopened.get(key(), BYTES) == BLOCK


READ_AND_WRITE = """
import sys
from core.store import BYTES, Key, Store
store = Store(sys.argv[1])
print(store.get(Key("test", 1, {"by": "parent"}), BYTES).decode())
store.put(Key("test", 1, {"by": "child"}), sys.argv[2].encode(), BYTES)
store.close()
"""


def test_a_second_store_in_this_process_leaves_the_first_ones_locks(store):
    # Opening and closing the database by hand would let another process remove the log in use.
    others = [Store(store.directory)]
    for turn in range(3):
        store.put(key(by="parent"), b"turn %d" % turn, BYTES)
        output, _ = run_python(READ_AND_WRITE, store.directory, turn).communicate()
        assert output == f"turn {turn}\n"
        assert store.get(key(by="child"), BYTES) == b"%d" % turn
        others.append(Store(store.directory))


WRITER = """
import random, sys
from core.store import BYTES, Key, Store
folder, run = sys.argv[1], int(sys.argv[2])
store = Store(folder)
def write(parameters, value, paid):
    store.put(Key("kill", 1, parameters), value, BYTES, paid=paid)
sizes = random.Random(run)
n = 0
while True:
    size = sizes.choice([10, 3_000, 40_000, 300_000])
    paid = n % 4 == 0
    write({"run": run, "n": n}, random.Random(1000 * run + n).randbytes(size), paid)
    write({"shared": n % 3}, b"%d:" % n + random.Random(n).randbytes(50_000), paid)
    print(f"{n} {size}\\n", end="", flush=True)  # one write: a line is reported whole or not
    n += 1
"""


def test_fifty_kills_lose_nothing_that_was_reported(tmp_path):
    chance = random.Random(0)
    written = {}
    pause = threading.Event()
    for run in range(50):
        process = run_python(WRITER, tmp_path, run)
        lines = [process.stdout.readline() for _ in range(chance.randrange(1, 10))]
        pause.wait(chance.uniform(0, 0.02))  # to hit any moment of a write; nothing depends on it
        process.kill()
        lines += process.communicate()[0].splitlines()
        for line in lines:
            n, size = map(int, line.split())
            written[run, n] = size
        if run % 10 == 9:
            verify(Store(tmp_path), written)
    assert len(written) > 100


def verify(store, written):
    for (run, n), size in written.items():
        value = store.get(Key("kill", 1, {"run": run, "n": n}), BYTES, paid=n % 4 == 0)
        assert value == random.Random(1000 * run + n).randbytes(size)
    for run in {run for run, _ in written}:
        last = max(n for each, n in written if each == run)
        # The one being written at the kill may be there or not, but not in part.
        value = store.get(Key("kill", 1, {"run": run, "n": last + 1}), BYTES, paid=last % 4 == 3)
        if value is not None:
            assert value == random.Random(1000 * run + last + 1).randbytes(len(value))
    for shared in range(3):
        for paid in (False, True):
            value = store.get(Key("kill", 1, {"shared": shared}), BYTES, paid=paid)
            n, _, content = (value or b"").partition(b":")
            if value is not None:
                assert content == random.Random(int(n)).randbytes(50_000)
