//! The processes of a function, as Lambda has them: as many as there are requests at once, each used again when it is free.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde_json::Value;

use crate::app::App;
use crate::gateway::{Request, Response};
use crate::runtime::{Function, InvokeError};

/// Starts a process where none is free.
#[derive(Debug)]
pub struct Pool<'a> {
    app: &'a App,
    name: &'static str,
    free: Mutex<Vec<Function>>,
}

impl<'a> Pool<'a> {
    /// The processes of a function; none is started yet.
    #[must_use]
    pub fn new(app: &'a App, name: &'static str) -> Self {
        Self { app, name, free: Mutex::default() }
    }

    /// Sends a request as API Gateway would, and waits for the answer.
    ///
    /// # Errors
    /// If no process could be started; within, as [`Function::http`].
    pub async fn http(&self, request: Request) -> anyhow::Result<Result<Response, InvokeError>> {
        let function = self.take()?;
        let answer = function.http(request).await;
        self.put_back(function, &answer);
        Ok(answer)
    }

    /// Gives a process an event and waits for its answer.
    ///
    /// # Errors
    /// If no process could be started; within, as [`Function::invoke`].
    pub async fn invoke(&self, event: &Value, deadline: Duration) -> anyhow::Result<Result<Value, InvokeError>> {
        let function = self.take()?;
        let answer = function.invoke(event, deadline).await;
        self.put_back(function, &answer);
        Ok(answer)
    }

    /// What its free processes wrote: the end of it, up to 1 MiB each.
    #[must_use]
    pub fn logs(&self) -> Vec<String> {
        self.free().iter().map(Function::logs).collect()
    }

    fn take(&self) -> anyhow::Result<Function> {
        let free = self.free().pop();
        free.map_or_else(|| self.app.function(self.name), Ok)
    }

    /// One whose handler failed serves on; one that ended or was killed does not.
    fn put_back<T>(&self, function: Function, answer: &Result<T, InvokeError>) {
        if matches!(answer, Ok(_) | Err(InvokeError::Failed { .. } | InvokeError::NotAResponse { .. })) {
            self.free().push(function);
        }
    }

    fn free(&self) -> MutexGuard<'_, Vec<Function>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
