//! Real stores, a set of its own for each test: a database cloned from a migrated template, DynamoDB tables, SQS queues and
//! a Redis database. The servers are those of `make test`.

use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, bail};
use redis::AsyncConnectionConfig;
use redis::aio::MultiplexedConnection;
use refinery::{Migration, Runner};
use reqwest::Url;
use serde_json::{Map, Value, json};
use tokio::time::timeout;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use crate::aws::Aws;
use crate::poll::eventually;
use crate::source::Source;

/// How long making or dropping a set of stores may take.
const BOUND: Duration = Duration::from_secs(30);
const CLEANUP_BOUND: Duration = Duration::from_secs(5);

/// Where the migrations that were applied are listed.
const HISTORY: &str = "orchestrator.schema_history";

/// Where the leases of the Redis databases are kept.
const REDIS_LEASES: &str = "huntaze-tests:database:";
/// A lease outlives any test, and ends by itself should the test be killed.
const REDIS_LEASE_SECONDS: u64 = 600;

/// The stores of one test. What was made for it is dropped with it, as far as that goes.
#[derive(Debug)]
pub struct Stores {
    postgres: Client,
    redis_url: Url,
    made: Made,
}

/// What has to be dropped.
#[derive(Clone, Debug)]
struct Made {
    admin_url: Url,
    database: String,
    aws: Aws,
    table: String,
    thresholds: String,
    alerts: String,
    reports: String,
    of_sessions: String,
    flags: String,
    workflow_queue: Queue,
    rate_limiter_queue: Queue,
    dead_queue: Queue,
    dead_workflows: Queue,
    notifications: Queue,
    shown: ShownTables,
    redis_url: Url,
    redis_lease: String,
}

#[derive(Clone, Debug)]
struct Queue {
    name: String,
    url: String,
}

/// The tables that show messages to fans, by their names.
#[derive(Clone, Debug)]
struct ShownTables {
    messages: String,
    threads: String,
    aggregates: String,
}

impl ShownTables {
    async fn make(aws: &Aws, suffix: &str) -> anyhow::Result<Self> {
        let [messages, threads, aggregates] =
            ["messages", "threads", "aggregates"].map(|kind| format!("of-{kind}-{suffix}"));
        tokio::try_join!(
            aws.create_table(&messages, &["accountId", "messageId"], &[]),
            aws.create_table(&threads, &["accountId", "recipientId"], &[]),
            aws.create_table(&aggregates, &["accountId", "day"], &[]),
        )?;
        Ok(Self { messages, threads, aggregates })
    }

    async fn drop_all(&self, aws: &Aws) {
        let Self { messages, threads, aggregates } = self;
        let _ = tokio::join!(aws.delete_table(messages), aws.delete_table(threads), aws.delete_table(aggregates));
    }
}

impl Stores {
    /// Makes a set of stores.
    ///
    /// # Errors
    /// If a server is not there, or a migration fails.
    pub async fn new() -> anyhow::Result<Self> {
        timeout(BOUND, Self::make()).await.context("the stores did not come up in time")?
    }

