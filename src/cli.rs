//! The command line: what was typed, as types.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::finding::FailOn;

/// Watches what a CI job does, compares it with what was declared, and fails the job on the difference.
#[derive(Debug, Parser)]
#[command(name = "edamame-guard", version, about, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a command under watch and judge what it did
    Run(Run),
    /// Start recording the caller's process tree in the background; returns when it really watches
    Start(Start),
    /// Give a live session its policy, once
    Load {
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        #[arg(long, value_name = "FILE")]
        policy: PathBuf,
    },
    /// Say whether a session is watching, since when, and what it recorded
    Status {
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        #[arg(long)]
        json: bool,
        /// Print, for a shell to evaluate, the variables by which agents send their telemetry to this session
        #[arg(long, conflicts_with = "json")]
        environment: bool,
    },
    /// Stop a session, judge its record, write the reports and set the exit status
    Finish {
        #[arg(long, value_name = "ID")]
        session: Option<String>,
        /// Where the reports go [default: what `start` was given]
        #[arg(long, value_name = "DIR")]
        report_dir: Option<PathBuf>,
        /// A file that the job made: its digest becomes a subject of statement.json; may be given again
        #[arg(long = "artifact", value_name = "FILE")]
        artifacts: Vec<PathBuf>,
    },
    /// Judge a recorded run again: same engine, no root, no kernel
    Replay(Replay),
    /// Check that a report directory is what its recorder signed: chain, signature, policy, digests
    Verify {
        #[arg(value_name = "REPORT_DIR")]
        directory: PathBuf,
        /// The public key that was printed when the recording began, in hex
        #[arg(long, value_name = "HEX")]
        key: Option<String>,
        /// The digest of the first record that was printed with it, in hex
        #[arg(long, value_name = "HEX")]
        genesis: Option<String>,
    },
    /// Work with policy files
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Read the host's security state: what is weak, or what differs from an earlier reading
    Posture {
        #[arg(long)]
        json: bool,
        /// An earlier `posture --json` to compare with; 86 if anything differs
        #[arg(long, value_name = "FILE")]
        baseline: Option<PathBuf>,
        /// Read another host's file system, mounted or unpacked here; its workspace is /workspace in it
        #[arg(long, value_name = "DIR")]
        root: Option<PathBuf>,
        /// List what can be set right safely, then do it; it can be undone
        #[arg(long, conflicts_with_all = ["json", "baseline"])]
        harden: bool,
        /// Only list it
        #[arg(long, requires = "harden")]
        dry_run: bool,
        /// Undo what `--harden` did
        #[arg(long, requires = "harden", conflicts_with = "dry_run")]
        undo: bool,
    },
    /// List the coding agents and tool servers of this host for every local user, and what of their settings to set right
    Agents {
        #[arg(long)]
        json: bool,
    },
    /// What agents call before and after they use a tool; `--agent-hooks` puts it into their settings
    Hook {
        #[arg(long, value_name = "ID", default_value = "")]
        agent: String,
        /// The socket of the session
        #[arg(long, value_name = "SOCKET")]
        to: Option<PathBuf>,
        /// What a newer agent may add says nothing to us
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
        rest: Vec<OsString>,
    },
    /// List the rules, or show one rule's page
    Rules {
        /// Rule id, such as cred-file-access
        id: Option<String>,
    },
    /// Say what can be watched on this machine, and what cannot
    Doctor,
    /// Print what a shell needs to complete these commands
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Print the manual page; with a folder, write one for each command there
    Man {
        #[arg(value_name = "DIR")]
        directory: Option<PathBuf>,
    },
    /// A stage of the GitHub Action; src/action calls it, and people need not
    #[command(hide = true)]
    Action(Action),
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Action {
    #[arg(value_enum)]
    pub stage: Stage,
    /// The process whose tree is the job: the runner
    #[arg(long, value_name = "PID")]
    pub above: i32,
}

/// When the runner calls an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Stage {
    Pre,
    Main,
    Post,
}

#[derive(Debug, Args)]
pub struct Run {
    #[command(flatten)]
    pub judging: Judging,
    /// What to do besides reporting
    #[arg(long, value_enum)]
    pub mode: Option<ModeArgument>,
    #[command(flatten)]
    pub watching: Watching,
    /// A file that the job makes: its digest becomes a subject of statement.json; may be given again
    #[arg(long = "artifact", value_name = "FILE")]
    pub artifacts: Vec<PathBuf>,
    /// Tell steps, agents, destinations and findings while they come, a line each
    #[arg(long)]
    pub watch: bool,
    #[command(flatten)]
    pub channels: Channels,
    /// The command and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<OsString>,
}

