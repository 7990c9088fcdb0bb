-- Workflows that nobody waits for: handed over to a queue, run by whoever claims them, and taken up again where the last one stopped.
--
-- The order of locks is that of V3: the table `budgets`, attempts, workflows, reservations, counters.

ALTER TABLE orchestrator.workflows
    -- It goes on without the request that began it: a queue's consumer runs it, and nobody ends it because a consumer died.
    ADD COLUMN handed_over boolean NOT NULL DEFAULT false,
    -- What is made already and paid for, and how far each step got: nothing of it is bought again.
    ADD COLUMN checkpoint jsonb NOT NULL DEFAULT '{}',
    -- The account that its text is sent by, chosen when it was accepted.
    ADD COLUMN account_id text REFERENCES orchestrator.accounts,
    -- Which claim is the last, and whose. A consumer that was overtaken finds another; one that asks twice, its own.
    ADD COLUMN fence integer NOT NULL DEFAULT 0,
    ADD COLUMN claimant text,
    -- How often it was claimed since something of it was last settled.
    ADD COLUMN claims smallint NOT NULL DEFAULT 0,
    -- While it is queued, when it is to be claimed; while it runs, when its lease ends. NULL where nobody has to look at it.
    ADD COLUMN due_at timestamptz,
    -- When the sweep last had it taken up.
    ADD COLUMN hinted_at timestamptz;
ALTER TABLE orchestrator.attempts
    -- A text that was made before served, and no provider was called: what that call had cost.
    ADD COLUMN cache_saved numeric(30, 12) CHECK (cache_saved >= 0);
CREATE INDEX workflows_due ON orchestrator.workflows (due_at) WHERE due_at IS NOT NULL;

-- Whether an attempt that ended so was not made: it is no entry of the ledger.
CREATE FUNCTION orchestrator.is_uncalled(failure text) RETURNS boolean
    LANGUAGE sql IMMUTABLE RETURN failure IN ('not_sent', 'over_budget', 'circuit_open', 'paced', 'not_kept');

-- The account that a workflow's text is sent by, its limits, or why there is none. workflow: an object of its columns.
CREATE FUNCTION orchestrator.sending_account(workflow jsonb, OUT account text, OUT account_limits jsonb, OUT account_fault text)
    LANGUAGE plpgsql STABLE AS $$
DECLARE
    owned text[];
BEGIN
    IF NOT (workflow -> 'intent' ->> 'sendToOnlyFans')::boolean
       -- What was asked for before is answered as before.
       OR EXISTS (SELECT FROM orchestrator.workflows w
                   WHERE w.user_id = workflow ->> 'user_id' AND w.idempotency_key = workflow ->> 'idempotency_key'
                     AND w.id <> workflow ->> 'id') THEN
        RETURN;
    END IF;
    account := workflow -> 'intent' -> 'onlyFansContext' ->> 'accountId';
    IF account IS NULL THEN
        SELECT array_agg(a.id) INTO owned FROM orchestrator.accounts a WHERE a.user_id = workflow ->> 'user_id';
        account := owned[1];
        account_fault := CASE coalesce(cardinality(owned), 0) WHEN 0 THEN 'no_account' WHEN 1 THEN NULL ELSE 'which_account' END;
    ELSE
        account_fault := coalesce((SELECT CASE WHEN a.user_id <> workflow ->> 'user_id' THEN 'foreign' ELSE '' END
                                     FROM orchestrator.accounts a WHERE a.id = account), 'no_account');
        account_fault := nullif(account_fault, '');
    END IF;
    SELECT a.limits INTO account_limits FROM orchestrator.accounts a WHERE a.id = account AND account_fault IS NULL;
END $$;

CREATE OR REPLACE FUNCTION orchestrator.open_workflow(workflow jsonb, attempt jsonb, lease_ms bigint, OUT fresh boolean, OUT refusal jsonb,
                                                      OUT account text, OUT account_limits jsonb, OUT account_fault text)
    LANGUAGE plpgsql AS $$
