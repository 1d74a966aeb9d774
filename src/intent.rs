//! What was meant: the programs, hosts and paths that a step's own text names.
//!
//! Shell text is read by a real parser (`intent/shell.rs`). Parts it can't read are counted
//! and make the step *open*, never empty. Intent explains an event; it never allows what the
//! policy denies.

pub mod agent_commands;
pub mod asked;
pub mod gitlab;
mod shell;
mod tool_input;
pub mod workflow;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use crate::event::{ProcessKey, Timestamp};
use crate::job::{Location, StepKey};
use serde::{Deserialize, Serialize};

/// Something said to be done, as it was written; the engine reads it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declaration {
    pub step: StepKey,
    #[serde(flatten)]
    pub text: Text,
}

/// The text of a declaration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "declaration", rename_all = "kebab-case")]
pub enum Text {
    /// The argument vector that `run` was given.
    Command { words: Vec<String> },
    /// Shell text: a script that the command names, or a `run:` block.
    Script {
        /// Absolute path of the script.
        file: String,
        /// Where its first line stands, for people.
        location: Location,
        text: String,
    },
    /// A coding agent's own record: it asked for one use of a tool.
    ToolCall(ToolCall),
    /// The same record: how that use ended.
    ToolResult(ToolResult),
    /// The same record: what it says of a whole session.
    AgentSession(AgentSession),
}

/// One use of a tool, as a coding agent's record states it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolCall {
    /// `claude-code`
    pub agent: String,
    /// The agent's own name for the conversation; as its mark in the environment has it, if there is one.
    pub session: String,
    /// The id that the result repeats.
    pub call: String,
    /// The call of which this one is a part: a command inside a call that runs several, a call of a sub-agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within: Option<String>,
    /// As the agent calls it: `Bash`.
    pub tool: String,
    /// By the record's own clock; 0 where the record tells no time: the time of reading stands in.
    pub time: Timestamp,
    /// Shell text, for a tool that runs some: one entry for each process that it is given to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub commands: Vec<String>,
    /// Files and addresses it names, for other tools.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<String>,
    /// It changes the files that it names.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub writes: bool,
    /// The tool server (MCP) that carries it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// The agent told it to a hook of ours; `call` is empty where it tells no id there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_hook: bool,
    /// The agent's process that exported it (OpenTelemetry); `call` is empty where it tells no id there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender: Option<ProcessKey>,
    /// It stands in what the agent printed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_printed: bool,
}

/// How one use of a tool ended, as a coding agent's record states it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ToolResult {
    pub agent: String,
    pub call: String,
    /// By the record's own clock; 0 where the record tells no time.
    #[serde(default)]
    pub time: Timestamp,
    /// The agent did not let it run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub denied: bool,
    /// The pid, or process group, that the record names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<u32>,
}

/// What a coding agent's record says of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AgentSession {
    pub agent: String,
    pub session: String,
    /// How it asks before it acts, in the agent's own word: `bypassPermissions`, `danger-full-access`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mode: Option<String>,
    /// It acts without asking.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unasked: bool,
    /// Its working folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<String>,
    /// The agent's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The session that started this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The agent exported or printed it; its record did not tell it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_aside: bool,
}

impl ToolCall {
    /// Whether the agent's record or a hook tells it: what it exports may be lost, and what it prints goes where the job wants.
    pub fn is_of_record(&self) -> bool {
        self.sender.is_none() && !self.is_printed
    }

    /// What this call declares. `home` and `workspace` resolve `~`, `$HOME` and `./`.
    pub fn intent(&self, home: &str, workspace: &str) -> StepIntent {
        let mut step = StepIntent::default();
        let mut reader = shell::Reader::new(&mut step, home, workspace);
        for text in &self.commands {
            reader.script(text, None);
        }
        if !self.names.is_empty() {
            let word = |text: &String| Word { text: text.clone(), known: true };
            reader.command(std::iter::once(&self.tool).chain(&self.names).map(word).collect(), None);
        }
        step
    }
}

