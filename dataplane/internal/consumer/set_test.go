package consumer

import (
	"fmt"
	"testing"

	"github.com/google/uuid"
	"google.golang.org/protobuf/types/known/timestamppb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
)

func resource(tb testing.TB, name string) *streamv1.Resource {
	now := timestamppb.Now()
	e, err := config.NewEntry(&configv1.Consumer{Id: uuid.NewString(), Name: name, CreatedAt: now, UpdatedAt: now,
		Version: 1, Groups: []string{"partners", "eu"}})
	if err != nil {
		tb.Fatal(err)
	}
	return e.Encoded()
}

// TestLookupDoesNotAllocate: a request looks its consumer up.
func TestLookupDoesNotAllocate(t *testing.T) {
	d := (&Set{}).Draft()
	for i := range 1000 {
		if err := d.Put(resource(t, fmt.Sprint("c", i))); err != nil {
			t.Fatal(err)
		}
	}
	s := d.Set()
	c := s.ByName("c77")
	if n := testing.AllocsPerRun(100, func() {
		if s.ByName("c77") != c || s.ByID(c.ID()) != c || s.ByName("none") != nil {
			t.Error("found another one")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestNamesMayChangePlaces: within one change, in any order.
func TestNamesMayChangePlaces(t *testing.T) {
	one, other := resource(t, "a"), resource(t, "b")
	swapped := func(r *streamv1.Resource, name string) *streamv1.Resource {
		e, err := config.NewEntry(&configv1.Consumer{Id: r.GetId(), Name: name})
		if err != nil {
			t.Fatal(err)
		}
		return e.Encoded()
	}
	d := (&Set{}).Draft()
	for _, r := range []*streamv1.Resource{one, other, swapped(one, "b"), swapped(other, "a")} {
		if err := d.Put(r); err != nil {
			t.Fatal(err)
		}
	}
	s := d.Set()
	if s.Len() != 2 || s.ByName("a") != s.ByID(other.GetId()) ||
		s.ByName("b") != s.ByID(one.GetId()) || s.ByName("a") == nil {
		t.Errorf("a is %v, b is %v", s.ByName("a"), s.ByName("b"))
	}
	d = s.Draft()
	if !d.Remove(one.GetId()) || d.Remove(one.GetId()) {
		t.Error("removed twice, or never")
	}
	d.Remove(other.GetId())
	if end := d.Set(); end.Len() != 0 || end.Hash() != (&Set{}).Hash() || end.ByName("a") != nil || s.Len() != 2 {
		t.Errorf("%d are left", end.Len())
	}
}
