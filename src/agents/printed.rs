//! What agents print while they work (`--output-format stream-json`), which a job writes into a file: a message a line, or a list of them.
//!
//! Fields are named differently, and mean the same. Anybody in the job can write such a file, so what it says is a claim like
//! an export's: it gives a command the id of its call, and a command that it leaves out is no loss. Cursor CLI's messages are
//! read as its documentation describes them. Codex prints other ids than those of its calls, so its output is not read.

use serde_json::Value;

use super::{Entry, moment, text, when};
use crate::event::Timestamp;
use crate::intent::{AgentSession, ToolCall, ToolResult};

/// Agents that print the ids of their calls.
pub const AGENTS: &[&str] = &["claude-code", "cursor", "gemini", "qwen"];

/// Reads messages: all of a file, or some of its lines.
#[derive(Debug, Default)]
pub struct Printed {
    /// Some name it in their first message alone.
    session: String,
}

impl super::Reader for Printed {
    fn read(&mut self, piece: &str) -> Vec<Entry> {
        // A job may write more than messages into the file.
        if !piece.trim_start().starts_with(['{', '[']) {
            return if piece.trim().is_empty() { vec![Entry::Unreadable] } else { Vec::new() };
        }
        let mut entries = Vec::new();
        for value in serde_json::Deserializer::from_str(piece).into_iter::<Value>() {
            match value {
                Ok(Value::Array(messages)) => {
                    entries.extend(messages.iter().flat_map(|message| self.message(message)));
                }
                Ok(message) => entries.extend(self.message(&message)),
                Err(_) => {
                    entries.push(Entry::Unreadable);
                    break;
                }
            }
        }
        entries
    }
}

impl Printed {
    fn message(&mut self, message: &Value) -> Vec<Entry> {
        let Some(kind) = text(message, "type") else { return vec![Entry::Unreadable] };
        if let Some(session) = text(message, "session_id") {
            session.clone_into(&mut self.session);
        }
        let time = match message.get("timestamp").or_else(|| message.get("timestamp_ms")) {
            Some(Value::String(text)) => moment(text).unwrap_or_default(),
            Some(number) => when(number),
            None => Timestamp::default(),
        };
        match (kind, text(message, "subtype")) {
            ("init", _) | ("system", Some("init")) => vec![Entry::Session(self.begins(message))],
            ("assistant" | "user", _) => match message["message"].get("content") {
                Some(Value::Array(blocks)) => {
                    let within = text(message, "parent_tool_use_id");
                    blocks.iter().filter_map(|block| self.block(block, within, time)).collect()
                }
                Some(Value::String(_)) => Vec::new(),
                _ => vec![Entry::Unreadable],
            },
            ("tool_use", _) => {
                let (Some(id), Some(tool)) = (text(message, "tool_id"), text(message, "tool_name")) else {
                    return vec![Entry::Unreadable];
                };
                vec![Entry::Call(ToolCall::with(&self.session, id, tool, time, &message["parameters"]))]
            }
            ("tool_result", _) => match text(message, "tool_id") {
                Some(call) => vec![ended(call, time)],
                None => vec![Entry::Unreadable],
            },
            ("tool_call", subtype) => self.cursor(message, subtype, time),
            // What was refused is told at the end.
            ("result", _) => {
                let refused = message["permission_denials"].as_array().into_iter().flatten();
                let refused = refused.filter_map(|refused| text(refused, "tool_use_id"));
                let denied =
                    |call: &str| ToolResult { call: call.into(), denied: true, ..ToolResult::default() };
                refused.map(|call| Entry::Result(denied(call))).collect()
            }
            _ => Vec::new(),
        }
    }

    fn begins(&self, message: &Value) -> AgentSession {
        let word = |name: &str| text(message, name).map(ToOwned::to_owned);
        let mode = word("permissionMode").or_else(|| word("permission_mode"));
        AgentSession {
            session: self.session.clone(),
            unasked: mode.as_deref() == Some("bypassPermissions"),
            mode,
            directory: word("cwd"),
            version: word("claude_code_version"),
            ..AgentSession::default()
        }
    }

    /// A block of a message: Claude Code, Qwen Code.
    fn block(&self, block: &Value, within: Option<&str>, time: Timestamp) -> Option<Entry> {
        match text(block, "type")? {
            "tool_use" => {
                let (Some(id), Some(tool)) = (text(block, "id"), text(block, "name")) else {
                    return Some(Entry::Unreadable);
                };
                let call = ToolCall::with(&self.session, id, tool, time, &block["input"]);
                Some(Entry::Call(ToolCall { within: within.map(ToOwned::to_owned), ..call }))
            }
            "tool_result" => Some(match text(block, "tool_use_id") {
                Some(call) => ended(call, time),
                None => Entry::Unreadable,
            }),
            _ => None,
        }
    }

    /// `{"shellToolCall": {"args": {…}}}`, or the name and the arguments of a function.
    fn cursor(&self, message: &Value, subtype: Option<&str>, time: Timestamp) -> Vec<Entry> {
        let (Some(id), Some(Value::Object(tool))) = (text(message, "call_id"), message.get("tool_call"))
        else {
            return vec![Entry::Unreadable];
        };
        if subtype == Some("completed") {
            return vec![ended(id, time)];
        }
        let Some((name, about)) = tool.iter().next() else { return vec![Entry::Unreadable] };
        let (name, input) = match (name.as_str(), text(about, "name"), text(about, "arguments")) {
            ("function", Some(name), Some(text)) => {
                (name, serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned())))
            }
            (name, ..) => (name.trim_end_matches("ToolCall"), about["args"].clone()),
        };
        vec![Entry::Call(ToolCall::with(&self.session, id, name, time, &input))]
    }
}

