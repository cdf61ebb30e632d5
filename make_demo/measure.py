"""What the model card says, measured: language, induction, SAE quality, reading vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from sae_lens import SAE
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GPT2LMHeadModel
from transformers.generation import GenerateDecoderOnlyOutput

from core.models import Model, cache_sites, run_with_replacements
from core.patch_scoping.reading import unigram_f1
from core.saes import encode, reconstruct
from make_demo.recipe import BOS_ID, SPECIAL_TOKENS, UNK_ID
from make_demo.trigram import KneserNeyTrigram
from make_demo.tuned_model import prompt_tokens
from make_demo.vectors import LatentWord, ResidualSample

SCALES = (0.5, 0.75, 1.0, 1.5, 2.0)
"""Norms of an injected direction, in multiples of the typical residual norm."""


@torch.no_grad()
def language_loss(
    model: GPT2LMHeadModel, tokens: np.ndarray, trigram: KneserNeyTrigram, *, context: int
) -> dict[str, float]:
    """Mean loss in nats of the model and of the trigram on the same predicted tokens.

    Windows do not overlap and start with BOS; the trigram always sees its two real predecessors.
    """
    n = len(tokens) // context
    windows = torch.from_numpy(tokens[: n * context].astype(np.int64)).view(n, context)
    given = windows.clone()
    given[:, 0] = BOS_ID
    losses = []
    for rows, wanted in zip(given.split(16), windows.split(16), strict=True):
        logits = model(rows.to(model.device)).logits[:, :-1].float()
        loss = F.cross_entropy(
            logits.flatten(0, 1), wanted[:, 1:].flatten().to(model.device), reduction="none"
        )
        losses.append(loss.cpu())
    surprise = -np.log(trigram.probabilities(tokens[: n * context]))
    # Position p of the text is entry p − 2 there; positions 0 of a window are not predicted.
    predicted = np.arange(2, n * context) % context != 0
    return {
        "model": float(torch.cat(losses).mean()),
        "trigram": float(surprise[predicted].mean()),
        "tokens": int(n * (context - 1)),
    }


@torch.no_grad()
def induction_losses(
    model: GPT2LMHeadModel, *, period: int = 60, rows: int = 64, seed: int = 7
) -> dict[str, float]:
    """Mean loss on the first and on the second copy of random tokens."""
    vocab_size = model.config.vocab_size
    period = min(period, model.config.n_positions // 2 - 1)
    generator = torch.Generator().manual_seed(seed)
    run = torch.randint(len(SPECIAL_TOKENS), vocab_size, (rows, period), generator=generator)
    tokens = torch.cat([torch.full((rows, 1), BOS_ID), run, run], 1)
    logits = model(tokens.to(model.device)).logits[:, :-1].float().cpu()
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten(), reduction="none")
    loss = loss.view(rows, -1)
    # The first token of the second copy cannot be known; copying starts with the one after it.
    return {
        "first_copy": float(loss[:, :period].mean()),
        "second_copy": float(loss[:, period + 1 :].mean()),
    }


@torch.no_grad()
def sae_quality(
    model: Model,
    sae: SAE,
    windows: Int[Tensor, "n context"],
    *,
    more_windows: Int[Tensor, "m context"],
) -> dict[str, float]:
    """L0, explained variance, loss recovered against zero ablation, and the dead fraction.

    BOS is left out everywhere: SAEs are neither trained nor put in there. `windows` are held-out
    text; a latent is dead when it fires neither there nor in `more_windows`.
    """
    hook_name = sae.cfg.metadata.hook_name
    windows, more_windows = (batch.to(sae.W_dec.device) for batch in (windows, more_windows))
    fired = torch.zeros(sae.cfg.d_sae, dtype=torch.bool)
    l0, error, n = 0.0, 0.0, 0
    values = []
    for rows in windows.split(16):
        site = cache_sites(model, rows, [hook_name])[hook_name][:, 1:]
        acts = encode(sae, site)
        fired |= (acts > 0).flatten(0, -2).any(0).cpu()
        l0 += float((acts > 0).sum())
        flat = site.flatten(2).flatten(0, 1)
        error += float((reconstruct(sae, site).flatten(2).flatten(0, 1) - flat).pow(2).sum())
        values.append(flat.cpu())
        n += len(flat)
    everything = torch.cat(values)
    variance = float((everything - everything.mean(0)).pow(2).sum())
    for rows in more_windows.split(16):
        site = cache_sites(model, rows, [hook_name])[hook_name][:, 1:]
        fired |= (encode(sae, site) > 0).flatten(0, -2).any(0).cpu()

    def spliced(site: Tensor) -> Tensor:
        return torch.cat([site[:, :1], reconstruct(sae, site[:, 1:]).view_as(site[:, 1:])], 1)

    def ablated(site: Tensor) -> Tensor:
        return torch.cat([site[:, :1], torch.zeros_like(site[:, 1:])], 1)

    some = windows[:64]
    clean = _loss(model, some, None, hook_name)
    with_sae = _loss(model, some, spliced, hook_name)
    without = _loss(model, some, ablated, hook_name)
    return {
        "l0": l0 / n,
        "explained_variance": 1 - error / variance,
        "loss_clean": clean,
        "loss_with_sae": with_sae,
        "loss_ablated": without,
        "loss_recovered": (without - with_sae) / (without - clean),
        "dead_fraction": float((~fired).float().mean()),
        "tokens": n,
        "tokens_for_dead": n + more_windows[:, 1:].numel(),
    }


def _loss(
    model: Model,
    windows: Int[Tensor, "n context"],
    replacement: Callable[[Tensor], Tensor] | None,
    hook_name: str,
) -> float:
    total = 0.0
    replacements = {} if replacement is None else {hook_name: replacement}
    for rows in windows.split(16):
        logits = run_with_replacements(model, rows, replacements)[:, :-1]
        total += float(
            F.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten(), reduction="sum")
        )
    return total / windows[:, 1:].numel()


@dataclass(frozen=True)
class ReadingScore:
    """How well the tuned model reads decoder directions of one SAE."""

    f1: float
    """Unigram F1 of the patched description with the model's own definition of the top token."""
    shuffled_f1: float
    """The same against the definition of another latent's token."""
    exact: float
    """Share of descriptions that are word for word the model's own definition."""
    n_latents: int
    """Latents scored."""
    examples: tuple[tuple[str, str, str], ...]
    """(token, own definition, patched description) of the first few latents."""


