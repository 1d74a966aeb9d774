//! Many files are deleted or overwritten that the job did not make.
//!
//! ## What it sees
//! Fifty or more files of a home, or of the workspace's sources and history, deleted or emptied in one strand by code that the step's
//! text does not name; in a home also overwritten or given other names, and fewer files when they are all over it. On any other file system
//! files that are emptied, overwritten or given other names. By other people's
//! code, files of the system as well. What the job itself made, caches, installed packages and build output do not count. A disk opened
//! for writing.
//!
//! ## Why it matters
//! A worm that finds no token wipes the home; an agent that misjudged its task removes far more than it was asked to.
//!
//! ## What to do
//! Restore the files, and look at the first deletion in the recording for who began.
//!
//! ## Known limits
//! Overwriting in place in the workspace is seen as ordinary writing; a file that is opened for reading and writing counts once it is given
//! another name or removed. What the project's own code only removes outside of a home and the workspace does not count. What a cloud or a database is told to delete is not seen. In the
//! workspace only other people's code and coding agents are looked at: recipes that clean up are ordinary. What an agent's task names is
//! meant.

use super::{Act, Detection, Ground, Hit, attack, ground, is_scratch, is_set_up, is_task, named};
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::lineage::Process;

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
/// Files all over a home, and entries of it they are below, that are as telling.
const SPREAD: usize = 15;
const ENTRIES: usize = 6;
/// What tools keep in a home and clear themselves.
const KEPT_BY_TOOLS: &[&str] = &[
    ".cache",
    ".npm",
    ".cargo",
    ".rustup",
    ".gradle",
    ".m2",
    ".nuget",
    ".local",
    ".yarn",
    ".pnpm-store",
    ".bun",
    ".deno",
    ".gem",
    ".bundle",
    ".pyenv",
    ".nvm",
    ".android",
    ".dotnet",
    ".java",
    ".node-gyp",
    ".pki",
];
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
    // git's checkouts come and go; `clean` takes away what no commit has.
    let cleans = |process: &Process| {
        let launch = process.launch.as_deref();
        process.agent.is_some()
            && launch.is_some_and(|launch| launch.arguments.iter().any(|word| word == "clean"))
    };
    let is_gits = act.process.tool == Some("git") && ground(act) != Ground::Foreign && !cleans(act.process);
    // What was there before and was written over in place may go under another name, or away.
    if (act.lineage.has_written(path) && !is_overwritten(act, path)) || is_gits {
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
    let home = act.context.all_homes.iter().filter(|home| home.len() > 1).find_map(|home| below(home));
    match home {
        Some(rest) if !is_passing(rest, true) && !rest.starts_with('.') => Some("home"),
        Some(rest) => {
            let first = rest.split('/').next().unwrap_or_default();
            (first.starts_with('.') && !KEPT_BY_TOOLS.contains(&first)).then_some("settings")
        }
        None => {
            let begins = |folders: &[&str]| folders.iter().any(|folder| path.starts_with(folder));
            let is_system = begins(&["/usr/", "/opt/", "/etc/", "/boot/", "/srv/", "/var/lib/", "/lib/"]);
            let is_kernels = begins(&["/proc/", "/sys/", "/dev/", "/run/", "memfd:"]);
            let is_elsewhere = !is_scratch(path)
                && !is_kernels
                && !is_passing(path.trim_start_matches('/'), true)
                && act.explanation.is_undeclared();
            let root = act.lineage.get(act.process.strand);
            let is_packages = root.is_some_and(|root| root.tool == Some("system-packages"));
            if is_packages {
                None
            } else if is_system && ground(act) == Ground::Foreign {
                Some("system")
            } else {
                (is_elsewhere && !is_set_up(act)).then_some("elsewhere")
            }
        }
    }
}

/// The entry of a home that a file is below.
fn entry<'p>(act: &Act<'_>, path: &'p str) -> &'p str {
    let below = |home: &String| path.strip_prefix(home.as_str())?.strip_prefix('/');
    let rest = act.context.all_homes.iter().find_map(below).unwrap_or(path);
    rest.split('/').next().unwrap_or(rest)
}

