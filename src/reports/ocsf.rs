//! OCSF 1.8: each event of a recording and each finding as one object a line, for whoever collects security events.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use crate::engine::Input;
use crate::event::{Activity, Event, ExitStatus, Fact, File, Launch, ProcessKey, Timestamp, Transport};
use crate::finding::{Confidence, Finding, Report, Severity};

const VERSION: &str = "1.8.0";
/// Classes of the schema.
const FILE: u64 = 1001;
const PROCESS: u64 = 1007;
const FINDING: u64 = 2004;
const NETWORK: u64 = 4001;
const DNS: u64 = 4003;
/// What fits no activity of a class.
const OTHER: u64 = 99;

/// Turns the records of one recording, in their order, into events.
#[derive(Debug, Default)]
pub struct Exporter {
    /// What runs, by what it last launched.
    processes: HashMap<ProcessKey, Launch>,
    host: String,
}

impl Exporter {
    /// The event that a record tells, if there is a class for it.
    pub fn event(&mut self, sequence: u64, input: &Input) -> Option<Value> {
        match input {
            Input::Start(start) => {
                self.host = format!("{}/{}", start.job.name, start.guard.pid);
                None
            }
            Input::Fact(Fact::Running(running)) => {
                if let Some(launch) = &running.launch {
                    self.processes.insert(running.process, launch.clone());
                }
                None
            }
            Input::Event(event) => self.told(sequence, event),
            _ => None,
        }
    }

    fn told(&mut self, sequence: u64, event: &Event) -> Option<Value> {
        let mut more = Map::new();
        let (class, activity) = match &event.activity {
            Activity::Fork { child } => {
                if let Some(launch) = self.processes.get(&event.actor).cloned() {
                    self.processes.insert(*child, launch);
                }
                return None;
            }
            Activity::Launch(launch) => {
                // Who called it is who it was until now: the same process, with another image.
                let actor = self.actor(event.actor);
                self.processes.insert(event.actor, launch.clone());
                more.insert("actor".to_owned(), actor);
                more.insert("process".to_owned(), self.process(event.actor));
                more.insert("launch_type_id".to_owned(), 3.into());
                (PROCESS, 1)
            }
            Activity::Exit { status } => {
                more.insert("process".to_owned(), self.process(event.actor));
                if let ExitStatus::Code(code) = status {
                    more.insert("exit_code".to_owned(), (*code).into());
                }
                (PROCESS, 2)
            }
            Activity::Trace { .. } => {
                more.insert("process".to_owned(), self.process(event.actor));
                (PROCESS, 3)
            }
            Activity::Credentials { .. } => {
                more.insert("process".to_owned(), self.process(event.actor));
                (PROCESS, 5)
            }
            Activity::Connect { to, transport } | Activity::Send { to, transport } => {
                more.insert("dst_endpoint".to_owned(), json!({"ip": to.ip().to_string(), "port": to.port()}));
                more.insert("connection_info".to_owned(), connection(*transport));
                (NETWORK, if matches!(event.activity, Activity::Send { .. }) { 6 } else { 1 })
            }
            Activity::Closed { to, transport, sent, received, duration, .. } => {
                more.insert("dst_endpoint".to_owned(), json!({"ip": to.ip().to_string(), "port": to.port()}));
                more.insert("connection_info".to_owned(), connection(*transport));
                more.insert(
                    "traffic".to_owned(),
                    json!({"bytes_out": sent, "bytes_in": received, "bytes": sent + received}),
                );
                more.insert("duration".to_owned(), (duration / 1_000_000).into());
                (NETWORK, 2)
            }
            Activity::Query { to, name, kind, transport, .. } => {
                more.insert("dst_endpoint".to_owned(), json!({"ip": to.ip().to_string(), "port": to.port()}));
                more.insert("connection_info".to_owned(), connection(*transport));
                more.insert("query".to_owned(), json!({"hostname": name, "type": kind}));
                (DNS, 1)
            }
            Activity::Answer { server, name, addresses } => {
                more.insert("src_endpoint".to_owned(), json!({"ip": server.to_string()}));
                more.insert("query".to_owned(), json!({"hostname": name}));
                let answers = addresses.iter().map(|address| json!({"rdata": address.to_string()}));
                more.insert("answers".to_owned(), answers.collect());
                (DNS, 2)
            }
            other => {
                let (activity, object, result) = file_activity(other)?;
                more.insert("file".to_owned(), file(object));
                if let Some(result) = result {
                    more.insert("file_result".to_owned(), file(result));
                }
                (FILE, activity)
            }
        };
        let mut object = base(class, activity, event.time);
        object.insert("severity_id".to_owned(), 1.into());
        object.insert("metadata".to_owned(), metadata(sequence));
        if event.actor != ProcessKey::HOST || class == FILE || class == PROCESS {
            object.insert("actor".to_owned(), self.actor(event.actor));
        }
        object.insert("device".to_owned(), json!({"type_id": 0, "name": self.host}));
        object.extend(more);
        if matches!(event.activity, Activity::Exit { .. }) {
            self.processes.remove(&event.actor);
        }
        Some(Value::Object(object))
    }

    fn actor(&self, key: ProcessKey) -> Value {
        json!({"process": self.process(key)})
    }

