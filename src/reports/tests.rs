//! What every format keeps: goldens of three runs, the readers' rules, and hostile text.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use serde_json::Value;

use super::terminal::{Style, render};
use super::{Directory, Format, sample, write};
use crate::finding::Report;

fn text_of(format: Format, report: &Report) -> String {
    let mut bytes = Vec::new();
    write(format, report, &sample::RULES, &mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

fn json_of(format: Format, report: &Report) -> Value {
    serde_json::from_str(&text_of(format, report)).unwrap()
}

fn samples() -> [(&'static str, Report); 3] {
    [("clean", sample::clean()), ("findings", sample::findings()), ("blind", sample::blind())]
}

/// Opens the directory and writes every format into it.
fn save(path: &Path, report: &Report) -> io::Result<()> {
    Directory::open(path)?.write_all(report, &sample::RULES)
}

#[test]
fn three_runs_are_told_as_before() {
    let mut different = Vec::new();
    for (name, report) in samples() {
        for format in Format::ALL {
            // A release changes its number, not its reports.
            let text = text_of(format, &report).replace(env!("CARGO_PKG_VERSION"), "VERSION");
            compare(&format!("{name}/{}", format.file_name()), &text, &mut different);
        }
        let text = render(&report, Style { colour: false, width: 100 }, Some("guard-reports"));
        compare(&format!("{name}/terminal.txt"), &text, &mut different);
    }
    assert!(
        different.is_empty(),
        "changed: {different:?}\nhint: `UPDATE_GOLDENS=1 cargo test reports` accepts what they are now"
    );
}

fn compare(name: &str, text: &str, different: &mut Vec<PathBuf>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens/reports").join(name);
    if std::env::var_os("UPDATE_GOLDENS").is_some_and(|value| value == "1") {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
    } else if std::fs::read_to_string(&path).ok().as_deref() != Some(text) {
        different.push(path);
    }
}

#[test]
fn findings_json_has_the_keys_of_its_schema_in_order() {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let document = json_of(Format::FindingsJson, &sample::findings());
    assert_eq!(document["schema"], "edamame-guard/findings/v1");
    for key in ["verdict", "exit", "mode", "fail_on", "coverage", "steps", "findings", "suppressed"] {
        assert!(keys(&document).contains(key), "{key}");
    }
    let finding = &document["findings"][2];
    for key in ["agent", "tool_call", "declared", "location"] {
        assert!(finding[key].is_null() && keys(finding).contains(key), "{key} is null, not absent");
    }
    assert!(document["findings"][3]["process"].is_null());
    assert!(document["exit"]["signal"].is_null());

    let text = text_of(Format::FindingsJson, &sample::findings());
    let after_first = &text[text.find("\"findings\": [").unwrap()..];
    let order = [
        "rule",
        "kind",
        "severity",
        "confidence",
        "fails",
        "title",
        "step",
        "agent",
        "tool_call",
        "process",
        "object",
        "disposition",
        "declared",
        "techniques",
        "references",
        "evidence",
        "first_seen",
        "reported_at",
        "count",
        "location",
        "fingerprint",
        "remedy",
        "silence",
        "more_objects",
    ];
    let places: Vec<usize> =
        order.iter().map(|key| after_first.find(&format!("\n      \"{key}\":")).expect(key)).collect();
    assert!(places.is_sorted(), "{order:?} {places:?}");
}

/// What GitHub's code scanning requires of a file, as code: no schema says it.
fn check_sarif(log: &Value) {
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    assert!(log["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    assert_eq!(log["version"], "2.1.0");
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert!(text(&driver["name"]) && text(&driver["semanticVersion"]) && text(&driver["informationUri"]));
    assert!(run["automationDetails"]["id"].as_str().unwrap().matches('/').count() >= 2);
    assert!(run["invocations"][0]["executionSuccessful"].is_boolean());

    let rules = driver["rules"].as_array().unwrap();
    let ids: BTreeSet<&str> = rules.iter().map(|rule| rule["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), rules.len(), "rule ids are unique");
    for rule in rules {
        for (part, limit) in [("shortDescription", 1024), ("fullDescription", 1024), ("help", usize::MAX)] {
            assert!(text(&rule[part]["text"]), "{part} of {}", rule["id"]);
            assert!(rule[part]["text"].as_str().unwrap().chars().count() <= limit);
        }
        assert!(text(&rule["help"]["markdown"]));
        assert!(rule["name"].as_str().unwrap().len() <= 255);
        let properties = &rule["properties"];
        let severity: f64 = properties["security-severity"].as_str().unwrap().parse().unwrap();
        assert!((0.1..=10.0).contains(&severity));
        let tags = properties["tags"].as_array().unwrap();
        assert!(tags.len() <= 20 && tags.iter().any(|tag| tag == "security"));
        assert!(["very-high", "high", "medium", "low"].contains(&properties["precision"].as_str().unwrap()));
    }

    let mut fingerprints = BTreeSet::new();
    for result in run["results"].as_array().unwrap() {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(result["ruleId"], rules[index]["id"]);
        assert!(["error", "warning", "note"].contains(&result["level"].as_str().unwrap()));
        assert!(text(&result["message"]["text"]));
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let flow: Vec<Value> = list(&result["codeFlows"])
            .iter()
            .flat_map(|flow| list(&flow["threadFlows"]))
            .flat_map(|thread| list(&thread["locations"]))
            .map(|step| step["location"].clone())
            .collect();
        assert!(flow.len() <= 1000, "GitHub shows no more of one flow");
        let places = list(&result["locations"]);
        assert_eq!(places.len(), 1, "GitHub places an alert by the first only");
        for place in places.iter().chain(&list(&result["relatedLocations"])).chain(&flow) {
            let physical = &place["physicalLocation"];
            let uri = physical["artifactLocation"]["uri"].as_str().unwrap();
            assert!(
                !uri.is_empty() && !uri.starts_with('/') && uri.bytes().all(|byte| byte.is_ascii_graphic())
            );
            for number in ["startLine", "startColumn", "endLine", "endColumn"] {
                assert!(physical["region"][number].as_u64().unwrap() >= 1, "{number}");
            }
        }
        assert!(text(&result["locations"][0]["logicalLocations"][0]["fullyQualifiedName"]));
        let print = result["partialFingerprints"]["primaryLocationLineHash"].as_str().unwrap();
        assert!(fingerprints.insert(print.to_owned()), "two alerts are one: {print}");
    }
    let typed: serde_sarif::sarif::Sarif = serde_json::from_value(log.clone()).unwrap();
    assert_eq!(serde_json::to_value(&typed).unwrap(), *log);
}

#[test]
fn sarif_is_what_code_scanning_takes() {
    for (_, report) in samples() {
        check_sarif(&json_of(Format::Sarif, &report));
    }
    // Two findings with one fingerprint stay two alerts.
    let mut report = sample::findings();
    report.findings.push(report.findings[0].clone());
    check_sarif(&json_of(Format::Sarif, &report));
}

/// What GitLab's code quality widget needs of each entry.
#[test]
fn codequality_is_what_gitlab_takes() {
    let mut report = sample::findings();
    report.findings.push(report.findings[0].clone());
    let document = json_of(Format::CodeQuality, &report);
    let issues = document.as_array().unwrap();
    assert_eq!(issues.len(), report.findings.len());
    let mut fingerprints = BTreeSet::new();
    for issue in issues {
        assert!(!issue["description"].as_str().unwrap().is_empty());
        assert!(!issue["description"].as_str().unwrap().contains('\n'));
        assert!(!issue["check_name"].as_str().unwrap().is_empty());
        assert!(
            ["info", "minor", "major", "critical", "blocker"].contains(&issue["severity"].as_str().unwrap())
        );
        assert!(fingerprints.insert(issue["fingerprint"].as_str().unwrap().to_owned()), "two are one");
        let path = issue["location"]["path"].as_str().unwrap();
        assert!(!path.is_empty() && !path.starts_with(['/', '.']) || path.starts_with(".git"), "{path}");
        assert!(issue["location"]["lines"]["begin"].as_u64().unwrap() >= 1);
    }
    assert_eq!(json_of(Format::CodeQuality, &sample::clean()), serde_json::json!([]));
}

/// What GitLab's security report schema 15.x requires: a report that lacks any of it is dropped.
#[test]
fn sast_has_what_the_schema_requires() {
    let text = |value: &Value| value.as_str().is_some_and(|text| !text.is_empty());
    let mut double = sample::findings();
    double.findings.push(double.findings[0].clone());
    for report in [sample::clean(), sample::findings(), sample::blind(), double] {
        let document = json_of(Format::GlSast, &report);
        assert!(document["version"].as_str().unwrap().starts_with("15."));
        let scan = &document["scan"];
        for tool in ["analyzer", "scanner"] {
            for key in ["id", "name", "version"] {
                assert!(text(&scan[tool][key]), "{tool}.{key}");
            }
            assert!(text(&scan[tool]["vendor"]["name"]));
        }
        assert_eq!(scan["type"], "sast");
        for key in ["start_time", "end_time"] {
            // `^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}$`
            let shape: String = scan[key]
                .as_str()
                .unwrap()
                .chars()
                .map(|sign| if sign.is_ascii_digit() { '0' } else { sign })
                .collect();
            assert_eq!(shape, "0000-00-00T00:00:00", "{key}");
        }
        assert!(["success", "failure"].contains(&scan["status"].as_str().unwrap()));
        let found = document["vulnerabilities"].as_array().unwrap();
        assert_eq!(found.len(), report.findings.len());
        let mut ids = BTreeSet::new();
        for one in found {
            assert!(ids.insert(one["id"].as_str().unwrap().to_owned()), "two are one");
            assert!(one["name"].as_str().unwrap().chars().count() <= 255);
            let severities = ["Info", "Unknown", "Low", "Medium", "High", "Critical"];
            assert!(severities.contains(&one["severity"].as_str().unwrap()));
            let identifiers = one["identifiers"].as_array().unwrap();
            assert!((1..=20).contains(&identifiers.len()));
            for identifier in identifiers {
                assert!(["type", "name", "value"].iter().all(|key| text(&identifier[key])), "{identifier}");
            }
            assert!(text(&one["location"]["file"]));
            assert!(one["location"]["start_line"].as_u64().unwrap() >= 1);
        }
    }
    let blind = json_of(Format::GlSast, &sample::blind());
    assert_eq!(blind["scan"]["status"], "failure");
    assert_eq!(blind["scan"]["messages"][0]["level"], "fatal");
    assert_eq!(json_of(Format::GlSast, &sample::clean())["scan"]["status"], "success");
}

#[test]
fn sarif_says_when_nothing_was_watched() {
    let log = json_of(Format::Sarif, &sample::blind());
    let invocation = &log["runs"][0]["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    assert_eq!(invocation["toolExecutionNotifications"][0]["level"], "error");
    assert_eq!(
        json_of(Format::Sarif, &sample::clean())["runs"][0]["invocations"][0]["executionSuccessful"],
        true
    );
}

#[test]
fn sarif_shows_lineage_and_declaration() {
    let log = json_of(Format::Sarif, &sample::findings());
    let result = &log["runs"][0]["results"][0];
    let flow = result["codeFlows"][0]["threadFlows"][0]["locations"].as_array().unwrap();
    let told: Vec<&str> =
        flow.iter().map(|step| step["location"]["message"]["text"].as_str().unwrap()).collect();
    assert_eq!(told[0], "npm (101): npm test");
    assert_eq!(told.last().unwrap(), &"detected: /home/runner/.aws/credentials");
    let related = &result["relatedLocations"][0]["physicalLocation"];
    assert_eq!(related["artifactLocation"]["uri"], ".github/workflows/ci.yml");
    assert_eq!(related["region"]["startLine"], 14);
    let coverage = &log["runs"][0]["results"][3]["locations"][0]["physicalLocation"];
    assert_eq!(coverage["artifactLocation"]["uri"], ".github/guard.yml");
}

#[test]
fn sarif_tells_jobs_and_legs_of_a_matrix_apart() {
    let mut report = sample::findings();
    let id = |report: &Report| {
        let log = json_of(Format::Sarif, report);
        check_sarif(&log);
        log["runs"][0]["automationDetails"]["id"].as_str().unwrap().rsplit_once('/').unwrap().0.to_owned()
    };
    assert_eq!(id(&report), "edamame-guard/build");
    report.job.pipeline = Some(crate::job::Pipeline {
        workflow: Some(".github/workflows/ci.yml".to_owned()),
        matrix: Some("22, linux".to_owned()),
        ..crate::job::Pipeline::default()
    });
    assert_eq!(id(&report), "edamame-guard/.github/workflows/ci.yml/build (22, linux)");
    // What has no line of its own stands at the top of the workflow's file.
    let log = json_of(Format::Sarif, &report);
    let physical = &log["runs"][0]["results"][3]["locations"][0]["physicalLocation"];
    assert_eq!(physical["artifactLocation"]["uri"], ".github/workflows/ci.yml");
    assert_eq!(physical["region"]["startLine"], 1);
}

/// Reads the whole file, and gives each case with its outcome.
fn check_junit(xml: &str) -> Vec<(String, String)> {
    use quick_xml::events::Event;
    let mut reader = quick_xml::Reader::from_str(xml);
    reader.config_mut().check_end_names = true;
    let mut cases: Vec<(String, String)> = Vec::new();
    let mut depth = 0;
    assert!(!xml.chars().any(
        |c| matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}')
    ));
    loop {
        let event = reader.read_event().unwrap();
        match &event {
            Event::Start(tag) | Event::Empty(tag) => {
                if matches!(event, Event::Start(_)) {
                    depth += 1;
                }
                let mut name = String::new();
                for attribute in tag.attributes() {
                    let attribute = attribute.unwrap();
                    let value = attribute
                        .decoded_and_normalized_value(quick_xml::XmlVersion::Explicit1_0, reader.decoder())
                        .unwrap();
                    if attribute.key.as_ref() == b"name" {
                        name = value.into_owned();
                    }
                }
                match tag.name().as_ref() {
                    b"testcase" => cases.push((name, "passed".to_owned())),
                    outcome @ (b"failure" | b"skipped") => {
                        cases.last_mut().unwrap().1 = String::from_utf8_lossy(outcome).into_owned();
                    }
                    b"testsuites" | b"testsuite" | b"system-out" => {}
                    other => panic!("unknown element {}", String::from_utf8_lossy(other)),
                }
            }
            Event::End(_) => depth -= 1,
            Event::Text(text) => assert!(text.trim_ascii().is_empty(), "stray text: {text:?}"),
            Event::Decl(_) | Event::CData(_) => {}
            Event::Eof => break,
            other => panic!("unexpected {other:?}"),
        }
    }
    assert_eq!(depth, 0);
    let names: BTreeSet<&String> = cases.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), cases.len(), "names are unique");
    cases
}

#[test]
fn junit_has_a_case_for_each_step_and_rule() {
    let cases = check_junit(&text_of(Format::Junit, &sample::findings()));
    let outcome =
        |name: &str| cases.iter().find(|(case, _)| case == name).map(|(_, outcome)| outcome.as_str());
    assert_eq!(outcome("build/test: cred-file-access"), Some("failure"));
    assert_eq!(outcome("build/test: egress-undeclared"), Some("passed"), "a note fails nothing");
    assert_eq!(outcome("build/install: cred-file-access"), Some("passed"));
    assert_eq!(outcome("coverage: process events"), Some("passed"));
    assert_eq!(outcome("coverage: nothing lost"), Some("skipped"));
    assert_eq!(outcome("coverage: coverage-lost: file records"), Some("skipped"));
    let text = text_of(Format::Junit, &sample::findings());
    assert!(text.contains("note: curl talked to telemetry.example.com:443"));
}

#[test]
fn junit_passes_nothing_that_was_not_looked_at() {
    let cases = check_junit(&text_of(Format::Junit, &sample::blind()));
    let passed: Vec<_> = cases.iter().filter(|(_, outcome)| outcome == "passed").collect();
    assert_eq!(passed, [&("coverage: nothing lost".to_owned(), "passed".to_owned())]);

    // A sensor that died half-way saw some processes; what it did not report it may have missed.
    let mut died = sample::clean();
    died.coverage.state = crate::finding::CoverageState::Blind;
    died.exit.guard = 125;
    let cases = check_junit(&text_of(Format::Junit, &died));
    assert!(cases.contains(&("build/test: persistence".to_owned(), "skipped".to_owned())));
    assert!(text_of(Format::Summary, &died).contains("the sensor was not watching at the end"));

    let cases = check_junit(&text_of(Format::Junit, &sample::clean()));
    assert!(cases.contains(&("build/tool: egress-undeclared".to_owned(), "skipped".to_owned())));
    assert!(cases.contains(&("build/tool: persistence".to_owned(), "passed".to_owned())));
}

#[test]
fn hostile_text_gives_no_orders() {
    let report = sample::findings();
    for text in [
        text_of(Format::Summary, &report),
        text_of(Format::Junit, &report),
        render(&report, Style { colour: false, width: 60 }, Some(sample::HOSTILE)),
    ] {
        assert!(!text.contains('\u{1b}') && !text.contains('\0') && !text.contains('\u{202e}'));
        assert!(!text.lines().any(|line| line.trim_start().starts_with("::error")), "{text}");
    }
    let terminal = render(&report, Style::default(), Some(sample::HOSTILE));
    assert!(!terminal.contains("##["));
    assert!(!terminal.lines().any(|line| line.trim_start().starts_with("::")), "{terminal}");
}

/// Names that a job may give to its programs, files and hosts, each an order to some reader.
const ORDERS: &[&str] = &[
    "::error file=x,line=1::owned",
    "\n::add-mask::a\n",
    "\r::stop-commands::x\r\n",
    "##[error]owned",
    "##vso[task.complete]",
    "</details></td></table><script>alert(1)</script>",
    "| a | b |\n|---|---|",
    "```\n\n# title\n",
    "`a`` ``",
    "<img src=x onerror=alert(1)>",
    "<!-- x --> @everyone #1 [l](https://evil.example) ![i](https://evil.example/i.png)",
    "]]><failure message='x'/>",
    "\",\"fails\":false,\"x\":\"",
    "\u{1b}[2J\u{1b}]0;t\u{7}\u{9b}31m",
    "\u{202e}gpj.exe\u{2066}\u{200f}",
    "a\0b\u{fffe}\u{8}\u{7f}",
    "$(id) ${{ secrets.X }} $x^2$ :tada: www.evil.example",
    "\u{fffd}\u{e0041}\u{2028}::error::x",
];

/// The report of a run in which everything that the job can name is called so.
fn named(name: &str) -> Report {
    let mut report = sample::findings();
    // What the kernel hands over need not be UTF-8; at the edge it becomes this.
    let name = String::from_utf8_lossy(&[name.as_bytes(), b"\xff\xc0"].concat()).into_owned();
    for finding in &mut report.findings {
        for text in [&mut finding.title, &mut finding.object, &mut finding.remedy, &mut finding.silence] {
            *text = format!("{text} {name}");
        }
        finding.declared = Some(name.clone());
        finding.agent = Some(name.clone());
        finding.step.0 = format!("build/{name}");
        finding.more_objects = vec![name.clone()];
        if let Some(location) = &mut finding.location {
            location.path.clone_from(&name);
        }
        for process in finding.process.iter_mut().chain(&mut finding.ancestry) {
            process.name.clone_from(&name);
            process.executable = format!("/tmp/{name}");
            process.arguments = vec![name.clone(), name.clone()];
        }
    }
    for step in &mut report.steps {
        step.key.0.clone_from(&name);
        step.declared.clone_from(&name);
        for destination in &mut step.destinations {
            destination.host.clone_from(&name);
            destination.program.clone_from(&name);
        }
    }
    report.coverage.gaps = vec![name.clone()];
    report.notices = vec![name.clone(), format!("{name}\n{name}")];
    report.policy = Some(name.clone());
    report.suppressed[0].object = name;
    report
}

#[test]
fn no_name_is_an_order_to_any_reader() {
    for name in ORDERS {
        let report = named(name);
        check_sarif(&json_of(Format::Sarif, &report));
        check_junit(&text_of(Format::Junit, &report));
        let document = json_of(Format::FindingsJson, &report);
        assert_eq!(document["findings"].as_array().unwrap().len(), report.findings.len());
        assert!(document["findings"][0]["declared"].as_str().unwrap().starts_with(name), "kept as it was");

        let page = text_of(Format::Summary, &report);
        let terminal = render(&report, Style { colour: false, width: 80 }, Some(name));
        let commands = crate::github::workflow_commands(&report);
        for text in [&page, &terminal, &commands] {
            let is_hidden = |c: char| {
                (c.is_control() && c != '\n')
                    || matches!(c, '\u{202e}' | '\u{2066}' | '\u{200f}' | '\u{2028}')
            };
            assert!(!text.contains(is_hidden), "{name:?}");
            assert!(!text.contains("##[") && !text.contains("##vso["), "{name:?}");
        }
        for text in [&page, &terminal] {
            assert!(!text.lines().any(|line| line.trim_start().starts_with("::")), "{name:?}:\n{text}");
        }
        assert_eq!(commands.lines().count(), report.findings.iter().filter(|it| it.fails).count());
        assert!(commands.lines().all(|line| line.starts_with("::error ")), "{name:?}:\n{commands}");

        let bare = outside_of_code(&page).replace("\\]", "");
        for order in ["<img", "<script", "</td>", "](http", "https://", "@everyone", "<!-- x"] {
            assert!(!bare.contains(order), "{name:?}: {order} in:\n{bare}");
        }
        assert_eq!(bare.matches("<details>").count(), bare.matches("</details>").count(), "{name:?}");
        for row in bare.lines().filter(|line| line.starts_with("| ")) {
            assert_eq!(row.matches('|').count(), 5, "{row}");
        }
    }
}

#[test]
fn three_hundred_findings_with_five_megabytes_of_names_are_a_page_that_is_shown() {
    let mut report = named(ORDERS[0]);
    let name = ORDERS.concat().repeat(20);
    let one = report.findings[0].clone();
    report.findings = vec![one; 300];
    for finding in &mut report.findings {
        finding.object.clone_from(&name);
        finding.title.clone_from(&name);
        finding.process.as_mut().unwrap().arguments = vec![name.clone()];
    }
    let size = 3 * 300 * name.len();
    assert!(size > 5_000_000, "{size} bytes of names");
    assert!(text_of(Format::Summary, &report).len() < 900 * 1024);
    assert!(super::summary_within(&report, 65_000).len() < 65_000);
    assert!(text_of(Format::Summary, &report).contains("Reports: `findings.json`"));
    let commands = crate::github::workflow_commands(&report);
    assert_eq!(commands.lines().count(), 11);
}

#[test]
fn a_summary_holds_no_markup_of_others() {
    let page = text_of(Format::Summary, &sample::findings());
    let bare = outside_of_code(&page).replace("\\*", "").replace("\\]", "");
    for order in ["<img", "*x*", "](http", "https://", "@everyone"] {
        assert!(!bare.contains(order), "{order} in:\n{bare}");
    }
    assert_eq!(bare.matches("<details>").count(), bare.matches("</details>").count());
    // Each row of a table has four cells, whatever the cells hold.
    for row in page.lines().filter(|line| line.starts_with("| ")) {
        assert_eq!(row.matches('|').count(), 5, "{row}");
    }
}

/// What a reader of Markdown interprets: neither code spans nor fenced blocks.
fn outside_of_code(page: &str) -> String {
    let mut bare = String::new();
    let mut fence: Option<usize> = None;
    for line in page.lines() {
        let ticks = line.bytes().take_while(|byte| *byte == b'`').count();
        match fence {
            Some(open) if ticks >= open && line.trim_matches('`').is_empty() => fence = None,
            Some(_) => {}
            None if ticks >= 3 => fence = Some(ticks),
            None => {
                let mut rest = line;
                while let Some(start) = rest.find('`') {
                    if rest[..start].ends_with('\\') {
                        bare.push_str(&rest[..=start]);
                        rest = &rest[start + 1..];
                        continue;
                    }
                    let ticks = rest[start..].bytes().take_while(|byte| *byte == b'`').count();
                    bare.push_str(&rest[..start]);
                    rest = &rest[start + ticks..];
                    let mut end = 0;
                    loop {
                        let Some(next) = rest[end..].find('`') else { panic!("open code span in {line}") };
                        let run = rest[end + next..].bytes().take_while(|byte| *byte == b'`').count();
                        end += next + run;
                        if run == ticks {
                            break;
                        }
                    }
                    rest = &rest[end..];
                }
                bare.push_str(rest);
                bare.push('\n');
            }
        }
    }
    assert!(fence.is_none(), "a fenced block is not closed");
    bare
}

#[test]
fn all_files_are_written_whole() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("a/b/");
    for _ in 0..2 {
        save(&directory, &sample::findings()).unwrap();
    }
    let mut names: Vec<String> = std::fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "codequality.json",
            "findings.json",
            "gl-sast-report.json",
            "junit.xml",
            "report.html",
            "results.sarif",
            "summary.md"
        ]
    );
    assert_eq!(
        std::fs::read_to_string(directory.join("summary.md")).unwrap(),
        text_of(Format::Summary, &sample::findings())
    );
}

#[test]
fn symbolic_links_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&elsewhere, &link).unwrap();
    for path in [link.clone(), PathBuf::from(format!("{}/", link.display()))] {
        let error = save(&path, &sample::clean()).unwrap_err().to_string();
        assert!(error.contains("is a symbolic link"), "{error}");
    }
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 0);

    let directory = folder.path().join("reports");
    std::fs::create_dir(&directory).unwrap();
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "mine").unwrap();
    std::os::unix::fs::symlink(&victim, directory.join("junit.xml")).unwrap();
    let error = save(&directory, &sample::clean()).unwrap_err().to_string();
    assert!(error.contains("junit.xml") && error.contains("is not a regular file"), "{error}");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");

    // What an attacker leaves under the temporary name is removed, not followed.
    std::fs::remove_file(directory.join("junit.xml")).unwrap();
    std::os::unix::fs::symlink(&victim, directory.join(".junit.xml.part")).unwrap();
    save(&directory, &sample::clean()).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");
}

