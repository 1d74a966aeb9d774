//! A coding agent's own record is missing, was cut or changed, or does not hold a command that ran.
//!
//! ## What it sees
//! The recorder follows the agent's record while it grows. A file that shrinks, is replaced, or differs
//! in what was already read; a program below the agent that writes to it; a shell command of the agent
//! that no line of the record asks for.
//!
//! ## Why it matters
//! The record belongs to the same user as everything that the agent runs, so each of these programs
//! can rewrite it. What it says is then not believed.
//!
//! ## What to do
//! Look at what ran while the record was cut: the recording of this run has it.
//!
//! ## Known limits
//! docs/agents.md lists whose records are read. An agent that is told to keep no record has lost none: that is a line among what could not be
//! seen. The agent's own program may cut or remove its record; that is such a line too, and told if a tool call asked for it by name.
//! What an agent exports (OpenTelemetry) or prints is no record: it may be lost on its way, so a command that it leaves out is not told. A
//! hand on the file that its output goes to is told only where the agent itself runs that program.
//! A polled sensor sees no hands, so what it notices of a record is a note.

use super::{Detection, nothing};
use crate::finding::{Confidence, RuleId, Severity, Technique};

pub const DETECTION: Detection = Detection {
    id: RuleId("agent-record-lost"),
    severity: Severity::High,
    confidence: Confidence::Medium,
    techniques: &[Technique("T1070.004")],
    references: &[],
    frameworks: &["CICD-SEC-10", "ASI10"],
    remedy: "Do not rely on the agent's record; look at what this recording shows instead.",
    source: include_str!("agent_record_lost.rs"),
    check: nothing,
};

#[cfg(test)]
mod tests {
    use crate::trace::{expect, findings};

    const AGENT: &str = "2 agent claude-code
         1 > 2 launch /n/@anthropic-ai/claude-code/bin/claude claude -p x
         2 > 7 launch /usr/bin/git git status";

    #[test]
    fn a_command_that_no_call_asks_for_is_told_and_housekeeping_is_not() {
        expect("claude -p x\n", AGENT, &[]);
        let trace = format!(
            "{AGENT}\n2 > 3 launch /usr/bin/bash bash -c source s && eval 'make_x' </dev/null && pwd -P >| /tmp/x"
        );
        // Who keeps no record has lost none.
        expect("claude -p x\n", &trace, &[]);
        let trace = format!(
            "{trace}\n2 call c0 ls\n2 > 5 launch /usr/bin/bash bash -c source s && eval 'ls' </dev/null && pwd -P >| /tmp/x"
        );
        expect("claude -p x\n", &trace, &["!agent-record-lost divergence high make x"]);
    }

    #[test]
    fn a_command_that_is_exported_and_stands_in_no_record_is_told_where_there_is_one() {
        let trace = format!(
            "{AGENT}\n2 export c1 make x
             2 > 3 launch /usr/bin/bash bash -c source s && eval 'make_x' </dev/null && pwd -P >| /tmp/x
             2 > 5 launch /usr/bin/bash bash -c source s && eval 'ls' </dev/null && pwd -P >| /tmp/x"
        );
        // An export alone may have lost one.
        expect("claude -p x\n", &trace, &[]);
        expect("claude -p x\n", &format!("{trace}\n2 call c1 make x\n2 export c2 ls\n2 call c2 ls"), &[]);
        let cut = format!("{trace}\n2 call c2 ls");
        expect("claude -p x\n", &cut, &["!agent-record-lost divergence high make x"]);
        let report = crate::trace::report("claude -p x\n", "", &cut);
        assert_eq!(
            report.findings[0].title,
            "Claude Code ran `make x`, which its own record does not hold, though the agent exported it as call c1"
        );
    }

    #[test]
    fn what_an_agent_prints_is_written_by_whoever_takes_it_in_and_by_nothing_that_it_runs() {
        let trace = format!(
            "output claude-code /w/out.jsonl\n{AGENT}\n2 call c1 make x
             2 > 3 launch /usr/bin/bash bash -c source s && eval 'make_x' </dev/null && pwd -P >| /tmp/x
             1 > 8 launch /usr/bin/tee tee out.jsonl\n8 write /w/out.jsonl\n1 delete /w/out.jsonl"
        );
        expect("claude -p x | tee out.jsonl\n", &trace, &[]);
        let hand = format!("{trace}\n3 > 4 launch /usr/bin/sed sed x\n4 write /w/out.jsonl");
        let told = findings("claude -p x | tee out.jsonl\n", "", &hand);
        assert!(told.iter().any(|it| it == "!agent-record-lost divergence high /w/out.jsonl"), "{told:?}");
    }

    #[test]
    fn a_hand_on_the_record_is_told() {
        let trace = format!(
            "{AGENT}\n2 call c1 make x
             2 > 3 launch /usr/bin/bash bash -c source s && eval 'make_x' </dev/null && pwd -P >| /tmp/x
             2 write ~/.claude/projects/w/s.jsonl"
        );
        expect("claude -p x\n", &trace, &[]);
        let findings = findings(
            "claude -p x\n",
            "",
            &format!("{trace}\n3 > 4 launch /usr/bin/sed sed x\n4 write ~/.claude/projects/w/s.jsonl"),
        );
        assert!(
            findings
                .iter()
                .any(|finding| finding
                    == "!agent-record-lost divergence high /home/u/.claude/projects/w/s.jsonl"),
            "{findings:?}"
        );
    }
}
