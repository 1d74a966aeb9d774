//! The job's log under the GitLab component: it goes through the guard, whole and in order, and what it may not hold is found.
//!
//! The scripts run as a runner's shell runs them (`: | eval '…'`, then `exit 0`), under bash and under dash.
//! Without root, each test says so and passes.

#[path = "common/component.rs"]
mod component;

use std::fs;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use component::component;

const GUARD: &str = env!("CARGO_BIN_EXE_edamame-guard");
/// Made up.
const SECRET: &str = "k8Fq2xWz7LmP0tRb4YHn6";
/// Half a line that a reader of the log takes note of.
const MARK: &str = "half of a li";
/// The shells that runners use.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/dash"];

fn base64() -> String {
    let mut child =
        Command::new("base64").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("base64 starts");
    child.stdin.take().expect("a pipe").write_all(SECRET.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("its output");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

fn runs(test: &str) -> bool {
    let can = nix::unistd::geteuid().is_root() && SHELLS.iter().all(|shell| Path::new(shell).exists());
    if !can {
        println!("skipped: {test} needs root, bash and dash");
    }
    can
}

/// What a runner gets of one shell.
struct Ran {
    status: ExitStatus,
    /// Both streams in the order in which they came, or one after the other.
    log: Vec<u8>,
    took: Duration,
}

impl Ran {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.log).into_owned()
    }
}

struct Job {
    root: TempDir,
    jobs: Value,
    shell: &'static str,
    /// Standard output and error are one pipe, as a runner in Go gives them.
    is_one: bool,
}

impl Job {
    fn new(shell: &'static str, is_one: bool, inputs: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let guard = root.path().join("edamame-guard");
        fs::copy(GUARD, &guard).expect("copied");
        fs::create_dir(root.path().join("work")).expect("a folder");
        let guard = guard.to_string_lossy().into_owned();
        let inputs = [&[("binary_path", guard.as_str()), ("on_unsupported", "skip")], inputs].concat();
        Self { jobs: serde_saphyr::from_str(&component(&inputs)).expect("YAML"), root, shell, is_one }
    }

    fn text(&self, key: &str) -> String {
        let lines = self.jobs[".guard"][key].as_array().expect("a list");
        lines.iter().map(|line| line.as_str().expect("text")).collect::<Vec<_>>().join("\n")
    }

    fn shell(&self, text: &str) -> Ran {
        let quoted = text.replace('\'', r"'\''");
        let script =
            format!("trap 'exit 1' TERM\nset -o errexit\nset +o noclobber\n: | eval '{quoted}\n'\nexit 0\n");
        let work = self.root.path().join("work");
        let mut command = Command::new(self.shell);
        command.current_dir(&work).env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin");
        command.env("HOME", self.root.path()).env("DEPLOY_TOKEN", SECRET).env("CI_PROJECT_DIR", &work);
        for (name, value) in self.jobs[".guard"]["variables"].as_object().expect("a map") {
            command.env(name, value.as_str().expect("text"));
        }
        for (name, value) in [("GITLAB_CI", "true"), ("CI_JOB_ID", "7"), ("CI_JOB_NAME", "test")] {
            command.env(name, value);
        }
        let begun = Instant::now();
        let (output, output_end) = nix::unistd::pipe().expect("a pipe");
        let mut streams: Vec<OwnedFd> = vec![output];
        command.stdin(Stdio::piped()).stdout(output_end.try_clone().expect("a pipe"));
        if self.is_one {
            command.stderr(output_end);
        } else {
            drop(output_end);
            let (error, error_end) = nix::unistd::pipe().expect("a pipe");
            streams.push(error);
            command.stderr(error_end);
        }
        let mut child = command.spawn().expect("the shell starts");
        drop(command);
        // Like a runner, to the end of what anybody prints.
        let seen = self.root.path().join("seen");
        let readers: Vec<_> = (streams.into_iter())
            .map(|stream| {
                let seen = seen.clone();
                thread::spawn(move || {
                    let (mut log, mut piece) = (Vec::new(), [0; 4096]);
                    let mut stream = fs::File::from(stream);
                    loop {
                        let read = stream.read(&mut piece).expect("readable");
                        log.extend(&piece[..read]);
                        if piece[..read].ends_with(MARK.as_bytes()) {
                            fs::write(&seen, "").expect("written");
                        }
                        if read == 0 {
                            return log;
                        }
                    }
                })
            })
            .collect();
        child.stdin.take().expect("a pipe").write_all(script.as_bytes()).expect("written");
        let status = child.wait().expect("it ends");
        let log = readers.into_iter().flat_map(|reader| reader.join().expect("read")).collect();
        Ran { status, log, took: begun.elapsed() }
    }

