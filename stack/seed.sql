-- Demo users and accounts of the local stack. Safe to run again.
INSERT INTO orchestrator.users (id) VALUES ('demo-creator'), ('demo-admin') ON CONFLICT DO NOTHING;
INSERT INTO orchestrator.accounts (id, user_id, compliance_floor)
VALUES ('demo-account', 'demo-creator', 'strict'), ('demo-account-relaxed', 'demo-creator', 'relaxed')
ON CONFLICT DO NOTHING;
