//! Codex: a launcher in the npm package that runs a static binary; the binary alone from a release.

use super::Agent;

pub(super) const AGENT: Agent = Agent {
    id: "codex",
    title: "Codex",
    programs: &[
        "/**/@openai/codex/bin/codex.js",
        "/**/@openai/codex-*/vendor/*/bin/codex",
        "/**/@openai/codex/vendor/*/codex/codex",
        "/**/codex-{x86_64,aarch64}-unknown-linux-{musl,gnu}",
    ],
    modules: &[],
    hosts: &[
        "api.openai.com",
        "chatgpt.com",
        "*.chatgpt.com",
        "auth.openai.com",
        "github.com",
        "api.github.com",
    ],
    keeps: &[],
    marks: super::Marks::NONE,
    record: None,
};
