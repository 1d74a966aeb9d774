//! Cursor's command-line agent, from its own installer. Written from its documentation: it can't be had from a registry.

use super::Agent;

pub(super) const AGENT: Agent = Agent {
    id: "cursor",
    title: "Cursor CLI",
    programs: &[
        "/**/.local/share/cursor-agent/versions/*/cursor-agent",
        "/**/.local/share/cursor-agent/versions/*/index.js",
    ],
    modules: &[],
    hosts: &["*.cursor.sh", "cursor.com", "*.cursor.com"],
    keeps: &[],
    marks: super::Marks::NONE,
    record: None,
};
