//! The lists of a policy, merged for one step and agent, and how they judge one act.

use std::collections::BTreeMap;

use crate::event::Transport;
use crate::job::Location;

use super::groups::Group;
use super::hosts::{Destination, HostRule};
use super::paths::{self, PathGlob, PathSet, Reach};
use super::programs::{Image, RunRule};
use super::wild::wild;
use super::{Peer, Places, Program, RuleOwner, RuleRef, Ruling, Verb};

/// `defaults`, one of `steps`, or one of `agents`, as parsed.
#[derive(Clone, Debug, Default)]
pub(super) struct Block {
    /// How the text names it: `defaults`, `steps."build/test"`.
    pub name: String,
    pub location: Option<Location>,
    pub is_closed: bool,
    pub task: Option<String>,
    pub network: Lists<NetworkItem>,
    pub files: Lists<FileItem>,
    pub run: Lists<RunRule>,
    pub posture_allow: Vec<Entry<String>>,
    pub posture_require: Vec<Entry<String>>,
    /// What the host has to score before the job, of 100.
    pub minimum_score: Option<u32>,
}

/// The two lists of one plane.
#[derive(Clone, Debug)]
pub(super) struct Lists<T> {
    pub allow: Allow<T>,
    pub deny: Vec<Entry<T>>,
}

impl<T> Default for Lists<T> {
    fn default() -> Self {
        Self { allow: Allow::Unsaid, deny: Vec::new() }
    }
}

#[derive(Clone, Debug)]
pub(super) enum Allow<T> {
    Unsaid,
    Any(Location),
    List(Vec<Entry<T>>, Location),
}

/// One item of a list, as the user wrote it and where.
#[derive(Clone, Debug)]
pub(super) struct Entry<T> {
    pub item: T,
    pub text: String,
    pub location: Location,
    /// Of a deny among files.
    pub except: Vec<PathGlob>,
}

#[derive(Clone, Debug)]
pub(super) enum NetworkItem {
    Host(HostRule),
    Group(String),
}

#[derive(Clone, Debug)]
pub(super) enum FileItem {
    Path(Verb, PathGlob),
    Group(String),
}

/// What holds for one step, and one agent within it.
#[derive(Debug)]
pub struct Rules {
    /// The step's layer, then the agent's. An act must pass every layer.
    layers: Vec<Layer>,
    posture: Vec<(String, RuleRef)>,
    resolvers: Vec<std::net::IpAddr>,
    is_absent: bool,
    origin: Location,
}

#[derive(Debug)]
struct Layer {
    network: Net,
    read: Paths,
    write: Paths,
    run: Programs,
}

#[derive(Debug)]
struct Net {
    /// `None`: not restricted.
    allow: Option<Vec<(HostRule, RuleRef)>>,
    /// Package groups of the allow list: their clients choose hosts themselves.
    clients: Vec<(String, RuleRef)>,
    list: RuleRef,
    deny: Vec<(HostRule, RuleRef)>,
}

#[derive(Debug)]
struct Paths {
    allow: Option<PathSet>,
    allow_refs: Vec<RuleRef>,
    list: RuleRef,
    deny: PathSet,
    deny_refs: Vec<RuleRef>,
    deny_except: PathSet,
}

#[derive(Debug)]
struct Programs {
    allow: Option<Vec<Run>>,
    list: RuleRef,
    deny: Vec<Run>,
}

#[derive(Debug)]
struct Run {
    rule: RunRule,
    paths: Option<PathSet>,
    reference: RuleRef,
}

/// What a layer is made of.
pub(super) struct Parts<'p> {
    pub defaults: Option<&'p Block>,
    /// The blocks that match, in the order of the text.
    pub blocks: Vec<&'p Block>,
    pub owner: RuleOwner,
    pub grant: Grant,
}

/// How much of a text's allow lists counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grant {
    /// All: it is the policy itself.
    All,
    /// They restrict, and what they allow has to be allowed elsewhere as well.
    Lists,
    /// None: only what it denies counts.
    Nothing,
}

