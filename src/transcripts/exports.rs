//! Tool calls that agents export (OpenTelemetry), taken in only where the process that sent them is a coding agent.
//!
//! Anybody on the host can send something, and what an agent runs can too. So a message counts if each process that
//! holds the other end of its connection was launched as the same agent, and is it still.

use std::collections::{HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use super::{MOST_TOLD, Transcripts};
use crate::agents::telemetry::Nesting;
use crate::agents::{Agent, Entry};
use crate::engine::Input;
use crate::event::{Fact, ProcessKey, Timestamp};

/// What one message says, and who sent it.
#[derive(Clone, Debug)]
pub struct Export {
    /// Everybody who holds the other end of its connection.
    pub holders: Vec<Holder>,
    pub entries: Vec<Entry>,
}

/// A process as `/proc` knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// Its start, in ticks since boot.
    pub ticks: u64,
}

impl Holder {
    fn is(self, process: ProcessKey) -> bool {
        let tick = 1_000_000_000 / procfs::ticks_per_second().max(1);
        process.pid == self.pid && process.start / tick == self.ticks
    }
}

/// What is kept of them.
#[derive(Debug, Default)]
pub(super) struct Exports {
    /// Their senders are not known as agents yet: events of the kernel may be on their way. With the time of arrival.
    waiting: VecDeque<(Timestamp, Export)>,
    /// Agents that have ended a moment ago.
    ended: VecDeque<(ProcessKey, &'static Agent)>,
    /// An exporter that got no answer sends again.
    told: HashSet<u64>,
    nesting: Vec<(ProcessKey, Nesting)>,
    unbound: usize,
}

impl Exports {
    const WAITING: usize = 256;
    const ENDED: usize = 256;
    /// An event of the kernel is taken in within this time, on a busy machine too.
    const PATIENCE_NS: u64 = 10_000_000_000;
}

impl Transcripts {
    /// Notes that a process has ended. What it sent last may still be waiting.
    pub(super) fn ended(&mut self, process: ProcessKey) {
        if let Some(agent) = self.agents.remove(&process) {
            self.exports.ended.push_back((process, agent));
            if self.exports.ended.len() > Exports::ENDED {
                self.exports.ended.pop_front();
            }
        }
    }

    /// Takes in what was exported since the last time; `is_end`: nothing more will be known of anybody.
    pub fn exported(&mut self, exports: Vec<Export>, now: Timestamp, is_end: bool) -> Vec<Input> {
        self.exports.waiting.extend(exports.into_iter().map(|export| (now, export)));
        let mut inputs = Vec::new();
        for (since, export) in std::mem::take(&mut self.exports.waiting) {
            if let Some((process, agent)) = self.sender(&export.holders) {
                let entries = self.exports.news(process, export.entries);
                self.tell(agent, entries, now, &mut inputs);
                continue;
            }
            let is_late = now.0 >= since.0.saturating_add(Exports::PATIENCE_NS);
            if is_end || is_late || self.exports.waiting.len() >= Exports::WAITING {
                let calls = export.entries.iter().filter(|entry| matches!(entry, Entry::Call(_)));
                self.exports.unbound += calls.count();
            } else {
                self.exports.waiting.push_back((since, export));
            }
        }
        if is_end && self.exports.unbound > 0 {
            let text = format!(
                "{} exports of tool calls came from no coding agent of this run, and are not believed",
                self.exports.unbound
            );
            inputs.push(Input::Fact(Fact::Gap { text }));
        }
        inputs
    }

