//! The one loop: wait for an [`Input`], write it down, give it to the engine; then the reports.

mod action;
mod agents;
mod diff;
mod explain;
mod harden;
mod hook;
pub mod hooks;
mod leaks;
mod live;
mod posture;
mod replay;
pub mod sidecar;
pub mod streams;
mod telemetry;
mod verify;

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::CommandFactory as _;
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

use crate::cli::{
    AgentOutput, Cli, Command, ModeArgument, PolicyCommand, Run, SensorArgument, UnsupportedArgument,
    Watching,
};
use crate::detections;
use crate::engine::{End, Engine, HEARTBEAT_NS, Heartbeat, Input, Settings, Start};
use crate::event::{Event, Fact, Timestamp};
use crate::evidence::{self, BadRecord, Ends, Key, Recording, Seal, Store, Writer, parts};
use crate::finding::{FailOn, Report};
use crate::job::{Job, StepKey};
use crate::lookup::Lookup;
use crate::policy::{self, Mode, Policy, PolicyError};
use crate::posture::Camera;
use crate::redact::Redactor;
use crate::reports::statement::{self, About};
use crate::reports::{Directory, terminal};
use crate::runners;
use crate::sensors::ebpf::Options;
use crate::sensors::{self, Chosen, Kind, OnUnsupported, Sensor, Unavailable};
use crate::transcripts::Transcripts;
use hooks::{Ears, Installed};
use sidecar::Wanted;
use telemetry::Telemetry;

/// The default report directory of `run`.
const REPORT_DIR: &str = "edamame-guard-report";
/// Where a repository keeps its policy.
pub(crate) const POLICY_FILE: &str = ".github/guard.yml";
/// Variables kept at exec: they name the step, the agent or a service of the runner, or what a program starts with, and hold no secret.
const ENVIRONMENT: &[&str] = &[
    "GITHUB_ACTION",
    "GITHUB_OUTPUT",
    "GITHUB_JOB",
    "CI_JOB_ID",
    "npm_lifecycle_event",
    "GITLAB_CI",
    "CI_PROJECT_DIR",
    "RUNNER_TRACKING_ID",
    "ACTIONS_ID_TOKEN_REQUEST_URL",
    "ACTIONS_RESULTS_URL",
    "ACTIONS_CACHE_URL",
    "ACTIONS_RUNTIME_URL",
    "LD_PRELOAD",
    "LD_AUDIT",
    "NODE_OPTIONS",
    "BASH_ENV",
];
/// How often the sensor's queue is emptied.
pub(crate) const TICK: Duration = Duration::from_millis(20);

/// How long to wait for processes that outlive the command and that nobody named.
const LINGER: Duration = Duration::from_secs(2);

/// Why the guard could not do its work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Usage(String),
    #[error("cannot read policy `{path}`: {source}", path = path.display())]
    PolicyFile { path: PathBuf, source: io::Error },
    #[error("{0}")]
    Policy(PolicyError),
    #[error("mode `block` is not available yet, so nothing was started")]
    Block,
    #[error("{0}")]
    Sensor(#[from] Unavailable),
    #[error(
        "`{client}` is not installed, but the policy uses the group `{group}`, which means the hosts that it is set up to use"
    )]
    ClientAbsent { group: String, client: String },
    #[error("cannot use {what}: {source}")]
    Host { what: String, source: io::Error },
    #[error("{0}")]
    Report(io::Error),
    #[error("cannot read recording `{path}`: {source}", path = path.display())]
    Recording { path: PathBuf, source: io::Error },
    #[error("the recording `{path}` cannot be trusted: {source}", path = path.display())]
    Evidence { path: PathBuf, source: BadRecord },
    #[error("the evidence in `{path}` cannot be trusted{}", lines(problems), path = path.display())]
    Untrusted { path: PathBuf, problems: Vec<String> },
    #[error("this system gives no random numbers, so the record can't be signed")]
    NoKey,
    #[error("the recorder did not start: {0}")]
    Recorder(String),
    #[error("the recorder is gone or does not answer: {0}")]
    NotWatching(io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("cannot run `{program}`: {source}")]
    Command { program: String, source: io::Error },
}

/// Each on a line of its own below what came before.
fn lines(problems: &[String]) -> String {
    std::iter::once("").chain(problems.iter().map(String::as_str)).collect::<Vec<_>>().join("\n  ")
}

impl Error {
    /// The exit status of the design's table.
    pub fn status(&self) -> u8 {
        match self {
            Self::Usage(_) => 2,
            Self::Command { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => 127,
                _ => 126,
            },
            _ => 125,
        }
    }

    /// The message and, where there is one, a hint.
    pub fn for_people(&self) -> String {
        let hint = match self {
            Self::Block => Some(
                "use `--mode audit`, or remove `mode: block` from the policy, to detect and report"
                    .to_owned(),
            ),
            Self::ClientAbsent { group, client } => {
                Some(format!("install {client} before the guard starts, or remove `{group}` from the policy"))
            }
            Self::Evidence { .. } => Some("judge a copy that nothing has changed".to_owned()),
            _ => None,
        };
        match hint {
            Some(hint) => format!("error: {self}\nhint: {hint}"),
            None => format!("error: {self}"),
        }
    }
}

