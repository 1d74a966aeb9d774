//! Droid: a binary of the vendor's installer. Its record is not read.

use super::{Agent, Marks};

pub(super) const AGENT: Agent = Agent {
    id: "droid",
    title: "Droid",
    programs: &["/**/.local/bin/droid", "/**/.factory/bin/droid", "/**/@factory/cli*/**/droid"],
    modules: &[],
    hosts: &["*.factory.ai"],
    keeps: &["~/.factory/**"],
    marks: Marks::NONE,
    record: None,
};
