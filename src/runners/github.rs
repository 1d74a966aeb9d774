//! GitHub Actions: from the runner's variables to a [`Job`], and the workflow's file as it really was.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::event::Fact;
use crate::intent::workflow::Workflow;
use crate::job::{Job, Pipeline, Provider};

/// A larger workflow file is not read: 1 MiB.
const LARGEST: u64 = 1 << 20;
/// How long `git` may take to find a file of a commit.
const PATIENCE: Duration = Duration::from_secs(5);

/// Whether these variables are those of a job on GitHub's runner.
pub fn is_here(variable: &dyn Fn(&str) -> Option<String>) -> bool {
    variable("GITHUB_ACTIONS").as_deref() == Some("true")
}

/// The job that these variables tell of. Its steps are not known yet: the runner begins one after the other.
pub fn job(directory: &Path, home: &Path, uid: u32, variable: &dyn Fn(&str) -> Option<String>) -> Job {
    let real = |path: &Path| std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    Job {
        provider: Provider::Github,
        name: said(variable, "GITHUB_JOB").unwrap_or_else(|| "job".to_owned()),
        workspace: real(directory).to_string_lossy().into_owned(),
        home: real(home).to_string_lossy().into_owned(),
        uid,
        pipeline: Some(pipeline(variable)),
        steps: Vec::new(),
    }
}

fn said(variable: &dyn Fn(&str) -> Option<String>, name: &str) -> Option<String> {
    variable(name).filter(|value| !value.is_empty())
}

fn pipeline(variable: &dyn Fn(&str) -> Option<String>) -> Pipeline {
    let said = |name| said(variable, name);
    let reference = said("GITHUB_REF");
    let pull_request = reference
        .as_deref()
        .and_then(|reference| reference.strip_prefix("refs/pull/")?.split('/').next()?.parse().ok());
    Pipeline {
        repository: said("GITHUB_REPOSITORY"),
        workflow: said("GITHUB_WORKFLOW_REF").as_deref().and_then(workflow_path),
        workflow_name: said("GITHUB_WORKFLOW"),
        workflow_commit: said("GITHUB_WORKFLOW_SHA").filter(|sha| is_commit(sha)),
        reference,
        commit: said("GITHUB_SHA").filter(|sha| is_commit(sha)),
        event: said("GITHUB_EVENT_NAME"),
        run: said("GITHUB_RUN_ID"),
        attempt: said("GITHUB_RUN_ATTEMPT"),
        matrix: said("INPUT_MATRIX"),
        pull_request,
        guard: said("GITHUB_ACTION"),
        server: said("GITHUB_SERVER_URL").map(|url| url.trim_end_matches('/').to_owned()),
    }
}

/// `owner/name/.github/workflows/ci.yml@refs/heads/main` is `.github/workflows/ci.yml`.
fn workflow_path(reference: &str) -> Option<String> {
    let path = reference.split('@').next()?.splitn(3, '/').nth(2)?;
    is_plain(path).then(|| path.to_owned())
}

/// A path inside the repository that leads nowhere else.
fn is_plain(path: &str) -> bool {
    path.starts_with(".github/workflows/") && !path.split('/').any(|part| part == "..")
}

