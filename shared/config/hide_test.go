package config

import (
	"strconv"
	"strings"
	"testing"

	"google.golang.org/protobuf/types/known/structpb"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
)

// TestHiddenValues looks for values of the environment in problems that quote them in any way.
func TestHiddenValues(t *testing.T) {
	const token = "s3cret-\"0123456789abcdefghijklmnopqrstuvwxyz\n-end"
	text := "Bearer ${env:TOKEN}; ${env:OTHER}"
	value := "Bearer " + token + "; another-s3cret"
	set, err := structpb.NewStruct(map[string]any{"A": value})
	if err != nil {
		t.Fatal(err)
	}
	m := &configv1.Middleware{Name: "m", Config: set, Environment: map[string]string{"config.A": text}}
	for name, message := range map[string]string{
		"the whole":    "is " + value + " here",
		"a variable":   "is " + token + " here",
		"another":      "is another-s3cret here",
		"quoted":       "is " + strconv.Quote(value) + " here",
		"its start":    "is " + token[:20] + "... here",
		"quoted start": "is " + strconv.Quote(token)[:20] + "... here",
		"twice":        "is " + token + token + token[:16] + " here",
	} {
		list := Problems{{Kind: Middleware, Name: "m", Message: message, Value: message}, {Kind: Middleware, Name: "n"}}
		p := hideTaken(list, func(_ Kind, name string) Message {
			if name == "m" {
				return m
			}
			return nil
		})[0]
		if strings.Contains(p.String(), "s3cret") || strings.Contains(p.String(), "456789") ||
			!strings.HasPrefix(p.Message, "is ") || !strings.HasSuffix(p.Message, " here") || !strings.Contains(p.Message, "${env:") {
			t.Errorf("%s: %s", name, p)
		}
	}
	field := hideTaken(Problems{{Kind: Middleware, Name: "m", Field: "config.A", Value: "s3"}},
		func(Kind, string) Message { return m })
	if field[0].Value != text {
		t.Errorf("the value of the field: %s", field)
	}
}
