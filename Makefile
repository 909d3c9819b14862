# The few commands people type.

# Nothing but the Rust toolchain is needed; cargo-nextest is used when it is there.
NEXTEST := $(shell cargo nextest --version >/dev/null 2>&1 && echo yes)
PROMPT ?= ROMEO:
N ?= 200
CASES ?= 100000
MODEL := shakespeare
CRATE := generated/$(MODEL)
RUNNER := $(CRATE)/target/release/$(MODEL)

.PHONY: help run runner test fuzz check bless bench bench-kernels bench-plan bench-dsa mca tiles

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  make run PROMPT='JULIET:' N=400"

run: runner ## compile the shipped model, build its runner, stream text, print the speed
	$(RUNNER) generate --prompt "$(PROMPT)" -n $(N)
	$(RUNNER) bench -p 64 -n 64 -r 3

runner:
	cargo run --release -p ckc -- compile models/$(MODEL).yaml -o $(CRATE)
	cargo build --release --manifest-path $(CRATE)/Cargo.toml --target-dir $(CRATE)/target

test: ## everything, with cargo-nextest if it is there
ifeq ($(NEXTEST),yes)
	cargo nextest run --workspace
	cargo test --workspace --doc --quiet
else
	cargo test --workspace
endif

fuzz: ## the planner on random problems; CASES=100000
	CKC_FUZZ=$(CASES) cargo test --release -p ck-tests --test dsa -- --nocapture

check: ## format, lints, documentation, committed output is up to date
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps --quiet
	cargo test --quiet -p ck-tests --test emission --test reports

bless: ## rewrite committed output: generated/, docs/memory.md, schemas, snapshots
	CKC_BLESS=1 INSTA_UPDATE=always INSTA_FORCE_PASS=1 cargo test --workspace

bench: runner ## speed beside llama.cpp on this machine; see docs/benchmarks.md
	python3 benches/peers.py $(BENCH)

bench-kernels: ## matmuls beside candle and the gemm crate; see docs/benchmarks.md
	python3 benches/peers.py --kernels $(BENCH)

bench-plan: ## how long planning takes, a line an entry of every model
	cargo run --release --quiet -p ckc --example plan_times -- $(sort $(wildcard models/*.yaml))

bench-dsa: ## how well and how fast ckc dsa plans tables of buffers
	cargo build --release --quiet -p ckc
	python3 benches/dsa.py target/release/ckc $(BENCH)

mca: ## what llvm-mca says of the matrix unit's loops; see docs/performance.md
	python3 benches/mca.py

tiles: ## what the matrix unit's matmul asks of L2; see docs/performance.md
	python3 benches/tiles.py $(BENCH)
