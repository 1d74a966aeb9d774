//! Copilot CLI: what it keeps of the user's answers, its servers, the repository's hooks; options.

use super::document::Node;
use super::{Form, Found, Place, Settings, Source, glob, prefix, values};
use crate::event::{Level, Scope};

pub const SETTINGS: Settings = Settings {
    sources: &[
        Source { level: Level::Project, file: "./.github/hooks/*.json", form: Form::Json(hooks) },
        Source { level: Level::Project, file: "./.mcp.json", form: Form::Json(servers) },
        Source { level: Level::Project, file: "./.github/copilot-instructions.md", form: Form::Instructions },
        Source { level: Level::Project, file: "./AGENTS.md", form: Form::Instructions },
        Source { level: Level::User, file: "~/.copilot/config.json", form: Form::Json(settings) },
        Source { level: Level::User, file: "~/.copilot/settings.json", form: Form::Json(settings) },
        Source { level: Level::User, file: "~/.copilot/mcp-config.json", form: Form::Json(servers) },
        Source { level: Level::User, file: "~/.copilot/hooks/*.json", form: Form::Json(hooks) },
    ],
    moved_by: &[("COPILOT_HOME", "~/.copilot")],
    flags,
    is_last_holding: false,
};

fn settings(found: &mut Found<'_>, node: &Node) {
    for (name, is_allowed) in
        [("allowed_urls", true), ("allowedUrls", true), ("denied_urls", false), ("deniedUrls", false)]
    {
        for url in node.get(name).into_iter().flat_map(Node::list) {
            let Some(text) = url.text() else { continue };
            let scope = Scope::Host(host(text));
            if is_allowed { found.allow(url.line, text, scope) } else { found.deny(url.line, text, scope) }
        }
    }
    found.hooks(node.get("hooks"));
    servers(found, node);
}

fn servers(found: &mut Found<'_>, node: &Node) {
    found.servers(node.get("mcpServers").or_else(|| node.get("servers")));
}

fn hooks(found: &mut Found<'_>, node: &Node) {
    found.hooks(node.get("hooks"));
}

fn host(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.split(['/', ':']).next().unwrap_or(rest).to_ascii_lowercase()
}

/// `shell(git push)`, `shell(git:*)`, `write(path)`, `url(host)`, `server(tool)`.
fn scope(rule: &str, place: &Place) -> Scope {
    let (kind, inside) = super::parts(rule);
    let inside = inside.unwrap_or_default();
    match kind {
        "*" => Scope::Any,
        "shell" => match inside.strip_suffix(":*") {
            Some(command) => prefix(command),
            None => prefix(inside),
        },
        "write" if inside.is_empty() => Scope::Write("/**".to_owned()),
        "write" => Scope::Write(glob(inside, place)),
        "read" => Scope::Read("/**".to_owned()),
        "url" if inside.is_empty() => Scope::Host("*".to_owned()),
        "url" => Scope::Host(host(inside)),
        server => Scope::Server(server.to_owned()),
    }
}

fn flags(found: &mut Found<'_>, words: &[String]) {
    for option in ["--allow-all", "--yolo", "--allow-all-tools"] {
        if super::has(words, &[option]).is_some() {
            found.mode(0, option, true);
        }
    }
    if let Some(option) = super::has(words, &["--allow-all-paths"]) {
        found.allow(0, &option, Scope::Write("/**".to_owned()));
    }
    if let Some(option) = super::has(words, &["--allow-all-urls"]) {
        found.allow(0, &option, Scope::Host("*".to_owned()));
    }
    for rule in values(words, &["--allow-tool"], false) {
        let scope = scope(rule, found.place);
        found.allow(0, rule, scope);
    }
    for rule in values(words, &["--deny-tool"], false) {
        let scope = scope(rule, found.place);
        found.deny(0, rule, scope);
    }
    for url in values(words, &["--allow-url"], false) {
        found.allow(0, url, Scope::Host(host(url)));
    }
    for url in values(words, &["--deny-url"], false) {
        found.deny(0, url, Scope::Host(host(url)));
    }
    for path in values(words, &["--add-dir"], false) {
        let scope = Scope::Write(glob(&format!("{}/**", path.trim_end_matches('/')), found.place));
        found.allow(0, path, scope);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{flags, told_of};
    use super::SETTINGS;

    #[test]
    fn settings_and_hooks_are_told() {
        let told = told_of(
            &SETTINGS,
            "./.github/hooks/*.json",
            r#"{"version": 1, "hooks": {"preToolUse": [{"type": "command", "bash": "./h.sh"}]}}"#,
        );
        assert_eq!(told, ["1 hook preToolUse: ./h.sh"]);
        let told =
            told_of(&SETTINGS, "~/.copilot/config.json", r#"{"denied_urls": ["https://x.example/a"]}"#);
        assert_eq!(told, ["1 deny https://x.example/a = host:x.example"]);
    }

    #[test]
    fn options_are_told() {
        assert_eq!(
            flags(
                &SETTINGS,
                "copilot|-p|x|--allow-tool|shell(npm test)|--deny-tool|shell(git push)|--deny-tool=write|--deny-url|x.example"
            ),
            [
                "0 allow shell(npm test) = command:npm test *",
                "0 deny shell(git push) = command:git push *",
                "0 deny write = write:/**",
                "0 deny x.example = host:x.example",
            ]
        );
        assert_eq!(
            flags(&SETTINGS, "copilot|-p|x|--allow-all-tools|--allow-all-paths"),
            ["0 mode --allow-all-tools!", "0 allow --allow-all-paths = write:/**"]
        );
    }
}
