//! Something is put where it runs again after the job, or lets somebody in later.
//!
//! ## What it sees
//! A change of SSH access, scheduled work or a service, and of git's global configuration, by other people's code; in a home and in the spool of cron by the project's own code too, if nothing in the step explains it.
//! Work handed to a scheduler (`crontab`, `at`, `systemd-run`) by either. Git told for all of a user's repositories to run hooks or a
//! monitor from elsewhere, and git that runs a program which the job put into the repository's own folder beside the hooks.
//!
//! ## Why it matters
//! On a machine that lives on, the next job belongs to whoever wrote there.
//!
//! ## What to do
//! Remove the entry, or throw the machine away. If the step sets it up on purpose, name the path in its text or allow it in
//! `.github/guard.yml`.
//!
//! ## Known limits
//! Who may act as root (`sudoers`, users) is `posture-drift`'s. Units and cron entries that a recipe installs below `/etc` and `/usr`, as `make install` does, stay a note. Work given to a daemon
//! over its socket is seen as the program that asks and the file it leaves; a program that speaks the protocol itself is not.

use super::{Act, Detection, Ground, Hit, attack, ground, is_scratch, is_work, named, run_file};
use crate::divergence::{Effect, Explanation};
use crate::event::{Activity, Launch};
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::lineage::Standing;

pub const DETECTION: Detection = Detection {
    id: RuleId("persistence"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1053.003"), Technique("T1543.002"), Technique("T1098.004")],
    references: &["CVE-2024-32002"],
    frameworks: &["CICD-SEC-7", "ASI10"],
    remedy: "Remove what was put there or throw the machine away, then remove what wrote it.",
    source: include_str!("persistence.rs"),
    check,
};

/// Settings by which git runs something in every repository of a user.
const RUNS_EVERYWHERE: &[&str] = &["core.hookspath", "core.fsmonitor", "init.templatedir"];

/// Work given to a scheduler, git's settings for everywhere, and what git runs from its own folder.
fn started(act: &Act<'_>, launch: &Launch) -> Vec<Hit> {
    let ground = ground(act);
    if ground == Ground::Named || act.process.standing == Standing::Command {
        return Vec::new();
    }
    let who = named(act.lineage, act.process.key);
    let sure = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    let words = launch.arguments.get(1..).unwrap_or_default();
    let is_look = |word: &String| matches!(word.as_str(), "-l" | "-V" | "--version" | "--help" | "--scope");
    if is_work(act, "schedulers") && !words.is_empty() && !words.iter().any(is_look) {
        return attack(
            act,
            &DETECTION,
            (Severity::High, sure),
            format!("{who} was given work for later"),
            &launch.executable.path,
        );
    }
    let is_git = act.process.tool == Some("git");
    let key = words.iter().find(|word| RUNS_EVERYWHERE.contains(&word.to_ascii_lowercase().as_str()));
    let is_everywhere = words.iter().any(|word| matches!(word.as_str(), "--global" | "--system"));
    if let Some(key) = key.filter(|_| {
        is_git
            && is_everywhere
            && !words.iter().any(|word| word.starts_with("--unset") || word.starts_with("--get"))
    }) {
        let title = format!("{who} was told to run something in every repository ({key})");
        return attack(act, &DETECTION, (Severity::High, sure), title, key);
    }
    let file = run_file(launch);
    let is_beside_hooks =
        file.contains("/.git/") && !file.contains("/hooks/") && !file.contains("/.git/modules/");
    let above = act.process.parent.and_then(|parent| act.lineage.get(parent));
    let is_below_git = above.is_some_and(|above| above.tool == Some("git"));
    if is_below_git && (is_beside_hooks || is_scratch(&file)) && act.lineage.has_written(&file) {
        let title = format!("git runs {file}, which this job put there");
        return attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, file);
    }
    Vec::new()
}

