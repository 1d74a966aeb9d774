//! `start`, `load`, `status`, `finish`: a recorder beside a job that somebody else runs.
//!
//! `start` leaves a detached process behind that only records. Judging happens in `finish`, over
//! the record, so a sidecar that was killed still leaves everything it saw.

use std::ffi::{OsStr, OsString};
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _};
use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{SignalKind, signal};

use clap::ValueEnum as _;

use crate::cli::{AgentOutput, Channels, Watching};
use crate::detections;
use crate::engine::{End, HEARTBEAT_NS, Heartbeat, Input, Start};
use crate::event::{Activity, Fact, Sight, Timestamp};
use crate::evidence::{self, Key, Recording, Seal, Store, Writer, parts};
use crate::finding::{FailOn, Report};
use crate::intent::gitlab::Handed;
use crate::job::{Job, Provider};
use crate::lookup::{Base, Lookup};
use crate::policy::Policy;
use crate::posture::Camera;
use crate::redact::Redactor;
use crate::reports::Directory;
use crate::run::hooks::{self, Ears};
use crate::run::streams::{self, Between, StandBy, Streams};
use crate::run::telemetry::{self, Telemetry};
use crate::run::{self, Clock, Error, TICK};
use crate::runners;
use crate::secrets::Matcher;
use crate::sensors::{Chosen, Sensor};
use crate::session::{About, Answer, Finished, NoSession, Request, Session};
use crate::transcripts::Transcripts;

/// The word that makes this program the detached recorder; not for people.
pub const RECORD: &str = "__record";
/// A session has a file of this name if its recorder passes the job's output on.
const PASSES_LOG: &str = "passes-log";

/// What `start` was asked for, resolved.
#[derive(Debug)]
pub struct Wanted {
    pub watching: Watching,
    pub policy: Option<PathBuf>,
    pub fail_on: Option<FailOn>,
    pub report_dir: PathBuf,
    /// By what agents tell their calls beside their records.
    pub channels: Channels,
    /// Where pipes for the job's output are to be.
    pub log_pipes: Option<PathBuf>,
    /// Files to look for secrets in at the end, as GitLab names artifacts.
    pub search: Vec<String>,
}

/// What the recorder tells `start` once it watches.
#[derive(Debug, serde::Serialize, serde::Deserialize)]
pub(crate) struct Ready {
    pub sight: Sight,
    /// About the choice of the sensor.
    said: Option<String>,
    pub processes: usize,
    /// By what the recording is known: public key, and digest of its first record.
    pub key: String,
    pub genesis: String,
    /// The port where agents' telemetry is taken in.
    telemetry: Option<u16>,
}

/// A recorder at work.
#[derive(Debug)]
pub(crate) struct Begun {
    pub session: Session,
    pub ready: Ready,
}

/// Starts the recorder and returns when it really watches.
///
/// The job is the process tree of whoever called `start`: the shell or runner above it.
pub fn start(wanted: &Wanted) -> Result<u8, Error> {
    // The policy is the one of now: what the job makes of the file later doesn't count. One that
    // can't be read must be said now too, not at the end.
    let policy = wanted.policy.clone().or_else(|| {
        let directory = std::env::current_dir().ok()?;
        let file = runners::local::workspace(&directory).join(run::POLICY_FILE);
        run::is_taken(&file).then_some(file)
    });
    if let Some(file) = &policy {
        run::load_policy(file)?;
    }
    let directory = std::env::current_dir()
        .map_err(|source| Error::Host { what: "the working folder".to_owned(), source })?;
    let (root, is_in_step) = root();
    let Begun { session, ready } = begin(wanted, root, is_in_step, &directory)?;
    if let Some(said) = &ready.said {
        eprintln!("{said}");
    }
    let status = match &policy {
        Some(file) => load(Some(&session.id), file)?,
        None => 0,
    };
    run::print(&format!("{}\n", session.id));
    eprintln!(
        "watching: session {}, {} {}: process {}, file {}, egress {}; {} processes were running before",
        session.id,
        ready.sight.sensor,
        ready.sight.tier,
        ready.sight.process,
        ready.sight.file,
        ready.sight.egress,
        ready.processes,
    );
    eprintln!("{}", run::known_by(&ready.key, &ready.genesis));
    if let Some(port) = ready.telemetry {
        eprintln!(
            "telemetry: agents may export their tool calls to {}; let the shell take `edamame-guard status --environment`, and give Codex {}",
            telemetry::endpoint(port),
            telemetry::codex_option(port)
        );
    }
    Ok(status)
}

/// Starts the recorder of the tree below `root`, whose work is in `directory`; returns when it watches.
///
/// `is_in_step`: a step of a runner called, which is no step of ours.
pub(crate) fn begin(wanted: &Wanted, root: i32, is_in_step: bool, directory: &Path) -> Result<Begun, Error> {
    let session = Session::create()?;
    let host = |source| Error::Host { what: "the recorder".to_owned(), source };
    drop(private(&session.file("log")).map_err(host)?);
    let mut words: Vec<OsString> =
        vec![std::env::current_exe().map_err(host)?.into(), RECORD.into(), session.folder.clone().into()];
    words.push(root.to_string().into());
    words.push(std::path::absolute(&wanted.report_dir).map_err(host)?.into());
    words.push(wanted.fail_on.map_or("", FailOn::as_str).into());
    words.push(if wanted.channels.agent_hooks { "hooks" } else { "" }.into());
    words.push(wanted.channels.agent_telemetry.map_or_else(String::new, |port| port.to_string()).into());
    let log_pipes = wanted.log_pipes.as_deref().map(std::path::absolute).transpose().map_err(host)?;
    words.push(log_pipes.unwrap_or_default().into());
    words.push(wanted.search.join("\n").into());
    words.extend(self::words(wanted.watching).map(OsString::from));
    for output in &wanted.channels.agent_outputs {
        words.extend([output.agent.clone().into(), output.file.clone().into()]);
    }
    let has_systemd = nix::unistd::geteuid().is_root() && Path::new("/run/systemd/system").is_dir();
    let has_log = wanted.log_pipes.is_some();
    let mut said = launch(
        &session,
        directory,
        (is_in_step, has_log),
        &if has_systemd { scope(&session.id, &words) } else { words.clone() },
    );
    if let (true, Ok(Err(reason))) = (has_systemd, &said) {
        eprintln!(
            "warning: systemd gave the recorder no unit of its own, so it stays in this step's: {reason}"
        );
        said = launch(&session, directory, (is_in_step, has_log), &words);
    }
    match said.map_err(host)? {
        Ok(ready) => Ok(Begun { session, ready }),
        Err(reason) => {
            let _ = std::fs::remove_dir_all(&session.folder);
            Err(Error::Recorder(reason))
        }
    }
}

