# `make run` and `make test` set up everything they need; the second time there is nothing left to do.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test test-all audit lint setup browser clean

run: setup
	$(BIN)/bitexact run digits --target all

test: setup browser
	$(BIN)/pytest -n auto

test-all: setup browser
	$(BIN)/pytest -n auto -m "slow or not slow"

audit: setup
	$(BIN)/bitexact audit

lint: setup
	$(BIN)/ruff check && $(BIN)/ruff format --check && $(BIN)/mypy && $(BIN)/lint-imports

setup: .venv/installed
	@setup/qemu.sh

browser: .venv/installed
	@setup/chromium.sh

.venv/installed: requirements.lock pyproject.toml setup/environment.sh
	@setup/environment.sh "$(PYTHON)"

clean:
	rm -rf .venv build *.egg-info
