//! Cline: its servers, the project's rules; options.

use super::document::Node;
use super::{Form, Found, Settings, Source};
use crate::event::Level;

pub const SETTINGS: Settings = Settings {
    sources: &[
        Source { level: Level::Project, file: "./.clinerules", form: Form::Instructions },
        Source { level: Level::Project, file: "./AGENTS.md", form: Form::Instructions },
        Source {
            level: Level::User,
            file: "~/.cline/data/settings/cline_mcp_settings.json",
            form: Form::Json(servers),
        },
        Source { level: Level::User, file: "~/.cline/mcp_settings.json", form: Form::Json(servers) },
    ],
    moved_by: &[],
    flags,
    is_last_holding: false,
};

fn servers(found: &mut Found<'_>, node: &Node) {
    found.servers(node.get("mcpServers"));
}

fn flags(found: &mut Found<'_>, words: &[String]) {
    if let Some(option) = super::has(words, &["-y", "--yolo", "--auto-approve-all"]) {
        found.mode(0, &option, true);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{flags, told_of};
    use super::SETTINGS;

    #[test]
    fn servers_and_options_are_told() {
        let text = r#"{"mcpServers": {"a": {"command": "node", "args": ["s.js"]}, "b": {"command": "x", "disabled": true}}}"#;
        assert_eq!(told_of(&SETTINGS, "~/.cline/mcp_settings.json", text), ["1 server a: node s.js"]);
        assert_eq!(flags(&SETTINGS, "cline|-y|x"), ["0 mode -y!"]);
        assert_eq!(flags(&SETTINGS, "cline|x"), [] as [&str; 0]);
    }
}