/// Starts the recorder by these words; what it says once it watches, or why it doesn't.
fn launch(
    session: &Session,
    directory: &Path,
    (is_in_step, has_log): (bool, bool),
    words: &[OsString],
) -> io::Result<Result<Ready, String>> {
    let [program, arguments @ ..] = words else { return Ok(Err("there is no program".to_owned())) };
    let mut command = Command::new(program);
    if is_in_step {
        // Else that step would pass for the guard's own.
        command.env_remove("GITHUB_ACTION");
    }
    let recorder = command
        .args(arguments)
        .current_dir(directory)
        // A runner ends whatever carries its mark when the job is over.
        .env_remove("RUNNER_TRACKING_ID")
        // Where the job's output goes is told by what we were given; the recorder puts it aside at once.
        .stdin(if has_log { Stdio::inherit() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(if has_log { Stdio::inherit() } else { open_log(session)?.into() })
        .spawn();
    let mut recorder = match recorder {
        Ok(recorder) => recorder,
        Err(error) => return Ok(Err(format!("{}: {error}", program.display()))),
    };
    let mut line = String::new();
    if let Some(mut output) = recorder.stdout.take() {
        output.read_to_string(&mut line)?;
    }
    Ok(serde_json::from_str::<Ready>(&line).map_err(|_| {
        let log = std::fs::read_to_string(session.file("log")).unwrap_or_default();
        log.trim().to_owned()
    }))
}

fn open_log(session: &Session) -> io::Result<File> {
    OpenOptions::new().write(true).truncate(true).open(session.file("log"))
}

/// The same words, run in a scope of systemd: out of the cgroup that goes when the step or its service does. A
/// scope keeps environment and descriptors, so nothing of them shows in a unit's properties; nothing starts it again,
/// and stopping it kills no process but the recorder.
fn scope(id: &str, words: &[OsString]) -> Vec<OsString> {
    let options = ["systemd-run", "--scope", "--quiet", "--collect", "--property=KillMode=process"];
    let unit = format!("--unit=edamame-guard-{id}");
    let own = options.map(OsString::from).into_iter().chain([unit.into(), "--".into()]);
    own.chain(words.iter().cloned()).collect()
}

/// The sensor that is asked for, as the recorder's arguments.
fn words(watching: Watching) -> [String; 4] {
    fn word(value: Option<clap::builder::PossibleValue>) -> String {
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }
    [
        word(watching.sensor.to_possible_value()),
        word(watching.on_unsupported.and_then(|it| it.to_possible_value())),
        watching.ring_size.map_or_else(String::new, |bytes| bytes.to_string()),
        watching.part_size.map_or_else(String::new, |bytes| bytes.to_string()),
    ]
}

/// What [`words`] says.
fn watching([sensor, on_unsupported, ring_size, part_size]: [&OsStr; 4]) -> Result<Watching, Error> {
    let refused = |_| Error::Usage("not for people".to_owned());
    let on_unsupported = on_unsupported.to_string_lossy();
    Ok(Watching {
        sensor: crate::cli::SensorArgument::from_str(&sensor.to_string_lossy(), false).map_err(refused)?,
        on_unsupported: match &*on_unsupported {
            "" => None,
            word => Some(crate::cli::UnsupportedArgument::from_str(word, false).map_err(refused)?),
        },
        ring_size: ring_size.to_str().and_then(|bytes| bytes.parse().ok()),
        part_size: part_size.to_str().and_then(|bytes| bytes.parse().ok()),
    })
}

/// The process whose tree is the job: who called us.
///
/// In `ID=$(edamame-guard start)` that is a copy of the shell which is gone a moment later. A copy
/// runs the same image with the same words as the process it was forked from, so those are passed over.
fn caller() -> i32 {
    const DEEPEST: usize = 32;
    let look = |pid: i32| {
        let process = procfs::process::Process::new(pid).ok()?;
        Some((process.exe().ok()?, process.cmdline().ok()?, process.stat().ok()?.ppid))
    };
    let mut pid = nix::unistd::getppid().as_raw();
    for _ in 0..DEEPEST {
        let Some((image, words, above)) = look(pid) else { break };
        match look(above) {
            Some((image_above, words_above, _)) if (&image_above, &words_above) == (&image, &words) => {
                pid = above;
            }
            // `sudo edamame-guard start` is the shell's call, and one sudo may stand above another.
            Some(_) if image.file_name().is_some_and(|name| name == "sudo") => pid = above,
            _ => break,
        }
    }
    pid
}

/// The process whose tree is the job, and whether a step of a runner called us: then the job is the runner's whole tree, not
/// the one step's.
fn root() -> (i32, bool) {
    const DEEPEST: usize = 64;
    let caller = caller();
    let variable = |name: &str| std::env::var(name).ok();
    let action = |pid: i32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).ok()?;
        let mut pairs = environment.split(|byte| *byte == 0);
        pairs.find_map(|pair| pair.strip_prefix(b"GITHUB_ACTION=").map(<[u8]>::to_vec))
    };
    let Some(own) = action(caller).filter(|_| runners::github::is_here(&variable)) else {
        return (caller, false);
    };
    let mut pid = caller;
    for _ in 0..DEEPEST {
        let above =
            procfs::process::Process::new(pid).and_then(|process| process.stat()).map(|stat| stat.ppid);
        match above {
            Ok(above) if above > 1 && action(above).as_ref() == Some(&own) => pid = above,
            Ok(above) if above > 1 => return (above, true),
            _ => break,
        }
    }
    (caller, false)
}

