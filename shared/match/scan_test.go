package match

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/hostname"
)

type headerMap map[string]string

func (h headerMap) Lookup(name string) (string, bool) {
	v, ok := h[strings.ToLower(name)]
	return v, ok
}

func (h headerMap) LookupFrom(place int, name string) (string, int, bool) {
	v, ok := h.Lookup(name)
	return v, 1, ok && place == 0
}

// drawRoute makes routes that collide a lot.
func drawRoute(t *rapid.T, id string) *configv1.Route {
	segment := rapid.SampledFrom([]string{"a", "b", "B", "ab", "", "{p}", "{q}"})
	segs := rapid.SliceOfN(segment, 0, 3).Draw(t, "segments")
	seen := map[string]bool{}
	for i, s := range segs {
		if seen[s] && s != "" && s[0] == '{' {
			segs[i] = "{r" + fmt.Sprint(i) + "}"
		}
		seen[s] = true
	}
	path := "/" + strings.Join(segs, "/")
	switch rapid.IntRange(0, 3).Draw(t, "form") {
	case 0:
		path = strings.TrimSuffix(path, "/") + "/*"
	case 1:
		path = rapid.SampledFrom([]string{"~/a/.*", "~/[ab]", "~.*", "~/a/b|/b/a", "~^/a/(?P<x>b)", "~/a", "~/ab?", "~/ab/[ab]+", "~/abb*", "~/B.*", "~"}).Draw(t, "regex")
	}
	r := &configv1.Route{Id: id, Name: id, Path: path, Priority: rapid.Int32Range(-1, 1).Draw(t, "priority")}
	r.Methods = rapid.SampledFrom([][]string{nil, nil, {"GET"}, {"GET", "POST"}, {"*"}, {"CONNECT"}, {"*", "CONNECT"}}).Draw(t, "methods")
	r.IgnoreCase = rapid.IntRange(0, 3).Draw(t, "ignoreCase") == 0
	r.Schemes = rapid.SampledFrom([][]string{nil, nil, nil, {"http"}, {"https"}, {"https", "http"}}).Draw(t, "schemes")
	r.Ports = rapid.SampledFrom([][]uint32{nil, nil, nil, {80}, {80, 443}}).Draw(t, "ports")
	if rapid.IntRange(0, 3).Draw(t, "redirects") == 0 {
		r.Redirect = &configv1.Redirect{
			Scheme:     rapid.SampledFrom([]string{"", "http", "https"}).Draw(t, "toScheme"),
			Host:       rapid.SampledFrom([]string{"", "h.com", "x.h.com", "x.h.com:81"}).Draw(t, "toHost"),
			Path:       rapid.SampledFrom([]string{"", "/a", "/a/b"}).Draw(t, "toPath"),
			Port:       rapid.SampledFrom([]uint32{0, 0, 81}).Draw(t, "toPort"),
			StripQuery: rapid.Bool().Draw(t, "stripQuery"),
		}
		if r.Redirect.GetScheme() != "" && len(r.Schemes) == 1 {
			r.Schemes = nil // what is refused where they are the same
		}
	}
	r.Hosts = rapid.SampledFrom([][]string{nil, nil, {"h.com"}, {"*.h.com"}, {"x.h.com", "*.com"}}).Draw(t, "hosts")
	if rapid.IntRange(0, 4).Draw(t, "hasHeader") == 0 {
		h := &configv1.HeaderMatch{Name: "X-A"}
		switch rapid.IntRange(0, 3).Draw(t, "header") {
		case 0:
			h.Match = &configv1.HeaderMatch_Exact{Exact: "1"}
		case 1:
			h.Match = &configv1.HeaderMatch_Regex{Regex: "[12]"}
		case 2:
			h.Match = &configv1.HeaderMatch_Present{Present: false}
		}
		r.Headers = append(r.Headers, h)
	}
	if rapid.IntRange(0, 4).Draw(t, "hasQuery") == 0 {
		r.Query = append(r.Query, &configv1.QueryMatch{Name: "q", Match: &configv1.QueryMatch_Exact{Exact: "1"}})
	}
	if rapid.Bool().Draw(t, "dated") {
		r.CreatedAt = &timestamppb.Timestamp{Seconds: rapid.Int64Range(1, 3).Draw(t, "created")}
	}
	return r
}

func drawRequest(t *rapid.T) *Request {
	segs := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "A", "B", "ab", "aB", "abb", "c", ""}), 1, 4).Draw(t, "path")
	q := &Request{
		Method:   rapid.SampledFrom([]string{"GET", "POST", "PUT", "CONNECT"}).Draw(t, "method"),
		Host:     rapid.SampledFrom([]string{"h.com", "x.h.com:80", "X.h.com:81", "Y.x.h.com", "other"}).Draw(t, "host"),
		Scheme:   rapid.SampledFrom([]string{"http", "https"}).Draw(t, "scheme"),
		Port:     rapid.SampledFrom([]uint16{0, 80, 443}).Draw(t, "port"),
		Path:     "/" + strings.Join(segs, "/"),
		RawQuery: rapid.SampledFrom([]string{"", "q=1", "q=2", "x&q=%31", "&&"}).Draw(t, "query"),
	}
	if q.Method == "CONNECT" {
		q.Path, q.RawQuery = "", ""
	}
	if v := rapid.SampledFrom([]string{"", "1", "2", "3"}).Draw(t, "x-a"); v != "" {
		q.Header = headerMap{"x-a": v}
	}
	return q
}

