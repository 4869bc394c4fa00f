// Package remote asks Redis about requests, for limits that nodes keep together. Who asks waits for as long as it says,
// and not at all while Redis is known to be down or slow. It knows keys and limits, and neither exchanges nor
// configurations.
package remote

import (
	"context"
	"errors"
	"log/slog"
	"strconv"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"gateway.internal/dataplane/internal/redis"
)

// How decides what becomes of a question.
type How string

// The ways; see script.
const (
	All  How = "all"
	Dry  How = "dry"
	Some How = "some"
	Look How = "none"
	give How = "give"
)

// Question is one key's.
type Question struct {
	Key       string
	Algorithm string
	// Limit and Burst are from 1 to ratelimit.MaxLimit.
	Limit, Burst int64
	// Window is 0 where From and Until say which it is.
	Window      time.Duration
	From, Until time.Time
	Cost        int64
	How         How
	// Taken is when it was asked that took what is given back; of Give alone.
	Taken time.Time
}

// Answer is what Redis says of one key.
type Answer struct {
	// Took is what was taken, Left what is left then.
	Took, Left int64
	// Wait is until a request like it may pass, where it did not; otherwise until left is what it is after a pause.
	Wait time.Duration
}

// What Ask fails with.
var (
	ErrDown = errors.New("redis does not answer, and is not asked for a while")
	ErrBusy = errors.New("more waits for redis than may")
	ErrLate = errors.New("redis did not answer in time")
	errForm = errors.New("redis has answered something else than was asked for")
)

const (
	// workers is how many pipelines are under way at a time, and batch how many scripts one has at most.
	workers = 4
	batch   = 64
	// queue is how many calls may wait.
	queue = 4096
	// longestWait is what no answer is above: the year that a token bucket may take to be full, and a month.
	longestWait = 400 * 24 * time.Hour
	maxLeft     = 1_000_000_000
)

