//! A job on a runner: every act belongs to the right step, by its name and line, whatever its processes say.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

const WORKFLOW: &str = r#"name: CI
on: push
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: edamame/guard@v1
      - name: Install it
        run: touch one
      - run: |
          true
          touch two
      - id: left
        run: for i in 1 2 3; do touch left$i shared; sleep 0.1; done
      - id: right
        run: for i in 1 2 3; do touch right$i shared; sleep 0.1; done
      - name: Composite
        uses: ./local
      - name: Liar
        run: |
          env -i PATH="$PATH" GITHUB_ACTION=left GITHUB_OUTPUT=/x/set_output_made-up setsid touch liar
          (env -i PATH="$PATH" setsid sh -c 'sleep 0.2; touch late' &)
      - name: Deploy ${{ github.ref }}
        run: sleep 0.5; echo "to ${{ github.ref }}" > deployed
"#;

fn plan(folder: &Path) -> Value {
    let text = |name: &str| folder.join(name).to_string_lossy().into_owned();
    json!({
        "guard": env!("CARGO_BIN_EXE_edamame-guard"),
        "workspace": text("work"),
        "temp": text("temp"),
        "report": text("report"),
        "job": "build",
        "steps": [
            [{"action": "__run", "script": "touch one"}],
            [{"action": "__run_2", "script": "true\ntouch two\n"}],
            [
                {"action": "left", "script": "for i in 1 2 3; do touch left$i shared; sleep 0.1; done"},
                {"action": "right", "script": "for i in 1 2 3; do touch right$i shared; sleep 0.1; done"},
            ],
            // What a composite action holds is begun by the runner itself, under the outer step's name.
            [{"action": "__self", "script": "touch inner1"}],
            [{"action": "__self", "words": ["sh", "-c", "touch inner2"]}],
            [{"action": "__run_3", "script": "env -i PATH=\"$PATH\" GITHUB_ACTION=left GITHUB_OUTPUT=/x/set_output_made-up setsid touch liar\n(env -i PATH=\"$PATH\" setsid sh -c 'sleep 0.2; touch late' &)\n"}],
            [{"action": "__run_4", "script": "sleep 0.5; echo \"to refs/heads/main\" > deployed"}],
        ],
    })
}

/// Names each file as it is written, with the step that wrote it.
const POLICY: &str = "version: 1
fail-on: none
defaults:
  files:
    deny: [write ./one, write ./two, write ./left3, write ./right3, write ./inner1, write ./inner2, write ./liar, write ./late, write ./deployed]
steps:
  build/left:
    files:
      deny: [write ./shared]
";

#[test]
fn every_act_belongs_to_the_step_that_the_runner_began() {
    common::alone("every_act_belongs_to_the_step_that_the_runner_began", |_| prove());
}

/// Runs a workflow in the twin; gives what it said, and the report.
fn run(root: &Path, workflow: &str, policy: &str, plan: &Value) -> (String, Value) {
    for name in ["work/.github/workflows", "temp"] {
        std::fs::create_dir_all(root.join(name)).unwrap();
    }
    std::fs::write(root.join("work/.github/workflows/ci.yml"), workflow).unwrap();
    std::fs::write(root.join("work/.github/guard.yml"), policy).unwrap();
    let plan_file = root.join("plan.json");
    std::fs::write(&plan_file, plan.to_string()).unwrap();
    let twin = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/runner.py");
    let output = Command::new("python3").arg(twin).arg(&plan_file).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{said}{}", String::from_utf8_lossy(&output.stderr));
    let report = std::fs::read(root.join("report/findings.json")).unwrap();
    (said, serde_json::from_slice(&report).unwrap())
}

