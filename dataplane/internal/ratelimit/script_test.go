package ratelimit

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
)

// halves is a hook that sends pipelines in halves, and does something to the server before each.
type halves struct {
	before func(half int)
	sent   atomic.Int32 // pipelines of more than one command
}

func (*halves) DialHook(next goredis.DialHook) goredis.DialHook          { return next }
func (*halves) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

func (h *halves) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		if len(cmds) < 2 || cmds[0].Name() != "evalsha" {
			return next(ctx, cmds)
		}
		h.sent.Add(1)
		h.before(0)
		first := next(ctx, cmds[:len(cmds)/2])
		h.before(1)
		if err := next(ctx, cmds[len(cmds)/2:]); first == nil {
			return err
		}
		return first
	}
}

// TestScriptsForgottenAmidAPipeline: where Redis does not know the script for some calls of a pipeline, each request is
// counted once, and none is decided without Redis.
func TestScriptsForgottenAmidAPipeline(t *testing.T) {
	const flush, learn, nothing = "flush", "learn", ""
	for name, does := range map[string][2]string{
		"all of it":       {flush, nothing},
		"the second half": {learn, flush},
		"the first half":  {flush, learn},
	} {
		t.Run(name, func(t *testing.T) {
			plain, client := redisAt(t, "127.0.0.1:"+server.port), redisAt(t, "127.0.0.1:"+server.port)
			other := together(t).set(t, `{"name": "other", "limit": 1000000, "window": "1s",
				"store": "redis", "timeout": "10s"}`)
			h := &halves{before: func(half int) {
				switch does[half] {
				case flush:
					if err := plain.ScriptFlush(context.Background()).Err(); err != nil {
						t.Error(err)
					}
				case learn:
					other.passes("192.0.2.9")
				}
			}}
			client.AddHook(h)
			s := nodeOn(t, client).set(t, `{"name": "l", "algorithm": "fixed_window", "window": "month", "limit": 100000,
				"store": "redis", "timeout": "10s", "on_error": "deny"}`)
			const each, clients = 10, 100
			var running sync.WaitGroup
			for range clients {
				running.Go(func() {
					for range each {
						if !s.passes("192.0.2.1") {
							t.Error("a request was decided without Redis")
						}
					}
				})
			}
			running.Wait()
			if h.sent.Load() == 0 {
				t.Fatal("no pipeline had two scripts")
			}
			l := s.limits[0]
			left, _, err := l.askRedis(1, l.redisKey(nil), false, time.Now())
			if err != nil || left != l.Limit-each*clients {
				t.Errorf("%d requests were counted, %d made: %v", l.Limit-left, each*clients, err)
			}
		})
	}
}
