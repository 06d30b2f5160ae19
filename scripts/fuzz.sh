#!/usr/bin/env bash
# Fuzzes every parser for the given number of seconds each, beginning with fuzz/seeds/<target>/, the corpus kept in
# fuzz/seeds/<target>.tar.gz and what earlier runs left in fuzz/corpus/<target>/. Findings stay in
# fuzz/artifacts/<target>/. With `keep` as a second argument, what covers anything new goes into the kept corpus.
set -euo pipefail
seconds=${1:-60}
keep=${2:-}
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
    [ ! -f "seeds/$target.tar.gz" ] || tar xzf "seeds/$target.tar.gz" -C corpus
    corpora=("corpus/$target")
    [ ! -d "seeds/$target" ] || corpora+=("seeds/$target")
    cargo fuzz run --target "$host" "$target" "${corpora[@]}" -- -max_total_time="$seconds" -rss_limit_mb=4096 -timeout=10
    if [ "$keep" = keep ]; then
        cargo fuzz cmin --target "$host" "$target" "corpus/$target"
        tar --owner=0 --group=0 --mtime=@0 -cf - -C corpus "$target" | gzip -n9 >"seeds/$target.tar.gz"
    fi
done
echo "fuzz: no finding"
