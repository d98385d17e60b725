package engine

import "sync"

// crew is the goroutines of an engine that run users' functions. Some are kept for the next
// function: their stacks have grown already, and growing one costs more than the rest of a short call.
type crew struct {
	mu   sync.Mutex
	idle []chan func()
	over bool
}

// crewIdle is how many goroutines are kept.
const crewIdle = 64

// start runs fn on a goroutine.
func (c *crew) start(fn func()) {
	c.mu.Lock()
	if last := len(c.idle) - 1; last >= 0 {
		next := c.idle[last]
		c.idle = c.idle[:last]
		c.mu.Unlock()
		next <- fn
		return
	}
	c.mu.Unlock()
	go c.work(fn)
}

// work ends without a further call if fn ends its goroutine.
func (c *crew) work(fn func()) {
	next := make(chan func(), 1)
	for fn != nil {
		fn()
		c.mu.Lock()
		if c.over || len(c.idle) == crewIdle {
			c.mu.Unlock()
			return
		}
		c.idle = append(c.idle, next)
		c.mu.Unlock()
		fn = <-next
	}
}

// dismiss ends the goroutines that are idle, and the others when they are.
func (c *crew) dismiss() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.over = true
	for _, next := range c.idle {
		close(next)
	}
	c.idle = nil
}
