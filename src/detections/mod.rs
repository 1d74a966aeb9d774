//! Known differences worth a finding: one file each, listed in [`all`].
//!
//! A rule sees behaviour (lineage, objects, order), never names of scenarios.
//! The `//!` comment that opens a rule's file is its page: `edamame-guard rules ID`.

mod agent_config_tamper;
mod agent_contradicted;
mod agent_escalation;
mod agent_record_lost;
mod agent_tool_divergence;
mod agent_undeclared;
mod build_tamper;
mod ci_token_abuse;
mod cloud_metadata;
mod container_escape;
mod coverage_heartbeat;
mod coverage_hook;
mod coverage_lineage;
mod coverage_records;
mod cred_file_access;
mod destructive;
mod egress_allowed_host_exfil;
mod egress_covert_channel;
mod egress_undeclared;
mod env_harvest;
mod exception_expired;
mod file_undeclared;
mod fileless_obfuscated_exec;
mod install_script;
mod log_artifact_leak;
mod persistence;
mod policy_changed;
mod posture_drift;
mod proc_memory_read;
mod remote_control;
mod run_undeclared;
mod runner_takeover;
mod sandbox_path_escape;
mod sensor_evasion;
mod startup_hijack;

use std::net::SocketAddr;

use crate::catalogue;
use crate::commands::{self, Network};
use crate::divergence::{self, Act, Effect, Explanation, is_public};
use crate::event::{Activity, Launch, ProcessKey};
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};
use crate::intent::{basename, is_shell};
use crate::lineage::{Lineage, Process, Standing, Strand, Touch};

/// The rules that the engine itself speaks for: the policy's three planes, and losses.
pub use agent_config_tamper::DETECTION as AGENT_CONFIG;
pub use agent_contradicted::DETECTION as AGENT_CONTRADICTED;
pub use agent_record_lost::DETECTION as AGENT_RECORD_LOST;
pub use agent_undeclared::DETECTION as AGENT_UNDECLARED;
pub use build_tamper::{Swap, is_guarded_tool, is_own_work, swapped};
pub use coverage_heartbeat::DETECTION as HEARTBEAT;
pub use coverage_hook::DETECTION as HOOK;
pub use coverage_lineage::DETECTION as LINEAGE;
pub use coverage_records::DETECTION as RECORDS;
pub use cred_file_access::DETECTION as CREDENTIAL;
pub use egress_allowed_host_exfil::DETECTION as EXFILTRATION;
pub use egress_undeclared::DETECTION as EGRESS;
pub use exception_expired::DETECTION as EXPIRED;
pub use file_undeclared::DETECTION as FILE;
pub use install_script::DETECTION as INSTALL;
pub use log_artifact_leak::DETECTION as LEAK;
pub use log_artifact_leak::weight as leak_weight;
pub use policy_changed::DETECTION as POLICY_CHANGED;
pub use posture_drift::DETECTION as POSTURE;
pub use run_undeclared::DETECTION as RUN;
pub use runner_takeover::DETECTION as TAKEOVER;
pub use sandbox_path_escape::is_astray;
pub use sensor_evasion::DETECTION as EVASION;
pub use startup_hijack::DETECTION as START;

/// Every rule, by id.
pub fn all() -> &'static [&'static Detection] {
    &[
        &agent_config_tamper::DETECTION,
        &agent_contradicted::DETECTION,
        &agent_escalation::DETECTION,
        &agent_record_lost::DETECTION,
        &agent_tool_divergence::DETECTION,
        &agent_undeclared::DETECTION,
        &build_tamper::DETECTION,
        &ci_token_abuse::DETECTION,
        &cloud_metadata::DETECTION,
        &container_escape::DETECTION,
        &coverage_heartbeat::DETECTION,
        &coverage_hook::DETECTION,
        &coverage_lineage::DETECTION,
        &coverage_records::DETECTION,
        &cred_file_access::DETECTION,
        &destructive::DETECTION,
        &egress_allowed_host_exfil::DETECTION,
        &egress_covert_channel::DETECTION,
        &egress_undeclared::DETECTION,
        &env_harvest::DETECTION,
        &exception_expired::DETECTION,
        &file_undeclared::DETECTION,
        &fileless_obfuscated_exec::DETECTION,
        &install_script::DETECTION,
        &log_artifact_leak::DETECTION,
        &persistence::DETECTION,
        &policy_changed::DETECTION,
        &posture_drift::DETECTION,
        &proc_memory_read::DETECTION,
        &remote_control::DETECTION,
        &run_undeclared::DETECTION,
        &runner_takeover::DETECTION,
        &sandbox_path_escape::DETECTION,
        &sensor_evasion::DETECTION,
        &startup_hijack::DETECTION,
    ]
}

/// The rule with this id.
pub fn by_id(id: &str) -> Option<&'static Detection> {
    all().iter().copied().find(|detection| detection.id.0 == id)
}

