# make demo    from nothing to three backups restored and compared
# make test    everything that is tested
# make check   formatting, lints, shell scripts, directions of imports
# make build   the three programs, in target/release
# make big     20 GB of zeros through both ends; shows how much memory that takes
# The first four install the Debian packages that they need, when one is missing.

CARGO ?= cargo
# Tests that cross a process mostly wait for it.
export RUST_TEST_THREADS ?= 4

.PHONY: all build demo test check big

all: build

build:
	@deploy/packages.sh build
	$(CARGO) build --locked --release --bins

demo: build
	@deploy/packages.sh demo
	@deploy/demo.sh

# The tests that cross a process run the programs themselves, so these are built first.
test:
	@deploy/packages.sh build demo test
	$(CARGO) build --locked --workspace --bins
	$(CARGO) test --locked --workspace

check:
	@deploy/packages.sh build check
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- -D warnings
	shellcheck deploy/*.sh docs/*.sh tests/fixtures/*.sh .ci/run
	$(CARGO) test --locked --package tests --test it -- imports

big: build
	@deploy/packages.sh demo
	@deploy/big.sh
