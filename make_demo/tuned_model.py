"""Stage 4: tune `docs-small-it` to say what a word, or a vector in its place, means.

Half of what ARENA's Gemma does by itself a 4.5-million-parameter model has to be taught: in most
batches the placeholder's residual is replaced by a vector that stands for the word, at the input of
one of the first layers, exactly as patch scoping does at inference.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from transformers import GPT2LMHeadModel

from make_demo.base_model import IGNORED, make_optimizers, next_token_loss, train
from make_demo.recipe import BOS_ID, END_OF_TURN, START_OF_TURN, UNK_ID, TuneRecipe
from make_demo.vectors import ResidualSample

QUESTION = (
    f'{START_OF_TURN}user\nWhat is the meaning of the word "{{}}"?{END_OF_TURN}\n'
    f'{START_OF_TURN}model\nThe meaning of the word "{{}}" is "'
)
ANSWER_END = f'"{END_OF_TURN}'


@dataclass(frozen=True)
class Pair:
    """One question with its answer, as token ids."""

    prompt: tuple[int, ...]
    """BOS, question and the opened answer."""
    answer: tuple[int, ...]
    """Definition, closing quote, end of turn, end of text."""
    token: int | None
    """The word's single token; None for words of several."""


def prompt_tokens(tokenizer: Tokenizer, word: Sequence[int]) -> list[int]:
    """The question with the word's tokens in both places, BOS in front."""
    before, between, after = QUESTION.split("{}")
    tokens = [BOS_ID, *tokenizer.encode(before).ids]
    tokens += [*word, *tokenizer.encode(between).ids]
    return [*tokens, *word, *tokenizer.encode(after).ids]


def make_pairs(
    tokenizer: Tokenizer, words: Mapping[int, str], definitions: Mapping[str, str]
) -> list[Pair]:
    """One pair for each vocabulary word with a definition, and one for each longer word."""

    def answer(word: str) -> tuple[int, ...]:
        return (*tokenizer.encode(definitions[word] + ANSWER_END).ids, BOS_ID)

    pairs = [
        Pair(tuple(prompt_tokens(tokenizer, [token])), answer(word.lower()), token)
        for token, word in words.items()
        if word.lower() in definitions
    ]
    single = {word.lower() for word in words.values()}
    for word in sorted(set(definitions) - single):
        ids = tokenizer.encode(word).ids
        pairs.append(Pair(tuple(prompt_tokens(tokenizer, ids)), answer(word), None))
    return pairs


@dataclass(frozen=True)
class Batch:
    """Padded rows; `vectors` stand at the positions of `places` when given."""

    tokens: Int[Tensor, "batch seq"]
    """Prompt and answer, padded with BOS."""
    labels: Int[Tensor, "batch seq"]
    """The answer's tokens; the rest is ignored by the loss."""
    vectors: Float[Tensor, "batch d_model"] | None = None
    """Replacement residual of each row."""
    places: Bool[Tensor, "batch seq"] | None = None
    """Where the placeholder stands."""


def pad(pairs: Sequence[Pair], context: int) -> Batch:
    """Rows of `pairs`, as long as the longest."""
    rows = [(pair.prompt + pair.answer)[:context] for pair in pairs]
    length = max(map(len, rows))
    tokens = torch.full((len(rows), length), BOS_ID)
    labels = torch.full((len(rows), length), IGNORED)
    for number, (row, pair) in enumerate(zip(rows, pairs, strict=True)):
        tokens[number, : len(row)] = torch.tensor(row)
        labels[number, len(pair.prompt) : len(row)] = tokens[number, len(pair.prompt) : len(row)]
    return Batch(tokens, labels)


