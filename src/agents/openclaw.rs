//! `OpenClaw`: a script of its npm package.
//!
//! Its record is the database `~/.openclaw/agents/<agent>/agent/openclaw-agent.sqlite`; a row is there
//! some 230 ms before what it asks for starts. Large rows are packed, and count as unreadable. Older
//! versions keep `~/.openclaw/agents/<agent>/sessions/<session>.jsonl`. A command runs below two of its
//! own scripts as `bash --noprofile --norc -c "<snapshot> … eval 'COMMAND'"`.

use serde_json::Value;

use super::{Agent, Entry, Form, Marks, Place, Reader, Record, moment, settings, text};
use crate::intent::{AgentSession, ToolCall, ToolResult};

pub(super) const AGENT: Agent = Agent {
    id: "openclaw",
    title: "OpenClaw",
    programs: &[
        "/**/node_modules/.bin/openclaw",
        "/**/node_modules/openclaw/openclaw.mjs",
        "/**/node_modules/openclaw/dist/**.js",
    ],
    modules: &[],
    hosts: &[],
    keeps: &[],
    logins: &["~/.openclaw/openclaw.json", "~/.openclaw/**/auth-profiles.json"],
    marks: Marks::NONE,
    settings: &settings::OPENCLAW,
    record: Some(&Record {
        places: &[
            Place {
                files: "~/.openclaw/agents/*/agent/openclaw-agent.sqlite",
                form: Form::Database(&[
                    "SELECT rowid, session_id || char(10) || coalesce(event_json, '') FROM transcript_events WHERE rowid > ?1 ORDER BY rowid",
                ]),
            },
            Place { files: "~/.openclaw/agents/*/sessions/*.jsonl", form: Form::Lines },
        ],
        reader: |_| Box::<Transcript>::default(),
        command,
        tools: &[],
        is_own: |_| false,
        relays: &["/**/node_modules/openclaw/dist/**"],
        is_tried: true,
    }),
};

/// The session that the last line named.
#[derive(Debug, Default)]
struct Transcript {
    session: String,
}

impl Reader for Transcript {
    fn read(&mut self, piece: &str) -> Vec<Entry> {
        // A row stands behind a line with its session.
        let piece = match piece.split_once('\n') {
            Some((session, event)) if !session.starts_with('{') => {
                session.clone_into(&mut self.session);
                event
            }
            _ => piece,
        };
        let Ok(event) = serde_json::from_str::<Value>(piece) else { return vec![Entry::Unreadable] };
        match text(&event, "type") {
            None => vec![Entry::Unreadable],
            Some("session") => self.begun(&event),
            Some("message") => self.said(&event),
            Some(_) => Vec::new(),
        }
    }
}

impl Transcript {
    fn begun(&mut self, event: &Value) -> Vec<Entry> {
        let Some(session) = text(event, "id") else { return vec![Entry::Unreadable] };
        session.clone_into(&mut self.session);
        vec![Entry::Session(AgentSession {
            session: session.to_owned(),
            directory: text(event, "cwd").map(ToOwned::to_owned),
            ..AgentSession::default()
        })]
    }

    fn said(&self, event: &Value) -> Vec<Entry> {
        let time = text(event, "timestamp").and_then(moment).unwrap_or_default();
        let Some(message) = event.get("message") else { return vec![Entry::Unreadable] };
        if text(message, "role") == Some("toolResult") {
            let Some(id) = text(message, "toolCallId") else { return vec![Entry::Unreadable] };
            let status = message.get("details").and_then(|details| text(details, "status"));
            return vec![Entry::Result(ToolResult {
                call: id.to_owned(),
                time,
                denied: matches!(status, Some("denied" | "approval-denied" | "blocked")),
                ..ToolResult::default()
            })];
        }
        let blocks = match message.get("content") {
            Some(Value::Array(blocks)) => blocks,
            Some(Value::String(_)) => return Vec::new(),
            _ => return vec![Entry::Unreadable],
        };
        let asked = blocks.iter().filter(|block| text(block, "type") == Some("toolCall"));
        asked
            .map(|block| match (text(block, "id"), text(block, "name")) {
                (Some(id), Some(name)) => {
                    Entry::Call(ToolCall::with(&self.session, id, name, time, &block["arguments"]))
                }
                _ => Entry::Unreadable,
            })
            .collect()
    }
}

