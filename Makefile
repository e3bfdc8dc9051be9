# VoltRun. `make` alone prints what there is; the text is the comment behind each target.

VERSION  := $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
GO       ?= go
LINT     := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0
TOOLS    := $(CURDIR)/bin/tools
SOURCES  := $(shell find cmd commands domain eventstore frontend interfaces projections runners -name '*_test.go' -prune -o -type f -print) go.mod go.sum

.DEFAULT_GOAL := help

.PHONY: help
help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

bin/voltrun: $(SOURCES)
	$(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $@ ./cmd/voltrun

.PHONY: build
build: bin/voltrun ## Build bin/voltrun

# As root on Debian and its like it installs what is missing; everybody else is told.
.PHONY: tools-system
tools-system: ## Install bubblewrap and slirp4netns, which isolate functions
	@deploy/tools.sh

.PHONY: run
run: bin/voltrun tools-system ## Build and start VoltRun on http://127.0.0.1:8080 (Ctrl-C ends it)
	@exec bin/voltrun serve

.PHONY: demo
demo: bin/voltrun tools-system ## Register, create two functions, run them and show the results; starts a server if none runs
	@deploy/demo.sh

.PHONY: dev
dev: tools-system ## Start VoltRun from source, with its data in .voltrun/dev, on port 8081
	VOLTRUN_DATA=.voltrun/dev PORT=8081 $(GO) run ./cmd/voltrun serve

# The race detector needs a C compiler.
.PHONY: compiler
compiler:
	@command -v gcc >/dev/null || (apt-get update && apt-get install -y gcc libc6-dev)

.PHONY: tools-test
tools-test:
	@deploy/tools.sh test

.PHONY: test
test: compiler tools-test ## Run every test, with the race detector, on a real Postgres, Node.js and Python
	CGO_ENABLED=1 $(GO) test -race -timeout 14m ./...

.PHONY: check
check: fmt-check lint generated test ## What CI runs: format, vet, lint, generated files, import rules, tests

.PHONY: fmt
fmt: ## Format the Go code
	gofmt -w $$(git ls-files '*.go')

.PHONY: fmt-check
fmt-check:
	@unformatted=$$(gofmt -l $$(git ls-files '*.go')); test -z "$$unformatted" || (echo "not formatted (make fmt):"; echo "$$unformatted"; exit 1)

$(TOOLS)/golangci-lint:
	GOBIN=$(TOOLS) $(GO) install $(LINT)

.PHONY: lint
lint: $(TOOLS)/golangci-lint ## Vet and lint the Go code
	$(GO) vet ./...
	$(TOOLS)/golangci-lint run

.PHONY: generate
generate: ## Write the generated files anew
	$(GO) generate ./...

.PHONY: generated
generated: generate
	@git diff --exit-code -- docs/events.md || (echo "docs/events.md was not up to date: commit what make generate wrote"; exit 1)

.PHONY: bench
bench: tools-system ## Measure the log beside raw Postgres as ratios, which fail when they are too low; wake-ups, runs and idling
	$(GO) test -v -run '^$$' -bench . -timeout 40m ./eventstore/... ./commands/... ./projections/... ./runners/... ./cmd/...

.PHONY: soak
soak: tools-system ## Kill at random what a saturated server works with, and the server, for SOAK (10m); nothing may be lost or leak
	VOLTRUN_SOAK=$(or $(SOAK),10m) $(GO) test -v -run TestASaturatedServer -timeout 60m ./cmd/voltrun

.PHONY: fuzz
fuzz: ## Fuzz the decoder of request bodies for a minute
	$(GO) test -run '^$$' -fuzz . -fuzztime 1m ./interfaces/rest

.PHONY: clean
clean: ## Remove what was built; data in .voltrun stays
	rm -rf bin coverage.out
