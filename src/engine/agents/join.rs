//! Which tool call an errand carries out: its id in the environment, the exact text, the pid that the record
//! names, else the only call that is open.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{Call, Errand, Work};
use crate::event::{ProcessKey, Timestamp};

/// A record may say a moment later than the start of what it tells of.
const SLACK_NS: u64 = 2_000_000_000;
/// A call that nothing says to be over is open for so long.
const WINDOW_NS: u64 = 6_000_000_000;

pub(super) const BY_ID: &str = "the id in its environment";
pub(super) const BY_TEXT: &str = "the exact text";
pub(super) const BY_PID: &str = "the process that the record names";
pub(super) const BY_TIME: &str = "time alone";

/// Errand to call, and how they were tied.
pub(super) type Joined = BTreeMap<ProcessKey, (usize, &'static str)>;

impl Call {
    /// Whether it was asked for, and not over, at this moment; as far as the record's clock tells.
    pub(super) fn is_open_at(&self, time: Timestamp) -> bool {
        let asked = self.call.time.0 <= time.0.saturating_add(SLACK_NS);
        let is_over = match self.answered {
            Some(answered) => answered.0.saturating_add(SLACK_NS) < time.0,
            None => false,
        };
        asked && !is_over
    }
}

/// A text without what agents and redaction change in it.
fn plain(text: &str) -> String {
    text.replace("< /dev/null", " ").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether two texts are the same where neither had a secret taken out.
fn is_alike(one: &str, other: &str) -> bool {
    const MASK: &str = "***";
    if one == other {
        return true;
    }
    if !one.contains(MASK) && !other.contains(MASK) {
        return false;
    }
    // What lies before the first secret and behind the last one is left as it was.
    let ends = |text: &str| {
        let first = text.find(MASK).unwrap_or(text.len());
        let last = text.rfind(MASK).map_or(0, |at| at + MASK.len());
        (text[..first].to_owned(), text[last..].to_owned())
    };
    let ((head, tail), (other_head, other_tail)) = (ends(one), ends(other));
    let starts = |a: &str, b: &str| a.starts_with(b) || b.starts_with(a);
    let closes = |a: &str, b: &str| a.ends_with(b) || b.ends_with(a);
    head.len().min(other_head.len()) >= 4 && starts(&head, &other_head) && closes(&tail, &other_tail)
}

/// `make test` of `cd sub && make test`.
fn behind_cd(text: &str) -> Option<&str> {
    let (folder, rest) = text.trim_start().strip_prefix("cd ")?.split_once("&&")?;
    (!folder.contains(['\n', ';', '|', '&', '$', '`'])).then(|| rest.trim_start())
}

impl Work {
    /// Takes calls that were told without an id for calls of their own; those that are told with one, or both by a
    /// hook and as an export, are known.
    pub(super) fn adopt_nameless(&mut self) {
        const FURTHEST_NS: u64 = 60_000_000_000;
        // A hook and an export may each tell a call once.
        let mut seen: HashSet<(usize, bool)> = HashSet::new();
        for (number, (sequence, mut call)) in (1..).zip(std::mem::take(&mut self.nameless)) {
            let twin = self.calls.iter().enumerate().position(|(index, known)| {
                let known = &known.call;
                !seen.contains(&(index, call.is_hook))
                    && (&known.agent, &known.session) == (&call.agent, &call.session)
                    && (&known.commands, &known.names) == (&call.commands, &call.names)
                    && known.time.0.abs_diff(call.time.0) < FURTHEST_NS
            });
            let index = twin.unwrap_or(self.calls.len());
            seen.insert((index, call.is_hook));
            if twin.is_some() {
                self.calls[index].is_recorded |= call.is_hook;
                continue;
            }
            call.call = format!("{} {number}", if call.is_hook { "hook" } else { "export" });
            self.called(sequence, &call);
        }
    }

    /// Which call each errand carries out. Each text of a call is used once.
    pub(super) fn join(&self) -> Joined {
        let mut by_text: HashMap<(&str, String), Vec<(usize, usize)>> = HashMap::new();
        for (index, known) in self.calls.iter().enumerate() {
            for (part, text) in known.call.commands.iter().enumerate() {
                by_text.entry((&known.call.agent, plain(text))).or_default().push((index, part));
                // Some change the folder themselves, and give the shell the rest.
                if let Some(rest) = behind_cd(text) {
                    by_text.entry((&known.call.agent, plain(rest))).or_default().push((index, part));
                }
            }
        }
        let mut taken: HashSet<(usize, usize)> = HashSet::new();
        let mut joined = Joined::new();
        let mut errands: Vec<&Errand> = self.errands.values().collect();
        errands.sort_by_key(|errand| (errand.time, errand.process));
        let mut left = Vec::new();
        for errand in errands {
            if let Some(call) = &errand.call
                && let Some(index) = self.places.get(&(errand.agent.id.to_owned(), call.clone()))
            {
                // A command inside a call that runs several is told under that call.
                let index = self.whole(*index);
                joined.insert(errand.process, (index, BY_ID));
                let parts = &self.calls[index].call.commands;
                let is_it = |text: &String| errand.commands.iter().any(|own| plain(own) == plain(text));
                let part = (0..parts.len()).find(|at| is_it(&parts[*at]) && !taken.contains(&(index, *at)));
                taken.insert((index, part.unwrap_or(0)));
                continue;
            }
            if errand.commands.is_empty() {
                continue;
            }
            let texts = errand.commands.iter().chain(&errand.texts);
            let exact = texts
                .clone()
                .rev()
                .find_map(|text| self.fitting(errand, by_text.get(&(errand.agent.id, plain(text)))?, &taken));
            let exact = exact.or_else(|| {
                // A text with a secret in it was changed on both sides, not always alike.
                let alike: Vec<(usize, usize)> = self.parts(errand, |recorded| {
                    errand.commands.iter().any(|text| is_alike(&plain(text), &plain(recorded)))
                });
                self.fitting(errand, &alike, &taken)
            });
            if let Some(part) = exact {
                taken.insert(part);
                joined.insert(errand.process, (self.whole(part.0), BY_TEXT));
            } else {
                left.push(errand);
            }
        }
        for errand in left {
            let named = self.calls.iter().position(|known| {
                known.call.agent == errand.agent.id && known.process == Some(errand.process.pid)
            });
            if let Some(index) = named {
                joined.insert(errand.process, (index, BY_PID));
                taken.insert((index, 0));
                continue;
            }
            let mut open = self
                .parts(errand, |_| true)
                .into_iter()
                .filter(|part| !taken.contains(part) && self.is_near(part.0, errand));
            if let (Some(part), None) = (open.next(), open.next()) {
                taken.insert(part);
                joined.insert(errand.process, (part.0, BY_TIME));
            }
        }
        joined
    }

    /// The parts of this agent's, and where it is known this session's, calls that run something like this.
    fn parts(&self, errand: &Errand, is_wanted: impl Fn(&str) -> bool) -> Vec<(usize, usize)> {
        self.calls
            .iter()
            .enumerate()
            .filter(|(_, known)| known.call.agent == errand.agent.id && self.is_of_session(known, errand))
            .flat_map(|(index, known)| {
                known.call.commands.iter().enumerate().map(move |(part, text)| ((index, part), text))
            })
            .filter(|(_, text)| is_wanted(text))
            .map(|(part, _)| part)
            .collect()
    }

    /// The call that this one is a part of, if its record has that one.
    pub(super) fn whole(&self, index: usize) -> usize {
        let call = &self.calls[index].call;
        let above =
            call.within.as_ref().and_then(|above| self.places.get(&(call.agent.clone(), above.clone())));
        above.copied().unwrap_or(index)
    }

    fn is_of_session(&self, known: &Call, errand: &Errand) -> bool {
        let Some(session) = &errand.session else { return true };
        let above = || self.sessions.get(&(errand.agent.id.to_owned(), session.clone()))?.parent.as_ref();
        known.call.session == *session || above() == Some(&known.call.session)
    }

    /// The first free one that was open when the errand began; else the first free one that was not refused.
    fn fitting(
        &self,
        errand: &Errand,
        parts: &[(usize, usize)],
        taken: &HashSet<(usize, usize)>,
    ) -> Option<(usize, usize)> {
        let free = || {
            parts
                .iter()
                .filter(|part| !taken.contains(part) && self.is_of_session(&self.calls[part.0], errand))
        };
        let is_open = |part: &&(usize, usize)| self.calls[part.0].is_open_at(errand.time);
        let rank = |part: &&(usize, usize)| {
            let known = &self.calls[part.0];
            // A record that somebody had a hand in names a call only if no other does.
            (known.denied, known.is_disputed)
        };
        free().filter(is_open).min_by_key(rank).or_else(|| free().min_by_key(rank)).copied()
    }

    fn is_near(&self, index: usize, errand: &Errand) -> bool {
        let known = &self.calls[index];
        let is_soon = errand.time.0 <= known.call.time.0.saturating_add(WINDOW_NS);
        known.is_open_at(errand.time) && (known.answered.is_some() || is_soon)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intent::{AgentSession, ToolCall};

    #[test]
    fn what_a_hook_tells_without_an_id_is_a_call_only_if_the_record_has_none() {
        let call = |id: &str, command: &str, time: u64| ToolCall {
            agent: "gemini".into(),
            session: "s".into(),
            call: id.into(),
            commands: vec![command.into()],
            time: Timestamp(time),
            is_hook: id.is_empty(),
            ..ToolCall::default()
        };
        let mut work = Work::default();
        for (sequence, call) in
            (0..).zip([call("", "ls", 5), call("", "ls", 6), call("", "make", 7), call("c1", "ls", 8)])
        {
            work.called(sequence, &call);
        }
        work.adopt_nameless();
        let ids: Vec<&str> = work.calls.iter().map(|known| known.call.call.as_str()).collect();
        assert_eq!(ids, ["c1", "hook 2", "hook 3"]);
    }

    #[test]
    fn what_is_told_by_several_channels_is_one_call() {
        let call = |id: &str, command: Option<&str>, time: u64| ToolCall {
            agent: "gemini".into(),
            session: "s".into(),
            call: id.into(),
            commands: command.iter().map(|text| (*text).to_owned()).collect(),
            time: Timestamp(time),
            ..ToolCall::default()
        };
        let sender = Some(ProcessKey { pid: 7, start: 7 });
        let export = |id, command, time| ToolCall { sender, ..call(id, command, time) };
        let mut work = Work::default();
        for (sequence, call) in (0..).zip([
            export("c1", None, 5),
            export("c1", Some("ls"), 4),
            call("c1", Some("ls"), 6),
            call("c2", Some("make"), 7),
            export("c2", None, 8),
            call("c3", Some("true"), 9),
            export("c3", Some("false"), 9),
            // Without an id: both channels tell one call, and one of them a second.
            export("", Some("pwd"), 10),
            ToolCall { is_hook: true, ..call("", Some("pwd"), 11) },
            export("", Some("pwd"), 12),
        ]) {
            work.called(sequence, &call);
        }
        work.adopt_nameless();
        let told: Vec<_> = work
            .calls
            .iter()
            .map(|known| {
                let call = &known.call;
                (
                    call.call.as_str(),
                    call.commands.join(";"),
                    call.time.0,
                    known.is_recorded,
                    known.is_disputed,
                )
            })
            .collect();
        assert_eq!(
            told,
            [
                ("c1", "ls".into(), 4, true, false),
                ("c2", "make".into(), 7, true, false),
                ("c3", "true".into(), 9, true, true),
                ("export 1", "pwd".into(), 10, true, false),
                ("export 3", "pwd".into(), 12, false, false),
            ]
        );
    }

    #[test]
    fn calls_and_sessions_that_are_parts_of_each_other_end() {
        let call = |id: &str, within: &str| ToolCall {
            agent: "codex".into(),
            session: "s".into(),
            call: id.into(),
            within: Some(within.into()),
            commands: vec!["ls".into()],
            ..ToolCall::default()
        };
        let session = |id: &str, parent: &str| AgentSession {
            agent: "codex".into(),
            session: id.into(),
            parent: Some(parent.into()),
            ..AgentSession::default()
        };
        let mut work = Work::default();
        for (sequence, (id, within)) in (0..).zip([("a", "b"), ("b", "a"), ("c", "c")]) {
            work.called(sequence, &call(id, within));
        }
        for (id, parent) in [("s", "t"), ("t", "s")] {
            work.session(&session(id, parent));
        }
        work.adopt_nameless();
        let joined = work.join();
        assert!(joined.is_empty() && work.whole(0) == 1 && work.whole(2) == 2);
        let report = crate::trace::report("make\n", "", "");
        assert!(work.digest(&joined, &HashMap::new(), &report.job).len() <= 2);
    }

    #[test]
    fn a_folder_that_the_agent_changes_to_itself_is_no_other_text() {
        assert_eq!(behind_cd("cd sub dir && make test; ls"), Some("make test; ls"));
        for text in ["cd sub", "make && cd x", "cd $(x) && ls", "cd a; ls && x", "cdr x && ls"] {
            assert_eq!(behind_cd(text), None, "{text}");
        }
        let trace = "2 agent copilot
             1 > 2 launch /n/@github/copilot-linux-x64/copilot copilot -p x
             2 call copilot:c1 cd sub && ls
             2 > 3 launch /usr/bin/bash bash --norc --noprofile -c ls
             3 > 4 launch /usr/bin/curl curl x
             4 connect 127.0.0.1:80";
        let report = crate::trace::report("copilot -p x\n", "", trace);
        assert_eq!(report.sessions[0].timeline[0].tied_by, Some(BY_TEXT));
        assert!(report.findings.is_empty(), "{:#?}", report.findings);
    }

    #[test]
    fn texts_are_alike_but_for_secrets_and_what_the_agent_adds() {
        assert_eq!(plain("ls  src < /dev/null"), plain("ls src"));
        assert!(is_alike("curl -H 'x: ***' http://h.example", "curl -H *** http://h.example"));
        assert!(!is_alike("curl http://a.example", "curl http://b.example"));
        assert!(!is_alike("curl -u *** http://a.example", "wget -u *** http://a.example"));
    }
}