/// A new file that only root can read.
fn private(path: &Path) -> io::Result<File> {
    OpenOptions::new().create_new(true).read(true).write(true).mode(0o600).open(path)
}

/// Gives a session its policy, once.
pub fn load(id: Option<&str>, file: &Path) -> Result<u8, Error> {
    let text = run::read_policy(file)?;
    let policy = Policy::parse(&text, &file.to_string_lossy()).map_err(Error::Policy)?;
    let session = Session::find(id)?;
    give(&session, text, policy.origin().unwrap_or_default().to_owned())
}

/// Hands a session the text of a policy that was parsed already.
pub(crate) fn give(session: &Session, text: String, origin: String) -> Result<u8, Error> {
    let answer = session.ask(&Request::Load { policy: text, origin }).map_err(Error::NotWatching)?;
    match answer.refused {
        Some(reason) => Err(Error::Refused(reason)),
        None if !answer.unmet.is_empty() => {
            eprintln!("{}", run::not_met(&answer.unmet));
            Ok(86)
        }
        None => Ok(0),
    }
}

/// Says whether a session is watching; 125 if it should be and isn't.
pub fn status(id: Option<&str>, as_json: bool) -> Result<u8, Error> {
    let session = Session::find(id)?;
    let telemetry = session.about().ok().and_then(|about| about.telemetry).map(telemetry::endpoint);
    let finished = session.finished();
    let answer = session.ask(&Request::Status).ok();
    let since = session.about().map(|about| about.since).unwrap_or_default();
    let watching = answer.as_ref().is_some_and(|answer| answer.watching);
    let is_there = answer.is_some();
    let (events, lost) =
        answer.as_ref().map_or((None, None), |answer| (Some(answer.events), Some(answer.lost)));
    let failure = answer.as_ref().and_then(|answer| answer.failure.clone());
    let lost_hooks = answer.map(|answer| answer.lost_hooks).unwrap_or_default();
    if as_json {
        let status = serde_json::json!({
            "session": session.id, "watching": watching, "since": since.rfc3339(),
            "events": events, "lost": lost, "lost_hooks": lost_hooks, "failure": failure, "finished": finished.is_some(),
            "telemetry": telemetry,
        });
        run::print(&format!("{status}\n"));
    } else {
        let count =
            |count: Option<u64>| count.map_or_else(|| "unknown".to_owned(), |count| count.to_string());
        let state = match (&finished, watching) {
            (Some(_), _) => "finished",
            (None, true) => "watching",
            (None, false) if !is_there => "NOT WATCHING: the recorder is gone or does not answer",
            (None, false) if failure.is_some() || lost_hooks.is_empty() => {
                "NOT WATCHING: the record can't be written"
            }
            (None, false) => "NOT WATCHING: hooks were taken away",
        };
        let failure = failure.map_or_else(String::new, |reason| format!("reason  {reason}\n"));
        let hooks = match lost_hooks.as_slice() {
            [] => String::new(),
            hooks => format!("hooks   gone: {}\n", hooks.join(", ")),
        };
        run::print(&format!(
            "session {}  {state}\nsince   {}\nrecords {}\nlost    {}\n{hooks}{failure}",
            session.id,
            since.rfc3339(),
            count(events),
            count(lost)
        ));
    }
    Ok(if watching || finished.is_some() { 0 } else { 125 })
}

/// Prints, for a shell to evaluate, the variables by which agents send their telemetry to a session.
pub fn environment(id: Option<&str>) -> Result<u8, Error> {
    let session = Session::find(id)?;
    let about = session.about().map_err(|source| Error::Host { what: "the session".to_owned(), source })?;
    let Some(port) = about.telemetry else {
        let text = format!("session {} takes in no telemetry: `start --agent-telemetry` does", session.id);
        return Err(Error::Usage(text));
    };
    for (name, value) in telemetry::environment(port) {
        run::print(&format!("export {name}='{value}'\n"));
    }
    Ok(0)
}

