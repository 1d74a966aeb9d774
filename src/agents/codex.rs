//! Codex: a launcher in the npm package that runs a static binary; the binary alone from a release.
//!
//! Its record is `~/.codex/sessions/<year>/<month>/<day>/rollout-<time>-<thread>.jsonl`; a line is on the
//! disk some 50 ms before what it asks for starts. A command is the last image of one process: set-up,
//! a shell that restores a snapshot, `bash -c COMMAND`; with a sandbox `bwrap` lies between. In code mode
//! the model writes JavaScript, one call may run many commands, and each is told again when it has ended.

use serde_json::{Value, json};

use super::{Agent, Entry, Form, Marks, Place, Reader, Record, moment, settings, text, when};
use crate::event::Timestamp;
use crate::intent::{AgentSession, ToolCall, ToolResult};

pub(super) const AGENT: Agent = Agent {
    id: "codex",
    title: "Codex",
    programs: &[
        "/**/@openai/codex/bin/codex.js",
        "/**/@openai/codex-*/vendor/*/bin/codex",
        "/**/@openai/codex/vendor/*/codex/codex",
        "/**/codex-{x86_64,aarch64}-unknown-linux-{musl,gnu}",
    ],
    modules: &[],
    hosts: &[
        "api.openai.com",
        "chatgpt.com",
        "*.chatgpt.com",
        "auth.openai.com",
        "github.com",
        "api.github.com",
    ],
    keeps: &["~/.codex/skills/.system/**"],
    logins: &["~/.codex/auth.json"],
    marks: Marks { session: &["CODEX_SESSION_ID", "CODEX_THREAD_ID"], call: &["CODEX_TOOL_CALL_ID"] },
    settings: &settings::CODEX,
    record: Some(&Record {
        places: &[Place { files: "~/.codex/sessions/**/*.jsonl", form: Form::Lines }],
        reader: |_| Box::<Rollout>::default(),
        command,
        // The same file prepares a child, and is the sandbox's inner half and a patch tool.
        tools: &["exe", "codex-linux-sandbox", "codex-execve-wrapper", "apply_patch", "applypatch"],
        is_own: |_| false,
        relays: &[],
        is_tried: true,
    }),
};

/// What the lines so far said.
#[derive(Debug, Default)]
struct Rollout {
    session: AgentSession,
    /// Calls that have no result yet, oldest first.
    open: Vec<String>,
}

impl Reader for Rollout {
    fn read(&mut self, piece: &str) -> Vec<Entry> {
        let Ok(line) = serde_json::from_str::<Value>(piece) else { return vec![Entry::Unreadable] };
        let (Some(kind), Some(payload)) = (text(&line, "type"), line.get("payload")) else {
            return vec![Entry::Unreadable];
        };
        let time = text(&line, "timestamp").and_then(moment);
        match (kind, text(payload, "type").unwrap_or_default()) {
            ("session_meta" | "turn_context", _) => self.session(payload),
            ("response_item", "function_call" | "custom_tool_call" | "local_shell_call") => {
                self.asked(payload, time)
            }
            ("response_item", "function_call_output" | "custom_tool_call_output") => {
                self.ended(payload, time)
            }
            ("event_msg", "item_completed") => self.ran(payload),
            _ => Vec::new(),
        }
    }
}

impl Rollout {
    const OPEN: usize = 256;

    fn session(&mut self, payload: &Value) -> Vec<Entry> {
        let word = |name: &str| text(payload, name).map(ToOwned::to_owned);
        let known = self.session.clone();
        let session = &mut self.session;
        if let Some(id) = word("id") {
            session.session = id;
        }
        session.directory = known.directory.clone().or_else(|| word("cwd"));
        session.version = word("cli_version").or(known.version.clone());
        session.parent = word("forked_from_id").or(known.parent.clone());
        if let Some(policy) = payload.get("sandbox_policy").and_then(|policy| text(policy, "type")) {
            session.mode = Some(policy.to_owned());
            session.unasked = text(payload, "approval_policy") == Some("never");
        }
        if *session == known { Vec::new() } else { vec![Entry::Session(session.clone())] }
    }

    fn asked(&mut self, payload: &Value, time: Option<Timestamp>) -> Vec<Entry> {
        let (Some(time), Some(id), Some(input)) = (time, text(payload, "call_id"), input(payload)) else {
            return vec![Entry::Unreadable];
        };
        if self.open.len() < Self::OPEN && !self.is_open(id) {
            self.open.push(id.to_owned());
        }
        let tool = text(payload, "name").unwrap_or("shell");
        vec![Entry::Call(ToolCall::with(&self.session.session, id, tool, time, &input))]
    }

    fn ended(&mut self, payload: &Value, time: Option<Timestamp>) -> Vec<Entry> {
        let Some(id) = text(payload, "call_id") else { return vec![Entry::Unreadable] };
        self.open.retain(|open| open != id);
        vec![Entry::Result(ToolResult {
            call: id.to_owned(),
            time: time.unwrap_or_default(),
            denied: is_refused(payload),
            ..ToolResult::default()
        })]
    }

    fn is_open(&self, id: &str) -> bool {
        self.open.iter().any(|open| open == id)
    }

    /// What a call of code mode ran. What a direct call ran is told under its own id, and known.
    fn ran(&self, payload: &Value) -> Vec<Entry> {
        let item = &payload["item"];
        let (Some(id), Some(owner)) = (text(item, "id"), self.open.first()) else { return Vec::new() };
        if self.is_open(id) {
            return Vec::new();
        }
        let input = match text(item, "type") {
            Some("CommandExecution") => json!({ "command": item["command"] }),
            Some("FileChange") => match &item["changes"] {
                Value::Object(changes) => json!({ "paths": changes.keys().collect::<Vec<_>>() }),
                _ => return vec![Entry::Unreadable],
            },
            _ => return Vec::new(),
        };
        let tool = if input.get("paths").is_some() { "apply_patch" } else { "exec" };
        let call = ToolCall::with(&self.session.session, id, tool, when(&payload["started_at_ms"]), &input);
        vec![Entry::Call(ToolCall { within: Some(owner.clone()), ..call })]
    }
}

/// The arguments: JSON in a text, an object, or free text that is a patch or a program.
fn input(payload: &Value) -> Option<Value> {
    if let Some(arguments) = payload.get("arguments").and_then(Value::as_str) {
        return serde_json::from_str(arguments).ok();
    }
    if let Some(action) = payload.get("action") {
        return Some(action.clone());
    }
    payload.get("input").and_then(Value::as_str).map(free_text)
}

/// A patch, or a program that calls tools.
pub(super) fn free_text(input: &str) -> Value {
    let is_patch = input.trim_start().starts_with("*** Begin Patch");
    if is_patch { Value::String(input.to_owned()) } else { Value::Array(nested(input)) }
}

/// The literal arguments of the tools that a program in code mode calls.
fn nested(program: &str) -> Vec<Value> {
    const MOST: usize = 64;
    let mut found = Vec::new();
    let mut rest = program;
    while let Some((_, behind)) = rest.split_once("tools.") {
        rest = behind;
        let Some((name, arguments)) = behind.split_once('(') else { break };
        if found.len() >= MOST {
            break;
        }
        if !name.chars().all(|letter| letter.is_alphanumeric() || letter == '_') {
            continue;
        }
        if let Some(Ok(value)) = serde_json::Deserializer::from_str(arguments).into_iter().next() {
            found.push(value);
        } else if let Some(command) = literal(arguments) {
            found.push(json!({ "cmd": command }));
        }
    }
    found
}

/// `{ cmd: 'ls' }`, which is JavaScript and no JSON.
fn literal(arguments: &str) -> Option<String> {
    let inside = arguments.trim_start().strip_prefix('{')?;
    let (_, value) = inside.split_once("cmd")?;
    let value = value.trim_start_matches(['"', '\'']).trim_start().strip_prefix(':')?.trim_start();
    let mut letters = value.chars();
    let quote = letters.next().filter(|quote| matches!(quote, '"' | '\'' | '`'))?;
    let mut text = String::new();
    while let Some(letter) = letters.next() {
        match letter {
            '\\' => match letters.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                other => text.push(other),
            },
            // The rest is known only at run time; the record tells it when the command has ended.
            '$' if quote == '`' && letters.as_str().starts_with('{') => return None,
            letter if letter == quote => return Some(text),
            letter => text.push(letter),
        }
    }
    None
}

fn is_refused(payload: &Value) -> bool {
    const LOOKED_AT: usize = 400;
    let output = match payload.get("output") {
        Some(Value::String(text)) => text.chars().take(LOOKED_AT).collect(),
        Some(other) => other.to_string().chars().take(LOOKED_AT).collect::<String>(),
        None => return false,
    };
    is_rejection(&output)
        || ["rejected by user", "rejected by policy", "approval policy is never", "denied by policy"]
            .iter()
            .any(|words| output.contains(words))
}

