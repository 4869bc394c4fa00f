package match

import "testing"

func TestPaths(t *testing.T) {
	s, errs := ParsePaths("exclude_paths", []string{"/healthz", "/public/*", "/users/{id}/avatar", "~/v[0-9]+/ping"})
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	for path, want := range map[string]bool{
		"/healthz": true, "/healthz/": false, "/Healthz": false, "/public": true, "/public/": true, "/public/a/b": true,
		"/publicity": false, "/users/7/avatar": true, "/users//avatar": false, "/users/7/avatar/x": false,
		"/v12/ping": true, "/v12/ping/x": false, "/a/v12/ping": false, "": false, "*": false, "/": false,
	} {
		if s.Has(path) != want {
			t.Errorf("%q: %v", path, !want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { s.Has("/users/7/avatar") }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	if (&Paths{}).Has("/healthz") {
		t.Error("the zero value has a path")
	}
}

func TestPathsThatAreWrong(t *testing.T) {
	_, errs := ParsePaths("exclude_paths", []string{"/ok", "public", "/a/../b"})
	if len(errs) != 2 || errs[0].Field != "exclude_paths[1]" || errs[0].Value != "public" ||
		errs[1].Field != "exclude_paths[2]" {
		t.Errorf("%+v", errs)
	}
	if _, errs := ParsePaths("paths", make([]string, MaxPaths+1)); len(errs) != 1 || errs[0].Field != "paths" {
		t.Errorf("%+v", errs)
	}
}
