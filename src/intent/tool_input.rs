//! What the arguments of a tool call name: commands for a shell, files and addresses.
//!
//! Every agent has tools of its own and changes them often, so what counts is how a field is called
//! and what its value looks like, not the tool's name.

use serde_json::Value;

use super::ToolCall;
use crate::event::Timestamp;

/// A longer value is content, not a name.
const LONGEST_NAME: usize = 4096;
/// Of one call.
const MOST_NAMES: usize = 256;
const DEEPEST: usize = 6;

/// Fields that hold shell text.
const COMMANDS: &[&str] = &["command", "cmd", "commands", "script"];
/// Verbs of an editor tool, which stand in a field called `command` as well.
const EDITOR_VERBS: &[&str] = &["view", "create", "str_replace", "insert", "undo_edit", "delete", "rename"];
/// Fields that hold what is written or searched for, or words for people.
const CONTENTS: &[&str] = &[
    "content",
    "contents",
    "description",
    "file_text",
    "insert_text",
    "instruction",
    "justification",
    "message",
    "new_source",
    "old_source",
    "pattern",
    "query",
    "regex",
    "title",
    "why",
];

impl ToolCall {
    /// A call with these arguments. The agent's name is for whoever follows the record.
    pub fn with(session: &str, call: &str, tool: &str, time: Timestamp, input: &Value) -> Self {
        let read = ToolInput::read(input);
        Self {
            session: session.to_owned(),
            call: call.to_owned(),
            tool: tool.to_owned(),
            time,
            commands: read.commands,
            names: read.names,
            writes: read.is_patch || is_writing(tool),
            server: server(tool),
            ..Self::default()
        }
    }
}

/// Whether a tool of this name changes the files it names.
fn is_writing(tool: &str) -> bool {
    let tool = tool.to_ascii_lowercase();
    ["edit", "write", "patch", "replace", "create", "insert", "delete", "save"]
        .iter()
        .any(|verb| tool.contains(verb))
}

/// The tool server that carries it out, where the tool's name says so: `mcp__files__read`.
fn server(tool: &str) -> Option<String> {
    let rest = tool.strip_prefix("mcp__")?;
    Some(rest.split("__").next().unwrap_or(rest).to_owned())
}

/// Names and commands of one call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ToolInput {
    pub commands: Vec<String>,
    pub names: Vec<String>,
    /// It holds a patch of the files that it names.
    pub is_patch: bool,
}

impl ToolInput {
    /// Reads arguments as the record has them: an object, or free text such as a patch.
    pub fn read(input: &Value) -> Self {
        let mut read = Self::default();
        match input {
            Value::String(text) => read.patch(text),
            other => read.value("", other, DEEPEST),
        }
        read
    }

    fn value(&mut self, field: &str, value: &Value, depth: usize) {
        if depth == 0 || self.names.len() >= MOST_NAMES || self.commands.len() >= MOST_NAMES {
            return;
        }
        match value {
            Value::Object(fields) => {
                let has_path = fields.contains_key("path") || fields.contains_key("file_path");
                let is_verb = |value: &Value| {
                    has_path && value.as_str().is_some_and(|verb| EDITOR_VERBS.contains(&verb))
                };
                let commands: Vec<&Value> = COMMANDS
                    .iter()
                    .filter_map(|name| fields.get(*name).filter(|value| !is_verb(value)))
                    .collect();
                for command in &commands {
                    self.shell(command);
                }
                // Beside a command stands where it runs, which promises nothing about the files there.
                if commands.is_empty() {
                    for (name, inner) in fields {
                        self.value(name, inner, depth - 1);
                    }
                }
            }
            Value::Array(values) => {
                for inner in values.iter().take(MOST_NAMES) {
                    self.value(field, inner, depth - 1);
                }
            }
            Value::String(text) => self.text(field, text),
            _ => {}
        }
    }

