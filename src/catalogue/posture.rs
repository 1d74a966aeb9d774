//! The checks of a host's security state: data in `catalogue/posture.yml`.

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
    group: String,
    title: String,
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
    skip: Option<String>,
    #[serde(default, rename = "static")]
    is_static: bool,
    remedy: String,
}

/// One check: what is looked at, and when it is weak.
#[derive(Debug)]
pub struct Check {
    /// As a policy names it: `sudoers`.
    pub id: String,
    /// `posture-sudoers`: the rule of a finding that `posture.require` asks for.
    pub rule: String,
    /// `kernel`, `accounts` …
    pub group: String,
    /// What it is about; for a check that can be weak, what is wrong then.
    pub title: String,
    pub severity: Severity,
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
}

/// What a value ends with when the text behind it is weak, since the text itself is not kept.
pub const WEAK: &str = " weak";

impl Check {
    /// Whether there is a state in which this check fails; one without can only drift.
    pub fn can_be_weak(&self) -> bool {
        self.weak.is_some() || self.weak_text.is_some()
    }

    /// Whether an object with this value is weak as it stands.
    pub fn is_weak(&self, value: &str) -> bool {
        self.weak.as_ref().is_some_and(|weak| weak.is_match(value)) || value.ends_with(WEAK)
    }

    /// Whether a file with this text is weak; for whoever reads it.
    pub fn is_weak_text(&self, text: &str) -> bool {
        self.weak_text.as_ref().is_some_and(|weak| weak.is_match(text))
    }
}

static CHECKS: LazyLock<Vec<Check>> = LazyLock::new(|| {
    let entries: Vec<Entry> = serde_saphyr::from_str(include_str!("posture.yml"))
        .unwrap_or_else(|error| panic!("posture: {error}"));
    let pattern = |text: Option<String>| {
        text.map(|text| Regex::new(&text).unwrap_or_else(|error| panic!("posture: {error}")))
    };
    entries
        .into_iter()
        .map(|entry| Check {
            rule: format!("posture-{}", entry.id),
            severity: Severity::ALL
                .into_iter()
                .find(|severity| severity.as_str() == entry.severity)
                .unwrap_or_else(|| panic!("posture: {} has no severity", entry.id)),
            id: entry.id,
            group: entry.group,
            title: entry.title,
            tags: entry.tags,
            read: entry.read,
            paths: entry.paths,
            private: entry.private,
            skip: entry.skip,
            is_static: entry.is_static,
            remedy: entry.remedy,
            weak: pattern(entry.weak),
            weak_text: pattern(entry.weak_text),
        })
        .collect()
});

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
pub struct Watched(GlobSet);

impl Watched {
    /// For a host with these homes, and a job in this workspace.
    pub fn new(homes: &[String], workspace: &str) -> Self {
        let mut set = GlobSetBuilder::new();
        for place in checks().iter().flat_map(|check| places(check, homes, workspace)) {
            if let Ok(glob) = crate::commands::path_glob(&place) {
                set.add(glob);
            }
        }
        Self(set.build().unwrap_or_default())
    }

    /// Whether a check looks at the file with this real path.
    pub fn has(&self, path: &str) -> bool {
        self.0.is_match(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn every_check_can_be_told_apart_and_says_what_to_do() {
        assert!(checks().len() >= 20);
        let ids: BTreeSet<&str> = checks().iter().map(|check| check.id.as_str()).collect();
        assert_eq!(ids.len(), checks().len());
        for check in checks() {
            assert!(check.remedy.ends_with('.') && !check.tags.is_empty(), "{}", check.id);
            assert!(!check.title.is_empty() && (check.can_be_weak() || !check.is_static), "{}", check.id);
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
    fn a_watched_file_is_known_in_every_home() {
        let watched = Watched::new(&["/root".into(), "/home/u".into()], "/w");
        for path in ["/etc/sudoers.d/x", "/home/u/.npmrc", "/root/.bashrc", "/w/.git/hooks/pre-commit"] {
            assert!(watched.has(path), "{path}");
        }
        for path in ["/w/src/main.rs", "/home/u/.cache/x", "/w/.npmrc", "/etc/sudoers.d/a/b"] {
            assert!(!watched.has(path), "{path}");
        }
    }
}
