//! What the store holds: a key in the first line, its value in the rest.
#![no_main]

use datastore::key::AnyKey;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let mut parts = data.splitn(2, |byte| *byte == b'\n');
    let (Some(path), Some(value)) = (parts.next(), parts.next()) else { return };
    let Ok(path) = std::str::from_utf8(path) else { return };
    if let Some(key) = AnyKey::parse(path) {
        assert_eq!(AnyKey::parse(&key.path()), Some(key.clone()));
        let _ = key.decode(value, 1);
    }
});
