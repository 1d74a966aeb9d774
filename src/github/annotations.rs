//! Findings at the lines of their steps, as workflow commands and as annotations of a check run.

use std::fmt::Write as _;

use serde::Serialize;

use crate::finding::{Finding, Kind, Report, Severity};
use crate::reports::{self, text};

/// The runner keeps no more of one kind of one step.
const MOST_PER_KIND: usize = 10;

/// The runner cuts what is longer.
const LONGEST_MESSAGE: usize = 4096;

/// As GitHub's check runs take it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Annotation {
    path: String,
    start_line: u32,
    end_line: u32,
    #[serde(rename = "annotation_level")]
    level: Level,
    title: String,
    message: String,
    /// The place is only where an answer could be written: no step's line is known.
    #[serde(skip)]
    is_placed: bool,
}

/// Worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Failure,
    Warning,
    Notice,
}

impl Level {
    const ALL: [Self; 3] = [Self::Failure, Self::Warning, Self::Notice];

    fn command(self) -> &'static str {
        match self {
            Self::Failure => "error",
            Self::Warning => "warning",
            Self::Notice => "notice",
        }
    }
}

/// What is worth a mark at a line, worst first.
///
/// A low finding is one only if somebody wrote the line that it breaks, or if it belongs to an attack: a
/// first run of an ordinary job must not be decorated with remarks.
pub(super) fn all(report: &Report) -> Vec<Annotation> {
    let mut ranked: Vec<(Level, &Finding)> = report
        .findings
        .iter()
        .filter_map(|finding| {
            let level = match (finding.fails, finding.severity) {
                (true, _) => Level::Failure,
                (false, Severity::Low) => match finding.kind {
                    Kind::Attack | Kind::Policy => Level::Notice,
                    Kind::Divergence | Kind::Posture | Kind::Coverage => return None,
                },
                (false, _) => Level::Warning,
            };
            Some((level, finding))
        })
        .collect();
    ranked.sort_by_key(|(level, finding)| (*level, std::cmp::Reverse(finding.severity)));
    let mut annotations: Vec<Annotation> = Vec::new();
    // 125 without a finding that says why.
    if report.exit.guard == 125 {
        let why = report.coverage.not_seen().next().unwrap_or("see the job's summary");
        annotations.push(Annotation {
            path: ".github/guard.yml".to_owned(),
            start_line: 1,
            end_line: 1,
            level: Level::Failure,
            title: "edamame-guard could not do its work".to_owned(),
            message: format!("{}.\n{}", reports::verdict(report), text::short(why, 500)),
            is_placed: false,
        });
    }
    annotations.extend(ranked.into_iter().map(|(level, finding)| annotation(report, level, finding)));
    annotations
}

fn annotation(report: &Report, level: Level, finding: &Finding) -> Annotation {
    let known = reports::place(report, finding);
    let place = known.clone().unwrap_or_else(|| reports::place_of_answers(report));
    let line = place.line.max(1);
    Annotation {
        path: text::short(place.path.strip_prefix("./").unwrap_or(&place.path), 1000),
        start_line: line,
        end_line: line,
        level,
        title: text::short(&format!("{} in {}", finding.rule, finding.step), 200),
        message: message(finding),
        is_placed: known.is_some(),
    }
}

fn message(finding: &Finding) -> String {
    let mut lines = vec![text::short(&finding.title, 500)];
    if let Some(process) = &finding.process {
        lines.push(format!(
            "Who: {}",
            text::short(&text::chain(process, &finding.ancestry, text::program), 500)
        ));
        lines.push(format!("Ran: {}", text::command_line(process, 300)));
    }
    lines.push(format!("Object: {}", text::short(&finding.object, 300)));
    let declared = finding.declared.as_deref().map_or("nothing".to_owned(), |text| text::short(text, 300));
    lines.push(format!("Declared: {declared}"));
    lines.push(format!("What to do: {}", text::short(&finding.remedy, 500)));
    lines.join("\n")
}

