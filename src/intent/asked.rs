//! What the settings in a workflow ask for: hosts, tools and limits of coding agents and of other guards, each with its line.
//!
//! One file per action in `asked/`. What is known at run time alone (`${{ }}`), or kept elsewhere, is a warning and
//! restricts nothing: unknown, which is not nothing.

mod claude_code;
mod codex;
mod gemini;
mod gh_aw;
mod harden_runner;

use std::collections::{BTreeMap, BTreeSet};

use super::workflow::{Workflow, WorkflowStep};
use crate::job::Location;

/// What one step, or the front matter of one file, asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// Who reads it, as the policy's `intent:` names it.
    pub source: &'static str,
    pub scope: Scope,
    /// Where it is written.
    pub origin: Location,
    /// For people.
    pub remarks: Vec<String>,
    /// Items by plane and verb, as a policy has them. An empty list allows nothing.
    pub lists: BTreeMap<(&'static str, &'static str), BTreeSet<String>>,
}

/// For whom it is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Every step of this job.
    Job(String),
    /// A coding agent, in the step at the block's line.
    Agent(&'static str),
}

impl Block {
    /// Says that there is a list, even if nothing is on it.
    fn list(&mut self, plane: &'static str, verb: &'static str) -> &mut BTreeSet<String> {
        self.lists.entry((plane, verb)).or_default()
    }

    fn add(&mut self, plane: &'static str, verb: &'static str, item: &str) {
        self.list(plane, verb).insert(item.to_owned());
    }

    /// Hosts that it allows.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.lists.get(&("network", "allow")).into_iter().flatten().map(String::as_str)
    }
}

/// All that a file asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    pub blocks: Vec<Block>,
    /// What could not be taken over, and where it stands.
    pub warnings: Vec<String>,
}

impl Asked {
    fn warn(&mut self, origin: &Location, text: &str) {
        self.warnings.push(format!("{origin}: {text}"));
    }

    fn block(&mut self, source: &'static str, scope: Scope, origin: &Location) -> &mut Block {
        let origin = origin.clone();
        self.blocks.push(Block { source, scope, origin, remarks: Vec::new(), lists: BTreeMap::new() });
        let last = self.blocks.len() - 1;
        &mut self.blocks[last]
    }
}

/// One reader: whose action, and what its inputs ask for.
struct Source {
    /// `owner/name` of the action; none: it looks at every step.
    action: Option<&'static str>,
    read: fn(&mut Asked, job: &str, step: &WorkflowStep, origin: &Location),
}

const SOURCES: &[Source] =
    &[claude_code::SOURCE, codex::SOURCE, gemini::SOURCE, gh_aw::SOURCE, harden_runner::SOURCE];

/// What the steps of a workflow ask for. `path` is the file's.
pub fn of(path: &str, workflow: &Workflow) -> Asked {
    let mut asked = Asked::default();
    for (job, steps) in workflow.jobs() {
        for step in steps {
            let action = step.uses.as_deref().and_then(|uses| uses.split('@').next()).unwrap_or_default();
            let origin = Location { path: path.to_owned(), line: step.line };
            for source in SOURCES {
                if source.action.is_none_or(|name| name.eq_ignore_ascii_case(action)) {
                    (source.read)(&mut asked, job, step, &origin);
                }
            }
        }
    }
    asked
}

/// What the front matter of an agentic workflow in Markdown asks for; `None`: the text has none.
pub fn of_front_matter(path: &str, text: &str) -> Option<Result<Asked, String>> {
    gh_aw::front_matter(path, text)
}

