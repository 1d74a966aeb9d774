//! Cline: a launcher in the npm package, and one binary per platform.
//!
//! Its record is `~/.cline/data/sessions/<session>/<session>.messages.json`, written anew as a whole with
//! every message; it is on the disk some 40 ms before what it asks for starts. A command runs as
//! `/bin/bash -c COMMAND`; the agent's own probes run in `/bin/sh`. Its daemon outlives the session.

use serde_json::Value;

use super::{Agent, Entry, Form, Marks, Place, Record, Stateless, settings, text, when};
use crate::event::Timestamp;
use crate::intent::{AgentSession, ToolCall, ToolResult, basename};

pub(super) const AGENT: Agent = Agent {
    id: "cline",
    title: "Cline",
    programs: &[
        "/**/node_modules/cline/bin/cline",
        "/**/node_modules/cline/bin/.cline",
        "/**/@cline/cli-*/bin/cline",
    ],
    modules: &[],
    hosts: &["api.cline.bot"],
    keeps: &["~/.cline/data/settings/providers.json*"],
    logins: &[],
    marks: Marks::NONE,
    settings: &settings::CLINE,
    record: Some(&Record {
        places: &[Place { files: "~/.cline/data/sessions/**/*.messages.json", form: Form::Whole }],
        reader: |_| Box::new(Stateless(read)),
        command,
        tools: &[],
        is_own: |_| false,
        relays: &[],
        is_tried: true,
    }),
};

fn read(piece: &str) -> Vec<Entry> {
    let Ok(record) = serde_json::from_str::<Value>(piece) else { return vec![Entry::Unreadable] };
    let Some(messages) = record.get("messages").and_then(Value::as_array) else {
        return vec![Entry::Unreadable];
    };
    let session = text(&record, "sessionId").unwrap_or_default();
    let mut entries = vec![Entry::Session(AgentSession {
        session: session.to_owned(),
        version: record.get("origin").and_then(|origin| text(origin, "version")).map(ToOwned::to_owned),
        ..AgentSession::default()
    })];
    for message in messages {
        let time = when(&message["ts"]);
        match message.get("content") {
            Some(Value::Array(blocks)) => {
                entries.extend(blocks.iter().filter_map(|block| entry(block, session, time)));
            }
            Some(Value::String(_)) => {}
            _ => entries.push(Entry::Unreadable),
        }
    }
    entries
}

fn entry(block: &Value, session: &str, time: Timestamp) -> Option<Entry> {
    Some(match text(block, "type")? {
        "tool_use" => match (text(block, "id"), text(block, "name")) {
            (Some(id), Some(name)) => Entry::Call(ToolCall::with(session, id, name, time, &block["input"])),
            _ => Entry::Unreadable,
        },
        "tool_result" => match text(block, "tool_use_id") {
            Some(id) => Entry::Result(ToolResult {
                call: id.to_owned(),
                time,
                denied: is_refusal(&block["content"]),
                ..ToolResult::default()
            }),
            None => Entry::Unreadable,
        },
        _ => return None,
    })
}

fn is_refusal(content: &Value) -> bool {
    const LOOKED_AT: usize = 400;
    let said: String = content.to_string().chars().take(LOOKED_AT).collect();
    [
        "denied by user",
        "call execution denied",
        "rejected by the user",
        "rejected the tool call",
        "execution was denied",
    ]
    .iter()
    .any(|words| said.contains(words))
}

fn command(words: &[String]) -> Option<String> {
    match words {
        [shell, option, text] if basename(shell) == "bash" && option == "-c" => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{told, words};
    use super::*;

    const WHOLE: &str = r#"{"version":1,"sessionId":"s1","messages":[{"role":"user","content":[{"type":"text","text":"x"}],"ts":1795376086542},{"role":"assistant","content":[{"type":"text","text":"Now."},{"type":"tool_use","id":"call_1","name":"run_commands","input":{"commands":["make test","make lint"]}},{"type":"tool_use","id":"call_2","name":"read_files","input":{"files":[{"path":"/w/a"}]}}],"ts":1795376087034},{"role":"user","content":[{"type":"tool_result","tool_use_id":"call_1","content":[{"query":"make test","success":true}]}],"ts":1795376087849}]}"#;

    #[test]
    fn reads_calls_and_how_they_ended() {
        let told = told(&AGENT, &[WHOLE]);
        assert_eq!(
            told.calls,
            ["s1 call_1 run_commands `make test` `make lint` []", "s1 call_2 read_files [/w/a]"]
        );
        assert_eq!(
            (&told.ended[..], told.refused.len(), told.unreadable),
            (&["call_1".to_owned()][..], 0, 0)
        );
    }

    #[test]
    fn counts_what_is_no_record() {
        for whole in [
            "",
            "{",
            r#"{"a":1}"#,
            r#"{"messages":7}"#,
            r#"[{"role":"assistant"}]"#,
            r#"[{"content":[{"type":"tool_use"}]}]"#,
            r#"[{"content":[{"type":"tool_result"}]}]"#,
        ] {
            assert_eq!(told(&AGENT, &[whole]).unreadable, 1, "{whole}");
        }
    }

    #[test]
    fn tells_its_tool_shell_from_its_probes() {
        assert_eq!(command(&words(&["/bin/bash", "-c", "make test"])).as_deref(), Some("make test"));
        assert_eq!(command(&words(&["/bin/sh", "-c", "cat /etc/machine-id"])), None);
    }
}
