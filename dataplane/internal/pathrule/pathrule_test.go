package pathrule

import (
	"testing"

	"gateway.internal/dataplane/internal/exchange"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/match"
)

// TestReadings looks at paths in each way in which a service may read them.
func TestReadings(t *testing.T) {
	patterns := []string{"/admin/*", "/public/*", "/a/b", "/files/{name}"}
	p, err := Compile(patterns, []int{0, 1, 2, 3}, false)
	if err != nil {
		t.Fatal(err)
	}
	const admin, public, exact, file = 1, 2, 4, 8
	for _, c := range []struct {
		path        string
		every, some uint64
		unreadable  bool
	}{
		{"/admin/x", admin, admin, false},
		{"/admin", admin, admin, false},
		{"/public", public, public, false},
		{"/admin;v=1/x", 0, admin, false},
		{"/public/x;v=1", public, public, false},
		{"/public;/x", 0, public, false},
		{"/public/..;/admin/x", 0, public | admin, false},
		{"/public%2F..%2Fadmin/x", 0, admin, false},
		{"/public/../admin/x", 0, public | admin, false},
		{"/admin%2Fx", 0, admin, false},
		{"/admin%5Cx", 0, admin, false},
		{"//admin/x", 0, admin, false},
		{"/%61dmin/x", 0, admin, false},
		{"/a/b;c", 0, exact, false},
		{"/files/m%C3%BCll", file, file, false},
		{"/files/m%c3%bcll", file, file, false},
		{"/files/a%2Fb", 0, file, false},
		{"/../admin", 0, 0, true},
		{"/public/%00", 0, public, true},
		{"/ADMIN", 0, 0, false},
		{"", 0, 0, false},
	} {
		x := &exchange.Exchange{}
		x.Request.Path = c.path
		var every, some [1]uint64
		readable := p.Match(x, every[:], some[:])
		if every[0] != c.every || some[0] != c.some || readable == c.unreadable {
			t.Errorf("%q: every %b, some %b, readable %t", c.path, every[0], some[0], readable)
		}
	}
	if _, err := Compile([]string{"~/a"}, []int{0}, false); err == nil {
		t.Error("took a regular expression")
	}
}

// TestCaseIsTheRoutes: where the route ignores case, so does every rule about its paths.
func TestCaseIsTheRoutes(t *testing.T) {
	for _, c := range []struct{ route, rules, want bool }{
		{false, false, false}, {true, false, true}, {false, true, true}, {true, true, true},
	} {
		p, err := Compile([]string{"/api/Admin/*"}, []int{0}, c.rules)
		if err != nil {
			t.Fatal(err)
		}
		rule, _ := match.Parse(&configv1.Route{Id: "a", Path: "/api/*", IgnoreCase: c.route})
		x := &exchange.Exchange{}
		x.Request.Path = "/API/aDMIN/x"
		if !c.route {
			x.Request.Path = "/api/aDMIN/x"
		}
		if match.Compile([]*match.Rule{rule}).Match(&match.Request{Method: "GET", Path: x.Request.Path}, &x.Params) == nil {
			t.Fatal("the route does not take it")
		}
		var every, some [1]uint64
		if p.Match(x, every[:], some[:]); every[0] == 1 != c.want || some != every {
			t.Errorf("route %t, rules %t: %t", c.route, c.rules, !c.want)
		}
	}
}

// TestList finds what each reading of a path has.
func TestList(t *testing.T) {
	l, err := CompileList("exclude_paths", []string{"/public/*", "/ping", "~/v[0-9]+/ping"})
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange.Exchange{}
	for path, want := range map[string]bool{
		"/public/a": true, "/ping": true, "/v7/ping": true, "/public/a;b": true, "/pong": false, "/ping;a": false,
		"/public/..;/admin": false, "/public/..%2Fadmin": false, "/public/%00": false, "/PING": false, "": false,
	} {
		if x.Request.Path = path; l.Has(x) != want {
			t.Errorf("%q: %t", path, !want)
		}
	}
	if _, err := CompileList("exclude_paths", []string{"ping"}); err == nil {
		t.Error("took what is no path")
	}
	if none, err := CompileList("exclude_paths", nil); err != nil || none.Has(x) {
		t.Error("none are some")
	}
}

func TestPathsDoNotAllocate(t *testing.T) {
	p, err := Compile([]string{"/Admin/*", "/a/{b}/c"}, []int{0, 1}, false)
	if err != nil {
		t.Fatal(err)
	}
	l, err := CompileList("", []string{"/Admin/*", "/a/{b}/c"})
	if err != nil {
		t.Fatal(err)
	}
	x := &exchange.Exchange{}
	for _, path := range []string{"/a/x/c", "/a;v/%C3%BC/c", "/a//x/c"} {
		x.Request.Path = path
		l.Has(x)
		if n := testing.AllocsPerRun(100, func() {
			var every, some [1]uint64
			p.Match(x, every[:], some[:])
			l.Has(x)
		}); n != 0 {
			t.Errorf("%q: %v allocations", path, n)
		}
	}
	var none *Patterns
	if none.Words() != 0 || !none.Match(x, nil, nil) {
		t.Error("none are some")
	}
}
