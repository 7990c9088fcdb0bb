-- Budgets: what may be spent in a period, what of it is spent, and what is reserved by calls under way.
--
-- A transaction that touches counters has to take its locks in one order and to see what was committed until then, so it is
-- a function: one statement of the client, each statement inside with a snapshot of its own (ADR 0010). The order of locks,
-- in every function here: the table `budgets` (shared; whoever sets a budget takes it alone), attempts, workflows,
-- reservations, counters; rows of one table by their key.

CREATE TABLE orchestrator.budgets (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    scope      text NOT NULL CHECK (scope IN ('user', 'global')),
    user_id    text,
    period     text NOT NULL CHECK (period IN ('day', 'month')),
    -- NULL: both together.
    provider   text CHECK (provider IN ('azure', 'openai')),
    -- NULL: there was a limit and is none any more; nothing is counted until there is one again.
    max_cost   numeric(30, 12) CHECK (max_cost >= 0),
    updated_at timestamptz NOT NULL DEFAULT now(),
    updated_by text NOT NULL,
    CHECK ((scope = 'user') = (user_id IS NOT NULL)),
    UNIQUE NULLS NOT DISTINCT (scope, user_id, period, provider)
);

-- One budget in one period, which is that of the attempts' intents. Available is what the limit leaves of both.
CREATE TABLE orchestrator.budget_periods (
    budget_id bigint NOT NULL REFERENCES orchestrator.budgets,
    starts_on date NOT NULL,
    reserved  numeric(30, 12) NOT NULL DEFAULT 0 CHECK (reserved >= 0),
    spent     numeric(30, 12) NOT NULL DEFAULT 0 CHECK (spent >= 0),
    PRIMARY KEY (budget_id, starts_on)
);

-- Why a workflow was withdrawn, where a budget refused its first attempt.
ALTER TABLE orchestrator.workflows ADD COLUMN refusal jsonb;

-- Which budgets hold the amount, and why there is none: the budget that refused it.
ALTER TABLE orchestrator.reservations ADD COLUMN budgets bigint[] NOT NULL DEFAULT '{}';
ALTER TABLE orchestrator.reservations ADD COLUMN refusal jsonb;

-- What a new budget finds spent already: a user's by the first index, everybody's by the second, which costs next to nothing.
CREATE INDEX attempts_by_user ON orchestrator.attempts (user_id, started_at);
CREATE INDEX attempts_by_time ON orchestrator.attempts USING brin (started_at);

-- Who changed what, from what to what. Rows are added and never changed.
CREATE TABLE orchestrator.audit_log (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at         timestamptz NOT NULL DEFAULT now(),
    actor      text NOT NULL,
    action     text NOT NULL,
    subject    text NOT NULL,
    before     jsonb,
    after      jsonb,
    reason     text,
    request_id text NOT NULL
);
CREATE INDEX audit_log_by_subject ON orchestrator.audit_log (subject, at);

-- An attempt that was booked at its bound, corrected against the provider's bill. The ledger follows.
CREATE TABLE orchestrator.corrections (
    attempt_id   text NOT NULL REFERENCES orchestrator.attempts,
    number       smallint NOT NULL,
    cost_before  numeric(30, 12) NOT NULL,
    cost         numeric(30, 12) NOT NULL,
    reason       text NOT NULL,
    corrected_by text NOT NULL,
    corrected_at timestamptz NOT NULL DEFAULT now(),
    projected_at timestamptz,
    PRIMARY KEY (attempt_id, number)
);
CREATE INDEX corrections_to_project ON orchestrator.corrections (corrected_at) WHERE projected_at IS NULL;
CREATE INDEX attempts_estimated ON orchestrator.attempts (started_at, id) WHERE estimated;

-- The first day of the UTC day or month that a moment belongs to.
CREATE FUNCTION orchestrator.period_start(period text, at timestamptz) RETURNS date
    LANGUAGE sql IMMUTABLE RETURN date_trunc(period, at AT TIME ZONE 'UTC')::date;

