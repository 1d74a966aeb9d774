//! What a coding agent's settings in a project make it run: tool servers, and hooks.
//!
//! The texts were written by others and may be anything; what is not understood says nothing.

use serde_json::Value;

/// Settings in a project, below its folder.
pub const FILES: &[&str] = &[
    ".mcp.json",
    ".claude/settings.json",
    ".claude/settings.local.json",
    ".codex/config.toml",
    ".codex/hooks.json",
    ".cursor/mcp.json",
    ".cursor/hooks.json",
    ".gemini/settings.json",
    ".qwen/settings.json",
    ".vscode/mcp.json",
    "opencode.json",
];
/// What is kept of one file.
const MOST: usize = 64;
/// Values that hold one another this deep are read.
const DEEPEST: usize = 16;

/// The words that start each tool server, and the text of each hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    pub servers: Vec<Vec<String>>,
    pub hooks: Vec<String>,
}

/// What these settings make the agent run. `path` says in which form they are.
pub fn read(path: &str, text: &str) -> Runs {
    let mut runs = Runs::default();
    if path.rsplit('.').next() == Some("toml") {
        toml(text, &mut runs);
    } else if let Ok(value) = serde_json::from_str::<Value>(text) {
        walk(&value, "", 0, &mut runs);
    }
    runs.servers.truncate(MOST);
    runs.hooks.truncate(MOST);
    runs
}

fn walk(value: &Value, key: &str, depth: usize, runs: &mut Runs) {
    let Value::Object(members) = value else { return };
    if depth > DEEPEST {
        return;
    }
    let is_servers = matches!(key, "mcpServers" | "servers" | "mcp" | "context_servers");
    for (name, member) in members {
        if name == "hooks" {
            hooks(member, 0, &mut runs.hooks);
        } else if is_servers {
            runs.servers.extend(server(member));
        } else {
            walk(member, name, depth + 1, runs);
        }
    }
}

fn server(value: &Value) -> Option<Vec<String>> {
    let words = |value: &Value| -> Vec<String> {
        let items = value.as_array().into_iter().flatten();
        items.filter_map(Value::as_str).map(ToOwned::to_owned).collect()
    };
    let command = value.get("command")?;
    let mut all = command.as_str().map_or_else(|| words(command), |text| vec![text.to_owned()]);
    all.extend(value.get("args").map(words).unwrap_or_default());
    (!all.is_empty()).then_some(all)
}

/// Every text that a hook runs, however deep it lies.
fn hooks(value: &Value, depth: usize, found: &mut Vec<String>) {
    if depth > DEEPEST {
        return;
    }
    match value {
        Value::Array(values) => values.iter().for_each(|value| hooks(value, depth + 1, found)),
        Value::Object(members) => {
            for (name, member) in members {
                match member {
                    Value::String(text) if matches!(name.as_str(), "command" | "bash" | "run") => {
                        found.push(text.clone());
                    }
                    member => hooks(member, depth + 1, found),
                }
            }
        }
        _ => {}
    }
}

/// The tool servers of Codex's settings: `[mcp_servers.NAME]`, then `command` and `args` on a line each.
fn toml(text: &str, runs: &mut Runs) {
    let mut is_server = false;
    for line in text.lines().map(str::trim) {
        if line.starts_with('[') {
            is_server = line.starts_with("[mcp_servers.") && !line.ends_with(".env]");
            if is_server {
                runs.servers.push(Vec::new());
            }
        } else if is_server
            && let Some((name, value)) = line.split_once('=')
            && let Some(server) = runs.servers.last_mut()
        {
            let value = serde_json::from_str::<Value>(value.trim()).unwrap_or_default();
            match name.trim() {
                "command" => {
                    if let Some(command) = value.as_str() {
                        server.insert(0, command.to_owned());
                    }
                }
                "args" => {
                    server.extend(
                        value
                            .as_array()
                            .into_iter()
                            .flatten()
                            .filter_map(Value::as_str)
                            .map(ToOwned::to_owned),
                    );
                }
                _ => {}
            }
        }
    }
    runs.servers.retain(|server| !server.is_empty());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str, text: &str) -> (Vec<String>, Vec<String>) {
        let runs = read(path, text);
        (runs.servers.iter().map(|words| words.join(" ")).collect(), runs.hooks)
    }

    #[test]
    fn servers_and_hooks_of_each_form() {
        let claude = r#"{"hooks": {"SessionStart": [{"hooks": [{"type": "command", "command": "make hook"}]}]}, "model": "x"}"#;
        assert_eq!(shown(".claude/settings.json", claude), (vec![], vec!["make hook".to_owned()]));
        let servers = r#"{"mcpServers": {"a": {"command": "node", "args": ["s.js", "-x"]}, "b": {"url": "https://x.example"}}}"#;
        assert_eq!(shown(".mcp.json", servers), (vec!["node s.js -x".to_owned()], vec![]));
        let opencode = r#"{"mcp": {"a": {"type": "local", "command": ["bun", "s.ts"]}}}"#;
        assert_eq!(shown("opencode.json", opencode), (vec!["bun s.ts".to_owned()], vec![]));
        let codex = "model = \"x\"\n[mcp_servers.a]\nargs = [\"s.py\"]\ncommand = \"python3\"\n[mcp_servers.a.env]\nKEY = \"v\"\n[tui]\ncommand = \"no\"\n";
        assert_eq!(shown(".codex/config.toml", codex), (vec!["python3 s.py".to_owned()], vec![]));
        let cursor = r#"{"version": 1, "hooks": {"stop": [{"command": "./audit.sh"}]}}"#;
        assert_eq!(shown(".cursor/hooks.json", cursor), (vec![], vec!["./audit.sh".to_owned()]));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,200}") {
            read("x.json", &text);
            read("x.toml", &text);
        }
    }
}
