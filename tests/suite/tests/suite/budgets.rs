//! Budgets: nothing is spent beyond them, nothing is refused that fits, and who may set them.

use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::{join_all, try_join_all};
use huntaze_domain::money::Usd;
use huntaze_tests::{App, Function, Request, Response, eventually};
use huntaze_world::{Fault, Provider};
use serde_json::{Value, json};

use crate::support::{
    ALERTS, BUDGETS, STATUS, admin, brief, campaign, entries_and_rollups, faults, rollups_of, run_out, status_of,
    summed, text, usd, user,
};

const BOUND: Duration = Duration::from_secs(60);

fn plan() -> Value {
    brief("content_planning", &["onlyfans"])
}

/// Has an administrator set a budget, and gives what is shown of it.
async fn set(budgets: &Function, budget: Value) -> Result<Value> {
    let mut answer = budgets.http(admin(Request::put(BUDGETS)).json(&budget)).await?;
    ensure!(answer.status == 200, "{}", answer.body);
    Ok(answer.body["data"].take())
}

fn of_ana(limit: Value) -> Value {
    json!({"scope": "user", "userId": "ana", "period": "day", "limit": limit})
}

/// What a plan costs at each provider at the most, in the order in which they are tried.
async fn bounds(app: &App, hybrid: &Function) -> Result<[Usd; 2]> {
    let mut bounds = [Usd::ZERO; 2];
    for (bound, provider) in bounds.iter_mut().zip(["azure", "openai"]) {
        let mut body = plan();
        (body["forceProvider"], body["maxCost"]) = (json!(provider), json!(0.000_001));
        let refused = hybrid.http(campaign("nobody", &body)).await?;
        ensure!(refused.status == 402, "{}", refused.body);
        *bound = usd(&refused.body["limit"]["needed"]);
    }
    ensure!(bounds[1] < bounds[0] && app.world.calls().is_empty(), "{bounds:?}");
    Ok(bounds)
}

#[tokio::test]
async fn a_budget_refuses_names_itself_keeps_nothing_and_tells_once() -> Result<()> {
    let app = App::start().await?;
    let (hybrid, budgets) = (app.function("campaigns-hybrid")?, app.function("costs-budgets")?);
    let budget = set(&budgets, of_ana(json!(0.000_1))).await?;
    for (name, value) in [
        ("scope", json!("user")),
        ("userId", json!("ana")),
        ("period", json!("day")),
        ("provider", json!("all")),
        ("limit", json!(0.000_1)),
        ("spent", json!(0.0)),
        ("reserved", json!(0.0)),
        ("available", json!(0.000_1)),
    ] {
        assert_eq!(budget[name], value, "{name}");
    }
    let request = campaign("ana", &plan()).idempotency_key("k1");
    for _ in 0..2 {
        let refused = hybrid.http(request.clone()).await?;
        assert_eq!((refused.status, &refused.body["code"]), (402, &json!("cost_limit_exceeded")), "{}", refused.body);
        let limit = &refused.body["limit"];
        assert_eq!((&limit["name"], &limit["value"]), (&json!("user_day_budget"), &json!(0.000_1)), "{limit}");
        assert_eq!((&limit["spent"], &limit["reserved"]), (&json!(0.0), &json!(0.0)), "{limit}");
        assert_eq!(limit["resetsAt"], budget["resetsAt"]);
        // The cheaper model was tried, and is what the budget has no room for.
        assert_eq!(usd(&limit["needed"]), bounds(&app, &hybrid).await?[1]);
    }
    // Tombstones, of two tries each.
    let kept = "SELECT count(*) AS workflows, count(*) FILTER (WHERE status = 'withdrawn' AND idempotency_key IS NULL) AS tombstones,
                       (SELECT count(*) FROM orchestrator.attempts) AS attempts FROM orchestrator.workflows";
    assert_eq!(app.stores.row(kept, &[]).await?, json!({"workflows": 4, "tombstones": 4, "attempts": 0}));
    let list = app.function("campaigns-status")?.http(user(Request::get(STATUS), "ana")).await?.body["data"].take();
    assert_eq!(list["workflows"], json!([]));
    assert!(app.world.calls().is_empty());
    let alerts = app.function("costs-alerts")?.http(user(Request::get(ALERTS), "ana")).await?.body["data"].take();
    let alerts = alerts["alerts"].as_array().unwrap();
    let [alert] = &alerts[..] else { panic!("{alerts:?}") };
    assert_eq!((&alert["type"], &alert["severity"]), (&json!("budget_exceeded"), &json!("critical")));

    // Others are not limited; and without the limit the same key is free.
    assert_eq!(hybrid.http(campaign("bob", &plan())).await?.status, 200);
    assert_eq!(set(&budgets, of_ana(Value::Null)).await?["limit"], Value::Null);
    assert_eq!(hybrid.http(request).await?.status, 200);
    let trail = app.stores.rows("SELECT actor, action FROM orchestrator.audit_log ORDER BY id", &[]).await?;
    assert_eq!(
        trail,
        [json!({"actor": "root", "action": "budget.set"}), json!({"actor": "root", "action": "budget.set"})]
    );
    Ok(())
}