-- Whether a budget limits what a user spends at a provider.
CREATE FUNCTION orchestrator.limits(budget orchestrator.budgets, payer text, called text) RETURNS boolean
    LANGUAGE sql IMMUTABLE RETURN budget.max_cost IS NOT NULL AND (budget.scope = 'global' OR budget.user_id = payer)
        AND (budget.provider IS NULL OR budget.provider = called);

-- Releases the reservations of attempts that were ended in this transaction and books what they cost, then reserves the bounds
-- of the attempts that follow (a list of their columns) over every budget that limits them, all of them or none: a refused
-- attempt holds nothing. With keep_refused its row is kept, with the reason, to be ended by whoever wanted it.
-- Returns the refusals: an object of the attempts' ids.
CREATE FUNCTION orchestrator.book(ended text[], following jsonb, lease_ms bigint, keep_refused boolean) RETURNS jsonb
    LANGUAGE plpgsql AS $$
DECLARE
    counted boolean := EXISTS (SELECT FROM orchestrator.budgets);
    wanted orchestrator.attempts;
    refused jsonb;
    refusals jsonb := '{}';
    holders bigint[];
BEGIN
    IF cardinality(ended) > 0 THEN
        UPDATE orchestrator.reservations SET settled_at = now() WHERE attempt_id = ANY (ended);
    END IF;

    -- Most of the time of what follows is the server's, to begin each statement: where nobody has set a budget, none is begun.
    IF counted THEN
        -- Counters that nobody has needed before. They come before any lock on a counter: two transactions never wait crosswise.
        INSERT INTO orchestrator.budget_periods (budget_id, starts_on)
        SELECT DISTINCT b.id, orchestrator.period_start(b.period, n.started_at)
          FROM jsonb_populate_recordset(NULL::orchestrator.attempts, following) n
          JOIN orchestrator.budgets b ON orchestrator.limits(b, n.user_id, n.provider)
         ORDER BY 1, 2
            ON CONFLICT DO NOTHING;

        PERFORM FROM orchestrator.budget_periods p
          WHERE (p.budget_id, p.starts_on) IN (
                    SELECT b.id, orchestrator.period_start(b.period, a.started_at)
                      FROM orchestrator.reservations r JOIN orchestrator.attempts a ON a.id = r.attempt_id
                      JOIN orchestrator.budgets b ON b.id = ANY (r.budgets)
                     WHERE r.attempt_id = ANY (ended)
                     UNION
                    SELECT b.id, orchestrator.period_start(b.period, n.started_at)
                      FROM jsonb_populate_recordset(NULL::orchestrator.attempts, following) n
                      JOIN orchestrator.budgets b ON orchestrator.limits(b, n.user_id, n.provider))
          ORDER BY p.budget_id, p.starts_on
            FOR UPDATE;

        IF cardinality(ended) > 0 THEN
            UPDATE orchestrator.budget_periods p
               SET reserved = p.reserved - e.amount, spent = p.spent + e.cost
              FROM (SELECT b.id, orchestrator.period_start(b.period, a.started_at) AS starts_on,
                           sum(r.amount) AS amount, sum(a.cost) AS cost
                      FROM orchestrator.reservations r JOIN orchestrator.attempts a ON a.id = r.attempt_id
                      JOIN orchestrator.budgets b ON b.id = ANY (r.budgets)
                     WHERE r.attempt_id = ANY (ended)
                     GROUP BY 1, 2) e
             WHERE p.budget_id = e.id AND p.starts_on = e.starts_on;
        END IF;
    END IF;

    FOR wanted IN
        SELECT * FROM jsonb_populate_recordset(NULL::orchestrator.attempts, following) ORDER BY sequence
    LOOP
        refused := NULL;
        holders := '{}';
        IF counted THEN
            -- The one with the least left is named.
            SELECT jsonb_build_object(
                       'userId', b.user_id, 'period', b.period, 'provider', b.provider, 'limit', b.max_cost::text,
                       'spent', p.spent::text, 'reserved', p.reserved::text, 'needed', wanted.bound_cost::text,
                       'startsOn', p.starts_on)
              INTO refused
              FROM orchestrator.budgets b
              JOIN orchestrator.budget_periods p ON p.budget_id = b.id
               AND p.starts_on = orchestrator.period_start(b.period, wanted.started_at)
             WHERE orchestrator.limits(b, wanted.user_id, wanted.provider)
               AND p.spent + p.reserved + wanted.bound_cost > b.max_cost
             ORDER BY b.max_cost - p.spent - p.reserved, b.id
             LIMIT 1;
        END IF;
        IF refused IS NOT NULL THEN
            refusals := refusals || jsonb_build_object(wanted.id, refused);
            CONTINUE WHEN NOT keep_refused;
        ELSIF counted THEN
            WITH held AS (
                UPDATE orchestrator.budget_periods p SET reserved = p.reserved + wanted.bound_cost
                  FROM orchestrator.budgets b
                 WHERE b.id = p.budget_id AND orchestrator.limits(b, wanted.user_id, wanted.provider)
                   AND p.starts_on = orchestrator.period_start(b.period, wanted.started_at)
                RETURNING p.budget_id
            )
            SELECT coalesce(array_agg(budget_id ORDER BY budget_id), '{}') INTO holders FROM held;
        END IF;
        INSERT INTO orchestrator.attempts (id, workflow_id, sequence, user_id, step, request_type, provider, model, price_version,
                                           bound_input_tokens, bound_output_tokens, bound_cost, trace_id, started_at)
        VALUES (wanted.id, wanted.workflow_id, wanted.sequence, wanted.user_id, wanted.step, wanted.request_type, wanted.provider,
                wanted.model, wanted.price_version, wanted.bound_input_tokens, wanted.bound_output_tokens, wanted.bound_cost,
                wanted.trace_id, wanted.started_at);
        INSERT INTO orchestrator.reservations (attempt_id, user_id, amount, expires_at, budgets, refusal)
        VALUES (wanted.id, wanted.user_id, CASE WHEN refused IS NULL THEN wanted.bound_cost ELSE 0 END,
                now() + lease_ms * interval '1 millisecond', holders, refused);
    END LOOP;
    RETURN refusals;