fn is_commit(sha: &str) -> bool {
    (sha.len() == 40 || sha.len() == 64) && sha.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// The commit that a pull request's change is compared with.
pub fn base(variable: &dyn Fn(&str) -> Option<String>) -> Option<String> {
    if !variable("GITHUB_EVENT_NAME")?.starts_with("pull_request") {
        return None;
    }
    let event = text(&variable("GITHUB_EVENT_PATH")?)?;
    let event: serde_json::Value = serde_json::from_str(&event).ok()?;
    event["pull_request"]["base"]["sha"].as_str().filter(|sha| is_commit(sha)).map(str::to_owned)
}

/// Events whose workflow is the default branch's, while the tree may well be a stranger's pull request.
const OTHERS_TREE: [&str; 5] = [
    "pull_request_target",
    "workflow_run",
    "issue_comment",
    "pull_request_review",
    "pull_request_review_comment",
];

/// The workflow's file of this job: as it was committed, else as it lies in the work tree.
///
/// The tree's copy only names steps and their lines; nothing is allowed by it. Where the tree may be a stranger's it does
/// not even do that.
pub fn workflow(job: &Job) -> Option<Fact> {
    reviewed(job).or_else(|| {
        let (path, text) = in_tree(job)?;
        Some(Fact::Workflow { path, text, origin: "tree".to_owned() })
    })
}

/// The file as a commit of this workflow has it.
pub fn reviewed(job: &Job) -> Option<Fact> {
    let pipeline = job.pipeline.as_ref()?;
    let workspace = Path::new(&job.workspace);
    let (path, commit) = match (&pipeline.workflow, &pipeline.workflow_commit) {
        (Some(path), Some(commit)) => (path.clone(), commit),
        // Some runners name neither: then it is the commit that the job works on, unless that is somebody else's.
        _ if !is_others(pipeline) => (in_tree(job).map(|(path, _)| path)?, pipeline.commit.as_ref()?),
        _ => return None,
    };
    match committed(workspace, commit, &path, job.uid) {
        Committed::Found(text) => Some(Fact::Workflow { path, text, origin: "commit".to_owned() }),
        _ => None,
    }
}

fn is_others(pipeline: &Pipeline) -> bool {
    pipeline.event.as_deref().is_some_and(|event| OTHERS_TREE.contains(&event))
}

fn in_tree(job: &Job) -> Option<(String, String)> {
    let pipeline = job.pipeline.as_ref().filter(|pipeline| !is_others(pipeline))?;
    let workspace = Path::new(&job.workspace);
    match &pipeline.workflow {
        Some(path) => Some((path.clone(), regular(&workspace.join(path))?)),
        None => by_name(workspace, &job.name, pipeline.workflow_name.as_deref()),
    }
}

/// Without the file's path: the one file that has this name, or at least this job.
fn by_name(workspace: &Path, job: &str, name: Option<&str>) -> Option<(String, String)> {
    const FOLDER: &str = ".github/workflows";
    const MOST: usize = 200;
    let mut files: Vec<PathBuf> = std::fs::read_dir(workspace.join(FOLDER))
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|end| end == "yml" || end == "yaml"))
        .take(MOST)
        .collect();
    files.sort();
    let mut fitting = files.into_iter().filter_map(|path| {
        let text = regular(&path)?;
        let workflow = Workflow::parse(&text).ok()?;
        let shown = format!("{FOLDER}/{}", path.file_name()?.to_str()?);
        // A workflow without a name goes by its path.
        let is_named = name.is_none_or(|name| workflow.name.as_deref().unwrap_or(&shown) == name);
        (is_named && !workflow.steps(job).is_empty()).then_some((shown, text))
    });
    match (fitting.next(), fitting.next()) {
        (Some(only), None) => Some(only),
        _ => None,
    }
}

/// The text of a step's script: a regular file, not too long, UTF-8.
pub fn text(path: &str) -> Option<String> {
    const LONGEST: usize = 256 * 1024;
    regular(Path::new(path)).filter(|text| text.len() <= LONGEST && !text.contains('\0'))
}

/// A file's text, if it is a regular one and not too long.
fn regular(path: &Path) -> Option<String> {
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    let file = std::fs::File::options().read(true).custom_flags(flags).open(path).ok()?;
    let metadata = file.metadata().ok()?;
    let mut text = String::new();
    (metadata.is_file() && metadata.len() <= LARGEST).then_some(())?;
    file.take(LARGEST).read_to_string(&mut text).ok()?;
    Some(text)
}

/// What a commit has at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Committed {
    Found(String),
    Absent,
    /// It can't be told, and why.
    Unknown(String),
}

/// A file of a commit, out of the objects that a checkout left.
///
/// Every object on the way is hashed again: who can write to `.git` can put anything under an object's name, and git
/// gives it out as it is. git runs as the job's user, without its settings, and asks nobody for what is not there.
pub fn committed(workspace: &Path, commit: &str, path: &str, uid: u32) -> Committed {
    if !is_commit(commit) {
        return Committed::Unknown(format!("`{commit}` is no commit"));
    }
    if !workspace.join(".git").exists() {
        return Committed::Unknown("nothing is checked out yet".to_owned());
    }
    let objects = Objects { workspace, uid, id_length: commit.len() };
    match objects.file(commit, path) {
        Ok(Some(text)) => Committed::Found(text),
        Ok(None) => Committed::Absent,
        Err(reason) => Committed::Unknown(reason),
    }
}

struct Objects<'a> {
    workspace: &'a Path,
    uid: u32,
    /// In hex: 40 or 64.
    id_length: usize,
}

