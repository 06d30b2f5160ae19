//! The selectors that policies and rules mean, parsed, with the field to blame when one cannot be.

use std::sync::Arc;

use api::selector::{Selector, effective};
use api::v3::{EntityRule, GlobalNetworkPolicySpec, NetworkPolicySpec};

/// A selector field that cannot be parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BadSelector {
    pub(crate) field: &'static str,
    pub(crate) reason: String,
}

/// The endpoints that a policy of a namespace applies to.
pub(crate) fn of_network_policy(
    namespace: &str,
    spec: &NetworkPolicySpec,
) -> Result<Arc<Selector>, BadSelector> {
    check("selector", &spec.selector)?;
    check("serviceAccountSelector", &spec.service_account_selector)?;
    parse(
        "selector",
        &effective::network_policy(namespace, &spec.selector, &spec.service_account_selector),
    )
}

/// The endpoints that a global policy applies to.
pub(crate) fn of_global_policy(spec: &GlobalNetworkPolicySpec) -> Result<Arc<Selector>, BadSelector> {
    check("selector", &spec.selector)?;
    check("namespaceSelector", &spec.namespace_selector)?;
    check("serviceAccountSelector", &spec.service_account_selector)?;
    let text = effective::global_network_policy(
        &spec.selector,
        &spec.namespace_selector,
        &spec.service_account_selector,
    );
    parse("selector", &text)
}

/// What one side of a rule selects; `None`: no positive selector.
pub(crate) fn of_entity(namespace: &str, side: &EntityRule) -> Result<Option<Arc<Selector>>, BadSelector> {
    check("selector", &side.selector)?;
    check("namespaceSelector", &side.namespace_selector)?;
    if let Some(accounts) = &side.service_accounts {
        check("serviceAccounts.selector", &accounts.selector)?;
    }
    let text = effective::entity(namespace, side);
    if text.is_empty() {
        Ok(None)
    } else {
        parse("selector", &text).map(Some)
    }
}

/// A selector that may be empty, which means that there is none.
pub(crate) fn optional(text: &str) -> Result<Option<Arc<Selector>>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    Selector::parse(text)
        .map(|selector| Some(Arc::new(selector)))
        .map_err(|error| error.to_string())
}

/// What the first selects and the second does not.
pub(crate) fn but_not(positive: &Selector, negative: &Selector) -> Result<Arc<Selector>, String> {
    Selector::parse(&effective::merged(&positive.to_string(), &negative.to_string()))
        .map(Arc::new)
        .map_err(|error| error.to_string())
}

fn check(field: &'static str, text: &str) -> Result<(), BadSelector> {
    parse(field, text).map(|_| ())
}

fn parse(field: &'static str, text: &str) -> Result<Arc<Selector>, BadSelector> {
    Selector::parse(text).map(Arc::new).map_err(|error| BadSelector {
        field,
        reason: error.to_string(),
    })
}