END $$;

-- Accepts a request: the user seen, the workflow, its first attempt's intent and its reservation, all or nothing.
-- workflow and attempt are objects of their columns.
-- fresh: false where this user's Idempotency-Key is there already, or this id as something else. refusal: the budget that refused
-- the attempt; then nothing is kept but a tombstone with the id, so that the same statement, which may have been sent twice and
-- arrive late, is answered the same and changes nothing.
CREATE FUNCTION orchestrator.begin_workflow(workflow jsonb, attempt jsonb, lease_ms bigint, OUT fresh boolean, OUT refusal jsonb)
    LANGUAGE plpgsql AS $$
DECLARE
    wanted orchestrator.workflows := jsonb_populate_record(NULL::orchestrator.workflows, workflow);
BEGIN
    LOCK TABLE orchestrator.budgets IN ROW SHARE MODE;
    INSERT INTO orchestrator.users AS u (id) VALUES (wanted.user_id)
        ON CONFLICT (id) DO UPDATE SET last_seen_at = now() WHERE u.last_seen_at < now() - interval '1 hour';
    INSERT INTO orchestrator.workflows (id, user_id, requested_by, idempotency_key, request_hash, type, intent, status,
                                        current_provider, provider_states, fallback_history, decisions, request_id, trace_id,
                                        started_at)
    VALUES (wanted.id, wanted.user_id, wanted.requested_by, wanted.idempotency_key, wanted.request_hash, wanted.type,
            wanted.intent, 'running', wanted.current_provider, wanted.provider_states, wanted.fallback_history, wanted.decisions,
            wanted.request_id, wanted.trace_id, wanted.started_at)
        ON CONFLICT DO NOTHING;
    IF FOUND THEN
        fresh := true;
        refusal := orchestrator.book('{}', jsonb_build_array(attempt), lease_ms, false) -> (attempt ->> 'id');
        IF refusal IS NOT NULL THEN
            UPDATE orchestrator.workflows w
               SET status = 'withdrawn', idempotency_key = NULL, completed_at = now(), refusal = begin_workflow.refusal
             WHERE w.id = wanted.id;
        END IF;
    ELSE
        SELECT w.refusal, w.refusal IS NOT NULL OR w.status = 'running' AND EXISTS (
                   SELECT FROM orchestrator.attempts a WHERE a.id = attempt ->> 'id' AND a.outcome = 'pending')
          INTO refusal, fresh
          FROM orchestrator.workflows w WHERE w.id = wanted.id;
        fresh := coalesce(fresh, false);
    END IF;
