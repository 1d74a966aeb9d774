//! Where events come from, best first, and which one a run takes.

use std::fmt;

use crate::event::{Event, ProcessKey, Running, Sight};

pub mod ebpf;
pub mod procfs;

/// A source of events about the processes this program starts, or about a tree it adopts.
pub trait Sensor: fmt::Debug {
    /// What it can and cannot see here.
    fn sight(&self) -> &Sight;

    /// This process, as the sensor's events name it: what it forks is the job.
    fn guard(&self) -> ProcessKey;

    /// Whether it has been at work since the start and still is.
    fn is_watching(&self) -> bool;

    /// Hooks of it that were taken away since the start.
    fn lost_hooks(&self) -> Vec<&str> {
        Vec::new()
    }

    /// Takes `root` and all its descendants into scope, except this process and its own.
    fn adopt(&mut self, root: u32) -> Result<Vec<Running>, Unavailable>;

    /// Everything that happened since the last call and can no longer be overtaken by an
    /// older event, in kernel order. With `to_the_end`, everything that is there.
    fn drain(&mut self, to_the_end: bool) -> Vec<Event>;

    /// Whether more has happened than the last calls handed out, and waits in the kernel.
    fn is_behind(&self) -> bool {
        false
    }

    /// What it found out while it watched that it could not see; asked for once, at the end.
    fn gaps(&mut self) -> Vec<String> {
        Vec::new()
    }
}

/// Why a sensor cannot watch here.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    #[error(transparent)]
    Ebpf(#[from] ebpf::SensorError),
    #[error(transparent)]
    Procfs(#[from] procfs::SensorError),
}

/// Which sensor is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The best one, or the next best by [`OnUnsupported`].
    Auto,
    Ebpf,
    Procfs,
}

/// What `auto` does where kernel events are not to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnsupported {
    /// Nothing is started.
    Fail,
    /// The polled sensor is taken, with a warning.
    Warn,
    /// The polled sensor is taken, with a remark.
    Skip,
}

/// A sensor at work, and what a person has to be told about the choice before anything else.
#[derive(Debug)]
pub struct Chosen {
    pub sensor: Box<dyn Sensor>,
    pub said: Option<String>,
}

/// Starts the sensor that is asked for; a lesser one only where `auto` may, and never in silence.
pub fn choose(
    kind: Kind,
    on_unsupported: OnUnsupported,
    options: &ebpf::Options,
) -> Result<Chosen, Unavailable> {
    let polled = |said| {
        let sensor = procfs::Procfs::start(&options.environment)?;
        Ok(Chosen { sensor: Box::new(sensor), said })
    };
    if kind == Kind::Procfs {
        return polled(None);
    }
    let error = match ebpf::Ebpf::start(options) {
        Ok(sensor) => return Ok(Chosen { sensor: Box::new(sensor), said: None }),
        Err(error) => error,
    };
    let word = match (kind, on_unsupported) {
        (Kind::Auto, OnUnsupported::Warn) => "warning",
        (Kind::Auto, OnUnsupported::Skip) => "notice",
        _ => return Err(error.into()),
    };
    let reason = error.to_string();
    let reason = reason.lines().next().unwrap_or_default();
    polled(Some(format!(
        "{word}: kernel events are not to be had here: {reason}\n{word}: looking at /proc instead, which misses what is over quickly; this run can be `partial` at best, never `clean`"
    )))
}
