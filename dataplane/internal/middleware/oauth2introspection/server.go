package oauth2introspection

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"gateway.internal/dataplane/internal/egress"
	"gateway.internal/dataplane/internal/identity"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	"gateway.internal/dataplane/internal/tokencache"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/jose"
)

const (
	// maxAnswerBytes is the longest answer.
	maxAnswerBytes = 64 << 10
	// askAgainAfter is how long after a question ahead of time, at least, the next one about the same token may come.
	askAgainAfter = time.Second
)

// answer is what the server says of a token. It is immutable but for ahead.
type answer struct {
	client *identity.Client // nil: the token is not active
	since  time.Time
	until  time.Time    // zero: the answer does not say
	ahead  atomic.Int64 // when it was last asked about ahead of time, in nanoseconds since 1970
}

// inactive is the answer for a token that is none.
var inactive = &answer{}

// counts reports whether the answer still does, where answers do for ttl.
func (a *answer) counts(now time.Time, ttl time.Duration) bool {
	if a.client == nil {
		ttl = min(ttl, maxInactive)
	}
	return now.Sub(a.since) < ttl && (a.until.IsZero() || now.Before(a.until))
}

// ages reports whether the answer counts for a last quarter of ttl only, so that the token is to be asked about ahead
// of time. It does so for one caller in [askAgainAfter].
func (a *answer) ages(now time.Time, ttl time.Duration) bool {
	if a.client == nil || now.Sub(a.since) < ttl-ttl/4 {
		return false
	}
	before, at := a.ahead.Load(), now.UnixNano()
	return at-before >= int64(askAgainAfter) && a.ahead.CompareAndSwap(before, at)
}

// server is an authorisation server with its answers. It is safe for concurrent use.
type server struct {
	url, authorization string
	timeout            time.Duration
	audiences          []string
	mapping            *identity.Mapping
	client             *egress.Client
	now                func() time.Time
	answers            *tokencache.Cache[*answer]
	asked              *telemetry.Durations

	context context.Context //nolint:containedctx // it is as long as the server is kept
	stop    context.CancelFunc
	asking  sync.WaitGroup

	mu      sync.Mutex
	flights map[string]*flight // by token
	places  places
	closed  bool
}

// flight is one question, whose answer all requests with the token wait for.
type flight struct {
	done   chan struct{}
	answer *answer
	err    error
}

func newServer(
	m *middlewarev1.Oauth2Introspection, mapping *identity.Mapping, env *pipeline.Environment,
) (s *server, err error) {
	s = &server{
		url: m.GetUrl(), timeout: defaultTimeout, audiences: m.GetAudiences(), mapping: mapping, client: env.Egress,
		now:     env.Now,
		answers: tokencache.New[*answer](int(m.GetMaxCacheBytes())), flights: map[string]*flight{}, places: newPlaces(),
		asked: env.Metrics.Durations("request_seconds", "Time that the authorisation server took, by questions to it."),
	}
	if s.now == nil {
		s.now = time.Now
	}
	if text := m.GetTimeout(); text != "" {
		if s.timeout, err = time.ParseDuration(text); err != nil {
			return nil, fmt.Errorf("oauth2_introspection: timeout: %w", err)
		}
	}
	r := &http.Request{Header: http.Header{}}
	r.SetBasicAuth(url.QueryEscape(m.GetClientId()), url.QueryEscape(m.GetClientSecret())) // RFC 6749 section 2.3.1
	s.authorization = r.Header.Get("Authorization")
	s.context, s.stop = context.WithCancel(context.Background())
	return s, nil
}

// Close ends what is asked.
func (s *server) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.stop()
	s.asking.Wait()
	return s.answers.Close()
}

// errCrowded is why a token is not asked about now.
var errCrowded = errors.New("too many tokens are asked about")