#[derive(Debug, Args)]
pub struct Start {
    #[command(flatten)]
    pub channels: Channels,
    /// Put pipes into this new folder that the job's output is to go through, to look for secrets in it: `both`, or `output` and `error`.
    /// Standard input has to lead where standard output leads (`<&1`)
    #[arg(long, value_name = "DIR")]
    pub log_pipes: Option<PathBuf>,
    /// Files that the job hands over, to look for secrets in at its end: paths and globs below the workspace, separated by `;`; may be given again
    #[arg(long, value_name = "PATHS", value_delimiter = ';')]
    pub search: Vec<String>,
    #[command(flatten)]
    pub judging: Judging,
    /// What to do besides reporting
    #[arg(long, value_enum)]
    pub mode: Option<ModeArgument>,
    #[command(flatten)]
    pub watching: Watching,
}

/// Further ways by which coding agents tell their tool calls, beside their records.
#[derive(Clone, Debug, Default, Args)]
pub struct Channels {
    /// Have coding agents tell their tool calls before they run: hooks in the settings of this user's agents, which are taken out again at the end
    #[arg(long)]
    pub agent_hooks: bool,
    /// Take in what coding agents export of their tool calls (OpenTelemetry) on this port of loopback [default: any that is free]; under `run` the command finds where in its environment, else `status --environment` tells
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    pub agent_telemetry: Option<u16>,
    /// A file that an agent's output goes to (`--output-format stream-json`), by tee or a redirect, as in claude-code=out.jsonl; may be given again
    #[arg(long = "agent-output", value_name = "AGENT=FILE", value_parser = agent_output)]
    pub agent_outputs: Vec<AgentOutput>,
}

/// Where an agent's output goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentOutput {
    pub agent: String,
    pub file: PathBuf,
}

fn agent_output(text: &str) -> Result<AgentOutput, String> {
    let known = crate::agents::printed::AGENTS;
    let (agent, file) =
        text.split_once('=').filter(|(_, file)| !file.is_empty()).ok_or("it is AGENT=FILE")?;
    if !known.contains(&agent) {
        return Err(format!("the agents that print the ids of their calls are {}", known.join(", ")));
    }
    Ok(AgentOutput { agent: agent.to_owned(), file: file.into() })
}

#[derive(Clone, Copy, Debug, Args)]
pub struct Watching {
    /// Which sensor to use
    #[arg(long, value_enum, default_value_t = SensorArgument::Auto)]
    pub sensor: SensorArgument,
    /// What `--sensor auto` does where kernel events are not to be had [default: warn]
    #[arg(long, value_enum, value_name = "WHAT")]
    pub on_unsupported: Option<UnsupportedArgument>,
    /// Kernel memory for records of files and egress that wait to be read: a power of two from 4096 on, as in 65536, 64k or 32m [default: 16m]
    #[arg(long, value_name = "SIZE", value_parser = ring_bytes)]
    pub ring_size: Option<u32>,
    /// Size from which on the record goes on in a new part, and the old one is compressed: at least 16k, as in 65536, 64k or 64m [default: 64m]
    #[arg(long, value_name = "SIZE", value_parser = part_bytes)]
    pub part_size: Option<u64>,
}

fn part_bytes(text: &str) -> Result<u64, String> {
    const SMALLEST: u64 = 16 << 10;
    bytes(text)
        .filter(|bytes| *bytes >= SMALLEST)
        .ok_or_else(|| "at least 16k are needed, as in 65536, 64k or 64m".to_owned())
}

/// `65536`, `64k`, `16m`.
fn bytes(text: &str) -> Option<u64> {
    let text = text.to_ascii_lowercase();
    let (digits, unit) = match (text.strip_suffix('k'), text.strip_suffix('m')) {
        (Some(digits), _) => (digits, 1 << 10),
        (_, Some(digits)) => (digits, 1 << 20),
        _ => (text.as_str(), 1),
    };
    digits.parse().ok().and_then(|number: u64| number.checked_mul(unit))
}

fn ring_bytes(text: &str) -> Result<u32, String> {
    const SMALLEST: u32 = 4096;
    const LARGEST: u32 = 1 << 30;
    bytes(text)
        .and_then(|bytes| u32::try_from(bytes).ok())
        .filter(|bytes| bytes.is_power_of_two() && (SMALLEST..=LARGEST).contains(bytes))
        .ok_or_else(|| "a power of two of 4096 to 1024m is needed, as in 65536, 64k or 32m".to_owned())
}