/// Carries out the command and gives the exit status.
pub fn main(cli: Cli) -> Result<u8, Error> {
    match cli.command {
        Command::Run(run) => self::run(&run),
        Command::Start(start) => {
            refuse(start.mode, start.watching)?;
            sidecar::start(&Wanted {
                watching: start.watching,
                policy: start.judging.policy,
                fail_on: start.judging.fail_on,
                report_dir: start.judging.report_dir.unwrap_or_else(|| PathBuf::from(REPORT_DIR)),
                channels: start.channels,
                log_pipes: start.log_pipes,
                search: start.search,
            })
        }
        Command::Load { session, policy } => sidecar::load(session.as_deref(), &policy),
        Command::Status { session, environment: true, .. } => sidecar::environment(session.as_deref()),
        Command::Status { session, json, .. } => sidecar::status(session.as_deref(), json),
        Command::Finish { session, report_dir, artifacts } => {
            sidecar::finish(session.as_deref(), report_dir.as_deref(), &artifacts)
        }
        Command::Replay(replay) => replay::replay(&replay),
        Command::Verify { directory, key, genesis } => {
            verify::verify(&directory, key.as_deref(), genesis.as_deref())
        }
        Command::Policy(PolicyCommand::Check { file }) => check(&file),
        Command::Policy(PolicyCommand::Explain { file, what, recording }) => {
            explain::explain(&file, what.as_deref(), recording.as_deref())
        }
        Command::Policy(PolicyCommand::Diff { before, after, json }) => diff::diff(&before, &after, json),
        Command::Policy(PolicyCommand::Schema) => {
            print(&crate::policy::schema());
            Ok(0)
        }
        Command::Policy(PolicyCommand::Import { workflows }) => import(&workflows),
        Command::Policy(PolicyCommand::Learn { merge, recordings }) => learn(merge.as_deref(), &recordings),
        Command::Posture { json, baseline, root, harden, dry_run, undo } => {
            let camera = posture::camera_of(root.as_deref())?;
            match (harden, undo) {
                (true, true) => harden::undo(&camera),
                (true, false) => harden::harden(&camera, dry_run),
                (false, _) => posture::posture(&camera, json, baseline.as_deref()),
            }
        }
        Command::Agents { json } => agents::agents(json),
        Command::Hook { agent, to, rest: _ } => Ok(hook::hook(&agent, to.as_deref())),
        Command::Rules { id } => rules(id.as_deref()),
        Command::Doctor => Ok(doctor()),
        Command::Completions { shell } => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "edamame-guard", &mut text);
            print(&String::from_utf8_lossy(&text));
            Ok(0)
        }
        Command::Man { directory } => manual(directory.as_deref()),
        Command::Action(action) => Ok(action::stage(action)),
    }
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// The moment of a record: no step of the system's clock changes how far two of them are apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    began: Timestamp,
    boot: Duration,
}

impl Clock {
    pub(crate) fn new() -> Self {
        Self { began: now(), boot: Self::boot() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        let passed = Self::boot().saturating_sub(self.boot).as_nanos();
        Timestamp(self.began.0.saturating_add(u64::try_from(passed).unwrap_or(u64::MAX)))
    }

    fn boot() -> Duration {
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default()
    }
}

pub(crate) fn print(text: &str) {
    // A closed pipe (`| head`) is the reader's choice, not an error of ours.
    let _ = io::stdout().write_all(text.as_bytes());
}

fn sensor_options(workspace: &Path) -> Options {
    let names = ENVIRONMENT.iter().copied().chain(crate::agents::marks());
    let own = is_of_its_own(workspace).then(|| workspace.to_owned());
    Options {
        environment: names.map(ToOwned::to_owned).collect(),
        familiar: own.into_iter().chain([PathBuf::from("/usr")]).collect(),
        ..Options::default()
    }
}

/// Whether nothing lies below this workspace but what the job works on: no home, and no settings of the host.
fn is_of_its_own(workspace: &Path) -> bool {
    let holds_homes = runners::homes().any(|(_, home)| Path::new(&home).starts_with(workspace));
    let is_hosts = ["/etc", "/var/lib", "/run", "/proc", "/sys", "/dev"]
        .iter()
        .any(|folder| workspace.starts_with(folder));
    workspace.components().count() > 2 && !holds_homes && !is_hosts
}

// --- policy -----------------------------------------------------------------------------------

pub(crate) fn load_policy(path: &Path) -> Result<Policy, Error> {
    load_policy_as(path, &path.to_string_lossy())
}

/// Reads a policy whose text lies at `path` but came from `origin`.
pub(crate) fn load_policy_as(path: &Path, origin: &str) -> Result<Policy, Error> {
    Policy::parse(&read_policy(path)?, origin).map_err(Error::Policy)
}

/// Whether something has this name, even if it can't be read: then a run without a policy would be a guess.
pub(crate) fn is_taken(path: &Path) -> bool {
    use io::ErrorKind::{NotADirectory, NotFound};
    match std::fs::symlink_metadata(path) {
        Ok(_) => true,
        Err(error) => !matches!(error.kind(), NotFound | NotADirectory),
    }
}

/// The whole text of a policy, of at most [`policy::LARGEST`] bytes.
pub(crate) fn read_policy(path: &Path) -> Result<String, Error> {
    let failed = |source| Error::PolicyFile { path: path.to_owned(), source };
    let file = parts::open_file(path).map_err(failed)?;
    // One byte more than may be: what is cut off would be judged as if it were whole.
    let limit = policy::LARGEST as u64;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > limit {
        let text = format!("it has more than {limit} bytes");
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, text)));
    }
    String::from_utf8(bytes)
        .map_err(|_| failed(io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8")))
}

fn check(file: &Path) -> Result<u8, Error> {
    let policy = load_policy(file)?;
    for warning in policy.warnings() {
        print(&format!("warning: {}: {}\n", warning.location, warning.message));
    }
    print(&format!("{}: no errors, {}\n", file.display(), counted(policy.warnings().len(), "warning")));
    Ok(0)
}

/// `1 warning`, `2 warnings`.
fn counted(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}

/// Prints the policy that workflows already ask for.
fn import(workflows: &[PathBuf]) -> Result<u8, Error> {
    let texts = workflows
        .iter()
        .map(|path| {
            let failed = |source| Error::Host { what: path.display().to_string(), source };
            Ok((path.to_string_lossy().into_owned(), std::fs::read_to_string(path).map_err(failed)?))
        })
        .collect::<Result<Vec<_>, Error>>()?;
    let imported = runners::import::policy(&texts).map_err(Error::Usage)?;
    print(&imported.policy);
    for warning in &imported.warnings {
        eprintln!("warning: {warning}");
    }
    Ok(0)
}

/// Judges each recording without a policy and prints what a policy would have to allow.
fn learn(merge: Option<&Path>, recordings: &[PathBuf]) -> Result<u8, Error> {
    let paths: Vec<PathBuf> = recordings.iter().map(|path| recording(path)).collect();
    for path in &paths {
        if !verify::is_trusted(path)? {
            eprintln!("warning: {} is not signed; whoever made it may have made it up", path.display());
        }
    }
    let judged = |policy: &Policy| {
        let report = |path: &PathBuf| {
            let path = path.clone();
            judge(opened(&path)?, policy.clone(), None).map_err(|source| Error::Evidence { path, source })
        };
        paths.iter().map(report).collect::<Result<Vec<Report>, Error>>()
    };
    let free = judged(&Policy::absent())?;
    let free: Vec<&Report> = free.iter().collect();
    let Some(file) = merge else {
        print(&crate::policy::learn(&free));
        return Ok(0);
    };
    let text = read_policy(file)?;
    let bound = judged(&load_policy(file)?)?;
    let bound: Vec<&Report> = bound.iter().collect();
    let merged = crate::policy::merge(&text, &free, &bound);
    print(&merged.text);
    for added in &merged.added {
        eprintln!("added: {added}");
    }
    for left in &merged.left {
        eprintln!("left out: {left}");
    }
    Ok(0)
}

/// The recording that is meant: a file, or the one of a report directory.
fn recording(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(parts::NAME) } else { path.to_owned() }
}

