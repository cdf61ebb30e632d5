"""Servers that are killed in the middle of their jobs; benchmarks/kills.py does it fifty times."""

from pathlib import Path

import pytest

from benchmarks.kills import kill_all


@pytest.mark.slow
def test_nothing_complete_is_lost_and_nothing_paid_twice(tmp_path: Path) -> None:
    found = kill_all(4, tmp_path, jobs=("index", "autointerp"))
    assert dict(found.kills) == {"index, server": 2, "autointerp, server": 2}
    assert (found.lost, found.different, found.not_offered) == ([], [], [])
    assert found.questions == 24
    assert found.paid_twice == 0
    assert found.uncharged == 0.0
