//! `junit.xml`: one suite per step, one case per step and rule, for the CI system's test tab.
//!
//! What could not be looked at is a skipped case, never a passed one.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io;

use junit_report::{Duration, OffsetDateTime, ReportBuilder, TestCase, TestResult, TestSuite};

use super::{text, words};
use crate::detections::Detection;
use crate::event::{Plane, Reach};
use crate::finding::{Finding, Kind, Report};
use crate::job::{Location, StepKey};

/// Rules that compare with a declaration, and the plane they look at: without either they
/// have not looked.
const COMPARES: [(&str, Plane); 3] = [
    ("egress-undeclared", Plane::Egress),
    ("file-undeclared", Plane::File),
    ("run-undeclared", Plane::Process),
];

/// Findings told in full in one case; readers take 30 MB a file at most.
const TOLD_PER_CASE: usize = 20;

pub(super) fn write(report: &Report, rules: &[&Detection], out: &mut dyn io::Write) -> io::Result<()> {
    let mut suites = ReportBuilder::new();
    let mut names = Names::default();
    for (key, location) in steps(report) {
        suites.add_testsuite(step_suite(report, rules, key, location, &mut names));
    }
    suites.add_testsuite(coverage_suite(report, &mut names));
    suites.build().write_xml(&mut *out).map_err(|error| match error {
        junit_report::Error::Io(error) => error,
        junit_report::Error::Xml(error) => io::Error::other(error),
    })?;
    out.write_all(b"\n")
}

/// The steps of the report, then those only a finding names, such as `_unattributed`.
fn steps(report: &Report) -> Vec<(&StepKey, Option<&Location>)> {
    let mut steps: Vec<_> = report.steps.iter().map(|step| (&step.key, step.location.as_ref())).collect();
    for finding in report.findings.iter().filter(|finding| finding.kind != Kind::Coverage) {
        if !steps.iter().any(|(key, _)| *key == &finding.step) {
            steps.push((&finding.step, finding.location.as_ref()));
        }
    }
    steps
}

fn step_suite(
    report: &Report,
    rules: &[&Detection],
    key: &StepKey,
    location: Option<&Location>,
    names: &mut Names,
) -> TestSuite {
    let findings: Vec<&Finding> = report
        .findings
        .iter()
        .filter(|finding| finding.kind != Kind::Coverage && &finding.step == key)
        .collect();
    let mut ids: Vec<&str> = rules.iter().map(|rule| rule.id.0).collect();
    ids.extend(findings.iter().map(|finding| finding.rule.0));
    let mut seen = BTreeSet::new();
    ids.retain(|id| seen.insert(*id));

    let is_compared = report.policy.is_some()
        || report.steps.iter().find(|step| &step.key == key).is_none_or(|step| step.compared);
    let cases = ids
        .into_iter()
        .map(|id| {
            let of_rule: Vec<&Finding> =
                findings.iter().copied().filter(|finding| finding.rule.0 == id).collect();
            let result = if of_rule.is_empty()
                && let Some(skipped) = not_looked(report, id, is_compared)
            {
                skipped
            } else {
                verdict(id, &of_rule)
            };
            let mut case = Case { name: format!("{key}: {id}"), result, notes: None, location: None };
            case.notes = notes(&of_rule);
            if !of_rule.is_empty() {
                case.location = of_rule.iter().find_map(|finding| finding.location.as_ref()).or(location);
            }
            case.build(&format!("guard.{}", key.0.replace('/', ".")), names)
        })
        .collect();
    suite(report, &key.0, cases)
}

/// Why a rule that found nothing had nothing to look at.
fn not_looked(report: &Report, rule: &str, is_compared: bool) -> Option<TestResult> {
    let coverage = &report.coverage;
    if !words::is_trusted(report) {
        let why = words::blind_spots(report).into_iter().next();
        let why = why.unwrap_or_else(|| "the guard could not do its work".to_owned());
        return Some(skipped("not-watched", &format!("could not look: {why}")));
    }
    let (_, plane) = COMPARES.iter().find(|(id, _)| *id == rule)?;
    if coverage.of(*plane) == Reach::None {
        return Some(skipped("not-watched", &format!("could not look: no {plane} events are seen here")));
    }
    let why = "nothing was declared for this step; compared: nothing";
    (!is_compared).then(|| skipped("nothing-declared", why))
}

/// A failure that tells all failing findings of a rule, or success.
fn verdict(rule: &str, findings: &[&Finding]) -> TestResult {
    let failing: Vec<&Finding> = findings.iter().copied().filter(|finding| finding.fails).collect();
    let Some(first) = failing.first() else { return TestResult::Success };
    let mut message = text::short(&first.title, 300);
    if failing.len() > 1 {
        let _ = write!(message, " (and {} more)", failing.len() - 1);
    }
    failure(rule, &message, &tell(&failing))
}

fn tell(findings: &[&Finding]) -> String {
    let mut all =
        findings.iter().take(TOLD_PER_CASE).map(|finding| story(finding)).collect::<Vec<_>>().join("\n");
    if findings.len() > TOLD_PER_CASE {
        let _ = write!(all, "\n… and {} more in findings.json\n", findings.len() - TOLD_PER_CASE);
    }
    all
}

