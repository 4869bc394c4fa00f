package yamlerror

import (
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

func TestPlaces(t *testing.T) {
	for name, c := range map[string]struct {
		text         string
		line, column int
		want         string
	}{
		"an unclosed quote": {"services:\n  - name: \"users\n    protocol: http\nroutes:\n  - name: a\n", 2, 11,
			"never closed"},
		"an unclosed single quote": {"services:\n  - name: 'users\n    protocol: http\nroutes:\n  - name: a\n", 2, 11,
			"never closed"},
		"an indent too far": {"services:\n  - name: users\n     protocol: http\nroutes: []\n", 3, 14,
			"indented wrongly"},
		"an indent too near": {"services:\n  - name: users\n   protocol: http\nroutes: []\n", 3, 4,
			"belongs to nothing"},
		"an indent inside": {"routes:\n  - name: a\n    direct_response:\n      status: 200\n       body: x\n", 5,
			12, "indented wrongly"},
		"a list without an end":     {"routes: []\nservices: [\n", 2, 11, "the list that is opened here is never closed"},
		"a list cut after a comma":  {"services: [{name: ä}, # one\n", 1, 11, "the list that is opened here"},
		"a list cut after an item":  {"services:\n- hosts: [a\n\n", 2, 10, "the list that is opened here"},
		"a mapping without an end":  {"services:\n- {\n", 2, 3, "the mapping that is opened here is never closed"},
		"a mapping cut after a key": {"services:\n- {name:\n", 2, 3, "the mapping that is opened here"},
		"half of some JSON":         {"{\"services\": [{\"name\": \"a\"},", 1, 14, "the list that is opened here"},
		"an item that is missing":   {"services: [a, }]\n", 1, 15, "expected node content"},
		"text after a document":     {"{}\nroutes: []\n", 2, 1, "the document ends before it"},
		"a first key without colon": {"services:\n  - name a\n    protocol: http\n", 2, 5, `a ":" is missing in this line`},
		"two keys without colon":    {"services:\n- - name a\n    port 1\n    x: y\n", 2, 5, `a ":" is missing`},
		"text that goes on":         {"services:\n  - name a\n      protocol: http\n", 3, 15, "indented wrongly"},
		"a tab":                     {"services:\n  - name: users\n\tprotocol: http\n", 3, 1, "not with tabs"},
		"a tab at the start":        {"services:\n\t- name: users\n", 2, 1, "not with tabs"},
		"an unclosed list": {"services:\n  - name: [a\nroutes:\n  - name: b\n", 3, 7,
			"the list that is opened at line 2, column 11"},
		"an unclosed mapping": {"services:\n  - {name: a, port: 1\n  - {name: b}\n", 3, 5,
			"the mapping that is opened at line 2, column 5"},
		"a missing comma": {"{\"routes\": [\n {\"name\": \"a\"}\n {\"name\": \"b\"}]}\n", 3, 2,
			`"," or "]" is missing`},
		"a missing colon": {"services:\n  - name: users\n    protocol http\n    x: y\n", 3, 5, `":" is missing`},
		"two colons":      {"services:\n  - name: users: a\n", 2, 16, "has no quotes"},
		"a PEM indented wrongly": {"certificates:\n  - name: c\n    key_pem: |\n      -----BEGIN\n    MII\n      " +
			"-----END\n", 5, 5, "indented less"},
		"a character that is taken":  {"routes:\n  - path: @foo\n", 2, 11, "unless in quotes"},
		"a wildcard without quotes":  {"routes:\n  - hosts: [*.example.com]\n", 2, 13, "needs quotes"},
		"a star without quotes":      {"routes:\n  - path: *foo\n", 2, 11, "needs quotes"},
		"an escape":                  {"routes:\n  - name: \"a\\qb\"\n", 2, 13, "unknown escape"},
		"a bracket too many":         {"routes:\n  - {name: a}}\n", 2, 14, "belongs to nothing"},
		"text after a quote":         {"routes:\n  - name: \"a\" b\n", 2, 15, "belongs to nothing"},
		"a parameter without quotes": {"routes:\n  - rewrite: {path: /{id}/x}\n", 2, 22, "is missing"},
		"a control character":        {"routes:\n  - name: äa\x01b\n", 2, 13, "U+0001"},
		"bytes that are no UTF-8":    {"routes:\n  - name: a\xc3\n", 2, 12, "0xc3"},
		"a second document":          {"routes: []\n---\nservices:\n  - name: \"a\n", 4, 11, "never closed"},
	} {
		dec := yaml.NewDecoder(strings.NewReader(c.text))
		var err error
		for err == nil {
			var n yaml.Node
			err = dec.Decode(&n)
		}
		if got := Of([]byte(c.text), err); got.Line != c.line || got.Column != c.column ||
			!strings.Contains(got.Message, c.want) {
			t.Errorf("%s: %s, want %d:%d with %q (%v)", name, got, c.line, c.column, c.want, err)
		}
	}
}

func FuzzOf(f *testing.F) {
	f.Add("a: 'b")
	f.Add("a: [b\nc: d")
	f.Add("\tx")
	f.Add("a: *b")
	f.Fuzz(func(t *testing.T, text string) {
		var n yaml.Node
		err := yaml.Unmarshal([]byte(text), &n)
		if err == nil {
			return
		}
		if e := Of([]byte(text), err); e.Line < 1 || e.Column < 1 ||
			e.Line > strings.Count(text, "\n")+strings.Count(text, "\r")+2 || e.Message == "" {
			t.Errorf("%q: %+v", text, e)
		}
	})
}
