//! What agents' settings files and command lines say that they may do: one file per agent.
//!
//! Every source is data and may be anything. Rules are kept as they are written, and beside that in one form for all
//! agents (`Scope`). Values of secrets are not kept; a key that holds one is.

mod aider;
mod claude_code;
mod claude_desktop;
mod cline;
mod codex;
mod copilot;
mod cursor;
pub mod document;
mod gemini;
mod openclaw;
mod opencode;
mod qwen;
pub mod server;

use std::sync::LazyLock;

use regex::Regex;

use crate::event::{Level, Permission, Scope, Setting, normal_path};
use document::{Node, Value};

pub use aider::SETTINGS as AIDER;
pub use claude_code::SETTINGS as CLAUDE_CODE;
pub use claude_desktop::SETTINGS as CLAUDE_DESKTOP;
pub use cline::SETTINGS as CLINE;
pub use codex::SETTINGS as CODEX;
pub use copilot::SETTINGS as COPILOT;
pub use cursor::SETTINGS as CURSOR;
pub use gemini::SETTINGS as GEMINI;
pub use openclaw::SETTINGS as OPENCLAW;
pub use opencode::SETTINGS as OPENCODE;
pub use qwen::SETTINGS as QWEN;

/// Where an agent is told what it may do.
#[derive(Debug)]
pub struct Settings {
    pub sources: &'static [Source],
    /// Variables that move a folder: `CLAUDE_CONFIG_DIR` stands for `~/.claude`.
    pub moved_by: &'static [(&'static str, &'static str)],
    /// What the words behind the agent's program say.
    pub flags: fn(&mut Found<'_>, &[String]),
    /// Of several rules that fit the last one holds; else the strictest.
    pub is_last_holding: bool,
}

/// Of an agent whose settings are not read.
pub const NONE: Settings = Settings { sources: &[], moved_by: &[], flags: |_, _| {}, is_last_holding: false };

/// One file.
#[derive(Debug)]
pub struct Source {
    pub level: Level,
    /// `~/…`, `./…` of the project, or absolute. The last part may hold a `*`.
    pub file: &'static str,
    pub form: Form,
}

/// How a file is read.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    Json(fn(&mut Found<'_>, &Node)),
    Toml(fn(&mut Found<'_>, &Node)),
    Lines(fn(&mut Found<'_>, &str)),
    /// That it is there is all that counts.
    Instructions,
}

/// For whom a source is read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub home: String,
    /// The folder that `./` stands for.
    pub project: String,
}

/// What a source says, as far as it was read.
#[derive(Debug)]
pub struct Found<'p> {
    place: &'p Place,
    items: Vec<Setting>,
    is_cut: bool,
}

/// What a text of this form says, and what is wrong with it.
pub fn read(form: Form, place: &Place, text: &str) -> (Vec<Setting>, Option<String>) {
    let mut found = Found { place, items: Vec::new(), is_cut: false };
    let mut tree = |result: Result<Node, document::Problem>, read: fn(&mut Found<'_>, &Node)| match result {
        Ok(node) => {
            read(&mut found, &node);
            found.secrets(&mut Vec::new(), &node);
            None
        }
        Err(problem) => Some(problem.shown(text)),
    };
    // An empty file says nothing, and agents take it for that.
    let problem = if text.trim().is_empty() && !matches!(form, Form::Instructions) {
        None
    } else {
        match form {
            Form::Json(read) => tree(document::json(text), read),
            Form::Toml(read) => tree(document::toml(text), read),
            Form::Lines(read) => {
                read(&mut found, text);
                None
            }
            Form::Instructions => {
                found.put(0, Permission::Instructions);
                None
            }
        }
    };
    let cut = found.is_cut.then(|| format!("it says more than the {MOST} things that are kept"));
    (found.items, problem.or(cut))
}

/// What the command line of an agent says.
pub fn command_line(settings: &Settings, place: &Place, words: &[String]) -> Vec<Setting> {
    let mut found = Found { place, items: Vec::new(), is_cut: false };
    (settings.flags)(&mut found, words.get(1..).unwrap_or_default());
    if let Some(option) = super::unasked(words)
        && !found.items.iter().any(|item| matches!(item.what, Permission::Mode { unasked: true, .. }))
    {
        found.mode(0, option, true);
    }
    found.items.iter_mut().for_each(|item| item.line = 0);
    found.items
}

/// Where agents keep their own login, in files that hold settings as well: it is there on purpose.
const OWN_LOGINS: &[&str] =
    &["primaryApiKey", "oauthAccount", "customApiKeyResponses", "copilot_tokens", "copilotTokens"];
const MOST: usize = 1000;
const LONGEST: usize = 200;

impl Found<'_> {
    fn put(&mut self, line: u32, what: Permission) {
        if self.items.len() < MOST {
            self.items.push(Setting { line, what });
        } else {
            self.is_cut = true;
        }
    }

    fn mode(&mut self, line: u32, text: &str, unasked: bool) {
        self.put(line, Permission::Mode { text: short(text), unasked });
    }

    /// A mode that stands as a text.
    fn mode_at(&mut self, node: Option<&Node>, is_unasked: impl Fn(&str) -> bool) {
        if let Some((node, text)) = node.and_then(|node| Some((node, node.text()?))) {
            self.mode(node.line, text, is_unasked(text));
        }
    }

    fn allow(&mut self, line: u32, text: &str, scope: Scope) {
        self.put(line, Permission::Allow { text: short(text), scope });
    }

    fn ask(&mut self, line: u32, text: &str, scope: Scope) {
        self.put(line, Permission::Ask { text: short(text), scope });
    }

    fn deny(&mut self, line: u32, text: &str, scope: Scope) {
        self.put(line, Permission::Deny { text: short(text), scope });
    }

    /// The rules of lists called `allow`, `ask` and `deny`.
    fn rules(&mut self, lists: Option<&Node>, scope: impl Fn(&str, &Place) -> Scope) {
        let Some(lists) = lists else { return };
        for (verb, list) in lists.entries() {
            for node in list.list() {
                let Some(text) = node.text() else { continue };
                let scope = scope(text, self.place);
                match verb.as_str() {
                    "allow" => self.allow(node.line, text, scope),
                    "ask" => self.ask(node.line, text, scope),
                    "deny" => self.deny(node.line, text, scope),
                    _ => {}
                }
            }
        }
    }

    /// Tool servers, by name.
    fn servers(&mut self, servers: Option<&Node>) {
        for (name, node) in servers.map(Node::entries).unwrap_or_default() {
            let is_off = node.get("enabled").is_some_and(|node| node.value == Value::Bool(false))
                || node.get("disabled").is_some_and(Node::is_true);
            if !is_off && let Some(start) = server::start(node) {
                self.put(node.line, Permission::Server { name: short(name), start });
            }
        }
    }

    /// Programs that run by themselves: every `command` below an event's name.
    fn hooks(&mut self, hooks: Option<&Node>) {
        const DEEPEST: usize = 6;
        fn below(found: &mut Found<'_>, event: &str, node: &Node, depth: usize) {
            for (name, inner) in node.entries() {
                match inner.text() {
                    Some(text) if matches!(name.as_str(), "command" | "bash") => {
                        let (event, command) = (short(event), short(text));
                        found.put(inner.line, Permission::Hook { event, command, own: false });
                    }
                    _ if depth > 0 => below(found, event, inner, depth - 1),
                    _ => {}
                }
            }
            if depth > 0 {
                node.list().iter().for_each(|inner| below(found, event, inner, depth - 1));
            }
        }
        for (event, node) in hooks.map(Node::entries).unwrap_or_default() {
            below(self, event, node, DEEPEST);
        }
    }

    /// A program that is started as a helper.
    fn helper(&mut self, name: &str, node: Option<&Node>) {
        if let Some((line, text)) = node.and_then(|node| Some((node.line, node.text()?))) {
            self.put(line, Permission::Hook { event: name.to_owned(), command: short(text), own: false });
        }
    }

    /// Keys that hold a secret, anywhere.
    fn secrets(&mut self, path: &mut Vec<String>, node: &Node) {
        const DEEPEST: usize = 8;
        if path.len() > DEEPEST {
            return;
        }
        for (name, inner) in node.entries() {
            if path.is_empty() && OWN_LOGINS.contains(&name.as_str()) {
                continue;
            }
            path.push(name.clone());
            let is_secret = |text: &str| is_secret_value(text) || (is_secret_name(name) && is_literal(text));
            if inner.text().is_some_and(is_secret) {
                self.put(inner.line, Permission::Secret { key: short(&path.join(".")) });
            }
            self.secrets(path, inner);
            path.pop();
        }
        let mut before = "";
        for inner in node.list() {
            let text = inner.text().unwrap_or_default();
            let is_after = before.starts_with('-') && is_secret_name(before) && is_literal(text);
            if is_secret_value(text) || is_after {
                self.put(inner.line, Permission::Secret { key: short(&path.join(".")) });
            }
            before = text;
            self.secrets(path, inner);
        }
    }
}

/// Cut to what a report has room for.
pub fn short(text: &str) -> String {
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() <= LONGEST {
        return line;
    }
    line.chars().take(LONGEST - 1).collect::<String>() + "…"
}

/// Whether what is called so is kept from others.
fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase().replace('-', "_");
    let words: Vec<&str> = name.split(['_', '.', ' ']).collect();
    let has = |wanted: &[&str]| words.iter().any(|word| wanted.iter().any(|it| word.ends_with(it)));
    has(&[
        "TOKEN",
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "CREDENTIAL",
        "CREDENTIALS",
        "APIKEY",
        "AUTHORIZATION",
        "PAT",
    ]) || name.ends_with("_KEY")
        || name.ends_with("KEY") && words.iter().any(|word| matches!(*word, "API" | "ACCESS" | "PRIVATE"))
}

