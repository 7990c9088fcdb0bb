//! Clients as real ones are: each asks for one thing after the other under a key of its own, and asks again for what failed.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use anyhow::Result;
use huntaze_tests::{InvokeError, Request, Response, now};
use jiff::{Timestamp, ToSpan as _};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::setting::{USERS, account_of};
use super::stage::Stage;
use crate::support::{BREAKDOWN, MESSAGES, STATS, STATUS, brief, campaign, note, text, user};

/// How many ask at once.
pub(super) const CLIENTS: usize = 6;
/// Between two requests of a client.
const THINKING: Duration = Duration::from_millis(60);
/// Before a client asks again for what failed; it is told to wait longer, and does not.
const AGAIN: Duration = Duration::from_millis(250);
/// Whoever was not served for so long never will be.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is asked for, in the words of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    Campaign,
    /// For which one provider may be asked, and no other.
    Forced,
    Message,
    /// Of statuses, which are PostgreSQL's.
    Status,
    /// Of costs, which are DynamoDB's.
    Costs,
}

impl What {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Campaign => "campaigns",
            Self::Forced => "forced",
            Self::Message => "messages",
            Self::Status => "status",
            Self::Costs => "costs",
        }
    }
}

/// The statuses that clients saw, in words, each with the first body that it came with.
pub(super) type Seen = BTreeMap<What, BTreeMap<String, Value>>;

/// One thing that a client wants.
pub(super) struct Wish {
    pub(super) what: What,
    user: &'static str,
    name: String,
    kind: usize,
}

/// A wish that is not served yet.
struct Wanted {
    wish: Wish,
    turn: usize,
    since: Instant,
    failed_at: Instant,
}

impl Wanted {
    fn new(wish: Wish) -> Self {
        Self { wish, turn: 0, since: Instant::now(), failed_at: Instant::now() }
    }
}

/// What follows from an answer.
pub(super) enum Next {
    Served,
    /// The same again, which is one request with the first.
    Again,
    /// The same wish as another request: the first has ended.
    Anew,
}

impl Wish {
    /// The `number`-th of a client: of ten, two read each of both, two are messages, and the campaigns are of every type, some for
    /// later and some to be sent.
    pub(super) fn of(client: usize, number: usize) -> Self {
        let kind = (client * 3 + number) % 10;
        let what = match kind {
            1 | 7 => What::Message,
            3 => What::Status,
            5 | 9 => What::Costs,
            _ => What::Campaign,
        };
        Self { what, user: USERS[client % USERS.len()], name: format!("{client}-{number}"), kind }
    }

    /// A plan that only one provider is asked for, or a text; a probe's wishes are told from the others' by their names.
    pub(super) fn probe(name: String, kind: usize) -> Self {
        let what = match kind {
            1 => What::Message,
            5 => What::Costs,
            10 | 11 => What::Forced,
            _ => What::Campaign,
        };
        Self { what, user: USERS[0], name, kind }
    }

    pub(super) fn is_breakdown(&self) -> bool {
        self.kind == 9
    }

    pub(super) fn request(&self, turn: usize) -> Request {
        let key = format!("{}-{turn}", self.name);
        let read = |path: &str| user(Request::get(path), self.user);
        match self.kind {
            1 | 7 => {
                let text = format!("hello {}", self.name);
                let body = note(&account_of(self.user), &self.fan(), &text);
                user(Request::post(MESSAGES), self.user).json(&body).idempotency_key(&key)
            }
            3 => read(STATUS),
            5 => read(STATS),
            9 => {
                let day = |at: Timestamp| at.strftime("%Y-%m-%d").to_string();
                read(BREAKDOWN).query("startDate", &day(now())).query("endDate", &day(now() + 24.hours()))
            }
            _ => {
                let request = campaign(self.user, &self.campaign()).idempotency_key(&key);
                if self.kind == 2 || self.kind == 8 { request.header("prefer", "respond-async") } else { request }
            }
        }
    }

    /// Each has its own: what says the same again to the same fan, or very often, waits for a person.
    fn fan(&self) -> String {
        format!("fan-{}", self.name)
    }

