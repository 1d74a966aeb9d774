//! Turns hostile text (paths, arguments, host names) into text that is safe to show.
//!
//! Whoever is under watch chooses file names and arguments, so nothing of theirs may
//! move a cursor, open a tag, end a code span or speak to the CI system.

use std::fmt::Write as _;

use crate::event::Timestamp;
use crate::finding::ProcessView;

/// One line without control characters, terminal sequences or text-direction tricks.
pub fn line(text: &str) -> String {
    let clean = block(text);
    let mut words = clean.split_whitespace();
    let mut line = String::with_capacity(clean.len());
    if let Some(first) = words.next() {
        line.push_str(first);
    }
    for word in words {
        line.push(' ');
        line.push_str(word);
    }
    line
}

/// Like [`line()`], but keeps line breaks and indentation: for YAML to paste.
pub fn block(text: &str) -> String {
    without_commands(&printable(text))
}

/// GitHub obeys a log line that starts with `::`, and `##[` anywhere in one; Azure `##vso[`.
/// Any report may be printed to a log, so such a line gets a space in it.
pub fn without_commands(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for line in text.split_inclusive('\n') {
        let start = line.len() - line.trim_start().len();
        if line[start..].starts_with("::") {
            safe.push_str(&line[..=start]);
            safe.push(' ');
            safe.push_str(&line[start + 1..]);
        } else {
            safe.push_str(line);
        }
    }
    safe.replace("##[", "# #[").replace("##vso[", "# #vso[")
}

fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(character) = rest.next() {
        match character {
            '\u{1b}' => skip_escape(&mut rest),
            '\u{9b}' => skip_control_sequence(&mut rest),
            '\r' if rest.peek() == Some(&'\n') => {}
            '\n' | '\r' | '\u{2028}' | '\u{2029}' | '\u{85}' => clean.push('\n'),
            '\t' => clean.push_str("    "),
            other if is_unprintable(other) => {}
            other => clean.push(other),
        }
    }
    clean
}

/// Control characters, invisible direction marks, and what XML 1.0 forbids.
fn is_unprintable(character: char) -> bool {
    character.is_control()
        || matches!(character,
            '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{fffe}' | '\u{ffff}' | '\u{e0000}'..='\u{e007f}')
}

/// What follows ESC: a control sequence, a string up to its terminator, or one character.
fn skip_escape(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    match rest.peek() {
        Some('[') => {
            rest.next();
            skip_control_sequence(rest);
        }
        Some(']' | 'P' | 'X' | '^' | '_') => {
            // An unfinished string ends at the line's end, so that it can't swallow a report.
            while let Some(&character) = rest.peek() {
                if character == '\n' {
                    return;
                }
                rest.next();
                match character {
                    '\u{7}' | '\u{9c}' => return,
                    '\u{1b}' => {
                        if rest.peek() == Some(&'\\') {
                            rest.next();
                        }
                        return;
                    }
                    _ => {}
                }
            }
        }
        Some(' '..='/') => {
            rest.next();
            rest.next_if(|&character| ('0'..='~').contains(&character));
        }
        Some('0'..='~') => {
            rest.next();
        }
        _ => {}
    }
}

fn skip_control_sequence(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while rest.next_if(|&character| (' '..='?').contains(&character)).is_some() {}
    rest.next_if(|&character| ('@'..='~').contains(&character));
}

/// At most `limit` characters; a cut shows as `…`.
pub fn bounded(text: &str, limit: usize) -> String {
    if text.char_indices().nth(limit).is_none() {
        return text.to_owned();
    }
    let end = text.char_indices().nth(limit.saturating_sub(1)).map_or(0, |(index, _)| index);
    format!("{}…", text[..end].trim_end())
}

/// [`line()`] of at most `limit` characters.
pub fn short(text: &str, limit: usize) -> String {
    // Of a text of megabytes no more is read than could be shown, unless most of it is invisible.
    match text.char_indices().nth(16 * limit + 256) {
        None => bounded(&line(text), limit),
        Some((end, _)) => bounded(&format!("{}…", line(&text[..end])), limit),
    }
}