/// Not a reference to where the secret is.
fn is_literal(text: &str) -> bool {
    text.len() >= 6
        && !text.contains("${")
        && !text.starts_with('$')
        && !text.contains("{env:")
        && !text.contains("{file:")
        && !text.contains(' ')
        || text.starts_with("Bearer ") && !text.contains('$')
}

/// Whether a text is a token by its form alone.
fn is_secret_value(text: &str) -> bool {
    static TOKEN: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(
            r"(?:^|[^A-Za-z0-9])(?:sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_[A-Za-z0-9_]{20,}|glpat-[A-Za-z0-9_-]{16,}|xox[abpr]-[A-Za-z0-9-]{10,}|AKIA[A-Z0-9]{16}|npm_[A-Za-z0-9]{30,}|AIza[A-Za-z0-9_-]{30,})|://[^/\s:@]+:[^/\s@${]{3,}@",
        )
        .unwrap_or_else(|error| panic!("{error}"))
    });
    TOKEN.is_match(text)
}

/// `name` and what stands in its brackets.
fn parts(rule: &str) -> (&str, Option<&str>) {
    match rule.trim().split_once('(') {
        Some((name, rest)) => (name.trim(), Some(rest.strip_suffix(')').unwrap_or(rest).trim())),
        None => (rule.trim(), None),
    }
}

