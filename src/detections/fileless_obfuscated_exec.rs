//! A program runs that no file holds, or that a download was poured into.
//!
//! ## What it sees
//! A program launched from memory (`memfd_create`), from a file that was removed before, or from `/dev/shm`; an interpreter without a
//! script of its own that was started beside a download or a decoder, as `curl … | sh` and `base64 -d | sh` do, by other people's code;
//! a decoder or a decompressor poured into one by the project's code as well; a program that was given no name and no arguments. A copy of one of the system's programs that runs under another name, by what is
//! in it; a program in a scratch folder started through the loader. A program that removes its own file and then connects somewhere,
//! and one whose file is removed from a scratch folder right after its start.
//!
//! ## Why it matters
//! What no file holds can't be looked at later, and scanners of files never see it.
//!
//! ## What to do
//! Find what the interpreter was fed: the finding names the download beside it. Let the package bring its code as files.
//!
//! ## Known limits
//! Pipes are not recorded: programs that the same shell started together count as one. What the step's own text pours into a shell is
//! the author's choice and no finding.

use std::sync::Arc;

use super::{
    Act, Detection, Ground, Hit, attack, copied, follows_arguments, ground, is_bare, is_scratch, is_work,
    named, reads_its_input,
};
use crate::divergence::Effect;
use crate::event::{Activity, Launch};
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::intent::basename;
use crate::lineage::{Process, Standing};

pub const DETECTION: Detection = Detection {
    id: RuleId("fileless-obfuscated-exec"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1620"), Technique("T1027"), Technique("T1105")],
    references: &["CVE-2025-30066"],
    frameworks: &["CICD-SEC-3", "ASI05"],
    remedy: "Remove what started this program, and look in the recording for where its code came from.",
    source: include_str!("fileless_obfuscated_exec.rs"),
    check,
};

/// How far apart the two ends of a pipe may start.
const TOGETHER_NS: u64 = 2_000_000_000;
/// Programs that turn text into code.
const DECODERS: &[&str] =
    &["base64", "base32", "basenc", "xxd", "uudecode", "openssl", "gunzip", "zcat", "xzcat"];

/// Decoders that nobody needs for a package's own files.
const OBSCURE: &[&str] = &[
    "base64", "base32", "basenc", "xxd", "uudecode", "openssl", "xz", "unxz", "lzma", "bzip2", "bunzip2",
    "zstd", "unzstd", "gzip", "lz4", "brotli",
];
/// A program whose file goes this soon after its start was not meant to be found.
const SOON_NS: u64 = 5_000_000_000;

fn check(act: &Act<'_>) -> Vec<Hit> {
    match (act.effect, act.activity) {
        (Effect::Write { path, .. }, Activity::Delete { .. }) => return removed(act, path),
        (Effect::Connect { object, .. }, _) => return after_removal(act, object),
        _ => {}
    }
    let (Effect::Launch { .. }, Activity::Launch(launch)) = (act.effect, act.activity) else {
        return Vec::new();
    };
    let who = named(act.lineage, act.process.key);
    let ground = ground(act);
    let file = &launch.executable;
    let confidence = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    let is_in_memory = file.path.starts_with("memfd:") || file.path.starts_with("/memfd:");
    if is_in_memory || file.deleted {
        // A program that starts itself again keeps its object, removed or not; container runtimes run a copy in memory.
        if is_work(act, "container-clients") || starts_itself(act, launch) {
            return Vec::new();
        }
        let place = if is_in_memory { "from memory" } else { "from a file that was removed" };
        return attack(
            act,
            &DETECTION,
            (Severity::High, confidence),
            format!("{who} runs {place}"),
            &file.path,
        );
    }
    // Whoever calls a program by its path gives it a name, if only its own; code that was put into memory often doesn't.
    if launch.arguments.iter().all(String::is_empty) && ground != Ground::Named {
        let title = format!("{who} is started without a name or arguments, as code in memory does");
        return attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, &file.path);
    }
    if launch.program().path.starts_with("/dev/shm/") {
        let weight = match ground {
            Ground::Foreign => (Severity::High, Confidence::High),
            _ => (Severity::Low, Confidence::Medium),
        };
        return attack(
            act,
            &DETECTION,
            weight,
            format!("{who} runs from shared memory"),
            &launch.program().path,
        );
    }
    if let Some(original) =
        copied(act.lineage, act.process).filter(|_| ground != Ground::Named || act.process.agent.is_some())
    {
        let weight = match ground {
            Ground::Foreign => (Severity::High, Confidence::High),
            _ if act.process.errand.is_some() => (Severity::High, Confidence::Medium),
            _ => (Severity::Medium, Confidence::Medium),
        };
        let title = format!("{who} is {original} under another name");
        return attack(act, &DETECTION, weight, title, &file.path);
    }
    if let Some(program) = loaded(act, launch) {
        let weight = match ground {
            Ground::Foreign => (Severity::High, Confidence::High),
            _ => (Severity::Medium, Confidence::Medium),
        };
        return attack(
            act,
            &DETECTION,
            weight,
            format!("{who} starts {program} through the loader"),
            program,
        );
    }
    if ground == Ground::Named { Vec::new() } else { poured(act, launch, ground) }
}

