//! Judges the recording of every corpus scenario again: attacks are told by their family's rule, benign jobs stay quiet.
//!
//! What is not so yet is in `fixtures/corpus/known.json` by name, with the reason, and is printed.
//! `fixtures/corpus/run.py --record` makes the recordings.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;

use edamame_guard::finding::{Report, Severity};
use edamame_guard::policy::Policy;
use edamame_guard::run::judge;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/corpus")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The `# key: words` lines on top of a scenario, by key.
fn header(text: &str) -> BTreeMap<&str, &str> {
    let lines = text.lines().map_while(|line| line.strip_prefix("# "));
    lines.filter_map(|line| line.split_once(": ")).collect()
}

/// The names in a folder, without what `ending` is.
fn names(folder: &str, ending: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(corpus().join(folder))
        .expect("a folder of the corpus")
        .map(|entry| entry.expect("a readable entry").file_name().into_string().expect("a plain name"))
        .map(|name| {
            name.strip_suffix(ending).unwrap_or_else(|| panic!("{name} ends with {ending}")).to_owned()
        })
        .collect();
    names.sort();
    names
}

fn listed(name: &str) -> BTreeMap<String, String> {
    serde_json::from_str(&read(&corpus().join(name))).expect("a list of reasons by name")
}

/// The report of a recording, as `replay` makes it.
fn judged(name: &str) -> Report {
    let folder = corpus().join("recordings").join(name);
    let lock = folder.join("policy.lock.yml");
    let policy = Policy::parse(&read(&lock), lock.to_str().expect("a plain path"))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    judge(std::io::Cursor::new(read(&folder.join("evidence.jsonl"))), policy, None)
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// What differs from what the scenario expects.
fn difference(header: &BTreeMap<&str, &str>, report: &Report) -> Option<String> {
    let told = |least: Severity| {
        let mut told: Vec<_> = report
            .findings
            .iter()
            .filter(|finding| finding.severity >= least)
            .map(|finding| format!("{} {} {}", finding.severity.as_str(), finding.rule, finding.object))
            .collect();
        told.sort();
        told.join("; ")
    };
    if header["kind"] == "benign" {
        let told = told(Severity::Medium);
        return match (told.as_str(), report.exit.guard, report.exit.command) {
            ("", 0, Some(0)) => None,
            ("", guard, command) => Some(format!("exit: guard {guard}, command {command:?}")),
            _ => Some(told),
        };
    }
    let least = [Severity::Low, Severity::Medium, Severity::High, Severity::Critical]
        .into_iter()
        .find(|severity| severity.as_str() == header["expect"])
        .expect("a severity");
    let is_told = report
        .findings
        .iter()
        .any(|finding| finding.rule.0 == header["family"] && (finding.fails || finding.severity >= least));
    (!is_told).then(|| format!("nothing from {}, but: {}", header["family"], told(Severity::Low)))
}

#[test]
fn every_recording_is_told_as_its_scenario_expects() {
    let known = listed("known.json");
    let names = names("recordings", "");
    assert!(names.len() >= 20, "{names:?}");
    let halves = names.split_at(names.len() / 2);
    let differences: BTreeMap<String, String> = thread::scope(|scope| {
        let judges = [halves.0, halves.1].map(|names| {
            scope.spawn(move || {
                names
                    .iter()
                    .filter_map(|name| {
                        let scenario = read(&corpus().join(format!("scenarios/{name}.sh")));
                        Some((name.clone(), difference(&header(&scenario), &judged(name))?))
                    })
                    .collect::<Vec<_>>()
            })
        });
        judges.into_iter().flat_map(|judge| judge.join().expect("a judge that ends")).collect()
    });
    for (name, reason) in &known {
        match differences.get(name) {
            Some(difference) => println!("known: {name}: {reason} ({difference})"),
            None => println!("no longer so, take it off known.json: {name}: {reason}"),
        }
    }
    let unknown: Vec<_> = differences
        .iter()
        .filter(|(name, _)| !known.contains_key(*name))
        .map(|(name, difference)| format!("{name}: {difference}"))
        .collect();
    println!("{} recordings, {} as expected", names.len(), names.len() - differences.len());
    assert!(unknown.is_empty(), "{}", unknown.join("\n"));
}

#[test]
fn every_scenario_is_recorded_and_every_reason_names_one() {
    let scenarios = names("scenarios", ".sh");
    assert_eq!(scenarios, names("recordings", ""));
    for name in listed("known.json").keys() {
        assert!(scenarios.contains(name), "known.json names {name}, which is no scenario");
    }
    for (name, reason) in &listed("not-here.json") {
        assert!(!scenarios.contains(name), "not-here.json names {name}, which is a scenario");
        assert!(!reason.is_empty(), "{name} needs a reason");
    }
}

#[test]
fn recordings_are_small_and_hold_nothing_of_the_machine_that_made_them() {
    let mut size = 0;
    for name in names("recordings", "") {
        let text = read(&corpus().join("recordings").join(&name).join("evidence.jsonl"));
        size += text.len();
        assert!(text.len() < 550_000, "{name}: {} bytes", text.len());
        for home in ["\"/root/", "\"/home/"] {
            assert!(!text.contains(home), "{name} names {home}");
        }
    }
    assert!(size < 26_000_000, "{size} bytes");
}
