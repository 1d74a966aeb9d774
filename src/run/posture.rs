//! `posture`: the host's security state as it is, and what differs from an earlier reading.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, camera, counted, now, print};
use crate::catalogue::posture::{self, Check, Outcome, Score};
use crate::event::PostureItem;
use crate::posture::{Camera, State};
use crate::runners;

const SCHEMA: &str = "edamame-guard/posture/v1";

/// The whole reading for programs.
#[derive(Serialize, Deserialize)]
struct Document {
    schema: String,
    /// RFC 3339
    time: String,
    /// `hosted`, `self-hosted`, `container`, `workstation`
    #[serde(default)]
    place: String,
    /// Of 100, and by group; absent where nothing can fail.
    #[serde(default)]
    score: Option<u32>,
    #[serde(default)]
    groups: BTreeMap<String, Option<u32>>,
    checks: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    group: String,
    title: String,
    #[serde(default)]
    rationale: String,
    severity: String,
    tags: Vec<String>,
    /// Where it is made.
    #[serde(default)]
    applies: Vec<String>,
    /// `ok`, `weak`, `seen` (it has no state that is wrong as such), `absent`, `unread`, `not here`
    #[serde(default)]
    state: String,
    /// Whether it counts for the score.
    #[serde(default)]
    scored: bool,
    /// Objects that are weak as they stand.
    weak: Vec<String>,
    /// What could not be read.
    problem: Option<String>,
    remedy: String,
    items: Vec<PostureItem>,
}

/// What reads this host, or the one whose file system lies here.
pub(super) fn camera_of(root: Option<&Path>) -> Result<Camera, Error> {
    if let Some(root) = root {
        let failed = |source| Error::Host { what: root.display().to_string(), source };
        let root = std::fs::canonicalize(root).map_err(failed)?;
        if !root.is_dir() {
            return Err(Error::Usage(format!("`{}` is no folder", root.display())));
        }
        return Ok(Camera::of_root(&root));
    }
    let directory = std::env::current_dir()
        .map_err(|source| Error::Host { what: "the working folder".to_owned(), source })?;
    let home = std::env::var_os("HOME").map_or_else(|| "/".into(), std::path::PathBuf::from);
    let (job, _) = runners::local::session(&directory, &home, nix::unistd::geteuid().as_raw());
    Ok(camera(&runners::facts(&job), &job))
}

/// Prints the table, the JSON, or the differences.
pub(super) fn posture(camera: &Camera, json: bool, baseline: Option<&Path>) -> Result<u8, Error> {
    let document = document(camera);
    if let Some(path) = baseline {
        let failed = |source| Error::Host { what: format!("baseline `{}`", path.display()), source };
        let text = std::fs::read_to_string(path).map_err(failed)?;
        let before: Document = serde_json::from_str(&text).map_err(|error| failed(error.into()))?;
        if before.schema != SCHEMA {
            return Err(Error::Usage(format!("`{}` is no `posture --json`", path.display())));
        }
        return Ok(compare(&before, &document));
    }
    if json {
        let text = serde_json::to_string_pretty(&document).map_err(|error| Error::Report(error.into()))?;
        print(&format!("{text}\n"));
        return Ok(0);
    }
    table(&document);
    Ok(0)
}

fn document(camera: &Camera) -> Document {
    let states = camera.shoot();
    let mut total = Score::default();
    let mut groups: BTreeMap<String, Score> = BTreeMap::new();
    let mut checks = Vec::new();
    for check in posture::checks() {
        let state = states.get(&check.id);
        if let Some(outcome) = state.map(|state| state.outcome(check)) {
            total.add(check.severity, outcome);
            groups.entry(check.group.clone()).or_default().add(check.severity, outcome);
        }
        checks.push(entry(check, state));
    }
    Document {
        schema: SCHEMA.to_owned(),
        time: now().rfc3339(),
        place: camera.place().as_str().to_owned(),
        score: total.percent(),
        groups: groups.into_iter().map(|(group, score)| (group, score.percent())).collect(),
        checks,
    }
}

