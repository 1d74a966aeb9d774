//! What tests of the program on the kernel at hand share: a place with a home and a workspace, and one turn at a time.

#![allow(dead_code, reason = "no test uses all of it")]

#[path = "../../demo/network.rs"]
pub mod network;

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Mutex, PoisonError, mpsc};
use std::thread;
use std::time::Duration;

use edamame_guard::sensors::ebpf::{Ebpf, Options, SensorError};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use network::Network;

pub const SINK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
pub const GUARD: &str = env!("CARGO_BIN_EXE_edamame-guard");

/// One job at a time: two cores have enough to do with one.
static TURN: Mutex<()> = Mutex::new(());

/// Runs a test in a network of its own, on a thread of its own, so that it goes away with the test.
pub fn live(test: &str, body: impl FnOnce(&Network) + Send) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    match Ebpf::start(&Options::default()) {
        Ok(_) => {}
        Err(SensorError::NotPermitted | SensorError::NoTypes | SensorError::NoCgroup) => {
            println!("skipped: {test} needs root and BPF");
            return;
        }
        Err(error) => panic!("{error}"),
    }
    let ended = thread::scope(|scope| {
        scope
            .spawn(|| {
                let network = Network::enter(SINK).expect("a network of its own");
                body(&network);
                network.clear().expect("nothing is left");
            })
            .join()
    });
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

/// Where sidecars have their folders.
pub const SESSIONS: &str = "/run/edamame-guard";

/// Like [`live`], with a folder of sessions that nobody else sees.
pub fn alone(test: &str, body: impl FnOnce(&Network) + Send) {
    live(test, |network| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        nix::mount::mount(
            None::<&str>,
            "/",
            None::<&str>,
            nix::mount::MsFlags::MS_REC | nix::mount::MsFlags::MS_PRIVATE,
            None::<&str>,
        )
        .expect("mounts of its own");
        std::fs::create_dir_all(SESSIONS).expect("a folder");
        nix::mount::mount(
            Some("sessions"),
            SESSIONS,
            Some("tmpfs"),
            nix::mount::MsFlags::empty(),
            Some("mode=700"),
        )
        .expect("mounted");
        body(network);
    });
}

/// A home and a workspace with these files; `build.sh` is the step.
pub struct Place {
    pub root: TempDir,
}

impl Place {
    pub fn new(script: &str) -> Self {
        let place = Self { root: tempfile::tempdir().expect("a folder") };
        fs::create_dir_all(place.root.path().join("home/.aws")).expect("a home");
        fs::create_dir(place.root.path().join("work")).expect("a workspace");
        place.write("home/.aws/credentials", "[default]\naws_secret_access_key = kZ9-not-a-real-one-4f\n");
        place.write("work/build.sh", script);
        place
    }

    pub fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(GUARD);
        command
            .args(words)
            .env_clear()
            .env("HOME", self.root.path().join("home"))
            .env(
                "PATH",
                format!(
                    "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:{}",
                    self.root.path().join("bin").display()
                ),
            )
            .current_dir(self.root.path().join("work"))
            .stdin(Stdio::null());
        command
    }

    /// `run` with the report in `report` beside the workspace.
    pub fn run(&self, options: &[&str], job: &[&str]) -> Output {
        let words = [&["run", "--report-dir", "../report"], options, &["--"], job].concat();
        self.command(&words).output().expect("the guard starts")
    }

    pub fn report(&self) -> Value {
        findings(&self.root.path().join("report"))
    }

    /// Judges the report's recording again and compares every file.
    #[track_caller]
    pub fn replay_is_the_same(&self, live: &Output) {
        let again = self
            .command(&["replay", "../report", "--report-dir", "../again"])
            .output()
            .expect("the guard starts");
        let report = self.root.path().join("report");
        let guard = findings(&report)["exit"]["guard"].as_i64();
        assert_eq!(again.status.code().map(i64::from), guard, "{}", text(&again.stderr));
        for file in ["findings.json", "results.sarif", "junit.xml", "summary.md"] {
            let [live, again] = ["report", "again"].map(|folder| {
                fs::read_to_string(self.root.path().join(folder).join(file)).expect("a report")
            });
            assert!(live == again, "{file} differs\n--- live\n{live}\n--- replayed\n{again}");
        }
        // What people read is the same too, but for the job's own words and the folder's name.
        let told = |output: &Output, folder: &str| {
            let text = text(&output.stderr);
            let from = text.find("edamame-guard: ").expect("a verdict");
            let lines = text[from..].lines().filter(|line| !line.starts_with("    reports "));
            lines.collect::<Vec<_>>().join("\n").replace(folder, "REPORT")
        };
        assert_eq!(told(live, "../report"), told(&again, "../again"));
    }
}

/// What a command says, which has to end within this time.
#[track_caller]
pub fn ends_within(limit: Duration, command: &mut Command) -> Output {
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let pid = Pid::from_raw(i32::try_from(child.id()).expect("small"));
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(child.wait_with_output()));
    let Ok(output) = receiver.recv_timeout(limit) else {
        kill(pid, Signal::SIGKILL).expect("it is there");
        panic!("still there after {limit:?}: {command:?}");
    };
    output.expect("its output")
}

pub fn findings(report: &Path) -> Value {
    let path = report.join("findings.json");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `rule object` of each finding that fails the job.
pub fn failing(report: &Value) -> Vec<String> {
    let findings = report["findings"].as_array().expect("findings");
    let mut failing: Vec<String> = findings
        .iter()
        .filter(|finding| finding["fails"] == true)
        .map(|finding| {
            format!("{} {}", finding["rule"].as_str().unwrap(), finding["object"].as_str().unwrap())
        })
        .collect();
    failing.sort();
    failing
}
