#!/usr/bin/env bash
# Every test, in the order in which a failure tells most.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --locked --workspace --all-targets
cargo xtask layers
# The real docker client against weft; what is skipped is in docs/limits.md.
cargo test --locked -p weft-conformance --test docker -- --skip transfer:: --skip registry::login
cargo nextest run --locked --workspace --exclude weft-conformance --no-fail-fast
