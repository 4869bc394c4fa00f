package proxy

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/andybalholm/brotli"
	"github.com/klauspost/compress/zstd"

	"gateway.internal/shared/waittest"
)

// decompressed adds a middleware of type decompress, with settings, to a configuration.
func decompressed(config, settings string) string {
	return config + "---\nmiddleware: [{name: d, type: decompress, order: 1, config: {" + settings + "}}]\n" +
		"pipelines: [{name: g, global: true, middleware_ids: [d]}]\n"
}

// packed encodes in several codings, one after the other.
func packed(b []byte, codings ...string) []byte {
	for _, c := range codings {
		var out bytes.Buffer
		var w io.WriteCloser
		switch c {
		case "gzip", "x-gzip":
			w, _ = gzip.NewWriterLevel(&out, gzip.BestSpeed)
		case "br":
			w = brotli.NewWriterLevel(&out, 1)
		case "zstd":
			w, _ = zstd.NewWriter(&out,
				zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(1<<16))
		default:
			continue
		}
		_, _ = w.Write(b)
		_ = w.Close()
		b = out.Bytes()
	}
	return b
}

// various is text that does not repeat itself much.
func various(n int) []byte {
	var b []byte
	for i := int64(0); len(b) < n; i++ {
		b = strconv.AppendInt(append(b, `{"id":`...), i*7919, 10)
		b = strconv.AppendInt(append(b, `,"name":"user-`...), i*2654435761, 16)
		b = append(b, `"},`...)
	}
	return b[:n]
}

// telling answers with what it got, and how.
func telling(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("X-Seen", fmt.Sprintf("%q %d %q %q",
		r.Header["Content-Encoding"], r.ContentLength, r.Header.Get("Content-Digest"), r.Trailer.Get("X-Sum")))
	_, _ = w.Write(b)
}

