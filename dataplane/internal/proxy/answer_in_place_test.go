package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/waittest"
)

// answersInstead is a step that answers in the service's place once that has answered.
type answersInstead struct{}

func (answersInstead) Request(*exchange.Exchange) exchange.Verdict { return exchange.Continue }
func (answersInstead) Response(x *exchange.Exchange)               { x.Fail(fault.Forbidden, "not this one") }

// TestAnswerInPlaceOfAnEarlyOne has a step answer for a service that has answered while the request's body is still
// coming: only one of the node's goroutines reads from the client.
func TestAnswerInPlaceOfAnEarlyOne(t *testing.T) {
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(service.Close)
	g := startThrough(t, answersInstead{}, codec.DefaultLimits(), pathnorm.DefaultSettings(), HeaderSettings{},
		to(service.Listener.Addr().String(), ""))
	for range 20 {
		c, err := net.Dial("tcp", g.address)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.SetDeadline(waittest.Deadline())
		sent := make(chan struct{})
		go func() {
			defer close(sent)
			_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
			for range 200 {
				if _, err := io.WriteString(c, strings.Repeat("x", 1000)); err != nil {
					return
				}
			}
		}()
		res, err := http.ReadResponse(bufio.NewReader(c), &http.Request{Method: "POST"})
		if err != nil || res.StatusCode != 403 {
			t.Errorf("%v, %v", res, err)
		}
		<-sent
		_ = c.Close()
	}
}

// refusesAtLength is a step that works at bodies, refuses with one of a length that the path says, and notes where the
// response is then made.
type refusesAtLength struct {
	inLoop, apart map[string]int
	mu            sync.Mutex
}

func (*refusesAtLength) Request(x *exchange.Exchange) exchange.Verdict {
	n, _ := strconv.Atoi(x.Request.Path[1:])
	x.Answer(403, "text/plain", make([]byte, n))
	return exchange.Stop
}

func (r *refusesAtLength) Response(x *exchange.Exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if x.InLoop {
		r.inLoop[strings.Clone(x.Request.Path)]++
	} else {
		r.apart[strings.Clone(x.Request.Path)]++
	}
}

func (*refusesAtLength) WorksOn(*exchange.Exchange, int) bool { return true }

// TestLongRefusalsLeaveLoops makes long answers, which steps work at for long, where no other connection waits
// meanwhile.
func TestLongRefusalsLeaveLoops(t *testing.T) {
	step := &refusesAtLength{inLoop: map[string]int{}, apart: map[string]int{}}
	g := startThrough(t, step, codec.DefaultLimits(), pathnorm.DefaultSettings(), HeaderSettings{}, to("127.0.0.1:1", ""))
	const n = 20
	for range n {
		for _, length := range []string{"/10", "/60000"} {
			res, err := http.Get("http://" + g.address + length)
			if err != nil {
				t.Fatal(err)
			}
			if text := body(t, res); res.StatusCode != 403 || fmt.Sprint("/", len(text)) != length {
				t.Errorf("%s: %d, %d bytes", length, res.StatusCode, len(text))
			}
			_ = res.Body.Close()
		}
	}
	step.mu.Lock()
	defer step.mu.Unlock()
	if step.inLoop["/60000"] > 0 || step.apart["/60000"] != n || step.inLoop["/10"]+step.apart["/10"] != n {
		t.Errorf("in loops: %v, apart: %v", step.inLoop, step.apart)
	}
	if looping && step.inLoop["/10"] == 0 {
		t.Error("no answer was made in a loop")
	}
}
