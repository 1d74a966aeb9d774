//! The recorder on the kernel at hand. Without the rights, each test says so and passes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use edamame_guard::event::{Activity, Event, ExitStatus, File, Launch, Plane, ProcessKey, Reach, Transport};
use edamame_guard::sensors::Sensor as _;
use edamame_guard::sensors::ebpf::{Ebpf, Options, SensorError};

/// Scope is "children of this process", which all tests share: one at a time.
static TURN: Mutex<()> = Mutex::new(());

struct Watch {
    sensor: Ebpf,
    took: Duration,
    _turn: MutexGuard<'static, ()>,
}

fn watch(test: &str, options: &Options) -> Option<Watch> {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let before = Instant::now();
    match Ebpf::start(options) {
        Ok(sensor) => Some(Watch { sensor, took: before.elapsed(), _turn: turn }),
        Err(SensorError::NotPermitted | SensorError::NoTypes | SensorError::NoCgroup) => {
            println!("{test} skipped: needs root and BPF");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Starts the recorder under the name of the running test, or leaves the test.
macro_rules! watch {
    ($test:literal) => {
        watch!($test, &Options::default())
    };
    ($test:literal, $options:expr) => {
        match watch($test, $options) {
            Some(watch) => watch,
            None => return,
        }
    };
}

impl Watch {
    /// Runs a command to its end and tells what it and its descendants did.
    fn run(&mut self, command: &mut Command) -> (u32, Vec<Event>) {
        let child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts");
        let pid = child.id();
        let output = child.wait_with_output().expect("the command ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        (pid, self.sensor.drain(true))
    }

    fn perl(&mut self, script: &str, arguments: &[&str]) -> (u32, Vec<Event>) {
        self.run(Command::new("perl").arg("-e").arg(script).args(arguments))
    }
}

fn launches(events: &[Event]) -> Vec<&Launch> {
    events
        .iter()
        .filter_map(|event| if let Activity::Launch(launch) = &event.activity { Some(launch) } else { None })
        .collect()
}

fn lost(events: &[Event], of: Plane) -> u64 {
    events
        .iter()
        .map(|event| match event.activity {
            Activity::Lost { plane, count, .. } if plane == of => count,
            _ => 0,
        })
        .sum()
}

fn of(event: &Event) -> Option<Plane> {
    event.activity.plane()
}

#[test]
fn every_hook_is_proved_before_the_start_returns() {
    let watch = watch!("every_hook_is_proved_before_the_start_returns");
    let took = watch.took;
    println!("started in {took:?}, {} KiB resident", resident_kib());
    let sight = watch.sensor.sight();
    println!("{sight:#?}");
    assert!(took < Duration::from_millis(500), "{took:?}");
    assert_eq!((sight.process, sight.file, sight.egress), (Reach::Full, Reach::Full, Reach::Full));
    for (hook, is_seen) in &sight.hooks {
        assert!(*is_seen || ["connect6", "sendmsg6", "dns-answer"].contains(&hook.as_str()), "{hook}");
    }
}

fn resident_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("/proc is there");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is there");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn canaries_and_the_guard_itself_stay_out() {
    let mut watch = watch!("canaries_and_the_guard_itself_stay_out");
    fs::read("/etc/hostname").ok();
    assert_eq!(watch.sensor.drain(true), []);
}

#[test]
fn arguments_arrive_as_they_are() {
    let mut watch = watch!("arguments_arrive_as_they_are");
    let (pid, events) = watch.run(
        Command::new("/bin/true")
            .args(["", "two words", "", "line\nbreak"])
            .arg(std::ffi::OsStr::from_bytes(b"\xff\xfebytes")),
    );
    let launch = launches(&events)[0];
    assert_eq!(launch.arguments, ["/bin/true", "", "two words", "", "line\nbreak", "\\xff\\xfebytes"]);
    assert!(!launch.arguments_truncated);
    let real = fs::canonicalize("/bin/true").expect("true is there");
    let metadata = fs::metadata(&real).expect("true is there");
    assert_eq!(Path::new(&launch.executable.path), real);
    assert_eq!((launch.executable.device, launch.executable.inode), (metadata.dev(), metadata.ino()));
    let changed = launch.executable.changed.expect("the kernel knows it").0;
    assert_eq!(changed, u64::try_from(metadata.ctime() * 1_000_000_000 + metadata.ctime_nsec()).unwrap());
    assert_eq!(Path::new(&launch.directory), std::env::current_dir().expect("a folder"));
    assert_eq!(launch.uid, nix::unistd::geteuid().as_raw());
    assert!(
        events.iter().any(|event| event.actor.pid == pid
            && event.activity == Activity::Exit { status: ExitStatus::Code(0) })
    );
}

#[test]
fn ten_thousand_arguments_arrive_and_more_are_marked_as_cut() {
    let mut watch = watch!("ten_thousand_arguments_arrive_and_more_are_marked_as_cut");
    let (_, events) = watch.run(Command::new("/bin/true").args((0..10_000).map(|number| number.to_string())));
    let launch = launches(&events)[0];
    assert_eq!((launch.arguments.len(), launch.arguments_truncated), (10_001, false));
    assert_eq!(launch.arguments[10_000], "9999");

    let (_, events) = watch.run(Command::new("/bin/true").args((0..1_000).map(|_| "x".repeat(100))));
    let launch = launches(&events)[0];
    assert!(launch.arguments_truncated);
    assert_eq!(launch.arguments.iter().map(|argument| argument.len() + 1).sum::<usize>() - 1, 65_536);
}

#[test]
fn only_the_named_variables_are_kept() {
    let names = ["GITHUB_ACTION", "A_NAME_OF_EXACTLY_FORTY_SEVEN_BYTES____________", "CI"];
    let options =
        Options { environment: names.iter().map(ToString::to_string).collect(), ..Options::default() };
    let mut watch = watch!("only_the_named_variables_are_kept", &options);
    let (_, events) = watch.run(
        Command::new("/bin/true")
            .env("GITHUB_ACTION", "build=1")
            .env("GITHUB_ACTION_PATH", "no")
            .env("SECRET", "no")
            .env("HUGE", "CI=no ".repeat(2_000))
            .env("CI", "")
            .env(names[1], "long name"),
    );
    let expected = [("GITHUB_ACTION", "build=1"), (names[1], "long name"), ("CI", "")];
    let expected: BTreeMap<_, _> =
        expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    assert_eq!(launches(&events)[0].environment, expected);
}

#[test]
fn a_script_is_told_beside_its_interpreter() {
    let mut watch = watch!("a_script_is_told_beside_its_interpreter");
    let folder = tempfile::tempdir().expect("a folder");
    let script = folder.path().join("run me");
    fs::write(&script, "#!/bin/sh\nexit 0\n").expect("a script");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("an executable script");
    let (_, events) = watch.run(Command::new("sh").arg("-c").arg("exec './run me' one").current_dir(&folder));
    let last = *launches(&events).last().expect("the script");
    assert_eq!(last.script.as_ref().map(|file| Path::new(&file.path)), Some(script.as_path()));
    assert_eq!(Path::new(&last.executable.path), fs::canonicalize("/bin/sh").expect("sh is there"));
    assert_eq!(last.arguments, ["/bin/sh", "./run me", "one"]);
    assert_eq!(launches(&events)[0].script, None);
}

#[test]
fn orphans_and_new_sessions_stay_in_the_family() {
    let mut watch = watch!("orphans_and_new_sessions_stay_in_the_family");
    let folder = tempfile::tempdir().expect("a folder");
    let flag = folder.path().join("flag");
    let script = r#"
        use POSIX;
        exit 0 if fork; POSIX::setsid(); exit 0 if fork;
        close STDOUT; close STDERR; select(undef, undef, undef, 0.1);
        open(my $file, '>', $ARGV[0]); exec "/bin/true", "orphan";
    "#;
    let (root, mut events) = watch.perl(script, &[flag.to_str().expect("plain")]);
    let deadline = Instant::now() + Duration::from_secs(5);
    while !launches(&events).iter().any(|launch| launch.arguments.last().is_some_and(|last| last == "orphan"))
    {
        assert!(Instant::now() < deadline, "{events:#?}");
        std::thread::sleep(Duration::from_millis(20));
        events.extend(watch.sensor.drain(true));
    }
    let mut parents = BTreeMap::new();
    for event in &events {
        if let Activity::Fork { child } = event.activity {
            parents.insert(child, event.actor);
        }
    }
    let orphan = events
        .iter()
        .find(
            |event| matches!(&event.activity, Activity::Launch(launch) if launch.arguments[0] == "/bin/true"),
        )
        .expect("the orphan");
    let first = parents[&parents[&orphan.actor]];
    assert_eq!(first.pid, root, "two generations up");
    assert_eq!(parents[&first].pid, std::process::id());
    assert!(events.iter().any(|event| event.actor == orphan.actor
        && matches!(&event.activity, Activity::Open { file, access } if Path::new(&file.path) == flag && access.create)));
}

#[test]
fn threads_are_no_processes_and_signals_are_told() {
    let mut watch = watch!("threads_are_no_processes_and_signals_are_told");
    // This test's own threads: nothing in scope, and no fork either.
    std::thread::spawn(|| ()).join().expect("a thread");
    let mut child = Command::new("sleep").arg("60").spawn().expect("sleep starts");
    std::thread::sleep(Duration::from_millis(50));
    child.kill().expect("it can be killed");
    child.wait().expect("it ends");
    let events = watch.sensor.drain(true);
    let forks = events.iter().filter(|event| matches!(event.activity, Activity::Fork { .. })).count();
    assert_eq!(forks, 1);
    assert!(events.iter().any(|event| event.activity == Activity::Exit { status: ExitStatus::Signal(9) }));
}

#[test]
fn an_exec_of_a_second_thread_keeps_the_process() {
    let mut watch = watch!("an_exec_of_a_second_thread_keeps_the_process");
    let script = "import threading, os\nt = threading.Thread(target=lambda: os.execv('/bin/true', ['true', 'thread']))\nt.start()\nt.join()";
    if Command::new("python3").arg("--version").output().is_err() {
        println!("an_exec_of_a_second_thread_keeps_the_process skipped: needs python3");
        return;
    }
    watch.sensor.drain(true);
    let (pid, events) = watch.run(Command::new("python3").arg("-c").arg(script));
    let ours: Vec<&Event> = events
        .iter()
        .filter(|event| event.actor.pid == pid)
        .filter(|event| matches!(event.activity, Activity::Launch(_) | Activity::Exit { .. }))
        .collect();
    assert!(ours.iter().all(|event| event.actor == ours[0].actor));
    let [.., Activity::Launch(last), Activity::Exit { status }] =
        &ours.iter().map(|event| event.activity.clone()).collect::<Vec<_>>()[..]
    else {
        panic!("a launch and one exit at the end: {ours:#?}");
    };
    assert_eq!(
        (last.arguments.as_slice(), *status),
        (&["true", "thread"].map(String::from)[..], ExitStatus::Code(0))
    );
    let exits = ours.iter().filter(|event| matches!(event.activity, Activity::Exit { .. })).count();
    assert_eq!(exits, 1);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn every_way_to_open_gives_the_same_object() {
    let mut watch = watch!("every_way_to_open_gives_the_same_object");
    let folder = tempfile::tempdir().expect("a folder");
    let real = folder.path().canonicalize().expect("a real folder");
    fs::create_dir(real.join("below")).expect("a folder");
    fs::write(real.join("below/file"), "x").expect("a file");
    std::os::unix::fs::symlink("below/file", real.join("link")).expect("a link");
    let script = r"
        my $how = pack('QQQ', 0, 0, 0);
        for my $path ('link', './below/../below//file', $ARGV[0]) {
            my $copy = $path;
            syscall(2, $copy, 0) >= 0 or die $!;
            syscall(257, -100, $copy, 0) >= 0 or die $!;
            syscall(437, -100, $copy, $how, 24) >= 0 or die $!;
        }
        my $file = 'below/file'; syscall(85, $file, 0600) >= 0 or die $!;
        my $nothing = 'missing'; syscall(2, $nothing, 0);
        my $path_only = 'link'; syscall(257, -100, $path_only, 010000000);
        my $new = 'new'; syscall(85, $new, 0600) >= 0 or die $!;
        my $folder = 'below'; syscall(257, -100, $folder, 0200000) >= 0 or die $!;
    ";
    let file = real.join("below/file");
    let (pid, events) = watch.run(Command::new("perl").arg("-e").arg(script).arg(&file).current_dir(&real));
    let metadata = fs::metadata(&file).expect("the file");
    let opens: Vec<_> = events
        .iter()
        .filter_map(|event| match &event.activity {
            Activity::Open { file, access } if Path::new(&file.path).starts_with(&real) => {
                assert_eq!(event.actor.pid, pid);
                Some((file, access))
            }
            _ => None,
        })
        .collect();
    // A name that was only resolved gives nothing to read.
    let (opens, resolved): (Vec<_>, Vec<_>) =
        opens.into_iter().partition(|(_, access)| access.read || access.write || access.directory);
    assert_eq!(resolved.len(), 1, "{resolved:#?}");
    assert_eq!(opens.len(), 12, "{opens:#?}");
    for (opened, access) in &opens[..10] {
        assert_eq!(Path::new(&opened.path), file);
        assert_eq!((opened.device, opened.inode), (metadata.dev(), metadata.ino()));
        assert!(!access.create && !access.directory && !opened.requested);
    }
    assert!(opens[0].1.read && !opens[0].1.write);
    assert!(opens[9].1.write && !opens[9].1.read);
    assert!(opens[10].1.create && opens[10].0.path.ends_with("/new"));
    assert!(opens[11].1.directory && opens[11].0.path.ends_with("/below"));
}

/// Where nobody is deceived by another name it is not asked for, and costs nothing; what is written is told wherever it lies.
#[test]
fn in_a_familiar_folder_another_name_is_told_of_what_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let here = folder.path().canonicalize().expect("a folder");
    let options = Options { familiar: vec![here.clone()], ..Options::default() };
    let mut watch = watch!("in_a_familiar_folder_another_name_is_told_of_what_is_written", &options);
    let strange = tempfile::tempdir().expect("a folder");
    let outside = strange.path().canonicalize().expect("a folder").join("object");
    fs::create_dir_all(here.join("a/b")).expect("folders");
    let inside = here.join("a/b/object");
    for file in [&inside, &outside] {
        fs::write(file, "x").expect("written");
    }
    let link = |to: &Path, name: &str| std::os::unix::fs::symlink(to, here.join(name)).expect("a link");
    link(&inside, "near");
    link(&outside, "far");
    link(&here.join("a"), "folder");
    let script = r#"chdir $ARGV[0];
        for my $name ("near", "far") { open(my $file, "<", $name) or die "$name: $!"; }
        opendir(my $folder, "folder");
        open(my $file, ">>", "near");"#;
    let (pid, events) = watch.perl(script, &[&here.to_string_lossy()]);
    let asked: Vec<(&Path, Option<&str>)> = events
        .iter()
        .filter(|event| event.actor.pid == pid)
        .filter_map(|event| match &event.activity {
            Activity::Open { file, .. } => Some((Path::new(&file.path), file.asked.as_deref())),
            _ => None,
        })
        .filter(|(path, _)| path.starts_with(&here) || *path == outside)
        .collect();
    let folder = here.join("a");
    let wanted: [(&Path, Option<&str>); 4] =
        [(&inside, None), (&outside, Some("far")), (&folder, Some("folder")), (&inside, Some("near"))];
    assert_eq!(asked, wanted);
}

#[test]
fn another_name_of_an_object_is_told_beside_its_own() {
    let mut watch = watch!("another_name_of_an_object_is_told_beside_its_own");
    let folder = tempfile::tempdir().expect("a folder");
    let real = folder.path().canonicalize().expect("a folder").join("object");
    fs::write(&real, "x").expect("written");
    std::os::unix::fs::symlink(&real, folder.path().join("link")).expect("a link");
    let script = r#"chdir $ARGV[0]; my $here = $ARGV[0];
        for my $name ("link", "$here/link", "/proc/self/root$here/object", "object", "$here/./object", "../" x 40 . $here . "/object") {
            open(my $file, "<", $name) or die "$name: $!";
        }
        open(my $file, ">>", "x/../object") if mkdir "x";"#;
    let here = real.parent().expect("a folder").to_string_lossy().into_owned();
    let (pid, events) = watch.perl(script, &[&here]);
    let asked: Vec<Option<String>> = events
        .iter()
        .filter(|event| event.actor.pid == pid)
        .filter_map(|event| match &event.activity {
            Activity::Open { file, .. } if Path::new(&file.path) == real => Some(file.asked.clone()),
            _ => None,
        })
        .collect();
    let wanted = [
        Some("link".to_owned()),
        Some(format!("{here}/link")),
        Some(format!("/proc/self/root{here}/object")),
        None,
        None,
        None,
        Some("x/../object".to_owned()),
    ];
    assert_eq!(asked, wanted);
}

#[test]
fn a_path_that_is_too_deep_says_so() {
    let mut watch = watch!("a_path_that_is_too_deep_says_so");
    let folder = tempfile::tempdir().expect("a folder");
    let script = r"
        chdir $ARGV[0];
        for (1 .. 30) { my $name = 'd' x 200; mkdir $name; chdir $name or die $!; }
        open(my $file, '>', 'bottom') or die $!;
    ";
    let (_, events) = watch.perl(script, &[folder.path().to_str().expect("plain")]);
    let path = events
        .iter()
        .find_map(|event| match &event.activity {
            Activity::Open { file, .. } if file.path.ends_with("/bottom") => Some(file.path.clone()),
            _ => None,
        })
        .expect("the open");
    assert!(path.starts_with("…/ddd") && path.len() > 3_000, "{path}");
}

#[cfg(target_arch = "x86_64")]
#[test]
fn renames_and_removals_are_told_when_they_succeed() {
    let mut watch = watch!("renames_and_removals_are_told_when_they_succeed");
    let folder = tempfile::tempdir().expect("a folder");
    let real = folder.path().canonicalize().expect("a real folder");
    fs::create_dir(real.join("below")).expect("a folder");
    fs::create_dir(real.join("empty")).expect("a folder");
    std::os::unix::fs::symlink("below", real.join("alias")).expect("a link");
    fs::write(real.join("below/1"), "x").expect("a file");
    // A link that was never followed must be written to (its access time), and the recorder
    // resolves from the cache only.
    std::thread::sleep(Duration::from_millis(50));
    let script = r"
        my ($a, $b, $c, $d, $e, $empty, $none) =
            ('alias/1', 'below/../2', './3', '4', '5', 'empty', 'none');
        syscall(82, $a, $b) == 0 or die $!;
        opendir(my $here, '.'); my $fd = fileno($here);
        syscall(264, $fd, $b, -100, $c) == 0 or die $!;
        syscall(316, -100, $c, $fd, $d, 0) == 0 or die $!;
        syscall(87, $none);
        syscall(87, $d) == 0 or die $!;
        open(my $file, '>', $e); syscall(263, $fd, $e, 0) == 0 or die $!;
        syscall(84, $empty) == 0 or die $!;
    ";
    let (_, events) = watch.run(Command::new("perl").arg("-e").arg(script).current_dir(&real));
    let at = |name: &str| real.join(name).to_str().expect("plain").to_owned();
    let changes: Vec<String> = events
        .iter()
        .filter_map(|event| match &event.activity {
            Activity::Rename { from, to } => {
                assert!(from.requested && to.requested);
                Some(format!("{} > {}", from.path, to.path))
            }
            Activity::Delete { file } => Some(file.path.clone()),
            _ => None,
        })
        .collect();
    let expected = [
        format!("{} > {}", at("below/1"), at("2")),
        format!("{} > {}", at("2"), at("3")),
        format!("{} > {}", at("3"), at("4")),
        at("4"),
        at("5"),
        at("empty"),
    ];
    assert_eq!(changes, expected);
}

#[test]
fn connections_and_datagrams_are_told_with_their_address() {
    let mut watch = watch!("connections_and_datagrams_are_told_with_their_address");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let ports = [listener.local_addr().expect("bound").port(), udp.local_addr().expect("bound").port()];
    let script = r"
        use Socket qw(:DEFAULT inet_pton AF_INET6 pack_sockaddr_in6);
        my ($tcp, $udp) = @ARGV;
        my $v4 = pack_sockaddr_in($tcp, inet_aton('127.0.0.1'));
        socket(my $a, PF_INET, SOCK_STREAM, 0); connect($a, $v4) or die $!;
        if (socket(my $b, AF_INET6, SOCK_STREAM, 0)) {
            connect($b, pack_sockaddr_in6($tcp, inet_pton(AF_INET6, '::1')));
            socket(my $c, AF_INET6, SOCK_STREAM, 0);
            connect($c, pack_sockaddr_in6($tcp, inet_pton(AF_INET6, '::ffff:127.0.0.1')));
        }
        socket(my $d, PF_INET, SOCK_DGRAM, 0);
        send($d, 'x', 0, pack_sockaddr_in($udp, inet_aton('127.0.0.1'))) for 1 .. 5;
        if (socket(my $e, AF_INET6, SOCK_DGRAM, 0)) {
            send($e, 'x', 0, pack_sockaddr_in6($udp, inet_pton(AF_INET6, '::1'))) for 1 .. 5;
        }
    ";
    let (pid, events) = watch.perl(script, &[&ports[0].to_string(), &ports[1].to_string()]);
    let seen: Vec<(bool, SocketAddr, Transport)> = events
        .iter()
        .filter(|event| event.actor.pid == pid)
        .filter_map(|event| match event.activity {
            Activity::Connect { to, transport } => Some((true, to, transport)),
            Activity::Send { to, transport } => Some((false, to, transport)),
            _ => None,
        })
        .collect();
    let at = |address: &str, port: u16| SocketAddr::new(address.parse().expect("an address"), port);
    let (tcp, udp) = (ports[0], ports[1]);
    let mut expected = vec![(true, at("127.0.0.1", tcp), Transport::Tcp)];
    if watch.sensor.sight().hooks["connect6"] {
        expected.push((true, at("::1", tcp), Transport::Tcp));
        expected.push((true, at("127.0.0.1", tcp), Transport::Tcp));
    }
    expected.push((false, at("127.0.0.1", udp), Transport::Udp));
    if watch.sensor.sight().hooks["sendmsg6"] {
        expected.push((false, at("::1", udp), Transport::Udp));
    }
    assert_eq!(seen, expected);
}

#[test]
fn answers_of_a_name_server_are_told() {
    let mut watch = watch!("answers_of_a_name_server_are_told");
    let Ok(server) = UdpSocket::bind((Ipv4Addr::new(127, 83, 53, 84), 53)) else {
        println!("answers_of_a_name_server_are_told skipped: port 53 is taken");
        return;
    };
    let client = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let mut message = b"\0\x01\x81\x80\0\x01\0\x03\0\0\0\0\x03WwW\x07example\0\0\x01\0\x01".to_vec();
    message.extend(b"\xc0\x0c\0\x05\0\x01\0\0\0\x3c\0\x06\x03cdn\xc0\x10");
    message.extend(b"\xc0\x2d\0\x01\0\x01\0\0\0\x3c\0\x04\xcb\0\x71\x07");
    message.extend(b"\xc0\x2d\0\x1c\0\x01\0\0\0\x3c\0\x10\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07");
    server.send_to(&message, client.local_addr().expect("bound")).expect("loopback takes it");
    let mut all = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(2);
    while all.is_empty() && Instant::now() < deadline {
        all = watch.sensor.drain(true);
    }
    let addresses =
        vec!["203.0.113.7".parse().expect("an address"), "2001:db8::7".parse().expect("an address")];
    let answered = server.local_addr().expect("bound").ip();
    assert_eq!(
        all[0].activity,
        Activity::Answer { server: answered, name: "www.example".to_owned(), addresses }
    );
    assert_eq!(all[0].actor, ProcessKey::HOST);
}

#[test]
fn a_storm_is_delivered_or_counted_in_full() {
    const LAUNCHES: usize = 2_000;
    const OPENS: usize = 20_000;
    const CONNECTS: usize = 2_000;
    let mut watch = watch!("a_storm_is_delivered_or_counted_in_full");
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().canonicalize().expect("a real folder").join("file");
    fs::write(&file, "x").expect("a file");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    listener.set_nonblocking(true).expect("it can be");
    let script = r"
        use Socket;
        my ($file, $port) = @ARGV;
        for (1 .. 20000) { open(my $handle, '<', $file) or die $!; }
        my $to = pack_sockaddr_in($port, inet_aton('127.0.0.1'));
        for (1 .. 2000) { socket(my $s, PF_INET, SOCK_STREAM | 04000, 0); connect($s, $to); }
        for my $number (1 .. 2000) {
            my $child = fork; if (!$child) { exec '/bin/true', 'storm', $number } waitpid $child, 0;
        }
    ";
    let before = Instant::now();
    let (pid, events) = watch.perl(script, &[file.to_str().expect("plain"), &port.to_string()]);
    println!("storm took {:?}, {} KiB resident", before.elapsed(), resident_kib());
    let opens = events
        .iter()
        .filter(|event| event.actor.pid == pid)
        .filter(|event| matches!(&event.activity, Activity::Open { file: opened, .. } if Path::new(&opened.path) == file))
        .count();
    let connects = events
        .iter()
        .filter(|event| event.actor.pid == pid)
        .filter(|event| matches!(event.activity, Activity::Connect { to, .. } if to.port() == port))
        .count();
    let mut children = BTreeSet::new();
    let (mut launched, mut ended) = (0, 0);
    for event in &events {
        match &event.activity {
            Activity::Fork { child } if event.actor.pid == pid => {
                children.insert(*child);
            }
            Activity::Launch(launch) if launch.arguments[1..].first().is_some_and(|word| word == "storm") => {
                assert!(children.contains(&event.actor), "no launch overtakes its fork");
                launched += 1;
                assert_eq!(launch.arguments[2], launched.to_string());
            }
            Activity::Exit { .. } if children.contains(&event.actor) => ended += 1,
            _ => {}
        }
    }
    let losses = Plane::ALL.map(|plane| lost(&events, plane));
    println!("{launched} launches, {opens} opens, {connects} connects; lost {losses:?}");
    assert_eq!(losses, [0, 0, 0], "an attentive reader loses nothing");
    assert_eq!((launched, ended, opens, connects), (LAUNCHES, LAUNCHES, OPENS, CONNECTS));
    assert!(events.is_sorted_by_key(|event| event.time));
}

/// 10,000 launches, 100,000 opens and 20,000 connections, with a reader that drains as `run` does.
#[test]
#[ignore = "takes half a minute; `make test-all` runs it"]
fn every_act_of_a_long_storm_is_delivered_or_counted() {
    const ACTS: [(&str, u64); 3] = [("launch", 10_000), ("open", 100_000), ("connect", 20_000)];
    let mut watch = watch!("every_act_of_a_long_storm_is_delivered_or_counted");
    let folder = tempfile::tempdir().expect("a folder");
    let real = folder.path().canonicalize().expect("a real folder");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    // Closed with a reset, so that no port waits for its end.
    let script = r"
        use Socket;
        my ($act, $count, $folder, $port) = @ARGV;
        my $to = pack_sockaddr_in($port, inet_aton('127.0.0.1'));
        for my $number (1 .. $count) {
            if ($act eq 'launch') {
                my $child = fork; if (!$child) { exec '/bin/true', 'storm', $number } waitpid $child, 0;
            } elsif ($act eq 'open') {
                open(my $handle, '>', $folder . '/' . $number % 1000) or die $!;
            } else {
                socket(my $s, PF_INET, SOCK_STREAM, 0);
                setsockopt($s, SOL_SOCKET, SO_LINGER, pack('ii', 1, 0));
                connect($s, $to) or die $!;
            }
        }
    ";
    // Nobody accepts: a thread takes the connections, or the backlog is full after a few.
    std::thread::spawn(move || listener.incoming().for_each(drop));
    for (act, count) in ACTS {
        let mut child = Command::new("perl")
            .args(["-e", script, act, &count.to_string(), real.to_str().expect("plain"), &port.to_string()])
            .spawn()
            .expect("perl starts");
        let pid = child.id();
        let (mut delivered, mut losses, mut last) = (0, [0; 3], 0);
        let mut is_over = false;
        while !is_over {
            let status = child.try_wait().expect("a status");
            assert!(status.is_none_or(|status| status.success()), "{act}");
            is_over = status.is_some();
            let events = watch.sensor.drain(is_over);
            for event in &events {
                delivered += u64::from(match &event.activity {
                    Activity::Launch(launch) => act == "launch" && launch.arguments.len() == 3,
                    Activity::Open { file, .. } => act == "open" && Path::new(&file.path).starts_with(&real),
                    Activity::Connect { to, .. } => {
                        act == "connect" && event.actor.pid == pid && to.port() == port
                    }
                    _ => false,
                });
                if !matches!(event.activity, Activity::Lost { .. }) {
                    assert!(event.time.0 >= last, "{act}: in the order of the kernel's clock");
                    last = event.time.0;
                }
            }
            for (sum, plane) in losses.iter_mut().zip(Plane::ALL) {
                *sum += lost(&events, plane);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.wait().expect("it has ended");
        println!("{act}: {delivered} of {count} delivered, lost {losses:?}, {} KiB resident", resident_kib());
        let [process, file, egress] = losses;
        assert_eq!(process, 0, "lineage is never pushed out");
        match act {
            "launch" => assert_eq!(delivered, count),
            "open" => assert!(delivered <= count && delivered + file >= count),
            _ => assert!(delivered <= count && delivered + egress >= count),
        }
    }
}

#[test]
fn what_a_full_ring_cannot_take_is_counted() {
    let tiny = Options { ring_bytes: 64 << 10, ..Options::default() };
    let script = "for (1 .. 5000) { open(my $handle, '<', '/dev/null') } unlink 'none'";
    let total = {
        let mut watch = watch!("what_a_full_ring_cannot_take_is_counted");
        let (_, events) = watch.perl(script, &[]);
        assert_eq!(lost(&events, Plane::File), 0);
        events.iter().filter(|event| of(event) == Some(Plane::File)).count()
    };
    let mut watch = watch!("what_a_full_ring_cannot_take_is_counted", &tiny);
    watch.sensor.set_paused(true);
    let child = Command::new("perl").arg("-e").arg(script).status().expect("perl runs");
    assert!(child.success());
    watch.sensor.set_paused(false);
    let events = watch.sensor.drain(true);
    let delivered = events.iter().filter(|event| of(event) == Some(Plane::File)).count();
    let counted = lost(&events, Plane::File);
    println!("{delivered} delivered + {counted} lost = {total}");
    assert!(delivered > 0 && counted > 0);
    assert_eq!(delivered as u64 + counted, total as u64);
    assert_eq!(lost(&events, Plane::Process), 0, "lineage has a ring of its own");
    assert!(events.iter().any(|event| matches!(event.activity, Activity::Exit { .. })));
    assert_eq!(watch.sensor.drain(true), [], "a loss is told once");
}

#[test]
fn fresh_events_wait_for_older_ones() {
    let mut watch = watch!("fresh_events_wait_for_older_ones");
    let (mut events, mut last) = (Vec::new(), 0);
    let mut child =
        Command::new("sh").arg("-c").arg("for i in $(seq 200); do /bin/true; done").spawn().expect("sh");
    while child.try_wait().expect("a status").is_none() {
        let drained = watch.sensor.drain(false);
        for event in &drained {
            assert!(event.time.0 >= last);
            last = event.time.0;
        }
        events.extend(drained);
    }
    events.extend(watch.sensor.drain(true));
    assert_eq!(launches(&events).iter().filter(|launch| launch.arguments == ["/bin/true"]).count(), 200);
}

/// Builds a program of tests/programs, or says why not.
fn program(name: &str, into: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(name).with_extension("c");
    let built = into.join(name);
    match Command::new("cc").arg("-o").arg(&built).arg(source).output() {
        Ok(output) if output.status.success() => Some(built),
        Ok(output) => panic!("{}", String::from_utf8_lossy(&output.stderr)),
        Err(_) => {
            println!("{name} skipped: needs a C compiler");
            None
        }
    }
}

#[test]
fn every_route_to_a_file_gives_the_same_object() {
    const ROUTES: [&str; 28] = [
        "open",
        "openat",
        "openat2",
        "dots",
        "symlink",
        "folder-symlink",
        "hard-link",
        "rename",
        "proc-root",
        "proc-cwd",
        "proc-fd",
        "bind-mount",
        "chroot",
        "handle",
        "io_uring-openat",
        "io_uring-openat2",
        "io_uring-worker",
        "io_uring-slot",
        "open-32-bit",
        "openat-32-bit",
        "message",
        "pidfd",
        "proc-other-root",
        "chdir",
        "mmap",
        "sendfile",
        "copy_file_range",
        "inherited",
    ];
    let mut watch = watch!("every_route_to_a_file_gives_the_same_object");
    let tools = tempfile::tempdir().expect("a folder");
    let Some(routes) = program("routes", tools.path()) else { return };
    for route in ROUTES {
        let folder = tempfile::tempdir().expect("a folder");
        let real = folder.path().canonicalize().expect("a real folder");
        let file = real.join("credentials");
        fs::write(&file, "secret").expect("a file");
        let metadata = fs::metadata(&file).expect("the file");
        let mut child = Command::new(&routes)
            .args([route, "credentials"])
            .current_dir(&real)
            .spawn()
            .expect("the program starts");
        let pid = child.id();
        let status = child.wait().expect("the program ends");
        let events = watch.sensor.drain(true);
        if status.code() == Some(77) {
            println!("{route:<20} not on this host");
            continue;
        }
        assert!(status.success(), "{route}");
        let opened =
            events.iter().filter(|event| event.actor.pid == pid).find_map(|event| match &event.activity {
                Activity::Open { file: opened, access }
                    if access.read
                        && ((opened.device, opened.inode) == (metadata.dev(), metadata.ino())
                            || (opened.requested && Path::new(&opened.path) == file)) =>
                {
                    Some((opened.clone(), *access))
                }
                _ => None,
            });
        let Some((opened, access)) = opened else { panic!("{route}: {events:#?}") };
        println!(
            "{route:<20} device {} inode {} {}{}{}",
            opened.device,
            opened.inode,
            opened.path.strip_prefix(real.to_str().expect("plain")).unwrap_or(&opened.path),
            if opened.requested { " requested" } else { "" },
            if access.received { " received" } else { "" },
        );
        assert!(access.read, "{route}");
        assert_eq!(opened.requested, route == "io_uring-slot", "{route}");
        assert_eq!(access.received, route == "message", "{route}");
        let name = match route {
            "hard-link" => "hard",
            "rename" => "other",
            "bind-mount" => "mounted",
            _ => "credentials",
        };
        assert_eq!(Path::new(&opened.path), real.join(name), "{route}");
        assert_eq!(lost(&events, Plane::File), 0, "{route}");
    }
}

/// What a child does with a descriptor of its parent's is no open; the sight says so.
#[test]
fn what_no_route_shows_is_a_stated_gap() {
    let watch = watch!("what_no_route_shows_is_a_stated_gap");
    let gaps = watch.sensor.sight().gaps.join("\n");
    for gap in ["reads and writes after an open", "a descriptor from before the start", "recvmmsg"] {
        assert!(gaps.contains(gap), "{gap}: {gaps}");
    }
}

/// The first cgroup2 mount.
fn cgroups() -> Option<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    mounts.lines().find_map(|line| {
        let (mount, system) = line.split_once(" - ")?;
        system.starts_with("cgroup2 ").then(|| mount.split(' ').nth(4).map(PathBuf::from)).flatten()
    })
}

#[test]
fn every_way_to_start_a_process_keeps_it_in_the_family() {
    const WAYS: [(&str, usize); 10] = [
        ("fork", 1),
        ("double-fork", 2),
        ("reparented", 2),
        ("setsid", 1),
        ("vfork", 1),
        ("thread-exec", 1),
        ("thread-fork", 2),
        ("pid-namespace", 1),
        ("pid-reuse", 2),
        ("clone-into-cgroup", 1),
    ];
    let mut watch = watch!("every_way_to_start_a_process_keeps_it_in_the_family");
    let tools = tempfile::tempdir().expect("a folder");
    let Some(families) = program("families", tools.path()) else { return };
    let cgroup = cgroups().map(|root| root.join(format!("edamame-guard-test-{}", std::process::id())));
    if let Some(cgroup) = &cgroup {
        fs::create_dir(cgroup).expect("a cgroup");
    }
    let mut told = Vec::new();
    for (way, generations) in WAYS {
        let mut command = Command::new(&families);
        command.arg(way).args(&cgroup);
        let mut child = command.spawn().expect("the program starts");
        let root = child.id();
        let status = child.wait().expect("the program ends");
        let events = watch.sensor.drain(true);
        if status.code() == Some(77) {
            println!("{way:<18} not on this host");
            continue;
        }
        assert!(status.success(), "{way}: {status}");
        let mut parents = BTreeMap::new();
        for event in &events {
            if let Activity::Fork { child } = event.activity {
                assert!(parents.insert(child, event.actor).is_none(), "{way}: {child} is born once");
            }
        }
        let launched: Vec<ProcessKey> = events
            .iter()
            .filter(|event| {
                matches!(&event.activity, Activity::Launch(launch) if launch.arguments == ["true", way])
            })
            .map(|event| event.actor)
            .collect();
        let expected = if way == "pid-reuse" { 2 } else { 1 };
        assert_eq!(launched.len(), expected, "{way}: {events:#?}");
        assert_eq!(
            launched.iter().collect::<BTreeSet<_>>().len(),
            expected,
            "{way}: each a process of its own"
        );
        for key in &launched {
            let above: Vec<u32> = std::iter::successors(parents.get(key), |parent| parents.get(parent))
                .map(|key| key.pid)
                .collect();
            assert_eq!(above.len(), generations + 1, "{way}: {above:?}");
            assert_eq!(above[generations - 1..], [root, std::process::id()], "{way}");
        }
        assert_eq!(lost(&events, Plane::Process), 0, "{way}");
        told.push(way);
        println!("{way:<18} {launched:?}");
    }
    if let Some(cgroup) = &cgroup {
        fs::remove_dir(cgroup).expect("it is empty");
    }
    assert!(told.len() >= 7, "{told:?}");
}

#[test]
fn acts_that_open_nothing_are_told() {
    let mut watch = watch!("acts_that_open_nothing_are_told");
    let tools = tempfile::tempdir().expect("a folder");
    let Some(acts) = program("acts", tools.path()) else { return };
    let folder = tempfile::tempdir().expect("a folder");
    let real = folder.path().canonicalize().expect("a real folder");
    let child = Command::new(acts).current_dir(&real).stdout(Stdio::piped()).spawn().expect("it starts");
    let pid = child.id();
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success());
    let child: u32 = String::from_utf8_lossy(&output.stdout).trim().parse().expect("a number");
    let events = watch.sensor.drain(true);
    let short = |file: &File| {
        let known = if file.requested { "" } else { "=" };
        let path = file.path.strip_prefix(real.to_str().expect("plain")).unwrap_or(&file.path);
        assert!(file.requested || file.inode == fs::metadata(real.join("file")).expect("there").ino());
        format!("{known}{path}")
    };
    let told: Vec<String> = events
        .iter()
        .filter(|event| event.actor.pid == pid)
        .filter_map(|event| {
            Some(match &event.activity {
                Activity::Link { from, to } => format!("link {} {}", short(from), short(to)),
                Activity::Symlink { target, file } => format!("symlink {target} {}", short(file)),
                Activity::Chmod { file, mode } => format!("chmod {} {mode:o}", short(file)),
                Activity::Chown { file, uid, gid } => format!("chown {} {uid:?} {gid:?}", short(file)),
                Activity::Truncate { file } => format!("truncate {}", short(file)),
                Activity::Mkdir { file } => format!("mkdir {}", short(file)),
                Activity::Mknod { file, mode } => format!("mknod {} {mode:o}", short(file)),
                Activity::Setxattr { file, name } => format!("setxattr {} {name}", short(file)),
                Activity::Mount { source, target } => format!("mount {source} {}", short(target)),
                Activity::Unmount { target } => format!("unmount {}", short(target)),
                Activity::Memfd { name } => format!("memfd {name}"),
                Activity::Module { file } => format!("module {}", file.as_ref().map(short)?),
                Activity::UnixConnect { file, .. } if file.requested => format!("unix {}", short(file)),
                Activity::UnixConnect { file, .. } => format!("unix {}", file.path),
                Activity::Socket { family, kind, protocol } => format!("socket {family} {kind} {protocol}"),
                Activity::Trace { request, target } if *target == child => format!("trace {request} child"),
                Activity::Trace { request, target } => format!("trace {request} {target}"),
                Activity::Bpf { command } => format!("bpf {command}"),
                Activity::Namespace { kinds, entered } => format!("namespace {} {entered}", kinds.join("+")),
                Activity::Credentials { uid, effective_uid, gid, effective_gid, capabilities } => format!(
                    "credentials {uid} {effective_uid} {gid} {effective_gid} {}",
                    if *capabilities == 0 { "none" } else { "some" }
                ),
                _ => return None,
            })
        })
        .collect();
    for line in &told {
        println!("{line}");
    }
    let expected = [
        "link /file /second",
        "symlink ../target /soft",
        "chmod /file 4755",
        "chmod =/file 600",
        "chown /file Some(1) None",
        "chown =/file Some(0) Some(0)",
        "truncate /file",
        "truncate =/file",
        "mkdir /below",
        "mknod /pipe 10600",
        "setxattr /file trusted.note",
        "memfd hidden",
        "unix /a.sock",
        "unix @nowhere",
        "socket ipv4 raw 1",
        "socket packet raw 0",
        "socket netlink raw 12",
        "trace read-memory child",
        "trace attach child",
        "trace attach 4194304",
        "bpf next-program",
        "bpf link-detach",
        "module =/file",
        "namespace mount+host-name false",
        "mount  /",
        "mount file /second",
        "unmount /second",
        "namespace host-name true",
        "credentials 0 0 7 8 some",
        "credentials 1 2 7 8 none",
    ];
    let is_optional = |line: &&str| line.starts_with("setxattr") && !told.iter().any(|told| told == line);
    let expected: Vec<&str> = expected.into_iter().filter(|line| !is_optional(line)).collect();
    assert_eq!(told, expected);
}

#[test]
fn a_listener_is_told_with_its_address() {
    let mut watch = watch!("a_listener_is_told_with_its_address");
    let script = r#"
        use Socket qw(:DEFAULT inet_pton AF_INET6 pack_sockaddr_in6);
        for my $where ([AF_INET, pack_sockaddr_in(0, INADDR_LOOPBACK)], [AF_INET, pack_sockaddr_in(0, INADDR_ANY)],
                       [AF_INET6, pack_sockaddr_in6(0, inet_pton(AF_INET6, "::1"))]) {
            my $socket;
            socket($socket, $where->[0], SOCK_STREAM, 0) && bind($socket, $where->[1]) or next;
            listen($socket, 1) or die;
        }
        my $path;
        socket($path, AF_UNIX, SOCK_STREAM, 0) && bind($path, pack_sockaddr_un("\0edamame-guard-test-$$")) or die;
        listen($path, 1) or die;
    "#;
    let (pid, events) = watch.perl(script, &[]);
    let told: Vec<String> = events
        .iter()
        .filter(|event| event.actor.pid == pid)
        .filter_map(|event| {
            let Activity::Listen { on } = &event.activity else { return None };
            assert_ne!(on.port(), 0);
            Some(on.ip().to_string())
        })
        .collect();
    println!("{told:?}");
    assert_eq!(told[..2], ["127.0.0.1", "0.0.0.0"]);
    assert!(matches!(&told[2..], [] | [_]) && told[2..].iter().all(|ip| ip == "::1"), "{told:?}");
}

#[test]
fn a_hook_that_is_taken_away_is_named() {
    let mut watch = watch!("a_hook_that_is_taken_away_is_named");
    let hooks: Vec<(String, u32)> =
        watch.sensor.hooks().map(|(name, number)| (name.to_owned(), number)).collect();
    // BPF_LINK_GET_FD_BY_ID and BPF_LINK_DETACH, as any root can.
    let script = r"
        my $ask = pack('L', $ARGV[0]) . (chr(0) x 60);
        my $link = syscall($ARGV[1], 30, $ask, 64);
        $link >= 0 or die $!;
        my $detach = pack('L', $link) . (chr(0) x 60);
        print syscall($ARGV[1], 34, $detach, 64) == 0 ? 'gone' : $!;
    ";
    let call = nix::libc::SYS_bpf.to_string();
    let mut taken = Vec::new();
    for (name, number) in &hooks {
        let output =
            Command::new("perl").args(["-e", script, &number.to_string(), &call]).output().expect("perl");
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        println!("{name:<18} link {number}: {answer}");
        if answer == "gone" {
            taken.push(name.clone());
        }
    }
    assert!(taken.len() >= 5, "the cgroup hooks can be taken: {taken:?}");
    let before = Instant::now();
    let mut named = Vec::new();
    while named.len() < taken.len() && before.elapsed() < Duration::from_secs(5) {
        std::thread::sleep(Duration::from_millis(20));
        named.extend(watch.sensor.drain(false).into_iter().filter_map(|event| match event.activity {
            Activity::HookLost { hook } => Some(hook),
            _ => None,
        }));
    }
    println!("named after {:?}: {named:?}", before.elapsed());
    assert_eq!(named, taken);
    assert!(!watch.sensor.is_watching());
    assert_eq!(watch.sensor.lost_hooks(), taken);
    watch.sensor.drain(true);
    assert_eq!(watch.sensor.health(), Vec::<String>::new(), "each is named once");
}

#[test]
fn questions_and_greetings_are_told_with_their_names() {
    let mut watch = watch!("questions_and_greetings_are_told_with_their_names");
    let server = Ipv4Addr::new(127, 83, 53, 85);
    let (Ok(datagrams), Ok(streams)) = (UdpSocket::bind((server, 53)), TcpListener::bind((server, 53)))
    else {
        println!("questions_and_greetings_are_told_with_their_names skipped: port 53 is taken");
        return;
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
    let port = listener.local_addr().expect("bound").port();
    let script = r#"
        use Socket;
        my $question = pack('n6', 7, 0x100, 1, 0, 0, 0) . "\x06DaTa01\x07example\0" . pack('n2', 16, 1);
        my $to = pack_sockaddr_in(53, inet_aton('127.83.53.85'));
        socket(my $a, PF_INET, SOCK_DGRAM, 0); send($a, $question, 0, $to) or die $!;
        socket(my $b, PF_INET, SOCK_DGRAM, 0); connect($b, $to) or die $!; send($b, $question, 0) or die $!;
        socket(my $c, PF_INET, SOCK_STREAM, 0); connect($c, $to) or die $!;
        syswrite($c, pack('n', length $question) . $question) or die $!;
        system('curl', '-s', '--max-time', '1', '--noproxy', '*', '--resolve', "api.example:$ARGV[0]:127.0.0.1",
            "https://api.example:$ARGV[0]/");
        system('curl', '-s', '--max-time', '1', "http://127.0.0.1:$ARGV[0]/");
    "#;
    let (pid, events) = watch.perl(script, &[&port.to_string()]);
    let told: Vec<String> = events
        .iter()
        .filter_map(|event| {
            let who = if event.actor.pid == pid { "perl" } else { "curl" };
            match &event.activity {
                Activity::Query { to, transport, name, kind, more } => {
                    Some(format!("{who} {to} {transport} {name} {kind} {more}"))
                }
                Activity::Hello { to, name } => {
                    assert_eq!(to.port(), port);
                    Some(format!("{who} {} {name:?}", to.ip()))
                }
                _ => None,
            }
        })
        .collect();
    for line in &told {
        println!("{line}");
    }
    assert_eq!(
        told,
        [
            "perl 127.83.53.85:53 udp data01.example TXT 0",
            "perl 127.83.53.85:53 udp data01.example TXT 0",
            "perl 127.83.53.85:53 tcp data01.example TXT 0",
            "curl 127.0.0.1 Some(\"api.example\")",
        ]
    );
    drop((datagrams, streams));
}

#[test]
fn what_another_process_holds_is_named_by_its_number() {
    let mut watch = watch!("what_another_process_holds_is_named_by_its_number");
    let script = r"
        for my $path ('/proc/self/environ', '/proc/thread-self/maps', '/proc/' . getppid() . '/environ') {
            open(my $file, '<', $path) or die $!;
        }
    ";
    let (pid, events) = watch.perl(script, &[]);
    let told: Vec<&str> = events
        .iter()
        .filter_map(|event| match &event.activity {
            Activity::Open { file, .. }
                if file.path.ends_with("/environ") || file.path.ends_with("/maps") =>
            {
                Some(file.path.as_str())
            }
            _ => None,
        })
        .collect();
    let own = std::process::id();
    let expected = [
        format!("/proc/{pid}/environ"),
        format!("/proc/{pid}/task/{pid}/maps"),
        format!("/proc/{own}/environ"),
    ];
    assert_eq!(told, expected);
}

#[test]
fn programs_that_no_path_leads_to_are_marked() {
    let mut watch = watch!("programs_that_no_path_leads_to_are_marked");
    let folder = tempfile::tempdir().expect("a folder");
    let copy = folder.path().join("copy");
    let script = r"
        my ($copy, $call) = @ARGV;
        system('/bin/cp', '/bin/true', $copy);
        open(my $program, '<', $copy) or die $!; binmode $program;
        my $text = do { local $/; <$program> };
        my $name = 'hidden'; my $number = syscall($call, $name, 0);
        open(my $memory, '>&=', $number) or die $!; binmode $memory; $memory->autoflush(1);
        print $memory $text;
        if (!fork) { exec {'/proc/self/fd/' . $number} 'in-memory' } wait;
        unlink $copy;
        $^F = 255; open(my $kept, '<&=', fileno $program);
        if (!fork) { exec {'/proc/self/fd/' . fileno $program} 'removed' } wait;
    ";
    let call = nix::libc::SYS_memfd_create.to_string();
    let (_, events) = watch.run(Command::new("perl").args([
        "-MIO::Handle",
        "-e",
        script,
        copy.to_str().expect("plain"),
        &call,
    ]));
    let told: Vec<String> = launches(&events)
        .iter()
        .map(|launch| {
            format!("{} {} {}", launch.arguments[0], launch.executable.path, launch.executable.deleted)
        })
        .filter(|line| line.starts_with("in-memory") || line.starts_with("removed"))
        .collect();
    println!("{told:#?}");
    let expected = [
        "in-memory memfd:hidden true".to_owned(),
        format!("removed {} true", copy.canonicalize().unwrap_or(copy).display()),
    ];
    assert_eq!(told, expected);
    assert!(
        events.iter().any(|event| matches!(&event.activity, Activity::Memfd { name } if name == "hidden"))
    );
    let ordinary = launches(&events)[0];
    assert!(!ordinary.executable.deleted);
}
