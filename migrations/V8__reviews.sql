-- Workflows that a person decides about: no provider was left, or one refused. The workflow waits as `manual_review`, with the texts that
-- it has; whoever claims its review writes or edits what is missing, and approves or rejects it.

-- The list, oldest first, of what is open.
CREATE TABLE orchestrator.reviews (
    workflow_id   text PRIMARY KEY REFERENCES orchestrator.workflows,
    user_id       text NOT NULL,
    type          text NOT NULL,
    -- Why there is no answer: the workflow's error when it stopped.
    reason        jsonb NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    -- Whose it is, until when.
    claimed_by    text,
    claimed_until timestamptz,
    decision      text CHECK (decision IN ('approved', 'edited', 'rejected', 'cancelled')),
    decided_by    text,
    decided_at    timestamptz,
    note          text,
    CHECK ((decision IS NULL) = (decided_at IS NULL))
);
CREATE INDEX reviews_open ON orchestrator.reviews (created_at, workflow_id) WHERE decision IS NULL;
CREATE INDEX reviews_all ON orchestrator.reviews (created_at, workflow_id);

-- Whatever statement has a workflow wait for a person puts it on the list, and whatever ends it otherwise takes it off.
CREATE FUNCTION orchestrator.follow_review() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.status = 'manual_review' THEN
        INSERT INTO orchestrator.reviews (workflow_id, user_id, type, reason) VALUES (NEW.id, NEW.user_id, NEW.type, NEW.error)
            ON CONFLICT DO NOTHING;
    ELSIF NEW.status = 'cancelled' THEN
        UPDATE orchestrator.reviews r SET decision = 'cancelled', decided_at = now()
         WHERE r.workflow_id = NEW.id AND r.decision IS NULL;
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER follow_review AFTER UPDATE OF status ON orchestrator.workflows
    FOR EACH ROW WHEN ('manual_review' IN (OLD.status, NEW.status) AND OLD.status <> NEW.status)
    EXECUTE FUNCTION orchestrator.follow_review();

-- Gives a review to whoever asks, for a time; asked again by the same, for as long again. outcome: `claimed`, `taken` (somebody else has
-- it until claimed_until), `decided`, `unknown`.
CREATE FUNCTION orchestrator.claim_review(of_workflow text, actor text, lease_ms bigint, request text,
                                          OUT outcome text, OUT claimed_until timestamptz)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    r orchestrator.reviews;
BEGIN
    SELECT * INTO r FROM orchestrator.reviews WHERE workflow_id = of_workflow FOR UPDATE;
    outcome := CASE WHEN NOT FOUND THEN 'unknown' WHEN r.decision IS NOT NULL THEN 'decided'
                    WHEN r.claimed_by <> actor AND r.claimed_until > now() THEN 'taken' ELSE 'claimed' END;
    claimed_until := r.claimed_until;
    IF outcome <> 'claimed' THEN RETURN; END IF;
    UPDATE orchestrator.reviews SET claimed_by = actor, claimed_until = now() + lease_ms * interval '1 millisecond'
     WHERE workflow_id = of_workflow
    RETURNING reviews.claimed_until INTO claimed_until;
    INSERT INTO orchestrator.audit_log (actor, action, subject, request_id)
    VALUES (actor, 'review.claim', 'workflow:' || of_workflow, request);
END $$;

-- Gives a review back that was claimed. outcome: as claim_review's; `released`.
CREATE FUNCTION orchestrator.release_review(of_workflow text, actor text, request text, OUT outcome text)
    LANGUAGE plpgsql AS $$
DECLARE
    r orchestrator.reviews;
