//! Codex's action: its sandbox says what may be written, its safety strategy whether sudo is left.

use super::{Draft, Source, UNKNOWN, without_expressions};
use crate::intent::workflow::WorkflowStep;

pub(super) const SOURCE: Source = Source { action: "openai/codex-action", read };

fn read(draft: &mut Draft, _: &str, step: &WorkflowStep, origin: &str) {
    let input = |name: &str| step.with.get(name).map(|text| without_expressions(text)).unwrap_or_default();
    let (sandbox, strategy) = (input("sandbox"), input("safety-strategy"));
    let block = draft.agents.entry("codex").or_default();
    for (name, value) in [("sandbox", &sandbox), ("safety-strategy", &strategy)] {
        if value.contains(UNKNOWN) {
            draft
                .warnings
                .push(format!("{origin}: `{name}` is known at run time alone (`${{{{ }}}}`) and left out"));
        }
    }
    if sandbox == "read-only" || strategy == "read-only" {
        block.add("files", "deny", "write ./**", origin);
    } else if sandbox == "workspace-write" {
        for item in ["write ./**", "write /tmp/**", "write ~/.codex/**"] {
            block.add("files", "allow", item, origin);
        }
    } else if sandbox == "danger-full-access" {
        block.remarks.push(format!("{origin} takes the sandbox away, so nothing is declared"));
    }
    if ["drop-sudo", "unprivileged-user", "read-only"].contains(&strategy.as_str()) {
        block.add("run", "deny", "sudo", origin);
    }
}
