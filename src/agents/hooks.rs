//! Hooks: what an agent tells a program of ours before and after it uses a tool, and how it is told to.
//!
//! A hook's text is a claim like a record's: it gives a command the id of its call, and explains nothing.

use serde_json::{Map, Value, json};

use super::{Entry, moment, text, when};
use crate::event::Timestamp;
use crate::intent::{AgentSession, ToolCall, ToolResult};

/// The file by which one agent is told to call us.
#[derive(Debug)]
pub struct Hook {
    pub agent: &'static str,
    /// In the user's home; never in a repository.
    pub file: &'static str,
    /// The events, each with the entry that it gets.
    events: &'static [&'static str],
    entry: fn(command: &str) -> Value,
    /// What else the file needs.
    version: Option<u32>,
}

/// Agents whose hooks can be set for a whole home. Codex runs only those that its user has trusted, unless it is told
/// not to ask (`--dangerously-bypass-hook-trust`); the trust is not ours to write.
pub const HOOKS: &[Hook] = &[
    Hook {
        agent: "claude-code",
        file: "~/.claude/settings.json",
        events: &["PreToolUse", "PostToolUse"],
        entry: |command| json!({"matcher": "*", "hooks": [{"type": "command", "command": command, "timeout": 5}]}),
        version: None,
    },
    Hook {
        agent: "codex",
        file: "~/.codex/hooks.json",
        events: &["PreToolUse", "PostToolUse"],
        entry: |command| json!({"matcher": "*", "hooks": [{"type": "command", "command": command, "timeout": 5}]}),
        version: None,
    },
    Hook {
        agent: "gemini",
        file: "~/.gemini/settings.json",
        events: &["BeforeTool", "AfterTool"],
        entry: |command| json!({"matcher": "*", "hooks": [{"type": "command", "command": command, "timeout": 5000}]}),
        version: None,
    },
    Hook {
        agent: "copilot",
        file: "~/.copilot/hooks/edamame-guard.json",
        events: &["preToolUse", "postToolUse"],
        entry: |command| json!({"type": "command", "bash": command, "timeoutSec": 5}),
        version: Some(1),
    },
    // What it asks before a command waits for an answer, which is not ours to give.
    Hook {
        agent: "cursor",
        file: "~/.cursor/hooks.json",
        events: &["afterShellExecution", "afterMCPExecution", "afterFileEdit"],
        entry: |command| json!({"command": command}),
        version: Some(1),
    },
];

impl Hook {
    /// The file's text with our hooks in it; `None` where it is not what the agent would take.
    pub fn put_into(&self, before: Option<&str>, command: &str) -> Option<String> {
        let mut root: Map<String, Value> = match before.map(str::trim) {
            None | Some("") => Map::new(),
            Some(text) => serde_json::from_str(text).ok()?,
        };
        if let Some(version) = self.version {
            root.entry("version").or_insert(version.into());
        }
        let hooks = root.entry("hooks").or_insert_with(|| json!({})).as_object_mut()?;
        for event in self.events {
            hooks.entry(*event).or_insert_with(|| json!([])).as_array_mut()?.push((self.entry)(command));
        }
        Some(pretty(&root))
    }

    /// The same text without our hooks, where somebody else changed it meanwhile; `None` if it holds none or can't be read.
    pub fn take_out(&self, now: &str, command: &str) -> Option<String> {
        let mut root: Map<String, Value> = serde_json::from_str(now).ok()?;
        let own = (self.entry)(command);
        let hooks = root.get_mut("hooks")?.as_object_mut()?;
        let mut found = false;
        for event in self.events {
            let Some(entries) = hooks.get_mut(*event).and_then(Value::as_array_mut) else { continue };
            let count = entries.len();
            entries.retain(|entry| *entry != own);
            found |= entries.len() < count;
            if entries.is_empty() {
                hooks.remove(*event);
            }
        }
        if hooks.is_empty() {
            root.remove("hooks");
        }
        found.then(|| pretty(&root))
    }
}

