"""Whether other initial dictionaries would have found the same atoms."""

from dataclasses import replace

from lightning.pytorch.utilities import rank_zero_warn

from sparsecode_pl.measurement.record import Record, Results
from sparsecode_pl.metrics.functional import atom_stability

# Matching takes seconds for so many atoms, and minutes and gigabytes for a few times as many.
_MOST_ATOMS = 4096


def with_stability(results: Results) -> Results:
    """Results in which each record of several fits tells how alike their dictionaries are.

    Records get `atom_stability`, the mean cosine of the atoms of each pair of fits, matched one to one, and
    `atom_stability_chance`, the same for random atoms. Dictionaries of more than 4,096 atoms are left out.
    """
    return replace(results, records=tuple(_with_stability(record) for record in results.records))


def _with_stability(record: Record) -> Record:
    if len(record.fits) < 2 or record.error is not None or record.stability:
        return record
    if record["num_atoms"] > _MOST_ATOMS:
        return record
    try:
        found = atom_stability([fit.dictionary.atoms.detach() for fit in record.fits])
    except (OSError, ValueError) as error:  # all that was measured is written already
        rank_zero_warn(f"{record.data}: the stability of its atoms is left out: {error}")
        return record
    stability = {"atom_stability": float(found.mean_cosine), "atom_stability_chance": float(found.chance)}
    return replace(record, stability=stability)
