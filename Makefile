# make demo, make test: see README.md. Both share .venv; a stamp file per environment makes re-runs quick.

VENV := .venv
BIN := $(VENV)/bin
# The locks hold wheels for Python 3.11 and 3.12.
PYTHON ?= $(shell for python in python3.11 python3.12 python3; do \
	$$python -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$python && break; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo test test-web test-android test-demo lint ops clean
.DEFAULT_GOAL := help

help:
	@echo "make demo   a portrait becomes some hundred bytes and comes back: pictures in demo_out/"
	@echo "make test   install what the tests need, then lint, check types and imports, and run all tests"
	@echo "make test-web      the TypeScript client's tests (needs Node 20 or later)"
	@echo "make test-android  those of the Java client (needs a JDK, 9 or later)"
	@echo "make test-demo     the demonstration page in Chromium (installs that where apt-get can)"
	@echo "make lint   ruff, mypy and import-linter only"
	@echo "make ops    build the library of fused ops for ONNX Runtime (needs cmake and a C++ compiler; nvcc for CUDA)"
	@echo "make clean  remove .venv, caches and what the commands wrote"

demo: $(VENV)/.demo
	$(BIN)/edgegrain demo --out demo_out --force

test: lint
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

test-web:
	cd clients/web && npm ci --no-audit --no-fund && npm test

# Without Gradle: the plain Java part has no dependency. Android 7 knows Java 8.
test-android:
	rm -rf build/android && mkdir -p build/android
	javac -Xlint:all,-options -Werror --release 8 -d build/android $$(find clients/android/core/src -name '*.java')
	java -cp build/android dev.edgegrain.ClientTests .

# The page is driven in headless Chromium; CHROMIUM names another one than Debian's.
test-demo: $(VENV)/.test
	test -x "$${CHROMIUM:-/usr/bin/chromium}" || apt-get install --yes --no-install-recommends chromium
	cd clients/web && npm ci --no-audit --no-fund
	$(BIN)/python -m pytest tests/integration/test_demo_page.py

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# CMake takes ONNX Runtime's headers from the folder ONNXRUNTIME_INCLUDE_DIR or fetches them, and uses nvcc if there is one.
ops:
	cmake -S server_decoder/cuda_ops -B build/cuda_ops $(OPS_OPTIONS)
	cmake --build build/cuda_ops
	cmake --install build/cuda_ops

clean:
	rm -rf $(VENV) demo_out evaluate_out dist build server_decoder/cuda_ops/lib .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.11 or 3.12 with venv was found; install one or say make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The order-only prerequisite keeps a newer interpreter file from reinstalling everything.
$(VENV)/.demo: requirements/demo.lock pyproject.toml | $(BIN)/python
	@echo "Installing what the demonstration needs (about 250 MB) into $(VENV)"
	$(PIP) --requirement requirements/demo.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.lock pyproject.toml | $(BIN)/python
	@echo "Installing what the tests need (about 3 GB, some minutes) into $(VENV)"
	$(PIP) --requirement requirements/test.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