fn opened(path: &Path) -> Result<Recording, Error> {
    Recording::open(path).map_err(|source| Error::Recording { path: path.to_owned(), source })
}

/// A package group means the client's own hosts; without the client it would mean nothing.
fn require_clients(policy: &Policy) -> Result<(), Error> {
    let is_on_path = |client: &&str| {
        std::env::var_os("PATH")
            .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(client).is_file()))
    };
    for group in policy.package_groups_used() {
        let clients = match group {
            "node" => ["npm", "pnpm", "yarn", "bun"].as_slice(),
            "python" => &["pip", "pip3", "uv", "poetry"],
            "rust" => &["cargo"],
            "debian" => &["apt-get", "apt"],
            _ => continue,
        };
        if !clients.iter().any(is_on_path) {
            return Err(Error::ClientAbsent { group: group.to_owned(), client: clients[0].to_owned() });
        }
    }
    Ok(())
}

// --- run --------------------------------------------------------------------------------------

/// Takes each input once: out go its secrets, into the record, into the engine.
struct Tape {
    redactor: Redactor,
    lookup: Lookup,
    transcripts: Transcripts,
    telemetry: Option<Telemetry>,
    /// Hooks of ours in agents' settings.
    ears: Option<Ears>,
    writer: Writer<Store>,
    engine: Engine,
    clock: Clock,
    beat: Timestamp,
    /// The first failure to write; a record with a hole is worth nothing, so the run ends with 125.
    failure: Option<io::Error>,
}

impl Tape {
    fn take(&mut self, input: Input) {
        for fact in self.lookup.before(&input) {
            let fact = Input::Fact(fact);
            self.transcripts.note(&fact);
            self.put(fact);
        }
        self.transcripts.note(&input);
        self.put(input);
    }

    /// Takes in what coding agents have written about themselves, handed to our hooks and exported.
    fn read_transcripts(&mut self) {
        let heard = self.ears.as_mut().map(Ears::heard).unwrap_or_default();
        for (agent, payload) in heard.iter().filter_map(|text| hooks::message(text)) {
            for input in self.transcripts.hooked(&agent, &payload, now()) {
                self.take(input);
            }
        }
        let exports = self.telemetry.as_ref().map(Telemetry::received).unwrap_or_default();
        for input in self.transcripts.exported(exports, now(), false) {
            self.take(input);
        }
        for input in self.transcripts.tick(now()) {
            self.take(input);
        }
    }

    /// Takes in what the sensor has. On a busy machine that may last, so that we say meanwhile that we are at it.
    fn take_events(&mut self, events: Vec<Event>) {
        for event in events {
            let since = event.time;
            self.take(Input::Event(event));
            self.beat(Some(since));
        }
    }

    /// Says that we are still here, when it is time, and whether what we are at is older.
    fn beat(&mut self, at: Option<Timestamp>) {
        let time = self.clock.now();
        if self.beat.0 == 0 || time.0.saturating_sub(self.beat.0) >= HEARTBEAT_NS {
            self.beat = time;
            self.put(Input::Heartbeat(Heartbeat { time, behind: behind(time, at) }));
        }
    }

    fn put(&mut self, mut input: Input) {
        self.redactor.input(&mut input);
        // What can't be kept is judged all the same: an attack is told, whatever becomes of the record.
        let mut sequence = self.writer.count();
        if self.failure.is_none() {
            match self.writer.append(&input) {
                Ok(appended) => sequence = appended,
                Err(error) => self.failure = Some(record_failed(&error)),
            }
        }
        self.engine.accept(sequence, &input);
    }
}

