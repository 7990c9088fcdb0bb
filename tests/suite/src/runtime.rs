//! The Lambda Runtime API, and a function's process behind it.
//!
//! As in Lambda, a process gets one event at a time, with a deadline at which it is killed.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response as HttpResponse};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::future::join_all;
use huntaze_world::server::Server;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;
use uuid::Uuid;

use crate::gateway::{Request, Response};
use crate::now;
use crate::process::{Process, built_binary};

/// What API Gateway gives a request, and so the deadline of [`Function::http`].
pub const GATEWAY_DEADLINE: Duration = Duration::from_secs(30);

/// How long a process may take to start, or to end the events before one, until it asks for that one.
const START_BOUND: Duration = Duration::from_secs(30);

/// Lambda's own limit for an answer.
const LARGEST_ANSWER: usize = 6 * 1024 * 1024;

const REGION: &str = "us-east-1";
const ACCOUNT: &str = "123456789012";

/// A process of a built function. Killed when dropped.
#[derive(Debug)]
pub struct Function {
    inner: Arc<Inner>,
    _server: Server,
}

#[derive(Debug)]
struct Inner {
    name: String,
    started: Instant,
    process: Process,
    api: Arc<RuntimeApi>,
    events: mpsc::UnboundedSender<Event>,
}

/// What the handlers of the Runtime API share with the test.
#[derive(Debug)]
struct RuntimeApi {
    name: String,
    next: tokio::sync::Mutex<mpsc::UnboundedReceiver<Event>>,
    answers: Mutex<HashMap<String, oneshot::Sender<(Instant, Answer)>>>,
    /// When the process asked for its first event.
    ready: watch::Sender<Option<Instant>>,
    /// How often it has asked for one.
    polls: watch::Sender<u64>,
    init_error: Mutex<Option<FunctionError>>,
}

#[derive(Debug)]
struct Event {
    id: String,
    body: String,
    deadline: Duration,
    taken: oneshot::Sender<Taken>,
}

/// When an event was handed out, and at which of the process's requests for one.
#[derive(Clone, Copy, Debug)]
struct Taken {
    at: Instant,
    poll: u64,
}

type Answer = Result<Value, FunctionError>;

/// What a function reports of a failure.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FunctionError {
    /// Its type.
    #[serde(default)]
    pub error_type: String,
    /// Its message.
    #[serde(default)]
    pub error_message: String,
}

/// Why an invocation has no answer. The function's log is part of the text, because a test shows little else.
#[derive(Debug, thiserror::Error)]
pub enum InvokeError {
    /// The handler failed, or the initialisation did.
    #[error("the function failed: {}: {}\n{log}", error.error_type, error.error_message)]
    Failed {
        /// What it reported.
        error: FunctionError,
        /// What it wrote.
        log: Log,
    },
    /// The process ended before it answered.
    #[error("the process ended ({exit}) before it answered\n{log}")]
    Exited {
        /// How it ended, such as `signal: 9 (SIGKILL)`.
        exit: String,
        /// What it wrote.
        log: Log,
    },
    /// No answer at the deadline; the process has been killed, as Lambda does.
    #[error("no answer within {deadline:?}\n{log}")]
    TimedOut {
        /// The deadline.
        deadline: Duration,
        /// What it wrote.
        log: Log,
    },
    /// The process never asked for the event.
    #[error("the process has not asked for the event within {START_BOUND:?}\n{log}")]
    NotTaken {
        /// What it wrote.
        log: Log,
    },
    /// The answer is none that API Gateway could pass on.
    #[error("not an answer to API Gateway: {answer}")]
    NotAResponse {
        /// The answer.
        answer: Value,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

/// What a process wrote to its two streams.
#[derive(Clone)]
pub struct Log(String);

impl fmt::Display for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Log {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\n{}", self.0)
    }
}

impl Function {
    /// Starts a process of the built binary `name`, with these variables and Lambda's, and no others.
    ///
    /// # Errors
    /// If the binary is missing or cannot be started.
    pub fn spawn(
        name: &str,
        env: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> anyhow::Result<Self> {
        Self::run(name, Command::new(built_binary(name)?), env)
    }

    /// The same with a command of the caller's: a binary of another profile, or one under a profiler.
    ///
    /// # Errors
    /// If the command cannot be started.
    pub fn run(
        name: &str,
        mut command: Command,
        env: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)>,
    ) -> anyhow::Result<Self> {
        let (events, next) = mpsc::unbounded_channel();
        let api = Arc::new(RuntimeApi {
            name: name.to_owned(),
            next: tokio::sync::Mutex::new(next),
            answers: Mutex::default(),
            ready: watch::Sender::default(),
            polls: watch::Sender::default(),
            init_error: Mutex::default(),
        });
        let server = Server::start(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), routes(Arc::clone(&api)))
            .context("cannot start the Runtime API")?;
        let env = env.into_iter().map(|(name, value)| (name.into(), value.into()));
        command.env_clear().envs(env.chain(lambda_environment(name, server.addr())));
        let started = Instant::now();
        let process = Process::spawn(command)?;
        Ok(Self { inner: Arc::new(Inner { name: name.to_owned(), started, process, api, events }), _server: server })
    }

