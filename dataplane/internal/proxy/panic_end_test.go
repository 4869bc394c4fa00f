package proxy

import (
	"fmt"
	"net/http"
	"testing"

	"gateway.internal/dataplane/internal/codec"
	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/shared/pathnorm"
	"gateway.internal/shared/waittest"
)

// unloggable is a step after which the access log panics: that is at the end of an exchange.
type unloggable struct{}

func (unloggable) Request(*exchange.Exchange) exchange.Verdict { return exchange.Continue }

func (unloggable) Response(x *exchange.Exchange) {
	if x.Request.Path == "/broken" {
		x.Service = poison()
	}
}

// TestPanicsAtTheEnd has the ends of exchanges panic, of one that is served in a loop and of one that has left it too:
// the client has its response, and its connection goes on, as does the access log.
func TestPanicsAtTheEnd(t *testing.T) {
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			if version == "HTTP/2" {
				once(t)
			}
			config := to(echo(t), "")
			g := startThrough(t, unloggable{}, codec.DefaultLimits(), pathnorm.DefaultSettings(), HeaderSettings{}, config)
			get := g.client().get
			if version == "HTTP/2" {
				get = func(path string) string {
					res, err := g.clientOf("h2c").Get("http://" + g.address + path)
					if err != nil {
						return err.Error()
					}
					return fmt.Sprint(res.StatusCode, " ", body(t, res))
				}
			}
			for i, path := range []string{"/broken", "/one", "/broken", "/two"} {
				if got := get(path); got != fmt.Sprintf("%d %s %s", http.StatusOK, http.MethodGet, path) {
					t.Errorf("request %d: %s", i, got)
				}
			}
			waittest.Until(t, "both are counted", func() bool { return g.panics() == 2 })
			g.logs(`"path":"/one"`)
			g.logs(`"path":"/two"`)
		})
	}
}
