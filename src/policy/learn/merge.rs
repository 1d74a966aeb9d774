//! `policy learn --merge`: what runs needed and a policy does not allow yet, put into its own text.
//!
//! Only lists that are there grow: a plane that the policy leaves open stays open, and what it denies stays denied.

use std::collections::{BTreeMap, BTreeSet};

use super::{Item, Lists, comment, day, scalar, steps};
use crate::finding::{Kind, Report};
use crate::job::{Job, StepKey};
use crate::policy::lock::quote;
use crate::policy::yaml::{self, Node, Value};

/// The policy's text with what was added, and what could not be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Merged {
    pub text: String,
    /// Items that were put in, with their step and plane.
    pub added: Vec<String>,
    /// What the runs did and the policy still objects to, as findings name it.
    pub left: Vec<String>,
}

/// What the policy objects to, as a plane of it names it.
const PLANES: [(&str, &str); 3] =
    [("egress-undeclared", "network"), ("file-undeclared", "files"), ("run-undeclared", "run")];

/// Adds to `text` what the runs needed, by the runs judged without a policy (`free`) and under this one (`bound`).
/// Nothing is needed: the text comes back as it was, byte for byte.
pub fn merge(text: &str, free: &[&Report], bound: &[&Report]) -> Merged {
    let needs = steps(free);
    let jobs: Vec<&Job> = free.iter().map(|report| &report.job).collect();
    let mut merged = Merged { text: text.to_owned(), added: Vec::new(), left: Vec::new() };
    for (step, plane, objects) in objections(bound) {
        let Some(lists) = needs.get(&step) else { continue };
        let items = match plane {
            "network" => &lists.network,
            "files" => &lists.writes,
            _ => &lists.runs,
        };
        let mut wanted: BTreeMap<&String, &Item> = BTreeMap::new();
        for object in objects {
            let fits = |(name, item): &(&String, &Item)| is_for(plane, name, item, &object, &jobs);
            match items.iter().find(fits) {
                Some((name, item)) => {
                    wanted.insert(name, item);
                }
                None => merged.left.push(format!("{step}: {plane}: {object}")),
            }
        }
        for (name, item) in wanted {
            let remark = remark(lists, item);
            match insert(&merged.text, &step, plane, name, &remark) {
                Some(text) => {
                    merged.text = text;
                    merged.added.push(format!("{step}: {plane}: {name}"));
                }
                None => merged.left.push(format!("{step}: {plane}: {name}")),
            }
        }
    }
    merged
}

fn remark(lists: &Lists, item: &Item) -> String {
    let mut remarks: Vec<String> = item.reasons.iter().map(|reason| comment(reason)).collect();
    remarks.push(format!("learned: in {} of {}, last {}", item.runs, lists.seen_in, day(item.last)));
    remarks.join(", ")
}

/// Step, plane, and the objects that the policy objects to.
fn objections(bound: &[&Report]) -> Vec<(StepKey, &'static str, BTreeSet<String>)> {
    let mut found: BTreeMap<(StepKey, &'static str), BTreeSet<String>> = BTreeMap::new();
    for finding in bound.iter().flat_map(|report| &report.findings) {
        let plane = PLANES.iter().find(|(rule, _)| *rule == finding.rule.0);
        if let (Kind::Policy, Some((_, plane))) = (finding.kind, plane) {
            let objects = found.entry((finding.step.clone(), plane)).or_default();
            objects.insert(finding.object.clone());
            objects.extend(finding.more_objects.iter().cloned());
        }
    }
    found.into_iter().map(|((step, plane), objects)| (step, plane, objects)).collect()
}

/// Whether an item of a list is for the object of a finding.
fn is_for(plane: &str, name: &str, item: &Item, object: &str, jobs: &[&Job]) -> bool {
    match plane {
        "network" => {
            let host = object.rsplit_once(':').map_or(object, |(host, _)| host);
            let is_group_for = |reason: &String| reason.ends_with(&format!(": {host}"));
            name == object
                || object == format!("{name}:443")
                || name.strip_prefix("udp://") == Some(object)
                || item.reasons.iter().any(is_group_for)
        }
        "files" => {
            let glob = name.strip_prefix("write ").unwrap_or(name);
            let (path, is_folder) = glob.strip_suffix("/**").map_or((glob, false), |folder| (folder, true));
            jobs.iter().any(|job| {
                let whole = match (path.strip_prefix('~'), path.strip_prefix('.')) {
                    (Some(rest), _) => format!("{}{rest}", job.home),
                    (_, Some(rest)) => format!("{}{rest}", job.workspace),
                    _ => path.to_owned(),
                };
                object == whole || (is_folder && object.starts_with(&format!("{whole}/")))
            })
        }
        _ => {
            let base = object.rsplit('/').next().unwrap_or(object);
            name == base || name == object || object.ends_with(name.trim_start_matches(['.', '~']))
        }
    }
}

/// The text with one more item in the list that restricts this step, if there is one.
fn insert(text: &str, step: &StepKey, plane: &str, item: &str, remark: &str) -> Option<String> {
    let tree = yaml::read(text).ok()?;
    let own = get(&tree, "steps").and_then(|steps| match &steps.value {
        Value::Map(map) => map.iter().find(|(key, _)| key.text() == Some(&step.0)).map(|(_, block)| block),
        _ => None,
    });
    let list = [own, get(&tree, "defaults")]
        .into_iter()
        .flatten()
        .find_map(|block| get(get(block, plane)?, "allow"))?;
    let Value::List(items) = &list.value else { return None };
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let line = lines.get(list.line as usize - 1)?;
    let at = offset(line, list.column)?;
    if line[at..].starts_with('[') {
        let (end_line, end) = end_of_list(&lines, list.line as usize - 1, at)?;
        let line = &mut lines[end_line];
        let comma = if items.is_empty() { "" } else { ", " };
        line.insert_str(end, &format!("{comma}{}", scalar_in_list(item)));
    } else {
        let behind = items.last()?.line as usize;
        let dash = lines.get(items.first()?.line as usize - 1)?.find('-')?;
        let new = format!("{}- {}  # {remark}", " ".repeat(dash), scalar(item));
        lines.insert(behind, new);
    }
    let merged = lines.join("\n") + "\n";
    // A text that no longer reads as it should is not ours to hand out.
    let is_there = |tree: &Node| format!("{tree:?}").contains(&format!("{item:?}"));
    yaml::read(&merged).ok().filter(is_there).map(|_| merged)
}

/// In `[…]` a comma or a bracket would end a plain word.
fn scalar_in_list(item: &str) -> String {
    let plain = scalar(item);
    if plain == item && !item.contains(',') { plain } else { quote(item) }
}

fn get<'n>(node: &'n Node, key: &str) -> Option<&'n Node> {
    let Value::Map(map) = &node.value else { return None };
    map.iter().find(|(name, _)| name.text() == Some(key)).map(|(_, value)| value)
}

