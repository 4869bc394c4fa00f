package proxy

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"gateway.internal/shared/waittest"
)

// compressed adds a middleware of type compress, with settings, to a configuration.
func compressed(config, settings string) string {
	return config + "---\nmiddleware: [{name: c, type: compress, order: 1, config: {" + settings + "}}]\n" +
		"pipelines: [{name: g, global: true, middleware_ids: [c]}]\n"
}

// giving answers as a request asks it to: X-Give has fields, X-Status the status, X-Size the body's size, X-Parts in
// how many parts it comes, each flushed.
func giving(w http.ResponseWriter, r *http.Request) {
	w.Header()["Content-Type"] = nil // it is not guessed
	for _, v := range r.Header["X-Give"] {
		name, value, _ := strings.Cut(v, ": ")
		w.Header().Add(name, value)
	}
	status, size, parts := 200, 0, 1
	for field, n := range map[string]*int{"X-Status": &status, "X-Size": &size, "X-Parts": &parts} {
		if v := r.Header.Get(field); v != "" {
			*n, _ = strconv.Atoi(v)
		}
	}
	if r.Header.Get("X-Parts") == "" && status != 304 {
		w.Header().Set("Content-Length", strconv.Itoa(size))
	}
	w.Header().Set("X-Seen-Tags", r.Header.Get("If-None-Match"))
	w.Header().Set("X-Seen-Codings", strings.Join(r.Header["Accept-Encoding"], ", "))
	w.WriteHeader(status)
	if r.Method == "HEAD" || status == 304 {
		return
	}
	text := given(size)
	for i := range parts {
		_, _ = w.Write(text[size*i/parts : size*(i+1)/parts])
		if parts > 1 {
			_ = http.NewResponseController(w).Flush()
		}
	}
}

func given(size int) []byte {
	return bytes.Repeat([]byte(`{"a":"some text","b":[1,2,3]},`), size/30+1)[:size]
}

