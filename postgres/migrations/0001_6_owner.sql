-- What changes who owns a run.

-- acquire_1 gives one run to a member, or, with p_member NULL, to whoever takes it. p_owner gives up what it owns.
CREATE FUNCTION SCHEMA.acquire_1(
	p_offset bigint, p_from text, p_tenant text, p_run uuid, p_member uuid, p_owner uuid, p_statuses smallint[], p_attempt bigint
) RETURNS TABLE (o_code smallint, o_run SCHEMA.run, o_alive boolean, o_open integer)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	v_now    timestamptz := clock_timestamp() + p_offset * interval '1 microsecond';
	v_latest SCHEMA.run;
BEGIN
	PERFORM SCHEMA.durable_1();
	SELECT * INTO o_run FROM SCHEMA.run r WHERE r.id = p_run AND (r.tenant = p_tenant) IS TRUE;
	IF NOT FOUND THEN
		o_code := 1;
		RETURN NEXT;
		RETURN;
	END IF;
	IF p_member IS NOT NULL AND NOT SCHEMA.living_1(p_member) THEN
		o_code := 11;
		RETURN NEXT;
		RETURN;
	END IF;
	o_code := 6;
	IF NOT pg_try_advisory_xact_lock(SCHEMA.thread_key_1(o_run.tenant, o_run.thread)) THEN
		RETURN NEXT;
		RETURN;
	END IF;
	SELECT * INTO o_run FROM SCHEMA.run r WHERE r.id = p_run AND (r.tenant = p_tenant) IS TRUE FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		RETURN NEXT;
		RETURN;
	END IF;
	IF o_run.taken = p_attempt THEN
		o_code := 0;
		RETURN NEXT;
		RETURN;
	END IF;
	o_alive := o_run.owner IS NOT NULL AND SCHEMA.living_1(o_run.owner);
	SELECT * INTO v_latest FROM SCHEMA.run r WHERE r.tenant = o_run.tenant AND r.thread = o_run.thread ORDER BY r.n DESC LIMIT 1;
	IF v_latest.n <> o_run.n OR NOT o_run.status = ANY (p_statuses)
		OR o_run.status = 2 AND o_alive AND o_run.owner IS DISTINCT FROM p_member AND o_run.owner IS DISTINCT FROM p_owner THEN
		o_code := 2;
		o_run := v_latest;
		o_alive := o_run.owner IS NOT NULL AND SCHEMA.living_1(o_run.owner);
		SELECT count(*) INTO o_open FROM SCHEMA.question q WHERE q.run_n = o_run.n AND q.settled IS NULL;
		RETURN NEXT;
		RETURN;
	END IF;
	UPDATE SCHEMA.run r SET
		status = CASE WHEN p_member IS NULL THEN 1 ELSE 2 END,
		owner = p_member,
		token = r.token + 1,
		taken = p_attempt,
		updated = greatest(v_now, r.updated),
		due = NULL,
		ready = CASE WHEN p_member IS NULL THEN greatest(v_now, r.updated) END,
		crashes = CASE WHEN r.status = 2 AND NOT o_alive THEN r.crashes + 1 ELSE greatest(r.crashes, 0) END,
		result = NULL, saved = NULL, error = NULL,
		cancel_reason = CASE WHEN r.cancel THEN r.cancel_reason END
	WHERE r.n = o_run.n
	RETURNING r.* INTO o_run;
	o_code := 0;
	PERFORM SCHEMA.notify_1(p_from, SCHEMA.note_1(p_tenant, p_run, p_member IS NULL, false, false));
	RETURN NEXT;
END $$;

-- poll_1 keeps time and gives runs to a member. Each run comes in a row of its own; a last row, without a
-- run, says when something is due next, whether there is more, and whether more time is to be kept now.
-- With p_again it first returns what this attempt took before its answer was lost.
CREATE FUNCTION SCHEMA.poll_1(
	p_offset bigint, p_from text, p_member uuid, p_entrypoints text[], p_except uuid[], p_limit integer, p_attempt bigint, p_again boolean
) RETURNS TABLE (o_code smallint, o_run SCHEMA.run, o_now timestamptz, o_next timestamptz, o_more boolean, o_unfinished boolean, o_notes text)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off
AS $$
#variable_conflict use_column
DECLARE
	v_now    timestamptz := clock_timestamp() + p_offset * interval '1 microsecond';
	v_lines  text := '';
	v_batch  constant integer := 500;
	v_count  integer := 0;
	v_done   integer := 0;
	v_taken  integer := 0;
	v_status smallint;
	v_dead   uuid[];
	c        record;
