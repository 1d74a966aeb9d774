//! An exception of the policy has ended.
//!
//! ## What it sees
//! An entry of `except` whose day `until` lay before the start of the recording.
//!
//! ## Why it matters
//! What it held back is a finding again, and may fail a job that nobody touched. Whoever looks for the reason finds it here.
//!
//! ## What to do
//! Look whether its reason still holds. If so, set a new day; if not, take the entry out and deal with what it held back.
//!
//! ## Known limits
//! An exception without a day never ends; `policy check` warns of it.

use super::{Detection, nothing};
use crate::finding::{Confidence, RuleId, Severity};

pub const DETECTION: Detection = Detection {
    id: RuleId("exception-expired"),
    severity: Severity::Low,
    confidence: Confidence::High,
    techniques: &[],
    references: &[],
    frameworks: &["CICD-SEC-1"],
    remedy: "Set a new day if the reason still holds; else take the exception out and deal with what it held back.",
    source: include_str!("exception_expired.rs"),
    check: nothing,
};

#[cfg(test)]
mod tests {
    use crate::trace::{findings, report};

    const TRACE: &str = "1 > 2 launch /usr/bin/node node /usr/bin/npm test\n2 > 3 launch /usr/bin/node node x.js\n3 connect 203.0.113.7:443";

    fn policy(until: &str) -> String {
        format!(
            "version: 1\nexcept:\n  - {{rule: egress-undeclared, object: \"203.0.113.7:443\", reason: \"ticket 12\"{until}}}\n"
        )
    }

    #[test]
    fn an_exception_that_ended_is_told_and_holds_nothing_back() {
        // The recording starts on 2027-01-15.
        assert_eq!(
            findings("npm test\n", &policy(", until: 2027-01-14"), TRACE),
            [
                "egress-undeclared divergence low 203.0.113.7:443",
                "exception-expired policy low egress-undeclared, 203.0.113.7:443",
            ]
        );
        let report = report("npm test\n", &policy(", until: 2027-01-14"), TRACE);
        let finding = report.findings.iter().find(|finding| finding.rule.0 == "exception-expired").unwrap();
        assert_eq!(
            finding.title,
            "the exception for egress-undeclared (ticket 12) ended on 2027-01-14, and 1 finding is back"
        );
        assert_eq!(finding.location.as_ref().unwrap().to_string(), "guard.yml:3");
    }

    #[test]
    fn on_its_last_day_and_without_one_it_holds() {
        for until in [", until: 2027-01-15", ""] {
            assert_eq!(findings("npm test\n", &policy(until), TRACE), [""; 0]);
        }
        // Nothing to hold back, and ended all the same.
        assert_eq!(
            findings("npm test\n", &policy(", until: 2026-12-31"), ""),
            ["exception-expired policy low egress-undeclared, 203.0.113.7:443"]
        );
    }
}
