-- settle_1 answers or withdraws questions, each alone. Most are settled together by one statement; what is not so
-- simple – several of one run, a group, a deadline that has passed, a question that isn't open – one after the other.
CREATE FUNCTION SCHEMA.settle_1(
	p_offset bigint, p_from text,
	s_id uuid[], s_tenant text[], s_state smallint[], s_answer bytea[], s_by text[], s_key text[], s_member uuid[], s_attempt bigint[]
) RETURNS TABLE (o_settlement integer, o_code smallint, o_repeated boolean, o_question SCHEMA.question, o_schema bytea, o_run SCHEMA.run)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
	v_now      timestamptz := clock_timestamp() + p_offset * interval '1 microsecond';
	v_lines    text;
	v_living   uuid[];
	v_place    bigint[];
	v_several  boolean;
	v_run      bigint[];   -- the run, by settlement; NULL if it is not found or not locked by us
	v_at       timestamptz[];
	v_rest     boolean[] := array_fill(false, ARRAY[cardinality(s_id)]); -- to be settled one after the other
	v_won      integer[];
	v_code     smallint[] := array_fill(0::smallint, ARRAY[cardinality(s_id)]);
	v_repeated boolean[] := array_fill(false, ARRAY[cardinality(s_id)]);
	a          record;
	s          record;
BEGIN
	PERFORM SCHEMA.durable_1();
	PERFORM SCHEMA.announce_change_1();
	SELECT array_agg(m.id) INTO v_living FROM SCHEMA.member m WHERE m.id = ANY (s_member) AND m.dies > clock_timestamp();

	WITH locked AS (
		SELECT s.i, r.n, greatest(v_now, r.updated) AS at
		FROM unnest(s_id, s_tenant, s_state) WITH ORDINALITY AS s (id, tenant, state, i)
		JOIN SCHEMA.question q ON q.id = s.id AND (q.tenant = s.tenant) IS TRUE AND s.state IN (2, 4)
		JOIN SCHEMA.run r ON r.n = q.run_n
		FOR UPDATE OF r SKIP LOCKED
	)
	SELECT array_agg(x.i), array_agg(x.n), array_agg(x.at), count(DISTINCT x.n) < count(*)
	INTO v_place, v_run, v_at, v_several FROM (SELECT * FROM locked l ORDER BY l.i) x;
	IF v_several OR coalesce(cardinality(v_place), 0) < cardinality(s_id) THEN
		-- Some are missing, held by others, or share a run: the arrays get their gaps, and those of one run are told apart.
		SELECT array_agg(x.n), array_agg(x.at), array_agg(x.several) INTO v_run, v_at, v_rest FROM (
			SELECT a.n, a.at, count(*) OVER (PARTITION BY a.n) > 1 AS several FROM generate_subscripts(s_id, 1) AS g (i)
			LEFT JOIN unnest(v_place, v_run, v_at) AS a (i, n, at) ON a.i = g.i ORDER BY g.i
		) x;
	END IF;

	-- Only what is read after the lock is sure: the questions are looked at again.
	WITH won AS (
		UPDATE SCHEMA.question q SET state = s.state, settled = s.at, attempt = s_attempt[s.i], answer = s_answer[s.i], settled_by = s_by[s.i]::jsonb,
			answer_key = s_key[s.i], change = nextval('SCHEMA.question_change')
		FROM unnest(s_id, s_state, s_member, v_run, v_at, v_rest) WITH ORDINALITY AS s (id, state, member, n, at, several, i)
		WHERE NOT s.several AND q.id = s.id AND (q.run_n = s.n) IS TRUE AND q.settled IS NULL
			AND (q.deadline IS NULL OR q.deadline > s.at) IS TRUE AND (s.state = 4 OR q.grp IS NULL) IS TRUE
		RETURNING s.i, s.n, s.at, CASE WHEN s.member = ANY (v_living) THEN s.member END AS member
	), woken AS (
		UPDATE SCHEMA.run r SET
			inbox   = r.inbox + 1,
			updated = w.at,
			due     = CASE WHEN r.status NOT IN (1, 3) THEN r.due END,
			status  = CASE WHEN r.status NOT IN (1, 3) THEN r.status WHEN w.member IS NULL THEN 1 ELSE 2 END,
			owner   = CASE WHEN r.status NOT IN (1, 3) THEN r.owner ELSE w.member END,
			token   = CASE WHEN r.status NOT IN (1, 3) OR w.member IS NULL THEN r.token ELSE r.token + 1 END,
			crashes = CASE WHEN r.status NOT IN (1, 3) THEN r.crashes ELSE greatest(r.crashes, 0) END,
			ready   = CASE WHEN w.member IS NULL THEN CASE WHEN r.status = 1 THEN least(r.ready, w.at) WHEN r.status = 3 THEN w.at END END
		FROM won w WHERE r.n = w.n
		RETURNING w.i, r.id, r.tenant, r.status
	)
	SELECT array_agg(w.i), string_agg(E'\n' || CASE WHEN w.status = 1 THEN 7 ELSE 6 END || w.id || encode(convert_to(w.tenant, 'UTF8'), 'hex'), '')
	INTO v_won, v_lines FROM woken w;

	IF coalesce(cardinality(v_won), 0) < cardinality(s_id) THEN
		v_lines := coalesce(v_lines, '');
		FOR s IN SELECT * FROM unnest(s_id, s_tenant, s_state, s_answer, s_by, s_key, s_member, s_attempt, v_run) WITH ORDINALITY
			AS s (id, tenant, state, answer, principal, key, member, attempt, n, i) WHERE s.i <> ALL (coalesce(v_won, '{}')) LOOP
			SELECT * INTO a FROM SCHEMA.settle_one_1(v_now, s.id, s.tenant, s.state, s.answer, s.principal, s.key,
				CASE WHEN s.member = ANY (v_living) THEN s.member END, s.attempt, s.n);
			v_code[s.i] := a.o_code;
			v_repeated[s.i] := a.o_repeated;
			v_lines := v_lines || a.o_line;
		END LOOP;
	END IF;
	PERFORM SCHEMA.notify_1(p_from, v_lines);
	RETURN QUERY
		SELECT x.i::integer, x.code, x.repeated, q, a.data, r
		FROM unnest(v_code, v_repeated, s_id, s_tenant) WITH ORDINALITY AS x (code, repeated, id, tenant, i)
		LEFT JOIN SCHEMA.question q ON q.id = x.id AND (q.tenant = x.tenant) IS TRUE AND x.code <> 1
		LEFT JOIN SCHEMA.run r ON r.n = q.run_n
		LEFT JOIN SCHEMA.answer_schema a ON a.n = q.schema_n;
