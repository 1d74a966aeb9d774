//! The sentences that the terminal and the job's page have in common.

use super::text;
use std::net::{IpAddr, SocketAddr};

use crate::event::{Plane, Reach, Socket};
use crate::finding::{CoverageState, Finding, Report, Suppressed, Verdict};

/// `3 steps, 1,204 processes, 0 lost`
pub fn watched(report: &Report) -> String {
    let processes = report.steps.iter().map(|step| step.processes).sum();
    // What the runner does for no step is none.
    let steps = report.steps.iter().filter(|step| step.key.is_real()).count();
    format!(
        "{}, {}, {} lost",
        text::counted(steps as u64, "step", "steps"),
        text::counted(processes, "process", "processes"),
        text::count(report.coverage.lost_events),
    )
}

/// The result in one clause. "Nothing found" and "could not look" never sound alike.
pub fn verdict(report: &Report) -> String {
    let coverage = match report.coverage.state.as_str() {
        "full" => String::new(),
        state => format!("; coverage is {state}"),
    };
    match report.verdict {
        Verdict::Attack => format!("Attack: {}{coverage}", tally(report)),
        Verdict::Divergence => format!("Not as declared: {}{coverage}", tally(report)),
        Verdict::Blind => "Could not look: this is no pass".to_owned(),
        Verdict::Clean | Verdict::Partial if report.exit.guard == 125 => {
            "The guard could not do its work: this is no pass".to_owned()
        }
        Verdict::Partial if report.findings.is_empty() => {
            "Nothing suspicious in what could be seen; coverage is partial".to_owned()
        }
        Verdict::Partial => format!("{}; coverage is partial", tally(report)),
        Verdict::Clean if report.findings.is_empty() => "Nothing suspicious".to_owned(),
        Verdict::Clean => tally(report),
    }
}

/// `2 findings fail the job, 1 note`
fn tally(report: &Report) -> String {
    let failing = report.findings.iter().filter(|finding| finding.fails).count() as u64;
    let notes = text::len(&report.findings) - failing;
    let notes_told = text::counted(notes, "note", "notes");
    match (failing, notes) {
        (0, _) => format!("{notes_told}, none fails the job"),
        (_, 0) => text::counted(failing, "finding fails the job", "findings fail the job"),
        _ => format!(
            "{}, {notes_told}",
            text::counted(failing, "finding fails the job", "findings fail the job")
        ),
    }
}

/// How the command itself ended, if it ran.
pub fn command_end(report: &Report) -> Option<String> {
    match (report.exit.command, report.exit.signal) {
        (_, Some(signal)) => Some(format!("the command was ended by signal {signal}")),
        (Some(code), None) => Some(format!("the command exited with {code}")),
        (None, None) => None,
    }
}

/// Why nothing, or not everything, could be seen; empty when every plane was watched in full.
pub fn blind_spots(report: &Report) -> Vec<String> {
    let coverage = &report.coverage;
    let mut spots: Vec<String> = Plane::ALL
        .into_iter()
        .filter_map(|plane| match coverage.of(plane) {
            Reach::Full => None,
            Reach::Polled => Some(format!("{plane} events are sampled: short-lived ones are missed")),
            Reach::None => Some(format!("no {plane} events are seen here")),
        })
        .collect();
    if coverage.state == CoverageState::Blind && coverage.process != Reach::None {
        spots.push("the sensor was not watching at the end".to_owned());
    }
    if coverage.lost_events > 0 {
        spots.push(text::counted(coverage.lost_events, "record was lost", "records were lost"));
    }
    spots
}

/// `ebpf, T2 (tracepoints): process full, file full, egress full`
pub fn sensor(report: &Report) -> String {
    let coverage = &report.coverage;
    let planes: Vec<String> =
        Plane::ALL.into_iter().map(|plane| format!("{plane} {}", coverage.of(plane))).collect();
    let names: Vec<String> = [&coverage.sensor, &coverage.tier]
        .into_iter()
        .map(|name| text::short(name, 80))
        .filter(|name| !name.is_empty())
        .collect();
    format!(
        "{}: {}",
        if names.is_empty() { "no sensor".to_owned() } else { names.join(", ") },
        planes.join(", ")
    )
}

/// `tcp 10.1.2.3:41822 to 198.51.100.2:443, held by dockerd (812)`
pub fn socket(socket: &Socket) -> String {
    let other = socket.remote.map_or_else(|| "waits".to_owned(), |remote| format!("to {remote}"));
    format!("{} {} {other}, held by {}", socket.transport, socket.local, owners(socket))
}

fn owners(socket: &Socket) -> String {
    if socket.owners.is_empty() {
        return format!("an unknown process of user {}", socket.uid);
    }
    let names =
        socket.owners.iter().map(|owner| format!("{} ({})", text::short(&owner.program, 40), owner.pid));
    names.collect::<Vec<_>>().join(", ")
}

/// The connections to elsewhere that were open before the start, in one line; `None` without any.
pub fn before(report: &Report) -> Option<String> {
    const MOST: usize = 3;
    let is_elsewhere = |remote: &SocketAddr| match remote.ip() {
        IpAddr::V6(v6) => v6.to_ipv4_mapped().map_or(!v6.is_loopback(), |v4| !v4.is_loopback()),
        IpAddr::V4(v4) => !v4.is_loopback(),
    };
    let elsewhere: Vec<(&Socket, SocketAddr)> = report
        .sockets_before
        .iter()
        .filter_map(|socket| Some((socket, socket.remote.filter(is_elsewhere)?)))
        .collect();
    if elsewhere.is_empty() {
        return None;
    }
    let named = elsewhere.iter().take(MOST).map(|(socket, remote)| format!("{remote} by {}", owners(socket)));
    let more = if elsewhere.len() > MOST { "; all are in findings.json" } else { "" };
    Some(format!(
        "{} open before the start and no part of this job: {}{more}",
        text::counted(text::len(&elsewhere), "connection was", "connections were"),
        named.collect::<Vec<_>>().join(", "),
    ))
}

/// Whether "nothing found" means anything.
pub fn is_trusted(report: &Report) -> bool {
    report.coverage.state != CoverageState::Blind && report.exit.guard != 125
}

/// Why a held-back finding is held back: `vendor ticket 12, until 2027-01-31`.
pub fn excuse(held: &Suppressed) -> String {
    let until = held.until.as_deref().map_or("no end date".to_owned(), |date| format!("until {date}"));
    format!("{}, {until}", text::short(&held.reason, 200))
}

/// `build/test (.github/workflows/ci.yml:12)`
pub fn where_from(finding: &Finding) -> String {
    let mut place = text::short(&finding.step.0, 120);
    if let Some(location) = &finding.location {
        place = format!("{place} ({})", text::short(&location.to_string(), 200));
    }
    place
}

/// Which agent did it, with its call.
pub fn agent(finding: &Finding) -> Option<String> {
    let agent = text::short(finding.agent.as_deref()?, 80);
    Some(match &finding.tool_call {
        Some(call) => format!("{agent}, tool call {}", text::short(call, 80)),
        None => agent,
    })
}