    /// How long the process took from its start until it asked for its first event; `None` before that.
    #[must_use]
    pub fn init_duration(&self) -> Option<Duration> {
        self.inner.api.ready.borrow().map(|ready| ready - self.inner.started)
    }

    /// Waits until the process has started up and asks for events.
    ///
    /// # Errors
    /// If it fails, ends, or takes too long.
    pub async fn ready(&self) -> Result<(), InvokeError> {
        let mut ready = self.inner.api.ready.subscribe();
        tokio::select! {
            biased;
            started = timeout(START_BOUND, ready.wait_for(Option::is_some)) => match started {
                Ok(_) => Ok(()),
                Err(_) => Err(InvokeError::NotTaken { log: self.log() }),
            },
            exit = self.inner.process.exited() => Err(self.inner.ended(exit)),
        }
    }

    /// Gives the function an event and waits for its answer.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn invoke(&self, event: &Value, deadline: Duration) -> Result<Value, InvokeError> {
        self.start_invoke(event, deadline).answer().await
    }

    /// Gives the function an event, behind those that it was given before, without waiting.
    #[must_use = "the invocation goes on, but its answer is lost"]
    pub fn start_invoke(&self, event: &Value, deadline: Duration) -> Invocation {
        let id = Uuid::new_v4().to_string();
        let (taken, was_taken) = oneshot::channel();
        let (answer, answered) = oneshot::channel();
        lock(&self.inner.api.answers).insert(id.clone(), answer);
        // The receiver lives in `api`, which this function holds.
        let _ = self.inner.events.send(Event { id: id.clone(), body: event.to_string(), deadline, taken });
        let was_taken = Some(was_taken);
        Invocation { id, deadline, was_taken, taken: None, answered, inner: Arc::clone(&self.inner) }
    }

    /// Sends a request as API Gateway would, and waits for the answer.
    ///
    /// # Errors
    /// See [`InvokeError`]; a problem that the function answers is a response, not an error.
    pub async fn http(&self, request: Request) -> Result<Response, InvokeError> {
        self.start_http(request).response().await
    }

    /// Sends a request as API Gateway would, without waiting.
    #[must_use = "the invocation goes on, but its answer is lost"]
    pub fn start_http(&self, request: Request) -> Invocation {
        self.start_invoke(&request.event(), GATEWAY_DEADLINE)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.inner.process.pid()
    }

    /// Kills the process (SIGKILL) and waits for its end.
    ///
    /// # Errors
    /// If the system refuses.
    pub async fn kill(&self) -> io::Result<()> {
        self.inner.process.kill()?;
        self.exited().await;
        Ok(())
    }

    /// Waits for the end of the process, and says how it ended: `exit status: 3`, `signal: 9 (SIGKILL)`.
    pub async fn exited(&self) -> String {
        self.inner.process.exited().await
    }

    /// What it wrote to standard output: the end of it, up to 1 MiB.
    #[must_use]
    pub fn stdout(&self) -> String {
        self.inner.process.stdout()
    }

    /// What it wrote to standard error: the end of it, up to 1 MiB.
    #[must_use]
    pub fn stderr(&self) -> String {
        self.inner.process.stderr()
    }

    /// Both outputs, as the log group would hold them.
    #[must_use]
    pub fn logs(&self) -> String {
        self.log().0
    }

    fn log(&self) -> Log {
        self.inner.log()
    }
}

