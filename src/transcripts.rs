//! Follows the records that coding agents keep of their tool calls, while they grow.
//!
//! A record is found below the homes of the local users and the workspace, or because an agent is seen to open
//! it; and only once an agent is at work. It is read, never written or locked; what it says becomes an
//! [`Input`] for the recording, so a replay reads none.

mod database;
mod exports;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Instant;

use globset::{GlobBuilder, GlobMatcher};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::agents::printed::Printed;
use crate::agents::{self, Agent, Entry, Form, Reader, Root};
use crate::engine::Input;
use crate::event::{Activity, Event, Fact, ProcessKey, Timestamp};
use crate::intent::{Declaration, Text};
use crate::job::StepKey;

pub use exports::{Export, Holder};

/// Read of one file in one turn, so that a large record does not hold up the events.
const PORTION: u64 = 1 << 20;
/// A longer line is no tool call of ours; it counts as unreadable.
const LONGEST_LINE: usize = 4 << 20;
/// Of all records of one run that grow by lines.
const BUDGET: u64 = 1 << 30;
/// A larger file of those that are read as a whole is not read.
const LARGEST: u64 = 64 << 20;
/// Conversations that are followed.
const MOST: usize = 512;
/// Files looked at in one search.
const MOST_SEEN: usize = 65_536;
/// Entries of one file that are known to be told.
const MOST_TOLD: usize = 65_536;
const MOST_AGENTS: usize = 4096;
const DEEPEST: usize = 8;
const PAUSE_NS: u64 = 100_000_000;
/// A search, or reading a file as a whole, is paused by this many times what it took.
const REST: u32 = 20;
/// A call that was asked for this long before the run is none of its calls.
const EARLIER_NS: u64 = 60_000_000_000;

/// The records of one run.
#[derive(Debug)]
pub struct Transcripts {
    homes: Vec<PathBuf>,
    workspace: PathBuf,
    /// The folder that a runner gives its jobs.
    temporary: Option<PathBuf>,
    /// Files that agents' output goes to.
    outputs: BTreeMap<PathBuf, &'static Agent>,
    since: Timestamp,
    step: StepKey,
    at_work: BTreeSet<String>,
    /// The processes that are agents.
    agents: HashMap<ProcessKey, &'static Agent>,
    /// The process that is about to launch an agent.
    launching: Option<ProcessKey>,
    exports: exports::Exports,
    /// Records that agents were seen to open.
    seen: BTreeSet<PathBuf>,
    followed: BTreeMap<PathBuf, Followed>,
    next: Timestamp,
    next_search: Timestamp,
    left: u64,
    unreadable: u64,
    is_cut: bool,
}

/// One file, as far as it was read.
#[derive(Debug)]
struct Followed {
    agent: &'static Agent,
    form: Form,
    reader: Box<dyn Reader>,
    inode: u64,
    offset: u64,
    digest: Sha256,
    /// The beginning of a line whose end is not written yet.
    rest: Vec<u8>,
    is_skipping: bool,
    /// The agent's output goes there: no record of its own.
    is_printed: bool,
    /// What the file, and its log, looked like when it was read as a whole.
    stamp: Option<[(u64, u64); 2]>,
    cursors: Vec<i64>,
    told: HashSet<u64>,
    /// Not to be read as a whole again before this.
    next: Timestamp,
    /// Something was said about it; once is enough.
    is_lost: bool,
}

impl Transcripts {
    /// Records below these homes and this folder that change after `since` belong to the run.
    pub fn new(
        homes: impl Iterator<Item = PathBuf>,
        workspace: PathBuf,
        since: Timestamp,
        step: StepKey,
    ) -> Self {
        let homes: BTreeSet<PathBuf> = homes.filter(|home| home.as_os_str().len() > 1).collect();
        Self {
            homes: homes.into_iter().collect(),
            workspace,
            temporary: None,
            outputs: BTreeMap::new(),
            since,
            step,
            at_work: BTreeSet::new(),
            agents: HashMap::new(),
            launching: None,
            exports: exports::Exports::default(),
            seen: BTreeSet::new(),
            followed: BTreeMap::new(),
            next: Timestamp::default(),
            next_search: Timestamp::default(),
            left: BUDGET,
            unreadable: 0,
            is_cut: false,
        }
    }

