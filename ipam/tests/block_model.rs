//! Block arithmetic against a model that is slow and obvious.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use ipam::Error;
use ipam::block::{self, Release};
use ipnet::IpNet;
use jiff::Timestamp;
use proptest::prelude::*;

#[derive(Debug, Clone, PartialEq)]
enum Address {
    Free,
    Used {
        handle: Option<String>,
        node: String,
        sequence: u64,
    },
    Cooling {
        since: i64,
    },
}

struct Model {
    addresses: Vec<Address>,
    queue: VecDeque<usize>,
    sequence: u64,
}

#[derive(Debug, Clone)]
enum Step {
    Auto {
        wanted: usize,
        handle: Option<u8>,
        node: u8,
    },
    Assign {
        ordinal: usize,
        handle: Option<u8>,
        node: u8,
    },
    Release {
        ordinals: Vec<usize>,
        handle: Option<u8>,
        right_sequence: Option<bool>,
    },
    ReleaseHandle(u8),
    Write,
    Wait(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let handle = || proptest::option::weighted(0.8, 0u8..4);
    prop_oneof![
        4 => (0usize..7, handle(), 0u8..3).prop_map(|(wanted, handle, node)| Step::Auto { wanted, handle, node }),
        3 => (0usize..18, handle(), 0u8..3).prop_map(|(ordinal, handle, node)| Step::Assign { ordinal, handle, node }),
        4 => (
            proptest::collection::vec(0usize..16, 1..5),
            proptest::option::weighted(0.3, 0u8..4),
            proptest::option::weighted(0.3, any::<bool>()),
        )
            .prop_map(|(ordinals, handle, right_sequence)| Step::Release { ordinals, handle, right_sequence }),
        2 => (0u8..4).prop_map(Step::ReleaseHandle),
        3 => Just(Step::Write),
        2 => (1i64..40).prop_map(Step::Wait),
    ]
}

fn handle_name(n: Option<u8>) -> Option<String> {
    n.map(|n| format!("net.h{n}"))
}

fn node_attributes(n: u8) -> BTreeMap<String, String> {
    BTreeMap::from([("node".to_owned(), format!("node-{n}"))])
}

impl Model {
    fn normalise(&mut self, cooldown: u32, now: i64) {
        for (ordinal, address) in self.addresses.iter_mut().enumerate() {
            if let Address::Cooling { since } = address
                && (cooldown == 0 || *since < now - i64::from(cooldown))
            {
                *address = Address::Free;
                self.queue.push_back(ordinal);
            }
        }
    }
}

fn same(model: &Model, stored: &api::ipam_model::AllocationBlock) -> Result<(), TestCaseError> {
    for (ordinal, address) in model.addresses.iter().enumerate() {
        let attribute = block::attribute(stored, ordinal);
        let found = match attribute {
            None => Address::Free,
            Some(a) if a.released_at.is_some() => {
                prop_assert!(a.handle_id.is_none() && a.secondary.is_empty());
                Address::Cooling {
                    since: a.released_at.unwrap().as_second(),
                }
            }
            Some(a) => Address::Used {
                handle: a.handle_id.clone(),
                node: a.secondary["node"].clone(),
                sequence: stored.sequence_number_for_allocation[&ordinal.to_string()],
            },
        };
        prop_assert_eq!(&found, address, "ordinal {}", ordinal);
    }
    let queue: Vec<usize> = stored.unallocated.iter().map(|o| *o as usize).collect();
    prop_assert_eq!(&queue, &model.queue.iter().copied().collect::<Vec<_>>());
    prop_assert_eq!(block::free_count(stored), model.queue.len());
    let empty = model.addresses.iter().all(|a| *a == Address::Free);
    prop_assert_eq!(block::is_empty(stored), empty);
    Ok(())
}

fn run(cidr: IpNet, cooldown: u32, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let mut seconds = 1_787_393_472;
    let at = |seconds| Timestamp::from_second(seconds).unwrap();
    let mut stored = block::new(cidr, Some("host:n".into()), at(seconds));
    let mut model = Model {
        addresses: vec![Address::Free; 16],
        queue: (0..16).collect(),
        sequence: u64::try_from(seconds).unwrap() * 1_000_000_000,
    };
    for step in steps {
        match step {
            Step::Write => {
                stored.sequence_number += 1;
                model.sequence += 1;
            }
            Step::Wait(more) => seconds += more,
            Step::Auto { wanted, handle, node } => {
                let handle = handle_name(handle);
                let taken = block::auto_assign(
                    &mut stored,
                    wanted,
                    handle.as_deref(),
                    &node_attributes(node),
                    |_| true,
                );
                let mut expected = Vec::new();
                while expected.len() < wanted
                    && let Some(ordinal) = model.queue.pop_front()
                {
                    model.addresses[ordinal] = Address::Used {
                        handle: handle.clone(),
                        node: format!("node-{node}"),
                        sequence: model.sequence,
                    };
                    expected.push(
                        IpNet::new(block::address(&cidr, ordinal).unwrap(), cidr.prefix_len()).unwrap(),
                    );
                }
                prop_assert_eq!(taken, expected);
            }
            Step::Assign {
                ordinal,
                handle,
                node,
            } => {
                let handle = handle_name(handle);
                let address: IpAddr = match block::address(&cidr, ordinal) {
                    Some(address) => address,
                    None => "192.0.2.1".parse().unwrap(),
                };
                let outcome = block::assign(&mut stored, address, handle.as_deref(), &node_attributes(node));
                match model.addresses.get_mut(ordinal) {
                    None => {
                        let refused = matches!(outcome, Err(Error::NotInBlock { .. }));
                        prop_assert!(refused);
                    }
                    Some(slot @ Address::Free) => {
                        prop_assert!(outcome.is_ok());
                        *slot = Address::Used {
                            handle,
                            node: format!("node-{node}"),
                            sequence: model.sequence,
                        };
                        model.queue.retain(|o| *o != ordinal);
                    }
                    Some(_) => prop_assert!(matches!(outcome, Err(Error::AlreadyAssigned(_)))),
                }
            }
            Step::Release {
                ordinals,
                handle,
                right_sequence,
            } => {
                let handle = handle_name(handle);
                let requests: Vec<Release> = ordinals
                    .iter()
                    .map(|ordinal| Release {
                        address: block::address(&cidr, *ordinal).unwrap(),
                        handle: handle.clone(),
                        sequence_number: right_sequence.map(|right| match &model.addresses[*ordinal] {
                            Address::Used { sequence, .. } if right => *sequence,
                            _ => 7,
                        }),
                    })
                    .collect();
                let before = stored.clone();
                let outcome = block::release(&mut stored, &requests, at(seconds));
                let wrong_sequence = right_sequence.is_some()
                    && ordinals.iter().any(|o| {
                        right_sequence == Some(false) || !matches!(model.addresses[*o], Address::Used { .. })
                    });
                let wrong_handle = handle.is_some()
                    && ordinals.iter().any(
                        |o| matches!(&model.addresses[*o], Address::Used { handle: held, .. } if *held != handle),
                    );
                if wrong_sequence || wrong_handle {
                    prop_assert!(outcome.is_err());
                    prop_assert_eq!(&stored, &before);
                    continue;
                }
                let outcome = outcome.unwrap();
                let mut released = 0u32;
                let mut with_handle = 0u32;
                for ordinal in ordinals {
                    if let Address::Used { handle, .. } = &model.addresses[ordinal] {
                        with_handle += u32::from(handle.is_some());
                        released += 1;
                        model.addresses[ordinal] = Address::Cooling { since: seconds };
                    }
                }
                prop_assert_eq!(outcome.released.len(), released as usize);
                prop_assert_eq!(outcome.by_handle.values().sum::<u32>(), with_handle);
            }
            Step::ReleaseHandle(n) => {
                let wanted = handle_name(Some(n));
                let count = block::release_by_handle(&mut stored, wanted.as_deref().unwrap(), at(seconds));
                let mut expected = 0;
                for address in &mut model.addresses {
                    if matches!(address, Address::Used { handle, .. } if *handle == wanted) {
                        *address = Address::Cooling { since: seconds };
                        expected += 1;
                    }
                }
                prop_assert_eq!(count, expected);
            }
        }
        block::normalise(&mut stored, cooldown, at(seconds));
        model.normalise(cooldown, seconds);
        same(&model, &stored)?;
        prop_assert_eq!(block::consistent(&stored, &cidr), Ok(()));
        let bytes = api::store::encode_value(&stored).unwrap();
        prop_assert_eq!(
            &api::store::decode_value::<api::ipam_model::AllocationBlock>(&bytes).unwrap(),
            &stored
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_v4_block_does_what_the_model_does(cooldown in prop_oneof![Just(0u32), 1u32..60], steps in proptest::collection::vec(step(), 0..60)) {
        run("10.0.0.16/28".parse().unwrap(), cooldown, steps)?;
    }

    #[test]
    fn a_v6_block_does_what_the_model_does(cooldown in prop_oneof![Just(0u32), 1u32..60], steps in proptest::collection::vec(step(), 0..60)) {
        run("fd00::ff0/124".parse().unwrap(), cooldown, steps)?;
    }

    #[test]
    fn ordinals_and_addresses_are_inverse(prefix in 20u8..=32, base in any::<u32>(), ordinal in 0usize..4096) {
        let cidr = IpNet::new(IpAddr::V4(base.into()), prefix).unwrap().trunc();
        match block::address(&cidr, ordinal) {
            Some(address) => prop_assert_eq!(block::ordinal(&cidr, address), Some(ordinal)),
            None => prop_assert!(ordinal >= block::size(&cidr)),
        }
    }

    /// Whatever is stored: it is refused, or nothing panics and nothing is given twice.
    #[test]
    fn no_stored_block_panics(
        allocations in proptest::collection::vec(proptest::option::of(0u32..4), 0..10),
        unallocated in proptest::collection::vec(0u32..12, 0..10),
        attributes in 0usize..4,
    ) {
        let cidr: IpNet = "10.0.0.0/29".parse().unwrap();
        let mut stored = block::new(cidr, None, Timestamp::UNIX_EPOCH);
        stored.allocations = allocations;
        stored.unallocated = unallocated;
        stored.attributes = vec![api::ipam_model::AllocationAttribute::default(); attributes];
        let usable = block::usable(&stored, &cidr).is_ok();
        let held: Vec<usize> = (0..8).filter(|o| block::attribute(&stored, *o).is_some()).collect();
        block::normalise(&mut stored, 0, Timestamp::UNIX_EPOCH);
        let taken = block::auto_assign(&mut stored, 20, Some("h"), &BTreeMap::new(), |_| true);
        let _ = block::release_by_handle(&mut stored, "h", Timestamp::UNIX_EPOCH);
        if usable {
            for net in taken {
                prop_assert!(!held.contains(&block::ordinal(&cidr, net.addr()).unwrap()));
            }
        }
    }
}

#[test]
fn reserved_addresses_keep_their_place() {
    let cidr: IpNet = "10.0.0.0/30".parse().unwrap();
    let mut stored = block::new(cidr, None, Timestamp::UNIX_EPOCH);
    let reserved: IpAddr = "10.0.0.1".parse().unwrap();
    let taken = block::auto_assign(&mut stored, 2, None, &BTreeMap::new(), |address| {
        address != reserved
    });
    let taken: Vec<String> = taken.iter().map(IpNet::to_string).collect();
    assert_eq!(taken, ["10.0.0.0/30", "10.0.0.2/30"]);
    assert_eq!(stored.unallocated, [1, 3]);
}

#[test]
fn handles_with_old_rubbish_are_found() {
    let cidr: IpNet = "10.0.0.0/30".parse().unwrap();
    let mut stored = block::new(cidr, None, Timestamp::UNIX_EPOCH);
    block::auto_assign(&mut stored, 1, Some("net.a\r\nrubbish"), &BTreeMap::new(), |_| {
        true
    });
    assert_eq!(block::addresses_of_handle(&stored, "net.a").len(), 1);
    assert_eq!(
        block::release_by_handle(&mut stored, "net.a", Timestamp::UNIX_EPOCH),
        1
    );
}
