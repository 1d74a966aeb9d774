//! Cursor's command-line agent, from its own installer.
//!
//! Written from its documentation: it can't be had from a registry, and no test of ours drives it. Its
//! record is `~/.cursor/projects/<folder>/agent-transcripts/<id>/<id>.jsonl`: role and content blocks,
//! without times, and with ids in some versions only. Results are often absent.

use serde_json::Value;

use super::{Agent, Entry, Form, Marks, Place, Reader, Record, settings, text};
use crate::event::Timestamp;
use crate::intent::{ToolCall, ToolResult};

pub(super) const AGENT: Agent = Agent {
    id: "cursor",
    title: "Cursor CLI",
    programs: &[
        "/**/.local/share/cursor-agent/versions/*/cursor-agent",
        "/**/.local/share/cursor-agent/versions/*/index.js",
    ],
    modules: &[],
    hosts: &["*.cursor.sh", "cursor.com", "*.cursor.com"],
    keeps: &[],
    logins: &["~/.cursor/auth.json", "~/.config/cursor/auth.json"],
    marks: Marks::NONE,
    settings: &settings::CURSOR,
    record: Some(&Record {
        places: &[Place { files: "~/.cursor/projects/*/agent-transcripts/**/*.jsonl", form: Form::Lines }],
        reader: |path| Box::new(Transcript { session: session(path), count: 0 }),
        command: |_| None,
        tools: &[],
        is_own: |_| false,
        relays: &[],
        is_tried: false,
    }),
};

#[derive(Debug)]
struct Transcript {
    session: String,
    count: u64,
}

impl Reader for Transcript {
    fn read(&mut self, piece: &str) -> Vec<Entry> {
        let Ok(line) = serde_json::from_str::<Value>(piece) else { return vec![Entry::Unreadable] };
        let message = line.get("message").unwrap_or(&line);
        if text(&line, "role").or_else(|| text(message, "role")).is_none() {
            return if text(&line, "type").is_some() { Vec::new() } else { vec![Entry::Unreadable] };
        }
        match message.get("content") {
            Some(Value::Array(blocks)) => blocks.iter().filter_map(|block| self.entry(block)).collect(),
            Some(Value::String(_)) => Vec::new(),
            _ => vec![Entry::Unreadable],
        }
    }
}

impl Transcript {
    fn entry(&mut self, block: &Value) -> Option<Entry> {
        match text(block, "type")? {
            "tool_use" => {
                let Some(name) = text(block, "name") else { return Some(Entry::Unreadable) };
                self.count += 1;
                let id = text(block, "id")
                    .map_or_else(|| format!("{}#{}", self.session, self.count), ToOwned::to_owned);
                Some(Entry::Call(ToolCall::with(
                    &self.session,
                    &id,
                    name,
                    Timestamp::default(),
                    &block["input"],
                )))
            }
            "tool_result" => {
                let call = text(block, "tool_use_id")?.to_owned();
                Some(Entry::Result(ToolResult { call, ..ToolResult::default() }))
            }
            _ => None,
        }
    }
}

/// The record's name without its ending.
fn session(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.strip_suffix(".jsonl").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, told};
    use super::*;

    #[test]
    fn reads_calls_with_and_without_an_id() {
        let told = told(
            &AGENT,
            &[
                r#"{"role":"user","message":{"content":[{"type":"text","text":"x"}]}}"#,
                r#"{"role":"assistant","message":{"content":[{"type":"tool_use","name":"Shell","input":{"command":"make test"}},{"type":"tool_use","id":"t2","name":"Read","input":{"path":"/w/a"}}]}}"#,
            ],
        );
        assert_eq!(told.calls, ["record record#1 Shell `make test` []", "record t2 Read [/w/a]"]);
        assert_eq!(session("/h/.cursor/projects/p/agent-transcripts/a1/a1.jsonl"), "a1");
    }

    #[test]
    fn passes_over_what_is_new_and_counts_what_is_no_record() {
        assert_eq!(told(&AGENT, &[r#"{"type":"turn_ended"}"#]), Told::default());
        for line in [
            "",
            "{",
            "[]",
            r#"{"a":1}"#,
            r#"{"role":"assistant"}"#,
            r#"{"role":"assistant","content":[{"type":"tool_use"}]}"#,
        ] {
            assert_eq!(told(&AGENT, &[line]).unreadable, 1, "{line}");
        }
    }
}
