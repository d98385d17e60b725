-- What the engine reads all the time, with plans that are kept. STABLE functions see one snapshot throughout.

-- load_1 is a run, with p_whole what it sees as previous and its questions, and its log from the unit with
-- the record after p_after on. The first row has the run, those that follow a unit or a question each. A unit may begin
-- before p_after, and end after o_upto: of a fork's ancestors only what came before the fork counts.
CREATE FUNCTION SCHEMA.load_1(p_tenant text, p_run uuid, p_after bigint, p_limit bigint, p_whole boolean)
RETURNS TABLE (o_run SCHEMA.run, o_previous bytea, o_first bigint, o_upto bigint, o_at timestamptz, o_records bytea, o_question SCHEMA.question, o_schema bytea)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
	v_n    bigint;
	v_last bigint;
	v_fork bigint;
BEGIN
	SELECT * INTO o_run FROM SCHEMA.run r WHERE r.id = p_run AND (r.tenant = p_tenant) IS TRUE;
	IF NOT FOUND THEN
		RETURN;
	END IF;
	IF p_whole THEN
		o_previous := SCHEMA.value_1(p_tenant, o_run.previous);
	END IF;
	v_n := o_run.n;
	v_last := o_run.last_seq;
	v_fork := o_run.fork_seq;
	RETURN NEXT;
	IF v_fork IS NULL THEN
		RETURN QUERY SELECT NULL::SCHEMA.run, NULL::bytea, g.first_seq, v_last, g.at, g.records, NULL::SCHEMA.question, NULL::bytea
			FROM SCHEMA.log g WHERE g.run_n = v_n
				AND g.first_seq >= coalesce((SELECT max(o.first_seq) FROM SCHEMA.log o WHERE o.run_n = v_n AND o.first_seq <= p_after), 0)
			ORDER BY g.first_seq LIMIT p_limit + 1;
	ELSE
		RETURN QUERY WITH RECURSIVE line (n, upto, parent, fork_seq) AS (
				SELECT r.n, r.last_seq, r.parent, r.fork_seq FROM SCHEMA.run r WHERE r.n = v_n
			UNION ALL
				SELECT p.n, least(l.fork_seq, l.upto), p.parent, p.fork_seq
				FROM line l JOIN SCHEMA.run p ON p.id = l.parent AND (p.tenant = p_tenant) IS TRUE WHERE l.fork_seq > 0
			), units AS (
				SELECT g.run_n, g.first_seq, l.upto FROM line l JOIN SCHEMA.log g ON g.run_n = l.n AND g.first_seq <= l.upto
			)
			SELECT NULL::SCHEMA.run, NULL::bytea, g.first_seq, u.upto, g.at, g.records, NULL::SCHEMA.question, NULL::bytea
			FROM units u JOIN SCHEMA.log g ON g.run_n = u.run_n AND g.first_seq = u.first_seq
			WHERE u.first_seq >= coalesce((SELECT max(x.first_seq) FROM units x WHERE x.first_seq <= p_after), 0)
			ORDER BY g.first_seq LIMIT p_limit + 1;
	END IF;
	IF p_whole THEN
		RETURN QUERY SELECT NULL::SCHEMA.run, NULL::bytea, NULL::bigint, NULL::bigint, NULL::timestamptz, NULL::bytea, q, a.data
			FROM SCHEMA.question q LEFT JOIN SCHEMA.answer_schema a ON a.n = q.schema_n WHERE q.run_n = v_n ORDER BY q.seq, q.change;
	END IF;
END $$;

-- head_1 is the present of a thread: a row with the time, its latest run and the one that holds its value, if that is another,
-- and a row for each open question.
CREATE FUNCTION SCHEMA.head_1(p_offset bigint, p_tenant text, p_thread text)
RETURNS TABLE (o_now timestamptz, o_run SCHEMA.run, o_alive boolean, o_last SCHEMA.run, o_question SCHEMA.question, o_schema bytea)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
	v_n bigint;
BEGIN
	o_now := clock_timestamp() + p_offset * interval '1 microsecond';
	SELECT * INTO o_run FROM SCHEMA.run r WHERE r.tenant = p_tenant AND r.thread = p_thread ORDER BY r.n DESC LIMIT 1;
	IF NOT FOUND THEN
		o_run := NULL;
		RETURN NEXT;
		RETURN;
	END IF;
	v_n := o_run.n;
	o_alive := o_run.owner IS NOT NULL AND SCHEMA.living_1(o_run.owner);
	IF o_run.status <> 5 AND o_run.previous IS NOT NULL THEN
		SELECT * INTO o_last FROM SCHEMA.run r WHERE r.id = o_run.previous AND (r.tenant = p_tenant) IS TRUE;
		IF NOT FOUND THEN
			o_last := NULL;
		END IF;
	END IF;
	RETURN NEXT;
	RETURN QUERY SELECT NULL::timestamptz, NULL::SCHEMA.run, NULL::boolean, NULL::SCHEMA.run, q, a.data
		FROM SCHEMA.question q LEFT JOIN SCHEMA.answer_schema a ON a.n = q.schema_n WHERE q.run_n = v_n AND q.settled IS NULL ORDER BY q.seq, q.change;
END $$;

-- run_1 is one run, or no row.
CREATE FUNCTION SCHEMA.run_1(p_tenant text, p_run uuid) RETURNS TABLE (o_run SCHEMA.run)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
AS $$
#variable_conflict use_column
BEGIN
	SELECT * INTO o_run FROM SCHEMA.run r WHERE r.id = p_run AND (r.tenant = p_tenant) IS TRUE;
	IF FOUND THEN
		RETURN NEXT;
	END IF;
END $$;

-- question_1 is one question, or no row.
CREATE FUNCTION SCHEMA.question_1(p_tenant text, p_question uuid)
RETURNS TABLE (o_question SCHEMA.question, o_run uuid, o_thread text, o_entrypoint text, o_schema bytea)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
BEGIN
	RETURN QUERY SELECT q, r.id, r.thread, r.entrypoint, a.data
		FROM SCHEMA.question q JOIN SCHEMA.run r ON r.n = q.run_n LEFT JOIN SCHEMA.answer_schema a ON a.n = q.schema_n
		WHERE q.id = p_question AND (q.tenant = p_tenant) IS TRUE;
END $$;

-- run_questions_1 are the questions of one run, of certain states or, with NULL, of all, the oldest first.
CREATE FUNCTION SCHEMA.run_questions_1(p_tenant text, p_run uuid, p_states smallint[], p_limit bigint)
RETURNS TABLE (o_question SCHEMA.question, o_run uuid, o_thread text, o_entrypoint text, o_schema bytea)
LANGUAGE plpgsql STABLE
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off
AS $$
#variable_conflict use_column
DECLARE
	v_run record;
BEGIN
	SELECT r.n, r.thread, r.entrypoint INTO v_run FROM SCHEMA.run r WHERE r.id = p_run AND (r.tenant = p_tenant) IS TRUE;
	IF FOUND THEN
		RETURN QUERY SELECT q, p_run, v_run.thread, v_run.entrypoint, a.data
			FROM SCHEMA.question q LEFT JOIN SCHEMA.answer_schema a ON a.n = q.schema_n
			WHERE q.run_n = v_run.n AND (p_states IS NULL OR q.state = ANY (p_states)) ORDER BY q.asked, q.id LIMIT p_limit;
	END IF;
END $$;
