//! Records of files or connections were lost.
//!
//! ## What it sees
//! The sensor counted file or egress records that it could not deliver during the run.
//!
//! ## Why it matters
//! What was lost was not compared with anything: "nothing found" is then only true of the rest.
//!
//! ## What to do
//! Look for what flooded the machine at that time; run the job again.

use super::{Detection, nothing};
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("coverage-records"),
    severity: Severity::Low,
    confidence: Confidence::High,
    techniques: &[Technique("T1562.006")],
    references: &[],
    frameworks: &["CICD-SEC-10"],
    remedy: "Run the job again; if it repeats, find what floods the machine with file or network activity.",
    source: include_str!("coverage_records.rs"),
    check: nothing,
};
