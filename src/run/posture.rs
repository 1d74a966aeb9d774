//! `posture`: the host's security state as it is, and what differs from an earlier reading.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Error, camera, now, print};
use crate::catalogue::posture::{self, Check};
use crate::event::PostureItem;
use crate::posture::State;
use crate::runners;

const SCHEMA: &str = "edamame-guard/posture/v1";

/// The whole reading for programs.
#[derive(Serialize, Deserialize)]
struct Document {
    schema: String,
    /// RFC 3339
    time: String,
    checks: Vec<Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    id: String,
    group: String,
    title: String,
    severity: String,
    tags: Vec<String>,
    /// Objects that are weak as they stand.
    weak: Vec<String>,
    /// What could not be read.
    problem: Option<String>,
    remedy: String,
    items: Vec<PostureItem>,
}

/// Prints the table, the JSON, or the differences.
pub(super) fn posture(json: bool, baseline: Option<&Path>) -> Result<u8, Error> {
    let directory = std::env::current_dir()
        .map_err(|source| Error::Host { what: "the working folder".to_owned(), source })?;
    let home = std::env::var_os("HOME").map_or_else(|| "/".into(), std::path::PathBuf::from);
    let (job, _) = runners::local::session(&directory, &home, nix::unistd::geteuid().as_raw());
    let states = camera(&runners::facts(&job), &job).shoot();
    let document = Document {
        schema: SCHEMA.to_owned(),
        time: now().rfc3339(),
        checks: posture::checks()
            .iter()
            .map(|check| entry(check, states.get(&check.id).cloned().unwrap_or_default()))
            .collect(),
    };
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

fn entry(check: &Check, state: State) -> Entry {
    let weak = state.items.iter().filter(|item| check.is_weak(&item.value));
    Entry {
        id: check.id.clone(),
        group: check.group.clone(),
        title: check.title.clone(),
        severity: check.severity.as_str().to_owned(),
        tags: check.tags.clone(),
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
fn lasting(value: &str) -> String {
    match value.split_once(' ') {
        Some((first, rest)) if first.starts_with("keyed:") => rest.to_owned(),
        None if value.starts_with("keyed:") => "present".to_owned(),
        _ => value.to_owned(),
    }
}

fn table(document: &Document) {
    let mut group = "";
    let mut weak = 0;
    for check in &document.checks {
        if check.group != group {
            group = &check.group;
            print(&format!("{group}\n"));
        }
        let state = match (&check.problem, check.weak.is_empty()) {
            (_, false) => "weak",
            (Some(_), true) => "unread",
            (None, true)
                if check.items.is_empty() && !posture::check(&check.id).is_some_and(|it| it.is_static) =>
            {
                "absent"
            }
            (None, true) if posture::check(&check.id).is_some_and(Check::can_be_weak) => "ok",
            (None, true) => "seen",
        };
        let objects = check.items.len();
        print(&format!(
            "  {state:<7}{:<24}{}\n",
            check.id,
            match state {
                "weak" => format!("{} ({})", check.title, check.severity),
                "absent" => "nothing of it on this host".to_owned(),
                _ => format!("{objects} {}", if objects == 1 { "object" } else { "objects" }),
            }
        ));
        for object in check.weak.iter().take(5) {
            let value = check.items.iter().find(|item| item.object == *object).map_or("", |item| &item.value);
            print(&format!("         {}: {}\n", safe(object), safe(value)));
        }
        if let Some(problem) = &check.problem {
            print(&format!("         not read whole: {}\n", safe(problem)));
        }
        if !check.weak.is_empty() {
            weak += 1;
            print(&format!("         do: {}\n", check.remedy));
        }
    }
    print(&format!(
        "{} checks, {weak} weak; `seen` ones have no state that is wrong as such: a run tells when they change\n",
        document.checks.len()
    ));
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
fn safe(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}
