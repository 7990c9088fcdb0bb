-- Whether orchestrator.advance had run: how an attempt ($1) ended, its workflow's state, how many of the attempts that were to
-- follow ($2, their ids) are there, and which of them a budget refused.
SELECT a.outcome, a.failure, a.cost, w.status, f.kept, f.refusals
  FROM orchestrator.attempts a JOIN orchestrator.workflows w ON w.id = a.workflow_id,
       (SELECT count(*) AS kept, coalesce(jsonb_object_agg(attempt_id, refusal) FILTER (WHERE refusal IS NOT NULL), '{}') AS refusals
          FROM orchestrator.reservations WHERE attempt_id = ANY($2)) f
 WHERE a.id = $1