    async fn make() -> anyhow::Result<Self> {
        let admin_url = Url::parse(&required("DATABASE_URL")?).context("DATABASE_URL")?;
        let redis_url = Url::parse(&required("REDIS_URL")?).context("REDIS_URL")?;
        let aws = Aws::new(
            required("AWS_ENDPOINT_URL")?,
            required("AWS_REGION")?,
            required("AWS_ACCESS_KEY_ID")?,
            required("AWS_SECRET_ACCESS_KEY")?,
        )?;
        let suffix = Uuid::new_v4().simple().to_string();
        let names = (format!("huntaze-ai-costs-{suffix}"), format!("workflows-{suffix}"), format!("limiter-{suffix}"));
        let [thresholds, alerts, told, reports, of_sessions, flags] =
            ["cost-thresholds", "cost-alerts", "notifications", "reports", "of-sessions", "feature-flags"]
                .map(|name| format!("{name}-{suffix}"));
        let (dead, dead_workflows) = (format!("limiter-dlq-{suffix}"), format!("workflows-dlq-{suffix}"));
        let queues = async {
            tokio::try_join!(
                aws.create_queue(&names.1),
                aws.create_queue(&names.2),
                aws.create_queue(&dead),
                aws.create_queue(&dead_workflows),
                aws.create_queue(&told),
            )
        };
        let (database, (), (), (), (), (), (), shown, queues, number) = tokio::try_join!(
            clone_database(&admin_url, &suffix),
            aws.create_costs_table(&names.0),
            aws.create_thresholds_table(&thresholds),
            aws.create_alerts_table(&alerts),
            aws.create_bucket(&reports),
            aws.create_of_sessions_table(&of_sessions),
            aws.create_table(&flags, &["kind", "name"], &[]),
            ShownTables::make(&aws, &suffix),
            queues,
            lease_redis(&redis_url),
        )?;
        let (workflow_queue, rate_limiter_queue, dead_queue, dead_workflow_queue, notifications) = queues;
        let made = Made {
            database,
            aws,
            table: names.0,
            thresholds,
            alerts,
            reports,
            of_sessions,
            flags,
            notifications: Queue { name: told, url: notifications },
            workflow_queue: Queue { name: names.1, url: workflow_queue },
            rate_limiter_queue: Queue { name: names.2, url: rate_limiter_queue },
            dead_queue: Queue { name: dead, url: dead_queue },
            dead_workflows: Queue { name: dead_workflows, url: dead_workflow_queue },
            shown,
            redis_lease: format!("{REDIS_LEASES}{number}"),
            redis_url: redis_url.clone(),
            admin_url,
        };
        Ok(Self {
            postgres: connect(&made.database_url()).await?,
            redis_url: with_path(&redis_url, &number.to_string()),
            made,
        })
    }