/// The two ends of a pipe, whichever was launched last: something that downloads or decodes, and an interpreter.
fn poured(act: &Act<'_>, launch: &Launch, ground: Ground) -> Vec<Hit> {
    // A project's own recipe may pour an installer into a shell, and not what it has to decode first.
    let is_source = |process: &Process| {
        let name = process.launch.as_deref().map_or("", |launch| basename(&launch.executable.path));
        match ground {
            Ground::Foreign => follows_arguments(process) || DECODERS.contains(&name),
            _ => OBSCURE.contains(&name) && is_decoding(process.launch.as_deref()),
        }
    };
    let is_sink = |process: &Process| process.launch.as_deref().is_some_and(reads_its_input);
    let is_near =
        |other: &Process| other.launched && other.started.0.abs_diff(act.process.started.0) <= TOGETHER_NS;
    let (own_source, own_sink) = (is_source(act.process), reads_its_input(launch));
    if !own_source && !own_sink {
        return Vec::new();
    }
    let siblings = act.lineage.siblings(act.process.key);
    let other = siblings
        .into_iter()
        .filter(|other| is_near(other))
        .find(|other| (own_sink && is_source(other)) || (own_source && is_sink(other) && !other.ended));
    let Some(other) = other else { return Vec::new() };
    let (source, sink) = if own_sink { (other, act.process) } else { (act.process, other) };
    let title = format!("{} runs what {} gave it", named(act.lineage, sink.key), source.name);
    let weight = match ground {
        Ground::Foreign => (Severity::High, Confidence::High),
        _ if act.process.errand.is_some() => (Severity::High, Confidence::Medium),
        _ => (Severity::Medium, Confidence::Medium),
    };
    let object = sink.launch.as_deref().map_or("", |launch| launch.executable.path.as_str());
    let mut hits = attack(act, &DETECTION, weight, title, object);
    hits[0].process = sink.key;
    hits[0].evidence.push(other.evidence);
    hits
}

fn is_decoding(launch: Option<&Launch>) -> bool {
    let words = launch.map_or(&[][..], |launch| &launch.arguments);
    words.iter().skip(1).any(|word| match word.strip_prefix('-') {
        Some(long) if long.starts_with('-') => matches!(long, "-decode" | "-decompress" | "-uncompress"),
        Some(short) => short.len() <= 4 && short.contains(['d', 'D', 'r', 'p']),
        None => false,
    }) || launch.is_some_and(|launch| {
        basename(&launch.executable.path).starts_with("un")
            || basename(&launch.executable.path).starts_with("bun")
    })
}

/// The program of the job's that the loader is told to run from a scratch folder or from memory.
fn loaded<'a>(act: &Act<'_>, launch: &'a Launch) -> Option<&'a String> {
    let name = basename(&launch.executable.path);
    let is_loader = name.starts_with("ld-linux")
        || name.starts_with("ld-musl")
        || name.starts_with("ld-2")
        || name == "ld.so";
    let word = launch.arguments.get(1..)?.iter().find(|word| word.starts_with('/'))?;
    let is_look =
        launch.arguments.iter().any(|word| matches!(word.as_str(), "--list" | "--verify" | "--help"));
    let is_hidden = (is_scratch(word) && act.lineage.has_written(word)) || word.starts_with("/proc/self/fd/");
    (is_loader && is_hidden && !is_look).then_some(word)
}