/// Stops a session, judges its record and writes the reports. A second time it says the same again.
pub fn finish(id: Option<&str>, report_dir: Option<&Path>, artifacts: &[PathBuf]) -> Result<u8, Error> {
    let _patient = run::patience();
    let session = Session::find(id)?;
    if let Some(finished) = session.finished() {
        eprintln!("session {} is finished; its reports are in {}", session.id, finished.report_dir.display());
        return Ok(finished.status);
    }
    let (report, directory) = close(&session, report_dir, artifacts)?;
    run::show(&report, Some(&directory));
    // What we said goes through the recorder as well, where that passes the job's output on.
    if session.file(PASSES_LOG).exists() {
        if session.ask(&Request::Drain).is_err() {
            // Then who stands by for it is at work, and can't be asked.
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = std::fs::remove_file(session.file("control.sock"));
    }
    Ok(report.exit.guard)
}

/// Stops a session that is not finished, judges its record and writes the reports; gives them and their folder.
pub(crate) fn close(
    session: &Session,
    report_dir: Option<&Path>,
    artifacts: &[PathBuf],
) -> Result<(Report, PathBuf), Error> {
    let about = session.about().map_err(|source| Error::Host { what: "the session".to_owned(), source })?;
    let answer = session.ask(&Request::Finish { client: std::process::id() });
    match &answer {
        Ok(Answer { failure: Some(reason), .. }) => {
            eprintln!("warning: the record could not be written to its end: {reason}; judging what it holds");
        }
        Ok(_) => {}
        Err(_) => {
            eprintln!(
                "warning: the recorder of session {} is gone or does not answer; judging what it left",
                session.id
            );
            end_recorder(session, about.pid);
            hooks::remove(session);
        }
    }
    let policy = match session.file("policy.yml") {
        loaded if loaded.exists() => {
            let origin = std::fs::read_to_string(session.file("policy.origin")).unwrap_or_default();
            run::load_policy_as(&loaded, &origin)?
        }
        _ => Policy::absent(),
    };
    let lock = policy.lock();
    let fail_on = about.fail_on.as_deref().and_then(|text| text.parse().ok());
    let record = session.file(parts::NAME);
    let failed = |source| Error::Recording { path: record.clone(), source };
    let opened = Recording::open(&record).map_err(failed)?;
    let (mut report, flaw) = run::judge_what_is_left(opened, policy, fail_on);
    if let Some(flaw) = flaw {
        eprintln!("warning: the record ends early: {flaw}");
    }
    let answer = answer.unwrap_or_default();
    if answer.policy.as_ref().is_some_and(|digest| *digest != evidence::digest(lock.as_bytes())) {
        report.proves_nothing("the session's policy is not the one that its recorder was given".to_owned());
    }
    let directory = report_dir.map_or(about.report_dir, Path::to_owned);
    let reports = Directory::open(&directory).map_err(Error::Report)?;
    reports
        .clear()
        .and_then(|()| copy_parts(&record, &reports))
        .and_then(|()| reports.replace("policy.lock.yml", &mut lock.as_bytes()))
        .and_then(|()| reports.write_all(&report, detections::all()))
        .map_err(Error::Report)?;
    let statement = run::state(&report, &reports, &lock, answer.ends, answer.key.as_deref(), artifacts)
        .map_err(Error::Report)?;
    let statement = String::from_utf8_lossy(&statement).into_owned();
    match session.ask(&Request::Seal { statement }) {
        Ok(Answer { seal: Some(seal), .. }) => run::save_seal(&seal, &reports).map_err(Error::Report)?,
        _ => eprintln!("warning: the recorder did not sign, so there is no evidence.sig"),
    }
    let finished = Finished { status: report.exit.guard, report_dir: directory.clone() };
    // The report has the record by now; where it filled the disk, its place is wanted.
    session
        .save("finished.json", &finished)
        .or_else(|_| {
            remove_parts(&record);
            session.save("finished.json", &finished)
        })
        .map_err(|source| Error::Host { what: "the session".to_owned(), source })?;
    if !session.file(PASSES_LOG).exists() {
        let _ = std::fs::remove_file(session.file("control.sock"));
    }
    remove_parts(&record);
    Ok((report, directory))
}

/// Puts the recording beside the reports, part by part.
fn copy_parts(record: &Path, reports: &Directory) -> io::Result<()> {
    for part in parts::of(record) {
        let name = part.file_name().unwrap_or_default().to_string_lossy();
        reports.replace(&name, &mut File::open(&part)?)?;
    }
    Ok(())
}

fn remove_parts(record: &Path) {
    for part in parts::of(record) {
        let _ = std::fs::remove_file(part);
    }
}

/// Ends a recorder that hangs, so that its record stands still. Only if it is really ours.
fn end_recorder(session: &Session, pid: u32) {
    let command = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
    let is_ours = words.get(1) == Some(&RECORD.as_bytes())
        && words.get(2) == Some(&session.folder.as_os_str().as_encoded_bytes());
    if let (true, Ok(pid)) = (is_ours, i32::try_from(pid)) {
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        // Its last write may still be under way.
        std::thread::sleep(Duration::from_millis(100));
    }
}

// --- the recorder -----------------------------------------------------------------------------

/// The detached process: records until `finish`, a signal, or a failure to write.
#[expect(clippy::too_many_lines, reason = "a recorder's beginning, in one order")]
pub fn record(arguments: &[OsString]) -> Result<u8, Error> {
    let [
        folder,
        root,
        report_dir,
        fail_on,
        hooks,
        port,
        log_pipes,
        search,
        sensor,
        on_unsupported,
        ring_size,
        part_size,
        outputs @ ..,
    ] = arguments
    else {
        return Err(Error::Usage("not for people".to_owned()));
    };
    let watching = watching([sensor, on_unsupported, ring_size, part_size])?;
    let host = |source| Error::Host { what: "the session".to_owned(), source };
    let folder = PathBuf::from(folder);
    let id = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let session = Session { id, folder };
    close_inherited();
    let outlets = (!log_pipes.is_empty()).then(|| put_aside(&session)).transpose().map_err(host)?;
    // Its own process group and session: a Ctrl-C or a runner's clean-up is for the job.
    let _ = nix::unistd::setsid();
    run::stay_when_memory_is_short();
    // Nobody else of this user may look for the key in our memory.
    let _ = nix::sys::prctl::set_dumpable(false);
    let key = Key::new().ok_or(Error::NoKey)?;
    let public_key = key.public();
    let root = root.to_string_lossy().parse().map_err(|_| Error::Usage("not for people".to_owned()))?;

    let directory = std::env::current_dir().map_err(host)?;
    let home = std::env::var_os("HOME").map_or_else(|| PathBuf::from("/"), PathBuf::from);
    let variable = |name: &str| std::env::var(name).ok();
    let is_github = runners::github::is_here(&variable);
    let (job, declarations) = if is_github {
        (runners::github::job(&directory, &home, person(), &variable), Vec::new())
    } else if runners::gitlab::is_here(&variable) {
        runners::gitlab::job(&directory, &home, person(), &variable)
    } else {
        runners::local::session(&directory, &home, person())
    };
    let (mut handed, handed_gaps) = match job.provider {
        Provider::Gitlab => runners::gitlab::artifacts(&job, &variable),
        _ => Default::default(),
    };
    handed
        .paths
        .extend(search.to_string_lossy().split('\n').filter(|path| !path.is_empty()).map(str::to_owned));
    let mut lookup = Lookup::default();
    if is_github {
        lookup.steps_of(root, &job);
    }
    let base = if is_github { runners::github::base(&variable) } else { runners::gitlab::base(&variable) };
    if let Some(commit) = base {
        let workspace = PathBuf::from(&job.workspace);
        lookup.compare_with(Base { workspace, commit, uid: person() });
    }
    let facts = runners::facts(&job);
    let mut camera = run::camera(&facts, &job);
    let snapshot = camera.start();
    let before = snapshot.clone();
    let mut ears = None;
    if hooks == "hooks" {
        let socket = hooks::socket_of(&session);
        match Ears::at(&socket) {
            Ok(heard) if hooks::install_for(&session, Path::new(&job.home), &socket).is_some() => {
                lookup.own_hooks(move |agent, command| hooks::is_own(&socket, agent, command));
                ears = Some(heard);
            }
            Ok(_) => {}
            Err(error) => eprintln!("warning: no hooks were put into agents' settings: {error}"),
        }
    }
    let port: Option<u16> = port.to_str().and_then(|port| port.parse().ok());
    let telemetry = port.map(run::telemetry).transpose()?;
    let port = telemetry.as_ref().map(Telemetry::port);
    let vault = run::leaks::vault(run::variables(), &facts, &[]);
    // What is forked from here on would be the job's.
    let log = outlets.and_then(|outlets| {
        Log::open(Path::new(log_pipes), outlets, &vault.matcher())
            .inspect_err(|error| eprintln!("warning: the job's output is not looked into: {error}"))
            .ok()
    });
    let Chosen { mut sensor, said } = run::start_sensor(watching, Path::new(&job.workspace))?;
    let running = sensor.adopt(root)?;
    let fail_on = fail_on.to_string_lossy().into_owned();
    let fail_on = (!fail_on.is_empty()).then_some(fail_on);
    let given: Option<FailOn> = fail_on.as_deref().and_then(|text| text.parse().ok());
    let clock = Clock::new();
    let about = About {
        pid: std::process::id(),
        since: clock.now(),
        report_dir: PathBuf::from(report_dir),
        fail_on: fail_on.clone(),
        telemetry: port,
    };
    let mut redactor = Redactor::new(run::variables());
    redactor.add_forms(vault.forms());
    let mut recorder = Recorder {
        redactor,
        matcher: vault.matcher(),
        workflow: None,
        handed,
        lookup,
        job: job.clone(),
        has_workflow: false,
        transcripts: run::transcripts(&facts, &job),
        writer: Writer::signed(
            Store::in_folder(&session.folder, watching.part_size.unwrap_or(parts::PART_BYTES))
                .map_err(host)?,
            key,
        ),
        policy: None,
        before,
        fail_on: given,
        clock,
        failure: None,
        lost: 0,
        ears,
        telemetry,
        log,
        session: session.clone(),
        camera,
        beat: about.since,
        since: about.since,
    };
    let mut sight = sensor.sight().clone();
    if let Some(gap) = Log::gap(recorder.log.as_ref()) {
        sight.gaps.push(gap);
    }
    if !recorder.matcher.is_empty() {
        sight.gaps.extend(handed_gaps);
    }
    recorder.take(Input::Start(Start {
        schema: evidence::SCHEMA.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        time: about.since,
        guard: sensor.guard(),
        program: runners::own_program(),
        fail_on,
        key: Some(public_key.clone()),
        job,
        sight: sight.clone(),
    }));
    for declaration in declarations {
        recorder.take(Input::Declaration(declaration));
    }
    let ready = Ready {
        sight,
        said,
        processes: running.len(),
        key: public_key,
        genesis: recorder.writer.ends().genesis,
        telemetry: port,
    };
    let outputs: Vec<AgentOutput> = outputs
        .chunks_exact(2)
        .map(|pair| AgentOutput { agent: pair[0].to_string_lossy().into_owned(), file: (&pair[1]).into() })
        .collect();
    let given = run::outputs(&outputs);
    for fact in facts.into_iter().chain(snapshot).chain(running.into_iter().map(Fact::Running)).chain(given) {
        recorder.take(Input::Fact(fact));
    }
    recorder.take(Input::Heartbeat(Heartbeat { time: recorder.beat, behind: 0 }));
    recorder.flush();
    if recorder.log.is_some() {
        session.keep(PASSES_LOG, &[]).map_err(host)?;
    }
    session.save("session.json", &about).map_err(host)?;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(host)?;
    runtime.block_on(async {
        let listener = UnixListener::bind(session.file("control.sock")).map_err(host)?;
        std::fs::set_permissions(session.file("control.sock"), std::fs::Permissions::from_mode(0o600))
            .map_err(host)?;
        // A handler stays when its stream is dropped, so what comes before the loop listens ends nobody.
        let odd = [SignalKind::interrupt(), SignalKind::hangup(), SignalKind::quit()];
        for kind in odd.into_iter().chain(run::survivable().map(SignalKind::from_raw)) {
            drop(signal(kind).map_err(host)?);
        }
        // From here on `start` may return.
        let mut output = io::stdout();
        serde_json::to_writer(&mut output, &ready).map_err(|error| host(error.into()))?;
        output.flush().map_err(host)?;
        let null = OpenOptions::new().write(true).open("/dev/null").map_err(host)?;
        // `start` waits for the end of our output, so that goes last.
        nix::unistd::dup2_stderr(&null).map_err(|errno| host(errno.into()))?;
        nix::unistd::dup2_stdout(&null).map_err(|errno| host(errno.into()))?;
        let is_finished = recorder.watch(sensor.as_mut(), &listener, &session).await.map_err(host)?;
        // What is done to sign goes past no hook of ours.
        drop(sensor);
        if is_finished {
            recorder.seal(&listener).await;
            recorder.drain(&listener).await;
        }
        Ok::<(), Error>(())
    })?;
    Ok(0)
}

/// Who the job runs as: who called sudo, where somebody did.
fn person() -> u32 {
    let own = nix::unistd::getuid().as_raw();
    let caller = std::env::var("SUDO_UID").ok().and_then(|uid| uid.parse().ok());
    caller.filter(|_| own == 0).unwrap_or(own)
}

/// Whoever waits for the end of a pipe that our caller left open would wait for us.
fn close_inherited() {
    const FIRST: i32 = 3;
    let open: Vec<i32> = std::fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    // The listing's own descriptor is gone by now; closing it again does no harm.
    for descriptor in open.into_iter().filter(|descriptor| *descriptor >= FIRST) {
        let _ = nix::unistd::close(descriptor);
    }
}

/// Puts aside where the job's standard output and error lead; ours go to the session's log.
fn put_aside(session: &Session) -> io::Result<[Option<Outlet>; 2]> {
    let outlets = [streams::outlet(&io::stdin()), streams::outlet(&io::stderr())];
    let null = File::open("/dev/null")?;
    nix::unistd::dup2_stderr(open_log(session)?)?;
    nix::unistd::dup2_stdin(null)?;
    Ok(outlets)
}

/// Where a stream of the job leads, and which object that is.
type Outlet = (OwnedFd, (u64, u64));

/// The job's output, where it goes through us.
struct Log {
    streams: Streams,
    /// What of it does not.
    missing: Option<&'static str>,
    /// Where the pipes have names, until somebody has opened them.
    folder: Option<PathBuf>,
    /// They pass the rest on when we are gone.
    _stand_by: Vec<StandBy>,
}

impl Log {
    /// How long its end is waited for.
    const PATIENCE: Duration = Duration::from_secs(2);

    /// Makes the pipes in this folder and begins to pass on what comes.
    fn open(folder: &Path, [output, error]: [Option<Outlet>; 2], matcher: &Matcher) -> io::Result<Self> {
        let missing = match (&output, &error) {
            _ if matcher.is_empty() => return Err(io::Error::other("there is no secret to look for")),
            (None, None) => return Err(io::Error::other("it goes to a terminal or to nobody")),
            (Some(_), None) => Some("standard error"),
            (None, Some(_)) => Some("standard output"),
            _ => None,
        };
        std::fs::DirBuilder::new().mode(0o700).create(folder)?;
        let is_one = output.as_ref().zip(error.as_ref()).is_some_and(|(one, other)| one.1 == other.1);
        let mut all = Vec::new();
        if let Some((to, _)) = output {
            let (file, name) = if is_one { ("both", "the output") } else { ("output", "standard output") };
            all.push(Between { name, from: pipe(folder, file)?, to });
        }
        if let Some((to, _)) = error.filter(|_| !is_one) {
            all.push(Between { name: "standard error", from: pipe(folder, "error")?, to });
        }
        // Last: whose job it is can put nothing else there before.
        nix::unistd::chown(folder, Some(nix::unistd::Uid::from_raw(person())), None)?;
        let stand_by = all.iter().map(StandBy::start).collect::<io::Result<_>>()?;
        let streams = Streams::between(all, matcher.clone())?;
        Ok(Self { streams, missing, folder: Some(folder.to_owned()), _stand_by: stand_by })
    }

    /// What is known from the beginning not to be seen of the job's output.
    fn gap(log: Option<&Self>) -> Option<String> {
        match log {
            None => Some("secrets in the job's log, which the runner writes".to_owned()),
            Some(log) => {
                log.missing.map(|name| format!("secrets in {name}, which goes to a terminal or to nobody"))
            }
        }
    }

    /// Takes the pipes' names away once something came through: nobody else is to find them, nor a job in its tree.
    fn hide(&mut self) {
        if self.streams.passed() > 0
            && let Some(folder) = self.folder.take()
        {
            let _ = std::fs::remove_dir_all(folder);
        }
    }

    /// Waits for what is on its way; what was not seen of it.
    fn end(&mut self) -> Option<String> {
        if let Some(folder) = self.folder.take() {
            let _ = std::fs::remove_dir_all(folder);
        }
        if !self.streams.settle(Self::PATIENCE) {
            return Some(
                "the job's output went on when the guard ended: secrets in the rest are not seen".to_owned(),
            );
        }
        (self.streams.passed() == 0)
            .then(|| "secrets in the job's log: nothing of it came by the guard".to_owned())
    }
}

/// A pipe with a name, which the job's user may open, and our end of it.
fn pipe(folder: &Path, name: &str) -> io::Result<OwnedFd> {
    let path = folder.join(name);
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::from_bits_truncate(0o600))?;
    nix::unistd::chown(&path, Some(nix::unistd::Uid::from_raw(person())), None)?;
    // Nobody writes to it yet, and that must not hold us up.
    let flags = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW | nix::libc::O_CLOEXEC;
    Ok(OpenOptions::new().read(true).custom_flags(flags).open(path)?.into())
}

