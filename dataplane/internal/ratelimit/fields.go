package ratelimit

import (
	"strconv"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/ratelimit"
)

// policyItem returns a limit as an item of RateLimit-Policy (draft-ietf-httpapi-ratelimit-headers-10 section 3): names
// of limits are the same as Strings of structured fields (RFC 9651).
func policyItem(s *ratelimit.Settings) string {
	item := `"` + s.Name + `";q=` + strconv.FormatInt(s.Limit, 10)
	switch {
	case s.Algorithm == ratelimit.Concurrency:
		return item + `;qu="concurrent-requests"`
	case s.Calendar == ratelimit.Day:
		return item + ";w=86400"
	case s.Calendar == ratelimit.Month: // months differ: the longest
		return item + ";w=2678400"
	}
	return item + ";w=" + strconv.FormatInt(max(int64(s.Window/time.Second), 1), 10)
}

// Tell adds RateLimit-Policy and RateLimit (section 4) to the exchange's response, once.
func (t *Taken) Tell(x *exchange.Exchange) {
	if t == nil || t.told || !t.set.headers {
		return
	}
	t.told = true
	h := &x.Response.Header
	h.Add("RateLimit-Policy", t.set.policy)
	begin := len(x.Texts)
	b := x.Texts
	for i := range t.entries {
		e := &t.entries[i]
		if !e.limit.Headers || e.limit.DryRun {
			continue
		}
		if len(b) > begin {
			b = append(b, ", "...)
		}
		b = append(append(append(b, '"'), e.limit.Name...), `";r=`...)
		b = strconv.AppendInt(b, e.said.left, 10)
		if e.said.wait > 0 {
			b = strconv.AppendInt(append(b, ";t="...), seconds(e.said.wait), 10)
		}
	}
	x.Texts = b
	h.Add("RateLimit", x.Text(begin))
}