    /// Looks in this folder as well, which a runner gives its jobs.
    pub fn in_temporary(mut self, folder: PathBuf) -> Self {
        self.temporary = Some(folder);
        self
    }

    /// Notes that an agent is at work, which record it opens, and where its output goes.
    pub fn note(&mut self, input: &Input) {
        match input {
            Input::Fact(Fact::AgentOutput { agent, file }) => {
                if let Some(agent) = agents::by_id(agent)
                    && self.outputs.len() < MOST
                {
                    self.outputs.insert(PathBuf::from(file), agent);
                }
            }
            Input::Fact(Fact::Agent { agent, process }) => {
                if !self.at_work.contains(agent) {
                    self.at_work.insert(agent.clone());
                }
                if let Some(agent) = agents::by_id(agent)
                    && self.agents.len() < MOST_AGENTS
                {
                    self.agents.insert(*process, agent);
                }
                self.launching = Some(*process);
            }
            Input::Event(Event { actor, activity: Activity::Launch(launch), .. }) => {
                // An agent's file may be a mere tool, and prepares the process of a command before it is that command.
                let is_agent = self.launching.take() == Some(*actor);
                if self.agents.get(actor).is_some_and(|agent| !is_agent || agent.is_tool(launch)) {
                    self.agents.remove(actor);
                }
            }
            Input::Event(Event { actor, activity: Activity::Exit { .. }, .. }) => {
                self.ended(*actor);
            }
            Input::Event(Event { actor, activity: Activity::Open { file, access }, .. })
                if (access.write || access.create)
                    && self.agents.contains_key(actor)
                    && agents::record_at(&file.path).is_some() =>
            {
                let path = Path::new(&file.path);
                if self.seen.len() < MOST && !self.seen.contains(path) {
                    self.seen.insert(path.to_owned());
                }
            }
            _ => {}
        }
    }

    /// What the records have to say that is new, asked for at most ten times a second.
    pub fn tick(&mut self, now: Timestamp) -> Vec<Input> {
        if self.at_work.is_empty() || now < self.next {
            return Vec::new();
        }
        self.next = Timestamp(now.0.saturating_add(PAUSE_NS));
        self.look(now)
    }

    fn look(&mut self, now: Timestamp) -> Vec<Input> {
        if now >= self.next_search {
            let began = Instant::now();
            self.search();
            self.next_search = rested(now, began);
        }
        for path in std::mem::take(&mut self.seen) {
            self.follow(&path);
        }
        for (path, agent) in self.outputs.clone() {
            if self.at_work.contains(agent.id) {
                self.begin(&path, agent, Form::Lines, Box::<Printed>::default(), true);
            }
        }
        let mut inputs = Vec::new();
        let paths: Vec<PathBuf> = self.followed.keys().cloned().collect();
        for path in paths {
            self.read(&path, now, &mut inputs);
        }
        inputs
    }

    /// The last look: reads to the end, and compares what was read with what is there.
    pub fn end(&mut self, now: Timestamp) -> Vec<Input> {
        let mut inputs = self.exported(Vec::new(), now, true);
        if self.at_work.is_empty() {
            return inputs;
        }
        self.next_search = Timestamp::default();
        for followed in self.followed.values_mut() {
            followed.next = Timestamp::default();
        }
        loop {
            let before = self.left;
            inputs.extend(self.look(now));
            if self.left == before {
                break;
            }
        }
        for (path, followed) in &mut self.followed {
            if followed.form == Form::Lines && !followed.is_lost && !is_as_read(path, followed) {
                followed.is_lost = true;
                inputs.push(lost(followed.agent, path, "was changed in what had been read", now));
            }
        }
        if self.unreadable > 0 {
            let text = format!("{} lines of coding agents' records could not be read", self.unreadable);
            inputs.push(Input::Fact(Fact::Gap { text }));
        }
        if self.is_cut || self.left == 0 {
            let text = "coding agents' records were too many or too large to be read to the end".to_owned();
            inputs.push(Input::Fact(Fact::Gap { text }));
        }
        inputs
    }

