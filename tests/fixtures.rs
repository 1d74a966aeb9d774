//! Judges every recording of `fixtures/` again and compares with what the live run reported.
//!
//! Nothing here writes an `expected.txt`: `fixtures/record.sh` makes it from the live run's report.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use edamame_guard::engine::Input;
use edamame_guard::evidence::{BadRecord, SCHEMA, Writer};
use edamame_guard::finding::{Finding, Report, Verdict};
use edamame_guard::policy::Policy;
use edamame_guard::run::judge;

fn folders() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut folders: Vec<PathBuf> = fs::read_dir(root)
        .expect("fixtures/ is there")
        .map(|entry| entry.expect("a readable folder").path())
        // Others look at these: `tests/first_run.rs`, `tests/corpus.rs`, `tests/agents.rs`.
        .filter(|path| {
            path.is_dir()
                && !["first-run", "corpus", "atomics", "agents"].iter().any(|name| path.ends_with(name))
        })
        .collect();
    folders.sort();
    folders
}

fn read(folder: &Path, name: &str) -> String {
    let path = folder.join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The policy that was applied to the live run.
fn policy(folder: &Path) -> Policy {
    let path = folder.join("policy.lock.yml");
    let path = path.to_str().expect("a plain path");
    Policy::parse(&read(folder, "policy.lock.yml"), path).unwrap_or_else(|error| panic!("{error}"))
}

fn judged(folder: &Path, recording: &[u8]) -> Result<Report, BadRecord> {
    judge(std::io::Cursor::new(recording), policy(folder), None)
}

/// The report in the words of `expected.txt`; see the end of `fixtures/record.sh`.
fn told(report: &Report) -> String {
    let number = |number: Option<u8>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    let exit = report.exit;
    let status = match (exit.guard, exit.signal) {
        (0, Some(signal)) => 128 + signal,
        (0, None) => exit.command.unwrap_or(1),
        (guard, _) => guard,
    };
    let mut text = format!(
        "verdict {}\nexit {status}\nguard {}, command {}, signal {}\nfail-on {}\ncoverage {}, lost {}\n",
        report.verdict.as_str(),
        exit.guard,
        number(exit.command),
        number(exit.signal),
        report.fail_on.as_str(),
        report.coverage.state.as_str(),
        report.coverage.lost_events,
    );
    report.findings.iter().for_each(|finding| text += &told_finding(finding));
    text
}

fn told_finding(finding: &Finding) -> String {
    let mut text = format!(
        "\n{} {} {} {}{} x{}\n",
        finding.rule,
        finding.kind.as_str(),
        finding.severity.as_str(),
        finding.confidence.as_str(),
        if finding.fails { " fails" } else { "" },
        finding.count,
    );
    let chain = finding
        .process
        .iter()
        .chain(&finding.ancestry)
        .map(|process| process.executable.rsplit('/').next().unwrap_or_default())
        .collect::<Vec<_>>()
        .join(" < ");
    let declared = finding.declared.as_deref().unwrap_or("-");
    let more = finding.more_objects.iter().map(|object| ("and", object.as_str()));
    let lines = [
        ("title", finding.title.as_str()),
        ("step", &finding.step.0),
        ("object", &finding.object),
        ("declared", declared),
    ];
    let ends = [("chain", chain.as_str()), ("fingerprint", &finding.fingerprint)];
    for (name, value) in lines.into_iter().chain(more).chain(ends) {
        let _ = writeln!(text, "  {name:<11} {value}");
    }
    text
}

#[test]
fn every_recording_is_judged_as_the_live_run_was() {
    let folders = folders();
    assert!(folders.len() >= 8, "{folders:?}");
    let mut misses = Vec::new();
    for folder in folders {
        let recording = read(&folder, "evidence.jsonl");
        let report = judged(&folder, recording.as_bytes())
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let (expected, seen) = (read(&folder, "expected.txt"), told(&report));
        if expected != seen {
            misses.push(format!("--- {}\nexpected:\n{expected}\nseen:\n{seen}", folder.display()));
        }
    }
    assert!(misses.is_empty(), "{}", misses.join("\n"));
}

#[test]
fn attacks_are_named_and_honest_jobs_have_no_finding() {
    for folder in folders() {
        let name = folder.file_name().and_then(|name| name.to_str()).expect("a plain name");
        let expected = read(&folder, "expected.txt");
        let verdict = expected.lines().next().expect("a verdict");
        let wanted = match name {
            name if name.ends_with("-poisoned") || name.ends_with("-theft") => "verdict attack",
            "policy-violations" => "verdict divergence",
            _ => "verdict clean",
        };
        assert_eq!(verdict, wanted, "{name}");
        assert_eq!(
            verdict == "verdict clean",
            expected.lines().count() == 5,
            "{name}: a clean run has no finding"
        );
    }
}

#[test]
fn recordings_are_small_and_hold_nothing_of_the_machine_that_made_them() {
    for folder in folders() {
        let text = read(&folder, "evidence.jsonl");
        assert!(text.len() < 550_000, "{}: {} bytes", folder.display(), text.len());
        assert!(!text.contains(r#""fact":"registry""#), "{}", folder.display());
        for home in ["\"/root/", "\"/home/"] {
            assert!(!text.contains(home), "{} names {home}", folder.display());
        }
    }
}

/// A recording of an attack as lines without their newline, for damaging.
struct Recording {
    lines: Vec<String>,
    /// Which line is the end record; a footer may follow.
    end: usize,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/policy-violations")
}

impl Recording {
    fn new(text: &str) -> Self {
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let end = lines.iter().rposition(|line| line.contains(r#","type":"end","#)).expect("an end record");
        Self { lines, end }
    }

    /// As it was recorded, without a footer, and as it is written today, with one.
    fn both() -> [Self; 2] {
        let text = read(&folder(), "evidence.jsonl");
        let mut writer = Writer::new(Vec::new());
        edamame_guard::evidence::read(text.as_bytes(), |_, mut input| {
            if let Input::Start(start) = &mut input {
                SCHEMA.clone_into(&mut start.schema);
            }
            writer.append(&input).expect("written");
        })
        .expect("a whole recording");
        let today = String::from_utf8(writer.finish().expect("written")).expect("text");
        let both = [Self::new(&text), Self::new(&today)];
        assert!(both.iter().any(|it| it.end + 1 < it.lines.len()), "one has a footer");
        both
    }

    /// What is said of it after `damage`.
    fn damaged(&self, damage: impl FnOnce(&mut Vec<String>)) -> Result<Report, String> {
        let mut lines = self.lines.clone();
        damage(&mut lines);
        let recording = lines.iter().fold(String::new(), |text, line| text + line + "\n");
        judged(&folder(), recording.as_bytes()).map_err(|error| error.to_string())
    }

    #[track_caller]
    fn refused(&self, record: usize, damage: impl FnOnce(&mut Vec<String>)) {
        let said =
            self.damaged(damage).map(|report| told(&report)).expect_err("a damaged recording is refused");
        assert!(said.starts_with(&format!("record {record} ")), "should name record {record}: {said}");
    }
}

#[test]
fn a_whole_recording_is_accepted() {
    let [older, today] = Recording::both()
        .map(|recording| recording.damaged(|_| {}).map(|report| told(&report)).expect("a whole recording"));
    assert_eq!(older, today, "a footer changes no verdict");
}

#[test]
fn an_edited_record_is_refused_by_its_number() {
    for recording in Recording::both() {
        let connects = recording
            .lines
            .iter()
            .position(|line| line.contains(r#""to":"203.0.113.9:8080""#))
            .expect("the denied connection");
        let edit = |lines: &mut Vec<String>, from: &str, to: &str| {
            lines[connects] = lines[connects].replace(from, to);
        };
        // The digest in the next record tells.
        recording.refused(connects + 1, |lines| edit(lines, "203.0.113.9", "203.0.113.7"));
        recording.refused(connects, |lines| lines[connects].insert(0, 'x'));
        recording.refused(connects, |lines| lines[connects].clear());
        recording.refused(connects, |lines| edit(lines, "\"connect\"", "\"greet\""));
        recording.refused(1, |lines| lines[0] = lines[0].replace("\"uid\":0", "\"uid\":1"));
    }
}

#[test]
fn removed_inserted_and_moved_records_are_refused_by_their_number() {
    for recording in Recording::both() {
        recording.refused(0, |lines| drop(lines.remove(0)));
        let last = recording.lines.len() - 1;
        for record in [1, 17, last / 2, last - 1] {
            recording.refused(record, |lines| drop(lines.remove(record)));
            recording.refused(record + 1, |lines| lines.insert(record, lines[record].clone()));
            recording.refused(record, |lines| lines.swap(record, record + 1));
            recording.refused(record, |lines| lines[record].truncate(40));
        }
    }
}

#[test]
fn a_recording_that_stops_in_a_line_is_refused_by_its_number() {
    for recording in Recording::both() {
        let whole = &recording.lines;
        for record in [1, whole.len() / 2, recording.end, whole.len() - 1] {
            recording.refused(record, |lines| {
                lines.truncate(record + 1);
                lines[record].truncate(whole[record].len() / 2);
            });
        }
    }
}

#[test]
fn a_recording_without_an_end_is_told_as_blind_and_keeps_what_was_seen() {
    for recording in Recording::both() {
        for kept in [recording.end, recording.end / 2, 1] {
            let report = recording.damaged(|lines| lines.truncate(kept)).expect("its records are whole");
            assert_eq!(
                (report.exit.guard, report.coverage.state.as_str()),
                (125, "blind"),
                "{kept} records kept"
            );
            assert!(
                report.coverage.gaps.iter().any(|gap| gap.contains("the recording has no end")),
                "{:?}",
                report.coverage.gaps
            );
            let expected = if kept == recording.end { Verdict::Divergence } else { report.verdict };
            assert_eq!(report.verdict, expected, "what was seen still counts");
            assert_ne!(report.verdict, Verdict::Clean);
        }
    }
}

#[test]
fn an_end_without_the_footer_that_belongs_to_it_is_refused() {
    let [_, today] = Recording::both();
    today.refused(today.end + 1, |lines| lines.truncate(today.end + 1));
}

#[test]
fn an_empty_or_foreign_recording_is_refused() {
    let said = |text: &str| {
        judge(std::io::Cursor::new(text), Policy::absent(), None).expect_err("refused").to_string()
    };
    assert_eq!(said(""), "the recording is empty");
    assert!(said("\n").starts_with("record 0 is not one of ours"));
    assert!(said("{}\n").starts_with("record 0 is not one of ours"));
    for (recording, version) in Recording::both().iter().zip(["v1", "v3"]) {
        let known = format!("edamame-guard/evidence/{version}");
        assert!(recording.lines[0].contains(&known), "{version}");
        let other = recording.lines[0].replace(&known, "edamame-guard/evidence/v9");
        assert!(said(&other).contains("does not open with"), "{}", said(&other));
    }
}

/// A policy that was learned from a recording explains it: what still fails is what was left out.
#[test]
fn a_policy_learned_from_a_recording_explains_it() {
    for folder in folders() {
        let recording = fs::read(folder.join("evidence.jsonl")).expect("a recording");
        let report =
            judge(std::io::Cursor::new(&recording[..]), Policy::absent(), None).expect("a whole recording");
        let learned = edamame_guard::policy::learn(&[&report]);
        assert_eq!(learned, edamame_guard::policy::learn(&[&report]), "the same text every time");
        let policy =
            Policy::parse(&learned, "learned.yml").unwrap_or_else(|error| panic!("{error}\n{learned}"));
        let again = judge(std::io::Cursor::new(&recording[..]), policy, None).expect("a whole recording");
        let is_known = |finding: &Finding| {
            report.findings.iter().any(|known| known.rule == finding.rule && known.object == finding.object)
        };
        let new: Vec<&Finding> = again.findings.iter().filter(|finding| !is_known(finding)).collect();
        assert!(new.is_empty(), "{}: {new:#?}\n{learned}", folder.display());
    }
}
