//! Tells a stand-in for GitHub about runs: what is sent, what is tried again, and what becomes a notice.
//!
//! Every request body is checked against GitHub's own `OpenAPI` description where npm can fetch it (once, into
//! `$XDG_CACHE_HOME/edamame-guard-tests`), and always against the rules that stand here.

use std::fs::{self, File};
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use edamame_guard::finding::{Report, Severity};
use edamame_guard::github::{Channels, Client, Error, Place, PullRequest, publish};
use edamame_guard::policy::Policy;
use edamame_guard::run::judge;
use serde_json::{Value, json};
use wiremock::matchers::{method, path_regex};
use wiremock::{Mock, MockServer, ResponseTemplate};

const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
const HEAD: &str = "89abcdef0123456789abcdef0123456789abcdef";
const OPENAPI: &str = "@octokit/openapi@23.0.2";

const ALL: Channels = Channels { check_run: true, code_scanning: true, comment: true };
const CHECK_RUN: Channels = Channels { code_scanning: false, comment: false, ..ALL };
const CODE_SCANNING: Channels = Channels { check_run: false, comment: false, ..ALL };
const COMMENT: Channels = Channels { check_run: false, code_scanning: false, ..ALL };

fn report(fixture: &str) -> Report {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(fixture);
    let recording = File::open(folder.join("evidence.jsonl")).expect("a recording");
    judge(BufReader::new(recording), Policy::absent(), None).expect("a whole recording")
}

fn attack() -> Report {
    let report = report("npm-poisoned");
    assert!(report.findings.iter().any(|finding| finding.fails), "the fixture has a failing finding");
    report
}

fn clean() -> Report {
    let report = report("npm-honest");
    assert!(report.findings.iter().all(|finding| finding.severity == Severity::Low && !finding.fails));
    report
}

/// The attack's first finding, `count` times over, each with a fingerprint of its own.
fn many(count: usize) -> Report {
    let mut report = attack();
    let one = report.findings[0].clone();
    report.findings = (0..count)
        .map(|number| {
            let mut finding = one.clone();
            finding.fingerprint = format!("{number:032x}");
            finding
        })
        .collect();
    report
}

fn place() -> Place {
    Place {
        repository: "octo/app".to_owned(),
        workflow: Some(".github/workflows/ci.yml".to_owned()),
        job: "test (22, ünïcode / \"x\")".to_owned(),
        commit: COMMIT.to_owned(),
        reference: "refs/pull/7/merge".to_owned(),
        pull_request: Some(PullRequest { number: 7, head: HEAD.to_owned() }),
        attempt: 1,
        page: Some("https://github.example/octo/app/actions/runs/1".to_owned()),
    }
}

/// A server with a runtime for it; the code under test brings its own.
struct Github {
    runtime: tokio::runtime::Runtime,
    server: MockServer,
}

/// A request that came: `POST /repos/octo/app/check-runs`, and its body.
type Request = (String, Value);

