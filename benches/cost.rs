//! What being watched costs a job: storms and a build, with the guard and without, in turns.
//!
//! Run it with `make bench`, as root. CPU time decides, not the clock on the wall: the recorder's kernel half works inside the
//! job's own system calls, so what it takes is in the job's user and system time, and other work on the machine is not. The guard's
//! own CPU time is told beside it. Every load runs bare, guarded and bare again in each round; the second bare run tells how much two
//! equal runs differ.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;

/// Rounds of each load, unless `GUARD_BENCH_ROUNDS` says otherwise.
const ROUNDS: usize = 5;
/// Loads: name, and how many times the act is done.
const LOADS: [(&str, u64); 5] =
    [("exec", 3_000), ("open", 50_000), ("open-one", 50_000), ("connect", 20_000), ("build", 1)];
/// The open storm goes around this many files, as a build does; `open-one` opens one over and over.
const FILES: u64 = 500;
const CRATES: usize = 3;

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let result = match words.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        // The load itself: it tells its own CPU time through a file.
        ["load", name, folder, count] => load(name, Path::new(folder), count.parse().unwrap_or(1)),
        _ => bench(&words),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench: error: {error}");
            ExitCode::FAILURE
        }
    }
}

// ---- loads ---------------------------------------------------------------------

fn load(name: &str, folder: &Path, count: u64) -> Result<(), Failure> {
    match name {
        "exec" => {
            for _ in 0..count {
                Command::new("/bin/true").status()?;
            }
        }
        "open" => open(folder, count, FILES)?,
        "open-one" => open(folder, count, 1)?,
        "connect" => connect(count)?,
        "build" => {
            let status = Command::new("cargo")
                .args(["build", "--offline", "--quiet", "--jobs", "2"])
                .current_dir(folder.join("workspace"))
                .env("CARGO_TARGET_DIR", folder.join("target"))
                .stdin(Stdio::null())
                .status()?;
            if !status.success() {
                return Err(format!("cargo ended with {status}").into());
            }
        }
        "nothing" => {}
        other => return Err(format!("there is no load `{other}`").into()),
    }
    let used = cpu(UsageWho::RUSAGE_SELF)? + cpu(UsageWho::RUSAGE_CHILDREN)?;
    fs::write(folder.join("cpu"), used.as_nanos().to_string())?;
    Ok(())
}

fn open(folder: &Path, count: u64, files: u64) -> Result<(), Failure> {
    let paths: Vec<PathBuf> = (0..files).map(|number| folder.join(format!("files/{number}.txt"))).collect();
    let mut buffer = [0; 64];
    for path in paths.iter().cycle().zip(0..count).map(|(path, _)| path) {
        let _ = fs::File::open(path)?.read(&mut buffer)?;
    }
    Ok(())
}

/// Closed with a reset: thousands of connections would otherwise wait for their end and use up the ports.
fn connect(count: u64) -> Result<(), Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    for _ in 0..count {
        let stream = TcpStream::connect(address)?;
        let (accepted, _) = listener.accept()?;
        for end in [&stream, &accepted] {
            setsockopt(&end.as_fd(), sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
        }
    }
    Ok(())
}

fn cpu(who: UsageWho) -> Result<Duration, Failure> {
    let usage = getrusage(who)?;
    let duration = |time: TimeVal| {
        Duration::from_secs(time.tv_sec().unsigned_abs())
            + Duration::from_micros(time.tv_usec().unsigned_abs())
    };
    Ok(duration(usage.user_time()) + duration(usage.system_time()))
}

/// What the loads need: files, and a workspace of crates that depend on nothing from elsewhere.
fn prepare(folder: &Path) -> Result<(), Failure> {
    fs::create_dir_all(folder.join("files"))?;
    for number in 0..FILES {
        fs::write(folder.join(format!("files/{number}.txt")), "one line\n")?;
    }
    let workspace = folder.join("workspace");
    fs::create_dir_all(&workspace)?;
    let members: Vec<String> = (0..CRATES).map(|number| format!("\"part{number}\"")).collect();
    fs::write(
        workspace.join("Cargo.toml"),
        format!("[workspace]\nresolver = \"2\"\nmembers = [{}]\n", members.join(", ")),
    )?;
    for number in 0..CRATES {
        let part = workspace.join(format!("part{number}"));
        fs::create_dir_all(part.join("src"))?;
        let before = match number {
            0 => String::new(),
            _ => format!("part{0} = {{ path = \"../part{0}\" }}\n", number - 1),
        };
        fs::write(
            part.join("Cargo.toml"),
            format!(
                "[package]\nname = \"part{number}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n{before}"
            ),
        )?;
        let source: Vec<String> = (0..40)
            .map(|function| {
                format!(
                    "pub fn work{function}(words: &[String]) -> std::collections::BTreeMap<String, usize> {{\n    \
                     words.iter().enumerate().map(|(at, word)| (format!(\"{{word}}{function}\"), at)).collect()\n}}\n"
                )
            })
            .collect();
        fs::write(part.join("src/lib.rs"), source.concat())?;
        fs::write(part.join("src/main.rs"), "fn main() {}\n")?;
        fs::write(part.join("build.rs"), "fn main() { println!(\"cargo:rerun-if-changed=build.rs\"); }\n")?;
    }
    Ok(())
}

