//! Draws the picture of a run while it goes by: a tree of programs and a line of time, both bounded.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event::{Plane, ProcessKey, Timestamp};
use crate::job::StepKey;
use crate::lineage::Process;
use crate::picture::{Node, Picture, Slot, Timeline};

/// More programs than this make no tree that a person could read.
const NODES: usize = 4_096;
/// Processes whose place is kept: those alive, as far as their ends are told.
const PLACES: usize = 65_536;
const SLOTS: usize = 240;
const FIRST_SLOT_NS: u64 = 50_000_000;
const ARGUMENTS: usize = 12;

/// Where a process stands: below which node, and in which.
#[derive(Clone, Copy, Debug)]
struct Place {
    parent: Option<usize>,
    own: Option<usize>,
}

#[derive(Debug, Default)]
pub(super) struct Drawing {
    picture: Picture,
    known: HashMap<(Option<usize>, StepKey, Arc<str>), usize>,
    places: HashMap<ProcessKey, Place>,
    /// Processes that a finding is about.
    marked: HashMap<ProcessKey, usize>,
    began: Option<Timestamp>,
}

impl Drawing {
    pub(super) fn fork(&mut self, parent: ProcessKey, child: ProcessKey) {
        let own = self.places.get(&parent).and_then(|place| place.own);
        if self.places.len() < PLACES {
            self.places.insert(child, Place { parent: own, own });
        }
    }

    /// Takes note of a launch; `process` as it is once its new image is known.
    pub(super) fn launch(&mut self, process: &Process, time: Timestamp) {
        let parent = self.places.get(&process.key).and_then(|place| place.parent);
        let key = (parent, process.step.clone(), Arc::clone(&process.name));
        let own = match self.known.get(&key) {
            Some(own) => Some(*own),
            None if self.picture.nodes.len() < NODES => {
                let launch = process.launch.as_deref();
                let arguments = launch.map_or(&[][..], |launch| &launch.arguments);
                self.picture.nodes.push(Node {
                    parent,
                    step: process.step.clone(),
                    agent: process.agent.as_deref().map(ToOwned::to_owned),
                    name: process.name.to_string(),
                    arguments: arguments.iter().take(ARGUMENTS).cloned().collect(),
                    count: 0,
                    first: time,
                    last: time,
                    files: 0,
                    egress: 0,
                    findings: Vec::new(),
                });
                self.known.insert(key, self.picture.nodes.len() - 1);
                Some(self.picture.nodes.len() - 1)
            }
            None => {
                self.picture.left_out += 1;
                None
            }
        };
        if let Some(node) = own.and_then(|own| self.picture.nodes.get_mut(own)) {
            node.count += 1;
            node.last = time;
        }
        if self.places.len() < PLACES || self.places.contains_key(&process.key) {
            self.places.insert(process.key, Place { parent, own });
        }
    }

    pub(super) fn end(&mut self, process: ProcessKey) {
        self.places.remove(&process);
    }

    /// Counts one event of the job.
    pub(super) fn count(&mut self, actor: ProcessKey, plane: Plane, time: Timestamp) {
        let node = self.places.get(&actor).and_then(|place| place.own);
        if let Some(node) = node.and_then(|own| self.picture.nodes.get_mut(own)) {
            match plane {
                Plane::Process => {}
                Plane::File => node.files += 1,
                Plane::Egress => node.egress += 1,
            }
            node.last = node.last.max(time);
        }
        let slot = self.slot(time);
        match plane {
            Plane::Process => slot.process += 1,
            Plane::File => slot.file += 1,
            Plane::Egress => slot.egress += 1,
        }
    }

    /// Remembers where the process of a finding stands.
    pub(super) fn mark(&mut self, process: ProcessKey) {
        if let Some(own) = self.places.get(&process).and_then(|place| place.own) {
            self.marked.insert(process, own);
        }
    }

    /// The picture, with each finding at its node: `(process, fingerprint)`.
    pub(super) fn finish<'a>(self, findings: impl Iterator<Item = (ProcessKey, &'a str)>) -> Picture {
        let mut picture = self.picture;
        for (process, fingerprint) in findings {
            if let Some(node) = self.marked.get(&process).and_then(|own| picture.nodes.get_mut(*own)) {
                node.findings.push(fingerprint.to_owned());
            }
        }
        picture
    }

    fn slot(&mut self, time: Timestamp) -> &mut Slot {
        let began = *self.began.get_or_insert(time);
        let Timeline { slot_ns, slots } = &mut self.picture.timeline;
        if *slot_ns == 0 {
            *slot_ns = FIRST_SLOT_NS;
        }
        let since = time.0.saturating_sub(began.0);
        // Twice as wide until it fits: a run of a week has as many slots as one of a minute.
        while since / *slot_ns >= SLOTS as u64 {
            *slot_ns = slot_ns.saturating_mul(2);
            *slots = slots
                .chunks(2)
                .map(|pair| {
                    pair.iter().fold(Slot::default(), |sum, slot| Slot {
                        process: sum.process + slot.process,
                        file: sum.file + slot.file,
                        egress: sum.egress + slot.egress,
                    })
                })
                .collect();
        }
        let at = usize::try_from(since / *slot_ns).unwrap_or(SLOTS - 1);
        if slots.len() <= at {
            slots.resize(at + 1, Slot::default());
        }
        &mut slots[at]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_run_has_no_more_slots_than_a_short_one_and_loses_no_event() {
        let mut drawing = Drawing::default();
        for second in 0..100_000_u64 {
            drawing.count(ProcessKey::HOST, Plane::File, Timestamp(second * 1_000_000_000));
        }
        let picture = drawing.finish(std::iter::empty());
        assert!(picture.timeline.slots.len() <= SLOTS);
        assert_eq!(picture.timeline.slots.iter().map(|slot| slot.file).sum::<u64>(), 100_000);
    }
}
