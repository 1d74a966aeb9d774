//! Takes secrets out of what is recorded, by value, before anything is written.
//!
//! What goes: values of the guard's own secret-shaped environment variables, known token
//! formats, passwords in URLs, and what follows `--token`, `--password` and the like.

use std::sync::LazyLock;

use regex::Regex;

use crate::engine::Input;
use crate::event::{Activity, AgentCommands, AgentSettings, Fact, File, Launch, Permission, Scope};
use crate::intent::Text;
use crate::secrets::Eraser;

const MASK: &str = "***";
/// Shorter values are words, not secrets; masking `true` would garble everything.
const SHORTEST: usize = 8;

static TOKENS: LazyLock<Regex> = LazyLock::new(|| {
    let formats = [
        r"gh[pousr]_[A-Za-z0-9]{20,}",
        r"github_pat_[A-Za-z0-9_]{20,}",
        r"glpat-[A-Za-z0-9_\-]{16,}",
        r"gl[a-z]{2,5}-[A-Za-z0-9_\-]{20,}",
        r"(?:AKIA|ASIA)[A-Z0-9]{16}",
        r"xox[abeoprs]-[A-Za-z0-9\-]{10,}",
        r"npm_[A-Za-z0-9]{30,}",
        r"pypi-[A-Za-z0-9_\-]{30,}",
        r"sk-(?:ant-|proj-)?[A-Za-z0-9_\-]{20,}",
        r"AIza[A-Za-z0-9_\-]{30,}",
        r"ya29\.[A-Za-z0-9_\-]{20,}",
        r"eyJ[A-Za-z0-9_\-]{10,}\.eyJ[A-Za-z0-9_\-]{10,}\.[A-Za-z0-9_\-]*",
        r"(?:hf|dop_v1|shpat|rk_live|sk_live|pk_live|dckr_pat)_[A-Za-z0-9]{16,}",
        r"-----BEGIN [A-Z ]*PRIVATE KEY-----[^-]*",
    ];
    Regex::new(&formats.join("|")).expect("the token formats are tested")
});

static URL_PASSWORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"(://[^/\s:@]*:)[^/\s@]+@").expect("tested"));
static URL_TOKEN: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"(://)[^/\s:@]{20,}@").expect("tested"));
static NAMED_VALUE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(?i)((?:^|[\s;&?"'\-_/])(?:[a-z0-9_\-]*(?:token|secret|passw(?:or)?d|passphrase|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)|pwd)["']?\s*[=:]\s*["']?)([^\s"'&;]{4,})"#,
    )
    .expect("tested")
});
/// In a text, where the words of [`SECRET_OPTIONS`] don't come one by one.
static OPTION_VALUE: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r#"(--(?:token|password|secret|api-key|access-key|passphrase|auth-token)[ \t]+["']?)([^\s"'$\-][^\s"']{3,})"#,
    )
    .expect("tested")
});
static BEARER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b((?:bearer|basic|token)\s+)[A-Za-z0-9+/=._\-]{12,}").expect("tested")
});

/// Options whose next word is a secret.
const SECRET_OPTIONS: &[&str] =
    &["--token", "--password", "--secret", "--api-key", "--access-key", "--passphrase", "--auth-token"];

/// Knows the values to take out.
#[derive(Debug, Default)]
pub struct Redactor {
    /// Longest first, so that a value inside another doesn't leave a rest.
    values: Vec<String>,
    /// The same values as they look encoded.
    eraser: Eraser,
}

impl Redactor {
    /// From the environment the job will have: name and value of each variable.
    pub fn new(environment: impl Iterator<Item = (String, String)>) -> Self {
        let mut values: Vec<String> = environment
            .filter(|(name, value)| {
                is_secret_name(name) && value.len() >= SHORTEST && !value.starts_with('/')
            })
            .flat_map(|(_, value)| value.lines().map(str::to_owned).collect::<Vec<_>>())
            .filter(|value| value.len() >= SHORTEST)
            .collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        values.dedup();
        let mut eraser = Eraser::default();
        for value in &values {
            eraser.add_forms(value.as_bytes());
        }
        Self { values, eraser }
    }

    /// Takes in one more value that must not be told.
    pub fn add(&mut self, value: String) {
        if value.len() >= SHORTEST && !self.values.contains(&value) {
            self.eraser.add_forms(value.as_bytes());
            self.values.push(value);
            self.values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        }
    }

    /// Takes in values that must not be told in any form.
    pub fn add_forms(&mut self, forms: impl Iterator<Item = Vec<u8>>) {
        for form in forms {
            self.eraser.add(&form);
        }
    }

    /// The text without its secrets.
    pub fn text(&self, text: &mut String) {
        self.without(text, true);
    }

