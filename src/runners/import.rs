//! What workflows already say about limits, as a policy: the settings of harden-runner and of coding agents' actions.
//!
//! Only what is written is carried over. What is known at run time alone (`${{ }}`), or kept elsewhere, is a warning.

mod claude_code;
mod codex;
mod harden_runner;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::intent::workflow::{Workflow, WorkflowStep};
use crate::policy::Policy;

/// A policy and what did not fit into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Imported {
    pub policy: String,
    pub warnings: Vec<String>,
}

/// The lists of one step key or agent, each item with where it comes from. An empty list allows nothing.
#[derive(Debug, Default)]
struct Block {
    remarks: Vec<String>,
    lists: BTreeMap<(&'static str, &'static str), BTreeMap<String, String>>,
}

impl Block {
    /// Says that there is a list, even if nothing is on it.
    fn list(&mut self, plane: &'static str, verb: &'static str) -> &mut BTreeMap<String, String> {
        self.lists.entry((plane, verb)).or_default()
    }

    fn add(&mut self, plane: &'static str, verb: &'static str, item: &str, origin: &str) {
        self.list(plane, verb).entry(item.to_owned()).or_insert_with(|| origin.to_owned());
    }
}

#[derive(Debug, Default)]
struct Draft {
    steps: BTreeMap<String, Block>,
    agents: BTreeMap<&'static str, Block>,
    warnings: Vec<String>,
}

/// One reader: whose action, and what its inputs become.
struct Source {
    /// `owner/name` of the action.
    action: &'static str,
    read: fn(&mut Draft, job: &str, step: &WorkflowStep, origin: &str),
}

const SOURCES: &[Source] = &[claude_code::SOURCE, codex::SOURCE, harden_runner::SOURCE];

/// The policy that these workflows (path and text) ask for; the error names the one that can't be read.
pub fn policy(workflows: &[(String, String)]) -> Result<Imported, String> {
    let mut draft = Draft::default();
    for (path, text) in workflows {
        let workflow = Workflow::parse(text).map_err(|problem| format!("{path}: {problem}"))?;
        for (job, steps) in workflow.jobs() {
            for step in steps {
                let action = step.uses.as_deref().and_then(|uses| uses.split('@').next()).unwrap_or_default();
                if let Some(source) = SOURCES.iter().find(|source| source.action.eq_ignore_ascii_case(action))
                {
                    (source.read)(&mut draft, job, step, &format!("{path}:{}", step.line));
                }
            }
        }
    }
    if draft.steps.is_empty() && draft.agents.is_empty() {
        draft.warnings.push("no step says anything that a policy could hold".to_owned());
    }
    Ok(Imported { policy: written(&draft), warnings: draft.warnings })
}

fn written(draft: &Draft) -> String {
    let mut text = "version: 1\nmode: audit\n".to_owned();
    let steps = draft.steps.iter().map(|(key, block)| (key.as_str(), block)).collect::<Vec<_>>();
    let agents = draft.agents.iter().map(|(key, block)| (*key, block)).collect::<Vec<_>>();
    for (name, blocks) in [("steps", steps), ("agents", agents)] {
        if blocks.is_empty() {
            continue;
        }
        let _ = writeln!(text, "{name}:");
        for (key, block) in blocks {
            let _ = writeln!(text, "  {}:{}", quoted(key), if block.lists.is_empty() { " {}" } else { "" });
            for remark in &block.remarks {
                let _ = writeln!(text, "    # {}", plain(remark));
            }
            let mut current = "";
            for ((plane, verb), items) in &block.lists {
                if current != *plane {
                    let _ = writeln!(text, "    {plane}:");
                    current = plane;
                }
                let _ = writeln!(text, "      {verb}:{}", if items.is_empty() { " []" } else { "" });
                for (item, origin) in items {
                    let _ = writeln!(text, "        - {} # {}", quoted(item), plain(origin));
                }
            }
        }
    }
    text
}

/// A text as a double-quoted scalar; JSON's escapes are YAML's.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn plain(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_control()).collect()
}

/// The text with each `${{ }}` as [`UNKNOWN`], so that blanks inside end no word.
fn without_expressions(text: &str) -> String {
    let mut pieces = text.split("${{");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push(UNKNOWN);
        plain.push_str(piece.split_once("}}").map_or("", |(_, rest)| rest));
    }
    plain
}

/// Stands for what is known at run time alone.
const UNKNOWN: char = '\u{fffd}';