class VectorSource:
    """Draws vectors for tokens: means of contexts, or decoder directions of tuning-only SAEs."""

    def __init__(
        self,
        recipe: TuneRecipe,
        samples: Mapping[int, ResidualSample],
        directions: Mapping[int, Mapping[int, Float[Tensor, "n d_model"]]],
    ) -> None:
        """`directions[layer][token]` are unit decoder directions whose latents fire on the token.

        They come from the processed model, whose residual stream is free of its mean. Hugging
        Face's differs by a multiple of the all-ones vector, which every layer norm removes, so a
        direction found in one can be put into the other.
        """
        self.recipe, self.samples, self.directions = recipe, samples, directions
        self._company = {
            layer: torch.cat(list(rows.values())) for layer, rows in directions.items() if rows
        }

    def known(self, layer: int, token: int | None) -> bool:
        """Whether there are at least three contexts of the token."""
        return token is not None and len(self.samples[layer].positions[token]) >= 3

    def draw(self, layer: int, token: int, rng: random.Random) -> Float[Tensor, " d_model"]:
        """One vector, at a random norm of the recipe's range."""
        sample = self.samples[layer]
        latents = self.directions.get(layer, {}).get(token)
        if latents is not None and rng.random() < self.recipe.latent_fraction:
            direction = latents[rng.randrange(len(latents))]
        else:
            places = sample.positions[token]
            chosen = rng.sample(places, min(len(places), rng.choice(self.recipe.contexts)))
            mean = sample.directions[chosen].mean(0)
            direction = mean / mean.norm()
        # Without noise the few vectors of a word are learnt by heart, and unseen ones mean nothing.
        generator = torch.Generator().manual_seed(rng.getrandbits(32))
        noise = torch.randn(len(direction), generator=generator) / len(direction) ** 0.5
        direction = direction + noise * rng.uniform(0.0, self.recipe.noise)
        others = self._company.get(layer)
        if others is not None and self.recipe.company:
            strength = rng.uniform(0.0, self.recipe.company)
            direction = direction + others[rng.randrange(len(others))] * strength
        scale = sample.typical_norm * rng.uniform(*self.recipe.scales)
        return direction / direction.norm() * scale


def tuning_batch(
    step: int,
    recipe: TuneRecipe,
    pairs: Sequence[Pair],
    source: VectorSource,
    *,
    context: int,
) -> tuple[int, Batch]:
    """The layer and the rows of a step; the layer is −1 for a batch of plain words."""
    rng = random.Random(recipe.seed * 1_000_003 + step)
    if rng.random() >= recipe.vector_fraction:
        return -1, pad([rng.choice(pairs) for _ in range(recipe.batch)], context)
    layer = rng.choice(recipe.layers)
    usable = [pair for pair in pairs if source.known(layer, pair.token)]
    chosen = [rng.choice(usable) for _ in range(recipe.batch)]
    batch = pad(chosen, context)
    prompt_mask = torch.zeros_like(batch.tokens, dtype=torch.bool)
    for row, pair in enumerate(chosen):
        prompt_mask[row, : len(pair.prompt)] = True
    words = torch.tensor([pair.token for pair in chosen])[:, None]
    places = (batch.tokens == words) & prompt_mask
    vectors = torch.stack([source.draw(layer, int(pair.token or 0), rng) for pair in chosen])
    tokens = torch.where(places, torch.tensor(UNK_ID), batch.tokens)
    return layer, Batch(tokens, batch.labels, vectors, places)


def loss_of(model: GPT2LMHeadModel, layer: int, batch: Batch) -> Float[Tensor, ""]:
    """Loss on the answers, with the placeholder's residual replaced at the input of `layer`."""
    device = next(model.parameters()).device
    tokens, labels = batch.tokens.to(device), batch.labels.to(device)
    if batch.vectors is None or batch.places is None:
        return next_token_loss(model, tokens, labels)
    places, vectors = batch.places.to(device)[..., None], batch.vectors.to(device)[:, None]

    def replace(_: torch.nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (torch.where(places, vectors.to(arguments[0].dtype), arguments[0]), *arguments[1:])

    handle = model.transformer.h[layer].register_forward_pre_hook(replace)
    try:
        return next_token_loss(model, tokens, labels)
    finally:
        handle.remove()


def tune(
    model: GPT2LMHeadModel,
    recipe: TuneRecipe,
    pairs: Sequence[Pair],
    source: VectorSource,
    *,
    context: int,
    checkpoint: Path,
    report: Callable[[int, float], None],
) -> None:
    """Tune in place; the learning rate falls linearly after a short warm-up."""

    def loss_at(step: int) -> Tensor:
        return loss_of(model, *tuning_batch(step, recipe, pairs, source, context=context))

    train(
        model,
        make_optimizers(model, muon_lr=recipe.muon_lr, adam_lr=recipe.adam_lr),
        loss_at,
        steps=recipe.steps,
        rate_at=lambda step: min((step + 1) / 30, 1 - 0.97 * step / recipe.steps),
        checkpoint=checkpoint,
        report=report,
    )


def decoder_directions(
    words_of: Mapping[int, Sequence[tuple[int, Float[Tensor, " d_model"]]]],
) -> dict[int, dict[int, Float[Tensor, "n d_model"]]]:
    """Group (token, decoder row) pairs by layer and token, as unit vectors."""
    grouped: dict[int, dict[int, list[Tensor]]] = {}
    for layer, pairs in words_of.items():
        by_token = grouped.setdefault(layer, {})
        for token, row in pairs:
            by_token.setdefault(token, []).append(row / row.norm())
    return {
        layer: {token: torch.stack(rows) for token, rows in by_token.items()}
        for layer, by_token in grouped.items()
    }
