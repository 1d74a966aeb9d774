//! `codequality.json`: what GitLab shows in a merge request, on every tier.

use std::collections::BTreeMap;
use std::io;

use serde::Serialize;

use super::{place, text};
use crate::finding::{Finding, Report, Severity};

#[derive(Serialize)]
struct Issue {
    description: String,
    check_name: &'static str,
    fingerprint: String,
    severity: &'static str,
    location: Location,
}

#[derive(Serialize)]
struct Location {
    path: String,
    lines: Lines,
}

#[derive(Serialize)]
struct Lines {
    begin: u32,
}

pub(super) fn write(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    let mut occurrences = BTreeMap::new();
    let issues: Vec<Issue> = report
        .findings
        .iter()
        .map(|finding| {
            let place = place::in_gitlab(report, finding);
            Issue {
                description: description(finding),
                check_name: finding.rule.0,
                fingerprint: super::distinct(finding, &mut occurrences),
                severity: severity(finding.severity),
                location: Location {
                    path: text::short(&place.path, 1000),
                    lines: Lines { begin: place.line },
                },
            }
        })
        .collect();
    serde_json::to_writer_pretty(&mut *out, &issues)?;
    out.write_all(b"\n")
}

/// One line, since the widget shows one.
fn description(finding: &Finding) -> String {
    let title = text::short(&finding.title, 400);
    let title = if title.trim().is_empty() { finding.rule.0 } else { &title };
    let who = finding.process.as_ref().map(|process| text::chain(process, &finding.ancestry, text::program));
    match who {
        Some(who) => format!("{title} (by {})", text::short(&who, 300)),
        None => title.to_owned(),
    }
}

fn severity(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "minor",
        Severity::Medium => "major",
        Severity::High => "critical",
        Severity::Critical => "blocker",
    }
}
