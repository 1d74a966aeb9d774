//! `start`, `load`, `status` and `finish` around jobs that somebody else runs, and what happens to a recorder that is
//! ended, stopped or robbed of a hook. Without the rights, each test says so and passes.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use common::{GUARD, Place, SESSIONS, alone, findings, text};

/// A running sidecar; the job is what this test starts.
struct Sidecar {
    id: String,
    pid: Pid,
}

fn said(output: &Output) -> String {
    format!("{:?}\n{}{}", output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn call(place: &Place, words: &[&str]) -> Output {
    place.command(words).output().expect("the guard starts")
}

impl Sidecar {
    fn start(place: &Place, options: &[&str]) -> Self {
        let output = call(place, &[&["start", "--report-dir", "../report"], options].concat());
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let id = text(&output.stdout).trim().to_owned();
        let about =
            fs::read_to_string(Path::new(SESSIONS).join(&id).join("session.json")).expect("a session");
        let about: Value = serde_json::from_str(&about).expect("JSON");
        Self { id, pid: Pid::from_raw(i32::try_from(about["pid"].as_i64().expect("a pid")).expect("small")) }
    }

    fn status(&self, place: &Place) -> (Option<i32>, Value) {
        let output = call(place, &["status", "--session", &self.id, "--json"]);
        let status = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", said(&output)));
        (output.status.code(), status)
    }

    fn finish(&self, place: &Place) -> Output {
        call(place, &["finish", "--session", &self.id])
    }

    fn signal(&self, signal: Signal) {
        kill(self.pid, signal).expect("it is there");
    }

    /// Waits until the process is gone, zombies included.
    fn is_over(&self) -> bool {
        within(Duration::from_secs(5), || {
            let state = fs::read_to_string(format!("/proc/{}/stat", self.pid)).unwrap_or_default();
            state.is_empty() || state.contains(") Z ")
        })
    }
}

fn within(limit: Duration, is_so: impl Fn() -> bool) -> bool {
    let began = Instant::now();
    while began.elapsed() < limit {
        if is_so() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    is_so()
}

/// The job's one act that every record has to show: it writes this file.
fn act(place: &Place) {
    let status = place_shell(place, "echo x > witness").status().expect("a shell");
    assert!(status.success());
}

fn place_shell(place: &Place, script: &str) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args(["-c", script]).current_dir(place.root.path().join("work")).stdin(Stdio::null());
    command
}

fn shows_the_act(place: &Place) -> bool {
    let record = fs::read_to_string(place.root.path().join("report/evidence.jsonl")).expect("the record");
    record.contains("work/witness")
}

fn rules(report: &Value) -> BTreeSet<&str> {
    let findings = report["findings"].as_array().expect("findings");
    findings.iter().filter_map(|finding| finding["rule"].as_str()).collect()
}

#[test]
fn a_session_records_from_start_to_finish() {
    alone("a_session_records_from_start_to_finish", |_| {
        let place = Place::new("");
        let none = call(&place, &["status"]);
        assert_eq!(none.status.code(), Some(2), "{}", said(&none));
        let sidecar = Sidecar::start(&place, &[]);
        // Really watching when it returns: the next thing anybody does is in the record.
        act(&place);
        let (code, status) = sidecar.status(&place);
        assert_eq!((code, &status["watching"]), (Some(0), &Value::from(true)), "{status}");
        assert_eq!((&status["lost"], &status["finished"]), (&Value::from(0), &Value::from(false)));
        assert!(status["events"].as_u64().is_some_and(|events| events > 0), "{status}");
        // The only live session needs no name.
        let status = call(&place, &["status"]);
        assert!(
            text(&status.stdout).contains(&format!("session {}  watching", sidecar.id)),
            "{}",
            said(&status)
        );

        place.write("work/one.yml", "version: 1\ndefaults:\n  run: {deny: [id]}\n");
        place.write("work/two.yml", "version: 1\n");
        for (file, code) in [("one.yml", 0), ("two.yml", 125), ("one.yml", 0), ("missing.yml", 125)] {
            let output = call(&place, &["load", "--session", &sidecar.id, "--policy", file]);
            assert_eq!(output.status.code(), Some(code), "{file}: {}", said(&output));
        }
        assert!(place_shell(&place, "id > /dev/null").status().expect("a shell").success());

        let first = sidecar.finish(&place);
        assert_eq!(first.status.code(), Some(86), "{}", said(&first));
        let report = place.report();
        assert!(rules(&report).contains("run-undeclared"), "the loaded policy judges: {report:#}");
        assert_eq!(report["coverage"]["lost_events"], 0);
        assert!(shows_the_act(&place));
        assert!(sidecar.is_over());
        place.replay_is_the_same(&first);
        // Again it says the same, and touches nothing.
        fs::remove_dir_all(place.root.path().join("report")).expect("removed");
        let again = sidecar.finish(&place);
        assert_eq!(again.status.code(), Some(86), "{}", said(&again));
        assert!(!place.root.path().join("report").exists());
        let (code, status) = sidecar.status(&place);
        assert_eq!((code, &status["finished"]), (Some(0), &Value::from(true)), "{status}");
    });
}

#[test]
fn a_recorder_is_detached_from_its_caller() {
    alone("a_recorder_is_detached_from_its_caller", |_| {
        let place = Place::new("");
        // A pipe that the caller left open would be waited for until the recorder ends.
        let start = place.command(&["start", "--report-dir", "../report"]);
        let words = [start.get_program()]
            .into_iter()
            .chain(start.get_args())
            .map(|word| word.to_str().expect("plain"));
        let line = format!("exec 9>&1; {}", words.collect::<Vec<_>>().join(" "));
        let mut shell = place_shell(&place, &line);
        shell
            .current_dir(place.root.path().join("work"))
            .env("RUNNER_TRACKING_ID", "github_1")
            .stdout(Stdio::piped());
        let mut child = shell.stderr(Stdio::piped()).spawn().expect("a shell");

        let (mut id, mut talk) = (String::new(), String::new());
        child.stdout.take().expect("piped").read_to_string(&mut id).expect("it ends while the recorder runs");
        child.stderr.take().expect("piped").read_to_string(&mut talk).expect("it ends");
        assert!(child.wait().expect("a status").success(), "{talk}");
        let id = id.trim();
        let about = fs::read_to_string(Path::new(SESSIONS).join(id).join("session.json")).expect("a session");
        let pid = serde_json::from_str::<Value>(&about).expect("JSON")["pid"].as_u64().expect("a pid");
        let of = |file: &str| format!("/proc/{pid}/{file}");
        for descriptor in 0..3 {
            let target = fs::read_link(of(&format!("fd/{descriptor}"))).expect("open");
            assert_eq!(target, Path::new("/dev/null"), "{descriptor}");
        }
        let environment = fs::read(of("environ")).expect("readable");
        assert!(!text(&environment).contains("RUNNER_TRACKING_ID"));
        // Inside some containers even root may not lower it.
        let may = place_shell(&place, "echo -900 > /proc/self/oom_score_adj").stderr(Stdio::null()).status();
        if may.is_ok_and(|status| status.success()) {
            assert_eq!(fs::read_to_string(of("oom_score_adj")).expect("readable").trim(), "-900");
        } else {
            println!("skipped: oom_score_adj, which may not be lowered here");
        }
        let about = fs::read_to_string(of("stat")).expect("readable");
        let fields: Vec<&str> = about.rsplit(") ").next().expect("fields").split(' ').collect();
        let (group, session, terminal) = (fields[2], fields[3], fields[4]);
        assert_eq!((group, session, terminal), (pid.to_string().as_str(), pid.to_string().as_str(), "0"));
        let finish = call(&place, &["finish", "--session", id]);
        assert_eq!(finish.status.code(), Some(0), "{}", said(&finish));
    });
}

#[test]
fn a_killed_recorder_fails_the_job_and_keeps_what_it_saw() {
    alone("a_killed_recorder_fails_the_job_and_keeps_what_it_saw", |_| {
        for signal in [Signal::SIGKILL, Signal::SIGTERM] {
            let place = Place::new("");
            let sidecar = Sidecar::start(&place, &[]);
            act(&place);
            // What was not handed over yet is lost with a killed one; 200 ms are ten ticks.
            std::thread::sleep(Duration::from_millis(200));
            sidecar.signal(signal);
            assert!(sidecar.is_over());
            let (code, status) = sidecar.status(&place);
            assert_eq!((code, &status["watching"]), (Some(125), &Value::from(false)), "{signal}: {status}");
            for _ in 0..2 {
                let output = sidecar.finish(&place);
                assert_eq!(output.status.code(), Some(125), "{signal}: {}", said(&output));
            }
            let report = place.report();
            assert_eq!(report["coverage"]["state"], "blind", "{signal}");
            assert!(shows_the_act(&place), "{signal}");
        }
    });
}

#[test]
fn a_stopped_recorder_is_told_by_its_heartbeat() {
    alone("a_stopped_recorder_is_told_by_its_heartbeat", |_| {
        let place = Place::new("");
        let sidecar = Sidecar::start(&place, &[]);
        sidecar.signal(Signal::SIGSTOP);
        std::thread::sleep(Duration::from_secs(17));
        sidecar.signal(Signal::SIGCONT);
        std::thread::sleep(Duration::from_millis(500));
        act(&place);
        let output = sidecar.finish(&place);
        assert_eq!(output.status.code(), Some(86), "{}", said(&output));
        let report = place.report();
        assert!(rules(&report).contains("coverage-heartbeat"), "{report:#}");
        place.replay_is_the_same(&output);
    });
}

#[test]
fn odd_signals_end_no_recorder() {
    alone("odd_signals_end_no_recorder", |_| {
        let place = Place::new("");
        let sidecar = Sidecar::start(&place, &[]);
        for signal in [
            Signal::SIGUSR1,
            Signal::SIGUSR2,
            Signal::SIGALRM,
            Signal::SIGHUP,
            Signal::SIGINT,
            Signal::SIGQUIT,
        ] {
            sidecar.signal(signal);
        }
        act(&place);
        let output = sidecar.finish(&place);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(place.report()["coverage"]["state"], "full");
    });
}

#[test]
fn two_sessions_do_not_meet() {
    alone("two_sessions_do_not_meet", |_| {
        let [one, two] = [Place::new(""), Place::new("")];
        let (first, second) = (Sidecar::start(&one, &[]), Sidecar::start(&two, &[]));
        assert_ne!(first.id, second.id);
        let several = call(&one, &["finish"]);
        assert_eq!(several.status.code(), Some(2), "{}", said(&several));
        for id in [&first.id, &second.id] {
            assert!(text(&several.stderr).contains(id.as_str()), "{}", said(&several));
        }
        act(&one);
        let output = first.finish(&one);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        let (code, status) = second.status(&two);
        assert_eq!((code, &status["watching"]), (Some(0), &Value::from(true)), "{status}");
        // The other one is the only live session now.
        let output = call(&two, &["finish"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        for place in [&one, &two] {
            assert_eq!(findings(&place.root.path().join("report"))["coverage"]["state"], "full");
        }
    });
}

#[test]
fn status_names_each_hook_that_is_taken_away() {
    alone("status_names_each_hook_that_is_taken_away", |_| {
        // BPF_LINK_GET_FD_BY_ID and BPF_LINK_DETACH, as any root can.
        let script = r"
            my $ask = pack('L', $ARGV[0]) . (chr(0) x 60);
            my $link = syscall($ARGV[1], 30, $ask, 64);
            $link >= 0 or die $!;
            my $detach = pack('L', $link) . (chr(0) x 60);
            exit(syscall($ARGV[1], 34, $detach, 64) == 0 ? 0 : 1);
        ";
        let place = Place::new("");
        let sidecar = Sidecar::start(&place, &[]);
        let mut links = Vec::new();
        for entry in fs::read_dir(format!("/proc/{}/fdinfo", sidecar.pid)).expect("readable").flatten() {
            let info = fs::read_to_string(entry.path()).unwrap_or_default();
            links.extend(
                info.lines().find_map(|line| line.strip_prefix("link_id:")?.trim().parse::<u32>().ok()),
            );
        }
        assert!(links.len() > 10, "{links:?}");
        let mut taken = 0;
        let mut known = BTreeSet::new();
        for link in links {
            let status = Command::new("perl")
                .args(["-e", script, &link.to_string(), &nix::libc::SYS_bpf.to_string()])
                .status()
                .expect("perl");
            // A tracepoint's link can't be detached, only its owner's descriptor be closed.
            if !status.success() {
                continue;
            }
            taken += 1;
            let named = || -> BTreeSet<String> {
                let (_, status) = sidecar.status(&place);
                let hooks = status["lost_hooks"].as_array().expect("a list");
                hooks.iter().map(|hook| hook.as_str().expect("a name").to_owned()).collect()
            };
            assert!(within(Duration::from_secs(5), || named().len() == taken), "link {link}: {:?}", named());
            assert!(named().is_superset(&known), "a name stays");
            known = named();
            let (code, status) = sidecar.status(&place);
            assert_eq!((code, &status["watching"]), (Some(125), &Value::from(false)), "{status}");
        }
        for hook in ["connect4", "connect6", "sendmsg4", "sendmsg6", "dns-answer"] {
            assert!(known.contains(hook), "{known:?}");
        }
        let output = call(&place, &["status", "--session", &sidecar.id]);
        assert!(text(&output.stdout).contains("NOT WATCHING: hooks were taken away"), "{}", said(&output));
        let output = sidecar.finish(&place);
        assert_eq!(output.status.code(), Some(125), "{}", said(&output));
        assert!(rules(&place.report()).contains("coverage-hook"));
    });
}

#[test]
fn without_rights_a_session_polls_and_lies_in_a_folder_of_its_user() {
    alone("without_rights_a_session_polls_and_lies_in_a_folder_of_its_user", |_| {
        // A number that no other test runs as: its sessions may lie in /tmp.
        const NOBODY: u32 = 61_234;
        let place = Place::new("");
        let root = place.root.path();
        for folder in [".", "work", "home", "home/.aws"] {
            fs::set_permissions(root.join(folder), fs::Permissions::from_mode(0o777)).expect("open to all");
        }
        let guard = root.join("guard");
        fs::copy(GUARD, &guard).expect("a copy that everybody can run");
        let runtime = root.join("runtime");
        fs::create_dir(&runtime).expect("a folder");
        fs::set_permissions(&runtime, fs::Permissions::from_mode(0o700)).expect("private");
        std::os::unix::fs::chown(&runtime, Some(NOBODY), Some(NOBODY)).expect("given away");
        let shell = |script: &str| {
            let output = Command::new("setpriv")
                .args([
                    "--reuid",
                    "61234",
                    "--regid",
                    "61234",
                    "--clear-groups",
                    "--",
                    "/bin/sh",
                    "-c",
                    script,
                ])
                .env_clear()
                .env("PATH", "/usr/bin:/bin")
                .env("HOME", root.join("home"))
                .env("XDG_RUNTIME_DIR", &runtime)
                .env("G", &guard)
                .current_dir(root.join("work"))
                .stdin(Stdio::null())
                .output();
            output.expect("a shell")
        };
        let script = "set -e; A=$($G start --report-dir ../one); B=$($G start --report-dir ../two); exec 9>witness; sleep 1; \
            $G status --session $A >&2; $G finish && exit 9; $G finish --session $A; stat -c '%a %u' $XDG_RUNTIME_DIR/edamame-guard/$B; \
            $G status >&2; $G finish; $G finish --session $B";
        let output = shell(script);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert_eq!(text(&output.stdout).trim(), format!("700 {NOBODY}"), "{said}");
        for words in
            ["warning: looking at /proc", "several sessions are running", "session s-", "is finished"]
        {
            assert!(said.contains(words), "`{words}`: {said}");
        }
        for report in ["one", "two"] {
            let found = findings(&root.join(report));
            assert_eq!(
                (&found["coverage"]["state"], &found["verdict"]),
                (&"partial".into(), &"partial".into())
            );
            let record = fs::read_to_string(root.join(report).join("evidence.jsonl")).expect("the record");
            assert!(record.contains("work/witness"), "{report}: an open file is seen by polling");
        }
        // Somebody else's folder under the expected name is not used.
        fs::remove_dir_all(runtime.join("edamame-guard")).expect("removed");
        std::os::unix::fs::symlink(root.join("home"), runtime.join("edamame-guard")).expect("a link");
        let output = shell("$G start");
        let said = self::said(&output);
        assert_eq!(output.status.code(), Some(125), "{said}");
        assert!(said.contains("it is a link, or others may write to it"), "{said}");
        let output = shell("$G status");
        assert_eq!(output.status.code(), Some(2), "nor is anything found there: {}", self::said(&output));
    });
}

/// A program where Claude Code's would be, which gives a shell one command as that does.
const AGENT: &str = "#!/bin/sh\n/bin/bash -c \"source /dev/null && eval 'make test' < /dev/null && pwd -P >| /tmp/guard-test-cwd\"\n";

#[test]
fn what_a_merge_request_lets_an_agent_do_is_compared_with_the_target() {
    alone("what_a_merge_request_lets_an_agent_do_is_compared_with_the_target", |_| {
        for (after, wanted) in [
            ("{\"permissions\": {\"deny\": [\"Bash(curl:*)\"]}}", &[][..]),
            ("{\"permissions\": {\"defaultMode\": \"bypassPermissions\"}}", &["agent-config-tamper"]),
        ] {
            let place = Place::new("");
            place.write("work/Makefile", "test:\n\t@true\n");
            place.write("work/.claude/settings.json", "{\"permissions\": {\"deny\": [\"Bash(curl:*)\"]}}");
            let agent = "tools/node_modules/@anthropic-ai/claude-code/bin/claude";
            place.write(agent, AGENT);
            let agent = place.root.path().join(agent);
            fs::set_permissions(&agent, fs::Permissions::from_mode(0o755)).expect("set");
            let git = "git init -q -b main && git add -A && git -c user.name=a -c user.email=a@b.example commit -qm x && git rev-parse HEAD";
            let base = place_shell(&place, git).output().expect("git");
            assert!(base.status.success(), "{}", said(&base));
            place.write("work/.claude/settings.json", after);
            let start = |command: &mut Command| {
                command
                    .env("GITLAB_CI", "true")
                    .env("CI_JOB_NAME", "review")
                    .env("CI_PROJECT_DIR", place.root.path().join("work"))
                    .env("CI_MERGE_REQUEST_DIFF_BASE_SHA", text(&base.stdout).trim())
                    .output()
                    .expect("the guard starts")
            };
            let begun = start(&mut place.command(&["start", "--report-dir", "../report"]));
            assert_eq!(begun.status.code(), Some(0), "{}", said(&begun));
            let job = format!("HOME={} {}", place.root.path().join("home").display(), agent.display());
            assert!(place_shell(&place, &job).status().expect("a shell").success());
            let end = call(&place, &["finish"]);
            let report = place.report();
            let told: Vec<&str> =
                rules(&report).into_iter().filter(|rule| rule.starts_with("agent-")).collect();
            assert_eq!(told, wanted, "{}", said(&end));
            // The agent acted, and nothing else let it do so without asking.
            let is_high =
                |finding: &Value| finding["rule"] != "agent-config-tamper" || finding["severity"] == "high";
            assert!(report["findings"].as_array().expect("findings").iter().all(is_high), "{report:#}");
        }
    });
}
