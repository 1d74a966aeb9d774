//! The program as people and scripts call it: output, files and exit status, in a temporary folder with an empty
//! environment. Nothing here needs root.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use edamame_guard::detections;
use edamame_guard::policy::{Policy, Role};
use tempfile::TempDir;

/// What one call gave.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    status: Option<i32>,
    out: String,
    error: String,
}

fn guard(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edamame-guard"));
    command.env_clear().env("HOME", folder).current_dir(folder).stdin(Stdio::null());
    command
}

fn said(output: &Output) -> Said {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    Said { status: output.status.code(), out: text(&output.stdout), error: text(&output.stderr) }
}

fn call(folder: &Path, words: &[&str]) -> Said {
    said(&guard(folder).args(words).output().expect("the guard starts"))
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// A copy of a recording with its policy, as `run` leaves it.
fn recorded(name: &str) -> TempDir {
    let copy = folder();
    for file in ["evidence.jsonl", "policy.lock.yml"] {
        fs::copy(fixture(name).join(file), copy.path().join(file)).expect("a copy");
    }
    copy
}

fn expected_exit(name: &str) -> i32 {
    let expected = fs::read_to_string(fixture(name).join("expected.txt")).expect("expected.txt");
    expected.lines().find_map(|line| line.strip_prefix("exit ")?.parse().ok()).expect("its exit status")
}

fn golden(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/cli").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn rules_lists_every_rule_with_its_weight_and_first_sentence() {
    let here = folder();
    let out = detections::all().iter().fold(String::new(), |out, rule| {
        out + &format!("{:<25} {:<9} {}\n", rule.id.0, rule.severity.as_str(), rule.summary())
    });
    assert_eq!(call(here.path(), &["rules"]), Said { status: Some(0), out, error: String::new() });
}

#[test]
fn rules_shows_one_rules_page() {
    let here = folder();
    let said = call(here.path(), &["rules", "cred-file-access"]);
    assert_eq!((said.status, said.error.as_str()), (Some(0), ""));
    let rule = detections::by_id("cred-file-access").expect("the rule");
    let page = said.out.strip_prefix("# cred-file-access\n\n").expect("its id as the heading");
    let end = page.strip_prefix(&rule.page()).expect("its page");
    assert_eq!(
        end,
        "\nSeverity high, confidence high · ATT&CK T1552.001, T1041 · OWASP CICD-SEC-6, ASI03 · seen in \
         GHSA-cxm3-wv7p-598c, CVE-2025-53109\n"
    );
}

#[test]
fn an_unknown_rule_is_wrong_usage_and_gets_the_list() {
    let here = folder();
    let known = detections::all().iter().map(|rule| rule.id.0).collect::<Vec<_>>().join(", ");
    assert_eq!(
        call(here.path(), &["rules", "nope"]),
        Said {
            status: Some(2),
            out: String::new(),
            error: format!("error: there is no rule `nope`; there are: {known}\n"),
        }
    );
}

#[test]
fn a_good_policy_is_said_to_be_good() {
    let here = folder();
    fs::write(here.path().join("good.yml"), "version: 1\ndefaults:\n  run: {allow: [npm, node]}\n")
        .expect("a file");
    let out = "good.yml: no errors, 0 warnings\n".to_owned();
    assert_eq!(
        call(here.path(), &["policy", "check", "good.yml"]),
        Said { status: Some(0), out, error: String::new() }
    );
}

#[test]
fn a_policy_that_lifts_a_restriction_is_warned_about() {
    let here = folder();
    fs::write(here.path().join("wide.yml"), "version: 1\ndefaults:\n  run: {allow: any}\n").expect("a file");
    let said = call(here.path(), &["policy", "check", "wide.yml"]);
    assert_eq!((said.status, said.error.as_str()), (Some(0), ""));
    let first = said.out.lines().next().expect("a warning");
    assert_eq!(first, "warning: wide.yml:3: `allow: any` lifts every restriction of run in defaults");
}

#[test]
fn every_problem_of_a_policy_is_shown_with_its_place() {
    let here = folder();
    let policy = "version: 1\nmod: audit\ndefaults:\n  network: {allow: [\"api.example:99999\", githib]}\n";
    fs::write(here.path().join("bad.yml"), policy).expect("a file");
    let expected = Said { status: Some(125), out: String::new(), error: golden("policy-check-bad.txt") };
    assert_eq!(call(here.path(), &["policy", "check", "bad.yml"]), expected);
    // Whoever uses it gets the same words.
    let recording = fixture("make-honest");
    let recording = recording.to_str().expect("plain");
    assert_eq!(call(here.path(), &["replay", recording, "--policy", "bad.yml"]), expected);
    assert_eq!(call(here.path(), &["run", "--policy", "bad.yml", "--", "true"]), expected);
    let said = call(here.path(), &["policy", "check", "missing.yml"]);
    assert_eq!(said.status, Some(125));
    assert!(said.error.starts_with("error: cannot read policy `missing.yml`: "), "{}", said.error);
}

/// Compares with a golden, which `UPDATE_GOLDENS=1` writes.
fn is_golden(name: &str, text: &str) {
    if std::env::var_os("UPDATE_GOLDENS").is_some() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/cli").join(name);
        fs::write(path, text).expect("written");
    }
    assert_eq!(golden(name), text, "{name}");
}

