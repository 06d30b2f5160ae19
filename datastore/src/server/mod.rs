//! The embedded store: a single-host server of the etcd v3 API on a redb file.
