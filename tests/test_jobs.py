"""Jobs run in order, are shared by key, can be stopped, and tell how far they are."""

import logging
import threading

import pytest

from core.jobs import JobCancelled, JobFailed, JobManager, JobState, Progress

PATIENCE = 30.0


class Clock:
    def __init__(self):
        self.now = 1000.0

    def __call__(self):
        return self.now


class Gate:
    """Work that says when it has started and goes on when told."""

    def __init__(self, result=None):
        self.started, self.go, self.result = threading.Event(), threading.Event(), result

    def __call__(self, progress):
        self.started.set()
        while not self.go.wait(0.01):
            progress.check()
        return self.result


@pytest.fixture
def manager():
    manager = JobManager(max_workers=1)
    yield manager
    assert manager.shutdown(timeout=PATIENCE), "a test left a job that does not stop"


def finished(job):
    assert job.wait(PATIENCE)
    return job


def test_a_job_runs_and_holds_its_result(manager):
    gate = Gate("result")
    job = manager.submit("key", "Title", gate, owner="ann", link="maps?layer=3")
    assert gate.started.wait(PATIENCE)
    assert job.state is JobState.RUNNING
    with pytest.raises(RuntimeError, match="Title is running"):
        job.result()
    gate.go.set()
    assert finished(job).result() == "result"
    view = job.view()
    assert (view.key, view.title, view.state, view.owners, view.link, view.fraction) == (
        *("key", "Title", JobState.DONE, ("ann",), "maps?layer=3", 1.0),
    )
    assert view.submitted_at <= view.started_at <= view.finished_at


def test_one_key_is_one_job_for_everybody(manager):
    gate = Gate(1)
    first = manager.submit("key", "Title", gate, owner="ann")
    assert gate.started.wait(PATIENCE)
    second = manager.submit("key", "Title", pytest.fail, owner="bob")
    gate.go.set()
    finished(first)
    third = manager.submit("key", "Title", pytest.fail, owner="ann")
    assert first is second is third
    assert first.view().owners == ("ann", "bob")
    assert len(manager.jobs()) == 1
    assert manager.get("key") is first


