//! `OpenClaw`: a script of its npm package.

use super::Agent;

pub(super) const AGENT: Agent = Agent {
    id: "openclaw",
    title: "OpenClaw",
    programs: &["/**/node_modules/openclaw/openclaw.mjs", "/**/node_modules/openclaw/dist/{index,entry}.*js"],
    modules: &[],
    hosts: &[],
    keeps: &[],
    marks: super::Marks::NONE,
    record: None,
};
