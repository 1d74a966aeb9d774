//! Amazon Q and Kiro at the command line: a binary of the vendor's installer or package. Its record is not read.

use super::{Agent, Marks, settings};

pub(super) const AGENT: Agent = Agent {
    id: "amazon-q",
    title: "Amazon Q",
    programs: &[
        "/**/.local/bin/{q,qchat,qterm,kiro-cli,kiro-cli-chat,kiro-cli-term}",
        "/usr/{bin,local/bin}/{qchat,qterm,kiro-cli,kiro-cli-chat}",
        "/usr/bin/q",
    ],
    modules: &[],
    hosts: &["q.us-east-1.amazonaws.com", "*.kiro.dev"],
    keeps: &["~/.aws/amazonq/**", "~/.local/share/amazon-q/**"],
    logins: &[],
    marks: Marks::NONE,
    settings: &settings::NONE,
    record: None,
};
