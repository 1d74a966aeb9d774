//! A process reaches for the host: the container daemon, another namespace, a disk, the kernel's helpers.
//!
//! ## What it sees
//! A connection to a container daemon's socket by a program that is no container client; the host's folders handed to a container by
//! other people's code; a mount namespace or process numbers of another process entered; a disk mounted; a kernel helper set
//! (`core_pattern`, `release_agent`, `modprobe`, `uevent_helper`).
//!
//! ## Why it matters
//! Each of these makes root of the host out of less, and a root of the host can change every later step and job.
//!
//! ## What to do
//! Treat the machine as taken: throw it away. If the step has to speak to the daemon, let its text name the client.
//!
//! ## Known limits
//! What happens inside a container that the daemon started is the daemon's work and not seen. Project code that speaks to the daemon
//! itself, as test libraries do, gets a note of low severity.

use super::{Act, Detection, Ground, Hit, attack, ground, is_work, named};
use crate::catalogue;
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};
use crate::intent::basename;

pub const DETECTION: Detection = Detection {
    id: RuleId("container-escape"),
    severity: Severity::Critical,
    confidence: Confidence::High,
    techniques: &[Technique("T1611"), Technique("T1610")],
    references: &[
        "CVE-2024-21626",
        "CVE-2025-31133",
        "CVE-2022-0492",
        "CVE-2026-24763",
        "CVE-2026-27002",
        "GHSA-mxr3-8whj-j74r",
    ],
    frameworks: &["CICD-SEC-7", "ASI05"],
    remedy: "Throw the machine away, then take the daemon's socket or the privilege from this job.",
    source: include_str!("container_escape.rs"),
    check,
};

fn check(act: &Act<'_>) -> Vec<Hit> {
    let who = || named(act.lineage, act.process.key);
    let ground = ground(act);
    match (act.effect, act.activity) {
        (Effect::Other, Activity::UnixConnect { file })
            if catalogue::is_object("container-sockets", &file.path) =>
        {
            let weight = match ground {
                Ground::Foreign => (Severity::Critical, Confidence::High),
                _ if is_work(act, "container-clients") => return Vec::new(),
                _ => (Severity::Low, Confidence::Low),
            };
            attack(act, &DETECTION, weight, format!("{} spoke to a container daemon", who()), &file.path)
        }
        (Effect::Other, Activity::Namespace { kinds, entered: true }) => {
            let is_host = kinds.iter().any(|kind| matches!(kind.as_str(), "mount" | "pid"));
            if !is_host
                || ground == Ground::Named
                || (ground == Ground::Project && is_work(act, "namespace-makers"))
            {
                return Vec::new();
            }
            let confidence = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
            let title = format!("{} entered another process's namespaces ({})", who(), kinds.join(", "));
            attack(act, &DETECTION, (Severity::Critical, confidence), title, kinds.join(" "))
        }
        (Effect::Other, Activity::Mount { source, target }) => {
            if ground == Ground::Named || !is_disk(source) {
                return Vec::new();
            }
            let confidence = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
            let title = format!("{} mounted the disk {source} at {}", who(), target.path);
            attack(act, &DETECTION, (Severity::Critical, confidence), title, source)
        }
        (Effect::Write { path, .. }, Activity::Open { .. })
            if catalogue::is_object("kernel-helpers", path) =>
        {
            if ground == Ground::Named {
                return Vec::new();
            }
            let title = format!("{} set {path}, which the kernel runs as root of the host", who());
            attack(act, &DETECTION, (Severity::Critical, Confidence::High), title, path)
        }
        (Effect::Launch { .. }, Activity::Launch(launch)) if ground != Ground::Named => {
            if !is_work(act, "container-clients") {
                return Vec::new();
            }
            let Some(handed) = handed(&launch.arguments) else { return Vec::new() };
            let weight = match ground {
                Ground::Foreign => (Severity::Critical, Confidence::High),
                _ => (Severity::High, Confidence::Medium),
            };
            let title = format!("{} hands {handed} of the host to a container", who());
            attack(act, &DETECTION, weight, title, handed)
        }
        _ => Vec::new(),
    }
}

