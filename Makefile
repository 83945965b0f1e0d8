# The first target lists the others; each says what it does after its ##.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO ?= go
PREFIX ?= /usr/local
DESTDIR ?=
FUZZTIME ?= 30s
TESTFLAGS ?=
BENCHFLAGS ?=
N ?= 3
CLUSTER_DIR ?= .cache/cluster
PLUGIN ?= bin/plugin

# What the tests run is found by name: the tools first, then the administrator's commands, which a user's PATH lacks.
export PATH := $(CURDIR)/.cache/bin:$(PATH):/usr/sbin:/sbin

# The version comes from git, by way of the build info that the go command embeds. Set on the command line it wins
# over a GOFLAGS that turns it off; outside of a repository there is nothing to embed.
VCS := $(shell git rev-parse --is-inside-work-tree >/dev/null 2>&1 && echo true || echo false)

.PHONY: help build demo test test-unit test-long lint fuzz bench cluster cluster-exec \
	cluster-down install uninstall plugin tools deps clean needs-root

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/volary, which needs no library
	CGO_ENABLED=0 $(GO) build -buildvcs=$(VCS) -o bin/volary ./cmd/volary

demo: build ## snapshot, restore and compare a real directory
	hack/demo.sh

test: needs-root deps tools lint build ## everything but what is long: real kernel, real ipfs (as root)
	$(GO) run ./hack/gotest -p=1 -race -count=1 -timeout=20m -tags=real $(TESTFLAGS) ./...

test-unit: ## what needs neither root nor tools
	$(GO) run ./hack/gotest -race $(TESTFLAGS) ./...

test-long: needs-root deps tools build ## the long tests; results dated into docs/results
	$(GO) run ./hack/gotest -report=docs/results -p=1 -count=1 -timeout=6h -tags=real,long -run='^TestLong' $(TESTFLAGS) ./...

lint: ## gofmt, go vet and staticcheck, all build tags; the build for arm64
	@hack/tools.sh staticcheck
	@unformatted=$$(find . -path ./.cache -prune -o -name '*.go' -print | xargs gofmt -l); \
	if [ -n "$$unformatted" ]; then echo "gofmt these:" $$unformatted >&2; exit 1; fi
	$(GO) vet -tags=real,long ./...
	.cache/bin/staticcheck -tags=real,long ./...
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 $(GO) vet ./cmd/volary
	GOOS=linux GOARCH=arm64 CGO_ENABLED=0 $(GO) build -o /dev/null ./cmd/volary

fuzz: ## every fuzz target for FUZZTIME (30s) each; corpora kept in testdata/fuzz
	GO=$(GO) hack/fuzz.sh $(FUZZTIME)

bench: build ## compare with ipfs, restic and kopia into bench/RESULTS.md (about 40 minutes; volumes want root)
	@hack/deps.sh bench
	@hack/tools.sh ipfs ipfs-cluster-service restic kopia
	$(GO) run ./bench -out bench/RESULTS.md $(BENCHFLAGS)

cluster: needs-root ## start N=3 real Kubo daemons and IPFS Cluster peers in a network namespace of their own
	@hack/tools.sh ipfs ipfs-cluster-service ipfs-cluster-ctl
	@$(GO) build -buildvcs=false -o .cache/bin/testcluster ./hack/cluster
	@testcluster $(CLUSTER_DIR) up $(N)

# Shell variables in CMD are the shell's: $KUBO and, as make has it, $$KUBO mean the same.
cluster-exec: export CLUSTER_CMD := $(subst $$$$,$$,$(value CMD))
cluster-exec: needs-root ## run CMD='…' beside them, with KUBO, CLUSTER and CTL in its environment
	@[ -x .cache/bin/testcluster ] || { echo "no cluster runs; first: make cluster" >&2; exit 1; }
	@testcluster $(CLUSTER_DIR) exec "$$CLUSTER_CMD"

cluster-down: needs-root ## stop them and remove what they stored
	@[ ! -e $(CLUSTER_DIR) ] || testcluster $(CLUSTER_DIR) down

INSTALLED = $(DESTDIR)$(PREFIX)/bin/volary \
	$(DESTDIR)$(PREFIX)/share/bash-completion/completions/volary \
	$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_volary \
	$(patsubst packaging/systemd/%,$(DESTDIR)$(PREFIX)/lib/systemd/system/%,$(wildcard packaging/systemd/*.service))

install: ## install the binary, its completions and systemd's units below DESTDIR PREFIX
	@[ -x bin/volary ] || { echo "first: make build" >&2; exit 1; }
	install -d $(sort $(dir $(INSTALLED)))
	install -m 0755 bin/volary $(DESTDIR)$(PREFIX)/bin/volary
	bin/volary completion bash >$(DESTDIR)$(PREFIX)/share/bash-completion/completions/volary
	bin/volary completion zsh >$(DESTDIR)$(PREFIX)/share/zsh/site-functions/_volary
	for unit in packaging/systemd/*.service; do \
		sed 's|/usr/local/bin|$(PREFIX)/bin|' $$unit >$(DESTDIR)$(PREFIX)/lib/systemd/system/$${unit##*/}; \
	done

uninstall: ## remove these files, and nothing of the state
	rm -f $(INSTALLED)

CERTIFICATES = /etc/ssl/certs/ca-certificates.crt

plugin: build ## make a managed plugin of the Docker engine in PLUGIN (bin/plugin), for docker plugin create
	rm -rf $(PLUGIN)/rootfs
	install -d $(addprefix $(PLUGIN)/rootfs/,dev etc proc run/docker/plugins sys tmp var/lib/volary)
	install -m 0644 packaging/plugin/config.json $(PLUGIN)/config.json
	install -m 0755 bin/volary $(PLUGIN)/rootfs/volary
	if [ -e $(CERTIFICATES) ]; then install -D -m 0644 $(CERTIFICATES) $(PLUGIN)/rootfs$(CERTIFICATES); fi

tools: ## build the pinned tools that tests need into .cache/bin
	@GO=$(GO) hack/tools.sh ipfs ipfs-cluster-service ipfs-cluster-ctl staticcheck

deps: ## install the Debian packages that tests need
	@hack/deps.sh

clean: ## remove what was built here
	rm -rf bin .cache

needs-root:
	@[ "$$(id -u)" = 0 ] || { echo "this target mounts file systems and changes owners: run it as root" \
		"(make test-unit needs no rights)" >&2; exit 1; }
