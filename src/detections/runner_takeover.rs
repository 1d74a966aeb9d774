//! The job changes the runner that runs it.
//!
//! ## What it sees
//! The runner's programs, settings and credentials, the actions it downloaded, and the scripts of steps that are still to come, written by
//! other people's or the project's own code.
//! A runner that such code registers or starts itself: by the files that registering leaves side by side, and by its program. A process
//! that is given another mark than the one by which the runner ends what a job leaves behind, and one that a program of the project
//! forked off and left behind when it ended.
//!
//! ## Why it matters
//! The runner starts every later step and job, and holds all their secrets; a changed action runs in its own later step.
//!
//! ## What to do
//! Throw the machine away and register the runner anew. Runners for one job each have nothing to take over.
//!
//! ## Known limits
//! Runners are known by their usual folders and programs; the scripts of steps by the folder that the job's own step files lie in, too.
//! A script that was not there before is nobody's step. What an action installs below itself does not count. A daemon that outlives
//! the job and was started as a program of its own is a line in the report's gaps: many jobs leave some.

use super::{Act, Detection, Ground, Hit, attack, ground, named};
use crate::catalogue;
use crate::divergence::{Effect, Explanation};
use crate::event::{Activity, Launch};
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::intent::basename;
use crate::lineage::Standing;

pub const DETECTION: Detection = Detection {
    id: RuleId("runner-takeover"),
    severity: Severity::Critical,
    confidence: Confidence::High,
    techniques: &[Technique("T1554"), Technique("T1543")],
    references: &[],
    frameworks: &["CICD-SEC-7", "ASI10"],
    remedy: "Throw the machine away, register the runner anew, and remove what wrote there.",
    source: include_str!("runner_takeover.rs"),
    check,
};

/// Programs of runners, and the words that register or start one; none is needed where there are none.
const RUNNERS: &[(&str, &[&str])] = &[
    ("Runner.Listener", &[]),
    ("Runner.Worker", &[]),
    ("Agent.Listener", &[]),
    ("gitlab-runner", &["register", "run", "run-single", "start", "install"]),
    ("gitlab-ci-multi-runner", &["register", "run", "start", "install"]),
    ("act_runner", &["register", "daemon"]),
    ("forgejo-runner", &["register", "daemon"]),
    ("buildkite-agent", &["start"]),
    ("circleci-runner", &["machine"]),
    ("woodpecker-agent", &[]),
];
/// The mark by which the runner finds what a job left behind.
const MARK: &str = "RUNNER_TRACKING_ID";
/// What registering a runner leaves in its folder.
const REGISTERED: &[&str] = &[".runner", ".credentials", ".credentials_rsaparams"];

/// What a strand remembers: a file that registering a runner leaves.
pub(super) fn kept(act: &Act<'_>) -> Option<(&'static str, String)> {
    let Effect::Write { path, .. } = act.effect else { return None };
    let is_made =
        matches!(act.activity, Activity::Open { .. } | Activity::Rename { .. } | Activity::Link { .. });
    (is_made && REGISTERED.contains(&basename(path)) && ground(act) != Ground::Named)
        .then(|| ("runner-registered", path.clone()))
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    match (act.effect, act.activity) {
        (Effect::Write { path, .. }, _) => {
            let mut hits = registered(act, path);
            hits.extend(changed(act, path));
            hits.extend(rewritten(act, path));
            hits
        }
        (Effect::Launch { program }, Activity::Launch(launch)) => {
            let mut hits = started(act, program, launch);
            hits.extend(unmarked(act, program, launch));
            hits
        }
        _ => Vec::new(),
    }
}

fn sureness(act: &Act<'_>) -> Confidence {
    if ground(act) == Ground::Foreign { Confidence::High } else { Confidence::Medium }
}

fn changed(act: &Act<'_>, path: &str) -> Vec<Hit> {
    if ground(act) == Ground::Named
        || !catalogue::is_object("runner-own", path)
        || matches!(act.explanation, Explanation::Declared(_))
        || path.starts_with(&format!("{}/", act.context.job.workspace))
        || ["/node_modules/", "/__pycache__/", "/.venv/", "/target/"].iter().any(|part| path.contains(part))
        || is_its_own_action(act, path)
    {
        return Vec::new();
    }
    let title = format!("{} changed the runner that runs this job", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::Critical, sureness(act)), title, path)
}

