//! Code or settings are put where every later shell, program or step starts from.
//!
//! ## What it sees
//! A shell's or a session's start-up file; Python's `sitecustomize` and start-up lines (`.pth`) outside a build folder, and what other
//! languages load first (Node's global modules and npm itself, Ruby's `site_ruby`, PHP's `conf.d`, Perl's `sitecustomize`, R's profiles); the
//! settings of package clients and downloaders in a home; a repository's `.git/config` that something else than git writes. By other
//! people's code, and by the project's own where neither the step names the file nor a client keeps it; settings of clients not by
//! the project's own, unless a coding agent has it run.
//!
//! By other people's code also what the loader puts into every program, and the files by which a step of a workflow sets variables and
//! the path of later steps. Of the project's own code these count by what it wrote: variables that make programs load a file from outside
//! the workspace, and on the path a scratch folder, or one where the job put a program under the name of one of the system's.
//!
//! A program that started with such lines and reads a credential or connects to a bare address. A program that was started with a library of
//! the job's in `LD_PRELOAD`, or with a file from a scratch folder in `NODE_OPTIONS` or `BASH_ENV`, and does that.
//!
//! ## Why it matters
//! The next command runs the attacker's code under its own good name.
//!
//! ## What to do
//! Put the file back, and remove the package that wrote it. Nothing that ran after it in this job can be trusted.
//!
//! ## Known limits
//! The project's own scripts set variables and the path of later steps as a matter of course. A step file is read when its writer ends; what is
//! put back before is not seen. An installer that the step's own text fetched and runs may change the shell's start: that stays a note, and
//! so does what a command changes that says it sets something up (`install`, `setup`, `bootstrap` …), an action, and a container that the job builds. What is in a file is not looked at: a
//! recipe that puts a plain folder on Python's path by hand is told like one that puts code there.

use super::{
    Act, Detection, Ground, Hit, attack, ground, is_bare, is_scratch, is_set_up, is_work, leaves, named,
    of_strand, persistence, reads_its_input, run_file,
};
use crate::catalogue;
use crate::divergence::{Effect, Explanation};
use crate::event::{Activity, Launch};
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::intent::basename;
use crate::lineage::{Process, Standing};

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
    let ground = ground(act);
    if ground == Ground::Named || matches!(act.activity, Activity::Delete { .. }) {
        return Vec::new();
    }
    let is_foreign = ground == Ground::Foreign;
    // The project's own code: only what it leaves there, and what neither the step's words nor its work explain.
    if !is_foreign && (!leaves(act, path) || is_set_up(act) || !is_unsaid(act)) {
        return Vec::new();
    }
    let sure = |by_others| if is_foreign { by_others } else { Confidence::Medium };
    let (what, confidence) = match store {
        Some(store) if matches!(store.id.as_str(), "shell-start-up" | "loader") => {
            // What every program of the machine loads is no part of anybody's build; where else the loader looks may be.
            let is_projects = store.id == "shell-start-up" && !is_installer(act) && !is_client(act)
                || path == "/etc/ld.so.preload";
            if act.explanation.reason().is_some() || (!is_foreign && !is_projects) {
                return Vec::new();
            }
            (store.title.as_str(), sure(Confidence::High))
        }
        // What the project's own code says there is read when it ends.
        None if is_foreign && catalogue::is_object("step-files", path) => {
            ("what later steps start with", Confidence::High)
        }
        None if is_python_start(path) => {
            if !is_foreign && (is_scratch(path) || is_new_environment(act, path) || is_python_installer(act))
            {
                return Vec::new();
            }
            ("what every Python program starts with", sure(Confidence::High))
        }
        None if is_in_homes(act, "client-settings", path) => {
            // Scripts of a project log in to its registries by these files, as a matter of course.
            if !is_foreign && (is_client(act) || act.process.agent.is_none()) {
                return Vec::new();
            }
            ("the settings of a client", Confidence::Medium)
        }
        None if catalogue::is_object("language-start-up", path)
            || is_in_homes(act, "language-start-up-home", path) =>
        {
            if is_client(act) {
                return Vec::new();
            }
            ("what every program of its language starts with", Confidence::Medium)
        }
        None if catalogue::is_object("git-settings", path) => {
            if !leaves(act, path) || !persistence::is_strangers_repository(act, path) {
                return Vec::new();
            }
            ("what git runs in this repository", Confidence::Medium)
        }
        Some(_) | None => return Vec::new(),
    };
    let title = format!("{} changed {what}", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::High, confidence), title, path)
}

