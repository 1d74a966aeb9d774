//! Every process of the job: who started it, for which step, and what its strand has touched.
//!
//! Ownership comes from fork events in kernel order and is never asked of the host later,
//! so a double fork, `setsid` or a new parent changes nothing.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::event::{Launch, ProcessKey, Timestamp};
use crate::finding::ProcessView;
use crate::job::StepKey;

/// In which capacity a process acts; decided when it launches, by `divergence`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It runs the declared text itself: the step's shell, a launcher such as `env`.
    Text,
    /// A command that the text names.
    Command,
    /// A known tool that the project's own code calls.
    Tool,
    /// It acts for the tool above it: git for npm, the linker for the compiler.
    Helper,
    /// The project's own code below a command: a make recipe, a test.
    Recipe,
    /// Other people's code below a command: an install script.
    Script,
    /// Nothing declared explains why it runs.
    Undeclared,
}

/// One process.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one process")]
pub struct Process {
    pub key: ProcessKey,
    pub parent: Option<ProcessKey>,
    pub step: StepKey,
    /// What people call it: the tool it is, or the name it was started by.
    pub name: Arc<str>,
    /// Shared with the processes forked from it until they launch something else.
    pub launch: Option<Arc<Launch>>,
    pub standing: Standing,
    /// Id of the known tool it is, by identity.
    pub tool: Option<&'static str>,
    /// SHA-256 of its executable, in hex.
    pub sha256: Option<Arc<str>>,
    /// The system's program that it is a copy of, by content, where it lies elsewhere.
    pub copy_of: Option<Arc<str>>,
    /// Id of the coding agent it is or works for.
    pub agent: Option<Arc<str>>,
    /// It is that agent itself.
    pub is_agent: bool,
    /// The process that the agent started, of which this one is a part: one use of a tool, or housekeeping.
    /// An agent that works in an errand of another one keeps it, and what it starts has errands of their own.
    pub errand: Option<ProcessKey>,
    /// The declared command it belongs to, as `npm ci` (build.sh:3).
    pub command: Option<Arc<str>>,
    /// Root of the strand: the process of that declared command, or the step's first.
    pub strand: ProcessKey,
    pub started: Timestamp,
    /// Record of the launch, or of the fork before it.
    pub evidence: u64,
    /// False between fork and the first launch of its own.
    pub launched: bool,
    /// It asked a daemon of the host for names, so that its answers were not seen.
    pub asks_a_daemon: bool,
    /// It, or a helper of the same tool, has talked to somebody.
    pub has_contacted: bool,
    /// The policy's `run` list has had its say here or above.
    pub judged: bool,
    /// A `run` list would have to name it, or has named one above it.
    pub is_needed: bool,
    pub ended: bool,
    /// A touch of some strand names it, so a later finding may have to show it.
    pub has_touched: bool,
    /// It ended so long ago that it stays only for what refers to it.
    pub is_past: bool,
}

impl Process {
    fn view(&self) -> ProcessView {
        let launch = self.launch.as_deref();
        ProcessView {
            key: self.key,
            name: self.name.to_string(),
            executable: launch.map_or_else(String::new, |launch| launch.executable.path.clone()),
            arguments: launch.map_or_else(Vec::new, |launch| launch.arguments.clone()),
            sha256: self.sha256.as_deref().map(ToOwned::to_owned),
        }
    }
}

/// Something a strand touched that a later act can be joined with.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one touch")]
pub struct Touch {
    pub sequence: u64,
    pub time: Timestamp,
    pub process: ProcessKey,
    /// Path, or host:port.
    pub object: String,
    /// Id of the store; empty for a destination.
    pub store: &'static str,
    /// What people call it.
    pub title: &'static str,
    /// The program uses this store as part of its work; only its own process is marked.
    pub by_owner: bool,
    /// The store's own program can print it.
    pub is_printable: bool,
    /// The program opens this store whomever it talks to.
    pub is_casual: bool,
    /// It came by way of a file that was written near the one who read the store.
    pub is_copy: bool,
}

/// What the processes below one declared command have done that matters later.
#[derive(Clone, Debug, Default)]
pub struct Strand {
    /// Credentials read that nothing declared.
    pub reads: Vec<Touch>,
    /// Destinations contacted that nothing explains.
    pub contacts: Vec<Touch>,
    /// What rules count or order: `store` says which kind of act it was.
    pub notes: Vec<Touch>,
}

