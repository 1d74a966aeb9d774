//! What one policy allows and another does not, step by step and list by list.
//!
//! Lists are compared as they come out for a step. An entry that one entry of the other list covers is no
//! difference; what only several of them cover together is told as one.

use std::collections::{BTreeMap, BTreeSet};

use crate::job::{Location, StepKey};

use super::beside::Role;
use super::groups::{Group, GroupKind};
use super::hosts::HostRule;
use super::paths::PathGlob;
use super::programs::RunRule;
use super::rules::{
    Allow, Block, Entry, FileItem, Grant, Lists, NetworkItem, Parts, is_plain, restricts_verb,
};
use super::{Mode, Policy, RuleOwner, Verb};

/// All that differs; empty where the two judge the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    pub settings: Vec<Setting>,
    pub lines: Vec<Difference>,
}

/// Something that holds for the whole policy, or a step's task.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Setting {
    pub what: String,
    /// `None`: it says nothing of it.
    pub before: Option<String>,
    pub after: Option<String>,
}

/// One entry that only one of them has, or a list that only one of them has.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// `None`: the policy itself.
    pub beside: Option<(Role, String)>,
    /// As a policy writes it; `None`: every step, [`OTHERS`]: each that no key names.
    pub step: Option<String>,
    /// It holds below this agent only.
    pub agent: Option<String>,
    /// `network`, `files read`, `files write`, `run` or `posture`.
    pub list: &'static str,
    pub change: Change,
    pub text: String,
    pub location: Option<Location>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    Allowed,
    NotAllowed,
    Denied,
    NotDenied,
}

impl Change {
    /// Whether the newer policy is the stricter one here.
    pub fn is_tighter(self) -> bool {
        matches!(self, Self::NotAllowed | Self::Denied)
    }
}

/// Stands for every step that no key of the two names.
pub const OTHERS: &str = "any other step";

impl Differences {
    pub fn is_empty(&self) -> bool {
        self.settings.is_empty() && self.lines.is_empty()
    }
}

/// Compares two policies, the older one first.
pub fn diff(before: &Policy, after: &Policy) -> Differences {
    let mut lines = of_texts(before, after, before, after, None);
    for role in Role::ALL {
        let of = |policy: &Policy| {
            let own = policy.beside.iter().filter(|beside| beside.role == role);
            own.map(|beside| (beside.origin.clone(), beside.policy.clone())).collect::<Vec<_>>()
        };
        let (old, new) = (of(before), of(after));
        let absent = Policy::absent();
        for index in 0..old.len().max(new.len()) {
            let (old, new) = (old.get(index), new.get(index));
            let origin = new.or(old).map(|(origin, _)| origin.clone()).unwrap_or_default();
            let text =
                |side: Option<&'_ (String, Policy)>| side.map_or(absent.clone(), |(_, text)| text.clone());
            lines.extend(of_texts(&text(old), &text(new), before, after, Some(&(role, origin))));
        }
    }
    Differences { settings: settings(before, after), lines }
}

// --- settings ---------------------------------------------------------------------------------

fn settings(before: &Policy, after: &Policy) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut one = |what: &str, of: &dyn Fn(&Policy) -> Option<String>| {
        let (before, after) = (of(before), of(after));
        if before != after {
            settings.push(Setting { what: what.to_owned(), before, after });
        }
    };
    one("mode", &|policy| Some(policy.mode().unwrap_or(Mode::Audit).as_str().to_owned()));
    one("fail-on", &|policy| Some(policy.fail_on_of(None).as_str().to_owned()));
    one("fail-on at most", &|policy| policy.ceiling().map(|ceiling| ceiling.as_str().to_owned()));
    one("intent", &|policy| {
        Some(policy.intent().map_or("all".to_owned(), |ids| format!("[{}]", ids.join(", "))))
    });
    one("posture.minimum-score", &|policy| policy.minimum_score().map(|score| score.to_string()));
    for key in keys(before, after) {
        let step = StepKey(key.clone());
        one(&format!("task of {key}"), &|policy| policy.task(&step).map(str::to_owned));
    }
    let mut each = |what: &str, of: &dyn Fn(&Policy) -> BTreeSet<String>| {
        let (before, after) = (of(before), of(after));
        for item in before.symmetric_difference(&after) {
            let (old, new) = (before.contains(item), after.contains(item));
            let shown = |has: bool| has.then(|| item.clone());
            settings.push(Setting { what: what.to_owned(), before: shown(old), after: shown(new) });
        }
    };
    each("secrets", &|policy| policy.secrets().iter().cloned().collect());
    each("posture.require", &|policy| policy.posture_required().into_iter().map(str::to_owned).collect());
    each("except", &|policy| {
        let told = |exception: &super::Exception| {
            let step = exception.step.as_deref().unwrap_or("every step");
            let object = exception.object.as_deref().unwrap_or("any object");
            let until = exception.until.map_or(String::new(), |until| format!(" until {until}"));
            format!("{} in {step}: {object}{until}", exception.rule)
        };
        policy.exceptions().iter().map(told).collect()
    });
    settings
}

