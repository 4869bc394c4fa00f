package admin

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"

	"gateway.internal/controlplane/internal/access"
	api "gateway.internal/proto"
)

// held is a body that says that it is read, and goes on when it is let.
type held struct {
	reading *atomic.Int32
	begin   *sync.Once
	goOn    chan struct{}
	rest    io.Reader
}

func (h held) Read(p []byte) (int, error) {
	h.begin.Do(func() { h.reading.Add(1) })
	<-h.goOn
	return h.rest.Read(p)
}

// TestLargeBodiesTakeTurns: of large bodies, and those of unknown length, only some are read at a time, until their
// calls have ended; small ones wait for nobody.
func TestLargeBodiesTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		log := slog.New(slog.DiscardHandler)
		s := &Server{log: log, tokens: access.NewTokens(nil, token, log), throttle: access.NewThrottle()}
		known, err := callsOf(api.OpenAPI)
		if err != nil {
			t.Fatal(err)
		}
		var reading, answered atomic.Int32
		end := make(chan struct{}) // of what follows on a large body
		handler := s.around(known, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			if r.Header.Get("X-Large") != "" {
				<-end
			}
			answered.Add(1)
		}))
		call := func(length int64, goOn chan struct{}) {
			padding := bytes.Repeat([]byte(" "), int(max(length, 10)))
			body := io.MultiReader(bytes.NewReader([]byte(`{}`)), bytes.NewReader(padding[2:]))
			r := httptest.NewRequestWithContext(t.Context(), "POST", "/api/v1/config/apply",
				held{&reading, &sync.Once{}, goOn, body})
			r.ContentLength = length
			r.Header.Set("Authorization", "Bearer "+token)
			if length != largeBody {
				r.Header.Set("X-Large", "yes")
			}
			go handler.ServeHTTP(httptest.NewRecorder(), r)
			synctest.Wait()
		}
		goOn := make(chan struct{})
		for _, length := range []int64{largeBody + 1, -1, largeBody + 1, -1, largeBody + 1} {
			call(length, goOn)
		}
		if n := reading.Load(); n != largeBodies {
			t.Errorf("%d large bodies are read at a time", n)
		}
		free := make(chan struct{})
		close(free)
		call(largeBody, free)
		if n := answered.Load(); n != 1 {
			t.Errorf("%d small ones were answered of one", n)
		}
		close(goOn)
		synctest.Wait()
		if n := reading.Load(); n != largeBodies+1 {
			t.Errorf("while calls with large bodies go on, %d bodies were read", n-1)
		}
		for i := range int32(5) {
			end <- struct{}{}
			synctest.Wait()
			if n := reading.Load() - 1; n != min(5, largeBodies+i+1) {
				t.Errorf("after %d calls had ended, %d bodies were read", i+1, n)
			}
		}
		if n := answered.Load(); n != 6 {
			t.Errorf("%d were answered", n)
		}
	})
}
