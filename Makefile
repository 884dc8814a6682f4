# Everything a fresh clone needs: `make demo` shows what MobileQuant does, `make test` is what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_OUT ?= demo-out
# The pinned torch; set TORCH to a requirement of your own for another build (CUDA).
TORCH ?= $(shell grep '^torch==' constraints.txt)

.PHONY: demo test lint verify-all install clean

demo: install
	$(BIN)/mobilequant demo --out $(DEMO_OUT) --force

test: lint
	$(BIN)/pytest tests

lint: install
	$(BIN)/ruff check src tests
	$(BIN)/ruff format --check src tests
	$(BIN)/mypy
	$(BIN)/lint-imports

# All longer checks too: property tests with many more examples, in parallel.
verify-all: lint
	$(BIN)/pytest tests --hypothesis-profile=thorough

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[quantize,dev]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO_OUT)
