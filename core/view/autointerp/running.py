"""A run from beginning to end: the work of a job, kept as it goes."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from core.autointerp.chat_roles import ChatExplainer, ChatJudge
from core.autointerp.estimate import first_requests
from core.autointerp.example import Example
from core.autointerp.fuzzing import ChatMarksJudge, Fuzzing
from core.autointerp.generation import Generation, ModelProber, Prober, Reviser
from core.autointerp.lexical import LexicalExplainer, LexicalJudge, PreparedExplainer
from core.autointerp.neighbours import NeighbourPrecision
from core.autointerp.parsing import PARSER_VERSION
from core.autointerp.prompts import ExplainerOptions
from core.autointerp.roles import Explainer, Material, Scorer
from core.autointerp.run import Result, Roles, explain_and_score
from core.autointerp.simulation import Simulation
from core.engine import Engine
from core.jobs.progress import JobCancelled, Progress
from core.llm import Budget, ChatEndpoint, ChatSession, Estimate, Price, estimate_requests
from core.llm.reading import READER_VERSION
from core.store import Store
from core.view.autointerp.gathering import Gathered, gather
from core.view.autointerp.materials import control_materials, materials_of
from core.view.autointerp.record import (
    Record,
    edited_id,
    kept_result,
    list_run,
    save_record,
)
from core.view.autointerp.request import RunRequest
from core.view.autointerp.scoped import Explanations, scoped

_SAVE_SECONDS = 3.0


@dataclass(frozen=True)
class Service:
    """Who is asked, and how much may be spent."""

    endpoint: ChatEndpoint
    """The service, with its key."""
    budget: Budget = field(default_factory=Budget)
    """Where questions stop."""
    price: Price | None = None
    """Dollars per million tokens, where known."""

    def session(self, store: Store) -> ChatSession:
        """A session that keeps answers in `store`."""
        prices = {self.endpoint.model: self.price} if self.price is not None else {}
        return ChatSession(self.endpoint, store=store, budget=self.budget, prices=prices)


@dataclass(frozen=True, eq=False)
class Prepared:
    """All that is known before anything is asked."""

    request: RunRequest
    """What was wanted."""
    gathered: Gathered
    """Windows."""
    materials: Mapping[int, Material]
    """By latent."""
    controls: Mapping[str, Mapping[int, Material]]
    """By kind of control and unit."""
    scoped: Explanations
    """What the model itself says, where that is the explainer."""
    scoped_controls: Mapping[str, Explanations]
    """What it says of the units of each control."""


def prepare(
    engine: Engine, store: Store, request: RunRequest, progress: Progress, *, explain: bool = True
) -> Prepared:
    """Everything that needs the model. Raises as `gather` and `scoped`.

    Without `explain`, the model is not asked for explanations: for who brings their own.
    """
    gathered = gather(engine, store, request, progress)
    controls = {
        kind: control_materials(engine, request, gathered.cfg, windows)
        for kind, windows in gathered.controls.items()
    }
    materials = materials_of(engine, request, gathered, progress)
    own: Explanations = {}
    others: Mapping[str, Explanations] = {}
    if explain and request.explaining_model:
        own, others = scoped(engine, store, request, gathered, progress)
    return Prepared(request, gathered, materials, controls, own, others)


def estimate(prepared: Prepared, service: Service) -> Estimate:
    """What the run will ask at most, if nothing is stored and every answer can be read."""
    session = ChatSession(service.endpoint)
    tokens = prepared.gathered.cfg.max_tokens_in_explanation
    roles = _roles(prepared, prepared.materials, session, prober=None)
    requests = first_requests(prepared.materials, roles, explanation_tokens=tokens)
    for kind, units in prepared.controls.items():
        plain = _roles(prepared, units, session, prober=None, control=kind)
        requests += first_requests(units, plain, explanation_tokens=tokens)
    return estimate_requests(requests, service.price)


def run(
    engine: Engine,
    store: Store,
    prepared: Prepared,
    service: Service | None,
    progress: Progress,
    *,
    parent: Record | None = None,
    edits: Mapping[int, str] | None = None,
) -> Record:
    """Explain and score; the record is kept every few seconds, and whatever ends the run.

    With `edits`, these explanations are scored, and the rest is taken over from `parent`.

    Raises:
        JobCancelled: through `progress`; the record says `stopped` and holds what is done.
    """
    record = _new_record(prepared, service)
    materials = prepared.materials
    if parent is not None and edits:
        record |= {name: parent[name] for name in ("results", "controls", "base", "latents")}
        record |= {"id": edited_id(parent["base"], edits)}
        record["edits"] = {str(latent): text for latent, text in edits.items()}
        record["title"] = f"{record['title']}, edited"
        materials = {latent: materials[latent] for latent in edits}
    # One session for all that the run asks: one budget, and one form that the service takes.
    session = service.session(store) if service is not None else None
    saved = time.monotonic()

    def keep(latent: int, result: Result) -> None:
        nonlocal saved
        kept = kept_result(result, materials[latent])
        record["results"][str(latent)] = kept | {"edited": bool(edits)}
        if time.monotonic() - saved > _SAVE_SECONDS:
            _save(store, record, session)
            saved = time.monotonic()

    try:
        prober = engine_prober(engine, prepared)
        roles = _roles(prepared, materials, session, prober=prober)
        explain_and_score(
            materials, roles, session=session, given=edits, on_result=keep, progress=progress
        )
        if not edits:
            for kind in prepared.controls:
                record["controls"][kind] = _control(prepared, kind, session, progress)
        record["status"] = "done"
    except JobCancelled:
        record["status"] = "stopped"
        raise
    except BaseException:
        record["status"] = "failed"
        raise
    finally:
        _save(store, record, session)
        list_run(store, record)
    return record


def engine_prober(engine: Engine, prepared: Prepared) -> Prober:
    """Runs texts through the run's model, in a lease of their own."""
    gathered, request = prepared.gathered, prepared.request
    share = gathered.cfg.act_threshold_frac
    thresholds = {
        latent: share * float(gathered.windows[latent].top.acts.max(initial=0))
        for latent in gathered.cfg.latents
    }

    def probe(latent: int, texts: Any) -> list[Example]:
        with engine.use(request.model, [request.sae]) as (model, (sae,)):
            return ModelProber(model, sae, thresholds)(latent, texts)

    return probe


