//! The flags and their history, in DynamoDB: key `kind` (hash) and `name` (range).
//!
//! | item | `kind` | `name` |
//! |---|---|---|
//! | a flag | `flag` | its name |
//! | one change of it | `history#<name>` | the version that it made, ten digits |
//!
//! A flag and its change are written in one transaction, on the condition that the flag is still of the version that was read: of two
//! changes side by side one is refused, and there is none without its line of history. The item of a flag that was deleted stays, without
//! the flag, for its version and its experiments: one of the same name goes on counting, nobody's old version fits it, and no experiment is
//! measured together with another of its name.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::config::retry::RetryConfig;
use aws_sdk_dynamodb::config::timeout::TimeoutConfig;
use aws_sdk_dynamodb::error::BuildError;
use aws_sdk_dynamodb::types::{Put, TransactWriteItem};
use huntaze_domain::env::Env;
use huntaze_dynamodb::{Item, Members, TableError, condition_failed, moment, number, reasons, text, transact};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::bucket::Percentage;
use crate::flag::{Flag, FlagName};
use crate::guard::Baseline;

/// The largest flag as JSON: an answer has room for all of them.
const MOST_BYTES: usize = 48 * 1024;
/// One try of reading a flag.
const ATTEMPT: Duration = Duration::from_millis(300);
/// Before the next one, at most: the SDK's own is a second.
const BETWEEN: Duration = Duration::from_millis(25);
/// The hash key of the flags.
const FLAGS: &str = "flag";
/// Flags are made by hand, and read all at once.
pub const MAX_FLAGS: usize = 100;
/// A page has 1 MB, and no flag more than a third of it.
const MAX_PAGES: usize = MAX_FLAGS;

/// Why it was taken back, until a person has decided how to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Latch {
    /// When.
    pub at: Timestamp,
    /// The share that it was taken back from.
    pub from: Percentage,
    /// What was seen.
    pub reason: String,
}

/// A flag as it is kept.
#[derive(Debug, Clone, PartialEq)]
pub struct Kept {
    /// It.
    pub flag: Flag,
    /// How often it was changed: each change counts one up.
    pub version: u64,
    /// When it last took in others than before, or began to.
    pub stepped_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// It was taken back.
    pub latch: Option<Latch>,
    /// What only those who are in tell, before its last step; absent until the guard has looked.
    pub baseline: Option<Baseline>,
    /// The experiments that it ever had, each with its variants.
    pub experiments: BTreeMap<String, Value>,
}

impl Kept {
    /// As the contract shows it, with what is added.
    #[must_use]
    pub fn to_json(&self) -> Map<String, Value> {
        let mut shown = self.flag.to_json();
        let added = [
            ("version", Some(json!(self.version))),
            ("steppedAt", Some(json!(self.stepped_at))),
            ("updatedAt", Some(json!(self.updated_at))),
            ("rolledBack", self.latch.as_ref().map(Latch::to_json)),
        ];
        shown.extend(added.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))));
        shown
    }
}

impl Latch {
    fn to_json(&self) -> Value {
        json!({"at": self.at, "from": self.from.get(), "reason": self.reason})
    }

    fn read(value: &Value) -> Option<Self> {
        Some(Self {
            at: value["at"].as_str()?.parse().ok()?,
            from: Percentage::new(value["from"].as_u64()?)?,
            reason: value["reason"].as_str()?.to_owned(),
        })
    }
}

/// A flag as it is to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    /// It.
    pub flag: Flag,
    /// It is taken back, or stays so.
    pub latch: Option<Latch>,
}

/// What a name stands for: a flag, or the version that its last one had.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// 0 where there never was one.
    pub version: u64,
    /// The flag; `None` where there is none, or no more.
    pub kept: Option<Kept>,
    /// The experiments of one that was deleted.
    pub ended: BTreeMap<String, Value>,
}

impl Row {
    /// All experiments that it ever had.
    fn experiments(&self) -> &BTreeMap<String, Value> {
        self.kept.as_ref().map_or(&self.ended, |kept| &kept.experiments)
    }
}