END $$;

-- Ends an attempt: its outcome, the settlement, the workflow's state and the attempts that follow with their reservations,
-- all or nothing, and only while the attempt is pending.
-- ending: the attempt's end, state: the workflow's state, as objects of their columns; following: a list of such attempts.
-- settled: how many attempts were (0 or 1). workflow_status: the workflow's; one that has ended meanwhile keeps its state and
-- gets no further attempt, but its cost. refusals: which of those that follow may not be called.
CREATE FUNCTION orchestrator.advance(ending jsonb, state jsonb, following jsonb, lease_ms bigint,
                                     OUT settled bigint, OUT workflow_status text, OUT refusals jsonb)
    LANGUAGE plpgsql AS $$
DECLARE
    e orchestrator.attempts := jsonb_populate_record(NULL::orchestrator.attempts, ending);
    moved text;
BEGIN
    LOCK TABLE orchestrator.budgets IN ROW SHARE MODE;
    UPDATE orchestrator.attempts a
       SET outcome = e.outcome, failure = e.failure, http_status = e.http_status, input_tokens = e.input_tokens,
           cached_input_tokens = e.cached_input_tokens, output_tokens = e.output_tokens, cost = e.cost,
           estimated = e.estimated, duration_ms = e.duration_ms, settled_at = now(),
           -- What was not made is no entry of the ledger.
           projected_at = CASE WHEN e.failure IN ('not_sent', 'over_budget') THEN now() END
     WHERE a.id = e.id AND a.outcome = 'pending'
    RETURNING a.workflow_id INTO moved;
    settled := CASE WHEN FOUND THEN 1 ELSE 0 END;
    refusals := '{}';
    IF settled = 0 THEN RETURN; END IF;

    UPDATE orchestrator.workflows w
       SET cost = w.cost + e.cost,
           (status, current_provider, provider_states, fallback_history, decisions, result, error, completed_at) = (
               SELECT n.status, n.current_provider, n.provider_states, n.fallback_history, n.decisions, n.result, n.error,
                      CASE WHEN n.status = 'running' THEN NULL ELSE now() END
                 FROM jsonb_populate_record(NULL::orchestrator.workflows, state) n WHERE w.status = 'running'
                UNION ALL
               SELECT w.status, w.current_provider, w.provider_states, w.fallback_history, w.decisions, w.result, w.error, w.completed_at
                WHERE w.status <> 'running')
     WHERE w.id = moved
    RETURNING w.status INTO workflow_status;

    refusals := orchestrator.book(ARRAY[e.id], CASE WHEN workflow_status = 'running' THEN following ELSE '[]' END, lease_ms, true);
END $$;

-- Settles at nothing the attempts of withdrawn workflows (of one, or of all): they were committed beside the withdrawal, and
-- never called. Returns how many.
CREATE FUNCTION orchestrator.settle_unsent(of_workflow text DEFAULT NULL) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    unsent text[];
BEGIN
    LOCK TABLE orchestrator.budgets IN ROW SHARE MODE;
    WITH settled AS (
        UPDATE orchestrator.attempts a
           SET outcome = 'failed', failure = 'not_sent', cost = 0, input_tokens = 0, cached_input_tokens = 0, output_tokens = 0,
               settled_at = now(), projected_at = now()
          FROM orchestrator.workflows w
         WHERE w.status = 'withdrawn' AND a.workflow_id = w.id AND a.outcome = 'pending'
           AND (of_workflow IS NULL OR w.id = of_workflow)
        RETURNING a.id
    )
    SELECT coalesce(array_agg(id), '{}') INTO unsent FROM settled;
    PERFORM orchestrator.book(unsent, '[]', 0, false);
    RETURN cardinality(unsent);
