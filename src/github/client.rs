//! The connection: one budget of time for everything, second tries, and no secret in what is printed.

use std::fmt::{self, Write as _};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use octocrab::Octocrab;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

/// For all that one client does, waiting included.
const BUDGET: Duration = Duration::from_secs(30);

/// One that does not answer must not use up what the others need.
const ONE_TRY: Duration = Duration::from_secs(12);

const MOST_TRIES: u32 = 4;

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("`{0}` is no repository: it is written owner/name")]
    Repository(String),
    #[error("cannot talk to `{base}`: {reason}")]
    Setup { base: String, reason: String },
    #[error("GitHub answered {status}: {message}")]
    Answered { status: u16, message: String },
    #[error("GitHub's answer is not understood: {0}")]
    Answer(String),
    #[error("no answer: {0}")]
    Transport(String),
    #[error("there was no time left: GitHub gets {0} seconds in all")]
    Time(u64),
    #[error("{0}")]
    Refused(String),
}

impl Error {
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            _ => None,
        }
    }

    /// Whether it is about too many requests, which no permission helps.
    pub(super) fn is_limit(&self) -> bool {
        matches!(self, Self::Answered { message, .. } if is_limit(message))
    }
}

fn is_limit(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    message.contains("rate limit") || message.contains("abuse detection")
}

/// How to reach GitHub. It opens nothing before it is used.
pub struct Client {
    base: String,
    token: Option<String>,
    budget: Duration,
    left: Mutex<Duration>,
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("base", &self.base).finish_non_exhaustive()
    }
}

impl Client {
    /// `base` is the value of `GITHUB_API_URL`.
    pub fn new(base: &str, token: Option<&str>) -> Self {
        let token = token.map(str::trim).filter(|token| !token.is_empty()).map(str::to_owned);
        Self { base: base.trim_end_matches('/').to_owned(), token, budget: BUDGET, left: Mutex::new(BUDGET) }
    }

    /// Less time than the usual 30 seconds.
    pub fn with_budget(mut self, budget: Duration) -> Self {
        self.budget = budget.min(BUDGET);
        self.left = Mutex::new(self.budget);
        self
    }

    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Works with GitHub until it is done or the time is over.
    ///
    /// It waits on a thread with a runtime of its own, so that callers need none, and may have one.
    pub(super) fn spend<T: Send>(&self, work: impl AsyncFnOnce(&Connection) -> T + Send) -> Result<T, Error> {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        if left.is_zero() {
            return Err(Error::Time(self.budget.as_secs()));
        }
        let began = std::time::Instant::now();
        let worker = || -> Result<T, Error> {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| self.unusable(&error))?;
            runtime.block_on(async {
                let octocrab = self.octocrab()?;
                let connection =
                    Connection { octocrab, deadline: Instant::now() + *left, budget: self.budget };
                Ok(work(&connection).await)
            })
        };
        let outcome = std::thread::scope(|scope| {
            scope.spawn(worker).join().unwrap_or_else(|_| Err(self.unusable(&"the client broke off")))
        });
        *left = left.saturating_sub(began.elapsed());
        outcome
    }

    fn octocrab(&self) -> Result<Octocrab, Error> {
        let mut builder = Octocrab::builder()
            .base_uri(self.base.as_str())
            .map_err(|error| self.unusable(&error))?
            .set_connect_timeout(Some(Duration::from_secs(5)));
        if let Some(token) = &self.token {
            builder = builder.personal_token(token.clone());
        }
        builder.build().map_err(|error| self.unusable(&error))
    }

    fn unusable(&self, reason: &dyn fmt::Display) -> Error {
        Error::Setup { base: self.base.clone(), reason: reason.to_string() }
    }
}