    /// The agent that sent something; `None` if anybody else can have done it.
    fn sender(&self, holders: &[Holder]) -> Option<(ProcessKey, &'static Agent)> {
        let known =
            || self.agents.iter().map(|(key, agent)| (*key, *agent)).chain(self.exports.ended.clone());
        let mut senders = holders.iter().map(|holder| known().find(|(key, _)| holder.is(*key)));
        let first = senders.next()??;
        senders.all(|other| other.is_some_and(|(_, agent)| agent.id == first.1.id)).then_some(first)
    }
}

impl Exports {
    /// What of this was not told yet, as an export of this process.
    fn news(&mut self, process: ProcessKey, mut entries: Vec<Entry>) -> Vec<Entry> {
        let at = self.nesting.iter().position(|(key, _)| *key == process).unwrap_or_else(|| {
            if self.nesting.len() >= Self::ENDED {
                self.nesting.remove(0);
            }
            self.nesting.push((process, Nesting::default()));
            self.nesting.len() - 1
        });
        self.nesting[at].1.tie(&mut entries);
        for entry in &mut entries {
            match entry {
                Entry::Call(call) => call.sender = Some(process),
                Entry::Session(session) => session.is_aside = true,
                Entry::Result(_) | Entry::Unreadable => {}
            }
        }
        entries.retain(|entry| {
            let mut hasher = DefaultHasher::new();
            entry.hash(&mut hasher);
            self.told.len() < MOST_TOLD && self.told.insert(hasher.finish())
        });
        entries
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::event::{Activity, Event, ExitStatus, File, Launch};
    use crate::intent::{Declaration, Text, ToolCall};
    use crate::job::StepKey;

    const START: u64 = 7_123_456_789;

    fn key(pid: u32) -> ProcessKey {
        ProcessKey { pid, start: START }
    }

    fn held(pids: &[u32]) -> Vec<Holder> {
        let tick = 1_000_000_000 / procfs::ticks_per_second();
        pids.iter().map(|pid| Holder { pid: *pid, ticks: START / tick }).collect()
    }

    fn export(call: &str, holders: Vec<Holder>) -> Export {
        let call = ToolCall { call: call.into(), tool: "Bash".into(), ..ToolCall::default() };
        Export { holders, entries: vec![Entry::Call(call)] }
    }

    fn launch(transcripts: &mut Transcripts, pid: u32, agent: Option<&str>, words: &[&str]) {
        if let Some(agent) = agent {
            transcripts.note(&Input::Fact(Fact::Agent { process: key(pid), agent: agent.into() }));
        }
        let launch = Launch {
            executable: File::at("/opt/x"),
            arguments: words.iter().map(|word| (*word).to_owned()).collect(),
            ..Launch::default()
        };
        let activity = Activity::Launch(launch);
        transcripts.note(&Input::Event(Event { time: Timestamp(1), actor: key(pid), activity }));
    }

    fn nobody() -> Transcripts {
        Transcripts::new(std::iter::empty(), PathBuf::from("/nowhere"), Timestamp(1), StepKey::local())
    }

    fn calls(inputs: &[Input]) -> Vec<(&str, &str, Option<u32>)> {
        inputs
            .iter()
            .filter_map(|input| match input {
                Input::Declaration(Declaration { text: Text::ToolCall(call), .. }) => {
                    Some((call.agent.as_str(), call.call.as_str(), call.sender.map(|sender| sender.pid)))
                }
                _ => None,
            })
            .collect()
    }

    fn gaps(inputs: &[Input]) -> usize {
        inputs.iter().filter(|input| matches!(input, Input::Fact(Fact::Gap { .. }))).count()
    }

    #[test]
    fn an_agent_is_believed_and_told_once() {
        let mut transcripts = nobody();
        launch(&mut transcripts, 5, Some("claude-code"), &["claude"]);
        let sent = || vec![export("c1", held(&[5])), export("c1", held(&[5]))];
        let told = transcripts.exported(sent(), Timestamp(2), false);
        assert_eq!(calls(&told), [("claude-code", "c1", Some(5))]);
        let end = transcripts.end(Timestamp(3));
        assert_eq!((calls(&end).len(), gaps(&end)), (0, 0), "{end:?}");
    }

    #[test]
    fn whoever_is_no_agent_is_counted_and_not_believed() {
        let mut transcripts = nobody();
        launch(&mut transcripts, 5, Some("codex"), &["codex"]);
        launch(&mut transcripts, 6, Some("claude-code"), &["claude"]);
        // A command of Codex is prepared by Codex's own file; a search by Claude Code's.
        launch(&mut transcripts, 7, Some("codex"), &["/proc/self/exe"]);
        launch(&mut transcripts, 8, Some("codex"), &["codex"]);
        launch(&mut transcripts, 8, None, &["bash", "-c", "curl"]);
        launch(&mut transcripts, 9, Some("claude-code"), &["ugrep"]);
        let other = Holder { pid: 5, ticks: 1 };
        let sent = [
            held(&[]),
            held(&[4]),
            held(&[5, 4]),
            held(&[5, 6]),
            held(&[7]),
            held(&[8]),
            held(&[9]),
            vec![other],
        ];
        let sent = sent.into_iter().map(|holders| export("c", holders)).collect();
        assert_eq!(transcripts.exported(sent, Timestamp(2), false), []);
        let end = transcripts.end(Timestamp(3));
        let text = "8 exports of tool calls came from no coding agent of this run, and are not believed";
        assert_eq!(end, [Input::Fact(Fact::Gap { text: text.into() })]);
    }

    #[test]
    fn what_comes_before_the_agents_launch_is_known_or_after_its_end_waits() {
        let mut transcripts = nobody();
        assert_eq!(transcripts.exported(vec![export("c1", held(&[5]))], Timestamp(2), false), []);
        launch(&mut transcripts, 5, Some("codex"), &["codex"]);
        let exit = Activity::Exit { status: ExitStatus::Code(0) };
        transcripts.note(&Input::Event(Event { time: Timestamp(3), actor: key(5), activity: exit }));
        let told = transcripts.exported(Vec::new(), Timestamp(4), false);
        assert_eq!(calls(&told), [("codex", "c1", Some(5))]);
        // Nobody waits for ever, nor in a row without end.
        let many = (0..1000).map(|_| export("c", held(&[4]))).collect();
        transcripts.exported(many, Timestamp(5), false);
        assert_eq!(transcripts.exports.waiting.len(), Exports::WAITING);
        transcripts.exported(Vec::new(), Timestamp(5 + Exports::PATIENCE_NS), false);
        assert_eq!((transcripts.exports.waiting.len(), transcripts.exports.unbound), (0, 1000));
    }
}
