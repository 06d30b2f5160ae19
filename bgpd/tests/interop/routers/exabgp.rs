//! ExaBGP: a speaker without tables, which hands what it hears to a process and says what it is told to.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Router, write};
use crate::net::{Netns, Process};

pub(crate) struct ExaBgp {
    /// What it heard: JSON, one line an event.
    heard: PathBuf,
    /// Where it reads commands from.
    commands: PathBuf,
    process: Process,
}

/// What is in front of a configuration, whose neighbours have [`ExaBgp::API`] in them.
const PROCESSES: &str = "process hears { run DIRECTORY/hears.sh; encoder json; }\n\
     process says { run DIRECTORY/says.sh; encoder text; }\n";

impl ExaBgp {
    /// The part of a neighbour's configuration that passes on what is heard of it, and has commands reach it.
    pub(crate) const API: &str = "api { processes [ hears ]; neighbor-changes;\n\
         receive { parsed; update; open; notification; refresh; } }\n api { processes [ says ]; }";

    pub(crate) fn start(netns: &Netns, directory: &Path, config: &str) -> Self {
        let in_directory = |name: &str| directory.join(name);
        let (file, heard, commands) = (
            in_directory("exabgp.conf"),
            in_directory("exabgp.json"),
            in_directory("exabgp.fifo"),
        );
        let processes = PROCESSES.replace("DIRECTORY", &directory.display().to_string());
        write(&file, &format!("{processes}{config}"));
        write(&heard, "");
        let script = |name: &str, text: String| {
            let path = in_directory(name);
            write(
                &path,
                &format!("#!/bin/sh\nexec setpriv --pdeathsig KILL {text}\n"),
            );
            netns.run(&format!("chmod +x {}", path.display()));
        };
        let _ = std::fs::remove_file(&commands);
        netns.run(&format!("mkfifo {}", commands.display()));
        // With its output closed, it counts as ended.
        script("hears.sh", format!("tee -a {} 3>&1 >/dev/null", heard.display()));
        // Open for writing as well, so that it is never at its end.
        script("says.sh", format!("cat /dev/fd/3 3<>{}", commands.display()));
        let settings = "exabgp.daemon.user=root exabgp.daemon.drop=false exabgp.api.cli=false \
             exabgp.api.ack=false exabgp.log.destination=stdout exabgp.log.level=DEBUG exabgp.log.all=true";
        let line = format!("env {settings} exabgp {}", file.display());
        let process = netns.spawn(&line, &in_directory("exabgp.log"));
        Self {
            heard,
            commands,
            process,
        }
    }

    /// Gives it a command of its API.
    pub(crate) fn say(&self, command: &str) {
        let mut fifo = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&self.commands)
            .unwrap();
        writeln!(fifo, "{command}").unwrap();
    }

    /// Everything that it heard.
    pub(crate) fn heard(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.heard).unwrap();
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect()
    }

    pub(crate) fn log(&self) -> String {
        self.process.log()
    }

    /// Runs the events of one neighbour, or of all, through a state.
    fn fold<T>(&self, start: T, step: impl FnMut(T, &Value) -> T) -> T {
        self.heard().iter().fold(start, step)
    }
}

impl Router for ExaBgp {
    fn is_established(&self, peer: &str) -> bool {
        self.fold(false, |up, event| {
            let is_it = event.pointer("/neighbor/address/peer") == Some(&Value::from(peer));
            match event.pointer("/neighbor/state").and_then(Value::as_str) {
                Some(state) if is_it => state == "up",
                _ => up,
            }
        })
    }

    fn route(&self, prefix: &str) -> Option<String> {
        let has = |routes: &Value| match routes {
            // By next hop where announced, a list where withdrawn.
            Value::Object(by_next_hop) => by_next_hop.values().any(|routes| names(routes, prefix)),
            routes => names(routes, prefix),
        };
        let family = if prefix.contains(':') {
            "ipv6 unicast"
        } else {
            "ipv4 unicast"
        };
        self.fold(None, |route, event| {
            let update = |kind: &str| {
                let routes = event.pointer(&format!("/neighbor/message/update/{kind}"))?;
                routes.get(family).filter(|routes| has(routes))
            };
            if update("announce").is_some() {
                Some(event.to_string())
            } else if update("withdraw").is_some() {
                None
            } else {
                route
            }
        })
    }
}

fn names(routes: &Value, prefix: &str) -> bool {
    let routes = routes.as_array().map(Vec::as_slice).unwrap_or_default();
    routes
        .iter()
        .any(|route| route.get("nlri") == Some(&Value::from(prefix)))
}
