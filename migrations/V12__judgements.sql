-- Texts are judged before they go anywhere: what was said of each is kept, and accounts have words of their own.

ALTER TABLE orchestrator.accounts
    -- Words that no text of it may have, and words that an administrator lets it use: lists of texts.
    ADD COLUMN custom_words jsonb NOT NULL DEFAULT '[]',
    ADD COLUMN allowed_words jsonb NOT NULL DEFAULT '[]',
    -- What is added to a text that a machine wrote; NULL: nothing.
    ADD COLUMN ai_disclosure text CHECK (char_length(ai_disclosure) BETWEEN 1 AND 95);

-- What was said of the text, for whoever approves it.
ALTER TABLE orchestrator.messages ADD COLUMN judged jsonb;

-- What was said of which text, by which rules. Of the text itself there is nothing but its hash.
CREATE TABLE orchestrator.judgements (
    -- Made by whoever judged: a statement that is sent twice keeps one.
    id             text PRIMARY KEY,
    at             timestamptz NOT NULL DEFAULT now(),
    origin         text NOT NULL CHECK (origin IN ('generated', 'edited', 'approved', 'direct', 'validated')),
    user_id        text NOT NULL,
    -- Who asked for it, or edited it.
    actor          text NOT NULL,
    account_id     text,
    workflow_id    text,
    step           text,
    message_id     text,
    level          text NOT NULL CHECK (level IN ('strict', 'moderate', 'relaxed')),
    -- The day of the rules' last change.
    rule_version   text NOT NULL,
    verdict        text NOT NULL CHECK (verdict IN ('allow', 'review', 'block')),
    score          numeric(4, 3) NOT NULL CHECK (score BETWEEN 0 AND 1),
    second_opinion text NOT NULL,
    -- A list of {rule, category, severity, reason, suggestion}.
    findings       jsonb NOT NULL,
    text_hash      text NOT NULL,
    request_id     text NOT NULL
);
CREATE INDEX judgements_by_time ON orchestrator.judgements (at);
CREATE INDEX judgements_by_account ON orchestrator.judgements (account_id, at);

-- Keeps a judgement, an object of its columns; NULL: none.
CREATE FUNCTION orchestrator.note_judgement(judgement jsonb) RETURNS void
    LANGUAGE sql AS $$
    INSERT INTO orchestrator.judgements
    SELECT j.* FROM jsonb_populate_record(NULL::orchestrator.judgements, judgement || jsonb_build_object('at', now())) j
     WHERE judgement IS NOT NULL
        ON CONFLICT DO NOTHING
$$;

-- Forgets what was judged so many days ago, at most so many at once.
CREATE FUNCTION orchestrator.purge_judgements(days bigint, most bigint) RETURNS bigint
    LANGUAGE sql AS $$
    WITH gone AS (
        DELETE FROM orchestrator.judgements
         WHERE id IN (SELECT id FROM orchestrator.judgements WHERE at < now() - make_interval(days => days::integer) ORDER BY at LIMIT most)
        RETURNING 1
    )
    SELECT count(*) FROM gone
$$;

