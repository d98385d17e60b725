-- What is read of, and done to, whole threads.

-- thread_1 is a thread: its row, if it has one, and what its runs say. No row if there is neither.
CREATE FUNCTION SCHEMA.thread_1(p_tenant text, p_thread text)
RETURNS TABLE (o_id text, o_created timestamptz, o_updated timestamptz, o_metadata jsonb, o_entrypoint text, o_status smallint)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	v_created timestamptz;
	v_updated timestamptz;
BEGIN
	SELECT r.updated, r.entrypoint, r.status INTO v_updated, o_entrypoint, o_status
	FROM SCHEMA.run r WHERE r.tenant = p_tenant AND r.thread = p_thread ORDER BY r.n DESC LIMIT 1;
	SELECT t.created, t.updated, t.metadata INTO o_created, o_updated, o_metadata FROM SCHEMA.thread t WHERE t.tenant = p_tenant AND t.id = p_thread;
	IF o_created IS NULL THEN
		SELECT r.created INTO v_created FROM SCHEMA.run r WHERE r.tenant = p_tenant AND r.thread = p_thread ORDER BY r.n LIMIT 1;
		IF NOT FOUND THEN
			RETURN;
		END IF;
		o_created := v_created;
	END IF;
	o_id := p_thread;
	o_updated := greatest(o_updated, v_updated, v_created);
	RETURN NEXT;
END $$;

-- threads_1 is a page of threads. By what their latest runs are, they are found in the index of active runs (p_active: all of
-- p_statuses are), or in one pass over that of all runs; without such a filter by steps from each thread to the next.
CREATE FUNCTION SCHEMA.threads_1(
	p_tenant text, p_after text, p_entrypoint text, p_statuses smallint[], p_active boolean, p_metadata text, p_limit bigint
) RETURNS TABLE (o_id text, o_created timestamptz, o_updated timestamptz, o_metadata jsonb)
LANGUAGE plpgsql STABLE
SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	v_left  bigint := p_limit;
	v_next  text;
	v_other text;
	t       record;
BEGIN
	IF p_active THEN
		FOR v_next IN SELECT r.thread FROM SCHEMA.run r WHERE r.tenant = p_tenant AND r.thread > p_after AND (r.status <= 4) IS TRUE
			AND r.status = ANY (p_statuses) AND (p_entrypoint IS NULL OR r.entrypoint = p_entrypoint) ORDER BY r.thread LOOP
			FOR t IN SELECT * FROM SCHEMA.thread_1(p_tenant, v_next) x WHERE p_metadata IS NULL OR x.o_metadata @> p_metadata::jsonb LOOP
				o_id := t.o_id; o_created := t.o_created; o_updated := t.o_updated; o_metadata := t.o_metadata;
				v_left := v_left - 1;
				RETURN NEXT;
			END LOOP;
			EXIT WHEN v_left <= 0;
		END LOOP;
	ELSIF p_statuses IS NOT NULL OR p_entrypoint IS NOT NULL THEN
		FOR v_next IN SELECT l.thread FROM (
				SELECT DISTINCT ON (r.thread) r.thread, r.status, r.entrypoint FROM SCHEMA.run r
				WHERE r.tenant = p_tenant AND r.thread > p_after ORDER BY r.thread, r.n DESC
			) l WHERE (p_statuses IS NULL OR l.status = ANY (p_statuses)) AND (p_entrypoint IS NULL OR l.entrypoint = p_entrypoint) LOOP
			FOR t IN SELECT * FROM SCHEMA.thread_1(p_tenant, v_next) x WHERE p_metadata IS NULL OR x.o_metadata @> p_metadata::jsonb LOOP
				o_id := t.o_id; o_created := t.o_created; o_updated := t.o_updated; o_metadata := t.o_metadata;
				v_left := v_left - 1;
				RETURN NEXT;
			END LOOP;
			EXIT WHEN v_left <= 0;
		END LOOP;
	ELSE
		v_next := p_after;
		WHILE v_left > 0 LOOP
			SELECT o.id INTO v_other FROM SCHEMA.thread o
			WHERE o.tenant = p_tenant AND o.id > v_next AND (p_metadata IS NULL OR o.metadata @> p_metadata::jsonb) ORDER BY o.id LIMIT 1;
			IF p_metadata IS NULL THEN -- only a row has metadata
				SELECT least(v_other, (SELECT r.thread FROM SCHEMA.run r WHERE r.tenant = p_tenant AND r.thread > v_next ORDER BY r.thread LIMIT 1)) INTO v_next;
			ELSE
				v_next := v_other;
			END IF;
			EXIT WHEN v_next IS NULL;
			SELECT x.o_id, x.o_created, x.o_updated, x.o_metadata INTO o_id, o_created, o_updated, o_metadata FROM SCHEMA.thread_1(p_tenant, v_next) x;
			v_left := v_left - 1;
			RETURN NEXT;
		END LOOP;
	END IF;
END $$;

