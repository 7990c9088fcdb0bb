-- Dead letters of AI work: workflows that were given up, hints of workflows that came back from the queue's end, and letters that
-- nobody here can read.
--
-- A workflow's letters are locked behind their workflow, never before it; those of messages as V4 has it.

ALTER TABLE orchestrator.dead_letters
    DROP CONSTRAINT dead_letters_kind_check,
    ADD CONSTRAINT dead_letters_kind_check CHECK (kind IN ('message', 'hint', 'workflow', 'workflow_hint', 'unread')),
    ADD COLUMN workflow_id text,
    -- Of a workflow's hint: how often one came back, and which record of the queue was counted last.
    ADD COLUMN returns smallint,
    ADD COLUMN record text,
    -- Of those that are not a message's: when the letter was put on the queue last, and when people were told.
    ADD COLUMN put_at timestamptz,
    ADD COLUMN told_at timestamptz;
CREATE INDEX dead_letters_of_workflow ON orchestrator.dead_letters (workflow_id) WHERE workflow_id IS NOT NULL;
CREATE INDEX dead_letters_to_tell ON orchestrator.dead_letters (received_at) WHERE kind = 'workflow' AND told_at IS NULL;

-- From when on its time runs: from its first claim, for what waits in a queue waits for no provider; or from when an administrator had it
-- tried anew.
ALTER TABLE orchestrator.workflows ADD COLUMN timed_from timestamptz;

-- Accounts at which the platform was not well: few, and looked for.
CREATE INDEX accounts_unwell ON orchestrator.accounts (id) WHERE failures > 0;

-- Gives a workflow that is due to whoever asks, for a lease. What a consumer that died had under way is settled at its bound: nobody
-- knows its end. One that was claimed most_claims times without anything of it being settled is poison, and ends as failed.
-- verdict: `claimed`; `early` (with wait_ms: it is due then, or somebody holds it until then); `over` (it has ended, or is not
-- there); `poison`. attempts: all that are settled, in their order; lost: whether that was done here, of one that may have been called.
-- What is made of a workflow that ends as poison is kept, and so is its letter, in the transaction that ends it.
CREATE FUNCTION orchestrator.claim_workflow(of_workflow text, of_claimant text, lease_ms bigint, most_claims integer,
                                            OUT verdict text, OUT wait_ms bigint, OUT claimed orchestrator.workflows, OUT attempts jsonb)
    LANGUAGE plpgsql AS $$
DECLARE
    seen orchestrator.workflows;
    interrupted text[];