/// The allow list of one plane or verb after merging.
pub(super) struct Merged<'p, T> {
    pub entries: Vec<(&'p Entry<T>, RuleOwner)>,
    /// Where the list that restricts stands; `None`: nothing restricts.
    pub list: Option<RuleRef>,
}

impl Parts<'_> {
    /// Blocks whose allow lists count, `defaults` only if no block is closed to it.
    pub fn allowing(&self) -> impl Iterator<Item = (&Block, RuleOwner)> {
        let counts = self.grant != Grant::Nothing;
        let is_closed = self.blocks.iter().any(|block| block.is_closed);
        // An agent's block is not joined with `defaults`: those are in its step's layer already.
        let defaults = self.defaults.filter(|_| !is_closed && self.owner == RuleOwner::Step);
        // Blocks first, so that the nearest list named in a finding is the step's.
        self.blocks
            .iter()
            .map(|block| (*block, self.owner))
            .chain(defaults.map(|block| (block, RuleOwner::Defaults)))
            .filter(move |_| counts)
    }

    pub fn denying(&self) -> impl Iterator<Item = (&Block, RuleOwner)> {
        let defaults = self.defaults.filter(|_| self.owner == RuleOwner::Step);
        self.blocks
            .iter()
            .map(|block| (*block, self.owner))
            .chain(defaults.map(|block| (block, RuleOwner::Defaults)))
    }

    /// Joins the allow lists. `restricts` tells whether a list speaks of this plane or verb.
    pub fn merge<'p, T>(
        &'p self,
        plane: &str,
        lists: impl Fn(&'p Block) -> &'p Lists<T>,
        restricts: impl Fn(&[Entry<T>]) -> bool,
    ) -> Merged<'p, T> {
        let mut merged = Merged { entries: Vec::new(), list: None };
        for (block, owner) in self.allowing() {
            match &lists(block).allow {
                Allow::Unsaid => {}
                Allow::Any(_) => return Merged { entries: Vec::new(), list: None },
                Allow::List(entries, location) => {
                    merged.entries.extend(entries.iter().map(|entry| (entry, owner)));
                    if restricts(entries) && merged.list.is_none() {
                        let text = format!("{}.{plane}.allow", block.name);
                        merged.list = Some(RuleRef { text, location: location.clone(), owner });
                    }
                }
            }
        }
        if merged.list.is_none()
            && self.grant != Grant::Nothing
            && let Some(closed) = self.blocks.iter().find(|block| block.is_closed)
            && let Some(Allow::List(entries, defaults)) = self.defaults.map(|block| &lists(block).allow)
            && restricts(entries)
        {
            // Restricted by `defaults`, not named here, and closed to `defaults`: empty.
            let text = format!("{} (inherit: false) has no {plane}.allow", closed.name);
            let location = closed.location.as_ref().unwrap_or(defaults).clone();
            merged.list = Some(RuleRef { text, location, owner: self.owner });
        }
        merged
    }
}

impl<T> Entry<T> {
    pub fn reference(&self, owner: RuleOwner) -> RuleRef {
        RuleRef { text: self.text.clone(), location: self.location.clone(), owner }
    }
}

/// Whether a list of files speaks of a verb: by a plain entry, or by being empty.
pub(super) fn restricts_verb(entries: &[Entry<FileItem>], verb: Verb) -> bool {
    entries.is_empty() || entries.iter().any(|entry| is_plain(&entry.item, verb))
}

pub(super) fn is_plain(item: &FileItem, verb: Verb) -> bool {
    matches!(item, FileItem::Path(own, _) if *own == verb)
}

impl Rules {
    pub(super) fn absent() -> Self {
        let origin = Location { path: String::new(), line: 0 };
        Self { layers: Vec::new(), posture: Vec::new(), resolvers: Vec::new(), is_absent: true, origin }
    }

