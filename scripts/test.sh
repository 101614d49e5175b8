#!/usr/bin/env bash
# Every test, in the order in which a failure tells most. All parts run, whatever fails before; the end says which did.
set -uo pipefail
cd "$(dirname "$0")/.."
failed=()
part() {
    local name=$1
    shift
    printf '\n== %s\n' "$name"
    "$@" || failed+=("$name")
}

if cargo nextest --version >/dev/null 2>&1; then
    tests=(cargo nextest run --locked --no-fail-fast)
else
    # One process for all tests of a crate: slower, and a test that hangs is not ended.
    tests=(cargo test --locked --no-fail-fast)
fi
for tool in fmt clippy; do
    cargo "$tool" --version >/dev/null 2>&1 || rustup component add "${tool/fmt/rustfmt}" || true
done

part "build" cargo build --locked --workspace --all-targets
part "source" cargo xtask check
part "crates" "${tests[@]}" --workspace --exclude weft-conformance
# The real docker client, unmodified, against weft; `cargo xtask conformance --subject dockerd` proves it on the original.
part "docker client" cargo test --locked -p weft-conformance --test docker
# The daemon killed at random under load, its answers against Docker's own document, real registries, a LAN with a DHCP server, and
# what containers see on dockerd and on weft.
part "wire" "${tests[@]}" -p weft-conformance --test kill --test swagger --test registry --test lan --test differential
# docker-py's own integration tests.
part "docker-py" cargo xtask dockerpy --subject weft --jobs 3

if [ ${#failed[@]} -gt 0 ]; then
    printf '\nFAILED: %s\n' "${failed[*]}"
    exit 1
fi
