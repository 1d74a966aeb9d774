//! What the sources of the job are when they are first seen, and again when a program of a build reads them.
//!
//! What is checked in is known by git's index: the id of each content, and which object it was. Any other file counts as it was
//! when it was first opened for reading. An object that has not changed since is what it was, and costs one look into a table; any
//! other one is read and compared, on a thread of its own. Only a difference is told, as a [`Fact::Source`], some time after
//! the open that it is about.

use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::changed;
use super::index::{self, Entry};
use crate::detections;
use crate::event::{
    self, Access, Event, Fact, Launch, ProcessKey, SourceContent, Timestamp, hex, normal_path,
};

/// Files that are known.
const FILES: usize = 200_000;
/// Of one file: 64 MiB. Of all in one run: 4 GiB.
const LARGEST: u64 = 64 << 20;
const BUDGET: u64 = 4 << 30;
/// An index is no larger: 128 MiB.
const LARGEST_INDEX: u64 = 128 << 20;
/// Differences that are told.
const TOLD: usize = 4096;
/// Links in place of sources that are followed.
const LINKS: usize = 64;
/// How long the first index may take before the job goes on.
const FIRST: Duration = Duration::from_millis(500);
/// How long the last answers are waited for.
const LAST: Duration = Duration::from_secs(2);
/// Processes above the reader in whose root a file is looked for: the reader may be gone, its mounts need not be.
const ABOVE: usize = 6;

/// Follows who reads which source.
#[derive(Debug)]
pub(super) struct Sources {
    /// Ends with a slash; empty until the job is known.
    workspace: String,
    known: HashMap<String, Known>,
    /// The objects that are known, and those of them that somebody may still be writing to.
    objects: HashSet<u64>,
    touched: HashMap<u64, ProcessKey>,
    processes: HashMap<ProcessKey, Reader>,
    /// Links that were put in place of sources or of folders of them: where they lead, and where they stand.
    links: Vec<(String, String)>,
    /// What is being read: the source, and as which object.
    waiting: HashSet<(String, u64, Option<Timestamp>)>,
    ask: Sender<Request>,
    answers: Receiver<Answer>,
    /// Requests without an answer.
    open: usize,
    told: usize,
    untold: u64,
    /// Sources for which there was no room, time or budget.
    unread: u64,
    problems: Vec<String>,
}

/// What a source was when it was looked at last.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Git's id of it, where it is as it is checked in.
    blob: Option<String>,
    sha256: Option<String>,
    inode: u64,
    changed: Option<Timestamp>,
    since: Timestamp,
    /// Who had it open for writing then.
    held: Option<ProcessKey>,
}

#[derive(Clone, Debug, Default)]
struct Reader {
    is_builder: bool,
    directory: std::sync::Arc<str>,
    parent: Option<ProcessKey>,
}

#[derive(Debug)]
enum Request {
    Index { tree: PathBuf, since: Timestamp },
    Content(Wanted),
}

/// A source that somebody opened.
#[derive(Debug)]
struct Wanted {
    /// As the project names it, and the object that was opened.
    file: event::File,
    reader: ProcessKey,
    time: Timestamp,
    places: Vec<PathBuf>,
    /// Git's id of what it may be.
    blob: Option<String>,
    /// Who opened it for writing last, and lives.
    writer: Option<ProcessKey>,
}

#[derive(Debug)]
enum Answer {
    Index { entries: Vec<(String, Known)>, problem: Option<String> },
    Content(Wanted, Found),
}

#[derive(Debug)]
enum Found {
    Content {
        sha256: String,
        is_checked_in: bool,
        is_held: bool,
    },
    /// Gone, or another one by now.
    Gone,
    /// Too large, or too much was read already.
    TooMuch,
}

impl Default for Sources {
    fn default() -> Self {
        let (ask, requests) = channel::<Request>();
        let (answer, answers) = channel();
        std::thread::spawn(move || {
            let mut worker = Worker { left: BUDGET };
            for request in requests {
                let told = match request {
                    Request::Index { tree, since } => worker.index(&tree, since),
                    Request::Content(wanted) => {
                        let found = worker.content(&wanted);
                        Answer::Content(wanted, found)
                    }
                };
                if answer.send(told).is_err() {
                    return;
                }
            }
        });
        Self {
            workspace: String::new(),
            known: HashMap::new(),
            objects: HashSet::new(),
            touched: HashMap::new(),
            processes: HashMap::new(),
            links: Vec::new(),
            waiting: HashSet::new(),
            ask,
            answers,
            open: 0,
            told: 0,
            untold: 0,
            unread: 0,
            problems: Vec::new(),
        }
    }
}

