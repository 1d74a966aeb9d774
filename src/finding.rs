//! One thing worth telling a person, with the events that show it; and the report of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::event::{Level, Permission, Plane, ProcessKey, Reach, Setting, Socket, Timestamp};
use crate::job::{Job, Location, StepKey};
use crate::picture::Picture;

/// How bad (OCSF severity).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Low,
    Medium,
    High,
    Critical,
}

/// How sure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Confidence {
    Low,
    Medium,
    High,
}

impl Severity {
    pub const ALL: [Self; 4] = [Self::Low, Self::Medium, Self::High, Self::Critical];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
            Self::Critical => "critical",
        }
    }
}

impl Confidence {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Low => "low",
            Self::Medium => "medium",
            Self::High => "high",
        }
    }
}

/// From which severity on a finding fails the job; `None` in the field means never.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailOn {
    Never,
    From(Severity),
}

impl FailOn {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Never => "none",
            Self::From(severity) => severity.as_str(),
        }
    }

    /// The one that fails more.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, other) | (other, Self::Never) => other,
            (Self::From(one), Self::From(other)) => Self::From(one.min(other)),
        }
    }

    /// Whether a finding of this weight fails the job (design: and confidence at least medium).
    pub fn fails(self, severity: Severity, confidence: Confidence) -> bool {
        match self {
            Self::Never => false,
            Self::From(threshold) => severity >= threshold && confidence >= Confidence::Medium,
        }
    }
}

impl std::str::FromStr for FailOn {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "none" => Self::Never,
            "low" => Self::From(Severity::Low),
            "medium" | "warning" => Self::From(Severity::Medium),
            "high" | "error" => Self::From(Severity::High),
            "critical" => Self::From(Severity::Critical),
            other => return Err(format!("`{other}` is not one of none, low, medium, high, critical")),
        })
    }
}

/// What kind of difference a finding is; a later kind gives way to an earlier one for the same act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Attack,
    Policy,
    Divergence,
    Posture,
    Coverage,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attack => "attack",
            Self::Policy => "policy",
            Self::Divergence => "divergence",
            Self::Posture => "posture",
            Self::Coverage => "coverage",
        }
    }
}

/// A rule id of the closed table, such as `cred-file-access`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RuleId(pub &'static str);

impl fmt::Display for RuleId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0)
    }
}

/// A MITRE ATT&CK technique, such as `T1552.001`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Technique(pub &'static str);

/// What the guard did about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Disposition {
    Detected,
    Blocked,
}

impl Disposition {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Detected => "detected",
            Self::Blocked => "blocked",
        }
    }
}

/// A process as a finding shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessView {
    pub key: ProcessKey,
    /// What people call it: `npm`, though the image is node's; `sh`, though it is dash.
    pub name: String,
    /// Absolute path of the image.
    pub executable: String,
    pub arguments: Vec<String>,
    /// Hex digest of the image, where it was taken.
    pub sha256: Option<String>,
}

/// One thing worth telling a person (OCSF Detection Finding, SARIF result).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub rule: RuleId,
    pub kind: Kind,
    pub severity: Severity,
    pub confidence: Confidence,
    pub fails: bool,
    /// One sentence a developer understands.
    pub title: String,
    pub step: StepKey,
    pub agent: Option<String>,
    pub tool_call: Option<String>,
    /// Who did it, and its ancestors, nearest first. Absent for coverage findings.
    pub process: Option<ProcessView>,
    pub ancestry: Vec<ProcessView>,
    /// Path, host:port or other thing touched.
    pub object: String,
    /// Further objects folded into this one, `object` not among them; at most 19.
    pub more_objects: Vec<String>,
    pub disposition: Disposition,
    /// The nearest declaration or rule, with `file:line`.
    pub declared: Option<String>,
    pub techniques: Vec<Technique>,
    /// CVE, GHSA and the like.
    pub references: Vec<&'static str>,
    /// Sequence numbers in `evidence.jsonl`.
    pub evidence: Vec<u64>,
    pub first_seen: Timestamp,
    pub reported_at: Timestamp,
    pub count: u64,
    /// Where a reader should look: the step's line.
    pub location: Option<Location>,
    /// The same finding in tomorrow's run: 32 hex digits.
    pub fingerprint: String,
    pub remedy: String,
    /// The exact lines that would allow or except this, and in which file.
    pub silence: String,
}

