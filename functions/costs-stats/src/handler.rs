//! Reads the query, keeps to the caller's own costs, and shows where they stand.

use huntaze_costs::ledger::LedgerError;
use huntaze_costs::owner::Owner;
use huntaze_costs::period::Month;
use huntaze_costs::spend::UserMonth;
use huntaze_costs::stats::{DayAndMonth, Standing, Stats, top_users};
use huntaze_costs::threshold::{Threshold, ThresholdKind};
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::problem::Problem;
use serde_json::Value;

use crate::App;
use crate::view;

/// After so many seconds a client may look again: who looks more often sees the same, and spends its requests.
const REFRESH_SECONDS: u32 = 60;
/// How many users are shown.
const TOP_USERS: usize = 10;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.authenticate(&self.sessions)?;
        // Side by side: what is read for a request that is refused is read in vain, and changes nothing.
        let (admission, data) = tokio::join!(self.limit.check(&principal.user_id), self.answer(&principal, call));
        call.admit(admission)?;
        let mut body = call.envelope(data?);
        body["metadata"]["refreshInterval"] = REFRESH_SECONDS.into();
        Ok(Reply::ok(body))
    }
}

impl App {
    async fn answer(&self, principal: &Principal, call: &Call) -> Result<Value, Problem> {
        let owner = call.owner_or_everyone(principal)?.into();
        let include_users = include_users(call, principal)?;
        let thresholds = async { self.thresholds.in_force(&owner).await.map_err(|e| Problem::internal(&e)) };
        let read = async { self.read(&owner, include_users, call).await.map_err(|e| Problem::internal(&e)) };
        let (thresholds, (standing, users)) = tokio::try_join!(thresholds, read)?;
        let nearest = DayAndMonth {
            day: Threshold::nearest(&thresholds, ThresholdKind::Daily),
            month: Threshold::nearest(&thresholds, ThresholdKind::Monthly),
        };
        let top = users.map(|users| top_users(users, call.now, TOP_USERS));
        Ok(view::stats(&Stats::of(standing, call.now, nearest), top.as_deref()))
    }

    async fn read(
        &self,
        owner: &Owner,
        include_users: bool,
        call: &Call,
    ) -> Result<(Standing, Option<Vec<UserMonth>>), LedgerError> {
        let standing = self.ledger.standing(owner, call.now);
        if include_users {
            let users = self.ledger.users_of_month(Month::at(call.now));
            tokio::try_join!(standing, users).map(|(standing, users)| (standing, Some(users)))
        } else {
            Ok((standing.await?, None))
        }
    }
}

/// `includeUsers`, which is for administrators.
fn include_users(call: &Call, principal: &Principal) -> Result<bool, Problem> {
    let include = call.flag("includeUsers")?;
    if include {
        principal.require_admin()?;
    }
    Ok(include)
}
