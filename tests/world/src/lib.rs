//! The outside world over real HTTP: Azure OpenAI, OpenAI, Slack's webhooks and OnlyFans as they really answer, with faults scripted
//! per call.
//!
//! A test starts a [`World`] of its own; the local stack runs the binary. Both serve the same routes:
//!
//! - `/azure/openai/deployments/{deployment}/chat/completions` and `/azure/openai/models` (key [`AZURE_KEY`]),
//! - `/openai/v1/chat/completions`, `/openai/v1/moderations` and `/openai/v1/models` (key [`OPENAI_KEY`]),
//! - `/slack/services/{team}/{app}/{token}` (token [`SLACK_TOKEN`]),
//! - `/onlyfans/api2/v2/chats/{recipient}/messages` and `/onlyfans/api2/v2/users/me` (with an [`OnlyFansSession`]),
//! - `/legacy`, the system before this one: `/api/campaigns/hybrid` and `/api/v2/campaigns/hybrid`,
//! - `/control`: `POST faults` ([`Rule`]), `GET faults`, `POST release`, `GET calls?provider=&operation=` ([`Call`]),
//!   `GET calls/count`, and `DELETE` to forget everything; `onlyfans/messages` ([`FanMessage`]), `onlyfans/messages/count`,
//!   `onlyfans/mix` ([`Mix`]) and `onlyfans/sessions/{account}`.

mod azure;
mod calls;
mod chat;
mod control;
mod exchange;
mod faults;
mod legacy;
mod onlyfans;
mod openai;
pub mod server;
mod slack;
mod text;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use tokio::time::timeout;

pub use crate::azure::AZURE_KEY;
use crate::calls::Memory;
pub use crate::calls::{Call, Outcome, REMEMBERED_CALLS};
pub use crate::faults::{Fault, FilterStage, Operation, Provider, Rule};
pub use crate::legacy::{LegacyAnswer, LegacyRequest};
use crate::onlyfans::Dice;
pub use crate::onlyfans::{Author, FanMessage, Mix, OnlyFansSession};
pub use crate::openai::OPENAI_KEY;
use crate::server::Server;
pub use crate::slack::SLACK_TOKEN;

/// A loopback address with a port that the system picks.
pub const ANY_PORT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// A running world; dropping it stops it and closes its connections.
#[derive(Debug)]
pub struct World {
    server: Server,
    memory: Arc<Memory>,
}

impl World {
    /// Starts a world on a loopback address, such as [`ANY_PORT`].
    ///
    /// # Errors
    /// If the address cannot be bound, or is not a loopback one.
    pub fn start(listen: SocketAddr) -> io::Result<Self> {
        let memory = Arc::new(Memory::default());
        let router = Router::new()
            .nest("/azure", azure::routes())
            .nest("/openai/v1", openai::routes())
            .nest("/slack/services", slack::routes())
            .nest("/onlyfans/api2/v2", onlyfans::routes())
            .nest("/legacy", legacy::routes())
            .nest("/control", control::routes())
            .with_state(Arc::clone(&memory));
        Ok(Self { server: Server::start(listen, router)?, memory })
    }

