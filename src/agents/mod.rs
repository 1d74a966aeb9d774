//! Coding agents: how each is known when it starts, and how its own record of tool calls is read.
//!
//! One file per agent. A signature is about files, not names alone: the folder of the vendor's package,
//! the place of the vendor's installer. Whoever copies an agent's path labels itself with that agent,
//! and gains nothing: a label adds the policy's `agents:` lists to those of the step.

mod aider;
mod amazon_q;
mod amp;
mod claude_code;
mod claude_desktop;
mod cline;
mod codex;
mod copilot;
mod crush;
mod cursor;
mod droid;
mod gemini;
mod goose;
pub mod hooks;
mod openclaw;
mod opencode;
pub mod printed;
mod qwen;
pub mod settings;
pub mod telemetry;

use std::sync::LazyLock;

use globset::{Glob, GlobBuilder, GlobSet, GlobSetBuilder};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::event::{Launch, Timestamp, normal_path};
use crate::intent::{AgentSession, ToolCall, ToolResult, basename};

/// One coding agent.
#[derive(Debug)]
pub struct Agent {
    /// As policies and reports name it: `claude-code`.
    pub id: &'static str,
    /// As people call it.
    pub title: &'static str,
    /// Absolute globs of its programs: executables, `#!` files, and scripts that an interpreter runs.
    pub programs: &'static [&'static str],
    /// Python modules it is run as (`python -m`).
    pub modules: &'static [&'static str],
    /// Its own services, by name; `*.x.example` for all below. What the agent's own process asks of them is its work.
    pub hosts: &'static [&'static str],
    /// What its own process keeps in a home on its own account, beside its record: globs such as `~/.claude/plugins/**`.
    pub keeps: &'static [&'static str],
    /// Where it keeps its own login, among the credential stores of the catalogue. Its process reads that for itself.
    pub logins: &'static [&'static str],
    /// What it writes into the environment of what it starts.
    pub marks: Marks,
    /// Where it is told what it may do.
    pub settings: &'static settings::Settings,
    /// How its record is read; `None` where nothing of ours can.
    pub record: Option<&'static Record>,
}

impl Agent {
    /// Whether a path is among what the agent itself keeps, in whatever home.
    pub fn is_kept(&self, path: &str) -> bool {
        let (set, owners) = &*KEPT;
        set.matches(path).iter().any(|index| owners[*index] == self.id)
    }

    /// Whether a path is the agent's own login, in whatever home.
    pub fn is_login(&self, path: &str) -> bool {
        let (set, owners) = &*LOGINS;
        set.matches(path).iter().any(|index| owners[*index] == self.id)
    }

    /// Whether this launch only passes a command on to a shell: a relay, the agent's own file as a helper, a sandbox.
    pub fn is_relay(&self, launch: &Launch) -> bool {
        let (set, owners) = &*RELAYS;
        let is_named = |path: &str| set.matches(path).iter().any(|index| owners[*index] == self.id);
        let script = launch.arguments.iter().skip(1).find(|word| !word.starts_with('-'));
        launch.arguments.first().is_some_and(|name| basename(name) == "bwrap")
            || is_named(&launch.executable.path)
            || script.is_some_and(|script| is_named(script))
            || recognise(launch, None).is_some_and(|agent| agent.id == self.id)
    }

    /// Whether a launch of the agent's program is a mere tool, by the name it was given.
    pub fn is_tool(&self, launch: &Launch) -> bool {
        let name = launch.arguments.first().map_or("", |word| basename(word));
        self.record.is_some_and(|record| record.tools.contains(&name))
    }

    /// Whether a name is one of the agent's own services.
    pub fn is_own_host(&self, name: &str) -> bool {
        self.hosts.iter().any(|host| match host.strip_prefix("*.") {
            Some(domain) => {
                name.strip_suffix(domain).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
            }
            None => *host == name,
        })
    }
}

