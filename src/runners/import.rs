//! What workflows already say about limits, as a policy: the settings of harden-runner and of coding agents' actions.
//!
//! Only what is written is carried over. What is known at run time alone (`${{ }}`), or kept elsewhere, is a warning.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::intent::asked::{self, Asked, Scope};
use crate::intent::workflow::Workflow;
use crate::job::Location;
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

#[derive(Debug, Default)]
struct Draft {
    steps: BTreeMap<String, Block>,
    agents: BTreeMap<&'static str, Block>,
    warnings: Vec<String>,
}

/// The policy that these workflows (path and text) ask for; the error names the one that can't be read.
pub fn policy(workflows: &[(String, String)]) -> Result<Imported, String> {
    let mut draft = Draft::default();
    for (path, text) in workflows {
        let failed = |problem| format!("{path}: {problem}");
        if let Some(asked) = asked::of_front_matter(path, text) {
            draft.take(asked.map_err(failed)?, &Workflow::default());
        } else {
            let workflow = Workflow::parse(text).map_err(failed)?;
            draft.take(asked::of(path, &workflow), &workflow);
        }
    }
    if draft.steps.is_empty() && draft.agents.is_empty() {
        draft.warnings.push("no step says anything that a policy could hold".to_owned());
    }
    Ok(Imported { policy: written(&draft), warnings: draft.warnings })
}

impl Draft {
    fn take(&mut self, asked: Asked, workflow: &Workflow) {
        self.warnings.extend(asked.warnings);
        for mut from in asked.blocks {
            let origin = from.origin.to_string();
            for ((plane, verb), items) in &mut from.lists {
                items.retain(|item| {
                    let is_valid = is_valid(plane, verb, item);
                    if !is_valid {
                        let what = if *plane == "network" { "host" } else { "item of a policy" };
                        self.warnings.push(format!("{origin}: `{item}` is no {what}, so it is left out"));
                    }
                    is_valid
                });
            }
            let blocks: Vec<&mut Block> = match &from.scope {
                Scope::Agent(agent) => vec![self.agents.entry(agent).or_default()],
                Scope::Job(job) => {
                    let keys = keys(job, workflow, &from.origin);
                    for key in &keys {
                        self.steps.entry(key.clone()).or_default();
                    }
                    self.steps
                        .iter_mut()
                        .filter(|(key, _)| keys.contains(key))
                        .map(|(_, block)| block)
                        .collect()
                }
            };
            for block in blocks {
                block.remarks.extend(from.remarks.iter().map(|remark| format!("{origin} {remark}")));
                for (place, items) in &from.lists {
                    let list = block.lists.entry(*place).or_default();
                    for item in items {
                        list.entry(item.clone()).or_insert_with(|| origin.clone());
                    }
                }
            }
        }
    }
}

/// The keys that mean every step of a job but the one at this line: `*` ends at a slash, and the key of a step that uses an
/// action has some.
fn keys(job: &str, workflow: &Workflow, but: &Location) -> Vec<String> {
    let others = workflow.steps(job).iter().filter(|step| step.line != but.line);
    let depths: BTreeSet<usize> = others.map(|step| step.key().matches('/').count()).chain([0]).collect();
    depths.into_iter().map(|depth| format!("{job}/*{}", "/*".repeat(depth))).collect()
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
        // Steps that use an action are meant as well.
        let more =
            import(&format!("{text}      - uses: actions/checkout@v5\n      - uses: a/b/c@v1\n")).policy;
        assert!(Policy::parse(&more, "p").is_ok(), "{more}");
        for key in ["build/*", "build/*/*", "build/*/*/*"] {
            assert!(more.contains(&format!("\"{key}\":\n")), "{key}: {more}");
        }
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
