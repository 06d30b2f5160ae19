//! `version`.

use api::ClusterInformation;

use crate::arguments::VersionOptions;
use crate::datastore_session;
use crate::failure::{Failure, print};

/// Version of this program.
pub(crate) const CLIENT_VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));
/// The commit that it was built from, if the build knew it.
const GIT_COMMIT: Option<&str> = option_env!("MARGAY_GIT_COMMIT");

pub(crate) async fn run(options: &VersionOptions) -> Result<(), Failure> {
    print(&client_lines())?;
    if options.client {
        return Ok(());
    }
    let resources = datastore_session::connect(&options.connection).await?;
    let cluster = match resources.get::<ClusterInformation>("", "default").await {
        Ok(cluster) => cluster.spec,
        Err(error) => {
            return Err(Failure::new(format!(
                "unable to retrieve Cluster Version or Type: {error}"
            )));
        }
    };
    print(&cluster_lines(&cluster.calico_version, &cluster.cluster_type))
}

fn line(name: &str, value: &str) -> String {
    format!("{name:<19}{}\n", if value.is_empty() { "unknown" } else { value })
}

fn client_lines() -> String {
    line("Client Version:", CLIENT_VERSION) + &line("Git commit:", GIT_COMMIT.unwrap_or_default())
}

fn cluster_lines(version: &str, cluster_type: &str) -> String {
    line("Cluster Version:", version) + &line("Cluster Type:", cluster_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_start_at_column_20() {
        assert_eq!(
            cluster_lines("v3.32.0", ""),
            "Cluster Version:   v3.32.0\nCluster Type:      unknown\n"
        );
        assert!(client_lines().starts_with("Client Version:    v"));
    }
}
