import pytest
import torch

from sparsecode_pl.utilities import memory
from sparsecode_pl.utilities.memory import check_memory, free_memory, memory_budget, total_memory

CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine of 64 GB with 40 GB available, whose container is what the test writes into the folder."""
    facts = tmp_path / "meminfo"
    facts.write_text("MemTotal:       64000000 kB\nMemFree:  1000 kB\nMemAvailable:   40000000 kB\n")
    monkeypatch.setattr(memory, "_MACHINE", facts)
    monkeypatch.setattr(memory, "_CONTAINER", tmp_path)
    monkeypatch.setattr(memory, "_physical_memory", lambda: 64_000_000 * 1024)
    return tmp_path


def contain(folder, limit, used, cached=0):
    (folder / "memory.max").write_text(f"{limit}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {cached}\nactive_file 7\n")


def test_without_a_container_it_is_what_the_machine_says(machine):
    assert free_memory(CPU) == 40_000_000 * 1024
    assert total_memory(CPU) == 64_000_000 * 1024
    contain(machine, "max", 10**9)
    assert free_memory(CPU) == 40_000_000 * 1024
    assert total_memory(CPU) == 64_000_000 * 1024


def test_a_container_may_have_less(machine):
    contain(machine, 8 * 10**9, 3 * 10**9, cached=10**9)
    assert free_memory(CPU) == 6 * 10**9
    assert total_memory(CPU) == 8 * 10**9
    contain(machine, 8 * 10**9, 9 * 10**9)
    assert free_memory(CPU) == 0
    contain(machine, 10**15, 0)
    assert free_memory(CPU) == 40_000_000 * 1024


def test_where_the_system_tells_nothing_all_memory_counts_as_free(machine):
    (machine / "meminfo").unlink()
    assert free_memory(CPU) == 64_000_000 * 1024


def test_a_budget_is_what_is_given_or_a_quarter_of_what_is_free_and_never_tiny(machine):
    assert memory_budget(123, CPU) == 123
    assert memory_budget(None, CPU) == 10_000_000 * 1024
    contain(machine, 8 * 10**9, 9 * 10**9)
    assert memory_budget(None, CPU) == 64 * 2**20


def test_this_machine_has_memory():
    assert 0 < free_memory(CPU) <= total_memory(CPU) * 1.01


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_has_memory():
    assert 0 < free_memory(torch.device("cuda")) <= total_memory(torch.device("cuda"))


@pytest.mark.parametrize("check", [check_memory, lambda size: memory_budget(size, CPU)])
def test_bounds_below_a_byte_are_refused(check):
    with pytest.raises(ValueError, match="memory is 0: give a number of bytes, or None"):
        check(0)
    check(None)
