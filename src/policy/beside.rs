//! What holds beside a policy and can only tighten it: an organisation's, the workflow's inputs, a pull request's own copy.

use crate::finding::FailOn;

use super::Policy;
use super::rules::Grant;

/// Whose text it is, and so how much of it counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The organisation's: it and the policy both have to allow.
    Organisation,
    /// Inputs of the workflow, likewise.
    Input,
    /// The copy that the job's tree brings, where it differs from the policy: only what it denies counts.
    Proposed,
    /// The tree's copy where no reviewed one could be had: only what it denies counts.
    Unreviewed,
}

impl Role {
    pub(super) const ALL: [Self; 4] = [Self::Organisation, Self::Input, Self::Proposed, Self::Unreviewed];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Organisation => "organisation",
            Self::Input => "input",
            Self::Proposed => "proposed",
            Self::Unreviewed => "unreviewed",
        }
    }

    pub(super) fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == word)
    }

    pub(super) fn grant(self) -> Grant {
        match self {
            Self::Organisation | Self::Input => Grant::Lists,
            Self::Proposed | Self::Unreviewed => Grant::Nothing,
        }
    }
}

/// One such text.
#[derive(Clone, Debug)]
pub(super) struct Beside {
    pub role: Role,
    /// Where the text is from, also when there is none: a policy that a pull request removes.
    pub origin: String,
    pub policy: Policy,
}

impl Policy {
    /// Puts another policy beside this one; nothing that this one forbids is allowed by it.
    #[must_use]
    pub fn beside(mut self, role: Role, origin: &str, policy: Self) -> Self {
        self.secrets.extend(policy.secrets.iter().cloned());
        for (name, group) in &policy.groups {
            self.groups.entry(name.clone()).or_insert_with(|| group.clone());
        }
        self.beside.push(Beside { role, origin: origin.to_owned(), policy });
        self
    }

    /// Whatever is said elsewhere, findings fail from this severity on.
    #[must_use]
    pub fn at_most(mut self, fail_on: FailOn) -> Self {
        self.ceiling = Some(self.ceiling.map_or(fail_on, |known| known.stricter(fail_on)));
        self
    }

    /// What no input and no command line can fail less than.
    pub fn ceiling(&self) -> Option<FailOn> {
        let organisations = self.beside.iter().filter(|beside| beside.role == Role::Organisation);
        organisations.filter_map(|beside| beside.policy.fail_on).chain(self.ceiling).reduce(FailOn::stricter)
    }

    /// The tree's own copy, where it is not the policy: its origin, and whether it is gone from the tree.
    pub fn of_the_tree(&self) -> Option<(Role, &str, bool)> {
        self.beside
            .iter()
            .find(|beside| beside.role.grant() == Grant::Nothing)
            .map(|beside| (beside.role, beside.origin.as_str(), beside.policy.source.is_none()))
    }

    /// The file to name where there is no policy of its own.
    pub(super) fn nearest_origin(&self) -> &str {
        self.origin().or_else(|| self.beside.first().map(|beside| beside.origin.as_str())).unwrap_or_default()
    }
}
