package fair

import "testing"

func TestShare(t *testing.T) {
	const most = 120
	s := New[string](most)
	flood := func(k string) (n int) {
		for s.Take(k) {
			n++
		}
		return n
	}
	for _, c := range []struct {
		holder string
		want   int
	}{{"a", 60}, {"b", 30}, {"c", 15}, {"a", 0}, {"d", 8}} {
		if n := flood(c.holder); n != c.want {
			t.Errorf("%s gets %d, want %d", c.holder, n, c.want)
		}
	}
	if n := s.Total(); n != 113 || n >= most {
		t.Errorf("%d are taken", n)
	}
	for k, n := range map[string]int{"a": 60, "b": 30, "c": 15, "d": 8} {
		for range n {
			s.Give(k)
		}
	}
	if s.Total() != 0 || len(s.held) != 0 {
		t.Errorf("%+v", s)
	}
	if !s.Take("e") {
		t.Error("none is left")
	}
	for range 10_000 { // who comes and goes leaves nothing
		s.Take("f")
		s.Give("f")
	}
	if len(s.held) != 1 {
		t.Errorf("%d are remembered", len(s.held))
	}
}
