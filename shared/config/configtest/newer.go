package configtest

import (
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"gateway.internal/shared/config"
)

// NewerField is the number of the field that Newer adds: it stands between those that this build knows.
const NewerField = 9

// NewerSetting is the number of the field that Newer adds to the settings of a middleware.
const NewerSetting = 100

// Newer returns a message, which it takes over, as a later build commits it, which has given its kind one more field,
// and a middleware's settings another one.
func Newer(t testing.TB, m config.Message) *config.Entry {
	t.Helper()
	stored := Entry(t, m).Stored()
	stored.Body = inserted(t, stored.Body, NewerField)
	if len(stored.Settings) > 0 {
		settings := &anypb.Any{}
		if err := proto.Unmarshal(stored.Settings, settings); err != nil {
			t.Fatal(err)
		}
		settings.Value = inserted(t, settings.GetValue(), NewerSetting)
		var err error
		if stored.Settings, err = (proto.MarshalOptions{Deterministic: true}).Marshal(settings); err != nil {
			t.Fatal(err)
		}
	}
	e, err := config.FromStore(config.KindOfMessage(m), stored)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// inserted returns the bytes of a message with one field more, before those of higher numbers.
func inserted(t testing.TB, raw []byte, number protowire.Number) []byte {
	t.Helper()
	at := 0
	for at < len(raw) {
		next, _, n := protowire.ConsumeField(raw[at:])
		if n < 0 {
			t.Fatal(protowire.ParseError(n))
		}
		if next > number {
			break
		}
		at += n
	}
	out := append([]byte(nil), raw[:at]...)
	out = protowire.AppendTag(out, number, protowire.BytesType)
	out = protowire.AppendString(out, "of a later build")
	return append(out, raw[at:]...)
}
