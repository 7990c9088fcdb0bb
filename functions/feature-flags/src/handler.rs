//! Reads the request, keeps to what the administrator had read of a flag, and shows it in the contract's shape.

use http::{HeaderValue, Method, StatusCode, header};
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::UserId;
use huntaze_domain::principal::{Attributes, Principal};
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::page;
use huntaze_lambda::problem::Problem;
use huntaze_rollout::choice::{Who, Why};
use huntaze_rollout::flag::{Flag, FlagChange, FlagName, REASON, is_reason, reason};
use huntaze_rollout::store::{Action, Change, Event, Kept, MAX_FLAGS, Row, WriteError, Written};
use huntaze_rollout::users;
use serde_json::{Value, json};

use crate::App;

const DEFAULT_LIMIT: u8 = 20;
/// Each is shown with the flag before and behind it: an answer has room for no more of the largest.
const MOST_CHANGES: u8 = 50;
/// A change that may be made to any version is tried again where another came first.
const TRIES: u8 = 5;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.administrator(&self.sessions, &self.limit).await?;
        match (&call.method, call.path.rsplit('/').next()) {
            (&Method::GET, Some("evaluate")) => self.evaluate(call).await,
            (&Method::GET, Some("history")) => self.history(call).await,
            (&Method::GET, _) => self.show(call).await,
            (&Method::POST, _) => {
                let Flag { name, .. } = Flag::parse(&call.body).map_err(Problem::invalid)?;
                self.edit(&principal, call, &name, Edit::Replace).await
            }
            (&Method::PUT, _) => {
                let (name, change) = FlagChange::parse(&call.body).map_err(Problem::invalid)?;
                self.edit(&principal, call, &name, Edit::Change(Box::new(change))).await
            }
            (&Method::DELETE, _) => self.edit(&principal, call, &name(call)?, Edit::Delete).await,
            _ => Err(Problem::no_such_route()),
        }
    }
}

impl App {
    async fn show(&self, call: &Call) -> Result<Reply, Problem> {
        if call.parameter("name")?.is_some() {
            let kept = self.found(&name(call)?).await?;
            return Ok(shown(call, StatusCode::OK, &kept));
        }
        let flags = self.flags.all().await.map_err(|error| Problem::internal(&error))?;
        let count = |is_so: &dyn Fn(&Flag) -> bool| flags.iter().filter(|kept| is_so(&kept.flag)).count();
        let stats = json!({
            "total": flags.len(),
            "enabled": count(&|flag| flag.enabled),
            "disabled": count(&|flag| !flag.enabled),
            "byRollout": {
                "full": count(&|flag| flag.percentage.get() == 100),
                "partial": count(&|flag| (1..100).contains(&flag.percentage.get())),
                "none": count(&|flag| flag.percentage.get() == 0),
            },
        });
        let flags: Vec<_> = flags.iter().map(Kept::to_json).collect();
        Ok(Reply::ok(call.envelope(json!({"flags": flags, "stats": stats}))))
    }

    /// What a flag comes to for a user, and why.
    async fn evaluate(&self, call: &Call) -> Result<Reply, Problem> {
        let name = name(call)?;
        let user = call.parameter("userId")?.and_then(|id| UserId::parse(id).ok());
        let user = user.ok_or_else(|| Problem::invalid_field("userId", "is required: a user id"))?;
        let platforms: Vec<_> =
            call.parameter("platform")?.into_iter().flat_map(|p| p.split(',')).map(str::to_owned).collect();
        let remembered = users::attributes(&self.database, &user);
        let (kept, remembered) = tokio::join!(self.found(&name), remembered);
        let (kept, attributes) = (kept?, remembered.map_err(|error| Problem::internal(&error))?);
        let who = Who { user: &user, attributes: &attributes, platforms: &platforms };
        let (enabled, why, decision) = self.settings.explain(&kept, who, call.now);
        let Attributes { tier, region, created_at } = &attributes;
        let data = json!({
            "enabled": enabled,
            "reason": why.as_str(),
            "bucket": decision.bucket.get(),
            "percentage": decision.percentage.get(),
            "variant": kept.flag.experiment.as_ref().filter(|_| enabled && why != Why::Always).map(|experiment| {
                json!({"experiment": experiment.name.as_str(), "name": experiment.variant(&user).name.as_str()})
            }),
            "attributes": {"userTier": tier, "region": region, "accountCreatedAt": created_at, "platform": platforms},
            "version": kept.version,
        });
        Ok(Reply::ok(call.envelope(data)))
    }

