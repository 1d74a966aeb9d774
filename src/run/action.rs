//! The stages of the GitHub Action: `pre` starts the recorder, `main` gives it the policy, `post` finishes and reports.
//!
//! The scripts of `src/action` call these as root. Whatever goes wrong is an annotation and a status, since nobody
//! reads a log that does not ask to be read.

mod inputs;
mod place;
mod runner;
mod whose;

use std::path::{Path, PathBuf};

use crate::cli::{Action, Channels, ModeArgument, SensorArgument, Stage, UnsupportedArgument, Watching};
use crate::detections;
use crate::engine::{End, Engine, Input, Settings, Start};
use crate::event::{Fact, ProcessKey, Reach, Sight};
use crate::finding::{CoverageState, FailOn, Finding, Report, Severity};
use crate::github;
use crate::policy::{Mode, Policy};
use crate::reports::{Directory, Format, terminal};
use crate::run::sidecar::{self, Begun, Wanted};
use crate::run::{self, Error};
use crate::runners;
use crate::session::{Request, Session};

use inputs::Inputs;
use runner::command;
use whose::{Moment, Origin};

/// The runner shows no more annotations of a level of one step.
const MOST_ANNOTATIONS: usize = 10;

/// Runs one stage; what goes wrong is said as an annotation.
pub(super) fn stage(action: Action) -> u8 {
    let here = Here::new();
    let inputs = match Inputs::read(variable, &here.workspace, &here.temporary) {
        Ok(inputs) => inputs,
        Err(message) => {
            // `pre` said it already, where it ran.
            if action.stage != Stage::Post {
                error("edamame-guard: a wrong input", &message);
            }
            return 125;
        }
    };
    let result = match action.stage {
        Stage::Pre => here.pre(&inputs, action.above),
        Stage::Main => here.main(&inputs, action.above),
        Stage::Post => here.post(&inputs),
    };
    result.unwrap_or_else(|problem| {
        tell(&problem);
        problem.status()
    })
}

fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// User and group of whoever called sudo.
fn person() -> Option<(u32, u32)> {
    let number = |name| variable(name).and_then(|text| text.parse().ok());
    number("SUDO_UID").zip(number("SUDO_GID"))
}

fn error(title: &str, text: &str) {
    run::print(&format!("{}\n", command("error", &[("title", title)], text)));
}

fn notice(text: &str) {
    run::print(&format!("{}\n", command("notice", &[("title", "edamame-guard")], text)));
}

/// An error as annotations: those of a policy at their lines.
fn tell(problem: &Error) {
    let Error::Policy(policy) = problem else {
        return error("edamame-guard", problem.for_people().trim_start_matches("error: "));
    };
    for problem in policy.problems.iter().take(MOST_ANNOTATIONS) {
        let hint = problem.hint.as_ref().map(|hint| format!("\nhint: {hint}")).unwrap_or_default();
        let place = [
            ("file", policy.origin.as_str()),
            ("line", &problem.line.to_string()),
            ("col", &problem.column.to_string()),
            ("title", "edamame-guard: the policy can't be used"),
        ];
        run::print(&format!("{}\n", command("error", &place, &format!("{}{hint}", problem.message))));
    }
    say_untrusted(&policy.to_string());
}

/// The job's folders, as the runner names them.
struct Here {
    workspace: PathBuf,
    temporary: PathBuf,
}

impl Here {
    fn new() -> Self {
        let folder = |name: &str, without: PathBuf| variable(name).map_or(without, PathBuf::from);
        let current = std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/"));
        Self {
            workspace: folder("GITHUB_WORKSPACE", current),
            temporary: folder("RUNNER_TEMP", std::env::temp_dir()),
        }
    }

    /// Starts the recorder, or says why this job can't be watched.
    fn pre(&self, inputs: &Inputs, above: i32) -> Result<u8, Error> {
        if inputs.mode == Some(ModeArgument::Block) {
            return Err(Error::Block);
        }
        let found = place::missing(variable, Path::new("/"), nix::unistd::geteuid().is_root());
        let found = match found {
            Some(found) => found,
            None => match self.start(inputs, above) {
                Ok(()) => return Ok(0),
                Err(Error::Recorder(reason)) => format!("The recorder did not start here: {reason}"),
                Err(other) => return Err(other),
            },
        };
        keep("unsupported", &found.replace(['\r', '\n'], " "))?;
        let level = match inputs.on_unsupported {
            UnsupportedArgument::Fail => "error",
            UnsupportedArgument::Warn => "warning",
            UnsupportedArgument::Skip => {
                run::print(&format!("{}: {found}\n", place::TITLE));
                return Ok(0);
            }
        };
        run::print(&format!("{}\n", command(level, &[("title", place::TITLE)], &found)));
        Ok(if inputs.on_unsupported == UnsupportedArgument::Fail { 125 } else { 0 })
    }

