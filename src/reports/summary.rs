//! `summary.md`: the job's page. One screen when all is well; never too long to be shown.

use std::fmt::Write as _;
use std::io;

use super::{Format, text, words};
use crate::event::Reach;
use crate::finding::{FailOn, Finding, Report, SessionReport, StepReport};
use crate::job::StepKey;

/// GitHub shows nothing at all of a summary above 1 MiB.
const LIMIT: usize = 900 * 1024;

const MOST_STEPS: usize = 100;
const MOST_DESTINATIONS: usize = 8;
const MOST_LINES: usize = 50;
const MOST_SESSIONS: usize = 10;

pub(super) fn write(report: &Report, out: &mut dyn io::Write) -> io::Result<()> {
    out.write_all(render(report, LIMIT).as_bytes())
}

/// The page, shorter than `limit` bytes: findings are left out, the rest is bounded by itself.
pub(super) fn render(report: &Report, limit: usize) -> String {
    let head = head(report);
    let tail = tail(report, limit);
    let closing_line = 120;
    let room = limit.saturating_sub(head.len() + tail.len() + closing_line);

    let mut findings = String::new();
    let mut told = 0;
    for finding in &report.findings {
        let section = if finding.fails { failing(finding) } else { note(finding) };
        // Notes come after all that fails, under a title of their own.
        let title = if !finding.fails && (told == 0 || report.findings[told - 1].fails) {
            "### Notes: these don't fail the job\n\n"
        } else {
            ""
        };
        if findings.len() + title.len() + section.len() > room {
            break;
        }
        findings.push_str(title);
        findings.push_str(&section);
        told += 1;
    }
    let left_out = report.findings.len() - told;
    if left_out > 0 {
        let more = text::counted(left_out as u64, "more finding is", "more findings are");
        let _ = writeln!(findings, "**{more} left out here**; all are in `findings.json`.\n");
    }
    format!("{head}{findings}{tail}")
}

fn head(report: &Report) -> String {
    let mut head = format!("**Watched** {} · **{}**\n\n", words::watched(report), words::verdict(report));
    let mut facts = Vec::new();
    if report.exit.guard != 0 {
        facts.push(format!("The guard exits with {}.", report.exit.guard));
    }
    if let Some(end) = words::command_end(report) {
        facts.push(format!("{}{}.", end[..1].to_uppercase(), &end[1..]));
    }
    facts.push(match &report.policy {
        Some(policy) => format!("Policy: {}.", text::code(policy, 200)),
        None => "No policy file.".to_owned(),
    });
    facts.push(match report.fail_on {
        FailOn::Never => "Findings don't fail the job.".to_owned(),
        FailOn::From(severity) => format!("Findings fail the job from severity {} on.", severity.as_str()),
    });
    let _ = writeln!(head, "{}\n", facts.join(" "));
    let spots = words::blind_spots(report);
    if !spots.is_empty() {
        head.push_str("**Could not look everywhere**\n\n");
        for spot in spots {
            let _ = writeln!(head, "- {spot}");
        }
        head.push('\n');
    }
    head
}

fn failing(finding: &Finding) -> String {
    let mut section =
        format!("### ❌ {}: {}\n\n", capital(finding.severity.as_str()), text::markdown(&finding.title, 300));
    section.push_str(&facts(finding));
    section.push_str(&silence(finding));
    section
}

fn note(finding: &Finding) -> String {
    format!(
        "**{}**: {}\n\n{}{}",
        capital(finding.severity.as_str()),
        text::markdown(&finding.title, 300),
        facts(finding),
        silence(finding)
    )
}

fn facts(finding: &Finding) -> String {
    let mut facts = String::new();
    let mut row = |name: &str, value: &str| {
        let _ = writeln!(facts, "- {name}: {value}");
    };
    if let Some(process) = &finding.process {
        let chain = text::chain(process, &finding.ancestry, text::program);
        row("Who", &text::code(&chain, 700));
        row("Ran", &text::code(&text::command_line(process, 300), 300));
    }
    if let Some(agent) = words::agent(finding) {
        row("Agent", &text::code(&agent, 200));
    }
    let mut object = text::code(&finding.object, 300);
    for more in finding.more_objects.iter().take(19) {
        let _ = write!(object, ", {}", text::code(more, 120));
    }
    if finding.count > 1 {
        let _ = write!(object, " ({})", text::counted(finding.count, "time", "times"));
    }
    row("Object", &object);
    row("Step", &text::code(&words::where_from(finding), 330));
    let declared = finding.declared.as_deref().map_or("nothing".to_owned(), |text| text::code(text, 300));
    row("Declared", &declared);
    row("What to do", &text::markdown(&finding.remedy, 1000));
    let mut names = vec![text::code(finding.rule.0, 80)];
    names.push(format!("confidence {}", finding.confidence.as_str()));
    names.extend(finding.techniques.iter().map(|technique| text::markdown(technique.0, 40)));
    names.extend(finding.references.iter().take(10).map(|reference| text::markdown(reference, 60)));
    row("Rule", &names.join(", "));
    facts.push('\n');
    facts
}

