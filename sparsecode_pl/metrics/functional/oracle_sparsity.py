"""The sparsity of synthetic data, known from its true codes."""

from torch import Tensor

from sparsecode_pl.metrics.functional.average_coefficient_norm import average_coefficient_norm


def oracle_sparsity(true_codes: Tensor) -> Tensor:
    """S_1 of the codes that synthetic data was made from: the S_1 and L_norm of a perfect decomposition.

    It is about (a + 1) / 2 for `a` active features with uniform coefficients; the paper calls a / 2 the correct value
    (arXiv 2310.07837, section 3).

    Args:
        true_codes: coefficients >= 0, (n, f), dense or CSR.

    Returns:
        0-dim float64 in [1, f]. NaN if there are no rows, and NaN with a warning if all codes are zero.

    Raises:
        ValueError: true_codes are not a float matrix, dense or CSR.

    Example:
        >>> import torch
        >>> oracle_sparsity(torch.tensor([[0.5, 1.0], [0.0, 1.0]]))
        tensor(1.2500, dtype=torch.float64)
    """
    return average_coefficient_norm(true_codes)
