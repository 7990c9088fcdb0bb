-- The budgets of a user ($1; NULL: of nobody) and, where $2, everybody's, each with its counters in the period of $3.
SELECT b.user_id, b.period, b.provider, b.max_cost, b.updated_at, orchestrator.period_start(b.period, $3) AS starts_on,
       coalesce(p.spent, 0) AS spent, coalesce(p.reserved, 0) AS reserved
  FROM orchestrator.budgets b
  LEFT JOIN orchestrator.budget_periods p ON p.budget_id = b.id AND p.starts_on = orchestrator.period_start(b.period, $3)
 WHERE b.max_cost IS NOT NULL AND (b.user_id = $1 OR (b.scope = 'global' AND $2))
 ORDER BY b.scope, b.period, b.provider NULLS FIRST