    /// Looks for records where those of the agents at work lie.
    fn search(&mut self) {
        let mut found = Vec::new();
        let mut left = MOST_SEEN;
        for agent in self.at_work.iter().filter_map(|id| agents::by_id(id)) {
            for place in agent.record.iter().flat_map(|record| record.places) {
                let (root, glob) = place.below();
                let roots = match root {
                    Root::Home => self.homes.as_slice(),
                    Root::Workspace => std::slice::from_ref(&self.workspace),
                    Root::RunnerTemp => self.temporary.as_slice(),
                };
                for root in roots {
                    found_at(root, glob, &mut left, &mut found);
                }
            }
        }
        self.is_cut |= left == 0;
        for path in found {
            self.follow(&path);
        }
    }

    /// Begins to follow a file, if it belongs to this run.
    fn follow(&mut self, path: &Path) {
        let Some((agent, place)) = path.to_str().and_then(agents::record_at) else { return };
        // The database of a log.
        let path = match (place.form, path.to_str().and_then(|path| path.strip_suffix("-wal"))) {
            (Form::Database(_), Some(path)) => Path::new(path),
            _ => path,
        };
        let Some(record) = agent.record.filter(|_| self.at_work.contains(agent.id)) else { return };
        let reader = (record.reader)(&path.to_string_lossy());
        self.begin(path, agent, place.form, reader, place.form == Form::Output);
    }

    fn begin(
        &mut self,
        path: &Path,
        agent: &'static Agent,
        form: Form,
        reader: Box<dyn Reader>,
        is_printed: bool,
    ) {
        if self.followed.contains_key(path) {
            return;
        }
        let Ok(about) = fs::symlink_metadata(path) else { return };
        let log = fs::symlink_metadata(log_of(path)).ok().filter(|_| form != Form::Lines);
        let latest = changed(&about).max(log.as_ref().map_or(0, changed));
        if latest < self.since.0 || !about.is_file() {
            return;
        }
        if self.followed.len() >= MOST {
            self.is_cut = true;
            return;
        }
        let followed = Followed {
            agent,
            form,
            reader,
            inode: about.ino(),
            offset: 0,
            digest: Sha256::new(),
            rest: Vec::new(),
            is_skipping: false,
            is_printed,
            stamp: None,
            cursors: Vec::new(),
            told: HashSet::new(),
            next: Timestamp::default(),
            is_lost: false,
        };
        self.followed.insert(path.to_owned(), followed);
    }

