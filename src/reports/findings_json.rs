//! `findings.json`: the whole report for programs. Its keys are a contract, see `v1` in `schema`.

use std::io;

use serde::Serialize;

use crate::event::{Owner, Setting, Socket};
use crate::finding::{
    Coverage, Finding, PermissionReport, Posture, ProcessView, Report, SessionReport, StepReport, Suppressed,
};
use crate::job::Location;

const SCHEMA: &str = "edamame-guard/findings/v1";

/// Strings are whole here: JSON can hold any of them, and a program wants to compare them.
pub(super) fn write(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, &Document::of(report))?;
    out.write_all(b"\n")
}

// The order of the fields is the order in the file.
#[derive(Serialize)]
struct Document<'a> {
    schema: &'static str,
    verdict: &'static str,
    exit: Exit,
    mode: Mode,
    fail_on: &'static str,
    coverage: CoverageShape<'a>,
    agent_sessions: Vec<SessionShape<'a>>,
    posture: Option<PostureShape<'a>>,
    steps: Vec<StepShape<'a>>,
    findings: Vec<FindingShape<'a>>,
    suppressed: Vec<SuppressedShape<'a>>,
    notices: &'a [String],
    sockets_before: Vec<SocketShape<'a>>,
    policy: Option<&'a str>,
    started: String,
    ended: String,
}

#[derive(Serialize)]
struct SessionShape<'a> {
    agent: &'a str,
    session: &'a str,
    version: Option<&'a str>,
    mode: Option<&'a str>,
    /// It acts without asking, and the option that made it so.
    unasked: bool,
    flag: Option<&'a str>,
    /// What its settings and its command line say that it may do.
    permissions: Vec<PermissionShape<'a>>,
    calls: u64,
    commands: u64,
    run: u64,
    refused: u64,
    explained: u64,
    unexplained: u64,
    unrecorded: u64,
    timeline: Vec<CallShape<'a>>,
}

#[derive(Serialize)]
struct PermissionShape<'a> {
    level: &'static str,
    /// Empty for a command line.
    file: &'a str,
    settings: &'a [Setting],
    problem: Option<&'a str>,
}

impl<'a> PermissionShape<'a> {
    fn of(source: &'a PermissionReport) -> Self {
        Self {
            level: source.level.as_str(),
            file: &source.file,
            settings: &source.settings,
            problem: source.problem.as_deref(),
        }
    }
}

#[derive(Serialize)]
struct CallShape<'a> {
    call: &'a str,
    time: String,
    tool: &'a str,
    text: Option<&'a str>,
    state: &'static str,
    tied_by: Option<&'static str>,
    unexplained: u64,
}

impl<'a> SessionShape<'a> {
    fn of(session: &'a SessionReport) -> Self {
        let timeline = session.timeline.iter().map(|call| CallShape {
            call: &call.call,
            time: call.time.rfc3339(),
            tool: &call.tool,
            text: call.text.as_deref(),
            state: call.state.as_str(),
            tied_by: call.tied_by,
            unexplained: call.unexplained,
        });
        Self {
            agent: &session.agent,
            session: &session.session,
            version: session.version.as_deref(),
            mode: session.mode.as_deref(),
            unasked: session.unasked,
            flag: session.flag.as_deref(),
            permissions: session.permissions.iter().map(PermissionShape::of).collect(),
            calls: session.calls,
            commands: session.commands,
            run: session.run,
            refused: session.refused,
            explained: session.explained,
            unexplained: session.unexplained,
            unrecorded: session.unrecorded,
            timeline: timeline.collect(),
        }
    }
}

#[derive(Serialize)]
struct SocketShape<'a> {
    transport: String,
    local: String,
    /// `null` for a socket that waits for others.
    remote: Option<String>,
    uid: u32,
    owners: Vec<OwnerShape<'a>>,
}

#[derive(Serialize)]
struct OwnerShape<'a> {
    pid: u32,
    program: &'a str,
}

#[derive(Serialize)]
struct Exit {
    guard: u8,
    command: Option<u8>,
    signal: Option<u8>,
}

#[derive(Serialize)]
struct Mode {
    requested: &'static str,
    effective: &'static str,
}