/// One rule: what it is called, how much it weighs, and its page.
#[derive(Debug)]
pub struct Detection {
    pub id: RuleId,
    pub severity: Severity,
    pub confidence: Confidence,
    pub techniques: &'static [Technique],
    /// CVE and GHSA ids of incidents with this behaviour.
    pub references: &'static [&'static str],
    /// OWASP CICD-SEC and Agentic items.
    pub frameworks: &'static [&'static str],
    /// What to do, in one sentence.
    pub remedy: &'static str,
    /// The rule's own file; the comment that opens it is the page.
    pub source: &'static str,
    /// Looks at one act. Rules about coverage and policy have nothing to look at here.
    pub check: fn(&Act<'_>) -> Vec<Hit>,
}

/// What a rule has to say about one act, or about an earlier one that this act completes.
#[derive(Debug)]
pub struct Hit {
    pub rule: &'static Detection,
    pub kind: Kind,
    pub severity: Severity,
    pub confidence: Confidence,
    pub title: String,
    /// Who did it: the actor, or the process of the earlier act.
    pub process: ProcessKey,
    pub object: String,
    /// Records that show it, beside the act's own.
    pub evidence: Vec<u64>,
    /// Another rule's finding about the same object that this one says better.
    pub replaces: Option<RuleId>,
    /// What to do, where the rule's own advice does not fit this case.
    pub remedy: Option<&'static str>,
}

/// Whose code acts, as far as a rule has to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Ground {
    /// A program that the step's own text names, as the system has it: not an interpreter, nor the job's own work.
    Named,
    /// The project's own code, and the tools it calls.
    Project,
    /// Other people's code, or something that nothing explains.
    Foreign,
}

fn ground(act: &Act<'_>) -> Ground {
    match act.process.standing {
        Standing::Script | Standing::Undeclared => Ground::Foreign,
        Standing::Text => Ground::Named,
        Standing::Command if is_from_before(act, act.process) && !runs_code(act.process) => Ground::Named,
        _ => Ground::Project,
    }
}

/// A program that is whatever it is told to run.
fn runs_code(process: &Process) -> bool {
    matches!(process.tool, Some("interpreters" | "shells" | "tests" | "make"))
}

/// Whether the program lay in a system folder before the job, and the job has not touched it.
fn is_from_before(act: &Act<'_>, process: &Process) -> bool {
    let Some(launch) = process.launch.as_deref() else { return false };
    let is_old = |file: &crate::event::File| {
        !act.lineage.has_written(&file.path)
            && !file.deleted
            && file.changed.is_none_or(|changed| changed < act.context.started)
            && ["/usr/", "/bin/", "/sbin/", "/opt/", "/snap/", "/lib/"]
                .iter()
                .any(|folder| file.path.starts_with(folder))
    };
    is_old(&launch.executable) && launch.script.as_ref().is_none_or(is_old)
}

/// The process and what is above it in its strand.
fn of_strand<'a>(act: &'a Act<'_>) -> impl Iterator<Item = &'a Process> {
    std::iter::once(act.process)
        .chain(act.lineage.ancestors(act.process.key))
        .take_while(|process| process.strand == act.process.strand)
}

/// Whether a change of the machine is what the step is for: its own command says that it sets something up, it is the
/// code of an action that the workflow names, or it is made in a container that the job builds.
fn is_set_up(act: &Act<'_>) -> bool {
    const WORDS: &[&str] =
        &["install", "setup", "bootstrap", "provision", "configure", "deps", "dependencies", "toolchain"];
    if ground(act) == Ground::Foreign {
        return false;
    }
    let says = |word: &String| word.split(['-', '_', ':', '.', '/']).any(|word| WORDS.contains(&word));
    let root = act.lineage.get(act.process.strand).filter(|root| root.standing == Standing::Command);
    let words = root.and_then(|root| root.launch.as_deref()).map(|launch| &launch.arguments);
    let is_container =
        || of_strand(act).any(|process| process.tool == Some("containers") && is_from_before(act, process));
    words.is_some_and(|words| words.iter().skip(1).any(says)) || is_actions(act) || is_container()
}

/// Whether the code of an action is at work, and the job has not changed it: `…/_actions/OWNER/NAME/REF/…`.
fn is_actions(act: &Act<'_>) -> bool {
    let is_action = |process: &Process| {
        process.launch.as_deref().map(run_file).is_some_and(|file| {
            let parts = file.split_once("/_actions/").map_or(0, |(_, rest)| rest.split('/').count());
            parts > 3 && !act.lineage.has_written(&file)
        })
    };
    ground(act) != Ground::Foreign
        && std::iter::once(act.process).chain(act.lineage.ancestors(act.process.key)).any(is_action)
}

/// Whether the act leaves something at the path: a text, a link, another name. Not what a rename takes away.
fn leaves(act: &Act<'_>, path: &str) -> bool {
    match act.activity {
        Activity::Open { access, .. } => access.write || access.create,
        Activity::Rename { to, .. } | Activity::Link { to, .. } => to.path == path,
        Activity::Symlink { .. } => true,
        _ => false,
    }
}

/// Whether what a rule looks for is this program's work, by its path and by having been there before the job.
fn is_work(act: &Act<'_>, id: &str) -> bool {
    let path = |process: &Process| process.launch.as_deref().map(|launch| launch.program().path.clone());
    path(act.process).is_some_and(|path| catalogue::is_work_of(id, &path)) && is_from_before(act, act.process)
}