#[tokio::test]
async fn a_cheaper_model_is_asked_where_a_budget_has_no_room_for_the_first() -> Result<()> {
    let app = App::start().await?;
    let (hybrid, budgets) = (app.function("campaigns-hybrid")?, app.function("costs-budgets")?);
    let [_, cheaper] = bounds(&app, &hybrid).await?;
    set(&budgets, of_ana(json!(cheaper.to_json_number()))).await?;
    let answer = hybrid.http(campaign("ana", &plan())).await?;
    assert_eq!((answer.status, &answer.body["data"]["provider"]), (200, &json!("openai")), "{}", answer.body);
    let workflow = text(&answer.body["data"]["workflowId"]);
    let view = app.function("campaigns-status")?.http(status_of("ana", workflow)).await?.body["data"].take();
    let decisions = view["decisions"].as_array().unwrap();
    assert!(decisions.iter().any(|one| one["reason"] == "over_budget"), "{decisions:?}");
    assert!(app.world.calls_to(Provider::Azure).is_empty());

    // And where the budget is one provider's own, the other has room.
    set(&budgets, of_ana(Value::Null)).await?;
    set(&budgets, json!({"scope": "global", "period": "month", "provider": "azure", "limit": 0})).await?;
    let answer = hybrid.http(campaign("bob", &plan())).await?;
    assert_eq!((answer.status, &answer.body["data"]["provider"]), (200, &json!("openai")), "{}", answer.body);
    let mut forced = plan();
    forced["forceProvider"] = json!("azure");
    let refused = hybrid.http(campaign("bob", &forced)).await?;
    let limit = &refused.body["limit"];
    assert_eq!(
        (refused.status, &limit["name"], &limit["provider"]),
        (402, &json!("global_month_budget"), &json!("azure"))
    );
    Ok(())
}

#[tokio::test]
async fn a_budget_that_ends_in_the_midst_of_a_campaign_stops_it_and_holds_nothing() -> Result<()> {
    let app = App::start().await?.set("LEDGER_SWEEP_GRACE_MS", "1");
    let (hybrid, budgets) = (app.function("campaigns-hybrid")?, app.function("costs-budgets")?);
    // Enough for the plan, and for nothing behind it.
    let body = brief("campaign_execution", &["onlyfans", "reddit"]);
    let whole = hybrid.http(campaign("bob", &body)).await?;
    assert_eq!(whole.status, 200, "{}", whole.body);
    let first =
        "SELECT a.bound_cost::text AS bound FROM orchestrator.attempts a WHERE step = 'plan' AND user_id = 'bob'";
    let bound = usd(&app.stores.row(first, &[]).await?["bound"]);
    set(&budgets, of_ana(json!(bound.to_json_number()))).await?;
    // A plan that is booked at its bound.
    app.world.fault(Fault::NoUsage.on(Provider::Azure));
    let asked = app.world.calls().len();
    let refused = hybrid.http(campaign("ana", &body)).await?;
    assert_eq!((refused.status, &refused.body["code"]), (402, &json!("cost_limit_exceeded")), "{}", refused.body);
    let limit = &refused.body["limit"];
    assert_eq!((&limit["name"], usd(&limit["spent"])), (&json!("user_day_budget"), bound));
    assert_eq!(app.world.calls().len(), asked + 1);

    let status = app.function("campaigns-status")?;
    let view = status.http(status_of("ana", text(&refused.body["workflowId"]))).await?.body["data"].take();
    assert_eq!((&view["status"], usd(&view["cost"]["total"])), (&json!("failed"), bound), "{view}");
    assert_eq!(view["metrics"]["requestsCount"], 1);
    let expected = json!({"spent": true, "reserved": true, "held": 0, "entries": 1});
    let held = "SELECT p.spent = b.max_cost AS spent, p.reserved = 0 AS reserved,
                       (SELECT count(*) FROM orchestrator.reservations WHERE settled_at IS NULL) AS held,
                       (SELECT count(*) FROM orchestrator.attempts
                         WHERE user_id = 'ana' AND failure IS DISTINCT FROM 'over_budget') AS entries
                  FROM orchestrator.budget_periods p JOIN orchestrator.budgets b ON b.id = p.budget_id";
    assert_eq!(app.stores.row(held, &[]).await?, expected);
    let (entries, _) = entries_and_rollups(app.stores.cost_items().await?);
    assert_eq!(entries.iter().filter(|entry| entry["userId"] == "ana").count(), 1);

    // A process that dies before it has ended what was refused: the sweep ends it, at nothing.
    let died = "WITH a AS (UPDATE orchestrator.attempts SET outcome = 'pending', failure = NULL, settled_at = NULL, projected_at = NULL, cost = NULL,
                                   input_tokens = NULL, cached_input_tokens = NULL, output_tokens = NULL
                            WHERE failure = 'over_budget' RETURNING id)
                UPDATE orchestrator.reservations r SET settled_at = NULL, expires_at = now() - interval '1 second'
                  FROM a WHERE r.attempt_id = a.id";
    assert!(app.stores.execute(died, &[]).await? > 0);
    let swept = app.function("ledger-sweeper")?.invoke(&json!({}), BOUND).await?;
    assert_eq!((&swept["settled"], &swept["written"], &swept["failed"]), (&json!(0), &json!(0), &json!(0)), "{swept}");
    assert_eq!(app.stores.row(held, &[]).await?, expected);
    Ok(())
}

