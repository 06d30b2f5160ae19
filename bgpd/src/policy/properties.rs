//! Whatever the rules and whatever the route: no panic, and all ways to ask say the same.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::wire::{AsPath, Attributes, Community, Family, LargeCommunity, NextHop, Origin, Prefix};

const NETS: [&str; 7] = [
    "0.0.0.0/0",
    "10.0.0.0/8",
    "10.1.0.0/16",
    "10.1.2.0/24",
    "10.1.2.3/32",
    "::/0",
    "2001:db8::/32",
];

fn net() -> impl Strategy<Value = Prefix> {
    select(NETS.to_vec()).prop_map(|text| text.parse().unwrap())
}

fn maybe<S: Strategy>(strategy: S) -> impl Strategy<Value = Option<S::Value>>
where
    S::Value: std::fmt::Debug,
{
    prop::option::weighted(0.2, strategy)
}

fn prefix_match() -> impl Strategy<Value = PrefixMatch> {
    use PrefixOperator::{Equal, In, NotEqual, NotIn};
    let operator = select(vec![Equal, NotEqual, In, NotIn]);
    (operator, net(), maybe(any::<u8>()), maybe(any::<u8>())).prop_map(
        |(operator, net, min_length, max_length)| PrefixMatch {
            operator,
            net,
            min_length,
            max_length,
        },
    )
}

fn range() -> impl Strategy<Value = Range> {
    (0..4u32, 0..4u32).prop_map(|(min, max)| Range { min, max })
}

fn conditions() -> impl Strategy<Value = Match> {
    let communities = select(vec!["1:1", "1:*", "*:*", "2:2"]).prop_map(|text| text.parse().unwrap());
    let path = select(vec!["", "*", "1 *", "* 2", "* 1-2 *", "?"]).prop_map(|text| text.parse().unwrap());
    let source = select(vec![SourceMatch::Own, SourceMatch::Learned, SourceMatch::Ibgp]);
    let route = (
        maybe(path),
        maybe(range()),
        maybe(net()),
        maybe(net()),
        maybe(source),
    );
    let numbers = (
        maybe(range()),
        maybe(range()),
        maybe(select(vec![Origin::Igp, Origin::Egp])),
    );
    let prefix = (
        maybe(select(Family::ALL.to_vec())),
        prop::option::of(prefix_match()),
    );
    (prefix, prop::collection::vec(communities, 0..2), route, numbers).prop_map(
        |((family, prefix), communities, (as_path, as_path_length, next_hop, neighbor, source), numbers)| {
            let (med, local_pref, origin) = numbers;
            Match {
                family,
                prefix,
                communities,
                as_path,
                as_path_length,
                next_hop,
                neighbor,
                source,
                med,
                local_pref,
                origin,
                ..Match::default()
            }
        },
    )
}

fn changes() -> impl Strategy<Value = Changes> {
    let number = || {
        maybe(prop_oneof![
            any::<u32>().prop_map(Number::Set),
            any::<i64>().prop_map(Number::Add)
        ])
    };
    let next_hop = select(vec![NextHopChange::SelfAddress, NextHopChange::Unchanged]);
    let remove = select(vec!["1:*", "*:*"]).prop_map(|text| vec![text.parse().unwrap()]);
    (
        number(),
        number(),
        maybe(next_hop),
        maybe(remove),
        any::<bool>(),
        maybe(any::<u8>()),
    )
        .prop_map(|(local_pref, med, next_hop, remove, add, prepend_own)| Changes {
            local_pref,
            med,
            next_hop,
            remove_communities: remove.unwrap_or_default(),
            add_communities: add.then_some(Community::new(2, 2)).into_iter().collect(),
            prepend_own: prepend_own.unwrap_or_default(),
            ..Changes::default()
        })
}

fn rule() -> impl Strategy<Value = Rule> {
    let action = select(vec![
        RuleAction::Accept,
        RuleAction::Reject,
        RuleAction::Continue,
        RuleAction::Continue,
    ]);
    (conditions(), action, changes()).prop_map(|(matches, action, changes)| Rule {
        changes,
        ..Rule::new(matches, action)
    })
}

fn attributes() -> impl Strategy<Value = Attributes> {
    let path = prop::collection::vec(1..4u32, 0..4);
    let communities = prop::collection::vec(select(vec![Community::new(1, 1), Community::new(2, 2)]), 0..3);
    let next_hop = select(vec!["10.1.2.3", "192.0.2.1", "2001:db8::1", "0.0.0.0"]);
    let numbers = (prop::option::of(0..4u32), prop::option::of(0..4u32));
    (path, communities, next_hop, numbers, any::<bool>()).prop_map(
        |(path, communities, next_hop, numbers, egp)| {
            let (med, local_pref) = numbers;
            Attributes {
                as_path: AsPath::sequence(path),
                communities,
                large_communities: vec![LargeCommunity {
                    global: 1,
                    local1: 2,
                    local2: 3,
                }],
                med,
                local_pref,
                origin: if egp { Origin::Egp } else { Origin::Igp },
                ..Attributes::originated(NextHop::from(next_hop.parse::<std::net::IpAddr>().unwrap()))
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..ProptestConfig::default() })]

    #[test]
    fn all_ways_to_ask_agree(
        rules in prop::collection::vec(rule(), 0..24),
        accept in any::<bool>(),
        attributes in attributes(),
        own in any::<bool>(),
    ) {
        let default = if accept { Verdict::Accept } else { Verdict::Reject };
        let policy = Policy::rules(rules, default);
        // May be an error: that is no reason to be asked with less care.
        let _ = policy.validate();
        let route = Route {
            source: if own { Source::Network } else { Source::Ibgp },
            neighbor: (!own).then(|| "10.1.2.3".parse().unwrap()),
            local_as: 65000,
            self_next_hop: Some(NextHop::V4("192.0.2.9".parse().unwrap())),
            ..Route::new(&attributes)
        };
        let for_all = policy.judge(&route);
        for text in NETS {
            let prefix: Prefix = text.parse().unwrap();
            let decision = policy.decide(&prefix, &route);
            if let Some(for_all) = &for_all {
                prop_assert_eq!(for_all, &decision);
            }
            let explanation = policy.explain(&prefix, &route);
            prop_assert_eq!(explanation.verdict == Verdict::Reject, decision == Decision::Reject);
            prop_assert_eq!(explanation.changed, matches!(decision, Decision::Changed(_)));
        }
        let text = serde_json::to_string(&policy).unwrap();
        prop_assert_eq!(serde_json::from_str::<Policy>(&text).unwrap(), policy);
    }

    #[test]
    fn no_text_makes_a_pattern_panic(text in "[0-9:*a-fx/ -]{0,24}") {
        // What is a pattern reads the same after it was shown.
        if let Ok(pattern) = text.parse::<CommunityPattern>() {
            prop_assert_eq!(pattern.to_string().parse::<CommunityPattern>(), Ok(pattern));
        }
        if let Ok(pattern) = text.parse::<LargeCommunityPattern>() {
            prop_assert_eq!(pattern.to_string().parse::<LargeCommunityPattern>(), Ok(pattern));
        }
        if let Ok(pattern) = text.parse::<ExtendedCommunityPattern>() {
            prop_assert_eq!(pattern.to_string().parse::<ExtendedCommunityPattern>(), Ok(pattern));
        }
        if let Ok(pattern) = text.parse::<AsPathPattern>() {
            prop_assert_eq!(pattern.to_string().parse::<AsPathPattern>(), Ok(pattern));
        }
    }
}
