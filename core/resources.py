"""Which objects do all sessions share? The only module of `core` that knows Streamlit.

Each factory hands the same object to every session. `st.cache_resource` is the door only: any
visitor can clear it, so the objects themselves live in `core.shared`. Tests replace `settings` and
call `reset()`.
"""

import os

import streamlit as st

from core.catalog import Catalog
from core.engine import Engine
from core.hosting.audit import Audit
from core.hosting.desk import Desk
from core.hosting.policy import Policy
from core.hosting.spending import Ledger
from core.jobs import JobManager
from core.jobs.recent import Recent
from core.jobs.under_way import UnderWay
from core.outside_address import Reach
from core.settings import Settings
from core.shared import Shared, forget_all
from core.store import Store
from core.store.leftovers import sweep
from core.view.choices import Choices, LatestChoices
from core.view.warm_up import WarmUp
from core.worker import WorkerProcess


def settings() -> Settings:
    """What the environment says."""
    return Settings.from_environment()


def reach() -> Reach:
    """Which addresses that people type are asked: on one's own machine, all."""
    return policy().reach


@st.cache_resource(show_spinner=False)
def catalog() -> Catalog:
    """Every model and SAE that can be chosen."""
    return _catalog()


def choices(*, hub: bool) -> Choices:
    """What the menus offer, at most a second old."""
    return latest_choices()(hub=hub)


@st.cache_resource(show_spinner=False)
def latest_choices() -> LatestChoices:
    """What the menus offered a moment ago."""
    return _latest_choices()


@st.cache_resource(show_spinner=False)
def engine() -> Engine:
    """Owner of every loaded model and SAE."""
    return _engine()


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """Results that outlive a restart."""
    return _store()


@st.cache_resource(show_spinner=False)
def jobs() -> JobManager:
    """Long computations: maps, explanations, sweeps."""
    return _jobs()


@st.cache_resource(show_spinner=False)
def loads() -> JobManager:
    """Loading and downloading, which must not queue behind long computations."""
    return _loads()


@st.cache_resource(show_spinner=False)
def policy() -> Policy:
    """Who may do what; an explorer on a laptop has none. Raises ValueError for a faulty file."""
    return _policy()


@st.cache_resource(show_spinner=False)
def audit() -> Audit:
    """Where downloads, removals and spending are written down; nowhere on a laptop."""
    return _audit()


@st.cache_resource(show_spinner=False)
def desk() -> Desk:
    """The one way to a job."""
    return _desk()


@st.cache_resource(show_spinner=False)
def under_way() -> UnderWay:
    """The long jobs of this server, written down, and those that others left when they ended."""
    return _under_way()


@st.cache_resource(show_spinner=False)
def worker() -> WorkerProcess:
    """The process for UMAP and HDBSCAN; it starts with the first page that wants a map."""
    return _worker()


@st.cache_resource(show_spinner=False)
def warm_up() -> WarmUp:
    """Imports that take seconds, under way since the first call."""
    return _warm_up()


@st.cache_resource(show_spinner=False)
def recent() -> Recent:
    """Large results that were looked at last, by the keys of the jobs that made them."""
    return _recent()


@st.cache_resource(show_spinner=False)
def published_descriptions() -> Recent:
    """Descriptions that were fetched from Neuronpedia, by SAE."""
    return _published_descriptions()


@st.cache_resource(show_spinner=False)
def recent_fits() -> Recent:
    """Fit checks of the SAEs that were looked at last, by `FitRequest.key`."""
    return _recent_fits()


def relieve() -> None:
    """Give memory back, after it ran out somewhere: results to look at again, idle models."""
    recent().clear()
    engine().relieve()


def reset() -> None:
    """End all of them, for the next test."""
    st.cache_resource.clear()
    forget_all()


def _swept_store() -> Store:
    found = Store(settings().cache_dir)
    sweep(found.directory)
    return found


def _started_worker() -> WorkerProcess:
    process = WorkerProcess()
    process.start()
    return process


def _started_list() -> UnderWay:
    found = UnderWay(store(), jobs())
    found.start()
    return found


def _made_desk() -> Desk:
    under_way()  # from the first job on
    return Desk(policy(), ledger=Ledger(store()), audit=audit(), managers=(jobs(), loads()))


_catalog = Shared(lambda: Catalog(settings()))
_latest_choices = Shared(lambda: LatestChoices(catalog()))
_engine = Shared(lambda: Engine(catalog(), device=settings().device, store=store()))
_store = Shared(_swept_store)
_jobs = Shared(
    lambda: JobManager(
        max_workers=2, quick_workers=1, relieve=relieve, yielding=5 if policy().hosted else 0
    ),
    close=lambda it: it.shutdown(timeout=0),
)
_loads = Shared(
    lambda: JobManager(max_workers=4, background=False, relieve=relieve),
    close=lambda it: it.shutdown(timeout=0),
)
_policy = Shared(lambda: Policy.from_environment(os.environ))
_audit = Shared(lambda: Audit(settings().cache_dir / "audit.jsonl" if policy().hosted else None))
_under_way = Shared(_started_list, close=lambda it: it.close())
_desk = Shared(_made_desk)
_worker = Shared(_started_worker, close=lambda it: it.close())
_warm_up = Shared(WarmUp)
_recent = Shared(lambda: Recent(6))
_published_descriptions = Shared(lambda: Recent(64))
_recent_fits = Shared(lambda: Recent(64))
