//! Reads the request, keeps to the caller's own accounts, and tries a new session on the platform before it is kept.

use std::time::Duration;

use http::{Method, StatusCode};
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::UserId;
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::page;
use huntaze_lambda::problem::Problem;
use huntaze_messaging::account::{self, Account, AccountChange, AccountStatus, Keeper, Kept, NewSession};
use huntaze_messaging::platform::ReadError;
use huntaze_messaging::session::Session;
use serde_json::{Value, json};

use crate::App;

const DEFAULT_LIMIT: u8 = 20;
/// What is kept of the time for what follows the platform's answer.
const STORING: Duration = Duration::from_secs(6);

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.authenticate(&self.sessions)?;
        let admission = self.limit.check(&principal.user_id);
        match call.method {
            Method::GET => {
                // Side by side: what is read for a request that is refused is read in vain, and changes nothing.
                let (admission, data) = tokio::join!(admission, self.list(&principal, call));
                call.admit(admission)?;
                Ok(Reply::ok(call.envelope(data?)))
            }
            Method::POST => {
                call.admit(admission.await)?;
                self.keep(&principal, call).await
            }
            _ => Err(Problem::no_such_route()),
        }
    }
}

impl App {
    async fn list(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let owner = call.owner_or_everyone(principal)?;
        let (after, limit) = (call.cursor()?, call.limit(DEFAULT_LIMIT)?);
        // One more than is shown tells whether there is a next page.
        let found = account::list(&self.database, owner.as_ref(), after.as_ref(), i64::from(limit) + 1).await;
        let found = found.map_err(|e| Problem::internal(&e))?;
        let shown = &found[..found.len().min(limit.into())];
        let last = shown.last().filter(|_| found.len() > shown.len());
        let last = last.map(|last| (last.created_at, last.id.to_string()));
        Ok(json!({
            "accounts": shown.iter().map(Account::to_json).collect::<Vec<_>>(),
            "nextCursor": last.as_ref().map(page::cursor),
        }))
    }

    async fn keep(&self, principal: &Principal, call: &Call) -> Result<Reply, Problem> {
        let mut change = AccountChange::parse(&call.body).map_err(Problem::invalid)?;
        let owner = self.owner(principal, &change).await?;
        let theirs = change.administrators();
        if !theirs.is_empty() && !principal.is_admin() {
            return Err(Problem {
                errors: theirs,
                ..Problem::forbidden("limits, the floor and allowed words are set by administrators")
            });
        }
        let session = match change.session.take() {
            Some(new) => Some(self.tried(new, call).await?),
            None => None,
        };
        let platform_user = session.as_ref().map(Session::platform_user_id);
        let administrator = principal.is_admin();
        let keeper = Keeper {
            actor: &principal.user_id,
            administrator,
            most: (!administrator).then_some(self.most_accounts),
            request_id: &call.request_id,
        };
        let kept = account::keep(&self.database, &change, &owner, platform_user, &keeper).await;
        let (mut account, created, wake) = match kept.map_err(|e| Problem::internal(&e))? {
            Kept::Done { account, created, wake } => (account, created, wake),
            Kept::Foreign => return Err(foreign()),
            Kept::Held => return Err(Problem::forbidden("an administrator paused this account, and lets it go on")),
            Kept::Full => {
                let most = self.most_accounts;
                let detail = format!("the user has {most} accounts already; more are made by administrators");
                return Err(Problem::new(ErrorCode::Conflict, detail));
            }
            Kept::Another => {
                let detail = "the session is of another user of the platform than the account; nothing was changed";
                return Err(Problem::new(ErrorCode::Conflict, detail));
            }
            Kept::Taken => {
                let detail = "another account has a session of the same user of the platform; nothing was changed";
                return Err(Problem::new(ErrorCode::Conflict, detail));
            }
        };
        if let Some(session) = session {
            let stored = self.account_sessions.store(account.id.as_str(), &session, call.now).await;
            stored.map_err(|e| Problem::internal(&e))?;
            let active = account.status == AccountStatus::Active;
            let kept = account::session_kept(&self.database, &account.id, active).await;
            *account = kept.map_err(|e| Problem::internal(&e))?;
        }
        // Behind the session: whoever the hint wakes needs it.
        self.hints.put(&account.id, wake).await;
        let status = if created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(Reply { status, ..Reply::ok(call.envelope(account.to_json())) })
    }

    /// Whose account it is to be: an administrator who names nobody means whose it is. Asked before the platform is: a session is
    /// tried for nobody else's account.
    async fn owner(&self, principal: &Principal, change: &AccountChange) -> Result<UserId, Problem> {
        let named = principal.acting_for(change.user_id.as_ref())?;
        let found = account::find(&self.database, &change.account_id).await.map_err(|e| Problem::internal(&e))?;
        match found {
            Some(account) if account.user_id == *named => Ok(account.user_id),
            Some(account) if principal.is_admin() && change.user_id.is_none() => Ok(account.user_id),
            Some(_) => Err(foreign()),
            None => Ok(named.clone()),
        }
    }

    /// A session that the platform takes, and of whom it says that it is.
    async fn tried(&self, new: NewSession, call: &Call) -> Result<Session, Problem> {
        let session = new.to_try().map_err(Problem::invalid)?;
        let me = self.platform.me(&session, call.deadline - STORING, call.now).await;
        let me = me.map_err(|error| not_taken(&error))?;
        new.of(&me.platform_user_id).map_err(Problem::invalid)
    }
}

fn foreign() -> Problem {
    Problem::forbidden("this account belongs to another user")
}

fn not_taken(error: &ReadError) -> Problem {
    match error {
        ReadError::SessionRefused | ReadError::Forbidden => {
            Problem::invalid_field("/session", format!("the platform does not take it: {error}; nothing was changed"))
        }
        _ => {
            tracing::warn!(%error, "the platform could not be asked whose a session is");
            let detail = format!("the platform could not be asked whose session it is: {error}; nothing was changed");
            Problem::new(ErrorCode::OnlyfansApiError, detail)
        }
    }
}
