//! Cursor CLI: `cli-config.json` of the user, `.cursor/cli.json` of the project, hooks, servers; options. From its documentation.

use super::document::Node;
use super::{Form, Found, Place, Settings, Source, glob, prefix};
use crate::event::{Level, Scope};

pub const SETTINGS: Settings = Settings {
    sources: &[
        Source { level: Level::Managed, file: "/etc/cursor/hooks.json", form: Form::Json(hooks) },
        Source { level: Level::Project, file: "./.cursor/cli.json", form: Form::Json(settings) },
        Source { level: Level::Project, file: "./.cursor/mcp.json", form: Form::Json(servers) },
        Source { level: Level::Project, file: "./.cursor/hooks.json", form: Form::Json(hooks) },
        Source { level: Level::Project, file: "./.cursorrules", form: Form::Instructions },
        Source { level: Level::Project, file: "./AGENTS.md", form: Form::Instructions },
        Source { level: Level::User, file: "~/.cursor/cli-config.json", form: Form::Json(settings) },
        Source { level: Level::User, file: "~/.cursor/permissions.json", form: Form::Json(permissions) },
        Source { level: Level::User, file: "~/.cursor/mcp.json", form: Form::Json(servers) },
        Source { level: Level::User, file: "~/.cursor/hooks.json", form: Form::Json(hooks) },
    ],
    moved_by: &[("CURSOR_CONFIG_DIR", "~/.cursor")],
    flags: |_, _| {},
    is_last_holding: false,
};

fn settings(found: &mut Found<'_>, node: &Node) {
    found.mode_at(node.get("approvalMode"), |mode| matches!(mode, "unrestricted" | "yolo"));
    found.rules(node.get("permissions"), scope);
}

fn permissions(found: &mut Found<'_>, node: &Node) {
    for (name, is_command) in [("terminalAllowlist", true), ("mcpAllowlist", false)] {
        for entry in node.get(name).into_iter().flat_map(Node::list) {
            let Some(text) = entry.text() else { continue };
            let scope = if is_command {
                prefix(text)
            } else {
                Scope::Server(text.split(':').next().unwrap_or(text).to_owned())
            };
            found.allow(entry.line, text, scope);
        }
    }
}

fn servers(found: &mut Found<'_>, node: &Node) {
    found.servers(node.get("mcpServers"));
}

fn hooks(found: &mut Found<'_>, node: &Node) {
    found.hooks(node.get("hooks"));
}

/// `Shell(git)`, `Shell(curl:*)`, `Read(src/**)`, `Write(**/.env)`, `WebFetch(x.example)`, `Mcp(server:tool)`.
fn scope(rule: &str, place: &Place) -> Scope {
    let (kind, inside) = super::parts(rule);
    let inside = inside.unwrap_or_default();
    match kind {
        "*" => Scope::Any,
        "Shell" => match inside.split_once(':') {
            Some((command, "*")) => prefix(command),
            Some((command, words)) => Scope::Command(format!("{command} {words}")),
            None => prefix(inside),
        },
        "Read" => Scope::Read(glob(inside, place)),
        "Write" => Scope::Write(glob(inside, place)),
        "WebFetch" => Scope::Host(inside.to_ascii_lowercase()),
        "Mcp" => Scope::Server(inside.split(':').next().unwrap_or_default().to_owned()),
        _ => Scope::Other,
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
            "./.cursor/cli.json",
            "{\"permissions\": {\"allow\": [\"Shell(ls)\"],\n\"deny\": [\"Shell(curl:*)\", \"Write(**/.env)\", \"Read(~/.ssh/**)\"]}}",
        );
        assert_eq!(
            told,
            [
                "1 allow Shell(ls) = command:ls *",
                "2 deny Shell(curl:*) = command:curl *",
                "2 deny Write(**/.env) = write:/w/**/.env",
                "2 deny Read(~/.ssh/**) = read:/home/u/.ssh/**",
            ]
        );
        assert_eq!(flags(&SETTINGS, "cursor-agent|-p|--force|x"), ["0 mode --force!"]);
    }
}
