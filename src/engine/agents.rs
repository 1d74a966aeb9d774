//! What a coding agent said against what was done below it, told at the end: its record comes later than the act.
//!
//! Each process that an agent starts is an *errand*: one use of a tool, or the agent's own housekeeping.
//! An errand is tied to the tool call whose text its shell was given; whatever it starts, detached or
//! not, stays with that call. Each effect is compared with the text that the shell was given, and the record
//! says under which call it ran: so a forged record explains nothing.

mod digest;
mod given;
mod join;
mod permitted;
mod tampering;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::{Engine, Group, GroupKey, Start};
use crate::agents::{self, Agent};
use crate::detections::{self, Hit};
use crate::divergence::{self, Act, Context, Effect, Explanation};
use crate::event::{Launch, ProcessKey, Timestamp};
use crate::finding::{Confidence, Kind, SessionReport, Severity};
use crate::intent::{AgentSession, StepIntent, ToolCall, ToolResult, basename, is_launcher, is_shell};
use crate::lineage::{Lineage, Process, Standing};
use crate::policy::Ruling;

/// Everything that is kept about agents until the end. What is kept per act is bounded.
#[derive(Debug, Default)]
pub(super) struct Work {
    calls: Vec<Call>,
    /// Told without an id, to a hook or as an export: it may be one of the calls that the record tells with theirs.
    nameless: Vec<(u64, ToolCall)>,
    /// Where each call stands in `calls`, by agent and id.
    places: HashMap<(String, String), usize>,
    sessions: BTreeMap<(String, String), AgentSession>,
    errands: BTreeMap<ProcessKey, Errand>,
    deeds: Vec<Deed>,
    known: HashSet<(Doer, String, String)>,
    /// Files that agents' output goes to.
    outputs: BTreeMap<String, &'static Agent>,
    problems: Vec<tampering::Problem>,
    touches: Vec<tampering::Touch>,
    /// Processes that are agents and have not ended.
    alive: BTreeMap<ProcessKey, &'static str>,
    /// Agents whose record is not read, and (true) those for which no test has tried the reader.
    unread: BTreeMap<&'static str, bool>,
    /// The option that switched an agent's questions off.
    flags: BTreeMap<String, String>,
    /// What sources of settings say.
    stated: Vec<permitted::Stated>,
    uncompared: u64,
}

#[derive(Debug)]
#[expect(clippy::struct_field_names, reason = "the call itself, and what is known of it")]
struct Call {
    sequence: u64,
    call: ToolCall,
    /// When its result was told, by the record's clock.
    answered: Option<Timestamp>,
    denied: bool,
    process: Option<u32>,
    /// It was told a second time, and otherwise.
    is_disputed: bool,
    /// The record told it, or a hook: not an export or a print alone.
    is_recorded: bool,
}

impl Call {
    fn new(sequence: u64, call: &ToolCall) -> Self {
        Self {
            sequence,
            call: call.clone(),
            answered: None,
            denied: false,
            process: None,
            is_disputed: false,
            is_recorded: call.is_of_record(),
        }
    }

    /// Takes in what is told of the same call again. An export may leave the arguments out.
    fn again(&mut self, call: &ToolCall) {
        let is_bare = |call: &ToolCall| call.commands.is_empty() && call.names.is_empty();
        let is_first_record = call.is_of_record() && !self.is_recorded;
        self.is_recorded |= call.is_of_record();
        let (own, other) = (&self.call, call);
        let are_records = own.is_of_record() && other.is_of_record();
        if are_records || (!is_bare(own) && !is_bare(other)) {
            self.is_disputed |= own.commands != other.commands;
        }
        let within = self.call.within.take().or_else(|| call.within.clone());
        if is_first_record || (is_bare(&self.call) && !is_bare(call)) {
            let time = self.call.time.min(call.time);
            self.call = ToolCall { time, ..call.clone() };
        }
        self.call.within = within;
    }
}

/// Who did something: an errand's process or one below, or an agent itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Doer {
    Errand(ProcessKey),
    Agent(ProcessKey),
}

/// What an agent started.
#[derive(Debug)]
struct Errand {
    agent: &'static Agent,
    process: ProcessKey,
    /// The agent's process that started it.
    parent: Option<ProcessKey>,
    time: Timestamp,
    /// The last word of each image of the process.
    texts: Vec<String>,
    /// The command that each image was given by the agent, where it shows.
    commands: Vec<String>,
    /// The words were longer than the recorder keeps, or secrets were taken out.
    is_cut: bool,
    /// Marks in its environment: session and call.
    session: Option<String>,
    call: Option<String>,
}