/// The log lines that make the runner mark the steps: ten of a kind, the rest counted in a last line.
///
/// Every line begins with a command of ours and holds no line break, so whatever the job named its files, the
/// runner reads no order of theirs.
pub fn workflow_commands(report: &Report) -> String {
    let all = all(report);
    let mut commands = String::new();
    let mut left_out = 0;
    for level in Level::ALL {
        let of_level: Vec<&Annotation> = all.iter().filter(|annotation| annotation.level == level).collect();
        for annotation in of_level.iter().take(MOST_PER_KIND) {
            commands.push_str(&command(annotation));
            commands.push('\n');
        }
        left_out += of_level.len().saturating_sub(MOST_PER_KIND);
    }
    if left_out > 0 {
        let more = text::counted(left_out as u64, "more finding has", "more findings have");
        let _ = writeln!(
            commands,
            "edamame-guard: {more} no mark here, for GitHub takes {MOST_PER_KIND} of a kind; all are in the summary and in findings.json"
        );
    }
    commands
}

fn command(annotation: &Annotation) -> String {
    let place = if annotation.is_placed {
        format!(
            "file={},line={},endLine={},",
            property(&annotation.path),
            annotation.start_line,
            annotation.end_line
        )
    } else {
        String::new()
    };
    format!(
        "::{} {place}title={}::{}",
        annotation.level.command(),
        property(&annotation.title),
        data(&annotation.message, LONGEST_MESSAGE)
    )
}

/// Text for the log of which nothing is an order, whatever stands in it: the runner stops listening until it
/// meets `token`, which nobody else may know.
pub fn quoted(text: &str, token: &str) -> String {
    let text = text::without_commands(text);
    let end = if text.ends_with('\n') { "" } else { "\n" };
    format!("::stop-commands::{token}\n{text}{end}::{token}::\n")
}

/// The message of a command, of at most `limit` characters as written.
fn data(text: &str, limit: usize) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut length = 0;
    for character in text.chars() {
        let escape = match character {
            '%' => "%25",
            '\r' => "%0D",
            '\n' => "%0A",
            _ => "",
        };
        length += escape.len().max(1);
        if length >= limit {
            safe.push('…');
            return safe;
        }
        if escape.is_empty() {
            safe.push(character);
        } else {
            safe.push_str(escape);
        }
    }
    safe
}

