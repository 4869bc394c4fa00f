package health

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/upstream/balance"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

func verdicts(c *Checker, all bool) []*streamv1.EndpointHealth {
	list, _ := c.Report(all)
	return list
}

// TestReportOfWhatIsGone: who was told of an endpoint is told when there is no verdict on it any more, once, and of
// the verdict that is left where one of its addresses is gone.
func TestReportOfWhatIsGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := NewChecker(slog.New(slog.DiscardHandler), func(_ context.Context, t Target) error {
			if t.Dial[0] == "10.0.0.2:80" {
				return errors.New("refused")
			}
			return nil
		})
		defer c.Close()
		var targets []Target
		for _, address := range []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80"} {
			next := target(&balance.State{})
			next.Dial[0] = address
			targets = append(targets, next)
		}
		targets[2].Host = "other"
		check := func(what string, set []Target, want, gone string) {
			t.Helper()
			c.Set(set)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			verdicts, unchecked := c.Report(false)
			got := map[string]bool{}
			for _, h := range verdicts {
				got[h.GetHost()] = h.GetHealthy()
			}
			var refs []string
			for _, r := range unchecked {
				refs = append(refs, fmt.Sprintf("%s %s:%d", r.GetServiceId(), r.GetHost(), r.GetPort()))
			}
			if fmt.Sprint(got) != want || fmt.Sprint(refs) != gone {
				t.Errorf("%s: verdicts %v, want %s; without one %v, want %s", what, got, want, refs, gone)
			}
			if v, u := c.Report(false); len(v)+len(u) > 0 {
				t.Errorf("%s: told twice: %v, %v", what, v, u)
			}
		}
		check("all", targets, "map[h:true other:true]", "[]")
		check("the address that is healthy is gone", targets[1:], "map[h:false other:true]", "[]")
		check("one endpoint is gone", targets[2:], "map[other:true]", "[s h:1]")
		check("all are gone", nil, "map[]", "[s other:1]")
		c.Set(targets[2:])
		c.Set(nil)
		check("one that was never checked", nil, "map[]", "[]")
	})
}

// TestReportOfSeveralAddresses has an endpoint at two addresses: it is healthy for control planes while one of them is.
func TestReportOfSeveralAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		failing := map[string]bool{}
		c := NewChecker(slog.New(slog.DiscardHandler), func(_ context.Context, t Target) error {
			if failing[t.Dial[0]] {
				return errors.New("refused")
			}
			return nil
		})
		defer c.Close()
		var targets []Target
		for _, address := range []string{"10.0.0.1:80", "10.0.0.2:80"} {
			next := target(&balance.State{})
			next.Dial[0] = address
			targets = append(targets, next)
		}
		for _, step := range []struct {
			failing map[string]bool
			want    bool
		}{
			{map[string]bool{}, true},
			{map[string]bool{"10.0.0.2:80": true}, true},
			{map[string]bool{"10.0.0.1:80": true, "10.0.0.2:80": true}, false},
			{map[string]bool{"10.0.0.2:80": true}, true},
		} {
			c.Set(nil)
			failing = step.failing
			c.Set(targets)
			time.Sleep(10 * time.Minute)
			synctest.Wait()
			for _, all := range []bool{true, false} {
				got := verdicts(c, all)
				if all && (len(got) != 1 || got[0].GetHealthy() != step.want) || len(got) > 1 {
					t.Errorf("while %v fail: %v, want one report, healthy %v", step.failing, got, step.want)
				}
			}
		}
	})
}
