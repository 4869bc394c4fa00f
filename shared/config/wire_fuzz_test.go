package config_test

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
	"gateway.internal/shared/config"
	"gateway.internal/shared/config/configtest"
)

// FuzzStored reads any bytes as a stored route. Whatever is read is kept as it is, and nodes get what the same message
// has without its internal fields, known or not, and find the same hash.
func FuzzStored(f *testing.F) {
	for _, m := range configtest.OfEachKind() {
		f.Add(configtest.Newer(f, m).Stored().Body)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		e, err := config.FromStore(config.Route, config.Stored{Body: raw})
		if err != nil {
			return
		}
		if string(e.Stored().Body) != string(raw) {
			t.Fatal("kept as something else")
		}
		want := proto.CloneOf(e.Message.(*configv1.Route))
		want.NamedReferences = nil
		var unknown []byte
		for rest := want.ProtoReflect().GetUnknown(); len(rest) > 0; {
			number, _, n := protowire.ConsumeField(rest)
			if number < 60 || number > 69 {
				unknown = append(unknown, rest[:n]...)
			}
			rest = rest[n:]
		}
		want.ProtoReflect().SetUnknown(unknown)
		got := &configv1.Route{}
		if err := proto.Unmarshal(e.Encoded().GetBody(), got); err != nil || !proto.Equal(want, got) {
			t.Fatalf("nodes get %v, not %v; %v", got, want, err)
		}
		if node, err := config.Decode(proto.CloneOf[*streamv1.Resource](e.Encoded())); err == nil && node.Hash() != e.Hash() {
			t.Fatal("a node finds another hash")
		}
	})
}