BEGIN
    SELECT s.account, s.account_limits, s.account_fault INTO account, account_limits, account_fault
      FROM orchestrator.sending_account(workflow) s;
    IF account_fault IS NOT NULL THEN
        fresh := false;
        RETURN;
    END IF;
    SELECT b.fresh, b.refusal INTO fresh, refusal FROM orchestrator.begin_workflow(workflow, attempt, lease_ms) b;
    -- It may be handed over, and whoever takes it up then has to know.
    IF fresh AND refusal IS NULL AND account IS NOT NULL THEN
        UPDATE orchestrator.workflows w SET account_id = account WHERE w.id = workflow ->> 'id';
    END IF;
END $$;

-- Accepts a workflow for the queue: nothing of it is begun. fresh: as begin_workflow's.
CREATE FUNCTION orchestrator.queue_workflow(workflow jsonb, OUT fresh boolean, OUT account_fault text)
    LANGUAGE plpgsql AS $$
DECLARE
    wanted orchestrator.workflows := jsonb_populate_record(NULL::orchestrator.workflows, workflow);
    account text;
BEGIN
    SELECT s.account, s.account_fault INTO account, account_fault FROM orchestrator.sending_account(workflow) s;
    IF account_fault IS NOT NULL THEN
        fresh := false;
        RETURN;
    END IF;
    INSERT INTO orchestrator.users AS u (id) VALUES (wanted.user_id)
        ON CONFLICT (id) DO UPDATE SET last_seen_at = now() WHERE u.last_seen_at < now() - interval '1 hour';
    INSERT INTO orchestrator.workflows (id, user_id, requested_by, idempotency_key, request_hash, type, intent, status,
                                        provider_states, request_id, trace_id, started_at, checkpoint, handed_over, account_id, due_at)
    VALUES (wanted.id, wanted.user_id, wanted.requested_by, wanted.idempotency_key, wanted.request_hash, wanted.type,
            wanted.intent, 'queued', wanted.provider_states, wanted.request_id, wanted.trace_id, wanted.started_at,
            coalesce(wanted.checkpoint, '{}'), true, account, now())
        ON CONFLICT DO NOTHING;
    fresh := FOUND;
    IF NOT fresh THEN
        -- Sent twice, it finds its own.
        fresh := EXISTS (SELECT FROM orchestrator.workflows w WHERE w.id = wanted.id AND w.status <> 'withdrawn');
    END IF;
END $$;

CREATE OR REPLACE FUNCTION orchestrator.withdraw(workflow jsonb) RETURNS void
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
        ON CONFLICT (id) DO UPDATE SET status = 'withdrawn', idempotency_key = NULL, completed_at = now(), due_at = NULL
     WHERE w.status = 'running' OR w.status = 'queued' AND w.fence = 0;
    PERFORM orchestrator.settle_unsent(wanted.id);
END $$;

-- Ends an attempt (V3). A workflow that is handed over goes on as `queued`, with the milliseconds until it is due (`due_in_ms` of
-- state); one that is settled while it runs from the queue has its lease anew.
CREATE OR REPLACE FUNCTION orchestrator.advance(ending jsonb, state jsonb, following jsonb, lease_ms bigint,
                                                OUT settled bigint, OUT workflow_status text, OUT refusals jsonb)
    LANGUAGE plpgsql AS $$
DECLARE
    e orchestrator.attempts := jsonb_populate_record(NULL::orchestrator.attempts, ending);
    n orchestrator.workflows := jsonb_populate_record(NULL::orchestrator.workflows, state);
    moved text;
    ended boolean := n.status NOT IN ('running', 'queued');