    /// The script behind the component's own, and what comes after.
    fn run(&self, script: &str) -> (Ran, Ran) {
        let ran = self.shell(&format!("{}\n{script}", self.text("before_script")));
        let after = self.shell(&self.text("after_script"));
        (ran, after)
    }

    fn report(&self) -> Value {
        let file = self.root.path().join("work/edamame-guard-report/7/findings.json");
        serde_json::from_slice(&fs::read(file).expect("a report")).expect("JSON")
    }

    fn leaks(&self) -> Vec<String> {
        let report = self.report();
        let findings = report["findings"].as_array().expect("findings");
        let leaks = findings.iter().filter(|finding| finding["rule"] == "log-artifact-leak");
        leaks.map(|finding| finding["object"].as_str().expect("text").to_owned()).collect()
    }

    fn gaps(&self) -> String {
        let report = self.report();
        format!("{}{}", report["coverage"]["gaps"], report["coverage"]["limits"])
    }
}

/// What the script printed of these lines, without what the guard and the shell say.
fn between<'a>(log: &'a str, from: &str, to: &str) -> &'a str {
    let start = log.find(from).unwrap_or_else(|| panic!("{from} in {log}"));
    let end = log.rfind(to).unwrap_or_else(|| panic!("{to} in {log}"));
    &log[start + from.len()..end]
}

#[test]
fn both_streams_keep_their_order_and_the_guards_words_come_last() {
    if !runs("both_streams_keep_their_order_and_the_guards_words_come_last") {
        return;
    }
    for shell in SHELLS {
        let job = Job::new(shell, true, &[]);
        let script = "i=0; echo FROM\nwhile [ $i -lt 3000 ]; do echo out $i; echo err $i >&2; i=$((i+1)); done\n\
             printf 'section_start:1:a\\r\\033[0K\\033[31mred\\033[0m\\nno end'; sh -c 'echo of a child; echo its error >&2'\necho TO";
        let (ran, after) = job.run(script);
        assert_eq!((ran.status.code(), after.status.code()), (Some(0), Some(0)), "{}", ran.text());
        let log = ran.text();
        let lines: Vec<String> = (0..3000).map(|index| format!("out {index}\nerr {index}\n")).collect();
        let mut wanted = format!("\n{}", lines.concat());
        wanted.push_str("section_start:1:a\r\u{1b}[0K\u{1b}[31mred\u{1b}[0m\nno endof a child\nits error\n");
        assert!(between(&log, "FROM", "TO") == wanted, "{shell}");
        assert!(log.find("edamame-guard: Nothing suspicious") > log.find("TO"), "{log}");
        assert!(!job.gaps().contains("job's log"), "{}", job.gaps());
        assert!(!job.root.path().join("work/.edamame-guard/7/pipes").exists(), "the names are gone");
    }
}

#[test]
fn ten_megabytes_pass_as_they_are() {
    if !runs("ten_megabytes_pass_as_they_are") {
        return;
    }
    for is_one in [true, false] {
        let job = Job::new("/bin/bash", is_one, &[]);
        let script =
            "head -c 10485760 /dev/zero | tr '\\0' 'x' > ../big\nset +x\necho FROM; cat ../big; echo TO";
        let (ran, _) = job.run(script);
        assert_eq!(ran.status.code(), Some(0));
        let log = ran.text();
        let passed = between(&log, "FROM\n", "TO");
        assert_eq!(passed.len(), 10_485_760);
        assert!(passed.bytes().all(|byte| byte == b'x'));
    }
}

#[test]
fn what_is_printed_comes_at_once() {
    if !runs("what_is_printed_comes_at_once") {
        return;
    }
    for shell in SHELLS {
        let job = Job::new(shell, true, &[]);
        // Whoever reads the log says when it is there; the script waits for that.
        let wait = "i=0; until [ -e ../seen ] || [ $i -ge 100 ]; do sleep 0.1; i=$((i+1)); done";
        let (ran, _) = job.run(&format!("printf '{MARK}'\n{wait}\n[ -e ../seen ] && echo there"));
        assert_eq!(ran.status.code(), Some(0), "{}", ran.text());
        assert!(ran.text().contains(&format!("{MARK}there\n")), "{}", ran.text());
    }
}

