//! `results.sarif`: SARIF 2.1.0 as GitHub code scanning takes it.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};
use serde_sarif::sarif::{
    ArtifactLocation, CodeFlow, Invocation, Location as SarifLocation, LogicalLocation, Message,
    MultiformatMessageString, Notification, PhysicalLocation, PropertyBag, Region, ReportingConfiguration,
    ReportingDescriptor, Result as SarifResult, ResultLevel, Run, RunAutomationDetails, Sarif, ThreadFlow,
    ThreadFlowLocation, Tool, ToolComponent,
};

use super::{place, text, words};
use crate::detections::Detection;
use crate::finding::{Confidence, CoverageState, Finding, ProcessView, Report, Severity};
use crate::job::Location;

/// The one GitHub names in its own examples.
const SCHEMA: &str = "https://json.schemastore.org/sarif-2.1.0.json";

/// GitHub shows no more results of one run.
const MOST_RESULTS: usize = 5000;

/// GitHub shows 1,000 steps of one flow; the nearest tell the story, and the file must stay
/// below 10 MB compressed.
const MOST_FLOW_STEPS: usize = 50;

const RUNTIME_NOTE: &str = "Found while the job ran. An alert that the next run does not show again is closed \
                            as fixed, so let the job's own result be the gate, not code scanning.";

pub(super) fn write(report: &Report, rules: &[&Detection], out: &mut dyn io::Write) -> io::Result<()> {
    let log = Sarif::builder().schema(SCHEMA).version(json!("2.1.0")).runs(vec![run(report, rules)]).build();
    serde_json::to_writer_pretty(&mut *out, &log)?;
    out.write_all(b"\n")
}

fn run(report: &Report, rules: &[&Detection]) -> Run {
    let told = &report.findings[..report.findings.len().min(MOST_RESULTS)];
    let mut descriptors: Vec<ReportingDescriptor> = rules.iter().map(|rule| descriptor(rule)).collect();
    let mut index_of: BTreeMap<&str, usize> = BTreeMap::new();
    for (index, rule) in rules.iter().enumerate() {
        index_of.entry(rule.id.0).or_insert(index);
    }
    // Rules without a page of their own, such as `coverage-…`.
    for finding in told {
        index_of.entry(finding.rule.0).or_insert_with(|| {
            descriptors.push(descriptor_from(finding));
            descriptors.len() - 1
        });
    }

    let mut occurrences: BTreeMap<&str, u32> = BTreeMap::new();
    let results: Vec<SarifResult> = told
        .iter()
        .map(|finding| {
            let nth = occurrences.entry(finding.fingerprint.as_str()).or_default();
            *nth += 1;
            result(report, finding, index_of[finding.rule.0], *nth)
        })
        .collect();

    let driver = ToolComponent::builder()
        .name("edamame-guard")
        .semantic_version(env!("CARGO_PKG_VERSION"))
        .information_uri(env!("CARGO_PKG_REPOSITORY"))
        .rules(descriptors)
        .build();
    // GitHub takes what stands before the last slash as the category, which must be the same
    // in every run of this job and differ between jobs.
    let id = format!("{}/{}", category(report), report.started.rfc3339());
    Run::builder()
        .tool(Tool::builder().driver(driver).build())
        .automation_details(RunAutomationDetails::builder().id(id).build())
        .invocations(vec![invocation(report)])
        .results(results)
        .properties(properties([
            ("verdict", json!(report.verdict.as_str())),
            ("coverage", json!(report.coverage.state.as_str())),
            // Not as results with `suppressions`: GitHub opens an alert for those all the same.
            ("suppressed", suppressed(report)),
        ]))
        .build()
}

/// `edamame-guard/.github/workflows/ci.yml/test (22, linux)`
fn category(report: &Report) -> String {
    let pipeline = report.job.pipeline.as_ref();
    let said =
        |text: Option<&String>| text.map(|text| text::short(text, 200)).filter(|text| !text.is_empty());
    let workflow = said(pipeline.and_then(|pipeline| pipeline.workflow.as_ref()));
    let leg = said(pipeline.and_then(|pipeline| pipeline.matrix.as_ref()));
    format!(
        "edamame-guard/{}{}{}",
        workflow.map_or_else(String::new, |workflow| format!("{workflow}/")),
        text::short(&report.job.name, 200),
        leg.map_or_else(String::new, |leg| format!(" ({leg})")),
    )
}

