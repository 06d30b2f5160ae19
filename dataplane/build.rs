//! Compiles the eBPF programs with their own toolchain and puts the object where `object.rs` embeds it.
//!
//! `EBPF_CARGO` and `EBPF_RUSTC` choose another toolchain than Debian's (`/usr/bin/cargo`, `/usr/bin/rustc`),
//! `EBPF_CPU` another instruction set than v3, and `EBPF_BUILD_STD=1` builds `core` from source where the
//! toolchain has none for BPF (a rustup nightly with `rust-src`).

use std::env;
use std::path::PathBuf;
use std::process::Command;

fn main() {
    if let Err(error) = build() {
        println!("cargo::error={error}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    let required = |key: &str| env::var(key).map_err(|_| format!("cargo did not set {key}"));
    let or = |key: &str, default: &str| env::var(key).unwrap_or_else(|_| default.to_owned());
    let source = PathBuf::from(required("CARGO_MANIFEST_DIR")?).join("../ebpf");
    let out = PathBuf::from(required("OUT_DIR")?);
    for path in [
        "Cargo.toml",
        "Cargo.lock",
        "src",
        "common/Cargo.toml",
        "common/src",
    ] {
        println!("cargo::rerun-if-changed={}", source.join(path).display());
    }
    for key in ["EBPF_CARGO", "EBPF_RUSTC", "EBPF_CPU", "EBPF_BUILD_STD"] {
        println!("cargo::rerun-if-env-changed={key}");
    }

    let big = required("CARGO_CFG_TARGET_ENDIAN")? == "big";
    let target = if big {
        "bpfeb-unknown-none"
    } else {
        "bpfel-unknown-none"
    };
    let arch = required("CARGO_CFG_TARGET_ARCH")?;
    let target_dir = out.join("ebpf-target");
    let flags = [
        "--cfg".to_owned(),
        format!("bpf_target_arch=\"{arch}\""),
        "-Cdebuginfo=2".to_owned(),
        "-Clink-arg=--btf".to_owned(),
        format!("-Ctarget-cpu={}", or("EBPF_CPU", "v3")),
    ];
    let cargo = or("EBPF_CARGO", "/usr/bin/cargo");
    let mut command = Command::new(&cargo);
    command.current_dir(&source).args([
        "build",
        "--release",
        "--locked",
        "--target",
        target,
        "--target-dir",
    ]);
    command.arg(&target_dir);
    if or("EBPF_BUILD_STD", "0") == "1" {
        command.args(["-Z", "build-std=core"]);
    }
    // `bpf-linker` is installed where cargo puts its binaries.
    let mut path = env::split_paths(&or("PATH", "")).collect::<Vec<_>>();
    path.push(PathBuf::from(or("CARGO_HOME", &format!("{}/.cargo", or("HOME", "/root")))).join("bin"));
    let path = env::join_paths(path).map_err(|e| e.to_string())?;
    // RUSTC_BOOTSTRAP: aya-ebpf uses inline assembly for BPF, which is not stable. Only here, not for user space.
    let status = command
        .env("RUSTC", or("EBPF_RUSTC", "/usr/bin/rustc"))
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f"))
        .env("PATH", path)
        .env_remove("RUSTC_WORKSPACE_WRAPPER")
        .env_remove("RUSTC_WRAPPER")
        .env_remove("RUSTUP_TOOLCHAIN")
        .env_remove("CARGO")
        .env_remove("CARGO_BUILD_TARGET")
        .env_remove("CARGO_TARGET_DIR")
        .status()
        .map_err(|e| {
            format!("{cargo}: {e}; run `make setup`, or name a toolchain in EBPF_CARGO and EBPF_RUSTC")
        })?;
    if !status.success() {
        return Err("the eBPF programs did not build; the compiler's messages are above".to_owned());
    }
    let object = target_dir.join(target).join("release/margay");
    std::fs::copy(&object, out.join("margay.bpf.o")).map_err(|e| format!("{}: {e}", object.display()))?;
    Ok(())
}
