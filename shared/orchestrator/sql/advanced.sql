-- Whether advance.sql had run: how an attempt ($1) ended, its workflow's state, and how many of the attempts that were to
-- follow ($2, their ids) are reserved.
SELECT a.outcome, a.failure, a.cost, w.status,
       (SELECT count(*) FROM orchestrator.reservations WHERE attempt_id = ANY($2)) AS reserved
  FROM orchestrator.attempts a JOIN orchestrator.workflows w ON w.id = a.workflow_id
 WHERE a.id = $1
