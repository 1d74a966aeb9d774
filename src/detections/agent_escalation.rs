//! A coding agent is started by something that should not start one, or with its questions switched off.
//!
//! ## What it sees
//! An agent, known by its signature, below an install or build script; an agent that another agent or the project's own code starts with the
//! option that lets it act without asking.
//!
//! ## Why it matters
//! Installed agents are driven as tools of reconnaissance: they have a login, a network and permission to read.
//!
//! ## What to do
//! Revoke the agent's login, read what it was asked in the recording, and remove the package that started it.
//!
//! ## Known limits
//! An agent that the step's own text starts, with whatever options, is the author's choice. One that a build, a test or a package of the project starts so is a note. A copy of an agent under another name and with
//! another content is not known as one.

use super::{Act, Detection, Ground, Hit, attack, ground};
use crate::agents;
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("agent-escalation"),
    severity: Severity::Critical,
    confidence: Confidence::High,
    techniques: &[Technique("AML.T0053"), Technique("AML.T0103"), Technique("T1059")],
    references: &["CVE-2025-8217", "GHSA-cxm3-wv7p-598c"],
    frameworks: &["CICD-SEC-3", "ASI03", "ASI10"],
    remedy: "Revoke the agent's login, read what it was asked, and remove what started it.",
    source: include_str!("agent_escalation.rs"),
    check,
};

fn check(act: &Act<'_>) -> Vec<Hit> {
    let (Effect::Launch { program }, Activity::Launch(launch)) = (act.effect, act.activity) else {
        return Vec::new();
    };
    let Some(agent) = act.process.agent.as_deref() else { return Vec::new() };
    let above = act.process.parent.and_then(|parent| act.lineage.get(parent));
    let agent_above = above.and_then(|above| above.agent.as_deref());
    let ground = ground(act);
    let is_unasked = agents::unasked(&launch.arguments).is_some();
    if agent_above == Some(agent) {
        return Vec::new();
    }
    if ground == Ground::Foreign && agent_above.is_none() {
        let title = format!("Other people's code started the coding agent {agent}");
        return attack(act, &DETECTION, (Severity::Critical, Confidence::High), title, program);
    }
    // What an agent starts is a strand of its own, and not what the step's text names.
    let is_named = act.process.command.is_some()
        && act.process.strand == act.process.key
        && act.process.errand != Some(act.process.key);
    if !is_unasked || is_named {
        return Vec::new();
    }
    let Some(by) = agent_above else {
        // Many projects keep how they start their agent in a script that the step names: the author's choice as well.
        // That a build, a test or a package does it is a note.
        let strand = act.lineage.get(act.process.strand);
        let tool = strand.and_then(|root| root.tool);
        if act.process.command.is_none() || matches!(tool, None | Some("interpreters" | "shells")) {
            return Vec::new();
        }
        let title = format!(
            "the project's own code started the coding agent {agent} with its questions switched off"
        );
        let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::Low), title, program);
        for hit in &mut hits {
            hit.kind = Kind::Divergence;
        }
        return hits;
    };
    let title = format!("{by} started the coding agent {agent} with its questions switched off");
    attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, program)
}

#[cfg(test)]
mod tests {
    use crate::trace::expect;

    #[test]
    fn an_install_script_or_another_agent_starts_one() {
        expect(
            "npm ci\n",
            "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
             2 > 3 launch /usr/bin/node node telemetry.js
             3 > 4 agent claude-code
             4 launch /usr/local/bin/claude claude -p x",
            &["!agent-escalation attack critical /usr/local/bin/claude"],
        );
        expect(
            "make fix\n",
            "1 > 2 launch /usr/bin/make make fix
             2 > 3 agent codex
             3 launch /usr/local/bin/codex codex exec x
             3 > 4 agent gemini
             4 launch /usr/local/bin/gemini gemini --yolo -p x",
            &["!agent-escalation attack high /usr/local/bin/gemini"],
        );
    }

    #[test]
    fn declared_agents_and_their_own_helpers_stay_quiet() {
        expect(
            "claude --dangerously-skip-permissions -p fix\nmake fix\n",
            "1 > 2 agent claude-code
             2 launch /usr/local/bin/claude claude --dangerously-skip-permissions -p fix
             2 > 3 agent claude-code
             3 launch /usr/local/bin/claude claude --dangerously-skip-permissions -p sub
             1 > 4 launch /usr/bin/make make fix
             4 > 5 agent codex
             5 launch /usr/local/bin/codex codex exec x",
            &[],
        );
    }
}
