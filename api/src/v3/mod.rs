//! The resource kinds, one module a kind. Field order is the order in which Calico writes them.

pub mod bgp_configuration;
pub mod bgp_filter;
pub mod bgp_peer;
pub mod cluster_information;
pub mod host_endpoint;
pub mod ip_pool;
pub mod ipam;
pub mod network_set;
pub mod node;
pub mod policy;
pub mod profile;
pub mod rule;
pub mod tier;
pub mod workload_endpoint;

pub use bgp_configuration::{BgpConfiguration, BgpConfigurationSpec};
pub use bgp_filter::{BgpFilter, BgpFilterSpec};
pub use bgp_peer::{BgpPeer, BgpPeerSpec};
pub use cluster_information::{ClusterInformation, ClusterInformationSpec};
pub use host_endpoint::{HostEndpoint, HostEndpointSpec};
pub use ip_pool::{IpPool, IpPoolSpec};
pub use ipam::{BlockAffinity, IpamBlock, IpamConfiguration, IpamHandle};
pub use network_set::{GlobalNetworkSet, NetworkSet};
pub use node::{Node, NodeSpec};
pub use policy::{GlobalNetworkPolicy, GlobalNetworkPolicySpec, NetworkPolicy, NetworkPolicySpec};
pub use profile::{Profile, ProfileSpec};
pub use rule::{EntityRule, Rule};
pub use tier::{Tier, TierSpec};
pub use workload_endpoint::{WorkloadEndpoint, WorkloadEndpointSpec};
