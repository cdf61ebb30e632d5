"""Rows without structure beyond what a null keeps, to compare variance explained with."""

import numpy as np
from jaxtyping import Float


def gaussian_rows(rows: Float[np.ndarray, "n d"], seed: int = 0) -> Float[np.ndarray, "n d"]:
    """As many rows from the normal distribution with the same mean and covariance."""
    generator = np.random.default_rng(seed)
    mean = rows.mean(0)
    covariance = np.cov(rows.T.astype(np.float64), bias=True)
    values, vectors = np.linalg.eigh(covariance)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    drawn = mean + generator.standard_normal(rows.shape) @ root
    return drawn.astype(np.float32)


def permuted_rows(rows: Float[np.ndarray, "n d"], seed: int = 0) -> Float[np.ndarray, "n d"]:
    """The same numbers, each coordinate dealt among the rows anew: no coordinate knows another."""
    return np.random.default_rng(seed).permuted(rows, axis=0).astype(np.float32)
