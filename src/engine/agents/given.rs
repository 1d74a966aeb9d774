//! The tools that the workflow gives an agent's step, compared with the commands that the agent ran.
//!
//! A note, and no more: the actions give their agents some tools of their own beside those that are written.

use super::{Call, Errand, Told, Work};
use crate::detections::{self, Hit};
use crate::engine::{Engine, Start};
use crate::finding::{Confidence, Kind, Severity};
use crate::intent::{basename, is_launcher, is_shell};

/// What a shell does itself.
const BUILT_IN: [&str; 20] = [
    ":", ".", "[", "[[", "cd", "command", "echo", "eval", "exit", "export", "false", "printf", "pwd", "read",
    "return", "set", "source", "test", "true", "unset",
];

impl Engine {
    /// A command that the list of the step's own settings leaves out.
    pub(super) fn beyond_given(
        &self,
        errand: &Errand,
        call: Option<(&Call, &'static str)>,
        start: &Start,
    ) -> Option<Told> {
        let process = self.lineage.get(errand.process)?;
        let block = self.stepping.given(&process.step, errand.agent.id)?;
        let allowed = block.lists.get(&("run", "allow"))?;
        let declared = Work::declared(errand, call, &start.job.home, &start.job.workspace);
        declared.text.as_ref()?;
        let is_given = |name: &str| {
            allowed.contains(name) || BUILT_IN.contains(&name) || is_launcher(name) || is_shell(name)
        };
        let mut words = declared.intent.commands.iter().filter_map(|command| command.words.first());
        let beyond = words.find(|word| word.known && !is_given(basename(&word.text)))?;
        let name = basename(&beyond.text).to_owned();
        let title = format!(
            "{}, and the step gives it no `{name}` ({})",
            declared.ran(errand, &self.lineage),
            block.origin
        );
        let hit = Hit {
            rule: &detections::AGENT_CONTRADICTED,
            kind: Kind::Divergence,
            severity: Severity::Low,
            confidence: Confidence::Medium,
            title,
            process: errand.process,
            object: name,
            evidence: declared.call.iter().map(|(call, _)| call.sequence).collect(),
            replaces: None,
            remedy: Some("Give the step this tool if it is meant; else find out what let the agent run it."),
        };
        Some(Told {
            sequence: process.evidence,
            time: errand.time,
            hit,
            declared: declared.words(),
            acts: Vec::new(),
        })
    }
}