/// One effect below an agent.
#[derive(Debug)]
struct Deed {
    sequence: u64,
    time: Timestamp,
    doer: Doer,
    process: Process,
    effect: Effect,
    names: Vec<String>,
    is_allowed: bool,
    /// What the policy says against it.
    against: Option<String>,
}

/// A finding to be recorded: when, about what, under which declaration, and the further objects.
struct Told {
    sequence: u64,
    time: Timestamp,
    hit: Hit,
    declared: Option<String>,
    /// The effects it speaks for: what other rules said about these is part of it.
    acts: Vec<(ProcessKey, String)>,
}

impl Work {
    const CALLS: usize = 65_536;
    const ERRANDS: usize = 65_536;
    const SESSIONS: usize = 1024;
    const TEXTS: usize = 8;
    const DEEDS: usize = 16_384;
    const AGENTS: usize = 4096;

    /// A conversation that is taken up again repeats its calls.
    pub(super) fn called(&mut self, sequence: u64, call: &ToolCall) {
        if call.call.is_empty() && (call.is_hook || call.sender.is_some()) {
            if self.nameless.len() < Self::CALLS {
                self.nameless.push((sequence, call.clone()));
            } else {
                self.uncompared += 1;
            }
            return;
        }
        let key = (call.agent.clone(), call.call.clone());
        if let Some(known) = self.places.get(&key) {
            self.calls[*known].again(call);
        } else if self.calls.len() >= Self::CALLS {
            self.uncompared += 1;
        } else {
            self.places.insert(key, self.calls.len());
            self.calls.push(Call::new(sequence, call));
        }
    }

    pub(super) fn answered(&mut self, result: &ToolResult) {
        let key = (result.agent.clone(), result.call.clone());
        if let Some(known) = self.places.get(&key) {
            let known = &mut self.calls[*known];
            known.denied |= result.denied;
            known.process = known.process.or(result.process);
            if known.answered.is_none() && result.time.0 != 0 {
                known.answered = Some(result.time);
            }
        }
    }

    pub(super) fn session(&mut self, session: &AgentSession) {
        let key = (session.agent.clone(), session.session.clone());
        if self.sessions.len() < Self::SESSIONS || self.sessions.contains_key(&key) {
            let known = self.sessions.entry(key).or_insert_with(|| session.clone());
            // Who acts without asking once is told so, whatever comes later.
            let unasked = known.unasked || session.unasked;
            let is_aside = known.is_aside && session.is_aside;
            let mode = if known.unasked { known.mode.clone() } else { session.mode.clone() };
            // A hook knows less of a session than its record.
            *known = AgentSession {
                unasked,
                mode: mode.or_else(|| known.mode.clone()),
                version: session.version.clone().or_else(|| known.version.clone()),
                parent: session.parent.clone().or_else(|| known.parent.clone()),
                directory: session.directory.clone().or_else(|| known.directory.clone()),
                is_aside,
                ..session.clone()
            };
        }
    }

    /// Notes a launch: an errand begins with the first one, and may become something else.
    pub(super) fn started(&mut self, process: &Process, launch: &Launch, time: Timestamp, lineage: &Lineage) {
        let Some(agent) = process.agent.as_deref().and_then(agents::by_id) else { return };
        if process.is_agent {
            if agent.record.is_none_or(|record| !record.is_tried) {
                self.unread.insert(agent.title, agent.record.is_some());
            }
            if let Some(flag) = agents::unasked(&launch.arguments) {
                self.flags.entry(agent.id.to_owned()).or_insert_with(|| flag.to_owned());
            }
            if self.alive.len() < Self::AGENTS {
                self.alive.insert(process.key, agent.id);
            }
            return;
        }
        if process.errand != Some(process.key) {
            self.relayed(agent, process, launch, lineage);
            return;
        }
        if self.errands.len() >= Self::ERRANDS && !self.errands.contains_key(&process.key) {
            self.uncompared += 1;
            return;
        }
        let mark = |names: &[&str]| names.iter().find_map(|name| launch.environment.get(*name)).cloned();
        let (session, call) = (mark(agent.marks.session), mark(agent.marks.call));
        // Some give their hooks to a shell as they do with commands.
        let command = agent.record.and_then(|record| (record.command)(&launch.arguments));
        let command = command.filter(|text| !self.is_hook(agent.id, text));
        let errand = self.errands.entry(process.key).or_insert_with(|| Errand {
            agent,
            process: process.key,
            parent: process.parent,
            time,
            texts: Vec::new(),
            commands: Vec::new(),
            is_cut: false,
            session: None,
            call: None,
        });
        errand.session = session.or_else(|| errand.session.take());
        errand.call = call.or_else(|| errand.call.take());
        errand.is_cut |= launch.arguments_truncated;
        if errand.texts.len() < Self::TEXTS {
            errand.texts.extend(launch.arguments.last().cloned());
            errand.commands.extend(command);
        }
    }