    pub(super) fn new(
        parts: &[Parts<'_>],
        groups: &BTreeMap<String, Group>,
        places: &Places,
        origin: &str,
    ) -> Self {
        let posture = parts
            .iter()
            .filter(|parts| parts.grant == Grant::All)
            .flat_map(Parts::allowing)
            .flat_map(|(block, owner)| {
                block.posture_allow.iter().map(move |entry| (entry.item.clone(), entry.reference(owner)))
            })
            .collect();
        Self {
            layers: parts.iter().map(|parts| Layer::new(parts, groups, places)).collect(),
            posture,
            resolvers: places.resolvers.iter().map(std::net::IpAddr::to_canonical).collect(),
            is_absent: false,
            origin: Location { path: origin.to_owned(), line: 1 },
        }
    }

    /// Judges a connection or datagram.
    pub fn network(&self, peer: &Peer<'_>) -> Ruling {
        let to = Destination::of(peer);
        if self.is_absent || to.is_loopback() {
            return Ruling::Unrestricted;
        }
        // Which server is asked is the host's own configuration; the name that is asked for is judged.
        if to.port == 53 && to.transport != Transport::Other && self.resolvers.contains(&to.address) {
            return Ruling::Unrestricted;
        }
        let denied =
            self.layers.iter().flat_map(|layer| &layer.network.deny).find(|(rule, _)| rule.denies(&to));
        if let Some((_, reference)) = denied {
            return Ruling::Denied(reference.clone());
        }
        let is_metadata = to.is_metadata();
        let mut ruling = Ruling::Unrestricted;
        for layer in &self.layers {
            let Some(allow) = &layer.network.allow else { continue };
            let found =
                allow.iter().find(|(rule, _)| rule.allows(&to) && (!is_metadata || rule.is_narrow_address()));
            match found {
                Some((_, reference)) => ruling = Ruling::Allowed(reference.clone()),
                None if is_metadata => return self.metadata(),
                None => {
                    let near = allow.iter().find(|(rule, _)| rule.is_host_of(&to));
                    let near = near.map_or(&layer.network.list, |(_, reference)| reference);
                    return Ruling::Unlisted(Some(near.clone()));
                }
            }
        }
        if is_metadata && matches!(ruling, Ruling::Unrestricted) { self.metadata() } else { ruling }
    }

    /// Whether a peer that is known by address alone may be one that each list names.
    pub fn may_be_named(&self, peer: &Peer<'_>) -> bool {
        let to = Destination::of(peer);
        let mut lists = self.layers.iter().filter_map(|layer| layer.network.allow.as_ref());
        !to.is_metadata()
            && lists.all(|allow| allow.iter().any(|(rule, _)| rule.could_be(&to) || rule.allows(&to)))
    }

    /// The entry by which the client of this package group may choose its hosts: every list that
    /// restricts the network has to name the group.
    pub fn client(&self, group: &str) -> Option<RuleRef> {
        let mut found = None;
        for layer in self.layers.iter().filter(|layer| layer.network.allow.is_some()) {
            let (_, reference) = layer.network.clients.iter().find(|(name, _)| name == group)?;
            found = Some(reference.clone());
        }
        found
    }

    fn metadata(&self) -> Ruling {
        Ruling::Denied(RuleRef {
            text: "cloud metadata is denied unless its address is allowed".to_owned(),
            location: self.origin.clone(),
            owner: RuleOwner::Guard,
        })
    }

    /// Judges an access to a file by its real path. A process's own `/proc` folder is to be passed
    /// as `/proc/self`; only the caller knows whose it is.
    pub fn file(&self, verb: Verb, path: &str) -> Ruling {
        if self.is_absent {
            return Ruling::Unrestricted;
        }
        let path = paths::normal(path);
        if let Some(reference) = self.layers.iter().find_map(|layer| layer.paths(verb).denied(&path)) {
            return Ruling::Denied(reference.clone());
        }
        if paths::is_always_allowed(&path) || (verb == Verb::Read && paths::is_systems_own(&path)) {
            return Ruling::Unrestricted;
        }
        let mut ruling = Ruling::Unrestricted;
        for layer in &self.layers {
            let paths = layer.paths(verb);
            let Some(allow) = &paths.allow else { continue };
            match allow.first_match(&path).and_then(|index| paths.allow_refs.get(index)) {
                Some(reference) => ruling = Ruling::Allowed(reference.clone()),
                None => return Ruling::Unlisted(Some(paths.list.clone())),
            }
        }
        ruling
    }

    /// Judges a program that the step or tool call launches.
    pub fn run(&self, program: &Program<'_>) -> Ruling {
        if let Some(reference) = self.run_denied(program) {
            return Ruling::Denied(reference);
        }
        let mut ruling = Ruling::Unrestricted;
        for layer in &self.layers {
            let Some(allow) = &layer.run.allow else { continue };
            match allow.iter().find(|run| run.rule.allows(program, |path| run.is_at(path))) {
                Some(run) => ruling = Ruling::Allowed(run.reference.clone()),
                None => return Ruling::Unlisted(Some(layer.run.list.clone())),
            }
        }
        ruling
    }

    /// The deny that names this program; denies hold for every exec in the subtree.
    pub fn run_denied(&self, program: &Program<'_>) -> Option<RuleRef> {
        self.layers
            .iter()
            .flat_map(|layer| &layer.run.deny)
            .find(|run| run.rule.denies(program, |path| run.is_at(path)))
            .map(|run| run.reference.clone())
    }

    /// The entry of `posture.allow` that expects this change: a check's id, or `group:object glob`.
    pub fn posture(&self, check: &str, group: &str, object: &str) -> Option<RuleRef> {
        let pair = format!("{group}:{object}");
        self.posture
            .iter()
            .find(|(item, _)| item == check || (item.contains(':') && wild(item, &pair)))
            .map(|(_, reference)| reference.clone())
    }

    /// Whether `posture.allow` has an entry for objects of this group.
    pub fn posture_speaks_of(&self, group: &str) -> bool {
        self.posture.iter().any(|(item, _)| item.split_once(':').is_some_and(|(own, _)| wild(own, group)))
    }
}

impl Layer {
    fn new(parts: &Parts<'_>, groups: &BTreeMap<String, Group>, places: &Places) -> Self {
        Self {
            network: Net::new(parts, groups, places),
            read: Paths::new(parts, Verb::Read, groups, places),
            write: Paths::new(parts, Verb::Write, groups, places),
            run: Programs::new(parts, places),
        }
    }