/// A program's file is removed right after its start, from a scratch folder, by somebody who did not build it.
fn removed(act: &Act<'_>, path: &str) -> Vec<Hit> {
    let is_builder = matches!(act.process.tool, Some("go" | "cargo" | "compilers" | "tests" | "pip" | "npm"))
        || matches!(act.process.standing, Standing::Command | Standing::Text | Standing::Helper);
    if !is_scratch(path) || is_builder || !act.lineage.has_written(path) {
        return Vec::new();
    }
    let runs = |process: &&crate::lineage::Process| {
        let is_it = process.launch.as_deref().is_some_and(|launch| launch.executable.path == path);
        is_it && process.launched && act.time.0.saturating_sub(process.started.0) <= SOON_NS
    };
    let survivors = act.lineage.survivors();
    let Some(running) =
        survivors.into_iter().find(|process| runs(process) && process.step == act.process.step)
    else {
        return Vec::new();
    };
    let title = format!(
        "{} removed {path} while {} runs from it",
        named(act.lineage, act.process.key),
        named(act.lineage, running.key)
    );
    attack(act, &DETECTION, (Severity::Medium, Confidence::Medium), title, path)
}

/// A program that removed its own file talks to an address that nothing explains.
fn after_removal(act: &Act<'_>, object: &str) -> Vec<Hit> {
    if !act.explanation.is_undeclared() || !is_bare(act) {
        return Vec::new();
    }
    let own = act.process.key;
    let strand = act.lineage.strand(own);
    let Some(note) =
        strand.noted("own-image-removed").find(|note| act.lineage.is_at_or_below(own, note.process))
    else {
        return Vec::new();
    };
    let title = format!("{} removed its own file and connected to {object}", named(act.lineage, own));
    let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, &note.object);
    hits[0].evidence.push(note.sequence);
    hits
}

fn starts_itself(act: &Act<'_>, launch: &Launch) -> bool {
    act.lineage.ancestors(act.process.key).take(2).filter_map(|above| above.launch.as_ref()).any(
        |above: &Arc<Launch>| {
            launch.executable.inode != 0
                && (above.executable.device, above.executable.inode)
                    == (launch.executable.device, launch.executable.inode)
        },
    )
}

#[cfg(test)]
mod tests {
    use crate::engine::{Engine, Input, Settings};
    use crate::event::Activity;
    use crate::policy::Policy;
    use crate::trace::{expect, findings};

    #[test]
    fn programs_from_memory_and_from_removed_files() {
        for path in ["!memfd:aws(deleted)", "!/tmp/x(deleted)"] {
            let lines = findings(
                "make\n",
                "",
                &format!(
                    "1 > 2 launch /usr/bin/make make\n2 > 3 launch /usr/bin/python3.11 python3 x.py\n3 launch {path} x"
                ),
            );
            let object = path.trim_start_matches('!').trim_end_matches("(deleted)");
            assert_eq!(lines, [format!("!fileless-obfuscated-exec attack high {object}")]);
        }
    }

    #[test]
    fn a_download_or_a_decoder_poured_into_an_interpreter() {
        for (source, sink) in [
            ("/usr/bin/curl curl -s https://a.example/x", "/usr/bin/dash sh"),
            ("/usr/bin/wget wget -qO- x", "/usr/bin/bash bash -s -- a"),
            ("/usr/bin/base64 base64 -d", "/usr/bin/python3.11 python3 -"),
            ("/usr/bin/curl curl x", "/usr/bin/node node"),
        ] {
            let lines = findings(
                "npm ci\n",
                "",
                &format!(
                    "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/dash sh -c x\n3 > 4 launch {source}\n3 > 5 launch {sink}"
                ),
            );
            assert_eq!(lines.len(), 1, "{source} {sink}: {lines:?}");
            assert!(lines[0].starts_with("!fileless-obfuscated-exec attack high /usr/bin/"), "{lines:?}");
        }
    }

