# Each target sets up .venv the first time; after that it starts at once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
BENCH_READY := .venv/.bench-ready

.PHONY: demo test reliability lint bench clean

demo: $(READY)  ## how sparse are a real model's token embeddings, and of which features?
	$(BIN)/sparsecode measure --config configs/demo.yaml
	$(BIN)/sparsecode features lightning_logs/demo --controls "[MatchedGaussian]" --exact_examples 0

test: $(READY)
	$(BIN)/pytest -n logical --maxprocesses 8 --dist loadfile

reliability: $(READY)  ## kill, fuzz and scale for an hour or two; `make test` has the short form
	$(BIN)/pytest tests/reliability --long

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(BENCH_READY)  ## time and memory, beside other libraries
	for script in benchmarks/bench_*.py; do $(BIN)/python $$script || exit 1; done

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[demo,dev,sae]"
	touch $@

# overcomplete requires torchvision, whose wheel on PyPI is built for CUDA. With a PyTorch without CUDA, torchvision
# cannot be imported, and then transformers and SAELens cannot either. The part that is measured does not use it.
$(BENCH_READY): $(READY)
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[bench]"
	$(BIN)/python -m pip install --quiet --no-deps "overcomplete==0.3.0"
	touch $@

clean:
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis
