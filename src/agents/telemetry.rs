//! What agents export of their tool calls: log records and spans of OpenTelemetry (OTLP in JSON), as entries like a record's.
//!
//! Fields are named differently, and mean the same. Whose calls they are decides who sent them, not what they say.

use std::collections::VecDeque;

use serde_json::{Value, json};

use super::{Entry, codex, moment, text};
use crate::event::Timestamp;
use crate::intent::{AgentSession, ToolCall, ToolResult};

/// Records and spans of one message that are looked at.
const MOST: usize = 65_536;
/// Of a call, its session and its tool: how each agent calls them.
const CALL: &[&str] = &["tool_use_id", "call_id", "gen_ai.tool.call.id"];
const SESSION: &[&str] = &["session.id", "conversation.id", "gen_ai.conversation.id"];
const TOOL: &[&str] = &["tool_name", "function_name", "gen_ai.tool.name"];
const ARGUMENTS: &[&str] = &["tool_input", "arguments", "function_args", "gen_ai.tool.call.arguments"];
const SERVER: &[&str] = &["mcp_server", "mcp_server_name"];
/// Decisions that let a call run: Claude Code's and Gemini CLI's, Codex's.
const ACCEPTED: &[&str] = &["accept", "auto_accept", "modify", "approved"];

/// What one message says of tool calls: `{"resourceLogs": …}` or `{"resourceSpans": …}`. Anything else says nothing.
pub fn read(message: &Value) -> Vec<Entry> {
    let records = items(message, ["resourceLogs", "scopeLogs", "logRecords"]);
    let spans = items(message, ["resourceSpans", "scopeSpans", "spans"]);
    let records = records.take(MOST).flat_map(|(resource, record)| told(resource, record));
    records.chain(spans.take(MOST).flat_map(|(_, span)| spanned(span))).collect()
}

/// Each item of a message with the resource that it is of.
fn items<'v>(
    message: &'v Value,
    [resources, scopes, items]: [&'static str; 3],
) -> impl Iterator<Item = (&'v Value, &'v Value)> {
    list(message, resources).flat_map(move |resource| {
        let about = &resource["resource"];
        list(resource, scopes).flat_map(move |scope| list(scope, items)).map(move |item| (about, item))
    })
}

fn list<'v>(value: &'v Value, name: &str) -> impl Iterator<Item = &'v Value> + use<'v> {
    value.get(name).and_then(Value::as_array).into_iter().flatten()
}

/// The first of these attributes that has a plain value, as text.
fn attribute(item: &Value, names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| {
        let found = list(item, "attributes").find(|attribute| text(attribute, "key") == Some(name))?;
        match found.get("value")?.as_object()?.values().next()? {
            Value::String(text) => Some(text.clone()),
            value @ (Value::Bool(_) | Value::Number(_)) => Some(value.to_string()),
            _ => None,
        }
    })
}

/// Nanoseconds since 1970, which stand as text.
fn nanoseconds(item: &Value, name: &str) -> Option<Timestamp> {
    let value = item.get(name)?;
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    (number != 0).then_some(Timestamp(number))
}

/// A log record: that a tool may be used, that it was used, that a conversation begins.
fn told(resource: &Value, record: &Value) -> Vec<Entry> {
    const MS: u64 = 1_000_000;
    let Some(name) = attribute(record, &["event.name"]) else { return Vec::new() };
    let time = attribute(record, &["event.timestamp"]).as_deref().and_then(moment);
    let time = time.or_else(|| nanoseconds(record, "timeUnixNano")).unwrap_or_default();
    let session = attribute(record, SESSION).unwrap_or_default();
    let is_decision = name.ends_with("tool_decision");
    if name.ends_with("conversation_starts") {
        let mode = attribute(record, &["sandbox_policy"]);
        return vec![Entry::Session(AgentSession {
            session,
            mode,
            unasked: attribute(record, &["approval_policy"]).as_deref() == Some("never"),
            version: attribute(record, &["app.version"]),
            ..AgentSession::default()
        })];
    }
    if !is_decision && !name.ends_with("tool_result") && !name.ends_with("tool_call") {
        return Vec::new();
    }
    let Some(tool) = attribute(record, TOOL) else { return vec![Entry::Unreadable] };
    let mut entries = Vec::new();
    if let Some(mode) = attribute(record, &["permission_mode"]) {
        entries.push(Entry::Session(AgentSession {
            session: session.clone(),
            unasked: mode == "bypassPermissions",
            mode: Some(mode),
            version: attribute(resource, &["service.version"]),
            ..AgentSession::default()
        }));
    }
    let duration = attribute(record, &["duration_ms"]).and_then(|text| text.parse::<f64>().ok());
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float saturates")]
    let duration = duration.map_or(0, |milliseconds| milliseconds as u64).saturating_mul(MS);
    let began = Timestamp(time.0.saturating_sub(duration));
    let call = attribute(record, CALL).unwrap_or_default();
    let decision = attribute(record, &["decision"]);
    let denied = decision.is_some_and(|word| !ACCEPTED.iter().any(|accepted| word.starts_with(accepted)))
        || attribute(record, &["output"]).is_some_and(|output| codex::is_rejection(&output));
    let asked = called(record, &session, &call, &tool, began);
    // With neither an id nor arguments nothing tells which call it is.
    if !call.is_empty() || !asked.commands.is_empty() || !asked.names.is_empty() {
        entries.push(Entry::Call(asked));
    }
    // Without an id nothing tells which call has ended.
    if !call.is_empty() && (denied || !is_decision) {
        entries.push(Entry::Result(ToolResult { call, time, denied, ..ToolResult::default() }));
    }
    entries
}