fn is_disk(source: &str) -> bool {
    let Some(device) = source.strip_prefix("/dev/") else { return false };
    ["sd", "nvme", "vd", "xvd", "mmcblk", "mapper/", "dm-", "disk/"]
        .iter()
        .any(|kind| device.starts_with(kind))
}

/// The folder of the host that these words of a container client hand over whole, if it is one that gives the host away.
fn handed(words: &[String]) -> Option<String> {
    let verb = words.iter().skip(1).find(|word| !word.starts_with('-')).map(|word| basename(word))?;
    if !matches!(verb, "run" | "create" | "container") {
        return None;
    }
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let volume = match word {
            "-v" | "--volume" | "--mount" => words.next().unwrap_or_default(),
            _ => word
                .strip_prefix("--volume=")
                .or_else(|| word.strip_prefix("--mount="))
                .or_else(|| word.strip_prefix("-v").filter(|rest| rest.starts_with('/')))
                .unwrap_or_default(),
        };
        let source = volume
            .split(',')
            .find_map(|part| part.strip_prefix("source=").or_else(|| part.strip_prefix("src=")))
            .or_else(|| volume.split_once(':').map(|(source, _)| source));
        if let Some(source) = source
            && matches!(
                source.trim_end_matches('/'),
                "" | "/etc" | "/root" | "/proc" | "/boot" | "/var" | "/usr"
            )
            && source.starts_with('/')
        {
            return Some(source.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use crate::trace::expect;

    #[test]
    fn an_install_script_has_no_business_with_any_daemon() {
        for (program, socket) in [
            ("/usr/bin/docker docker ps", "/run/docker.sock"),
            ("/usr/bin/curl curl --unix-socket x", "/run/podman/podman.sock"),
            ("/usr/bin/python3.11 python3 x.py", "/run/containerd/containerd.sock"),
            ("/usr/bin/node node x.js", "/run/user/1000/podman/podman.sock"),
            ("/usr/bin/node node x.js", "/run/buildkit/buildkitd.sock"),
        ] {
            expect(
                "npm ci\n",
                &format!(
                    "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch {program}\n3 unix {socket}"
                ),
                &[&format!("!container-escape attack critical {socket}")],
            );
        }
    }

    #[test]
    fn the_hosts_folders_namespaces_disks_and_kernel_helpers() {
        expect(
            "make test\n",
            "1 > 2 launch /usr/bin/make make test
             2 > 3 launch /usr/bin/docker docker run --rm -v /:/host alpine sh
             2 > 4 launch /usr/bin/nsenter nsenter -t 1 -m sh
             4 enter mount
             2 > 5 launch /w/x x
             5 mount /dev/sda1 /tmp/m
             5 write /proc/sys/kernel/core_pattern
             5 create /sys/fs/cgroup/a/release_agent",
            &[
                "!container-escape attack critical /dev/sda1",
                "!container-escape attack critical /proc/sys/kernel/core_pattern",
                "!container-escape attack critical /sys/fs/cgroup/a/release_agent",
                "!container-escape attack critical mount",
                "!container-escape attack high /",
                "file-undeclared divergence low /sys/fs/cgroup/a/release_agent",
            ],
        );
    }

    #[test]
    fn container_clients_hermetic_builds_and_declared_work_stay_quiet() {
        expect(
            "docker build .\nmake test\nsudo nsenter -t 5 -m true\n",
            "1 > 2 launch /usr/bin/docker docker build .
             2 unix /run/docker.sock
             1 > 3 launch /usr/bin/make make test
             3 > 4 launch /usr/bin/docker docker run -v /w:/w -v/var/lib/x:/x alpine true
             4 unix /run/docker.sock
             3 > 5 launch /usr/bin/bwrap bwrap --bind / / true
             5 leave user mount pid
             5 mount /w /newroot
             3 > 6 launch /usr/bin/podman podman run x
             6 enter user mount
             3 > 7 launch /usr/bin/node node server.js
             7 unix /run/postgresql/.s.PGSQL.5432
             1 > 8 launch /usr/bin/nsenter nsenter -t 5 -m true
             8 enter mount",
            &[],
        );
    }
}