impl Sources {
    /// Learns what is checked out in the job's folder before anything of the job runs.
    pub fn job(&mut self, workspace: &str, now: Timestamp) {
        // A job at the root of the file system has no folder of its own.
        if workspace.trim_end_matches('/').is_empty() {
            return;
        }
        self.workspace = format!("{}/", workspace.trim_end_matches('/'));
        self.learn(Path::new(workspace), now);
        let _ = self.wait(FIRST);
    }

    /// Asks for what git says of a work tree, if it is one.
    fn learn(&mut self, tree: &Path, since: Timestamp) {
        self.send(Request::Index { tree: tree.to_owned(), since });
    }

    fn send(&mut self, request: Request) {
        if self.ask.send(request).is_ok() {
            self.open += 1;
        }
    }

    pub fn forked(&mut self, parent: ProcessKey, child: ProcessKey) {
        let above = self.processes.get(&parent).cloned().unwrap_or_default();
        self.processes.insert(child, Reader { parent: Some(parent), ..above });
    }

    pub fn launched(&mut self, process: ProcessKey, launch: &Launch) {
        let reader = self.processes.entry(process).or_default();
        reader.is_builder = detections::is_builder(launch);
        reader.directory = launch.directory.as_str().into();
    }

    pub fn ended(&mut self, process: ProcessKey) {
        self.processes.remove(&process);
    }

    /// A name was given to something: after a checkout it is git's index.
    pub fn renamed(&mut self, to: &str, time: Timestamp) {
        if let Some(tree) = to.strip_suffix("/.git/index")
            && is_inside(&self.workspace, &format!("{tree}/"))
        {
            self.learn(Path::new(tree), time);
        }
    }

    /// A link was made. What is opened by way of one inside the project is told by the place it leads to alone.
    pub fn linked(&mut self, target: &str, link: &str) {
        if !is_inside(&self.workspace, link) || self.links.len() >= LINKS {
            return;
        }
        let folder = link.rsplit_once('/').map_or("", |(folder, _)| folder);
        let target = normal_path(&if target.starts_with('/') {
            target.to_owned()
        } else {
            format!("{folder}/{target}")
        });
        let below = format!("{link}/");
        let is_source = self.is_tracked(link) || self.known.keys().any(|path| path.starts_with(&below));
        if is_source && target != link {
            self.links.push((target, link.to_owned()));
        }
    }

    fn is_tracked(&self, path: &str) -> bool {
        self.known.get(path).is_some_and(|known| known.blob.is_some())
    }

    pub fn opened(&mut self, event: &Event, file: &event::File, access: Access) {
        if access.directory || file.inode == 0 {
            return;
        }
        if access.write {
            let is_new = || is_inside(&self.workspace, &file.path) && detections::is_build_input(&file.path);
            if self.objects.contains(&file.inode) || is_new() {
                if self.touched.len() >= FILES {
                    self.touched.retain(|_, writer| self.processes.contains_key(writer));
                }
                self.touched.insert(file.inode, event.actor);
            }
            return;
        }
        let reader = self.processes.get(&event.actor);
        let Some(path) = access.read.then(|| self.subject(reader, file)).flatten() else { return };
        let is_builder = reader.is_some_and(|reader| reader.is_builder);
        let mut blob = None;
        if let Some(known) = self.known.get(&path) {
            let is_same = known.inode == file.inode && known.changed == file.changed;
            if !is_builder || (is_same && !self.touched.contains_key(&file.inode)) {
                return;
            }
            blob.clone_from(&known.blob);
        } else if !detections::is_build_input(&path) {
            return;
        } else if self.known.len() + self.waiting.len() >= FILES {
            self.unread += 1;
            return;
        }
        // While it may still be written to, each look counts.
        let mut writer = self.touched.get(&file.inode).copied();
        if writer.is_some_and(|writer| !self.processes.contains_key(&writer)) {
            self.touched.remove(&file.inode);
            writer = None;
        }
        if !self.waiting.insert((path.clone(), file.inode, file.changed)) {
            return;
        }
        let mut places = self.places(event.actor, &path);
        if file.path.starts_with('/') && file.path != path {
            places.extend(self.places(event.actor, &file.path));
        }
        let file = event::File { path, asked: None, ..file.clone() };
        let (reader, time) = (event.actor, event.time);
        self.send(Request::Content(Wanted { file, reader, time, places, blob, writer }));
    }

