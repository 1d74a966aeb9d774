//! Gemini CLI: a script of its npm package, which starts itself again in a second node.
//!
//! Its record is `~/.gemini/tmp/<project>/chats/session-<time>-<id>.jsonl`: a header, changes of it, and
//! messages. A message is written again once its calls have ended, so a call is on the disk only with
//! its result. Older versions keep one JSON file for each conversation. A command runs in a subshell of
//! `bash -c "shopt …; _bgpids_file=…\n(\n  trap … EXIT\nCOMMAND\n)\n__code=$? …"`.

use serde_json::Value;

use super::{Agent, Entry, Form, Marks, Place, Reader, Record, moment, settings, text};
use crate::intent::{AgentSession, ToolCall, ToolResult};

pub(super) const AGENT: Agent = Agent {
    id: "gemini",
    title: "Gemini CLI",
    programs: &[
        "/**/node_modules/.bin/gemini",
        "/**/@google/gemini-cli/bundle/gemini.js",
        "/**/@google/gemini-cli/dist/index.js",
    ],
    modules: &[],
    hosts: &[
        "generativelanguage.googleapis.com",
        "cloudcode-pa.googleapis.com",
        "play.googleapis.com",
        "oauth2.googleapis.com",
    ],
    keeps: &[],
    logins: &["~/.gemini/oauth_creds.json"],
    marks: Marks::NONE,
    settings: &settings::GEMINI,
    record: Some(&Record {
        places: &[
            Place { files: "~/.gemini/tmp/*/chats/**/*.jsonl", form: Form::Lines },
            Place { files: "~/.gemini/tmp/*/chats/*.json", form: Form::Whole },
        ],
        reader: |_| Box::<Chat>::default(),
        command,
        tools: &[],
        is_own: |_| false,
        relays: &[],
        is_tried: true,
    }),
};

/// The conversation that the header named.
#[derive(Debug, Default)]
struct Chat {
    session: String,
}

impl Reader for Chat {
    fn read(&mut self, piece: &str) -> Vec<Entry> {
        let Ok(record) = serde_json::from_str::<Value>(piece) else { return vec![Entry::Unreadable] };
        let mut entries = Vec::new();
        if let Some(session) = text(&record, "sessionId") {
            session.clone_into(&mut self.session);
            entries.push(Entry::Session(AgentSession {
                session: session.to_owned(),
                ..AgentSession::default()
            }));
        }
        // A change of the header may hold whole messages, as the one object of an older version does.
        let part = record.get("$set").unwrap_or(&record);
        match part.get("messages") {
            Some(Value::Array(messages)) => {
                entries.extend(messages.iter().flat_map(|message| self.said(message)));
            }
            Some(_) => entries.push(Entry::Unreadable),
            None if entries.is_empty() && record.get("$set").is_none() => entries = self.said(&record),
            None => {}
        }
        entries
    }
}

impl Chat {
    fn said(&self, message: &Value) -> Vec<Entry> {
        if text(message, "type").is_none() {
            // Another operation on the conversation, or no message at all.
            let is_operation =
                message.as_object().is_some_and(|fields| fields.keys().any(|name| name.starts_with('$')));
            return if is_operation { Vec::new() } else { vec![Entry::Unreadable] };
        }
        match message.get("toolCalls") {
            Some(Value::Array(calls)) => calls.iter().flat_map(|tool| self.used(message, tool)).collect(),
            Some(_) => vec![Entry::Unreadable],
            None => Vec::new(),
        }
    }

    fn used(&self, message: &Value, tool: &Value) -> Vec<Entry> {
        // The time beside the call is when it ended.
        let asked = text(message, "timestamp").and_then(moment);
        let (Some(time), Some(id), Some(name)) = (asked, text(tool, "id"), text(tool, "name")) else {
            return vec![Entry::Unreadable];
        };
        let mut entries = vec![Entry::Call(ToolCall::with(&self.session, id, name, time, &tool["args"]))];
        if let Some(status) =
            text(tool, "status").filter(|status| matches!(*status, "success" | "error" | "cancelled"))
        {
            let result = tool["result"].to_string();
            entries.push(Entry::Result(ToolResult {
                call: id.to_owned(),
                time: text(tool, "timestamp").and_then(moment).unwrap_or_default(),
                denied: status == "cancelled"
                    || (status == "error" && is_refusal(&result))
                    || is_blocked(tool),
                process: group(&result),
                ..ToolResult::default()
            }));
        }
        entries
    }
}