/// An attack by the acting process.
fn attack(
    act: &Act<'_>,
    rule: &'static Detection,
    (severity, confidence): (Severity, Confidence),
    title: String,
    object: impl Into<String>,
) -> Vec<Hit> {
    vec![Hit {
        rule,
        kind: Kind::Attack,
        severity,
        confidence,
        title,
        process: act.process.key,
        object: object.into(),
        evidence: Vec::new(),
        replaces: None,
        remedy: None,
    }]
}

/// A process number and what is asked of it: `/proc/4711/task/4712/mem` is `mem` of 4711.
fn of_process(path: &str) -> Option<(u32, &str)> {
    let (pid, rest) = path.strip_prefix("/proc/")?.split_once('/')?;
    let rest = match rest.strip_prefix("task/") {
        Some(rest) => rest.split_once('/')?.1,
        None => rest,
    };
    Some((pid.parse().ok()?, rest))
}

/// Whether a read of this path is put before the rules, though it is no credential store. Asked for every open.
pub fn is_watched(path: &str) -> bool {
    match path.strip_prefix("/proc/") {
        Some(rest) => {
            rest.ends_with("/environ")
                || rest.ends_with("/mem")
                || rest.ends_with("/cmdline")
                || rest == "kcore"
        }
        None => {
            path == "/dev/mem"
                || path == "/dev/kmem"
                || is_repository_settings(path)
                || ci_token_abuse::is_variable_file(path)
                || container_escape::is_disk(path)
                || library(path).is_some()
                || is_obedient(path)
                || path.starts_with("/run/edamame-guard/")
        }
    }
}

/// Whether a container daemon that listens on TCP does so at this port (assigned by IANA to docker).
pub fn is_daemon_port(port: u16) -> bool {
    matches!(port, 2375 | 2376)
}

/// A program of which a copy obeys whoever calls it.
fn is_obedient(path: &str) -> bool {
    path.contains("bin/") && catalogue::is_object("obedient-programs", path)
}

/// Whether what came back on a connection to this address is put before the rules.
pub fn is_answer_watched(to: std::net::SocketAddr) -> bool {
    cloud_metadata::is_metadata(to.ip())
}

/// Which kind of library a file belongs to whose work explains what a rule looks for.
fn library(path: &str) -> Option<&'static str> {
    let is_library = path.contains("-packages/")
        || path.contains("/node_modules/")
        || path.contains("/gems/")
        || path.contains("/vendor/")
        || matches!(path.rsplit('.').next(), Some("jar" | "dll"));
    let kinds = ["cloud-libraries", "container-libraries"];
    if is_library { kinds.into_iter().find(|kind| catalogue::is_object(kind, path)) } else { None }
}

/// Whether the program, or one that it was forked from, has opened a library of this kind.
fn uses_library(act: &Act<'_>, kind: &str) -> bool {
    let mut notes = act.lineage.strand(act.process.key).noted(kind);
    notes.any(|note| act.lineage.is_at_or_below(act.process.key, note.process))
}

/// Whether the program is compiled, so that nothing it opens tells which libraries it has.
fn is_compiled(process: &Process) -> bool {
    let is_interpreter = matches!(process.tool, Some("interpreters" | "shells" | "transfer"));
    let launch = process.launch.as_deref();
    !is_interpreter
        && launch.is_some_and(|launch| {
            let name = crate::intent::basename(&launch.executable.path);
            launch.script.is_none()
                && launch.applet().is_none()
                && !commands::tool(name).is_some_and(|tool| matches!(tool.id, "interpreters" | "shells"))
        })
}

/// A destination that no name server's answer stood for, outside of private networks: nobody's service is known by that.
fn is_nameless(act: &Act<'_>) -> bool {
    let Effect::Connect { object, address, .. } = act.effect else { return false };
    let is_private = match address.ip() {
        std::net::IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        std::net::IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    !is_private && object.parse::<std::net::SocketAddr>().is_ok()
}

/// Whether the task that an agent was given names one of these: a word, or the end of a path, on the agent's own command line.
fn is_task(act: &Act<'_>, names: &[&str]) -> bool {
    let mut above = act.lineage.ancestors(act.process.key);
    let agent = if act.process.is_agent { Some(act.process) } else { above.find(|process| process.is_agent) };
    let is_named = |text: &str| {
        text.split(|letter: char| letter.is_whitespace() || "\"'`,;:()".contains(letter))
            .map(|word| word.trim_end_matches(['.', '/', '!', '?']))
            .any(|word| names.iter().any(|name| crate::intent::basename(word).eq_ignore_ascii_case(name)))
    };
    let words = agent.and_then(|agent| agent.launch.as_deref()).map(|launch| &launch.arguments);
    words.is_some_and(|words| words.iter().skip(1).any(|word| is_named(word)))
}

/// The process and what is above it, up to the agent.
fn below_agent<'a>(act: &'a Act<'_>) -> impl Iterator<Item = &'a Process> {
    std::iter::once(act.process)
        .chain(act.lineage.ancestors(act.process.key))
        .take_while(|process| !process.is_agent && process.agent.is_some())
}

/// The text that a shell was given, if this is one: the call's own where the agent wraps it.
fn text_of(process: &Process) -> Option<String> {
    let launch = process.launch.as_deref()?;
    if !crate::intent::is_shell(crate::intent::basename(&launch.executable.path)) || launch.script.is_some() {
        return None;
    }
    let record = process.agent.as_deref().and_then(crate::agents::by_id).and_then(|agent| agent.record);
    let wrapped = record.and_then(|record| (record.command)(&launch.arguments));
    wrapped.or_else(|| {
        let is_flag = |word: &String| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c');
        let at = launch.arguments.iter().position(is_flag)?;
        launch.arguments.get(at + 1).cloned()
    })
}

/// The process below an agent that is a tool server of its project's settings, and the file that names it.
fn server<'a>(act: &'a Act<'_>) -> Option<(&'a Process, &'a str)> {
    let is_started = |process: &Process, words: &[String]| {
        let own = process.launch.as_deref().map_or(&[][..], |launch| launch.arguments.as_slice());
        let names = own.first().zip(words.first());
        names.is_some_and(|(own, word)| crate::intent::basename(own) == crate::intent::basename(word))
            && own.get(1..) == words.get(1..)
    };
    below_agent(act).find_map(|process| {
        let settings = act.context.settings.iter();
        let mut of_it = settings.filter(|it| it.servers.iter().any(|words| is_started(process, words)));
        of_it.next().map(|it| (process, it.file.as_str()))
    })
}

