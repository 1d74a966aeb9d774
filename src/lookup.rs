//! What is looked up on the host the moment a program is launched: its digest, and which coding agent it is.
//!
//! The kernel half says which object was launched; its content is read here, outside the kernel, and
//! the answer goes into the record as a [`Fact`] before the launch. An executable is read again only
//! when its (device, inode, ctime) is new. For a `#!` file the kernel tells the path alone, so that path
//! is opened again, and counts only if the file has not changed since the launch.
//!
//! Reading happens on a thread of its own: a job may launch a program from a file system that it
//! serves itself and never answers for.
//!
//! What a build reads of the job's sources is looked at as well, but nobody waits for that: `lookup/sources.rs`.

mod index;
mod settings;
mod sources;

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::agents;
use crate::catalogue;
use crate::engine::Input;
use crate::event::{self, Activity, AgentCommands, Event, Fact, Launch, ProcessKey, Timestamp, hex};
use crate::intent::agent_commands;
use crate::intent::workflow::Workflow;
use crate::job::Job;

pub use settings::{Base, sources};

/// Larger programs are not read: 512 MiB.
const LARGEST: u64 = 512 << 20;
/// Read at most this much in one run: 16 GiB. A job that launches ever new large programs must not
/// keep the guard busy.
const BUDGET: u64 = 16 << 30;
/// How long one program may take before the run goes on without its digest.
const PATIENCE: Duration = Duration::from_secs(2);
/// Objects remembered as read. Past it they are read again, which costs time and nothing else.
const MOST: usize = 65_536;

/// Of an agent's settings no more is read: 256 KiB.
const LARGEST_SETTINGS: u64 = 256 << 10;

/// A shorter value stands in too much that is no secret.
const SHORTEST_SECRET: usize = 6;

/// Where the system keeps its programs.
const INSTALLED: [&str; 6] = ["/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin", "/bin", "/sbin"];

/// The system's programs by their size.
fn installed() -> HashMap<u64, Vec<PathBuf>> {
    let mut by_size: HashMap<u64, Vec<PathBuf>> = HashMap::new();
    let entries = INSTALLED.iter().filter_map(|folder| std::fs::read_dir(folder).ok()).flatten().flatten();
    for entry in entries.take(MOST) {
        if let Ok(metadata) = entry.metadata()
            && metadata.is_file()
        {
            by_size.entry(metadata.len()).or_default().push(entry.path());
        }
    }
    by_size
}

/// Where runners have the files by which steps tell them something.
const STEP_FILES: [&str; 2] = ["/_runner_file_commands/", "/act/workflow/"];
/// Variables that make programs load or run a file first.
const STARTERS: [&str; 10] = [
    "LD_PRELOAD",
    "LD_AUDIT",
    "NODE_OPTIONS",
    "BASH_ENV",
    "ENV",
    "PYTHONSTARTUP",
    "PERL5OPT",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
    "GIT_SSH_COMMAND",
];

fn is_step_file(path: &str) -> bool {
    STEP_FILES.iter().any(|folder| path.contains(folder))
}

/// Whether the file's lines are folders that come before all others where later steps look for programs.
fn is_path_file(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name == "path" || name == "pathcmd.txt" || name.starts_with("add_path")
}

/// The folders of such a file, and the programs in each that have the name of one of the system's.
fn on_path(text: &str) -> Vec<(String, String)> {
    const FOLDERS: usize = 64;
    const SHADOWS: usize = 16;
    let mut found = Vec::new();
    for folder in text.lines().map(|line| line.trim().trim_end_matches('/')).take(FOLDERS) {
        if !folder.starts_with('/') || INSTALLED.contains(&folder) {
            continue;
        }
        found.push(("PATH".to_owned(), folder.to_owned()));
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(MOST);
        let is_installed = |name: &std::ffi::OsString| {
            INSTALLED.iter().any(|installed| Path::new(installed).join(name).symlink_metadata().is_ok())
        };
        let shadows = entries.map(|entry| entry.file_name()).filter(is_installed).take(SHADOWS);
        found.extend(shadows.map(|name| ("PATH".to_owned(), format!("{folder}/{}", name.to_string_lossy()))));
    }
    found
}

