# The front door. `make help` lists what it opens.

PYTHON  ?= python3
RECIPE  ?= images/cgi.toml
SEED    ?=
ARGS    ?=
bin     := .venv/bin
ready   := .venv/.ready

.DEFAULT_GOAL := help
.PHONY: help image demo test test-lab torture bench lab lab-down check format lock clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

image: $(ready) ## build RECIPE (default images/cgi.toml; SOURCE=DIR overrides its source) into images/out/
	$(bin)/image build $(RECIPE) $(if $(SOURCE),--source $(SOURCE))

demo: $(ready) ## an image, three embedded frontends, two deploys and a rollback; no root, nothing left running
	@$(bin)/python -m tests.lab.demo

test: $(ready) ## the tests that need no root
	$(bin)/pytest -q -n auto -m "not lab and not torture"

test-lab: $(ready) ## as root on Linux: the tests on real frontends, with samples of the long ones
	$(bin)/pytest -q -n 2 --dist loadfile -m "lab and not torture"

torture: $(ready) ## as root on Linux: the long ones in full; SEED=N repeats a run
	$(if $(SEED),SEED=$(SEED)) $(bin)/pytest -q -m "lab or torture"

bench: $(ready) ## what builds and updates cost beside mksquashfs, xorriso and rsync; writes docs/benchmarks.md
	@$(bin)/python -m tests.bench $(ARGS)

lab: $(ready) ## as root on Linux: start four real frontends and write lab/fleet.toml for them
	@$(bin)/python -m tests.lab up

lab-down: $(ready) ## end them
	@$(bin)/python -m tests.lab down

check: $(ready) ## format, lint, types, import contracts, shellcheck
	$(bin)/ruff format --check .
	$(bin)/ruff check .
	$(bin)/mypy
	$(bin)/lint-imports
	$(bin)/shellcheck .ci/run tests/lab/frontend/boot.sh tests/lab/power/init.sh

format: $(ready) ## put every file into the one format
	$(bin)/ruff format .
	$(bin)/ruff check --fix .

lock: ## write requirements.lock anew from pyproject.toml (needs uv)
	uv pip compile -q --no-emit-index-url --generate-hashes --extra dev --python-version 3.11 \
	  --universal --no-annotate --custom-compile-command "make lock" pyproject.toml -o requirements.lock

clean: ## remove what was built, and .venv
	rm -rf .venv images/out dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

# A stamp, written last: an interrupted installation is not taken for a whole one.
$(ready): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "flipslot needs Python 3.11 or newer: set PYTHON=python3.12 or the like" >&2; exit 2; }
	@$(PYTHON) -m venv .venv || \
	  { echo "this Python has no venv module (Debian: apt-get install python3-venv)" >&2; exit 2; }
	@echo "installing what flipslot needs into .venv …"
	@$(bin)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@$(bin)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@
