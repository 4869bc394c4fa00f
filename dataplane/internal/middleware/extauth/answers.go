package extauth

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/live"
	"gateway.internal/dataplane/internal/pipeline"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// maxAnswers is how many answers a middleware keeps, and maxAnswersBytes what the service may have sent for all of
// them, in bytes; the ones that were not used for longest make room.
const (
	maxAnswers      = 10_000
	maxAnswersBytes = 16 << 20
)

// answerKey is a hash of what tells requests apart, so that no credentials are kept.
type answerKey [sha256.Size]byte

// keeping is how a step keeps answers.
type keeping struct {
	ttl time.Duration
	by  []string
	now func() time.Time
	ref *live.Ref[*answers]
}

// answers are those that were given lately. It is safe for concurrent use.
type answers struct {
	mu    sync.Mutex
	by    *simplelru.LRU[answerKey, kept]
	bytes int // of all of them
}

func newAnswers() (a *answers, err error) {
	a = &answers{}
	a.by, err = simplelru.NewLRU(maxAnswers, func(_ answerKey, gone kept) { a.bytes -= gone.answer.bytes })
	return a, err
}

func (a *answers) get(k answerKey) (e kept, found bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.by.Get(k)
}

func (a *answers) put(k answerKey, e kept) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.by.Remove(k) // what Add puts something in the place of is not told to be gone
	a.by.Add(k, e)
	for a.bytes += e.answer.bytes; a.bytes > maxAnswersBytes; {
		a.by.RemoveOldest()
	}
}

// Close implements io.Closer.
func (a *answers) Close() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.by.Purge()
	return nil
}

type kept struct {
	answer *answer
	since  time.Time
}

// keptBy is what kept answers go by: the middleware, and its settings but those that an answer does not depend on.
type keptBy struct {
	middleware string
	settings   [sha256.Size]byte
}

// newKeeping returns nil where nothing is to be kept. What is kept outlives changes of the configuration that leave the
// middleware's settings as they are, and changes of those that say only how long an answer counts, or what becomes of
// a request without one.
func newKeeping(m *middlewarev1.ExtAuth, sent []string, env *pipeline.Environment) (*keeping, error) {
	cache := m.GetCache()
	if cache == nil {
		return nil, nil //nolint:nilnil // keeping nothing is a choice
	}
	ttl, err := time.ParseDuration(cache.GetTtl())
	if err != nil {
		return nil, fmt.Errorf("ext_auth: cache.ttl: %w", err)
	}
	k := &keeping{ttl: ttl, by: cache.GetKey(), now: env.Now}
	if k.now == nil {
		k.now = time.Now
	}
	if len(k.by) == 0 {
		k.by = append([]string{":method", ":authority", ":path"}, sent...)
	}
	matter := proto.CloneOf(m)
	matter.Timeout, matter.OnError, matter.Cache.Ttl = "", "", ""
	matter.ServiceId = env.Service(m.GetServiceId()).Name() // ids of files change when they are read
	settings, err := proto.MarshalOptions{Deterministic: true}.Marshal(matter)
	if err != nil {
		return nil, fmt.Errorf("ext_auth: %w", err)
	}
	k.ref, err = live.Keep(env.Live, keptBy{env.Name, sha256.Sum256(settings)}, newAnswers)
	return k, err
}

// key covers each part with its length, and for fields how many there are, so that no two requests are alike by
// accident.
func (c *keeping) key(x *exchange.Exchange) (k answerKey) {
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

func (c *keeping) get(k answerKey) *answer {
	e, ok := c.ref.Value().get(k)
	if !ok || c.now().Sub(e.since) >= c.ttl {
		return nil
	}
	return e.answer
}

// put keeps an answer that says something of the client rather than of the moment.
func (c *keeping) put(k answerKey, a *answer) {
	h := &a.header
	if _, sets := h.Lookup("Set-Cookie"); sets || a.failed || a.cut || forbidsKeeping(h) {
		return // it is for this client alone, or may be another one the next time
	}
	if a.passes || a.status == 401 || a.status == 403 {
		c.ref.Value().put(k, kept{a, c.now()})
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
