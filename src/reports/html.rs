//! `report.html`: one page with everything, for a person with questions. No network, no outside script.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;

use askama::Template as _;
use base64::Engine as _;
use sha2::{Digest as _, Sha256};

use super::{text, words};
use crate::finding::{Finding, Posture, Report, SessionReport};
use crate::picture::{Node, Picture, Timeline};

const STYLE: &str = include_str!("html/style.css");
const SCRIPT: &str = include_str!("html/script.js");

/// A larger page is slow to open and no fun to keep.
const LIMIT: usize = 5_000_000;
const MOST_LINES: usize = 200;
/// Programs and hosts in the drawing of who talked to whom; the table has all.
const MOST_DRAWN: usize = 24;
/// Programs of the tree that are open when the page is.
const OPEN_DEPTH: usize = 4;

pub(super) fn write(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    // Hostile names grow when they are escaped, so it is the result that is measured.
    let mut most = Most { findings: 300, rows: 1_000, nodes: 4_096 };
    let mut page = Page::of(report, most).render().map_err(io::Error::other)?;
    while page.len() > LIMIT && most.nodes > 1 {
        most = Most { findings: most.findings / 2, rows: most.rows / 2, nodes: most.nodes / 2 };
        page = Page::of(report, most).render().map_err(io::Error::other)?;
    }
    out.write_all(page.as_bytes())
}

/// How much of each the page shows.
#[derive(Clone, Copy, Debug)]
struct Most {
    findings: usize,
    rows: usize,
    nodes: usize,
}

#[derive(askama::Template)]
#[template(path = "report.html")]
struct Page<'a> {
    style: &'static str,
    style_hash: String,
    script: &'static str,
    script_hash: String,
    verdict: String,
    verdict_class: &'static str,
    job: String,
    watched: String,
    duration: String,
    facts: Vec<String>,
    blind: Vec<String>,
    nothing: &'static str,
    findings: Vec<FindingView<'a>>,
    left_out: usize,
    suppressed: Vec<String>,
    steps: Vec<StepView>,
    sessions: Vec<SessionView<'a>>,
    tree: String,
    tree_cut: String,
    timeline: String,
    slot: String,
    nobody: &'static str,
    map: String,
    egress: Vec<EgressView>,
    files: Vec<(String, Vec<String>)>,
    posture: Option<PostureView>,
    coverage: &'static str,
    sensor: String,
    gaps: Vec<String>,
    limits: Vec<String>,
    sockets: Vec<String>,
    notices: Vec<(String, String)>,
    version: &'static str,
    started: String,
    ended: String,
}

struct FindingView<'a> {
    fingerprint: &'a str,
    title: String,
    severity: &'static str,
    kind: &'static str,
    confidence: &'static str,
    rule: &'static str,
    fails: bool,
    rows: Vec<(&'static str, String)>,
    remedy: String,
    silence: String,
    node: Option<usize>,
    /// Anchor of the tool call below which it happened.
    call: Option<String>,
    search: String,
}

struct StepView {
    key: String,
    location: String,
    declared: String,
    processes: String,
    files: String,
    egress: String,
    search: String,
}

struct SessionView<'a> {
    words: String,
    permitted: String,
    session: String,
    /// Something below it is unexplained, or there are few enough to show all.
    is_open: bool,
    calls: Vec<CallView<'a>>,
    left_out: usize,
}

struct CallView<'a> {
    anchor: String,
    /// Fingerprints of what was found below it.
    findings: Vec<&'a str>,
    time: String,
    tool: String,
    text: String,
    state: &'static str,
    tied_by: &'static str,
    unexplained: u64,
    call: String,
    search: String,
}

struct EgressView {
    host: String,
    program: String,
    step: String,
    explained: String,
    sent: String,
    received: String,
    search: String,
}

struct PostureView {
    words: String,
    rows: Vec<PostureRow>,
}

struct PostureRow {
    check: String,
    object: String,
    before: String,
    change: String,
    search: String,
}

