//! Where in the repository a finding stands.

use crate::finding::{Finding, Report};
use crate::job::Location;

/// The finding's line, else its step's, as far as it lies in the repository.
pub fn of(report: &Report, finding: &Finding) -> Option<Location> {
    let of_step = || {
        let reported = report.steps.iter().find(|step| step.key == finding.step).map(|step| &step.location);
        let planned =
            report.job.steps.iter().find(|step| step.key == finding.step).map(|step| &step.location);
        [reported, planned].into_iter().flatten().find_map(Option::as_ref)
    };
    [finding.location.as_ref(), of_step()]
        .into_iter()
        .flatten()
        .find(|location| is_in_repository(&location.path))
        .cloned()
}

/// Where a finding without a line of its own stands: at the top of the workflow's file, or of the policy's, where
/// it can be answered.
pub fn of_answers(report: &Report) -> Location {
    let workflow = report.job.pipeline.as_ref().and_then(|pipeline| pipeline.workflow.as_deref());
    let path = workflow.filter(|path| is_in_repository(path)).unwrap_or(".github/guard.yml");
    Location { path: path.to_owned(), line: 1 }
}

/// The same for GitLab, which wants a file of the repository with each finding: else the top of the file that has the job.
pub fn in_gitlab(report: &Report, finding: &Finding) -> Location {
    of(report, finding).unwrap_or_else(|| Location { path: ".gitlab-ci.yml".to_owned(), line: 1 })
}

pub fn is_in_repository(path: &str) -> bool {
    !path.is_empty() && !path.starts_with(['/', '~', '…']) && path.split('/').all(|part| part != "..")
}
