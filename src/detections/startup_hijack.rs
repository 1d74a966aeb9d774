//! Code or settings are put where every later shell, program or step starts from.
//!
//! ## What it sees
//! By other people's code: a shell's start-up file; what the loader puts into every program; Python's `sitecustomize` and start-up
//! lines (`.pth`) outside a build folder; the settings of package clients and downloaders in a home; the files by which a step of a
//! workflow sets variables and the path of later steps.
//!
//! ## Why it matters
//! The next command runs the attacker's code under its own good name.
//!
//! ## What to do
//! Put the file back, and remove the package that wrote it. Nothing that ran after it in this job can be trusted.
//!
//! ## Known limits
//! Which variable a step file sets is not seen. The project's own scripts set variables of later steps as a matter of course, so
//! they are not looked at here; a shell start-up file that they change stays a note.

use super::{Act, Detection, Ground, Hit, attack, ground, named};
use crate::catalogue;
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::intent::basename;

pub const DETECTION: Detection = Detection {
    id: RuleId("startup-hijack"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1546.004"), Technique("T1546.018"), Technique("T1574.006")],
    references: &["CVE-2025-61260"],
    frameworks: &["CICD-SEC-4", "ASI05"],
    remedy: "Put the file back, trust nothing that ran after it, and remove the package that wrote it.",
    source: include_str!("startup_hijack.rs"),
    check,
};

fn check(act: &Act<'_>) -> Vec<Hit> {
    let Effect::Write { path, store } = act.effect else { return Vec::new() };
    if ground(act) != Ground::Foreign || matches!(act.activity, Activity::Delete { .. }) {
        return Vec::new();
    }
    let in_home = || {
        act.context.all_homes.iter().any(|home| {
            let below = path.strip_prefix(home.as_str()).and_then(|rest| rest.strip_prefix('/'));
            below.is_some_and(|rest| catalogue::is_object("client-settings", rest))
        })
    };
    let (what, confidence) = match store {
        Some(store) if matches!(store.id.as_str(), "shell-start-up" | "loader") => {
            if act.explanation.reason().is_some() {
                return Vec::new();
            }
            (store.title.as_str(), Confidence::High)
        }
        None if catalogue::is_object("step-files", path) => ("what later steps start with", Confidence::High),
        None if is_python_start(path) => ("what every Python program starts with", Confidence::High),
        None if in_home() => ("the settings of a client", Confidence::Medium),
        Some(_) | None => return Vec::new(),
    };
    let title = format!("{} changed {what}", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::High, confidence), title, path)
}

/// In an installed Python, not in the folder where a package is being built.
fn is_python_start(path: &str) -> bool {
    let name = basename(path);
    let is_installed = path.contains("/site-packages/") || path.contains("/dist-packages/");
    let is_build =
        ["/tmp/pip-", "/tmp/build-env", "/build/", "/.tox/", "/.nox/"].iter().any(|part| path.contains(part));
    let is_hook = matches!(name, "sitecustomize.py" | "usercustomize.py")
        // These are how setuptools itself puts a project in place for development.
        || (name.strip_suffix(".pth").is_some() && name != "easy-install.pth" && !name.starts_with("__editable__"));
    is_hook && is_installed && !is_build
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn start_up_of_shells_languages_clients_and_later_steps() {
        for path in [
            "/home/u/.bashrc",
            "/etc/ld.so.preload",
            "/usr/lib/python3.11/site-packages/sitecustomize.py",
            "/home/u/.local/lib/python3.11/site-packages/zz.pth",
            "/home/u/.npmrc",
            "/home/u/.config/pip/pip.conf",
            "/home/u/.cargo/config.toml",
            "/home/u/.curlrc",
            "/srv/agent/_work/_temp/_runner_file_commands/set_env_1f",
            "/home/runner/work/_temp/_runner_file_commands/add_path_1f",
        ] {
            let trace = format!(
                "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/node node x.js\n3 write {path}"
            );
            let wanted = format!("!startup-hijack attack high {path}");
            assert!(findings("npm ci\n", "", &trace).contains(&wanted), "{path}");
        }
    }

    #[test]
    fn clients_installers_builds_and_set_up_steps_stay_quiet() {
        expect(
            "npm config set registry https://r.example\npip install -e .\nmake setup\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm config set registry https://r.example
             2 create ~/.npmrc
             1 > 3 launch /usr/bin/python3.11 python3 /usr/bin/pip install -e .
             3 create ~/.local/lib/python3.11/site-packages/__editable__.x.pth
             3 create ~/.local/lib/python3.11/site-packages/distutils-precedence.pth
             3 > 4 launch /usr/bin/python3.11 python3 setup.py develop
             4 create ~/.local/lib/python3.11/site-packages/easy-install.pth
             4 create /tmp/pip-build-env-1/lib/python3.11/site-packages/x.pth
             1 > 5 launch /usr/bin/make make setup
             5 > 6 launch /usr/bin/python3.11 python3 env.py
             6 write /home/runner/work/_temp/_runner_file_commands/set_env_1f",
            &["file-undeclared divergence low /home/runner/work/_temp/_runner_file_commands/set_env_1f"],
        );
    }
}