/// A span: one use of a tool, from its beginning to its end.
fn spanned(span: &Value) -> Vec<Entry> {
    if text(span, "name").is_none_or(|name| !name.starts_with("execute_tool")) {
        return Vec::new();
    }
    let (Some(tool), Some(call)) = (attribute(span, TOOL), attribute(span, CALL)) else {
        return vec![Entry::Unreadable];
    };
    let session = attribute(span, SESSION).unwrap_or_default();
    let began = nanoseconds(span, "startTimeUnixNano").unwrap_or_default();
    let asked = Entry::Call(called(span, &session, &call, &tool, began));
    let time = nanoseconds(span, "endTimeUnixNano").unwrap_or_default();
    vec![asked, Entry::Result(ToolResult { call, time, ..ToolResult::default() })]
}

fn called(item: &Value, session: &str, call: &str, tool: &str, time: Timestamp) -> ToolCall {
    let parameters: Value = attribute(item, &["tool_parameters"])
        .and_then(|text| serde_json::from_str(&text).ok())
        .unwrap_or_default();
    let input = match (text(&parameters, "full_command"), attribute(item, ARGUMENTS)) {
        // The arguments beside it are cut where they are long.
        (Some(command), _) => json!({ "command": command }),
        (None, Some(text)) => serde_json::from_str(&text).unwrap_or_else(|_| codex::free_text(&text)),
        (None, None) => Value::Null,
    };
    let server = attribute(item, SERVER).filter(|name| !name.is_empty());
    let server = server.or_else(|| text(&parameters, "mcp_server_name").map(ToOwned::to_owned));
    let told = ToolCall::with(session, call, tool, time, &input);
    ToolCall { server: server.or_else(|| told.server.clone()), ..told }
}

/// Ties commands inside a call that runs several (Codex's code mode) to that call, which is exported after them.
#[derive(Debug, Default)]
pub struct Nesting {
    /// Those whose call was not told yet.
    parts: VecDeque<ToolCall>,
}

impl Nesting {
    const PARTS: usize = 256;