/// The byte at which this column, counted in characters from 1, begins.
fn offset(line: &str, column: u32) -> Option<usize> {
    line.char_indices().map(|(at, _)| at).nth(column as usize - 1)
}

/// Where the bracket stands that closes the one at this place: line and byte.
fn end_of_list(lines: &[String], line: usize, at: usize) -> Option<(usize, usize)> {
    let mut depth = 0;
    let mut quoted = None;
    for (number, text) in lines.iter().enumerate().skip(line) {
        let from = if number == line { at } else { 0 };
        let mut before = ' ';
        let mut letters = text.char_indices().skip_while(|(place, _)| *place < from);
        while let Some((place, letter)) = letters.next() {
            match (quoted, letter) {
                (Some('"'), '\\') => {
                    letters.next();
                }
                (Some(mark), letter) if letter == mark => quoted = None,
                (None, '"' | '\'') => quoted = Some(letter),
                (None, '#') if before.is_whitespace() => break,
                (None, '[') => depth += 1,
                (None, ']') => {
                    depth -= 1;
                    if depth == 0 {
                        return Some((number, place));
                    }
                }
                _ => {}
            }
            before = letter;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace;

    const STEP: &str = "npm ci\n";
    const TRACE: &str = "answer packages.example 203.0.113.9
         1 > 2 launch /usr/bin/node node /usr/bin/npm ci
         2 connect 203.0.113.9:443
         2 create ~/.npm/_cacache/x
         2 create /w/node_modules/a";

    fn merged(policy: &str) -> Merged {
        let (free, bound) = (trace::report(STEP, "", TRACE), trace::report(STEP, policy, TRACE));
        merge(policy, &[&free], &[&bound])
    }

    fn objected(policy: &str) -> Vec<String> {
        let mut found = trace::findings(STEP, policy, TRACE);
        found.retain(|finding| finding.contains(" policy "));
        found
    }

    #[test]
    fn lists_grow_by_what_was_needed_and_everything_else_stays() {
        let policy = "# Ours.\nversion: 1\ndefaults:\n  network: {allow: [api.example, \"*.x.example\"]}  # why\n  files:\n    allow:\n      - \"write ./**\"  # all of it\n  # Not yet.\n  run: {allow: []}\n";
        let one = merged(policy);
        assert_eq!(one.left, [""; 0], "{one:?}");
        for line in [
            "# Ours.",
            "  network: {allow: [api.example, \"*.x.example\", ",
            "      - \"write ./**\"  # all of it",
            "      - \"write ~/.npm/**\"  # learned: in 1 of 1, last 2027-01-15",
            "  # Not yet.",
            "  run: {allow: [node]}",
        ] {
            assert!(one.text.contains(line), "{line}\n{}", one.text);
        }
        assert!(!objected(policy).is_empty());
        assert_eq!(objected(&one.text), [""; 0], "{}", one.text);
        // Merged again it is the same, byte for byte.
        let again = merged(&one.text);
        assert_eq!((again.text, again.added.len()), (one.text, 0));
    }

    #[test]
    fn what_is_open_stays_open_and_what_is_denied_stays_denied() {
        for policy in ["version: 1\n", "version: 1\ndefaults: {run: {deny: [docker]}}\n"] {
            assert_eq!(
                merged(policy),
                Merged { text: policy.to_owned(), added: Vec::new(), left: Vec::new() }
            );
        }
        let denied = merged("version: 1\ndefaults: {run: {deny: [node]}}\n");
        assert_eq!((denied.added.len(), denied.left.len()), (0, 1), "{denied:?}");
    }

    #[test]
    fn a_step_s_own_list_is_the_one_that_grows() {
        let policy = "version: 1\ndefaults:\n  run: {allow: [sh]}\nsteps:\n  local/run:\n    run:\n      allow: [\n        \"a,b]\",  # ]\n        make\n      ]\n";
        let one = merged(policy);
        assert!(
            one.text.contains("run: {allow: [sh]}") && one.text.contains("make\n      , node]"),
            "{}",
            one.text
        );
        assert_eq!(objected(&one.text), [""; 0], "{}", one.text);
    }
}