/// The file of a project's settings whose hook is what an agent runs here.
fn hook<'a>(act: &'a Act<'_>) -> Option<&'a str> {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let texts: Vec<String> = below_agent(act).filter_map(text_of).map(|text| plain(&text)).collect();
    let is_run = |hook: &String| {
        let hook = plain(hook);
        hook.len() >= 4 && texts.contains(&hook)
    };
    let mut settings = act.context.settings.iter().filter(|it| it.hooks.iter().any(is_run));
    settings.next().map(|it| it.file.as_str())
}

/// Whether what this process brings goes into a shell beside it that reads its text from there.
fn is_piped_to_shell(act: &Act<'_>) -> bool {
    act.lineage.siblings(act.process.key).into_iter().any(|beside| {
        beside.launched
            && beside.launch.as_deref().is_some_and(|launch| {
                let words = launch.arguments.get(1..).unwrap_or_default();
                crate::intent::is_shell(crate::intent::basename(&launch.executable.path))
                    && launch.script.is_none()
                    && words.iter().all(|word| word.starts_with('-') && !word.ends_with('c'))
            })
    })
}

/// Options by which a client sends a body or a file.
const SENDING: &[&str] = &[
    "-d",
    "--data",
    "--data-ascii",
    "--data-binary",
    "--data-raw",
    "--data-urlencode",
    "--json",
    "-F",
    "--form",
    "--form-string",
    "-T",
    "--upload-file",
    "--post-data",
    "--post-file",
    "--body-data",
    "--body-file",
];

/// Whether the words of a client make it send something: they can only accuse.
fn sends(process: &Process) -> bool {
    let Some(launch) = process.launch.as_deref() else { return false };
    let name = crate::intent::basename(&launch.executable.path);
    let is_pipe = ["nc", "ncat", "netcat", "socat", "telnet", "openssl"]
        .iter()
        .any(|pipe| name.strip_prefix(pipe).is_some_and(|rest| rest.is_empty() || rest.starts_with('.')));
    is_pipe
        || launch.arguments.iter().any(|word| {
            let option = word.split_once('=').map_or(word.as_str(), |(option, _)| option);
            SENDING.contains(&option)
        })
}

/// Whether two processes can hand each other something: one below the other, or of the same parent.
fn is_near(lineage: &Lineage, one: ProcessKey, other: ProcessKey) -> bool {
    lineage.is_at_or_below(one, other)
        || lineage.is_at_or_below(other, one)
        || lineage
            .get(one)
            .zip(lineage.get(other))
            .is_some_and(|(one, other)| one.parent.is_some() && one.parent == other.parent)
}

/// Where git keeps a repository's settings, and a checkout its credential.
fn is_repository_settings(path: &str) -> bool {
    path.ends_with("/.git/config")
}

/// What the strand has to remember of this act, so that a later one can be counted with it: kind and object.
pub fn kept(act: &Act<'_>) -> Option<(&'static str, String)> {
    if let Some(kept) = egress_allowed_host_exfil::kept(act).or_else(|| sandbox_path_escape::kept(act)) {
        return Some(kept);
    }
    match (act.effect, act.activity) {
        (Effect::Other, Activity::Open { file, access }) if access.directory => {
            let folder = catalogue::credential_folder(&file.path, act.context.all_homes)?;
            Some(("listed", folder.to_owned()))
        }
        (Effect::Other, Activity::Open { file, .. }) => match of_process(&file.path) {
            Some((pid, entry)) => {
                (entry == "environ" && pid != act.process.key.pid).then(|| ("environ", file.path.clone()))
            }
            None => {
                library(&file.path).map(|kind| (kind, String::new())).or_else(|| ci_token_abuse::kept(act))
            }
        },
        (Effect::Write { .. }, _) => agent_config_tamper::kept(act)
            .or_else(|| runner_takeover::kept(act))
            .or_else(|| agent_escalation::kept(act))
            .or_else(|| destructive::kept(act)),
        (Effect::Launch { .. }, _) => agent_escalation::kept(act).or_else(|| ci_token_abuse::kept(act)),
        (Effect::Connect { .. }, _) => cloud_metadata::kept(act).or_else(|| ci_token_abuse::kept(act)),
        (_, Activity::Query { name, .. }) => egress_covert_channel::kept(name).map(|name| ("query", name)),
        (_, Activity::Namespace { kinds, entered: false }) if kinds.iter().any(|kind| kind == "pid") => {
            Some(("pid-namespace", String::new()))
        }
        _ => None,
    }
}