/// Rules in one text, divided by commas and blanks outside of brackets.
fn divided(text: &str) -> Vec<&str> {
    let (mut rules, mut from, mut depth) = (Vec::new(), 0, 0_u32);
    for (at, letter) in text.char_indices().chain([(text.len(), ',')]) {
        match letter {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' | ' ' if depth == 0 || at == text.len() => {
                rules.push(text[from..at].trim());
                from = at + letter.len_utf8().min(text.len() - at);
            }
            _ => {}
        }
    }
    rules.retain(|rule| !rule.is_empty());
    rules
}

/// A command as a pattern: `git push` with any further words.
fn prefix(command: &str) -> Scope {
    let command = command.trim();
    Scope::Command(if command.is_empty() || command == "*" { "*".to_owned() } else { format!("{command} *") })
}

/// A file as an absolute glob; what has no slash is meant at any depth below the project.
fn glob(path: &str, place: &Place) -> String {
    let below = |root: &str, rest: &str| {
        let root = root.trim_end_matches('/');
        normal_path(&format!("{root}/{rest}"))
    };
    if let Some(rest) = path.strip_prefix("~/") {
        below(&place.home, rest)
    } else if path.starts_with('/') {
        normal_path(path)
    } else if let Some(rest) = path.strip_prefix("./") {
        below(&place.project, rest)
    } else if path.contains('/') {
        below(&place.project, path)
    } else {
        below(&place.project, &format!("**/{path}"))
    }
}

/// The values of an option: `--name=value`, or all words behind it up to the next option. `one`: at most one word.
fn values<'w>(words: &'w [String], names: &[&str], one: bool) -> Vec<&'w str> {
    let mut values = Vec::new();
    let mut is_open = false;
    for word in words {
        if word == "--" {
            break;
        }
        if word.starts_with('-') && word.len() > 1 {
            let (name, value) =
                word.split_once('=').map_or((word.as_str(), None), |(name, value)| (name, Some(value)));
            is_open = names.contains(&name);
            if is_open && let Some(value) = value {
                values.push(value);
                is_open = false;
            }
        } else if is_open {
            values.push(word);
            is_open = !one;
        }
    }
    values
}