    /// The source that is meant: a tracked one by the name that was asked for, whatever stands there, else the object's own place.
    fn subject(&self, reader: Option<&Reader>, file: &event::File) -> Option<String> {
        let asked = file.asked.as_deref().map(|asked| {
            let directory = reader.map_or("", |reader| &reader.directory);
            normal_path(&if asked.starts_with('/') {
                asked.to_owned()
            } else {
                format!("{directory}/{asked}")
            })
        });
        let linked = || {
            self.links.iter().rev().find_map(|(target, link)| {
                let rest = file.path.strip_prefix(target.as_str())?;
                let is_there = rest.is_empty() || rest.starts_with('/');
                is_there.then(|| format!("{link}{rest}")).filter(|path| self.is_tracked(path))
            })
        };
        asked
            .filter(|path| self.is_tracked(path))
            .or_else(linked)
            .or_else(|| is_inside(&self.workspace, &file.path).then(|| file.path.clone()))
    }

    /// Where the object may be found: as the reader sees it, as those above it do, as we do.
    pub fn places(&self, reader: ProcessKey, path: &str) -> Vec<PathBuf> {
        let mut places = Vec::new();
        let mut next = Some(reader);
        while let Some(process) = next.filter(|_| places.len() < ABOVE) {
            places.push(format!("/proc/{}/root{path}", process.pid).into());
            next = self.processes.get(&process).and_then(|reader| reader.parent);
        }
        places.push(path.into());
        places
    }

    /// What was found since the last time.
    pub fn facts(&mut self) -> Vec<Fact> {
        if self.open == 0 {
            return Vec::new();
        }
        let answers: Vec<Answer> = self.answers.try_iter().collect();
        answers.into_iter().filter_map(|answer| self.take(answer)).collect()
    }

    /// What is still to be found, and what could not be looked at.
    pub fn end(&mut self) -> Vec<Fact> {
        let mut facts = self.wait(LAST);
        let (waiting, unread, untold) = (self.open, self.unread, self.untold);
        let mut gaps = std::mem::take(&mut self.problems);
        if waiting > 0 {
            gaps.push(format!("{waiting} sources that a build read were not compared in time"));
        }
        if unread > 0 {
            gaps.push(format!(
                "{unread} times a source that a build read was not compared: too many, too large or too much"
            ));
        }
        if untold > 0 {
            gaps.push(format!("{untold} more sources that differ from what they were are not told"));
        }
        facts.extend(gaps.into_iter().map(|text| Fact::Gap { text }));
        facts
    }

    fn wait(&mut self, patience: Duration) -> Vec<Fact> {
        let end = Instant::now() + patience;
        let mut facts = Vec::new();
        while self.open > 0 {
            let left = end.saturating_duration_since(Instant::now());
            match self.answers.recv_timeout(left) {
                Ok(answer) => facts.extend(self.take(answer)),
                Err(_) => break,
            }
        }
        facts
    }

    fn take(&mut self, answer: Answer) -> Option<Fact> {
        self.open = self.open.saturating_sub(1);
        match answer {
            Answer::Index { entries, problem } => {
                self.problems.extend(problem.filter(|problem| !self.problems.contains(problem)));
                for (path, known) in entries {
                    // What is known keeps its beginning, whatever is checked out or added later.
                    if self.known.len() < FILES && !self.known.contains_key(&path) {
                        self.objects.insert(known.inode);
                        self.known.insert(path, known);
                    }
                }
                None
            }
            Answer::Content(wanted, found) => self.compare(wanted, found),
        }
    }