fn prove() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let (said, report) = run(root, WORKFLOW, POLICY, &plan(root));

    // The runner's clean-up ended what the last step left, and not the recorder.
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let status = lines.iter().find(|line| line["guard"] == "status").unwrap();
    let status: Value = serde_json::from_str(status["output"].as_str().unwrap()).unwrap();
    assert_eq!(status["watching"], true, "{said}");

    let steps: BTreeMap<&str, (&str, Option<u64>)> = report["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| {
            (
                step["key"].as_str().unwrap(),
                (step["name"].as_str().unwrap(), step["location"]["line"].as_u64()),
            )
        })
        .collect();
    for (key, name, line) in [
        ("build/Install it", "Install it", 8),
        ("build/__run_2", "Run true", 10),
        ("build/left", "Run for i in 1 2 3; do touch left$i shared; sleep 0.1; done", 13),
        ("build/right", "Run for i in 1 2 3; do touch right$i shared; sleep 0.1; done", 15),
        ("build/Composite", "Composite", 17),
        ("build/Liar", "Liar", 19),
    ] {
        assert_eq!(steps.get(key), Some(&(name, Some(line))), "{key} in {steps:#?}");
    }

    let made: BTreeMap<String, (&str, Option<u64>)> = report["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|finding| {
            let name = finding["object"].as_str()?.rsplit('/').next()?.to_owned();
            Some((name, (finding["step"].as_str()?, finding["location"]["line"].as_u64())))
        })
        .collect();
    let expected = [
        ("one", "build/Install it", 8),
        ("two", "build/__run_2", 10),
        ("left3", "build/left", 13),
        // Both write it, side by side; the policy of one step forbids it.
        ("shared", "build/left", 13),
        ("right3", "build/right", 15),
        ("inner1", "build/Composite", 17),
        ("inner2", "build/Composite", 17),
        ("liar", "build/Liar", 19),
        ("late", "build/Liar", 19),
        ("deployed", "build/Deploy ${{ github.ref }}", 23),
    ];
    let expected = expected.map(|(file, step, line)| (file.to_owned(), (step, Some(line))));
    assert_eq!(made, BTreeMap::from(expected), "{report:#}");
    assert_eq!(report["coverage"]["state"], "full", "{report:#}");

    // Judged anew it is the same, byte for byte.
    let again = root.join("again");
    let replayed = Command::new(env!("CARGO_BIN_EXE_edamame-guard"))
        .arg("replay")
        .arg(root.join("report"))
        .arg("--report-dir")
        .arg(&again)
        .output()
        .unwrap();
    assert_eq!(replayed.status.code(), Some(0));
    for name in ["findings.json", "results.sarif", "junit.xml", "summary.md", "report.html"] {
        let read = |folder: &Path| std::fs::read(folder.join(name)).unwrap();
        assert!(read(&root.join("report")) == read(&again), "{name} differs");
    }
}

const STARTED_IN_A_STEP: &str = r#"name: CI
on: push
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - name: Watch
        run: |
          "$GUARD" start --report-dir "$REPORT" > /dev/null
          touch early
      - uses: acme/tool@v1
      - uses: acme/tool@v1
      - name: Other
        run: GITHUB_OUTPUT=$(cat "$RUNNER_TEMP/first") touch claimed
      - name: Test
        run: GITHUB_ACTION=x GITHUB_OUTPUT=$RUNNER_TEMP/set_output_of-a-test touch made-up
"#;

#[test]
fn a_guard_that_a_step_starts_watches_the_whole_job() {
    common::alone("a_guard_that_a_step_starts_watches_the_whole_job", |_| {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        let text = |name: &str| root.join(name).to_string_lossy().into_owned();
        let plan = json!({
            "guard": env!("CARGO_BIN_EXE_edamame-guard"),
            "workspace": text("work"),
            "temp": text("temp"),
            "report": text("report"),
            "job": "build",
            "starts": false,
            "env": {"GUARD": env!("CARGO_BIN_EXE_edamame-guard"), "REPORT": text("report")},
            "steps": [
                [{"action": "__run", "script": "\"$GUARD\" start --report-dir \"$REPORT\" > /dev/null\ntouch early\n"}],
                [{"action": "__acme_tool", "words": ["sh", "-c", "echo \"$GITHUB_OUTPUT\" > \"$RUNNER_TEMP/first\"; touch tool"]}],
                [{"action": "__acme_tool_2", "words": ["sh", "-c", "touch tool2"]}],
                [{"action": "__run_2", "script": "GITHUB_OUTPUT=$(cat \"$RUNNER_TEMP/first\") touch claimed"}],
                [{"action": "__run_3", "script": "GITHUB_ACTION=x GITHUB_OUTPUT=$RUNNER_TEMP/set_output_of-a-test touch made-up"}],
            ],
        });
        let policy = "version: 1\nfail-on: none\ndefaults:\n  files:\n    deny: [write ./early, write ./tool, write ./tool2, write ./claimed, write ./made-up]\n";
        let (said, report) = run(root, STARTED_IN_A_STEP, policy, &plan);
        let found: BTreeMap<String, (&str, Option<u64>)> = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .map(|finding| {
                let object = finding["object"].as_str().unwrap().rsplit('/').next().unwrap();
                let rule = finding["rule"].as_str().unwrap();
                let name = if rule == "sensor-evasion" { rule } else { object };
                (name.to_owned(), (finding["step"].as_str().unwrap(), finding["location"]["line"].as_u64()))
            })
            .collect();
        let expected = [
            ("early", "build/Watch", 7),
            ("tool", "build/acme/tool@v1", 11),
            ("tool2", "build/acme/tool@v1#2", 12),
            // It borrows another step's environment, and stays where it was forked.
            ("claimed", "build/Other", 13),
            ("sensor-evasion", "build/Other", 13),
            ("made-up", "build/Test", 15),
        ];
        let expected = expected.map(|(file, step, line)| (file.to_owned(), (step, Some(line))));
        assert_eq!(found, BTreeMap::from(expected), "{said}\n{report:#}");
        let claim =
            report["findings"].as_array().unwrap().iter().find(|finding| finding["rule"] == "sensor-evasion");
        assert_eq!(claim.unwrap()["severity"], "low", "a note: a build server works like that as well");
    });
}

