"""What a run of autointerp is told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class AutoInterpConfig:
    """Which latents, and how many examples they are explained and scored with."""

    latents: list[int]
    """Latents to explain."""
    buffer: int = 10
    """Tokens on either side of an example's middle: examples have 2 · buffer + 1."""
    no_overlap: bool = False
    """Whether the strongest examples of one row must be more than `buffer` tokens apart. Examples
    for scoring never share text with those for generation, whatever this says."""
    act_threshold_frac: float = 0.1
    """Tokens above this share of the latent's largest activation are active."""
    total_tokens: int = 500_000
    """Tokens to run."""
    scoring: bool = False
    """Whether explanations are scored."""
    max_tokens_in_explanation: int = 25
    """Tokens of an explanation, without `thinking_tokens`."""
    use_examples_in_explanation_prompt: bool = True
    """Whether the prompt quotes three explanations as examples."""
    n_top_ex_for_generation: int = 10
    """Strongest examples that the explainer sees."""
    n_top_ex_for_scoring: int = 4
    """Other strong examples, to be told from random ones."""
    n_random_ex_for_scoring: int = 8
    """Random examples; one in which the latent happens to be active counts as active."""
    across_quantiles: bool = False
    """Whether the explainer sees examples from all quantiles of the activations, from strong to
    weak, instead of the strongest alone."""
    seed: int = 0
    """Of the random examples, the split, and the order of the scoring examples."""
    thinking_tokens: int = 4000
    """Room that chat models have for thoughts, beside every answer; 0 for models that have none."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "latents", [int(latent) for latent in self.latents])
        if not self.latents or min(self.latents) < 0:
            raise ValueError(f"The latents are {self.latents}; give one or more, from 0 up.")
        if len(set(self.latents)) < len(self.latents):
            raise ValueError(f"The latents {self.latents} name one twice; name each once.")
        if not 0 <= self.act_threshold_frac < 1:
            raise ValueError(
                f"act_threshold_frac is {self.act_threshold_frac}; use a share from 0 to below 1."
            )
        for name in ("buffer", "n_random_ex_for_scoring", "thinking_tokens"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; use 0 or more.")
        for name in (
            "n_top_ex_for_generation",
            "n_top_ex_for_scoring",
            "total_tokens",
            "max_tokens_in_explanation",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; use 1 or more.")

    @property
    def n_top_ex(self) -> int:
        """Strongest examples for both phases."""
        return self.n_top_ex_for_generation + self.n_top_ex_for_scoring

    @property
    def max_tokens_in_prediction(self) -> int:
        """Tokens of a list of numbers, each with a comma, without `thinking_tokens`."""
        return 2 * self.n_ex_for_scoring + 5

    @property
    def n_ex_for_scoring(self) -> int:
        """Examples to be told apart."""
        return self.n_top_ex_for_scoring + self.n_random_ex_for_scoring

    @property
    def n_latents(self) -> int:
        """Number of latents."""
        return len(self.latents)
