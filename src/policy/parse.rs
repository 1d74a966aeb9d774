//! From the tree of a policy file to a policy: everything wrong is reported at once.

use std::collections::BTreeMap;

use crate::catalogue::posture;
use crate::finding::FailOn;
use crate::job::Location;

use super::groups::{self, BUILT_IN, Group};
use super::hosts::HostRule;
use super::paths::PathGlob;
use super::problem::{Complaint, PolicyError, Problems, nearest, shown};
use super::programs::RunRule;
use super::rules::{Allow, Block, Entry, FileItem, Lists, NetworkItem};
use super::schema;
use super::yaml::{self, Field, Node, Value};
use super::{Exception, Mode, Policy, Source, Verb, lock};

/// Policies are written by hand; this is thousands of lines.
const SIZE_LIMIT: usize = 256 * 1024;
/// A lock holds a policy, at worst fully escaped, and its groups.
pub(super) const LOCK_SIZE_LIMIT: usize = 4 * 1024 * 1024;

pub(super) const RULES: &[&str] = &[
    "proc-memory-read",
    "env-harvest",
    "cred-file-access",
    "ci-token-abuse",
    "cloud-metadata",
    "egress-undeclared",
    "egress-allowed-host-exfil",
    "egress-covert-channel",
    "log-artifact-leak",
    "install-script",
    "startup-hijack",
    "build-tamper",
    "remote-control",
    "persistence",
    "runner-takeover",
    "container-escape",
    "posture-drift",
    "destructive",
    "agent-config-tamper",
    "agent-escalation",
    "agent-tool-divergence",
    "sandbox-path-escape",
    "fileless-obfuscated-exec",
    "sensor-evasion",
    "file-undeclared",
    "run-undeclared",
    "agent-undeclared",
    "agent-contradicted",
    "agent-record-lost",
    "policy-changed",
    "exception-expired",
];

/// A policy or a lock of one.
pub(super) fn document(text: &str, origin: &str) -> Result<Policy, PolicyError> {
    let limit = if text.starts_with(lock::HEADER) { LOCK_SIZE_LIMIT } else { SIZE_LIMIT };
    let tree = tree(text, origin, limit)?;
    if let Value::Map(map) = &tree.value
        && map.iter().any(|(key, _)| key.text() == Some("lock"))
    {
        return lock::open(&tree, text, origin);
    }
    policy(&tree, text, origin, BTreeMap::new())
}

/// A policy text with groups that stand in for the built-in ones.
pub(super) fn with_groups(
    text: &str,
    origin: &str,
    groups: BTreeMap<String, Group>,
) -> Result<Policy, PolicyError> {
    let tree = tree(text, origin, SIZE_LIMIT)?;
    policy(&tree, text, origin, groups)
}

fn tree(text: &str, origin: &str, limit: usize) -> Result<Node, PolicyError> {
    let fail = |line, column, complaint| {
        let mut problems = Problems::default();
        problems.place(line, column, complaint);
        problems.finish(origin, text).err().unwrap_or_else(|| PolicyError::plain(origin, "is not a policy"))
    };
    if text.len() > limit {
        let message = format!("the policy has {} bytes; the limit is {limit}", text.len());
        return Err(PolicyError::plain(origin, &message));
    }
    if text
        .lines()
        .all(|line| line.trim().is_empty() || line.trim_start().starts_with('#') || line.trim() == "---")
    {
        return Err(fail(1, 1, Complaint::new("the policy is empty").hint("it starts with `version: 1`")));
    }
    yaml::read(text).map_err(|(line, column, complaint)| fail(line, column, complaint))
}

struct Reader<'a> {
    origin: &'a str,
    problems: Problems,
    /// Groups that stand in for the built-in ones, of a lock.
    pinned: BTreeMap<String, Group>,
    used: BTreeMap<String, Group>,
}