#[derive(Debug, Args)]
pub struct Replay {
    #[command(flatten)]
    pub judging: Judging,
    /// evidence.jsonl, or a report directory; with several, a line for each
    #[arg(required = true, value_name = "RECORDING")]
    pub recordings: Vec<PathBuf>,
    /// Print what the run did that this one did not, and the other way round; 86 if there is anything new
    #[arg(long, value_name = "RECORDING")]
    pub diff: Option<PathBuf>,
    /// Print every event and finding instead, an object a line
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<ExportFormat>,
}

/// What other programs read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ExportFormat {
    /// Open Cybersecurity Schema Framework 1.8
    Ocsf,
}

#[derive(Debug, Args)]
pub struct Judging {
    /// Policy file [default: .github/guard.yml if there is one; for replay: policy.lock.yml beside the recording]
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Fail from this severity on: none, low, medium, high, critical [default: the policy's; else medium with a policy, high without]
    #[arg(long, value_name = "SEVERITY")]
    pub fail_on: Option<FailOn>,
    /// Where the reports go [default for run: edamame-guard-report]
    #[arg(long, value_name = "DIR")]
    pub report_dir: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check a policy file: every problem with its line, every warning
    Check { file: PathBuf },
    /// Say which lines hold for a step and why a finding fired, and what would silence it
    Explain {
        /// Policy file, or a report directory: its policy and recording then
        file: PathBuf,
        /// Key of a step, id of a rule, or a finding's fingerprint or its beginning [default: every step]
        #[arg(value_name = "STEP | FINDING")]
        what: Option<String>,
        /// Where the finding was: evidence.jsonl or a report directory [default: edamame-guard-report]
        #[arg(long, value_name = "RECORDING")]
        recording: Option<PathBuf>,
    },
    /// Say what a newer policy allows that an older one does not, step by step; 86 if anything differs
    Diff {
        /// Policy file, or a recording: the policy that was applied to it
        #[arg(value_name = "A")]
        before: PathBuf,
        /// The newer one
        #[arg(value_name = "B")]
        after: PathBuf,
        #[arg(long)]
        json: bool,
    },
    /// Print the policy that workflows already ask for: harden-runner's endpoints, an agent's tools and sandbox
    Import {
        #[arg(required = true, value_name = "WORKFLOW")]
        workflows: Vec<PathBuf>,
    },
    /// Print the JSON Schema of a policy file, for editors
    Schema,
    /// Print a policy that explains recorded runs: to read, shorten and keep
    Learn {
        /// Print this policy with what the runs needed and it does not allow yet
        #[arg(long, value_name = "FILE")]
        merge: Option<PathBuf>,
        /// evidence.jsonl, or a report directory
        #[arg(required = true, value_name = "RECORDING")]
        recordings: Vec<PathBuf>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArgument {
    /// Detect and report
    Audit,
    /// Also stop what is not allowed (not available yet: refused)
    Block,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SensorArgument {
    /// The best one this machine allows
    Auto,
    /// Kernel tracepoints and cgroup hooks; needs root
    Ebpf,
    /// Not available yet: refused
    Seccomp,
    /// Looks at /proc again and again; needs no rights, and misses what is over quickly
    Procfs,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UnsupportedArgument {
    /// Start nothing
    Fail,
    /// Take the procfs sensor, with a warning
    Warn,
    /// Take the procfs sensor, with a remark
    Skip,
}

#[cfg(test)]
mod tests {
    use super::{agent_output, part_bytes, ring_bytes};

    #[test]
    fn an_output_is_of_an_agent_that_prints_ids() {
        let output = agent_output("claude-code=out=1.jsonl").unwrap();
        assert_eq!((output.agent.as_str(), output.file.to_str()), ("claude-code", Some("out=1.jsonl")));
        for text in ["", "out.jsonl", "claude-code=", "codex=out.jsonl"] {
            assert!(agent_output(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_part_is_not_too_small() {
        for (text, bytes) in [("65536", 65_536), ("64k", 65_536), ("1m", 1 << 20), ("8192m", 8 << 30)] {
            assert_eq!(part_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "0", "15k", "m", "-64k", "64 k", "99999999999999999999m"] {
            assert!(part_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_ring_size_is_a_power_of_two_with_a_unit() {
        for (text, bytes) in [("4096", 4096), ("64k", 65_536), ("16M", 16 << 20), ("1024m", 1 << 30)] {
            assert_eq!(ring_bytes(text), Ok(bytes), "{text}");
        }
        for text in
            ["", "k", "0", "2048", "5000", "3m", "2048m", "-4096", "4096 ", "4 m", "99999999999", "16g"]
        {
            assert!(ring_bytes(text).is_err(), "{text}");
        }
    }
}
