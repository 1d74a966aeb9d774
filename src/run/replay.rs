//! `replay`: judges recordings again, one or many at once, tells how two runs differ, and exports events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::posture::{lasting, safe};
use super::{Error, counted, is_taken, judge, load_policy, opened, print, recording, show};
use crate::cli::{ExportFormat, Judging, Replay};
use crate::detections;
use crate::engine::{Engine, Input, Settings, short};
use crate::event::{Activity, Event, Fact, File};
use crate::evidence;
use crate::finding::Report;
use crate::job::Job;
use crate::policy::Policy;
use crate::reports::{Directory, ocsf};

pub(super) fn replay(replay: &Replay) -> Result<u8, Error> {
    match (replay.recordings.as_slice(), &replay.diff, replay.format) {
        ([one], None, None) => single(one, &replay.judging),
        ([one], Some(other), None) => differences(one, other, &replay.judging),
        (all, None, Some(ExportFormat::Ocsf)) => {
            let mut worst = 0;
            for one in all {
                worst = worse(worst, export(one, &replay.judging)?);
            }
            Ok(worst)
        }
        (all, None, None) => Ok(many(all, &replay.judging)),
        _ => Err(Error::Usage(
            "`--diff` compares one recording with one other, and writes no `--format`".to_owned(),
        )),
    }
}

/// The policy that is given, else the one that was applied.
fn policy_for(path: &Path, judging: &Judging) -> Result<Policy, Error> {
    match &judging.policy {
        Some(file) => load_policy(file),
        None => match path.with_file_name("policy.lock.yml") {
            lock if is_taken(&lock) => load_policy(&lock),
            _ => Ok(Policy::absent()),
        },
    }
}

fn judged(path: &Path, judging: &Judging) -> Result<Report, Error> {
    let policy = policy_for(path, judging)?;
    judge(opened(path)?, policy, judging.fail_on)
        .map_err(|source| Error::Evidence { path: path.to_owned(), source })
}

fn single(path: &Path, judging: &Judging) -> Result<u8, Error> {
    let report = judged(&recording(path), judging)?;
    if let Some(directory) = &judging.report_dir {
        Directory::open(directory)
            .and_then(|reports| reports.write_all(&report, detections::all()))
            .map_err(Error::Report)?;
    }
    show(&report, judging.report_dir.as_deref());
    Ok(report.exit.guard)
}

/// What failed to work, then what failed, then what passed.
fn worse(one: u8, other: u8) -> u8 {
    [125, 86].into_iter().find(|status| [one, other].contains(status)).unwrap_or(one.max(other))
}

/// Judges each, as many at a time as there are processors; a line each, in the order given.
fn many(paths: &[PathBuf], judging: &Judging) -> u8 {
    let labels = labels(paths);
    let next = AtomicUsize::new(0);
    let results: Mutex<BTreeMap<usize, (u8, String)>> = Mutex::default();
    let workers = std::thread::available_parallelism().map_or(1, usize::from).min(paths.len());
    let progress = Progress { total: paths.len(), is_shown: io::stderr().is_terminal() };
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(path) = paths.get(at) else { return };
                    let result = line(path, &labels[at], judging);
                    let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    results.insert(at, result);
                    progress.show(results.len());
                }
            });
        }
    });
    progress.clear();
    let results = results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut worst = 0;
    let mut counts: BTreeMap<u8, usize> = BTreeMap::new();
    for (status, text) in results.into_values() {
        worst = worse(worst, status);
        *counts.entry(status).or_default() += 1;
        print(&text);
    }
    let count = |status: u8| counts.get(&status).copied().unwrap_or_default();
    print(&format!(
        "{}: {} pass, {} fail, {} can't be judged\n",
        counted(paths.len(), "recording"),
        count(0),
        count(86),
        count(125)
    ));
    worst
}