struct Recorder {
    redactor: Redactor,
    matcher: Matcher,
    /// The workflow's text: it names what is uploaded.
    workflow: Option<String>,
    /// What the job hands over otherwise: to GitLab, and what `start` was told.
    handed: Handed,
    lookup: Lookup,
    job: Job,
    /// Somebody handed the workflow's file over.
    has_workflow: bool,
    transcripts: Transcripts,
    writer: Writer<Store>,
    /// What was loaded: text and origin.
    policy: Option<(String, String)>,
    /// The host's posture at the start, and the severity that was asked for: what a policy has to meet.
    before: Vec<Fact>,
    fail_on: Option<FailOn>,
    clock: Clock,
    failure: Option<io::Error>,
    lost: u64,
    /// Hooks of ours in agents' settings.
    ears: Option<Ears>,
    telemetry: Option<Telemetry>,
    log: Option<Log>,
    session: Session,
    camera: Camera,
    beat: Timestamp,
    since: Timestamp,
}

impl Recorder {
    fn take(&mut self, input: Input) {
        let facts = self.lookup.before(&input);
        for secret in self.lookup.take_secrets() {
            self.redactor.add(secret);
        }
        for fact in facts {
            let fact = Input::Fact(fact);
            self.transcripts.note(&fact);
            self.put(fact);
        }
        self.transcripts.note(&input);
        self.put(input);
    }

