"""How strong is strong? Strengths in units that compare, and the one at a given KL divergence.

Only the last makes two latents comparable: the strength at which the steered predictions differ
from the unsteered ones by so many nats.
"""

import math
from collections.abc import Callable, Sequence

import torch
from sae_lens import SAE
from torch import Tensor

from core.models import Model
from core.steering.effects import Reference, divergences, reference_text
from core.steering.intervention import SOLVABLE, Intervention
from core.steering.prompt import steer_prompt
from core.steering.solve import solve_factors
from core.steering.steerer import Steerer
from core.steering.view import UNITS


def resolved(
    base: Intervention,
    strength: float,
    unit: str,
    largest: Sequence[float] | None = None,
) -> Intervention:
    """The intervention at one strength in a unit (all but `kl`, which `solved` is for).

    `base` says what is done; its own strengths do not matter. `largest` holds the largest
    activation of each latent in the text that was read, for the unit of that name. In mode `scale`
    the strength is the factor, whatever the unit.

    Raises:
        ValueError: an unknown unit, a strength that is not finite, or a latent that never was
            active where its largest activation is asked for.
    """
    if unit not in UNITS or unit == "kl":
        raise ValueError(f"The unit {unit!r} is none of largest, absolute, stream; choose one.")
    if not math.isfinite(strength):
        raise ValueError(f"The strength is {strength}; give a finite number.")
    n = len(base.latents)
    if base.mode in ("scale", "ablate") or unit == "absolute":
        return base.with_strengths((strength,) * n)
    if unit == "stream":
        return Intervention(base.latents, (strength,) * n, base.mode, base.place, True, base.random)
    if largest is None or len(largest) != n:
        raise ValueError(
            "The largest activations of these latents are not known; read a text for them first, "
            "or choose another unit."
        )
    for latent, peak in zip(base.latents, largest, strict=True):
        if not peak > 0:
            raise ValueError(
                f"Latent {latent} was never active in the text that was read, so it has no largest "
                "activation; give strengths in another unit."
            )
    return base.with_strengths(tuple(strength * peak for peak in largest))


def solved(
    model: Model,
    sae: SAE,
    interventions: Sequence[Intervention],
    reference: Reference,
    target: float | Sequence[float],
    *,
    n_prompt: int,
    n_leading: int = 0,
    check: Callable[[], None] | None = None,
) -> list[float]:
    """What each intervention's strengths are multiplied by for a mean KL of `target` (± 2 %).

    A negative target asks for negative strengths. All interventions are solved together, in
    batches. NaN where no strength reaches the target.

    Raises:
        ValueError: a mode without a strength to solve for, a target of 0 or not finite.
    """
    n = len(interventions)
    if isinstance(target, int | float):
        targets = [float(target)] * n
    else:
        targets = [float(it) for it in target]
    for wanted in targets:
        if not math.isfinite(wanted) or wanted == 0:
            raise ValueError(
                f"The KL divergence asked for is {wanted}; give a number other than 0, negative to "
                "steer away."
            )
    for it in interventions:
        if it.mode not in SOLVABLE:
            raise ValueError(
                f"The mode {it.mode} has no strength that grows with the KL divergence; choose "
                "add, set, least or renormalise, or another unit."
            )
    signs = [math.copysign(1.0, wanted) for wanted in targets]

    def divergence(rows: Tensor, factors: Tensor) -> Tensor:
        pairs = zip(rows.tolist(), factors.tolist(), strict=True)
        tried = [interventions[row].times(signs[row] * factor) for row, factor in pairs]
        steerer = Steerer(model, sae, tried, n_prompt=n_prompt, n_leading=n_leading)
        return divergences(model, steerer, range(len(tried)), reference, check=check)

    wanted_kl = torch.tensor(targets, dtype=torch.float64).abs()
    factors = solve_factors(divergence, wanted_kl, torch.ones(n, dtype=torch.float64))
    return [sign * factor for sign, factor in zip(signs, factors.tolist(), strict=True)]


def strengths_at_kl(
    model: Model,
    sae: SAE,
    interventions: Sequence[Intervention],
    text: str,
    *,
    target: float,
) -> list[tuple[float, ...]]:
    """Strengths at which each intervention changes the predictions in `text` by `target` nats.

    `solved`, for a notebook: the strengths given say how those of several latents relate. Raises as
    `solved` and `steer_prompt`.
    """
    prompt = steer_prompt(model, sae, text)
    reference = reference_text(model, prompt.tensor(model), prompt.n_leading)
    factors = solved(
        model,
        sae,
        interventions,
        reference,
        target,
        n_prompt=len(prompt.tokens),
        n_leading=prompt.n_leading,
    )
    return [
        tuple(factor * strength for strength in it.strengths)
        for it, factor in zip(interventions, factors, strict=True)
    ]


def first_changed(base: Intervention, prompt_length: int, n_leading: int) -> int:
    """First position of a text whose prediction the intervention can change."""
    kind = base.place.kind
    if kind == "after":
        return prompt_length - 1
    if kind == "tokens":
        return min(base.place.positions)
    return min(n_leading, prompt_length - 1)
