//! Gemini CLI's action: the core tools that its settings leave it.

use super::{Asked, Scope, Source, Tools, UNKNOWN, input};
use crate::intent::workflow::WorkflowStep;
use crate::job::Location;

pub(super) const SOURCE: Source = Source { action: Some("google-github-actions/run-gemini-cli"), read };

/// What the agent starts for itself; docker and npx bring its MCP servers.
pub(super) const OWN: [&str; 6] = ["docker", "gemini", "git", "node", "npx", "rg"];

/// The shell, and the names it goes by in settings.
const SHELL: [&str; 2] = ["run_shell_command", "ShellTool"];

const EDITORS: [&str; 4] = ["write_file", "replace", "WriteFileTool", "EditTool"];

fn read(asked: &mut Asked, _: &str, step: &WorkflowStep, origin: &Location) {
    let text = input(step, "settings");
    let settings = serde_json::from_str::<serde_json::Value>(&text);
    let block = asked.block("gemini", Scope::Agent("gemini"), origin);
    if text.trim().is_empty() {
        block.remarks.push("has no settings, so nothing is declared".to_owned());
        return;
    }
    let Ok(settings) = settings else {
        let why = if text.contains(UNKNOWN) {
            "its settings are known at run time alone (`${{ }}`), so nothing is restricted"
        } else {
            "its settings are no JSON, so nothing is restricted"
        };
        return asked.warn(origin, why);
    };
    // The older settings have it at the top.
    let core = ["/tools/core", "/coreTools"].iter().find_map(|place| settings.pointer(place)?.as_array());
    let Some(core) = core else {
        block.remarks.push("names no core tools, so nothing is declared".to_owned());
        return;
    };
    let tools: Vec<&str> = core.iter().filter_map(serde_json::Value::as_str).collect();
    if tools.iter().any(|tool| tool.contains(UNKNOWN)) {
        return asked.warn(origin, "a tool is known at run time alone (`${{ }}`), so nothing is restricted");
    }
    let parts = |tool: &str| {
        let (name, inside) = tool.split_once('(').unwrap_or((tool, ""));
        (name.to_owned(), inside.trim_end_matches(')').to_owned())
    };
    let mut understood = Tools::default();
    for (name, inside) in tools.into_iter().map(parts) {
        if SHELL.contains(&name.as_str()) {
            let first = inside.split_whitespace().next().map(ToOwned::to_owned);
            understood.commands.push(first);
        }
        understood.is_writing |= EDITORS.contains(&name.as_str());
        // It fetches from wherever the prompt says.
        if ["web_fetch", "google_web_search"].contains(&name.as_str()) {
            understood.fetched.push(None);
        }
    }
    // Its own service has no group of ours, so hosts are left open.
    understood.fetched.push(None);
    understood.enter(block, &OWN, &[]);
}
