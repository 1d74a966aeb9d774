//! Which step of a runner's job a process belongs to.
//!
//! A step begins where the runner itself starts a program with a step's name in its environment. From
//! then on lineage decides: what a step's own processes say of themselves moves nobody.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::Engine;
use crate::catalogue;
use crate::detections::{self, Hit};
use crate::event::{Event, Launch, ProcessKey};
use crate::finding::{Confidence, Kind, Severity};
use crate::intent::asked::{self, Block, Scope};
use crate::intent::workflow::{Permissions, Workflow, WorkflowStep};
use crate::intent::{Declaration, Text, basename};
use crate::job::{Job, Location, Provider, Step, StepKey};
use crate::lineage::Standing;

/// Scripts that wait for their launch; a runner has one or a few at a time.
const SCRIPTS: usize = 64;
/// Steps told apart; a job of a provider has no more.
const STEPS: usize = 4_096;

/// What is known of the runner and its file.
#[derive(Debug, Default)]
pub(super) struct Steps {
    /// The process whose children are the steps.
    runner: Option<ProcessKey>,
    file: Option<(String, Workflow)>,
    /// Why the file could not be read.
    pub problem: Option<String>,
    /// `permissions:` of the file count.
    is_permitting: bool,
    /// What the file's steps ask for, where somebody reviewed the file.
    asked: Vec<Block>,
    /// What the step of a coding agent gives it, where it runs.
    given: Vec<(StepKey, Block)>,
    scripts: HashMap<ProcessKey, (String, String)>,
    /// The runner gives each attempt of a step command files of its own.
    attempts: HashMap<String, StepKey>,
    /// Steps that asked a container engine for something.
    engines: BTreeSet<(StepKey, String)>,
}

impl Steps {
    pub(super) fn runner(&mut self, process: ProcessKey) {
        self.runner.get_or_insert(process);
    }

    pub(super) fn is_runner(&self, process: ProcessKey) -> bool {
        self.runner == Some(process)
    }

    pub(super) fn script(&mut self, process: ProcessKey, path: &str, text: &str) {
        if self.scripts.len() < SCRIPTS {
            self.scripts.insert(process, (path.to_owned(), text.to_owned()));
        }
    }

    /// `sources`: whom the policy lets declare anything; none said means all.
    pub(super) fn workflow(&mut self, path: &str, text: &str, origin: &str, sources: Option<&[String]>) {
        let may_declare = |source: &str| sources.is_none_or(|all| all.iter().any(|known| known == source));
        match Workflow::parse(text) {
            Ok(workflow) => {
                self.problem = None;
                self.is_permitting = may_declare("workflow");
                // The tree's copy is in the job's own hands. It may name steps, and restrict; it explains nothing.
                let asked = if origin == TREE { Vec::new() } else { asked::of(path, &workflow).blocks };
                self.asked = asked.into_iter().filter(|block| may_declare(block.source)).collect();
                self.file = Some((path.to_owned(), workflow));
            }
            Err(problem) => self.problem = Some(format!("{path}: {problem}")),
        }
    }

    /// What the workflow leaves to the token of this job, with the file's path.
    pub(super) fn permissions(&self, job: &str) -> Option<(&str, &Permissions)> {
        let (path, workflow) = self.file.as_ref().filter(|_| self.is_permitting)?;
        Some((path, workflow.permissions(job)?))
    }

    /// What a step's settings give this agent.
    pub(super) fn given(&self, step: &StepKey, agent: &str) -> Option<&Block> {
        let is_it = |(known, block): &&(StepKey, Block)| {
            known == step && matches!(block.scope, Scope::Agent(known) if known == agent)
        };
        self.given.iter().find(is_it).map(|(_, block)| block)
    }

    /// One line for each step that had containers of which nothing could be seen.
    pub(super) fn unseen_containers(&self) -> impl Iterator<Item = String> {
        self.engines.iter().map(|(step, socket)| {
            format!(
                "step {step} asked a container engine ({socket}): what ran in its containers was not seen"
            )
        })
    }
}

/// Where a workflow's file was read when no commit had it.
const TREE: &str = "tree";

/// The attempt of a step that these variables are of: the runner gives each its own command files.
fn attempt(launch: &Launch) -> Option<&str> {
    let file = basename(launch.environment.get("GITHUB_OUTPUT")?);
    file.strip_prefix("set_output_").filter(|attempt| !attempt.is_empty())
}

