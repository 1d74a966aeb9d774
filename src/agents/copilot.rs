//! Copilot CLI: a launcher in the npm package that runs a binary.
//!
//! Its record is `~/.copilot/session-state/<session>/events.jsonl`, written in batches up to 150 ms
//! after the fact. A command runs as `/bin/bash --norc --noprofile -c COMMAND`.

use serde_json::Value;

use super::{Agent, Entry, Form, Marks, Place, Reader, Record, moment, settings, text};
use crate::event::Timestamp;
use crate::intent::{AgentSession, ToolCall, ToolResult, basename};

pub(super) const AGENT: Agent = Agent {
    id: "copilot",
    title: "Copilot CLI",
    programs: &[
        "/**/@github/copilot/npm-loader.js",
        "/**/@github/copilot/index.js",
        "/**/@github/copilot-*/copilot",
    ],
    modules: &[],
    hosts: &[
        "api.github.com",
        "api.githubcopilot.com",
        "*.githubcopilot.com",
        "copilot-proxy.githubusercontent.com",
        "telemetry.business.githubcopilot.com",
    ],
    keeps: &["~/.copilot/config.json", "~/.cache/copilot/**"],
    logins: &["~/.copilot/config.json", "~/.config/github-copilot/*.json"],
    marks: Marks { session: &["COPILOT_AGENT_SESSION_ID"], call: &[] },
    settings: &settings::COPILOT,
    record: Some(&Record {
        places: &[Place { files: "~/.copilot/session-state/**/*.jsonl", form: Form::Lines }],
        reader: |_| Box::<Events>::default(),
        command,
        tools: &[],
        is_own: |_| false,
        relays: &[],
        is_tried: true,
    }),
};

/// The session that the first line named.
#[derive(Debug, Default)]
struct Events {
    session: AgentSession,
}

impl Reader for Events {
    fn read(&mut self, piece: &str) -> Vec<Entry> {
        let Ok(line) = serde_json::from_str::<Value>(piece) else { return vec![Entry::Unreadable] };
        let (Some(kind), Some(data)) = (text(&line, "type"), line.get("data")) else {
            return vec![Entry::Unreadable];
        };
        let time = text(&line, "timestamp").and_then(moment).unwrap_or_default();
        match kind {
            "session.start" | "session.resume" => self.begun(data),
            "permission.requested" => self.mode(data),
            "assistant.message" => match data.get("toolRequests") {
                Some(Value::Array(asked)) => {
                    asked.iter().map(|asked| self.call(asked, "name", time)).collect()
                }
                Some(_) => vec![Entry::Unreadable],
                None => Vec::new(),
            },
            "tool.execution_start" => vec![self.call(data, "toolName", time)],
            "tool.execution_complete" => match text(data, "toolCallId") {
                Some(id) => vec![Entry::Result(ToolResult {
                    call: id.to_owned(),
                    time,
                    denied: is_refused(data),
                    ..ToolResult::default()
                })],
                None => vec![Entry::Unreadable],
            },
            "session.usage_record" => self.helper(data),
            _ => Vec::new(),
        }
    }
}

/// By a rule, or by the tool itself, which looks at some commands before it runs them.
fn is_refused(data: &Value) -> bool {
    let code = data.get("error").and_then(|error| text(error, "code"));
    let about = data.get("toolTelemetry").and_then(|about| about.get("properties"));
    let category = about.and_then(|about| text(about, "shell_error_category"));
    code == Some("denied") || category.is_some_and(|category| category.ends_with("_blocked"))
}

impl Events {
    /// A sub-agent works under a session of its own, which its commands carry; its calls stand in this record.
    fn helper(&self, data: &Value) -> Vec<Entry> {
        let usage = data.get("usage");
        let source = usage.and_then(|usage| text(usage.get("accounting")?, "sourceSessionId"));
        let Some(source) = source.filter(|source| *source != self.session.session) else { return Vec::new() };
        vec![Entry::Session(AgentSession {
            session: source.to_owned(),
            parent: Some(self.session.session.clone()),
            ..AgentSession::default()
        })]
    }

    fn begun(&mut self, data: &Value) -> Vec<Entry> {
        let Some(session) = text(data, "sessionId") else { return vec![Entry::Unreadable] };
        self.session = AgentSession {
            session: session.to_owned(),
            directory: data.get("context").and_then(|context| text(context, "cwd")).map(ToOwned::to_owned),
            version: text(data, "copilotVersion").map(ToOwned::to_owned),
            ..AgentSession::default()
        };
        vec![Entry::Session(self.session.clone())]
    }

