//! `hook`: what an agent calls before and after it uses a tool. It hands the agent's text to the recorder, and is gone.
//!
//! Nothing that happens here may hold the agent up or change what it does: no output, status 0, half a second at most.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::channel;
use std::time::Duration;

use serde_json::{Value, json};

/// For all of it.
const PATIENCE: Duration = Duration::from_millis(500);
/// A longer text is cut, and then no JSON any more.
pub(super) const LONGEST: u64 = 1 << 20;

pub(super) fn hook(agent: &str, to: Option<&Path>) -> u8 {
    let (done, is_done) = channel();
    let (agent, to) = (agent.to_owned(), to.map(PathBuf::from));
    std::thread::spawn(move || {
        let _ = done.send(hand_over(&agent, to));
    });
    let _ = is_done.recv_timeout(PATIENCE);
    0
}

fn hand_over(agent: &str, to: Option<PathBuf>) -> Option<()> {
    let mut text = Vec::new();
    std::io::stdin().lock().take(LONGEST).read_to_end(&mut text).ok()?;
    let payload: Value = serde_json::from_slice(&text).ok()?;
    let mut line = serde_json::to_vec(&json!({"agent": agent, "payload": payload})).ok()?;
    line.push(b'\n');
    let stream = UnixStream::connect(to?).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    (&stream).write_all(&line).ok()
}
