//! Settings under `/proc/sys` of a network namespace.
//!
//! Names have slashes, as `net/ipv4/conf/eth0.100/forwarding`: interface names may hold dots. The
//! calling thread's namespace decides which `net` settings are meant.

use std::path::{Component, Path, PathBuf};

use crate::{Error, NetNs};

/// Read a setting, without the line end.
pub fn read(name: &str) -> Result<String, Error> {
    let path = path_of(name)?;
    let text = std::fs::read_to_string(&path).map_err(|e| Error::io(format!("read sysctl {name}"), e))?;
    Ok(text.trim_end().to_owned())
}

/// Write a setting.
pub fn write(name: &str, value: &str) -> Result<(), Error> {
    let path = path_of(name)?;
    std::fs::write(path, value).map_err(|e| Error::io(format!("set sysctl {name} to {value}"), e))
}

/// Read a setting of another namespace.
pub fn read_in(netns: &NetNs, name: &str) -> Result<String, Error> {
    netns.run(|| read(name))?
}

/// Write settings of another namespace, in order; the first failure ends it.
pub fn write_in(netns: &NetNs, settings: &[(&str, &str)]) -> Result<(), Error> {
    netns.run(|| settings.iter().try_for_each(|(name, value)| write(name, value)))?
}

fn path_of(name: &str) -> Result<PathBuf, Error> {
    let plain = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_)));
    if name.is_empty() || !plain {
        let reason = "a path below /proc/sys with slashes is needed, as net/ipv4/ip_forward";
        return Err(Error::Invalid {
            field: "sysctl",
            value: name.into(),
            reason,
        });
    }
    Ok(Path::new("/proc/sys").join(name))
}
