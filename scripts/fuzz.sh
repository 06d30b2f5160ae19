#!/usr/bin/env bash
# Fuzzes every parser for the given number of seconds each, beginning with fuzz/seeds/<target>/ and what earlier runs
# left in fuzz/corpus/<target>/. Findings stay in fuzz/artifacts/<target>/.
set -euo pipefail
seconds=${1:-60}
cd "$(dirname "$0")/../fuzz"
if ! cargo fuzz --version >/dev/null 2>&1; then
    echo "fuzz: installing cargo-fuzz (about a minute)"
    cargo install cargo-fuzz --quiet --locked
fi
# Instrumentation needs unstable compiler flags; a stable compiler takes them with this variable.
export RUSTC_BOOTSTRAP=1
host=$(rustc -vV | sed -n 's/^host: //p')
for target in $(sed -n 's/^name = "\(.*\)"$/\1/p' Cargo.toml | tail -n +2); do
    echo "fuzz: $target for $seconds s"
    mkdir -p "corpus/$target"
    corpora=("corpus/$target")
    [ ! -d "seeds/$target" ] || corpora+=("seeds/$target")
    cargo fuzz run --target "$host" "$target" "${corpora[@]}" -- -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=10
done
echo "fuzz: no finding"
