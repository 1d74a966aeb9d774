//! Coding agents: how each is known when it starts.
//!
//! One file per agent. A signature is about files, not names alone: the folder of the vendor's package,
//! the place of the vendor's installer. Whoever copies an agent's path labels itself with that agent,
//! and gains nothing: a label adds the policy's `agents:` lists to those of the step.

mod aider;
mod claude_code;
mod cline;
mod codex;
mod copilot;
mod cursor;
mod gemini;
mod openclaw;
mod opencode;
mod qwen;

use std::sync::LazyLock;

use globset::{Glob, GlobSet, GlobSetBuilder};

use crate::event::{Launch, normal_path};

/// One coding agent.
#[derive(Debug)]
pub struct Agent {
    /// As policies and reports name it: `claude-code`.
    pub id: &'static str,
    /// As people call it.
    pub title: &'static str,
    /// Absolute globs of its programs: executables, `#!` files, and scripts that an interpreter runs.
    pub programs: &'static [&'static str],
    /// Python modules it is run as (`python -m`).
    pub modules: &'static [&'static str],
}

/// Every agent, by id.
pub const ALL: &[&Agent] = &[
    &aider::AGENT,
    &claude_code::AGENT,
    &cline::AGENT,
    &codex::AGENT,
    &copilot::AGENT,
    &cursor::AGENT,
    &gemini::AGENT,
    &openclaw::AGENT,
    &opencode::AGENT,
    &qwen::AGENT,
];

static PROGRAMS: LazyLock<(GlobSet, Vec<usize>)> = LazyLock::new(|| {
    let mut set = GlobSetBuilder::new();
    let mut owners = Vec::new();
    for (index, agent) in ALL.iter().enumerate() {
        for program in agent.programs {
            set.add(Glob::new(program).unwrap_or_else(|error| panic!("{}: {error}", agent.id)));
            owners.push(index);
        }
    }
    (set.build().unwrap_or_else(|error| panic!("{error}")), owners)
});

/// The agent that this launch starts. `script` is the real path of its `#!` file, when it was looked up.
pub fn recognise(launch: &Launch, script: Option<&str>) -> Option<&'static Agent> {
    let by_path = |path: &str| {
        let (set, owners) = &*PROGRAMS;
        set.matches(path).first().map(|index| ALL[owners[*index]])
    };
    let executable = launch.executable.path.as_str();
    let named = launch.script.as_ref().map(|script| script.path.as_str());
    [Some(executable), script, named].into_iter().flatten().find_map(by_path).or_else(|| {
        // `node …/cli.js`, `python -m aider`: what the interpreter runs.
        let name = executable.rsplit('/').next().unwrap_or(executable);
        if !["node", "bun", "deno", "python", "pypy"].iter().any(|interpreter| name.starts_with(interpreter))
        {
            return None;
        }
        let words = launch.arguments.get(1..).unwrap_or_default();
        let at = words.iter().position(|word| word == "-m" || !word.starts_with('-'))?;
        if words[at] == "-m" {
            let module = words.get(at + 1)?;
            return ALL.iter().copied().find(|agent| agent.modules.contains(&module.as_str()));
        }
        by_path(&normal_path(&format!(
            "{}/{}",
            if words[at].starts_with('/') { "" } else { &launch.directory },
            words[at]
        )))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::File;

    fn agent(executable: &str, script: Option<&str>, arguments: &str) -> Option<&'static str> {
        let launch = Launch {
            executable: File::at(executable),
            arguments: arguments.split(' ').map(str::to_owned).collect(),
            directory: "/w".into(),
            ..Launch::default()
        };
        recognise(&launch, script).map(|agent| agent.id)
    }

    #[test]
    fn every_agent_has_its_file_and_its_place_in_the_list() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/agents");
        let mut files: Vec<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "mod.rs")
            .map(|name| name.trim_end_matches(".rs").replace('_', "-"))
            .collect();
        files.sort();
        let ids: Vec<&str> = ALL.iter().map(|agent| agent.id).collect();
        assert_eq!(files, ids);
    }

    #[test]
    fn knows_an_agent_by_where_it_lies() {
        let modules = "/opt/agents/node_modules";
        for (executable, script, arguments, wanted) in [
            (
                format!("{modules}/@anthropic-ai/claude-code/bin/claude.exe"),
                None,
                "claude -p x",
                "claude-code",
            ),
            ("/home/r/.local/share/claude/versions/2.1.330".to_owned(), None, "claude", "claude-code"),
            (
                "/usr/bin/env".to_owned(),
                Some(format!("{modules}/@openai/codex/bin/codex.js")),
                "env node codex",
                "codex",
            ),
            (
                format!("{modules}/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"),
                None,
                "codex",
                "codex",
            ),
            (
                "/usr/bin/node".to_owned(),
                None,
                "node --no-warnings /opt/agents/node_modules/@google/gemini-cli/bundle/gemini.js",
                "gemini",
            ),
            ("/usr/bin/node".to_owned(), None, "node node_modules/@qwen-code/qwen-code/cli-entry.js", "qwen"),
            (format!("{modules}/@github/copilot-linux-x64/copilot"), None, "copilot", "copilot"),
            (format!("{modules}/opencode-linux-x64/bin/opencode"), None, "opencode run", "opencode"),
            (format!("{modules}/@cline/cli-linux-x64/bin/cline"), None, "cline", "cline"),
            ("/usr/bin/python3.11".to_owned(), None, "python3 -m aider --message x", "aider"),
            (
                "/usr/bin/python3.11".to_owned(),
                Some("/w/.venv/bin/aider".to_owned()),
                "python /w/.venv/bin/aider",
                "aider",
            ),
        ] {
            assert_eq!(
                agent(&executable, script.as_deref(), arguments),
                Some(wanted),
                "{executable} {arguments}"
            );
        }
    }

    #[test]
    fn a_name_alone_is_no_agent() {
        for (executable, arguments) in [
            ("/usr/bin/node", "node /w/codex/test.js"),
            ("/usr/bin/git", "git clone claude-code"),
            ("/w/claude", "claude"),
            ("/usr/bin/node", "node /usr/lib/node_modules/npm/bin/npm-cli.js install @openai/codex"),
            ("/usr/bin/python3", "python3 -m pytest aider"),
            // Tools that an agent brings along are its tools, not agents.
            (
                "/n/node_modules/@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/codex-path/rg",
                "rg x",
            ),
        ] {
            assert_eq!(agent(executable, None, arguments), None, "{executable} {arguments}");
        }
    }
}
