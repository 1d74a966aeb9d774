//! What a run has come to so far, for whoever looks on while it goes: each thing once.

use std::collections::{BTreeMap, BTreeSet};

use super::{Engine, GroupKey};
use crate::detections;
use crate::finding::{Kind, Severity};
use crate::job::StepKey;

/// What was told already.
#[derive(Debug, Default)]
pub struct Told {
    steps: BTreeSet<StepKey>,
    agents: BTreeSet<String>,
    destinations: BTreeSet<(StepKey, String, String)>,
    findings: BTreeMap<GroupKey, (Severity, String)>,
}

/// One thing worth a line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    Step(StepKey),
    Agent(String),
    /// A program of a step talks to somebody; why that is expected, if it is.
    Egress {
        step: StepKey,
        program: String,
        host: String,
        explained: Option<String>,
    },
    /// What was found as far as is known now: it may still be weighed otherwise at the end.
    Finding {
        severity: Severity,
        kind: Kind,
        rule: &'static str,
        title: String,
    },
}

impl Engine {
    /// What is new since the last time.
    pub fn news(&self, told: &mut Told) -> Vec<News> {
        let mut news = Vec::new();
        for (step, tally) in &self.steps {
            if tally.counts.process > 0 && told.steps.insert(step.clone()) {
                news.push(News::Step(step.clone()));
            }
        }
        for agent in &self.agents_seen {
            if told.agents.insert(agent.clone()) {
                news.push(News::Agent(agent.clone()));
            }
        }
        for (step, tally) in &self.steps {
            for ((host, program), explained) in &tally.destinations {
                if told.destinations.insert((step.clone(), host.clone(), program.clone())) {
                    news.push(News::Egress {
                        step: step.clone(),
                        program: program.clone(),
                        host: host.clone(),
                        explained: explained.clone(),
                    });
                }
            }
        }
        for (key, group) in &self.groups {
            let finding = &group.finding;
            let now = (finding.severity, finding.title.clone());
            if told.findings.get(key) == Some(&now) {
                continue;
            }
            told.findings.insert(key.clone(), now);
            news.push(News::Finding {
                severity: finding.severity,
                kind: finding.kind,
                rule: finding.rule.0,
                title: finding.title.clone(),
            });
        }
        for (key, change) in self.posture.foreseen() {
            let now = (change.severity, change.title.clone());
            if told.findings.get(key) != Some(&now) {
                told.findings.insert(key.clone(), now);
                news.push(News::Finding {
                    severity: change.severity,
                    kind: Kind::Posture,
                    rule: detections::POSTURE.id.0,
                    title: change.title.clone(),
                });
            }
        }
        news
    }
}
