//! Records of processes were lost, so that later acts could belong to somebody else.
//!
//! ## What it sees
//! The sensor counted fork, exec or exit records that it could not deliver during the run.
//!
//! ## Why it matters
//! Who did what rests on these records. A hole in them can hide a whole chain.
//!
//! ## What to do
//! Look for what flooded the machine at that time; run the job again.

use super::{Detection, nothing};
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("coverage-lineage"),
    severity: Severity::High,
    confidence: Confidence::High,
    techniques: &[Technique("T1562.006")],
    references: &[],
    frameworks: &["CICD-SEC-10"],
    remedy: "Run the job again; if it repeats, find what floods the machine with processes.",
    source: include_str!("coverage_lineage.rs"),
    check: nothing,
};