    fn read(&mut self, path: &Path, now: Timestamp, inputs: &mut Vec<Input>) {
        let Some(followed) = self.followed.get_mut(path).filter(|followed| !followed.is_lost) else { return };
        let problem = match fs::symlink_metadata(path) {
            Ok(about) if !about.is_file() => Some("was replaced"),
            Ok(about) if followed.form != Form::Lines => {
                followed.inode = about.ino();
                None
            }
            Ok(about) if about.ino() != followed.inode => {
                // What is written anew and moved into place is the same record if it begins the same.
                if about.len() >= followed.offset && is_as_read(path, followed) {
                    followed.inode = about.ino();
                    None
                } else {
                    Some("was replaced")
                }
            }
            Ok(about) if about.len() < followed.offset => Some("became shorter"),
            Ok(_) => None,
            Err(_) => Some("was removed"),
        };
        if problem.is_some() && followed.is_printed {
            // Whoever takes in what an agent prints may begin anew, or clear up; that is no loss of a record.
            match fs::symlink_metadata(path).and_then(regular) {
                Ok(about) => followed.again(about.ino()),
                Err(_) => drop(self.followed.remove(path)),
            }
            return;
        }
        if let Some(problem) = problem {
            // A record that was only given another name goes on there.
            if let Some(moved) = moved(path, followed.inode)
                && !self.followed.contains_key(&moved)
                && let Some(followed) = self.followed.remove(path)
            {
                self.followed.insert(moved.clone(), followed);
                return self.read(&moved, now, inputs);
            }
            if let Some(followed) = self.followed.get_mut(path) {
                followed.is_lost = true;
                inputs.push(lost(followed.agent, path, problem, now));
            }
            return;
        }
        let (agent, mut entries) = match followed.form {
            Form::Lines => {
                let Ok(bytes) = portion(path, followed.offset, PORTION.min(self.left)) else { return };
                self.left -= bytes.len() as u64;
                (followed.agent, followed.lines(&bytes))
            }
            Form::Whole | Form::Output | Form::Database(_) => {
                let stamp = [stamp(path), stamp(&log_of(path))];
                if now < followed.next || followed.stamp == Some(stamp) {
                    return;
                }
                followed.stamp = Some(stamp);
                let began = Instant::now();
                let (entries, is_cut) = followed.whole(path);
                self.is_cut |= is_cut;
                followed.next = rested(now, began);
                (followed.agent, entries)
            }
        };
        if followed.is_printed {
            for entry in &mut entries {
                match entry {
                    Entry::Call(call) => call.is_printed = true,
                    Entry::Session(session) => session.is_aside = true,
                    Entry::Result(_) | Entry::Unreadable => {}
                }
            }
        }
        self.tell(agent, entries, now, inputs);
    }

    /// What an agent handed to a hook; one that is not at work says nothing.
    pub fn hooked(&mut self, agent: &str, payload: &Value, now: Timestamp) -> Vec<Input> {
        let mut inputs = Vec::new();
        if let Some(agent) = agents::by_id(agent).filter(|agent| self.at_work.contains(agent.id)) {
            self.tell(agent, agents::hooks::read(payload), now, &mut inputs);
        }
        inputs
    }

    fn tell(&mut self, agent: &Agent, entries: Vec<Entry>, now: Timestamp, inputs: &mut Vec<Input>) {
        for entry in entries {
            let text = match entry {
                Entry::Call(mut call) => {
                    if call.time.0 != 0 && call.time.0.saturating_add(EARLIER_NS) < self.since.0 {
                        continue;
                    }
                    agent.id.clone_into(&mut call.agent);
                    if call.time.0 == 0 {
                        call.time = now;
                    }
                    Text::ToolCall(call)
                }
                Entry::Result(mut result) => {
                    if result.time.0 != 0 && result.time.0.saturating_add(EARLIER_NS) < self.since.0 {
                        continue;
                    }
                    agent.id.clone_into(&mut result.agent);
                    Text::ToolResult(result)
                }
                Entry::Session(mut session) => {
                    agent.id.clone_into(&mut session.agent);
                    Text::AgentSession(session)
                }
                Entry::Unreadable => {
                    self.unreadable += 1;
                    continue;
                }
            };
            inputs.push(Input::Declaration(Declaration { step: self.step.clone(), text }));
        }
    }
}

impl Followed {
    /// Begins anew with a file of the same name.
    fn again(&mut self, inode: u64) {
        self.reader = Box::<Printed>::default();
        self.inode = inode;
        self.offset = 0;
        self.digest = Sha256::new();
        self.rest.clear();
        self.is_skipping = false;
    }