BEGIN
	PERFORM SCHEMA.durable_1();
	FOR c IN SELECT q.id, q.run_n, q.tenant FROM SCHEMA.question q
		WHERE q.settled IS NULL AND q.deadline IS NOT NULL AND q.deadline <= v_now ORDER BY q.deadline LIMIT v_batch LOOP
		v_count := v_count + 1;
		SELECT r.* INTO o_run FROM SCHEMA.run r WHERE r.n = c.run_n FOR UPDATE SKIP LOCKED;
		CONTINUE WHEN NOT FOUND;
		PERFORM FROM SCHEMA.question q WHERE q.id = c.id AND (q.tenant = c.tenant) IS TRUE AND (q.settled IS NULL AND q.deadline <= v_now) IS TRUE;
		CONTINUE WHEN NOT FOUND;
		PERFORM SCHEMA.expire_1(c.tenant, c.id, v_now);
		v_done := v_done + 1;
		v_lines := v_lines || SCHEMA.note_1(c.tenant, o_run.id, o_run.status = 3, true, true);
	END LOOP;
	o_unfinished := v_count = v_batch AND v_done > 0;

	v_count := 0;
	FOR c IN
		UPDATE SCHEMA.run r SET status = 1, due = NULL, updated = greatest(v_now, r.updated),
			ready = CASE WHEN r.status = 3 THEN r.due ELSE r.ready END
		FROM (
			SELECT w.tenant, w.n FROM SCHEMA.run w WHERE w.due <= v_now ORDER BY w.due LIMIT v_batch FOR UPDATE SKIP LOCKED
		) d
		WHERE r.n = d.n
		RETURNING r.tenant, r.id LOOP
		v_count := v_count + 1;
		v_lines := v_lines || SCHEMA.note_1(c.tenant, c.id, true, false, false);
	END LOOP;
	o_unfinished := o_unfinished OR v_count = v_batch;

	o_code := 0;
	o_more := false;
	SELECT array_agg(m.id) INTO v_dead FROM SCHEMA.member m WHERE m.dies <= clock_timestamp();
	IF p_limit > 0 AND NOT SCHEMA.living_1(p_member) THEN
		o_code := 11;
	ELSIF p_limit > 0 THEN
		IF p_again THEN
			FOR o_run IN SELECT * FROM SCHEMA.run r WHERE r.owner = p_member AND r.taken = p_attempt AND r.status = 2 LOOP
				v_taken := v_taken + 1;
				RETURN NEXT;
			END LOOP;
		END IF;
		-- Candidates are found without a lock, and locked one by one, so that none is
		-- locked without being taken. The margin is for those that others lock meanwhile.
		FOR c IN
			SELECT x.tenant, x.n FROM (
				SELECT q.tenant, q.n, q.ready AS since FROM unnest(p_entrypoints) AS e (name), LATERAL (
					SELECT r.tenant, r.n, r.ready FROM SCHEMA.run r WHERE r.status = 1 AND r.entrypoint = e.name AND r.ready <= v_now
						AND r.id <> ALL (p_except) ORDER BY r.ready LIMIT p_limit + 100
				) q
				UNION ALL
				SELECT o.tenant, o.n, o.updated FROM unnest(v_dead) AS d (id), unnest(p_entrypoints) AS e (name), LATERAL (
					SELECT r.tenant, r.n, r.updated FROM SCHEMA.run r WHERE r.owner = d.id AND r.entrypoint = e.name AND r.status = 2
						AND r.id <> ALL (p_except) LIMIT p_limit + 100
				) o
			) x ORDER BY x.since, x.n LOOP
			EXIT WHEN v_taken >= p_limit;
			SELECT r.status INTO v_status FROM SCHEMA.run r WHERE r.n = c.n
				AND (r.status = 1 AND r.ready <= v_now OR r.status = 2 AND r.owner = ANY (v_dead)) FOR UPDATE SKIP LOCKED;
			CONTINUE WHEN NOT FOUND;
			UPDATE SCHEMA.run r SET status = 2, owner = p_member, token = r.token + 1, taken = p_attempt,
				updated = greatest(v_now, r.updated), due = NULL, ready = NULL,
				crashes = CASE WHEN v_status = 2 THEN r.crashes + 1 ELSE greatest(r.crashes, 0) END
			WHERE r.n = c.n
			RETURNING r.* INTO o_run;
			v_taken := v_taken + 1;
			v_lines := v_lines || SCHEMA.note_1(c.tenant, o_run.id, false, false, false);
			RETURN NEXT;
		END LOOP;
	END IF;
	IF v_taken >= p_limit THEN
		o_more := EXISTS (SELECT FROM SCHEMA.run r WHERE r.status = 1 AND r.entrypoint = ANY (p_entrypoints) AND r.ready <= v_now AND r.id <> ALL (p_except))
			OR EXISTS (SELECT FROM SCHEMA.run r WHERE r.owner = ANY (v_dead) AND r.entrypoint = ANY (p_entrypoints) AND r.status = 2 AND r.id <> ALL (p_except));
	END IF;
	PERFORM SCHEMA.notify_1(p_from, v_lines);
	o_notes := v_lines;
	o_run := NULL;
	o_now := v_now;
	-- What is overdue still is locked by others: nobody is to come back at once for that.
	o_next := least(
		(SELECT min(q.deadline) FROM SCHEMA.question q WHERE q.settled IS NULL AND q.deadline IS NOT NULL AND q.deadline > v_now),
		(SELECT min(r.due) FROM SCHEMA.run r WHERE r.due IS NOT NULL AND r.due > v_now));
	RETURN NEXT;