/// A word of a declared command. Parts only known at run time stand as `*`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    pub text: String,
    /// False when a part of it is only known at run time.
    pub known: bool,
}

/// One command of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub words: Vec<Word>,
    /// Where it is written; `None` for the command line itself.
    pub location: Option<Location>,
    /// The command among whose words it stands: `echo` for `echo "$(date)"`.
    pub within: Option<String>,
}

impl Command {
    /// Whether some word is only known at run time.
    pub fn is_open(&self) -> bool {
        self.words.iter().any(|word| !word.known)
    }

    /// Every name this command could launch a program under: its first word, and, behind a
    /// transparent launcher, each further word.
    fn launches(&self, name: &str) -> bool {
        let mut words = self.words.iter().map(|word| basename(&word.text));
        let Some(first) = words.next() else { return false };
        first == name || (is_launcher(first) && words.any(|word| word == name))
    }
}

impl fmt::Display for Command {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = self.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ");
        if text.chars().count() > 60 {
            text = text.chars().take(59).collect::<String>() + "…";
        }
        match &self.location {
            Some(location) => write!(formatter, "`{text}` ({location})"),
            None => write!(formatter, "`{text}`"),
        }
    }
}

/// Programs that only start another one: what they start is judged, not they.
pub fn is_launcher(name: &str) -> bool {
    matches!(
        name,
        "env"
            | "sudo"
            | "xargs"
            | "timeout"
            | "nice"
            | "ionice"
            | "nohup"
            | "setsid"
            | "time"
            | "stdbuf"
            | "exec"
            | "command"
            | "find"
            | "parallel"
            | "chronic"
            | "unshare"
            | "nsenter"
            | "runuser"
            | "setpriv"
            | "su"
            | "doas"
            | "flock"
            | "taskset"
            | "chroot"
            | "strace"
            | "xvfb-run"
            | "busybox"
            | "watch"
            | "entr"
    )
}

/// Shells whose text we read.
pub fn is_shell(name: &str) -> bool {
    matches!(name, "sh" | "bash" | "dash" | "ash" | "zsh" | "ksh" | "mksh" | "rbash")
}

/// The last component of a path.
pub fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// A host or path that the text names.
#[derive(Clone, Debug)]
pub struct Mention {
    /// May hold `*` for a part that is only known at run time, or a glob of the text.
    pub text: String,
    /// False when a part of it is only known at run time.
    pub known: bool,
    pub location: Option<Location>,
    pub by: By,
}

/// What names it: a word of `npm ci` does not vouch for what `make` does two lines further down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum By {
    /// A word of this command, by its label.
    Command(Arc<str>),
    /// The shell itself reads it: `< file`, `for x in …`.
    Shell,
    /// The shell itself writes it: `> file`.
    ShellOutput,
    /// A variable's value: for whatever runs with it.
    Setting,
}

/// Who wants to be vouched for.
#[derive(Clone, Copy, Debug)]
pub enum Asker<'a> {
    Shell,
    /// The process of a declared command, by the command's label, and the tool's own helpers.
    Command(&'a str),
    /// The project's own code below a command.
    Project,
    /// Anybody else's.
    Stranger,
}

/// What is to be done with a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    Read,
    Write,
}

impl Mention {
    fn vouches_for(&self, asker: Asker<'_>, verb: Verb) -> bool {
        match (&self.by, asker) {
            (_, Asker::Stranger)
            | (By::Command(_) | By::Shell | By::ShellOutput, Asker::Project)
            | (By::Shell, Asker::Command(_)) => false,
            // Built-in commands run in the shell itself: `source ~/.env`.
            (By::Command(_) | By::Shell, Asker::Shell) | (By::Setting, _) => true,
            (By::ShellOutput, _) => verb == Verb::Write && matches!(asker, Asker::Shell),
            (By::Command(own), Asker::Command(other)) => own.as_ref() == other,
        }
    }

    /// Where it is named, as a report says it.
    pub fn place(&self) -> String {
        match &self.location {
            Some(location) => format!("named at {location}"),
            None => "named on the command line".to_owned(),
        }
    }
}

