# The menu of the project: `make` alone prints it. Everything is installed inside the project folder
# (.venv and .cache); only `make system` touches the machine.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
VENV ?= .venv
CACHE ?= .cache
UV ?= uv
HELM_VERSION := v3.19.0

BIN := $(VENV)/bin
# Plain `pip install` would follow the newest releases; with hashes it installs exactly what was tested.
PIP := $(BIN)/pip --disable-pip-version-check
PYTEST := $(BIN)/pytest
HELM := $(CACHE)/bin/helm
# Typed like the packages, but not part of the distribution.
TYPED_TREES := tests benchmarks docs/generate.py

# What the tests and the demo call, as command:package. Only what is not on the PATH is installed.
SYSTEM_TOOLS := java:default-jre-headless mvn:maven ip:iproute2 nft:nftables ping:iputils-ping \
	curl:curl nmap:nmap hping3:hping3 iodine:iodine dnsmasq:dnsmasq-base tcpdump:tcpdump \
	dumpcap:wireshark-common tshark:tshark ethtool:ethtool setpriv:util-linux sysctl:procps \
	arpspoof:dsniff arping:arping arp-scan:arp-scan udhcpc:udhcpc dhcpstarv:dhcpstarv \
	atk6-fake_router26:thc-ipv6 openssl:openssl slowhttptest:slowhttptest dnsperf:dnsperf \
	ptunnel-ng:ptunnel-ng ftp:ftp telnet:telnet swaks:swaks nc:netcat-openbsd iptables:iptables ipset:ipset ncat:ncat

# Likewise files that tests read, as path:package.
SYSTEM_FILES := /usr/share/dict/american-english:wamerican /usr/share/dict/french:wfrench \
	/usr/share/dict/spanish:wspanish /usr/share/dict/ngerman:wngerman /usr/share/dict/italian:witalian

.PHONY: help
help: ## this menu
	@echo "Sluicegate: make TARGET"
	@sed -nE 's/^([a-z0-9]+):[^#]*## (.*)$$/\1\t\2/p' Makefile | while IFS=$$'\t' read -r name text; do \
		printf '  %-11s %s\n' "$$name" "$$text"; done

.PHONY: setup
setup: $(VENV)/.installed ## install the locked dependencies and this project into .venv

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "setup: $(PYTHON) is missing or older than 3.11; name a newer one: make setup PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "setup: $(PYTHON) cannot make virtual environments; on Debian: apt install python3-venv" >&2; exit 1; }
	@echo "setup: creating $(VENV)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.locked: $(VENV)/.python requirements/dev.txt
	@echo "setup: installing the locked dependencies (about a minute the first time)"
	@$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements/dev.txt
	@touch $@

$(VENV)/.installed: $(VENV)/.locked pyproject.toml
	@echo "setup: installing sluicegate itself"
	@$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	@echo "setup: compiling the engine's loops"
	@$(BIN)/python -m detectors.warm
	@touch $@

.PHONY: system
system: ## install the system packages that tests and demo call (Debian, root)
	@missing=""; \
	for tool in $(SYSTEM_TOOLS); do \
		PATH="$$PATH:/usr/sbin:/sbin" command -v "$${tool%%:*}" >/dev/null || missing="$$missing $${tool##*:}"; done; \
	for file in $(SYSTEM_FILES); do test -e "$${file%%:*}" || missing="$$missing $${file##*:}"; done; \
	$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || missing="$$missing python3-venv"; \
	if [ -z "$$missing" ]; then echo "system: nothing to install"; exit 0; fi; \
	if [ "$$(id -u)" != 0 ]; then echo "system: as root: apt-get install$$missing" >&2; exit 1; fi; \
	echo "system: installing$$missing"; \
	export DEBIAN_FRONTEND=noninteractive; \
	apt-get update -qq && apt-get install -qq -y --no-install-recommends $$missing >/dev/null

.PHONY: demo
demo: setup ## recorded attacks through the whole system, from capture to proven policy
	@$(BIN)/sluicegate demo

# Tests that share nothing with each other: no broker, no namespaces. One process per core takes them, file by file.
APART := tests/unit tests/contract tests/quality