#[test]
fn a_policy_is_explained_to_a_step() {
    let here = folder();
    let policy = "version: 1\ndefaults:\n  network: {allow: [api.example]}\n  run: {allow: [git], deny: [sudo]}\n\
                  steps:\n  \"build/*\":\n    run: {allow: [npm]}\n  \"build/deploy\":\n    inherit: false\n    \
                  run: {allow: any}\nagents:\n  claude-code:\n    network: {allow: [claude]}\nexcept:\n  - {rule: \
                  egress-undeclared, step: \"build/*\", reason: \"known\", until: 2030-01-01}\n";
    fs::write(here.path().join("guard.yml"), policy).expect("a file");
    let mut out = String::new();
    for step in ["build/test", "build/deploy", "other"] {
        let said = call(here.path(), &["policy", "explain", "guard.yml", step]);
        assert_eq!((said.status, said.error.as_str()), (Some(0), ""), "{step}");
        out += &said.out;
    }
    is_golden("policy-explain-step.txt", &out);
    let all = call(here.path(), &["policy", "explain", "guard.yml"]).out;
    assert!(all.starts_with("step build/*\n") && all.contains("\nstep build/deploy\n"), "{all}");
}

#[test]
fn two_policies_are_compared_in_words() {
    let here = folder();
    let old = "version: 1\nfail-on: high\ndefaults:\n  network: {allow: [api.example, \"*.cdn.example\"]}\n  run: {allow: [git, make]}\n";
    let new = "version: 1\ndefaults:\n  network: {allow: [api.example, a.cdn.example, packages.example]}\n  run: {allow: [git], \
               deny: [sudo]}\nsteps:\n  \"build/deploy\":\n    run: {allow: [terraform]}\nagents:\n  claude-code:\n    network: {allow: [claude]}\n";
    for (name, text) in [("old.yml", old), ("new.yml", new)] {
        fs::write(here.path().join(name), text).expect("a file");
    }
    let said = call(here.path(), &["policy", "diff", "old.yml", "new.yml"]);
    assert_eq!((said.status, said.error.as_str()), (Some(86), ""));
    is_golden("policy-diff.txt", &said.out);
    let json = call(here.path(), &["policy", "diff", "old.yml", "new.yml", "--json"]);
    assert_eq!(json.status, Some(86));
    is_golden("policy-diff.json", &json.out);
    let same = call(here.path(), &["policy", "diff", "old.yml", "old.yml"]);
    assert_eq!(
        (same.status, same.out.as_str()),
        (Some(0), "old.yml allows what old.yml allows, and no more\n")
    );
    let same = call(here.path(), &["policy", "diff", "old.yml", "old.yml", "--json"]);
    assert!(same.status == Some(0) && same.out.contains("\"same\": true"), "{}", same.out);
    // A recording stands for the policy that was applied to it.
    let report = recorded("policy-violations");
    let applied = report.path().to_str().expect("plain");
    let record = report.path().join("evidence.jsonl");
    let both = call(here.path(), &["policy", "diff", applied, record.to_str().expect("plain")]);
    assert_eq!(both.status, Some(0), "{}{}", both.out, both.error);
    assert_eq!(call(here.path(), &["policy", "diff", applied, "new.yml"]).status, Some(86));
    assert_eq!(call(here.path(), &["policy", "diff", "old.yml", "missing.yml"]).status, Some(125));
    assert_eq!(call(here.path(), &["policy", "diff", "old.yml"]).status, Some(2));
}

