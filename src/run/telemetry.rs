//! Takes in what coding agents export of their tool calls: OTLP over HTTP in JSON, on loopback.
//!
//! Anybody on the host can connect, and whoever inherits the environment may send telemetry of its own. So all of it is
//! bounded, on a thread of its own, and each message goes on with the processes that hold the other end.

use std::convert::Infallible;
use std::io::{self, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::Duration;

use flate2::read::GzDecoder;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderName};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};

use crate::agents::telemetry;
use crate::sockets::{self, Tables};
use crate::transcripts::{Export, Holder};

/// A larger message is refused, packed or unpacked.
const LARGEST: usize = 16 << 20;
/// Bytes that are taken in of one session.
const MOST: u64 = 512 << 20;
/// Connections at one time; more are closed.
const CONNECTIONS: usize = 32;
/// Bodies that are read at one time.
const BODIES: usize = 4;
/// Messages that wait to be taken in; whoever sends more is asked to come again.
const WAITING: usize = 256;
/// For a request to be there as a whole.
const PATIENCE: Duration = Duration::from_secs(10);
/// For one connection, however busy.
const LIFETIME: Duration = Duration::from_secs(3600);
/// Descriptors of a process that is just being forked are gone after this.
const FORKING: Duration = Duration::from_millis(5);

/// Said where something was refused for its size or number.
pub(crate) const CUT: &str = "coding agents' telemetry was more than is taken in";

/// The ear for telemetry.
#[derive(Debug)]
pub(crate) struct Telemetry {
    exports: Receiver<Export>,
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    tell: SyncSender<Export>,
    tables: Tables,
    connections: AtomicUsize,
    bodies: AtomicUsize,
    /// Bytes that are still taken in.
    left: AtomicU64,
    is_cut: AtomicBool,
}