    /// The variables by which a function finds these stores.
    #[must_use]
    pub fn env(&self) -> Vec<(String, String)> {
        let Made { aws, table, thresholds, alerts, reports, of_sessions, flags, .. } = &self.made;
        let Made { workflow_queue, rate_limiter_queue, dead_queue, dead_workflows, notifications, shown, .. } =
            &self.made;
        [
            ("DATABASE_URL", self.made.database_url().to_string()),
            ("REDIS_URL", self.redis_url.to_string()),
            ("AWS_ENDPOINT_URL", aws.endpoint.clone()),
            ("AWS_REGION", aws.region.clone()),
            ("AWS_ACCESS_KEY_ID", aws.access_key.clone()),
            ("AWS_SECRET_ACCESS_KEY", aws.secret_key.clone()),
            ("DYNAMODB_COSTS_TABLE", table.clone()),
            ("DYNAMODB_THRESHOLDS_TABLE", thresholds.clone()),
            ("DYNAMODB_ALERTS_TABLE", alerts.clone()),
            ("REPORTS_S3_BUCKET", reports.clone()),
            ("DYNAMODB_OF_SESSIONS_TABLE", of_sessions.clone()),
            ("DYNAMODB_FEATURE_FLAGS_TABLE", flags.clone()),
            ("SQS_NOTIFICATIONS_QUEUE", notifications.name.clone()),
            ("SQS_WORKFLOW_QUEUE", workflow_queue.name.clone()),
            ("SQS_RATE_LIMITER_QUEUE", rate_limiter_queue.name.clone()),
            ("SQS_RATE_LIMITER_DLQ", dead_queue.name.clone()),
            ("SQS_WORKFLOW_DLQ", dead_workflows.name.clone()),
            ("DYNAMODB_OF_MESSAGES_TABLE", shown.messages.clone()),
            ("DYNAMODB_OF_THREADS_TABLE", shown.threads.clone()),
            ("DYNAMODB_OF_AGGREGATES_TABLE", shown.aggregates.clone()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .into()
    }

    /// The emulator, for what else a test needs there.
    pub(crate) fn aws(&self) -> &Aws {
        &self.made.aws
    }

    /// The connection to the test's database.
    #[must_use]
    pub fn postgres(&self) -> &Client {
        &self.postgres
    }

    /// The rows of a query, each as PostgreSQL itself makes JSON of it; `numeric` is better cast to text in the query.
    ///
    /// # Errors
    /// If the query fails.
    pub async fn rows(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> anyhow::Result<Vec<Value>> {
        let sql = format!("SELECT to_jsonb(row) FROM ({sql}) AS row");
        let rows = self.postgres.query(&sql, parameters).await.with_context(|| sql.clone())?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// The only row of a query.
    ///
    /// # Errors
    /// If the query fails or has none or several.
    pub async fn row(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> anyhow::Result<Value> {
        match <[Value; 1]>::try_from(self.rows(sql, parameters).await?) {
            Ok([row]) => Ok(row),
            Err(rows) => bail!("{} rows instead of one: {sql}: {rows:?}", rows.len()),
        }
    }

    /// Changes rows; gives their number.
    ///
    /// # Errors
    /// If the statement fails.
    pub async fn execute(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> anyhow::Result<u64> {
        self.postgres.execute(sql, parameters).await.with_context(|| sql.to_owned())
    }

    /// Every item of the costs table, numbers as the text of their digits.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn cost_items(&self) -> anyhow::Result<Vec<Map<String, Value>>> {
        self.made.aws.scan(&self.made.table).await
    }

    /// Writes items into the costs table as they are, each attribute with its type.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn put_cost_items(&self, items: &[Map<String, Value>]) -> anyhow::Result<()> {
        self.made.aws.put(&self.made.table, items).await
    }

    /// Empties the costs table.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn forget_cost_items(&self) -> anyhow::Result<()> {
        self.made.aws.delete_table(&self.made.table).await?;
        self.made.aws.create_costs_table(&self.made.table).await
    }

    /// Every item of the alerts' table: alerts, and when their sources last fired.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn alert_items(&self) -> anyhow::Result<Vec<Map<String, Value>>> {
        self.made.aws.scan(&self.made.alerts).await
    }

    /// Takes everybody in by a flag, as its table has it; for who has no function to ask.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn take_everybody_in(&self, flag: &str) -> anyhow::Result<()> {
        let kept = json!({"name": flag, "enabled": true, "rolloutPercentage": 100}).to_string();
        let text = |text: &str| json!({"S": text});
        let at = text("2026-11-21T12:00:00.000Z");
        let item = json!({"kind": text("flag"), "name": text(flag), "version": {"N": "1"}, "flag": text(&kept), "steppedAt": at,
            "updatedAt": at});
        self.made.aws.put(&self.made.flags, &[item.as_object().cloned().unwrap_or_default()]).await
    }

    /// Sets since when a flag has had its share, in place of what its table says.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn set_stepped_at(&self, flag: &str, at: jiff::Timestamp) -> anyhow::Result<()> {
        let update = json!({"TableName": self.made.flags, "Key": {"kind": {"S": "flag"}, "name": {"S": flag}},
            "ConditionExpression": "attribute_exists(version)", "UpdateExpression": "SET steppedAt = :at",
            "ExpressionAttributeValues": {":at": {"S": format!("{at:.3}")}}});
        self.made.aws.call("dynamodb", "DynamoDB_20120810.UpdateItem", &update).await.map(drop)
    }

