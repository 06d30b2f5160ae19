//! Selectors: the canonical form of what parses is a fixed point.
#![no_main]

use api::selector::Selector;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(selector) = Selector::parse(text) {
        let canonical = selector.to_string();
        let again = Selector::parse(&canonical).expect("the canonical form parses");
        assert_eq!(again.to_string(), canonical);
        assert_eq!(again.unique_id(), selector.unique_id());
    }
});
