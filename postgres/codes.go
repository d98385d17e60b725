package postgres

// A code is what a function of the database answers for one thing it was asked to do.
type code int

const (
	codeDone      code = 0
	codeNotFound  code = 1
	codeBusy      code = 2
	codeConflict  code = 3
	codeStale     code = 4
	codeDuplicate code = 5
	codeLocked    code = 6
	codeSettled   code = 7
	codeUnique    code = 8
	codeInvalid   code = 9
	codeExisting  code = 10
	codeGone      code = 11 // the member is dead
	codeSnapshot  code = 12 // the program's transaction has one snapshot for all its statements
)
