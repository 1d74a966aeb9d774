//! The job changes the runner that runs it.
//!
//! ## What it sees
//! The runner's programs, settings and credentials, and the actions it downloaded, written by other people's or the project's own code.
//!
//! ## Why it matters
//! The runner starts every later step and job, and holds all their secrets; a changed action runs in its own later step.
//!
//! ## What to do
//! Throw the machine away and register the runner anew. Runners for one job each have nothing to take over.
//!
//! ## Known limits
//! Runners are known by their usual folders. A second runner that is registered under another account is seen as its connection only.
//! What an action installs below itself (`node_modules`) does not count.

use super::{Act, Detection, Ground, Hit, attack, ground, named};
use crate::catalogue;
use crate::divergence::{Effect, Explanation};
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("runner-takeover"),
    severity: Severity::Critical,
    confidence: Confidence::High,
    techniques: &[Technique("T1554"), Technique("T1543")],
    references: &[],
    frameworks: &["CICD-SEC-7", "ASI10"],
    remedy: "Throw the machine away, register the runner anew, and remove what wrote there.",
    source: include_str!("runner_takeover.rs"),
    check,
};

fn check(act: &Act<'_>) -> Vec<Hit> {
    let Effect::Write { path, .. } = act.effect else { return Vec::new() };
    let ground = ground(act);
    if ground == Ground::Named
        || !catalogue::is_object("runner-own", path)
        || matches!(act.explanation, Explanation::Declared(_))
        || path.starts_with(&format!("{}/", act.context.job.workspace))
        || ["/node_modules/", "/__pycache__/", "/.venv/", "/target/"].iter().any(|part| path.contains(part))
    {
        return Vec::new();
    }
    let confidence = if ground == Ground::Foreign { Confidence::High } else { Confidence::Medium };
    let title = format!("{} changed the runner that runs this job", named(act.lineage, act.process.key));
    attack(act, &DETECTION, (Severity::Critical, confidence), title, path)
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn the_runner_its_actions_and_its_settings() {
        for path in [
            "/home/runner/actions-runner/bin/Runner.Worker.dll",
            "/home/runner/work/_actions/a/b/v1/dist/index.js",
            "/srv/x/_work/_actions/a/b/v1/post.js",
            "/etc/gitlab-runner/config.toml",
        ] {
            for (step, program) in
                [("npm ci\n", "/usr/bin/node node /usr/bin/npm ci"), ("make all\n", "/usr/bin/make make all")]
            {
                let trace = format!(
                    "1 > 2 launch {program}\n2 > 3 launch /usr/bin/python3.11 python3 x.py\n3 write {path}"
                );
                let wanted = format!("!runner-takeover attack critical {path}");
                assert!(findings(step, "", &trace).contains(&wanted), "{path}");
            }
        }
    }

    #[test]
    fn an_action_that_installs_its_own_packages_stays_quiet() {
        let lines = findings(
            "npm ci\n",
            "",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 create /home/runner/work/_actions/a/b/v1/node_modules/c/index.js
             2 > 3 launch /usr/bin/node node install.js
             3 create /home/runner/work/_actions/a/b/v1/node_modules/c/bin/x",
        );
        assert!(lines.iter().all(|line| !line.contains("runner-takeover")), "{lines:?}");
        expect("make\n", "1 > 2 launch /usr/bin/make make\n2 create /w/config.sh", &[]);
    }
}
