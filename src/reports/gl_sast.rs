//! `gl-sast-report.json`: GitLab's security report, for its vulnerability pages.
//!
//! Any tier takes the file; the pages that show it need GitLab Ultimate.

use std::collections::BTreeMap;
use std::io;

use serde_json::{Value, json};

use super::{place, text, words};
use crate::event::Timestamp;
use crate::finding::{Finding, Report, Severity};

/// Of the security report schemas. GitLab drops a report whose version it does not know.
const SCHEMA_VERSION: &str = "15.2.1";

/// GitLab takes 20 identifiers of one vulnerability.
const MOST_IDENTIFIERS: usize = 20;

pub(super) fn write(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let tool = json!({
        "id": "edamame-guard",
        "name": "edamame-guard",
        "version": env!("CARGO_PKG_VERSION"),
        "vendor": {"name": "edamame-guard"},
    });
    let messages: Vec<Value> = words::blind_spots(report)
        .into_iter()
        .map(|why| json!({"level": "fatal", "value": text::short(&why, 500)}))
        .collect();
    let is_success = words::is_trusted(report);
    let mut scan = json!({
        "analyzer": tool,
        "scanner": tool,
        "type": "sast",
        "start_time": local(report.started),
        "end_time": local(report.ended),
        "status": if is_success { "success" } else { "failure" },
    });
    if !is_success && !messages.is_empty() {
        scan["messages"] = Value::Array(messages);
    }
    let mut occurrences = BTreeMap::new();
    let found: Vec<Value> =
        report.findings.iter().map(|finding| vulnerability(report, finding, &mut occurrences)).collect();
    let document = json!({"version": SCHEMA_VERSION, "scan": scan, "vulnerabilities": found});
    serde_json::to_writer_pretty(&mut *out, &document)?;
    out.write_all(b"\n")
}

fn vulnerability<'a>(
    report: &Report,
    finding: &'a Finding,
    occurrences: &mut BTreeMap<&'a str, u32>,
) -> Value {
    let place = place::in_gitlab(report, finding);
    let title = text::short(&finding.title, 255);
    let title = if title.trim().is_empty() { finding.rule.0.to_owned() } else { title };
    let mut description = title.clone();
    if let Some(process) = &finding.process {
        let chain = text::chain(process, &finding.ancestry, text::program);
        description = format!("{description}\n\nBy: {}", text::short(&chain, 700));
    }
    let declared = finding.declared.as_deref().unwrap_or("nothing");
    description = format!(
        "{description}\n\nObject: {}\n\nDeclared: {}\n\nStep: {}",
        text::short(&finding.object, 500),
        text::short(declared, 500),
        text::short(&finding.step.0, 200)
    );
    let mut identifiers = vec![json!({
        "type": "edamame_guard_rule", "name": format!("edamame-guard {}", finding.rule), "value": finding.rule.0,
    })];
    identifiers.extend(finding.techniques.iter().map(|technique| {
        // What is done to agents has a matrix of its own.
        let address = if technique.0.starts_with("AML.") {
            format!("https://atlas.mitre.org/techniques/{}", technique.0)
        } else {
            format!("https://attack.mitre.org/techniques/{}/", technique.0.replace('.', "/"))
        };
        json!({"type": "attack_technique", "name": format!("ATT&CK {}", technique.0), "value": technique.0, "url": address})
    }));
    identifiers.extend(finding.references.iter().map(|reference| {
        let kind = reference.split('-').next().unwrap_or_default().to_ascii_lowercase();
        json!({"type": kind, "name": reference, "value": reference})
    }));
    identifiers.truncate(MOST_IDENTIFIERS);
    json!({
        "id": super::distinct(finding, occurrences),
        "name": title,
        "description": description,
        "severity": severity(finding.severity),
        "solution": text::short(&finding.remedy, 1000),
        "identifiers": identifiers,
        "location": {"file": text::short(&place.path, 1000), "start_line": place.line, "end_line": place.line},
    })
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "Low",
        Severity::Medium => "Medium",
        Severity::High => "High",
        Severity::Critical => "Critical",
    }
}

/// The schema wants UTC without a zone and without fractions: `2026-11-22T23:46:43`.
fn local(time: Timestamp) -> String {
    time.rfc3339().chars().take("2026-11-22T23:46:43".len()).collect()
}
