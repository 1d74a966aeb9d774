//! Codex's action: its sandbox says what may be written, its safety strategy whether sudo is left.

use super::{Asked, Scope, Source, UNKNOWN, input};
use crate::intent::workflow::WorkflowStep;
use crate::job::Location;

pub(super) const SOURCE: Source = Source { action: Some("openai/codex-action"), read };

fn read(asked: &mut Asked, _: &str, step: &WorkflowStep, origin: &Location) {
    let values = ["sandbox", "permission-profile", "safety-strategy"].map(|name| (name, input(step, name)));
    for (name, value) in &values {
        if value.contains(UNKNOWN) {
            asked.warn(origin, &format!("`{name}` is known at run time alone (`${{{{ }}}}`) and left out"));
        }
    }
    let [(_, sandbox), (_, profile), (_, strategy)] = values;
    let block = asked.block("codex", Scope::Agent("codex"), origin);
    if [&*sandbox, &strategy].contains(&"read-only") || profile == ":read-only" {
        block.add("files", "deny", "write ./**");
    } else if sandbox == "workspace-write" || profile == ":workspace" {
        for item in ["write ./**", "write /tmp/**", "write ~/.codex/**"] {
            block.add("files", "allow", item);
        }
    } else if sandbox == "danger-full-access" {
        block.remarks.push("takes the sandbox away, so nothing is declared".to_owned());
    }
    // The action's default drops sudo.
    if ["", "drop-sudo", "unprivileged-user", "read-only"].contains(&strategy.as_str()) {
        block.add("run", "deny", "sudo");
    }
}
