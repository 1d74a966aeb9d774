//! What holds for every recording and every policy: the same inputs give the same report, a stricter policy gives no
//! fewer findings, and what strangers do later changes nothing that was found.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use edamame_guard::engine::{Engine, Input, Settings};
use edamame_guard::event::{
    Access, Activity, Event, ExitStatus, File, Launch, ProcessKey, Timestamp, Transport,
};
use edamame_guard::evidence;
use edamame_guard::finding::{FailOn, Finding, Report, Severity};
use edamame_guard::policy::Policy;
use proptest::prelude::*;

struct Recording {
    name: String,
    inputs: Vec<Input>,
    lock: String,
}

/// The recordings of `fixtures/`, the large ones left out to keep this quick.
static RECORDINGS: LazyLock<Vec<Recording>> = LazyLock::new(|| {
    const LARGEST: u64 = 200_000;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut recordings: Vec<Recording> = fs::read_dir(root)
        .expect("fixtures/ is there")
        .map(|entry| entry.expect("a readable folder").path())
        .filter(|folder| fs::metadata(folder.join("evidence.jsonl")).is_ok_and(|file| file.len() < LARGEST))
        .map(|folder| {
            let mut inputs = Vec::new();
            let record = fs::read(folder.join("evidence.jsonl")).expect("a recording");
            evidence::read(record.as_slice(), |_, input| inputs.push(input)).expect("a whole recording");
            Recording {
                name: folder.file_name().and_then(|name| name.to_str()).expect("plain").to_owned(),
                inputs,
                lock: fs::read_to_string(folder.join("policy.lock.yml")).expect("its policy"),
            }
        })
        .collect();
    recordings.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(recordings.len() >= 6, "there are recordings to try");
    recordings
});

fn judge(inputs: &[Input], policy: &str) -> Report {
    let policy =
        if policy.is_empty() { Policy::absent() } else { Policy::parse(policy, "guard.yml").expect(policy) };
    let mut engine = Engine::new(policy, Settings { fail_on: Some(FailOn::From(Severity::Medium)) });
    for (sequence, input) in (0..).zip(inputs) {
        engine.accept(sequence, input);
    }
    engine.finish()
}

/// Entries for the lists of a policy; some are about what the recorded jobs did, some about nothing in them.
const NETWORK: &[&str] = &[
    "203.0.113.7:8080",
    "203.0.113.0/24",
    "203.0.113.8",
    "203.0.113.9:8080",
    "api.example",
    "*.internal.example",
    "192.0.2.0/24:443",
];
const FILES: &[&str] = &[
    "write ./**",
    "write /tmp/**",
    "read ~/.aws/**",
    "read ~/.ssh/id_ed25519",
    "write ~/outside",
    "write ./vendor/**",
    "write ./app",
    "read /etc/shadow",
    "write **/*.o",
    "write /srv/**",
];
const RUN: &[&str] = &[
    "bash",
    "make",
    "curl",
    "cat",
    "touch",
    "tr",
    "perl",
    "git",
    "cc",
    "sh",
    "grep",
    "docker",
    "/usr/bin/cat",
    "sleep",
];

/// In each `allow` list of files: a verb without any entry is not restricted, so taking its last one away would be laxer.
const BOTH_VERBS: [&str; 2] = ["read /nowhere/**", "write /nowhere/**"];

/// What one plane says: no list, or these entries; and those that are denied.
#[derive(Clone, Debug, Default)]
struct Plane {
    allow: Option<BTreeSet<usize>>,
    deny: BTreeSet<usize>,
}

impl Plane {
    fn any(entries: usize) -> impl Strategy<Value = Self> {
        let some = move || proptest::collection::btree_set(0..entries, 0..entries);
        (proptest::option::of(some()), proptest::collection::btree_set(0..entries, 0..3))
            .prop_map(|(allow, deny)| Self { allow, deny })
    }

