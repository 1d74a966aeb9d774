//! Reads what an agent that starts is told it may do: its settings files, as they are at that moment, and its options.
//!
//! Anybody may have put anything there: a link that leads round in circles, a pipe that nobody writes to, a file system
//! that never answers. So files are read on a thread of their own, up to a size, and once it hangs no more are read.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;

use globset::Glob;

use super::PATIENCE;
use crate::agents::Agent;
use crate::agents::settings::{self, Form, Place, Source};
use crate::event::{AgentSettings, Launch, Level, Permission, ProcessKey};
use crate::job::Job;
use crate::runners::github::{Committed, committed};

/// Of one file; a larger one is not read.
const LARGEST: u64 = 4 << 20;
/// Files of one source.
const MOST_FILES: usize = 64;
/// Launches of agents whose files are read in one run.
const MOST_LAUNCHES: usize = 1024;
/// Folders above a working folder that are looked into for its repository.
const HIGHEST: usize = 32;

/// The commit that a change under review is compared with.
#[derive(Clone, Debug)]
pub struct Base {
    pub workspace: PathBuf,
    pub commit: String,
    /// Who git is asked as.
    pub uid: u32,
}

#[derive(Debug, Default)]
pub(super) struct Reader {
    pub(super) homes: BTreeMap<u32, String>,
    pub(super) base: Option<Base>,
    home: String,
    told: HashSet<u64>,
    /// Files of the repository whose reviewed copies are still to be had. One that says nothing may have said something.
    unreviewed: Vec<(&'static Agent, Place, AgentSettings)>,
    /// Agents of which it was told that a file without a word has no known copy.
    unknown: HashSet<&'static str>,
    launches: usize,
    is_stuck: bool,
    pub(super) own_hook: Option<OwnHook>,
}

/// Tells whether an agent's hook with this command is one of ours.
pub(super) struct OwnHook(pub(super) IsOwn);

type IsOwn = Box<dyn Fn(&str, &str) -> bool + Send>;

impl std::fmt::Debug for OwnHook {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("OwnHook")
    }
}

impl Reader {
    pub(super) fn job(&mut self, job: &Job) {
        self.home.clone_from(&job.home);
    }

