//! Which namespace a resource is in, by what it says itself and by the flags.

use api::{AnyResource, Kind};

/// The namespace of a resource that names none.
const DEFAULT_NAMESPACE: &str = "default";

/// What the flags say.
#[derive(Debug, Clone, Copy)]
pub(super) struct Scope<'a> {
    /// `-n`, or empty.
    pub(super) namespace: &'a str,
    /// `-A`.
    pub(super) all: bool,
}

impl Scope<'_> {
    /// The namespace for a resource of `kind` that gives `own`; empty means none or all.
    pub(super) fn namespace(&self, kind: Kind, own: &str) -> Result<String, String> {
        if !kind.namespaced() {
            if !own.is_empty() {
                return Err(format!(
                    "namespace should not be specified for a non-namespaced resource. {kind} is not a namespaced resource"
                ));
            }
            if self.all || !self.namespace.is_empty() {
                return Err(format!("{kind} is not namespaced"));
            }
            return Ok(String::new());
        }
        if self.all && !self.namespace.is_empty() {
            return Err("cannot use both --namespace and --all-namespaces flags at the same time".to_owned());
        }
        match (own, self.namespace) {
            ("", "") if self.all => Ok(String::new()),
            ("", "") => Ok(DEFAULT_NAMESPACE.to_owned()),
            ("", given) => Ok(given.to_owned()),
            (own, given) if given.is_empty() || given == own => Ok(own.to_owned()),
            (own, given) => Err(format!(
                "resource namespace does not match client namespace. {own} != {given}"
            )),
        }
    }
}

/// Writes the namespace into the resource.
pub(super) fn settle(resource: &mut AnyResource, scope: Scope<'_>) -> Result<(), String> {
    let namespace = scope.namespace(resource.kind(), &resource.metadata().namespace)?;
    resource.metadata_mut().namespace = namespace;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules() {
        let with = |kind, own, namespace, all| Scope { namespace, all }.namespace(kind, own);
        assert_eq!(with(Kind::NetworkPolicy, "", "", false), Ok("default".to_owned()));
        assert_eq!(with(Kind::NetworkPolicy, "", "n", false), Ok("n".to_owned()));
        assert_eq!(with(Kind::NetworkPolicy, "n", "n", false), Ok("n".to_owned()));
        assert_eq!(with(Kind::NetworkPolicy, "", "", true), Ok(String::new()));
        assert_eq!(
            with(Kind::NetworkPolicy, "a", "b", false),
            Err("resource namespace does not match client namespace. a != b".to_owned())
        );
        assert!(with(Kind::NetworkPolicy, "", "n", true).is_err());
        assert_eq!(
            with(Kind::IpPool, "", "n", false),
            Err("IPPool is not namespaced".to_owned())
        );
        assert_eq!(
            with(Kind::IpPool, "", "", true),
            Err("IPPool is not namespaced".to_owned())
        );
        assert!(
            with(Kind::IpPool, "n", "", false)
                .is_err_and(|e| e.ends_with("IPPool is not a namespaced resource"))
        );
        assert_eq!(with(Kind::IpPool, "", "", false), Ok(String::new()));
    }
}
