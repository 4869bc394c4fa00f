package upstream

import (
	"math/rand/v2"
	"time"
)

// anyAge is longer than connections live.
const anyAge = 100 * 365 * 24 * time.Hour

// endOf returns when a connection that is opened now is too old to be used again. Each lives up to a tenth less than
// the greatest age, so that those that were opened together don't end together. maxAge 0 is any age.
func endOf(now time.Time, maxAge time.Duration) time.Time {
	if maxAge <= 0 {
		return now.Add(anyAge)
	}
	return now.Add(maxAge - rand.N(maxAge/10+1))
}
