package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode"

	streamv1 "gateway.internal/proto/gen/gateway/stream/v1"
)

// keyPEM makes a private key.
func keyPEM(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
}

func indented(text, by string) string {
	return by + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n"+by) + "\n"
}

func TestKeysAreNotShown(t *testing.T) {
	key := keyPEM(t)
	lines := strings.Split(strings.TrimSpace(key), "\n")
	body := strings.Join(lines[1:len(lines)-1], "\n")
	quoted, err := json.Marshal(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"at the line's start":   "certificates:\n  - name: a\n    key_pem: |\n" + key,
		"with too little space": "certificates:\n  - name: a\n    key_pem: |\n" + indented(key, "  "),
		"with different spaces": "certificates:\n  - name: a\n    key_pem: |\n      " + lines[0] + "\n" +
			indented(body, "   ") + "      " + lines[len(lines)-1] + "\n",
		"with tabs": "certificates:\n  - name: a\n    key_pem: |\n" + indented(key, "\t"),
		"without the sign for a text": "certificates:\n  - name: a\n    key_pem:\n" + indented(key, "      ") +
			"    hosts: [a.test\n",
		"as fields": "certificates:\n  - name: a\n    key_pem: |\n      " + lines[0] + "\n" +
			indented(strings.ReplaceAll(body, "\n", ": x\n"), "    "),
		"in a field of another name":     "certificates:\n  - name: a\n    keypem: |\n" + indented(key, "      "),
		"in a field for a number":        "routes:\n  - name: a\n    priority: |\n" + indented(key, "      "),
		"in a field for a list":          "routes:\n  - name: a\n    hosts: |\n" + indented(key, "      "),
		"in a name":                      "routes:\n  - path: /\n    name: |\n" + indented(key, "      "),
		"in a reference":                 "routes:\n  - name: a\n    path: /\n    service_id: |\n" + indented(key, "      "),
		"where a kind should be":         indented(body, "") + ": []\n",
		"without its first line":         "certificates:\n  - name: a\n    key_pem: |\n      x\n" + body + "\n",
		"in broken JSON":                 `{"certificates": [{"name": "a", "key_pem": ` + string(quoted) + `, }}`,
		"in JSON in the wrong field":     `{"routes": [{"name": "a", "path": "/", "priority": ` + string(quoted) + `}]}`,
		"in JSON as the name of a field": `{"routes": [{"name": "a", "path": "/", ` + string(quoted) + `: 1}]}`,
	} {
		path := filepath.Join(t.TempDir(), "a.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, stdin := range []string{"", text} {
			from := path
			if stdin != "" {
				from = "-"
			}
			out, complaint, code := gatewayctl(t, stdin, "validate", "--offline", "-f", from)
			if code == 0 {
				t.Errorf("%s: it is valid", name)
			}
			for _, line := range lines[1 : len(lines)-1] {
				for at := 0; at+8 <= len(line); at++ {
					if strings.Contains(out+complaint, line[at:at+8]) {
						t.Fatalf("%s: a part of the key is shown:\n%s", name, complaint)
					}
				}
			}
		}
	}
}

// hostile has what would erase the line, begin another, and show the rest from right to left.
const hostile = "ann\x1b[2K\r\n99  mallory\t\u202etxt\u009b1A"

func TestRowsCantBeForged(t *testing.T) {
	nodes := serve(t)
	session, err := nodes.Connect(&streamv1.Hello{
		NodeId: hostile, InstanceId: "1", Host: hostile, Group: hostile, Build: hostile,
		Labels: map[string]string{hostile: hostile},
	}, hostile)
	if err != nil {
		t.Fatal(err)
	}
	session.Report(&streamv1.Report{})
	for _, args := range [][]string{
		{"apply", "-f", "testdata/config", "-m", hostile},
		{"revisions"}, {"revisions", "1"}, {"nodes"}, {"nodes", hostile}, {"nodes", "-o", "json"}, {"nodes", "x" + hostile},
		{"get", "route", hostile}, {"delete", "route", hostile}, {"get", hostile}, {hostile}, {"revisions", hostile},
		{"get", "routes", "--" + hostile},
		{"apply", "-f", hostile}, {"get", "routes", "-o", hostile}, {"get", "routes", "--token-file", hostile}, {"get",
			"routes", "--server", hostile},
	} {
		out, complaint, _ := gatewayctl(t, "", args...)
		unsafe := func(r rune) bool { return unicode.IsControl(r) && r != '\n' || r == '\u202e' }
		if strings.ContainsFunc(out+complaint, unsafe) || strings.Contains(out+complaint, "\n99") {
			t.Errorf("%q shows\n%q", args, out+complaint)
		}
	}
	for _, text := range []string{
		"routes:\n  - name: a\n    path: \"\\e[2K/\\n99 x\"\n", "routes:\n  - name: \"\\e[2Ka\\n99\"\n",
		"\"\\e[2Ka\\n99\": []\n", "routes:\n  - \"\\e[2Ka\\n99\": 1\n",
		"\x1b[2Kroutes: [\n", "routes: # \u202e\n  - 1\n",
	} {
		path := filepath.Join(t.TempDir(), "a\x1b[2K.yaml")
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, verb := range []string{"validate", "apply"} {
			out, complaint, code := gatewayctl(t, "", verb, "-f", path)
			if code == 0 || strings.ContainsAny(out+complaint, "\x1b\u202e") || strings.Contains(out+complaint, "\n99") {
				t.Errorf("%s of %q: exit %d\n%q", verb, text, code, out+complaint)
			}
		}
	}
}