    /// Notes a shell that was given its command through relays of the agent: a sandbox, a helper of its own.
    fn relayed(&mut self, agent: &Agent, process: &Process, launch: &Launch, lineage: &Lineage) {
        let errand = process.errand.and_then(|errand| self.errands.get_mut(&errand));
        let Some(errand) = errand.filter(|errand| errand.commands.is_empty()) else { return };
        let Some(command) = agent.record.and_then(|record| (record.command)(&launch.arguments)) else {
            return;
        };
        if errand.texts.len() >= Self::TEXTS || !is_text(process, errand.process, lineage) {
            return;
        }
        errand.is_cut |= launch.arguments_truncated;
        errand.texts.extend(launch.arguments.last().cloned());
        errand.commands.push(command);
    }

    /// Notes that a process has ended.
    pub(super) fn ended(&mut self, process: ProcessKey) {
        self.alive.remove(&process);
    }

    /// Notes an effect below an agent.
    pub(super) fn did(
        &mut self,
        act: &Act<'_>,
        names: &[String],
        ruling: &Ruling,
        is_ordinary: bool,
    ) -> bool {
        self.touched(act);
        if act.process.agent.is_none() {
            return false;
        }
        let doer = match act.process.errand {
            _ if act.process.is_agent => Doer::Agent(act.process.key),
            Some(errand) => Doer::Errand(errand),
            None => return false,
        };
        match (act.effect, doer) {
            (Effect::Launch { .. } | Effect::Sent { .. } | Effect::Other, _)
            | (Effect::Write { .. }, Doer::Agent(_)) => {
                return false;
            }
            (Effect::Write { .. }, _) if is_ordinary => return false,
            _ => {}
        }
        let object = object(act.effect);
        if !self.known.insert((doer, act.process.name.to_string(), object.to_owned())) {
            return false;
        }
        if self.deeds.len() >= Self::DEEDS {
            self.uncompared += 1;
            return false;
        }
        self.deeds.push(Deed {
            sequence: act.sequence,
            time: act.time,
            doer,
            process: act.process.clone(),
            effect: act.effect.clone(),
            names: names.to_vec(),
            is_allowed: matches!(ruling, Ruling::Allowed(_)),
            against: match ruling {
                Ruling::Denied(rule) | Ruling::Unlisted(Some(rule)) => {
                    Some(format!("`{}` ({})", rule.text, rule.location))
                }
                _ => None,
            },
        });
        true
    }

    pub(super) fn gaps(&self) -> Vec<String> {
        let unread = self.unread.iter().map(|(title, is_read)| {
            if *is_read {
                format!("the record of {title}'s tool calls is read as its documentation describes it, which no test has tried")
            } else {
                format!("the tool calls of {title} are not read, so what ran below it was compared with its step alone")
            }
        });
        let unkept: BTreeSet<&str> = self
            .errands
            .values()
            .filter(|errand| !errand.commands.is_empty() && !self.is_told(errand))
            .map(|errand| errand.agent.title)
            .collect();
        let unkept = unkept.into_iter().map(|title| {
            format!("no record of {title}'s tool calls was found, so what it ran carries no ids of calls")
        });
        let cut = (self.uncompared > 0)
            .then(|| format!("{} more calls and effects of agents were not compared", self.uncompared));
        unread.chain(unkept).chain(cut).collect()
    }

    /// Whether something tells the calls of the session that started this errand.
    fn is_told(&self, errand: &Errand) -> bool {
        let agent = errand.agent.id;
        let is_session = |session: &String| self.sessions.contains_key(&(agent.to_owned(), session.clone()));
        errand.session.as_ref().is_some_and(is_session) || self.calls_of(errand).next().is_some()
    }

    /// The calls of the session that started this errand; where that is not known, the agent's.
    fn calls_of<'w>(&'w self, errand: &'w Errand) -> impl Iterator<Item = &'w Call> {
        self.calls.iter().filter(|known| {
            known.call.agent == errand.agent.id
                && errand.session.as_ref().is_none_or(|session| known.call.session == *session)
        })
    }
}

fn object(effect: &Effect) -> &str {
    match effect {
        Effect::Launch { program } => program,
        Effect::Read { path, .. } | Effect::Write { path, .. } => path,
        Effect::Connect { object, .. } | Effect::Sent { object, .. } => object,
        Effect::Other => "",
    }
}

/// How an effect stands to its call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Explained,
    Declared,
    Undeclared,
}

