//! The pure heart: takes [`Input`]s one by one and ends in a [`Report`](crate::finding::Report).
//!
//! No clock, file, socket, environment or thread: time arrives in the input. A live job and a
//! recorded one take the same path, so the same recording always gives the same report.

mod agents;
mod ending;
mod needs;
mod news;
mod picture;
mod posture;
mod sources;
mod steps;

pub use needs::short;
pub use news::{News, Told};
pub use posture::unmet;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use globset::GlobSet;
use serde::{Deserialize, Serialize};

use crate::catalogue::{self, Catalogue, Store};
use crate::commands::{self, Tool};
use crate::detections::{self, Hit};
use crate::divergence::{self, Act, Context, Effect, Explanation};
use crate::event::{
    Access, Activity, AgentCommands, Event, Fact, File, Launch, Plane, ProcessKey, Reach, Sight, Socket,
    Timestamp, Transport,
};
use crate::finding::{Confidence, Counts, Disposition, FailOn, Finding, Kind, Needs, Severity};
use crate::intent::{Declaration, Intent, Text, basename, is_launcher, is_shell};
use crate::job::{Job, StepKey};
use crate::lineage::{Lineage, Process, Standing, Touch};
use crate::policy::{Peer, Places, Policy, Program, Rules, Ruling, Verb};

/// Everything that can reach the engine; one record of `evidence.jsonl` each.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
#[expect(
    clippy::large_enum_variant,
    reason = "there is one start in a recording, and it is not kept in a row"
)]
pub enum Input {
    /// First: what is watched, by what means.
    Start(Start),
    Declaration(Declaration),
    Fact(Fact),
    Event(Event),
    /// The sidecar is alive; one every few seconds.
    Heartbeat(Heartbeat),
    /// The job is over.
    End(End),
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// `edamame-guard/evidence/v3`
    pub schema: String,
    /// Version of the program that recorded.
    pub version: String,
    pub time: Timestamp,
    /// The guard's own process: what it forks is the job.
    pub guard: ProcessKey,
    /// The guard's own program, as an object: another of its recorders is no attacker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<File>,
    /// `--fail-on` as given, so that a replay weighs alike.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fail_on: Option<String>,
    /// The public key, in hex, that heartbeats and the end are signed by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    pub job: Job,
    pub sight: Sight,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub time: Timestamp,
    /// How old what is taken in next may be, where the recorder works through what it has not kept up with; nanoseconds.
    #[serde(default, skip_serializing_if = "crate::event::is_zero")]
    pub behind: u64,
}

/// Beats come every [`HEARTBEAT_NS`]; a longer silence than this is told.
pub const LONGEST_SILENCE_NS: u64 = 3 * HEARTBEAT_NS;
/// Rules that hold for processes of no step, such as the runner's own.
const OF_THE_RUNNER: [&str; 4] = ["proc-memory-read", "runner-takeover", "sensor-evasion", "posture-drift"];
/// What a loaded module changes.
const MODULES: &str = "/proc/modules";
/// How often a sidecar says that it is alive.
pub const HEARTBEAT_NS: u64 = 5_000_000_000;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    pub time: Timestamp,
    /// The command's status, or the signal that ended it.
    pub command: Option<u8>,
    pub signal: Option<u8>,
    /// False when the sensor was not watching at the end.
    pub watching: bool,
    /// Pid of the `finish` that ended a session: it lies in the job and is not part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<u32>,
}

/// What the caller decides beside the policy; the command line beats the file.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings {
    pub fail_on: Option<FailOn>,
}

/// The machine of design's figure: lineage, then may, meant and known bad.
#[derive(Debug)]
pub struct Engine {
    policy: Policy,
    settings: Settings,
    start: Option<Arc<Start>>,
    end: Option<End>,
    lineage: Lineage,
    intent: Intent,
    catalogue: Option<Catalogue>,
    homes: BTreeMap<u32, String>,
    /// Those of the user the job runs as.
    own_homes: Vec<String>,
    all_homes: Vec<String>,
    writes: BTreeMap<&'static str, GlobSet>,
    resolvers: Vec<IpAddr>,
    registries: BTreeMap<String, BTreeSet<String>>,
    chosen: BTreeSet<(&'static str, String)>,
    names: Names,
    /// Credential files that were there at the start, as objects.
    objects: HashMap<(u64, u64), String>,
    /// What was launched: the newest ctime and digest.
    digests: HashMap<Object, (Option<Timestamp>, Option<Arc<str>>)>,
    /// The system's programs by digest.
    installed: HashMap<Arc<str>, Arc<str>>,
    /// What a child of our own program ran from memory: told once it does anything.
    withheld: HashMap<ProcessKey, (u64, Timestamp, Vec<Hit>)>,
    undigested: u64,
    posture: posture::Snapshots,
    sources: sources::Sources,
    drawing: picture::Drawing,
    stepping: steps::Steps,
    /// Coding agents that are about to be launched.
    agents: HashMap<ProcessKey, Arc<str>>,
    agents_seen: BTreeSet<String>,
    /// What settings of projects make agents run.
    agents_commands: Vec<AgentCommands>,
    /// What agents said they would do, and what was done below them.
    work: agents::Work,
    rules: HashMap<(StepKey, Option<Arc<str>>), Arc<Rules>>,
    steps: BTreeMap<StepKey, StepTally>,
    groups: BTreeMap<GroupKey, Group>,
    /// How many groups one rule, step and program have, and the one that stands for those beyond the limit.
    kin: HashMap<Kin, (usize, GroupKey)>,
    /// Sockets that were there before the job.
    sockets: Vec<Socket>,
    /// Destinations that could not be compared with the policy's names.
    unnamed: BTreeSet<SocketAddr>,
    /// What the recorder says that it could not see in this run.
    told_gaps: Vec<String>,
    /// Secrets that came out: the record, and what it says.
    leaks: Vec<(u64, Fact)>,
    lost: BTreeMap<Plane, (u64, Timestamp, u64)>,
    /// Hooks that were taken away: when it was seen, and the record.
    lost_hooks: BTreeMap<String, (Timestamp, u64)>,
    unattributed: u64,
    /// Processes that were there before the guard, and may well outlive it.
    running: BTreeSet<ProcessKey>,
    beat: Timestamp,
    /// Silences between beats: since when, and nanoseconds.
    silences: Vec<(Timestamp, u64)>,
    /// How far the recorder was behind what happened at most, nanoseconds.
    behind: u64,
    last: Timestamp,
}

#[derive(Debug, Default)]
struct StepTally {
    counts: Counts,
    processes: u64,
    destinations: BTreeMap<(String, String), Option<String>>,
    /// Connections to destinations beyond those that are kept.
    unlisted: u64,
    /// Bytes sent to and received from each destination, as far as its connections are over.
    carried: BTreeMap<(String, String), (u64, u64)>,
    needs: Needs,
}

/// What a digest is of: an object, or for a `#!` file the path that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Object {
    Inode(u64, u64),
    Path(String),
}

impl Object {
    fn of(file: &File) -> Self {
        if file.inode == 0 { Self::Path(file.path.clone()) } else { Self::Inode(file.device, file.inode) }
    }
}

/// What makes two acts the same finding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct GroupKey {
    rule: &'static str,
    step: StepKey,
    agent: Option<Arc<str>>,
    program: String,
    object: String,
}

