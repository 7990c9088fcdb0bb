-- What sessions say of their users: flags may ask for it where a session does not say it, and where there is no session.
ALTER TABLE orchestrator.users
    ADD COLUMN tier text,
    ADD COLUMN region text,
    ADD COLUMN account_created_at timestamptz;

-- The workflows of experiments, by whatever statement they begin. A table of its own: an index on the workflows would be built over all of
-- them, while none could begin.
CREATE TABLE orchestrator.dealt (
    workflow_id text PRIMARY KEY REFERENCES orchestrator.workflows ON DELETE CASCADE,
    experiment  text NOT NULL,
    variant     text NOT NULL,
    started_at  timestamptz NOT NULL
);
CREATE INDEX dealt_by_experiment ON orchestrator.dealt (experiment, started_at);

CREATE FUNCTION orchestrator.deal() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO orchestrator.dealt (workflow_id, experiment, variant, started_at)
    VALUES (NEW.id, NEW.intent->'dealt'->>'experiment', NEW.intent->'dealt'->>'variant', NEW.started_at)
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER deal AFTER INSERT ON orchestrator.workflows
    FOR EACH ROW WHEN (NEW.intent ? 'dealt') EXECUTE FUNCTION orchestrator.deal();
