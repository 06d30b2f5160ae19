//! The command line: recordings, replays, a dump on request.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use bgpd::speaker::StopMode;

use crate::{best, hub, spoke, start, wait_for};

const BGPD: &str = env!("CARGO_BIN_EXE_bgpd");

fn bgpd(arguments: &[&str]) -> (bool, String, String) {
    let output = Command::new(BGPD).args(arguments).output().unwrap();
    let text = |octets: &[u8]| String::from_utf8_lossy(octets).into_owned();
    (
        output.status.success(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[tokio::test]
async fn a_recorded_session_replays_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let mut config = hub(51, 52);
    config.record = Some(directory.path().join("sessions"));
    let left = start(config);
    let right = start(spoke(52, left.listen_addresses().await.unwrap()[0]));
    wait_for("the routes", async || best(&left).await.len() == 4).await;
    right.stop(StopMode::Shutdown).await;
    wait_for("the end", async || best(&left).await.len() == 2).await;
    left.stop(StopMode::Shutdown).await;

    let files = std::fs::read_dir(directory.path().join("sessions")).unwrap();
    let files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    let [file] = files.as_slice() else {
        panic!("{files:?}")
    };
    assert!(
        file.file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .starts_with("127.0.78.52-")
    );
    // Its last event is the stop; the thread that writes may be behind.
    let states = || {
        let (good, out, _) = bgpd(&["--replay-session", file.to_str().unwrap()]);
        let steps: Vec<serde_json::Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let state = |step: &serde_json::Value| step["state"].as_str().unwrap().to_owned();
        (good, steps.iter().map(state).collect::<Vec<_>>())
    };
    wait_for("the whole recording", async || {
        states().1.last().is_some_and(|state| state == "Idle")
    })
    .await;
    let (good, states) = states();
    let mut passed = states;
    passed.dedup();
    assert!(good);
    let expected = ["Active", "OpenSent", "OpenConfirm", "Established"];
    assert!(passed.windows(4).any(|window| window == expected), "{passed:?}");

    let wrong = directory.path().join("wrong.jsonl");
    std::fs::write(&wrong, "{}\n").unwrap();
    let (good, out, error) = bgpd(&["--replay-session", wrong.to_str().unwrap()]);
    assert!(
        !good && out.is_empty() && error.contains("recording line 1"),
        "{error}"
    );
}

/// The socket may be named before the command or after it; what is for the daemon does not go with one.
#[test]
fn the_socket_is_named_before_or_after_the_command() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("none.sock");
    let socket = socket.to_str().unwrap();
    for arguments in [
        ["--api", socket, "dump", "--"],
        ["dump", "--api", socket, "--"],
        ["--api", socket, "summary", "--"],
        ["peers", "--api", socket, "--"],
    ] {
        let (good, _, error) = bgpd(&arguments);
        assert!(!good && error.contains(socket), "{arguments:?}: {error}");
        assert!(!error.contains("Usage"), "{arguments:?}: {error}");
    }
    let (good, _, error) = bgpd(&["--recover", "peers"]);
    assert!(!good && error.contains("options of the daemon"), "{error}");
}

/// Ends the process with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn daemon(directory: &Path, name: &str, more: &str, options: &[&str]) -> (Daemon, String) {
    let api = directory
        .join(format!("{name}.sock"))
        .to_str()
        .unwrap()
        .to_owned();
    let file = directory.join(format!("{name}.toml"));
    let config =
        format!("[global]\nas = 65000\nrouter-id = \"10.0.0.60\"\nfib = false\napi = {api:?}\n{more}");
    std::fs::write(&file, config).unwrap();
    let log = std::fs::File::create(directory.join(format!("{name}.log"))).unwrap();
    let child = Command::new(BGPD)
        .arg("--config")
        .arg(&file)
        .args(options)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    (Daemon(child), api)
}

#[tokio::test]
async fn a_daemon_dumps_its_table_and_another_replays_it() {
    let directory = tempfile::tempdir().unwrap();
    let table = directory.path().join("table.mrt");
    let name = table.to_str().unwrap();
    // A source, because a dump's own routes have no next hop that another could use.
    let left = start(hub(61, 62));
    let right = start(spoke(62, left.listen_addresses().await.unwrap()[0]));
    wait_for("the routes", async || best(&left).await.len() == 4).await;
    let first = directory.path().join("first.mrt");
    left.dump_mrt(Some(first.clone())).await.unwrap();
    let options = ["--replay", first.to_str().unwrap()];
    let mrt = format!("[mrt]\nrib = {{ path = {name:?} }}\n");
    let (_daemon, api) = daemon(directory.path(), "one", &mrt, &options);
    wait_for("the dump of what was replayed", async || {
        let (_, out, _) = bgpd(&["dump", "--api", &api]);
        out == format!("{name}: 3 prefixes, 3 paths.\n")
    })
    .await;
    let (_daemon, api) = daemon(directory.path(), "two", "", &["--replay", name]);
    wait_for("its routes", async || {
        let (_, out, _) = bgpd(&["routes", "--api", &api]);
        ["10.2.0.0/24", "10.2.1.0/24", "10.66.0.0/24"]
            .iter()
            .all(|prefix| out.contains(prefix))
    })
    .await;
    // The same in one answer and in pages.
    let lists = ["1000", "0"].map(|limit| {
        let (_, out, _) = bgpd(&["routes", "-o", "json", "--limit", limit, "--api", &api]);
        let routes: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap();
        let mut prefixes: Vec<String> = routes.iter().map(|route| route["prefix"].to_string()).collect();
        prefixes.sort_unstable();
        prefixes
    });
    assert_eq!(lists[0].len(), 3);
    assert_eq!(lists[0], lists[1]);
    let (good, _, error) = bgpd(&["dump", "--api", &api]);
    assert!(!good && error.contains("mrt rib.path"), "{error}");
    right.stop(StopMode::Shutdown).await;
}
