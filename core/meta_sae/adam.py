"""Adam (Kingma and Ba, 2015), as torch has it, on NumPy arrays that are changed in place."""

import numpy as np

_FIRST, _TINY = 0.9, 1e-8


class Adam:
    """Moments of some arrays, and the steps that follow from them.

    The arrays here are small and the steps many: with torch, several threads would wait for one
    another at each of a dozen calls a step, ten times as long as one thread works.
    """

    def __init__(self, arrays: dict[str, np.ndarray], *, lr: float, beta2: float) -> None:
        self.arrays, self._lr, self._beta2 = arrays, lr, beta2
        self.first = {name: np.zeros_like(it) for name, it in arrays.items()}
        self.second = {name: np.zeros_like(it) for name, it in arrays.items()}
        self._scratch = {name: np.zeros_like(it) for name, it in arrays.items()}
        self.n_steps = 0

    def step(self, gradients: dict[str, np.ndarray]) -> None:
        """Move each array against its gradient."""
        self.n_steps += 1
        size = self._lr / (1 - _FIRST**self.n_steps)
        correction = (1 - self._beta2**self.n_steps) ** 0.5
        for name, gradient in gradients.items():
            first, second, root = self.first[name], self.second[name], self._scratch[name]
            first *= _FIRST
            np.multiply(gradient, 1 - _FIRST, out=root)
            first += root
            second *= self._beta2
            np.multiply(gradient, gradient, out=root)
            root *= 1 - self._beta2
            second += root
            np.sqrt(second, out=root)
            root /= correction
            root += _TINY
            np.divide(first, root, out=root)
            root *= size
            self.arrays[name] -= root

    def forget(self, rows: np.ndarray) -> None:
        """Begin anew for some rows of all arrays."""
        for moments in (self.first, self.second):
            for array in moments.values():
                array[rows] = 0.0