/// What one step declared.
#[derive(Clone, Debug, Default)]
pub struct StepIntent {
    pub commands: Vec<Command>,
    /// Host names and addresses, lower case.
    pub hosts: Vec<Mention>,
    /// Absolute paths.
    pub paths: Vec<Mention>,
    /// Scripts whose text was read.
    pub scripts: Vec<String>,
    /// The text launches things whose name is only known at run time.
    pub is_open: bool,
    /// Parts of the text that the parser did not understand.
    pub unreadable: usize,
}

impl StepIntent {
    /// The declared command that a process called by one of `names` is most likely running.
    ///
    /// `arguments` only choose between commands that match by name.
    pub fn command(&self, names: &[&str], arguments: &[String]) -> Option<&Command> {
        self.commands.iter().filter(|command| names.iter().any(|name| command.launches(name))).max_by_key(
            |command| {
                let same = command.words.iter().filter(|word| arguments.contains(&word.text)).count();
                let strangers = command.words.len().saturating_sub(same);
                (same, std::cmp::Reverse(strangers))
            },
        )
    }

    /// What names one of these names or this address. With `is_strict` only what vouches for `asker`.
    pub fn host(
        &self,
        names: &[String],
        address: &str,
        asker: Asker<'_>,
        is_strict: bool,
    ) -> Option<&Mention> {
        self.hosts.iter().filter(|mention| !is_strict || mention.vouches_for(asker, Verb::Read)).find(
            |mention| {
                let host = &mention.text;
                host == address || names.iter().any(|name| name == host || wildcard(host, name, false))
            },
        )
    }

    /// What names this path, or a folder it lies in.
    pub fn path(&self, path: &str) -> Option<&Mention> {
        self.paths.iter().find(|mention| {
            let long_enough = mention.text.bytes().filter(|byte| *byte != b'*').count() >= 6;
            covers(&mention.text, path, false) && (!mention.text.contains('*') || long_enough)
        })
    }

    /// What names this sensitive path and vouches for `asker`.
    ///
    /// A folder as wide as a home, or a word that is only known at run time, names no secret.
    pub fn secret(&self, path: &str, homes: &[String], asker: Asker<'_>, verb: Verb) -> Option<&Mention> {
        let is_wide = |mention: &Mention| {
            let folder = mention.text.trim_end_matches('/');
            homes.iter().any(|home| {
                home == folder || home.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'))
            })
        };
        self.paths.iter().find(|mention| {
            mention.known
                && mention.vouches_for(asker, verb)
                && covers(&mention.text, path, true)
                && !is_wide(mention)
        })
    }

    /// What names a whole home to this command, for all that lies in it: `tar -czf x.tgz "$HOME"`.
    pub fn home(&self, path: &str, homes: &[String], command: &str) -> Option<&Mention> {
        self.paths.iter().find(|mention| {
            let folder = mention.text.trim_end_matches('/');
            mention.known
                && matches!(&mention.by, By::Command(own) if own.as_ref() == command)
                && homes.iter().any(|home| home.len() > 1 && home == folder)
                && covers(folder, path, true)
        })
    }

    /// Whether there is anything to compare with.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }
}

/// Whether `path` is `declared` or lies below it. With `is_narrow` a `*` stays inside one folder.
fn covers(declared: &str, path: &str, is_narrow: bool) -> bool {
    let declared = declared.trim_end_matches('/');
    path == declared
        || path.strip_prefix(declared).is_some_and(|rest| rest.starts_with('/'))
        || (declared.contains('*') && wildcard(declared, path, is_narrow))
}

/// Whether `text` matches `pattern`, in which `*` stands for anything, or for anything but `/`.
pub(crate) fn wildcard(pattern: &str, text: &str, is_narrow: bool) -> bool {
    if is_narrow {
        return pattern.split('/').count() == text.split('/').count()
            && pattern.split('/').zip(text.split('/')).all(|(pattern, text)| wildcard(pattern, text, false));
    }
    let mut parts = pattern.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else { return false };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    let mut rest = rest;
    for part in middle {
        let Some(found) = rest.find(part) else { return false };
        rest = &rest[found + part.len()..];
    }
    rest.len() >= last.len() && rest.ends_with(last)
}

