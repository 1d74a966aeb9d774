//! An install or build script fetches a program and runs it.
//!
//! ## What it sees
//! Other people's code below a package client that does two of these: it connects to something nothing explains, and it runs a program
//! that this job put into a scratch folder or into a home, outside of the package, or a copy of one of the system's. It writes what the
//! next job does, and runs or sends something. A package's own script that changes by what the project is built: a `Makefile`, a
//! `Dockerfile`, a manifest of the checkout that was there before. It asks for one name that spells data. And a script that runs at all where the
//! policy denies it or the step's own words turn scripts off.
//!
//! ## Why it matters
//! So the second stage comes: what the package held was reviewed, what it fetched was not.
//!
//! ## What to do
//! Install without scripts (`npm ci --ignore-scripts`, wheels only), and remove the package that fetched the program.
//!
//! ## Known limits
//! A binary that an install script fetches into its own package, as many honest ones do, is no finding; what it then does is judged.

use super::{Act, Detection, Hit, attack, egress_covert_channel, is_scratch, named};
use crate::catalogue;
use crate::divergence::Effect;
use crate::event::{Activity, Launch, ProcessKey};
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::lineage::{Standing, Touch};

pub const DETECTION: Detection = Detection {
    id: RuleId("install-script"),
    severity: Severity::High,
    confidence: Confidence::Medium,
    techniques: &[Technique("T1195.002"), Technique("T1105")],
    references: &["CVE-2025-54313"],
    frameworks: &["CICD-SEC-3", "ASI04"],
    remedy: "Install without scripts, and remove the package that fetched the program.",
    source: include_str!("install_script.rs"),
    check,
};

/// Whether an install script starts a program that the job itself put into a scratch folder or into a home.
pub(super) fn is_second_stage(act: &Act<'_>, launch: &Launch) -> bool {
    let path = &launch.program().path;
    let workspace = format!("{}/", act.context.job.workspace);
    // Package clients unpack into the workspace and into their own folders of a home.
    let in_home = || {
        act.context.homes.iter().any(|home| path.strip_prefix(home).is_some_and(|rest| rest.starts_with('/')))
            && !path.contains("/node_modules/")
            && !path.contains("/site-packages/")
            && !path.contains("/.cargo/")
            && act.lineage.get(act.process.key).is_some_and(|process| is_scripts(act, process.key))
    };
    act.process.standing == Standing::Script
        && act.lineage.has_written(path)
        && act.lineage.placed_by(path).is_none()
        && !path.starts_with(&workspace)
        && (is_scratch(path) || in_home())
}

fn is_scripts(act: &Act<'_>, key: ProcessKey) -> bool {
    act.lineage.get(key).is_some_and(|process| process.standing == Standing::Script)
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    if act.process.standing != Standing::Script {
        return Vec::new();
    }
    match (act.effect, act.activity) {
        (Effect::Launch { program }, Activity::Launch(launch)) => {
            if let Some(hits) = unexpected(act, program) {
                return hits;
            }
            if is_second_stage(act, launch) { staged(act, program) } else { Vec::new() }
        }
        (Effect::Connect { object, .. }, _) if act.explanation.is_undeclared() => connected(act, object),
        (Effect::Write { path, .. }, _) if catalogue::is_object("job-definitions", path) => {
            defined(act, path)
        }
        (Effect::Write { path, .. }, activity) => rebuilt(act, path, activity),
        (Effect::Other, Activity::Query { name, .. }) if egress_covert_channel::is_whole(name) => {
            let title = format!("An install script asked for a name that spells data ({})", act.process.name);
            attack(act, &DETECTION, (Severity::Medium, Confidence::Medium), title, name)
        }
        _ => Vec::new(),
    }
}

