"""From what was typed to the request that the page would make of the same choices."""

import argparse
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from core.autointerp.view import FIRST, read_latents
from core.autointerp.view import LINK as AUTOINTERP
from core.dossier.view import LINK as DOSSIER
from core.dossier.view import DossierView
from core.latent.view import LINK as LATENT
from core.latent.view import LatentPageView
from core.link import Link
from core.run.task import Task
from core.sae_quality.view import LINK as SAE_PAGE
from core.sae_quality.view import SaePageView
from core.shell import Machine, corpus_for, entries_of, one_entry, text_choice, versions_of

if TYPE_CHECKING:  # brings torch
    from core.autointerp.service import Service
    from core.run.on_ray import RayHands

V = TypeVar("V")


def task_of(options: argparse.Namespace, machine: Machine) -> Task:
    """What is to be done. Raises ValueError, in a sentence, for what is not there."""
    make = {
        "index": _index,
        "quality": _quality,
        "map": _map,
        "autointerp": _autointerp,
        "dossier": _dossier,
    }
    return make[options.command](options, machine)


def _index(options: argparse.Namespace, machine: Machine) -> Task:
    model, entries = entries_of(machine, options.release, options.sae, options.model)
    choice = text_choice(machine, options.text, options.column)
    page = LatentPageView(corpus=choice.text, tokens=options.tokens, include_bos=options.bos)
    _checked(LATENT, page)
    from core.activations.text_index import IndexRequest
    from core.run.index import IndexTask

    request = IndexRequest(
        model=model,
        saes=versions_of(entries),
        corpus=corpus_for(machine, choice),
        tokens=options.tokens,
        include_bos=options.bos,
    )
    hands = _hands(options, machine)
    return IndexTask(machine, request, tuple(entries), choice.text, options.firings, hands)


def _hands(options: argparse.Namespace, machine: Machine) -> "RayHands | None":
    if options.ray is None:
        if options.workers or options.threads:
            raise ValueError(
                "--workers and --threads are for --ray; add it, or leave them out to use this "
                "process alone."
            )
        return None
    from core.run.cluster import ClusterOptions

    chosen = ClusterOptions(options.ray, options.workers, options.threads)
    chosen.check()
    import torch

    from core.run.on_ray import RayHands

    if options.threads:
        torch.set_num_threads(options.threads)
    hands = RayHands(chosen, machine.settings)
    machine.closing.callback(hands.close)
    return hands


def _quality(options: argparse.Namespace, machine: Machine) -> Task:
    model, entries = entries_of(machine, options.release, options.sae, options.model)
    choice = text_choice(machine, options.text, options.column)
    _checked(SAE_PAGE, SaePageView(corpus=choice.text, tokens=options.tokens))
    from core.run.quality import QualityTask
    from core.sae_quality.run import QualityRequest

    corpus = corpus_for(machine, choice)
    request = QualityRequest(model, versions_of(entries), corpus, options.tokens)
    hands = _hands(options, machine)
    return QualityTask(machine, request, tuple(entries), choice.text, hands)


def _map(options: argparse.Namespace, machine: Machine) -> Task:
    from core.splitting.members import first_labels, members_of
    from core.splitting.view import MapView
    from core.view.selection import Selection

    if not options.sae:
        raise ValueError(
            "Say which SAEs lie on the map: one with --sae for its family of widths, or several."
        )
    model, entries = entries_of(machine, options.release, options.sae, options.model)
    first = entries[0]
    members = members_of(machine.choices(first), Selection(model, *first.key), first)
    label_of = {member.entry.key: member.label for member in members}
    elsewhere = next((entry for entry in entries if entry.key not in label_of), None)
    if elsewhere is not None:
        raise ValueError(
            f"{elsewhere.sae_id} reads another site than {first.sae_id} ({elsewhere.hook_name}, "
            f"{first.hook_name}); a map has SAEs of one site."
        )
    chosen = {label_of[entry.key] for entry in entries}
    labels = set(first_labels(members, first)) if len(entries) == 1 else chosen
    if not chosen <= labels:
        raise ValueError(
            f"{first.sae_id} belongs to no family of widths here; name with --sae every SAE that "
            f"is to lie on its map, such as: {first.sae_id} {min(labels)}."
        )
    view = MapView(
        saes=tuple(member.label for member in members if member.label in labels),
        n_neighbors=options.neighbors,
        min_dist=options.min_dist,
        clusters=options.clusters,
        n_neighbors_cluster=options.neighbors,
        min_cluster_size=options.min_cluster_size,
        seed=options.seed,
        hide_dead=options.hide_dead,
    )
    from core.corpus import docs_sample
    from core.run.map import MapTask
    from core.splitting.map_config import MapConfig
    from core.splitting.map_data import MapRequest

    config = MapConfig(**{name: getattr(view, name) for name in MapConfig.__annotations__})
    on_map = tuple(member for member in members if member.label in view.saes)
    request = MapRequest(model, on_map, config, docs_sample(), options.hide_dead)
    return MapTask(machine, request, tuple(member.entry for member in on_map), view, first)


