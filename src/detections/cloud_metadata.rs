//! A process asks the cloud's metadata address.
//!
//! ## What it sees
//! A connection to the addresses at which clouds hand out the machine's identity, by a process whose step does not name it, that no
//! policy entry allows and that is not a cloud's own client; and that an answer came back. Port 53 of the platform's address is its
//! name server.
//!
//! ## Why it matters
//! Whoever may ask there gets the credentials of the machine, often with more rights than the job has.
//!
//! ## What to do
//! Block the address for jobs, or demand the session header. If the step needs it, allow the address in `.github/guard.yml`.
//!
//! ## Known limits
//! Libraries of clouds ask by themselves when they find no credentials. So the project's own code that has such a library open, and a
//! program that is compiled and may have one in it, get a note of low severity, and so does a question that nobody answered. Other
//! people's code, a download tool that was pointed there, and a script that asks by itself and is answered, get the attack.

use std::net::IpAddr;

use super::{
    Act, Detection, Ground, Hit, attack, follows_arguments, ground, is_compiled, is_work, named, uses_library,
};
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::lineage::Standing;

pub const DETECTION: Detection = Detection {
    id: RuleId("cloud-metadata"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1552.005")],
    references: &["CVE-2026-33634"],
    frameworks: &["CICD-SEC-7", "ASI03"],
    remedy: "Block the metadata address for jobs, and remove what asked for the machine's identity.",
    source: include_str!("cloud_metadata.rs"),
    check,
};

/// Whose they are stands beside them.
const ADDRESSES: &[&str] = &[
    "169.254.169.254", // Most clouds.
    "fd00:ec2::254",   // Amazon, IPv6.
    "169.254.170.2",   // Amazon's container tasks.
    "169.254.170.23",  // Amazon's pods.
    "fd00:ec2::23",
    "fd20:ce::254",       // Google, IPv6.
    "168.63.129.16",      // Azure's platform.
    "100.100.100.200",    // Alibaba.
    "192.0.0.192",        // Oracle, older machines.
    "fd00:c1::a9fe:a9fe", // Oracle, IPv6.
    "fe80::a9fe:a9fe",    // OpenStack, IPv6.
    "169.254.0.23",       // Tencent.
    "169.254.42.42",      // Scaleway.
    "fd00:42::42",
    "fd00:100:100::200", // Alibaba, IPv6.
];

pub(super) fn is_metadata(address: IpAddr) -> bool {
    ADDRESSES.iter().any(|known| known.parse() == Ok(address))
}

/// What a strand remembers: who asked, and nothing explained it.
pub(super) fn kept(act: &Act<'_>) -> Option<(&'static str, String)> {
    let Effect::Connect { address, .. } = act.effect else { return None };
    (!check(act).is_empty()).then(|| ("metadata-asked", address.to_string()))
}

/// A script that asked by itself, with no library that would do so, has its answer.
fn answered(act: &Act<'_>, to: std::net::SocketAddr) -> Vec<Hit> {
    let asked = to.to_string();
    let mut notes = act.lineage.strand(act.process.key).noted("metadata-asked");
    let is_asked = notes.any(|note| note.process == act.process.key && note.object == asked);
    if !is_asked || uses_library(act, "cloud-libraries") || is_compiled(act.process) {
        return Vec::new();
    }
    let title = format!(
        "{} asked the cloud's metadata address and got an answer",
        named(act.lineage, act.process.key)
    );
    attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, asked)
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    if let (Effect::Other, Activity::Closed { to, received, .. }) = (act.effect, act.activity) {
        return if *received > 0 { answered(act, *to) } else { Vec::new() };
    }
    let Effect::Connect { object, address, .. } = act.effect else { return Vec::new() };
    if !is_metadata(address.ip()) || (address.port() == 53 && act.context.resolvers.contains(&address.ip())) {
        return Vec::new();
    }
    let is_foreign = ground(act) == Ground::Foreign;
    // `curl "$URL"` follows its arguments, whatever they are; a text that names the address is another matter.
    let is_said = matches!(act.explanation, crate::divergence::Explanation::Declared(_));
    if is_said || (!is_foreign && is_work(act, "cloud-clients")) {
        return Vec::new();
    }
    let title = format!("{} asked the cloud's metadata address", named(act.lineage, act.process.key));
    let is_pointed = follows_arguments(act.process) && act.process.standing != Standing::Command;
    // A library knows its own cloud; who tries one address after the other looks for whichever is there.
    let asked = || act.lineage.strand(act.process.key);
    let is_search = || {
        asked().noted("metadata-asked").any(|note| {
            let other = note.object.parse::<std::net::SocketAddr>().map(|other| other.ip());
            note.process == act.process.key && other.is_ok_and(|other| other != address.ip())
        })
    };
    let weight = match ground(act) {
        Ground::Foreign => (Severity::High, Confidence::High),
        Ground::Project if is_search() && !uses_library(act, "cloud-libraries") => {
            (Severity::High, Confidence::Medium)
        }
        _ if is_pointed => (Severity::High, Confidence::Medium),
        _ => (Severity::Low, Confidence::Low),
    };
    attack(act, &DETECTION, weight, title, object)
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn an_install_script_or_a_download_tool_is_pointed_there() {
        expect(
            "npm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node setup.js
             3 connect 169.254.169.254:80
             3 connect [fd00:ec2::254]:80
             3 connect 168.63.129.16:32526",
            &[
                "!cloud-metadata attack high 168.63.129.16:32526",
                "!cloud-metadata attack high 169.254.169.254:80",
                "!cloud-metadata attack high [fd00:ec2::254]:80",
                "egress-undeclared divergence low 168.63.129.16:32526",
                "egress-undeclared divergence low 169.254.169.254:80",
                "egress-undeclared divergence low [fd00:ec2::254]:80",
            ],
        );
        expect(
            "make test\n",
            "1 > 2 launch /usr/bin/make make test\n2 > 3 launch /usr/bin/curl curl x\n3 connect 169.254.169.254:80",
            &[
                "!cloud-metadata attack high 169.254.169.254:80",
                "egress-undeclared divergence low 169.254.169.254:80",
            ],
        );
    }

    #[test]
    fn a_library_that_looks_for_credentials_is_a_note() {
        let lines = findings(
            "make test\n",
            "",
            "1 > 2 launch /usr/bin/make make test\n2 > 3 launch /usr/bin/python3.11 python3 t.py\n3 connect 169.254.169.254:80",
        );
        assert!(lines.iter().all(|line| line.contains(" low ")), "{lines:?}");
    }

    #[test]
    fn a_script_of_the_project_asks_by_itself_and_is_answered() {
        let asks = |before: &str, program: &str, after: &str| {
            findings(
                "make test\n",
                "",
                &format!(
                    "1 > 2 launch /usr/bin/make make test\n2 > 3 launch {program}\n{before}\n3 connect 169.254.169.254:80\n{after}"
                ),
            )
        };
        let wanted = "!cloud-metadata attack high 169.254.169.254:80".to_owned();
        for program in
            ["/usr/bin/python3.11 python3 t.py", "/usr/bin/perl perl t.pl", "/usr/bin/bash bash t.sh"]
        {
            let lines = asks("", program, "3 closed 169.254.169.254:80 400");
            assert!(lines.contains(&wanted), "{program}: {lines:?}");
        }
        let python = "/usr/bin/python3.11 python3 t.py";
        let lines = asks("3 connect 168.63.129.16:80", python, "");
        assert!(lines.contains(&wanted), "{lines:?}");
        let library = "3 read /w/.venv/lib/python3.11/site-packages/botocore/session.py";
        for (before, program, after) in [
            (library, python, "3 closed 169.254.169.254:80 400"),
            ("", python, "3 closed 169.254.169.254:80 0"),
            ("", "/w/target/debug/app app", "3 closed 169.254.169.254:80 400"),
        ] {
            let lines = asks(before, program, after);
            assert!(lines.iter().all(|line| line.contains(" low ")), "{program}: {lines:?}");
        }
    }

    #[test]
    fn named_allowed_and_the_platforms_name_server_stay_quiet() {
        expect(
            "curl -s http://169.254.169.254/latest/meta-data/instance-id\naws s3 ls\n",
            "1 > 2 launch /usr/bin/curl curl -s http://169.254.169.254/latest/meta-data/instance-id
             2 connect 169.254.169.254:80
             1 > 3 launch /usr/bin/aws aws s3 ls
             3 connect 169.254.169.254:80",
            &[],
        );
        let policy = "version: 1\ndefaults:\n  network: {allow: [\"169.254.169.254\"]}\n";
        let trace = "1 > 2 launch /usr/bin/make make\n2 > 3 launch /usr/bin/node node x.js\n3 connect 169.254.169.254:80";
        assert_eq!(findings("make\n", policy, trace), [""; 0]);
    }
}
