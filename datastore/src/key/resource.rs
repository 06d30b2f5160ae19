//! Keys of the `projectcalico.org/v3` resources.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::marker::PhantomData;

use api::{AnyResource, Kind, ObjectMeta, Resource};

use super::{Key, KeyRange, List, unescape_name};

/// The prefix of every resource.
pub const RESOURCE_ROOT: &str = "/calico/resources/v3/projectcalico.org/";

/// The key of a resource of kind `R`.
pub struct ResourceKey<R> {
    /// Empty for cluster-scoped kinds.
    pub namespace: String,
    /// Its name.
    pub name: String,
    kind: PhantomData<fn() -> R>,
}

impl<R: Resource> ResourceKey<R> {
    /// The key of a resource; `namespace` is ignored for cluster-scoped kinds.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        let namespace = if R::KIND.namespaced() {
            namespace.into()
        } else {
            String::new()
        };
        Self {
            namespace,
            name: name.into(),
            kind: PhantomData,
        }
    }

    /// The key of a cluster-scoped resource.
    pub fn named(name: impl Into<String>) -> Self {
        Self::new("", name)
    }

    /// The key under which this object is stored.
    pub fn of(object: &R) -> Self {
        let metadata = object.metadata();
        Self::new(metadata.namespace.clone(), metadata.name.clone())
    }
}

impl<R> Clone for ResourceKey<R> {
    fn clone(&self) -> Self {
        Self {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            kind: PhantomData,
        }
    }
}

impl<R> PartialEq for ResourceKey<R> {
    fn eq(&self, other: &Self) -> bool {
        (&self.namespace, &self.name) == (&other.namespace, &other.name)
    }
}

impl<R> Eq for ResourceKey<R> {}

impl<R> PartialOrd for ResourceKey<R> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<R> Ord for ResourceKey<R> {
    fn cmp(&self, other: &Self) -> Ordering {
        (&self.namespace, &self.name).cmp(&(&other.namespace, &other.name))
    }
}

impl<R> Hash for ResourceKey<R> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (&self.namespace, &self.name).hash(state);
    }
}

impl<R: Resource> fmt::Debug for ResourceKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<R: Resource> fmt::Display for ResourceKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&api::kinds::resource_id(R::KIND, &self.namespace, &self.name))
    }
}

impl<R: Resource> Key for ResourceKey<R> {
    type Value = R;

    fn path(&self) -> String {
        resource_path(R::KIND, &self.namespace, &self.name)
    }

    fn parse(path: &str) -> Option<Self> {
        let (kind, namespace, name) = parse_resource_path(path)?;
        (kind == R::KIND).then(|| Self::new(namespace, name))
    }

    fn decode(&self, bytes: &[u8], mod_revision: i64) -> Result<R, String> {
        let mut object: R = api::store::decode(bytes).map_err(|e| e.to_string())?;
        after_reading(object.metadata_mut(), &self.name, mod_revision);
        Ok(object)
    }

    fn encode(&self, object: &R, before: Option<&[u8]>) -> Result<Vec<u8>, String> {
        match before {
            Some(raw) => api::store::encode_update(raw, object),
            None => api::store::encode(object),
        }
        .map_err(|e| e.to_string())
    }
}

/// As [`ResourceKey::decode`], for a kind that is known at run time.
pub(super) fn decode_any(
    kind: Kind,
    name: &str,
    bytes: &[u8],
    mod_revision: i64,
) -> Result<AnyResource, String> {
    let mut object = api::store::decode_any(kind, bytes).map_err(|e| e.to_string())?;
    after_reading(object.metadata_mut(), name, mod_revision);
    Ok(object)
}

pub(super) fn resource_path(kind: Kind, namespace: &str, name: &str) -> String {
    let plural = kind.plural();
    if kind.namespaced() {
        format!("{RESOURCE_ROOT}{plural}/{namespace}/{name}")
    } else {
        format!("{RESOURCE_ROOT}{plural}/{name}")
    }
}

pub(super) fn parse_resource_path(path: &str) -> Option<(Kind, String, String)> {
    let mut segments = path.strip_prefix(RESOURCE_ROOT)?.split('/');
    let kind = Kind::from_plural(segments.next()?)?;
    let mut name = || segments.next().filter(|s| !s.is_empty()).map(unescape_name);
    let namespace = if kind.namespaced() { name()? } else { String::new() };
    let name = name()?;
    segments.next().is_none().then_some((kind, namespace, name))
}

fn after_reading(metadata: &mut ObjectMeta, key_name: &str, mod_revision: i64) {
    metadata.resource_version = mod_revision.to_string();
    if metadata.name.is_empty() {
        metadata.name = key_name.to_owned();
    }
}

/// Which resources of kind `R` to list.
pub struct ResourceList<R> {
    /// Only of this namespace.
    pub namespace: Option<String>,
    /// Only of this name.
    pub name: Option<String>,
    /// `name` is a prefix.
    pub prefix: bool,
    kind: PhantomData<fn() -> R>,
}

impl<R> Clone for ResourceList<R> {
    fn clone(&self) -> Self {
        Self {
            namespace: self.namespace.clone(),
            name: self.name.clone(),
            prefix: self.prefix,
            kind: PhantomData,
        }
    }
}

impl<R: Resource> fmt::Debug for ResourceList<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}List({:?}, {:?}, prefix {})",
            R::KIND,
            self.namespace,
            self.name,
            self.prefix
        )
    }
}