BEGIN
    LOCK TABLE orchestrator.budgets IN ROW SHARE MODE;
    -- Attempts come before workflows; none is begun while the workflow is due, but by whoever claims it.
    SELECT coalesce(array_agg(a.id), '{}') INTO interrupted
      FROM (SELECT p.id FROM orchestrator.attempts p WHERE p.workflow_id = of_workflow AND p.outcome = 'pending'
             ORDER BY p.id FOR UPDATE) a;
    SELECT * INTO seen FROM orchestrator.workflows w WHERE w.id = of_workflow FOR UPDATE;
    IF seen.due_at IS NULL OR seen.status NOT IN ('queued', 'running') THEN
        verdict := 'over';
        RETURN;
    ELSIF seen.due_at > now() AND (seen.status <> 'running' OR seen.claimant IS DISTINCT FROM of_claimant) THEN
        verdict := 'early';
        wait_ms := ceil(extract(epoch FROM seen.due_at - now()) * 1000);
        RETURN;
    END IF;

    IF seen.due_at <= now() THEN
        PERFORM orchestrator.settle_lost(interrupted);
        UPDATE orchestrator.workflows w
           SET cost = w.cost + coalesce((SELECT sum(a.cost) FROM orchestrator.attempts a WHERE a.id = ANY (interrupted)), 0),
               status = 'running', fence = w.fence + 1, claims = w.claims + 1, claimant = of_claimant,
               timed_from = coalesce(w.timed_from, now()), due_at = now() + lease_ms * interval '1 millisecond'
         WHERE w.id = of_workflow;
    END IF;
    verdict := 'claimed';
    IF seen.due_at <= now() AND seen.claims >= most_claims THEN
        verdict := 'poison';
        UPDATE orchestrator.workflows w
           SET status = 'failed', completed_at = now(), due_at = NULL,
               error = coalesce(w.error, jsonb_build_object('code', 'internal',
                   'detail', 'whoever took it up was interrupted each time; what it had cost until then is booked')),
               decisions = w.decisions || jsonb_build_object(
                   'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'step', '',
                   'action', 'stop', 'reason', 'poison')
         WHERE w.id = of_workflow;
        INSERT INTO orchestrator.dead_letters (id, kind, workflow_id, reason)
        VALUES ('workflow:' || of_workflow || '#' || seen.fence + 1, 'workflow', of_workflow,
                'whoever took it up was interrupted each time') ON CONFLICT DO NOTHING;
    END IF;
    IF seen.due_at <= now() THEN
        PERFORM orchestrator.book(interrupted, '[]', 0, false);
    END IF;
    SELECT * INTO claimed FROM orchestrator.workflows w WHERE w.id = of_workflow;
    SELECT coalesce(jsonb_agg(jsonb_build_object(
               'sequence', a.sequence, 'step', a.step, 'provider', a.provider, 'model', a.model, 'price_version', a.price_version,
               'outcome', a.outcome, 'failure', a.failure, 'input_tokens', a.input_tokens, 'cached_input_tokens', a.cached_input_tokens,
               'output_tokens', a.output_tokens, 'cost', a.cost::text, 'estimated', a.estimated,
               'lost', a.id = ANY (interrupted) AND a.outcome = 'unknown') ORDER BY a.sequence), '[]')
      INTO attempts FROM orchestrator.attempts a WHERE a.workflow_id = of_workflow AND a.outcome <> 'pending';
END $$;

-- A workflow's hint came back from the end of the queue, as this record. By itself it is tried anew `most` times; then it is kept,
-- until a person has it tried anew, who has it counted anew as well. The same record is counted once.
-- verdict: `over` (the workflow has ended, is not there, or runs where its client waits); `redriven` (the hint is to be put back; it
-- does no harm where somebody has the workflow); `kept`, as a letter, of which people were told or not.
CREATE FUNCTION orchestrator.return_hint(of_workflow text, of_record text, most smallint, actor text,
                                         OUT verdict text, OUT letter text, OUT owner text, OUT told boolean)
    LANGUAGE plpgsql AS $$
DECLARE
    w orchestrator.workflows;
    last orchestrator.dead_letters;
BEGIN
    -- One after the other: each counts those before it.
    SELECT * INTO w FROM orchestrator.workflows o WHERE o.id = of_workflow FOR NO KEY UPDATE;
    IF w.due_at IS NULL OR w.status NOT IN ('queued', 'running') THEN
        verdict := 'over';
        RETURN;
    END IF;
    owner := w.user_id;
    SELECT * INTO last FROM orchestrator.dead_letters l
     WHERE l.workflow_id = of_workflow AND l.kind = 'workflow_hint' ORDER BY l.received_at DESC, l.id DESC LIMIT 1 FOR UPDATE;
    IF last.id IS NULL OR last.status = 'redriven' AND last.returns > most AND last.record <> of_record THEN
        INSERT INTO orchestrator.dead_letters (id, kind, workflow_id, reason, status, returns, record, decided_at, decided_by)
        VALUES ('hint:' || of_record, 'workflow_hint', of_workflow, 'it could not be handled', 'redriven', 1, of_record, now(), actor)
            -- An old record that comes once more is put back, and not counted.
            ON CONFLICT DO NOTHING
        RETURNING * INTO last;
    ELSIF last.record <> of_record THEN
        UPDATE orchestrator.dead_letters l
           SET returns = least(l.returns + 1, 1000), record = of_record, received_at = now(),
               status = CASE WHEN l.returns >= most THEN 'open' ELSE 'redriven' END,
               decided_at = CASE WHEN l.returns < most THEN now() END,
               decided_by = CASE WHEN l.returns < most THEN actor END
         WHERE l.id = last.id
        RETURNING * INTO last;
    END IF;
    verdict := CASE last.status WHEN 'open' THEN 'kept' ELSE 'redriven' END;
    letter := last.id;
    told := last.told_at IS NOT NULL;