    fn campaign(&self) -> Value {
        let (kind, platforms) = match self.kind {
            2 => ("campaign_execution", &["onlyfans", "instagram"][..]),
            4 | 8 | 11 => ("message_generation", &["onlyfans"][..]),
            6 => ("content_validation", &["instagram"][..]),
            _ => ("content_planning", &["onlyfans", "reddit"][..]),
        };
        let mut body = brief(kind, platforms);
        // Each is another's: nothing is answered from what was made for somebody else.
        body["data"]["theme"] = json!(format!("summer nights {}", self.name));
        match self.kind {
            4 | 8 => {
                body["sendToOnlyFans"] = json!(true);
                body["recipientId"] = json!(self.fan());
            }
            10 => body["forceProvider"] = json!("azure"),
            11 => body["forceProvider"] = json!("openai"),
            _ => {}
        }
        body
    }
}

impl Stage<'_> {
    /// Asks for one thing after the other until the load ends, and between them for what failed; then for that alone, until all of
    /// it is served.
    pub(super) async fn client(&self, client: usize) -> Result<()> {
        let (mut failed, mut number) = (VecDeque::new(), 0);
        loop {
            if !self.load_is_over() {
                failed.extend(self.try_once(Wanted::new(Wish::of(client, number))).await?);
                number += 1;
                sleep(THINKING).await;
            } else if failed.is_empty() {
                return Ok(());
            }
            if let Some(due) = failed.pop_front_if(|wanted: &mut Wanted| wanted.failed_at.elapsed() > AGAIN) {
                failed.extend(self.try_once(due).await?);
            } else if self.load_is_over() {
                sleep(THINKING).await;
            }
        }
    }

    /// Asks for it; what has to be asked for again is given back.
    async fn try_once(&self, mut wanted: Wanted) -> Result<Option<Wanted>> {
        match self.ask(&wanted.wish, wanted.turn).await?.0 {
            Next::Served => return Ok(None),
            Next::Again => {}
            Next::Anew => wanted.turn += 1,
        }
        wanted.failed_at = Instant::now();
        if wanted.since.elapsed() > PATIENCE {
            self.wrong(format!("{:?} {} was never served", wanted.wish.what, wanted.wish.name));
            return Ok(None);
        }
        Ok(Some(wanted))
    }

    /// Asks once; what the answer is taken down.
    pub(super) async fn ask(&self, wish: &Wish, turn: usize) -> Result<(Next, Option<Response>)> {
        let answer = {
            let _turn = self.turn().await;
            self.pool(wish).http(wish.request(turn)).await?
        };
        match answer {
            Ok(response) => Ok((self.note(wish, &response), Some(response))),
            Err(error) => {
                self.wrong(format!("{:?} {} had no answer: {}", wish.what, wish.name, in_short(&error)));
                Ok((Next::Again, None))
            }
        }
    }

    fn note(&self, wish: &Wish, response: &Response) -> Next {
        let (status, code) = (response.status, text(&response.body["code"]));
        let in_words = if status < 400 { status.to_string() } else { format!("{status} `{code}`") };
        self.see(wish.what, in_words, &response.body);
        let replayed = response.header("idempotent-replayed") == "true";
        let problem = response.header("content-type") == "application/problem+json";
        let told_when = response.header("retry-after").parse::<u32>().is_ok();
        match (status, code) {
            (200 | 202, _) => {
                let data = &response.body["data"];
                match wish.what {
                    What::Campaign | What::Forced => {
                        self.accepted_campaign(wish.user, text(&data["workflowId"]), status == 200)
                    }
                    What::Message => self.accepted_message(wish.user, text(&data["messageId"])),
                    What::Status | What::Costs => {}
                }
                Next::Served
            }
            // It has ended, and under its key it stays so.
            (503, "provider_unavailable") if problem && told_when => Next::Anew,
            (500, "internal") if problem && replayed => Next::Anew,
            (500, "internal") | (409, "conflict") if problem => Next::Again,
            _ => {
                self.wrong(format!("{:?} {}: {status} {}", wish.what, wish.name, response.body));
                Next::Served
            }
        }
    }
}

/// Without what the function wrote, which is long.
fn in_short(error: &InvokeError) -> String {
    let text = error.to_string();
    let tail: Vec<_> = text.lines().rev().take(12).collect();
    format!("{} … {}", text.lines().next().unwrap_or_default(), tail.into_iter().rev().collect::<Vec<_>>().join("\n"))
}
