//! A hook of the recorder was taken away during the run.
//!
//! ## What it sees
//! Once a second the recorder asks the kernel whether each of its programs still hangs where it
//! was put at the start, and whether it is still the same program.
//!
//! ## Why it matters
//! Only root can take one away, and nothing but a wish to act unseen explains it. From then on the
//! hook's kind of act is missing from the record.
//!
//! ## What to do
//! Look at what ran as root when the hook went, above all at calls of `bpf`.

use super::{Detection, nothing};
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("coverage-hook"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1562.001")],
    references: &[],
    frameworks: &["CICD-SEC-10"],
    remedy: "Find what detached the recorder's hook at that time; run the job again on a fresh machine.",
    source: include_str!("coverage_hook.rs"),
    check: nothing,
};