impl<'a> Page<'a> {
    fn of(report: &'a Report, most: Most) -> Self {
        let coverage = &report.coverage;
        // A link leads only to what is on the page.
        let findings = report.findings.get(..most.findings).unwrap_or(&report.findings);
        let told = findings.iter().map(|finding| finding.fingerprint.as_str()).collect();
        let tree = tree(report, most.nodes, &told);
        let sessions = sessions(report, most, findings);
        let anchor = |finding: &Finding| {
            let mut calls = sessions.iter().flat_map(|session| &session.calls);
            let call = calls.find(|call| call.findings.contains(&finding.fingerprint.as_str()))?;
            Some(call.anchor.clone())
        };
        let drawn: BTreeSet<usize> =
            tree.split("id=\"n-").skip(1).filter_map(|part| part.split('"').next()?.parse().ok()).collect();
        let shown = |lines: &[String]| -> Vec<String> {
            lines.iter().take(MOST_LINES).map(|line| text::short(line, 500)).collect()
        };
        Self {
            style: STYLE,
            style_hash: hash(STYLE),
            script: SCRIPT,
            script_hash: hash(SCRIPT),
            verdict: words::verdict(report),
            verdict_class: report.verdict.as_str(),
            job: text::short(&report.job.name, 120),
            watched: words::watched(report),
            duration: text::duration(report.started, report.ended),
            facts: facts(report),
            blind: words::blind_spots(report),
            nothing: if words::is_trusted(report) { "Nothing found." } else { "Could not look." },
            findings: findings
                .iter()
                .map(|finding| FindingView::of(finding, &report.picture, &drawn, anchor(finding)))
                .collect(),
            left_out: report.findings.len().saturating_sub(most.findings),
            suppressed: report
                .suppressed
                .iter()
                .take(MOST_LINES)
                .map(|held| {
                    text::short(
                        &format!(
                            "{} on {} in {}: {}",
                            held.rule,
                            held.object,
                            held.step,
                            words::excuse(held)
                        ),
                        500,
                    )
                })
                .collect(),
            steps: report.steps.iter().take(most.rows).map(StepView::of).collect(),
            sessions,
            tree,
            tree_cut: match report.picture.left_out
                + report.picture.nodes.len().saturating_sub(most.nodes) as u64
            {
                0 => String::new(),
                left_out => {
                    format!("{} more had no room here.", text::counted(left_out, "program", "programs"))
                }
            },
            timeline: timeline(report, most.findings),
            slot: span(report.picture.timeline.slot_ns),
            nobody: match coverage.egress {
                crate::event::Reach::Full => "Nobody was talked to.",
                crate::event::Reach::Polled => "Nobody that was seen.",
                crate::event::Reach::None => "Could not look.",
            },
            map: map(report),
            egress: egress(report, most.rows),
            files: report
                .steps
                .iter()
                .filter(|step| !step.needs.writes.is_empty())
                .map(|step| {
                    let paths = step.needs.writes.iter().take(MOST_LINES);
                    (text::short(&step.key.0, 120), paths.map(|path| text::short(path, 300)).collect())
                })
                .take(MOST_LINES)
                .collect(),
            posture: report.posture.as_ref().map(|posture| PostureView::of(posture, most.rows)),
            coverage: coverage.state.as_str(),
            sensor: words::sensor(report),
            gaps: shown(&coverage.gaps),
            limits: shown(&coverage.limits),
            sockets: report.sockets_before.iter().take(MOST_LINES).map(words::socket).collect(),
            notices: report.notices.iter().take(MOST_LINES).map(|notice| notice_parts(notice)).collect(),
            version: env!("CARGO_PKG_VERSION"),
            started: report.started.rfc3339(),
            ended: report.ended.rfc3339(),
        }
    }
}