impl Github {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let server = runtime.block_on(MockServer::start());
        Self { runtime, server }
    }

    /// Answers `verb` on a path that fits the pattern.
    fn on(&self, verb: &str, pattern: &str, answer: ResponseTemplate) -> &Self {
        let mock = Mock::given(method(verb)).and(path_regex(format!("^{pattern}$"))).respond_with(answer);
        self.runtime.block_on(mock.mount(&self.server));
        self
    }

    /// As [`Self::on`], for the next `times` requests only and before all else.
    fn first(&self, times: u64, verb: &str, pattern: &str, answer: ResponseTemplate) -> &Self {
        let mock = Mock::given(method(verb))
            .and(path_regex(format!("^{pattern}$")))
            .respond_with(answer)
            .up_to_n_times(times)
            .with_priority(1);
        self.runtime.block_on(mock.mount(&self.server));
        self
    }

    /// What works when everything is permitted.
    fn kind(&self) -> &Self {
        self.on("POST", "/repos/octo/app/check-runs", json_of(201, json!({"id": 42})))
            .on("PATCH", "/repos/octo/app/check-runs/42", json_of(200, json!({"id": 42})))
            .on(
                "GET",
                &format!("/repos/octo/app/commits/{HEAD}/check-runs"),
                json_of(200, json!({"total_count": 0, "check_runs": []})),
            )
            .on("GET", "/repos/octo/app/issues/7/comments", json_of(200, json!([])))
            .on("POST", "/repos/octo/app/issues/7/comments", json_of(201, json!({"id": 5})))
            .on("PATCH", "/repos/octo/app/issues/comments/[0-9]+", json_of(200, json!({"id": 5})))
            .on("POST", "/repos/octo/app/code-scanning/sarifs", json_of(202, json!({"id": "6c81-ab"})))
            .on(
                "GET",
                "/repos/octo/app/code-scanning/sarifs/6c81-ab",
                json_of(200, json!({"processing_status": "complete"})),
            )
    }

    fn client(&self) -> Client {
        Client::new(&self.server.uri(), Some("ghs_0123456789"))
    }

    fn publish(&self, report: &Report, channels: Channels) -> Vec<String> {
        publish(report, &place(), channels, &self.client()).into_iter().map(|notice| notice.0).collect()
    }

    /// What came, each checked.
    fn requests(&self) -> Vec<Request> {
        let received = self.runtime.block_on(self.server.received_requests()).expect("recorded");
        received
            .iter()
            .map(|request| {
                let header =
                    |name: &str| request.headers.get(name).map(|value| value.to_str().expect("text"));
                assert_eq!(header("authorization"), Some("Bearer ghs_0123456789"));
                assert!(header("x-github-api-version").is_some() && header("user-agent").is_some());
                let name = format!("{} {}", request.method, request.url.path());
                let body = if request.body.is_empty() {
                    Value::Null
                } else {
                    serde_json::from_slice(&request.body).expect("JSON")
                };
                check(&name, &body);
                (name, body)
            })
            .collect()
    }
}

fn json_of(status: u16, body: Value) -> ResponseTemplate {
    ResponseTemplate::new(status).set_body_json(body)
}

fn refusal(status: u16, message: &str) -> ResponseTemplate {
    json_of(status, json!({"message": message, "documentation_url": "https://docs.example"}))
}

fn of<'a>(requests: &'a [Request], name: &str) -> Vec<&'a Value> {
    requests.iter().filter(|(request, _)| request == name).map(|(_, body)| body).collect()
}

// --- what a request body must be --------------------------------------------------------------

fn check(name: &str, body: &Value) {
    let route = match name {
        "POST /repos/octo/app/check-runs" => "/repos/{owner}/{repo}/check-runs",
        "PATCH /repos/octo/app/check-runs/42" => "/repos/{owner}/{repo}/check-runs/{check_run_id}",
        "POST /repos/octo/app/code-scanning/sarifs" => "/repos/{owner}/{repo}/code-scanning/sarifs",
        "POST /repos/octo/app/issues/7/comments" => "/repos/{owner}/{repo}/issues/{issue_number}/comments",
        name if name.starts_with("PATCH /repos/octo/app/issues/comments/") => {
            "/repos/{owner}/{repo}/issues/comments/{comment_id}"
        }
        name if name.starts_with("GET ") => {
            assert!(body.is_null(), "{name} has a body");
            return;
        }
        other => panic!("what is `{other}`?"),
    };
    let characters = |value: &Value| value.as_str().expect("a text").chars().count();
    if route.contains("check-runs") {
        let output = &body["output"];
        assert!(characters(&output["title"]) <= 255 && characters(&output["summary"]) <= 65_535);
        let annotations = output["annotations"].as_array().expect("a list");
        assert!(annotations.len() <= 50, "{}", annotations.len());
        for annotation in annotations {
            let path = annotation["path"].as_str().expect("a path");
            assert!(!path.is_empty() && !path.starts_with('/'), "{path}");
            assert!(annotation["start_line"].as_u64() >= Some(1));
            assert!(annotation["end_line"].as_u64() >= annotation["start_line"].as_u64());
            assert!(characters(&annotation["title"]) <= 255 && characters(&annotation["message"]) <= 65_536);
            let level = annotation["annotation_level"].as_str().expect("a level");
            assert!(["notice", "warning", "failure"].contains(&level), "{level}");
        }
        if name.starts_with("POST") {
            assert!(characters(&body["name"]) <= 255);
            assert_eq!(body["status"], "completed");
            assert!(["success", "failure", "neutral"].contains(&body["conclusion"].as_str().expect("one")));
        }
    } else if route.contains("sarifs") {
        assert!(body["commit_sha"].as_str().expect("a commit").bytes().all(|byte| byte.is_ascii_hexdigit()));
        assert_eq!(body["commit_sha"].as_str().map(str::len), Some(40));
        assert!(body["ref"].as_str().expect("a reference").starts_with("refs/"));
        let log = unpacked(body);
        assert_eq!(log["version"], "2.1.0");
        assert!(log["runs"][0]["automationDetails"]["id"].as_str().expect("an id").contains('/'));
    } else {
        assert!(characters(&body["body"]) <= 65_536);
        assert!(body["body"].as_str().expect("a text").starts_with("<!-- edamame-guard "));
    }
    if let Some(openapi) = openapi() {
        let verb = name.split(' ').next().expect("a verb").to_lowercase();
        let schema = &openapi["paths"][route][&verb]["requestBody"]["content"]["application/json"]["schema"];
        assert!(schema.is_object(), "{verb} {route} is not described");
        let schema = resolved(schema, openapi, 0);
        let validator = jsonschema::options()
            .should_validate_formats(true)
            .build(&schema)
            .unwrap_or_else(|error| panic!("{route}: {error}"));
        let wrong: Vec<String> =
            validator.iter_errors(body).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(wrong.is_empty(), "{name}: {wrong:#?}");
    }
}