fn suppressed(report: &Report) -> Value {
    report
        .suppressed
        .iter()
        .map(|held| {
            json!({
                "ruleId": text::short(&held.rule, 200),
                "object": text::short(&held.object, 500),
                "step": text::short(&held.step.0, 200),
                "occurrenceCount": held.count,
                "suppression": {
                    "kind": "external",
                    "status": "accepted",
                    "justification": text::short(&held.reason, 500),
                    "until": held.until,
                },
            })
        })
        .collect()
}

fn descriptor(rule: &Detection) -> ReportingDescriptor {
    let page = rule.page();
    let summary = or_else(text::short(&rule.summary(), 1024), rule.id.0);
    let prose: Vec<&str> =
        page.split("\n\n").flat_map(str::lines).filter(|line| !line.starts_with('#')).collect();
    let mut tags = vec!["security".to_owned()];
    tags.extend(rule.techniques.iter().map(|technique| technique.0.to_owned()));
    tags.extend(rule.frameworks.iter().map(|item| (*item).to_owned()));
    tags.truncate(20);
    ReportingDescriptor::builder()
        .id(rule.id.0)
        .name(pascal_case(rule.id.0))
        .short_description(plain(&summary))
        .full_description(plain(&or_else(text::short(&prose.join(" "), 1024), &summary)))
        .help(
            MultiformatMessageString::builder()
                .text(or_else(format!("{}\n\n{RUNTIME_NOTE}", page.trim()), rule.id.0))
                .markdown(format!("{}\n\n{RUNTIME_NOTE}", page.trim()))
                .build(),
        )
        .default_configuration(configuration(rule.severity))
        .properties(weight(rule.severity, rule.confidence, tags))
        .build()
}

/// For a rule that the caller did not list: what its first finding tells.
fn descriptor_from(finding: &Finding) -> ReportingDescriptor {
    let summary = format!("{} ({})", finding.rule, finding.kind.as_str());
    let help = or_else(text::short(&finding.remedy, 2000), &summary);
    let mut tags = vec!["security".to_owned()];
    tags.extend(finding.techniques.iter().map(|technique| technique.0.to_owned()));
    tags.truncate(20);
    ReportingDescriptor::builder()
        .id(finding.rule.0)
        .name(pascal_case(finding.rule.0))
        .short_description(plain(&summary))
        .full_description(plain(&help))
        .help(
            MultiformatMessageString::builder()
                .text(format!("{help}\n\n{RUNTIME_NOTE}"))
                .markdown(format!("{}\n\n{RUNTIME_NOTE}", text::markdown(&help, 2000)))
                .build(),
        )
        .default_configuration(configuration(finding.severity))
        .properties(weight(finding.severity, finding.confidence, tags))
        .build()
}

fn configuration(severity: Severity) -> ReportingConfiguration {
    ReportingConfiguration::builder().level(json!(level(severity).to_string())).build()
}

fn weight(severity: Severity, confidence: Confidence, tags: Vec<String>) -> PropertyBag {
    // A string, and of the rule: GitHub reads it nowhere else.
    let security_severity = match severity {
        Severity::Critical => "9.5",
        Severity::High => "8.0",
        Severity::Medium => "5.5",
        Severity::Low => "3.0",
    };
    PropertyBag::builder()
        .tags(tags)
        .additional_properties(BTreeMap::from([
            ("precision".to_owned(), json!(confidence.as_str())),
            ("security-severity".to_owned(), json!(security_severity)),
        ]))
        .build()
}

fn result(report: &Report, finding: &Finding, rule_index: usize, nth: u32) -> SarifResult {
    let place = alert_place(report, finding);
    let mut result = SarifResult::builder()
        .rule_id(finding.rule.0)
        .rule_index(i64::try_from(rule_index).unwrap_or(i64::MAX))
        .level(level(finding.severity))
        .message(Message::builder().text(message(finding)).build())
        .locations(vec![step_location(&place, finding)])
        // The number tells apart what would otherwise be one alert.
        .partial_fingerprints(BTreeMap::from([(
            "primaryLocationLineHash".to_owned(),
            format!("{}:{nth}", finding.fingerprint),
        )]))
        .occurrence_count(i64::try_from(finding.count.max(1)).unwrap_or(i64::MAX))
        .properties(properties([
            ("kind", json!(finding.kind.as_str())),
            ("severity", json!(finding.severity.as_str())),
            ("confidence", json!(finding.confidence.as_str())),
            ("fails", json!(finding.fails)),
            ("disposition", json!(finding.disposition.as_str())),
            ("agent", json!(finding.agent)),
            ("toolCall", json!(finding.tool_call)),
            ("references", json!(finding.references)),
            ("evidence", json!(finding.evidence)),
        ]))
        .build();
    if let Some(process) = &finding.process {
        result.code_flows = Some(vec![lineage(&place, process, finding)]);
    }
    if let Some(declared) = &finding.declared
        && let Some(location) = declared_at(report, declared)
    {
        let message = Message::builder().text(plain_message(declared, 500)).build();
        result.related_locations = Some(vec![
            SarifLocation::builder()
                .id(1_i64)
                .physical_location(physical(&location))
                .message(message)
                .build(),
        ]);
    }
    result
}

