//! harden-runner: its endpoints are those of the whole job.

use super::{Asked, Scope, Source, UNKNOWN, input};
use crate::intent::workflow::WorkflowStep;
use crate::job::Location;

pub(super) const SOURCE: Source = Source { action: Some("step-security/harden-runner"), read };

fn read(asked: &mut Asked, job: &str, step: &WorkflowStep, origin: &Location) {
    let raw = |name: &str| step.with.get(name).map(String::as_str).unwrap_or_default();
    let endpoints = input(step, "allowed-endpoints");
    let words: Vec<&str> = endpoints
        .lines()
        .filter_map(|line| line.split('#').next())
        .flat_map(str::split_whitespace)
        .map(|word| word.trim_matches(','))
        .filter(|word| !word.is_empty())
        .collect();
    for word in &words {
        if word.contains(UNKNOWN) {
            asked.warn(
                origin,
                "an endpoint is known at run time alone (`${{ }}`) and left out: add its hosts yourself",
            );
        } else if !word.contains(':') {
            asked.warn(origin, &format!("`{word}` is no `host:port`, so it is left out"));
        }
    }
    for name in ["policy", "use-policy-store"] {
        if !["", "false"].contains(&raw(name)) {
            asked.warn(
                origin,
                &format!("`{name}` names a list kept on a server, which can't be read from here"),
            );
        }
    }
    let block = asked.block("harden-runner", Scope::Job(job.to_owned()), origin);
    // It blocks where nothing is said.
    let mode = step.with.get("egress-policy").map_or("block", String::as_str);
    if mode != "audit" {
        block.remarks.push(format!("asks for `{mode}`; `mode: audit` reports only"));
    }
    if mode == "block" || !endpoints.trim().is_empty() {
        block.list("network", "allow");
    }
    for word in words.into_iter().filter(|word| word.contains(':') && !word.contains(UNKNOWN)) {
        block.add("network", "allow", word);
    }
    let is_set = |name: &str| raw(name) == "true";
    if is_set("disable-sudo") || is_set("disable-sudo-and-containers") {
        block.add("run", "deny", "sudo");
    }
    if is_set("disable-sudo-and-containers") {
        for program in ["docker", "podman"] {
            block.add("run", "deny", program);
        }
    }
}