-- delete_thread_1 removes a thread with all that is in it.
CREATE FUNCTION SCHEMA.delete_thread_1(p_from text, p_tenant text, p_thread text)
RETURNS TABLE (o_code smallint, o_run SCHEMA.run, o_alive boolean, o_open integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_runs bigint[];
BEGIN
	PERFORM SCHEMA.durable_1();
	o_code := 6;
	IF NOT pg_try_advisory_xact_lock(SCHEMA.thread_key_1(p_tenant, p_thread)) THEN
		RETURN NEXT;
		RETURN;
	END IF;
	SELECT * INTO o_run FROM SCHEMA.run r WHERE r.tenant = p_tenant AND r.thread = p_thread ORDER BY r.n DESC LIMIT 1;
	IF FOUND AND o_run.owner IS NOT NULL AND SCHEMA.living_1(o_run.owner) THEN
		o_code := 2;
		o_alive := true;
		SELECT count(*) INTO o_open FROM SCHEMA.question q WHERE q.run_n = o_run.n AND q.settled IS NULL;
		RETURN NEXT;
		RETURN;
	END IF;
	v_runs := SCHEMA.lock_runs_1(p_tenant, p_thread);
	IF v_runs IS NULL THEN
		o_run := NULL;
		RETURN NEXT;
		RETURN;
	END IF;
	PERFORM SCHEMA.remove_runs_1(p_tenant, v_runs);
	DELETE FROM SCHEMA.thread t WHERE t.tenant = p_tenant AND t.id = p_thread;
	PERFORM SCHEMA.notify_1(p_from, E'\n*');
	o_code := 0;
	o_run := NULL;
	RETURN NEXT;
END $$;

-- lock_runs_1 locks all runs of a thread and returns their numbers, NULL if others hold some.
CREATE FUNCTION SCHEMA.lock_runs_1(p_tenant text, p_thread text) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
	v_locked bigint[];
	v_all    integer;
BEGIN
	SELECT coalesce(array_agg(x.n), '{}') INTO v_locked FROM (
		SELECT r.n FROM SCHEMA.run r WHERE r.tenant = p_tenant AND r.thread = p_thread FOR UPDATE SKIP LOCKED
	) x;
	SELECT count(*) INTO v_all FROM SCHEMA.run r WHERE r.tenant = p_tenant AND r.thread = p_thread;
	RETURN CASE WHEN v_all = cardinality(v_locked) THEN v_locked END;
END $$;

CREATE FUNCTION SCHEMA.remove_runs_1(p_tenant text, p_runs bigint[]) RETURNS void LANGUAGE sql AS $$
	DELETE FROM SCHEMA.question q WHERE q.run_n = ANY (p_runs);
	DELETE FROM SCHEMA.log g WHERE g.run_n = ANY (p_runs);
	DELETE FROM SCHEMA.run r WHERE r.n = ANY (p_runs);
$$;

-- prune_thread_1 removes the runs that the thread's present doesn't need.
CREATE FUNCTION SCHEMA.prune_thread_1(p_from text, p_tenant text, p_thread text)
RETURNS TABLE (o_code smallint, o_removed integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_runs bigint[];
BEGIN
	PERFORM SCHEMA.durable_1();
	o_removed := 0;
	IF NOT pg_try_advisory_xact_lock(SCHEMA.thread_key_1(p_tenant, p_thread)) THEN
		o_code := 6;
		RETURN NEXT;
		RETURN;
	END IF;
	o_code := 0;
	WITH RECURSIVE latest AS (
		SELECT r.* FROM SCHEMA.run r WHERE r.tenant = p_tenant AND r.thread = p_thread ORDER BY r.n DESC LIMIT 1
	), kept (n, parent, fork_seq) AS (
		SELECT k.n, k.parent, k.fork_seq FROM latest k
	UNION
		SELECT r.n, r.parent, r.fork_seq FROM latest k JOIN SCHEMA.run r ON k.status <> 5 AND r.id = k.previous AND (r.tenant = p_tenant) IS TRUE
	), line (n, parent, fork_seq) AS (
		SELECT k.n, k.parent, k.fork_seq FROM kept k
	UNION
		SELECT p.n, p.parent, p.fork_seq FROM line l JOIN SCHEMA.run p ON l.fork_seq > 0 AND p.id = l.parent AND (p.tenant = p_tenant) IS TRUE
	)
	SELECT array_agg(r.n) INTO v_runs FROM SCHEMA.run r
	WHERE r.tenant = p_tenant AND r.thread = p_thread AND NOT r.n IN (SELECT l.n FROM line l);
	IF v_runs IS NOT NULL THEN
		-- The thread stays as old as it is.
		INSERT INTO SCHEMA.thread (tenant, id, created, updated)
		SELECT p_tenant, p_thread, min(r.created), max(r.updated) FROM SCHEMA.run r WHERE r.tenant = p_tenant AND r.thread = p_thread
		ON CONFLICT (tenant, id) DO NOTHING;
		PERFORM SCHEMA.remove_runs_1(p_tenant, v_runs);
		PERFORM SCHEMA.notify_1(p_from, E'\n*');
		o_removed := cardinality(v_runs);
	END IF;
	RETURN NEXT;
END $$;

-- copy_thread_1 copies what is in a thread to another, under new ids.
CREATE FUNCTION SCHEMA.copy_thread_1(p_offset bigint, p_from text, p_tenant text, p_source text, p_target text, p_attempt bigint)
RETURNS TABLE (o_code smallint, o_run SCHEMA.run, o_alive boolean, o_open integer)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_now    timestamptz := clock_timestamp() + p_offset * interval '1 microsecond';
	v_old    uuid[] := '{}';
	v_new    uuid[] := '{}';
	v_found  boolean;
	v_active boolean;
	v_last   bigint;
	r        SCHEMA.run;
	v_n      bigint;
BEGIN
	PERFORM SCHEMA.durable_1();
	o_code := 6;
	IF NOT (pg_try_advisory_xact_lock(SCHEMA.thread_key_1(p_tenant, p_source)) AND pg_try_advisory_xact_lock(SCHEMA.thread_key_1(p_tenant, p_target))) THEN
		RETURN NEXT;
		RETURN;
	END IF;
	SELECT * INTO o_run FROM SCHEMA.run r WHERE r.tenant = p_tenant AND r.thread = p_target ORDER BY r.n DESC LIMIT 1;
	IF FOUND THEN
		IF o_run.born = p_attempt THEN
			o_code := 0;
		ELSE
			o_code := 2;
			o_alive := o_run.owner IS NOT NULL AND SCHEMA.living_1(o_run.owner);
			SELECT count(*) INTO o_open FROM SCHEMA.question q WHERE q.run_n = o_run.n AND q.settled IS NULL;
		END IF;
		RETURN NEXT;
		RETURN;
	END IF;
	INSERT INTO SCHEMA.thread AS t (tenant, id, created, updated, metadata)
	SELECT p_tenant, p_target, v_now, v_now, (SELECT s.metadata FROM SCHEMA.thread s WHERE s.tenant = p_tenant AND s.id = p_source)
	WHERE EXISTS (SELECT FROM SCHEMA.thread s WHERE s.tenant = p_tenant AND s.id = p_source)
		OR EXISTS (SELECT FROM SCHEMA.run s WHERE s.tenant = p_tenant AND s.thread = p_source)
	ON CONFLICT (tenant, id) DO UPDATE SET metadata = excluded.metadata, updated = greatest(t.updated, excluded.updated);
	IF NOT FOUND THEN
		o_code := 1;
		RETURN NEXT;
		RETURN;
	END IF;
	PERFORM SCHEMA.announce_change_1();
	FOR r IN SELECT * FROM SCHEMA.run s WHERE s.tenant = p_tenant AND s.thread = p_source ORDER BY s.n LOOP
		v_n := r.n;
		v_last := r.last_seq;
		v_active := r.status <= 4;
		v_old := v_old || r.id;
		r.copied := coalesce(r.copied, '') || uuid_send(r.id) || int8send(v_last);
		r.n := nextval('SCHEMA.run_number');
		r.id := SCHEMA.new_id_1();
		v_new := v_new || r.id;
		r.thread := p_target;
		r.born := p_attempt;
		r.taken := NULL;
		r.owner := NULL;
		r.due := NULL;
		r.ready := NULL;
		r.parent := v_new[array_position(v_old, r.parent)];
		r.previous := v_new[array_position(v_old, r.previous)];
		IF v_active THEN
			r.status := 7;
			r.updated := greatest(v_now, r.updated);
			r.cancel := false;
			r.error := NULL;
		END IF;
		INSERT INTO SCHEMA.run SELECT r.*;
		INSERT INTO SCHEMA.log (run_n, first_seq, token, at, records)
		SELECT r.n, g.first_seq, g.token, g.at, g.records FROM SCHEMA.log g WHERE g.run_n = v_n AND g.first_seq <= v_last;
		INSERT INTO SCHEMA.question (run_n, seq, change, asked, deadline, settled, priority, schema_n, id, state, tenant, path, name, key, grp, uniq,
			answer_key, audience, not_by, tags, settled_by, payload, digest, details, answer)
		SELECT r.n, q.seq, nextval('SCHEMA.question_change'), q.asked, q.deadline, coalesce(q.settled, v_now), q.priority, q.schema_n, SCHEMA.new_id_1(),
			CASE WHEN q.state = 1 THEN 4 ELSE q.state END, q.tenant, q.path, q.name, q.key, q.grp, q.uniq,
			q.answer_key, q.audience, q.not_by, q.tags, q.settled_by, q.payload, q.digest, q.details, q.answer
		FROM (SELECT * FROM SCHEMA.question x WHERE x.run_n = v_n AND x.seq <= v_last ORDER BY x.seq, x.change) q;
	END LOOP;
	PERFORM SCHEMA.notify_1(p_from, E'\n*');
	o_code := 0;
	o_run := NULL;
	RETURN NEXT;
END $$;

-- new_id_1 makes an id as storage.NewID does: 48 bits of milliseconds, then chance.
CREATE FUNCTION SCHEMA.new_id_1() RETURNS uuid LANGUAGE sql VOLATILE AS $$
	SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
		PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3) FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid
$$;