def test_many_threads_submit_one_job(manager):
    runs, jobs, barrier = [], [], threading.Barrier(8)

    def submit():
        barrier.wait(PATIENCE)
        jobs.append(manager.submit("key", "Title", lambda progress: runs.append(1)))

    threads = [threading.Thread(target=submit) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    finished(jobs[0])
    assert len({id(job) for job in jobs}) == 1
    assert runs == [1]


def test_jobs_wait_their_turn_and_are_listed_newest_first(manager):
    order, gate = [], Gate()
    manager.submit("first", "First", gate)
    assert gate.started.wait(PATIENCE)
    later = [
        manager.submit(name, name, lambda progress, name=name: order.append(name))
        for name in ("second", "third")
    ]
    assert [view.state for view in manager.jobs()] == ["queued", "queued", "running"]
    assert [view.key for view in manager.jobs()] == ["third", "second", "first"]
    gate.go.set()
    finished(later[1])
    assert order == ["second", "third"]


def test_as_many_run_at_once_as_there_are_workers():
    manager, gates = JobManager(max_workers=2), [Gate(), Gate(), Gate()]
    jobs = [manager.submit(str(n), str(n), gate) for n, gate in enumerate(gates)]
    assert gates[0].started.wait(PATIENCE)
    assert gates[1].started.wait(PATIENCE)
    assert jobs[2].state is JobState.QUEUED
    gates[0].go.set()
    assert gates[2].started.wait(PATIENCE)
    for gate in gates:
        gate.go.set()
    for job in jobs:
        finished(job)
    manager.shutdown()


def test_a_failed_job_shows_a_sentence_logs_the_traceback_and_can_be_tried_again(manager, caplog):
    def fail(progress):
        raise ZeroDivisionError("by zero\nand more")

    with caplog.at_level(logging.ERROR):
        job = finished(manager.submit("key", "My title", fail))
    view = job.view()
    assert view.state is JobState.FAILED
    assert "ZeroDivisionError: by zero)" in view.error
    assert "Traceback" not in view.error
    assert "My title" in caplog.text
    assert "Traceback" in caplog.text
    with pytest.raises(JobFailed, match="ZeroDivisionError"):
        job.result()
    again = finished(manager.submit("key", "My title", lambda progress: 5))
    assert again is not job
    assert again.result() == 5


@pytest.mark.parametrize(
    ("problem", "sentence"),
    [
        (ValueError("Layer 99 is not in gpt2; choose 0 to 11."), None),
        (MemoryError(), "There was not enough memory; try a smaller model, SAE or batch."),
        (
            SystemExit(3),
            "Something unexpected went wrong (SystemExit: 3). The log has the details.",
        ),
    ],
)
def test_errors_become_sentences(manager, problem, sentence):
    def fail(progress):
        raise problem

    job = finished(manager.submit("key", "Title", fail))
    assert job.view().error == (sentence or str(problem))


def test_cancelling_before_the_start(manager):
    gate, ran = Gate(), []
    manager.submit("first", "First", gate)
    assert gate.started.wait(PATIENCE)
    job = manager.submit("second", "Second", lambda progress: ran.append(1))
    assert manager.cancel("second")
    assert finished(job).state is JobState.CANCELLED
    with pytest.raises(JobCancelled):
        job.result()
    assert not manager.cancel("second")
    assert not manager.cancel("unknown")
    gate.go.set()
    finished(manager.submit("third", "Third", lambda progress: None))
    assert ran == []


def test_cancelling_while_running_and_asking_again(manager):
    release = threading.Event()
    started = threading.Event()

    def stubborn(progress):
        started.set()
        release.wait(PATIENCE)
        progress.update(1, 2)

    job = manager.submit("key", "Title", stubborn)
    assert started.wait(PATIENCE)
    assert manager.cancel("key")
    assert job.state is JobState.RUNNING
    assert job.view().cancelling
    # Whoever asks now must not be handed the job that is on its way out.
    again = manager.submit("key", "Title", lambda progress: "fresh")
    assert again is not job
    release.set()
    assert finished(job).state is JobState.CANCELLED
    assert not job.view().cancelling
    assert finished(again).result() == "fresh"
    assert len({view.id for view in manager.jobs()}) == 2


def test_the_oldest_finished_jobs_are_forgotten():
    manager = JobManager(max_workers=1, keep_finished=3)
    gate = Gate()
    for n in range(6):
        finished(manager.submit(str(n), str(n), lambda progress: None))
    manager.submit("running", "Running", gate)
    assert [view.key for view in manager.jobs()] == ["running", "5", "4", "3"]
    assert manager.get("0") is None
    manager.forget("4")
    manager.forget("running")
    assert [view.key for view in manager.jobs()] == ["running", "5", "3"]
    gate.go.set()
    assert manager.shutdown(timeout=PATIENCE)


def test_shutdown_stops_everything_and_refuses_more():
    manager, gate = JobManager(max_workers=1), Gate()
    jobs = [manager.submit("a", "A", gate), manager.submit("b", "B", pytest.fail)]
    assert gate.started.wait(PATIENCE)
    assert manager.shutdown(timeout=PATIENCE)
    assert [job.state for job in jobs] == [JobState.CANCELLED] * 2
    with pytest.raises(RuntimeError, match="C cannot start"):
        manager.submit("c", "C", pytest.fail)


def test_shutdown_gives_up_on_work_that_does_not_stop():
    manager, release = JobManager(max_workers=1), threading.Event()
    job = manager.submit("a", "A", lambda progress: release.wait(PATIENCE))
    assert manager.shutdown(timeout=0.0) is False
    release.set()
    finished(job)


@pytest.mark.parametrize("bad", [{"max_workers": 0}, {"keep_finished": 0}])
def test_odd_limits_are_refused(bad):
    with pytest.raises(ValueError, match="0"):
        JobManager(**bad)


def test_rate_and_time_left():
    clock = Clock()
    progress = Progress(clock=clock)
    assert progress.view().rate is None
    progress.update(0, 100, unit="tokens", message="Reading")
    assert (progress.view().rate, progress.view().eta_seconds) == (None, None)
    for done in (10, 20, 30):
        clock.now += 5
        progress.update(done, 100, unit="tokens")
    view = progress.view()
    assert view.rate == pytest.approx(2.0)
    assert view.eta_seconds == pytest.approx(35.0)
    assert view.fraction == 0.3
    clock.now += 1000
    progress.update(30, 100, unit="tokens")
    assert progress.view().rate < 0.1


def test_the_rate_forgets_the_distant_past():
    clock = Clock()
    progress = Progress(clock=clock)
    progress.update(0, 10_000)
    for done in [*range(100, 1001, 100), *range(1010, 2011, 10)]:
        clock.now += 1
        progress.update(done, 10_000)
    assert progress.view().rate == pytest.approx(10.0, rel=0.02)


@pytest.mark.parametrize("phase", [(0, 50, "tokens"), (5, 200, "tokens"), (12, 100, "bytes")])
def test_a_new_phase_has_a_rate_of_its_own(phase):
    clock = Clock()
    progress = Progress(clock=clock)
    for done in (0, 10):
        progress.update(done, 100, unit="tokens")
        clock.now += 1
    done, total, unit = phase
    progress.update(done, total, unit=unit)
    assert progress.view().rate is None
    clock.now += 2
    progress.update(done + 8, total, unit=unit)
    assert progress.view().rate == pytest.approx(4.0)


def test_without_a_total_there_is_no_fraction():
    progress = Progress()
    for total in (None, 0):
        progress.update(3, total)
        assert progress.view().fraction is None
        assert progress.view().eta_seconds is None
    progress.update(7, 5)
    assert progress.view().fraction == 1.0


@pytest.mark.parametrize(
    ("done", "total"), [(-1, 2), (float("nan"), 2), (1, -2), (1, float("inf"))]
)
def test_odd_counts_are_refused(done, total):
    with pytest.raises(ValueError, match="report a count"):
        Progress().update(done, total)


def test_the_job_shows_the_progress_of_its_work():
    clock, wall = Clock(), Clock()
    manager = JobManager(max_workers=1, clock=clock, wall_clock=wall)
    reported, go = threading.Event(), threading.Event()

    def work(progress):
        progress.update(0, 40, unit="latents")
        clock.now += 5
        progress.update(10, 40, unit="latents", message="Scoring")
        reported.set()
        go.wait(PATIENCE)

    job = manager.submit("key", "Title", work)
    assert reported.wait(PATIENCE)
    (view,) = manager.jobs()
    assert (view.done, view.total, view.unit, view.message) == (10, 40, "latents", "Scoring")
    assert (view.fraction, view.rate, view.eta_seconds) == (0.25, 2.0, 15.0)
    assert (view.started_at, view.finished_at) == (1000.0, None)
    wall.now += 60
    go.set()
    finished(job)
    assert (job.view().finished_at, job.view().eta_seconds) == (1060.0, None)
