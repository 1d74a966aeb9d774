//! Codex: `config.toml` of the machine, the user and the project; `hooks.json`; options.

use super::document::Node;
use super::{Form, Found, Settings, Source, glob, values};
use crate::event::{Level, Permission, Scope};

pub const SETTINGS: Settings = Settings {
    sources: &[
        Source { level: Level::Managed, file: "/etc/codex/managed_config.toml", form: Form::Toml(settings) },
        Source { level: Level::Managed, file: "/etc/codex/requirements.toml", form: Form::Toml(settings) },
        Source { level: Level::Managed, file: "/etc/codex/config.toml", form: Form::Toml(settings) },
        Source { level: Level::Project, file: "./.codex/config.toml", form: Form::Toml(settings) },
        Source { level: Level::Project, file: "./.codex/hooks.json", form: Form::Json(hooks) },
        Source { level: Level::Project, file: "./AGENTS.md", form: Form::Instructions },
        Source { level: Level::User, file: "~/.codex/config.toml", form: Form::Toml(settings) },
        Source { level: Level::User, file: "~/.codex/hooks.json", form: Form::Json(hooks) },
        Source { level: Level::User, file: "~/.codex/AGENTS.md", form: Form::Instructions },
    ],
    moved_by: &[("CODEX_HOME", "~/.codex")],
    flags,
    is_last_holding: false,
};

/// The sandbox is what holds it back; without one it does whatever it likes.
fn is_unasked(mode: &str) -> bool {
    mode == "danger-full-access"
}

fn settings(found: &mut Found<'_>, node: &Node) {
    found.mode_at(node.get("sandbox_mode"), is_unasked);
    found.mode_at(node.get("approval_policy"), |_| false);
    if let Some(open) = node.at(&["sandbox_workspace_write", "network_access"]).filter(|open| open.is_true())
    {
        found.allow(open.line, "network_access", Scope::Host("*".to_owned()));
    }
    for root in node.at(&["sandbox_workspace_write", "writable_roots"]).into_iter().flat_map(Node::list) {
        if let Some(path) = root.text() {
            let scope = Scope::Write(glob(&format!("{}/**", path.trim_end_matches('/')), found.place));
            found.allow(root.line, path, scope);
        }
    }
    found.servers(node.get("mcp_servers"));
    let program = node.get("notify").map(Node::list).unwrap_or_default();
    if let Some(first) = program.first() {
        let command = program.iter().filter_map(Node::text).collect::<Vec<_>>().join(" ");
        found.put(
            first.line,
            Permission::Hook { event: "notify".to_owned(), command: super::short(&command), own: false },
        );
    }
    found.hooks(node.get("hooks"));
}

fn hooks(found: &mut Found<'_>, node: &Node) {
    found.hooks(Some(node.get("hooks").unwrap_or(node)));
}

fn flags(found: &mut Found<'_>, words: &[String]) {
    for mode in values(words, &["-s", "--sandbox"], true) {
        found.mode(0, mode, is_unasked(mode));
    }
    for policy in values(words, &["-a", "--ask-for-approval"], true) {
        found.mode(0, policy, false);
    }
    if let Some(option) = super::has(words, &["--dangerously-bypass-approvals-and-sandbox", "--yolo"]) {
        found.mode(0, &option, true);
    }
    if let Some(option) = super::has(words, &["--full-auto"]) {
        found.mode(0, &option, false);
    }
    for path in values(words, &["--add-dir"], true) {
        let scope = Scope::Write(glob(&format!("{}/**", path.trim_end_matches('/')), found.place));
        found.allow(0, path, scope);
    }
    // `-c key=value`, the value in TOML.
    for text in values(words, &["-c", "--config"], true) {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        // A bare word is a text, as the agent reads it.
        let is_word = value.starts_with(|letter: char| letter.is_ascii_alphabetic());
        let is_text = is_word && !matches!(value, "true" | "false");
        let quoted = format!("{key} = '{value}'");
        let node = super::document::toml(if is_text { &quoted } else { text });
        if let Ok(node) = node {
            settings(found, &node);
        }
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
            "~/.codex/config.toml",
            "approval_policy = \"never\"\nsandbox_mode = \"danger-full-access\"\nnotify = [\"notify-send\", \"done\"]\n\n[sandbox_workspace_write]\nnetwork_access = true\nwritable_roots = [\"/srv/cache\"]\n\n[mcp_servers.docs]\ncommand = \"npx\"\nargs = [\"-y\", \"docs-server\"]\nenv = { DOCS_TOKEN = \"not-a-real-one\" }\n\n[mcp_servers.off]\ncommand = \"x\"\nenabled = false\n",
        );
        assert_eq!(
            told,
            [
                "2 mode danger-full-access!",
                "1 mode never",
                "6 allow network_access = host:*",
                "7 allow /srv/cache = write:/srv/cache/**",
                "9 server docs: npx -y docs-server",
                "3 hook notify: notify-send done",
                "12 secret mcp_servers.docs.env.DOCS_TOKEN",
            ]
        );
    }

    #[test]
    fn options_are_told() {
        assert_eq!(
            flags(
                &SETTINGS,
                "codex|exec|--sandbox|workspace-write|-c|approval_policy=never|-c|sandbox_mode=\"danger-full-access\"|x"
            ),
            ["0 mode workspace-write", "0 mode never", "0 mode danger-full-access!"]
        );
        assert_eq!(
            flags(&SETTINGS, "codex|exec|--dangerously-bypass-approvals-and-sandbox|x"),
            ["0 mode --dangerously-bypass-approvals-and-sandbox!"]
        );
        assert_eq!(flags(&SETTINGS, "codex|exec|x"), [] as [&str; 0]);
    }
}
