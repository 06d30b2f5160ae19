//! What a running fabric shows: BGP sessions from each end, kernel routes, the store's address management,
//! flow events. Reading is apart from parsing, so that captures of the real tools test the parsers.

pub mod bfd;
pub mod flows;
pub mod ipam;
pub mod routes;
pub mod sessions;