// plain decodes a body.
func plain(t *testing.T, encoding string, from io.Reader) []byte {
	t.Helper()
	var err error
	switch encoding {
	case "gzip":
		from, err = gzip.NewReader(from)
	case "br":
		from = brotli.NewReader(from)
	case "zstd":
		var d *zstd.Decoder
		if d, err = zstd.NewReader(from, zstd.WithDecoderConcurrency(1)); err == nil {
			defer d.Close()
			from = d
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(from)
	if err != nil {
		t.Fatalf("%s: %v", encoding, err)
	}
	return b
}

// undecoding is clientOf, of a client that asks for no coding by itself.
func (g *gateway) undecoding(version string) *http.Client {
	c := g.clientOf(version)
	c.Transport.(*http.Transport).DisableCompression = true
	return c
}

// asks sends a request with fields, such as "X-Size: 7", and returns the response, whose body is plain.
func asks(t *testing.T, c *http.Client, method, url string, fields ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatalf("%s %v: %v", method, fields, err)
	}
	defer res.Body.Close()
	encoding := res.Header.Get("Content-Encoding")
	if method == "HEAD" || res.StatusCode == 304 {
		encoding = ""
	}
	b := plain(t, encoding, res.Body)
	return res, b
}

// heads are what compress decides on, in the order of a row's want.
var heads = []string{"Content-Encoding", "Vary", "Etag", "Accept-Ranges", "Content-Md5", "Repr-Digest"}

func headOf(res *http.Response) string {
	var all []string
	for _, name := range heads {
		all = append(all, strings.Join(res.Header[name], "+"))
	}
	return strings.Join(all, "|")
}

func TestCompress(t *testing.T) {
	const json, all = "Content-Type: application/json", "Accept-Encoding: gzip, br, zstd"
	const tag, ranges, md5, digest = `ETag: "a"`, "Accept-Ranges: bytes", "Content-MD5: 1", "Repr-Digest: sha-256=:1:"
	rows := []struct {
		name   string
		fields []string // of the request; those that begin with ">" are given by the service
		want   string
	}{
		{"everything", []string{all, ">" + json, ">" + tag, ">" + ranges, ">" + md5, ">" + digest, "X-Size: 3000"}, `zstd|Accept-Encoding|W/"a"|||`},
		{"by weight", []string{"Accept-Encoding: gzip, br;q=0.9", ">" + json, "X-Size: 3000"}, "gzip|Accept-Encoding||||"},
		{"by br", []string{"Accept-Encoding: br", ">" + json, "X-Size: 3000"}, "br|Accept-Encoding||||"},
		{"a weak tag", []string{"Accept-Encoding: gzip", ">" + json, `>ETag: W/"a"`, "X-Size: 3000"}, `gzip|Accept-Encoding|W/"a"|||`},
		{"nothing accepted", []string{">" + json, ">" + tag, ">" + ranges, "X-Size: 3000"}, `|Accept-Encoding|"a"|bytes||`},
		{"only others accepted", []string{"Accept-Encoding: deflate", ">" + json, "X-Size: 3000"}, "|Accept-Encoding||||"},
		{"refused", []string{"Accept-Encoding: gzip;q=0, *;q=0", ">" + json, "X-Size: 3000"}, "|Accept-Encoding||||"},
		{"large", []string{all, ">" + json, "X-Size: 300000"}, "zstd|Accept-Encoding||||"},
		{"large gzip", []string{"Accept-Encoding: gzip", ">" + json, "X-Size: 300000"}, "gzip|Accept-Encoding||||"},
		{"large br", []string{"Accept-Encoding: br", ">" + json, "X-Size: 300000"}, "br|Accept-Encoding||||"},
		{"parts", []string{all, ">" + json, "X-Size: 3000", "X-Parts: 30"}, "zstd|Accept-Encoding||||"},
		{"small", []string{all, ">" + json, ">" + tag, "X-Size: 1023"}, `||"a"|||`},
		{"just large enough", []string{all, ">" + json, "X-Size: 1024"}, "zstd|Accept-Encoding||||"},
		{"small, but it has to be", []string{"Accept-Encoding: gzip, identity;q=0", ">" + json, "X-Size: 100"}, "gzip|Accept-Encoding||||"},
		{"empty", []string{"Accept-Encoding: gzip, identity;q=0", ">" + json, "X-Size: 0"}, "|||||"},
		{"an image", []string{all, ">Content-Type: image/png", ">" + tag, "X-Size: 3000"}, `||"a"|||`},
		{"no media type", []string{all, "X-Size: 3000"}, "|||||"},
		{"gRPC", []string{all, ">Content-Type: application/grpc+json", "X-Size: 3000"}, "|||||"},
		{"parameters", []string{all, ">Content-Type: Text/HTML ; charset=utf-8", "X-Size: 3000"}, "zstd|Accept-Encoding||||"},
		{"a suffix", []string{all, ">Content-Type: application/problem+json", "X-Size: 3000"}, "zstd|Accept-Encoding||||"},
		{"an error of the service", []string{all, ">" + json, "X-Status: 500", "X-Size: 3000"}, "zstd|Accept-Encoding||||"},
		{"a part", []string{all, ">" + json, ">Content-Range: bytes 0-2999/9000", "X-Status: 206", "X-Size: 3000"}, "|||||"},
		{"no transformation", []string{all, ">" + json, ">Cache-Control: max-age=1, No-Transform", "X-Size: 3000"}, "|||||"},
		{"none wanted", []string{all, ">" + json, "Cache-Control: no-transform", "X-Size: 3000"}, "|||||"},
		{"merged", []string{all, ">" + json, ">Vary: Origin", ">Vary: Accept", "X-Size: 3000"}, "zstd|Origin, Accept, Accept-Encoding||||"},
		{"varies by all", []string{all, ">" + json, ">Vary: *", "X-Size: 3000"}, "zstd|*||||"},
	}
	one := httptest.NewServer(http.HandlerFunc(giving))
	t.Cleanup(one.Close)
	two := newH2Server(t, nil, http.HandlerFunc(giving))
	for protocol, address := range map[string]string{"http": one.Listener.Addr().String(), "h2c": two.address} {
		g := start(t, compressed(speaking(protocol, address, ""), ""))
		for _, version := range []string{"http/1.1", "h2c"} {
			client := g.undecoding(version)
			for _, row := range rows {
				t.Run(fmt.Sprintf("%s to %s, %s", version, protocol, row.name), func(t *testing.T) {
					var fields []string
					size := 0
					for _, f := range row.fields {
						if give, ok := strings.CutPrefix(f, ">"); ok {
							f = "X-Give: " + give
						}
						fields = append(fields, f)
						_, _ = fmt.Sscanf(f, "X-Size: %d", &size)
					}
					res, got := asks(t, client, "GET", "http://"+g.address+"/", fields...)
					if head := headOf(res); head != row.want {
						t.Errorf("%s, want %s", head, row.want)
					}
					if !bytes.Equal(got, given(size)) {
						t.Errorf("%d bytes, want %d", len(got), size)
					}
					if whole := size < 50_000 && protocol == "http" && row.name != "parts"; whole && res.ContentLength < 0 {
						t.Error("the length is not known")
					}
					// HEAD has the same fields, but the length of what is encoded.
					head, _ := asks(t, client, "HEAD", "http://"+g.address+"/", fields...)
					if got := headOf(head); got != row.want {
						t.Errorf("HEAD: %s, want %s", got, row.want)
					}
					if head.Header.Get("Content-Encoding") != "" && head.Header.Get("Content-Length") != "" {
						t.Errorf("HEAD has the length %s", head.Header.Get("Content-Length"))
					}
				})
			}
		}
	}
}

func TestCompressNeverTwice(t *testing.T) {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write(given(5000))
	_ = w.Close()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(b.Bytes())
	}))
	t.Cleanup(s.Close)
	twice := `
---
middleware:
  - {name: c, type: compress, order: 1, config: {min_bytes: 0}}
  - {name: d, type: compress, order: 2, config: {min_bytes: 0, algorithms: [br]}}
pipelines: [{name: g, global: true, middleware_ids: [c, d]}]
`
	g := start(t, to(s.Listener.Addr().String(), "")+twice)
	for _, version := range []string{"http/1.1", "h2c"} {
		res, got := asks(t, g.undecoding(version), "GET", "http://"+g.address+"/", "Accept-Encoding: gzip, br")
		if encodings := res.Header["Content-Encoding"]; len(encodings) != 1 || encodings[0] != "gzip" || !bytes.Equal(got, given(5000)) {
			t.Errorf("%v, %d bytes", encodings, len(got))
		}
	}
	plainly := start(t, to(echo(t), "")+twice) // two steps, of which one encodes
	for _, version := range []string{"http/1.1", "h2c"} {
		res, got := asks(t, plainly.clientOf(version), "GET", "http://"+plainly.address+"/abc", "Accept-Encoding: gzip, br")
		if encodings := res.Header["Content-Encoding"]; len(encodings) != 1 || string(got) != "GET /abc" {
			t.Errorf("%v, %q", encodings, got)
		}
	}
}