// Store asks one Redis. It is safe for concurrent use.
type Store struct {
	client *redis.Client
	log    *slog.Logger
	gate   gate
	calls  chan *call
	ctx    context.Context //nolint:containedctx // it ends with the store
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

// call is one script's.
type call struct {
	questions []Question
	answers   []Answer
	err       error
	begun     time.Time
	within    time.Duration
	done      chan struct{}
}

// New returns a store, which Close ends. Redis need not answer.
func New(client *redis.Client, log *slog.Logger) *Store {
	s := &Store{client: client, log: log, calls: make(chan *call, queue)}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for range workers {
		s.ended.Go(s.work)
	}
	return s
}

// Close ends what is under way.
func (s *Store) Close() {
	s.cancel()
	s.ended.Wait()
}

// Down reports whether Ask would fail at once.
func (s *Store) Down() bool { return !s.gate.open(time.Now(), false) }

// Ask decides about all questions together, in one round trip. It waits for so long at most. What was asked may be
// counted although there was no answer in time.
func (s *Store) Ask(within time.Duration, questions []Question) ([]Answer, error) {
	now := time.Now()
	if !s.gate.open(now, true) {
		return nil, ErrDown
	}
	c := &call{questions: questions, begun: now, within: within, done: make(chan struct{})}
	select {
	case s.calls <- c:
	default:
		s.gate.late(now)
		return nil, ErrBusy
	}
	timer := time.NewTimer(within)
	defer timer.Stop()
	select {
	case <-c.done:
		return c.answers, c.err
	case <-timer.C:
		s.failed(ErrLate, s.gate.late(time.Now()))
		return nil, ErrLate
	case <-s.ctx.Done():
		return nil, ErrDown
	}
}

// Give gives the costs of questions back, soon. Nothing is waited for, and nothing is tried again: what can't be given
// back stays taken.
func (s *Store) Give(questions []Question) {
	now := time.Now()
	if !s.gate.open(now, false) {
		return
	}
	for i := range questions {
		questions[i].How = give
	}
	select {
	case s.calls <- &call{questions: questions, begun: now, within: redis.Timeout, done: make(chan struct{})}:
	default:
	}
}

// work sends calls that wait, many in one pipeline.
func (s *Store) work() {
	list := make([]*call, 0, batch)
	for {
		select {
		case <-s.ctx.Done():
			return
		case c := <-s.calls:
			list = append(list[:0], c)
		}
	more:
		for len(list) < batch {
			select {
			case c := <-s.calls:
				list = append(list, c)
			default:
				break more
			}
		}
		s.send(list)
		clear(list)
	}
}

// send asks about calls whose callers may still wait.
func (s *Store) send(list []*call) {
	now := time.Now()
	kept := list[:0]
	for _, c := range list {
		if now.Sub(c.begun) >= c.within {
			c.end(nil, ErrLate)
			continue
		}
		kept = append(kept, c)
	}
	if len(kept) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(s.ctx, redis.Timeout)
	defer cancel()
	unknown, err := s.run(ctx, kept, script.EvalSha)
	if len(unknown) > 0 && err == nil {
		// The server has the script no more, or not yet. Only these calls were not counted.
		kept = unknown
		_, err = s.run(ctx, kept, script.Eval)
	}
	if err != nil {
		s.failed(err, s.gate.failed(time.Now()))
		for _, c := range kept {
			c.end(nil, err)
		}
	}
}

// eval runs the script for a call.
type eval func(ctx context.Context, c goredis.Scripter, keys []string, args ...any) *goredis.Cmd

// run sends one pipeline. An error is of all calls; otherwise each has ended, but for those of unknown, for which the
// server did not know the script.
func (s *Store) run(ctx context.Context, list []*call, by eval) (unknown []*call, err error) {
	pipe := s.client.Pipeline()
	results := make([]*goredis.Cmd, len(list))
	for i, c := range list {
		keys, args := c.arguments()
		results[i] = by(ctx, pipe, keys, args...)
	}
	if _, err = pipe.Exec(ctx); err != nil && !redis.Refused(err) {
		return nil, err
	}
	good, now := false, time.Now()
	for i, c := range list {
		v, err := results[i].Result()
		if goredis.HasErrorPrefix(err, "NOSCRIPT") {
			unknown = append(unknown, c)
			continue
		}
		if err != nil {
			s.failed(err, s.gate.failed(time.Now()))
			c.end(nil, err)
			continue
		}
		answers, err := parse(v, c.questions)
		if err != nil {
			s.failed(err, s.gate.failed(time.Now()))
		} else if now.Sub(c.begun) < c.within { // what comes too late is no sign that it is worth waiting for
			good = true
		}
		c.end(answers, err)
	}
	if good {
		s.client.Up()
		if s.gate.good() {
			s.log.Info("Redis answers again, rate limits are kept together", "address", s.client.Address())
		}
	}
	return unknown, nil
}

func (s *Store) failed(err error, opened bool) {
	s.client.Failed()
	if opened {
		s.log.Warn("Redis fails, rate limits are not kept together until it answers",
			"address", s.client.Address(), "error", err.Error())
	}
}

func (c *call) end(answers []Answer, err error) {
	c.answers, c.err = answers, err
	close(c.done)
}

// arguments are those of the script.
func (c *call) arguments() (keys []string, args []any) {
	keys, args = make([]string, len(c.questions)), make([]any, 0, perKey*len(c.questions))
	for i := range c.questions {
		q := &c.questions[i]
		keys[i] = q.Key
		from, until, age := int64(0), int64(0), int64(0)
		if q.How == give {
			age = time.Since(q.Taken).Microseconds() + 1
		}
		if q.Window == 0 {
			from, until = q.From.UnixMicro(), q.Until.UnixMicro()
		}
		args = append(args, q.Algorithm, number(q.Limit), number(q.Burst), number(q.Window.Microseconds()),
			number(from), number(until), number(q.Cost), string(q.How), number(age))
	}
	return keys, args
}

func number(n int64) string { return strconv.FormatInt(n, 10) }

// parse reads what the script has returned, strictly: who can write to Redis can't say more than a limit allows.
func parse(v any, questions []Question) ([]Answer, error) {
	list, ok := v.([]any)
	if !ok || len(list) != answers*len(questions) {
		return nil, errForm
	}
	out := make([]Answer, len(questions))
	for i, q := range questions {
		var n [answers]int64
		for j := range n {
			if n[j], ok = list[answers*i+j].(int64); !ok || n[j] < 0 {
				return nil, errForm
			}
		}
		if n[0] > q.Cost || n[0] != 0 && n[0] != q.Cost && q.How != Some || n[1] > maxLeft || n[2] > longestWait.Microseconds() {
			return nil, errForm
		}
		out[i] = Answer{n[0], n[1], time.Duration(n[2]) * time.Microsecond}
	}
	return out, nil
}

// Forget deletes a key.
func (s *Store) Forget(ctx context.Context, key string) error { return s.client.Del(ctx, key).Err() }
