# Everything orfeas is asked for. `make help` lists it.
#
# The first run fetches libtorch and Postgres into .deps/ (1.7 GB for a moment, 1.2 GB to stay) and compiles for about
# a quarter of an hour on two cores; later runs start at once. CONTRIBUTING.md says what comes from where.

PYTHON ?= python3
# Handed to the command that a target runs: make demo ARGS=--json
ARGS ?=
# The number of jobs for cargo; empty: as many as there are cores.
JOBS ?=

BINARY := target/release/orfeas
CARGO_FLAGS := --locked --target-dir target $(if $(JOBS),--jobs $(JOBS))

# rustup's own place, for a shell that was open before Rust was installed.
export PATH := $(PATH):$(HOME)/.cargo/bin
# The binary finds libtorch by the flags in .cargo/config.toml and by its place in the checkout. These would replace
# the flags, the place or the library.
unexport RUSTFLAGS CARGO_ENCODED_RUSTFLAGS CARGO_BUILD_RUSTFLAGS CARGO_TARGET_DIR CARGO_BUILD_TARGET CARGO_BUILD_TARGET_DIR
unexport LIBCLANG_PATH CPLUS_INCLUDE_PATH CXXFLAGS
unexport LIBTORCH LIBTORCH_USE_PYTORCH LIBTORCH_STATIC LIBTORCH_INCLUDE LIBTORCH_LIB LIBTORCH_CXX11_ABI
unexport LIBTORCH_BYPASS_VERSION_CHECK

.DEFAULT_GOAL := help
.PHONY: help demo serve build test lint bench bundle fmt fetch fetch-tests toolchain clean distclean

help: ## Show this list.
	@echo "make TARGET [ARGS=…] [PYTHON=…] [JOBS=…]"
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-10s %s\n", $$1, $$2 }' Makefile

demo: build ## Convert three pictures through a server of its own; meshes and pictures of them go to out/.
	@$(BINARY) demo $(ARGS)

serve: build ## Run the server with its own Postgres; prints the URLs and a token. Ctrl-C stops it.
	@$(BINARY) serve $(ARGS)

build: fetch ## Leave the optimised program in target/release/orfeas.
	cargo build --release --workspace $(CARGO_FLAGS)

test: fetch-tests ## Run every test, against a real Postgres and the real model on the CPU.
	cargo test --workspace $(CARGO_FLAGS) $(ARGS)

lint: fetch ## Check format, module borders, clippy's lints and the documentation.
	@.tools/check lint
	cargo fmt --all --check
	$(PYTHON) .tools/tidy.py
	$(PYTHON) .tools/reference.py --check
	cargo clippy --workspace --all-targets $(CARGO_FLAGS) -- -D warnings
	cargo clippy --workspace --all-targets --no-default-features $(CARGO_FLAGS) -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps $(CARGO_FLAGS)
	@if cargo deny --version >/dev/null 2>&1; \
	then echo cargo deny --locked --config .cargo/deny.toml check bans licenses sources; \
	     cargo deny --locked --config .cargo/deny.toml check bans licenses sources; \
	else echo "cargo-deny isn't installed: licences and sources of dependencies were not checked"; fi

bench: build ## Time each stage of a conversion.
	@$(BINARY) bench $(ARGS)

bundle: build ## Pack the server for a machine that has Python's torch: out/bundle/orfeas-…tar.xz.
	$(PYTHON) .tools/bundle.py

fmt: ## Format the Rust sources.
	cargo fmt --all

fetch: toolchain ## Fetch libtorch, libclang and Postgres into .deps/, if they aren't there.
	@$(PYTHON) .tools/fetch.py libtorch libclang postgres

fetch-tests: fetch ## The same and what the tests need besides: the glTF validator, the packages of the examples, the training and the pages, Node if there is none.
	@$(PYTHON) .tools/fetch.py node examples training web

toolchain:
	@PYTHON="$(PYTHON)" .tools/check build

clean: ## Remove what was built and written; what was fetched stays.
	rm -rf target out

distclean: clean ## Remove what was fetched, too. Data folders of servers stay.
	rm -rf .deps
