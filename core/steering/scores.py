"""Output score: does a latent, made strong, make the model say the tokens that it pushes?

Arad, Mueller and Belinkov (EMNLP 2025, "SAEs are good for steering, if you select the right
features"): T are the 20 tokens with the highest logit-lens value of the decoder direction after the
final norm. At the last position of a neutral prompt, 10 times the largest activation of any latent
there is added to the latent. With p the next-token distribution,

    S_out = max over T of p_t · (1 - min over T of rank_t / V).

Only one number at the last position changes from latent to latent, so what comes before is read
once and hundreds of latents share a run of one position. Beside the authors' setting stands a
calibrated one: several prompts, each latent at the strength at which the predictions change by the
same KL divergence, and random directions treated alike as the null distribution.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from sae_lens import SAE
from torch import Tensor

from core.jobs.progress import Progress
from core.models import Model
from core.saes import head_of
from core.saes.site import rows_at_site
from core.saes.writes import residual_directions, stream_path, unit_writes
from core.steering.last_position import LastPosition
from core.steering.solve import solve_factors

AUTHORS_PROMPT = "From my experience,"
NEUTRAL_PROMPTS = (
    AUTHORS_PROMPT,
    "The next part is about",
    "This can be used to",
)
"""Beginnings that anything can follow; the first is the authors'."""