macro_rules! actions {
    ($($(#[$doc:meta])* $name:ident = $text:literal,)*) => {
        /// What was done to a flag.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Action { $($(#[$doc])* $name,)* }

        impl Action {
            /// The name on the wire and in the store.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            fn from_name(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$name),)* _ => None }
            }
        }
    };
}

actions! {
    /// It was made.
    Created = "created",
    /// All of it was given anew.
    Replaced = "replaced",
    /// Some of it was changed.
    Changed = "changed",
    /// It was deleted.
    Deleted = "deleted",
    /// Its plan took the next step.
    Advanced = "advanced",
    /// The guard took it back.
    RolledBack = "rolled_back",
}

/// Who changed what, when and why.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// When.
    pub at: Timestamp,
    /// A user, or `canary-guard`.
    pub by: String,
    /// What was done.
    pub action: Action,
    /// Why, in their words.
    pub reason: Option<String>,
}

/// One line of a flag's history.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// The version that it made.
    pub version: u64,
    /// The change.
    pub change: Change,
    /// The flag behind it; `None` where it was deleted.
    pub after: Option<Value>,
}

/// Why a flag was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// Somebody else changed it since it was read.
    #[error("the flag was changed meanwhile")]
    Stale,
    /// It would not fit into an item, or could not be read again.
    #[error("the flag must be at most {MOST_BYTES} bytes of JSON")]
    TooLarge,
    /// An experiment of this name had other variants: both would be measured as one.
    #[error("an experiment of this name had other variants; another needs another name")]
    Experiment,
    /// The table.
    #[error(transparent)]
    Table(#[from] TableError),
}

/// The table of flags.
#[derive(Debug, Clone)]
pub struct Flags {
    client: Client,
    table: String,
}

impl Flags {
    /// Reads `DYNAMODB_FEATURE_FLAGS_TABLE`; nothing is called.
    #[must_use]
    pub fn from_env(env: &Env, client: Client) -> Self {
        Self { client, table: env.or("DYNAMODB_FEATURE_FLAGS_TABLE", "huntaze-feature-flags-production") }
    }

    /// What a name stands for.
    ///
    /// # Errors
    /// [`TableError`], also where the flag cannot be read as one.
    pub async fn get(&self, name: &FlagName) -> Result<Row, TableError> {
        let get = self.client.get_item().table_name(&self.table).consistent_read(true);
        let get = get.key("kind", text(FLAGS)).key("name", text(name.as_str()));
        // Somebody waits, and a kept connection may have died while the environment was frozen: it is soon asked again.
        let times = TimeoutConfig::builder().operation_attempt_timeout(ATTEMPT).build();
        let retries = RetryConfig::standard().with_initial_backoff(BETWEEN);
        let config = aws_sdk_dynamodb::config::Builder::new().timeout_config(times).retry_config(retries);
        let answer = get.customize().config_override(config).send().await;
        let item = answer.map_err(TableError::of)?.item;
        item.map_or(Ok(Row::default()), |item| read(&item).ok_or_else(|| TableError::because("a flag cannot be read")))
    }