/// Variables that an agent gives to what it starts. Anybody can set them: they label, and prove nothing.
#[derive(Debug)]
pub struct Marks {
    /// Those that hold the session's id, as the record has it.
    pub session: &'static [&'static str],
    /// Those that hold the id of the tool call.
    pub call: &'static [&'static str],
}

impl Marks {
    pub const NONE: Self = Self { session: &[], call: &[] };
}

/// What an agent writes about itself, and how it hands a command to a shell.
#[derive(Debug)]
pub struct Record {
    /// Where it lies. The first place that matches a file says how to read it.
    pub places: &'static [Place],
    /// The reader of one file, which is asked for its pieces in their order. A file that is written anew
    /// (`Form::Whole`) gets a new reader each time.
    pub reader: fn(path: &str) -> Box<dyn Reader>,
    /// The command that the model asked for, inside the words of a process that the agent starts for it.
    /// `None` for what the agent starts on its own account, and for words that do not show the command.
    pub command: fn(words: &[String]) -> Option<String>,
    /// Names under which the agent's program is only a tool: Claude Code's file also is a `grep`.
    pub tools: &'static [&'static str],
    /// Whether the agent also runs this text on its own account, so that no call has to ask for it.
    pub is_own: fn(text: &str) -> bool,
    /// Globs of its own programs that lie between it and the shell of a command: relays, a sandbox's launcher.
    pub relays: &'static [&'static str],
    /// Tests drive this agent; else the reader is written from its documentation, which a report says.
    pub is_tried: bool,
}

/// Files that hold records.
#[derive(Debug)]
pub struct Place {
    /// A glob below any user's home (`~/.claude/projects/**/*.jsonl`), below the workspace (`./.aider.chat.history.md`) or
    /// below the folder that a runner gives its jobs (`$RUNNER_TEMP/…`).
    pub files: &'static str,
    pub form: Form,
}

/// What a place lies below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Root {
    Home,
    Workspace,
    RunnerTemp,
}

impl Place {
    /// What it lies below, and the glob there.
    ///
    /// # Panics
    /// When the glob begins with nothing of the kind.
    pub fn below(&self) -> (Root, &'static str) {
        match self.files.split_once('/') {
            Some(("~", rest)) => (Root::Home, rest),
            Some((".", rest)) => (Root::Workspace, rest),
            Some(("$RUNNER_TEMP", rest)) => (Root::RunnerTemp, rest),
            _ => panic!("`{}` begins with neither `~/`, `./` nor `$RUNNER_TEMP/`", self.files),
        }
    }
}

/// How a record grows, and what one piece of it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// By lines at its end; a piece is one line. What was read must not change any more.
    Lines,
    /// It is written anew as a whole; a piece is the whole file. Entries that were told before are not told again.
    Whole,
    /// What the agent printed, which whoever takes it in writes as a whole, once or anew.
    Output,
    /// An `SQLite` database, whose write-ahead log may hold most of it. It is read from a copy, never in place.
    /// Each query has one parameter, the largest value that its first column had so far (at first -1). That
    /// column is an integer; the second is text, or a blob of text: a piece.
    Database(&'static [&'static str]),
}

/// Reads one file of a record, piece by piece. What it is given was written by others: it is data, and
/// may be anything.
pub trait Reader: std::fmt::Debug {
    /// What this piece says.
    fn read(&mut self, piece: &str) -> Vec<Entry>;
}

/// A reader that needs to remember nothing between two pieces.
#[derive(Debug)]
pub struct Stateless(pub fn(&str) -> Vec<Entry>);

impl Reader for Stateless {
    fn read(&mut self, piece: &str) -> Vec<Entry> {
        (self.0)(piece)
    }
}

/// What one piece of a record says, as far as it matters here. A piece of a kind that holds no tool
/// calls says nothing; one that should and can't be read is `Unreadable`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Entry {
    /// One use of a tool was asked for.
    Call(ToolCall),
    /// How it ended.
    Result(ToolResult),
    /// What the session says of itself. May come again when something of it changes.
    Session(AgentSession),
    /// It is no record of the form we know. Counted and told.
    Unreadable,
}

