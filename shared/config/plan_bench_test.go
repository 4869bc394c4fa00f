package config

import (
	"fmt"
	"testing"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

func many(n int) []Edit {
	edits := make([]Edit, 0, n+n/10)
	for i := range n / 10 {
		edits = append(edits, put(service(fmt.Sprint("s", i))))
	}
	for i := range n {
		edits = append(
			edits,
			put(&configv1.Route{
				Name: fmt.Sprint("r", i), Path: fmt.Sprintf("/svc/%d/*", i),
				ServiceId: fmt.Sprint("s", i%(n/10)),
			}),
		)
	}
	return edits
}

func BenchmarkPlan(b *testing.B) {
	edits := many(100_000)
	b.Run("110000 resources", func(b *testing.B) {
		for b.Loop() {
			mustPlan(b, Empty(), edits...)
		}
	})
	c := mustPlan(b, Empty(), edits...).Config
	c.Table()
	i := 0
	b.Run("one more route", func(b *testing.B) {
		for b.Loop() {
			i++
			mustPlan(b, c, put(&configv1.Route{Name: fmt.Sprint("x", i), Path: fmt.Sprint("/x/", i), ServiceId: "s1"}))
		}
	})
}