/// Keys of `steps` of both.
fn keys(before: &Policy, after: &Policy) -> BTreeSet<String> {
    before.step_keys().chain(after.step_keys()).map(str::to_owned).collect()
}

// --- lists ------------------------------------------------------------------------------------

/// Compares what two texts say; `whole` are the policies whose groups they use.
fn of_texts(
    before: &Policy,
    after: &Policy,
    whole_before: &Policy,
    whole_after: &Policy,
    beside: Option<&(Role, String)>,
) -> Vec<Difference> {
    let grant = beside.map_or(Grant::All, |(role, _)| role.grant());
    let (old_groups, new_groups) = (&whole_before.groups, &whole_after.groups);
    let compared = |old: &Parts<'_>, new: &Parts<'_>| {
        let (old, new) = (planes(old, old_groups), planes(new, new_groups));
        old.iter().zip(&new).flat_map(|(old, new)| of_planes(old, new)).collect::<Vec<_>>()
    };
    let mut steps = keys(before, after);
    steps.insert(OTHERS.to_owned());
    let mut found: BTreeMap<Line, BTreeSet<String>> = BTreeMap::new();
    for key in &steps {
        let step = StepKey(key.clone());
        for line in compared(&layer(before, &step, grant), &layer(after, &step, grant)) {
            found.entry(line).or_default().insert(key.clone());
        }
    }
    let told = |line: Line, step: Option<String>, agent: Option<String>| {
        let Line { list, change, text, location } = line;
        Difference { beside: beside.cloned(), step, agent, list, change, text, location }
    };
    let mut all = Vec::new();
    for (line, holders) in found {
        if holders == steps {
            all.push(told(line, None, None));
        } else {
            all.extend(holders.into_iter().map(|step| told(line.clone(), Some(step), None)));
        }
    }
    let agents: BTreeSet<&String> = before.agents.iter().chain(&after.agents).map(|(id, _)| id).collect();
    for agent in agents {
        let lines = compared(&below(before, agent, grant), &below(after, agent, grant));
        all.extend(lines.into_iter().map(|line| told(line, None, Some(agent.clone()))));
    }
    all.sort();
    all.dedup();
    all
}

fn layer<'p>(policy: &'p Policy, step: &StepKey, grant: Grant) -> Parts<'p> {
    let blocks = policy.matching(step).map(|(_, block)| block).collect();
    Parts { defaults: policy.defaults.as_ref(), blocks, owner: RuleOwner::Step, grant }
}

/// What an agent's own block adds; a policy without one adds nothing.
fn below<'p>(policy: &'p Policy, agent: &str, grant: Grant) -> Parts<'p> {
    let blocks: Vec<&Block> =
        policy.agents.iter().filter(|(id, _)| id == agent).map(|(_, block)| block).collect();
    let defaults = policy.defaults.as_ref().filter(|_| !blocks.is_empty());
    Parts { defaults, blocks, owner: RuleOwner::Agent, grant }
}

/// A difference, wherever it holds.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Line {
    list: &'static str,
    change: Change,
    text: String,
    location: Option<Location>,
}

/// One plane of a layer, with groups taken apart.
struct Plane<'p> {
    list: &'static str,
    /// What is not named is let through.
    is_open: bool,
    /// Where the list stands that restricts, or the `allow: any` that lifts it.
    place: Option<(String, Location)>,
    allow: Vec<Named<'p>>,
    deny: Vec<Named<'p>>,
}

