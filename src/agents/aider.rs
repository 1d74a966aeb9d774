//! aider: a Python program, as a script of its environment or as a module.

use super::Agent;

pub(super) const AGENT: Agent = Agent {
    id: "aider",
    title: "aider",
    programs: &["/**/bin/aider", "/**/site-packages/aider/__main__.py"],
    modules: &["aider", "aider.main"],
    hosts: &[],
    keeps: &[],
    marks: super::Marks::NONE,
    record: None,
};
