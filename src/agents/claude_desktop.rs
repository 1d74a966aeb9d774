//! Claude Desktop: an application that starts tool servers (MCP) and has no shell of its own.
//!
//! Written from its documentation: it is for macOS and Windows, and no test of ours drives it. Its record
//! are the logs `mcp-server-<name>.log` of each server: a time, and the messages of its protocol, of
//! which `tools/call` are tool calls. What a server then does is the server's.

use serde_json::Value;

use super::{Agent, Entry, Form, Marks, Place, Reader, Record, moment, settings, text};
use crate::intent::{ToolCall, ToolResult};

pub(super) const AGENT: Agent = Agent {
    id: "claude-desktop",
    title: "Claude Desktop",
    programs: &[
        "/**/Claude.app/Contents/MacOS/Claude",
        "/**/claude-desktop/{claude-desktop,Claude,electron}",
        "/usr/{bin,lib/**}/claude-desktop",
    ],
    modules: &[],
    hosts: &["claude.ai", "*.claude.ai", "api.anthropic.com"],
    keeps: &[],
    logins: &[],
    marks: Marks::NONE,
    settings: &settings::CLAUDE_DESKTOP,
    record: Some(&Record {
        places: &[
            Place { files: "~/Library/Logs/Claude/mcp-server-*.log", form: Form::Lines },
            Place { files: "~/.config/Claude/logs/mcp-server-*.log", form: Form::Lines },
        ],
        reader: |path| Box::new(Log { server: server(path) }),
        command: |_| None,
        tools: &[],
        is_own: |_| false,
        relays: &[],
        is_tried: false,
    }),
};

#[derive(Debug)]
struct Log {
    server: String,
}

impl Reader for Log {
    fn read(&mut self, piece: &str) -> Vec<Entry> {
        // Servers write lines of their own into it.
        let Some((head, rest)) = piece.split_once(" Message from ") else { return Vec::new() };
        let is_call = rest.starts_with("client:");
        let Some(at) = rest.find('{') else { return Vec::new() };
        let Some(Ok(message)) = serde_json::Deserializer::from_str(&rest[at..]).into_iter::<Value>().next()
        else {
            return vec![Entry::Unreadable];
        };
        let time = head.split(' ').next().and_then(moment).unwrap_or_default();
        let id = match &message["id"] {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            // A notice, which has no answer.
            _ => return Vec::new(),
        };
        let id = format!("{}#{id}", self.server);
        if !is_call {
            return vec![Entry::Result(ToolResult { call: id, time, ..ToolResult::default() })];
        }
        if text(&message, "method") != Some("tools/call") {
            return Vec::new();
        }
        let parameters = &message["params"];
        let Some(tool) = text(parameters, "name") else { return vec![Entry::Unreadable] };
        let call = ToolCall::with(&self.server, &id, tool, time, &parameters["arguments"]);
        vec![Entry::Call(ToolCall { server: Some(self.server.clone()), ..call })]
    }
}

/// The server that a log is of.
fn server(path: &str) -> String {
    let name = path.rsplit('/').next().unwrap_or(path);
    let name = name.strip_prefix("mcp-server-").unwrap_or(name);
    name.strip_suffix(".log").unwrap_or(name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, told};
    use super::*;

    #[test]
    fn reads_calls_of_tool_servers() {
        let told = told(
            &AGENT,
            &[
                r#"2026-11-22T19:24:19.678Z [files] [info] Message from client: {"method":"tools/call","params":{"name":"read_file","arguments":{"path":"/w/a"}},"jsonrpc":"2.0","id":3} { metadata: undefined }"#,
                r#"2026-11-22T19:24:19.700Z [files] [info] Message from server: {"jsonrpc":"2.0","id":3,"result":{}} { metadata: undefined }"#,
            ],
        );
        assert_eq!(told.calls, ["record record#3 read_file [/w/a]"]);
        assert_eq!(told.ended, ["record#3"]);
        assert_eq!(server("/h/Library/Logs/Claude/mcp-server-files.log"), "files");
    }

    #[test]
    fn passes_over_the_rest_and_counts_what_is_cut() {
        for line in [
            "",
            "Server started",
            r#"2026-11-22T19:24:19.678Z [f] [info] Message from client: {"method":"tools/list","id":1}"#,
            r#"2026-11-22T19:24:19.678Z [f] [info] Message from client: {"method":"notifications/x"}"#,
        ] {
            assert_eq!(told(&AGENT, &[line]), Told::default(), "{line}");
        }
        for line in [
            r#"x Message from client: {"method":"tools/call","par"#,
            r#"x Message from client: {"method":"tools/call","params":{},"id":1}"#,
        ] {
            assert_eq!(told(&AGENT, &[line]).unreadable, 1, "{line}");
        }
    }
}
