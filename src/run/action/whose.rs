//! Whose policy holds: the base branch's on pull requests, else the workflow's commit's; an organisation's on top.
//!
//! What the job's own tree allows never counts by itself where somebody else should have reviewed it first.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::finding::{FailOn, Severity};
use crate::policy::{self, Policy, Role};
use crate::run::{Error, POLICY_FILE};
use crate::runners::github::{Committed, committed};

use super::inputs::Inputs;

/// The policy of this runner's owner, which no repository can loosen.
const OF_THE_MACHINE: &str = "/etc/edamame-guard/policy.yml";

/// Reads a file of a repository at a commit or branch; `None`: there is none.
pub(super) type Ask<'a> = &'a dyn Fn(&str, &str, &str) -> Result<Option<String>, String>;

/// Where the workflow stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Origin {
    pub repository: String,
    /// The commit whose policy holds.
    pub commit: String,
    /// A pull request's base, so that the tree is somebody's proposal.
    pub is_pull_request: bool,
    /// Its head is in another repository.
    pub is_fork: bool,
}

impl Origin {
    /// From the runner's variables and the text of the event.
    pub(super) fn read(environment: impl Fn(&str) -> Option<String>, event: &str) -> Self {
        let text = |name: &str| environment(name).unwrap_or_default();
        let repository = text("GITHUB_REPOSITORY");
        let event: serde_json::Value = serde_json::from_str(event).unwrap_or_default();
        let base = &event["pull_request"]["base"];
        if let Some(commit) = base["sha"].as_str()
            && text("GITHUB_EVENT_NAME").starts_with("pull_request")
        {
            let full_name = |side: &serde_json::Value| side["repo"]["full_name"].as_str().map(str::to_owned);
            let head = full_name(&event["pull_request"]["head"]);
            return Self {
                // A head whose repository is gone is a fork's as well.
                is_fork: head.is_none() || head != full_name(base),
                repository: full_name(base).unwrap_or(repository),
                commit: commit.to_owned(),
                is_pull_request: true,
            };
        }
        // A workflow that an organisation requires lies in another repository, and so does its commit.
        let is_own = text("GITHUB_WORKFLOW_REF").starts_with(&format!("{repository}/"));
        let commit = Some(text("GITHUB_WORKFLOW_SHA")).filter(|commit| is_own && !commit.is_empty());
        Self {
            commit: commit.unwrap_or_else(|| text("GITHUB_SHA")),
            repository,
            is_pull_request: false,
            is_fork: false,
        }
    }
}

/// What holds, and what to tell about it.
#[derive(Debug)]
pub(super) struct Decided {
    pub policy: Policy,
    /// One line for the log.
    pub said: String,
    /// Worth an annotation.
    pub notices: Vec<String>,
    /// Nothing is checked out yet and nobody could be asked: look again when the job is over.
    pub is_open: bool,
}

/// When it is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Before the job's steps.
    Early,
    /// After them: what lies in the tree is the job's own work, and only git's objects are what they were.
    Late,
}

/// A file as it stands in one place.
#[derive(Debug)]
enum Copy {
    Found(String),
    Absent,
    /// Nobody could be asked, and why.
    Unknown(String),
}

