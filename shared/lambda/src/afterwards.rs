//! Work that follows the answer, inside its invocation.
//!
//! The service passes an answer on when the runtime posts it, and freezes the environment when the runtime asks for the next
//! event. What is done in between costs the client no time, and is not detached: the next event waits for it, and so
//! does the environment's end. Should the process be killed meanwhile, it is lost, so only what is found and done again
//! elsewhere may be left to it.

use std::marker::PhantomData;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use lambda_http::tower::{Layer, Service};
use lambda_runtime::Error;

/// What an invocation leaves to be done when its answer is out.
#[derive(Clone, Default)]
pub(crate) struct Afterwards(Arc<Mutex<Vec<BoxFuture<'static, ()>>>>);

impl Afterwards {
    pub(crate) fn push(&self, work: BoxFuture<'static, ()>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(work);
    }

    fn take(&self) -> Vec<BoxFuture<'static, ()>> {
        mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Around the service that runs the handler and posts its answer.
    pub(crate) fn layer<'a>(&self) -> AfterwardsLayer<'a> {
        AfterwardsLayer(self.clone(), PhantomData)
    }
}

pub(crate) struct AfterwardsLayer<'a>(Afterwards, PhantomData<&'a ()>);

impl<'a, S> Layer<S> for AfterwardsLayer<'a> {
    type Service = Followed<'a, S>;

    fn layer(&self, inner: S) -> Self::Service {
        Followed { inner, afterwards: self.0.clone(), handler: PhantomData }
    }
}

/// A service that is not done before what its handler left is done. `'a` is what the handler borrows.
pub(crate) struct Followed<'a, S> {
    inner: S,
    afterwards: Afterwards,
    handler: PhantomData<&'a ()>,
}

impl<'a, S, Event> Service<Event> for Followed<'a, S>
where
    S: Service<Event, Response = (), Error = Error, Future: Send + 'a>,
{
    type Response = ();
    type Error = Error;
    type Future = BoxFuture<'a, Result<(), Error>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, event: Event) -> Self::Future {
        let (answering, afterwards) = (self.inner.call(event), self.afterwards.clone());
        Box::pin(async move {
            let posted = answering.await;
            for work in afterwards.take() {
                work.await;
            }
            posted
        })
    }
}
