//! What one source says that a coding agent may do: permissions, hooks, tool servers. Never a secret itself.

use serde::{Deserialize, Serialize};

use super::ProcessKey;

/// What a settings file or a command line says that a coding agent may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgentSettings {
    /// `claude-code`
    pub agent: String,
    /// The agent's process that it was read for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<ProcessKey>,
    pub level: Level,
    /// Absolute path; empty for a command line.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Setting>,
    /// Why it could not be read, or not whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// Who sets it; the first beats those behind it where two disagree.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// Whoever manages the machine.
    Managed,
    CommandLine,
    /// The user, for this project alone.
    Local,
    /// The repository.
    Project,
    User,
    /// The repository's file as it stands where the change under review goes to. It holds for nobody.
    Reviewed,
}

impl Level {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Managed => "managed",
            Self::CommandLine => "command line",
            Self::Local => "local",
            Self::Project => "project",
            Self::User => "user",
            Self::Reviewed => "reviewed",
        }
    }

    /// Whether it comes with the repository, so that a change under review can bring it.
    pub fn is_repository(self) -> bool {
        matches!(self, Self::Local | Self::Project)
    }
}

/// One thing that a source says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Setting {
    /// From 1; 0 where there are no lines.
    #[serde(default, skip_serializing_if = "is_none")]
    pub line: u32,
    #[serde(flatten)]
    pub what: Permission,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands over references")]
fn is_none(line: &u32) -> bool {
    *line == 0
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "setting", rename_all = "kebab-case")]
pub enum Permission {
    /// How it asks before it acts, in the agent's own word.
    Mode {
        text: String,
        /// It acts without asking.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unasked: bool,
    },
    /// Not asked about; `text` is as it is written.
    Allow {
        text: String,
        scope: Scope,
    },
    Ask {
        text: String,
        scope: Scope,
    },
    Deny {
        text: String,
        scope: Scope,
    },
    /// A program that the agent starts by itself when this happens.
    Hook {
        event: String,
        command: String,
        /// The guard's own, which a session put there for itself.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        own: bool,
    },
    /// A tool server, and the program or address behind it.
    Server {
        name: String,
        start: String,
    },
    /// This key holds a secret. What it holds is not kept.
    Secret {
        key: String,
    },
    /// The file tells the agent how to behave.
    Instructions,
}

/// What a permission is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// Everything.
    Any,
    /// Commands of its shell: `*` stands for anything, and ` *` at the end for any further words or none.
    Command(String),
    /// Files, as absolute globs.
    Read(String),
    Write(String),
    /// A name; `*.x.example` for all below.
    Host(String),
    /// A tool server, by name.
    Server(String),
    /// A tool that reaches none of these, or one we do not know.
    Other,
}
