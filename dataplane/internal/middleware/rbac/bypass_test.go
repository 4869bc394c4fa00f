package rbac

import (
	"net/url"
	"strings"
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	"gateway.internal/dataplane/internal/pipeline"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	middlewarev1 "gateway.internal/proto/gen/gateway/middleware/v1"
	"gateway.internal/shared/match"
	"gateway.internal/shared/pathnorm"
)

// tricks are spellings by which clients have come past the access rules of proxies, each for /admin/x.
var tricks = []string{
	"/admin/x", "//admin/x", "/admin//x", "///admin///x", "/./admin/x", "/admin/./x", "/a/../admin/x", "/admin/../admin/x",
	"/%61dmin/x", "/%61%64%6D%69%6E/x", "/adm%69n/x", "/%2e/admin/x", "/a/%2e%2e/admin/x", "/a/.%2e/admin/x",
	"/a/%2E./admin/x",
	"/admin%2fx", "/admin%2Fx", "/%2fadmin/x", "/a%2f..%2fadmin%2fx", "/a/..%2fadmin/x", "/a%2f../admin/x", "/admin%5cx",
	"/admin%5Cx", "/%5cadmin/x", "/a%5c..%5cadmin/x", `/admin\x`, `/a\..\admin\x`, "/admin;/x", "/admin;v=1/x",
	"/admin;v=1;w=2/x",
	"/;/admin/x", "/;v=1/admin/x", "/a/..;/admin/x", "/a/..;v=1/admin/x", "/a/.;/../admin/x", "/a;/../admin/x",
	"/admin/x;v=1",
	"/admin/x;/", "/admin/x/", "/admin/%2e/x", "/admin%2f%2e%2fx", "/a/%2e%2e;/admin/x", "/a/%2e%2e%3b/admin/x",
	"/admin/x%00",
	"/admin%00/x", "/admin/x%00.html", "/admin/x%0a", "/admin/x%20", "/admin/x%09", "/%c0%ae%c0%ae/admin/x",
	"/a/%c0%ae%c0%ae/admin/x",
	"/%252e%252e/admin/x", "/a/%252e%252e/admin/x", "/admin%252fx", "/%2561dmin/x", "/admin/x%3b", "/admin%3b/x",
	"/a/..%3b/admin/x",
	"/admin/x?a=/b", "/admin/x#a", "/ADMIN/x", "/Admin/X", "/a/../../admin/x", "/../admin/x", "/admin/x/..",
	"/admin/a/..;/x",
}

// settingsOf are settings for paths from strict to loose.
func settingsOf() map[string]*pathnorm.Rules {
	all := func(a pathnorm.Action) pathnorm.Settings {
		var s pathnorm.Settings
		for _, o := range s.Options() {
			if *o.Action = a; a == pathnorm.Normalise && o.NotNormal {
				*o.Action = pathnorm.Keep
			}
		}
		return s
	}
	slash := pathnorm.DefaultSettings()
	slash.EncodedSlash, slash.EncodedBackslash = pathnorm.Keep, pathnorm.Keep
	return map[string]*pathnorm.Rules{
		"defaults": pathnorm.Compile(pathnorm.DefaultSettings()), "all refused": pathnorm.Compile(all(pathnorm.Refuse)),
		"all normalised": pathnorm.Compile(all(pathnorm.Normalise)), "all kept": pathnorm.Compile(all(pathnorm.Keep)),
		"slashes kept": pathnorm.Compile(slash),
	}
}