    fn paths(&self, verb: Verb) -> &Paths {
        match verb {
            Verb::Read => &self.read,
            Verb::Write => &self.write,
        }
    }
}

fn no_list(owner: RuleOwner) -> RuleRef {
    RuleRef { text: String::new(), location: Location { path: String::new(), line: 0 }, owner }
}

impl Net {
    fn new(parts: &Parts<'_>, groups: &BTreeMap<String, Group>, places: &Places) -> Self {
        let expand = |entry: &Entry<NetworkItem>, owner| -> Vec<(HostRule, RuleRef)> {
            let reference = entry.reference(owner);
            match &entry.item {
                NetworkItem::Host(rule) => vec![(rule.clone(), reference)],
                NetworkItem::Group(name) => {
                    let data = groups.get(name).into_iter().flat_map(|group| &group.network);
                    let found = places.hosts.get(name).into_iter().flatten();
                    data.map(|(_, rule)| rule.clone())
                        .chain(found.filter_map(|host| HostRule::parse(host).ok()))
                        .map(|rule| (rule, reference.clone()))
                        .collect()
                }
            }
        };
        let merged = parts.merge("network", |block| &block.network, |_| true);
        let allow = merged
            .list
            .is_some()
            .then(|| merged.entries.iter().flat_map(|(entry, owner)| expand(entry, *owner)).collect());
        let deny = parts
            .denying()
            .flat_map(|(block, owner)| block.network.deny.iter().flat_map(move |entry| expand(entry, owner)))
            .collect();
        let clients = merged
            .entries
            .iter()
            .filter_map(|(entry, owner)| match &entry.item {
                NetworkItem::Group(name) => Some((name.clone(), entry.reference(*owner))),
                NetworkItem::Host(_) => None,
            })
            .collect();
        Self { allow, clients, list: merged.list.unwrap_or_else(|| no_list(parts.owner)), deny }
    }
}

impl Paths {
    fn new(parts: &Parts<'_>, verb: Verb, groups: &BTreeMap<String, Group>, places: &Places) -> Self {
        let of_group = |name: &str| {
            let files = groups.get(name).map(|group| group.files.as_slice()).unwrap_or_default();
            files.iter().filter(move |(_, own, _)| *own == verb).map(|(_, _, glob)| glob)
        };
        let merged = parts.merge("files", |block| &block.files, |entries| restricts_verb(entries, verb));
        // A group widens only what a plain entry restricts; an empty list stays empty.
        let has_plain = merged.entries.iter().any(|(entry, _)| is_plain(&entry.item, verb));
        let mut allow_refs = Vec::new();
        let mut allow_globs = Vec::new();
        for (entry, owner) in &merged.entries {
            let index = allow_refs.len();
            allow_refs.push(entry.reference(*owner));
            match &entry.item {
                FileItem::Path(own, glob) if *own == verb => allow_globs.push((index, glob)),
                FileItem::Group(name) if has_plain => {
                    allow_globs.extend(of_group(name).map(|glob| (index, glob)));
                }
                FileItem::Path(..) | FileItem::Group(_) => {}
            }
        }
        let mut deny_refs = Vec::new();
        let mut deny_globs = Vec::new();
        let mut except_globs = Vec::new();
        for (block, owner) in parts.denying() {
            for entry in &block.files.deny {
                let index = deny_refs.len();
                deny_refs.push(entry.reference(owner));
                match &entry.item {
                    FileItem::Path(own, glob) if *own == verb => deny_globs.push((index, glob)),
                    FileItem::Group(name) => deny_globs.extend(of_group(name).map(|glob| (index, glob))),
                    FileItem::Path(..) => {}
                }
                except_globs.extend(entry.except.iter().map(|glob| (index, glob)));
            }
        }
        let (allowing, denying) = match verb {
            Verb::Read => (Reach::Exact, Reach::Below),
            Verb::Write => (Reach::Filling, Reach::Around),
        };
        Self {
            allow: merged.list.is_some().then(|| PathSet::new(allow_globs.into_iter(), allowing, places)),
            allow_refs,
            list: merged.list.unwrap_or_else(|| no_list(parts.owner)),
            deny: PathSet::new(deny_globs.into_iter(), denying, places),
            deny_refs,
            deny_except: PathSet::new(except_globs.into_iter(), Reach::Exact, places),
        }
    }

