"""The dictionary: unit-norm atoms, and the centre and scale of the activations they were learnt on."""

import json
from pathlib import Path
from typing import Self

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.functional import normalize

from sparsecode_pl.coding import Coder, GreedyCoder, reconstruct
from sparsecode_pl.coding.checks import check_atoms

_WEIGHTS, _METADATA = "dictionary.safetensors", "dictionary.json"
_FORMAT = 1


class Dictionary(nn.Module):
    """Atoms (the paper's Phi, transposed), with the centre and scale of the activations.

    Args:
        atoms: unit rows, (m, d).
        centre: mean of the activations, (d,); zero if None.
        scale: what centred activations are divided by, > 0.

    Attributes:
        atoms: parameter (m, d); every row has L2 norm 1.
        centre: buffer (d,).
        scale: buffer, 0-dim.

    Raises:
        ValueError: atoms that are not unit or not finite, a centre of another width, a scale that is not positive.

    Example:
        >>> dictionary = Dictionary(torch.eye(2), centre=torch.tensor([1.0, 1.0]))
        >>> codes = dictionary.encode(torch.tensor([[4.0, 2.0]]), lam=1.0)
        >>> codes.to_dense().tolist(), dictionary.decode(codes).tolist()
        ([[2.5, 0.5]], [[3.5, 1.5]])
    """

    centre: Tensor
    scale: Tensor

    def __init__(self, atoms: Tensor, centre: Tensor | None = None, scale: float = 1.0) -> None:
        super().__init__()
        check_atoms(atoms)
        width = atoms.shape[1]
        centre = torch.zeros(width) if centre is None else centre
        if centre.shape != (width,):
            raise ValueError(f"centre has shape {tuple(centre.shape)}, but atoms have width {width}: give ({width},)")
        if not scale > 0:
            raise ValueError(f"scale is {scale}: give a number above 0")
        self.atoms = nn.Parameter(atoms.detach().clone())
        self.register_buffer("centre", centre.detach().clone().to(atoms.dtype))
        self.register_buffer("scale", torch.tensor(float(scale), dtype=atoms.dtype))

    @property
    def shape(self) -> tuple[int, int]:
        """Number of atoms m and width d."""
        return self.atoms.shape[0], self.atoms.shape[1]

    @classmethod
    def random(cls, num_atoms: int, d_model: int, generator: torch.Generator | None = None) -> Self:
        """Atoms uniform on the sphere, (num_atoms, d_model)."""
        return cls(_directions(torch.randn(num_atoms, d_model, generator=generator), generator))

    @torch.no_grad()
    def start_from(self, x: Tensor, generator: torch.Generator | None = None) -> None:
        """Make the atoms the directions of samples, in place; one that equals the centre gives a random direction.

        Args:
            x: a sample for each atom, (m, d), not yet centred.
            generator: of the random directions.

        Raises:
            ValueError: there is not one sample for each atom.
        """
        if x.shape != self.atoms.shape:
            raise ValueError(f"x has shape {tuple(x.shape)}, but the atoms {self.shape}: give a sample for each atom")
        self.atoms.copy_(_directions(self.standardise(x.to(self.atoms)), generator))

    @torch.no_grad()
    def normalise(self) -> None:
        """Give every atom L2 norm 1 again, in place."""
        self.atoms.copy_(normalize(self.atoms, dim=1))

    def standardise(self, x: Tensor) -> Tensor:
        """Centre and scale activations, (n, d): what codes and penalty refer to.

        Raises:
            ValueError: they have another width.
        """
        if x.ndim != 2 or x.shape[1] != self.shape[1]:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, but atoms have width {self.shape[1]}: give (n, {self.shape[1]})"
            )
        return (x - self.centre) / self.scale

    def encode(self, x: Tensor, lam: float, coder: Coder | None = None) -> Tensor:
        """Codes of activations.

        Args:
            x: activations as they come, (n, d).
            lam: penalty, > 0, in units of the centred and scaled activations.
            coder: how to find the codes; the greedy coefficient step if None.

        Returns:
            Sparse CSR, (n, m).
        """
        return (coder or GreedyCoder())(self.standardise(x), self.atoms, lam)

    def decode(self, codes: Tensor) -> Tensor:
        """Activations, (n, d), that codes (n, m) stand for, centre and scale put back."""
        return reconstruct(codes, self.atoms) * self.scale + self.centre

    def save(self, folder: str | Path) -> None:
        """Write the dictionary to a folder: `dictionary.safetensors` and a few facts in `dictionary.json`."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        save_file(tensors, folder / _WEIGHTS)
        facts = {"format": _FORMAT, "num_atoms": self.shape[0], "d_model": self.shape[1]}
        (folder / _METADATA).write_text(json.dumps(facts, indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path) -> Self:
        """Read a dictionary that `save` wrote.

        Raises:
            FileNotFoundError: the folder holds no dictionary.
            ValueError: it was written in a newer format, or weights and facts disagree.
        """
        folder = Path(folder)
        if not (folder / _METADATA).is_file() or not (folder / _WEIGHTS).is_file():
            raise FileNotFoundError(f"folder {folder} holds no dictionary ({_WEIGHTS} and {_METADATA}): check the path")
        facts = json.loads((folder / _METADATA).read_text())
        if facts["format"] > _FORMAT:
            raise ValueError(f"folder {folder}: format {facts['format']} is newer than {_FORMAT}; update sparsecode-pl")
        tensors = load_file(folder / _WEIGHTS)
        if tensors["atoms"].shape != (facts["num_atoms"], facts["d_model"]):
            raise ValueError(f"folder {folder}: atoms {tuple(tensors['atoms'].shape)} do not fit its {_METADATA}")
        return cls(tensors["atoms"], tensors["centre"], float(tensors["scale"]))


def _directions(x: Tensor, generator: torch.Generator | None) -> Tensor:
    """Unit rows; a zero row becomes a random one."""
    zero = torch.linalg.vector_norm(x, dim=1) == 0
    x[zero] = torch.randn(int(zero.sum()), x.shape[1], generator=generator).to(x)
    return normalize(x, dim=1)
