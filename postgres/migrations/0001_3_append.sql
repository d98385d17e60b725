-- append_1 commits units: one row per unit in the u_ arrays, the questions that
-- units open in q_ and those that they close in c_, which name their unit by position.
-- p_lines goes to the listeners. It answers for each unit with a code of codes.go. All units are handled by one
-- statement, which costs a third of a loop over them.
CREATE FUNCTION SCHEMA.append_1(
	p_offset bigint, p_from text, p_lines text,
	u_run uuid[], u_tenant text[], u_token bigint[], u_first bigint[], u_last bigint[], u_records bytea[],
	u_status smallint[], u_seen bigint[], u_due timestamptz[], u_result bytea[], u_saved bytea[], u_error bytea[],
	c_unit integer[], c_id uuid[], c_state smallint[],
	q_unit integer[], q_id uuid[], q_seq bigint[], q_priority bigint[], q_schema integer[], q_deadline timestamptz[],
	q_path text[], q_name text[], q_key text[], q_group text[], q_unique text[],
	q_audience text[], q_not_by text[], q_tags text[], q_payload bytea[], q_digest bytea[], q_details bytea[]
) RETURNS TABLE (o_unit integer, o_code smallint, o_at timestamptz, o_inbox bigint, o_kept boolean, o_other uuid, o_name text, o_key text)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
	v_now     timestamptz := clock_timestamp() + p_offset * interval '1 microsecond';
	v_refused integer[] := '{}'; -- units that need a unique key another question holds
	v_waiting integer[] := '{}'; -- units whose unique key somebody else is taking right now
	v_other   uuid[] := '{}';    -- the holders, by unit
	v_name    text[] := '{}';    -- and what they hold
	v_key     text[] := '{}';
	v_holder  uuid;
	v_unit    bigint[];
	v_run     bigint[];          -- number of the run, by unit; NULL if refused
	v_at      timestamptz[];
	v_code    smallint[];
	v_inbox   bigint[];
	v_kept    boolean[];
	v_ended   bigint[];
	q         record;