fn policy(
    tree: &Node,
    text: &str,
    origin: &str,
    pinned: BTreeMap<String, Group>,
) -> Result<Policy, PolicyError> {
    let mut reader = Reader { origin, problems: Problems::default(), pinned, used: BTreeMap::new() };
    let fields = yaml::fields(tree, "the policy", &schema::names(schema::POLICY), &mut reader.problems);
    let mut policy = Policy::absent();
    match fields.get("version").map(|field| field.value) {
        None if matches!(tree.value, Value::Map(_)) => reader.problems.place(
            tree.line,
            tree.column,
            Complaint::new("`version` is missing").hint("the policy starts with `version: 1`"),
        ),
        Some(node) if !matches!(&node.value, Value::Number(number) if number == "1") => {
            reader.problems.at(node, Complaint::new("this version is not known").hint("write `version: 1`"));
        }
        _ => {}
    }
    if let Some(field) = fields.get("mode") {
        policy.mode = reader.word(field, "mode", |word| match word {
            "audit" => Ok(Mode::Audit),
            "block" => Ok(Mode::Block),
            "enforce" => Err(Some("block")),
            "log" | "analyze" => Err(Some("audit")),
            other => Err(nearest(other, schema::MODES.iter().copied())),
        });
    }
    if let Some(field) = fields.get("fail-on") {
        policy.fail_on = reader.word(field, "fail-on", |word| {
            word.parse::<FailOn>().map_err(|_| nearest(word, schema::FAIL_ON.iter().copied()))
        });
    }
    if let Some(field) = fields.get("intent") {
        let ids = text_list(field.value, "`intent`", &mut reader.problems);
        for (id, node) in &ids {
            reader.identifier(id, node, "`intent`");
        }
        policy.intent = Some(ids.into_iter().map(|(id, _)| id.to_owned()).collect());
    }
    if let Some(field) = fields.get("defaults") {
        policy.defaults = Some(reader.block(*field, "defaults".to_owned(), &[]));
    }
    if let Some(field) = fields.get("steps") {
        for (key, field) in yaml::entries(field.value, "`steps`", &mut reader.problems) {
            reader.step_key(key, field.key);
            let name = format!("steps.\"{}\"", shown(key));
            policy.steps.push((key.to_owned(), reader.block(field, name, schema::STEP)));
        }
    }
    if let Some(field) = fields.get("agents") {
        for (id, field) in yaml::entries(field.value, "`agents`", &mut reader.problems) {
            reader.identifier(id, field.key, "`agents`");
            let name = format!("agents.{}", shown(id));
            policy.agents.push((id.to_owned(), reader.block(field, name, schema::STEP)));
        }
    }
    if let Some(field) = fields.get("secrets") {
        for (glob, node) in text_list(field.value, "`secrets`", &mut reader.problems) {
            match PathGlob::parse(glob) {
                Ok(_) => policy.secrets.push(glob.to_owned()),
                Err(complaint) => reader.problems.at(node, complaint),
            }
        }
    }
    if let Some(field) = fields.get("except") {
        let Value::List(items) = &field.value.value else {
            reader.problems.at(
                field.value,
                Complaint::new(format!("`except` must be a list, not {}", field.value.kind()))
                    .hint("write `- {rule: …, object: …, reason: …, until: …}`"),
            );
            return Err(reader
                .problems
                .finish(origin, text)
                .err()
                .unwrap_or_else(|| PolicyError::plain(origin, "")));
        };
        policy.exceptions = items.iter().filter_map(|item| reader.exception(item)).collect();
    }
    policy.groups = reader.used;
    reader.problems.finish(origin, text)?;
    policy.source = Some(Source { origin: origin.to_owned(), text: text.to_owned() });
    Ok(policy)
}

