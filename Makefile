# `make demo` and `make test` do all their set-up themselves, in .venv. They need Python >= 3.11, a
# C++17 compiler, make and git; everything else comes from PyPI.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RESULTS = bench/results/$(shell git describe --tags --always --dirty 2>/dev/null || echo latest)
SOURCES := pyproject.toml setup.py CMakeLists.txt constraints.txt $(shell find csrc -type f)

.PHONY: demo test bench lint format doctest clean

demo: $(VENV)/.compare
	$(BIN)/koopcore compare hamiltonian digits --optimizers adam,adadelta,adagrad,sgd --jobs 2

test: $(VENV)/.test doctest
	$(BIN)/python -m pytest

# OpenBLAS takes its kernels for AVX2 on processors that it does not know, such as new ones of AMD; but
# limits are what a processor can do, and peers run at their best.
BEST_BLAS = $(shell grep -q AuthenticAMD /proc/cpuinfo 2>/dev/null && \
	grep -qw avx512f /proc/cpuinfo && echo OPENBLAS_CORETYPE=SkylakeX)

# The benchmarks of the core, their table and roofline, instruction counts, and the quick comparison,
# kept by version. AGAINST=<another such folder> says what became slower or worse since. The goals
# that were missed come last.
bench: $(VENV)/.bench
	@mkdir -p $(RESULTS)
	$(BEST_BLAS) $(BIN)/python -m pytest bench -o "python_files=bench_*.py" --import-mode=prepend \
		--benchmark-json=$(RESULTS)/core.json
	$(BIN)/python bench/summary.py $(RESULTS)/core.json --out $(RESULTS)
	-$(BIN)/python bench/instructions.py --out $(RESULTS)/instructions.json
	$(BIN)/koopcore compare --quick --jobs 2 --report $(RESULTS)
ifdef AGAINST
	$(BIN)/koopcore compare --report $(RESULTS) --against $(AGAINST)/results.jsonl
	$(BIN)/koopcore compare --report $(RESULTS) --against $(AGAINST)/core.json
endif
	@$(BIN)/python bench/summary.py $(RESULTS)/core.json --goals

lint: $(VENV)/.test
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

format: $(VENV)/.test
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $$(git ls-files '*.cpp' '*.hpp')

# torch first and pinned: nothing installed later may pull another build of it.
$(VENV)/.torch: constraints.txt
	@$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11))" || \
		{ echo "koopcore needs Python >= 3.11; set PYTHON=python3.x" >&2; exit 1; }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(PIP) torch
	@touch $@

$(VENV)/.compare: $(VENV)/.torch $(SOURCES)
	$(PIP) -e '.[compare]'
	@touch $@

$(VENV)/.test: $(VENV)/.torch $(SOURCES)
	$(PIP) -e '.[test]'
	@touch $@

$(VENV)/.bench: $(VENV)/.torch $(SOURCES)
	$(PIP) -e '.[bench]'
	@touch $@

# The C++ tests need the doctest header. Without it they are skipped, and the test run says so.
doctest:
	@if echo '#include <doctest/doctest.h>' | $${CXX:-c++} -x c++ -E - >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		echo "installing doctest-dev for the C++ tests"; \
		{ apt-get update -qq && apt-get install -y -qq doctest-dev; } >/dev/null 2>&1 || \
		echo "doctest-dev could not be installed: the C++ tests will be SKIPPED" >&2; \
	else \
		echo "doctest not found: the C++ tests will be SKIPPED (Debian: apt-get install doctest-dev)" >&2; \
	fi

clean:
	rm -rf $(VENV) build dist *.egg-info koopcore/*.so koopcore/libscipy_openblas.LICENSE.txt
