//! `policy.lock.yml`: the policy as it was applied, so that a replay judges the same in a later version.
//!
//! It holds the user's own text, digest beside it, and what every group stood for. The text is kept
//! whole because findings cite its lines, and a replay has to cite the same ones.

use std::fmt::Write as _;

use super::groups::Group;
use super::parse;
use super::problem::{Complaint, PolicyError, Problems};
use super::yaml::{self, Node};
use super::{Policy, Source};

/// How a lock begins.
pub(super) const HEADER: &str = "# policy.lock.yml: ";

pub(super) fn write(policy: &Policy) -> String {
    let Some(Source { origin, text }) = &policy.source else {
        return format!(
            "{HEADER}no policy was applied: nothing is restricted.\nlock: {{version: 1, policy: none}}\n"
        );
    };
    let mut out = format!(
        "{HEADER}the policy that was applied, with what its groups stood for.\n\
         # Package groups name no host here: the hosts found on the machine are in the recording.\n\
         lock:\n  version: 1\n  origin: {}\n  sha256: {}\n",
        quote(origin),
        // Quoted, because some digests read as numbers.
        quote(&super::sha256(text))
    );
    if !policy.groups.is_empty() {
        out.push_str("groups:\n");
    }
    for (name, group) in &policy.groups {
        write_group(&mut out, name, group);
    }
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

fn policy_text(tree: &Node) -> Option<&str> {
    let yaml::Value::Map(map) = &tree.value else { return None };
    map.iter().find(|(key, _)| key.text() == Some("policy")).and_then(|(_, value)| value.text())
}

/// Reads a lock back.
pub(super) fn open(tree: &Node, text: &str, origin: &str) -> Result<Policy, PolicyError> {
    let mut problems = Problems::default();
    let fields = yaml::fields(tree, "the lock", &["lock", "groups", "policy"], &mut problems);
    let Some(head) = fields.get("lock") else { return Err(PolicyError::plain(origin, "is not a lock")) };
    let head = yaml::fields(head.value, "`lock`", &["version", "origin", "sha256", "policy"], &mut problems);
    let said = |key: &str| head.get(key).and_then(|field| field.value.text());
    if !head
        .get("version")
        .is_some_and(|field| matches!(&field.value.value, yaml::Value::Number(number) if number == "1"))
    {
        problems.at(tree, Complaint::new("this lock's version is not known"));
    }
    if said("policy") == Some("none") {
        problems.finish(origin, text)?;
        return Ok(Policy::absent());
    }
    let groups = fields.get("groups").map(|field| parse::pinned_groups(field.value, &mut problems));
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
    parse::with_groups(inner, from, groups.unwrap_or_default())
}

fn finish(problems: Problems, origin: &str, text: &str) -> PolicyError {
    problems.finish(origin, text).err().unwrap_or_else(|| PolicyError::plain(origin, "is not a lock"))
}