/// A finding that an `except:` entry of the policy holds back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    pub rule: String,
    pub object: String,
    pub step: StepKey,
    pub reason: String,
    /// `YYYY-MM-DD`
    pub until: Option<String>,
    pub count: u64,
}

/// What could not be seen, and what could.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coverage {
    pub state: CoverageState,
    pub sensor: String,
    pub tier: String,
    pub since: Timestamp,
    pub process: Reach,
    pub file: Reach,
    pub egress: Reach,
    pub agents: Vec<String>,
    pub lost_events: u64,
    /// What was not seen in this run and should have been.
    pub gaps: Vec<String>,
    /// What this sensor never sees here.
    pub limits: Vec<String>,
}

impl Coverage {
    /// Everything not seen: this run's gaps first, then the sensor's limits.
    pub fn not_seen(&self) -> impl Iterator<Item = &str> {
        self.gaps.iter().chain(&self.limits).map(String::as_str)
    }

    pub fn of(&self, plane: Plane) -> Reach {
        match plane {
            Plane::Process => self.process,
            Plane::File => self.file,
            Plane::Egress => self.egress,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CoverageState {
    Full,
    Partial,
    Blind,
}

impl CoverageState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Partial => "partial",
            Self::Blind => "blind",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Clean,
    Partial,
    Divergence,
    Attack,
    Blind,
}

impl Verdict {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Partial => "partial",
            Self::Divergence => "divergence",
            Self::Attack => "attack",
            Self::Blind => "blind",
        }
    }
}

/// How many events of each plane a step made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    pub process: u64,
    pub file: u64,
    pub egress: u64,
}

/// What one step declared and did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StepReport {
    pub key: StepKey,
    pub name: String,
    pub declared: String,
    pub location: Option<Location>,
    pub events: Counts,
    /// Processes started in this step.
    pub processes: u64,
    /// Whom it talked to: `host:port` with the program, sorted.
    pub destinations: Vec<Destination>,
    /// False when nothing was declared, so that nothing could be compared.
    pub compared: bool,
    /// What a policy would have to allow.
    pub needs: Needs,
}

/// What a step did and no rule objects to, as items of a policy's lists.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// Of `network`, with whom they are for: `node` → `npm: packages.example`.
    pub network: BTreeMap<String, BTreeSet<String>>,
    /// Of `files`: `write ./**`.
    pub writes: BTreeSet<String>,
    /// Of `run`.
    pub runs: BTreeSet<String>,
    /// There was more than is kept.
    pub is_cut: bool,
}

/// One destination of one step.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Destination {
    /// `name:port`, or `address:port` when no name is known.
    pub host: String,
    pub program: String,
    /// Why this is expected: a declaration, a rule of the policy, or nothing.
    pub explained: Option<String>,
    /// Bytes sent and received, as far as the connections are over; `None` where no sensor counts them.
    pub carried: Option<(u64, u64)>,
}

/// What one session of a coding agent asked for, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionReport {
    /// `claude-code`
    pub agent: String,
    /// `Claude Code`
    pub title: String,
    /// The agent's own name for it; empty where nothing tells it.
    pub session: String,
    pub version: Option<String>,
    /// How it asks before it acts, in the agent's own word.
    pub mode: Option<String>,
    /// It acts without asking.
    pub unasked: bool,
    /// The option on its command line that switched its questions off, or the setting and its place.
    pub flag: Option<String>,
    /// What its settings and its command line say that it may do, the strongest source first.
    pub permissions: Vec<PermissionReport>,
    /// Uses of a tool that it asked for.
    pub calls: u64,
    /// Those of them that run a command.
    pub commands: u64,
    /// Calls whose process was seen.
    pub run: u64,
    /// Calls that the agent did not let run.
    pub refused: u64,
    /// Effects below it that its calls explain: connections, credentials, writes out of the work's own places.
    pub explained: u64,
    pub unexplained: u64,
    /// Commands that its record does not hold.
    pub unrecorded: u64,
    /// The first calls, by time.
    pub timeline: Vec<CallReport>,
}

/// What one source says that an agent may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermissionReport {
    pub level: Level,
    /// `~/.claude/settings.json`; empty for a command line.
    pub file: String,
    pub settings: Vec<Setting>,
    /// Why it could not be read, or not whole.
    pub problem: Option<String>,
}

