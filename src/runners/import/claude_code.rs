//! Claude Code's action: the tools it may use without asking; in a job nobody is there to be asked.

use super::{Draft, Source, UNKNOWN, is_valid, without_expressions};
use crate::intent::workflow::WorkflowStep;

pub(super) const SOURCE: Source = Source { action: "anthropics/claude-code-action", read };

/// What the agent starts for itself.
const OWN: [&str; 5] = ["bun", "claude", "git", "node", "rg"];

fn read(draft: &mut Draft, _: &str, step: &WorkflowStep, origin: &str) {
    let input = |name: &str| step.with.get(name).map(|text| without_expressions(text)).unwrap_or_default();
    let (arguments, settings) = (input("claude_args"), input("settings"));
    let mut tools = listed(&arguments);
    let mut is_open = arguments.contains(UNKNOWN) || settings.contains(UNKNOWN);
    match serde_json::from_str::<serde_json::Value>(&settings) {
        Ok(settings) => {
            let allowed = settings.pointer("/permissions/allow").and_then(|list| list.as_array());
            tools.extend(allowed.into_iter().flatten().filter_map(|tool| Some(tool.as_str()?.to_owned())));
        }
        // A path: the file is not at hand.
        Err(_) => is_open |= !settings.trim().is_empty(),
    }
    let block = draft.agents.entry("claude-code").or_default();
    if is_open {
        draft.warnings.push(format!(
            "{origin}: a part of its settings is known at run time alone (`${{{{ }}}}`, or a file), so nothing is restricted"
        ));
        return;
    }
    if tools.is_empty() {
        block.remarks.push(format!("{origin} names no tools, so nothing is declared"));
        return;
    }
    let is_writing = tools.iter().any(|tool| {
        ["Edit", "Write", "MultiEdit", "NotebookEdit"].contains(&tool.split('(').next().unwrap_or_default())
    });
    let commands: Vec<Option<&str>> = tools
        .iter()
        .filter(|tool| tool.split('(').next() == Some("Bash"))
        .map(|tool| tool.strip_prefix("Bash(").and_then(|text| text.split([' ', ':', ')']).next()))
        .collect();
    // One command that may be anything restricts nothing.
    let names: Option<Vec<&str>> = commands
        .iter()
        .map(|name| name.filter(|name| is_valid("run", "allow", name) && *name != "*"))
        .collect();
    match names {
        Some(names) => {
            for name in names.into_iter().chain(OWN) {
                block.add("run", "allow", name, origin);
            }
        }
        None => block.remarks.push(format!("{origin} allows any command")),
    }
    if commands.is_empty() {
        if !is_writing {
            block.add("files", "deny", "write ./**", origin);
        }
        let fetched =
            tools.iter().filter_map(|tool| tool.strip_prefix("WebFetch(domain:")?.strip_suffix(')'));
        // A fetch without a domain goes anywhere.
        if !tools.iter().any(|tool| tool == "WebFetch") {
            for host in ["claude", "github"].into_iter().chain(fetched) {
                if is_valid("network", "allow", host) {
                    block.add("network", "allow", host, origin);
                } else {
                    draft.warnings.push(format!("{origin}: `{host}` is no host, so it is left out"));
                }
            }
        }
    }
}

/// The tools behind `--allowedTools`: words that commas or blanks divide, but not inside brackets.
fn listed(arguments: &str) -> Vec<String> {
    let (mut tools, mut is_list) = (Vec::new(), false);
    for word in words(arguments) {
        let (word, value) = match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (word, None),
        };
        if word.starts_with("--") {
            is_list = ["--allowedTools", "--allowed-tools"].contains(&word.as_str());
        }
        let text = if word.starts_with("--") { value.unwrap_or_default() } else { word };
        if !is_list {
            continue;
        }
        let (mut depth, mut tool) = (0_u32, String::new());
        for letter in text.chars().chain([',']) {
            match letter {
                '(' => depth += 1,
                ')' => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && (letter == ',' || letter.is_whitespace()) {
                tools.extend((!tool.is_empty()).then(|| std::mem::take(&mut tool)));
            } else {
                tool.push(letter);
            }
        }
    }
    tools
}

/// A command line as a shell divides it. Brackets hold together, as the action itself reads them.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut word, mut quote, mut depth) = (Vec::new(), String::new(), None, 0_u32);
    for letter in text.chars().chain([' ']) {
        match (quote, letter) {
            (Some(open), _) if open == letter => quote = None,
            (None, '"' | '\'') => quote = Some(letter),
            (None, _) if letter.is_whitespace() && depth == 0 => {
                words.extend((!word.is_empty()).then(|| std::mem::take(&mut word)));
            }
            _ => {
                if quote.is_none() {
                    depth = match letter {
                        '(' => depth + 1,
                        ')' => depth.saturating_sub(1),
                        _ => depth,
                    };
                }
                word.push(letter);
            }
        }
    }
    words
}
