//! `report.html` in a real Chromium: it loads without a word of complaint, folds, filters and links, and hostile names
//! stay text. Without the browser each test says so and passes; `make clients` installs it.

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use edamame_guard::engine::Input;
use edamame_guard::event::{Activity, Event, Fact, File, Launch, ProcessKey, Timestamp};
use edamame_guard::evidence::{self, SCHEMA, Writer};
use edamame_guard::intent::{Declaration, Text, ToolCall};
use edamame_guard::job::StepKey;
use serde_json::Value;

use common::{GUARD, text};

/// What breaks out of a text, an attribute, a script or a style, if anything does.
const HOSTILE: [&str; 6] = [
    "<img src=x onerror=window.taken=1>",
    "\"><svg onload=window.taken=2>",
    "</script><script>window.taken=3</script>",
    "' onclick='window.taken=4' x='",
    "</style><iframe srcdoc=x>",
    "javascript:window.taken=5",
];

/// What the page came to, or nothing where there is no browser.
fn opened(test: &str, page: &Path, word: &str) -> Option<Value> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = Command::new(root.join(".config/browser.sh")).arg("--path").output().expect("a shell");
    let folder = PathBuf::from(text(&folder.stdout).trim());
    let browser = ["chromium", "chromium-browser", "google-chrome"].iter().find_map(|name| {
        std::env::split_paths(&std::env::var_os("PATH")?).map(|place| place.join(name)).find(|it| it.exists())
    });
    let (true, Some(browser)) = (folder.join("node_modules/playwright-core").exists(), browser) else {
        println!("skipped: {test} needs playwright-core and Chromium; `make clients` installs them");
        return None;
    };
    let output = Command::new("node")
        .arg(root.join("tests/browser.mjs"))
        .args([&folder, &browser, page])
        .arg(word)
        .args(std::env::var_os("EDAMAME_GUARD_SCREENSHOT"))
        .output()
        .expect("node starts");
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    Some(serde_json::from_slice(&output.stdout).expect("JSON"))
}

/// The inputs of a recorded theft, without its end.
fn theft() -> (Vec<Input>, Input) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/npm-poisoned/evidence.jsonl");
    let recording = fs::read(path).expect("a recording");
    let mut inputs = Vec::new();
    evidence::read(recording.as_slice(), |_, input| inputs.push(input)).expect("whole");
    let Some(Input::Start(start)) = inputs.first_mut() else { panic!("no start") };
    SCHEMA.clone_into(&mut start.schema);
    let end = inputs.pop().expect("an end");
    (inputs, end)
}

/// The page of these inputs.
fn page(folder: &Path, inputs: &[Input]) -> PathBuf {
    let mut writer = Writer::new(Vec::new());
    for input in inputs {
        writer.append(input).expect("written");
    }
    fs::write(folder.join("run.jsonl"), writer.finish().expect("written")).expect("written");
    let output = Command::new(GUARD)
        .args(["replay", "run.jsonl", "--report-dir", "report"])
        .current_dir(folder)
        .output()
        .expect("the guard starts");
    assert_eq!(output.status.code(), Some(86), "{}", text(&output.stderr));
    folder.join("report/report.html")
}

/// What holds of every page.
#[track_caller]
fn is_sound(seen: &Value) {
    for nothing in ["errors", "requests", "broken"] {
        assert_eq!(seen[nothing], Value::Array(Vec::new()), "{nothing}: {seen:#}");
    }
    assert_eq!(
        (&seen["scripts"], &seen["foreign"], &seen["taken"]),
        (&1.into(), &0.into(), &Value::Null),
        "{seen:#}"
    );
    assert!(seen["details"].as_u64().is_some_and(|details| details > 0), "{seen:#}");
    assert_eq!((&seen["openAfterFold"], &seen["openAfterOpen"]), (&0.into(), &seen["details"]), "{seen:#}");
    assert_eq!(seen["focus"], "search", "{seen:#}");
    assert!(seen["hits"].as_u64().is_some_and(|hits| hits > 0), "{seen:#}");
    assert!(seen["cards"].as_u64().is_some_and(|cards| cards > 0), "{seen:#}");
    assert_eq!((&seen["cardsWithoutHit"], &seen["cardsAgain"]), (&0.into(), &seen["cards"]), "{seen:#}");
    assert_eq!(seen["skips"], "#findings", "{seen:#}");
    for yes in ["linked", "zoomed", "zoomsByKey", "escapes", "hasDark"] {
        assert_eq!(seen[yes], true, "{yes}: {seen:#}");
    }
}