#[test]
fn what_stands_beside_a_policy_is_explained_with_its_file() {
    let policy = |text: &str, origin: &str| Policy::parse(text, origin).expect("a policy");
    let whole = policy("version: 1\ndefaults:\n  run: {allow: [git, npm]}\n", ".github/guard.yml")
        .beside(
            Role::Organisation,
            "acme/policies/guard.yml@v1",
            policy("version: 1\ndefaults:\n  run: {deny: [sudo]}\nagents:\n  codex: {network: {allow: [openai]}}\n", "acme/policies/guard.yml@v1"),
        )
        .beside(Role::Input, "allowed-endpoints", policy("version: 1\ndefaults:\n  network: {allow: [api.example]}\n", "allowed-endpoints"))
        .beside(Role::Proposed, ".github/guard.yml", policy("version: 1\ndefaults:\n  run: {allow: [curl]}\n", ".github/guard.yml"));
    let here = folder();
    fs::write(here.path().join("policy.lock.yml"), whole.lock()).expect("a file");
    let said = call(here.path(), &["policy", "explain", "policy.lock.yml", "build/test"]);
    assert_eq!((said.status, said.error.as_str()), (Some(0), ""));
    is_golden("policy-explain-beside.txt", &said.out);
}

#[test]
fn a_finding_is_explained_with_the_lines_that_silence_it() {
    let report = recorded("policy-violations");
    let said = call(report.path(), &["policy", "explain", ".", "run-undeclared"]);
    assert_eq!((said.status, said.error.as_str()), (Some(0), ""));
    is_golden("policy-explain-finding.txt", &said.out);
    // A fingerprint, or its beginning, is one of them.
    let fingerprint = said.out.lines().next().and_then(|line| line.strip_prefix("finding ")).expect("its id");
    let one = call(report.path(), &["policy", "explain", ".", &fingerprint[..8].to_uppercase()]).out;
    assert_eq!(one.matches("\nfinding ").count() + 1, 1, "{one}");
    assert!(one.starts_with(&format!("finding {fingerprint}\n")), "{one}");
}

#[test]
fn the_lines_that_are_said_to_silence_a_finding_do() {
    let report = recorded("make-poisoned");
    let explained = |policy: &str, what: &str| {
        call(report.path(), &["policy", "explain", policy, what, "--recording", "."])
    };
    for rule in ["cred-file-access", "egress-undeclared"] {
        let said = explained(".", rule);
        let lines: Vec<&str> = said
            .out
            .lines()
            .skip_while(|line| !line.contains("# .github/guard.yml"))
            .take_while(|line| line.starts_with("                "))
            .collect();
        let policy = lines.iter().map(|line| &line[16..]).collect::<Vec<_>>().join("\n");
        fs::write(report.path().join("new.yml"), &policy).expect("a file");
        let after = explained("new.yml", rule);
        assert_eq!(after.status, Some(0), "{policy}\n{}", after.error);
        assert!(
            after.out.contains("held back by an exception of this policy: why this is fine"),
            "{}",
            after.out
        );
        assert!(!after.out.contains("it fails the job"), "{}", after.out);
    }
}