impl<'a> FindingView<'a> {
    fn of(finding: &'a Finding, picture: &Picture, drawn: &BTreeSet<usize>, call: Option<String>) -> Self {
        let mut rows = Vec::new();
        if let Some(process) = &finding.process {
            rows.push(("who", text::short(&text::chain(process, &finding.ancestry, text::program), 700)));
            rows.push(("ran", text::command_line(process, 400)));
            if let Some(digest) = &process.sha256 {
                rows.push(("sha256", text::short(digest, 64)));
            }
        }
        if let Some(agent) = words::agent(finding) {
            rows.push(("agent", agent));
        }
        let objects = std::iter::once(&finding.object).chain(&finding.more_objects).take(20);
        rows.push(("object", objects.map(|object| text::short(object, 300)).collect::<Vec<_>>().join(", ")));
        rows.push(("step", words::where_from(finding)));
        let declared =
            finding.declared.as_deref().map_or("nothing".to_owned(), |text| text::short(text, 300));
        rows.push(("declared", declared));
        rows.push((
            "seen",
            format!(
                "{}, {}, evidence {}",
                finding.first_seen.rfc3339(),
                text::counted(finding.count, "time", "times"),
                finding.evidence.iter().take(8).map(u64::to_string).collect::<Vec<_>>().join(", ")
            ),
        ));
        let known: Vec<&str> = finding
            .techniques
            .iter()
            .map(|technique| technique.0)
            .chain(finding.references.iter().copied())
            .take(20)
            .collect();
        if !known.is_empty() {
            rows.push(("known as", known.join(", ")));
        }
        let search = rows.iter().fold(finding.title.clone(), |text, (_, value)| text + " " + value);
        Self {
            fingerprint: &finding.fingerprint,
            title: text::short(&finding.title, 400),
            severity: finding.severity.as_str(),
            kind: finding.kind.as_str(),
            confidence: finding.confidence.as_str(),
            rule: finding.rule.0,
            fails: finding.fails,
            remedy: text::short(&finding.remedy, 1_000),
            silence: text::bounded(&text::block(&finding.silence), 3_000),
            node: picture
                .nodes
                .iter()
                .position(|node| node.findings.contains(&finding.fingerprint))
                .filter(|node| drawn.contains(node)),
            call,
            search: searchable(&search),
            rows,
        }
    }
}

impl StepView {
    fn of(step: &crate::finding::StepReport) -> Self {
        let declared = match (step.declared.trim(), step.compared) {
            ("", _) => "nothing was declared; compared: nothing".to_owned(),
            (declared, true) => text::short(declared, 300),
            (declared, false) => format!("{} (compared: nothing)", text::short(declared, 300)),
        };
        let location = step.location.as_ref().map(ToString::to_string).unwrap_or_default();
        Self {
            search: searchable(&format!("{} {declared}", step.key)),
            key: text::short(&step.key.0, 160),
            location: text::short(&location, 200),
            declared,
            processes: text::count(step.processes),
            files: text::count(step.events.file),
            egress: text::count(step.events.egress),
        }
    }
}

impl<'a> SessionView<'a> {
    /// Sessions of so few are open when the page is.
    const FEW: usize = 30;

    fn of(index: usize, session: &SessionReport, most: usize, findings: &'a [Finding]) -> Self {
        let found = |call: &str| {
            let is_meant = |finding: &&Finding| {
                finding.agent.as_deref() == Some(&session.agent) && finding.tool_call.as_deref() == Some(call)
            };
            findings.iter().filter(is_meant).map(|finding| finding.fingerprint.as_str()).take(20).collect()
        };
        let calls = session.timeline.iter().take(most).enumerate().map(|(number, call)| {
            let text = text::short(call.text.as_deref().unwrap_or_default(), 120);
            CallView {
                anchor: format!("c-{index}-{number}"),
                findings: found(&call.call),
                search: searchable(&format!("{} {text} {}", call.tool, call.call)),
                // The day stands at the page's end.
                time: call
                    .time
                    .rfc3339()
                    .split_once('T')
                    .map_or_else(String::new, |(_, time)| time.to_owned()),
                tool: text::short(&call.tool, 60),
                text,
                state: call.state.as_str(),
                tied_by: call.tied_by.unwrap_or_default(),
                unexplained: call.unexplained,
                call: text::short(&call.call, 80),
            }
        });
        Self {
            words: text::short(&session.in_words(), 400),
            permitted: text::short(&session.permitted_in_words().unwrap_or_default(), 2000),
            session: text::short(&session.session, 80),
            is_open: session.unexplained > 0 || session.timeline.len() <= Self::FEW,
            calls: calls.collect(),
            left_out: usize::try_from(session.calls)
                .unwrap_or(usize::MAX)
                .saturating_sub(most.min(session.timeline.len())),
        }
    }
}