#[tokio::test]
async fn a_budget_counts_what_its_period_has_seen_before_it_was_set() -> Result<()> {
    let app = App::start().await?;
    let (fleet, budgets) = (app.fleet("campaigns-hybrid", 2).await?, app.function("costs-budgets")?);
    let [hybrid, other] = fleet.functions() else { unreachable!() };
    let cost = |answer: &Response| usd(&answer.body["data"]["detailedCosts"]["totalCost"]);
    let before = cost(&hybrid.http(campaign("ana", &plan())).await?);
    app.world.fault(Fault::Gate.on(Provider::Azure));
    let under_way = other.start_http(campaign("ana", &plan()));
    app.world.wait_for_calls(2, BOUND).await?;

    let held = "SELECT bound_cost::text AS bound FROM orchestrator.attempts WHERE outcome = 'pending'";
    let bound = usd(&app.stores.row(held, &[]).await?["bound"]);
    let shown = set(&budgets, of_ana(json!(5))).await?;
    let exactly = |name: &str| usd(&shown[name]);
    assert_eq!((exactly("spent"), exactly("reserved")), (before, bound));
    assert_eq!(exactly("available"), Usd::parse("5")? - before - bound);
    // Lifted while the call is under way, and set anew: it is held once.
    set(&budgets, of_ana(Value::Null)).await?;
    assert_eq!(set(&budgets, of_ana(json!(6))).await?["reserved"], shown["reserved"]);
    app.world.release();
    let after = cost(&under_way.response().await?);
    let listed = budgets.http(user(Request::get(BUDGETS), "ana")).await?.body["data"]["budgets"][0].take();
    assert_eq!((usd(&listed["spent"]), usd(&listed["reserved"])), (before + after, Usd::ZERO));

    // Below what is spent: nothing is left, and nothing more is let through. Raised: it is.
    assert_eq!(set(&budgets, of_ana(json!(0))).await?["available"], json!(-(before + after).to_json_number()));
    assert_eq!(hybrid.http(campaign("ana", &plan())).await?.status, 402);
    set(&budgets, of_ana(json!(5))).await?;
    assert_eq!(hybrid.http(campaign("ana", &plan())).await?.status, 200);
    Ok(())
}

