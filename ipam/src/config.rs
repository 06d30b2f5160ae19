//! The IPAM's settings.

use api::ipam_model::IpamConfig;
use datastore::key::IpamConfigKey;

use crate::Ipam;
use crate::error::{Error, Result};

impl Ipam {
    /// The settings; the defaults where none are stored.
    ///
    /// # Errors
    /// That of the store.
    pub async fn config(&self) -> Result<IpamConfig> {
        match self.client.get(&IpamConfigKey).await {
            Ok(stored) => Ok(stored.value),
            Err(e) if e.is_does_not_exist() => Ok(IpamConfig::default()),
            Err(e) => Err(e.into()),
        }
    }

    /// Stores the settings, where they differ from the present ones.
    ///
    /// # Errors
    /// When they contradict themselves, or that of the store.
    pub async fn set_config(&self, config: &IpamConfig) -> Result<()> {
        if self.config().await? == *config {
            return Ok(());
        }
        if !config.strict_affinity && !config.auto_allocate_blocks {
            return Err(Error::NeitherStrictNorAuto);
        }
        if !config.strict_affinity && config.max_blocks_per_host > 0 {
            return Err(Error::LimitNeedsStrict);
        }
        self.client.apply(IpamConfigKey, config, None).await?;
        Ok(())
    }
}