    /// Takes in more bytes of a record that grows by lines.
    fn lines(&mut self, bytes: &[u8]) -> Vec<Entry> {
        self.offset += bytes.len() as u64;
        self.digest.update(bytes);
        self.rest.extend(bytes);
        let mut entries = Vec::new();
        let Some(end) = self.rest.iter().rposition(|byte| *byte == b'\n') else {
            if self.rest.len() > LONGEST_LINE {
                self.rest.clear();
                self.is_skipping = true;
            }
            return entries;
        };
        let later = self.rest.split_off(end + 1);
        let lines = std::mem::replace(&mut self.rest, later);
        for line in lines.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            if std::mem::take(&mut self.is_skipping) {
                entries.push(Entry::Unreadable);
                continue;
            }
            match std::str::from_utf8(line) {
                Ok(line) => entries.extend(self.reader.read(line)),
                Err(_) => entries.push(Entry::Unreadable),
            }
        }
        entries
    }

    /// Reads all of a record that is written anew, or a database; gives what was not told, and whether it is too large.
    fn whole(&mut self, path: &Path) -> (Vec<Entry>, bool) {
        let entries = if let Form::Database(queries) = self.form {
            self.cursors.resize(queries.len(), -1);
            let pieces = match database::rows(path, queries, &mut self.cursors, LARGEST) {
                Ok(pieces) => pieces,
                Err(database::Failure::TooLarge) => return (Vec::new(), true),
                // It may have been written to while it was copied; the next turn tries again.
                Err(database::Failure::Unreadable) => {
                    self.stamp = None;
                    return (Vec::new(), false);
                }
            };
            pieces.iter().flat_map(|piece| self.reader.read(piece)).collect()
        } else {
            let Ok(bytes) = portion(path, 0, LARGEST + 1) else { return (Vec::new(), false) };
            if bytes.len() as u64 > LARGEST {
                return (Vec::new(), true);
            }
            let Some(record) = self.agent.record else { return (Vec::new(), false) };
            self.reader = (record.reader)(&path.to_string_lossy());
            match String::from_utf8(bytes) {
                Ok(text) => self.reader.read(&text),
                Err(_) => vec![Entry::Unreadable],
            }
        };
        let is_news = |entry: &Entry| {
            let mut hasher = DefaultHasher::new();
            entry.hash(&mut hasher);
            self.told.len() < MOST_TOLD && self.told.insert(hasher.finish())
        };
        (entries.into_iter().filter(is_news).collect(), false)
    }
}

