# Everything happens in an environment of its own, .venv, made with $(PYTHON).
# CONTRIBUTING.md says what each target is for.

PYTHON ?= python3
BIN := .venv/bin
CPP_FILES := $(shell find cpp benchmarks -path cpp/vendor -prune -o \( -name '*.[ch]pp' -o -name '*.inl' \) -print)
BUILD_FILES := pyproject.toml CMakeLists.txt $(wildcard cmake/*) cpp/bindings.cpp $(wildcard cpp/deepspec/* cpp/deepspec/kernels/*)

.PHONY: help demo test test-all lint lint-python lint-types lint-cpp lint-stubs stubs format \
	cpp-test cpp-sanitize bench bench-native sdist wheel clean

help:
	@echo "make demo          set up, take real photographs apart, name the page of pictures"
	@echo "make test          set up, run the Python and C++ tests (minutes)"
	@echo "make test-all      the same with the slow tests and the sanitizers"
	@echo "make lint          ruff, mypy, clang-format, and whether _core.pyi is current"
	@echo "make format        format Python and C++"
	@echo "make stubs         write python/deepspec/_core.pyi from the built module"
	@echo "make cpp-test      C++ tests; cpp-sanitize: with address, undefined and thread sanitizers"
	@echo "make bench         comparisons with peers; bench-native: parts of the core"
	@echo "make sdist wheel   distributions in dist/"
	@echo "make clean         remove what the above made"

demo: .venv/.installed-demo
	$(BIN)/python examples/demo.py

test: .venv/.installed-test cpp-test
	$(BIN)/python -m pytest -m "not slow"

test-all: .venv/.installed-test cpp-test cpp-sanitize
	HYPOTHESIS_PROFILE=exploring $(BIN)/python -m pytest

# Lint

lint: lint-python lint-types lint-cpp lint-stubs

lint-python: .venv/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

lint-types: .venv/.installed-dev
	$(BIN)/mypy

lint-cpp: .venv/.installed-dev
	$(BIN)/clang-format --dry-run -Werror $(CPP_FILES)

lint-stubs: build/stubs/deepspec/_core.pyi
	@diff -u python/deepspec/_core.pyi $< || { echo "_core.pyi is not current: run 'make stubs'"; exit 1; }

stubs: build/stubs/deepspec/_core.pyi
	cp $< python/deepspec/_core.pyi

build/stubs/deepspec/_core.pyi: .venv/.installed-dev
	$(BIN)/pybind11-stubgen deepspec._core --exit-code --numpy-array-use-type-var -o build/stubs
	$(BIN)/ruff format --quiet $@

format: .venv/.installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CPP_FILES)

# C++ without Python

# $(call cmake_build,<directory>,<options>)
define cmake_build
	$(BIN)/cmake -S . -B $(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) $(2)
	$(BIN)/cmake --build $(1)
endef

cpp-test: .venv/.installed-test $(BIN)/cmake
	$(call cmake_build,build/cpp,-DDEEPSPEC_BUILD_TESTS=ON)
	$(BIN)/ctest --test-dir build/cpp --output-on-failure

cpp-sanitize: .venv/.installed-test $(BIN)/cmake
	$(call cmake_build,build/asan,-DDEEPSPEC_BUILD_TESTS=ON "-DDEEPSPEC_SANITIZE=address;undefined")
	$(BIN)/ctest --test-dir build/asan --output-on-failure
	$(call cmake_build,build/tsan,-DDEEPSPEC_BUILD_TESTS=ON -DDEEPSPEC_SANITIZE=thread)
	$(BIN)/ctest --test-dir build/tsan --output-on-failure

bench-native: .venv/.installed-test $(BIN)/cmake
	$(call cmake_build,build/cpp,-DDEEPSPEC_BUILD_BENCHMARKS=ON)
	@set -e; for program in build/cpp/benchmarks/native/bench_*; do [ -d $$program ] || $$program; done

bench: .venv/.installed-test
	$(BIN)/python benchmarks/eigenpairs.py

# Distributions

sdist: .venv/.installed-dev
	$(BIN)/python -m build --sdist

wheel: .venv/.installed-dev
	$(BIN)/python -m build --wheel

clean:
	rm -rf .venv build dist demo cpp/vendor

# The environment

.venv/.installed-%: $(BIN)/python $(BUILD_FILES)
	@echo "Building deepspec and installing it with what '$*' needs; this takes a minute or two."
	$(BIN)/python -m pip install --quiet --editable '.[$*]'
	@touch $@

$(BIN)/cmake: $(BIN)/python
	$(BIN)/python -m pip install --quiet 'cmake>=3.21' ninja
	@touch $@

$(BIN)/python:
	@sh .ci/check-system '$(PYTHON)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