/// The step as the report shows it.
fn told(job: &Job, action: &str, found: Option<(&str, &WorkflowStep)>, script: Option<&str>) -> Step {
    let first = |text: &str| text.trim().lines().map(str::trim).collect::<Vec<_>>().join("; ");
    match found {
        Some((path, step)) => Step {
            key: StepKey(format!("{}/{}", job.name, step.unique_key())),
            name: step.title(),
            declared: step.run.as_deref().map(first).or_else(|| step.uses.clone()).unwrap_or_default(),
            location: Some(Location { path: path.to_owned(), line: step.line }),
        },
        None => Step {
            key: StepKey(format!("{}/{action}", job.name)),
            name: action.to_owned(),
            declared: script.map(first).unwrap_or_default(),
            location: None,
        },
    }
}

impl Engine {
    /// Opens the step that a runner begins with this launch; `None` where it begins none.
    pub(super) fn enter(&mut self, actor: ProcessKey, launch: &Launch) -> Option<()> {
        let start = self.start.as_ref().filter(|start| start.job.provider == Provider::Github)?;
        let process = self.lineage.get(actor)?;
        if process.step.is_real() || process.parent.is_none() || process.parent != self.stepping.runner {
            return None;
        }
        let action = launch.environment.get("GITHUB_ACTION").filter(|action| !action.is_empty())?;
        // The guard's own stages are the runner's business: no policy has to name what they run. The runner
        // alone gives this name, and only its direct children get this far.
        if start.job.pipeline.as_ref().is_some_and(|pipeline| pipeline.guard.as_ref() == Some(action)) {
            return None;
        }
        let script = self.stepping.scripts.remove(&actor);
        let text = script.as_ref().map(|(_, text)| text.as_str());
        let found = self.stepping.file.as_ref().and_then(|(path, workflow)| {
            Some((path.as_str(), workflow.find(&start.job.name, action, text)?))
        });
        let step = told(&start.job, action, found, text);
        let key = step.key.clone();
        // Lines of the script are lines of the file, where the file has this very text.
        let line = found
            .filter(|(_, step)| step.run.is_some())
            .map(|(path, step)| Location { path: path.to_owned(), line: step.text_line });
        if let Some((file, text)) = script {
            let shown = file.rsplit('/').next().unwrap_or(&file).to_owned();
            let location = line.unwrap_or(Location { path: shown, line: 1 });
            let text = Text::Script { file, location, text };
            let (home, workspace) = (start.job.home.clone(), start.job.workspace.clone());
            self.intent.add(&Declaration { step: key.clone(), text }, &home, &workspace);
        }
        if let Some(attempt) = attempt(launch)
            && self.stepping.attempts.len() < STEPS
        {
            self.stepping.attempts.insert(attempt.to_owned(), key.clone());
        }
        let is_known = start.job.steps.iter().any(|known| known.key == key);
        if !is_known && let Some((_, step)) = found {
            let concerns = |block: &&Block| match &block.scope {
                Scope::Job(job) => *job == start.job.name,
                Scope::Agent(_) => block.origin.line == step.line,
            };
            for block in self.stepping.asked.iter().filter(concerns) {
                for host in block.hosts() {
                    self.intent.vouch(&key, host, &block.origin);
                }
            }
            let own = self.stepping.asked.iter().filter(concerns);
            let own = own.filter(|block| matches!(block.scope, Scope::Agent(_)));
            self.stepping.given.extend(own.map(|block| (key.clone(), block.clone())).collect::<Vec<_>>());
        }
        let steps = &mut Arc::make_mut(self.start.as_mut()?).job.steps;
        if steps.len() < STEPS && !is_known {
            steps.push(step);
        }
        if let Some(process) = self.lineage.get_mut(actor) {
            process.step = key;
            process.standing = Standing::Text;
            process.strand = actor;
            process.launched = false;
        }
        Some(())
    }

    /// What a process says of itself by its environment, compared with where it was forked.
    ///
    /// Lineage decides. Only a process of which nobody saw the fork goes where it says.
    pub(super) fn claimed(&mut self, sequence: u64, event: &Event, launch: &Launch) {
        let Some(claimed) = attempt(launch).and_then(|attempt| self.stepping.attempts.get(attempt)) else {
            return;
        };
        let Some(process) = self.lineage.get(event.actor) else { return };
        if process.step == *claimed {
            return;
        }
        let claimed = claimed.clone();
        if process.step == StepKey::unattributed() {
            if let Some(process) = self.lineage.get_mut(event.actor) {
                process.step = claimed;
            }
            return;
        }
        if !process.step.is_real() {
            return;
        }
        let name = basename(&launch.executable.path);
        let title = format!("{name} belongs to this step and has the environment of step {claimed}");
        let hit = Hit {
            rule: &detections::EVASION,
            kind: Kind::Divergence,
            severity: Severity::Low,
            confidence: Confidence::Medium,
            title,
            process: event.actor,
            object: format!("step {claimed}"),
            evidence: Vec::new(),
            replaces: None,
            remedy: Some(
                "A build server of an earlier step works for its clients like this. Otherwise find out why a process borrows another step's name.",
            ),
        };
        self.record(sequence, event.time, vec![hit], None);
    }