/// The texts of a file that may be commands of hooks.
pub fn commands(text: &str) -> Vec<String> {
    fn strings(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::String(text) => found.push(text.clone()),
            Value::Array(values) => values.iter().for_each(|value| strings(value, found)),
            Value::Object(values) => values.values().for_each(|value| strings(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    if let Ok(root) = serde_json::from_str::<Value>(text) {
        strings(&root["hooks"], &mut found);
    }
    found.dedup();
    found
}

fn pretty(root: &Map<String, Value>) -> String {
    let mut text = serde_json::to_string_pretty(root).unwrap_or_default();
    text.push('\n');
    text
}

/// What one hook's text says. Fields are named differently, and mean the same.
pub fn read(payload: &Value) -> Vec<Entry> {
    let word =
        |names: &[&str]| names.iter().find_map(|name| text(payload, name)).unwrap_or_default().to_owned();
    let session = word(&["session_id", "sessionId", "conversation_id"]);
    let event = word(&["hook_event_name", "hookEventName"]).to_ascii_lowercase();
    let time = match payload.get("timestamp") {
        Some(Value::String(text)) => moment(text).unwrap_or_default(),
        Some(number) => when(number),
        None => Timestamp::default(),
    };
    let mut entries = Vec::new();
    if let Some(mode) = text(payload, "permission_mode") {
        entries.push(Entry::Session(AgentSession {
            session: session.clone(),
            mode: Some(mode.to_owned()),
            unasked: mode == "bypassPermissions",
            directory: text(payload, "cwd").map(ToOwned::to_owned),
            ..AgentSession::default()
        }));
    }
    let input = ["tool_input", "toolArgs", "toolInput"].iter().find_map(|name| payload.get(name));
    let input = match input {
        // Some hand the arguments over as text.
        Some(Value::String(text)) => {
            serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.clone()))
        }
        Some(input) => input.clone(),
        None => match (payload.get("command"), payload.get("file_path")) {
            (Some(command), _) => json!({"command": command}),
            (None, Some(path)) => json!({"file_path": path}),
            _ => return entries,
        },
    };
    let call = word(&["tool_use_id", "tool_call_id", "toolCallId"]);
    let is_after = ["post", "after"].iter().any(|begin| event.starts_with(begin))
        || ["tool_response", "toolResult"].iter().any(|name| payload.get(name).is_some());
    // Without an id nothing tells which call has ended.
    if is_after && !call.is_empty() {
        entries.push(Entry::Result(ToolResult { call, time, ..ToolResult::default() }));
        return entries;
    }
    // Of those that are asked after the act alone, that is the call.
    let is_only_after = ["aftershell", "aftermcp", "afterfile"].iter().any(|begin| event.starts_with(begin));
    if is_after && !is_only_after {
        return entries;
    }
    let tool = word(&["tool_name", "toolName"]);
    let tool = if tool.is_empty() { "shell" } else { &tool };
    let call = ToolCall::with(&session, &call, tool, time, &input);
    entries.push(Entry::Call(ToolCall { is_hook: true, ..call }));
    entries
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMAND: &str = "'/opt/edamame-guard' hook --agent claude-code --to /run/x.sock";

    #[test]
    fn hooks_are_put_beside_what_is_there_and_taken_out_again() {
        let before = r#"{"model": "x", "hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": []}]}}"#;
        let hook = &HOOKS[0];
        let with = hook.put_into(Some(before), COMMAND).unwrap();
        let value: Value = serde_json::from_str(&with).unwrap();
        assert_eq!(value["hooks"]["PreToolUse"][0]["matcher"], "Bash");
        assert_eq!(value["hooks"]["PreToolUse"][1]["hooks"][0]["command"], COMMAND);
        let without: Value = serde_json::from_str(&hook.take_out(&with, COMMAND).unwrap()).unwrap();
        assert_eq!(without, serde_json::from_str::<Value>(before).unwrap());
        assert_eq!(hook.take_out(before, COMMAND), None, "nothing of ours");
        assert_eq!(commands(&with).iter().filter(|text| *text == COMMAND).count(), 2);
        assert_eq!(commands("{"), [] as [&str; 0]);
        for hook in HOOKS {
            let with = hook.put_into(None, COMMAND).unwrap();
            assert!(with.contains(COMMAND), "{}", hook.agent);
            let without = hook.take_out(&with, COMMAND).unwrap();
            assert!(!without.contains("hooks"), "{}: {without}", hook.agent);
            assert!(hook.file.starts_with("~/"));
            for odd in ["[1]", "{", "// x\n{}", r#"{"hooks": []}"#] {
                assert_eq!(hook.put_into(Some(odd), COMMAND), None, "{odd} stays as it is");
            }
        }
    }

    fn told(payload: &str) -> Vec<String> {
        read(&serde_json::from_str(payload).unwrap())
            .into_iter()
            .map(|entry| match entry {
                Entry::Call(call) => format!(
                    "call {} {} {} {:?} {:?}",
                    call.session, call.call, call.tool, call.commands, call.names
                ),
                Entry::Result(result) => format!("result {}", result.call),
                Entry::Session(session) => {
                    format!(
                        "session {} {}{}",
                        session.session,
                        session.mode.unwrap_or_default(),
                        if session.unasked { "!" } else { "" }
                    )
                }
                Entry::Unreadable => "unreadable".to_owned(),
            })
            .collect()
    }

    #[test]
    fn what_the_agents_say_is_read_alike() {
        let claude = r#"{"session_id": "s", "cwd": "/w", "permission_mode": "bypassPermissions", "hook_event_name": "PreToolUse", "tool_name": "Bash", "tool_input": {"command": "make test"}, "tool_use_id": "toolu_1"}"#;
        assert_eq!(told(claude), ["session s bypassPermissions!", "call s toolu_1 Bash [\"make test\"] []"]);
        let after = claude.replace("PreToolUse", "PostToolUse");
        assert_eq!(told(&after), ["session s bypassPermissions!", "result toolu_1"]);
        let gemini = r#"{"session_id": "s", "hook_event_name": "BeforeTool", "timestamp": "2026-11-22T19:45:12.980Z", "tool_name": "run_shell_command", "tool_input": {"command": "ls"}}"#;
        assert_eq!(told(gemini), ["call s  run_shell_command [\"ls\"] []"]);
        assert_eq!(told(&gemini.replace("BeforeTool", "AfterTool")), [] as [&str; 0]);
        let copilot = r#"{"sessionId": "s", "timestamp": 1795376725522, "toolName": "bash", "toolArgs": "{\"command\": \"ls\"}"}"#;
        assert_eq!(told(copilot), ["call s  bash [\"ls\"] []"]);
        let done =
            r#"{"sessionId": "s", "toolName": "bash", "toolArgs": {"command": "ls"}, "toolResult": {}}"#;
        assert_eq!(told(done), [] as [&str; 0]);
        let cursor = r#"{"conversation_id": "s", "hook_event_name": "afterShellExecution", "command": "ls", "output": "x"}"#;
        assert_eq!(told(cursor), ["call s  shell [\"ls\"] []"]);
        for other in [r#"{"hook_event_name": "SessionStart"}"#, "{}", "[]", "7"] {
            assert_eq!(told(other), [] as [&str; 0], "{other}");
        }
    }
}