impl Telemetry {
    /// Listens on this port of loopback; 0: on any that is free.
    pub(crate) fn at(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (tell, exports) = sync_channel(WAITING);
        let shared = Arc::new(Shared {
            tell,
            tables: Tables::new(),
            connections: AtomicUsize::new(0),
            bodies: AtomicUsize::new(0),
            left: AtomicU64::new(MOST),
            is_cut: AtomicBool::new(false),
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || runtime.block_on(listen(listener, own)));
        Ok(Self { exports, port, shared })
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// What was sent since the last time.
    pub(crate) fn received(&self) -> Vec<Export> {
        self.exports.try_iter().take(WAITING).collect()
    }

    /// Whether something was refused for its size or number.
    pub(crate) fn is_cut(&self) -> bool {
        self.shared.is_cut.load(Ordering::Relaxed)
    }
}

/// Where agents are told to send to.
pub(crate) fn endpoint(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// What agents find in their environment: Claude Code, Gemini CLI, Copilot CLI.
pub(crate) fn environment(port: u16) -> Vec<(&'static str, String)> {
    let endpoint = endpoint(port);
    vec![
        ("CLAUDE_CODE_ENABLE_TELEMETRY", "1".to_owned()),
        ("OTEL_LOGS_EXPORTER", "otlp".to_owned()),
        ("OTEL_LOGS_EXPORT_INTERVAL", "1000".to_owned()),
        ("OTEL_LOG_TOOL_DETAILS", "1".to_owned()),
        ("GEMINI_TELEMETRY_ENABLED", "true".to_owned()),
        ("GEMINI_TELEMETRY_TARGET", "local".to_owned()),
        ("GEMINI_TELEMETRY_OTLP_ENDPOINT", endpoint.clone()),
        ("GEMINI_TELEMETRY_OTLP_PROTOCOL", "http".to_owned()),
        // Else it leaves out a call's arguments. What is no call is not kept.
        ("GEMINI_TELEMETRY_LOG_PROMPTS", "true".to_owned()),
        ("COPILOT_OTEL_ENABLED", "true".to_owned()),
        ("OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT", "true".to_owned()),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json".to_owned()),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint),
    ]
}

/// The variables of our own environment that say where telemetry goes already: it is not ours to send it elsewhere.
pub(crate) fn is_sent_elsewhere() -> Option<&'static str> {
    let set = environment(0).into_iter().map(|(name, _)| name).filter(|name| name.contains("ENDPOINT"));
    let also = ["OTEL_EXPORTER_OTLP_LOGS_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];
    set.chain(also).find(|name| std::env::var_os(name).is_some())
}

/// The option by which Codex, which asks no variable, is told.
pub(crate) fn codex_option(port: u16) -> String {
    let endpoint = endpoint(port);
    format!(r#"-c 'otel.exporter={{otlp-http={{endpoint="{endpoint}/v1/logs",protocol="json"}}}}'"#)
}

/// A place among the few that there are, free again when this goes.
struct Ticket<'s>(&'s AtomicUsize);

impl<'s> Ticket<'s> {
    fn of(count: &'s AtomicUsize, most: usize) -> Option<Self> {
        let take = |taken: usize| (taken < most).then_some(taken + 1);
        count.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).ok().map(|_| Self(count))
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn listen(listener: TcpListener, shared: Arc<Shared>) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            // Out of descriptors: others may give some back.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let Ok(here) = stream.local_addr() else { continue };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let Some(_ticket) = Ticket::of(&shared.connections, CONNECTIONS) else {
                shared.is_cut.store(true, Ordering::Relaxed);
                return;
            };
            let service = service_fn(|request| answer(request, peer, here, &shared));
            let mut builder = http1::Builder::new();
            builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(1 << 16);
            let served = builder.serve_connection(TokioIo::new(stream), service);
            let _ = tokio::time::timeout(LIFETIME, served).await;
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    peer: SocketAddr,
    here: SocketAddr,
    shared: &Shared,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (status, text) = match take(request, peer, here, shared).await {
        Ok(()) => (StatusCode::OK, "{}"),
        Err(refused) => refused,
    };
    if matches!(status, StatusCode::PAYLOAD_TOO_LARGE | StatusCode::SERVICE_UNAVAILABLE) {
        shared.is_cut.store(true, Ordering::Relaxed);
    }
    let kind = if status == StatusCode::OK { "application/json" } else { "text/plain" };
    let mut response = Response::new(Full::new(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    Ok(response)
}

type Refused = (StatusCode, &'static str);

async fn take(
    request: Request<Incoming>,
    peer: SocketAddr,
    here: SocketAddr,
    shared: &Shared,
) -> Result<(), Refused> {
    if !matches!(request.uri().path(), "/v1/logs" | "/v1/traces" | "/v1/metrics") {
        return Err((StatusCode::NOT_FOUND, "there are /v1/logs, /v1/traces and /v1/metrics\n"));
    }
    if request.method() != Method::POST {
        return Err((StatusCode::METHOD_NOT_ALLOWED, "use POST\n"));
    }
    let header = |name: HeaderName| {
        let value = request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    };
    if header(CONTENT_TYPE) != "application/json" {
        let text = "only JSON is read: set OTEL_EXPORTER_OTLP_PROTOCOL=http/json\n";
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    let is_packed = match header(CONTENT_ENCODING).as_str() {
        "" | "identity" => false,
        "gzip" => true,
        _ => return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, "only gzip is unpacked\n")),
    };
    let holds_calls = request.uri().path() != "/v1/metrics";
    let busy = (StatusCode::SERVICE_UNAVAILABLE, "busy; come again\n");
    let _ticket = Ticket::of(&shared.bodies, BODIES).ok_or(busy)?;
    let body = Limited::new(request.into_body(), LARGEST).collect();
    let body = tokio::time::timeout(PATIENCE, body)
        .await
        .map_err(|_| (StatusCode::REQUEST_TIMEOUT, "too slow\n"))?
        .map_err(|_| (StatusCode::PAYLOAD_TOO_LARGE, "a message may have 16 MiB\n"))?
        .to_bytes();
    let size = body.len() as u64;
    let spent = shared.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(size));
    spent.map_err(|_| (StatusCode::SERVICE_UNAVAILABLE, "that was enough for one session\n"))?;
    if !holds_calls {
        return Ok(());
    }
    let text = if is_packed { unpacked(&body)? } else { body.to_vec() };
    let message = serde_json::from_slice(&text).map_err(|_| (StatusCode::BAD_REQUEST, "not JSON\n"))?;
    let entries = telemetry::read(&message);
    if entries.is_empty() {
        return Ok(());
    }
    let holders = holders(peer, here, shared).await;
    shared.tell.try_send(Export { holders, entries }).map_err(|_| busy)
}

fn unpacked(body: &[u8]) -> Result<Vec<u8>, Refused> {
    let mut text = Vec::new();
    let most = LARGEST as u64 + 1;
    GzDecoder::new(body)
        .take(most)
        .read_to_end(&mut text)
        .map_err(|_| (StatusCode::BAD_REQUEST, "not gzip\n"))?;
    if text.len() > LARGEST {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "a message may have 16 MiB\n"));
    }
    Ok(text)
}

/// Who holds the other end of a connection whose answer is still awaited.
async fn holders(peer: SocketAddr, here: SocketAddr, shared: &Shared) -> Vec<Holder> {
    const TRIES: usize = 3;
    let Some(inode) = shared.tables.inode(peer, here) else { return Vec::new() };
    let mut pids = sockets::holders(inode);
    for _ in 1..TRIES {
        if pids.len() <= 1 {
            break;
        }
        // A child has the descriptors of its parent until it runs another program.
        tokio::time::sleep(FORKING).await;
        pids = sockets::holders(inode);
    }
    let start = |pid: u32| {
        let process = procfs::process::Process::new(i32::try_from(pid).ok()?).ok()?;
        Some(process.stat().ok()?.starttime)
    };
    // One that has gone meanwhile is a holder whom nobody knows.
    pids.into_iter().map(|pid| Holder { pid, ticks: start(pid).unwrap_or_default() }).collect()
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::net::TcpStream;
    use std::time::Instant;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;
    use crate::agents::Entry;

    const CALL: &str = r#"{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"attributes":[
        {"key":"event.name","value":{"stringValue":"tool_decision"}},{"key":"tool_name","value":{"stringValue":"Bash"}},
        {"key":"tool_use_id","value":{"stringValue":"c1"}}]}]}]}]}"#;

    /// The status of an answer.
    fn status(stream: &mut TcpStream) -> u16 {
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = [0; 4096];
        let count = stream.read(&mut answer).unwrap();
        let line = String::from_utf8_lossy(&answer[..count]).into_owned();
        line.split(' ').nth(1).unwrap_or_else(|| panic!("{line}")).parse().unwrap()
    }

    fn send(telemetry: &Telemetry, head: &str, body: &[u8]) -> u16 {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, telemetry.port())).unwrap();
        let head = format!("{head}\r\nHost: x\r\nContent-Length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).unwrap();
        // Whoever is refused by the head may find the connection closed.
        let _ = stream.write_all(body);
        status(&mut stream)
    }

    const POST: &str = "POST /v1/logs HTTP/1.1\r\nContent-Type: application/json";

    #[test]
    fn a_message_is_taken_in_with_who_sent_it() {
        let telemetry = Telemetry::at(0).unwrap();
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(CALL.as_bytes()).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(send(&telemetry, POST, CALL.as_bytes()), 200);
        let gzip = format!("{POST}; charset=utf-8\r\nContent-Encoding: gzip");
        assert_eq!(send(&telemetry, &gzip, &packed), 200);
        let received = telemetry.received();
        assert_eq!(received.len(), 2);
        for export in received {
            assert!(matches!(&export.entries[..], [Entry::Call(call)] if call.call == "c1"));
            let pids: Vec<u32> = export.holders.iter().map(|holder| holder.pid).collect();
            assert_eq!(pids, [std::process::id()]);
            assert!(export.holders[0].ticks > 0);
        }
        // What holds no calls is taken, and kept from nobody.
        let metrics = POST.replace("logs", "metrics");
        assert_eq!(send(&telemetry, &metrics, b"{}"), 200);
        assert_eq!(send(&telemetry, POST, br#"{"resourceLogs":[]}"#), 200);
        assert!(telemetry.received().is_empty() && !telemetry.is_cut());
    }

    #[test]
    fn what_is_not_read_is_refused_with_its_reason() {
        let telemetry = Telemetry::at(0).unwrap();
        let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
        for _ in 0..=LARGEST / 1024 {
            bomb.write_all(&[b' '; 1024]).unwrap();
        }
        let bomb = bomb.finish().unwrap();
        let gzip = format!("{POST}\r\nContent-Encoding: gzip");
        for (head, body, wanted) in [
            (POST.replace("json", "x-protobuf"), &b"\x0a"[..], 415),
            (POST.replace("/json", "/jsonp"), b"{}", 415),
            (format!("{POST}\r\nContent-Encoding: br"), b"{}", 415),
            (POST.replace("POST", "GET"), b"", 405),
            (POST.replace("/v1/logs", "/"), b"{}", 404),
            (POST.to_owned(), b"{", 400),
            (gzip.clone(), b"{}", 400),
            (gzip, &bomb, 413),
        ] {
            assert_eq!(send(&telemetry, &head, body), wanted, "{head}");
        }
        let long = format!("{POST}\r\nX: {}", "x".repeat(1 << 17));
        assert!(matches!(send(&telemetry, &long, b"{}"), 400 | 431));
        assert!(telemetry.received().is_empty() && telemetry.is_cut());
    }

    #[test]
    fn whoever_is_slow_or_many_holds_nobody_up() {
        let telemetry = Telemetry::at(0).unwrap();
        let connect = || TcpStream::connect((Ipv4Addr::LOCALHOST, telemetry.port())).unwrap();
        let began = Instant::now();
        // Bodies that never come take up their places, and no more for ever.
        let mut slow: Vec<TcpStream> = (0..BODIES).map(|_| connect()).collect();
        for stream in &mut slow {
            stream.write_all(format!("{POST}\r\nHost: x\r\nContent-Length: 9\r\n\r\n").as_bytes()).unwrap();
        }
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(send(&telemetry, POST, CALL.as_bytes()), 503);
        assert_eq!(status(&mut slow[0]), 408);
        assert!(began.elapsed() < PATIENCE + Duration::from_secs(5));
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(send(&telemetry, POST, CALL.as_bytes()), 200);
        drop(slow);
        let mut silent: Vec<TcpStream> = (0..CONNECTIONS + 8).map(|_| connect()).collect();
        let last = silent.last_mut().unwrap();
        last.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(last.read(&mut [0; 8]).unwrap(), 0, "one too many is closed");
        drop(silent);
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(send(&telemetry, POST, CALL.as_bytes()), 200);
        // Nobody takes them in: those who send more are to come again.
        let statuses: Vec<u16> = (0..WAITING).map(|_| send(&telemetry, POST, CALL.as_bytes())).collect();
        assert_eq!(statuses.last(), Some(&503));
        assert_eq!(telemetry.received().len(), WAITING);
    }

    #[test]
    fn agents_are_told_where_to_send() {
        let environment = environment(4318);
        let of =
            |name: &str| environment.iter().find(|(own, _)| *own == name).map(|(_, value)| value.as_str());
        assert_eq!(of("OTEL_EXPORTER_OTLP_ENDPOINT"), Some("http://127.0.0.1:4318"));
        assert_eq!(of("OTEL_EXPORTER_OTLP_PROTOCOL"), Some("http/json"));
        assert_eq!(
            codex_option(4318),
            r#"-c 'otel.exporter={otlp-http={endpoint="http://127.0.0.1:4318/v1/logs",protocol="json"}}'"#
        );
    }
}