#[test]
fn what_cannot_be_explained_is_said() {
    let here = folder();
    fs::write(here.path().join("guard.yml"), "version: 1\n").expect("a file");
    for (words, status, message) in [
        (&["guard.yml", "cred-file-access"][..], 2, "there is no recording to look for"),
        (&["missing.yml"], 125, "cannot read policy `missing.yml`"),
        (&["guard.yml", "x", "--recording", "missing"], 125, "cannot read recording `missing`"),
    ] {
        let said = call(here.path(), &[&["policy", "explain"], words].concat());
        assert_eq!((said.status, said.out.as_str()), (Some(status), ""), "{words:?}");
        assert!(said.error.contains(message), "{}", said.error);
    }
    let report = recorded("make-honest");
    let said = call(report.path(), &["policy", "explain", ".", "abcdef123456"]);
    assert_eq!(said.status, Some(2));
    assert!(said.error.contains("`abcdef123456` is no finding of ./evidence.jsonl"), "{}", said.error);
}

#[test]
fn a_replay_needs_no_root_and_exits_like_the_guard() {
    for name in ["policy-violations", "make-poisoned", "make-honest", "policy-kept"] {
        let copy = recorded(name);
        let from_folder = call(copy.path(), &["replay", "."]);
        assert_eq!((from_folder.status, from_folder.out.as_str()), (Some(expected_exit(name)), ""), "{name}");
        assert_eq!(call(copy.path(), &["replay", "evidence.jsonl"]), from_folder, "{name}: folder or file");
        assert_eq!(call(copy.path(), &["replay", "."]), from_folder, "{name}: twice the same");
        assert!(!from_folder.error.contains('\x1b'), "{name}: no colour without a terminal");
        let left: Vec<_> =
            fs::read_dir(copy.path()).expect("the folder").flatten().map(|entry| entry.file_name()).collect();
        assert_eq!(left.len(), 2, "{name}: a replay writes nothing unless asked: {left:?}");
    }
}

#[test]
fn a_replay_tells_a_theft_on_one_screen() {
    let copy = recorded("make-poisoned");
    assert_eq!(call(copy.path(), &["replay", "."]).error, golden("replay-make-poisoned.txt"));
}

#[test]
fn a_replay_can_judge_by_another_policy() {
    let copy = recorded("policy-kept");
    assert_eq!(call(copy.path(), &["replay", "."]).status, Some(0));
    let policy = "version: 1\ndefaults:\n  network: {deny: [\"203.0.113.0/24\"]}\n";
    fs::write(copy.path().join("strict.yml"), policy).expect("a file");
    let said = call(copy.path(), &["replay", ".", "--policy", "strict.yml"]);
    assert_eq!(said.status, Some(86));
    assert!(said.error.contains("which the policy denies: `203.0.113.0/24`"), "{}", said.error);
    // Without a policy beside it, a recording is compared with the step's own text.
    fs::remove_file(copy.path().join("policy.lock.yml")).expect("removed");
    assert_eq!(call(copy.path(), &["replay", "."]).status, Some(0));
    assert_eq!(call(copy.path(), &["replay", ".", "--policy", "missing.yml"]).status, Some(125));
}

#[test]
fn fail_on_decides_what_fails() {
    let attack = recorded("make-poisoned");
    // Severities of its failing findings: high at most, medium, low.
    let violations = recorded("policy-violations");
    for (word, attack_exits, violations_exit) in [
        ("none", 0, 0),
        ("low", 86, 86),
        ("medium", 86, 86),
        ("warning", 86, 86),
        ("high", 86, 86),
        ("error", 86, 86),
        ("critical", 0, 0),
    ] {
        assert_eq!(
            call(attack.path(), &["replay", ".", "--fail-on", word]).status,
            Some(attack_exits),
            "{word}"
        );
        let out = violations.path().join(word);
        let words = ["replay", ".", "--fail-on", word, "--report-dir", word];
        assert_eq!(call(violations.path(), &words).status, Some(violations_exit), "{word}");
        let report: serde_json::Value =
            serde_json::from_str(&fs::read_to_string(out.join("findings.json")).expect("a report"))
                .expect("JSON");
        let failing = report["findings"]
            .as_array()
            .expect("findings")
            .iter()
            .filter(|finding| finding["fails"] == true);
        let wanted = match word {
            "low" => 6,
            "medium" | "warning" => 5,
            "high" | "error" => 3,
            _ => 0,
        };
        assert_eq!(failing.count(), wanted, "{word}");
        assert_eq!(report["verdict"], "divergence", "{word}: the verdict is the same whatever fails");
    }
    for word in ["", "severe", "HIGH"] {
        let said = call(attack.path(), &["replay", ".", "--fail-on", word]);
        assert_eq!(said.status, Some(2), "{word}");
        assert!(said.error.contains("is not one of none, low, medium, high, critical"), "{}", said.error);
    }
}

