//! Reads the security state of this host: one [`Fact`] for each check of the catalogue.
//!
//! No program is started for it: files, folders and `stat` tell. Reading happens on a thread of its
//! own with a time limit, since a job may put a file system of its own in the way.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use globset::GlobSetBuilder;
use sha2::{Digest as _, Sha256};

use crate::catalogue::posture::{self, Check, Outcome, Place, Reading, WEAK};
use crate::event::{Fact, PostureItem, hex};

/// Objects of one check; a folder with more is told as not read to its end.
const MOST: usize = 2048;
/// Bytes read of one file.
const LARGEST: u64 = 4 << 20;
/// Folders below a `**`.
const DEEPEST: usize = 6;
/// How long the whole may take.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a check found: objects with values, and what could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub items: Vec<PostureItem>,
    pub problem: Option<String>,
    /// How many objects there were; of a check that is only weak or not, fine ones are not items.
    pub looked_at: u64,
}

impl State {
    /// How the check came out.
    pub fn outcome(&self, check: &Check) -> Outcome {
        posture::outcome(
            check,
            self.items.iter().map(|item| item.value.as_str()),
            self.looked_at,
            self.problem.is_some(),
        )
    }
}

/// Takes snapshots of one host for one job: at its start, and again at its end.
#[derive(Clone, Debug)]
pub struct Camera {
    /// `/`, but for the state of another host's file system.
    root: PathBuf,
    place: Place,
    homes: Vec<String>,
    workspace: String,
    path: Vec<PathBuf>,
    /// Makes digests of private files that compare only within this run.
    key: RandomState,
    first: BTreeMap<String, State>,
}

impl Camera {
    /// `homes` of every local user and of the job, `workspace` of the job; `path` as in `$PATH`.
    pub fn new(homes: &[String], workspace: &str, path: Option<&std::ffi::OsStr>) -> Self {
        let mut homes = homes.to_vec();
        homes.retain(|home| home.len() > 1);
        homes.sort();
        homes.dedup();
        Self {
            root: PathBuf::from("/"),
            place: place(Path::new("/"), |name| std::env::var(name).ok()),
            homes,
            workspace: workspace.to_owned(),
            path: path.map(|path| std::env::split_paths(path).collect()).unwrap_or_default(),
            key: RandomState::new(),
            first: BTreeMap::new(),
        }
    }

    /// The same for a host whose root folder is this one: homes are those of its users, the workspace is
    /// `/workspace` in it.
    pub fn of_root(root: &Path) -> Self {
        let users = fs::read_to_string(root.join("etc/passwd")).unwrap_or_default();
        let homes = users.lines().filter_map(|line| line.split(':').nth(5)).map(str::to_owned);
        let homes: Vec<String> = homes
            .chain(["/root".to_owned()])
            .filter(|home| home.len() > 1 && root.join(home.trim_start_matches('/')).is_dir())
            .collect();
        let path = std::ffi::OsStr::new("/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        Self {
            root: root.to_owned(),
            place: place(root, |_| None),
            ..Self::new(&homes, "/workspace", Some(path))
        }
    }

    pub fn place(&self) -> Place {
        self.place
    }

    /// What a check says of a path is said of this one on our disk.
    pub fn real(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    /// What holds before the job's first step.
    pub fn start(&mut self) -> Vec<Fact> {
        self.first = self.shoot();
        self.first
            .iter()
            .map(|(check, state)| Fact::Posture {
                check: check.clone(),
                at_end: false,
                unchanged: false,
                items: state.items.clone(),
                problem: state.problem.clone(),
                looked_at: state.looked_at,
            })
            .collect()
    }

    /// What holds after its last; what is as it was says only that.
    pub fn end(&self) -> Vec<Fact> {
        self.shoot()
            .into_iter()
            .map(|(check, state)| {
                let unchanged = state.problem.is_none() && self.first.get(&check) == Some(&state);
                Fact::Posture {
                    check,
                    at_end: true,
                    unchanged,
                    items: if unchanged { Vec::new() } else { state.items },
                    problem: state.problem,
                    looked_at: if unchanged { 0 } else { state.looked_at },
                }
            })
            .collect()
    }

    /// Every check by id.
    pub fn shoot(&self) -> BTreeMap<String, State> {
        let (answer, answers) = channel();
        let camera = self.clone();
        std::thread::spawn(move || {
            for check in camera.checks() {
                if answer.send((check.id.clone(), camera.read(check))).is_err() {
                    return;
                }
            }
        });
        let until = Instant::now() + PATIENCE;
        let mut states = BTreeMap::new();
        loop {
            match answers.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok((check, state)) => {
                    states.insert(check, state);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    let problem = Some(format!("no answer within {} seconds", PATIENCE.as_secs()));
                    for check in self.checks() {
                        states
                            .entry(check.id.clone())
                            .or_insert_with(|| State { problem: problem.clone(), ..State::default() });
                    }
                    break;
                }
            }
        }
        states
    }