/// An entry as it is written, and what it stands for.
struct Named<'p> {
    text: &'p str,
    location: &'p Location,
    /// With its own words where it comes from a group.
    units: Vec<(Option<&'p str>, Unit<'p>)>,
}

/// The smallest thing that is compared.
#[derive(Clone, Copy)]
enum Unit<'p> {
    Host(&'p HostRule),
    /// The hosts that this package client is set up to use.
    Clients(&'p str),
    Path(&'p PathGlob, &'p [PathGlob]),
    Run(&'p RunRule),
    Posture(&'p str),
}

impl Unit<'_> {
    fn covers(self, other: Self, is_deny: bool) -> bool {
        match (self, other) {
            (Self::Host(own), Self::Host(other)) => own.covers(other, is_deny),
            (Self::Path(own, except), Self::Path(other, others)) => {
                own.covers(other) && except.iter().all(|glob| others.contains(glob))
            }
            (Self::Run(own), Self::Run(other)) => own.covers(other),
            (Self::Clients(own), Self::Clients(other)) | (Self::Posture(own), Self::Posture(other)) => {
                own == other
            }
            _ => false,
        }
    }
}

fn planes<'p>(parts: &'p Parts<'p>, groups: &'p BTreeMap<String, Group>) -> Vec<Plane<'p>> {
    let hosts = |entry: &'p Entry<NetworkItem>| match &entry.item {
        NetworkItem::Host(rule) => vec![(None, Unit::Host(rule))],
        NetworkItem::Group(name) => {
            let group = groups.get(name);
            let clients = group.is_none_or(|group| group.kind == GroupKind::Package);
            let data = group.into_iter().flat_map(|group| &group.network);
            data.map(|(text, rule)| (Some(text.as_str()), Unit::Host(rule)))
                .chain(clients.then_some((None, Unit::Clients(name))))
                .collect()
        }
    };
    let network = plane("network", parts, |block| &block.network, |_| true, |entry, _| hosts(entry));
    let files = |list, verb: Verb| {
        let paths = move |entry: &'p Entry<FileItem>, widens: bool| match &entry.item {
            FileItem::Path(own, glob) if *own == verb => vec![(None, Unit::Path(glob, &entry.except))],
            FileItem::Group(name) if widens => {
                let data = groups.get(name).into_iter().flat_map(|group| &group.files);
                data.filter(|(_, own, _)| *own == verb)
                    .map(|(text, _, glob)| (Some(text.as_str()), Unit::Path(glob, &entry.except)))
                    .collect()
            }
            FileItem::Path(..) | FileItem::Group(_) => Vec::new(),
        };
        let restricts = move |entries: &[Entry<FileItem>]| restricts_verb(entries, verb);
        let mut plane = plane(list, parts, |block| &block.files, restricts, paths);
        // A group widens only what a plain entry restricts.
        let merged = parts.merge("files", |block| &block.files, restricts);
        if !merged.entries.iter().any(|(entry, _)| is_plain(&entry.item, verb)) {
            plane.allow.clear();
        }
        plane
    };
    let posture = parts.allowing().filter(|_| parts.grant == Grant::All).flat_map(|(block, _)| {
        let unit = |entry: &'p Entry<String>| vec![(None, Unit::Posture(entry.item.as_str()))];
        block.posture_allow.iter().map(move |entry| named(entry, unit(entry)))
    });
    vec![
        network,
        files("files read", Verb::Read),
        files("files write", Verb::Write),
        plane("run", parts, |block| &block.run, |_| true, |entry, _| vec![(None, Unit::Run(&entry.item))]),
        Plane { list: "posture", is_open: false, place: None, allow: posture.collect(), deny: Vec::new() },
    ]
}

fn named<'p, T>(entry: &'p Entry<T>, units: Vec<(Option<&'p str>, Unit<'p>)>) -> Named<'p> {
    Named { text: &entry.text, location: &entry.location, units }
}