fn silence(finding: &Finding) -> String {
    if finding.silence.trim().is_empty() {
        return String::new();
    }
    details("If this is meant: the lines that allow it", &text::fenced("yaml", &finding.silence, 4000))
}

/// Empty lines around the body, so that it is read as Markdown again.
fn details(summary: &str, body: &str) -> String {
    format!("<details><summary>{summary}</summary>\n\n{}\n\n</details>\n\n", body.trim_end())
}

/// What follows the findings: at most half of the page, whatever the run brought.
fn tail(report: &Report, limit: usize) -> String {
    let mut tail = Bounded { text: String::new(), limit: limit / 2 };
    if !report.steps.is_empty() {
        tail.push("| Step | Declared | Processes | Talked to |\n|---|---|---:|---|\n");
        let shown = report
            .steps
            .iter()
            .take(MOST_STEPS)
            .take_while(|step| tail.push(&row(step, report.coverage.egress)))
            .count();
        if report.steps.len() > shown {
            tail.push(&format!("| … {} more | | | |\n", report.steps.len() - shown));
        }
        tail.push("\n");
    }
    for session in report.sessions.iter().take(MOST_SESSIONS) {
        tail.push(&session_lines(session));
    }
    if report.sessions.len() > MOST_SESSIONS {
        tail.push(&format!(
            "{} more agent sessions are in `findings.json`.\n\n",
            report.sessions.len() - MOST_SESSIONS
        ));
    }
    tail.push(&coverage(report));
    if let Some(posture) = &report.posture {
        tail.push(&format!("**Posture**: {}.\n\n", text::markdown(&posture.in_words(), 400)));
    }
    if !report.suppressed.is_empty() {
        let held: Vec<String> = report
            .suppressed
            .iter()
            .map(|held| {
                format!(
                    "{} on {} in {}: {}",
                    text::code(&held.rule, 80),
                    text::code(&held.object, 200),
                    text::code(&held.step.0, 120),
                    text::markdown(&words::excuse(held), 300)
                )
            })
            .collect();
        let title = text::counted(text::len(&held), "finding", "findings");
        tail.push(&details(&format!("{title} held back by the policy's <code>except</code>"), &list(&held)));
    }
    for notice in report.notices.iter().take(MOST_LINES) {
        tail.push(&told(notice));
    }
    let files: Vec<String> = Format::ALL.iter().map(|format| format!("`{}`", format.file_name())).collect();
    format!("{}Reports: {}.\n", tail.text, files.join(", "))
}

/// Text that takes what still fits.
struct Bounded {
    text: String,
    limit: usize,
}

impl Bounded {
    fn push(&mut self, part: &str) -> bool {
        let fits = self.text.len() + part.len() <= self.limit;
        if fits {
            self.text.push_str(part);
        }
        fits
    }
}

/// One session of an agent: what it was, and its calls behind a fold.
fn session_lines(session: &SessionReport) -> String {
    let mut lines = format!("**Agent**: {}.\n\n", text::markdown(&session.in_words(), 400));
    if let Some(words) = session.permitted_in_words() {
        let _ = write!(lines, "It may: {}.\n\n", text::markdown(&words, 600));
    }
    if session.timeline.is_empty() {
        return lines;
    }
    let mut table = "| Asked for | State | Unexplained | Call |\n|---|---|---:|---|\n".to_owned();
    for call in session.timeline.iter().take(MOST_LINES) {
        let _ = writeln!(
            table,
            "| {} {} {} | {} | {} | {} |",
            call.time.rfc3339().get(11..23).unwrap_or_default(),
            text::cell(&call.tool, 40),
            text::cell(call.text.as_deref().unwrap_or_default(), 90),
            call.state.as_str(),
            call.unexplained,
            text::cell(&call.call, 60),
        );
    }
    if session.timeline.len() > MOST_LINES {
        let _ = writeln!(table, "| … {} more | | | |", session.timeline.len() - MOST_LINES);
    }
    let title = format!("Its {}", text::counted(session.calls, "tool call", "tool calls"));
    lines.push_str(&details(&title, &table));
    lines
}

