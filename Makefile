# Needs python3 (3.11 to 3.13) with venv, and make. Everything else is installed into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: demo demo-compress demo-devices test check bench clean

demo: $(STAMP)  ## train, pack, measure and report a small model on this machine
	$(BIN)/edgepack demo -o build/demo

demo-compress: $(STAMP)  ## the same by every family of compression techniques, in minutes
	$(BIN)/edgepack demo --compress -o build/demo-compress

demo-devices: $(STAMP)  ## the same on an emulated board and phone (apt: qemu-system-arm adb)
	$(BIN)/edgepack demo --devices -o build/demo-devices

test: $(STAMP)  ## every test that can run here; CI=1 makes a missing component a failure
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile $(if $(CI),--cov --cov-report=term)

check: $(STAMP)  ## format, lint, types, import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(STAMP)  ## reprint the figures in the docs
	$(BIN)/python -m benchmarks.startup
	$(BIN)/python -m benchmarks.pack
	$(BIN)/python -m benchmarks.agent
	$(BIN)/python -m benchmarks.calibration
	$(BIN)/python -m benchmarks.quantise
	$(BIN)/python -m benchmarks.devices

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  --constraint constraints.txt --editable '.[dev,keras2,mcu]'
	touch $@

clean:
	rm -rf build dist $(VENV)