    fn put(&mut self, mut input: Input) {
        if let Input::Event(event) = &input
            && let Activity::Lost { count, .. } = event.activity
        {
            self.lost += count;
        }
        self.redactor.input(&mut input);
        if self.failure.is_none()
            && let Err(error) = self.writer.append(&input)
        {
            self.failure = Some(error);
        }
    }

    fn flush(&mut self) {
        if self.failure.is_none()
            && let Err(error) = self.writer.flush()
        {
            self.failure = Some(error);
        }
    }

    fn answer(&self, sensor: &dyn Sensor) -> Answer {
        Answer {
            watching: self.failure.is_none() && sensor.is_watching(),
            since: self.since,
            events: self.writer.count(),
            lost: self.lost,
            lost_hooks: sensor.lost_hooks().into_iter().map(str::to_owned).collect(),
            failure: self.failure.as_ref().map(ToString::to_string),
            policy: Some(self.policy_digest()),
            unreviewed: self.lookup.unreviewed(),
            ends: self.writer.ends(),
            key: self.writer.key().map(Key::public),
            ..Answer::default()
        }
    }

    /// Of the lock of the policy that was loaded.
    fn policy_digest(&self) -> String {
        let loaded = self.policy.as_ref().and_then(|(text, origin)| Policy::parse(text, origin).ok());
        evidence::digest(loaded.unwrap_or_else(Policy::absent).lock().as_bytes())
    }