impl Drop for Function {
    fn drop(&mut self) {
        // An invocation that outlives the function must not keep the process. What cannot be killed has ended.
        let _ = self.inner.process.kill();
    }
}

impl Inner {
    fn log(&self) -> Log {
        Log(format!("--- {} ({})\n{}{}", self.name, self.process.pid(), self.process.stdout(), self.process.stderr()))
    }

    fn ended(&self, exit: String) -> InvokeError {
        match lock(&self.api.init_error).clone() {
            Some(error) => InvokeError::Failed { error, log: self.log() },
            None => InvokeError::Exited { exit, log: self.log() },
        }
    }
}

/// An invocation that was started.
#[derive(Debug)]
pub struct Invocation {
    id: String,
    deadline: Duration,
    was_taken: Option<oneshot::Receiver<Taken>>,
    taken: Option<Taken>,
    answered: oneshot::Receiver<(Instant, Answer)>,
    inner: Arc<Inner>,
}

/// An answer and its time.
#[derive(Clone, Debug)]
pub struct Timed {
    /// The answer.
    pub answer: Value,
    /// From the event's being handed out to the answer's being read, both at the Runtime API.
    pub took: Duration,
    /// When the answer was read.
    pub at: Instant,
}

impl Invocation {
    /// The request id that the function sees.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Waits until the function has taken the event.
    ///
    /// # Errors
    /// If its process ends or takes too long.
    pub async fn taken(&mut self) -> Result<(), InvokeError> {
        let Some(was_taken) = self.was_taken.take() else { return Ok(()) };
        tokio::select! {
            biased;
            taken = timeout(START_BOUND, was_taken) => match taken {
                Ok(taken) => {
                    self.taken = taken.ok();
                    Ok(())
                }
                Err(_) => Err(InvokeError::NotTaken { log: self.inner.log() }),
            },
            exit = self.inner.process.exited() => Err(self.inner.ended(exit)),
        }
    }

    /// Waits for the answer, and until the invocation has ended. At the deadline, counted from the event's being taken, the
    /// process is killed.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn answer(mut self) -> Result<Value, InvokeError> {
        let answer = self.timed().await?.answer;
        self.ended().await;
        Ok(answer)
    }

    /// Waits until the process asks for the next event: what it does behind its answer belongs to the invocation. One that
    /// does not ask until the deadline is killed.
    pub async fn ended(&self) {
        let Some(Taken { at, poll }) = self.taken else { return };
        let mut polls = self.inner.api.polls.subscribe();
        tokio::select! {
            biased;
            ended = timeout(self.deadline.saturating_sub(at.elapsed()), polls.wait_for(|polls| *polls > poll)) => {
                if ended.is_err() {
                    let _ = self.inner.process.kill();
                }
            }
            // It has answered all the same.
            _ = self.inner.process.exited() => {}
        }
    }

    /// Waits for the answer alone, and says how long it took: what a client waits for.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn timed(&mut self) -> Result<Timed, InvokeError> {
        self.taken().await?;
        let answer = tokio::select! {
            biased;
            answer = timeout(self.deadline, &mut self.answered) => answer,
            exit = self.inner.process.exited() => return Err(self.inner.ended(exit)),
        };
        match answer {
            Ok(Ok((at, Ok(answer)))) => {
                let took = self.taken.map_or(Duration::ZERO, |taken| at.duration_since(taken.at));
                Ok(Timed { answer, took, at })
            }
            Ok(Ok((_, Err(error)))) => Err(InvokeError::Failed { error, log: self.inner.log() }),
            Ok(Err(_)) => Err(self.inner.ended(self.inner.process.exited().await)),
            Err(_) => {
                let _ = self.inner.process.kill();
                Err(InvokeError::TimedOut { deadline: self.deadline, log: self.inner.log() })
            }
        }
    }

    /// Waits for the answer and reads it as API Gateway does.
    ///
    /// # Errors
    /// See [`InvokeError`].
    pub async fn response(self) -> Result<Response, InvokeError> {
        let answer = self.answer().await?;
        Response::parse(&answer).map_err(|source| InvokeError::NotAResponse { answer, source })
    }
}

