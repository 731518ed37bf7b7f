# make demo and make test share .venv; a stamp file per environment makes later runs quick.

VENV := .venv
BIN := $(VENV)/bin
# demo.lock holds wheels for Python 3.11 to 3.14, test.lock for 3.11 to 3.13; so these are preferred.
supports = $(1) -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $(2)))' 2>/dev/null
find-python = $(shell for python in python python3.13 python3.12 python3.11 python3 python3.14; do \
	$(call supports,$$python,$(1)) && echo $$python && break; done)
PYTHON ?= $(or $(call find-python,13),$(call find-python,14))
# Modules are compiled when they are first imported, once: pip would compile all of the 18,000 that it installs, and
# without stored bytecode every Python process that the tests start would compile ours again.
unexport PYTHONDONTWRITEBYTECODE
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --no-compile

.PHONY: help demo test test-weights test-fake-cuda test-web test-package test-android maven test-demo lint ops clean
.DEFAULT_GOAL := help

help:
	@echo "make demo          compress and restore a portrait; the pictures are in demo_out/"
	@echo "make test          install the test environment, then run lint, type checks, import rules and all tests"
	@echo "make lint          ruff, mypy and import-linter only"
	@echo "make test-weights  fetches a generator and metric networks (260 MB, needs npm), runs the tests that need them"
	@echo "make test-fake-cuda  tests of the CUDA provider without a GPU, with their output (part of make test)"
	@echo "make test-web      tests of the TypeScript client (needs Node 20 or later)"
	@echo "make test-package  tries the npm package in a fresh Vite project in Chromium, the Java artefact in a Maven project"
	@echo "make test-android  tests of the Java client (needs a JDK, 9 or later)"
	@echo "make maven         tests and installs the Java client as a Maven artefact into build/maven-repository, offline"
	@echo "make test-demo     tests of the demonstration page in Chromium (installs it with apt-get if it is missing)"
	@echo "make ops           build the fused ops for ONNX Runtime (needs CMake and a C++ compiler; nvcc for CUDA)"
	@echo "make clean         remove .venv, caches and generated files"

demo: $(VENV)/.demo
	$(BIN)/edgegrain demo --out demo_out --force

# One worker more than cores: tests wait for downloads and for processes that they start. mypy needs one core for half a
# minute, so it runs beside them and reports at the end.
test: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports --no-cache
	@mkdir -p build; $(BIN)/mypy > build/mypy.txt 2>&1 & types=$$!; \
	$(BIN)/python -m pytest --numprocesses $$(($$(getconf _NPROCESSORS_ONLN) + 1)) --dist loadfile --no-loadscope-reorder; \
	tests=$$?; wait $$types; types=$$?; cat build/mypy.txt; exit $$((tests + types))

# Also needs pictures and LPIPS in ../shared. What is there already is not fetched again.
test-weights: $(VENV)/.test
	$(BIN)/edgegrain prior fetch
	$(BIN)/edgegrain metrics fetch
	$(BIN)/python -m pytest -rs tests/integration/test_zoo.py tests/parity/test_mobile_stylegan_openvino.py \
		tests/unit/edgegrain/metrics/test_identity.py

# The real onnxruntime-gpu on a fake device: tests/fake_cuda/README.md. ORT_GPU names another version of it.
test-fake-cuda: $(VENV)/.test
	ORT_GPU=$(ORT_GPU) $(BIN)/python -m pytest tests/fake_cuda -rP

test-web:
	cd clients/web && npm ci --no-audit --no-fund && npm test

# Without Gradle: the plain Java part has no dependencies. Android 7 supports Java 8.
test-android:
	rm -rf build/android && mkdir -p build/android
	javac -Xlint:all,-options -Werror --release 8 -d build/android $$(find clients/android/core/src -name '*.java')
	java -cp build/android dev.edgegrain.ClientTests .

# The plugins are those of Debian 12: clients/android/README.md lists the packages.
MAVEN_REPOSITORY ?= build/maven-repository
maven:
	mvn --batch-mode --quiet --offline -Daether.offline.protocols=file --settings clients/android/debian-settings.xml \
		-Dmaven.repo.local=$(abspath $(MAVEN_REPOSITORY)) --file clients/android/core/pom.xml install

# CHROMIUM names another browser than Debian's.
test-demo: $(VENV)/.test chromium
	cd clients/web && npm ci --no-audit --no-fund
	$(BIN)/python -m pytest tests/integration/test_demo_page.py

test-package: $(VENV)/.test chromium
	cd clients/web && npm ci --no-audit --no-fund
	EDGEGRAIN_TEST_PACKAGE=1 $(BIN)/python -m pytest tests/integration/test_web_package.py tests/integration/test_maven_package.py

.PHONY: chromium
chromium:
	test -x "$${CHROMIUM:-/usr/bin/chromium}" || apt-get install --yes --no-install-recommends chromium

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# CMake takes the headers of ONNX Runtime from ONNXRUNTIME_INCLUDE_DIR or downloads them, and uses nvcc if it is installed.
ops:
	cmake -S server_decoder/cuda_ops -B build/cuda_ops $(OPS_OPTIONS)
	cmake --build build/cuda_ops
	cmake --install build/cuda_ops

clean:
	rm -rf $(VENV) demo_out evaluate_out dist build server_decoder/cuda_ops/lib .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "no Python 3.11 to 3.14 with venv found; install one or run make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The order-only prerequisite keeps a newer interpreter file from reinstalling everything.
$(VENV)/.demo: requirements/demo.lock pyproject.toml | $(BIN)/python
	@echo "Installing the demonstration's packages (about 250 MB) into $(VENV)"
	$(PIP) --requirement requirements/demo.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.test: requirements/test.lock pyproject.toml | $(BIN)/python
	@$(call supports,$(BIN)/python,13) || { \
		echo "The tests need Python 3.11 to 3.13, because Core ML Tools have no wheels for 3.14; $(VENV) has"; \
		echo "$$($(BIN)/python --version). Install an earlier one (uv python install 3.13, pyenv install 3.13), then run"; \
		echo "make clean && make test PYTHON=/path/to/python3.13"; exit 1; }
	@echo "Installing the tests' packages (about 2 GB, several minutes) into $(VENV)"
	$(PIP) --requirement requirements/test.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@
