"""A small server that kills itself at a given stage of a given job; see benchmarks/kills.py.

Imported by the process that all servers are forked from, so that none waits for torch.
"""

import logging
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from core.activations import open_index, text_index
from core.activations.text_index import IndexRequest, make_index
from core.autointerp.prepare import prepare
from core.autointerp.request import RunRequest
from core.autointerp.run import run
from core.autointerp.service import Service
from core.autointerp.view import AutointerpView
from core.catalog import Catalog
from core.corpus.documents import Corpus, Document
from core.engine import Engine
from core.hosting.audit import Audit
from core.hosting.desk import Desk
from core.hosting.people import Person, Role
from core.hosting.policy import Access, Identity, Policy, ServerKey
from core.hosting.spending import Ledger
from core.jobs import JobManager, JobState, Progress
from core.jobs.under_way import UnderWay
from core.llm import ChatEndpoint
from core.meta_sae import MetaConfig
from core.meta_sae.run import MetaRequest, run_meta_sae
from core.sae_quality.run import QualityRequest, run_quality
from core.settings import Settings
from core.splitting.map_config import MapConfig
from core.splitting.map_data import MapRequest, build_map
from core.splitting.members import Member
from core.store import Store
from core.worker import WorkerProcess
from tests.loopback_openai import GOOD_KEY

JOBS = ("index", "meta-sae", "quality", "autointerp", "map")
MODEL, HOOK = "docs-small", "blocks.1.hook_resid_pre"
SAE = ("docs-small-res", HOOK)
FAMILY = [("docs-small-res-splitting", f"{HOOK}_{width}") for width in (32, 64)]
RUNNER = Person("ann@x.org", Role.RUNNER, "ann@x.org")
READER = Person("rita@x.org", Role.READER, "rita@x.org")
CONCURRENCY = 4
TICK = 0.02
"""Seconds between two looks at what is under way, instead of 2 s: these jobs take about one."""
POLICY = Policy(
    identity=Identity(source="proxy"),
    access=Access(admins=("ada@x.org",)),
    server_key=ServerKey(("runner",), 100.0, 10_000_000, {"m": (1.0, 2.0)}),
)
_WORDS = ("array", "axis", "the river", "in 1998", "Mary", "returns", "a list", "of the city")

Found = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Kill:
    """Who is killed when."""

    job: str
    """Name of the job."""
    message: str
    """What it says at that moment."""
    skip: int = 0
    """How often it says so before."""
    worker: bool = False
    """Whether the worker process is killed rather than the server."""


def _text(number: int) -> str:
    generator = np.random.default_rng(number)
    return " ".join(generator.choice(_WORDS, size=int(generator.integers(2, 60))))


CORPUS = Corpus(
    "Some texts",
    "digest of some texts",
    lambda: iter([Document(f"text {number}", _text(number)) for number in range(60)]),
)