#[derive(Serialize)]
struct CoverageShape<'a> {
    state: &'static str,
    sensor: &'a str,
    since: String,
    process: String,
    file: String,
    egress: String,
    agents: &'a [String],
    lost_events: u64,
    gaps: Vec<&'a str>,
    /// Those of the gaps that this sensor has on every run.
    limits: &'a [String],
    tier: &'a str,
}

#[derive(Serialize)]
struct PostureShape<'a> {
    checks: usize,
    weak: Vec<WeaknessShape<'a>>,
    drift: Vec<DriftShape<'a>>,
}

#[derive(Serialize)]
struct WeaknessShape<'a> {
    check: &'a str,
    title: &'a str,
    severity: &'static str,
    object: &'a str,
    value: &'a str,
}

#[derive(Serialize)]
struct DriftShape<'a> {
    check: &'a str,
    object: &'a str,
    how: &'static str,
    by: Option<&'a str>,
    step: Option<&'a str>,
    explained: Option<&'a str>,
}

impl<'a> PostureShape<'a> {
    fn of(posture: &'a Posture) -> Self {
        let weak = posture.weak.iter().map(|weak| WeaknessShape {
            check: &weak.check,
            title: &weak.title,
            severity: weak.severity.as_str(),
            object: &weak.object,
            value: &weak.value,
        });
        let drift = posture.drift.iter().map(|drift| DriftShape {
            check: &drift.check,
            object: &drift.object,
            how: drift.how,
            by: drift.by.as_deref(),
            step: drift.step.as_ref().map(|step| step.0.as_str()),
            explained: drift.explained.as_deref(),
        });
        Self { checks: posture.checks, weak: weak.collect(), drift: drift.collect() }
    }
}

#[derive(Serialize)]
struct StepShape<'a> {
    key: &'a str,
    name: &'a str,
    declared: &'a str,
    events: Events,
    processes: u64,
    compared: bool,
    location: Option<LocationShape<'a>>,
    destinations: Vec<DestinationShape<'a>>,
}

#[derive(Serialize)]
struct Events {
    process: u64,
    file: u64,
    egress: u64,
}

#[derive(Serialize)]
struct DestinationShape<'a> {
    host: &'a str,
    program: &'a str,
    explained: Option<&'a str>,
    sent: Option<u64>,
    received: Option<u64>,
}

#[derive(Serialize)]
struct LocationShape<'a> {
    path: &'a str,
    line: u32,
}

#[derive(Serialize)]
struct FindingShape<'a> {
    rule: &'static str,
    kind: &'static str,
    severity: &'static str,
    confidence: &'static str,
    fails: bool,
    title: &'a str,
    step: &'a str,
    agent: Option<&'a str>,
    tool_call: Option<&'a str>,
    process: Option<ProcessShape<'a>>,
    object: &'a str,
    disposition: &'static str,
    declared: Option<&'a str>,
    techniques: Vec<&'static str>,
    references: &'a [&'static str],
    evidence: &'a [u64],
    first_seen: String,
    reported_at: String,
    count: u64,
    location: Option<LocationShape<'a>>,
    fingerprint: &'a str,
    remedy: &'a str,
    silence: &'a str,
    more_objects: &'a [String],
}

#[derive(Serialize)]
struct ProcessShape<'a> {
    pid: u32,
    exe: &'a str,
    argv: &'a [String],
    sha256: Option<&'a str>,
    ancestry: Vec<AncestorShape<'a>>,
}

#[derive(Serialize)]
struct AncestorShape<'a> {
    pid: u32,
    exe: &'a str,
    argv: &'a [String],
}

#[derive(Serialize)]
struct SuppressedShape<'a> {
    rule: &'a str,
    reason: &'a str,
    until: Option<&'a str>,
    object: &'a str,
    step: &'a str,
    count: u64,
}

impl<'a> Document<'a> {
    fn of(report: &'a Report) -> Self {
        Self {
            schema: SCHEMA,
            verdict: report.verdict.as_str(),
            exit: Exit { guard: report.exit.guard, command: report.exit.command, signal: report.exit.signal },
            // A mode that cannot be had is refused before anything runs, so the two agree.
            mode: Mode { requested: report.mode, effective: report.mode },
            fail_on: report.fail_on.as_str(),
            coverage: CoverageShape::of(&report.coverage),
            agent_sessions: report.sessions.iter().map(SessionShape::of).collect(),
            posture: report.posture.as_ref().map(PostureShape::of),
            steps: report.steps.iter().map(StepShape::of).collect(),
            findings: report.findings.iter().map(FindingShape::of).collect(),
            suppressed: report.suppressed.iter().map(SuppressedShape::of).collect(),
            notices: &report.notices,
            sockets_before: report.sockets_before.iter().map(SocketShape::of).collect(),
            policy: report.policy.as_deref(),
            started: report.started.rfc3339(),
            ended: report.ended.rfc3339(),
        }
    }
}