BEGIN
    SELECT * INTO r FROM orchestrator.reviews WHERE workflow_id = of_workflow FOR UPDATE;
    outcome := CASE WHEN NOT FOUND THEN 'unknown' WHEN r.decision IS NOT NULL THEN 'decided'
                    WHEN r.claimed_by <> actor AND r.claimed_until > now() THEN 'taken' ELSE 'released' END;
    IF outcome <> 'released' OR r.claimed_by IS DISTINCT FROM actor THEN RETURN; END IF;
    UPDATE orchestrator.reviews SET claimed_by = NULL, claimed_until = NULL WHERE workflow_id = of_workflow;
    INSERT INTO orchestrator.audit_log (actor, action, subject, request_id)
    VALUES (actor, 'review.release', 'workflow:' || of_workflow, request);
END $$;

-- Decides a review that the actor has claimed, and ends its workflow: `approved` or `edited` with its result, and the message that it
-- takes on (as accept_message; approved by a person, it waits for no other approval), or `rejected`, with why it came here and what the
-- person says.
-- outcome: `done`, `same` (decided so before, by the same), `decided`, `taken`, `unclaimed`, `unknown`.
CREATE FUNCTION orchestrator.decide_review(of_workflow text, actor text, wanted text, why text, result jsonb, message jsonb,
                                           step_ms bigint, request text, OUT outcome text, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    r orchestrator.reviews;
    message_status text;
BEGIN
    -- Workflows come before reviews, as for whoever cancels one.
    PERFORM FROM orchestrator.workflows w WHERE w.id = of_workflow FOR UPDATE;
    SELECT * INTO r FROM orchestrator.reviews WHERE workflow_id = of_workflow FOR UPDATE;
    outcome := CASE WHEN NOT FOUND THEN 'unknown'
                    WHEN r.decision = wanted AND r.decided_by = actor THEN 'same'
                    WHEN r.decision IS NOT NULL THEN 'decided'
                    WHEN r.claimed_by IS DISTINCT FROM actor AND r.claimed_until > now() THEN 'taken'
                    WHEN r.claimed_by IS DISTINCT FROM actor OR r.claimed_until <= now() THEN 'unclaimed' END;
    IF outcome IS NOT NULL THEN RETURN; END IF;
    IF message IS NOT NULL THEN
        SELECT (m.accepted).status, m.wake_ms INTO message_status, wake_ms
          FROM orchestrator.accept_message(message, 'never', true, step_ms, 0, NULL) m;
        decide_review.result := jsonb_set(decide_review.result, '{data,onlyFans,status}', coalesce(to_jsonb(message_status), '"failed"'));
    END IF;
    UPDATE orchestrator.workflows w
       SET status = CASE wanted WHEN 'rejected' THEN 'failed' ELSE 'completed' END, completed_at = now(), checkpoint = '{}',
           result = decide_review.result,
           error = CASE wanted WHEN 'rejected' THEN r.reason || jsonb_build_object(
               'detail', 'a reviewer rejected it: ' || coalesce(why, 'no reason was given')) END,
           decisions = w.decisions || jsonb_build_object(
               'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'step', '', 'action', 'review', 'reason', wanted)
     WHERE w.id = of_workflow AND w.status = 'manual_review';
    UPDATE orchestrator.reviews
       SET decision = wanted, decided_by = actor, decided_at = now(), note = why, claimed_until = NULL
     WHERE workflow_id = of_workflow;
    INSERT INTO orchestrator.audit_log (actor, action, subject, reason, request_id)
    VALUES (actor, 'review.' || CASE wanted WHEN 'rejected' THEN 'reject' WHEN 'edited' THEN 'edit' ELSE 'approve' END,
            'workflow:' || of_workflow, why, request);
    outcome := 'done';
END $$;

-- As V3 has it; but what costs nothing is refused by no budget, also by one that is overdrawn.
CREATE OR REPLACE FUNCTION orchestrator.book(ended text[], following jsonb, lease_ms bigint, keep_refused boolean) RETURNS jsonb
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
               -- What costs nothing is refused by no budget, also by one that is overdrawn.
               AND wanted.bound_cost > 0 AND p.spent + p.reserved + wanted.bound_cost > b.max_cost
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