/// Several processes of one function, as Lambda runs them for requests that come at once.
#[derive(Debug)]
pub struct Fleet(Vec<Function>);

impl Fleet {
    /// Starts `size` processes and waits until every one of them is ready.
    ///
    /// # Errors
    /// If one of them does not start.
    pub async fn spawn(
        name: &str,
        env: impl IntoIterator<Item = (impl Into<String>, impl Into<String>)> + Clone,
        size: usize,
    ) -> anyhow::Result<Self> {
        let functions = (0..size).map(|_| Function::spawn(name, env.clone())).collect::<Result<Vec<_>, _>>()?;
        for function in &functions {
            function.ready().await?;
        }
        Ok(Self(functions))
    }

    /// Sends all the requests at once, one to each process in turn, and gives their answers in the same order.
    pub async fn http(&self, requests: impl IntoIterator<Item = Request>) -> Vec<Result<Response, InvokeError>> {
        let processes = self.0.iter().cycle();
        let started: Vec<_> =
            requests.into_iter().zip(processes).map(|(request, one)| one.start_http(request)).collect();
        join_all(started.into_iter().map(Invocation::response)).await
    }

    /// The processes.
    #[must_use]
    pub fn functions(&self) -> &[Function] {
        &self.0
    }
}

fn lambda_environment(name: &str, api: SocketAddr) -> impl Iterator<Item = (String, String)> {
    [
        ("AWS_LAMBDA_RUNTIME_API", api.to_string()),
        ("AWS_LAMBDA_FUNCTION_NAME", name.to_owned()),
        ("AWS_LAMBDA_FUNCTION_VERSION", "$LATEST".to_owned()),
        ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "256".to_owned()),
        ("AWS_LAMBDA_INITIALIZATION_TYPE", "on-demand".to_owned()),
        ("AWS_LAMBDA_LOG_GROUP_NAME", format!("/aws/lambda/{name}")),
        ("AWS_LAMBDA_LOG_STREAM_NAME", format!("test/[$LATEST]{}", Uuid::new_v4().simple())),
        ("LAMBDA_TASK_ROOT", "/var/task".to_owned()),
        ("_HANDLER", "bootstrap".to_owned()),
        ("LANG", "en_US.UTF-8".to_owned()),
        ("TZ", ":UTC".to_owned()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value))
}

fn routes(api: Arc<RuntimeApi>) -> Router {
    Router::new()
        .route("/2018-06-01/runtime/invocation/next", get(next))
        .route("/2018-06-01/runtime/invocation/{id}/response", post(response))
        .route("/2018-06-01/runtime/invocation/{id}/error", post(error))
        .route("/2018-06-01/runtime/init/error", post(init_error))
        .layer(DefaultBodyLimit::max(LARGEST_ANSWER))
        .with_state(api)
}

async fn next(State(api): State<Arc<RuntimeApi>>) -> HttpResponse {
    let _ = api.ready.send_if_modified(|ready| {
        let first = ready.is_none();
        ready.get_or_insert_with(Instant::now);
        first
    });
    api.polls.send_modify(|polls| *polls += 1);
    let poll = *api.polls.borrow();
    let Some(event) = api.next.lock().await.recv().await else {
        return StatusCode::GONE.into_response();
    };
    let deadline = now().as_millisecond() + i64::try_from(event.deadline.as_millis()).unwrap_or(i64::MAX / 2);
    // Nobody may be waiting for the event to be taken.
    let _ = event.taken.send(Taken { at: Instant::now(), poll });
    let trace = Uuid::new_v4().simple().to_string();
    let headers = [
        ("content-type", "application/json".to_owned()),
        ("lambda-runtime-aws-request-id", event.id),
        ("lambda-runtime-deadline-ms", deadline.to_string()),
        ("lambda-runtime-invoked-function-arn", format!("arn:aws:lambda:{REGION}:{ACCOUNT}:function:{}", api.name)),
        (
            "lambda-runtime-trace-id",
            format!("Root=1-{}-{};Parent={};Sampled=1", &trace[..8], &trace[8..], &trace[16..]),
        ),
    ];
    (headers, event.body).into_response()
}

