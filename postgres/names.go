package postgres

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/fermata-go/fermata/storage"
)

// maxName is the limit of one name. Names are kept in indexes, whose entries, after
// compression, must fit a third of a page: several long ones together may still be refused, by the server.
const maxName = 2500

// checkText refuses what PostgreSQL can't keep as a text.
func checkText(what, s string) error {
	if !utf8.ValidString(s) || strings.Contains(s, "\x00") {
		return fmt.Errorf("%w: %s %.80q: PostgreSQL keeps texts in UTF-8 without NUL", storage.ErrInvalid, what, s)
	}
	return nil
}

// checkName is checkText for what is part of an index.
func checkName(what, s string) error {
	if len(s) > maxName {
		return fmt.Errorf("%w: %s %.80q… has %d bytes, the limit is %d", storage.ErrInvalid, what, s, len(s), maxName)
	}
	return checkText(what, s)
}

// checkTime refuses times that PostgreSQL can't keep.
func checkTime(t time.Time) error {
	if year := t.Year(); year < 1 || year > 290_000 {
		return fmt.Errorf("%w: a time in the year %d", storage.ErrInvalid, year)
	}
	return nil
}

func checkQuestion(q *storage.Question) error {
	if err := checkTime(q.Deadline); err != nil {
		return err
	}
	for _, text := range []string{q.Path, q.Key, q.Group} {
		if err := checkText("text", text); err != nil {
			return err
		}
	}
	for _, list := range [][]string{q.Users, q.Groups, q.NotBy, q.Tags} {
		for _, name := range list {
			if err := checkName("audience or tag", name); err != nil {
				return err
			}
		}
	}
	if err := checkName("name", q.Name); err != nil {
		return err
	}
	return checkName("unique key", q.Unique)
}

// checkSchema admits names of schemas that need no quoting and leave room for the names of channels.
func checkSchema(name string) error {
	ok := name != "" && len(name) <= 40 && !strings.HasPrefix(name, "pg_")
	for i, c := range name {
		letter := c >= 'a' && c <= 'z' || c == '_'
		ok = ok && (letter || i > 0 && c >= '0' && c <= '9')
	}
	if !ok {
		return fmt.Errorf("postgres: %w: schema name %.80q: use up to 40 of a-z, 0-9 and _, not beginning with a digit or pg_", storage.ErrInvalid, name)
	}
	return nil
}
