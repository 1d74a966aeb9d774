//! What the job's sockets carried that are still there when the guard ends.

use std::io::Read as _;
use std::os::fd::AsFd as _;

use libbpf_rs::{Iter, MapCore as _};

use super::record::{self, ClosedRecord};
use super::{Ebpf, SensorError, refused};
use crate::event::Event;

impl Ebpf {
    /// One event for each such socket. The kernel walks the sockets that the job's processes spoke with, in
    /// whatever network namespace they are.
    pub(super) fn still_open(&self) -> Result<Vec<Event>, SensorError> {
        let program = self.object.progs_mut().find(|program| program.name() == "on_socket");
        let speakers = self.object.maps().find(|map| map.name() == "speakers");
        let (Some(program), Some(speakers)) = (program, speakers) else { return Ok(Vec::new()) };
        let failed = |error| refused("on_socket", error);
        let link = program.attach_iter(speakers.as_fd()).map_err(failed)?;
        let mut bytes = Vec::new();
        Iter::new(&link).map_err(failed)?.read_to_end(&mut bytes)?;
        let records = bytes.chunks_exact(size_of::<ClosedRecord>());
        let events = records.filter_map(|bytes| record::decode(bytes, self.shared.clock)?.event);
        Ok(events.collect())
    }
}
