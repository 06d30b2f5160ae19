//! The datastore: typed access to Calico's etcd v3 data model, and an embedded single-host server
//! of the same etcd API.

pub mod server;
