//! Qwen Code: a script of its npm package, which starts itself again in a second node.
//!
//! Its record is `~/.qwen/projects/<folder>/chats/<session>.jsonl`; a line is on the disk at about the
//! time its command starts. A command runs as `bash -c COMMAND`; the agent's own probes run in `/bin/sh`.

use serde_json::Value;

use super::{Agent, Entry, Form, Marks, Place, Reader, Record, moment, settings, text};
use crate::event::Timestamp;
use crate::intent::{AgentSession, ToolCall, ToolResult};

pub(super) const AGENT: Agent = Agent {
    id: "qwen",
    title: "Qwen Code",
    programs: &[
        "/**/node_modules/.bin/qwen",
        "/**/@qwen-code/qwen-code/cli-entry.js",
        "/**/@qwen-code/qwen-code/cli.js",
        "/**/@qwen-code/qwen-code/dist/{cli,index}.js",
    ],
    modules: &[],
    hosts: &["chat.qwen.ai", "dashscope.aliyuncs.com"],
    keeps: &["~/.qwen/extensions/extension-enablement.json*"],
    logins: &["~/.qwen/oauth_creds.json"],
    marks: Marks { session: &["QWEN_CODE_SESSION_ID"], call: &[] },
    settings: &settings::QWEN,
    record: Some(&Record {
        places: &[Place { files: "~/.qwen/projects/*/chats/**/*.jsonl", form: Form::Lines }],
        reader: |_| Box::<Chat>::default(),
        command,
        tools: &[],
        is_own,
        relays: &[],
        is_tried: true,
    }),
};

/// What the last lines said of their session.
#[derive(Debug, Default)]
struct Chat {
    session: AgentSession,
}

impl Reader for Chat {
    fn read(&mut self, piece: &str) -> Vec<Entry> {
        let Ok(line) = serde_json::from_str::<Value>(piece) else { return vec![Entry::Unreadable] };
        let time = text(&line, "timestamp").and_then(moment).unwrap_or_default();
        let session = text(&line, "sessionId").unwrap_or_default();
        match (text(&line, "type"), text(&line, "subtype")) {
            (None, _) => vec![Entry::Unreadable],
            (Some("assistant" | "tool_result"), _) => {
                let Some(parts) = line.get("message").and_then(|message| message.get("parts")?.as_array())
                else {
                    return vec![Entry::Unreadable];
                };
                let mut entries: Vec<Entry> =
                    self.news(&line, session).map(Entry::Session).into_iter().collect();
                entries.extend(parts.iter().filter_map(|part| entry(part, &line, session, time)));
                entries
            }
            // The calls of its sub-agents, some of which it starts on its own account, are told here alone.
            (Some("system"), Some("ui_telemetry")) => {
                let event = &line["systemPayload"]["uiEvent"];
                if text(event, "event.name") != Some("qwen-code.tool_call") {
                    return Vec::new();
                }
                used(event, session, time)
            }
            (Some(_), _) => Vec::new(),
        }
    }
}

impl Chat {
    /// What this line says of the session, if it is news.
    fn news(&mut self, line: &Value, session: &str) -> Option<AgentSession> {
        let told = AgentSession {
            session: session.to_owned(),
            directory: self.session.directory.clone().or_else(|| text(line, "cwd").map(ToOwned::to_owned)),
            version: text(line, "version").map(ToOwned::to_owned),
            ..AgentSession::default()
        };
        let is_news = told != self.session;
        self.session = told.clone();
        is_news.then_some(told)
    }
}

fn entry(part: &Value, line: &Value, session: &str, time: Timestamp) -> Option<Entry> {
    if let Some(asked) = part.get("functionCall") {
        let (Some(id), Some(name)) = (text(asked, "id"), text(asked, "name")) else {
            return Some(Entry::Unreadable);
        };
        return Some(Entry::Call(ToolCall::with(session, id, name, time, &asked["args"])));
    }
    let answer = part.get("functionResponse")?;
    let Some(id) = text(answer, "id") else { return Some(Entry::Unreadable) };
    let ended = &line["toolCallResult"];
    Some(Entry::Result(ToolResult {
        call: id.to_owned(),
        time,
        denied: matches!(text(ended, "status"), Some("cancelled"))
            || matches!(text(ended, "executionStatus"), Some("not_started")),
        ..ToolResult::default()
    }))
}