/// How old an event is that is being taken in; 0 for what any drain holds back.
pub(crate) fn behind(now: Timestamp, at: Option<Timestamp>) -> u64 {
    let age = at.map_or(0, |at| now.0.saturating_sub(at.0));
    if age < HEARTBEAT_NS { 0 } else { age }
}

fn record_failed(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("cannot write the record: {error}"))
}

/// What is asked for and not there yet is refused, never replaced in silence.
fn refuse(mode: Option<ModeArgument>, watching: Watching) -> Result<(), Error> {
    if watching.sensor == SensorArgument::Seccomp {
        let text = "the sensor `seccomp` is not available yet: use `--sensor ebpf`, or `--sensor procfs` where there are no rights";
        return Err(Error::Usage(text.to_owned()));
    }
    if watching.sensor == SensorArgument::Procfs && watching.ring_size.is_some() {
        let text = "`--ring-size` is for the kernel's recorder; the sensor `procfs` has no ring: leave one of them out";
        return Err(Error::Usage(text.to_owned()));
    }
    if mode == Some(ModeArgument::Block) { Err(Error::Block) } else { Ok(()) }
}

#[expect(clippy::too_many_lines, reason = "a run from its beginning to its end, in one order")]
fn run(run: &Run) -> Result<u8, Error> {
    refuse(run.mode, run.watching)?;
    let directory = std::env::current_dir()
        .map_err(|source| Error::Host { what: "the working folder".to_owned(), source })?;
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let (job, declarations) =
        runners::local::job(&run.command, &directory, &home, nix::unistd::geteuid().as_raw());
    let policy = match &run.judging.policy {
        Some(path) => load_policy(path)?,
        None => match Path::new(&job.workspace).join(POLICY_FILE) {
            path if is_taken(&path) => load_policy_as(&path, POLICY_FILE)?,
            _ => Policy::absent(),
        },
    };
    let mode = run.mode.or(match policy.mode() {
        Some(Mode::Block) => Some(ModeArgument::Block),
        _ => None,
    });
    if mode == Some(ModeArgument::Block) {
        return Err(Error::Block);
    }
    require_clients(&policy)?;
    let report_dir = run.judging.report_dir.clone().unwrap_or_else(|| PathBuf::from(REPORT_DIR));
    let mut reports = Directory::open(&report_dir).map_err(Error::Report)?;
    reports.clear().map_err(Error::Report)?;

    let mut redactor = Redactor::new(variables());
    let lock = policy.lock();
    let facts = runners::facts(&job);
    let vault = leaks::vault(variables(), &facts, &leaks::own(policy.secrets(), &job));
    redactor.add_forms(vault.forms());
    let matcher = vault.matcher();
    let mut camera = camera(&facts, &job);
    let snapshot = camera.start();
    let unmet = crate::engine::unmet(&policy, snapshot.iter(), run.judging.fail_on, &job, now());
    // While the job runs its record has no name that the job could find.
    let store = Store::nameless(run.watching.part_size.unwrap_or(parts::PART_BYTES))
        .map_err(|source| Error::Host { what: "the record".to_owned(), source })?;
    let key = Key::new().ok_or(Error::NoKey)?;
    let public_key = key.public();
    let clock = Clock::new();
    let settings = Settings { fail_on: run.judging.fail_on };
    let telemetry = run.channels.agent_telemetry.map(self::telemetry).transpose()?;
    let environment = telemetry.as_ref().map(told_where).unwrap_or_default();
    let mut lookup = Lookup::default();
    let hooked = run.channels.agent_hooks.then(|| hooks_of_run(Path::new(&job.home), &mut lookup)).flatten();
    let (installed, ears) = hooked.unzip();
    let mut tape = Tape {
        redactor,
        lookup,
        transcripts: transcripts(&facts, &job),
        telemetry,
        ears,
        writer: Writer::signed(store, key),
        engine: Engine::new(policy, settings),
        clock,
        beat: Timestamp::default(),
        failure: None,
    };

    let mut sensor = choose(run.watching, Path::new(&job.workspace))?;
    let mut sight = sensor.sight().clone();
    if !matcher.is_empty() {
        let shown = streams::terminals();
        sight.gaps.extend(shown.iter().map(|name| format!("secrets in {name}, which goes to a terminal")));
    }
    tape.take(Input::Start(Start {
        schema: evidence::SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: clock.now(),
        guard: sensor.guard(),
        program: runners::own_program(),
        fail_on: run.judging.fail_on.map(|fail_on| fail_on.as_str().to_owned()),
        key: Some(public_key.clone()),
        job,
        sight,
    }));
    for declaration in declarations {
        tape.take(Input::Declaration(declaration));
    }
    for fact in facts.into_iter().chain(snapshot).chain(outputs(&run.channels.agent_outputs)) {
        tape.take(Input::Fact(fact));
    }
    tape.beat(None);
    if run.command.first().is_some_and(|program| runners::local::can_start(program)) {
        eprintln!("{}", known_by(&public_key, &tape.writer.ends().genesis));
    }

    let mut rest = Vec::new();
    let status = if unmet.is_empty() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|source| Error::Host { what: "the event loop".to_owned(), source })?;
        let mut live = run.watch.then(live::Live::new);
        let opened = streams::Streams::open(matcher.clone());
        let (streams, outlets) = opened
            .map_err(|source| Error::Host { what: "a pipe for the command's output".to_owned(), source })?
            .unzip();
        let start = Beginning { command: &run.command, environment, outlets: outlets.unwrap_or_default() };
        let watched = watch(start, sensor.as_mut(), &mut tape, live.as_mut());
        let status = runtime.block_on(watched);
        if let Some(streams) = streams {
            let (leaks, left) = streams.finish();
            for (place, found) in leaks {
                let (secret, encoding) = (found.secret, found.encoding.as_str().to_owned());
                let time = clock.now();
                tape.take(Input::Fact(Fact::Leak { secret, encoding, place: place.to_owned(), time }));
            }
            rest = left;
        }
        Some(status?)
    } else {
        eprintln!("{}", not_met(&unmet));
        None
    };
    let events = sensor.drain(true);
    tape.take_events(events);
    for fact in tape.lookup.end() {
        tape.take(Input::Fact(fact));
    }
    for text in sensor.gaps() {
        tape.take(Input::Fact(Fact::Gap { text }));
    }
    tape.read_transcripts();
    for input in tape.transcripts.end(now()) {
        tape.take(input);
    }
    if tape.telemetry.as_ref().is_some_and(Telemetry::is_cut) {
        tape.take(Input::Fact(Fact::Gap { text: telemetry::CUT.to_owned() }));
    }
    if tape.ears.as_ref().is_some_and(Ears::is_cut) {
        tape.take(Input::Fact(Fact::Gap { text: hooks::CUT.to_owned() }));
    }
    // The sensor was read to its end, and the last look at the host comes after this: nothing of ours shows.
    drop(installed);
    let mut files = leaks::command_files(&|name| std::env::var(name).ok());
    files.extend(leaks::given(&run.artifacts));
    for fact in leaks::search(&matcher, &files, clock.now()) {
        tape.take(Input::Fact(fact));
    }
    for fact in camera.end() {
        tape.take(Input::Fact(fact));
    }
    if tape.failure.is_none() {
        tape.failure = tape.writer.out().close().err().map(|error| record_failed(&error));
    }
    tape.take(Input::End(End {
        time: clock.now(),
        command: status.and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok()),
        signal: status.and_then(|status| status.signal()).and_then(|signal| u8::try_from(signal).ok()),
        watching: sensor.is_watching() && tape.failure.is_none(),
        client: None,
    }));
    drop(sensor);
    for rest in rest {
        rest.hand_over();
    }

    let Tape { writer, engine, failure, .. } = tape;
    let mut report = engine.finish();
    let ends = writer.ends();
    // A job that cleans up its tree removes the empty directory as well. One that put something else there gains nothing:
    // the reports lie elsewhere, and what lies there proves nothing.
    if reports.is_gone() && !matches!(reports.again(), Ok(true)) {
        report.proves_nothing(match reports.elsewhere() {
            Ok(()) => format!(
                "something else was put in the place of {} while the job ran; the reports are in {}",
                report_dir.display(),
                reports.path().display()
            ),
            Err(error) => format!("{} was removed while the job ran: {error}", report_dir.display()),
        });
    }
    let written = match failure {
        Some(failure) => Err(failure),
        None => save_evidence(writer, &reports),
    }
    .and_then(|key| {
        reports.replace("policy.lock.yml", &mut lock.as_bytes())?;
        reports.write_all(&report, detections::all())?;
        let statement = state(&report, &reports, &lock, ends.clone(), Some(&public_key), &run.artifacts)?;
        match key {
            Some(key) => {
                let seal = Seal::new(&key, &ends, &evidence::digest(lock.as_bytes()), &statement);
                save_seal(&seal, &reports)
            }
            None => Ok(()),
        }
    });
    if let Err(error) = &written {
        report.cannot_be_kept(&error.to_string());
    }
    show(&report, written.is_ok().then(|| reports.path()));
    written.map_err(Error::Report)?;
    Ok(final_status(&report, status))
}

