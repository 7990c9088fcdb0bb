-- Dead letters, the newest first.
-- $1 status or null; $2, $3 the place behind which it begins, or null; $4 how many
SELECT jsonb_strip_nulls(jsonb_build_object(
           'id', l.id, 'kind', l.kind, 'accountId', l.account_id, 'messageId', l.message_id,
           'workflowId', l.workflow_id, 'reason', l.reason, 'body', l.body, 'returns', l.returns,
           'status', l.status, 'receivedAt', orchestrator.rfc3339(l.received_at),
           'decidedAt', orchestrator.rfc3339(l.decided_at), 'decidedBy', l.decided_by,
           'messageStatus', orchestrator.shown_status(m.status), 'workflowStatus', w.status, 'attempts', (
               SELECT jsonb_agg(jsonb_build_object('attempt', t.attempt, 'beganAt', orchestrator.rfc3339(t.began_at),
                                                   'outcome', t.outcome, 'reason', t.reason, 'httpStatus', t.http_status) ORDER BY t.attempt)
                 FROM orchestrator.message_attempts t WHERE t.message_id = l.message_id))) AS letter,
       l.received_at, l.id
  FROM orchestrator.dead_letters l LEFT JOIN orchestrator.messages m ON m.id = l.message_id
       LEFT JOIN orchestrator.workflows w ON w.id = l.workflow_id AND w.status <> 'withdrawn'
 WHERE ($1::text IS NULL OR l.status = $1)
   AND ($2::timestamptz IS NULL OR (l.received_at, l.id) < ($2, $3))
 ORDER BY l.received_at DESC, l.id DESC
 LIMIT $4
