//! Schedule, once a day: what yesterday cost, against the day before and everyone's budgets. It is kept in S3, then told to
//! the operators.
//!
//! A repeat writes the same files and tells under the same id, which is delivered once. So whatever fails, fails the
//! invocation, which is made again. `{"day": "2026-11-20"}` as the event reports an earlier day.

mod archive;

use anyhow::{Context, anyhow};
use huntaze_costs::budget;
use huntaze_costs::config::ledger;
use huntaze_costs::ledger::Ledger;
use huntaze_costs::owner::Owner;
use huntaze_costs::report::{DailyReport, Reported};
use huntaze_lambda::clients::Aws;
use huntaze_lambda::scheduled::{self, Invocation, Task};
use huntaze_lambda::{config, logs};
use huntaze_postgres::Database;
use huntaze_sqs::Notifications;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::timeout_at;

use crate::archive::Archive;

struct App {
    ledger: Ledger,
    database: Database,
    archive: Archive,
    notifications: Notifications,
}

impl Task for App {
    async fn run(&self, invocation: Invocation) -> anyhow::Result<Value> {
        let Invocation { event, now, deadline, .. } = invocation;
        let day = Reported::asked(&event, now).map_err(|fault| anyhow!("{}: {}", fault.pointer, fault.detail))?;
        let report = timeout_at(deadline, self.report(day, now)).await.context("the report ran out of time")??;
        let (total, users) = (&report.total.day, report.users);
        tracing::info!(day = %day.day, requests = total.requests, estimated = total.estimated, users, "reported");
        Ok(json!({
            "day": day.day,
            "totalCost": total.cost.to_json_number(),
            "requests": total.requests,
            "users": users,
            "key": day.key(),
        }))
    }
}

impl App {
    /// Reads the day, keeps its report, and only then has it told: what is told says where the report is.
    async fn report(&self, day: Reported, now: Timestamp) -> anyhow::Result<DailyReport> {
        let report = self.read(day).await?;
        let files = self.archive.keep(&report).await?;
        self.notifications.put(&report.notification(&files, now)).await?;
        Ok(report)
    }

    async fn read(&self, day: Reported) -> anyhow::Result<DailyReport> {
        let usage = async { anyhow::Ok(self.ledger.usage(&Owner::Everyone, &day.range_read()).await?) };
        let budgets = async { anyhow::Ok(budget::list(&self.database, None, true, day.moment()).await?) };
        let (usage, budgets) = tokio::try_join!(usage, budgets)?;
        // Each is a query a shard. Behind the others, for each of them takes a connection.
        let (of_day, before) = (day.range(), day.range_before());
        let (users, users_before) = tokio::try_join!(self.ledger.users(&of_day), self.ledger.users(&before))?;
        Ok(DailyReport::of(day, &usage, users, users_before, &budgets))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), lambda_runtime::Error> {
    logs::init();
    let (env, tls) = config::load().await?;
    let aws = Aws::new(&env, &tls);
    let ledger = ledger(&env, aws.dynamodb());
    let archive = Archive::from_env(&env, aws.s3());
    let notifications = Notifications::from_env(&env, aws.queues());
    let database = env.required_as("DATABASE_URL", |url| Database::new(url, tls));
    let app = env.finish(database.map(|database| App { ledger, database, archive, notifications }))?;
    scheduled::serve(&app).await
}
