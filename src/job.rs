//! The job under watch and its steps, whichever provider runs it.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `job/step`, as the policy names it; `local/run` under `run`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StepKey(pub String);

impl StepKey {
    /// The one step of a wrapped command.
    pub fn local() -> Self {
        Self("local/run".to_owned())
    }

    /// Processes whose lineage is unknown.
    pub fn unattributed() -> Self {
        Self("_unattributed".to_owned())
    }
}

impl fmt::Display for StepKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// `edamame-guard run` on any machine.
    Local,
}

/// Where the work happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    pub provider: Provider,
    /// Job name: the part of a [`StepKey`] before the slash.
    pub name: String,
    /// `./` in the policy: absolute path of the checked-out work.
    pub workspace: String,
    /// `~` of the step: absolute path.
    pub home: String,
    /// User id the steps run as.
    pub uid: u32,
    pub steps: Vec<Step>,
}

/// A unit of work with a declaration of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    pub key: StepKey,
    /// What people call it.
    pub name: String,
    /// One line that says what it declares: `npm ci && npm test`.
    pub declared: String,
    /// Where it is written, when it is in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub location: Option<Location>,
}

/// A line of a file; paths are relative to the workspace where they lie inside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Location {
    pub path: String,
    /// From 1.
    pub line: u32,
}

impl Location {
    /// The line `lines` further down.
    pub fn below(&self, lines: usize) -> Self {
        Self { path: self.path.clone(), line: self.line.saturating_add(u32::try_from(lines).unwrap_or(0)) }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.path, self.line)
    }
}
