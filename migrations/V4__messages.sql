-- Messages to fans. A row is the truth of its message; a queue's message is only the hint to look (ADR 0014).
--
--   awaiting_approval → queued → claimed → sending → sent · failed · unknown
--
-- Every write behind `queued` names the claim's fence: who was overtaken changes nothing, but that a message was sent counts whoever
-- says so. `sending` is the point of no return: from there on only what the platform says decides.
--
-- Every function here locks the account's row first, and so has all below it to itself: its messages, attempts and letters. What is
-- locked before it: the letter, where one is redriven; the user, where an account is made. Behind it: limiter_logs, by their subject.

-- An account's own state. It is woken at one time at most: who makes a message due says so here, and only an earlier time is
-- a further hint on the queue.
ALTER TABLE orchestrator.accounts
    ADD COLUMN status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused')),
    -- Why it is paused, or was last: a person's words, or one of ours.
    ADD COLUMN paused_reason text,
    -- An administrator paused it: only an administrator lets it go on.
    ADD COLUMN held boolean NOT NULL DEFAULT false,
    -- Limits in place of the configuration's, an object of their names.
    ADD COLUMN limits jsonb NOT NULL DEFAULT '{}',
    -- Nothing is sent before: the platform or the breaker said so, or a store was away.
    ADD COLUMN resume_at timestamptz,
    -- Nor before this: the limiter said so. It is forgotten when the account's limits are changed.
    ADD COLUMN limited_until timestamptz,
    -- Ends in a row at which the platform was not well: the breaker's count.
    ADD COLUMN failures smallint NOT NULL DEFAULT 0,
    -- Refusals in a row (403).
    ADD COLUMN refusals smallint NOT NULL DEFAULT 0,
    -- When the queue's hint comes that is under way.
    ADD COLUMN wake_at timestamptz,
    -- Its user id on the platform, as the platform said of its session. Two accounts with one of it would have its limits twice.
    ADD COLUMN platform_user_id text UNIQUE,
    -- When its session was kept last.
    ADD COLUMN session_at timestamptz,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX accounts_by_time ON orchestrator.accounts (created_at DESC, id DESC);

CREATE TABLE orchestrator.messages (
    id                text PRIMARY KEY,
    account_id        text NOT NULL REFERENCES orchestrator.accounts,
    user_id           text NOT NULL REFERENCES orchestrator.users,
    requested_by      text NOT NULL,
    -- Of the workflow whose text it is.
    workflow_id       text UNIQUE REFERENCES orchestrator.workflows,
    idempotency_key   text,
    request_hash      bytea NOT NULL,
    -- Of account, recipient and text: without a key, what is alike within some minutes is one message.
    content_hash      bytea NOT NULL,
    recipient_id      text NOT NULL,
    content           text NOT NULL CHECK (char_length(content) BETWEEN 1 AND 1000),
    message_type      text NOT NULL CHECK (message_type IN ('welcome', 'follow_up', 'promotional', 'custom')),
    priority          text NOT NULL CHECK (priority IN ('low', 'medium', 'high', 'critical')),
    compliance_level  text NOT NULL CHECK (compliance_level IN ('strict', 'moderate', 'relaxed')),
    metadata          jsonb,
    status            text NOT NULL CHECK (status IN ('awaiting_approval', 'queued', 'claimed', 'sending', 'sent', 'failed',
                                                      'unknown', 'cancelled', 'rejected')),
    -- Raised by each claim.
    fence             bigint NOT NULL DEFAULT 0,
    claimed_by        text,
    claimed_until     timestamptz,
    -- Its place among those that are due: a step of priority is so much of waiting, so that none waits for ever.
    rank_at           timestamptz NOT NULL,
    not_before        timestamptz NOT NULL,
    -- Attempts that were begun, and how many of them may still be followed by another.
    attempts          smallint NOT NULL DEFAULT 0,
    retries_left      smallint NOT NULL,
    -- The session was read again for it after the platform had refused it.
    session_refreshed boolean NOT NULL DEFAULT false,
    throttled         integer NOT NULL DEFAULT 0,
    failure           text,
    dead_lettered     boolean NOT NULL DEFAULT false,
    platform_id       text,
    -- Of one whose end is not known: looks at the conversation so far, and when the next is due. None due: a person decides.
    looks             smallint NOT NULL DEFAULT 0,
    blind_looks       smallint NOT NULL DEFAULT 0,
    look_at           timestamptz,
    request_id        text NOT NULL,
    trace_id          text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    settled_at        timestamptz,
    -- Raised by every change that is shown: DynamoDB's tables hold the message as of a version.
    version           bigint NOT NULL DEFAULT 1,
    changed_at        timestamptz NOT NULL DEFAULT now(),
    projected         bigint NOT NULL DEFAULT 0,
    UNIQUE (user_id, idempotency_key)
);
-- What is due of an account, in its order.
CREATE INDEX messages_waiting ON orchestrator.messages (account_id, rank_at, id) WHERE status = 'queued';
CREATE INDEX messages_due ON orchestrator.messages (not_before) WHERE status = 'queued';
CREATE INDEX messages_in_hand ON orchestrator.messages (account_id, claimed_until) WHERE status IN ('claimed', 'sending');
CREATE INDEX messages_to_look_for ON orchestrator.messages (look_at) WHERE status = 'unknown' AND look_at IS NOT NULL;
CREATE INDEX messages_alike ON orchestrator.messages (account_id, content_hash, created_at);
CREATE INDEX messages_by_user ON orchestrator.messages (user_id, created_at DESC, id DESC);
-- What is rare among them, and looked for.
CREATE INDEX messages_by_user_not_sent ON orchestrator.messages (user_id, created_at DESC, id DESC) WHERE status <> 'sent';
CREATE INDEX messages_to_project ON orchestrator.messages (changed_at) WHERE projected < version;
-- A fan's conversation, and an account's day.
CREATE INDEX messages_of_thread ON orchestrator.messages (account_id, recipient_id, created_at);
CREATE INDEX messages_of_day ON orchestrator.messages (account_id, created_at);
-- One message of the platform is one of ours.
CREATE UNIQUE INDEX messages_by_platform_id ON orchestrator.messages (account_id, platform_id) WHERE platform_id IS NOT NULL;

-- A status as it is shown: a claim is no news for anybody outside.
CREATE FUNCTION orchestrator.shown_status(status text) RETURNS text
    LANGUAGE sql IMMUTABLE RETURN CASE status WHEN 'claimed' THEN 'queued' ELSE status END;

