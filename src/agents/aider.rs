//! aider: a Python program, as a script of its environment or as a module.
//!
//! It has no tool calls. Its record is `.aider.chat.history.md` in the work tree, Markdown for people: the
//! command line of the session, what it runs (`> Running make test`) and which files it changed
//! (`> Applied edit to src/a.py`), without times or ids. A call's id is made of the session and a number.
//! A command runs as `/bin/sh -c COMMAND`.

use super::{Agent, Entry, Form, Marks, Place, Reader, Record, settings};
use crate::intent::{AgentSession, ToolCall, basename};

pub(super) const AGENT: Agent = Agent {
    id: "aider",
    title: "aider",
    programs: &["/**/bin/aider", "/**/site-packages/aider/__main__.py"],
    modules: &["aider", "aider.main"],
    hosts: &[],
    keeps: &[],
    logins: &["~/.aider/oauth-keys.env"],
    marks: Marks::NONE,
    settings: &settings::AIDER,
    record: Some(&Record {
        places: &[Place { files: "./.aider.chat.history.md", form: Form::Lines }],
        reader: |_| Box::<History>::default(),
        command,
        tools: &[],
        is_own: |_| false,
        relays: &[],
        is_tried: false,
    }),
};

#[derive(Debug, Default)]
struct History {
    session: AgentSession,
    count: u64,
}

impl Reader for History {
    fn read(&mut self, piece: &str) -> Vec<Entry> {
        let line = piece.trim_end();
        if let Some(started) = line.strip_prefix("# aider chat started at ") {
            self.session = AgentSession { session: started.replace(' ', "T"), ..AgentSession::default() };
            self.count = 0;
            return vec![Entry::Session(self.session.clone())];
        }
        // What the model wrote stands without a mark, so it can't look like what aider did.
        let Some(told) = line.strip_prefix("> ") else { return Vec::new() };
        if let Some(version) = told.strip_prefix("Aider v") {
            self.session.version = Some(version.to_owned());
            return vec![Entry::Session(self.session.clone())];
        }
        if let Some(words) = own_arguments(told) {
            let mut entries = Vec::new();
            if words.split(' ').any(|word| matches!(word, "--yes" | "--yes-always")) {
                self.session.mode = Some("--yes-always".to_owned());
                self.session.unasked = true;
                entries.push(Entry::Session(self.session.clone()));
            }
            for option in ["--test-cmd ", "--lint-cmd "] {
                if let Some(command) = value(words, option) {
                    entries.push(self.call("test", vec![command.to_owned()], Vec::new()));
                }
            }
            return entries;
        }
        if let Some(command) = told.strip_prefix("Running ") {
            return vec![self.call("run", vec![command.to_owned()], Vec::new())];
        }
        match told.strip_prefix("Applied edit to ") {
            Some(file) => vec![self.call("edit", Vec::new(), vec![file.to_owned()])],
            None => Vec::new(),
        }
    }
}

impl History {
    fn call(&mut self, tool: &str, commands: Vec<String>, names: Vec<String>) -> Entry {
        self.count += 1;
        Entry::Call(ToolCall {
            session: self.session.session.clone(),
            call: format!("{}#{}", self.session.session, self.count),
            tool: tool.to_owned(),
            commands,
            writes: !names.is_empty(),
            names,
            ..ToolCall::default()
        })
    }
}

/// The words behind the program, on the line that shows how aider was started.
fn own_arguments(told: &str) -> Option<&str> {
    let (program, words) = told.split_once(' ')?;
    (program.starts_with('/') && (basename(program) == "aider" || program.ends_with("/aider/__main__.py")))
        .then_some(words)
}

/// The value of an option in a line without quotes: up to the next option.
fn value<'a>(words: &'a str, option: &str) -> Option<&'a str> {
    let (_, rest) = words.split_once(option)?;
    Some(rest.split_once(" --").map_or(rest, |(value, _)| value).trim())
}

fn command(words: &[String]) -> Option<String> {
    match words {
        [shell, option, text] if shell == "/bin/sh" && option == "-c" => Some(text.clone()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Told, told, words};
    use super::*;

    #[test]
    fn reads_what_it_ran_and_changed() {
        let told = told(
            &AGENT,
            &[
                "# aider chat started at 2026-11-22 19:36:25",
                "",
                "> /opt/venv/bin/aider --model m --yes-always --auto-test --test-cmd make test --message Fix it.  ",
                "> Aider v0.86.2  ",
                "#### Fix it.  ",
                "> Applied edit to src/calc.py  ",
                "> Running make lint  ",
                "Running rm -rf /",
            ],
        );
        assert_eq!(
            told.calls,
            [
                "2026-11-22T19:36:25 2026-11-22T19:36:25#1 test `make test` []",
                "2026-11-22T19:36:25 2026-11-22T19:36:25#2 edit [src/calc.py]",
                "2026-11-22T19:36:25 2026-11-22T19:36:25#3 run `make lint` []",
            ]
        );
        assert_eq!(told.sessions.last().unwrap(), "2026-11-22T19:36:25 0.86.2 --yes-always!");
    }

    #[test]
    fn what_the_model_wrote_is_no_call() {
        for line in ["Running make", "    > Running make", "```bash", "", "\u{0}"] {
            assert_eq!(told(&AGENT, &[line]), Told::default(), "{line}");
        }
    }

    #[test]
    fn knows_its_shell() {
        assert_eq!(command(&words(&["/bin/sh", "-c", "make test"])).as_deref(), Some("make test"));
        assert_eq!(command(&words(&["git", "commit"])), None);
    }
}