    /// Signs the statement about what was recorded, once, and only for whom the folder is for.
    async fn seal(&self, listener: &UnixListener) {
        /// Time to judge the largest record.
        const PATIENCE: Duration = Duration::from_secs(600);
        let signed = async {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let served = tokio::time::timeout(Duration::from_secs(5), self.sign(stream));
                if matches!(served.await, Ok(Ok(true))) {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(PATIENCE, signed).await;
    }

    /// Passes the job's output on until whoever finished us has said all it has to say.
    async fn drain(&self, listener: &UnixListener) {
        /// Time to print a report.
        const PATIENCE: Duration = Duration::from_secs(10);
        let Some(log) = &self.log else { return };
        let drained = async {
            loop {
                let Ok((stream, _)) = listener.accept().await else { continue };
                let mut stream = tokio::io::BufReader::new(stream);
                let mut line = String::new();
                let read = tokio::time::timeout(Duration::from_secs(5), stream.read_line(&mut line));
                if !matches!(read.await, Ok(Ok(_)))
                    || !matches!(serde_json::from_str(&line), Ok(Request::Drain))
                {
                    continue;
                }
                log.streams.settle(Log::PATIENCE);
                let mut line = serde_json::to_vec(&Answer::default()).unwrap_or_default();
                line.push(b'\n');
                let _ = stream.get_mut().write_all(&line).await;
                return;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, drained).await;
    }

    /// Takes in what was found in the job's output.
    fn read_log(&mut self) {
        let Some(log) = &mut self.log else { return };
        log.hide();
        let found = log.streams.found();
        let time = self.clock.now();
        for (place, found) in found {
            let (secret, encoding) = (found.secret, found.encoding.as_str().to_owned());
            self.take(Input::Fact(Fact::Leak { secret, encoding, place: place.to_owned(), time }));
        }
    }

    async fn sign(&self, stream: UnixStream) -> io::Result<bool> {
        let mut stream = tokio::io::BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let mut answer =
            Answer { since: self.since, events: self.writer.count(), lost: self.lost, ..Answer::default() };
        if let (Request::Seal { statement }, Some(key)) = (serde_json::from_str(&line)?, self.writer.key()) {
            let policy = self.policy_digest();
            answer.seal = Some(Seal::new(key, &self.writer.ends(), &policy, statement.as_bytes()));
        }
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        stream.get_mut().write_all(&line).await?;
        Ok(answer.seal.is_some())
    }

    /// Takes in what agents handed to our hooks, and what they exported.
    fn hear(&mut self) {
        let exports = self.telemetry.as_ref().map(Telemetry::received).unwrap_or_default();
        for input in self.transcripts.exported(exports, run::now(), false) {
            self.take(input);
        }
        let heard = self.ears.as_mut().map(Ears::heard).unwrap_or_default();
        for (agent, payload) in heard.iter().filter_map(|text| hooks::message(text)) {
            for input in self.transcripts.hooked(&agent, &payload, run::now()) {
                self.take(input);
            }
        }
    }

    fn end(&mut self, sensor: &mut dyn Sensor, client: Option<u32>) {
        self.hear();
        let gap = self.log.as_mut().and_then(Log::end);
        self.read_log();
        for event in sensor.drain(true) {
            self.take(Input::Event(event));
        }
        for fact in self.lookup.end() {
            self.take(Input::Fact(fact));
        }
        for text in sensor.gaps().into_iter().chain(gap) {
            self.take(Input::Fact(Fact::Gap { text }));
        }
        for input in self.transcripts.end(run::now()) {
            self.take(input);
        }
        if self.telemetry.as_ref().is_some_and(Telemetry::is_cut) {
            self.take(Input::Fact(Fact::Gap { text: telemetry::CUT.to_owned() }));
        }
        if let Some(ears) = self.ears.take() {
            // Nothing is recorded any more, and the last look at the host comes after it: nothing of ours shows.
            hooks::remove(&self.session);
            if ears.is_cut() {
                self.take(Input::Fact(Fact::Gap { text: hooks::CUT.to_owned() }));
            }
        }
        for fact in self.camera.end() {
            self.take(Input::Fact(fact));
        }
        for fact in self.lookup.review_rest() {
            self.take(Input::Fact(fact));
        }
        if !self.has_workflow
            && let Some(fact) = runners::github::workflow(&self.job)
        {
            if let Fact::Workflow { text, .. } = &fact {
                self.workflow = Some(text.clone());
            }
            self.take(Input::Fact(fact));
        }
        self.search();
        let watching = client.is_some() && sensor.is_watching() && self.failure.is_none();
        if self.failure.is_none() {
            self.failure = self.writer.out().close().err();
        }
        let time = self.clock.now();
        self.take(Input::End(End { time, command: None, signal: None, watching, client }));
        self.flush();
    }

    /// Looks for secrets in what the steps hand to the runner and to others.
    fn search(&mut self) {
        let mut files = run::leaks::command_files(&|name| std::env::var(name).ok());
        if let Some(workflow) = &self.workflow {
            files.extend(run::leaks::artifacts(workflow, &self.job.name, Path::new(&self.job.workspace)));
        }
        let (handed, gaps) = run::leaks::handed(&self.handed, Path::new(&self.job.workspace));
        files.extend(handed);
        for text in gaps {
            self.take(Input::Fact(Fact::Gap { text }));
        }
        for fact in run::leaks::search(&self.matcher, &files, self.clock.now()) {
            self.take(Input::Fact(fact));
        }
    }

    /// Records until somebody finishes it (true) or ends us.
    async fn watch(
        &mut self,
        sensor: &mut dyn Sensor,
        listener: &UnixListener,
        session: &Session,
    ) -> io::Result<bool> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let _quit = signal(SignalKind::quit())?;
        let _kept =
            run::survivable().map(SignalKind::from_raw).map(signal).collect::<io::Result<Vec<_>>>()?;
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                _ = tick.tick() => {
                    self.hear();
                    self.read_log();
                    let events = sensor.drain(false);
                    let is_new = !events.is_empty();
                    for event in events {
                        let since = event.time;
                        self.take(Input::Event(event));
                        self.beat(Some(since));
                    }
                    for input in self.transcripts.tick(run::now()) {
                        self.take(input);
                    }
                    self.beat(None);
                    if is_new {
                        // What a killed recorder had not written would be lost in silence.
                        self.flush();
                    }
                }
                connection = listener.accept() => {
                    let Ok((stream, _)) = connection else { continue };
                    // One client that hangs must not keep the others out.
                    let served = tokio::time::timeout(Duration::from_secs(2), self.serve(stream, sensor, session));
                    if matches!(served.await, Ok(Ok(true))) {
                        return Ok(true);
                    }
                }
                _ = hangup.recv() => {}
                _ = interrupt.recv() => {}
                // Somebody other than `finish` ends us: the record says so.
                _ = terminate.recv() => {
                    self.end(sensor, None);
                    return Ok(false);
                }
            }
        }
    }

