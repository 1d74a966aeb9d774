//! A secret of the job comes out in its log, its summary or what it uploads.
//!
//! ## What it sees
//! Under `run`, what the command writes to standard output and standard error, wherever that goes but to a terminal: the values of
//! secret-like variables and of the credential files that were there at the start, plain, with anything between their characters
//! or over several lines, in base64 (once or twice, at any place of a longer text, also the kind for URLs), hex, URL-encoded,
//! reversed, or rotated by 13 letters. At the end the same in the job's summary, in the files for later steps, and in what is
//! uploaded as an artifact, as far as the workflow or `--artifact` names it. Only the secret's name, the form and the place are kept.
//!
//! ## Why it matters
//! A public log needs no server of the attacker's, and a runner masks a secret in its plain form alone.
//!
//! ## What to do
//! Revoke the secret and delete the log, then find what printed it. A step that has to hand a secret on should use a secret store.
//!
//! ## Known limits
//! Beside a job that runs on its own, as a sidecar, the guard does not own the log and does not read it; nor does it where the
//! output goes to a terminal. Compressed or encrypted text is not found, nor are values of fewer than eight letters and digits,
//! words without digits, or secrets that come to be in the job. Which process printed it is not known. Files for later steps may
//! hold secrets in plain: that is what they are for. So may the log what a file holds that the step's own text names.

use super::{Detection, nothing};
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("log-artifact-leak"),
    severity: Severity::Critical,
    confidence: Confidence::High,
    techniques: &[Technique("T1552"), Technique("T1132"), Technique("T1567")],
    references: &["CVE-2025-30066"],
    frameworks: &["CICD-SEC-6", "CICD-SEC-10"],
    remedy: "Revoke the secret, delete the log or artifact, and remove what printed it.",
    source: include_str!("log_artifact_leak.rs"),
    check: nothing,
};

/// Where a secret came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outlet {
    Log,
    Summary,
    Artifact,
    /// Outputs and variables of later steps.
    Handover,
}

impl Outlet {
    fn of(place: &str) -> Self {
        match place {
            "standard output" | "standard error" | "the output" => Self::Log,
            "the job's summary" => Self::Summary,
            place if place.starts_with("artifact ") => Self::Artifact,
            _ => Self::Handover,
        }
    }
}

/// How much a secret in this form at this place weighs; `None` where it may stand there.
pub fn weight(place: &str, encoding: &str) -> Option<(Severity, Confidence)> {
    match (Outlet::of(place), encoding) {
        (Outlet::Handover, "plain") => None,
        (Outlet::Handover, _) => Some((Severity::Medium, Confidence::Medium)),
        // By mistake, it may be; whoever hides it means it.
        (_, "plain") => Some((Severity::High, Confidence::High)),
        _ => Some((Severity::Critical, Confidence::High)),
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::{Engine, Input, Settings};
    use crate::event::{Fact, Timestamp};
    use crate::policy::Policy;
    use crate::trace::inputs;

    fn told(place: &str, encoding: &str) -> Vec<String> {
        told_of("make\n", "DEPLOY_TOKEN", place, encoding)
    }

    fn told_of(step: &str, secret: &str, place: &str, encoding: &str) -> Vec<String> {
        let mut engine = Engine::new(Policy::absent(), Settings::default());
        let mut all = inputs(step, "");
        let leak = Fact::Leak {
            secret: secret.into(),
            encoding: encoding.into(),
            place: place.into(),
            time: Timestamp(1_800_000_000_000_000_001),
        };
        all.insert(all.len() - 1, Input::Fact(leak));
        for (sequence, input) in (0..).zip(&all) {
            engine.accept(sequence, input);
        }
        let report = engine.finish();
        (report.findings.iter())
            .map(|finding| {
                format!("{} {} {} {}", finding.rule, finding.severity.as_str(), finding.fails, finding.title)
            })
            .collect()
    }

    #[test]
    fn the_log_the_summary_and_artifacts_may_hold_no_secret() {
        assert_eq!(
            told("standard output", "base64"),
            ["log-artifact-leak critical true the secret DEPLOY_TOKEN came out in standard output, base64"]
        );
        assert_eq!(
            told("standard error", "plain"),
            ["log-artifact-leak high true the secret DEPLOY_TOKEN came out in standard error, plain"]
        );
        assert_eq!(
            told("the job's summary", "plain"),
            ["log-artifact-leak high true the secret DEPLOY_TOKEN came out in the job's summary, plain"]
        );
        assert_eq!(
            told("artifact dist/app.map", "hex"),
            [
                "log-artifact-leak critical true the secret DEPLOY_TOKEN came out in artifact dist/app.map, hex"
            ]
        );
    }

    #[test]
    fn a_file_that_the_text_names_may_be_shown_but_not_hidden() {
        let netrc = |step, encoding| told_of(step, "/home/u/.netrc", "standard output", encoding);
        assert_eq!(netrc("cat ~/.netrc\n", "plain"), [""; 0]);
        assert_eq!(netrc("cat ~/.netrc\n", "base64").len(), 1);
        assert_eq!(netrc("make\n", "plain").len(), 1);
    }

    #[test]
    fn what_is_handed_to_later_steps_may_be_a_secret() {
        assert_eq!(told("outputs of the step", "plain"), [""; 0]);
        assert_eq!(
            told("outputs of the step", "base64 of base64"),
            [
                "log-artifact-leak medium false the secret DEPLOY_TOKEN came out in outputs of the step, base64 of base64"
            ]
        );
    }
}