impl<R: Resource> ResourceList<R> {
    /// All, of all namespaces.
    pub fn all() -> Self {
        Self {
            namespace: None,
            name: None,
            prefix: false,
            kind: PhantomData,
        }
    }

    /// Those of a namespace and of a name, where given.
    pub fn filtered(namespace: Option<String>, name: Option<String>) -> Self {
        Self {
            namespace,
            name,
            ..Self::all()
        }
    }

    /// Those of one namespace.
    pub fn in_namespace(namespace: impl Into<String>) -> Self {
        Self {
            namespace: Some(namespace.into()),
            ..Self::all()
        }
    }

    /// Those whose name starts so, of this namespace if the kind has any.
    pub fn with_prefix(namespace: impl Into<String>, prefix: impl Into<String>) -> Self {
        let namespace = R::KIND.namespaced().then(|| namespace.into());
        Self {
            namespace,
            name: Some(prefix.into()),
            prefix: true,
            kind: PhantomData,
        }
    }
}

impl<R: Resource> List for ResourceList<R> {
    type Key = ResourceKey<R>;

    fn range(&self) -> KeyRange {
        let plural = R::KIND.plural();
        let mut root = format!("{RESOURCE_ROOT}{plural}/");
        if R::KIND.namespaced() {
            match &self.namespace {
                // Without a namespace, a name can only be compared key by key.
                None => return KeyRange::Prefix(root),
                Some(namespace) => root.push_str(&format!("{namespace}/")),
            }
        }
        match &self.name {
            None => KeyRange::Prefix(root),
            Some(name) if self.prefix => KeyRange::Prefix(root + name),
            Some(name) => KeyRange::Exact(root + name),
        }
    }

    fn matches(&self, key: &ResourceKey<R>) -> bool {
        let namespace_ok =
            !R::KIND.namespaced() || self.namespace.as_ref().is_none_or(|n| *n == key.namespace);
        let name_ok = match &self.name {
            None => true,
            Some(prefix) if self.prefix => key.name.starts_with(prefix.as_str()),
            Some(name) => key.name == *name,
        };
        namespace_ok && name_ok
    }
}

#[cfg(test)]
mod tests {
    use api::{GlobalNetworkPolicy, NetworkPolicy, WorkloadEndpoint};

    use super::*;

    const POLICY_PATH: &str = "/calico/resources/v3/projectcalico.org/networkpolicies/default/allow-web";

    #[test]
    fn paths_are_calicos() {
        let key = ResourceKey::<NetworkPolicy>::new("default", "allow-web");
        assert_eq!(key.path(), POLICY_PATH);
        assert_eq!(ResourceKey::parse(POLICY_PATH), Some(key.clone()));
        assert_eq!(key.to_string(), "NetworkPolicy(default/allow-web)");
        assert!(ResourceKey::<GlobalNetworkPolicy>::parse(POLICY_PATH).is_none());
        for bad in [
            "",
            "/",
            RESOURCE_ROOT,
            "/calico/resources/v3/projectcalico.org/networkpolicies/default",
        ] {
            assert!(parse_resource_path(bad).is_none(), "{bad}");
        }
        assert!(parse_resource_path(&format!("{POLICY_PATH}/x")).is_none());
    }

    #[test]
    fn list_ranges_follow_the_rules() {
        let root = "/calico/resources/v3/projectcalico.org/";
        assert_eq!(
            ResourceList::<WorkloadEndpoint>::with_prefix("ns", "node--1-").range(),
            KeyRange::Prefix(format!("{root}workloadendpoints/ns/node--1-"))
        );
        let by_name = ResourceList::<WorkloadEndpoint> {
            name: Some("x".into()),
            ..ResourceList::all()
        };
        assert_eq!(
            by_name.range(),
            KeyRange::Prefix(format!("{root}workloadendpoints/"))
        );
        assert!(by_name.matches(&ResourceKey::new("any", "x")));
        assert!(!by_name.matches(&ResourceKey::new("any", "xy")));
        let exact = ResourceList::<GlobalNetworkPolicy> {
            name: Some("x".into()),
            ..ResourceList::all()
        };
        assert_eq!(
            exact.range(),
            KeyRange::Exact(format!("{root}globalnetworkpolicies/x"))
        );
    }

    #[test]
    fn policy_names_survive_both_storage_forms() {
        let key = ResourceKey::<GlobalNetworkPolicy>::named("default.old");
        let old = br#"{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.old"},"spec":{}}"#;
        assert_eq!(key.decode(old, 7).unwrap().metadata.name, "old");

        let tiered = br#"{"kind":"GlobalNetworkPolicy","apiVersion":"projectcalico.org/v3","metadata":{"name":"default.x","labels":{"projectcalico.org/tier":"t"}},"spec":{"tier":"t"}}"#;
        assert_eq!(key.decode(tiered, 7).unwrap().metadata.name, "default.x");

        let mut new = GlobalNetworkPolicy::default();
        new.metadata.name = "default.kept".into();
        let key = ResourceKey::of(&new);
        let bytes = key.encode(&new, None).unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(
            text.contains(r#""projectcalico.org/metadata":"{\"name\":\"default.kept\"}""#),
            "{text}"
        );
        let back = key.decode(&bytes, 9).unwrap();
        assert_eq!(back.metadata.name, "default.kept");
        assert_eq!(back.metadata.resource_version, "9");
        assert!(back.metadata.annotations.is_empty());
    }
}