    /// At least as strict: fewer entries allowed, more denied.
    fn stricter(&self, other: &Self) -> Self {
        let allow = match (&self.allow, &other.allow) {
            (Some(mine), Some(theirs)) => Some(mine & theirs),
            // Entries where there was no list would explain things, so the stricter of these is the empty list.
            (None, Some(_)) => Some(BTreeSet::new()),
            (mine, None) => mine.clone(),
        };
        Self { allow, deny: &self.deny | &other.deny }
    }

    fn yaml(&self, entries: &[&str]) -> String {
        let list = |items: &BTreeSet<usize>| {
            let items = items.iter().map(|index| entries[*index]);
            let more = BOTH_VERBS.into_iter().filter(|_| entries == FILES);
            items.chain(more).map(|item| format!("{item:?}")).collect::<Vec<_>>().join(", ")
        };
        let allow =
            self.allow.as_ref().map_or_else(String::new, |allow| format!("allow: [{}], ", list(allow)));
        format!("{{{allow}deny: [{}]}}", list(&self.deny))
    }
}

type Planes = (Plane, Plane, Plane);

fn planes() -> impl Strategy<Value = Planes> {
    (Plane::any(NETWORK.len()), Plane::any(FILES.len()), Plane::any(RUN.len()))
}

fn yaml((network, files, run): &Planes) -> String {
    format!(
        "version: 1\ndefaults:\n  network: {}\n  files: {}\n  run: {}\n",
        network.yaml(NETWORK),
        files.yaml(FILES),
        run.yaml(RUN)
    )
}

/// How often each thing was found, by object; a finding that stands for many counts as many.
fn acts(report: &Report) -> BTreeMap<&'static str, u64> {
    let mut acts = BTreeMap::new();
    for finding in &report.findings {
        *acts.entry("all").or_insert(0) += finding.count;
        if finding.fails {
            *acts.entry("failing").or_insert(0) += 1;
        }
    }
    acts
}

fn objects(report: &Report) -> BTreeSet<String> {
    report
        .findings
        .iter()
        .filter(|finding| finding.more_objects.is_empty())
        .map(|finding| format!("{} {}", finding.step, finding.object))
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_same_inputs_give_the_same_report(which in 0..RECORDINGS.len(), planes in planes()) {
        let recording = &RECORDINGS[which];
        let policy = yaml(&planes);
        // Two engines in one process have differently seeded hash maps, so an order that leaks shows.
        prop_assert_eq!(judge(&recording.inputs, &policy), judge(&recording.inputs, &policy));
    }

    #[test]
    fn a_stricter_policy_gives_no_fewer_findings(which in 0..RECORDINGS.len(), loose in planes(), other in planes()) {
        let recording = &RECORDINGS[which];
        let strict = (loose.0.stricter(&other.0), loose.1.stricter(&other.1), loose.2.stricter(&other.2));
        let (loose, strict) = (yaml(&loose), yaml(&strict));
        let (before, after) = (judge(&recording.inputs, &loose), judge(&recording.inputs, &strict));
        let context = format!("{}\nloose:\n{loose}\nstrict:\n{strict}\n{before:#?}\n{after:#?}", recording.name);
        prop_assert!(before.exit.guard <= after.exit.guard, "{}", context);
        prop_assert!(acts(&before).get("all") <= acts(&after).get("all"), "{}", context);
        let is_folded = after.findings.iter().any(|finding| !finding.more_objects.is_empty());
        if !is_folded {
            prop_assert!(acts(&before).get("failing") <= acts(&after).get("failing"), "{}", context);
            let (before, after) = (objects(&before), objects(&after));
            prop_assert!(before.is_subset(&after), "lost {:?}\n{}", &before - &after, context);
        }
    }

    #[test]
    fn what_strangers_do_later_changes_no_earlier_finding(
        which in 0..RECORDINGS.len(),
        acts in proptest::collection::vec(strangers_act(), 1..30),
    ) {
        let recording = &RECORDINGS[which];
        let before = judge(&recording.inputs, &recording.lock);
        let mut inputs = recording.inputs.clone();
        let end = inputs.pop().expect("an end");
        prop_assert!(matches!(end, Input::End(_)));
        let mut time = before.ended;
        for activity in acts {
            time.0 += 1_000;
            let actor = ProcessKey { pid: 4_000_000, start: 1 };
            inputs.push(Input::Event(Event { time, actor, activity }));
        }
        inputs.push(end);
        let after = judge(&inputs, &recording.lock);
        let own = |report: &Report| -> Vec<Finding> {
            report.findings.iter().filter(|finding| finding.step.0 != "_unattributed").cloned().collect()
        };
        prop_assert_eq!(own(&before), own(&after), "{}", recording.name);
    }
}

