# SPDX-License-Identifier: Apache-2.0
# The usual words for what the scripts do. `make sql-install` takes DATABASE_URL, or the usual configuration.
.PHONY: build clean deps fmt vet test run sql-install

CONFIG ?= broker.yaml
PROGRAM = build/release/bin/posthouse

build:
	scripts/setup

clean:
	rm -rf build

deps:
	scripts/setup --packages-only

fmt:
	scripts/check --fix --no-tidy

vet:
	scripts/check

test:
	scripts/test

run: build
	$(PROGRAM) start --config $(CONFIG)

sql-install: build
	$(PROGRAM) install
