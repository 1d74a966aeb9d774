//! Gemini CLI: a script of its npm package, which starts itself again in a second node.

use super::Agent;

pub(super) const AGENT: Agent = Agent {
    id: "gemini",
    title: "Gemini CLI",
    programs: &["/**/@google/gemini-cli/bundle/gemini.js", "/**/@google/gemini-cli/dist/index.js"],
    modules: &[],
    hosts: &[
        "generativelanguage.googleapis.com",
        "cloudcode-pa.googleapis.com",
        "play.googleapis.com",
        "oauth2.googleapis.com",
    ],
    keeps: &[],
    marks: super::Marks::NONE,
    record: None,
};
