//! Amp: a script of its npm package, or a binary of its installer. Its record is kept by its service and not read.

use super::{Agent, Marks, settings};

pub(super) const AGENT: Agent = Agent {
    id: "amp",
    title: "Amp",
    programs: &["/**/@sourcegraph/amp/dist/main.js", "/**/@sourcegraph/amp/bin/amp*", "/**/.amp/bin/amp"],
    modules: &[],
    hosts: &["ampcode.com", "*.ampcode.com"],
    keeps: &["~/.config/amp/**"],
    logins: &[],
    marks: Marks::NONE,
    settings: &settings::NONE,
    record: None,
};
