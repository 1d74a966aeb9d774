//! What a run looked like: who started whom, and when how much happened. For people; no rule asks it.

use crate::event::Timestamp;
use crate::job::StepKey;

/// The run in a size that a page can hold, however long it was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Picture {
    /// Parents before their children.
    pub nodes: Vec<Node>,
    /// Programs that found no place any more are counted here.
    pub left_out: u64,
    pub timeline: Timeline,
}

/// Processes of one program, all started by processes of the same node above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Index of the node above; `None` for what begins a step.
    pub parent: Option<usize>,
    pub step: StepKey,
    pub agent: Option<String>,
    /// What people call it: `npm`.
    pub name: String,
    /// The arguments of the first of them, redacted.
    pub arguments: Vec<String>,
    /// How many launches stand here.
    pub count: u64,
    pub first: Timestamp,
    pub last: Timestamp,
    /// Events of the file plane, and of the egress plane.
    pub files: u64,
    pub egress: u64,
    /// Fingerprints of the findings about one of these processes.
    pub findings: Vec<String>,
}

/// How many events there were in each stretch of time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timeline {
    /// Nanoseconds that one slot stands for.
    pub slot_ns: u64,
    pub slots: Vec<Slot>,
}

/// Events of one slot, by plane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    pub process: u64,
    pub file: u64,
    pub egress: u64,
}