    /// Tells those parts again whose call is among these entries, now with that call.
    pub fn tie(&mut self, entries: &mut Vec<Entry>) {
        let is_part = |call: &ToolCall| call.call.starts_with("exec-");
        let mut tied = Vec::new();
        for (at, entry) in entries.iter().enumerate() {
            let Entry::Call(call) = entry else { continue };
            if is_part(call) {
                self.parts.push_back(call.clone());
                if self.parts.len() > Self::PARTS {
                    self.parts.pop_front();
                }
                continue;
            }
            let Some(Entry::Result(result)) = entries.get(at + 1).filter(|_| call.tool == "exec") else {
                continue;
            };
            let is_inside = |part: &ToolCall| {
                part.session == call.session && (call.time..=result.time).contains(&part.time)
            };
            let (inside, rest) = std::mem::take(&mut self.parts).into_iter().partition(is_inside);
            self.parts = rest;
            let inside: VecDeque<ToolCall> = inside;
            let within = Some(call.call.clone());
            tied.extend(
                inside.into_iter().map(|part| Entry::Call(ToolCall { within: within.clone(), ..part })),
            );
        }
        entries.extend(tied);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message of one log record, or span, with these attributes.
    fn message(kind: [&str; 3], own: &Value, attributes: &Value) -> Value {
        let mut item = own.clone();
        item["attributes"] = attributes
            .as_object()
            .unwrap()
            .iter()
            .map(|(key, value)| match value {
                Value::Bool(_) => json!({"key": key, "value": {"boolValue": value}}),
                _ => json!({"key": key, "value": {"stringValue": value}}),
            })
            .collect();
        let resource =
            json!({"attributes": [{"key": "service.version", "value": {"stringValue": "2.1.330"}}]});
        json!({kind[0]: [{"resource": resource, kind[1]: [{kind[2]: [item]}]}]})
    }

    fn log(attributes: &Value) -> Value {
        message(["resourceLogs", "scopeLogs", "logRecords"], &json!({}), attributes)
    }

    fn words(entries: &[Entry]) -> Vec<String> {
        entries
            .iter()
            .map(|entry| match entry {
                Entry::Call(call) => format!(
                    "call {} {} {} {:?} {:?}{} at {}",
                    call.session,
                    call.call,
                    call.tool,
                    call.commands,
                    call.names,
                    call.within.as_ref().map(|call| format!(" in {call}")).unwrap_or_default(),
                    &call.time.rfc3339()[17..],
                ),
                Entry::Result(result) => format!(
                    "result {}{} at {}",
                    result.call,
                    if result.denied { "!" } else { "" },
                    &result.time.rfc3339()[17..]
                ),
                Entry::Session(session) => format!(
                    "session {} {} {}{}",
                    session.session,
                    session.version.clone().unwrap_or_default(),
                    session.mode.clone().unwrap_or_default(),
                    if session.unasked { "!" } else { "" }
                ),
                Entry::Unreadable => "unreadable".to_owned(),
            })
            .collect()
    }

    #[test]
    fn claude_code_says_that_it_may_and_that_it_did() {
        let decided = json!({"event.name": "tool_decision", "event.timestamp": "2026-11-30T22:43:23.827Z", "session.id": "s",
            "tool_name": "Bash", "tool_use_id": "toolu_1", "decision": "accept", "permission_mode": "bypassPermissions",
            "tool_parameters": r#"{"bash_command":"make","full_command":"make test"}"#});
        assert_eq!(
            words(&read(&log(&decided))),
            ["session s 2.1.330 bypassPermissions!", "call s toolu_1 Bash [\"make test\"] [] at 23.827Z"]
        );
        let mut refused = decided.clone();
        refused["decision"] = "reject".into();
        assert_eq!(words(&read(&log(&refused)))[2], "result toolu_1! at 23.827Z");
        let did = json!({"event.name": "tool_result", "event.timestamp": "2026-11-30T22:43:23.912Z", "session.id": "s",
            "tool_name": "Read", "tool_use_id": "toolu_2", "duration_ms": "12", "success": "true",
            "tool_input": r#"{"file_path":"/w/Makefile"}"#});
        assert_eq!(
            words(&read(&log(&did))),
            ["call s toolu_2 Read [] [\"/w/Makefile\"] at 23.900Z", "result toolu_2 at 23.912Z"]
        );
        let served = json!({"event.name": "tool_result", "tool_name": "mcp_tool", "tool_use_id": "toolu_3",
            "tool_parameters": r#"{"mcp_server_name":"files","mcp_tool_name":"read"}"#});
        let Entry::Call(call) = &read(&log(&served))[0] else { panic!() };
        assert_eq!(call.server.as_deref(), Some("files"));
    }

    #[test]
    fn codex_and_the_commands_inside_a_call_of_code_mode() {
        let begins = json!({"event.name": "codex.conversation_starts", "conversation.id": "s", "app.version": "0.169.0",
            "approval_policy": "never", "sandbox_policy": "danger-full-access"});
        assert_eq!(words(&read(&log(&begins))), ["session s 0.169.0 danger-full-access!"]);
        let result = |call: &str, tool: &str, at: &str, took: &str, arguments: &str| {
            log(
                &json!({"event.name": "codex.tool_result", "event.timestamp": format!("2026-11-30T22:43:{at}Z"),
                "conversation.id": "s", "tool_name": tool, "call_id": call, "duration_ms": took, "output_truncated": false,
                "arguments": arguments, "mcp_server": ""}),
            )
        };
        let mut nesting = Nesting::default();
        let mut inner = read(&result("exec-1", "exec_command", "42.848", "40", r#"{"cmd":"make test"}"#));
        nesting.tie(&mut inner);
        assert_eq!(
            words(&inner),
            ["call s exec-1 exec_command [\"make test\"] [] at 42.808Z", "result exec-1 at 42.848Z"]
        );
        let program = r#"const done = await tools.exec_command({"cmd": "make test"});"#;
        let mut outer = read(&result("call_1", "exec", "42.852", "100", program));
        nesting.tie(&mut outer);
        assert_eq!(
            words(&outer),
            [
                "call s call_1 exec [\"make test\"] [] at 42.752Z",
                "result call_1 at 42.852Z",
                "call s exec-1 exec_command [\"make test\"] [] in call_1 at 42.808Z"
            ]
        );
        let mut later = read(&result("call_2", "exec", "43.000", "20", program));
        nesting.tie(&mut later);
        assert_eq!(later.len(), 2, "what ran before it is no part of it");
        let mut rejected = result("call_4", "exec_command", "45.000", "1", r#"{"cmd":"rm -f x"}"#);
        let record = &mut rejected["resourceLogs"][0]["scopeLogs"][0]["logRecords"][0]["attributes"];
        let output = r#"exec_command failed: CreateProcess { message: "Rejected(x)" }"#;
        record.as_array_mut().unwrap().push(json!({"key": "output", "value": {"stringValue": output}}));
        assert_eq!(words(&read(&rejected))[1], "result call_4! at 45.000Z");
        let patch = "*** Begin Patch\n*** Update File: a.py\n@@\n-x\n+y\n*** End Patch";
        let Entry::Call(call) = &read(&result("call_3", "apply_patch", "44.000", "1", patch))[0] else {
            panic!()
        };
        assert!(call.writes && call.names == ["a.py"]);
    }

    #[test]
    fn gemini_cli_tells_no_id_and_copilot_cli_a_span() {
        let gemini = json!({"event.name": "gemini_cli.tool_call", "event.timestamp": "2026-11-30T22:46:24.328Z",
            "session.id": "s", "function_name": "run_shell_command", "duration_ms": "74", "decision": "accept",
            "function_args": "{\n  \"command\": \"make test\"\n}"});
        assert_eq!(words(&read(&log(&gemini))), ["call s  run_shell_command [\"make test\"] [] at 24.254Z"]);
        let mut bare = gemini.clone();
        bare.as_object_mut().unwrap().remove("function_args");
        assert_eq!(read(&log(&bare)), []);
        let own = json!({"name": "execute_tool bash bash", "startTimeUnixNano": "1796078788782000000",
            "endTimeUnixNano": "1796078788840000000"});
        let span = |attributes| message(["resourceSpans", "scopeSpans", "spans"], &own, &attributes);
        let named = json!({"gen_ai.conversation.id": "s", "gen_ai.tool.name": "bash",
            "gen_ai.tool.call.id": "call_1", "gen_ai.tool.call.arguments": r#"{"command":"ls"}"#});
        assert_eq!(
            words(&read(&span(named))),
            ["call s call_1 bash [\"ls\"] [] at 28.782Z", "result call_1 at 28.840Z"]
        );
        let bare = json!({"gen_ai.tool.name": "bash"});
        assert_eq!(words(&read(&span(bare))), ["unreadable"]);
    }

    #[test]
    fn what_else_is_sent_says_nothing() {
        for other in [
            json!({"resourceMetrics": [{}]}),
            json!({"resourceLogs": [{"scopeLogs": [{"logRecords": [{"body": {"stringValue": "x"}}, 7, null]}]}]}),
            json!({"resourceLogs": 7}),
            json!({"resourceSpans": [{"scopeSpans": [{"spans": [{"name": "GET /"}]}]}]}),
            log(&json!({"event.name": "api_request", "model": "x"})),
            json!([]),
        ] {
            assert_eq!(read(&other), [], "{other}");
        }
        assert_eq!(read(&log(&json!({"event.name": "tool_result"}))), [Entry::Unreadable]);
    }

    proptest::proptest! {
        #[test]
        fn any_attribute_is_read_without_panic(text in ".{0,200}") {
            for name in ["tool_input", "tool_parameters", "duration_ms", "event.timestamp", "decision"] {
                read(&log(&json!({"event.name": "tool_result", "tool_name": "x", "call_id": "c", name: text})));
            }
        }
    }
}
