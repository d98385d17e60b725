package postgres

import (
	"errors"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/fermata-go/fermata/storage"
)

// TestWhatServersAndProxiesSay: errors that no server can be made to give in a test.
func TestWhatServersAndProxiesSay(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		err       pgconn.PgError
		transient bool
		want      error
	}{
		"no code at all":                {pgconn.PgError{Message: "a proxy's own"}, false, nil},
		"a cut code":                    {pgconn.PgError{Code: "0"}, false, nil},
		"connection failure":            {pgconn.PgError{Code: "08006"}, true, nil},
		"too long for an index":         {pgconn.PgError{Code: "54000", Routine: "_bt_check_third_page"}, false, storage.ErrInvalid},
		"queue of notifications filled": {pgconn.PgError{Code: "54000", Routine: "PreCommit_Notify"}, false, storage.ErrFull},
	} {
		if got := transient(&c.err); got != c.transient {
			t.Errorf("%s: transient is %v", name, got)
		}
		err := explain(&c.err)
		if sentinel(err) != (c.want != nil) || c.want != nil && !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}