fn unpacked(upload: &Value) -> Value {
    let packed = BASE64_STANDARD.decode(upload["sarif"].as_str().expect("a file")).expect("base64");
    assert!(packed.len() <= 10_000_000);
    let mut text = String::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_string(&mut text).expect("gzip");
    serde_json::from_str(&text).expect("JSON")
}

/// The schema with what it refers to in place.
fn resolved(schema: &Value, document: &Value, depth: usize) -> Value {
    assert!(depth < 40, "the schema refers to itself");
    match schema {
        Value::Object(parts) => match parts.get("$ref").and_then(Value::as_str) {
            Some(target) => {
                let target = document.pointer(target.trim_start_matches('#')).expect(target);
                resolved(target, document, depth + 1)
            }
            None => parts
                .iter()
                .map(|(key, part)| (key.clone(), resolved(part, document, depth + 1)))
                .collect::<serde_json::Map<_, _>>()
                .into(),
        },
        Value::Array(parts) => parts.iter().map(|part| resolved(part, document, depth + 1)).collect(),
        other => other.clone(),
    }
}

/// GitHub's description of its interface; `None`, said once, where npm can't fetch it.
fn openapi() -> Option<&'static Value> {
    static OPENAPI_FILE: OnceLock<Option<Value>> = OnceLock::new();
    OPENAPI_FILE
        .get_or_init(|| {
            let Some(path) = fetched() else {
                println!("skipped: request bodies are not compared with {OPENAPI}: npm could not fetch it");
                return None;
            };
            let text = fs::read_to_string(path).expect("a readable file");
            Some(serde_json::from_str(&text).expect("JSON"))
        })
        .as_ref()
}

fn fetched() -> Option<PathBuf> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache")))?
        .join("edamame-guard-tests");
    let file = cache.join("octokit-openapi-23.0.2.json");
    if file.is_file() {
        return Some(file);
    }
    fs::create_dir_all(&cache).ok()?;
    let folder = tempfile::tempdir_in(&cache).ok()?;
    let quiet = |program: &str, words: &[&str]| {
        let status = Command::new(program)
            .args(words)
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        status.ok().filter(std::process::ExitStatus::success).map(|_| ())
    };
    quiet("timeout", &["120", "npm", "pack", "--silent", OPENAPI])?;
    quiet("tar", &["-xzf", "octokit-openapi-23.0.2.tgz", "package/generated/api.github.com.json"])?;
    // Whole or not at all: another test may look for it now.
    fs::rename(folder.path().join("package/generated/api.github.com.json"), &file).ok()?;
    Some(file)
}

// --- when all goes well -----------------------------------------------------------------------

