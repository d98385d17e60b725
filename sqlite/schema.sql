-- Version 1.
--
-- A record's address is its run's number and its sequence in one integer, so
-- that a log is clustered by the table's own key and needs no index:
--
--   log.k      = run.n << 24 | sequence of the last record of the unit
--   question.k = run.n << 32 | sequence of the asking record << 8 | place among that record's questions
--
-- A unit is stored as its token (unsigned varint) and its packed records. Times
-- are microseconds since 1970. A run's log is the records of its parent up to
-- run.fork, then its units, in the order of their sequences, from three places: log, question.unit and run.tail.

CREATE TABLE run (
	n          INTEGER PRIMARY KEY, -- never used twice: see counter
	id         BLOB NOT NULL,
	tenant     TEXT NOT NULL,
	thread     TEXT NOT NULL,
	entrypoint TEXT NOT NULL,
	source     INTEGER NOT NULL,
	status     INTEGER NOT NULL,
	token      INTEGER NOT NULL,
	seq        INTEGER NOT NULL, -- the last record when the run was last taken or given up; appending leaves the row alone
	inbox      INTEGER NOT NULL,
	step       INTEGER NOT NULL,
	crashes    INTEGER NOT NULL,
	fork       INTEGER NOT NULL, -- records shared with parent
	spilled    INTEGER NOT NULL, -- input and config are in spill
	created    INTEGER NOT NULL,
	updated    INTEGER NOT NULL,
	owner      BLOB,
	due        INTEGER,
	ready      INTEGER, -- queued: since when it may be taken
	cancelling INTEGER NOT NULL,
	cancel     TEXT,
	parent     BLOB,
	parent_end INTEGER NOT NULL,
	previous   BLOB,
	copied     BLOB, -- storage.PackParts
	metadata   TEXT,
	tail       BLOB, -- the unit that finished the run
	input      BLOB,
	config     BLOB,
	result     BLOB,
	saved      BLOB,
	error      BLOB
);
CREATE UNIQUE INDEX run_id ON run (id, tenant);
CREATE INDEX run_thread ON run (tenant, thread);
CREATE INDEX run_tenant ON run (tenant, n) WHERE tenant <> '';
CREATE INDEX run_queued ON run (entrypoint, ready) WHERE status = 1;
CREATE INDEX run_owned ON run (owner, entrypoint) WHERE status = 2;
CREATE INDEX run_due ON run (due) WHERE due IS NOT NULL;
CREATE INDEX run_fork ON run (parent) WHERE fork > 0;

-- What is too large for a row that is written several times in its life.
CREATE TABLE spill (
	n      INTEGER PRIMARY KEY,
	input  BLOB,
	config BLOB
);

CREATE TABLE log (
	k    INTEGER PRIMARY KEY,
	at   INTEGER NOT NULL,
	unit BLOB NOT NULL
);

CREATE TABLE question (
	k          INTEGER PRIMARY KEY,
	id         BLOB NOT NULL,
	tenant     TEXT NOT NULL,
	state      INTEGER NOT NULL,
	restricted INTEGER NOT NULL, -- not everyone may answer
	priority   INTEGER NOT NULL,
	change     INTEGER NOT NULL,
	asked      INTEGER NOT NULL,
	settled    INTEGER,
	deadline   INTEGER,
	schema     INTEGER, -- schema.n
	name       TEXT NOT NULL,
	key        TEXT NOT NULL,
	grp        TEXT NOT NULL,
	uniq       TEXT NOT NULL,
	answer_key TEXT NOT NULL,
	path       TEXT NOT NULL,
	tags       TEXT,
	audience   TEXT,
	settler    TEXT,
	digest     BLOB,
	unit       BLOB, -- the unit that opened this question and gave the run up: its last sequence, then the unit
	payload    BLOB,
	details    BLOB,
	answer     BLOB
);
-- An id is in exactly one of the next two. The first one also lists what has no deadline or no priority.
CREATE UNIQUE INDEX question_id ON question (tenant, restricted, id) WHERE state = 1;
CREATE UNIQUE INDEX question_settled ON question (tenant, id) WHERE state <> 1;
-- A list of settled questions; with the state, so that counting needs no rows.
CREATE INDEX question_past ON question (tenant, asked, id, state) WHERE state <> 1;
CREATE INDEX question_change ON question (change, tenant);
CREATE INDEX question_asked ON question (tenant, restricted, asked, id) WHERE state = 1;
CREATE INDEX question_deadline ON question (tenant, restricted, deadline, id) WHERE state = 1 AND deadline IS NOT NULL;
CREATE INDEX question_priority ON question (tenant, restricted, priority DESC, id) WHERE state = 1 AND priority <> 0;
CREATE INDEX question_due ON question (deadline) WHERE state = 1 AND deadline IS NOT NULL;
CREATE INDEX question_group ON question (grp) WHERE state = 1 AND grp <> '';
CREATE INDEX question_unique ON question (tenant, name, uniq) WHERE state = 1 AND uniq <> '';

-- The users, groups and tags of open questions: "u" or "g" or "t", then the name. "n": who may not
-- answer what everybody else may, for counts.
CREATE TABLE label (
	tenant   TEXT NOT NULL,
	label    TEXT NOT NULL,
	asked    INTEGER NOT NULL,
	id       BLOB NOT NULL,
	k        INTEGER NOT NULL,
	deadline INTEGER,
	priority INTEGER NOT NULL,
	PRIMARY KEY (tenant, label, asked, id)
) WITHOUT ROWID;
-- As the indexes of open questions: what has no deadline or no priority is listed by its id.
CREATE INDEX label_id ON label (tenant, label, id) WHERE deadline IS NULL OR priority = 0;
CREATE INDEX label_deadline ON label (tenant, label, deadline, id) WHERE deadline IS NOT NULL;
CREATE INDEX label_priority ON label (tenant, label, priority DESC, id) WHERE priority <> 0;

CREATE TABLE schema (
	n    INTEGER PRIMARY KEY,
	hash BLOB NOT NULL UNIQUE,
	body BLOB NOT NULL
);

-- Threads with metadata, and those that lost their first run.
CREATE TABLE thread (
	tenant   TEXT NOT NULL,
	id       TEXT NOT NULL,
	metadata TEXT,
	created  INTEGER NOT NULL,
	updated  INTEGER NOT NULL,
	PRIMARY KEY (tenant, id)
) WITHOUT ROWID;

CREATE TABLE item (
	n         INTEGER PRIMARY KEY,
	tenant    TEXT NOT NULL,
	namespace BLOB NOT NULL, -- the elements with a NUL byte between them, which sorts them element by element
	key       TEXT NOT NULL,
	created   INTEGER NOT NULL,
	updated   INTEGER NOT NULL,
	expires   INTEGER,
	ttl       INTEGER NOT NULL, -- nanoseconds
	value     BLOB NOT NULL,
	vectors   BLOB
);
CREATE UNIQUE INDEX item_key ON item (tenant, namespace, key);
CREATE INDEX item_expires ON item (expires) WHERE expires IS NOT NULL;

-- run and change: numbers up to here may not be given again though their rows are gone.
-- left: how often members left runs behind; raised so that other processes see a change.
CREATE TABLE counter (
	name  TEXT PRIMARY KEY,
	value INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO counter (name, value) VALUES ('run', 0), ('change', 0), ('left', 0);
