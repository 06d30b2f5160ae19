//! The `calicoctl` binary.

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    calicoctl::main()
}
