//! Claude Code's action: the tools it may use without asking; in a job nobody is there to be asked.

use super::{Asked, Scope, Source, Tools, UNKNOWN, input, words};
use crate::intent::workflow::WorkflowStep;
use crate::job::Location;

pub(super) const SOURCE: Source = Source { action: Some("anthropics/claude-code-action"), read };

/// What the agent starts for itself.
pub(super) const OWN: [&str; 5] = ["bun", "claude", "git", "node", "rg"];

/// Groups of hosts that it needs itself.
pub(super) const HOME: [&str; 2] = ["claude", "github"];

const EDITORS: [&str; 4] = ["Edit", "Write", "MultiEdit", "NotebookEdit"];

fn read(asked: &mut Asked, _: &str, step: &WorkflowStep, origin: &Location) {
    let (arguments, settings) = (input(step, "claude_args"), input(step, "settings"));
    let mut tools = listed(&arguments);
    // The older major's own input.
    tools.extend(split(&input(step, "allowed_tools")));
    let mut is_open =
        [&arguments, &settings, &input(step, "allowed_tools")].iter().any(|text| text.contains(UNKNOWN));
    match serde_json::from_str::<serde_json::Value>(&settings) {
        Ok(settings) => {
            let allowed = settings.pointer("/permissions/allow").and_then(|list| list.as_array());
            tools.extend(allowed.into_iter().flatten().filter_map(|tool| Some(tool.as_str()?.to_owned())));
        }
        // A path: the file is not at hand.
        Err(_) => is_open |= !settings.trim().is_empty(),
    }
    let is_empty = tools.is_empty();
    let block = asked.block("claude-code", Scope::Agent("claude-code"), origin);
    if is_open {
        asked.warn(
            origin,
            "a part of its settings is known at run time alone (`${{ }}`, or a file), so nothing is restricted",
        );
    } else if is_empty {
        block.remarks.push("names no tools, so nothing is declared".to_owned());
    } else {
        understood(&tools).enter(block, &OWN, &HOME);
    }
}

/// Claude Code's words for its tools: `Bash(npm run test:*)`, `Edit`, `WebFetch(domain:docs.example)`.
fn understood(tools: &[String]) -> Tools {
    let name = |tool: &str| tool.split('(').next().unwrap_or_default().to_owned();
    let first = |tool: &String| {
        let inside = tool.strip_prefix("Bash(")?;
        inside.split([' ', ':', ')']).next().map(ToOwned::to_owned)
    };
    Tools {
        commands: tools.iter().filter(|tool| name(tool) == "Bash").map(first).collect(),
        is_writing: tools.iter().any(|tool| EDITORS.contains(&name(tool).as_str())),
        fetched: tools
            .iter()
            .filter(|tool| name(tool) == "WebFetch")
            .map(|tool| Some(tool.strip_prefix("WebFetch(domain:")?.strip_suffix(')')?.to_owned()))
            .collect(),
    }
}

/// The tools behind `--allowedTools`.
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
        if is_list {
            tools.extend(split(&text));
        }
    }
    tools
}

/// Words that commas or blanks divide, but not inside brackets.
fn split(text: &str) -> Vec<String> {
    let (mut tools, mut depth, mut tool) = (Vec::new(), 0_u32, String::new());
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
    tools
}