/// What the act makes of a file for whoever uses it later: which kind of tampering, and the path.
pub fn tampered(act: &Act<'_>) -> Option<(&'static str, String)> {
    build_tamper::tampered(act)
}

/// Whether a file of this name is what a build takes in, or what comes out of it.
pub fn is_build_input(path: &str) -> bool {
    build_tamper::is_input(path)
}

/// Whether the program compiles, interprets, links or packs sources.
pub fn is_builder(launch: &Launch) -> bool {
    build_tamper::is_builder(launch)
}

/// By which path the act may make another file of one that is there, and whether nobody asked for that.
pub fn hand(act: &Act<'_>) -> Option<(String, bool)> {
    build_tamper::hand(act)
}

/// What else the strand has to remember of an act.
pub fn also_kept(act: &Act<'_>) -> Vec<(&'static str, String)> {
    let own = act.process;
    match (act.effect, act.activity) {
        (Effect::Launch { .. }, Activity::Launch(launch)) => {
            let mut notes = Vec::new();
            if is_environment_dump(launch) {
                notes.push(("environment", own.name.to_string()));
            }
            notes.extend(false_name(act, launch).map(|name| ("false-name", name)));
            notes.extend(copied(act.lineage, own).map(|original| ("copied", original.to_owned())));
            if install_script::is_second_stage(act, launch) {
                notes.push(("stage", launch.program().path.clone()));
            }
            notes.extend(remote_control::kept(act));
            notes
        }
        (Effect::Other, Activity::Open { file, access }) if access.read && is_obedient(&file.path) => {
            vec![("shell-read", file.path.clone())]
        }
        (Effect::Other, Activity::Open { file, access }) => {
            let entry = of_process(&file.path);
            if let Some((pid, "cmdline")) = entry {
                return if pid == own.key.pid {
                    Vec::new()
                } else {
                    vec![("command-line", file.path.clone())]
                };
            }
            if entry == Some((own.key.pid, "environ")) {
                vec![("environment-file", file.path.clone())]
            } else if !access.read && !access.write && !access.create {
                vec![("resolved", file.path.clone())]
            } else if act.lineage.planted(&file.path).is_some() {
                vec![("started-with", file.path.clone())]
            } else {
                Vec::new()
            }
        }
        (Effect::Read { path, by_owner: false, .. }, _) => {
            vec![("opened", format!("{path} {}", act.sequence))]
        }
        (Effect::Write { path, .. }, activity) => {
            let own_image = own.launch.as_deref().map(|launch| &launch.executable.path);
            let mut notes = Vec::new();
            if matches!(activity, Activity::Delete { .. }) {
                if own_image == Some(path) && act.lineage.has_written(path) {
                    notes.push(("own-image-removed", path.clone()));
                }
            } else if act.lineage.strand(own.key).contacts.iter().any(|contact| contact.process == own.key) {
                notes.push(("fetched", path.clone()));
            }
            if is_scratch(path) && !matches!(activity, Activity::Delete { .. }) {
                notes.push(("scratch-file", path.clone()));
            }
            if startup_hijack::plants(act, path) {
                notes.push(("planted", path.clone()));
            }
            if catalogue::is_object("job-definitions", path) {
                notes.push(("definition", path.clone()));
            }
            notes
        }
        (Effect::Other, Activity::Namespace { kinds, entered: false }) => {
            let has_network = kinds.iter().any(|kind| kind == "network");
            if has_network { vec![("network-namespace", String::new())] } else { Vec::new() }
        }
        (Effect::Other, Activity::Ring) => vec![("ring", String::new())],
        (Effect::Other, Activity::Title { name }) if is_false_title(act, name) => {
            vec![("false-name", name.clone())]
        }
        (Effect::Other, Activity::UnixConnect { file, outside })
            if is_strangers_socket(&file.path, *outside) =>
        {
            vec![("outside-service", file.path.clone())]
        }
        (Effect::Other, Activity::Hello { to, name: None }) => {
            vec![("nameless-hello", format!("{to} {}", act.sequence))]
        }
        (Effect::Other, Activity::Packet { to, protocol, pattern }) => {
            vec![("packet", format!("{to} {protocol} {pattern}"))]
        }
        (Effect::Connect { object, address, .. }, _) => {
            let is_bare = *object == address.to_string() && act.explanation.is_undeclared();
            let bare = is_bare.then(|| ("bare-contact", format!("{object} {}", act.sequence)));
            bare.into_iter().chain(remote_control::kept(act)).collect()
        }
        (Effect::Sent { object, .. }, _) if is_bare_object(object) => {
            vec![("closed", format!("{object} {}", act.sequence))]
        }
        (Effect::Other, Activity::Listen { on }) if !on.ip().is_loopback() => {
            vec![("open-to-all", on.to_string())]
        }
        _ => Vec::new(),
    }
}

