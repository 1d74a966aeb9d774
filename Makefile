# `make` lists what there is to do.
.DEFAULT_GOAL := help
.PHONY: help setup clients build reproducible demo demo-agent bench test test-all trials first-run corpus atomics lint

CARGO := .config/cargo.sh
# Passed to the demo, as in `make demo ARGS="--manager pip --seed 7"`.
ARGS ?=

help: ## List these
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile

setup: ## Install what is missing, from the distribution's packages
	@.config/setup.sh

clients: ## Install what tests drive (act, gitlab-ci-local, zizmor, coding agents, a browser …), into a cache outside of the tree
	@.config/clients.sh
	@.config/agents.sh
	@.config/browser.sh
	@.config/gitlab-clients.sh || echo "clients: no gitlab-ci-local; the tests that need it are skipped" >&2

build: setup ## Build the release binary, target/release/edamame-guard
	@$(CARGO) build --release --locked --bin edamame-guard

reproducible: setup ## Build the release binary of HEAD twice, in two folders, and compare the files
	@.config/reproducible.sh

demo: setup ## See a poisoned package caught and an honest one pass (asks for root)
	@$(CARGO) build --release --locked --bin edamame-guard --example demo
	@if [ "$$(id -u)" = 0 ]; then target/release/examples/demo $(ARGS); \
	elif command -v sudo >/dev/null; then \
		echo "sudo: the demo makes a network namespace and watches the kernel"; \
		sudo env "PATH=$$PATH" target/release/examples/demo $(ARGS); \
	else echo "error: the demo needs root, and there is no sudo; run \`make demo\` as root" >&2; exit 1; fi

demo-agent: setup ## See a real coding agent led into leaking a key, and named with its tool call (asks for root and npm)
	@.config/agents.sh claude-code
	@$(CARGO) build --release --locked --bin edamame-guard
	@if [ "$$(id -u)" = 0 ]; then demo/agent.py target/release/edamame-guard $(ARGS); \
	elif command -v sudo >/dev/null; then \
		echo "sudo: the demo makes a network namespace and watches the kernel"; \
		sudo env "PATH=$$PATH" "EDAMAME_GUARD_AGENTS=$$(.config/agents.sh --path)" demo/agent.py target/release/edamame-guard $(ARGS); \
	else echo "error: the demo needs root, and there is no sudo; run \`make demo-agent\` as root" >&2; exit 1; fi

bench: setup ## Measure what being watched costs, as a table (asks for root)
	@$(CARGO) build --release --locked --bin edamame-guard --example cost
	@if [ "$$(id -u)" = 0 ]; then target/release/examples/cost $(ARGS); \
	elif command -v sudo >/dev/null; then sudo env "PATH=$$PATH" target/release/examples/cost $(ARGS); \
	else echo "error: the recorder needs root, and there is no sudo; run \`make bench\` as root" >&2; exit 1; fi

test: setup clients ## Run every test; those that need a kernel feature or root say when they are skipped
	@$(CARGO) test --locked --doc
	@$(CARGO) test --locked --tests

test-all: setup clients lint demo ## Lint, run the demo, then every test with the slow ones
	@.config/agents.sh --all
	@$(CARGO) test --locked --doc -- --include-ignored
	@$(CARGO) test --locked --tests -- --include-ignored
	@$(MAKE) --no-print-directory first-run ARGS=

trials: build ## Run the honest and hostile jobs of tests/trials and print a table (root; some ask the package registries)
	@tests/trials/run.sh

first-run: build ## Run ordinary jobs without a policy, and each with an attack inside (root; asks the registries)
	@fixtures/first-run/prepare.sh
	@fixtures/first-run/run.py $(ARGS)

corpus: build ## Run the attacks and benign jobs of fixtures/corpus live and print recall and false alarms (root)
	@fixtures/corpus/run.py $(ARGS)

atomics: build ## Run tests in the format of Atomic Red Team under the guard: make atomics FILE=path (root, PyYAML)
	@fixtures/atomics/run.py $(FILE) $(ARGS)

lint: setup ## Check format, lints and documentation
	@$(CARGO) fmt --all --check
	@$(CARGO) clippy --locked --all-targets -- -D warnings
	@RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --document-private-items
