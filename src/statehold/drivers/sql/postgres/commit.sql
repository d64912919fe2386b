#variable_conflict use_variable
DECLARE
  v_count bigint;
  v_every CONSTANT bigint := $every;
  v_keys CONSTANT integer := cardinality(a_id);
  v_now timestamptz;
  v_first timestamptz;
  v_highest bigint;
  v_missing boolean := FALSE;
  v_dead bigint[];
  v_fresh bigint[];
  v_epoch bigint[];
  v_expires timestamptz[];
  v_ops bigint[];
  v_most_ops bigint;
  v_full record;
  v_was bigint[];
${locked_declared}BEGIN
  LOOP
    SELECT count(*) INTO v_count FROM generate_series(1, v_keys) AS u(k)
      JOIN $main AS t ON t.tenant = a_tenant[u.k] AND t.id = a_id[u.k];
    IF v_count < v_keys THEN
      v_missing := TRUE;
      INSERT INTO $main
          (tenant, id, incarnation, number, created_at, updated_at, epoch, ops)
        SELECT a_tenant[u.k], a_id[u.k], a_incarnation[u.k], 0, now(), now(), 0, 0
        FROM generate_series(1, v_keys) AS u(k)
        WHERE NOT EXISTS (
          SELECT FROM $main AS t WHERE t.tenant = a_tenant[u.k] AND t.id = a_id[u.k])
        ORDER BY u.k
        ON CONFLICT DO NOTHING;
    END IF;
    SELECT count(*), min(l.expires_at), max(l.epoch), array_agg(l.state), array_agg(l.incarnation),
        array_agg(l.number), array_agg(l.created_at), array_agg(l.epoch), array_agg(l.expires_at),
        array_agg(l.ops), max(l.ops)$locked_gathered
      INTO v_count, v_first, v_highest, o_state, o_incarnation, o_number, o_created, v_epoch,
        v_expires, v_ops, v_most_ops$locked_names
      FROM (
        SELECT t.state, t.incarnation, t.number, t.created_at, t.epoch, t.expires_at, t.ops$locked_read
        FROM generate_series(1, v_keys) AS u(k)
        JOIN $main AS t ON t.tenant = a_tenant[u.k] AND t.id = a_id[u.k]
        ORDER BY u.k FOR UPDATE OF t) AS l;
    IF v_count < v_keys THEN
      IF v_missing THEN
        DELETE FROM $main AS t WHERE t.state = ANY(o_state) AND t.number = 0 AND t.epoch = 0;
      END IF;
      SELECT array_agg(u.k) INTO o_bad FROM generate_series(1, v_keys) AS u(k);
      RETURN;
    END IF;
    v_now := clock_timestamp();
    IF v_first <= v_now THEN
      SELECT array_agg(u.s) INTO v_dead FROM unnest(o_state, v_expires) AS u(s, e) WHERE u.e <= v_now;
      IF v_highest > 0 THEN
        -- An epoch may have to be remembered, though the state be gone.
        SELECT array_agg(u.k) INTO o_bad FROM generate_series(1, v_keys) AS u(k)
          JOIN $main AS t ON t.tenant = a_tenant[u.k] AND t.id = a_id[u.k]
          WHERE t.state = ANY(v_dead) AND t.epoch > 0;
        IF o_bad IS NOT NULL THEN
          IF v_missing THEN
            DELETE FROM $main AS t WHERE t.state = ANY(o_state) AND t.number = 0 AND t.epoch = 0;
          END IF;
          RETURN;
        END IF;
      END IF;