impl Reader<'_> {
    fn location(&self, node: &Node) -> Location {
        Location { path: self.origin.to_owned(), line: node.line }
    }

    /// A field of few words; an error may name the word that was meant.
    fn word<T>(
        &mut self,
        field: &Field<'_>,
        key: &str,
        read: impl Fn(&str) -> Result<T, Option<&'static str>>,
    ) -> Option<T> {
        let words = match key {
            "mode" => "audit or block",
            _ => "none, low, medium, high or critical",
        };
        let Some(word) = field.value.text() else {
            let message = format!("`{key}` must be {words}, not {}", field.value.kind());
            self.problems.at(field.value, Complaint::new(message));
            return None;
        };
        match read(word) {
            Ok(value) => Some(value),
            Err(meant) => {
                let complaint = Complaint::new(format!("`{}` is not one of {words}", shown(word)));
                let complaint = match meant {
                    Some(meant) => complaint.hint(format!("did you mean `{meant}`?")),
                    None => complaint,
                };
                self.problems.at(field.value, complaint);
                None
            }
        }
    }

    fn identifier(&mut self, id: &str, node: &Node, what: &str) {
        let is_id = !id.is_empty()
            && id.len() <= 64
            && id.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_' | b'.')
            });
        if !is_id {
            self.problems.at(
                node,
                Complaint::new(format!("`{}` is not an id for {what}", shown(id)))
                    .hint("lower-case letters, digits and dashes, as in `claude-code`"),
            );
        }
    }

    fn step_key(&mut self, key: &str, node: &Node) {
        let is_whole = key.contains('/') && key.split('/').all(|part| !part.is_empty());
        if !is_whole {
            self.problems.at(
                node,
                Complaint::new(format!("`{}` does not name a step", shown(key))).hint(format!(
                    "a step is \"job/step\"; for this step of any job write \"*/{}\"",
                    shown(key.trim_matches('/'))
                )),
            );
        } else if key.chars().any(char::is_control) || key.contains("**") {
            self.problems.at(
                node,
                Complaint::new(format!("`{}` does not name a step", shown(key)))
                    .hint("`*` and `?` match within one segment"),
            );
        }
    }

    fn block(&mut self, field: Field<'_>, name: String, extra: &[schema::Key]) -> Block {
        let what = format!("`{name}`");
        let known = [schema::names(extra), schema::names(schema::BLOCK)].concat();
        let fields = yaml::fields(field.value, &what, &known, &mut self.problems);
        let mut block = Block { name, location: Some(self.location(field.key)), ..Block::default() };
        if let Some(field) = fields.get("inherit") {
            match field.value.value {
                Value::Bool(inherits) => block.is_closed = !inherits,
                _ => self.problems.at(
                    field.value,
                    Complaint::new(format!("`inherit` must be true or false, not {}", field.value.kind())),
                ),
            }
        }
        if let Some(field) = fields.get("task") {
            match field.value.text() {
                Some(task) => block.task = Some(task.to_owned()),
                None => self.problems.at(
                    field.value,
                    Complaint::new(format!("`task` must be text, not {}", field.value.kind())),
                ),
            }
        }
        if let Some(field) = fields.get("network") {
            block.network = self.lists(*field, "network", schema::NETWORK, Self::network_item);
        }
        if let Some(field) = fields.get("files") {
            block.files = self.lists(*field, "files", schema::FILES, Self::file_entry);
        }
        if let Some(field) = fields.get("run") {
            block.run = self.lists(*field, "run", schema::RUN, |_, text| RunRule::parse(text));
        }
        if let Some(field) = fields.get("posture") {
            let fields =
                yaml::fields(field.value, "`posture`", &schema::names(schema::POSTURE), &mut self.problems);
            if let Some(field) = fields.get("minimum-score") {
                match &field.value.value {
                    Value::Number(number) if number.parse().is_ok_and(|score: u32| score <= 100) => {
                        block.minimum_score = number.parse().ok();
                    }
                    _ => self.problems.at(
                        field.value,
                        Complaint::new("`posture.minimum-score` must be a number from 0 to 100")
                            .hint("`edamame-guard posture` ends with the score of this host"),
                    ),
                }
            }
            for (key, list) in [("allow", &mut block.posture_allow), ("require", &mut block.posture_require)]
            {
                let Some(field) = fields.get(key) else { continue };
                for (item, node) in text_list(field.value, &format!("`posture.{key}`"), &mut self.problems) {
                    if let Err(complaint) = posture_item(key, item) {
                        self.problems.at(node, complaint);
                        continue;
                    }
                    list.push(Entry {
                        item: item.to_owned(),
                        text: item.to_owned(),
                        location: self.location(node),
                        except: Vec::new(),
                    });
                }
            }
        }
        block
    }

    fn lists<T>(
        &mut self,
        field: Field<'_>,
        plane: &str,
        keys: &[schema::Key],
        item: impl Fn(&mut Self, &str) -> Result<T, Complaint>,
    ) -> Lists<T> {
        let what = format!("`{plane}`");
        let mut lists = Lists::default();
        let fields = yaml::fields(field.value, &what, &schema::names(keys), &mut self.problems);
        if let Some(field) = fields.get("allow") {
            if field.value.text() == Some("any") {
                lists.allow = Allow::Any(self.location(field.key));
            } else if let Some(nodes) = self.list(field.value, &format!("`{plane}.allow`"), true) {
                let mut entries = Vec::new();
                for node in nodes {
                    match node.text() {
                        Some("any") => self.problems.at(
                            node,
                            Complaint::new("`any` stands alone, not in a list").hint("write `allow: any`"),
                        ),
                        _ => entries.extend(self.entry(node, plane, false, &item)),
                    }
                }
                lists.allow = Allow::List(entries, self.location(field.key));
            }
        }
        if let Some(field) = fields.get("deny")
            && let Some(nodes) = self.list(field.value, &format!("`{plane}.deny`"), false)
        {
            for node in nodes {
                lists.deny.extend(self.entry(node, plane, plane == "files", &item));
            }
        }
        lists
    }

    fn list<'n>(&mut self, node: &'n Node, what: &str, may_be_any: bool) -> Option<&'n [Node]> {
        match (&node.value, may_be_any) {
            (Value::List(nodes), _) => return Some(nodes),
            // An unset list must not read as "everything".
            (Value::Null, true) => self.problems.at(
                node,
                Complaint::new(format!("{what} has no value"))
                    .hint("`[]` allows nothing; `any` lifts the restriction"),
            ),
            (Value::Text(text), _) => self.problems.at(
                node,
                Complaint::new(format!("{what} must be a list, not text"))
                    .hint(format!("write `[{}]`", shown(text))),
            ),
            _ => self.problems.at(
                node,
                Complaint::new(format!("{what} must be a list, not {}", node.kind()))
                    .hint("write `[…]` or `- …` lines"),
            ),
        }
        None
    }

    fn entry<T>(
        &mut self,
        node: &Node,
        plane: &str,
        may_except: bool,
        item: impl Fn(&mut Self, &str) -> Result<T, Complaint>,
    ) -> Option<Entry<T>> {
        let mut except = Vec::new();
        let (node, text) = match &node.value {
            Value::Text(text) => (node, text.as_str()),
            Value::Map(_) if may_except => {
                let fields =
                    yaml::fields(node, "this deny", &schema::names(schema::FILE_DENY), &mut self.problems);
                if let Some(field) = fields.get("except") {
                    for (glob, node) in text_list(field.value, "`except`", &mut self.problems) {
                        match PathGlob::parse(glob) {
                            Ok(glob) => except.push(glob),
                            Err(complaint) => self.problems.at(node, complaint),
                        }
                    }
                }
                let Some(text) = fields.get("match").and_then(|field| field.value.text()) else {
                    self.problems.at(
                        node,
                        Complaint::new("this deny has no `match`")
                            .hint("write `{match: \"read ~/.ssh/**\", except: [\"~/.ssh/config\"]}`"),
                    );
                    return None;
                };
                (fields.get("match").map_or(node, |field| field.value), text)
            }
            Value::Map(_) => {
                let hint = match plane {
                    "files" => "`match` and `except` are for `deny`",
                    _ => "`match` and `except` are for `files.deny`",
                };
                self.problems
                    .at(node, Complaint::new(format!("an item of `{plane}` must be text")).hint(hint));
                return None;
            }
            _ => {
                let message = format!("an item of `{plane}` must be text, not {}", node.kind());
                self.problems.at(node, Complaint::new(message).hint("quote it"));
                return None;
            }
        };
        match item(self, text) {
            Ok(item) => Some(Entry { item, text: text.to_owned(), location: self.location(node), except }),
            Err(complaint) => {
                self.problems.at(node, complaint);
                None
            }
        }
    }

    fn network_item(&mut self, text: &str) -> Result<NetworkItem, Complaint> {
        if is_one_word(text) {
            let hint = match text {
                "localhost" => "loopback is not egress and needs no entry".to_owned(),
                _ => format!("for a host of this name write its port too, as `{}:443`", shown(text)),
            };
            return self.group(text, &hint).map(NetworkItem::Group);
        }
        HostRule::parse(text).map(NetworkItem::Host)
    }

    fn file_entry(&mut self, text: &str) -> Result<FileItem, Complaint> {
        if is_one_word(text) {
            return self
                .group(text, "a path starts with a verb: `read ./**` or `write ./**`")
                .map(FileItem::Group);
        }
        file_item(text).map(|(verb, glob)| FileItem::Path(verb, glob))
    }

    fn group(&mut self, name: &str, otherwise: &str) -> Result<String, Complaint> {
        if let Some(group) = self.pinned.get(name).or_else(|| BUILT_IN.get(name)) {
            self.used.insert(name.to_owned(), group.clone());
            return Ok(name.to_owned());
        }
        let known = BUILT_IN.keys().map(String::as_str);
        let hint = if let Some(near) = nearest(name, known) {
            format!("did you mean `{near}`?")
        } else {
            let all: Vec<&str> = BUILT_IN.keys().map(String::as_str).collect();
            format!("{otherwise}; the groups are {}", all.join(", "))
        };
        Err(Complaint::new(format!("unknown group `{}`", shown(name))).hint(hint))
    }

    fn exception(&mut self, node: &Node) -> Option<Exception> {
        let fields =
            yaml::fields(node, "an exception", &schema::names(schema::EXCEPTION), &mut self.problems);
        if !matches!(node.value, Value::Map(_)) {
            return None;
        }
        let mut text = |key: &str| {
            let field = fields.get(key)?;
            match field.value.text() {
                Some(text) if !text.trim().is_empty() => Some((text.to_owned(), field.value)),
                _ => {
                    let message = format!("`{key}` must be text, not {}", field.value.kind());
                    self.problems.at(field.value, Complaint::new(message).hint("quote it"));
                    None
                }
            }
        };
        let (rule, step, object, reason, until) =
            (text("rule"), text("step"), text("object"), text("reason"), text("until"));
        for key in ["rule", "reason"] {
            if !fields.contains_key(key) {
                self.problems.at(node, Complaint::new(format!("this exception has no `{key}`")));
            }
        }
        if let Some((rule, node)) = &rule {
            let is_open = ["posture-", "coverage-"].iter().any(|prefix| rule.starts_with(prefix));
            if !is_open && !RULES.contains(&rule.as_str()) {
                let complaint = Complaint::new(format!("unknown rule `{}`", shown(rule)));
                let complaint = match nearest(rule, RULES.iter().copied()) {
                    Some(near) => complaint.hint(format!("did you mean `{near}`?")),
                    None => complaint,
                };
                self.problems.at(node, complaint);
            }
        }
        if let Some((step, node)) = &step {
            self.step_key(step, node);
        }
        let until = match until {
            None => None,
            Some((text, node)) => {
                const DATE: &[time::format_description::BorrowedFormatItem<'_>] =
                    time::macros::format_description!("[year]-[month]-[day]");
                let date = time::Date::parse(&text, DATE).ok();
                if date.is_none() {
                    let message = format!("`{}` is not a date", shown(&text));
                    self.problems.at(node, Complaint::new(message).hint("write it as 2027-01-31"));
                }
                date
            }
        };
        Some(Exception {
            rule: rule?.0,
            step: step.map(|(step, _)| step),
            object: object.map(|(object, _)| object),
            reason: reason?.0,
            until,
            location: self.location(node),
        })
    }
}