#[tokio::test]
async fn administrators_set_budgets_and_users_see_their_own() -> Result<()> {
    let app = App::start().await?;
    let budgets = app.function("costs-budgets")?;
    set(&budgets, of_ana(json!(5))).await?;
    set(&budgets, json!({"scope": "global", "period": "month", "provider": "openai", "limit": 500})).await?;
    let seen = async |request: Request| -> Result<Vec<String>> {
        let answer = budgets.http(request).await?;
        ensure!(answer.status == 200, "{}", answer.body);
        let list = answer.body["data"]["budgets"].as_array().unwrap().clone();
        Ok(list
            .iter()
            .map(|one| format!("{} {} {}", text(&one["scope"]), text(&one["period"]), one["limit"]))
            .collect())
    };
    assert_eq!(seen(user(Request::get(BUDGETS), "ana")).await?, ["user day 5.0"]);
    assert!(seen(user(Request::get(BUDGETS), "bob")).await?.is_empty());
    assert_eq!(seen(admin(Request::get(BUDGETS))).await?, ["global month 500.0"]);
    let both = ["global month 500.0", "user day 5.0"];
    assert_eq!(seen(admin(Request::get(BUDGETS)).query("userId", "ana")).await?, both);

    let other = budgets.http(user(Request::get(BUDGETS), "bob").query("userId", "ana")).await?;
    assert_eq!((other.status, &other.body["code"]), (403, &json!("forbidden")));
    let own = budgets.http(user(Request::put(BUDGETS), "ana").json(&of_ana(json!(50)))).await?;
    assert_eq!((own.status, &own.body["code"]), (403, &json!("forbidden")));
    assert_eq!(budgets.http(Request::get(BUDGETS)).await?.status, 401);
    for (body, pointers) in [
        (json!({"scope": "user", "period": "week", "limit": -1}), &["/userId", "/period", "/limit"][..]),
        (json!({"scope": "global", "period": "day"}), &["/limit"]),
        (json!({"scope": "global", "userId": "ana", "period": "day", "limit": 1}), &["/userId"]),
    ] {
        let refused = budgets.http(admin(Request::put(BUDGETS)).json(&body)).await?;
        assert_eq!((refused.status, faults(&refused.body)), (400, pointers.to_vec()), "{}", refused.body);
    }
    Ok(())
}

#[tokio::test]
async fn the_dearer_model_is_not_asked_in_the_cheapers_place() -> Result<()> {
    let app = App::start().await?;
    let (hybrid, budgets) = (app.function("campaigns-hybrid")?, app.function("costs-budgets")?);
    let mut message = brief("message_generation", &["onlyfans"]);
    message["maxCost"] = json!(0.000_001);
    let least = hybrid.http(campaign("ana", &message)).await?.body["limit"]["needed"].take();
    message["maxCost"] = Value::Null;
    set(&budgets, of_ana(json!(usd(&least).divided_by(NonZeroU64::MIN.saturating_add(1)).to_json_number()))).await?;
    let refused = hybrid.http(campaign("ana", &message)).await?;
    assert_eq!((refused.status, &refused.body["limit"]["needed"]), (402, &least), "{}", refused.body);
    // What it says is enough.
    set(&budgets, of_ana(least)).await?;
    let answer = hybrid.http(campaign("ana", &message)).await?;
    assert_eq!((answer.status, &answer.body["data"]["provider"]), (200, &json!("openai")), "{}", answer.body);
    Ok(())
}

#[tokio::test]
async fn where_there_is_room_for_some_of_a_campaigns_messages_none_is_bought() -> Result<()> {
    let app = App::start().await?.set("ROLE_SHORT_MESSAGE", "openai:gpt-4o-mini");
    let (hybrid, budgets) = (app.function("campaigns-hybrid")?, app.function("costs-budgets")?);
    let body = brief("campaign_execution", &["onlyfans", "reddit", "instagram"]);
    let whole = hybrid.http(campaign("bob", &body)).await?;
    assert_eq!(whole.status, 200, "{}", whole.body);
    let sums = "SELECT (SELECT bound_cost FROM orchestrator.attempts WHERE step = 'plan')::text AS plan,
                       (SELECT max(bound_cost) FROM orchestrator.attempts WHERE step <> 'plan')::text AS message";
    let sums = app.stores.row(sums, &[]).await?;
    set(&budgets, of_ana(json!((usd(&sums["plan"]) + usd(&sums["message"])).to_json_number()))).await?;
    app.world.reset();
    app.world.fault(Fault::NoUsage.on(Provider::Azure));
    let refused = hybrid.http(campaign("ana", &body)).await?;
    assert_eq!((refused.status, &refused.body["limit"]["name"]), (402, &json!("user_day_budget")), "{}", refused.body);
    assert_eq!(app.world.calls().len(), 1, "only the plan");
    let held = "SELECT count(*) FROM orchestrator.reservations WHERE settled_at IS NULL";
    assert_eq!(app.stores.row(held, &[]).await?, json!({"count": 0}));
    Ok(())
}