/// Whether a connection goes to an address of the public network that no name was asked for, from the machine's own
/// network: stand-in services of tests live in private ones.
fn is_bare(act: &Act<'_>) -> bool {
    let Effect::Connect { object, address, transport } = act.effect else { return false };
    // Connecting a datagram socket sends nothing; it is how a program asks for its own address.
    let is_question =
        matches!(act.activity, Activity::Connect { transport: crate::event::Transport::Udp, .. });
    *object == address.to_string()
        && is_public(address.ip())
        && !is_question
        && *transport != crate::event::Transport::Other
        && !cloud_metadata::is_metadata(address.ip())
        && address.port() != 53
        && !act
            .lineage
            .strand(act.process.key)
            .noted("network-namespace")
            .any(|note| act.lineage.is_at_or_below(act.process.key, note.process))
}

/// Whether a process works for a coding agent whose own words allow it to read only, no shell and no network.
fn is_below_reader(act: &Act<'_>) -> bool {
    const REACHING: &[&str] =
        &["bash", "shell", "web", "mcp", "fetch", "*", "run", "task", "agent", "computer"];
    let agent = act.lineage.ancestors(act.process.key).find(|process| process.is_agent);
    let Some(launch) = agent.and_then(|agent| agent.launch.as_deref()) else { return false };
    let mut words = launch.arguments.iter().map(String::as_str);
    while let Some(word) = words.next() {
        let (name, value) = word.split_once('=').map_or((word, None), |(name, value)| (name, Some(value)));
        if matches!(name, "--allowedTools" | "--allowed-tools" | "--tools") {
            let listed = value.or_else(|| words.next()).unwrap_or_default().to_ascii_lowercase();
            return !listed.is_empty() && !REACHING.iter().any(|tool| listed.contains(tool));
        }
        let value = || value.or_else(|| words.clone().next()).unwrap_or_default();
        if (matches!(name, "--sandbox" | "-s") && value() == "read-only")
            || (matches!(name, "--permission-mode" | "--approval-mode") && value() == "plan")
        {
            return true;
        }
    }
    false
}

/// The same of a destination that was contacted earlier.
fn is_bare_object(object: &str) -> bool {
    object.parse::<SocketAddr>().is_ok_and(|address| is_public(address.ip()))
}

/// A program that prints its whole environment: `env` or `printenv` without a word behind it.
fn is_environment_dump(launch: &Launch) -> bool {
    let (name, words) = launch.applet().unwrap_or_else(|| {
        (basename(&launch.executable.path), launch.arguments.get(1..).unwrap_or_default())
    });
    launch.script.is_none()
        && matches!(name, "env" | "printenv" | "coreutils")
        && words
            .iter()
            .all(|word| matches!(word.as_str(), "-0" | "--null" | "-v" | "--debug" | "env" | "printenv"))
}

/// The system's program that a process runs a copy of under another name; versions and endings make no other name.
///
/// Only of programs that do what they are told: interpreters, shells, clients. A copy of any other does what it did before.
fn copied<'a>(lineage: &Lineage, process: &'a Process) -> Option<&'a str> {
    const OBEDIENT: &[&str] =
        &["interpreters", "shells", "transfer", "ssh", "git", "containers", "clouds", "forges"];
    const OTHERS: &[&str] = &[
        "openssl", "gdb", "strace", "nmap", "tmux", "screen", "gpg", "sudo", "su", "env", "xargs", "find",
        "awk", "mawk", "gawk", "grep", "tar", "dd", "sqlite3",
    ];
    let original = process.copy_of.as_deref()?;
    let name = basename(original);
    let path = &process.launch.as_deref()?.executable.path;
    let is_obedient =
        commands::tool(name).is_some_and(|tool| OBEDIENT.contains(&tool.id)) || OTHERS.contains(&name);
    if !is_obedient || !lineage.has_written(path) {
        return None;
    }
    let stem = |path: &str| {
        basename(path)
            .trim_end_matches(|letter: char| letter.is_ascii_digit() || matches!(letter, '.' | '-'))
            .to_ascii_lowercase()
    };
    let (own, others) = (stem(path), stem(original));
    // `cc` is `gcc` is `x86_64-linux-gnu-gcc`; Debian's names for one file.
    let is_same = own == others || own.ends_with(&others) || others.ends_with(&own);
    (!is_same || own.is_empty()).then_some(original)
}

/// A name of the runner's, the kernel's or the guard's that a program calls itself by and that is not its own.
fn false_name(act: &Act<'_>, launch: &Launch) -> Option<String> {
    let word = launch.arguments.first()?;
    let claimed = match word.strip_prefix('[') {
        // A thread of the kernel: `[kworker/0:1]`.
        Some(thread) => thread.split(['/', ':', ']']).next().unwrap_or(thread),
        None => basename(word).split([' ', ':']).next().unwrap_or(word),
    };
    let is_trusted = catalogue::is_object("trusted-names", claimed);
    (is_trusted && !is_named_so(act, launch, claimed)).then(|| claimed.to_owned())
}