/// A word that can only name a group.
fn is_one_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_alphanumeric() || matches!(letter, '-' | '_'))
}

/// `read GLOB` or `write GLOB`.
pub(super) fn file_item(text: &str) -> Result<(Verb, PathGlob), Complaint> {
    let (verb, glob) = match text.split_once(' ') {
        Some(("read", glob)) => (Verb::Read, glob),
        Some(("write", glob)) => (Verb::Write, glob),
        Some((word, _)) if word.chars().all(char::is_alphabetic) => {
            let meant = match word {
                "create" | "modify" | "delete" | "rename" | "chmod" | "link" | "edit" => Some("write"),
                other => nearest(other, ["read", "write"].into_iter()),
            };
            let complaint = Complaint::new(format!("`{}` is not read or write", shown(word)));
            return Err(match meant {
                Some(meant) => complaint.hint(format!("did you mean `{meant}`?")),
                None => complaint.hint("`write` covers create, modify, delete, rename, chmod and link"),
            });
        }
        _ => {
            return Err(Complaint::new(format!("`{}` has no verb", shown(text)))
                .hint(format!("write `read {0}` or `write {0}`", shown(text))));
        }
    };
    PathGlob::parse(glob.trim_start_matches(' ')).map(|glob| (verb, glob))
}

/// A list of text.
/// A check's id; in `allow` also `group:object`.
fn posture_item(key: &str, item: &str) -> Result<(), Complaint> {
    let checks = posture::checks();
    if let (Some((group, _)), "allow") = (item.split_once(':'), key) {
        if checks.iter().any(|check| check.group == group) {
            return Ok(());
        }
        let complaint = Complaint::new(format!("unknown group of checks `{}`", shown(group)));
        let near = nearest(group, checks.iter().map(|check| check.group.as_str()));
        return Err(complaint.hint(near.map_or_else(
            || "`edamame-guard posture` lists the groups".to_owned(),
            |near| format!("did you mean `{near}:`?"),
        )));
    }
    match posture::check(item) {
        Some(check) if key == "require" && !check.can_be_weak() => {
            Err(Complaint::new(format!("`{item}` can't be required: it has no state that is wrong as such"))
                .hint("a change of it during the run is told anyway"))
        }
        Some(_) => Ok(()),
        None => {
            let complaint = Complaint::new(format!("unknown check `{}`", shown(item)));
            let near = nearest(item, checks.iter().map(|check| check.id.as_str()));
            Err(complaint.hint(near.map_or_else(
                || "`edamame-guard posture` lists the checks".to_owned(),
                |near| format!("did you mean `{near}`?"),
            )))
        }
    }
}

pub(super) fn text_list<'n>(node: &'n Node, what: &str, problems: &mut Problems) -> Vec<(&'n str, &'n Node)> {
    let Value::List(items) = &node.value else {
        problems.at(
            node,
            Complaint::new(format!("{what} must be a list, not {}", node.kind()))
                .hint("write `[…]` or `- …` lines"),
        );
        return Vec::new();
    };
    let mut found = Vec::new();
    for item in items {
        match item.text() {
            Some(text) => found.push((text, item)),
            None => problems.at(
                item,
                Complaint::new(format!("an item of {what} must be text, not {}", item.kind()))
                    .hint("quote it"),
            ),
        }
    }
    found
}

/// The groups of a lock.
pub(super) fn pinned_groups(node: &Node, problems: &mut Problems) -> BTreeMap<String, Group> {
    yaml::entries(node, "`groups`", problems)
        .into_iter()
        .map(|(name, field)| {
            (name.to_owned(), groups::read(field.value, &format!("group `{}`", shown(name)), problems))
        })
        .collect()
}