impl Strand {
    /// The notes of one kind.
    pub fn noted<'a>(&'a self, kind: &'a str) -> impl Iterator<Item = &'a Touch> {
        self.notes.iter().filter(move |note| note.store == kind)
    }

    /// The destinations that what `reader` takes now could go to by a connection that is there: those nothing explains,
    /// and its own to bare addresses.
    pub fn ways_out(&self, reader: ProcessKey) -> impl Iterator<Item = &Touch> {
        self.contacts.iter().chain(self.noted("astray").filter(move |note| note.process == reader))
    }

    /// A hostile loop must not fill our memory; the first touches tell the story.
    const MOST: usize = 256;

    fn add(to: &mut Vec<Touch>, touch: Touch) {
        let known = |other: &Touch| other.object == touch.object && other.process == touch.process;
        if to.len() < Self::MOST && !to.iter().any(known) {
            to.push(touch);
        }
    }
}

/// The job's processes: those alive, their ancestors, those that touched something a later act may be
/// joined with, and the last ones that ended.
#[derive(Debug, Default)]
pub struct Lineage {
    processes: HashMap<ProcessKey, Process>,
    /// How many of the processes name this one as their parent.
    children: HashMap<ProcessKey, usize>,
    /// Those that ended last, oldest first.
    late: VecDeque<ProcessKey>,
    strands: HashMap<ProcessKey, Strand>,
    /// The paths written near who took a credential, and what was taken.
    copies: BTreeMap<String, Touch>,
    /// What living processes opened for writing last: whatever they take later may go there.
    outlets: HashMap<ProcessKey, VecDeque<String>>,
    /// Hashes of the paths opened for reading last, and by whom: a pipe with a name is opened before anything is in it.
    inlets: VecDeque<(u64, ProcessKey)>,
    /// Hashes of the programs that a package client itself put in place, and which client.
    placed: HashMap<u64, &'static str>,
    /// Hashes of the paths that the job made or changed, to know tools it put there itself.
    written: HashSet<u64>,
    unremembered: u64,
    /// Hashes of files that somebody changed who does not make such files, and who it was.
    tampered: HashMap<u64, Touch>,
    /// Hashes of the paths that came to be in the job.
    made: HashSet<u64>,
    /// Who waits for TCP connections, by port.
    listeners: HashMap<u16, Listener>,
    /// Hashes of the folders that clients filled from elsewhere below an agent.
    fetched: HashSet<u64>,
    /// Files that every program of a kind starts with and that the job's own code put there.
    planted: Vec<Touch>,
    /// Hashes of the files that others' code wrote, or the project's own code wrote over what was there.
    changed: HashSet<u64>,
}

/// A process that waits for TCP connections.
#[derive(Clone, Debug)]
pub struct Listener {
    pub process: ProcessKey,
    pub on: SocketAddr,
    /// Who connected last that is neither above nor below it: process and record.
    pub visitor: Option<(ProcessKey, u64)>,
    /// Who connected last from above or beside it, and not by the loopback.
    pub caller: Option<(ProcessKey, u64)>,
}

impl Lineage {
    /// Such files that are remembered.
    const PLANTED: usize = 64;
    /// What a process said may be told after its end, when a packet left late.
    const LATE: usize = 512;
    /// Written paths that are remembered; some 5 MiB.
    const WRITTEN: usize = 1 << 18;
    /// Paths that may hold a copy of a credential.
    const COPIES: usize = 4096;
    /// Of the paths that one process opened for writing.
    const OUTLETS: usize = 8;
    /// Paths opened for reading that may be pipes.
    const INLETS: usize = 1024;
    /// Strands that are remembered beside those that live.
    const STRANDS: usize = 4096;
    /// Fetched folders that are remembered.
    const FETCHED: usize = 1 << 16;

    pub fn get(&self, key: ProcessKey) -> Option<&Process> {
        self.processes.get(&key)
    }

    pub fn get_mut(&mut self, key: ProcessKey) -> Option<&mut Process> {
        self.processes.get_mut(&key)
    }

    pub fn insert(&mut self, process: Process) {
        let parent = process.parent;
        let earlier = self.processes.insert(process.key, process).and_then(|earlier| earlier.parent);
        if parent != earlier {
            self.leave(earlier);
            if let Some(parent) = parent {
                *self.children.entry(parent).or_default() += 1;
            }
        }
    }