/// What a file of a step sets that makes later programs start with a file: the variable, and each file.
fn settings(path: &str) -> Vec<(String, String)> {
    const LARGEST: u64 = 1 << 20;
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    let read = || -> io::Result<String> {
        let file = File::options().read(true).custom_flags(flags).open(path)?;
        let mut text = Vec::new();
        if file.metadata()?.is_file() {
            file.take(LARGEST).read_to_end(&mut text)?;
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    };
    let text = read().unwrap_or_default();
    if is_path_file(path) {
        return on_path(&text);
    }
    let mut found = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let (name, value) = match (line.split_once("<<"), line.split_once('=')) {
            (Some((name, end)), _) if !name.contains('=') => {
                let value: Vec<&str> = lines.by_ref().take_while(|line| *line != end).collect();
                (name, value.join(" "))
            }
            (_, Some((name, value))) => (name, value.to_owned()),
            _ => continue,
        };
        if STARTERS.contains(&name) {
            let files = value.split([' ', '=', ':', ',', '"']).filter(|word| word.starts_with('/'));
            found.extend(files.map(|file| (name.to_owned(), file.to_owned())));
        }
    }
    found
}

/// A file as it is now; another size or time is another content.
type Stamp = (u64, u64, u64, (i64, i64), (i64, i64));

/// Looks up what is launched.
#[derive(Debug)]
pub struct Lookup {
    /// Executables that were told.
    executables: HashSet<(u64, u64, Option<Timestamp>)>,
    /// Scripts that were told: the path, and what was there.
    scripts: HashMap<String, (u64, u64, Option<Timestamp>)>,
    /// The system's programs by size, to know a copy of one; read when it is first needed.
    installed: Option<HashMap<u64, Vec<PathBuf>>>,
    /// Who wrote a file by which a step sets variables of later ones.
    setters: HashMap<ProcessKey, String>,
    ask: Sender<Request>,
    answers: Receiver<(u64, Option<Content>)>,
    /// The process that runs a job's steps, and those of its children that have not launched a program yet.
    runner: Option<Runner>,
    settings: settings::Reader,
    sources: sources::Sources,
    /// Settings of coding agents that a process wrote; they are read when it ends.
    written: HashMap<ProcessKey, Vec<String>>,
    /// Numbers of the last request and of the last answer; they differ while one is overdue.
    asked: u64,
    answered: u64,
}

/// The runner of a job, whose children are the steps.
#[derive(Debug)]
struct Runner {
    pid: u32,
    job: Job,
    children: HashSet<ProcessKey>,
    /// The workflow's file, once it is there: it says which parts of a script stand for secrets.
    workflow: Option<Workflow>,
    /// Values that must not be told.
    secrets: Vec<String>,
}

#[derive(Debug)]
struct Request {
    number: u64,
    wanted: Wanted,
    /// Where the object may be found, likeliest first.
    places: Vec<PathBuf>,
}

#[derive(Debug)]
enum Wanted {
    /// This very object.
    Object { inode: u64, changed: Option<Timestamp> },
    /// Whatever is there, if it has not changed since this moment.
    Unchanged { since: Timestamp },
}

#[derive(Clone, Debug)]
struct Content {
    sha256: String,
    size: u64,
    path: String,
    device: u64,
    inode: u64,
    changed: Option<Timestamp>,
}

impl Default for Lookup {
    fn default() -> Self {
        Self::new()
    }
}

impl Lookup {
    /// Starts the reading thread, which ends with this value.
    pub fn new() -> Self {
        let (ask, requests) = channel::<Request>();
        let (answer, answers) = channel();
        std::thread::spawn(move || {
            let mut reader = Reader { known: HashMap::new(), left: BUDGET };
            for request in requests {
                let content =
                    request.places.iter().find_map(|place| reader.read(place, &request.wanted).ok());
                if answer.send((request.number, content)).is_err() {
                    return;
                }
            }
        });
        let (executables, scripts) = (HashSet::new(), HashMap::new());
        let settings = settings::Reader::default();
        Self {
            executables,
            scripts,
            installed: None,
            ask,
            answers,
            runner: None,
            settings,
            sources: sources::Sources::default(),
            written: HashMap::new(),
            setters: HashMap::new(),
            asked: 0,
            answered: 0,
        }
    }