.PHONY: test
test: setup ## every test that needs Python and Java only; says what it could not run
	@echo "test: not part of this run: tests/e2e (make e2e, needs Go) and tests/unit/chart (make chart, needs Go)"
	@$(PYTEST) -n auto --dist loadfile $(APART) --ignore=tests/unit/chart
	@$(PYTEST) tests --ignore=tests/e2e $(foreach folder,$(APART),--ignore=$(folder))

.PHONY: lint
lint: setup ## style, types, import directions, generated documents
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy --explicit-package-bases $(TYPED_TREES)
	@$(BIN)/lint-imports
	@$(BIN)/python docs/generate.py --check

.PHONY: format
format: setup ## rewrite the code in the project's style, and the generated documents
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .
	@$(BIN)/python docs/generate.py

.PHONY: bench
bench: setup $(VENV)/.bench ## measure the budgets beside their ceilings; JSON with machine facts
	@$(BIN)/python -m benchmarks

SCALE ?= full
TORTURE = --scale $(SCALE) $(foreach name,$(ONLY),--only $(name)) $(if $(SEED),--seed $(SEED)) \
	$(if $(FLOWS),--flows $(FLOWS)) $(if $(MINUTES),--minutes $(MINUTES)) $(if $(KILLS),--kills $(KILLS))

.PHONY: torture
torture: setup ## one answer, whatever happens: kills, outages, overload (ONLY=kill, SCALE=short, SEED, FLOWS, MINUTES, KILLS)
	@$(BIN)/python -m tests.torture $(TORTURE)

.PHONY: live
live: setup ## live exporters on two lab nodes: 50,000 connections, kills, outage, attacks (root; ONLY="once attacks")
	@$(BIN)/python -m tests.live $(ONLY)

$(VENV)/.bench: $(VENV)/.locked requirements/bench.txt
	@echo "bench: installing the peers we are measured beside"
	@$(PIP) install --quiet --require-hashes --only-binary :all: -r requirements/bench.txt
	@touch $@

.PHONY: quality
quality: setup ## grade the detectors: cases, benign hour, poisoning, delays; writes docs/quality.md (DEVSET=dir)
	@$(BIN)/python -m tests.quality $(if $(DEVSET),--devset $(DEVSET))

.PHONY: e2e
e2e: setup ## tests on a real Kubernetes API server, controllers and policy enforcer (Go 1.26; built once)
	@$(PYTEST) tests/e2e

RUNS ?= 20
.PHONY: enforcement
enforcement: setup ## how soon attacks are stopped, with every part real (root; RUNS=20, ATTACK=scan)
	@$(BIN)/python -m tests.e2e.enforcement --runs $(RUNS) $(foreach name,$(ATTACK),--attack $(name))

.PHONY: chart
chart: setup $(HELM) ## lint, render and validate the Helm chart (Go 1.26, builds Helm once)
	@$(HELM) lint --strict --quiet helm/sluicegate
	@$(PYTEST) tests/unit/chart

$(HELM):
	@command -v go >/dev/null || { \
		echo "chart: go is not on the PATH; Go 1.26 builds Helm once into $(CACHE)/bin" >&2; exit 1; }
	@echo "chart: building Helm $(HELM_VERSION) once (about three minutes)"
	@GOBIN="$(abspath $(CACHE))/bin" go install -ldflags '-s -w' helm.sh/helm/v3/cmd/helm@$(HELM_VERSION)

COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --no-annotate $(LOCKFLAGS)

.PHONY: lock
lock: ## resolve the lock files again (needs uv; LOCKFLAGS=--upgrade for newer releases)
	@$(COMPILE) requirements/build.in -o requirements/build.txt
	@$(COMPILE) pyproject.toml -o requirements/runtime.txt
	@$(COMPILE) pyproject.toml requirements/build.in --group test --group lint \
		-c requirements/runtime.txt -c requirements/build.txt -o requirements/dev.txt
	@$(COMPILE) --group bench -c requirements/dev.txt -o requirements/bench.txt

.PHONY: clean
clean: ## remove what the targets above made, except the caches in .cache
	@rm -rf $(VENV) build dist sluicegate.egg-info .pytest_cache .mypy_cache .ruff_cache \
		.hypothesis .import_linter_cache