    fn denied(&self, path: &str) -> Option<&RuleRef> {
        if self.deny.is_broken() {
            return self.deny_refs.first();
        }
        let denied = self.deny.all_matches(path);
        if denied.is_empty() {
            return None;
        }
        let excepted = self.deny_except.all_matches(path);
        denied.iter().find(|index| !excepted.contains(index)).and_then(|index| self.deny_refs.get(*index))
    }
}

impl Programs {
    fn new(parts: &Parts<'_>, places: &Places) -> Self {
        let merged = parts.merge("run", |block| &block.run, |_| true);
        let allow = merged.list.is_some().then(|| {
            merged
                .entries
                .iter()
                .map(|(entry, owner)| Run::new(entry, *owner, Reach::Exact, places))
                .collect()
        });
        let deny = parts
            .denying()
            .flat_map(|(block, owner)| {
                block.run.deny.iter().map(move |entry| Run::new(entry, owner, Reach::Below, places))
            })
            .collect();
        Self { allow, list: merged.list.unwrap_or_else(|| no_list(parts.owner)), deny }
    }
}

impl Run {
    fn new(entry: &Entry<RunRule>, owner: RuleOwner, reach: Reach, places: &Places) -> Self {
        let paths = match &entry.item.image {
            Image::Path(glob) => Some(PathSet::new([(0, glob)].into_iter(), reach, places)),
            Image::Name(_) | Image::Digest(_) => None,
        };
        Self { rule: entry.item.clone(), paths, reference: entry.reference(owner) }
    }

    fn is_at(&self, path: &str) -> bool {
        self.paths.as_ref().is_some_and(|set| set.first_match(&paths::normal(path)).is_some())
    }
}