    /// Reads the text of each step that this process, the runner of the job, begins from now on.
    pub fn steps_of(&mut self, pid: u32, job: &Job) {
        let (children, secrets) = (HashSet::new(), Vec::new());
        self.runner = Some(Runner { pid, job: job.clone(), children, workflow: None, secrets });
    }

    /// Compares what a repository lets agents do with what it does at this commit, from which a change is under review.
    pub fn compare_with(&mut self, base: Base) {
        self.settings.base = Some(base);
    }

    /// Files of the repository that say what agents may do, and whose reviewed copies are still to be had.
    pub fn unreviewed(&self) -> Vec<String> {
        self.settings.unreviewed()
    }

    /// Takes the reviewed copy of such a file from whoever could read it; `None`: there is none.
    pub fn review(&mut self, file: &str, text: Option<&str>) -> Vec<Fact> {
        self.settings.review(file, text).into_iter().map(Fact::AgentSettings).collect()
    }

    /// The reviewed copies that nobody handed over, from git's objects: only when nothing is recorded any more.
    pub fn review_rest(&mut self) -> Vec<Fact> {
        self.settings.review_rest().into_iter().map(Fact::AgentSettings).collect()
    }

    /// Marks hooks of ours in what an agent's settings say. They are known by agent and command.
    pub fn own_hooks(&mut self, is_own: impl Fn(&str, &str) -> bool + Send + 'static) {
        self.settings.own_hook = Some(settings::OwnHook(Box::new(is_own)));
    }

    /// Takes the workflow's file from whoever read it where the job can't have changed it.
    pub fn workflow(&mut self, text: &str) {
        if let Some(runner) = &mut self.runner {
            runner.workflow = Workflow::parse(text).ok();
        }
    }

    /// What the text of a step held in place of a secret, and no record may hold.
    pub fn take_secrets(&mut self) -> Vec<String> {
        self.runner.as_mut().map(|runner| std::mem::take(&mut runner.secrets)).unwrap_or_default()
    }

    /// What of the sources is still to be told, and what could not be looked at: when nothing is recorded any more.
    pub fn end(&mut self) -> Vec<Fact> {
        self.sources.end()
    }

    /// The facts that belong before this input in the record: those of a launch, and what was found meanwhile.
    pub fn before(&mut self, input: &Input) -> Vec<Fact> {
        let mut facts = self.sources.facts();
        if let Input::Event(event) = input {
            self.follow(event);
        }
        facts.extend(self.of(input));
        facts
    }

    /// Follows who is who and who reads what, for the sources.
    fn follow(&mut self, event: &Event) {
        match &event.activity {
            Activity::Fork { child } => self.sources.forked(event.actor, *child),
            Activity::Launch(launch) => self.sources.launched(event.actor, launch),
            Activity::Exit { .. } => self.sources.ended(event.actor),
            Activity::Rename { to, .. } => self.sources.renamed(&to.path, event.time),
            Activity::Symlink { target, file } => self.sources.linked(target, &file.path),
            Activity::Open { file, access } => self.sources.opened(event, file, *access),
            _ => {}
        }
    }

