-- Statistics of messages.

-- Who was denied, lately.
CREATE INDEX limiter_denials_by_hour ON orchestrator.limiter_denials (hour) INCLUDE (user_id, layer, denials);
-- What is looked for or waits for a person, of an account.
CREATE INDEX messages_open ON orchestrator.messages (account_id, status, priority)
    WHERE status IN ('awaiting_approval', 'queued', 'claimed', 'sending', 'unknown');

-- A time as the API writes it, whatever the session's time zone.
CREATE FUNCTION orchestrator.rfc3339(at timestamptz) RETURNS text
    LANGUAGE sql STABLE STRICT RETURN to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"');
