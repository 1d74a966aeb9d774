//! An object outside the job's folder is reached by a name that looks as if it were inside, or harmless.
//!
//! ## What it sees
//! A credential store that is read, or a place that runs again later that is written, through a link, a mount, or a process's root or
//! working folder in `/proc`, by a name that does not say what it is; a program started by way of such a folder in `/proc`; a file
//! put outside the workspace through a link that the same program had made in it, or by a name that climbs out with `..`, which is
//! how an archive escapes the folder it is unpacked in. Below a coding agent also: anything outside the workspace read through
//! `/proc`, a file in a folder whose path only begins like the workspace's, and what is written through a link that lay in a
//! folder for temporary files.
//!
//! ## Why it matters
//! Whoever compares names, a deny list, an agent's permission prompt, a file server with a root of its own, is got round by
//! another name. The object stays the same.
//!
//! ## What to do
//! Find who made the link or mount: if the job did not, it came with the checkout. Revoke a credential that was read this way. Let
//! tools resolve a path before they compare it, part by part.
//!
//! ## Known limits
//! A program that first goes into a folder through a link, or takes hold of it without opening it (`O_PATH`), and then uses short
//! names shows only the real folder. A link that was
//! there before the job and that the project's own code follows is a note. A file that is only read and lies in the workspace
//! or below `/usr` is known by its own path alone. Of requests in an `io_uring` only the asked name is
//! known. An archive that escapes by a name its program has tidied is a write outside the workspace like any other.

use std::borrow::Cow;

use super::{Act, Detection, Ground, Hit, ground, named};
use crate::divergence::{Effect, is_ordinary_place};
use crate::event::{Activity, File, Launch, normal_path};
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};
use crate::intent::basename;
use crate::lineage::Process;

