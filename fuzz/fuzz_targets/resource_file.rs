//! Resource files of a person: every document is decoded or refused, and what was decoded can be checked and written.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let decoded = api::file::decode("fuzz.yaml", text);
    if let Some(error) = decoded.error {
        assert!(!error.to_string().is_empty());
    }
    for mut resource in decoded.resources {
        resource.resource.default_on_write();
        let _ = resource.resource.validate();
    }
});