#[test]
fn report_dir_gets_every_file_and_takes_no_link() {
    let copy = recorded("make-poisoned");
    let here = copy.path();
    assert_eq!(call(here, &["replay", ".", "--report-dir", "deep/report"]).status, Some(86));
    let mut files: Vec<String> = fs::read_dir(here.join("deep/report"))
        .expect("the report")
        .map(|entry| entry.expect("a file").file_name().into_string().expect("plain"))
        .collect();
    files.sort();
    assert_eq!(
        files,
        [
            "codequality.json",
            "findings.json",
            "gl-sast-report.json",
            "junit.xml",
            "report.html",
            "results.sarif",
            "summary.md"
        ]
    );
    // Again, over what is there.
    assert_eq!(call(here, &["replay", ".", "--report-dir", "deep/report"]).status, Some(86));

    fs::create_dir(here.join("victim")).expect("a folder");
    std::os::unix::fs::symlink("victim", here.join("link")).expect("a link");
    for spelling in ["link", "link/"] {
        let said = call(here, &["replay", ".", "--report-dir", spelling]);
        assert_eq!(
            (said.status, said.error.as_str()),
            (Some(125), "error: cannot write `link`: it is a symbolic link, not a directory\n")
        );
    }
    assert_eq!(fs::read_dir(here.join("victim")).expect("the folder").count(), 0);

    fs::write(here.join("precious"), "mine").expect("a file");
    fs::remove_file(here.join("deep/report/summary.md")).expect("removed");
    std::os::unix::fs::symlink("../../precious", here.join("deep/report/summary.md")).expect("a link");
    let said = call(here, &["replay", ".", "--report-dir", "deep/report"]);
    assert_eq!(
        (said.status, said.error.as_str()),
        (Some(125), "error: cannot write `deep/report/summary.md`: it is not a regular file\n")
    );
    assert_eq!(fs::read_to_string(here.join("precious")).expect("the file"), "mine");

    let said = call(here, &["replay", ".", "--report-dir", "precious"]);
    assert_eq!(said.status, Some(125), "{}", said.error);
}

#[test]
fn a_recording_that_cannot_be_trusted_is_refused_by_its_record() {
    let copy = recorded("make-honest");
    let path = copy.path().join("evidence.jsonl");
    let lines: Vec<String> =
        fs::read_to_string(&path).expect("a recording").lines().map(str::to_owned).collect();
    let write = |lines: &[String]| fs::write(&path, lines.join("\n") + "\n").expect("written");
    let mut edited = lines.clone();
    edited[20] = edited[20].replace("\"time\":1", "\"time\":2");
    write(&edited);
    assert_eq!(
        call(copy.path(), &["replay", "."]),
        Said {
            status: Some(125),
            out: String::new(),
            error: "error: the recording `./evidence.jsonl` cannot be trusted: record 21 does not follow the one before: \
                    record 20 was edited\n\
                    hint: judge a copy that nothing has changed\n"
                .to_owned(),
        }
    );
    write(&lines[..lines.len() - 1]);
    let said = call(copy.path(), &["replay", "."]);
    assert_eq!(said.status, Some(125), "without its end a recording is blind");
    assert!(said.error.contains("the recording has no end"), "{}", said.error);
    fs::write(&path, "").expect("written");
    let said = call(copy.path(), &["replay", "."]);
    assert_eq!(said.status, Some(125));
    assert!(said.error.contains("the recording is empty"), "{}", said.error);
    fs::write(&path, b"\xff\xfe\0\n").expect("written");
    assert_eq!(call(copy.path(), &["replay", "."]).status, Some(125));
    fs::remove_file(&path).expect("removed");
    let said = call(copy.path(), &["replay", "."]);
    assert_eq!(said.status, Some(125));
    assert!(said.error.starts_with("error: cannot read recording `./evidence.jsonl`: "), "{}", said.error);
}