class VectorReader:
    """Greedy answers of the tuned model to a word, or to a vector in its place."""

    def __init__(
        self, model: GPT2LMHeadModel, tokenizer: Tokenizer, *, new_tokens: int = 30
    ) -> None:
        self.model, self.tokenizer, self.new_tokens = model, tokenizer, new_tokens

    @torch.no_grad()
    def define(self, token: int) -> str:
        """The model's own definition of a vocabulary word."""
        prompt = torch.tensor([prompt_tokens(self.tokenizer, [token])])
        return self._answers(prompt)[0][0]

    @torch.no_grad()
    def read(self, direction: Float[Tensor, " d_model"], *, layer: int, norm: float) -> str:
        """The answer at the scale whose text the model is surest of (mean log-probability)."""
        prompt = torch.tensor([prompt_tokens(self.tokenizer, [UNK_ID])] * len(SCALES))
        places = prompt[0] == UNK_ID
        unit = direction.float().cpu() / direction.norm().item()
        vectors = unit * norm * torch.tensor(SCALES)[:, None]

        def replace(_: torch.nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            hidden = arguments[0]
            if hidden.shape[1] > 1:  # the prefill; later tokens come one at a time
                hidden = hidden.clone()
                hidden[:, places] = vectors[:, None].to(hidden)
            return (hidden, *arguments[1:])

        handle = self.model.transformer.h[layer].register_forward_pre_hook(replace)
        try:
            answers = self._answers(prompt)
        finally:
            handle.remove()
        return max(answers, key=lambda answer: answer[1])[0]

    def _answers(self, prompt: Int[Tensor, "batch seq"]) -> list[tuple[str, float]]:
        prompt = prompt.to(self.model.device)
        model: Any = self.model  # its stubs refuse what `generate` accepts
        output: GenerateDecoderOnlyOutput = model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=self.new_tokens,
            do_sample=False,
            pad_token_id=BOS_ID,
            output_scores=True,
            return_dict_in_generate=True,
        )
        scores = torch.stack(list(output.scores or ()), 1).log_softmax(-1)
        answers = []
        for row, tokens in enumerate(output.sequences[:, prompt.shape[1] :]):
            text, kept = "", 0
            for kept in range(1, len(tokens) + 1):
                text = self.tokenizer.decode(tokens[:kept].tolist())
                if '"' in text:
                    break
            chosen = scores[row, :kept].gather(1, tokens[:kept, None])
            answers.append((text.split('"')[0].strip(), float(chosen.mean())))
        return answers


def reading_score(
    reader: VectorReader,
    sae: SAE,
    latents: Sequence[LatentWord],
    sample: ResidualSample,
    *,
    layer: int,
    n_latents: int = 60,
    seed: int = 0,
) -> ReadingScore:
    """F1 over a random sample of word latents, against their own and against shuffled tokens."""
    order = np.random.default_rng(seed).permutation(len(latents))[:n_latents]
    chosen = [latents[i] for i in order]
    if len(chosen) < 2:
        return ReadingScore(0.0, 0.0, 0.0, len(chosen), ())
    own = [reader.define(item.token) for item in chosen]
    read = [
        reader.read(sae.W_dec[item.latent].detach(), layer=layer, norm=sample.typical_norm)
        for item in chosen
    ]
    shuffled = read[1:] + read[:1]
    names = [reader.tokenizer.decode([item.token]) for item in chosen]
    return ReadingScore(
        f1=float(np.mean([unigram_f1(a, b) for a, b in zip(read, own, strict=True)])),
        shuffled_f1=float(np.mean([unigram_f1(a, b) for a, b in zip(shuffled, own, strict=True)])),
        exact=float(np.mean([a == b for a, b in zip(read, own, strict=True)])),
        n_latents=len(chosen),
        examples=tuple(list(zip(names, own, read, strict=True))[:8]),
    )