/// Whether neither the text names the file nor a tool keeps it: that anything may write in a home explains nothing.
fn is_unsaid(act: &Act<'_>) -> bool {
    matches!(act.explanation, Explanation::Undeclared { .. } | Explanation::Derived(_))
}

/// Whether the file is one of these below the home of a user.
fn is_in_homes(act: &Act<'_>, id: &str, path: &str) -> bool {
    let below = |home: &String| path.strip_prefix(home.as_str())?.strip_prefix('/');
    act.context.all_homes.iter().filter_map(below).any(|rest| catalogue::is_object(id, rest))
}

/// Whether a client of packages, registries or clouds is itself at work: it keeps its own settings.
fn is_client(act: &Act<'_>) -> bool {
    let tool = act.process.tool.and_then(crate::commands::by_id);
    // `bundle exec` and `dotnet test` run the project's code in themselves.
    let words = act.process.launch.as_deref().map_or(&[][..], |launch| &launch.arguments);
    let runs_project = words.iter().any(|word| matches!(word.as_str(), "exec" | "run" | "test" | "vstest"));
    tool.is_some_and(|tool| tool.group.is_some() || matches!(tool.id, "containers" | "clouds" | "forges"))
        || (is_work(act, "settings-keepers") && !runs_project)
}

/// Whether the packages' folder is one that the job itself made in the workspace: nobody else starts there.
fn is_new_environment(act: &Act<'_>, path: &str) -> bool {
    let folder = path.split_once("-packages/").map(|(before, _)| format!("{before}-packages"));
    path.starts_with(&format!("{}/", act.context.job.workspace))
        && folder.is_some_and(|folder| act.lineage.has_made(&folder))
}

/// Whether it is a Python installer's work: pip itself, its helper, or the module that a recipe starts as one.
fn is_python_installer(act: &Act<'_>) -> bool {
    const MODULES: &[&str] =
        &["pip", "venv", "virtualenv", "ensurepip", "uv", "poetry", "pdm", "build", "installer"];
    let is_installer = |tool: &str| matches!(tool, "pip" | "system-packages");
    let helped = || act.lineage.helped(act.process.key).and_then(|helped| helped.tool);
    // `python3 -m venv`, unless the job put a module of that name where Python looks first.
    let is_module = |process: &Process| {
        let Some(launch) = process.launch.as_deref() else { return false };
        let mut words = launch.arguments.iter().skip(1);
        let module = words
            .find(|word| !word.starts_with("--") && word.starts_with('-') && word.ends_with('m'))
            .and_then(|_| words.next());
        module.is_some_and(|module| {
            let beside =
                |file: &str| act.lineage.has_written(&format!("{}/{module}{file}", launch.directory));
            basename(&launch.executable.path).starts_with("python")
                && MODULES.contains(&module.as_str())
                && !beside(".py")
                && !beside("/__init__.py")
        })
    };
    act.process.tool.is_some_and(is_installer)
        || (act.process.standing == Standing::Helper && helped().is_some_and(is_installer))
        || of_strand(act).any(is_module)
}

