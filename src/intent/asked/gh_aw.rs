//! GitHub's agentic workflows: the front matter that people write, and the hosts that the compiled file carries.

use serde::Deserialize;
use serde_saphyr::Spanned;

use super::{Asked, Scope, Source, Tools, UNKNOWN, claude_code, without_expressions, words};
use crate::intent::workflow::WorkflowStep;
use crate::job::Location;

/// Compiled steps have no `uses:` of their own, so every step is looked at.
pub(super) const SOURCE: Source = Source { action: None, read };

const DOMAINS: &str = "GH_AW_ALLOWED_DOMAINS";

fn read(asked: &mut Asked, job: &str, step: &WorkflowStep, origin: &Location) {
    let by_variable = step.env.get(DOMAINS).map(|text| without_expressions(text));
    let by_firewall = step.run.as_deref().filter(|run| run.contains("--allow-domains")).map(|run| {
        let words = words(&without_expressions(run));
        let values = words.windows(2).filter(|pair| pair[0] == "--allow-domains").map(|pair| pair[1].clone());
        values.collect::<Vec<_>>().join(",")
    });
    let texts: Vec<String> = by_variable.into_iter().chain(by_firewall).collect();
    if texts.is_empty() {
        return;
    }
    let domains: Vec<&str> = texts.iter().flat_map(|text| text.split(',')).map(str::trim).collect();
    if domains.iter().any(|domain| domain.contains([UNKNOWN, '$'])) {
        asked.warn(origin, "some hosts are known at run time alone, and left out");
    }
    let block = asked.block("gh-aw", Scope::Job(job.to_owned()), origin);
    for domain in domains.into_iter().filter(|domain| !domain.contains([UNKNOWN, '$'])) {
        for host in hosts(domain) {
            block.add("network", "allow", &host);
        }
    }
}

/// A domain as a policy writes it: there it includes what is below it.
fn hosts(domain: &str) -> Vec<String> {
    let domain = domain.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let is_host = domain.contains('.')
        && domain.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.*".contains(&byte));
    match domain {
        _ if !is_host => Vec::new(),
        _ if domain.starts_with("*.") => vec![domain.to_owned()],
        _ => vec![domain.to_owned(), format!("*.{domain}")],
    }
}

#[derive(Deserialize)]
struct Front {
    #[serde(default)]
    engine: serde_json::Value,
    #[serde(default)]
    network: Option<Spanned<serde_json::Value>>,
    #[serde(default)]
    tools: Option<Spanned<serde_json::Value>>,
}

/// Ecosystems that have a group of ours.
const GROUPS: [(&str, &str); 4] =
    [("github", "github"), ("node", "node"), ("python", "python"), ("rust", "rust")];

/// What an agent's tool reads and lists, by its own name for it.
const EDITORS: [&str; 2] = ["edit", "write"];

/// Reads the front matter of a Markdown file; `None`: it has none.
pub(super) fn front_matter(path: &str, text: &str) -> Option<Result<Asked, String>> {
    let rest = text.strip_prefix("---\n").or_else(|| text.strip_prefix("---\r\n"))?;
    let end = rest.find("\n---").map(|at| at + 1)?;
    let mut options = serde_saphyr::Options::default();
    options.with_snippet = false;
    let front = serde_saphyr::from_str_with_options::<Front>(&rest[..end], options);
    Some(front.map(|front| asked(path, &front)).map_err(|error| error.to_string()))
}

fn asked(path: &str, front: &Front) -> Asked {
    let mut asked = Asked::default();
    // The front matter begins in the file's second line.
    let line = |text: &Spanned<serde_json::Value>| u32::try_from(text.referenced.line()).unwrap_or(1) + 1;
    let key = front.network.as_ref().or(front.tools.as_ref());
    // The value of a map begins a line below its key.
    let is_map = key.is_some_and(|key| key.value.is_object() && key.value != serde_json::json!({}));
    let line = key.map_or(1, |key| line(key).saturating_sub(u32::from(is_map)).max(1));
    let origin = Location { path: path.to_owned(), line };
    let engine = front.engine.as_str().or_else(|| front.engine.get("id")?.as_str()).unwrap_or("copilot");
    let agent = match engine {
        "claude" => "claude-code",
        "codex" => "codex",
        "gemini" => "gemini",
        "copilot" => "copilot",
        other => {
            asked.warn(
                &origin,
                &format!("`{other}` is an engine that is not known here, so nothing is taken over"),
            );
            return asked;
        }
    };
    let mut unknown = Vec::new();
    let block = asked.block("gh-aw", Scope::Agent(agent), &origin);
    let allowed = front.network.as_ref().map(|network| &network.value).and_then(|network| match network {
        // `network: {}` is none at all; `network: defaults` is the default.
        serde_json::Value::Object(map) if map.is_empty() => Some(Vec::new()),
        serde_json::Value::Object(map) => map.get("allowed")?.as_array().cloned(),
        _ => None,
    });
    if let Some(allowed) = allowed {
        block.list("network", "allow");
        for word in allowed.iter().filter_map(serde_json::Value::as_str) {
            let group = GROUPS.iter().find(|(theirs, _)| *theirs == word).map(|(_, ours)| *ours);
            let found = group.map_or_else(|| hosts(word), |group| vec![group.to_owned()]);
            if found.is_empty() {
                unknown.push(word.to_owned());
            }
            for host in found {
                block.add("network", "allow", &host);
            }
        }
    }
    if let Some(serde_json::Value::Object(tools)) = front.tools.as_ref().map(|tools| &tools.value) {
        let commands = match tools.get("bash") {
            None | Some(serde_json::Value::Bool(false)) => Vec::new(),
            Some(serde_json::Value::Array(list)) => list
                .iter()
                .map(|command| {
                    let first = command.as_str()?.split([' ', ':']).next()?;
                    Some(first.to_owned())
                })
                .collect(),
            // `bash:` alone is a list of harmless commands that may change; `true` is any.
            Some(_) => vec![None],
        };
        let is_writing = tools.keys().any(|tool| EDITORS.contains(&tool.as_str()));
        // Hosts are the network's business there.
        let understood = Tools { commands, is_writing, fetched: vec![None] };
        understood.enter(block, &claude_code::OWN, &[]);
    }
    for word in unknown {
        asked.warn(
            &origin,
            &format!(
                "`{word}` is a set of hosts that gh-aw keeps, so it is left out: add what the job needs"
            ),
        );
    }
    asked
}
