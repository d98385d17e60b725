package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fermata-go/fermata/storage"
)

// checkAudience says whether by may answer q.
func checkAudience(q *storage.Question, by storage.Principal) error {
	if len(q.NotBy) > 0 && by.Subject == "" {
		return errors.New("some are excluded from it, so the answer must say whose it is")
	}
	for _, subject := range []string{by.Subject, by.OnBehalfOf} {
		if slices.Contains(q.NotBy, subject) {
			return fmt.Errorf("%q is excluded from it", subject)
		}
	}
	if len(q.Users) == 0 && len(q.Groups) == 0 {
		return nil
	}
	if by.Subject != "" && slices.Contains(q.Users, by.Subject) {
		return nil
	}
	for _, group := range q.Groups {
		if slices.Contains(by.Groups, group) {
			return nil
		}
	}
	return errors.New("not in its audience")
}

// satisfiable says whether there is anybody who could answer, as far as the
// sets themselves and the engine's directory tell.
func (e *Engine) satisfiable(ctx context.Context, tenant string, ask *Ask) error {
	if len(ask.Users) == 0 && len(ask.Groups) == 0 || slices.ContainsFunc(ask.Users, func(user string) bool { return !slices.Contains(ask.NotBy, user) }) {
		return nil
	}
	for _, group := range ask.Groups {
		if e.options.Members == nil {
			return nil
		}
		members, err := e.options.Members(ctx, tenant, group)
		if err != nil {
			// Who may answer is checked when somebody does; a directory that is down must not stop the work.
			e.log.Warn("directory can't be asked who could answer a question", "group", group, "error", err)
			return nil
		}
		if slices.ContainsFunc(members, func(member string) bool { return !slices.Contains(ask.NotBy, member) }) {
			return nil
		}
	}
	return fmt.Errorf("it is for users %q and groups %q, but not for %q", ask.Users, ask.Groups, ask.NotBy)
}
