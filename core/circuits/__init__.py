"""Circuits of latents: what feeds a logit or a latent, traced back through a model's SAEs."""

from core.circuits.graph import Circuit, Pruning
from core.circuits.steps import LatentEnd, LogitEnd
from core.circuits.trace import trace_circuit

__all__ = ["Circuit", "LatentEnd", "LogitEnd", "Pruning", "trace_circuit"]
