"""Run a model with each replacement in turn, over the same documents."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from sparsecode_pl.analysis.loss.arms import codec_arm, constant_arm, control_arms, mean_nonzero
from sparsecode_pl.analysis.loss.output import Output
from sparsecode_pl.analysis.loss.recaptured import Recaptured
from sparsecode_pl.analysis.loss.report import ABLATIONS, CLEAN, LossReport
from sparsecode_pl.analysis.loss.sums import COLUMNS, LossSums
from sparsecode_pl.codec import Codec
from sparsecode_pl.data import BUCKETS, ActivationDataModule, Progress, Replace, Rerun, Source, generator
from sparsecode_pl.utilities.arguments import check_arguments, check_tensor
from sparsecode_pl.utilities.ranks import from_all_ranks, from_rank_zero, num_ranks, rank

_DOCUMENT, _TOKEN = "document", "token_id"
# Rows on which N0 is counted, at most.
_SAMPLE = 2048
# Documents whose rows are captured again, about so many.
_RECAPTURED = 4
_BUCKETS, _ROWS = 62, 63  # streams of random numbers


def codec_loss(
    codec: Codec,
    data: ActivationDataModule,
    *,
    lam: float | None = None,
    others: Mapping[str, Codec] | None = None,
    controls: bool = True,
    known: LossSums | None = None,
    seed: int = 0,
) -> LossReport:
    """What a model loses when a layer's activations are replaced by a codec's reconstruction, beside controls.

    The documents are those that are held out: none of their rows was trained on. Where there are none, they are all,
    and the report's `heldout` is false. Where `torch.distributed` runs, the processes share the documents, and each of
    them must call this.

    Args:
        codec: a dictionary, or anything else that encodes and reconstructs.
        data: the activations that it was learnt from, of a model that can be run again.
        lam: penalty; the codec's own if None.
        others: further codecs, by the names of their arms, at the same penalty, such as the same dictionary with exact
            codes: `{"exact codes": dictionary.bind(LassoCoder())}`.
        controls: whether to run a random dictionary and principal components too, see `control_arms`.
        known: sums of "mean" and "zero" over the same documents with the same seed, which are then not run again.
        seed: of the random dictionary, and of the bootstrap.

    Returns:
        The report, with the arms "clean", "dictionary", those of `others`, the controls, "mean" and "zero".

    Raises:
        ValueError: the data are of no model, the codec is of another width, or the text or the model is no longer that
            of the rows.
        OSError: the model cannot be read.
    """
    check_arguments(codec_loss, locals())
    source = data.source
    rerun = check_loss(source)
    for name, one in {"codec": codec, **(others or {})}.items():
        if one.d_model != data.d_model:
            raise ValueError(
                f"{name} has width {one.d_model}, but {data.label} has width {data.d_model}: give one that was learnt "
                "from this layer"
            )
    documents, heldout = heldout_documents(data)
    tokens = from_rank_zero(lambda: _check_text(rerun, data, documents))
    mean = data.statistics.mean
    lam = codec.lam if lam is None else lam
    among = torch.isin(_numbers(source, _DOCUMENT), documents).nonzero().flatten()
    chosen = among[torch.randperm(len(among), generator=generator(seed, _ROWS))[:_SAMPLE].sort().values]
    sample = data.rows[chosen].to(codec.atoms.device)
    codecs = {"dictionary": codec, **(others or {})}
    arms = {name: codec_arm(one, lam) for name, one in codecs.items()}
    nonzero = {name: mean_nonzero(one, sample, lam) for name, one in codecs.items()}
    if controls:
        further, of_further = control_arms(codec, data.rows, data.train_index, mean, sample, lam, seed)
        arms, nonzero = arms | further, nonzero | of_further
    else:
        arms |= {"mean": constant_arm(mean), "zero": torch.zeros_like}
    if known is not None:
        arms = {name: arm for name, arm in arms.items() if name not in known.arms}
    report = model_loss(rerun, arms, documents, heldout=heldout, known=known, seed=seed, tokens=tokens)
    return replace(report, nonzero=nonzero)


def check_loss(source: Source) -> Rerun:
    """The model behind a source.

    Raises:
        ValueError: there is none, or it cannot be run as it is.
        OSError: it cannot be read.
    """
    rerun = source.rerun
    if rerun is None:
        raise ValueError(
            f"loss is true, but {source.label} is of no model that can be run again: leave loss out, or measure "
            "TransformerActivations, or a store that it filled, without `remove`. The model or the text of a store "
            "may be gone"
        )
    rerun.check()
    return rerun


def heldout_documents(data: ActivationDataModule) -> tuple[Tensor, bool]:
    """The numbers of the documents none of whose rows was trained on, (k,) int64, and true; else all, and false."""
    document = _numbers(data.source, _DOCUMENT)
    trained = document[data.train_index].unique()
    held = document[~torch.isin(document, trained)].unique()
    return (held, True) if len(held) else (document.unique(), False)


@torch.no_grad()
def model_loss(
    rerun: Rerun,
    arms: Mapping[str, Replace],
    documents: Tensor,
    *,
    heldout: bool = True,
    known: LossSums | None = None,
    seed: int = 0,
    tokens: int | None = None,
) -> LossReport:
    """What a model loses on some documents when activations are replaced, in several ways in turn.

    Every batch of text goes through the model once as it is, and once for each arm. The same activations are replaced,
    and the same outputs judged, in all arms. Where `torch.distributed` runs, the processes share the documents, and
    each of them must call this.

    Args:
        rerun: the model.
        arms: what the activations are replaced by, by names. Loss recovered is told against "mean" and "zero", where
            there are such.
        documents: their numbers in the column `document`, (k,) int64.
        heldout: what the report says of the documents.
        known: sums of further arms over the same documents with the same seed.
        seed: of the bootstrap.
        tokens: number of tokens in the documents, for the progress bar.

    Returns:
        The report, with "clean" as its first arm.

    Raises:
        ValueError: an arm is called "clean", the documents leave nothing to judge, or `known` is of other documents.
    """
    check_arguments(model_loss, locals())
    check_tensor(documents, "documents")
    if CLEAN in arms:
        raise ValueError(f"arms has {CLEAN!r}, which is the model as it is: give that arm another name")
    documents = documents.unique()
    buckets = torch.randperm(len(documents), generator=generator(seed, _BUCKETS)) % BUCKETS
    width = len(COLUMNS[rerun.kind])
    size = min(len(documents), BUCKETS)
    counted = torch.zeros(size, dtype=torch.float64)
    sums = {name: torch.zeros(size, width, dtype=torch.float64) for name in (CLEAN, *arms)}
    mine = documents[rank() :: num_ranks()]
    with Progress("running the model", tokens, unit="tokens") as progress:
        for passage in rerun.passages(mine) if len(mine) else ():
            where = buckets[torch.searchsorted(documents, passage.document[passage.judged])]
            if len(where) == 0:
                continue
            counted.index_add_(0, where, torch.ones(len(where), dtype=torch.float64))
            output = Output(rerun, passage)
            sums[CLEAN].index_add_(0, where, output.clean)
            for name, arm in arms.items():
                sums[name].index_add_(0, where, output.compare(rerun(passage, arm)))
            progress.advance(num_ranks() * len(where))
    shares = from_all_ranks((counted, sums))
    counted = torch.stack([share for share, _ in shares]).sum(0)
    sums = {name: torch.stack([each[name] for _, each in shares]).sum(0) for name in sums}
    if not counted.any():
        raise ValueError(
            f"documents are {len(documents):,}, and leave no prediction to judge: give longer ones, of at least two "
            "tokens that count"
        )
    whole = LossSums(rerun.kind, counted.numpy(), {name: each.numpy() for name, each in sums.items()})
    if known is not None:
        if not np.array_equal(known.tokens, whole.tokens):
            raise ValueError("known has sums of other documents, or with another seed: leave it out")
        whole = LossSums(rerun.kind, whole.tokens, whole.arms | known.arms)
    report = LossReport.of(whole, len(documents), heldout, seed)
    for ablation, name in ABLATIONS.items():
        if name in report.arms[CLEAN] and report.arms[CLEAN][name] != 1:
            by = "their mean" if ablation == "mean" else ablation
            rank_zero_warn(
                f"replacing the activations by {by} costs the model nothing that can be told from chance, so that the "
                "loss recovered is NaN: give more documents, or another layer"
            )
    return report


def _check_text(rerun: Rerun, data: ActivationDataModule, documents: Tensor) -> int:
    """Check that the text of some documents has the tokens of their rows, and that the model gives these rows.

    Returns:
        The number of positions that are judged.

    Raises:
        ValueError: it has not, or does not.
    """
    source = data.source
    document, token = _numbers(source, _DOCUMENT), _numbers(source, _TOKEN)
    among = torch.isin(document, documents)
    rows = torch.stack([document[among], token[among]], dim=1).unique(dim=0)
    few = documents[:: max(1, len(documents) // _RECAPTURED)]
    read, judged, again = [rows[:0]], 0, Recaptured()
    for passage in rerun.passages(documents):
        real = passage.attention_mask.bool()
        read.append(torch.stack([passage.document[real], passage.input_ids[real]], dim=1).unique(dim=0))
        judged += int(passage.judged.sum())
        if torch.isin(passage.document[passage.replaced], few).any():
            again.add(rerun, passage, few)
    text = torch.cat(read).unique(dim=0)
    new = len(torch.cat([text, rows]).unique(dim=0)) - len(text)
    if new:
        raise ValueError(
            f"loss is true, but the text that {source.label} is read from has changed: {new:,} of the tokens in the "
            "rows' documents are not there. Leave loss out, or capture the activations anew"
        )
    again.check(source)
    return judged


def _numbers(source: Source, name: str) -> Tensor:
    """A column of numbers, (n,) int64.

    Raises:
        ValueError: there is none.
    """
    found = source.checked_columns.get(name)
    if not isinstance(found, Tensor):
        raise ValueError(f"loss is true, but {source.label} has no column {name!r} of numbers: leave loss out")
    return found.long()