END $$;

-- cancel_1 ends a run that nobody alive owns, and asks the owner of any other to end it. With p_again it knows what
-- it did before its answer was lost by the reason: taken is left to the owner, who may not have heard of the run yet.
CREATE FUNCTION SCHEMA.cancel_1(p_offset bigint, p_from text, p_tenant text, p_run uuid, p_reason text, p_again boolean)
RETURNS TABLE (o_code smallint, o_run SCHEMA.run, o_alive boolean, o_open integer)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	v_now timestamptz := clock_timestamp() + p_offset * interval '1 microsecond';
BEGIN
	PERFORM SCHEMA.durable_1();
	SELECT * INTO o_run FROM SCHEMA.run r WHERE r.id = p_run AND (r.tenant = p_tenant) IS TRUE FOR UPDATE SKIP LOCKED;
	IF NOT FOUND THEN
		o_code := CASE WHEN EXISTS (SELECT FROM SCHEMA.run r WHERE r.id = p_run AND (r.tenant = p_tenant) IS TRUE) THEN 6 ELSE 1 END;
		o_run := NULL;
	ELSIF p_again AND (o_run.cancel OR o_run.status >= 5) AND o_run.cancel_reason = p_reason THEN
		o_code := 0;
	ELSIF o_run.status >= 5 THEN
		o_code := 2;
		o_alive := false;
		o_open := 0;
	ELSE
		o_alive := o_run.owner IS NOT NULL AND SCHEMA.living_1(o_run.owner);
		UPDATE SCHEMA.run r SET
			inbox = r.inbox + CASE WHEN o_alive THEN 1 ELSE 0 END, updated = greatest(v_now, r.updated), cancel_reason = p_reason,
			taken = CASE WHEN o_alive THEN r.taken END,
			cancel = o_alive,
			status = CASE WHEN o_alive THEN r.status ELSE 7 END,
			owner = CASE WHEN o_alive THEN r.owner END,
			due = CASE WHEN o_alive THEN r.due END,
			ready = NULL,
			error = NULL
		WHERE r.n = o_run.n
		RETURNING r.* INTO o_run;
		IF NOT o_alive THEN
			PERFORM SCHEMA.close_questions_1(o_run.tenant, o_run.n, 4::smallint);
		END IF;
		o_code := 0;
		PERFORM SCHEMA.notify_1(p_from, SCHEMA.note_1(p_tenant, p_run, false, o_alive, NOT o_alive));
	END IF;
	RETURN NEXT;
END $$;

-- beat_1 keeps members alive and returns those that are; a dead one stays dead. It also says whether
-- dead members own runs, and forgets members that have been dead for a day and own none.
CREATE FUNCTION SCHEMA.beat_1(p_members uuid[], p_timeout bigint) RETURNS TABLE (o_members uuid[], o_orphans boolean)
LANGUAGE plpgsql
AS $$
#variable_conflict use_column
DECLARE
	v_now timestamptz := clock_timestamp();
BEGIN
	-- A lost beat costs nothing, so it needn't wait for the disk.
	PERFORM set_config('synchronous_commit', 'off', true);
	WITH alive AS (
		UPDATE SCHEMA.member m SET beat = v_now, dies = v_now + p_timeout * interval '1 microsecond'
		WHERE m.id = ANY (p_members) AND m.dies > v_now
		RETURNING m.id
	) SELECT coalesce(array_agg(a.id), '{}') INTO o_members FROM alive a;
	SELECT coalesce(bool_or(x.owns), false) INTO o_orphans FROM (
		SELECT EXISTS (SELECT FROM SCHEMA.run r WHERE r.owner = m.id) AS owns FROM SCHEMA.member m WHERE m.dies <= v_now
	) x;
	DELETE FROM SCHEMA.member m WHERE m.dies < v_now - interval '1 day' AND NOT EXISTS (SELECT FROM SCHEMA.run r WHERE r.owner = m.id);
	RETURN NEXT;
END $$;

CREATE FUNCTION SCHEMA.join_1(p_member uuid, p_name text, p_timeout bigint) RETURNS void LANGUAGE sql AS $$
	INSERT INTO SCHEMA.member (id, name, joined, beat, dies)
	VALUES (p_member, p_name, clock_timestamp(), clock_timestamp(), clock_timestamp() + p_timeout * interval '1 microsecond')
	ON CONFLICT (id) DO NOTHING
$$;

-- leave_1 ends memberships at once and tells the others if they leave runs behind.
CREATE FUNCTION SCHEMA.leave_1(p_members uuid[]) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
	UPDATE SCHEMA.member m SET dies = '-infinity' WHERE m.id = ANY (p_members) AND m.dies > '-infinity';
	IF EXISTS (SELECT FROM SCHEMA.run r WHERE r.owner = ANY (p_members)) THEN
		PERFORM pg_notify('CHANNEL', E'\n1*');
	END IF;
END $$;