    /// Learns what a source is; the fact to tell where it is not what it was.
    fn compare(&mut self, wanted: Wanted, found: Found) -> Option<Fact> {
        let Wanted { file, reader, time, writer, .. } = wanted;
        self.waiting.remove(&(file.path.clone(), file.inode, file.changed));
        let before = self.known.get(&file.path);
        let (sha256, is_checked_in, is_held) = match found {
            Found::Content { sha256, is_checked_in, is_held } => (Some(sha256), is_checked_in, is_held),
            // What was never seen is no different.
            Found::Gone if before.is_none() => return None,
            Found::Gone => (None, false, false),
            Found::TooMuch => {
                self.unread += 1;
                return None;
            }
        };
        let is_same = before.is_none_or(|known| {
            (is_checked_in && known.blob.is_some()) || (sha256.is_some() && known.sha256 == sha256)
        });
        let was = before.and_then(|known| match (&known.sha256, &known.blob) {
            (Some(sha256), _) => Some(format!("sha256:{sha256}")),
            (None, Some(blob)) => Some(format!("blob:{blob}")),
            (None, None) => None,
        });
        let since = before.map_or(time, |known| known.since);
        let held = before.and_then(|known| known.held);
        let blob = before.and_then(|known| known.blob.clone());
        if sha256.is_some() {
            self.objects.insert(file.inode);
            let known = Known {
                blob,
                sha256: sha256.clone().filter(|_| !is_checked_in),
                inode: file.inode,
                changed: file.changed,
                since: time,
                held: writer.filter(|_| is_held),
            };
            self.known.insert(file.path.clone(), known);
        }
        if is_same {
            return None;
        }
        if self.told >= TOLD {
            self.untold += 1;
            return None;
        }
        self.told += 1;
        Some(Fact::Source(SourceContent { file, reader, time, was: was?, since, held, sha256 }))
    }
}

fn is_inside(workspace: &str, path: &str) -> bool {
    !workspace.is_empty() && path.starts_with(workspace)
}

/// The thread's side.
struct Worker {
    /// Bytes that may still be read.
    left: u64,
}

impl Worker {
    /// What is checked out in a work tree, as far as it is what git says.
    fn index(&mut self, tree: &Path, since: Timestamp) -> Answer {
        let none = |problem| Answer::Index { entries: Vec::new(), problem };
        let Some(place) = index::place(tree) else { return none(None) };
        let Ok(bytes) = whole(&place, LARGEST_INDEX) else { return none(None) };
        let config = place.with_file_name("config");
        let config = std::fs::read_to_string(config).unwrap_or_default().to_ascii_lowercase();
        let id_length = if config.replace(' ', "").contains("objectformat=sha256") { 32 } else { 20 };
        let Some(index) = index::parse(&bytes, id_length, FILES) else {
            return none(Some("git's index could not be read, so sources count as first seen".to_owned()));
        };
        let problem = index.is_partial.then(|| "a part of git's index was not read".to_owned());
        let entries = index.entries.iter().filter_map(|entry| self.entry(tree, entry, since)).collect();
        Answer::Index { entries, problem }
    }

