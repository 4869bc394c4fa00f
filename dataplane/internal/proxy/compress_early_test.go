package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

// A service answers while the request's body is still coming: the step stands before the client's side for the response
// then, while the body is read from that side.
func TestCompressBothWays(t *testing.T) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := http.NewResponseController(w)
		_ = c.EnableFullDuplex()
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(given(3000))
		_ = c.Flush()
		n, err := io.Copy(io.Discard, r.Body)
		_, _ = fmt.Fprint(w, n, err)
	})
	text := various(300_000)
	br := packed(text, "br")
	one := httptest.NewServer(handler)
	t.Cleanup(one.Close)
	two := newH2Server(t, nil, handler)
	for protocol, address := range map[string]string{"http": one.Listener.Addr().String(), "h2c": two.address} {
		g := start(t, decompressedToo(compressed(speaking(protocol, address, ""), "")))
		for _, version := range []string{"http/1.1", "h2c"} {
			for _, encoded := range []bool{false, true} {
				body, up := io.Pipe()
				req, _ := http.NewRequest("POST", "http://"+g.address+"/", body)
				req.Header.Set("Accept-Encoding", "gzip")
				sent := text
				if encoded {
					req.Header.Set("Content-Encoding", "br")
					sent = br
				}
				head := make(chan struct{})
				go func() {
					_, _ = up.Write(sent[:len(sent)/2])
					<-head
					_, _ = up.Write(sent[len(sent)/2:])
					_ = up.Close()
				}()
				res, err := g.undecoding(version).Do(req)
				close(head)
				if err != nil {
					t.Fatalf("%s to %s: %v", version, protocol, err)
				}
				got := plain(t, res.Header.Get("Content-Encoding"), res.Body)
				_ = res.Body.Close()
				want := append(given(3000), "300000 <nil>"...)
				if coding := res.Header.Get("Content-Encoding"); coding != "gzip" || !bytes.Equal(got, want) {
					t.Errorf("%s to %s, encoded %v: %q, %d bytes", version, protocol, encoded, coding, len(got))
				}
			}
		}
	}
}

// decompressedToo adds a middleware of type decompress to what compressed makes.
func decompressedToo(config string) string {
	return config + "---\nmiddleware: [{name: d, type: decompress, order: 2}]\n" +
		"pipelines: [{name: h, global: true, middleware_ids: [d]}]\n"
}