impl PostureView {
    fn of(posture: &Posture, most: usize) -> Self {
        let weak =
            posture.weak.iter().map(|weak| (&weak.check, &weak.object, weak.value.clone(), String::new()));
        let drift = posture.drift.iter().map(|drift| {
            let by = drift.by.as_deref().map_or("nobody that was seen".to_owned(), |by| text::short(by, 80));
            let why =
                drift.explained.as_deref().map_or("unexplained".to_owned(), |why| text::short(why, 200));
            (&drift.check, &drift.object, String::new(), format!("{} by {by}: {why}", drift.how))
        });
        let rows = weak.chain(drift).take(most).map(|(check, object, before, change)| PostureRow {
            search: searchable(&format!("{check} {object} {change}")),
            check: text::short(check, 80),
            object: text::short(object, 300),
            before: text::short(&before, 200),
            change,
        });
        Self { words: posture.in_words(), rows: rows.collect() }
    }
}

/// How the command and the guard ended, the policy, and who was at work.
fn facts(report: &Report) -> Vec<String> {
    let mut facts: Vec<String> =
        words::command_end(report).into_iter().map(|end| capital(&end) + ".").collect();
    if report.exit.guard != 0 {
        facts.push(format!("The guard exits with {}.", report.exit.guard));
    }
    facts.push(match &report.policy {
        Some(policy) => format!("Policy: {}.", text::short(policy, 200)),
        None => "No policy file.".to_owned(),
    });
    if !report.coverage.agents.is_empty() {
        facts.push(format!("Coding agents: {}.", text::short(&report.coverage.agents.join(", "), 200)));
    }
    facts
}

fn sessions<'a>(report: &Report, most: Most, findings: &'a [Finding]) -> Vec<SessionView<'a>> {
    let calls = most.rows.min(MOST_LINES);
    let each = report.sessions.iter().take(MOST_LINES).enumerate();
    each.map(|(index, session)| SessionView::of(index, session, calls, findings)).collect()
}

/// What the search looks in: small letters, bounded.
fn searchable(text: &str) -> String {
    text::short(text, 600).to_lowercase()
}

fn capital(word: &str) -> String {
    let mut rest = word.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().to_string() + rest.as_str())
}

/// What a content security policy calls this very text.
fn hash(text: &str) -> String {
    format!("sha256-{}", base64::engine::general_purpose::STANDARD.encode(Sha256::digest(text)))
}

fn notice_parts(notice: &str) -> (String, String) {
    let (first, rest) = notice.trim().split_once('\n').unwrap_or((notice, ""));
    (text::short(first, 500), text::bounded(&text::block(rest), 8_000))
}

/// As the template escapes, for what is put together here.
fn escaped(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for character in text::short(text, limit).chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            other => out.push(other),
        }
    }
    out
}

// --- the tree ---------------------------------------------------------------------------------

fn tree(report: &Report, most: usize, told: &BTreeSet<&str>) -> String {
    let nodes = report.picture.nodes.get(..most).unwrap_or(&report.picture.nodes);
    if nodes.is_empty() {
        return "<p class=\"quiet\">No programs were seen.</p>".to_owned();
    }
    let mut below: BTreeMap<Option<usize>, Vec<usize>> = BTreeMap::new();
    for (index, node) in nodes.iter().enumerate() {
        // A step begins anew even where its first process hangs below another step's.
        let parent = node.parent.filter(|parent| nodes[*parent].step == node.step);
        below.entry(parent).or_default().push(index);
    }
    let mut steps: Vec<(&str, Vec<usize>)> = Vec::new();
    for root in below.get(&None).into_iter().flatten() {
        let step = nodes[*root].step.0.as_str();
        match steps.iter_mut().find(|(known, _)| *known == step) {
            Some((_, roots)) => roots.push(*root),
            None => steps.push((step, vec![*root])),
        }
    }
    let mut html = String::from("<ul>");
    for (step, roots) in steps {
        let _ =
            write!(html, "<li><details open><summary><strong>{}</strong></summary><ul>", escaped(step, 160));
        for root in roots {
            branch(&mut html, nodes, &below, root, 0, told);
        }
        html.push_str("</ul></details></li>");
    }
    html.push_str("</ul>");
    html
}

/// Deeper than this nothing is told apart: a process can fork itself without end.
const DEEPEST: usize = 120;

