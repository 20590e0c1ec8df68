package support

import (
	"testing"
	"time"
)

// Eventually looks until check finds nothing wrong. What it found last is the test's failure.
func Eventually(t testing.TB, limit time.Duration, what string, check func() error) {
	t.Helper()
	var err error
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if err = check(); err == nil {
			return
		}
	}
	t.Fatalf("not within %s: %s: %v", limit, what, err)
}