fn entry(check: &Check, state: Option<&State>) -> Entry {
    let outcome = state.map(|state| state.outcome(check));
    let state = state.cloned().unwrap_or_default();
    let weak = state.items.iter().filter(|item| check.is_weak(&item.value));
    Entry {
        id: check.id.clone(),
        group: check.group.clone(),
        title: check.title.clone(),
        rationale: check.rationale.clone(),
        severity: check.severity.as_str().to_owned(),
        tags: check.tags.clone(),
        applies: check.applies.iter().map(|place| place.as_str().to_owned()).collect(),
        state: match outcome {
            Some(Outcome::Holds) => "ok",
            Some(Outcome::Weak) => "weak",
            Some(Outcome::Watched) => "seen",
            Some(Outcome::Absent) => "absent",
            Some(Outcome::Unread) => "unread",
            None => "not here",
        }
        .to_owned(),
        scored: matches!(outcome, Some(Outcome::Holds | Outcome::Weak)),
        weak: weak.map(|item| item.object.clone()).collect(),
        problem: state.problem,
        remedy: check.remedy.clone(),
        items: state
            .items
            .into_iter()
            .map(|item| PostureItem { value: lasting(&item.value), ..item })
            .collect(),
    }
}

/// A digest that means something in this run alone is left out.
pub(super) fn lasting(value: &str) -> String {
    match value.split_once(' ') {
        Some((first, rest)) if first.starts_with("keyed:") => rest.to_owned(),
        None if value.starts_with("keyed:") => "present".to_owned(),
        _ => value.to_owned(),
    }
}

fn table(document: &Document) {
    let mut group = "";
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for check in &document.checks {
        if check.group != group {
            group = &check.group;
            let score = document.groups.get(group).copied().flatten();
            let score =
                score.map_or_else(|| "nothing here can fail".to_owned(), |score| format!("{score} of 100"));
            print(&format!("{group}: {score}\n"));
        }
        *counts.entry(&check.state).or_default() += 1;
        if check.state == "absent" || check.state == "not here" {
            continue;
        }
        print(&format!(
            "  {:<7}{:<25}{}\n",
            check.state,
            check.id,
            if check.state == "weak" {
                format!("{} ({})", check.title, check.severity)
            } else {
                check.title_when_fine()
            }
        ));
        for object in check.weak.iter().take(5) {
            let value = check.items.iter().find(|item| item.object == *object).map_or("", |item| &item.value);
            print(&format!("         {}: {}\n", safe(object), safe(value)));
        }
        if check.weak.len() > 5 {
            print(&format!("         and {} more\n", check.weak.len() - 5));
        }
        if let Some(problem) = &check.problem {
            print(&format!("         not read whole: {}\n", safe(problem)));
        }
        if !check.weak.is_empty() {
            print(&format!("         do: {}\n", check.remedy));
        }
    }
    let count = |state: &str| counts.get(state).copied().unwrap_or_default();
    print(&format!(
        "score {}: {} ok, {} weak. Not scored: {} seen (a run tells when they change), {} with nothing of it here, {} for other places than this {}, {} unread\n",
        document.score.map_or_else(|| "none".to_owned(), |score| format!("{score} of 100")),
        count("ok"),
        count("weak"),
        count("seen"),
        count("absent"),
        count("not here"),
        document.place,
        count("unread"),
    ));
}

impl Entry {
    /// A title says what is wrong; of what is not, how much was looked at is told.
    fn title_when_fine(&self) -> String {
        match (self.state.as_str(), self.items.len()) {
            ("ok", 0) => String::new(),
            (_, objects) => counted(objects, "object"),
        }
    }
}

/// Prints what differs; 86 if anything does.
fn compare(before: &Document, after: &Document) -> u8 {
    let mut differences = 0;
    let mut tell = |how: &str, check: &str, object: &str, rest: &str| {
        differences += 1;
        print(&format!("{how:<8} {check:<24} {}{rest}\n", safe(object)));
    };
    for check in &after.checks {
        let Some(known) = before.checks.iter().find(|known| known.id == check.id) else { continue };
        let index = |entry: &Entry| -> BTreeMap<(String, Option<String>), String> {
            let items = entry.items.iter();
            items.map(|item| ((item.object.clone(), item.file.clone()), item.value.clone())).collect()
        };
        let (old, new) = (index(known), index(check));
        for ((object, file), value) in &new {
            match old.get(&(object.clone(), file.clone())) {
                None => tell("added", &check.id, object, ""),
                Some(known) if known != value => {
                    let rest = format!(": {} -> {}", safe(known), safe(value));
                    tell("changed", &check.id, object, &rest);
                }
                Some(_) => {}
            }
        }
        for (object, _) in old.keys().filter(|key| !new.contains_key(*key)) {
            tell("removed", &check.id, object, "");
        }
    }
    print(&format!("{differences} differences since {}\n", safe(&before.time)));
    if differences == 0 { 0 } else { 86 }
}

/// Names of files are others' words: nothing in them may move a cursor.
pub(super) fn safe(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