fn ended(call: &str, time: Timestamp) -> Entry {
    Entry::Result(ToolResult { call: call.to_owned(), time, ..ToolResult::default() })
}

#[cfg(test)]
mod tests {
    use super::super::Reader as _;
    use super::*;

    fn told(text: &str) -> Vec<String> {
        let words = |entry| match entry {
            Entry::Call(call) => {
                let within = call.within.map(|call| format!(" in {call}")).unwrap_or_default();
                format!(
                    "call {} {} {} {:?} {:?}{within}",
                    call.session, call.call, call.tool, call.commands, call.names
                )
            }
            Entry::Result(result) => {
                format!("result {}{}", result.call, if result.denied { "!" } else { "" })
            }
            Entry::Session(session) => {
                let words = [Some(session.session), session.directory, session.version, session.mode];
                let words = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
                format!("session {words}{}", if session.unasked { "!" } else { "" })
            }
            Entry::Unreadable => "unreadable".to_owned(),
        };
        let mut reader = Printed::default();
        text.lines().flat_map(|line| reader.read(line)).map(words).collect()
    }

    #[test]
    fn claude_code_and_qwen_code_print_messages() {
        let messages = r#"{"type":"system","subtype":"init","cwd":"/w","session_id":"s","permissionMode":"bypassPermissions","claude_code_version":"2.1.330"}
{"type":"stream_event","session_id":"s","event":{"type":"x"}}
{"type":"assistant","message":{"content":[{"type":"text","text":"Now."},{"type":"tool_use","id":"toolu_1","name":"Bash","input":{"command":"make"}}]},"session_id":"s"}
{"type":"assistant","message":{"content":[{"type":"tool_use","id":"toolu_2","name":"Read","input":{"file_path":"/w/a"}}]},"session_id":"s","parent_tool_use_id":"toolu_0"}
{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"no"}]},"session_id":"s"}
{"type":"result","session_id":"s","permission_denials":[{"tool_name":"Bash","tool_use_id":"toolu_1"}]}"#;
        let wanted = [
            "session s /w 2.1.330 bypassPermissions!",
            "call s toolu_1 Bash [\"make\"] []",
            "call s toolu_2 Read [] [\"/w/a\"] in toolu_0",
            "result toolu_1",
            "result toolu_1!",
        ];
        assert_eq!(told(messages), wanted);
        // As one list, which is what Claude Code's action leaves.
        assert_eq!(told(&format!("[{}]", messages.replace('\n', ","))), wanted);
    }

    #[test]
    fn gemini_cli_names_the_session_once() {
        let messages = r#"{"type":"init","timestamp":"2026-11-22T19:50:48.110Z","session_id":"s","model":"auto"}
{"type":"message","role":"assistant","content":"x","delta":true}
{"type":"tool_use","timestamp":"2026-11-22T19:50:48.343Z","tool_name":"run_shell_command","tool_id":"t1","parameters":{"command":"make build"}}
{"type":"tool_result","timestamp":"2026-11-22T19:50:48.548Z","tool_id":"t1","status":"success"}
{"type":"result","status":"success"}"#;
        assert_eq!(
            told(messages),
            ["session s", "call s t1 run_shell_command [\"make build\"] []", "result t1"]
        );
    }

    #[test]
    fn cursor_cli_names_the_tool_by_a_key() {
        let messages = r#"{"type":"system","subtype":"init","apiKeySource":"env","cwd":"/w","session_id":"s","model":"x","permissionMode":"default"}
{"type":"tool_call","subtype":"started","call_id":"c1","tool_call":{"shellToolCall":{"args":{"command":"make test"}}},"session_id":"s"}
{"type":"tool_call","subtype":"completed","call_id":"c1","tool_call":{"shellToolCall":{"args":{"command":"make test"},"result":{"success":{}}}},"session_id":"s"}
{"type":"tool_call","subtype":"started","call_id":"c2","tool_call":{"function":{"name":"read","arguments":"{\"path\":\"/w/a\"}"}},"session_id":"s"}"#;
        assert_eq!(
            told(messages),
            [
                "session s /w default",
                "call s c1 shell [\"make test\"] []",
                "result c1",
                "call s c2 read [] [\"/w/a\"]"
            ]
        );
    }

    #[test]
    fn other_lines_are_passed_over_and_broken_ones_counted() {
        assert_eq!(told("Warning: x\nnpm notice\n{\"type\":\"new-kind\"}"), [] as [&str; 0]);
        for line in [
            "{",
            "[7]",
            r#"{"a":1}"#,
            r#"{"type":"assistant"}"#,
            r#"{"type":"tool_use","tool_id":"t"}"#,
            r#"{"type":"tool_result"}"#,
            r#"{"type":"tool_call","call_id":"c","tool_call":{}}"#,
            r#"{"type":"assistant","message":{"content":[{"type":"tool_use"}]}}"#,
        ] {
            assert_eq!(told(line), ["unreadable"], "{line}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read_without_panic(line in ".{0,300}") {
            Printed::default().read(&line);
        }
    }
}
