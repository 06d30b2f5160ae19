//! Compiled programs say what the v3 resources say, whatever the history that led to them.

mod support;

use proptest::collection::vec;
use proptest::prelude::*;
use support::generate::{Step, history, packet, policy};
use support::universe::Universe;

fn cases(count: u32) -> ProptestConfig {
    ProptestConfig {
        cases: count,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(300))]

    /// At each flush of a random history the replica agrees with the oracle.
    #[test]
    fn history_agrees_with_oracle(steps in history(), packets in vec(packet(), 12)) {
        let mut universe = Universe::default();
        for step in &steps {
            match step.input() {
                Some(input) => universe.update(input),
                None => {
                    universe.flush();
                    universe.check(&packets);
                }
            }
        }
        universe.flush();
        universe.check(&packets);
        prop_assert!(universe.engine.flush().is_empty(), "a second flush has nothing to say");
    }
}

proptest! {
    #![proptest_config(cases(150))]

    /// Any order of the final resources, with flushes in between, ends in the same state as all at once.
    #[test]
    fn order_does_not_matter(
        (steps, shuffled) in history().prop_flat_map(|steps| {
            let sets: Vec<Step> = steps.iter().filter(|step| !matches!(step, Step::Remove(_))).cloned().collect();
            (Just(steps), Just(sets).prop_shuffle())
        }),
        packets in vec(packet(), 12),
    ) {
        let mut last = Universe::default();
        for step in &steps {
            match step.input() {
                Some(input) => last.update(input),
                None => { last.flush(); }
            }
        }
        last.flush();
        let scratch = Universe::of(last.resources.values().cloned().map(policy_engine::Input::Set));
        let mut permuted = Universe::default();
        // Sets of the history in another order, then what the end demands: removals and newest contents.
        for step in &shuffled {
            match step.input() {
                Some(input) => permuted.update(input),
                None => { permuted.flush(); }
            }
        }
        let gone: Vec<_> = permuted.resources.keys().filter(|key| !last.resources.contains_key(*key)).cloned().collect();
        for (kind, namespace, name) in gone {
            permuted.update(policy_engine::Input::Remove { kind, namespace, name });
        }
        for resource in last.resources.values() {
            permuted.update(policy_engine::Input::Set(resource.clone()));
        }
        permuted.flush();
        for other in [&last, &permuted] {
            same_state(other, &scratch, &packets)?;
        }
        // And when everything goes, nothing stays.
        for (kind, namespace, name) in permuted.resources.keys().cloned().collect::<Vec<_>>() {
            permuted.update(policy_engine::Input::Remove { kind, namespace, name });
        }
        permuted.flush();
        prop_assert_eq!(&permuted.replica, &policy_engine::Replica::default());
        let counts = permuted.engine.counts();
        prop_assert_eq!((counts.owners, counts.active_selectors, counts.identities, counts.programs), (0, 0, 0, 0));
    }

    /// While a batch that changes only policies is being applied, each packet gets the old or the new verdict.
    #[test]
    fn a_batch_never_mixes(
        steps in history(),
        changes in vec((policy(), any::<bool>()), 1..4),
        packets in vec(packet(), 12),
    ) {
        let mut universe = Universe::default();
        for input in steps.iter().filter_map(Step::input) {
            universe.update(input);
        }
        universe.flush();
        let before = universe.replica.clone();
        for (resource, remove) in changes {
            let step = if remove { Step::Remove(resource) } else { Step::Set(resource) };
            universe.update(step.input().unwrap());
        }
        let deltas = universe.engine.flush();
        let mut after = before.clone();
        deltas.iter().for_each(|delta| after.apply(delta).unwrap());
        let mut current = before.clone();
        for delta in &deltas {
            current.apply(delta).unwrap();
            for (_, id) in universe.local() {
                for packet in &packets {
                    for direction in [policy_engine::output::Direction::Ingress, policy_engine::output::Direction::Egress] {
                        let allowed = |replica: &policy_engine::Replica| {
                            replica.evaluate(&id, direction, packet).map(|(verdict, _)| verdict.allowed)
                        };
                        let now = allowed(&current);
                        prop_assert!(
                            now == allowed(&before) || now == allowed(&after),
                            "{:?} {:?} {:?} after {:?}", id, direction, packet, delta
                        );
                    }
                }
            }
        }
    }
}

/// The same endpoints, rules and verdicts; ids of programs and identities may differ.
fn same_state(a: &Universe, b: &Universe, packets: &[policy_engine::Packet]) -> Result<(), TestCaseError> {
    use policy_engine::output::{Direction, Family};
    let ids = |u: &Universe| u.replica.endpoints.keys().cloned().collect::<Vec<_>>();
    prop_assert_eq!(ids(a), ids(b));
    let (x, y) = (a.engine.counts(), b.engine.counts());
    prop_assert_eq!(x, y);
    for (id, endpoint) in &a.replica.endpoints {
        let other = &b.replica.endpoints[id];
        prop_assert_eq!(&endpoint.interface, &other.interface);
        prop_assert_eq!(&endpoint.addresses, &other.addresses);
        for direction in [Direction::Ingress, Direction::Egress] {
            for family in [Family::V4, Family::V6] {
                let program = &a.replica.programs[&endpoint.programs.key(direction, family)];
                let twin = &b.replica.programs[&other.programs.key(direction, family)];
                prop_assert_eq!(&program.rules, &twin.rules);
                // Entry by entry: the tables hold as many identities, nets and tuples.
                let sizes = |p: &policy_engine::output::Program| {
                    (
                        p.source_identity.as_ref().map(|t| t.entries.len()),
                        p.destination_identity.as_ref().map(|t| t.entries.len()),
                        p.source_tuple.as_ref().map(|t| t.entries.len()),
                    )
                };
                prop_assert_eq!(sizes(program), sizes(twin));
            }
            for packet in packets {
                prop_assert_eq!(a.judge(id, direction, packet), b.judge(id, direction, packet));
            }
        }
    }
    Ok(())
}
