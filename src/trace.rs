//! Test helper: a step's text and a trace in a few words each, findings out.
//!
//! ```text
//! 1 > 2 launch /usr/bin/npm npm ci      process 1 forks 2, which launches the path with these arguments
//! 2 launch /usr/bin/node node x.js      a second image in the same process
//! 2 read ~/.aws/credentials             also: write, both (to read and write), create, mkdir, delete PATH; rename FROM TO; symlink TARGET PATH
//! 2 read ~/.netrc as a.txt              by this name; `is PATH`: it is the same object as this one
//! object ~/.netrc                       a credential that was there before, as an object
//! 2 connect 203.0.113.7:443             also: send ADDRESS (UDP)
//! answer api.example 203.0.113.7        a name server's answer
//! digest /usr/bin/tool ab…              the content of a program, told before its launch
//! 2 agent codex                         the process is a coding agent, told before its launch
//! 2 runs FILE hook|server TEXT           the project makes the agent run this (a `_` in a hook is a space)
//! 2 call c1 make build                  Claude Code's record: call c1 asks for this command
//! 2 settings user ~/.claude/settings.json 6 deny Bash(curl:*)   what Claude Code's settings say: also allow, mode, hook
//! before sudoers /etc/sudoers a         what a posture check found at the start: check, object, value[, file]
//! after sudoers /etc/sudoers b          and at the end
//! 2 trace read-memory 77                also: bpf COMMAND; unix PATH; socket FAMILY KIND PROTOCOL; module PATH
//! 2 ask TXT name.example 192.0.2.53:53  a question to a name server; packet ADDRESS sends one of no TCP or UDP
//! 2 by-packet 203.0.113.7 1 a           a packet made by hand: address, protocol, digest of what it carries
//! 2 signal 19                           a signal to the guard; a word behind it: both are of one group
//! 2 title NAME                          another name for itself; also: ring; resolve PATH (opened by O_PATH)
//! 2 hello name.example 203.0.113.7:443  a TLS connection begins; also: enter KINDS, leave KINDS; mount SOURCE TARGET
//! 2 close 203.0.113.7:443 900 200       a connection is over: bytes sent and received
//! 2 listen 0.0.0.0:8080                 also: closed ADDRESS RECEIVED [SENT]; take PATH; list FOLDER; truncate PATH; mknod PATH MODE (octal)
//! output claude-code ~/out.jsonl        where an agent's output goes
//! 2 sees /w/a.c blob:1 2                a source is not what it was when this process opens it; `gone`: it can't be read; behind it
//!                                       `since N` (milliseconds after the start it was), `held PID` (who had it open then), `is PATH` (it is that object)
//! 2 exit
//! ```
//! Process 1 is `bash /w/build.sh`, whose text is the step's; home is /home/u, workspace /w.
//! A launched path in /w or /tmp, or one marked `!`, was put there by the job. A word of a launch that begins with `^` is a
//! variable (`^NAME=value`), and `%FOLDER` or `in:FOLDER` its working folder; `PATH@NAME` was asked for by NAME; in one that begins with `'` a `_` stands for a space.

use std::collections::BTreeMap;

use crate::engine::{End, Engine, Input, News, Settings, Start, Told};
use crate::event::{
    Access, Activity, AgentCommands, AgentSettings, Event, Fact, File, Launch, PostureItem, ProcessKey,
    Reach, Sight, SourceContent, Timestamp, Transport,
};
use crate::finding::Report;
use crate::intent::{Declaration, Text, ToolCall};
use crate::job::{Job, Location, Provider, Step, StepKey};
use crate::policy::Policy;

const START: u64 = 1_800_000_000_000_000_000;

fn key(pid: u32) -> ProcessKey {
    ProcessKey { pid, start: u64::from(pid) }
}

fn absolute(path: &str) -> String {
    path.strip_prefix("~/").map_or_else(|| path.to_owned(), |rest| format!("/home/u/{rest}"))
}