/// It changes by what the project itself is built: a file of the checkout that was there before.
fn rebuilt(act: &Act<'_>, path: &str, activity: &Activity) -> Vec<Hit> {
    const KEPT: &[&str] =
        &["node_modules/", "vendor/", "third_party/", "target/", "build/", "dist/", ".git/"];
    let Some(below) = path.strip_prefix(act.context.job.workspace.as_str()) else { return Vec::new() };
    let below = below.trim_start_matches('/');
    let is_change = match activity {
        Activity::Open { access, .. } => access.write && !access.create && !act.lineage.has_made(path),
        Activity::Truncate { .. } => !act.lineage.has_made(path),
        Activity::Rename { to, .. } => to.path == path && !act.lineage.has_made(path),
        _ => false,
    };
    // A client's own settings, and the manifest that it keeps.
    let is_client =
        act.process.tool.and_then(crate::commands::by_id).is_some_and(|tool| tool.group.is_some());
    let is_kept = KEPT.iter().any(|part| below.starts_with(part) || below.contains(&format!("/{part}")));
    if !is_change
        || is_client
        || is_kept
        || !catalogue::is_object("build-definitions", below)
        || !is_dependencys(act)
    {
        return Vec::new();
    }
    let title = format!("An install script changed {below}, by which this project is built");
    attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, path)
}

/// Whether the script belongs to a package, not to the project's own manifest: it was started in the package's folder.
fn is_dependencys(act: &Act<'_>) -> bool {
    const PACKAGES: &[&str] = &["/node_modules/", "/vendor/", "/site-packages/", "/.cargo/", "/third_party/"];
    let chain = std::iter::once(act.process).chain(act.lineage.ancestors(act.process.key));
    let first = chain.take_while(|process| process.standing == Standing::Script).last();
    let Some(launch) = first.and_then(|process| process.launch.as_deref()) else { return false };
    let folder = format!("{}/", launch.directory);
    !folder.starts_with(&format!("{}/", act.context.job.workspace))
        || PACKAGES.iter().any(|part| folder.contains(part))
}

/// A program of its own is run, after it talked to somebody.
fn staged(act: &Act<'_>, program: &str) -> Vec<Hit> {
    let strand = act.lineage.strand(act.process.key);
    let contact = strand.contacts.iter().find(|contact| is_scripts(act, contact.process));
    if let Some(contact) = contact {
        let title = format!(
            "An install script runs {program}, after {} connected to {}",
            named(act.lineage, contact.process),
            contact.object
        );
        return joined(act, title, program, contact);
    }
    let definition = strand.noted("definition").find(|note| is_scripts(act, note.process));
    definition.map_or_else(Vec::new, |note| {
        joined(act, format!("An install script runs {program}, and wrote {}", note.object), program, note)
    })
}

/// It talks to somebody, after it ran a program of its own or changed what the next job does.
fn connected(act: &Act<'_>, object: &str) -> Vec<Hit> {
    let strand = act.lineage.strand(act.process.key);
    if let Some(note) = strand.noted("stage").find(|note| is_scripts(act, note.process)) {
        let title = format!("An install script ran {}, and connected to {object}", note.object);
        return joined(act, title, object, note);
    }
    let definition = strand.noted("definition").find(|note| is_scripts(act, note.process));
    definition.map_or_else(Vec::new, |note| {
        joined(
            act,
            format!("An install script wrote {}, and connected to {object}", note.object),
            object,
            note,
        )
    })
}

/// It changes what the next job does, after it talked to somebody.
fn defined(act: &Act<'_>, path: &str) -> Vec<Hit> {
    let strand = act.lineage.strand(act.process.key);
    let contact = strand.contacts.iter().find(|contact| is_scripts(act, contact.process));
    contact.map_or_else(Vec::new, |contact| {
        joined(
            act,
            format!("An install script wrote {path}, after it connected to {}", contact.object),
            path,
            contact,
        )
    })
}

/// A script runs though the step's own words turn scripts off.
fn unexpected(act: &Act<'_>, program: &str) -> Option<Vec<Hit>> {
    let parent = act.process.parent.and_then(|parent| act.lineage.get(parent))?;
    if parent.standing == Standing::Script {
        return None;
    }
    let words = &parent.launch.as_deref()?.arguments;
    let is_off = words.iter().any(|word| {
        matches!(word.as_str(), "--ignore-scripts" | "--ignore-scripts=true" | "--mode=skip-build")
    });
    is_off.then(|| {
        let title = format!(
            "{} started {program}, an install script, though the step turns scripts off",
            parent.name
        );
        attack(act, &DETECTION, (Severity::Medium, Confidence::Medium), title, program)
    })
}