pub const DETECTION: Detection = Detection {
    id: RuleId("sandbox-path-escape"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1564"), Technique("T1552.001"), Technique("AML.T0105")],
    references: &["CVE-2025-53109", "CVE-2025-53110", "CVE-2025-54794", "CVE-2026-46406"],
    frameworks: &["CICD-SEC-6", "ASI05"],
    remedy: "Find who made the link or mount, revoke what was read through it, and compare resolved paths instead of names.",
    source: include_str!("sandbox_path_escape.rs"),
    check,
};

/// A folder of a process in `/proc` that was opened.
const PROC_FOLDER: &str = "proc-folder";

/// What a strand remembers: links that were made, and folders opened by way of `/proc`.
pub(super) fn kept(act: &Act<'_>) -> Option<(&'static str, String)> {
    match (act.effect, act.activity) {
        (Effect::Write { path, .. }, Activity::Symlink { .. }) => Some(("link", path.clone())),
        (Effect::Other, Activity::Open { file, access }) if access.directory => {
            file.asked.clone().filter(|asked| of_proc(asked).is_some()).map(|asked| (PROC_FOLDER, asked))
        }
        _ => None,
    }
}

/// Whether a read of this ordinary file is put before the rule: by its name, or by the place beside an agent's workspace.
pub fn is_astray(process: Option<&Process>, file: &File, workspace: &str) -> bool {
    let is_agents = || process.is_some_and(|process| process.agent.is_some());
    file.asked.as_deref().is_some_and(|asked| of_proc(asked).is_some())
        || (beside(&file.path, workspace).is_some() && is_agents())
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    let hit = match (act.effect, act.activity) {
        (Effect::Read { path, store, by_owner }, _) => {
            // An interpreter owns what any of its programs may open, but not by another name.
            let is_casual = *by_owner && store.is_opened_casually_by(&act.process.name);
            let is_looked_at = is_casual || (!by_owner && act.explanation.reason().is_none());
            let name = if is_looked_at { disguised(act, path) } else { None };
            name.map(|name| {
                let title = format!("read {} by the name {name}", store.title);
                tell(act, Kind::Attack, weight(act, &name), &title, path)
            })
        }
        (Effect::Write { path, store: Some(store) }, Activity::Open { .. })
            if act.explanation.reason().is_none() =>
        {
            let climbed = climbing(act, path);
            let is_climbed = climbed.is_some();
            climbed.or_else(|| disguised(act, path)).map(|name| {
                let made = (Severity::High, Confidence::Medium);
                let (mut severity, confidence) = if is_climbed { made } else { weight(act, &name) };
                if act.process.agent.is_some() {
                    severity = Severity::Critical;
                }
                let title = format!("changed {} by the name {name}", store.title);
                tell(act, Kind::Attack, (severity, confidence), &title, path)
            })
        }
        (Effect::Write { path, store: None }, Activity::Open { file, .. }) => written(act, path, file),
        (Effect::Launch { program }, Activity::Launch(launch)) => launched(act, program, launch),
        (Effect::Other, Activity::Open { file, .. }) if act.explanation.is_undeclared() => astray(act, file),
        _ => None,
    };
    hit.into_iter().collect()
}

fn tell(act: &Act<'_>, kind: Kind, weight: (Severity, Confidence), title: &str, object: &str) -> Hit {
    Hit {
        rule: &DETECTION,
        kind,
        severity: weight.0,
        confidence: weight.1,
        title: format!("{} {title}", named(act.lineage, act.process.key)),
        process: act.process.key,
        object: object.to_owned(),
        evidence: Vec::new(),
        replaces: Some(RuleId("file-undeclared")),
        remedy: None,
    }
}

/// The name by which the store at `path` was opened, if it hides what it is.
fn disguised<'a>(act: &'a Act<'_>, path: &str) -> Option<Cow<'a, str>> {
    let Activity::Open { file, .. } = act.activity else { return None };
    let name = match &file.asked {
        Some(asked) if of_proc(asked).is_some() => return Some(asked.into()),
        Some(asked) => absolute(act, asked),
        // A hard link or a mount: another path, yet the same object.
        None if file.path != path => file.path.as_str().into(),
        // From a folder that it opened by way of `/proc`.
        None => {
            let strand = act.lineage.strand(act.process.key);
            let folder = strand.noted(PROC_FOLDER).find(|note| note.process == act.process.key)?;
            return Some(format!("{}/…", folder.object).into());
        }
    };
    let names_a_store = act.context.catalogue.is_some_and(|catalogue| {
        catalogue.credential(&name).is_some() || catalogue.persistence(&name).is_some()
    });
    (!names_a_store && tail(&name) != tail(path)).then_some(name)
}

/// How sure it is that somebody hides something: a link of the user's own is a habit, one that the job made is not.
fn weight(act: &Act<'_>, name: &str) -> (Severity, Confidence) {
    let is_made = prefixes(name).any(|part| act.lineage.has_written(part));
    let is_mounted = matches!(act.activity, Activity::Open { file, .. } if file.asked.is_none());
    match ground(act) {
        _ if of_proc(name).is_some() => (Severity::High, Confidence::High),
        Ground::Foreign => (Severity::High, Confidence::High),
        _ if is_made || is_mounted || act.process.agent.is_some() => (Severity::High, Confidence::Medium),
        _ => (Severity::Medium, Confidence::Medium),
    }
}

/// The asked name, where it begins in the workspace or in a scratch folder and `..` leads out of it.
fn climbing<'a>(act: &'a Act<'_>, path: &str) -> Option<Cow<'a, str>> {
    let Activity::Open { file, .. } = act.activity else { return None };
    let asked = file.asked.as_deref()?;
    let whole = if asked.starts_with('/') { asked.to_owned() } else { format!("{}/{asked}", directory(act)) };
    let first = whole.split("/../").next()?;
    let climbs = first.len() < whole.len() && asked.contains("/../") && normal_path(&whole) == path;
    (climbs && is_inside(act, first) && !is_inside(act, path)).then_some(asked.into())
}

/// An ordinary file that is written outside by way of the inside.
fn written(act: &Act<'_>, path: &str, file: &File) -> Option<Hit> {
    let asked = file.asked.as_deref()?;
    let name = absolute(act, asked);
    let is_agents = act.process.agent.is_some();
    if of_proc(asked).is_some() {
        let severity = if is_agents { Severity::High } else { Severity::Low };
        let title = format!("wrote {path} by way of {asked}");
        return Some(tell(act, Kind::Divergence, (severity, Confidence::Medium), &title, path));
    }
    if climbing(act, path).is_some() {
        let title = format!("wrote {path}, which `..` in {asked} leads to");
        return Some(tell(act, Kind::Divergence, (Severity::Low, Confidence::Medium), &title, path));
    }
    if !is_inside(act, &name) {
        return None;
    }
    // Who unpacks a link and then goes through it, was led there by what it unpacks.
    let own = act.lineage.strand(act.process.key).noted("link").find(|note| {
        note.process == act.process.key
            && name.strip_prefix(note.object.as_str()).is_some_and(|rest| rest.starts_with('/'))
    });
    if let Some(link) = own.filter(|_| !is_inside(act, path)) {
        let title = format!("made the link {} and wrote {path} through it", link.object);
        let mut hit = tell(act, Kind::Attack, (Severity::High, Confidence::Medium), &title, path);
        hit.evidence.push(link.sequence);
        return Some(hit);
    }
    let is_elsewhere = !is_scratch(path) && (is_agents || !is_ordinary_place(path, act.context));
    (is_scratch(&name) && is_elsewhere && tail(&name) != tail(path)).then(|| {
        let title = format!("wrote {path} through a link at {name}");
        tell(act, Kind::Divergence, (Severity::Low, Confidence::Medium), &title, path)
    })
}

/// A program asked for by way of a process's root or working folder.
fn launched(act: &Act<'_>, program: &str, launch: &Launch) -> Option<Hit> {
    of_proc(&launch.requested)?;
    let is_agents = act.process.agent.is_some();
    let confidence = if is_agents { Confidence::High } else { Confidence::Medium };
    let title = format!("was started as {}, so that its name passes comparisons", launch.requested);
    Some(tell(act, Kind::Divergence, (Severity::High, confidence), &title, program))
}

/// A read of an ordinary file that the step did not name.
fn astray(act: &Act<'_>, file: &File) -> Option<Hit> {
    let (path, is_agents) = (file.path.as_str(), act.process.agent.is_some());
    if matches!(act.activity, Activity::Open { access, .. } if access.directory) {
        return None;
    }
    if let Some(asked) = file.asked.as_deref().filter(|asked| of_proc(asked).is_some()) {
        if is_inside(act, path) || is_system(path) {
            return None;
        }
        // The root of a process that is no part of this job is somebody else's machine.
        let is_strangers = asked
            .strip_prefix("/proc/")
            .and_then(|rest| rest.split('/').next()?.parse().ok())
            .is_some_and(|pid| pid != act.process.key.pid && act.lineage.numbered(pid).is_none());
        let severity = if is_agents || is_strangers { Severity::High } else { Severity::Low };
        let title = format!("read {path} by way of {asked}");
        return Some(tell(act, Kind::Divergence, (severity, Confidence::Medium), &title, path));
    }
    let folder = beside(path, &act.context.job.workspace)?;
    // A folder that the job made, a worktree of git's, or one that somebody went into is no mistake.
    let is_chosen = directory(act) == folder || directory(act).starts_with(&format!("{folder}/"));
    if !is_agents || act.process.tool == Some("git") || act.lineage.has_written(path) {
        return None;
    }
    let severity = if is_chosen || is_source(path) { Severity::Low } else { Severity::High };
    let title =
        format!("read {path}: that folder only begins like the workspace, {}", act.context.job.workspace);
    Some(tell(act, Kind::Divergence, (severity, Confidence::Medium), &title, path))
}

/// What is behind `/proc/PID/root` or `/proc/PID/cwd` in a name.
fn of_proc(name: &str) -> Option<&str> {
    let rest = name.strip_prefix("/proc/")?;
    let (process, rest) = rest.split_once('/')?;
    if !matches!(process, "self" | "thread-self") && !process.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let rest = match rest.strip_prefix("task/") {
        Some(rest) => rest.split_once('/')?.1,
        None => rest,
    };
    let rest = rest.trim_start_matches('/');
    let below = ["root", "cwd"].iter().find_map(|folder| rest.strip_prefix(folder))?;
    if below.is_empty() { Some(below) } else { below.strip_prefix('/') }
}

/// The folder beside the workspace that `path` lies in, if its name begins with the workspace's.
fn beside<'a>(path: &'a str, workspace: &str) -> Option<&'a str> {
    let rest = path.strip_prefix(workspace).filter(|rest| workspace.len() > 1 && !rest.is_empty())?;
    let end = rest.find('/').filter(|end| *end > 0)?;
    Some(&path[..workspace.len() + end])
}