    /// Notes the end of a process. It is forgotten some ends later, unless a child or a touch refers to it; then
    /// with the last of them that goes.
    pub fn end(&mut self, key: ProcessKey) {
        match self.processes.get_mut(&key) {
            Some(process) if !process.ended => process.ended = true,
            _ => return,
        }
        self.outlets.remove(&key);
        self.late.push_back(key);
        if self.late.len() > Self::LATE
            && let Some(oldest) = self.late.pop_front()
            && let Some(process) = self.processes.get_mut(&oldest)
        {
            process.is_past = true;
            self.forget(oldest);
        }
    }

    /// Forgets a process, and then its parent if that stayed for this one alone.
    fn forget(&mut self, key: ProcessKey) {
        let mut next = Some(key);
        while let Some(key) = next.take() {
            let is_free =
                self.get(key).is_some_and(|process| process.is_past && process.ended && !process.has_touched);
            if is_free
                && !self.children.contains_key(&key)
                && let Some(process) = self.processes.remove(&key)
            {
                self.leave(process.parent);
                next = process.parent;
            }
        }
    }

    fn leave(&mut self, parent: Option<ProcessKey>) {
        if let Some(parent) = parent
            && let Some(count) = self.children.get_mut(&parent)
        {
            *count -= 1;
            if *count == 0 {
                self.children.remove(&parent);
            }
        }
    }

    pub fn len(&self) -> usize {
        self.processes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.processes.is_empty()
    }

    /// A process of the same standing as its parent; `None` when the parent is unknown.
    pub fn fork(&mut self, parent: ProcessKey, child: ProcessKey, time: Timestamp) -> Option<&Process> {
        let mut process = self.processes.get(&parent)?.clone();
        process.key = child;
        process.parent = Some(parent);
        process.started = time;
        process.launched = false;
        process.has_contacted = false;
        // Each use of a tool is a piece of work of its own, however the agent itself was started.
        if std::mem::take(&mut process.is_agent) {
            process.errand = Some(child);
            process.strand = child;
        }
        process.ended = false;
        process.has_touched = false;
        process.is_past = false;
        self.insert(process);
        self.processes.get(&child)
    }

    /// Processes that launched something and have not ended, oldest first.
    pub fn survivors(&self) -> Vec<&Process> {
        let mut alive: Vec<&Process> = self.processes.values().filter(|process| !process.ended).collect();
        alive.sort_by_key(|process| (process.started, process.key));
        alive
    }

    /// Nearest ancestor first; ends at the step's first process.
    pub fn ancestors(&self, key: ProcessKey) -> impl Iterator<Item = &Process> {
        const DEEPEST: usize = 256;
        let mut next = self.get(key).and_then(|process| process.parent);
        std::iter::from_fn(move || {
            let process = self.get(next?)?;
            next = process.parent.filter(|parent| *parent != process.key);
            Some(process)
        })
        .take(DEEPEST)
    }

    /// What the strand of this process has touched so far.
    pub fn strand(&self, key: ProcessKey) -> &Strand {
        static UNTOUCHED: Strand = Strand { reads: Vec::new(), contacts: Vec::new(), notes: Vec::new() };
        self.get(key).and_then(|process| self.strands.get(&process.strand)).unwrap_or(&UNTOUCHED)
    }

    /// Adds a credential that was read to the strand of this process; another one may have read it.
    pub fn read(&mut self, key: ProcessKey, touch: Touch) {
        if key == touch.process && (!touch.by_owner || touch.is_printable) {
            self.spread(&touch);
        }
        self.touch(key, touch, |strand| &mut strand.reads);
    }

    /// Adds a destination to the strand of this process.
    pub fn contact(&mut self, key: ProcessKey, touch: Touch) {
        self.touch(key, touch, |strand| &mut strand.contacts);
    }

    /// Adds an act that a rule counts to the strand of this process; each kind has a limit of its own.
    pub fn note(&mut self, key: ProcessKey, note: Touch) {
        let Some(root) = self.get(key).map(|process| process.strand) else { return };
        let notes = &mut self.strands.entry(root).or_default().notes;
        let known = |other: &Touch| other.object == note.object && other.process == note.process;
        let mut kin = 0;
        for other in notes.iter().filter(|other| other.store == note.store) {
            kin += 1;
            if kin >= Strand::MOST || known(other) {
                return;
            }
        }
        notes.push(note);
        self.forget_strands();
    }