#[test]
fn an_attack_is_told_by_every_channel() {
    let github = Github::start();
    github.kind();
    assert_eq!(github.publish(&attack(), ALL), Vec::<String>::new());
    let requests = github.requests();

    let check = of(&requests, "POST /repos/octo/app/check-runs")[0];
    assert_eq!(check["conclusion"], "failure");
    assert_eq!(check["head_sha"], HEAD, "a pull request shows the checks of its own last commit");
    assert!(check["name"].as_str().unwrap().starts_with("edamame-guard / test (22"));
    assert!(!check["output"]["annotations"].as_array().unwrap().is_empty());

    let comment = of(&requests, "POST /repos/octo/app/issues/7/comments")[0]["body"].as_str().unwrap();
    assert!(comment.contains("**Watched** ") && comment.contains("fail the job"), "{comment}");

    let upload = of(&requests, "POST /repos/octo/app/code-scanning/sarifs")[0];
    assert_eq!((&upload["commit_sha"], &upload["ref"]), (&json!(COMMIT), &json!("refs/pull/7/merge")));
    assert!(!unpacked(upload)["runs"][0]["results"].as_array().unwrap().is_empty());
}

#[test]
fn a_clean_run_is_uploaded_and_makes_no_check_run() {
    let github = Github::start();
    github.kind();
    assert_eq!(github.publish(&clean(), ALL), Vec::<String>::new());
    let requests = github.requests();
    assert!(of(&requests, "POST /repos/octo/app/check-runs").is_empty());
    let log = unpacked(of(&requests, "POST /repos/octo/app/code-scanning/sarifs")[0]);
    assert!(log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap().len() > 5);

    // A second attempt takes back what the first one may have said.
    let again = Place { attempt: 2, pull_request: None, ..place() };
    assert!(publish(&clean(), &again, CHECK_RUN, &github.client()).is_empty());
    let requests = github.requests();
    let check = of(&requests, "POST /repos/octo/app/check-runs")[0];
    assert_ne!(check["conclusion"], "failure");
    assert_eq!(check["head_sha"], COMMIT);
}

#[test]
fn each_job_and_each_leg_of_a_matrix_has_a_category_of_its_own() {
    let category = |workflow: &str, job: &str| {
        let github = Github::start();
        github.kind();
        let place = Place { workflow: Some(workflow.to_owned()), job: job.to_owned(), ..place() };
        assert!(publish(&clean(), &place, CODE_SCANNING, &github.client()).is_empty());
        let requests = github.requests();
        let log = unpacked(of(&requests, "POST /repos/octo/app/code-scanning/sarifs")[0]);
        let id = log["runs"][0]["automationDetails"]["id"].as_str().expect("an id").to_owned();
        id.rsplit_once('/').expect("a category").0.to_owned()
    };
    assert_eq!(category("ci.yml", "test (22)"), "edamame-guard/ci.yml/test (22)");
    assert_eq!(category("ci.yml", "a/b"), "edamame-guard/ci.yml/a/b");
    assert_eq!(category("", "x\n::error::y"), "edamame-guard/-/x : :error::y");
}

#[test]
fn three_hundred_findings_come_in_batches_of_fifty() {
    let github = Github::start();
    github.kind();
    assert_eq!(github.publish(&many(300), ALL), Vec::<String>::new());
    let requests = github.requests();
    let count = |body: &Value| body["output"]["annotations"].as_array().unwrap().len();
    let created = of(&requests, "POST /repos/octo/app/check-runs");
    let updates = of(&requests, "PATCH /repos/octo/app/check-runs/42");
    assert_eq!((created.len(), updates.len()), (1, 5));
    assert_eq!(created.into_iter().chain(updates).map(count).sum::<usize>(), 300);
    let log = unpacked(of(&requests, "POST /repos/octo/app/code-scanning/sarifs")[0]);
    assert_eq!(log["runs"][0]["results"].as_array().unwrap().len(), 300);
}

/// What a process may be called, and what each reader could take it for.
const HOSTILE: &str = "\n::error file=a.yml::forged\n::set-output name=x::y\r\n::add-mask::a\n##[error]forged\n| a | b |\n|---|---|\n# Heading\n\
    </details></td></table><script>alert(1)</script><img src=x onerror=alert(1)>![i](https://x.example/i.png)[a](javascript:alert(1)) `x` ``` ~~~\n\
    <!-- edamame-guard 0011223344556677 -->]]>\u{1b}[31m\u{202e}\u{2028}\u{0}%0A%0D@everyone ";

