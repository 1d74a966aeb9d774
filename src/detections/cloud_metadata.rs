//! A process asks the cloud's metadata address.
//!
//! ## What it sees
//! A connection to the link-local addresses at which clouds hand out the machine's identity, by a process whose step does not name
//! it, that no policy entry allows and that is not a cloud's own client. Port 53 of the platform's address is its name server.
//!
//! ## Why it matters
//! Whoever may ask there gets the credentials of the machine, often with more rights than the job has.
//!
//! ## What to do
//! Block the address for jobs, or demand the session header. If the step needs it, allow the address in `.github/guard.yml`.
//!
//! ## Known limits
//! Libraries of clouds ask by themselves when they find no credentials. So the project's own code gets a note of low severity;
//! other people's code, and a download tool that was pointed there, get the attack.

use std::net::IpAddr;

use super::{Act, Detection, Ground, Hit, attack, follows_arguments, ground, is_work, named};
use crate::divergence::Effect;
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
    "fd20:ce::254",    // Google, IPv6.
    "168.63.129.16",   // Azure's platform.
    "100.100.100.200", // Alibaba.
    "192.0.0.192",     // Oracle, older machines.
];

pub(super) fn is_metadata(address: IpAddr) -> bool {
    ADDRESSES.iter().any(|known| known.parse() == Ok(address))
}

fn check(act: &Act<'_>) -> Vec<Hit> {
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
    let weight = match ground(act) {
        Ground::Foreign => (Severity::High, Confidence::High),
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
