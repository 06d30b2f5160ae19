//! The connection of one command, and the check of versions before it.

use datastore::{Client, Resources};

use api::ClusterInformation;

use crate::arguments::{ConnectionOptions, Global};
use crate::config::Settings;
use crate::failure::Failure;
use crate::version::CLIENT_VERSION;

/// Versions from this major on are Calico's own: their numbers say nothing about ours.
const CALICO_MAJOR_MIN: u32 = 3;

/// Connects, and refuses a cluster of another version.
pub(crate) async fn open(global: &Global, options: &ConnectionOptions) -> Result<Resources, Failure> {
    let resources = connect(options).await?;
    if !global.allow_version_mismatch {
        check_version(&resources).await?;
    }
    Ok(resources)
}

/// Connects.
pub(crate) async fn connect(options: &ConnectionOptions) -> Result<Resources, Failure> {
    let failed = |reason: String| Failure::on_stdout(format!("Failed to create Calico API client: {reason}"));
    let config = Settings::load(&options.config)?.client().map_err(failed)?;
    let client = Client::connect(&config)
        .await
        .map_err(|error| failed(error.to_string()))?;
    Ok(Resources::new(client))
}

async fn check_version(resources: &Resources) -> Result<(), Failure> {
    match resources.get::<ClusterInformation>("", "default").await {
        Ok(cluster) => match mismatch(CLIENT_VERSION, &cluster.spec.calico_version) {
            Some(text) => Err(Failure::new(text)),
            None => Ok(()),
        },
        Err(error) if error.is_does_not_exist() => Ok(()),
        Err(error) => Err(Failure::new(format!(
            "unable to get Cluster Information to verify version mismatch: {error}\nUse --allow-version-mismatch to override"
        ))),
    }
}

fn mismatch(client: &str, cluster: &str) -> Option<String> {
    let number = |version: &str| {
        let version = version.strip_prefix('v').unwrap_or(version);
        version.split('-').next().unwrap_or_default().to_owned()
    };
    let (ours, theirs) = (number(client), number(cluster));
    let major: Option<u32> = theirs.split('.').next().and_then(|major| major.parse().ok());
    if theirs.is_empty() || ours == theirs || major.is_some_and(|major| major >= CALICO_MAJOR_MIN) {
        return None;
    }
    Some(format!(
        "version mismatch.\nClient Version:   v{ours}\nCluster Version:  v{theirs}\nUse --allow-version-mismatch to override"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (client, cluster, fits) in [
            ("v0.1.0", "", true),
            ("v0.1.0", "v0.1.0-4-gabc", true),
            ("v0.1.0", "v0.2.0", false),
            ("v0.1.0", "v3.32.0", true),
            ("v0.1.0", "master", false),
        ] {
            assert_eq!(mismatch(client, cluster).is_none(), fits, "{client} {cluster}");
        }
        assert_eq!(
            mismatch("v0.1.0-x", "v0.2.0").unwrap_or_default(),
            "version mismatch.\nClient Version:   v0.1.0\nCluster Version:  v0.2.0\nUse --allow-version-mismatch to override"
        );
    }
}