fn directory<'a>(act: &'a Act<'_>) -> &'a str {
    act.process.launch.as_deref().map_or(act.context.job.workspace.as_str(), |launch| &launch.directory)
}

/// A name as far as it can be made absolute: a program may have gone elsewhere since.
fn absolute<'a>(act: &Act<'_>, name: &'a str) -> Cow<'a, str> {
    if name.starts_with('/') {
        name.into()
    } else {
        normal_path(&format!("{}/{name}", directory(act))).into()
    }
}

/// The last two parts of a path.
fn tail(path: &str) -> (&str, &str) {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    (basename(folder), name)
}

/// Each part of a path that could be a link: `/a`, `/a/b`, `/a/b/c`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at]).filter(|part| !part.is_empty()).chain([path])
}

fn is_scratch(path: &str) -> bool {
    ["/tmp/", "/var/tmp/", "/dev/shm/"].iter().any(|folder| path.starts_with(folder))
}

fn is_inside(act: &Act<'_>, path: &str) -> bool {
    let workspace = &act.context.job.workspace;
    is_scratch(path)
        || path.strip_prefix(workspace.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn is_system(path: &str) -> bool {
    ["/usr/", "/lib", "/bin/", "/sbin/", "/opt/", "/snap/", "/nix/", "/proc/", "/sys/", "/dev/"]
        .iter()
        .any(|folder| path.starts_with(folder))
}

/// Text that programs are made of or that explains them, by its name: another project beside this one is often used.
fn is_source(path: &str) -> bool {
    const ENDINGS: &[&str] = &[
        "js", "mjs", "cjs", "ts", "mts", "cts", "jsx", "tsx", "vue", "svelte", "css", "scss", "less", "html",
        "wasm", "map", "py", "pyi", "pyc", "rb", "rs", "go", "mod", "sum", "c", "h", "cc", "cpp", "cxx",
        "hh", "hpp", "java", "kt", "kts", "scala", "class", "jar", "swift", "cs", "fs", "php", "pl", "pm",
        "lua", "ex", "exs", "erl", "hs", "ml", "proto", "sh", "bash", "o", "a", "so", "d", "rlib", "rmeta",
        "md", "rst", "adoc", "lock", "svg", "png",
    ];
    const NAMES: &[&str] = &[
        "package.json",
        "package-lock.json",
        "tsconfig.json",
        "Cargo.toml",
        "pyproject.toml",
        "setup.cfg",
        "pom.xml",
        "Makefile",
        "CMakeLists.txt",
        "LICENSE",
        "README",
    ];
    let name = basename(path);
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    NAMES.contains(&name)
        || ending.is_some_and(|ending| ENDINGS.contains(&ending))
        || path.contains("/node_modules/")
        || path.contains("/.git/")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{expect, findings};

    const RECIPE: &str = "1 > 2 launch /usr/bin/make make build\n2 > 3 launch /usr/bin/perl perl gen.pl\n";

    #[track_caller]
    fn recipe(trace: &str, wanted: &[&str]) {
        expect("make build\n", &format!("{RECIPE}{trace}"), wanted);
    }

    #[test]
    fn a_store_read_through_a_link_that_the_job_made() {
        recipe(
            "3 symlink /home/u/.aws/credentials /w/assets/logo.svg\n3 read ~/.aws/credentials as assets/logo.svg",
            &["!sandbox-path-escape attack high /home/u/.aws/credentials"],
        );
        // The link is to a folder, and another command reads.
        expect(
            "make build\ncat data/id_rsa\n",
            "1 > 2 launch /usr/bin/make make build
             2 > 3 launch /usr/bin/ln ln -s /home/u/.ssh data
             3 symlink /home/u/.ssh /w/data
             1 > 4 launch /usr/bin/cat cat data/id_rsa
             4 read ~/.ssh/id_rsa as data/id_rsa",
            &["!sandbox-path-escape attack high /home/u/.ssh/id_rsa"],
        );
    }

    #[test]
    fn a_link_that_came_with_the_checkout_weighs_more_below_others_code() {
        let read = "3 read ~/.netrc as /w/docs/a.md";
        recipe(read, &["sandbox-path-escape attack medium /home/u/.netrc"]);
        expect(
            "npm ci\n",
            &format!(
                "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/perl perl x\n{read}"
            ),
            &["!sandbox-path-escape attack high /home/u/.netrc"],
        );
    }

    #[test]
    fn hard_links_and_mounts_are_known_by_the_object() {
        recipe(
            "object ~/.ssh/id_rsa\n3 read /w/assets/id_rsa is ~/.ssh/id_rsa",
            &["!sandbox-path-escape attack high /home/u/.ssh/id_rsa"],
        );
        // Any program in Python may ask for logins, but not by this name.
        recipe(
            "object ~/.netrc\n3 > 4 launch /usr/bin/python3.11 python3 x.py\n4 read ~/.netrc\n4 read /w/assets/a.txt is ~/.netrc",
            &["!sandbox-path-escape attack high /home/u/.netrc"],
        );
    }

    #[test]
    fn folders_of_processes_in_proc() {
        for name in [
            "/proc/self/root/home/u/.aws/credentials",
            "/proc/1/task/1/root//home/u/.aws/credentials",
            "/proc/thread-self/cwd/../home/u/.aws/credentials",
        ] {
            recipe(
                &format!("3 read ~/.aws/credentials as {name}"),
                &["!sandbox-path-escape attack high /home/u/.aws/credentials"],
            );
        }
        recipe(
            "3 > 4 launch /usr/bin/nc@/proc/self/root/usr/bin/nc nc -h",
            &["!sandbox-path-escape divergence high /usr/bin/nc"],
        );
        recipe(
            "3 folder / as /proc/self/root\n3 read ~/.ssh/id_rsa",
            &["!sandbox-path-escape attack high /home/u/.ssh/id_rsa"],
        );
        recipe("3 read /srv/x as /proc/2/root/srv/x", &["sandbox-path-escape divergence low /srv/x"]);
        recipe("3 read /srv/x as /proc/77/root/srv/x", &["!sandbox-path-escape divergence high /srv/x"]);
    }

    #[test]
    fn start_up_files_changed_through_a_link_or_by_climbing() {
        recipe(
            "3 symlink /home/u /w/notes\n3 write ~/.profile as /w/notes/.profile",
            &[
                "!sandbox-path-escape attack high /home/u/.profile",
                "!startup-hijack attack high /home/u/.profile",
            ],
        );
        recipe(
            "3 create ~/.bashrc as /w/out/../../home/u/.bashrc",
            &[
                "!sandbox-path-escape attack high /home/u/.bashrc",
                "!startup-hijack attack high /home/u/.bashrc",
            ],
        );
    }

    #[test]
    fn an_archive_that_brings_a_link_and_writes_through_it() {
        recipe(
            "3 symlink /home/u/.config /w/out/docs\n3 create ~/.config/app/run.json as out/docs/app/run.json",
            &["!sandbox-path-escape attack high /home/u/.config/app/run.json"],
        );
        recipe(
            "3 create /srv/site/index.html as out/../../srv/site/index.html",
            &["sandbox-path-escape divergence low /srv/site/index.html"],
        );
    }

    const AGENT: &str = "1 > 2
        2 agent claude-code
        2 launch /usr/local/bin/claude claude -p x
        2 > 3 launch /usr/bin/bash bash -c cat
        3 > 4 launch /usr/bin/cat cat x
        ";

    fn agents(trace: &str) -> Vec<String> {
        let mut told = findings("claude -p x\n", "", &format!("{AGENT}{trace}"));
        told.retain(|line| line.contains("sandbox-path-escape"));
        told
    }

    #[test]
    fn agents_stay_in_their_folder_whatever_it_is_called() {
        assert_eq!(
            agents("4 read /w-private/settings.ini"),
            ["!sandbox-path-escape divergence high /w-private/settings.ini"]
        );
        assert_eq!(
            agents("4 read /w-common/src/index.ts"),
            ["sandbox-path-escape divergence low /w-common/src/index.ts"]
        );
        assert_eq!(
            agents("4 read /srv/notes as /proc/self/root/srv/notes"),
            ["!sandbox-path-escape divergence high /srv/notes"]
        );
        assert_eq!(
            agents("4 write /srv/notes.md as /tmp/claude/response.md"),
            ["sandbox-path-escape divergence low /srv/notes.md"]
        );
        assert_eq!(
            agents("4 symlink /home/u /w/notes\n4 write ~/.profile as notes/.profile"),
            ["!sandbox-path-escape attack critical /home/u/.profile"]
        );
        // Its own folder, another project, and a worktree that it made.
        let quiet =
            "4 read /w/settings.ini\n4 read /other/settings.ini\n4 create /w-fix/x.ini\n4 read /w-fix/x.ini";
        assert_eq!(agents(quiet), [""; 0]);
    }

    #[test]
    fn link_farms_owners_and_names_that_tell_stay_quiet() {
        recipe(
            "3 symlink ../.pnpm/a/a.js /w/node_modules/a.js
             3 read /w/node_modules/.pnpm/a/a.js as node_modules/a.js
             3 read /home/u/.store/7.js as node_modules/7.js
             3 write /home/u/.cache/ci/x.o as /w/target/x.o
             3 create /w/dist/a.js as /w/build/../dist/a.js
             3 read /w/x as /proc/self/cwd/x
             3 > 4 launch /usr/bin/ssh ssh -i key host
             4 read ~/.ssh/id_rsa as key
             3 > 5 launch /usr/bin/git git fetch
             5 read /mnt/home/.gitconfig as /home/u/.gitconfig",
            &[],
        );
        // Where a home lies elsewhere, its stores are still asked for by their names: only the note about the read stays.
        recipe(
            "object ~/.aws/credentials\n3 read /mnt/u/.aws/credentials is ~/.aws/credentials",
            &["file-undeclared divergence low /home/u/.aws/credentials"],
        );
    }

    #[test]
    fn names_are_compared_part_by_part() {
        assert_eq!(beside("/w-private/a", "/w"), Some("/w-private"));
        assert_eq!(beside("/w/a", "/w"), None);
        assert_eq!(beside("/w", "/w"), None);
        assert_eq!(beside("/wide", "/w"), None, "a file beside it");
        assert_eq!(of_proc("/proc/self/root/etc/x"), Some("etc/x"));
        assert_eq!(of_proc("/proc/self/fd/3"), None);
        assert_eq!(of_proc("/proc/sys/root/x"), None);
        assert_eq!(prefixes("/a/b").collect::<Vec<_>>(), ["/a", "/a/b"]);
    }
}