/// The sensor that is asked for, at work. What it is not the best of is said before anything runs.
fn choose(watching: Watching, workspace: &Path) -> Result<Box<dyn Sensor>, Error> {
    let Chosen { sensor, said } = start_sensor(watching, workspace)?;
    if let Some(said) = said {
        eprintln!("{said}");
    }
    Ok(sensor)
}

pub(crate) fn start_sensor(watching: Watching, workspace: &Path) -> Result<Chosen, Error> {
    let kind = match watching.sensor {
        SensorArgument::Auto => Kind::Auto,
        SensorArgument::Ebpf => Kind::Ebpf,
        SensorArgument::Procfs => Kind::Procfs,
        SensorArgument::Seccomp => return Err(refuse(None, watching).err().unwrap_or(Error::Block)),
    };
    // Where blocking is asked for the default is to fail; such a run is refused before this.
    let on_unsupported = match watching.on_unsupported {
        Some(UnsupportedArgument::Fail) => OnUnsupported::Fail,
        Some(UnsupportedArgument::Warn) | None => OnUnsupported::Warn,
        Some(UnsupportedArgument::Skip) => OnUnsupported::Skip,
    };
    let mut options = sensor_options(workspace);
    options.ring_bytes = watching.ring_size.unwrap_or(options.ring_bytes);
    Ok(sensors::choose(kind, on_unsupported, &options)?)
}

/// Our own variables, which the command gets too.
fn variables() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value.to_string_lossy().into_owned()))
}

