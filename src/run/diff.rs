//! `policy diff`: what a newer policy allows that an older one does not, and the other way round.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::{Error, load_policy, print};
use crate::policy::{self, Change, Difference, Differences, OTHERS, Role, Setting};
use crate::reports::text;

const SCHEMA: &str = "edamame-guard/policy-diff/v1";

/// Prints what differs; 86 if anything does.
pub(super) fn diff(before: &Path, after: &Path, json: bool) -> Result<u8, Error> {
    let (old, new) = (load_policy(&policy_of(before))?, load_policy(&policy_of(after))?);
    let found = policy::diff(&old, &new);
    let names = [before, after].map(|path| text::short(&path.to_string_lossy(), 400));
    print(&if json { document(&found, &names) } else { words(&found, &names) });
    Ok(if found.is_empty() { 0 } else { 86 })
}

/// A policy, or the one that was applied to a recording.
fn policy_of(path: &Path) -> PathBuf {
    const LOCK: &str = "policy.lock.yml";
    match path.extension() {
        _ if path.is_dir() => path.join(LOCK),
        Some(extension) if extension == "jsonl" => path.with_file_name(LOCK),
        _ => path.to_owned(),
    }
}

// --- words ------------------------------------------------------------------------------------

fn words(found: &Differences, [before, after]: &[String; 2]) -> String {
    if found.is_empty() {
        return format!("{after} allows what {before} allows, and no more\n");
    }
    let mut out = format!("{after} compared with {before}\n");
    for Setting { what, before, after } in &found.settings {
        let shown = |value: &Option<String>| value.as_deref().map(|value| text::short(value, 400));
        let line = match (shown(before), shown(after)) {
            (Some(before), Some(after)) => format!("{after}, was {before}"),
            (None, Some(after)) => format!("{after} is new"),
            (before, None) => format!("{} is gone", before.unwrap_or_default()),
        };
        let _ = writeln!(out, "{}: {line}", text::short(what, 400));
    }
    let mut heading = String::new();
    for line in &found.lines {
        let next = scope(line);
        if next != heading {
            let _ = writeln!(out, "{next}");
            heading = next;
        }
        let place = line.location.as_ref().map_or(String::new(), |place| format!(" ({place})"));
        let place = text::short(&place, 400);
        let place = if place.is_empty() { place } else { format!(" {place}") };
        let said = text::short(&line.text, 1000);
        let _ = writeln!(out, "  {:<17}  {:<11}  {said}{place}", change(line.change), line.list);
    }
    out
}

/// For whom a line holds.
fn scope(line: &Difference) -> String {
    let step = match line.step.as_deref() {
        None => "every step".to_owned(),
        Some(OTHERS) => OTHERS.to_owned(),
        Some(step) => format!("step {}", text::short(step, 400)),
    };
    let agent = line
        .agent
        .as_deref()
        .map_or(String::new(), |agent| format!(", below the agent {}", text::short(agent, 200)));
    let whose = line.beside.as_ref().map_or(String::new(), |(role, origin)| {
        let whose = match role {
            Role::Organisation => "the organisation's policy",
            Role::Input => "the workflow's input",
            Role::Proposed | Role::Unreviewed => "the job's own copy of",
        };
        format!(", by {whose} {}", text::short(origin, 400))
    });
    format!("{step}{agent}{whose}")
}

fn change(change: Change) -> &'static str {
    match change {
        Change::Allowed => "newly allowed",
        Change::NotAllowed => "no longer allowed",
        Change::Denied => "newly denied",
        Change::NotDenied => "no longer denied",
    }
}

// --- for programs -----------------------------------------------------------------------------

#[derive(Serialize)]
struct Document<'d> {
    schema: &'static str,
    before: &'d str,
    after: &'d str,
    same: bool,
    settings: Vec<SettingView<'d>>,
    lines: Vec<LineView<'d>>,
}

#[derive(Serialize)]
struct SettingView<'d> {
    what: &'d str,
    before: Option<&'d str>,
    after: Option<&'d str>,
}

#[derive(Serialize)]
struct LineView<'d> {
    /// `null`: every step.
    step: Option<&'d str>,
    agent: Option<&'d str>,
    /// `null`: the policy itself; else `organisation`, `input`, `proposed` or `unreviewed`.
    beside: Option<&'static str>,
    list: &'static str,
    /// `allowed`, `not-allowed`, `denied`, `not-denied`: what is new.
    change: &'static str,
    /// Whether the newer one is the stricter here.
    tighter: bool,
    text: &'d str,
    path: Option<&'d str>,
    line: Option<u32>,
}

fn document(found: &Differences, [before, after]: &[String; 2]) -> String {
    let document = Document {
        schema: SCHEMA,
        before,
        after,
        same: found.is_empty(),
        settings: found.settings.iter().map(setting).collect(),
        lines: found.lines.iter().map(view).collect(),
    };
    let mut json = serde_json::to_string_pretty(&document).unwrap_or_default();
    json.push('\n');
    json
}

fn setting(setting: &Setting) -> SettingView<'_> {
    let Setting { what, before, after } = setting;
    SettingView { what, before: before.as_deref(), after: after.as_deref() }
}

fn view(line: &Difference) -> LineView<'_> {
    LineView {
        step: line.step.as_deref(),
        agent: line.agent.as_deref(),
        beside: line.beside.as_ref().map(|(role, _)| role.as_str()),
        list: line.list,
        change: match line.change {
            Change::Allowed => "allowed",
            Change::NotAllowed => "not-allowed",
            Change::Denied => "denied",
            Change::NotDenied => "not-denied",
        },
        tighter: line.change.is_tighter(),
        text: &line.text,
        path: line.location.as_ref().map(|place| place.path.as_str()),
        line: line.location.as_ref().map(|place| place.line),
    }
}
