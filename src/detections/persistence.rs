//! Something is put where it runs again after the job, or lets somebody in later.
//!
//! ## What it sees
//! A change of SSH access, scheduled work or a service, and of git's global configuration, by other people's code; in a home and in the spool of cron by the project's own code too, if nothing in the step explains it.
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
//! over its socket (`systemd-run`, `at`) is seen as the file it leaves, not as the request.

use super::{Act, Detection, Ground, Hit, attack, ground, named};
use crate::divergence::Effect;
use crate::finding::{Confidence, RuleId, Severity, Technique};

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

fn check(act: &Act<'_>) -> Vec<Hit> {
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
    if act.explanation.reason().is_some() && !is_git {
        return Vec::new();
    }
    let weight = match ground(act) {
        Ground::Foreign if is_git => (Severity::High, Confidence::Medium),
        Ground::Foreign => (Severity::High, Confidence::High),
        // `make install` writes below /etc and /usr.
        Ground::Project if !is_git && act.explanation.is_undeclared() && is_somebodys(act, path) => {
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
    use crate::trace::expect;

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
