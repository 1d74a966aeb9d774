//! Claude Code: one binary, from the npm package or from its own installer; older versions are a script.
//!
//! Its record is `~/.claude/projects/<working folder>/<conversation>.jsonl`, with those of its sub-agents
//! below; a line is on the disk some 60 ms before what it asks for starts. A command runs as
//! `bash -c "source <snapshot> … && eval '<command>' < /dev/null && pwd -P >| <file>"`. The vendor's action leaves
//! the same messages in one file, when the agent has ended.

use std::path::Path;

use serde_json::Value;

use super::printed::Printed;
use super::{Agent, Entry, Form, Marks, Place, Reader, Record, moment, plain_words, settings, text};
use crate::intent::{AgentSession, ToolCall, ToolResult};

pub(super) const AGENT: Agent = Agent {
    id: "claude-code",
    title: "Claude Code",
    programs: &[
        "/**/@anthropic-ai/claude-code/bin/claude*",
        "/**/@anthropic-ai/claude-code/cli.*js",
        "/**/@anthropic-ai/claude-code-*/claude*",
        "/**/.local/share/claude/versions/*",
    ],
    modules: &[],
    hosts: &["api.anthropic.com", "claude.ai", "platform.claude.com", "statsig.anthropic.com"],
    keeps: &["~/.claude/plugins/**", "~/.claude.json*"],
    logins: &["~/.claude/.credentials.json"],
    marks: Marks { session: &["CLAUDE_CODE_SESSION_ID"], call: &[] },
    settings: &settings::CLAUDE_CODE,
    record: Some(&Record {
        places: &[
            Place { files: "~/.claude/projects/**/*.jsonl", form: Form::Lines },
            // Whoever started the guard with sudo has no such variable.
            Place { files: "$RUNNER_TEMP/claude-execution-output.json", form: Form::Output },
            Place { files: "~/work/_temp/claude-execution-output.json", form: Form::Output },
            Place { files: "~/actions-runner/_work/_temp/claude-execution-output.json", form: Form::Output },
        ],
        reader: |path| {
            if Path::new(path).extension().is_some_and(|end| end == "json") {
                Box::<Printed>::default()
            } else {
                Box::<Transcript>::default()
            }
        },
        command,
        tools: &["ugrep", "bfs", "rg"],
        is_own: |_| false,
        relays: &[],
        is_tried: true,
    }),
};

/// What the last lines said of their session.
#[derive(Debug, Default)]
struct Transcript {
    session: AgentSession,
}

impl Reader for Transcript {
    fn read(&mut self, piece: &str) -> Vec<Entry> {
        let Ok(Value::Object(line)) = serde_json::from_str::<Value>(piece) else {
            return vec![Entry::Unreadable];
        };
        let line = Value::Object(line);
        // There are many kinds of lines, and new ones in most versions; only these two hold tool calls.
        match text(&line, "type") {
            Some("assistant" | "user") => {}
            Some(_) => return Vec::new(),
            None => return vec![Entry::Unreadable],
        }
        let mut entries: Vec<Entry> = self.session(&line).map(Entry::Session).into_iter().collect();
        let Some(message) = line.get("message") else { return vec![Entry::Unreadable] };
        match message.get("content") {
            Some(Value::Array(blocks)) => {
                entries.extend(blocks.iter().filter_map(|block| entry(block, &line)));
            }
            Some(Value::String(_)) => {}
            _ => return vec![Entry::Unreadable],
        }
        entries
    }
}

impl Transcript {
    /// What this line says of the session, if it is news.
    fn session(&mut self, line: &Value) -> Option<AgentSession> {
        let word = |name: &str| text(line, name).map(ToOwned::to_owned);
        let mode = word("permissionMode").or_else(|| self.session.mode.clone());
        let session = AgentSession {
            agent: AGENT.id.to_owned(),
            session: word("sessionId")?,
            unasked: mode.as_deref() == Some("bypassPermissions"),
            mode,
            // A session that changes its folder is the same session.
            directory: self.session.directory.clone().or_else(|| word("cwd")),
            version: word("version"),
            ..AgentSession::default()
        };
        if session == self.session {
            return None;
        }
        self.session = session.clone();
        Some(session)
    }
}

fn entry(block: &Value, line: &Value) -> Option<Entry> {
    let time = text(line, "timestamp").and_then(moment);
    match text(block, "type")? {
        "tool_use" => {
            let (Some(call), Some(tool)) = (text(block, "id"), text(block, "name")) else {
                return Some(Entry::Unreadable);
            };
            let input = block.get("input").unwrap_or(&Value::Null);
            let server = tool.strip_prefix("mcp__").map(|rest| rest.split("__").next().unwrap_or(rest));
            let names = match server {
                Some(_) => plain_words(input),
                None => ["file_path", "notebook_path", "path", "url"]
                    .into_iter()
                    .filter_map(|name| text(input, name))
                    .map(ToOwned::to_owned)
                    .collect(),
            };
            Some(Entry::Call(ToolCall {
                agent: AGENT.id.to_owned(),
                session: text(line, "sessionId").unwrap_or_default().to_owned(),
                call: call.to_owned(),
                tool: tool.to_owned(),
                time: time.unwrap_or_default(),
                commands: text(input, "command").map(ToOwned::to_owned).into_iter().collect(),
                names,
                writes: matches!(tool, "Write" | "Edit" | "MultiEdit" | "NotebookEdit"),
                server: server.map(ToOwned::to_owned),
                ..ToolCall::default()
            }))
        }
        "tool_result" => {
            let Some(call) = text(block, "tool_use_id") else { return Some(Entry::Unreadable) };
            let decision = line.get("permissionDecision").and_then(|decision| text(decision, "decision"));
            Some(Entry::Result(ToolResult {
                agent: AGENT.id.to_owned(),
                call: call.to_owned(),
                time: time.unwrap_or_default(),
                denied: decision.is_some_and(|decision| decision != "accept"),
                process: None,
            }))
        }
        _ => None,
    }
}

