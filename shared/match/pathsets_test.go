package match

import (
	"strings"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// TestPathSetsAgreeWithRoutes compares which patterns a path has with what routes of the same paths take.
func TestPathSetsAgreeWithRoutes(t *testing.T) {
	patterns := []string{
		"/", "/*", "/a", "/a/", "/a/*", "/A/*", "/a/b", "/{x}", "/{x}/b", "/{x}/*", "/a/{x}/c", "/a/{x}/*", "/a/{x}",
		"/%41/b",
		"/a//b", "/a/b;v=1", "/é", "/a%2Fb",
	}
	var numbers []int
	var valid []string
	for _, pattern := range patterns {
		if ParsePath(pattern) == "" {
			valid, numbers = append(valid, pattern), append(numbers, 60+len(numbers))
		}
	}
	if len(valid) != len(patterns)-1 { // é has to be escaped
		t.Errorf("valid are %q", valid)
	}
	s := NewPathSets(valid, numbers)
	if s.Words() != 2 {
		t.Fatalf("%d words", s.Words())
	}
	for _, path := range []string{
		"/", "/a", "/A", "/a/", "/a/b", "/A/B", "/a/b/", "/a/x/c", "/a//c", "/a//b", "/x", "/x/b", "/a/x/c/d", "/A/b",
		"//", "/a/b;v=1",
		"/a/B;V=1", "/a%2Fb", "/a%2fb", "",
	} {
		for _, fold := range []bool{false, true} {
			seen := path
			if fold {
				seen = strings.ToLower(path)
			}
			set := make([]uint64, s.Words())
			s.Add(set, seen, fold)
			for i, pattern := range valid {
				route, errs := Parse(&configv1.Route{Id: "r", Name: "r", Path: pattern, IgnoreCase: fold})
				if len(errs) > 0 {
					t.Fatal(errs)
				}
				var p Params
				want := Compile([]*Rule{route}).Match(&Request{Method: "GET", Path: path}, &p) != nil
				if got := set[numbers[i]/64]>>(numbers[i]%64)&1 == 1; got != want {
					t.Errorf("%q has %q, fold %t: %t; a route takes it: %t", path, pattern, fold, got, want)
				}
				if want && p.Folds() != fold {
					t.Errorf("the route of %q folds: %t", pattern, p.Folds())
				}
			}
		}
	}
}

func TestPathsThatAreNone(t *testing.T) {
	for _, pattern := range []string{"", "a", "*", "~/a", "/a/*/b", "/a/{x", "/a b", "/../a", "/a?b"} {
		if ParsePath(pattern) == "" {
			t.Errorf("%q is taken", pattern)
		}
	}
	var none *PathSets
	none.Add(nil, "/a", false)
	if none.Words() != 0 || NewPathSets(nil, nil) != nil {
		t.Error("no patterns are some")
	}
}

func TestPathSetsDoNotAllocate(t *testing.T) {
	s := NewPathSets([]string{"/a/*", "/a/{x}/c", "/a/b/c", "/{y}/b/*"}, []int{0, 1, 2, 3})
	set := make([]uint64, s.Words())
	if n := testing.AllocsPerRun(100, func() {
		set[0] = 0
		s.Add(set, "/a/b/c", false)
	}); n != 0 || set[0] != 15 {
		t.Errorf("%v allocations, set %b", n, set[0])
	}
}