fn has(words: &[String], names: &[&str]) -> Option<String> {
    words.iter().take_while(|word| *word != "--").find(|word| names.contains(&word.as_str())).cloned()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a text says, one thing a line: `3 deny Bash(curl:*) = command curl *`.
    pub(super) fn told(form: Form, text: &str) -> Vec<String> {
        let place = Place { home: "/home/u".into(), project: "/w".into() };
        let (items, problem) = read(form, &place, text);
        items.iter().map(line).chain(problem.map(|problem| format!("! {problem}"))).collect()
    }

    pub(super) fn told_of(settings: &Settings, file: &str, text: &str) -> Vec<String> {
        let source = settings.sources.iter().find(|source| source.file == file).unwrap();
        told(source.form, text)
    }

    pub(super) fn flags(settings: &Settings, words: &str) -> Vec<String> {
        let place = Place { home: "/home/u".into(), project: "/w".into() };
        let words: Vec<String> = words.split('|').map(str::to_owned).collect();
        command_line(settings, &place, &words).iter().map(line).collect()
    }

    fn line(setting: &Setting) -> String {
        let scope = |scope: &Scope| serde_json::to_string(scope).unwrap().replace(['"', '{', '}'], "");
        let told = match &setting.what {
            Permission::Mode { text, unasked } => format!("mode {text}{}", if *unasked { "!" } else { "" }),
            Permission::Allow { text, scope: about } => format!("allow {text} = {}", scope(about)),
            Permission::Ask { text, scope: about } => format!("ask {text} = {}", scope(about)),
            Permission::Deny { text, scope: about } => format!("deny {text} = {}", scope(about)),
            Permission::Hook { event, command, .. } => format!("hook {event}: {command}"),
            Permission::Server { name, start } => format!("server {name}: {start}"),
            Permission::Secret { key } => format!("secret {key}"),
            Permission::Instructions => "instructions".to_owned(),
        };
        format!("{} {told}", setting.line)
    }

    #[test]
    fn rules_in_one_text_are_divided_outside_of_brackets() {
        assert_eq!(divided("Bash(git log, x),Read Edit(a b)"), ["Bash(git log, x)", "Read", "Edit(a b)"]);
        assert_eq!(divided(" , "), [] as [&str; 0]);
        assert_eq!(divided("Bash(ä"), ["Bash(ä"]);
    }

    #[test]
    fn a_secret_is_a_literal_under_a_telling_name_or_a_token_by_its_form() {
        for (name, text, wanted) in [
            ("GITHUB_TOKEN", "abcdefgh", true),
            ("api-key", "abcdefgh", true),
            ("Authorization", "Bearer abc", true),
            ("GITHUB_TOKEN", "${GITHUB_TOKEN}", false),
            ("GITHUB_TOKEN", "$GITHUB_TOKEN", false),
            ("apiKey", "{env:KEY}", false),
            ("note", "ghp_abcdefghijklmnopqrstuvwxyz", true),
            ("url", "https://user:pass@host.example/x", true),
            ("url", "https://host.example/x", false),
            ("keymap", "vim-style", false),
            ("keybinding", "ctrl-x-y", false),
            ("PATH", "/usr/bin:/bin", false),
        ] {
            let text = format!("{{\"{name}\": \"{text}\"}}");
            let told = told(Form::Json(|_, _| {}), &text);
            assert_eq!(!told.is_empty(), wanted, "{text}");
        }
        let own = r#"{"primaryApiKey": "abcdefgh", "oauthAccount": {"accessToken": "abcdefgh"}}"#;
        assert_eq!(told(Form::Json(|_, _| {}), own), [] as [&str; 0]);
        let args = told(Form::Json(|_, _| {}), r#"{"args": ["run", "--api-key", "abcdefgh"]}"#);
        assert_eq!(args, ["1 secret args"]);
    }

    #[test]
    fn every_source_begins_with_a_place() {
        for agent in super::super::ALL {
            for source in agent.settings.sources {
                let is_placed = ["~/", "./", "/"].iter().any(|begin| source.file.starts_with(begin));
                assert!(is_placed, "{}: {}", agent.id, source.file);
                assert_eq!(source.level.is_repository(), source.file.starts_with("./"), "{}", source.file);
            }
        }
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]
        #[test]
        fn any_settings_are_read_without_panic(text in r#"[\[\]{}:,"a-z() *.~/=-]{0,120}"#) {
            for agent in super::super::ALL {
                for source in agent.settings.sources {
                    told(source.form, &text);
                }
                flags(agent.settings, &text.replace(' ', "|"));
            }
        }
    }
}
