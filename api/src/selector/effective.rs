//! The selectors that policies and rules mean, with namespaces and service accounts written into them.
//!
//! They are texts, built as Calico builds them, so that their unique ids agree with Calico's.

use crate::meta::{LABEL_NAMESPACE, LABEL_SERVICE_ACCOUNT};
use crate::v3::rule::{EntityRule, ServiceAccountMatch};

use super::Selector;

/// Prefix of labels that an endpoint inherits from its namespace.
pub const NAMESPACE_LABEL_PREFIX: &str = "pcns.";
/// Prefix of labels that an endpoint inherits from its service account.
pub const SERVICE_ACCOUNT_LABEL_PREFIX: &str = "pcsa.";

/// Parses, puts `prefix` before every label and gives the canonical form; empty if it is no selector.
#[must_use]
pub fn prefixed(selector: &str, prefix: &str) -> String {
    Selector::parse(selector).map_or_else(|_| String::new(), |s| s.with_label_prefix(prefix).to_string())
}

/// The endpoints that a `NetworkPolicy` of `namespace` applies to.
#[must_use]
pub fn network_policy(namespace: &str, selector: &str, service_account_selector: &str) -> String {
    let own = namespace_is(namespace);
    let mut effective = if selector.is_empty() {
        own
    } else {
        format!("({selector}) && {own}")
    };
    if !service_account_selector.is_empty() {
        let accounts = prefixed(service_account_selector, SERVICE_ACCOUNT_LABEL_PREFIX);
        effective = format!("({effective}) && {accounts}");
    }
    effective
}

/// The endpoints that a `GlobalNetworkPolicy` applies to; empty means all.
#[must_use]
pub fn global_network_policy(
    selector: &str,
    namespace_selector: &str,
    service_account_selector: &str,
) -> String {
    let steps = [
        (namespace_selector, NAMESPACE_LABEL_PREFIX, LABEL_NAMESPACE),
        (
            service_account_selector,
            SERVICE_ACCOUNT_LABEL_PREFIX,
            LABEL_SERVICE_ACCOUNT,
        ),
    ];
    let mut effective = selector.to_owned();
    for (extra, prefix, label) in steps {
        if extra.is_empty() {
            continue;
        }
        let extra = prefixed(extra, prefix);
        effective = if effective.is_empty() {
            extra
        } else {
            format!("({effective}) && {extra}")
        };
        // Textual on purpose: Calico also replaces an all() that the user wrote in the policy's own selector.
        effective = effective.replace("all()", &format!("has({label})"));
    }
    effective
}

/// What one side of a rule selects, in a policy of `namespace` (empty for global policies and profiles). Empty
/// means that the rule has no positive selector on this side. The side's `notSelector` holds as it is.
#[must_use]
pub fn entity(namespace: &str, side: &EntityRule) -> String {
    let namespaces = if !side.namespace_selector.is_empty() {
        prefixed(&side.namespace_selector, NAMESPACE_LABEL_PREFIX)
            .replace("all()", &format!("has({LABEL_NAMESPACE})"))
            .replace("global()", &format!("!has({LABEL_NAMESPACE})"))
    } else if !namespace.is_empty() {
        namespace_is(namespace)
    } else {
        String::new()
    };
    let accounts = side
        .service_accounts
        .as_ref()
        .map(service_accounts)
        .unwrap_or_default();
    let endpoints = both(&accounts, &side.selector);
    let confined =
        !(endpoints.is_empty() && side.not_selector.is_empty() && side.namespace_selector.is_empty());
    if namespaces.is_empty() || !confined {
        endpoints
    } else {
        both(&namespaces, &endpoints)
    }
}

/// The positive and the negative selector of one side as one.
#[must_use]
pub fn merged(positive: &str, negative: &str) -> String {
    format!("({positive}) && (!({negative}))")
}

fn namespace_is(namespace: &str) -> String {
    format!("{LABEL_NAMESPACE} == '{namespace}'")
}

fn both(first: &str, second: &str) -> String {
    match (first.is_empty(), second.is_empty()) {
        (false, false) => format!("({first}) && ({second})"),
        (false, true) => first.to_owned(),
        _ => second.to_owned(),
    }
}

fn service_accounts(accounts: &ServiceAccountMatch) -> String {
    let selector = if accounts.selector.is_empty() {
        String::new()
    } else {
        prefixed(&accounts.selector, SERVICE_ACCOUNT_LABEL_PREFIX)
    };
    let names = if accounts.names.is_empty() {
        String::new()
    } else {
        let quoted: Vec<String> = accounts.names.iter().map(|name| format!("'{name}'")).collect();
        super::normalise(&format!("{LABEL_SERVICE_ACCOUNT} in {{ {} }}", quoted.join(", ")))
    };
    both(&selector, &names)
}
