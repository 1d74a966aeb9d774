//! Claude Code: `settings.json` of the machine, the user, the project and the user for the project; `.mcp.json`; options.

use super::document::Node;
use super::{Form, Found, Place, Settings, Source, divided, glob, prefix, values};
use crate::event::{Level, Permission, Scope};

pub const SETTINGS: Settings = Settings {
    sources: &[
        Source {
            level: Level::Managed,
            file: "/etc/claude-code/managed-settings.json",
            form: Form::Json(settings),
        },
        Source {
            level: Level::Managed,
            file: "/etc/claude-code/managed-settings.d/*.json",
            form: Form::Json(settings),
        },
        Source {
            level: Level::Managed,
            file: "/etc/claude-code/managed-mcp.json",
            form: Form::Json(servers),
        },
        Source { level: Level::Managed, file: "/etc/claude-code/CLAUDE.md", form: Form::Instructions },
        Source { level: Level::Local, file: "./.claude/settings.local.json", form: Form::Json(settings) },
        Source { level: Level::Project, file: "./.claude/settings.json", form: Form::Json(settings) },
        Source { level: Level::Project, file: "./.mcp.json", form: Form::Json(servers) },
        Source { level: Level::Project, file: "./CLAUDE.md", form: Form::Instructions },
        Source { level: Level::Project, file: "./.claude/CLAUDE.md", form: Form::Instructions },
        Source { level: Level::Local, file: "./CLAUDE.local.md", form: Form::Instructions },
        Source { level: Level::User, file: "~/.claude/settings.json", form: Form::Json(settings) },
        Source { level: Level::User, file: "~/.claude/CLAUDE.md", form: Form::Instructions },
        Source { level: Level::User, file: "~/.claude.json", form: Form::Json(state) },
    ],
    moved_by: &[("CLAUDE_CONFIG_DIR", "~/.claude")],
    flags,
    is_last_holding: false,
};

fn settings(found: &mut Found<'_>, node: &Node) {
    let permissions = node.get("permissions");
    found.mode_at(permissions.and_then(|it| it.get("defaultMode")), is_unasked);
    if let Some(off) = permissions.and_then(|it| it.get("disableBypassPermissionsMode")) {
        found.mode(off.line, "no bypassPermissions", false);
    }
    found.rules(permissions, scope);
    for folder in permissions.and_then(|it| it.get("additionalDirectories")).into_iter().flat_map(Node::list)
    {
        if let Some(path) = folder.text() {
            let scope = Scope::Write(glob(&format!("{}/**", path.trim_end_matches('/')), found.place));
            found.allow(folder.line, path, scope);
        }
    }
    if let Some(all) = node.get("enableAllProjectMcpServers").filter(|all| all.is_true()) {
        found.allow(all.line, "enableAllProjectMcpServers", Scope::Server("*".to_owned()));
    }
    for server in node.get("enabledMcpjsonServers").into_iter().flat_map(Node::list) {
        if let Some(name) = server.text() {
            found.allow(server.line, name, Scope::Server(name.to_owned()));
        }
    }
    if !node.get("disableAllHooks").is_some_and(Node::is_true) {
        found.hooks(node.get("hooks"));
    }
    for helper in ["apiKeyHelper", "awsAuthRefresh", "awsCredentialExport", "otelHeadersHelper"] {
        found.helper(helper, node.get(helper));
    }
    found.helper("statusLine", node.at(&["statusLine", "command"]));
    found.servers(node.get("mcpServers"));
}

fn servers(found: &mut Found<'_>, node: &Node) {
    found.servers(node.get("mcpServers"));
}

/// What the agent keeps for itself: servers of the user, and servers and tools by project.
fn state(found: &mut Found<'_>, node: &Node) {
    found.servers(node.get("mcpServers"));
    for (folder, project) in node.get("projects").map(Node::entries).unwrap_or_default() {
        if *folder != found.place.project {
            continue;
        }
        found.servers(project.get("mcpServers"));
        for tool in project.get("allowedTools").into_iter().flat_map(Node::list) {
            if let Some(text) = tool.text() {
                let scope = scope(text, found.place);
                found.allow(tool.line, text, scope);
            }
        }
    }
}

fn is_unasked(mode: &str) -> bool {
    mode == "bypassPermissions"
}

/// `Bash(npm test:*)`, `Read(~/.ssh/**)`, `WebFetch(domain:x.example)`, `mcp__server__tool`.
pub(super) fn scope(rule: &str, place: &Place) -> Scope {
    let (tool, inside) = super::parts(rule);
    let inside = inside.filter(|inside| !inside.is_empty());
    let file = |inside: Option<&str>| match inside {
        // Here one slash is the project's folder, and two are the root.
        Some(path) => match path.strip_prefix('/') {
            Some(absolute) if absolute.starts_with('/') => glob(absolute, place),
            Some(rest) => glob(&format!("./{rest}"), place),
            None => glob(path, place),
        },
        None => "/**".to_owned(),
    };
    match tool {
        "*" => Scope::Any,
        "Bash" => match inside {
            Some(text) => match text.strip_suffix(":*") {
                Some(command) => prefix(command),
                None => Scope::Command(text.to_owned()),
            },
            None => Scope::Command("*".to_owned()),
        },
        "Read" | "Glob" | "Grep" | "LS" | "NotebookRead" => Scope::Read(file(inside)),
        "Edit" | "Write" | "MultiEdit" | "NotebookEdit" => Scope::Write(file(inside)),
        "WebFetch" => Scope::Host(
            inside.map_or("*", |inside| inside.trim_start_matches("domain:").trim()).to_ascii_lowercase(),
        ),
        tool => match tool.strip_prefix("mcp__") {
            Some(rest) => Scope::Server(rest.split("__").next().unwrap_or(rest).to_owned()),
            None => Scope::Other,
        },
    }
}