func TestDecompress(t *testing.T) {
	small, large := various(3000), various(200_000)
	half := func(b []byte) []byte { return b[:len(b)/2] }
	twice := func(c string) []byte { return append(packed(small[:1000], c), packed(small[1000:], c)...) }
	zeros := make([]byte, 1_000_000)
	rows := []struct {
		name, encoding string
		body           []byte
		status         int
		want           []byte
		seen           string // of a request with a length
		error          string
	}{
		{"gzip", "gzip", packed(small, "gzip"), 200, small, `[] 3000 "" ""`, ""},
		{"x-gzip", "X-Gzip", packed(small, "gzip"), 200, small, `[] 3000 "" ""`, ""},
		{"br", "br", packed(small, "br"), 200, small, `[] 3000 "" ""`, ""},
		{"zstd", "zstd", packed(small, "zstd"), 200, small, `[] 3000 "" ""`, ""},
		{"large", "gzip", packed(large, "gzip"), 200, large, `[] -1 "" ""`, ""},
		{"large br", "br", packed(large, "br"), 200, large, `[] -1 "" ""`, ""},
		{"large zstd", "zstd", packed(large, "zstd"), 200, large, `[] -1 "" ""`, ""},
		{"two codings", "zstd, gzip", packed(small, "zstd", "gzip"), 200, small, `[] 3000 "" ""`, ""},
		{"and none", "identity, ,gzip", packed(small, "gzip"), 200, small, `[] 3000 "" ""`, ""},
		{"plain", "", small, 200, small, `[] 3000 "sum" ""`, ""},
		{"an unknown one", "aws-chunked", small, 200, small, `["aws-chunked"] 3000 "sum" ""`, ""},
		{"an unknown one around it", "gzip, deflate", packed(small, "gzip"), 200, packed(small, "gzip"), "", ""},
		{"members", "gzip", twice("gzip"), 200, small, `[] 3000 "" ""`, ""},
		{"frames", "zstd", twice("zstd"), 200, small, `[] 3000 "" ""`, ""},
		{"nothing in it", "gzip", packed(nil, "gzip"), 200, nil, `[] 0 "" ""`, ""},
		{"nothing", "gzip", nil, 200, nil, `[] 0 "" ""`, ""},
		{"three codings", "gzip, gzip, gzip", packed(small, "gzip", "gzip", "gzip"), 400, nil, "", "more than 2 content"},
		{"truncated", "gzip", half(packed(small, "gzip")), 400, nil, "", "ends before"},
		{"truncated br", "br", half(packed(small, "br")), 400, nil, "", "ends before"},
		{"truncated zstd", "zstd", half(packed(small, "zstd")), 400, nil, "", "ends before"},
		{"large and truncated", "gzip", half(packed(large, "gzip")), 400, nil, "", "ends before"},
		{"not encoded", "gzip", small, 400, nil, "", "not what its Content-Encoding says"},
		{"not encoded as br", "br", small, 400, nil, "", "not what its Content-Encoding says"},
		{"not encoded as zstd", "zstd", small, 400, nil, "", "not what its Content-Encoding says"},
		{"garbage behind", "gzip", append(packed(small, "gzip"), "garbage"...), 400, nil, "", "its Content-Encoding"},
		{"garbage behind br", "br", append(packed(small, "br"), "garbage"...), 400, nil, "", "its Content-Encoding"},
		{"garbage behind zstd", "zstd", append(packed(small, "zstd"), "garbage"...), 400, nil, "", "its Content-Encoding"},
		{"a bomb", "gzip", packed(make([]byte, 200_000), "gzip"), 400, nil, "", "more than 100 times as large"},
		{"a bomb of br", "br", packed(make([]byte, 200_000), "br"), 400, nil, "", "more than 100 times as large"},
		{"a bomb of zstd", "zstd", packed(make([]byte, 200_000), "zstd"), 400, nil, "", "more than 100 times as large"},
		{"a bomb in a bomb", "gzip, gzip", packed(zeros, "gzip", "gzip"), 400, nil, "", "more than 100 times as large"},
		{"a small bomb", "gzip", packed(make([]byte, 60_000), "gzip"), 200, make([]byte, 60_000), "", ""},
		{"more than max_bytes", "gzip", packed(various(250_001), "gzip"), 413, nil, "", "more than 250000 bytes when"},
	}
	one := httptest.NewServer(http.HandlerFunc(telling))
	t.Cleanup(one.Close)
	two := newH2Server(t, nil, http.HandlerFunc(telling))
	for protocol, address := range map[string]string{"http": one.Listener.Addr().String(), "h2c": two.address} {
		g := start(t, decompressed(speaking(protocol, address, ""), "max_bytes: 250000, max_ratio: 100"))
		for _, version := range []string{"http/1.1", "h2c"} {
			for _, chunked := range []bool{false, true} {
				if chunked && protocol != "http" {
					continue // it makes no difference there
				}
				for _, row := range rows {
					t.Run(fmt.Sprintf("%s to %s, chunked %v, %s", version, protocol, chunked, row.name), func(t *testing.T) {
						var reader io.Reader = bytes.NewReader(row.body)
						if chunked {
							reader = io.MultiReader(reader)
						}
						req, _ := http.NewRequest("PUT", "http://"+g.address+"/", reader)
						if row.encoding != "" {
							req.Header.Set("Content-Encoding", row.encoding)
						}
						req.Header.Set("Content-Digest", "sum")
						if chunked {
							req.Trailer = http.Header{"X-Sum": {"7"}}
						}
						res, err := g.clientOf(version).Do(req)
						if err != nil {
							t.Fatal(err)
						}
						defer res.Body.Close()
						got, err := io.ReadAll(res.Body)
						if err != nil {
							t.Fatal(err)
						}
						switch seen := res.Header.Get("X-Seen"); {
						case res.StatusCode != row.status || !strings.Contains(string(got), row.error):
							t.Errorf("%d %.300q", res.StatusCode, got)
						case row.status == 200 && !bytes.Equal(got, row.want):
							t.Errorf("the service got %d bytes, want %d", len(got), len(row.want))
						case row.status == 200 && chunked && !strings.HasSuffix(seen, ` "7"`):
							t.Errorf("the service saw %s", seen)
						case row.seen != "" && !chunked && version == "http/1.1" && len(row.body) < 10_000 && seen != row.seen:
							t.Errorf("the service saw %s, want %s", seen, row.seen)
						}
					})
				}
			}
		}
	}
}