impl Deed {
    fn is_taken(&self) -> bool {
        matches!(self.effect, Effect::Read { by_owner: false, .. })
    }

    fn is_sent(&self) -> bool {
        matches!(self.effect, Effect::Connect { .. })
    }

    fn verdict(&self, intent: &StepIntent, context: &Context<'_>, lineage: &Lineage) -> Verdict {
        let mut process = self.process.clone();
        if let Doer::Errand(errand) = self.doer
            && is_text(&process, errand, lineage)
        {
            let name: &str = &process.name;
            let arguments = process.launch.as_ref().map_or_else(Vec::new, |launch| launch.arguments.clone());
            if let Some(command) = intent.command(&[name], &arguments) {
                process.standing = Standing::Command;
                process.command = Some(command.to_string().into());
            } else if is_shell(name) {
                process.standing = Standing::Text;
            }
        }
        let explained =
            divergence::explain(&process, &self.effect, &self.names, Some(intent), context, lineage);
        match explained {
            Explanation::Declared(_) => Verdict::Declared,
            // An address in the words of the command itself: it is the client that follows them.
            Explanation::Derived(_) | Explanation::Own(_) => Verdict::Explained,
            Explanation::Undeclared { .. } | Explanation::Nothing => {
                let is_own = match self.effect {
                    Effect::Read { by_owner, .. } => by_owner,
                    Effect::Connect { .. } => divergence::chooses(&process, lineage).is_some(),
                    Effect::Write { .. } => false,
                    Effect::Launch { .. } | Effect::Sent { .. } | Effect::Other => true,
                };
                if is_own { Verdict::Explained } else { Verdict::Undeclared }
            }
        }
    }

    fn words(&self, home: &str) -> String {
        let object = object(&self.effect);
        let shown = object.strip_prefix(home).filter(|rest| !home.is_empty() && rest.starts_with('/'));
        let shown = shown.map_or_else(|| object.to_owned(), |rest| format!("~{rest}"));
        let verb = match self.effect {
            Effect::Launch { .. } => "started",
            Effect::Read { .. } => "read",
            Effect::Write { .. } => "wrote",
            Effect::Connect { .. } => "connected to",
            Effect::Sent { .. } => "sent something to",
            Effect::Other => "touched",
        };
        format!("{} {verb} {shown}", self.process.name)
    }
}

/// Whether only shells that run the call's own text, and launchers, lie between the process and its errand.
fn is_text(process: &Process, errand: ProcessKey, lineage: &Lineage) -> bool {
    if process.key == errand {
        return true;
    }
    for above in lineage.ancestors(process.key) {
        let Some(launch) = above.launch.as_deref() else { return false };
        let name = basename(&launch.executable.path);
        let runs_text = is_shell(name)
            && launch.script.is_none()
            && launch.arguments.iter().skip(1).any(|word| word.starts_with('-') && word.ends_with('c'));
        let agent = above.agent.as_deref().and_then(agents::by_id);
        let is_relay = || agent.is_some_and(|agent| agent.is_relay(launch));
        if !runs_text && !is_launcher(name) && !is_relay() {
            return false;
        }
        if above.key == errand {
            return true;
        }
    }
    false
}

/// What was declared for an errand, and by which call.
struct Declared<'w> {
    call: Option<(&'w Call, &'static str)>,
    /// The text that the agent gave its shell.
    text: Option<String>,
    intent: StepIntent,
}

impl Engine {
    /// Compares what was done below agents with their records, and says which call each finding belongs to.
    pub(super) fn judge_agents(&mut self, start: &Start) -> Vec<SessionReport> {
        let mut work = std::mem::take(&mut self.work);
        work.adopt_nameless();
        let joined = work.join();
        let mut deeds: BTreeMap<Doer, Vec<&Deed>> = BTreeMap::new();
        for deed in &work.deeds {
            deeds.entry(deed.doer).or_default().push(deed);
        }
        let mut told = Vec::new();
        let mut judged = digest::Judged::new();
        for errand in work.errands.values() {
            let of_errand = deeds.get(&Doer::Errand(errand.process)).map_or(&[][..], Vec::as_slice);
            let call = joined.get(&errand.process).map(|(index, how)| (&work.calls[*index], *how));
            let (more, counts) = self.compare(&work, errand, call, of_errand, start);
            let is_contradicted = more.iter().any(|it| it.hit.rule.id == detections::AGENT_CONTRADICTED.id);
            told.extend(more);
            told.extend(self.beyond_given(errand, call, start));
            if !is_contradicted {
                told.extend(self.against_settings(&work, errand, call, start));
            }
            judged.insert(errand.process, counts);
            let call = call.map(|(call, _)| call);
            if work.is_missing(errand, call) {
                told.push(Work::unrecorded(errand, call));
            }
        }
        for (doer, deeds) in &deeds {
            if let Doer::Agent(process) = doer {
                self.excuse_agent(&work, *process, deeds);
            }
        }
        told.extend(self.hands_on_records(&work, &start.job.home));
        let calls: HashMap<ProcessKey, String> =
            joined.iter().map(|(key, (index, _))| (*key, work.calls[*index].call.call.clone())).collect();
        for told in told {
            self.tell(told);
        }
        for group in self.groups.values_mut() {
            let finding = &mut group.finding;
            let process = finding.process.as_ref().and_then(|process| self.lineage.get(process.key));
            let mut errand = process.and_then(|process| process.errand);
            // An agent that was started by an agent: its own call, else the one that started it.
            while let Some(key) = errand {
                if let Some(call) = calls.get(&key) {
                    finding.tool_call = Some(call.clone());
                    break;
                }
                let above = work.errands.get(&key).and_then(|errand| errand.parent);
                errand = above.and_then(|above| self.lineage.get(above)).and_then(|above| above.errand);
            }
        }
        let sessions = work.digest(&joined, &judged, &start.job);
        self.work = work;
        sessions
    }

