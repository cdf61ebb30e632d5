"""Stage 2: train `docs-small`, a GPT-2-architecture model, on the docstrings.

Muon on the block matrices and AdamW on the rest. A tenth of the rows are random tokens repeated,
which can only be predicted by looking back: they make induction heads form.
"""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor
from transformers import GPT2Config, GPT2LMHeadModel

from make_demo.recipe import BOS_ID, SPECIAL_TOKENS, BaseRecipe

logger = logging.getLogger(__name__)

IGNORED = -100
"""Label of positions without a loss."""


class TrainingBatches:
    """A batch depends on the seed and the step alone, so an interrupted run resumes exactly."""

    def __init__(self, tokens: np.ndarray, recipe: BaseRecipe, vocab_size: int) -> None:
        self.tokens = torch.from_numpy(tokens.astype(np.int64))
        self.recipe = recipe
        self.vocab_size = vocab_size

    def __call__(self, step: int) -> Int[Tensor, "batch context"]:
        recipe = self.recipe
        generator = torch.Generator().manual_seed(recipe.seed * 1_000_003 + step)
        n_repeated = 2 if step % recipe.induction_every == 0 else 1
        rows = [
            repeated_random_tokens(generator, recipe.context, self.vocab_size)
            for _ in range(n_repeated)
        ]
        starts = torch.randint(
            0, len(self.tokens) - recipe.context, (recipe.batch - n_repeated,), generator=generator
        )
        rows += [self.tokens[start : start + recipe.context] for start in starts.tolist()]
        batch = torch.stack(rows)
        if step < recipe.short_fraction * recipe.steps:  # the same tokens as twice as many rows
            batch = batch.view(2 * recipe.batch, recipe.context // 2)
        else:
            batch = batch.clone()
        batch[:, 0] = BOS_ID
        return batch


def repeated_random_tokens(
    generator: torch.Generator, context: int, vocab_size: int
) -> Int[Tensor, " context"]:
    """BOS, then one random run of 8 to context/2 tokens over and over."""
    period = int(torch.randint(8, context // 2, (1,), generator=generator))
    run = torch.randint(len(SPECIAL_TOKENS), vocab_size, (period,), generator=generator)
    return torch.cat([torch.tensor([BOS_ID]), run.repeat(context // period + 1)])[:context]


def new_model(recipe: BaseRecipe, vocab_size: int) -> GPT2LMHeadModel:
    """Fresh random weights."""
    torch.manual_seed(recipe.seed)
    config = GPT2Config(
        vocab_size=vocab_size,
        n_positions=recipe.context,
        n_embd=recipe.d_model,
        n_layer=recipe.n_layers,
        n_head=recipe.n_heads,
        bos_token_id=BOS_ID,
        eos_token_id=BOS_ID,
        resid_pdrop=recipe.dropout,
        embd_pdrop=recipe.dropout,
        attn_pdrop=0.0,
    )
    config.n_ctx = recipe.context  # transformer_lens reads it; transformers no longer writes it
    return GPT2LMHeadModel(config)


def make_optimizers(
    model: torch.nn.Module, *, muon_lr: float, adam_lr: float, weight_decay: float = 0.01
) -> list[tuple[torch.optim.Optimizer, float]]:
    """Muon for the matrices inside the blocks, AdamW for the rest, each with its peak rate."""
    matrices: list[Tensor] = []
    rest: list[Tensor] = []
    for name, parameter in model.named_parameters():
        inside = parameter.ndim == 2 and "wte" not in name and "wpe" not in name
        (matrices if inside else rest).append(parameter)
    return [
        (
            torch.optim.Muon(matrices, lr=muon_lr, momentum=0.95, weight_decay=weight_decay),
            muon_lr,
        ),
        (torch.optim.AdamW(rest, lr=adam_lr, betas=(0.9, 0.97), weight_decay=0.0), adam_lr),
    ]


def next_token_loss(
    model: GPT2LMHeadModel, tokens: Int[Tensor, "batch seq"], labels: Int[Tensor, "batch seq"]
) -> Float[Tensor, ""]:
    """Mean cross-entropy in nats of each label given the tokens before it, in bf16.

    The logits (4,096 × 4,096 a step) are the largest tensor of the training by far; torch's chunked
    loss never holds them whole.
    """
    with torch.autocast(tokens.device.type, dtype=torch.bfloat16):
        hidden = model.transformer(tokens, use_cache=False).last_hidden_state
    return F.linear_cross_entropy(
        hidden[:, :-1].flatten(0, 1).bfloat16(),
        model.lm_head.weight.bfloat16(),
        labels[:, 1:].flatten(),
        ignore_index=IGNORED,
        options=torch.nn.LinearCrossEntropyOptions(batch_chunk_size=512),
    ).float()


def train(
    model: GPT2LMHeadModel,
    optimizers: Sequence[tuple[torch.optim.Optimizer, float]],
    loss_at: Callable[[int], Float[Tensor, ""]],
    *,
    steps: int,
    rate_at: Callable[[int], float],
    checkpoint: Path,
    report: Callable[[int, float], None],
    save_every: int = 250,
) -> None:
    """Run `steps` optimiser steps, resuming from `checkpoint` where it exists.

    Args:
        loss_at: the loss of a step, ready for `backward`.
        rate_at: factor on the peak learning rates at a step.
        report: called with (steps done, loss) every 50 steps.
    """
    first = 0
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for (optimizer, _), saved in zip(optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        first = state["step"]
        logger.info("resuming at step %d", first)
    model.train()
    for step in range(first, steps):
        for optimizer, peak in optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                group["lr"] = peak * rate_at(step)
        loss = loss_at(step)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(optimizers[-1][0].param_groups[0]["params"], 1.0)
        for optimizer, _ in optimizers:
            optimizer.step()
        if (step + 1) % 50 == 0 or step + 1 == steps:
            report(step + 1, loss.item())
        if (step + 1) % save_every == 0:
            state = {
                "model": model.state_dict(),
                "optimizers": [optimizer.state_dict() for optimizer, _ in optimizers],
                "step": step + 1,
            }
            partial = checkpoint.with_suffix(".partial")
            torch.save(state, partial)
            partial.replace(checkpoint)
    model.eval()


def learning_rate(recipe: BaseRecipe, step: int) -> float:
    """Factor on the peak rates: warm-up, flat, linear to 2 %; then warm-up and linear once more."""
    again = step - recipe.steps
    if again < 0:
        decay = (1 - step / recipe.steps) / (1 - recipe.flat_fraction)
        return min((step + 1) / recipe.warmup_steps, 1.0, 0.02 + 0.98 * decay)
    warm = min((again + 1) / recipe.warmup_steps, 1.0)
    return recipe.second_peak * min(warm, 0.02 + 0.98 * (1 - again / recipe.second_steps))


def train_base(
    recipe: BaseRecipe,
    tokens: np.ndarray,
    *,
    vocab_size: int,
    device: torch.device,
    checkpoint: Path,
    report: Callable[[int, float], None],
) -> GPT2LMHeadModel:
    """Train the base model through both cycles of the learning rate."""
    model = new_model(recipe, vocab_size)
    torch.nn.Module.to(model, device)  # transformers hides the method behind a decorator
    batches = TrainingBatches(tokens, recipe, vocab_size)

    def loss_at(step: int) -> Tensor:
        batch = batches(step).to(device)
        return next_token_loss(model, batch, batch)

    optimizers = make_optimizers(
        model,
        muon_lr=recipe.muon_lr,
        adam_lr=recipe.adam_lr,
        weight_decay=recipe.weight_decay,
    )
    train(
        model,
        optimizers,
        loss_at,
        steps=recipe.steps + recipe.second_steps,
        rate_at=lambda step: learning_rate(recipe, step),
        checkpoint=checkpoint,
        report=report,
    )
    return model