    /// Every flag, in the order of their names. One that cannot be read is left out, for it must not hide the others.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn all(&self) -> Result<Vec<Kept>, TableError> {
        let (mut found, mut after) = (Vec::new(), None);
        for _ in 0..MAX_PAGES {
            let query = self.client.query().table_name(&self.table).consistent_read(true);
            let query = query.key_condition_expression("kind = :kind").set_exclusive_start_key(after);
            let page = query.expression_attribute_values(":kind", text(FLAGS)).send().await.map_err(TableError::of)?;
            for item in page.items() {
                match read(item) {
                    Some(row) => found.extend(row.kept),
                    None => tracing::error!("a flag cannot be read"),
                }
            }
            after = page.last_evaluated_key;
            if after.is_none() {
                return Ok(found);
            }
        }
        Err(TableError::because("there are more flags than are read at once"))
    }

    /// Writes a flag over what was read of it, or deletes it where nothing is to be; gives it as it is kept then.
    ///
    /// # Errors
    /// [`WriteError`]
    pub async fn write(
        &self,
        name: &FlagName,
        before: &Row,
        after: Option<Written>,
        change: &Change,
    ) -> Result<Row, WriteError> {
        let version = before.version + 1;
        let size = |flag: &Flag| Value::Object(flag.to_json()).to_string().len();
        if after.as_ref().is_some_and(|after| size(&after.flag) > MOST_BYTES) {
            return Err(WriteError::TooLarge);
        }
        let experiments = experiments(before, after.as_ref().map(|after| &after.flag))?;
        let ended = if after.is_none() { experiments.clone() } else { BTreeMap::new() };
        let kept = after.map(|Written { flag, latch }| {
            let stays = before.kept.as_ref().filter(|was| !is_step(&was.flag, &flag));
            let (stepped_at, baseline) = stays.map_or((change.at, None), |was| (was.stepped_at, was.baseline));
            Kept { flag, version, stepped_at, updated_at: change.at, latch, baseline, experiments }
        });
        let row = Row { version, kept, ended };
        let items = self.transaction(name, before.version, &row, change).map_err(TableError::of)?;
        match transact(&self.client, items).await {
            Ok(()) => Ok(row),
            Err(error) if reasons(&error).contains(&"ConditionalCheckFailed") => Err(WriteError::Stale),
            Err(error) => Err(TableError::of(error).into()),
        }
    }

    fn transaction(
        &self,
        name: &FlagName,
        before: u64,
        row: &Row,
        change: &Change,
    ) -> Result<Vec<TransactWriteItem>, BuildError> {
        let put = |item| Put::builder().table_name(&self.table).set_item(Some(item));
        let flag = put(item(name, row));
        let flag = match before {
            0 => flag.condition_expression("attribute_not_exists(version)"),
            before => {
                flag.condition_expression("version = :before").expression_attribute_values(":before", number(before))
            }
        };
        let line = put(line(name, row, change)).condition_expression("attribute_not_exists(kind)");
        let write = |put| TransactWriteItem::builder().put(put).build();
        Ok(vec![write(flag.build()?), write(line.build()?)])
    }

    /// Keeps what was before a flag's last step, if that still is its last.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn keep_baseline(&self, kept: &Kept, baseline: Baseline) -> Result<(), TableError> {
        let update = self.client.update_item().table_name(&self.table);
        let update = update.key("kind", text(FLAGS)).key("name", text(kept.flag.name.as_str()));
        let update = update.condition_expression("steppedAt = :at").update_expression("SET baseline = :baseline");
        let update = update.expression_attribute_values(":at", text(moment(kept.stepped_at)));
        let update = update.expression_attribute_values(":baseline", text(baseline_json(baseline).to_string()));
        match update.send().await {
            Err(error) if !condition_failed(&error) => Err(TableError::of(error)),
            _ => Ok(()),
        }
    }

    /// The changes of a flag before a version, the newest first, at most so many.
    ///
    /// # Errors
    /// [`TableError`]
    pub async fn history(&self, name: &FlagName, before: Option<u64>, most: usize) -> Result<Vec<Event>, TableError> {
        let (mut found, mut after) = (Vec::new(), None);
        while found.len() < most {
            let query = self.client.query().table_name(&self.table).scan_index_forward(false).consistent_read(true);
            let query =
                query.limit(i32::try_from(most - found.len()).unwrap_or(i32::MAX)).set_exclusive_start_key(after);
            let query = query.expression_attribute_values(":kind", text(history(name)));
            let query = match before {
                None => query.key_condition_expression("kind = :kind"),
                Some(before) => query
                    .key_condition_expression("kind = :kind AND #name < :before")
                    .expression_attribute_names("#name", "name")
                    .expression_attribute_values(":before", text(padded(before))),
            };
            let page = query.send().await.map_err(TableError::of)?;
            for item in page.items() {
                found.push(event(item).ok_or_else(|| TableError::because("a line of history cannot be read"))?);
            }
            after = page.last_evaluated_key;
            if after.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

/// All experiments of a flag, the one that it has now among them.
fn experiments(before: &Row, after: Option<&Flag>) -> Result<BTreeMap<String, Value>, WriteError> {
    let mut all = before.experiments().clone();
    if let Some(experiment) = after.and_then(|flag| flag.experiment.as_ref()) {
        let variants = experiment.to_json()["variants"].take();
        let known = all.entry(experiment.name.as_str().to_owned()).or_insert_with(|| variants.clone());
        if *known != variants {
            return Err(WriteError::Experiment);
        }
    }
    let size = serde_json::to_string(&all).map_or(0, |text| text.len());
    if size > MOST_BYTES { Err(WriteError::TooLarge) } else { Ok(all) }
}

/// Whether others are taken in by it than before. What is seen before and behind a step is not held to be the same.
fn is_step(before: &Flag, after: &Flag) -> bool {
    (before.enabled, before.percentage, &before.conditions) != (after.enabled, after.percentage, &after.conditions)
}

fn history(name: &FlagName) -> String {
    format!("history#{}", name.as_str())
}

fn padded(version: u64) -> String {
    format!("{version:010}")
}

fn item(name: &FlagName, row: &Row) -> Item {
    let kept = row.kept.as_ref();
    let optional = [
        ("flag", kept.map(|kept| text(Value::Object(kept.flag.to_json()).to_string()))),
        ("steppedAt", kept.map(|kept| text(moment(kept.stepped_at)))),
        ("updatedAt", kept.map(|kept| text(moment(kept.updated_at)))),
        ("baseline", kept.and_then(|kept| kept.baseline).map(|baseline| text(baseline_json(baseline).to_string()))),
        ("experiments", Some(row.experiments()).filter(|all| !all.is_empty()).map(|all| text(json!(all).to_string()))),
        ("latch", kept.and_then(|kept| kept.latch.as_ref()).map(|latch| text(latch.to_json().to_string()))),
    ];
    let always = [("kind", text(FLAGS)), ("name", text(name.as_str())), ("version", number(row.version))];
    let there = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
    always.into_iter().chain(there).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn read(item: &Item) -> Option<Row> {
    let members = Members(item);
    let version = item.get("version")?.as_n().ok()?.parse().ok()?;
    let part = |name: &str| members.text(name).map(serde_json::from_str::<Value>).transpose().ok();
    let experiments = part("experiments")?.map(serde_json::from_value).transpose().ok()?.unwrap_or_default();
    let Some(flag) = members.text("flag") else { return Some(Row { version, kept: None, ended: experiments }) };
    let latch = match part("latch")? {
        Some(latch) => Some(Latch::read(&latch)?),
        None => None,
    };
    let kept = Kept {
        flag: Flag::parse(flag.as_bytes()).ok()?,
        version,
        stepped_at: members.time("steppedAt")?,
        updated_at: members.time("updatedAt")?,
        latch,
        // One that cannot be read is made anew.
        baseline: part("baseline")?.as_ref().and_then(read_baseline),
        experiments,
    };
    Some(Row { version, kept: Some(kept), ..Row::default() })
}

fn baseline_json(baseline: Baseline) -> Value {
    let Baseline { requests, blocked, costed, costly, bin } = baseline;
    json!({"requests": requests, "blocked": blocked, "costed": costed, "costly": costly, "bin": bin})
}

fn read_baseline(value: &Value) -> Option<Baseline> {
    let number = |name: &str| value[name].as_u64();
    Some(Baseline {
        requests: number("requests")?,
        blocked: number("blocked")?,
        costed: number("costed")?,
        costly: number("costly")?,
        bin: number("bin").and_then(|bin| bin.try_into().ok()),
    })
}

fn line(name: &FlagName, row: &Row, change: &Change) -> Item {
    let after = row.kept.as_ref().map(|kept| text(Value::Object(kept.to_json()).to_string()));
    let optional = [("after", after), ("reason", change.reason.as_ref().map(text))];
    let always = [
        ("kind", text(history(name))),
        ("name", text(padded(row.version))),
        ("at", text(moment(change.at))),
        ("by", text(&change.by)),
        ("action", text(change.action.as_str())),
    ];
    let there = optional.into_iter().filter_map(|(name, value)| Some((name, value?)));
    always.into_iter().chain(there).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn event(item: &Item) -> Option<Event> {
    let members = Members(item);
    let after = match members.text("after") {
        Some(after) => Some(serde_json::from_str(after).ok()?),
        None => None,
    };
    let change = Change {
        at: members.time("at")?,
        by: members.text("by")?.to_owned(),
        action: Action::from_name(members.text("action")?)?,
        reason: members.text("reason").map(str::to_owned),
    };
    Some(Event { version: members.text("name")?.parse().ok()?, change, after })
}