END $$;

-- Takes a workflow (an object of its columns) back of which nothing was called. A tombstone with its id stays, so that a begin
-- that was sent before and arrives late changes nothing; its Idempotency-Key is free.
-- An attempt that is committed beside this is not seen here: the sweep settles it at nothing.
CREATE FUNCTION orchestrator.withdraw(workflow jsonb) RETURNS void
    LANGUAGE plpgsql AS $$
DECLARE
    wanted orchestrator.workflows := jsonb_populate_record(NULL::orchestrator.workflows, workflow);
BEGIN
    LOCK TABLE orchestrator.budgets IN ROW SHARE MODE;
    PERFORM FROM orchestrator.attempts a WHERE a.workflow_id = wanted.id ORDER BY a.id FOR UPDATE;
    INSERT INTO orchestrator.users (id) VALUES (wanted.user_id) ON CONFLICT DO NOTHING;
    INSERT INTO orchestrator.workflows AS w (id, user_id, requested_by, request_hash, type, intent, status, provider_states,
                                             request_id, trace_id, started_at, completed_at)
    VALUES (wanted.id, wanted.user_id, wanted.requested_by, wanted.request_hash, wanted.type, wanted.intent, 'withdrawn',
            wanted.provider_states, wanted.request_id, wanted.trace_id, wanted.started_at, now())
        ON CONFLICT (id) DO UPDATE SET status = 'withdrawn', idempotency_key = NULL, completed_at = now()
     WHERE w.status = 'running';
    PERFORM orchestrator.settle_unsent(wanted.id);
END $$;

-- Settles attempts whose reservation has run out, at what is reserved for them: the bound, or nothing where a budget refused
-- them. most: how many at once. Returns what was booked, a row an attempt; called: whether it may have been.
CREATE FUNCTION orchestrator.settle_expired(most bigint)
    RETURNS TABLE (id text, provider text, model text, trace_id text, cost numeric, tokens bigint, called boolean)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    expired text[];
BEGIN
    LOCK TABLE orchestrator.budgets IN ROW SHARE MODE;
    SELECT coalesce(array_agg(due.id), '{}') INTO expired
      FROM (SELECT a.id
              FROM orchestrator.reservations r JOIN orchestrator.attempts a ON a.id = r.attempt_id
             WHERE r.settled_at IS NULL AND r.expires_at < now() AND a.outcome = 'pending'
             ORDER BY r.expires_at
             LIMIT most
               FOR UPDATE OF a SKIP LOCKED) due;

    UPDATE orchestrator.attempts a
       SET outcome = 'unknown', failure = 'interrupted', estimated = true, settled_at = now(), cost = a.bound_cost,
           input_tokens = a.bound_input_tokens, cached_input_tokens = 0, output_tokens = a.bound_output_tokens
      FROM orchestrator.reservations r
     WHERE a.id = ANY (expired) AND r.attempt_id = a.id AND r.refusal IS NULL;
    UPDATE orchestrator.attempts a
       SET outcome = 'failed', failure = 'over_budget', cost = 0, input_tokens = 0, cached_input_tokens = 0, output_tokens = 0,
           settled_at = now(), projected_at = now()
     WHERE a.id = ANY (expired) AND a.outcome = 'pending';

    PERFORM FROM orchestrator.workflows w
      WHERE w.id IN (SELECT a.workflow_id FROM orchestrator.attempts a WHERE a.id = ANY (expired))
      ORDER BY w.id
        FOR UPDATE;
    UPDATE orchestrator.workflows w
       SET cost = w.cost + b.cost,
           provider_states = w.provider_states || (SELECT jsonb_object_agg(p, 'failed') FROM unnest(b.providers) p),
           completed_at = coalesce(w.completed_at, now()),
           decisions = CASE WHEN w.status <> 'running' THEN w.decisions ELSE w.decisions || jsonb_build_object(
               'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'step', b.step,
               'action', 'stop', 'reason', 'interrupted') END,
           status = CASE WHEN w.status = 'running' THEN 'failed' ELSE w.status END,
           error = CASE WHEN w.status <> 'running' THEN w.error ELSE coalesce(w.error, jsonb_build_object('code', 'internal',
               'detail', 'the request was interrupted; its last calls are booked at their upper bounds')) END
      FROM (SELECT a.workflow_id, sum(a.cost) AS cost, min(a.step) AS step, array_agg(DISTINCT a.provider) AS providers
              FROM orchestrator.attempts a WHERE a.id = ANY (expired) GROUP BY a.workflow_id) b
     WHERE w.id = b.workflow_id;

    PERFORM orchestrator.book(expired, '[]', 0, false);
    RETURN QUERY
        SELECT a.id, a.provider, a.model, a.trace_id, a.cost, a.input_tokens + a.output_tokens, a.outcome = 'unknown'
          FROM orchestrator.attempts a WHERE a.id = ANY (expired);