/// Whether a call's output says that Codex's own rules for commands did not let it start.
pub(super) fn is_rejection(output: &str) -> bool {
    output.starts_with(r#"exec_command failed: CreateProcess { message: "Rejected("#)
}

fn command(words: &[String]) -> Option<String> {
    let [shell, option, text] = words else { return None };
    // The shell before it restores a snapshot and then becomes the one with the command.
    let is_own =
        ["__CODEX_SNAPSHOT_", "shell_snapshots/", "# Snapshot file"].iter().any(|mark| text.contains(mark));
    (shell.ends_with("sh") && matches!(option.as_str(), "-c" | "-lc") && !is_own).then(|| text.clone())
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, told, words};
    use super::*;

    const META: &str = r#"{"timestamp":"2026-11-22T19:54:14.050Z","ordinal":0,"type":"session_meta","payload":{"session_id":"s1","id":"s1","cwd":"/w","cli_version":"0.169.0"}}"#;

    fn item(kind: &str, payload: &str) -> String {
        format!(r#"{{"timestamp":"2026-11-22T19:54:14.255Z","type":"{kind}","payload":{payload}}}"#)
    }

    fn run(id: &str, command: &str) -> String {
        item(
            "event_msg",
            &format!(
                r#"{{"type":"item_completed","item":{{"type":"CommandExecution","id":"{id}","command":["/bin/bash","-lc","{command}"],"status":"completed"}},"started_at_ms":1795377254300}}"#
            ),
        )
    }

    #[test]
    fn reads_direct_calls_and_how_they_ended() {
        let asked = item(
            "response_item",
            r#"{"type":"function_call","name":"exec_command","arguments":"{\"cmd\": \"make build\"}","call_id":"call_1"}"#,
        );
        let patch = item(
            "response_item",
            r#"{"type":"custom_tool_call","name":"apply_patch","input":"*** Begin Patch\n*** Update File: src/a.py\n@@\n-x\n+y\n*** End Patch","call_id":"call_2"}"#,
        );
        let done =
            item("response_item", r#"{"type":"function_call_output","call_id":"call_1","output":"built"}"#);
        let refused = item(
            "response_item",
            r#"{"type":"custom_tool_call_output","call_id":"call_2","output":"patch rejected by user"}"#,
        );
        let told = told(&AGENT, &[META, &asked, &run("call_1", "make build"), &done, &patch, &refused]);
        assert_eq!(
            told.calls,
            ["s1 call_1 exec_command `make build` []", "s1 call_2 apply_patch [src/a.py]"]
        );
        assert_eq!((&told.refused[..], told.unreadable), (&["call_2".to_owned()][..], 0));
    }

    #[test]
    fn a_command_that_its_own_rules_reject_is_refused_and_one_that_says_so_is_not() {
        let rejection =
            r#"exec_command failed: CreateProcess { message: \"Rejected(\\\"`rm -f x` rejected\\\")\" }"#;
        let done = |output: &str| {
            let payload =
                format!(r#"{{"type":"function_call_output","call_id":"call_1","output":"{output}"}}"#);
            told(&AGENT, &[META, &item("response_item", &payload)]).refused
        };
        assert_eq!(done(rejection), ["call_1"]);
        assert_eq!(done(&format!("Chunk ID: 1\\nOutput:\\n{rejection}")), [] as [&str; 0]);
    }

    #[test]
    fn reads_what_a_program_in_code_mode_calls_and_what_it_then_ran() {
        let program = r#"const r = await tools.exec_command({\"cmd\": \"make test\"});\nawait tools.exec_command({ cmd: 'ls \\'a b\\'' });\nawait tools.exec_command({cmd: `git log ${n}`});\ntext(await tools.apply_patch(\"*** Begin Patch\\n*** Add File: /w/n\\n+x\\n*** End Patch\"));"#;
        let asked = item(
            "response_item",
            &format!(r#"{{"type":"custom_tool_call","name":"exec","input":"{program}","call_id":"call_1"}}"#),
        );
        let told = told(&AGENT, &[META, &asked, &run("exec-1", "git log 3")]);
        assert_eq!(
            told.calls,
            ["s1 call_1 exec `make test` `ls 'a b'` [/w/n]", "s1 exec-1 exec `git log 3` [] in call_1"]
        );
    }

    #[test]
    fn passes_over_what_is_new_and_counts_what_is_no_record() {
        for line in
            [&item("world_state", "{}")[..], &item("event_msg", r#"{"type":"new"}"#), &run("exec-9", "x")]
        {
            assert_eq!(told(&AGENT, &[line]), Told::default(), "{line}");
        }
        for line in [
            "",
            "{",
            "[]",
            r#"{"type":"x"}"#,
            r#"{"payload":{}}"#,
            &item("response_item", r#"{"type":"function_call","call_id":"c","arguments":"{"}"#),
            &item("response_item", r#"{"type":"function_call","arguments":"{}"}"#),
        ] {
            assert_eq!(told(&AGENT, &[line]).unreadable, 1, "{line}");
        }
    }

    #[test]
    fn tells_its_tool_shell_from_its_set_up() {
        let command = |text: &[&str]| command(&words(text));
        assert_eq!(command(&["/bin/bash", "-c", "make build"]).as_deref(), Some("make build"));
        assert_eq!(command(&["/bin/bash", "-lc", "make build"]).as_deref(), Some("make build"));
        assert_eq!(command(&["/bin/bash", "-c", "__CODEX_SNAPSHOT_OVERRIDE_SET_0=x\nexec bash -c x"]), None);
        assert_eq!(command(&["/bin/bash", "-c", "set -e; . \"/home/u/.codex/shell_snapshots/1.tmp\""]), None);
        assert_eq!(command(&["git", "-c", "x"]), None);
    }

    #[test]
    fn tells_the_mode_of_a_session() {
        let turn = |policy: &str| {
            item(
                "turn_context",
                &format!(
                    r#"{{"cwd":"/w","approval_policy":"never","sandbox_policy":{{"type":"{policy}"}}}}"#
                ),
            )
        };
        let told = told(
            &AGENT,
            &[META, &turn("workspace-write"), &turn("workspace-write"), &turn("danger-full-access")],
        );
        assert_eq!(
            told.sessions,
            ["s1 /w 0.169.0", "s1 /w 0.169.0 workspace-write!", "s1 /w 0.169.0 danger-full-access!"]
        );
    }

    proptest::proptest! {
        #[test]
        fn any_program_is_read_without_panic(program in ".{0,200}") {
            nested(&format!("tools.exec_command({program}"));
        }
    }
}
