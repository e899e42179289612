# Everything happens in an environment of its own, .venv, made with $(PYTHON).
# CONTRIBUTING.md says what each target is for.

PYTHON ?= python3
BIN := .venv/bin
CPP_FILES := $(shell find cpp benchmarks -path cpp/vendor -prune -o \( -name '*.[ch]pp' -o -name '*.inl' \) -print)
BUILD_FILES := pyproject.toml CMakeLists.txt $(wildcard cmake/*) cpp/bindings.cpp $(wildcard cpp/deepspec/* cpp/deepspec/kernels/*)

.PHONY: help demo test test-all lint lint-python lint-types lint-cpp lint-stubs stubs format \
	cpp-test cpp-test-arm cpp-sanitize cpp-fuzz bench bench-native sdist wheel clean

help:
	@echo "make demo          set up, take real photographs apart, name the page of pictures"
	@echo "make test          set up, run the Python and C++ tests and a minute of cpp-fuzz"
	@echo "make test-all      the same with the slow tests, the sanitizers and an emulated ARM (one to two hours)"
	@echo "make lint          ruff, mypy, clang-format, and whether _core.pyi is current"
	@echo "make format        format Python and C++"
	@echo "make stubs         write python/deepspec/_core.pyi from the built module"
	@echo "make cpp-test      C++ tests; cpp-test-arm: for 64-bit ARM, emulated"
	@echo "make cpp-sanitize  C++ tests and ten minutes of random problems with each of three sanitizers;"
	@echo "                   cpp-sanitize-address, -undefined, -thread: with one; cpp-fuzz: a minute with the first"
	@echo "make bench         comparisons with peers; bench-native: parts of the core"
	@echo "make sdist wheel   distributions in dist/"
	@echo "make clean         remove what the above made"

demo: .venv/.installed-demo
	$(BIN)/python examples/demo.py

test: .venv/.installed-test cpp-test cpp-fuzz
	$(BIN)/python -m pytest -m "not slow"

# What is missing for ARM is said at once, and ends it at last, when everything else has run.
test-all: .venv/.installed-test
	-@sh .ci/check-arm
	$(MAKE) cpp-test cpp-sanitize
	HYPOTHESIS_PROFILE=exploring $(BIN)/python -m pytest
	$(MAKE) cpp-test-arm

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

# $(call cmake_build,<directory>,<options>,<what to build: all>)
define cmake_build
	$(BIN)/cmake -S . -B $(1) -G Ninja -DCMAKE_MAKE_PROGRAM=$(abspath $(BIN)/ninja) $(2)
	$(BIN)/cmake --build $(1) $(3)
endef

cpp-test: .venv/.installed-test $(BIN)/cmake
	$(call cmake_build,build/cpp,-DDEEPSPEC_BUILD_TESTS=ON)
	$(BIN)/ctest --test-dir build/cpp --output-on-failure

cpp-test-arm: .venv/.installed-test $(BIN)/cmake
	@sh .ci/check-arm
	$(call cmake_build,build/arm,-DDEEPSPEC_BUILD_TESTS=ON --toolchain cmake/aarch64-linux-gnu.cmake)
	$(BIN)/ctest --test-dir build/arm --output-on-failure --parallel 2

SANITIZERS := address undefined thread
FUZZ_SECONDS ?= 600

# Assertions stay in; less optimised, since most of the time goes into compiling.
sanitized = -DDEEPSPEC_BUILD_TESTS=ON -DDEEPSPEC_SANITIZE=$(1) '-DCMAKE_CXX_FLAGS_RELEASE=-O1 -D_GLIBCXX_ASSERTIONS'

cpp-sanitize: $(SANITIZERS:%=cpp-sanitize-%)

.PHONY: $(SANITIZERS:%=cpp-sanitize-%)
cpp-sanitize-undefined: export UBSAN_OPTIONS = print_stacktrace=1

$(SANITIZERS:%=cpp-sanitize-%): cpp-sanitize-%: .venv/.installed-test $(BIN)/cmake
	$(call cmake_build,build/$*,$(call sanitized,$*))
	$(BIN)/ctest --test-dir build/$* --output-on-failure
	build/$*/cpp/tests/fuzz --seconds $(FUZZ_SECONDS)

cpp-fuzz: .venv/.installed-test $(BIN)/cmake
	$(call cmake_build,build/address,$(call sanitized,address),--target fuzz)
	build/address/cpp/tests/fuzz --seconds 60 --seed 1

bench-native: .venv/.installed-test $(BIN)/cmake
	$(call cmake_build,build/cpp,-DDEEPSPEC_BUILD_BENCHMARKS=ON)
	@set -e; for program in build/cpp/benchmarks/native/bench_*; do [ -d $$program ] || $$program; done

bench: .venv/.installed-bench
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