END $$;

-- Sets a budget, or lifts it (wanted NULL). One that was not counted until now begins with what its period has seen: whoever
-- reserves or settles waits for that, and no call comes between.
CREATE FUNCTION orchestrator.set_budget(of_scope text, of_user text, of_period text, of_provider text, wanted numeric,
                                        actor text, request text)
    RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    was orchestrator.budgets;
    budget orchestrator.budgets;
    starts date := orchestrator.period_start(of_period, now());
    since timestamptz := starts::timestamp AT TIME ZONE 'UTC';
    until timestamptz := (starts + ('1 ' || of_period)::interval)::timestamp AT TIME ZONE 'UTC';
BEGIN
    LOCK TABLE orchestrator.budgets IN EXCLUSIVE MODE;
    SELECT * INTO was FROM orchestrator.budgets b
     WHERE b.scope = of_scope AND b.user_id IS NOT DISTINCT FROM of_user AND b.period = of_period
       AND b.provider IS NOT DISTINCT FROM of_provider;
    INSERT INTO orchestrator.budgets (scope, user_id, period, provider, max_cost, updated_by)
    VALUES (of_scope, of_user, of_period, of_provider, wanted, actor)
        ON CONFLICT (scope, user_id, period, provider)
        DO UPDATE SET max_cost = wanted, updated_by = actor, updated_at = now()
    RETURNING * INTO budget;

    IF wanted IS NOT NULL AND was.max_cost IS NULL THEN
        UPDATE orchestrator.reservations r SET budgets = r.budgets || budget.id
          FROM orchestrator.attempts a
         WHERE r.attempt_id = a.id AND r.settled_at IS NULL AND r.amount > 0 AND NOT budget.id = ANY (r.budgets)
           AND a.started_at >= since AND a.started_at < until AND orchestrator.limits(budget, a.user_id, a.provider);
        -- What is settled has a cost, what is not has a reservation: few are under way, so a month is one pass over its attempts.
        INSERT INTO orchestrator.budget_periods AS p (budget_id, starts_on, reserved, spent)
        SELECT budget.id, starts,
               (SELECT coalesce(sum(r.amount), 0)
                  FROM orchestrator.reservations r JOIN orchestrator.attempts a ON a.id = r.attempt_id
                 WHERE r.settled_at IS NULL AND a.started_at >= since AND a.started_at < until
                   AND orchestrator.limits(budget, a.user_id, a.provider)),
               (SELECT coalesce(sum(a.cost), 0)
                  FROM orchestrator.attempts a
                 WHERE a.started_at >= since AND a.started_at < until AND orchestrator.limits(budget, a.user_id, a.provider))
            ON CONFLICT (budget_id, starts_on) DO UPDATE SET reserved = EXCLUDED.reserved, spent = EXCLUDED.spent;
    END IF;

    -- A statement that is sent twice is one change.
    IF was.max_cost IS DISTINCT FROM wanted THEN
        INSERT INTO orchestrator.audit_log (actor, action, subject, before, after, request_id)
        VALUES (actor, 'budget.set', 'budget:' || budget.id, to_jsonb(was), to_jsonb(budget), request);
    END IF;
