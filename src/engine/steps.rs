//! Which step of a runner's job a process belongs to.
//!
//! A step begins where the runner itself starts a program with a step's name in its environment. From
//! then on lineage decides: what a step's own processes say of themselves moves nobody.

use std::collections::HashMap;

use super::Engine;
use crate::event::{Launch, ProcessKey};
use crate::intent::workflow::{Workflow, WorkflowStep};
use crate::intent::{Declaration, Text};
use crate::job::{Job, Location, Provider, Step, StepKey};
use crate::lineage::Standing;

/// Scripts that wait for their launch; a runner has one or a few at a time.
const SCRIPTS: usize = 64;
/// Steps told apart; a job of a provider has no more.
const STEPS: usize = 4_096;

/// What is known of the runner and its file.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// The process whose children are the steps.
    runner: Option<ProcessKey>,
    file: Option<(String, Workflow)>,
    /// Why the file could not be read.
    pub problem: Option<String>,
    scripts: HashMap<ProcessKey, (String, String)>,
}

impl Steps {
    pub(super) fn runner(&mut self, process: ProcessKey) {
        self.runner.get_or_insert(process);
    }

    pub(super) fn script(&mut self, process: ProcessKey, path: &str, text: &str) {
        if self.scripts.len() < SCRIPTS {
            self.scripts.insert(process, (path.to_owned(), text.to_owned()));
        }
    }

    pub(super) fn workflow(&mut self, path: &str, text: &str) {
        match Workflow::parse(text) {
            Ok(workflow) => {
                self.problem = None;
                self.file = Some((path.to_owned(), workflow));
            }
            Err(problem) => self.problem = Some(format!("{path}: {problem}")),
        }
    }
}

/// The step as the report shows it.
fn told(job: &Job, action: &str, found: Option<(&str, &WorkflowStep)>, script: Option<&str>) -> Step {
    let first = |text: &str| text.trim().lines().map(str::trim).collect::<Vec<_>>().join("; ");
    match found {
        Some((path, step)) => Step {
            key: StepKey(format!("{}/{}", job.name, step.key())),
            name: step.title(),
            declared: step.run.as_deref().map(first).or_else(|| step.uses.clone()).unwrap_or_default(),
            location: Some(Location { path: path.to_owned(), line: step.line }),
        },
        None => Step {
            key: StepKey(format!("{}/{action}", job.name)),
            name: action.to_owned(),
            declared: script.map(first).unwrap_or_default(),
            location: None,
        },
    }
}

impl Engine {
    /// Opens the step that a runner begins with this launch; `None` where it begins none.
    pub(super) fn enter(&mut self, actor: ProcessKey, launch: &Launch) -> Option<()> {
        let start = self.start.as_ref().filter(|start| start.job.provider == Provider::Github)?;
        let process = self.lineage.get(actor)?;
        if process.step.is_real() || process.parent.is_none() || process.parent != self.stepping.runner {
            return None;
        }
        let action = launch.environment.get("GITHUB_ACTION").filter(|action| !action.is_empty())?;
        // The guard's own stages are the runner's business: no policy has to name what they run. The runner
        // alone gives this name, and only its direct children get this far.
        if start.job.pipeline.as_ref().is_some_and(|pipeline| pipeline.guard.as_ref() == Some(action)) {
            return None;
        }
        let script = self.stepping.scripts.remove(&actor);
        let text = script.as_ref().map(|(_, text)| text.as_str());
        let found = self.stepping.file.as_ref().and_then(|(path, workflow)| {
            Some((path.as_str(), workflow.find(&start.job.name, action, text)?))
        });
        let step = told(&start.job, action, found, text);
        let key = step.key.clone();
        // Lines of the script are lines of the file, where the file has this very text.
        let line = found
            .filter(|(_, step)| step.run.is_some())
            .map(|(path, step)| Location { path: path.to_owned(), line: step.text_line });
        if let Some((file, text)) = script {
            let shown = file.rsplit('/').next().unwrap_or(&file).to_owned();
            let location = line.unwrap_or(Location { path: shown, line: 1 });
            let text = Text::Script { file, location, text };
            let (home, workspace) = (start.job.home.clone(), start.job.workspace.clone());
            self.intent.add(&Declaration { step: key.clone(), text }, &home, &workspace);
        }
        let steps = &mut self.start.as_mut()?.job.steps;
        if steps.len() < STEPS && !steps.iter().any(|known| known.key == key) {
            steps.push(step);
        }
        if let Some(process) = self.lineage.get_mut(actor) {
            process.step = key;
            process.standing = Standing::Text;
            process.strand = actor;
            process.launched = false;
        }
        Some(())
    }

    /// The step of what the runner does for no step.
    pub(super) fn stepless(&self) -> StepKey {
        match self.start.as_ref().map(|start| start.job.provider) {
            Some(Provider::Github) => StepKey::runner(),
            _ => self.first_step(),
        }
    }
}
