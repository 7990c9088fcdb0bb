# Needs Rust (rust-toolchain.toml says which), Python 3.11 or newer, and on Debian root for the first run: a C compiler,
# PostgreSQL and Redis are installed where they are missing. Everything else stays in .venv, .tools, .local and target.

PYTHON ?= $(shell command -v python3.11 || echo python3)
# The architecture of `make build`: x86-64 or arm64.
ARCH ?= x86-64

TOOLS := .tools/.cargo-deny@0.20.2 .tools/.cargo-machete@0.9.2
FUZZER := .tools/.cargo-fuzz@0.13.2
# How long each target of `make fuzz` runs, which of them, and on which compiler: libFuzzer's instrumentation is nightly only.
FUZZ_SECONDS ?= 600
FUZZ_TARGETS ?= session body answer
FUZZ_TOOLCHAIN ?= nightly

VENV := .venv/.ready
BUILD_VENV := .venv/.ready-build
STACK := .venv/bin/python -m stack
FUNCTIONS := $(patsubst functions/%/Cargo.toml,%,$(wildcard functions/*/Cargo.toml))

.DEFAULT_GOAL := help
.PHONY: help run stop test check advisories lint build fuzz compiler

help: ## Show this list.
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

run: $(VENV) ## Start and deploy everything on this machine, then follow the logs (DETACH=1: return once it serves).
	@$(STACK) up $(if $(DETACH),--detach)

stop: ## End what `make run` started.
	@if [ -x .venv/bin/python ]; then $(STACK) stop; else echo "nothing to stop"; fi

test: compiler ## Build, then run every test beside private stores.
	cargo build --workspace
	$(STACK) run-with-stores -- cargo test --workspace $(ARGS)

check: compiler $(TOOLS) lint ## Format, lints, docs, dependencies, template.
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	.tools/bin/cargo-deny --workspace check bans licenses sources
	.tools/bin/cargo-machete

lint: $(VENV) ## Check template.yaml.
	$(STACK) lint

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

# Unoptimised: they build in two minutes and run for seconds. Another version has another mark and is built anew.
$(TOOLS) $(FUZZER): .tools/.%: | compiler
	cargo install --locked --debug --force --root .tools $*
	@touch $@
