//! FRR's bgpd: alone, or with zebra where routes go to the kernel.

use std::fmt::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::Setup;
use crate::fabric::{DAEMON, DAEMON_AS};

pub(super) fn prepare(program: &Path, directory: &Path, setup: &Setup) -> anyhow::Result<Vec<String>> {
    // `coalesce-time 0`: update groups are formed at once; the default waits a second or more for
    // further peers, which would count against it.
    let mut text = format!(
        "router bgp {DAEMON_AS}\n bgp router-id {DAEMON}\n no bgp ebgp-requires-policy\n \
         no bgp network import-check\n coalesce-time 0\n",
    );
    let mut family = String::from(" address-family ipv4 unicast\n");
    for neighbor in &setup.neighbors {
        let identity = neighbor.identity;
        let address = identity.address;
        write!(
            text,
            " neighbor {address} remote-as {}\n neighbor {address} passive\n \
             neighbor {address} advertisement-interval 0\n neighbor {address} timers {} {}\n",
            identity.asn,
            identity.hold_time_s / 3,
            identity.hold_time_s
        )?;
        if neighbor.client {
            writeln!(family, "  neighbor {address} route-reflector-client")?;
        }
        if !neighbor.export {
            writeln!(family, "  neighbor {address} route-map NONE out")?;
        }
    }
    write!(
        text,
        "{family} exit-address-family\nexit\nroute-map NONE deny 10\nexit\n"
    )?;
    let file = directory.join("frr.conf");
    std::fs::write(&file, text)?;
    let common = |name: &str| {
        format!(
            "-i {}/{name}.pid --vty_socket {}",
            directory.display(),
            directory.display()
        )
    };
    let api = directory.join("zserv.api");
    let bgpd = format!(
        "{} -S -f {} {} -P 0 -l 0.0.0.0 --log stdout --log-level warnings",
        program.display(),
        file.display(),
        common("bgpd")
    );
    if !setup.fib {
        return Ok(vec![format!("{bgpd} -Z -n")]);
    }
    // It drops its rights to those of a user of its own, who writes its files.
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o777))?;
    let none = directory.join("zebra.conf");
    std::fs::write(&none, "")?;
    let zebra = format!(
        "/usr/lib/frr/zebra -f {} {} -z {} -P 0 --log stdout --log-level warnings",
        none.display(),
        common("zebra"),
        api.display()
    );
    Ok(vec![zebra, format!("{bgpd} -z {}", api.display())])
}