END $$;

-- Corrects an attempt that was booked at its bound. outcome: `corrected`; `same` where it costs that already; or why not:
-- `unknown`, `known` (the provider's own numbers were booked), `over_bound`, `too_old` (90 days), `too_early` (the ledger has
-- not got it yet).
CREATE FUNCTION orchestrator.correct(of_attempt text, wanted numeric, why text, actor text, request text,
                                     OUT outcome text, OUT cost_before numeric, OUT bound numeric, OUT payer text)
    LANGUAGE plpgsql AS $$
DECLARE
    a orchestrator.attempts;
    last smallint;
    holders bigint[];
BEGIN
    LOCK TABLE orchestrator.budgets IN ROW SHARE MODE;
    SELECT * INTO a FROM orchestrator.attempts WHERE id = of_attempt FOR UPDATE;
    SELECT coalesce(max(number), 0) INTO last FROM orchestrator.corrections WHERE attempt_id = of_attempt;
    cost_before := a.cost;
    bound := a.bound_cost;
    payer := a.user_id;
    outcome := CASE
        WHEN a.id IS NULL THEN 'unknown'
        WHEN NOT a.estimated AND last = 0 THEN 'known'
        WHEN wanted > a.bound_cost THEN 'over_bound'
        WHEN a.started_at < now() - interval '90 days' THEN 'too_old'
        WHEN a.projected_at IS NULL THEN 'too_early'
        WHEN a.cost = wanted AND NOT a.estimated THEN 'same'
        ELSE 'corrected' END;
    IF outcome <> 'corrected' THEN RETURN; END IF;

    UPDATE orchestrator.attempts SET cost = wanted, estimated = false WHERE id = of_attempt;
    UPDATE orchestrator.workflows SET cost = cost + wanted - a.cost WHERE id = a.workflow_id;
    INSERT INTO orchestrator.corrections (attempt_id, number, cost_before, cost, reason, corrected_by)
    VALUES (of_attempt, last + 1, a.cost, wanted, why, actor);
    INSERT INTO orchestrator.audit_log (actor, action, subject, before, after, reason, request_id)
    VALUES (actor, 'ledger.correct', 'attempt:' || of_attempt, jsonb_build_object('cost', a.cost, 'estimated', a.estimated),
            jsonb_build_object('cost', wanted, 'estimated', false), why, request);

    -- The budgets that hold it, and those that were set after it was settled and found it in their present period.
    SELECT coalesce(array_agg(b.id), '{}') INTO holders
      FROM orchestrator.budgets b, orchestrator.reservations r
     WHERE r.attempt_id = of_attempt
       AND (b.id = ANY (r.budgets)
            OR orchestrator.limits(b, a.user_id, a.provider)
               AND orchestrator.period_start(b.period, a.started_at) = orchestrator.period_start(b.period, now()));
    PERFORM FROM orchestrator.budget_periods p JOIN orchestrator.budgets b ON b.id = p.budget_id
      WHERE b.id = ANY (holders) AND p.starts_on = orchestrator.period_start(b.period, a.started_at)
      ORDER BY p.budget_id, p.starts_on
        FOR UPDATE OF p;
    UPDATE orchestrator.budget_periods p SET spent = p.spent + wanted - a.cost
      FROM orchestrator.budgets b
     WHERE b.id = p.budget_id AND b.id = ANY (holders) AND p.starts_on = orchestrator.period_start(b.period, a.started_at);
END $$;