/// The shell tool looks at a command first, and calls it a success that it did not run it.
fn is_blocked(tool: &Value) -> bool {
    let display = text(tool, "resultDisplay").unwrap_or_default();
    let output = &tool["result"][0]["functionResponse"]["response"]["output"];
    let output = output.as_str().unwrap_or_default();
    display.starts_with("Blocked: ") && output.starts_with("Command injection detected")
}

fn is_refusal(result: &str) -> bool {
    // A tool that the mode does not allow is not there at all.
    ["denied by policy", "not found. Did you mean", "Tool execution denied"]
        .iter()
        .any(|words| result.contains(words))
}

/// The process group that the result of a shell command names.
fn group(result: &str) -> Option<u32> {
    let (_, rest) = result.split_once("Process Group PGID: ")?;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

fn command(words: &[String]) -> Option<String> {
    let [_, option, script] = words else { return None };
    let (_, rest) = script.split_once("_bgpids_file=").filter(|_| option == "-c")?;
    let (_, rest) = rest.split_once(" EXIT\n")?;
    let (inner, _) = rest.rsplit_once("\n)\n__code=$?")?;
    Some(inner.to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, told, words};
    use super::*;

    const HEADER: &str =
        r#"{"sessionId":"s1","projectHash":"0","startTime":"2026-11-22T19:50:48.100Z","kind":"main"}"#;
    const CALL: &str = r#"{"id":"m1","timestamp":"2026-11-22T19:50:48.347Z","type":"gemini","content":"Now.","toolCalls":[{"id":"run_shell_command__1","name":"run_shell_command","args":{"command":"make build","description":"Build"},"result":[{"functionResponse":{"id":"run_shell_command__1","response":{"output":"built"}}}],"status":"success","timestamp":"2026-11-22T19:50:48.548Z"}]}"#;

    #[test]
    fn reads_a_call_with_its_result() {
        let told = told(&AGENT, &[HEADER, r#"{"$set":{"lastUpdated":"2026-11-22T19:50:48.165Z"}}"#, CALL]);
        assert_eq!(told.calls, ["s1 run_shell_command__1 run_shell_command `make build` []"]);
        assert_eq!((told.ended.len(), told.refused.len(), told.unreadable), (1, 0, 0));
        assert_eq!(told.times, ["2026-11-22T19:50:48.347Z"]);
    }

    #[test]
    fn reads_the_one_object_of_older_versions_and_calls_that_were_not_let_run() {
        let whole = format!(
            r#"{{"sessionId":"s2","messages":[{{"type":"user","content":"x"}},{}]}}"#,
            CALL.replace("success", "cancelled")
        );
        let told = told(&AGENT, &[&whole]);
        assert_eq!(told.calls, ["s2 run_shell_command__1 run_shell_command `make build` []"]);
        assert_eq!(told.refused, ["run_shell_command__1"]);
    }

    #[test]
    fn knows_a_command_that_the_tool_did_not_run() {
        let output = "Command injection detected: command substitution syntax found.";
        let blocked = CALL
            .replace("\"output\":\"built\"", &format!("\"output\":\"{output}\""))
            .replace("\"status\":\"success\"", "\"status\":\"success\",\"resultDisplay\":\"Blocked: command substitution detected in shell command.\"");
        assert_eq!(told(&AGENT, &[HEADER, &blocked]).refused, ["run_shell_command__1"]);
        // A command that only prints as much did run.
        let printed = CALL.replace("built", output);
        assert_eq!(told(&AGENT, &[HEADER, &printed]).refused, [] as [&str; 0]);
    }

    #[test]
    fn passes_over_what_is_new_and_counts_what_is_no_record() {
        for line in [r#"{"$rewindTo":"m1"}"#, r#"{"type":"info","content":"x"}"#] {
            assert_eq!(told(&AGENT, &[line]), Told::default(), "{line}");
        }
        for line in [
            "",
            "{",
            "[]",
            "7",
            r#"{"a":1}"#,
            r#"{"$set":{"messages":7}}"#,
            r#"{"type":"gemini","toolCalls":{}}"#,
            r#"{"type":"gemini","toolCalls":[7]}"#,
        ] {
            assert_eq!(told(&AGENT, &[line]).unreadable, 1, "{line}");
        }
    }

    #[test]
    fn finds_the_command_inside_its_shell_text() {
        let script = "shopt -u extglob; _bgpids_file=/tmp/gemini-shell-x/bgpids.tmp\n(\n  trap 'jobs -p > \"$_bgpids_file\"' EXIT\nmake a\nmake b\n)\n__code=$?\nexit $__code";
        assert_eq!(command(&words(&["/usr/bin/bash", "-c", script])).as_deref(), Some("make a\nmake b"));
        assert_eq!(command(&words(&["bash", "-c", "make a"])), None);
    }
}