#[tokio::test]
async fn a_refused_begin_that_arrives_again_is_answered_the_same_and_changes_nothing() -> Result<()> {
    let app = App::start().await?;
    let (hybrid, budgets) = (app.function("campaigns-hybrid")?, app.function("costs-budgets")?);
    assert_eq!(hybrid.http(campaign("ana", &plan())).await?.status, 200);
    set(&budgets, of_ana(json!(0))).await?;
    let again = "SELECT to_json(b) AS b
                   FROM (SELECT to_jsonb(w) || jsonb_build_object('id', 'wf_again', 'idempotency_key', 'k1') AS w,
                                to_jsonb(a) || jsonb_build_object('id', 'wf_again.1', 'workflow_id', 'wf_again') AS a
                           FROM orchestrator.workflows w JOIN orchestrator.attempts a ON a.workflow_id = w.id
                          WHERE w.status = 'completed') s, orchestrator.begin_workflow(s.w, s.a, 120000) b";
    let refused = app.stores.row(again, &[]).await?["b"].take();
    assert_eq!((&refused["fresh"], &refused["refusal"]["period"]), (&json!(true), &json!("day")));
    // Also once there is room.
    set(&budgets, of_ana(json!(5))).await?;
    assert_eq!(app.stores.row(again, &[]).await?["b"], refused);
    let kept = "SELECT (SELECT count(*) FROM orchestrator.attempts WHERE workflow_id = 'wf_again') AS attempts,
                       (SELECT count(*) FROM orchestrator.workflows WHERE idempotency_key = 'k1') AS keys,
                       (SELECT reserved = 0 FROM orchestrator.budget_periods) AS free";
    assert_eq!(app.stores.row(kept, &[]).await?, json!({"attempts": 0, "keys": 0, "free": true}));
    Ok(())
}

/// A statement that the function has given up waits on in the server; whichever of the two is first, one of them counts.
#[tokio::test]
async fn a_begin_that_is_sent_twice_behind_a_lock_is_one() -> Result<()> {
    let app = App::start().await?;
    let (hybrid, budgets) = (app.function("campaigns-hybrid")?, app.function("costs-budgets")?);
    let mut body = plan();
    body["forceProvider"] = json!("openai");
    assert_eq!(hybrid.http(campaign("bob", &body)).await?.status, 200);
    let postgres = app.stores.postgres();
    let waiting = async || -> Result<i64> {
        let waiting = "SELECT count(*) FROM pg_locks
                        WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
        Ok(postgres.query_one(waiting, &[]).await?.get(0))
    };
    for (limit, status, attempts) in [(0, 402, 0), (5, 200, 1)] {
        set(&budgets, of_ana(json!(limit))).await?;
        postgres.batch_execute("BEGIN; LOCK TABLE orchestrator.budgets IN EXCLUSIVE MODE").await?;
        let under_way = hybrid.start_http(campaign("ana", &body).idempotency_key("k1"));
        let sent_twice = async || {
            let waiting = waiting().await?;
            ensure!(waiting > 1, "{waiting} wait");
            Ok(())
        };
        eventually(BOUND, sent_twice).await?;
        postgres.batch_execute("COMMIT").await?;
        let answer = under_way.response().await?;
        assert_eq!(answer.status, status, "{}", answer.body);
        let all_done = async || {
            ensure!(waiting().await? == 0, "one waits");
            Ok(())
        };
        eventually(BOUND, all_done).await?;
        let kept = "SELECT (SELECT count(*) FROM orchestrator.attempts WHERE user_id = 'ana') AS attempts,
                           (SELECT count(*) FROM orchestrator.workflows WHERE status = 'running') AS running";
        assert_eq!(app.stores.row(kept, &[]).await?, json!({"attempts": attempts, "running": 0}));
    }
    Ok(())
}

