//! Takes a process tree into scope that was there before the recorder.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;

use libbpf_rs::{Iter, MapCore as _, MapFlags};

use super::record::TaskRecord;
use super::{Ebpf, SensorError, refused};
use crate::event::{File, Launch, ProcessKey, Running};
use crate::sensors::Sensor as _;

/// A tree that grows faster than this many looks is taken as it is; its forks are ours by then.
const LOOKS: usize = 16;

impl Ebpf {
    /// Takes `root` and all its descendants into scope, except this process and its own.
    ///
    /// From then on their forks, launches and acts are recorded like those of our own children.
    /// `root` is the kernel's number, so a guard inside a pid namespace can't adopt.
    pub(super) fn take_over(&mut self, root: u32) -> Result<Vec<Running>, SensorError> {
        let own = self.guard().pid;
        if own != std::process::id() {
            return Err(SensorError::PidNamespace);
        }
        let mut adopted = BTreeMap::new();
        for _ in 0..LOOKS {
            let tasks = self.tasks()?;
            let parents: BTreeMap<u32, &TaskRecord> = tasks.iter().map(|task| (task.pid, task)).collect();
            let is_below = |pid: u32| {
                let mut seen = BTreeSet::new();
                let mut next = pid;
                while next != root {
                    if next == own || !seen.insert(next) {
                        return false;
                    }
                    let Some(task) = parents.get(&next) else { return false };
                    next = task.parent;
                }
                true
            };
            let mut is_new = false;
            for task in tasks.iter().filter(|task| task.pid != own && is_below(task.pid)) {
                if adopted.contains_key(&task.pid) {
                    continue;
                }
                self.own(task)?;
                is_new = true;
                let parent = (task.pid != root).then(|| parents.get(&task.parent)).flatten();
                adopted.insert(
                    task.pid,
                    Running {
                        process: ProcessKey { pid: task.pid, start: task.start },
                        parent: parent.map(|parent| ProcessKey { pid: parent.pid, start: parent.start }),
                        launch: launch(task.pid),
                    },
                );
            }
            // What was forked while we looked is owned by its parent's number, or found by the next look.
            if !is_new {
                break;
            }
        }
        let mut running: Vec<Running> = adopted.into_values().collect();
        running.sort_by_key(|running| running.process.start);
        if running.is_empty() { Err(SensorError::NoTree { root }) } else { Ok(running) }
    }

    fn own(&self, task: &TaskRecord) -> Result<(), SensorError> {
        let map = self
            .object
            .maps()
            .find(|map| map.name() == "owned")
            .ok_or(SensorError::NoTree { root: task.pid })?;
        map.update(&task.pid.to_ne_bytes(), &task.start.to_ne_bytes(), MapFlags::ANY)
            .map_err(|error| refused("owned", error))
    }

    fn tasks(&self) -> Result<Vec<TaskRecord>, SensorError> {
        let program = self.object.progs_mut().find(|program| program.name() == "on_task");
        let program = program.ok_or(SensorError::NoTree { root: 0 })?;
        let link = program.attach().map_err(|error| refused("on_task", error))?;
        let mut bytes = Vec::new();
        Iter::new(&link).map_err(|error| refused("on_task", error))?.read_to_end(&mut bytes)?;
        Ok(bytes.chunks_exact(size_of::<TaskRecord>()).filter_map(TaskRecord::read).collect())
    }
}

/// What `/proc` says of a process that launched before we looked: all there is.
fn launch(pid: u32) -> Option<Launch> {
    let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
    let executable = process.exe().ok()?.to_string_lossy().into_owned();
    Some(Launch {
        requested: executable.clone(),
        executable: File::at(executable),
        arguments: process.cmdline().unwrap_or_default(),
        directory: process.cwd().map(|cwd| cwd.to_string_lossy().into_owned()).unwrap_or_default(),
        uid: process.uid().unwrap_or_default(),
        environment: step(pid),
        ..Launch::default()
    })
}

/// Which step of a runner it belongs to, by its environment: `start` may be called in the midst of one.
fn step(pid: u32) -> BTreeMap<String, String> {
    const NAMES: [&str; 2] = ["GITHUB_ACTION", "GITHUB_OUTPUT"];
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    let said = environment.split(|byte| *byte == 0).filter_map(|pair| {
        let (name, value) = std::str::from_utf8(pair).ok()?.split_once('=')?;
        NAMES.contains(&name).then(|| (name.to_owned(), value.to_owned()))
    });
    said.collect()
}