    /// The process of the job that has this number now, or had it last.
    pub fn numbered(&self, pid: u32) -> Option<&Process> {
        let of_number = self.processes.values().filter(|process| process.key.pid == pid);
        of_number.max_by_key(|process| process.key.start)
    }

    /// The processes that the same parent started, oldest first.
    /// All that belong to the strand of a process, in the order of their start.
    pub fn in_strand(&self, key: ProcessKey) -> Vec<&Process> {
        let Some(strand) = self.get(key).map(|process| process.strand) else { return Vec::new() };
        let mut members: Vec<&Process> =
            self.processes.values().filter(|process| process.strand == strand).collect();
        members.sort_by_key(|process| (process.started, process.key));
        members
    }

    pub fn siblings(&self, key: ProcessKey) -> Vec<&Process> {
        let Some(parent) = self.get(key).and_then(|process| process.parent) else { return Vec::new() };
        let is_sibling = |process: &&Process| process.parent == Some(parent) && process.key != key;
        let mut siblings: Vec<&Process> = self.processes.values().filter(is_sibling).collect();
        siblings.sort_by_key(|process| (process.started, process.key));
        siblings
    }

    fn touch(&mut self, key: ProcessKey, touch: Touch, list: fn(&mut Strand) -> &mut Vec<Touch>) {
        let Some(root) = self.get(key).map(|process| process.strand) else { return };
        if let Some(process) = self.processes.get_mut(&touch.process) {
            process.has_touched = true;
        }
        Strand::add(list(self.strands.entry(root).or_default()), touch);
        self.forget_strands();
    }

    /// When there are too many strands, forgets the oldest half of those that ended, and the processes that were
    /// kept for them. Nothing can join an ended strand any more but a look at the host after the job.
    fn forget_strands(&mut self) {
        if self.strands.len() <= Self::STRANDS {
            return;
        }
        let living: HashSet<ProcessKey> = self
            .processes
            .values()
            .filter(|process| !process.is_past)
            .map(|process| process.strand)
            .collect();
        let first = |strand: &Strand| {
            let touches = [&strand.reads, &strand.contacts, &strand.notes];
            touches.into_iter().flatten().map(|touch| touch.sequence).min()
        };
        let mut ended: Vec<(Option<u64>, ProcessKey)> = self
            .strands
            .iter()
            .filter(|(root, _)| !living.contains(root))
            .map(|(root, strand)| (first(strand), *root))
            .collect();
        ended.sort_unstable();
        ended.truncate(self.strands.len() - Self::STRANDS / 2);
        let touching = |strand: &Strand| -> Vec<ProcessKey> {
            strand.reads.iter().chain(&strand.contacts).map(|touch| touch.process).collect()
        };
        let gone: Vec<ProcessKey> = ended
            .iter()
            .filter_map(|(_, root)| self.strands.remove(root))
            .flat_map(|strand| touching(&strand))
            .collect();
        let still: HashSet<ProcessKey> = (self.strands.values().flat_map(touching))
            .chain(self.copies.values().map(|touch| touch.process))
            .collect();
        for key in gone.into_iter().filter(|key| !still.contains(key)) {
            if let Some(process) = self.processes.get_mut(&key) {
                process.has_touched = false;
            }
            self.forget(key);
        }
    }

    /// Keeps a process for what is told at the end.
    pub fn keep(&mut self, key: ProcessKey) {
        if let Some(process) = self.processes.get_mut(&key) {
            process.has_touched = true;
        }
    }

    /// Whether `above` is `key` or one of its ancestors.
    pub fn is_at_or_below(&self, key: ProcessKey, above: ProcessKey) -> bool {
        key == above || self.ancestors(key).any(|process| process.key == above)
    }

    pub fn view(&self, key: ProcessKey) -> Option<ProcessView> {
        self.get(key).map(Process::view)
    }

    /// How a reader follows the chain: each image once, nearest first.
    ///
    /// A forked process that never launched anything shows its parent's image, so it is left out.
    pub fn ancestry(&self, key: ProcessKey) -> Vec<ProcessView> {
        let mut shown: Option<*const Launch> =
            self.get(key).and_then(|process| process.launch.as_ref()).map(Arc::as_ptr);
        let mut chain = Vec::new();
        for process in self.ancestors(key) {
            let image = process.launch.as_ref().map(Arc::as_ptr);
            if image.is_some() && image != shown {
                chain.push(process.view());
            }
            shown = image;
        }
        chain
    }