@dataclass(frozen=True)
class ScoreConfig:
    """How output scores are made."""

    prompts: tuple[str, ...] = NEUTRAL_PROMPTS
    """Prompts of the calibrated score; the authors' setting uses the first alone."""
    n_tokens: int = 20
    """Tokens pushed most that count as the latent's own."""
    factor: float = 10.0
    """Authors' setting: strength in largest activations at the last position."""
    kl: float = 0.5
    """Calibrated setting: mean KL(steered ‖ unsteered) over the prompts, in nats."""
    n_random: int = 256
    """Random directions of the null distribution."""
    seed: int = 0
    """Of those."""

    def __post_init__(self) -> None:
        if not self.prompts or not all(it.strip() for it in self.prompts):
            raise ValueError("A neutral prompt is empty; give one or more with a few words.")
        for name, least in (("n_tokens", 1), ("n_random", 1), ("seed", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} is {getattr(self, name)}; use {least} or more.")
        for name in ("factor", "kl"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(f"{name} is {getattr(self, name)}; use a number above 0.")


@dataclass(frozen=True, eq=False)
class OutputScores:
    """Output scores of some latents, or of random directions."""

    authors: Float[np.ndarray, " n"]
    """In the authors' setting, 0 to 1."""
    calibrated: Float[np.ndarray, " n"]
    """Mean over prompts at the same KL divergence; NaN where no strength reaches it."""
    strength: Float[np.ndarray, " n"]
    """That strength, in units of activation."""
    tokens: Int[np.ndarray, "n k"]
    """The tokens pushed most, likeliest first (int32)."""


@torch.no_grad()
def lens_tokens(
    model: Model, directions: Float[Tensor, "n d_model"], k: int = 20
) -> Int[Tensor, "n k"]:
    """Tokens with the highest value of the unembedding of each direction after the final norm."""
    W_U, b_U = model.W_U, getattr(model, "b_U", None)
    k = min(k, W_U.shape[1])
    found = []
    step = max(1, (64 << 20) // (4 * W_U.shape[1]))
    for part in directions.split(step):
        normed = model.ln_final(part.to(W_U)[None])[0]
        logits = (normed @ W_U).float()
        if isinstance(b_U, Tensor):
            logits = logits + b_U.float()
        found.append(logits.topk(k, dim=-1).indices)
    return torch.cat(found)


@torch.no_grad()
def output_scores(
    model: Model,
    sae: SAE,
    latents: Sequence[int] | None = None,
    *,
    config: ScoreConfig | None = None,
    progress: Progress | None = None,
) -> tuple[OutputScores, OutputScores]:
    """Output scores of latents (all, if None), and of `config.n_random` random directions.

    Random directions are as long as the latents' writes are in the median, and have the tokens that
    they push themselves.

    Raises:
        ValueError: a latent that does not exist, an SAE whose latents do not write to the stream, a
            transcoder that reads after it writes.
    """
    config = config or ScoreConfig()
    chosen = list(range(int(sae.cfg.d_sae))) if latents is None else list(latents)
    prompts = [LastPosition(model, sae, text) for text in config.prompts]
    own = scored(
        prompts,
        unit_writes(sae, chosen),
        residual_directions(model, sae, chosen),
        config,
        progress=progress,
    )
    writes, directions = random_rows(model, sae, config)
    return own, scored(prompts, writes, directions, config, progress=progress)


def random_rows(
    model: Model, sae: SAE, config: ScoreConfig
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n d_model"]]:
    """Random directions at the SAE's site, and what they add to the stream."""
    everything = unit_writes(sae, range(int(sae.cfg.d_sae)))
    generator = torch.Generator().manual_seed(config.seed)
    drawn = torch.randn(config.n_random, everything.shape[1], generator=generator).to(everything)
    length = everything.norm(dim=-1).median()
    writes = drawn / drawn.norm(dim=-1, keepdim=True) * length
    return writes, _to_stream(model, sae, writes)


def _to_stream(model: Model, sae: SAE, writes: Float[Tensor, "n d"]) -> Float[Tensor, "n d_model"]:
    """What rows at the SAE's site add to the stream, as `residual_directions` says of latents."""
    path = stream_path(model, sae)
    if head_of(sae) is not None:
        shape = int(model.cfg.n_heads), int(model.cfg.d_head)
        writes = rows_at_site(sae, writes, shape)
    return path.directions(writes)


@torch.no_grad()
def scored(
    prompts: Sequence[LastPosition],
    writes: Float[Tensor, "n d"],
    directions: Float[Tensor, "n d_model"],
    config: ScoreConfig,
    *,
    progress: Progress | None = None,
) -> OutputScores:
    """Scores of directions: `writes` at the SAE's site, `directions` in the stream."""
    first, n = prompts[0], len(writes)
    authors, tokens = authors_scores(first, writes, directions, config)

    latest = torch.full((n,), torch.nan, dtype=torch.float64)

    def divergence(rows: Tensor, factors: Tensor) -> Tensor:
        if progress is not None:
            progress.check()
        some, own = writes[rows.to(writes.device)], tokens[rows.to(tokens.device)]
        kl, scores = zip(*(_effect(it, some, factors, own) for it in prompts), strict=True)
        # Where it is the strength wanted, this is the score.
        latest[rows] = torch.stack(scores).mean(0)
        return torch.stack(kl).mean(0)

    lengths = writes.norm(dim=-1).double().cpu()
    start = 0.5 * first.length / lengths.clamp_min(1e-9)
    wanted = torch.full((n,), config.kl, dtype=torch.float64)
    strength = solve_factors(divergence, wanted, start)
    strength[lengths == 0] = torch.nan
    authors[lengths == 0] = torch.nan
    calibrated = torch.where(strength.isnan(), torch.nan, latest)
    return OutputScores(
        authors=authors.numpy(),
        calibrated=calibrated.numpy(),
        strength=strength.numpy(),
        tokens=tokens.int().cpu().numpy(),
    )


@torch.no_grad()
def authors_scores(
    prompt: LastPosition,
    writes: Float[Tensor, "n d"],
    directions: Float[Tensor, "n d_model"],
    config: ScoreConfig,
) -> tuple[Float[Tensor, " n"], Int[Tensor, "n k"]]:
    """Output scores in the authors' setting alone, on one prompt, and the tokens pushed most."""
    tokens = lens_tokens(prompt.model, directions, config.n_tokens)
    strengths = torch.full((len(writes),), config.factor * prompt.largest, dtype=torch.float64)
    return _effect(prompt, writes, strengths, tokens)[1], tokens


def p_values(
    own: Float[np.ndarray, " n"], null: Float[np.ndarray, " m"]
) -> Float[np.ndarray, " n"]:
    """Share of random directions that score as high, the score itself counted with them; NaN where
    there is no score."""
    known = np.sort(null[np.isfinite(null)])
    above = len(known) - np.searchsorted(known, own, side="left")
    return np.where(np.isfinite(own), (above + 1) / (len(known) + 1), np.nan)


def output_score(
    probs: Float[Tensor, "n vocab"], tokens: Int[Tensor, "n k"]
) -> Float[Tensor, " n"]:
    """S_out of next-token distributions and the tokens that count for each."""
    best = probs.gather(1, tokens.to(probs.device)).amax(1)
    # The likeliest of the tokens is the one of the lowest rank.
    rank = (probs > best[:, None]).sum(1)
    return best * (1 - rank / probs.shape[1])


def _effect(
    prompt: LastPosition, writes: Tensor, strengths: Tensor, tokens: Tensor
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Divergence from the unsteered prediction, and output score."""
    divergences, scores = [], []
    for start in range(0, len(writes), prompt.rows_at_once):
        some = slice(start, start + prompt.rows_at_once)
        log_probs = prompt.log_probs(writes[some], strengths[some])
        probs = log_probs.exp()
        scores.append(output_score(probs, tokens[some]))
        gap = (log_probs - prompt.unsteered).masked_fill_(probs == 0, 0.0)
        divergences.append(torch.linalg.vecdot(probs, gap))
    return torch.cat(divergences).double().cpu(), torch.cat(scores).double().cpu()
