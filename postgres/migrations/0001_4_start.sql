-- start_1 makes runs, each alone; no two of one call are of the same thread.
-- p_wait waits for a thread that another transaction is working on; else it answers "locked".
-- o_run of a new run lacks what the caller has anyway: input, config, metadata, result and saved.
CREATE FUNCTION SCHEMA.start_1(
	p_offset bigint, p_from text, p_wait boolean,
	s_id uuid[], s_tenant text[], s_thread text[], s_entrypoint text[], s_source smallint[], s_finished boolean[], s_owner uuid[],
	s_due timestamptz[], s_input bytea[], s_config bytea[], s_metadata text[], s_result bytea[], s_saved bytea[],
	s_latest boolean[], s_from_run uuid[], s_from_end boolean[], s_fork_seq bigint[], s_supersede boolean[], s_born bigint[]
) RETURNS TABLE (o_start integer, o_code smallint, o_run SCHEMA.run, o_previous bytea, o_alive boolean, o_open integer, o_superseded uuid)
LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
AS $$
#variable_conflict use_column
DECLARE
	v_now    timestamptz := clock_timestamp() + p_offset * interval '1 microsecond';
	v_lines  text := '';
	v_living uuid; -- the last owner that was found alive
	v_latest SCHEMA.run;
	v_parent SCHEMA.run;
	v_n      bigint;
	v_status smallint;
	v_end    boolean;  -- the run descends from the checkpoint after its parent
	v_key    bigint := 'SCHEMA.run'::regclass::oid::bigint;
	s        record;
