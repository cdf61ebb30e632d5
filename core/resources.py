"""Which objects do all sessions share? The only module of `core` that knows Streamlit.

Each factory makes its object at the first call and hands the same one to every session. Tests
replace `settings` and call `st.cache_resource.clear()`.
"""

from typing import TYPE_CHECKING

import streamlit as st

from core.catalog import Catalog
from core.engine import Engine
from core.jobs import JobManager
from core.settings import Settings
from core.store import Store
from core.view.recent import Recent
from core.view.warm_up import WarmUp
from core.worker import WorkerProcess

if TYPE_CHECKING:
    from core.view.fit import FitOnText
    from core.view.gradients.compute import GradientResult
    from core.view.latent.about_all import AboutAll
    from core.view.latent.index import OpenIndex
    from core.view.splitting.build import MapData
    from core.view.splitting.evidence import Evidence


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
def recent_maps() -> "Recent[MapData]":
    """Feature-splitting maps that were looked at last."""
    return Recent(4)


@st.cache_resource(show_spinner=False)
def recent_evidence() -> "Recent[dict[str, Evidence]]":
    """What the latents of these maps do on a sample of text."""
    return Recent(4)


@st.cache_resource(show_spinner=False)
def recent_gradients() -> "Recent[GradientResult]":
    """Matrices of gradients that were looked at last."""
    return Recent(6)


@st.cache_resource(show_spinner=False)
def recent_fits() -> "Recent[FitOnText]":
    """Fit checks of the SAEs that were looked at last, by `FitRequest.key`."""
    return Recent(64)


@st.cache_resource(show_spinner=False)
def recent_indexes() -> "Recent[OpenIndex]":
    """Indexes of activations that were looked at last, by `IndexRequest.key`."""
    return Recent(6)


@st.cache_resource(show_spinner=False)
def recent_about() -> "Recent[AboutAll]":
    """What is said of all latents of these indexes, by the digest of the index's key."""
    return Recent(6)