/// A table of cron's that its own program writes for a recipe, and not for a package that is being installed.
fn is_handed(act: &Act<'_>) -> bool {
    let is_installer = |process: &crate::lineage::Process| process.tool == Some("system-packages");
    is_work(act, "schedulers")
        && matches!(act.explanation, Explanation::Derived(_))
        && act.process.standing != Standing::Command
        && !act.lineage.ancestors(act.process.key).any(is_installer)
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    if let (Effect::Launch { .. }, Activity::Launch(launch)) = (act.effect, act.activity) {
        return started(act, launch);
    }
    let Effect::Write { path, store } = act.effect else { return Vec::new() };
    let is_git = act.context.all_homes.iter().any(|home| {
        path.strip_prefix(home.as_str())
            .is_some_and(|rest| rest == "/.gitconfig" || rest == "/.config/git/config")
    });
    let title = match store {
        Some(store) if matches!(store.id.as_str(), "ssh-access" | "scheduled-work" | "services") => {
            store.title.as_str()
        }
        None if is_git => "git's global configuration",
        _ => return Vec::new(),
    };
    if act.explanation.reason().is_some() && !is_git && !is_handed(act) {
        return Vec::new();
    }
    let weight = match ground(act) {
        Ground::Foreign if is_git => (Severity::High, Confidence::Medium),
        Ground::Foreign => (Severity::High, Confidence::High),
        // `make install` writes below /etc and /usr.
        Ground::Project
            if !is_git && (act.explanation.is_undeclared() || is_handed(act)) && is_somebodys(act, path) =>
        {
            (Severity::High, Confidence::Medium)
        }
        _ => return Vec::new(),
    };
    let title = format!("{} changed {title}, which outlives the job", named(act.lineage, act.process.key));
    attack(act, &DETECTION, weight, title, path)
}

fn is_somebodys(act: &Act<'_>, path: &str) -> bool {
    path.starts_with("/var/spool/")
        || act.context.all_homes.iter().any(|home| {
            path.strip_prefix(home.as_str())
                .is_some_and(|rest| rest.starts_with('/') && rest != "/.ssh/config")
        })
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn keys_schedules_and_services_by_an_install_script_or_a_recipe() {
        for path in [
            "/home/u/.ssh/authorized_keys",
            "/var/spool/cron/crontabs/u",
            "/home/u/.config/systemd/user/x.service",
        ] {
            for (step, above) in [("npm ci\n", "node /usr/bin/npm ci"), ("make all\n", "")] {
                let program = if above.is_empty() {
                    "/usr/bin/make make all"
                } else {
                    "/usr/bin/node node /usr/bin/npm ci"
                };
                expect(
                    step,
                    &format!(
                        "1 > 2 launch {program}\n2 > 3 launch /usr/bin/python3.11 python3 x.py\n3 create {path}"
                    ),
                    &[
                        &format!("!persistence attack high {path}"),
                        &format!("file-undeclared divergence low {path}"),
                    ],
                );
            }
        }
    }

    #[test]
    fn work_for_later_and_git_for_everywhere() {
        for (program, object) in [
            ("/usr/bin/crontab crontab -", "/usr/bin/crontab"),
            ("/usr/bin/at at now", "/usr/bin/at"),
            ("/usr/bin/git git config --global core.hooksPath /home/u/.cache/h", "core.hooksPath"),
        ] {
            expect(
                "make\n",
                &format!(
                    "1 > 2 launch /usr/bin/make make\n2 > 3 launch /usr/bin/dash sh x.sh\n3 > 4 launch {program}"
                ),
                &[&format!("!persistence attack high {object}")],
            );
        }
        expect(
            "make\ncrontab jobs\ngit status\n",
            "1 > 2 launch /usr/bin/make make
             2 > 3 launch /usr/bin/dash sh x.sh
             3 > 4 launch /usr/bin/crontab crontab -l
             3 > 5 launch /usr/bin/git git config core.hooksPath .husky
             3 > 6 launch /usr/bin/git git config --global user.name ci
             3 > 7 launch /usr/bin/systemd-run systemd-run --scope x
             1 > 8 launch /usr/bin/crontab crontab jobs
             1 > 9 launch /usr/bin/git git status
             9 > 10 launch !/w/.git/hooks/pre-commit pre-commit",
            &[],
        );
        let lines = findings(
            "make\ngit status\n",
            "",
            "1 > 2 launch /usr/bin/make make
             2 > 3 launch /usr/bin/dash sh x.sh
             3 create /w/.git/watch.sh
             1 > 4 launch /usr/bin/git git status
             4 > 5 launch /usr/bin/dash sh .git/watch.sh",
        );
        assert_eq!(lines, ["!persistence attack high /w/.git/watch.sh"]);
    }

    #[test]
    fn installation_of_units_and_declared_keys_stay_below_medium() {
        expect(
            "make install\necho \"$KEY\" >> ~/.ssh/authorized_keys\ngit config --global user.name ci\n",
            "1 > 2 launch /usr/bin/make make install
             2 > 3 launch /usr/bin/install install x.service /usr/lib/systemd/system/x.service
             3 create /usr/lib/systemd/system/x.service
             1 write ~/.ssh/authorized_keys
             1 > 4 launch /usr/bin/git git config --global user.name ci
             4 create ~/.gitconfig.lock
             4 rename ~/.gitconfig.lock ~/.gitconfig
             2 > 5 launch /usr/bin/git git config --global user.name ci
             5 rename ~/.gitconfig.lock ~/.gitconfig",
            &["file-undeclared divergence low /usr/lib/systemd/system/x.service"],
        );
    }
}