fn plane<'p, T: 'p>(
    list: &'static str,
    parts: &'p Parts<'p>,
    lists: impl Fn(&'p Block) -> &'p Lists<T>,
    restricts: impl Fn(&[Entry<T>]) -> bool,
    units: impl Fn(&'p Entry<T>, bool) -> Vec<(Option<&'p str>, Unit<'p>)>,
) -> Plane<'p> {
    let key = list.split(' ').next().unwrap_or(list);
    let merged = parts.merge(key, &lists, restricts);
    let any = parts.allowing().find_map(|(block, _)| match &lists(block).allow {
        Allow::Any(location) => Some((format!("`allow: any` of {}", block.name), location.clone())),
        Allow::Unsaid | Allow::List(..) => None,
    });
    let is_open = merged.list.is_none();
    let denied = parts.denying().flat_map(|(block, _)| &lists(block).deny);
    Plane {
        list,
        is_open,
        place: merged.list.map(|list| (list.text, list.location)).or(any),
        allow: merged.entries.iter().map(|(entry, _)| named(entry, units(entry, true))).collect(),
        deny: denied.map(|entry| named(entry, units(entry, true))).collect(),
    }
}

fn of_planes(old: &Plane<'_>, new: &Plane<'_>) -> Vec<Line> {
    let line = |change, text: String, location: Option<&Location>| Line {
        list: new.list,
        change,
        text,
        location: location.cloned(),
    };
    let mut lines = Vec::new();
    let mut missing = |change, of: &[Named<'_>], from: &[Named<'_>], counts: &dyn Fn(Unit<'_>) -> bool| {
        let is_deny = matches!(change, Change::Denied | Change::NotDenied);
        for entry in of {
            if let Some(text) = uncovered(entry, from, is_deny, counts) {
                lines.push(line(change, text, Some(entry.location)));
            }
        }
    };
    missing(Change::Denied, &new.deny, &old.deny, &|_| true);
    missing(Change::NotDenied, &old.deny, &new.deny, &|_| true);
    match (old.is_open, new.is_open) {
        (true, true) => {}
        (false, false) => {
            missing(Change::Allowed, &new.allow, &old.allow, &|_| true);
            missing(Change::NotAllowed, &old.allow, &new.allow, &|_| true);
        }
        // A cloud's metadata needs to be named even where nothing is restricted.
        (true, false) => {
            missing(Change::Allowed, &new.allow, &[], &is_metadata);
            let text = match new.allow.iter().map(|entry| entry.text).collect::<Vec<_>>() {
                names if names.is_empty() => "anything".to_owned(),
                names => format!("anything but {}", some(&names)),
            };
            lines.push(line(Change::NotAllowed, text, new.place.as_ref().map(|(_, place)| place)));
        }
        (false, true) => {
            missing(Change::NotAllowed, &old.allow, &[], &is_metadata);
            let by = new.place.as_ref().map_or("no list restricts it".to_owned(), |(text, _)| text.clone());
            let text = format!("anything: {by}");
            lines.push(line(Change::Allowed, text, new.place.as_ref().map(|(_, place)| place)));
        }
    }
    lines
}

fn is_metadata(unit: Unit<'_>) -> bool {
    matches!(unit, Unit::Host(rule) if rule.means_metadata())
}

/// What of an entry no entry of the other list covers, in words.
fn uncovered(
    entry: &Named<'_>,
    from: &[Named<'_>],
    is_deny: bool,
    counts: &dyn Fn(Unit<'_>) -> bool,
) -> Option<String> {
    let is_covered = |unit: Unit<'_>| {
        from.iter().flat_map(|other| &other.units).any(|(_, other)| other.covers(unit, is_deny))
    };
    let left: Vec<Option<&str>> = entry
        .units
        .iter()
        .filter(|(_, unit)| counts(*unit) && !is_covered(*unit))
        .map(|(text, _)| *text)
        .collect();
    match left.iter().flatten().copied().collect::<Vec<_>>() {
        _ if left.is_empty() => None,
        names if left.len() == entry.units.len() || names.is_empty() => Some(entry.text.to_owned()),
        names => Some(format!("of {}: {}", entry.text, some(&names))),
    }
}

/// The first of them, and how many more there are.
fn some(names: &[&str]) -> String {
    const MOST: usize = 8;
    let first = names.iter().take(MOST).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MOST) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}
