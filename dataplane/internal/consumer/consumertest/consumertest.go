// Package consumertest has what tests of middleware that knows consumers need.
package consumertest

import (
	"testing"
	"time"

	"github.com/google/uuid"

	"gateway.internal/dataplane/internal/consumer"
	"gateway.internal/dataplane/internal/pipeline"
	"gateway.internal/dataplane/internal/telemetry"
	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config"
)

// Set returns consumers as a node holds them, once they are committed: with credentials in their stored form. Those of
// base stay, unless they are put anew; nil: there are none.
func Set(t testing.TB, base *consumer.Set, all ...*configv1.Consumer) *consumer.Set {
	t.Helper()
	var edits []config.Edit
	for _, m := range all {
		edits = append(edits, config.Edit{Kind: config.Consumer, Put: m})
	}
	opts := config.PlanOptions{Now: time.Unix(1e9, 0), NewID: uuid.NewString}
	plan, err := config.Empty().Plan(edits, opts)
	if err != nil {
		t.Fatal(err)
	}
	if base == nil {
		base = &consumer.Set{}
	}
	d := base.Draft()
	for _, m := range all {
		if old := base.ByName(m.GetName()); old != nil {
			d.Remove(old.ID())
		}
	}
	for e := range plan.Config.All(config.Consumer) {
		if err := d.Put(e.Encoded()); err != nil {
			t.Fatal(err)
		}
	}
	return d.Set()
}

// Environment returns what a step of a type gets of a node with consumers, and the time that its clock shows.
func Environment(typ string, consumers func() *consumer.Set, now func() time.Time) *pipeline.Environment {
	return &pipeline.Environment{
		Name: "auth", Now: now, Consumers: consumers,
		Metrics: new(telemetry.Sets).Of("gateway_"+typ+"_", "middleware", "auth"),
	}
}
