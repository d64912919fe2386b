UPDATE $main AS t SET
    number = t.number + COALESCE(a_commits[u.k], 1),
    created_at = $created,
    updated_at = v_now,
    expires_at = $deadline,
    subject = COALESCE(a_subject[u.k], t.subject),
    epoch = COALESCE(a_last_epoch[u.k], 0),
    ops = t.ops + CASE WHEN a_op IS NULL THEN 0 ELSE COALESCE(a_op_count[u.k], 1) END$sets
    FROM generate_series(1, v_keys) AS u(k)
    WHERE t.state = o_state[u.k]
      AND (t.also_about IS NULL OR a_subject[u.k] IS NULL)
      -- A life that ends as it is written to would have to begin anew within the call.
      AND (COALESCE(a_commits[u.k], 1) = 1 OR a_max_age[u.k] IS NULL OR t.number = 0
        OR $age_ends > v_now)$conditions