fn message(finding: &Finding) -> String {
    let mut message = or_else(plain_message(&finding.title, 500), finding.rule.0);
    if let Some(process) = &finding.process {
        let chain = text::chain(process, &finding.ancestry, text::program);
        message = format!("{message}\nBy: {}", plain_message(&chain, 700));
    }
    message = format!("{message}\nObject: {}", plain_message(&finding.object, 500));
    if let Some(declared) = &finding.declared {
        message = format!("{message}\nDeclared: {}", plain_message(declared, 500));
    }
    format!("{message}\nWhat to do: {}", plain_message(&finding.remedy, 700))
}

/// One line that is no link: SARIF reads `[text](target)` in a message.
fn plain_message(text: &str, limit: usize) -> String {
    text::short(text, limit).replace("](", "] (")
}

/// Ancestors first, the act last; all at the step's line, for that is where the reader can act.
fn lineage(place: &Location, process: &ProcessView, finding: &Finding) -> CodeFlow {
    let mut steps: Vec<String> = finding
        .ancestry
        .iter()
        .rev()
        .chain([process])
        .map(|view| {
            let command = text::command_line(view, 300);
            plain_message(&format!("{} ({}): {command}", text::program(view), view.key.pid), 400)
        })
        .collect();
    let excess = (steps.len() + 1).saturating_sub(MOST_FLOW_STEPS);
    steps.drain(..excess);
    steps.push(plain_message(&format!("{}: {}", finding.disposition.as_str(), finding.object), 500));
    let locations: Vec<ThreadFlowLocation> = steps
        .into_iter()
        .map(|step| {
            let location = SarifLocation::builder()
                .physical_location(physical(place))
                .message(Message::builder().text(step).build())
                .build();
            ThreadFlowLocation::builder().location(location).build()
        })
        .collect();
    CodeFlow::builder().thread_flows(vec![ThreadFlow::builder().locations(locations).build()]).build()
}

/// GitHub drops results without a place in the repository.
fn alert_place(report: &Report, finding: &Finding) -> Location {
    place::of(report, finding).unwrap_or_else(|| place::of_answers(report))
}

fn step_location(place: &Location, finding: &Finding) -> SarifLocation {
    let step = or_else(text::short(&finding.step.0, 300), "unknown");
    let name = step.rsplit('/').next().unwrap_or(&step).to_owned();
    SarifLocation::builder()
        .physical_location(physical(place))
        .logical_locations(vec![LogicalLocation::builder().name(name).fully_qualified_name(step).build()])
        .build()
}

fn physical(location: &Location) -> PhysicalLocation {
    let line = i64::from(location.line.max(1));
    let region =
        Region::builder().start_line(line).start_column(1_i64).end_line(line).end_column(2_i64).build();
    PhysicalLocation::builder()
        .artifact_location(ArtifactLocation::builder().uri(uri(&location.path)).build())
        .region(region)
        .build()
}

/// A path as a relative reference (RFC 3986).
fn uri(path: &str) -> String {
    let path = path.strip_prefix("./").unwrap_or(path);
    let mut uri = String::with_capacity(path.len());
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            uri.push('%');
            for digit in [byte >> 4, byte & 15] {
                uri.push(char::from(b"0123456789ABCDEF"[usize::from(digit)]));
            }
        }
    }
    uri
}