fn command(words: &[String]) -> Option<String> {
    let [_, option, text] = words else { return None };
    if !option.starts_with('-') || !option.ends_with('c') {
        return None;
    }
    let (_, rest) = text.split_once("&& eval ")?;
    let (quoted, _) = rest.rsplit_once(" && pwd -P >|")?;
    let quoted = quoted.trim_end().trim_end_matches("< /dev/null").trim_end();
    let Some(inner) = quoted.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\'')) else {
        return Some(quoted.to_owned());
    };
    Some(inner.replace(r"'\''", "'").replace(r#"'"'"'"#, "'"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Vec<Entry> {
        Transcript::default().read(line)
    }

    #[test]
    fn reads_a_call_and_how_it_ended() {
        let call = r#"{"type":"assistant","message":{"content":[{"type":"text","text":"x"},{"type":"tool_use","id":"toolu_1","name":"Bash","input":{"command":"make build","description":"y"}}]},"timestamp":"2026-11-22T19:24:19.678Z"}"#;
        let [Entry::Call(call)] = &read(call)[..] else { panic!("{:?}", read(call)) };
        assert_eq!(
            (call.call.as_str(), &call.commands[..]),
            ("toolu_1", ["make build".to_owned()].as_slice())
        );
        assert!(call.time.rfc3339().starts_with("2026-11-22T19:24:19.678"), "{}", call.time.rfc3339());
        let result = r#"{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"toolu_1","content":"no"}]},"permissionDecision":{"decision":"reject"}}"#;
        let [Entry::Result(result)] = &read(result)[..] else { panic!("{:?}", read(result)) };
        assert!(result.denied && result.call == "toolu_1");
        let file = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"toolu_2","name":"Write","input":{"file_path":"/w/a","content":"c"}}]},"timestamp":"2026-11-22T19:24:19Z"}"#;
        assert!(matches!(&read(file)[..], [Entry::Call(call)] if call.names == ["/w/a"] && call.writes));
        let server = r#"{"type":"assistant","message":{"content":[{"type":"tool_use","id":"toolu_3","name":"mcp__files__read_file","input":{"path":"/w/a","n":[1,{"url":"https://x.example/y"}]}}]}}"#;
        let [Entry::Call(call)] = &read(server)[..] else { panic!("{:?}", read(server)) };
        assert_eq!((call.server.as_deref(), call.names.len()), (Some("files"), 2), "{call:?}");
    }

    #[test]
    fn tells_of_a_session_once_and_again_when_its_mode_changes() {
        let line = |mode: &str| {
            format!(
                r#"{{"type":"user","message":{{"content":"hello"}},"sessionId":"s","cwd":"/w","version":"2.1.330","permissionMode":"{mode}"}}"#
            )
        };
        let mut reader = Transcript::default();
        let [Entry::Session(session)] = &reader.read(&line("default"))[..] else { panic!() };
        assert!(!session.unasked && session.directory.as_deref() == Some("/w"));
        assert_eq!(reader.read(&line("default")), []);
        let [Entry::Session(session)] = &reader.read(&line("bypassPermissions"))[..] else { panic!() };
        assert!(session.unasked);
    }

    #[test]
    fn what_it_does_not_know_is_passed_over_and_what_it_cannot_read_is_said() {
        assert_eq!(read(r#"{"type":"cost-state","total":1}"#), []);
        assert_eq!(read(r#"{"type":"user","message":{"content":"hello"}}"#), []);
        for line in ["", "{", "[]", "\u{0}\u{1}", r#"{"a":1}"#, r#"{"type":"assistant"}"#] {
            assert_eq!(read(line), [Entry::Unreadable], "{line}");
        }
        let no_id = r#"{"type":"assistant","message":{"content":[{"type":"tool_use"}]}}"#;
        assert_eq!(read(no_id), [Entry::Unreadable]);
    }

    #[test]
    fn finds_the_command_in_what_the_shell_is_given() {
        let wrapped = |text: &str| {
            let text = format!(
                "source /h/s.sh 2>/dev/null || true && eval {text} < /dev/null && pwd -P >| /tmp/c-1-cwd"
            );
            command(&["/bin/bash".to_owned(), "-c".to_owned(), text])
        };
        assert_eq!(wrapped("'make build'").as_deref(), Some("make build"));
        assert_eq!(wrapped(r#"'echo '"'"'a b'"'"''"#).as_deref(), Some("echo 'a b'"));
        assert_eq!(wrapped(r"'echo '\''a'\'''").as_deref(), Some("echo 'a'"));
        let housekeeping = ["/bin/bash", "-c", "env"].map(str::to_owned);
        assert_eq!(command(&housekeeping), None);
    }

    proptest::proptest! {
        #[test]
        fn any_line_is_read_without_panic(line in ".{0,300}") {
            read(&line);
            command(&["bash".to_owned(), "-c".to_owned(), line]);
        }
    }
}