fn branch(
    html: &mut String,
    nodes: &[Node],
    below: &BTreeMap<Option<usize>, Vec<usize>>,
    index: usize,
    depth: usize,
    told: &BTreeSet<&str>,
) {
    let node = &nodes[index];
    let children = below.get(&Some(index)).map_or(&[][..], Vec::as_slice);
    let label = label(node, told);
    let search = escaped(&searchable(&format!("{} {}", node.name, node.arguments.join(" "))), 300);
    if children.is_empty() || depth >= DEEPEST {
        let _ = write!(
            html,
            "<li><div class=\"leaf node\" id=\"n-{index}\" data-text=\"{search}\">{label}</div></li>"
        );
        return;
    }
    let open = if depth < OPEN_DEPTH { " open" } else { "" };
    let _ = write!(
        html,
        "<li><details{open}><summary class=\"node\" id=\"n-{index}\" data-text=\"{search}\">{label}</summary><ul>"
    );
    for child in children {
        branch(html, nodes, below, *child, depth + 1, told);
    }
    html.push_str("</ul></details></li>");
}

fn label(node: &Node, told: &BTreeSet<&str>) -> String {
    let mut label = format!("<strong>{}</strong>", escaped(&node.name, 80));
    if node.count > 1 {
        let _ = write!(label, " ×{}", text::count(node.count));
    }
    if let Some(agent) = &node.agent {
        let _ = write!(label, " <span class=\"agent\">{}</span>", escaped(agent, 60));
    }
    let arguments = node.arguments.iter().skip(1).map(String::as_str).collect::<Vec<_>>().join(" ");
    if !arguments.is_empty() {
        let _ = write!(label, " <code>{}</code>", escaped(&arguments, 160));
    }
    let _ = write!(
        label,
        " <span class=\"quiet\">{}, {}</span>",
        text::counted(node.files, "file event", "file events"),
        text::counted(node.egress, "network event", "network events")
    );
    let findings = node.findings.iter().filter(|fingerprint| told.contains(fingerprint.as_str()));
    for fingerprint in findings.take(20) {
        let fingerprint = escaped(fingerprint, 64);
        let _ = write!(label, " <a class=\"high\" href=\"#f-{fingerprint}\">▲ finding</a>");
    }
    label
}

// --- time -------------------------------------------------------------------------------------

const HEIGHT: u64 = 120;
const SLOT_WIDTH: u64 = 5;

fn timeline(report: &Report, most: usize) -> String {
    let Timeline { slot_ns, slots } = &report.picture.timeline;
    if slots.is_empty() {
        return String::new();
    }
    let width = slots.len() as u64 * SLOT_WIDTH;
    let mut svg = format!(
        "<svg id=\"chart\" viewBox=\"0 0 {width} {HEIGHT}\" preserveAspectRatio=\"none\" data-width=\"{width}\" data-height=\"{HEIGHT}\" \
         role=\"img\" tabindex=\"0\" aria-label=\"Events over time; plus and minus zoom, arrows move\">"
    );
    let height = |count: u64| -> u64 {
        // The number of binary digits: one event shows, a storm does not flatten all else.
        u64::from(u64::BITS - count.leading_zeros()).min(24) * 4 / 3
    };
    for (index, slot) in slots.iter().enumerate() {
        let x = index as u64 * SLOT_WIDTH;
        let mut top = HEIGHT;
        for (class, count) in [("process", slot.process), ("file", slot.file), ("egress", slot.egress)] {
            let tall = height(count);
            if tall > 0 {
                top -= tall;
                let _ = write!(
                    svg,
                    "<rect class=\"{class}\" x=\"{x}\" y=\"{top}\" width=\"{}\" height=\"{tall}\"><title>{count} {class}</title></rect>",
                    SLOT_WIDTH - 1
                );
            }
        }
    }
    let began = report.started;
    for finding in report.findings.iter().take(most).filter(|finding| finding.process.is_some()) {
        let slot = finding.first_seen.0.saturating_sub(began.0) / (*slot_ns).max(1);
        let x = slot.min(slots.len() as u64 - 1) * SLOT_WIDTH;
        let _ = write!(
            svg,
            "<a href=\"#f-{}\"><rect class=\"mark\" x=\"{x}\" y=\"0\" width=\"2\" height=\"{HEIGHT}\"><title>{}</title></rect></a>",
            escaped(&finding.fingerprint, 64),
            escaped(&finding.title, 200)
        );
    }
    svg.push_str("</svg>");
    svg
}

