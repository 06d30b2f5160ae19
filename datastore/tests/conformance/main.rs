//! One suite, two servers: each case runs against the embedded store and against a real etcd, and what the two
//! answered must be equal. A case says what is asked, never what the answer is, so it cannot drift from etcd.

#![expect(clippy::expect_used, clippy::panic, reason = "a test that cannot go on stops")]

mod case;
mod cluster;
mod etcdctl;
mod hashes;
mod kv;
mod lease;
mod limits;
mod normal;
mod random;
mod servers;
mod txn;
mod watch;
mod watching;
