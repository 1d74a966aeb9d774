//! Claude Code: one binary, from the npm package or from its own installer; older versions are a script.

use super::Agent;

pub(super) const AGENT: Agent = Agent {
    id: "claude-code",
    title: "Claude Code",
    programs: &[
        "/**/@anthropic-ai/claude-code/bin/claude*",
        "/**/@anthropic-ai/claude-code/cli.*js",
        "/**/@anthropic-ai/claude-code-*/claude*",
        "/**/.local/share/claude/versions/*",
    ],
    modules: &[],
};
