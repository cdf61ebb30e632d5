"""The one way to a job: who may start it, whose share it takes, and who may stop it."""

import logging
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from core.asking import Asking, asking
from core.device import format_bytes
from core.hosting import rights
from core.hosting.audit import Audit
from core.hosting.kinds import asks_services, is_short, kind_of, looks, right_to
from core.hosting.log_lines import coming_from, facts, origin
from core.hosting.meter import Meter
from core.hosting.people import Person, Role
from core.hosting.policy import Policy
from core.hosting.rights import Action
from core.hosting.spending import Ledger, QuotaSpent
from core.jobs import Job, JobManager, JobState, JobView, Progress
from core.store import Owned

if TYPE_CHECKING:
    from core.hosting.purse import Purse

log = logging.getLogger(__name__)
T = TypeVar("T")
_FROM_STORE = "#stored"
_FREE = ("plan", "load")
"""Kinds that take no share: every page asks for them."""


class Desk:
    """Takes orders for jobs of `managers` under a policy."""

    def __init__(
        self,
        policy: Policy,
        *,
        ledger: Ledger,
        audit: Audit,
        managers: Sequence[JobManager],
        meter: Meter | None = None,
    ) -> None:
        self.policy, self.ledger, self.audit = policy, ledger, audit
        self._managers = tuple(managers)
        self._meter = meter if meter is not None else Meter(ledger)

    def submit(
        self,
        person: Person,
        manager: JobManager,
        key: str,
        title: str,
        work: Callable[[Any], T],
        *,
        link: str | None = None,
        right: Action | None = None,
    ) -> Job[T]:
        """The job of `key`, which is a new one only where this person may start it.

        Whoever may not gets what is stored: the same work, which ends with a sentence where it
        would begin to compute. `right` is what starting takes, where the key does not say.

        Raises:
            NotAllowed: this person may neither start it nor see what is stored.
            QuotaSpent: their share of today, or of the workers, is used up.
            ValueError: the server takes no jobs because it is about to stop.
        """
        if person.local:
            return manager.submit(
                key, title, work, short=is_short(key), looks=looks(key), link=link
            )
        needed = right_to(key) if right is None else right
        stored_only = False
        if not rights.allowed(person, needed):
            stored_only = needed in (Action.RUN, Action.TYPE_TEXT) and not asks_services(key)
            rights.require(person, Action.VIEW if stored_only else needed)
        job = manager.get(key)
        joins = job is not None and job.state in (JobState.QUEUED, JobState.RUNNING, JobState.DONE)
        if not joins:
            self._check_share(person, key, short=stored_only or is_short(key))
        if stored_only and not joins:
            key += _FROM_STORE
        try:
            return manager.submit(
                key,
                title,
                self._metered(person, key, work, stored_only=stored_only, right=needed),
                owner=person.id,
                account=person.account,
                short=stored_only or is_short(key),
                looks=looks(key),
                link=link,
            )
        except RuntimeError as closed:
            raise ValueError(str(closed)) from closed

    def found(self, person: Person, manager: JobManager, key: str) -> Job[Any] | None:
        """The job that `submit` of this person would come upon, if there is one."""
        job = manager.get(key)
        if person.local or rights.allowed(person, right_to(key)):
            return job
        if job is not None and job.state not in (JobState.FAILED, JobState.CANCELLED):
            return job
        return manager.get(key + _FROM_STORE)

    def cancel(self, person: Person, manager: JobManager, view: JobView) -> None:
        """Stop a job; where others wait for it too, it goes on for them. Raises NotAllowed."""
        if person.local:
            manager.cancel(view.key)
            return
        action = rights.cancel(person, view.owners)
        rights.require(person, action)
        own = action is Action.CANCEL_OWN
        manager.cancel(view.key, owner=person.id if own else None)
        if not own:
            self.audit.write(person, "cancel", what=kind_of(view.key), of=",".join(view.owners))

    def forget(self, person: Person, manager: JobManager, key: str) -> None:
        """Have the next `submit` of `key` start afresh. Raises NotAllowed."""
        job = manager.get(key)
        is_result = job is not None and job.state is JobState.DONE
        if not person.local and is_result and not key.endswith(_FROM_STORE):
            rights.require(person, Action.VIEW)
            if not rights.allowed(person, right_to(key)):
                return  # what is there is all that this person may see
        manager.forget(key)

    def limits(self, person: Person) -> dict[str, float]:
        """Most that this person may use in a day; nothing where nothing is limited."""
        if person.local or person.role is Role.ADMIN:
            return {}
        quotas = self.policy.quotas
        return {
            "compute_seconds": quotas.compute_seconds_a_day,
            "upload_bytes": quotas.upload_bytes_a_day,
            "store_bytes": quotas.store_bytes_a_day,
        }

    def results(self, account: str | None = None) -> list[Owned]:
        """What results take of the store, the largest first; those of one account, or all."""
        return sorted(self.ledger.store.owned(account), key=lambda it: -it.bytes)

    def remove_results(self, person: Person, one: Owned) -> int:
        """Forget results of one's own, or of others'; the bytes that are free again.

        They are computed again where somebody asks for them. Raises NotAllowed.
        """
        own = not person.local and person.account == one.account
        action = Action.CHANGE_OWN if own else Action.CHANGE_OTHERS
        rights.require(person, action)
        freed = self.ledger.store.remove_owned(one)
        self.audit.write(person, "remove", what=one.kind, of=one.account, bytes=freed)
        return freed

    def purse(self, person: Person, model: str) -> "Purse":
        """What pays for questions to `model` with the server's key. Raises NotAllowed."""
        from core.hosting.purse import purse

        return purse(person, self.policy.server_key, model, ledger=self.ledger, audit=self.audit)

    def upload(self, person: Person, n_bytes: int) -> None:
        """Count what somebody brings. Raises NotAllowed and QuotaSpent."""
        if person.local:
            return
        rights.require(person, Action.UPLOAD)
        self.ledger.reserve(person.account, self.limits(person), upload_bytes=float(n_bytes))

    def _check_share(self, person: Person, key: str, *, short: bool) -> None:
        limits = self.limits(person)
        if not limits or kind_of(key) in _FREE:
            return
        used = self.ledger.used(person.account)
        for name in ("compute_seconds", "store_bytes"):
            if used.get(name, 0.0) >= limits[name]:
                raise QuotaSpent(self.ledger.sentence(name, used[name], limits[name]))
        self._check_held(person)
        most, n = self.policy.quotas.jobs_at_once, self._at_work(person.account)
        if n >= most and not short:
            raise QuotaSpent(
                f"You have {n} computations queued or running, and may have {most} at a time; wait "
                "for one of them to end, or stop one."
            )

    def _check_held(self, person: Person) -> None:
        most = self.policy.quotas.store_bytes
        held = sum(it.bytes for it in self.results(person.account))
        if held >= most:
            raise QuotaSpent(
                f"Your results take {format_bytes(held)} of this server's store, and may take "
                f"{format_bytes(most)}; remove some under “Your share” on the home page, or ask "
                "the administrator."
            )

    def _fetches(self, person: Person) -> Callable[[int], Callable[[int], None]]:
        limits = {"download_bytes": float(self.policy.quotas.download_bytes_a_day)}

        def begin(n_bytes: int) -> Callable[[int], None]:
            most = float(n_bytes)
            reserved = self.ledger.reserve(person.account, limits, download_bytes=most)
            return lambda came: self.ledger.settle(reserved, download_bytes=float(came))

        return begin

    def _at_work(self, account: str) -> int:
        """Long jobs of an account that are queued or running."""
        views = [view for manager in self._managers for view in manager.jobs()]
        return sum(
            view.account == account
            and not view.state.finished
            and not view.short
            and kind_of(view.key) not in _FREE
            for view in views
        )

    def _metered(
        self,
        person: Person,
        key: str,
        work: Callable[[Any], T],
        *,
        stored_only: bool,
        right: Action,
    ) -> Callable[[Progress], T]:
        may_fetch = rights.allowed(person, Action.DOWNLOAD)
        runner = rights.allowed(person, Action.RUN)
        most = math.inf if runner else self.policy.quotas.cached_seconds
        limits = {} if kind_of(key) in _FREE else self.limits(person)
        came = origin()

        def metered(progress: Progress) -> T:
            with coming_from(came), _told(kind_of(key)):
                return done(progress)

        def done(progress: Progress) -> T:
            fetches = self._fetches(person)
            if kind_of(key) in _FREE:
                with asking(Asking(may_fetch=may_fetch, fetches=fetches)):
                    return work(progress)
            with self._meter.running(person.account, progress, limits, most_seconds=most) as count:
                how = Asking(
                    may_compute=not stored_only,
                    may_fetch=may_fetch or right is Action.FETCH_DESCRIPTIONS,
                    keeps=count,
                    fetches=fetches,
                    account=person.account,
                )
                with asking(how):
                    return work(progress)

        return metered


@contextmanager
def _told(kind: str) -> Iterator[None]:
    """A line in the log when a job has ended."""
    began, outcome = time.monotonic(), "done"
    try:
        yield
    except BaseException as error:
        outcome = type(error).__name__
        raise
    finally:
        seconds = round(time.monotonic() - began, 3)
        log.info("A job ended", extra=facts(kind=kind, outcome=outcome, seconds=seconds))