def _autointerp(options: argparse.Namespace, machine: Machine) -> Task:
    entry = one_entry(machine, options.release, options.sae)
    choice = text_choice(machine, options.text, options.column)
    view = _checked(
        AUTOINTERP,
        replace(
            FIRST,
            **_latents(options.latents),
            explainer=options.explainer,
            judge=options.judge,
            scores=tuple(options.scores),
            switches=tuple(options.tell),
            controls=not options.no_controls,
            chat_model=options.chat_model,
            corpus=choice.text,
            total_tokens=options.tokens,
            seed=options.seed,
        ),
    )
    from core.autointerp.request import RunRequest, relevant
    from core.patch_scoping.question import speakers
    from core.run.autointerp import AutointerpTask

    service = _service(options) if "chat" in (view.explainer, view.judge) else None
    speaker = speakers(machine.choices(entry), entry, machine.catalog)[0].name
    request = RunRequest(
        model=options.model or entry.model,
        sae=entry.key,
        version=entry.version,
        latent=view.latents[0] if view.latents else 0,
        view=relevant(view),
        corpus=corpus_for(machine, choice),
        service="" if service is None else service.endpoint.url,
        speaker=speaker,
        demo=machine.catalog.model(speaker).source == "demo",
    )
    return AutointerpTask(machine, request, (entry,), service)


def _dossier(options: argparse.Namespace, machine: Machine) -> Task:
    entry = one_entry(machine, options.release, options.sae)
    choice = text_choice(machine, options.text, options.column)
    page = DossierView("batch", choice.text, options.tokens, options.latents)
    view = _checked(DOSSIER, page)
    from core.dossier.batch import MOST_LATENTS
    from core.dossier.plan import request_for
    from core.patch_scoping.view import parse_latents
    from core.run.dossier import DossierTask

    latents = parse_latents(options.latents, width=entry.width or 1 << 21)
    if len(latents) > MOST_LATENTS:
        raise ValueError(
            f"There are {len(latents)} latents; a batch takes at most {MOST_LATENTS}, so choose "
            "fewer."
        )
    first = request_for(
        machine.catalog,
        machine.choices(entry),
        entry,
        latents[0],
        corpus_for(machine, choice),
        model=options.model,
        tokens=options.tokens,
    )
    requests = tuple(first.of(latent) for latent in latents)
    return DossierTask(machine, requests, (entry,), view)


def _service(options: argparse.Namespace) -> "Service":
    from core.autointerp.service import Service, Typed, endpoint_of

    typed = Typed(
        url=options.url,
        prompt_price=options.prompt_price,
        completion_price=options.completion_price,
        dollars=options.budget,
        calls=options.questions,
    )
    endpoint = endpoint_of(typed, options.chat_model, environment=os.environ, secrets={})
    if endpoint is None:
        raise ValueError(
            "No chat service is set up: set OPENAI_API_KEY, or OPENAI_BASE_URL to a service of "
            "your own, or give --url of one that asks for no key."
        )
    return Service(endpoint, typed.budget, typed.price)


def _latents(text: str) -> dict[str, Any]:
    """Fields of the view that say which latents: `3, 10-14`, or `50 random`."""
    words = text.split()
    if len(words) == 2 and words[1] == "random":
        if not (words[0].isascii() and words[0].isdigit()):
            raise ValueError(f"{text[:40]!r} is no number of latents; write it as 50 random.")
        return {"choose": "random", "n_random": int(words[0])}
    try:
        latents = read_latents(text)
    except ValueError as error:
        raise ValueError(f"These latents cannot be used: {error}") from None
    if not latents:
        raise ValueError('--latents names none; write them as "3, 10-14" or "50 random".')
    return {"choose": "list", "latents": latents}


def _checked(link: Link[V], view: V) -> V:
    """The view, if the page takes it in a link. Raises ValueError with the page's sentence."""
    found, problems = link.parse(link.to_parameters(view))
    if problems:
        raise ValueError(problems[0].replace(" in this link", ""))
    return found