#[test]
fn every_command_has_a_help_text() {
    let here = folder();
    for words in [&[][..], &["run"], &["replay"], &["policy"], &["policy", "check"], &["rules"], &["doctor"]]
    {
        let said = call(here.path(), &[words, &["--help"]].concat());
        assert_eq!((said.status, said.error.as_str()), (Some(0), ""), "{words:?}");
        let usage = format!("Usage: edamame-guard {}", words.join(" "));
        assert!(said.out.contains(usage.trim_end()), "{words:?}: {}", said.out);
        let first = said.out.lines().next().unwrap_or_default();
        assert!(
            !first.is_empty() && !first.starts_with("Usage"),
            "{words:?} opens by saying what it does: {first}"
        );
        assert!(said.out.lines().all(|line| line.chars().count() <= 100), "{words:?}: {}", said.out);
    }
    let said = call(here.path(), &["--version"]);
    assert_eq!(said.out, format!("edamame-guard {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn wrong_usage_exits_2_and_touches_nothing() {
    let here = folder();
    for words in [
        &[][..],
        &["run"],
        &["run", "--"],
        &["run", "--odd", "--", "true"],
        &["run", "--mode", "odd", "--", "true"],
        &["run", "--sensor", "odd", "--", "true"],
        &["run", "--on-unsupported", "odd", "--", "true"],
        &["start", "--sensor", "seccomp"],
        &["run", "--sensor", "seccomp", "--", "true"],
        &["start", "--sensor", "procfs", "--ring-size", "64k"],
        &["run", "--sensor", "procfs", "--ring-size", "64k", "--", "true"],
        &["replay"],
        &["policy"],
        &["policy", "check"],
        &["odd"],
    ] {
        let said = call(here.path(), words);
        assert_eq!((said.status, said.out.as_str()), (Some(2), ""), "{words:?}");
        assert!(!said.error.is_empty(), "{words:?}");
    }
    assert_eq!(fs::read_dir(here.path()).expect("the folder").count(), 0);
}

#[test]
fn blocking_is_refused_before_anything_runs() {
    let here = folder();
    fs::write(here.path().join("block.yml"), "version: 1\nmode: block\n").expect("a file");
    let expected = Said {
        status: Some(125),
        out: String::new(),
        error: "error: mode `block` is not available yet, so nothing was started\n\
                hint: use `--mode audit`, or remove `mode: block` from the policy, to detect and report\n"
            .to_owned(),
    };
    assert_eq!(call(here.path(), &["run", "--mode", "block", "--", "touch", "ran"]), expected);
    assert_eq!(call(here.path(), &["run", "--policy", "block.yml", "--", "touch", "ran"]), expected);
    assert!(!here.path().join("ran").exists());
}

#[test]
fn a_closed_pipe_is_no_error() {
    let here = folder();
    let mut child = guard(here.path())
        .args(["rules", "cred-file-access"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the guard starts");
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut error).expect("UTF-8");
    let status = child.wait().expect("a status");
    assert_eq!((status.code(), error.as_str()), (Some(0), ""));

    // The same for what is said to people.
    let copy = recorded("make-poisoned");
    let mut child =
        guard(copy.path()).args(["replay", "."]).stderr(Stdio::piped()).spawn().expect("the guard starts");
    drop(child.stderr.take());
    assert_eq!(child.wait().expect("a status").code(), Some(86));
}

#[test]
fn reports_belong_to_whoever_called_sudo() {
    use std::os::unix::fs::MetadataExt as _;
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: reports_belong_to_whoever_called_sudo needs root");
        return;
    }
    let copy = recorded("npm-poisoned");
    let owners = |name: &str| -> Vec<(String, (u32, u32))> {
        let mut all = vec![(name.to_owned(), copy.path().join(name))];
        let entries = fs::read_dir(copy.path().join(name)).expect("a folder").flatten();
        all.extend(entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())));
        let owner = |path: &Path| {
            fs::symlink_metadata(path).map(|about| (about.uid(), about.gid())).expect("it is there")
        };
        all.into_iter().map(|(name, path)| (name, owner(&path))).collect()
    };
    fs::create_dir(copy.path().join("old")).expect("a folder");
    for folder in ["new", "old"] {
        let status = guard(copy.path())
            .args(["replay", ".", "--report-dir", folder])
            .env("SUDO_UID", "12345")
            .env("SUDO_GID", "54321")
            .status()
            .expect("the guard starts");
        assert_eq!(status.code(), Some(86));
        let owners = owners(folder);
        assert!(owners.len() > 7, "{owners:?}");
        for (name, owner) in owners {
            // A folder that was there is its owner's.
            let expected = if name == "old" { (0, 0) } else { (12345, 54321) };
            assert_eq!(owner, expected, "{name}");
        }
    }
}