    fn start(&self, inputs: &Inputs, above: i32) -> Result<(), Error> {
        let wanted = Wanted {
            watching: Watching {
                sensor: SensorArgument::Ebpf,
                on_unsupported: Some(UnsupportedArgument::Fail),
                ring_size: None,
                part_size: None,
            },
            policy: None,
            fail_on: inputs.recorded_fail_on(),
            report_dir: inputs.report_dir.clone(),
            channels: Channels { agent_hooks: inputs.agent_hooks, ..Channels::default() },
            log_pipes: None,
            search: Vec::new(),
        };
        let Begun { session, ready } = sidecar::begin(&wanted, above, false, &self.workspace)?;
        keep("session", &session.id)?;
        run::print(&format!(
            "edamame-guard {} watches this job: session {}, {} {}, {} processes were running before\n",
            env!("CARGO_PKG_VERSION"),
            session.id,
            ready.sight.sensor,
            ready.sight.tier,
            ready.processes,
        ));
        run::print(&format!("{}\n", run::known_by(&ready.key, &ready.genesis)));
        if inputs.is_verbose {
            let hook = |(hook, proved): (&String, &bool)| {
                format!("  {} {hook}\n", if *proved { "proved    " } else { "not proved" })
            };
            run::print(&ready.sight.hooks.iter().map(hook).collect::<String>());
            for gap in &ready.sight.gaps {
                run::print(&format!("  can't see {gap}\n"));
            }
        }
        Ok(())
    }

    /// Gives the recorder the policy.
    fn main(&self, inputs: &Inputs, above: i32) -> Result<u8, Error> {
        if variable("STATE_unsupported").is_some() {
            return Ok(0);
        }
        let session = if let Some(id) = variable("STATE_session") {
            Session::find(Some(&id))?
        } else {
            // The runner runs no `pre` of an action that lies in the workspace.
            notice(
                "The recorder starts only now, so earlier steps were not seen. `uses: edamame/guard@…` starts it before the first step; `uses: ./` can't.",
            );
            let status = self.pre(inputs, above)?;
            if status != 0 || variable("STATE_unsupported").is_some() {
                return Ok(status);
            }
            Session::find(None)?
        };
        self.decide(inputs, &session, Moment::Early)
    }

