//! A coding agent is started by something that should not start one, or with its questions switched off.
//!
//! ## What it sees
//! An agent, known by its signature, below an install or build script; an agent that another agent starts with the option that lets it act
//! without asking, or that a program of the project starts so in the midst of a build, a test or an installation. Several agents started
//! so by one command. An agent that other people's code installs for the whole machine, or that the project's own code installs and
//! starts. Below an agent that nobody named: a look through the folders of several kinds of credentials.
//!
//! ## Why it matters
//! Installed agents are driven as tools of reconnaissance: they have a login, a network and permission to read.
//!
//! ## What to do
//! Revoke the agent's login, read what it was asked in the recording, and remove the package that started it.
//!
//! ## Known limits
//! An agent that the step's own text starts, with whatever options, is the author's choice, and so is one in a script that the text names.
//! One that a line of a recipe starts is a note: whoever reviews the recipe sees it. A copy of an agent under another name and with
//! another content is not known as one.

use super::{Act, Detection, Ground, Hit, attack, ground, named};
use crate::agents;
use crate::divergence::Effect;
use crate::event::Activity;
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};
use crate::intent::is_shell;
use crate::lineage::Process;

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

/// Kinds of credentials whose folders are looked through before that is the finding.
const LISTED: usize = 3;

/// What a strand remembers: agents that were started in it, or put in place.
pub(super) fn kept(act: &Act<'_>) -> Option<(&'static str, String)> {
    match (act.effect, act.activity) {
        (Effect::Launch { .. }, _) => {
            let agent = act.process.agent.as_deref().filter(|_| act.process.is_agent)?;
            Some(("agent-started", agent.to_owned()))
        }
        (Effect::Write { .. }, _) => Some(("agent-placed", placed(act)?.to_owned())),
        _ => None,
    }
}

