//! Data leaves by a way that is not meant for data.
//!
//! ## What it sees
//! Names asked of a name server whose labels carry data: long or many made-up labels below one domain, whoever answers; a message
//! with more than one question; questions to a server that is not the host's own; names asked over TLS or HTTPS, from a service known for it
//! or, as it looks from outside, by several TLS connections without a name to one bare address before another is used; packets that are
//! neither TCP nor UDP (raw) by a program that is no network tool, and echo requests of any program that carry other bytes each time.
//!
//! ## Why it matters
//! Allow lists look at destinations. A name server is always allowed, and passes any name on to whoever owns the domain.
//!
//! ## What to do
//! Look at the names in the recording: what they spell has left. Remove what asked for them.
//!
//! ## Known limits
//! What a library of the system asks through a daemon (`systemd-resolved`, `nscd`) over a unix socket is the daemon's question. A few
//! short labels carry little and are not told from names. What is inside HTTPS to an allowed host is not seen.

use std::collections::BTreeSet;

use super::{Act, Detection, Ground, Hit, attack, ground, is_bare, is_public, is_work, named};
use crate::divergence::Effect;
use crate::event::{Activity, Transport};
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::lineage::Standing;

pub const DETECTION: Detection = Detection {
    id: RuleId("egress-covert-channel"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1048"), Technique("T1071.004"), Technique("T1095"), Technique("T1572")],
    references: &["CVE-2025-55284", "GHSA-46g3-37rh-v698", "GHSA-g699-3x6g-wm3g"],
    frameworks: &["CICD-SEC-7", "ASI02"],
    remedy: "Take what the names or packets carried for stolen, and remove what sent them.",
    source: include_str!("egress_covert_channel.rs"),
    check,
};

/// Different names with data below one domain, before they are a channel.
const CARRYING: usize = 4;
/// Different made-up names below one domain, however short.
const MADE_UP: usize = 24;
/// Echo requests to one host that carry something else each time, before they are a channel.
const PATTERNS: usize = 8;
/// TLS connections without a name to one address, before they look like questions.
const NAMELESS: usize = 3;
/// A label this long spells nothing that a host is called.
const WHOLE_LABEL: usize = 44;
/// Name servers of the public that answer over TLS or HTTPS.
const PUBLIC: &[&str] = &[
    "dns.google",
    "dns.google.com",
    "cloudflare-dns.com",
    "one.one.one.one",
    "mozilla.cloudflare-dns.com",
    "chrome.cloudflare-dns.com",
    "dns.quad9.net",
    "dns9.quad9.net",
    "doh.opendns.com",
    "dns.nextdns.io",
    "dns.adguard.com",
    "dns.adguard-dns.com",
    "doh.cleanbrowsing.org",
    "dns.alidns.com",
    "doh.pub",
];

/// What stands before the domain, and the domain: the last two labels, three below short public ones (`co.uk`).
fn split(name: &str) -> Option<(String, &str)> {
    let name = name.trim_end_matches('.');
    let mut dots: Vec<usize> = name.match_indices('.').map(|(at, _)| at).collect();
    let last = dots.pop()?;
    if matches!(&name[last + 1..], "arpa" | "local" | "internal") {
        return None;
    }
    let second = dots.pop()?;
    let is_short = last - second <= 4 && name.len() - last <= 3;
    let cut = if is_short { dots.pop()? } else { second };
    Some((name[..cut].replace('.', ""), &name[cut + 1..]))
}

/// Bits per character.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    for byte in text.bytes() {
        counts[usize::from(byte.to_ascii_lowercase())] += 1;
    }
    let length = f64::from(u32::try_from(text.len()).unwrap_or(u32::MAX));
    counts
        .iter()
        .filter(|count| **count > 0)
        .map(|count| f64::from(*count) / length)
        .map(|share| -share * share.log2())
        .sum()
}

