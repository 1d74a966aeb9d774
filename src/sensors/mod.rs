//! Where events come from, best first.

use crate::event::{Event, Sight};

pub mod ebpf;

/// A source of events about the processes this program starts.
pub trait Sensor {
    /// What it can and cannot see here.
    fn sight(&self) -> &Sight;

    /// Everything that happened since the last call and can no longer be overtaken by an
    /// older event, in kernel order. With `to_the_end`, everything that is there.
    fn drain(&mut self, to_the_end: bool) -> Vec<Event>;
}