/// Whether an act does away with what was in a file. In a home and on other disks, a new text over the old one does so too;
/// there the project's own code, unless an agent has it run, may remove what it no longer needs.
fn is_loss(act: &Act<'_>, path: &str, place: &str) -> bool {
    let is_kept = matches!(place, "home" | "elsewhere");
    match act.activity {
        Activity::Truncate { .. } => true,
        Activity::Delete { .. } => {
            place != "elsewhere" || ground(act) == Ground::Foreign || act.process.agent.is_some()
        }
        Activity::Open { access, .. } => is_kept && access.write && !access.create && !access.read,
        Activity::Rename { from, .. } => is_kept && from.path == path,
        _ => false,
    }
}

/// Whether the strand has opened the file for reading and writing at once, before it was anybody's in this job.
fn is_overwritten(act: &Act<'_>, path: &str) -> bool {
    act.lineage.strand(act.process.key).noted("overwritten").any(|note| note.object == path)
}

/// What a deletion is remembered by.
pub(super) fn kept(act: &Act<'_>) -> Option<(&'static str, String)> {
    let Effect::Write { path, .. } = act.effect else { return None };
    let is_candidate = matches!(
        act.activity,
        Activity::Delete { .. } | Activity::Truncate { .. } | Activity::Open { .. } | Activity::Rename { .. }
    );
    if !is_candidate || ground(act) == Ground::Named {
        return None;
    }
    let place = place(act, path)?;
    // A database is opened so all its life; whoever then gives it another name has made another file of it.
    let is_opened = matches!(act.activity, Activity::Open { access, .. } if access.read && access.write && !access.create);
    if is_opened && matches!(place, "home" | "elsewhere") {
        return Some(("overwritten", path.clone()));
    }
    if !is_loss(act, path, place) {
        return None;
    }
    let kind = match place {
        "elsewhere" => "deleted-elsewhere",
        "home" => "deleted-home",
        "settings" => "deleted-settings",
        "system" => "deleted-system",
        _ => "deleted-work",
    };
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
    let Some((kind, _)) = kept(act).filter(|(kind, _)| *kind != "overwritten") else { return Vec::new() };
    let strand = act.lineage.strand(act.process.key);
    let is_of_home = matches!(kind, "deleted-home" | "deleted-settings");
    let count = strand.noted(kind).count() + 1;
    let is_spread = || {
        let noted = || strand.noted("deleted-home").chain(strand.noted("deleted-settings"));
        let mut entries: Vec<&str> = noted().map(|note| entry(act, &note.object)).collect();
        entries.push(entry(act, path));
        entries.sort_unstable();
        entries.dedup();
        entries.len() >= ENTRIES && noted().count() + 1 >= SPREAD
    };
    if (count < MANY || kind == "deleted-settings") && !(is_of_home && is_spread()) {
        return Vec::new();
    }
    let ground = ground(act);
    let is_agents = act.process.agent.is_some();
    let folders: Vec<&str> = path.split('/').filter(|folder| !folder.is_empty()).collect();
    let weight = match ground {
        Ground::Foreign => (Severity::Critical, Confidence::High),
        _ if is_of_home || kind == "deleted-elsewhere" => (Severity::Critical, Confidence::Medium),
        _ if is_agents && !is_task(act, &folders) => (Severity::High, Confidence::Medium),
        _ => return Vec::new(),
    };
    let (place, object) = match kind {
        "deleted-home" | "deleted-settings" => ("a home", "~/**"),
        "deleted-system" => ("the system", "/**"),
        "deleted-elsewhere" => ("other folders of the machine", "/**"),
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

    #[test]
    fn overwritten_renamed_and_all_over_a_home() {
        let many = |line: &str| {
            (0..60).fold(RECIPE.to_owned(), |all, file| {
                format!("{all}\n{}", line.replace('#', &file.to_string()))
            })
        };
        for line in [
            "3 write ~/Pictures/#.jpg",
            "3 truncate ~/Pictures/#.jpg",
            "3 rename ~/Pictures/#.jpg ~/Pictures/#.locked",
        ] {
            let lines = findings("make all\n", "", &many(line));
            assert_eq!(lines, ["!destructive attack critical ~/**"], "{line}");
        }
        // New files, and what a tool keeps for itself.
        for line in ["3 create ~/Pictures/#.jpg", "3 delete ~/.cargo/registry/#", "3 write /w/src/#.c"] {
            assert_eq!(findings("make all\n", "", &many(line)), [""; 0], "{line}");
        }
        let mut trace = RECIPE.to_owned();
        for folder in ["Documents", "projects", ".ssh", ".aws", ".config/gh", ".docker"] {
            for file in 0..4 {
                write!(trace, "\n3 delete ~/{folder}/{file}").unwrap();
            }
        }
        assert_eq!(findings("make all\n", "", &trace), ["!destructive attack critical ~/**"]);
        let logout =
            format!("{RECIPE}\n3 delete ~/.npmrc\n3 delete ~/.docker/config.json\n3 delete ~/.netrc");
        assert!(findings("make all\n", "", &logout).iter().all(|line| !line.contains("destructive")));
    }

    #[test]
    fn in_place_and_outside_of_home_and_workspace() {
        let many = |step: &str, before: &str, lines: &str| {
            let trace = (0..60).fold(before.to_owned(), |all, file| {
                format!("{all}\n{}", lines.replace('#', &file.to_string()))
            });
            let lines = findings(step, "", &trace);
            lines.into_iter().filter(|line| line.contains("destructive")).collect::<Vec<_>>()
        };
        // Taken in place, and given another name.
        for (path, object) in [("~/Documents/#", "~/**"), ("/data/photos/#", "/**")] {
            let lines = many("make all\n", RECIPE, &format!("3 both {path}\n3 rename {path} {path}.locked"));
            assert_eq!(lines, [format!("!destructive attack critical {object}")]);
        }
        for line in
            ["3 truncate /data/photos/#", "3 write /data/photos/#\n3 rename /data/photos/# /data/photos/0#"]
        {
            assert_eq!(many("make all\n", RECIPE, line), ["!destructive attack critical /**"], "{line}");
        }
        assert_eq!(many("npm ci\n", SCRIPT, "3 delete /data/photos/#"), ["!destructive attack critical /**"]);
        for (step, before, lines) in [
            // Databases, what the job made, caches, scratch folders, what a recipe only removes, and what the step names.
            ("make all\n", RECIPE, "3 both ~/Documents/#"),
            ("make all\n", RECIPE, "3 create /data/x/#\n3 truncate /data/x/#\n3 rename /data/x/# /data/x/0#"),
            ("make all\n", RECIPE, "3 truncate /data/cache/#"),
            ("make all\n", RECIPE, "3 truncate /tmp/x/#"),
            ("make all\n", RECIPE, "3 delete /data/photos/#"),
            ("make all  # from /data/photos\nls /data/photos\n", RECIPE, "3 truncate /data/photos/#"),
        ] {
            assert_eq!(many(step, before, lines), [""; 0], "{lines}");
        }
    }

    #[test]
    fn what_an_agents_task_names_is_meant() {
        let step = "codex exec x\n";
        let agent = |task: &str| {
            format!(
                "1 > 2 agent codex
                 2 launch /usr/local/bin/codex codex exec {task}
                 2 > 3 launch /usr/bin/rm rm -rf legacy"
            )
        };
        assert_eq!(deleted(step, &agent("Remove the folder legacy"), "/w/legacy", 90), [""; 0]);
        assert_eq!(deleted(step, &agent("Fix one.js"), "/w/legacy", 90), ["!destructive attack high ./**"]);
        assert_eq!(
            deleted(step, &agent("Fix one.js"), "/data/sibling", 90)[0],
            "!destructive attack critical /**"
        );
        let git = |verb: &str| {
            agent("Fix one.js").replace("/usr/bin/rm rm -rf legacy", &format!("/usr/bin/git git {verb}"))
        };
        assert_eq!(deleted(step, &git("clean -fdxq"), "/w/legacy", 90), ["!destructive attack high ./**"]);
        assert_eq!(deleted(step, &git("checkout main"), "/w/legacy", 90), [""; 0]);
    }

    #[test]
    fn other_peoples_code_takes_the_system_away() {
        assert!(
            deleted("npm ci\n", SCRIPT, "/usr/lib/git-core", 60)
                .contains(&"!destructive attack critical /**".to_owned())
        );
    }
}
