//! Qwen Code: the settings of Gemini CLI, in places of its own.

use super::{Form, Settings, Source, gemini};
use crate::event::Level;

pub const SETTINGS: Settings = Settings {
    sources: &[
        Source {
            level: Level::Managed,
            file: "/etc/qwen-code/settings.json",
            form: Form::Json(gemini::settings),
        },
        Source { level: Level::Project, file: "./.qwen/settings.json", form: Form::Json(gemini::settings) },
        Source { level: Level::Project, file: "./QWEN.md", form: Form::Instructions },
        Source { level: Level::User, file: "~/.qwen/settings.json", form: Form::Json(gemini::settings) },
        Source { level: Level::User, file: "~/.qwen/QWEN.md", form: Form::Instructions },
    ],
    moved_by: &[],
    flags: gemini::flags,
    is_last_holding: false,
};

#[cfg(test)]
mod tests {
    use super::super::tests::told_of;
    use super::SETTINGS;

    #[test]
    fn settings_are_told_with_their_lines() {
        let text =
            "{\"tools\": {\"approvalMode\": \"yolo\"},\n\"permissions\": {\"deny\": [\"Bash(curl *)\"]}}";
        let told = told_of(&SETTINGS, "~/.qwen/settings.json", text);
        assert_eq!(told, ["1 mode yolo!", "2 deny Bash(curl *) = command:curl *"]);
    }
}