// Events reach the client one by one, and it can read each before the next one is sent.
func TestCompressStreams(t *testing.T) {
	next := make(chan string)
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		_ = http.NewResponseController(w).Flush()
		for event := range next {
			if event == "" {
				return
			}
			_, _ = io.WriteString(w, event)
			_ = http.NewResponseController(w).Flush()
		}
	})
	one := httptest.NewServer(handler)
	t.Cleanup(one.Close)
	two := newH2Server(t, nil, handler)
	for protocol, address := range map[string]string{"http": one.Listener.Addr().String(), "h2c": two.address} {
		g := start(t, compressed(speaking(protocol, address, ""), ""))
		for _, version := range []string{"http/1.1", "h2c"} {
			for _, encoding := range []string{"gzip", "br", "zstd"} {
				t.Run(fmt.Sprintf("%s to %s, %s", version, protocol, encoding), func(t *testing.T) {
					req, _ := http.NewRequest("GET", "http://"+g.address+"/", nil)
					req.Header.Set("Accept-Encoding", encoding)
					res, err := g.undecoding(version).Do(req)
					if err != nil {
						t.Fatal(err)
					}
					defer res.Body.Close()
					if got := res.Header.Get("Content-Encoding"); got != encoding {
						t.Fatalf("it is %q", got)
					}
					events := make(chan string)
					go func() {
						defer close(events)
						var r io.Reader = brotli.NewReader(res.Body)
						switch encoding {
						case "gzip":
							r, _ = gzip.NewReader(res.Body)
						case "zstd":
							d, _ := zstd.NewReader(res.Body, zstd.WithDecoderConcurrency(1))
							defer d.Close()
							r = d
						}
						b := make([]byte, 100)
						for {
							n, err := r.Read(b)
							if n > 0 {
								events <- string(b[:n])
							}
							if err != nil {
								if err != io.EOF {
									events <- err.Error()
								}
								return
							}
						}
					}()
					for i := range 3 {
						event := fmt.Sprintf("data: %d\n\n", i)
						next <- event
						if got := waittest.Receive(t, event, events); got != event {
							t.Errorf("%q, want %q", got, event)
						}
					}
					next <- ""
					if got := waittest.Receive(t, "the end", events); got != "" {
						t.Errorf("%q follows", got)
					}
				})
			}
		}
	}
}