/// Everything declared so far, by step.
#[derive(Clone, Debug, Default)]
pub struct Intent {
    steps: BTreeMap<StepKey, StepIntent>,
}

impl Intent {
    /// What a step declared; empty if nothing.
    pub fn of(&self, step: &StepKey) -> Option<&StepIntent> {
        self.steps.get(step)
    }

    /// Lets a setting of the workflow name a host for a step whose text was read. A step without a text declares nothing
    /// to be compared with, and a name alone is no text.
    pub fn vouch(&mut self, step: &StepKey, host: &str, location: &Location) {
        let Some(step) = self.steps.get_mut(step) else { return };
        let host = host.trim_start_matches("udp://");
        let host = match host.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
            _ => host,
        };
        // A word without a dot is a group of ours, and networks are the policy's.
        if !host.contains(['.', ':']) || host.contains('/') {
            return;
        }
        let text = host.trim_matches(['[', ']']).to_ascii_lowercase();
        step.hosts.push(Mention { text, known: true, location: Some(location.clone()), by: By::Setting });
    }

    /// Takes in one more declaration. `home` and `workspace` resolve `~`, `$HOME` and `./`.
    pub fn add(&mut self, declaration: &Declaration, home: &str, workspace: &str) {
        let step = self.steps.entry(declaration.step.clone()).or_default();
        match &declaration.text {
            Text::Command { words } => {
                let words = words.iter().map(|word| Word { text: word.clone(), known: true }).collect();
                shell::Reader::new(step, home, workspace).command(words, None);
            }
            Text::Script { file, location, text } => {
                step.scripts.push(file.clone());
                shell::Reader::new(step, home, workspace).script(text, Some(location));
            }
            // A tool call declares for what it started, not for its step.
            Text::ToolCall(_) | Text::ToolResult(_) | Text::AgentSession(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> StepIntent {
        let mut intent = Intent::default();
        let step = StepKey::local();
        let location = Location { path: "build.sh".into(), line: 1 };
        let text = Text::Script { file: "/w/build.sh".into(), location, text: text.into() };
        intent.add(&Declaration { step: step.clone(), text }, "/home/u", "/w");
        intent.of(&step).unwrap().clone()
    }

    fn names(step: &StepIntent) -> Vec<String> {
        step.commands.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn finds_commands_in_every_construct() {
        let step = read(
            "set -eu\nif true; then npm ci && npm test || exit 1; fi\nfor f in *.c; do cc -c \"$f\"; done\n\
             out=$(git rev-parse HEAD)\nfoo() { make all; }\nfoo | tee log.txt\n(cd sub && cargo build)\n",
        );
        let text = names(&step).join("\n");
        for name in
            ["npm ci", "npm test", "cc -c *", "git rev-parse HEAD", "make all", "tee log.txt", "cargo build"]
        {
            assert!(text.contains(&format!("`{name}`")), "{name} not in\n{text}");
        }
        assert!(text.contains("`npm ci` (build.sh:2)"), "{text}");
        assert_eq!(step.unreadable, 0);
    }

    #[test]
    fn finds_hosts_in_urls_remotes_and_variables() {
        let step = read(
            "BASE=https://api.example.com:8443/v1\ncurl -fsSL \"$BASE/x\" -o out\n\
             git clone git@source.example:team/app.git\nssh deploy@host.example ls\nnc 203.0.113.9 443\n\
             curl 'https://[2001:db8::1]/x'\n# curl https://comment.example\n",
        );
        let hosts: Vec<&str> = step.hosts.iter().map(|mention| mention.text.as_str()).collect();
        for host in ["api.example.com", "source.example", "host.example", "203.0.113.9", "2001:db8::1"] {
            assert!(hosts.contains(&host), "{host} not in {hosts:?}");
        }
        assert!(!hosts.contains(&"comment.example"));
    }

    fn vouches(text: &str, path: &str, command: &str) -> bool {
        let homes = ["/home/u".to_owned(), "/home/other".to_owned()];
        let asker = if command.is_empty() { Asker::Shell } else { Asker::Command(command) };
        read(text).secret(path, &homes, asker, Verb::Read).is_some()
    }

    #[test]
    fn finds_paths_and_redirects() {
        let step = read(
            "cat ~/.aws/credentials > out/copy.txt\ntar czf x.tgz \"$HOME/.config/app\"\ncurl -d @/etc/hosts x\n",
        );
        for path in ["/home/u/.aws/credentials", "/w/out/copy.txt", "/home/u/.config/app/token", "/etc/hosts"]
        {
            assert!(step.path(path).is_some(), "{path}");
        }
        assert!(step.path("/home/u/.ssh/id_rsa").is_none());
    }

    #[test]
    fn a_command_vouches_for_its_own_secrets_only() {
        let text = "cat ~/.aws/credentials\nnpm ci\n";
        assert!(vouches(text, "/home/u/.aws/credentials", "`cat /home/u/.aws/credentials` (build.sh:1)"));
        assert!(!vouches(text, "/home/u/.aws/credentials", "`npm ci` (build.sh:2)"));
        // What is written by a redirect may not be read by everybody after it.
        let text = "echo x > ~/.npmrc\nnpm ci\n";
        assert!(!vouches(text, "/home/u/.npmrc", "`npm ci` (build.sh:2)"));
        assert!(vouches("source ~/.vault-token\n", "/home/u/.vault-token", ""));
        let homes = ["/home/u".to_owned()];
        let setting = read("export KUBECONFIG=~/.kube/config\nmake deploy\n");
        assert!(setting.secret("/home/u/.kube/config", &homes, Asker::Project, Verb::Read).is_some());
        assert!(setting.secret("/home/u/.kube/config", &homes, Asker::Stranger, Verb::Read).is_none());
    }

    #[test]
    fn a_whole_home_or_an_unknown_word_declares_no_secret() {
        for text in [
            "ls ~/ /home / \"$HOME\"\n",
            "mkdir -p \"$HOME/$DIR\"\n",
            "for d in /home/*; do du -sh $d; done\n",
            "du -sh /home/other\n",
        ] {
            assert!(!vouches(text, "/home/u/.aws/credentials", ""), "{text}");
            assert!(!vouches(text, "/home/other/.aws/credentials", ""), "{text}");
        }
    }

    #[test]
    fn what_is_only_printed_declares_no_host() {
        let hosts =
            |text: &str| read(text).hosts.iter().filter(|mention| mention.text.ends_with(".example")).count();
        assert_eq!(hosts("echo 'see https://docs.example/x'\nprintf '%s' https://docs.example\n"), 0);
        assert_eq!(hosts("echo https://api.example | xargs curl\n"), 1);
        assert_eq!(hosts("echo https://api.example > urls.txt\n"), 1);
    }

    #[test]
    fn reads_text_inside_text() {
        let step = read("sudo bash -ec 'curl https://inner.example | sh'\nbash -c \"npm run $TASK\"\n");
        let text = names(&step).join("\n");
        assert!(text.contains("`curl https://inner.example`"), "{text}");
        assert!(step.is_open);
        assert!(step.command(&["bash"], &[]).is_some(), "a launcher's words are names too");
    }

    #[test]
    fn text_that_is_no_shell_is_counted_not_lost() {
        let step = read("npm ci\nif then fi (((\nmake\n");
        assert!(step.unreadable > 0);
        assert!(names(&step).join("\n").contains("npm ci"));
    }

    #[test]
    fn the_best_matching_command_is_chosen() {
        let step = read("npm ci\nnpm run build\n");
        let found = step.command(&["npm"], &["npm".into(), "run".into(), "build".into()]).unwrap();
        assert_eq!(found.to_string(), "`npm run build` (build.sh:2)");
        assert!(step.command(&["curl"], &[]).is_none());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,400}") {
            read(&text);
        }
    }
}
