package upstream

import (
	"log/slog"
	"sync/atomic"
	"testing"
	"time"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/upstream/circuit"
	"gateway.internal/dataplane/internal/upstream/outcome"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// BenchmarkResilience is what a request costs that succeeds, where its service has a circuit, ejects outliers, and has
// a budget of retries.
func BenchmarkResilience(b *testing.B) {
	for _, kind := range []string{"", "window", "hystrix"} {
		name := kind
		if kind == "" {
			name = "off"
		}
		b.Run(name, func(b *testing.B) {
			r := NewRegistry(slog.New(slog.DiscardHandler))
			defer r.Close()
			m := &configv1.Service{
				Id: "s", Name: "s", Endpoints: []*configv1.Endpoint{{Host: "127.0.0.1", Port: 1}, {Host: "127.0.0.1", Port: 2}},
			}
			if kind != "" {
				m.CircuitBreakerConfig = &configv1.CircuitBreakerConfig{Type: kind}
				m.OutlierDetection = &configv1.OutlierDetection{}
			}
			r.Apply(map[string]Definition{"s": {Service: m}}, nil)
			s := r.Get("s")
			all := s.current.Load().endpoints
			now := time.Now()
			var shards atomic.Uint32
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				n := shards.Add(1)
				x := &exchange.Exchange{}
				x.Now, x.Shard = now, n
				result := Result{Service: s, Endpoint: all[int(n)%len(all)]}
				for pb.Next() {
					if kind != "" {
						s.Retries.Budget.Request(x.Now)
					}
					if s.Admit(x, &result.Permit) != circuit.Admitted {
						b.Error("refused")
						return
					}
					result.Result = outcome.Result{Kind: outcome.Answered, Status: 200, Begun: now, Ended: now, Took: time.Millisecond}
					s.Ended(&result)
					result.Permit.Leave()
				}
			})
		})
	}
}
