-- Rows travel to the program as composite values, so the order of the columns
-- is part of the program (rows.go). Later migrations add columns at the end.
--
-- The lock on a run's row guards all that is the run's: its log and its
-- questions. It is only ever taken with SKIP LOCKED, and thread and unique-key
-- locks (advisory) only tried, so a group commit waits for nobody.
--
-- Functions keep the plans they made when the tables were empty, and then every
-- index looks as good as another. So each of their queries can use one index only: what
-- is to be no more than a filter says (…) IS TRUE, and an open question, which
-- the index for lists knows by its state, is one with settled IS NULL.

CREATE SEQUENCE SCHEMA.run_number;
-- Numbers of changes of questions. See announce_change_1 for how a reader misses none.
CREATE SEQUENCE SCHEMA.question_change;

CREATE TABLE SCHEMA.run (
	n             bigint      NOT NULL,
	token         bigint      NOT NULL,
	last_seq      bigint      NOT NULL,
	inbox         bigint      NOT NULL,
	step          bigint      NOT NULL,
	fork_seq      bigint,
	born          bigint      NOT NULL, -- the attempt that made the run: lets a repeated Start know its own
	taken         bigint,               -- the attempt that changed its owner last, for the same purpose
	created       timestamptz NOT NULL,
	updated       timestamptz NOT NULL,
	due           timestamptz,
	ready         timestamptz,          -- Queued: since when, or from when on, it may be taken
	id            uuid        NOT NULL,
	owner         uuid,
	parent        uuid,
	previous      uuid,
	status        smallint    NOT NULL,
	source        smallint    NOT NULL,
	crashes       smallint    NOT NULL, -- -1: none, and the present owner has appended
	parent_end    boolean     NOT NULL,
	cancel        boolean     NOT NULL,
	tenant        text COLLATE "C" NOT NULL,
	thread        text COLLATE "C" NOT NULL,
	entrypoint    text COLLATE "C" NOT NULL,
	cancel_reason text,
	metadata      jsonb,
	input         bytea,
	config        bytea,
	result        bytea,
	saved         bytea,
	error         bytea,
	copied        bytea, -- storage.PackParts
	PRIMARY KEY (n)
) WITH (fillfactor = 80); -- room for the new version of a row beside the old: an append touches no index

CREATE UNIQUE INDEX run_id ON SCHEMA.run (id, tenant);
CREATE INDEX run_thread ON SCHEMA.run (tenant, thread, n DESC);
-- The last line of defence: starts and acquisitions hold the thread's lock.
CREATE UNIQUE INDEX run_active ON SCHEMA.run (tenant, thread) WHERE (status <= 4) IS TRUE;
CREATE INDEX run_owner ON SCHEMA.run (owner, entrypoint) WHERE owner IS NOT NULL;
CREATE INDEX run_ready ON SCHEMA.run (entrypoint, ready) WHERE status = 1;
CREATE INDEX run_due ON SCHEMA.run (due) WHERE due IS NOT NULL;

-- One row per unit.
CREATE TABLE SCHEMA.log (
	run_n     bigint      NOT NULL,
	first_seq bigint      NOT NULL,
	token     bigint      NOT NULL,
	at        timestamptz NOT NULL,
	records   bytea       NOT NULL, -- storage.PackRecords
	PRIMARY KEY (run_n, first_seq)
);

CREATE TABLE SCHEMA.answer_schema (
	n    integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	hash bytea NOT NULL UNIQUE, -- SHA-256
	data bytea NOT NULL
);

CREATE TABLE SCHEMA.question (
	run_n      bigint      NOT NULL,
	seq        bigint      NOT NULL,
	change     bigint      NOT NULL,
	asked      timestamptz NOT NULL,
	deadline   timestamptz,
	settled    timestamptz,
	attempt    bigint,             -- the attempt that settled it: lets a repeated Settle know its own
	priority   bigint      NOT NULL,
	schema_n   integer,
	id         uuid        NOT NULL,
	state      smallint    NOT NULL,
	tenant     text COLLATE "C" NOT NULL,
	path       text        NOT NULL,
	name       text COLLATE "C" NOT NULL,
	key        text,
	grp        text,
	uniq       text COLLATE "C",
	answer_key text,
	audience   text[],             -- u… a user, g… a group
	not_by     text[],
	tags       text[],
	settled_by jsonb,
	payload    bytea,
	digest     bytea,
	details    bytea,
	answer     bytea,
	PRIMARY KEY (id, tenant)
);

