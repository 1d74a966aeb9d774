//! What the person at the terminal reads: the verdict first, then each finding in ten seconds.

use std::fmt::Write as _;

use super::{Format, text, words};
use crate::finding::{Finding, Report, Verdict};

/// How to show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    pub colour: bool,
    /// Columns of the terminal; text is broken there, never a path or a line to paste.
    pub width: usize,
}

impl Default for Style {
    fn default() -> Self {
        Self { colour: false, width: 100 }
    }
}

const NAME_WIDTH: usize = 10;
const MOST_FAILING: usize = 50;
const MOST_NOTES: usize = 20;
const MOST_LINES: usize = 20;

/// The whole text, which ends with a line break. `report_dir` is where the files were put.
pub fn render(report: &Report, style: Style, report_dir: Option<&str>) -> String {
    let mut page = Page { text: String::new(), style };
    head(&mut page, report);

    let (failing, notes): (Vec<&Finding>, Vec<&Finding>) =
        report.findings.iter().partition(|finding| finding.fails);
    for finding in failing.iter().take(MOST_FAILING) {
        page.blank();
        detailed(&mut page, finding);
    }
    more(&mut page, failing.len(), MOST_FAILING, "findings that fail the job");

    if !notes.is_empty() {
        page.blank();
        page.heading("Notes, which don't fail the job");
        for finding in notes.iter().take(MOST_NOTES) {
            brief(&mut page, finding);
        }
        more(&mut page, notes.len(), MOST_NOTES, "notes");
    }
    if !report.suppressed.is_empty() {
        page.blank();
        page.heading("Held back by the policy's `except`");
        for held in report.suppressed.iter().take(MOST_LINES) {
            let object = text::short(&held.object, 200);
            let step = text::short(&held.step.0, 120);
            page.item(&format!(
                "{} on {object} in {step}: {}",
                text::short(&held.rule, 80),
                words::excuse(held)
            ));
        }
        more(&mut page, report.suppressed.len(), MOST_LINES, "held-back findings");
    }

    page.blank();
    coverage(&mut page, report);
    for session in report.sessions.iter().take(MOST_LINES) {
        page.row("agent", &text::short(&session.in_words(), 400));
        if let Some(words) = session.permitted_in_words() {
            page.row("it may", &text::short(&words, 400));
        }
    }
    more(&mut page, report.sessions.len(), MOST_LINES, "agent sessions");
    if let Some(posture) = &report.posture {
        page.row("posture", &text::short(&posture.in_words(), 400));
    }
    for notice in report.notices.iter().take(MOST_LINES) {
        page.notice(notice);
    }
    if let Some(directory) = report_dir {
        // One line: the folder is what is asked for, and the page is what a person opens.
        let rest = Format::ALL.len() - 1;
        let page_name = Format::Html.file_name();
        page.row("reports", &format!("{}: {page_name} and {rest} more", text::short(directory, 1000)));
    }
    page.finish()
}

/// One finding in full, as [`render`] shows those that fail, without colour.
pub fn finding(finding: &Finding) -> String {
    let mut page = Page { text: String::new(), style: Style::default() };
    detailed(&mut page, finding);
    page.finish()
}

fn head(page: &mut Page, report: &Report) {
    let colour = match report.verdict {
        _ if report.exit.guard == 125 => Colour::Red,
        Verdict::Attack | Verdict::Blind => Colour::Red,
        _ if report.findings.iter().any(|finding| finding.fails) => Colour::Red,
        Verdict::Partial | Verdict::Divergence => Colour::Yellow,
        Verdict::Clean => Colour::Green,
    };
    for (index, line) in
        broken(&words::verdict(report), page.style.width.saturating_sub(15)).iter().enumerate()
    {
        let painted = page.paint(colour, line);
        page.line(&format!("{}{painted}", if index == 0 { "edamame-guard: " } else { "  " }));
    }
    let mut facts = vec![format!(
        "watched {} in {}",
        words::watched(report),
        text::duration(report.started, report.ended)
    )];
    facts.extend(words::command_end(report));
    if report.exit.guard != 0 {
        facts.push(format!("the guard exits with {}", report.exit.guard));
    }
    page.wrapped("  ", "  ", &facts.join(", "));
}