    /// Its address, `http://127.0.0.1:…`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.server.addr())
    }

    /// The value for `AZURE_OPENAI_ENDPOINT`.
    #[must_use]
    pub fn azure_endpoint(&self) -> String {
        self.url() + "/azure"
    }

    /// The value for `OPENAI_BASE_URL`.
    #[must_use]
    pub fn openai_base_url(&self) -> String {
        self.url() + "/openai/v1"
    }

    /// The value for `SLACK_WEBHOOK_URL`.
    #[must_use]
    pub fn slack_webhook_url(&self) -> String {
        format!("{}/slack/services/T0WORLD/B0WORLD/{SLACK_TOKEN}", self.url())
    }

    /// The value for `ONLYFANS_API_URL`.
    #[must_use]
    pub fn onlyfans_api_url(&self) -> String {
        self.url() + "/onlyfans/api2/v2"
    }

    /// The value for `LEGACY_API_URL`.
    #[must_use]
    pub fn legacy_url(&self) -> String {
        self.url() + "/legacy"
    }

    /// Has the old system answer requests that say `x-case: <case>` with this.
    pub fn record_legacy(&self, case: &str, answer: LegacyAnswer) {
        self.memory.legacy.record(case, answer);
    }

    /// The requests that the old system has got, oldest first.
    #[must_use]
    pub fn legacy_requests(&self) -> Vec<LegacyRequest> {
        self.memory.legacy.seen()
    }

    /// What an account signs in to OnlyFans with. There is every account that is asked for.
    #[must_use]
    pub fn onlyfans_session(&self, account: &str) -> OnlyFansSession {
        self.memory.chats.session(account)
    }

    /// Ends the sessions that an account has so far; [`Self::onlyfans_session`] gives a new one.
    pub fn expire_onlyfans_session(&self, account: &str) {
        self.memory.chats.expire(account);
    }

    /// Scripts a fault, after those scripted before.
    pub fn fault(&self, rule: Rule) {
        self.memory.add_rule(rule);
    }

    /// Has messages to fans meet with faults at random, where no rule is for them; in place of an earlier mix.
    ///
    /// # Errors
    /// If a share is not from 0 to 1, or they are more than 1 together.
    pub fn mix(&self, mix: &Mix) -> anyhow::Result<()> {
        let dice = Dice::new(mix).map_err(|_| anyhow::anyhow!("these are no shares: {mix:?}"))?;
        self.memory.set_dice(dice);
        Ok(())
    }

    /// The faults that are still to come.
    #[must_use]
    pub fn pending_faults(&self) -> Vec<Rule> {
        self.memory.rules()
    }

    /// Forgets the faults that are still to come: everybody is well again.
    pub fn end_faults(&self) {
        self.memory.end_rules();
    }

    /// Lets go every call that a [`Fault::Gate`] holds now.
    pub fn release(&self) {
        self.memory.release();
    }

    /// The chat completions so far, oldest first.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.memory.calls(Operation::Chat, None)
    }

    /// The chat completions of one provider so far, oldest first.
    #[must_use]
    pub fn calls_to(&self, provider: Provider) -> Vec<Call> {
        self.memory.calls(Operation::Chat, Some(provider))
    }

    /// The second opinions asked for so far, oldest first.
    #[must_use]
    pub fn moderations(&self) -> Vec<Call> {
        self.memory.calls(Operation::Moderation, None)
    }

    /// The lists of models asked for so far, oldest first.
    #[must_use]
    pub fn probes(&self) -> Vec<Call> {
        self.memory.calls(Operation::Models, None)
    }

    /// The messages to Slack so far, oldest first.
    #[must_use]
    pub fn slack_messages(&self) -> Vec<Call> {
        self.memory.calls(Operation::Webhook, Some(Provider::Slack))
    }

    /// Waits until at least `n` messages to Slack have arrived (they may not have been answered).
    ///
    /// # Errors
    /// If there are fewer after `bound`.
    pub async fn wait_for_slack(&self, n: usize, bound: Duration) -> anyhow::Result<Vec<Call>> {
        let wanted = u64::try_from(n)?;
        let mut seen = self.memory.webhooks_seen();
        let arrived = timeout(bound, seen.wait_for(|seen| *seen >= wanted)).await.is_ok();
        let messages = self.slack_messages();
        let count = messages.len();
        arrived.then_some(messages).with_context(|| format!("after {bound:?} Slack has seen {count} of {n} messages"))
    }

    /// Every message that reached a fan over the API, oldest first; also those whose call was never answered.
    #[must_use]
    pub fn fan_messages(&self) -> Vec<FanMessage> {
        self.memory.chats.sent()
    }

    /// Waits until at least `n` messages have reached fans (their calls may not have been answered).
    ///
    /// # Errors
    /// If there are fewer after `bound`.
    pub async fn wait_for_fan_messages(&self, n: usize, bound: Duration) -> anyhow::Result<Vec<FanMessage>> {
        let wanted = u64::try_from(n)?;
        let mut reached = self.memory.chats.reached();
        let arrived = timeout(bound, reached.wait_for(|reached| *reached >= wanted)).await.is_ok();
        let messages = self.fan_messages();
        let count = messages.len();
        arrived.then_some(messages).with_context(|| format!("after {bound:?} {count} of {n} messages reached fans"))
    }

    /// Adds to a conversation what the API was not asked for: the creator's own words, or the fan's. Gives the message's id.
    pub fn write_to_conversation(
        &self,
        account: &str,
        recipient: &str,
        author: Author,
        text: &str,
        at: jiff::Timestamp,
    ) -> u64 {
        self.memory.chats.write(account, recipient, author, text, at)
    }

    /// The last calls of an operation of OnlyFans, oldest first.
    #[must_use]
    pub fn onlyfans_calls(&self, operation: Operation) -> Vec<Call> {
        self.memory.calls(operation, Some(Provider::OnlyFans))
    }

    /// Waits until at least `n` chat completions have arrived (they may not have been answered).
    ///
    /// # Errors
    /// If there are fewer after `bound`.
    pub async fn wait_for_calls(&self, n: usize, bound: Duration) -> anyhow::Result<Vec<Call>> {
        let wanted = u64::try_from(n)?;
        let mut seen = self.memory.seen();
        let arrived = timeout(bound, seen.wait_for(|seen| *seen >= wanted)).await.is_ok();
        arrived.then(|| self.calls()).with_context(|| {
            format!("after {bound:?} the world has seen {} of {n} chat completions", self.calls().len())
        })
    }

    /// Forgets calls, faults, cached prompts, conversations and expired sessions, and lets go what is held.
    pub fn reset(&self) {
        self.memory.reset();
    }
}