    async fn history(&self, call: &Call) -> Result<Reply, Problem> {
        let (name, limit) = (name(call)?, usize::from(call.limit(DEFAULT_LIMIT)?.min(MOST_CHANGES)));
        let behind = |id: String| id.parse().map_err(|_| Problem::invalid_field("cursor", "must be of this list"));
        let before = call.cursor()?.map(|(_, id)| behind(id)).transpose()?;
        // One more than is shown: it is what the last of them was before, and tells whether there is a next page.
        let events = self.flags.history(&name, before, limit + 1).await.map_err(|error| Problem::internal(&error))?;
        let shown: Vec<_> = (0..events.len().min(limit)).map(|at| line(&events[at], events.get(at + 1))).collect();
        let next = events.get(limit).and_then(|_| events.get(limit - 1));
        let next = next.map(|event| page::cursor(&(event.change.at, event.version.to_string())));
        Ok(Reply::ok(call.envelope(json!({"name": name.as_str(), "changes": shown, "nextCursor": next}))))
    }

    /// Writes a flag as it is after an edit, if it is still what the administrator had read.
    async fn edit(&self, principal: &Principal, call: &Call, name: &FlagName, edit: Edit) -> Result<Reply, Problem> {
        let reads = Reads::of(call)?;
        let reason = reason_of(call)?;
        for _ in 0..TRIES {
            let before = self.flags.get(name).await.map_err(|error| Problem::internal(&error))?;
            reads.check(&before, &edit)?;
            let (after, action) = edit.apply(call, before.kept.as_ref())?;
            if action == Action::Created {
                self.leave_room().await?;
            }
            let change = Change { at: call.now, by: principal.user_id.to_string(), action, reason: reason.clone() };
            match self.flags.write(name, &before, after, &change).await {
                Ok(Row { kept: Some(kept), .. }) => {
                    let status = if action == Action::Created { StatusCode::CREATED } else { StatusCode::OK };
                    return Ok(shown(call, status, &kept));
                }
                Ok(Row { kept: None, version, .. }) => {
                    return Ok(Reply::ok(
                        call.envelope(json!({"name": name.as_str(), "deleted": true, "version": version})),
                    ));
                }
                Err(WriteError::Stale) if matches!(reads, Reads::Any) => {}
                Err(WriteError::Stale) => break,
                Err(large @ WriteError::TooLarge) => return Err(Problem::invalid_field("", large.to_string())),
                Err(other @ WriteError::Experiment) => {
                    return Err(Problem::invalid_field("/experiment/variants", other.to_string()));
                }
                Err(WriteError::Table(error)) => return Err(Problem::internal(&error)),
            }
        }
        Err(stale("it was changed meanwhile"))
    }

    async fn leave_room(&self) -> Result<(), Problem> {
        let flags = self.flags.all().await.map_err(|error| Problem::internal(&error))?;
        let full =
            || Problem::new(ErrorCode::Conflict, format!("there are {MAX_FLAGS} flags already; delete one of them"));
        if flags.len() < MAX_FLAGS { Ok(()) } else { Err(full()) }
    }

    async fn found(&self, name: &FlagName) -> Result<Kept, Problem> {
        let row = self.flags.get(name).await.map_err(|error| Problem::internal(&error))?;
        row.kept.ok_or_else(unknown)
    }
}

/// What an administrator wants of a flag.
enum Edit {
    /// It is to be as the body says, whatever it was.
    Replace,
    /// It is to be different in this.
    Change(Box<FlagChange>),
    /// It is to be gone.
    Delete,
}

impl Edit {
    fn apply(&self, call: &Call, before: Option<&Kept>) -> Result<(Option<Written>, Action), Problem> {
        let was = before.map(|kept| &kept.flag);
        match (self, before) {
            (Self::Replace, _) => {
                let flag = Flag::parse_over(&call.body, was).map_err(Problem::invalid)?;
                Ok((
                    Some(Written { flag, latch: None }),
                    if before.is_some() { Action::Replaced } else { Action::Created },
                ))
            }
            (Self::Change(change), Some(kept)) => {
                let flag = change.of(kept.flag.clone()).checked().map_err(Problem::invalid)?;
                // Whoever sets the share has decided how to go on after a rollback.
                let latch = kept.latch.clone().filter(|_| change.percentage.is_none());
                Ok((Some(Written { flag, latch }), Action::Changed))
            }
            (Self::Change(_) | Self::Delete, None) => Err(unknown()),
            (Self::Delete, Some(_)) => Ok((None, Action::Deleted)),
        }
    }
}