/// `owner/name`, as it may stand in a route.
pub(super) fn repository(name: &str) -> Result<&str, Error> {
    let is_word = |word: &str| {
        !word.is_empty()
            && word != "."
            && word != ".."
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    match name.split_once('/') {
        Some((owner, repository)) if is_word(owner) && is_word(repository) => Ok(name),
        _ => Err(Error::Repository(name.to_owned())),
    }
}

/// One part of a route or a query, with everything escaped that means something there.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            safe.push(char::from(byte));
        } else {
            let _ = write!(safe, "%{byte:02X}");
        }
    }
    safe
}

pub(super) struct Connection {
    octocrab: Octocrab,
    deadline: Instant,
    budget: Duration,
}

/// A whole answer that says it worked.
pub(super) struct Answer(String);

impl Answer {
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(&self.0).map_err(|error| Error::Answer(error.to_string()))
    }
}

impl Connection {
    pub(super) async fn get(&self, route: &str) -> Result<Answer, Error> {
        self.ask(route, Method::Get, &()).await
    }

    /// Makes something new by `body`; gives what `read` finds in the answer.
    ///
    /// An answer that is lost, or a fault of the server, does not say that nothing was made. So before each further try
    /// `find` looks whether it is there; where it can't look, there is no further try.
    pub(super) async fn make<T>(
        &self,
        route: &str,
        body: &impl Serialize,
        read: impl Fn(&Answer) -> Result<T, Error>,
        find: impl AsyncFn() -> Result<Option<T>, Error>,
    ) -> Result<T, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            if self.left().is_zero() {
                return Err(Error::Time(self.budget.as_secs()));
            }
            let (error, asked_to_wait) = match self.once(route, Method::Post, body).await {
                Try::Done(answer) => return read(&answer),
                Try::Failed(error, asked_to_wait) => (error, asked_to_wait),
            };
            match pause(&error, asked_to_wait, tries) {
                Some(wait) if tries < MOST_TRIES && wait < self.left() => tokio::time::sleep(wait).await,
                _ => return Err(error),
            }
            let may_be_made = !matches!(error, Error::Answered { status: ..500, .. });
            if may_be_made {
                match find().await {
                    Ok(Some(made)) => return Ok(made),
                    Ok(None) => {}
                    Err(_) => return Err(error),
                }
            }
        }
    }

    pub(super) async fn post(&self, route: &str, body: &impl Serialize) -> Result<Answer, Error> {
        self.ask(route, Method::Post, body).await
    }

    pub(super) async fn patch(&self, route: &str, body: &impl Serialize) -> Result<Answer, Error> {
        self.ask(route, Method::Patch, body).await
    }

    pub(super) fn left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Asks again after a fault of the server or when told to wait, as long as there is time.
    async fn ask(&self, route: &str, method: Method, body: &impl Serialize) -> Result<Answer, Error> {
        let mut tries = 0;
        loop {
            tries += 1;
            if self.left().is_zero() {
                return Err(Error::Time(self.budget.as_secs()));
            }
            let (error, asked_to_wait) = match self.once(route, method, body).await {
                Try::Done(answer) => return Ok(answer),
                Try::Failed(error, asked_to_wait) => (error, asked_to_wait),
            };
            match pause(&error, asked_to_wait, tries) {
                Some(wait) if tries < MOST_TRIES && wait < self.left() => tokio::time::sleep(wait).await,
                _ => return Err(error),
            }
        }
    }

    async fn once(&self, route: &str, method: Method, body: &impl Serialize) -> Try {
        let exchange = async {
            // Not octocrab's `get` and `post`: those drop the headers, and with them how long to wait.
            let response = match method {
                Method::Get => self.octocrab._get(route).await,
                Method::Post => self.octocrab._post(route, Some(body)).await,
                Method::Patch => self.octocrab._patch(route, Some(body)).await,
            }?;
            let status = response.status().as_u16();
            let wait: Option<u64> = response
                .headers()
                .get("retry-after")
                .and_then(|header| header.to_str().ok()?.trim().parse().ok());
            let body = self.octocrab.body_to_string(response).await?;
            Ok::<_, octocrab::Error>((status, wait.map(Duration::from_secs), body))
        };
        let until = self.deadline.min(Instant::now() + ONE_TRY);
        match tokio::time::timeout_at(until, exchange).await {
            Ok(Ok((200..=299, _, body))) => Try::Done(Answer(body)),
            Ok(Ok((status, wait, body))) => {
                Try::Failed(Error::Answered { status, message: message(&body) }, wait)
            }
            Ok(Err(error)) => Try::Failed(Error::Transport(causes(&error)), None),
            Err(_) => Try::Failed(Error::Transport("it took too long".to_owned()), None),
        }
    }
}

