//! Logs go to standard error and, if configured, to a file. Standard output is for results.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::MakeWriterExt as _;

use crate::config::NetworkConfig;

/// Starts logging. A log file that cannot be written does not stop the plugin.
pub(crate) fn start(config: &NetworkConfig) {
    let level = match config.log_level.to_lowercase().as_str() {
        "debug" => "debug",
        "error" => "error",
        "warning" | "warn" => "warn",
        _ => "info",
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(format!(
            "warn,margay_cni={level},datastore={level},ipam={level}"
        )))
        .with_ansi(false);
    let file = (!config.log_file_path.is_empty()).then(|| open(Path::new(&config.log_file_path)));
    let failure = match file {
        Some(Ok(file)) => builder
            .with_writer(std::io::stderr.and(Arc::new(file)))
            .try_init()
            .err()
            .map(|e| e.to_string()),
        Some(Err(error)) => {
            drop(builder.with_writer(std::io::stderr).try_init());
            tracing::warn!(path = config.log_file_path, %error, "cannot write the log file");
            None
        }
        None => builder
            .with_writer(std::io::stderr)
            .try_init()
            .err()
            .map(|e| e.to_string()),
    };
    if let Some(error) = failure {
        eprintln!("cannot start logging: {error}");
    }
}

fn open(path: &Path) -> std::io::Result<File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    File::options().create(true).append(true).open(path)
}
