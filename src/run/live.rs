//! `run --watch`: a line on stderr for each thing that happens, while it happens.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use crate::engine::{Engine, News, Told};
use crate::finding::Severity;
use crate::reports::line;

/// Nobody reads faster.
const PAUSE: Duration = Duration::from_millis(200);

/// Tells what is new, now and then.
#[derive(Debug)]
pub(super) struct Live {
    told: Told,
    began: Instant,
    last: Option<Instant>,
    has_colour: bool,
}

impl Live {
    pub(super) fn new() -> Self {
        let has_colour =
            io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { told: Told::default(), began: Instant::now(), last: None, has_colour }
    }

    /// Tells what is new, if the last time is long enough ago or `is_last`.
    pub(super) fn tell(&mut self, engine: &Engine, is_last: bool) {
        if !is_last && self.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        self.last = Some(Instant::now());
        let at = self.began.elapsed().as_secs_f64();
        let mut text = String::new();
        for news in engine.news(&mut self.told) {
            let _ = writeln!(text, "guard {at:7.1} s  {}", self.words(&news));
        }
        // One write, so that the job's own lines don't come between.
        let _ = io::stderr().lock().write_all(text.as_bytes());
    }

    fn words(&self, news: &News) -> String {
        match news {
            News::Step(step) => format!("step    {}", line(&step.0)),
            News::Agent(agent) => format!("agent   {}", line(agent)),
            News::Egress { step, program, host, explained } => {
                let why = explained.as_deref().map_or("nothing explains it".to_owned(), line);
                format!("egress  {} to {} in {}: {why}", line(program), line(host), line(&step.0))
            }
            News::Finding { severity, kind, rule, title } => {
                let text = format!("{} {} {rule}: {}", severity.as_str(), kind.as_str(), line(title));
                let colour = if *severity >= Severity::High { "31" } else { "33" };
                if self.has_colour {
                    format!("found   \u{1b}[{colour}m{text}\u{1b}[0m")
                } else {
                    format!("found   {text}")
                }
            }
        }
    }
}
