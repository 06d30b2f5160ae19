//! Configuration files of the daemons.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let _ = bgpd::config::parse_file(Path::new("bgpd.toml"), text);
    let _ = agent::config::Config::parse(text);
});