    /// Those that are made where this host is.
    fn checks(&self) -> impl Iterator<Item = &'static Check> + use<> {
        let place = self.place;
        posture::checks().iter().filter(move |check| check.applies.contains(&place))
    }

    fn read(&self, check: &Check) -> State {
        let mut state = State::default();
        let mut found = Found { paths: Vec::new(), problem: None };
        if check.read == Reading::Folders {
            let folders = self.path.iter().filter(|folder| folder.is_absolute());
            found.paths = folders.map(|folder| self.real(&folder.to_string_lossy())).collect();
        } else {
            let root = globset::escape(self.root.to_string_lossy().trim_end_matches('/'));
            for place in posture::places(check, &self.homes, &self.workspace) {
                found.expand(&format!("{root}{place}"));
            }
        }
        found.paths.sort();
        found.paths.dedup();
        if let Some(end) = &check.skip {
            found.paths.retain(|path| !path.to_string_lossy().ends_with(end.as_str()));
        }
        for path in found.paths {
            if fs::symlink_metadata(&path).is_ok() {
                state.looked_at += 1;
            }
            match self.object(check, &path, &mut state.items) {
                Err(error) if !is_absent(&error) => {
                    found.problem.get_or_insert(format!("{}: {error}", path.display()));
                }
                _ => {}
            }
            if state.items.len() > MOST {
                state.items.truncate(MOST);
                found.problem.get_or_insert(format!("more than {MOST} objects"));
                break;
            }
        }
        state.items.sort();
        state.problem = found.problem;
        state
    }

    fn object(&self, check: &Check, path: &Path, items: &mut Vec<PostureItem>) -> io::Result<()> {
        let object = match path.strip_prefix(&self.root) {
            Ok(below) => format!("/{}", below.display()),
            Err(_) => path.to_string_lossy().into_owned(),
        };
        // What a link of another host leads to is not ours to look at.
        if self.root != Path::new("/")
            && !fs::canonicalize(path).and_then(|real| Ok(real.starts_with(fs::canonicalize(&self.root)?)))?
        {
            return Ok(());
        }
        // Of a check that is only weak or not, what is fine needs no mention.
        let mut add = |value: String| {
            if !check.is_static || check.is_weak(&value) {
                items.push(PostureItem { object: object.clone(), value, file: None });
            }
        };
        match check.read {
            Reading::Text => {
                let (bytes, _) = content(path)?;
                add(String::from_utf8_lossy(&bytes).trim().chars().take(256).collect());
            }
            Reading::Content => {
                let (bytes, metadata) = content(path)?;
                let mut value = format!("{} {}", self.digest(check, &bytes), rights(&metadata));
                if let Ok(target) = fs::read_link(path) {
                    value.push_str(" -> ");
                    value.push_str(&target.to_string_lossy());
                }
                if check.is_weak_text(&String::from_utf8_lossy(&bytes)) {
                    value.push_str(WEAK);
                }
                add(value);
            }
            Reading::Names => {
                let (bytes, _) = content(path)?;
                for line in String::from_utf8_lossy(&bytes).lines() {
                    let Some(name) = line.split_whitespace().next() else { continue };
                    items.push(PostureItem {
                        object: name.to_owned(),
                        value: "present".to_owned(),
                        file: Some(object.clone()),
                    });
                }
            }
            Reading::Lines => {
                let (bytes, _) = content(path)?;
                for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                    let end = line.iter().position(|byte| *byte == b':').unwrap_or(line.len());
                    items.push(PostureItem {
                        object: String::from_utf8_lossy(&line[..end]).into_owned(),
                        value: self.digest(check, &line[end..]),
                        file: Some(object.clone()),
                    });
                }
            }
            Reading::Node => {
                let metadata = fs::metadata(path)?;
                let kind = if metadata.file_type().is_socket() { "socket" } else { "other" };
                add(format!("{kind} {}", rights(&metadata)));
            }
            Reading::SetId => {
                let metadata = fs::symlink_metadata(path)?;
                if metadata.is_file() && metadata.mode() & 0o6000 != 0 {
                    add(format!("{} {} bytes", rights(&metadata), metadata.len()));
                }
            }
            Reading::Folders => {
                let metadata = fs::metadata(path)?;
                if metadata.is_dir() {
                    add(format!("folder {}", rights(&metadata)));
                }
            }
        }
        Ok(())
    }

    fn digest(&self, check: &Check, bytes: &[u8]) -> String {
        if check.private {
            return format!("keyed:{:016x}", self.key.hash_one(bytes));
        }
        format!("sha256:{}", &hex(&Sha256::digest(bytes))[..16])
    }
}