async fn response(State(api): State<Arc<RuntimeApi>>, Path(id): Path<String>, body: String) -> HttpResponse {
    // A body that is no JSON is an answer too; the test sees it as text.
    api.end(&id, Ok(serde_json::from_str(&body).unwrap_or(Value::String(body))))
}

async fn error(State(api): State<Arc<RuntimeApi>>, Path(id): Path<String>, body: String) -> HttpResponse {
    api.end(&id, Err(FunctionError::read(body)))
}

async fn init_error(State(api): State<Arc<RuntimeApi>>, body: String) -> HttpResponse {
    *lock(&api.init_error) = Some(FunctionError::read(body));
    accepted()
}

impl FunctionError {
    /// Runtimes send it without a content type; what is not its JSON is taken as the message.
    fn read(body: String) -> Self {
        serde_json::from_str(&body).unwrap_or(Self { error_type: String::new(), error_message: body })
    }
}

impl RuntimeApi {
    fn end(&self, id: &str, answer: Answer) -> HttpResponse {
        match lock(&self.answers).remove(id) {
            Some(waiting) => {
                // The test may have stopped waiting.
                let _ = waiting.send((Instant::now(), answer));
                accepted()
            }
            None => {
                let error = json!({ "errorType": "InvalidRequestID", "errorMessage": "Invalid request ID" });
                (StatusCode::BAD_REQUEST, Json(error)).into_response()
            }
        }
    }
}