impl PermissionReport {
    /// `project .claude/settings.json: mode bypassPermissions (line 3), 2 allowed, 1 denied, hook PreToolUse (line 9)`
    pub fn in_words(&self) -> String {
        const MOST: usize = 6;
        let (mut allowed, mut asked, mut denied) = (0_usize, 0_usize, 0_usize);
        let mut words = Vec::new();
        for setting in &self.settings {
            let line = if setting.line == 0 { String::new() } else { format!(" (line {})", setting.line) };
            match &setting.what {
                Permission::Mode { text, .. } => words.push(format!("mode {text}{line}")),
                Permission::Allow { .. } => allowed += 1,
                Permission::Ask { .. } => asked += 1,
                Permission::Deny { .. } => denied += 1,
                Permission::Hook { event, .. } => words.push(format!("hook {event}{line}")),
                Permission::Server { name, .. } => words.push(format!("tool server {name}{line}")),
                Permission::Secret { key } => words.push(format!("a secret under {key}{line}")),
                Permission::Instructions => words.push("instructions".to_owned()),
            }
        }
        let more = words.len().saturating_sub(MOST);
        words.truncate(MOST);
        if more > 0 {
            words.push(format!("{more} more"));
        }
        let counts = [(allowed, "allowed"), (asked, "to be asked about"), (denied, "denied")];
        words.extend(
            counts.iter().filter(|(count, _)| *count > 0).map(|(count, verb)| format!("{count} {verb}")),
        );
        if let Some(problem) = &self.problem {
            let first = problem.lines().next().unwrap_or_default();
            words.push(format!("not read: {first}"));
        }
        let file = if self.file.is_empty() { String::new() } else { format!(" {}", self.file) };
        format!("{}{file}: {}", self.level.as_str(), words.join(", "))
    }

    /// The mode on a command line stands beside the agent's name already.
    fn is_told_elsewhere(&self) -> bool {
        let is_mode = |setting: &Setting| matches!(setting.what, Permission::Mode { .. });
        self.level == Level::CommandLine && self.settings.iter().all(is_mode)
    }
}

/// One use of a tool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallReport {
    pub call: String,
    pub time: Timestamp,
    pub tool: String,
    /// Its command, or the first file or address that it names, cut short.
    pub text: Option<String>,
    pub state: CallState,
    /// How its process was tied to it.
    pub tied_by: Option<&'static str>,
    pub unexplained: u64,
}

/// How far a call came, as far as was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallState {
    /// Its process was seen.
    Run,
    /// The agent did not let it run.
    Refused,
    /// It was asked for; a tool of the agent itself has no process.
    Asked,
}

impl CallState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Refused => "refused",
            Self::Asked => "asked",
        }
    }
}

impl SessionReport {
    /// What its sources say that it may do, each in a few words; `None` where that is nothing more than its mode.
    pub fn permitted_in_words(&self) -> Option<String> {
        let told = self.permissions.iter().filter(|source| !source.is_told_elsewhere());
        let told: Vec<String> = told.map(PermissionReport::in_words).collect();
        (!told.is_empty()).then(|| told.join("; "))
    }

    /// `Claude Code 2.1.330, acts without asking (bypassPermissions): 36 calls, 34 commands, 34 run; 4 effects, 0 unexplained`
    pub fn in_words(&self) -> String {
        let count =
            |number: u64, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
        let version = self.version.as_ref().map_or_else(String::new, |version| format!(" {version}"));
        let mode = match (self.unasked, self.flag.as_ref().or(self.mode.as_ref())) {
            (true, Some(word)) => format!(", acts without asking ({word})"),
            (true, None) => ", acts without asking".to_owned(),
            (false, Some(word)) => format!(", mode {word}"),
            (false, None) => String::new(),
        };
        let refused = if self.refused > 0 { format!(", {} refused", self.refused) } else { String::new() };
        let unrecorded = match self.unrecorded {
            0 => String::new(),
            number => format!(", {} not in its record", count(number, "command", "commands")),
        };
        format!(
            "{}{version}{mode}: {}, {}, {} run{refused}{unrecorded}; {}, {} unexplained",
            self.title,
            count(self.calls, "call", "calls"),
            count(self.commands, "command", "commands"),
            self.run,
            count(self.explained + self.unexplained, "effect", "effects"),
            self.unexplained,
        )
    }
}