class Server:
    """What `core.resources` makes, for one person, on a folder that earlier servers left."""

    def __init__(self, folder: Path, demo: Path, url: str) -> None:
        text_index.BATCH_TOKENS = 64
        text_index._CHECKPOINT_SECONDS = 0.0
        settings = Settings(cache_dir=folder / "cache", demo_dir=demo)
        self.catalog, self.store = Catalog(settings), Store(settings.cache_dir)
        self.engine = Engine(self.catalog, device="cpu", store=self.store)
        self.jobs, self.worker = JobManager(relieve=self.engine.relieve), WorkerProcess(warm=())
        self.under_way = UnderWay(self.store, self.jobs, tick=TICK)
        self.under_way.start()
        audit = Audit(settings.cache_dir / "audit.jsonl")
        ledger = Ledger(self.store)
        self.desk = Desk(POLICY, ledger=ledger, audit=audit, managers=(self.jobs,))
        self.service = Service(
            ChatEndpoint("m", url, GOOD_KEY, concurrency=CONCURRENCY, max_retries=0),
            payer=self.desk.purse(RUNNER, "m"),
        )

    def work(self, job: str, progress: Progress) -> Found:
        """One job from the beginning, as its page asks for it; what a reader would see of it."""
        return getattr(self, f"_{job.replace('-', '_')}")(progress)

    def _lease(self, saes: list[tuple[str, str]], progress: Progress) -> Any:
        return self.engine.lease(MODEL, saes, progress=progress)

    def _index(self, progress: Progress) -> Found:
        request = IndexRequest(MODEL, ((*SAE, ""),), CORPUS, 4000)
        (opened,) = make_index(self._lease([SAE], progress), self.store, request)
        index = open_index(self.store, opened.key)
        if index is None:
            raise ValueError("The index is not whole.")
        return dict(index.to_arrays())

    def _meta_sae(self, progress: Progress) -> Found:
        config = MetaConfig(share=0.25, k=3, steps=400, batch=64, lr=1e-2)
        request = MetaRequest(MODEL, (*FAMILY[1], ""), (*FAMILY[0], ""), config)
        found = run_meta_sae(self._lease(request.names, progress), self.store, request)
        return {"decoder": found.made.meta.W_dec, "matched": found.made.matched}

    def _quality(self, progress: Progress) -> Found:
        request = QualityRequest(MODEL, tuple((*it, "") for it in FAMILY), CORPUS, 3000)
        found = run_quality(self._lease(FAMILY, progress), self.store, request)
        return {str(n): it.quality.text.rates for n, it in enumerate(found)}

    def _autointerp(self, progress: Progress) -> Found:
        view = AutointerpView(
            choose="list",
            latents=tuple(range(12)),
            explainer="chat",
            judge="chat",
            chat_model="m",
            total_tokens=3000,
            buffer=4,
            act_threshold_frac=0.6,
            controls=False,
        )
        request = RunRequest(MODEL, SAE, "", 0, view, CORPUS, service=self.service.endpoint.url)
        lease = self._lease([SAE], progress)
        record = run(lease, self.store, prepare(lease, self.store, request), self.service)
        scores = {int(latent): it["score"] for latent, it in record["results"].items()}
        return {"scores": np.array([scores[latent] for latent in sorted(scores)], dtype=float)}

    def _map(self, progress: Progress) -> Found:
        members = tuple(Member(it[1], self.catalog.entry(*it)) for it in FAMILY)
        config = MapConfig(clusters=True, n_neighbors=5, n_neighbors_cluster=5)
        request = MapRequest(MODEL, members, config, CORPUS)
        fit = self.worker.run
        found = build_map(self._lease(FAMILY, progress), self.store, fit, request)
        return {"xy": found.map.points[["umap_x", "umap_y"]].to_numpy()}


def serve(
    folder: Path,
    demo: Path,
    url: str,
    told: Connection,
    jobs: tuple[str, ...],
    kill: Kill | None,
) -> None:
    """Run `jobs`, one after the other, until they are done or `kill` comes."""
    logging.disable()
    server = Server(folder, demo, url)
    told.send(("interrupted", [it.key for it in server.under_way.interrupted()]))
    for job in jobs:
        told.send(("done", job, _run(server, job, told, kill)))
    told.send(("stored", _stored(server, jobs)))
    server.worker.close()
    told.send(("cpu_seconds", time.process_time()))
    told.close()
    os._exit(0)  # threads of pools would be waited for


def _run(server: Server, job: str, told: Connection, kill: Kill | None) -> Found:
    began = time.monotonic()
    left = [kill.skip if kill is not None and kill.job == job else -1]

    def said(message: str) -> None:
        told.send(("said", job, message, server.worker._child is not None))
        if kill is not None and message == kill.message and left[0] >= 0:
            left[0] -= 1
            if left[0] < 0:
                _strike(server, kill, told, age=time.monotonic() - began)

    def work(progress: Progress) -> Found:
        _listen(progress, said)
        return server.work(job, progress)

    while True:
        one = server.desk.submit(RUNNER, server.jobs, f"{job}:1", job, work, link=f"/{job}")
        one.wait()
        if one.state is JobState.DONE:
            return one.result()
        # As a reader does who sees why, and tries again.
        told.send(("failed", job, one.view().error))
        server.desk.forget(RUNNER, server.jobs, one.key)


def _strike(server: Server, kill: Kill, told: Connection, *, age: float) -> None:
    child = server.worker._child
    if not kill.worker:
        told.send(("killed", age))
        os.kill(os.getpid(), signal.SIGKILL)
    elif child is not None:
        told.send(("killed", age))
        child.process.kill()


def _listen(progress: Progress, said: Callable[[str], None]) -> None:
    """Tell each report that says something new, before the work goes on."""
    update, last = progress.update, [("", -1.0)]

    def listen(done: float, total: float | None = None, **words: Any) -> None:
        update(done, total, **words)
        step = (str(words.get("message", "")), done)
        if step != last[0]:
            last[0] = step
            said(step[0])

    progress.update = listen  # type: ignore[method-assign]


def _stored(server: Server, jobs: tuple[str, ...]) -> dict[str, str]:
    """What somebody who may compute nothing gets of each job: "" where it is whole."""
    found = {}
    for job in jobs:
        if job == "autointerp":  # it asks a service, which readers may not
            continue
        work = lambda progress, job=job: server.work(job, progress)  # noqa: E731
        one = server.desk.submit(READER, JobManager(), f"{job}:2", job, work)
        one.wait()
        found[job] = one.view().error or ""
    return found
