//! Cline: a launcher in the npm package, and one binary per platform.

use super::Agent;

pub(super) const AGENT: Agent = Agent {
    id: "cline",
    title: "Cline",
    programs: &["/**/node_modules/cline/bin/{,.}cline", "/**/@cline/cli-*/bin/cline"],
    modules: &[],
    hosts: &["api.cline.bot"],
    keeps: &[],
    marks: super::Marks::NONE,
    record: None,
};