/// Keeps every step that a budget's counters take, as it is committed, beside the sums of the attempts that they stand for; and with
/// every refusal what the attempts themselves came to at that moment, whatever the counters said.
const STEPS: &str = "
    CREATE TABLE public.steps (budget bigint, max_cost numeric, spent numeric, reserved numeric, settled numeric, held numeric);
    CREATE FUNCTION public.step() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.steps
        SELECT b.id, b.max_cost, p.spent, p.reserved,
               coalesce(sum(a.cost) FILTER (WHERE r.settled_at IS NOT NULL), 0),
               coalesce(sum(r.amount) FILTER (WHERE r.settled_at IS NULL), 0)
          FROM orchestrator.budgets b JOIN orchestrator.budget_periods p ON p.budget_id = b.id AND p.starts_on = NEW.starts_on
          LEFT JOIN orchestrator.reservations r ON b.id = ANY (r.budgets)
          LEFT JOIN orchestrator.attempts a ON a.id = r.attempt_id
         WHERE b.id = NEW.budget_id AND (a.id IS NULL OR orchestrator.period_start(b.period, a.started_at) = NEW.starts_on)
         GROUP BY b.id, p.spent, p.reserved;
        RETURN NULL;
    END $$;
    CREATE CONSTRAINT TRIGGER step AFTER UPDATE ON orchestrator.budget_periods
        DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION public.step();

    CREATE TABLE public.refusals (scope text, max_cost numeric, committed numeric, needed numeric);
    CREATE FUNCTION public.refused() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO public.refusals
        SELECT coalesce(NEW.refusal ->> 'userId', 'everyone'), (NEW.refusal ->> 'limit')::numeric,
               coalesce(sum(CASE WHEN a.outcome = 'pending' THEN a.bound_cost ELSE a.cost END), 0),
               (NEW.refusal ->> 'needed')::numeric
          FROM orchestrator.attempts a
         WHERE coalesce(a.user_id = NEW.refusal ->> 'userId', true)
           AND orchestrator.period_start(NEW.refusal ->> 'period', a.started_at) = (NEW.refusal ->> 'startsOn')::date;
        RETURN NULL;
    END $$;
    CREATE TRIGGER refused AFTER UPDATE ON orchestrator.workflows FOR EACH ROW
        WHEN (NEW.refusal IS NOT NULL AND OLD.refusal IS NULL) EXECUTE FUNCTION public.refused()";

/// What a reserver does.
#[derive(Clone)]
struct Job {
    request: Request,
    /// Its process dies while its call is under way, by which the call can be told.
    dies: Option<String>,
}

/// Has a fleet's processes work off the jobs, each taking the next one when it is free, and gives the answers; a process that
/// dies is replaced, as Lambda does.
async fn work_off(app: &App, processes: usize, jobs: Vec<Job>) -> Result<Vec<Response>> {
    let queue = Mutex::new(VecDeque::from(jobs));
    let next = || queue.lock().unwrap().pop_front();
    let lane = async || -> Result<Vec<Response>> {
        let mut answers = Vec::new();
        let mut function = app.function("campaigns-hybrid")?;
        while let Some(Job { request, dies }) = next() {
            let Some(theme) = dies else {
                answers.push(function.http(request).await?);
                continue;
            };
            let invocation = function.start_http(request);
            // Over as well where it was refused and nothing was called.
            let called = async || {
                let called = app.world.calls().iter().any(|call| call.body.to_string().contains(&theme));
                called.then_some(()).context("not called")
            };
            tokio::select! {
                called = eventually(BOUND, called) => {
                    called?;
                    function.kill().await?;
                    function = app.function("campaigns-hybrid")?;
                }
                answer = invocation.response() => answers.push(answer?),
            }
        }
        Ok(answers)
    };
    Ok(try_join_all((0..processes).map(|_| lane())).await?.concat())
}

