//! What a job may do: parsed, merged, and valid by construction.
//!
//! `defaults` and matching `steps` are joined into one layer: allow lists and deny lists are unions,
//! and a deny always wins. An agent's block is a second layer that an act must pass as well. A plane
//! or verb without an allow list is not restricted; an empty list allows nothing.

mod beside;
mod diff;
mod explain;
mod groups;
mod hosts;
mod learn;
mod lock;
mod parse;
mod paths;
mod problem;
mod programs;
mod rules;
mod schema;
mod warnings;
mod wild;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};

use crate::event::{Timestamp, Transport};
use crate::finding::{FailOn, Severity};
use crate::job::{Location, StepKey};

pub use beside::Role;
pub use diff::{Change, Difference, Differences, OTHERS, Setting, diff};
pub use explain::{Explained, Rest, Said};
pub use learn::{Merged, learn, merge};
pub use lock::{quoted, quoted_step};
pub use problem::{PolicyError, Problem};
pub use rules::Rules;
pub use schema::schema;
pub use warnings::Warning;

use beside::Beside;
use groups::{Group, GroupKind};
use rules::{Block, Grant, Parts};

/// Bytes of the largest text that can be a policy: a lock.
pub const LARGEST: usize = parse::LOCK_SIZE_LIMIT;

/// Whether the guard also stops what it may not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Audit,
    Block,
}

impl Mode {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Block => "block",
        }
    }
}

/// A whole policy, or none.
#[derive(Clone, Debug)]
pub struct Policy {
    source: Option<Source>,
    mode: Option<Mode>,
    fail_on: Option<FailOn>,
    intent: Option<Vec<String>>,
    defaults: Option<Block>,
    steps: Vec<(String, Block)>,
    agents: Vec<(String, Block)>,
    secrets: Vec<String>,
    exceptions: Vec<Exception>,
    groups: BTreeMap<String, Group>,
    /// What holds beside it and only tightens.
    beside: Vec<Beside>,
    /// Nothing that is said elsewhere may fail less than this.
    ceiling: Option<FailOn>,
}

#[derive(Clone, Debug)]
struct Source {
    origin: String,
    text: String,
}

/// What the machine adds to the policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Places {
    /// `~` of the step: absolute path.
    pub home: String,
    /// `./`: absolute path.
    pub workspace: String,
    /// What each package group stands for here: hosts in the spelling of the policy.
    pub hosts: BTreeMap<String, Vec<String>>,
    /// Name servers this machine is configured to ask.
    pub resolvers: Vec<IpAddr>,
}

/// Where a connection or datagram goes.
#[derive(Clone, Copy, Debug)]
pub struct Peer<'a> {
    pub address: SocketAddr,
    /// Names that stood for the address when it was looked up.
    pub names: &'a [String],
    pub transport: Transport,
}

/// What was launched.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// Absolute real path of the script or executable.
    pub path: &'a str,
    /// Other absolute paths that lead to this very file and were there before the job, such as
    /// `/bin/sh` for `/usr/bin/dash`.
    pub aliases: &'a [String],
    /// The whole argument vector, `argv[0]` first.
    pub arguments: &'a [String],
    /// The job itself wrote the file, so its name says nothing.
    pub placed_by_job: bool,
    /// Hex digest of the file, where it was taken.
    pub sha256: Option<&'a str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Read,
    /// Create, modify, delete, rename, chmod, link.
    Write,
}

impl Verb {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
        }
    }
}

/// What the policy says about one act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ruling {
    /// No list speaks of this.
    Unrestricted,
    /// By this entry; the agent's own where it has a list, else the step's.
    Allowed(RuleRef),
    /// By this entry of a deny list.
    Denied(RuleRef),
    /// There is an allow list and this is not on it; the nearest entry, or the list itself.
    Unlisted(Option<RuleRef>),
}

/// An entry or list of the policy, for a reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleRef {
    /// As the user wrote it.
    pub text: String,
    pub location: Location,
    pub owner: RuleOwner,
}

/// Whose block a rule stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleOwner {
    Defaults,
    Step,
    Agent,
    /// No block: a rule that always holds.
    Guard,
}

/// A known finding that is held back, with its reason and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exception {
    pub rule: String,
    /// Glob of step keys; `None`: every step.
    pub step: Option<String>,
    /// Glob of objects, `*` within a segment and `**` across; `None`: every object.
    pub object: Option<String>,
    pub reason: String,
    /// The last day on which it holds, in UTC.
    pub until: Option<time::Date>,
    pub location: Location,
}

impl Exception {
    /// Whether this speaks of a finding, whatever the date.
    pub fn covers(&self, rule: &str, step: &StepKey, object: &str) -> bool {
        self.rule == rule
            && self
                .step
                .as_deref()
                .is_none_or(|glob| wild::wild(glob, &step.0) || wild::wild(glob, step.written()))
            && self.object.as_deref().is_none_or(|glob| wild::wild(glob, object))
    }

    /// Whether its last day lay before this moment.
    pub fn is_over(&self, at: Timestamp) -> bool {
        let today =
            time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(at.0)).map(time::OffsetDateTime::date);
        self.until.is_some_and(|until| today.is_ok_and(|today| today > until))
    }
}

impl Policy {
    /// No policy: nothing is restricted.
    pub fn absent() -> Self {
        Self {
            source: None,
            mode: None,
            fail_on: None,
            intent: None,
            defaults: None,
            steps: Vec::new(),
            agents: Vec::new(),
            secrets: Vec::new(),
            exceptions: Vec::new(),
            groups: BTreeMap::new(),
            beside: Vec::new(),
            ceiling: None,
        }
    }