    /// A tracked file that is as it is checked in; git's own check first, its content where that fails.
    fn entry(&mut self, tree: &Path, entry: &Entry, since: Timestamp) -> Option<(String, Known)> {
        let path = tree.join(std::ffi::OsStr::from_bytes(&entry.path));
        let metadata = path.symlink_metadata().ok().filter(Metadata::is_file)?;
        let name = path.to_str()?.to_owned();
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "git cuts them alike")]
        let is_clean = (entry.inode, entry.size) == (metadata.ino() as u32, metadata.size() as u32)
            && entry.changed == (metadata.ctime() as u32, metadata.ctime_nsec() as u32);
        if !is_clean {
            let mut file = open(&path).ok()?;
            let (_, blob) = self.digest(&mut file, &metadata, Some(&entry.blob)).ok()?;
            // It was changed, or filtered on its way, before anybody looked: then it counts as it is first seen.
            blob.filter(|blob| *blob == entry.blob)?;
        }
        let known = Known {
            blob: Some(entry.blob.clone()),
            sha256: None,
            inode: metadata.ino(),
            changed: changed(&metadata),
            since,
            held: None,
        };
        Some((name, known))
    }

    fn content(&mut self, wanted: &Wanted) -> Found {
        // Asked first: whoever has closed it by now wrote nothing that is not read below.
        let is_held = wanted.writer.is_some_and(|writer| holds(writer.pid, wanted.file.inode));
        let mut found = Found::Gone;
        for place in &wanted.places {
            let Ok(mut file) = open(place) else { continue };
            let Ok(metadata) = file.metadata() else { continue };
            // The device is left out: stacked file systems number it differently for the kernel and for us.
            let is_wanted = |metadata: &Metadata| {
                metadata.is_file()
                    && metadata.ino() == wanted.file.inode
                    && wanted.file.changed.is_none_or(|known| Some(known) == changed(metadata))
            };
            if !is_wanted(&metadata) {
                continue;
            }
            if metadata.len() > LARGEST.min(self.left) {
                return Found::TooMuch;
            }
            let Ok((sha256, blob)) = self.digest(&mut file, &metadata, wanted.blob.as_deref()) else {
                continue;
            };
            // What was written to meanwhile has a digest of no moment.
            if file.metadata().is_ok_and(|metadata| is_wanted(&metadata)) {
                let is_checked_in = blob.is_some() && blob == wanted.blob;
                found = Found::Content { sha256, is_checked_in, is_held };
                break;
            }
        }
        found
    }

    /// SHA-256 of a file, and its id as git has it if one of that kind is given.
    fn digest(
        &mut self,
        file: &mut File,
        metadata: &Metadata,
        blob: Option<&str>,
    ) -> io::Result<(String, Option<String>)> {
        let size = metadata.len();
        if size > LARGEST.min(self.left) {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.left -= size;
        let mut content = Sha256::new();
        let mut object = blob.map(|blob| {
            let kind = match blob.len() {
                64 => &ring::digest::SHA256,
                _ => &ring::digest::SHA1_FOR_LEGACY_USE_ONLY,
            };
            let mut object = ring::digest::Context::new(kind);
            object.update(format!("blob {size}\0").as_bytes());
            object
        });
        let mut piece = vec![0; 1 << 16];
        let mut done = 0;
        loop {
            let count = file.read(&mut piece)?;
            if count == 0 {
                break;
            }
            done += count as u64;
            if done > size {
                return Err(io::ErrorKind::InvalidData.into());
            }
            content.update(&piece[..count]);
            if let Some(object) = &mut object {
                object.update(&piece[..count]);
            }
        }
        Ok((hex(&content.finalize()), object.map(|object| hex(object.finish().as_ref()))))
    }
}

/// Whether a process can still write to an object: by a descriptor, or by its memory. Where nobody may look, it can.
fn holds(pid: u32, inode: u64) -> bool {
    let folder = PathBuf::from(format!("/proc/{pid}"));
    let is_open = |entry: std::fs::DirEntry| {
        let is_it = std::fs::metadata(entry.path()).is_ok_and(|metadata| metadata.ino() == inode);
        is_it && {
            let about =
                std::fs::read_to_string(folder.join("fdinfo").join(entry.file_name())).unwrap_or_default();
            let flags = about.lines().find_map(|line| line.strip_prefix("flags:"));
            flags
                .and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok())
                .is_none_or(|flags| flags & 3 != 0)
        }
    };
    let descriptors = match std::fs::read_dir(folder.join("fd")) {
        Ok(descriptors) => descriptors,
        Err(error) => return error.kind() == io::ErrorKind::PermissionDenied,
    };
    descriptors.flatten().any(is_open)
        || std::fs::read_to_string(folder.join("maps")).unwrap_or_default().lines().any(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let is_shared =
                words.next().is_some_and(|rights| rights.ends_with("ws") || rights.ends_with("wxs"));
            is_shared && words.nth(2).and_then(|number| number.parse().ok()) == Some(inode)
        })
}

/// Waits for no pipe's other end.
fn open(path: &Path) -> io::Result<File> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY | nix::libc::O_CLOEXEC;
    File::options().read(true).custom_flags(flags).open(path)
}