/// What follows the records of coding agents below the homes of this host.
pub(crate) fn transcripts(facts: &[Fact], job: &Job) -> Transcripts {
    let homes = facts.iter().filter_map(|fact| match fact {
        Fact::Home { path, .. } => Some(PathBuf::from(path)),
        _ => None,
    });
    let step = job.steps.first().map_or_else(StepKey::local, |step| step.key.clone());
    let homes = homes.chain([PathBuf::from(&job.home)]);
    let transcripts = Transcripts::new(homes, PathBuf::from(&job.workspace), now(), step);
    match std::env::var_os("RUNNER_TEMP") {
        Some(folder) => transcripts.in_temporary(folder.into()),
        None => transcripts,
    }
}

/// Where agents' output goes, as facts of the recording: by the real path of the folder, as events have it.
pub(crate) fn outputs(outputs: &[AgentOutput]) -> impl Iterator<Item = Fact> {
    outputs.iter().map(|output| {
        let file = std::path::absolute(&output.file).unwrap_or_else(|_| output.file.clone());
        let real = file.parent().and_then(|folder| folder.canonicalize().ok());
        let file = match (real, file.file_name()) {
            (Some(folder), Some(name)) => folder.join(name),
            _ => file,
        };
        Fact::AgentOutput { agent: output.agent.clone(), file: file.to_string_lossy().into_owned() }
    })
}

/// What takes the snapshots of this host for this job.
pub(crate) fn camera(facts: &[Fact], job: &Job) -> Camera {
    let homes: Vec<String> = facts
        .iter()
        .filter_map(|fact| match fact {
            Fact::Home { path, .. } => Some(path.clone()),
            _ => None,
        })
        .chain([job.home.clone()])
        .collect();
    Camera::new(&homes, &job.workspace, std::env::var_os("PATH").as_deref())
}

/// Listens for agents' telemetry on this port of loopback.
pub(crate) fn telemetry(port: u16) -> Result<Telemetry, Error> {
    let what = || match port {
        0 => "a port for agents' telemetry".to_owned(),
        port => format!("port {port} for agents' telemetry"),
    };
    Telemetry::at(port).map_err(|source| Error::Host { what: what(), source })
}

/// Hooks that are taken out with this value, however a run ends.
struct Borrowed(Installed);

impl Drop for Borrowed {
    fn drop(&mut self) {
        self.0.take_out();
    }
}

/// Puts hooks into the settings of this home's agents, if that can be done, and listens. Nothing may be recorded yet.
fn hooks_of_run(home: &Path, lookup: &mut Lookup) -> Option<(Borrowed, Ears)> {
    let socket = hooks::socket_of_run();
    let ears = match Ears::at(&socket) {
        Ok(ears) => ears,
        Err(error) => {
            eprintln!("warning: no hooks were put into agents' settings: {error}");
            return None;
        }
    };
    let installed = hooks::install(home, &socket, |_| Ok(()))?;
    lookup.own_hooks(move |agent, command| hooks::is_own(&socket, agent, command));
    Some((Borrowed(installed), ears))
}

/// The variables by which the command's agents know where to send, and a word on it.
fn told_where(telemetry: &Telemetry) -> Vec<(&'static str, String)> {
    let port = telemetry.port();
    let codex = telemetry::codex_option(port);
    if let Some(name) = telemetry::is_sent_elsewhere() {
        eprintln!(
            "warning: `{name}` is set, so agents are not told to export to {}; give Codex {codex}",
            telemetry::endpoint(port)
        );
        return Vec::new();
    }
    eprintln!(
        "telemetry: agents are told to export their tool calls to {}; give Codex {codex}",
        telemetry::endpoint(port)
    );
    telemetry::environment(port)
}

/// What is started, and with what.
struct Beginning<'a> {
    command: &'a [OsString],
    /// Variables that it gets beside our own.
    environment: Vec<(&'static str, String)>,
    outlets: streams::Outlets,
}

/// Starts the command and feeds the tape until it ends.
async fn watch(
    start: Beginning<'_>,
    sensor: &mut dyn Sensor,
    tape: &mut Tape,
    mut live: Option<&mut live::Live>,
) -> Result<ExitStatus, Error> {
    let Some((program, arguments)) = start.command.split_first() else {
        return Err(Error::Usage("there is no command to run".to_owned()));
    };
    let failed = |source| Error::Command { program: program.to_string_lossy().into_owned(), source };
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(failed)?;
    let mut quit = signal(SignalKind::quit()).map_err(failed)?;
    // A handler takes the deadly effect away, and unlike a mask it is not handed to the job.
    let _kept =
        survivable().map(SignalKind::from_raw).map(signal).collect::<io::Result<Vec<_>>>().map_err(failed)?;
    let mut child = spawn(program, arguments, start).map_err(failed)?;
    let pass_on = |child: &tokio::process::Child, signal| {
        if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        }
    };
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            status = child.wait() => {
                let status = status.map_err(failed)?;
                linger(sensor, tape).await;
                if let Some(live) = &mut live {
                    live.tell(&tape.engine, true);
                }
                return Ok(status);
            }
            _ = tick.tick() => {
                let events = sensor.drain(false);
                tape.take_events(events);
                tape.read_transcripts();
                tape.beat(None);
                if let Some(live) = &mut live {
                    live.tell(&tape.engine, false);
                }
                bury_orphans(child.id());
            }
            // We stay to write the reports. A terminal sends Ctrl-C to the command as well, which must
            // not get it twice.
            _ = interrupt.recv() => if !has_terminal() { pass_on(&child, Signal::SIGINT) },
            _ = quit.recv() => if !has_terminal() { pass_on(&child, Signal::SIGQUIT) },
            _ = hangup.recv() => pass_on(&child, Signal::SIGHUP),
            _ = terminate.recv() => pass_on(&child, Signal::SIGTERM),
        }
    }
}