    /// Notes a file that may hold a credential now: its writer, a sibling or a parent took one, or may yet.
    pub fn copied(&mut self, writer: ProcessKey, path: &str) {
        if !self.processes.contains_key(&writer) {
            return;
        }
        let outlets = self.outlets.entry(writer).or_default();
        outlets.retain(|known| known != path);
        outlets.push_back(path.to_owned());
        if outlets.len() > Self::OUTLETS {
            outlets.pop_front();
        }
        let Some(process) = self.get(writer) else { return };
        let Some(strand) = self.strands.get(&process.strand) else { return };
        let is_near = |reader: ProcessKey| {
            let reader_parent = self.get(reader).and_then(|reader| reader.parent);
            reader == writer
                || (process.parent.is_some() && process.parent == reader_parent)
                || self.is_at_or_below(reader, writer)
                || self.is_at_or_below(writer, reader)
        };
        let is_taken = |read: &&Touch| (!read.by_owner || read.is_printable) && is_near(read.process);
        let taken = strand.reads.iter().find(|read| is_taken(read) && !read.by_owner);
        if let Some(taken) = taken.or_else(|| strand.reads.iter().find(is_taken)).cloned() {
            self.keep_copy(path, taken);
        }
    }

    fn keep_copy(&mut self, path: &str, taken: Touch) {
        // What was taken outright weighs more than what an owner may have printed.
        let is_known = self.copies.get(path).is_some_and(|known| !known.by_owner || taken.by_owner);
        if !is_known && (self.copies.len() < Self::COPIES || self.copies.contains_key(path)) {
            self.copies.insert(path.to_owned(), Touch { is_copy: true, ..taken });
        }
    }

    /// What a process took may go where it, or a shell above it, writes already: `cat secret > pipe`. Whoever waits
    /// at the other end has it then.
    fn spread(&mut self, taken: &Touch) {
        let Some(reader) = self.get(taken.process) else { return };
        let strand = reader.strand;
        let is_near = |process: &&Process| {
            let is_same = reader.tool.is_some() && process.tool == reader.tool;
            process.strand == strand && (is_same || process.tool == Some("shells"))
        };
        let near = self.ancestors(taken.process).take_while(is_near).take(4).map(|process| process.key);
        let writers: Vec<ProcessKey> = std::iter::once(taken.process).chain(near).collect();
        let paths: Vec<String> =
            writers.iter().filter_map(|key| self.outlets.get(key)).flatten().cloned().collect();
        for path in paths.iter().filter(|path| !path.starts_with("/dev/") && !path.starts_with("/proc/")) {
            self.keep_copy(path, taken.clone());
            let number = hash(path);
            let waiting: Vec<ProcessKey> = (self.inlets.iter())
                .filter(|(inlet, key)| {
                    let reader = self.get(*key);
                    *inlet == number && reader.is_some_and(|reader| reader.strand != strand && !reader.ended)
                })
                .map(|(_, key)| *key)
                .collect();
            for key in waiting {
                let copy = Touch { is_copy: true, ..taken.clone() };
                self.touch(key, copy, |strand| &mut strand.reads);
            }
        }
    }

    /// Notes that a process may read what others write to this path later.
    pub fn waits_for(&mut self, key: ProcessKey, path: &str) {
        if self.inlets.len() >= Self::INLETS {
            self.inlets.pop_front();
        }
        self.inlets.push_back((hash(path), key));
    }

    /// What a file may hold a copy of.
    pub fn copy(&self, path: &str) -> Option<&Touch> {
        self.copies.get(path)
    }

    pub fn moved(&mut self, from: &str, to: &str) {
        let below = format!("{from}/");
        let inside = self.copies.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
        let moving: Vec<String> = self
            .copies
            .contains_key(from)
            .then(|| from.to_owned())
            .into_iter()
            .chain(inside.map(|(path, _)| path.clone()))
            .collect();
        for path in moving {
            if let Some(taken) = self.copies.remove(&path) {
                self.copies.insert(format!("{to}{}", &path[from.len()..]), taken);
            }
        }
    }

