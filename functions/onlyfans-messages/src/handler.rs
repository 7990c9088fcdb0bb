//! Reads the request, keeps to the caller's own messages, and has the outbox do what is asked.

use std::time::Duration;

use http::{HeaderValue, Method, StatusCode};
use huntaze_compliance::Action;
use huntaze_domain::error::ErrorCode;
use huntaze_domain::ids::{AccountId, MessageId, UserId};
use huntaze_domain::principal::Principal;
use huntaze_judge::{Judged, Subject, Text};
use huntaze_lambda::api::{Call, REPLAYED, Reply, Route};
use huntaze_lambda::limit::Admission;
use huntaze_lambda::page;
use huntaze_lambda::problem::Problem;
use huntaze_messaging::account;
use huntaze_messaging::choice::Choice;
use huntaze_messaging::message::SendRequest;
use huntaze_messaging::outbox::{Accepted, Approval, By, Decided, Decision, Message, MessageStatus, NewMessage, Wake};
use huntaze_messaging::place::Place;
use huntaze_messaging::room::Room;
use huntaze_messaging::view::{self, ListQuery, State};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::App;
use crate::view::{accepted, limit_headers, refusal_headers};

const DEFAULT_LIMIT: u8 = 20;
/// When a full queue is worth another try: the limits let some messages of it go within a minute.
const FULL_RETRY: Duration = Duration::from_secs(60);

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.authenticate(&self.sessions)?;
        let admission = self.limit.check(&principal.user_id);
        if call.method == Method::GET {
            // Side by side: what is read for a request that is refused is read in vain, and changes nothing.
            let (admission, data) = tokio::join!(admission, self.read(&principal, call));
            call.admit(admission)?;
            return Ok(Reply::ok(call.envelope(data?)));
        }
        let admission = admission.await;
        call.admit(admission).map_err(|problem| match admission {
            Admission::Denied { limit, retry_after } => refused(problem, limit.into(), retry_after, call.now),
            _ => problem,
        })?;
        let step = call.path.rsplit('/').next().unwrap_or_default();
        match (&call.method, step) {
            (&Method::POST, "messages") => self.send(&principal, call).await,
            (&Method::POST, "approve" | "reject" | "resend") => self.decide(&principal, call, step).await,
            (&Method::DELETE, _) => self.cancel(&principal, call).await,
            _ => Err(Problem::no_such_route()),
        }
    }
}

impl App {
    async fn send(&self, principal: &Principal, call: &Call) -> Result<Reply, Problem> {
        let key = call.idempotency_key()?;
        let request = SendRequest::parse(&call.body, call.now).map_err(Problem::invalid)?;
        let owner = principal.acting_for(request.user_id.as_ref())?;
        let subject = Subject {
            user: owner,
            account: request.account_id.as_ref(),
            recipient: Some(&request.recipient_id),
            but_for: None,
            level: Some(request.compliance_level),
        };
        let judged = self.judged(&request.content, &subject, call).await;
        let id = MessageId::generate();
        let new = NewMessage {
            id: &id,
            account_id: request.account_id.as_ref(),
            user_id: owner,
            requested_by: &principal.user_id,
            workflow_id: None,
            idempotency_key: key.as_ref(),
            body_hash: request.body_hash,
            recipient_id: &request.recipient_id,
            content: &request.content,
            judged: &judged,
            approved: false,
            message_type: request.message_type,
            priority: request.priority,
            compliance_level: request.compliance_level,
            // Without a time it is due by the store's own clock.
            not_before: request.schedule_for.unwrap_or(Timestamp::UNIX_EPOCH),
            metadata: request.metadata.as_ref(),
            request_id: &call.request_id,
            trace_id: call.trace.id(),
        };
        let (message, wake, duplicate) = match self.outbox.accept(&new).await.map_err(|e| Problem::internal(&e))? {
            Accepted::New(message, wake) => (message, wake, false),
            Accepted::Duplicate(message) => (message, None, true),
            Accepted::Blocked => return Err(blocked(&judged)),
            not => return Err(self.not_accepted(&not, call.now)),
        };
        let (place, ()) = tokio::join!(self.place(&message), self.hints.put(&message.account_id, wake));
        let (place, room) = place?;
        self.show_afterwards(call, &message);
        let mut reply = Reply::ok(call.envelope(accepted(&message, &place, &room, duplicate, call.now)));
        reply.status = StatusCode::ACCEPTED;
        reply.headers = limit_headers(&room, call.now);
        let replayed = duplicate && key.is_some();
        Ok(if replayed { reply.header(REPLAYED, HeaderValue::from_static("true")) } else { reply })
    }