BEGIN
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM SCHEMA.durable_1();
	END IF;
	IF q_unit IS NOT NULL THEN
		FOR q IN SELECT x.unit, x.id, x.name, x.uniq, u_tenant[x.unit] AS tenant
			FROM unnest(q_unit, q_id, q_name, q_unique) AS x (unit, id, name, uniq) WHERE x.uniq IS NOT NULL LOOP
			IF NOT pg_try_advisory_xact_lock(hashtextextended(q.uniq, hashtextextended(q.name,
				hashtextextended(q.tenant, 'SCHEMA.question'::regclass::oid::bigint)))) THEN
				v_waiting := v_waiting || q.unit;
				CONTINUE;
			END IF;
			SELECT o.id INTO v_holder FROM SCHEMA.question o
				WHERE o.tenant = q.tenant AND o.name = q.name AND o.uniq = q.uniq AND o.settled IS NULL AND o.id <> q.id
				AND NOT EXISTS (
					SELECT FROM unnest(c_unit, c_id) AS c (unit, id) JOIN SCHEMA.run r ON r.id = u_run[q.unit] AND (r.tenant = q.tenant) IS TRUE
					WHERE c.unit = q.unit AND c.id = o.id AND o.run_n = r.n
				);
			IF FOUND THEN
				v_refused := v_refused || q.unit;
				v_other[q.unit] := v_holder;
				v_name[q.unit] := q.name;
				v_key[q.unit] := q.uniq;
			END IF;
		END LOOP;
	END IF;

	-- What is big is taken from the arrays only where it is needed: each step copies the rows that it passes on.
	WITH locked AS (
		SELECT u.*, r.n, r.inbox, r.token AS held, r.last_seq, r.status AS was, greatest(v_now, r.updated) AS at,
			r.token = u.token AND r.status = 2 AND r.last_seq = u.first - 1 AND NOT u.i = ANY (v_refused) AND NOT u.i = ANY (v_waiting) AS good,
			CASE WHEN u.status = 0 OR (u.status IN (1, 3) AND r.inbox > u_seen[u.i]) THEN 2 ELSE u.status END AS becomes
		FROM unnest(u_run, u_tenant, u_token, u_first, u_status) WITH ORDINALITY AS u (run, tenant, token, first, status, i)
		JOIN SCHEMA.run r ON r.id = u.run AND (r.tenant = u.tenant) IS TRUE
		FOR UPDATE OF r SKIP LOCKED
	), logged AS (
		INSERT INTO SCHEMA.log (run_n, first_seq, token, at, records)
		SELECT l.n, l.first, l.token, l.at, u_records[l.i] FROM locked l WHERE l.good
	), changed AS (
		UPDATE SCHEMA.run r SET
			last_seq = u_last[l.i], updated = l.at, crashes = -1, status = l.becomes,
			owner  = CASE WHEN l.becomes = 2 THEN r.owner END,
			due    = CASE WHEN l.becomes = 3 OR (l.becomes = 1 AND u_due[l.i] > l.at) THEN u_due[l.i] END,
			ready  = CASE WHEN l.becomes = 1 THEN greatest(l.at, u_due[l.i]) END,
			result = CASE WHEN l.becomes = 5 THEN u_result[l.i] END,
			saved  = CASE WHEN l.becomes = 5 THEN u_saved[l.i] END,
			error  = CASE WHEN l.becomes IN (4, 6, 7) THEN u_error[l.i] END,
			cancel = r.cancel AND l.becomes NOT IN (5, 6, 7)
		FROM locked l WHERE l.good AND r.n = l.n
	)
	SELECT array_agg(a.i), array_agg(a.n), array_agg(a.at), array_agg(a.inbox), array_agg(a.kept), array_agg(a.code),
		array_agg(a.n) FILTER (WHERE a.code = 0 AND a.becomes IN (5, 6, 7))
	INTO v_unit, v_run, v_at, v_inbox, v_kept, v_code, v_ended FROM (
		SELECT l.i, CASE WHEN l.good THEN l.n END AS n, coalesce(old.at, l.at) AS at, l.inbox, l.becomes,
			l.status <> 0 AND CASE WHEN l.good THEN l.becomes = 2 ELSE l.held = l.token AND l.was = 2 END AS kept,
			CASE WHEN l.good THEN 0
				WHEN old.at IS NOT NULL THEN 5
				WHEN l.held <> l.token OR l.was <> 2 OR l.first <= l.last_seq THEN 4
				WHEN l.first > l.last_seq + 1 THEN 9
				WHEN l.i = ANY (v_refused) THEN 8
				ELSE 6 END AS code
		FROM locked l LEFT JOIN LATERAL (
			SELECT o.at FROM SCHEMA.log o WHERE NOT l.good AND o.run_n = l.n AND o.first_seq = l.first AND (o.token = l.token) IS TRUE
		) old ON true
		ORDER BY l.i
	) a;
	IF coalesce(cardinality(v_unit), 0) < cardinality(u_run) THEN
		-- Some are missing or held by others: the arrays get their gaps.
		SELECT array_agg(a.n), array_agg(a.at), array_agg(a.inbox), array_agg(a.kept), array_agg(coalesce(a.code, CASE WHEN EXISTS (
			SELECT FROM SCHEMA.run r WHERE r.id = u_run[g.i] AND (r.tenant = u_tenant[g.i]) IS TRUE) THEN 6 ELSE 1 END))
		INTO v_run, v_at, v_inbox, v_kept, v_code
		FROM generate_subscripts(u_run, 1) AS g (i)
		LEFT JOIN unnest(v_unit, v_run, v_at, v_inbox, v_kept, v_code) AS a (i, n, at, inbox, kept, code) ON a.i = g.i;
	END IF;

	IF q_unit IS NOT NULL OR c_unit IS NOT NULL THEN
		PERFORM SCHEMA.announce_change_1();
	END IF;
	IF c_unit IS NOT NULL THEN
		UPDATE SCHEMA.question q SET state = c.state, settled = v_at[c.unit], change = nextval('SCHEMA.question_change')
		FROM unnest(c_unit, c_id, c_state) AS c (unit, id, state)
		WHERE q.id = c.id AND (q.run_n = v_run[c.unit]) IS TRUE AND q.settled IS NULL;
	END IF;
	IF q_unit IS NOT NULL THEN
		INSERT INTO SCHEMA.question (run_n, seq, change, asked, deadline, priority, schema_n, id, state, tenant, path,
			name, key, grp, uniq, audience, not_by, tags, payload, digest, details)
		SELECT v_run[x.unit], x.seq, nextval('SCHEMA.question_change'), v_at[x.unit], x.deadline, x.priority, x.schema_n, x.id, 1, u_tenant[x.unit], x.path,
			x.name, x.key, x.grp, x.uniq, 
			CASE WHEN x.audience IS NOT NULL THEN SCHEMA.texts_1(x.audience) END, CASE WHEN x.not_by IS NOT NULL THEN SCHEMA.texts_1(x.not_by) END,
			CASE WHEN x.tags IS NOT NULL THEN SCHEMA.texts_1(x.tags) END, x.payload, x.digest, x.details
		FROM unnest(q_unit, q_id, q_seq, q_priority, q_schema, q_deadline, q_path, q_name, q_key, q_group, q_unique,
			q_audience, q_not_by, q_tags, q_payload, q_digest, q_details)
			AS x (unit, id, seq, priority, schema_n, deadline, path, name, key, grp, uniq, audience, not_by, tags, payload, digest, details)
		WHERE v_run[x.unit] IS NOT NULL;
	END IF;
	IF v_ended IS NOT NULL THEN
		FOR q IN SELECT DISTINCT o.tenant, o.run_n FROM unnest(v_ended) AS e (n) JOIN SCHEMA.question o ON o.run_n = e.n AND o.settled IS NULL LOOP
			PERFORM SCHEMA.close_questions_1(q.tenant, q.run_n, 4::smallint);
		END LOOP;
	END IF;
	PERFORM SCHEMA.notify_1(p_from, p_lines);
	RETURN QUERY SELECT x.i::integer, x.code, x.at, x.inbox, x.kept, v_other[x.i], v_name[x.i], v_key[x.i]
		FROM unnest(v_code, v_at, v_inbox, v_kept) WITH ORDINALITY AS x (code, at, inbox, kept, i);