    /// A committed YAML file without the secrets that the job holds and those of known formats. What it says under a
    /// secret's name is left: `persist-credentials: false`, `id-token: write`.
    fn workflow(&self, text: &mut String) {
        let before = text.clone();
        self.without(text, false);
        if *text != before {
            // A value that begins with a star would be an alias, and the file no YAML any more.
            *text = text.replace(MASK, "redacted");
        }
    }

    fn without(&self, text: &mut String, by_name: bool) {
        for value in &self.values {
            if text.contains(value.as_str()) {
                *text = text.replace(value.as_str(), MASK);
            }
        }
        self.eraser.erase(text, MASK);
        // Most words hold none of these; looking is cheaper than four replacements.
        if text.len() < SHORTEST {
            return;
        }
        for (pattern, with) in [
            (&*TOKENS, MASK),
            (&*URL_PASSWORD, "${1}***@"),
            (&*URL_TOKEN, "${1}***@"),
            (&*BEARER, "${1}***"),
            (&*NAMED_VALUE, "${1}***"),
            (&*OPTION_VALUE, "${1}***"),
        ]
        .into_iter()
        .take(if by_name { 6 } else { 4 })
        {
            if pattern.is_match(text) {
                *text = pattern.replace_all(text, with).into_owned();
            }
        }
    }

    fn arguments(&self, arguments: &mut [String]) {
        let mut next_is_secret = false;
        for argument in arguments {
            if next_is_secret && !argument.starts_with('-') {
                MASK.clone_into(argument);
            } else {
                self.text(argument);
            }
            next_is_secret = SECRET_OPTIONS.contains(&argument.as_str());
        }
    }

    fn file(&self, file: &mut File) {
        self.text(&mut file.path);
        if let Some(asked) = &mut file.asked {
            self.text(asked);
        }
    }

    fn launch(&self, launch: &mut Launch) {
        self.file(&mut launch.executable);
        if let Some(script) = &mut launch.script {
            self.file(script);
        }
        self.text(&mut launch.requested);
        self.text(&mut launch.directory);
        self.arguments(&mut launch.arguments);
        for value in launch.environment.values_mut() {
            self.text(value);
        }
    }

    fn commands(&self, settings: &mut AgentCommands) {
        self.text(&mut settings.file);
        settings.servers.iter_mut().for_each(|words| self.arguments(words));
        settings.hooks.iter_mut().for_each(|text| self.text(text));
    }

    /// One record without its secrets.
    pub fn input(&self, input: &mut Input) {
        match input {
            Input::Fact(Fact::Script { text, .. }) => self.text(text),
            Input::Fact(Fact::Workflow { text, .. }) => self.workflow(text),
            Input::Fact(Fact::AgentCommands(settings)) => self.commands(settings),
            Input::Declaration(declaration) => match &mut declaration.text {
                Text::Command { words } => self.arguments(words),
                Text::Script { text, .. } => self.text(text),
                Text::ToolCall(call) => {
                    for text in call.commands.iter_mut().chain(&mut call.names) {
                        self.text(text);
                    }
                }
                Text::ToolResult(_) | Text::AgentSession(_) => {}
            },
            Input::Event(event) => match &mut event.activity {
                Activity::Launch(launch) => self.launch(launch),
                activity => {
                    for file in activity.files_mut() {
                        self.file(file);
                    }
                    match activity {
                        Activity::Symlink { target: text, .. }
                        | Activity::Mount { source: text, .. }
                        | Activity::Setxattr { name: text, .. }
                        | Activity::Query { name: text, .. }
                        | Activity::Hello { name: Some(text), .. }
                        | Activity::Memfd { name: text }
                        | Activity::Title { name: text } => self.text(text),
                        _ => {}
                    }
                }
            },
            Input::Start(start) => {
                for step in &mut start.job.steps {
                    self.text(&mut step.declared);
                    self.text(&mut step.name);
                }
            }
            Input::Fact(Fact::Running(running)) => {
                if let Some(launch) = &mut running.launch {
                    self.launch(launch);
                }
            }
            Input::Fact(Fact::Digest { file, .. }) => self.file(file),
            Input::Fact(Fact::Source(source)) => self.file(&mut source.file),
            Input::Fact(Fact::Socket(socket)) => {
                for owner in &mut socket.owners {
                    self.text(&mut owner.program);
                }
            }
            Input::Fact(Fact::Posture { items, problem, .. }) => {
                for item in items {
                    self.text(&mut item.object);
                    self.text(&mut item.value);
                }
                if let Some(problem) = problem {
                    self.text(problem);
                }
            }
            Input::Fact(Fact::AgentSettings(settings)) => self.settings(settings),
            Input::Fact(Fact::Leak { place, .. }) => self.text(place),
            Input::Fact(_) | Input::Heartbeat(_) | Input::End(_) => {}
        }
    }

