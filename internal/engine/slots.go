package engine

// slots bounds how many tasks of a run execute at once. A nil slots doesn't.
// Who waits for another task gives its slot away meanwhile, so that a limit of 1 works at any depth.
type slots chan struct{}

func newSlots(n int) slots {
	if n <= 0 {
		return nil
	}
	return make(slots, n)
}

// hold calls fn while holding a slot.
func (s slots) hold(fn func()) {
	if s != nil {
		s <- struct{}{}
		defer func() { <-s }()
	}
	fn()
}

// yield calls fn, which waits, without the slot that the caller holds.
func (s slots) yield(fn func()) {
	if s != nil {
		<-s
		defer func() { s <- struct{}{} }()
	}
	fn()
}
