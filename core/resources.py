"""Which objects do all sessions share? The only module of `core` that knows Streamlit.

Each factory makes its object at the first call and hands the same one to every session. Tests
replace `settings` and call `st.cache_resource.clear()`.
"""

import streamlit as st

from core.catalog import Catalog
from core.engine import Engine
from core.jobs import JobManager
from core.jobs.recent import Recent
from core.settings import Settings
from core.store import Store
from core.view.warm_up import WarmUp
from core.worker import WorkerProcess


def settings() -> Settings:
    """What the environment says."""
    return Settings.from_environment()


@st.cache_resource(show_spinner=False)
def catalog() -> Catalog:
    """Every model and SAE that can be chosen."""
    return Catalog(settings())


@st.cache_resource(show_spinner=False)
def engine() -> Engine:
    """Owner of every loaded model and SAE."""
    return Engine(catalog(), device=settings().device, store=store())


@st.cache_resource(show_spinner=False)
def store() -> Store:
    """Results that outlive a restart."""
    return Store(settings().cache_dir)


@st.cache_resource(show_spinner=False, on_release=lambda manager: manager.shutdown(timeout=0))
def jobs() -> JobManager:
    """Long computations: maps, explanations, sweeps."""
    return JobManager(max_workers=2)


@st.cache_resource(show_spinner=False, on_release=lambda manager: manager.shutdown(timeout=0))
def loads() -> JobManager:
    """Loading and downloading, which must not queue behind long computations."""
    return JobManager(max_workers=4)


@st.cache_resource(show_spinner=False, on_release=lambda process: process.close())
def worker() -> WorkerProcess:
    """The process for UMAP and HDBSCAN; it starts with the first page that wants a map."""
    process = WorkerProcess()
    process.start()
    return process


@st.cache_resource(show_spinner=False)
def warm_up() -> WarmUp:
    """Imports that take seconds, under way since the first call."""
    return WarmUp()


@st.cache_resource(show_spinner=False)
def recent() -> Recent:
    """Large results that were looked at last, by the keys of the jobs that made them."""
    return Recent(6)


@st.cache_resource(show_spinner=False)
def published_descriptions() -> Recent:
    """Descriptions that were fetched from Neuronpedia, by SAE."""
    return Recent(64)


@st.cache_resource(show_spinner=False)
def recent_fits() -> Recent:
    """Fit checks of the SAEs that were looked at last, by `FitRequest.key`."""
    return Recent(64)