    /// Decides whose policy holds, and gives it to the recorder.
    fn decide(&self, inputs: &Inputs, session: &Session, moment: Moment) -> Result<u8, Error> {
        let origin = Origin::read(variable, &event());
        let client = client(inputs);
        let ask = |repository: &str, path: &str, reference: &str| match client
            .contents(repository, path, reference)
        {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => String::from_utf8(bytes).map(Some).map_err(|_| format!("{path} is not UTF-8")),
            Err(error) => Err(error.to_string()),
        };
        let ask = client.has_token().then_some(&ask as whose::Ask<'_>);
        if moment == Moment::Early {
            self.hand_workflow(session, ask);
        }
        let decided = whose::decide(inputs, &origin, &self.workspace, ask, moment)?;
        for text in &decided.notices {
            notice(text);
        }
        run::print(&format!("{}\n", decided.said));
        let policy = decided.policy;
        // An input beats the policy, but not an organisation's, and not on a pull request from a fork.
        let is_loosened = inputs.mode == Some(ModeArgument::Audit)
            && !origin.is_fork
            && policy.tightened_mode() != Some(Mode::Block);
        if policy.mode() == Some(Mode::Block) && !is_loosened {
            return Err(Error::Block);
        }
        if decided.is_open {
            // What stands beside it was read, or is an error already; all of it is decided again.
            keep("policy", "open")?;
            return Ok(0);
        }
        for warning in policy.warnings() {
            let place =
                [("file", warning.location.path.as_str()), ("line", &warning.location.line.to_string())];
            run::print(&format!("{}\n", command("warning", &place, &warning.message)));
        }
        run::require_clients(&policy)?;
        if policy.is_absent() {
            return Ok(0);
        }
        let origin = policy.origin().unwrap_or_default().to_owned();
        sidecar::give(session, policy.lock(), origin)
    }

    /// Gives the recorder the workflow's file as GitHub runs it, before another step can touch what is checked out.
    ///
    /// It names steps and says what was meant, so a recorder without it judges all the same.
    fn hand_workflow(&self, session: &Session, ask: Option<whose::Ask<'_>>) {
        let home = PathBuf::from(variable("HOME").unwrap_or_else(|| "/".to_owned()));
        let uid = person().map_or_else(|| nix::unistd::geteuid().as_raw(), |(user, _)| user);
        let job = runners::github::job(&self.workspace, &home, uid, &variable);
        let asked = ask.and_then(|ask| {
            let pipeline = job.pipeline.as_ref()?;
            let (path, commit) = (pipeline.workflow.as_ref()?, pipeline.workflow_commit.as_ref()?);
            // A workflow that an organisation requires lies in another repository.
            let repository = variable("GITHUB_WORKFLOW_REF")?;
            let repository = repository.split_once("/.github/")?.0;
            let text = ask(repository, path, commit).ok().flatten()?;
            Some(Fact::Workflow { path: path.clone(), text, origin: "api".to_owned() })
        });
        let Some(Fact::Workflow { path, text, origin }) = asked.or_else(|| runners::github::reviewed(&job))
        else {
            return;
        };
        let _ = session.ask(&Request::Workflow { path, text, origin });
    }

    /// Gives the recorder the reviewed copies of agents' settings that the checkout does not have: most have one commit.
    fn hand_reviewed(&self, inputs: &Inputs, session: &Session) {
        const MOST: usize = 32;
        let origin = Origin::read(variable, &event());
        let client = client(inputs);
        let Ok(answer) = session.ask(&Request::Status) else { return };
        if !origin.is_pull_request || !client.has_token() {
            return;
        }
        for file in answer.unreviewed.into_iter().take(MOST) {
            let Ok(path) = Path::new(&file).strip_prefix(&self.workspace) else { continue };
            let Ok(bytes) = client.contents(&origin.repository, &path.to_string_lossy(), &origin.commit)
            else {
                continue;
            };
            let Ok(text) = bytes.map(String::from_utf8).transpose() else { continue };
            let _ = session.ask(&Request::Reviewed { file, text });
        }
    }

    /// Ends the recording, judges it, and tells the result everywhere.
    fn post(&self, inputs: &Inputs) -> Result<u8, Error> {
        let _patient = run::patience();
        if let Some(found) = variable("STATE_unsupported") {
            let report = not_watched(&found, inputs.on_unsupported, &self.workspace);
            let reports = Directory::open(&inputs.report_dir).map_err(Error::Report)?;
            reports
                .clear()
                .and_then(|()| reports.write_all(&report, detections::all()))
                .map_err(Error::Report)?;
            Self::tell(&report, reports.path(), inputs, false)?;
            // `pre` failed the job where it should.
            return Ok(0);
        }
        let Some(id) = variable("STATE_session") else {
            error("edamame-guard", "No recorder was started, so this job was not watched.");
            return Ok(125);
        };
        let session = Session::find(Some(&id))?;
        if let Some(finished) = session.finished() {
            return Self::ended_early(&finished.report_dir);
        }
        let refused = if variable("STATE_policy").as_deref() == Some("open") {
            self.decide(inputs, &session, Moment::Late).err()
        } else {
            None
        };
        self.hand_reviewed(inputs, &session);
        let (report, directory) = sidecar::close(&session, Some(&inputs.report_dir), &inputs.artifacts)?;
        let status = Self::tell(&report, &directory, inputs, true)?;
        // What was recorded is told all the same.
        refused.map_or(Ok(status), Err)
    }

    /// Says that the recorder was finished before `post`, which is this action's to do: what came after nobody saw.
    fn ended_early(report_dir: &Path) -> Result<u8, Error> {
        error(
            "edamame-guard was not watching to the end",
            &format!(
                "A step of this job ended the recording by `edamame-guard finish`; what came after it was not seen. The report up to there is in {}.",
                report_dir.display()
            ),
        );
        let blind = CoverageState::Blind.as_str();
        for (name, value) in [("verdict", blind), ("coverage", blind), ("watching", "false")] {
            set("GITHUB_OUTPUT", name, value)?;
        }
        set("GITHUB_OUTPUT", "report-dir", &report_dir.to_string_lossy())?;
        Ok(125)
    }

    /// Log, annotations, outputs and summary; gives the step's status.
    fn tell(report: &Report, directory: &Path, inputs: &Inputs, is_watched: bool) -> Result<u8, Error> {
        let shown = directory.to_string_lossy();
        let style = terminal::Style { colour: false, width: 120 };
        say_untrusted(&terminal::render(report, style, Some(&shown)));
        let is_blinded = report.exit.guard == 125 || report.findings.iter().any(says_it_went_dark);
        if is_watched {
            run::print(&github::workflow_commands(report));
            if inputs.is_audit_alone {
                would_have_failed(report);
            }
            // Where the sensor was blind at the end, the annotations above say so.
            if is_blinded && report.exit.guard != 125 {
                error(
                    "edamame-guard was not watching all the time",
                    "The recorder was ended, stopped or robbed of its hooks during the job. What it saw is judged; what it did not see can't be, so this job is not green.",
                );
            }
        }
        let file = |wanted: &Option<PathBuf>, format: Format| {
            wanted.clone().unwrap_or_else(|| directory.join(format.file_name()))
        };
        let sarif = file(&inputs.sarif_file, Format::Sarif);
        let junit = file(&inputs.junit_file, Format::Junit);
        for (place, format) in [(&inputs.sarif_file, Format::Sarif), (&inputs.junit_file, Format::Junit)] {
            if let Some(place) = place {
                copy(report, format, place).map_err(Error::Report)?;
            }
        }
        let outputs = [
            ("verdict", report.verdict.as_str().to_owned()),
            ("findings", report.findings.len().to_string()),
            ("effective-mode", report.mode.to_owned()),
            ("coverage", report.coverage.state.as_str().to_owned()),
            ("lost-events", report.coverage.lost_events.to_string()),
            ("watching", (is_watched && !is_blinded).to_string()),
            ("sarif-file", sarif.to_string_lossy().into_owned()),
            ("junit-file", junit.to_string_lossy().into_owned()),
            ("report-dir", shown.into_owned()),
        ];
        for (name, value) in &outputs {
            set("GITHUB_OUTPUT", name, value)?;
        }
        if inputs.job_summary
            && let Some(file) = variable("GITHUB_STEP_SUMMARY")
        {
            let mut text = Vec::new();
            crate::reports::write(Format::Summary, report, detections::all(), &mut text)
                .map_err(Error::Report)?;
            let text = String::from_utf8_lossy(&text);
            let whole: String = if text.len() <= runner::LONGEST_SUMMARY {
                text.into_owned()
            } else {
                "The summary is too long to be shown here; it is `summary.md` of the report.\n".to_owned()
            };
            runner::append(Path::new(&file), &whole).map_err(|source| at(&file, source))?;
        }
        publish(report, inputs);
        Ok(if is_watched && is_blinded { 125 } else { report.exit.guard })
    }
}

/// One of the rules that say the recorder itself was touched.
fn says_it_went_dark(finding: &Finding) -> bool {
    matches!(finding.rule.0, "coverage-heartbeat" | "coverage-hook")
}

/// Check run, code scanning and comment, as far as the token may. What does not work is a line of the log, and a
/// notice where somebody asked for it.
fn publish(report: &Report, inputs: &Inputs) {
    let channels = github::Channels {
        check_run: true,
        code_scanning: inputs.upload_sarif != Some(false),
        comment: inputs.pr_comment,
    };
    let is_asked = inputs.upload_sarif == Some(true) || inputs.pr_comment;
    for text in github::publish(report, &place(), channels, &client(inputs)) {
        if is_asked {
            notice(&text.to_string());
        } else {
            say_untrusted(&text.to_string());
        }
    }
}

fn client(inputs: &Inputs) -> github::Client {
    let base = variable("GITHUB_API_URL").unwrap_or_else(|| "https://api.github.com".to_owned());
    github::Client::new(&base, inputs.token.as_deref())
}

/// Where on GitHub this job is.
fn place() -> github::Place {
    let text = |name: &str| variable(name).unwrap_or_default();
    let event: serde_json::Value = serde_json::from_str(&event()).unwrap_or_default();
    let pull = &event["pull_request"];
    let pull_request = pull["number"].as_u64().zip(pull["head"]["sha"].as_str());
    let repository = text("GITHUB_REPOSITORY");
    // `owner/name/.github/workflows/ci.yml@refs/heads/main`
    let reference = text("GITHUB_WORKFLOW_REF");
    let workflow = reference
        .strip_prefix(&format!("{repository}/"))
        .and_then(|rest| rest.split_once('@'))
        .map(|(path, _)| path.to_owned());
    let run = text("GITHUB_RUN_ID");
    github::Place {
        workflow,
        job: inputs::job_and_leg(&text("GITHUB_JOB"), &text("INPUT_MATRIX")),
        commit: text("GITHUB_SHA"),
        reference: text("GITHUB_REF"),
        pull_request: pull_request
            .map(|(number, head)| github::PullRequest { number, head: head.to_owned() }),
        attempt: text("GITHUB_RUN_ATTEMPT").parse().unwrap_or(1),
        page: (!run.is_empty())
            .then(|| format!("{}/{repository}/actions/runs/{run}", text("GITHUB_SERVER_URL"))),
        repository,
    }
}

fn event() -> String {
    variable("GITHUB_EVENT_PATH").and_then(|file| std::fs::read_to_string(file).ok()).unwrap_or_default()
}

/// Prints text that others chose, with the runner told to take no commands from it.
fn say_untrusted(text: &str) {
    match github::random_token() {
        Ok(token) => run::print(&github::quoted(text, &token)),
        // Without a word that nobody can guess the text stays in the report.
        Err(_) => run::print("the findings are in the report\n"),
    }
}

/// `egress-policy: audit` alone never fails; what it held back is said.
fn would_have_failed(report: &Report) {
    let default = FailOn::From(if report.policy.is_some() { Severity::Medium } else { Severity::High });
    let titles: Vec<&str> = report
        .findings
        .iter()
        .filter(|finding| default.fails(finding.severity, finding.confidence))
        .map(|finding| finding.title.as_str())
        .collect();
    if let Some(first) = titles.first() {
        notice(&format!(
            "`egress-policy: audit` alone never fails a job. Without it {} would have failed this one, first of all: {first}",
            if titles.len() == 1 { "1 finding".to_owned() } else { format!("{} findings", titles.len()) },
        ));
    }
}

/// The report of a job that nobody watched.
fn not_watched(found: &str, on_unsupported: UnsupportedArgument, workspace: &Path) -> Report {
    let time = run::now();
    let home = PathBuf::from(variable("HOME").unwrap_or_else(|| "/".to_owned()));
    let user = person().map_or_else(|| nix::unistd::geteuid().as_raw(), |(user, _)| user);
    let (job, _) = runners::local::session(workspace, &home, user);
    let sight = Sight {
        sensor: "none".to_owned(),
        tier: String::new(),
        process: Reach::None,
        file: Reach::None,
        egress: Reach::None,
        hooks: std::collections::BTreeMap::new(),
        gaps: Vec::new(),
    };
    let mut engine = Engine::new(Policy::absent(), Settings { fail_on: None });
    engine.accept(
        0,
        &Input::Start(Start {
            schema: crate::evidence::SCHEMA.to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            time,
            guard: ProcessKey { pid: std::process::id(), start: 0 },
            program: None,
            fail_on: None,
            key: None,
            job,
            sight,
        }),
    );
    engine.accept(1, &Input::Fact(Fact::Gap { text: found.to_owned() }));
    engine.accept(2, &Input::End(End { time, command: None, signal: None, watching: false, client: None }));
    let mut report = engine.finish();
    if on_unsupported != UnsupportedArgument::Fail {
        report.exit.guard = 0;
    }
    report
}

/// Writes one format where the workflow wants it, through no link.
fn copy(report: &Report, format: Format, place: &Path) -> std::io::Result<()> {
    let (Some(folder), Some(name)) = (place.parent(), place.file_name().and_then(|name| name.to_str()))
    else {
        return Err(std::io::Error::other(format!("`{}` names no file", place.display())));
    };
    let mut content = Vec::new();
    crate::reports::write(format, report, detections::all(), &mut content)?;
    Directory::open(folder)?.replace(name, &mut content.as_slice())
}

/// Keeps a value for the later stages.
fn keep(name: &str, value: &str) -> Result<(), Error> {
    set("GITHUB_STATE", name, value)
}

/// One line of a step's file. A value with a line break would be two.
fn set(file: &str, name: &str, value: &str) -> Result<(), Error> {
    let Some(path) = variable(file) else { return Ok(()) };
    let value = value.replace(['\r', '\n'], " ");
    runner::append(Path::new(&path), &format!("{name}={value}\n")).map_err(|source| at(&path, source))
}

fn at(path: &str, source: std::io::Error) -> Error {
    Error::Host { what: path.to_owned(), source }
}