    /// Records a finding, and makes what other rules said about the same acts a part of it.
    fn tell(&mut self, told: Told) {
        let Told { sequence, time, mut hit, declared, acts } = told;
        let first = hit.object.clone();
        // A theft under a known call is one story. What a rule says of a read that no call explains stays its own.
        let is_whole = hit.kind == Kind::Attack && declared.is_some();
        let rules = [detections::EGRESS.id, detections::FILE.id, detections::CREDENTIAL.id];
        let rules = &rules[..if is_whole { 3 } else { 2 }];
        let mut further = Vec::new();
        for (process, object) in acts {
            let Some(process) = self.lineage.get(process) else { continue };
            // An upload is told by its words; it is the same act.
            let is_upload = |key: &GroupKey, group: &Group| {
                let by = group.finding.process.as_ref().map(|process| process.key);
                declared.is_some() && key.rule == detections::EXFILTRATION.id.0 && by == Some(process.key)
            };
            let uploads = self.groups.iter().filter(|(key, group)| is_upload(key, group));
            let uploads: Vec<GroupKey> = uploads.map(|(key, _)| key.clone()).collect();
            let named = rules.iter().map(|rule| GroupKey {
                rule: rule.0,
                step: process.step.clone(),
                agent: process.agent.clone(),
                program: process.name.to_string(),
                object: object.clone(),
            });
            for key in named.chain(uploads).collect::<Vec<_>>() {
                // What is told for the destination alone, whatever a call says, stays beside it.
                let is_its_own = self.groups.get(&key).is_some_and(|group| {
                    group.finding.kind == Kind::Attack && group.finding.remedy == detections::EGRESS.remedy
                });
                if is_its_own {
                    continue;
                }
                let Some(group) = self.groups.remove(&key) else { continue };
                hit.kind = hit.kind.min(group.finding.kind);
                hit.severity = hit.severity.max(group.finding.severity);
                hit.confidence = hit.confidence.max(group.finding.confidence);
                hit.evidence.extend(group.finding.evidence);
            }
            if object != first && !further.contains(&object) {
                further.push(object);
            }
        }
        let key = self.lineage.get(hit.process).map(|process| GroupKey {
            rule: hit.rule.id.0,
            step: process.step.clone(),
            agent: process.agent.clone(),
            program: process.name.to_string(),
            object: first,
        });
        self.record(sequence, time, vec![hit], declared.as_deref());
        if let Some(group) = key.and_then(|key| self.groups.get_mut(&key)) {
            further.retain(|object| !group.finding.more_objects.contains(object));
            group.finding.more_objects.extend(further);
        }
    }

    /// What the agent did itself: its own services, and what a call asks its own tools for.
    fn excuse_agent(&mut self, work: &Work, agent: ProcessKey, deeds: &[&Deed]) {
        let Some(agent) = self.lineage.get(agent).and_then(|it| it.agent.as_deref()).and_then(agents::by_id)
        else {
            return;
        };
        for deed in deeds {
            if let Effect::Read { path, .. } = &deed.effect
                && work.is_named(agent.id, path, &self.all_homes)
            {
                self.forgive(&deed.process, path);
            }
            let Effect::Connect { object, .. } = &deed.effect else { continue };
            let host = object.rsplit_once(':').map_or(object.as_str(), |(host, _)| host);
            let names = || deed.names.iter().map(String::as_str).chain([host]);
            let is_own = names().any(|name| agent.is_own_host(name));
            let is_asked = || {
                work.calls.iter().any(|known| {
                    known.call.agent == agent.id
                        && known.call.names.iter().any(|word| names().any(|name| word.contains(name)))
                })
            };
            if is_own || is_asked() {
                self.forgive(&deed.process, object);
            }
        }
    }

