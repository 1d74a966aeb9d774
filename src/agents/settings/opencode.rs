//! opencode: `opencode.json` of the machine, the user and the project. Of several rules that fit the last one holds.

use super::document::Node;
use super::{Form, Found, Settings, Source, glob};
use crate::event::{Level, Scope};

pub const SETTINGS: Settings = Settings {
    sources: &[
        Source { level: Level::Managed, file: "/etc/opencode/opencode.json*", form: Form::Json(settings) },
        Source { level: Level::Project, file: "./opencode.json*", form: Form::Json(settings) },
        Source { level: Level::Project, file: "./.opencode/opencode.json*", form: Form::Json(settings) },
        Source { level: Level::Project, file: "./AGENTS.md", form: Form::Instructions },
        Source { level: Level::User, file: "~/.config/opencode/opencode.json*", form: Form::Json(settings) },
        Source { level: Level::User, file: "~/.config/opencode/AGENTS.md", form: Form::Instructions },
    ],
    moved_by: &[],
    flags: |_, _| {},
    is_last_holding: true,
};

fn settings(found: &mut Found<'_>, node: &Node) {
    if let Some(permission) = node.get("permission") {
        // Everything is allowed, and nothing else is said.
        let is_all = |node: &Node| node.text() == Some("allow");
        let only = match permission.entries() {
            [(tool, value)] if tool == "*" => Some(value),
            _ => Some(permission),
        };
        if let Some(all) = only.filter(|node| is_all(node)) {
            found.mode(all.line, "permission: allow", true);
        }
        if let Some(word) = permission.text() {
            rule(found, "*", "*", word, permission.line);
        }
        for (tool, value) in permission.entries() {
            if let Some(word) = value.text() {
                rule(found, tool, "*", word, value.line);
            }
            for (pattern, word) in value.entries() {
                rule(found, tool, pattern, word.text().unwrap_or_default(), word.line);
            }
        }
    }
    found.servers(node.get("mcp"));
    found.hooks(node.at(&["experimental", "hook"]));
}

fn rule(found: &mut Found<'_>, tool: &str, pattern: &str, word: &str, line: u32) {
    let file = || if pattern == "*" { "/**".to_owned() } else { glob(pattern, found.place) };
    let scope = match tool {
        "*" => Scope::Any,
        "bash" => Scope::Command(pattern.to_owned()),
        "read" | "grep" | "glob" | "list" => Scope::Read(file()),
        "edit" | "write" | "patch" | "external_directory" => Scope::Write(file()),
        "webfetch" => Scope::Host("*".to_owned()),
        _ => Scope::Other,
    };
    let text = if pattern == "*" { tool.to_owned() } else { format!("{tool} {pattern}") };
    match word {
        "allow" => found.allow(line, &text, scope),
        "ask" => found.ask(line, &text, scope),
        "deny" => found.deny(line, &text, scope),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::told_of;
    use super::SETTINGS;

    #[test]
    fn settings_are_told_with_their_lines() {
        let told = told_of(
            &SETTINGS,
            "./opencode.json*",
            "{\"permission\": {\"bash\": {\"*\": \"ask\",\n\"git *\": \"allow\", \"git push *\": \"deny\"}, \"webfetch\": \"deny\"},\n\"mcp\": {\"a\": {\"type\": \"local\", \"command\": [\"bunx\", \"a\"]}}}",
        );
        assert_eq!(
            told,
            [
                "1 ask bash = command:*",
                "2 allow bash git * = command:git *",
                "2 deny bash git push * = command:git push *",
                "2 deny webfetch = host:*",
                "3 server a: bunx a",
            ]
        );
        let told =
            told_of(&SETTINGS, "~/.config/opencode/opencode.json*", r#"{"permission": {"*": "allow"}}"#);
        assert_eq!(told, ["1 mode permission: allow!", "1 allow * = any"]);
    }
}