#[test]
fn agents_are_listed_for_people_and_programs_and_no_secret_is_told() {
    let place = tempfile::tempdir().expect("a folder");
    let write = |path: &str, text: &str| {
        let path = place.path().join(path);
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        std::fs::write(path, text).expect("written");
    };
    let package = "n/node_modules/@anthropic-ai/claude-code";
    write(&format!("{package}/bin/claude"), "abc");
    write(&format!("{package}/package.json"), r#"{"version": "9.9.9"}"#);
    write("home/.claude/settings.json", "{\"env\": {\"API_TOKEN\": \"not-a-real-one\"}}");
    write("work/.mcp.json", "{\"mcpServers\": {\n\"docs\": {\"command\": \"uvx\", \"args\": [\"docs\"]}}}");
    write("work/.gemini/settings.json", "{\n \"tools\": [\n}");
    let agents = |words: &[&str]| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_edamame-guard"))
            .arg("agents")
            .args(words)
            .env_clear()
            .env("HOME", place.path().join("home"))
            .env("PATH", place.path().join(package).join("bin"))
            .current_dir(place.path().join("work"))
            .output()
            .expect("the guard starts");
        assert_eq!(output.status.code(), Some(0));
        String::from_utf8(output.stdout).expect("UTF-8")
    };
    let table = agents(&[]);
    for wanted in [
        "Claude Code     9.9.9",
        "a secret under env.API_TOKEN (line 1)",
        "docs            uvx docs\n",
        ".mcp.json:2, for claude-code, copilot",
        "its package has no version, so the newest is fetched and run [agent-unpinned-server]",
        "not read: line 3, column 1: this is no value",
    ] {
        assert!(table.contains(wanted), "{wanted}\n{table}");
    }
    let json = agents(&["--json"]);
    let document: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(document["schema"], "edamame-guard/agents/v1");
    let of_place = |list: &str| {
        let entries = document[list].as_array().expect("a list").clone();
        let root = place.path().to_string_lossy().into_owned();
        entries.into_iter().filter(|entry| entry.to_string().contains(&root)).count()
    };
    assert_eq!((of_place("agents"), of_place("servers")), (1, 2), "{json}");
    assert!(of_place("issues") >= 3, "{json}");
    assert!(!table.contains("not-a-real-one") && !json.contains("not-a-real-one"));
}

#[test]
fn a_hook_never_holds_an_agent_up() {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    let began = std::time::Instant::now();
    for (words, text) in [
        (&["--agent", "claude-code", "--to", "/nowhere/x.sock"][..], &b"{\"tool_name\": \"Bash\"}"[..]),
        (&["--agent", "claude-code"], b"\xff\x00 no JSON"),
        (&[], b""),
        (&["--agent", "x", "--to", "/", "and", "--more"], b"{}"),
    ] {
        let mut hook = Command::new(env!("CARGO_BIN_EXE_edamame-guard"))
            .arg("hook")
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the guard starts");
        let mut pipe = hook.stdin.take().expect("piped");
        let _ = pipe.write_all(text);
        // The pipe stays open for the second one, as if the agent forgot it.
        let kept = text.contains(&0xff).then_some(pipe);
        let output = hook.wait_with_output().expect("it ends");
        drop(kept);
        assert_eq!(output.status.code(), Some(0), "{words:?}");
        assert!(output.stdout.is_empty() && output.stderr.is_empty(), "{words:?}");
    }
    assert!(began.elapsed().as_secs() < 30, "{:?}", began.elapsed());
}