CREATE FUNCTION orchestrator.count_version() RETURNS trigger
    LANGUAGE plpgsql AS $$
BEGIN
    NEW.version := OLD.version + 1;
    NEW.changed_at := now();
    RETURN NEW;
END $$;
CREATE TRIGGER count_version BEFORE UPDATE ON orchestrator.messages
    FOR EACH ROW WHEN ((orchestrator.shown_status(OLD.status), OLD.content, OLD.failure, OLD.platform_id, OLD.settled_at)
        IS DISTINCT FROM (orchestrator.shown_status(NEW.status), NEW.content, NEW.failure, NEW.platform_id, NEW.settled_at))
    EXECUTE FUNCTION orchestrator.count_version();

-- One call of the platform. Written before its bytes leave.
CREATE TABLE orchestrator.message_attempts (
    message_id   text NOT NULL REFERENCES orchestrator.messages,
    attempt      smallint NOT NULL,
    account_id   text NOT NULL,
    user_id      text NOT NULL,
    recipient_id text NOT NULL,
    message_type text NOT NULL,
    began_at     timestamptz NOT NULL DEFAULT now(),
    -- The last moment at which it can have reached the fan: the limits count it from here.
    counts_until timestamptz NOT NULL,
    -- The limiter only watched, and would have denied it.
    watched      boolean NOT NULL DEFAULT false,
    outcome      text NOT NULL DEFAULT 'sending' CHECK (outcome IN ('sending', 'sent', 'refused', 'failed', 'unknown')),
    reason       text,
    http_status  smallint,
    ended_at     timestamptz,
    PRIMARY KEY (message_id, attempt)
);
CREATE INDEX message_attempts_by_account ON orchestrator.message_attempts (account_id, counts_until);
CREATE INDEX message_attempts_by_user ON orchestrator.message_attempts (user_id, counts_until);
CREATE INDEX message_attempts_by_time ON orchestrator.message_attempts (counts_until);

