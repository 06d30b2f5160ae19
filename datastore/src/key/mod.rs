//! Typed keys of Calico's etcd v3 data model, and the ranges that list them.
//!
//! A [`Key`] knows its etcd path and the type of the value under it; a [`List`] knows the range that holds the keys it
//! asks for. Everything lies under `/calico/`.

mod any;
mod felix;
mod ipam;
mod resource;

pub use any::{AnyKey, AnyValue};
pub use felix::{
    EndpointStatus, HostEndpointStatusKey, LastStatusKey, LivenessStatus, Region, StatusKey,
    WorkloadEndpointStatusKey,
};
pub use ipam::{
    AffinityKey, AffinityList, AffinityType, BlockKey, BlockList, Family, HandleKey, HandleList,
    IpamConfigKey, affinity_of,
};
pub use resource::{RESOURCE_ROOT, ResourceKey, ResourceList};

use std::fmt::{Debug, Display};
use std::hash::Hash;

pub use crate::client::KeyRange;

/// The prefix of every key of Calico's.
pub const ROOT: &str = "/calico/";

/// A key of the data model, which also reads and writes the value under it. Its text is the identifier that errors
/// print, such as `IPPool(pool-a)`.
///
/// Reading is tolerant (unknown members are passed over); writing puts those of the value's earlier form back, so that
/// what a newer writer added outlives our update.
pub trait Key: Clone + Ord + Hash + Debug + Display + Send + Sync + 'static {
    /// What is stored under it.
    type Value: Clone + Debug + Send + Sync + 'static;

    /// The etcd key.
    fn path(&self) -> String;

    /// The typed key of an etcd key, if it is one of this type.
    fn parse(path: &str) -> Option<Self>;

    /// Reads a stored value; `mod_revision` is the key's.
    ///
    /// # Errors
    /// A text naming the member that is wrong.
    fn decode(&self, bytes: &[u8], mod_revision: i64) -> Result<Self::Value, String>;

    /// The bytes to store; `before` is what the key holds now, if it was read.
    ///
    /// # Errors
    /// A text, where the value has no JSON form.
    fn encode(&self, value: &Self::Value, before: Option<&[u8]>) -> Result<Vec<u8>, String>;
}

/// Reading and writing of plain JSON values, for [`Key`] implementations.
macro_rules! plain_json_value {
    () => {
        fn decode(&self, bytes: &[u8], _mod_revision: i64) -> Result<Self::Value, String> {
            api::store::decode_value(bytes).map_err(|e| e.to_string())
        }

        fn encode(&self, value: &Self::Value, before: Option<&[u8]>) -> Result<Vec<u8>, String> {
            match before {
                Some(raw) => api::store::encode_value_update(raw, value),
                None => api::store::encode_value(value),
            }
            .map_err(|e| e.to_string())
        }
    };
}
use plain_json_value;

/// A request for the keys of one type.
pub trait List: Send + Sync {
    /// The keys asked for.
    type Key: Key;

    /// Where they lie.
    fn range(&self) -> KeyRange;

    /// Whether a key in that range is asked for.
    fn matches(&self, key: &Self::Key) -> bool;
}

/// `%` and `/` of a name inside a v1 or Felix path.
pub(crate) fn escape_name(name: &str) -> String {
    name.replace('%', "%25").replace('/', "%2f")
}

/// The reverse of [`escape_name`], in the order that Calico's readers use.
pub(crate) fn unescape_name(name: &str) -> String {
    name.replace("%2f", "/").replace("%25", "%")
}
