"""Is an SAE read where it was trained? What it does to a text, and what would fit better.

- `check`, `sums`, `loss`: L0, unexplained variance, silent latents and loss recovered, by row
- `sites`: neighbouring sites and other scales of the input, on which the SAE is tried
- `result`, `sentences`: what was found, and the sentences of it
- `on_text`: the check behind the card, made once and kept
"""

from typing import TYPE_CHECKING

from core.lazy import lazily

if TYPE_CHECKING:  # they bring torch
    from core.fit_check.check import Checking, check_fit
    from core.fit_check.result import FitCheck

__all__ = ["Checking", "FitCheck", "check_fit"]
__getattr__ = lazily(__name__, {"Checking": "check", "FitCheck": "result", "check_fit": "check"})
