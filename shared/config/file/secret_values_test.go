package file

import (
	"fmt"
	"strings"
	"testing"
)

// TestLinesWithSecretsAreNotShown: neither the line that has one nor a message that quotes it, in files that can be
// read and in such that can't.
func TestLinesWithSecretsAreNotShown(t *testing.T) {
	const secret = "s3cret-of-the-shop"
	for name, c := range map[string]struct {
		text  string
		lines []int // that are not shown
	}{
		"block": {
			"consumers:\n- name: a\n  credentials:\n    api_keys:\n    - name: k\n      key: " + secret + "\n", []int{6},
		},
		"flow": {`consumers: [{name: a, credentials: {api_keys: [{name: k, key: ` + secret + `}]}}]`, []int{1}},
		"JSON": {`{"consumers": [{"credentials":` + "\n" + `{"basic": [{"password": "` + secret + `"}]}}]}`, []int{2}},
		"folded": {
			"consumers:\n- credentials:\n    hmac:\n    - id: a\n      secret: >-\n        " + secret + "\n",
			[]int{5, 6},
		},
		"can't be read": {"consumers:\n- name: a\n  credentials: {\n    key: " + secret + "\n  ]\n", []int{4}},
		"none": {"policies:\n- name: p\n  rate_limits:\n  - key: [consumer]\nservices:\n" +
			"- load_balancer_config: {key: of-something}\n", nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := NewSource([]byte(c.text))
			hidden := 0
			for i, line := range strings.Split(strings.TrimSuffix(c.text, "\n"), "\n") {
				shown, ok := s.Line(i + 1)
				if strings.Contains(shown, secret) || ok && shown != line {
					t.Errorf("line %d is shown as %q", i+1, shown)
				}
				if !ok {
					hidden++
				}
			}
			if hidden != len(c.lines) {
				t.Errorf("%d lines are not shown, want %v", hidden, c.lines)
			}
			if message := s.Hide(fmt.Sprintf("is no number: %q", secret)); len(c.lines) > 0 &&
				strings.Contains(message, secret) {
				t.Errorf("%s", message)
			}
		})
	}
}
