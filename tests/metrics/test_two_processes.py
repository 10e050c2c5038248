"""Every metric in two processes, against NumPy's answer for all the rows."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from torchmetrics import MetricCollection

from sparsecode_pl.metrics import AtomRecovery, SampledCodes
from sparsecode_pl.metrics.functional import atom_recovery


def test_two_processes_give_the_answer_of_one(cases, make_rows, tmp_path):
    whole, batches = make_rows(40).cut(17, 3, 11, 0, 9)
    true_atoms, atoms = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    collection = MetricCollection(
        {name: case.metric() for name, case in cases.items()}
        | {
            "recovery": AtomRecovery(true_atoms, threshold=0.6),
            "all": SampledCodes(torch.Tensor.to_dense, whole.codes.shape[1]),
            "some": SampledCodes(torch.Tensor.to_dense, whole.codes.shape[1], num_rows=10),
        },
        compute_groups=False,
    )
    inputs = [batch.inputs() for batch in batches]
    torch.save((collection, (inputs[:2], inputs[2:]), atoms), tmp_path / "inputs.pt")

    script = Path(__file__).with_name("one_of_two_processes.py")
    processes = [
        subprocess.Popen(  # noqa: S603
            [sys.executable, str(script), str(rank), str(tmp_path)],
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        for process in processes:
            _, errors = process.communicate(timeout=120)
            assert process.returncode == 0, errors
    finally:
        for process in processes:
            process.kill()

    recovery = atom_recovery(true_atoms, atoms, threshold=0.6)
    assert 0 < recovery.fraction_above < 1
    for rank in range(2):
        result = torch.load(tmp_path / f"result_{rank}.pt")
        assert set(result) == {*cases, "mean_max_cosine", "fraction_above", "all", "some"}
        for name, case in cases.items():
            np.testing.assert_allclose(result[name], case.answer(whole), rtol=1e-11, err_msg=name)
        assert result["mean_max_cosine"] == recovery.mean_max_cosine
        assert result["fraction_above"] == recovery.fraction_above
        rows = whole.codes.tolist()
        np.testing.assert_allclose(sorted(result["all"].tolist()), sorted(rows))
        assert len(result["some"]) == 10
        assert all(row in rows for row in result["some"].tolist())
