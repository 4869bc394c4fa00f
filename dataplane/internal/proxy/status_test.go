package proxy

import (
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/codec"
)

// A service of HTTP/2 may answer with a status of no class too, unless it is strict.
func TestOddStatusOverHTTP2(t *testing.T) {
	service := newFramed(t, func(_ int, f *framed) {
		for stream := f.next(); stream != 0; stream = f.next() {
			f.head(stream, true, ":status", "999")
		}
	})
	config := speaking("h2c", service, "")
	for want, config := range map[int]string{999: config, 502: strings.Replace(config, "{name: s,", "{name: s, http: {strict: true},", 1)} {
		g := startWith(t, codec.DefaultLimits(), config)
		if res := g.raw("GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET")[0]; res.StatusCode != want {
			t.Errorf("%d, want %d", res.StatusCode, want)
		}
	}
}
