"""The LightningModule: alternates the coefficient step and the dictionary step."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, Self

import torch
from lightning import LightningModule
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torchmetrics import Metric

from sparsecode_pl.coding import Coder, GreedyCoder, reconstruct
from sparsecode_pl.coding.checks import check_penalty
from sparsecode_pl.data import BUCKETS, ActivationDataModule, score_name
from sparsecode_pl.dictionary import BoundDictionary, Card, Dictionary
from sparsecode_pl.gradient import dictionary_gradient
from sparsecode_pl.metrics import functional
from sparsecode_pl.optimizer import MeanFieldNewton
from sparsecode_pl.schedule import penalty_at, rate_at
from sparsecode_pl.scoring import SUMS, AtomUse, Evaluation, LargestCoefficient, Scorer, Scores
from sparsecode_pl.utilities.arguments import check_arguments
from sparsecode_pl.utilities.seeding import generator
from sparsecode_pl.utilities.versions import versions

# With a smaller share of different rows among the training rows, their repetition is warned of.
_REPEATED = 0.5

# Means and sizes that differ by more than this share of the rows' size are of other rows.
_SAME = 1e-5


class SparseCodingModule(LightningModule):
    """Learns a dictionary by sparse coding and scores it.

    For each batch the coder finds the codes, without gradient. With the codes fixed, the optimiser then takes
    `dictionary_steps` steps on the atoms to lower the objective (paper, eq. 1). The atoms are normalised after each
    step. Training goes in *rounds*: each is one Lightning epoch and starts with a fresh optimiser state. In the first
    half of a round the penalty moves linearly from its old value to its new one. In the second half the rate falls
    linearly to 0. At the end of a round the training rows and the held-out rows are scored.

    Args:
        d_model: width of the activations.
        num_atoms: atoms in the dictionary; `expansion` times `d_model` if None.
        expansion: atoms per dimension, >= 1.
        lam: fixed penalty, > 0. The first round starts at three times this value, and training ends after one round
            unless the trainer has an `EarlyStopping`. If None, the callback `AdaptivePenalty` sets the penalty.
        eval_lam: penalty for scoring and prediction (paper, appendix H); that of training if None.
        coder: finds the codes: a coder or its settings; `GreedyCoder()` if None.
        init: atoms start as directions of random samples ("data"), uniform on the sphere ("random"), or as the true
            features of data with a known answer ("truth"), of which there must be `num_atoms`.
        scale: divide the centred activations by their mean norm, so that penalties compare across models.
        learn: train the atoms; if not, they keep their initial values, and only the penalty is found.
        dictionary_steps: optimiser steps for each batch, >= 1.
        optimizer: makes the optimiser from the parameters; `MeanFieldNewton` by default. The alternative,
            `torch.optim.Adam` with a rate of 0.02, needs more batches. The loss is in units of the penalty's next power
            of two, so that a rate means the same at any scale of the data.
        lr_scheduler: makes a scheduler that steps after every batch; by default the rate follows from the place in the
            round: it is constant in the first half and falls linearly to 0 in the second.
        seed: seed of the initial dictionary.

    Attributes:
        dictionary: the dictionary that is learnt. Its penalty is the one for scoring and prediction. Its card holds its
            data and its scores.
        scores: scores of the last scoring, by rows and name, such as "train/S1", "heldout/S1" and "unseen/S1".
        sums: by rows, the sums that these scores are ratios of, for each bucket of rows; see `ScoreSums`.

    Raises:
        ValueError: an argument is out of its range.
    """

    #: Buffer, the penalty of this round; NaN before training.
    lam: Tensor
    #: Buffer, the penalty that this round starts from.
    lam_from: Tensor

    def __init__(
        self,
        d_model: int,
        num_atoms: int | None = None,
        expansion: float = 8.0,
        lam: float | None = None,
        eval_lam: float | None = None,
        coder: Coder | dict[str, Any] | None = None,
        init: Literal["data", "random", "truth"] = "data",
        scale: bool = False,
        learn: bool = True,
        dictionary_steps: int = 1,
        optimizer: OptimizerCallable = MeanFieldNewton,
        lr_scheduler: LRSchedulerCallable | None = None,
        seed: int = 0,
    ) -> None:
        check_arguments(SparseCodingModule.__init__, locals())
        super().__init__()
        for name, value in (("d_model", d_model), ("num_atoms", num_atoms), ("dictionary_steps", dictionary_steps)):
            if value is not None and value < 1:
                raise ValueError(f"{name} is {value}: give at least 1")
        if not (math.isfinite(expansion) and expansion >= 1):
            raise ValueError(f"expansion is {expansion}: give at least 1 atom per dimension, or num_atoms")
        # Plain numbers, because a checkpoint with NumPy's would not be read: they are hyper-parameters.
        d_model, dictionary_steps, seed, expansion = int(d_model), int(dictionary_steps), int(seed), float(expansion)
        num_atoms = None if num_atoms is None else int(num_atoms)
        lam = None if lam is None else check_penalty(lam)
        eval_lam = None if eval_lam is None else check_penalty(eval_lam, name="eval_lam")
        if init not in ("data", "random", "truth"):
            raise ValueError(f"init is {init!r}: give 'data', 'random' or 'truth'")
        self.save_hyperparameters(ignore=["coder", "optimizer", "lr_scheduler"])
        coder = Coder.from_settings(coder) if isinstance(coder, dict) else coder or GreedyCoder()
        self.save_hyperparameters({"coder": coder.settings()})
        self.fixed_lam = lam
        self.eval_lam = eval_lam
        self.init = init
        self.scale = scale
        self.learn = learn
        self.dictionary_steps = dictionary_steps
        self.make_optimizer = optimizer
        self.make_scheduler = lr_scheduler
        self.seed = seed

        num_atoms = num_atoms or round(expansion * d_model)
        self.dictionary = Dictionary.random(num_atoms, d_model, generator(seed), coder=coder)
        self.register_buffer("lam", torch.tensor(math.nan, dtype=torch.float64))
        self.register_buffer("lam_from", torch.tensor(math.nan, dtype=torch.float64))

        self.scores: dict[str, float] = {}
        self.sums: dict[str, Tensor] = {}
        self._scorers: dict[str, Scorer] = {}
        self._codes: Tensor | None = None
        self._finished = self._within_round = False
        self._mean_norm: float | None = None

    @property
    def coder(self) -> Coder:
        """The coder that finds the codes."""
        return self.dictionary.coder

    def set_penalty(self, lam: float, lam_from: float) -> None:
        """Set the penalty of the coming round.

        Args:
            lam: penalty, > 0.
            lam_from: penalty that the round starts from, > 0.
        """
        self.lam.fill_(check_penalty(lam))
        self.lam_from.fill_(check_penalty(lam_from, name="lam_from"))

    def fresh(self, **changed: Any) -> Self:
        """A new, untrained module with the settings of this one.

        Args:
            changed: settings to change, named as in the constructor.
        """
        made = {"coder": self.coder, "optimizer": self.make_optimizer, "lr_scheduler": self.make_scheduler}
        settings = {name: value for name, value in self.hparams.items() if name[0] != "_"}  # "_": from the command line
        twin = type(self)(**{**settings, **made, **changed})
        twin.save_hyperparameters({**self.hparams, **twin.hparams})
        return twin

    def forward(self, x: Tensor) -> Tensor:
        """Codes of activations (n, d_model), not yet centred, at the dictionary's penalty: sparse CSR (n, m)."""
        return self.dictionary.encode(x)

    # --- start -----------------------------------------------------------------------------------------------------

    @property
    def data(self) -> ActivationDataModule:
        """The data module of the running trainer."""
        data = getattr(self.trainer, "datamodule", None)
        if not isinstance(data, ActivationDataModule):
            raise TypeError(
                f"the trainer's datamodule is {type(data).__name__}: give an ActivationDataModule; "
                "sparsecode_pl.data.TensorActivations makes one from a tensor"
            )
        return data

    def check_width(self, data: ActivationDataModule) -> None:
        """Check that data has the width of the dictionary.

        Raises:
            ValueError: the widths differ.
        """
        width = self.dictionary.shape[1]
        if data.d_model != width:
            raise ValueError(
                f"d_model is {width}, but {data.label} has width {data.d_model}: set d_model to {data.d_model}, or "
                f"give data of width {width}"
            )

    def setup(self, stage: str) -> None:
        """Check that the data fits. Before the first fit, take centre, scale and atoms from it."""
        self.check_width(self.data)
        if stage != "fit":
            return
        self._finished = self._within_round = False  # of another fit; a checkpoint is read after this
        self._check_trainer()
        if not self.lam.isnan():
            return
        self.dictionary.card = self._card()
        features = self._true_features() if self.init == "truth" else None
        self._check_repetition()
        statistics = self.data.statistics
        self._mean_norm = statistics.mean_norm
        self.dictionary.centre.copy_(statistics.mean)
        if self.scale:
            self.dictionary.scale.fill_(statistics.mean_norm)
        if self.init == "data":
            random = generator(self.seed)
            first = self.data.sample(self.dictionary.num_atoms, random)
            self.dictionary.start_from(first, random, more=lambda num, _: self.data.sample(num, random))
        if features is not None:
            self.dictionary.atoms.data.copy_(features)

    def _true_features(self) -> Tensor:
        """The true features of the data, (num_atoms, d_model)."""
        truth = self.data.source.ground_truth
        if truth is None:
            raise ValueError(
                f"init is 'truth', but {self.data.label} has no known answer: give 'data' or 'random', or data "
                "that has one, such as SparseLinear"
            )
        if len(truth.features) != self.dictionary.num_atoms:
            raise ValueError(
                f"init is 'truth', and {self.data.label} has {len(truth.features)} true features, but num_atoms is "
                f"{self.dictionary.num_atoms}: set num_atoms to {len(truth.features)}"
            )
        return truth.features

    def _check_repetition(self) -> None:
        """Warn if atoms can be had for each of the few things that the training rows repeat."""
        data = self.data
        if data.stream or data.split_like is not None or not (self.learn or self.init == "data"):
            return  # a control is told by its data, and atoms that are no rows of the data cannot be copies of them
        num_atoms, split, num_rows = self.dictionary.shape[0], data.split, len(data.train_index)
        distinct, types = split.distinct_trained, split.types_trained
        if num_atoms >= distinct:
            copies = "" if distinct == num_rows else f", of which {distinct} are different"
            rank_zero_warn(
                f"{data.label}: num_atoms is {num_atoms}, and there are {num_rows} training rows{copies}. Each may "
                "become an atom, which makes their scores meaningless: give more rows or fewer atoms"
            )
        elif types is not None and types < distinct and num_atoms >= types:
            rank_zero_warn(
                f"{data.label}: num_atoms is {num_atoms}, and the training rows are of {types} token types. Each type "
                "may become an atom: give fewer atoms or more text, and read the scores of unseen tokens"
            )
        if distinct < _REPEATED * num_rows:
            rank_zero_warn(
                f"{data.label}: only {distinct:,} of {num_rows:,} training rows are different, and repetition alone "
                "reads as sparsity: hold the scores against RepeatedGaussian, and look at rows that were not trained on"
            )

    def _card(self) -> Card:
        """The card of the dictionary: its data, as far as known, its seed and the versions of packages."""
        data, source = self.data, self.data.source
        return Card(
            data=data.label,
            model=source.place.model if source.place else None,
            layer=source.place.layer if source.place else None,
            source=dict(source.provenance),
            rows={rows: len(index) for rows, index in data.row_sets.items()},
            split=data.split_settings | {"remove": data.remove},
            seed=self.seed,
            versions=versions(),
        )

    def _check_trainer(self) -> None:
        """Refuse trainer settings that would score only some of the rows, or in the middle of a round."""
        for name, needed in (("limit_val_batches", 1.0), ("val_check_interval", 1.0), ("check_val_every_n_epoch", 1)):
            value = getattr(self.trainer, name)
            whole = value == needed and type(value) is type(needed)  # 1 is one batch, 1.0 is all of them
            if not whole and not self.trainer.fast_dev_run:  # type: ignore[attr-defined]
                raise ValueError(f"{name} is {value}, but all rows are scored after each round: set it to {needed}")
        for name in ("max_epochs", "max_steps", "limit_train_batches"):
            if getattr(self.trainer, name) == 0:
                raise ValueError(f"{name} is 0, and nothing would be learnt: give at least 1")
        if self.trainer.accumulate_grad_batches < 1:
            raise ValueError(f"accumulate_grad_batches is {self.trainer.accumulate_grad_batches}: give at least 1")
        if self.dictionary_steps > 1 and self.trainer.accumulate_grad_batches > 1:
            raise ValueError(
                f"dictionary_steps is {self.dictionary_steps} and trainer.accumulate_grad_batches is "
                f"{self.trainer.accumulate_grad_batches}: set one of them to 1"
            )

    def on_fit_start(self) -> None:
        """Set the first penalty, unless a checkpoint or a callback has set it.

        Raises:
            ValueError: there is no penalty, the module was fitted to other data, or it is resumed within a round with
                another penalty.
        """
        self._check_same_data()
        if self._within_round and self.fixed_lam not in (None, float(self.lam)):
            raise ValueError(
                f"lam is {self.fixed_lam}, but the checkpoint was made at {float(self.lam)}, in the middle of a round: "
                f"give {float(self.lam)}, or resume from a checkpoint of the end of a round"
            )
        if self.lam.isnan():
            if self.fixed_lam is None:
                raise ValueError(
                    "lam is None: give a penalty above 0, or add the callback AdaptivePenalty to the trainer"
                )
            self.set_penalty(self.fixed_lam, lam_from=3 * self.fixed_lam)
        elif self.fixed_lam not in (None, float(self.lam)):  # a resumed run with another lam
            self.set_penalty(self.fixed_lam, lam_from=float(self.lam))
        elif self._finished and self._stops_after_one_round:
            self.trainer.should_stop = True
        self._span = float(self.lam_from), float(self.lam)  # a round that is resumed has no start

    def _check_same_data(self) -> None:
        """Refuse data whose mean is not that which the dictionary is centred by, or whose rows have another size."""
        statistics, centre = self.data.statistics, self.dictionary.centre.cpu().double()
        most = _SAME * (statistics.mean_norm + float(centre.norm()))
        resized = abs(statistics.mean_norm - (self._mean_norm or statistics.mean_norm))
        if float((statistics.mean - centre).norm()) > most or resized > most:
            raise ValueError(
                f"the module was fitted to {self.dictionary.card.data or 'other data'}, and {self.data.label} has "
                "training rows of another mean or size: give the same data, or a new module, which module.fresh() makes"
            )

    def configure_optimizers(self) -> Any:
        """The optimiser, and the scheduler if one was given."""
        if not self.learn:
            return None
        optimizer = self.make_optimizer([self.dictionary.atoms])
        if self.make_scheduler is None:
            for group in optimizer.param_groups:
                group.setdefault("initial_lr", group["lr"])  # by the name that PyTorch's schedulers use
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": self.make_scheduler(optimizer), "interval": "step"},
        }

    # --- training --------------------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Keep DDP from averaging the gradient, which `training_step` gives for the rows of all processes."""
        if isinstance(self.trainer.model, DistributedDataParallel):
            self.trainer.model.require_backward_grad_sync = False

    def on_train_epoch_start(self) -> None:
        """Start a round with a fresh optimiser state: the state of the last round would mislead the optimiser."""
        self._span = float(self.lam_from), float(self.lam)
        self.dictionary.lam = self.eval_lam or float(self.lam)
        if self.current_epoch:
            for optimizer in self.trainer.optimizers:
                optimizer.state.clear()

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        """The loss of the dictionary step: squared error with the codes fixed, in units of the penalty.

        Its value is that of this process's rows, its gradient that of the rows of all processes.
        """
        if not self.learn:
            return 0 * self.dictionary.atoms.sum()  # zero rather than None: DDP cannot skip a step
        x = self.dictionary.standardise(batch)
        lam = penalty_at(batch_idx / self.trainer.num_training_batches, *self._span)
        first = self._codes is None
        if self._codes is None:
            self._codes = self.coder.bind(self.dictionary.atoms, reuse=False)(x, lam)
        atoms = self.dictionary.atoms
        residual = x - reconstruct(self._codes, atoms.detach())
        if first and self._logs_now():
            self._log_batch(self._codes, residual, x, lam)
        gradient, moments = dictionary_gradient(self._codes, residual, self.trainer.world_size, self._unit)
        if first:
            self._tell_optimizers(moments)
        return (residual / self._unit).square().sum() / len(x) + ((atoms - atoms.detach()) * gradient).sum()

    @property
    def _unit(self) -> float:
        """The next power of two above the penalty of the round: in its units no square overflows or vanishes."""
        return 2.0 ** math.frexp(self._span[1])[1]

    def _tell_optimizers(self, moments: Tensor) -> None:
        """Give the curvature to optimisers that need it."""
        for optimizer in self.trainer.optimizers:
            if isinstance(optimizer, MeanFieldNewton):
                optimizer.observe(moments)

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
        """Take `dictionary_steps` steps with the codes of the batch fixed, and normalise the atoms after each."""
        if self.make_scheduler is None:
            first = batch_idx - batch_idx % self.trainer.accumulate_grad_batches
            for group in optimizer.param_groups:
                group["lr"] = group["initial_lr"] * rate_at(first / self.trainer.num_training_batches)
        for _ in range(self.dictionary_steps):
            optimizer.step(closure=optimizer_closure)
            if self.learn:
                self.dictionary.normalise()

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        """Log the norm of the gradient."""
        if self.dictionary.atoms.grad is not None and self._logs_now():
            self.log("batch/gradient_norm", self.dictionary.atoms.grad.norm())

    def on_train_batch_end(self, outputs: Any, batch: Tensor, batch_idx: int) -> None:
        """Free the codes."""
        self._codes = None

    def _logs_now(self) -> bool:
        # Computing the scores of batches that are not logged would cost a tenth of the training time.
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and (self.global_step + 1) % every == 0

    def _log_batch(self, codes: Tensor, residual: Tensor, x: Tensor, lam: float) -> None:
        scores = {
            "batch/S1": functional.average_coefficient_norm(codes),
            "batch/N0": functional.nonzero_entries(codes),
            "batch/L": functional.sparse_coding_loss(codes, residual, lam),
            "batch/explained_variance": functional.explained_variance(residual, x),
        }
        self.log_dict(scores)
        self.log_dict({"lam": lam, "batch/L_norm": functional.normalized_loss(codes, residual, lam)}, prog_bar=True)

    def on_train_epoch_end(self) -> None:
        """At a fixed penalty, stop after one round unless the trainer has an `EarlyStopping`."""
        if float(self.lam) == self._span[1]:  # no callback has set another: the next round starts from it
            self.lam_from.copy_(self.lam)
        if self._stops_after_one_round:
            whole = self.trainer.fit_loop.batch_idx + 1 >= self.trainer.num_training_batches  # no limit has cut it off
            self._finished, self.trainer.should_stop = whole, True

    @property
    def _stops_after_one_round(self) -> bool:
        early = any(isinstance(callback, EarlyStopping) for callback in self.trainer.callbacks)  # type: ignore[attr-defined]
        return self.fixed_lam is not None and not early

    # --- scoring ---------------------------------------------------------------------------------------------------

    @property
    def activity(self) -> Metric:
        """How often the training rows use each atom, while they are scored."""
        return self._scorers["train"].metrics["atom_activity"]

    def on_validation_epoch_start(self) -> None:
        """Refuse to score an untrained dictionary, and prepare the scorers."""
        codec = self._learnt()
        self._scorers = {rows: Scorer(codec, self._evaluations(rows)) for rows in self.data.row_sets}

    @property
    def trained_lam(self) -> float:
        """The penalty of the last round of training; `lam` may be that of the next."""
        return self._span[1]

    def _learnt(self) -> BoundDictionary:
        """The dictionary for many batches, if it has been learnt."""
        if self.lam.isnan():
            raise RuntimeError("there is no learnt dictionary: give ckpt_path, or fit first")
        if math.isnan(self.dictionary.lam):  # before the first round
            self.dictionary.lam = self.eval_lam or float(self.lam)
        return self.dictionary.bind()

    def _evaluations(self, rows: str) -> list[Evaluation]:
        if rows != "train":
            return [Scores(buckets=BUCKETS)]
        train_lam = float(self.lam)
        evaluations = [Scores(buckets=BUCKETS), AtomUse()]
        if self.trainer.state.fn == "fit" or self.dictionary.lam == train_lam:
            evaluations.append(LargestCoefficient(train_lam))  # used only in training, at its own penalty
        return evaluations

    def validation_step(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> dict[str, Tensor]:
        """Score a batch.

        Args:
            batch: pair of row numbers (n,) and activations (n, d_model).
            batch_idx: number of the batch.
            dataloader_idx: which of the data's `row_sets` it is from.

        Returns:
            "codes", sparse CSR (n, m), and their penalty "lam", for callbacks.
        """
        index, x = batch
        groups = self.data.split.buckets[index.cpu()].to(x.device)
        coded = list(self._scorers.values())[dataloader_idx].update(x, groups).at()
        return {"codes": coded.codes, "lam": torch.tensor(coded.lam)}

    def on_validation_epoch_end(self) -> None:
        """Gather the scores of all processes and log them, with the share of atoms that no training row uses."""
        self.scores, self.sums = {}, {}
        for rows, scorer in self._scorers.items():
            values = scorer.compute()
            self.sums[rows] = values.pop(SUMS).cpu()
            if rows == "train":
                values["dead_atoms"] = (values.pop("atom_activity") == 0).double().mean()
            self.scores |= {f"{rows}/{name}": float(value) for name, value in values.items()}
        self._scorers = {}
        # As float64 tensors: Lightning would convert plain numbers to float32. All processes have the same values.
        tensors = {name: torch.tensor(value, dtype=torch.float64) for name, value in self.scores.items()}
        self.log_dict(tensors, sync_dist=True)
        scores = record_names(self.scores)
        self.dictionary.card = replace(self.dictionary.card, scores=scores, intervals={})  # a fit may have had some

    on_test_epoch_start = on_validation_epoch_start
    test_step = validation_step
    on_test_epoch_end = on_validation_epoch_end

    def on_predict_epoch_start(self) -> None:
        """Refuse to use an untrained dictionary, and prepare what all batches share."""
        self._bound = self._learnt()

    def predict_step(
        self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Codes of a batch.

        Args:
            batch: pair of row numbers (n,) and activations (n, d_model).
            batch_idx: number of the batch.
            dataloader_idx: always 0.

        Returns:
            Row numbers and codes, sparse CSR (n, m).
        """
        index, x = batch
        with torch.inference_mode(False):  # CSR tensors made in inference mode cannot be used outside it
            return index, self._bound.encode(x.clone() if x.is_inference() else x)

    def on_predict_epoch_end(self) -> None:
        """Free what all batches shared."""
        del self._bound

    # --- checkpoints -----------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the dictionary's card, the scores, and whether training has ended."""
        checkpoint["card"] = self.dictionary.card.plain()
        checkpoint["scores"], checkpoint["sums"] = dict(self.scores), dict(self.sums)
        checkpoint["finished"], checkpoint["mean_norm"] = self._finished, self._mean_norm
        checkpoint["within_round"] = self.trainer.fit_loop.batch_idx + 1 < self.trainer.num_training_batches

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Read what was added. Set the scoring penalty if it is given, or if an older checkpoint lacks it."""
        state = checkpoint["state_dict"]
        if self.eval_lam is not None or "dictionary.penalty" not in state:
            state["dictionary.penalty"] = torch.tensor(self.eval_lam or float(state["lam"]), dtype=torch.float64)
        if "card" in checkpoint:
            self.dictionary.card = Card.from_plain(checkpoint["card"])
        self.scores, self.sums = dict(checkpoint.get("scores", {})), dict(checkpoint.get("sums", {}))
        self._finished, self._within_round = (bool(checkpoint.get(name)) for name in ("finished", "within_round"))
        self._mean_norm = checkpoint.get("mean_norm")


def record_names(scores: Mapping[str, float]) -> dict[str, float]:
    """Scores under the names of a record: "S1" for "train/S1", "heldout_S1" for "heldout/S1" and so on."""
    return {score_name(*name.split("/", 1)): value for name, value in scores.items()}
