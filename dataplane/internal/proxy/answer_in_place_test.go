package proxy

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
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
