//! Something is put where it runs again after the job, or lets somebody in later.
//!
//! ## What it sees
//! A change of SSH access, scheduled work, a service, of what the host or its package manager runs by itself (rules for devices, hooks of
//! apt, of networks and of logs that are turned), of how users log in, and of git's global configuration, by other people's code; by the
//! project's own code too, if nothing in the step explains it. Work handed to a scheduler (`crontab`, `at`, `systemd-run`) by either.
//!
//! Git told for all of a user's repositories to run hooks or a monitor from elsewhere, or by other people's code to run a program in one
//! repository; a hook that neither git nor a manager of hooks writes into a repository which was there before; git that runs a program
//! which the job put into the repository's own folder beside the hooks. A program that is made to run with its owner's rights (set-id),
//! anywhere where it is a copy of a shell or of an interpreter.
//!
//! ## Why it matters
//! On a machine that lives on, the next job belongs to whoever wrote there.
//!
//! ## What to do
//! Remove the entry, or throw the machine away. If the step sets it up on purpose, name the path in its text or allow it in
//! `.github/guard.yml`.
//!
//! ## Known limits
//! Who may act as root (`sudoers`, users) is `posture-drift`'s. What a recipe puts below `/etc` and `/usr` stays a note where the step's own
//! command says that it installs (`make install`), where an action that the workflow names does it, and in a container that the job builds.
//! Hooks that the project's own code puts into the workspace's repository are its business. Work given to a daemon
//! over its socket is seen as the program that asks and the file it leaves; a program that speaks the protocol itself is not.

use super::{
    Act, Detection, Ground, Hit, attack, ground, is_near, is_scratch, is_set_up, is_work, leaves, named,
    of_strand, run_file,
};
use crate::catalogue;
use crate::divergence::{Effect, Explanation};
use crate::event::{Activity, Launch};
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::lineage::{Process, Standing};

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

/// Places of the catalogue that run again, or let somebody in.
const STORES: &[&str] =
    &["ssh-access", "scheduled-work", "services", "host-hooks", "package-hooks", "log-in"];
/// Settings by which git runs something in every repository of a user.
const RUNS_EVERYWHERE: &[&str] = &["core.hookspath", "core.fsmonitor", "init.templatedir"];
/// Settings by which git runs what they name, in one repository.
const RUNS_HERE: &[&str] = &[
    "core.sshcommand",
    "core.fsmonitor",
    "core.hookspath",
    "core.editor",
    "core.pager",
    "core.askpass",
    "sequence.editor",
    "diff.external",
    "gpg.program",
    "credential.helper",
];
/// What these are set to when git shall ask nobody, or a helper of its own.
const HARMLESS: &[&str] = &["", "true", "false", "cat", ":", "store", "cache", "osxkeychain", "manager"];

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
    if let Some((key, value)) = setting(act, words).filter(|_| is_git && ground == Ground::Foreign) {
        let title = format!("{who} was told to run {value} in this repository ({key})");
        return attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, key);
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

/// The setting of a repository that these words of git give a program, and the program.
fn setting<'w>(act: &Act<'_>, words: &'w [String]) -> Option<(&'w str, &'w str)> {
    let at = words.iter().position(|word| word == "config")?;
    let words = &words[at + 1..];
    let mut pairs = words.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str()));
    let (key, value) = pairs.find(|(key, _)| {
        let key = key.to_ascii_lowercase();
        RUNS_HERE.contains(&key.as_str()) || key.starts_with("alias.")
    })?;
    let is_look = words.iter().any(|word| word.starts_with("--unset") || word.starts_with("--get"));
    let runs = match key.to_ascii_lowercase().as_str() {
        key if key.starts_with("alias.") => value.starts_with('!'),
        // A folder of hooks in the repository is the project's own.
        "core.hookspath" => {
            value.starts_with('/') && !value.starts_with(&format!("{}/", act.context.job.workspace))
        }
        _ => !HARMLESS.contains(&value),
    };
    (runs && !is_look).then_some((key, value))
}