/// Decides. `ask` is the provider's API, where there is one to ask.
pub(super) fn decide(
    inputs: &Inputs,
    origin: &Origin,
    workspace: &Path,
    ask: Option<Ask<'_>>,
    moment: Moment,
) -> Result<Decided, Error> {
    let mut decided = match inputs.policy.as_deref() {
        Some(text) if is_text(text) && !origin.is_fork => {
            let policy = Policy::parse(text, "inline").map_err(Error::Policy)?;
            let said = "policy: the workflow's own text".to_owned();
            Decided { policy, said, notices: Vec::new(), is_open: false }
        }
        Some(path) if !is_text(path) => of_the_repository(path, true, origin, workspace, ask, moment)?,
        _ => of_the_repository(POLICY_FILE, false, origin, workspace, ask, moment)?,
    };
    if origin.is_fork {
        // The workflow is the pull request's too, so what it says here can only add.
        if let Some(text) = inputs.policy.as_deref().filter(|text| is_text(text)) {
            let policy = Policy::parse(text, "inline").map_err(Error::Policy)?;
            decided.policy = decided.policy.beside(Role::Input, "inline", policy);
        }
        let base = decided.policy.fail_on().unwrap_or(FailOn::From(if decided.policy.is_absent() {
            Severity::High
        } else {
            Severity::Medium
        }));
        decided.policy = decided.policy.at_most(base);
    }
    if !inputs.allowed_endpoints.is_empty() {
        let policy = endpoints(&inputs.allowed_endpoints)?;
        decided.policy = if decided.policy.is_absent() && !origin.is_fork {
            policy
        } else {
            decided.policy.beside(Role::Input, ENDPOINTS, policy)
        };
    }
    for (origin, text) in organisations(inputs, Path::new(OF_THE_MACHINE), ask)? {
        let policy = Policy::parse(&text, &origin).map_err(Error::Policy)?;
        decided.said = format!("{}; tightened by {origin}", decided.said);
        decided.policy = decided.policy.beside(Role::Organisation, &origin, policy);
    }
    Ok(decided)
}

/// A text has lines or keys; a path has neither.
fn is_text(policy: &str) -> bool {
    policy.contains('\n') || policy.contains(": ") || policy.starts_with('{')
}

fn of_the_repository(
    path: &str,
    is_named: bool,
    origin: &Origin,
    workspace: &Path,
    ask: Option<Ask<'_>>,
    moment: Moment,
) -> Result<Decided, Error> {
    let path = path.trim_start_matches("./");
    let refuse = |message: String| Error::Refused(message);
    if path.starts_with('/') || path.split('/').any(|part| matches!(part, ".." | "")) {
        return Err(refuse(format!("policy: `{path}` is not a path of this repository")));
    }
    let short: String = origin.commit.chars().take(7).collect();
    let reviewed = reviewed(path, origin, workspace, ask);
    let tree = in_tree(workspace, path)
        .map_err(|source| Error::PolicyFile { path: workspace.join(path), source })?;
    let parse = |text: &str| Policy::parse(text, path).map_err(Error::Policy);
    let is_checkout = workspace.join(".git").exists();
    if let (Copy::Unknown(why), None, Moment::Early) = (&reviewed, &tree, moment)
        && !is_checkout
    {
        let said = format!(
            "policy: none yet ({why}); {path} is looked for again in git's objects when the job is over"
        );
        return Ok(Decided { policy: Policy::absent(), said, notices: Vec::new(), is_open: true });
    }
    let mut notices = Vec::new();
    let (policy, said) = match (&reviewed, &tree) {
        (Copy::Found(text), tree) => {
            let mut policy = parse(text)?;
            match tree {
                Some(tree) if tree != text => policy = policy.beside(Role::Proposed, path, parse(tree)?),
                None if is_checkout => policy = policy.beside(Role::Proposed, path, Policy::absent()),
                _ => {}
            }
            let whose = if origin.is_pull_request { "the base branch" } else { "this workflow" };
            (policy, format!("policy: {path} of {whose}, commit {short}"))
        }
        (Copy::Absent | Copy::Unknown(_), Some(tree)) if origin.is_pull_request => {
            let why = match &reviewed {
                Copy::Unknown(why) => format!("the base branch's could not be read: {why}"),
                _ => "the base branch has none".to_owned(),
            };
            notices.push(format!(
                "Unreviewed policy: what {path} of this pull request allows does not count, only what it denies; {why}."
            ));
            let policy = Policy::absent().beside(Role::Unreviewed, path, parse(tree)?);
            (policy, format!("policy: what {path} of the pull request denies"))
        }
        (Copy::Unknown(why), Some(tree)) if moment == Moment::Late => {
            notices.push(format!(
                "Unreviewed policy: {path} could be read from the job's tree alone, and only when the job was over ({why}). So only what it denies counts."
            ));
            let policy = Policy::absent().beside(Role::Unreviewed, path, parse(tree)?);
            (policy, format!("policy: what {path} of the tree denies"))
        }
        (Copy::Unknown(_), Some(tree)) => (parse(tree)?, format!("policy: {path} of the checkout")),
        // Nothing at the commit, and something in the tree: the job's own work, or another commit's.
        (Copy::Absent, Some(tree)) => {
            notices.push(format!(
                "Unreviewed policy: {path} is not in commit {short} of this workflow but in the job's tree, so only what it denies counts."
            ));
            let policy = Policy::absent().beside(Role::Unreviewed, path, parse(tree)?);
            (policy, format!("policy: what {path} of the tree denies"))
        }
        (_, None) if is_named => {
            let why = match reviewed {
                Copy::Unknown(why) => format!(" ({why})"),
                _ => String::new(),
            };
            return Err(refuse(format!("policy: there is no {path} in commit {short}{why}")));
        }
        (Copy::Unknown(why), None) if !is_checkout => {
            notices.push(format!(
                "{path} could not be read ({why}). Give the job `contents: read`, or put this step after the checkout; recording began before both."
            ));
            (Policy::absent(), "policy: none".to_owned())
        }
        (_, None) => {
            let text = format!(
                "policy: none. There is no {path}, so each step is compared with its own text; the job's summary ends with a policy to start from"
            );
            (Policy::absent(), text)
        }
    };
    Ok(Decided { policy, said, notices, is_open: false })
}