#[derive(Clone, Copy)]
enum Method {
    Get,
    Post,
    Patch,
}

enum Try {
    Done(Answer),
    /// With the time that GitHub asks to wait.
    Failed(Error, Option<Duration>),
}

/// What GitHub says of an error: its `message`, or the text itself.
fn message(body: &str) -> String {
    let message = serde_json::from_str::<serde_json::Value>(body)
        .ok()
        .and_then(|body| Some(body.get("message")?.as_str()?.to_owned()))
        .unwrap_or_else(|| body.to_owned());
    crate::reports::text::short(&message, 300)
}

/// The error with all that lies below it: octocrab's own says only that a service failed.
fn causes(error: &dyn std::error::Error) -> String {
    let mut said = vec![error.to_string()];
    let mut below = error.source();
    while let Some(error) = below {
        let text = error.to_string();
        if said.last() != Some(&text) {
            said.push(text);
        }
        below = error.source();
    }
    crate::reports::text::short(&said.join(": "), 300)
}

/// How long to wait before the next try; `None` when another try won't help.
fn pause(error: &Error, asked_to_wait: Option<Duration>, tries: u32) -> Option<Duration> {
    let backoff = Duration::from_millis(500 << tries.saturating_sub(1).min(6));
    match error {
        Error::Answered { status: 500..=599, .. } => Some(asked_to_wait.unwrap_or(backoff)),
        // Without a time, GitHub wants at least a minute: more than there is.
        Error::Answered { status: 403 | 429, .. } => asked_to_wait,
        Error::Transport(_) => Some(backoff),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_only_where_waiting_helps() {
        let answered = |status| Error::Answered { status, message: String::new() };
        let seconds = Duration::from_secs;
        assert_eq!(pause(&answered(502), None, 1), Some(Duration::from_millis(500)));
        assert_eq!(pause(&answered(502), None, 3), Some(seconds(2)));
        assert_eq!(pause(&answered(503), Some(seconds(7)), 1), Some(seconds(7)));
        assert_eq!(pause(&answered(403), Some(seconds(3)), 1), Some(seconds(3)));
        for status in [400, 401, 403, 404, 422, 429] {
            assert_eq!(pause(&answered(status), None, 1), None, "{status}");
        }
        assert_eq!(pause(&Error::Transport(String::new()), None, 1), Some(Duration::from_millis(500)));
    }

    #[test]
    fn a_repository_is_two_words() {
        assert_eq!(repository("edamame/guard.rs").unwrap(), "edamame/guard.rs");
        for odd in ["", "a", "a/", "/b", "a/b/c", "../b", "a/..", "a/b?c", "a b/c", "ä/b"] {
            assert!(repository(odd).is_err(), "{odd}");
        }
    }

    #[test]
    fn parts_of_a_route_are_escaped() {
        assert_eq!(escaped("refs/heads/ü?#&"), "refs%2Fheads%2F%C3%BC%3F%23%26");
    }

    #[test]
    fn the_token_is_not_printed() {
        let printed = format!("{:?}", Client::new("https://api.example", Some("ghs_secret")));
        assert!(!printed.contains("secret"), "{printed}");
    }

    #[test]
    fn a_client_opens_nothing_by_itself() {
        let client = Client::new("not a url", None).with_budget(Duration::from_secs(1));
        let error = client.spend(async |_| ()).unwrap_err();
        assert!(matches!(error, Error::Setup { .. }), "{error}");
    }
}