    /// The process that a helper helps; any other process is its own.
    pub fn helped(&self, key: ProcessKey) -> Option<&Process> {
        let own = self.get(key)?;
        if own.standing != Standing::Helper {
            return Some(own);
        }
        self.ancestors(key).find(|process| process.standing != Standing::Helper)
    }

    /// Notes where a process waits for connections.
    pub fn listens(&mut self, process: ProcessKey, on: SocketAddr) {
        self.listeners.insert(on.port(), Listener { process, on, visitor: None, caller: None });
    }

    /// Notes that a process connects to where another one of the job may be waiting.
    pub fn visits(&mut self, visitor: ProcessKey, to: SocketAddr, sequence: u64) {
        let Some(listener) = self.listeners.get(&to.port()) else { return };
        let is_there = listener.on.ip().is_unspecified() || listener.on.ip() == to.ip();
        let is_below = self.is_at_or_below(visitor, listener.process);
        let is_above = self.is_at_or_below(listener.process, visitor);
        let Some(listener) = self.listeners.get_mut(&to.port()).filter(|_| is_there && !is_below) else {
            return;
        };
        if !is_above {
            listener.visitor = Some((visitor, sequence));
        }
        if !to.ip().is_loopback() {
            listener.caller = Some((visitor, sequence));
        }
    }

    /// Where this process waits for connections.
    pub fn listening(&self, process: ProcessKey) -> impl Iterator<Item = &Listener> {
        self.listeners.values().filter(move |listener| listener.process == process)
    }

    /// Whether a client filled this folder from elsewhere, below an agent.
    pub fn is_fetched(&self, folder: &str) -> bool {
        !self.fetched.is_empty() && self.fetched.contains(&hash(folder))
    }

    /// Notes that a process talked to somebody, and with it the tool it works for.
    pub fn contacted(&mut self, key: ProcessKey) {
        let tool: Vec<ProcessKey> = self.tool_chain(key).collect();
        for key in tool {
            if let Some(process) = self.processes.get_mut(&key) {
                process.has_contacted = true;
            }
        }
    }

    /// Whether the tool that a process is part of has talked to somebody.
    pub fn has_contacted(&self, key: ProcessKey) -> bool {
        self.tool_chain(key).any(|key| self.get(key).is_some_and(|process| process.has_contacted))
    }

    /// A process and those of its ancestors that are the same tool at work: git-remote-https, git.
    fn tool_chain(&self, key: ProcessKey) -> impl Iterator<Item = ProcessKey> {
        let own = self.get(key);
        let tool = own.and_then(|process| process.tool);
        let is_helper = own.is_some_and(|process| process.standing == Standing::Helper);
        let above = self
            .ancestors(key)
            .take_while(move |process| is_helper || (tool.is_some() && process.tool == tool))
            .map(|process| process.key)
            .take(8);
        std::iter::once(key).chain(above)
    }

    /// Notes whose hand was on a file last. What a build makes anew, and what a client or the step's text writes, is in order.
    pub fn changed(&mut self, by: ProcessKey, path: &str, is_new: bool) {
        let Some(process) = self.get(by) else { return };
        let is_own = || self.written.contains(&hash(path));
        let is_odd = match process.standing {
            Standing::Script | Standing::Undeclared => true,
            Standing::Recipe => !is_new && process.agent.is_none() && !is_own(),
            _ => false,
        };
        if !is_odd {
            self.changed.remove(&hash(path));
        } else if self.changed.len() < Self::FETCHED {
            self.changed.insert(hash(path));
        }
    }

    /// Whether others' code wrote this file last, or the project's own code wrote over what was there before the job.
    pub fn is_changed(&self, path: &str) -> bool {
        !self.changed.is_empty() && self.changed.contains(&hash(path))
    }

    /// Notes that the job made or changed a file, and whether a client put a program in place.
    pub fn wrote(&mut self, by: ProcessKey, path: &str) {
        let key = hash(path);
        if self.written.len() >= Self::WRITTEN && !self.written.contains(&key) {
            self.unremembered += 1;
            return;
        }
        let is_new = self.written.insert(key);
        if self.fetched.len() < Self::FETCHED
            && self.get(by).is_some_and(|process| process.agent.is_some())
            && matches!(self.client(by), Some("git" | "transfer" | "npm" | "pip" | "forges"))
            && let Some((folder, _)) = path.rsplit_once('/')
        {
            self.fetched.insert(hash(folder));
        }
        // Where clients put programs: an environment's bin folder, pip itself, a plug-in folder.
        if !(path.contains("/bin/")
            || path.contains("/site-packages/pip/")
            || path.contains("/.terraform/")
            || path.contains("/.pulumi/plugins/"))
        {
            return;
        }
        // Only who makes it vouches for it: a package that is unpacked over it later doesn't.
        match self.client(by).filter(|_| is_new || self.placed.get(&key) == self.client(by).as_ref()) {
            Some(tool) => self.placed.insert(key, tool),
            None => self.placed.remove(&key),
        };
    }

