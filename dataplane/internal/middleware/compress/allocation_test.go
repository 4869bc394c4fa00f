//go:build !race

package compress

import (
	"bytes"
	"fmt"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// nowhere is a client that takes everything.
type nowhere struct {
	exchange.Downstream
	bytes int
}

func (n *nowhere) WriteHead(_ *exchange.Exchange, b []byte, _ bool) error {
	n.bytes += len(b)
	return nil
}

func (n *nowhere) WriteBody(_ *exchange.Exchange, b []byte, _ bool) error {
	n.bytes += len(b)
	return nil
}

// records is JSON of some length.
func records(n int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"name":"user-%x","email":"u%d@example.com","active":%v,"tags":["alpha","beta%d"]},`,
			i*7919, i*2654435761, i*31, i%3 == 0, i%17)
	}
	return b.Bytes()[:n]
}

// exchanged takes one exchange through a step, the body in parts of at most 64 KiB, as they come from a service.
func exchanged(s *step, x *exchange.Exchange, to exchange.Downstream, accept string, body []byte) {
	x.Reset()
	x.Down = to
	x.Request.Method = "GET"
	x.Request.Header.Add("Accept-Encoding", accept)
	x.Request.Header.Add("If-None-Match", `W/"other"`)
	s.Request(x)
	answer(x, "application/json")
	x.Response.Header.Add("ETag", `"tag"`)
	x.Response.Header.Add("Vary", "Origin")
	s.Response(x)
	const most = 64 << 10
	first := min(len(body), most)
	_ = x.Down.WriteHead(x, body[:first], first == len(body))
	for body = body[first:]; len(body) > 0; {
		n := min(len(body), most)
		_ = x.Down.WriteBody(x, body[:n], n == len(body))
		body = body[n:]
	}
}

// Under the race detector pools drop what they are given on purpose, so this is tested without it.
func TestNoAllocationPerResponse(t *testing.T) {
	s := newStep(t, &middlewarev1.Compress{})
	var x exchange.Exchange
	to := &nowhere{}
	for _, accept := range []string{"gzip", "br", "zstd", "identity"} {
		// zstd takes 16 bytes for the head of what it does not have at once.
		for size, most := range map[int]float64{2000: 0, 60_000: 0, 200_000: 1} {
			body := records(size)
			exchanged(s, &x, to, accept, body)
			if n := testing.AllocsPerRun(50, func() { exchanged(s, &x, to, accept, body) }); n > most {
				t.Errorf("%s of %d bytes: %v allocations", accept, size, n)
			}
		}
	}
}

// BenchmarkResponse is what a response costs by algorithm.
func BenchmarkResponse(b *testing.B) {
	s := newStep(b, &middlewarev1.Compress{})
	for _, size := range []int{1 << 10, 100 << 10} {
		body := records(size)
		for _, accept := range []string{"identity", "gzip", "br", "zstd"} {
			b.Run(fmt.Sprintf("%dKiB/%s", size>>10, accept), func(b *testing.B) {
				var x exchange.Exchange
				to := &nowhere{}
				b.ReportAllocs()
				for b.Loop() {
					to.bytes = 0
					exchanged(s, &x, to, accept, body)
				}
				b.ReportMetric(float64(to.bytes), "bytes/response")
			})
		}
	}
}
