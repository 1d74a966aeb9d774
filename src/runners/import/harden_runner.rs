//! harden-runner: its endpoints are those of the whole job.

use super::{Draft, Source, UNKNOWN, is_valid, without_expressions};
use crate::intent::workflow::WorkflowStep;

pub(super) const SOURCE: Source = Source { action: "step-security/harden-runner", read };

fn read(draft: &mut Draft, job: &str, step: &WorkflowStep, origin: &str) {
    let input = |name: &str| step.with.get(name).map(String::as_str).unwrap_or_default();
    let block = draft.steps.entry(format!("{job}/*")).or_default();
    // It blocks where nothing is said.
    let mode = step.with.get("egress-policy").map_or("block", String::as_str);
    if mode != "audit" {
        block.remarks.push(format!("{origin} asks for `{mode}`; `mode: audit` reports only"));
    }
    if mode == "block" || !input("allowed-endpoints").trim().is_empty() {
        block.list("network", "allow");
    }
    let text = without_expressions(input("allowed-endpoints"));
    let words = text.lines().filter_map(|line| line.split('#').next()).flat_map(str::split_whitespace);
    for word in words.map(|word| word.trim_matches(',')).filter(|word| !word.is_empty()) {
        if word.contains(UNKNOWN) {
            draft.warnings.push(format!(
                "{origin}: an endpoint is known at run time alone (`${{{{ }}}}`) and left out: add its hosts yourself"
            ));
        } else if word.contains(':') && is_valid("network", "allow", word) {
            block.add("network", "allow", word, origin);
        } else {
            draft.warnings.push(format!("{origin}: `{word}` is no `host:port`, so it is left out"));
        }
    }
    let is_set = |name: &str| input(name) == "true";
    if is_set("disable-sudo") || is_set("disable-sudo-and-containers") {
        block.add("run", "deny", "sudo", origin);
    }
    if is_set("disable-sudo-and-containers") {
        for program in ["docker", "podman"] {
            block.add("run", "deny", program, origin);
        }
    }
    for name in ["policy", "use-policy-store"] {
        if !["", "false"].contains(&input(name)) {
            draft.warnings.push(format!(
                "{origin}: `{name}` names a list kept on a server, which can't be read from here"
            ));
        }
    }
}