/// The inputs of a job whose only step has this text.
#[expect(clippy::too_many_lines, reason = "one arm for each verb of the trace")]
pub(crate) fn inputs(step: &str, trace: &str) -> Vec<Input> {
    let location = Location { path: "build.sh".into(), line: 1 };
    let declaration = |text| Input::Declaration(Declaration { step: StepKey::local(), text });
    let mut inputs = vec![
        Input::Start(Start {
            schema: crate::evidence::SCHEMA.into(),
            version: "0".into(),
            time: Timestamp(START),
            guard: key(100),
            program: None,
            fail_on: None,
            key: None,
            job: Job {
                provider: Provider::Local,
                name: "local".into(),
                workspace: "/w".into(),
                home: "/home/u".into(),
                uid: 1000,
                pipeline: None,
                steps: vec![Step {
                    key: StepKey::local(),
                    name: "run".into(),
                    declared: "bash build.sh".into(),
                    location: Some(location.clone()),
                }],
            },
            sight: Sight {
                sensor: "test".into(),
                tier: "test".into(),
                process: Reach::Full,
                file: Reach::Full,
                egress: Reach::Full,
                hooks: BTreeMap::new(),
                gaps: Vec::new(),
            },
        }),
        declaration(Text::Command { words: vec!["bash".into(), "build.sh".into()] }),
        declaration(Text::Script { file: "/w/build.sh".into(), location, text: step.into() }),
        Input::Fact(Fact::Home { uid: 1000, path: "/home/u".into() }),
        Input::Fact(Fact::Resolver { address: "192.0.2.53".parse().unwrap() }),
    ];
    let mut time = START;
    let mut facts = Vec::new();
    let mut calls = Vec::new();
    let mut posture: BTreeMap<String, (Vec<PostureItem>, Vec<PostureItem>)> = BTreeMap::new();
    // Gives the place of whatever comes next.
    let mut event = |actor: u32, activity: Option<Activity>| {
        if let Some(activity) = activity {
            time += 1_000_000;
            let actor = if actor == 0 { ProcessKey::HOST } else { key(actor) };
            inputs.push(Input::Event(Event { time: Timestamp(time), actor, activity }));
        }
        inputs.len()
    };
    event(100, Some(Activity::Fork { child: key(1) }));
    event(1, Some(launch(&["/usr/bin/bash", "bash", "build.sh"])));
    for line in trace.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if let ["digest", path, digest] = words[..] {
            let file = executable(path);
            facts.push((event(0, None), Fact::Digest { file, sha256: Some(digest.to_owned()) }));
            continue;
        }
        if let [pid, verb @ ("call" | "export"), id, ..] = words[..] {
            // Another agent's stands before the id: `copilot:c1`.
            let (agent, id) = id.split_once(':').unwrap_or(("claude-code", id));
            let call = ToolCall {
                agent: agent.into(),
                session: "s".into(),
                call: id.into(),
                tool: "Bash".into(),
                time: Timestamp(START),
                commands: vec![words[3..].join(" ")],
                sender: (verb == "export").then(|| key(pid.parse().unwrap())),
                ..ToolCall::default()
            };
            calls.push((event(0, None), declaration(Text::ToolCall(call))));
            continue;
        }
        if let ["before" | "after", check, object, value, ..] = words[..] {
            let item = PostureItem {
                object: absolute(object),
                value: value.replace('_', " "),
                file: words.get(4).map(|file| (*file).to_owned()),
            };
            let (before, after) = posture.entry(check.to_owned()).or_default();
            if words[0] == "before" { before } else { after }.push(item);
            continue;
        }
        if let ["output", agent, path] = words[..] {
            let fact = Fact::AgentOutput { agent: agent.into(), file: absolute(path) };
            facts.push((event(0, None), fact));
            continue;
        }
        if let ["object", path] = words[..] {
            let file = executable(&absolute(path));
            facts.push((event(0, None), Fact::Credential { file }));
            continue;
        }
        if words[0] == "answer" {
            let addresses = words[2..].iter().map(|address| address.parse().unwrap()).collect();
            let server = "192.0.2.53".parse().unwrap();
            event(0, Some(Activity::Answer { server, name: words[1].into(), addresses }));
            continue;
        }
        let (pid, rest) = if words[1] == ">" {
            let child: u32 = words[2].parse().unwrap();
            event(words[0].parse().unwrap(), Some(Activity::Fork { child: key(child) }));
            (child, &words[3..])
        } else {
            (words[0].parse().unwrap(), &words[1..])
        };
        let Some((verb, rest)) = rest.split_first() else { continue };
        if *verb == "runs" {
            let words: Vec<String> = rest[2..].iter().map(|word| (*word).to_owned()).collect();
            let is_hook = rest[1] == "hook";
            let hooks = is_hook.then(|| words.join(" ").replace('_', " "));
            let settings = AgentCommands {
                process: key(pid),
                file: rest[0].into(),
                servers: if is_hook { Vec::new() } else { vec![words] },
                hooks: hooks.into_iter().collect(),
            };
            facts.push((event(0, None), Fact::AgentCommands(settings)));
            continue;
        }
        if *verb == "sees" {
            let after = |word: &str| rest.iter().position(|it| *it == word).map(|at| rest[at + 1]);
            let since = after("since").map_or(0, |at| at.parse::<u64>().unwrap() * 1_000_000);
            let at = event(0, None);
            let content = SourceContent {
                file: File {
                    path: absolute(rest[0]),
                    ..executable(&absolute(after("is").unwrap_or(rest[0])))
                },
                reader: key(pid),
                time: Timestamp(u64::MAX),
                was: rest[1].into(),
                since: Timestamp(START + since),
                held: after("held").map(|pid| key(pid.parse().unwrap())),
                sha256: (rest[2] != "gone").then(|| rest[2].into()),
            };
            facts.push((at, Fact::Source(content)));
            continue;
        }
        if *verb == "agent" {
            facts.push((event(0, None), Fact::Agent { process: key(pid), agent: rest[0].into() }));
            continue;
        }
        let file = || {
            let path = absolute(rest[0]);
            match rest[1..] {
                ["as", asked] => File { path, asked: Some(asked.into()), ..File::default() },
                ["is", other] => File { path, ..executable(&absolute(other)) },
                _ => File::at(path),
            }
        };
        if *verb == "settings" || *verb == "settings-none" {
            facts.push((event(0, None), Fact::AgentSettings(settings(pid, rest))));
            continue;
        }
        let activity = match *verb {
            "launch" => launch(rest),
            "take" => Activity::Open {
                file: file(),
                access: Access { read: true, taken: true, ..Access::default() },
            },
            "read" => Activity::Open { file: file(), access: Access { read: true, ..Access::default() } },
            "folder" | "list" => Activity::Open {
                file: file(),
                access: Access { read: true, directory: true, ..Access::default() },
            },
            "write" => Activity::Open { file: file(), access: Access { write: true, ..Access::default() } },
            "both" => Activity::Open {
                file: file(),
                access: Access { read: true, write: true, ..Access::default() },
            },
            "create" => Activity::Open {
                file: file(),
                access: Access { write: true, create: true, ..Access::default() },
            },
            "chmod" => Activity::Chmod { file: file(), mode: u32::from_str_radix(rest[1], 8).unwrap() },
            "mkdir" => Activity::Mkdir { file: file() },
            "delete" => Activity::Delete { file: file() },
            "symlink" => Activity::Symlink { target: rest[0].into(), file: File::at(absolute(rest[1])) },
            "rename" => Activity::Rename { from: file(), to: File::at(absolute(rest[1])) },
            "close" => Activity::Closed {
                to: rest[0].parse().unwrap(),
                transport: Transport::Tcp,
                sent: rest[1].parse().unwrap(),
                received: rest[2].parse().unwrap(),
                duration: 1,
                is_open: false,
            },
            "connect" => Activity::Connect { to: rest[0].parse().unwrap(), transport: Transport::Tcp },
            "send" => Activity::Send { to: rest[0].parse().unwrap(), transport: Transport::Udp },
            "trace" => Activity::Trace { request: rest[0].into(), target: rest[1].parse().unwrap() },
            "bpf" => Activity::Bpf { command: rest[0].into() },
            "unix" => Activity::UnixConnect { file: file(), outside: rest.get(1) == Some(&"outside") },
            "by-packet" => Activity::Packet {
                to: rest[0].parse().unwrap(),
                protocol: rest[1].parse().unwrap(),
                pattern: rest[2].into(),
            },
            "signal" => Activity::Signal { signal: rest[0].parse().unwrap(), own_group: rest.len() > 1 },
            "title" => Activity::Title { name: rest[0].into() },
            "ring" => Activity::Ring,
            "resolve" => Activity::Open { file: file(), access: Access::default() },
            "socket" => Activity::Socket {
                family: rest[0].into(),
                kind: rest[1].into(),
                protocol: rest[2].parse().unwrap(),
            },
            "packet" => Activity::Send { to: rest[0].parse().unwrap(), transport: Transport::Other },
            "ask" => Activity::Query {
                to: rest[2].parse().unwrap(),
                transport: Transport::Udp,
                name: rest[1].into(),
                kind: rest[0].into(),
                more: rest.get(3).map_or(0, |more| more.parse().unwrap()),
            },
            "hello" => Activity::Hello { to: rest[1].parse().unwrap(), name: Some(rest[0].into()) },
            "nameless" => Activity::Hello { to: rest[0].parse().unwrap(), name: None },
            "enter" | "leave" => Activity::Namespace {
                kinds: rest.iter().map(|kind| (*kind).to_owned()).collect(),
                entered: *verb == "enter",
            },
            "listen" => Activity::Listen { on: rest[0].parse().unwrap() },
            "closed" => Activity::Closed {
                to: rest[0].parse().unwrap(),
                transport: Transport::Tcp,
                sent: rest.get(2).map_or(100, |sent| sent.parse().unwrap()),
                received: rest[1].parse().unwrap(),
                duration: 1,
                is_open: false,
            },
            "truncate" => Activity::Truncate { file: file() },
            "mknod" => Activity::Mknod { file: file(), mode: u32::from_str_radix(rest[1], 8).unwrap() },
            "mount" => Activity::Mount { source: rest[0].into(), target: File::at(absolute(rest[1])) },
            "module" => Activity::Module { file: Some(file()) },
            "exit" => Activity::Exit { status: crate::event::ExitStatus::Code(0) },
            other => panic!("{other} is no verb of a trace: {line}"),
        };
        event(pid, Some(activity));
    }
    let mut others: Vec<(usize, Input)> =
        facts.into_iter().map(|(at, fact)| (at, Input::Fact(fact))).chain(calls).collect();
    others.sort_by_key(|(at, _)| *at);
    for (at, input) in others.into_iter().rev() {
        inputs.insert(at, input);
    }
    for (check, (before, after)) in posture {
        let fact = |at_end, items: Vec<PostureItem>| {
            let check = check.clone();
            // An object called `unread` stands for something that could not be read.
            let (unread, items): (Vec<_>, Vec<_>) =
                items.into_iter().partition(|item: &PostureItem| item.object == "unread");
            let problem = (!unread.is_empty()).then(|| "unread".to_owned());
            {
                let looked_at = items.len() as u64;
                Input::Fact(Fact::Posture { check, at_end, unchanged: false, items, problem, looked_at })
            }
        };
        inputs.insert(5, fact(false, before));
        inputs.push(fact(true, after));
    }
    inputs.push(Input::End(End {
        time: Timestamp(time + 1),
        command: Some(0),
        signal: None,
        watching: true,
        client: None,
    }));
    inputs
}

