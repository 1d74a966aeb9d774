//! Shows the guard at work: a job installs a package that steals a credential, once poisoned and once honest.
//!
//! Run it with `make demo`. It makes a network of its own, so nothing leaves the machine, and checks the guard's report
//! against what it knows to have happened. Names, paths, port and secret are new in each run.

mod job;
mod network;
mod verdict;

use std::fs;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

use job::{Job, Manager, Package, Plan};
use network::{Network, Sink};
use verdict::{Claim, Findings};

/// Runs a job with a poisoned package under the guard, then the same job with an honest one, and checks both reports.
#[derive(Debug, Parser)]
struct Options {
    /// Repeats an earlier run's names, paths, port and secret
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Who installs the package [default: the first one that is installed]
    #[arg(long)]
    manager: Option<Manager>,
    /// The guard to try [default: the one built beside this program]
    #[arg(long, value_name = "FILE")]
    guard: Option<PathBuf>,
    /// Where the two reports go
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/demo-report"))]
    report_dir: PathBuf,
    /// Runs both jobs with nobody watching, to see that the theft is real
    #[arg(long)]
    unguarded: bool,
}

/// How long a job may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(300);
/// What the guard exits with when a finding fails the job.
const FAILED: i32 = 86;
/// How far the thief hides below the job: npm, its shell and node.
const ANCESTORS: usize = 3;

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(claims) if claims.iter().all(|claim| claim.miss.is_none()) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("demo: error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<Vec<Claim>> {
    if !Uid::effective().is_root() {
        return Err(io::Error::other(
            "only root can make a network and watch the kernel; `make demo` asks for it through sudo",
        ));
    }
    let guard = if options.unguarded { None } else { Some(find_guard(options)?) };
    let installed = Manager::installed();
    let manager = match options.manager {
        Some(wanted) if installed.contains(&wanted) => wanted,
        Some(wanted) => return Err(io::Error::other(format!("{} is not installed", wanted.name()))),
        None => {
            *installed.first().ok_or_else(|| io::Error::other("none of npm, pip and make is installed"))?
        }
    };

    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    let mut random = fastrand::Rng::with_seed(seed);
    let network = Network::enter(Ipv4Addr::new(203, 0, 113, random.u8(1..=254)))?;
    let sink = Sink::start(SocketAddrV4::new(network.address, random.u16(2000..60000)))?;
    let plan = Plan::random(&mut random, manager, sink.address);
    println!("demo: seed {seed} (`--seed {seed}` repeats this run)");
    println!(
        "demo: {} installs `{}`; the credential is ~/{}; the thief's server is {}",
        manager.name(),
        plan.package,
        plan.credential.store,
        sink.address
    );

    let mut stage = Stage { options, guard, network, sink, plan, random };
    let mut claims = stage.play(Package::Poisoned, "attack")?;
    claims.extend(stage.play(Package::Honest, "honest")?);
    conclude(options, &claims);
    Ok(claims)
}

/// What both acts share.
struct Stage<'a> {
    options: &'a Options,
    guard: Option<PathBuf>,
    network: Network,
    sink: Sink,
    plan: Plan,
    random: fastrand::Rng,
}

