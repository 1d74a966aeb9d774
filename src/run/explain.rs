//! `policy explain`: which lines speak of a step, and why a finding fired.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{Error, REPORT_DIR, judge, load_policy, print, recording};
use crate::detections;
use crate::finding::{Finding, Kind, Report};
use crate::job::StepKey;
use crate::policy::{Explained, Policy, Rest, Role, RuleOwner, RuleRef, Said};
use crate::reports::{terminal, text};

/// Explains a policy: to all steps, to one, or by one finding of a recording.
///
/// `file` is a policy, a lock, or a report directory, whose lock and recording are meant then.
pub fn explain(file: &Path, what: Option<&str>, recorded: Option<&Path>) -> Result<u8, Error> {
    let is_report = file.is_dir();
    let policy = load_policy(&if is_report { file.join("policy.lock.yml") } else { file.to_owned() })?;
    let recorded = match recorded {
        Some(path) => Some(recording(path)),
        None if is_report => Some(recording(file)),
        None => Some(recording(Path::new(REPORT_DIR))).filter(|path| path.is_file()),
    };
    let report = recorded.as_deref().map(|path| judged(path, policy.clone())).transpose()?;
    let mut out = String::new();
    match what {
        None => {
            let recorded = report.iter().flat_map(|report| &report.steps).map(|step| step.key.clone());
            let mut steps: Vec<StepKey> =
                recorded.chain(policy.step_keys().map(|key| StepKey(key.to_owned()))).collect();
            steps.sort();
            steps.dedup();
            if steps.is_empty() {
                steps.push(StepKey("any step".to_owned()));
            }
            for key in &steps {
                step(&mut out, &policy, key);
            }
        }
        Some(what) => {
            let found = report.as_ref().map(|report| named(report, what)).unwrap_or_default();
            if !found.is_empty() {
                for one in &found {
                    finding(&mut out, one);
                }
                steps_of(&mut out, &policy, &found);
            } else if is_finding(what) {
                let missing = || Error::Usage(no_finding(what, recorded.as_deref()));
                let path = recorded.as_deref().ok_or_else(missing)?;
                let before = before(path)?;
                let gone = named(&before, what);
                if gone.is_empty() {
                    return Err(missing());
                }
                for one in &gone {
                    silenced(&mut out, report.as_ref(), one);
                }
                steps_of(&mut out, &policy, &gone);
            } else {
                step(&mut out, &policy, &StepKey(what.to_owned()));
            }
        }
    }
    print(&out);
    Ok(0)
}

fn judged(path: &Path, policy: Policy) -> Result<Report, Error> {
    judge(super::opened(path)?, policy, None)
        .map_err(|source| Error::Evidence { path: path.to_owned(), source })
}

/// The run's report under the policy that was applied to it.
fn before(path: &Path) -> Result<Report, Error> {
    let lock: PathBuf = path.with_file_name("policy.lock.yml");
    let policy = if super::is_taken(&lock) { load_policy(&lock)? } else { Policy::absent() };
    judged(path, policy)
}

/// Whether a word is meant as a finding: a rule's id, or a fingerprint or its beginning.
fn is_finding(what: &str) -> bool {
    const SHORTEST: usize = 6;
    detections::by_id(what).is_some()
        || (what.len() >= SHORTEST && what.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn named<'r>(report: &'r Report, what: &str) -> Vec<&'r Finding> {
    let is_meant =
        |finding: &&Finding| finding.rule.0 == what || finding.fingerprint.starts_with(&what.to_lowercase());
    report.findings.iter().filter(|_| is_finding(what)).filter(is_meant).collect()
}

fn no_finding(what: &str, recorded: Option<&Path>) -> String {
    match recorded {
        Some(path) => format!(
            "`{what}` is no finding of {}; `policy explain F` without it lists the steps",
            path.display()
        ),
        None => {
            format!("there is no recording to look for the finding `{what}` in; name one with `--recording`")
        }
    }
}

/// The lines for the findings' steps, each step once.
fn steps_of(out: &mut String, policy: &Policy, findings: &[&Finding]) {
    let mut keys: Vec<&StepKey> = findings.iter().map(|finding| &finding.step).collect();
    keys.sort();
    keys.dedup();
    for key in keys {
        step(out, policy, key);
    }
}

fn finding(out: &mut String, finding: &Finding) {
    let _ = writeln!(out, "finding {}", finding.fingerprint);
    out.push_str(&terminal::finding(finding));
    let _ = writeln!(out, "  why       {}", why(finding));
    let numbers: Vec<String> = finding.evidence.iter().map(ToString::to_string).collect();
    let _ = writeln!(out, "  records   {}", numbers.join(", "));
    out.push('\n');
}

fn why(finding: &Finding) -> String {
    let rule = detections::by_id(finding.rule.0).map(detections::Detection::summary).unwrap_or_default();
    let reason = match finding.kind {
        Kind::Attack => "it fits a known bad behaviour",
        Kind::Policy => "the policy does not allow it",
        Kind::Divergence => "nothing that the step declares explains it",
        Kind::Posture => "the machine's state changed",
        Kind::Coverage => "the recorder could not see everything",
    };
    let weight = if finding.fails { "it fails the job" } else { "it is a note" };
    let by = match (&finding.declared, finding.kind) {
        (Some(declared), Kind::Policy) => format!(": {}", text::short(declared, 400)),
        _ => String::new(),
    };
    format!("{reason}{by}; {weight}. {rule}")
}