    /// The tool that a process belongs to, itself or as part of its work; none for others' code.
    fn client(&self, key: ProcessKey) -> Option<&'static str> {
        let own = self.get(key)?;
        if matches!(own.standing, Standing::Script | Standing::Undeclared | Standing::Text) {
            return None;
        }
        let is_client = |process: &&Process| matches!(process.standing, Standing::Command | Standing::Tool);
        std::iter::once(own).chain(self.ancestors(key)).find(is_client).and_then(|process| process.tool)
    }

    /// The client that put the program at this path in place, if one did and nothing changed it since.
    pub fn placed_by(&self, path: &str) -> Option<&'static str> {
        self.placed.get(&hash(path)).copied()
    }

    /// Notes that the file at this path came to be in the job.
    pub fn made(&mut self, path: &str) {
        if self.made.len() < Self::WRITTEN {
            self.made.insert(hash(path));
        }
    }

    /// Whether the file at this path came to be in the job.
    pub fn has_made(&self, path: &str) -> bool {
        self.made.contains(&hash(path))
    }

    /// Notes a file that was changed by somebody who does not make such files; the first time counts.
    pub fn tamper(&mut self, path: &str, touch: Touch) {
        const MOST: usize = 4096;
        if self.tampered.len() < MOST {
            self.keep(touch.process);
            self.tampered.entry(hash(path)).or_insert(touch);
        }
    }

    /// Who changed this file without making such files.
    pub fn tampered(&self, path: &str) -> Option<&Touch> {
        if self.tampered.is_empty() { None } else { self.tampered.get(&hash(path)) }
    }

    /// Notes a file that other programs start with from now on.
    pub fn plant(&mut self, touch: Touch) {
        if self.planted.len() < Self::PLANTED
            && !self.planted.iter().any(|known| known.object == touch.object)
        {
            self.planted.push(touch);
        }
    }

    /// What the job's own code put at a path that other programs start with.
    pub fn planted(&self, path: &str) -> Option<&Touch> {
        self.planted.iter().find(|touch| touch.object == path)
    }

    /// How many written paths were too many to remember.
    pub fn unremembered(&self) -> u64 {
        self.unremembered
    }

    /// Whether the job made or changed the file at this path.
    pub fn has_written(&self, path: &str) -> bool {
        self.written.contains(&hash(path))
    }
}