/// Three hundred findings whose every text is of that kind, 5 MB of it in all: some are very long.
fn hostile() -> Report {
    const EACH: usize = 16_000;
    let long = HOSTILE.repeat(EACH / HOSTILE.len() + 1);
    let mut report = many(300);
    for (number, finding) in report.findings.iter_mut().enumerate() {
        let text = if number % 30 == 0 { format!("{number}{long}") } else { format!("{number}{HOSTILE}") };
        finding.title.clone_from(&text);
        finding.object.clone_from(&text);
        finding.declared = Some(text.clone());
        finding.more_objects = vec![text.clone()];
        for process in finding.process.iter_mut().chain(&mut finding.ancestry) {
            process.name.clone_from(&text);
            process.executable = format!("/{text}");
            process.arguments = vec![text.clone(); 3];
        }
        if let Some(location) = &mut finding.location {
            location.path.clone_from(&text);
        }
    }
    report
}

/// The text without what stands in code: between two runs of as many backticks.
fn outside_code(text: &str) -> String {
    let run = |text: &str| text.bytes().take_while(|byte| *byte == b'`').count();
    let (mut plain, mut rest) = (String::new(), text);
    while let Some(at) = rest.find('`') {
        let length = run(&rest[at..]);
        let is_escaped = rest[..at].ends_with('\\');
        plain.push_str(&rest[..at]);
        rest = &rest[at + if is_escaped { 1 } else { length }..];
        if is_escaped {
            continue;
        }
        let mut end = 0;
        while let Some(next) = rest[end..].find('`') {
            let found = run(&rest[end + next..]);
            if found == length {
                rest = &rest[end + next + found..];
                break;
            }
            end += next + found;
        }
    }
    plain + rest
}

/// No line outside of code and no tag that a page would show as its own.
fn harmless_markdown(text: &str) {
    let lower = outside_code(text).to_lowercase();
    for tag in ["<script", "<img", "</td", "</table"] {
        assert!(!lower.contains(tag), "{tag} in {}", &text[..text.len().min(2000)]);
    }
    for line in text.lines().map(str::trim_start) {
        assert!(!line.starts_with("# Heading") && !line.starts_with("| a | b |"), "{line}");
    }
    assert!(!text.contains("\n::"), "a command");
    assert!(!text.contains(['\u{1b}', '\u{202e}', '\u{0}']), "a control character");
}

#[test]
fn five_megabytes_of_hostile_names_stay_within_every_limit() {
    let report = hostile();
    let commands = edamame_guard::github::workflow_commands(&report);
    let lines: Vec<&str> = commands.split(['\n', '\r', '\u{2028}']).filter(|line| !line.is_empty()).collect();
    assert!(lines.len() <= 31, "{}", lines.len());
    for line in &lines {
        assert!(
            line.starts_with("::error ") || line.starts_with("edamame-guard: 290 more findings"),
            "{line}"
        );
        assert!(line.rsplit("::").next().expect("a message").chars().count() <= 4096);
        assert_eq!(line.matches("::error ").count() + usize::from(line.starts_with("edamame")), 1, "{line}");
    }
    let mut summary = Vec::new();
    let rules = edamame_guard::detections::all();
    edamame_guard::reports::write(edamame_guard::reports::Format::Summary, &report, rules, &mut summary)
        .expect("written");
    assert!(summary.len() <= 900 * 1024, "{}", summary.len());
    harmless_markdown(&String::from_utf8(summary).expect("UTF-8"));
    let mut page = Vec::new();
    edamame_guard::reports::write(edamame_guard::reports::Format::Html, &report, rules, &mut page)
        .expect("written");
    let page = String::from_utf8(page).expect("UTF-8");
    assert!(!page.contains("<script>alert") && !page.contains("<img src=x"));

    let github = Github::start();
    github.kind();
    let mut odd = place();
    for job in [
        "test (22, \"x\", 'y')",
        "a/b/c",
        "ünï ☃ 測試",
        "line\nbreak\r\n::error::x",
        "--> <script>alert(1)</script>",
        &"long ".repeat(500),
    ] {
        odd.job = job.to_owned();
        let notices = publish(&report, &odd, ALL, &github.client());
        assert_eq!(notices, Vec::new(), "{job}");
    }
    let requests = github.requests();
    for body in of(&requests, "POST /repos/octo/app/issues/7/comments") {
        harmless_markdown(body["body"].as_str().expect("text"));
    }
    let runs = of(&requests, "POST /repos/octo/app/check-runs");
    assert_eq!(runs.len(), 6);
    for run in runs {
        assert!(!run["name"].as_str().expect("text").contains(['\n', '\r']), "{run}");
        harmless_markdown(run["output"]["summary"].as_str().expect("text"));
    }
    let mut categories: Vec<String> = of(&requests, "POST /repos/octo/app/code-scanning/sarifs")
        .into_iter()
        .map(|upload| {
            let log = unpacked(upload);
            let id = log["runs"][0]["automationDetails"]["id"].as_str().expect("an id").to_owned();
            id.rsplit_once('/').expect("a category").0.to_owned()
        })
        .collect();
    categories.sort();
    categories.dedup();
    assert_eq!(categories.len(), 6, "each job has its own: {categories:?}");
}

