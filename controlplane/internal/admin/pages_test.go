package admin

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// TestPagesThatAreTooLarge: the answer says what helps, and fewer on a page are had.
func TestPagesThatAreTooLarge(t *testing.T) {
	a := newAPI(t)
	a.server.largestPage = 10_000
	for i := range 4 {
		a.must("POST", "/api/v1/config/routes", fmt.Sprintf(`{"name": "r%d", "path": "/r%d", "direct_response": {"body": "%s"}}`,
			i, i, strings.Repeat("x", 4000)))
	}
	r := a.call("GET", "/api/v1/config/routes", "")
	if r.status != 413 || !strings.Contains(r.Error.Message, "fewer items than 50 per_page") {
		t.Errorf("all at once: %d %s", r.status, r.raw)
	}
	if r := a.must("GET", "/api/v1/config/routes?per_page=2&page=2", ""); !slices.Equal(r.names(), []string{"r2", "r3"}) {
		t.Errorf("two: %v", r.names())
	}
}

// names are those of a list.
func (r *reply) names() (list []string) {
	all, _ := r.Data.([]any)
	for _, v := range all {
		m, _ := v.(map[string]any)
		if name, ok := m["name"]; ok {
			list = append(list, fmt.Sprint(name))
		} else {
			list = append(list, fmt.Sprint(m["number"]))
		}
	}
	return list
}

// TestPagesOfOneRevision: pages that name a revision neither repeat nor skip anything, whatever is committed between
// them.
func TestPagesOfOneRevision(t *testing.T) {
	for _, kind := range []string{"services", "routes", "revisions"} {
		t.Run(kind, func(t *testing.T) {
			a := newAPI(t)
			a.must("POST", "/api/v1/config/services", `{"name": "s", "endpoints": [{"host": "127.0.0.1", "port": 9000}]}`)
			for i := range 10 {
				a.must("POST", "/api/v1/config/services", fmt.Sprintf(`{"name": "m%d"}`, i))
				a.must("POST", "/api/v1/config/routes", fmt.Sprintf(`{"name": "m%d", "path": "/m%d", "service_id": "s"}`, i, i))
			}
			all := a.must("GET", "/api/v1/config/"+kind+"?per_page=1000", "")
			var got []string
			revision := 0
			for page := 1; ; page++ {
				r := a.must("GET", fmt.Sprintf("/api/v1/config/%s?per_page=3&page=%d&revision=%d", kind, page, revision), "")
				if len(r.names()) == 0 {
					break
				}
				if r.Meta.Total != all.Meta.Total || revision > 0 && r.Meta.Revision != revision {
					t.Errorf("page %d: %+v", page, r.Meta)
				}
				got, revision = append(got, r.names()...), r.Meta.Revision
				// What comes first is taken away, and another one put before it.
				a.must("DELETE", fmt.Sprintf("/api/v1/config/routes/m%d", page-1), "")
				a.must("DELETE", fmt.Sprintf("/api/v1/config/services/m%d", page-1), "")
				a.must("POST", "/api/v1/config/services", fmt.Sprintf(`{"name": "a%d"}`, page))
				a.must("POST", "/api/v1/config/services", fmt.Sprintf(`{"name": "b%d"}`, page))
			}
			if !slices.Equal(got, all.names()) {
				t.Errorf("the pages have %v, there were %v", got, all.names())
			}
			if r := a.must("GET", "/api/v1/config/"+kind, ""); r.Meta.Revision == revision {
				t.Error("the newest list does not say that it is of another revision")
			}
			if r := a.call("GET", "/api/v1/config/"+kind+"?revision=1000", ""); r.status != 404 {
				t.Errorf("a revision that is not there: %d %s", r.status, r.raw)
			}
			a.must("POST", "/api/v1/config/history/prune?newest=1", "")
			r := a.call("GET", fmt.Sprintf("/api/v1/config/%s?revision=2", kind), "")
			switch {
			case kind == "revisions" && (r.status != 200 || r.Meta.Total != 0):
				t.Errorf("revisions that are not kept: %d %s", r.status, r.raw)
			case kind != "revisions" && (r.status != 404 || !strings.Contains(r.Error.Message, "is not kept any more")):
				t.Errorf("of a revision that is not kept: %d %s", r.status, r.raw)
			}
		})
	}
}
