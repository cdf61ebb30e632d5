"""Examples of autointerp without a model, for tests of questions and answers alone."""

from collections.abc import Sequence
from typing import Any

from core.autointerp.examples import Example
from core.autointerp.roles import Evidence, Material


class Letters:
    """Has what `Example` asks of a model."""

    def to_str_tokens(self, tokens: Any) -> list[str]:
        """Token n is the letter n of the alphabet."""
        return [f" {chr(97 + int(token) % 26)}{int(token)}" for token in tokens]


def stub_example(tokens: Sequence[int], active: bool, source: str = "top") -> Example:
    """An example whose second token is active or not."""
    acts = [0.0] * len(tokens)
    acts[1] = 1.0 if active else 0.0
    return Example(tokens, acts, 0.5, Letters(), source=source)  # type: ignore[arg-type]


def stub_materials(n: int) -> dict[int, Material]:
    """Materials of `n` latents, all different: 3 examples shown, 2 active and 4 silent to score."""
    found = {}
    for latent in range(n):
        tokens = [[100 * latent + 10 * i + j for j in range(5)] for i in range(9)]
        shown = [stub_example(row, True) for row in tokens[:3]]
        scoring = [stub_example(row, True) for row in tokens[3:5]]
        scoring += [stub_example(row, False, "random") for row in tokens[5:]]
        found[latent] = Material(Evidence(latent, shown), scoring)
    return found
