//! goose: a binary of the vendor's installer. Its record is not read.

use super::{Agent, Marks, settings};

pub(super) const AGENT: Agent = Agent {
    id: "goose",
    title: "goose",
    programs: &["/**/.local/bin/goose", "/**/.local/bin/goosed"],
    modules: &[],
    hosts: &[],
    keeps: &["~/.config/goose/**", "~/.local/share/goose/**"],
    logins: &[],
    marks: Marks::NONE,
    settings: &settings::NONE,
    record: None,
};
