//! The datastore: typed access to Calico's etcd v3 data model, the syncer that keeps a view of it, and an embedded
//! single-host server of the same etcd API.

pub mod client;
mod error;
pub mod key;
pub mod resources;
pub mod server;
pub mod snapshot;
pub mod syncer;

pub use client::{Client, ClientConfig, Kv, Listed, Pem};
pub use error::{Cause, Error, FieldError, Result, StoreError};
pub use key::{Key, List};
pub use resources::Resources;
