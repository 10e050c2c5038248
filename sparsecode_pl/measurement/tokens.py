"""How much of the activations is told by their tokens alone."""

from torch import Tensor

from sparsecode_pl.data import TOKEN, ActivationDataModule, TokenMeans, score_name
from sparsecode_pl.metrics import ExplainedVariance

_BATCH = 4096


def token_identity(data: ActivationDataModule) -> dict[str, float]:
    """The share of the variance that a table of token means explains: a baseline for what any dictionary explains.

    The table (see `TokenMeans`) is made from the training rows alone. Each training row is predicted by those of its
    token in other documents, or in other groups of those that are held out as a whole, as held-out rows are. Rows
    without any such are not counted, as nothing is known of unseen tokens.

    Args:
        data: the activations.

    Returns:
        `token_explained_variance` of the training rows and `heldout_token_explained_variance` of the held-out rows,
        about the mean of the same rows, at most 1; the first alone if there are no held-out rows, or if these are of
        unseen tokens, and the second alone if no type has training rows in two groups. Empty if the data has no column
        of token types, or with `stream`, whose training rows are others.

    Example:
        >>> import torch
        >>> from sparsecode_pl.data import SourceActivations, TensorSource
        >>> token = torch.arange(60) % 30
        >>> source = TensorSource(token[:, None] ** 2.0, columns={"token_id": token})
        >>> token_identity(SourceActivations(source, val_split=0))  # the token tells everything
        {'token_explained_variance': 1.0}
    """
    source, column = data.source, data.unseen_by or TOKEN
    columns = source.columns
    if column not in columns or source.stream is not None:
        return {}
    train = data.train_index
    means = TokenMeans(source.rows, source.checked_columns[column], train, data.split.groups)
    sets = {"train": train[means.repeated[train]]}
    if not data.split.heldout_is_unseen:
        sets["heldout"] = data.heldout_index
    name = "token_explained_variance"
    return {score_name(kind, name): _explained(means, rows) for kind, rows in sets.items() if len(rows)}


def _explained(means: TokenMeans, index: Tensor) -> float:
    """Share of the variance of some rows that is explained."""
    metric = ExplainedVariance(sync_on_compute=False)  # every process asks for all rows
    for part in index.split(_BATCH):
        metric.update(residual=means.residual(part), x=means.rows[part])
    return float(metric.compute())
