//! A secret of the job comes out in its log, its summary or what it uploads.
//!
//! ## What it sees
//! Under `run` and in the GitLab component, what the command or the script writes to standard output and standard error, wherever
//! that goes but to a terminal: the values of secret-like variables and of the credential files that were there at the start, plain,
//! with anything between their characters or over several lines, in base64 (up to three times, at any place of a longer text, also
//! the kind for URLs), base32, hex, hex of base64, base64 of hex or of the reversed value, URL-encoded, reversed, or rotated by 13
//! letters. At the end the same in the job's summary, in the files for later steps, and in what is uploaded as an artifact, as far as
//! the workflow, `.gitlab-ci.yml`, `--search` or `--artifact` names it. Only the secret's name, the form and the place are kept.
//!
//! ## Why it matters
//! A public log needs no server of the attacker's, and a runner masks a secret in its plain form alone.
//!
//! ## What to do
//! Revoke the secret and delete the log, then find what printed it. A step that has to hand a secret on should use a secret store.
//!
//! ## Known limits
//! Beside a job of GitHub Actions, as a sidecar, the guard does not own the log and does not read it; nor does it where the
//! output goes to a terminal. In the GitLab component a program that opens its parent's output in `/proc`, and `after_script`, go
//! past it; a plain value is of medium weight there, since the runner may mask it behind the guard, and none where it always does. Compressed or encrypted text is not found, nor are values of fewer than eight letters and digits,
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

/// Variables whose value GitLab takes out of every log, in its plain form.
const ALWAYS_MASKED: &[&str] = &[
    "CI_JOB_TOKEN",
    "CI_BUILD_TOKEN",
    "CI_REGISTRY_PASSWORD",
    "CI_DEPENDENCY_PROXY_PASSWORD",
    "CI_DEPLOY_PASSWORD",
    "CI_JOB_JWT",
];

/// How much a secret in this form at this place weighs; `None` where it may stand there.
///
/// A GitLab runner masks what it is told to behind us (`is_masked_later`): a plain value may not get into the log after all.
pub fn weight(
    secret: &str,
    place: &str,
    encoding: &str,
    is_masked_later: bool,
) -> Option<(Severity, Confidence)> {
    match (Outlet::of(place), encoding) {
        (Outlet::Log, "plain") if is_masked_later => {
            (!ALWAYS_MASKED.contains(&secret)).then_some((Severity::Medium, Confidence::Medium))
        }
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
        told_by(crate::job::Provider::Local, step, secret, place, encoding)
    }

    fn told_by(
        provider: crate::job::Provider,
        step: &str,
        secret: &str,
        place: &str,
        encoding: &str,
    ) -> Vec<String> {
        let mut engine = Engine::new(Policy::absent(), Settings::default());
        let mut all = inputs(step, "");
        if let Input::Start(start) = &mut all[0] {
            start.job.provider = provider;
        }
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
    fn what_a_gitlab_runner_may_mask_weighs_less() {
        let told = |secret, place, encoding| {
            told_by(crate::job::Provider::Gitlab, "make\n", secret, place, encoding)
                .into_iter()
                .map(|line| line.split(" the secret").next().unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(told("DEPLOY_TOKEN", "the output", "plain"), ["log-artifact-leak medium false"]);
        assert_eq!(told("DEPLOY_TOKEN", "the output", "base64"), ["log-artifact-leak critical true"]);
        assert_eq!(told("CI_JOB_TOKEN", "standard error", "plain"), [""; 0]);
        assert_eq!(told("CI_JOB_TOKEN", "standard error", "reversed"), ["log-artifact-leak critical true"]);
        // Nobody masks a file.
        assert_eq!(told("CI_JOB_TOKEN", "artifact dist/a", "plain"), ["log-artifact-leak high true"]);
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