    /// The facts of this very input.
    fn of(&mut self, input: &Input) -> Vec<Fact> {
        match input {
            Input::Start(start) => {
                self.settings.job(&start.job);
                self.sources.job(&start.job.workspace, start.time);
                Vec::new()
            }
            Input::Fact(Fact::Home { uid, path }) => {
                self.settings.homes.insert(*uid, path.clone());
                Vec::new()
            }
            Input::Event(event) => match &event.activity {
                Activity::Fork { child } => {
                    if let Some(runner) = &mut self.runner
                        && event.actor.pid == runner.pid
                        && runner.children.len() < MOST
                    {
                        runner.children.insert(*child);
                    }
                    Vec::new()
                }
                Activity::Launch(launch) => self.launch(event.actor, event.time, launch),
                Activity::Open { file, access } if access.write || access.create => {
                    if access.write && is_step_file(&file.path) && self.setters.len() < MOST {
                        self.setters.insert(event.actor, file.path.clone());
                    }
                    self.wrote(event.actor, &file.path)
                }
                Activity::Rename { to, .. } => self.wrote(event.actor, &to.path),
                Activity::Exit { .. } => {
                    let files = self.written.remove(&event.actor);
                    let mut facts = files.map_or_else(Vec::new, |files| settings_in(event.actor, files));
                    let path = self.setters.remove(&event.actor);
                    let settings = path.as_deref().map(settings).unwrap_or_default();
                    let path = path.filter(|_| !settings.is_empty());
                    facts.extend(path.map(|path| Fact::StepVariables {
                        process: event.actor,
                        path,
                        settings,
                    }));
                    facts
                }
                _ => Vec::new(),
            },
            // What was there before the guard may have changed any time since; its image has not.
            Input::Fact(Fact::Running(running)) => {
                if let Some(runner) = &mut self.runner
                    && running.parent.is_some_and(|parent| parent.pid == runner.pid)
                {
                    runner.children.insert(running.process);
                }
                let launch = running.launch.as_ref();
                if let Some(parent) = running.parent {
                    self.sources.forked(parent, running.process);
                }
                if let Some(launch) = launch {
                    self.sources.launched(running.process, launch);
                }
                launch.map_or_else(Vec::new, |launch| self.launch(running.process, Timestamp(0), launch))
            }
            _ => Vec::new(),
        }
    }

    /// Notes settings of a coding agent that a process writes. There is nothing to tell yet.
    fn wrote(&mut self, process: ProcessKey, path: &str) -> Vec<Fact> {
        const FILES: usize = 16;
        // Asked for every write: few of them are of such files.
        let is_settings = path.contains("/.")
            && matches!(path.rsplit('.').next(), Some("json" | "toml"))
            && catalogue::is_object("agent-settings", path);
        if is_settings && self.written.len() < MOST {
            let files = self.written.entry(process).or_default();
            if files.len() < FILES && !files.iter().any(|known| known == path) {
                files.push(path.to_owned());
            }
        }
        Vec::new()
    }

    fn launch(&mut self, process: ProcessKey, time: Timestamp, launch: &Launch) -> Vec<Fact> {
        let mut facts = Vec::new();
        facts.extend(self.runner.as_mut().and_then(|runner| runner.script(process, launch)));
        facts.extend(self.executable(process, &launch.executable));
        let mut script = None;
        if let Some(file) = &launch.script {
            let (fact, path) = self.script(process, time, file);
            facts.extend(fact);
            script = path;
        }
        if let Some(agent) = agents::recognise(launch, script.as_deref()) {
            facts.push(Fact::Agent { process, agent: agent.id.to_owned() });
            facts.extend(self.settings.of(agent, process, launch).into_iter().map(Fact::AgentSettings));
            let folder = launch.directory.trim_end_matches('/');
            let files = agent_commands::FILES.iter().map(|name| format!("{folder}/{name}"));
            facts.extend(settings_in(process, files.collect()));
        }
        facts
    }

    fn executable(&mut self, process: ProcessKey, file: &event::File) -> Vec<Fact> {
        if file.inode == 0 {
            return Vec::new();
        }
        if self.executables.len() >= MOST {
            self.executables.clear();
        }
        if !self.executables.insert((file.device, file.inode, file.changed)) {
            return Vec::new();
        }
        let image = PathBuf::from(format!("/proc/{}/exe", process.pid));
        let places = std::iter::once(image).chain(self.sources.places(process, &file.path)).collect();
        let content = self.ask(Wanted::Object { inode: file.inode, changed: file.changed }, places);
        let original = content.as_ref().and_then(|content| self.original(&file.path, content));
        let own = Fact::Digest { file: file.clone(), sha256: content.map(|content| content.sha256) };
        original.into_iter().chain([own]).collect()
    }