/// A hook of a repository is written by hand. In the workspace the project's own code may: that is how it sets up its own.
fn hooked(act: &Act<'_>, path: &str) -> Vec<Hit> {
    let ground = ground(act);
    let is_own = path.starts_with(&format!("{}/", act.context.job.workspace));
    if ground == Ground::Named
        || !leaves(act, path)
        || path.ends_with(".sample")
        || !is_strangers_repository(act, path)
        || matches!(act.explanation, Explanation::Declared(_))
        || (ground == Ground::Project && (is_own || is_set_up(act)))
    {
        return Vec::new();
    }
    let sure = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    let title = format!("{} changed a hook that git runs", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::High, sure), title, path)
}

/// Whether somebody who is neither git nor keeps its hooks writes into a repository that the job did not make itself.
pub(super) fn is_strangers_repository(act: &Act<'_>, path: &str) -> bool {
    let folder =
        path.split_once("/hooks/").or_else(|| path.rsplit_once('/')).map_or("", |(folder, _)| folder);
    let keeps_hooks = |process: &Process| {
        let file = process.launch.as_deref().map(run_file);
        file.is_some_and(|file| {
            catalogue::is_work_of("hook-managers", &file) && !act.lineage.is_changed(&file)
        })
    };
    act.process.tool != Some("git")
        && !act.lineage.has_made(&format!("{folder}/HEAD"))
        && !of_strand(act).any(keeps_hooks)
}

/// A program is made to run with its owner's rights. Packages do that, and an installation that the step names.
fn raised(act: &Act<'_>, path: &str, mode: u32) -> Vec<Hit> {
    const SET_USER: u32 = 0o4000;
    let ground = ground(act);
    let is_installer = |process: &Process| process.tool == Some("system-packages");
    if mode & SET_USER == 0
        || ground == Ground::Named
        || matches!(act.explanation, Explanation::Declared(_))
        || of_strand(act).any(is_installer)
        || is_set_up(act)
    {
        return Vec::new();
    }
    let strand = act.lineage.strand(act.process.key);
    let copy = strand.noted("shell-read").find(|note| is_near(act.lineage, note.process, act.process.key));
    // Tests of archives and file systems do it in places where nobody looks for programs.
    let is_aside = path.starts_with(&format!("{}/", act.context.job.workspace)) || is_scratch(path);
    let Some(copy) = copy.filter(|_| act.lineage.has_made(path)) else {
        if is_aside {
            return Vec::new();
        }
        let sure = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
        let title =
            format!("{} made {path} run with its owner's rights", named(act.lineage, act.process.key));
        return attack(act, &DETECTION, (Severity::High, sure), title, path);
    };
    let title = format!(
        "{} made {path} run with its owner's rights, after {} was read",
        named(act.lineage, act.process.key),
        copy.object
    );
    let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::High), title, path);
    hits[0].evidence.push(copy.sequence);
    hits
}

