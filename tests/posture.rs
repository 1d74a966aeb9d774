//! Every posture check in a root folder where it holds and in one where it does not; the command's table, score and hardening.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Instant;

use edamame_guard::catalogue::posture::{self, Outcome, Place};
use edamame_guard::posture::Camera;
use serde_json::Value;
use tempfile::TempDir;

/// Check, path in the root folder, and what lies there where it holds and where it does not: permission bits and
/// text, `socket` or `folder` and permission bits, or `-` for nothing. A check that can't be weak differs.
const CASES: &[(&str, &str, &str, &str)] = &[
    ("ptrace-scope", "proc/sys/kernel/yama/ptrace_scope", "644 1", "644 0"),
    (
        "lockdown",
        "sys/kernel/security/lockdown",
        "644 none [integrity] confidentiality",
        "644 [none] integrity confidentiality",
    ),
    ("security-modules", "sys/module/apparmor/parameters/enabled", "644 Y", "644 N"),
    ("unprivileged-bpf", "proc/sys/kernel/unprivileged_bpf_disabled", "644 2", "644 0"),
    ("user-namespaces", "proc/sys/user/max_user_namespaces", "644 0", "644 15000"),
    ("kernel-helpers", "proc/sys/kernel/core_pattern", "644 core", "644 |/tmp/x"),
    ("kernel-hardening", "proc/sys/kernel/kptr_restrict", "644 2", "644 0"),
    ("kernel-modules", "proc/modules", "644 ext4 1 0\n", "644 ext4 1 0\nrootkit 1 0\n"),
    ("address-layout", "proc/sys/kernel/randomize_va_space", "644 2", "644 1"),
    ("shared-folder-files", "proc/sys/fs/protected_fifos", "644 1", "644 0"),
    ("set-id-dumps", "proc/sys/fs/suid_dumpable", "644 2", "644 1"),
    ("kernel-replacement", "proc/sys/kernel/kexec_load_disabled", "644 1", "644 0"),
    ("system-request-keys", "proc/sys/kernel/sysrq", "644 4", "644 1"),
    ("performance-events", "proc/sys/kernel/perf_event_paranoid", "644 3", "644 -1"),
    ("compiled-filters", "proc/sys/net/core/bpf_jit_harden", "644 2", "644 0"),
    ("line-disciplines", "proc/sys/dev/tty/ldisc_autoload", "644 0", "644 1"),
    ("user-fault-handling", "proc/sys/vm/unprivileged_userfaultfd", "644 0", "644 1"),
    ("request-rings", "proc/sys/kernel/io_uring_disabled", "644 1", "644 0"),
    ("module-signatures", "sys/module/module/parameters/sig_enforce", "644 Y", "644 N"),
    ("lowest-address", "proc/sys/vm/mmap_min_addr", "644 65536", "644 0"),
    (
        "processor-flaws",
        "sys/devices/system/cpu/vulnerabilities/meltdown",
        "644 Mitigation: PTI",
        "644 Vulnerable",
    ),
    ("sudoers", "etc/sudoers.d/x", "440 a ALL=(ALL) ALL\n", "440 b ALL=(ALL) ALL\n"),
    (
        "passwordless-sudo",
        "etc/sudoers",
        "440 # a ALL=(ALL) NOPASSWD: ALL\n",
        "440 a ALL=(ALL) NOPASSWD: ALL\n",
    ),
    ("users", "etc/passwd", "644 root:x:0:0::/root:/bin/sh\n", "644 root:x:0:0::/root:/bin/bash\n"),
    ("groups", "etc/group", "644 docker:x:9:\n", "644 docker:x:9:u\n"),
    ("passwords", "etc/shadow", "640 root:*:1::::::\n", "640 root:$y$x:1::::::\n"),
    (
        "second-root",
        "etc/passwd",
        "644 root:x:0:0::/root:/bin/sh\nrobin:x:1000:0::/home/robin:/bin/sh\n",
        "644 root:x:0:0::/root:/bin/sh\nrootx:x:0:0::/root:/bin/sh\n",
    ),
    (
        "empty-passwords",
        "etc/shadow",
        "640 root:*:1::::::\nu:!:1::::::\n",
        "640 root:*:1::::::\nu::1::::::\n",
    ),
    ("readable-hashes", "etc/passwd", "644 u:x:1:1::/:/bin/sh\n", "644 u:$1$abc:1:1::/:/bin/sh\n"),
    ("account-files", "etc/group", "644 x:x:1:\n", "664 x:x:1:\n"),
    ("secret-account-files", "etc/shadow", "640 x:*:1::::::\n", "644 x:*:1::::::\n"),
    ("unasked-sudo", "etc/sudoers", "440 Defaults env_reset\n", "440 Defaults !authenticate\n"),
    ("sudoers-rights", "etc/sudoers.d/x", "440 \n", "666 \n"),
    ("root-by-group", "etc/group", "644 docker:x:9:\nu:x:10:a\n", "644 docker:x:9:u\n"),
    ("login", "etc/pam.d/sshd", "644 auth required pam_unix.so\n", "644 auth sufficient pam_permit.so\n"),
    (
        "ssh-root",
        "etc/ssh/sshd_config",
        "644 #PermitRootLogin yes\nPermitRootLogin no\n",
        "644 permitrootlogin yes\n",
    ),
    (
        "ssh-passwords",
        "etc/ssh/sshd_config",
        "644 PasswordAuthentication no\n",
        "644 PasswordAuthentication yes\n",
    ),
    (
        "ssh-empty-passwords",
        "etc/ssh/sshd_config",
        "644 PermitEmptyPasswords no\n",
        "644 PermitEmptyPasswords yes\n",
    ),
    (
        "ssh-environment",
        "etc/ssh/sshd_config.d/x.conf",
        "644 PermitUserEnvironment no\n",
        "644 PermitUserEnvironment yes\n",
    ),
    ("private-keys", "root/.ssh/id_ed25519", "600 x", "644 x"),
    ("host-keys", "etc/ssh/ssh_host_rsa_key", "600 x", "644 x"),
    ("key-folders", "root/.ssh", "folder 700", "folder 777"),
    ("trusted-hosts", "etc/hosts.equiv", "-", "644 other.example\n"),
    ("hosts", "etc/hosts", "644 127.0.0.1 localhost\n", "644 203.0.113.7 localhost\n"),
    ("resolver", "etc/resolv.conf", "644 nameserver 192.0.2.1\n", "644 nameserver 203.0.113.7\n"),
    ("certificate-authorities", "usr/local/share/ca-certificates/a.crt", "-", "644 x"),
    ("forwarding", "proc/sys/net/ipv4/conf/all/accept_redirects", "644 0", "644 1"),
    ("redirects-sent", "proc/sys/net/ipv4/conf/all/send_redirects", "644 0", "644 1"),
    ("forged-sources", "proc/sys/net/ipv4/conf/all/rp_filter", "644 2", "644 0"),
    ("half-open-connections", "proc/sys/net/ipv4/tcp_syncookies", "644 1", "644 0"),
    ("strange-senders", "proc/sys/net/ipv4/conf/all/log_martians", "644 1", "644 0"),
    (
        "redirected-forges",
        "etc/hosts",
        "644 127.0.0.1 localhost\n# 203.0.113.7 github.com\n203.0.113.7 mygithub.com\n",
        "644 203.0.113.7 x api.github.com\n",
    ),
    ("firewall", "etc/nftables.conf", "644 table inet a {}\n", "644 \n"),
    ("firewall-off", "etc/ufw/ufw.conf", "644 ENABLED=yes\n", "644 ENABLED=no\n"),
    ("scheduled-work", "etc/cron.d/x", "-", "644 * * * * * root /tmp/x\n"),
    ("services", "etc/systemd/system/x.service", "-", "644 [Service]\nExecStart=/tmp/x\n"),
    ("shell-start-up", "root/.bashrc", "644 \n", "644 /tmp/x &\n"),
    ("scheduled-work-rights", "etc/crontab", "644 \n", "666 \n"),
    ("service-rights", "etc/systemd/system/x.service", "644 \n", "666 \n"),
    ("start-up-rights", "etc/profile.d/x.sh", "644 \n", "664 \n"),
    ("old-services", "etc/inetd.conf", "-", "644 telnet stream tcp nowait root /usr/sbin/telnetd\n"),
    ("privileged-programs", "usr/bin/x", "755 x", "4755 x"),
    ("loader", "etc/ld.so.preload", "-", "644 /tmp/x.so\n"),
    ("search-path", "usr/local/bin", "folder 755", "folder 777"),
    ("stray-set-id", "tmp/x", "755 x", "4755 x"),
    ("shared-folders", "tmp", "folder 1777", "folder 777"),
    ("program-folders", "usr/local/bin", "folder 755", "folder 777"),
    ("library-folders", "usr/local/lib", "folder 755", "folder 777"),
    ("docker-socket", "var/run/docker.sock", "644 x", "socket 660"),
    ("docker-socket-rights", "var/run/docker.sock", "socket 660", "socket 666"),
    (
        "engine-on-network",
        "etc/docker/daemon.json",
        r#"644 {"hosts": ["unix:///run/docker.sock"]}"#,
        r#"644 {"hosts": ["tcp://0.0.0.0:2375"]}"#,
    ),
    (
        "insecure-registries",
        "etc/docker/daemon.json",
        r#"644 {"insecure-registries": []}"#,
        r#"644 {"insecure-registries": ["r.example:5000"]}"#,
    ),
    (
        "engine-without-profiles",
        "etc/docker/daemon.json",
        r#"644 {"seccomp-profile": "/etc/docker/p.json"}"#,
        r#"644 {"seccomp-profile": "unconfined"}"#,
    ),
    (
        "privileged-container",
        "proc/1/status",
        "644 Name:\tx\nCapBnd:\t00000000a80425fb\n",
        "644 Name:\tx\nCapBnd:\t000001ffffffffff\n",
    ),
    ("socket-in-container", "run/docker.sock", "644 x", "socket 600"),
    ("cluster-access", "root/.kube/config", "600 x", "644 x"),
    (
        "package-configuration",
        "root/.npmrc",
        "600 registry=https://a.example/\n",
        "600 registry=https://b.example/\n",
    ),
    ("npm-without-tls", "workspace/.npmrc", "644 strict-ssl=true\n", "644 @a:registry=http://r.example/\n"),
    (
        "npm-token",
        "root/.npmrc",
        "600 //r.example/:_authToken=${NPM_TOKEN}\n",
        "600 //r.example/:_authToken=not-a-real-one\n",
    ),
    (
        "pip-without-tls",
        "root/.config/pip/pip.conf",
        "644 [global]\nindex-url = https://r.example/\n",
        "644 [global]\ntrusted-host = r.example\n",
    ),
    (
        "pip-two-indexes",
        "etc/pip.conf",
        "644 [global]\nindex-url = https://r.example/\n",
        "644 [global]\nextra-index-url = https://r.example/\n",
    ),
    (
        "apt-unsigned",
        "etc/apt/sources.list",
        "644 deb [signed-by=/k] https://d.example stable main\n",
        "644 deb [trusted=yes] https://d.example stable main\n",
    ),
    (
        "cargo-token",
        "root/.cargo/credentials.toml",
        "600 [registry]\n",
        "600 [registry]\ntoken = \"not-a-real-one\"\n",
    ),
    ("python-token", "root/.pypirc", "600 [pypi]\nusername = a\n", "600 [pypi]\npassword = not-a-real-one\n"),
    ("netrc", "root/.netrc", "600 machine a.example login b\n", "600 machine a.example login b password c\n"),
    ("cloud-keys", "root/.aws/credentials", "600 [default]\n", "600 [default]\naws_secret_access_key = x\n"),
    (
        "container-registry-token",
        "root/.docker/config.json",
        r#"600 {"credsStore": "pass"}"#,
        r#"600 {"auths": {"r.example": {"auth": "eA=="}}}"#,
    ),
    ("git-configuration", "root/.gitconfig", "644 [user]\n", "644 [alias]\nx = !x\n"),
    ("git-hooks", "workspace/.git/hooks/pre-commit", "-", "755 #!/bin/sh\n"),
    (
        "persisted-credentials",
        "workspace/.git/config",
        "644 [remote]\nurl = https://git.example/x\n",
        "644 [http]\nextraheader = AUTHORIZATION: basic eA==\n",
    ),
    (
        "git-without-tls",
        "root/.gitconfig",
        "644 [http]\nsslVerify = true\n",
        "644 [http]\n\tsslVerify = false\n",
    ),
    ("git-stored-passwords", "root/.git-credentials", "-", "600 https://a:b@git.example\n"),
    ("git-any-owner", "etc/gitconfig", "644 [safe]\ndirectory = /w\n", "644 [safe]\n\tdirectory = *\n"),
    (
        "git-own-programs",
        "root/.gitconfig",
        "644 [core]\neditor = vi\n",
        "644 [core]\n\thooksPath = /tmp/h\n",
    ),
    (
        "runner-keeps-state",
        "opt/actions-runner/.runner",
        r#"644 {"agentName": "a", "ephemeral": true}"#,
        r#"644 {"agentName": "a"}"#,
    ),
    ("runner-keys", "opt/actions-runner/.credentials", "600 {}", "644 {}"),
    (
        "runner-privileged",
        "etc/gitlab-runner/config.toml",
        "600 privileged = false\n",
        "600     privileged = true\n",
    ),
    (
        "runner-engine-socket",
        "etc/gitlab-runner/config.toml",
        "600 volumes = [\"/cache\"]\n",
        "600 volumes = [\"/var/run/docker.sock:/var/run/docker.sock\", \"/cache\"]\n",
    ),
    (
        "runner-shell",
        "etc/gitlab-runner/config.toml",
        "600 executor = \"docker\"\n",
        "600   executor = \"shell\"\n",
    ),
    (
        "job-writes-all",
        "workspace/.github/workflows/a.yml",
        "644 permissions: {contents: read}\n",
        "644 permissions: write-all\n",
    ),
    (
        "job-permissions",
        "workspace/.github/workflows/a.yml",
        "644 permissions: {}\njobs: {}\n",
        "644 jobs: {}\n",
    ),
    (
        "job-for-strangers",
        "workspace/.github/workflows/a.yml",
        "644 on: [pull_request]\n# not pull_request_target\n",
        "644 on:\n  pull_request_target:\n",
    ),
    (
        "unpinned-actions",
        "workspace/.github/workflows/a.yml",
        "644 - uses: a/b@0123456789012345678901234567890123456789 # v4\n- uses: ./x\n",
        "644 - uses: a/b@v4\n",
    ),
    ("agent-configuration", "workspace/CLAUDE.md", "644 Be kind.\n", "644 Be quick.\n"),
    (
        "agent-unasked",
        "root/.claude/settings.json",
        r#"600 {"permissions": {"defaultMode": "acceptEdits"}}"#,
        r#"600 {"permissions": {"defaultMode": "bypassPermissions"}}"#,
    ),
    (
        "agent-any-command",
        "workspace/.claude/settings.json",
        r#"644 {"permissions": {"allow": ["Bash(npm test:*)", "Read"]}}"#,
        r#"644 {"permissions": {"allow": ["Read", "Bash(*)"]}}"#,
    ),
    (
        "agent-hooks",
        "workspace/.claude/settings.json",
        r#"644 {"hooks": {}}"#,
        r#"644 {"hooks": {"PreToolUse": []}}"#,
    ),
    (
        "agent-any-server",
        "workspace/.claude/settings.json",
        r#"644 {"enableAllProjectMcpServers": false}"#,
        r#"644 {"enableAllProjectMcpServers": true}"#,
    ),
    (
        "agent-unpinned-server",
        "workspace/.mcp.json",
        r#"644 {"mcpServers": {"a": {"command": "npx", "args": ["-y", "@s/a@1.2.3"]}}}"#,
        r#"644 {"mcpServers": {"a": {"command": "npx", "args": ["-y", "@s/a"]}}}"#,
    ),
    (
        "agent-plain-server",
        "workspace/.mcp.json",
        r#"644 {"a": {"url": "http://localhost:3000"}, "b": {"url": "https://s.example"}}"#,
        r#"644 {"a": {"url": "http://s.example"}}"#,
    ),
    (
        "agent-secrets",
        "workspace/.mcp.json",
        r#"644 {"a": {"env": {"API_TOKEN": "${API_TOKEN}", "API_KEY": "{env:KEY}"}, "headers": {"Authorization": "Bearer ${T}"}}}"#,
        r#"644 {"a": {"env": {"API_TOKEN": "not-a-real-one"}}}"#,
    ),
    ("agent-keys", "root/.codex/auth.json", "600 {}", "644 {}"),
    ("agent-settings-rights", "root/.claude/settings.json", "600 {}", "666 {}"),
];

