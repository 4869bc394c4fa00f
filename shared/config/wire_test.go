package config_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

// overTheStream returns an entry as a node has it.
func overTheStream(t *testing.T, e *config.Entry) *config.Entry {
	t.Helper()
	raw, err := proto.Marshal(e.Encoded())
	if err != nil {
		t.Fatal(err)
	}
	r := &streamv1.Resource{}
	if err := proto.Unmarshal(raw, r); err != nil {
		t.Fatal(err)
	}
	node, err := config.Decode(r)
	if err != nil {
		t.Fatal(err)
	}
	return node
}

// TestNodesGetTheBytesOfTheCommit: what is kept and what nodes get are the bytes of the commit, whichever build wrote
// them in whichever order, and so is what the hash is of. Names of references and a middleware's config stay behind.
func TestNodesGetTheBytesOfTheCommit(t *testing.T) {
	for _, m := range configtest.OfEachKind() {
		kind := config.KindOfMessage(m)
		bare := proto.CloneOf(m)
		for _, internal := range []string{"named_references", "config"} {
			if fd := bare.ProtoReflect().Descriptor().Fields().ByTextName(internal); fd != nil {
				bare.ProtoReflect().Clear(fd)
			}
		}
		want, err := proto.MarshalOptions{Deterministic: true}.Marshal(bare)
		if err != nil {
			t.Fatal(err)
		}
		own := configtest.Entry(t, m)
		if d := cmp.Diff(want, own.Encoded().GetBody()); d != "" {
			t.Errorf("%s: what this build commits (-serialised without what is internal +sent)\n%s", kind, d)
		}
		newer := configtest.Newer(t, proto.CloneOf(m))
		stored := newer.Stored()
		last := slices.Concat(own.Stored().Body, protowire.AppendVarint(protowire.AppendTag(nil, 900, protowire.VarintType), 1))
		for what, s := range map[string]config.Stored{
			"of a later build":                  stored,
			"of an earlier build, after theirs": {Body: last, Settings: own.Stored().Settings},
			"in the reverse order":              {Body: reversed(t, stored.Body), Settings: stored.Settings},
		} {
			e, err := config.FromStore(kind, s)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(s, e.Stored()); d != "" {
				t.Errorf("%s %s (-kept +read)\n%s", kind, what, d)
			}
			for number := range fields(t, e.Encoded().GetBody()) {
				if number == 60 || kind == config.Middleware && number == 11 {
					t.Errorf("%s %s: nodes get field %d", kind, what, number)
				}
			}
			node := overTheStream(t, e)
			if node.Hash() != e.Hash() || len(node.Unknown()) == 0 || e.Hash() == own.Hash() {
				t.Errorf("%s %s: here %x, on a node %x with the unknown fields %q, without them %x",
					kind, what, e.Hash(), node.Hash(), node.Unknown(), own.Hash())
			}
		}
	}
}

// fields counts the fields of a message by number.
func fields(t *testing.T, raw []byte) map[protowire.Number]int {
	t.Helper()
	found := map[protowire.Number]int{}
	for len(raw) > 0 {
		number, _, n := protowire.ConsumeField(raw)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		found[number]++
		raw = raw[n:]
	}
	return found
}

func reversed(t *testing.T, raw []byte) []byte {
	t.Helper()
	var out []byte
	for len(raw) > 0 {
		_, _, n := protowire.ConsumeField(raw)
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		out = append(slices.Clone(raw[:n]), out...)
		raw = raw[n:]
	}
	return out
}

// TestUnknownFieldsHaveAPlace: what this build does not know is named by where it stands, for as long as it is there.
func TestUnknownFieldsHaveAPlace(t *testing.T) {
	unknown := func(m proto.Message, number protowire.Number) {
		raw := protowire.AppendVarint(protowire.AppendTag(nil, number, protowire.VarintType), 1)
		m.ProtoReflect().SetUnknown(append(m.ProtoReflect().GetUnknown(), raw...))
	}
	r := &configv1.Route{Id: "1", Name: "r", Rewrite: &configv1.Rewrite{}, Backends: []*configv1.Backend{{}, {}}}
	unknown(r, 900)
	unknown(r, 900) // a list
	unknown(r, 61)  // for control planes alone
	unknown(r.GetRewrite(), 40)
	unknown(r.GetBackends()[1], 41)
	e := configtest.Entry(t, r)
	if d := cmp.Diff([]string{"backends[1].field 41", "field 900", "rewrite.field 40"}, e.Unknown()); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	var m config.Message
	for _, one := range configtest.OfEachKind() {
		if config.KindOfMessage(one) == config.Middleware {
			m = one
		}
	}
	newer := configtest.Newer(t, m)
	if d := cmp.Diff([]string{"config.field 100", "field 9"}, newer.Unknown()); d != "" {
		t.Errorf("a middleware (-want +got)\n%s", d)
	}
	c := config.Empty()
	for _, step := range []struct {
		after, before *config.Entry
		want          int
	}{
		{e, nil, 1}, {newer, nil, 2}, {configtest.Entry(t, &configv1.Route{Id: "2", Name: "s"}), nil, 2},
		{configtest.Entry(t, &configv1.Route{Id: "1", Name: "r"}), e, 1}, {nil, newer, 0},
	} {
		kind := config.Route
		if step.after == newer || step.before == newer {
			kind = config.Middleware
		}
		next, err := c.With([]config.Change{{Kind: kind, Before: step.before, After: step.after}})
		if err != nil || len(next.Unknown()) != step.want {
			t.Fatalf("%d resources have unknown fields, want %d; %v", len(next.Unknown()), step.want, err)
		}
		c = next
	}
}

// TestATypeOfALaterBuild: a control plane serves a middleware of a type that it does not have, by the bytes of its
// settings; a node refuses it, since it can't run it.
func TestATypeOfALaterBuild(t *testing.T) {
	for _, m := range configtest.OfEachKind() {
		mw, ok := m.(*configv1.Middleware)
		if !ok {
			continue
		}
		stored := configtest.Newer(t, proto.CloneOf(mw)).Stored()
		mw.Type = "of_a_later_build"
		body, err := proto.Marshal(mw)
		if err != nil {
			t.Fatal(err)
		}
		stored.Body = body
		e, err := config.FromStore(config.Middleware, stored)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(stored, e.Stored()); d != "" {
			t.Errorf("(-kept +read)\n%s", d)
		}
		if _, err := config.Decode(e.Encoded()); err == nil {
			t.Error("a node takes it")
		}
	}
}

// TestInternalFieldsHaveTheirNumbers: builds that do not know such a field leave it out by its number.
func TestInternalFieldsHaveTheirNumbers(t *testing.T) {
	for _, k := range config.Kinds() {
		all := config.New(k).ProtoReflect().Descriptor().Fields()
		for i := range all.Len() {
			f := all.Get(i)
			internal := proto.GetExtension(f.Options(), configv1.E_Use) == configv1.FieldUse_FIELD_USE_INTERNAL
			if internal != (f.Number() >= 60 && f.Number() <= 69) {
				t.Errorf("%s has the number %d; FIELD_USE_INTERNAL is for 60 to 69, and these for it", f.FullName(), f.Number())
			}
		}
	}
}