/// Prose for Markdown: shown as written, whatever it holds; one line.
pub fn markdown(text: &str, limit: usize) -> String {
    let text = short(text, limit);
    let mut safe = String::with_capacity(text.len() + 16);
    for (index, character) in text.char_indices() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            // A comment splits the text, so no page makes a mention or an address of it.
            '@' => safe.push_str("@<!-- -->"),
            // GitHub reads `$…$` as mathematics.
            '$' => safe.push_str("&#36;"),
            '\\' | '`' | '*' | '_' | '{' | '}' | '[' | ']' | '#' | '|' | '~' => {
                safe.push('\\');
                safe.push(character);
            }
            // `https://` and `www.` become links, `:name:` becomes a picture.
            ':' if text[index + 1..].starts_with("//") || opens_a_picture(&text[index + 1..]) => {
                safe.push_str("\\:");
            }
            '.' if text[..index].to_ascii_lowercase().ends_with("www") => safe.push_str("\\."),
            '-' | '+' | '=' if index == 0 => {
                safe.push('\\');
                safe.push(character);
            }
            // `1.` and `1)` open a list.
            '.' | ')' if index > 0 && text[..index].bytes().all(|byte| byte.is_ascii_digit()) => {
                safe.push('\\');
                safe.push(character);
            }
            other => safe.push(other),
        }
    }
    safe
}

fn opens_a_picture(rest: &str) -> bool {
    rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || "_+-".contains(c)).starts_with(':')
}

/// A Markdown code span around any text. Not for table cells: see [`cell`].
pub fn code(text: &str, limit: usize) -> String {
    let text = short(text, limit);
    if text.is_empty() {
        return "(empty)".to_owned();
    }
    let fence = "`".repeat(longest_run(&text, '`') + 1);
    let space = if text.starts_with('`') || text.ends_with('`') { " " } else { "" };
    format!("{fence}{space}{text}{space}{fence}")
}

/// Code for a table cell, where a `|` ends even a code span: HTML.
pub fn cell(text: &str, limit: usize) -> String {
    format!("<code>{}</code>", html(text, limit))
}

/// One line for an HTML element inside Markdown: all markup of both as character references.
pub fn html(text: &str, limit: usize) -> String {
    let text = short(text, limit);
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '@' => safe.push_str("@<!-- -->"),
            '"' | '\'' | '`' | '*' | '_' | '[' | ']' | '{' | '}' | '\\' | '|' | '~' | '#' | '$' | '!' => {
                let _ = write!(safe, "&#{};", u32::from(character));
            }
            other => safe.push(other),
        }
    }
    // The two ways to become a link.
    safe.replace("://", "&#58;//").replace("www.", "www&#46;")
}

/// A fenced Markdown block around any text.
pub fn fenced(language: &str, text: &str, limit: usize) -> String {
    let text = bounded(&block(text), limit);
    let fence = "`".repeat((longest_run(&text, '`') + 1).max(3));
    format!("{fence}{language}\n{}\n{fence}\n", text.trim_end())
}

fn longest_run(text: &str, wanted: char) -> usize {
    let (mut longest, mut current) = (0, 0);
    for character in text.chars() {
        current = if character == wanted { current + 1 } else { 0 };
        longest = longest.max(current);
    }
    longest
}

