# What a person does here. `make` alone lists it.

# Where everything is kept that is not a build: servers, snapshots, logs, tools.
SOURDOUGH_STATE ?= $(CURDIR)/target/sourdough
export SOURDOUGH_STATE

CARGO ?= cargo
CARGO_DENY_VERSION := 0.20.2
# The one on PATH, if it is of that version; else one in the state directory, which is installed when it is needed.
CARGO_DENY := $(if $(filter $(CARGO_DENY_VERSION),$(shell cargo-deny --version 2>/dev/null)),cargo-deny,$(SOURDOUGH_STATE)/cargo-deny/$(CARGO_DENY_VERSION)/bin/cargo-deny)
# Cargo's own variable, where somebody set it.
TARGET := $(or $(CARGO_TARGET_DIR),$(CURDIR)/target)
GUEST_TRIPLE := x86_64-unknown-linux-gnu
AGENT := $(TARGET)/$(GUEST_TRIPLE)/agent/sourdough-agent
DEV := $(TARGET)/release/dev

.DEFAULT_GOAL := help
.PHONY: help demo up down test bench soak build check fmt advisories packages test-packages clean-state agent debug deny cargo-deny

help: ## Show this list.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { gsub(/\$$\$$/, "$$", $$2); printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: packages build ## Build a small npm project twice in forked VMs; compare the two artifacts.
	@$(DEV) demo

up: packages build ## Start a stack and leave it running; prints what a client needs: eval "$$(make -s up)".
	@$(DEV) up

down: ## Stop what `make up` started.
	@if [ -x $(DEV) ]; then $(DEV) down; fi

test: test-packages ## Run every test and check there is; the last line counts them.
	@tests/run-all

bench: test-packages build ## Measure forks, bakes, the store and the queue on this machine; writes target/bench.json.
	@$(DEV) bench

soak: test-packages build ## Run 200 jobs and 20 VMs while workers and servers are killed; again with SEED=N.
	@$(DEV) soak $(if $(SEED),--seed $(SEED))
	@$(DEV) soak --real --jobs 20 $(if $(SEED),--seed $(SEED))

build: agent ## Build all programs for use.
	@$(CARGO) build --locked --release -p bakery -p worker -p client -p e2e --bins
	@install -m 0755 $(AGENT) $(TARGET)/release/

# The same for the tests, and the tests: quicker to build, slower to run. All at once, so that nothing is built twice.
debug: agent
	@$(CARGO) build --locked --workspace --all-targets
	@install -m 0755 $(AGENT) $(TARGET)/debug/

# Static, since it is all that the guest's initramfs holds. The target is named so that the flag is not given to build scripts.
agent:
	@RUSTFLAGS="-C target-feature=+crt-static" $(CARGO) build --locked -p agent --profile agent --target $(GUEST_TRIPLE)

check: ## Formatting, lints, licences, dependencies: what needs no server and no VM.
	@tests/run-all check

fmt: ## Format the source.
	@$(CARGO) fmt

advisories: cargo-deny ## Ask the database of advisories about our dependencies; needs the internet.
	@$(CARGO_DENY) check advisories

# An arrow of deny.toml that nobody uses is no mistake.
deny: cargo-deny
	@$(CARGO_DENY) --offline check -A unused-wrapper bans licenses sources

packages: ## See to the Debian packages that building and running needs; as root it installs them.
	@deploy/install-packages >&2

test-packages: ## The same, with what only the tests and the bench need.
	@deploy/install-packages --tests >&2

clean-state: down ## Remove what is kept in the state directory, tools excepted.
	rm -rf "$(SOURDOUGH_STATE)/stack" "$(SOURDOUGH_STATE)/cases" "$(SOURDOUGH_STATE)/bench" "$(SOURDOUGH_STATE)/fleet"

cargo-deny: $(filter-out cargo-deny,$(CARGO_DENY))

# Unoptimised, it is built in a minute and runs for two seconds.
$(SOURDOUGH_STATE)/cargo-deny/$(CARGO_DENY_VERSION)/bin/cargo-deny:
	@$(CARGO) install --quiet --locked --debug --version $(CARGO_DENY_VERSION) --root $(SOURDOUGH_STATE)/cargo-deny/$(CARGO_DENY_VERSION) cargo-deny
