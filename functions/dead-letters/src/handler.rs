//! Shows an administrator what was given up, and has it tried anew.

use std::time::Duration;

use http::Method;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::page;
use huntaze_lambda::problem::Problem;
use huntaze_messaging::choice::Redrive;
use huntaze_messaging::dead::{Redriven, Woken};
use serde_json::{Value, json};

use crate::App;

const DEFAULT_LIMIT: u8 = 20;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.administrator(&self.sessions, &self.limit).await?;
        let data = match call.method {
            Method::GET => self.list(call).await?,
            Method::POST => self.redrive(&principal, call).await?,
            _ => return Err(Problem::no_such_route()),
        };
        Ok(Reply::ok(call.envelope(data)))
    }
}

impl App {
    async fn list(&self, call: &Call) -> Result<Value, Problem> {
        let status = match call.parameter("status")? {
            status @ (None | Some("open" | "redriven")) => status,
            Some(_) => return Err(Problem::invalid_field("status", "must be `open` or `redriven`")),
        };
        let (after, limit) = (call.cursor()?, usize::from(call.limit(DEFAULT_LIMIT)?));
        // One more than is shown tells whether there is a next page.
        let most = i64::try_from(limit + 1).unwrap_or(i64::MAX);
        let mut found = self.letters.list(status, after.as_ref(), most).await.map_err(|e| Problem::internal(&e))?;
        let more = found.len() > limit;
        found.truncate(limit);
        let last = found.last().filter(|_| more).map(|(_, at, id)| page::cursor(&(*at, id.clone())));
        let letters: Vec<_> = found.into_iter().map(|(letter, _, _)| letter).collect();
        Ok(json!({"deadLetters": letters, "nextCursor": last}))
    }

    async fn redrive(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let Redrive { id, reason } = Redrive::parse(&call.body).map_err(Problem::invalid)?;
        let (actor, request) = (&principal.user_id, &call.request_id);
        let redriven = self.letters.redrive(&self.rules, &id, actor, reason.as_deref(), request).await;
        match redriven.map_err(|e| Problem::internal(&e))? {
            Redriven::Done(woken) => {
                match woken {
                    Some(Woken::Account(account, wake)) => self.hints.put(&account, wake).await,
                    Some(Woken::Workflow(workflow, user)) => self.workflows.put(&workflow, &user, Duration::ZERO).await,
                    None => {}
                }
                Ok(json!({"id": id, "status": "redriven"}))
            }
            Redriven::Unread => {
                let detail = "nobody here knows what it is: whoever sent it has to send it again";
                Err(Problem::new(ErrorCode::Conflict, detail))
            }
            Redriven::Unknown => Err(Problem::new(ErrorCode::NotFound, "there is no such letter")),
            Redriven::TooLate => {
                let detail = "what it is about is not given up any more: somebody decided about it, or it has ended";
                Err(Problem::new(ErrorCode::Conflict, detail))
            }
        }
    }
}
