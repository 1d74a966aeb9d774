//! What each session of a coding agent asked for, and what came of it: for the reports.

use std::collections::{BTreeMap, HashMap};

use super::join::Joined;
use super::{Errand, Work, short};
use crate::agents;
use crate::event::ProcessKey;
use crate::finding::{CallReport, CallState, SessionReport};
use crate::job::Job;

/// Effects of one errand: explained and not.
pub(super) type Judged = HashMap<ProcessKey, (u64, u64)>;

impl Work {
    /// Calls of one session that are told one by one; the rest is counted.
    const LINES: usize = 200;

    /// Every session, in order of its first call.
    pub(super) fn digest(&self, joined: &Joined, judged: &Judged, job: &Job) -> Vec<SessionReport> {
        let mut reports: BTreeMap<(String, String), SessionReport> = BTreeMap::new();
        for (key, session) in &self.sessions {
            let report = reports.entry(key.clone()).or_insert_with(|| self.blank(&key.0, &key.1, job));
            report.version.clone_from(&session.version);
            report.mode.clone_from(&session.mode);
            report.unasked |= session.unasked;
        }
        let mut ran: HashMap<usize, (&'static str, u64)> = HashMap::new();
        for errand in self.errands.values() {
            let call = joined.get(&errand.process);
            let (explained, unexplained) = judged.get(&errand.process).copied().unwrap_or_default();
            if let Some((index, how)) = call {
                let entry = ran.entry(*index).or_insert((how, 0));
                entry.1 += unexplained;
            }
            // What an agent starts on its own account shows only where it did something.
            if call.is_none() && errand.commands.is_empty() && explained + unexplained == 0 {
                continue;
            }
            let key = self.session_of(errand, call.map(|(index, _)| *index));
            let report = reports.entry(key.clone()).or_insert_with(|| self.blank(&key.0, &key.1, job));
            report.explained += explained;
            report.unexplained += unexplained;
            let is_unrecorded = self.is_missing(errand, call.map(|(index, _)| &self.calls[*index]));
            report.unrecorded += u64::from(is_unrecorded);
        }
        for (index, known) in self.calls.iter().enumerate() {
            // A part of a call is told with that call.
            if self.whole(index) != index {
                continue;
            }
            let key = (known.call.agent.clone(), known.call.session.clone());
            let report = reports.entry(key.clone()).or_insert_with(|| self.blank(&key.0, &key.1, job));
            let run = ran.get(&index);
            report.calls += 1;
            report.commands += u64::from(!known.call.commands.is_empty());
            report.run += u64::from(run.is_some());
            report.refused += u64::from(known.denied);
            if report.timeline.len() < Self::LINES {
                report.timeline.push(CallReport {
                    call: known.call.call.clone(),
                    time: known.call.time,
                    tool: known.call.tool.clone(),
                    text: known
                        .call
                        .commands
                        .first()
                        .or_else(|| known.call.names.first())
                        .map(|it| short(it)),
                    state: match (run, known.denied) {
                        (Some(_), _) => CallState::Run,
                        (None, true) => CallState::Refused,
                        (None, false) => CallState::Asked,
                    },
                    tied_by: run.map(|(how, _)| *how),
                    unexplained: run.map_or(0, |(_, unexplained)| *unexplained),
                });
            }
        }
        // A sub-agent's session whose calls stand in the record of the one above.
        let is_part = |key: &(String, String)| self.sessions.get(key).is_some_and(|it| it.parent.is_some());
        reports.retain(|key, report| {
            !is_part(key) || report.calls + report.explained + report.unexplained + report.unrecorded > 0
        });
        let mut reports: Vec<SessionReport> = reports.into_values().collect();
        for report in &mut reports {
            report.timeline.sort_by(|a, b| (a.time, &a.call).cmp(&(b.time, &b.call)));
        }
        reports.sort_by_key(|report| report.timeline.first().map(|call| call.time));
        reports
    }

    fn blank(&self, agent: &str, session: &str, job: &Job) -> SessionReport {
        let flag = self.flags.get(agent).cloned().or_else(|| self.unasked_by_settings(agent, job));
        SessionReport {
            agent: agent.to_owned(),
            title: agents::by_id(agent).map_or(agent, |agent| agent.title).to_owned(),
            session: session.to_owned(),
            version: None,
            mode: None,
            unasked: flag.is_some(),
            flag,
            permissions: self.permissions(agent, job),
            calls: 0,
            commands: 0,
            run: 0,
            refused: 0,
            explained: 0,
            unexplained: 0,
            unrecorded: 0,
            timeline: Vec::new(),
        }
    }

    /// The session an errand belongs to: by its mark, its call, else the agent's only one.
    fn session_of(&self, errand: &Errand, call: Option<usize>) -> (String, String) {
        let agent = errand.agent.id.to_owned();
        let by_call = call.map(|index| self.calls[index].call.session.clone());
        let session = by_call.or_else(|| errand.session.clone()).unwrap_or_else(|| {
            let mut of_agent = self.sessions.keys().filter(|key| key.0 == agent);
            match (of_agent.next(), of_agent.next()) {
                (Some(key), None) => key.1.clone(),
                _ => String::new(),
            }
        });
        (agent, session)
    }
}