/// What kind of machine this is, by what providers and engines leave on it.
fn place(root: &Path, variable: impl Fn(&str) -> Option<String>) -> Place {
    let is_there = |path: &str| root.join(path).exists();
    match variable("RUNNER_ENVIRONMENT").as_deref() {
        Some("github-hosted") => return Place::Hosted,
        Some("self-hosted") if !is_there(".dockerenv") => return Place::SelfHosted,
        _ => {}
    }
    if is_there(".dockerenv")
        || is_there("run/.containerenv")
        || variable("KUBERNETES_SERVICE_HOST").is_some()
    {
        return Place::Container;
    }
    let of_runners =
        ["actions-runner", "opt/actions-runner", "home/runner/actions-runner", "etc/gitlab-runner"];
    if variable("CI").is_some() || of_runners.iter().any(|path| is_there(path)) {
        return Place::SelfHosted;
    }
    Place::Workstation
}

/// Permission bits in octal, and `uid:gid`.
fn rights(metadata: &Metadata) -> String {
    format!("{:o} {}:{}", metadata.mode() & 0o7777, metadata.uid(), metadata.gid())
}

/// The bytes of a regular file, or of what a link leads to.
fn content(path: &Path) -> io::Result<(Vec<u8>, Metadata)> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOCTTY | nix::libc::O_CLOEXEC;
    // A link that leads nowhere is still there, and may lead somewhere later.
    let file = match File::options().read(true).custom_flags(flags).open(path) {
        Err(error) if is_absent(&error) && fs::symlink_metadata(path).is_ok() => {
            return Ok((Vec::new(), fs::symlink_metadata(path)?));
        }
        opened => opened?,
    };
    let metadata = file.metadata()?;
    let mut bytes = Vec::new();
    if metadata.is_file() {
        file.take(LARGEST).read_to_end(&mut bytes)?;
    }
    Ok((bytes, metadata))
}

/// What is not there is no problem, nor is what this kernel does not let anybody read.
fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
        || matches!(error.raw_os_error(), Some(nix::libc::ENXIO | nix::libc::EINVAL | nix::libc::EOPNOTSUPP))
}

struct Found {
    paths: Vec<PathBuf>,
    problem: Option<String>,
}