    /// What holds for an agent that is being launched. What was told before and is the same is not told again.
    pub(super) fn of(
        &mut self,
        agent: &'static Agent,
        process: ProcessKey,
        launch: &Launch,
    ) -> Vec<AgentSettings> {
        let environment = environment(process.pid);
        let variable = |name: &str| environment.get(name).filter(|value| value.starts_with('/')).cloned();
        let home = variable("HOME")
            .or_else(|| self.homes.get(&launch.uid).cloned())
            .unwrap_or_else(|| self.home.clone());
        let place = Place { home, project: launch.directory.clone() };
        let mut all = Vec::new();
        let options = settings::command_line(agent.settings, &place, &launch.arguments);
        if !options.is_empty() {
            all.push(AgentSettings {
                agent: agent.id.to_owned(),
                process: Some(process),
                level: Level::CommandLine,
                file: String::new(),
                items: options,
                problem: None,
            });
        }
        self.launches += 1;
        if self.launches <= MOST_LAUNCHES && !self.is_stuck {
            let moved = agent.settings.moved_by.iter();
            let moved: Vec<(&'static str, String)> =
                moved.filter_map(|(name, folder)| Some((*folder, variable(name)?))).collect();
            let (tell, told) = channel();
            let reader = place.clone();
            let workspace = self.base.as_ref().map(|base| base.workspace.clone());
            std::thread::spawn(move || {
                let files = sources(agent, &reader, &moved);
                let silent = workspace.map(|workspace| silent(agent, &reader, &workspace, &files));
                let _ = tell.send((files, silent.unwrap_or_default()));
            });
            if let Ok((files, silent)) = told.recv_timeout(PATIENCE) {
                for said in files.iter().chain(&silent) {
                    self.remember(agent, &place, said);
                }
                all.extend(files);
            } else {
                self.is_stuck = true;
                let problem = Some("a settings file could not be read in time".to_owned());
                let (agent, level, file) = (agent.id.to_owned(), Level::User, place.home.clone());
                all.push(AgentSettings { agent, process: None, level, file, items: Vec::new(), problem });
            }
        }
        if let Some(OwnHook(is_own)) = &self.own_hook {
            for said in all.iter_mut().filter(|said| said.level == Level::User) {
                for item in &mut said.items {
                    if let Permission::Hook { command, own, .. } = &mut item.what {
                        *own = is_own(agent.id, command);
                    }
                }
            }
        }
        all.retain(|said| self.is_news(said));
        for said in &mut all {
            said.process = Some(process);
        }
        all
    }

    /// Remembers a file that a change under review may have brought.
    fn remember(&mut self, agent: &'static Agent, place: &Place, said: &AgentSettings) {
        let Some(base) = self.base.as_ref().filter(|_| said.level.is_repository()) else { return };
        let path = Path::new(&said.file);
        let is_plain =
            source_of(agent, path).is_some_and(|source| !matches!(source.form, Form::Instructions));
        let is_known = |known: &(&'static Agent, Place, AgentSettings)| {
            known.0.id == agent.id && known.2.file == said.file
        };
        if is_plain
            && path.starts_with(&base.workspace)
            && self.unreviewed.len() < MOST_FILES
            && !self.unreviewed.iter().any(is_known)
        {
            self.unreviewed.push((agent, place.clone(), said.clone()));
        }
    }

    /// Files of the repository whose reviewed copy was not handed over.
    pub(super) fn unreviewed(&self) -> Vec<String> {
        let mut files: Vec<String> = self.unreviewed.iter().map(|(_, _, said)| said.file.clone()).collect();
        files.sort();
        files.dedup();
        files
    }

    /// Takes in the reviewed copy of a file from whoever could read it; `None`: there is none.
    pub(super) fn review(&mut self, file: &str, text: Option<&str>) -> Vec<AgentSettings> {
        let copy = text.map_or(Committed::Absent, |text| Committed::Found(text.to_owned()));
        self.reviewed(file, &copy)
    }

    /// Reads what was not handed over out of git's objects. git is started for it, so nothing may be recorded any more.
    pub(super) fn review_rest(&mut self) -> Vec<AgentSettings> {
        let Some(base) = self.base.clone() else { return Vec::new() };
        let mut all = Vec::new();
        for file in self.unreviewed() {
            let below = Path::new(&file).strip_prefix(&base.workspace).ok().and_then(Path::to_str);
            let Some(below) = below else { continue };
            let copy = committed(&base.workspace, &base.commit, below, base.uid);
            all.extend(self.reviewed(&file, &copy));
        }
        all
    }

    fn reviewed(&mut self, file: &str, copy: &Committed) -> Vec<AgentSettings> {
        let all = std::mem::take(&mut self.unreviewed);
        let (known, open): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, _, said)| said.file == file);
        self.unreviewed = open;
        let mut all = Vec::new();
        for (agent, place, said) in known {
            let Some(source) = source_of(agent, Path::new(file)) else { continue };
            let (items, problem) = match copy {
                Committed::Found(text) => settings::read(source.form, &place, text),
                Committed::Absent => (Vec::new(), None),
                Committed::Unknown(why) => (Vec::new(), Some(why.clone())),
            };
            let copy = AgentSettings { level: Level::Reviewed, items, problem, ..said.clone() };
            let is_silent = said.items.is_empty() && said.problem.is_none();
            if is_silent {
                // Most of them have never been there. Where that is not known, once is enough to say so.
                let is_told = match &copy.problem {
                    Some(_) => self.unknown.insert(agent.id),
                    None => !copy.items.is_empty(),
                };
                if !is_told {
                    continue;
                }
                all.push(said);
            }
            all.push(copy);
        }
        all
    }

    fn is_news(&mut self, said: &AgentSettings) -> bool {
        let mut hasher = DefaultHasher::new();
        format!("{said:?}").hash(&mut hasher);
        self.told.len() < MOST_LAUNCHES * 16 && self.told.insert(hasher.finish())
    }
}

