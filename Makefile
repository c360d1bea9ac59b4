# Cisterna. `make help` lists the targets from the comments behind them; CI runs the same targets.

SHELL := /bin/bash
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
STUBS := $(VENV)/typings

# Any Python >= 3.10: name one with `make PYTHON=... setup`, else the first good one is taken.
PYTHON ?=
BOARD ?= rpi_pico
# A serial port; without one `make flash` takes the only board with BOARD's USB id.
PORT ?=
PROFILE ?=
YES ?=
BENCH ?= virtual
# Where `make hil` puts its evidence.
REPORT ?= build/hil
# Test processes at once, on two processors: they wait for ports and for time half as long as they work.
JOBS ?= 3
# A test that takes longer hangs: it fails, and the others go on.
TEST_TIMEOUT_S ?= 300

flash_options = $(if $(PORT),--port $(PORT)) $(if $(YES),--yes)
pytest := $(BIN)/python -m pytest
in_parallel = -n $(JOBS) --dist loadfile --timeout $(TEST_TIMEOUT_S)

.PHONY: help setup demo test test-on-chip test-everywhere lint typecheck hil hil-emulated \
	campaign bench trace flash unflash provision report clean

help: ## this list
	@echo "Cisterna: a bench and teaching model. Not a medical device; never for use on people or animals."
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' Makefile

setup: $(STAMP) $(STUBS)/.installed ## create .venv with everything in it (needs only make and Python >= 3.10)
	@:

# The stamp holds the folder it was made for: a .venv that was moved or copied works on the old one.
ifneq ($(shell cat $(STAMP) 2>/dev/null),$(CURDIR))
.PHONY: $(STAMP)
endif

# An activated .venv is not what a new one is made with.
$(STAMP): pyproject.toml
	@PATH="$${PATH//$(CURDIR)\/$(VENV)\/bin:/}"; python='$(PYTHON)'; \
	if [ -z "$$python" ]; then \
		for each in python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
			if $$each -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; \
			then python=$$each; break; fi; \
		done; \
	fi; \
	if [ -z "$$python" ]; then \
		echo "Cisterna needs Python 3.10 or newer; found: $$(python3 --version 2>/dev/null || echo none)." >&2; \
		echo "Install one, or name it: make PYTHON=/path/to/python3.12 setup" >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then \
		echo "$$python is no Python 3.10 or newer." >&2; exit 1; \
	fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2>/dev/null; then \
		echo "$$python cannot make a virtual environment: its venv module is not complete." >&2; \
		echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version); this takes a minute or two the first time."; \
	rm -rf $(VENV); \
	"$$python" -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --editable '.[dev]'
	@echo '$(CURDIR)' > $@

# MicroPython's stubs of every board that names them, each in a folder of the board's name.
$(STUBS)/.installed: $(STAMP) $(wildcard boards/*/board.toml)
	@for board in $(notdir $(patsubst %/,%,$(wildcard boards/*/))); do \
		package=$$(sed -n 's/^stubs = "\(.*\)"/\1~=1.29.0/p' boards/$$board/board.toml); \
		folder=$(STUBS)/$$board; \
		if [ -n "$$package" ] && [ "$$(cat $$folder/.package 2>/dev/null)" != "$$package" ]; then \
			rm -rf $$folder; \
			$(BIN)/python -m pip install -qq --disable-pip-version-check --target $$folder \
				"$$package" || exit 1; \
			echo "$$package" > $$folder/.package; \
		fi; \
	done
	@touch $@

demo: setup ## one story on a virtual pump, with pictures and a report (about a minute)
	$(BIN)/cisterna demo

test: lint typecheck ## everything that must hold: lint, types, and all tests but those of minutes
	@$(MAKE) --no-print-directory --jobs 2 test-on-chip test-everywhere

# An emulated Pico takes half a minute for what the virtual pump does in one second: here it runs
# what only a chip shows and some of each kind, in one process beside the other tests. What it
# prints comes at its end, whole.
test-on-chip: TEST_TIMEOUT_S = 900
test-on-chip: setup
	@said="$$($(pytest) hil_tests --bench emulated -m on_chip --timeout $(TEST_TIMEOUT_S) 2>&1)"; \
	status=$$?; echo; echo "$$said"; exit $$status

test-everywhere: setup
	$(pytest) -m 'not long' $(in_parallel)

lint: setup ## style and likely mistakes (ruff)
	$(BIN)/ruff check .

typecheck: setup ## types: strict for the host, each board's MicroPython stubs for its firmware
	$(BIN)/basedpyright --warnings
	$(BIN)/python -m cisterna.board_types

hil: setup ## requirement tests on a bench, with a report: BENCH=virtual, emulated or a port, REPORT=build/hil
	$(pytest) hil_tests --bench $(BENCH) --report $(REPORT) \
		$(if $(filter virtual emulated,$(BENCH)),-n $(JOBS) --dist loadfile)

hil-emulated: TEST_TIMEOUT_S = 900
hil-emulated: setup ## all requirement tests that an emulated Pico can show (20 minutes)
	$(pytest) hil_tests --bench emulated $(in_parallel)

campaign: setup ## campaigns and requirement tests with their full figures (hours); goes on after Ctrl-C
	$(BIN)/cisterna bench powercut --full --report build/campaigns
	$(BIN)/cisterna bench flips --full --report build/campaigns/flips
	$(BIN)/cisterna bench limits --full --report build/campaigns/limits
	$(BIN)/cisterna bench faults --full --report build/campaigns/faults
	$(BIN)/cisterna bench soak --full --report build/campaigns/soak
	$(BIN)/cisterna bench powercut --bench emulated --full --report build/campaigns/emulated
	$(BIN)/cisterna bench trumpet --full --report build/campaigns/trumpet
	$(BIN)/cisterna bench trumpet --bench emulated --full --report build/campaigns/trumpet-emulated
	$(BIN)/cisterna bench attack --full --report build/campaigns/attack
	$(BIN)/cisterna bench attack --bench emulated --full --report build/campaigns/attack-emulated
	$(pytest) hil_tests --full -k 'not test_campaign'
	$(MAKE) hil-emulated
	$(pytest) -m long --timeout 900

bench: setup ## how fast the virtual pump and the emulated Pico simulate
	$(BIN)/cisterna bench speed
	-$(BIN)/cisterna bench speed --bench emulated

trace: setup ## every requirement with its tests, and those still without one
	@$(BIN)/python -m hil_tests.trace

flash: setup ## put the firmware on a board: BOARD=rpi_pico (PORT=, PROFILE=sealed, YES=1: if it delivers)
	@$(BIN)/cisterna flash --board $(BOARD) $(flash_options) $(if $(PROFILE),--profile $(PROFILE))

unflash: setup ## take the firmware off a board again; the pump's records stay (BOARD=, PORT=, YES=1)
	@$(BIN)/cisterna flash --remove --board $(BOARD) $(flash_options)

provision: setup ## keys of every role for the pump at PORT: hold its service button
	@$(BIN)/cisterna pair --role all $(if $(PORT),--port $(PORT))

report: setup ## report of the pump at PORT (default: the only pump found)
	$(BIN)/cisterna report $(if $(PORT),--port $(PORT))

clean: ## remove .venv and everything the tools left behind
	rm -rf $(VENV) build dist .pytest_cache .ruff_cache .hypothesis *.egg-info
	find firmware host_tools hil_tests boards -name __pycache__ -type d -prune -exec rm -rf {} +