fn is_false_title(act: &Act<'_>, name: &str) -> bool {
    let is_its_own = act.process.launch.as_deref().is_some_and(|launch| is_named_so(act, launch, name));
    // As lists show a thread of the kernel, and cut as the kernel cuts it: `[kworker/0:1-ev`.
    let name = name.trim_start_matches('[').split(['/', ']']).next().unwrap_or(name);
    catalogue::is_object("trusted-names", name) && !is_its_own
}

/// Whether the image has this name, cut as the kernel cuts it, and was there before the job.
fn is_named_so(act: &Act<'_>, launch: &Launch, name: &str) -> bool {
    const KERNEL_NAME: usize = 15;
    let cut = |text: &str| text.chars().take(KERNEL_NAME).collect::<String>();
    let stem = name.trim_end_matches(')').trim_start_matches('(');
    [&launch.executable, launch.program()].iter().any(|file| {
        let is_late = act.lineage.has_written(&file.path)
            || file.changed.is_some_and(|changed| changed >= act.context.started);
        cut(basename(&file.path)) == cut(stem) && !is_late
    })
}

/// A unix socket where somebody listens who is neither of the job nor a service of the host's own.
fn is_strangers_socket(path: &str, outside: bool) -> bool {
    // Who listens on a name without a path is only known of streams.
    (outside || path.starts_with('@')) && !catalogue::is_object("host-services", path)
}

/// Whether an interpreter takes its code from its input: no script, no `-c`.
fn reads_its_input(launch: &Launch) -> bool {
    let name = basename(&launch.executable.path);
    if launch.script.is_some() || !divergence::is_interpreter(name) || name == "java" {
        return false;
    }
    let words = launch.arguments.get(1..).unwrap_or_default();
    match words.iter().position(|word| !word.starts_with('-') || word == "-" || word == "--") {
        Some(at) if words[at] == "-" => true,
        Some(at) if words[at].starts_with("/dev/stdin") || words[at].starts_with("/dev/fd/") => true,
        // `sh -s -- words` reads its input too.
        Some(at) => is_shell(name) && words[..at].iter().any(|word| word == "-s"),
        None => {
            !words.iter().any(|word| {
                word.starts_with("--version")
                    || (!word.starts_with("--") && word.contains(['c', 'e', 'V', 'm', 'p', 'r']))
            }) || words
                .iter()
                .all(|word| matches!(word.as_str(), "-e" | "-eu" | "-ex" | "-eux") && is_shell(name))
        }
    }
}

/// The file that a process runs: its image, or for an interpreter the script that its words name.
fn run_file(launch: &Launch) -> String {
    if let Some(script) = &launch.script {
        return script.path.clone();
    }
    let words = launch.arguments.get(1..).unwrap_or_default();
    let script = words.iter().find(|word| !word.starts_with('-'));
    match script.filter(|_| divergence::is_interpreter(basename(&launch.executable.path))) {
        Some(word) if word.starts_with('/') => word.clone(),
        Some(word) => crate::event::normal_path(&format!("{}/{word}", launch.directory)),
        None => launch.executable.path.clone(),
    }
}

/// A folder that anybody may write and nobody keeps anything in.
pub fn is_scratch(path: &str) -> bool {
    ["/tmp/", "/var/tmp/", "/dev/shm/", "/run/user/"].iter().any(|folder| path.starts_with(folder))
}

/// Whether a process does what it does after the command that started it was over: its parents are gone.
fn has_left(act: &Act<'_>) -> bool {
    let own = act.process;
    let root = own.strand;
    let is_over = root != own.key && act.lineage.get(root).is_some_and(|root| root.ended);
    let mut above = act.lineage.ancestors(own.key);
    let is_gone = |process: Option<&Process>| process.is_some_and(|process| process.ended);
    let parent = is_gone(above.next());
    parent && (is_over || is_gone(above.next()))
}

/// A rule that is told by the engine itself.
fn nothing(_: &Act<'_>) -> Vec<Hit> {
    Vec::new()
}

/// The credentials of a strand that a contact by the acting process could carry away.
///
/// What a program reads as part of its work counts against that process alone: npm reads its
/// token in every install, and an honest installer below it may well download something. It
/// counts against its neighbours too when the program can print it and talked to nobody itself:
/// `git credential fill | curl …`.
fn carried<'a>(strand: &'a Strand, act: &Act<'_>) -> Vec<&'a Touch> {
    let sender = act.process;
    // Nobody's data is sent there: what is asked for is `cloud-metadata`.
    if matches!(act.effect, Effect::Connect { address, .. } if cloud_metadata::is_metadata(address.ip())) {
        return Vec::new();
    }
    let is_handed_on = |read: &Touch| {
        let Some(reader) = printer(act.lineage, read) else { return false };
        let is_near = reader.parent == sender.parent || act.lineage.is_at_or_below(reader.key, sender.key);
        let is_named = matches!(reader.standing, Standing::Command | Standing::Text);
        let is_other = reader.key != sender.key && read.process != sender.key;
        let has_contacted = [read.process, reader.key].iter().any(|key| act.lineage.has_contacted(*key));
        is_other && read.is_printable && (is_near || read.is_copy) && !is_named && !has_contacted
    };
    // An owner talks to its own service; one that follows its arguments, or that others' code
    // started, may be told to talk to anybody.
    let is_steered = sender.standing == Standing::Script || follows_arguments(sender);
    let is_own = |read: &Touch| {
        read.process == sender.key && (is_steered || goes_astray(read, act)) && !read.is_casual
    };
    strand
        .reads
        .iter()
        .filter(|read| !read.by_owner || is_own(read) || is_handed_on(read))
        .filter(|read| !is_service_of(read, act))
        .collect()
}

