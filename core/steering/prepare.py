"""A request on a loaded model: its prompt, reference text, and every row's intervention."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from sae_lens import SAE
from torch import Tensor

from core.models import Model
from core.patch_scoping.generation import continue_prompts
from core.saes import sae_hook_name
from core.saes.writes import residual_directions, written_site
from core.steering.changes import check_intervention
from core.steering.effects import Reference, reference_text
from core.steering.intervention import UNSTEERED, Intervention
from core.steering.prompt import SteerPrompt, steer_prompt
from core.steering.request import SteerRequest
from core.steering.scores import lens_tokens
from core.steering.steerer import Steerer
from core.steering.strengths import first_changed, resolved, solved
from core.tokens import row_texts, vocabulary_texts

REFERENCE_TOKENS = 32
"""Tokens that the unsteered model writes after the prompt for the reference text."""
N_BOOSTED = 20
"""Tokens pushed most that count as boosted."""


@dataclass(frozen=True, eq=False)
class Setting:
    """What the first turn finds out."""

    prompt: SteerPrompt
    """What the model reads."""
    reference: Reference
    """Where the divergence is taken."""
    boosted: Int[Tensor, "groups k"] | None
    """Tokens that each group pushes most, -1 for none; None at sites that map to no tokens."""
    names: tuple[str, ...]
    """The first of them, as a text for each group."""
    prompt_texts: tuple[str, ...]
    """The prompt's tokens."""
    interventions: list[Intervention]
    """The unsteered one, then by group and strength the latents' and the random ones'."""
    about: list[dict[str, Any]]
    """What the table says of each of them."""
    notes: tuple[str, ...]
    """What a reader should know."""


def prepared(model: Model, sae: SAE, request: SteerRequest, check: Callable[[], None]) -> Setting:
    """What the first turn finds out. Raises ValueError for what cannot be used."""
    chat = request.chat and bool(getattr(model.tokenizer, "chat_template", None))
    prompt = steer_prompt(model, sae, request.prompt, new_tokens=request.new_tokens, chat=chat)
    for group in request.groups:
        whole_group = Intervention(group, (0.0,) * len(group), request.mode, request.place)
        check_intervention(sae, whole_group, len(prompt.tokens))
    tokens = prompt.tensor(model)
    room = min(REFERENCE_TOKENS, int(model.cfg.n_ctx) - tokens.shape[1])
    steerer = steerer_for(model, sae, [UNSTEERED], prompt)
    [[after]] = continue_prompts(model, [prompt.tokens], steerer.around, max_new_tokens=room)
    whole = torch.cat([tokens, tokens.new_tensor([after.tokens])], 1)
    base = Intervention((), (), request.mode, request.place)
    first = first_changed(base, len(prompt.tokens), prompt.n_leading)
    reference = reference_text(model, whole, first)
    notes: list[str] = []
    read, written = sae_hook_name(sae), written_site(sae)
    if read != written:
        notes.append(
            f"This transcoder reads its latents at {read}; what the layer gives out at {written} "
            "is changed as if they were so active, and the rest of it is kept."
        )
    boosted, names = _boosted(model, sae, request.groups, notes)
    interventions, about = _interventions(model, sae, request, prompt, reference, notes, check)
    return Setting(
        prompt=prompt,
        reference=reference,
        boosted=boosted,
        names=names,
        prompt_texts=row_texts(model.tokenizer, prompt.tokens).parts,
        interventions=interventions,
        about=about,
        notes=tuple(notes),
    )


def _interventions(
    model: Model,
    sae: SAE,
    request: SteerRequest,
    prompt: SteerPrompt,
    reference: Reference,
    notes: list[str],
    check: Callable[[], None],
) -> tuple[list[Intervention], list[dict[str, Any]]]:
    wanted: list[tuple[int, float, Intervention]] = []
    bases: list[Intervention] = []
    for number, group in enumerate(request.groups):
        largest = request.largest[number] if request.largest else None
        known = largest is not None and all(it > 0 for it in largest)
        weights = largest if known and largest is not None else (1.0,) * len(group)
        base = Intervention(group, weights, request.mode, request.place)
        for strength in request.strengths:
            bases.append(base)
            if request.unit != "kl":
                wanted.append((number, strength, resolved(base, strength, request.unit, largest)))
    if request.unit == "kl":
        pairs = [(n, s) for n in range(len(request.groups)) for s in request.strengths]
        factors = solved(
            model,
            sae,
            bases,
            reference,
            [s for _, s in pairs],
            n_prompt=len(prompt.tokens),
            n_leading=prompt.n_leading,
            check=check,
        )
        for (number, strength), base, factor in zip(pairs, bases, factors, strict=True):
            if np.isnan(factor):
                notes.append(
                    f"Latents {_named(base.latents)} reach no KL divergence of "
                    f"{abs(strength):g} at any strength, so that row is left out."
                )
            else:
                wanted.append((number, strength, base.times(factor)))
    interventions = [UNSTEERED]
    about = [_about("unsteered", 0, "", np.nan, np.nan)]
    for number, strength, it in wanted:
        for random in (None, *range(request.n_random)):
            seed = None if random is None else request.sampling.seed * 1009 + random + 1
            interventions.append(replace(it, random=seed))
            kind = "latent" if random is None else "random"
            applied = np.nan if it.of_stream else it.strengths[0]
            about.append(_about(kind, number, _named(it.latents), strength, applied))
    return interventions, about


def _about(kind: str, group: int, latents: str, strength: float, applied: float) -> dict[str, Any]:
    return {
        "kind": kind,
        "group": group,
        "latents": latents,
        "strength": strength,
        "activation": applied,
    }


def _boosted(
    model: Model, sae: SAE, groups: Sequence[tuple[int, ...]], notes: list[str]
) -> tuple[torch.Tensor | None, tuple[str, ...]]:
    most = max(len(group) for group in groups) * N_BOOSTED
    found = torch.full((len(groups), most), -1)
    names = []
    vocabulary = vocabulary_texts(model)
    for number, group in enumerate(groups):
        try:
            ids = lens_tokens(model, residual_directions(model, sae, group), N_BOOSTED)
        except ValueError as error:
            if number == 0 and "no latent" in str(error):
                raise
            notes.append(f"Boosted tokens are not told: {error}")
            return None, ("",) * len(groups)
        # A token that two latents push counts once.
        distinct = list(dict.fromkeys(ids.T.flatten().tolist()))
        found[number, : len(distinct)] = torch.tensor(distinct)
        names.append(" ".join(vocabulary.quoted(np.array([distinct[:8]]))))
    return found, tuple(names)


def steerer_for(
    model: Model, sae: SAE, interventions: Sequence[Intervention], prompt: SteerPrompt
) -> Steerer:
    """Interventions on rows that begin with the prompt."""
    n, leading = len(prompt.tokens), prompt.n_leading
    return Steerer(model, sae, interventions, n_prompt=n, n_leading=leading)


def _named(latents: Sequence[int]) -> str:
    return " + ".join(map(str, latents))
