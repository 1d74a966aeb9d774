//! `policy.lock.yml`: the policy as it was applied, so that a replay judges the same in a later version.
//!
//! It holds the user's own text, digest beside it, and what every group stood for. The text is kept
//! whole because findings cite its lines, and a replay has to cite the same ones.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::finding::FailOn;
use crate::job::StepKey;

use super::beside::{Beside, Role};
use super::groups::Group;
use super::parse;
use super::problem::{Complaint, PolicyError, Problems};
use super::yaml::{self, Node};
use super::{Policy, Source};

/// How a lock begins.
pub(super) const HEADER: &str = "# policy.lock.yml: ";

pub(super) fn write(policy: &Policy) -> String {
    if policy.source.is_none() && policy.beside.is_empty() && policy.ceiling.is_none() {
        return format!(
            "{HEADER}no policy was applied: nothing is restricted.\nlock: {{version: 1, policy: none}}\n"
        );
    }
    let mut out = format!(
        "{HEADER}the policy that was applied, with what its groups stood for.\n\
         # Package groups name no host here: the hosts found on the machine are in the recording.\n\
         lock:\n  version: 1\n",
    );
    match &policy.source {
        // Quoted, because some digests read as numbers.
        Some(Source { origin, text }) => {
            let _ = writeln!(out, "  origin: {}\n  sha256: {}", quote(origin), quote(&super::sha256(text)));
        }
        None => out.push_str("  policy: none\n"),
    }
    if let Some(ceiling) = policy.ceiling {
        let _ = writeln!(out, "  ceiling: {}", ceiling.as_str());
    }
    if !policy.beside.is_empty() {
        out.push_str("beside:\n");
    }
    for Beside { role, origin, policy } in &policy.beside {
        let _ = writeln!(out, "  - role: {}\n    origin: {}", role.as_str(), quote(origin));
        if let Some(Source { text, .. }) = &policy.source {
            let _ = writeln!(out, "    sha256: {}\n    policy: {}", quote(&super::sha256(text)), quote(text));
        }
    }
    if !policy.groups.is_empty() {
        out.push_str("groups:\n");
    }
    for (name, group) in &policy.groups {
        write_group(&mut out, name, group);
    }
    let Some(Source { text, .. }) = &policy.source else { return out };
    let literal = format!("{out}policy: {}", block(text));
    // YAML has many ways to change a text on its way through; the escaped form has none.
    match yaml::read(&literal).ok().as_ref().and_then(policy_text) {
        Some(back) if back == text => literal,
        _ => format!("{out}policy: {}\n", quote(text)),
    }
}

fn write_group(out: &mut String, name: &str, group: &Group) {
    let Group { kind, origin, sha256, network, files } = group;
    let _ = write!(
        out,
        "  {name}:\n    kind: {}\n    origin: {}\n    sha256: {}\n",
        kind.as_str(),
        quote(origin),
        quote(sha256)
    );
    for (key, items) in [
        ("network", network.iter().map(|(text, _)| text).collect::<Vec<_>>()),
        ("files", files.iter().map(|(text, ..)| text).collect()),
    ] {
        if !items.is_empty() {
            let _ = writeln!(out, "    {key}:");
        }
        for item in items {
            let _ = writeln!(out, "      - {}", quote(item));
        }
    }
}

/// A literal block that keeps every newline.
fn block(text: &str) -> String {
    let (mark, body) = match text.strip_suffix('\n') {
        Some(body) => ("|2+", body),
        None => ("|2-", text),
    };
    let mut out = format!("{mark}\n");
    for line in body.split('\n') {
        if !line.is_empty() {
            out.push_str("  ");
            out.push_str(line);
        }
        out.push('\n');
    }
    out
}

/// A double-quoted scalar; whatever is not printable ASCII is escaped.
pub(super) fn quote(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            ' '..='~' => out.push(letter),
            other => {
                let _ = write!(out, "\\U{:08X}", u32::from(other));
            }
        }
    }
    out.push('"');
    out
}

/// A double-quoted scalar for people to paste: letters stay as they are, and nothing in it ends the line, turns the direction
/// of text or speaks to a CI system.
pub fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            // A log obeys `##[` and `##vso[`.
            '[' if out.ends_with("##") || out.ends_with("##vso") => out.push_str("\\U0000005B"),
            ' '..='~' => out.push(letter),
            other if other.is_alphanumeric() => out.push(other),
            other => {
                let _ = write!(out, "\\U{:08X}", u32::from(other));
            }
        }
    }
    out.push('"');
    out
}