def _roles(
    prepared: Prepared,
    materials: Mapping[int, Material],
    session: ChatSession | None,
    *,
    prober: Prober | None,
    control: str = "",
) -> Roles:
    """Who does what for the latents, or for the units of a kind of control."""
    view, cfg = prepared.request.view, prepared.gathered.cfg
    chat = session or ChatSession(ChatEndpoint())
    explainer: Explainer
    if view.explainer == "chat":
        explainer = ChatExplainer(chat, cfg, options=options_of(view.switches))
    elif view.explainer == "scope":
        found = prepared.scoped_controls[control] if control else prepared.scoped
        explainer = PreparedExplainer(found)
    else:
        examples = {latent: it.evidence.examples for latent, it in materials.items()}
        explainer = LexicalExplainer(examples)
    room = cfg.thinking_tokens
    judge = ChatJudge(chat, thinking_tokens=room) if view.judge == "chat" else LexicalJudge()
    scorers: list[Scorer] = []
    if not control:
        if "fuzzing" in view.scores:
            asks = view.judge == "chat"
            marks = ChatMarksJudge(chat, thinking_tokens=room) if asks else LexicalJudge()
            scorers.append(Fuzzing(marks, seed=cfg.seed))
        if "neighbours" in view.scores:
            scorers.append(NeighbourPrecision(judge, seed=cfg.seed))
        if "generation" in view.scores:
            scorers.append(Generation(chat, prober or _no_prober, thinking_tokens=room))
        if "simulation" in view.scores:
            scorers.append(Simulation(chat, thinking_tokens=room))
    revises = "revision" in view.scores and not control
    most = cfg.max_tokens_in_explanation
    reviser = Reviser(chat, max_tokens=most, thinking_tokens=room) if revises else None
    return Roles(explainer, judge, scorers, reviser, cfg.seed)


def options_of(switches: tuple[str, ...]) -> ExplainerOptions:
    """What the chat model is told beyond the marked texts."""
    return ExplainerOptions(
        activations="strengths" in switches,
        demonstrations="kinds" in switches,
        chain_of_thought="thoughts" in switches,
    )


def _control(
    prepared: Prepared,
    kind: str,
    session: ChatSession | None,
    progress: Progress,
) -> list[Record]:
    """Explanation and numbers of each unit of a kind of control."""
    units = prepared.controls[kind]
    roles = _roles(prepared, units, session, prober=None, control=kind)
    found = explain_and_score(units, roles, session=session, progress=progress)
    names = ("explanation", "status", "numbers", "error", "unreadable")
    return [{"unit": unit} | {name: it[name] for name in names} for unit, it in found.items()]


def _no_prober(latent: int, texts: Any) -> list[Example]:
    raise ValueError("An estimate runs no texts.")


def _new_record(prepared: Prepared, service: Service | None) -> Record:
    request, gathered = prepared.request, prepared.gathered
    view = request.view
    asked = view.chat_model or "chat model" if request.asks else ""
    who = {
        "words": "words of the examples",
        "chat": asked,
        "scope": f"{request.explaining_model} itself",
    }
    judged = {"words": "matching words", "chat": asked}[view.judge]
    n = len(gathered.cfg.latents)
    subject = f"latent {gathered.cfg.latents[0]}" if n == 1 else f"{n} latents"
    return {
        "id": request.id,
        "base": request.id,
        "edits": {},
        "title": f"{subject}, explained by {who[view.explainer]}, judged by {judged}",
        "model": request.model,
        "release": request.sae[0],
        "sae": request.sae[1],
        "fingerprint": gathered.sae_fingerprint,
        "d_sae": gathered.d_sae,
        "settings": asdict(view),
        "latents": gathered.cfg.latents,
        "speaker": request.explaining_model,
        "service": request.service if request.asks else "",
        "chat_model": service.endpoint.model if service is not None else "",
        "corpus": request.corpus.name,
        "tokens": int(gathered.token_set.lengths.sum()),
        "n_silent": gathered.n_silent,
        "notes": list(gathered.notes),
        "status": "running",
        "results": {},
        "controls": {},
        "spending": {},
        "adapted": [],
        "readers": {"bodies": READER_VERSION, "texts": PARSER_VERSION},
    }


def _save(store: Store, record: Record, session: ChatSession | None) -> None:
    if session is not None:
        record["spending"] = session.spending.figures()
        record["adapted"] = list(session.adapted)
    save_record(store, record)


__all__ = ["Prepared", "Service", "engine_prober", "estimate", "prepare", "run"]
