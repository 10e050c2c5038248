"""A dictionary: unit-norm atoms, the centre and scale of the activations, and how codes are found."""

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from sparsecode_pl.coding import Coder, GreedyCoder, reconstruct
from sparsecode_pl.coding.checks import check_atoms, check_penalty
from sparsecode_pl.dictionary.card import Card
from sparsecode_pl.dictionary.directions import directions, repeated
from sparsecode_pl.dictionary.folder import CONFIG, README, WEIGHTS, read_folder, write_folder
from sparsecode_pl.utilities.arguments import check_arguments, check_tensor
from sparsecode_pl.utilities.checkpoint import read_checkpoint
from sparsecode_pl.utilities.memory import check_room

# Attempts to replace samples that repeat; the last one is made with random directions.
_DRAWS = 10


class Dictionary(nn.Module):
    """Atoms (the paper's Phi, transposed) that encode activations by themselves.

    It is a `Codec`. `save_pretrained` and `from_pretrained` keep all of it: the centre and scale of the activations,
    the penalty and the coder that its scores were measured with, and a card that says where it comes from.

    Args:
        atoms: unit rows, (m, d).
        centre: mean of the activations, (d,); zero if None.
        scale: what centred activations are divided by, > 0.
        lam: penalty to use it at, > 0, in units of the centred and scaled activations; None if there is none yet.
        coder: how codes are found; the greedy coefficient step if None.
        card: where the dictionary comes from.

    Attributes:
        atoms: parameter (m, d); every row has L2 norm 1.
        centre: buffer (d,).
        scale: buffer, 0-dim.
        coder: how codes are found.
        card: where it comes from.

    Raises:
        ValueError: atoms that are not unit or not finite, a centre of another width, a scale or a penalty that is not
            a finite number above 0.

    Example:
        >>> dictionary = Dictionary(torch.eye(2), centre=torch.tensor([1.0, 1.0]), lam=1.0)
        >>> codes = dictionary.encode(torch.tensor([[4.0, 2.0]]))
        >>> codes.to_dense().tolist(), dictionary.decode(codes).tolist()
        ([[2.5, 0.5]], [[3.5, 1.5]])
    """

    centre: Tensor
    scale: Tensor
    penalty: Tensor

    def __init__(
        self,
        atoms: Tensor,
        centre: Tensor | None = None,
        scale: float = 1.0,
        lam: float | None = None,
        coder: Coder | None = None,
        card: Card | None = None,
    ) -> None:
        super().__init__()
        check_arguments(Dictionary.__init__, locals())
        check_atoms(atoms)
        width = atoms.shape[1]
        centre = torch.zeros(width) if centre is None else centre
        check_tensor(centre, "centre", floating=True)
        if centre.shape != (width,):
            raise ValueError(f"centre has shape {tuple(centre.shape)}, but atoms have width {width}: give ({width},)")
        if not torch.isfinite(centre).all():
            raise ValueError("centre has values that are NaN or infinite: give the mean of the activations")
        kept = torch.tensor(float(scale), dtype=atoms.dtype)
        if not (math.isfinite(kept) and kept > 0):
            raise ValueError(f"scale is {scale}: give a finite number above 0 in {atoms.dtype}")
        self.atoms = nn.Parameter(atoms.detach().clone())
        self.register_buffer("centre", centre.detach().clone().to(atoms.dtype))
        self.register_buffer("scale", kept)
        self.register_buffer("penalty", torch.tensor(math.nan, dtype=torch.float64))
        if lam is not None:
            self.lam = lam
        self.coder = GreedyCoder() if coder is None else coder
        self.card = Card() if card is None else card

    @property
    def lam(self) -> float:
        """Penalty that codes are found at unless another is given; NaN if there is none yet."""
        return float(self.penalty)

    @lam.setter
    def lam(self, value: float) -> None:
        self.penalty.fill_(check_penalty(value))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of atoms m and width d."""
        return self.num_atoms, self.d_model

    @property
    def num_atoms(self) -> int:
        """Number of atoms m."""
        return self.atoms.shape[0]

    @property
    def d_model(self) -> int:
        """Width d of the activations."""
        return self.atoms.shape[1]

    # --- codes -----------------------------------------------------------------------------------------------------

    def bind(self, coder: Coder | None = None) -> "BoundDictionary":
        """The dictionary as it is now, for many calls of `encode`.

        Args:
            coder: another way to find codes.
        """
        check_arguments(Dictionary.bind, locals())
        return BoundDictionary(self, coder or self.coder)

    def encode(self, x: Tensor, lam: float | None = None, coder: Coder | None = None) -> Tensor:
        """Codes of activations.

        Args:
            x: activations as they come, (n, d); converted to the atoms' device and dtype.
            lam: another penalty than the dictionary's, > 0, in units of the centred and scaled activations.
            coder: another way to find codes.

        Returns:
            Sparse CSR, (n, m), on the device of the atoms.

        Raises:
            ValueError: there is no penalty, or x has another width.
        """
        check_arguments(Dictionary.encode, {"coder": coder})
        return (coder or self.coder).bind(self.atoms, reuse=False)(self.standardise(x), self.penalty_of(lam))

    def penalty_of(self, lam: float | None) -> float:
        """The penalty given, or else the dictionary's.

        Raises:
            ValueError: there is neither.
        """
        if lam is not None:
            return lam
        if self.penalty.isnan():
            raise ValueError("lam is missing, and the dictionary has no penalty of its own: give lam, or set it")
        return self.lam

    def decode(self, codes: Tensor) -> Tensor:
        """Activations, (n, d), that codes (n, m) stand for, centre and scale put back."""
        return reconstruct(codes, self.atoms) * self.scale + self.centre

    def reconstruct(self, x: Tensor, codes: Tensor) -> Tensor:
        """The reconstruction, (n, d), of activations x (n, d) from their codes: what `decode` gives."""
        return self.decode(codes)

    def residual(self, x: Tensor, codes: Tensor) -> Tensor:
        """What codes (n, m) miss of activations x (n, d), centred and scaled, (n, d)."""
        return self.standardise(x) - reconstruct(codes, self.atoms)

    def standardise(self, x: Tensor) -> Tensor:
        """Centre and scale activations, (n, d): what codes and penalty refer to.

        Raises:
            ValueError: they have another width, or are no dense tensor of floats.
        """
        check_tensor(x, "x", floating=True)
        if x.ndim != 2 or x.shape[1] != self.d_model:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but atoms have width {self.d_model}: give (n, {self.d_model})"
            )
        return (x.to(self.centre) - self.centre) / self.scale

    # --- learning --------------------------------------------------------------------------------------------------

    @classmethod
    def random(cls, num_atoms: int, d_model: int, generator: torch.Generator | None = None, **kwargs: Any) -> Self:
        """Atoms uniform on the sphere, (num_atoms, d_model).

        Args:
            num_atoms: m.
            d_model: d.
            generator: what they are drawn with.
            kwargs: the other arguments of the constructor.

        Raises:
            ValueError: a number is below 1, or the atoms do not fit into memory.
        """
        check_arguments(Dictionary.random, {"num_atoms": num_atoms, "d_model": d_model, "generator": generator})
        for name, value in (("num_atoms", num_atoms), ("d_model", d_model)):
            if value < 1:
                raise ValueError(f"{name} is {value}: give at least 1")
        check_room("num_atoms x d_model", num_atoms, d_model)
        return cls(directions(torch.randn(num_atoms, d_model, generator=generator), generator), **kwargs)

    @torch.no_grad()
    def start_from(
        self,
        x: Tensor,
        generator: torch.Generator | None = None,
        more: Callable[[int, torch.Generator | None], Tensor] | None = None,
    ) -> None:
        """Make the atoms the directions of samples, in place, no two of them equal.

        Where samples repeat, others take their places. Random directions stand for those that are still missing after
        a few draws, and for samples that equal the centre.

        Args:
            x: a sample for each atom, (m, d), not yet centred.
            generator: of the random directions and of further samples.
            more: draws further samples: takes their number k and the generator, returns (k, d).

        Raises:
            ValueError: there is not one sample for each atom.
        """
        check_tensor(x, "x", floating=True)
        if x.shape != self.atoms.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, but the atoms {self.shape}: give a sample for each atom")
        atoms = directions(self.standardise(x.to(self.atoms)), generator)
        for draw in range(_DRAWS):
            missing = repeated(atoms)
            if not missing.any():
                break
            others = torch.zeros_like(atoms[missing])  # stand for random directions
            if more is not None and draw < _DRAWS - 1:
                others = self.standardise(more(len(others), generator).to(atoms))
            atoms[missing] = directions(others, generator)
        self.atoms.copy_(atoms)

    @torch.no_grad()
    def normalise(self) -> None:
        """Give every atom L2 norm 1 again, in place."""
        self.atoms.copy_(normalize(self.atoms, dim=1))

    # --- files -----------------------------------------------------------------------------------------------------

    def save_pretrained(self, folder: str | Path, name: str | None = None) -> None:
        """Write the dictionary to a folder: safetensors, JSON, and a README.md with its scores.

        Args:
            folder: made if need be. A dictionary that is there is replaced, atomically.
            name: what the README.md says that `from_pretrained` is to be given; the folder if None.

        Raises:
            FileExistsError: the folder has a README.md, and no dictionary that it could belong to.
            OSError: it cannot be written.
        """
        tensors = {entry: self.state_dict()[entry] for entry in ("atoms", "centre", "scale")}
        facts = {
            "num_atoms": self.num_atoms,
            "d_model": self.d_model,
            "lam": None if self.penalty.isnan() else self.lam,
            "coder": self.coder.settings(),
            "card": self.card.plain(),
        }
        readme = self.card.text(self.num_atoms, self.d_model, self.lam, str(folder) if name is None else name)
        write_folder(Path(folder), tensors, facts, readme)

    @classmethod
    def from_pretrained(
        cls,
        name: str | Path,
        *,
        revision: str | None = None,
        coder: Coder | None = None,
        token: str | bool | None = None,
    ) -> Self:
        """Read a dictionary that `save_pretrained` wrote. No code is run that the files name or hold.

        Args:
            name: a folder, or a name on the Hugging Face hub.
            revision: branch, tag or commit on the hub.
            coder: used instead of the one that the files name.
            token: for private dictionaries on the hub.

        Raises:
            FileNotFoundError: the folder holds no dictionary.
            ValueError: the files are damaged or of a newer format, or name a coder that is not known.
            OSError: the hub cannot be reached, or has no such dictionary.
        """
        folder = _folder(name, revision, token)
        tensors, facts = read_folder(folder)
        try:
            shape = facts["num_atoms"], facts["d_model"]
            if tuple(tensors["atoms"].shape) != shape:
                raise ValueError(f"atoms {tuple(tensors['atoms'].shape)} do not fit {CONFIG}, which says {shape}")
            if coder is None and "coder" in facts:
                coder = Coder.from_settings(facts["coder"])
            card = Card.from_plain(facts.get("card", {}))
            return cls(tensors["atoms"], tensors["centre"], float(tensors["scale"]), facts.get("lam"), coder, card)
        except (AttributeError, KeyError, TypeError, ValueError, RuntimeError) as error:
            reason = f"{error} is missing" if isinstance(error, KeyError) else error
            raise ValueError(f"the dictionary in {folder} cannot be used: {reason}") from error

    @classmethod
    def from_checkpoint(cls, path: str | Path, *, coder: Coder | None = None) -> Self:
        """The dictionary of a checkpoint that `sparsecode fit` or a trainer wrote. No code is run that it holds.

        Args:
            path: the checkpoint.
            coder: used instead of the one that the checkpoint names.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: it is damaged, no checkpoint of a `SparseCodingModule`, or one without a learnt dictionary.
        """
        checkpoint = read_checkpoint(path)
        try:
            state, settings = checkpoint["state_dict"], checkpoint["hyper_parameters"]
            atoms, centre, scale = (state[f"dictionary.{name}"] for name in ("atoms", "centre", "scale"))
            lam = float(settings.get("eval_lam") or state["lam"])
            lam = float(state.get("dictionary.penalty", lam))
            coder = Coder.from_settings(settings["coder"]) if coder is None else coder
            card = Card.from_plain(checkpoint.get("card", {}))
            made = None if math.isnan(lam) else cls(atoms, centre, float(scale), lam, coder, card)
        except Exception as error:  # that of another module fails in many ways
            reason = (str(error).strip().splitlines() or [""])[0]
            raise ValueError(
                f"checkpoint is '{path}', and that is no checkpoint of a SparseCodingModule "
                f"({type(error).__name__}: {reason}): give one that `sparsecode fit` wrote"
            ) from error
        if made is None:
            raise ValueError(f"checkpoint is '{path}', and its dictionary was not learnt yet: give a later one")
        return made

    def push_to_hub(
        self, name: str, *, private: bool | None = None, token: str | bool | None = None, revision: str | None = None
    ) -> str:
        """Upload the dictionary to the Hugging Face hub.

        Args:
            name: of the repository, such as "me/my-dictionary"; made if need be.
            private: whether a new repository is private; the account's default if None.
            token: of the account; the one that `hf auth login` keeps if None.
            revision: branch to upload to.

        Returns:
            Address of the upload.
        """
        from huggingface_hub import HfApi

        api = HfApi(token=token)
        api.create_repo(name, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder, name)
            upload = api.upload_folder(
                repo_id=name, folder_path=folder, commit_message="Upload dictionary", revision=revision
            )
        return str(upload)


class BoundDictionary:
    """A dictionary whose atoms stay as they are, and what its coder keeps for them; see `Dictionary.bind`.

    It is a `Codec`.

    Args:
        dictionary: what it was made from.
        coder: how codes are found.

    Attributes:
        dictionary: what it was made from.
        coder: the coder, bound to the atoms.
    """

    def __init__(self, dictionary: Dictionary, coder: Coder) -> None:
        self.dictionary = dictionary
        self.coder = coder.bind(dictionary.atoms)

    @property
    def atoms(self) -> Tensor:
        """Unit rows, (m, d), detached."""
        return self.coder.atoms

    @property
    def num_atoms(self) -> int:
        """Number of atoms m."""
        return self.dictionary.num_atoms

    @property
    def d_model(self) -> int:
        """Width d of the activations."""
        return self.dictionary.d_model

    @property
    def lam(self) -> float:
        """The dictionary's penalty; NaN if it has none."""
        return self.dictionary.lam

    def bind(self) -> Self:
        """Itself."""
        return self

    def standardise(self, x: Tensor) -> Tensor:
        """Centre and scale activations, (n, d); see `Dictionary.standardise`."""
        return self.dictionary.standardise(x)

    def encode(self, x: Tensor, lam: float | None = None) -> Tensor:
        """Codes of activations, sparse CSR (n, m); see `Dictionary.encode`."""
        return self.coder(self.standardise(x), self.dictionary.penalty_of(lam))

    def decode(self, codes: Tensor) -> Tensor:
        """Activations, (n, d), that codes (n, m) stand for; see `Dictionary.decode`."""
        return self.dictionary.decode(codes)

    def reconstruct(self, x: Tensor, codes: Tensor) -> Tensor:
        """The reconstruction, (n, d), of activations x (n, d) from their codes; see `Dictionary.reconstruct`."""
        return self.dictionary.reconstruct(x, codes)

    def residual(self, x: Tensor, codes: Tensor) -> Tensor:
        """What codes (n, m) miss of activations x (n, d), centred and scaled, (n, d)."""
        return self.standardise(x) - reconstruct(codes, self.atoms)


def _folder(name: str | Path, revision: str | None, token: str | bool | None) -> Path:
    """A local folder with the files of a dictionary, downloaded if need be."""
    path = Path(name).expanduser()
    local = isinstance(name, Path) or path.exists() or name.count("/") > 1 or name.startswith((".", "/", "~"))
    if local:
        return path
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(str(name), revision=revision, token=token, allow_patterns=[WEIGHTS, CONFIG, README])
        )
    except Exception as error:  # the hub's own errors are of many kinds, none of which names the cure
        reason = str(error).strip().partition("\n")[0]
        raise OSError(
            f"name is {str(name)!r}, and there is neither such a folder nor a dictionary of that name to be had from "
            f"the hub ({type(error).__name__}: {reason}): give a folder, or a name like 'user/dictionary'"
        ) from error