// model is a route with its rule as it were without a redirect.
type model struct {
	route *configv1.Route
	bare  *Rule
}

// drawRule draws a route whose value is its model.
func drawRule(t *rapid.T, id string) *Rule {
	route := drawRoute(t, id)
	r, errs := Parse(route)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	bare := proto.CloneOf(route)
	bare.Redirect = nil
	m := model{route: route}
	m.bare, _ = Parse(bare)
	r.Value = m
	return r
}

// spelled writes a URL with its port.
func spelled(scheme, authority, path, query string) string {
	if !strings.Contains(authority, ":") {
		authority += map[string]string{"http": ":80", "https": ":443"}[scheme]
	}
	return scheme + "://" + authority + path + "?" + query
}

// leads writes where a redirect without parameters leads.
func leads(d *configv1.Redirect, q *Request) string {
	scheme, authority, path, query := q.Scheme, strings.ToLower(q.Host), q.Path, q.RawQuery
	if d.GetScheme() != "" && d.GetScheme() != scheme {
		scheme = d.GetScheme()
		authority, _, _ = strings.Cut(authority, ":")
	}
	if d.GetHost() != "" {
		_, port, _ := strings.Cut(authority, ":")
		if authority = d.GetHost(); port != "" && !strings.Contains(authority, ":") {
			authority += ":" + port
		}
	}
	if d.GetPort() != 0 {
		authority, _, _ = strings.Cut(authority, ":")
		authority += fmt.Sprint(":", d.GetPort())
	}
	if d.GetPath() != "" {
		path = d.GetPath()
	}
	if d.GetStripQuery() {
		query = ""
	}
	return spelled(scheme, authority, path, query)
}

// scan is the model: the first of the sorted rules whose every predicate holds.
func scan(rules []*Rule, q *Request) *Rule {
	var buf hostname.Buffer
	host := string(hostname.Key(&buf, q.Host))
	for _, r := range slices.SortedFunc(slices.Values(rules), Compare) {
		bare, route := r, &configv1.Route{}
		if m, ok := r.Value.(model); ok {
			bare, route = m.bare, m.route
		}
		if !r.matchesPath(q.Path) || !r.matchesHost(host) || !bare.matches(q) {
			continue
		}
		if len(route.GetSchemes()) > 0 && !slices.Contains(route.GetSchemes(), q.Scheme) ||
			len(route.GetPorts()) > 0 && !slices.Contains(route.GetPorts(), uint32(q.Port)) {
			continue
		}
		if d := route.GetRedirect(); d == nil || leads(d, q) != spelled(q.Scheme, strings.ToLower(q.Host), q.Path, q.RawQuery) {
			return r
		}
	}
	return nil
}

func TestMatchIsAScan(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rules := map[string]*Rule{}
		table := Compile(nil)
		for range rapid.IntRange(1, 6).Draw(t, "steps") {
			var add []*Rule
			var remove []string
			for range rapid.IntRange(0, 6).Draw(t, "adds") {
				add = append(add, drawRule(t, fmt.Sprint("r", rapid.IntRange(0, 15).Draw(t, "id"))))
			}
			for id := range rules {
				if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
					remove = append(remove, id)
				}
			}
			before := table
			wasLen := before.Len()
			table = table.With(remove, add)
			if before.Len() != wasLen {
				t.Fatal("With changed the table it started from")
			}
			for _, id := range remove {
				delete(rules, id)
			}
			for _, r := range add {
				rules[r.ID] = r
			}
			all := make([]*Rule, 0, len(rules))
			for _, r := range rules {
				all = append(all, r)
			}
			if table.Len() != len(all) {
				t.Fatalf("table has %d rules, want %d", table.Len(), len(all))
			}
			for range 8 {
				q := drawRequest(t)
				var p Params
				if got, want := table.Match(q, &p), scan(all, q); got != want {
					t.Fatalf("%+v: got %q, want %q", q, name(got), name(want))
				}
			}
			these, comparisons := map[*Rule]bool{}, Comparisons(1<<20)
			for _, r := range all {
				these[r] = true
			}
			shadowed := table.Unreachable(these, &comparisons)
			for _, r := range all {
				by := table.Shadowed(r, &comparisons)
				if shadowed[r] != by {
					t.Fatalf("%s is shadowed by %q, and by %q among all", r.Name, name(by), name(shadowed[r]))
				}
				if by == nil {
					continue
				}
				for range 8 {
					if q := drawRequest(t); scan([]*Rule{r}, q) == r && scan(all, q) == r {
						t.Fatalf("%+v reaches %s, which %s is said to shadow", q, r.Name, by.Name)
					}
				}
			}
		}
	})
}