/// The value of a property, which also ends at a colon or a comma.
fn property(text: &str) -> String {
    data(text, usize::MAX).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::finding::{ExitView, FailOn};
    use crate::reports::sample;

    /// The level, properties and message of a line, read as the runner reads it.
    type Parsed = (String, Vec<(String, String)>, String);

    fn parsed(line: &str) -> Option<Parsed> {
        let (head, data) = line.strip_prefix("::")?.split_once("::")?;
        let (name, properties) = head.split_once(' ').unwrap_or((head, ""));
        let unescape = |text: &str| {
            let text = text.replace("%0D", "\r").replace("%0A", "\n").replace("%3A", ":").replace("%2C", ",");
            text.replace("%25", "%")
        };
        let properties = properties
            .split(',')
            .filter_map(|property| property.split_once('='))
            .map(|(key, value)| (key.to_owned(), unescape(value)))
            .collect();
        Some((name.to_owned(), properties, unescape(data)))
    }

    fn count(commands: &str, kind: &str) -> usize {
        commands.lines().filter(|line| line.starts_with(&format!("::{kind} "))).count()
    }

    #[test]
    fn a_clean_run_has_no_annotation() {
        assert_eq!(workflow_commands(&sample::clean()), "");
        // Low notes of a first run stay in the summary.
        let mut report = sample::findings();
        report.exit = ExitView { guard: 0, ..report.exit };
        report.findings.retain(|finding| !finding.fails);
        assert!(!report.findings.is_empty());
        assert_eq!(workflow_commands(&report), "");
    }

    #[test]
    fn a_finding_stands_at_the_line_of_its_step() {
        let commands = workflow_commands(&sample::findings());
        let (name, properties, message) = parsed(commands.lines().next().unwrap()).unwrap();
        assert_eq!(name, "error");
        let value = |key: &str| {
            properties.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str()).unwrap()
        };
        assert_eq!(
            (value("file"), value("line"), value("endLine")),
            (".github/workflows/ci.yml", "14", "14")
        );
        assert_eq!(value("title"), "cred-file-access in build/test");
        assert!(message.starts_with("a package's install script read ~/.aws/credentials"), "{message}");
        assert!(message.contains("\nWho: npm › sh › node › curl\n"), "{message}");
    }

    #[test]
    fn what_does_not_fail_the_job_is_no_error() {
        let mut report = sample::findings();
        report.fail_on = FailOn::Never;
        for finding in &mut report.findings {
            finding.fails = false;
        }
        report.exit.guard = 0;
        let commands = workflow_commands(&report);
        assert_eq!((count(&commands, "error"), count(&commands, "warning")), (0, 2), "{commands}");
    }

    #[test]
    fn ten_of_a_kind_worst_first_and_the_rest_counted() {
        let mut report = sample::findings();
        let one = report.findings[1].clone();
        report.findings = vec![one; 300];
        report.findings[299].severity = Severity::Critical;
        report.findings[299].title = "the worst".to_owned();
        for finding in &mut report.findings[100..200] {
            finding.fails = false;
        }
        let commands = workflow_commands(&report);
        assert_eq!((count(&commands, "error"), count(&commands, "warning")), (10, 10));
        assert!(parsed(commands.lines().next().unwrap()).unwrap().2.starts_with("the worst\n"));
        let last = commands.lines().last().unwrap();
        assert!(last.starts_with("edamame-guard: 280 more findings have no mark here"), "{last}");
    }

    #[test]
    fn a_guard_that_could_not_look_is_an_error() {
        let commands = workflow_commands(&sample::blind());
        let (name, properties, message) = parsed(commands.lines().next().unwrap()).unwrap();
        assert_eq!(name, "error");
        assert_eq!(properties, [("title".to_owned(), "edamame-guard could not do its work".to_owned())]);
        assert!(message.contains("this kernel refuses BPF programs"), "{message}");
    }

    #[test]
    fn a_message_is_cut_before_the_runner_cuts_it() {
        let message = data(&"%".repeat(5000), LONGEST_MESSAGE);
        assert!((4090..=4096).contains(&message.chars().count()), "{}", message.chars().count());
        assert!(message.ends_with("%25…"), "no escape is cut in two");
        let mut report = sample::findings();
        let finding = &mut report.findings[0];
        for text in [&mut finding.title, &mut finding.object, &mut finding.remedy] {
            *text = "%".repeat(5000);
        }
        finding.declared = Some("%".repeat(5000));
        let commands = workflow_commands(&report);
        let (_, message) = commands.lines().next().unwrap().rsplit_once("::").unwrap();
        assert!(message.chars().count() <= 4096, "{}", message.chars().count());
    }

    #[test]
    fn quoted_text_is_between_the_runners_brackets() {
        let text = quoted("a\n::error::x\n##[error]y", "secret");
        assert_eq!(text, "::stop-commands::secret\na\n: :error::x\n# #[error]y\n::secret::\n");
    }

    fn any_text() -> impl Strategy<Value = String> {
        let part = prop_oneof![
            any::<String>(),
            "[\\x00-\\x1f%:,=\\r\\n\u{2028}\u{85} ]{0,12}",
            Just(sample::HOSTILE.to_owned()),
            Just("\n::error file=x::y\r\n::add-mask::a\n::stop-commands::b\n".to_owned()),
        ];
        prop::collection::vec(part, 0..4).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_text_gives_an_order(title in any_text(), path in any_text(), step in any_text()) {
            let mut report = sample::findings();
            for finding in &mut report.findings {
                finding.fails = true;
                finding.title.clone_from(&title);
                finding.object.clone_from(&path);
                finding.step.0.clone_from(&step);
                finding.declared = Some(path.clone());
                if let Some(location) = &mut finding.location {
                    location.path.clone_from(&path);
                }
                if let Some(process) = &mut finding.process {
                    process.name.clone_from(&title);
                    process.arguments = vec![title.clone(), path.clone()];
                }
            }
            let commands = workflow_commands(&report);
            // As many lines as findings, each of them ours.
            prop_assert_eq!(commands.lines().count(), report.findings.len());
            for line in commands.split('\n').filter(|line| !line.is_empty()) {
                let command = parsed(line);
                prop_assert!(command.is_some(), "{line}");
                let (name, properties, _) = command.unwrap();
                prop_assert_eq!(name, "error");
                let known = ["file", "line", "endLine", "title"];
                prop_assert!(properties.iter().all(|(key, _)| known.contains(&key.as_str())), "{line}");
                prop_assert!(!line.contains(|character: char| character.is_control()), "{line:?}");
                prop_assert!(!line.contains("##["), "{line}");
            }
        }
    }
}
