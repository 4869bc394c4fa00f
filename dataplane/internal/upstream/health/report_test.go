package health

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"gateway.internal/dataplane/internal/upstream/balance"
)

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
				got := c.Report(all)
				if all && (len(got) != 1 || got[0].GetHealthy() != step.want) || len(got) > 1 {
					t.Errorf("while %v fail: %v, want one report, healthy %v", step.failing, got, step.want)
				}
			}
		}
	})
}
