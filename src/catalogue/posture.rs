//! The checks of a host's security state: data in `catalogue/posture/`, one file per group.
//!
//! What a check of the data says:
//!
//! - `read`: how a path becomes a value. `text`: the trimmed text (kernel settings). `content`: a digest with the
//!   permission bits and the owner. `names`: the first word of each line. `lines`: `name:rest` lines, each name with a
//!   digest of the rest. `node`: type, permission bits and owner alone. `set-id`: files with a set-user-id or
//!   set-group-id bit. `folders`: those of `$PATH`.
//! - `private`: the files may hold secrets; their digests are keyed anew in each run and compare only within it.
//! - `skip`: how names end that nothing ever runs or reads: git puts samples of its hooks into every clone.
//! - `weak`: an object whose value matches is weak as it stands; with `weak-text` if the file's text matches, with
//!   `lacks-text` if it does not.
//! - `static`: only weak or not; another check tells of changes to the same files.
//! - `applies`: where the check can fail through what people there can change; elsewhere it is not made.
//! - `harden`: what `posture --harden` does about a weak object: `write` a text, or `take` these permission bits away.

use std::sync::LazyLock;

use globset::{GlobSet, GlobSetBuilder};
use regex::Regex;
use serde::Deserialize;

use crate::finding::Severity;

/// How a path becomes objects with values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// The trimmed text.
    Text,
    /// A digest with the permission bits and the owner.
    Content,
    /// The first word of each line.
    Names,
    /// `name:rest` lines: each name with a digest of the rest.
    Lines,
    /// Type, permission bits and owner alone.
    Node,
    /// Files with a set-user-id or set-group-id bit.
    SetId,
    /// The folders of `$PATH`.
    Folders,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    id: String,
    #[serde(default)]
    also_group: Option<String>,
    title: String,
    rationale: String,
    severity: String,
    tags: Vec<String>,
    read: Reading,
    paths: Vec<String>,
    #[serde(default)]
    private: bool,
    #[serde(default)]
    weak: Option<String>,
    #[serde(default)]
    weak_text: Option<String>,
    #[serde(default)]
    lacks_text: Option<String>,
    #[serde(default)]
    applies: Option<Vec<Place>>,
    #[serde(default)]
    harden: Option<Harden>,
    #[serde(default)]
    skip: Option<String>,
    #[serde(default, rename = "static")]
    is_static: bool,
    remedy: String,
}

/// What kind of machine a job runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A provider's, made anew for each job.
    Hosted,
    /// A runner of one's own.
    SelfHosted,
    Container,
    /// Somebody's desk.
    Workstation,
}

impl Place {
    pub const ALL: [Self; 4] = [Self::Hosted, Self::SelfHosted, Self::Container, Self::Workstation];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hosted => "hosted",
            Self::SelfHosted => "self-hosted",
            Self::Container => "container",
            Self::Workstation => "workstation",
        }
    }
}

/// What is done about a weak object, and can be undone.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Harden {
    /// Write this text into it.
    Write(String),
    /// Take these permission bits away, in octal.
    Take(String),
}

/// One check: what is looked at, and when it is weak.
#[derive(Debug)]
pub struct Check {
    /// As a policy names it: `sudoers`.
    pub id: String,
    /// `posture-sudoers`: the rule of a finding that `posture.require` asks for.
    pub rule: String,
    /// `kernel`, `accounts` …: the file it stands in.
    pub group: String,
    /// The group that policies knew it by before.
    pub also_group: Option<String>,
    /// What it is about; for a check that can be weak, what is wrong then.
    pub title: String,
    /// Why it matters.
    pub rationale: String,
    pub severity: Severity,
    pub applies: Vec<Place>,
    pub harden: Option<Harden>,
    /// CIS sections, OWASP items, ATT&CK techniques.
    pub tags: Vec<String>,
    pub read: Reading,
    /// Globs; `~/` is each home, `./` the workspace.
    pub paths: Vec<String>,
    /// The files may hold secrets: digests are keyed anew in each run.
    pub private: bool,
    /// How names of files end that nothing ever runs or reads.
    pub skip: Option<String>,
    /// Only weak or not: another check tells of changes to the same files.
    pub is_static: bool,
    pub remedy: String,
    weak: Option<Regex>,
    weak_text: Option<Regex>,
    lacks_text: Option<Regex>,
}

/// What a value ends with when the text behind it is weak, since the text itself is not kept.
pub const WEAK: &str = " weak";

impl Check {
    /// Whether there is a state in which this check fails; one without can only drift.
    pub fn can_be_weak(&self) -> bool {
        self.weak.is_some() || self.weak_text.is_some() || self.lacks_text.is_some()
    }

    /// Whether an object with this value is weak as it stands.
    pub fn is_weak(&self, value: &str) -> bool {
        self.weak.as_ref().is_some_and(|weak| weak.is_match(value)) || value.ends_with(WEAK)
    }

