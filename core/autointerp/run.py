"""A run from beginning to end: the work of a job, kept as it goes."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict

from core.autointerp.chat import ChatExplainer, ChatJudge
from core.autointerp.examples import Example
from core.autointerp.explain import Result, Roles, explain_and_score, first_requests
from core.autointerp.fuzzing import ChatMarksJudge, Fuzzing
from core.autointerp.generation import Generation, ModelProber, Prober, Reviser
from core.autointerp.lexical import LexicalExplainer, LexicalJudge, PreparedExplainer
from core.autointerp.negatives import NeighbourPrecision
from core.autointerp.output_choice import ChatSetJudge, OutputChoice
from core.autointerp.parsing import PARSER_VERSION
from core.autointerp.prepare import Prepared
from core.autointerp.prompts import ExplainerOptions
from core.autointerp.record import Record, edited_id, list_run, result_with_examples, save_record
from core.autointerp.roles import Explainer, Material, Scorer
from core.autointerp.service import Service
from core.autointerp.simulation import Simulation
from core.autointerp.steered import steered_sets
from core.jobs.progress import JobCancelled, Progress
from core.lease import Lease
from core.llm import ChatEndpoint, ChatSession, Estimate, estimate_requests
from core.llm.reading import READER_VERSION
from core.store import Store

_SAVE_SECONDS = 3.0


def estimate(prepared: Prepared, service: Service) -> Estimate:
    """What the run will ask at most, if nothing is stored and every answer can be read."""
    session = ChatSession(service.endpoint)
    tokens = prepared.found.cfg.max_tokens_in_explanation
    roles = _roles(prepared, prepared.materials, session)
    requests = first_requests(prepared.materials, roles, explanation_tokens=tokens)
    for kind, units in prepared.controls.items():
        plain = _roles(prepared, units, session, control=kind)
        requests += first_requests(units, plain, explanation_tokens=tokens)
    return estimate_requests(requests, service.price)


def run(
    lease: Lease,
    store: Store,
    prepared: Prepared,
    service: Service | None,
    *,
    parent: Record | None = None,
    edits: Mapping[int, str] | None = None,
) -> Record:
    """Explain and score; the record is kept every few seconds, and whatever ends the run.

    The lease has the request's model and SAE. With `edits`, these explanations are scored, and the
    rest is taken over from `parent`.

    Raises:
        JobCancelled: through the lease's progress; the record says `stopped` and holds what is
            done.
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
        done = result_with_examples(result, materials[latent])
        record["results"][str(latent)] = done | {"edited": bool(edits)}
        if time.monotonic() - saved > _SAVE_SECONDS:
            _save(store, record, session)
            saved = time.monotonic()

    try:
        found = prepared.found
        thresholds = {latent: found.threshold(latent) for latent in found.cfg.latents}
        sets = _sets(lease, store, prepared) if "output" in prepared.request.view.scores else None
        prober = ModelProber(lease, thresholds)
        roles = _roles(prepared, materials, session, prober=prober, sets=sets)
        explain_and_score(
            materials, roles, session=session, given=edits, on_result=keep, progress=lease.progress
        )
        if not edits:
            for kind in prepared.controls:
                record["controls"][kind] = _control(prepared, kind, session, lease.progress)
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


def _roles(
    prepared: Prepared,
    materials: Mapping[int, Material],
    session: ChatSession | None,
    *,
    prober: Prober | None = None,
    sets: Mapping[int, Sequence[Example]] | None = None,
    control: str = "",
) -> Roles:
    """Who does what for the latents, or for the units of a kind of control."""
    view, cfg = prepared.request.view, prepared.found.cfg
    chat = session or ChatSession(ChatEndpoint())
    explainer: Explainer
    if view.explainer == "chat":
        explainer = ChatExplainer(chat, cfg, options=_options(view.switches))
    elif view.explainer == "scope":
        found = prepared.control_explanations[control] if control else prepared.explanations
        explainer = PreparedExplainer(found)
    else:
        examples = {latent: one.evidence.examples for latent, one in materials.items()}
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
        if "output" in view.scores:
            asks = view.judge == "chat"
            chooses = ChatSetJudge(chat, thinking_tokens=room) if asks else LexicalJudge()
            scorers.append(OutputChoice(chooses, sets or {}, seed=cfg.seed))
    revises = "revision" in view.scores and not control
    most = cfg.max_tokens_in_explanation
    reviser = Reviser(chat, max_tokens=most, thinking_tokens=room) if revises else None
    return Roles(explainer, judge, scorers, reviser, cfg.seed)


def _sets(lease: Lease, store: Store, prepared: Prepared) -> dict[int, list[Example]]:
    """Steered texts of the run's latents, and of others that they are told from."""
    found = prepared.found
    texts = steered_sets(lease, store, found.cfg.latents, found.d_sae, seed=found.cfg.seed)
    with lease.turn() as (model, _):
        return {
            latent: [Example(ids, [0.0] * len(ids), 0.0, model, source="steered") for ids in some]
            for latent, some in texts.items()
        }


def _options(switches: tuple[str, ...]) -> ExplainerOptions:
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
    roles = _roles(prepared, units, session, control=kind)
    found = explain_and_score(units, roles, session=session, progress=progress)
    names = ("explanation", "status", "numbers", "error", "unreadable")
    return [{"unit": unit} | {name: one[name] for name in names} for unit, one in found.items()]


def _no_prober(latent: int, texts: Sequence[str]) -> list[Example]:
    raise ValueError("An estimate runs no texts.")


def _new_record(prepared: Prepared, service: Service | None) -> Record:
    request, found = prepared.request, prepared.found
    view = request.view
    asked = view.chat_model or "chat model" if request.asks else ""
    who = {
        "words": "words of the examples",
        "chat": asked,
        "scope": f"{request.explaining_model} itself",
    }
    judged = {"words": "matching words", "chat": asked}[view.judge]
    n = len(found.cfg.latents)
    subject = f"latent {found.cfg.latents[0]}" if n == 1 else f"{n} latents"
    return {
        "id": request.id,
        "base": request.id,
        "edits": {},
        "title": f"{subject}, explained by {who[view.explainer]}, judged by {judged}",
        "model": request.model,
        "release": request.sae[0],
        "sae": request.sae[1],
        "fingerprint": found.sae_fingerprint,
        "d_sae": found.d_sae,
        "settings": asdict(view),
        "latents": found.cfg.latents,
        "speaker": request.explaining_model,
        "service": request.service if request.asks else "",
        "chat_model": service.endpoint.model if service is not None else "",
        "corpus": request.corpus.name,
        "tokens": int(found.token_set.lengths.sum()),
        "n_silent": found.n_silent,
        "notes": list(found.notes),
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
