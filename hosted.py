"""The explorer for several people: `python hosted.py`, with a policy in SAE_EXPLORER_HOSTING.

Takes the options of `streamlit run`. It is app.py behind what a server needs: headers are believed
from the proxy alone, `/healthz` and `/metrics` say how it is, and when stopped it waits for
what is running. See docs/hosting.md.
"""

import logging
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict
from functools import partial
from typing import Any

# uvicorn would put the visitor's address in the place of the proxy's, by which it is known.
os.environ["FORWARDED_ALLOW_IPS"] = ""

import streamlit as st
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse
from starlette.routing import Route
from streamlit import config
from streamlit import logger as streamlit_logger
from streamlit.auth_util import is_authlib_installed, validate_auth_credentials
from streamlit.errors import StreamlitAuthError
from streamlit.runtime import Runtime
from streamlit.runtime.stats import CACHE_MEMORY_FAMILY

from core import resources
from core.hosting.agents import KnownAgents, trusted_headers
from core.hosting.headers import BelievedHeaders
from core.hosting.health import health, metrics
from core.hosting.log_lines import log_as_json, send_to_root
from core.hosting.policy import Policy
from core.hosting.safe_answers import SafeAnswers

_STOPPING_SECONDS = 10.0
"""For jobs to notice that they are cancelled, and to keep what they have."""


def read_policy() -> Policy:
    """The policy; ends the process with a sentence where there is none, or a faulty one."""
    try:
        policy = Policy.from_environment(os.environ)
    except ValueError as fault:
        sys.exit(str(fault))
    if not policy.hosted:
        sys.exit(
            "hosted.py serves several people and needs a policy: set SAE_EXPLORER_HOSTING to one "
            "like docs/hosting.toml, or use `make run` for an explorer of your own."
        )
    return policy


def check_login(policy: Policy) -> None:
    """Ends the process with a sentence where nobody could log in."""
    remedy = 'see docs/hosting.md, "Logging in with OIDC".'
    if not is_authlib_installed():
        sys.exit(
            "People cannot log in: Authlib is missing. Run `.venv/bin/pip install --requirement "
            f"requirements-hosted.txt`; {remedy}"
        )
    try:
        validate_auth_credentials(policy.identity.provider or "default")
    except StreamlitAuthError as fault:
        said = " ".join(str(fault).split())
        sys.exit(
            f"People cannot log in: {said} The server's user must be able to read it; {remedy}"
        )


POLICY = read_policy()
if streamlit_logger.setup_formatter is not send_to_root:  # Streamlit imports this module again
    # It gives each of its loggers a console of its own, also those that it makes later.
    streamlit_logger.setup_formatter = send_to_root
    log_as_json()
streamlit_logger.update_formatter()
logging.getLogger("uvicorn.access").setLevel(logging.WARNING)  # its lines hold addresses alone
if not config.get_option("server.allowedHosts"):
    # A web page elsewhere whose name is made to point here is not this server.
    config.set_option("server.allowedHosts", list(POLICY.names))
# Whether programs are served is a matter of the policy, whatever options or variables say.
config.set_option("server.enableAgentApi", POLICY.agents)
config.set_option("server.trustedUserHeaders", trusted_headers(POLICY))


async def answer_health(request: Request) -> JSONResponse:
    """`/healthz`."""
    managers = (resources.jobs(), resources.loads())
    found = await run_in_threadpool(health, resources.store(), managers)
    return JSONResponse(asdict(found), status_code=found.code)


async def answer_metrics(request: Request) -> PlainTextResponse:
    """`/metrics`, with Streamlit's own, which are at `/_stcore/metrics` too."""
    libraries = resources.warm_up().libraries
    ready = libraries.done() and libraries.exception() is None
    loaded = resources.engine().loaded() if ready else ()
    managers = {"compute": resources.jobs(), "load": resources.loads()}
    own = Runtime.instance().stats_mgr
    # The bytes of caches are counted by walking through every session; Streamlit's page has them.
    families = [name for name in own.registered_families() if name != CACHE_MEMORY_FAMILY]
    stats = await run_in_threadpool(own.get_stats, families)
    text = await run_in_threadpool(metrics, resources.store(), managers, loaded, stats)
    return PlainTextResponse(text, media_type="text/plain; version=0.0.4")


@asynccontextmanager
async def life(app: Any) -> AsyncIterator[None]:
    """While the server runs; then until what is running has ended or `drain_seconds` are over."""
    resources.under_way()
    yield
    managers = (resources.jobs(), resources.loads())
    for manager in managers:
        manager.drain("this server is being stopped; try again in some minutes.")
    until = time.monotonic() + POLICY.drain_seconds
    for manager in managers:
        await run_in_threadpool(manager.wait_all, max(0.0, until - time.monotonic()))
    resources.under_way().freeze()  # what is stopped now is offered again after the start
    until = time.monotonic() + _STOPPING_SECONDS
    for manager in managers:
        left = max(0.0, until - time.monotonic())
        await run_in_threadpool(partial(manager.shutdown, timeout=left))
    resources.under_way().close()


app = st.App(
    "app.py",
    routes=[Route("/healthz", answer_health), Route("/metrics", answer_metrics)],
    middleware=[
        Middleware(SafeAnswers, names=config.get_option("server.allowedHosts")),
        Middleware(BelievedHeaders, identity=POLICY.identity),
        Middleware(KnownAgents, policy=POLICY),
    ],
    lifespan=life,
)

if __name__ == "__main__":
    from streamlit.web import cli

    elsewhere = any(option.startswith("--secrets.files") for option in sys.argv)
    if POLICY.identity.source == "oidc" and not elsewhere:
        named = os.environ.get("STREAMLIT_SECRETS_FILES")
        if named:  # Streamlit reads its variables below
            config.set_option("secrets.files", named.split())
        check_login(POLICY)
    # Streamlit's own way to start, so that its options and variables hold here as elsewhere.
    # Without its welcome, for which it would ask a service outside for this machine's address.
    quiet = "--logger.hideWelcomeMessage=true"
    sys.argv = ["streamlit", "run", __file__, quiet, *sys.argv[1:]]
    cli.main()