#[test]
fn a_secret_in_the_log_is_found_however_the_script_ends() {
    if !runs("a_secret_in_the_log_is_found_however_the_script_ends") {
        return;
    }
    let encoded = base64();
    for (shell, is_one) in [("/bin/bash", true), ("/bin/bash", false), ("/bin/dash", true)] {
        let place = if is_one { "the output" } else { "standard output" };
        let wanted = [format!("DEPLOY_TOKEN in {place} (base64)")];
        let print = "printf %s \"$DEPLOY_TOKEN\" | base64";
        for (end, code, after_code) in [
            ("true", Some(86), Some(86)),
            ("exit 4", Some(4), Some(86)),
            ("false", Some(1), Some(86)),
            // Then the net finds it.
            ("trap 'echo mine' EXIT", Some(0), Some(86)),
            ("exec echo last", Some(0), Some(86)),
            ("sh -c 'kill -9 $PPID'", Some(137), Some(86)),
            ("set -x\necho traced", Some(86), Some(86)),
        ] {
            let job = Job::new(shell, is_one, &[]);
            let (ran, after) = job.run(&format!("{print}\n{end}"));
            let said = format!("{shell} {is_one} {end}\n{}\n{}", ran.text(), after.text());
            assert_eq!(ran.status.code().or(ran.status.signal().map(|signal| 128 + signal)), code, "{said}");
            assert_eq!(after.status.code(), after_code, "{said}");
            assert!(ran.text().contains(&encoded), "{said}");
            assert_eq!(job.leaks(), wanted, "{said}");
            assert!(ran.took < Duration::from_secs(20), "{:?} {said}", ran.took);
        }
    }
    // The quiet twin: as long a text that is no secret.
    let job = Job::new("/bin/bash", true, &[]);
    let (ran, _) = job.run("printf %s thisisanothervalue123 | base64\nset -x\ngit --version");
    assert_eq!(ran.status.code(), Some(0), "{}", ran.text());
    assert_eq!(job.leaks(), [""; 0]);
}

#[test]
fn children_that_stay_keep_their_output() {
    if !runs("children_that_stay_keep_their_output") {
        return;
    }
    for shell in SHELLS {
        let job = Job::new(shell, true, &[]);
        let (ran, _) = job.run("(sleep 4; echo of the one that stayed) &\necho TO");
        assert_eq!(ran.status.code(), Some(0), "{}", ran.text());
        let log = ran.text();
        assert!(log.find("Nothing suspicious") < log.find("of the one that stayed"), "{log}");
        // One that never stops printing holds nobody up.
        let job = Job::new(shell, true, &[]);
        let (ran, _) = job.run("timeout 10 yes again &\necho TO");
        assert_eq!(ran.status.code(), Some(0));
        assert!(ran.text().contains("Nothing suspicious"), "{}", ran.text());
        assert!(job.gaps().contains("went on when the guard ended"), "{}", job.gaps());
    }
}

/// Ends the recorder, whose number only root can read, and what stands by for it if that is wanted too.
fn kill_recorder(is_both: bool) -> String {
    let both = if is_both { "for p in $(cat /proc/$r/task/*/children); do kill -9 $p; done; " } else { "" };
    format!(
        "read -r s < .edamame-guard/7/session; r=$(grep -o '\"pid\":[0-9]*' /run/edamame-guard/$s/session.json | head -1 | grep -o '[0-9]*')\n{both}kill -9 $r\n"
    )
}

#[test]
fn no_line_is_lost_when_the_recorder_is_killed() {
    if !runs("no_line_is_lost_when_the_recorder_is_killed") {
        return;
    }
    for shell in SHELLS {
        let job = Job::new(shell, true, &[]);
        let kill = kill_recorder(false);
        let script = format!(
            "echo FROM\nsleep 0.2\n{kill}i=0; while [ $i -lt 20000 ]; do echo line $i; i=$((i+1)); done\necho TO"
        );
        let (ran, after) = job.run(&script);
        let log = ran.text();
        assert_eq!((ran.status.code(), after.status.code()), (Some(125), Some(125)), "{log}");
        let lines: Vec<String> = (0..20_000).map(|index| format!("line {index}\n")).collect();
        let wanted = format!("\n{}", lines.concat());
        assert!(between(&log, "FROM", "TO") == wanted, "{shell}");
        assert!(log.contains("is gone or does not answer"), "{log}");
    }
}

#[test]
fn who_stands_by_may_go() {
    if !runs("who_stands_by_may_go") {
        return;
    }
    let job = Job::new("/bin/bash", true, &[]);
    let script = kill_recorder(true).replace("kill -9 $r\n", "\n");
    let (ran, _) = job.run(&format!("{script}echo still there"));
    let log = ran.text();
    assert!(log.contains("still there") && log.contains("edamame-guard: "), "{log}");
    assert!(!job.gaps().contains("job's log"));
}

#[test]
fn it_can_be_switched_off_and_says_so() {
    if !runs("it_can_be_switched_off_and_says_so") {
        return;
    }
    let job = Job::new("/bin/bash", true, &[("log", "false")]);
    let (ran, _) = job.run("printf %s \"$DEPLOY_TOKEN\" | base64; ls -l /proc/self/fd/");
    assert_eq!(ran.status.code(), Some(0), "{}", ran.text());
    assert_eq!(job.leaks(), [""; 0]);
    assert!(job.gaps().contains("secrets in the job's log, which the runner writes"), "{}", job.gaps());
}
