//! A process reaches for the host: the container daemon, another namespace, a disk, the kernel's helpers.
//!
//! ## What it sees
//! A connection to a container daemon's socket by a program that is no container client and has no library for it; the host's folders
//! handed to a container; other options that undo its walls, from other people's code and below an agent; a mount namespace or process
//! numbers of another process entered; a disk mounted, opened or made as a device; a kernel helper set (`core_pattern`,
//! `release_agent`, `modprobe`, `uevent_helper`, `binfmt_misc`).
//!
//! ## Why it matters
//! Each of these makes root of the host out of less, and a root of the host can change every later step and job.
//!
//! ## What to do
//! Treat the machine as taken: throw it away. If the step has to speak to the daemon, let its text name the client.
//!
//! ## Known limits
//! What happens inside a container that the daemon started is the daemon's work and not seen. Project code that speaks to the daemon
//! by a library, as test libraries do, and a compiled program, which may have one in it, get a note of low severity.

use super::{
    Act, Detection, Ground, Hit, attack, ground, is_compiled, is_daemon_port, is_work, named, uses_library,
};
use crate::catalogue;
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};

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
        (Effect::Other, Activity::UnixConnect { file, .. })
            if catalogue::is_object("container-sockets", &file.path) =>
        {
            spoke(act, ground, &file.path)
        }
        (Effect::Other, Activity::Connect { to, .. })
            if to.ip().is_loopback() && is_daemon_port(to.port()) && ground != Ground::Named =>
        {
            spoke(act, ground, &to.to_string())
        }
        (Effect::Other, Activity::Namespace { kinds, entered: true }) => {
            let is_host = kinds.iter().any(|kind| matches!(kind.as_str(), "mount" | "pid"));
            // Whoever does not say which kind takes what the descriptor stands for.
            let is_any = kinds.is_empty();
            if !(is_host || is_any)
                || ground == Ground::Named
                || (ground == Ground::Project && is_work(act, "namespace-makers"))
            {
                return Vec::new();
            }
            let confidence = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
            let kinds = if is_any { "any".to_owned() } else { kinds.join(" ") };
            let severity = if is_host { Severity::Critical } else { Severity::High };
            let title = format!("{} entered another process's namespaces ({kinds})", who());
            attack(act, &DETECTION, (severity, confidence), title, kinds)
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
            if !is_work(act, "container-clients") || !makes_container(&launch.arguments) {
                return Vec::new();
            }
            let weight = match ground {
                Ground::Foreign => (Severity::Critical, Confidence::High),
                _ => (Severity::High, Confidence::Medium),
            };
            if let Some(handed) = handed(&launch.arguments) {
                let title = format!("{} hands {handed} of the host to a container", who());
                return attack(act, &DETECTION, weight, title, handed);
            }
            let undone = undone(&launch.arguments);
            let is_alone = undone.len() == 1 && ground == Ground::Project && act.process.agent.is_none();
            if undone.is_empty() || is_alone {
                return Vec::new();
            }
            let title = format!("{} starts a container without its walls: {}", who(), undone.join(", "));
            attack(act, &DETECTION, weight, title, undone.join(" "))
        }
        (Effect::Other, Activity::Mknod { file, mode }) if mode & 0o170_000 == 0o060_000 => {
            if ground == Ground::Named {
                return Vec::new();
            }
            let confidence = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
            let title = format!("{} made a device of a disk at {}", who(), file.path);
            attack(act, &DETECTION, (Severity::Critical, confidence), title, &file.path)
        }
        (Effect::Other, Activity::Open { file, .. }) if is_disk(&file.path) => {
            if ground == Ground::Named || (ground == Ground::Project && is_work(act, "disk-tools")) {
                return Vec::new();
            }
            let confidence = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
            let title = format!("{} opened the disk {}, past its file system", who(), file.path);
            attack(act, &DETECTION, (Severity::High, confidence), title, &file.path)
        }
        _ => Vec::new(),
    }
}

pub(super) fn is_disk(source: &str) -> bool {
    let Some(device) = source.strip_prefix("/dev/") else { return false };
    ["sd", "nvme", "vd", "xvd", "mmcblk", "mapper/", "dm-", "disk/"]
        .iter()
        .any(|kind| device.starts_with(kind))
}

