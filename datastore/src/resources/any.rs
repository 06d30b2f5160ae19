//! The same operations for a kind that is known at run time.

use api::{AnyResource, Kind};

use super::{ListedResources, ResourceList, Resources};
use crate::error::Result;

/// Runs an expression with `$R` as the type of a kind.
macro_rules! with_kind {
    ($kind:expr, $R:ident => $body:expr, [$($variant:ident),* $(,)?]) => {
        match $kind {
            $(Kind::$variant => {
                type $R = api::$variant;
                $body
            })*
        }
    };
}

macro_rules! for_kind {
    ($kind:expr, $R:ident => $body:expr) => {
        with_kind!($kind, $R => $body, [
            BgpConfiguration, BgpFilter, BgpPeer, BlockAffinity, ClusterInformation, GlobalNetworkPolicy, GlobalNetworkSet,
            HostEndpoint, IpamBlock, IpamConfiguration, IpamHandle, IpPool, NetworkPolicy, NetworkSet, Node, Profile,
            Tier, WorkloadEndpoint,
        ])
    };
}

macro_rules! for_object {
    ($any:expr, $object:ident => $body:expr, [$($variant:ident),* $(,)?]) => {
        match $any {
            $(AnyResource::$variant($object) => Ok(AnyResource::from($body?)),)*
        }
    };
}

macro_rules! with_object {
    ($any:expr, $object:ident => $body:expr) => {
        for_object!($any, $object => $body, [
            BgpConfiguration, BgpFilter, BgpPeer, BlockAffinity, ClusterInformation, GlobalNetworkPolicy, GlobalNetworkSet,
            HostEndpoint, IpamBlock, IpamConfiguration, IpamHandle, IpPool, NetworkPolicy, NetworkSet, Node, Profile,
            Tier, WorkloadEndpoint,
        ])
    };
}

impl Resources {
    /// See [`Resources::create`].
    ///
    /// # Errors
    /// As there.
    pub async fn create_any(&self, object: AnyResource) -> Result<AnyResource> {
        with_object!(object, object => self.create(*object).await)
    }

    /// See [`Resources::update`].
    ///
    /// # Errors
    /// As there.
    pub async fn update_any(&self, object: AnyResource) -> Result<AnyResource> {
        with_object!(object, object => self.update(*object).await)
    }

    /// See [`Resources::apply`].
    ///
    /// # Errors
    /// As there.
    pub async fn apply_any(&self, object: AnyResource) -> Result<AnyResource> {
        with_object!(object, object => self.apply(*object).await)
    }

    /// See [`Resources::get`].
    ///
    /// # Errors
    /// As there.
    pub async fn get_any(&self, kind: Kind, namespace: &str, name: &str) -> Result<AnyResource> {
        for_kind!(kind, R => Ok(self.get::<R>(namespace, name).await?.into()))
    }

    /// See [`Resources::list`].
    ///
    /// # Errors
    /// As there.
    pub async fn list_any(
        &self,
        kind: Kind,
        namespace: Option<&str>,
        name: Option<&str>,
    ) -> Result<ListedResources<AnyResource>> {
        for_kind!(kind, R => {
            let list = ResourceList::<R>::filtered(namespace.map(str::to_owned), name.map(str::to_owned));
            let listed = self.list(&list).await?;
            let items = listed.items.into_iter().map(AnyResource::from).collect();
            Ok(ListedResources { items, revision: listed.revision })
        })
    }

    /// See [`Resources::delete`].
    ///
    /// # Errors
    /// As there.
    pub async fn delete_any(
        &self,
        kind: Kind,
        namespace: &str,
        name: &str,
        resource_version: &str,
    ) -> Result<AnyResource> {
        for_kind!(kind, R => Ok(self.delete::<R>(namespace, name, resource_version).await?.into()))
    }
}