#[test]
fn a_page_loads_folds_filters_and_links() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut inputs, end) = theft();
    inputs.push(end);
    let page = page(folder.path(), &inputs);
    if let Some(seen) = opened("a_page_loads_folds_filters_and_links", &page, "curl") {
        is_sound(&seen);
        assert!(seen["told"].as_str().is_some_and(|told| told.ends_with(" found")), "{seen:#}");
    }
}

/// The theft, done below a coding agent that was asked for something else; its calls are hostile as well.
fn theft_below_an_agent() -> Vec<Input> {
    let (mut inputs, end) = theft();
    let at = inputs
        .iter()
        .position(|input| {
            matches!(input, Input::Event(Event { activity: Activity::Launch(launch), .. })
                if launch.executable.path == "/usr/bin/env")
        })
        .expect("npm's launch");
    let Input::Event(Event { actor, time, .. }) = inputs[at] else { unreachable!() };
    let call = |call: &str, command: &str| {
        let call = ToolCall {
            agent: "aider".into(),
            session: format!("s {}", HOSTILE[0]),
            call: call.into(),
            tool: "run".into(),
            time,
            commands: vec![command.into()],
            ..ToolCall::default()
        };
        Input::Declaration(Declaration { step: StepKey::local(), text: Text::ToolCall(call) })
    };
    // As this agent calls its shell.
    for input in &mut inputs {
        if let Input::Event(Event { activity: Activity::Launch(launch), .. }) = input
            && launch.arguments.get(2).is_some_and(|word| word == "sh scripts/setup.sh")
        {
            launch.arguments[0] = "/bin/sh".into();
        }
    }
    let mut told = vec![
        Input::Fact(Fact::Agent { process: actor, agent: "aider".into() }),
        call("s 1", "sh scripts/setup.sh"),
    ];
    told.extend(HOSTILE.iter().map(|hostile| call(hostile, hostile)));
    inputs.splice(at..at, told);
    inputs.push(end);
    inputs
}

#[test]
fn an_agents_session_folds_and_links_to_its_findings() {
    let folder = tempfile::tempdir().expect("a folder");
    let page = page(folder.path(), &theft_below_an_agent());
    let html = fs::read_to_string(&page).expect("a page");
    assert!(html.contains("window.taken=1") && html.contains("details class=\"session\""), "{html}");
    if let Some(seen) = opened("an_agents_session_folds_and_links_to_its_findings", &page, "curl") {
        is_sound(&seen);
        assert_eq!(seen["sessions"], 1, "{seen:#}");
        for yes in ["foldsByKey", "callShown"] {
            assert_eq!(seen[yes], true, "{yes}: {seen:#}");
        }
        assert!(seen["callLeadsBack"].as_u64().is_some_and(|links| links > 0), "{seen:#}");
    }
}

