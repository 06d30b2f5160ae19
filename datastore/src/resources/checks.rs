//! What must hold before an object is written or deleted.

use std::any::Any;
use std::str::FromStr;

use api::v3::ip_pool::AllowedUse;
use api::v3::policy::DEFAULT_TIER;
use api::v3::profile::DEFAULT_ALLOW_PROFILE;
use api::{BgpFilter, BgpPeer, GlobalNetworkPolicy, IpPool, Kind, NetworkPolicy, ObjectMeta, Resource, Tier};
use ipnet::IpNet;

use super::{ResourceKey, Resources};
use crate::error::{Error, FieldError, Result};
use crate::key::{BlockKey, BlockList, Family, Key};

/// Tiers that cannot be deleted.
const PROTECTED_TIERS: [&str; 3] = ["default", "kube-admin", "kube-baseline"];

/// The name, and the namespace where the kind has one.
pub(super) fn identified(kind: Kind, namespace: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::InsufficientIdentifiers("Name"));
    }
    if kind.namespaced() && namespace.is_empty() {
        return Err(Error::InsufficientIdentifiers("Namespace"));
    }
    Ok(())
}

/// Objects that only initialisation may write, and identifiers.
pub(super) fn may_change<R: Resource>(object: &R, operation: &'static str) -> Result<()> {
    let metadata = object.metadata();
    if metadata.name.is_empty() {
        return Err(Error::field(
            "Metadata.Name",
            "",
            "name must be set for a Create or Update request",
        ));
    }
    identified(R::KIND, &metadata.namespace, &metadata.name)?;
    if R::KIND == Kind::Profile && metadata.name == DEFAULT_ALLOW_PROFILE {
        let id = ResourceKey::of(object).to_string();
        return Err(if operation == "Create" {
            Error::already_exists(id)
        } else {
            Error::Unsupported {
                operation,
                id,
                reason: "the profile is built in".into(),
            }
        });
    }
    if matches!(R::KIND, Kind::ClusterInformation | Kind::IpamConfiguration) && metadata.name != "default" {
        return Err(Error::field(
            "Metadata.Name",
            metadata.name.clone(),
            format!("the only {} is named 'default'", R::KIND),
        ));
    }
    Ok(())
}

/// Everything that the object alone tells.
pub(super) fn valid<R: Resource>(object: &R) -> Result<()> {
    let errors: Vec<FieldError> = object.validate().into_iter().map(Into::into).collect();
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Error::Validation(errors))
    }
}

/// The revision that an update compares.
pub(super) fn set_for_update(metadata: &ObjectMeta) -> Result<i64> {
    let missing = |name: &str| FieldError::new(name, "", "field must be set for an Update request");
    let mut errors = Vec::new();
    if metadata.resource_version.is_empty() {
        errors.push(missing("Metadata.ResourceVersion"));
    }
    if metadata.creation_timestamp.is_none() {
        errors.push(missing("Metadata.CreationTimestamp"));
    }
    if metadata.uid.is_empty() {
        errors.push(missing("Metadata.UID"));
    }
    if !errors.is_empty() {
        return Err(Error::Validation(errors));
    }
    Ok(revision(&metadata.resource_version)?.unwrap_or_default())
}

/// A resource version as a revision; empty is none.
pub(super) fn revision(resource_version: &str) -> Result<Option<i64>> {
    if resource_version.is_empty() {
        return Ok(None);
    }
    resource_version.parse().map(Some).map_err(|_| {
        Error::field(
            "ResourceVersion",
            resource_version,
            "a resource version is a decimal number",
        )
    })
}

/// The object as its concrete type, if it is of that one.
fn as_type<T: Any>(object: &impl Any) -> Option<&T> {
    (object as &dyn Any).downcast_ref()
}

/// Checks of a new object that need others.
pub(super) async fn before_create<R: Resource>(resources: &Resources, object: &R) -> Result<()> {
    if let Some(pool) = as_type::<IpPool>(object) {
        return new_pool(resources, pool).await;
    }
    let tier = as_type::<NetworkPolicy>(object)
        .map(|p| &p.spec.tier)
        .or_else(|| as_type::<GlobalNetworkPolicy>(object).map(|p| &p.spec.tier));
    if let Some(tier) = tier {
        let tier = if tier.is_empty() { DEFAULT_TIER } else { tier };
        resources.get::<Tier>("", tier).await?;
    }
    Ok(())
}

/// Checks of a new or changed object that need others.
pub(super) async fn before_write<R: Resource>(resources: &Resources, object: &R) -> Result<()> {
    let Some(peer) = as_type::<BgpPeer>(object) else {
        return Ok(());
    };
    let mut missing = Vec::new();
    for name in &peer.spec.filters {
        match resources.get::<BgpFilter>("", name).await {
            Ok(_) => {}
            Err(Error::DoesNotExist { .. }) => missing.push(name.as_str()),
            Err(error) => return Err(error),
        }
    }
    if missing.is_empty() {
        return Ok(());
    }
    Err(Error::field(
        "BGPPeer.Spec.Filters",
        missing.join(", "),
        "BGPFilter(s) not found",
    ))
}

