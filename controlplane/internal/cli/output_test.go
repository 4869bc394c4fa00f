package cli

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	configv1 "gateway.internal/proto/gen/gateway/config/v1"
	"gateway.internal/shared/config/file"
)

// Readers of YAML 1.1, such as this one, know more booleans and numbers than those of YAML 1.2.
func TestOlderReadersFindTheSameTexts(t *testing.T) {
	want := map[string]string{}
	for i, text := range []string{
		"off", "No", "yes", "y", "N", "on", "TRUE", "null", "~", "<<", "=", "1e3", "1E+3", "0x1", "0o17", "017", "08",
		"0b1", "1_000", "+1", "-1", ".5", "1.", "1.5",
		".inf", ".NaN", "190:20:30", "190:20:30.15", "2001-12-14", "2001-12-14t21:59:43.10-05:00", "1,000",
		"127.0.0.1", "1::2", "::1", "10s", "1h30m",
		"\tx", "\tx\ny", "x\ny\n", "x\r\ny", "x\u0085y", "\u202ex", "", " ",
	} {
		want["l"+strings.Repeat("i", i)] = text
		want[text] = "key"
	}
	exported, err := file.Marshal(&configv1.Configuration{Services: []*configv1.Service{{Name: "a", Labels: want}}})
	if err != nil {
		t.Fatal(err)
	}
	var printed bytes.Buffer
	if err := Print(&printed, "yaml", []*configv1.Service{{Name: "a", Labels: want}}, true); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]byte{"export": exported, "-o yaml": append([]byte("services:\n  -\n    "),
		bytes.ReplaceAll(printed.Bytes(), []byte("\n"), []byte("\n    "))...)} {
		inJSON, err := yaml.YAMLToJSON(text)
		if err != nil {
			t.Fatalf("%s: %v\n%s", name, err, text)
		}
		var got struct {
			Services []struct{ Labels map[string]any }
		}
		if err := json.Unmarshal(inJSON, &got); err != nil {
			t.Fatal(err)
		}
		for k, v := range want {
			if got.Services[0].Labels[k] != v {
				t.Errorf("%s: %q is %#v, want %q", name, k, got.Services[0].Labels[k], v)
			}
		}
	}
}