/// `1204` as `1,204`.
pub fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 step`, `1,204 processes`.
pub fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// The length of a slice, for [`counted`].
pub fn len<T>(items: &[T]) -> u64 {
    u64::try_from(items.len()).unwrap_or(u64::MAX)
}

/// How long, for people: `0.4 s`, `12.3 s`, `4 min 10 s`.
pub fn duration(from: Timestamp, to: Timestamp) -> String {
    let tenths = to.0.saturating_sub(from.0) / 100_000_000;
    if tenths < 600 {
        format!("{}.{} s", tenths / 10, tenths % 10)
    } else {
        format!("{} min {} s", count(tenths / 600), tenths % 600 / 10)
    }
}

/// The last part of a program's path: `/usr/bin/node` is `node`.
pub fn program(process: &ProcessView) -> String {
    short(&process.name, 60)
}

/// What was run, on one line, as one would type it.
pub fn command_line(process: &ProcessView, limit: usize) -> String {
    let mut typed = String::new();
    for argument in &process.arguments {
        if !typed.is_empty() {
            typed.push(' ');
        }
        let is_plain = !argument.is_empty()
            && argument.chars().all(|c| c.is_alphanumeric() || "-_./:=@,+%^~".contains(c));
        if is_plain {
            typed.push_str(argument);
        } else {
            let _ = write!(typed, "'{}'", argument.replace('\'', "'\\''"));
        }
        if typed.len() > limit * 4 {
            break;
        }
    }
    if typed.is_empty() {
        typed.push_str(&process.executable);
    }
    short(&typed, limit)
}

/// Ancestors first: `npm › sh › node › curl`. A very long chain keeps its ends.
pub fn chain(
    process: &ProcessView,
    ancestry: &[ProcessView],
    show: impl Fn(&ProcessView) -> String,
) -> String {
    const FIRST: usize = 3;
    const LAST: usize = 6;
    let all: Vec<&ProcessView> = ancestry.iter().rev().chain([process]).collect();
    let names = |part: &[&ProcessView]| part.iter().map(|view| show(view)).collect::<Vec<_>>().join(" › ");
    if all.len() <= FIRST + LAST + 1 {
        return names(&all);
    }
    let left_out = all.len() - FIRST - LAST;
    format!("{} › … {left_out} more … › {}", names(&all[..FIRST]), names(&all[all.len() - LAST..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strips_what_moves_a_terminal() {
        assert_eq!(line("a\u{1b}[31mred\u{1b}[0m"), "ared");
        assert_eq!(line("a\u{1b}]0;title\u{7}b"), "ab");
        assert_eq!(line("a\u{1b}]8;;https://x.example\u{1b}\\b"), "ab");
        assert_eq!(line("a\u{9b}2Jb\u{0}\u{8}c"), "abc");
        assert_eq!(line("one\r\n::error::two\ttabs"), "one : :error::two tabs");
        assert_eq!(line("safe\u{202e}gpj.exe"), "safegpj.exe");
        assert_eq!(block("a:\r\n  - b\u{1b}]unfinished\n  - c"), "a:\n  - b\n  - c");
    }

    #[test]
    fn gives_the_ci_system_no_commands() {
        assert_eq!(without_commands("  ::error::x"), "  : :error::x");
        assert_eq!(without_commands("a ##[group]b"), "a # #[group]b");
        assert_eq!(without_commands("to [2001:db8::7]:443"), "to [2001:db8::7]:443");
    }

    #[test]
    fn cuts_by_characters() {
        assert_eq!(bounded("äöü", 3), "äöü");
        assert_eq!(bounded("äöüß", 3), "äö…");
    }

    #[test]
    fn shows_markdown_as_it_was_written() {
        assert_eq!(
            markdown("*a* _b_ [c](d) <e> | `f`", 99),
            "\\*a\\* \\_b\\_ \\[c\\](d) &lt;e&gt; \\| \\`f\\`"
        );
        assert_eq!(markdown("see https://x.example @team", 99), "see https\\://x.example @<!-- -->team");
        assert_eq!(markdown("1. item", 99), "1\\. item");
        assert_eq!(markdown("- item", 99), "\\- item");
        assert_eq!(markdown("to a.example:443", 99), "to a.example:443");
        assert_eq!(markdown("a :tada: b", 99), "a \\:tada: b");
        assert_eq!(markdown("read ~/.aws: done", 99), "read \\~/.aws: done");
    }

    #[test]
    fn code_spans_hold_backticks() {
        assert_eq!(code("a`b", 99), "``a`b``");
        assert_eq!(code("`a", 99), "`` `a ``");
        assert_eq!(code("", 99), "(empty)");
        assert_eq!(fenced("yaml", "a\n```\nb", 99), "````yaml\na\n```\nb\n````\n");
    }

    #[test]
    fn cells_hold_pipes() {
        assert_eq!(cell("a|b\\|<i>", 99), "<code>a&#124;b&#92;&#124;&lt;i&gt;</code>");
    }

    #[test]
    fn counts_are_grouped() {
        assert_eq!(
            ["0", "999", "1,000", "1,234,567"].map(String::from),
            [0, 999, 1000, 1_234_567].map(count)
        );
        assert_eq!(counted(1, "step", "steps"), "1 step");
        assert_eq!(duration(Timestamp(0), Timestamp(12_340_000_000)), "12.3 s");
        assert_eq!(duration(Timestamp(0), Timestamp(250_000_000_000)), "4 min 10 s");
    }
}
