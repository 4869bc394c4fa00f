package file

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/structpb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/terminal"
)

// oddTexts are what YAML has another meaning, or no place, for.
var oddTexts = []string{
	"", " ", "\t", "\n", "\tx", "\tx\ny", "  x\n y", "x\n", "x\n\n", "\nx", "x \ny", "x\t\ny", "x\r\ny", "x\ry",
	"\ufeffx", "x\u0085y", "x\u2028y\nz", "\u202ex",
	"a\x1b[2Kb\nc", "\x7f", "\u009b", "off", "No", "yes", "y", "N", "on", "TRUE", "null", "~", "Null", "<<", "=",
	"1e3", "1E3", "0x1", "0o17", "017", "08", "0b1",
	"1_000", "+1", "-1", ".5", "1.", "1.5", ".inf", "-.INF", ".NaN", "190:20:30", "190:20:30.15", "12:30:45",
	"2001-12-14", "2001-12-14t21:59:43.10-05:00",
	"2001-12-14 21:59:43", "1,000", "127.0.0.1", "::1", "1::2", "10s", "5m", "1h30m", "@x", "`x", "%x", "!x", "&x",
	"*x", "- x", "-", "? x", ": x", "x: y", "x #y", "#x",
	"{x", "[x", "x]", "'x", "\"x", "|", ">", "---", "...", "---\nx", "x\n---\ny", "日本", "👩\u200d🔧",
	strings.Repeat("word ", 60), "x\n" + strings.Repeat("word ", 60),
}

func odd(text string) *configv1.Configuration {
	return &configv1.Configuration{Middleware: []*configv1.Middleware{{
		Name: "a", Type: text, Labels: map[string]string{"l": text, "k" + text: "v"},
		Config: &structpb.Struct{Fields: map[string]*structpb.Value{
			"a": structpb.NewStringValue(text), "k" + text: structpb.NewNumberValue(1e21),
			"b": structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{structpb.NewStringValue(text),
				structpb.NewNullValue(), structpb.NewBoolValue(true)}}),
		}},
	}}}
}

func TestTextsComeBack(t *testing.T) {
	for _, text := range oddTexts {
		comesBack(t, odd(text))
	}
}

func FuzzTexts(f *testing.F) {
	for _, text := range oddTexts {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if utf8.ValidString(text) {
			comesBack(t, odd(text))
		}
	})
}

func comesBack(t *testing.T, c *configv1.Configuration) {
	t.Helper()
	out, err := Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	if strings.ContainsFunc(string(out), func(r rune) bool { return r != '\n' && terminal.Obeys(r) }) {
		t.Errorf("a terminal obeys %q", out)
	}
	again, err := load(string(out))
	if err != nil {
		t.Fatalf("what was written is not read: %v\n%s", err, out)
	}
	if !proto.Equal(c, again.Configuration) {
		t.Errorf("by %q\n%s", out, cmp.Diff(c, again.Configuration, protocmp.Transform()))
	}
}