/// A finding that this policy no longer has.
fn silenced(out: &mut String, report: Option<&Report>, gone: &Finding) {
    let _ = writeln!(out, "finding {}\n  {}", gone.fingerprint, text::short(&gone.title, 400));
    let held = report
        .into_iter()
        .flat_map(|report| &report.suppressed)
        .find(|held| held.rule == gone.rule.0 && held.object == gone.object && held.step == gone.step);
    match held {
        Some(held) => {
            let reason = text::short(&held.reason, 400);
            let until = held.until.as_deref().map_or(String::new(), |until| format!(", until {until}"));
            let _ = writeln!(out, "  held back by an exception of this policy: {reason}{until}");
        }
        None => out.push_str("  not a finding under this policy: one of the lines below allows it\n"),
    }
    out.push('\n');
}

fn step(out: &mut String, policy: &Policy, key: &StepKey) {
    let _ = writeln!(out, "step {}", text::short(&key.0, 400));
    if policy.is_absent() {
        out.push_str("  no policy: nothing is restricted\n\n");
        return;
    }
    let said = policy.explain(key);
    head(out, "  ", &said);
    lists(out, "  ", &said.planes);
    out.push_str("  always    cloud metadata is denied unless its address is allowed\n");
    agents(out, "  ", &said.agents);
    for (role, origin, said) in &said.beside {
        beside(out, *role, origin, said);
    }
    for exception in said.exceptions {
        let object = exception.object.as_deref().unwrap_or("any object");
        let until = exception.until.map_or(String::new(), |until| format!(", until {until}"));
        let line =
            format!("{} {object}: {}{until} ({})", exception.rule, exception.reason, exception.location);
        let _ = writeln!(out, "  except    {}", text::short(&line, 1000));
    }
    out.push('\n');
}

/// The blocks that apply.
fn head(out: &mut String, indent: &str, Explained { blocks, closed, .. }: &Explained) {
    let places: Vec<String> =
        blocks.iter().map(|block| format!("{} ({})", block.text, block.location)).collect();
    let places = if places.is_empty() { "none speaks of it".to_owned() } else { places.join(", ") };
    let _ = writeln!(out, "{indent}blocks    {}", text::short(&places, 1000));
    if let Some(block) = closed {
        let place = text::short(&format!("{} ({})", block.text, block.location), 400);
        let _ = writeln!(out, "{indent}          {place} shuts the allow lists of `defaults` out");
    }
}

fn agents(out: &mut String, indent: &str, agents: &[(String, Vec<Said>)]) {
    for (agent, planes) in agents {
        let agent = text::short(agent, 200);
        let _ = writeln!(out, "{indent}below the agent {agent} these must allow it as well:");
        lists(out, &format!("{indent}  "), planes);
    }
}

/// A text that only tightens, where it speaks of the step.
fn beside(out: &mut String, role: Role, origin: &str, said: &Explained) {
    let origin = text::short(origin, 400);
    let (whose, counts) = match role {
        Role::Organisation => (format!("the organisation's policy {origin}"), "must allow it as well"),
        Role::Input => (format!("the workflow's input {origin}"), "must allow it as well"),
        Role::Proposed => (format!("the job's own copy of {origin}"), "counts only in what it denies"),
        Role::Unreviewed => (
            format!("the job's own copy of {origin}, which nobody reviewed,"),
            "counts only in what it denies",
        ),
    };
    if !said.says_something() {
        let _ = writeln!(out, "  {whose} {counts}; it restricts nothing here");
        return;
    }
    let _ = writeln!(out, "  {whose} {counts}:");
    head(out, "    ", said);
    let planes: Vec<Said> = said.planes.iter().filter(|plane| plane.says_something()).cloned().collect();
    lists(out, "    ", &planes);
    agents(out, "    ", &said.agents);
}

fn lists(out: &mut String, indent: &str, planes: &[Said]) {
    for Said { plane, deny, allow, rest } in planes {
        let _ = writeln!(out, "{indent}{plane}");
        for (word, rules) in [("deny", deny), ("allow", allow)] {
            for rule in rules {
                let _ = writeln!(out, "{indent}  {word:<6}  {}", shown(rule));
            }
        }
        let rest = match rest {
            Rest::Unrestricted => "not restricted: no list speaks of it".to_owned(),
            Rest::Lifted(rule) => format!("not restricted: `allow: any` of {}", shown(rule)),
            // A closed block without a list has words for it already.
            Rest::Unlisted(rule) if rule.text.contains(" has no ") => format!("a finding: {}", shown(rule)),
            Rest::Unlisted(rule) => format!("a finding: not on {}", shown(rule)),
        };
        let _ = writeln!(out, "{indent}  {:<6}  {rest}", "else");
    }
}

fn shown(rule: &RuleRef) -> String {
    let from = if rule.owner == RuleOwner::Defaults { ", inherited from defaults" } else { "" };
    format!("{} ({}{from})", text::short(&rule.text, 400), text::short(&rule.location.to_string(), 400))
}
