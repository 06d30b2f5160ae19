//! A key of any type that agents and tools read, and its value.

use std::fmt;

use api::ipam_model::{Affinity, AllocationBlock, Handle, IpamConfig};
use api::{AnyResource, Kind};

use super::resource::{decode_any, parse_resource_path, resource_path};
use super::{AffinityKey, BlockKey, HandleKey, IpamConfigKey, Key};

/// A key, whatever its type.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum AnyKey {
    /// A v3 resource.
    Resource {
        /// Its kind.
        kind: Kind,
        /// Empty for cluster-scoped kinds.
        namespace: String,
        /// Its name in the path.
        name: String,
    },
    /// An allocation block.
    Block(BlockKey),
    /// A host's claim on a block.
    Affinity(AffinityKey),
    /// An owner's addresses.
    Handle(HandleKey),
    /// The IPAM's settings.
    IpamConfig,
}

/// A value, whatever its type.
#[derive(Debug, Clone, PartialEq)]
pub enum AnyValue {
    /// A v3 resource.
    Resource(AnyResource),
    /// An allocation block.
    Block(Box<AllocationBlock>),
    /// A host's claim on a block.
    Affinity(Affinity),
    /// An owner's addresses.
    Handle(Handle),
    /// The IPAM's settings.
    IpamConfig(IpamConfig),
}

impl AnyKey {
    /// The key of a resource.
    pub fn resource(kind: Kind, namespace: impl Into<String>, name: impl Into<String>) -> Self {
        let namespace = if kind.namespaced() {
            namespace.into()
        } else {
            String::new()
        };
        Self::Resource {
            kind,
            namespace,
            name: name.into(),
        }
    }

    /// The etcd key.
    pub fn path(&self) -> String {
        match self {
            Self::Resource {
                kind,
                namespace,
                name,
            } => resource_path(*kind, namespace, name),
            Self::Block(key) => key.path(),
            Self::Affinity(key) => key.path(),
            Self::Handle(key) => key.path(),
            Self::IpamConfig => IpamConfigKey.path(),
        }
    }

    /// The typed key of an etcd key, if it is a known one.
    pub fn parse(path: &str) -> Option<Self> {
        if let Some((kind, namespace, name)) = parse_resource_path(path) {
            return Some(Self::Resource {
                kind,
                namespace,
                name,
            });
        }
        BlockKey::parse(path)
            .map(Self::Block)
            .or_else(|| HandleKey::parse(path).map(Self::Handle))
            .or_else(|| IpamConfigKey::parse(path).map(|_| Self::IpamConfig))
            .or_else(|| AffinityKey::parse(path).map(Self::Affinity))
    }

    /// Reads the value stored under it.
    ///
    /// # Errors
    /// A text naming the member that is wrong.
    pub fn decode(&self, bytes: &[u8], mod_revision: i64) -> Result<AnyValue, String> {
        match self {
            Self::Resource { kind, name, .. } => {
                decode_any(*kind, name, bytes, mod_revision).map(AnyValue::Resource)
            }
            Self::Block(key) => key
                .decode(bytes, mod_revision)
                .map(|block| AnyValue::Block(Box::new(block))),
            Self::Affinity(key) => key.decode(bytes, mod_revision).map(AnyValue::Affinity),
            Self::Handle(key) => key.decode(bytes, mod_revision).map(AnyValue::Handle),
            Self::IpamConfig => IpamConfigKey
                .decode(bytes, mod_revision)
                .map(AnyValue::IpamConfig),
        }
    }
}

impl fmt::Display for AnyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resource {
                kind,
                namespace,
                name,
            } => f.write_str(&api::kinds::resource_id(*kind, namespace, name)),
            Self::Block(key) => key.fmt(f),
            Self::Affinity(key) => key.fmt(f),
            Self::Handle(key) => key.fmt(f),
            Self::IpamConfig => IpamConfigKey.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::{
        AffinityList, AffinityType, Family, HostEndpointStatusKey, LastStatusKey, List, Region, StatusKey,
        WorkloadEndpointStatusKey,
    };

    #[test]
    fn every_path_of_the_catalogue_is_read_and_written() {
        for path in [
            "/calico/resources/v3/projectcalico.org/ippools/pool-a",
            "/calico/resources/v3/projectcalico.org/networkpolicies/default/allow-web",
            "/calico/ipam/v2/config",
            "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26",
            "/calico/ipam/v2/assignment/ipv6/block/fd00::-122",
            "/calico/ipam/v2/host/node-1/ipv4/block/10.0.0.0-26",
            "/calico/ipam/v2/virtual/load-balancer/ipv6/block/fd00::-122",
            "/calico/ipam/v2/handle/k8s-pod-network.0123abcd",
        ] {
            let key = AnyKey::parse(path).unwrap_or_else(|| panic!("{path}"));
            assert_eq!(key.path(), path);
        }
        for path in [
            "/calico/ipam/v2/host/node-1",
            "/calico/ipam/v2/handle/a/b",
            "/calico/ipam/v2/assignment/ipv6/block/10.0.0.0-26",
            "/calico/ipam/v2/assignment/ipv4/block/10.0.0.1-26",
            "/calico/felix/v1/host/a/endpoint/b",
            "/calico/resources/v3/projectcalico.org/unknowns/a",
        ] {
            assert!(AnyKey::parse(path).is_none(), "{path}");
        }
    }

    #[test]
    fn affinity_lists_end_in_a_slash() {
        let list = AffinityList {
            host: Some("n".into()),
            ..AffinityList::default()
        };
        assert_eq!(list.range().start(), "/calico/ipam/v2/host/n/");
        let list = AffinityList {
            host: Some("n".into()),
            family: Some(Family::V6),
            kind: AffinityType::Virtual,
        };
        assert_eq!(list.range().start(), "/calico/ipam/v2/virtual/n/ipv6/block/");
    }

    #[test]
    fn felix_status_paths() {
        let key = WorkloadEndpointStatusKey {
            host: "node-1".into(),
            orchestrator: "k8s".into(),
            workload: "default/mypod".into(),
            endpoint: "eth0".into(),
            region: Region::default(),
        };
        let path = "/calico/felix/v2/no-region/host/node-1/workload/k8s/default%2fmypod/endpoint/eth0";
        assert_eq!(key.path(), path);
        assert_eq!(WorkloadEndpointStatusKey::parse(path), Some(key));

        let region = Region::named("emea").unwrap();
        let key = StatusKey {
            host: "node-1".into(),
            region: region.clone(),
        };
        assert_eq!(key.path(), "/calico/felix/v2/region-emea/host/node-1/status");
        assert_eq!(StatusKey::parse(&key.path()), Some(key.clone()));
        assert!(LastStatusKey::parse(&key.path()).is_none());
        assert!(Region::named("a/b").is_err());

        let key = HostEndpointStatusKey {
            host: "n".into(),
            endpoint: "a/b%c".into(),
        };
        assert_eq!(key.path(), "/calico/felix/v1/host/n/endpoint/a%2fb%25c");
        assert_eq!(HostEndpointStatusKey::parse(&key.path()), Some(key));
    }

    proptest! {
        #[test]
        fn no_path_panics(path in "(/calico/(ipam/v2|resources/v3/projectcalico.org|felix/v[12])/)?[a-z0-9/.:%-]{0,60}") {
            if let Some(key) = AnyKey::parse(&path) {
                prop_assert_eq!(AnyKey::parse(&key.path()), Some(key));
            }
            let _ = (StatusKey::parse(&path), WorkloadEndpointStatusKey::parse(&path), HostEndpointStatusKey::parse(&path));
        }
    }
}