/// The agent whose program this act puts in place for more than the workspace.
fn placed(act: &Act<'_>) -> Option<&'static str> {
    let Effect::Write { path, .. } = act.effect else { return None };
    let is_made =
        matches!(act.activity, Activity::Open { .. } | Activity::Rename { .. } | Activity::Link { .. });
    let is_passing = path.starts_with(&format!("{}/", act.context.job.workspace))
        || ["/_npx/", "/.cache/", "/_cacache/", "/tmp/"].iter().any(|part| path.contains(part));
    if !is_made || is_passing {
        return None;
    }
    agents::program_at(path).map(|agent| agent.id)
}

fn check(act: &Act<'_>) -> Vec<Hit> {
    match (act.effect, act.activity) {
        (Effect::Launch { program }, Activity::Launch(launch)) => started(act, program, &launch.arguments),
        (Effect::Write { path, .. }, _) if ground(act) == Ground::Foreign => {
            let Some(agent) = placed(act) else { return Vec::new() };
            let title = format!(
                "{} installed the coding agent {agent} for the whole machine",
                named(act.lineage, act.process.key)
            );
            attack(act, &DETECTION, (Severity::High, Confidence::High), title, path)
        }
        (Effect::Other, Activity::Open { access, .. }) if access.directory => looked_through(act),
        _ => Vec::new(),
    }
}

/// Whether the step's text names what this agent was started as.
fn is_named(process: &Process) -> bool {
    // What an agent starts is a strand of its own, and not what the step's text names.
    process.command.is_some() && process.strand == process.key && process.errand != Some(process.key)
}

/// Whether a program stands between the command of the step and this process, not only lines of a recipe.
fn is_hidden(act: &Act<'_>) -> bool {
    let strand = act.process.strand;
    act.lineage.ancestors(act.process.key).take_while(|above| above.key != strand).any(|above| {
        above.launch.as_deref().is_some_and(|launch| {
            let is_text = is_shell(crate::intent::basename(&launch.executable.path))
                && launch.script.is_none()
                && launch.arguments.get(1).is_some_and(|word| word.starts_with('-') && word.ends_with('c'));
            above.launched && !is_text && !matches!(above.tool, Some("make" | "npm"))
        })
    })
}

fn started(act: &Act<'_>, program: &str, arguments: &[String]) -> Vec<Hit> {
    let Some(agent) = act.process.agent.as_deref() else { return Vec::new() };
    let above = act.process.parent.and_then(|parent| act.lineage.get(parent));
    let agent_above = above.and_then(|above| above.agent.as_deref());
    let ground = ground(act);
    if agent_above == Some(agent) || !act.process.is_agent {
        return Vec::new();
    }
    if ground == Ground::Foreign && agent_above.is_none() {
        let title = format!("Other people's code started the coding agent {agent}");
        return attack(act, &DETECTION, (Severity::Critical, Confidence::High), title, program);
    }
    if is_named(act.process) {
        return Vec::new();
    }
    let is_unasked = agents::unasked(arguments).is_some();
    if let Some(by) = agent_above {
        if !is_unasked {
            return Vec::new();
        }
        let title = format!("{by} started the coding agent {agent} with its questions switched off");
        return attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, program);
    }
    let strand = act.lineage.strand(act.process.key);
    let is_inside = program.starts_with(&format!("{}/", act.context.job.workspace));
    let is_placed = !is_inside
        && (act.lineage.has_written(program)
            || strand.noted("agent-placed").any(|note| note.object == agent));
    if is_placed {
        let title = format!("the project's own code installed the coding agent {agent} and started it");
        let mut hits = attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, program);
        for hit in &mut hits {
            hit.kind = Kind::Divergence;
        }
        return hits;
    }
    // Many projects keep how they start their agent in a script that the step names: the author's choice as well.
    let root = act.lineage.get(act.process.strand);
    let tool = root.and_then(|root| root.tool);
    if !is_unasked || act.process.command.is_none() || matches!(tool, None | Some("interpreters" | "shells"))
    {
        return Vec::new();
    }
    let others = strand.noted("agent-started").filter(|note| note.object != agent).count();
    if others > 0 {
        let title = format!(
            "the project's own code started {} coding agents, the last one {agent}, with their questions switched off",
            others + 1
        );
        return attack(act, &DETECTION, (Severity::Critical, Confidence::Medium), title, program);
    }
    let title =
        format!("the project's own code started the coding agent {agent} with its questions switched off");
    if is_hidden(act) {
        return attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, program);
    }
    let mut hits = attack(act, &DETECTION, (Severity::Low, Confidence::Medium), title, program);
    for hit in &mut hits {
        hit.kind = Kind::Divergence;
    }
    hits
}