#[test]
fn the_jobs_own_comment_is_kept_up_to_date() {
    let github = Github::start();
    github.kind();
    github.publish(&attack(), COMMENT);
    let written = of(&github.requests(), "POST /repos/octo/app/issues/7/comments")[0]["body"].clone();
    let other = json!({"id": 1, "body": "LGTM", "author_association": "OWNER", "user": {"type": "User"}});
    let stranger = json!({"id": 2, "body": written, "author_association": "NONE", "user": {"type": "User"}});
    let ours = json!({"id": 3, "body": written, "author_association": "NONE", "user": {"type": "Bot"}});

    let page = vec![other; 100];
    github.first(1, "GET", "/repos/octo/app/issues/7/comments", json_of(200, page.into()));
    github.first(1, "GET", "/repos/octo/app/issues/7/comments", json_of(200, json!([stranger, ours])));
    assert_eq!(github.publish(&clean(), COMMENT), Vec::<String>::new());
    let requests = github.requests();
    assert_eq!(of(&requests, "POST /repos/octo/app/issues/7/comments").len(), 1, "no second one");
    assert_eq!(of(&requests, "PATCH /repos/octo/app/issues/comments/3").len(), 1);
    assert!(of(&requests, "PATCH /repos/octo/app/issues/comments/2").is_empty());

    // Outside of a pull request there is nothing to write on.
    let push = Place { pull_request: None, ..place() };
    assert!(publish(&attack(), &push, COMMENT, &github.client()).is_empty());
    assert_eq!(github.requests().len(), requests.len());
}

// --- when it does not -------------------------------------------------------------------------

#[test]
fn a_refusal_everywhere_is_three_notices() {
    for (status, says) in [
        (401, "the token is not valid"),
        (403, "the job needs `permissions: "),
        (404, "the job needs `permissions: "),
        (422, "GitHub answered 422"),
    ] {
        let github = Github::start();
        for verb in ["GET", "POST", "PATCH"] {
            github.on(verb, "/.*", refusal(status, "Resource not accessible by integration"));
        }
        let notices = github.publish(&attack(), ALL);
        assert_eq!(notices.len(), 3, "{notices:?}");
        assert!(notices.iter().all(|notice| notice.contains(says)), "{notices:?}");
        assert!(notices.iter().all(|notice| notice.contains(&status.to_string())), "{notices:?}");
        if status == 403 {
            for permission in ["checks: write", "pull-requests: write", "security-events: write"] {
                assert!(notices.iter().any(|notice| notice.contains(permission)), "{permission}");
            }
        }
        assert_eq!(github.requests().len(), 3, "{status} is not tried again");
    }
}

#[test]
fn a_fault_of_the_server_is_tried_again() {
    let github = Github::start();
    github.first(2, "POST", "/repos/octo/app/check-runs", refusal(502, "Bad gateway")).kind();
    assert_eq!(github.publish(&attack(), CHECK_RUN), Vec::<String>::new());
    assert_eq!(of(&github.requests(), "POST /repos/octo/app/check-runs").len(), 3);

    let github = Github::start();
    github.on("POST", "/.*", refusal(503, "Service unavailable"));
    let notices = github.publish(&attack(), CODE_SCANNING);
    assert_eq!(notices, ["nothing for code scanning: GitHub answered 503: Service unavailable"]);
    assert_eq!(github.requests().len(), 4);
}