/// Keeps us here while the reports are written: a runner that cancels a job sends SIGINT, and SIGTERM 7.5 seconds later.
pub(crate) fn patience() -> Option<tokio::runtime::Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
    runtime.block_on(async {
        // A handler stays when its stream is dropped.
        let kinds = [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()];
        let _ = kinds.map(|kind| signal(kind).map(drop));
    });
    stay_when_memory_is_short();
    Some(runtime)
}

/// A memory-hungry step should not take the guard with it: a runner gives what it starts away first.
pub(crate) fn stay_when_memory_is_short() {
    // Below zero needs a capability that not every root has.
    let _ = ["-900", "0"].into_iter().find(|score| std::fs::write("/proc/self/oom_score_adj", score).is_ok());
}

/// Signals that would end us but say nothing about the job. Left out are those that end or hold the
/// job too, that tell of a child, that a fault of ours raises, and what a terminal uses for job control.
pub(crate) fn survivable() -> impl Iterator<Item = i32> {
    const REAL_TIME: std::ops::RangeInclusive<i32> = 34..=64;
    [
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGALRM,
        Signal::SIGVTALRM,
        Signal::SIGPROF,
        Signal::SIGIO,
        Signal::SIGPWR,
        Signal::SIGSTKFLT,
        Signal::SIGXCPU,
        Signal::SIGXFSZ,
    ]
    .into_iter()
    .map(|signal| signal as i32)
    .chain(REAL_TIME)
}

/// Whether we are in the foreground of a terminal, whose keys reach the command by themselves.
fn has_terminal() -> bool {
    procfs::process::Process::myself()
        .and_then(|process| process.stat())
        .is_ok_and(|stat| stat.tty_nr != 0 && stat.tpgid == stat.pgrp)
}

/// Starts the command as a shell would: a text without `#!` is a script of `sh`.
///
/// Our ends go here, so that the command has the last ones.
fn spawn(program: &OsStr, arguments: &[OsString], start: Beginning<'_>) -> io::Result<tokio::process::Child> {
    let Beginning { environment, outlets, .. } = start;
    let to = |command: &mut tokio::process::Command| -> io::Result<()> {
        command.envs(environment.iter().map(|(name, value)| (name, value)));
        if let Some(output) = &outlets.output {
            command.stdout(output.try_clone()?);
        }
        if let Some(error) = &outlets.error {
            command.stderr(error.try_clone()?);
        }
        Ok(())
    };
    let mut first = tokio::process::Command::new(program);
    to(&mut first)?;
    let refused = match first.args(arguments).spawn() {
        Err(error) if error.raw_os_error() == Some(nix::errno::Errno::ENOEXEC as i32) => error,
        result => return result,
    };
    let file = runners::local::found(program).filter(|file| runners::local::is_plain_text(file));
    let Some(file) = file else { return Err(refused) };
    let mut second = tokio::process::Command::new("/bin/sh");
    to(&mut second)?;
    second.arg(file).args(arguments).spawn()
}

/// Takes note of the end of orphans that fell to us, as init would: a shell that asks whether they are
/// still there gets an answer. The command itself is left to the loop.
fn bury_orphans(command: Option<u32>) {
    use nix::sys::wait::{Id, WaitPidFlag, waitid, waitpid};
    let ended = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    while let Some(pid) = waitid(Id::All, ended).ok().and_then(|status| status.pid()) {
        if u32::try_from(pid.as_raw()).ok() == command || waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_err() {
            return;
        }
    }
}

/// Goes on watching for a moment when code that nobody named outlives the command.
async fn linger(sensor: &mut dyn Sensor, tape: &mut Tape) {
    let began = tokio::time::Instant::now();
    let mut tick = tokio::time::interval(TICK);
    loop {
        tick.tick().await;
        let events = sensor.drain(false);
        tape.take_events(events);
        // Two ticks at least: what the sensor holds back may be the last exits.
        let waited = began.elapsed();
        let is_calm = !tape.engine.has_stragglers() && !sensor.is_behind();
        if waited >= LINGER || (waited >= 2 * TICK && is_calm) {
            return;
        }
    }
}

/// How a later reader knows this recording among others.
pub(crate) fn known_by(key: &str, genesis: &str) -> String {
    format!("evidence: signed by ed25519 key {key}, first record {genesis}")
}

/// Puts the recording into the report directory; gives the key back.
fn save_evidence(writer: Writer<Store>, reports: &Directory) -> io::Result<Option<Key>> {
    let (store, key) = writer.part().map_err(|error| record_failed(&error))?;
    for (name, mut file) in store.into_files().map_err(|error| record_failed(&error))? {
        reports.replace(&name, &mut file)?;
    }
    Ok(key)
}

/// Writes the statement about everything that was written before it.
pub(crate) fn state(
    report: &Report,
    reports: &Directory,
    lock: &str,
    ends: Ends,
    key: Option<&str>,
    artifacts: &[PathBuf],
) -> io::Result<Vec<u8>> {
    let about = About {
        artifacts: digests(artifacts),
        files: reports.written(),
        policy_sha256: evidence::digest(lock.as_bytes()),
        ends,
        key: key.map(str::to_owned),
    };
    let statement = statement::render(report, &about);
    reports.replace("statement.json", &mut statement.as_slice())?;
    Ok(statement)
}

pub(crate) fn save_seal(seal: &Seal, reports: &Directory) -> io::Result<()> {
    let mut text = serde_json::to_vec_pretty(seal)?;
    text.push(b'\n');
    reports.replace("evidence.sig", &mut text.as_slice())
}