CREATE INDEX question_run ON SCHEMA.question (run_n, seq);
CREATE UNIQUE INDEX question_change_number ON SCHEMA.question (tenant, change);
-- Lists of open questions: what everybody may answer, and what some may, each in every order. The
-- columns rise, so that a page begins at a row of values; ~priority is -priority - 1, which can't overflow.
-- Before a table is analyzed the planner counts by the last one of equals, so that stands last whose order is the rows'.
CREATE INDEX question_open_deadline ON SCHEMA.question (tenant, coalesce(deadline, 'infinity'), id) WHERE state = 1 AND audience IS NULL;
CREATE INDEX question_open_priority ON SCHEMA.question (tenant, (~priority), id) WHERE state = 1 AND audience IS NULL;
CREATE INDEX question_open ON SCHEMA.question (tenant, asked, id) WHERE state = 1 AND audience IS NULL;
CREATE INDEX question_some_deadline ON SCHEMA.question (tenant, coalesce(deadline, 'infinity'), id) WHERE state = 1 AND audience IS NOT NULL;
CREATE INDEX question_some_priority ON SCHEMA.question (tenant, (~priority), id) WHERE state = 1 AND audience IS NOT NULL;
CREATE INDEX question_some ON SCHEMA.question (tenant, asked, id) WHERE state = 1 AND audience IS NOT NULL;
CREATE INDEX question_deadline ON SCHEMA.question (deadline) WHERE settled IS NULL AND deadline IS NOT NULL;
CREATE UNIQUE INDEX question_unique ON SCHEMA.question (tenant, name, uniq) WHERE settled IS NULL AND uniq IS NOT NULL;
CREATE INDEX question_audience ON SCHEMA.question USING gin (audience) WHERE state = 1 AND audience IS NOT NULL;
CREATE INDEX question_tags ON SCHEMA.question USING gin (tags) WHERE tags IS NOT NULL;

CREATE TABLE SCHEMA.thread (
	tenant   text COLLATE "C" NOT NULL,
	id       text COLLATE "C" NOT NULL,
	created  timestamptz NOT NULL,
	updated  timestamptz NOT NULL,
	metadata jsonb,
	PRIMARY KEY (tenant, id)
);

CREATE TABLE SCHEMA.item (
	tenant    text COLLATE "C"   NOT NULL,
	namespace text[] COLLATE "C" NOT NULL,
	key       text COLLATE "C"   NOT NULL,
	created   timestamptz NOT NULL,
	updated   timestamptz NOT NULL,
	expires   timestamptz,
	ttl       bigint      NOT NULL, -- nanoseconds
	value     bytea       NOT NULL,
	vectors   bytea,
	PRIMARY KEY (tenant, namespace, key)
);

CREATE INDEX item_expires ON SCHEMA.item (expires) WHERE expires IS NOT NULL;

CREATE TABLE SCHEMA.member (
	id     uuid PRIMARY KEY,
	name   text NOT NULL,
	joined timestamptz NOT NULL,
	beat   timestamptz NOT NULL,
	dies   timestamptz NOT NULL -- unless it beats again; past: it is dead, and stays so
) WITH (fillfactor = 50);

-- Values beyond a page are compressed; lz4 costs a tenth of the default's time where the server has it.
DO $$
DECLARE
	c record;
BEGIN
	FOR c IN VALUES ('run', 'input'), ('run', 'result'), ('run', 'saved'), ('log', 'records'),
		('question', 'payload'), ('question', 'answer'), ('item', 'value') LOOP
		EXECUTE format('ALTER TABLE SCHEMA.%I ALTER COLUMN %I SET COMPRESSION lz4', c.column1, c.column2);
	END LOOP;
EXCEPTION WHEN feature_not_supported OR invalid_parameter_value THEN
	NULL;
END $$;
