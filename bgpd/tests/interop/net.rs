//! Network namespaces of a test. Each is held by a process that ends with the test.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};

/// Longest life of a namespace, should the test never end it, in seconds.
const HOLDER_LIFE_S: &str = "180";

/// A network namespace with its loopback up. Clones are the same one; it ends with the last.
#[derive(Clone)]
pub(crate) struct Netns(Arc<Holder>);

struct Holder(Child);

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Netns {
    pub(crate) fn new() -> Self {
        let holder = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "unshare", "--net", "sleep", HOLDER_LIFE_S])
            .stdin(Stdio::null())
            .spawn()
            .expect("setpriv and unshare of util-linux, as root");
        let netns = Self(Arc::new(Holder(holder)));
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        wait_for("a network namespace", Duration::from_secs(5), || {
            std::fs::read_link(netns.path()).is_ok_and(|ns| ns != own)
        });
        netns.run("ip link set lo up");
        netns
    }

    /// Two namespaces joined by a link `eth0`, with addresses .1 and .2, ::1 and ::2.
    pub(crate) fn pair() -> (Self, Self) {
        let (a, b) = (Self::new(), Self::new());
        a.run(&format!(
            "ip link add eth0 type veth peer name eth0 netns {}",
            b.pid()
        ));
        for (netns, last) in [(&a, 1), (&b, 2)] {
            netns.run(&format!("ip addr add 10.0.0.{last}/24 dev eth0"));
            netns.run(&format!("ip addr add fd00::{last}/64 dev eth0 nodad"));
            netns.run("ip link set eth0 up");
        }
        (a, b)
    }

    /// Two namespaces with a router between them: 10.0.1.1 and 10.0.2.2, fd00:1::1 and fd00:2::2. The router
    /// is the third one.
    pub(crate) fn line() -> (Self, Self, Self) {
        let (a, b, middle) = (Self::new(), Self::new(), Self::new());
        for (netns, net, last) in [(&a, 1, 1), (&b, 2, 2)] {
            netns.run(&format!(
                "ip link add eth0 type veth peer name eth{net} netns {}",
                middle.pid()
            ));
            netns.run(&format!("ip addr add 10.0.{net}.{last}/24 dev eth0"));
            netns.run(&format!("ip addr add fd00:{net}::{last}/64 dev eth0 nodad"));
            netns.run("ip link set eth0 up");
            middle.run(&format!("ip addr add 10.0.{net}.254/24 dev eth{net}"));
            middle.run(&format!("ip addr add fd00:{net}::fe/64 dev eth{net} nodad"));
            middle.run(&format!("ip link set eth{net} up"));
            netns.run(&format!("ip route add 10.0.0.0/8 via 10.0.{net}.254"));
            netns.run(&format!("ip route add fd00::/16 via fd00:{net}::fe"));
        }
        middle.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1");
        (a, b, middle)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.0.0.id()
    }

    fn path(&self) -> String {
        format!("/proc/{}/ns/net", self.pid())
    }

    /// Runs a function on a thread inside. Sockets that it opens stay inside.
    pub(crate) fn inside<T: Send>(&self, run: impl FnOnce() -> T + Send) -> T {
        let namespace = std::fs::File::open(self.path()).unwrap();
        let run = || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            run()
        };
        std::thread::scope(|scope| scope.spawn(run).join()).unwrap()
    }

    /// A command inside, as words separated by blanks.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut words = line.split_whitespace();
        let mut command = Command::new("nsenter");
        command.args(["--net", "-t", &self.pid().to_string(), "--"]);
        command.args(words.by_ref());
        command
    }

    /// Runs a command inside, which must succeed.
    pub(crate) fn run(&self, line: &str) -> String {
        let output = self.output(line);
        assert!(
            output.status.success(),
            "{line}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    pub(crate) fn output(&self, line: &str) -> Output {
        self.command(line).stdin(Stdio::null()).output().expect(line)
    }

    /// Starts a process inside that ends with the test.
    pub(crate) fn spawn(&self, line: &str, log: &Path) -> Process {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .unwrap();
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "nsenter",
            "--net",
            "-t",
            &self.pid().to_string(),
            "--",
        ]);
        command.args(line.split_whitespace());
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .expect(line);
        Process {
            child,
            log: log.to_owned(),
        }
    }
}

/// A process of a test. What it wrote is shown if the test fails.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
}

impl Process {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(
            Command::new("kill")
                .args(["-s", name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    /// Waits for its end.
    pub(crate) fn ended(&mut self, within: Duration) -> bool {
        let deadline = Instant::now() + within;
        while Instant::now() < deadline {
            if self.child.try_wait().unwrap().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("--- {}\n{}", self.log.display(), self.log());
        }
    }
}

/// Waits until `done`, or fails.
#[track_caller]
pub(crate) fn wait_for(what: &str, within: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    loop {
        if done() {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}