func TestCompressOwnAnswers(t *testing.T) {
	for _, repeated := range []int{500, 5000} { // the longer one is not encoded in a loop
		compressesOwnAnswers(t, strings.Repeat("some text. ", repeated))
	}
}

func compressesOwnAnswers(t *testing.T, text string) {
	t.Helper()
	g := start(t, compressed(fmt.Sprintf(`
routes:
  - {name: direct, path: /direct, direct_response: {status: 200, body: %q}}
  - {name: error, path: /error, service_id: gone, policy_id: p}
services: [{name: gone}]
policies: [{name: p, errors: [{bodies: [{content_type: text/plain, body: %q}, {content_type: text/html, body: %q}]}]}]
`, text, text, text), ""))
	for _, version := range []string{"http/1.1", "h2c"} {
		for path, want := range map[string]string{"/direct": "gzip|Accept-Encoding||||", "/error": "gzip|Accept, Accept-Encoding||||"} {
			res, got := asks(t, g.undecoding(version), "GET", "http://"+g.address+path, "Accept-Encoding: gzip")
			if head := headOf(res); head != want || string(got) != text || res.ContentLength <= 0 {
				t.Errorf("%s%s: %s, %d bytes, length %d", version, path, head, len(got), res.ContentLength)
			}
			head, _ := asks(t, g.undecoding(version), "HEAD", "http://"+g.address+path, "Accept-Encoding: gzip")
			if got := headOf(head); got != want || head.ContentLength != res.ContentLength {
				t.Errorf("%s%s: HEAD: %s, length %d, want %d", version, path, got, head.ContentLength, res.ContentLength)
			}
		}
	}
}