    fn process(&self, key: ProcessKey) -> Value {
        let mut process = json!({"pid": key.pid, "uid": format!("{}-{}", key.pid, key.start)});
        if let Some(launch) = self.processes.get(&key) {
            process["name"] = json!(name(&launch.program().path));
            process["cmd_line"] = json!(launch.arguments.join(" "));
            process["file"] = file(&launch.executable);
            process["working_directory"] = json!(launch.directory);
        }
        process
    }
}

/// A finding as a detection.
pub fn finding(finding: &Finding, report: &Report) -> Value {
    let mut object = base(FINDING, 1, finding.first_seen);
    let severity = match finding.severity {
        Severity::Low => 2,
        Severity::Medium => 3,
        Severity::High => 4,
        Severity::Critical => 5,
    };
    object.insert("severity_id".to_owned(), severity.into());
    object.insert("message".to_owned(), finding.title.clone().into());
    object.insert("is_alert".to_owned(), finding.fails.into());
    object.insert(
        "confidence_id".to_owned(),
        match finding.confidence {
            Confidence::Low => 1,
            Confidence::Medium => 2,
            Confidence::High => 3,
        }
        .into(),
    );
    object.insert("metadata".to_owned(), metadata(0));
    object.insert("count".to_owned(), finding.count.into());
    let attacks: Vec<Value> =
        finding.techniques.iter().map(|technique| json!({"technique": {"uid": technique.0}})).collect();
    object.insert(
        "finding_info".to_owned(),
        json!({
            "uid": finding.fingerprint,
            "title": finding.title,
            "types": [finding.kind.as_str()],
            "first_seen_time": milliseconds(finding.first_seen),
            "analytic": {"type_id": 1, "uid": finding.rule.0, "name": finding.rule.0},
            "attacks": attacks,
        }),
    );
    let mut evidence = json!({"data": {"records": finding.evidence, "object": finding.object}});
    if let Some(process) = &finding.process {
        evidence["process"] = json!({
            "pid": process.key.pid,
            "uid": format!("{}-{}", process.key.pid, process.key.start),
            "name": process.name,
            "path": process.executable,
            "cmd_line": process.arguments.join(" "),
        });
    }
    object.insert("evidences".to_owned(), json!([evidence]));
    object.insert("remediation".to_owned(), json!({"desc": finding.remedy}));
    object.insert(
        "unmapped".to_owned(),
        json!({
            "step": finding.step.0,
            "agent": finding.agent,
            "fails": finding.fails,
            "declared": finding.declared,
            "job": report.job.name,
            "verdict": report.verdict.as_str(),
        }),
    );
    Value::Object(object)
}

fn base(class: u64, activity: u64, time: Timestamp) -> Map<String, Value> {
    [
        ("class_uid", class),
        ("category_uid", class / 1000),
        ("activity_id", activity),
        ("type_uid", class * 100 + activity),
        ("time", milliseconds(time)),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.into()))
    .collect()
}

fn metadata(sequence: u64) -> Value {
    json!({
        "version": VERSION,
        "profiles": ["host"],
        "sequence": sequence,
        "product": {"name": "edamame-guard", "vendor_name": "edamame", "version": env!("CARGO_PKG_VERSION")},
    })
}

fn milliseconds(time: Timestamp) -> u64 {
    time.0 / 1_000_000
}

fn connection(transport: Transport) -> Value {
    match transport {
        Transport::Tcp => json!({"direction_id": 2, "protocol_num": 6, "protocol_name": "tcp"}),
        Transport::Udp => json!({"direction_id": 2, "protocol_num": 17, "protocol_name": "udp"}),
        Transport::Other => json!({"direction_id": 2}),
    }
}

fn name(path: &str) -> &str {
    match path.trim_end_matches('/').rsplit('/').next() {
        Some("") | None => "/",
        Some(name) => name,
    }
}

fn file(file: &File) -> Value {
    let mut object = json!({"name": name(&file.path), "path": file.path, "type_id": 0});
    if file.inode != 0 {
        object["uid"] = json!(format!("{}:{}", file.device, file.inode));
    }
    object
}

/// Activity of the class of files, the file, and what became of it.
fn file_activity(activity: &Activity) -> Option<(u64, &File, Option<&File>)> {
    Some(match activity {
        Activity::Open { file, access } => {
            let kind = match (access.create, access.write) {
                (true, _) => 1,
                (false, true) => 3,
                (false, false) => 2,
            };
            (kind, file, None)
        }
        Activity::Rename { from, to } => (5, from, Some(to)),
        Activity::Delete { file } => (4, file, None),
        Activity::Link { from, to } => (1, to, Some(from)),
        Activity::Symlink { file, .. } | Activity::Mkdir { file } | Activity::Mknod { file, .. } => {
            (1, file, None)
        }
        Activity::Chmod { file, .. } | Activity::Chown { file, .. } => (7, file, None),
        Activity::Setxattr { file, .. } => (6, file, None),
        Activity::Truncate { file } => (3, file, None),
        Activity::Mount { target, .. } => (12, target, None),
        Activity::Unmount { target } => (13, target, None),
        Activity::PivotRoot { root } => (OTHER, root, None),
        Activity::UnixConnect { file, .. } => (14, file, None),
        Activity::Module { file: Some(file) } => (OTHER, file, None),
        _ => return None,
    })
}
