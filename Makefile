# Each target sets up .venv by itself the first time; after that it starts at once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
BENCH_READY := .venv/.bench-ready

.PHONY: demo test lint bench clean

demo: $(READY)  ## how sparse are a real model's token embeddings?
	$(BIN)/sparsecode measure --config configs/demo.yaml

test: $(READY)
	$(BIN)/pytest

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(BENCH_READY)  ## times and memory, beside other libraries
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,dev]"
	touch $@

# overcomplete asks for torchvision, whose wheel on PyPI is built for CUDA: beside a PyTorch without CUDA it cannot be
# imported, and takes transformers and SAELens down with it. The part that is measured does not use it.
$(BENCH_READY): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m pip install --quiet --no-deps "overcomplete==0.3.0"
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
