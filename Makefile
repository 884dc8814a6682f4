# Everything a fresh clone needs: `make demo` shows what MobileQuant does, `make test` is what CI runs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SOURCES := $(shell find csrc -name "*.cpp" -o -name "*.h" -o -name "*.inl" -o -name "*.c")
DEMO_OUT ?= demo-out
# The pinned torch; set TORCH to a requirement of your own for another build (CUDA).
TORCH ?= $(shell grep '^torch==' constraints.txt)

# Two processes of one thread each: what a CI machine with two cores does best. Tests of one file stay together, since
# they share what they set up, and run in the order of the folders: the real model, which takes longest, comes first.
# Only where there is npm can the Brown corpus be had.
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/pytest tests -n 2 --dist loadfile --no-loadscope-reorder \
	$(if $(shell command -v npm),,-m "not npm")

.PHONY: demo test lint verify-all install clean

demo: install
	$(BIN)/mobilequant demo --out $(DEMO_OUT) --force

test: lint
	$(PYTEST)

lint: install
	$(BIN)/ruff check src tests bench
	$(BIN)/ruff format --check src tests bench
	$(BIN)/mypy
	$(BIN)/lint-imports
	@$(BIN)/clang-format --dry-run -Werror $(SOURCES)

# The same with many more random examples in every property test, and the GPU kernels in their interpreter.
verify-all: lint
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[kernels]'
	$(PYTEST) --hypothesis-profile=thorough

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt CMakeLists.txt csrc/CMakeLists.txt $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[quantize,dev]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO_OUT)