/// The copy that somebody reviewed: by the API, else from git's objects.
fn reviewed(path: &str, origin: &Origin, workspace: &Path, ask: Option<Ask<'_>>) -> Copy {
    if origin.commit.is_empty() {
        return Copy::Unknown("the runner names no commit".to_owned());
    }
    let refusal = match ask.map(|ask| ask(&origin.repository, path, &origin.commit)) {
        Some(Ok(Some(text))) => return Copy::Found(text),
        Some(Ok(None)) => return Copy::Absent,
        Some(Err(reason)) => reason,
        None => "there is no token to ask GitHub with".to_owned(),
    };
    match in_objects(workspace, path, &origin.commit) {
        Copy::Unknown(reason) => Copy::Unknown(format!("{refusal}; {reason}")),
        copy => copy,
    }
}

/// The file at a commit, from the objects of the checkout.
fn in_objects(workspace: &Path, path: &str, commit: &str) -> Copy {
    let uid = super::person().map_or_else(|| nix::unistd::geteuid().as_raw(), |(user, _)| user);
    match committed(workspace, commit, path, uid) {
        Committed::Found(text) if text.len() > policy::LARGEST => {
            Copy::Unknown(format!("{path} is too large in that commit"))
        }
        Committed::Found(text) => Copy::Found(text),
        Committed::Absent => Copy::Absent,
        Committed::Unknown(why) => Copy::Unknown(why),
    }
}

/// The file as it lies in the tree; nothing that a link leads to outside of it.
fn in_tree(workspace: &Path, path: &str) -> io::Result<Option<String>> {
    let Ok(folder) = File::open(workspace) else { return Ok(None) };
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = match openat2(&folder, path, how) {
        Ok(file) => File::from(file),
        Err(nix::errno::Errno::ENOENT | nix::errno::Errno::ENOTDIR) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    whole(file).map(Some)
}

fn whole(file: File) -> io::Result<String> {
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file"));
    }
    let limit = policy::LARGEST as u64;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > limit {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("it has more than {limit} bytes")));
    }
    String::from_utf8(bytes).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

const ENDPOINTS: &str = "allowed-endpoints";