fn flags(found: &mut Found<'_>, words: &[String]) {
    for mode in values(words, &["--permission-mode"], true) {
        found.mode(0, mode, is_unasked(mode));
    }
    if let Some(option) = super::has(words, &["--dangerously-skip-permissions"]) {
        found.mode(0, &option, true);
    }
    for text in values(words, &["--allowedTools", "--allowed-tools"], false) {
        for rule in divided(text) {
            let scope = scope(rule, found.place);
            found.allow(0, rule, scope);
        }
    }
    for text in values(words, &["--disallowedTools", "--disallowed-tools"], false) {
        for rule in divided(text) {
            let scope = scope(rule, found.place);
            found.deny(0, rule, scope);
        }
    }
    for path in values(words, &["--add-dir"], false) {
        let scope = Scope::Write(glob(&format!("{}/**", path.trim_end_matches('/')), found.place));
        found.allow(0, path, scope);
    }
    for text in values(words, &["--mcp-config"], false) {
        match super::document::json(text) {
            Ok(node) => servers(found, &node),
            Err(_) => found
                .put(0, Permission::Server { name: "--mcp-config".to_owned(), start: super::short(text) }),
        }
    }
    for text in values(words, &["--settings"], true) {
        if let Ok(node) = super::document::json(text) {
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
            "./.claude/settings.json",
            r#"{
  "permissions": {
    "defaultMode": "bypassPermissions",
    "allow": ["Bash(npm test:*)", "Bash", "WebFetch(domain:docs.example)", "mcp__files__read"],
    "ask": ["Bash(git push *)"],
    "deny": ["Read(./.env)", "Read(~/.aws/**)", "Read(//etc/shadow)", "Edit(/secrets/**)", "Read(.env*)", 7]
  },
  "hooks": {"PreToolUse": [{"matcher": "Bash", "hooks": [{"type": "command", "command": "./check.sh --fast"}]}]},
  "env": {"API_TOKEN": "not-a-real-one", "PATH": "/usr/bin"},
  "apiKeyHelper": "~/bin/key",
  "enableAllProjectMcpServers": true
}"#,
        );
        assert_eq!(
            told,
            [
                "3 mode bypassPermissions!",
                "4 allow Bash(npm test:*) = command:npm test *",
                "4 allow Bash = command:*",
                "4 allow WebFetch(domain:docs.example) = host:docs.example",
                "4 allow mcp__files__read = server:files",
                "5 ask Bash(git push *) = command:git push *",
                "6 deny Read(./.env) = read:/w/.env",
                "6 deny Read(~/.aws/**) = read:/home/u/.aws/**",
                "6 deny Read(//etc/shadow) = read:/etc/shadow",
                "6 deny Edit(/secrets/**) = write:/w/secrets/**",
                "6 deny Read(.env*) = read:/w/**/.env*",
                "11 allow enableAllProjectMcpServers = server:*",
                "8 hook PreToolUse: ./check.sh --fast",
                "10 hook apiKeyHelper: ~/bin/key",
                "9 secret env.API_TOKEN",
            ]
        );
    }

    #[test]
    fn servers_of_other_projects_are_none_of_this_one() {
        let text = r#"{"mcpServers": {"a": {"command": "a"}}, "projects": {
          "/w": {"mcpServers": {"b": {"url": "https://b.example/x"}}, "allowedTools": ["Bash(ls:*)"]},
          "/other": {"mcpServers": {"c": {"command": "c"}}}}}"#;
        let told = told_of(&SETTINGS, "~/.claude.json", text);
        assert_eq!(
            told,
            ["1 server a: a", "2 server b: https://b.example", "2 allow Bash(ls:*) = command:ls *"]
        );
    }

    #[test]
    fn options_are_told() {
        let told = flags(
            &SETTINGS,
            "claude|-p|x|--allowedTools|Bash(make test),Read|Edit|--disallowedTools=Bash(curl:*)|--permission-mode|acceptEdits|--mcp-config|{\"mcpServers\":{\"a\":{\"command\":\"npx\",\"args\":[\"-y\",\"p\"]}}}|--settings|{\"permissions\":{\"deny\":[\"Bash(rm:*)\"]}}",
        );
        assert_eq!(
            told,
            [
                "0 mode acceptEdits",
                "0 allow Bash(make test) = command:make test",
                "0 allow Read = read:/**",
                "0 allow Edit = write:/**",
                "0 deny Bash(curl:*) = command:curl *",
                "0 server a: npx -y p",
                "0 deny Bash(rm:*) = command:rm *",
            ]
        );
        assert_eq!(
            flags(&SETTINGS, "claude|--dangerously-skip-permissions|-p|x"),
            ["0 mode --dangerously-skip-permissions!"]
        );
        assert_eq!(flags(&SETTINGS, "claude|-p|x"), [] as [&str; 0]);
    }
}
