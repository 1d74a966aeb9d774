//! opencode: one binary, in the npm package, beside it, or from its own installer.

use super::Agent;

pub(super) const AGENT: Agent = Agent {
    id: "opencode",
    title: "opencode",
    programs: &[
        "/**/node_modules/opencode-ai/bin/opencode*",
        "/**/node_modules/opencode-*/bin/opencode",
        "/**/.opencode/bin/opencode",
    ],
    modules: &[],
    hosts: &["opencode.ai", "api.opencode.ai", "models.dev"],
    keeps: &[],
    marks: super::Marks::NONE,
    record: None,
};