/// Puts one thing into a root folder; the listener keeps a socket there.
fn put(root: &Path, path: &str, what: &str) -> Option<UnixListener> {
    let path = root.join(path);
    let (kind, rest) = what.split_once(' ').unwrap_or((what, ""));
    fs::create_dir_all(path.parent().expect("a folder")).expect("made");
    let (listener, mode) = match kind {
        "-" => return None,
        "folder" => {
            fs::create_dir_all(&path).expect("made");
            (None, rest)
        }
        "socket" => (Some(UnixListener::bind(&path).expect("bound")), rest),
        mode => {
            fs::write(&path, rest).expect("written");
            (None, mode)
        }
    };
    let mode = u32::from_str_radix(mode, 8).expect("octal");
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("set");
    listener
}

/// An empty host of a kind on which the check is made.
fn host(check: &posture::Check) -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(root.path().join("root")).expect("a home");
    if !check.applies.contains(&Place::Workstation) {
        if check.applies.contains(&Place::Container) {
            fs::write(root.path().join(".dockerenv"), "").expect("written");
        } else {
            fs::create_dir_all(root.path().join("etc/gitlab-runner")).expect("made");
        }
    }
    root
}

#[test]
fn every_check_holds_in_one_root_and_not_in_the_other() {
    let cases: BTreeSet<&str> = CASES.iter().map(|(check, ..)| *check).collect();
    let checks: BTreeSet<&str> = posture::checks().iter().map(|check| check.id.as_str()).collect();
    assert_eq!(cases, checks, "each check has its two roots");
    for (id, path, good, bad) in CASES {
        let check = posture::check(id).expect("a check");
        let [fine, weak] = [good, bad].map(|what| {
            let root = host(check);
            let _socket = put(root.path(), path, what);
            let camera = Camera::of_root(root.path());
            assert!(check.applies.contains(&camera.place()), "{id}");
            camera.shoot().remove(*id).unwrap_or_else(|| panic!("{id} was not made"))
        });
        assert!(fine.problem.is_none() && weak.problem.is_none(), "{id}");
        if check.can_be_weak() {
            let expected = if *good == "-" { Outcome::Absent } else { Outcome::Holds };
            let fine_outcome = fine.outcome(check);
            // Of an engine's socket any is weak.
            assert!(fine_outcome == expected, "{id} where it holds: {fine_outcome:?} {fine:?}");
            assert_eq!(weak.outcome(check), Outcome::Weak, "{id} where it does not: {weak:?}");
            let named = format!("/{path}");
            assert!(weak.items.iter().any(|item| item.object == named), "{id} names {named}: {weak:?}");
        } else if check.private {
            // Its digests compare only within one camera: `src/posture.rs` tests that.
            assert!(weak.outcome(check) == Outcome::Watched, "{id}: {weak:?}");
        } else {
            assert_ne!(fine.items, weak.items, "{id} sees the change");
        }
    }
}