fn hash(path: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u32) -> ProcessKey {
        ProcessKey { pid: number, start: u64::from(number) }
    }

    fn first(lineage: &mut Lineage) {
        let key = key(0);
        lineage.insert(Process {
            key,
            parent: None,
            step: StepKey::local(),
            name: "sh".into(),
            launch: None,
            standing: Standing::Text,
            tool: None,
            sha256: None,
            copy_of: None,
            agent: None,
            is_agent: false,
            errand: None,
            command: None,
            strand: key,
            started: Timestamp(0),
            evidence: 0,
            launched: true,
            asks_a_daemon: false,
            has_contacted: false,
            judged: false,
            is_needed: false,
            ended: false,
            has_touched: false,
            is_past: false,
        });
    }

    fn touch(process: ProcessKey) -> Touch {
        Touch {
            sequence: 1,
            time: Timestamp(1),
            process,
            object: "/home/u/.netrc".to_owned(),
            store: "netrc",
            title: "netrc",
            by_owner: false,
            is_printable: false,
            is_casual: false,
            is_copy: false,
        }
    }

    /// Forks and ends this many children of the first process.
    fn storm(lineage: &mut Lineage, numbers: std::ops::Range<u32>) {
        for number in numbers {
            lineage.fork(key(0), key(number), Timestamp(1)).unwrap();
            lineage.end(key(number));
        }
    }

    #[test]
    fn ended_processes_are_forgotten_and_the_living_stay() {
        let mut lineage = Lineage::default();
        first(&mut lineage);
        storm(&mut lineage, 1..100_001);
        assert_eq!(lineage.len(), 1 + Lineage::LATE);
        assert!(lineage.get(key(0)).is_some());
        assert_eq!(lineage.children, HashMap::from([(key(0), Lineage::LATE)]));
        assert!(lineage.get(key(100_000)).is_some(), "the last ones may still have something to say");
    }

    #[test]
    fn a_parent_that_ended_stays_for_its_children_and_goes_with_the_last() {
        let mut lineage = Lineage::default();
        first(&mut lineage);
        lineage.fork(key(0), key(1), Timestamp(1)).unwrap();
        lineage.fork(key(1), key(2), Timestamp(1)).unwrap();
        lineage.end(key(1));
        storm(&mut lineage, 10..2_000);
        let above: Vec<ProcessKey> = lineage.ancestors(key(2)).map(|process| process.key).collect();
        assert_eq!(above, [key(1), key(0)]);
        // A child that comes late has its step from the parent that ended.
        lineage.fork(key(2), key(3), Timestamp(1)).unwrap();
        lineage.end(key(2));
        lineage.end(key(3));
        storm(&mut lineage, 2_000..4_000);
        assert!([1, 2, 3].iter().all(|number| lineage.get(key(*number)).is_none()));
    }

    #[test]
    fn who_touched_something_stays_with_all_above() {
        let mut lineage = Lineage::default();
        first(&mut lineage);
        lineage.fork(key(0), key(1), Timestamp(1)).unwrap();
        lineage.fork(key(1), key(2), Timestamp(1)).unwrap();
        lineage.read(key(2), touch(key(2)));
        lineage.end(key(2));
        lineage.end(key(1));
        storm(&mut lineage, 10..2_000);
        assert_eq!(lineage.strand(key(0)).reads.len(), 1);
        let above: Vec<ProcessKey> = lineage.ancestors(key(2)).map(|process| process.key).collect();
        assert_eq!(above, [key(1), key(0)]);
    }

    #[test]
    fn commands_that_touch_something_are_bounded_and_the_living_keep_what_they_touched() {
        let mut lineage = Lineage::default();
        first(&mut lineage);
        let act = |lineage: &mut Lineage, number: u32| {
            lineage.fork(key(0), key(number), Timestamp(1)).unwrap();
            lineage.get_mut(key(number)).unwrap().strand = key(number);
            lineage.read(key(number), Touch { sequence: number.into(), ..touch(key(number)) });
        };
        act(&mut lineage, 1);
        for number in 2..50_000 {
            act(&mut lineage, number);
            lineage.end(key(number));
        }
        assert!(lineage.strands.len() <= Lineage::STRANDS);
        assert!(lineage.len() <= Lineage::STRANDS + Lineage::LATE + 2);
        assert_eq!(lineage.strand(key(1)).reads.len(), 1, "it is still at work");
        assert_eq!(lineage.strand(key(49_999)).reads.len(), 1, "it has only just ended");
        assert!(lineage.get(key(2)).is_none());
    }

    #[test]
    fn a_reused_number_is_another_process() {
        let mut lineage = Lineage::default();
        first(&mut lineage);
        let (older, newer) = (ProcessKey { pid: 7, start: 1 }, ProcessKey { pid: 7, start: 2 });
        lineage.fork(key(0), older, Timestamp(1)).unwrap();
        lineage.end(older);
        lineage.fork(key(0), newer, Timestamp(2)).unwrap();
        storm(&mut lineage, 10..2_000);
        assert!(lineage.get(older).is_none());
        assert!(lineage.get(newer).is_some_and(|process| !process.ended));
    }

    #[test]
    fn written_paths_are_bounded_and_the_rest_is_counted() {
        let mut lineage = Lineage::default();
        first(&mut lineage);
        for number in 0..Lineage::WRITTEN {
            lineage.wrote(key(0), &number.to_string());
        }
        assert_eq!(lineage.unremembered(), 0);
        lineage.wrote(key(0), "one more");
        lineage.wrote(key(0), "7");
        assert_eq!((lineage.written.len(), lineage.unremembered()), (Lineage::WRITTEN, 1));
        assert!(lineage.has_written("7") && !lineage.has_written("one more"));
    }
}