// --- who talked to whom -----------------------------------------------------------------------

fn egress(report: &Report, most: usize) -> Vec<EgressView> {
    let mut rows: Vec<EgressView> = report
        .steps
        .iter()
        .flat_map(|step| step.destinations.iter().map(move |destination| (step, destination)))
        .take(most)
        .map(|(step, destination)| EgressView {
            search: searchable(&format!("{} {} {}", destination.host, destination.program, step.key)),
            host: text::short(&destination.host, 200),
            program: text::short(&destination.program, 80),
            step: text::short(&step.key.0, 120),
            explained: destination.explained.as_deref().map_or_else(String::new, |why| text::short(why, 200)),
            sent: destination.carried.map_or_else(String::new, |(sent, _)| bytes(sent)),
            received: destination.carried.map_or_else(String::new, |(_, received)| bytes(received)),
        })
        .collect();
    rows.sort_by_key(|row| !row.explained.is_empty());
    rows
}

/// `50 ms`, `1.6 s`, `12 min`
fn span(nanoseconds: u64) -> String {
    let milliseconds = nanoseconds / 1_000_000;
    match milliseconds {
        0..1_000 => format!("{milliseconds} ms"),
        1_000..120_000 => format!("{}.{} s", milliseconds / 1_000, milliseconds % 1_000 / 100),
        _ => format!("{} min", milliseconds / 60_000),
    }
}

/// `1.2 MB`: as people write it.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut rest = count;
    let mut tenth = 0;
    let mut unit = 0;
    while rest >= 1_000 && unit + 1 < UNITS.len() {
        tenth = rest % 1_000 / 100;
        rest /= 1_000;
        unit += 1;
    }
    if unit == 0 { format!("{rest} B") } else { format!("{rest}.{tenth} {}", UNITS[unit]) }
}

/// Height of a line of the drawing.
const ROW: usize = 22;