/// Status and the line of one recording; its reports go where they should.
fn line(path: &Path, label: &str, judging: &Judging) -> (u8, String) {
    let report = judged(&recording(path), judging).and_then(|report| {
        if let Some(folder) = &judging.report_dir {
            Directory::open(&folder.join(label))
                .and_then(|reports| reports.write_all(&report, detections::all()))
                .map_err(Error::Report)?;
        }
        Ok(report)
    });
    let shown = safe(&path.to_string_lossy());
    match report {
        Ok(report) => {
            let failing = report.findings.iter().filter(|finding| finding.fails).count();
            let mut rules: Vec<&str> = report.findings.iter().map(|finding| finding.rule.0).collect();
            rules.dedup();
            rules.truncate(4);
            let rules = if rules.is_empty() { String::new() } else { format!("  ({})", rules.join(", ")) };
            let text = format!(
                "{:>3} {:<10} {failing} failing, {}  {shown}{rules}\n",
                report.exit.guard,
                report.verdict.as_str(),
                counted(report.findings.len() - failing, "note"),
            );
            (report.exit.guard, text)
        }
        Err(error) => (
            error.status(),
            format!("{:>3} {:<10} {shown}: {}\n", error.status(), "unjudged", safe(&error.to_string())),
        ),
    }
}

/// A folder's name for each recording, none twice.
fn labels(paths: &[PathBuf]) -> Vec<String> {
    let mut taken = BTreeSet::new();
    let mut labels = Vec::new();
    for path in paths {
        let file = recording(path);
        let is_ours = file.file_name().is_some_and(|name| name == evidence::parts::NAME);
        let named = if is_ours { file.parent().and_then(Path::file_name) } else { file.file_stem() };
        let name = named.map_or_else(|| "recording".to_owned(), |name| name.to_string_lossy().into_owned());
        let mut label = name.clone();
        for number in 2.. {
            if taken.insert(label.clone()) {
                break;
            }
            label = format!("{name}-{number}");
        }
        labels.push(label);
    }
    labels
}

/// How many are done, where somebody watches.
struct Progress {
    total: usize,
    is_shown: bool,
}

impl Progress {
    const WIDTH: usize = 30;

    fn show(&self, done: usize) {
        if self.is_shown {
            let full = done * Self::WIDTH / self.total.max(1);
            eprint!("\r[{}{}] {done} of {}", "#".repeat(full), ".".repeat(Self::WIDTH - full), self.total);
        }
    }

    fn clear(&self) {
        if self.is_shown {
            eprint!("\r{}\r", " ".repeat(Self::WIDTH + 30));
        }
    }
}

// --- export -----------------------------------------------------------------------------------