impl Stage<'_> {
    fn play(&mut self, package: Package, folder: &str) -> io::Result<Vec<Claim>> {
        println!();
        match package {
            Package::Poisoned => println!("demo: the job, with a poisoned package"),
            Package::Honest => println!("demo: the same job, with the honest package"),
        }
        let name = format!("{:08x}", self.random.u32(..));
        let root = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempdir()?;
        let job = Job::make(root.path(), &self.plan, package)?;
        let Some(guard) = &self.guard else {
            let status = self.watch(job.alone())?;
            return Ok(vec![self.delivery(package), ended(package, status, 0)]);
        };
        let report = self.options.report_dir.join(folder);
        if report.exists() {
            fs::remove_dir_all(&report)?;
        }
        fs::create_dir_all(&report)?;
        let status = self.watch(job.under(guard, &report))?;
        hand_over(&self.options.report_dir)?;
        let mut claims = vec![self.delivery(package)];
        match package {
            Package::Poisoned => {
                claims.push(ended(package, status, FAILED));
                claims.extend(self.accuse(&job, &report)?);
            }
            Package::Honest => {
                claims.push(ended(package, status, 0));
                claims.push(acquit(&report));
            }
        }
        Ok(claims)
    }

    /// Whether the sink got what it should have: all of the secret, or nothing at all.
    fn delivery(&self, package: Package) -> Claim {
        let received = self.sink.take();
        let seen = || format!("the server received {} bytes", received.len());
        match package {
            Package::Poisoned => {
                let secrets = &self.plan.credential.secrets;
                let is_stolen = secrets.iter().all(|secret| verdict::contains(&received, secret.as_bytes()));
                let text = format!("the theft was real: {} received the secret", self.sink.address);
                Claim::new(text, is_stolen, seen)
            }
            Package::Honest => Claim::new("the honest package sent nothing", received.is_empty(), seen),
        }
    }

    fn accuse(&self, job: &Job, report: &Path) -> io::Result<Vec<Claim>> {
        let credential = job.credential.to_string_lossy();
        let sink = self.sink.address.to_string();
        let findings = Findings::read(report);
        let claim = |text: String, subject: &str, ancestors| match &findings {
            Ok(findings) => Claim::new(text, findings.has_failing(subject, ancestors), || findings.listing()),
            Err(error) => Claim { text, miss: Some(error.clone()) },
        };
        let leaks = verdict::leaks(report, &self.plan.credential.secrets)?;
        Ok(vec![
            claim(
                format!("a failing finding names {credential}, with {ANCESTORS} ancestors or more"),
                &credential,
                ANCESTORS,
            ),
            claim(format!("a failing finding names {sink}"), &sink, 0),
            Claim::new("no file of the report holds the secret", leaks.is_empty(), || leaks.join(", ")),
        ])
    }

    /// Waits for a job and leaves nothing of it running.
    fn watch(&self, mut command: Command) -> io::Result<ExitStatus> {
        let mut child = command
            .spawn()
            .map_err(|error| io::Error::other(format!("{}: {error}", command.get_program().display())))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
        let started = Instant::now();
        let mut is_asked_to_stop = false;
        let status = loop {
            if let Some(status) = child.try_wait()? {
                break status;
            }
            if started.elapsed() > PATIENCE && !is_asked_to_stop {
                eprintln!("demo: the job takes longer than {} s; stopping it", PATIENCE.as_secs());
                kill(pid, Signal::SIGTERM)?;
                is_asked_to_stop = true;
            }
            if started.elapsed() > PATIENCE + Duration::from_secs(15) {
                child.kill()?;
            }
            thread::sleep(Duration::from_millis(20));
        };
        let left = self.network.clear()?;
        if left > 0 {
            eprintln!("demo: ended {left} processes that the job left behind");
        }
        Ok(status)
    }
}

fn ended(package: Package, status: ExitStatus, expected: i32) -> Claim {
    let which = match package {
        Package::Poisoned => "poisoned",
        Package::Honest => "honest",
    };
    let text = format!("the {which} job exits {expected}");
    Claim::new(text, status.code() == Some(expected), || status.to_string())
}

fn acquit(report: &Path) -> Claim {
    let text = "the honest job has no finding";
    match Findings::read(report) {
        Ok(findings) => Claim::new(text, findings.count() == 0, || findings.listing()),
        Err(error) => Claim { text: text.to_owned(), miss: Some(error) },
    }
}

fn conclude(options: &Options, claims: &[Claim]) {
    println!();
    for Claim { text, miss } in claims {
        match miss {
            None => println!("demo: yes: {text}"),
            Some(seen) => println!("demo: NO:  {text}\n    {seen}"),
        }
    }
    if !options.unguarded {
        let folder = options.report_dir.display();
        println!("demo: reports: {folder}/attack and {folder}/honest");
    }
    let missed = claims.iter().filter(|claim| claim.miss.is_some()).count();
    match (missed, options.unguarded) {
        (0, true) => println!("demo: passed: with nobody watching, the theft works and the job is green"),
        (0, false) => println!("demo: passed: the guard named the theft and let the honest job pass"),
        _ => println!("demo: failed: {missed} of {} claims do not hold", claims.len()),
    }
}

fn find_guard(options: &Options) -> io::Result<PathBuf> {
    let guard = match &options.guard {
        Some(path) => path.clone(),
        // An example lies in `examples/`, one folder below the programs of the same build.
        None => std::env::current_exe()?.with_file_name("../edamame-guard"),
    };
    guard.canonicalize().map_err(|error| {
        io::Error::other(format!("no guard at {}: {error}; `make demo` builds it", guard.display()))
    })
}

