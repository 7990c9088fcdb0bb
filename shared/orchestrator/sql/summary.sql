-- How many workflows a user ($1) has, and what they cost, by status ($2: only this one; NULL: all).
SELECT status, count(*) AS total, sum(cost) AS cost
  FROM orchestrator.workflows
 WHERE user_id = $1 AND status <> 'withdrawn' AND ($2::text IS NULL OR status = $2)
 GROUP BY status