/// A member of a JSON object, if it is text.
fn text<'v>(value: &'v Value, name: &str) -> Option<&'v str> {
    value.get(name).and_then(Value::as_str)
}

/// An RFC 3339 time, as most records have it.
fn moment(text: &str) -> Option<Timestamp> {
    let nanoseconds = OffsetDateTime::parse(text, &Rfc3339).ok()?.unix_timestamp_nanos();
    u64::try_from(nanoseconds).ok().map(Timestamp)
}

/// A time in milliseconds, as the other records have it; 0 if there is none.
fn when(value: &Value) -> Timestamp {
    let milliseconds = value.as_u64().unwrap_or_default();
    Timestamp(milliseconds.saturating_mul(1_000_000))
}

/// The short texts anywhere in a value: what a call of a tool server may name. Bounded.
fn plain_words(value: &Value) -> Vec<String> {
    const MOST: usize = 64;
    const LONGEST: usize = 4096;
    let mut words = Vec::new();
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            Value::String(word) if word.len() <= LONGEST && words.len() < MOST => words.push(word.clone()),
            Value::Array(values) => left.extend(values.iter().rev()),
            Value::Object(values) => left.extend(values.values().rev()),
            _ => {}
        }
    }
    words
}

/// The agent with this id.
pub fn by_id(id: &str) -> Option<&'static Agent> {
    ALL.iter().copied().find(|agent| agent.id == id)
}

/// Every agent, by id.
pub const ALL: &[&Agent] = &[
    &aider::AGENT,
    &amazon_q::AGENT,
    &amp::AGENT,
    &claude_code::AGENT,
    &claude_desktop::AGENT,
    &cline::AGENT,
    &codex::AGENT,
    &copilot::AGENT,
    &crush::AGENT,
    &cursor::AGENT,
    &droid::AGENT,
    &gemini::AGENT,
    &goose::AGENT,
    &openclaw::AGENT,
    &opencode::AGENT,
    &qwen::AGENT,
];

/// The variables by which agents mark what they start; a sensor keeps them.
pub fn marks() -> impl Iterator<Item = &'static str> {
    ALL.iter().flat_map(|agent| agent.marks.session.iter().chain(agent.marks.call)).copied()
}

/// Where records lie: each place with its agent.
static PLACES: LazyLock<(GlobSet, Vec<(&'static Agent, &'static Place)>)> = LazyLock::new(|| {
    let mut set = GlobSetBuilder::new();
    let mut owners = Vec::new();
    for agent in ALL {
        for place in agent.record.iter().flat_map(|record| record.places) {
            // Which home or workspace it is doesn't matter: an agent may be given a home of its own.
            let glob = format!("/**/{}", place.below().1);
            let glob = GlobBuilder::new(&glob).literal_separator(false).build();
            set.add(glob.unwrap_or_else(|error| panic!("{}: {error}", agent.id)));
            owners.push((*agent, place));
        }
    }
    (set.build().unwrap_or_else(|error| panic!("{error}")), owners)
});

/// Globs below any home, each with its agent.
fn below_homes(globs: fn(&Agent) -> &'static [&'static str]) -> (GlobSet, Vec<&'static str>) {
    let mut set = GlobSetBuilder::new();
    let mut owners = Vec::new();
    for agent in ALL {
        for glob in globs(agent) {
            let below =
                glob.strip_prefix("~/").unwrap_or_else(|| panic!("`{glob}` does not begin with `~/`"));
            set.add(
                Glob::new(&format!("/**/{below}")).unwrap_or_else(|error| panic!("{}: {error}", agent.id)),
            );
            owners.push(agent.id);
        }
    }
    (set.build().unwrap_or_else(|error| panic!("{error}")), owners)
}