const CANCELLED: &str = r"name: CI
on: push
jobs:
  build:
    runs-on: ubuntu-latest
    steps:
      - uses: edamame/guard@v1
      - name: Before
        run: touch early
      - id: polite
        run: touch is-polite; exec sleep 61
      - id: stubborn
        run: trap '' INT; touch is-stubborn; exec sleep 62
      - id: deaf
        run: trap '' INT TERM; (setsid sleep 64 &); touch is-deaf; exec sleep 63
      - name: Never
        run: touch never
      - name: Always
        if: always()
        run: touch always
";

#[test]
fn a_cancelled_job_is_judged_up_to_where_it_came() {
    common::alone("a_cancelled_job_is_judged_up_to_where_it_came", |_| {
        for is_shut_down in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let root = folder.path();
            let mut plan = plan(root);
            plan["shutdown"] = json!(is_shut_down);
            let step = |action: &str, script: &str| json!({"action": action, "script": script});
            let mut side_by_side = vec![
                step("polite", "touch is-polite; exec sleep 61"),
                step("stubborn", "trap '' INT; touch is-stubborn; exec sleep 62"),
                step("deaf", "trap '' INT TERM; (setsid sleep 64 &); touch is-deaf; exec sleep 63"),
            ];
            if is_shut_down {
                side_by_side.truncate(1);
            }
            let awaited: &[&str] =
                if is_shut_down { &["is-polite"] } else { &["is-polite", "is-stubborn", "is-deaf"] };
            side_by_side[0]["cancel"] = json!(awaited);
            let mut always = step("__run_3", "touch always");
            always["always"] = json!(true);
            plan["steps"] = json!([
                [step("__run", "touch early")],
                side_by_side,
                [step("__run_2", "touch never")],
                [always]
            ]);
            let policy = "version: 1\nfail-on: none\ndefaults:\n  files:\n    deny: [write ./early, write ./is-polite, write ./is-stubborn, write ./is-deaf, write ./never, write ./always]\n";
            let (said, report) = run(root, CANCELLED, policy, &plan);
            let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();

            // Each step ended by what it heeds, when the runner's patience was over.
            let ended: BTreeMap<&str, (&str, f64)> = lines
                .iter()
                .filter_map(|line| {
                    Some((line["cancelled"].as_str()?, (line["by"].as_str()?, line["after"].as_f64()?)))
                })
                .collect();
            assert!(matches!(ended["polite"], ("SIGINT", 0.0..7.5)), "{said}");
            if !is_shut_down {
                assert!(matches!(ended["stubborn"], ("SIGTERM", 7.5..10.0)), "{said}");
                assert!(matches!(ended["deaf"], ("SIGKILL", 10.0..15.0)), "{said}");
            }
            // Where memory is short the job goes first, and the recorder last.
            let oom = lines.iter().find(|line| line["oom"]["polite"] == 500);
            assert!(oom.is_some(), "{said}");
            assert!(
                lines.iter().any(|line| line["recorder"].is_u64() && line["oom"].as_i64() <= Some(0)),
                "{said}"
            );

            let found: BTreeMap<String, &str> = report["findings"]
                .as_array()
                .unwrap()
                .iter()
                .map(|finding| {
                    let object = finding["object"].as_str().unwrap().rsplit('/').next().unwrap();
                    (object.to_owned(), finding["step"].as_str().unwrap())
                })
                .collect();
            let mut expected =
                vec![("early", "build/Before"), ("is-polite", "build/polite"), ("always", "build/Always")];
            if !is_shut_down {
                expected.extend([("is-stubborn", "build/stubborn"), ("is-deaf", "build/deaf")]);
            }
            let expected = expected.into_iter().map(|(file, step)| (file.to_owned(), step));
            assert_eq!(found, expected.collect(), "{said}\n{report:#}");
            assert_eq!(report["coverage"]["state"], "full", "{report:#}");
            // What is left is whole, and signed.
            let verified = Command::new(env!("CARGO_BIN_EXE_edamame-guard"))
                .arg("verify")
                .arg(root.join("report"))
                .output()
                .unwrap();
            assert_eq!(verified.status.code(), Some(0), "{}", String::from_utf8_lossy(&verified.stderr));
        }
    });
}
