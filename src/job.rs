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

    /// The runner's own processes: those that belong to no step.
    pub fn runner() -> Self {
        Self("_runner".to_owned())
    }

    /// Whether this is a step of the job, and not what runs it or what is unknown.
    pub fn is_real(&self) -> bool {
        !self.0.starts_with('_')
    }

    /// The key as it is written: steps of one name are numbered from the second on, `job/Test#2`.
    pub fn written(&self) -> &str {
        match self.0.rsplit_once('#') {
            Some((written, number))
                if !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                written
            }
            _ => &self.0,
        }
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
    /// GitHub Actions: the runner below which the guard was started runs the steps.
    Github,
    /// GitLab CI/CD.
    Gitlab,
}

/// Which run of which workflow this is; what the provider did not say is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pipeline {
    /// `owner/name`, or GitLab's project path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// Path of the workflow's file in the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow: Option<String>,
    /// What people call the workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_name: Option<String>,
    /// Commit that the workflow's file is of: 40 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workflow_commit: Option<String>,
    /// `refs/heads/main`, `refs/pull/7/merge`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Commit that the job works on: 40 hex digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
    /// `push`, `pull_request` …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Number of the run, or of GitLab's pipeline.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<String>,
    /// Which try of that run this is, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<String>,
    /// What tells one leg of a matrix from the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub matrix: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull_request: Option<u64>,
    /// What the runner calls the step that is the guard itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub guard: Option<String>,
    /// Where people see it: the server's address, without a slash at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
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
    /// `None` where no provider runs the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pipeline: Option<Pipeline>,
    /// On GitHub those that were seen, in the order they began.
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