/// The invariant of the design: `available + reserved + spent = limit` at every step, under any concurrency.
#[tokio::test]
async fn design_spend_never_passes_a_limit_under_any_concurrency() -> Result<()> {
    const RESERVERS: usize = 1_000;
    const PROCESSES: usize = 16;
    let app = App::start().await?.set("API_RATE_LIMIT_PER_MINUTE", "100000").set("LEDGER_SWEEP_GRACE_MS", "1");
    let budgets = app.function("costs-budgets")?;
    let ana = |limit: Usd| of_ana(json!(limit.to_json_number()));
    let everyone = |limit: Usd| json!({"scope": "global", "period": "month", "limit": limit.to_json_number()});
    set(&budgets, everyone(Usd::parse("1000")?)).await?;
    // What one costs, settled and lost, says how much is too little for all.
    let probe = app.function("campaigns-hybrid")?;
    let [bound, _] = bounds(&app, &probe).await?;
    let cost = usd(&probe.http(campaign("zoe", &plan())).await?.body["data"]["detailedCosts"]["totalCost"]);
    app.world.reset();
    let times = |amount: Usd, count: usize| (0..count).map(|_| amount).sum::<Usd>();
    let room = |share: usize| times(cost, RESERVERS * share / 300) + times(bound, RESERVERS * share / 2_500);
    let (ana, everyone) = (set(&budgets, ana(room(25))).await?, set(&budgets, everyone(room(80))).await?);
    app.stores.postgres().batch_execute(STEPS).await?;

    app.world.fault(Fault::Hang.on_any().always().containing("dies-"));
    let job = |n: usize| {
        // Every third has the key of the one before it, and arrives beside it.
        let key = n - usize::from(n % 3 == 2);
        let dies = [4, 18].contains(&(key % 20)).then(|| format!("dies-{key}."));
        let mut body = plan();
        if let Some(theme) = &dies {
            body["data"]["theme"] = json!(theme);
        }
        let owner = if key % 10 < 7 { "ana" } else { "bob" };
        Job { request: campaign(owner, &body).idempotency_key(&format!("k{key}")), dies }
    };
    let answers = work_off(&app, PROCESSES, (0..RESERVERS).map(job).collect()).await?;
    let count = |status: u16| answers.iter().filter(|answer| answer.status == status).count();
    let lost = "SELECT count(*) FROM orchestrator.attempts WHERE outcome = 'pending'";
    let lost = usize::try_from(app.stores.row(lost, &[]).await?["count"].as_u64().unwrap())?;
    let tally = format!("{} served, {} refused, {} in flight, {lost} lost", count(200), count(402), count(409));
    assert_eq!(count(200) + count(402) + count(409), answers.len(), "{tally}");
    assert!(count(200) > RESERVERS / 5 && count(402) > RESERVERS / 10 && lost > RESERVERS / 50, "{tally}");

    // No refusal while the total would have sufficed.
    let refusals = "SELECT count(*) FILTER (WHERE scope = 'ana') > 20 AS own,
                           count(*) FILTER (WHERE scope = 'everyone') > 20 AS everyones,
                           count(*) FILTER (WHERE committed + needed <= max_cost) AS false FROM public.refusals";
    let expected = json!({"own": true, "everyones": true, "false": 0});
    assert_eq!(app.stores.row(refusals, &[]).await?, expected, "{tally}");
    // No call without a reservation, and no key with two workflows.
    let made = "SELECT (SELECT count(*) FROM orchestrator.attempts WHERE user_id <> 'zoe') AS attempts,
                       (SELECT count(*) - count(DISTINCT (user_id, idempotency_key)) FROM orchestrator.workflows
                         WHERE user_id <> 'zoe' AND status <> 'withdrawn') AS twice";
    assert_eq!(app.stores.row(made, &[]).await?, json!({"attempts": app.world.calls().len(), "twice": 0}));

    // What died is booked at its bound; then the counters, the ledger and its roll-ups are one sum.
    run_out(&app).await?;
    let sweeper = app.function("ledger-sweeper")?;
    let swept = sweeper.invoke(&json!({}), BOUND).await?;
    assert_eq!((&swept["settled"], &swept["failed"]), (&json!(lost), &json!(0)), "{swept}");
    // What a sweep settles is left to the next one to project.
    assert_eq!(sweeper.invoke(&json!({}), BOUND).await?["failed"], 0);
    let steps = "SELECT count(*) > 500 AS many,
                        count(*) FILTER (WHERE spent + reserved > max_cost) AS over,
                        count(*) FILTER (WHERE spent <> settled OR reserved <> held) AS wrong
                   FROM public.steps";
    assert_eq!(app.stores.row(steps, &[]).await?, json!({"many": true, "over": 0, "wrong": 0}));
    let shown = budgets.http(admin(Request::get(BUDGETS)).query("userId", "ana")).await?.body["data"]["budgets"].take();
    let (entries, rollups) = entries_and_rollups(app.stores.cost_items().await?);
    for (budget, of) in [(&shown[0], None), (&shown[1], Some("ana"))] {
        let booked: Usd =
            entries.iter().filter(|e| of.is_none_or(|user| e["userId"] == user)).map(|e| usd(&e["cost"])).sum();
        for grain in ["hour", "day", "month"] {
            assert_eq!(summed(&rollups_of(&rollups, of, grain), "cost"), booked, "{of:?} {grain}");
        }
        let amount = |name: &str| usd(&budget[name]);
        assert_eq!((amount("spent"), amount("reserved")), (booked, Usd::ZERO), "{of:?}");
        assert_eq!(amount("available") + amount("reserved") + amount("spent"), amount("limit"));
    }
    assert_eq!((&shown[0]["limit"], &shown[1]["limit"]), (&everyone["limit"], &ana["limit"]));
    Ok(())
}