-- What somebody has to be told of a message, and was not yet. Its id is the notification's.
CREATE TABLE orchestrator.message_notices (
    id         text PRIMARY KEY,
    kind       text NOT NULL CHECK (kind IN ('account_paused', 'message_given_up', 'message_unknown')),
    message_id text NOT NULL REFERENCES orchestrator.messages,
    reason     text,
    noted_at   timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX message_notices_by_message ON orchestrator.message_notices (message_id);

-- Denials of the limiter, counted by the hour.
CREATE TABLE orchestrator.limiter_denials (
    account_id text NOT NULL,
    user_id    text NOT NULL,
    layer      text NOT NULL,
    hour       timestamptz NOT NULL,
    denials    bigint NOT NULL DEFAULT 0,
    PRIMARY KEY (hour, account_id, layer)
);
CREATE INDEX limiter_denials_by_user ON orchestrator.limiter_denials (user_id, hour);

-- What was given up: a message whose retries are used up, or a hint that could not be handled.
CREATE TABLE orchestrator.dead_letters (
    id          text PRIMARY KEY,
    kind        text NOT NULL CHECK (kind IN ('message', 'hint')),
    account_id  text,
    message_id  text,
    reason      text NOT NULL,
    body        text,
    status      text NOT NULL DEFAULT 'open' CHECK (status IN ('open', 'redriven')),
    received_at timestamptz NOT NULL DEFAULT now(),
    decided_at  timestamptz,
    decided_by  text
);
CREATE INDEX dead_letters_by_time ON orchestrator.dead_letters (received_at DESC, id DESC);

-- How much of waiting a priority is worth, in steps: the place among what is due is the moment of being due plus these.
CREATE FUNCTION orchestrator.steps(priority text) RETURNS integer
    LANGUAGE sql IMMUTABLE RETURN CASE priority WHEN 'critical' THEN 0 WHEN 'high' THEN 1 WHEN 'medium' THEN 2 ELSE 3 END;

-- The stricter of two levels.
CREATE FUNCTION orchestrator.stricter(one text, other text) RETURNS text
    LANGUAGE sql IMMUTABLE RETURN CASE WHEN 'strict' IN (one, other) THEN 'strict' WHEN 'moderate' IN (one, other) THEN 'moderate'
        ELSE 'relaxed' END;

-- When an account is to be looked at next, in milliseconds from now, where a hint is to be put on the queue for it; NULL where
-- one is under way, or nothing is due within a queue's longest delay.
-- The account's row is locked by the caller.
CREATE FUNCTION orchestrator.wake(of_account text) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    due timestamptz;
    account orchestrator.accounts;
BEGIN
    SELECT * INTO account FROM orchestrator.accounts WHERE id = of_account;
    -- Mind that greatest() and least() pass over what is NULL.
    SELECT min(w.at) INTO due
      FROM (SELECT greatest(m.not_before, account.resume_at, account.limited_until) AS at FROM orchestrator.messages m
             WHERE m.account_id = of_account AND m.status = 'queued' AND account.status = 'active'
               AND NOT EXISTS (SELECT FROM orchestrator.messages h
                                WHERE h.account_id = of_account AND h.status IN ('claimed', 'sending') AND h.claimed_until > now())
             UNION ALL
            -- Whoever has a message in hand asks again when it is done with, unless it dies.
            SELECT h.claimed_until FROM orchestrator.messages h
             WHERE h.account_id = of_account AND h.status IN ('claimed', 'sending')
             UNION ALL
            SELECT greatest(m.look_at, account.resume_at) FROM orchestrator.messages m
             WHERE m.account_id = of_account AND m.status = 'unknown' AND m.look_at IS NOT NULL) w;
    IF due IS NULL THEN RETURN NULL; END IF;
    due := greatest(due, now());
    -- A hint that has been due for a minute was lost.
    IF due > now() + interval '15 minutes'
       OR account.wake_at <= due + interval '1 second' AND account.wake_at > now() - interval '1 minute' THEN
        RETURN NULL;
    END IF;
    UPDATE orchestrator.accounts SET wake_at = due WHERE id = of_account;
    RETURN ceil(extract(epoch FROM due - now()) * 1000);
END $$;

-- Takes a message on: an object of its columns, of which `account_id` may be absent where the user has one account only.
-- policy: `strict`, `always` or `never`; generated: whether a machine wrote it; alike_ms: for how long the same is one message
-- where it has no key; most: how many may wait of an account (NULL: any number).
-- outcome: `accepted`, `duplicate` (its key's, or alike), `mismatch` (its key with another request), `no_account`, `which_account`,
-- `foreign`, `full`. accepted: the message. Sent twice, it is one.
CREATE FUNCTION orchestrator.accept_message(wanted jsonb, policy text, generated boolean, step_ms bigint, alike_ms bigint,
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
            message_type, priority, compliance_level, metadata, status, rank_at, not_before, retries_left, request_id, trace_id)
        VALUES (
            n.id, n.account_id, n.user_id, n.requested_by, n.workflow_id, n.idempotency_key, n.request_hash, n.content_hash,
            n.recipient_id, n.content, n.message_type, n.priority, n.compliance_level, n.metadata,
            CASE WHEN policy = 'always' OR policy = 'strict' AND generated AND n.compliance_level = 'strict'
                 THEN 'awaiting_approval' ELSE 'queued' END,
            due + make_interval(secs => orchestrator.steps(n.priority) * step_ms / 1000.0), due,
            n.retries_left, n.request_id, n.trace_id)
            ON CONFLICT (user_id, idempotency_key) DO NOTHING
        RETURNING * INTO accepted;
        IF NOT FOUND THEN
            -- The same key came at the same time.
            SELECT * INTO accepted FROM orchestrator.messages WHERE user_id = n.user_id AND idempotency_key = n.idempotency_key;
            outcome := CASE WHEN accepted.request_hash = n.request_hash THEN 'duplicate' ELSE 'mismatch' END;
            RETURN;
        END IF;
        outcome := 'accepted';
    END IF;
    wake_ms := orchestrator.wake(n.account_id);
END $$;

-- Puts back what a worker had in hand for longer than its lease: nothing was sent of what is claimed; what is being sent may
-- have arrived. The account's row is locked by the caller.
CREATE FUNCTION orchestrator.expire(of_account text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orchestrator.message_attempts t SET outcome = 'unknown', reason = 'interrupted', ended_at = now()
      FROM orchestrator.messages m
     WHERE m.account_id = of_account AND m.status = 'sending' AND m.claimed_until <= now()
       AND t.message_id = m.id AND t.attempt = m.attempts AND t.outcome = 'sending';
    UPDATE orchestrator.messages m
       SET status = CASE m.status WHEN 'claimed' THEN 'queued' ELSE 'unknown' END,
           failure = CASE m.status WHEN 'claimed' THEN m.failure ELSE 'interrupted' END,
           look_at = CASE m.status WHEN 'claimed' THEN NULL ELSE now() END,
           settled_at = CASE m.status WHEN 'claimed' THEN NULL ELSE now() END,
           looks = 0, blind_looks = 0, claimed_until = NULL
     WHERE m.account_id = of_account AND m.status IN ('claimed', 'sending') AND m.claimed_until <= now();
END $$;

-- Takes the first message of an account that is due, unless one of it is in hand. claimant: unlike any other's; who sends this
-- again is given the same message.
-- outcome: `claimed`, or why not: `none`, `busy`, `paused`, `later` (the account waits); wake_ms: then as `wake`.
CREATE FUNCTION orchestrator.claim_message(of_account text, claimant text, lease_ms bigint, OUT outcome text,
                                           OUT claimed orchestrator.messages, OUT limits jsonb, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    account orchestrator.accounts;
BEGIN
    SELECT * INTO account FROM orchestrator.accounts WHERE id = of_account FOR UPDATE;
    -- This is the hint that was under way.
    UPDATE orchestrator.accounts SET wake_at = NULL WHERE id = of_account AND wake_at <= now() + interval '1 second';
    PERFORM orchestrator.expire(of_account);
    limits := account.limits;
    SELECT * INTO claimed FROM orchestrator.messages m WHERE m.account_id = of_account AND m.status IN ('claimed', 'sending');
    IF FOUND THEN
        outcome := CASE WHEN claimed.status = 'claimed' AND claimed.claimed_by = claimant THEN 'claimed' ELSE 'busy' END;
        RETURN;
    END IF;
    outcome := CASE WHEN account.status <> 'active' THEN 'paused' WHEN greatest(account.resume_at, account.limited_until) > now() THEN 'later' END;
    IF outcome IS NOT NULL THEN
        wake_ms := orchestrator.wake(of_account);
        RETURN;
    END IF;

    UPDATE orchestrator.messages m
       SET status = 'claimed', fence = m.fence + 1, claimed_by = claimant,
           claimed_until = now() + make_interval(secs => lease_ms / 1000.0)
     WHERE m.id = (SELECT d.id FROM orchestrator.messages d
                    WHERE d.account_id = of_account AND d.status = 'queued' AND d.not_before <= now()
                    ORDER BY d.rank_at, d.id LIMIT 1 FOR UPDATE SKIP LOCKED)
    RETURNING * INTO claimed;
    outcome := CASE WHEN FOUND THEN 'claimed' ELSE 'none' END;
    wake_ms := CASE outcome WHEN 'none' THEN orchestrator.wake(of_account) END;
END $$;

-- The point of no return: the attempt is written down before its bytes leave, and is counted for so long. generations: those of
-- the limiter's logs that granted it; denied: the layers that would not have, while the limiter only watches.
-- outcome: `sending`; `fenced` (the message is not the claimant's any more, or cancelled), `paused`, or `forgotten`: the limiter
-- has lost its memory since.
CREATE FUNCTION orchestrator.begin_sending(of_message text, of_fence bigint, of_attempt smallint, generations jsonb, hold_ms bigint,
                                           lease_ms bigint, denied text[] DEFAULT '{}') RETURNS text
    LANGUAGE plpgsql AS $$
DECLARE
    m orchestrator.messages;
    account_status text;
BEGIN
    SELECT a.status INTO account_status FROM orchestrator.accounts a
     WHERE a.id = (SELECT account_id FROM orchestrator.messages WHERE id = of_message) FOR SHARE;
    SELECT * INTO m FROM orchestrator.messages WHERE id = of_message FOR UPDATE;
    IF m.fence IS DISTINCT FROM of_fence THEN RETURN 'fenced'; END IF;
    -- Sent twice.
    IF m.status = 'sending' AND m.attempts = of_attempt THEN RETURN 'sending'; END IF;
    IF m.status <> 'claimed' OR m.claimed_until <= now() OR m.attempts + 1 <> of_attempt THEN RETURN 'fenced'; END IF;
    IF account_status <> 'active' THEN RETURN 'paused'; END IF;
    IF NOT orchestrator.permits_hold(generations) THEN RETURN 'forgotten'; END IF;
    UPDATE orchestrator.messages
       SET status = 'sending', attempts = of_attempt, claimed_until = now() + make_interval(secs => lease_ms / 1000.0)
     WHERE id = of_message;
    INSERT INTO orchestrator.message_attempts (message_id, attempt, account_id, user_id, recipient_id, message_type, counts_until,
                                               watched)
    VALUES (m.id, of_attempt, m.account_id, m.user_id, m.recipient_id, m.message_type,
            now() + make_interval(secs => hold_ms / 1000.0), cardinality(denied) > 0);
    PERFORM orchestrator.count_denials(m, denied);
    RETURN 'sending';
END $$;

-- Counts that these layers of the limiter had no room for a message.
CREATE FUNCTION orchestrator.count_denials(m orchestrator.messages, denied text[]) RETURNS void
    LANGUAGE sql AS $$
    INSERT INTO orchestrator.limiter_denials AS d (account_id, user_id, layer, hour, denials)
    SELECT m.account_id, m.user_id, layer, date_trunc('hour', now()), 1 FROM unnest(denied) layer ORDER BY layer
        ON CONFLICT (hour, account_id, layer) DO UPDATE SET denials = d.denials + 1
$$;

-- Gives a claimed message back: nothing was sent. message_ms: it waits so long; account_ms: all of the account do; NULL: no longer
-- than before. denied: the limiter's layers that said so. Returns as `wake`; where it is not the claimant's any more, nothing
-- changes.
CREATE FUNCTION orchestrator.release_message(of_message text, of_fence bigint, message_ms bigint, account_ms bigint, denied text[])
    RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    m orchestrator.messages;
BEGIN
    PERFORM FROM orchestrator.accounts a
      WHERE a.id = (SELECT account_id FROM orchestrator.messages WHERE id = of_message) FOR UPDATE;
    UPDATE orchestrator.messages n
       SET status = 'queued', claimed_until = NULL,
           not_before = greatest(n.not_before, now() + make_interval(secs => message_ms / 1000.0)),
           throttled = n.throttled + CASE WHEN cardinality(denied) > 0 THEN 1 ELSE 0 END
     WHERE n.id = of_message AND n.fence = of_fence AND n.status = 'claimed'
    RETURNING * INTO m;
    IF FOUND THEN
        UPDATE orchestrator.accounts a
           SET resume_at = CASE WHEN cardinality(denied) > 0 THEN a.resume_at
                                ELSE greatest(a.resume_at, now() + make_interval(secs => account_ms / 1000.0)) END,
               limited_until = CASE WHEN cardinality(denied) > 0
                                    THEN greatest(a.limited_until, now() + make_interval(secs => account_ms / 1000.0))
                                    ELSE a.limited_until END
         WHERE a.id = m.account_id AND account_ms IS NOT NULL;
        -- What waits for the same fan, is of the same type, or for one more fan where there are enough, would be denied one by one.
        UPDATE orchestrator.messages o
           SET not_before = greatest(o.not_before, m.not_before)
         WHERE o.account_id = m.account_id AND o.status = 'queued' AND o.not_before < m.not_before AND message_ms IS NOT NULL
           AND (o.recipient_id = m.recipient_id AND EXISTS (SELECT FROM unnest(denied) layer WHERE layer LIKE 'recipient\_%')
                OR 'recipients_hour' = ANY (denied)
                   AND NOT EXISTS (SELECT FROM orchestrator.message_attempts t
                                    WHERE t.account_id = o.account_id AND t.recipient_id = o.recipient_id
                                      AND t.counts_until > now() - interval '1 hour')
                OR o.message_type = m.message_type AND EXISTS (SELECT FROM unnest(denied) layer WHERE layer LIKE m.message_type || '\_%'));
        PERFORM orchestrator.count_denials(m, denied);
    END IF;
    RETURN orchestrator.wake((SELECT account_id FROM orchestrator.messages WHERE id = of_message));
END $$;

-- Whether another attempt of a message than this may have reached its fan: it was sent again by a person who could not know.
CREATE FUNCTION orchestrator.may_have_arrived(of_message text, but_for smallint) RETURNS boolean
    LANGUAGE sql STABLE RETURN EXISTS (
        SELECT FROM orchestrator.message_attempts t
         WHERE t.message_id = of_message AND t.attempt <> but_for AND t.outcome = 'unknown');

-- Keeps that somebody has to be told of a message: `account_paused`, `message_given_up` or `message_unknown`. Kept in the transaction
-- that makes it so, told behind it, and by the sweep where that was missed.
CREATE FUNCTION orchestrator.note(m orchestrator.messages, what text, why text) RETURNS void
    LANGUAGE sql AS $$
    INSERT INTO orchestrator.message_notices (id, kind, message_id, reason)
    VALUES (what || '#' || m.id || '#' || m.fence, what, m.id, why) ON CONFLICT DO NOTHING
$$;

-- Pauses the account of a message, for which it is. The account's row is locked by the caller.
CREATE FUNCTION orchestrator.pause_account(m orchestrator.messages, why text) RETURNS void
    LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orchestrator.accounts SET status = 'paused', paused_reason = why, updated_at = now()
     WHERE id = m.account_id AND status = 'active';
    IF NOT FOUND THEN RETURN; END IF;
    INSERT INTO orchestrator.audit_log (actor, action, subject, before, after, reason, request_id)
    VALUES ('message-sender', 'account.pause', 'account:' || m.account_id, '{"status": "active"}', '{"status": "paused"}', why,
            m.request_id);
    PERFORM orchestrator.note(m, 'account_paused', why);
END $$;

-- Gives a claimed message back, and pauses its account: without a person nothing of it can be sent. Returns as `wake`.
CREATE FUNCTION orchestrator.pause_sending(of_message text, of_fence bigint, why text) RETURNS bigint
    LANGUAGE plpgsql AS $$
DECLARE
    m orchestrator.messages;
BEGIN
    PERFORM FROM orchestrator.accounts a
      WHERE a.id = (SELECT account_id FROM orchestrator.messages WHERE id = of_message) FOR UPDATE;
    UPDATE orchestrator.messages n SET status = 'queued', claimed_until = NULL
     WHERE n.id = of_message AND n.fence = of_fence AND n.status = 'claimed'
    RETURNING * INTO m;
    IF FOUND THEN PERFORM orchestrator.pause_account(m, why); END IF;
    RETURN orchestrator.wake((SELECT account_id FROM orchestrator.messages WHERE id = of_message));
END $$;

-- What an attempt's end says of its account: `health` (`well`, `unwell` or absent), `forbidden`, `account_ms` (it waits so long), `pause`
-- (it is paused for that reason). most_failures in a row open the breaker for open_ms; most_refusals pause. The account's row is
-- locked by the caller.
CREATE FUNCTION orchestrator.note_health(m orchestrator.messages, ending jsonb, most_failures bigint, open_ms bigint, most_refusals bigint)
    RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    account orchestrator.accounts;
BEGIN
    SELECT * INTO account FROM orchestrator.accounts a WHERE a.id = m.account_id;
    account.failures := CASE ending ->> 'health' WHEN 'well' THEN 0 WHEN 'unwell' THEN least(account.failures + 1, 1000)
                                                 ELSE account.failures END;
    account.refusals := CASE WHEN (ending ->> 'forbidden')::boolean THEN least(account.refusals + 1, 1000)
                             WHEN ending ->> 'health' = 'well' THEN 0 ELSE account.refusals END;
    UPDATE orchestrator.accounts a
       SET failures = account.failures, refusals = account.refusals,
           resume_at = greatest(a.resume_at, now() + make_interval(secs => (ending ->> 'account_ms')::bigint / 1000.0),
                                CASE WHEN ending ->> 'health' = 'unwell' AND account.failures >= most_failures
                                     THEN now() + make_interval(secs => open_ms / 1000.0) END)
     WHERE a.id = m.account_id;
    IF ending ->> 'pause' IS NOT NULL OR account.refusals >= most_refusals THEN
        PERFORM orchestrator.pause_account(m, coalesce(ending ->> 'pause', 'forbidden'));
    END IF;
END $$;

-- Ends an attempt. ending: `outcome` (`sent`, `retry`, `failed`, `unknown`), `platform_id`, `reason`, `http_status`; `wait_ms`
-- before the retry, `counted` false where it takes none of the retries; `refreshed`: the session is to be read again for it;
-- `look_ms` before the first look; and what `note_health` reads.
-- settled: whether this did it (or the same, sent twice); status: the message's; letter: its retries are used up, and this is the
-- dead letter; noted: somebody has to be told.
CREATE FUNCTION orchestrator.settle_message(of_message text, of_fence bigint, of_attempt smallint, ending jsonb, most_failures bigint,
                                            open_ms bigint, most_refusals bigint, OUT settled boolean, OUT status text,
                                            OUT letter text, OUT noted boolean, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    m orchestrator.messages;
    dead boolean := false;
    ended text := ending ->> 'outcome';
    counted boolean := coalesce((ending ->> 'counted')::boolean, true);
    identity text := ending ->> 'platform_id';
    due timestamptz := now() + make_interval(secs => (ending ->> 'wait_ms')::bigint / 1000.0);
BEGIN
    PERFORM FROM orchestrator.accounts a
      WHERE a.id = (SELECT n.account_id FROM orchestrator.messages n WHERE n.id = of_message) FOR UPDATE;
    SELECT * INTO m FROM orchestrator.messages n WHERE n.id = of_message FOR UPDATE;
    status := m.status;
    settled := m.fence = of_fence AND m.attempts = of_attempt AND m.status = 'sending';
    IF NOT settled THEN
        -- Sent twice, or too late: what was found interrupted is now known after all, if it was sent.
        settled := EXISTS (SELECT FROM orchestrator.message_attempts t
                            WHERE t.message_id = of_message AND t.attempt = of_attempt
                              AND t.outcome = CASE ended WHEN 'retry' THEN 'failed' WHEN 'failed' THEN 'refused' ELSE ended END);
        -- That it was sent counts whatever was decided meanwhile, as long as nothing else of it was begun.
        IF settled OR NOT (m.attempts = of_attempt
                           AND (m.fence = of_fence AND m.status = 'unknown' AND ended <> 'unknown'
                                OR ended = 'sent' AND m.status IN ('queued', 'claimed', 'unknown', 'cancelled', 'failed'))) THEN
            noted := EXISTS (SELECT FROM orchestrator.message_notices t WHERE t.message_id = of_message);
            letter := CASE WHEN settled THEN (SELECT l.id FROM orchestrator.dead_letters l
                                               WHERE l.id = 'message:' || of_message || '#' || of_fence) END;
            wake_ms := orchestrator.wake(m.account_id);
            RETURN;
        END IF;
        settled := true;
    END IF;

    IF ended = 'retry' AND counted AND m.retries_left = 0 THEN
        dead := true;
        ended := 'failed';
    END IF;
    IF ended = 'failed' AND orchestrator.may_have_arrived(of_message, of_attempt) THEN
        dead := false;
        ended := 'unknown';
    END IF;
    UPDATE orchestrator.message_attempts t
       SET outcome = CASE ending ->> 'outcome' WHEN 'retry' THEN 'failed' WHEN 'failed' THEN 'refused' ELSE ending ->> 'outcome' END,
           reason = ending ->> 'reason', http_status = (ending ->> 'http_status')::smallint, ended_at = now(),
           counts_until = least(t.counts_until, now())
     WHERE t.message_id = of_message AND t.attempt = of_attempt;
    IF identity IS NOT NULL AND EXISTS (SELECT FROM orchestrator.messages o
                                         WHERE o.account_id = m.account_id AND o.platform_id = identity AND o.id <> m.id) THEN
        identity := NULL;
    END IF;
    UPDATE orchestrator.messages n
       SET status = CASE ended WHEN 'retry' THEN 'queued' ELSE ended END,
           failure = CASE ended WHEN 'sent' THEN NULL ELSE ending ->> 'reason' END,
           platform_id = coalesce(identity, n.platform_id), dead_lettered = dead,
           retries_left = n.retries_left - CASE WHEN ended = 'retry' AND counted THEN 1 ELSE 0 END,
           session_refreshed = n.session_refreshed OR coalesce((ending ->> 'refreshed')::boolean, false),
           not_before = CASE ended WHEN 'retry' THEN due ELSE n.not_before END,
           -- Whom the platform holds up gets into line anew: it may be one fan, and the others go on.
           rank_at = n.rank_at + CASE WHEN ended = 'retry' AND ending ->> 'account_ms' IS NOT NULL
                                      THEN greatest(due - n.not_before, interval '0') ELSE interval '0' END,
           looks = 0, blind_looks = 0,
           look_at = CASE ended WHEN 'unknown' THEN now() + make_interval(secs => (ending ->> 'look_ms')::bigint / 1000.0) END,
           claimed_until = NULL, settled_at = CASE ended WHEN 'retry' THEN NULL ELSE now() END
     WHERE n.id = of_message
    RETURNING n.status INTO status;
    -- Nobody looks for it: a person decides.
    IF ended = 'unknown' AND ending ->> 'look_ms' IS NULL THEN PERFORM orchestrator.note(m, 'message_unknown', ending ->> 'reason'); END IF;
    IF dead THEN
        letter := 'message:' || of_message || '#' || of_fence;
        INSERT INTO orchestrator.dead_letters (id, kind, account_id, message_id, reason)
        VALUES (letter, 'message', m.account_id, of_message, ending ->> 'reason') ON CONFLICT DO NOTHING;
        PERFORM orchestrator.note(m, 'message_given_up', ending ->> 'reason');
    END IF;
    PERFORM orchestrator.note_health(m, ending, most_failures, open_ms, most_refusals);
    noted := EXISTS (SELECT FROM orchestrator.message_notices t WHERE t.message_id = of_message);
    wake_ms := orchestrator.wake(m.account_id);
END $$;

-- A message of an account whose end is to be looked for: the next look is due so long from now should nobody say what this one
-- found. began_at: its last attempt's; known: the platform's ids of the recipient's other messages.
CREATE FUNCTION orchestrator.claim_look(of_account text, lease_ms bigint, OUT wanted orchestrator.messages, OUT began_at timestamptz,
                                        OUT known text[])
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    resume_at timestamptz;
BEGIN
    SELECT a.resume_at INTO resume_at FROM orchestrator.accounts a WHERE a.id = of_account FOR UPDATE;
    UPDATE orchestrator.accounts SET wake_at = NULL WHERE id = of_account AND wake_at <= now() + interval '1 second';
    PERFORM orchestrator.expire(of_account);
    -- The platform is left alone for looks as well.
    IF resume_at > now() THEN RETURN; END IF;
    UPDATE orchestrator.messages m SET look_at = now() + make_interval(secs => lease_ms / 1000.0)
     WHERE m.id = (SELECT d.id FROM orchestrator.messages d
                    WHERE d.account_id = of_account AND d.status = 'unknown' AND d.look_at <= now()
                    ORDER BY d.look_at, d.id LIMIT 1 FOR UPDATE)
    RETURNING * INTO wanted;
    IF NOT FOUND THEN RETURN; END IF;
    SELECT t.began_at INTO began_at FROM orchestrator.message_attempts t WHERE t.message_id = wanted.id AND t.attempt = wanted.attempts;
    SELECT coalesce(array_agg(m.platform_id), '{}') INTO known FROM orchestrator.messages m
     WHERE m.account_id = of_account AND m.recipient_id = wanted.recipient_id AND m.platform_id IS NOT NULL
       AND coalesce(m.settled_at, m.created_at) > now() - interval '30 days';
END $$;

-- What a look found: seen: the platform's id. blind: the conversation could not be read. After most looks that saw nothing, or
-- most_blind of the others, a person has to decide. next_ms: until the next look.
-- status: the message's; undecided: it is a person's from now on.
CREATE FUNCTION orchestrator.settle_look(of_message text, of_fence bigint, of_looks smallint, of_blind_looks smallint, seen text,
                                         blind boolean, next_ms bigint, most bigint, most_blind bigint, OUT status text, OUT undecided boolean, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    m orchestrator.messages;
BEGIN
    undecided := false;
    PERFORM FROM orchestrator.accounts a
      WHERE a.id = (SELECT n.account_id FROM orchestrator.messages n WHERE n.id = of_message) FOR UPDATE;
    SELECT * INTO m FROM orchestrator.messages n WHERE n.id = of_message FOR UPDATE;
    status := m.status;
    -- Sent twice, it is one look.
    IF m.fence = of_fence AND m.status = 'unknown' AND m.look_at IS NOT NULL AND m.looks = of_looks
       AND m.blind_looks = of_blind_looks THEN
        IF seen IS NOT NULL AND NOT EXISTS (SELECT FROM orchestrator.messages o
                                              WHERE o.account_id = m.account_id AND o.platform_id = seen) THEN
            status := 'sent';
            UPDATE orchestrator.messages n
               SET status = 'sent', platform_id = seen, failure = NULL, look_at = NULL, settled_at = now()
             WHERE n.id = of_message;
            UPDATE orchestrator.message_attempts t SET outcome = 'sent' WHERE t.message_id = of_message AND t.attempt = m.attempts;
        ELSE
            m.looks := m.looks + CASE WHEN blind THEN 0 ELSE 1 END;
            m.blind_looks := m.blind_looks + CASE WHEN blind THEN 1 ELSE 0 END;
            UPDATE orchestrator.messages n
               SET looks = m.looks, blind_looks = m.blind_looks,
                   look_at = CASE WHEN m.looks < most AND m.blind_looks < most_blind
                                  THEN now() + make_interval(secs => next_ms / 1000.0) END
             WHERE n.id = of_message;
        END IF;
    END IF;
    SELECT n.status, n.status = 'unknown' AND n.look_at IS NULL INTO status, undecided
      FROM orchestrator.messages n WHERE n.id = of_message;
    IF undecided THEN PERFORM orchestrator.note(m, 'message_unknown', NULL); END IF;
    wake_ms := orchestrator.wake(m.account_id);
END $$;

-- A person's decision about a message: `approve` or `reject` what waits for approval, `cancel` what is not being sent (then it is as
-- unknown again as it was, if it was), `resend` what nobody knows the end of, `redrive` what was given up. edit: another text, of what is approved. retries: of what is sent again.
-- outcome: `done`, `same` (it was decided so already), `unknown`, `foreign`, or `too_late` with its status.
CREATE FUNCTION orchestrator.decide_message(of_message text, decision text, owner text, actor text, edit text, edit_hash bytea, why text,
                                            retries smallint, step_ms bigint, request text, OUT outcome text, OUT decided orchestrator.messages,
                                            OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    was orchestrator.messages;
BEGIN
    PERFORM FROM orchestrator.accounts a
      WHERE a.id = (SELECT account_id FROM orchestrator.messages WHERE id = of_message) FOR UPDATE;
    SELECT * INTO was FROM orchestrator.messages WHERE id = of_message FOR UPDATE;
    decided := was;
    outcome := CASE
        WHEN was.id IS NULL THEN 'unknown'
        WHEN owner IS NOT NULL AND was.user_id <> owner THEN 'foreign'
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
                         WHEN decision = 'cancel' THEN 'cancelled' WHEN decision = 'reject' THEN 'rejected' ELSE 'queued' END,
           content = coalesce(edit, m.content), content_hash = coalesce(edit_hash, m.content_hash),
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
    VALUES (actor, 'message.' || decision, 'message:' || of_message,
            jsonb_strip_nulls(jsonb_build_object('status', was.status, 'content', CASE WHEN edit IS NOT NULL THEN was.content END)),
            jsonb_strip_nulls(jsonb_build_object('status', decided.status, 'content', edit)), why, request);
    wake_ms := orchestrator.wake(decided.account_id);
END $$;

-- Accounts that something is due of and that no hint is under way for: each is marked as woken now.
CREATE FUNCTION orchestrator.wake_overdue(most bigint) RETURNS SETOF text
    LANGUAGE sql AS $$
    UPDATE orchestrator.accounts a SET wake_at = now()
     WHERE a.id IN (
        SELECT w.id FROM orchestrator.accounts w
         -- A hint for later is no hint for what is due now.
         WHERE (w.wake_at IS NULL OR w.wake_at < now() - interval '1 minute' OR w.wake_at > now() + interval '1 second')
           AND (w.id IN (SELECT m.account_id FROM orchestrator.messages m
                          WHERE m.status IN ('claimed', 'sending') AND m.claimed_until <= now())
                OR coalesce(w.resume_at, now()) <= now()
                   AND w.id IN (SELECT m.account_id FROM orchestrator.messages m
                                 WHERE m.status = 'unknown' AND m.look_at <= now())
                OR w.status = 'active' AND coalesce(greatest(w.resume_at, w.limited_until), now()) <= now()
                   AND w.id IN (SELECT m.account_id FROM orchestrator.messages m
                                 WHERE m.status = 'queued' AND m.not_before <= now())
                   AND NOT EXISTS (SELECT FROM orchestrator.messages h
                                    WHERE h.account_id = w.id AND h.status IN ('claimed', 'sending') AND h.claimed_until > now()))
         ORDER BY w.wake_at NULLS FIRST, w.id LIMIT most FOR UPDATE SKIP LOCKED)
    RETURNING a.id
$$;

-- Makes an account, or changes what the object names of it: `status`, `paused_reason`, `compliance_floor`, `limits`.
-- administrator: whether one asks; most: so many accounts may a user have.
-- outcome: `created`, `changed`, `same`; or nothing was changed, for it is `foreign` (another user's), `held` (an administrator paused
-- it), or would be one more than most (`full`).
CREATE FUNCTION orchestrator.set_account(of_account text, owner text, change jsonb, actor text, administrator boolean, most bigint,
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
    IF outcome IS NULL AND (wanted.status, wanted.held, wanted.paused_reason, wanted.compliance_floor, wanted.limits)
                           IS NOT DISTINCT FROM (was.status, was.held, was.paused_reason, was.compliance_floor, was.limits) THEN
        outcome := 'same';
        RETURN;
    END IF;
    UPDATE orchestrator.accounts a
       SET status = wanted.status, held = wanted.held, paused_reason = wanted.paused_reason, compliance_floor = wanted.compliance_floor,
           limits = wanted.limits, updated_at = now(),
           -- Who lets it go on again has looked at what stopped it.
           refusals = CASE WHEN was.status = 'paused' THEN 0 ELSE a.refusals END,
           -- The limiter is asked anew.
           limited_until = CASE WHEN wanted.limits IS DISTINCT FROM was.limits THEN NULL ELSE a.limited_until END
     WHERE a.id = of_account
    RETURNING * INTO account;
    INSERT INTO orchestrator.audit_log (actor, action, subject, before, after, request_id)
    VALUES (actor, CASE WHEN outcome IS NULL THEN 'account.change' ELSE 'account.create' END, 'account:' || of_account,
            CASE WHEN outcome IS NULL THEN jsonb_build_object('status', was.status, 'complianceFloor', was.compliance_floor,
                                                              'limits', was.limits, 'reason', was.paused_reason) END,
            jsonb_build_object('status', account.status, 'complianceFloor', account.compliance_floor, 'limits', account.limits,
                               'reason', account.paused_reason), request);
    outcome := coalesce(outcome, 'changed');
    wake_ms := orchestrator.wake(of_account);
END $$;

-- Makes an account or changes it (`set_account`), and keeps whose session it has where it is given one.
-- outcome: as of `set_account`; `taken`: another account is of that user of the platform; `another`: the account is of another user
-- of the platform, whose limits and conversations it has. Of both nothing is changed.
CREATE FUNCTION orchestrator.keep_account(of_account text, owner text, change jsonb, platform_user text, actor text,
                                          administrator boolean, most bigint, request text,
                                          OUT outcome text, OUT account orchestrator.accounts, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    kept record;
BEGIN
    SELECT * INTO kept FROM orchestrator.set_account(of_account, owner, change, actor, administrator, most, request);
    outcome := kept.outcome;
    account := kept.account;
    wake_ms := kept.wake_ms;
    IF outcome NOT IN ('created', 'changed', 'same') THEN RETURN; END IF;
    IF (kept.account).platform_user_id <> platform_user THEN
        RAISE EXCEPTION USING ERRCODE = 'HZ001';
    END IF;
    IF platform_user IS NOT NULL THEN
        UPDATE orchestrator.accounts a SET platform_user_id = platform_user, updated_at = now()
         WHERE a.id = of_account
        RETURNING * INTO account;
        INSERT INTO orchestrator.audit_log (actor, action, subject, request_id)
        VALUES (actor, 'account.session', 'account:' || of_account, request);
        outcome := CASE outcome WHEN 'same' THEN 'changed' ELSE outcome END;
    END IF;
EXCEPTION WHEN unique_violation THEN
    -- Whatever was done since BEGIN is taken back.
    outcome := 'taken';
    account := NULL;
    wake_ms := NULL;
WHEN SQLSTATE 'HZ001' THEN
    outcome := 'another';
    account := NULL;
    wake_ms := NULL;
END $$;

-- What DynamoDB's tables are to hold of a message, its conversation and its account's day (UTC). Each with a version that grows
-- with every change of what it is made of, so that whoever writes an older one is refused.
CREATE FUNCTION orchestrator.message_projection(of_message text) RETURNS jsonb
    LANGUAGE sql STABLE AS $$
    SELECT jsonb_build_object(
        'message', to_jsonb(m) || jsonb_build_object('status', orchestrator.shown_status(m.status)),
        'thread', (SELECT jsonb_build_object(
                              'version', sum(t.version), 'messages', count(*), 'sent', count(*) FILTER (WHERE t.status = 'sent'),
                              'lastSentAt', max(t.settled_at) FILTER (WHERE t.status = 'sent'))
                     FROM orchestrator.messages t WHERE t.account_id = m.account_id AND t.recipient_id = m.recipient_id)
               || (SELECT jsonb_build_object('lastMessageId', l.id, 'lastStatus', orchestrator.shown_status(l.status),
                                             'lastMessageAt', l.created_at)
                     FROM orchestrator.messages l WHERE l.account_id = m.account_id AND l.recipient_id = m.recipient_id
                    ORDER BY l.created_at DESC, l.id DESC LIMIT 1),
        'day', (SELECT jsonb_build_object(
                           'version', sum(s.version), 'day', s.day,
                           'messages', sum(s.n), 'recipients', (SELECT count(DISTINCT d.recipient_id) FROM orchestrator.messages d
                                WHERE d.account_id = m.account_id AND d.created_at >= s.day::timestamp AT TIME ZONE 'UTC'
                                  AND d.created_at < (s.day + 1)::timestamp AT TIME ZONE 'UTC'),
                           'byStatus', jsonb_object_agg(s.status, s.n))
                  FROM (SELECT (m.created_at AT TIME ZONE 'UTC')::date AS day,
                               orchestrator.shown_status(d.status) AS status, count(*) AS n, sum(d.version) AS version
                          FROM orchestrator.messages d
                         WHERE d.account_id = m.account_id
                           AND d.created_at >= date_trunc('day', m.created_at AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'
                           AND d.created_at < (date_trunc('day', m.created_at AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC'
                         GROUP BY 2) s
                 GROUP BY s.day))
      FROM orchestrator.messages m WHERE m.id = of_message
$$;

-- Has a dead letter tried anew: a message with fresh retries, a hint by another one.
-- outcome: `done`, `same` (it was redriven before), `unknown`, or `too_late`: its message is not given up any more.
CREATE FUNCTION orchestrator.redrive(of_letter text, actor text, why text, retries smallint, step_ms bigint, request text, OUT outcome text,
                                     OUT account text, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    letter orchestrator.dead_letters;
BEGIN
    SELECT * INTO letter FROM orchestrator.dead_letters WHERE id = of_letter FOR UPDATE;
    account := letter.account_id;
    outcome := CASE WHEN NOT FOUND THEN 'unknown' WHEN letter.status = 'redriven' THEN 'same' END;
    IF outcome IS NOT NULL THEN RETURN; END IF;
    IF letter.kind = 'message' THEN
        SELECT d.outcome, d.wake_ms INTO outcome, wake_ms
          FROM orchestrator.decide_message(letter.message_id, 'redrive', NULL, actor, NULL, NULL, why, retries, step_ms, request) d;
        IF outcome NOT IN ('done', 'same') THEN RETURN; END IF;
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

-- As `begin_workflow`. Where the text is to be sent to a fan, the account is looked at first: `account` is the one that sends,
-- `account_limits` its own limits, and with an `account_fault` (`no_account`, `which_account`, `foreign`) nothing is kept.
CREATE FUNCTION orchestrator.open_workflow(workflow jsonb, attempt jsonb, lease_ms bigint, OUT fresh boolean, OUT refusal jsonb,
                                           OUT account text, OUT account_limits jsonb, OUT account_fault text)
    LANGUAGE plpgsql AS $$
DECLARE
    owned text[];
BEGIN
    IF (workflow -> 'intent' ->> 'sendToOnlyFans')::boolean
       -- What was asked for before is answered as before.
       AND NOT EXISTS (SELECT FROM orchestrator.workflows w
                        WHERE w.user_id = workflow ->> 'user_id' AND w.idempotency_key = workflow ->> 'idempotency_key'
                          AND w.id <> workflow ->> 'id') THEN
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
        IF account_fault IS NOT NULL THEN
            fresh := false;
            RETURN;
        END IF;
        SELECT a.limits INTO account_limits FROM orchestrator.accounts a WHERE a.id = account;
    END IF;
    SELECT b.fresh, b.refusal INTO fresh, refusal FROM orchestrator.begin_workflow(workflow, attempt, lease_ms) b;
END $$;

-- As `advance`; and where this completes the workflow, its text is taken on as a message, in the same transaction.
-- message_status: the message's, which the workflow's result says as well; NULL: there is none. wake_ms: as `wake`.
CREATE FUNCTION orchestrator.advance_and_send(ending jsonb, state jsonb, following jsonb, lease_ms bigint, message jsonb, policy text,
                                              step_ms bigint, OUT settled bigint, OUT workflow_status text, OUT refusals jsonb,
                                              OUT message_status text, OUT wake_ms bigint)
    LANGUAGE plpgsql AS $$
DECLARE
    outcome text;
BEGIN
    SELECT a.settled, a.workflow_status, a.refusals INTO settled, workflow_status, refusals
      FROM orchestrator.advance(ending, state, following, lease_ms) a;
    -- Sent twice, it settles nothing, and finds the message that it had taken on.
    IF message IS NULL OR settled = 1 AND workflow_status <> 'completed'
       OR settled = 0 AND NOT EXISTS (SELECT FROM orchestrator.messages m WHERE m.id = message ->> 'id') THEN
        RETURN;
    END IF;
    SELECT m.outcome, (m.accepted).status, m.wake_ms INTO outcome, message_status, wake_ms
      FROM orchestrator.accept_message(message, policy, true, step_ms, 0, NULL) m;
    UPDATE orchestrator.workflows w SET result = jsonb_set(w.result, '{data,onlyFans,status}', to_jsonb(message_status))
     WHERE w.id = message ->> 'workflow_id' AND message_status IS NOT NULL;
END $$;

-- The states of the contract that a workflow's message gives its limiter and its platform, over those that the workflow has.
CREATE FUNCTION orchestrator.with_message(states jsonb, of_workflow text) RETURNS jsonb
    LANGUAGE sql STABLE AS $$
    SELECT states || coalesce((
        SELECT jsonb_build_object(
                   'onlyFans', CASE WHEN m.status = 'sent' THEN 'sent'
                                    WHEN m.status IN ('failed', 'rejected', 'cancelled') THEN 'failed'
                                    -- Nobody knows: it is not said to have failed, or somebody would send it again.
                                    WHEN m.status IN ('sending', 'unknown') THEN 'sending'
                                    WHEN m.throttled > 0 AND m.attempts = 0 THEN 'rate_limited'
                                    ELSE 'pending' END,
                   'rateLimiter', CASE WHEN m.attempts > 0 THEN 'approved'
                                       WHEN m.status IN ('rejected', 'cancelled') THEN 'rejected'
                                       WHEN m.throttled > 0 THEN 'throttled'
                                       ELSE 'pending' END)
          FROM orchestrator.messages m WHERE m.workflow_id = of_workflow), '{}')
$$;
