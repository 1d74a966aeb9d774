//! Many files are deleted that the job did not make.
//!
//! ## What it sees
//! Fifty or more files of a home, or of the workspace's sources and history, deleted or emptied in one strand by code that the step's
//! text does not name. What the job itself made, caches, installed packages and build output do not count. A disk opened for writing.
//!
//! ## Why it matters
//! A worm that finds no token wipes the home; an agent that misjudged its task removes far more than it was asked to.
//!
//! ## What to do
//! Restore the files, and look at the first deletion in the recording for who began.
//!
//! ## Known limits
//! Overwriting in place is seen as ordinary writing. What a cloud or a database is told to delete is not seen. In the workspace only
//! other people's code and coding agents are looked at: recipes that clean up are ordinary.

use super::{Act, Detection, Ground, Hit, attack, ground, named};
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("destructive"),
    severity: Severity::Critical,
    confidence: Confidence::High,
    techniques: &[Technique("T1485"), Technique("T1561.001")],
    references: &["CVE-2025-8217"],
    frameworks: &["CICD-SEC-7", "ASI10"],
    remedy: "Restore the files from a copy, and remove what deleted them.",
    source: include_str!("destructive.rs"),
    check,
};

/// Deletions of one strand before they are the finding.
const MANY: usize = 50;
/// Folders of which whole trees come and go in ordinary work.
const PASSING: &[&str] = &[
    "node_modules",
    "target",
    "build",
    "dist",
    "out",
    "coverage",
    "tmp",
    "temp",
    "vendor",
    "__pycache__",
    "site-packages",
    "dist-packages",
    "venv",
    "env",
    "bin",
    "obj",
    "log",
    "logs",
    "cache",
    "Cache",
    "snapshots",
    "go",
];

/// Where a file counts that this act deletes: `home` or `work`.
fn place(act: &Act<'_>, path: &str) -> Option<&'static str> {
    if act.lineage.has_written(path) || act.process.tool == Some("git") && ground(act) != Ground::Foreign {
        return None;
    }
    let below = |folder: &str| path.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/'));
    let is_passing = |rest: &str, hidden: bool| {
        let mut folders: Vec<&str> = rest.split('/').collect();
        folders.pop();
        folders.iter().any(|folder| {
            PASSING.contains(folder)
                || (hidden && folder.starts_with('.') && *folder != ".git" && *folder != ".ssh")
        })
    };
    if let Some(rest) = below(&act.context.job.workspace) {
        return (!is_passing(rest, true)).then_some("work");
    }
    let rest = act.context.all_homes.iter().filter(|home| home.len() > 1).find_map(|home| below(home))?;
    (!is_passing(rest, true)).then_some("home")
}

/// What a deletion is remembered by.
pub(super) fn kept(act: &Act<'_>) -> Option<(&'static str, String)> {
    let (Effect::Write { path, .. }, Activity::Delete { .. } | Activity::Truncate { .. }) =
        (act.effect, act.activity)
    else {
        return None;
    };
    if ground(act) == Ground::Named {
        return None;
    }
    let kind = if place(act, path)? == "home" { "deleted-home" } else { "deleted-work" };
    Some((kind, path.clone()))
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    let Effect::Write { path, .. } = act.effect else { return Vec::new() };
    let who = || named(act.lineage, act.process.key);
    if let (Activity::Open { .. }, Some(device)) = (act.activity, path.strip_prefix("/dev/")) {
        let is_disk = ["sd", "nvme", "vd", "xvd", "mmcblk", "mapper/", "dm-"]
            .iter()
            .any(|kind| device.starts_with(kind));
        if is_disk && ground(act) != Ground::Named {
            let title = format!("{} opened the disk {path} for writing", who());
            return attack(act, &DETECTION, (Severity::Critical, Confidence::High), title, path);
        }
        return Vec::new();
    }
    let Some((kind, _)) = kept(act) else { return Vec::new() };
    let count = act.lineage.strand(act.process.key).noted(kind).count() + 1;
    if count < MANY {
        return Vec::new();
    }
    let ground = ground(act);
    let is_agents = act.process.agent.is_some();
    let weight = match (kind, ground) {
        (_, Ground::Foreign) => (Severity::Critical, Confidence::High),
        ("deleted-home", _) => (Severity::Critical, Confidence::Medium),
        _ if is_agents => (Severity::High, Confidence::Medium),
        _ => return Vec::new(),
    };
    let (place, object) = match kind {
        "deleted-home" => ("a home", "~/**"),
        _ => ("the workspace", "./**"),
    };
    attack(
        act,
        &DETECTION,
        weight,
        format!("{} deletes files of {place} that the job did not make", who()),
        object,
    )
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use crate::trace::findings;

    fn deleted(step: &str, before: &str, folder: &str, count: usize) -> Vec<String> {
        let mut trace = format!("{before}\n");
        for file in 0..count {
            writeln!(trace, "3 delete {folder}/f{file}").unwrap();
        }
        findings(step, "", &trace)
    }

    const SCRIPT: &str = "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/rm rm -rf x";
    const RECIPE: &str = "1 > 2 launch /usr/bin/make make all\n2 > 3 launch /usr/bin/find find x -delete";

    #[test]
    fn a_home_or_the_sources_are_wiped() {
        let home = ["!destructive attack critical ~/**"];
        assert_eq!(deleted("npm ci\n", SCRIPT, "~/Documents", 60), home);
        assert_eq!(deleted("make all\n", RECIPE, "~/Documents", 60), home);
        assert_eq!(deleted("npm ci\n", SCRIPT, "/w/src", 60), ["!destructive attack critical ./**"]);
        assert_eq!(
            deleted("npm ci\n", SCRIPT, "/w/.git/objects/aa", 60),
            ["!destructive attack critical ./**"]
        );
        let agent = RECIPE.replace("1 > 2", "1 > 2 agent codex\n2");
        assert_eq!(deleted("make all\n", &agent, "/w/tests", 60), ["!destructive attack high ./**"]);
    }

    #[test]
    fn cleaning_up_and_what_the_text_says_stay_quiet() {
        assert_eq!(deleted("npm ci\n", SCRIPT, "/w/node_modules/a", 90), [""; 0]);
        assert_eq!(deleted("npm ci\n", SCRIPT, "~/.cache/x", 90), [""; 0]);
        assert_eq!(deleted("npm ci\n", SCRIPT, "~/Documents", 40), [""; 0]);
        assert_eq!(deleted("make all\n", RECIPE, "/w/src", 90), [""; 0]);
        let named = "1 > 3 launch /usr/bin/rm rm -rf /home/u/Documents";
        assert_eq!(deleted("rm -rf ~/Documents\n", named, "~/Documents", 90), [""; 0]);
        let mut trace = SCRIPT.to_owned();
        for file in 0..90 {
            write!(trace, "\n3 create /home/u/made/f{file}\n3 delete /home/u/made/f{file}").unwrap();
        }
        assert_eq!(findings("npm ci\n", "", &trace), [""; 0]);
    }
}