fn joined(act: &Act<'_>, title: String, object: &str, note: &Touch) -> Vec<Hit> {
    let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, object);
    hits[0].evidence.push(note.sequence);
    hits
}

#[cfg(test)]
mod tests {
    use crate::trace::findings;

    fn told(trace: &str) -> bool {
        findings("npm ci\n", "", trace).iter().any(|line| line.starts_with("!install-script attack high"))
    }

    #[test]
    fn a_package_changes_by_what_the_project_is_built() {
        let told = |above: &str, act: &str| {
            let lines = findings(
                "npm ci\n",
                "",
                &format!("1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n{above}\n{act}"),
            );
            lines.into_iter().filter(|line| line.contains("install-script")).collect::<Vec<_>>()
        };
        let package = "2 > 3 launch /usr/bin/dash sh -c x in:/w/node_modules/a";
        for path in ["/w/Makefile", "/w/Dockerfile", "/w/package.json", "/w/sub/CMakeLists.txt"] {
            for act in ["3 write", "3 rename /w/x", "3 truncate"] {
                let lines = told(package, &format!("{act} {path}"));
                assert_eq!(lines, [format!("!install-script attack high {path}")], "{act}");
            }
        }
        for (above, act) in [
            // The project's own script, npm itself, what is made anew, and what packages keep for themselves.
            ("2 > 3 launch /usr/bin/dash sh -c x", "3 write /w/package.json"),
            (package, "2 write /w/package.json"),
            (package, "3 create /w/Makefile\n3 write /w/Makefile"),
            (package, "3 write /w/node_modules/a/Makefile"),
            (package, "3 write /w/src/a.c"),
        ] {
            assert_eq!(told(above, act), [""; 0], "{act}");
        }
    }

    #[test]
    fn a_second_stage_is_fetched_and_run() {
        assert!(told(
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/dash sh -c x
             3 > 4 launch /usr/bin/curl curl -o /tmp/.x y
             4 connect 203.0.113.7:443
             4 create /tmp/.x
             3 > 5 launch /tmp/.x x"
        ));
    }

    #[test]
    fn a_stage_before_the_connection_in_a_home_or_with_a_new_workflow() {
        let script =
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/node node install.js\n";
        for acts in [
            "3 create /tmp/scan\n3 > 4 launch /tmp/scan scan\n3 connect 203.0.113.7:443",
            "3 connect 203.0.113.7:443\n3 create ~/.bun/bin/bun\n3 > 4 launch !/home/u/.bun/bin/bun bun x.js",
            "3 create /w/.github/workflows/x.yml\n3 connect 203.0.113.7:443",
            "3 connect 203.0.113.7:443\n3 create /w/.github/workflows/x.yml",
        ] {
            assert!(told(&format!("{script}{acts}")), "{acts}");
        }
        for acts in [
            "3 create /w/.github/workflows/x.yml",
            "3 create ~/.bun/bin/bun\n3 > 4 launch !/home/u/.bun/bin/bun bun",
        ] {
            assert!(!told(&format!("{script}{acts}")), "{acts}");
        }
    }

    #[test]
    fn scripts_that_are_turned_off_and_run() {
        let lines = findings(
            "npm ci --ignore-scripts\n",
            "",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci --ignore-scripts\n2 > 3 launch /usr/bin/dash sh -c x\n3 > 4 launch /usr/bin/node node x.js",
        );
        assert_eq!(lines, ["install-script attack medium /usr/bin/dash"]);
    }

    #[test]
    fn a_binary_in_its_own_package_and_a_build_in_a_scratch_folder_stay_quiet() {
        assert!(!told(
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node install.js
             3 connect 203.0.113.7:443
             3 create /w/node_modules/esbuild/bin/esbuild
             3 > 4 launch /w/node_modules/esbuild/bin/esbuild esbuild --version"
        ));
        assert!(!told(
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node build.js
             3 create /tmp/conftest
             3 > 4 launch /tmp/conftest conftest"
        ));
    }
}