impl Objects<'_> {
    fn file(&self, commit: &str, path: &str) -> Result<Option<String>, String> {
        let text = self.object("commit", commit)?.ok_or("the checkout does not have that commit")?;
        let tree = text.strip_prefix(b"tree ").and_then(|rest| rest.get(..self.id_length));
        let mut id = String::from_utf8_lossy(tree.unwrap_or_default()).into_owned();
        let mut parts = path.split('/').peekable();
        while let Some(part) = parts.next() {
            let tree = self.object("tree", &id)?.ok_or("the checkout does not have that commit's files")?;
            let Some((mode, found)) = self.entry(&tree, part) else { return Ok(None) };
            let is_last = parts.peek().is_none();
            if mode.starts_with("100") != is_last || !(is_last || mode == "40000") {
                return Err(format!("{path} is no plain file in that commit"));
            }
            id = found;
        }
        let text =
            self.object("blob", &id)?.ok_or_else(|| format!("git could not read {path} of that commit"))?;
        String::from_utf8(text).map(Some).map_err(|_| format!("{path} is not UTF-8 in that commit"))
    }

    /// Mode and object of a name in a tree.
    fn entry(&self, tree: &[u8], wanted: &str) -> Option<(String, String)> {
        let mut rest = tree;
        while let Some(end) = rest.iter().position(|byte| *byte == 0) {
            let (head, id) = (&rest[..end], rest.get(end + 1..end + 1 + self.id_length / 2)?);
            let blank = head.iter().position(|byte| *byte == b' ')?;
            if &head[blank + 1..] == wanted.as_bytes() {
                let mode = String::from_utf8_lossy(&head[..blank]).into_owned();
                return Some((mode, crate::event::hex(id)));
            }
            rest = &rest[end + 1 + self.id_length / 2..];
        }
        None
    }

    /// An object that is what its name says; `None`: there is none.
    fn object(&self, kind: &str, id: &str) -> Result<Option<Vec<u8>>, String> {
        if !is_commit(id) {
            return Err("the objects of that commit can't be read".to_owned());
        }
        let mut read = self.git(&["-c", "safe.directory=*", "-c", "protocol.allow=never", "-C"]);
        read.arg(self.workspace).args(["cat-file", kind, id]);
        let Some(content) = output(read, None)? else { return Ok(None) };
        // Outside of any repository, so that none has a say in it.
        let mut hash = self.git(&["hash-object", "--stdin", "--no-filters", "-t", kind]);
        hash.current_dir("/").env("GIT_CEILING_DIRECTORIES", "/");
        let own = output(hash, Some(content.clone()))?.unwrap_or_default();
        if String::from_utf8_lossy(&own).trim() != id {
            return Err(format!("the {kind} {id} of the checkout is not what its name says"));
        }
        Ok(Some(content))
    }

    fn git(&self, words: &[&str]) -> Command {
        let mut git = Command::new("git");
        git.args(words)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .env("GIT_NO_LAZY_FETCH", "1")
            .env("GIT_NO_REPLACE_OBJECTS", "1")
            .env("GIT_TERMINAL_PROMPT", "0")
            .env("GIT_CONFIG_GLOBAL", "/dev/null")
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("GIT_DEFAULT_HASH", if self.id_length == 64 { "sha256" } else { "sha1" });
        if self.uid != 0 && nix::unistd::geteuid().is_root() {
            git.uid(self.uid).gid(group_of(self.uid));
        }
        git
    }
}

/// The group of a user, as sudo says it where it says the user.
fn group_of(uid: u32) -> u32 {
    let said = std::env::var("SUDO_GID").ok().and_then(|gid| gid.parse().ok());
    said.unwrap_or(uid)
}

