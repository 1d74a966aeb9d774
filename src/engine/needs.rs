//! What a step did, as the items of a policy's lists: what `policy learn` and the first run's summary are made of.

use std::net::SocketAddr;

use super::ending::is_made_up;
use crate::event::Transport;
use crate::finding::Needs;
use crate::intent::basename;
use crate::job::Job;

/// A list of a job under attack must not fill our memory, and nobody reads a longer one.
const MOST: usize = 300;

impl Needs {
    /// A connection that something explains. `group` is the package group whose client chose the host.
    pub(super) fn connects(
        &mut self,
        object: &str,
        to: SocketAddr,
        transport: Transport,
        group: Option<&str>,
        program: &str,
    ) {
        let (host, port) = object.rsplit_once(':').unwrap_or((object, ""));
        let is_name = host.parse::<std::net::IpAddr>().is_err() && !host.starts_with('[');
        let item = match (group, transport) {
            (Some(group), _) => group.to_owned(),
            (None, Transport::Tcp) if is_name && port == "443" => host.to_owned(),
            (None, Transport::Tcp) => object.to_owned(),
            (None, Transport::Udp) => format!("udp://{object}"),
            // A policy has no word for it.
            (None, Transport::Other) => return,
        };
        let reason = match group {
            Some(_) if is_name => format!("{program}: {host}"),
            Some(_) => format!("{program}: {}", to.ip()),
            None => program.to_owned(),
        };
        if self.network.len() < MOST || self.network.contains_key(&item) {
            let reasons = self.network.entry(item).or_default();
            if reasons.len() < 8 {
                reasons.insert(reason);
            }
        } else {
            self.is_cut = true;
        }
    }

    /// A change of a file that no rule objects to.
    pub(super) fn writes(&mut self, path: &str, job: &Job) {
        if let Some(place) = place(path, job) {
            insert(&mut self.writes, format!("write {place}"), &mut self.is_cut);
        }
    }

    /// A program that the step launched, seen through launchers.
    pub(super) fn runs(&mut self, path: &str, placed_by_job: bool, job: &Job) {
        let item = if placed_by_job { plain(&short(path, job)) } else { plain(basename(path)) };
        // A name of wildcards alone would mean every program.
        if item.bytes().any(|byte| byte.is_ascii_alphanumeric()) {
            insert(&mut self.runs, item, &mut self.is_cut);
        }
    }
}

fn insert(items: &mut std::collections::BTreeSet<String>, item: String, is_cut: &mut bool) {
    if items.len() < MOST || items.contains(&item) {
        items.insert(item);
    } else {
        *is_cut = true;
    }
}

/// The path with `./` and `~/`, and parts that a program made up for the moment as `*`.
pub fn short(path: &str, job: &Job) -> String {
    let below =
        |folder: &str| (folder.len() > 1).then(|| path.strip_prefix(folder)?.strip_prefix('/')).flatten();
    let (anchor, rest) = match (below(&job.workspace), below(&job.home)) {
        (Some(rest), _) => ("./", rest),
        (None, Some(rest)) => ("~/", rest),
        (None, None) => ("/", path.trim_start_matches('/')),
    };
    let parts: Vec<&str> = rest.split('/').map(|part| if is_made_up(part) { "*" } else { part }).collect();
    format!("{anchor}{}", parts.join("/"))
}

/// The folder that a policy would name: the workspace as a whole, a tool's own folder in the home.
fn place(path: &str, job: &Job) -> Option<String> {
    // Not a file system's: a memfd, a removed file, a device that every program may use.
    let is_device = path.starts_with("/dev/") && !path.starts_with("/dev/shm/");
    if !path.starts_with('/') || path.starts_with("/proc/self/") || is_device {
        return None;
    }
    let short = short(path, job);
    if short.starts_with("./") || path == job.workspace {
        return Some("./**".to_owned());
    }
    // A home as a whole is never meant, one's own or another's.
    if path == job.home {
        return Some("~".to_owned());
    }
    let (anchor, rest) = short.strip_prefix("~/").map_or(("/", &short[1..]), |rest| ("~/", rest));
    // A made-up name in the home itself is kept: with a wildcard it would mean the whole home.
    let rest = match path.strip_prefix(&job.home).and_then(|own| own.strip_prefix('/')) {
        Some(own) if anchor == "~/" && rest.starts_with('*') => own,
        _ => rest,
    };
    let parts: Vec<&str> = rest.split('/').collect();
    // `~/.npm/**`, `/tmp/**`; elsewhere two levels: `/var/lib/**`; in another's home three.
    let kept = match (anchor, parts[0]) {
        ("~/", _) | (_, "tmp" | "proc" | "run") => 1,
        (_, "home" | "Users") => 3,
        _ => 2,
    };
    Some(if parts.len() > kept {
        plain(&format!("{anchor}{}/**", parts[..kept].join("/")))
    } else {
        plain(&format!("{anchor}{rest}"))
    })
}