/// Gives the reports to the person who called sudo.
fn hand_over(path: &Path) -> io::Result<()> {
    let id = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let (Some(user), Some(group)) = (id("SUDO_UID"), id("SUDO_GID")) else { return Ok(()) };
    let mut paths = vec![path.to_owned()];
    while let Some(path) = paths.pop() {
        if fs::symlink_metadata(&path)?.is_dir() {
            for entry in fs::read_dir(&path)? {
                paths.push(entry?.path());
            }
        }
        lchown(&path, Some(user), Some(group))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a job with nobody watching and returns what the sink got.
    fn run_alone(manager: Manager, package: Package) -> (Plan, Vec<u8>) {
        let mut random = fastrand::Rng::new();
        let sink = Sink::start(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        let plan = Plan::random(&mut random, manager, sink.address);
        let root = tempfile::tempdir().unwrap();
        let job = Job::make(root.path(), &plan, package).unwrap();
        let output = job.alone().output().unwrap();
        let talk = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{} {package:?}: {}\n{talk}", manager.name(), output.status);
        (plan, sink.take())
    }

    #[test]
    fn the_poisoned_package_steals_the_credential_with_each_manager() {
        for manager in Manager::installed() {
            let (plan, received) = run_alone(manager, Package::Poisoned);
            for secret in &plan.credential.secrets {
                assert!(verdict::contains(&received, secret.as_bytes()), "{}: {received:?}", manager.name());
            }
        }
    }

    #[test]
    fn the_honest_package_sends_nothing_with_each_manager() {
        for manager in Manager::installed() {
            let (_, received) = run_alone(manager, Package::Honest);
            assert!(received.is_empty(), "{}: {received:?}", manager.name());
        }
    }

    #[test]
    fn one_seed_makes_one_plan() {
        let plan = |seed| {
            let sink = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1);
            format!("{:?}", Plan::random(&mut fastrand::Rng::with_seed(seed), Manager::Make, sink))
        };
        assert_eq!(plan(7), plan(7));
        assert_ne!(plan(7), plan(8));
    }

    #[test]
    fn finds_a_secret_as_it_is_and_in_base64_at_any_offset() {
        let secrets = ["s3cr3t-Zk9+/value".to_owned()];
        let is_found = |text: &str| {
            let folder = tempfile::tempdir().unwrap();
            fs::create_dir(folder.path().join("below")).unwrap();
            fs::write(folder.path().join("below/file"), text).unwrap();
            !verdict::leaks(folder.path(), &secrets).unwrap().is_empty()
        };
        assert!(is_found("key = s3cr3t-Zk9+/value;"));
        // What `base64` prints for the secret after "", "a" and "ab", with "\n" behind it.
        assert!(is_found("czNjcjN0LVprOSsvdmFsdWUK"));
        assert!(is_found("YXMzY3IzdC1aazkrL3ZhbHVlCg=="));
        assert!(is_found("YWJzM2NyM3QtWms5Ky92YWx1ZQo="));
        assert!(!is_found("key = ***; czNjcjN0LVprOSsv"));
    }

    #[test]
    fn a_finding_counts_when_it_fails_and_is_about_the_very_thing() {
        let folder = tempfile::tempdir().unwrap();
        let findings = |fails: bool, object: &str| {
            let finding = serde_json::json!({
                "fails": fails, "object": object, "title": "", "process": {"ancestry": [1, 2, 3]}
            });
            let report = serde_json::json!({"findings": [finding]});
            fs::write(folder.path().join("findings.json"), report.to_string()).unwrap();
            Findings::read(folder.path()).unwrap()
        };
        assert!(findings(true, "203.0.113.7:80").has_failing("203.0.113.7:80", 3));
        assert!(!findings(true, "203.0.113.7:80").has_failing("203.0.113.7:80", 4));
        assert!(!findings(true, "203.0.113.7:8080").has_failing("203.0.113.7:80", 3));
        assert!(!findings(true, "/home/a/.aws/credentials-old").has_failing("/home/a/.aws/credentials", 3));
        assert!(!findings(false, "203.0.113.7:80").has_failing("203.0.113.7:80", 3));
    }
}
