//! A shell hangs on a connection: somebody outside types.
//!
//! ## What it sees
//! A shell without a script that is started by a process, or in a process, that has connected to a destination nothing explains; or an
//! interactive shell next to such a process, as a pipe or a named pipe to a network tool makes it.
//!
//! ## Why it matters
//! From then on a person decides what the job does, with everything that the job may do.
//!
//! ## What to do
//! Throw the machine away and revoke every secret of the job. A debug session that is meant has its relay in the step's text or in
//! the policy.
//!
//! ## Known limits
//! What a program fetches and runs by itself without a shell is seen as its connection and its acts, not as remote control.

use super::{Act, Detection, Ground, Hit, attack, ground, named};
use crate::divergence::Effect;
use crate::event::{Launch, ProcessKey};
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::intent::{basename, is_shell};
use crate::lineage::Process;

pub const DETECTION: Detection = Detection {
    id: RuleId("remote-control"),
    severity: Severity::Critical,
    confidence: Confidence::High,
    techniques: &[Technique("T1059.004"), Technique("T1219"), Technique("T1571")],
    references: &["CVE-2024-3094"],
    frameworks: &["CICD-SEC-7", "ASI05"],
    remedy: "Throw the machine away, revoke every secret of this job, and remove what opened the connection.",
    source: include_str!("remote_control.rs"),
    check,
};

/// A shell that is given its commands by whoever holds its input.
fn is_bare(launch: &Launch) -> bool {
    let name = launch.applet().map_or(basename(&launch.executable.path), |(applet, _)| applet);
    let words = launch.arguments.get(1..).unwrap_or_default();
    launch.script.is_none()
        && is_shell(name)
        && words.iter().all(|word| {
            matches!(
                word.as_str(),
                "-i" | "-li"
                    | "-il"
                    | "-l"
                    | "-p"
                    | "-ip"
                    | "--login"
                    | "--noprofile"
                    | "--norc"
                    | "sh"
                    | "bash"
            )
        })
}

fn is_interactive(process: &Process) -> bool {
    process.launch.as_deref().is_some_and(|launch| {
        is_bare(launch) && launch.arguments.iter().skip(1).any(|word| word.starts_with("-i") || word == "-li")
    })
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    let ground = ground(act);
    if ground == Ground::Named {
        return Vec::new();
    }
    let own = act.process.key;
    let weight = match ground {
        Ground::Foreign => (Severity::Critical, Confidence::High),
        _ => (Severity::Critical, Confidence::Medium),
    };
    let strand = act.lineage.strand(own);
    match act.effect {
        Effect::Launch { program } => {
            if !act.process.launch.as_deref().is_some_and(is_bare) {
                return Vec::new();
            }
            let is_near = |other: ProcessKey| {
                other == own
                    || act.process.parent == Some(other)
                    || (is_interactive(act.process)
                        && act
                            .lineage
                            .get(other)
                            .is_some_and(|other| !other.ended && other.parent == act.process.parent))
            };
            let Some(contact) = strand.contacts.iter().find(|contact| is_near(contact.process)) else {
                return Vec::new();
            };
            let title = format!(
                "A shell hangs on the connection of {} to {}",
                named(act.lineage, contact.process),
                contact.object
            );
            let mut hits = attack(act, &DETECTION, weight, title, program);
            hits[0].evidence.push(contact.sequence);
            hits
        }
        Effect::Connect { object, .. } if act.explanation.reason().is_none() => {
            let beside = act.lineage.siblings(own);
            let Some(shell) = beside.iter().find(|shell| !shell.ended && is_interactive(shell)) else {
                return Vec::new();
            };
            let title = format!("A shell hangs on the connection of {} to {object}", named(act.lineage, own));
            let mut hits = attack(act, &DETECTION, weight, title, object);
            hits[0].evidence.push(shell.evidence);
            hits
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn a_shell_on_a_connection_in_any_shape() {
        for acts in [
            "3 connect 203.0.113.7:4444\n3 > 4 launch /usr/bin/dash sh -i",
            "3 connect 203.0.113.7:443\n3 launch /usr/bin/bash bash",
            "3 > 4 launch /usr/bin/bash bash -i\n3 > 5 launch /usr/bin/nc nc x\n5 connect 203.0.113.7:53",
            "3 > 5 launch /usr/bin/openssl openssl s_client\n5 connect 203.0.113.7:53\n3 > 4 launch /usr/bin/dash sh -i",
        ] {
            for (step, above) in
                [("make all\n", "/usr/bin/make make all"), ("npm ci\n", "/usr/bin/node node /usr/bin/npm ci")]
            {
                let trace =
                    format!("1 > 2 launch {above}\n2 > 3 launch /usr/bin/python3.11 python3 x.py\n{acts}");
                let lines = findings(step, "", &trace);
                assert!(
                    lines.iter().any(|line| line.starts_with("!remote-control attack critical")),
                    "{acts}: {lines:?}"
                );
            }
        }
    }

    #[test]
    fn scripts_tools_and_declared_sessions_stay_quiet() {
        expect(
            "ssh -R 1:2:3 relay.example\nmake all\n",
            "answer relay.example 203.0.113.1
             1 > 2 launch /usr/bin/ssh ssh -R 1:2:3 relay.example
             2 connect 203.0.113.1:22
             2 > 3 launch /usr/bin/bash bash
             1 > 4 launch /usr/bin/make make all
             4 > 5 launch /usr/bin/node node x.js
             5 > 6 launch /usr/bin/dash sh -c x
             5 connect 127.0.0.1:80
             5 > 7 launch /usr/bin/dash sh",
            &[],
        );
    }
}
