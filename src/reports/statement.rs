//! `statement.json`: an in-toto Statement with a runtime trace: which artifacts, by what run, under which policy, how it was judged.
//!
//! It is for `actions/attest`, cosign and whoever keeps attestations; the recorder's key signs it in `evidence.sig`.

use serde_json::{Map, Value, json};

use crate::evidence::Ends;
use crate::finding::Report;
use crate::job::Provider;

/// The predicate (in-toto attestation framework).
pub const PREDICATE: &str = "https://in-toto.io/attestation/runtime-trace/v0.1";
/// Programs and destinations that are listed; the recording has all.
const MOST: usize = 500;

/// What is known beside the report.
#[derive(Clone, Debug, Default)]
pub struct About {
    /// Files that the job made and that the statement is about: name and SHA-256.
    pub artifacts: Vec<(String, String)>,
    /// Files of the report directory, likewise.
    pub files: Vec<(String, String)>,
    /// Of `policy.lock.yml`.
    pub policy_sha256: String,
    pub ends: Ends,
    /// The recorder's public key, if it signs.
    pub key: Option<String>,
}

/// The statement as it is written and signed.
pub fn render(report: &Report, about: &About) -> Vec<u8> {
    let subject = |kind: &'static str| move |(name, sha256): &(String, String)| json!({"name": name, "digest": {"sha256": sha256}, "annotations": {"kind": kind}});
    let artifacts = about.artifacts.iter().map(subject("artifact"));
    let subjects: Vec<Value> = artifacts.chain(about.files.iter().map(subject("report"))).collect();
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": subjects,
        "predicateType": PREDICATE,
        "predicate": predicate(report, about),
    });
    let mut text = serde_json::to_vec_pretty(&statement).unwrap_or_default();
    text.push(b'\n');
    text
}

fn predicate(report: &Report, about: &About) -> Value {
    let (host, kind, event) = process(report);
    json!({
        "monitor": {
            "type": format!("{}/v{}", env!("CARGO_PKG_REPOSITORY"), env!("CARGO_PKG_VERSION")),
            "configSource": {"name": "policy.lock.yml", "digest": {"sha256": about.policy_sha256}},
            "tracePolicy": {
                "mode": report.mode,
                "failOn": report.fail_on.as_str(),
                "policy": report.policy,
                "sensor": report.coverage.sensor,
                "tier": report.coverage.tier,
            },
        },
        "monitoredProcess": {"hostID": host, "type": kind, "event": event},
        "monitorLog": {"process": programs(report), "network": network(report)},
        "metadata": {"buildStartedOn": report.started.rfc3339(), "buildFinishedOn": report.ended.rfc3339()},
        "edamameGuard": {
            "verdict": report.verdict.as_str(),
            "exit": {
                "guard": report.exit.guard, "command": report.exit.command, "signal": report.exit.signal,
            },
            "coverage": {
                "state": report.coverage.state.as_str(),
                "process": report.coverage.process.to_string(),
                "file": report.coverage.file.to_string(),
                "egress": report.coverage.egress.to_string(),
                "lostEvents": report.coverage.lost_events,
                "gaps": report.coverage.gaps,
            },
            "policySha256": about.policy_sha256,
            "findings": report.findings.iter().take(MOST).map(|finding| json!({
                "rule": finding.rule.0,
                "severity": finding.severity.as_str(),
                "fails": finding.fails,
                "fingerprint": finding.fingerprint,
            })).collect::<Vec<_>>(),
            "findingsInAll": report.findings.len(),
            "evidence": {
                "records": about.ends.records,
                "genesisSha256": about.ends.genesis,
                "headSha256": about.ends.head,
                "publicKey": about.key,
            },
        },
    })
}

/// Where the job ran, what kind of job, and which.
fn process(report: &Report) -> (String, &'static str, String) {
    let job = &report.job;
    let pipeline = job.pipeline.clone().unwrap_or_default();
    let repository = pipeline.repository.unwrap_or_default();
    let run = pipeline.run.unwrap_or_default();
    match job.provider {
        Provider::Github => (
            "https://github.com".to_owned(),
            "https://actions.github.io/buildtypes/workflow/v1",
            format!(
                "https://github.com/{repository}/actions/runs/{run}/attempts/{}#{}",
                pipeline.attempt.as_deref().unwrap_or("1"),
                job.name
            ),
        ),
        Provider::Gitlab => (
            "urn:gitlab".to_owned(),
            "https://docs.gitlab.com/ci/jobs",
            format!("{repository}/-/pipelines/{run}#{}", job.name),
        ),
        Provider::Local => ("urn:local".to_owned(), "urn:edamame-guard:run", job.name.clone()),
    }
}

fn programs(report: &Report) -> Vec<Value> {
    let nodes = report.picture.nodes.iter().take(MOST);
    nodes
        .map(|node| {
            json!({
                "eventType": "process",
                "name": node.name,
                "arguments": node.arguments,
                "count": node.count,
                "step": node.step.0,
            })
        })
        .collect()
}

fn network(report: &Report) -> Vec<Value> {
    let all = report.steps.iter().flat_map(|step| step.destinations.iter().map(move |it| (step, it)));
    all.take(MOST)
        .map(|(step, destination)| {
            let (host, port) = destination.host.rsplit_once(':').unwrap_or((destination.host.as_str(), ""));
            let host = host.trim_start_matches("udp://").trim_matches(['[', ']']);
            let mut entry = Map::new();
            let is_address = host.parse::<std::net::IpAddr>().is_ok();
            entry.insert(if is_address { "ip" } else { "hostname" }.to_owned(), host.into());
            if let Ok(port) = port.parse::<u16>() {
                entry.insert("port".to_owned(), port.into());
            }
            entry.insert(
                "invokingProcess".to_owned(),
                json!({"name": destination.program, "step": step.key.0}),
            );
            Value::Object(entry)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_says_what_ran_and_how_it_was_judged() {
        let report = crate::reports::sample::findings();
        let about = About {
            artifacts: vec![("dist/app.tgz".to_owned(), "a".repeat(64))],
            files: vec![("findings.json".to_owned(), "b".repeat(64))],
            policy_sha256: "c".repeat(64),
            ..About::default()
        };
        let text = render(&report, &about);
        assert_eq!(text, render(&report, &about));
        let statement: Value = serde_json::from_slice(&text).expect("JSON");
        assert_eq!(statement["_type"], "https://in-toto.io/Statement/v1");
        assert_eq!(statement["predicateType"], PREDICATE);
        assert_eq!(statement["subject"][0]["digest"]["sha256"], "a".repeat(64));
        let predicate = &statement["predicate"];
        assert_eq!(predicate["monitor"]["configSource"]["digest"]["sha256"], "c".repeat(64));
        assert_eq!(predicate["edamameGuard"]["verdict"], "attack");
        for field in ["hostID", "type", "event"] {
            assert!(predicate["monitoredProcess"][field].is_string(), "{field}");
        }
        let network = predicate["monitorLog"]["network"].as_array().expect("a list");
        assert!(network.iter().all(|it| it["ip"].is_string() || it["hostname"].is_string()), "{network:?}");
        assert!(!network.is_empty() && predicate["monitorLog"]["process"].is_array());
    }
}
