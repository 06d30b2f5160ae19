//! Network sets.

use super::{Checks, FieldError, texts};
use crate::meta::{LABEL_NAMESPACE, ObjectMeta};

pub(crate) fn network_set(metadata: &ObjectMeta, nets: &[String], errors: &mut Vec<FieldError>) {
    let mut checks = Checks::new(errors, "");
    if let Some(value) = metadata.labels.get(LABEL_NAMESPACE) {
        checks.error(
            &format!("metadata.labels.{LABEL_NAMESPACE}"),
            value,
            "a network set may not carry this label: remove it",
        );
    }
    checks.set("spec.nets", nets, texts::loose_net);
}