/// Programs at the left, hosts at the right, a line for each that talked.
fn map(report: &Report) -> String {
    let mut links: BTreeMap<(&str, &str), (bool, u64)> = BTreeMap::new();
    for destination in report.steps.iter().flat_map(|step| &step.destinations) {
        let link = links.entry((&destination.program, &destination.host)).or_insert((true, 0));
        link.0 &= destination.explained.is_some();
        let carried = destination.carried.map_or(0, |(sent, received)| sent.saturating_add(received));
        link.1 = link.1.saturating_add(carried);
    }
    // What nothing explains comes first, so a crowd of mirrors can't push it out of the drawing.
    let mut links: Vec<_> = links.into_iter().collect();
    links.sort_by_key(|((program, host), (is_explained, carried))| {
        (*is_explained, std::cmp::Reverse(*carried), *program, *host)
    });
    let mut programs: Vec<&str> = Vec::new();
    let mut hosts: Vec<&str> = Vec::new();
    let mut drawn = Vec::new();
    for ((program, host), (is_explained, carried)) in links {
        for (list, name) in [(&mut programs, program), (&mut hosts, host)] {
            if !list.contains(&name) && list.len() < MOST_DRAWN {
                list.push(name);
            }
        }
        let at = |list: &[&str], name: &str| list.iter().position(|known| *known == name);
        if let (Some(from), Some(to)) = (at(&programs, program), at(&hosts, host)) {
            drawn.push((from, to, is_explained, carried, program, host));
        }
    }
    let y = |row: usize| row * ROW + ROW;
    let height = programs.len().max(hosts.len()) * ROW + ROW;
    let mut svg = format!(
        "<svg viewBox=\"0 0 900 {height}\" role=\"img\" aria-label=\"Which program talked to which host; the table below says the same\">"
    );
    for (from, to, is_explained, carried, program, host) in drawn {
        let (from, to) = (y(from), y(to));
        let class = if is_explained { "flow" } else { "flow unexplained" };
        let thick = 1 + u64::from(u64::BITS - carried.leading_zeros()) / 4;
        let _ = write!(
            svg,
            "<path class=\"{class}\" stroke-width=\"{thick}\" d=\"M250 {from}C430 {from} 430 {to} 560 {to}\"><title>{} to {}</title></path>",
            escaped(program, 80),
            escaped(host, 120)
        );
    }
    for (row, program) in programs.iter().enumerate() {
        let _ = write!(
            svg,
            "<text x=\"240\" y=\"{}\" text-anchor=\"end\">{}</text>",
            y(row) + 4,
            escaped(program, 36)
        );
    }
    for (row, host) in hosts.iter().enumerate() {
        let _ = write!(svg, "<text x=\"570\" y=\"{}\">{}</text>", y(row) + 4, escaped(host, 52));
    }
    svg.push_str("</svg>");
    svg
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Timestamp;
    use crate::job::StepKey;
    use crate::picture::Slot;
    use crate::reports::sample;

    fn page(report: &Report) -> String {
        let mut bytes = Vec::new();
        write(report, &mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    }

    fn node(parent: Option<usize>, name: &str) -> Node {
        Node {
            parent,
            step: StepKey::local(),
            agent: None,
            name: name.to_owned(),
            arguments: vec![name.to_owned(), name.to_owned()],
            count: 2,
            first: Timestamp(0),
            last: Timestamp(1),
            files: 1,
            egress: 1,
            findings: Vec::new(),
        }
    }

    #[test]
    fn only_our_own_style_and_script_may_run() {
        let page = page(&sample::findings());
        assert!(page.contains(&format!("script-src '{}'", hash(SCRIPT))));
        assert_eq!(page.matches("<script").count(), 1);
        assert_eq!(page.matches("<style").count(), 1);
        // In a tag, that is; as text anything may stand.
        let tags = page.split('<').filter_map(|part| part.split_once('>')).map(|(tag, _)| tag);
        for tag in tags {
            for outside in ["http-equiv=\"refresh\"", " src=", " style=", " on"] {
                let is_told = tag.contains("data-text=") || tag.starts_with("details");
                assert!(is_told || !tag.contains(outside), "{tag}");
            }
        }
        assert!(!STYLE.contains("url(") && !STYLE.contains("@import"));
    }

    #[test]
    fn hostile_names_stay_text() {
        let mut report = sample::findings();
        report.picture.nodes = vec![node(None, sample::HOSTILE), node(Some(0), sample::HOSTILE)];
        report.picture.timeline =
            Timeline { slot_ns: 1_000, slots: vec![Slot { process: 1, file: 2, egress: 3 }] };
        let page = page(&report);
        assert!(!page.contains("<img"), "an element of an attacker's");
        assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}') && !page.contains('\u{0}'));
        assert!(page.contains("&lt;img"));
    }

    #[test]
    fn a_finding_leads_to_its_program_and_back() {
        let mut report = sample::findings();
        let mut culprit = node(None, "curl");
        culprit.findings = vec![report.findings[0].fingerprint.clone()];
        report.picture.nodes = vec![node(None, "npm"), culprit];
        let page = page(&report);
        let fingerprint = &report.findings[0].fingerprint;
        assert!(page.contains("href=\"#n-1\"") && page.contains("id=\"n-1\""));
        assert!(page.contains(&format!("href=\"#f-{fingerprint}\"")));
        assert!(page.contains(&format!("id=\"f-{fingerprint}\"")));
    }

    #[test]
    fn a_flood_stays_below_five_megabytes() {
        let mut report = sample::findings();
        let long = "<&'\"".repeat(2_000);
        let mut one = report.findings[0].clone();
        one.title.clone_from(&long);
        one.silence.clone_from(&long);
        one.more_objects = vec![long.clone(); 19];
        report.findings = vec![one; 3_000];
        report.picture.nodes = (0..4_096).map(|index: usize| node(index.checked_sub(1), &long)).collect();
        report.steps = vec![sample::step("job/step", &long); 300];
        for step in &mut report.steps {
            step.destinations = vec![
                crate::finding::Destination {
                    host: long.clone(),
                    program: long.clone(),
                    explained: None,
                    carried: Some((u64::MAX, u64::MAX)),
                };
                40
            ];
        }
        let page = page(&report);
        assert!(page.len() <= LIMIT, "{} bytes", page.len());
        assert!(page.contains("more</strong> are in <code>findings.json"));
    }

    #[test]
    fn numbers_read_well() {
        assert_eq!(span(50_000_000), "50 ms");
        assert_eq!(span(1_600_000_000), "1.6 s");
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(1_234_567), "1.2 MB");
    }
}
