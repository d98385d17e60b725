package goroutine

import (
	"runtime"
	"sync"
	"testing"
)

func TestLivingGoroutinesHaveDifferentIDs(t *testing.T) {
	const n = 100
	var mu sync.Mutex
	seen := map[uintptr]bool{ID(): true}
	var all, ready sync.WaitGroup
	release := make(chan struct{})
	for range n {
		ready.Add(1)
		all.Go(func() {
			first := ID()
			deepen(1000) // moves the stack
			runtime.Gosched()
			if ID() != first {
				t.Error("a goroutine's ID changed")
			}
			mu.Lock()
			seen[first] = true
			mu.Unlock()
			ready.Done()
			<-release
		})
	}
	ready.Wait()
	close(release)
	all.Wait()
	if len(seen) != n+1 {
		t.Errorf("%d goroutines have %d IDs", n+1, len(seen))
	}
}

func deepen(n int) int {
	var frame [128]byte
	if n == 0 {
		return int(frame[0])
	}
	return deepen(n-1) + int(frame[n%128])
}

func BenchmarkID(b *testing.B) {
	for b.Loop() {
		ID()
	}
}