    /// Sets an attribute of an item of the alerts' table, in DynamoDB's own JSON; `null` removes it.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn set_alert_attribute(&self, id: &str, name: &str, value: &Value) -> anyhow::Result<()> {
        let mut update = json!({"TableName": self.made.alerts, "Key": {"id": {"S": id}},
            "ConditionExpression": "attribute_exists(id)", "ExpressionAttributeNames": {"#name": name}});
        if value.is_null() {
            update["UpdateExpression"] = json!("REMOVE #name");
        } else {
            update["UpdateExpression"] = json!("SET #name = :value");
            update["ExpressionAttributeValues"] = json!({":value": value});
        }
        self.made.aws.call("dynamodb", "DynamoDB_20120810.UpdateItem", &update).await.map(drop)
    }

    /// Every item of the thresholds' table.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn threshold_items(&self) -> anyhow::Result<Vec<Map<String, Value>>> {
        self.made.aws.scan(&self.made.thresholds).await
    }

    /// Every item of the sessions' table; bytes are base64.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn of_session_items(&self) -> anyhow::Result<Vec<Map<String, Value>>> {
        self.made.aws.scan(&self.made.of_sessions).await
    }

    /// Writes an item into the sessions' table as it is, each attribute with its type.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn put_of_session_item(&self, item: Map<String, Value>) -> anyhow::Result<()> {
        self.made.aws.put(&self.made.of_sessions, &[item]).await
    }

    /// Takes what is on the queue of notifications: the bodies of its messages.
    ///
    /// # Errors
    /// If SQS refuses, or a body is not JSON.
    pub async fn take_notifications(&self) -> anyhow::Result<Vec<Value>> {
        self.made.aws.take_messages(&self.made.notifications.url).await
    }

    /// Takes what is on the queue of hints: which accounts are to be looked at.
    ///
    /// # Errors
    /// If SQS refuses, or a body is not JSON.
    pub async fn take_hints(&self) -> anyhow::Result<Vec<Value>> {
        self.made.aws.take_messages(&self.made.rate_limiter_queue.url).await
    }

    /// Takes what is on the queue of workflows: which ones are to be taken up.
    ///
    /// # Errors
    /// If SQS refuses, or a body is not JSON.
    pub async fn take_workflow_hints(&self) -> anyhow::Result<Vec<Value>> {
        self.made.aws.take_messages(&self.made.workflow_queue.url).await
    }

    /// Takes what is on the dead-letter queue of workflows: the letters of those that were given up.
    ///
    /// # Errors
    /// If SQS refuses, or a body is not JSON.
    pub async fn take_workflow_letters(&self) -> anyhow::Result<Vec<Value>> {
        self.made.aws.take_messages(&self.made.dead_workflows.url).await
    }

    /// The queue of workflows, as what hands it to its consumer.
    #[must_use]
    pub fn workflow_source(&self) -> Source {
        let Queue { name, url } = &self.made.workflow_queue;
        Source::new(self.made.aws.clone(), name, url)
    }

    /// The queue of hints, as what hands it to the sender.
    #[must_use]
    pub fn message_source(&self) -> Source {
        let Queue { name, url } = &self.made.rate_limiter_queue;
        Source::new(self.made.aws.clone(), name, url)
    }

    /// Every item of the tables that show messages: messages, conversations, days.
    ///
    /// # Errors
    /// If DynamoDB refuses.
    pub async fn shown_items(&self) -> anyhow::Result<[Vec<Map<String, Value>>; 3]> {
        let (ShownTables { messages, threads, aggregates }, aws) = (&self.made.shown, &self.made.aws);
        let (messages, threads, days) = tokio::try_join!(aws.scan(messages), aws.scan(threads), aws.scan(aggregates))?;
        Ok([messages, threads, days])
    }

    /// The keys of what is in the bucket of reports, in order.
    ///
    /// # Errors
    /// If S3 refuses.
    pub async fn report_keys(&self) -> anyhow::Result<Vec<String>> {
        self.made.aws.object_keys(&self.made.reports).await
    }

    /// A report's content type, and its text.
    ///
    /// # Errors
    /// If there is none, or S3 refuses.
    pub async fn report(&self, key: &str) -> anyhow::Result<(String, String)> {
        self.made.aws.object(&self.made.reports, key).await
    }

    /// A connection to the test's Redis database.
    ///
    /// # Errors
    /// If Redis is not there.
    pub async fn redis(&self) -> anyhow::Result<MultiplexedConnection> {
        redis_connection(&self.redis_url).await
    }
}

impl Drop for Stores {
    fn drop(&mut self) {
        let made = self.made.clone();
        // On a thread of its own, because a runtime cannot be entered from within another. The tests do not depend on
        // it: names are never used twice, and `make test` throws the servers away.
        let _ = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            // With connections of its own: those of the test wait for the test's runtime, which waits for this thread.
            let made = Made { aws: made.aws.reconnected()?, ..made };
            runtime.block_on(async { timeout(CLEANUP_BOUND, made.drop_all()).await })?;
            anyhow::Ok(())
        })
        .join();
    }
}

impl Made {
    fn database_url(&self) -> Url {
        with_path(&self.admin_url, &self.database)
    }

