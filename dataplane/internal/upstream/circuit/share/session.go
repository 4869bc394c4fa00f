package share

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"gateway.internal/dataplane/internal/redis"
	"gateway.internal/dataplane/internal/upstream/circuit"
)

const (
	// lookInterval is how often a node reads some keys: messages are not kept for who does not listen just then.
	lookInterval = 10 * time.Second
	// batch is how many keys are read at once.
	batch = 500
	// queue is how many messages wait to be looked at. Redis closes the connection of a node that falls behind further
	// than its client-output-buffer-limit allows, and the node reads all keys then.
	queue = 256
	// noKey is PTTL's answer for a key that is not there.
	noKey = time.Duration(-2)
)

// open writes the value of a key (ARGV[1]) for a time (ARGV[2], milliseconds), unless another node's opening lasts
// longer, and publishes it (ARGV[5] on ARGV[4]). ARGV[3] is what the node's own values begin with. What no node has
// written is overwritten.
var open = goredis.NewScript(`
local value = redis.pcall('GETRANGE', KEYS[1], 0, 64)
local others = type(value) == 'string' and string.find(value, '^1 %x+ %d+ %d+$')
  and string.sub(value, 1, #ARGV[3]) ~= ARGV[3]
if not (others and redis.call('PTTL', KEYS[1]) >= tonumber(ARGV[2])) then
  redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
end
redis.call('PUBLISH', ARGV[4], ARGV[5])
return 1`)

// shut removes a key that still has a value (ARGV[1]), and publishes in any case (ARGV[3] on ARGV[2]): there may be
// nodes that have taken that opening though another node's has replaced it.
var shut = goredis.NewScript(`
if redis.pcall('GETRANGE', KEYS[1], 0, 64) == ARGV[1] then
  redis.call('DEL', KEYS[1])
end
redis.call('PUBLISH', ARGV[2], ARGV[3])
return 1`)

// session connects, and shares until that fails. begun is called once it works.
func (s *Sharing) session(ctx context.Context, begun func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	channel := s.channel()
	listening := s.redis.Subscribe(ctx)
	defer func() { _ = listening.Close() }()
	if err := listening.Subscribe(ctx, channel); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	if _, err := listening.ReceiveTimeout(ctx, redis.Timeout); err != nil {
		return fmt.Errorf("subscribe: %w", err)
	}
	messages, failed := make(chan string, queue), make(chan error, 1)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		failed <- s.listen(ctx, listening, messages)
	}()
	defer func() {
		cancel()
		_ = listening.Close() // ends the wait for a message
		<-ended
	}()
	all := s.entries()
	for _, e := range all {
		e.unread.Store(true)
		e.written = 0 // Redis may have forgotten it
		e.dirty.Store(true)
	}
	if err := s.sync(ctx); err != nil {
		return err
	}
	begun()
	look := time.NewTimer(jittered(s.lookInterval))
	defer look.Stop()
	for next := 0; ; {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-failed:
			return err
		case text := <-messages:
			s.hear(text)
		case <-s.wake:
			if err := s.sync(ctx); err != nil {
				return err
			}
		case <-look.C:
			if err := listening.Ping(ctx); err != nil { // its answer ends the wait in listen
				return fmt.Errorf("ping: %w", err)
			}
			all := s.entries()
			if next >= len(all) {
				next = 0
			}
			end := min(next+batch, len(all))
			if err := s.read(ctx, all[next:end]); err != nil {
				return err
			}
			next = end
			look.Reset(jittered(s.lookInterval))
		}
	}
}

func (s *Sharing) channel() string { return fmt.Sprintf("%s%d", channelPrefix, s.redis.Database()) }

// jittered returns between three quarters and five quarters of d.
func jittered(d time.Duration) time.Duration { return d - d/4 + rand.N(d/2) }

// listen receives until that fails, or nothing has come for longer than two answers to a ping may take.
func (s *Sharing) listen(ctx context.Context, listening *goredis.PubSub, to chan<- string) error {
	for {
		m, err := listening.ReceiveTimeout(ctx, 3*s.lookInterval)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		if m, ok := m.(*goredis.Message); ok {
			select {
			case to <- m.Payload:
			case <-ctx.Done():
				return ctx.Err()
			}
		}
	}
}

// sync reads the keys of new circuits, and writes what has changed.
func (s *Sharing) sync(ctx context.Context) error {
	all := s.entries()
	var unread []*entry
	for _, e := range all {
		if e.unread.Swap(false) {
			unread = append(unread, e)
		}
	}
	for len(unread) > 0 {
		n := min(batch, len(unread))
		if err := s.read(ctx, unread[:n]); err != nil {
			return err
		}
		unread = unread[n:]
	}
	for _, e := range all {
		if e.dirty.Swap(false) {
			if err := s.write(ctx, e); err != nil {
				return fmt.Errorf("write: %w", err)
			}
		}
	}
	return nil
}

// write tells others of the state of a circuit.
func (s *Sharing) write(ctx context.Context, e *entry) error {
	ctx, cancel := context.WithTimeout(ctx, redis.Timeout)
	defer cancel()
	now := time.Now()
	if generation, left := e.circuit.Own(now); left > 0 {
		if generation == e.written {
			return nil
		}
		if generation != e.sharedOf { // otherwise it is the same opening once more
			s.openings++
			e.shared, e.sharedOf = circuit.Opening{Node: s.node, Generation: s.openings}, generation
		}
		left = min(max(left, time.Millisecond), maxOpen)
		e.value = value(e.shared, left)
		if err := open.Run(ctx, s.redis, []string{keyPrefix + e.hash},
			e.value, left.Milliseconds(), nodeValue(s.node), s.channel(), openWord+e.hash+" "+e.value).Err(); err != nil {
			return err
		}
		e.written = generation
		return nil
	}
	if e.value == "" || e.circuit.Status(now).State != circuit.Closed {
		return nil // it ends by itself
	}
	if err := shut.Run(ctx, s.redis, []string{keyPrefix + e.hash},
		e.value, s.channel(), closeWord+e.hash+" "+e.value).Err(); err != nil {
		return err
	}
	e.written, e.value = 0, ""
	return nil
}

// read takes what is in the keys of these circuits.
func (s *Sharing) read(ctx context.Context, of []*entry) error {
	if len(of) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, redis.Timeout)
	defer cancel()
	pipe := s.redis.Pipeline()
	values, left := make([]*goredis.StringCmd, len(of)), make([]*goredis.DurationCmd, len(of))
	for i, e := range of {
		values[i] = pipe.GetRange(ctx, keyPrefix+e.hash, 0, maxValue)
		left[i] = pipe.PTTL(ctx, keyPrefix+e.hash)
	}
	if _, err := pipe.Exec(ctx); err != nil && !redis.Refused(err) {
		return fmt.Errorf("read: %w", err)
	}
	for i, e := range of {
		text, err := values[i].Result()
		switch {
		case err != nil && !goredis.HasErrorPrefix(err, "WRONGTYPE"):
			return fmt.Errorf("read: %w", err)
		case err == nil && text == "", left[i].Val() == noKey:
			continue
		}
		opening, _, ok := parseValue(text)
		if err != nil || !ok || left[i].Val() <= 0 {
			s.invalid.Add(1)
			continue
		}
		s.take(e, opening, min(left[i].Val(), maxOpen))
	}
	return nil
}