/// What agents keep, and where their logins lie.
static KEPT: LazyLock<(GlobSet, Vec<&'static str>)> = LazyLock::new(|| below_homes(|agent| agent.keeps));
static LOGINS: LazyLock<(GlobSet, Vec<&'static str>)> = LazyLock::new(|| below_homes(|agent| agent.logins));

static RELAYS: LazyLock<(GlobSet, Vec<&'static str>)> = LazyLock::new(|| {
    let mut set = GlobSetBuilder::new();
    let mut owners = Vec::new();
    for agent in ALL {
        for glob in agent.record.iter().flat_map(|record| record.relays) {
            set.add(Glob::new(glob).unwrap_or_else(|error| panic!("{}: {error}", agent.id)));
            owners.push(agent.id);
        }
    }
    (set.build().unwrap_or_else(|error| panic!("{error}")), owners)
});

/// Options of agents that switch their questions off, and values of such options.
const UNASKED: &[&str] = &[
    "--dangerously-skip-permissions",
    "--allow-dangerously-skip-permissions",
    "--permission-mode=bypassPermissions",
    "bypassPermissions",
    "--dangerously-bypass-approvals-and-sandbox",
    "--yolo",
    "--approval-mode=yolo",
    "--trust-all-tools",
    "--allow-all-tools",
    "--allow-all",
    "danger-full-access",
    "--sandbox=danger-full-access",
    "--yes-always",
    "--auto-approve",
    "--force",
    "--dangerously-allow-all",
    "--dangerously-skip-all-approvals",
    concat!("--skip-permissions-un", "safe"),
    "--approval-mode=auto",
    "--ask-for-approval=never",
    "--always-approve",
    "--auto-approve-all",
    "--no-confirm",
    "sandbox_mode=danger-full-access",
    "approval_policy=never",
];

/// Options whose next word switches the questions off.
const UNASKED_VALUES: &[(&str, &str)] = &[
    ("--permission-mode", "bypassPermissions"),
    ("--approval-mode", "yolo"),
    ("--ask-for-approval", "never"),
    ("-a", "never"),
    ("--sandbox", "danger-full-access"),
    ("-s", "danger-full-access"),
];

/// The option among these words that switches an agent's questions off.
pub fn unasked(arguments: &[String]) -> Option<&str> {
    let words = || arguments.iter().skip(1).map(String::as_str);
    let alone = words().find(|word| UNASKED.contains(&word.replace('"', "").as_str()));
    alone.or_else(|| {
        words().zip(words().skip(1)).find(|pair| UNASKED_VALUES.contains(pair)).map(|(option, _)| option)
    })
}

/// The agent whose program lies at this path.
pub fn program_at(path: &str) -> Option<&'static Agent> {
    let (set, owners) = &*PROGRAMS;
    set.matches(path).first().map(|index| ALL[owners[*index]])
}

/// Whose record this file is, by its path, and how it is read. A database's log is the database.
pub fn record_at(path: &str) -> Option<(&'static Agent, &'static Place)> {
    let path = ["-wal", "-shm", "-journal"].iter().find_map(|end| path.strip_suffix(end)).unwrap_or(path);
    let (set, owners) = &*PLACES;
    set.matches(path).first().map(|index| owners[*index])
}

static PROGRAMS: LazyLock<(GlobSet, Vec<usize>)> = LazyLock::new(|| {
    let mut set = GlobSetBuilder::new();
    let mut owners = Vec::new();
    for (index, agent) in ALL.iter().enumerate() {
        for program in agent.programs {
            set.add(Glob::new(program).unwrap_or_else(|error| panic!("{}: {error}", agent.id)));
            owners.push(index);
        }
    }
    (set.build().unwrap_or_else(|error| panic!("{error}")), owners)
});

/// The agent whose program lies at this path.
pub fn by_program(path: &str) -> Option<&'static Agent> {
    let (set, owners) = &*PROGRAMS;
    set.matches(path).first().map(|index| ALL[owners[*index]])
}