/// An input of the step, with each `${{ }}` as [`UNKNOWN`].
fn input(step: &WorkflowStep, name: &str) -> String {
    step.with.get(name).map(|text| without_expressions(text)).unwrap_or_default()
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

/// Tools of a coding agent, as its lists say them.
#[derive(Debug, Default)]
struct Tools {
    /// Commands of its shell by their first word; `None`: any.
    commands: Vec<Option<String>>,
    is_writing: bool,
    /// Hosts it may fetch from; `None`: any.
    fetched: Vec<Option<String>>,
}

impl Tools {
    /// Enters the tools into a block. `own`: what the agent starts for itself; `home`: hosts of its own service.
    fn enter(&self, block: &mut Block, own: &[&str], home: &[&str]) {
        let is_plain = |name: &str| {
            !name.is_empty()
                && name != "*"
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._+/".contains(&byte))
        };
        // One command that may be anything restricts nothing.
        let names: Option<Vec<&str>> =
            self.commands.iter().map(|name| name.as_deref().filter(|name| is_plain(name))).collect();
        match names {
            Some(names) => {
                for name in names.into_iter().chain(own.iter().copied()) {
                    block.add("run", "allow", name);
                }
            }
            None => block.remarks.push("any command is allowed".to_owned()),
        }
        // A shell writes and asks whatever it likes.
        if !self.commands.is_empty() {
            return;
        }
        if !self.is_writing {
            block.add("files", "deny", "write ./**");
        }
        // A fetch without a domain goes anywhere.
        let hosts: Option<Vec<&str>> = self.fetched.iter().map(Option::as_deref).collect();
        for host in hosts.iter().flat_map(|hosts| home.iter().chain(hosts)) {
            block.add("network", "allow", host);
        }
    }
}

/// A command line as a shell divides it. Brackets hold together, as the actions themselves read them.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut depth) = (Vec::new(), String::new(), None, 0_u32);
    for letter in text.chars().chain([' ']) {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, _) if letter.is_whitespace() && depth == 0 => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            }
            _ => {
                if quote.is_none() {
                    depth = match letter {
                        '(' => depth + 1,
                        ')' => depth.saturating_sub(1),
                        _ => depth,
                    };
                }
                word.push(letter);
            }
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(steps: &str) -> Asked {
        let text = format!("jobs:\n  build:\n    steps:\n{steps}");
        of("ci.yml", &Workflow::parse(&text).unwrap())
    }

    fn list(block: &Block, plane: &'static str, verb: &'static str) -> Vec<String> {
        block.lists.get(&(plane, verb)).map(|list| list.iter().cloned().collect()).unwrap_or_default()
    }

    #[test]
    fn each_agents_settings_are_read_with_their_line() {
        let asked = asked(
            "      - run: make\n      - uses: google-github-actions/run-gemini-cli@v0\n        with:\n          settings: |-\n            {\"tools\": {\"core\": [\"run_shell_command(cat)\", \"run_shell_command(git log)\", \"read_file\"]}}\n\
             \x20     - uses: openai/codex-action@v1\n        with: {permission-profile: \":read-only\"}\n",
        );
        assert_eq!(asked.warnings, [] as [&str; 0]);
        let [gemini, codex] = asked.blocks.as_slice() else { panic!("{asked:?}") };
        assert_eq!((&gemini.scope, gemini.origin.line), (&Scope::Agent("gemini"), 5));
        let commands = list(gemini, "run", "allow");
        assert!(commands.contains(&"cat".to_owned()) && commands.contains(&"git".to_owned()), "{commands:?}");
        assert!(!commands.contains(&"make".to_owned()));
        assert_eq!((&codex.scope, codex.origin.line), (&Scope::Agent("codex"), 9));
        assert_eq!(list(codex, "files", "deny"), ["write ./**"]);
        assert_eq!(list(codex, "run", "deny"), ["sudo"], "the action's default strategy drops sudo");
    }

    #[test]
    fn what_is_known_at_run_time_alone_restricts_nothing() {
        for step in [
            "      - uses: google-github-actions/run-gemini-cli@v0\n        with: {settings: \"${{ vars.SETTINGS }}\"}\n",
            "      - uses: anthropics/claude-code-action@v1\n        with: {claude_args: \"--allowedTools ${{ inputs.tools }}\"}\n",
            "      - uses: anthropics/claude-code-action@v1\n        with: {settings: .github/claude.json}\n",
        ] {
            let asked = asked(step);
            assert_eq!(asked.warnings.len(), 1, "{step}");
            assert!(asked.blocks.iter().all(|block| block.lists.is_empty()), "{asked:?}");
        }
    }

    #[test]
    fn a_compiled_agentic_workflow_names_its_hosts_for_the_job() {
        let asked = asked(
            "      - name: Execute\n        env:\n          GH_AW_ALLOWED_DOMAINS: \"api.example.com,*.example.net,https://x.example\"\n        run: awf --allow-domains 'files.example' -- claude\n",
        );
        let [block] = asked.blocks.as_slice() else { panic!("{asked:?}") };
        assert_eq!(block.scope, Scope::Job("build".to_owned()));
        let hosts: Vec<&str> = block.hosts().collect();
        // A bare domain there includes what is below it.
        assert_eq!(
            hosts,
            [
                "*.api.example.com",
                "*.example.net",
                "*.files.example",
                "*.x.example",
                "api.example.com",
                "files.example",
                "x.example"
            ]
        );
    }

    #[test]
    fn front_matter_is_read_as_such() {
        let text = "---\non: push\nengine: claude\npermissions:\n  contents: read\nnetwork:\n  allowed:\n    - defaults\n    - node\n    - api.example.com\ntools:\n  bash: [\"npm test\", \"git:*\"]\n  web-fetch:\n---\n# Do it\n";
        let asked = of_front_matter(".github/workflows/x.md", text).unwrap().unwrap();
        let [block] = asked.blocks.as_slice() else { panic!("{asked:?}") };
        assert_eq!((&block.scope, block.origin.line), (&Scope::Agent("claude-code"), 6));
        let hosts: Vec<&str> = block.hosts().collect();
        assert!(hosts.contains(&"node") && hosts.contains(&"*.api.example.com"), "{hosts:?}");
        let commands = list(block, "run", "allow");
        assert!(commands.contains(&"npm".to_owned()) && commands.contains(&"git".to_owned()), "{commands:?}");
        // The group that is a name of its own there is said, not guessed at.
        assert_eq!(asked.warnings.len(), 1, "{:?}", asked.warnings);
        assert!(asked.warnings[0].contains("`defaults`"), "{:?}", asked.warnings);
        let any = text
            .replace("[\"npm test\", \"git:*\"]", "[\"*\"]")
            .replace("engine: claude", "engine: {id: codex}");
        let asked = of_front_matter("x.md", &any).unwrap().unwrap();
        assert_eq!(asked.blocks[0].scope, Scope::Agent("codex"));
        assert_eq!(list(&asked.blocks[0], "run", "allow"), [] as [&str; 0]);
        assert!(of_front_matter("x.md", "# no front matter\n").is_none());
        assert!(of_front_matter("x.md", "---\non: [\n---\n").unwrap().is_err());
        let none = of_front_matter("x.md", "---\nengine: copilot\nnetwork: {}\n---\n").unwrap().unwrap();
        assert!(none.blocks[0].lists.contains_key(&("network", "allow")), "{none:?}");
        assert_eq!(none.blocks[0].hosts().count(), 0);
    }

    proptest::proptest! {
        #[test]
        fn any_settings_are_read_without_panic(text in "[ -~\n]{0,300}") {
            let _ = of_front_matter("x.md", &format!("---\n{text}\n---\n"));
            let value = serde_json::Value::from(text).to_string();
            for action in ["anthropics/claude-code-action", "openai/codex-action", "google-github-actions/run-gemini-cli", "step-security/harden-runner"] {
                let _ = asked(&format!(
                    "      - uses: {action}@v1\n        env: {{GH_AW_ALLOWED_DOMAINS: {value}}}\n        with: {{settings: {value}, claude_args: {value}, sandbox: {value}, allowed-endpoints: {value}}}\n"
                ));
            }
        }
    }
}