-- For whom a text is judged: the account (NULL: the user's only one) with its floor and words, and what its fan was sent within so many
-- days, the last first, but for one message. NULL where
-- there is no such account, `foreign` where it is another's.
CREATE FUNCTION orchestrator.judging(of_user text, of_account text, of_recipient text, days bigint, most bigint,
                                     but_for text DEFAULT NULL) RETURNS jsonb
    LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN a.user_id <> of_user THEN '{"foreign": true}' ELSE jsonb_build_object(
               'account', a.id, 'floor', a.compliance_floor, 'words', a.custom_words, 'allowed', a.allowed_words,
               'disclosure', a.ai_disclosure,
               'texts', (SELECT coalesce(jsonb_agg(t.content), '[]')
                           FROM (SELECT m.content FROM orchestrator.messages m
                                  WHERE m.account_id = a.id AND m.recipient_id = of_recipient AND m.id IS DISTINCT FROM but_for
                                    AND m.created_at > now() - make_interval(days => days::integer)
                                    AND m.status NOT IN ('failed', 'cancelled', 'rejected')
                                  ORDER BY m.created_at DESC LIMIT most) t),
               'today', (SELECT count(*) FROM orchestrator.messages m
                          WHERE m.account_id = a.id AND m.recipient_id = of_recipient AND m.id IS DISTINCT FROM but_for
                            AND m.created_at > now() - interval '1 day' AND m.status NOT IN ('failed', 'cancelled', 'rejected'))) END
      FROM orchestrator.accounts a
     WHERE a.id = of_account
        OR of_account IS NULL AND a.user_id = of_user AND (SELECT count(*) FROM orchestrator.accounts o WHERE o.user_id = of_user) = 1
$$;

-- As V7 has it; with the judgement of the text that a call ended with.
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
    PERFORM orchestrator.note_judgement(nullif(ending -> 'judgement', 'null'));

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

-- As V4 has it; `wanted` says besides what was said of the text: `verdict` (`block`: it is not taken on, outcome `blocked`; `review`: a
-- person has to approve it), `judged_level`, `judged` (what is shown of it), and `judgement`, where it is to be kept here.
CREATE OR REPLACE FUNCTION orchestrator.accept_message(wanted jsonb, policy text, generated boolean, step_ms bigint, alike_ms bigint,
                                            most bigint, OUT outcome text, OUT accepted orchestrator.messages, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    n orchestrator.messages := jsonb_populate_record(NULL::orchestrator.messages, wanted);
    account orchestrator.accounts;
    owned text[];
    due timestamptz;
BEGIN
    -- What was asked for before is answered as before, whatever has become of the accounts.
    SELECT * INTO accepted FROM orchestrator.messages
     WHERE user_id = n.user_id AND idempotency_key = n.idempotency_key AND id <> n.id;
    IF FOUND THEN
        outcome := CASE WHEN accepted.request_hash = n.request_hash THEN 'duplicate' ELSE 'mismatch' END;
        RETURN;
    END IF;
    IF n.account_id IS NULL THEN
        SELECT array_agg(id) INTO owned FROM orchestrator.accounts WHERE user_id = n.user_id;
        outcome := CASE coalesce(cardinality(owned), 0) WHEN 0 THEN 'no_account' WHEN 1 THEN NULL ELSE 'which_account' END;
        IF outcome IS NOT NULL THEN RETURN; END IF;
        n.account_id := owned[1];
    END IF;
    SELECT * INTO account FROM orchestrator.accounts WHERE id = n.account_id FOR UPDATE;
    outcome := CASE WHEN account.id IS NULL THEN 'no_account' WHEN account.user_id <> n.user_id THEN 'foreign' END;
    IF outcome IS NOT NULL THEN RETURN; END IF;

    SELECT * INTO accepted FROM orchestrator.messages WHERE id = n.id;
    IF FOUND THEN
        outcome := 'accepted';
    ELSE
        IF wanted -> 'verdict' = '"block"' THEN
            PERFORM orchestrator.note_judgement(nullif(wanted -> 'judgement', 'null') || jsonb_build_object('account_id', account.id));
            outcome := 'blocked';
            RETURN;
        END IF;
        IF n.idempotency_key IS NULL AND alike_ms > 0 THEN
            SELECT * INTO accepted FROM orchestrator.messages m
             WHERE m.account_id = n.account_id AND m.content_hash = n.content_hash
               AND m.created_at > now() - make_interval(secs => alike_ms / 1000.0)
               AND m.status NOT IN ('failed', 'cancelled', 'rejected')
             ORDER BY m.created_at LIMIT 1;
            IF FOUND THEN
                outcome := 'duplicate';
                RETURN;
            END IF;
        END IF;
        IF (SELECT count(*) FROM orchestrator.messages m
             WHERE m.account_id = n.account_id AND m.status IN ('awaiting_approval', 'queued', 'claimed')) >= most THEN
            outcome := 'full';
            RETURN;
        END IF;
        due := greatest(n.not_before, now());
        n.compliance_level := orchestrator.stricter(n.compliance_level, account.compliance_floor);
        INSERT INTO orchestrator.messages (
            id, account_id, user_id, requested_by, workflow_id, idempotency_key, request_hash, content_hash, recipient_id, content,
            message_type, priority, compliance_level, metadata, status, rank_at, not_before, retries_left, request_id, trace_id, judged)
        VALUES (
            n.id, n.account_id, n.user_id, n.requested_by, n.workflow_id, n.idempotency_key, n.request_hash, n.content_hash,
            n.recipient_id, n.content, n.message_type, n.priority, n.compliance_level, n.metadata,
            CASE WHEN policy = 'always' OR policy = 'strict' AND generated AND n.compliance_level = 'strict'
                      -- What the rules have a person look at, whatever the policy; and so what was judged before the floor was raised.
                      OR wanted -> 'verdict' = '"review"' OR wanted ->> 'judged_level' <> n.compliance_level
                 THEN 'awaiting_approval' ELSE 'queued' END,
            due + make_interval(secs => orchestrator.steps(n.priority) * step_ms / 1000.0), due,
            n.retries_left, n.request_id, n.trace_id, n.judged)
            ON CONFLICT (user_id, idempotency_key) DO NOTHING
        RETURNING * INTO accepted;
        IF NOT FOUND THEN
            -- The same key came at the same time.
            SELECT * INTO accepted FROM orchestrator.messages WHERE user_id = n.user_id AND idempotency_key = n.idempotency_key;
            outcome := CASE WHEN accepted.request_hash = n.request_hash THEN 'duplicate' ELSE 'mismatch' END;
            RETURN;
        END IF;
        PERFORM orchestrator.note_judgement(nullif(wanted -> 'judgement', 'null') || jsonb_build_object('account_id', account.id));
        outcome := 'accepted';
    END IF;
    wake_ms := orchestrator.wake(n.account_id);
END $$;

-- As V4 has it; with what was said of an edit (`judged`, and `judgement` for the log), and by which rules what is approved was judged.
DROP FUNCTION orchestrator.decide_message(text, text, text, text, text, bytea, text, smallint, bigint, text);
CREATE FUNCTION orchestrator.decide_message(of_message text, decision text, owner text, actor text, edit text, edit_hash bytea, why text,
                                            retries smallint, step_ms bigint, request text, judged jsonb DEFAULT NULL,
                                            judgement jsonb DEFAULT NULL, OUT outcome text, OUT decided orchestrator.messages,
                                            OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    was orchestrator.messages;
    -- In other words than those that were looked at, of which something was found: they wait for a second look.
    stays boolean;
BEGIN
    PERFORM FROM orchestrator.accounts a
      WHERE a.id = (SELECT account_id FROM orchestrator.messages WHERE id = of_message) FOR UPDATE;
    SELECT * INTO was FROM orchestrator.messages WHERE id = of_message FOR UPDATE;
    decided := was;
    stays := decision = 'approve' AND edit <> was.content AND decide_message.judged ->> 'verdict' = 'review';
    outcome := CASE
        WHEN was.id IS NULL THEN 'unknown'
        WHEN owner IS NOT NULL AND was.user_id <> owner THEN 'foreign'
        -- The same edit again is no second look.
        WHEN decision = 'approve' AND EXISTS (SELECT FROM orchestrator.audit_log l WHERE l.subject = 'message:' || of_message
                                                 AND l.action = 'message.edit' AND l.request_id = request) THEN 'same'
        WHEN decision IN ('approve', 'reject') AND was.status = 'awaiting_approval' THEN 'done'
        WHEN decision = 'cancel' AND was.status IN ('awaiting_approval', 'queued', 'claimed') THEN 'done'
        WHEN decision = 'resend' AND was.status = 'unknown' AND was.look_at IS NULL THEN 'done'
        WHEN decision = 'redrive' AND was.status = 'failed' AND was.dead_lettered THEN 'done'
        WHEN decision = 'cancel' AND was.status = 'cancelled' OR decision = 'reject' AND was.status = 'rejected' THEN 'same'
        -- It is approved once: whoever does so again, in the same words, has what he wants.
        WHEN decision = 'approve' AND was.status NOT IN ('cancelled', 'rejected')
             AND EXISTS (SELECT FROM orchestrator.audit_log l WHERE l.subject = 'message:' || of_message AND l.action = 'message.approve')
             AND coalesce(edit, was.content) = was.content THEN 'same'
        WHEN EXISTS (SELECT FROM orchestrator.audit_log l WHERE l.subject = 'message:' || of_message
                        AND l.action = 'message.' || decision AND l.request_id = request) THEN 'same'
        ELSE 'too_late' END;
    IF outcome <> 'done' THEN RETURN; END IF;

    UPDATE orchestrator.messages m
       SET status = CASE WHEN decision = 'cancel' AND orchestrator.may_have_arrived(of_message, 0::smallint) THEN 'unknown'
                         WHEN decision = 'cancel' THEN 'cancelled' WHEN decision = 'reject' THEN 'rejected'
                         WHEN stays THEN 'awaiting_approval' ELSE 'queued' END,
           content = coalesce(edit, m.content), content_hash = coalesce(edit_hash, m.content_hash),
           judged = coalesce(decide_message.judged, m.judged),
           failure = CASE WHEN decision IN ('reject', 'cancel') THEN m.failure END, dead_lettered = false,
           retries_left = CASE WHEN decision IN ('resend', 'redrive') THEN retries ELSE m.retries_left END,
           session_refreshed = false,
           not_before = CASE WHEN decision IN ('resend', 'redrive') THEN now() ELSE m.not_before END,
           -- It waited for a person, not for its turn.
           rank_at = CASE WHEN decision IN ('approve', 'resend', 'redrive')
                          THEN greatest(m.not_before, now()) + make_interval(secs => orchestrator.steps(m.priority) * step_ms / 1000.0)
                          ELSE m.rank_at END,
           claimed_until = NULL,
           settled_at = CASE WHEN decision IN ('reject', 'cancel') THEN now() END
     WHERE m.id = of_message
    RETURNING * INTO decided;
    INSERT INTO orchestrator.audit_log (actor, action, subject, before, after, reason, request_id)
    VALUES (actor, CASE WHEN stays THEN 'message.edit' ELSE 'message.' || decision END, 'message:' || of_message,
            jsonb_strip_nulls(jsonb_build_object('status', was.status, 'content', CASE WHEN edit IS NOT NULL THEN was.content END)),
            jsonb_strip_nulls(jsonb_build_object('status', decided.status, 'content', edit, 'verdict', decided.judged -> 'verdict',
                                                 'ruleVersion', decided.judged -> 'ruleVersion')), why, request);
    PERFORM orchestrator.note_judgement(judgement);
    wake_ms := orchestrator.wake(decided.account_id);
END $$;

-- What people set of an account, as the audit log keeps it.
CREATE FUNCTION orchestrator.account_settings(a orchestrator.accounts) RETURNS jsonb
    LANGUAGE sql IMMUTABLE RETURN jsonb_build_object(
        'status', a.status, 'complianceFloor', a.compliance_floor, 'limits', a.limits, 'reason', a.paused_reason,
        'customWords', a.custom_words, 'allowedWords', a.allowed_words, 'aiDisclosure', a.ai_disclosure);

-- As V4 has it; with the account's words and its disclosure.
CREATE OR REPLACE FUNCTION orchestrator.set_account(of_account text, owner text, change jsonb, actor text, administrator boolean, most bigint,
                                         request text, OUT outcome text, OUT account orchestrator.accounts, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    was orchestrator.accounts;
    wanted orchestrator.accounts;
BEGIN
    IF NOT EXISTS (SELECT FROM orchestrator.accounts a WHERE a.id = of_account) THEN
        INSERT INTO orchestrator.users (id) VALUES (owner) ON CONFLICT DO NOTHING;
        -- One after the other: each counts those before it.
        PERFORM FROM orchestrator.users u WHERE u.id = owner FOR NO KEY UPDATE;
        IF (SELECT count(*) FROM orchestrator.accounts a WHERE a.user_id = owner) >= most THEN
            outcome := 'full';
            RETURN;
        END IF;
        INSERT INTO orchestrator.accounts (id, user_id) VALUES (of_account, owner) ON CONFLICT DO NOTHING;
        outcome := CASE WHEN FOUND THEN 'created' END;
    END IF;
    SELECT * INTO was FROM orchestrator.accounts WHERE id = of_account FOR UPDATE;
    account := was;
    IF was.user_id <> owner THEN
        outcome := 'foreign';
        account := NULL;
        RETURN;
    END IF;
    wanted := jsonb_populate_record(was, change);
    IF was.held AND NOT administrator AND wanted.status = 'active' THEN
        outcome := 'held';
        account := NULL;
        RETURN;
    END IF;
    wanted.held := wanted.status = 'paused' AND (was.held OR administrator AND change ? 'status');
    -- What holds it is not lost among an owner's words.
    IF was.held AND NOT administrator THEN
        wanted.paused_reason := was.paused_reason;
    END IF;
    IF outcome IS NULL AND (wanted.status, wanted.held, wanted.paused_reason, wanted.compliance_floor, wanted.limits,
                            wanted.custom_words, wanted.allowed_words, wanted.ai_disclosure)
                           IS NOT DISTINCT FROM (was.status, was.held, was.paused_reason, was.compliance_floor, was.limits,
                                                 was.custom_words, was.allowed_words, was.ai_disclosure) THEN
        outcome := 'same';
        RETURN;
    END IF;
    UPDATE orchestrator.accounts a
       SET status = wanted.status, held = wanted.held, paused_reason = wanted.paused_reason, compliance_floor = wanted.compliance_floor,
           limits = wanted.limits, custom_words = wanted.custom_words, allowed_words = wanted.allowed_words,
           ai_disclosure = wanted.ai_disclosure, updated_at = now(),
           -- Who lets it go on again has looked at what stopped it.
           refusals = CASE WHEN was.status = 'paused' THEN 0 ELSE a.refusals END,
           -- The limiter is asked anew.
           limited_until = CASE WHEN wanted.limits IS DISTINCT FROM was.limits THEN NULL ELSE a.limited_until END
     WHERE a.id = of_account
    RETURNING * INTO account;
    INSERT INTO orchestrator.audit_log (actor, action, subject, before, after, request_id)
    VALUES (actor, CASE WHEN outcome IS NULL THEN 'account.change' ELSE 'account.create' END, 'account:' || of_account,
            CASE WHEN outcome IS NULL THEN orchestrator.account_settings(was) END, orchestrator.account_settings(account), request);
    outcome := coalesce(outcome, 'changed');
    wake_ms := orchestrator.wake(of_account);
END $$;
