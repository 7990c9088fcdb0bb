//! Reads the query, keeps to the caller's own costs, and answers in the form that is asked for.

use http::HeaderValue;
use http::header::{ACCEPT, CONTENT_DISPOSITION, VARY};
use huntaze_costs::breakdown::{Breakdown, csv};
use huntaze_costs::ledger::LedgerError;
use huntaze_costs::owner::Owner;
use huntaze_costs::rollup::Detail;
use huntaze_costs::savings::{Alternative, Potential};
use huntaze_costs::usage::Usage;
use huntaze_domain::ids::UserId;
use huntaze_domain::intent::WorkflowType;
use huntaze_domain::money::Usd;
use huntaze_domain::principal::Principal;
use huntaze_lambda::api::{Call, Reply, Route};
use huntaze_lambda::problem::Problem;
use jiff::Timestamp;
use serde_json::json;

use crate::App;
use crate::query::Query;
use crate::view;

impl Route for App {
    async fn handle(&self, call: &Call) -> Result<Reply, Problem> {
        let principal = call.authenticate(&self.sessions)?;
        // Side by side: what is read for a request that is refused is read in vain, and changes nothing.
        let (admission, answer) = tokio::join!(self.limit.check(&principal.user_id), self.answer(&principal, call));
        call.admit(admission)?;
        Ok(answer?.header(VARY, HeaderValue::from(ACCEPT)))
    }
}

impl App {
    async fn answer(&self, principal: &Principal, call: &Call) -> Result<Reply, Problem> {
        let query = Query::read(call, principal)?;
        if query.csv {
            let usage = self.ledger.usage(&query.owner, &query.range).await.map_err(|e| Problem::internal(&e))?;
            return Ok(table(&query, &usage));
        }
        let (usage, users) = self.read(&query, principal).await.map_err(|e| Problem::internal(&e))?;
        let breakdown = Breakdown::of(&usage);
        let potential = Potential::of(&breakdown.details, |detail| self.alternatives(detail, call.now));
        let mut data = view::breakdown(&query.range, &breakdown, &potential);
        if let Some(users) = users {
            let (page, next) = query.page.of(users);
            (data["users"], data["nextCursor"]) = (view::users(&page), json!(next));
        }
        Ok(Reply::ok(call.envelope(data)))
    }

    /// The days of the range and, for administrators, the users.
    async fn read(
        &self,
        query: &Query,
        principal: &Principal,
    ) -> Result<(Usage, Option<Vec<(UserId, Usd)>>), LedgerError> {
        let usage = self.ledger.usage(&query.owner, &query.range);
        match &query.owner {
            Owner::Everyone => {
                let (usage, users) = tokio::try_join!(usage, self.ledger.users(&query.range))?;
                Ok((usage, Some(users)))
            }
            Owner::User(user) => {
                let usage = usage.await?;
                let cost = usage.values().map(|day| day.total.cost).sum();
                Ok((usage, principal.is_admin().then(|| vec![(user.clone(), cost)])))
            }
        }
    }

    /// Who else could have been asked for what a detail counts, at the prices of now.
    fn alternatives(&self, detail: &Detail, now: Timestamp) -> Vec<Alternative> {
        let Some(kind) = WorkflowType::from_name(&detail.request_type) else { return Vec::new() };
        let candidates = self.roles.instead_of(kind, detail.provider, &detail.model);
        let asked = candidates.into_iter().filter(|candidate| self.configured.contains(&candidate.provider));
        let priced = asked.filter_map(|candidate| {
            let price = self.catalogue.price(candidate.provider, &candidate.model, now).ok()?.clone();
            Some(Alternative { provider: candidate.provider, model: candidate.model.clone(), price })
        });
        priced.collect()
    }
}

fn table(query: &Query, usage: &Usage) -> Reply {
    let (first, last) = query.range.touched();
    let reply = Reply::text("text/csv; charset=utf-8; header=present", csv(usage));
    match HeaderValue::from_str(&format!("attachment; filename=\"costs_{first}_{last}.csv\"")) {
        Ok(name) => reply.header(CONTENT_DISPOSITION, name),
        Err(_) => reply,
    }
}
