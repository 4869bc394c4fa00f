package extauth

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"
	"time"

	lru "github.com/hashicorp/golang-lru/v2"

	"gateway.internal/dataplane/internal/exchange"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// maxAnswers is how many answers a middleware keeps; the one that was not used for longest makes room.
const maxAnswers = 10_000

// answerKey is a hash of what tells requests apart, so that no credentials are kept.
type answerKey [sha256.Size]byte

// answers are those that were given lately. It is safe for concurrent use.
type answers struct {
	ttl  time.Duration
	by   []string
	kept *lru.Cache[answerKey, kept]
}

type kept struct {
	answer *answer
	until  time.Time
}

// newAnswers returns nil where nothing is to be kept.
func newAnswers(m *middlewarev1.ExtAuthCache, sent []string) (*answers, error) {
	if m == nil {
		return nil, nil //nolint:nilnil // keeping nothing is a choice
	}
	ttl, err := time.ParseDuration(m.GetTtl())
	if err != nil {
		return nil, fmt.Errorf("ext_auth: cache.ttl: %w", err)
	}
	c := &answers{ttl: ttl, by: m.GetKey()}
	if len(c.by) == 0 {
		c.by = append([]string{":method", ":authority", ":path"}, sent...)
	}
	c.kept, err = lru.New[answerKey, kept](maxAnswers)
	return c, err
}

// key covers each part with its length, and for fields how many there are, so that no two requests are alike by
// accident.
func (c *answers) key(x *exchange.Exchange) (k answerKey) {
	h := sha256.New()
	part(h, x.Scheme) // this, and the certificate, the service is told of every request
	if x.TLS != nil && x.TLS.Certificate != nil {
		part(h, x.TLS.Facts().Fingerprint)
	} else {
		part(h, "")
	}
	for _, name := range c.by {
		switch name {
		case ":client":
			part(h, x.ForwardedFor())
		case ":method":
			part(h, x.Request.Method)
		case ":authority":
			part(h, x.Request.Host)
		case ":path":
			part(h, x.Request.Path)
			if x.Request.HasQuery {
				part(h, x.Request.RawQuery)
			} else {
				part(h, "")
			}
		default:
			n := 0
			for v := range x.Request.Header.Values(name) {
				part(h, v)
				n++
			}
			number(h, n)
		}
	}
	h.Sum(k[:0])
	return k
}

func part(h hash.Hash, s string) {
	number(h, len(s))
	_, _ = h.Write([]byte(s))
}

func number(h hash.Hash, n int) {
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(n))
	_, _ = h.Write(b[:])
}

func (c *answers) get(k answerKey) *answer {
	e, ok := c.kept.Get(k)
	if !ok || !time.Now().Before(e.until) {
		return nil
	}
	return e.answer
}

// put keeps an answer that says something of the client rather than of the moment.
func (c *answers) put(k answerKey, a *answer) {
	h := &a.response.Header
	if _, sets := h.Lookup("Set-Cookie"); sets || forbidsKeeping(h) {
		return // it is for this client alone
	}
	if a.passes() || a.response.Status == 401 || a.response.Status == 403 {
		c.kept.Add(k, kept{a, time.Now().Add(c.ttl)})
	}
}

// forbidsKeeping reports whether an answer says that it is not to be kept (RFC 9111 section 5.2.2).
func forbidsKeeping(h *exchange.Header) bool {
	for v := range h.Values("Cache-Control") {
		for d := range strings.SplitSeq(v, ",") {
			if d = strings.TrimSpace(d); exchange.EqualFold(d, "no-store") || exchange.EqualFold(d, "no-cache") {
				return true
			}
		}
	}
	return false
}
