import numpy as np
import pytest


@pytest.fixture(scope="session")
def appendix_c():
    """The greedy step that every backend is held against."""

    def appendix_c(x, atoms, lam, max_atoms=None):
        """The paper's appendix C, word for word, in plain Python, but for what rounding makes of 0."""
        codes = np.zeros((len(x), len(atoms)))
        for j, sample in enumerate(x):
            residual = sample.copy()
            left = list(range(len(atoms)))
            while left and (max_atoms is None or len(atoms) - len(left) < max_atoms):
                best = left[0]
                for i in left:
                    if atoms[i] @ residual > atoms[best] @ residual:
                        best = i
                a = atoms[best] @ residual - lam / 2
                if a <= 32 * np.finfo(x.dtype).eps * np.linalg.norm(sample):
                    break
                codes[j, best] = a
                residual = residual - a * atoms[best]
                left.remove(best)
        return codes

    return appendix_c
