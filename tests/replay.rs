//! `replay` of many recordings, of two compared, and as events for others; `policy learn` from what can be trusted.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use common::{GUARD, Place, text};

fn fixture(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name);
    path.to_str().expect("a plain path").to_owned()
}

fn guard(words: &[&str]) -> Output {
    Command::new(GUARD).args(words).output().expect("the guard starts")
}

#[test]
fn many_recordings_are_judged_in_their_order_with_a_line_each() {
    let folder = tempfile::tempdir().expect("a folder");
    let bad = folder.path().join("bad.jsonl");
    fs::write(&bad, "{}\n").expect("written");
    let names: Vec<String> = ["npm-honest", "npm-poisoned", "make-honest", "npm-honest"].map(fixture).into();
    let reports = folder.path().join("reports");
    let mut words = vec!["replay", "--report-dir", reports.to_str().expect("plain")];
    words.extend(names.iter().map(String::as_str));
    let output = guard(&words);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(86), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 5, "{said}");
    assert!(
        lines[0].starts_with("  0 clean      0 failing, 0 notes  ") && lines[0].ends_with("npm-honest"),
        "{said}"
    );
    assert!(
        lines[1].starts_with(" 86 attack     2 failing, ") && lines[1].contains("cred-file-access"),
        "{said}"
    );
    assert_eq!(lines[4], "4 recordings: 3 pass, 1 fail, 0 can't be judged");
    for name in ["npm-honest", "npm-poisoned", "make-honest", "npm-honest-2"] {
        assert!(reports.join(name).join("findings.json").is_file(), "{name}");
    }
    // Each report is that of the recording alone.
    let alone = folder.path().join("alone");
    guard(&["replay", &names[1], "--report-dir", alone.to_str().expect("plain")]);
    let read = |path: PathBuf| fs::read_to_string(path.join("findings.json")).expect("a report");
    assert_eq!(read(reports.join("npm-poisoned")), read(alone));
    assert!(output.stderr.is_empty(), "nobody watches: {}", text(&output.stderr));
    // One that can't be judged is worse than one that fails, and stops no other.
    let output = guard(&["replay", bad.to_str().expect("plain"), &names[1], &names[0]]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(125), "{said}");
    assert!(
        said.starts_with("125 unjudged   ") && said.ends_with("1 pass, 1 fail, 1 can't be judged\n"),
        "{said}"
    );
}

#[test]
fn two_runs_are_compared_by_what_they_did() {
    let (bad, good) = (fixture("npm-poisoned"), fixture("npm-honest"));
    let output = guard(&["replay", &bad, "--diff", &good]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(86), "{said}");
    for line in ["  + /usr/bin/curl", "  + 203.0.113.7:8080"] {
        assert!(said.lines().any(|known| known == line), "{line}\n{said}");
    }
    assert!(
        !said.lines().any(|line| line.starts_with("  + ") && line.ends_with("/node")),
        "both ran it: {said}"
    );
    let turned = text(&guard(&["replay", &good, "--diff", &bad]).stdout);
    assert!(turned.lines().any(|line| line == "  - /usr/bin/curl"), "{turned}");
    let same = guard(&["replay", &good, "--diff", &good]);
    assert_eq!(same.status.code(), Some(0));
    assert!(!text(&same.stdout).contains("  + "), "{}", text(&same.stdout));
    assert_eq!(guard(&["replay", &good, &bad, "--diff", &good]).status.code(), Some(2));
    assert_eq!(guard(&["replay", &good, "--diff", &bad, "--format", "ocsf"]).status.code(), Some(2));
}

/// The class of the schema that an event says it is of.
fn class(event: &Value) -> &'static str {
    match event["class_uid"].as_u64() {
        Some(1001) => "file_activity",
        Some(1007) => "process_activity",
        Some(2004) => "detection_finding",
        Some(4001) => "network_activity",
        Some(4003) => "dns_activity",
        other => panic!("no class of ours: {other:?}"),
    }
}

#[test]
fn events_and_findings_are_what_ocsf_says() {
    let schema: Value = serde_json::from_str(include_str!("ocsf.schema.json")).expect("JSON");
    let validator = |class: &str| {
        let mut schema = schema.clone();
        schema["$ref"] = format!("#/$defs/class_{class}").into();
        jsonschema::validator_for(&schema).expect("a schema")
    };
    let names =
        ["file_activity", "process_activity", "detection_finding", "network_activity", "dns_activity"];
    let validators: Vec<_> = names.iter().map(|name| (*name, validator(name))).collect();
    let mut counts = std::collections::BTreeMap::new();
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/corpus/recordings");
    let mut recordings: Vec<PathBuf> =
        ["npm-poisoned", "policy-violations", "make-honest"].map(fixture).map(PathBuf::from).into();
    recordings
        .extend(fs::read_dir(corpus).into_iter().flatten().flatten().map(|entry| entry.path()).take(25));
    for recording in &recordings {
        let output = guard(&["replay", recording.to_str().expect("plain"), "--format", "ocsf"]);
        assert!(
            [Some(0), Some(86)].contains(&output.status.code()),
            "{}: {}",
            recording.display(),
            text(&output.stderr)
        );
        for line in text(&output.stdout).lines() {
            let event: Value = serde_json::from_str(line).expect("an object a line");
            let class = class(&event);
            *counts.entry(class).or_insert(0) += 1;
            let (_, validator) = validators.iter().find(|(name, _)| *name == class).expect("a validator");
            let errors: Vec<String> = validator
                .iter_errors(&event)
                .map(|error| format!("{} {error}", error.instance_path()))
                .collect();
            assert!(errors.is_empty(), "{}: {errors:#?}\n{event:#}", recording.display());
        }
    }
    println!("{counts:?}");
    for class in ["file_activity", "process_activity", "detection_finding", "network_activity"] {
        assert!(counts.get(class).is_some_and(|count| *count > 0), "{class}: {counts:?}");
    }
    // Its twin: what the schema does not know is refused, so the test can fail.
    let (_, finding) = &validators[2];
    assert!(!finding.is_valid(&serde_json::json!({"class_uid": 2004})));
}

