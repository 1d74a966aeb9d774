//! A check run: every annotation, of which it takes fifty a request.

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Place;
use super::annotations::{self, Annotation};
use super::client::{Answer, Connection, Error, escaped, repository};
use crate::finding::{Report, Verdict};
use crate::reports::{self, text};

/// GitHub takes 65,535 characters.
const LIMIT: usize = 65_000;

const PER_REQUEST: usize = 50;

/// Each batch is a request; more than this is for files.
const MOST: usize = 1000;

#[derive(Serialize)]
struct Create<'a> {
    name: &'a str,
    head_sha: &'a str,
    /// By this a run whose answer was lost is known again.
    external_id: &'a str,
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
    #[serde(default)]
    external_id: Option<String>,
}

#[derive(Deserialize)]
struct Listed {
    #[serde(default)]
    check_runs: Vec<Created>,
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
    let shown = text::short(&format!("edamame-guard / {}", place.job), 200);
    let head = place.pull_request.as_ref().map_or(&place.commit, |pull_request| &pull_request.head);
    let external_id = external_id(report, place);
    let create = Create {
        name: &shown,
        head_sha: head,
        external_id: &external_id,
        status: "completed",
        conclusion: conclusion(report),
        started_at: report.started.rfc3339(),
        completed_at: report.ended.rfc3339(),
        details_url: place.page.as_deref().filter(|page| page.starts_with("https://")),
        output: Output { title: &title, summary: &summary, annotations: first },
    };
    let find = async || {
        let query = format!("check_name={}&filter=all&per_page=100", escaped(&shown));
        let route = format!("/repos/{name}/commits/{}/check-runs?{query}", escaped(head));
        let listed: Listed = connection.get(&route).await?.json()?;
        Ok(listed.check_runs.into_iter().find(|run| run.external_id.as_ref() == Some(&external_id)))
    };
    let route = format!("/repos/{name}/check-runs");
    let created: Created = connection.make(&route, &create, Answer::json, find).await?;
    for batch in rest.chunks(PER_REQUEST) {
        let update = Update { output: Output { title: &title, summary: &summary, annotations: batch } };
        connection.patch(&format!("/repos/{name}/check-runs/{}", created.id), &update).await?;
    }
    Ok(())
}

/// Of this very run of the job, and no other.
fn external_id(report: &Report, place: &Place) -> String {
    let run = place.page.as_deref().unwrap_or_default();
    let text = format!("{run}\n{}\n{}\n{}", place.attempt, place.job, report.started.rfc3339());
    crate::event::hex(&Sha256::digest(text))
}

/// Success only where all could be seen and nothing was found.
fn conclusion(report: &Report) -> &'static str {
    match report.verdict {
        _ if report.exit.guard != 0 => "failure",
        Verdict::Clean if report.findings.is_empty() => "success",
        _ => "neutral",
    }
}