// ---- runs ----------------------------------------------------------------------

/// One run of a load.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// User and system time of the load and all that it started.
    cpu: Duration,
    wall: Duration,
    /// User and system time of the guard itself, its start and its reports included.
    guard_cpu: Duration,
    /// The guard's anonymous memory at its highest, in KiB.
    anonymous: u64,
    /// Memory of the rings at its highest, in KiB. It is the kernel's and shows in the guard because it reads there.
    rings: u64,
    lost: u64,
    events: u64,
}

fn run(guard: Option<&Path>, name: &str, count: u64, folder: &Path) -> Result<Run, Failure> {
    let _ = fs::remove_dir_all(folder.join("target"));
    let _ = fs::remove_file(folder.join("cpu"));
    let reports = folder.join("report");
    let own = env::current_exe()?;
    let words =
        ["load", name, folder.to_str().ok_or("a plain folder")?, &count.to_string()].map(ToOwned::to_owned);
    let mut command = match guard {
        Some(guard) => {
            let mut command = Command::new(guard);
            command.arg("run").arg("--report-dir").arg(&reports).arg("--").arg(&own);
            command
        }
        None => Command::new(&own),
    };
    let children = cpu(UsageWho::RUSAGE_CHILDREN)?;
    let began = Instant::now();
    let mut child =
        command.args(&words).current_dir(folder).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let memory = Memory::of(child.id());
    let mut told = String::new();
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut told)?;
    }
    let status = child.wait()?;
    let wall = began.elapsed();
    let (anonymous, rings) = memory.peak();
    if !folder.join("cpu").exists() || status.code() == Some(125) {
        return Err(format!("{name} ended with {status}\n{told}").into());
    }
    let used = Duration::from_nanos(fs::read_to_string(folder.join("cpu"))?.parse()?);
    let all = cpu(UsageWho::RUSAGE_CHILDREN)?.saturating_sub(children);
    let mut run = Run { cpu: used, wall, ..Run::default() };
    if guard.is_some() {
        let findings: serde_json::Value = serde_json::from_slice(&fs::read(reports.join("findings.json"))?)?;
        run.guard_cpu = all.saturating_sub(used);
        (run.anonymous, run.rings) = (anonymous, rings);
        run.lost = findings["coverage"]["lost_events"].as_u64().ok_or("no count of lost events")?;
        run.events = fs::read_to_string(reports.join("evidence.jsonl"))?.lines().count() as u64;
        fs::remove_dir_all(&reports)?;
    }
    Ok(run)
}

/// Looks at a process every few milliseconds until it is asked for the peaks.
struct Memory {
    is_over: Arc<AtomicBool>,
    peak: Arc<Mutex<(u64, u64)>>,
    looker: thread::JoinHandle<()>,
}

impl Memory {
    fn of(pid: u32) -> Self {
        let (is_over, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new((0, 0))));
        let looker = thread::spawn({
            let (is_over, peak) = (Arc::clone(&is_over), Arc::clone(&peak));
            move || {
                for look in 0_u32.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let now = anonymous(pid);
                    // The mappings take longer to list, and rings only ever grow.
                    let rings = if look % 20 == 0 { rings(pid) } else { 0 };
                    if let Ok(mut peak) = peak.lock() {
                        *peak = (peak.0.max(now), peak.1.max(rings));
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            }
        });
        Self { is_over, peak, looker }
    }

    fn peak(self) -> (u64, u64) {
        self.is_over.store(true, Ordering::Relaxed);
        let _ = self.looker.join();
        self.peak.lock().map(|peak| *peak).unwrap_or_default()
    }
}

fn anonymous(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kib(status.lines().find_map(|line| line.strip_prefix("RssAnon:")))
}

fn rings(pid: u32) -> u64 {
    let maps = fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut is_ring = false;
    let mut sum = 0;
    for line in maps.lines() {
        if line.split(' ').next().is_some_and(|word| word.contains('-')) {
            is_ring = line.contains("bpf-map") || line.contains("bpf_ringbuf");
        } else if is_ring {
            sum += line.strip_prefix("Rss:").map_or(0, |size| kib(Some(size)));
        }
    }
    sum
}

