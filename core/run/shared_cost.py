"""What a run costs where workers share it, and who took part."""

import os
from dataclasses import replace

import torch

from core.device import format_bytes
from core.run.cost import Cost
from core.run.on_ray import RayHands

_START_SECONDS = 10.0
"""Until workers have imported torch and loaded the weights."""


def shared(
    cost: Cost, hands: RayHands, *, worker: float, own: float, orders: int | None = None
) -> Cost:
    """What it costs in all; `cost` is that of one process.

    `worker` and `own` are bytes of memory of each worker and of this process; there are `orders`
    equal orders, or as many as one likes if None.
    """
    n, threads, cores = hands.workers, hands.threads, os.cpu_count() or 1
    # It was measured with all threads of this process, of which a worker here may have fewer.
    fewer = hands.is_local and hands.settings.device == "cpu"
    cost = replace(
        cost, seconds=cost.seconds * (max(1.0, torch.get_num_threads() / threads) if fewer else 1)
    )
    # Of three equal orders, one of two workers does two.
    seconds = cost.seconds / n if orders is None else cost.seconds / orders * -(-orders // n)
    notes = [
        f"Shared by {n} workers, each with {threads} threads and up to "
        f"{format_bytes(worker)} of memory; the time takes their cores to be as fast as those here."
    ]
    if hands.is_local and n * threads > cores and hands.settings.device == "cpu":
        notes.append(
            f"{n} workers with {threads} threads each share {cores} cores: --threads "
            f"{max(1, cores // n)} gives each its own."
        )
    return replace(
        cost,
        seconds=seconds + _START_SECONDS,
        memory=own + (n * worker if hands.is_local else 0),
        notes=(*cost.notes, *notes),
    )


def took_part(hands: RayHands) -> list[str]:
    """Lines on the workers, once the work is done; none where there was none."""
    if not hands.memory:
        return []
    most = format_bytes(max(hands.memory.values()))
    line = f"{len(hands.memory)} workers took part, each with at most {most} of memory."
    return [line, *(f"Not used: {note}" for note in hands.notes)]