/// Acts of a process that nobody knows: none has to do with the job.
fn strangers_act() -> impl Strategy<Value = Activity> {
    let path = prop_oneof![
        Just("/etc/hostname"),
        Just("/var/log/messages"),
        Just("/usr/lib/libc.so.6"),
        Just("/srv/data")
    ];
    let launched = ["/usr/sbin/cron", "/usr/bin/uptime", "/usr/bin/curl"];
    prop_oneof![
        path.prop_map(|path| Activity::Open {
            file: File::at(path),
            access: Access { read: true, ..Access::default() }
        }),
        (4_000_001..4_000_050_u32).prop_map(|pid| Activity::Fork { child: ProcessKey { pid, start: 2 } }),
        (0..launched.len()).prop_map(move |which| Activity::Launch(Launch {
            executable: File::at(launched[which]),
            arguments: vec![launched[which].to_owned()],
            directory: "/".to_owned(),
            ..Launch::default()
        })),
        any::<u8>().prop_map(|last| Activity::Connect {
            to: ([198, 51, 100, last], 443).into(),
            transport: Transport::Tcp
        }),
        Just(Activity::Answer {
            name: "later.example".to_owned(),
            server: "198.51.100.53".parse().expect("an address"),
            addresses: vec![[198, 51, 100, 1].into()]
        }),
        Just(Activity::Exit { status: ExitStatus::Code(0) }),
    ]
}

#[test]
fn the_same_recording_gives_the_same_report_with_its_own_policy() {
    for Recording { name, inputs, lock } in RECORDINGS.iter() {
        let once = judge(inputs, lock);
        for _ in 0..3 {
            assert_eq!(judge(inputs, lock), once, "{name}");
        }
    }
}

/// A recording cut anywhere has found what the whole one had found by then.
#[test]
fn a_finding_stays_once_it_was_found() {
    for Recording { name, inputs, lock } in RECORDINGS.iter() {
        let whole = judge(inputs, lock);
        let known = objects(&whole);
        for tenth in 1..10 {
            let part = judge(&inputs[..inputs.len() * tenth / 10], lock);
            let found: BTreeSet<String> = objects(&part);
            assert!(found.is_subset(&known), "{name} at {tenth}/10: {:?}", &found - &known);
            assert!(part.findings.iter().all(|finding| finding.first_seen <= part.ended), "{name}");
        }
    }
}

#[test]
fn time_comes_from_the_recording_alone() {
    const DAY_NS: u64 = 86_400_000_000_000;
    let recording = &RECORDINGS[0];
    let moved: Vec<Input> = recording
        .inputs
        .iter()
        .cloned()
        .map(|mut input| {
            match &mut input {
                Input::Start(start) => start.time.0 += DAY_NS,
                Input::Event(event) => event.time.0 += DAY_NS,
                Input::End(end) => end.time.0 += DAY_NS,
                _ => {}
            }
            input
        })
        .collect();
    let (then, later) = (judge(&recording.inputs, &recording.lock), judge(&moved, &recording.lock));
    assert_eq!(Timestamp(then.started.0 + DAY_NS), later.started);
    assert_eq!(Timestamp(then.ended.0 + DAY_NS), later.ended);
    assert_eq!(then.verdict, later.verdict);
}
