-- settle_1 answers or withdraws questions, one after the other, each alone.
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
	v_at       timestamptz;
	v_lines    text := '';
	v_living   uuid; -- the last member that was found alive
	v_code     smallint[] := '{}';
	v_repeated boolean[] := '{}';
	v_member   uuid;
	r          record;
	q          record;
	s          record;
BEGIN
	PERFORM SCHEMA.durable_1();
	PERFORM SCHEMA.announce_change_1();
	FOR s IN SELECT * FROM unnest(s_id, s_tenant, s_state, s_answer, s_by, s_key, s_member, s_attempt) WITH ORDINALITY
		AS s (id, tenant, state, answer, principal, key, member, attempt, i) LOOP
		v_repeated[s.i] := false;
		v_code[s.i] := 9;
		CONTINUE WHEN s.state NOT IN (2, 4);
		v_code[s.i] := 1;
		SELECT x.run_n INTO q FROM SCHEMA.question x WHERE x.id = s.id AND x.tenant = s.tenant;
		CONTINUE WHEN NOT FOUND;
		v_code[s.i] := 6;
		SELECT x.n, x.id, x.status, x.updated INTO r FROM SCHEMA.run x WHERE x.tenant = s.tenant AND x.n = q.run_n FOR UPDATE SKIP LOCKED;
		CONTINUE WHEN NOT FOUND;
		-- Read again: only what is read after the lock is sure.
		SELECT x.state, x.deadline, x.answer_key, x.grp, x.attempt INTO q FROM SCHEMA.question x WHERE x.id = s.id AND x.tenant = s.tenant;

		IF q.state <> 1 THEN
			v_code[s.i] := CASE WHEN q.attempt = s.attempt OR q.answer_key = s.key THEN 0 ELSE 7 END;
			v_repeated[s.i] := v_code[s.i] = 0 AND q.attempt IS DISTINCT FROM s.attempt;
			CONTINUE;
		END IF;
		v_at := greatest(v_now, r.updated);
		IF q.deadline <= v_at THEN
			v_code[s.i] := 7;
			PERFORM SCHEMA.expire_1(s.tenant, s.id, v_now);
			v_lines := v_lines || SCHEMA.note_1(s.tenant, r.id, r.status = 3, true, true);
			CONTINUE;
		END IF;

		v_code[s.i] := 0;
		UPDATE SCHEMA.question x SET state = s.state, settled = v_at, attempt = s.attempt, answer = s.answer, settled_by = s.principal::jsonb,
			answer_key = s.key, change = nextval('SCHEMA.question_change')
		WHERE x.id = s.id AND x.tenant = s.tenant;
		IF s.state = 2 AND q.grp IS NOT NULL THEN
			UPDATE SCHEMA.question x SET state = 4, settled = v_at, change = nextval('SCHEMA.question_change')
			WHERE x.run_n = r.n AND x.grp = q.grp AND x.state = 1;
		END IF;
		IF r.status IN (1, 3) THEN
			v_member := s.member;
			IF v_member IS DISTINCT FROM v_living THEN
				-- An answer isn't lost because the member that would have gone on with it died: the run is queued.
				v_member := CASE WHEN SCHEMA.living_1(v_member) THEN v_member END;
				v_living := coalesce(v_member, v_living);
			END IF;
			UPDATE SCHEMA.run x SET inbox = x.inbox + 1, updated = v_at, due = NULL,
				status  = CASE WHEN v_member IS NULL THEN 1 ELSE 2 END,
				owner   = v_member,
				token   = x.token + CASE WHEN v_member IS NULL THEN 0 ELSE 1 END,
				crashes = greatest(x.crashes, 0),
				ready   = CASE WHEN v_member IS NULL THEN CASE WHEN x.status = 1 THEN least(x.ready, v_at) ELSE v_at END END
			WHERE x.tenant = s.tenant AND x.n = r.n;
		ELSE
			UPDATE SCHEMA.run x SET inbox = x.inbox + 1, updated = v_at WHERE x.tenant = s.tenant AND x.n = r.n;
			v_member := NULL;
		END IF;
		v_lines := v_lines || SCHEMA.note_1(s.tenant, r.id, r.status IN (1, 3) AND v_member IS NULL, true, true);
	END LOOP;
	PERFORM SCHEMA.notify_1(p_from, v_lines);
	RETURN QUERY
		SELECT x.i::integer, x.code, x.repeated, q, a.data, r
		FROM unnest(v_code, v_repeated, s_id, s_tenant) WITH ORDINALITY AS x (code, repeated, id, tenant, i)
		LEFT JOIN SCHEMA.question q ON q.id = x.id AND q.tenant = x.tenant AND x.code <> 1
		LEFT JOIN SCHEMA.run r ON r.tenant = q.tenant AND r.n = q.run_n
		LEFT JOIN SCHEMA.answer_schema a ON a.n = q.schema_n;
END $$;

-- extend_1 sets the deadline of an open question.
CREATE FUNCTION SCHEMA.extend_1(p_offset bigint, p_from text, p_tenant text, p_question uuid, p_deadline timestamptz)
RETURNS TABLE (o_code smallint)
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
	SELECT x.run_n INTO q FROM SCHEMA.question x WHERE x.id = p_question AND x.tenant = p_tenant;
	IF FOUND THEN
		o_code := 6;
		SELECT x.n, x.id, x.status INTO r FROM SCHEMA.run x WHERE x.tenant = p_tenant AND x.n = q.run_n FOR UPDATE SKIP LOCKED;
		IF FOUND THEN
			SELECT x.state, x.deadline INTO q FROM SCHEMA.question x WHERE x.id = p_question AND x.tenant = p_tenant;
			o_code := CASE WHEN q.state <> 1 THEN 7 ELSE 0 END;
			IF o_code = 0 AND q.deadline <= v_now THEN
				o_code := 7;
				PERFORM SCHEMA.expire_1(p_tenant, p_question, v_now);
				PERFORM SCHEMA.notify_1(p_from, SCHEMA.note_1(p_tenant, r.id, r.status = 3, true, true));
			ELSIF o_code = 0 THEN
				PERFORM SCHEMA.announce_change_1();
				UPDATE SCHEMA.question x SET deadline = p_deadline, change = nextval('SCHEMA.question_change') WHERE x.id = p_question AND x.tenant = p_tenant;
				PERFORM SCHEMA.notify_1(p_from, SCHEMA.note_1(p_tenant, r.id, false, false, true));
			END IF;
		END IF;
	END IF;
	RETURN NEXT;
END $$;
