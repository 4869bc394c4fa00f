package upstream

import (
	"fmt"
	"log/slog"
	"slices"
	"testing"

	"google.golang.org/protobuf/proto"

	"gateway.internal/dataplane/internal/upstream/outcome"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/waittest"
)

// What control planes are told of is what has changed, once.
func TestUsesAreToldWhenTheyChange(t *testing.T) {
	r := NewRegistry(slog.New(slog.DiscardHandler))
	defer r.Close()
	service := &configv1.Service{
		Name:             "s",
		Endpoints:        []*configv1.Endpoint{{Host: "127.0.0.1", Port: 1}, {Host: "127.0.0.1", Port: 2}},
		OutlierDetection: &configv1.OutlierDetection{Consecutive_5Xx: proto.Uint32(1)},
	}
	apply := func() {
		t.Helper()
		if problems := r.Apply(map[string]Definition{"1": {Service: service}}, nil); len(problems) > 0 {
			t.Fatal(problems)
		}
	}
	apply()
	s := r.Get("1")
	first := s.current.Load().endpoints[0]
	check := func(what string, all bool, want ...string) {
		t.Helper()
		var got []string
		for _, u := range r.Uses(all) {
			text := fmt.Sprintf("%d: %d in flight, %d ejections %s", u.GetPort(), u.GetInFlight(), u.GetEjections(),
				u.GetEjectionReason())
			if u.GetEjectedUntil() != nil {
				text += " now"
			}
			if u.GetGone() {
				text = fmt.Sprint(u.GetPort(), " gone")
			}
			got = append(got, text)
		}
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	check("idle", false)
	first.State.Add(3)
	check("used", false, "1: 3 in flight, 0 ejections ")
	check("the same", false)
	s.Ended(&Result{Result: outcome.Result{Kind: outcome.Answered, Status: 500}, Service: s, Endpoint: first})
	waittest.Until(t, "the ejection", func() bool { return !first.State.Healthy() })
	first.State.Add(-3)
	check("ejected", false, "1: 0 in flight, 1 ejections consecutive_5xx now")
	check("after connecting", true, "1: 0 in flight, 1 ejections consecutive_5xx now")
	service = proto.CloneOf(service)
	service.Endpoints = service.Endpoints[1:]
	apply()
	check("gone", false, "1 gone")
	check("all of nothing", true)
}