/// What a command prints; `None` where it ends with a complaint.
fn output(mut command: Command, input: Option<Vec<u8>>) -> Result<Option<Vec<u8>>, String> {
    let failed = |error: std::io::Error| format!("git can't be run: {error}");
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().map_err(failed)?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        std::thread::spawn(move || {
            let _ = pipe.write_all(&input);
        });
    }
    let Some(printed) = child.stdout.take() else { return Ok(None) };
    let reader = std::thread::spawn(move || {
        let mut content = Vec::new();
        printed.take(LARGEST + 1).read_to_end(&mut content).map(|_| content)
    });
    let until = Instant::now() + PATIENCE;
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if Instant::now() > until => {
                let _ = child.kill();
                let _ = child.wait();
                return Err("git took too long".to_owned());
            }
            None => std::thread::sleep(Duration::from_millis(2)),
        }
    };
    let content = reader.join().ok().and_then(Result::ok).unwrap_or_default();
    match (status.success(), content.len() as u64 > LARGEST) {
        (true, false) => Ok(Some(content)),
        (true, true) => Err("an object of that commit is too large".to_owned()),
        (false, _) => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables<'a>(known: &'a [(&'a str, &'a str)]) -> impl Fn(&str) -> Option<String> + 'a {
        |name| known.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
    }

    #[test]
    fn a_pull_request_is_told_whole() {
        let sha = "a".repeat(40);
        let known = [
            ("GITHUB_ACTIONS", "true"),
            ("GITHUB_JOB", "build"),
            ("GITHUB_REPOSITORY", "o/r"),
            ("GITHUB_WORKFLOW_REF", "o/r/.github/workflows/ci.yml@refs/pull/7/merge"),
            ("GITHUB_WORKFLOW_SHA", &sha),
            ("GITHUB_REF", "refs/pull/7/merge"),
            ("GITHUB_SHA", "short"),
            ("GITHUB_RUN_ID", ""),
        ];
        let variable = variables(&known);
        assert!(is_here(&variable));
        let job = job(Path::new("/"), Path::new("/root"), 1001, &variable);
        let pipeline = job.pipeline.unwrap();
        assert_eq!(job.name, "build");
        assert_eq!(pipeline.workflow.as_deref(), Some(".github/workflows/ci.yml"));
        assert_eq!(pipeline.pull_request, Some(7));
        assert_eq!((pipeline.commit, pipeline.run), (None, None), "what is odd or empty is absent");
        assert!(workflow_path("o/r/.github/workflows/../../x@main").is_none());
    }

    #[test]
    fn the_committed_file_counts_before_the_one_in_the_tree() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let git = |arguments: &[&str]| {
            let output = Command::new("git")
                .args(["-c", "user.name=a", "-c", "user.email=a@b.example", "-C"])
                .arg(root)
                .args(arguments)
                .output()
                .unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let file = root.join(".github/workflows/ci.yml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(&file, "jobs: {build: {steps: [{run: make}]}}\n").unwrap();
        git(&["init", "-q"]);
        git(&["add", "."]);
        git(&["commit", "-qm", "x"]);
        let sha = git(&["rev-parse", "HEAD"]);
        std::fs::write(&file, "jobs: {build: {steps: [{run: curl evil.example}]}}\n").unwrap();
        let known = [
            ("GITHUB_JOB", "build"),
            ("GITHUB_WORKFLOW_REF", "o/r/.github/workflows/ci.yml@refs/heads/main"),
            ("GITHUB_WORKFLOW_SHA", sha.as_str()),
        ];
        let uid = nix::unistd::geteuid().as_raw();
        let told = |known: &[(&str, &str)]| match workflow(&job(root, root, uid, &variables(known))) {
            Some(Fact::Workflow { text, origin, .. }) => (origin, text.contains("make")),
            other => panic!("{other:?}"),
        };
        assert_eq!(told(&known), ("commit".to_owned(), true));
        // Whatever is put under an object's name is not the object.
        let name = git(&["rev-parse", &format!("{sha}:.github/workflows/ci.yml")]);
        let forged = git(&["hash-object", "-w", ".github/workflows/ci.yml"]);
        let object = |id: &str| root.join(".git/objects").join(&id[..2]).join(&id[2..]);
        let honest = std::fs::read(object(&name)).unwrap();
        std::fs::remove_file(object(&name)).unwrap();
        std::fs::copy(object(&forged), object(&name)).unwrap();
        let found = committed(root, &sha, ".github/workflows/ci.yml", uid);
        assert!(
            matches!(&found, Committed::Unknown(why) if why.contains("not what its name says")),
            "{found:?}"
        );
        assert_eq!(told(&known), ("tree".to_owned(), false));
        std::fs::remove_file(object(&name)).unwrap();
        std::fs::write(object(&name), honest).unwrap();
        for (path, expected) in [
            (".github/workflows/other.yml", Committed::Absent),
            ("nowhere/x", Committed::Absent),
            (
                ".github/workflows",
                Committed::Unknown(".github/workflows is no plain file in that commit".to_owned()),
            ),
        ] {
            assert_eq!(committed(root, &sha, path, uid), expected, "{path}");
        }
        // Without a commit there is only the tree; without a path the one file with this job.
        assert_eq!(told(&known[..2]), ("tree".to_owned(), false));
        assert_eq!(told(&known[..1]), ("tree".to_owned(), false));
        // The commit that the job works on has the workflow, too.
        let commit = [&known[..1], &[("GITHUB_SHA", sha.as_str())]].concat();
        assert_eq!(told(&commit), ("commit".to_owned(), true));
        // The tree may be a stranger's.
        let none = "0".repeat(40);
        let target = [
            &known[..2],
            &[
                ("GITHUB_EVENT_NAME", "pull_request_target"),
                ("GITHUB_WORKFLOW_SHA", none.as_str()),
                ("GITHUB_SHA", sha.as_str()),
            ],
        ]
        .concat();
        assert!(workflow(&job(root, root, uid, &variables(&target))).is_none());
    }
}
