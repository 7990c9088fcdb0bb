//! What is said of a step's text before it goes anywhere: whose rules it is judged by, at which level, and what becomes of it.

use std::sync::Arc;

use huntaze_compliance::Action;
use huntaze_domain::ids::{AccountId, UserId, WorkflowId};
use huntaze_domain::intent::{ComplianceLevel, WorkflowIntent, WorkflowType};
use huntaze_judge::{About, Judge, Judged, Origin, Profile, Subject, Text, glance};
use serde_json::Value;
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::answer::{CallEnd, Failure};
use crate::claimed::Claimed;
use crate::route::Step;

/// The platform whose rules these are.
const ONLYFANS: &str = "onlyfans";
/// No more of a text that is to be validated is judged: a request is hardly larger.
const MAX_VALIDATED: usize = 256 * 1024;

/// How a step's text is judged.
#[derive(Clone)]
pub(crate) struct Judging<'a> {
    pub(crate) judge: &'a Judge,
    pub(crate) owner: &'a UserId,
    pub(crate) intent: &'a WorkflowIntent,
    pub(crate) step: &'a Step,
    /// The account that it is sent by.
    pub(crate) sender: Option<AccountId>,
    /// Read once a workflow, beside its first call.
    pub(crate) profile: Arc<OnceCell<Profile>>,
}

impl<'a> Judging<'a> {
    /// Of a workflow that was taken up.
    pub(crate) fn of(claimed: &'a Claimed, judge: &'a Judge, step: &'a Step, profile: Arc<OnceCell<Profile>>) -> Self {
        Self {
            judge,
            owner: &claimed.owner,
            intent: &claimed.parsed.intent,
            step,
            sender: claimed.sender.clone(),
            profile,
        }
    }

    /// For whom it is judged. A text that is not for the platform's fans is judged by what no level lets pass.
    pub(crate) async fn profile(&self) -> Profile {
        let is_for_platform = is_for_platform(self.step, self.intent);
        if self.account().is_none() && !is_for_platform {
            return Profile::at(Some(ComplianceLevel::Relaxed));
        }
        // What could not be read may be there when the text is.
        let read = || async {
            let read = self.read().await;
            if read.is_unread() { Err(Box::new(read)) } else { Ok(read) }
        };
        let mut profile = self.profile.get_or_try_init(read).await.map_or_else(|unread| *unread, Profile::clone);
        if !is_for_platform {
            profile.level = ComplianceLevel::Relaxed;
        }
        profile
    }

    /// The account that it is for, where one is named.
    fn account(&self) -> Option<AccountId> {
        let named =
            self.intent.only_fans_context.as_ref().and_then(|context| AccountId::parse(&context.account_id).ok());
        self.sender.clone().or(named)
    }

    async fn read(&self) -> Profile {
        let level = self.intent.only_fans_context.as_ref().map(|context| context.compliance_level);
        let recipient = self.intent.recipient_id.as_ref().filter(|_| self.intent.send_to_only_fans);
        let account = self.account();
        let subject = Subject { user: self.owner, account: account.as_ref(), recipient, but_for: None, level };
        self.judge.profile(&subject).await
    }

    /// Judges what a call ended with; a text that is blocked is none any more. `by`: an opinion that comes later is none.
    pub(crate) async fn judge(&self, end: &mut CallEnd, by: Instant) -> Option<Judged> {
        let text = end.result.as_ref().ok()?;
        let (judged, is_blocked) = self.text(text, end.unfiltered, by).await;
        if is_blocked {
            end.result = Err(Failure::Blocked);
        }
        Some(judged)
    }

    /// Judges a step's text, and says whether nobody gets to see it. Whoever validates a text quotes it: it is that text that is judged then, and
    /// what is said of it is the answer; but the answer breaks no rule that the text does not.
    pub(crate) async fn text(&self, text: &str, unfiltered: bool, by: Instant) -> (Judged, bool) {
        let profile = self.profile().await;
        if !self.validates() {
            let judged = self.judge.judge(Text { text, unfiltered, by }, &profile).await;
            let is_blocked = judged.verdict == Action::Block;
            return (judged, is_blocked);
        }
        let validated = self.validated();
        let judged = self.judge.judge(Text { text: &validated, unfiltered: false, by }, &profile).await;
        let answer = glance(text, &profile);
        if answer.verdict == Action::Block && answer.rules().any(|rule| judged.rules().all(|known| known != rule)) {
            return (answer, true);
        }
        (judged, false)
    }

    /// Where what is judged comes from; `edited`: a person wrote the step's text.
    pub(crate) fn origin(&self, edited: bool) -> Origin {
        match (self.validates(), edited) {
            (true, _) => Origin::Validated,
            (false, true) => Origin::Edited,
            (false, false) => Origin::Generated,
        }
    }

    /// What the log keeps beside a judgement of it.
    pub(crate) fn about<'b>(
        &'b self,
        origin: Origin,
        actor: &'b UserId,
        workflow: &'b WorkflowId,
        request_id: &'b str,
    ) -> About<'b> {
        About {
            origin,
            user: self.owner,
            actor,
            workflow: Some(workflow),
            step: Some(&self.step.name),
            message: None,
            request_id,
        }
    }

    fn validates(&self) -> bool {
        self.step.prompt == WorkflowType::ContentValidation
    }

    /// What is to be validated: the text that is named so, and all else that the brief says.
    fn validated(&self) -> String {
        let data = &self.intent.data;
        let named =
            ["text", "content", "message"].into_iter().find(|name| data.get(*name).is_some_and(Value::is_string));
        let mut texts = Vec::new();
        named.into_iter().filter_map(|name| data.get(name)).for_each(|value| collect(value, &mut texts));
        for (name, value) in data.iter().filter(|(name, _)| Some(name.as_str()) != named) {
            texts.push(name);
            collect(value, &mut texts);
        }
        let mut text = texts.join("\n");
        text.truncate(text.floor_char_boundary(MAX_VALIDATED));
        text
    }
}

/// Whether a step's text is for the platform's fans, as far as one can tell.
fn is_for_platform(step: &Step, intent: &WorkflowIntent) -> bool {
    let is = |platform: &String| platform == ONLYFANS;
    let is_text = step.is_for_fans() && (intent.send_to_only_fans || step.platforms.iter().any(is));
    is_text || step.platforms.iter().all(is)
}

/// The texts of a brief, in their order.
fn collect<'a>(value: &'a Value, texts: &mut Vec<&'a str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(values) => values.iter().for_each(|value| collect(value, texts)),
        Value::Object(values) => values.iter().for_each(|(name, value)| {
            texts.push(name);
            collect(value, texts);
        }),
        _ => {}
    }
}