    #[test]
    fn what_the_project_decodes_or_unpacks_into_an_interpreter() {
        for (acts, is_told) in [
            ("3 > 4 launch /usr/bin/xz xz -dc t/x.xz\n3 > 5 launch /usr/bin/python3.11 python3 -", true),
            ("3 > 4 launch /usr/bin/unzstd unzstd x\n3 > 5 launch /usr/bin/perl perl", true),
            ("3 > 4 launch /usr/bin/gzip gzip -dc x.gz\n3 > 5 launch /usr/bin/tar tar xf -", false),
            ("3 > 4 launch /usr/bin/xz xz -dc x.xz\n3 > 5 launch /usr/bin/python3.11 python3 load.py", false),
            ("3 > 4 launch /usr/bin/gzip gzip -9c x\n3 > 5 launch /usr/bin/dash sh", false),
        ] {
            let trace =
                format!("1 > 2 launch /usr/bin/make make\n2 > 3 launch /usr/bin/dash sh -c x\n{acts}");
            let lines = findings("make\n", "", &trace);
            assert_eq!(lines.iter().any(|line| line.contains("fileless")), is_told, "{acts}: {lines:?}");
        }
    }

    #[test]
    fn a_program_without_a_name_or_arguments() {
        for (words, is_told) in [("", true), (" id", false)] {
            let trace = format!(
                "1 > 2 launch /usr/bin/make make\n2 > 3 launch /usr/bin/python3.11 python3 x.py\n3 > 4 launch /usr/bin/id{words}"
            );
            let lines = findings("make\n", "", &trace);
            assert_eq!(lines.iter().any(|line| line.contains("fileless")), is_told, "{words}: {lines:?}");
        }
    }

    /// What is told of a job in which another recorder of ours runs as process 2.
    fn beside_a_recorder(acts: &str) -> Vec<String> {
        let trace = format!("1 > 2 launch /usr/bin/edamame-guard edamame-guard run x\n{acts}");
        let mut inputs = crate::trace::inputs("make\nedamame-guard run x\n", &trace);
        let program = inputs.iter().find_map(|input| match input {
            Input::Event(event) => match &event.activity {
                Activity::Launch(launch) if launch.executable.path.ends_with("edamame-guard") => {
                    Some(launch.executable.clone())
                }
                _ => None,
            },
            _ => None,
        });
        if let Some(Input::Start(start)) = inputs.first_mut() {
            start.program = program;
        }
        let mut engine = Engine::new(Policy::absent(), Settings::default());
        for (sequence, input) in (0..).zip(inputs) {
            engine.accept(sequence, &input);
        }
        let found = engine.finish().findings.into_iter().map(|finding| finding.rule.0.to_owned());
        found.filter(|rule| rule == "fileless-obfuscated-exec").collect()
    }

    #[test]
    fn a_canary_of_ours_ends_and_whatever_borrows_its_name_is_told() {
        let canary = "2 > 3 launch !memfd:edamame-guard-canary(deleted) edamame-guard-canary\n";
        assert_eq!(beside_a_recorder(&format!("{canary}3 exit")), [""; 0]);
        for more in
            ["3 connect 203.0.113.7:443", "3 read ~/.aws/credentials", "3 > 4 launch /usr/bin/dash sh -c x"]
        {
            assert_eq!(beside_a_recorder(&format!("{canary}{more}")).len(), 1, "{more}");
        }
        let below =
            "2 > 3 launch /usr/bin/dash sh -c x\n3 > 4 launch !memfd:edamame-guard-canary(deleted) x\n4 exit";
        assert_eq!(beside_a_recorder(below).len(), 1);
    }

    #[test]
    fn what_the_author_pours_into_a_shell_and_ordinary_scripts_stay_quiet() {
        expect(
            "curl -sSf https://a.example/install.sh | sh\nnpm ci\n",
            "answer a.example 203.0.113.1
             1 > 2 launch /usr/bin/curl curl -sSf https://a.example/install.sh
             2 connect 203.0.113.1:443
             1 > 3 launch /usr/bin/dash sh
             1 > 4 launch /usr/bin/node node /usr/bin/npm ci
             4 > 5 launch /usr/bin/dash sh -c node\\ install.js
             5 > 6 launch /usr/bin/base64 base64 -w0
             5 > 7 launch /usr/bin/node node install.js
             5 > 8 launch /usr/bin/python3.11 python3 -c x
             5 > 9 launch /usr/bin/node node --version",
            &[],
        );
    }
}
