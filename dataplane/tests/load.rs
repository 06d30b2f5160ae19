//! The embedded object passes the verifier.

use aya::programs::SchedClassifier;

#[test]
fn programs_pass_the_verifier() {
    let mut object = aya::EbpfLoader::new().load(dataplane::object::OBJECT).unwrap();
    for (_, program) in object.programs_mut() {
        let program: &mut SchedClassifier = program.try_into().unwrap();
        program.load().unwrap();
    }
}