fn whole(path: &Path, largest: u64) -> io::Result<Vec<u8>> {
    let file = open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() || metadata.len() > largest {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut bytes = Vec::new();
    file.take(largest).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::event::Activity;

    struct Project {
        folder: tempfile::TempDir,
        sources: Sources,
    }

    const READ: Access =
        Access { read: true, write: false, create: false, directory: false, received: false, taken: false };
    const WRITE: Access = Access { read: false, write: true, ..READ };

    fn git(folder: &Path, words: &[&str]) {
        let output = Command::new("git")
            .current_dir(folder)
            .env("HOME", folder)
            .args(["-c", "user.name=Test", "-c", "user.email=test@project.example"])
            .args(words)
            .output()
            .expect("git starts");
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// Nobody has these numbers.
    fn key(number: u32) -> ProcessKey {
        ProcessKey { pid: u32::MAX - number, start: 1 }
    }

    impl Project {
        fn new() -> Self {
            let project =
                Self { folder: tempfile::tempdir().expect("a folder"), sources: Sources::default() };
            git(project.folder.path(), &["init", "-q"]);
            project.write("src/a.c", "one");
            git(project.folder.path(), &["add", "."]);
            project
        }

        fn begin(&mut self) {
            let workspace = self.folder.path().to_string_lossy().into_owned();
            self.sources.job(&workspace, Timestamp(1));
            let image = |path: &str| Launch { executable: event::File::at(path), ..Launch::default() };
            self.sources.launched(key(1), &image("/usr/lib/gcc/x86_64-linux-gnu/12/cc1"));
            self.sources.launched(key(2), &image("/usr/bin/cat"));
        }

        fn write(&self, name: &str, text: &str) {
            let path = self.folder.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            // Long enough for the file system's clock to tell two changes apart.
            std::thread::sleep(Duration::from_millis(20));
            std::fs::write(path, text).expect("written");
        }

        /// What is told when process `actor` opens this file at this moment.
        fn open(&mut self, actor: u32, time: u64, name: &str, access: Access) -> Vec<String> {
            let path = self.folder.path().join(name);
            let metadata = path.metadata().expect("a file");
            let file = event::File {
                path: path.to_string_lossy().into_owned(),
                inode: metadata.ino(),
                changed: changed(&metadata),
                ..event::File::default()
            };
            let activity = Activity::Open { file: file.clone(), access };
            let event = Event { time: Timestamp(time), actor: key(actor), activity };
            self.sources.opened(&event, &file, access);
            self.sources.end().into_iter().map(|fact| self.told(fact)).collect()
        }

        fn told(&self, fact: Fact) -> String {
            match fact {
                Fact::Source(source) => {
                    let name = Path::new(&source.file.path).strip_prefix(self.folder.path()).expect("inside");
                    let short = |text: &str| text.chars().take(11).collect::<String>();
                    let now = source.sha256.as_deref().map_or_else(|| "gone".to_owned(), short);
                    format!("{} {} {} {now}", name.display(), short(&source.was), source.since.0)
                }
                Fact::Gap { text } => text,
                other => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn what_is_checked_in_is_known_before_anybody_reads_it() {
        let mut project = Project::new();
        project.begin();
        assert_eq!(project.open(1, 5, "src/a.c", READ), [""; 0]);
        project.write("src/a.c", "other");
        // Who makes nothing of it is not told, nor does it count as seen.
        assert_eq!(project.open(2, 6, "src/a.c", READ), [""; 0]);
        assert_eq!(project.open(1, 7, "src/a.c", READ), ["src/a.c blob:43dd47 1 d9298a10d1b"]);
        assert_eq!(project.open(1, 8, "src/a.c", READ), [""; 0]);
        // What is put back is what is checked in; another change is one since then.
        project.write("src/a.c", "one");
        assert_eq!(project.open(1, 9, "src/a.c", READ), [""; 0]);
        project.write("src/a.c", "third");
        assert_eq!(project.open(1, 10, "src/a.c", READ), ["src/a.c blob:43dd47 9 b1e99324505"]);
    }

    #[test]
    fn another_object_with_the_same_content_is_no_difference() {
        let mut project = Project::new();
        // git has not looked at this one.
        project.write("src/b.c", "one");
        std::fs::rename(project.folder.path().join("src/b.c"), project.folder.path().join("src/a.c"))
            .expect("moved");
        project.begin();
        assert_eq!(project.open(1, 5, "src/a.c", READ), [""; 0]);
        project.write("src/a.c", "two");
        assert_eq!(project.open(1, 6, "src/a.c", READ), ["src/a.c blob:43dd47 1 3fc4ccfe745"]);
    }

    #[test]
    fn what_was_changed_before_the_job_counts_as_it_is_seen_first() {
        let mut project = Project::new();
        project.write("src/a.c", "mine");
        project.begin();
        assert_eq!(project.open(1, 5, "src/a.c", READ), [""; 0]);
        project.write("src/a.c", "other");
        let told = project.open(1, 6, "src/a.c", READ);
        assert_eq!(told, ["src/a.c sha256:3fd3 5 d9298a10d1b"]);
    }

    #[test]
    fn a_file_git_does_not_know_counts_from_its_first_reader_on() {
        let mut project = Project::new();
        project.begin();
        project.write("gen/b.c", "one");
        project.write("gen/notes.txt", "one");
        assert_eq!(project.open(2, 5, "gen/b.c", READ), [""; 0]);
        assert_eq!(project.open(2, 5, "gen/notes.txt", READ), [""; 0]);
        project.write("gen/b.c", "two");
        project.write("gen/notes.txt", "two");
        assert_eq!(project.open(1, 6, "gen/b.c", READ), ["gen/b.c sha256:7692 5 3fc4ccfe745"]);
        assert_eq!(project.open(1, 6, "gen/notes.txt", READ), [""; 0], "no source");
    }

    #[test]
    fn a_checkout_in_the_job_is_known_once_git_has_written_its_index() {
        let mut project = Project::new();
        project.begin();
        let inner = project.folder.path().join("inner");
        std::fs::create_dir(&inner).expect("a folder");
        git(&inner, &["init", "-q"]);
        project.write("inner/c.go", "one");
        git(&inner, &["add", "."]);
        project.sources.renamed(&inner.join(".git/index").to_string_lossy(), Timestamp(4));
        assert!(project.sources.wait(LAST).is_empty());
        project.write("inner/c.go", "two");
        assert_eq!(project.open(1, 6, "inner/c.go", READ), ["inner/c.go blob:43dd47 4 3fc4ccfe745"]);
    }

    #[test]
    fn a_file_that_somebody_writes_to_is_looked_at_whatever_its_time_says() {
        let mut project = Project::new();
        project.begin();
        let path = project.folder.path().join("src/a.c");
        // As a mapping may: the content is another one, and the object says nothing of it.
        assert_eq!(project.open(2, 5, "src/a.c", WRITE), [""; 0]);
        let known = project.sources.known.get_mut(path.to_str().expect("plain")).expect("known");
        std::fs::write(&path, "two").expect("written");
        let metadata = path.metadata().expect("a file");
        (known.inode, known.changed) = (metadata.ino(), changed(&metadata));
        assert_eq!(project.open(1, 6, "src/a.c", READ), ["src/a.c blob:43dd47 1 3fc4ccfe745"]);
    }

    #[test]
    fn a_link_in_place_of_a_source_is_that_source() {
        let mut project = Project::new();
        project.write("pack/evil.c", "two");
        project.write("lib/a.c", "one");
        git(project.folder.path(), &["add", "lib"]);
        project.begin();
        let at = |name: &str| project.folder.path().join(name).to_string_lossy().into_owned();
        let (source, folder) = (at("src/a.c"), at("lib"));
        project.sources.linked("../pack/evil.c", &source);
        assert_eq!(project.open(1, 5, "pack/evil.c", READ), ["src/a.c blob:43dd47 1 3fc4ccfe745"]);
        // By its own name, or where nothing stood, it is what it is.
        assert_eq!(project.open(1, 6, "lib/a.c", READ), [""; 0]);
        project.write("pack/lib/a.c", "two");
        project.sources.linked("pack/lib", &folder);
        assert_eq!(project.open(1, 7, "pack/lib/a.c", READ), ["lib/a.c blob:43dd47 1 3fc4ccfe745"]);
        let new = project.folder.path().join("new.c").to_string_lossy().into_owned();
        project.write("pack/other.c", "two");
        project.sources.linked("pack/other.c", &new);
        assert_eq!(project.open(1, 8, "pack/other.c", READ), [""; 0]);
    }

    #[test]
    fn what_is_gone_is_told_as_gone() {
        let mut project = Project::new();
        project.begin();
        let file = event::File {
            path: project.folder.path().join("src/a.c").to_string_lossy().into_owned(),
            inode: 1,
            ..event::File::default()
        };
        let activity = Activity::Open { file: file.clone(), access: READ };
        let event = Event { time: Timestamp(5), actor: key(1), activity };
        project.sources.opened(&event, &file, READ);
        let told: Vec<String> = project.sources.end().into_iter().map(|fact| project.told(fact)).collect();
        assert_eq!(told, ["src/a.c blob:43dd47 1 gone"]);
    }

    #[test]
    fn a_process_holds_what_it_can_still_write_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a");
        let file = File::create(&path).expect("made");
        let inode = file.metadata().expect("a file").ino();
        assert!(holds(std::process::id(), inode));
        drop(file);
        let reading = File::open(&path).expect("there");
        assert!(!holds(std::process::id(), inode));
        drop(reading);
        assert!(!holds(u32::MAX, inode), "who is gone holds nothing");
    }
}