#[tokio::test]
async fn nothing_is_refused_that_fits() -> Result<()> {
    const REQUESTS: usize = 128;
    const PROCESSES: usize = 16;
    let app = App::start().await?.set("API_RATE_LIMIT_PER_MINUTE", "100000").set("ROLE_PLANNER", "azure:gpt-4-turbo");
    let probe = app.function("campaigns-hybrid")?;
    let mut tiny = plan();
    tiny["maxCost"] = json!(0.000_001);
    let bound = usd(&probe.http(campaign("zoe", &tiny)).await?.body["limit"]["needed"]);
    let cost = usd(&probe.http(campaign("zoe", &plan())).await?.body["data"]["detailedCosts"]["totalCost"]);
    // The least that is always enough: all but the last are settled when those are reserved.
    let limit: Usd = (0..REQUESTS - PROCESSES).map(|_| cost).chain((0..PROCESSES).map(|_| bound)).sum();
    let (budgets, limit) = (app.function("costs-budgets")?, limit.to_json_number());
    set(&budgets, of_ana(json!(limit))).await?;
    set(&budgets, json!({"scope": "global", "period": "month", "limit": limit + cost.to_json_number()})).await?;
    let fleet = app.fleet("campaigns-hybrid", PROCESSES).await?;
    let answers = join_all(fleet.functions().iter().map(async |one| {
        let mut statuses = Vec::new();
        for _ in 0..REQUESTS / PROCESSES {
            statuses.push(one.http(campaign("ana", &plan())).await.map(|answer| answer.status));
        }
        statuses
    }));
    for status in answers.await.into_iter().flatten() {
        assert_eq!(status?, 200);
    }
    Ok(())
}

#[tokio::test]
async fn a_budget_is_set_by_many_at_once_without_harm() -> Result<()> {
    let app = App::start().await?;
    let (hybrid, fleet) = (app.fleet("campaigns-hybrid", 3).await?, app.fleet("costs-budgets", 3).await?);
    let requests = (0..24).map(|n| {
        let limit = if n % 4 == 0 { Value::Null } else { json!(n) };
        let body = json!({"scope": "global", "period": if n % 2 == 0 { "day" } else { "month" }, "limit": limit});
        admin(Request::put(BUDGETS)).json(&body)
    });
    let campaigns = (0..24).map(|_| campaign("ana", &plan()));
    let (set, served) = tokio::join!(fleet.http(requests), hybrid.http(campaigns));
    for answer in set.into_iter().chain(served) {
        assert_eq!(answer?.status, 200);
    }
    for period in ["day", "month"] {
        let body = json!({"scope": "global", "period": period, "limit": 100});
        self::set(&fleet.functions()[0], body).await?;
    }
    let even = "SELECT bool_and(p.reserved = 0 AND p.spent = (SELECT sum(cost) FROM orchestrator.attempts)) AS even
                  FROM orchestrator.budget_periods p";
    assert_eq!(app.stores.row(even, &[]).await?, json!({"even": true}));
    Ok(())
}

#[tokio::test]
async fn how_full_budgets_are_is_measured() -> Result<()> {
    let app = App::start().await?;
    let (hybrid, budgets) = (app.function("campaigns-hybrid")?, app.function("costs-budgets")?);
    let check = app.function("cost-threshold-check")?;
    let measured = async || -> Result<Value> { Ok(check.invoke(&json!({}), BOUND).await?["fullestBudgets"].take()) };
    assert_eq!(measured().await?, json!({"user": null, "global": null}));
    assert!(!check.stdout().contains("BudgetUtilisation"));

    let answer = hybrid.http(campaign("ana", &plan())).await?;
    let cost = usd(&answer.body["data"]["detailedCosts"]["totalCost"]);
    set(&budgets, of_ana(json!((cost + cost).to_json_number()))).await?;
    set(&budgets, json!({"scope": "user", "userId": "bob", "period": "day", "limit": 1})).await?;
    set(&budgets, json!({"scope": "global", "period": "day", "limit": 0})).await?;
    assert_eq!(measured().await?, json!({"user": 50.0, "global": 100.0}));
    // What it wrote may be read a moment after what it answered.
    eventually(BOUND, async || {
        let stdout = check.stdout();
        let lines = stdout.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let emitted: Vec<_> = lines
            .filter(|line| line["BudgetUtilisation"].is_number())
            .map(|line| format!("{} {}", text(&line["Scope"]), line["BudgetUtilisation"]))
            .collect();
        ensure!(emitted == ["user 50.0", "global 100.0"], "{emitted:?}");
        Ok(())
    })
    .await
}
