//! aider: `.aider.conf.yml` of the user and the project, of which single lines count; options.

use super::{Form, Found, Settings, Source};
use crate::event::{Level, Permission};

pub const SETTINGS: Settings = Settings {
    sources: &[
        Source { level: Level::Project, file: "./.aider.conf.yml", form: Form::Lines(settings) },
        Source { level: Level::Project, file: "./CONVENTIONS.md", form: Form::Instructions },
        Source { level: Level::User, file: "~/.aider.conf.yml", form: Form::Lines(settings) },
    ],
    moved_by: &[],
    flags: |_, _| {},
    is_last_holding: false,
};

fn settings(found: &mut Found<'_>, text: &str) {
    for (number, line) in (1..).zip(text.lines()) {
        // A key at the left edge; what is nested is no setting that we look for.
        let Some((key, value)) = line.split_once(':') else { continue };
        let value = value.split(" #").next().unwrap_or(value).trim().trim_matches(['"', '\'']);
        match key {
            "yes-always" if value.eq_ignore_ascii_case("true") => found.mode(number, key, true),
            "test-cmd" | "lint-cmd" if !value.is_empty() => {
                found.put(
                    number,
                    Permission::Hook { event: key.to_owned(), command: super::short(value), own: false },
                );
            }
            _ if super::is_secret_value(value)
                || (super::is_secret_name(key) && super::is_literal(value)) =>
            {
                found.put(number, Permission::Secret { key: super::short(key) });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{flags, told_of};
    use super::SETTINGS;

    #[test]
    fn lines_are_told() {
        let text = "model: x\nyes-always: true # fast\ntest-cmd: make test\nopenai-api-key: not-a-real-one\n  yes-always: true\n";
        assert_eq!(
            told_of(&SETTINGS, "./.aider.conf.yml", text),
            ["2 mode yes-always!", "3 hook test-cmd: make test", "4 secret openai-api-key"]
        );
        assert_eq!(flags(&SETTINGS, "aider|--yes-always"), ["0 mode --yes-always!"]);
    }
}
