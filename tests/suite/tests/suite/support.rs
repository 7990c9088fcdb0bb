//! What the tests say often.

use anyhow::{Context as _, Result, ensure};
use huntaze_costs::price::Catalogue;
use huntaze_domain::env::Env;
use huntaze_domain::money::Usd;
use huntaze_domain::provider::{Provider, TokenUsage};
use huntaze_lambda::clients::{self, Aws};
use huntaze_messaging::session::{Session as Signed, SessionParts, Sessions};
use huntaze_tests::{App, Link, Request, Session, now};
use huntaze_world::World;
use serde_json::{Value, json};

pub(crate) const HYBRID: &str = "/api/v2/campaigns/hybrid";
pub(crate) const STATUS: &str = "/api/v2/campaigns/status";
pub(crate) const ALERTS: &str = "/api/v2/costs/alerts";
pub(crate) const BUDGETS: &str = "/api/v2/costs/budgets";
pub(crate) const CORRECTIONS: &str = "/api/admin/ledger/corrections";
pub(crate) const THRESHOLDS: &str = "/api/v2/costs/thresholds";
pub(crate) const BREAKDOWN: &str = "/api/v2/costs/breakdown";
pub(crate) const STATS: &str = "/api/v2/costs/stats";
pub(crate) const MESSAGES: &str = "/api/v2/onlyfans/messages";
pub(crate) const ACCOUNTS: &str = "/api/v2/onlyfans/accounts";
pub(crate) const MESSAGE_STATS: &str = "/api/v2/onlyfans/stats";
pub(crate) const DEAD_LETTERS: &str = "/api/admin/dead-letters";
pub(crate) const CIRCUITS: &str = "/api/admin/circuits";
pub(crate) const OLD: &str = "/api/campaigns/hybrid";
pub(crate) const FLAGS: &str = "/api/admin/feature-flags";
pub(crate) const EXPERIMENTS: &str = "/api/admin/experiments";
pub(crate) const HEALTH: &str = "/api/health/hybrid-orchestrator";

/// A brief whose theme names the test, so that its calls can be told from others.
pub(crate) fn brief(kind: &str, platforms: &[&str]) -> Value {
    json!({"type": kind, "platforms": platforms, "data": {"theme": "summer nights", "tone": "warm"}})
}

/// As a user.
pub(crate) fn user(request: Request, id: &str) -> Request {
    request.bearer(&Session::user(id).v4())
}

/// As an administrator.
pub(crate) fn admin(request: Request) -> Request {
    request.bearer(&Session::admin("root").v4())
}

/// Time passes: every reservation that is held has run out.
pub(crate) async fn run_out(app: &App) -> Result<()> {
    let expired =
        "UPDATE orchestrator.reservations SET expires_at = now() - interval '1 second' WHERE settled_at IS NULL";
    ensure!(app.stores.execute(expired, &[]).await? > 0, "nothing is held");
    Ok(())
}

/// A creator's session with the world's OnlyFans.
pub(crate) fn signed(world: &World, account: &str) -> Signed {
    let session = world.onlyfans_session(account);
    let parts = SessionParts {
        platform_user_id: session.user_id,
        user_agent: None,
        cookie: session.cookie,
        headers: [("x-bc".to_owned(), "0123456789abcdef".to_owned())].into(),
    };
    Signed::from_parts(parts).unwrap()
}

/// The sessions that the functions of a test read.
pub(crate) fn sessions(app: &App) -> Sessions {
    let env = Env::from_pairs(app.env().clone());
    let aws = Aws::new(&env, &clients::tls(&env).unwrap());
    env.finish(Sessions::from_env(&env, aws.dynamodb())).unwrap()
}

/// A campaign request of a user.
pub(crate) fn campaign(user: &str, body: &Value) -> Request {
    Request::post(HYBRID).bearer(&Session::user(user).v4()).json(body)
}

/// A campaign request of a user, as old clients speak it.
pub(crate) fn old_campaign(user: &str, body: &Value) -> Request {
    let mut body = body.clone();
    body.as_object_mut().unwrap().entry("userId").or_insert_with(|| json!(user));
    Request::post(OLD).bearer(&Session::user(user).v4()).json(&body)
}

/// A way to what a URL names that may go bad, and the URL of it by that way.
pub(crate) async fn link_to(url: &str) -> Result<(Link, String)> {
    let mut url = reqwest::Url::parse(url)?;
    let host = url.host_str().context("no host")?.to_owned();
    let mut found = tokio::net::lookup_host((host, url.port().context("no port")?)).await?;
    let link = Link::to(found.find(std::net::SocketAddr::is_ipv4).context("no address")?)?;
    ensure!(url.set_port(Some(link.addr().port())).is_ok() && url.set_host(Some("127.0.0.1")).is_ok(), "{url}");
    Ok((link, url.as_str().trim_end_matches('/').to_owned()))
}

