//! Whether an agent's own record can be believed: whose hand was on it, and what it does not hold.

use std::collections::BTreeSet;

use super::{Call, Engine, Errand, Told, Work, short};
use crate::agents::{self, Form};
use crate::detections::{self, Hit};
use crate::divergence::{Act, Effect};
use crate::event::{Activity, ProcessKey, Reach, Timestamp};
use crate::finding::{Confidence, Finding, Kind};

/// What the reader of the record noticed.
#[derive(Debug)]
pub(super) struct Problem {
    sequence: u64,
    time: Timestamp,
    agent: String,
    file: String,
    text: String,
    /// An agent of this kind was at work.
    is_at_work: bool,
}

/// A hand on a file of a record.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one hand")]
pub(super) struct Touch {
    sequence: u64,
    time: Timestamp,
    process: ProcessKey,
    agent: &'static str,
    path: String,
    /// The agent's own hand.
    is_own: bool,
    /// It took the file away.
    is_removal: bool,
    is_at_work: bool,
    /// The file is not the agent's: its output goes there.
    is_output: bool,
}

impl Work {
    const PROBLEMS: usize = 256;
    const TOUCHES: usize = 1024;
    const OUTPUTS: usize = 64;

    /// Notes a file that an agent's output goes to.
    pub(in crate::engine) fn output(&mut self, agent: &str, file: &str) {
        if let Some(agent) = agents::by_id(agent)
            && self.outputs.len() < Self::OUTPUTS
        {
            self.outputs.insert(file.to_owned(), agent);
        }
    }

    pub(in crate::engine) fn problem(
        &mut self,
        sequence: u64,
        time: Timestamp,
        agent: &str,
        file: &str,
        problem: &str,
    ) {
        if self.problems.len() < Self::PROBLEMS {
            let is_at_work = self.is_at_work(agent);
            let (agent, file, text) = (agent.to_owned(), file.to_owned(), problem.to_owned());
            self.problems.push(Problem { sequence, time, agent, file, text, is_at_work });
        }
    }

    fn is_at_work(&self, agent: &str) -> bool {
        self.alive.values().any(|alive| *alive == agent)
    }

    /// Notes a hand on a record; of the agent's own it is enough to know that there was one.
    pub(super) fn touched(&mut self, act: &Act<'_>) {
        let Effect::Write { path, .. } = act.effect else { return };
        let named = self.outputs.get(path).map(|agent| (*agent, true));
        let record = || {
            let (agent, place) = agents::record_at(path)?;
            Some((agent, place.form == Form::Output))
        };
        let Some((agent, is_output)) = named.or_else(record) else { return };
        let is_removal = matches!(act.activity, Activity::Delete { .. } | Activity::Rename { .. });
        let is_agents = act.process.agent.as_deref() == Some(agent.id);
        let errand = act.process.errand.and_then(|errand| self.errands.get(&errand));
        // A helper that runs no command of a call may keep the record for the agent.
        let is_helper = errand.is_some_and(|errand| errand.commands.is_empty()) && !is_removal;
        // Who takes in what the agent prints stands beside it, not below.
        let is_taker = is_output && act.process.errand.is_none();
        let is_own = (is_agents && (act.process.is_agent || is_helper)) || is_taker;
        // Who may read it is not what it says.
        let is_label = matches!(act.activity, Activity::Chmod { .. } | Activity::Chown { .. });
        let is_known = || self.touches.iter().any(|touch| touch.is_own && touch.path == *path);
        if is_label || self.touches.len() >= Self::TOUCHES || (is_own && is_known()) {
            return;
        }
        self.touches.push(Touch {
            sequence: act.sequence,
            time: act.time,
            process: act.process.key,
            agent: agent.id,
            path: path.clone(),
            is_own,
            is_removal,
            is_at_work: self.is_at_work(agent.id),
            is_output,
        });
    }

    /// Whether the record of this errand's session should hold its command and does not. What is exported may be lost
    /// on its way, so an export alone is no record.
    pub(super) fn is_missing(&self, errand: &Errand, call: Option<&Call>) -> bool {
        let (Some(record), Some(text)) = (errand.agent.record, errand.commands.last()) else { return false };
        // Who keeps no record at all has not lost one.
        !(record.is_own)(text) && call.is_none_or(|call| !call.is_recorded) && self.has_record(errand)
    }

    /// Whether the session that started this errand has a record that says anything.
    fn has_record(&self, errand: &Errand) -> bool {
        let session = errand.session.as_ref();
        let told = session.and_then(|session| {
            self.sessions.get(&(errand.agent.id.to_owned(), session.clone())).filter(|told| !told.is_aside)
        });
        told.is_some() || self.calls_of(errand).any(|known| known.is_recorded)
    }