#[test]
fn hostile_names_stay_text() {
    let folder = tempfile::tempdir().expect("a folder");
    let (mut inputs, end) = theft();
    for (number, input) in inputs.iter_mut().enumerate() {
        let Input::Event(event) = input else { continue };
        let hostile = HOSTILE[number % HOSTILE.len()];
        match &mut event.activity {
            Activity::Launch(launch) => {
                launch.arguments.push(hostile.to_owned());
                launch.directory.push_str(hostile);
            }
            Activity::Open { file, .. } => file.path.extend(["/", hostile]),
            Activity::Answer { name, .. } => name.push_str(hostile),
            _ => {}
        }
    }
    let curl = inputs.iter().rev().find_map(|input| match input {
        Input::Event(Event { actor, time, activity: Activity::Launch(_) }) => Some((*actor, *time)),
        _ => None,
    });
    let (actor, time) = curl.expect("a launch");
    for (number, hostile) in (900_000..).zip(HOSTILE) {
        let child = ProcessKey { pid: number, start: time.0 };
        inputs.push(Input::Event(Event { time, actor, activity: Activity::Fork { child } }));
        let executable =
            File { path: format!("/tmp/{hostile}"), device: 1, inode: u64::from(number), ..File::default() };
        let launch = Launch {
            executable,
            arguments: vec![(*hostile).to_owned()],
            directory: "/".into(),
            ..Launch::default()
        };
        inputs.push(Input::Event(Event { time, actor: child, activity: Activity::Launch(launch) }));
    }
    inputs.push(end);
    let page = page(folder.path(), &inputs);
    let html = fs::read_to_string(&page).expect("a page");
    assert!(html.contains("window.taken=1"), "the names are on the page, as text");
    if let Some(seen) = opened("hostile_names_stay_text", &page, "onerror") {
        is_sound(&seen);
    }
}

#[test]
#[ignore = "takes minutes: 200,000 events are judged"]
fn two_hundred_thousand_events_make_a_page_that_opens() {
    const EVENTS: u32 = 200_000;
    let folder = tempfile::tempdir().expect("a folder");
    let (mut inputs, end) = theft();
    let (actor, time) = inputs
        .iter()
        .find_map(|input| match input {
            Input::Event(Event { actor, time, activity: Activity::Launch(_) }) => Some((*actor, *time)),
            _ => None,
        })
        .expect("a launch");
    let mut parent = actor;
    for number in 0..EVENTS / 4 {
        let moment = Timestamp(time.0 + u64::from(number) * 10_000);
        let child = ProcessKey { pid: 1_000_000 + number, start: moment.0 };
        let event = |actor, activity| Input::Event(Event { time: moment, actor, activity });
        inputs.push(event(parent, Activity::Fork { child }));
        let path = format!("/usr/bin/tool-{}", number % 6_000);
        let executable =
            File { path: path.clone(), device: 1, inode: u64::from(number) + 5_000, ..File::default() };
        let launch = Launch {
            executable,
            arguments: vec![path, format!("--part={number}")],
            directory: "/".into(),
            ..Launch::default()
        };
        inputs.push(event(child, Activity::Launch(launch)));
        let file = File {
            path: format!("/ci/work/out/{number}.o"),
            device: 1,
            inode: u64::from(number) + 900_000,
            ..File::default()
        };
        let access = edamame_guard::event::Access { write: true, create: true, ..Default::default() };
        inputs.push(event(child, Activity::Open { file, access }));
        if number % 7 == 0 {
            // One deep tree is enough.
            let longest = if number < 2_000 { 700 } else { 70 };
            parent = if number % longest == 0 { actor } else { child };
        } else {
            inputs.push(event(child, Activity::Exit { status: edamame_guard::event::ExitStatus::Code(0) }));
        }
    }
    inputs.push(end);
    let page = page(folder.path(), &inputs);
    let size = fs::metadata(&page).expect("a page").len();
    println!("{} inputs, {size} bytes", inputs.len());
    assert!(size < 5_000_000, "{size} bytes");
    if let Some(seen) = opened("two_hundred_thousand_events_make_a_page_that_opens", &page, "tool-77") {
        is_sound(&seen);
        assert!(seen["loaded"].as_u64().is_some_and(|loaded| loaded < 10_000), "{seen:#}");
    }
}
