"""Circuits of latents: what feeds a logit or a latent, traced back through a model's SAEs."""