    fn shell(&mut self, value: &Value) {
        match value {
            Value::String(text) if !text.trim().is_empty() => self.commands.push(text.clone()),
            // Either one argument vector, or several commands.
            Value::Array(words) => {
                let words: Vec<&str> = words.iter().filter_map(Value::as_str).take(MOST_NAMES).collect();
                match words[..] {
                    [shell, option, text]
                        if is_shell(shell) && option.starts_with('-') && option.ends_with('c') =>
                    {
                        self.commands.push(text.to_owned());
                    }
                    _ => self.commands.extend(words.iter().map(|text| (*text).to_owned())),
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, field: &str, text: &str) {
        let is_content = CONTENTS.contains(&field) || field.starts_with("old") || field.starts_with("new");
        if text.contains("*** Begin Patch") {
            self.patch(text);
        } else if field == "prompt" || field == "task" {
            // An instruction names an address in passing; a path in it is no promise.
            self.addresses(text);
        } else if !is_content && is_name(field, text) {
            self.names.push(text.to_owned());
        }
    }

    fn addresses(&mut self, text: &str) {
        let is_end =
            |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'' | '<' | '>' | ')' | '`');
        for word in text.split(is_end) {
            if let Some(at) = word.find("http://").or_else(|| word.find("https://"))
                && self.names.len() < MOST_NAMES
                && word.len() < LONGEST_NAME
            {
                self.names.push(word[at..].trim_end_matches(['.', ',', ';', ':']).to_owned());
            }
        }
    }

    /// The files that a patch in the form of Codex' `apply_patch` touches.
    pub fn patch(&mut self, text: &str) {
        for line in text.lines() {
            let heads = ["*** Update File: ", "*** Add File: ", "*** Delete File: ", "*** Move to: "];
            if let Some(path) = heads.iter().find_map(|head| line.strip_prefix(head))
                && self.names.len() < MOST_NAMES
                && path.len() < LONGEST_NAME
            {
                self.is_patch = true;
                self.names.push(path.trim().to_owned());
            }
        }
    }
}

fn is_shell(word: &str) -> bool {
    super::is_shell(super::basename(word))
}

/// Whether this value is a path or an address: the field says so, or it looks like one.
fn is_name(field: &str, text: &str) -> bool {
    if text.is_empty() || text.len() > LONGEST_NAME || text.contains('\n') {
        return false;
    }
    let field = field.to_ascii_lowercase();
    let says = ["path", "file", "url", "uri", "directory", "folder"].iter().any(|word| field.contains(word));
    let looks = !text.contains(char::is_whitespace)
        && (text.starts_with(['/', '~'])
            || text.starts_with("./")
            || text.starts_with("../")
            || text.contains("://"));
    says || looks
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(input: &Value) -> (Vec<String>, Vec<String>) {
        let input = ToolInput::read(input);
        (input.commands, input.names)
    }

    fn names(input: &Value) -> Vec<String> {
        read(input).1
    }

    #[test]
    fn knows_commands_however_the_field_is_called() {
        for input in [
            json!({"command": "make test", "description": "Run /etc/x"}),
            json!({"cmd": "make test", "workdir": "/home/u"}),
            json!({"commands": ["make test"]}),
            json!({"command": ["bash", "-lc", "make test"]}),
        ] {
            assert_eq!(read(&input), (vec!["make test".to_owned()], vec![]), "{input}");
        }
        assert_eq!(read(&json!({"commands": ["a", "b"]})).0, ["a", "b"]);
        assert_eq!(read(&json!({"command": "view", "path": "/w/a"})), (vec![], vec!["/w/a".to_owned()]));
    }

    #[test]
    fn knows_files_and_addresses_and_leaves_content_alone() {
        assert_eq!(names(&json!({"filePath": "src/a.py", "content": "/etc/shadow"})), ["src/a.py"]);
        assert_eq!(
            names(&json!({"path": "/w/a", "edits": [{"oldText": "/etc/x", "newText": "/etc/y"}]})),
            ["/w/a"]
        );
        assert_eq!(names(&json!({"files": [{"path": "/w/a"}, {"path": "/w/b"}]})), ["/w/a", "/w/b"]);
        assert_eq!(names(&json!({"resource": "https://api.example/v1"})), ["https://api.example/v1"]);
        assert_eq!(
            names(&json!({"prompt": "Read https://api.example/a, then ~/.aws/credentials"})),
            ["https://api.example/a"]
        );
        assert_eq!(names(&json!({"query": "/etc/passwd", "pattern": "/etc/*"})), Vec::<String>::new());
        let patch = "*** Begin Patch\n*** Update File: /w/a\n@@\n-x\n+y\n*** Add File: b\n+z\n*** End Patch";
        assert_eq!(names(&json!(patch)), ["/w/a", "b"]);
        assert_eq!(names(&json!({"patchText": patch})), ["/w/a", "b"]);
    }

    #[test]
    fn huge_and_deep_input_is_bounded() {
        let mut deep = json!({"path": "/w/a"});
        for _ in 0..64 {
            deep = json!({ "inner": deep });
        }
        assert_eq!(names(&deep), Vec::<String>::new());
        assert_eq!(names(&json!({"paths": vec!["/w/a"; 10_000]})).len(), MOST_NAMES);
        assert_eq!(names(&json!({"path": "x".repeat(1 << 20)})), Vec::<String>::new());
    }
}