END $$;

-- Has a dead letter tried anew: a message with fresh retries, a hint by another one, a workflow from where its last driver stopped.
-- outcome: `done`, `same` (it was redriven before), `unknown`, `unread` (nobody here can do that), or `too_late`: its message, or
-- its workflow, is not given up any more.
CREATE OR REPLACE FUNCTION orchestrator.redrive(of_letter text, actor text, why text, retries smallint, step_ms bigint, request text, OUT outcome text,
                                     OUT account text, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    letter orchestrator.dead_letters;
BEGIN
    PERFORM FROM orchestrator.workflows w
      WHERE w.id = (SELECT l.workflow_id FROM orchestrator.dead_letters l WHERE l.id = of_letter) FOR UPDATE;
    SELECT * INTO letter FROM orchestrator.dead_letters WHERE id = of_letter FOR UPDATE;
    account := letter.account_id;
    outcome := CASE WHEN NOT FOUND THEN 'unknown' WHEN letter.status = 'redriven' THEN 'same' WHEN letter.kind = 'unread' THEN 'unread' END;
    IF outcome IS NOT NULL THEN RETURN; END IF;
    IF letter.kind = 'message' THEN
        SELECT d.outcome, d.wake_ms INTO outcome, wake_ms
          FROM orchestrator.decide_message(letter.message_id, 'redrive', NULL, actor, NULL, NULL, why, retries, step_ms, request) d;
        IF outcome NOT IN ('done', 'same') THEN RETURN; END IF;
    ELSIF letter.kind = 'workflow' THEN
        -- Only its last letter is about how it stands.
        UPDATE orchestrator.workflows w
           SET status = 'queued', claims = 0, due_at = now(), hinted_at = NULL, timed_from = now(), completed_at = NULL, error = NULL,
               decisions = w.decisions || jsonb_build_object(
                   'at', to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"'), 'step', '',
                   'action', 'redrive', 'reason', 'an administrator wants it')
         WHERE w.id = letter.workflow_id AND w.status = 'failed' AND letter.id = 'workflow:' || w.id || '#' || w.fence;
        IF NOT FOUND THEN
            outcome := 'too_late';
            RETURN;
        END IF;
        outcome := 'done';
        INSERT INTO orchestrator.audit_log (actor, action, subject, before, after, reason, request_id)
        VALUES (actor, 'workflow.redrive', 'workflow:' || letter.workflow_id, '{"status": "failed"}', '{"status": "queued"}', why, request);
    ELSIF letter.kind = 'workflow_hint' THEN
        IF NOT EXISTS (SELECT FROM orchestrator.workflows w
                        WHERE w.id = letter.workflow_id AND w.due_at IS NOT NULL AND w.status IN ('queued', 'running')) THEN
            outcome := 'too_late';
            RETURN;
        END IF;
        outcome := 'done';
        INSERT INTO orchestrator.audit_log (actor, action, subject, reason, request_id)
        VALUES (actor, 'hint.redrive', 'dead_letter:' || of_letter, why, request);
    ELSE
        PERFORM FROM orchestrator.accounts a WHERE a.id = letter.account_id FOR UPDATE;
        INSERT INTO orchestrator.audit_log (actor, action, subject, reason, request_id)
        VALUES (actor, 'hint.redrive', 'dead_letter:' || of_letter, why, request);
        wake_ms := orchestrator.wake(letter.account_id);
        outcome := 'done';
    END IF;
    UPDATE orchestrator.dead_letters SET status = 'redriven', decided_at = now(), decided_by = actor
     WHERE id = of_letter AND status = 'open';
END $$;