fn detailed(page: &mut Page, finding: &Finding) {
    title(page, "✗ ", finding, Colour::Red);
    if let Some(process) = &finding.process {
        let chain = text::chain(process, &finding.ancestry, |view| {
            format!("{} ({})", text::program(view), view.key.pid)
        });
        page.row("who", &chain);
        page.row("ran", &text::command_line(process, 300));
    }
    if let Some(agent) = words::agent(finding) {
        page.row("agent", &agent);
    }
    page.row("object", &object(finding));
    page.row("step", &words::where_from(finding));
    page.row(
        "declared",
        &finding.declared.as_deref().map_or("nothing".to_owned(), |text| text::short(text, 400)),
    );
    page.row("do", &text::short(&finding.remedy, 800));
    if !finding.silence.trim().is_empty() {
        page.row("allow it", "if this is meant, with these lines:");
        page.verbatim(&finding.silence, 4000);
    }
}

fn brief(page: &mut Page, finding: &Finding) {
    title(page, "- ", finding, Colour::Yellow);
    if let Some(process) = &finding.process {
        page.row("who", &text::chain(process, &finding.ancestry, text::program));
    }
    page.row("object", &object(finding));
    page.row("step", &words::where_from(finding));
}

fn title(page: &mut Page, mark: &str, finding: &Finding, colour: Colour) {
    // Painted words are longer than they look, so the paint goes on once the line is broken.
    let severity = finding.severity.as_str().to_uppercase();
    let plain = format!("{severity}  {}  [{}]", text::short(&finding.title, 400), finding.rule);
    let lines = broken(&plain, page.style.width.saturating_sub(mark.chars().count()));
    for (index, line) in lines.iter().enumerate() {
        if index == 0 {
            let rest = line.strip_prefix(&severity).unwrap_or(line);
            let painted = page.paint(colour, &format!("{mark}{severity}"));
            let rest = page.paint(Colour::Bold, rest);
            page.line(&format!("{painted}{rest}"));
        } else {
            let painted = page.paint(Colour::Bold, line);
            page.line(&format!("{}{painted}", " ".repeat(mark.chars().count())));
        }
    }
}

fn object(finding: &Finding) -> String {
    let mut object = text::short(&finding.object, 400);
    for more in finding.more_objects.iter().take(4) {
        let _ = write!(object, ", {}", text::short(more, 200));
    }
    if finding.more_objects.len() > 4 {
        let _ = write!(object, " and {} more", finding.more_objects.len() - 4);
    }
    if finding.count > 1 {
        let _ = write!(object, " ({} times)", text::count(finding.count));
    }
    object
}

fn coverage(page: &mut Page, report: &Report) {
    if !words::is_trusted(report) {
        page.row("blind", "Could not look: what is not told here may have happened all the same.");
    } else if report.findings.is_empty() {
        page.row("found", "Nothing found.");
    }
    page.row("seen by", &words::sensor(report));
    for spot in words::blind_spots(report) {
        page.row("no sight", &format!("Could not look: {spot}."));
    }
    for gap in report.coverage.gaps.iter().take(MOST_LINES) {
        page.row("not seen", &text::short(gap, 400));
    }
    more(page, report.coverage.gaps.len(), MOST_LINES, "gaps");
    // The same on every run of this machine: a count here, the list where there is room.
    let limits = text::len(&report.coverage.limits);
    if limits > 0 {
        let limits = text::counted(limits, "known limit", "known limits");
        page.row(
            "not seen",
            &format!("{limits} of this sensor, listed in summary.md and by `edamame-guard doctor`"),
        );
    }
    if let Some(before) = words::before(report) {
        page.row("before", &before);
    }
    let unnamed = report.steps.iter().filter(|step| !step.compared && step.key.is_real());
    for step in unnamed.take(MOST_LINES) {
        let key = text::short(&step.key.0, 120);
        page.row("unknown", &format!("{key}: nothing was declared for this step; compared: nothing"));
    }
}

fn more(page: &mut Page, all: usize, shown: usize, what: &str) {
    if all > shown {
        page.line(&format!("  … {} more {what} in findings.json", text::count((all - shown) as u64)));
    }
}

#[derive(Clone, Copy)]
enum Colour {
    Red,
    Yellow,
    Green,
    Bold,
    Dim,
}

struct Page {
    text: String,
    style: Style,
}