/// Whether a policy takes this item in this list.
fn is_valid(plane: &str, verb: &str, item: &str) -> bool {
    let text = format!("version: 1\ndefaults:\n  {plane}:\n    {verb}:\n      - {}\n", quoted(item));
    Policy::parse(&text, "item").is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn import(text: &str) -> Imported {
        policy(&[("ci.yml".to_owned(), text.to_owned())]).unwrap()
    }

    fn step(text: &str) -> String {
        format!("jobs:\n  build:\n    steps:\n{text}")
    }

    #[test]
    fn endpoints_become_the_jobs_hosts() {
        let text = step(
            "      - uses: step-security/harden-runner@v2\n        with:\n          egress-policy: block\n          disable-sudo: true\n          \
             allowed-endpoints: >\n            api.example.com:443\n            *.example.net:443\n            ${{ vars.MORE }}\n            no-port-\n",
        );
        let imported = import(&text);
        assert!(Policy::parse(&imported.policy, "p").is_ok(), "{}", imported.policy);
        assert_eq!(
            imported.policy,
            "version: 1\nmode: audit\nsteps:\n  \"build/*\":\n    # ci.yml:4 asks for `block`; `mode: audit` reports only\n    network:\n      allow:\n        \
             - \"*.example.net:443\" # ci.yml:4\n        - \"api.example.com:443\" # ci.yml:4\n    run:\n      deny:\n        - \"sudo\" # ci.yml:4\n"
        );
        assert_eq!(imported.warnings.len(), 2, "{:?}", imported.warnings);
        assert!(imported.warnings[0].contains("${{ }}"), "{:?}", imported.warnings);
    }

    #[test]
    fn tools_of_an_agent_become_its_lists() {
        let text = step(
            "      - uses: anthropics/claude-code-action@v1\n        with:\n          claude_args: |\n            --max-turns 5\n            \
             --allowedTools \"Bash(npm run test:*),Bash(gh pr view:*)\" 'Edit'\n",
        );
        let imported = import(&text);
        assert!(Policy::parse(&imported.policy, "p").is_ok(), "{}", imported.policy);
        assert!(imported.policy.contains("\"claude-code\":"), "{}", imported.policy);
        for name in ["npm", "gh", "git"] {
            assert!(
                imported.policy.contains(&format!("- \"{name}\" # ci.yml:4")),
                "{name}: {}",
                imported.policy
            );
        }
        assert!(!imported.policy.contains("deny"), "{}", imported.policy);
        assert_eq!(imported.warnings, [] as [&str; 0]);
        // Without a shell and without an editor nothing of the work is written, and only named hosts are asked.
        let text = text.replace(
            "\"Bash(npm run test:*),Bash(gh pr view:*)\" 'Edit'",
            "Read WebFetch(domain:docs.example)",
        );
        let reads = import(&text).policy;
        assert!(Policy::parse(&reads, "p").is_ok(), "{reads}");
        assert!(reads.contains("write ./**") && reads.contains("docs.example"), "{reads}");
        // What is known at run time alone restricts nothing.
        let open = import(&text.replace("Read WebFetch(domain:docs.example)", "${{ inputs.tools }}"));
        assert_eq!((open.policy.contains("run:"), open.warnings.len()), (false, 1), "{open:?}");
        let all = import(&text.replace("Read WebFetch(domain:docs.example)", "Bash"));
        assert!(!all.policy.contains("run:"), "{}", all.policy);
    }

    #[test]
    fn a_sandbox_becomes_the_agents_files() {
        let text = step(
            "      - uses: openai/codex-action@v1\n        with: {sandbox: read-only, safety-strategy: drop-sudo}\n",
        );
        let imported = import(&text);
        assert!(Policy::parse(&imported.policy, "p").is_ok(), "{}", imported.policy);
        assert!(imported.policy.contains("- \"write ./**\" # ci.yml:4"), "{}", imported.policy);
        assert!(imported.policy.contains("- \"sudo\" # ci.yml:4"), "{}", imported.policy);
        let open = import(&text.replace("read-only", "danger-full-access"));
        assert!(!open.policy.contains("write ./**"), "{}", open.policy);
    }

    #[test]
    fn nothing_to_import_is_said() {
        let imported = import(&step("      - run: make\n"));
        assert_eq!((imported.policy.as_str(), imported.warnings.len()), ("version: 1\nmode: audit\n", 1));
        assert!(policy(&[("x.yml".to_owned(), "jobs: [".to_owned())]).unwrap_err().starts_with("x.yml: "));
    }
}