fn guard(words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_edamame-guard")).args(words).output().expect("the guard starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A host with three weak objects.
fn weak_host() -> TempDir {
    let root = tempfile::tempdir().expect("a folder");
    for (path, what) in [
        ("root/.ssh/id_rsa", "644 x"),
        ("proc/sys/kernel/randomize_va_space", "644 0\n"),
        ("proc/sys/kernel/kptr_restrict", "644 2\n"),
        ("etc/hosts", "644 127.0.0.1 localhost\n"),
    ] {
        put(root.path(), path, what);
    }
    root
}

#[test]
fn the_table_and_the_json_tell_the_score_by_group() {
    let root = weak_host();
    let path = root.path().to_str().expect("plain");
    let table = text(&guard(&["posture", "--root", path]).stdout);
    for line in ["kernel: 0 of 100", "login: 50 of 100", "network: 100 of 100", "  weak   private-keys "] {
        assert!(table.contains(line), "{line}\n{table}");
    }
    let document: Value =
        serde_json::from_slice(&guard(&["posture", "--root", path, "--json"]).stdout).expect("JSON");
    assert_eq!(document["place"], "workstation");
    assert_eq!((&document["groups"]["kernel"], &document["groups"]["packages"]), (&0.into(), &Value::Null));
    let checks = document["checks"].as_array().expect("checks");
    assert!(checks.len() >= 60);
    for check in checks {
        let scored = ["ok", "weak"].contains(&check["state"].as_str().expect("a state"));
        assert_eq!(check["scored"], scored, "{check}");
    }
    let state = |id: &str| checks.iter().find(|check| check["id"] == id).expect("a check")["state"].clone();
    // What can't fail on this host is told as that.
    assert_eq!(
        (state("socket-in-container"), state("hosts"), state("npm-token")),
        ("not here".into(), "seen".into(), "absent".into())
    );
    assert_eq!(guard(&["posture", "--root", "/no/such/folder"]).status.code(), Some(125));
}

#[test]
fn a_baseline_names_what_differs() {
    let root = weak_host();
    let path = root.path().to_str().expect("plain");
    let before = guard(&["posture", "--root", path, "--json"]);
    let baseline = root.path().join("before.json");
    fs::write(&baseline, &before.stdout).expect("written");
    let baseline = baseline.to_str().expect("plain");
    let same = guard(&["posture", "--root", path, "--baseline", baseline]);
    assert_eq!(same.status.code(), Some(0), "{}", text(&same.stdout));
    put(root.path(), "etc/hosts", "644 203.0.113.7 localhost\n");
    let changed = guard(&["posture", "--root", path, "--baseline", baseline]);
    assert_eq!(changed.status.code(), Some(86));
    assert!(text(&changed.stdout).contains("changed  hosts "), "{}", text(&changed.stdout));
}

#[test]
fn hardening_is_listed_done_and_undone() {
    let root = weak_host();
    let path = root.path().to_str().expect("plain");
    let key = root.path().join("root/.ssh/id_rsa");
    let setting = root.path().join("proc/sys/kernel/randomize_va_space");
    let state = || {
        let mode = fs::metadata(&key).expect("a key").permissions().mode() & 0o777;
        (mode, fs::read_to_string(&setting).expect("a setting"))
    };
    let before = state();
    let dry = guard(&["posture", "--root", path, "--harden", "--dry-run"]);
    let listed = text(&dry.stdout);
    assert!(listed.contains("would set /root/.ssh/id_rsa: 644 -> 600  (private-keys)"), "{listed}");
    assert!(
        listed.contains("would set /proc/sys/kernel/randomize_va_space: 0 -> 2  (address-layout)"),
        "{listed}"
    );
    assert!(listed.ends_with("2 changes to make\n") && state() == before, "{listed}");
    let done = guard(&["posture", "--root", path, "--harden"]);
    assert_eq!(done.status.code(), Some(0), "{}{}", text(&done.stdout), text(&done.stderr));
    assert_eq!(state(), (0o600, "2\n".to_owned()));
    let again = guard(&["posture", "--root", path, "--harden"]);
    assert!(text(&again.stdout).ends_with("0 changes to make\n"), "{}", text(&again.stdout));
    // What somebody changed since is theirs.
    fs::write(&setting, "1\n").expect("written");
    let undone = guard(&["posture", "--root", path, "--harden", "--undo"]);
    assert!(text(&undone.stdout).ends_with("1 change undone, 1 left alone\n"), "{}", text(&undone.stdout));
    assert_eq!(state(), (0o644, "1\n".to_owned()));
    let nothing = guard(&["posture", "--root", path, "--harden", "--undo"]);
    assert!(text(&nothing.stdout).ends_with("0 changes undone, 0 left alone\n"));
    // A machine that is made anew for each job is not hardened by one.
    put(root.path(), ".dockerenv", "644 ");
    assert_eq!(guard(&["posture", "--root", path, "--harden"]).status.code(), Some(125));
    assert_eq!(guard(&["posture", "--undo"]).status.code(), Some(2));
}

#[test]
fn reading_this_host_is_quick() {
    let homes = ["/root".to_owned()];
    let camera = Camera::new(&homes, env!("CARGO_MANIFEST_DIR"), std::env::var_os("PATH").as_deref());
    camera.shoot();
    let began = Instant::now();
    let states = camera.shoot();
    let took = began.elapsed();
    assert!(states.len() >= 60, "{}", states.len());
    println!("{} checks in {took:?}", states.len());
    // The release build takes a few milliseconds; tests run unoptimised, beside others.
    assert!(took.as_millis() < 1500, "{took:?}");
}

#[test]
fn a_policy_keeps_the_job_from_a_host_that_is_too_weak() {
    let place = tempfile::tempdir().expect("a folder");
    let here = place.path();
    fs::write(here.join(".netrc"), "machine a.example login b password c\n").expect("written");
    for (policy, code, is_started) in [
        ("posture: {require: [netrc]}", 86, false),
        ("posture: {minimum-score: 100}", 86, false),
        // Their quiet twins: what holds, what is low enough, what is only reported.
        ("posture: {require: [git-stored-passwords]}", 0, true),
        ("posture: {minimum-score: 0}", 0, true),
        ("posture: {require: [netrc]}\nfail-on: none", 0, true),
        ("posture: {require: [netrc]}\nexcept: [{rule: posture-netrc, reason: known}]", 0, true),
    ] {
        let (block, rest) = policy.split_once('\n').unwrap_or((policy, ""));
        fs::write(here.join("policy.yml"), format!("version: 1\n{rest}\ndefaults: {{{block}}}\n"))
            .expect("written");
        let _ = fs::remove_file(here.join("started"));
        let output = Command::new(env!("CARGO_BIN_EXE_edamame-guard"))
            .args(["run", "--sensor", "procfs", "--policy", "policy.yml", "--", "/usr/bin/touch", "started"])
            .env("HOME", here)
            .current_dir(here)
            .output()
            .expect("the guard starts");
        let said = text(&output.stderr);
        assert_eq!(
            (output.status.code(), here.join("started").exists()),
            (Some(code), is_started),
            "{policy}\n{said}"
        );
        assert_eq!(said.contains("so the job does not start"), !is_started, "{policy}\n{said}");
    }
}