/// The script of a step that is still to come, or what a later step is told, gets another text.
fn rewritten(act: &Act<'_>, path: &str) -> Vec<Hit> {
    let was_there = match act.activity {
        Activity::Open { access, .. } => access.write && !access.create && !act.lineage.has_made(path),
        Activity::Rename { to, .. } => to.path == path && !act.lineage.has_made(path),
        Activity::Truncate { .. } => !act.lineage.has_made(path),
        _ => false,
    };
    // The runner's own folder for the job lies above its files for steps.
    let is_of_runner = || {
        let own = act.process.launch.as_deref().into_iter();
        let above = act.lineage.ancestors(act.process.key).filter_map(|above| above.launch.as_deref());
        let folders = own.chain(above).filter_map(|launch| {
            let output = launch.environment.get("GITHUB_OUTPUT")?;
            Some(output.split_once("/_runner_file_commands/")?.0)
        });
        let (folder, name) = path.rsplit_once('/').unwrap_or_default();
        let is_script = [".sh", ".ps1", ".py", ".cmd", ".js"].iter().any(|ending| name.ends_with(ending));
        is_script && folders.take(1).any(|of_job| of_job == folder)
    };
    if ground(act) == Ground::Named
        || !was_there
        || matches!(act.explanation, Explanation::Declared(_))
        || !(catalogue::is_object("step-scripts", path) || is_of_runner())
    {
        return Vec::new();
    }
    let title = format!("{} changed what a later step runs", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::Critical, sureness(act)), title, path)
}

/// Whether the file is part of the very action that is at work: `…/_actions/OWNER/NAME/REF`.
fn is_its_own_action(act: &Act<'_>, path: &str) -> bool {
    let Some((before, rest)) = path.split_once("/_actions/") else { return false };
    let parts: Vec<&str> = rest.splitn(4, '/').take(3).collect();
    let folder = format!("{before}/_actions/{}/", parts.join("/"));
    let is_of_it = |launch: &Launch| {
        launch.program().path.starts_with(&folder)
            || launch.arguments.iter().any(|word| word.starts_with(&folder))
    };
    ground(act) != Ground::Foreign
        && std::iter::once(act.process)
            .chain(act.lineage.ancestors(act.process.key))
            .any(|process| process.launch.as_deref().is_some_and(is_of_it))
}

/// Two of the files that registering leaves, side by side.
fn registered(act: &Act<'_>, path: &str) -> Vec<Hit> {
    if kept(act).is_none() || matches!(act.explanation, Explanation::Declared(_)) {
        return Vec::new();
    }
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned());
    let mut notes = act.lineage.strand(act.process.key).noted("runner-registered");
    let other = notes.find(|note| note.object != path && folder(&note.object) == folder(path));
    let Some(other) = other else { return Vec::new() };
    let folder = folder(path).unwrap_or_default();
    let title = format!("{} registered a runner of its own in {folder}", named(act.lineage, act.process.key));
    let mut hits = attack(act, &DETECTION, (Severity::Critical, sureness(act)), title, folder);
    hits[0].evidence.push(other.sequence);
    hits
}

/// A runner's program, started or told to register by code that the step's text does not name.
fn started(act: &Act<'_>, program: &str, launch: &Launch) -> Vec<Hit> {
    if matches!(act.process.standing, Standing::Text | Standing::Command) {
        return Vec::new();
    }
    let names = [basename(program), basename(&launch.executable.path), basename(&launch.requested)];
    let is_runner = RUNNERS.iter().any(|(name, verbs)| {
        names.contains(name)
            && (verbs.is_empty() || launch.arguments.iter().any(|word| verbs.contains(&word.as_str())))
    });
    // The words by which GitHub's runner is registered, whatever the script is called.
    let is_registered = ["--url", "--token", "--unattended"]
        .iter()
        .all(|option| launch.arguments.iter().any(|word| word == option));
    if !is_runner && !is_registered {
        return Vec::new();
    }
    let title = format!("{} is a runner that this job starts itself", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::Critical, sureness(act)), title, program)
}