    /// Says that we are still here, when it is time, and whether what we are at is older.
    fn beat(&mut self, at: Option<Timestamp>) {
        let time = self.clock.now();
        if time.0.saturating_sub(self.beat.0) >= HEARTBEAT_NS {
            self.beat = time;
            self.take(Input::Heartbeat(Heartbeat { time, behind: run::behind(time, at) }));
            self.flush();
        }
    }

    /// Answers one request; true when it was the last.
    async fn serve(
        &mut self,
        stream: UnixStream,
        sensor: &mut dyn Sensor,
        session: &Session,
    ) -> io::Result<bool> {
        let mut stream = tokio::io::BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let request: Request = serde_json::from_str(&line)?;
        let mut answer = self.answer(sensor);
        let is_last = matches!(request, Request::Finish { .. });
        match request {
            Request::Status => {}
            // Who was first read it before the job could interfere.
            Request::Workflow { .. } if self.has_workflow => {
                answer.refused = Some("the workflow's file was handed over already".to_owned());
            }
            Request::Workflow { path, text, origin } => {
                self.has_workflow = true;
                self.lookup.workflow(&text);
                self.workflow = Some(text.clone());
                self.take(Input::Fact(Fact::Workflow { path, text, origin }));
            }
            Request::Reviewed { file, text } => {
                for fact in self.lookup.review(&file, text.as_deref()) {
                    self.take(Input::Fact(fact));
                }
            }
            Request::Load { policy, origin } => {
                if let Ok(policy) = Policy::parse(&policy, &origin) {
                    answer.unmet = {
                        let before = self.before.iter();
                        crate::engine::unmet(&policy, before, self.fail_on, &self.job, self.since)
                    };
                }
                answer.refused = self.keep_policy(session, policy, origin).err();
            }
            Request::Seal { .. } | Request::Drain => {
                answer.refused = Some("the recording has no end yet".to_owned());
            }
            Request::Finish { client } => {
                self.end(sensor, Some(client));
                answer = self.answer(sensor);
            }
        }
        let mut line = serde_json::to_vec(&answer)?;
        line.push(b'\n');
        stream.get_mut().write_all(&line).await?;
        Ok(is_last)
    }

    /// Keeps the session's policy; a second, different one is refused.
    fn keep_policy(&mut self, session: &Session, policy: String, origin: String) -> Result<(), String> {
        match &self.policy {
            Some((known, _)) if *known == policy => return Ok(()),
            Some(_) => return Err("the session has another policy already".to_owned()),
            None => {}
        }
        // On a full disk half a policy would pass for the whole one.
        session
            .keep("policy.origin", origin.as_bytes())
            .and_then(|()| session.keep("policy.yml", policy.as_bytes()))
            .map_err(|error| format!("the policy can't be kept: {error}"))?;
        self.policy = Some((policy, origin));
        Ok(())
    }
}

impl From<NoSession> for Error {
    fn from(error: NoSession) -> Self {
        match error {
            NoSession::Several(_) | NoSession::Unknown(_) => {
                Self::Usage(format!("{error}; name one with `--session`"))
            }
            NoSession::None => Self::Usage(error.to_string()),
            NoSession::Folder { path, source } => Self::Host { what: path.display().to_string(), source },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_of_systemd_runs_the_very_same_words() {
        let words = ["/opt/guard", RECORD, "/run/edamame-guard/s-a b", "7", "", "auto"].map(OsString::from);
        let scope = scope("s-a b", &words);
        assert_eq!(
            scope[..7],
            [
                "systemd-run",
                "--scope",
                "--quiet",
                "--collect",
                "--property=KillMode=process",
                "--unit=edamame-guard-s-a b",
                "--"
            ]
        );
        assert_eq!(scope[7..], words);
    }
}
