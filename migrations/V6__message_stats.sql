-- Accounts as they are listed, and whose session an account has; statistics of messages.

ALTER TABLE orchestrator.accounts
    -- Its user id on the platform, as the platform said of its session. Two accounts with one of it would have its limits twice.
    ADD COLUMN platform_user_id text UNIQUE,
    -- When its session was kept last.
    ADD COLUMN session_at timestamptz;
CREATE INDEX accounts_by_time ON orchestrator.accounts (created_at DESC, id DESC);

-- Who was denied, lately.
CREATE INDEX limiter_denials_by_hour ON orchestrator.limiter_denials (hour) INCLUDE (user_id, layer, denials);
-- What is looked for or waits for a person, of an account.
CREATE INDEX messages_open ON orchestrator.messages (account_id, status, priority)
    WHERE status IN ('awaiting_approval', 'queued', 'claimed', 'sending', 'unknown');

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

-- A time as the API writes it, whatever the session's time zone.
CREATE FUNCTION orchestrator.rfc3339(at timestamptz) RETURNS text
    LANGUAGE sql STABLE STRICT RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
