//! Something was done below a coding agent that none of its tool calls mentions.
//!
//! ## What it sees
//! The agent's record says which commands it ran. Each is tied to the process that carried it out, and
//! to all that this process started, detached or not. A credential that was read, a destination, or a
//! write outside the work's own places is compared with the text of that one call.
//!
//! ## Why it matters
//! `make build` in a tool call says nothing about a recipe that reads `~/.aws/credentials` and sends it
//! away. Whoever reads the agent's conversation sees the first alone.
//!
//! ## What to do
//! Read what the named call started: the chain of processes leads to it. What took a credential and
//! talked to somebody is a theft until proved otherwise.
//!
//! ## Known limits
//! docs/agents.md lists whose records are read. A single destination or read without the other half is a
//! note. What the policy allows for the step counts as explained. What the agent's own process does,
//! without a child, is compared with its step alone.

use super::{Detection, nothing};
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("agent-undeclared"),
    severity: Severity::Low,
    confidence: Confidence::High,
    techniques: &[Technique("T1059"), Technique("T1041")],
    references: &[],
    frameworks: &["CICD-SEC-4", "ASI01", "ASI02"],
    remedy: "Read what this tool call started; revoke a credential that was read below it.",
    source: include_str!("agent_undeclared.rs"),
    check: nothing,
};

#[cfg(test)]
mod tests {
    use crate::trace::{expect, report};

    const AGENT: &str = "2 agent claude-code
         1 > 2 launch /n/@anthropic-ai/claude-code/bin/claude claude -p x
         2 call c1 make build
         2 > 3 launch /usr/bin/bash bash -c source s && eval 'make_build' </dev/null && pwd -P >| /tmp/x
         3 > 4 launch /usr/bin/make make build
         4 > 5 launch /usr/bin/dash sh gen.sh
         5 > 6 launch /usr/bin/curl curl x";

    #[test]
    fn a_recipe_that_steals_is_told_with_its_call() {
        let trace = format!("{AGENT}\n5 read ~/.aws/credentials\n6 connect 203.0.113.7:443");
        let report = report("claude -p x\n", "", &trace);
        let finding = report.findings.iter().find(|finding| finding.rule.0 == "agent-undeclared").unwrap();
        assert!(finding.fails);
        assert_eq!(finding.tool_call.as_deref(), Some("c1"));
        assert_eq!(
            finding.title,
            "Claude Code ran `make build` (call c1); below it, dash read ~/.aws/credentials and curl connected to \
             203.0.113.7:443, which no tool call mentions"
        );
        assert!(report.findings.iter().all(|finding| finding.tool_call.as_deref() == Some("c1")));
    }

    #[test]
    fn a_lone_destination_is_a_note_and_honest_work_is_nothing() {
        expect(
            "claude -p x\n",
            &format!("{AGENT}\n6 connect 203.0.113.7:443"),
            &["agent-undeclared divergence low 203.0.113.7:443"],
        );
        expect("claude -p x\n", &format!("{AGENT}\n5 create ~/work/out\n6 connect 127.0.0.1:80"), &[]);
        let fetch = "2 agent claude-code
             1 > 2 launch /n/@anthropic-ai/claude-code/bin/claude claude -p x
             2 call c1 curl https://api.example/v1
             answer api.example 203.0.113.7
             2 > 3 launch /usr/bin/bash bash -c source s && eval 'curl_https://api.example/v1' </dev/null && pwd -P >| /tmp/x
             3 > 4 launch /usr/bin/curl curl https://api.example/v1
             4 connect 203.0.113.7:443";
        expect("claude -p x\n", fetch, &[]);
    }

    #[test]
    fn detached_work_stays_with_the_call_that_started_it() {
        let trace = "2 agent claude-code
             1 > 2 launch /n/@anthropic-ai/claude-code/bin/claude claude -p x
             2 call c1 setsid sh tools/watch.sh
             2 > 3 launch /usr/bin/bash bash -c source s && eval 'setsid_sh_tools/watch.sh' </dev/null && pwd -P >| /tmp/x
             3 > 4 launch /usr/bin/setsid setsid sh tools/watch.sh
             4 launch /usr/bin/dash sh tools/watch.sh
             3 exit
             2 call c2 ls src
             2 > 5 launch /usr/bin/bash bash -c source s && eval 'ls_src' </dev/null && pwd -P >| /tmp/x
             4 > 6 launch /usr/bin/curl curl x
             6 read ~/.aws/credentials
             6 connect 203.0.113.7:443";
        let report = report("claude -p x\n", "", trace);
        let calls: Vec<_> =
            report.findings.iter().filter_map(|finding| finding.tool_call.as_deref()).collect();
        assert!(!calls.is_empty() && calls.iter().all(|call| *call == "c1"), "{:#?}", report.findings);
    }
}
