//! Qwen Code: a script of its npm package, which starts itself again.

use super::Agent;

pub(super) const AGENT: Agent = Agent {
    id: "qwen",
    title: "Qwen Code",
    programs: &[
        "/**/@qwen-code/qwen-code/cli-entry.js",
        "/**/@qwen-code/qwen-code/cli.js",
        "/**/@qwen-code/qwen-code/dist/{cli,index}.js",
    ],
    modules: &[],
    hosts: &["chat.qwen.ai", "dashscope.aliyuncs.com"],
    keeps: &[],
    marks: super::Marks::NONE,
    record: None,
};
