//! One-word items: what each stands for, as data in `policies/groups/`.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use super::Verb;
use super::hosts::HostRule;
use super::parse::{file_item, text_list};
use super::paths::PathGlob;
use super::problem::{Complaint, PolicyError, Problems};
use super::yaml::{self, Node};

/// A group as it is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    pub kind: GroupKind,
    /// Who wrote it: this version of the guard, or the one that wrote the lock.
    pub origin: String,
    /// Digest of the data it came from.
    pub sha256: String,
    pub network: Vec<(String, HostRule)>,
    pub files: Vec<(String, Verb, PathGlob)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum GroupKind {
    /// Its hosts are data, from the vendor's public documentation.
    Service,
    /// Its hosts are what the package client on this machine is configured to use.
    Package,
}

impl GroupKind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Package => "package",
        }
    }
}

const DATA: &[(&str, &str)] = &[
    ("claude", include_str!("../../policies/groups/claude.yml")),
    ("codex", include_str!("../../policies/groups/codex.yml")),
    ("copilot", include_str!("../../policies/groups/copilot.yml")),
    ("debian", include_str!("../../policies/groups/debian.yml")),
    ("docker", include_str!("../../policies/groups/docker.yml")),
    ("gemini", include_str!("../../policies/groups/gemini.yml")),
    ("github", include_str!("../../policies/groups/github.yml")),
    ("gitlab", include_str!("../../policies/groups/gitlab.yml")),
    ("node", include_str!("../../policies/groups/node.yml")),
    ("openai", include_str!("../../policies/groups/openai.yml")),
    ("python", include_str!("../../policies/groups/python.yml")),
    ("rust", include_str!("../../policies/groups/rust.yml")),
];

/// The groups this version ships. The tests read every file, so none is left out here.
pub(super) static BUILT_IN: LazyLock<BTreeMap<String, Group>> = LazyLock::new(|| {
    DATA.iter()
        .filter_map(|(name, text)| read_data(name, text).ok().map(|group| ((*name).to_owned(), group)))
        .collect()
});

fn read_data(name: &str, text: &str) -> Result<Group, PolicyError> {
    let origin = format!("policies/groups/{name}.yml");
    let mut problems = Problems::default();
    let group = match yaml::read(text) {
        Ok(node) => {
            let mut group = read(&node, &format!("group `{name}`"), &mut problems);
            group.origin = format!("edamame-guard {}", env!("CARGO_PKG_VERSION"));
            group.sha256 = super::sha256(text);
            Some(group)
        }
        Err((line, column, complaint)) => {
            problems.place(line, column, complaint);
            None
        }
    };
    problems.finish(&origin, text).and_then(|()| group.ok_or_else(|| PolicyError::plain(&origin, "is empty")))
}

/// A group's mapping, in its own file or in a lock.
pub(super) fn read(node: &Node, what: &str, problems: &mut Problems) -> Group {
    let fields =
        yaml::fields(node, what, &["about", "kind", "network", "files", "origin", "sha256"], problems);
    let text =
        |key: &str| fields.get(key).and_then(|field| field.value.text()).unwrap_or_default().to_owned();
    let mut group = Group {
        kind: if text("kind") == "package" { GroupKind::Package } else { GroupKind::Service },
        origin: text("origin"),
        sha256: text("sha256"),
        network: Vec::new(),
        files: Vec::new(),
    };
    if let Some(field) = fields.get("kind")
        && !matches!(field.value.text(), Some("service" | "package"))
    {
        problems.at(field.value, Complaint::new("`kind` is `service` or `package`"));
    }
    if let Some(field) = fields.get("network") {
        for (item, node) in text_list(field.value, what, problems) {
            match HostRule::parse(item) {
                Ok(rule) => group.network.push((item.to_owned(), rule)),
                Err(complaint) => problems.at(node, complaint),
            }
        }
    }
    if let Some(field) = fields.get("files") {
        for (item, node) in text_list(field.value, what, problems) {
            match file_item(item) {
                Ok((verb, glob)) => group.files.push((item.to_owned(), verb, glob)),
                Err(complaint) => problems.at(node, complaint),
            }
        }
    }
    group
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_group_reads_and_says_what_it_is() {
        for (name, text) in DATA {
            let group = read_data(name, text).unwrap_or_else(|error| panic!("{error}"));
            assert!(text.starts_with("# "), "{name} opens with a comment that says what it is");
            assert!(text.contains("about:"), "{name} has an `about`");
            assert!(!group.network.is_empty() || !group.files.is_empty(), "{name}");
            if group.kind == GroupKind::Package {
                assert!(group.network.is_empty(), "{name}: a package group names no host");
            }
            for (item, rule) in &group.network {
                assert_eq!(rule.breadth(), None, "{name}: {item}");
            }
        }
        assert_eq!(BUILT_IN.len(), DATA.len());
    }

    #[test]
    fn the_list_is_the_folder() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/policies/groups");
        let mut found: Vec<String> = std::fs::read_dir(folder)
            .expect("the folder of groups")
            .map(|entry| {
                entry.expect("an entry").path().file_stem().expect("a name").to_string_lossy().into_owned()
            })
            .collect();
        found.sort();
        assert_eq!(found, DATA.iter().map(|(name, _)| (*name).to_owned()).collect::<Vec<_>>());
    }
}