fn row(step: &StepReport, egress: Reach) -> String {
    let declared = if step.key == StepKey::runner() {
        "the runner's own work, of no step".to_owned()
    } else if step.compared || !step.declared.trim().is_empty() {
        let declared = text::cell(&step.declared, 120);
        if step.compared { declared } else { format!("{declared}<br>compared: nothing") }
    } else {
        "nothing was declared; compared: nothing".to_owned()
    };
    let mut talked: Vec<String> = step
        .destinations
        .iter()
        .take(MOST_DESTINATIONS)
        .map(|destination| {
            let unexplained = if destination.explained.is_none() { " **unexplained**" } else { "" };
            let program = text::cell(&destination.program, 40);
            format!("{} by {program}{unexplained}", text::cell(&destination.host, 100))
        })
        .collect();
    if step.destinations.len() > MOST_DESTINATIONS {
        talked.push(format!("… {} more", step.destinations.len() - MOST_DESTINATIONS));
    }
    if talked.is_empty() {
        talked.push(
            match egress {
                Reach::Full => "nobody",
                Reach::Polled => "nobody that was seen",
                Reach::None => "could not look",
            }
            .to_owned(),
        );
    }
    format!(
        "| {} | {declared} | {} | {} |\n",
        text::cell(&step.key.0, 80),
        text::count(step.processes),
        talked.join("<br>")
    )
}

fn coverage(report: &Report) -> String {
    let before = words::before(report)
        .map_or_else(String::new, |before| format!("{}.\n\n", text::markdown(&before, 600)));
    format!("{}{before}", seen(report))
}

fn seen(report: &Report) -> String {
    let sensor = text::markdown(&words::sensor(report), 300);
    let gaps: Vec<String> = report.coverage.not_seen().map(|gap| text::markdown(gap, 300)).collect();
    if gaps.is_empty() {
        return format!("Seen by {sensor}.\n\n");
    }
    let not_seen = text::counted(text::len(&gaps), "thing", "things");
    format!("Seen by {sensor}.\n\n{}", details(&format!("{not_seen} this sensor does not see"), &list(&gaps)))
}

/// A notice; whatever follows its first line is something to paste.
fn told(notice: &str) -> String {
    match notice.trim().split_once('\n') {
        None => format!("> {}\n\n", text::markdown(notice, 1000)),
        Some((first, rest)) => details(&text::html(first, 300), &text::fenced("yaml", rest, 8000)),
    }
}

fn list(items: &[String]) -> String {
    let mut list = String::new();
    for item in items.iter().take(MOST_LINES) {
        let _ = writeln!(list, "- {item}");
    }
    if items.len() > MOST_LINES {
        let _ = writeln!(list, "- … {} more in `findings.json`", items.len() - MOST_LINES);
    }
    list
}

fn capital(word: &str) -> String {
    let mut rest = word.chars();
    rest.next().map_or_else(String::new, |first| first.to_uppercase().to_string() + rest.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::sample;

    #[test]
    fn a_flood_of_findings_stays_below_the_limit_and_says_so() {
        let mut report = sample::findings();
        let one = report.findings[0].clone();
        report.findings = vec![one; 3000];
        let page = render(&report, LIMIT);
        assert!(page.len() < LIMIT, "{} bytes", page.len());
        assert!(page.len() > LIMIT / 2, "the room is used: {} bytes", page.len());
        let told = page.matches("### ❌").count();
        assert!(
            page.contains(&format!(
                "**{} more findings are left out here**",
                text::count(3000 - told as u64)
            ))
        );
        assert!(page.contains("Reports: `findings.json`"), "what follows the findings is kept");
    }

    #[test]
    fn the_rest_of_the_page_is_bounded_by_itself() {
        let mut report = sample::findings();
        let long = "|`<*".repeat(5000);
        report.steps = vec![sample::step("job/step", &long); 2000];
        for step in &mut report.steps {
            step.destinations = vec![
                crate::finding::Destination {
                    host: long.clone(),
                    program: long.clone(),
                    explained: None,
                    carried: None,
                };
                50
            ];
        }
        report.coverage.limits = vec![long.clone(); 500];
        report.notices = vec![format!("{long}\n{long}"); 500];
        report.policy = Some(long);
        assert!(render(&report, LIMIT).len() < LIMIT);
    }

    #[test]
    fn a_clean_run_fits_one_screen() {
        let page = render(&sample::clean(), LIMIT);
        let mut is_folded = false;
        let shown = page.lines().filter(|line| {
            is_folded = (is_folded || line.starts_with("<details>")) && !line.starts_with("</details>");
            !is_folded && !line.is_empty()
        });
        assert!(shown.count() <= 20, "{page}");
        assert!(page.starts_with("**Watched** 3 steps, 1,204 processes, 0 lost · **Nothing suspicious**\n"));
    }
}