#[test]
fn what_was_made_though_the_answer_was_lost_is_not_made_again() {
    const LIST: &str = "/repos/octo/app/commits/89abcdef0123456789abcdef0123456789abcdef/check-runs";
    // What a first, undisturbed run calls itself is how GitHub lists it.
    let github = Github::start();
    github.kind();
    github.publish(&many(60), CHECK_RUN);
    let requests = github.requests();
    let id = of(&requests, "POST /repos/octo/app/check-runs")[0]["external_id"].clone();
    let listed = |id: &Value| {
        json_of(200, json!({"check_runs": [{"id": 41, "external_id": "x"}, {"id": 42, "external_id": id}]}))
    };

    let github = Github::start();
    github.first(1, "POST", "/repos/octo/app/check-runs", refusal(502, "Bad gateway"));
    github.first(1, "GET", LIST, listed(&id)).kind();
    assert_eq!(github.publish(&many(60), CHECK_RUN), Vec::<String>::new());
    let requests = github.requests();
    assert_eq!(of(&requests, "POST /repos/octo/app/check-runs").len(), 1, "made once");
    assert_eq!(of(&requests, "PATCH /repos/octo/app/check-runs/42").len(), 1, "its other annotations follow");

    // One of another run is not ours.
    let github = Github::start();
    github.first(1, "POST", "/repos/octo/app/check-runs", refusal(502, "Bad gateway"));
    github.first(1, "GET", LIST, listed(&json!("another"))).kind();
    assert_eq!(github.publish(&attack(), CHECK_RUN), Vec::<String>::new());
    assert_eq!(of(&github.requests(), "POST /repos/octo/app/check-runs").len(), 2);

    // Where nobody can look, nothing is made twice.
    let github = Github::start();
    github.first(1, "POST", "/repos/octo/app/check-runs", refusal(502, "Bad gateway"));
    github.first(1, "GET", LIST, refusal(403, "Resource not accessible")).kind();
    assert_eq!(github.publish(&attack(), CHECK_RUN), ["no check run: GitHub answered 502: Bad gateway"]);
    assert_eq!(of(&github.requests(), "POST /repos/octo/app/check-runs").len(), 1);

    // The comment likewise: it is found by its mark.
    let github = Github::start();
    github.kind();
    github.publish(&attack(), COMMENT);
    let body = of(&github.requests(), "POST /repos/octo/app/issues/7/comments")[0]["body"].clone();
    let there = json!([{"id": 5, "body": body, "author_association": "NONE", "user": {"type": "Bot"}}]);
    let github = Github::start();
    github.first(1, "GET", "/repos/octo/app/issues/7/comments", json_of(200, json!([])));
    github.first(1, "POST", "/repos/octo/app/issues/7/comments", refusal(502, "Bad gateway"));
    github.on("GET", "/repos/octo/app/issues/7/comments", json_of(200, there));
    assert_eq!(github.publish(&attack(), COMMENT), Vec::<String>::new());
    assert_eq!(of(&github.requests(), "POST /repos/octo/app/issues/7/comments").len(), 1);
}

#[test]
fn a_secondary_limit_is_waited_for_as_long_as_github_says() {
    let limit = |seconds: &str| {
        refusal(403, "You have exceeded a secondary rate limit").insert_header("retry-after", seconds)
    };
    let github = Github::start();
    github.first(1, "POST", "/repos/octo/app/check-runs", limit("1")).kind();
    let began = Instant::now();
    assert_eq!(github.publish(&attack(), CHECK_RUN), Vec::<String>::new());
    assert!(began.elapsed() >= Duration::from_secs(1));

    // Longer than there is time: said at once.
    let github = Github::start();
    github.on("POST", "/.*", limit("60"));
    let began = Instant::now();
    let notices = github.publish(&attack(), CHECK_RUN);
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(
        notices,
        ["no check run: GitHub answered 403: You have exceeded a secondary rate limit"],
        "no permission helps here"
    );
    assert_eq!(github.requests().len(), 1);
}

#[test]
fn the_file_is_waited_for_until_it_is_read() {
    const STATE: &str = "/repos/octo/app/code-scanning/sarifs/6c81-ab";
    let github = Github::start();
    github
        .first(1, "GET", STATE, refusal(404, "Not Found"))
        .first(1, "GET", STATE, json_of(200, json!({"processing_status": "pending"})))
        .kind();
    assert_eq!(github.publish(&clean(), CODE_SCANNING), Vec::<String>::new());
    assert_eq!(of(&github.requests(), &format!("GET {STATE}")).len(), 3);

    let github = Github::start();
    let failed = json!({"processing_status": "failed", "errors": ["rule\n::error::id is missing"]});
    github.first(1, "GET", STATE, json_of(200, failed)).kind();
    assert_eq!(
        github.publish(&clean(), CODE_SCANNING),
        ["nothing for code scanning: GitHub could not read results.sarif: rule : :error::id is missing"]
    );
}