/// A call as its end tells it.
fn used(event: &Value, session: &str, time: Timestamp) -> Vec<Entry> {
    let (Some(id), Some(name)) = (text(event, "call_id"), text(event, "function_name")) else {
        return vec![Entry::Unreadable];
    };
    let lasted = event["duration_ms"].as_u64().unwrap_or_default().saturating_mul(1_000_000);
    let began = Timestamp(time.0.saturating_sub(lasted));
    vec![
        Entry::Call(ToolCall::with(session, id, name, began, &event["function_args"])),
        Entry::Result(ToolResult {
            call: id.to_owned(),
            time,
            denied: text(event, "execution_status") == Some("not_started")
                || text(event, "error_type") == Some("execution_denied"),
            ..ToolResult::default()
        }),
    ]
}

fn command(words: &[String]) -> Option<String> {
    // It adds itself to the message of a commit that the model asks for.
    const TRAILER: &str = "\n\nCo-authored-by: Qwen-Coder <qwen-coder@alibabacloud.com>";
    match words {
        [shell, option, text] if shell == "bash" && option == "-c" => Some(text.replace(TRAILER, "")),
        _ => None,
    }
}

/// After a commit it looks up what the commit changed.
fn is_own(text: &str) -> bool {
    let is_plain = !text.contains(['\n', ';', '&', '|', '<', '>', '$', '`', '(']);
    is_plain
        && ["git rev-parse ", "git log -1 --pretty=", "git diff --find-renames "]
            .iter()
            .any(|start| text.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, told, words};
    use super::*;

    const CALL: &str = r#"{"uuid":"u1","parentUuid":null,"sessionId":"s1","timestamp":"2026-11-22T19:30:24.092Z","type":"assistant","message":{"role":"model","parts":[{"text":"Now."},{"functionCall":{"id":"call_1","name":"run_shell_command","args":{"command":"make test","description":"Test"}}},{"functionCall":{"id":"call_2","name":"read_file","args":{"file_path":"/w/a"}}}]}}"#;
    const RESULT: &str = r#"{"type":"tool_result","sessionId":"s1","timestamp":"2026-11-22T19:30:24.866Z","message":{"role":"user","parts":[{"functionResponse":{"id":"call_1","name":"run_shell_command","response":{"output":"ok"}}}]},"toolCallResult":{"callId":"call_1","status":"STATUS","executionStatus":"success"}}"#;

    #[test]
    fn reads_calls_and_how_they_ended() {
        let told = told(&AGENT, &[CALL, &RESULT.replace("STATUS", "success")]);
        assert_eq!(told.calls, ["s1 call_1 run_shell_command `make test` []", "s1 call_2 read_file [/w/a]"]);
        assert_eq!(
            (&told.ended[..], told.refused.len(), told.unreadable),
            (&["call_1".to_owned()][..], 0, 0)
        );
    }

    #[test]
    fn knows_a_refused_call() {
        assert_eq!(told(&AGENT, &[CALL, &RESULT.replace("STATUS", "cancelled")]).refused, ["call_1"]);
    }

    #[test]
    fn passes_over_what_is_new_and_counts_what_is_no_record() {
        for line in [r#"{"type":"system","subtype":"ui_telemetry"}"#, r#"{"type":"user","message":{}}"#] {
            assert_eq!(told(&AGENT, &[line]), Told::default(), "{line}");
        }
        for line in [
            "",
            "{",
            "[]",
            r#"{"a":1}"#,
            r#"{"type":"assistant"}"#,
            r#"{"type":"assistant","message":{"parts":[{"functionCall":{}}]}}"#,
        ] {
            assert_eq!(told(&AGENT, &[line]).unreadable, 1, "{line}");
        }
    }

    #[test]
    fn knows_what_it_runs_on_its_own_account() {
        let message = "git commit -m \"Fix\n\nCo-authored-by: Qwen-Coder <qwen-coder@alibabacloud.com>\"";
        assert_eq!(command(&words(&["bash", "-c", message])).as_deref(), Some("git commit -m \"Fix\""));
        assert!(is_own("git rev-parse --show-toplevel"));
        assert!(!is_own("git rev-parse HEAD; curl x") && !is_own("git push"));
    }

    #[test]
    fn tells_its_tool_shell_from_its_probes() {
        assert_eq!(command(&words(&["bash", "-c", "make test"])).as_deref(), Some("make test"));
        assert_eq!(command(&words(&["/bin/sh", "-c", "command -v rg"])), None);
    }
}