impl<'a> SocketShape<'a> {
    fn of(socket: &'a Socket) -> Self {
        let owner = |owner: &'a Owner| OwnerShape { pid: owner.pid, program: &owner.program };
        Self {
            transport: socket.transport.to_string(),
            local: socket.local.to_string(),
            remote: socket.remote.map(|remote| remote.to_string()),
            uid: socket.uid,
            owners: socket.owners.iter().map(owner).collect(),
        }
    }
}

impl<'a> CoverageShape<'a> {
    fn of(coverage: &'a Coverage) -> Self {
        Self {
            state: coverage.state.as_str(),
            sensor: &coverage.sensor,
            since: coverage.since.rfc3339(),
            process: coverage.process.to_string(),
            file: coverage.file.to_string(),
            egress: coverage.egress.to_string(),
            agents: &coverage.agents,
            lost_events: coverage.lost_events,
            gaps: coverage.not_seen().collect(),
            limits: &coverage.limits,
            tier: &coverage.tier,
        }
    }
}

impl<'a> StepShape<'a> {
    fn of(step: &'a StepReport) -> Self {
        Self {
            key: &step.key.0,
            name: &step.name,
            declared: &step.declared,
            events: Events {
                process: step.events.process,
                file: step.events.file,
                egress: step.events.egress,
            },
            processes: step.processes,
            compared: step.compared,
            location: step.location.as_ref().map(LocationShape::of),
            destinations: step
                .destinations
                .iter()
                .map(|destination| DestinationShape {
                    host: &destination.host,
                    program: &destination.program,
                    explained: destination.explained.as_deref(),
                    sent: destination.carried.map(|(sent, _)| sent),
                    received: destination.carried.map(|(_, received)| received),
                })
                .collect(),
        }
    }
}

impl<'a> LocationShape<'a> {
    fn of(location: &'a Location) -> Self {
        Self { path: &location.path, line: location.line }
    }
}

impl<'a> FindingShape<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self {
            rule: finding.rule.0,
            kind: finding.kind.as_str(),
            severity: finding.severity.as_str(),
            confidence: finding.confidence.as_str(),
            fails: finding.fails,
            title: &finding.title,
            step: &finding.step.0,
            agent: finding.agent.as_deref(),
            tool_call: finding.tool_call.as_deref(),
            process: finding.process.as_ref().map(|process| ProcessShape::of(process, &finding.ancestry)),
            object: &finding.object,
            disposition: finding.disposition.as_str(),
            declared: finding.declared.as_deref(),
            techniques: finding.techniques.iter().map(|technique| technique.0).collect(),
            references: &finding.references,
            evidence: &finding.evidence,
            first_seen: finding.first_seen.rfc3339(),
            reported_at: finding.reported_at.rfc3339(),
            count: finding.count,
            location: finding.location.as_ref().map(LocationShape::of),
            fingerprint: &finding.fingerprint,
            remedy: &finding.remedy,
            silence: &finding.silence,
            more_objects: &finding.more_objects,
        }
    }
}

impl<'a> ProcessShape<'a> {
    fn of(process: &'a ProcessView, ancestry: &'a [ProcessView]) -> Self {
        Self {
            pid: process.key.pid,
            exe: &process.executable,
            argv: &process.arguments,
            sha256: process.sha256.as_deref(),
            ancestry: ancestry
                .iter()
                .map(|ancestor| AncestorShape {
                    pid: ancestor.key.pid,
                    exe: &ancestor.executable,
                    argv: &ancestor.arguments,
                })
                .collect(),
        }
    }
}

impl<'a> SuppressedShape<'a> {
    fn of(suppressed: &'a Suppressed) -> Self {
        Self {
            rule: &suppressed.rule,
            reason: &suppressed.reason,
            until: suppressed.until.as_deref(),
            object: &suppressed.object,
            step: &suppressed.step.0,
            count: suppressed.count,
        }
    }
}