    /// Where a message stands, and what the limits leave for it.
    async fn place(&self, message: &Message) -> Result<(Place, Room), Problem> {
        let place = Place::of(&self.database, &message.id).await.map_err(|e| Problem::internal(&e))?;
        let room = place.room(&self.limiter, message).await;
        Ok((place, room))
    }

    /// Has the tables that apps read brought up to a message behind the answer. The sweep makes up for it where it fails.
    fn show_afterwards(&self, call: &Call, message: &Message) {
        let (shown, outbox, id) = (self.shown.clone(), self.outbox.clone(), message.id.clone());
        call.afterwards(async move { shown.project(&outbox, &id).await });
    }

    fn not_accepted(&self, accepted: &Accepted, now: Timestamp) -> Problem {
        match accepted {
            Accepted::WhichAccount => {
                Problem::invalid_field("/accountId", "is required: the user has several accounts")
            }
            Accepted::Foreign => Problem::forbidden("this account belongs to another user"),
            Accepted::Mismatch => Problem::new(
                ErrorCode::IdempotencyMismatch,
                "this Idempotency-Key belongs to a request with another body; nothing was done",
            ),
            Accepted::Full => {
                let most = self.outbox.rules.most_waiting;
                let detail = format!("{most} messages of this account wait already; this one was not taken on");
                let problem = Problem::new(ErrorCode::RateLimitExceeded, detail).retry_after(FULL_RETRY);
                refused(problem, most.unsigned_abs(), FULL_RETRY, now)
            }
            Accepted::NoAccount | Accepted::New(..) | Accepted::Duplicate(_) | Accepted::Blocked => {
                Problem::new(ErrorCode::NotFound, "there is no such account, or the user has none")
            }
        }
    }

    async fn read(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let owner = call.owner(principal)?;
        // Read beside `messageId` too: a parameter that is wrong is said, also where it is not needed.
        let query = list_query(owner, call)?;
        match call.parameter("messageId")? {
            Some(id) => self.one(principal, &message_id(id)?, call).await,
            None => self.list(principal, query, call).await,
        }
    }

    async fn one(&self, principal: &Principal, id: &MessageId, call: &Call) -> Result<Value, Problem> {
        let found = view::one(&self.database, id).await.map_err(|e| Problem::internal(&e))?;
        let whole = found.ok_or_else(unknown)?;
        principal.acting_for(Some(&whole.message.user_id))?;
        let mut shown = whole.to_json();
        if whole.message.status.waits() {
            let (place, room) = self.place(&whole.message).await?;
            shown["queueInfo"] = place.to_json(&whole.message, &room, call.now);
        }
        Ok(shown)
    }

    async fn list(&self, principal: &Principal, mut query: ListQuery, call: &Call) -> Result<Value, Problem> {
        if let Some(account) = &query.account {
            let found = account::find(&self.database, account).await.map_err(|e| Problem::internal(&e))?;
            let found = found.ok_or_else(|| Problem::new(ErrorCode::NotFound, "there is no such account"))?;
            principal.acting_for(Some(&found.user_id))?;
            if call.parameter("userId")?.is_none() {
                query.user = found.user_id;
            }
        }
        let (messages, more) = view::list(&self.database, &query).await.map_err(|e| Problem::internal(&e))?;
        let last = messages.last().filter(|_| more).map(|last| (last.created_at, last.id.to_string()));
        Ok(json!({
            "messages": messages.iter().map(view::shown).collect::<Vec<_>>(),
            "nextCursor": last.as_ref().map(page::cursor),
        }))
    }

    async fn cancel(&self, principal: &Principal, call: &Call) -> Result<Reply, Problem> {
        let id = call.parameter("messageId")?.ok_or_else(|| Problem::invalid_field("messageId", "is required"))?;
        self.carry_out(principal, call, &message_id(id)?, &Decision::Cancel, None).await
    }

    async fn decide(&self, principal: &Principal, call: &Call, step: &str) -> Result<Reply, Problem> {
        let Choice { message_id, content, reason } =
            Choice::parse(&call.body, step == "approve").map_err(Problem::invalid)?;
        let decision = match step {
            "approve" => self.approval(principal, call, &message_id, content).await?,
            "reject" => Decision::Reject,
            _ => Decision::Resend,
        };
        self.carry_out(principal, call, &message_id, &decision, reason.as_deref()).await
    }

