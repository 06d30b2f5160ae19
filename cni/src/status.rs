//! The wait for the agent: it writes a file when the endpoint's policy is in force.

use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchMask};
use ipnet::IpNet;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::Deserialize;

use crate::error::{CniError, Code, Context as _};

/// The file is looked for at least this often, whatever the watch says.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How often the link is looked at once the file is there: nothing tells of its change.
const LINK_INTERVAL: Duration = Duration::from_millis(20);

/// What the agent writes; both fields may be left out.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct StatusFile {
    iface_name: String,
    #[serde(rename = "ipv4Nets")]
    ipv4_nets: Vec<String>,
    #[serde(rename = "ipv6Nets")]
    ipv6_nets: Vec<String>,
}

/// Waits until `name` in `directory` tells of this endpoint and its link is up. A file of an earlier endpoint of the
/// same name does not count: it has another interface or other addresses, or else is there before the agent has set the
/// new link up.
pub(crate) fn wait(
    directory: &Path,
    name: &str,
    interface: &str,
    addresses: &[IpNet],
    limit: Duration,
    link_is_up: impl Fn() -> Result<bool, CniError>,
) -> Result<(), CniError> {
    let failed = || format!("cannot watch {}", directory.display());
    std::fs::create_dir_all(directory).cni(Code::Io, failed())?;
    let mut watch = Inotify::init().cni(Code::Io, failed())?;
    let events = WatchMask::CREATE | WatchMask::MOVED_TO | WatchMask::CLOSE_WRITE;
    watch.watches().add(directory, events).cni(Code::Io, failed())?;
    let path = directory.join(name);
    let deadline = Instant::now() + limit;
    let mut buffer = [0; 4096];
    loop {
        let told = std::fs::read(&path).is_ok_and(|text| tells_of(&text, interface, addresses));
        if told && link_is_up()? {
            return Ok(());
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            let details = if told {
                format!(
                    "the agent reported the endpoint, but {interface} is down: check that the agent enforces policy on this \
                     host"
                )
            } else {
                format!(
                    "{} did not appear within {} s: check that the agent runs on this host, is ready, and writes to this \
                 directory",
                    path.display(),
                    limit.as_secs()
                )
            };
            return Err(CniError::new(
                Code::PolicyTimeout,
                "the endpoint's policy was not put in force",
                details,
            ));
        }
        let interval = if told { LINK_INTERVAL } else { LOOK_INTERVAL };
        let pause = u16::try_from(left.min(interval).as_millis()).unwrap_or(u16::MAX);
        let mut descriptors = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        match poll(&mut descriptors, PollTimeout::from(pause)) {
            Ok(0) | Err(nix::errno::Errno::EINTR) => {}
            Ok(_) => {
                // What happened does not matter: the file is looked at again.
                watch.read_events(&mut buffer).cni(Code::Io, failed())?;
            }
            Err(error) => return Err(CniError::new(Code::Io, failed(), error)),
        }
    }
}

fn tells_of(text: &[u8], interface: &str, addresses: &[IpNet]) -> bool {
    // Another agent's file may have another form; that it is there must do then.
    let Ok(status) = serde_json::from_slice::<StatusFile>(text) else {
        return true;
    };
    let listed: Vec<&String> = status.ipv4_nets.iter().chain(&status.ipv6_nets).collect();
    let same = |address: &IpNet| listed.iter().any(|text| text.parse() == Ok(*address));
    (status.iface_name.is_empty() || status.iface_name == interface)
        && (listed.is_empty() || addresses.iter().all(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets() -> Vec<IpNet> {
        vec!["10.0.0.1/32".parse().unwrap()]
    }

    #[test]
    fn stale_files_do_not_count() {
        assert!(tells_of(
            br#"{"ifaceName":"cali1","ipv4Nets":["10.0.0.1/32"]}"#,
            "cali1",
            &nets()
        ));
        assert!(!tells_of(
            br#"{"ifaceName":"cali1","ipv4Nets":["10.0.0.2/32"]}"#,
            "cali1",
            &nets()
        ));
        assert!(!tells_of(
            br#"{"ifaceName":"cali2","ipv4Nets":["10.0.0.1/32"]}"#,
            "cali1",
            &nets()
        ));
        assert!(tells_of(b"", "cali1", &nets()) && tells_of(b"{}", "cali1", &nets()));
    }

    #[test]
    fn waits_for_the_file_and_no_longer_than_told() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("s");
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                std::fs::write(&path, "{}").unwrap();
            });
            let start = Instant::now();
            let limit = Duration::from_secs(10);
            wait(directory.path(), "s", "cali1", &nets(), limit, || Ok(true)).unwrap();
            assert!(start.elapsed() < Duration::from_secs(3));
        });
        let limit = Duration::from_millis(50);
        let error = wait(directory.path(), "t", "cali1", &nets(), limit, || Ok(true)).unwrap_err();
        assert_eq!(error.code, Code::PolicyTimeout);
    }

    #[test]
    fn a_file_that_was_there_before_the_link_is_up_is_waited_out() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("s"), "{}").unwrap();
        let looks = std::cell::Cell::new(0);
        let third_look = || {
            looks.set(looks.get() + 1);
            Ok(looks.get() >= 3)
        };
        let limit = Duration::from_secs(10);
        wait(directory.path(), "s", "cali1", &nets(), limit, third_look).unwrap();
        let limit = Duration::from_millis(50);
        let error = wait(directory.path(), "s", "cali1", &nets(), limit, || Ok(false)).unwrap_err();
        assert!(error.details.contains("cali1 is down"), "{error}");
    }
}