fn accepted() -> HttpResponse {
    (StatusCode::ACCEPTED, Json(json!({ "status": "OK" }))).into_response()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poll::eventually;

    const PROBE: &str = "harness-probe";
    const DEADLINE: Duration = Duration::from_secs(10);
    const NOTHING: [(&str, &str); 0] = [];

    fn probe() -> Function {
        Function::spawn(PROBE, NOTHING).unwrap()
    }

    #[tokio::test]
    async fn a_function_sees_its_invocation_as_on_lambda() {
        let function = Function::spawn(PROBE, [("MINE", "yes")]).unwrap();
        let before = now();
        let invocation = function.start_invoke(&json!({ "do": "show" }), DEADLINE);
        let id = invocation.id().to_owned();
        let seen = invocation.answer().await.unwrap();
        assert_eq!((&seen["requestId"], &seen["name"]), (&json!(id), &json!(PROBE)));
        let left = seen["deadline"].as_i64().unwrap() - before.as_millisecond();
        assert!((10_000..20_000).contains(&left), "{left} ms");
        assert!(seen["trace"].as_str().unwrap().starts_with("Root=1-"));
        assert!(seen["arn"].as_str().unwrap().ends_with(":function:harness-probe"));
        let environment = seen["environment"].as_array().unwrap();
        assert!(environment.contains(&json!("MINE")) && !environment.contains(&json!("HOME")), "{environment:?}");
        // What a process prints is read beside its answer, so it may be there a moment later.
        let printed = eventually(Duration::from_secs(10), async || {
            let printed = function.stdout().contains("the probe got") && function.stderr().contains("the probe starts");
            anyhow::ensure!(printed, "{}", function.logs());
            Ok(())
        });
        printed.await.unwrap();
    }

    #[tokio::test]
    async fn a_start_and_an_invocation_have_their_times() {
        let before = Instant::now();
        let function = probe();
        function.ready().await.unwrap();
        let init = function.init_duration().unwrap();
        assert!(!init.is_zero() && init <= before.elapsed(), "{init:?}");
        let before = Instant::now();
        let timed = function.start_invoke(&json!({}), DEADLINE).timed().await.unwrap();
        assert!(!timed.took.is_zero() && timed.took <= before.elapsed(), "{:?}", timed.took);
        assert_eq!(timed.answer["statusCode"], 200);
        // Its second poll is not its start.
        assert_eq!(function.init_duration().unwrap(), init);
    }

    #[tokio::test]
    async fn events_are_taken_one_after_the_other_by_one_process() {
        let function = probe();
        let invocations: Vec<_> = (0..5).map(|n| function.start_invoke(&json!({ "n": n }), DEADLINE)).collect();
        for (n, invocation) in invocations.into_iter().enumerate() {
            assert_eq!(invocation.response().await.unwrap().body, json!({ "n": n }));
        }
    }

    #[tokio::test]
    async fn a_failure_is_reported_with_its_message() {
        let error = probe().invoke(&json!({ "do": "fail" }), DEADLINE).await.unwrap_err();
        assert!(matches!(&error, InvokeError::Failed { error, .. } if error.error_message == "as told"), "{error}");
    }

    #[tokio::test]
    async fn a_process_that_ends_by_itself_fails_its_invocation_at_once() {
        let function = probe();
        let error = function.invoke(&json!({ "do": "exit" }), DEADLINE).await.unwrap_err();
        assert!(matches!(&error, InvokeError::Exited { exit, .. } if exit == "exit status: 7"), "{error}");
        assert!(error.to_string().contains("the probe got"), "{error}");
        let after = function.invoke(&json!({}), DEADLINE).await.unwrap_err();
        assert!(matches!(after, InvokeError::Exited { .. }), "{after}");
    }

    #[tokio::test]
    async fn a_process_can_be_killed_in_the_middle_of_a_call() {
        let function = probe();
        let mut invocation = function.start_invoke(&json!({ "do": "hang" }), DEADLINE);
        invocation.taken().await.unwrap();
        function.kill().await.unwrap();
        let error = invocation.answer().await.unwrap_err();
        assert!(matches!(&error, InvokeError::Exited { exit, .. } if exit == "signal: 9 (SIGKILL)"), "{error}");
    }

    #[tokio::test]
    async fn a_process_is_killed_at_the_deadline() {
        let function = probe();
        function.ready().await.unwrap();
        let started = Instant::now();
        let error = function.invoke(&json!({ "do": "hang" }), Duration::from_millis(100)).await.unwrap_err();
        assert!(matches!(error, InvokeError::TimedOut { .. }), "{error}");
        assert!(started.elapsed() < DEADLINE);
        assert_eq!(function.inner.process.exited().await, "signal: 9 (SIGKILL)");
    }

    #[tokio::test]
    async fn a_process_that_does_not_come_up_is_never_ready() {
        let error = Function::spawn(PROBE, [("PROBE_DIES", "1")]).unwrap().ready().await.unwrap_err();
        assert!(matches!(&error, InvokeError::Exited { exit, .. } if exit == "exit status: 9"), "{error}");
    }

    #[tokio::test]
    async fn a_dropped_function_leaves_no_process() {
        let function = probe();
        function.ready().await.unwrap();
        let process = format!("/proc/{}/stat", function.pid());
        let invocation = function.start_invoke(&json!({ "do": "hang" }), DEADLINE);
        drop(function);
        assert!(matches!(invocation.answer().await, Err(InvokeError::Exited { .. })));
        assert!(std::fs::read_to_string(process).is_err());
    }

    #[tokio::test]
    async fn a_fleet_answers_requests_at_once_and_in_their_order() {
        let fleet = Fleet::spawn(PROBE, NOTHING, 4).await.unwrap();
        let requests = (0..8).map(|n| Request::get(&format!("/{n}")));
        for (n, response) in fleet.http(requests).await.into_iter().enumerate() {
            assert_eq!(response.unwrap().body["rawPath"], format!("/{n}"));
        }
    }
}