    /// Whether a file with this text is weak; for whoever reads it.
    pub fn is_weak_text(&self, text: &str) -> bool {
        self.weak_text.as_ref().is_some_and(|weak| weak.is_match(text))
            || self.lacks_text.as_ref().is_some_and(|strong| !strong.is_match(text))
    }
}

/// A group and its data.
macro_rules! groups {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("posture/", $name, ".yml")))),*] };
}

/// In the order in which they are shown.
const GROUPS: &[(&str, &str)] = groups![
    "kernel", "accounts", "login", "network", "services", "files", "runtime", "packages", "git", "runner",
    "agents",
];

static CHECKS: LazyLock<Vec<Check>> = LazyLock::new(|| {
    let of = |(group, text): &(&str, &str)| {
        let entries: Vec<Entry> =
            serde_saphyr::from_str(text).unwrap_or_else(|error| panic!("posture/{group}.yml: {error}"));
        entries.into_iter().map(|entry| check_of(group, entry)).collect::<Vec<_>>()
    };
    GROUPS.iter().flat_map(of).collect()
});

fn check_of(group: &str, entry: Entry) -> Check {
    let pattern = |text: Option<String>| {
        text.map(|text| Regex::new(&text).unwrap_or_else(|error| panic!("posture/{group}.yml: {error}")))
    };
    Check {
        rule: format!("posture-{}", entry.id),
        severity: Severity::ALL
            .into_iter()
            .find(|severity| severity.as_str() == entry.severity)
            .unwrap_or_else(|| panic!("posture/{group}.yml: {} has no severity", entry.id)),
        id: entry.id,
        group: group.to_owned(),
        also_group: entry.also_group,
        title: entry.title,
        rationale: entry.rationale,
        applies: entry.applies.unwrap_or_else(|| Place::ALL.to_vec()),
        harden: entry.harden,
        tags: entry.tags,
        read: entry.read,
        paths: entry.paths,
        private: entry.private,
        skip: entry.skip,
        is_static: entry.is_static,
        remedy: entry.remedy,
        weak: pattern(entry.weak),
        weak_text: pattern(entry.weak_text),
        lacks_text: pattern(entry.lacks_text),
    }
}

/// How a check came out where it was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// It can fail here and did not.
    Holds,
    Weak,
    /// It can't fail as such: a run tells when what it looks at changes.
    Watched,
    /// Nothing of it is on this host.
    Absent,
    /// It was not read whole, and what was read is fine.
    Unread,
}

/// How a check came out that found these values.
pub fn outcome<'v>(
    check: &Check,
    mut values: impl Iterator<Item = &'v str>,
    looked_at: u64,
    has_problem: bool,
) -> Outcome {
    if values.any(|value| check.is_weak(value)) {
        Outcome::Weak
    } else if has_problem {
        Outcome::Unread
    } else if looked_at == 0 {
        Outcome::Absent
    } else if check.can_be_weak() {
        Outcome::Holds
    } else {
        Outcome::Watched
    }
}

/// How much of what can fail holds: points by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Score {
    pub held: u32,
    pub possible: u32,
}

impl Score {
    /// Takes one check in. What can't fail here and what could not be read count neither way.
    pub fn add(&mut self, severity: Severity, outcome: Outcome) {
        let points = match severity {
            Severity::Low => 1,
            Severity::Medium => 2,
            Severity::High => 4,
            Severity::Critical => 8,
        };
        match outcome {
            Outcome::Holds => {
                self.held += points;
                self.possible += points;
            }
            Outcome::Weak => self.possible += points,
            Outcome::Watched | Outcome::Absent | Outcome::Unread => {}
        }
    }

    /// From 0 to 100, rounded down; `None` where nothing could fail.
    pub fn percent(self) -> Option<u32> {
        (self.held * 100).checked_div(self.possible)
    }
}

/// Every check, in the order of the table.
pub fn checks() -> &'static [Check] {
    &CHECKS
}

/// The check with this id.
pub fn check(id: &str) -> Option<&'static Check> {
    CHECKS.iter().find(|check| check.id == id)
}

/// The globs of a check for these homes and this workspace.
pub fn places(check: &Check, homes: &[String], workspace: &str) -> Vec<String> {
    check.paths.iter().flat_map(|path| super::places(path, homes, workspace)).collect()
}

/// The files that any check looks at: whoever writes one may have to answer for it.
#[derive(Debug, Default)]
pub struct Watched {
    globs: GlobSet,
    /// Whose each glob is.
    owners: Vec<&'static Check>,
}

