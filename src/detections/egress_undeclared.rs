//! A process connects to a destination that nothing in its step explains.
//!
//! ## What it sees
//! A TCP or UDP destination that the step's text does not name, that does not follow from the
//! nature of a declared command (a package client and its registry, git and its remote), and that
//! no entry of the policy allows. With a policy: a destination outside its `network` list.
//!
//! ## Why it matters
//! Stolen data has to leave. On its own an undeclared destination is a note; after a credential
//! was read below the same command it is an attack.
//!
//! ## What to do
//! If the destination is part of the work, allow it for this step in `.github/guard.yml`. If not,
//! find the program that chose it: the chain is in the finding.
//!
//! ## Known limits
//! Names come from the answers of name servers; with DNS over HTTPS only the address is known.

use super::{Act, Detection, Hit, carried, could_carry, named, sureness};
use crate::divergence::Effect;
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("egress-undeclared"),
    severity: Severity::Low,
    confidence: Confidence::Medium,
    techniques: &[Technique("T1041"), Technique("T1071")],
    references: &["CVE-2026-21852", "CVE-2026-25253"],
    frameworks: &["CICD-SEC-7", "ASI01", "ASI02"],
    remedy: "Allow the destination for this step if it is part of the work; else remove what connects to it.",
    source: include_str!("egress_undeclared.rs"),
    check,
};

fn check(act: &Act<'_>) -> Vec<Hit> {
    let strand = act.lineage.strand(act.process.key);
    let hit = |process, object: &str, evidence, confidence, story: String| Hit {
        rule: &DETECTION,
        kind: Kind::Attack,
        severity: Severity::High,
        confidence,
        title: format!("{} connected to {object} {story}", named(act.lineage, process)),
        process,
        object: object.to_owned(),
        evidence,
        replaces: None,
        remedy: Some("Take the credential for stolen: revoke it, then remove what opened this connection."),
    };
    match act.effect {
        Effect::Connect { object, .. } if act.explanation.reason().is_none() => {
            if let Some(read) = carried(strand, act).first() {
                let story = format!("after {} read {}", named(act.lineage, read.process), read.title);
                let confidence = sureness(act, read.process, act.process.key);
                return vec![hit(act.process.key, object, vec![read.sequence], confidence, story)];
            }
            if !act.explanation.is_undeclared() {
                return Vec::new();
            }
            vec![Hit {
                rule: &DETECTION,
                kind: Kind::Divergence,
                severity: DETECTION.severity,
                confidence: DETECTION.confidence,
                title: format!(
                    "{} connected to {object}, which nothing in this step explains",
                    named(act.lineage, act.process.key)
                ),
                process: act.process.key,
                object: object.clone(),
                evidence: Vec::new(),
                replaces: None,
                remedy: None,
            }]
        }
        // The connection came first and was still there when the credential was read.
        Effect::Read { store, .. } if act.explanation.reason().is_none() => strand
            .ways_out(act.process.key)
            .filter(|contact| could_carry(act, contact.process))
            .map(|contact| {
                let story = format!("before {} read {}", named(act.lineage, act.process.key), store.title);
                let confidence = sureness(act, act.process.key, contact.process);
                hit(contact.process, &contact.object, vec![contact.sequence], confidence, story)
            })
            .collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn what_the_text_or_the_tool_explains_stays_quiet() {
        expect(
            "curl -fsSL https://api.example/v1\ngit fetch\ncargo build\ncurl -L \"$URL\" -o x\n",
            "answer api.example 203.0.113.1
             answer cdn.example 203.0.113.2
             1 > 2 launch /usr/bin/curl curl -fsSL https://api.example/v1
             2 connect 203.0.113.1:443
             2 connect 203.0.113.2:443
             1 > 3 launch /usr/bin/git git fetch
             3 > 4 launch /usr/bin/ssh ssh git@source.example
             4 connect 203.0.113.3:22
             1 > 5 launch /root/.cargo/bin/cargo cargo build
             5 connect 203.0.113.4:443
             1 > 6 launch /usr/bin/curl curl -L y
             6 connect [2001:db8::1]:443",
            &[],
        );
    }

    #[test]
    fn loopback_resolvers_and_route_questions_are_no_egress() {
        expect(
            "npm test\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm test
             2 > 3 launch /usr/bin/node node server.js
             3 connect 127.0.0.1:8080
             3 connect [::1]:8080
             3 connect [::ffff:127.0.0.9]:80
             3 connect 192.0.2.53:53
             3 send 192.0.2.53:53
             3 connect 203.0.113.9:0",
            &[],
        );
    }

    #[test]
    fn a_name_server_of_ones_own_is_egress() {
        expect(
            "npm test\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm test
             2 > 3 launch /usr/bin/node node x.js
             3 send 203.0.113.53:53",
            &["egress-undeclared divergence low 203.0.113.53:53"],
        );
    }

    #[test]
    fn the_policy_allows_denies_and_lists() {
        let trace = "answer api.example 203.0.113.1
             1 > 2 launch /usr/bin/node node /usr/bin/npm test
             2 > 3 launch /usr/bin/node node x.js
             3 connect 203.0.113.1:443
             3 connect 203.0.113.2:443
             3 connect 203.0.113.3:443";
        let policy = "version: 1\ndefaults:\n  network: {allow: [api.example], deny: [\"203.0.113.3\"]}\n";
        assert_eq!(
            findings("npm test\n", policy, trace),
            [
                "!egress-undeclared policy high 203.0.113.3:443",
                "!egress-undeclared policy medium 203.0.113.2:443",
            ]
        );
    }
}
