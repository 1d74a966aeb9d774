//! Code or settings are put where every later shell, program or step starts from.
//!
//! ## What it sees
//! By other people's code: a shell's start-up file; what the loader puts into every program; Python's `sitecustomize` and start-up
//! lines (`.pth`) outside a build folder; the settings of package clients and downloaders in a home; the files by which a step of a
//! workflow sets variables and the path of later steps. By the project's own code the same start-up lines of Python and the like count
//! once a program that started with them reads a credential or connects to a bare address. A program that was started with a library of
//! the job's in `LD_PRELOAD`, or with a file from a scratch folder in `NODE_OPTIONS` or `BASH_ENV`, and does that.
//!
//! ## Why it matters
//! The next command runs the attacker's code under its own good name.
//!
//! ## What to do
//! Put the file back, and remove the package that wrote it. Nothing that ran after it in this job can be trusted.
//!
//! ## Known limits
//! The project's own scripts set variables of later steps as a matter of course: of them only what makes programs load a file from outside
//! the workspace counts. A step file is read when its writer ends; what is put back before is not seen. A shell start-up file that the
//! project changes stays a note.

use super::{Act, Detection, Ground, Hit, attack, ground, is_bare, is_scratch, named};
use crate::catalogue;
use crate::divergence::Effect;
use crate::event::{Activity, Launch};
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

/// Whether this write puts something where other programs start from. A package client's own work is not it.
pub(super) fn plants(act: &Act<'_>, path: &str) -> bool {
    let is_client = std::iter::once(act.process)
        .chain(act.lineage.ancestors(act.process.key))
        .take_while(|process| process.strand == act.process.strand)
        .any(|process| {
            process.tool.and_then(crate::commands::by_id).is_some_and(|tool| tool.group.is_some())
        });
    let is_foreign = ground(act) == Ground::Foreign;
    !matches!(act.activity, Activity::Delete { .. }) && is_python_start(path) && (is_foreign || !is_client)
}

/// What a program was told to load first that is the job's own: the variable, and the file.
fn forced(act: &Act<'_>, launch: &Launch) -> Option<(&'static str, String)> {
    let variable = |name: &str| launch.environment.get(name).map(String::as_str).unwrap_or_default();
    let absolute = |word: &str| {
        if word.starts_with('/') {
            word.to_owned()
        } else {
            crate::event::normal_path(&format!("{}/{word}", launch.directory))
        }
    };
    for name in ["LD_PRELOAD", "LD_AUDIT"] {
        let mut files = variable(name).split([':', ' ']).filter(|word| word.contains('/')).map(absolute);
        if let Some(file) = files.find(|file| act.lineage.has_written(file)) {
            return Some((name, file));
        }
    }
    for name in ["NODE_OPTIONS", "BASH_ENV"] {
        let words = variable(name).split([' ', '=']).filter(|word| word.starts_with('/'));
        if let Some(file) = words.map(absolute).find(|file| is_scratch(file) && act.lineage.has_written(file))
        {
            return Some((name, file));
        }
    }
    None
}

/// What the acting process, or one above it, was made to start with.
fn started_with(act: &Act<'_>) -> Option<(String, Option<u64>)> {
    let chain = || std::iter::once(act.process).chain(act.lineage.ancestors(act.process.key).take(8));
    let strand = act.lineage.strand(act.process.key);
    let planted = strand
        .noted("started-with")
        .find(|note| chain().any(|process| process.key == note.process))
        .and_then(|note| {
            act.lineage.planted(&note.object).map(|planted| (note.object.clone(), Some(planted.sequence)))
        });
    planted.or_else(|| {
        chain().find_map(|process| {
            let (variable, file) = forced(act, process.launch.as_deref()?)?;
            Some((format!("{file} ({variable})"), None))
        })
    })
}

