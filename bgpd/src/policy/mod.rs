//! Routing policy: which routes pass between a neighbour and us, and with which attributes.
//!
//! A [`Policy`] is a list of [`Rule`]s. A rule has conditions ([`Match`]; all that are set must hold), an action and
//! [`Changes`]. The first rule whose conditions hold and whose action is not [`RuleAction::Continue`] decides; a rule
//! that continues has changed the route for those after it. If none decides, the policy's default does.
//!
//! A policy never sees the session: only a [`Route`], which says all there is to look at. So the same route always
//! has the same outcome, and [`Policy::explain`] can name the rule afterwards, with nothing kept for it. Where no rule
//! that applies to a set of attributes looks at the prefix, [`Policy::judge`] decides for all prefixes at once.
//!
//! ```
//! use bgpd::policy::{Changes, Decision, Match, Number, Policy, PrefixMatch, Route, Rule, RuleAction, Verdict};
//! use bgpd::wire::{Attributes, Family, NextHop};
//!
//! let lower = Rule {
//!     name: Some("far away".into()),
//!     matches: Match {
//!         prefix: Some(PrefixMatch::inside("10.1.0.0/16".parse().unwrap())),
//!         as_path: Some("* 65009 *".parse().unwrap()),
//!         ..Match::default()
//!     },
//!     changes: Changes {
//!         local_pref: Some(Number::Set(50)),
//!         ..Changes::default()
//!     },
//!     action: RuleAction::Accept,
//! };
//! let policy = Policy::rules([lower], Verdict::Reject);
//! let attributes = Attributes::originated(NextHop::unspecified(Family::Ipv4Unicast));
//! let prefix = "10.1.2.0/24".parse().unwrap();
//! assert_eq!(policy.decide(&prefix, &Route::new(&attributes)), Decision::Reject);
//! assert_eq!(policy.explain(&prefix, &Route::new(&attributes)).to_string(), "rejected by default");
//! ```

mod changes;
mod communities;
mod evaluate;
mod matches;
mod path_pattern;
mod prefixes;
#[cfg(test)]
mod properties;
mod rules;

pub use changes::{Changes, NextHopChange, Number};
pub use communities::{CommunityPattern, ExtendedCommunityPattern, LargeCommunityPattern, PatternError};
pub use evaluate::{DecidedBy, Decision, Explanation};
pub use matches::{InterfacePattern, Match, PeerType, Range, Route, Source, SourceMatch};
pub use path_pattern::{AsPathPattern, PATTERN_TOKENS_MAX};
pub use prefixes::{PrefixMatch, PrefixOperator};
pub use rules::{PREPEND_MAX, Policy, RULES_MAX, Rule, RuleAction, RuleError, RuleSet, Verdict};
