-- The foundation: who asks, what they asked for, what was called and what it cost.
--
-- Rule for every migration: expand, then contract. A released function must run on the schema before and after it.

CREATE SCHEMA IF NOT EXISTS orchestrator;

-- Who was seen in a session. No e-mail, no name: what is not kept cannot leak.
CREATE TABLE orchestrator.users (
    id            text PRIMARY KEY,
    first_seen_at timestamptz NOT NULL DEFAULT now(),
    last_seen_at  timestamptz NOT NULL DEFAULT now()
);

-- A creator's account on a platform. It belongs to one user.
CREATE TABLE orchestrator.accounts (
    id               text PRIMARY KEY,
    user_id          text NOT NULL REFERENCES orchestrator.users,
    platform         text NOT NULL DEFAULT 'onlyfans',
    compliance_floor text NOT NULL DEFAULT 'strict' CHECK (compliance_floor IN ('strict', 'moderate', 'relaxed')),
    created_at       timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX accounts_by_user ON orchestrator.accounts (user_id);

-- One campaign request. The row exists before the first call; (user_id, idempotency_key) is the one home of idempotency.
CREATE TABLE orchestrator.workflows (
    id               text PRIMARY KEY,
    user_id          text NOT NULL REFERENCES orchestrator.users,
    requested_by     text NOT NULL,
    idempotency_key  text,
    request_hash     bytea NOT NULL,
    type             text NOT NULL,
    intent           jsonb NOT NULL,
    status           text NOT NULL CHECK (status IN
                         ('queued', 'running', 'completed', 'failed', 'manual_review', 'cancelled')),
    current_provider text CHECK (current_provider IN ('azure', 'openai')),
    provider_states  jsonb NOT NULL,
    fallback_history jsonb NOT NULL DEFAULT '[]',
    cost             numeric(30, 12) NOT NULL DEFAULT 0,
    result           jsonb,
    error            jsonb,
    request_id       text NOT NULL,
    trace_id         text NOT NULL,
    started_at       timestamptz NOT NULL,
    completed_at     timestamptz,
    UNIQUE (user_id, idempotency_key)
);
-- The list of one user's workflows, newest first; the id breaks ties, so that a cursor is exact.
CREATE INDEX workflows_by_user ON orchestrator.workflows (user_id, started_at DESC, id DESC);
-- The list's summary is answered from this index alone.
CREATE INDEX workflows_summary ON orchestrator.workflows (user_id, status) INCLUDE (cost);

-- One call of one provider. Written as the intent before its bytes leave, settled once.
CREATE TABLE orchestrator.attempts (
    id                  text PRIMARY KEY,
    workflow_id         text NOT NULL REFERENCES orchestrator.workflows,
    sequence            smallint NOT NULL,
    user_id             text NOT NULL,
    step                text NOT NULL,
    request_type        text NOT NULL,
    provider            text NOT NULL CHECK (provider IN ('azure', 'openai')),
    model               text NOT NULL,
    price_version       text NOT NULL,
    bound_input_tokens  bigint NOT NULL,
    bound_output_tokens bigint NOT NULL,
    bound_cost          numeric(30, 12) NOT NULL,
    trace_id            text NOT NULL,
    -- Frozen at the intent: the ledger entry's timestamp, and the period that the cost is booked in.
    started_at          timestamptz NOT NULL,
    outcome             text NOT NULL DEFAULT 'pending' CHECK (outcome IN ('pending', 'succeeded', 'failed', 'unknown')),
    failure             text,
    http_status         smallint,
    input_tokens        bigint,
    cached_input_tokens bigint,
    output_tokens       bigint,
    cost                numeric(30, 12),
    -- The provider's own numbers are not known; the bound was booked.
    estimated           boolean NOT NULL DEFAULT false,
    duration_ms         bigint,
    settled_at          timestamptz,
    projected_at        timestamptz,
    UNIQUE (workflow_id, sequence),
    CHECK ((outcome = 'pending') = (settled_at IS NULL)),
    CHECK ((settled_at IS NULL) = (cost IS NULL)),
    CHECK (cost BETWEEN 0 AND bound_cost)
);
CREATE INDEX attempts_to_project ON orchestrator.attempts (settled_at) WHERE settled_at IS NOT NULL AND projected_at IS NULL;

-- The upper bound of a call, held from its intent to its settlement.
CREATE TABLE orchestrator.reservations (
    attempt_id text PRIMARY KEY REFERENCES orchestrator.attempts,
    user_id    text NOT NULL,
    amount     numeric(30, 12) NOT NULL CHECK (amount >= 0),
    expires_at timestamptz NOT NULL,
    settled_at timestamptz
);
CREATE INDEX reservations_held ON orchestrator.reservations (expires_at) WHERE settled_at IS NULL;