BEGIN
    LOCK TABLE orchestrator.budgets IN ROW SHARE MODE;
    UPDATE orchestrator.attempts a
       SET outcome = e.outcome, failure = e.failure, http_status = e.http_status, input_tokens = e.input_tokens,
           cached_input_tokens = e.cached_input_tokens, output_tokens = e.output_tokens, cost = e.cost,
           estimated = e.estimated, duration_ms = e.duration_ms, cache_saved = e.cache_saved, settled_at = now(),
           -- What was not made is no entry of the ledger.
           projected_at = CASE WHEN orchestrator.is_uncalled(e.failure) THEN now() END
     WHERE a.id = e.id AND a.outcome = 'pending'
    RETURNING a.workflow_id INTO moved;
    settled := CASE WHEN FOUND THEN 1 ELSE 0 END;
    refusals := '{}';
    IF settled = 0 THEN RETURN; END IF;

    UPDATE orchestrator.workflows w
       SET cost = w.cost + e.cost, status = n.status, current_provider = n.current_provider, provider_states = n.provider_states,
           fallback_history = n.fallback_history, decisions = n.decisions, result = n.result, error = n.error,
           checkpoint = CASE WHEN ended AND n.status <> 'manual_review' THEN '{}' ELSE coalesce(n.checkpoint, w.checkpoint) END,
           completed_at = CASE WHEN ended AND n.status <> 'manual_review' THEN now() END,
           handed_over = w.handed_over OR n.status = 'queued',
           claims = 0,
           due_at = CASE WHEN n.status = 'queued' THEN now() + (state ->> 'due_in_ms')::bigint * interval '1 millisecond'
                         WHEN n.status = 'running' AND w.handed_over THEN now() + lease_ms * interval '1 millisecond' END
     WHERE w.id = moved AND w.status = 'running'
    RETURNING w.status INTO workflow_status;
    IF NOT FOUND THEN
        -- It has ended meanwhile: it keeps its state, and has its cost.
        UPDATE orchestrator.workflows w SET cost = w.cost + e.cost WHERE w.id = moved RETURNING w.status INTO workflow_status;
        following := '[]';
    END IF;

    refusals := orchestrator.book(ARRAY[e.id], following, lease_ms, true);
END $$;

-- Settles pending attempts, whose rows the caller has locked, at what is reserved for them: the bound, or nothing where a budget
-- refused them, or no provider was to be called.
CREATE FUNCTION orchestrator.settle_lost(lost text[]) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orchestrator.attempts a
       SET outcome = 'unknown', failure = 'interrupted', estimated = true, settled_at = now(), cost = a.bound_cost,
           input_tokens = a.bound_input_tokens, cached_input_tokens = 0, output_tokens = a.bound_output_tokens
      FROM orchestrator.reservations r
     WHERE a.id = ANY (lost) AND a.outcome = 'pending' AND r.attempt_id = a.id AND r.refusal IS NULL AND a.bound_output_tokens > 0;
    UPDATE orchestrator.attempts a
       -- A call may always write something: what may not was a look for a kept text.
       SET outcome = 'failed', failure = CASE a.bound_output_tokens WHEN 0 THEN 'not_kept' ELSE 'over_budget' END, cost = 0, input_tokens = 0, cached_input_tokens = 0, output_tokens = 0,
           settled_at = now(), projected_at = now()
     WHERE a.id = ANY (lost) AND a.outcome = 'pending';
END $$;

-- As V3 has it; but a workflow that was handed over is not ended: it is due, and taken up again.
CREATE OR REPLACE FUNCTION orchestrator.settle_expired(most bigint)
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
    PERFORM orchestrator.settle_lost(expired);

    PERFORM FROM orchestrator.workflows w
      WHERE w.id IN (SELECT a.workflow_id FROM orchestrator.attempts a WHERE a.id = ANY (expired))
      ORDER BY w.id
        FOR UPDATE;
    UPDATE orchestrator.workflows w
       SET cost = w.cost + b.cost,
           provider_states = w.provider_states || (SELECT jsonb_object_agg(p, 'failed') FROM unnest(b.providers) p),
           completed_at = coalesce(w.completed_at, CASE WHEN NOT w.handed_over THEN now() END),
           due_at = CASE WHEN w.handed_over AND w.status = 'running' THEN now() ELSE w.due_at END,
           decisions = CASE WHEN w.status <> 'running' THEN w.decisions ELSE w.decisions || jsonb_build_object(
               'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'step', b.step,
               'action', 'stop', 'reason', 'interrupted') END,
           status = CASE WHEN w.status = 'running' AND NOT w.handed_over THEN 'failed' ELSE w.status END,
           error = CASE WHEN w.status <> 'running' OR w.handed_over THEN w.error
                        ELSE coalesce(w.error, jsonb_build_object('code', 'internal',
                            'detail', 'the request was interrupted; its last calls are booked at their upper bounds')) END
      FROM (SELECT a.workflow_id, sum(a.cost) AS cost, min(a.step) AS step, array_agg(DISTINCT a.provider) AS providers
              FROM orchestrator.attempts a WHERE a.id = ANY (expired) GROUP BY a.workflow_id) b
     WHERE w.id = b.workflow_id;

    PERFORM orchestrator.book(expired, '[]', 0, false);
    RETURN QUERY
        SELECT a.id, a.provider, a.model, a.trace_id, a.cost, a.input_tokens + a.output_tokens, a.outcome = 'unknown'
          FROM orchestrator.attempts a WHERE a.id = ANY (expired);