/// Long enough, and with the even letters of encoded bytes.
fn carries(labels: &str) -> bool {
    // Text in hex repeats the same first digits.
    let is_hex = labels.bytes().all(|byte| byte.is_ascii_hexdigit());
    labels.len() >= 28 && entropy(labels) >= if is_hex { 2.6 } else { 3.2 } && is_made_up(labels)
}

/// Digits among letters, or hardly a vowel: no word.
fn is_made_up(labels: &str) -> bool {
    if labels.len() < 6 {
        return false;
    }
    let count = |is: fn(char) -> bool| labels.chars().filter(|letter| is(*letter)).count();
    let (digits, vowels) =
        (count(|letter| letter.is_ascii_digit()), count(|letter| "aeiouAEIOU".contains(letter)));
    digits * 6 >= labels.len() || vowels * 6 < labels.len()
}

/// A single label full of encoded bytes, longer than any digest in the name of a host.
pub(super) fn is_whole(name: &str) -> bool {
    name.split('.').any(|label| label.len() >= WHOLE_LABEL && !label.contains('-') && carries(label))
}

/// The name as it is remembered, if it may be part of a channel.
pub(super) fn kept(name: &str) -> Option<String> {
    let (labels, _) = split(name)?;
    is_made_up(&labels).then(|| name.trim_end_matches('.').to_ascii_lowercase())
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    match (act.effect, act.activity) {
        (Effect::Other, Activity::Query { to, name, kind, more, .. }) => {
            let is_own = to.ip().is_loopback() || act.context.resolvers.contains(&to.ip());
            let hits = question(act, name, kind, *more, is_own);
            // A question that did not go to the port of name servers was asked over HTTP.
            if hits.is_empty() && to.port() != 53 && to.port() != 5353 && !is_own {
                over_tls(act, &to.to_string())
            } else {
                hits
            }
        }
        // A browser asks its host's own name server by the better way, if it knows one.
        (Effect::Other, Activity::Hello { name: Some(name), to })
            if PUBLIC.contains(&name.as_str()) && !act.context.resolvers.contains(&to.ip()) =>
        {
            over_tls(act, name)
        }
        (Effect::Other, Activity::Packet { to, protocol, pattern }) => by_hand(act, *to, *protocol, pattern),
        (Effect::Other, Activity::Socket { family, kind, .. }) => {
            let is_odd = kind == "raw" && matches!(family.as_str(), "ipv4" | "ipv6")
                || matches!(family.as_str(), "packet" | "xdp");
            let ground = ground(act);
            if !is_odd || is_work(act, "raw-sockets") || ground == Ground::Named {
                return Vec::new();
            }
            // Raw sockets show by what they send; of frames nothing more is seen.
            let weight = match ground {
                Ground::Foreign => (Severity::High, Confidence::Medium),
                _ if family == "packet" && !is_test(act) => (Severity::Medium, Confidence::Medium),
                _ => return Vec::new(),
            };
            let title =
                format!("{} made a socket for packets of its own", named(act.lineage, act.process.key));
            attack(act, &DETECTION, weight, title, format!("{family} {kind}"))
        }
        (Effect::Connect { object, address, transport }, _) => {
            if *transport == Transport::Other {
                return packets(act, object);
            }
            if address.port() == 853 && !act.context.resolvers.contains(&address.ip()) {
                return over_tls(act, object);
            }
            asked_elsewhere(act, object)
        }
        _ => Vec::new(),
    }
}

fn packets(act: &Act<'_>, object: &str) -> Vec<Hit> {
    if act.explanation.reason().is_some() || (is_work(act, "raw-sockets") && ground(act) != Ground::Foreign) {
        return Vec::new();
    }
    let title = format!(
        "{} sent packets that are neither TCP nor UDP to {object}",
        named(act.lineage, act.process.key)
    );
    let confidence = if ground(act) == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    attack(act, &DETECTION, (Severity::High, confidence), title, object)
}

