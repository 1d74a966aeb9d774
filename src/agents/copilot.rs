//! GitHub Copilot CLI: a loader in the npm package that runs one binary per platform.

use super::Agent;

pub(super) const AGENT: Agent = Agent {
    id: "copilot",
    title: "GitHub Copilot CLI",
    programs: &[
        "/**/@github/copilot/npm-loader.js",
        "/**/@github/copilot/index.js",
        "/**/@github/copilot-*/copilot",
    ],
    modules: &[],
    hosts: &[
        "api.github.com",
        "api.githubcopilot.com",
        "*.githubcopilot.com",
        "copilot-proxy.githubusercontent.com",
        "telemetry.business.githubcopilot.com",
    ],
    keeps: &[],
    marks: super::Marks::NONE,
    record: None,
};
