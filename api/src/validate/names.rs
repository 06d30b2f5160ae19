//! Names, labels and annotations.

use std::collections::BTreeMap;

use super::texts::{self, is_dns_label, is_dns_subdomain};
use super::{Checks, FieldError, Refusal};
use crate::kinds::Kind;
use crate::meta::ObjectMeta;

/// The most bytes of all annotation keys and values of an object.
const ANNOTATIONS_BYTES_MAX: usize = 262_144;
/// The longest name of a tier.
const TIER_NAME_LEN_MAX: usize = 63;

/// Checks of metadata that hold for every kind.
pub fn metadata(kind: Kind, metadata: &ObjectMeta, errors: &mut Vec<FieldError>) {
    let mut checks = Checks::new(errors, "metadata");
    if metadata.name.is_empty() {
        checks.missing("name", "a name is required");
    } else {
        checks.text("name", &metadata.name, |name| self::name(kind, name));
    }
    if !kind.namespaced() {
        checks.require(
            metadata.namespace.is_empty(),
            "namespace",
            &metadata.namespace,
            "namespace should not be specified for a non-namespaced resource",
        );
    } else if !metadata.namespace.is_empty() {
        checks.text("namespace", &metadata.namespace, |text| {
            if is_dns_label(text) && text.len() <= TIER_NAME_LEN_MAX {
                Ok(())
            } else {
                Err("a namespace has at most 63 lower-case letters, digits and '-', and starts and ends with a letter or digit".to_owned())
            }
        });
    }
    for (key, value) in &metadata.labels {
        checks.text("labels", key, texts::label_key);
        checks.text(&format!("labels.{key}"), value, texts::label_value);
    }
    annotations(&mut checks, &metadata.annotations);
}

pub(super) fn annotations(checks: &mut Checks<'_>, annotations: &BTreeMap<String, String>) {
    for key in annotations.keys() {
        checks.text("annotations", key, |key| texts::label_key(&key.to_lowercase()));
    }
    let bytes: usize = annotations.iter().map(|(k, v)| k.len() + v.len()).sum();
    checks.require(
        bytes <= ANNOTATIONS_BYTES_MAX,
        "annotations",
        format!("{bytes} bytes"),
        "all keys and values together have at most 262144 bytes",
    );
}

fn name(kind: Kind, name: &str) -> Refusal {
    let refuse = |reason: &str| Err(reason.to_owned());
    match kind {
        // Computed from the spec, and compared with it there.
        Kind::WorkloadEndpoint => Ok(()),
        Kind::Tier if is_dns_label(name) && name.len() <= TIER_NAME_LEN_MAX => Ok(()),
        Kind::Tier => refuse(
            "a tier name has at most 63 lower-case letters, digits and '-', and starts and ends with a letter or digit",
        ),
        Kind::GlobalNetworkPolicy if labels_up_to_two(name) => Ok(()),
        Kind::NetworkPolicy if labels_up_to_two(name) || kubernetes_policy(name) => Ok(()),
        Kind::GlobalNetworkPolicy | Kind::NetworkPolicy => refuse(
            "a policy name has lower-case letters, digits and '-', and at most one '.' between two such parts",
        ),
        Kind::ClusterInformation | Kind::IpamConfiguration if name == "default" => Ok(()),
        Kind::ClusterInformation | Kind::IpamConfiguration => {
            refuse("the only object of this kind is named default")
        }
        Kind::BgpConfiguration
            if name == "default" || name.strip_prefix("node.").is_some_and(is_dns_subdomain) =>
        {
            Ok(())
        }
        Kind::BgpConfiguration => refuse("must be default or node.<name of a node>"),
        _ => texts::subdomain(name),
    }
}

fn labels_up_to_two(name: &str) -> bool {
    name.len() <= texts::NAME_LEN_MAX && name.split('.').count() <= 2 && name.split('.').all(is_dns_label)
}

/// Policies that stand for Kubernetes' and OpenStack's own.
fn kubernetes_policy(name: &str) -> bool {
    name.len() <= texts::NAME_LEN_MAX
        && ["knp.default.", "ossg.default."]
            .iter()
            .any(|prefix| name.strip_prefix(prefix).is_some_and(is_dns_subdomain))
}