    /// Notes that somebody asked a container engine for something: its containers are not below the asker.
    pub(super) fn asked_engine(&mut self, actor: ProcessKey, socket: &str) {
        const MOST: usize = 64;
        if !catalogue::is_object("container-sockets", socket) || self.stepping.engines.len() >= MOST {
            return;
        }
        if let Some(process) = self.lineage.get(actor).filter(|process| process.step.is_real()) {
            self.stepping.engines.insert((process.step.clone(), socket.to_owned()));
        }
    }

    /// The step of what the runner does for no step.
    pub(super) fn stepless(&self) -> StepKey {
        match self.start.as_ref().map(|start| start.job.provider) {
            Some(Provider::Github) => StepKey::runner(),
            _ => self.first_step(),
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::engine::{Engine, Input, Settings};
    use crate::event::{Activity, Fact, ProcessKey, Running};
    use crate::finding::Report;
    use crate::intent::Text;
    use crate::job::{Pipeline, Provider};
    use crate::policy::Policy;
    use crate::trace;

    /// What a process of the trace carries: its number, `GITHUB_ACTION`, the attempt, and a script that it runs.
    type Carried<'a> = (u32, &'a str, &'a str, &'a str);

    /// The report of a job whose runner is process 1.
    fn report(workflow: (&str, &str), policy: &str, carried: &[Carried<'_>], trace: &str) -> Report {
        let (mut engine, inputs) = prepared(workflow, policy, carried, trace);
        for (sequence, input) in (0..).zip(&inputs) {
            engine.accept(sequence, input);
        }
        engine.finish()
    }

    fn prepared(
        workflow: (&str, &str),
        policy: &str,
        carried: &[Carried<'_>],
        trace: &str,
    ) -> (Engine, Vec<Input>) {
        let key = |pid: u32| ProcessKey { pid, start: u64::from(pid) };
        let mut inputs = Vec::new();
        for mut input in trace::inputs("", trace) {
            match &mut input {
                Input::Start(start) => {
                    start.job.provider = Provider::Github;
                    start.job.name = "build".into();
                    start.job.steps.clear();
                    let server = Some("https://forge.example".to_owned());
                    start.job.pipeline = Some(Pipeline { server, ..Pipeline::default() });
                    inputs.push(input);
                    let running = Running { process: key(1), parent: None, launch: None };
                    inputs.push(Input::Fact(Fact::Running(running)));
                    continue;
                }
                Input::Declaration(declaration)
                    if matches!(declaration.text, Text::Command { .. } | Text::Script { .. }) =>
                {
                    continue;
                }
                Input::Event(event) if event.actor == key(100) => continue,
                Input::Event(event) if event.actor == key(1) => {
                    if matches!(event.activity, Activity::Launch(_)) {
                        continue;
                    }
                }
                Input::Event(event) => {
                    let own = carried.iter().find(|carried| key(carried.0) == event.actor);
                    if let (Activity::Launch(launch), Some((_, action, attempt, script))) =
                        (&mut event.activity, own)
                    {
                        let output = format!("/t/_runner_file_commands/set_output_{attempt}");
                        launch.environment.insert("GITHUB_ACTION".into(), (*action).into());
                        launch.environment.insert("GITHUB_OUTPUT".into(), output);
                        if !script.is_empty() {
                            let (path, text) = ("/t/x.sh".to_owned(), (*script).to_owned());
                            inputs.push(Input::Fact(Fact::Script { process: event.actor, path, text }));
                        }
                    }
                }
                _ => {}
            }
            inputs.push(input);
        }
        let policy =
            if policy.is_empty() { Policy::absent() } else { Policy::parse(policy, "guard.yml").unwrap() };
        let mut engine = Engine::new(policy, Settings::default());
        let (text, origin) = workflow;
        engine.prepare(&Input::Fact(Fact::Workflow {
            path: ".github/workflows/ci.yml".into(),
            text: text.into(),
            origin: origin.into(),
        }));
        (engine, inputs)
    }

    fn told(report: &Report) -> Vec<String> {
        report
            .findings
            .iter()
            .map(|finding| {
                format!(
                    "{}{} {} {} {} {}",
                    if finding.fails { "!" } else { "" },
                    finding.rule,
                    finding.kind.as_str(),
                    finding.severity.as_str(),
                    finding.step,
                    finding.object
                )
            })
            .collect()
    }

    const TWO: &str =
        "jobs:\n  build:\n    steps:\n      - {id: one, run: make}\n      - {id: two, run: make check}\n";
    const BOTH: [Carried<'_>; 2] = [(2, "one", "aa", "make"), (3, "two", "bb", "make check")];
    const BEGIN: &str =
        "1 > 2 launch /usr/bin/bash bash -e /t/x.sh\n1 > 3 launch /usr/bin/bash bash -e /t/x.sh\n";

    #[test]
    fn a_process_with_another_steps_environment_stays_and_is_told() {
        let carried = [&BOTH[..], &[(4, "one", "aa", "")]].concat();
        let trace = format!("{BEGIN}3 > 4 launch /usr/bin/make make check\n4 create /w/out");
        let report = report((TWO, "commit"), "", &carried, &trace);
        assert_eq!(told(&report), ["sensor-evasion divergence low build/two step build/one"]);
        assert_eq!(report.exit.guard, 0, "a note");
        let two = report.steps.iter().find(|step| step.key.0 == "build/two").unwrap();
        assert_eq!(two.events.file, 1, "{two:?}");
    }

    #[test]
    fn variables_that_a_test_makes_up_are_nobodys() {
        // A test of an action sets the runner's variables to whatever it likes.
        let made_up = [(4, "fake", "1234", ""), (5, "one", "", ""), (6, "two", "bb", "")];
        let carried = [&BOTH[..], &made_up].concat();
        let trace = format!(
            "{BEGIN}3 > 4 launch /usr/bin/make make check\n3 > 5 launch /usr/bin/make make check\n3 > 6 launch /usr/bin/make make check"
        );
        assert_eq!(told(&report((TWO, "commit"), "", &carried, &trace)), [] as [&str; 0]);
    }

    #[test]
    fn a_process_that_nobody_saw_forked_goes_where_its_attempt_says() {
        let carried = [&BOTH[..], &[(7, "one", "aa", ""), (8, "one", "zz", "")]].concat();
        let trace = format!(
            "{BEGIN}7 launch /usr/bin/touch touch x\n7 create /w/x\n8 launch /usr/bin/touch touch y\n8 create /w/y"
        );
        let report = report((TWO, "commit"), "", &carried, &trace);
        let files =
            |key: &str| report.steps.iter().find(|step| step.key.0 == key).map_or(0, |step| step.events.file);
        assert_eq!((files("build/one"), files("_unattributed")), (1, 1), "{:#?}", report.steps);
    }

    #[test]
    fn steps_of_one_name_have_lines_of_their_own_and_one_key_in_the_policy() {
        let workflow = "jobs:\n  build:\n    steps:\n      - uses: a/b@v1\n      - uses: a/b@v1\n";
        let policy = "version: 1\nsteps:\n  build/a/b@v1:\n    files: {deny: [write ./x]}\n";
        let carried = [(2, "__a_b", "aa", ""), (3, "__a_b_2", "bb", "")];
        let trace = "1 > 2 launch /usr/bin/node node /a/main.js\n2 create /w/x\n1 > 3 launch /usr/bin/node node /a/main.js\n3 create /w/x";
        let report = report((workflow, "commit"), policy, &carried, trace);
        let lines: Vec<(&str, u32)> = report
            .findings
            .iter()
            .map(|finding| (finding.step.0.as_str(), finding.location.as_ref().unwrap().line))
            .collect();
        assert_eq!(lines, [("build/a/b@v1", 4), ("build/a/b@v1#2", 5)]);
    }

    const PUSH: &str = "jobs:\n  build:\n    permissions:\n      contents: read\n    steps:\n      - {id: one, run: make release}\n      - {id: two, run: git push}\n      - {id: three, run: npm ci}\n";

    /// git pushes to this address, by its transport, from process `parent`.
    fn pushes(parent: u32, address: &str) -> String {
        format!(
            "answer forge.example 203.0.113.9\nanswer other.example 203.0.113.8\n\
             {parent} > 50 launch /usr/bin/git git -C sub push origin main\n\
             50 > 51 launch /usr/lib/git-core/git-remote-https git remote-https origin https://x\n51 connect {address}"
        )
    }

    #[test]
    fn a_push_that_permissions_leave_out_is_told_with_their_line() {
        let carried = [(2, "one", "aa", "make release")];
        let begin = "1 > 2 launch /usr/bin/bash bash -e /t/x.sh\n2 > 4 launch /usr/bin/make make release\n";
        let trace = format!("{begin}{}", pushes(4, "203.0.113.9:443"));
        let report_of = |workflow: &str, trace: &str| report((workflow, "commit"), "", &carried, trace);
        let report = report_of(PUSH, &trace);
        assert_eq!(told(&report), ["ci-token-abuse divergence low build/one forge.example:443"]);
        assert_eq!(
            report.findings[0].title,
            "git pushed at forge.example, though `permissions:` (.github/workflows/ci.yml:3) leave the job's token `contents: read`"
        );
        // The quiet twins: the right is there, nobody said, it is not known, it is another server, it only fetches.
        for (workflow, trace) in [
            (PUSH.replace("contents: read", "contents: write"), trace.clone()),
            (PUSH.replace("    permissions:\n      contents: read\n", ""), trace.clone()),
            (PUSH.replace("contents: read", "contents: ${{ inputs.x }}"), trace.clone()),
            (PUSH.to_owned(), format!("{begin}{}", pushes(4, "203.0.113.8:443"))),
            (PUSH.to_owned(), trace.replace("push origin", "fetch origin")),
        ] {
            assert_eq!(told(&report_of(&workflow, &trace)), [] as [&str; 0], "{workflow}\n{trace}");
        }
    }

    #[test]
    fn others_code_that_pushes_fails_the_job_and_a_said_push_is_a_note() {
        let carried = [(2, "three", "aa", "npm ci")];
        let trace = format!(
            "1 > 2 launch /usr/bin/bash bash -e /t/x.sh\n2 > 3 launch /usr/bin/node node /usr/bin/npm ci\n\
             3 > 4 launch /usr/bin/node node setup.js\n{}",
            pushes(4, "203.0.113.9:443")
        );
        let found = report((PUSH, "commit"), "", &carried, &trace);
        assert!(
            told(&found)
                .contains(&"!ci-token-abuse divergence high build/three forge.example:443".to_owned()),
            "{:?}",
            told(&found)
        );
        let carried = [(2, "two", "aa", "git push")];
        let trace = format!("1 > 2 launch /usr/bin/bash bash -e /t/x.sh\n{}", pushes(2, "203.0.113.9:443"));
        let said = report((PUSH, "commit"), "version: 1\nfail-on: low\n", &carried, &trace);
        assert_eq!(told(&said), ["ci-token-abuse divergence low build/two forge.example:443"]);
        assert_eq!(said.exit.guard, 0);
        // The policy may say that workflows declare nothing.
        let muted = report((PUSH, "commit"), "version: 1\nintent: [codex]\n", &carried, &trace);
        assert_eq!(told(&muted), [] as [&str; 0]);
    }

    #[test]
    fn another_guards_endpoints_explain_where_the_file_was_reviewed() {
        let workflow = "jobs:\n  build:\n    steps:\n      - uses: step-security/harden-runner@v2\n        with: {allowed-endpoints: 'api.example:443'}\n      - {id: one, run: make}\n";
        let carried = [(2, "one", "aa", "make")];
        let trace = "answer api.example 203.0.113.7\nanswer b.example 203.0.113.6\n1 > 2 launch /usr/bin/bash bash -e /t/x.sh\n2 > 4 launch /usr/bin/make make\n\
             4 > 5 launch /usr/bin/python3.11 python3 get.py\n5 connect 203.0.113.7:443\n5 connect 203.0.113.6:443";
        let found = report((workflow, "commit"), "", &carried, trace);
        assert_eq!(told(&found), ["egress-undeclared divergence low build/one b.example:443"]);
        let step = found.steps.iter().find(|step| step.key.0 == "build/one").unwrap();
        let explained = step.destinations.iter().find(|to| to.host == "api.example:443").unwrap();
        assert_eq!(explained.explained.as_deref(), Some("named at .github/workflows/ci.yml:4"));
        assert_eq!(told(&report((workflow, "tree"), "", &carried, trace)).len(), 2);
        let muted = report((workflow, "commit"), "version: 1\nintent: [workflow]\n", &carried, trace);
        assert_eq!(told(&muted).len(), 2);
    }

    #[test]
    fn a_command_that_the_agents_step_does_not_give_is_a_note() {
        let workflow = "jobs:\n  review:\n    steps: []\n  build:\n    steps:\n      - uses: anthropics/claude-code-action@v1\n        with:\n          claude_args: --allowedTools 'Bash(npm test:*),Edit'\n";
        let told_of = |workflow: &str, command: &str| {
            let (first, quoted) = (command.split(' ').next().unwrap(), command.replace(' ', "_"));
            let trace = format!(
                "2 agent claude-code
                 1 > 2 launch /n/@anthropic-ai/claude-code/bin/claude.exe claude -p x
                 2 call c1 {command}
                 2 > 3 launch /usr/bin/bash bash -c source s && eval '{quoted}' </dev/null && pwd -P >| /tmp/x
                 3 > 4 launch /usr/bin/{first} {command}
                 4 create /w/out"
            );
            let carried = [(2, "__anthropics_claude-code-action", "aa", "")];
            told(&report((workflow, "commit"), "", &carried, &trace))
        };
        let step = "build/anthropics/claude-code-action@v1";
        assert_eq!(
            told_of(workflow, "make build"),
            [format!("agent-contradicted divergence low {step} make")]
        );
        assert_eq!(told_of(workflow, "npm test"), [] as [&str; 0]);
        // Any command, an unknown list, and no list at all restrict nothing.
        for tools in ["'Bash,Edit'", "${{ inputs.tools }}"] {
            let open = workflow.replace("'Bash(npm test:*),Edit'", tools);
            assert_eq!(told_of(&open, "make build"), [] as [&str; 0], "{tools}");
        }
        let none = workflow.replace("--allowedTools", "--max-turns 3 --verbose");
        assert_eq!(told_of(&none, "make build"), [] as [&str; 0]);
    }

    #[test]
    fn what_a_set_up_action_is_for_is_no_drift() {
        let told_of = |uses: &str, action: &str, trace: &str| {
            let workflow = format!("jobs:\n  build:\n    steps:\n      - uses: {uses}\n");
            told(&report((&workflow, "commit"), "", &[(2, action, "aa", "")], trace))
        };
        let trace = "after git-hooks /w/.git/config x /w/.git/config
            1 > 2 launch /usr/bin/node node /a/index.js
            2 > 3 launch /usr/bin/git git init
            3 create /w/.git/config";
        assert_eq!(told_of("actions/checkout@v5", "__actions_checkout", trace), [] as [&str; 0]);
        assert_eq!(
            told_of("acme/tool@v1", "__acme_tool", trace),
            ["posture-drift posture low build/acme/tool@v1 /w/.git/config"]
        );
        // It is for the repository, not for sudo; and a runner may check out by itself.
        let sudo = trace.replace("/w/.git/config", "/etc/sudoers").replace("git-hooks", "sudoers");
        assert_eq!(told_of("actions/checkout@v5", "__actions_checkout", &sudo).len(), 1);
        let own = "after git-hooks /w/.git/config x /w/.git/config\n1 create /w/.git/config";
        assert_eq!(told_of("acme/tool@v1", "__acme_tool", own), [] as [&str; 0]);
        // It is not told at once either.
        let at_once = |uses: &str, action: &str| {
            let workflow = format!("jobs:\n  build:\n    steps:\n      - uses: {uses}\n");
            let trace = format!("{trace}\nbefore git-configuration /etc/gitconfig x /etc/gitconfig");
            let carried = [(2, action, "aa", "")];
            let (mut engine, inputs) = prepared((&workflow, "commit"), "", &carried, &trace);
            trace::drift_at_once(&mut engine, &inputs).len()
        };
        assert_eq!(at_once("actions/checkout@v5", "__actions_checkout"), 0);
        assert_eq!(at_once("acme/tool@v1", "__acme_tool"), 1);
    }

    #[test]
    fn containers_that_an_engine_starts_are_told_as_unseen() {
        let carried = [(2, "one", "aa", "docker build .")];
        let trace = "1 > 2 launch /usr/bin/bash bash -e /t/x.sh\n2 > 4 launch /usr/bin/docker docker build .\n4 unix /var/run/docker.sock";
        let report = report((TWO, "commit"), "", &carried, trace);
        assert_eq!(told(&report), [] as [&str; 0]);
        assert!(
            report.coverage.gaps.iter().any(|gap| gap.contains("asked a container engine")),
            "{:?}",
            report.coverage.gaps
        );
    }
}
