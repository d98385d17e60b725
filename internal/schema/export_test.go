package schema

// Cached returns how many compiled schemas are kept.
func Cached() int {
	schemas.mu.Lock()
	defer schemas.mu.Unlock()
	return len(schemas.new) + len(schemas.old)
}
