-- Reviews, the oldest first: that is the order in which they are to be decided.
-- $1 `open`, `claimed`, `decided` or null; $2 a workflow or null; $3, $4 the place behind which it begins, or null; $5 how many
SELECT jsonb_strip_nulls(jsonb_build_object(
           'workflowId', r.workflow_id, 'userId', r.user_id, 'type', r.type, 'reason', r.reason,
           'createdAt', orchestrator.rfc3339(r.created_at), 'status', s.status,
           'claimedBy', CASE s.status WHEN 'claimed' THEN r.claimed_by END,
           'claimedUntil', CASE s.status WHEN 'claimed' THEN orchestrator.rfc3339(r.claimed_until) END,
           'decision', r.decision, 'decidedBy', r.decided_by, 'decidedAt', orchestrator.rfc3339(r.decided_at), 'note', r.note)) AS review,
       CASE WHEN $2 IS NOT NULL THEN w.intent END AS intent, CASE WHEN $2 IS NOT NULL THEN w.checkpoint END AS checkpoint, r.created_at, r.workflow_id
  FROM orchestrator.reviews r JOIN orchestrator.workflows w ON w.id = r.workflow_id
 CROSS JOIN LATERAL (SELECT CASE WHEN r.decision IS NOT NULL THEN 'decided' WHEN r.claimed_until > now() THEN 'claimed'
                                 ELSE 'open' END AS status) s
 WHERE ($1::text IS NULL OR s.status = $1 AND (r.decision IS NULL) = ($1 <> 'decided'))
   AND ($2::text IS NULL OR r.workflow_id = $2)
   AND ($3::timestamptz IS NULL OR (r.created_at, r.workflow_id) > ($3, $4))
 ORDER BY r.created_at, r.workflow_id
 LIMIT $5
