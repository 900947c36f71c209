# make demo    from nothing to three backups restored and compared
# make test    everything that is tested
# make check   formatting, lints, shell scripts, directions of imports
# make build   the three programs, in target/release
# make deb     the three Debian packages, in target/debian (docs/packages.md); installs cargo-deb where it is missing
# make reference   writes docs/reference/ anew from the sources
# make bench   us and the peers on PATH side by side (docs/benchmarks.md); TREE=, TREES=, RUNS=, ONLY=, QUICK=1; after make build
# make chaos   three clients and a node, on whom everything comes that can come; SECONDS=, SEED= (docs/threats.md)
# make big     20 GB of zeros through both ends; shows how much memory that takes
# make fuzz    runs every target of fuzz/ for SECONDS= each (60), JOBS= at once (2), ONLY= some; installs cargo-fuzz where it is missing
# make flood   how long a client waits while another one floods the node; REQUESTS=, LOGINS=; after make build
# Each installs the Debian packages that it needs, when one is missing.

CARGO ?= cargo
PROGRAMS = --package nightsafe --package nightsafe-server --package nightsafe-gate
# Tests that cross a process mostly wait for it.
export RUST_TEST_THREADS ?= 4

.PHONY: all build demo test check deb cargo-deb reference bench chaos big fuzz flood

all: build

build:
	@deploy/packages.sh build
	$(CARGO) build --locked --release $(PROGRAMS)

demo: build
	@deploy/packages.sh demo
	@deploy/demo.sh

# The tests that cross a process run the programs themselves, so these are built first; some of the tests let them die at
# places that only programs with crash points have. What is installed is built without (make build).
test: cargo-deb
	@deploy/packages.sh build demo test
	@tests/root.sh target/root
	$(CARGO) build --locked --workspace --bins --features crash-points
	$(CARGO) test --locked --workspace --features crash-points --no-fail-fast

check:
	@deploy/packages.sh build check
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	shellcheck deploy/*.sh deploy/*/*.sh tests/*.sh docs/*.sh tests/fixtures/*.sh fuzz/*.sh .ci/run
	$(CARGO) test --locked --package tests --test it -- imports
	$(CARGO) test --locked --package base -- crash

deb: cargo-deb
	@deploy/packages.sh build
	$(CARGO) build --locked --release $(PROGRAMS) --package manual
	@deploy/deb.sh release target/debian

# Not as fast as it could be, because it only calls other programs; and soon there.
cargo-deb:
	@deploy/packages.sh build
	@$(CARGO) deb --version >/dev/null 2>&1 || $(CARGO) install --locked --quiet --debug --no-default-features --version 3.8.0 cargo-deb

reference:
	@deploy/packages.sh build
	$(CARGO) build --locked --workspace --bins --features crash-points
	@target/debug/manual reference docs/reference

# Variables of the command line are in the environment of what it runs.
bench:
	@deploy/packages.sh bench
	@python3 bench/run.py

chaos:
	@deploy/packages.sh build demo
	$(CARGO) build --locked --workspace --bins --features crash-points
	@SECONDS_OF_CHAOS="$(SECONDS)" SEED="$(SEED)" nice -n 5 python3 tests/chaos/run.py

fuzz:
	@deploy/packages.sh build
	@SECONDS_EACH="$(SECONDS)" fuzz/run.sh

flood: build
	@deploy/packages.sh demo
	@deploy/flood.sh

big: build
	@deploy/packages.sh demo
	@deploy/big.sh