/// One line of Claude Code's settings: `user FILE LINE deny RULE`.
fn settings(pid: u32, words: &[&str]) -> AgentSettings {
    use crate::agents::settings::{CLAUDE_CODE, Place, read};
    let text = match words[2..] {
        [_, verb @ ("allow" | "ask" | "deny"), rule] => {
            format!(r#"{{"permissions": {{"{verb}": ["{rule}"]}}}}"#)
        }
        [_, "mode", mode] => format!(r#"{{"permissions": {{"defaultMode": "{mode}"}}}}"#),
        [_, "hook", event, command] => {
            format!(r#"{{"hooks": {{"{event}": [{{"hooks": [{{"command": "{command}"}}]}}]}}}}"#)
        }
        _ => "{}".to_owned(),
    };
    let place = Place { home: "/home/u".into(), project: "/w".into() };
    let (mut items, problem) = read(CLAUDE_CODE.sources[0].form, &place, &text);
    let line = words.get(2).map_or(0, |line| line.parse().unwrap());
    for item in &mut items {
        item.line = line;
    }
    let (agent, level) = words[0].split_once(':').unwrap_or(("claude-code", words[0]));
    let level = serde_json::from_value(level.into()).unwrap();
    AgentSettings {
        agent: agent.into(),
        process: Some(key(pid)),
        level,
        file: absolute(words[1]),
        items,
        problem,
    }
}

fn executable(word: &str) -> File {
    let path = word.trim_start_matches('!');
    let is_new = word.starts_with('!') || path.starts_with("/w/") || path.starts_with("/tmp/");
    let (path, deleted) = path.strip_suffix("(deleted)").map_or((path, false), |path| (path, true));
    File {
        path: path.into(),
        device: 1,
        inode: path.bytes().fold(7, |hash: u64, byte| hash.wrapping_mul(31) + u64::from(byte)),
        changed: Some(Timestamp(if is_new { START + 1 } else { 1 })),
        deleted,
        ..File::default()
    }
}

/// The text behind `bash -c source` is one word; a `_` inside it stands for a space.
fn arguments(words: &[&str]) -> Vec<String> {
    let all = || words.iter().map(|word| (*word).to_owned());
    match words {
        ["bash", "-c", "source", ..] => {
            let text = words[2..].join(" ").replace('_', " ").replace("</dev/null", "< /dev/null");
            all().take(2).chain([text]).collect()
        }
        _ => all()
            .map(|word| word.strip_prefix('\'').map_or_else(|| word.clone(), |text| text.replace('_', " ")))
            .collect(),
    }
}

/// The working folder that a word of a launch names.
fn folder_of(word: &str) -> Option<&str> {
    word.strip_prefix("in:").or_else(|| word.strip_prefix('%').filter(|rest| rest.starts_with('/')))
}

fn launch(words: &[&str]) -> Activity {
    let (path, requested) =
        words[0].split_once("@/").map_or((words[0], None), |(path, name)| (path, Some(name)));
    let file = executable(path);
    let variable = |word: &&str| {
        let (name, value) = word.strip_prefix('^')?.split_once('=')?;
        Some((name.to_owned(), value.to_owned()))
    };
    let folder = words.iter().find_map(|word| folder_of(word));
    let environment = words.iter().filter_map(variable).collect();
    let plain: Vec<&str> = words[1..]
        .iter()
        .copied()
        .filter(|word| !word.starts_with('^') && folder_of(word).is_none())
        .collect();
    Activity::Launch(Launch {
        requested: requested.map_or_else(|| file.path.clone(), |name| format!("/{name}")),
        executable: file,
        arguments: arguments(&plain),
        directory: folder.unwrap_or("/w").into(),
        environment,
        uid: 1000,
        ..Launch::default()
    })
}

/// The report of a trace under a policy text; an empty one is no policy.
pub(crate) fn report(step: &str, policy: &str, trace: &str) -> Report {
    let policy =
        if policy.is_empty() { Policy::absent() } else { Policy::parse(policy, "guard.yml").unwrap() };
    let mut engine = Engine::new(policy, Settings::default());
    for (sequence, input) in (0..).zip(inputs(step, trace)) {
        engine.accept(sequence, &input);
    }
    engine.finish()
}

/// What posture drift is told at each event, before the end is known: the record's number and the words.
pub(crate) fn drift_at_once(engine: &mut Engine, inputs: &[Input]) -> Vec<(u64, String)> {
    let mut told = Told::default();
    let mut lines = Vec::new();
    for (sequence, input) in (0..).zip(inputs) {
        engine.accept(sequence, input);
        for news in engine.news(&mut told) {
            if let News::Finding { severity, rule: "posture-drift", title, .. } = news {
                lines.push((sequence, format!("{} {title}", severity.as_str())));
            }
        }
    }
    lines
}

/// Each finding as `rule kind severity object`, failing ones with a `!`, sorted.
pub(crate) fn findings(step: &str, policy: &str, trace: &str) -> Vec<String> {
    let mut findings: Vec<String> = report(step, policy, trace)
        .findings
        .iter()
        .map(|finding| {
            format!(
                "{}{} {} {} {}",
                if finding.fails { "!" } else { "" },
                finding.rule,
                finding.kind.as_str(),
                finding.severity.as_str(),
                finding.object
            )
        })
        .collect();
    findings.sort();
    findings
}

/// Asserts that a trace without a policy gives exactly these findings.
#[track_caller]
pub(crate) fn expect(step: &str, trace: &str, wanted: &[&str]) {
    assert_eq!(findings(step, "", trace), wanted, "step: {step}");
}