// The policy's limit is of what the service gets.
func TestDecompressKeepsThePolicy(t *testing.T) {
	g := start(t, decompressed(strings.Replace(to(echo(t), ""), "1000000", "100000", 1), ""))
	for size, status := range map[int]int{100_000: 200, 100_001: 413} {
		encoded := packed(various(size), "zstd")
		for _, version := range []string{"http/1.1", "h2c"} {
			req, _ := http.NewRequest("PUT", "http://"+g.address+"/", bytes.NewReader(encoded))
			req.Header.Set("Content-Encoding", "zstd")
			req.Header.Set("Accept-Encoding", "")
			res, err := g.clientOf(version).Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, _ := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if res.StatusCode != status || status == 413 && !strings.Contains(string(got), "larger than the policy allows when it is decoded") {
				t.Errorf("%s, %d bytes: %d %.300s", version, size, res.StatusCode, got)
			}
		}
	}
}

// echoOnce answers one request of a connection with its body, and closes the connection without saying so.
func echoOnce(_ int, c net.Conn, r *bufio.Reader) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	b, err := io.ReadAll(req.Body)
	if err == nil {
		_, _ = fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(b), b)
	}
}

// A request is sent again as a whole where its connection was stale, and goes past an endpoint that is not there.
func TestDecompressedRequestsAreRepeated(t *testing.T) {
	g := start(t, decompressed(to(scripted(t, echoOnce), ""), ""))
	encoded := packed(various(3000), "gzip")
	for i := range 20 {
		req, _ := http.NewRequest("PUT", "http://"+g.address+"/", bytes.NewReader(encoded))
		req.Header.Set("Content-Encoding", "gzip")
		req.Header.Set("Connection", "close")
		res, err := g.clientOf("http/1.1").Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		_ = res.Body.Close()
		if err != nil || res.StatusCode != 200 || !bytes.Equal(got, various(3000)) {
			t.Fatalf("request %d: %d, %d bytes, %v", i, res.StatusCode, len(got), err)
		}
	}
}

// Parts of an upload reach the service as the client has flushed them.
func TestDecompressStreams(t *testing.T) {
	got := make(chan string)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b := make([]byte, len("part 0"))
		for {
			if _, err := io.ReadFull(r.Body, b); err != nil {
				return
			}
			got <- string(b)
		}
	}))
	t.Cleanup(s.Close)
	g := start(t, decompressed(to(s.Listener.Addr().String(), ""), ""))
	for _, version := range []string{"http/1.1", "h2c"} {
		for _, encoding := range []string{"gzip", "br", "zstd"} {
			body, up := io.Pipe()
			var w interface {
				io.WriteCloser
				Flush() error
			}
			switch encoding {
			case "gzip":
				w = gzip.NewWriter(up)
			case "br":
				w = brotli.NewWriter(up)
			default:
				w, _ = zstd.NewWriter(up, zstd.WithEncoderConcurrency(1))
			}
			req, _ := http.NewRequest("POST", "http://"+g.address+"/", body)
			req.Header.Set("Content-Encoding", encoding)
			done := make(chan error, 1)
			go func() {
				res, err := g.clientOf(version).Do(req)
				if err == nil {
					_ = res.Body.Close()
				}
				done <- err
			}()
			for i := range 3 {
				part, flushed := fmt.Sprintf("part %d", i), make(chan struct{})
				go func() {
					defer close(flushed)
					_, _ = io.WriteString(w, part)
					_ = w.Flush()
				}()
				if seen := waittest.Receive(t, part, got); seen != part {
					t.Errorf("%s, %s: %q, want %q", version, encoding, seen, part)
				}
				<-flushed
			}
			_ = w.Close()
			_ = up.Close()
			if err := waittest.Receive(t, "the end", done); err != nil {
				t.Errorf("%s, %s: %v", version, encoding, err)
			}
		}
	}
}
