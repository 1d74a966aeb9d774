//! edamame-guard watches what a CI job does, compares it with what was declared, and
//! fails the job on the difference.
//!
//! ```text
//!  sensors/   ebpf, procfs ----Event------+         +------------ engine (pure) -----------+
//!  runners/   local -----------Job--------+         | lineage --> policy        (may)      |
//!             declared text ---Declaration+--Input->|         --> divergence    (meant)    |--Report--> reports/
//!  policies/  *.yml -----------Policy-----+         |         --> detections/   (known bad)|
//!                                                   +--------------------------------------+
//! ```

// In the order worth reading: the vocabulary, what is known, the comparison, the edges.
pub mod event;
pub mod finding;
pub mod job;
pub mod picture;

pub mod agents;
pub mod catalogue;
pub mod commands;
pub mod intent;
pub mod lineage;
pub mod policy;

pub mod detections;
pub mod divergence;
pub mod engine;

pub mod evidence;
pub mod github;
pub mod inventory;
pub mod lookup;
pub mod posture;
pub mod redact;
pub mod reports;
pub mod runners;
pub mod secrets;
pub mod sensors;
pub mod session;
pub mod sockets;
pub mod transcripts;

pub mod cli;
pub mod run;

#[cfg(test)]
mod trace;
