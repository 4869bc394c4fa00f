package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	xhttp2 "golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"gateway.internal/shared/waittest"
)

// breaking is a service that reads the beginning of a first upload and breaks off, without a word or after an answer,
// and tells of others how long they are. begun is told of each beginning.
func breaking(t *testing.T, protocol, how string) (address string, begun <-chan struct{}) {
	t.Helper()
	first := make(chan struct{}, 9)
	if protocol == "http" {
		return listening(t, nil, func(c net.Conn) { breakHTTP1(c, how, first) }), first
	}
	return listening(t, nil, func(c net.Conn) { breakHTTP2(c, how, first) }), first
}

// theBeginning is what comes of an upload before its client pauses.
const theBeginning = "the beginning"

func breakHTTP1(c net.Conn, how string, begun chan<- struct{}) {
	req, err := http.ReadRequest(bufio.NewReader(c))
	if err != nil {
		return
	}
	if _, err := io.ReadFull(req.Body, make([]byte, len(theBeginning))); err != nil {
		return
	}
	begun <- struct{}{}
	switch how {
	case "resets":
		_ = c.(*net.TCPConn).SetLinger(0)
	case "answers":
		_, _ = io.WriteString(c, "HTTP/1.1 503 Busy\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbad")
	case "half a head":
		_, _ = io.WriteString(c, "HTTP/1.1 200")
	case "hangs":
		_, _ = io.Copy(io.Discard, c)
	}
}

func breakHTTP2(c net.Conn, how string, begun chan<- struct{}) {
	if _, err := io.ReadFull(c, make([]byte, len(xhttp2.ClientPreface))); err != nil {
		return
	}
	f := xhttp2.NewFramer(c, c)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	_ = f.WriteSettings()
	came := 0
	for {
		frame, err := f.ReadFrame()
		if err != nil {
			return
		}
		data, is := frame.(*xhttp2.DataFrame)
		if !is {
			continue
		}
		if came += len(data.Data()); came < len(theBeginning) {
			continue
		}
		begun <- struct{}{}
		switch how {
		case "resets":
			_ = f.WriteRSTStream(data.StreamID, xhttp2.ErrCodeInternal)
		case "answers":
			s := &refusingHTTP2{Framer: f}
			_ = s.head(data.StreamID, ":status", "503", "content-length", "3")
			_ = f.WriteData(data.StreamID, true, []byte("bad"))
		case "half a head":
			_ = f.WriteRawFrame(xhttp2.FrameHeaders, 0, data.StreamID, []byte{0x88}) // :status 200, and more to come
			return
		case "hangs":
		default:
			return
		}
		_, _ = io.Copy(io.Discard, c)
		return
	}
}

// TestServiceBreaksOffWhileClientPauses has a service break off an upload whose client pauses: it is told at once, and
// not when its own time is over.
func TestServiceBreaksOffWhileClientPauses(t *testing.T) {
	for _, c := range []struct{ how, policy, want string }{
		{"closes", "", "502"}, {"resets", "", "502"}, {"half a head", "", "502"}, {"answers", "", "503 bad"},
		{"closes", "retry: {on: [gateway_error]}", "502"}, {"answers", "retry: {on: [gateway_error]}", "503 bad"},
		{"closes", "retry: {on: [reset], max_body_bytes: 5}", "502"},
		{"resets", "retry: {on: [reset], max_body_bytes: 5}", "502"},
		{"hangs", "retry: {on: [gateway_error], per_try_timeout: 500ms}", "504"},
	} {
		t.Run(c.how+" "+c.policy, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				address, begun := breaking(t, protocol, c.how)
				host, port, _ := net.SplitHostPort(address)
				policy := c.policy
				if policy == "" {
					policy = "timeout: 1h"
				}
				g := start(t, troubledConfig(protocol, fmt.Sprintf("{host: %s, port: %s}", host, port), policy))
				s := &troubled{gateway: g, client: clientOf(t, version)}
				o := heard(g)
				body, send := parts()
				t.Cleanup(func() { close(send) })
				got := make(chan string, 1)
				go func() { got <- s.ask("PUT", "/", body) }()
				send <- theBeginning
				waittest.Receive(t, "the beginning at the service", begun)
				asked := time.Now()
				if text := waittest.Receive(t, "the response", got); !strings.HasPrefix(text, c.want) {
					t.Errorf("the client got %q, want %q", text, c.want)
				}
				if took := time.Since(asked); took > 10*time.Second {
					t.Errorf("it took %s", took)
				}
				waittest.Until(t, "the result", func() bool { return len(o.list()) > 0 })
				if all := o.list(); c.how == "hangs" && !slices.Equal(all, []string{"canceled 0"}) {
					t.Errorf("the service, which waits for the client, is blamed: %q", all)
				}
			})
		})
	}
}

// TestRetryWaitsForPausingClient has the first attempt end while the client pauses: the second one gets the whole body
// once that has come.
func TestRetryWaitsForPausingClient(t *testing.T) {
	for how, policy := range map[string]string{
		"resets": "retry: {on: [reset], " + fast + "}",
		"hangs":  "retry: {on: [per_try_timeout], attempts: 5, per_try_timeout: 300ms, " + fast + "}",
	} {
		t.Run(how, func(t *testing.T) {
			eachPair(t, func(t *testing.T, version, protocol string) {
				address, begun := breaking(t, protocol, how)
				host, port, _ := net.SplitHostPort(address)
				s := trouble(t, version, protocol, policy, func(_ int32, _ string, w http.ResponseWriter, r *http.Request) {
					b, err := io.ReadAll(r.Body)
					_, _ = fmt.Fprint(w, string(b), err)
				})
				// The first attempt goes to what breaks off, and the next one to the others.
				later := regexp.MustCompile(`(port: \d+)\}`).ReplaceAllString(s.config, `$1, labels: {tier: "1"}}`)
				s.apply(strings.Replace(later, "endpoints: [", fmt.Sprintf(
					"load_balancer_config: {priority_label: tier}, endpoints: [{host: %s, port: %s}, ", host, port), 1))
				body, send := parts()
				got := make(chan string, 1)
				go func() { got <- s.ask("PUT", "/", body) }()
				send <- theBeginning
				waittest.Receive(t, "the beginning at the service", begun)
				if how == "hangs" {
					pause := time.NewTimer(600 * time.Millisecond) // longer than per_try_timeout
					<-pause.C
				}
				send <- " and the end"
				close(send)
				if text := waittest.Receive(t, "the response", got); text != "200 the beginning and the end<nil>" {
					t.Errorf("the client got %q", text)
				}
			})
		})
	}
}