END $$;

-- settle_one_1 settles one question of run p_run, which is locked; NULL: it is not. p_member lives or is NULL.
CREATE FUNCTION SCHEMA.settle_one_1(
	p_now timestamptz, p_id uuid, p_tenant text, p_state smallint, p_answer bytea, p_by text, p_key text, p_member uuid, p_attempt bigint, p_run bigint,
	OUT o_code smallint, OUT o_repeated boolean, OUT o_line text
) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_at timestamptz;
	q    record;
	r    record;
BEGIN
	o_repeated := false;
	o_line := '';
	IF p_state NOT IN (2, 4) THEN
		o_code := 9;
		RETURN;
	END IF;
	IF p_run IS NULL THEN
		o_code := CASE WHEN EXISTS (SELECT FROM SCHEMA.question q WHERE q.id = p_id AND (q.tenant = p_tenant) IS TRUE) THEN 6 ELSE 1 END;
		RETURN;
	END IF;
	SELECT x.id, x.status, greatest(p_now, x.updated) AS at INTO r FROM SCHEMA.run x WHERE x.n = p_run;
	SELECT x.state, x.deadline, x.answer_key, x.grp, x.attempt INTO q FROM SCHEMA.question x WHERE x.id = p_id AND (x.tenant = p_tenant) IS TRUE;
	IF NOT FOUND THEN
		o_code := 1; -- its thread was deleted a moment ago
		RETURN;
	END IF;
	IF q.state <> 1 THEN
		o_code := CASE WHEN q.attempt = p_attempt OR q.answer_key = p_key THEN 0 ELSE 7 END;
		o_repeated := o_code = 0 AND q.attempt IS DISTINCT FROM p_attempt;
		RETURN;
	END IF;
	IF q.deadline <= r.at THEN
		o_code := 7;
		PERFORM SCHEMA.expire_1(p_tenant, p_id, p_now);
		o_line := SCHEMA.note_1(p_tenant, r.id, r.status = 3, true, true);
		RETURN;
	END IF;
	o_code := 0;
	UPDATE SCHEMA.question x SET state = p_state, settled = r.at, attempt = p_attempt, answer = p_answer, settled_by = p_by::jsonb,
		answer_key = p_key, change = nextval('SCHEMA.question_change')
	WHERE x.id = p_id AND (x.tenant = p_tenant) IS TRUE;
	IF p_state = 2 AND q.grp IS NOT NULL THEN
		UPDATE SCHEMA.question x SET state = 4, settled = r.at, change = nextval('SCHEMA.question_change')
		WHERE x.run_n = p_run AND (x.grp = q.grp AND x.settled IS NULL) IS TRUE;
	END IF;
	IF r.status IN (1, 3) THEN
		-- An answer isn't lost because the member that would have gone on with it died: the run is queued.
		UPDATE SCHEMA.run x SET inbox = x.inbox + 1, updated = r.at, due = NULL,
			status  = CASE WHEN p_member IS NULL THEN 1 ELSE 2 END,
			owner   = p_member,
			token   = x.token + CASE WHEN p_member IS NULL THEN 0 ELSE 1 END,
			crashes = greatest(x.crashes, 0),
			ready   = CASE WHEN p_member IS NULL THEN CASE WHEN x.status = 1 THEN least(x.ready, r.at) ELSE r.at END END
		WHERE x.n = p_run;
	ELSE
		UPDATE SCHEMA.run x SET inbox = x.inbox + 1, updated = r.at WHERE x.n = p_run;
	END IF;
	o_line := SCHEMA.note_1(p_tenant, r.id, r.status IN (1, 3) AND p_member IS NULL, true, true);