/// Whether these words of a container client make a container: `docker -H x run`, `podman container create`.
fn makes_container(words: &[String]) -> bool {
    words.iter().skip(1).take(8).any(|word| matches!(word.as_str(), "run" | "create"))
}

/// Options that undo a container's walls.
fn undone(words: &[String]) -> Vec<&str> {
    const UNDONE: &[&str] = &[
        "--privileged",
        "--pid=host",
        "--ipc=host",
        "--userns=host",
        "--uts=host",
        "--cgroupns=host",
        "--cap-add=ALL",
        "--cap-add=SYS_ADMIN",
        "--cap-add=SYS_PTRACE",
        "--cap-add=SYS_MODULE",
        "--cap-add=SYS_RAWIO",
        "--cap-add=DAC_READ_SEARCH",
        "--security-opt=seccomp=unconfined",
        "--security-opt=apparmor=unconfined",
        "--security-opt=label=disable",
        "--security-opt=systempaths=unconfined",
    ];
    let told = |option: &str, value: &str| {
        let value = value.to_ascii_uppercase().replace("CAP_", "").replace(':', "=");
        let whole = format!("{option}={value}").to_ascii_uppercase();
        UNDONE.iter().copied().find(|known| known.to_ascii_uppercase() == whole)
    };
    let mut found = Vec::new();
    for (at, word) in words.iter().enumerate() {
        let known = match word.split_once('=') {
            Some((option, value)) => told(option, value),
            None if word == "--privileged" => Some("--privileged"),
            None => words.get(at + 1).and_then(|value| told(word, value)),
        };
        found.extend(known);
    }
    // What such a container is for.
    let enters = ["nsenter", "chroot"];
    if !found.is_empty() {
        found.extend(words.iter().map(String::as_str).filter(|word| enters.contains(word)));
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// The folder of the host that these words of a container client hand over whole, if it is one that gives the host away.
fn handed(words: &[String]) -> Option<String> {
    let mut words = words.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let volume = match word {
            "--volume" | "--mount" | "--device" => words.next().unwrap_or_default(),
            // `-itv /:/host`
            flags if flags.starts_with('-') && !flags.starts_with("--") && flags.ends_with('v') => {
                words.next().unwrap_or_default()
            }
            _ => word
                .strip_prefix("--volume=")
                .or_else(|| word.strip_prefix("--mount="))
                .or_else(|| word.strip_prefix("--device="))
                .or_else(|| word.strip_prefix("-v=").or_else(|| word.strip_prefix("-v")))
                .filter(|rest| rest.contains('/'))
                .unwrap_or_default(),
        };
        let source = volume
            .split(',')
            .find_map(|part| part.strip_prefix("source=").or_else(|| part.strip_prefix("src=")))
            .or_else(|| Some(volume.split_once(':').map_or(volume, |(source, _)| source)));
        let gives_away = |source: &str| {
            matches!(
                source.trim_end_matches('/'),
                "" | "/etc"
                    | "/root"
                    | "/proc"
                    | "/boot"
                    | "/var"
                    | "/usr"
                    | "/run"
                    | "/var/run"
                    | "/var/lib/docker"
                    | "/var/lib/kubelet"
            ) && source.starts_with('/')
                || is_disk(source)
        };
        if let Some(source) = source.filter(|source| gives_away(source)) {
            return Some(source.to_owned());
        }
    }
    None
}

/// Whoever speaks to a daemon that runs as root can have a container with the host's disk in it.
fn spoke(act: &Act<'_>, ground: Ground, daemon: &str) -> Vec<Hit> {
    let weight = match ground {
        Ground::Foreign => (Severity::Critical, Confidence::High),
        _ if is_work(act, "container-clients") => return Vec::new(),
        Ground::Project if !uses_library(act, "container-libraries") && !is_compiled(act.process) => {
            (Severity::High, Confidence::Medium)
        }
        _ => (Severity::Low, Confidence::Low),
    };
    let title = format!("{} spoke to a container daemon", named(act.lineage, act.process.key));
    attack(act, &DETECTION, weight, title, daemon)
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_daemon_that_listens_on_loopback() {
        for (step, acts, is_told) in [
            ("make test\n", "3 connect 127.0.0.1:2375", true),
            ("make test\n", "3 > 4 launch /usr/bin/docker docker ps\n4 connect 127.0.0.1:2375", false),
            ("DOCKER_HOST=tcp://127.0.0.1:2375 make test\n", "3 connect 127.0.0.1:2375", false),
            ("make test\n", "3 connect 127.0.0.1:5432", false),
        ] {
            let trace = format!(
                "1 > 2 launch /usr/bin/make make test\n2 > 3 launch /usr/bin/ruby3.1 ruby x.rb\n{acts}"
            );
            let lines = crate::trace::findings(step, "", &trace);
            let hits = lines.iter().filter(|line| line.starts_with("!container-escape")).count();
            assert_eq!(hits > 0, is_told, "{step} {acts}: {lines:?}");
        }
    }

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
             2 > 6 launch /usr/bin/perl perl x.pl
             6 enter
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
                "!container-escape attack high any",
                "file-undeclared divergence low /sys/fs/cgroup/a/release_agent",
            ],
        );
    }

    #[test]
    fn a_script_of_the_project_speaks_to_the_daemon_without_a_client_or_a_library() {
        for (program, library, severity) in [
            ("/usr/bin/python3.11 python3 x.py", "", "!container-escape attack high"),
            ("/usr/bin/perl perl x.pl", "", "!container-escape attack high"),
            ("/usr/bin/curl curl --unix-socket x", "", "!container-escape attack high"),
            (
                "/usr/bin/node node x.js",
                "3 read /w/node_modules/dockerode/lib/docker.js",
                "container-escape attack low",
            ),
            ("/w/build/integration.test integration.test", "", "container-escape attack low"),
        ] {
            expect(
                "make test\n",
                &format!(
                    "1 > 2 launch /usr/bin/make make test\n2 > 3 launch {program}\n{library}\n3 unix /run/docker.sock"
                ),
                &[&format!("{severity} /run/docker.sock")],
            );
        }
    }

    #[test]
    fn options_that_undo_the_walls() {
        let agent = "1 > 2 agent codex\n2 launch /usr/local/bin/codex codex exec x\n2 > 3 launch /usr/bin/bash bash -c x\n";
        for (words, object) in [
            ("docker run --privileged alpine", "--privileged"),
            ("docker -H unix:///run/docker.sock create --pid host alpine", "--pid=host"),
            ("docker run --security-opt seccomp=unconfined alpine", "--security-opt=seccomp=unconfined"),
            ("docker run -itv /:/host alpine", "/"),
            ("docker run --mount type=bind,src=/etc,dst=/x alpine", "/etc"),
            ("docker run --device /dev/sda alpine", "/dev/sda"),
        ] {
            expect(
                "codex exec x\n",
                &format!("{agent}3 > 4 launch /usr/bin/docker {words}"),
                &[&format!("!container-escape attack high {object}")],
            );
        }
        // A recipe that needs one of them for its work.
        expect(
            "make image\n",
            "1 > 2 launch /usr/bin/make make image
             2 > 3 launch /usr/bin/docker docker run --privileged registry.example/binfmt --install all
             2 > 4 launch /usr/bin/docker docker run --network host -v /w:/w -v /var/run/docker.sock:/s alpine",
            &[],
        );
        expect(
            "make image\n",
            "1 > 2 launch /usr/bin/make make image\n2 > 3 launch /usr/bin/docker docker run --pid=host alpine nsenter -t 1 -m sh",
            &["!container-escape attack high --pid=host nsenter"],
        );
    }

    #[test]
    fn disks_and_devices() {
        expect(
            "make test\n",
            "1 > 2 launch /usr/bin/make make test
             2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 mknod /tmp/d 60644
             3 read /dev/nvme0n1p1
             3 mknod /tmp/pipe 10644
             2 > 4 launch /usr/sbin/blkid blkid
             4 read /dev/sda1",
            &["!container-escape attack critical /tmp/d", "!container-escape attack high /dev/nvme0n1p1"],
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
