package jwks

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/egress"
	"gateway.internal/dataplane/internal/telemetry"
)

// issuer answers as a test says.
type issuer struct {
	asked  atomic.Int32
	answer atomic.Pointer[func() (*egress.Response, error)]
}

func (i *issuer) says(status int, cacheControl, body string) {
	f := func() (*egress.Response, error) {
		h := http.Header{}
		if cacheControl != "" {
			h.Set("Cache-Control", cacheControl)
		}
		return &egress.Response{Status: status, Header: h, Body: []byte(body)}, nil
	}
	i.answer.Store(&f)
}

func (i *issuer) fails() {
	f := func() (*egress.Response, error) { return nil, errors.New("it is down") }
	i.answer.Store(&f)
}

func (i *issuer) source() *Source {
	return New(Settings{
		Fetch: func(context.Context) (*egress.Response, error) {
			i.asked.Add(1)
			return (*i.answer.Load())()
		},
		Name: "a", Metrics: new(telemetry.Sets).Of("gateway_jwt_", "middleware", "m"),
	})
}

const ed25519Key = `"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"`

func keys(ids ...string) string {
	var all []string
	for _, id := range ids {
		all = append(all, fmt.Sprintf(`{%s,"kid":%q}`, ed25519Key, id))
	}
	return `{"keys":[` + strings.Join(all, ",") + `]}`
}

// TestRefreshAhead fetches before the keys are old, as the issuer says, within bounds.
func TestRefreshAhead(t *testing.T) {
	for _, c := range []struct {
		cacheControl string
		age          time.Duration
	}{
		{"", DefaultAge},
		{"no-cache", DefaultAge},
		{"public, max-age=3600", time.Hour},
		{"MAX-AGE=\"600\"", 10 * time.Minute},
		{"max-age=0", MinAge},
		{"max-age=-5", DefaultAge},
		{"max-age=99999999", MaxAge},
		{"max-age=x", DefaultAge},
	} {
		synctest.Test(t, func(t *testing.T) {
			var i issuer
			i.says(200, c.cacheControl, keys("k"))
			s := i.source()
			defer s.Close()
			synctest.Wait()
			if time.Sleep(c.age * 79 / 100); i.asked.Load() != 1 {
				t.Errorf("%q: asked %d times early", c.cacheControl, i.asked.Load())
			}
			time.Sleep(c.age * 12 / 100)
			if synctest.Wait(); i.asked.Load() != 2 {
				t.Errorf("%q: asked %d times before it is old", c.cacheControl, i.asked.Load())
			}
		})
	}
}

// TestIssuerIsDown keeps the keys, and asks less and less often.
func TestIssuerIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i issuer
		i.says(200, "", keys("k"))
		s := i.source()
		defer s.Close()
		set, err := s.Wait(t.Context())
		if err != nil || set.Len() != 1 {
			t.Fatal(set.Len(), err)
		}
		for _, bad := range []func(){
			i.fails, func() { i.says(500, "", "") }, func() { i.says(200, "", "<html>") },
			func() { i.says(200, "", `{"keys":1}`) },
		} {
			bad()
			time.Sleep(time.Hour)
			if s.Set() != set {
				t.Error("the keys are gone")
			}
		}
		before := i.asked.Load()
		if time.Sleep(time.Hour); i.asked.Load()-before > 130 {
			t.Errorf("asked %d times in an hour", i.asked.Load()-before)
		}
		i.says(200, "", keys("k", "l"))
		time.Sleep(2 * time.Minute)
		if synctest.Wait(); s.Set().Len() != 2 || s.Set().Keys()[0] != set.Keys()[0] {
			t.Error("new keys did not come, or those that stayed are others")
		}
	})
}

// TestIssuerComesLater is asked again within seconds as long as there are no keys.
func TestIssuerComesLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i issuer
		i.fails()
		s := i.source()
		defer s.Close()
		if _, err := s.Wait(t.Context()); err == nil || !strings.Contains(err.Error(), "down") {
			t.Error(err)
		}
		time.Sleep(time.Hour)
		i.says(200, "", keys("k"))
		if time.Sleep(5 * time.Second); s.Set().Len() != 1 {
			t.Error("the keys did not come")
		}
	})
}

// TestUnknownKeys has the issuer asked once in a while, by however many requests.
func TestUnknownKeys(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i issuer
		i.says(200, "max-age=86400", keys("k"))
		s := i.source()
		defer s.Close()
		if _, err := s.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		gate := make(chan struct{})
		slow := func() (*egress.Response, error) {
			<-gate
			return &egress.Response{Status: 200, Body: []byte(keys("k", "l"))}, nil
		}
		i.answer.Store(&slow)
		var waited, refused atomic.Int32
		for range 1000 {
			go func() {
				if s.Refresh(t.Context()) {
					waited.Add(1)
				} else {
					refused.Add(1)
				}
			}()
		}
		synctest.Wait()
		if refused.Load() != 1000-maxWaiting || s.MayRefresh() {
			t.Errorf("%d did not wait", refused.Load())
		}
		close(gate)
		if synctest.Wait(); waited.Load() != maxWaiting || i.asked.Load() != 2 || s.Set().Len() != 2 {
			t.Errorf("%d waited for %d questions", waited.Load(), i.asked.Load())
		}
		for range 1000 {
			s.Refresh(t.Context())
		}
		if i.asked.Load() != 2 || s.MayRefresh() {
			t.Errorf("asked %d times", i.asked.Load())
		}
		time.Sleep(RefreshInterval)
		if !s.Refresh(t.Context()) || i.asked.Load() != 3 {
			t.Errorf("asked %d times after the interval", i.asked.Load())
		}
	})
}

// TestWaitEnds with its context, and with the source.
func TestWaitEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var i issuer
		forever := func() (*egress.Response, error) {
			time.Sleep(time.Hour)
			return nil, errors.New("late")
		}
		i.answer.Store(&forever)
		s := i.source()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := s.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		ended := make(chan error)
		go func() { _, err := s.Wait(t.Context()); ended <- err }()
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; err == nil {
			t.Error("there are keys")
		}
	})
}
