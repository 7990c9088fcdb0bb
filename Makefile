# Needs Rust (rust-toolchain.toml says which), Python 3.11 or newer, and on Debian root for the first run: a C compiler,
# PostgreSQL and Redis are installed where they are missing. Everything else stays in .venv, .tools, .local and target.

PYTHON ?= $(shell command -v python3.11 || echo python3)
# The architecture of `make build`: x86-64 or arm64.
ARCH ?= x86-64

TOOLS := .tools/.cargo-deny@0.20.2 .tools/.cargo-machete@0.9.2
FUZZER := .tools/.cargo-fuzz@0.13.2
# How long each target of `make fuzz` runs, which of them, and on which compiler: libFuzzer's instrumentation is nightly only.
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= session body answer text
FUZZ_TOOLCHAIN ?= nightly

VENV := .venv/.ready
BUILD_VENV := .venv/.ready-build
TEST_VENV := .venv/.ready-test
STACK := .venv/bin/python -m stack
# Of the whole workspace, so that nothing is built anew for it.
CHAOS := cargo test --workspace --test suite chaos:: --
FUNCTIONS := $(patsubst functions/%/Cargo.toml,%,$(wildcard functions/*/Cargo.toml))

.DEFAULT_GOAL := help
.PHONY: help run stop test test-rust test-stack test-api drill eval failures chaos soak fuzz bench bench-costs bench-texts check advisories lint build compiler

help: ## Show this list.
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: $(VENV) ## Start and deploy everything on this machine, then follow the logs (DETACH=1: return once it serves).
	@$(STACK) up $(if $(DETACH),--detach)

stop: ## End what `make run` started.
	@if [ -x .venv/bin/python ]; then $(STACK) stop; else echo "nothing to stop"; fi

test: test-stack test-rust test-api ## Build, then run every test beside private stores or a private stack.

test-stack: $(VENV)
	.venv/bin/python -m unittest discover tests/stack

test-rust: compiler ## The Rust tests alone (ARGS: for cargo test).
	cargo build --workspace
	$(STACK) run-with-stores -- cargo test --workspace $(ARGS)
	$(if $(ARGS),,$(STACK) run-with-stores -- $(CHAOS) --ignored)

test-api: compiler $(TEST_VENV) ## Only the tests of the deployed API: its metrics, and openapi.yaml by Schemathesis.
	cargo build --workspace
	$(STACK) run-with-stack -- tests/api/run

eval: compiler ## Print how well the compliance rules judge labelled texts and disguises (docs/compliance.md).
	cargo run --quiet -p huntaze-eval -- $(ARGS)

drill: $(VENV) ## Roll out and back on what `make run` started, and print what requests saw of it (docs/rollout.md).
	@$(STACK) drill

failures: compiler ## Play every failure of a provider and write docs/failures.md anew.
	cargo build --workspace
	WRITE_FAILURES=1 $(STACK) run-with-stores -- cargo test -p huntaze-tests --test suite every_row_of_the_table

chaos: compiler ## Let everything outside go bad in turn, and write docs/chaos.md anew (ARGS: --nocapture).
	cargo build --workspace
	WRITE_CHAOS=1 $(STACK) run-with-stores -- $(CHAOS) --ignored $(ARGS)

# Optimised: as debug builds the SDK's crates alone take half of it.
soak: compiler ## Simulate sending with SOAK_SEEDS=1000 of 100 messages each; takes an hour or so (docs/soak.md).
	SIMULATION_SEEDS=$(or $(SOAK_SEEDS),1000) SIMULATION_MESSAGES=100 $(STACK) run-with-stores -- \
		cargo test --profile measure -p huntaze-tests --test suite simulation -- --nocapture

# What measures is optimised as well: it stands in the way of what it measures.
bench: compiler ## Measure campaigns-hybrid beside the least that a function can cost; prints a table (docs/benchmarks.md).
	$(STACK) install-valgrind
	cargo build --release -p campaigns-hybrid -p hello
	cargo build --profile measure -p huntaze-bench
	$(STACK) run-with-stores -- $(or $(CARGO_TARGET_DIR),target)/measure/huntaze-bench

bench-costs: compiler ## Measure breakdown and stats with 1,000 and with 1,000,000 entries over 90 days (docs/benchmarks.md).
	cargo build --release -p costs-breakdown -p costs-stats
	cargo build --profile measure -p huntaze-bench
	$(STACK) run-with-stores -- $(or $(CARGO_TARGET_DIR),target)/measure/huntaze-bench costs

bench-texts: compiler ## Measure how long texts take to be judged, hostile ones of 1 MiB as well (docs/benchmarks.md).
	cargo run --quiet --profile measure -p huntaze-bench -- texts

check: compiler $(TOOLS) lint ## Format, lints, docs, dependencies, and what `make lint` checks.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	.tools/bin/cargo-deny --workspace check bans licenses sources
	.tools/bin/cargo-machete

lint: $(VENV) ## Check template.yaml, openapi.yaml and the Python code.
	$(STACK) lint
	.venv/bin/ruff format --check --quiet stack tests
	.venv/bin/ruff check --quiet stack tests

advisories: $(TOOLS) ## Hold the lock file against the advisory database (fetches it).
	.tools/bin/cargo-deny --workspace check advisories

build: compiler $(BUILD_VENV) ## Make release packages in target/lambda, as `sam build` does (ARCH=x86-64 or arm64).
	PATH="$(CURDIR)/.venv/bin:$$PATH" cargo lambda build --release --output-format zip --$(ARCH) \
		$(addprefix --bin ,$(FUNCTIONS))

fuzz: compiler $(FUZZER) ## Look for inputs that break a reader, FUZZ_SECONDS=600 each (docs/fuzzing.md).
	@rustup toolchain list | grep -q '^$(FUZZ_TOOLCHAIN)' || \
		{ echo "make fuzz needs a nightly compiler: rustup toolchain install nightly --profile minimal" >&2; exit 1; }
	@command -v c++ >/dev/null || { echo "make fuzz needs a C++ compiler: apt-get install g++" >&2; exit 1; }
	@for target in $(FUZZ_TARGETS); do \
		FUZZ_TOOLCHAIN=$(FUZZ_TOOLCHAIN) tests/fuzz/run $$target -max_total_time=$(FUZZ_SECONDS) || exit; \
	done

compiler: $(VENV)
	@$(STACK) install-compiler

$(VENV): stack/requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer, please: make PYTHON=…" if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { apt-get -qq update && apt-get -qq install --yes python3-venv; }
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --no-compile --disable-pip-version-check --requirement stack/requirements.txt
	@touch $@

$(BUILD_VENV): stack/requirements-build.txt $(VENV)
	.venv/bin/pip install --quiet --no-compile --disable-pip-version-check --requirement stack/requirements-build.txt
	@touch $@

$(TEST_VENV): stack/requirements-test.txt $(VENV)
	.venv/bin/pip install --quiet --no-compile --disable-pip-version-check --requirement stack/requirements-test.txt
	@touch $@

# Unoptimised: they build in two minutes and run for seconds. Another version has another mark and is built anew.
$(TOOLS) $(FUZZER): .tools/.%: | compiler
	cargo install --locked --debug --force --root .tools $*
	@touch $@