// ask asks about a token and waits for the answer, which is kept where keeps is set. What is asked already is not asked
// again.
func (s *server) ask(ctx context.Context, token string, from asker, keeps bool) (*answer, error) {
	f := s.begin(token, from, keeps)
	if f == nil {
		return nil, errCrowded
	}
	select {
	case <-f.done:
		return f.answer, f.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// begin returns the question about a token, which it asks where nobody has; nil: there is no place for it.
func (s *server) begin(token string, from asker, keeps bool) *flight {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f := s.flights[token]; f != nil {
		return f
	}
	if s.closed || !s.places.take(from) {
		return nil
	}
	token = strings.Clone(token)
	f := &flight{done: make(chan struct{})}
	s.flights[token] = f
	s.asking.Go(func() { s.fly(f, token, from, keeps) })
	return f
}

func (s *server) fly(f *flight, token string, from asker, keeps bool) {
	defer func() {
		s.mu.Lock()
		delete(s.flights, token)
		s.places.leave(from)
		s.mu.Unlock()
		close(f.done)
	}()
	f.err = errors.New("asking panicked")
	ctx, cancel := context.WithTimeout(s.context, s.timeout)
	defer cancel()
	begun := time.Now()
	var bytes int
	f.answer, bytes, f.err = s.question(ctx, token)
	s.asked.Observe(time.Since(begun))
	if f.err == nil && keeps {
		s.answers.Put(token, f.answer, 4*bytes)
	}
}

// question asks once (RFC 7662 section 2.1).
func (s *server) question(ctx context.Context, token string) (a *answer, bytes int, err error) {
	form := url.Values{"token": {token}, "token_type_hint": {"access_token"}}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, s.url, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, 0, err
	}
	r.Header.Set("Authorization", s.authorization)
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "gateway")
	res, err := s.client.Do(r, maxAnswerBytes)
	if err != nil {
		return nil, 0, err
	}
	if res.Status != http.StatusOK { // 401 is about the node's own credentials
		return nil, 0, fmt.Errorf("the server answers with %d", res.Status)
	}
	members, err := jose.ParseObject(res.Body)
	if err != nil {
		return nil, 0, fmt.Errorf("the server's answer %w", err)
	}
	active, ok := members["active"].(bool)
	if !ok {
		return nil, 0, errors.New(`the server's answer has no "active" that is true or false`)
	}
	a = &answer{since: s.now()}
	if active && s.isForHere(members) {
		if a.until, ok = timeOf(members["exp"]); !ok {
			return nil, 0, errors.New(`the server's answer has an "exp" that is no time`)
		}
		if from, ok := timeOf(members["nbf"]); !ok || from.After(a.since) {
			return a, len(res.Body), nil
		}
		delete(members, "active")
		a.client = s.mapping.Client(members, "Bearer")
	}
	return a, len(res.Body), nil
}

// isForHere reports whether a token that is active is one to show here: an access token, for one of the audiences.
func (s *server) isForHere(members map[string]any) bool {
	if kind, is := members["token_type"].(string); is && kind != "" && !strings.EqualFold(kind, "Bearer") &&
		!strings.EqualFold(kind, "access_token") {
		return false // such as one that is bound to a key, which has not been shown
	}
	if len(s.audiences) == 0 {
		return true
	}
	switch aud := members["aud"].(type) {
	case string:
		return slices.Contains(s.audiences, aud)
	case []any:
		return slices.ContainsFunc(aud, func(v any) bool {
			text, is := v.(string)
			return is && slices.Contains(s.audiences, text)
		})
	}
	return false
}

// timeOf reads seconds since 1970; ok tells that they are absent, or such.
func timeOf(v any) (at time.Time, ok bool) {
	if v == nil {
		return at, true
	}
	n, is := v.(json.Number)
	if !is {
		return at, false
	}
	seconds, err := n.Float64()
	if err != nil || seconds < 0 || seconds > 253402300799 {
		return at, false
	}
	return time.Unix(int64(seconds), 0), true
}
