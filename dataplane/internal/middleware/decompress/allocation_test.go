//go:build !race

package decompress

import (
	"bytes"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
)

// A body that comes whole takes what stands between, and what the decoder takes for its tables; no buffers, once
// there are some. Under the race detector pools drop what they are given on purpose, so this is tested without it.
func TestAllocations(t *testing.T) {
	s := newStep(t, &middlewarev1.Decompress{})
	for c, most := range map[exchange.Coding]float64{exchange.Gzip: 0, exchange.Zstd: 0, exchange.Brotli: 6} {
		b := encode(c, bytes.Repeat([]byte("some text. "), 200))
		cl, parts := &client{}, [][]byte{b}
		var x exchange.Exchange
		n := testing.AllocsPerRun(100, func() {
			x.Request.Header.Reset()
			x.Request.Header.Add("Content-Encoding", c.String())
			x.Texts, x.Down, x.Request.ContentLength, x.BodyLimit = x.Texts[:0], cl, int64(len(b)), -1
			cl.parts = parts
			s.Request(&x)
			if part, whole, err := x.Down.BufferedBody(); !whole || err != nil || len(part) != 2200 {
				t.Fatal(len(part), whole, err)
			}
			s.End(&x, nil)
		})
		if n > most {
			t.Errorf("%s: %v allocations", c, n)
		}
	}
}
