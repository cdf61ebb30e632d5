"""What every piece of work behind the page needs: the request, short leases, keys of the store."""

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from core.activations import fingerprint_of_sae
from core.engine import Engine
from core.hub import HubErrorsInWords
from core.jobs.progress import Progress
from core.patch_scoping.sweep import SweepConfig
from core.store import Key, Store
from core.view.patch_scoping.asking import Question, fingerprint_once, prompt_of

if TYPE_CHECKING:
    from core.patch_scoping.prompt import ScopePrompt

_VERSION = 1
_LEASE_SECONDS = 2.0


@dataclass(frozen=True)
class ScopeRequest:
    """Which sweep is wanted."""

    question: Question
    """Of whom, and what."""
    sae: tuple[str, str]
    """Release and id of the SAE."""
    sae_version: str
    """Changes when its files do."""
    latents: tuple[int, ...]
    """Latents to explain."""
    config: SweepConfig
    """Layers, scales, sampling."""

    @property
    def key(self) -> str:
        """Key of the job: two users who want the same sweep share it."""
        text = json.dumps(asdict(self), sort_keys=True)
        return "patch-scoping:" + hashlib.sha256(text.encode()).hexdigest()[:24]


class PartProgress(Progress):
    """Passes on whether to stop, and nothing else: the whole tells how far it is."""

    def __init__(self, whole: Progress) -> None:
        """`whole` is asked at every update."""
        super().__init__()
        self._whole = whole

    def update(
        self, done: float, total: float | None = None, *, unit: str = "", message: str = ""
    ) -> None:
        """Raises JobCancelled when the whole is cancelled."""
        self._whole.check()

    def check(self) -> None:
        """As `update`."""
        self._whole.check()


class _Lease:
    """Model, SAE and prompt for a moment."""

    def __init__(self, work: "Workbench") -> None:
        self._work = work

    def __enter__(self) -> tuple[Any, Any, "ScopePrompt"]:
        work = self._work
        question = work.request.question
        self._used = work.engine.use(question.speaker, [work.request.sae], progress=work.loading)
        model, (sae,) = self._used.__enter__()
        return model, sae, prompt_of(model, question)

    def __exit__(self, *error: Any) -> None:
        self._used.__exit__(*error)


class Workbench:
    """One request being worked on."""

    def __init__(
        self, engine: Engine, store: Store, request: ScopeRequest, progress: Progress
    ) -> None:
        """Loads what is missing. Raises ValueError for a prompt that cannot be used."""
        self.engine, self.store, self.request = engine, store, request
        self.progress, self.part = progress, PartProgress(progress)
        with HubErrorsInWords(), self.lease() as (model, sae, prompt):
            self.d_sae = int(sae.cfg.d_sae)
            self.sae_print = fingerprint_of_sae(sae)
            self._inputs = {
                "model": fingerprint_once(model),
                "sae": self.sae_print,
                "prompt": list(prompt.tokens),
                "places": list(prompt.positions),
                "config": asdict(request.config),
            }

    def loading(self, done: int, total: int | None, message: str) -> None:
        """What the engine tells while it loads."""
        self.progress.update(done, total, unit="bytes", message=message)

    def lease(self) -> _Lease:
        """A `with` block that has model, SAE and prompt; keep it to a few seconds."""
        return _Lease(self)

    def key(self, kind: str, **parameters: Any) -> Key:
        """Key of a result of this request; `parameters` add to its inputs or replace some."""
        # asdict keeps tuples, JSON has lists.
        inputs = json.loads(json.dumps(self._inputs))
        latents = list(self.request.latents)
        return Key(kind, _VERSION, {"latents": latents} | inputs | parameters)


def in_leases(n: int, work: Callable[[int, int], None], report: Callable[[int], None]) -> None:
    """Call `work(first, last)` over 0 to `n`, so much at a time that a lease takes some seconds."""
    done, step = 0, 1
    report(0)
    while done < n:
        last = min(n, done + step)
        began = time.monotonic()
        work(done, last)
        seconds = max(1e-3, time.monotonic() - began)
        # Never much more at once than before: the first, small step may have been lucky.
        step = max(1, int((last - done) * min(4.0, _LEASE_SECONDS / seconds)))
        done = last
        report(done)
