//! The table of kinds, and [`AnyResource`], which holds a resource of any of them.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::meta::ObjectMeta;
use crate::object::Resource;
use crate::v3;
use crate::validate::FieldError;

/// One row of the table of kinds.
#[derive(Debug, Clone, Copy)]
pub struct KindRow {
    /// As in the `kind` field.
    pub name: &'static str,
    /// As in etcd's paths: lower case.
    pub plural: &'static str,
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Names that `calicoctl` takes, lower case; none means that it does not handle the kind.
    pub aliases: &'static [&'static str],
}

macro_rules! kinds {
    ($($variant:ident, $name:literal, $plural:literal, $namespaced:literal, [$($alias:literal),*];)+) => {
        /// A resource kind of the v3 API.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $(#[doc = $name] $variant),+
        }

        impl Kind {
            /// Every kind.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// Its row of the table.
            #[must_use]
            pub fn row(self) -> &'static KindRow {
                match self {
                    $(Self::$variant => &KindRow {
                        name: $name, plural: $plural, namespaced: $namespaced, aliases: &[$($alias),*],
                    }),+
                }
            }
        }

        /// A resource of any kind.
        #[derive(Debug, Clone, PartialEq)]
        pub enum AnyResource {
            $(#[doc = $name] $variant(Box<v3::$variant>)),+
        }

        impl AnyResource {
            /// Which kind it is.
            #[must_use]
            pub fn kind(&self) -> Kind {
                match self { $(Self::$variant(_) => Kind::$variant),+ }
            }

            /// The metadata.
            #[must_use]
            pub fn metadata(&self) -> &ObjectMeta {
                match self { $(Self::$variant(object) => &object.metadata),+ }
            }

            /// The metadata, to change it.
            pub fn metadata_mut(&mut self) -> &mut ObjectMeta {
                match self { $(Self::$variant(object) => &mut object.metadata),+ }
            }

            /// See [`Resource::default_on_write`].
            pub fn default_on_write(&mut self) {
                match self { $(Self::$variant(object) => object.default_on_write()),+ }
            }

            /// See [`Resource::default_on_read`].
            pub fn default_on_read(&mut self) {
                match self { $(Self::$variant(object) => object.default_on_read()),+ }
            }

            /// See [`Resource::validate`].
            #[must_use]
            pub fn validate(&self) -> Vec<FieldError> {
                match self { $(Self::$variant(object) => object.validate()),+ }
            }

            /// Decodes an object of `kind`; fields that are not known are passed over.
            ///
            /// # Errors
            /// When a field has the wrong type or `kind` does not agree with the object.
            pub fn from_json<'de, D: serde::Deserializer<'de>>(kind: Kind, deserializer: D) -> Result<Self, D::Error> {
                match kind {
                    $(Kind::$variant => serde::Deserialize::deserialize(deserializer).map(|o| Self::$variant(Box::new(o)))),+
                }
            }

            /// Changes the JSON of a `kind` from the API's form to the store's, where they differ.
            pub fn to_stored(kind: Kind, value: &mut Value) {
                match kind { $(Kind::$variant => <v3::$variant as Resource>::to_stored(value)),+ }
            }
        }

        impl Serialize for AnyResource {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                match self { $(Self::$variant(object) => object.serialize(serializer)),+ }
            }
        }

        $(
            impl From<v3::$variant> for AnyResource {
                fn from(object: v3::$variant) -> Self {
                    Self::$variant(Box::new(object))
                }
            }

            impl TryFrom<AnyResource> for v3::$variant {
                type Error = Box<AnyResource>;

                fn try_from(any: AnyResource) -> Result<Self, Box<AnyResource>> {
                    match any {
                        AnyResource::$variant(object) => Ok(*object),
                        other => Err(Box::new(other)),
                    }
                }
            }
        )+
    };
}

kinds! {
    BgpConfiguration, "BGPConfiguration", "bgpconfigurations", false,
        ["bgpconfiguration", "bgpconfigurations", "bgpconfig", "bgpconfigs"];
    BgpFilter, "BGPFilter", "bgpfilters", false,
        ["bgpfilter", "bgpfilters", "bgpf", "bgpfs", "bf", "bfs"];
    BgpPeer, "BGPPeer", "bgppeers", false, ["bgppeer", "bgppeers", "bgpp", "bgpps", "bp", "bps"];
    BlockAffinity, "BlockAffinity", "blockaffinities", false, [];
    ClusterInformation, "ClusterInformation", "clusterinformations", false,
        ["clusterinformation", "clusterinformations", "clusterinfo", "clusterinfos"];
    GlobalNetworkPolicy, "GlobalNetworkPolicy", "globalnetworkpolicies", false,
        ["globalnetworkpolicy", "globalnetworkpolicies", "gnp", "gnps"];
    GlobalNetworkSet, "GlobalNetworkSet", "globalnetworksets", false,
        ["globalnetworkset", "globalnetworksets", "gnetsets"];
    HostEndpoint, "HostEndpoint", "hostendpoints", false, ["hostendpoint", "hostendpoints", "hep", "heps"];
    IpamBlock, "IPAMBlock", "ipamblocks", false, [];
    IpamConfiguration, "IPAMConfiguration", "ipamconfigurations", false,
        ["ipamconfiguration", "ipamconfigurations", "ipamconfig", "ipamconfigs"];
    IpamHandle, "IPAMHandle", "ipamhandles", false, [];
    IpPool, "IPPool", "ippools", false, ["ippool", "ippools", "ipp", "ipps", "pool", "pools"];
    NetworkPolicy, "NetworkPolicy", "networkpolicies", true,
        ["networkpolicy", "networkpolicies", "policy", "np", "policies", "pol", "pols"];
    NetworkSet, "NetworkSet", "networksets", true, ["networkset", "networksets", "netsets"];
    Node, "Node", "nodes", false, ["node", "nodes", "no", "nos"];
    Profile, "Profile", "profiles", false, ["profile", "profiles", "pro", "pros"];
    Tier, "Tier", "tiers", false, ["tier", "tiers"];
    WorkloadEndpoint, "WorkloadEndpoint", "workloadendpoints", true,
        ["workloadendpoint", "workloadendpoints", "wep", "weps"];
}

impl Kind {
    /// As in the `kind` field.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.row().name
    }

    /// As in etcd's paths.
    #[must_use]
    pub fn plural(self) -> &'static str {
        self.row().plural
    }

    /// Whether objects live in a namespace.
    #[must_use]
    pub fn namespaced(self) -> bool {
        self.row().namespaced
    }

    /// The kind with this `kind` field.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.name() == name)
    }

    /// The kind with this segment in etcd's paths.
    #[must_use]
    pub fn from_plural(plural: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.plural() == plural)
    }

    /// The kind that a user means by `alias`; case does not matter.
    #[must_use]
    pub fn from_alias(alias: &str) -> Option<Self> {
        let alias = alias.to_ascii_lowercase();
        Self::ALL
            .iter()
            .copied()
            .find(|kind| kind.row().aliases.contains(&alias.as_str()))
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl AnyResource {
    /// `Kind(name)` or `Kind(namespace/name)`, as error messages name a resource.
    #[must_use]
    pub fn id(&self) -> String {
        resource_id(self.kind(), &self.metadata().namespace, &self.metadata().name)
    }
}

/// `Kind(name)` or `Kind(namespace/name)`, as error messages name a resource.
#[must_use]
pub fn resource_id(kind: Kind, namespace: &str, name: &str) -> String {
    if kind.namespaced() && !namespace.is_empty() {
        format!("{kind}({namespace}/{name})")
    } else {
        format!("{kind}({name})")
    }
}