    /// A command that its session's record should hold and does not.
    pub(super) fn unrecorded(errand: &Errand, call: Option<&Call>) -> Told {
        let title = errand.agent.title;
        let text = short(errand.commands.last().map_or("", String::as_str));
        let exported = call.map(|call| format!(", though the agent exported it as call {}", call.call.call));
        let story = format!(
            "{title} ran `{text}`, which its own record does not hold{}",
            exported.unwrap_or_default()
        );
        Told {
            sequence: 0,
            time: errand.time,
            hit: hit(errand.process, story, text),
            declared: None,
            acts: Vec::new(),
        }
    }
}

fn hit(process: ProcessKey, title: String, object: String) -> Hit {
    Hit {
        rule: &detections::AGENT_RECORD_LOST,
        kind: Kind::Divergence,
        severity: detections::AGENT_RECORD_LOST.severity,
        confidence: detections::AGENT_RECORD_LOST.confidence,
        title,
        process,
        object,
        evidence: Vec::new(),
        replaces: None,
        remedy: None,
    }
}

impl Engine {
    /// Hands of others on the record of an agent that is at work.
    pub(super) fn hands_on_records(&self, work: &Work, home: &str) -> Vec<Told> {
        let mut told = Vec::new();
        let mut seen = BTreeSet::new();
        for touch in work.touches.iter().filter(|touch| !touch.is_own && touch.is_at_work) {
            if !seen.insert((touch.process, touch.path.as_str())) {
                continue;
            }
            let title = agents::by_id(touch.agent).map_or(touch.agent, |agent| agent.title);
            let name = self.lineage.get(touch.process).map(|process| process.name.to_string());
            let name = name.unwrap_or_else(|| "a process".to_owned());
            let verb = if touch.is_removal { "took away" } else { "wrote to" };
            let shown =
                touch.path.strip_prefix(home).filter(|rest| !home.is_empty() && rest.starts_with('/'));
            let shown = shown.map_or_else(|| touch.path.clone(), |rest| format!("~{rest}"));
            let what = if touch.is_output {
                format!("where {title} prints its tool calls, while it was at work; what it says")
            } else {
                format!("{title}'s own record of its tool calls, while it was at work; what the record says")
            };
            let story = format!("{name} {verb} {shown}, {what} is not believed");
            told.push(Told {
                sequence: touch.sequence,
                time: touch.time,
                hit: hit(touch.process, story, touch.path.clone()),
                declared: None,
                acts: vec![(touch.process, touch.path.clone())],
            });
        }
        told
    }

    /// What is wrong with agents' records, where nobody was seen to do it.
    pub(in crate::engine) fn lost_records(&self) -> Vec<Finding> {
        let is_watched = self.start.as_ref().is_none_or(|start| start.sight.file == Reach::Full);
        self.work
            .problems
            .iter()
            .filter(|problem| {
                problem.is_at_work && !self.work.touches.iter().any(|touch| touch.path == problem.file)
            })
            .map(|problem| {
                let title = agents::by_id(&problem.agent).map_or(problem.agent.as_str(), |agent| agent.title);
                let text = format!("the record of {title} {} while the agent was at work", problem.text);
                let finding = super::super::ending::coverage_finding(
                    &detections::AGENT_RECORD_LOST,
                    text,
                    problem.file.clone(),
                    problem.time,
                );
                // A polled sensor sees no hands, so this may well be the agent's own.
                let confidence = if is_watched { finding.confidence } else { Confidence::Low };
                Finding {
                    agent: Some(problem.agent.clone()),
                    evidence: vec![problem.sequence],
                    confidence,
                    ..finding
                }
            })
            .collect()
    }

    /// What agents did to their own records.
    pub(in crate::engine) fn own_removals(&self) -> Vec<String> {
        let titles: BTreeSet<&str> = self
            .work
            .touches
            .iter()
            .filter(|touch| {
                let is_it = |problem: &Problem| problem.is_at_work && problem.file == touch.path;
                touch.is_own && !touch.is_output && self.work.problems.iter().any(is_it)
            })
            .map(|touch| agents::by_id(touch.agent).map_or(touch.agent, |agent| agent.title))
            .collect();
        titles
            .into_iter()
            .map(|title| {
                format!(
                    "{title} itself took a record away or cut it, so the rest of that record is not known"
                )
            })
            .collect()
    }
}
