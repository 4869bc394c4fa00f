package config_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"
	"weak"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// TestAncestorsAreLetGo: a configuration that others were derived from is kept by none of them, whether anybody asks
// for tables of routes or not.
func TestAncestorsAreLetGo(t *testing.T) {
	for _, tables := range []int{0, 1, 3} {
		t.Run(fmt.Sprint("a table of each ", tables), func(t *testing.T) {
			c := config.Empty()
			n := 0
			var old []weak.Pointer[config.Config]
			for i := range 20 {
				plan, err := c.Plan([]config.Edit{{Kind: config.Route, Put: &configv1.Route{
					Name: fmt.Sprint("r", i%5), Path: fmt.Sprintf("/%d/{x}", i), DirectResponse: &configv1.DirectResponse{},
				}}}, config.PlanOptions{Now: time.Unix(1, 0), NewID: func() string { n++; return fmt.Sprint("id", n) }})
				if err != nil {
					t.Fatal(err)
				}
				old = append(old, weak.Make(c))
				if c, err = c.With(plan.Changes); err != nil {
					t.Fatal(err)
				}
				if tables > 0 && i%tables == 0 {
					c.Table()
				}
			}
			runtime.GC()
			alive := 0
			for _, p := range old[:len(old)-tables] { // the newest may have to build its table from one that has one
				if p.Value() != nil {
					alive++
				}
			}
			if alive > 0 {
				t.Errorf("%d of %d are still there", alive, len(old))
			}
			runtime.KeepAlive(c)
		})
	}
}
