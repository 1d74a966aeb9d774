//! opencode: one binary, in the npm package, beside it, or from its own installer.
//!
//! Its record is the database `~/.local/share/opencode/opencode.db`, whose new rows stay in its log for
//! long; a call's row is there when it runs, and is changed as it ends. Older versions keep one JSON file
//! for each part. A command runs as `/bin/bash -c COMMAND`.

use serde_json::Value;

use super::{Agent, Entry, Form, Marks, Place, Record, Stateless, settings, text, when};
use crate::intent::{AgentSession, ToolCall, ToolResult, basename};

pub(super) const AGENT: Agent = Agent {
    id: "opencode",
    title: "opencode",
    programs: &[
        "/**/node_modules/opencode-ai/bin/opencode*",
        "/**/node_modules/opencode-*/bin/opencode",
        "/**/.opencode/bin/opencode",
    ],
    modules: &[],
    hosts: &["opencode.ai", "api.opencode.ai", "models.dev"],
    keeps: &["~/.config/opencode/opencode.json*"],
    logins: &["~/.local/share/opencode/auth.json"],
    marks: Marks::NONE,
    settings: &settings::OPENCODE,
    record: Some(&Record {
        places: &[
            Place {
                files: "~/.local/share/opencode/opencode.db",
                // A row changes as its call goes on; what was told before is not told again.
                form: Form::Database(&[
                    "SELECT time_updated, id || char(10) || json_object('type', 'session', 'directory', directory, 'version', version, 'parent', parent_id) FROM session WHERE time_updated >= ?1",
                    "SELECT time_updated, session_id || char(10) || data FROM part WHERE time_updated >= ?1 ORDER BY time_updated",
                ]),
            },
            Place { files: "~/.local/share/opencode/storage/part/**/*.json", form: Form::Whole },
        ],
        reader: |_| Box::new(Stateless(read)),
        command,
        tools: &[],
        is_own: |_| false,
        relays: &[],
        is_tried: true,
    }),
};

/// A part, behind a line with its session when it is a row.
fn read(piece: &str) -> Vec<Entry> {
    let (session, part) = match piece.split_once('\n') {
        Some((session, part)) if !session.starts_with('{') => (session, part),
        _ => ("", piece),
    };
    let Ok(part) = serde_json::from_str::<Value>(part) else { return vec![Entry::Unreadable] };
    match text(&part, "type") {
        Some("tool") => {}
        Some("session") if !session.is_empty() => {
            let word = |name: &str| text(&part, name).map(ToOwned::to_owned);
            return vec![Entry::Session(AgentSession {
                session: session.to_owned(),
                directory: word("directory"),
                version: word("version"),
                parent: word("parent"),
                ..AgentSession::default()
            })];
        }
        Some(_) => return Vec::new(),
        None => return vec![Entry::Unreadable],
    }
    // Only the files of older versions say it in the part.
    let session = text(&part, "sessionID").unwrap_or(session);
    let (Some(id), Some(tool), Some(state)) = (text(&part, "callID"), text(&part, "tool"), part.get("state"))
    else {
        return vec![Entry::Unreadable];
    };
    let times = &state["time"];
    let status = match text(state, "status") {
        // What it is about is not known yet.
        Some("pending") => return Vec::new(),
        Some(status) => status,
        None => return vec![Entry::Unreadable],
    };
    let mut entries =
        vec![Entry::Call(ToolCall::with(session, id, tool, when(&times["start"]), &state["input"]))];
    if matches!(status, "completed" | "error") {
        let error = text(state, "error").unwrap_or_default();
        entries.push(Entry::Result(ToolResult {
            call: id.to_owned(),
            time: when(&times["end"]),
            denied: ["rejected permission", "prevents you from using this"]
                .iter()
                .any(|words| error.contains(words)),
            ..ToolResult::default()
        }));
    }
    entries
}

fn command(words: &[String]) -> Option<String> {
    match words {
        [shell, option, text] if basename(shell) == "bash" && option == "-c" => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, told, words};
    use super::*;

    fn part(status: &str, more: &str) -> String {
        format!(
            r#"{{"type":"tool","tool":"bash","callID":"call_1","sessionID":"s1","state":{{"status":"{status}","input":{{"command":"make test"}}{more},"time":{{"start":1795375797749,"end":1795375798565}}}}}}"#
        )
    }

    #[test]
    fn reads_a_call_as_it_goes_on() {
        assert_eq!(told(&AGENT, &[&part("pending", "")]), Told::default());
        let told = told(&AGENT, &[&part("running", ""), &part("completed", r#","output":"ok""#)]);
        assert_eq!(told.calls, ["s1 call_1 bash `make test` []"; 2]);
        assert_eq!(
            (&told.ended[..], told.refused.len(), told.unreadable),
            (&["call_1".to_owned()][..], 0, 0)
        );
        assert_eq!(told.times[0], "2026-11-22T19:29:57.749Z");
    }

    #[test]
    fn reads_a_row_with_its_session() {
        let session =
            "ses_1\n{\"type\":\"session\",\"directory\":\"/w\",\"version\":\"1.18.33\",\"parent\":null}";
        let row = format!("ses_1\n{}", part("running", "").replace(r#""sessionID":"s1","#, ""));
        let told = told(&AGENT, &[session, &row]);
        assert_eq!(told.sessions, ["ses_1 /w 1.18.33"]);
        assert_eq!(told.calls, ["ses_1 call_1 bash `make test` []"]);
    }

    #[test]
    fn knows_a_refused_call() {
        let error = r#","error":"The user rejected permission to use this specific tool call.""#;
        assert_eq!(told(&AGENT, &[&part("error", error)]).refused, ["call_1"]);
    }

    #[test]
    fn passes_over_what_is_new_and_counts_what_is_no_record() {
        for line in [r#"{"type":"step-start","snapshot":"0"}"#, r#"{"type":"text","text":"x"}"#] {
            assert_eq!(told(&AGENT, &[line]), Told::default(), "{line}");
        }
        for line in [
            "",
            "{",
            "[]",
            r#"{"a":1}"#,
            r#"{"type":"tool"}"#,
            r#"{"type":"tool","callID":"c","state":{"status":"running"}}"#,
        ] {
            assert_eq!(told(&AGENT, &[line]).unreadable, 1, "{line}");
        }
    }

    #[test]
    fn knows_its_tool_shell() {
        assert_eq!(command(&words(&["/bin/bash", "-c", "make test"])).as_deref(), Some("make test"));
        assert_eq!(command(&words(&["git", "-c", "x"])), None);
    }
}