/// Any text, with more of what matters to the formats than chance would give.
fn any_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<String>(),
        "[\\x00-\\x1f\\x7f-\\x9f`|<>&\"'\\]\\[(){}*_~#@:!$\\\\/ -]{0,12}",
        Just(sample::HOSTILE.to_owned()),
        Just("]]>".to_owned()),
        Just("\n\n```\n</details>\n".to_owned()),
    ];
    prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_leaves_every_format_whole(title in any_text(), path in any_text(), step in any_text()) {
        let mut report = sample::findings();
        report.findings[0].title.clone_from(&title);
        report.findings[0].object.clone_from(&path);
        report.findings[0].step.0.clone_from(&step);
        report.findings[0].declared = Some(path.clone());
        report.findings[0].remedy.clone_from(&title);
        report.findings[0].silence.clone_from(&title);
        if let Some(process) = &mut report.findings[0].process {
            process.executable.clone_from(&path);
            process.arguments = vec![title.clone(), path.clone()];
        }
        if let Some(location) = &mut report.findings[0].location {
            location.path.clone_from(&path);
            location.line = 0;
        }
        report.steps[0].declared.clone_from(&title);
        report.steps[0].key.0.clone_from(&step);
        report.coverage.gaps = vec![title.clone(), title.clone()];
        report.notices = vec![path.clone(), title.clone()];

        let document = json_of(Format::FindingsJson, &report);
        prop_assert_eq!(document["findings"][0]["title"].as_str(), Some(title.as_str()));
        check_sarif(&json_of(Format::Sarif, &report));
        check_junit(&text_of(Format::Junit, &report));
        let page = text_of(Format::Summary, &report);
        prop_assert!(!page.contains(char::from(27)));
        let bare = outside_of_code(&page);
        prop_assert_eq!(bare.matches("<details>").count(), bare.matches("</details>").count());
        let terminal = render(&report, Style { colour: false, width: 40 }, None);
        prop_assert!(!terminal.contains(|c: char| c.is_control() && c != '\n'));
        prop_assert!(!terminal.lines().any(|line| line.trim_start().starts_with("::")));
    }
}