/// Whether a test runner or a build tool runs it, or it is one: they try what their project is for.
fn is_test(act: &Act<'_>) -> bool {
    std::iter::once(act.process)
        .chain(act.lineage.ancestors(act.process.key).take(2))
        .any(|process| matches!(process.tool, Some("go" | "cargo" | "tests" | "containers")))
}

/// A packet that was made by hand: of ICMP, only what carries other bytes each time.
fn by_hand(act: &Act<'_>, to: std::net::IpAddr, protocol: u32, pattern: &str) -> Vec<Hit> {
    let ground = ground(act);
    let who = || named(act.lineage, act.process.key);
    if to.is_loopback() || to.is_multicast() {
        return Vec::new();
    }
    if !matches!(protocol, 1 | 58) {
        if is_work(act, "raw-sockets")
            || ground == Ground::Named
            || (ground == Ground::Project && is_test(act))
        {
            return Vec::new();
        }
        let confidence = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
        let title = format!("{} sent packets by hand (protocol {protocol}) to {to}", who());
        return attack(act, &DETECTION, (Severity::High, confidence), title, to.to_string());
    }
    let prefix = format!("{to} {protocol} ");
    let strand = act.lineage.strand(act.process.key);
    let others: BTreeSet<&str> = strand
        .noted("packet")
        .filter_map(|note| note.object.strip_prefix(&prefix))
        .chain([pattern])
        .collect();
    if others.len() < PATTERNS {
        return Vec::new();
    }
    let title = format!("{} sent {to} echo requests that carry other bytes each time", who());
    attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, to.to_string())
}

/// Several TLS connections without a name to one bare address, then one to where no name leads: names were asked there.
fn asked_elsewhere(act: &Act<'_>, object: &str) -> Vec<Hit> {
    if !act.explanation.is_undeclared() || !is_bare(act) {
        return Vec::new();
    }
    let strand = act.lineage.strand(act.process.key);
    let greeted = |note: &crate::lineage::Touch| note.object.split(' ').next().map(ToOwned::to_owned);
    let servers: Vec<String> = strand.noted("nameless-hello").filter_map(greeted).collect();
    let is_asked = |server: &&String| {
        let is_elsewhere = server.as_str() != object;
        let is_public = server.parse::<std::net::SocketAddr>().is_ok_and(|server| is_public(server.ip()));
        is_elsewhere && is_public && servers.iter().filter(|other| other == server).count() >= NAMELESS
    };
    let Some(server) = servers.iter().find(is_asked) else { return Vec::new() };
    let title = format!(
        "{} asked {server} by TLS without a name, again and again, and then connected to {object} without a name",
        named(act.lineage, act.process.key)
    );
    attack(act, &DETECTION, (Severity::Medium, Confidence::Medium), title, server.clone())
}

fn over_tls(act: &Act<'_>, object: &str) -> Vec<Hit> {
    if act.explanation.reason().is_some() || is_work(act, "browsers") {
        return Vec::new();
    }
    let title = format!(
        "{} asks names of {object}, past the host's own name server",
        named(act.lineage, act.process.key)
    );
    let weight = match ground(act) {
        Ground::Foreign => (Severity::High, Confidence::Medium),
        Ground::Project if PUBLIC.contains(&object) || matches!(act.activity, Activity::Query { .. }) => {
            (Severity::Medium, Confidence::Medium)
        }
        _ => (Severity::Low, Confidence::Low),
    };
    attack(act, &DETECTION, weight, title, object)
}