/// harden-runner's lines as a policy.
fn endpoints(hosts: &[String]) -> Result<Policy, Error> {
    use std::fmt::Write as _;
    let mut text = "version: 1\ndefaults:\n  network:\n    allow:\n".to_owned();
    for host in hosts {
        // A word without a dot or colon would name a group of ours.
        if !host.contains([':', '.']) {
            return Err(Error::Refused(format!("allowed-endpoints: `{host}` is no host; write host:port")));
        }
        let quoted = serde_json::to_string(host).unwrap_or_default();
        let _ = writeln!(text, "      - {quoted}");
    }
    Policy::parse(&text, ENDPOINTS).map_err(Error::Policy)
}

/// The policies that can only tighten, each with where it is from. One that can't be read ends the job.
fn organisations(
    inputs: &Inputs,
    of_the_machine: &Path,
    ask: Option<Ask<'_>>,
) -> Result<Vec<(String, String)>, Error> {
    let mut all = Vec::new();
    if crate::run::is_taken(of_the_machine) {
        let fail = |source| Error::PolicyFile { path: of_the_machine.to_owned(), source };
        let about = std::fs::symlink_metadata(of_the_machine).map_err(fail)?;
        let is_roots = about.uid() == 0 && about.permissions().mode() & 0o022 == 0 && about.is_file();
        if !is_roots {
            return Err(fail(io::Error::other("it is not a plain file that root alone can write")));
        }
        let text = File::open(of_the_machine).and_then(whole).map_err(fail)?;
        all.push((of_the_machine.to_string_lossy().into_owned(), text));
    }
    if let Some(wanted) = &inputs.organisation_policy {
        let refuse = |why: &str| Error::Refused(format!("organisation-policy: {wanted}: {why}"));
        let (place, reference) =
            wanted.rsplit_once('@').ok_or_else(|| refuse("it is not owner/repo/path@ref"))?;
        let mut parts = place.splitn(3, '/');
        let (Some(owner), Some(repository), Some(path)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(refuse("it is not owner/repo/path@ref"));
        };
        if [owner, repository, path, reference].contains(&"") {
            return Err(refuse("it is not owner/repo/path@ref"));
        }
        let ask = ask.ok_or_else(|| refuse("there is no token to read it with"))?;
        let text = ask(&format!("{owner}/{repository}"), path, reference)
            .map_err(|reason| refuse(&reason))?
            .ok_or_else(|| refuse("there is no such file, or the token may not read it"))?;
        all.push((wanted.clone(), text));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::process::Command;

    const ALLOWS: &str =
        "version: 1\ndefaults: {network: {allow: [\"a.example:443\"], deny: [\"d.example:443\"]}}\n";
    const EDITED: &str =
        "version: 1\nfail-on: none\ndefaults: {network: {allow: any, deny: [\"e.example:443\"]}}\n";

    struct Place(tempfile::TempDir);

    impl Place {
        fn new() -> Self {
            let place = Self(tempfile::tempdir().unwrap());
            place.git(&["init", "-q"]);
            place
        }

        fn git(&self, words: &[&str]) -> String {
            let output = Command::new("git")
                .args(["-c", "user.name=a", "-c", "user.email=a@example.com", "-C"])
                .arg(self.0.path())
                .args(words)
                .output()
                .unwrap();
            assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        }

        fn write(&self, text: &str) {
            fs::create_dir_all(self.0.path().join(".github")).unwrap();
            fs::write(self.0.path().join(POLICY_FILE), text).unwrap();
        }

        fn commit(&self) -> String {
            self.git(&["add", "-A"]);
            self.git(&["commit", "-q", "--allow-empty", "-m", "x"]);
            self.git(&["rev-parse", "HEAD"])
        }
    }

    fn inputs(given: &[(&str, &str)]) -> Inputs {
        let read = |name: &str| {
            let found = given.iter().find(|(own, _)| format!("INPUT_{}", own.to_uppercase()) == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        Inputs::read(read, Path::new("/w"), Path::new("/t")).unwrap()
    }

    fn on(commit: &str, is_pull_request: bool, is_fork: bool) -> Origin {
        Origin { repository: "o/r".to_owned(), commit: commit.to_owned(), is_pull_request, is_fork }
    }

    /// `a.example`, `d.example`, `e.example`, `x.example`: `+` allowed, `-` denied, `.` not listed, ` ` unrestricted.
    fn judged(policy: &Policy) -> String {
        use crate::event::Transport;
        use crate::policy::{Peer, Places, Ruling};
        // What is applied is read back from the lock, in a replay and in the recorder alike.
        let policy = Policy::parse(&policy.lock(), "lock").unwrap();
        let rules = policy.rules(&crate::job::StepKey("a/b".to_owned()), None, &Places::default());
        ["a", "d", "e", "x"]
            .map(|name| {
                let names = [format!("{name}.example")];
                let address = "203.0.113.7:443".parse().unwrap();
                match rules.network(&Peer { address, names: &names, transport: Transport::Tcp }) {
                    Ruling::Unrestricted => ' ',
                    Ruling::Allowed(_) => '+',
                    Ruling::Denied(_) => '-',
                    Ruling::Unlisted(_) => '.',
                }
            })
            .iter()
            .collect()
    }

    #[test]
    fn what_can_be_read_only_when_the_job_is_over_is_read_from_the_commit_alone() {
        let place = Place::new();
        place.write(ALLOWS);
        let commit = place.commit();
        let empty = tempfile::tempdir().unwrap();
        for given in [&[][..], &[("policy", ".github/guard.yml")]] {
            let decided =
                decide(&inputs(given), &on(&commit, false, false), empty.path(), None, Moment::Early);
            let decided = decided.unwrap();
            assert!(decided.is_open && decided.notices.is_empty(), "{decided:?}");
            // The job has changed its copy since.
            place.write(EDITED);
            let late = decide(&inputs(given), &on(&commit, false, false), place.0.path(), None, Moment::Late);
            let late = late.unwrap();
            assert_eq!((late.is_open, judged(&late.policy)), (false, "+--.".to_owned()), "{late:?}");
            assert_eq!(late.policy.fail_on(), None);
        }
        // Without the commit nothing that the tree allows counts any more.
        let none = "0".repeat(40);
        let late =
            decide(&inputs(&[]), &on(&none, false, false), place.0.path(), None, Moment::Late).unwrap();
        assert_eq!(judged(&late.policy), "  - ", "{late:?}");
        assert!(late.notices[0].starts_with("Unreviewed policy: "), "{:?}", late.notices);
        let late = decide(&inputs(&[]), &on(&none, false, false), empty.path(), None, Moment::Late).unwrap();
        assert!(late.notices[0].contains("contents: read"), "{:?}", late.notices);
        let named = [("policy", ".github/guard.yml")];
        assert!(decide(&inputs(&named), &on(&none, false, false), empty.path(), None, Moment::Late).is_err());
    }

    #[test]
    fn on_a_pull_request_the_bases_policy_holds_and_the_heads_denies_are_added() {
        let place = Place::new();
        place.write(ALLOWS);
        let base = place.commit();
        place.write(EDITED);
        place.commit();
        let decided =
            decide(&inputs(&[]), &on(&base, true, false), place.0.path(), None, Moment::Early).unwrap();
        assert_eq!(judged(&decided.policy), "+--.");
        assert_eq!(decided.policy.of_the_tree(), Some((Role::Proposed, POLICY_FILE, false)));
        assert!(decided.notices.is_empty(), "{:?}", decided.notices);
        // An unchanged copy is nobody's proposal.
        place.write(ALLOWS);
        let decided =
            decide(&inputs(&[]), &on(&base, true, false), place.0.path(), None, Moment::Early).unwrap();
        assert_eq!((judged(&decided.policy).as_str(), decided.policy.of_the_tree()), ("+-..", None));
        // A removed one is.
        fs::remove_file(place.0.path().join(POLICY_FILE)).unwrap();
        let decided =
            decide(&inputs(&[]), &on(&base, true, false), place.0.path(), None, Moment::Early).unwrap();
        assert_eq!(judged(&decided.policy), "+-..");
        assert_eq!(decided.policy.of_the_tree(), Some((Role::Proposed, POLICY_FILE, true)));
    }

    #[test]
    fn without_a_reviewed_copy_nothing_is_allowed_by_the_tree() {
        let place = Place::new();
        place.write(ALLOWS);
        place.commit();
        for commit in ["", &"0".repeat(40)] {
            let decided =
                decide(&inputs(&[]), &on(commit, true, false), place.0.path(), None, Moment::Early).unwrap();
            assert_eq!(judged(&decided.policy), " -  ");
            assert_eq!(decided.policy.of_the_tree(), Some((Role::Unreviewed, POLICY_FILE, false)));
            assert!(decided.notices[0].starts_with("Unreviewed policy"), "{:?}", decided.notices);
        }
        // A push is reviewed by whoever may push.
        let decided =
            decide(&inputs(&[]), &on(&"0".repeat(40), false, false), place.0.path(), None, Moment::Early)
                .unwrap();
        assert_eq!((judged(&decided.policy).as_str(), decided.policy.of_the_tree()), ("+-..", None));
    }

    #[test]
    fn the_api_is_asked_first_and_its_failure_is_no_policy_of_the_heads() {
        let place = Place::new();
        place.write(EDITED);
        place.commit();
        let asked = |repository: &str, path: &str, reference: &str| {
            assert_eq!((repository, path, reference), ("o/r", POLICY_FILE, "abc"));
            Ok(Some(ALLOWS.to_owned()))
        };
        let decided =
            decide(&inputs(&[]), &on("abc", true, false), place.0.path(), Some(&asked), Moment::Early)
                .unwrap();
        assert_eq!(judged(&decided.policy), "+--.");
        let refused = |_: &str, _: &str, _: &str| Err("403".to_owned());
        let decided =
            decide(&inputs(&[]), &on("abc", true, false), place.0.path(), Some(&refused), Moment::Early)
                .unwrap();
        assert_eq!(judged(&decided.policy), "  - ");
        assert!(decided.notices[0].contains("403"), "{:?}", decided.notices);
    }

    #[test]
    fn a_fork_can_only_tighten() {
        let place = Place::new();
        place.write(ALLOWS);
        let base = place.commit();
        let loose =
            inputs(&[("policy", EDITED), ("fail-on", "none"), ("allowed-endpoints", "x.example:443")]);
        let decided = decide(&loose, &on(&base, true, true), place.0.path(), None, Moment::Early).unwrap();
        // What the base allows the endpoints don't, and the other way round.
        assert_eq!(judged(&decided.policy), ".--.");
        assert_eq!(decided.policy.ceiling().unwrap().as_str(), "medium");
        // The repository's own people may.
        let decided = decide(&loose, &on(&base, true, false), place.0.path(), None, Moment::Early).unwrap();
        assert_eq!((judged(&decided.policy).as_str(), decided.policy.ceiling()), ("..-+", None));
    }

    #[test]
    fn an_organisation_tightens_and_an_unreadable_one_ends_the_job() {
        let place = Place::new();
        place.write("version: 1\nfail-on: critical\ndefaults: {network: {allow: [\"a.example:443\", \"x.example:443\"]}}\n");
        let commit = place.commit();
        let ask = |repository: &str, path: &str, reference: &str| {
            if repository == "o/r" {
                return Err("not here".to_owned());
            }
            assert_eq!((repository, path, reference), ("org/policies", "ci/guard.yml", "v2"));
            Ok(Some(format!("mode: block\nfail-on: high\n{ALLOWS}")))
        };
        let wanted = inputs(&[("organisation-policy", "org/policies/ci/guard.yml@v2")]);
        let decided =
            decide(&wanted, &on(&commit, false, false), place.0.path(), Some(&ask), Moment::Early).unwrap();
        assert_eq!(judged(&decided.policy), "+-..");
        assert_eq!(decided.policy.ceiling().unwrap().as_str(), "high");
        assert_eq!(decided.policy.tightened_mode(), Some(crate::policy::Mode::Block));
        let none = |_: &str, _: &str, _: &str| Ok(None);
        let asks: [Option<Ask<'_>>; 2] = [None, Some(&none)];
        for ask in asks {
            let error =
                decide(&wanted, &on(&commit, false, false), place.0.path(), ask, Moment::Early).unwrap_err();
            assert_eq!(error.status(), 125, "{error}");
        }
        for odd in ["org/policies", "org/policies/x", "org//x@v", "@"] {
            let wanted = inputs(&[("organisation-policy", odd)]);
            assert!(
                decide(&wanted, &on(&commit, false, false), place.0.path(), Some(&ask), Moment::Early)
                    .is_err(),
                "{odd}"
            );
        }
        let theirs = place.0.path().join("policy.yml");
        fs::write(&theirs, ALLOWS).unwrap();
        fs::set_permissions(&theirs, fs::Permissions::from_mode(0o666)).unwrap();
        assert!(organisations(&inputs(&[]), &theirs, None).is_err());
    }

    #[test]
    fn a_named_policy_has_to_be_there_and_stays_in_the_tree() {
        let place = Place::new();
        let commit = place.commit();
        for path in ["missing.yml", "/etc/passwd", "../x.yml", "a//b.yml"] {
            let wanted = inputs(&[("policy", path)]);
            let error =
                decide(&wanted, &on(&commit, false, false), place.0.path(), None, Moment::Early).unwrap_err();
            assert_eq!(error.status(), 125, "{error}");
        }
        std::os::unix::fs::symlink("/etc/passwd", place.0.path().join("link.yml")).unwrap();
        assert!(in_tree(place.0.path(), "link.yml").is_err());
        let decided =
            decide(&inputs(&[]), &on(&commit, false, false), place.0.path(), None, Moment::Early).unwrap();
        assert!(decided.policy.is_absent() && decided.notices.is_empty());
        let error = decide(
            &inputs(&[("allowed-endpoints", "github")]),
            &on(&commit, false, false),
            place.0.path(),
            None,
            Moment::Early,
        );
        assert!(error.unwrap_err().to_string().contains("host:port"));
    }

    #[test]
    fn the_event_tells_base_and_fork() {
        let event = |head: &str| {
            format!(
                r#"{{"pull_request": {{"base": {{"sha": "b5", "repo": {{"full_name": "o/r"}}}}, "head": {{"sha": "h5", "repo": {head}}}}}}}"#
            )
        };
        let read = |name: &str, text: &str| {
            let variables = [
                ("GITHUB_REPOSITORY", "o/r"),
                ("GITHUB_EVENT_NAME", name),
                ("GITHUB_SHA", "c5"),
                ("GITHUB_WORKFLOW_SHA", "w5"),
                ("GITHUB_WORKFLOW_REF", "o/r/.github/workflows/a.yml@refs/heads/main"),
            ];
            let find = |name: &str| {
                variables.iter().find(|(own, _)| *own == name).map(|(_, value)| (*value).to_owned())
            };
            Origin::read(find, text)
        };
        let own = event(r#"{"full_name": "o/r"}"#);
        assert_eq!(read("pull_request", &own), on("b5", true, false));
        assert_eq!(read("pull_request_target", &event(r#"{"full_name": "m/r"}"#)), on("b5", true, true));
        assert_eq!(read("pull_request", &event("null")), on("b5", true, true));
        assert_eq!(read("push", ""), on("w5", false, false));
        assert_eq!(read("workflow_run", &own), on("w5", false, false));
        let required = |name: &str| match name {
            "GITHUB_WORKFLOW_REF" => Some("org/required/.github/workflows/a.yml@v1".to_owned()),
            "GITHUB_WORKFLOW_SHA" => Some("w5".to_owned()),
            "GITHUB_REPOSITORY" => Some("o/r".to_owned()),
            "GITHUB_SHA" => Some("c5".to_owned()),
            _ => None,
        };
        assert_eq!(Origin::read(required, "").commit, "c5");
    }
}