/// The same of a step's key, as a key of a policy may be: `?` stands for what it may not hold.
pub fn quoted_step(key: &StepKey) -> String {
    let plain: String = key.0.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect();
    quoted(&plain.replace("**", "*?"))
}

fn policy_text(tree: &Node) -> Option<&str> {
    let yaml::Value::Map(map) = &tree.value else { return None };
    map.iter().find(|(key, _)| key.text() == Some("policy")).and_then(|(_, value)| value.text())
}

/// Reads a lock back.
pub(super) fn open(tree: &Node, text: &str, origin: &str) -> Result<Policy, PolicyError> {
    let mut problems = Problems::default();
    let fields = yaml::fields(tree, "the lock", &["lock", "beside", "groups", "policy"], &mut problems);
    let Some(head) = fields.get("lock") else { return Err(PolicyError::plain(origin, "is not a lock")) };
    let known = ["version", "origin", "sha256", "policy", "ceiling"];
    let head = yaml::fields(head.value, "`lock`", &known, &mut problems);
    let said = |key: &str| head.get(key).and_then(|field| field.value.text());
    if !head
        .get("version")
        .is_some_and(|field| matches!(&field.value.value, yaml::Value::Number(number) if number == "1"))
    {
        problems.at(tree, Complaint::new("this lock's version is not known"));
    }
    let groups = fields.get("groups").map(|field| parse::pinned_groups(field.value, &mut problems));
    let groups = groups.unwrap_or_default();
    let ceiling = said("ceiling").map(str::parse::<FailOn>);
    if let Some(Err(message)) = &ceiling {
        problems.at(tree, Complaint::new(message.clone()));
    }
    let beside = match fields.get("beside") {
        Some(field) => read_beside(field.value, &groups, &mut problems)?,
        None => Vec::new(),
    };
    let whole = |policy: Policy| {
        let policy = beside.into_iter().fold(policy, |policy, Beside { role, origin, policy: other }| {
            policy.beside(role, &origin, other)
        });
        match ceiling {
            Some(Ok(ceiling)) => policy.at_most(ceiling),
            _ => policy,
        }
    };
    if said("policy") == Some("none") {
        problems.finish(origin, text)?;
        return Ok(whole(Policy::absent()));
    }
    let (Some(inner), Some(from), Some(digest)) =
        (fields.get("policy").and_then(|field| field.value.text()), said("origin"), said("sha256"))
    else {
        problems.at(tree, Complaint::new("the lock must have `origin`, `sha256` and `policy`"));
        return Err(finish(problems, origin, text));
    };
    if super::sha256(inner) != digest {
        let field = head.get("sha256").map_or(tree, |field| field.value);
        problems.at(
            field,
            Complaint::new("the policy in this lock is not the one that was applied: its digest differs")
                .hint("a lock is written by the guard and not edited"),
        );
    }
    problems.finish(origin, text)?;
    Ok(whole(parse::with_groups(inner, from, groups)?))
}

fn read_beside(
    node: &Node,
    groups: &BTreeMap<String, Group>,
    problems: &mut Problems,
) -> Result<Vec<Beside>, PolicyError> {
    let yaml::Value::List(items) = &node.value else {
        problems.at(node, Complaint::new("`beside` must be a list"));
        return Ok(Vec::new());
    };
    let mut all = Vec::new();
    for item in items {
        let fields = yaml::fields(item, "`beside`", &["role", "origin", "sha256", "policy"], problems);
        let said = |key: &str| fields.get(key).and_then(|field| field.value.text());
        let (Some(role), Some(origin)) = (said("role").and_then(Role::parse), said("origin")) else {
            problems.at(item, Complaint::new("an item of `beside` must have a known `role` and an `origin`"));
            continue;
        };
        let policy = match (said("policy"), said("sha256")) {
            (None, None) => Policy::absent(),
            (Some(text), Some(digest)) if super::sha256(text) == digest => {
                parse::with_groups(text, origin, groups.clone())?
            }
            _ => {
                let text = "the policy in this lock is not the one that was applied: its digest differs";
                problems.at(item, Complaint::new(text).hint("a lock is written by the guard and not edited"));
                continue;
            }
        };
        all.push(Beside { role, origin: origin.to_owned(), policy });
    }
    Ok(all)
}

fn finish(problems: Problems, origin: &str, text: &str) -> PolicyError {
    problems.finish(origin, text).err().unwrap_or_else(|| PolicyError::plain(origin, "is not a lock"))
}
