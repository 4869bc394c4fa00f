package exchange

import (
	"net/netip"
	"testing"
)

// TestFacts finds facts by name and type, the last one of a name.
func TestFacts(t *testing.T) {
	const tenant, plan, limit = FactKey[string]("tenant"), FactKey[string]("plan"), FactKey[int]("tenant")
	type own struct{ n int }
	const hidden = FactKey[*own]("plan")
	x := &Exchange{}
	if _, found := tenant.Of(x); found {
		t.Error("found what nobody has put")
	}
	x.Put(plan.Fact("free"))
	x.Put(tenant.Fact("a"))
	x.Put(plan.Fact("pro"))
	x.Put(hidden.Fact(&own{7}))
	if v, found := plan.Of(x); !found || v != "pro" {
		t.Errorf("the plan is %q, %t", v, found)
	}
	if v, found := hidden.Of(x); !found || v.n != 7 {
		t.Errorf("the hidden one is %v", v)
	}
	if _, found := limit.Of(x); found {
		t.Error("a text was found as a number")
	}
	shown := ""
	for f := range x.Facts {
		shown += f.Name + "=" + f.Text() + ";"
	}
	if shown != "tenant=a;plan=pro;" {
		t.Errorf("shown is %s", shown)
	}
	if f, found := x.Fact("plan"); !found || f.Text() != "pro" {
		t.Errorf("the plan is shown as %v", f)
	}
	if _, found := x.Fact("other"); found {
		t.Error("found what is not there")
	}
}

func TestTextsOfFacts(t *testing.T) {
	for want, v := range map[string]any{
		"a": "a", "a,b": []string{"a", "b"}, "true": true, "-1": -1, "9": int64(9), "1.5": 1.5,
		"192.0.2.1": netip.MustParseAddr("192.0.2.1"),
	} {
		if f := (Fact{Value: v}); !f.shows() || f.Text() != want {
			t.Errorf("%v is shown as %q", v, f.Text())
		}
	}
	if f := (Fact{Value: struct{}{}}); f.shows() || f.Text() != "" {
		t.Errorf("what has no text is shown as %q", f.Text())
	}
}

// TestFactsOfForks joins what parallel steps have found out in the order of steps.
func TestFactsOfForks(t *testing.T) {
	const tenant, plan = FactKey[string]("tenant"), FactKey[string]("plan")
	x := &Exchange{}
	x.Put(tenant.Fact("before"))
	var first, second Fork
	x.Fork(&first, t.Context())
	x.Fork(&second, t.Context())
	if v, _ := tenant.Of(&second.X); v != "before" {
		t.Errorf("a step sees %q", v)
	}
	second.X.Put(tenant.Fact("second"))
	second.X.Put(plan.Fact("of the second"))
	first.X.Put(tenant.Fact("first"))
	if v, _ := tenant.Of(x); v != "before" {
		t.Errorf("before it is joined, a fact is seen: %q", v)
	}
	first.Join(x)
	second.Join(x)
	if v, _ := tenant.Of(x); v != "second" {
		t.Errorf("joined is %q", v)
	}
	if v, _ := plan.Of(x); v != "of the second" {
		t.Errorf("joined is %q", v)
	}
	first.Release()
	if len(first.X.facts) != 0 {
		t.Error("a fork that is used again has facts")
	}
}

// TestFactsDoNotAllocate, once the exchange has had as many before.
func TestFactsDoNotAllocate(t *testing.T) {
	const tenant = FactKey[string]("tenant")
	f, x := tenant.Fact("a"), &Exchange{}
	x.Put(f)
	b := make([]byte, 0, 8)
	n := testing.AllocsPerRun(100, func() {
		x.Reset()
		x.Put(f)
		if v, found := tenant.Of(x); !found || v != "a" {
			t.Fatal("it is not found")
		}
		if shown, found := x.Fact("tenant"); !found || len(shown.Append(b)) != 1 {
			t.Fatal("it is not shown")
		}
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}