/// A program that was made to start with something takes a credential, or talks to a bare address.
fn misled(act: &Act<'_>) -> Vec<Hit> {
    let (did, object) = match act.effect {
        Effect::Read { store, path, by_owner: false } if act.explanation.reason().is_none() => {
            (format!("read {}", store.title), path)
        }
        Effect::Connect { object, .. } if act.explanation.reason().is_none() && is_bare(act) => {
            (format!("connected to {object}"), object)
        }
        _ => return Vec::new(),
    };
    let Some((file, planted)) = started_with(act) else { return Vec::new() };
    let title = format!("{} {did}, and it was started with {file}", named(act.lineage, act.process.key));
    let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::High), title, object);
    hits[0].evidence.extend(planted);
    hits
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    if let (Effect::Launch { .. }, Activity::Launch(launch)) = (act.effect, act.activity) {
        return told_to(act, launch);
    }
    if matches!(act.effect, Effect::Read { .. } | Effect::Connect { .. }) {
        return misled(act);
    }
    let Effect::Write { path, store } = act.effect else { return Vec::new() };
    // What every program of the machine loads is no part of anybody's build.
    let is_everybodys =
        ground(act) == Ground::Project && path == "/etc/ld.so.preload" && act.explanation.is_undeclared();
    if (ground(act) != Ground::Foreign && !is_everybodys) || matches!(act.activity, Activity::Delete { .. }) {
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
            (store.title.as_str(), if is_everybodys { Confidence::Medium } else { Confidence::High })
        }
        None if catalogue::is_object("step-files", path) => ("what later steps start with", Confidence::High),
        None if is_python_start(path) => ("what every Python program starts with", Confidence::High),
        None if in_home() => ("the settings of a client", Confidence::Medium),
        Some(_) | None => return Vec::new(),
    };
    let title = format!("{} changed {what}", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::High, confidence), title, path)
}

/// An install script, or what nothing explains, makes a program load its own file first.
fn told_to(act: &Act<'_>, launch: &Launch) -> Vec<Hit> {
    if ground(act) != Ground::Foreign {
        return Vec::new();
    }
    let Some((variable, file)) = forced(act, launch).filter(|(_, file)| is_scratch(file)) else {
        return Vec::new();
    };
    let title = format!("{} was started with {file} ({variable})", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, file)
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
    fn a_recipe_that_makes_every_program_load_something() {
        let lines = |path: &str| {
            let trace = format!(
                "1 > 2 launch /usr/bin/make make\n2 > 3 launch /usr/bin/dash sh x.sh\n3 create {path}"
            );
            findings("make\n", "", &trace)
        };
        assert!(
            lines("/etc/ld.so.preload")
                .contains(&"!startup-hijack attack high /etc/ld.so.preload".to_owned())
        );
        assert!(!lines("/etc/ld.so.conf.d/x.conf").iter().any(|line| line.contains("startup-hijack")));
    }

    #[test]
    fn start_up_lines_of_the_project_count_once_somebody_falls_for_them() {
        let planted = "1 > 2 launch /usr/bin/make make
             2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 create /usr/lib/python3/dist-packages/zz.pth
             1 > 4 launch /usr/bin/python3.11 python3 -c print(1)
             4 read /usr/lib/python3/dist-packages/zz.pth\n";
        let step = "make\npython3.11 -c 'print(1)'\n";
        for act in [
            "4 > 5 launch /usr/bin/python3.11 python3 -c x\n5 read ~/.aws/credentials",
            "4 connect 203.0.113.7:443",
        ] {
            let lines = findings(step, "", &format!("{planted}{act}"));
            assert!(
                lines.iter().any(|line| line.starts_with("!startup-hijack attack high")),
                "{act}: {lines:?}"
            );
        }
        let lines = findings(step, "", planted);
        assert!(!lines.iter().any(|line| line.contains("startup-hijack")), "{lines:?}");
        // A client's own lines are nobody's trap.
        let own = planted.replace("python3 x.py", "python3 /usr/bin/pip install x");
        let lines =
            findings("make\npython3.11 -c 'print(1)'\n", "", &format!("{own}4 read ~/.aws/credentials"));
        assert!(!lines.iter().any(|line| line.contains("startup-hijack")), "{lines:?}");
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