/// Rule, step, agent and program: what the findings of a storm have in common.
type Kin = (&'static str, StepKey, Option<Arc<str>>, String);

#[derive(Debug)]
struct Group {
    finding: Finding,
    last_sequence: u64,
    /// Bytes that went to the destination, as far as its connections are over.
    sent: Option<u64>,
}

/// How a launch counts for the policy's `run` list.
#[derive(Clone, Copy, Debug)]
struct RunReach {
    /// It needs no entry: what it starts is judged.
    is_transparent: bool,
    /// An entry that names it speaks for what it starts as well.
    covers_below: bool,
}

/// What the rules want remembered of an act.
struct Kept {
    first: Option<(&'static str, String)>,
    also: Vec<(&'static str, String)>,
    tampered: Option<(&'static str, String)>,
    /// Where a file may have become another one: its path, and whether nobody asked for that.
    hand: Option<(String, bool)>,
}

/// Which names stood for an address, newest last. Bounded: a resolver under attack answers a lot.
#[derive(Debug, Default)]
struct Names {
    by_address: HashMap<IpAddr, Vec<String>>,
    order: VecDeque<IpAddr>,
}

impl Names {
    const ADDRESSES: usize = 65_536;
    const NAMES: usize = 16;

    fn learn(&mut self, name: &str, addresses: &[IpAddr]) {
        for address in addresses {
            let address = plain(*address);
            if !self.by_address.contains_key(&address) {
                if self.order.len() >= Self::ADDRESSES
                    && let Some(oldest) = self.order.pop_front()
                {
                    self.by_address.remove(&oldest);
                }
                self.order.push_back(address);
            }
            let names = self.by_address.entry(address).or_default();
            names.retain(|known| known != name);
            if names.len() >= Self::NAMES {
                names.remove(0);
            }
            names.push(name.to_owned());
        }
    }

    fn of(&self, address: IpAddr) -> &[String] {
        self.by_address.get(&address).map_or(&[], Vec::as_slice)
    }
}

/// An IPv4 address inside IPv6 as what it is.
fn plain(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(address, IpAddr::V4),
        IpAddr::V4(_) => address,
    }
}

impl Engine {
    /// Objects of one rule, step and program that are told apart.
    const KIN: usize = 1000;
    /// Digests kept; past it a program's next launch has none until it is read again.
    const DIGESTS: usize = 65_536;
    /// Sockets of before that are told; a recording of ours has no more.
    const SOCKETS: usize = 1000;
    /// Files of agents' settings that are kept.
    const SETTINGS: usize = 256;
    /// Evidence kept per finding; the count goes on.
    const EVIDENCE: usize = 32;
    /// Destinations of one step that are listed, by program.
    const DESTINATIONS: usize = 4096;

    pub fn new(policy: Policy, settings: Settings) -> Self {
        Self {
            policy,
            settings,
            start: None,
            end: None,
            lineage: Lineage::default(),
            intent: Intent::default(),
            catalogue: None,
            homes: BTreeMap::new(),
            own_homes: Vec::new(),
            all_homes: Vec::new(),
            writes: BTreeMap::new(),
            resolvers: Vec::new(),
            registries: BTreeMap::new(),
            chosen: BTreeSet::new(),
            names: Names::default(),
            objects: HashMap::new(),
            digests: HashMap::new(),
            installed: HashMap::new(),
            withheld: HashMap::new(),
            undigested: 0,
            posture: posture::Snapshots::default(),
            sources: sources::Sources::default(),
            drawing: picture::Drawing::default(),
            stepping: steps::Steps::default(),
            agents: HashMap::new(),
            agents_seen: BTreeSet::new(),
            agents_commands: Vec::new(),
            work: agents::Work::default(),
            rules: HashMap::new(),
            steps: BTreeMap::new(),
            groups: BTreeMap::new(),
            kin: HashMap::new(),
            sockets: Vec::new(),
            unnamed: BTreeSet::new(),
            told_gaps: Vec::new(),
            leaks: Vec::new(),
            lost: BTreeMap::new(),
            lost_hooks: BTreeMap::new(),
            unattributed: 0,
            running: BTreeSet::new(),
            beat: Timestamp::default(),
            silences: Vec::new(),
            behind: 0,
            last: Timestamp::default(),
        }
    }

    /// Takes in what a recording may tell late and the engine needs from the beginning: the workflow's file.
    ///
    /// Everything else, and a file that is told a second time, is left for [`Self::accept`].
    pub fn prepare(&mut self, input: &Input) {
        if let Input::Fact(Fact::Workflow { path, text, origin }) = input {
            self.stepping.workflow(path, text, origin, self.policy.intent());
        }
    }

    /// Takes in the next record. `sequence` is its place in the evidence.
    pub fn accept(&mut self, sequence: u64, input: &Input) {
        match input {
            Input::Start(start) => {
                self.last = start.time;
                self.start = Some(Arc::new(start.clone()));
            }
            Input::Declaration(Declaration { text: Text::ToolCall(call), .. }) => {
                self.work.called(sequence, call);
            }
            Input::Declaration(Declaration { text: Text::ToolResult(result), .. }) => {
                self.work.answered(result);
            }
            Input::Declaration(Declaration { text: Text::AgentSession(session), .. }) => {
                self.work.session(session);
            }
            Input::Declaration(declaration) => {
                if let Some(start) = &self.start {
                    self.intent.add(declaration, &start.job.home, &start.job.workspace);
                }
            }
            Input::Fact(fact) => self.fact(sequence, fact),
            Input::Heartbeat(heartbeat) => self.heartbeat(*heartbeat),
            Input::Event(event) => {
                self.last = self.last.max(event.time);
                self.event(sequence, event);
            }
            Input::End(end) => {
                self.last = self.last.max(end.time);
                self.end = Some(end.clone());
            }
        }
    }

    /// Whether code that nobody named is still running: recipes, scripts and what they left behind.
    ///
    /// A tool that the text calls may leave its daemon; that is how it works.
    pub fn has_stragglers(&self) -> bool {
        self.lineage.survivors().iter().any(|process| {
            matches!(process.standing, Standing::Recipe | Standing::Script | Standing::Undeclared)
                && !self.running.contains(&process.key)
        })
    }

    fn fact(&mut self, sequence: u64, fact: &Fact) {
        match fact {
            Fact::Home { uid, path } => {
                self.homes.insert(*uid, path.clone());
            }
            Fact::Resolver { address } => self.resolvers.push(*address),
            Fact::HostName { name, address } => self.names.learn(name, &[*address]),
            Fact::Registry { group, hosts, .. } => {
                self.registries.entry(group.clone()).or_default().extend(hosts.iter().cloned());
            }
            Fact::Running(running) => {
                let step = self.stepless();
                if running.parent.is_none() {
                    self.stepping.runner(running.process);
                }
                let time = self.last;
                let mut process = newcomer(running.process, step, Standing::Text, time, sequence);
                process.parent = running.parent;
                self.running.insert(running.process);
                if let Some(launch) = &running.launch {
                    process.name = basename(&launch.executable.path).into();
                    process.launch = Some(Arc::new(launch.clone()));
                    process.launched = true;
                    process.sha256 = self.digest(&launch.executable);
                }
                let above = running.parent.and_then(|parent| self.lineage.get(parent));
                let agent = self.agents.remove(&running.process);
                process.is_agent = agent.is_some();
                process.errand =
                    above.and_then(|above| if above.is_agent { Some(running.process) } else { above.errand });
                process.agent = agent.or_else(|| above.and_then(|above| above.agent.clone()));
                self.lineage.insert(process);
                // The guard was started in the midst of this step.
                if let Some(launch) = &running.launch
                    && self.enter(running.process, launch).is_some()
                    && let Some(process) = self.lineage.get_mut(running.process)
                {
                    process.launched = true;
                }
            }
            Fact::Digest { file, sha256 } => {
                if sha256.is_none() {
                    self.undigested += 1;
                }
                if self.digests.len() >= Self::DIGESTS {
                    self.digests.clear();
                }
                let sha256: Option<Arc<str>> = sha256.as_deref().map(Arc::from);
                let is_installed =
                    ["/usr/", "/bin/", "/sbin/", "/opt/"].iter().any(|folder| file.path.starts_with(folder));
                if let Some(sha256) =
                    sha256.clone().filter(|_| is_installed && !self.lineage.has_written(&file.path))
                    && self.installed.len() < Self::DIGESTS
                {
                    self.installed.entry(sha256).or_insert_with(|| file.path.as_str().into());
                }
                self.digests.insert(Object::of(file), (file.changed, sha256));
            }
            Fact::Posture { .. } => self.posture.take(fact),
            Fact::Agent { process, agent } => {
                self.agents_seen.insert(agent.clone());
                self.agents.insert(*process, agent.as_str().into());
            }
            Fact::AgentCommands(settings) if self.agents_commands.len() < Self::SETTINGS => {
                self.agents_commands.push(settings.clone());
            }
            Fact::Script { process, path, text } => self.stepping.script(*process, path, text),
            // They are told, and never judged: nothing of this job made them.
            Fact::Socket(socket) if self.sockets.len() < Self::SOCKETS => self.sockets.push(socket.clone()),
            // The workflow is taken in before all else, see `prepare`.
            Fact::Workflow { .. } | Fact::Socket(_) | Fact::AgentCommands(_) => {}
            Fact::AgentSettings(said) => self.work.settings(sequence, said),
            Fact::AgentOutput { agent, file } => self.work.output(agent, file),
            Fact::AgentRecord { agent, file, problem, time } => {
                self.work.problem(sequence, *time, agent, file, problem);
            }
            Fact::StepVariables { process, path, settings } => {
                self.told_later_steps(sequence, *process, path, settings);
            }
            Fact::Source(source) => self.source(sequence, source),
            Fact::Gap { text } => self.told_gaps.push(text.clone()),
            Fact::Leak { .. } => {
                if self.leaks.len() < Self::KIN {
                    self.leaks.push((sequence, fact.clone()));
                }
            }
            Fact::Credential { file } => {
                if file.inode != 0 {
                    self.objects.insert((file.device, file.inode), file.path.clone());
                }
            }
        }
    }

    /// A step's file makes later programs start with a file that this job made.
    fn told_later_steps(
        &mut self,
        sequence: u64,
        key: ProcessKey,
        path: &str,
        settings: &[(String, String)],
    ) {
        let Some(process) = self.lineage.get(key) else { return };
        // The author's own text may set what it likes, and so may the tools it names.
        let is_others = matches!(process.standing, Standing::Script | Standing::Undeclared);
        if !is_others && process.standing != Standing::Recipe {
            return;
        }
        let Some(start) = &self.start else { return };
        let workspace = format!("{}/", start.job.workspace);
        let is_jobs = |(name, file): &&(String, String)| match name.as_str() {
            // A folder that anybody may fill; or a program that stands in for one of the system's.
            "PATH" if detections::is_scratch(&format!("{file}/")) && !file.starts_with(&workspace) => true,
            // A client's own program, which it put into an environment, is that program.
            _ => {
                self.lineage.has_written(file)
                    && !file.starts_with(&workspace)
                    && (name != "PATH" || self.lineage.placed_by(file).is_none())
            }
        };
        let Some((variable, file)) = settings.iter().find(is_jobs) else { return };
        let hit = Hit {
            rule: &detections::START,
            kind: Kind::Attack,
            severity: Severity::High,
            confidence: if is_others { Confidence::High } else { Confidence::Medium },
            title: format!("{} makes later steps start with {file} ({variable})", process.name),
            process: key,
            object: path.to_owned(),
            evidence: Vec::new(),
            replaces: None,
            remedy: None,
        };
        self.record(sequence, self.last, vec![hit], None);
    }

    /// The digest of this very object, if it was read.
    fn digest(&self, file: &File) -> Option<Arc<str>> {
        let (changed, digest) = self.digests.get(&Object::of(file))?;
        digest.clone().filter(|_| *changed == file.changed)
    }

    #[expect(clippy::too_many_lines, reason = "one arm for each activity")]
    fn event(&mut self, sequence: u64, event: &Event) {
        let Some(start) = self.start.as_ref().map(Arc::clone) else { return };
        if self.catalogue.is_none() {
            self.catalogue = Some(Catalogue::new(&self.homes, &start.job, self.policy.secrets()));
            self.own_homes = vec![start.job.home.clone()];
            self.own_homes.extend(self.homes.get(&start.job.uid).cloned());
            self.all_homes = self.homes.values().chain([&start.job.home]).cloned().collect();
            self.writes = divergence::writes(&self.own_homes);
            self.posture.watch(&self.all_homes, &start.job.workspace);
        }
        match &event.activity {
            Activity::Answer { server, name, addresses } => {
                // A job that answers itself would name its own destinations.
                if self.resolvers.contains(&plain(*server)) {
                    self.names.learn(name, addresses);
                }
                return;
            }
            Activity::Lost { plane, count, since } => {
                let lost = self.lost.entry(*plane).or_insert((0, *since, sequence));
                lost.0 += count;
                return;
            }
            Activity::HookLost { hook } => {
                self.lost_hooks.entry(hook.clone()).or_insert((event.time, sequence));
                return;
            }
            _ => {}
        }
        self.own(sequence, event, &start);
        self.tally(event);
        if let Some((sequence, time, hits)) = self.withheld.remove(&event.actor)
            && !matches!(event.activity, Activity::Exit { .. })
        {
            self.record_all(sequence, time, hits, None, true);
        }
        match &event.activity {
            Activity::Fork { child } => self.fork(sequence, event, *child),
            Activity::Launch(launch) => self.launch(sequence, event, launch, &start),
            Activity::Exit { .. } => {
                // What it made of an agent's settings was read a moment ago.
                if self.agents_commands.iter().any(|settings| settings.process == event.actor) {
                    self.watch(sequence, event, &start);
                }
                self.lineage.end(event.actor);
                self.work.ended(event.actor);
                self.drawing.end(event.actor);
            }
            Activity::Open { file, access } => self.open(sequence, event, file, *access, &start),
            Activity::Rename { from, to } => {
                self.lineage.changed(event.actor, &to.path, false);
                self.lineage.wrote(event.actor, &to.path);
                self.lineage.moved(&from.path, &to.path);
                self.read(sequence, event, from, &start);
                self.write(sequence, event, from, &start);
                self.write(sequence, event, to, &start);
                if self.lineage.has_made(&from.path) && self.lineage.tampered(&to.path).is_none() {
                    self.lineage.made(&to.path);
                }
            }
            Activity::Link { from, to } => {
                self.lineage.wrote(event.actor, &to.path);
                self.read(sequence, event, from, &start);
                self.write(sequence, event, to, &start);
            }
            Activity::Symlink { file, .. } | Activity::Truncate { file } => {
                // A rule may ask whether what is cut was the job's own.
                self.write(sequence, event, file, &start);
                self.lineage.wrote(event.actor, &file.path);
            }
            Activity::Mkdir { file } => {
                self.write(sequence, event, file, &start);
                self.lineage.made(&file.path);
            }
            Activity::Delete { file } | Activity::Chmod { file, .. } | Activity::Chown { file, .. } => {
                self.write(sequence, event, file, &start);
            }
            Activity::Connect { to, transport } | Activity::Send { to, transport } => {
                self.connect(sequence, event, *to, *transport, &start);
            }
            Activity::Closed { to, sent, received, .. } => {
                self.closed(sequence, event, *to, (*sent, *received), &start);
                if detections::is_answer_watched(*to) {
                    self.watch(sequence, event, &start);
                }
            }
            Activity::Module { .. } => {
                let effect = Effect::Write { path: MODULES.to_owned(), store: None };
                let context = self.context(&start);
                let explanation = self.explain(event.actor, &effect, &[], &Ruling::Unrestricted, &context);
                self.note_writer(sequence, event, MODULES, &explanation, &start);
                self.watch(sequence, event, &start);
            }
            Activity::Listen { on } => {
                self.lineage.listens(event.actor, *on);
                self.watch(sequence, event, &start);
            }
            Activity::UnixConnect { file, .. } => {
                self.asked_engine(event.actor, &file.path);
                if catalogue::is_object("name-daemons", &file.path)
                    && let Some(process) = self.lineage.get_mut(event.actor)
                {
                    process.asks_a_daemon = true;
                }
                self.watch(sequence, event, &start);
            }
            Activity::Mount { .. }
            | Activity::Mknod { .. }
            | Activity::Memfd { .. }
            | Activity::Socket { .. }
            | Activity::Query { .. }
            | Activity::Hello { .. }
            | Activity::Packet { .. }
            | Activity::Signal { .. }
            | Activity::Title { .. }
            | Activity::Ring
            | Activity::Trace { .. }
            | Activity::Bpf { .. }
            | Activity::Namespace { .. } => self.watch(sequence, event, &start),
            // No rule asks for these yet.
            _ => {}
        }
    }

    /// Puts an act that no text names and no policy lists before every rule.
    fn watch(&mut self, sequence: u64, event: &Event, start: &Start) {
        let nearest = self.lineage.get(event.actor).and_then(|process| process.command.as_deref());
        let explanation = Explanation::Undeclared { nearest: nearest.map(ToOwned::to_owned) };
        self.act(sequence, event, &Effect::Other, &[], &explanation, &Ruling::Unrestricted, start);
    }

    /// Keeps what a later act may be counted or joined with: what the rules want remembered, and secrets taken.
    fn remember(&mut self, sequence: u64, event: &Event, kept: Kept, hits: &[Hit]) {
        let touch = |object, store, title| Touch {
            sequence,
            time: event.time,
            process: event.actor,
            object,
            store,
            title,
            by_owner: false,
            is_printable: false,
            is_casual: false,
            is_copy: false,
        };
        if let Some((path, is_others)) = kept.hand {
            self.sources.act(sequence, event, &path, is_others);
        }
        if let Some((kind, path)) = kept.tampered {
            self.lineage.tamper(&path, touch(path.clone(), kind, ""));
        }
        for (kind, object) in kept.also {
            match kind {
                "planted" => self.lineage.plant(touch(object, kind, "")),
                _ => self.lineage.note(event.actor, touch(object, kind, "")),
            }
        }
        for hit in hits.iter().filter(|hit| hit.process == event.actor) {
            if let Some(kind) = hit.rule.joins() {
                self.lineage.note(event.actor, touch(hit.object.clone(), kind, ""));
            }
        }
        if let Some((kind, object)) = kept.first {
            // An agent's session remembers what its single uses of tools did.
            let agent = self.lineage.ancestors(event.actor).find(|process| process.is_agent);
            if let Some(agent) = agent.map(|agent| agent.key) {
                self.lineage.note(agent, touch(object.clone(), kind, ""));
            }
            self.lineage.note(event.actor, touch(object, kind, ""));
        }
        for hit in hits.iter().filter(|hit| hit.confidence >= Confidence::Medium) {
            if let Some(title) = hit.rule.takes()
                && hit.process == event.actor
            {
                self.lineage.read(event.actor, touch(hit.object.clone(), "", title));
            }
        }
    }

    /// Makes sure the actor is known: a child of the guard is the step, a stranger is nobody's.
    fn own(&mut self, sequence: u64, event: &Event, start: &Start) {
        if event.actor == start.guard {
            if let Activity::Fork { child } = &event.activity
                && self.lineage.get(*child).is_none()
            {
                let step = self.stepless();
                self.lineage.insert(newcomer(*child, step, Standing::Text, event.time, sequence));
            }
        } else if self.lineage.get(event.actor).is_none() {
            self.unattributed += 1;
            let step = StepKey::unattributed();
            self.lineage.insert(newcomer(event.actor, step, Standing::Recipe, event.time, sequence));
        }
    }

    fn first_step(&self) -> StepKey {
        let step = self.start.as_ref().and_then(|start| start.job.steps.first());
        step.map_or_else(StepKey::local, |step| step.key.clone())
    }

    /// A sidecar that was stopped and let go again shows as silence between two beats.
    fn heartbeat(&mut self, heartbeat: Heartbeat) {
        let silence = heartbeat.time.0.saturating_sub(self.beat.0);
        if self.beat.0 != 0 && silence > LONGEST_SILENCE_NS {
            self.silences.push((self.beat, silence));
        }
        self.beat = heartbeat.time;
        self.behind = self.behind.max(heartbeat.behind);
        self.last = self.last.max(heartbeat.time);
    }

    fn tally(&mut self, event: &Event) {
        let of = match &event.activity {
            Activity::Fork { child } if self.lineage.get(event.actor).is_none() => *child,
            _ => event.actor,
        };
        let Some(process) = self.lineage.get(of) else { return };
        if let Some(plane) = event.activity.plane() {
            self.drawing.count(of, plane, event.time);
        }
        let tally = self.steps.entry(process.step.clone()).or_default();
        match event.activity.plane() {
            Some(Plane::Process) => tally.counts.process += 1,
            Some(Plane::File) => tally.counts.file += 1,
            Some(Plane::Egress) => tally.counts.egress += 1,
            None => {}
        }
        if matches!(event.activity, Activity::Fork { .. }) {
            tally.processes += 1;
        }
    }

    fn fork(&mut self, sequence: u64, event: &Event, child: ProcessKey) {
        self.drawing.fork(event.actor, child);
        if self.lineage.fork(event.actor, child, event.time).is_some()
            && let Some(process) = self.lineage.get_mut(child)
        {
            process.evidence = sequence;
        }
    }

    fn launch(&mut self, sequence: u64, event: &Event, launch: &Launch, start: &Start) {
        if self.enter(event.actor, launch).is_none() {
            self.claimed(sequence, event, launch);
        }
        let Some(process) = self.lineage.get(event.actor).cloned() else { return };
        let step = self.intent.of(&process.step);
        let context = self.context(start);
        let placement = divergence::place(&process, launch, step, &context, &self.lineage);
        let identity = divergence::identify(launch, &context, &self.lineage);
        let is_transparent = placement.standing == Standing::Text
            || identity.names.first().is_some_and(|name| is_launcher(name) || is_shell(name))
            || placement.tool == Some("make")
            // A `#!` file is a program of its own, whatever shell runs it.
            || (placement.tool == Some("shells") && launch.script.is_none())
            || (placement.tool == Some("npm")
                && identity.tool.and_then(|tool| tool.verb(identity.arguments)).is_some_and(|verb| {
                    matches!(verb, "run" | "run-script" | "test")
                }));
        let reach = RunReach {
            is_transparent,
            // A script that an entry names speaks for what it starts; the bare shell does not.
            covers_below: !is_transparent || (launch.script.is_some() && placement.tool != Some("npm")),
        };
        let name = identity.name(launch);
        let sha256 = self.digest(&launch.executable);
        let copy_of = sha256.as_ref().and_then(|sha256| self.installed.get(sha256)).cloned();
        let copy_of = copy_of.filter(|original| **original != *launch.executable.path);
        let agent = self.agents.remove(&event.actor);
        let above = process.parent.and_then(|parent| self.lineage.get(parent));
        let is_below_agent = above.is_some_and(|above| above.agent.is_some());
        if let Some(process) = self.lineage.get_mut(event.actor) {
            process.sha256 = sha256;
            process.copy_of = copy_of;
            if let Some(agent) = agent {
                let is_tool = crate::agents::by_id(&agent).is_some_and(|it| it.is_tool(launch));
                process.agent = Some(agent);
                process.is_agent = !is_tool;
            } else if std::mem::take(&mut process.is_agent) {
                // A copy of the agent that becomes what it was forked for; the agent itself may change its image.
                if is_below_agent {
                    process.errand = Some(event.actor);
                } else {
                    process.is_agent = true;
                }
            }
            process.name = name.into();
            process.launch = Some(Arc::new(launch.clone()));
            process.launched = true;
            process.evidence = sequence;
            process.standing = placement.standing;
            process.tool = placement.tool;
            if placement.new_strand {
                process.strand = event.actor;
            }
            if let Some(command) = placement.command {
                process.command = Some(command.into());
            }
        }
        if let Some(process) = self.lineage.get(event.actor) {
            self.drawing.launch(process, event.time);
        }
        if let Some(process) = self.lineage.get(event.actor) {
            self.work.started(process, launch, event.time, &self.lineage);
        }
        if let Some(process) = self.lineage.get(event.actor) {
            self.sources.launches(process.tool, &process.standing);
        }
        self.tool(sequence, event, launch, start);
        let program = launch.program().path.clone();
        let ruling = self.judge_launch(event.actor, launch, reach, start);
        let effect = Effect::Launch { program: program.clone() };
        // Whoever asks the guard for something may be the job's own shell.
        let is_own = is_own_program(launch, start);
        let mut explanation = if placement.effect && !is_own {
            Explanation::Undeclared { nearest: process.command.as_deref().map(ToOwned::to_owned) }
        } else {
            Explanation::Derived("part of the step".to_owned())
        };
        if let Ruling::Allowed(rule) = &ruling {
            explanation = Explanation::Declared(format!("allowed by `{}` ({})", rule.text, rule.location));
        }
        let is_found = self.act(sequence, event, &effect, &[], &explanation, &ruling, start);
        self.needs_program(event.actor, launch, is_transparent, is_found, start);
    }

    /// Notes what a `run` list would have to name: what is launched first, seen through launchers.
    fn needs_program(
        &mut self,
        actor: ProcessKey,
        launch: &Launch,
        is_transparent: bool,
        is_found: bool,
        start: &Start,
    ) {
        let Some(process) = self.lineage.get(actor) else { return };
        if process.is_needed || is_transparent || is_found {
            return;
        }
        let placed_by_job = self.is_placed_by_job(launch, start);
        let path = self.system_name(launch).unwrap_or(&launch.program().path);
        let tally = self.steps.entry(process.step.clone()).or_default();
        tally.needs.runs(path, placed_by_job, &start.job);
        if let Some(process) = self.lineage.get_mut(actor) {
            process.is_needed = true;
        }
    }

    /// /usr/bin/cc is a name the system gave to the compiler behind it; a link elsewhere is not.
    fn system_name<'l>(&self, launch: &'l Launch) -> Option<&'l String> {
        let is_system =
            ["/usr/", "/bin/", "/sbin/", "/opt/"].iter().any(|folder| launch.requested.starts_with(folder))
                && !self.lineage.has_written(&launch.requested)
                && launch.script.is_none();
        is_system.then_some(&launch.requested)
    }

    fn is_placed_by_job(&self, launch: &Launch, start: &Start) -> bool {
        let is_late = |file: &File| {
            self.lineage.has_written(&file.path) || file.changed.is_some_and(|changed| changed >= start.time)
        };
        is_late(launch.program()) || is_late(&launch.executable)
    }

    /// What the policy's `run` list says: to what the step itself launches, and, for `deny`, to
    /// everything below it too.
    fn judge_launch(&mut self, actor: ProcessKey, launch: &Launch, reach: RunReach, start: &Start) -> Ruling {
        if is_own_program(launch, start) {
            return Ruling::Unrestricted;
        }
        let Some(process) = self.lineage.get(actor) else { return Ruling::Unrestricted };
        let rules = self.rules(&process.step.clone(), process.agent.clone());
        let Some(process) = self.lineage.get(actor) else { return Ruling::Unrestricted };
        let program = launch.program();
        let placed_by_job = self.is_placed_by_job(launch, start);
        // A multi-call program is the applet that its words choose.
        let applet = launch.applet().map(|(applet, _)| applet.to_owned());
        let aliases: Vec<String> = self.system_name(launch).cloned().into_iter().chain(applet).collect();
        let sha256 = self.digest(program);
        let program = Program {
            path: &program.path,
            aliases: &aliases,
            arguments: &launch.arguments,
            placed_by_job,
            sha256: sha256.as_deref(),
        };
        if let Some(denied) = rules.run_denied(&program) {
            return Ruling::Denied(denied);
        }
        if process.judged {
            return Ruling::Unrestricted;
        }
        let ruling = rules.run(&program);
        if matches!(ruling, Ruling::Unlisted(_)) && reach.is_transparent {
            return Ruling::Unrestricted;
        }
        let speaks_below = match ruling {
            Ruling::Allowed(_) => reach.covers_below,
            Ruling::Unlisted(_) | Ruling::Denied(_) => true,
            Ruling::Unrestricted => false,
        };
        if speaks_below && let Some(process) = self.lineage.get_mut(actor) {
            process.judged = true;
        }
        ruling
    }

    fn open(&mut self, sequence: u64, event: &Event, file: &File, access: Access, start: &Start) {
        if access.taken {
            self.watch(sequence, event, start);
        }
        if access.directory {
            // An agent, and what it starts, may look for where credentials are before it opens any.
            let is_agents = self.lineage.get(event.actor).is_some_and(|process| process.agent.is_some());
            if is_agents || (file.asked.is_some() && detections::is_astray(None, file, "")) {
                self.watch(sequence, event, start);
            }
            return;
        }
        // A credential made during the job is an object too: a hard link can't hide it.
        if file.inode != 0
            && self.catalogue.as_ref().is_some_and(|catalogue| catalogue.credential(&file.path).is_some())
        {
            self.objects.insert((file.device, file.inode), file.path.clone());
        }
        if access.create {
            self.lineage.made(&file.path);
        }
        if self.lineage.planted(&file.path).is_some() && access.read && !access.write {
            self.watch(sequence, event, start);
        }
        let is_nothing = !(access.read || access.write || access.create);
        if is_nothing && self.store_of(file).is_some() {
            self.watch(sequence, event, start);
        }
        if access.write || access.create {
            self.write(sequence, event, file, start);
            self.lineage.changed(event.actor, &file.path, access.create);
            self.lineage.wrote(event.actor, &file.path);
        }
        if access.read {
            self.read(sequence, event, file, start);
            if detections::is_watched(&file.path) || self.lineage.tampered(&file.path).is_some() {
                self.watch(sequence, event, start);
            } else if detections::is_astray(self.lineage.get(event.actor), file, &start.job.workspace) {
                self.read_astray(sequence, event, file, start);
            }
        }
    }

    /// The credential store that this object belongs to.
    fn store_of(&self, file: &File) -> Option<&'static crate::catalogue::Store> {
        let path = self.objects.get(&(file.device, file.inode)).unwrap_or(&file.path);
        self.catalogue.as_ref().and_then(|catalogue| catalogue.credential(path))
    }

    fn read(&mut self, sequence: u64, event: &Event, file: &File, start: &Start) {
        // A hard link or a mount gives a secret another path, but not another inode.
        let path = self.objects.get(&(file.device, file.inode)).unwrap_or(&file.path).clone();
        let ruling = self.judge_file(event.actor, Verb::Read, &path);
        let store = self.catalogue.as_ref().and_then(|catalogue| catalogue.credential(&path));
        if store.is_none() {
            self.read_copy(sequence, event, &path, start);
            self.lineage.waits_for(event.actor, &path);
        }
        let Some(process) = self.lineage.get(event.actor) else { return };
        let context = self.context(start);
        let Some(store) = store else {
            if let Some(hit) = policy_hit(&ruling, process, &process.name, &path, "read", &detections::FILE) {
                self.record(sequence, event.time, vec![hit], None);
            }
            return;
        };
        let by_owner = divergence::owns(process, store, &context, &self.lineage)
            || divergence::is_own_login(process, &path, &context, &self.lineage);
        let is_casual =
            by_owner && process.standing != Standing::Script && store.is_opened_casually_by(&process.name);
        let effect = Effect::Read { path: path.clone(), store, by_owner };
        let explanation = self.explain(event.actor, &effect, &[], &ruling, &context);
        self.act(sequence, event, &effect, &[], &explanation, &ruling, start);
        if !matches!(explanation, Explanation::Declared(_)) {
            let touch = Touch {
                sequence,
                time: event.time,
                process: event.actor,
                object: path,
                store: &store.id,
                title: &store.title,
                by_owner,
                is_printable: self.is_printable(event.actor, store),
                is_casual,
                is_copy: false,
            };
            let agent = self.lineage.ancestors(event.actor).find(|process| process.is_agent);
            if let Some(agent) = agent.filter(|_| !by_owner).map(|agent| agent.key) {
                self.lineage.note(agent, Touch { store: "taken", ..touch.clone() });
            }
            self.lineage.read(event.actor, touch);
        }
    }

    /// Whether the store's own program was told to print what is in it, or could have been.
    fn is_printable(&self, reader: ProcessKey, store: &Store) -> bool {
        let own = self.lineage.get(reader).into_iter();
        store.prints
            || own
                .chain(self.lineage.ancestors(reader).take(4))
                .filter_map(|process| process.launch.as_deref())
                .any(|launch| store.is_printed_by(&launch.arguments))
    }

    /// A read of an ordinary file by a way, or at a place, that a rule looks at.
    fn read_astray(&mut self, sequence: u64, event: &Event, file: &File, start: &Start) {
        let is_store = self.objects.contains_key(&(file.device, file.inode))
            || self.catalogue.as_ref().is_some_and(|catalogue| catalogue.credential(&file.path).is_some());
        if is_store {
            return;
        }
        let ruling = self.judge_file(event.actor, Verb::Read, &file.path);
        let place = Effect::Write { path: file.path.clone(), store: None };
        let explanation = match self.explain(event.actor, &place, &[], &ruling, &self.context(start)) {
            Explanation::Declared(reason) => Explanation::Declared(reason),
            _ => Explanation::Undeclared { nearest: None },
        };
        self.act(sequence, event, &Effect::Other, &[], &explanation, &Ruling::Unrestricted, start);
    }

    /// Opening what was written after a credential was taken counts as taking it again.
    fn read_copy(&mut self, sequence: u64, event: &Event, path: &str, start: &Start) {
        let Some(original) = self.lineage.copy(path).cloned() else { return };
        let is_same_strand = |process: &Process| {
            self.lineage.get(original.process).is_some_and(|reader| reader.strand == process.strand)
        };
        // Inside its own strand the original read already counts.
        if self.lineage.get(event.actor).is_none_or(is_same_strand) {
            return;
        }
        let Some(store) =
            self.catalogue.as_ref().and_then(|catalogue| catalogue.credential(&original.object))
        else {
            return;
        };
        let context = self.context(start);
        let effect = Effect::Read { path: original.object.clone(), store, by_owner: false };
        let explanation = self.explain(event.actor, &effect, &[], &Ruling::Unrestricted, &context);
        if !explanation.is_undeclared() {
            return;
        }
        // Here the connection came first; else the original read is told when one comes.
        if !self.lineage.strand(event.actor).contacts.is_empty() {
            self.act(sequence, event, &effect, &[], &explanation, &Ruling::Unrestricted, start);
        }
        self.lineage.read(event.actor, original);
    }

    fn write(&mut self, sequence: u64, event: &Event, file: &File, start: &Start) {
        let path = &file.path;
        self.lineage.copied(event.actor, path);
        let ruling = self.judge_file(event.actor, Verb::Write, path);
        let store = self.catalogue.as_ref().and_then(|catalogue| catalogue.persistence(path));
        let context = self.context(start);
        let effect = Effect::Write { path: path.clone(), store };
        let explanation = self.explain(event.actor, &effect, &[], &ruling, &context);
        self.note_writer(sequence, event, path, &explanation, start);
        if !self.act(sequence, event, &effect, &[], &explanation, &ruling, start)
            && let Some(process) = self.lineage.get(event.actor)
        {
            self.steps.entry(process.step.clone()).or_default().needs.writes(path, &start.job);
        }
    }

    /// The package client or other tool that this process is, if it chooses its hosts itself.
    fn choosing(&self, actor: ProcessKey) -> Option<&'static Tool> {
        divergence::chooses(self.lineage.get(actor)?, &self.lineage)
    }

    fn judge_file(&mut self, actor: ProcessKey, verb: Verb, path: &str) -> Ruling {
        let Some(process) = self.lineage.get(actor) else { return Ruling::Unrestricted };
        let (step, agent) = (process.step.clone(), process.agent.clone());
        // Its own entries of /proc need no rule; only here it is known whose they are.
        let rest = path.strip_prefix("/proc/").and_then(|rest| rest.strip_prefix(&actor.pid.to_string()));
        let own = rest.filter(|rest| rest.is_empty() || rest.starts_with('/'));
        let path = own.map_or(Cow::Borrowed(path), |rest| Cow::Owned(format!("/proc/self{rest}")));
        self.rules(&step, agent).file(verb, &path)
    }

    fn connect(&mut self, sequence: u64, event: &Event, to: SocketAddr, transport: Transport, start: &Start) {
        let to = SocketAddr::new(plain(to.ip()), to.port());
        self.lineage.visits(event.actor, to, sequence);
        let is_resolver = to.port() == 53 && (self.resolvers.contains(&to.ip()));
        if to.ip().is_loopback() && to.port() != 53 {
            let note = Touch {
                sequence,
                time: event.time,
                process: event.actor,
                object: to.to_string(),
                store: "loopback",
                title: "",
                by_owner: false,
                is_printable: false,
                is_casual: false,
                is_copy: false,
            };
            self.lineage.note(event.actor, note);
            if detections::is_daemon_port(to.port()) {
                self.speak_to_daemon(sequence, event, to, start);
            }
        }
        // Port 0 is how the C library asks the kernel for a route; nothing is sent.
        if to.ip().is_loopback() || to.ip().is_unspecified() || is_resolver || to.port() == 0 {
            return;
        }
        let names = self.names.of(to.ip()).to_vec();
        let object = match (names.last(), to.ip()) {
            (Some(name), _) => format!("{name}:{}", to.port()),
            (None, _) => to.to_string(),
        };
        let Some(process) = self.lineage.get(event.actor) else { return };
        let (step, agent, program) = (process.step.clone(), process.agent.clone(), process.name.to_string());
        let rules = self.rules(&step, agent);
        let peer = Peer { address: to, names: &names, transport };
        let mut ruling = rules.network(&peer);
        // To sort a name's addresses the C library connects a datagram socket to each, and sends nothing.
        if transport == Transport::Udp && matches!(ruling, Ruling::Unlisted(_)) {
            let stream = rules.network(&Peer { transport: Transport::Tcp, ..peer });
            if matches!(stream, Ruling::Allowed(_)) {
                ruling = stream;
            }
        }
        // A sensor that only looks now and then sees no DNS answers: this may well be a host of the list.
        if start.sight.egress == Reach::Polled
            && matches!(ruling, Ruling::Unlisted(_))
            && rules.may_be_named(&peer)
        {
            ruling = Ruling::Unrestricted;
            self.unnamed.insert(to);
        }
        // A package group means the hosts its client chooses, as long as no script is in between.
        if let (Ruling::Unlisted(_), Some(tool)) = (&ruling, self.choosing(event.actor))
            && let Some(rule) = tool.group.as_ref().and_then(|group| rules.client(group))
        {
            ruling = Ruling::Allowed(rule);
        }
        let context = self.context(start);
        let effect = Effect::Connect { object: object.clone(), address: to, transport };
        let explanation = self.explain(event.actor, &effect, &names, &ruling, &context);
        let is_found = self.act(sequence, event, &effect, &names, &explanation, &ruling, start);
        self.lineage.contacted(event.actor);
        let group = self.package_group(event.actor, &object);
        let tally = self.steps.entry(step).or_default();
        let destination = (object.clone(), program);
        if tally.destinations.len() < Self::DESTINATIONS || tally.destinations.contains_key(&destination) {
            if !is_found {
                tally.needs.connects(&object, to, transport, group, &destination.1);
            }
            tally.destinations.insert(destination, explanation.reason().map(ToOwned::to_owned));
        } else {
            tally.unlisted += 1;
        }
        let is_explained = explanation.reason().is_some();
        let is_stray = (self.lineage.get(event.actor))
            .is_some_and(|process| divergence::is_stray(process, &names, to.ip(), &self.context(start)));
        let touch = |store, object| Touch {
            sequence,
            time: event.time,
            process: event.actor,
            object,
            store,
            title: "",
            by_owner: false,
            is_printable: false,
            is_casual: false,
            is_copy: false,
        };
        if is_explained && is_stray && matches!(explanation, Explanation::Derived(_)) {
            self.lineage.note(event.actor, touch("astray", object));
        } else if is_explained {
            // What the step itself called vouches for later processes of the tool; a recipe's call doesn't.
            let helped = self.lineage.helped(event.actor);
            let is_named = helped.is_some_and(|helped| helped.standing == Standing::Command);
            if let Some(tool) = self.choosing(event.actor).filter(|_| is_named) {
                let host = object.rsplit_once(':').map_or(object.as_str(), |(host, _)| host);
                self.chosen.insert((tool.id, host.to_owned()));
            }
        } else {
            self.lineage.contact(event.actor, touch("", object));
        }
    }

    /// A connection to where a container daemon listens on loopback, unless the step names that.
    fn speak_to_daemon(&mut self, sequence: u64, event: &Event, to: SocketAddr, start: &Start) {
        let effect = Effect::Connect { object: to.to_string(), address: to, transport: Transport::Tcp };
        let context = self.context(start);
        let explanation = self.explain(event.actor, &effect, &[], &Ruling::Unrestricted, &context);
        if explanation.reason().is_none() {
            self.watch(sequence, event, start);
        }
    }

    /// Adds what a connection carried to its destination, and to the finding about it.
    fn closed(
        &mut self,
        sequence: u64,
        event: &Event,
        to: SocketAddr,
        (sent, received): (u64, u64),
        start: &Start,
    ) {
        let to = SocketAddr::new(plain(to.ip()), to.port());
        let object = match self.names.of(to.ip()).last() {
            Some(name) => format!("{name}:{}", to.port()),
            None => to.to_string(),
        };
        let Some(process) = self.lineage.get(event.actor) else { return };
        let (step, agent, program) = (process.step.clone(), process.agent.clone(), process.name.to_string());
        let destination = (object, program);
        // A name that was learned meanwhile, or loopback: nothing was told of it.
        let Some(tally) = self.steps.get_mut(&step) else { return };
        let Some(reason) = tally.destinations.get(&destination).cloned() else { return };
        let carried = tally.carried.entry(destination.clone()).or_default();
        carried.0 = carried.0.saturating_add(sent);
        carried.1 = carried.1.saturating_add(received);
        let (object, program) = destination;
        let effect = Effect::Sent { object: object.clone(), sent, received };
        let key = GroupKey { rule: detections::EGRESS.id.0, step, agent, program, object };
        if let Some(group) = self.groups.get_mut(&key) {
            group.sent = Some(group.sent.unwrap_or_default().saturating_add(sent));
            if group.finding.evidence.len() < Self::EVIDENCE {
                group.finding.evidence.push(sequence);
            }
        }
        let explanation = match reason {
            Some(reason) => Explanation::Derived(reason),
            None => Explanation::Undeclared { nearest: None },
        };
        self.act(sequence, event, &effect, &[], &explanation, &Ruling::Unrestricted, start);
    }

    /// The package group that stands for this destination: its client chose it, or is set up to use it.
    fn package_group(&self, actor: ProcessKey, object: &str) -> Option<&'static str> {
        let group = ["node", "python", "rust", "debian"].into_iter().find(|group| {
            let tool = self.lineage.get(actor).and_then(|process| process.tool).and_then(commands::by_id);
            tool.is_some_and(|tool| tool.group.as_deref() == Some(group))
        })?;
        let host = object.rsplit_once(':').map_or(object, |(host, _)| host);
        let is_set_up = self.registries.get(group).is_some_and(|hosts| hosts.contains(host));
        (is_set_up || self.choosing(actor).is_some()).then_some(group)
    }

    fn context<'a>(&'a self, start: &'a Start) -> Context<'a> {
        Context {
            job: &start.job,
            guard: start.guard,
            started: start.time,
            homes: &self.own_homes,
            all_homes: &self.all_homes,
            writes: &self.writes,
            registries: &self.registries,
            chosen: &self.chosen,
            resolvers: &self.resolvers,
            sees_names: start.sight.egress == Reach::Full,
            catalogue: self.catalogue.as_ref(),
            permissions: self.stepping.permissions(&start.job.name),
            settings: &self.agents_commands,
        }
    }

    fn explain(
        &self,
        actor: ProcessKey,
        effect: &Effect,
        names: &[String],
        ruling: &Ruling,
        context: &Context<'_>,
    ) -> Explanation {
        if let Ruling::Allowed(rule) = ruling {
            return Explanation::Declared(format!("allowed by `{}` ({})", rule.text, rule.location));
        }
        let Some(process) = self.lineage.get(actor) else { return Explanation::Nothing };
        let step = self.intent.of(&process.step);
        divergence::explain(process, effect, names, step, context, &self.lineage)
    }

    fn rules(&mut self, step: &StepKey, agent: Option<Arc<str>>) -> Arc<Rules> {
        let key = (step.clone(), agent);
        if let Some(rules) = self.rules.get(&key) {
            return Arc::clone(rules);
        }
        let (home, workspace) = self
            .start
            .as_ref()
            .map_or_else(Default::default, |start| (start.job.home.clone(), start.job.workspace.clone()));
        let hosts = self
            .registries
            .iter()
            .map(|(group, hosts)| (group.clone(), hosts.iter().cloned().collect()))
            .collect();
        let places = Places { home, workspace, hosts, resolvers: self.resolvers.clone() };
        let rules = Arc::new(self.policy.rules(step, key.1.as_deref(), &places));
        self.rules.insert(key, Arc::clone(&rules));
        rules
    }

    /// Puts one act before the policy's ruling and every rule; true when one of them has found something.
    #[expect(clippy::too_many_arguments, reason = "each is one side of the comparison")]
    fn act(
        &mut self,
        sequence: u64,
        event: &Event,
        effect: &Effect,
        names: &[String],
        explanation: &Explanation,
        ruling: &Ruling,
        start: &Start,
    ) -> bool {
        // The comparison borrows all else.
        if self.lineage.get(event.actor).is_none() {
            return false;
        }
        let mut work = std::mem::take(&mut self.work);
        let Some(process) = self.lineage.get(event.actor) else { return false };
        let act = Act {
            sequence,
            time: event.time,
            process,
            lineage: &self.lineage,
            effect,
            explanation,
            activity: &event.activity,
            context: &self.context(start),
        };
        let mut hits: Vec<Hit> =
            detections::all().iter().flat_map(|detection| (detection.check)(&act)).collect();
        let kept = Kept {
            first: detections::kept(&act),
            also: detections::also_kept(&act),
            tampered: detections::tampered(&act),
            hand: detections::hand(&act),
        };
        let judged = match effect {
            Effect::Launch { program } => Some((program, "started", &detections::RUN)),
            Effect::Read { path, .. } => Some((path, "read", &detections::FILE)),
            Effect::Write { path, .. } => Some((path, "wrote", &detections::FILE)),
            Effect::Connect { object, .. } => Some((object, "connected to", &detections::EGRESS)),
            Effect::Sent { .. } | Effect::Other => None,
        };
        let doer = match effect {
            Effect::Launch { .. } => {
                process.parent.and_then(|parent| self.lineage.get(parent)).unwrap_or(process)
            }
            _ => process,
        };
        if let Some((object, verb, rule)) = judged {
            let hit = policy_hit(ruling, process, &doer.name, object, verb, rule);
            // The first program of an install script that the policy has something against: no script was expected here.
            if let (Effect::Launch { .. }, Some(hit)) = (effect, &hit)
                && process.standing == Standing::Script
                && doer.standing != Standing::Script
            {
                let title = format!("{}: an install script", hit.title);
                hits.push(Hit {
                    rule: &detections::INSTALL,
                    title,
                    object: object.clone(),
                    replaces: None,
                    evidence: Vec::new(),
                    ..*hit
                });
            }
            hits.extend(hit);
        }
        let is_ordinary = matches!(effect, Effect::Write { path, store: None }
            if divergence::is_ordinary_place(path, &self.context(start)));
        let is_kept = work.did(&act, names, ruling, is_ordinary);
        self.work = work;
        let is_found = !hits.is_empty();
        let declared = match ruling {
            _ if !is_found => None,
            Ruling::Denied(rule) | Ruling::Unlisted(Some(rule)) => {
                Some(format!("`{}` ({})", rule.text, rule.location))
            }
            _ => match explanation {
                Explanation::Undeclared { nearest } => nearest.clone(),
                _ => process.command.as_deref().map(ToOwned::to_owned),
            },
        };
        self.remember(sequence, event, kept, &hits);
        if is_found {
            self.record(sequence, event.time, hits, declared.as_deref());
        }
        if is_kept {
            // Its story is told at the end, when the agent's record had time to arrive.
            self.lineage.keep(event.actor);
        }
        is_found
    }

    /// Puts hits into their groups: one finding per rule, step, program and object.
    fn record(&mut self, sequence: u64, time: Timestamp, hits: Vec<Hit>, declared: Option<&str>) {
        self.record_all(sequence, time, hits, declared, false);
    }

    /// `is_late` for what was withheld until the process did more.
    #[expect(clippy::too_many_lines, reason = "one group from a hit, in one order")]
    fn record_all(
        &mut self,
        sequence: u64,
        time: Timestamp,
        hits: Vec<Hit>,
        declared: Option<&str>,
        is_late: bool,
    ) {
        // What a better finding replaces may come from the same act, so those go last.
        let (better, plain): (Vec<Hit>, Vec<Hit>) = hits.into_iter().partition(|hit| hit.replaces.is_some());
        for hit in plain.into_iter().chain(better) {
            self.drawing.mark(hit.process);
            let Some(process) = self.lineage.get(hit.process) else { continue };
            // Another recorder of ours proves its hooks by acts of its own; what it starts is judged as ever.
            let is_own = |process: &Process| {
                let launched = process.launch.as_deref().zip(self.start.as_ref());
                launched.is_some_and(|(launch, start)| is_own_program(launch, start))
            };
            if hit.kind == Kind::Attack && is_own(process) {
                continue;
            }
            // Its canary runs from memory and ends; whatever a child of our program runs there is told once it does more.
            let is_canary = hit.rule.id.0 == "fileless-obfuscated-exec"
                && self.lineage.ancestors(process.key).next().is_some_and(is_own)
                && process.evidence == sequence
                && !process.ended;
            if is_canary && !is_late {
                let (key, time) = (hit.process, time);
                self.withheld.entry(key).or_insert((sequence, time, Vec::new())).2.push(hit);
                continue;
            }
            // A runner's own work is its host's business, but for what attacks the host itself.
            if process.step == StepKey::runner() && !OF_THE_RUNNER.contains(&hit.rule.id.0) {
                continue;
            }
            let key = GroupKey {
                rule: hit.rule.id.0,
                step: process.step.clone(),
                agent: process.agent.clone(),
                program: process.name.to_string(),
                object: hit.object.clone(),
            };
            let mut evidence = hit.evidence;
            evidence.extend([process.evidence, sequence]);
            if let Some(replaced) = hit.replaces
                && let Some(earlier) = self.groups.remove(&GroupKey { rule: replaced.0, ..key.clone() })
            {
                evidence.extend(earlier.finding.evidence);
            }
            evidence.sort_unstable();
            evidence.dedup();
            // A storm over ever new objects counts on, without growing: it folds into one finding anyway.
            let kin = (key.rule, key.step.clone(), key.agent.clone(), key.program.clone());
            let (members, first) = self.kin.entry(kin).or_insert_with(|| (0, key.clone()));
            let key =
                if *members >= Self::KIN && !self.groups.contains_key(&key) { first.clone() } else { key };
            if let Some(group) = self.groups.get_mut(&key) {
                let finding = &mut group.finding;
                // The most telling title: the one that comes with the highest weight.
                if (hit.severity, hit.confidence) > (finding.severity, finding.confidence)
                    || hit.kind < finding.kind
                {
                    finding.title = hit.title;
                    hit.remedy.unwrap_or(hit.rule.remedy).clone_into(&mut finding.remedy);
                    finding.reported_at = time;
                }
                finding.kind = finding.kind.min(hit.kind);
                finding.severity = finding.severity.max(hit.severity);
                finding.confidence = finding.confidence.max(hit.confidence);
                if group.last_sequence != sequence {
                    finding.count += 1;
                    group.last_sequence = sequence;
                }
                finding.evidence.extend(evidence);
                finding.evidence.sort_unstable();
                finding.evidence.dedup();
                finding.evidence.truncate(Self::EVIDENCE);
                continue;
            }
            let location = self.start.as_ref().and_then(|start| {
                start
                    .job
                    .steps
                    .iter()
                    .find(|step| step.key == key.step)
                    .and_then(|step| step.location.clone())
            });
            let finding = Finding {
                rule: hit.rule.id,
                kind: hit.kind,
                severity: hit.severity,
                confidence: hit.confidence,
                fails: false,
                title: hit.title,
                step: key.step.clone(),
                agent: key.agent.as_deref().map(ToOwned::to_owned),
                tool_call: None,
                process: self.lineage.view(hit.process),
                ancestry: self.lineage.ancestry(hit.process),
                object: hit.object,
                more_objects: Vec::new(),
                disposition: Disposition::Detected,
                declared: declared.map(ToOwned::to_owned),
                techniques: hit.rule.techniques.to_vec(),
                references: if hit.kind == Kind::Attack { hit.rule.references.to_vec() } else { Vec::new() },
                evidence,
                first_seen: time,
                reported_at: time,
                count: 1,
                location,
                fingerprint: String::new(),
                remedy: hit.remedy.unwrap_or(hit.rule.remedy).to_owned(),
                silence: String::new(),
            };
            *members += 1;
            self.groups.insert(key, Group { finding, last_sequence: sequence, sent: None });
        }
    }
}

