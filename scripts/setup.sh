#!/usr/bin/env bash
# Installs what building and testing Margay needs and what is missing, and says what it does.
# The reference system is Debian 12; elsewhere it names what is missing and stops.
# Safe to run again: what is there is left alone.
set -euo pipefail

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

SUDO=""
if [ "$(id -u)" -ne 0 ]; then
    command -v sudo >/dev/null || die "installing packages needs root: run 'make setup' as root or install sudo"
    SUDO="sudo"
fi

# Build tools, then the real peers, stores and tools that the tests and the lab use.
packages=(
    git make gcc libc6-dev ca-certificates
    rustc-web libstd-rust-web-dev cargo-web libstd-rust-web-dev-bpf
    protobuf-compiler libprotobuf-dev
    bird2 frr gobgpd openbgpd exabgp etcd-server etcd-client
    bgpdump pmacct
    iproute2 iputils-ping tcpdump tshark nftables bpftool ethtool
)
if ! command -v cargo >/dev/null || [ "$(command -v cargo)" = /usr/bin/cargo ]; then
    packages+=(rustfmt-web rust-web-clippy)
fi

# Debian's router, collector and etcd packages enable their services. They are installed without being started:
# a policy-rc.d refuses the start, and those services that the installation enabled are disabled again.
services='^(bird|bird6|etcd|frr|gobgpd|openbgpd|bgplgd|exabgp|pmacctd|nfacctd|sfacctd|uacctd)(\.service)?$'
enabled_services() {
    {
        find /etc/systemd/system -mindepth 2 -maxdepth 2 -path '*.wants/*' -printf '%f\n' 2>/dev/null
        find /etc/rc2.d -maxdepth 1 -name 'S*' -printf '%f\n' 2>/dev/null | sed 's/^S[0-9]*//'
    } | { grep -E "$services" || true; } | LC_ALL=C sort -u
}

install_packages() {
    local missing=() p
    for p in "${packages[@]}"; do
        [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing+=("$p")
    done
    if [ "${#missing[@]}" -eq 0 ]; then
        say "packages: all ${#packages[@]} are there"
        return
    fi
    say "packages to install (needs root): ${missing[*]}"
    $SUDO apt-get update -q >/dev/null || die "apt-get update failed: check the package sources and the network"

    local before policy=/usr/sbin/policy-rc.d made_policy=""
    before=$(mktemp); enabled_services >"$before"
    if [ ! -e "$policy" ]; then
        printf '#!/bin/sh\nexit 101\n' | $SUDO tee "$policy" >/dev/null
        $SUDO chmod +x "$policy"
        made_policy=yes
        # shellcheck disable=SC2064
        trap "$SUDO rm -f $policy" EXIT
    fi
    DEBIAN_FRONTEND=noninteractive $SUDO apt-get install -q -y --no-install-recommends "${missing[@]}" >/dev/null \
        || die "apt-get install failed: run it by hand to see why: apt-get install ${missing[*]}"
    if [ -n "$made_policy" ]; then $SUDO rm -f "$policy"; trap - EXIT; fi

    local unit
    while read -r unit; do
        [ -n "$unit" ] || continue
        if command -v systemctl >/dev/null && [ "${unit%.*}" != "$unit" ]; then
            $SUDO systemctl disable "$unit" >/dev/null 2>&1 || true
        elif command -v update-rc.d >/dev/null; then
            $SUDO update-rc.d "$unit" disable >/dev/null 2>&1 || true
        fi
        say "service $unit was enabled by its package: disabled again, not started"
    done < <(LC_ALL=C comm -13 "$before" <(enabled_services))
    rm -f "$before"
}

# bpf-linker must be linked to the LLVM of the compiler that builds the eBPF programs. The link to the
# shared library stands in for the LLVM development package (70 MB less to fetch, the same object built).
install_bpf_linker() {
    local rustc=${EBPF_RUSTC:-/usr/bin/rustc} version=0.13.0 major minor prefix
    minor=$("$rustc" -vV | sed -n 's/^LLVM version: \([0-9]*\.[0-9]*\).*/\1/p')
    major=${minor%%.*}
    [ -n "$major" ] || die "cannot read the LLVM version of $rustc"
    if "$cargo_bin/bpf-linker" --version 2>/dev/null | grep -q "$version" \
        && [ "$(cat "$cargo_bin/.bpf-linker-llvm" 2>/dev/null)" = "$minor" ]; then
        say "bpf-linker $version for LLVM $minor: is there"
        return
    fi
    say "installing bpf-linker $version for LLVM $minor (about a minute)"
    prefix=$(mktemp -d)
    mkdir -p "$prefix/lib"
    local lib
    lib=$(find /usr/lib -name "libLLVM.so.$minor*" 2>/dev/null | head -n 1)
    [ -n "$lib" ] || die "no libLLVM.so.$minor under /usr/lib: install the LLVM $major runtime"
    ln -sfn "$lib" "$prefix/lib/libLLVM.so"
    LLVM_PREFIX=$prefix "$cargo" install bpf-linker --quiet --locked --force --version "$version" \
        --no-default-features --features "llvm-$major" --root "$(dirname "$cargo_bin")"
    rm -rf "$prefix"
    printf '%s' "$minor" >"$cargo_bin/.bpf-linker-llvm"
}

install_cargo_deny() {
    local version=0.18.5
    if "$cargo_bin/cargo-deny" --version >/dev/null 2>&1; then
        say "cargo-deny: is there"
        return
    fi
    say "installing cargo-deny $version (a few minutes)"
    "$cargo" install cargo-deny --quiet --locked --version "$version" --no-default-features --root "$(dirname "$cargo_bin")" \
        || die "cargo-deny did not build: see above"
}

what=${1:-all}
[ -r /etc/debian_version ] || die "this is not Debian: install ${packages[*]} by your system's means, then bpf-linker and cargo-deny by cargo"
install_packages
cargo=$(command -v cargo) || die "no cargo even after installing cargo-web: check PATH"
cargo_bin=${CARGO_HOME:-$HOME/.cargo}/bin
mkdir -p "$cargo_bin"
install_bpf_linker
[ "$what" = build ] || install_cargo_deny
say "done"