/// Whether the step's own text fetched a script and runs it, or reads it from a pipe: the usual way to install a tool chain,
/// which then adds itself to the shell's start.
fn is_installer(act: &Act<'_>) -> bool {
    let root = act.lineage.get(act.process.strand);
    let root = root.filter(|root| root.standing == Standing::Command && root.tool == Some("shells"));
    root.and_then(|root| root.launch.as_deref())
        .is_some_and(|launch| reads_its_input(launch) || act.lineage.has_written(&run_file(launch)))
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
        // A client's own lines are nobody's trap.
        let own = planted.replace("python3 x.py", "python3 /usr/bin/pip install x");
        let lines =
            findings("make\npython3.11 -c 'print(1)'\n", "", &format!("{own}4 read ~/.aws/credentials"));
        assert!(!lines.iter().any(|line| line.contains("startup-hijack")), "{lines:?}");
    }

    fn told(step: &str, trace: &str) -> Vec<String> {
        let lines = findings(step, "", trace);
        lines.into_iter().filter(|line| line.contains("startup-hijack")).collect()
    }

    #[test]
    fn what_shells_languages_clients_and_git_start_with_is_changed_by_a_recipe() {
        const PLACES: &[&str] = &[
            "/home/u/.bash_aliases",
            "/home/u/.zshenv",
            "/home/u/.bash_logout",
            "/home/u/.config/fish/config.fish",
            "/home/u/.config/fish/conf.d/x.fish",
            "/home/u/.config/environment.d/x.conf",
            "/home/u/.xprofile",
            "/home/u/.pam_environment",
            "/home/u/.inputrc",
            "/home/u/.tcshrc",
            "/home/u/.config/nushell/config.nu",
            "/home/u/.config/powershell/profile.ps1",
            "/etc/profile.d/x.sh",
            "/usr/local/lib/python3.11/dist-packages/zz.pth",
            "/usr/lib/python3/dist-packages/sitecustomize.py",
            "/w/.venv/lib/python3.11/site-packages/a.pth",
            "/usr/local/lib/node_modules/npm/lib/cli.js",
            "/usr/lib/ruby/vendor_ruby/rubygems/defaults/operating_system.rb",
            "/etc/php/8.2/cli/conf.d/99-x.ini",
            "/w/.git/config",
            "/home/u/src/a/.git/config",
        ];
        for (step, above) in [
            ("make all\n", "1 > 2 launch /usr/bin/make make all\n2 > 3 launch /usr/bin/perl perl x.pl\n"),
            (
                "npm test\n",
                "1 > 2 launch /usr/bin/node node /usr/bin/npm test\n2 > 3 launch /usr/bin/node node x.js\n",
            ),
            (
                "uv run t.py\n",
                "1 > 2 launch /usr/bin/uv uv run t.py\n2 > 3 launch /usr/bin/python3.11 python3 t.py\n",
            ),
            ("python3 tests/run.py\n", "1 > 3 launch /usr/bin/python3.11 python3 tests/run.py\n"),
        ] {
            // More of one program would be told as one.
            for places in PLACES.chunks(15) {
                let acts: Vec<String> = places.iter().map(|path| format!("3 create {path}")).collect();
                let lines = told(step, &format!("{above}{}", acts.join("\n")));
                for path in places {
                    let wanted = format!("!startup-hijack attack high {path}");
                    assert!(lines.contains(&wanted), "{step}{path}: {lines:?}");
                }
            }
        }
        // By a tool that copies what it is given.
        let copied =
            "1 > 2 launch /usr/bin/make make all\n2 > 3 launch /usr/bin/curl curl -o x y\n3 create ~/.bashrc";
        assert_eq!(told("make all\n", copied), ["!startup-hijack attack high /home/u/.bashrc"]);
    }

    #[test]
    fn who_keeps_these_files_and_what_the_step_says_stay_quiet() {
        let make = "1 > 2 launch /usr/bin/make make all\n";
        for (step, trace) in [
            // The step names the file, or the tool that keeps it.
            ("mkdir -p ~/.m2 && echo x > ~/.m2/settings.xml\n", "1 create ~/.m2/settings.xml".to_owned()),
            ("echo 'alias x=y' >> ~/.bash_aliases\n", "1 write ~/.bash_aliases".to_owned()),
            (
                "bundle config set path x\n",
                "1 > 2 launch /usr/bin/ruby3.1 ruby /usr/bin/bundle config set path x\n2 launch /usr/bin/bundle bundle config set path x\n2 create ~/.bundle/config".to_owned(),
            ),
            // A script of the project's logs in to a registry, or sets the machine up.
            ("./ci/publish.sh\n", "1 > 3 launch /usr/bin/bash@/w/ci/publish.sh bash ./ci/publish.sh\n3 create ~/.npmrc\n3 create ~/.m2/settings.xml".to_owned()),
            ("./ci/setup.sh\n", "1 > 3 launch /usr/bin/bash bash ./ci/setup.sh\n3 write ~/.bashrc".to_owned()),
            ("make bootstrap\n", "1 > 2 launch /usr/bin/make make bootstrap\n2 > 3 launch /usr/bin/dash sh -c x\n3 write ~/.profile".to_owned()),
            // A recipe's clients at their work.
            ("make all\n", format!("{make}2 > 3 launch /usr/bin/node node /usr/bin/npm config set registry x\n3 create ~/.npmrc")),
            ("make all\n", format!("{make}2 > 3 launch /usr/bin/docker docker login\n3 create ~/.docker/config.json")),
            ("make all\n", format!("{make}2 > 3 launch /usr/bin/python3.11 python3 /usr/bin/pip install x\n3 create /w/.venv/lib/python3.11/site-packages/x.pth")),
            (
                "make all\n",
                format!("{make}2 > 3 launch /usr/bin/python3.11 python3 -Im venv .venv\n3 > 4 launch /usr/bin/python3.11 python3 -c x\n4 create /w/.venv/lib/python3.11/site-packages/distutils-precedence.pth"),
            ),
            ("make all\n", format!("{make}2 > 3 launch /usr/bin/python3.11 python3 -m pip install x\n3 create ~/.local/lib/python3.11/site-packages/x.pth")),
            ("make all\n", format!("{make}2 > 3 launch /usr/bin/python3.11 python3 t.py\n3 create /tmp/t/lib/python3.11/site-packages/x.pth")),
            ("make all\n", format!("{make}2 > 3 launch /usr/bin/git git config user.name x\n3 create /w/.git/config.lock\n3 rename /w/.git/config.lock /w/.git/config")),
            ("make all\n", format!("{make}2 > 3 launch /usr/bin/python3.11 python3 t.py\n3 create /srv/r/.git/HEAD\n3 create /srv/r/.git/config")),
            ("make all\n", format!("{make}2 > 3 launch /usr/bin/perl perl x.pl\n3 delete ~/.npmrc\n3 delete ~/.bash_logout")),
            (
                "make all\n",
                format!(
                    "{make}2 > 3 launch /usr/bin/python3.11 python3 t.py\n3 mkdir /w/env/lib/site-packages\n3 create /w/env/lib/site-packages/x.pth"
                ),
            ),
            // An installer that the step fetched, an action, an installation, a package.
            (
                "curl -fsSL https://tool.example/up.sh -o up.sh && sh up.sh\n",
                "1 > 2 launch /usr/bin/curl curl -o up.sh x\n2 create /w/up.sh\n1 > 3 launch /usr/bin/dash@/usr/bin/sh sh up.sh\n3 write ~/.profile\n3 > 4 launch /usr/bin/tee tee\n4 write ~/.bashrc".to_owned(),
            ),
            (
                "curl -fsSL https://tool.example/up.sh | sh -s -- -y\n",
                "1 > 3 launch /usr/bin/dash@/usr/bin/sh sh -s -- -y\n3 write ~/.profile".to_owned(),
            ),
            (
                "node /home/runner/work/_actions/actions/setup-java/v4/dist/setup/index.js\n",
                "1 > 2 launch /usr/bin/node node /home/runner/work/_actions/actions/setup-java/v4/dist/setup/index.js\n2 create ~/.m2/settings.xml".to_owned(),
            ),
            ("make install\n", "1 > 2 launch /usr/bin/make make install\n2 > 3 launch /usr/bin/dash sh x.sh\n3 create /etc/profile.d/x.sh".to_owned()),
            ("apt-get install x\n", "1 > 2 launch /usr/bin/apt-get apt-get install x\n2 > 3 launch /usr/bin/dpkg dpkg x\n3 create /etc/profile.d/x.sh\n3 create /etc/php/8.2/cli/conf.d/20-x.ini".to_owned()),
        ] {
            assert_eq!(told(step, &trace), [""; 0], "{step}{trace}");
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