async fn new_pool(resources: &Resources, pool: &IpPool) -> Result<()> {
    let cidr = pool_cidr(pool)?;
    if resources.client().get(&ResourceKey::of(pool)).await.is_ok() {
        return Err(Error::already_exists(ResourceKey::of(pool)));
    }
    for other in resources.list_all::<IpPool>().await? {
        let Ok(other_cidr) = IpNet::from_str(&other.spec.cidr) else {
            continue;
        };
        if other.metadata.name != pool.metadata.name && overlap(&cidr, &other_cidr) {
            return Err(Error::field(
                "IPPool.Spec.CIDR",
                pool.spec.cidr.clone(),
                format!(
                    "IPPool({}) CIDR overlaps with IPPool({}) CIDR {}",
                    pool.metadata.name, other.metadata.name, other.spec.cidr
                ),
            ));
        }
    }
    // Keys suffice: the block's prefix is in its path.
    let range = crate::key::List::range(&BlockList {
        family: Some(Family::of(&cidr)),
    });
    let (_, blocks) = resources.client().etcd().list(&range, None).await?;
    let other_size = blocks
        .iter()
        .filter_map(|kv| BlockKey::parse(&kv.key))
        .any(|key| overlap(&cidr, &key.cidr) && key.cidr.prefix_len() != pool.spec.block_size);
    if other_size {
        return Err(Error::field(
            "IPPool.Spec.BlockSize",
            pool.spec.block_size.to_string(),
            "IPPool blocksSize conflicts with existing allocations that use a different blockSize",
        ));
    }
    Ok(())
}

fn pool_cidr(pool: &IpPool) -> Result<IpNet> {
    let field = |reason| Error::field("IPPool.Spec.CIDR", pool.spec.cidr.clone(), reason);
    if pool.spec.cidr.is_empty() {
        return Err(field("IPPool CIDR must be specified"));
    }
    IpNet::from_str(&pool.spec.cidr).map_err(|_| field("IPPool CIDR must be a valid subnet"))
}

fn overlap(a: &IpNet, b: &IpNet) -> bool {
    a.contains(b) || b.contains(a)
}

/// What an update may not change.
pub(super) fn before_update<R: Resource>(old: &R, new: &R) -> Result<()> {
    let (Some(old), Some(new)) = (as_type::<IpPool>(old), as_type::<IpPool>(new)) else {
        return Ok(());
    };
    let mut errors = Vec::new();
    let same_range = match (IpNet::from_str(&old.spec.cidr), IpNet::from_str(&new.spec.cidr)) {
        (Ok(old), Ok(new)) => old.trunc() == new,
        _ => old.spec.cidr == new.spec.cidr,
    };
    if !same_range {
        errors.push(FieldError::new(
            "IPPool.Spec.CIDR",
            new.spec.cidr.clone(),
            "IPPool CIDR cannot be modified",
        ));
    }
    if old.spec.block_size != new.spec.block_size {
        errors.push(FieldError::new(
            "IPPool.Spec.BlockSize",
            new.spec.block_size.to_string(),
            "IPPool BlockSize cannot be modified",
        ));
    }
    let balancer = |pool: &IpPool| pool.spec.allowed_uses.contains(&AllowedUse::LoadBalancer);
    if balancer(old) && !balancer(new) {
        errors.push(FieldError::new(
            "IPPool.Spec.AllowedUses",
            format!("{:?}", new.spec.allowed_uses),
            "IPPool AllowedUses cannot be changed from LoadBalancer",
        ));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(Error::Validation(errors))
    }
}

/// Objects that may not go.
pub(super) async fn before_delete(resources: &Resources, kind: Kind, name: &str) -> Result<()> {
    let unsupported = |reason: String| Error::Unsupported {
        operation: "Delete",
        id: format!("{kind}({name})"),
        reason,
    };
    match kind {
        Kind::Profile if name == DEFAULT_ALLOW_PROFILE => Err(unsupported("the profile is built in".into())),
        Kind::Tier if PROTECTED_TIERS.contains(&name) => {
            Err(unsupported(format!("Cannot delete {name} tier")))
        }
        Kind::Tier => {
            let global = resources.list_all::<GlobalNetworkPolicy>().await?;
            let namespaced = resources.list_all::<NetworkPolicy>().await?;
            let mut tiers = global
                .iter()
                .map(|p| &p.spec.tier)
                .chain(namespaced.iter().map(|p| &p.spec.tier));
            if tiers.any(|tier| tier == name) {
                return Err(unsupported("Cannot delete a non-empty tier".into()));
            }
            Ok(())
        }
        _ => Ok(()),
    }
}
