//! Crush: a binary of its npm package or of a distribution's. Its record is not read.

use super::{Agent, Marks, settings};

pub(super) const AGENT: Agent = Agent {
    id: "crush",
    title: "Crush",
    programs: &[
        "/**/@charmland/crush/bin/crush",
        "/**/@charmland/crush*/crush",
        "/usr/{bin,local/bin}/crush",
    ],
    modules: &[],
    hosts: &["catwalk.charm.sh", "data.charm.land"],
    keeps: &["~/.local/share/crush/**"],
    logins: &[],
    marks: Marks::NONE,
    settings: &settings::NONE,
    record: None,
};