END $$;

-- What a claimed workflow begins with: its state (as advance's) and its first attempts. held: whether it is still the claimant's;
-- sent twice, it is answered the same.
CREATE FUNCTION orchestrator.take_up(of_workflow text, of_fence integer, state jsonb, following jsonb, lease_ms bigint,
                                     OUT held boolean, OUT refusals jsonb)
    LANGUAGE plpgsql AS $$
DECLARE
    n orchestrator.workflows := jsonb_populate_record(NULL::orchestrator.workflows, state);
    first text := following -> 0 ->> 'id';
    ended boolean := n.status NOT IN ('running', 'queued');
BEGIN
    LOCK TABLE orchestrator.budgets IN ROW SHARE MODE;
    refusals := '{}';
    IF EXISTS (SELECT FROM orchestrator.attempts a WHERE a.id = first) THEN
        held := EXISTS (SELECT FROM orchestrator.workflows w WHERE w.id = of_workflow AND w.fence = of_fence AND w.status = 'running');
        SELECT coalesce(jsonb_object_agg(r.attempt_id, r.refusal), '{}') INTO refusals
          FROM orchestrator.reservations r JOIN jsonb_array_elements(following) f ON f ->> 'id' = r.attempt_id
         WHERE r.refusal IS NOT NULL;
        RETURN;
    END IF;
    UPDATE orchestrator.workflows w
       SET status = n.status, current_provider = n.current_provider, provider_states = n.provider_states,
           fallback_history = n.fallback_history, decisions = n.decisions, error = n.error,
           checkpoint = CASE WHEN ended AND n.status <> 'manual_review' THEN '{}' ELSE coalesce(n.checkpoint, w.checkpoint) END,
           claims = CASE n.status WHEN 'queued' THEN 0 ELSE w.claims END,
           completed_at = CASE WHEN ended AND n.status <> 'manual_review' THEN now() END,
           due_at = CASE WHEN n.status = 'queued' THEN now() + (state ->> 'due_in_ms')::bigint * interval '1 millisecond'
                         WHEN n.status = 'running' THEN now() + lease_ms * interval '1 millisecond' END
     WHERE w.id = of_workflow AND w.fence = of_fence AND (w.status = 'running' OR following = '[]' AND w.status = n.status);
    held := FOUND;
    IF held THEN
        refusals := orchestrator.book('{}', following, lease_ms, true);
    END IF;
END $$;

-- Ends a workflow that its owner does not want any more. What is under way is settled, and nothing follows it.
-- Gives the state that it has now, and whether it was this that ended it; NULL where there is none.
CREATE FUNCTION orchestrator.cancel_workflow(of_workflow text, actor text, request text, OUT status text, OUT cancelled boolean)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
    UPDATE orchestrator.workflows w
       SET status = 'cancelled', completed_at = now(), due_at = NULL, checkpoint = '{}',
           error = jsonb_build_object('code', 'conflict', 'detail', 'the workflow was cancelled'),
           decisions = w.decisions || jsonb_build_object(
               'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'step', '',
               'action', 'stop', 'reason', 'cancelled')
     WHERE w.id = of_workflow AND w.status IN ('queued', 'running', 'manual_review');
    cancelled := FOUND;
    SELECT w.status INTO status FROM orchestrator.workflows w WHERE w.id = of_workflow AND w.status <> 'withdrawn';
    IF cancelled THEN
        INSERT INTO orchestrator.audit_log (actor, action, subject, request_id)
        VALUES (actor, 'workflow.cancel', 'workflow:' || of_workflow, request);
    END IF;
END $$;