    async fn drop_all(&self) {
        let database = async {
            let admin = connect(&self.admin_url).await?;
            admin.batch_execute(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.database)).await?;
            anyhow::Ok(())
        };
        let redis = async {
            let mut redis = redis_connection(&self.redis_url).await?;
            redis::cmd("DEL").arg(&self.redis_lease).exec_async(&mut redis).await?;
            anyhow::Ok(())
        };
        let _ = tokio::join!(
            database,
            redis,
            self.aws.delete_table(&self.table),
            self.aws.delete_table(&self.thresholds),
            self.aws.delete_table(&self.flags),
            self.aws.delete_table(&self.alerts),
            self.aws.delete_bucket(&self.reports),
            self.aws.delete_table(&self.of_sessions),
            self.aws.delete_queue(&self.notifications.url),
            self.aws.delete_queue(&self.workflow_queue.url),
            self.aws.delete_queue(&self.rate_limiter_queue.url),
            self.aws.delete_queue(&self.dead_queue.url),
            self.aws.delete_queue(&self.dead_workflows.url),
            self.shown.drop_all(&self.aws),
        );
    }
}

#[expect(clippy::disallowed_methods, reason = "the one place where the harness reads its environment")]
fn required(name: &str) -> anyhow::Result<String> {
    std::env::var(name)
        .with_context(|| format!("{name} is not set: `make test` starts the stores and says where they are"))
}

fn with_path(url: &Url, path: &str) -> Url {
    let mut url = url.clone();
    url.set_path(path);
    url
}

#[expect(clippy::disallowed_methods, reason = "the connection's task ends with the client, in the test's own runtime")]
async fn connect(url: &Url) -> anyhow::Result<Client> {
    let (client, connection) = tokio_postgres::connect(url.as_str(), NoTls).await.context("PostgreSQL")?;
    // A connection that breaks shows in the client's next query.
    tokio::spawn(async { connection.await.ok() });
    Ok(client)
}