/// Whether the recorder's own program is launched, as an object: the same file, not changed since.
fn is_own_program(launch: &Launch, start: &Start) -> bool {
    let launched = &launch.executable;
    start
        .program
        .as_ref()
        .is_some_and(|own| own.inode != 0 && (own.inode, own.changed) == (launched.inode, launched.changed))
}

fn newcomer(key: ProcessKey, step: StepKey, standing: Standing, time: Timestamp, sequence: u64) -> Process {
    Process {
        key,
        parent: None,
        name: "?".into(),
        step,
        launch: None,
        standing,
        tool: None,
        sha256: None,
        copy_of: None,
        agent: None,
        is_agent: false,
        errand: None,
        command: None,
        strand: key,
        started: time,
        evidence: sequence,
        launched: false,
        asks_a_daemon: false,
        has_contacted: false,
        judged: false,
        is_needed: false,
        ended: false,
        has_touched: false,
        is_past: false,
    }
}

/// A violation of the policy as a hit; `None` when the policy has nothing against it.
fn policy_hit(
    ruling: &Ruling,
    process: &Process,
    // Who did it, as the sentence names it: for a launch the process that started it.
    doer: &str,
    object: &str,
    verb: &str,
    rule: &'static detections::Detection,
) -> Option<Hit> {
    let who = doer;
    let shown = if verb == "started" { basename(object) } else { object };
    let (severity, title) = match ruling {
        Ruling::Denied(denied) => {
            (Severity::High, format!("{who} {verb} {shown}, which the policy denies: `{}`", denied.text))
        }
        Ruling::Unlisted(_) => {
            let severity = if rule.id == detections::FILE.id { Severity::Low } else { Severity::Medium };
            (severity, format!("{who} {verb} {shown}, which the policy does not list"))
        }
        Ruling::Allowed(_) | Ruling::Unrestricted => return None,
    };
    Some(Hit {
        rule,
        kind: Kind::Policy,
        severity,
        confidence: Confidence::High,
        title,
        process: process.key,
        object: object.to_owned(),
        evidence: Vec::new(),
        replaces: None,
        remedy: None,
    })
}
