//! The server of a workload.

use std::io::Write;
use std::net::{Ipv6Addr, TcpListener};
use std::time::Duration;

use anyhow::Context;

/// A client that does not read is not waited for.
const WRITE_TIMEOUT: Duration = Duration::from_secs(1);
/// After an error such as a lack of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Answers every connection of both families with `name` and closes it, until killed.
pub fn run(name: &str, ports: &[u16]) -> anyhow::Result<()> {
    let answer = format!("{name}\n");
    std::thread::scope(|scope| {
        for port in ports {
            let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, *port))
                .with_context(|| format!("listening on port {port}"))?;
            let answer = answer.as_bytes();
            scope.spawn(move || {
                loop {
                    match listener.accept() {
                        Ok((mut stream, _)) => {
                            let _ = stream.set_write_timeout(Some(WRITE_TIMEOUT));
                            let _ = stream.write_all(answer);
                        }
                        Err(_) => std::thread::sleep(ACCEPT_PAUSE),
                    }
                }
            });
        }
        Ok(())
    })
}