fn kib(text: Option<&str>) -> u64 {
    text.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

// ---- the table -----------------------------------------------------------------

fn bench(wanted: &[String]) -> Result<(), Failure> {
    if !nix::unistd::geteuid().is_root() {
        return Err("watching a job needs root: use `make bench`".into());
    }
    let guard = match env::var_os("GUARD") {
        Some(guard) => PathBuf::from(guard),
        None => {
            env::current_exe()?.parent().and_then(Path::parent).ok_or("a folder above")?.join("edamame-guard")
        }
    };
    let rounds = env::var("GUARD_BENCH_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(ROUNDS);
    let temporary = tempfile::tempdir()?;
    let folder = temporary.path().canonicalize()?;
    prepare(&folder)?;
    let mut runs: BTreeMap<usize, Vec<[Run; 3]>> = BTreeMap::new();
    let mut starts = Vec::new();
    let chosen: Vec<(usize, (&str, u64))> = (0..)
        .zip(LOADS)
        .filter(|(_, (name, _))| wanted.is_empty() || wanted.iter().any(|word| word == name))
        .collect();
    for round in 0..rounds {
        starts.push(run(Some(&guard), "nothing", 0, &folder)?);
        for (at, (name, count)) in &chosen {
            let mut three = [Run::default(); 3];
            // The order turns, so that no variant is always the first after another load.
            for place in 0..3 {
                let which = (place + round) % 3;
                three[which] = run((which == 1).then_some(guard.as_path()), name, *count, &folder)?;
            }
            runs.entry(*at).or_default().push(three);
            eprint!(".");
            std::io::stderr().flush()?;
        }
    }
    eprintln!();
    println!(
        "{rounds} rounds; load, guarded and bare again in turns; medians. CPU is user and system time. {}",
        machine()
    );
    println!();
    println!(
        "| load | bare CPU ms | guarded CPU ms | ratio (lowest to highest) | bare against bare | added µs an act | guard's own CPU ms | anonymous MiB | rings MiB | records | lost |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for (at, rows) in &runs {
        row(LOADS[*at], rows);
    }
    let of = |get: fn(&Run) -> f64| median(starts.iter().map(get).collect());
    println!(
        "\nA job of nothing takes {:.0} ms under the guard, {:.0} ms of CPU; those are in the guard's own CPU above.",
        of(|run| run.wall.as_secs_f64() * 1e3),
        of(|run| run.guard_cpu.as_secs_f64() * 1e3)
    );
    Ok(())
}

fn row((name, count): (&str, u64), rows: &[[Run; 3]]) {
    let of = |which: usize, get: fn(&Run) -> f64| median(rows.iter().map(|row| get(&row[which])).collect());
    let milliseconds = |run: &Run| run.cpu.as_secs_f64() * 1e3;
    let bare = |row: &[Run; 3]| (row[0].cpu + row[2].cpu).as_secs_f64() / 2.0;
    let ratios: Vec<f64> = rows.iter().map(|row| row[1].cpu.as_secs_f64() / bare(row)).collect();
    let twice: Vec<f64> =
        rows.iter().map(|row| row[2].cpu.as_secs_f64() / row[0].cpu.as_secs_f64()).collect();
    #[expect(clippy::cast_precision_loss, reason = "counts of some thousands")]
    let added =
        median(rows.iter().map(|row| (row[1].cpu.as_secs_f64() - bare(row)) * 1e6 / count as f64).collect());
    let shown = |ratios: &[f64]| {
        let lowest = ratios.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = ratios.iter().copied().fold(0.0, f64::max);
        format!("{:.3} ({lowest:.2} to {highest:.2})", median(ratios.to_vec()))
    };
    let most = |get: fn(&Run) -> u64| rows.iter().map(|row| get(&row[1])).max().unwrap_or(0);
    #[expect(clippy::cast_precision_loss, reason = "memory in KiB")]
    let mebibytes = |kib: u64| kib as f64 / 1024.0;
    println!(
        "| {name} × {count} | {:.0} | {:.0} | {} | {} | {} | {:.0} | {:.1} | {:.1} | {} | {} |",
        median(rows.iter().map(|row| bare(row) * 1e3).collect()),
        of(1, milliseconds),
        shown(&ratios),
        shown(&twice),
        if count > 1 { format!("{added:.2}") } else { "–".to_owned() },
        of(1, |run| run.guard_cpu.as_secs_f64() * 1e3),
        mebibytes(most(|run| run.anonymous)),
        mebibytes(most(|run| run.rings)),
        most(|run| run.events),
        most(|run| run.lost),
    );
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(0.0)
}

fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!(
        "Linux {}, {} processors, load {} at the end.",
        kernel.trim(),
        thread::available_parallelism().map_or(0, std::num::NonZero::get),
        load.split(' ').next().unwrap_or_default()
    )
}
