//! A process connects to a destination that nothing in its step explains.
//!
//! ## What it sees
//! A TCP or UDP destination that the step's text does not name, that does not follow from the
//! nature of a declared command (a package client and its registry, git and its remote), and that
//! no entry of the policy allows. With a policy: a destination outside its `network` list.
//! What sends more than it gets there, to an address without a name or from an install script, takes something out. A public address
//! that no name was asked for weighs more: from an install script, below a coding agent that may only read, or after
//! the environment was printed or hidden code was run below the same command. Loopback, private addresses and networks that the
//! job made itself don't count.
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
//! A connection with TLS gets certificates, so a small load to a host with a name looks like a question. Names come from the answers of name servers; with DNS over HTTPS only the address is known.

use super::{
    Act, Detection, Hit, carried, could_carry, env_harvest, is_bare, is_bare_object, is_below_reader, named,
    sureness,
};
use crate::divergence::{self, Effect};
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};
use crate::lineage::Standing;

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
            if let Some((story, evidence, weight)) = joined(act) {
                let (severity, confidence) = weight;
                let mut found = hit(act.process.key, object, evidence, confidence, story);
                found.severity = severity;
                found.remedy = None;
                return vec![found];
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
        Effect::Sent { object, sent, received }
            if act.explanation.is_undeclared() && is_load(act, object, *sent, *received) =>
        {
            let story =
                format!("and sent {sent} bytes, more than it got: nothing in this step explains that");
            let mut found = hit(act.process.key, object, Vec::new(), Confidence::Medium, story);
            found.remedy = None;
            vec![found]
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
        // What a program opens whomever it talks to, handed to another one over loopback, which had connected outwards.
        Effect::Read { store, by_owner: true, .. } if relays(act) => strand
            .contacts
            .iter()
            .filter(|contact| contact.process != act.process.key && is_bare_object(&contact.object))
            .take(1)
            .map(|contact| {
                let who = named(act.lineage, act.process.key);
                let story = format!("while {who}, which talks over loopback, read {}", store.title);
                let mut found =
                    hit(contact.process, &contact.object, vec![contact.sequence], Confidence::Medium, story);
                found.severity = Severity::Medium;
                found
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// Less than this is a question, whatever comes back.
const MESSAGE: u64 = 200;

/// Whether a connection took something out, instead of asking for something.
fn is_load(act: &Act<'_>, object: &str, sent: u64, received: u64) -> bool {
    sent >= MESSAGE
        && sent > received
        && (is_bare_object(object) || act.process.standing == Standing::Script)
        && divergence::chooses(act.process, act.lineage).is_none()
}

/// Whether the process has connected to something on loopback.
fn relays(act: &Act<'_>) -> bool {
    act.lineage.strand(act.process.key).noted("loopback").any(|note| note.process == act.process.key)
}

/// What makes a destination that nothing explains more than a note: how the sentence goes on, the records, the weight.
fn joined(act: &Act<'_>) -> Option<(String, Vec<u64>, (Severity, Confidence))> {
    let strand = act.lineage.strand(act.process.key);
    let own = act.process;
    if let Some(note) = env_harvest::dumped(act) {
        let story = format!("after {} put out the environment", named(act.lineage, note.process));
        return Some((story, vec![note.sequence], (Severity::High, Confidence::High)));
    }
    if !is_bare(act) {
        return None;
    }
    if let Some(note) = strand.noted("hidden-code").next() {
        let story = format!("after {} ran code that no file holds", named(act.lineage, note.process));
        return Some((story, vec![note.sequence], (Severity::High, Confidence::Medium)));
    }
    let took_token =
        |read: &&crate::lineage::Touch| read.process == own.key && read.by_owner && !read.is_casual;
    if own.is_agent
        && let Some(read) = strand.reads.iter().find(took_token)
    {
        let story = format!("by its bare address, after it read {}", read.title);
        return Some((story, vec![read.sequence], (Severity::High, Confidence::Medium)));
    }
    let relayed = strand.reads.iter().find(|read| {
        let is_handed = |note: &crate::lineage::Touch| note.process == read.process;
        read.process != own.key && strand.noted("loopback").any(is_handed)
    });
    if let Some(read) = relayed {
        let reader = named(act.lineage, read.process);
        let story = format!("while {reader}, which talks over loopback, read {}", read.title);
        return Some((story, vec![read.sequence], (Severity::Medium, Confidence::Medium)));
    }
    let (who, weight) = match own.standing {
        Standing::Script => ("an install script's doing", (Severity::High, Confidence::High)),
        Standing::Undeclared => ("nothing that the step names", (Severity::High, Confidence::Medium)),
        _ if own.errand.is_some() && is_below_reader(act) => {
            ("below a coding agent that may only read", (Severity::High, Confidence::Medium))
        }
        _ => return None,
    };
    Some((format!("by its bare address: {who}"), Vec::new(), weight))
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
    fn what_is_taken_out_weighs_more_than_what_is_asked_for() {
        let quiet = "egress-undeclared divergence low";
        let told = "!egress-undeclared attack high";
        for (above, host, closed, weight) in [
            ("make make", "203.0.113.7:80", "120 600", told),
            ("make make", "203.0.113.7:80", "20 90", quiet),
            ("make make", "203.0.113.7:443", "4000 900", quiet),
            ("make make", "stats.example:80", "120 600", quiet),
            ("node node /usr/bin/npm ci", "stats.example:80", "120 600", told),
            ("node node /usr/bin/npm ci", "stats.example:443", "5000 700", quiet),
        ] {
            let port = host.rsplit_once(':').expect("a port").1;
            let lines = findings(
                "npm ci\nmake\n",
                "",
                &format!(
                    "{}1 > 2 launch /usr/bin/{above}
                     2 > 3 launch /usr/bin/dash sh -c x
                     3 > 4 launch /usr/bin/python3.11 python3 x.py
                     4 connect 203.0.113.7:{port}
                     4 closed 203.0.113.7:{port} {closed}",
                    if host.starts_with("stats") { "answer stats.example 203.0.113.7\n" } else { "" }
                ),
            );
            assert_eq!(lines, [format!("{weight} {host}")], "{above} {host} {closed}");
        }
    }

    #[test]
    fn a_bare_public_address_weighs_by_who_asks() {
        for (above, line) in [
            ("/usr/bin/node node /usr/bin/npm ci", "!egress-undeclared attack high 203.0.113.7:443"),
            ("/usr/bin/make make", "egress-undeclared divergence low 203.0.113.7:443"),
        ] {
            let lines = findings(
                "npm ci\nmake\n",
                "",
                &format!(
                    "1 > 2 launch {above}\n2 > 3 launch /usr/bin/python3.11 python3 x.py\n3 connect 203.0.113.7:443"
                ),
            );
            assert_eq!(lines, [line], "{above}");
        }
        // A name, a private address, a question for the route and a network of one's own.
        expect(
            "npm ci\n",
            "answer cdn.example 203.0.113.2
             1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node install.js
             3 connect 203.0.113.2:443
             3 connect 10.0.0.7:443
             2 > 4 launch /usr/bin/unshare unshare -n x
             4 leave network
             4 > 5 launch /usr/bin/node node x.js
             5 connect 203.0.113.9:443",
            &[
                "egress-undeclared divergence low 10.0.0.7:443",
                "egress-undeclared divergence low 203.0.113.9:443",
                "egress-undeclared divergence low cdn.example:443",
            ],
        );
    }

    #[test]
    fn what_is_read_here_and_sent_there_over_loopback() {
        let relay = "1 > 2 launch /usr/bin/make make
             2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 > 4
             3 connect 127.0.0.1:4000\n";
        for order in
            ["4 connect 203.0.113.7:443\n3 read ~/.netrc", "3 read ~/.netrc\n4 connect 203.0.113.7:443"]
        {
            let lines = findings("make\n", "", &format!("{relay}{order}"));
            assert_eq!(lines, ["egress-undeclared attack medium 203.0.113.7:443"], "{order}");
        }
        let alone = "1 > 2 launch /usr/bin/make make
             2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 read ~/.netrc
             3 connect 127.0.0.1:4000
             3 connect 203.0.113.7:443";
        assert_eq!(findings("make\n", "", alone), ["egress-undeclared divergence low 203.0.113.7:443"]);
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