/// The variables of a process. Only names and folders of them are kept anywhere.
fn environment(pid: u32) -> BTreeMap<String, String> {
    let mut bytes = Vec::new();
    let opened = File::open(format!("/proc/{pid}/environ"));
    if opened.and_then(|file| file.take(1 << 20).read_to_end(&mut bytes)).is_err() {
        return BTreeMap::new();
    }
    bytes
        .split(|byte| *byte == 0)
        .filter_map(|pair| std::str::from_utf8(pair).ok()?.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
}

/// Every file that tells this agent something, as it is now. `moved`: folders that lie elsewhere.
pub fn sources(agent: &'static Agent, place: &Place, moved: &[(&str, String)]) -> Vec<AgentSettings> {
    let mut all: Vec<AgentSettings> = Vec::new();
    for source in agent.settings.sources {
        for path in paths(source, place, moved) {
            let (items, problem) = match content(&path, source.form) {
                Ok(None) => continue,
                Ok(Some(text)) => settings::read(source.form, place, &text),
                Err(error) => (Vec::new(), Some(error.to_string())),
            };
            let said = AgentSettings {
                agent: agent.id.to_owned(),
                process: None,
                level: source.level,
                file: path.to_string_lossy().into_owned(),
                items,
                problem,
            };
            if !said.items.is_empty() || said.problem.is_some() {
                all.push(said);
            }
        }
    }
    // In the user's own folder the user's file stands where a project's would be.
    let is_users = |said: &AgentSettings| {
        said.level != Level::User && all.iter().any(|it| it.level == Level::User && it.file == said.file)
    };
    let doubled: Vec<bool> = all.iter().map(is_users).collect();
    let mut doubled = doubled.into_iter();
    all.retain(|_| !doubled.next().unwrap_or_default());
    all
}

/// Files of the repository that could tell this agent something, and say nothing: not there, or without a word.
fn silent(
    agent: &'static Agent,
    place: &Place,
    workspace: &Path,
    files: &[AgentSettings],
) -> Vec<AgentSettings> {
    // What is not checked out as a whole lacks files that nobody took away.
    if !workspace.join(".git").exists() || workspace.join(".git/info/sparse-checkout").exists() {
        return Vec::new();
    }
    let below = Some(Path::new(&place.project)).filter(|project| project.starts_with(workspace));
    let mut folders: Vec<&Path> = std::iter::once(workspace).chain(below).collect();
    folders.dedup();
    let sources = agent.settings.sources.iter();
    let of_repository = sources.filter(|source| {
        source.level.is_repository()
            && !matches!(source.form, Form::Instructions)
            && !source.file.contains('*')
    });
    let mut all = Vec::new();
    for source in of_repository {
        let Some(name) = source.file.strip_prefix("./") else { continue };
        for path in folders.iter().map(|folder| folder.join(name)) {
            let file = path.to_string_lossy().into_owned();
            let says_nothing = || match content(&path, source.form) {
                Ok(None) => true,
                Ok(Some(text)) => settings::read(source.form, place, &text) == (Vec::new(), None),
                Err(_) => false,
            };
            if !files.iter().any(|said| said.file == file) && says_nothing() {
                let (agent, level) = (agent.id.to_owned(), source.level);
                all.push(AgentSettings {
                    agent,
                    process: None,
                    level,
                    file,
                    items: Vec::new(),
                    problem: None,
                });
            }
        }
    }
    all
}

/// The source by which a file of a repository is read.
fn source_of(agent: &Agent, file: &Path) -> Option<&'static Source> {
    agent.settings.sources.iter().filter(|source| source.level.is_repository()).find(|source| {
        let below = source.file.trim_start_matches("./");
        Glob::new(&format!("/**/{below}")).is_ok_and(|glob| glob.compile_matcher().is_match(file))
    })
}

/// The files that a source means, if they are there.
fn paths(source: &Source, place: &Place, moved: &[(&str, String)]) -> Vec<PathBuf> {
    let elsewhere = moved.iter().find_map(|(folder, to)| {
        let rest = source.file.strip_prefix(folder)?.strip_prefix('/')?;
        Some(Path::new(to).join(rest))
    });
    if let Some(path) = elsewhere {
        return matching(path);
    }
    match source.file.split_once('/') {
        Some(("~", rest)) => matching(Path::new(&place.home).join(rest)),
        Some((".", rest)) => {
            // An agent that starts further down looks up to where its repository begins.
            let mut folder = Path::new(&place.project);
            for _ in 0..HIGHEST {
                let found = matching(folder.join(rest));
                let is_top = folder.join(".git").exists();
                match folder.parent() {
                    Some(above) if found.is_empty() && !is_top && folder != Path::new(&place.home) => {
                        folder = above;
                    }
                    _ => return found,
                }
            }
            Vec::new()
        }
        _ => matching(PathBuf::from(source.file)),
    }
}

fn matching(path: PathBuf) -> Vec<PathBuf> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if !name.contains('*') {
        return if fs::symlink_metadata(&path).is_ok() { vec![path] } else { Vec::new() };
    }
    let (Ok(glob), Some(folder)) = (Glob::new(&name), path.parent()) else { return Vec::new() };
    let matcher = glob.compile_matcher();
    let entries = fs::read_dir(folder).into_iter().flatten().take(MOST_FILES * 16).flatten();
    let mut found: Vec<PathBuf> =
        entries.filter(|entry| matcher.is_match(entry.file_name())).map(|entry| entry.path()).collect();
    found.sort();
    found.truncate(MOST_FILES);
    found
}