    /// Takes back what was only a divergence from the step's own text.
    fn forgive(&mut self, process: &Process, object: &str) {
        for rule in [detections::EGRESS.id, detections::FILE.id] {
            let key = GroupKey {
                rule: rule.0,
                step: process.step.clone(),
                agent: process.agent.clone(),
                program: process.name.to_string(),
                object: object.to_owned(),
            };
            if self.groups.get(&key).is_some_and(|group| group.finding.kind == Kind::Divergence) {
                self.groups.remove(&key);
            }
        }
    }

    fn compare(
        &mut self,
        work: &Work,
        errand: &Errand,
        call: Option<(&Call, &'static str)>,
        deeds: &[&Deed],
        start: &Start,
    ) -> (Vec<Told>, (u64, u64)) {
        // Without a record there is nothing to compare with; the gap says so.
        if errand.agent.record.is_none() || deeds.is_empty() {
            return (Vec::new(), (0, 0));
        }
        let declared = Work::declared(errand, call, &start.job.home, &start.job.workspace);
        let judged: Vec<(&Deed, Verdict)> = {
            let context = self.context(start);
            let verdict = |deed: &&Deed| {
                let verdict = deed.verdict(&declared.intent, &context, &self.lineage);
                // A tool server acts for the call that is open; what it takes is another matter.
                let is_served = verdict == Verdict::Undeclared
                    && deed.is_sent()
                    && declared.text.is_none()
                    && work.is_served(errand, deed.time);
                if is_served { Verdict::Explained } else { verdict }
            };
            deeds.iter().filter(|deed| !deed.is_allowed).map(|deed| (*deed, verdict(deed))).collect()
        };
        let of = |wanted: Verdict| -> Vec<&Deed> {
            judged.iter().filter(|(_, verdict)| *verdict == wanted).map(|(deed, _)| *deed).collect()
        };
        let mut told = Vec::new();
        told.extend(self.undeclared(errand, &declared, &judged, &of(Verdict::Undeclared), start));
        told.extend(self.contradicted(work, errand, &declared, &judged, &of(Verdict::Declared), start));
        // The call says more about these than the step's text: what it explains is no finding.
        for (deed, verdict) in &judged {
            if *verdict != Verdict::Undeclared {
                self.forgive(&deed.process, object(&deed.effect));
            }
        }
        let unexplained = judged.iter().filter(|(_, verdict)| *verdict == Verdict::Undeclared).count() as u64;
        (told, (deeds.len() as u64 - unexplained, unexplained))
    }

    fn undeclared(
        &self,
        errand: &Errand,
        declared: &Declared<'_>,
        judged: &[(&Deed, Verdict)],
        undeclared: &[&Deed],
        start: &Start,
    ) -> Option<Told> {
        let first = chief(undeclared)?;
        // What else is sent below a call that took a credential counts with it, and the other way round.
        let unsaid_read = undeclared.iter().any(|deed| deed.is_taken());
        let unsaid_connection = undeclared.iter().any(|deed| deed.is_sent());
        let is_joined = (unsaid_read && judged.iter().any(|(deed, _)| deed.is_sent()))
            || (unsaid_connection && judged.iter().any(|(deed, _)| deed.is_taken()));
        let mut evidence: Vec<u64> = declared.call.iter().map(|(call, _)| call.sequence).collect();
        evidence.extend(undeclared.iter().map(|deed| deed.sequence));
        let hit = Hit {
            rule: &detections::AGENT_UNDECLARED,
            kind: if is_joined { Kind::Attack } else { Kind::Divergence },
            severity: if is_joined { Severity::High } else { Severity::Low },
            confidence: if is_joined { declared.confidence() } else { Confidence::Medium },
            title: format!(
                "{}; below it, {}, which no tool call mentions",
                declared.ran(errand, &self.lineage),
                told(undeclared, &start.job.home)
            ),
            process: first.process.key,
            object: object(&first.effect).to_owned(),
            evidence,
            replaces: None,
            remedy: None,
        };
        Some(Told {
            sequence: first.sequence,
            time: first.time,
            hit,
            declared: declared.words(),
            acts: acts(undeclared),
        })
    }

    fn contradicted(
        &self,
        work: &Work,
        errand: &Errand,
        declared: &Declared<'_>,
        judged: &[(&Deed, Verdict)],
        said: &[&Deed],
        start: &Start,
    ) -> Option<Told> {
        let denied = declared.call.is_some_and(|(call, _)| call.denied);
        let against = said.iter().find_map(|deed| deed.against.clone());
        let forbidden = said
            .iter()
            .find_map(|deed| Some((*deed, work.forbidden(errand, deed, &self.lineage, &start.job)?)));
        let sent: Vec<&Deed> = judged
            .iter()
            .filter(|(deed, verdict)| deed.is_sent() && *verdict != Verdict::Undeclared)
            .map(|(deed, _)| *deed)
            .collect();
        let carries_off = said.iter().any(|deed| deed.is_taken()) && !sent.is_empty();
        // What an earlier call of the session took is in the conversation; a client that follows its words carries it.
        let earlier = said.iter().filter(|deed| deed.is_sent()).find_map(|deed| {
            work.taken_before(errand, deed.time, &self.all_homes).map(|taken| (*deed, taken))
        });
        let mut confidence = declared.confidence();
        // What a call left behind acts when nobody looks at the call any more.
        let is_late = |deed: &&Deed| {
            let answered = declared.call.and_then(|(call, _)| call.answered);
            answered.is_some_and(|answered| answered < deed.time)
        };
        let is_held_back = denied || against.is_some() || forbidden.is_some();
        let is_left_behind = !is_held_back && carries_off && sent.iter().all(is_late);
        let why = if is_left_behind {
            "after the call had ended, which no tool call says".to_owned()
        } else if denied {
            "although the call was refused".to_owned()
        } else if let Some(rule) = against {
            format!("as the call says, but the policy does not allow it: {rule}")
        } else if let Some((_, rule)) = &forbidden {
            confidence = Confidence::Medium;
            format!("as the call says, but the agent's own settings deny it: {}", rule.words())
        } else if carries_off {
            "as the call says, and no permission covers sending a credential away".to_owned()
        } else if let Some((_, taken)) = earlier {
            confidence = Confidence::Medium;
            format!(
                "as the call says, after {} in the same session, and no permission covers sending a credential away",
                taken.words(&start.job.home)
            )
        } else {
            return None;
        };
        let mut all: Vec<&Deed> = said.to_vec();
        if carries_off {
            all.extend(sent.iter().filter(|deed| !said.iter().any(|said| said.sequence == deed.sequence)));
        }
        let first = chief(&all)?;
        let mut evidence: Vec<u64> = declared.call.iter().map(|(call, _)| call.sequence).collect();
        evidence.extend(all.iter().map(|deed| deed.sequence));
        evidence.extend(earlier.map(|(_, taken)| taken.sequence));
        evidence.extend(forbidden.iter().map(|(_, rule)| rule.sequence));
        // What a recipe read on the way may never have come to the agent's ears.
        let is_heard = earlier
            .is_some_and(|(_, taken)| work.is_named(errand.agent.id, object(&taken.effect), &self.all_homes));
        let is_theft = carries_off || is_heard;
        // That somebody talks to a host which the agent may not fetch from is less than a secret taken.
        let is_lesser = forbidden.as_ref().is_some_and(|(deed, _)| !deed.is_taken());
        let is_faint = (earlier.is_some() || is_lesser) && !is_theft && !denied;
        let hit = Hit {
            rule: if is_left_behind {
                &detections::AGENT_UNDECLARED
            } else {
                &detections::AGENT_CONTRADICTED
            },
            kind: if is_theft { Kind::Attack } else { Kind::Divergence },
            severity: if is_faint { Severity::Medium } else { Severity::High },
            confidence,
            title: format!("{}: {}, {why}", declared.ran(errand, &self.lineage), told(&all, &start.job.home)),
            process: first.process.key,
            object: object(&first.effect).to_owned(),
            evidence,
            replaces: None,
            remedy: None,
        };
        Some(Told {
            sequence: first.sequence,
            time: first.time,
            hit,
            declared: declared.words(),
            acts: acts(&all),
        })
    }
}

impl Work {
    /// What declares for an errand: the text that its shell was given, which the call names.
    fn declared<'w>(
        errand: &Errand,
        call: Option<(&'w Call, &'static str)>,
        home: &str,
        workspace: &str,
    ) -> Declared<'w> {
        // The record's text stands in only where the shell's own can't be seen whole.
        let own = errand.commands.last().filter(|_| !errand.is_cut).cloned();
        let recorded = || call.and_then(|(call, _)| call.call.commands.first().cloned());
        let text = own.or_else(recorded);
        let declares = ToolCall {
            tool: call.map_or_else(String::new, |(call, _)| call.call.tool.clone()),
            commands: text.iter().cloned().collect(),
            names: call.map_or_else(Vec::new, |(call, _)| call.call.names.clone()),
            ..ToolCall::default()
        };
        let mut intent = declares.intent(home, workspace);
        if text.is_some() {
            // However short it is: it was read, and says what is to be done.
            intent.scripts.push("a tool call".to_owned());
        }
        Declared { call, text, intent }
    }

    /// Whether a call of this agent names a path, as it is or below `~`.
    fn is_named(&self, agent: &str, path: &str, homes: &[String]) -> bool {
        let below = homes.iter().find_map(|home| path.strip_prefix(home.as_str()));
        let rest = below.unwrap_or(path);
        self.calls.iter().filter(|known| known.call.agent == agent).any(|known| {
            known.call.names.iter().any(|name| name == path || name.strip_prefix('~') == below)
                || known.call.commands.iter().any(|text| text.contains(rest))
        })
    }

    /// A credential that the session of this errand took before this moment, by whatever call.
    fn taken_before(&self, errand: &Errand, time: Timestamp, homes: &[String]) -> Option<&Deed> {
        self.deeds.iter().find(|deed| {
            let is_same = match deed.doer {
                // What it opens on its own account goes nowhere.
                Doer::Agent(process) => {
                    Some(process) == errand.parent
                        && self.is_named(errand.agent.id, object(&deed.effect), homes)
                }
                Doer::Errand(other) => {
                    self.errands.get(&other).is_some_and(|other| other.parent == errand.parent)
                        && other != errand.process
                }
            };
            is_same && deed.is_taken() && !deed.is_allowed && deed.time < time
        })
    }

    /// Whether a call of a tool server is open: what a process without a command of its own does then, it may do for it.
    fn is_served(&self, errand: &Errand, time: Timestamp) -> bool {
        self.calls.iter().any(|known| {
            known.call.server.is_some() && known.call.agent == errand.agent.id && known.is_open_at(time)
        })
    }
}