    /// The program of the system that this one, which lies elsewhere, is a copy of.
    fn original(&mut self, path: &str, content: &Content) -> Option<Fact> {
        /// Programs of one size that are read.
        const ALIKE: usize = 4;
        if INSTALLED.iter().any(|folder| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/')))
        {
            return None;
        }
        let alike = self.installed.get_or_insert_with(installed).get(&content.size)?.clone();
        let since = Timestamp(u64::MAX);
        let original = alike
            .into_iter()
            .take(ALIKE)
            .filter_map(|place| self.ask(Wanted::Unchanged { since }, vec![place]))
            .find(|other| other.sha256 == content.sha256 && other.inode != content.inode)?;
        let file = event::File {
            path: original.path,
            device: original.device,
            inode: original.inode,
            changed: original.changed,
            ..event::File::default()
        };
        Some(Fact::Digest { file, sha256: Some(original.sha256) })
    }

    /// The fact to tell, if there is something new, and the script's real path.
    fn script(
        &mut self,
        process: ProcessKey,
        since: Timestamp,
        file: &event::File,
    ) -> (Option<Fact>, Option<String>) {
        let places =
            vec![format!("/proc/{}/root{}", process.pid, file.path).into(), file.path.clone().into()];
        let content = self.ask(Wanted::Unchanged { since }, places);
        let known = content.as_ref().map_or((0, 0, None), |it| (it.device, it.inode, it.changed));
        if self.scripts.len() >= MOST {
            self.scripts.clear();
        }
        let is_new = self.scripts.insert(file.path.clone(), known) != Some(known);
        let path = content.as_ref().map(|content| content.path.clone());
        let fact = Fact::Digest { file: file.clone(), sha256: content.map(|content| content.sha256) };
        (is_new.then_some(fact), path)
    }

    fn ask(&mut self, wanted: Wanted, places: Vec<PathBuf>) -> Option<Content> {
        // An answer that came too late makes the reader free again; it is of no use any more.
        while let Ok((number, _)) = self.answers.try_recv() {
            self.answered = number;
        }
        if self.answered != self.asked {
            return None;
        }
        self.asked += 1;
        self.ask.send(Request { number: self.asked, wanted, places }).ok()?;
        let (number, content) = self.answers.recv_timeout(PATIENCE).ok()?;
        self.answered = number;
        content
    }
}

/// What settings make an agent run, read on a thread of its own: a folder may be somebody's file system.
fn settings_in(process: ProcessKey, files: Vec<String>) -> Vec<Fact> {
    let (answer, answers) = channel();
    std::thread::spawn(move || {
        let read = files.into_iter().filter_map(|file| {
            let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY | nix::libc::O_CLOEXEC;
            let opened = File::options().read(true).custom_flags(flags).open(&file).ok()?;
            opened.metadata().ok().filter(Metadata::is_file)?;
            let mut text = String::new();
            opened.take(LARGEST_SETTINGS).read_to_string(&mut text).ok()?;
            let runs = agent_commands::read(&file, &text);
            let is_empty = runs.servers.is_empty() && runs.hooks.is_empty();
            let (servers, hooks) = (runs.servers, runs.hooks);
            (!is_empty).then_some(Fact::AgentCommands(AgentCommands { process, file, servers, hooks }))
        });
        let _ = answer.send(read.collect::<Vec<_>>());
    });
    answers.recv_timeout(PATIENCE).unwrap_or_default()
}

impl Runner {
    /// The text that a step's shell is about to run: the last file that its words name.
    fn script(&mut self, process: ProcessKey, launch: &Launch) -> Option<Fact> {
        if !self.children.remove(&process) || !launch.environment.contains_key("GITHUB_ACTION") {
            return None;
        }
        let path = launch.arguments.iter().skip(1).rev().find(|word| word.starts_with('/'))?;
        let mut text = crate::runners::github::text(path)?;
        if self.workflow.is_none()
            && let Some(Fact::Workflow { text, .. }) = crate::runners::github::workflow(&self.job)
        {
            self.workflow = Workflow::parse(&text).ok();
        }
        let secrets = self.workflow.as_ref().map(|file| file.secrets_in(&self.job.name, &text));
        for secret in secrets.into_iter().flatten().filter(|secret| secret.len() >= SHORTEST_SECRET) {
            text = text.replace(&secret, "***");
            self.secrets.push(secret);
        }
        Some(Fact::Script { process, path: path.clone(), text })
    }
}

/// The thread's side.
struct Reader {
    known: HashMap<Stamp, String>,
    /// Bytes that may still be read.
    left: u64,
}

impl Reader {
    fn read(&mut self, place: &PathBuf, wanted: &Wanted) -> io::Result<Content> {
        let refused = || io::Error::from(io::ErrorKind::InvalidData);
        let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY | nix::libc::O_CLOEXEC;
        let mut file = File::options().read(true).custom_flags(flags).open(place)?;
        let metadata = file.metadata()?;
        let is_wanted = match wanted {
            // The device is left out: stacked file systems number it differently for the kernel and for us.
            Wanted::Object { inode, changed: known } => {
                metadata.ino() == *inode && known.is_none_or(|known| Some(known) == changed(&metadata))
            }
            Wanted::Unchanged { since } => changed(&metadata).is_some_and(|changed| changed < *since),
        };
        if !metadata.is_file() || !is_wanted || metadata.len() > LARGEST.min(self.left) {
            return Err(refused());
        }
        let stamp = stamp(&metadata);
        let sha256 = if let Some(known) = self.known.get(&stamp) {
            known.clone()
        } else {
            let sha256 = digest(&mut file, metadata.len())?;
            self.left = self.left.saturating_sub(metadata.len());
            // What was written to meanwhile has a digest of no moment.
            if self::stamp(&file.metadata()?) != stamp {
                return Err(refused());
            }
            if self.known.len() >= MOST {
                self.known.clear();
            }
            self.known.insert(stamp, sha256.clone());
            sha256
        };
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
        Ok(Content {
            sha256,
            size: metadata.len(),
            path: path.to_string_lossy().into_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            changed: changed(&metadata),
        })
    }
}

/// SHA-256 of a file of this size, in hex; one that grows under our hands is refused.
fn digest(file: &mut File, size: u64) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    let mut done = 0;
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex(&hasher.finalize()));
        }
        done += count as u64;
        if done > size {
            return Err(io::ErrorKind::InvalidData.into());
        }
        hasher.update(&buffer[..count]);
    }
}

