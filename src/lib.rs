//! edamame-guard watches what a CI job does, compares it with what was declared, and
//! fails the job on the difference.
//!
//! ```text
//!  sensors/   ebpf, replay ----Event------+         +------------ engine (pure) -----------+
//!  runners/   local -----------Job--------+         | lineage --> policy        (may)      |
//!             declared text ---Declaration+--Input->|         --> divergence    (meant)    |--Report--> reports/
//!  policies/  *.yml -----------Policy-----+         |         --> detections/   (known bad)|
//!                                                   +--------------------------------------+
//! ```

pub mod detections;
pub mod event;
pub mod finding;
pub mod job;
pub mod policy;
pub mod sensors;