${children_deleted}      -- Whoever sends a commit again that may have been applied to one of these must know.
      WITH d AS (DELETE FROM $main AS t WHERE t.state = ANY(v_dead) RETURNING t.*), a AS (
        DELETE FROM $about AS c USING d WHERE d.also_about IS NOT NULL AND c.state = d.state)
      INSERT INTO $ended AS e (tenant, id, op, intent, incarnation, number, at)
        SELECT d.tenant, d.id, '', 0, d.incarnation, d.number,
          GREATEST(d.expires_at, d.updated_at) FROM d
        WHERE GREATEST(d.expires_at, d.updated_at) > v_now - interval '$hold_seconds seconds'
        ON CONFLICT (tenant, id, op) DO UPDATE SET
          incarnation = EXCLUDED.incarnation, number = EXCLUDED.number, at = EXCLUDED.at;
    ELSE
      EXIT;
    END IF;
  END LOOP;

  IF v_now > to_timestamp(a_until) THEN
    SELECT array_agg(u.k) INTO o_bad FROM generate_series(1, v_keys) AS u(k);
  ELSIF a_op IS NOT NULL AND EXISTS (
      SELECT FROM generate_series(1, v_keys) AS u(k)
      JOIN $ended AS e ON e.tenant = a_tenant[u.k] AND e.id = a_id[u.k]) THEN
    -- An op id of an erasure erases, or has erased.
    SELECT array_agg(u.k) INTO o_bad
      FROM (
        SELECT i.i, COALESCE(a_op_k[i.i], i.i) FROM generate_series(1, cardinality(a_op)) AS i(i)
      ) AS u(i, k)
      JOIN $ended AS e ON e.tenant = a_tenant[u.k] AND e.id = a_id[u.k] AND e.op = a_op[u.i];
  END IF;
  IF o_bad IS NULL AND (v_highest > 0 OR a_expect_number IS NOT NULL) THEN
    SELECT array_agg(u.k) INTO o_bad
      FROM unnest(o_incarnation, o_number, v_epoch, a_epoch, a_expect_incarnation, a_expect_number)
        WITH ORDINALITY AS u(incarnation, number, seen, epoch, xi, xn, k)
      WHERE COALESCE(u.epoch, 0) < u.seen OR NOT (u.xn IS NULL
        OR u.xi = 0 AND u.xn = 0 AND u.number = 0
        OR u.xi = 0 AND u.xn = 1 AND u.number > 0
        OR u.xi = u.incarnation AND u.xn = u.number AND u.number > 0);
  END IF;
  IF o_bad IS NULL AND v_most_ops >= $installed AND a_op IS NOT NULL THEN
    -- A life that was installed may know op ids by their digests, which are not known here.
    SELECT array_agg(u.k) INTO o_bad
      FROM (
        SELECT i.i, COALESCE(a_op_k[i.i], i.i) FROM generate_series(1, cardinality(a_op)) AS i(i)
      ) AS u(i, k)
      WHERE v_ops[u.k] >= $installed AND a_op[u.i] !~ '^(blake2b:)?[0-9a-f]{24}$$';
  END IF;
  IF o_bad IS NOT NULL THEN
    IF v_missing THEN
      DELETE FROM $main AS t WHERE t.state = ANY(o_state) AND t.number = 0;
    END IF;
    RETURN;
  END IF;

  o_now := v_now;
$before
  IF $untouched THEN
    $lean;
    GET DIAGNOSTICS v_count = ROW_COUNT;
  ELSE
    $full;
    GET DIAGNOSTICS v_count = ROW_COUNT;
  END IF;
  IF v_count < v_keys THEN
    SELECT array_agg(u.k) INTO o_bad FROM generate_series(1, v_keys) AS u(k)
      JOIN $main AS t ON t.state = o_state[u.k] AND t.number = o_number[u.k];
    RAISE EXCEPTION 'a bound' USING ERRCODE = 'SH001', DETAIL = array_to_string(o_bad, ',');
  END IF;

  IF a_op IS NOT NULL THEN
    -- One that has a row already, remembered or not, is for the portable executor.
    INSERT INTO $ops (state, op, number, seq, intent, at)
      SELECT o_state[u.k], a_op[u.i], o_number[u.k] + COALESCE(a_op_commit[u.i], 1),
        v_ops[u.k] + COALESCE(a_op_seq[u.i], 1), COALESCE(a_op_intent[u.i], 0), v_now
      FROM (
        SELECT i.i, COALESCE(a_op_k[i.i], i.i) FROM generate_series(1, cardinality(a_op)) AS i(i)
      ) AS u(i, k);
    -- Forgotten ones are deleted now and then.
    FOR v_key IN 1 .. v_keys LOOP
      v_count := v_ops[v_key] + COALESCE(a_op_count[v_key], 1);
      IF v_count / v_every > v_ops[v_key] / v_every THEN
        DELETE FROM $ops AS c WHERE c.state = o_state[v_key]
          AND $forgotten;
      END IF;
    END LOOP;
  END IF;
$after
END