/// Which versions an administrator has read (RFC 9110, 13.1).
enum Reads {
    /// They do not say.
    Unsaid,
    /// `If-None-Match: *`: there is to be none.
    None,
    /// `If-Match: *`: whichever there is.
    Any,
    /// One of these.
    These(Vec<u64>),
}

impl Reads {
    fn of(call: &Call) -> Result<Self, Problem> {
        let text = |name| call.headers.get(name).map(|value| value.to_str().unwrap_or_default().trim().to_owned());
        match (text(header::IF_MATCH), text(header::IF_NONE_MATCH)) {
            (Some(all), None) if all == "*" => Ok(Self::Any),
            // A weak one matches nothing: what is written over must be the very same.
            (Some(list), None) => {
                let version = |tag: &str| tag.trim().strip_prefix('"')?.strip_suffix('"')?.parse().ok();
                Ok(Self::These(list.split(',').filter_map(version).collect()))
            }
            (None, Some(none)) if none == "*" => Ok(Self::None),
            (None, None) => Ok(Self::Unsaid),
            _ => Err(Problem::invalid_field(
                "If-Match",
                "must be the flag's `ETag`, or `*`; `If-None-Match` may be `*` alone",
            )),
        }
    }

    fn check(&self, row: &Row, edit: &Edit) -> Result<(), Problem> {
        match (self, &row.kept) {
            (Self::Unsaid | Self::None, None) if matches!(edit, Edit::Replace) => Ok(()),
            (Self::Any | Self::These(_), None) if matches!(edit, Edit::Replace) => Err(stale("there is none")),
            (_, None) => Err(unknown()),
            (Self::Unsaid, Some(_)) => Err(Problem::new(
                ErrorCode::PreconditionRequired,
                "`If-Match` is required: the `ETag` of the flag as you have read it, or `*`",
            )),
            (Self::None, Some(_)) => Err(stale("there is one already")),
            (Self::These(versions), Some(kept)) if !versions.contains(&kept.version) => {
                Err(stale("it was changed since you read it").with("version", kept.version))
            }
            (Self::Any | Self::These(_), Some(_)) => Ok(()),
        }
    }
}

fn unknown() -> Problem {
    Problem::new(ErrorCode::NotFound, "there is no such flag")
}

fn stale(detail: &str) -> Problem {
    Problem::new(ErrorCode::PreconditionFailed, format!("the flag is not what you have read: {detail}"))
}

fn name(call: &Call) -> Result<FlagName, Problem> {
    let name = call.parameter("name")?.and_then(FlagName::parse);
    name.ok_or_else(|| Problem::invalid_field("name", "is required: the name of a flag"))
}

/// Why it is done: `reason` of the body, or of the query where there is none.
fn reason_of(call: &Call) -> Result<Option<String>, Problem> {
    if call.method != Method::DELETE {
        return reason(&call.body).map_err(Problem::invalid);
    }
    let text = call.parameter("reason")?.map(str::to_owned);
    match text {
        Some(text) if !is_reason(&text) => Err(Problem::invalid_field("reason", format!("must be {REASON}"))),
        text => Ok(text),
    }
}

fn shown(call: &Call, status: StatusCode, kept: &Kept) -> Reply {
    let reply = Reply { status, ..Reply::ok(call.envelope(Value::Object(kept.to_json()))) };
    match HeaderValue::try_from(format!("\"{}\"", kept.version)) {
        Ok(tag) => reply.header(header::ETAG, tag),
        Err(_) => reply,
    }
}

/// A line of history; `before` is the one before it.
fn line(event: &Event, before: Option<&Event>) -> Value {
    let Change { at, by, action, reason } = &event.change;
    json!({
        "version": event.version,
        "at": at,
        "by": by,
        "action": action.as_str(),
        "reason": reason,
        "before": before.and_then(|before| before.after.as_ref()),
        "after": event.after,
    })
}