fn stamp(metadata: &Metadata) -> Stamp {
    (
        metadata.dev(),
        metadata.ino(),
        metadata.len(),
        (metadata.mtime(), metadata.mtime_nsec()),
        (metadata.ctime(), metadata.ctime_nsec()),
    )
}

fn changed(metadata: &Metadata) -> Option<Timestamp> {
    let nanoseconds = u64::try_from(metadata.ctime()).ok()?.checked_mul(1_000_000_000)?;
    nanoseconds.checked_add(u64::try_from(metadata.ctime_nsec()).ok()?).map(Timestamp)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    const LATER: Timestamp = Timestamp(u64::MAX);

    /// The launch of an executable as the recorder tells it. No process has this number, so the path
    /// is what leads to the object.
    fn input(time: Timestamp, launch: Launch) -> Input {
        let actor = ProcessKey { pid: u32::MAX, start: 1 };
        Input::Event(Event { time, actor, activity: Activity::Launch(launch) })
    }

    fn executable(path: &std::path::Path) -> Input {
        let metadata = std::fs::metadata(path).unwrap();
        let file = event::File {
            path: path.to_string_lossy().into_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
            changed: changed(&metadata),
            ..event::File::default()
        };
        input(LATER, Launch { executable: file, ..Launch::default() })
    }

    fn script(path: &std::path::Path, time: Timestamp) -> Input {
        let file = event::File::at(path.to_string_lossy());
        input(time, Launch { script: Some(file), ..Launch::default() })
    }

    fn digests(facts: &[Fact]) -> Vec<Option<&str>> {
        facts
            .iter()
            .map(|fact| match fact {
                Fact::Digest { sha256, .. } => sha256.as_deref(),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Long enough for the file system's clock to tell two changes apart.
    fn wait() {
        std::thread::sleep(Duration::from_millis(20));
    }

    #[test]
    fn a_steps_file_is_read_for_what_later_programs_start_with() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("env");
        std::fs::write(
            &path,
            "A=/x\nNODE_OPTIONS=--max-old-space-size=4096\nLD_PRELOAD=/tmp/a.so\nBASH_ENV<<E\n/tmp/b.sh\nE\n",
        )
        .expect("written");
        let found = settings(path.to_str().expect("plain"));
        let wanted = [("LD_PRELOAD", "/tmp/a.so"), ("BASH_ENV", "/tmp/b.sh")];
        assert_eq!(found, wanted.map(|(name, file)| (name.to_owned(), file.to_owned())));
    }

    #[test]
    fn a_steps_path_file_is_read_for_folders_and_for_programs_in_the_place_of_others() {
        let folder = tempfile::tempdir().expect("a folder");
        let (path, tools) = (folder.path().join("add_path_1"), folder.path().join("tools"));
        std::fs::create_dir(&tools).expect("a folder");
        for name in ["ls", "a-name-of-its-own"] {
            std::fs::write(tools.join(name), "").expect("written");
        }
        let tools = tools.to_str().expect("plain");
        std::fs::write(&path, format!("{tools}/\n/usr/bin\nrelative\n/not/there\n")).expect("written");
        let found = settings(path.to_str().expect("plain"));
        let files: Vec<&str> = found.iter().map(|(_, file)| file.as_str()).collect();
        assert_eq!(files, [tools, &format!("{tools}/ls"), "/not/there"]);
        assert!(found.iter().all(|(name, _)| name == "PATH"));
    }

    #[test]
    fn reads_an_object_once_and_again_when_it_changed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        std::fs::write(&path, "abc").unwrap();
        let mut lookup = Lookup::new();
        let first = executable(&path);
        assert_eq!(digests(&lookup.before(&first)), [Some(ABC)]);
        assert_eq!(lookup.before(&first), []);
        wait();
        std::fs::write(&path, "abcd").unwrap();
        let second = executable(&path);
        assert_ne!(first, second);
        let facts = lookup.before(&second);
        assert!(matches!(digests(&facts)[..], [Some(digest)] if digest != ABC));
    }

    #[test]
    fn a_program_that_is_gone_or_another_one_by_now_has_no_digest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool");
        std::fs::write(&path, "abc").unwrap();
        let input = executable(&path);
        wait();
        std::fs::write(&path, "other").unwrap();
        assert_eq!(digests(&Lookup::new().before(&input)), [None]);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(digests(&Lookup::new().before(&input)), [None]);
    }

    #[test]
    fn a_script_counts_as_it_was_when_it_was_launched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tool.sh");
        std::fs::write(&path, "abc").unwrap();
        let mut lookup = Lookup::new();
        assert_eq!(digests(&lookup.before(&script(&path, LATER))), [Some(ABC)]);
        assert_eq!(lookup.before(&script(&path, LATER)), []);
        // Written after the launch: what ran is not known.
        assert_eq!(digests(&Lookup::new().before(&script(&path, Timestamp(1)))), [None]);
    }

    #[test]
    fn a_program_that_never_answers_holds_up_the_run_once() {
        let folder = tempfile::tempdir().unwrap();
        let (slow, fine) = (folder.path().join("slow"), folder.path().join("fine"));
        nix::unistd::mkfifo(&slow, nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::fs::write(&fine, "abc").unwrap();
        let mut lookup = Lookup::new();
        // A pipe is no program, and opening it must not wait for its writer.
        assert_eq!(digests(&lookup.before(&executable(&slow))), [None]);
        assert_eq!(digests(&lookup.before(&executable(&fine))), [Some(ABC)]);
        // As if the reader hung in a file system that does not answer.
        lookup.asked += 1;
        let late = folder.path().join("late");
        std::fs::write(&late, "abc").unwrap();
        assert_eq!(digests(&lookup.before(&executable(&late))), [None]);
    }
}
