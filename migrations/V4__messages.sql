-- Messages to fans. A row is the truth of its message; a queue's message is only the hint to look (ADR 0014).
--
--   awaiting_approval → queued → claimed → sending → sent · failed · unknown
--
-- Every write behind `queued` names the claim's fence: who was overtaken changes nothing. `sending` is the point of no return:
-- from there on only what the platform says decides. The order of locks, in every function here: accounts, messages, attempts,
-- limiter_logs; rows of one table by their key.

-- An account's own state. It is woken at one time at most: who makes a message due says so here, and only an earlier time is
-- a further hint on the queue.
ALTER TABLE orchestrator.accounts
    ADD COLUMN status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'paused')),
    -- Why it is paused, or was last: a person's words, or one of ours.
    ADD COLUMN paused_reason text,
    -- Limits in place of the configuration's, an object of their names.
    ADD COLUMN limits jsonb NOT NULL DEFAULT '{}',
    -- Nothing is sent before: the limiter, the platform or the breaker said so.
    ADD COLUMN resume_at timestamptz,
    -- Ends in a row at which the platform was not well: the breaker's count.
    ADD COLUMN failures smallint NOT NULL DEFAULT 0,
    -- Refusals in a row (403).
    ADD COLUMN refusals smallint NOT NULL DEFAULT 0,
    -- When the queue's hint comes that is under way.
    ADD COLUMN wake_at timestamptz,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

CREATE TABLE orchestrator.messages (
    id                text PRIMARY KEY,
    account_id        text NOT NULL REFERENCES orchestrator.accounts,
    user_id           text NOT NULL REFERENCES orchestrator.users,
    requested_by      text NOT NULL,
    -- Of the workflow whose text it is.
    workflow_id       text UNIQUE REFERENCES orchestrator.workflows,
    idempotency_key   text,
    -- What was asked for: of a request with a key its body, else account, recipient and text.
    request_hash      bytea NOT NULL,
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
    claimed_until     timestamptz,
    -- Its place among those that are due: a step of priority is so much of waiting, so that none waits for ever.
    rank_at           timestamptz NOT NULL,
    not_before        timestamptz NOT NULL,
    -- Attempts that were begun, and how many of them may still be followed by another.
    attempts          smallint NOT NULL DEFAULT 0,
    retries_left      smallint NOT NULL,
    -- The session was read again for it after the platform had refused it.
    session_refreshed boolean NOT NULL DEFAULT false,
    throttled         smallint NOT NULL DEFAULT 0,
    failure           text,
    dead_lettered     boolean NOT NULL DEFAULT false,
    platform_id       text,
    -- Of one whose end is not known: looks at the conversation so far, and when the next is due. None due: a person decides.
    looks             smallint NOT NULL DEFAULT 0,
    look_at           timestamptz,
    decided_by        text,
    decided_at        timestamptz,
    request_id        text NOT NULL,
    trace_id          text NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT now(),
    settled_at        timestamptz,
    changed_at        timestamptz NOT NULL DEFAULT now(),
    projected_at      timestamptz,
    UNIQUE (user_id, idempotency_key)
);
-- What is due of an account, in its order.
CREATE INDEX messages_waiting ON orchestrator.messages (account_id, rank_at, id) WHERE status = 'queued';
CREATE INDEX messages_in_hand ON orchestrator.messages (account_id, claimed_until) WHERE status IN ('claimed', 'sending');
CREATE INDEX messages_to_look_for ON orchestrator.messages (look_at) WHERE status = 'unknown' AND look_at IS NOT NULL;
CREATE INDEX messages_alike ON orchestrator.messages (account_id, request_hash, created_at);
CREATE INDEX messages_by_user ON orchestrator.messages (user_id, created_at DESC, id DESC);
CREATE INDEX messages_to_project ON orchestrator.messages (changed_at) WHERE projected_at IS NULL;
-- One message of the platform is one of ours.
CREATE UNIQUE INDEX messages_by_platform_id ON orchestrator.messages (account_id, platform_id) WHERE platform_id IS NOT NULL;

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
    outcome      text NOT NULL DEFAULT 'sending' CHECK (outcome IN ('sending', 'sent', 'refused', 'failed', 'unknown')),
    reason       text,
    http_status  smallint,
    ended_at     timestamptz,
    PRIMARY KEY (message_id, attempt)
);
CREATE INDEX message_attempts_by_account ON orchestrator.message_attempts (account_id, counts_until);
CREATE INDEX message_attempts_by_user ON orchestrator.message_attempts (user_id, counts_until);
CREATE INDEX message_attempts_by_time ON orchestrator.message_attempts (counts_until);