/// Makes a database with all migrations applied, as a copy of the template.
async fn clone_database(admin_url: &Url, suffix: &str) -> anyhow::Result<String> {
    let migrations = refinery::load_sql_migrations(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../migrations"))?;
    let admin = connect(admin_url).await?;
    let template = migrated_template(admin_url, &admin, &migrations).await?;
    let database = format!("huntaze_test_{suffix}");
    admin.batch_execute(&format!("CREATE DATABASE {database} TEMPLATE {template}")).await?;
    Ok(database)
}

/// The name of the template for these migrations, which is made if there is none yet.
async fn migrated_template(admin_url: &Url, admin: &Client, migrations: &[Migration]) -> anyhow::Result<String> {
    let template = format!("huntaze_template_{:016x}", fingerprint(migrations));
    let exists = || async {
        let sql = "SELECT 1 FROM pg_database WHERE datname = $1";
        anyhow::Ok(admin.query_opt(sql, &[&template]).await?.is_some())
    };
    if exists().await? {
        return Ok(template);
    }
    // One of the tests that come here at once makes it, the others wait. The lock ends with the connection.
    admin.batch_execute("SELECT pg_advisory_lock(hashtext('huntaze_template'))").await?;
    if !exists().await? {
        // Under another name until it is whole: a test killed on the way leaves no half-migrated template.
        let unfinished = format!("{template}_unfinished");
        admin.batch_execute(&format!("DROP DATABASE IF EXISTS {unfinished} WITH (FORCE)")).await?;
        admin.batch_execute(&format!("CREATE DATABASE {unfinished}")).await?;
        let mut client = connect(&with_path(admin_url, &unfinished)).await?;
        // As the `migrate` function does it, which then finds nothing left to do.
        client.batch_execute("CREATE SCHEMA IF NOT EXISTS orchestrator").await?;
        Runner::new(migrations).set_migration_table_name(HISTORY).run_async(&mut client).await?;
        drop(client);
        admin.batch_execute(&format!("ALTER DATABASE {unfinished} RENAME TO {template}")).await?;
    }
    admin.batch_execute("SELECT pg_advisory_unlock(hashtext('huntaze_template'))").await?;
    Ok(template)
}

/// Changes with any change of the migrations.
fn fingerprint(migrations: &[Migration]) -> u64 {
    migrations.iter().fold(0, |all, migration| all.rotate_left(7) ^ migration.checksum())
}

async fn redis_connection(url: &Url) -> anyhow::Result<MultiplexedConnection> {
    // The library's own half a second is too short on a machine that is building something else.
    let patience = AsyncConnectionConfig::new().set_connection_timeout(Some(BOUND)).set_response_timeout(Some(BOUND));
    Ok(redis::Client::open(url.as_str())?.get_multiplexed_async_connection_with_config(&patience).await?)
}

/// Takes a Redis database for this test, and empties it.
async fn lease_redis(url: &Url) -> anyhow::Result<u32> {
    let mut leases = redis_connection(url).await?;
    let (_, databases): (String, u32) =
        redis::cmd("CONFIG").arg("GET").arg("databases").query_async(&mut leases).await?;
    let number = eventually(BOUND, async || {
        for number in 1..databases {
            let lease = format!("{REDIS_LEASES}{number}");
            let mut set = redis::cmd("SET");
            set.arg(lease).arg(std::process::id()).arg("NX").arg("EX").arg(REDIS_LEASE_SECONDS);
            if set.query_async::<Option<String>>(&mut leases).await?.is_some() {
                return Ok(number);
            }
        }
        bail!("all {databases} Redis databases are taken")
    })
    .await?;
    let mut own = redis_connection(&with_path(url, &number.to_string())).await?;
    redis::cmd("FLUSHDB").exec_async(&mut own).await?;
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_test_has_a_migrated_database_of_its_own() {
        let (one, other) = tokio::try_join!(Stores::new(), Stores::new()).unwrap();
        one.execute("INSERT INTO orchestrator.users (id) VALUES ('ana')", &[]).await.unwrap();
        let users = "SELECT id FROM orchestrator.users WHERE id = $1";
        assert_eq!(one.row(users, &[&"ana"]).await.unwrap(), json!({ "id": "ana" }));
        assert_eq!(other.rows(users, &[&"ana"]).await.unwrap(), Vec::<Value>::new());
        assert!(other.row(users, &[&"ana"]).await.unwrap_err().to_string().contains("0 rows"));
    }

    #[tokio::test]
    async fn each_test_has_a_table_queues_and_a_redis_database_of_its_own() {
        let (one, other) = tokio::try_join!(Stores::new(), Stores::new()).unwrap();
        let put = json!({ "TableName": one.made.table, "Item": { "id": { "S": "a" }, "timestamp": { "S": "t" } } });
        one.made.aws.call("dynamodb", "DynamoDB_20120810.PutItem", &put).await.unwrap();
        assert_eq!(
            one.cost_items().await.unwrap(),
            [json!({ "id": "a", "timestamp": "t" }).as_object().unwrap().clone()]
        );
        assert!(other.cost_items().await.unwrap().is_empty());
        assert_ne!(one.made.workflow_queue.url, other.made.workflow_queue.url);

        let (mut in_one, mut in_other) = (one.redis().await.unwrap(), other.redis().await.unwrap());
        redis::cmd("SET").arg("key").arg(1).exec_async(&mut in_one).await.unwrap();
        let found: Option<u32> = redis::cmd("GET").arg("key").query_async(&mut in_other).await.unwrap();
        assert_eq!(found, None);
    }

    #[tokio::test]
    async fn what_was_made_is_dropped() {
        let (stores, admin) = {
            let stores = Stores::new().await.unwrap();
            let admin = connect(&stores.made.admin_url).await.unwrap();
            (stores, admin)
        };
        let made = stores.made.clone();
        drop(stores);
        let sql = "SELECT 1 FROM pg_database WHERE datname = $1";
        assert!(admin.query_opt(sql, &[&made.database]).await.unwrap().is_none());
        assert!(made.aws.scan(&made.table).await.is_err());
        let mut redis = redis_connection(&made.redis_url).await.unwrap();
        let lease: Option<u32> = redis::cmd("GET").arg(&made.redis_lease).query_async(&mut redis).await.unwrap();
        assert_eq!(lease, None);
    }
}