/// An agent that nobody named, and what it starts, looks for where credentials are.
fn looked_through(act: &Act<'_>) -> Vec<Hit> {
    let mut above = act.lineage.ancestors(act.process.key);
    let agent = if act.process.is_agent { Some(act.process) } else { above.find(|above| above.is_agent) };
    let Some(agent) = agent.filter(|agent| !is_named(agent)) else { return Vec::new() };
    let Some((_, folder)) = super::kept(act) else { return Vec::new() };
    let strand = act.lineage.strand(act.process.key);
    let others = strand.noted("listed").filter(|note| note.object != folder).count();
    if others + 1 < LISTED {
        return Vec::new();
    }
    let title = format!(
        "{} below {} looked through the folders of {} kinds of credentials",
        named(act.lineage, act.process.key),
        named(act.lineage, agent.key),
        others + 1
    );
    attack(act, &DETECTION, (Severity::Critical, Confidence::High), title, "~/**")
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

    #[test]
    fn a_program_in_the_midst_of_a_build_starts_one_or_several() {
        let build = "1 > 2 launch /usr/bin/make make build
             2 > 3 launch /usr/bin/dash sh -c x
             3 > 4 launch /usr/bin/python3.11 python3 gen.py
             4 > 5 agent codex
             5 launch /usr/local/bin/codex codex exec --ask-for-approval never x";
        expect("make build\n", build, &["!agent-escalation attack high /usr/local/bin/codex"]);
        expect(
            "make build\n",
            &format!("{build}\n4 > 6 agent gemini\n6 launch /usr/local/bin/gemini gemini --yolo -p x"),
            &[
                "!agent-escalation attack critical /usr/local/bin/gemini",
                "!agent-escalation attack high /usr/local/bin/codex",
            ],
        );
        // A line of the recipe itself, and a script that the step names.
        expect(
            "make review\nbash review.sh\n",
            "1 > 2 launch /usr/bin/make make review
             2 > 3 launch /usr/bin/dash sh -c x
             3 > 4 agent codex
             4 launch /usr/local/bin/codex codex exec --yolo x
             1 > 5 launch /usr/bin/bash bash review.sh
             5 > 6 agent codex
             6 launch /usr/local/bin/codex codex exec --yolo x",
            &["agent-escalation divergence low /usr/local/bin/codex"],
        );
    }

    #[test]
    fn an_agent_is_installed_for_the_whole_machine() {
        let program = "/usr/local/lib/node_modules/openclaw/openclaw.mjs";
        let lines = crate::trace::findings(
            "npm ci\n",
            "",
            &format!(
                "1 > 2 launch /usr/bin/node node /usr/bin/npm ci
                 2 > 3 launch /usr/bin/dash sh -c x
                 3 > 4 launch /usr/bin/node node /usr/bin/npm install -g openclaw
                 4 create {program}"
            ),
        );
        assert!(lines.contains(&format!("!agent-escalation attack high {program}")), "{lines:?}");
        let lines = crate::trace::findings(
            "make build\n",
            "",
            &format!(
                "1 > 2 launch /usr/bin/make make build
                 2 > 3 launch /usr/bin/dash sh generate.sh
                 3 > 4 launch /usr/bin/node node /usr/bin/npm install -g openclaw
                 4 create {program}
                 3 > 5 agent openclaw
                 5 launch {program} openclaw gateway"
            ),
        );
        assert!(lines.contains(&format!("!agent-escalation divergence high {program}")), "{lines:?}");
        // The step installs it and starts it; a project has one among its packages.
        expect(
            "npm install -g openclaw\nopenclaw gateway\nnpm ci\nnpm run review\n",
            &format!(
                "1 > 2 launch /usr/bin/node node /usr/bin/npm install -g openclaw
                 2 create {program}
                 2 create /usr/local/bin/openclaw
                 1 > 3 agent openclaw
                 3 launch /usr/local/bin/openclaw openclaw gateway
                 1 > 4 launch /usr/bin/node node /usr/bin/npm ci
                 4 create /w/node_modules/openclaw/openclaw.mjs
                 1 > 5 launch /usr/bin/node node /usr/bin/npm run review
                 5 > 6 launch /usr/bin/dash sh -c openclaw
                 6 > 7 agent openclaw
                 7 launch /w/node_modules/openclaw/openclaw.mjs openclaw agent"
            ),
            &[],
        );
    }

    #[test]
    fn an_agent_that_nobody_named_looks_for_credentials() {
        let trace = |start: &str| {
            format!(
                "{start}
                 4 > 5 launch /usr/bin/bash bash -c x
                 5 > 6 launch /usr/bin/find find /home/u
                 6 list ~/.config
                 6 list ~/.aws
                 6 list ~/.ssh
                 6 list ~/.kube"
            )
        };
        let hidden = "1 > 2 launch /usr/bin/make make build
             2 > 3 launch /usr/bin/python3.11 python3 gen.py
             3 > 4 agent codex
             4 launch /usr/local/bin/codex codex exec x";
        expect("make build\n", &trace(hidden), &["!agent-escalation attack critical ~/**"]);
        let named = "1 > 4 agent codex\n4 launch /usr/local/bin/codex codex exec x";
        expect("codex exec x\n", &trace(named), &[]);
    }
}