/// The digests of these files; one that can't be read is said and left out.
fn digests(files: &[PathBuf]) -> Vec<(String, String)> {
    let digest = |path: &PathBuf| match parts::open_file(path).and_then(evidence::digest_of) {
        Ok(digest) => Some((path.to_string_lossy().into_owned(), digest)),
        Err(error) => {
            eprintln!("warning: the artifact `{}` is not in the statement: {error}", path.display());
            None
        }
    };
    files.iter().filter_map(digest).collect()
}

/// Why nothing was started.
pub(crate) fn not_met(unmet: &[String]) -> String {
    let begin = "error: this host is not what the policy's `posture` asks for, so the job does not start";
    format!("{begin}{}", lines(unmet))
}

/// 125, 86, else the command's own status.
fn final_status(report: &Report, status: Option<ExitStatus>) -> u8 {
    if report.exit.guard != 0 {
        return report.exit.guard;
    }
    let Some(status) = status else { return 86 };
    match (status.code(), status.signal()) {
        (Some(code), _) => u8::try_from(code).unwrap_or(1),
        (None, Some(signal)) => u8::try_from(128 + signal).unwrap_or(255),
        (None, None) => 1,
    }
}

pub(crate) fn show(report: &Report, report_dir: Option<&Path>) {
    let error = io::stderr();
    let colour = error.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let width = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(100);
    let directory = report_dir.map(|directory| directory.to_string_lossy().into_owned());
    let text = terminal::render(report, terminal::Style { colour, width }, directory.as_deref());
    let _ = error.lock().write_all(text.as_bytes());
}

// --- replay -----------------------------------------------------------------------------------

/// Judges as much of a recording as can be trusted, and says where it ends early.
pub fn judge_what_is_left(
    mut recording: impl io::BufRead + io::Seek,
    policy: Policy,
    fail_on: Option<FailOn>,
) -> (Report, Option<BadRecord>) {
    let mut engine = Engine::new(policy, Settings { fail_on });
    prepare(&mut engine, &mut recording);
    let flaw = evidence::read(recording, |sequence, input| engine.accept(sequence, &input)).err();
    (engine.finish(), flaw)
}

/// Shows the engine what a recording tells late and belongs to its beginning.
///
/// Whether the recording can be trusted is asked when it is read as a whole.
fn prepare(engine: &mut Engine, recording: &mut (impl io::BufRead + io::Seek)) {
    for input in evidence::late(recording) {
        engine.prepare(&input);
    }
    // Where this fails the reading that follows says so.
    let _ = recording.rewind();
}

/// Judges a recording: the same path a live job takes. `fail_on` beats the recorded one.
pub fn judge(
    mut recording: impl io::BufRead + io::Seek,
    policy: Policy,
    fail_on: Option<FailOn>,
) -> Result<Report, BadRecord> {
    let mut engine = Engine::new(policy, Settings { fail_on });
    prepare(&mut engine, &mut recording);
    evidence::read(recording, |sequence, input| engine.accept(sequence, &input))?;
    Ok(engine.finish())
}

fn manual(directory: Option<&Path>) -> Result<u8, Error> {
    if let Some(directory) = directory {
        std::fs::create_dir_all(directory)
            .and_then(|()| clap_mangen::generate_to(Cli::command(), directory))
            .map_err(|source| Error::Host { what: directory.display().to_string(), source })?;
        return Ok(0);
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut text).map_err(Error::Report)?;
    print(&String::from_utf8_lossy(&text));
    Ok(0)
}

// --- rules, doctor ----------------------------------------------------------------------------

fn rules(id: Option<&str>) -> Result<u8, Error> {
    let Some(id) = id else {
        for rule in detections::all() {
            print(&format!("{:<25} {:<9} {}\n", rule.id.0, rule.severity.as_str(), rule.summary()));
        }
        return Ok(0);
    };
    let rule = detections::by_id(id).ok_or_else(|| {
        let known = detections::all().iter().map(|rule| rule.id.0).collect::<Vec<_>>().join(", ");
        Error::Usage(format!("there is no rule `{id}`; there are: {known}"))
    })?;
    print(&rule.document());
    Ok(0)
}

fn doctor() -> u8 {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules =
        std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_else(|_| "not readable".to_owned());
    print(&format!("kernel            {}\nsecurity modules  {}\n", kernel.trim(), modules.trim()));
    let status = match sensors::choose(Kind::Auto, OnUnsupported::Warn, &Options::default()) {
        Ok(Chosen { sensor, said }) => {
            if let Some(said) = said {
                eprintln!("{said}");
            }
            let sight = sensor.sight();
            print(&format!("sensor            {} {}\n", sight.sensor, sight.tier));
            print(&format!(
                "watches           process {}, file {}, egress {}\n",
                sight.process, sight.file, sight.egress
            ));
            for (hook, proved) in &sight.hooks {
                print(&format!("  {} {hook}\n", if *proved { "proved    " } else { "not proved" }));
            }
            print("cannot see\n");
            for gap in &sight.gaps {
                print(&format!("  - {gap}\n"));
            }
            0
        }
        Err(error) => {
            print(&format!("sensor            none: {error}\n"));
            125
        }
    };
    print("sockets there now\n");
    let facts = crate::sockets::inventory();
    for line in facts.iter().filter_map(told) {
        print(&format!("  {line}\n"));
    }
    if facts.is_empty() {
        print("  none\n");
    }
    status
}

/// A line about a socket: whose it is, and who is at the other end.
fn told(fact: &Fact) -> Option<String> {
    match fact {
        Fact::Socket(socket) => Some(crate::reports::socket(socket)),
        Fact::Gap { text } => Some(text.clone()),
        _ => None,
    }
}