#[test]
fn a_policy_is_learned_from_what_can_be_trusted() {
    let place = Place::new("");
    let output = place.run(&["--sensor", "procfs"], &["/bin/sleep", "0.1"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let learn =
        |words: &[&str]| place.command(&[&["policy", "learn"], words].concat()).output().expect("it starts");
    let learned = learn(&["../report"]);
    assert_eq!(learned.status.code(), Some(0), "{}", text(&learned.stderr));
    assert!(learned.stderr.is_empty(), "it is signed: {}", text(&learned.stderr));
    assert!(text(&learned.stdout).starts_with("# Rests on 1 run of 20"), "{}", text(&learned.stdout));
    // Twice the same run is two runs, and the order counts for nothing.
    let twice = learn(&["../report", "../report"]);
    assert!(text(&twice.stdout).starts_with("# Rests on 2 runs of 20"), "{}", text(&twice.stdout));
    // One from before there were signatures is taken, and said.
    let old = learn(&[&fixture("make-honest")]);
    assert_eq!(old.status.code(), Some(0));
    assert!(text(&old.stderr).contains("is not signed"), "{}", text(&old.stderr));
    for (file, change) in [("policy.lock.yml", "version: 1\n"), ("evidence.sig", "{}")] {
        let path = place.root.path().join("report").join(file);
        let before = fs::read(&path).expect("a file");
        fs::write(&path, change).expect("written");
        let refused = learn(&["../report"]);
        assert_eq!(refused.status.code(), Some(125), "{file}");
        assert!(refused.stdout.is_empty() && text(&refused.stderr).contains("cannot be trusted"), "{file}");
        fs::write(&path, before).expect("written");
    }
    fs::remove_file(place.root.path().join("report/evidence.sig")).expect("removed");
    let refused = learn(&["../report"]);
    assert!(
        text(&refused.stderr).contains("there is no evidence.sig beside it"),
        "{}",
        text(&refused.stderr)
    );
}

#[test]
fn what_was_learned_is_merged_into_a_policy() {
    let folder = tempfile::tempdir().expect("a folder");
    let policy = folder.path().join("guard.yml");
    fs::write(&policy, "# Ours.\nversion: 1\ndefaults:\n  run: {allow: [sh]}\n").expect("written");
    let path = policy.to_str().expect("plain");
    let recording = fixture("npm-honest");
    let merged = guard(&["policy", "learn", "--merge", path, &recording]);
    let said = text(&merged.stdout);
    assert_eq!(merged.status.code(), Some(0), "{}", text(&merged.stderr));
    assert!(said.starts_with("# Ours.\nversion: 1\ndefaults:\n  run: {allow: [sh, "), "{said}");
    assert!(!said.contains("network"), "what is open stays open: {said}");
    fs::write(&policy, &said).expect("written");
    let judged = guard(&["replay", &recording, "--policy", path]);
    assert_eq!(judged.status.code(), Some(0), "{said}\n{}", text(&judged.stderr));
    let again = guard(&["policy", "learn", "--merge", path, &recording]);
    assert_eq!(text(&again.stdout), said, "again it is the same");
}

#[test]
fn shells_and_man_are_told_of_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let output = guard(&["completions", shell]);
        let said = text(&output.stdout);
        assert!(
            output.status.success() && said.contains("replay") && said.contains("report-dir"),
            "{shell}: {said}"
        );
    }
    let page = text(&guard(&["man"]).stdout);
    assert!(page.contains(".TH") && page.contains("verify"), "{page}");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("man");
    assert!(guard(&["man", path.to_str().expect("plain")]).status.success());
    assert!(fs::read_dir(&path).expect("pages").count() > 10);
    assert_eq!(guard(&["completions", "cmd.exe"]).status.code(), Some(2));
}

#[test]
fn who_looks_on_is_told_while_it_happens() {
    let place = Place::new("");
    let output = place.run(&["--sensor", "procfs", "--watch"], &["/bin/sh", "-c", "sleep 0.5; sleep 0.4"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    let line =
        said.lines().find(|line| line.starts_with("guard ")).unwrap_or_else(|| panic!("no line: {said}"));
    assert!(line.contains(" s  step    local/run"), "{said}");
    assert!(!said.contains('\u{1b}'), "no colour where nobody sees it: {said}");
    let quiet = place.run(&["--sensor", "procfs"], &["/bin/true"]);
    assert!(!text(&quiet.stderr).contains("guard  "), "{}", text(&quiet.stderr));
}
