//! A process works against what watches it.
//!
//! ## What it sees
//! Programs of the kernel detached or replaced (`bpf`), or others' programs taken in hand; a process moved to another control group; the
//! kernel's trace settings changed; a kernel module loaded; the guard's own folder written. Each by something that the step's text does
//! not name. A process whose environment is that of another step than the one it was forked in: a note, since a build server
//! that an earlier step left hands its client's environment on. Whatever a process says of itself, it stays in its step.
//!
//! ## Why it matters
//! Whoever blinds the guard does it before the act that counts. So the attempt is the finding.
//!
//! ## What to do
//! Do not trust what the report says after this moment. Throw the machine away, and take root from the job.
//!
//! ## Known limits
//! Signals are not recorded: a guard that is stopped or ended is told by its heartbeat (`coverage-heartbeat`) or by the exit status.
//! `io_uring` and 32-bit calls are seen like others, so using them is no finding.

use super::{Act, Detection, Ground, Hit, attack, ground, is_work, named};
use crate::catalogue;
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("sensor-evasion"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1562.001"), Technique("T1562.006"), Technique("T1547.006")],
    references: &["CVE-2022-26316"],
    frameworks: &["CICD-SEC-10", "ASI10"],
    remedy: "Do not trust this report after this moment: throw the machine away, and take root from the job.",
    source: include_str!("sensor_evasion.rs"),
    check,
};

fn check(act: &Act<'_>) -> Vec<Hit> {
    let ground = ground(act);
    if ground == Ground::Named {
        return Vec::new();
    }
    let who = || named(act.lineage, act.process.key);
    let sure = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    match (act.effect, act.activity) {
        (Effect::Other, Activity::Bpf { command }) => match command.as_str() {
            "program-detach" | "link-detach" | "link-update" => {
                let title = format!("{} took a program out of the kernel ({command})", who());
                attack(act, &DETECTION, (Severity::High, sure), title, format!("bpf {command}"))
            }
            "program-by-id" | "map-by-id" | "link-by-id" if ground == Ground::Foreign => {
                let title = format!("{} took others' kernel programs in hand ({command})", who());
                attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, format!("bpf {command}"))
            }
            _ => Vec::new(),
        },
        (Effect::Other, Activity::Module { file }) => {
            let path = file.as_ref().map_or("memory", |file| file.path.as_str());
            let title = format!("{} loaded a kernel module", who());
            let weight = match ground {
                Ground::Foreign => (Severity::Critical, Confidence::High),
                _ => (Severity::High, Confidence::Medium),
            };
            attack(act, &DETECTION, weight, title, path)
        }
        (Effect::Write { path, .. }, Activity::Open { .. })
            if catalogue::is_object("group-members", path) =>
        {
            if is_work(act, "cgroup-managers") {
                return Vec::new();
            }
            let title = format!("{} moved a process to another control group", who());
            attack(act, &DETECTION, (Severity::High, sure), title, path)
        }
        (Effect::Write { path, .. }, _) if catalogue::is_object("kernel-tracing", path) => {
            if is_work(act, "tracers") {
                return Vec::new();
            }
            attack(
                act,
                &DETECTION,
                (Severity::High, sure),
                format!("{} changed the kernel's trace settings", who()),
                path,
            )
        }
        (Effect::Write { path, .. }, _) if path.starts_with("/run/edamame-guard/") => attack(
            act,
            &DETECTION,
            (Severity::Critical, Confidence::High),
            format!("{} wrote into the guard's folder", who()),
            path,
        ),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use crate::trace::expect;

    #[test]
    fn programs_groups_traces_and_modules() {
        expect(
            "npm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/python3.11 python3 x.py
             3 bpf link-detach
             3 write /sys/fs/cgroup/cgroup.procs
             3 write /sys/kernel/tracing/tracing_on
             3 module /tmp/x.ko
             3 create /run/edamame-guard/x/evidence.jsonl",
            &[
                "!sensor-evasion attack critical /run/edamame-guard/x/evidence.jsonl",
                "!sensor-evasion attack critical /tmp/x.ko",
                "!sensor-evasion attack high /sys/fs/cgroup/cgroup.procs",
                "!sensor-evasion attack high /sys/kernel/tracing/tracing_on",
                "!sensor-evasion attack high bpf link-detach",
                "file-undeclared divergence low /run/edamame-guard/x/evidence.jsonl",
                "file-undeclared divergence low /sys/fs/cgroup/cgroup.procs",
                "file-undeclared divergence low /sys/kernel/tracing/tracing_on",
            ],
        );
    }

    #[test]
    fn another_sensor_a_profiler_and_group_managers_stay_quiet() {
        expect(
            "make test\nbpftool prog list\n",
            "1 > 2 launch /usr/bin/make make test
             2 > 3 launch /usr/bin/bpftrace bpftrace x
             3 bpf map-create
             3 bpf program-load
             3 bpf link-create
             3 bpf program-by-id
             2 > 5 launch /usr/bin/podman podman run x
             5 create /sys/fs/cgroup/x/cgroup.procs
             1 > 6 launch /usr/sbin/bpftool bpftool prog list
             6 bpf next-program
             6 bpf program-by-id",
            &["file-undeclared divergence low /sys/fs/cgroup/x/cgroup.procs"],
        );
    }
}