#[test]
fn all_together_never_takes_longer_than_the_budget() {
    let github = Github::start();
    let slow = json_of(201, json!({"id": 42})).set_delay(Duration::from_secs(60));
    github.on("POST", "/.*", slow.clone()).on("GET", "/.*", slow);
    let client = github.client().with_budget(Duration::from_secs(2));
    let began = Instant::now();
    let notices = publish(&attack(), &place(), ALL, &client);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    assert_eq!(notices.len(), 3);
    // What one call used up, the next has not.
    assert!(matches!(client.contents("octo/app", "a", "main"), Err(Error::Time(2))));
}

#[test]
fn a_server_that_is_not_there_is_a_notice() {
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("one").port();
    let client = Client::new(&format!("http://127.0.0.1:{port}"), Some("ghs_0123456789"))
        .with_budget(Duration::from_secs(1));
    let notices = publish(&attack(), &place(), CHECK_RUN, &client);
    assert!(notices[0].0.starts_with("no check run: no answer: "), "{notices:?}");
    assert!(!notices[0].0.contains("ghs_"), "{notices:?}");

    let without = Client::new("http://127.0.0.1:9", Some("  "));
    assert_eq!(
        publish(&attack(), &place(), ALL, &without)[0].0,
        "nothing was sent to GitHub: there is no token"
    );
}

#[test]
fn odd_places_are_refused_before_anything_is_sent() {
    let github = Github::start();
    github.kind();
    for repository in ["", "octo", "octo/app/../../user", "octo/a?b"] {
        let place = Place { repository: repository.to_owned(), ..place() };
        let notices = publish(&attack(), &place, ALL, &github.client());
        assert_eq!(notices.len(), 3, "{notices:?}");
    }
    assert!(github.requests().is_empty());
}

// --- one file of a repository -----------------------------------------------------------------

#[test]
fn a_file_is_read_as_it_is_at_a_commit() {
    let github = Github::start();
    let packed = BASE64_STANDARD.encode("version: 1\n");
    let (half, rest) = packed.split_at(7);
    let file = json!({"type": "file", "encoding": "base64", "content": format!("{half}\n{rest}\n")});
    github.on("GET", "/repos/octo/app/contents/.github/guard.yml", json_of(200, file));
    let read = github.client().contents("octo/app", "./.github/guard.yml", "refs/heads/ma in").unwrap();
    assert_eq!(read.as_deref(), Some(b"version: 1\n".as_slice()));
    let received = github.runtime.block_on(github.server.received_requests()).unwrap();
    assert_eq!(received[0].url.query(), Some("ref=refs%2Fheads%2Fma%20in"));
}

#[test]
fn a_missing_file_is_believed_only_where_the_commit_can_be_read() {
    let github = Github::start();
    github.on("GET", "/repos/octo/app/contents/.*", refusal(404, "Not Found"));
    let commits = format!("/repos/octo/app/commits/{COMMIT}");
    github.first(1, "GET", &commits, json_of(200, json!({"sha": COMMIT})));
    assert!(github.client().contents("octo/app", "x.yml", COMMIT).unwrap().is_none());
    github.on("GET", &commits, refusal(404, "Not Found"));
    let error = github.client().contents("octo/app", "x.yml", COMMIT).unwrap_err();
    assert_eq!(error.status(), Some(404));
}

#[test]
fn what_is_no_file_or_not_readable_is_an_error() {
    let github = Github::start();
    github
        .on("GET", "/repos/octo/app/contents/folder", json_of(200, json!([{"type": "file"}])))
        .on(
            "GET",
            "/repos/octo/app/contents/big",
            json_of(200, json!({"type": "file", "encoding": "none", "content": ""})),
        )
        .on("GET", "/repos/octo/app/contents/sub", json_of(200, json!({"type": "submodule"})))
        .on("GET", "/repos/octo/app/contents/no", refusal(403, "Resource not accessible"));
    for name in ["folder", "big", "sub", "no", "../x", ""] {
        assert!(github.client().contents("octo/app", name, "main").is_err(), "{name}");
    }
}

#[test]
fn a_callers_runtime_does_no_harm() {
    let github = Github::start();
    github.kind();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let client = github.client();
    let notices = runtime.block_on(async { publish(&attack(), &place(), CHECK_RUN, &client) });
    assert!(notices.is_empty(), "{notices:?}");
}
