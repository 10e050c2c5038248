"""`sparsecode export`."""

from pathlib import Path
from typing import Any, Literal

from jsonargparse import ArgumentParser
from lightning.pytorch.utilities import rank_zero_info

from sparsecode_pl.dictionary import Dictionary

# Options of the format saelens alone.
_SAELENS = ("architecture", "hook_name", "steps")


def parser() -> ArgumentParser:
    """The parser of the command."""
    made = ArgumentParser(
        prog="sparsecode export",
        description="Write a dictionary to a folder that Dictionary.from_pretrained reads, or that SAELens reads.",
    )
    made.add_argument(
        "dictionary",
        type=str,
        help="A checkpoint of `sparsecode fit`, lightning_logs/.../checkpoints/*.ckpt; or a dictionary: its folder, or "
        "its name on the Hugging Face hub.",
    )
    made.add_argument("folder", type=str, help="The folder to write.")
    made.add_argument(
        "--format",
        type=Literal["folder", "saelens"],
        default="folder",
        help="folder: for Dictionary.from_pretrained; saelens: for SAELens from version 6 on, after `import "
        "sparsecode_pl.interchange`.",
    )
    made.add_argument(
        "--architecture",
        type=Literal["sparsecode_greedy", "matching_pursuit"] | None,
        default=None,
        help="Of the format saelens. sparsecode_greedy, the default, has the dictionary's codes; matching_pursuit is "
        "read without this package, but its codes differ.",
    )
    made.add_argument(
        "--hook_name",
        type=str | None,
        default=None,
        help="Of the format saelens: TransformerLens's name of the place in the model; by default that of the layer.",
    )
    made.add_argument(
        "--steps",
        type=int | None,
        default=None,
        help="Of matching_pursuit: how often an atom is taken; by default the mean number of non-zero coefficients.",
    )
    return made


def run(words: list[str]) -> None:
    """Write the dictionary to a folder."""
    made = parser()
    config = made.parse_args(words)
    try:
        _export(config)
    except (OSError, ValueError) as error:
        made.error(str(error), error)
    if config.format == "saelens":
        rank_zero_info(
            f'Read it by sae_lens.SAE.load_from_disk("{config.folder}"), after import sparsecode_pl.interchange'
        )
    else:
        rank_zero_info(f'Read it by Dictionary.from_pretrained("{config.folder}")')


def _export(config: Any) -> None:
    options = {name: config[name] for name in _SAELENS if config[name] is not None}
    if options and config.format != "saelens":
        name, value = next(iter(options.items()))
        raise ValueError(f"{name} is {value!r}, and format {config.format!r}: give --format saelens, or leave it out")
    if "steps" in options and config.architecture != "matching_pursuit":
        raise ValueError(f"steps is {config.steps}: give it with --architecture matching_pursuit, or leave it out")
    dictionary = _read(config.dictionary)
    if config.format == "folder":
        dictionary.save_pretrained(config.folder)
        return
    from sparsecode_pl.interchange import export_saelens

    export_saelens(dictionary, config.folder, **options)


def _read(name: str) -> Dictionary:
    """The dictionary of a checkpoint, of a folder or of the hub."""
    path = Path(name).expanduser()
    return (
        Dictionary.from_checkpoint(name)
        if name.endswith(".ckpt") or path.is_file()
        else Dictionary.from_pretrained(name)
    )
