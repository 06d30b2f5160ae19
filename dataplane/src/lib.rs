//! The user side of the dataplane: loads, attaches and pins the eBPF programs, fills their maps, and keeps the
//! routes, neighbours, links and sysctls of workloads.

pub mod object;