    fn mode(&mut self, data: &Value) -> Vec<Entry> {
        let mode = text(data, "permissionMode").map(ToOwned::to_owned);
        if mode.is_none() || mode == self.session.mode {
            return Vec::new();
        }
        self.session.mode = mode;
        vec![Entry::Session(self.session.clone())]
    }

    fn call(&self, asked: &Value, name: &str, time: Timestamp) -> Entry {
        match (text(asked, "toolCallId"), text(asked, name)) {
            (Some(id), Some(tool)) => {
                Entry::Call(ToolCall::with(&self.session.session, id, tool, time, &asked["arguments"]))
            }
            _ => Entry::Unreadable,
        }
    }
}

fn command(words: &[String]) -> Option<String> {
    match words {
        [shell, first, second, option, text]
            if basename(shell) == "bash"
                && first == "--norc"
                && second == "--noprofile"
                && option == "-c" =>
        {
            Some(text.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, told, words};
    use super::*;

    const START: &str = r#"{"type":"session.start","data":{"sessionId":"s1","version":1},"id":"0","timestamp":"2026-11-22T19:32:10.191Z","parentId":null}"#;
    const MESSAGE: &str = r#"{"type":"assistant.message","data":{"messageId":"m","content":"Now.","toolRequests":[{"toolCallId":"call_1","name":"bash","arguments":{"command":"make test","description":"Test"},"type":"function"}]},"id":"1","timestamp":"2026-11-22T19:32:11.277Z","parentId":"0"}"#;

    #[test]
    fn reads_calls_and_how_they_ended() {
        let begun = r#"{"type":"tool.execution_start","data":{"toolCallId":"call_1","toolName":"bash","arguments":{"command":"make test"}},"id":"2","timestamp":"2026-11-22T19:32:11.280Z","parentId":"1"}"#;
        let done = r#"{"type":"tool.execution_complete","data":{"toolCallId":"call_1","success":true,"result":{"content":"ok"}},"id":"3","timestamp":"2026-11-22T19:32:11.467Z","parentId":"2"}"#;
        let told = told(&AGENT, &[START, MESSAGE, begun, done]);
        assert_eq!(told.calls[0], "s1 call_1 bash `make test` []");
        assert_eq!((told.calls.len(), told.ended.len(), told.refused.len(), told.unreadable), (2, 1, 0, 0));
    }

    #[test]
    fn knows_a_refused_call() {
        let refused = r#"{"type":"tool.execution_complete","data":{"toolCallId":"call_1","success":false,"error":{"code":"denied","message":"no"}},"timestamp":"2026-11-22T19:32:11.467Z"}"#;
        assert_eq!(told(&AGENT, &[refused]).refused, ["call_1"]);
        let blocked = r#"{"type":"tool.execution_complete","data":{"toolCallId":"call_1","success":false,"error":{"code":"failure","message":"Command not executed."},"toolTelemetry":{"properties":{"shell_error_category":"kill_command_blocked"}}},"timestamp":"2026-11-22T19:32:11.467Z"}"#;
        assert_eq!(told(&AGENT, &[blocked]).refused, ["call_1"]);
        let failed = blocked.replace("kill_command_blocked", "nonzero_exit");
        assert_eq!(told(&AGENT, &[&failed]).refused, [] as [&str; 0]);
    }

    #[test]
    fn knows_the_session_of_a_sub_agent() {
        let usage =
            r#"{"type":"session.usage_record","data":{"usage":{"accounting":{"sourceSessionId":"s2"}}}}"#;
        assert_eq!(told(&AGENT, &[START, usage]).sessions, ["s1", "s2"]);
        assert_eq!(told(&AGENT, &[START, &usage.replace("s2", "s1")]).sessions, ["s1"]);
    }

    #[test]
    fn passes_over_what_is_new_and_counts_what_is_no_record() {
        for line in [r#"{"type":"session.usage_record","data":{}}"#, r#"{"type":"x.y","data":7}"#] {
            assert_eq!(told(&AGENT, &[line]), Told::default(), "{line}");
        }
        for line in [
            "",
            "{",
            "[]",
            r#"{"type":"x"}"#,
            r#"{"data":{}}"#,
            r#"{"type":"assistant.message","data":{"toolRequests":7}}"#,
            r#"{"type":"assistant.message","data":{"toolRequests":[{}]}}"#,
            r#"{"type":"tool.execution_complete","data":{}}"#,
        ] {
            assert_eq!(told(&AGENT, &[line]).unreadable, 1, "{line}");
        }
    }

    #[test]
    fn tells_its_tool_shell_from_its_probes() {
        let argv = ["/bin/bash", "--norc", "--noprofile", "-c", "make test"];
        assert_eq!(command(&words(&argv)).as_deref(), Some("make test"));
        assert_eq!(command(&words(&["/bin/bash", "-l", "-c", "env -0"])), None);
    }
}
