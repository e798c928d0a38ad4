# Two commands matter: `make demo` and `make test`. Both set up what they need in .venv and are fast the second time.
#
#   TORCH=cpu|cuda    which build of torch; cpu is the default. TORCH_INDEX=URL names the package index it comes from, such as
#                     https://download.pytorch.org/whl/cu128 for CUDA 12.8 (default for cpu: https://download.pytorch.org/whl/cpu)
#   GUI=0             `make demo` writes files and opens no window
#   PYTHON=python3.12 the interpreter for .venv; by default the first of python3, python3.13, ... that is 3.11 or later
#   JOBS=4            test files that run at a time; 3 by default, which is right for two cores: some wait for windows and workers
#   COMPAT="lowest qt wheel meta"  what `make compat` looks at; all of them by default
#   DEMO_OUT=folder   where `make demo` writes

SHELL := /bin/sh
VENV ?= .venv
TORCH ?= cpu
TORCH_INDEX ?=
PYTHON ?=
GUI ?= 1
DEMO_OUT ?= runs/demo
PYTEST_ARGS ?=
JOBS ?= 3
FUZZ_SECONDS ?= 60
KILLS ?= 50
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export VENV TORCH TORCH_INDEX PYTHON
# the isolated environment in which the package itself is built is pinned too (pip reads one or the other of these, by version)
export PIP_CONSTRAINT := constraints.txt
export PIP_BUILD_CONSTRAINT := constraints.txt
# threads that wait sleep instead of spinning: on a busy machine spinning costs ten times the work
export OMP_WAIT_POLICY := PASSIVE
# tests start commands and helpers many times: each would compile the package anew, and pytest would rewrite napari anew
export PYTHONDONTWRITEBYTECODE :=

# what a window of napari needs, and what the tests need besides
QT_LIBS := libegl1 libgl1 libglib2.0-0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 \
  libxcb-randr0 libxcb-render-util0 libxcb-shape0 libxcb-xinerama0 libdbus-1-3 libfontconfig1 libopengl0
TEST_PACKAGES := xvfb xauth dcm2niix

TORCH_STAMP := $(VENV)/.torch-$(TORCH)$(subst /,_,$(subst :,_,$(TORCH_INDEX)))
DEMO_STAMP := $(VENV)/.demo
TEST_STAMP := $(VENV)/.test
DOCS_STAMP := $(VENV)/.docs
COMPAT_STAMP := $(VENV)/.compat
COMPAT ?=

.PHONY: demo test pytest coverage slow endurance docs compat lowest licences fuzz lint unit constraints clean help

help:
	@sed -n '1,10s/^# \{0,1\}//p' Makefile

$(TORCH_STAMP): constraints.txt tools/venv.sh
	@sh tools/venv.sh
	@rm -f $(VENV)/.torch-*
	@touch $@

# "napari[all]" is not asked for: PySide6 comes with our own extra `all`
$(DEMO_STAMP): $(TORCH_STAMP) pyproject.toml constraints.txt
	@echo "installing napari-medseq and what it needs into $(VENV)"
	@$(PIP) -e ".[all]"
	@touch $@

$(TEST_STAMP): $(TORCH_STAMP) pyproject.toml constraints.txt
	@sh tools/system.sh $(TEST_PACKAGES) $(QT_LIBS)
	@echo "installing napari-medseq, napari and the tools of the tests into $(VENV)"
	@$(PIP) -e ".[all,dev]"
	@touch $@ $(DEMO_STAMP)

$(DOCS_STAMP): $(TORCH_STAMP) pyproject.toml constraints.txt
	@echo "installing napari-medseq and the tools of the site into $(VENV)"
	@$(PIP) -e ".[all,docs]"
	@touch $@

$(COMPAT_STAMP): $(TEST_STAMP)
	@echo "installing the tools that build and check the package into $(VENV)"
	@$(PIP) -e ".[all,dev,docs,release]"
	@touch $@

demo: $(DEMO_STAMP)
	@if [ "$(GUI)" != 0 ] && [ -n "$${DISPLAY:-}$${WAYLAND_DISPLAY:-}" ]; then \
	  sh tools/system.sh $(QT_LIBS) && $(BIN)/napari-medseq demo --out $(DEMO_OUT) --viewer; \
	else \
	  $(BIN)/napari-medseq demo --out $(DEMO_OUT); \
	fi

lint: $(TEST_STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/npe2 validate src/napari_medseq/napari.yaml

# the linters beside the tests: a type checker is one process, and tests wait for windows and workers at times
test: $(TEST_STAMP)
	@$(MAKE) --no-print-directory -j2 lint pytest

pytest: $(TEST_STAMP)
	OMP_NUM_THREADS=1 xvfb-run -a -s "-screen 0 1400x1000x24" \
	  $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder $(PYTEST_ARGS)

# how much of the package the tests reach, the long ones too; counting takes a third more time, so it is not a part of `make test`
coverage: $(TEST_STAMP)
	OMP_NUM_THREADS=1 xvfb-run -a -s "-screen 0 1400x1000x24" \
	  $(BIN)/python -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder -m "" --cov --cov-report=term:skip-covered $(PYTEST_ARGS)

# the site, in site/: every page, example and notebook; a warning is an error
docs: $(DOCS_STAMP)
	rm -rf site docs/gallery
	PATH="$(abspath $(BIN)):$$PATH" OMP_NUM_THREADS=1 MPLBACKEND=Agg NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet --site-dir site

# the oldest versions, PyQt6, and the wheel without the checkout: see tools/compat.sh. COMPAT="lowest wheel" names some of them
compat: $(COMPAT_STAMP)
	sh tools/compat.sh $(COMPAT)

# a stranger's first study and the tutorials, timed on a machine that does nothing else; the pages quote what is recorded
walk: $(COMPAT_STAMP)
	rm -rf dist
	$(BIN)/python -m build --installer uv --wheel --outdir dist . >/dev/null
	NEWEST=1 sh tools/stranger.sh dist/*.whl docs/benchmarks/stranger.json
	OMP_NUM_THREADS=1 $(BIN)/python tools/walk_tutorials.py --record docs/benchmarks/tutorials.json

lowest: $(COMPAT_STAMP)
	sh tools/lowest.sh $(BIN)

licences: $(COMPAT_STAMP)
	$(BIN)/python tools/licences.py --write

# damaged files and texts for the parsers, for a bounded time each; the tests hold a short run of it
fuzz: $(TEST_STAMP)
	$(BIN)/python -m tests.fuzz_headers --seconds $(FUZZ_SECONDS)
	$(BIN)/python -m tests.fuzz_texts --seconds $(FUZZ_SECONDS)

endurance: $(TEST_STAMP)
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.endurance --kills $(KILLS)

# what `make test` leaves out
slow: $(TEST_STAMP)
	OMP_NUM_THREADS=1 xvfb-run -a -s "-screen 0 1400x1000x24" $(BIN)/python -m pytest -m slow $(PYTEST_ARGS)

unit: $(TEST_STAMP)
	$(BIN)/python -m pytest tests/unit $(PYTEST_ARGS)

constraints: $(TEST_STAMP)
	sh tools/constraints.sh $(BIN)/python

clean:
	rm -rf $(VENV) .cache .venv-lowest .venv-pyqt6 .venv-wheel dist runs site docs/gallery .coverage .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