impl Declared<'_> {
    fn ran(&self, errand: &Errand, lineage: &Lineage) -> String {
        let title = errand.agent.title;
        match (&self.call, &self.text) {
            (Some((call, _)), text) => {
                let text = text.as_ref().unwrap_or(&call.call.tool);
                format!("{title} ran `{}` (call {})", short(text), call.call.call)
            }
            (None, Some(text)) => format!("{title} ran `{}`, whose call is not known", short(text)),
            (None, None) => {
                let name = lineage.get(errand.process).map(|process| process.name.to_string());
                format!("{title} started {} without a tool call", name.as_deref().unwrap_or("a program"))
            }
        }
    }

    /// The nearest declaration: the call, its id and its time.
    fn words(&self) -> Option<String> {
        let (call, how) = self.call.as_ref()?;
        let text = self.text.as_ref().unwrap_or(&call.call.tool);
        let time = call.call.time.rfc3339();
        Some(format!("`{}` (call {} at {time}, tied by {how})", short(text), call.call.call))
    }

    fn confidence(&self) -> Confidence {
        match &self.call {
            Some((_, join::BY_TIME)) => Confidence::Medium,
            _ => Confidence::High,
        }
    }
}

/// What a finding is named by: a destination, else the first.
fn chief<'a>(deeds: &[&'a Deed]) -> Option<&'a Deed> {
    deeds.iter().find(|deed| deed.is_sent()).or_else(|| deeds.first()).copied()
}

fn acts(deeds: &[&Deed]) -> Vec<(ProcessKey, String)> {
    deeds.iter().map(|deed| (deed.process.key, object(&deed.effect).to_owned())).collect()
}

fn told(deeds: &[&Deed], home: &str) -> String {
    const MOST: usize = 4;
    let mut words: Vec<String> = Vec::new();
    let mut before: Option<&str> = None;
    for deed in deeds.iter().take(MOST) {
        let told = deed.words(home);
        // `curl read this and connected there`
        let is_same = before == Some(&*deed.process.name);
        let told = told.strip_prefix(&format!("{} ", deed.process.name)).filter(|_| is_same).unwrap_or(&told);
        words.push(told.to_owned());
        before = Some(&*deed.process.name);
    }
    if deeds.len() > MOST {
        words.push(format!("{} more", deeds.len() - MOST));
    }
    match words.split_last() {
        Some((last, [])) => last.clone(),
        Some((last, first)) => format!("{} and {last}", first.join(", ")),
        None => String::new(),
    }
}

/// One line of a command, cut where it is long.
fn short(text: &str) -> String {
    const LONGEST: usize = 80;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if line.chars().count() > LONGEST {
        return line.chars().take(LONGEST - 1).collect::<String>() + "…";
    }
    line
}