/// Every event, then every finding, an object a line.
fn export(path: &Path, judging: &Judging) -> Result<u8, Error> {
    let path = recording(path);
    let mut engine = Engine::new(policy_for(&path, judging)?, Settings { fail_on: judging.fail_on });
    let mut input = opened(&path)?;
    super::prepare(&mut engine, &mut input);
    let mut exporter = ocsf::Exporter::default();
    let mut out = BufWriter::new(io::stdout().lock());
    let mut failure = None;
    let read = evidence::read(input, |sequence, input| {
        engine.accept(sequence, &input);
        if let (None, Some(event)) = (&failure, exporter.event(sequence, &input)) {
            failure = writeln!(out, "{event}").err();
        }
    });
    read.map_err(|source| Error::Evidence { path, source })?;
    let report = engine.finish();
    for finding in &report.findings {
        if failure.is_none() {
            failure = writeln!(out, "{}", ocsf::finding(finding, &report)).err();
        }
    }
    match failure.or_else(|| out.flush().err()) {
        // A closed pipe is the reader's choice.
        Some(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(Error::Report(error)),
        _ => Ok(report.exit.guard),
    }
}

// --- differences ------------------------------------------------------------------------------

/// What one run did, in words that are the same in the next.
#[derive(Debug, Default)]
struct Did {
    programs: BTreeSet<String>,
    hosts: BTreeSet<String>,
    files: BTreeSet<String>,
    /// By check: the newest state of its objects.
    posture: BTreeMap<String, BTreeSet<String>>,
    is_cut: bool,
}

impl Did {
    /// Entries of one kind that are compared.
    const MOST: usize = 100_000;

    fn of(path: &Path, judging: &Judging) -> Result<Self, Error> {
        let path = recording(path);
        let mut did = Self::default();
        let report = judged(&path, judging)?;
        did.hosts
            .extend(report.steps.iter().flat_map(|step| step.destinations.iter().map(|to| to.host.clone())));
        evidence::read(opened(&path)?, |_, input| did.take(&report.job, &input))
            .map_err(|source| Error::Evidence { path, source })?;
        Ok(did)
    }

    fn take(&mut self, job: &Job, input: &Input) {
        match input {
            Input::Event(event) => self.event(job, event),
            Input::Fact(Fact::Posture { check, unchanged: false, items, .. }) => {
                let items = items
                    .iter()
                    .map(|item| format!("{}: {}", short(&item.object, job), lasting(&item.value)));
                self.posture.insert(check.clone(), items.collect());
            }
            _ => {}
        }
    }

    fn event(&mut self, job: &Job, event: &Event) {
        let mut write = |file: &File| {
            let is_named = file.path.starts_with('/') && !file.path.starts_with("/proc/");
            if is_named && !file.path.starts_with("/dev/") {
                insert(&mut self.files, short(&file.path, job), &mut self.is_cut);
            }
        };
        match &event.activity {
            Activity::Launch(launch) => {
                insert(&mut self.programs, short(&launch.program().path, job), &mut self.is_cut);
            }
            Activity::Open { file, access } if access.write || access.create => write(file),
            Activity::Rename { to: file, .. }
            | Activity::Delete { file }
            | Activity::Link { to: file, .. }
            | Activity::Symlink { file, .. }
            | Activity::Chmod { file, .. }
            | Activity::Chown { file, .. }
            | Activity::Truncate { file }
            | Activity::Mkdir { file }
            | Activity::Mknod { file, .. } => write(file),
            _ => {}
        }
    }

    fn posture(&self) -> BTreeSet<String> {
        let told = |(check, items): (&String, &BTreeSet<String>)| {
            items.iter().map(|item| format!("{check} {item}")).collect::<Vec<_>>()
        };
        self.posture.iter().flat_map(told).collect()
    }
}

fn insert(set: &mut BTreeSet<String>, item: String, is_cut: &mut bool) {
    if set.len() < Did::MOST {
        set.insert(item);
    } else {
        *is_cut |= !set.contains(&item);
    }
}

/// Prints what one run did and the other did not, and the other way round; 86 if there is anything new.
fn differences(one: &Path, other: &Path, judging: &Judging) -> Result<u8, Error> {
    let (new, old) = (Did::of(one, judging)?, Did::of(other, judging)?);
    let mut news = 0;
    let mut text = String::new();
    let planes = [
        ("programs", new.programs.clone(), old.programs.clone()),
        ("hosts", new.hosts.clone(), old.hosts.clone()),
        ("written files", new.files.clone(), old.files.clone()),
        ("posture", new.posture(), old.posture()),
    ];
    for (plane, new, old) in planes {
        let added: Vec<&String> = new.difference(&old).collect();
        let gone: Vec<&String> = old.difference(&new).collect();
        news += added.len();
        let _ = writeln!(
            text,
            "{plane}: {} new, {} gone, {} in both",
            added.len(),
            gone.len(),
            new.intersection(&old).count()
        );
        for (mark, items) in [('+', added), ('-', gone)] {
            for item in items {
                let _ = writeln!(text, "  {mark} {}", safe(item));
            }
        }
    }
    print(&format!(
        "{} (+) compared with {} (-)\n{text}",
        safe(&one.to_string_lossy()),
        safe(&other.to_string_lossy())
    ));
    if new.is_cut || old.is_cut {
        eprintln!("warning: there was more than {} of a kind; the rest was not compared", Did::MOST);
    }
    Ok(if news == 0 { 0 } else { 86 })
}