impl Watched {
    /// For a host with these homes, and a job in this workspace.
    pub fn new(homes: &[String], workspace: &str) -> Self {
        let mut set = GlobSetBuilder::new();
        let mut owners = Vec::new();
        // Of what is only weak or not, nobody asks who wrote it.
        for check in checks().iter().filter(|check| !check.is_static) {
            for place in places(check, homes, workspace) {
                if let Ok(glob) = crate::commands::path_glob(&place) {
                    set.add(glob);
                    owners.push(check);
                }
            }
        }
        Self { globs: set.build().unwrap_or_default(), owners }
    }

    /// Whether a check looks at the file with this real path.
    pub fn has(&self, path: &str) -> bool {
        self.globs.is_match(path)
    }

    /// The checks that look at it, in the order of the table.
    pub fn checks(&self, path: &str) -> Vec<&'static Check> {
        let mut checks: Vec<&'static Check> = Vec::new();
        for index in self.globs.matches(path) {
            let Some(check) = self.owners.get(index) else { continue };
            let is_meant = check.skip.as_deref().is_none_or(|end| !path.ends_with(end));
            if is_meant && !checks.iter().any(|known| known.id == check.id) {
                checks.push(check);
            }
        }
        checks
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_check_can_be_told_apart_and_says_what_to_do() {
        assert!(checks().len() >= 60, "{}", checks().len());
        let ids: BTreeSet<&str> = checks().iter().map(|check| check.id.as_str()).collect();
        assert_eq!(ids.len(), checks().len());
        for check in checks() {
            assert!(check.remedy.ends_with('.') && !check.tags.is_empty(), "{}", check.id);
            assert!(!check.title.is_empty() && (check.can_be_weak() || !check.is_static), "{}", check.id);
            assert!(check.rationale.ends_with('.') && !check.applies.is_empty(), "{}", check.id);
            assert!(check.harden.is_none() || check.can_be_weak(), "{}", check.id);
            // `group:object` in a policy must not be taken for a check.
            assert!(!check.id.contains(':') && !check.group.contains(':'), "{}", check.id);
        }
    }

    #[test]
    fn weak_is_told_from_strong() {
        for (id, weak, strong) in [
            ("ptrace-scope", "0", "1"),
            ("unprivileged-bpf", "0", "2"),
            ("lockdown", "[none] integrity confidentiality", "none [integrity] confidentiality"),
            ("docker-socket", "socket 660 0:999", "absent"),
            ("search-path", "folder 777 0:0", "folder 755 0:0"),
        ] {
            let check = check(id).unwrap();
            assert!(check.is_weak(weak) && !check.is_weak(strong), "{id}");
        }
        let sudo = check("passwordless-sudo").unwrap();
        assert!(sudo.is_weak_text("a\nrunner ALL=(ALL) NOPASSWD:ALL\n"));
        assert!(!sudo.is_weak_text("# runner ALL=(ALL) NOPASSWD:ALL\nroot ALL=(ALL) ALL\n"));
        let token = check("persisted-credentials").unwrap();
        assert!(token.is_weak_text("[http]\n\textraheader = AUTHORIZATION: basic x\n"));
        assert!(token.is_weak_text("url = https://a:b@git.example/x"));
        assert!(!token.is_weak_text("[remote]\n\turl = https://git.example/x\n"));
    }

    #[test]
    fn points_are_by_severity_and_only_for_what_can_fail() {
        let mut score = Score::default();
        assert_eq!(score.percent(), None);
        score.add(Severity::High, Outcome::Holds);
        for outcome in [Outcome::Watched, Outcome::Absent, Outcome::Unread] {
            score.add(Severity::Critical, outcome);
        }
        assert_eq!(score.percent(), Some(100));
        score.add(Severity::Medium, Outcome::Weak);
        assert_eq!((score.held, score.possible, score.percent()), (4, 6, Some(66)));
    }

    #[test]
    fn the_folder_and_the_list_of_groups_are_the_same() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/catalogue/posture");
        let files: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap().replace(".yml", ""))
            .collect();
        assert_eq!(files, GROUPS.iter().map(|(name, _)| (*name).to_owned()).collect());
    }

    #[test]
    fn a_watched_file_is_known_in_every_home() {
        let watched = Watched::new(&["/root".into(), "/home/u".into()], "/w");
        for path in ["/etc/sudoers.d/x", "/home/u/.npmrc", "/root/.bashrc", "/w/.git/hooks/pre-commit"] {
            assert!(watched.has(path), "{path}");
        }
        for path in ["/w/src/main.rs", "/home/u/.cache/x", "/w/.npmrc", "/etc/sudoers.d/a/b"] {
            assert!(!watched.has(path), "{path}");
        }
        let ids = |path| watched.checks(path).iter().map(|check| check.id.as_str()).collect::<Vec<_>>();
        assert_eq!(ids("/etc/sudoers.d/x"), ["sudoers"]);
        assert_eq!(ids("/w/.git/hooks/pre-commit"), ["git-hooks"]);
        assert!(ids("/w/.git/hooks/pre-commit.sample").is_empty());
    }
}
