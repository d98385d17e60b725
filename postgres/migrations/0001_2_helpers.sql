-- What the other functions share. The number at the end of a name is the version
-- of its signature: an older program keeps calling what it knows while a newer one migrates.

-- durable_1 makes this transaction's commit wait for the disk whatever the
-- server's or the user's default is: acknowledged means durable.
CREATE FUNCTION SCHEMA.durable_1() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF current_setting('synchronous_commit') = 'off' THEN
		PERFORM set_config('synchronous_commit', 'on', true);
	END IF;
END $$;

-- texts_1 reads a JSON array of strings.
CREATE FUNCTION SCHEMA.texts_1(p text) RETURNS text[] LANGUAGE sql IMMUTABLE AS $$
	SELECT ARRAY(SELECT jsonb_array_elements_text(p::jsonb))
$$;

-- announce_change_1 comes before the first change number a transaction draws.
--
-- Transactions commit in another order than they draw numbers in, so a reader
-- that saw number 7 might miss a 6 that commits later. Therefore a writer first
-- takes a shared advisory lock whose key is the last number drawn by then:
-- everything it draws is above. A reader returns nothing above the lowest such
-- key. Nobody waits for anybody; a writer that takes long (Start inside a user's
-- transaction) only holds back what readers see. Costs: one lock per commit that
-- touches a question, one look at pg_locks per read of the feed.
CREATE FUNCTION SCHEMA.announce_change_1() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
	v_last  bigint;
	v_class bigint := 'SCHEMA.question_change'::regclass::oid::bigint;
BEGIN
	-- (Reading the sequence as a table would be a sequential scan, which the callers' settings price out of reach.)
	v_last := coalesce(pg_sequence_last_value('SCHEMA.question_change'), 0) & 4294967295;
	PERFORM pg_advisory_xact_lock_shared(
		(CASE WHEN v_class > 2147483647 THEN v_class - 4294967296 ELSE v_class END)::integer,
		(CASE WHEN v_last > 2147483647 THEN v_last - 4294967296 ELSE v_last END)::integer);
END $$;

-- change_horizon_1 is the highest change number below which none can appear any more.
-- What it allows is visible to the next statement, not to the one that called it.
CREATE FUNCTION SCHEMA.change_horizon_1() RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
	v_last bigint;
	v_low  bigint;
BEGIN
	v_last := coalesce(pg_sequence_last_value('SCHEMA.question_change'), 0);
	SELECT min(v_last - ((v_last & 4294967295) - l.objid::bigint + 4294967296) % 4294967296) INTO v_low
	FROM pg_locks l
	WHERE l.locktype = 'advisory' AND l.objsubid = 2 AND l.classid = 'SCHEMA.question_change'::regclass::oid
		AND l.database = (SELECT d.oid FROM pg_database d WHERE d.datname = current_database());
	RETURN coalesce(v_low, v_last);
END $$;

-- close_questions_1 settles all open questions of a run, whose row is locked, without an answer.
CREATE FUNCTION SCHEMA.close_questions_1(p_tenant text, p_run bigint, p_state smallint) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
	IF EXISTS (SELECT FROM SCHEMA.question q WHERE q.run_n = p_run AND q.settled IS NULL) THEN
		PERFORM SCHEMA.announce_change_1();
		UPDATE SCHEMA.question q SET state = p_state, settled = (SELECT r.updated FROM SCHEMA.run r WHERE r.n = p_run),
			change = nextval('SCHEMA.question_change')
		WHERE q.run_n = p_run AND q.settled IS NULL;
	END IF;
END $$;

-- expire_1 makes an open question, whose run's row is locked, Expired and wakes the run.
CREATE FUNCTION SCHEMA.expire_1(p_tenant text, p_question uuid, p_now timestamptz) RETURNS void LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
	v_run bigint;
	v_at  timestamptz;
BEGIN
	PERFORM SCHEMA.announce_change_1();
	SELECT q.run_n INTO v_run FROM SCHEMA.question q WHERE q.id = p_question AND (q.tenant = p_tenant) IS TRUE;
	UPDATE SCHEMA.run r SET
		inbox = r.inbox + 1, updated = greatest(p_now, r.updated),
		status = CASE WHEN r.status = 3 THEN 1 ELSE r.status END,
		due = NULL,
		ready = CASE WHEN r.status = 3 THEN greatest(p_now, r.updated) WHEN r.status = 1 THEN least(r.ready, p_now) END
	WHERE r.n = v_run
	RETURNING r.updated INTO v_at;
	UPDATE SCHEMA.question q SET state = 3, settled = v_at, settled_by = '{"kind": "timeout"}', change = nextval('SCHEMA.question_change')
	WHERE q.id = p_question AND (q.tenant = p_tenant) IS TRUE;
END $$;

-- living_1 says whether a member lives, by the server's clock, which no offset moves.
CREATE FUNCTION SCHEMA.living_1(p_member uuid) RETURNS boolean LANGUAGE plpgsql STABLE AS $$
BEGIN
	RETURN EXISTS (SELECT FROM SCHEMA.member m WHERE m.id = p_member AND m.dies > clock_timestamp());
END $$;

-- note_1 is one line for the listeners: what changed of which run.
CREATE FUNCTION SCHEMA.note_1(p_tenant text, p_run uuid, p_queued boolean, p_inbox boolean, p_questions boolean) RETURNS text LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
	RETURN E'\n' || (p_queued::integer + 2 * p_inbox::integer + 4 * p_questions::integer) || p_run || encode(convert_to(p_tenant, 'UTF8'), 'hex');
END $$;

-- notify_1 sends the lines of note_1 when the transaction commits. p_from names the
-- sender, which ignores what comes back. A payload has its limit: beyond it the note is "anything".
CREATE FUNCTION SCHEMA.notify_1(p_from text, p_lines text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	IF p_lines <> '' THEN
		PERFORM pg_notify('CHANNEL', p_from || CASE WHEN length(p_lines) > 7900 THEN E'\n*' ELSE p_lines END);
	END IF;
END $$;
