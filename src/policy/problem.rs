//! What is wrong with a policy text, each with its place, a caret and a hint.

use std::collections::BTreeMap;
use std::fmt;

use super::yaml::Node;

/// One thing wrong with the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// From 1.
    pub line: u32,
    /// From 1, in characters.
    pub column: u32,
    pub message: String,
    pub hint: Option<String>,
}

/// Why a text is no policy: everything that is wrong with it, in the order of the text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    pub origin: String,
    pub problems: Vec<Problem>,
    /// How many more there are than `problems` holds.
    pub omitted: usize,
    /// The source lines that the problems point at.
    lines: BTreeMap<u32, String>,
}

impl std::error::Error for PolicyError {}

impl PolicyError {
    /// A problem with the text as a whole.
    pub(super) fn plain(origin: &str, message: &str) -> Self {
        let problem = Problem { line: 1, column: 1, message: message.to_owned(), hint: None };
        Self { origin: origin.to_owned(), problems: vec![problem], omitted: 0, lines: BTreeMap::new() }
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                formatter.write_str("\n\n")?;
            }
            let Problem { line, column, message, hint } = problem;
            write!(formatter, "{}:{line}:{column}: {message}", clean(&self.origin))?;
            if let Some(source) = self.lines.get(line) {
                let (source, caret) = window(source, *column as usize);
                let number = line.to_string();
                let margin = " ".repeat(number.len());
                write!(formatter, "\n {number} | {source}\n {margin} | {caret}^")?;
            }
            if let Some(hint) = hint {
                write!(formatter, "\n hint: {hint}")?;
            }
        }
        if self.omitted > 0 {
            write!(formatter, "\n\nand {} more", self.omitted)?;
        }
        Ok(())
    }
}

/// The part of a source line around a column, and the blanks that put a caret under it.
fn window(source: &str, column: usize) -> (String, String) {
    const BEFORE: usize = 60;
    const WIDTH: usize = 110;
    let start = if column > WIDTH { column - BEFORE } else { 1 };
    let cut = start > 1;
    let part: String = source.chars().skip(start - 1).take(WIDTH).collect();
    let more = source.chars().count() > start - 1 + WIDTH;
    let mut caret: String =
        part.chars().take(column - start).map(|letter| if letter == '\t' { '\t' } else { ' ' }).collect();
    // A place past the end of the line, such as an unclosed bracket.
    caret.extend(std::iter::repeat_n(' ', (column - start).saturating_sub(caret.chars().count())));
    let mut text = clean(&part);
    if more {
        text.push('…');
    }
    if cut { (format!("…{text}"), format!(" {caret}")) } else { (text, caret) }
}

/// Text without anything that could move a terminal's cursor, start a log command or turn the order of letters.
fn clean(text: &str) -> String {
    let is_bad = |letter: char| {
        letter.is_control()
            || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    text.chars().map(|letter| if is_bad(letter) && letter != '\t' { '\u{fffd}' } else { letter }).collect()
}

/// A piece of the user's text, short and on one line, for a message.
pub(super) fn shown(text: &str) -> String {
    const LIMIT: usize = 80;
    let mut short: String = clean(text).replace('\t', " ").chars().take(LIMIT).collect();
    if text.chars().count() > LIMIT {
        short.push('…');
    }
    short
}

/// A problem that does not know its place yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Complaint {
    pub message: String,
    pub hint: Option<String>,
}

impl Complaint {
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None }
    }

    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Problems found so far.
#[derive(Debug, Default)]
pub(super) struct Problems(Vec<Problem>);

impl Problems {
    pub fn at(&mut self, node: &Node, complaint: Complaint) {
        self.place(node.line, node.column, complaint);
    }

    pub fn place(&mut self, line: u32, column: u32, complaint: Complaint) {
        self.0.push(Problem { line, column, message: complaint.message, hint: complaint.hint });
    }

    /// `Ok` when there are none.
    pub fn finish(self, origin: &str, text: &str) -> Result<(), PolicyError> {
        const LIMIT: usize = 50;
        let Self(mut problems) = self;
        if problems.is_empty() {
            return Ok(());
        }
        problems.sort_by_key(|problem| (problem.line, problem.column));
        let omitted = problems.len().saturating_sub(LIMIT);
        problems.truncate(LIMIT);
        let wanted: std::collections::BTreeSet<u32> = problems.iter().map(|problem| problem.line).collect();
        let lines = (1..)
            .zip(text.lines())
            .filter(|(number, _)| wanted.contains(number))
            .map(|(number, line)| (number, line.to_owned()))
            .collect();
        Err(PolicyError { origin: origin.to_owned(), problems, omitted, lines })
    }
}

/// The candidate that a typing mistake would turn into `word`, if one is near enough.
pub(super) fn nearest<'c>(word: &str, candidates: impl Iterator<Item = &'c str>) -> Option<&'c str> {
    let word: Vec<char> = word.chars().take(64).flat_map(char::to_lowercase).collect();
    candidates
        .map(|candidate| (distance(&word, &candidate.chars().collect::<Vec<_>>()), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .map(|(_, candidate)| candidate)
}

/// Optimal string alignment: insertions, deletions, substitutions, and swapped neighbours.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut rows: Vec<Vec<usize>> = vec![(0..=right.len()).collect()];
    for (i, a) in left.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, b) in right.iter().enumerate() {
            let mut best = (rows[i][j] + usize::from(a != b)).min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && *a == right[j - 1] && left[i - 1] == *b {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[left.len()][right.len()]
}

#[test]
fn finds_the_nearest_word() {
    let words = ["github", "gitlab", "node", "network"];
    for (typed, meant) in [
        ("githb", Some("github")),
        ("gihtub", Some("github")),
        ("netwrok", Some("network")),
        ("noed", Some("node")),
        ("Node", Some("node")),
        ("kubernetes", None),
        ("", None),
    ] {
        assert_eq!(nearest(typed, words.into_iter()), meant, "{typed}");
    }
}

#[test]
fn puts_the_caret_under_a_far_column() {
    let source = format!("{}X{}", "a".repeat(300), "b".repeat(300));
    let (line, caret) = window(&source, 301);
    assert_eq!(line.chars().nth(caret.chars().count()), Some('X'));
    assert!(line.chars().count() < 120);
}