/// With `?` for what a policy would read as something else.
fn plain(text: &str) -> String {
    text.chars()
        .map(|letter| {
            if letter.is_control() || letter.is_whitespace() || "[]{}!\\?\"".contains(letter) {
                '?'
            } else {
                letter
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Provider;

    fn job() -> Job {
        Job {
            provider: Provider::Local,
            name: "local".into(),
            workspace: "/w".into(),
            home: "/home/u".into(),
            uid: 1,
            pipeline: None,
            steps: Vec::new(),
        }
    }

    #[test]
    fn a_change_becomes_the_folder_that_a_policy_names() {
        for (path, wanted) in [
            ("/w/a/b.txt", Some("./**")),
            ("/w", Some("./**")),
            ("/home/u/.npm/_cacache/index", Some("~/.npm/**")),
            ("/home/u/.npmrc", Some("~/.npmrc")),
            ("/home/u", Some("~")),
            ("/home/u/npm-a8Xk2LqPz1", Some("~/npm-a8Xk2LqPz1")),
            ("/home/other/.npm/x", Some("/home/other/.npm/**")),
            ("/home/other/.npmrc", Some("/home/other/.npmrc")),
            ("/root/.npm/x", Some("/root/.npm/**")),
            ("/tmp/x/y", Some("/tmp/**")),
            ("/tmp/npm-a8Xk2LqPz1", Some("/tmp/**")),
            ("/var/lib/dpkg/status", Some("/var/lib/**")),
            ("/etc/hosts", Some("/etc/hosts")),
            ("/home/u/odd [name]/x", Some("~/odd??name?/**")),
            ("memfd:x", None),
            ("/dev/null", None),
            ("/dev/shm/x", Some("/dev/shm/**")),
        ] {
            assert_eq!(place(path, &job()).as_deref(), wanted, "{path}");
        }
    }

    #[test]
    fn hosts_are_named_as_a_policy_names_them() {
        let mut needs = Needs::default();
        let mut connect = |object: &str, to: &str, transport, group| {
            needs.connects(object, to.parse().unwrap(), transport, group, "node");
        };
        connect("api.example:443", "203.0.113.7:443", Transport::Tcp, None);
        connect("api.example:8443", "203.0.113.7:8443", Transport::Tcp, None);
        connect("203.0.113.7:443", "203.0.113.7:443", Transport::Tcp, None);
        connect("[2001:db8::1]:443", "[2001:db8::1]:443", Transport::Tcp, None);
        connect("ntp.example:123", "203.0.113.9:123", Transport::Udp, None);
        connect("packages.example:443", "203.0.113.8:443", Transport::Tcp, Some("node"));
        let items: Vec<&String> = needs.network.keys().collect();
        assert_eq!(
            items,
            [
                "203.0.113.7:443",
                "[2001:db8::1]:443",
                "api.example",
                "api.example:8443",
                "node",
                "udp://ntp.example:123"
            ]
        );
        assert!(needs.network["node"].contains("node: packages.example"));
    }

    #[test]
    fn a_loop_over_destinations_is_judged_to_its_end_and_listed_to_a_limit() {
        let most = crate::engine::Engine::DESTINATIONS;
        let step = "for port in $(seq 60000); do curl http://203.0.113.7:$port/; done\n";
        let connects: Vec<String> =
            (0..most + 10).map(|port| format!("2 connect 203.0.113.7:{}", 1024 + port)).collect();
        let connects = connects.join("\n");
        let trace = format!("1 > 2 launch /usr/bin/python3 python3 x.py\n{connects}");
        let report = crate::trace::report(step, "", &trace);
        let listed: usize = report.steps.iter().map(|step| step.destinations.len()).sum();
        assert_eq!(listed, most);
        let gap = "10 connections went to more destinations than are listed; all were judged";
        assert!(report.coverage.gaps.iter().any(|text| text == gap), "{:?}", report.coverage.gaps);
    }
}
