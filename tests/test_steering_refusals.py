"""What cannot be steered costs one sentence."""

from collections.abc import Callable

import pytest
from sae_lens import SAE

from core.models import Model
from core.steering.intervention import MODES, Intervention, Place
from core.steering.steerer import Steerer
from core.steering.view import UNITS, SteerView, check_unit


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: Intervention((1,), (float("nan"),)), "The strength is nan; give a finite"),
        (lambda: Intervention((1, 1), (1.0, 1.0)), "named twice"),
        (lambda: Intervention((1,), ()), "one strength for each latent"),
        (lambda: Intervention((1,), (1.0,), "push"), "none of add, set"),
        (lambda: Intervention((1,), (1.0,), "scale", of_stream=True), "no strength in lengths"),
        (lambda: Place("tokens"), "No token of the prompt is chosen"),
        (lambda: Place("where"), "has to be active"),
    ],
)
def test_what_cannot_be_done_is_said(make: Callable[[], object], sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        make()


def test_latents_and_tokens_that_are_not_there(tiny_model: Model, tiny_sae: SAE) -> None:
    with pytest.raises(ValueError, match="There is no latent 64; this SAE has 64"):
        Steerer(tiny_model, tiny_sae, [Intervention((64,), (1.0,))], n_prompt=3)
    gated = Intervention((1,), (1.0,), place=Place("where", latent=99))
    with pytest.raises(ValueError, match="There is no latent 99"):
        Steerer(tiny_model, tiny_sae, [gated], n_prompt=3)
    beyond = Intervention((1,), (1.0,), place=Place("tokens", (5,)))
    with pytest.raises(ValueError, match="no token 5 to steer; choose 0 to 2"):
        Steerer(tiny_model, tiny_sae, [beyond], n_prompt=3)


def test_a_unit_that_a_mode_has_no_strength_in_is_never_another_one() -> None:
    refused = {(mode, "kl") for mode in ("cap", "scale", "ablate")}
    refused |= {(mode, "stream") for mode in ("scale", "ablate")}
    for mode in MODES:
        for unit in UNITS:
            view = SteerView(mode=mode, unit=unit)
            if (mode, unit) in refused:
                with pytest.raises(ValueError, match="has no strength"):
                    check_unit(view)
            else:
                check_unit(view)