/// A table of cron's that its own program writes for a recipe, and not for a package that is being installed.
fn is_handed(act: &Act<'_>) -> bool {
    let is_installer = |process: &Process| process.tool == Some("system-packages");
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
    if let Activity::Chmod { mode, .. } = act.activity {
        return raised(act, path, *mode);
    }
    let title = match store {
        Some(store) if STORES.contains(&store.id.as_str()) => store.title.as_str(),
        None if is_git => "git's global configuration",
        None if catalogue::is_object("git-hooks", path) => return hooked(act, path),
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
            if !is_git
                && (act.explanation.is_undeclared() || is_handed(act))
                && (is_somebodys(act, path) || (leaves(act, path) && !is_set_up(act))) =>
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

    const HOSTS: &[&str] = &[
        "/etc/cron.daily/x",
        "/etc/anacrontab",
        "/etc/apt/apt.conf.d/99x",
        "/etc/dpkg/dpkg.cfg.d/x",
        "/etc/systemd/system/x.service",
        "/usr/lib/systemd/system-generators/x",
        "/etc/rc.local",
        "/etc/init.d/x",
        "/etc/udev/rules.d/99-x.rules",
        "/etc/tmpfiles.d/x.conf",
        "/etc/NetworkManager/dispatcher.d/x",
        "/etc/logrotate.d/x",
        "/etc/update-motd.d/99-x",
        "/etc/pam.d/sshd",
    ];

    fn each(act: &str) -> String {
        HOSTS.iter().map(|path| act.replace('#', path)).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_the_host_runs_by_itself_is_left_by_a_recipe() {
        for (step, trace, act) in [
            (
                "make all\n",
                "1 > 2 launch /usr/bin/make make all\n2 > 3 launch /usr/bin/perl perl x.pl",
                "3 create #",
            ),
            (
                "npm test\n",
                "1 > 2 launch /usr/bin/node node /usr/bin/npm test\n2 > 3 launch /usr/bin/node node t.js",
                "3 rename /tmp/x #",
            ),
            (
                "codex exec x\n",
                "1 > 2 agent codex\n2 launch /usr/local/bin/codex codex exec x\n2 > 3 launch /usr/bin/python3.11 python3 x.py",
                "3 symlink /tmp/x #",
            ),
        ] {
            let lines = findings(step, "", &format!("{trace}\n{}", each(act)));
            for path in HOSTS {
                let wanted = format!("!persistence attack high {path}");
                assert!(lines.contains(&wanted), "{step}{path}: {lines:?}");
            }
        }
    }

    #[test]
    fn installations_packages_actions_and_containers_may_set_up_the_host() {
        let named: Vec<String> = HOSTS.iter().map(|path| format!("install -m 644 x {path}")).collect();
        let installs: Vec<String> = (10..)
            .zip(HOSTS)
            .map(|(pid, path)| {
                format!("1 > {pid} launch /usr/bin/install install -m 644 x {path}\n{pid} create {path}")
            })
            .collect();
        assert_eq!(findings(&named.join("\n"), "", &installs.join("\n")), [""; 0]);
        for (step, trace, act) in [
            (
                "sudo make install\n",
                "1 > 2 launch /usr/bin/make make install\n2 > 3 launch /usr/bin/dash sh x.sh",
                "3 create #",
            ),
            (
                "make deps\n",
                "1 > 2 launch /usr/bin/make make deps\n2 > 3 launch /usr/bin/apt-get apt-get install x
                 3 > 4 launch /usr/bin/dpkg dpkg --configure x\n4 > 5 launch /usr/bin/dash sh x.postinst",
                "5 create #",
            ),
            (
                "node /home/runner/work/_actions/a/b/v1/dist/index.js\n",
                "1 > 2 launch /usr/bin/node node /home/runner/work/_actions/a/b/v1/dist/index.js",
                "2 create #",
            ),
            (
                "make image\n",
                "1 > 2 launch /usr/bin/make make image\n2 > 3 launch /usr/bin/buildah buildah bud .
                 3 > 4 launch /usr/bin/crun crun run x\n4 > 5 launch /usr/bin/dash sh -c x",
                "5 create #",
            ),
            (
                "make all\n",
                "1 > 2 launch /usr/bin/make make all\n2 > 3 launch /usr/bin/perl perl x.pl",
                "3 delete #",
            ),
        ] {
            let lines = findings(step, "", &format!("{trace}\n{}", each(act)));
            assert!(lines.iter().all(|line| !line.contains("persistence")), "{step}: {lines:?}");
        }
    }

    #[test]
    fn hooks_and_programs_of_git_in_any_repository() {
        let script =
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/node node x.js\n";
        let recipe = "1 > 2 launch /usr/bin/make make all\n2 > 3 launch /usr/bin/python3.11 python3 x.py\n";
        for (trace, path) in [
            (script, "/home/u/src/a/.git/hooks/post-checkout"),
            (script, "/w/.git/hooks/pre-commit"),
            (script, "/usr/share/git-core/templates/hooks/post-checkout"),
            (recipe, "/home/u/src/a/.git/hooks/post-checkout"),
            (recipe, "/srv/mirror.git/hooks/post-receive"),
        ] {
            let lines = findings("npm ci\nmake all\n", "", &format!("{trace}3 create {path}"));
            let wanted = format!("!persistence attack high {path}");
            assert!(lines.contains(&wanted), "{path}: {lines:?}");
        }
        for value in
            ["core.sshCommand /tmp/x", "alias.st !/tmp/x", "core.hooksPath /tmp/h", "core.editor /tmp/e"]
        {
            let lines =
                findings("npm ci\n", "", &format!("{script}3 > 4 launch /usr/bin/git git config {value}"));
            assert!(
                lines.iter().any(|line| line.starts_with("!persistence attack high")),
                "{value}: {lines:?}"
            );
        }
        for trace in [
            format!("{script}3 > 4 launch /usr/bin/git git config core.hooksPath .husky/_"),
            format!("{script}3 > 4 launch /usr/bin/git git config core.fsmonitor true"),
            format!("{script}3 > 4 launch /usr/bin/git git config alias.st status"),
            format!(
                "{script}3 > 4 launch /usr/bin/git git clone x /w/y\n4 create /w/y/.git/hooks/post-update"
            ),
            format!("{recipe}3 create /w/.git/hooks/pre-commit"),
            format!("{recipe}3 create /home/u/tmp/r/.git/HEAD\n3 create /home/u/tmp/r/.git/hooks/pre-push"),
            format!("{recipe}3 create /home/u/src/a/.git/hooks/pre-push.sample"),
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 create /w/node_modules/lefthook/install.js
             2 > 3 launch /usr/bin/node node /w/node_modules/lefthook/install.js
             3 create /w/.git/hooks/pre-commit"
                .to_owned(),
        ] {
            let lines = findings("npm ci\nmake all\n", "", &trace);
            assert!(lines.iter().all(|line| !line.contains("persistence")), "{trace}: {lines:?}");
        }
    }

    #[test]
    fn set_id_copies_anywhere_and_other_programs_outside_the_work() {
        let recipe = "1 > 2 launch /usr/bin/make make all\n2 > 3 launch /usr/bin/perl perl x.pl\n";
        let copied = |path: &str| {
            format!(
                "{recipe}3 > 4 launch /usr/bin/cp cp x y\n4 read /usr/bin/bash\n4 create {path}\n3 chmod {path} 4755"
            )
        };
        for path in ["/usr/local/lib/.x", "/tmp/x", "/w/out/x", "/home/u/.cache/x"] {
            let lines = findings("make all\n", "", &copied(path));
            assert!(lines.contains(&format!("!persistence attack high {path}")), "{path}: {lines:?}");
        }
        let plain = |path: &str, mode: &str| format!("{recipe}3 create {path}\n3 chmod {path} {mode}");
        let lines = findings("make all\n", "", &plain("/usr/local/bin/x", "4755"));
        assert!(lines.contains(&"!persistence attack high /usr/local/bin/x".to_owned()), "{lines:?}");
        for trace in [
            plain("/tmp/t/x", "4755"),
            plain("/w/rootfs/usr/bin/su", "4755"),
            plain("/usr/local/bin/x", "755"),
            format!(
                "{recipe}3 > 4 launch /usr/bin/dpkg dpkg -i x\n4 create /usr/bin/x\n4 chmod /usr/bin/x 4755"
            ),
            copied("/tmp/x").replace("4755", "755"),
        ] {
            let lines = findings("make all\n", "", &trace);
            assert!(lines.iter().all(|line| !line.contains("persistence")), "{trace}: {lines:?}");
        }
        let lines = findings(
            "make install\n",
            "",
            &plain("/usr/local/bin/x", "4755").replace("make all", "make install"),
        );
        assert!(lines.iter().all(|line| !line.contains("persistence")), "{lines:?}");
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
