//! A process takes hold of another one, or reads its memory.
//!
//! ## What it sees
//! `ptrace` (attach, seize, peek, poke), `process_vm_readv` and `process_vm_writev`, and another process's
//! `/proc/PID/mem` opened; the kernel's own memory (`/dev/mem`, `/proc/kcore`). A process of the runner, of an agent or of
//! another step weighs most; a program may look into what it started itself.
//!
//! ## Why it matters
//! The runner holds every secret of the job in its memory, also those that no step was given. Reading it there leaves no trace
//! in any file.
//!
//! ## What to do
//! Take every secret of the job for stolen, also those of other steps. If it is a debugger of yours, let the step's text name it.
//!
//! ## Known limits
//! In a process number namespace of its own the victim can't be told by its number; the finding then has low confidence. Memory
//! shared on purpose and core files are not covered. Opening `maps` alone is no finding.

use super::{Act, Detection, Ground, Hit, attack, ground, is_work, named, of_process};
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("proc-memory-read"),
    severity: Severity::Critical,
    confidence: Confidence::High,
    techniques: &[Technique("T1003.007"), Technique("T1055.008")],
    references: &["CVE-2025-30066", "GHSA-mrrh-fwg8-r2c3", "CVE-2026-33634", "CVE-2026-45321"],
    frameworks: &["CICD-SEC-6", "ASI03"],
    remedy: "Take every secret of this job for stolen, and remove what started this process.",
    source: include_str!("proc_memory_read.rs"),
    check,
};

fn check(act: &Act<'_>) -> Vec<Hit> {
    if let Activity::Open { file, access } = act.activity
        && access.taken
    {
        return taken(act, &file.path);
    }
    let pid = match (act.effect, act.activity) {
        (Effect::Other, Activity::Trace { request, target }) if request != "trace-me" => *target,
        (Effect::Other | Effect::Write { .. }, Activity::Open { file, .. }) => match of_process(&file.path) {
            Some((pid, "mem")) => pid,
            _ if is_kernel(&file.path) => return kernel(act, &file.path),
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let own = act.process.key;
    if pid == own.pid {
        return Vec::new();
    }
    let who = named(act.lineage, own);
    let object = format!("/proc/{pid}/mem");
    let Some(victim) = act.lineage.numbered(pid).filter(|victim| !victim.is_past) else {
        // Its own numbers count there, and ours don't.
        let is_elsewhere = act
            .lineage
            .strand(own)
            .noted("pid-namespace")
            .any(|note| note.process != own && act.lineage.is_at_or_below(own, note.process));
        let confidence = if is_elsewhere { Confidence::Low } else { Confidence::High };
        let title = format!("{who} reached into process {pid}, which is not part of this job");
        return attack(act, &DETECTION, (Severity::Critical, confidence), title, object);
    };
    // A tracer that a program forks for itself runs the same image: a sanitizer's.
    let is_same_image = match (&victim.launch, &act.process.launch) {
        (Some(victim), Some(own)) => std::sync::Arc::ptr_eq(victim, own),
        _ => false,
    };
    let is_debugger = is_work(act, "debuggers") && ground(act) != Ground::Foreign;
    if act.lineage.is_at_or_below(victim.key, own) || is_same_image || is_debugger {
        return Vec::new();
    }
    let title = format!("{who} reached into the memory of {}, which it did not start", victim.name);
    let confidence = if ground(act) == Ground::Foreign || victim.strand != act.process.strand {
        Confidence::High
    } else {
        Confidence::Medium
    };
    attack(act, &DETECTION, (Severity::Critical, confidence), title, object)
}

/// An open file of another process. Who manages containers or stops programs to look at them does that.
fn taken(act: &Act<'_>, path: &str) -> Vec<Hit> {
    let ground = ground(act);
    if ground == Ground::Named || is_work(act, "debuggers") || is_work(act, "container-clients") {
        return Vec::new();
    }
    let confidence = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    let title =
        format!("{} took {path}, which another process had open", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::High, confidence), title, path)
}

fn is_kernel(path: &str) -> bool {
    matches!(path, "/dev/mem" | "/dev/kmem" | "/proc/kcore")
}

fn kernel(act: &Act<'_>, path: &str) -> Vec<Hit> {
    if ground(act) != Ground::Foreign && is_work(act, "debuggers") {
        return Vec::new();
    }
    let title = format!("{} opened the kernel's memory", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::Critical, Confidence::High), title, path)
}

#[cfg(test)]
mod tests {
    use crate::trace::expect;

    #[test]
    fn a_descriptor_taken_out_of_another_process() {
        for (above, told) in [
            ("/usr/bin/python3.11 python3 x.py", &["!proc-memory-read attack high /srv/session"][..]),
            ("/usr/bin/gdb gdb -p 77", &[]),
        ] {
            expect(
                "make test\n",
                &format!("1 > 2 launch /usr/bin/make make test\n2 > 3 launch {above}\n3 take /srv/session"),
                told,
            );
        }
    }

    #[test]
    fn memory_of_a_process_outside_the_job_by_any_interface() {
        for act in [
            "read /proc/77/mem",
            "read /proc/77/task/78/mem",
            "trace read-memory 77",
            "trace attach 77",
            "trace seize 77",
        ] {
            expect(
                "./build.sh\nmake test\n",
                &format!(
                    "1 > 2 launch /usr/bin/make make test\n2 > 3 launch /usr/bin/python3.11 python3 x.py\n3 {act}"
                ),
                &["!proc-memory-read attack critical /proc/77/mem"],
            );
        }
    }

    #[test]
    fn a_declared_interpreter_is_no_excuse_and_a_borrowed_name_none_either() {
        expect(
            "python3.11 dump.py\n",
            "1 > 2 launch /usr/bin/python3.11 python3.11 dump.py\n2 read /proc/77/mem",
            &["!proc-memory-read attack critical /proc/77/mem"],
        );
        expect(
            "make test\nsleep 9 &\n",
            "1 > 2 launch /usr/bin/make make test\n1 > 4 launch /usr/bin/sleep sleep 9\n2 > 3 launch /w/gdb gdb -p 4\n3 trace attach 4",
            &["!proc-memory-read attack critical /proc/4/mem"],
        );
    }

    #[test]
    fn debuggers_of_what_they_started_and_sanitizers_stay_quiet() {
        expect(
            "make test\ngdb --batch ./a.out\n",
            "1 > 2 launch /usr/bin/make make test
             2 > 3 launch /w/a.out a.out
             3 > 4
             4 trace attach 3
             4 trace read-memory 3
             2 > 5 launch /usr/bin/strace strace ./a.out
             5 > 6 launch /w/a.out a.out
             6 trace trace-me 5
             5 trace peek-data 6
             5 read /proc/6/mem
             5 read /proc/5/mem
             2 > 7 launch /w/debugger debugger a.out
             7 > 8 launch /w/a.out a.out
             7 trace seize 8
             7 read /proc/8/mem",
            &[],
        );
    }
}
