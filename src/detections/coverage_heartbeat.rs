//! The guard fell silent for a while during the run.
//!
//! ## What it sees
//! A sidecar writes a heartbeat every five seconds. Between two of them lay more than three times
//! as long: it was stopped (`SIGSTOP`, a frozen cgroup), starved, or the machine slept.
//!
//! ## Why it matters
//! Whoever stops the guard does so to act unseen. What the kernel kept for it meanwhile is in the
//! record; what did not fit was counted as lost.
//!
//! ## What to do
//! Look at what ran when the silence began.

use super::{Detection, nothing};
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("coverage-heartbeat"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1562.001")],
    references: &[],
    frameworks: &["CICD-SEC-10"],
    remedy: "Find what stopped or starved the guard at that time; run the job again.",
    source: include_str!("coverage_heartbeat.rs"),
    check: nothing,
};