/// The host's security state: what is weak, and what the run made of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Posture {
    /// How many checks were made.
    pub checks: usize,
    /// As it was at the start.
    pub weak: Vec<Weakness>,
    /// Every difference between start and end, expected or not.
    pub drift: Vec<Drift>,
}

/// One object that a check does not like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weakness {
    pub check: String,
    pub title: String,
    pub severity: Severity,
    /// A path, or a name in a file.
    pub object: String,
    pub value: String,
}

/// One object that differs between start and end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    pub check: String,
    pub object: String,
    /// `added`, `changed`, `removed`
    pub how: &'static str,
    /// The program that was seen to write it, and its step.
    pub by: Option<String>,
    pub step: Option<StepKey>,
    /// Why this is expected: a declaration, a rule of the policy, or nothing.
    pub explained: Option<String>,
}

impl Posture {
    /// Weak checks that a sentence names.
    const SHOWN: usize = 5;

    /// `30 checks, weak before the job: lockdown; 1 expected change`.
    pub fn in_words(&self) -> String {
        let count = |number: usize, one: &str, many: &str| {
            format!("{number} {}", if number == 1 { one } else { many })
        };
        let mut worst: Vec<&Weakness> = self.weak.iter().collect();
        worst.sort_by_key(|weak| std::cmp::Reverse(weak.severity));
        let mut weak: Vec<&str> = worst.into_iter().map(|weak| weak.check.as_str()).collect();
        weak.dedup();
        // A list of dozens is for `posture` and for `findings.json`.
        let more = weak.len().saturating_sub(Self::SHOWN);
        let weak = match (weak.as_slice(), more) {
            ([], _) => String::new(),
            (weak, 0) => format!(", weak before the job: {}", weak.join(", ")),
            (weak, more) => {
                format!(", weak before the job: {} and {more} more", weak[..Self::SHOWN].join(", "))
            }
        };
        let expected = self.drift.iter().filter(|drift| drift.explained.is_some()).count();
        let change = match (expected, self.drift.len() - expected) {
            (0, 0) => "nothing changed".to_owned(),
            (expected, 0) => count(expected, "expected change", "expected changes"),
            (0, other) => count(other, "unexplained change", "unexplained changes"),
            (expected, other) => format!(
                "{}, {}",
                count(other, "unexplained change", "unexplained changes"),
                count(expected, "expected one", "expected ones")
            ),
        };
        format!("{}{weak}; {change}", count(self.checks, "check", "checks"))
    }
}

/// How the watched command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitView {
    /// 0, 86 or 125: what the guard itself has to say.
    pub guard: u8,
    pub command: Option<u8>,
    pub signal: Option<u8>,
}

/// Everything the reports write: the result of one run, live or replayed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    pub job: Job,
    pub verdict: Verdict,
    pub exit: ExitView,
    pub mode: &'static str,
    pub fail_on: FailOn,
    pub coverage: Coverage,
    /// Sessions of coding agents, by their first call.
    pub sessions: Vec<SessionReport>,
    /// `None` when the recording has no snapshot.
    pub posture: Option<Posture>,
    pub picture: Picture,
    pub steps: Vec<StepReport>,
    /// Sorted: failing first, then by severity, then by time.
    pub findings: Vec<Finding>,
    pub suppressed: Vec<Suppressed>,
    /// Where the policy came from; `None` without one.
    pub policy: Option<String>,
    /// Things to say that are no findings, such as "no policy file".
    pub notices: Vec<String>,
    /// Sockets of the host that were there before the job: connected ones first. No finding is about them.
    pub sockets_before: Vec<Socket>,
    pub started: Timestamp,
    pub ended: Timestamp,
}

impl Report {
    /// Says that the reports could not be written: whatever was found, this run proves nothing.
    pub fn cannot_be_kept(&mut self, reason: &str) {
        self.proves_nothing(format!("the reports could not be written: {reason}"));
    }

    /// Says why this run proves nothing, whatever was found.
    pub fn proves_nothing(&mut self, reason: String) {
        self.exit.guard = 125;
        self.coverage.state = CoverageState::Blind;
        self.coverage.gaps.push(reason);
        if matches!(self.verdict, Verdict::Clean | Verdict::Partial) {
            self.verdict = Verdict::Blind;
        }
    }
}
