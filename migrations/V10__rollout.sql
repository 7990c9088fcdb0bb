-- What sessions say of their users: flags may ask for it where a session does not say it, and where there is no session.
ALTER TABLE orchestrator.users
    ADD COLUMN tier text,
    ADD COLUMN region text,
    ADD COLUMN account_created_at timestamptz;

-- What came of an experiment: few workflows are of one.
CREATE INDEX workflows_by_experiment ON orchestrator.workflows ((intent->'dealt'->>'experiment'), started_at)
    WHERE intent ? 'dealt';