/// What a reader of the test tab needs: what, who, against which declaration, and what now.
fn story(finding: &Finding) -> String {
    let mut story = format!("{}\n", text::short(&finding.title, 500));
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(story, "  {name:<9} {value}");
    };
    row("severity", &format!("{}, confidence {}", finding.severity.as_str(), finding.confidence.as_str()));
    if let Some(process) = &finding.process {
        row(
            "who",
            &text::chain(process, &finding.ancestry, |view| {
                format!("{} ({})", text::program(view), view.key.pid)
            }),
        );
        row("ran", &text::command_line(process, 500));
    }
    row("object", &text::short(&finding.object, 500));
    if !finding.more_objects.is_empty() {
        let more: Vec<String> =
            finding.more_objects.iter().take(19).map(|object| text::short(object, 200)).collect();
        row("and", &more.join(", "));
    }
    row("declared", &finding.declared.as_deref().map_or("nothing".to_owned(), |text| text::short(text, 500)));
    row("do", &text::short(&finding.remedy, 1000));
    if !finding.silence.is_empty() {
        row("allow it", "with these lines:");
        for line in text::bounded(&text::block(&finding.silence), 4000).lines() {
            let _ = writeln!(story, "    {line}");
        }
    }
    story
}

/// Findings that don't fail the job don't fail a case either.
fn notes(findings: &[&Finding]) -> Option<String> {
    let notes: Vec<&Finding> = findings.iter().copied().filter(|finding| !finding.fails).collect();
    if notes.is_empty() {
        return None;
    }
    let mut told = notes
        .iter()
        .take(TOLD_PER_CASE)
        .map(|finding| format!("note: {}", story(finding)))
        .collect::<Vec<_>>()
        .join("\n");
    if notes.len() > TOLD_PER_CASE {
        let _ = write!(told, "\n… and {} more in findings.json\n", notes.len() - TOLD_PER_CASE);
    }
    Some(told)
}

fn coverage_suite(report: &Report, names: &mut Names) -> TestSuite {
    const CLASS: &str = "guard.coverage";
    let coverage = &report.coverage;
    let mut cases = Vec::new();
    let mut add = |name: String, result: TestResult| {
        let case = Case { name: format!("coverage: {name}"), result, notes: None, location: None };
        cases.push(case.build(CLASS, names));
    };
    for plane in Plane::ALL {
        let result = match coverage.of(plane) {
            Reach::Full => TestResult::Success,
            Reach::Polled => {
                skipped("polled", &format!("{plane} events are sampled: short-lived ones are missed"))
            }
            Reach::None => {
                skipped("not-watched", &format!("could not look: no {plane} events are seen here"))
            }
        };
        add(format!("{plane} events"), result);
    }
    let lost = coverage.lost_events;
    let result = match lost {
        0 => TestResult::Success,
        _ => skipped("lost", &format!("{} lost", text::counted(lost, "record was", "records were"))),
    };
    add("nothing lost".to_owned(), result);
    for gap in coverage.not_seen() {
        add(format!("not seen: {}", text::short(gap, 160)), skipped("gap", gap));
    }
    for finding in report.findings.iter().filter(|finding| finding.kind == Kind::Coverage) {
        let result = if finding.fails {
            failure(finding.rule.0, &finding.title, &story(finding))
        } else {
            skipped(finding.rule.0, &finding.title)
        };
        add(format!("{}: {}", finding.rule, text::short(&finding.object, 160)), result);
    }
    suite(report, "coverage", cases)
}

// Everything below is the only place where strings enter the file: `text` drops what XML 1.0
// forbids, and `character_data` what would end a CDATA section, which the crate does not mind.

#[derive(Default)]
struct Names(BTreeSet<String>);

impl Names {
    /// GitLab shows only the first of two cases with one name.
    fn unique(&mut self, wanted: &str) -> String {
        let mut name = wanted.to_owned();
        let mut number = 2;
        while !self.0.insert(name.clone()) {
            name = format!("{wanted} ({number})");
            number += 1;
        }
        name
    }
}

struct Case<'a> {
    name: String,
    result: TestResult,
    notes: Option<String>,
    location: Option<&'a Location>,
}

impl Case<'_> {
    fn build(self, class: &str, names: &mut Names) -> TestCase {
        TestCase {
            name: names.unique(&text::short(&self.name, 300)),
            time: Duration::ZERO,
            result: self.result,
            classname: Some(text::short(class, 200)),
            filepath: self.location.map(|location| text::short(&location.path, 1000)),
            system_out: self.notes.map(|notes| character_data(&notes)),
            system_err: None,
        }
    }
}

/// Made whole and not with the crate's `new`, which reads the clock.
fn suite(report: &Report, name: &str, testcases: Vec<TestCase>) -> TestSuite {
    let name = text::short(name, 200);
    TestSuite {
        package: "edamame-guard".to_owned(),
        timestamp: OffsetDateTime::from_unix_timestamp_nanos(i128::from(report.started.0))
            .unwrap_or(OffsetDateTime::UNIX_EPOCH),
        hostname: "localhost".to_owned(),
        name,
        testcases,
        system_out: None,
        system_err: None,
    }
}

fn skipped(kind: &str, why: &str) -> TestResult {
    TestResult::SkippedWithCause {
        type_: kind.to_owned(),
        message: text::short(why, 300),
        // GitLab reads the text inside the element, others the attribute.
        cause: Some(character_data(&text::short(why, 1000))),
    }
}

fn failure(kind: &str, message: &str, story: &str) -> TestResult {
    TestResult::Failure {
        type_: kind.to_owned(),
        message: text::short(message, 400),
        cause: Some(character_data(story)),
    }
}

fn character_data(text: &str) -> String {
    text::block(text).replace("]]>", "]] >")
}
