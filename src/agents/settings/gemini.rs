//! Gemini CLI: `settings.json` of the machine, the user and the project; options. Qwen Code grew out of it and reads alike.

use super::document::Node;
use super::{Form, Found, Place, Settings, Source, divided, prefix, values};
use crate::event::{Level, Permission, Scope};

pub const SETTINGS: Settings = Settings {
    sources: &[
        Source { level: Level::Managed, file: "/etc/gemini-cli/settings.json", form: Form::Json(settings) },
        Source {
            level: Level::Managed,
            file: "/etc/gemini-cli/system-defaults.json",
            form: Form::Json(settings),
        },
        Source { level: Level::Project, file: "./.gemini/settings.json", form: Form::Json(settings) },
        Source { level: Level::Project, file: "./GEMINI.md", form: Form::Instructions },
        Source { level: Level::User, file: "~/.gemini/settings.json", form: Form::Json(settings) },
        Source { level: Level::User, file: "~/.gemini/GEMINI.md", form: Form::Instructions },
    ],
    moved_by: &[],
    flags,
    is_last_holding: false,
};

fn is_unasked(mode: &str) -> bool {
    matches!(mode, "yolo" | "YOLO")
}

/// Newer versions sort their settings into groups; older ones have them side by side.
pub(super) fn settings(found: &mut Found<'_>, node: &Node) {
    for path in [&["general", "defaultApprovalMode"][..], &["tools", "approvalMode"], &["approvalMode"]] {
        found.mode_at(node.at(path), is_unasked);
    }
    if let Some(off) = node.at(&["security", "disableYoloMode"]).filter(|off| off.is_true()) {
        found.mode(off.line, "no yolo", false);
    }
    for path in [&["tools", "allowed"][..], &["allowedTools"], &["tools", "core"], &["coreTools"]] {
        list(found, node.at(path), true);
    }
    for path in [&["tools", "exclude"][..], &["excludeTools"]] {
        list(found, node.at(path), false);
    }
    found.rules(node.get("permissions"), scope);
    let servers = node.get("mcpServers");
    found.servers(servers);
    for (name, server) in servers.map(Node::entries).unwrap_or_default() {
        if let Some(trust) = server.get("trust").filter(|trust| trust.is_true()) {
            found.allow(trust.line, &format!("{name} is trusted"), Scope::Server(name.clone()));
        }
    }
    found.hooks(node.get("hooks"));
    for path in [&["tools", "discoveryCommand"][..], &["tools", "callCommand"], &["toolDiscoveryCommand"]] {
        found.helper(path[path.len() - 1], node.at(path));
    }
}

fn list(found: &mut Found<'_>, list: Option<&Node>, is_allowed: bool) {
    for node in list.map(Node::list).unwrap_or_default() {
        if let Some(text) = node.text() {
            let scope = scope(text, found.place);
            if is_allowed {
                found.allow(node.line, text, scope);
            } else {
                found.deny(node.line, text, scope);
            }
        }
    }
}

/// `run_shell_command(git)`: the words that a command begins with.
fn scope(rule: &str, _: &Place) -> Scope {
    let (tool, inside) = super::parts(rule);
    match tool {
        "*" => Scope::Any,
        "run_shell_command" | "ShellTool" | "Bash" | "Shell" => {
            prefix(inside.unwrap_or_default().trim_end_matches(":*").trim_end_matches(" *"))
        }
        "read_file"
        | "read_many_files"
        | "ReadFileTool"
        | "glob"
        | "search_file_content"
        | "list_directory"
        | "Read" => Scope::Read("/**".to_owned()),
        "write_file" | "replace" | "edit" | "WriteFileTool" | "EditTool" | "Edit" | "Write" => {
            Scope::Write("/**".to_owned())
        }
        "web_fetch" | "WebFetchTool" | "WebFetch" => Scope::Host("*".to_owned()),
        tool => match tool.split_once("__").or_else(|| tool.split_once('.')) {
            Some((server, _)) if server != "mcp" => Scope::Server(server.to_owned()),
            _ => Scope::Other,
        },
    }
}

pub(super) fn flags(found: &mut Found<'_>, words: &[String]) {
    for mode in values(words, &["--approval-mode"], true) {
        found.mode(0, mode, is_unasked(mode));
    }
    if let Some(option) = super::has(words, &["--yolo", "-y"]) {
        found.mode(0, &option, true);
    }
    for text in values(words, &["--allowed-tools"], false) {
        for rule in divided(text) {
            let scope = scope(rule, found.place);
            found.allow(0, rule, scope);
        }
    }
    for text in values(words, &["--exclude-tools"], false) {
        for rule in divided(text) {
            let scope = scope(rule, found.place);
            found.deny(0, rule, scope);
        }
    }
    for name in values(words, &["--allowed-mcp-server-names"], false) {
        found.allow(0, name, Scope::Server(name.to_owned()));
    }
    if let Some(option) = super::has(words, &["--skip-trust"]) {
        found.put(0, Permission::Allow { text: option, scope: Scope::Other });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{flags, told_of};
    use super::SETTINGS;

    #[test]
    fn settings_are_told_with_their_lines() {
        let told = told_of(
            &SETTINGS,
            "./.gemini/settings.json",
            "{\n\"general\": {\"defaultApprovalMode\": \"yolo\"}, // fast\n\"tools\": {\"allowed\": [\"run_shell_command(git)\"],\n\"exclude\": [\"run_shell_command(rm -rf)\", \"web_fetch\"]},\n\"mcpServers\": {\"a\": {\"httpUrl\": \"http://a.example/mcp\", \"trust\": true}}}",
        );
        assert_eq!(
            told,
            [
                "2 mode yolo!",
                "3 allow run_shell_command(git) = command:git *",
                "4 deny run_shell_command(rm -rf) = command:rm -rf *",
                "4 deny web_fetch = host:*",
                "5 server a: http://a.example",
                "5 allow a is trusted = server:a",
            ]
        );
        let old =
            told_of(&SETTINGS, "~/.gemini/settings.json", r#"{"coreTools": ["ShellTool"], "theme": "x"}"#);
        assert_eq!(old, ["1 allow ShellTool = command:*"]);
    }

    #[test]
    fn options_are_told() {
        assert_eq!(flags(&SETTINGS, "gemini|--approval-mode=auto_edit|-p|x"), ["0 mode auto_edit"]);
        assert_eq!(flags(&SETTINGS, "gemini|-y|-p|x"), ["0 mode -y!"]);
        assert_eq!(
            flags(&SETTINGS, "gemini|--allowed-tools|run_shell_command(npm test),read_file"),
            ["0 allow run_shell_command(npm test) = command:npm test *", "0 allow read_file = read:/**"]
        );
    }
}
