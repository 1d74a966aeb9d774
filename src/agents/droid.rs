//! Droid: a binary of the vendor's installer. Its record is not read.

use super::{Agent, Marks, settings};

pub(super) const AGENT: Agent = Agent {
    id: "droid",
    title: "Droid",
    programs: &["/**/.local/bin/droid", "/**/.factory/bin/droid", "/**/@factory/cli*/**/droid"],
    modules: &[],
    hosts: &["*.factory.ai"],
    keeps: &["~/.factory/**"],
    logins: &[],
    marks: Marks::NONE,
    settings: &settings::NONE,
    record: None,
};
