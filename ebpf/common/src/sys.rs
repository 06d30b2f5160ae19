//! The promise that these types are plain memory.
#![expect(
    unsafe_code,
    reason = "aya's marker for types that may be copied to and from maps is an unsafe trait"
)]

use crate::conntrack::{Flow, FlowKey, FragmentKey, FragmentPorts, Settings};
use crate::endpoint::{Generation, Publication, SourceKey};
use crate::event::FlowRecord;
use crate::program::{ClassKey, Hits, Identity, IdentityNetKey, NetKey, PortKey, Program, TupleKey, Vector};

macro_rules! plain {
    ($($name:ty),*) => {
        $(
            // SAFETY: repr(C), only integers and arrays of integers, padding spelled out as fields.
            unsafe impl aya::Pod for $name {}
        )*
    };
}

plain!(
    Flow,
    FlowKey,
    FragmentKey,
    FragmentPorts,
    Settings,
    Generation,
    Publication,
    SourceKey,
    FlowRecord,
    ClassKey,
    Hits,
    Identity,
    IdentityNetKey,
    NetKey,
    PortKey,
    Program,
    TupleKey,
    Vector
);
