//! Claude Desktop: its servers. From its documentation.

use super::document::Node;
use super::{Form, Found, Settings, Source};
use crate::event::Level;

pub const SETTINGS: Settings = Settings {
    sources: &[
        Source {
            level: Level::User,
            file: "~/.config/Claude/claude_desktop_config.json",
            form: Form::Json(servers),
        },
        Source {
            level: Level::User,
            file: "~/Library/Application Support/Claude/claude_desktop_config.json",
            form: Form::Json(servers),
        },
    ],
    moved_by: &[],
    flags: |_, _| {},
    is_last_holding: false,
};

fn servers(found: &mut Found<'_>, node: &Node) {
    found.servers(node.get("mcpServers"));
}

#[cfg(test)]
mod tests {
    use super::super::tests::told_of;
    use super::SETTINGS;

    #[test]
    fn servers_are_told() {
        let text = r#"{"mcpServers": {"a": {"command": "uvx", "args": ["a"]}}}"#;
        let told = told_of(&SETTINGS, "~/.config/Claude/claude_desktop_config.json", text);
        assert_eq!(told, ["1 server a: uvx a"]);
    }
}