/// The process whose output holds what its owner read: the topmost one that is at the owner's work, shells between
/// them left aside, as in `git credential fill`, `sh -c 'git credential-store get'`, `git credential-store get`.
fn printer<'a>(lineage: &'a Lineage, read: &Touch) -> Option<&'a Process> {
    let mut top = lineage.helped(read.process)?;
    let store = catalogue::credential(read.store);
    for above in lineage.ancestors(top.key).take(8) {
        let is_same = above.tool.is_some() && above.tool == top.tool;
        if is_same || store.is_some_and(|store| store.is_owned_by(&above.name)) {
            top = above;
        } else if above.tool != Some("shells") || above.standing == Standing::Text {
            break;
        }
    }
    Some(top)
}

/// Whether a credential for services with names was read, and the act talks to a bare public address, or is a compiler's.
fn goes_astray(read: &Touch, act: &Act<'_>) -> bool {
    let Effect::Connect { object, address, .. } = act.effect else { return false };
    let is_unnamed = *object == address.to_string();
    let names = if is_unnamed { &[][..] } else { std::slice::from_ref(object) };
    let is_mute =
        act.process.tool.and_then(commands::by_id).is_some_and(|tool| tool.network == Network::None);
    catalogue::credential(read.store).is_some_and(|store| store.is_named)
        && (is_mute && !runs_code(act.process)
            || divergence::is_stray(act.process, names, address.ip(), act.context))
}

fn follows_arguments(process: &Process) -> bool {
    process.tool.and_then(commands::by_id).is_some_and(|tool| tool.network == Network::Arguments)
}

/// Whether the act talks to the very service that the credential is for, in the process that read it.
fn is_service_of(read: &Touch, act: &Act<'_>) -> bool {
    let (Effect::Connect { object, .. } | Effect::Sent { object, .. }) = act.effect else { return false };
    let host = object.rsplit_once(':').map_or(object.as_str(), |(host, _)| host);
    read.process == act.process.key
        && catalogue::credential(read.store).is_some_and(|store| store.is_for(host))
}

/// Whether a connection made earlier can carry what is read now: it belongs to the reader, to an
/// ancestor, or to a process of the strand that is still there to be handed it.
fn could_carry(act: &Act<'_>, contact: ProcessKey) -> bool {
    act.lineage.is_at_or_below(act.process.key, contact)
        || act.lineage.get(contact).is_some_and(|process| !process.ended)
}

/// How sure a join is: without a declaration, one program doing both may just be at its work.
fn sureness(act: &Act<'_>, reader: ProcessKey, sender: ProcessKey) -> Confidence {
    let is_one_program = reader == sender && reader == act.process.strand;
    match act.explanation {
        Explanation::Nothing if is_one_program => Confidence::Low,
        Explanation::Nothing => Confidence::Medium,
        _ => Confidence::High,
    }
}

/// Who and what, as a sentence names a process: `curl (pid 4711)`.
fn named(lineage: &Lineage, key: ProcessKey) -> String {
    lineage.get(key).map_or_else(|| format!("process {key}"), |process| process.name.to_string())
}

impl Detection {
    /// What a process has taken once this rule fired, for joins with a later connection.
    pub fn takes(&self) -> Option<&'static str> {
        match self.id.0 {
            "proc-memory-read" => Some("another process's memory"),
            "env-harvest" => Some("another process's environment"),
            "cloud-metadata" => Some("the machine's cloud identity"),
            _ => None,
        }
    }

    /// Under which name the strand remembers that this rule fired, for joins.
    pub fn joins(&self) -> Option<&'static str> {
        matches!(self.id.0, "fileless-obfuscated-exec").then_some("hidden-code")
    }

    /// The rule's page as Markdown: the `//!` comment of its file.
    pub fn page(&self) -> String {
        let mut page = String::new();
        for line in self.source.lines().map_while(|line| line.strip_prefix("//!")) {
            page.push_str(line.strip_prefix(' ').unwrap_or(line));
            page.push('\n');
        }
        page
    }

    /// The page with its title and, in the last line, its weights and what it is known from.
    pub fn document(&self) -> String {
        let list = |items: &[&str]| if items.is_empty() { "–".to_owned() } else { items.join(", ") };
        let techniques: Vec<&str> = self.techniques.iter().map(|technique| technique.0).collect();
        format!(
            "# {}\n\n{}\nSeverity {}, confidence {} · ATT&CK {} · OWASP {} · seen in {}\n",
            self.id,
            self.page(),
            self.severity.as_str(),
            self.confidence.as_str(),
            list(&techniques),
            list(self.frameworks),
            list(self.references),
        )
    }

    /// The page's first sentence, without its period.
    pub fn summary(&self) -> String {
        let page = self.page();
        let first = page.split("\n\n").next().unwrap_or_default().replace('\n', " ");
        first.trim().trim_end_matches('.').to_owned()
    }
}