fn command(words: &[String]) -> Option<String> {
    // Where there was no login shell to take a snapshot of.
    if let [shell, option, text] = words
        && shell.ends_with("sh")
        && option == "-c"
    {
        return Some(text.clone());
    }
    // The shell, or the one before it that becomes it.
    let script = words.last().filter(|_| words.iter().any(|word| word == "-c"))?;
    let (before, quoted) = script.rsplit_once("\neval ")?;
    let inner = quoted.trim_end().strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let inner = inner.filter(|_| before.contains("shell-snapshots/") || before.contains("export PATH="))?;
    Some(inner.replace("'\\''", "'").replace("'\"'\"'", "'"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, told, words};
    use super::*;

    const CALL: &str = r#"{"type":"message","id":"m1","parentId":null,"timestamp":"2026-11-22T19:33:59.986Z","message":{"role":"assistant","content":[{"type":"text","text":"Now."},{"type":"toolCall","id":"call_1","name":"exec","arguments":{"title":"Test","command":"make test"}},{"type":"toolCall","id":"call_2","name":"edit","arguments":{"path":"/w/a","edits":[{"oldText":"x","newText":"y"}]}}]}}"#;

    #[test]
    fn reads_calls_and_how_they_ended() {
        let done = r#"{"type":"message","timestamp":"2026-11-22T19:34:00.669Z","message":{"role":"toolResult","toolCallId":"call_1","toolName":"exec","content":[],"details":{"status":"completed","exitCode":0},"isError":false}}"#;
        let told = told(&AGENT, &[r#"{"type":"session","version":4,"id":"s1"}"#, CALL, done]);
        assert_eq!(told.calls, ["s1 call_1 exec `make test` []", "s1 call_2 edit [/w/a]"]);
        assert_eq!(
            (&told.ended[..], told.refused.len(), told.unreadable),
            (&["call_1".to_owned()][..], 0, 0)
        );
    }

    #[test]
    fn passes_over_what_is_new_and_counts_what_is_no_record() {
        for line in [
            r#"{"type":"custom","customType":"x"}"#,
            r#"{"type":"message","message":{"role":"user","content":"x"}}"#,
        ] {
            assert_eq!(told(&AGENT, &[line]), Told::default(), "{line}");
        }
        for line in [
            "",
            "{",
            "[]",
            r#"{"a":1}"#,
            r#"{"type":"message"}"#,
            r#"{"type":"message","message":{"role":"assistant","content":[{"type":"toolCall"}]}}"#,
            r#"{"type":"message","message":{"role":"toolResult"}}"#,
        ] {
            assert_eq!(told(&AGENT, &[line]).unreadable, 1, "{line}");
        }
    }

    #[test]
    fn finds_the_command_inside_its_shell_text() {
        let script = "if [ -r '/h/.openclaw/cache/shell-snapshots/3.sh' ]; then . '/h/.openclaw/cache/shell-snapshots/3.sh'; fi\nexport PATH='/bin'\neval 'echo '\\''a b'\\'''";
        let argv = ["/bin/bash", "--noprofile", "--norc", "-c", script];
        assert_eq!(command(&words(&argv)).as_deref(), Some("echo 'a b'"));
        assert_eq!(command(&words(&["/usr/bin/sh", "-c", "make test"])).as_deref(), Some("make test"));
        assert_eq!(command(&words(&["/bin/bash", "-l", "-c", "printf '\\0'; env -0"])), None);
    }
}