    fn settings(&self, settings: &mut AgentSettings) {
        self.text(&mut settings.file);
        if let Some(problem) = &mut settings.problem {
            self.text(problem);
        }
        for item in &mut settings.items {
            match &mut item.what {
                Permission::Allow { text, scope }
                | Permission::Ask { text, scope }
                | Permission::Deny { text, scope } => {
                    self.text(text);
                    match scope {
                        Scope::Command(text)
                        | Scope::Read(text)
                        | Scope::Write(text)
                        | Scope::Host(text)
                        | Scope::Server(text) => self.text(text),
                        Scope::Any | Scope::Other => {}
                    }
                }
                Permission::Hook { event: name, command: text, .. }
                | Permission::Server { name, start: text } => {
                    self.text(name);
                    self.text(text);
                }
                Permission::Mode { text, .. } | Permission::Secret { key: text } => self.text(text),
                Permission::Instructions => {}
            }
        }
    }
}

/// Whether a variable of this name holds a secret.
pub fn is_secret_name(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    [
        "TOKEN",
        "SECRET",
        "PASSWORD",
        "PASSWD",
        "PASSPHRASE",
        "CREDENTIAL",
        "API_KEY",
        "APIKEY",
        "ACCESS_KEY",
        "PRIVATE_KEY",
        "_AUTH",
        "AUTH_",
    ]
    .iter()
    .any(|word| name.contains(word))
        && !name.ends_with("_PATH")
        && !name.ends_with("_SOCK")
        && !name.ends_with("_FILE")
        // Where the job's identity is asked for; what is asked with is another variable.
        && name != "ACTIONS_ID_TOKEN_REQUEST_URL"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(text: &str) -> String {
        let mut text = text.to_owned();
        let environment = [
            ("MY_TOKEN", "s3cr3t-value-1"),
            ("EDITOR", "some-long-editor"),
            ("X_SECRET", "short"),
            ("ACTIONS_ID_TOKEN_REQUEST_URL", "https://tokens.example/x"),
        ];
        Redactor::new(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
            .text(&mut text);
        text
    }

    #[test]
    fn secrets_go_by_value_format_and_place() {
        for (text, safe) in [
            ("echo s3cr3t-value-1", "echo ***"),
            ("some-long-editor short", "some-long-editor short"),
            ("https://user:hunter22@host/x", "https://user:***@host/x"),
            ("https://0123456789abcdef0123456789@host/x", "https://***@host/x"),
            ("ghp_0123456789abcdefghijABCDEFGHIJ012345", "***"),
            ("AKIAIOSFODNN7EXAMPLE", "***"),
            ("Authorization: Bearer abcdef0123456789", "Authorization: Bearer ***"),
            ("--password=hunter2", "--password=***"),
            (
                "tool --password hunter2 --token \"$TOKEN\" --secret -x",
                "tool --password *** --token \"$TOKEN\" --secret -x",
            ),
            ("curl -d api_key=abcd1234 x", "curl -d api_key=*** x"),
            ("npm run tokenize --if-present", "npm run tokenize --if-present"),
            ("cat tokens.txt secret.go", "cat tokens.txt secret.go"),
            ("https://tokens.example/x", "https://tokens.example/x"),
        ] {
            assert_eq!(redacted(text), safe);
        }
    }

    #[test]
    fn a_workflows_file_stays_one() {
        let text = "jobs:\n  a:\n    permissions: {id-token: write, contents: read}\n    steps:\n      - uses: actions/checkout@v5\n        with:\n          persist-credentials: false\n          token: ${{secrets.PAT}}\n          \
                    key: s3cr3t-value-1\n      - run: curl -d 'x=ghp_0123456789abcdefghijABCDEFGHIJ012345' x\n";
        let environment = [("MY_TOKEN".to_owned(), "s3cr3t-value-1".to_owned())];
        let mut input = Input::Fact(Fact::Workflow {
            path: "ci.yml".to_owned(),
            text: text.to_owned(),
            origin: "commit".to_owned(),
        });
        Redactor::new(environment.into_iter()).input(&mut input);
        let Input::Fact(Fact::Workflow { text, .. }) = input else { unreachable!() };
        assert!(!text.contains("s3cr3t") && !text.contains("ghp_"), "{text}");
        let workflow = crate::intent::workflow::Workflow::parse(&text).unwrap();
        let steps = workflow.steps("a");
        assert_eq!(steps[0].with["persist-credentials"], "false");
        assert_eq!(steps[0].with["token"], "${{secrets.PAT}}");
        assert_eq!(steps[1].line, 10, "{text}");
        let access = workflow.permissions("a").unwrap().of("id-token");
        assert_eq!(access, Some(crate::intent::workflow::Access::Write));
    }

    #[test]
    fn the_word_behind_a_secret_option_goes() {
        let mut words = ["tool", "--token", "abc", "--password", "--verbose"].map(str::to_owned);
        Redactor::default().arguments(&mut words);
        assert_eq!(words, ["tool", "--token", "***", "--password", "--verbose"]);
    }
}
