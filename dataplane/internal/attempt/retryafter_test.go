package attempt

import (
	"math"
	"testing"
	"time"
)

// TestRetryAfterOf reads all forms of a date, and a number of any length.
func TestRetryAfterOf(t *testing.T) {
	now := time.Date(2024, 11, 6, 8, 49, 27, 0, time.UTC)
	for value, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "-7": 0, "7s": 0, "1.5": 0, "soon": 0,
		"2147483647":                        2147483647 * time.Second,
		"2147483648":                        math.MaxInt64,
		"99999999999999999999999999":        math.MaxInt64,
		"-99999999999999999999999999":       0,
		"Wed, 06 Nov 2024 08:49:37 GMT":     10 * time.Second,
		"Wednesday, 06-Nov-24 08:49:37 GMT": 10 * time.Second,
		"Wed Nov  6 08:49:37 2024":          10 * time.Second,
		"Wed, 06 Nov 2024 08:49:17 GMT":     0,
		"Fri, 31 Dec 9999 23:59:59 GMT":     math.MaxInt64,
		"Wed, 06 Nov 2024 08:49:37 CEST":    0,
	} {
		if got := retryAfter(value, now); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
}