END $$;

-- append_one_1 is append_1 for a single unit that only adds records, as a run without company does: a third of
-- the work. If anything isn't as it should be, append_1 finds out what. p_lines goes to the listeners.
CREATE FUNCTION SCHEMA.append_one_1(
	p_offset bigint, p_from text, p_lines text, p_run uuid, p_tenant text, p_token bigint, p_first bigint, p_last bigint, p_records bytea
) RETURNS TABLE (o_unit integer, o_code smallint, o_at timestamptz, o_inbox bigint, o_kept boolean, o_other uuid, o_name text, o_key text)
LANGUAGE plpgsql
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	v_run bigint;
BEGIN
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM SCHEMA.durable_1();
	END IF;
	SELECT r.n, r.inbox, greatest(clock_timestamp() + p_offset * interval '1 microsecond', r.updated) INTO v_run, o_inbox, o_at
	FROM SCHEMA.run r WHERE r.id = p_run AND (r.tenant = p_tenant AND r.token = p_token AND r.status = 2 AND r.last_seq = p_first - 1) IS TRUE
	FOR UPDATE SKIP LOCKED;
	IF FOUND THEN
		INSERT INTO SCHEMA.log (run_n, first_seq, token, at, records) VALUES (v_run, p_first, p_token, o_at, p_records);
		UPDATE SCHEMA.run r SET last_seq = p_last, updated = o_at, crashes = -1 WHERE r.n = v_run;
		PERFORM pg_notify('CHANNEL', p_from || p_lines);
		o_unit := 1;
		o_code := 0;
		o_kept := false;
		RETURN NEXT;
	ELSE
		RETURN QUERY SELECT * FROM SCHEMA.append_1(p_offset, p_from, p_lines, ARRAY[p_run], ARRAY[p_tenant], ARRAY[p_token], ARRAY[p_first], ARRAY[p_last], ARRAY[p_records],
			ARRAY[0::smallint], ARRAY[0::bigint], ARRAY[NULL]::timestamptz[], ARRAY[NULL]::bytea[], ARRAY[NULL]::bytea[], ARRAY[NULL]::bytea[],
			NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL);
	END IF;
END $$;