impl Page {
    fn paint(&self, colour: Colour, text: &str) -> String {
        if !self.style.colour {
            return text.to_owned();
        }
        let code = match colour {
            Colour::Red => "1;31",
            Colour::Yellow => "1;33",
            Colour::Green => "1;32",
            Colour::Bold => "1",
            Colour::Dim => "2",
        };
        format!("\u{1b}[{code}m{text}\u{1b}[0m")
    }

    /// Every line of the page goes through here: breaking a text can put `::` at a line's start.
    fn line(&mut self, line: &str) {
        self.text.push_str(&text::without_commands(line));
        self.text.push('\n');
    }

    fn blank(&mut self) {
        self.line("");
    }

    fn heading(&mut self, text: &str) {
        let painted = self.paint(Colour::Bold, text);
        self.line(&painted);
    }

    /// `    name      value`, the value broken to the width under itself.
    fn row(&mut self, name: &str, value: &str) {
        let indent = " ".repeat(4 + NAME_WIDTH);
        for (index, line) in broken(value, self.style.width.saturating_sub(indent.len())).iter().enumerate() {
            let front = if index == 0 {
                self.paint(Colour::Dim, &format!("    {name:<NAME_WIDTH$}"))
            } else {
                indent.clone()
            };
            self.line(&format!("{front}{line}"));
        }
    }

    fn item(&mut self, text: &str) {
        self.wrapped("  - ", "    ", text);
    }

    fn wrapped(&mut self, first: &str, next: &str, text: &str) {
        for (index, line) in broken(text, self.style.width.saturating_sub(first.len())).iter().enumerate() {
            self.line(&format!("{}{line}", if index == 0 { first } else { next }));
        }
    }

    /// Lines to paste: whole, indented by a fixed number of spaces.
    fn verbatim(&mut self, text: &str, limit: usize) {
        for line in text::bounded(&text::block(text), limit).trim_end().lines() {
            self.line(format!("{}{line}", " ".repeat(4 + NAME_WIDTH + 2)).trim_end());
        }
    }

    /// The first line is said; what follows it is something to paste, and stands in the summary.
    fn notice(&mut self, notice: &str) {
        match notice.trim().split_once('\n') {
            None => self.row("notice", &text::short(notice, 1000)),
            Some((first, _)) => {
                let first = text::short(first.trim_end_matches(':'), 1000);
                self.row("notice", &format!("{first}: see summary.md"));
            }
        }
    }

    fn finish(self) -> String {
        self.text
    }
}

/// Lines of at most `width` columns; a word that is longer stays whole, so that it can be copied.
fn broken(text: &str, width: usize) -> Vec<String> {
    let width = width.max(20);
    let mut lines = vec![String::new()];
    let mut used = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if used > 0 && used + 1 + length > width {
            lines.push(String::new());
            used = 0;
        }
        if let Some(last) = lines.last_mut() {
            if used > 0 {
                last.push(' ');
                used += 1;
            }
            last.push_str(word);
            used += length;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reports::sample;

    #[test]
    fn breaks_between_words_only() {
        assert_eq!(broken("one two three four five six", 20), ["one two three four", "five six"]);
        assert_eq!(
            broken("see /a/very/long/path/that/is/longer x", 20),
            ["see", "/a/very/long/path/that/is/longer", "x"]
        );
    }

    #[test]
    fn prose_keeps_to_the_width() {
        for width in [60, 80, 120] {
            let text = render(&sample::findings(), Style { colour: false, width }, Some("out"));
            for line in text.lines().filter(|line| line.chars().count() > width) {
                let words = line.split_whitespace().count();
                assert!(line.starts_with("                ") || words <= 2, "{width}: {line}");
            }
        }
    }

    #[test]
    fn colour_changes_nothing_but_colour() {
        let style = Style { colour: true, width: 90 };
        let painted = render(&sample::findings(), style, Some("out"));
        let plain = render(&sample::findings(), Style { colour: false, ..style }, Some("out"));
        assert!(painted.contains("\u{1b}[1;31m"));
        assert_eq!(text::block(&painted), plain);
    }

    #[test]
    fn nothing_found_and_could_not_look_are_different_lines() {
        let clean = render(&sample::clean(), Style::default(), None);
        assert!(clean.contains("Nothing found.") && !clean.contains("Could not look"), "{clean}");
        let blind = render(&sample::blind(), Style::default(), None);
        assert!(
            blind.contains("Could not look: what is not") && !blind.contains("Nothing found."),
            "{blind}"
        );
    }
}
