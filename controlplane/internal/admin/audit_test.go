package admin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"gateway.internal/controlplane/internal/access"
	"gateway.internal/controlplane/internal/store"
	"gateway.internal/shared/fault"
	"gateway.internal/shared/waittest"
)

// trail returns what the audit trail has, each entry as "actor call outcome code revision changes".
func (a *api1) trail(query string) (out []string) {
	a.t.Helper()
	r := a.must("GET", "/api/v1/audit?per_page=100"+query, "")
	for _, v := range r.Data.([]any) {
		e := v.(map[string]any)
		text := fmt.Sprintf("%v %v %v %v %v", e["actor"], e["call"], e["outcome"], e["code"], e["revision"])
		for _, c := range e["changes"].([]any) {
			ch := c.(map[string]any)
			text += fmt.Sprintf(" %v:%v/%v", strings.TrimPrefix(ch["action"].(string), "ACTION_"), ch["kind"], ch["name"])
		}
		if e["address"] != "127.0.0.1" || e["request_id"] == "" {
			a.t.Errorf("%s: it came from %v as %v", text, e["address"], e["request_id"])
		}
		out = append(out, text)
	}
	return out
}

// TestEveryChangeIsAudited: also those that are no change of the configuration, and none that is only tried.
func TestEveryChangeIsAudited(t *testing.T) {
	a := newAPI(t)
	a.must("POST", "/api/v1/config/apply?message=first", all)
	text := a.tokenFor(`{"name":"deploy","role":"operator"}`)
	as := []string{"Authorization", "Bearer " + text}
	a.must("PATCH", "/api/v1/config/services/users", `{"circuit_breaker_config":{}}`,
		append(as, "Gateway-Message", "for the sale")...)
	a.must("POST", "/api/v1/config/apply?dry_run=true", `{"services":[{"name":"x"}]}`, as...)
	a.must("POST", "/api/v1/config/routes/a/enable", "", as...)
	a.must("POST", "/api/v1/health/circuit-breakers/users/reset", "", as...)
	a.must("POST", "/api/v1/config/revisions/1/rollback", "", as...)
	a.must("POST", "/api/v1/config/history/prune?newest=2", "")
	a.must("DELETE", "/api/v1/tokens/deploy", "")
	want := []string{
		"admin AccessService/RevokeToken done  0 DELETED:token/deploy",
		"admin ConfigurationService/PruneHistory done  0",
		"deploy ConfigurationService/RollbackRevision done  3 UPDATED:service/users",
		"deploy HealthService/ResetCircuitBreaker done  0",
		"deploy ServiceConfigService/PatchService done  2 UPDATED:service/users",
		"admin AccessService/CreateToken done  0 CREATED:token/deploy",
		"admin ConfigurationService/ApplyConfiguration done  1 CREATED:route/a CREATED:route/b CREATED:service/users",
	}
	if got := a.trail(""); strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("the trail has\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for query, n := range map[string]int{
		"&actor=deploy": 3, "&kind=services": 4, "&kind=token&name=deploy": 2, "&name=a": 1, "&revision=2": 1,
		"&outcome=refused": 0, "&since=2099-01-01T00:00:00Z": 0, "&before=2099-01-01T00:00:00Z": 7, "&through=1": 1,
		"&call=ServiceConfigService/PatchService": 1, "&address=10.0.0.1": 0,
	} {
		if got := a.trail(query); len(got) != n {
			t.Errorf("%s: %q", query, got)
		}
	}
	r := a.must("GET", "/api/v1/audit?revision=2", "")
	if !strings.Contains(r.raw, `"path":"circuit_breaker_config`) || !strings.Contains(r.raw, "for the sale") ||
		strings.Contains(r.raw, text) {
		t.Errorf("the entry of revision 2: %s", r.raw)
	}
	for _, query := range []string{"outcome=x", "kind=cats", "per_page=5000", "since=yesterday"} {
		if r := a.call("GET", "/api/v1/audit?"+query, ""); r.status != 400 {
			t.Errorf("%s: %d %s", query, r.status, r.raw)
		}
	}
}