BEGIN
	PERFORM SCHEMA.durable_1();
	FOR s IN SELECT * FROM unnest(s_id, s_tenant, s_thread, s_entrypoint, s_source, s_finished, s_owner, s_due, s_input, s_config, s_metadata,
			s_result, s_saved, s_latest, s_from_run, s_from_end, s_fork_seq, s_supersede, s_born) WITH ORDINALITY
		AS s (id, tenant, thread, entrypoint, source, finished, owner, due, input, config, metadata,
			result, saved, latest, from_run, from_end, fork_seq, supersede, born, i) LOOP
		o_start := s.i;
		o_run := NULL; o_previous := NULL; o_alive := NULL; o_open := NULL; o_superseded := NULL;

		-- A transaction with one snapshot doesn't see who was there before it got the lock.
		IF p_wait AND current_setting('transaction_isolation') IN ('repeatable read', 'serializable') THEN
			o_code := 12;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- The lock on the thread comes first: what is read after it stays true.
		-- (The key is that of thread_key_1.)
		IF p_wait THEN
			PERFORM pg_advisory_xact_lock(hashtextextended(s.thread, hashtextextended(s.tenant, v_key)));
		ELSIF NOT pg_try_advisory_xact_lock(hashtextextended(s.thread, hashtextextended(s.tenant, v_key))) THEN
			o_code := 6;
			RETURN NEXT;
			CONTINUE;
		END IF;

		-- Mostly there is no such run, and often no other on the thread: so first only their numbers.
		SELECT r.n INTO v_n FROM SCHEMA.run r WHERE r.id = s.id AND (r.tenant = s.tenant) IS TRUE;
		IF FOUND THEN
			SELECT * INTO o_run FROM SCHEMA.run r WHERE r.n = v_n;
			o_code := CASE WHEN o_run.born = s.born THEN 0
				WHEN o_run.thread = s.thread AND o_run.entrypoint = s.entrypoint
					AND o_run.input IS NOT DISTINCT FROM s.input THEN 10
				ELSE 3 END;
			IF o_code = 3 THEN
				o_run := NULL;
			ELSE
				o_previous := SCHEMA.value_1(s.tenant, o_run.previous);
			END IF;
			RETURN NEXT;
			CONTINUE;
		END IF;

		IF s.owner IS NOT NULL AND s.owner IS DISTINCT FROM v_living THEN
			IF NOT SCHEMA.living_1(s.owner) THEN
				o_code := 11;
				RETURN NEXT;
				CONTINUE;
			END IF;
			v_living := s.owner;
		END IF;

		v_latest := NULL;
		SELECT r.n INTO v_n FROM SCHEMA.run r WHERE r.tenant = s.tenant AND r.thread = s.thread ORDER BY r.n DESC LIMIT 1;
		IF FOUND THEN
			SELECT * INTO v_latest FROM SCHEMA.run r WHERE r.n = v_n;
		END IF;
		v_parent := v_latest;
		IF NOT s.latest THEN
			v_parent := NULL;
			IF s.from_run IS NOT NULL THEN
				SELECT * INTO v_parent FROM SCHEMA.run r WHERE r.id = s.from_run AND (r.tenant = s.tenant AND r.thread = s.thread) IS TRUE;
				IF NOT FOUND THEN
					o_code := 1;
					RETURN NEXT;
					CONTINUE;
				END IF;
				IF s.from_end AND v_parent.status <> 5 OR s.fork_seq > v_parent.last_seq THEN
					o_code := 9;
					RETURN NEXT;
					CONTINUE;
				END IF;
			END IF;
		ELSIF v_latest.status = 5 THEN
			s.from_end := true;
		END IF;

		IF v_latest.status <= 4 THEN
			IF s.supersede AND NOT p_wait THEN
				SELECT * INTO v_latest FROM SCHEMA.run r WHERE r.n = v_latest.n FOR UPDATE SKIP LOCKED;
				IF NOT FOUND THEN
					o_code := 6;
					RETURN NEXT;
					CONTINUE;
				END IF;
			ELSIF s.supersede THEN
				SELECT * INTO v_latest FROM SCHEMA.run r WHERE r.n = v_latest.n FOR UPDATE;
			END IF;
			o_alive := v_latest.owner IS NOT NULL AND SCHEMA.living_1(v_latest.owner);
			IF NOT s.supersede OR v_latest.status = 2 AND o_alive THEN
				o_code := 2;
				o_run := v_latest;
				SELECT count(*) INTO o_open FROM SCHEMA.question q WHERE q.run_n = v_latest.n AND q.settled IS NULL;
				RETURN NEXT;
				CONTINUE;
			END IF;
			-- Between the two reads the run may have ended by itself.
			IF v_latest.status <= 4 THEN
				UPDATE SCHEMA.run r SET status = 8, owner = NULL, due = NULL, ready = NULL, cancel = false, error = NULL,
					updated = greatest(v_now, r.updated)
				WHERE r.n = v_latest.n;
				PERFORM SCHEMA.close_questions_1(v_latest.tenant, v_latest.n, 5::smallint);
				o_superseded := v_latest.id;
				v_lines := v_lines || SCHEMA.note_1(s.tenant, v_latest.id, false, false, true);
			ELSIF s.latest THEN
				v_parent := v_latest;
				s.from_end := v_latest.status = 5;
			END IF;
		END IF;

		v_end := v_parent.id IS NOT NULL AND s.from_end;
		v_status := CASE WHEN s.finished THEN 5 WHEN s.owner IS NOT NULL THEN 2 ELSE 1 END;
		INSERT INTO SCHEMA.run AS r (n, token, last_seq, inbox, step, fork_seq, born, created, updated, due, ready, id, owner, parent, previous,
			status, source, crashes, parent_end, cancel, tenant, thread, entrypoint, metadata, input, config, result, saved)
		VALUES (nextval('SCHEMA.run_number'), CASE WHEN v_status = 2 THEN 1 ELSE 0 END, coalesce(s.fork_seq, 0), 0,
			CASE WHEN v_parent.id IS NULL THEN -1 ELSE v_parent.step + v_end::integer + (NOT s.finished)::integer END,
			s.fork_seq, s.born, v_now, v_now, CASE WHEN v_status = 1 AND s.due > v_now THEN s.due END, CASE WHEN v_status = 1 THEN greatest(v_now, s.due) END,
			s.id, CASE WHEN v_status = 2 THEN s.owner END, v_parent.id, CASE WHEN v_end THEN v_parent.id ELSE v_parent.previous END,
			v_status, s.source, 0, v_end, false, s.tenant, s.thread, s.entrypoint, s.metadata::jsonb, s.input, s.config, s.result, s.saved)
		RETURNING r.* INTO o_run;
		o_run.input := NULL;
		o_run.config := NULL;
		o_run.metadata := NULL;
		o_run.result := NULL;
		o_run.saved := NULL;
		o_code := 0;
		IF v_end THEN
			o_previous := coalesce(v_parent.saved, v_parent.result);
		ELSIF o_run.previous IS NOT NULL THEN
			o_previous := SCHEMA.value_1(s.tenant, o_run.previous);
		END IF;
		v_lines := v_lines || E'\n' || CASE WHEN v_status = 1 THEN 1 ELSE 0 END || s.id || encode(convert_to(s.tenant, 'UTF8'), 'hex');
		RETURN NEXT;
	END LOOP;
	PERFORM SCHEMA.notify_1(p_from, v_lines);
END $$;

-- thread_key_1 is the key of the advisory lock that stands for a thread.
CREATE FUNCTION SCHEMA.thread_key_1(p_tenant text, p_thread text) RETURNS bigint LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN hashtextextended(p_thread, hashtextextended(p_tenant, 'SCHEMA.run'::regclass::oid::bigint));
END $$;

-- value_1 is what a run that has the given one as its previous sees.
CREATE FUNCTION SCHEMA.value_1(p_tenant text, p_run uuid) RETURNS bytea LANGUAGE plpgsql STABLE AS $$
BEGIN
	IF p_run IS NULL THEN
		RETURN NULL;
	END IF;
	RETURN (SELECT coalesce(r.saved, r.result) FROM SCHEMA.run r WHERE r.id = p_run AND (r.tenant = p_tenant) IS TRUE);
END $$;
