//! The embedded object passes the verifier.

use aya::programs::SchedClassifier;

#[test]
fn programs_pass_the_verifier() {
    let mut object = aya::EbpfLoader::new().load(dataplane::object::OBJECT).unwrap();
    for name in ["from_workload", "to_workload"] {
        let program: &mut SchedClassifier = object.program_mut(name).unwrap().try_into().unwrap();
        if let Err(error) = program.load() {
            let text = error.to_string()
                + &std::error::Error::source(&error)
                    .map(|e| e.to_string())
                    .unwrap_or_default();
            let tail: Vec<_> = text.lines().rev().take(12).collect();
            panic!(
                "{name}: {}",
                tail.into_iter().rev().collect::<Vec<_>>().join("\n")
            );
        }
        let info = program.info().unwrap();
        println!(
            "{name}: {:?} verified instructions, {} bytes",
            info.verified_instruction_count(),
            info.size_jitted()
        );
    }
}