// A client validates what it has with the tag that it got, whichever way the service compares tags, and whether this
// node knows the tag or not.
func TestCompressValidates(t *testing.T) {
	for _, c := range []struct {
		name, tag, plain string
		matches          func(sent, tag string) bool
		cold             bool // it matches without a response before
	}{
		{"a list, weakly", `"a"`, `"a"`, func(sent, tag string) bool {
			for item := range strings.SplitSeq(sent, ", ") {
				if strings.TrimPrefix(item, "W/") == strings.TrimPrefix(tag, "W/") {
					return true
				}
			}
			return false
		}, true},
		{"the text of an item", `"a"`, `"a"`, func(sent, tag string) bool {
			for item := range strings.SplitSeq(sent, ", ") {
				if item == tag {
					return true
				}
			}
			return false
		}, true},
		{"the text of the field", `"a"`, `"a"`, func(sent, tag string) bool { return sent == tag }, false},
		{"the text of the field, of a weak tag", `W/"a"`, `W/"a"`, func(sent, tag string) bool { return sent == tag }, false},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("ETag", c.tag)
			w.Header().Set("Content-Type", "text/plain")
			if c.matches(r.Header.Get("If-None-Match"), c.tag) {
				w.Header().Del("Content-Type")
				w.WriteHeader(304)
				return
			}
			_, _ = w.Write(given(2000))
		}))
		t.Cleanup(s.Close)
		for _, version := range []string{"http/1.1", "h2c"} {
			g := start(t, compressed(to(s.Listener.Addr().String(), ""), ""))
			client, url := g.undecoding(version), "http://"+g.address+"/"
			res, _ := asks(t, client, "GET", url, "Accept-Encoding: gzip", `If-None-Match: W/"a"`)
			if got := res.StatusCode == 304; got != c.cold {
				t.Errorf("%s, %s: at first %d", version, c.name, res.StatusCode)
			}
			res, _ = asks(t, client, "GET", url, "Accept-Encoding: gzip")
			if tag := res.Header.Get("ETag"); tag != `W/"a"` {
				t.Errorf("%s, %s: the tag is %s", version, c.name, tag)
			}
			res, _ = asks(t, client, "GET", url, "Accept-Encoding: gzip", `If-None-Match: W/"a"`)
			if tag, vary := res.Header.Get("ETag"), res.Header.Get("Vary"); res.StatusCode != 304 || tag != `W/"a"` || vary != "Accept-Encoding" && c.tag == `"a"` {
				t.Errorf("%s, %s: then %d, %s, %q", version, c.name, res.StatusCode, tag, vary)
			}
			res, _ = asks(t, client, "GET", url, `If-None-Match: `+c.plain)
			if tag := res.Header.Get("ETag"); res.StatusCode != 304 || tag != c.plain {
				t.Errorf("%s, %s: plain %d, %s", version, c.name, res.StatusCode, tag)
			}
		}
	}
}

// A service can be asked for what is plain, so that the node's codings are the only ones.
func TestCompressInsteadOfTheService(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(giving))
	t.Cleanup(s.Close)
	g := start(t, to(s.Listener.Addr().String(), "")+`
---
middleware:
  - {name: c, type: compress, order: 1, config: {}}
  - {name: h, type: headers, order: 2, config: {request: {remove: [Accept-Encoding]}}}
pipelines: [{name: g, global: true, middleware_ids: [c, h]}]
`)
	res, got := asks(t, g.undecoding("http/1.1"), "GET", "http://"+g.address+"/",
		"Accept-Encoding: gzip", "X-Give: Content-Type: text/plain", "X-Size: 2000")
	if res.Header.Get("Content-Encoding") != "gzip" || res.Header.Get("X-Seen-Codings") != "" || !bytes.Equal(got, given(2000)) {
		t.Errorf("%v, %d bytes", res.Header, len(got))
	}
}

// A response that breaks off does so for the client too: the coding has no end then.
func TestCompressCut(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = w.Write(given(5000))
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	t.Cleanup(s.Close)
	g := start(t, compressed(to(s.Listener.Addr().String(), ""), ""))
	for _, version := range []string{"http/1.1", "h2c"} {
		for _, encoding := range []string{"gzip", "br", "zstd"} {
			req, _ := http.NewRequest("GET", "http://"+g.address+"/", nil)
			req.Header.Set("Accept-Encoding", encoding)
			res, err := g.undecoding(version).Do(req)
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
				_ = res.Body.Close()
			}
			if err == nil {
				t.Errorf("%s, %s: the client took a part for the whole", version, encoding)
			}
		}
	}
}