/// An app whose users are taken in by the flag, beside the old system.
pub(crate) async fn rolling_out() -> Result<App> {
    let app = App::start().await?.set("HYBRID_ORCHESTRATOR_ENABLED", "true");
    let legacy = app.world.legacy_url();
    Ok(app.set("LEGACY_API_URL", legacy))
}

/// Makes the flag of the hybrid orchestrator, or writes it anew.
pub(crate) async fn set_flag(app: &App, fields: &Value) -> Result<Value> {
    let mut flag = json!({"name": "hybrid-orchestrator", "enabled": true, "rolloutPercentage": 100});
    flag.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let function = app.function("feature-flags")?;
    let made = function.http(admin(Request::post(FLAGS)).json(&flag)).await?;
    let made = match made.status {
        428 => function.http(admin(Request::post(FLAGS)).header("if-match", "*").json(&flag)).await?,
        _ => made,
    };
    ensure!([200, 201].contains(&made.status), "{}", made.body);
    Ok(made.body["data"].clone())
}

/// A status request of a user.
pub(crate) fn status_of(user: &str, workflow: &str) -> Request {
    Request::get(STATUS).bearer(&Session::user(user).v4()).query("workflowId", workflow)
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// An exact amount, whether it is a JSON number or text.
pub(crate) fn usd(value: &Value) -> Usd {
    match value {
        Value::Number(number) => Usd::from_json_number(number.as_f64().unwrap()).unwrap(),
        // DynamoDB may write a small number with an exponent.
        Value::String(text) if text.contains('E') => Usd::from_json_number(text.parse().unwrap()).unwrap(),
        Value::String(text) => Usd::parse(text).unwrap(),
        other => panic!("no amount: {other}"),
    }
}

/// What a call's tokens cost by the catalogue.
pub(crate) fn priced(call: &Value) -> Usd {
    let tokens = |name: &str| call[name].as_u64().unwrap();
    let usage = TokenUsage {
        input_tokens: tokens("inputTokens"),
        cached_input_tokens: tokens("cachedInputTokens"),
        output_tokens: tokens("outputTokens"),
    };
    let provider = Provider::from_name(text(&call["provider"])).unwrap();
    Catalogue::built_in().unwrap().price(provider, text(&call["model"]), now()).unwrap().cost(usage)
}

/// The ledger's entries and its roll-ups, apart.
pub(crate) fn entries_and_rollups(items: Vec<serde_json::Map<String, Value>>) -> (Vec<Value>, Vec<Value>) {
    items.into_iter().map(Value::Object).partition(|item| !text(&item["id"]).starts_with("rollup#"))
}

/// The roll-ups of one length (`hour`, `day`, `month`): a user's, or everyone's.
pub(crate) fn rollups_of<'a>(rollups: &'a [Value], user: Option<&str>, grain: &str) -> Vec<&'a Value> {
    let wanted = |item: &&Value| {
        let id = text(&item["id"]);
        match (user, grain) {
            (Some(user), "month") => id.starts_with("rollup#users#") && item["timestamp"] == user,
            (Some(user), grain) => id.starts_with(&format!("rollup#user#{user}#{grain}#")),
            (None, "month") => id.starts_with("rollup#global#") && id.ends_with("#month"),
            (None, grain) => id.starts_with("rollup#global#") && id.contains(&format!("#{grain}#")),
        }
    };
    rollups.iter().filter(wanted).collect()
}

/// The sum of one of their attributes; what is zero is not written.
pub(crate) fn summed(rollups: &[&Value], attribute: &str) -> Usd {
    rollups.iter().filter_map(|item| item.get(attribute)).map(usd).sum()
}

/// The JSON pointers or parameters that an answer finds fault with.
pub(crate) fn faults(body: &Value) -> Vec<&str> {
    body["errors"].as_array().into_iter().flatten().map(|fault| text(&fault["pointer"])).collect()
}

/// An address that was bound and given back: nobody listens there.
pub(crate) fn closed_port() -> Result<String> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// Accounts, each with its owner; nothing else is set of them.
pub(crate) async fn accounts(app: &App, owners: &[(&str, &str)]) -> Result<()> {
    for (account, owner) in owners {
        let user = "INSERT INTO orchestrator.users (id) VALUES ($1) ON CONFLICT DO NOTHING";
        app.stores.execute(user, &[owner]).await?;
        let sql = "INSERT INTO orchestrator.accounts (id, user_id) VALUES ($1, $2)";
        app.stores.execute(sql, &[account, owner]).await?;
    }
    Ok(())
}

/// A message to a fan, as a body.
pub(crate) fn note(account: &str, fan: &str, content: &str) -> Value {
    json!({"accountId": account, "recipientId": fan, "content": content, "messageType": "follow_up"})
}