/// The `file:line` that a declaration names.
///
/// A host with its port looks the same, so the file must be one we know or have the name of one.
fn declared_at(report: &Report, declared: &str) -> Option<Location> {
    let known = |path: &str| {
        report.policy.as_deref() == Some(path)
            || report.steps.iter().any(|step| step.location.as_ref().is_some_and(|place| place.path == path))
    };
    declared.split_whitespace().find_map(|word| {
        let word = word.trim_matches(|c: char| "()[]{}<>`'\",;.".contains(c) && c != '.');
        let word = word.trim_end_matches('.');
        let (path, line) = word.rsplit_once(':')?;
        let line: u32 = line.parse().ok()?;
        let is_file = known(path)
            || [".yml", ".yaml", ".json"].iter().any(|ending| path.ends_with(ending))
            || (path.contains('/') && [".toml", ".sh"].iter().any(|ending| path.ends_with(ending)));
        (line > 0 && is_file && place::is_in_repository(path))
            .then(|| Location { path: path.to_owned(), line })
    })
}

fn invocation(report: &Report) -> Invocation {
    let coverage = &report.coverage;
    let spot_level = if coverage.state == CoverageState::Blind { "error" } else { "warning" };
    let mut not_seen: Vec<Notification> = words::blind_spots(report)
        .iter()
        .map(|spot| notification(spot_level, &format!("could not look: {spot}")))
        .collect();
    not_seen.extend(coverage.not_seen().map(|gap| notification("note", &format!("not seen: {gap}"))));
    if report.findings.len() > MOST_RESULTS {
        let left_out =
            text::counted((report.findings.len() - MOST_RESULTS) as u64, "finding is", "findings are");
        not_seen.push(notification("warning", &format!("{left_out} in findings.json only")));
    }
    Invocation::builder()
        .execution_successful(words::is_trusted(report))
        .exit_code(i64::from(report.exit.guard))
        .start_time_utc(report.started.rfc3339())
        .end_time_utc(report.ended.rfc3339())
        .tool_execution_notifications(not_seen)
        .tool_configuration_notifications(
            report.notices.iter().map(|notice| notification("note", notice)).collect::<Vec<_>>(),
        )
        .build()
}

fn notification(level: &str, text: &str) -> Notification {
    Notification::builder()
        .level(json!(level))
        .message(Message::builder().text(or_else(plain_message(text, 1000), "(no text)")).build())
        .build()
}

fn level(severity: Severity) -> ResultLevel {
    match severity {
        Severity::Critical | Severity::High => ResultLevel::Error,
        Severity::Medium => ResultLevel::Warning,
        Severity::Low => ResultLevel::Note,
    }
}

fn plain(text: &str) -> MultiformatMessageString {
    MultiformatMessageString::builder().text(text).build()
}

fn properties<const N: usize>(items: [(&str, Value); N]) -> PropertyBag {
    PropertyBag::builder()
        .additional_properties(
            items.into_iter().map(|(key, value)| (key.to_owned(), value)).collect::<BTreeMap<_, _>>(),
        )
        .build()
}

/// GitHub refuses empty texts.
fn or_else(text: String, fallback: &str) -> String {
    if text.is_empty() { fallback.to_owned() } else { text }
}

/// `cred-file-access` as `CredFileAccess`.
fn pascal_case(id: &str) -> String {
    id.split('-')
        .filter_map(|word| {
            let mut rest = word.chars();
            rest.next().map(|first| first.to_ascii_uppercase().to_string() + rest.as_str())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_with_port_is_no_file() {
        let report = crate::reports::sample::clean();
        let at = |text: &str| declared_at(&report, text).map(|location| location.to_string());
        assert_eq!(at("network.deny (.github/guard.yml:14)"), Some(".github/guard.yml:14".to_owned()));
        assert_eq!(
            at("`npm ci` at .github/workflows/ci.yml:12."),
            Some(".github/workflows/ci.yml:12".to_owned())
        );
        assert_eq!(at("allowed: registry.example:443"), None);
        assert_eq!(at("allowed: 10.0.0.0/8:5432 and get.sh:443"), None);
        assert_eq!(at("/etc/edamame-guard/policy.yml:3"), None);
    }

    #[test]
    fn paths_become_references() {
        assert_eq!(uri("./a b/ü#?.yml"), "a%20b/%C3%BC%23%3F.yml");
        assert!(place::is_in_repository(".github/guard.yml"));
        assert!(!["../x", "/x", ""].into_iter().any(place::is_in_repository));
    }

    #[test]
    fn names_are_pascal_case() {
        assert_eq!(pascal_case("cred-file-access"), "CredFileAccess");
    }
}