fn regular(about: fs::Metadata) -> io::Result<fs::Metadata> {
    if about.is_file() { Ok(about) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn lost(agent: &Agent, path: &Path, problem: &str, time: Timestamp) -> Input {
    Input::Fact(Fact::AgentRecord {
        agent: agent.id.to_owned(),
        file: path.to_string_lossy().into_owned(),
        problem: problem.to_owned(),
        time,
    })
}

/// When something that began then may be done again.
fn rested(now: Timestamp, began: Instant) -> Timestamp {
    let rest = u64::try_from((began.elapsed() * REST).as_nanos()).unwrap_or(u64::MAX);
    Timestamp(now.0.saturating_add(rest.max(PAUSE_NS)))
}

/// The write-ahead log of a database.
fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}

/// Size and last change; zeros for what is not there.
fn stamp(path: &Path) -> (u64, u64) {
    fs::symlink_metadata(path).map_or((0, 0), |about| (about.len(), changed(&about)))
}

/// Nanoseconds of the last change of the content.
fn changed(about: &fs::Metadata) -> u64 {
    let seconds = u64::try_from(about.mtime()).unwrap_or_default();
    seconds
        .saturating_mul(1_000_000_000)
        .saturating_add(u64::try_from(about.mtime_nsec()).unwrap_or_default())
}

/// The file beside this one that is this inode.
fn moved(path: &Path, inode: u64) -> Option<PathBuf> {
    let entries = fs::read_dir(path.parent()?).ok()?;
    entries
        .take(MOST_SEEN)
        .flatten()
        .find(|entry| {
            std::os::unix::fs::DirEntryExt::ino(entry) == inode
                && entry.file_type().is_ok_and(|kind| kind.is_file())
                && entry.path() != path
        })
        .map(|entry| entry.path())
}

/// Files below a folder that match a glob. Links are not followed, so no tree is without an end.
fn found_at(root: &Path, glob: &str, left: &mut usize, found: &mut Vec<PathBuf>) {
    let parts: Vec<&str> = glob.split('/').collect();
    let is_wild = |part: &&str| part.contains(['*', '?', '[', '{']);
    let fixed = parts.iter().position(is_wild).unwrap_or(parts.len() - 1).min(parts.len() - 1);
    let folder = parts[..fixed].iter().fold(root.to_owned(), |path, part| path.join(part));
    let Ok(matcher) = GlobBuilder::new(&parts[fixed..].join("/")).literal_separator(true).build() else {
        return;
    };
    let depth = if glob.contains("**") { DEEPEST } else { parts.len() - fixed - 1 };
    find(&folder, &folder, depth, &matcher.compile_matcher(), left, found);
}

fn find(
    top: &Path,
    folder: &Path,
    depth: usize,
    matcher: &GlobMatcher,
    left: &mut usize,
    found: &mut Vec<PathBuf>,
) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if *left == 0 {
            return;
        }
        *left -= 1;
        let Ok(kind) = entry.file_type() else { continue };
        let path = entry.path();
        if kind.is_dir() && depth > 0 {
            find(top, &path, depth - 1, matcher, left, found);
        } else if kind.is_file() && path.strip_prefix(top).is_ok_and(|rest| matcher.is_match(rest)) {
            found.push(path);
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    let flags = nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

fn portion(path: &Path, offset: u64, most: u64) -> io::Result<Vec<u8>> {
    let mut file = open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Whether the part that was read still says the same.
fn is_as_read(path: &Path, followed: &Followed) -> bool {
    let mut digest = Sha256::new();
    let copied = open(path).and_then(|file| {
        let mut file = file.take(followed.offset);
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                return Ok(total);
            }
            total += count as u64;
            digest.update(&buffer[..count]);
        }
    });
    copied.is_ok_and(|total| total == followed.offset)
        && digest.finalize() == followed.digest.clone().finalize()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::event::ProcessKey;

    fn line(call: &str) -> String {
        format!(
            r#"{{"type":"assistant","message":{{"content":[{{"type":"tool_use","id":"{call}","name":"Bash","input":{{"command":"ls"}}}}]}},"timestamp":"2026-11-22T19:24:19Z","sessionId":"s"}}"#
        ) + "\n"
    }

    /// A home with one record, followed by an agent at work.
    fn place() -> (tempfile::TempDir, PathBuf, Transcripts) {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".claude/projects/-w/s.jsonl");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, line("c1")).unwrap();
        let homes = std::iter::once(home.path().to_owned());
        let mut transcripts =
            Transcripts::new(homes, PathBuf::from("/nowhere"), Timestamp(1), StepKey::local());
        let process = ProcessKey { pid: 1, start: 1 };
        transcripts.note(&Input::Fact(Fact::Agent { process, agent: "claude-code".into() }));
        (home, path, transcripts)
    }

    fn calls(inputs: &[Input]) -> Vec<&str> {
        inputs
            .iter()
            .filter_map(|input| match input {
                Input::Declaration(Declaration { text: Text::ToolCall(call), .. }) => {
                    Some(call.call.as_str())
                }
                _ => None,
            })
            .collect()
    }

    fn problems(inputs: &[Input]) -> Vec<&str> {
        inputs
            .iter()
            .filter_map(|input| match input {
                Input::Fact(Fact::AgentRecord { problem, .. }) => Some(problem.as_str()),
                _ => None,
            })
            .collect()
    }

    fn append(path: &Path, bytes: &[u8]) {
        File::options().append(true).open(path).unwrap().write_all(bytes).unwrap();
    }

    #[test]
    fn follows_a_record_line_by_line() {
        let (_home, path, mut transcripts) = place();
        assert_eq!(calls(&transcripts.look(Timestamp(2))), ["c1"]);
        let second = line("c2");
        append(&path, &second.as_bytes()[..20]);
        assert!(transcripts.look(Timestamp(3)).is_empty(), "half a line says nothing");
        append(&path, &second.as_bytes()[20..]);
        assert_eq!(calls(&transcripts.look(Timestamp(4))), ["c2"]);
        append(&path, b"\xff\xfe\x00\n{\"type\":\"new-kind\"}\n");
        let end = transcripts.end(Timestamp(5));
        assert!(problems(&end).is_empty());
        assert!(
            matches!(&end[..], [Input::Fact(Fact::Gap { text })] if text.starts_with("1 lines")),
            "{end:?}"
        );
    }

    #[test]
    fn what_an_agent_prints_is_followed_and_may_begin_anew() {
        let (home, _, _) = place();
        let path = home.path().join("out.jsonl");
        let mut transcripts =
            Transcripts::new(std::iter::empty(), PathBuf::from("/nowhere"), Timestamp(1), StepKey::local());
        let process = ProcessKey { pid: 1, start: 1 };
        let file = path.to_str().unwrap().to_owned();
        transcripts.note(&Input::Fact(Fact::AgentOutput { agent: "claude-code".into(), file }));
        transcripts.note(&Input::Fact(Fact::Agent { process, agent: "claude-code".into() }));
        assert!(transcripts.look(Timestamp(2)).is_empty(), "it is not there yet");
        fs::write(&path, "npm notice\n".to_owned() + &line("c1") + &line("c2")).unwrap();
        let told = transcripts.look(Timestamp(3));
        assert_eq!(calls(&told), ["c1", "c2"]);
        assert!(told.iter().all(|input| match input {
            Input::Declaration(Declaration { text: Text::ToolCall(call), .. }) => call.is_printed,
            _ => false,
        }));
        fs::write(&path, line("c3")).unwrap();
        transcripts.look(Timestamp(4));
        assert_eq!(calls(&transcripts.look(Timestamp(5))), ["c3"]);
        fs::remove_file(&path).unwrap();
        transcripts.look(Timestamp(6));
        fs::write(&path, line("c4")).unwrap();
        assert_eq!(calls(&transcripts.end(Timestamp(7))), ["c4"]);
    }

    #[test]
    fn what_an_action_leaves_in_the_runners_folder_is_read() {
        let (home, _, _) = place();
        let none = std::iter::empty();
        let transcripts = Transcripts::new(none, PathBuf::from("/nowhere"), Timestamp(1), StepKey::local());
        let mut transcripts = transcripts.in_temporary(home.path().to_owned());
        let process = ProcessKey { pid: 1, start: 1 };
        transcripts.note(&Input::Fact(Fact::Agent { process, agent: "claude-code".into() }));
        let text = format!("[{}]", line("c1"));
        fs::write(home.path().join("claude-execution-output.json"), text).unwrap();
        assert_eq!(calls(&transcripts.end(Timestamp(2))), ["c1"]);
    }

    #[test]
    fn says_when_a_record_is_cut_replaced_removed_or_edited() {
        let (_home, path, mut transcripts) = place();
        transcripts.look(Timestamp(2));
        fs::write(&path, "").unwrap();
        assert_eq!(problems(&transcripts.look(Timestamp(3))), ["became shorter"]);
        let (_home, path, mut transcripts) = place();
        transcripts.look(Timestamp(2));
        fs::remove_file(&path).unwrap();
        assert_eq!(problems(&transcripts.end(Timestamp(3))), ["was removed"]);
        let (_home, path, mut transcripts) = place();
        transcripts.look(Timestamp(2));
        fs::write(&path, line("cX") + &line("c2")).unwrap();
        assert_eq!(problems(&transcripts.end(Timestamp(3))), ["was changed in what had been read"]);
    }

    #[test]
    fn a_hundred_megabytes_of_anything_are_read_in_portions() {
        const MIB: usize = 1 << 20;
        let (_home, path, mut transcripts) = place();
        let mut file = File::options().append(true).open(&path).unwrap();
        // One line that never ends, bytes that are no text, parents that go round, and calls in between.
        let garbage: Vec<u8> =
            (0..=255).cycle().take(MIB).map(|byte: u8| if byte == 0 { b'\n' } else { byte | 0x80 }).collect();
        for round in 0..50 {
            file.write_all(&vec![b'x'; MIB]).unwrap();
            if round % 10 == 9 {
                file.write_all(b"\n").unwrap();
            }
        }
        for round in 0..50 {
            file.write_all(&garbage).unwrap();
            let call = line(&format!("r{round}")).replace(
                "{\"type\":\"assistant\"",
                "{\"type\":\"assistant\",\"uuid\":\"a\",\"parentUuid\":\"a\"",
            );
            file.write_all(format!("\n{call}").as_bytes()).unwrap();
        }
        let began = Instant::now();
        let mut inputs = Vec::new();
        let mut turns = 0;
        while fs::metadata(&path).unwrap().len()
            > transcripts.followed.get(&path).map_or(0, |file| file.offset)
        {
            inputs.extend(transcripts.look(Timestamp(2 + turns)));
            let kept = transcripts.followed[&path].rest.capacity();
            assert!(kept <= 2 * (LONGEST_LINE + 2 * MIB), "{kept} bytes are kept");
            turns += 1;
        }
        inputs.extend(transcripts.end(Timestamp(u64::MAX)));
        let calls = calls(&inputs);
        assert_eq!((calls.len(), calls.last()), (51, Some(&"r49")));
        assert!(problems(&inputs).is_empty(), "it grew, and no more");
        assert!((100..110).contains(&turns), "{turns} turns of a portion each");
        let took = began.elapsed();
        assert!(took.as_secs() < 60, "{took:?}");
        println!("100 MiB in {took:?}");
    }

    #[test]
    fn a_hundred_megabytes_that_are_read_as_a_whole_are_not_read() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join(".cline/data/sessions/s/s.messages.json");
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        File::create(&path).unwrap().set_len(100 << 20).unwrap();
        let homes = std::iter::once(home.path().to_owned());
        let mut transcripts =
            Transcripts::new(homes, PathBuf::from("/nowhere"), Timestamp(1), StepKey::local());
        let process = ProcessKey { pid: 1, start: 1 };
        transcripts.note(&Input::Fact(Fact::Agent { process, agent: "cline".into() }));
        let end = transcripts.end(Timestamp(2));
        assert!(
            matches!(&end[..], [Input::Fact(Fact::Gap { text })] if text.contains("too many or too large")),
            "{end:?}"
        );
    }

    #[test]
    fn reads_nothing_while_no_agent_is_at_work_and_follows_no_link() {
        let (home, path, _) = place();
        let homes = || std::iter::once(home.path().to_owned());
        let mut idle = Transcripts::new(homes(), PathBuf::from("/nowhere"), Timestamp(1), StepKey::local());
        assert!(idle.end(Timestamp(2)).is_empty());
        let folder = path.parent().unwrap();
        std::os::unix::fs::symlink(folder, folder.join("again")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", folder.join("x.jsonl")).unwrap();
        let mut transcripts =
            Transcripts::new(homes(), PathBuf::from("/nowhere"), Timestamp(1), StepKey::local());
        let process = ProcessKey { pid: 1, start: 1 };
        transcripts.note(&Input::Fact(Fact::Agent { process, agent: "claude-code".into() }));
        assert_eq!(calls(&transcripts.end(Timestamp(2))), ["c1"]);
    }
}