    /// Reads a policy or a lock of one. `origin` is its path, or `inline`.
    pub fn parse(text: &str, origin: &str) -> Result<Self, PolicyError> {
        parse::document(text, origin)
    }

    pub fn is_absent(&self) -> bool {
        self.source.is_none() && self.beside.is_empty()
    }

    /// Where the text came from; for a lock, where the locked policy came from.
    pub fn origin(&self) -> Option<&str> {
        self.source.as_ref().map(|source| source.origin.as_str())
    }

    /// SHA-256 of the text, in hex; for a lock, of the locked policy.
    pub fn digest(&self) -> Option<String> {
        self.source.as_ref().map(|source| sha256(&source.text))
    }

    pub fn mode(&self) -> Option<Mode> {
        self.tightened_mode().filter(|mode| *mode == Mode::Block).or(self.mode)
    }

    /// What those say that this policy can't loosen.
    pub fn tightened_mode(&self) -> Option<Mode> {
        let others = self.beside.iter().filter(|beside| beside.role.grant() == Grant::Lists);
        let modes: Vec<Mode> = others.filter_map(|beside| beside.policy.mode).collect();
        modes.iter().find(|mode| **mode == Mode::Block).or(modes.first()).copied()
    }

    pub fn fail_on(&self) -> Option<FailOn> {
        self.fail_on
    }

    /// What is allowed to be written but may not be meant.
    pub fn warnings(&self) -> Vec<Warning> {
        warnings::all(self)
    }

    /// Names of the groups in use, sorted.
    pub fn groups_used(&self) -> Vec<&str> {
        self.groups.keys().map(String::as_str).collect()
    }

    /// Those among them whose hosts the machine has to tell, sorted.
    pub fn package_groups_used(&self) -> Vec<&str> {
        let is_package = |group: &Group| group.kind == GroupKind::Package;
        self.groups.iter().filter(|(_, group)| is_package(group)).map(|(name, _)| name.as_str()).collect()
    }

    /// The text of `policy.lock.yml`. [`Policy::parse`] of it judges the same.
    pub fn lock(&self) -> String {
        lock::write(self)
    }

    /// Everything that holds for one step, and for one agent within it.
    pub fn rules(&self, step: &StepKey, agent: Option<&str>, places: &Places) -> Rules {
        if self.is_absent() {
            return Rules::absent();
        }
        let parts: Vec<Parts<'_>> = self
            .parts(step, agent, Grant::All)
            .chain(
                self.beside.iter().flat_map(|beside| beside.policy.parts(step, agent, beside.role.grant())),
            )
            .collect();
        Rules::new(&parts, &self.groups, places, self.nearest_origin())
    }

    /// The layers of this text alone: the step's, then the agent's.
    fn parts(&self, step: &StepKey, agent: Option<&str>, grant: Grant) -> impl Iterator<Item = Parts<'_>> {
        let defaults = self.defaults.as_ref();
        let blocks = self.matching(step).map(|(_, block)| block).collect();
        let agent = agent.and_then(|agent| self.agents.iter().find(|(id, _)| id == agent));
        let agent = agent.map(|(_, block)| (vec![block], RuleOwner::Agent));
        [(blocks, RuleOwner::Step)].into_iter().chain(agent).map(move |(blocks, owner)| Parts {
            defaults,
            blocks,
            owner,
            grant,
        })
    }

    pub fn exceptions(&self) -> &[Exception] {
        &self.exceptions
    }

    /// The user's own sensitive objects: anchored globs.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }

    /// Ids of the sources that may declare intent; `None`: all.
    pub fn intent(&self) -> Option<&[String]> {
        self.intent.as_deref()
    }

    /// What the step is for. Of several, the one with the most exact key, so that order never matters.
    pub fn task(&self, step: &StepKey) -> Option<&str> {
        self.matching(step)
            .filter_map(|(key, block)| block.task.as_deref().map(|task| (key, task)))
            .max_by_key(|(key, _)| {
                let wildcards = key.chars().filter(|letter| matches!(letter, '*' | '?')).count();
                (std::cmp::Reverse(wildcards), key.len(), *key)
            })
            .map(|(_, task)| task)
    }

    /// From which severity on a finding fails; `given` beats the file, and an organisation or a base branch can't be
    /// loosened by either.
    pub fn fail_on_of(&self, given: Option<FailOn>) -> FailOn {
        let fail_on = given.or(self.fail_on).unwrap_or(FailOn::From(if self.is_absent() {
            Severity::High
        } else {
            Severity::Medium
        }));
        self.ceiling.map_or(fail_on, |ceiling| ceiling.stricter(fail_on))
    }

    /// The highest `posture.minimum-score` of all.
    pub fn minimum_score(&self) -> Option<u32> {
        self.blocks()
            .chain(self.beside.iter().flat_map(|beside| beside.policy.blocks()))
            .filter_map(|block| block.minimum_score)
            .max()
    }

    /// Checks that `posture.require` names anywhere: their static results are findings.
    pub fn posture_required(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self
            .blocks()
            .chain(self.beside.iter().flat_map(|beside| beside.policy.blocks()))
            .flat_map(|block| block.posture_require.iter().map(|entry| entry.item.as_str()))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    fn matching(&self, step: &StepKey) -> impl Iterator<Item = (&str, &Block)> {
        self.steps
            .iter()
            .filter(|(key, _)| wild::wild(key, &step.0) || wild::wild(key, step.written()))
            .map(|(key, block)| (key.as_str(), block))
    }

    fn blocks(&self) -> impl Iterator<Item = &Block> {
        let others = self.steps.iter().chain(&self.agents).map(|(_, block)| block);
        self.defaults.iter().chain(others)
    }
}

fn sha256(text: &str) -> String {
    crate::event::hex(&Sha256::digest(text))
}