fn question(act: &Act<'_>, name: &str, kind: &str, more: u16, is_own_server: bool) -> Vec<Hit> {
    let who = named(act.lineage, act.process.key);
    let Some((labels, domain)) = split(name) else { return Vec::new() };
    let domain = domain.to_ascii_lowercase();
    let has_secret = act.lineage.strand(act.process.key).reads.iter().any(|read| !read.by_owner);
    let severity = if has_secret { Severity::Critical } else { Severity::High };
    let object = format!("*.{domain}");
    if more > 0 {
        let title = format!("{who} asked {} questions in one message, the first for {domain}", more + 1);
        return attack(act, &DETECTION, (severity, Confidence::Medium), title, object);
    }
    if !is_made_up(&labels) {
        return Vec::new();
    }
    let own = name.trim_end_matches('.').to_ascii_lowercase();
    let suffix = format!(".{domain}");
    let strand = act.lineage.strand(act.process.key);
    let mut names: BTreeSet<&str> = strand
        .noted("query")
        .map(|note| note.object.as_str())
        .filter(|other| other.ends_with(&suffix) && **other != *own)
        .collect();
    names.insert(&own);
    let carrying =
        names.iter().filter(|name| split(name).is_some_and(|(labels, _)| carries(&labels))).count();
    let is_record = matches!(kind, "TXT" | "NULL" | "KEY" | "CNAME" | "MX" | "SRV");
    let is_channel = carrying >= CARRYING || names.len() >= MADE_UP;
    // An install script needs no name like this even once.
    let is_whole = act.process.standing == Standing::Script && is_whole(name);
    // One name that is full to the brim, for records that nobody looks up a host by, after a secret was read.
    let is_full = carries(&labels) && (has_secret || (labels.len() >= 100 && (is_record || !is_own_server)));
    if !is_channel && !is_full && !is_whole {
        return Vec::new();
    }
    let title = format!("{who} asked for names below {domain} that carry data ({} so far)", names.len());
    let confidence = if carrying >= CARRYING || has_secret { Confidence::High } else { Confidence::Medium };
    let severity = if is_channel || is_full { severity } else { Severity::Medium };
    attack(act, &DETECTION, (severity, confidence), title, object)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use super::carries;
    use crate::trace::{expect, findings};

    fn asked(step: &str, program: &str, names: impl IntoIterator<Item = String>) -> Vec<String> {
        let mut trace = format!("1 > 2 launch /usr/bin/make make test\n2 > 3 launch {program} x\n");
        for name in names {
            writeln!(trace, "3 ask A {name} 192.0.2.53:53").unwrap();
        }
        findings(step, "", &trace)
    }

    /// Bytes that look like those of a cipher, in hex.
    fn hex(seed: u64, length: usize) -> String {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
        (0..length)
            .map(|_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                char::from_digit(u32::try_from(state >> 60).unwrap(), 16).unwrap()
            })
            .collect()
    }

    #[test]
    fn names_full_of_data_are_a_channel_whoever_answers() {
        for length in [32, 60] {
            let names = (0..6).map(|at| format!("{}.t.evil.example", hex(at, length)));
            assert_eq!(
                asked("make test\n", "/usr/bin/python3.11", names),
                ["!egress-covert-channel attack high *.evil.example"]
            );
        }
        let short = (0..40).map(|at| format!("{}.evil.example", hex(at, 10)));
        assert_eq!(
            asked("make test\n", "/usr/bin/python3.11", short),
            ["!egress-covert-channel attack high *.evil.example"]
        );
    }

    #[test]
    fn one_name_will_do_after_a_secret_was_read() {
        let trace = format!(
            "1 > 2 launch /usr/bin/make make\n2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 read ~/.aws/credentials\n3 ask A {}.evil.example 192.0.2.53:53",
            hex(1, 60)
        );
        assert!(
            findings("make\n", "", &trace)
                .contains(&"!egress-covert-channel attack critical *.evil.example".to_owned())
        );
    }

    #[test]
    fn packets_of_ones_own_and_names_over_tls_from_an_install_script() {
        expect(
            "npm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 socket packet raw 768
             3 packet 203.0.113.9:0
             3 packet 203.0.113.9:8
             3 hello dns.google 203.0.113.8:443
             3 ask A a.example 192.0.2.53:53 2",
            &[
                "!egress-covert-channel attack high 203.0.113.9:8",
                "!egress-covert-channel attack high dns.google",
                "!egress-covert-channel attack high packet raw",
                "egress-undeclared divergence low 203.0.113.9:8",
            ],
        );
    }

    #[test]
    fn packets_by_hand_and_echo_requests_that_carry_something() {
        let pings = |program: &str, count: usize, is_same: bool| {
            let mut trace = format!("1 > 2 launch /usr/bin/make make test\n2 > 3 launch {program} x\n");
            for at in 0..count {
                let pattern = if is_same { 0 } else { at };
                writeln!(trace, "3 by-packet 203.0.113.7 1 {pattern}").unwrap();
            }
            findings("make test\n", "", &trace)
        };
        let told = ["!egress-covert-channel attack high 203.0.113.7"];
        assert_eq!(pings("/usr/bin/python3.11", 30, false), told);
        assert_eq!(pings("/usr/bin/ping", 30, false), told);
        assert_eq!(pings("/usr/bin/java", 30, true), [""; 0]);
        assert_eq!(pings("/usr/bin/ping", 4, false), [""; 0]);
        for (program, told) in [("/usr/bin/python3.11", 1), ("/usr/bin/traceroute", 0), ("/usr/bin/go", 0)] {
            let trace = format!(
                "1 > 2 launch /usr/bin/make make\n2 > 3 launch {program} x\n3 by-packet 203.0.113.7 253 a"
            );
            assert_eq!(findings("make\n", "", &trace).len(), told, "{program}");
        }
    }

    #[test]
    fn names_asked_over_tls_without_a_name() {
        let hellos = |count: usize| {
            let mut trace = "1 > 2 launch /usr/bin/make make\n2 > 3 launch /w/tool tool\n".to_owned();
            for _ in 0..count {
                trace += "3 connect 203.0.113.7:443\n3 nameless 203.0.113.7:443\n";
            }
            findings("make\n", "", &(trace + "3 connect 203.0.113.8:8443"))
        };
        let over_http =
            "1 > 2 launch /usr/bin/make make\n2 > 3 launch /w/tool tool\n3 ask A a.example 203.0.113.7:443";
        assert_eq!(
            findings("make\n", "", over_http),
            ["egress-covert-channel attack medium 203.0.113.7:443"]
        );
        assert!(hellos(3).contains(&"egress-covert-channel attack medium 203.0.113.7:443".to_owned()));
        assert_eq!(hellos(1).len(), 2);
    }

    #[test]
    fn names_of_an_ordinary_job_stay_quiet() {
        let names = [
            "registry.packages.example",
            "0123456789abcdef0123456789abcdef.gr7.eu-central-1.eks.amazonaws.com",
            "d111111abcdef8.cloudfront.net",
            "productionresultssa17.blob.core.windows.net",
            "pipelinesghubeus2.actions.githubusercontent.com",
            "1.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa",
            "my-service.my-namespace.svc.cluster.local",
            "www.some-rather-long-name-of-a-company-in-the-north.co.uk",
            "internal-lb-1234567890.eu-west-1.elb.amazonaws.com",
        ];
        assert_eq!(asked("make test\n", "/usr/bin/node", names.map(ToOwned::to_owned)), [""; 0]);
        let links = (0..60).map(|at| {
            format!(
                "project-{}.pages.example",
                ["red", "green", "blue", "amber"][at % 4].repeat(at / 4 % 3 + 1)
            )
        });
        assert_eq!(asked("make test\n", "/usr/bin/node", links), [""; 0]);
        let hosts = (0..60).map(|at| format!("{}.example", hex(at, 12)));
        assert_eq!(asked("make test\n", "/usr/bin/node", hosts), [""; 0]);
        expect(
            "ping -c1 203.0.113.9\nmake\n",
            "1 > 2 launch /usr/bin/ping ping -c1 203.0.113.9
             2 socket ipv4 raw 1
             2 packet 203.0.113.9:0
             1 > 3 launch /usr/bin/make make
             3 > 4 launch /usr/bin/go go test ./...
             4 socket packet raw 768",
            &[],
        );
        assert!(!carries("productionresultssa17"));
    }
}