impl Found {
    /// Every path that exists and that the glob means.
    fn expand(&mut self, glob: &str) {
        let Some(first) = glob.split('/').position(|part| part.contains(['*', '?', '[', '{'])) else {
            self.paths.push(PathBuf::from(glob.replace('\\', "")));
            return;
        };
        let parts: Vec<&str> = glob.split('/').collect();
        let base = PathBuf::from(format!("{}/", parts[..first].join("/").replace('\\', "")));
        let depth = if glob.contains("**") { DEEPEST } else { parts.len() - first };
        let mut set = GlobSetBuilder::new();
        if let Ok(compiled) = crate::commands::path_glob(glob) {
            set.add(compiled);
        }
        let Ok(set) = set.build() else { return };
        let mut folders = vec![(base, 1)];
        let mut looked_at = 0;
        while let Some((folder, level)) = folders.pop() {
            // /bin is a link to /usr/bin on most hosts; what it leads to has a glob of its own.
            if fs::symlink_metadata(&folder).is_ok_and(|metadata| metadata.is_symlink()) && level > 1
                || fs::read_link(folder.to_string_lossy().trim_end_matches('/')).is_ok()
            {
                continue;
            }
            let entries = match fs::read_dir(&folder) {
                Ok(entries) => entries,
                Err(error) if is_absent(&error) => continue,
                Err(error) => {
                    self.problem.get_or_insert(format!("{}: {error}", folder.display()));
                    continue;
                }
            };
            for entry in entries.flatten() {
                looked_at += 1;
                if looked_at > 16 * MOST {
                    self.problem.get_or_insert(format!("{}: too much to look at", folder.display()));
                    return;
                }
                let path = entry.path();
                let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
                if is_folder && level < depth {
                    folders.push((path, level + 1));
                } else if !is_folder && set.is_match(&path) {
                    self.paths.push(path);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn camera(root: &Path) -> Camera {
        let workspace = root.join("w");
        fs::create_dir_all(workspace.join(".git/hooks")).unwrap();
        Camera::new(&[root.to_string_lossy().into_owned()], &workspace.to_string_lossy(), None)
    }

    /// The objects of a check that lie below the folder, by their names in it.
    fn state(camera: &Camera, check: &str, root: &Path) -> BTreeMap<String, String> {
        let root = format!("{}/", root.display());
        let items = camera.shoot().remove(check).unwrap().items;
        items
            .into_iter()
            .filter_map(|item| Some((item.object.strip_prefix(&root)?.to_owned(), item.value)))
            .collect()
    }

    #[test]
    fn tells_a_changed_file_from_an_unchanged_one() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::write(root.join(".bashrc"), "a").unwrap();
        let mut camera = camera(root);
        let before = state(&camera, "shell-start-up", root);
        assert_eq!(before.keys().collect::<Vec<_>>(), [".bashrc"]);
        assert_eq!(before, state(&camera, "shell-start-up", root));
        fs::write(root.join(".bashrc"), "b").unwrap();
        assert_ne!(before, state(&camera, "shell-start-up", root));
        fs::write(root.join(".bashrc"), "a").unwrap();
        fs::set_permissions(root.join(".bashrc"), fs::Permissions::from_mode(0o600)).unwrap();
        camera.start();
        let facts = camera.end();
        assert!(facts.iter().any(|fact| matches!(fact, Fact::Posture { check, unchanged: true, items, .. }
                if check == "shell-start-up" && items.is_empty())));
        fs::write(root.join(".zshrc"), "").unwrap();
        let facts = camera.end();
        assert!(facts.iter().any(|fact| matches!(fact, Fact::Posture { check, unchanged: false, items, .. }
                if check == "shell-start-up" && items.len() >= 2)));
    }

    #[test]
    fn a_private_digest_means_nothing_in_another_run() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        fs::write(root.join(".npmrc"), "//r/:_authToken=hunter22").unwrap();
        let first = state(&camera(root), "package-configuration", root);
        assert!(first[".npmrc"].starts_with("keyed:"), "{first:?}");
        assert_ne!(first, state(&camera(root), "package-configuration", root));
    }

    #[test]
    fn set_id_and_weak_files_are_told_and_others_are_not() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        for (name, mode) in [("tool", 0o4755), ("plain", 0o755)] {
            fs::write(root.join(name), "x").unwrap();
            fs::set_permissions(root.join(name), fs::Permissions::from_mode(mode)).unwrap();
        }
        let camera = camera(root);
        let programs = state(&camera, "privileged-programs", root);
        assert_eq!(programs.keys().collect::<Vec<_>>(), ["tool"]);
        assert!(state(&camera, "persisted-credentials", root).is_empty());
        fs::write(root.join("w/.git/config"), "[http]\n extraheader = AUTHORIZATION: basic eA==\n").unwrap();
        let token = state(&camera, "persisted-credentials", root);
        let check = posture::check("persisted-credentials").unwrap();
        assert!(check.is_weak(&token["w/.git/config"]), "{token:?}");
    }

    #[test]
    fn samples_of_hooks_are_no_hooks() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let camera = camera(root);
        for name in ["pre-push.sample", "pre-push"] {
            fs::write(root.join("w/.git/hooks").join(name), "#!/bin/sh\n").unwrap();
        }
        let found = state(&camera, "git-hooks", root);
        assert_eq!(found.keys().collect::<Vec<_>>(), ["w/.git/hooks/pre-push"]);
    }

    #[test]
    fn a_pipe_or_a_dangling_link_holds_nothing_up() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let camera = camera(root);
        nix::unistd::mkfifo(&root.join(".bashrc"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        std::os::unix::fs::symlink("/nowhere", root.join(".zshrc")).unwrap();
        let found = state(&camera, "shell-start-up", root);
        assert_eq!(found.keys().collect::<Vec<_>>(), [".bashrc", ".zshrc"]);
        assert!(found[".zshrc"].ends_with("-> /nowhere"), "{found:?}");
    }
}
