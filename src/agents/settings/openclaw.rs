//! `OpenClaw`: `openclaw.json`, in the wider form of JSON: how its shell asks, its sandbox, its tools.

use super::document::Node;
use super::{Form, Found, Settings, Source};
use crate::event::{Level, Scope};

pub const SETTINGS: Settings = Settings {
    sources: &[Source { level: Level::User, file: "~/.openclaw/openclaw.json", form: Form::Json(settings) }],
    moved_by: &[("OPENCLAW_STATE_DIR", "~/.openclaw")],
    flags: |_, _| {},
    is_last_holding: false,
};

fn settings(found: &mut Found<'_>, node: &Node) {
    found.mode_at(node.at(&["tools", "exec", "security"]), |_| false);
    found.mode_at(node.at(&["tools", "exec", "ask"]), |_| false);
    found.mode_at(node.at(&["agents", "defaults", "sandbox", "mode"]), |_| false);
    let tools = node.get("tools");
    found.rules(tools, |rule, _| match rule {
        "*" => Scope::Any,
        "exec" | "bash" | "shell" | "group:runtime" => Scope::Command("*".to_owned()),
        "read" => Scope::Read("/**".to_owned()),
        "write" | "edit" | "apply_patch" | "group:fs" => Scope::Write("/**".to_owned()),
        "web_fetch" => Scope::Host("*".to_owned()),
        _ => Scope::Other,
    });
    found.servers(node.at(&["mcp", "servers"]).or_else(|| node.get("mcpServers")));
}

#[cfg(test)]
mod tests {
    use super::super::tests::told_of;
    use super::SETTINGS;

    #[test]
    fn settings_are_told_with_their_lines() {
        let told = told_of(
            &SETTINGS,
            "~/.openclaw/openclaw.json",
            "{\n  tools: {exec: {security: 'full', ask: 'off'}, deny: ['exec',]}, // mine\n}",
        );
        assert_eq!(told, ["2 mode full", "2 mode off", "2 deny exec = command:*"]);
    }
}
