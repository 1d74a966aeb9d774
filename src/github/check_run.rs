//! A check run: every annotation, of which it takes fifty a request.

use serde::{Deserialize, Serialize};

use super::Place;
use super::annotations::{self, Annotation};
use super::client::{Connection, Error, repository};
use crate::finding::{Report, Verdict};
use crate::reports::{self, text};

/// GitHub takes 65,535 characters.
const LIMIT: usize = 65_000;

const PER_REQUEST: usize = 50;

/// Each batch is a request; more than this is for files.
const MOST: usize = 1000;

#[derive(Serialize)]
struct Create<'a> {
    name: String,
    head_sha: &'a str,
    status: &'static str,
    conclusion: &'static str,
    started_at: String,
    completed_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    details_url: Option<&'a str>,
    output: Output<'a>,
}

#[derive(Serialize)]
struct Update<'a> {
    output: Output<'a>,
}

#[derive(Serialize)]
struct Output<'a> {
    title: &'a str,
    summary: &'a str,
    annotations: &'a [Annotation],
}

#[derive(Deserialize)]
struct Created {
    id: u64,
}

/// A first run without findings says nothing that the job does not say. A later attempt takes back what an
/// earlier one said.
pub(super) fn is_wanted(report: &Report, place: &Place) -> bool {
    report.exit.guard != 0 || place.attempt > 1 || !annotations::all(report).is_empty()
}

pub(super) async fn publish(connection: &Connection, report: &Report, place: &Place) -> Result<(), Error> {
    let name = repository(&place.repository)?;
    let all = annotations::all(report);
    let told = &all[..all.len().min(MOST)];
    let (first, rest) = told.split_at(told.len().min(PER_REQUEST));
    let title = text::short(&reports::verdict(report), 200);
    let summary = reports::summary_within(report, LIMIT);
    let create = Create {
        name: text::short(&format!("edamame-guard / {}", place.job), 200),
        head_sha: place.pull_request.as_ref().map_or(&place.commit, |pull_request| &pull_request.head),
        status: "completed",
        conclusion: conclusion(report),
        started_at: report.started.rfc3339(),
        completed_at: report.ended.rfc3339(),
        details_url: place.page.as_deref().filter(|page| page.starts_with("https://")),
        output: Output { title: &title, summary: &summary, annotations: first },
    };
    let created: Created = connection.post(&format!("/repos/{name}/check-runs"), &create).await?.json()?;
    for batch in rest.chunks(PER_REQUEST) {
        let update = Update { output: Output { title: &title, summary: &summary, annotations: batch } };
        connection.patch(&format!("/repos/{name}/check-runs/{}", created.id), &update).await?;
    }
    Ok(())
}

/// Success only where all could be seen and nothing was found.
fn conclusion(report: &Report) -> &'static str {
    match report.verdict {
        _ if report.exit.guard != 0 => "failure",
        Verdict::Clean if report.findings.is_empty() => "success",
        _ => "neutral",
    }
}