// readings are what services make of a path, as it is forwarded: those that decode it before or after they look at
// segments, that follow dots, that leave out parameters, and that take backslashes for slashes.
func readings(path string) []string {
	list := []string{path}
	for _, read := range []func(string) string{
		func(p string) string { // escapes, once
			if u, err := url.PathUnescape(p); err == nil {
				return u
			}
			return p
		},
		func(p string) string { return strings.ReplaceAll(p, `\`, "/") },
		func(p string) string { // parameters
			segments := strings.Split(p, "/")
			for i := range segments {
				segments[i], _, _ = strings.Cut(segments[i], ";")
			}
			return strings.Join(segments, "/")
		},
		func(p string) string { // slashes side by side
			for strings.Contains(p, "//") {
				p = strings.ReplaceAll(p, "//", "/")
			}
			return p
		},
		func(p string) string { // dot segments
			var kept []string
			for s := range strings.SplitSeq(p[1:], "/") {
				switch {
				case s == ".":
				case s == ".." && len(kept) > 0:
					kept = kept[:len(kept)-1]
				case s == "..":
				default:
					kept = append(kept, s)
				}
			}
			return "/" + strings.Join(kept, "/")
		},
	} {
		for _, p := range list {
			if p = read(p); strings.HasPrefix(p, "/") {
				list = append(list, p)
			}
		}
	}
	return list
}

func under(path, prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }

// guards are a rule that denies /admin/*, and one that allows /public/*, and routes for both.
type guards struct {
	deny, allow   pipeline.Step
	admin, public *match.Table
}

func newGuards(t testing.TB) *guards {
	route := func(pattern string) *match.Table {
		r, _ := match.Parse(&configv1.Route{Id: "a", Path: pattern})
		return match.Compile([]*match.Rule{r})
	}
	return &guards{
		stepOf(t, &middlewarev1.Rbac{Rules: []*ruleOf{{Paths: []string{"/admin/*"}, Effect: "deny"}}}),
		stepOf(t, &middlewarev1.Rbac{Rules: []*ruleOf{{Paths: []string{"/public/*"}}}}),
		route("/admin/*"), route("/public/*"),
	}
}

// bypass reports how a path gets past the rules under some settings; empty: it does not.
func (g *guards) bypass(path string, settings *pathnorm.Rules) string {
	seen, _, refused := settings.Apply(path, nil)
	if refused != "" {
		return ""
	}
	takes := func(route *match.Table) bool {
		return route.Match(&match.Request{Method: "GET", Path: seen}, &match.Params{}) != nil
	}
	passes := func(s pipeline.Step) bool {
		x := &exchange.Exchange{}
		x.Request.Method, x.Request.Path = "GET", seen
		return s.Request(x) == exchange.Continue
	}
	denied, allowed := !passes(g.deny), passes(g.allow)
	switch {
	case takes(g.admin) && !denied:
		return "a route for /admin/* takes it, and a rule that denies that does not apply"
	case allowed && !takes(g.public):
		return "a rule for /public/* allows it, though a route for that does not take it"
	}
	for _, as := range readings(seen) {
		if under(as, "/admin") && !denied {
			return "a service reads it as " + as + ", and a rule that denies /admin/* does not apply"
		}
		if allowed && !under(as, "/public") {
			return "a service reads it as " + as + ", and a rule for /public/* allows it"
		}
	}
	return ""
}

// TestPathsDoNotGetPastRules tries both spellings of each trick: of what is denied, and of what is allowed.
func TestPathsDoNotGetPastRules(t *testing.T) {
	g := newGuards(t)
	for name, settings := range settingsOf() {
		for _, trick := range tricks {
			for _, path := range []string{trick, "/public" + trick, strings.ReplaceAll(trick, "/a/", "/public/"),
				"/public/.." + trick} {
				if how := g.bypass(path, settings); how != "" {
					t.Errorf("%s: %s: %s", name, path, how)
				}
			}
		}
	}
}

// FuzzPaths tries any path under all settings.
func FuzzPaths(f *testing.F) {
	for _, trick := range tricks {
		f.Add(trick)
		f.Add("/public" + trick)
	}
	all, g := settingsOf(), newGuards(f)
	f.Fuzz(func(t *testing.T, path string) {
		if len(path) > 200 {
			return
		}
		for name, settings := range all {
			if how := g.bypass(path, settings); how != "" {
				t.Errorf("%s: %q: %s", name, path, how)
			}
		}
	})
}