/// A process that is given another mark: the runner won't find it when the job is over.
fn unmarked(act: &Act<'_>, program: &str, launch: &Launch) -> Vec<Hit> {
    let Some(own) = launch.environment.get(MARK) else { return Vec::new() };
    let mut above = act.lineage.ancestors(act.process.key).filter_map(|above| above.launch.as_deref());
    let Some(before) = above.find_map(|above| above.environment.get(MARK)) else { return Vec::new() };
    if own == before {
        return Vec::new();
    }
    // A step's text that sets it says that something is to stay.
    let weight = match act.process.standing {
        Standing::Text | Standing::Command => (Severity::Low, Confidence::Medium),
        _ => (Severity::High, sureness(act)),
    };
    let title = format!(
        "{} does not carry the mark by which the runner ends what a job leaves behind",
        named(act.lineage, act.process.key)
    );
    attack(act, &DETECTION, weight, title, program)
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn the_runner_its_actions_and_its_settings() {
        for path in [
            "/home/runner/actions-runner/bin/Runner.Worker.dll",
            "/home/runner/work/_actions/a/b/v1/dist/index.js",
            "/srv/x/_work/_actions/a/b/v1/post.js",
            "/etc/gitlab-runner/config.toml",
        ] {
            for (step, program) in
                [("npm ci\n", "/usr/bin/node node /usr/bin/npm ci"), ("make all\n", "/usr/bin/make make all")]
            {
                let trace = format!(
                    "1 > 2 launch {program}\n2 > 3 launch /usr/bin/python3.11 python3 x.py\n3 write {path}"
                );
                let wanted = format!("!runner-takeover attack critical {path}");
                assert!(findings(step, "", &trace).contains(&wanted), "{path}");
            }
        }
    }

    #[test]
    fn scripts_of_steps_that_are_still_to_come() {
        let told = |trace: &str| {
            let build = "1 > 2 launch /usr/bin/make make build ^GITHUB_OUTPUT=/srv/t/_runner_file_commands/set_output_1
                         2 > 3 launch /usr/bin/python3.11 python3 x.py";
            let lines = findings("make build\n", "", &format!("{build}\n{trace}"));
            lines.into_iter().filter(|line| line.contains("runner-takeover")).collect::<Vec<_>>()
        };
        for (act, path) in [
            ("3 write", "/srv/t/6a1f-next.sh"),
            ("3 truncate", "/srv/t/6a1f-next.sh"),
            ("3 rename /tmp/x", "/srv/t/6a1f-next.sh"),
            ("3 write", "/home/runner/work/_temp/6a1f.sh"),
            ("3 write", "/scripts-12-345/build_script"),
        ] {
            assert_eq!(told(&format!("{act} {path}")), [format!("!runner-takeover attack critical {path}")]);
        }
        for trace in [
            "3 create /srv/t/own.sh\n3 write /srv/t/own.sh",
            "3 write /srv/t/notes.txt",
            "3 write /srv/t/sub/x.sh",
            "3 write /srv/other/x.sh",
        ] {
            assert_eq!(told(trace), [""; 0], "{trace}");
        }
        let step = "1 > 2 launch /usr/bin/sed sed -i x /home/runner/work/_temp/a.sh\n2 write /home/runner/work/_temp/a.sh";
        assert_eq!(findings("sed -i s/a/b/ /home/runner/work/_temp/a.sh\n", "", step), [""; 0]);
    }

    #[test]
    fn an_action_that_installs_its_own_packages_stays_quiet() {
        let lines = findings(
            "npm ci\n",
            "",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 create /home/runner/work/_actions/a/b/v1/node_modules/c/index.js
             2 > 3 launch /usr/bin/node node install.js
             3 create /home/runner/work/_actions/a/b/v1/node_modules/c/bin/x",
        );
        assert!(lines.iter().all(|line| !line.contains("runner-takeover")), "{lines:?}");
        expect("make\n", "1 > 2 launch /usr/bin/make make\n2 create /w/config.sh", &[]);
    }

    #[test]
    fn a_runner_of_its_own_is_registered_and_started() {
        let build = "1 > 2 launch /usr/bin/make make build\n2 > 3 launch /usr/bin/node node x.js\n";
        let lines = findings(
            "make build\n",
            "",
            &format!("{build}3 create ~/.x/.runner\n3 create ~/.x/.credentials"),
        );
        assert_eq!(
            lines,
            [
                "!runner-takeover attack critical /home/u/.x",
                "!runner-takeover attack critical /home/u/.x/.runner"
            ]
        );
        for program in [
            "!/home/u/.x/bin/Runner.Listener Runner.Listener run",
            "/usr/bin/gitlab-runner gitlab-runner register",
            "/usr/bin/bash bash ./setup --url x --unattended --token x",
        ] {
            let lines = findings("make build\n", "", &format!("{build}3 > 4 launch {program}"));
            assert!(
                lines.iter().any(|line| line.starts_with("!runner-takeover attack critical")),
                "{lines:?}"
            );
        }
        // The step says so; a package has one such file; a helper of the runner packs a cache.
        expect(
            "./config.sh --url x\n./bin/Runner.Listener run\nmake build\n",
            &format!(
                "1 > 5 launch /w/bin/Runner.Listener Runner.Listener run
                 {build}3 create ~/.x/.credentials
                 3 > 4 launch /usr/bin/gitlab-runner gitlab-runner cache-archiver"
            ),
            &[],
        );
    }

    #[test]
    fn a_process_without_the_runners_mark() {
        let trace = |mark: &str| {
            format!(
                "1 > 2 launch /usr/bin/make make build ^RUNNER_TRACKING_ID=github_1
                 2 > 3 launch /usr/bin/python3.11 python3 x.py ^RUNNER_TRACKING_ID=github_1
                 3 > 4 launch /usr/bin/sleep sleep 9 {mark}"
            )
        };
        expect(
            "make build\n",
            &trace("^RUNNER_TRACKING_ID=0"),
            &["!runner-takeover attack high /usr/bin/sleep"],
        );
        expect("make build\n", &trace("^RUNNER_TRACKING_ID=github_1"), &[]);
        expect("make build\n", &trace(""), &[]);
    }

    #[test]
    fn a_process_that_outlives_the_job_without_the_mark() {
        let trace = |variable: &str, end: &str| {
            format!(
                "1 > 2 launch /usr/bin/make make build ^RUNNER_TRACKING_ID=github_1 ^GITHUB_JOB=a
                 2 > 3 launch /usr/bin/python3.11 python3 x.py ^RUNNER_TRACKING_ID=github_1 ^GITHUB_JOB=a
                 3 > 4 launch /usr/bin/sleep sleep 9 {variable}
                 {end}"
            )
        };
        let wanted = ["!runner-takeover attack high /usr/bin/sleep"];
        expect("make build\n", &trace("^GITHUB_JOB=a", ""), &wanted);
        expect("make build\n", &trace("^GITHUB_JOB=a", "4 exit"), &[]);
        // With nothing of the environment, as a daemon may be, and with all of it.
        expect("make build\n", &trace("", ""), &[]);
        expect("make build\n", &trace("^RUNNER_TRACKING_ID=github_1 ^GITHUB_JOB=a", ""), &[]);
    }

    #[test]
    fn a_fork_that_its_program_left_behind() {
        let trace = |ends: &str| {
            format!(
                "1 > 2 launch /usr/bin/make make build
                 2 > 3 launch /usr/bin/python3.11 python3 x.py
                 3 > 4
                 4 > 5
                 {ends}"
            )
        };
        expect(
            "make build\n",
            &trace("3 exit\n4 exit\n2 exit"),
            &["!runner-takeover attack high /usr/bin/python3.11"],
        );
        // It ends in time; its program still waits for it; a program of its own, as daemons are.
        expect("make build\n", &trace("3 exit\n4 exit\n5 exit\n2 exit"), &[]);
        expect("make build\n", &trace("5 exit"), &[]);
        expect("make build\n", &trace("5 launch /usr/bin/redis-server redis-server\n3 exit\n4 exit"), &[]);
    }

    #[test]
    fn an_action_that_builds_itself_stays_quiet() {
        let lines = findings(
            "node /srv/_actions/a/b/v1/index.js\n",
            "",
            "1 > 2 launch /usr/bin/node node /srv/_actions/a/b/v1/index.js
             2 create /srv/_actions/a/b/v1/dist/tool
             2 write /srv/_actions/c/d/v1/dist/index.js",
        );
        let lines: Vec<_> = lines.iter().filter(|line| line.contains("runner-takeover")).collect();
        assert_eq!(lines, ["!runner-takeover attack critical /srv/_actions/c/d/v1/dist/index.js"]);
    }
}