// TestRefusalsAreAudited, by REST and gRPC, and those of one kind are counted.
func TestRefusalsAreAudited(t *testing.T) {
	a := newAPI(t)
	viewer := a.tokenFor(`{"name":"v","role":"viewer"}`)
	editor := a.tokenFor(`{"name":"e","role":"editor","kinds":["routes"]}`)
	for range 3 {
		a.call("POST", "/api/v1/config/services", users, "Authorization", "Bearer "+viewer)
		a.call("GET", "/api/v1/nodes", "", "Authorization", "Bearer wrong")
	}
	a.call("POST", "/api/v1/config/services", users, "Authorization", "Bearer "+editor)
	conn := a.dial()
	methods(func(_, method string, m methodDescriptor) {
		if method == "PruneHistory" {
			if err := a.invoke(conn, viewer, m); status.Code(err) != codes.PermissionDenied {
				t.Error(err)
			}
		}
	})
	want := []string{" GET /api/v1/nodes refused UNAUTHENTICATED 0",
		"e ServiceConfigService/CreateService refused FORBIDDEN 0",
		"v ConfigurationService/PruneHistory refused FORBIDDEN 0", "v ServiceConfigService/CreateService refused FORBIDDEN 0"}
	waittest.UntilNil(t, "the refusals are in the trail", func() error {
		a.server.audit.flush(t.Context(), true)
		got := strings.Join(a.trail("&outcome=refused"), "\n")
		for _, text := range want {
			if !strings.Contains(got, text) {
				return errors.New(got)
			}
		}
		return nil
	})
	n := 0
	for _, v := range a.must("GET", "/api/v1/audit?outcome=refused", "").Data.([]any) {
		n += int(v.(map[string]any)["count"].(float64))
	}
	if n != 8 {
		t.Errorf("%d refusals are counted", n)
	}
}

// TestGuessersWait: an address from which there were many wrong tokens has to wait, and only for what can be guessed.
func TestGuessersWait(t *testing.T) {
	a := newAPI(t)
	text := a.tokenFor(`{"name":"deploy","role":"viewer"}`)
	var r *reply
	for range 11 {
		if r = a.call("GET", "/api/v1/nodes", "", "Authorization", "Bearer guess"); r.status != 401 {
			t.Fatalf("a guess: %d %s", r.status, r.raw)
		}
	}
	a.call("GET", "/api/v1/nodes", "", "Authorization", "") // nobody guesses
	for name, guess := range map[string]string{"a guess": "guess", "the administrator's": token} {
		r = a.call("GET", "/api/v1/nodes", "", "Authorization", "Bearer "+guess)
		if r.status != http.StatusTooManyRequests || r.header.Get("Retry-After") != "1" ||
			r.Error.Code != "RATE_LIMIT_EXCEEDED" {
			t.Errorf("%s: %d %v %s", name, r.status, r.header, r.raw)
		}
	}
	a.must("GET", "/api/v1/whoami", "", "Authorization", "Bearer "+text)
	// The right token from another address.
	c := caller{address: "10.0.0.2"}
	if id, err := a.server.authenticate(t.Context(), c, "x", []string{"Bearer " + token}); err != nil ||
		id.Role != access.Admin {
		t.Errorf("from another address: %v", err)
	}
}

type auditPort = store.Audit

// memory is an audit trail that may be away.
type memory struct {
	auditPort
	away    bool
	entries []store.AuditEntry
}

func (m *memory) KeepAudit(_ context.Context, entries ...store.AuditEntry) error {
	if m.away {
		return store.ErrUnavailable
	}
	m.entries = append(m.entries, entries...)
	return nil
}

// TestAuditWaitsForTheStore, within bounds, and tells refusals apart, within bounds.
func TestAuditWaitsForTheStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		a := newAuditor(m, slog.New(slog.DiscardHandler))
		refuse := func(n int, address string) {
			for range n {
				a.refused(caller{address: address}, "GET /x", fault.Unauthenticated, "no")
			}
		}
		counts := func(want ...int) {
			t.Helper()
			a.flush(t.Context(), false)
			var got []int
			for _, e := range m.entries {
				got = append(got, e.Count)
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("entries of %v calls, want %v", got, want)
			}
			m.entries = nil
		}
		refuse(5, "10.0.0.1")
		counts(5)
		refuse(7, "10.0.0.1")
		counts() // within the minute
		time.Sleep(auditWindow)
		counts(7)
		time.Sleep(auditWindow)
		counts()
		if len(a.windows) != 0 {
			t.Errorf("%d windows are left", len(a.windows))
		}

		m.away = true
		refuse(1, "10.0.0.1")
		a.keep(t.Context(), store.AuditEntry{Call: "change", Count: 2})
		counts()
		m.away = false
		counts(2, 1)

		for i := range maxWindows + 500 {
			refuse(1, fmt.Sprintf("10.1.%d.%d", i/256, i%256))
		}
		a.flush(t.Context(), false)
		if n := len(a.windows); n != maxWindows+1 {
			t.Errorf("%d kinds are told apart", n)
		}
		last := 0
		for _, e := range m.entries {
			last = max(last, e.Count)
		}
		if last != 501 { // one kind was told apart before
			t.Errorf("of those that are too many %d are counted", last)
		}
		m.away = true
		for range maxWaiting + 5 {
			a.keep(t.Context(), store.AuditEntry{})
		}
		if len(a.waiting) != maxWaiting || a.lost != 5 {
			t.Errorf("%d wait, and %d are lost", len(a.waiting), a.lost)
		}
	})
}
