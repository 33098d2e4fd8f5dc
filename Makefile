# make demo   set up what it needs and run the main job on rendered shots
# make test   set up what it needs and pass every test; `make test COVERAGE=1` also sees which lines ran, which takes
#             half as long again, and fails under the floor that pyproject.toml sets
# make faults kills, power cuts, full and failing disks, many writers at once, at every call that changes a disk (40 minutes
#             as root, who may mount); `make faults FAULTS=bounded` an even part of it in minutes, RIGS="kills space" some
# make fuzz   every parser of a file from outside, on twenty thousand damaged files each (half an hour)
# make sweeps the registry's tests with MLflow and S3 cut at every request and eighty registrations at once (half an hour)
# make bench  a changeover and the way back with 1,000 models, metadata of 50,000 files, every metric against the obvious
#             way, a shot of 300 4K frames, memory predicted and measured, 1 GiB beside MLflow and curl, a promotion among
#             10,000 releases (an hour)
# make drift  memory predicted and measured on ten releases of onnxruntime, each in an environment of its own
# make gpu    what a GPU takes of memory, with the python3 that is found; tells by part what could not be measured
# make tuf-conformance SUITE=DIR  our client under a checkout of theupdateframework/tuf-conformance (needs faketime)
# make lint   style, types, layers, Python 3.7 in the plug-in, documentation
# make docs   the documentation as pages in site-docs/
# make reference  the pages and schemas that are written from the code
# make tables  the compatibility tables, as far as wheels, their metadata and probes tell them (asks the package index)
# make setup  .venv with .venv/bin/changeover in it; quick when it is up to date

BIN := .venv/bin
# Threads of the numerical libraries: one, so that timings and results do not depend on how busy the machine is.
export OMP_NUM_THREADS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DO_NOT_TRACK := true
# Material prints a notice on a later MkDocs, which this checkout does not use.
export NO_MKDOCS_2_WARNING := 1

.PHONY: setup demo test tuf-conformance sweeps bench drift lint format docs demo-models reference tables gpu clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt .ci/setup
	@.ci/setup

demo: setup
	@$(BIN)/changeover demo

test: setup
ifdef COVERAGE
	@$(BIN)/coverage erase
	@COVERAGE=1 .ci/tests
	@# A test that kills a child leaves a broken data file of that child; the others count.
	@$(BIN)/coverage combine -q 2>/dev/null
	@$(BIN)/coverage report
else
	@.ci/tests
endif
	@.ci/pragmas

faults: setup
	@PYTHONPATH=tools/faults $(BIN)/python -m changeover_faults $(if $(filter bounded,$(FAULTS)),--bounded) $(RIGS)

fuzz: setup
	@$(BIN)/python -m pytest -q -p no:cacheprovider --timeout=3600 --hypothesis-profile=long tests/fuzz

sweeps: setup
	@$(BIN)/python -m pytest -q -p no:cacheprovider --whole tests/registry tests/updater/registry

bench: setup
	@$(BIN)/python -m changeover_updater.bench_switch
	@$(BIN)/python -m changeover_updater.bench_refresh
	@$(BIN)/python -m changeover_validators.golden.bench
	@$(BIN)/python -m changeover_validators.golden.bench_pipeline
	@$(BIN)/python -m changeover_validators.vram.bench_plans
	@$(BIN)/python -m changeover_validators.vram.bench --large
	@$(BIN)/python -m changeover_updater.bench_transfer
	@$(BIN)/python -m changeover_updater.bench_stations
	@$(BIN)/python -m changeover_updater.bench_registry
	@$(BIN)/python tests/plugins/nuke/bench_resolve.py
	@$(MAKE) --no-print-directory drift

drift: setup
	@$(BIN)/python -m changeover_validators.vram.drift

tuf-conformance: setup
	@tests/conformance/run-suite "$(SUITE)"

gpu:
	@python3 tools/gpu/measure.py

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/vermin --quiet --no-tips --violations --eval-annotations -t=3.7- plugins/nuke/*.py
	$(BIN)/mkdocs build --strict --quiet --site-dir site-docs

format: setup
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

docs: setup
	$(BIN)/mkdocs build --strict --site-dir site-docs

reference: setup
	$(BIN)/python -m changeover_registry.schemas docs/reference/schemas docs/reference/record-fields.md
	$(BIN)/python -m changeover_updater.cli._reference docs/reference/cli.md
	.ci/constraints
	.ci/decisions

# What wheels, their metadata and probes tell of the tables; `TABLES=--binaries` also reads the GPU wheels (gigabytes).
tables: setup
	@$(BIN)/python -m changeover_validators.tables.regenerate $(TABLES)

demo-models: setup
	$(BIN)/python -m changeover_updater.demo.models

clean:
	rm -rf site-docs dist build .coverage .coverage.* .mypy_cache .ruff_cache .pytest_cache .hypothesis