/// The text of a regular file, or of what a link leads to; `None`: there is none, or it is a folder.
fn content(path: &Path, form: Form) -> io::Result<Option<String>> {
    let refused = |text: &str| io::Error::new(io::ErrorKind::InvalidData, text.to_owned());
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY | nix::libc::O_CLOEXEC;
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let about = file.metadata()?;
    if matches!(form, Form::Instructions) {
        // A folder of rules is as good as a file.
        return Ok(Some(String::new()));
    }
    if about.is_dir() {
        return Ok(None);
    }
    if !about.is_file() {
        return Err(refused("it is not a regular file"));
    }
    if about.len() > LARGEST {
        return Err(refused(&format!("it has more than {} MiB", LARGEST >> 20)));
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LARGEST {
        return Err(refused(&format!("it has more than {} MiB", LARGEST >> 20)));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| refused("it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agents::by_id;

    struct Host {
        folder: tempfile::TempDir,
    }

    impl Host {
        fn new() -> Self {
            Self { folder: tempfile::tempdir().unwrap() }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.folder.path().join(path)
        }

        fn write(&self, path: &str, text: impl AsRef<[u8]>) {
            let path = self.path(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        /// Level, and how many things it says or what is wrong, by file.
        fn told(&self, moved: &[(&str, String)]) -> Vec<String> {
            let place = Place {
                home: self.path("home").to_string_lossy().into_owned(),
                project: self.path("work/below").to_string_lossy().into_owned(),
            };
            let root = format!("{}/", self.folder.path().to_string_lossy());
            sources(by_id("claude-code").unwrap(), &place, moved)
                .into_iter()
                .filter(|said| said.level != Level::Managed)
                .map(|said| {
                    let what = said.problem.unwrap_or_else(|| said.items.len().to_string());
                    format!("{} {}: {what}", said.level.as_str(), said.file.replace(&root, ""))
                })
                .collect()
        }
    }

    const DENIES: &str = r#"{"permissions": {"deny": ["Bash(curl:*)"]}}"#;

    #[test]
    fn files_of_user_and_repository_are_read_and_moved_folders_followed() {
        let host = Host::new();
        host.write("home/.claude/settings.json", DENIES);
        host.write("work/.claude/settings.json", DENIES);
        host.write("work/CLAUDE.md", "be nice");
        host.write("moved/settings.json", "{}");
        fs::create_dir_all(host.path("work/.git")).unwrap();
        fs::create_dir_all(host.path("work/below")).unwrap();
        assert_eq!(
            host.told(&[]),
            [
                "project work/.claude/settings.json: 1",
                "project work/CLAUDE.md: 1",
                "user home/.claude/settings.json: 1",
            ]
        );
        let moved = [("~/.claude", host.path("moved").to_string_lossy().into_owned())];
        assert_eq!(host.told(&moved).len(), 2, "what is elsewhere says nothing");
    }

    #[test]
    fn whatever_lies_there_is_told_and_harms_nobody() {
        let host = Host::new();
        fs::create_dir_all(host.path("work/below/.claude")).unwrap();
        let place = "work/below/.claude/settings.json";
        let path = host.path(place);
        let said = |text: &str| vec![format!("project {place}: {text}")];
        File::create(&path).unwrap().set_len(50 << 20).unwrap();
        assert_eq!(host.told(&[]), said("it has more than 4 MiB"));
        host.write(place, b"{\"a\": \"\xff\xfe\"}");
        assert_eq!(host.told(&[]), said("it is not UTF-8"));
        host.write(place, "{\"permissions\": {\n  \"allow\": [\"a\" \"b\"]\n}}");
        assert_eq!(
            host.told(&[]),
            said(
                "line 2, column 17: a comma or `]` is missing\n    \"xxxxx\": [\"x\" \"x\"]\n                  ^"
            )
        );
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("settings.json", &path).unwrap();
        assert!(host.told(&[])[0].contains("symbolic links"), "{:?}", host.told(&[]));
        fs::remove_file(&path).unwrap();
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(host.told(&[]), said("it is not a regular file"));
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(host.told(&[]), [] as [&str; 0]);
    }

    #[test]
    fn the_reviewed_copy_comes_from_the_commit() {
        let host = Host::new();
        host.write("work/.claude/settings.json", DENIES);
        let git = |words: &[&str]| {
            let output = std::process::Command::new("git")
                .args(["-c", "user.name=a", "-c", "user.email=a@example.com", "-C"])
                .arg(host.path("work"))
                .args(words)
                .output()
                .unwrap();
            assert!(output.status.success(), "{words:?}");
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        git(&["init", "-q"]);
        git(&["add", "-A"]);
        git(&["commit", "-q", "-m", "x"]);
        let commit = git(&["rev-parse", "HEAD"]);
        host.write("work/.claude/settings.json", r#"{"permissions": {"allow": ["Bash", "Read"]}}"#);
        host.write("work/.mcp.json", r#"{"mcpServers": {"a": {"command": "a"}}}"#);
        let uid = nix::unistd::geteuid().as_raw();
        let workspace = host.path("work");
        let directory = workspace.to_string_lossy().into_owned();
        let reader = |commit: String| {
            let base = Base { workspace: workspace.clone(), commit, uid };
            let mut reader = Reader { base: Some(base), ..Reader::default() };
            let launch = Launch { directory: directory.clone(), ..Launch::default() };
            reader.of(by_id("claude-code").unwrap(), ProcessKey { pid: u32::MAX, start: 1 }, &launch);
            reader
        };
        let [settings, local, servers] =
            [".claude/settings.json", ".claude/settings.local.json", ".mcp.json"]
                .map(|name| format!("{directory}/{name}"));
        let files = [settings.clone(), servers];
        let mut known = reader(commit.clone());
        assert_eq!(known.unreviewed(), [settings, local, files[1].clone()]);
        let said = known.review_rest();
        let told: Vec<(Level, usize)> = said.iter().map(|said| (said.level, said.items.len())).collect();
        assert_eq!(told, [(Level::Reviewed, 1), (Level::Reviewed, 0)], "{said:?}");
        assert!(known.unreviewed().is_empty() && known.review_rest().is_empty());
        // A checkout of one commit does not have it; somebody else may.
        let mut unknown = reader("0".repeat(40));
        let said = unknown.review(&files[0], Some(DENIES));
        assert!(matches!(&said[..], [said] if said.items.len() == 1), "{said:?}");
        assert!(unknown.review("/x", None).is_empty());
        let said = unknown.review_rest();
        let is_unknown = |said: &AgentSettings| {
            said.problem.as_ref().is_some_and(|why| why.contains("does not have that commit"))
        };
        assert_eq!(said.iter().filter(|said| is_unknown(said)).count(), 2, "{said:?}");
        // What the change took away, or left without a word, is told beside what it said; what was never there is not.
        for is_emptied in [true, false] {
            fs::remove_file(host.path("work/.mcp.json")).ok();
            host.write("work/.claude/settings.json", "{}");
            if !is_emptied {
                fs::remove_file(host.path("work/.claude/settings.json")).unwrap();
            }
            let said = reader(commit.clone()).review_rest();
            let told: Vec<(Level, usize)> = said.iter().map(|said| (said.level, said.items.len())).collect();
            assert_eq!(told, [(Level::Project, 0), (Level::Reviewed, 1)], "{said:?}");
            let said = reader("0".repeat(40)).review(&files[0], Some(DENIES));
            assert_eq!(said.len(), 2, "{said:?}");
            assert!(reader(commit.clone()).review(&files[0], None).is_empty());
            let said = reader("0".repeat(40)).review_rest();
            assert_eq!(said.iter().filter(|said| is_unknown(said)).count(), 1, "{said:?}");
        }
        // A checkout of some folders alone took nothing away.
        host.write("work/.git/info/sparse-checkout", "/src\n");
        assert!(reader(commit).unreviewed().is_empty());
    }

    #[test]
    fn a_launch_tells_its_options_and_each_file_once() {
        let host = Host::new();
        host.write("home/.claude/settings.json", DENIES);
        let home = host.path("home").to_string_lossy().into_owned();
        let mut reader = Reader::default();
        reader.homes.insert(7, home.clone());
        let launch = Launch {
            arguments: ["claude", "-p", "x", "--dangerously-skip-permissions"].map(str::to_owned).to_vec(),
            directory: home,
            uid: 7,
            ..Launch::default()
        };
        // No process has this number, so it has no environment.
        let process = |start| ProcessKey { pid: u32::MAX, start };
        let agent = by_id("claude-code").unwrap();
        let levels = |said: Vec<AgentSettings>| {
            said.into_iter()
                .filter(|said| said.level != Level::Managed)
                .map(|said| said.level)
                .collect::<Vec<_>>()
        };
        let first = reader.of(agent, process(1), &launch);
        assert!(matches!(first[0].items[0].what, Permission::Mode { unasked: true, .. }));
        assert_eq!(levels(first), [Level::CommandLine, Level::User]);
        assert_eq!(levels(reader.of(agent, process(2), &launch)), [Level::CommandLine]);
    }
}
