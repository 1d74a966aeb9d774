//! Code scanning: the SARIF file, uploaded also when it is clean, for only that closes old alerts.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Place;
use super::client::{Connection, Error, repository};
use crate::detections;
use crate::finding::Report;
use crate::reports::{Format, text, write};

/// GitHub takes 10 MB, compressed.
const LIMIT: usize = 10_000_000;

/// Between questions whether the file was read.
const POLLS: [Duration; 5] = [
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(3),
    Duration::from_secs(5),
];

#[derive(Serialize)]
struct Upload<'a> {
    commit_sha: &'a str,
    r#ref: &'a str,
    sarif: String,
    started_at: String,
    tool_name: &'static str,
}

#[derive(Deserialize)]
struct Uploaded {
    id: String,
}

#[derive(Deserialize)]
struct Processing {
    processing_status: Option<String>,
    errors: Option<Vec<String>>,
}

pub(super) async fn publish(connection: &Connection, report: &Report, place: &Place) -> Result<(), Error> {
    let name = repository(&place.repository)?;
    let sarif = packed(report, &category(place)).map_err(|error| Error::Refused(error.to_string()))?;
    if sarif.len() > LIMIT {
        let size = sarif.len() / 1_000_000;
        return Err(Error::Refused(format!(
            "results.sarif has {size} MB compressed, and GitHub takes 10; see the file"
        )));
    }
    let upload = Upload {
        commit_sha: &place.commit,
        r#ref: &place.reference,
        sarif: BASE64_STANDARD.encode(sarif),
        started_at: report.started.rfc3339(),
        tool_name: "edamame-guard",
    };
    let route = format!("/repos/{name}/code-scanning/sarifs");
    let uploaded: Uploaded = connection.post(&route, &upload).await?.json()?;
    repository(&format!("id/{}", uploaded.id)).map_err(|_| Error::Answer("an odd id".to_owned()))?;
    wait(connection, &format!("{route}/{}", uploaded.id)).await
}

/// Waits until GitHub has read the file, or the time is up.
async fn wait(connection: &Connection, route: &str) -> Result<(), Error> {
    for pause in POLLS {
        if pause >= connection.left() {
            break;
        }
        tokio::time::sleep(pause).await;
        let state: Processing = match connection.get(route).await {
            // It is not there at once.
            Err(Error::Answered { status: 404, .. }) => continue,
            answer => answer?.json()?,
        };
        match state.processing_status.as_deref() {
            Some("complete") => return Ok(()),
            Some("failed") => {
                let errors = state.errors.unwrap_or_default().join("; ");
                return Err(Error::Refused(format!(
                    "GitHub could not read results.sarif: {}",
                    text::short(&errors, 300)
                )));
            }
            _ => {}
        }
    }
    Err(Error::Refused("it is uploaded, and GitHub had not read it yet when the job ended".to_owned()))
}

/// What tells this job's results from those of other jobs, and of other legs of its matrix: GitHub takes what
/// stands before the last slash, and a second upload of one category replaces the first.
fn category(place: &Place) -> String {
    let part = |text: &str| {
        let text = text::short(text, 200);
        if text.is_empty() { "-".to_owned() } else { text }
    };
    format!("edamame-guard/{}/{}", part(place.workflow.as_deref().unwrap_or_default()), part(&place.job))
}

fn packed(report: &Report, category: &str) -> std::io::Result<Vec<u8>> {
    let mut sarif = Vec::new();
    write(Format::Sarif, report, detections::all(), &mut sarif)?;
    let mut log: Value = serde_json::from_slice(&sarif)?;
    log["runs"][0]["automationDetails"]["id"] = format!("{category}/{}", report.started.rfc3339()).into();
    let mut packer = GzEncoder::new(Vec::new(), Compression::default());
    serde_json::to_writer(&mut packer, &log)?;
    packer.finish()
}