END $$;

-- extend_1 sets the deadline of an open question, and returns it as it is then.
CREATE FUNCTION SCHEMA.extend_1(p_offset bigint, p_from text, p_tenant text, p_question uuid, p_deadline timestamptz)
RETURNS TABLE (o_code smallint, o_question SCHEMA.question, o_run uuid, o_thread text, o_entrypoint text, o_schema bytea)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	v_now timestamptz := clock_timestamp() + p_offset * interval '1 microsecond';
	r     record;
	q     record;
BEGIN
	PERFORM SCHEMA.durable_1();
	o_code := 1;
	SELECT x.run_n INTO q FROM SCHEMA.question x WHERE x.id = p_question AND (x.tenant = p_tenant) IS TRUE;
	IF FOUND THEN
		o_code := 6;
		SELECT x.n, x.id, x.status, x.thread, x.entrypoint INTO r FROM SCHEMA.run x WHERE x.n = q.run_n FOR UPDATE SKIP LOCKED;
		IF FOUND THEN
			SELECT x.state, x.deadline INTO q FROM SCHEMA.question x WHERE x.id = p_question AND (x.tenant = p_tenant) IS TRUE;
			o_code := CASE WHEN q.state <> 1 THEN 7 ELSE 0 END;
			IF o_code = 0 AND q.deadline <= v_now THEN
				o_code := 7;
				PERFORM SCHEMA.expire_1(p_tenant, p_question, v_now);
				PERFORM SCHEMA.notify_1(p_from, SCHEMA.note_1(p_tenant, r.id, r.status = 3, true, true));
			ELSIF o_code = 0 THEN
				PERFORM SCHEMA.announce_change_1();
				UPDATE SCHEMA.question x SET deadline = p_deadline, change = nextval('SCHEMA.question_change') WHERE x.id = p_question AND (x.tenant = p_tenant) IS TRUE;
				PERFORM SCHEMA.notify_1(p_from, SCHEMA.note_1(p_tenant, r.id, false, false, true));
			END IF;
			SELECT x.* INTO o_question FROM SCHEMA.question x WHERE x.id = p_question AND (x.tenant = p_tenant) IS TRUE;
			SELECT a.data INTO o_schema FROM SCHEMA.answer_schema a WHERE a.n = o_question.schema_n;
			o_run := r.id;
			o_thread := r.thread;
			o_entrypoint := r.entrypoint;
		END IF;
	END IF;
	RETURN NEXT;
END $$;