/// The agent that this launch starts. `script` is the real path of its `#!` file, when it was looked up.
pub fn recognise(launch: &Launch, script: Option<&str>) -> Option<&'static Agent> {
    let executable = launch.executable.path.as_str();
    let named = launch.script.as_ref().map(|script| script.path.as_str());
    [Some(executable), script, named].into_iter().flatten().find_map(by_program).or_else(|| {
        // `node …/cli.js`, `python -m aider`: what the interpreter runs.
        let name = executable.rsplit('/').next().unwrap_or(executable);
        if !["node", "bun", "deno", "python", "pypy"].iter().any(|interpreter| name.starts_with(interpreter))
        {
            return None;
        }
        let words = launch.arguments.get(1..).unwrap_or_default();
        let at = words.iter().position(|word| word == "-m" || !word.starts_with('-'))?;
        if words[at] == "-m" {
            let module = words.get(at + 1)?;
            return ALL.iter().copied().find(|agent| agent.modules.contains(&module.as_str()));
        }
        by_program(&normal_path(&format!(
            "{}/{}",
            if words[at].starts_with('/') { "" } else { &launch.directory },
            words[at]
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::File;

    /// What an agent's reader made of some pieces, in words.
    #[derive(Debug, Default, PartialEq, Eq)]
    pub(super) struct Told {
        /// Session, id and tool, commands, names, and the call it is a part of.
        pub(super) calls: Vec<String>,
        pub(super) times: Vec<String>,
        pub(super) ended: Vec<String>,
        pub(super) refused: Vec<String>,
        /// Id, folder, version and mode; a `!` if it does not ask.
        pub(super) sessions: Vec<String>,
        pub(super) unreadable: usize,
    }

    pub(super) fn told(agent: &Agent, pieces: &[&str]) -> Told {
        told_at(agent, "/home/u/record", pieces)
    }

    pub(super) fn told_at(agent: &Agent, path: &str, pieces: &[&str]) -> Told {
        let mut reader = (agent.record.unwrap().reader)(path);
        let mut told = Told::default();
        for entry in pieces.iter().flat_map(|piece| reader.read(piece)) {
            match entry {
                Entry::Call(call) => {
                    let commands =
                        call.commands.iter().fold(String::new(), |all, text| all + " `" + text + "`");
                    let within = call.within.map(|call| format!(" in {call}")).unwrap_or_default();
                    let names = call.names.join(" ");
                    told.calls.push(format!(
                        "{} {} {}{commands} [{names}]{within}",
                        call.session, call.call, call.tool
                    ));
                    told.times.push(call.time.rfc3339());
                }
                Entry::Result(result) if result.denied => told.refused.push(result.call),
                Entry::Result(result) => told.ended.push(result.call),
                Entry::Session(session) => {
                    let words = [Some(session.session), session.directory, session.version, session.mode];
                    let mut text = words.into_iter().flatten().collect::<Vec<_>>().join(" ");
                    if session.unasked {
                        text.push('!');
                    }
                    told.sessions.push(text);
                }
                Entry::Unreadable => told.unreadable += 1,
            }
        }
        told
    }

    pub(super) fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    fn agent(executable: &str, script: Option<&str>, arguments: &str) -> Option<&'static str> {
        let launch = Launch {
            executable: File::at(executable),
            arguments: arguments.split(' ').map(str::to_owned).collect(),
            directory: "/w".into(),
            ..Launch::default()
        };
        recognise(&launch, script).map(|agent| agent.id)
    }

    #[test]
    fn every_agent_has_its_file_and_its_place_in_the_list() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/agents");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| {
                !["mod.rs", "hooks.rs", "printed.rs", "settings", "telemetry.rs"].contains(&name.as_str())
            })
            .map(|name| name.trim_end_matches(".rs").replace('_', "-"))
            .collect();
        files.sort();
        let ids: Vec<&str> = ALL.iter().map(|agent| agent.id).collect();
        assert_eq!(files, ids);
        for agent in ALL.iter().filter(|agent| !agent.settings.sources.is_empty()) {
            let settings = format!("{folder}/settings/{}.rs", agent.id.replace('-', "_"));
            assert!(std::path::Path::new(&settings).is_file(), "{settings}");
        }
    }

    #[test]
    fn knows_an_agent_by_where_it_lies() {
        let modules = "/opt/agents/node_modules";
        for (executable, script, arguments, wanted) in [
            (
                format!("{modules}/@anthropic-ai/claude-code/bin/claude.exe"),
                None,
                "claude -p x",
                "claude-code",
            ),
            ("/home/r/.local/share/claude/versions/2.1.330".to_owned(), None, "claude", "claude-code"),
            (
                "/usr/bin/env".to_owned(),
                Some(format!("{modules}/@openai/codex/bin/codex.js")),
                "env node codex",
                "codex",
            ),
            (
                format!("{modules}/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"),
                None,
                "codex",
                "codex",
            ),
            (
                "/usr/bin/node".to_owned(),
                None,
                "node --no-warnings /opt/agents/node_modules/@google/gemini-cli/bundle/gemini.js",
                "gemini",
            ),
            ("/usr/bin/node".to_owned(), None, "node node_modules/@qwen-code/qwen-code/cli-entry.js", "qwen"),
            // Started again by the link that it was started by.
            (
                "/usr/bin/node".to_owned(),
                None,
                "node --max-old-space-size=4096 /n/node_modules/.bin/gemini",
                "gemini",
            ),
            (
                "/usr/bin/node".to_owned(),
                None,
                "node --expose-gc node_modules/@qwen-code/qwen-code/cli.js --yolo",
                "qwen",
            ),
            (format!("{modules}/@github/copilot-linux-x64/copilot"), None, "copilot", "copilot"),
            (format!("{modules}/opencode-linux-x64/bin/opencode"), None, "opencode run", "opencode"),
            (format!("{modules}/@cline/cli-linux-x64/bin/cline"), None, "cline", "cline"),
            ("/usr/bin/python3.11".to_owned(), None, "python3 -m aider --message x", "aider"),
            (
                "/usr/bin/python3.11".to_owned(),
                Some("/w/.venv/bin/aider".to_owned()),
                "python /w/.venv/bin/aider",
                "aider",
            ),
        ] {
            assert_eq!(
                agent(&executable, script.as_deref(), arguments),
                Some(wanted),
                "{executable} {arguments}"
            );
        }
    }

    #[test]
    fn relays_are_the_agents_own_programs() {
        let is_relay = |agent: &str, executable: &str, arguments: &[&str]| {
            let launch = Launch {
                executable: File::at(executable),
                arguments: words(arguments),
                directory: "/w".into(),
                ..Launch::default()
            };
            by_id(agent).is_some_and(|agent| agent.is_relay(&launch))
        };
        let relay = "/opt/node_modules/openclaw/dist/process/supervisor/service-child-relay.js";
        assert!(is_relay("openclaw", "/usr/bin/node", &["/usr/bin/node", relay]));
        let codex = "/opt/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex";
        assert!(is_relay("codex", codex, &["codex-linux-sandbox", "--", "/bin/bash", "-c", "x"]));
        assert!(is_relay("codex", "/usr/bin/bwrap", &["bwrap", "--ro-bind", "/", "/"]));
        for (agent, executable, arguments) in [
            ("openclaw", "/usr/bin/node", &["/usr/bin/node", "/w/relay.js"][..]),
            ("codex", "/usr/bin/make", &["make", "bwrap"]),
            ("gemini", codex, &["codex"]),
        ] {
            assert!(!is_relay(agent, executable, arguments), "{agent} {arguments:?}");
        }
    }

    #[test]
    fn a_name_alone_is_no_agent() {
        for (executable, arguments) in [
            ("/usr/bin/node", "node /w/codex/test.js"),
            ("/usr/bin/git", "git clone claude-code"),
            ("/w/claude", "claude"),
            ("/usr/bin/node", "node /usr/lib/node_modules/npm/bin/npm-cli.js install @openai/codex"),
            ("/usr/bin/python3", "python3 -m pytest aider"),
            // Tools that an agent brings along are its tools, not agents.
            (
                "/n/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/codex-path/rg",
                "rg x",
            ),
        ] {
            assert_eq!(agent(executable, None, arguments), None, "{executable} {arguments}");
        }
    }
}
