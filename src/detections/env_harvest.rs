//! A process reads other processes' environments.
//!
//! ## What it sees
//! `/proc/PID/environ` of a process that the reader did not start: once with a note, three of them in one strand as a sweep, and
//! one outside the job at once. Process lists (`ps`, `top`) may look when the project or the step's text calls them.
//!
//! ## Why it matters
//! Tokens that a step was not given stand in the environment of the runner, of other steps and of agents.
//!
//! ## What to do
//! Revoke the tokens of every process that could be read. Give a token to the one step that needs it, in a file rather than in
//! the environment.
//!
//! ## Known limits
//! A process's own environment is not a read: a program that sends its own variables away is seen as a connection only.

use std::collections::BTreeSet;

use super::{Act, Detection, Ground, Hit, attack, ground, is_work, named, of_process};
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};

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

fn check(act: &Act<'_>) -> Vec<Hit> {
    let (Effect::Other, Activity::Open { file, .. }) = (act.effect, act.activity) else { return Vec::new() };
    let Some((pid, "environ")) = of_process(&file.path) else { return Vec::new() };
    let own = act.process.key;
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
