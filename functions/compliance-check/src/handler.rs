//! Reads the text, and for whom it is, and says what the rules and the account's own words say of it. Nothing is kept.

use http::Method;
use huntaze_domain::error::{ErrorCode, FieldFault};
use huntaze_domain::ids::{AccountId, UserId};
use huntaze_domain::intent::ComplianceLevel;
use huntaze_domain::json::{Fields, parse_object};
use huntaze_judge::{Profile, Subject, glance};
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::problem::Problem;

use crate::App;

/// The longest text, in characters: as long as the longest that a person writes in a review.
const MAX_TEXT: usize = 20_000;

/// A valid request.
struct Check {
    text: String,
    level: Option<ComplianceLevel>,
    account: Option<AccountId>,
    user: Option<UserId>,
}

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.authenticate(&self.sessions)?;
        call.admit(self.limit.check(&principal.user_id).await)?;
        if call.method != Method::POST {
            return Err(Problem::no_such_route());
        }
        let Check { text, level, account, user } = Check::parse(&call.body).map_err(Problem::invalid)?;
        let owner = principal.acting_for(user.as_ref())?;
        let profile = self.profile(owner, account.as_ref(), level).await?;
        Ok(Reply::ok(call.envelope(glance(&text, &profile).to_json())))
    }
}

impl App {
    /// For whom it is judged: the account, or the user's only one.
    async fn profile(
        &self,
        owner: &UserId,
        account: Option<&AccountId>,
        level: Option<ComplianceLevel>,
    ) -> Result<Profile, Problem> {
        let profile =
            self.judge.profile(&Subject { user: owner, account, recipient: None, but_for: None, level }).await;
        if profile.is_foreign {
            return Err(Problem::forbidden("this account belongs to another user"));
        }
        let is_there = account.is_none() || profile.account.is_some() || profile.is_unread();
        is_there.then_some(profile).ok_or_else(|| Problem::new(ErrorCode::NotFound, "there is no such account"))
    }
}

impl Check {
    /// Reads `{text, level?, accountId?, userId?}`.
    fn parse(body: &[u8]) -> Result<Self, Vec<FieldFault>> {
        let map = parse_object(body)?;
        let mut faults = Vec::new();
        let mut fields = Fields::new(&map, "", &mut faults);
        let text = fields.required("text", "a text of 1 to 20000 characters", |v| {
            v.as_str().filter(|text| (1..=MAX_TEXT).contains(&text.chars().count())).map(str::to_owned)
        });
        let level = fields.optional("level", ComplianceLevel::EXPECTED, ComplianceLevel::read);
        let account = fields.optional("accountId", "an account id", |v| AccountId::parse(v.as_str()?).ok());
        let user = fields.optional("userId", "a user id", |v| UserId::parse(v.as_str()?).ok());
        match text {
            Some(text) if faults.is_empty() => Ok(Self { text, level, account, user }),
            _ => Err(faults),
        }
    }
}
