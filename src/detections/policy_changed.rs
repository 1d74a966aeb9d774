//! The job's tree has another policy than the reviewed one.
//!
//! ## What it sees
//! On a pull request the base branch's policy is applied, and otherwise that of the workflow's commit. Where the tree that
//! the job works on has a copy that differs, or none any more, that is told.
//!
//! ## Why it matters
//! Who may change the policy in the very change that it judges needs no other way around it. So what the changed copy
//! allows does not count before somebody has reviewed it; what it denies counts at once.
//!
//! ## What to do
//! Read the change of the policy with the same care as a change of the workflow.
//!
//! ## Known limits
//! A change is told, whatever it is; whether it is wise is for people to say. A pull request can take the guard's step away
//! altogether: a required workflow can't be.

use super::{Detection, nothing};
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("policy-changed"),
    severity: Severity::Low,
    confidence: Confidence::High,
    techniques: &[Technique("T1562.001")],
    references: &[],
    frameworks: &["CICD-SEC-1"],
    remedy: "Review the change of the policy; it holds from the merge on.",
    source: include_str!("policy_changed.rs"),
    check: nothing,
};
