//! The settings or instructions of a coding agent, or the job's own definition, are changed by something that should not.
//!
//! ## What it sees
//! Agents' settings (hooks, tool servers, permissions), their instruction and memory files, editor tasks, workflow files and the guard's
//! own policy, written by other people's code, or by an agent and what it starts. The first creation counts. git's own checkouts and
//! what package clients unpack do not.
//!
//! ## Why it matters
//! What is written there runs the next time an agent, an editor or the job starts, with the rights of whoever starts it.
//!
//! ## What to do
//! Look at the change before anything starts again. Keep these files read-only for agents, or allow the path for the step.
//!
//! ## Known limits
//! The agent program itself may write its settings in its home; that is a note of low severity, and what it is known to keep there is nothing. What the new text says is not judged.

use super::{Act, Detection, Ground, Hit, attack, ground, named};
use crate::agents;
use crate::catalogue;
use crate::divergence::{Effect, Explanation};
use crate::event::Activity;
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("agent-config-tamper"),
    severity: Severity::Critical,
    confidence: Confidence::High,
    techniques: &[Technique("AML.T0081"), Technique("AML.T0080"), Technique("T1546")],
    references: &[
        "CVE-2025-54135",
        "CVE-2025-59536",
        "CVE-2025-53773",
        "CVE-2025-61260",
        "CVE-2026-25725",
        "GHSA-ff64-7w26-62rf",
    ],
    frameworks: &["CICD-SEC-4", "ASI03", "ASI06"],
    remedy: "Read the changed file before anything starts again, put it back, and remove what wrote it.",
    source: include_str!("agent_config_tamper.rs"),
    check,
};

/// Where packages and tools keep copies that no agent reads.
const COPIES: &[&str] = &[
    "/node_modules/",
    "/site-packages/",
    "/dist-packages/",
    "/.cargo/registry/",
    "/go/pkg/",
    "/_cacache/",
    "/.git/",
];

fn check(act: &Act<'_>) -> Vec<Hit> {
    let Effect::Write { path, .. } = act.effect else { return Vec::new() };
    if matches!(act.activity, Activity::Delete { .. } | Activity::Mkdir { .. } | Activity::Chmod { .. }) {
        return Vec::new();
    }
    let ground = ground(act);
    let is_agents = act.process.agent.is_some();
    if (ground != Ground::Foreign && !is_agents) || matches!(act.explanation, Explanation::Declared(_)) {
        return Vec::new();
    }
    let (what, severity) = if catalogue::is_object("agent-settings", path) {
        ("what a coding agent or an editor runs", Severity::Critical)
    } else if catalogue::is_object("job-definitions", path) {
        ("what the next job does", Severity::Critical)
    } else if catalogue::is_object("agent-instructions", path) {
        ("what a coding agent is told", Severity::High)
    } else {
        return Vec::new();
    };
    let is_copy = COPIES.iter().any(|part| path.contains(part));
    if is_copy || (ground != Ground::Foreign && act.process.tool == Some("git")) {
        return Vec::new();
    }
    let above = act.process.parent.and_then(|parent| act.lineage.get(parent));
    // The agent itself, not what it started.
    let is_itself = is_agents && above.is_none_or(|above| above.agent.is_none());
    let is_own_home = act.context.all_homes.iter().any(|home| path.starts_with(&format!("{home}/.")))
        && !path.starts_with(&format!("{}/", act.context.job.workspace));
    let agent = act.process.agent.as_deref().and_then(agents::by_id);
    if act.process.is_agent && agent.is_some_and(|agent| agent.is_kept(path)) {
        return Vec::new();
    }
    let weight = match ground {
        Ground::Foreign => (severity, Confidence::High),
        _ if is_itself && is_own_home => (Severity::Low, Confidence::Low),
        _ => (severity, Confidence::Medium),
    };
    attack(act, &DETECTION, weight, format!("{} changed {what}", named(act.lineage, act.process.key)), path)
}

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    #[test]
    fn an_install_script_or_an_agent_changes_what_runs_next() {
        for (path, severity) in [
            ("/w/.claude/settings.json", "critical"),
            ("/w/.mcp.json", "critical"),
            ("/home/u/.cursor/mcp.json", "critical"),
            ("/w/.vscode/tasks.json", "critical"),
            ("/w/.github/workflows/x.yml", "critical"),
            ("/w/.github/guard.yml", "critical"),
            ("/w/sub/AGENTS.md", "high"),
        ] {
            for trace in [
                format!(
                    "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/node node x.js\n3 create {path}"
                ),
                format!(
                    "1 > 2 agent codex\n2 launch /usr/bin/make make all\n2 > 3 launch /usr/bin/dash sh -c x\n3 write {path}"
                ),
                format!(
                    "1 > 2 launch /usr/bin/node node /usr/bin/npm ci\n2 > 3 launch /usr/bin/node node x.js\n3 rename /tmp/x {path}"
                ),
            ] {
                let wanted = format!("!agent-config-tamper attack {severity} {path}");
                assert!(findings("npm ci\nmake all\n", "", &trace).contains(&wanted), "{path}: {trace}");
            }
        }
    }

    #[test]
    fn checkouts_packages_set_up_steps_and_the_projects_own_code_stay_quiet() {
        expect(
            "git checkout main\nnpm ci\nmake setup\n",
            "1 > 2 launch /usr/bin/git git checkout main
             2 create /w/.mcp.json
             2 create /w/.claude/settings.json
             1 > 3 launch /usr/bin/node node /usr/bin/npm ci
             3 create /w/node_modules/a/CLAUDE.md
             3 > 4 launch /usr/bin/node node x.js
             4 create /w/node_modules/a/AGENTS.md
             4 create /w/node_modules/a/.vscode/settings.json
             1 > 5 launch /usr/bin/make make setup
             5 > 6 launch /usr/bin/node node run.js
             6 create ~/.claude/settings.json
             6 write /w/AGENTS.md",
            &[],
        );
    }
}