    /// What is said of a text for a fan.
    async fn judged(&self, text: &str, subject: &Subject<'_>, call: &Call) -> Judged {
        let profile = self.judge.profile(subject).await;
        self.judge.judge(Text { text, unfiltered: false, by: call.deadline }, &profile).await
    }

    /// An approval. Its words are judged as the rules are now, whoever wrote them and whenever: what is blocked nobody approves.
    async fn approval(
        &self,
        principal: &Principal,
        call: &Call,
        id: &MessageId,
        edit: Option<String>,
    ) -> Result<Decision, Problem> {
        let found = self.outbox.find(id).await.map_err(|e| Problem::internal(&e))?;
        let message = found.ok_or_else(unknown)?;
        if principal.acting_for(Some(&message.user_id)).is_err() {
            return Err(foreign());
        }
        if message.status != MessageStatus::AwaitingApproval {
            return Ok(Decision::Approve(Box::new(Approval { message, edit, judged: None })));
        }
        let edit = edit.filter(|text| *text != message.content);
        let subject = Subject {
            user: &message.user_id,
            account: Some(&message.account_id),
            recipient: Some(&message.recipient_id),
            but_for: Some(id),
            level: Some(message.compliance_level),
        };
        let judged = self.judged(edit.as_ref().unwrap_or(&message.content), &subject, call).await;
        if judged.verdict == Action::Block {
            let by = By { owner: None, actor: &principal.user_id, reason: None, request_id: &call.request_id };
            let about = by.approves(&message, edit.is_some());
            self.judge.note(&judged, &about).await.map_err(|e| Problem::internal(&e))?;
            return Err(blocked(&judged));
        }
        Ok(Decision::Approve(Box::new(Approval { message, edit, judged: Some(judged) })))
    }

    async fn carry_out(
        &self,
        principal: &Principal,
        call: &Call,
        id: &MessageId,
        decision: &Decision,
        reason: Option<&str>,
    ) -> Result<Reply, Problem> {
        let by = By {
            owner: (!principal.is_admin()).then_some(&principal.user_id),
            actor: &principal.user_id,
            reason,
            request_id: &call.request_id,
        };
        let decided = self.outbox.decide(id, decision, &by).await.map_err(|e| Problem::internal(&e))?;
        let (message, wake): (Box<Message>, Wake) = match decided {
            Decided::Done(message, wake) => (message, wake),
            Decided::Unknown => return Err(unknown()),
            Decided::Foreign => return Err(foreign()),
            Decided::TooLate(message) => return Err(too_late(&message)),
        };
        self.hints.put(&message.account_id, wake).await;
        self.show_afterwards(call, &message);
        Ok(Reply::ok(call.envelope(view::shown(&message))))
    }
}

/// A refusal for a bound, with the old system's headers of it.
fn refused(mut problem: Problem, limit: u64, retry_after: Duration, now: Timestamp) -> Problem {
    problem.headers.extend(refusal_headers(limit, retry_after, now));
    problem
}

fn list_query(owner: UserId, call: &Call) -> Result<ListQuery, Problem> {
    let account = call.parameter("accountId")?.map(AccountId::parse).transpose();
    Ok(ListQuery {
        user: owner,
        account: account.map_err(|e| Problem::invalid_field("accountId", e.to_string()))?,
        state: call.parameter("status")?.map(read_state).transpose()?,
        after: call.cursor()?,
        limit: call.limit(DEFAULT_LIMIT)?,
    })
}

fn read_state(text: &str) -> Result<State, Problem> {
    let names = || State::names().collect::<Vec<_>>().join(", ");
    State::from_name(text).ok_or_else(|| Problem::invalid_field("status", format!("must be one of {}", names())))
}

fn message_id(text: &str) -> Result<MessageId, Problem> {
    MessageId::parse(text).map_err(|e| Problem::invalid_field("messageId", e.to_string()))
}

fn blocked(judged: &Judged) -> Problem {
    Problem::new(ErrorCode::ComplianceViolation, judged.refusal())
        .with("complianceScore", judged.score)
        .with("findings", judged.findings.clone())
}

fn foreign() -> Problem {
    Problem::forbidden("this message belongs to another user")
}

fn unknown() -> Problem {
    Problem::new(ErrorCode::NotFound, "there is no such message")
}

fn too_late(message: &Message) -> Problem {
    let detail = match message.status {
        MessageStatus::Unknown if message.look_at.is_some() => "its end is still being looked for".to_owned(),
        status => format!("the message is `{}`; this cannot be decided about it any more", status.as_str()),
    };
    Problem::new(ErrorCode::Conflict, detail).with("messageStatus", message.status.as_str())
}
